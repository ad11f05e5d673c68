#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_depot_info
short_description: List the depots of drivers and patches of a PXE server
version_added: "1.0.0"
description:
  - Tells what depots there are, what they offer, which hosts refer to them, and whether their files are whole.
  - This module runs on the PXE server and changes nothing.
author:
  - The pxemanager.esxi authors (@pxemanager)
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_pxe
  - pxemanager.esxi.options.config
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - This module changes nothing.
  idempotent:
    support: full
  platform:
    platforms: posix
options:
  names:
    description:
      - Depots to tell of. All if it is left out.
    type: list
    elements: str
  verify:
    description:
      - Whether to read every file and compare its SHA-256 with that of the import.
      - Without it, sizes are compared.
    type: bool
    default: false
seealso:
  - module: pxemanager.esxi.esxi_depot
  - module: pxemanager.esxi.esxi_image_info
"""

EXAMPLES = r"""
- name: Look at the depots
  pxemanager.esxi.esxi_depot_info:
  register: depots
  delegate_to: pxe01.example.com

- name: Say which packages want a reboot
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.vibs | selectattr('reboot_required') | map(attribute='name') | join(', ') }}"
  loop: "{{ depots.depots }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
depots:
  description: The depots by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the depot.
      type: str
      sample: nic-drivers
    kind:
      description: V(bundle) or V(vib).
      type: str
      sample: bundle
    url:
      description: Where hosts find it. C(esxcli software) wants C(index.xml) of it, or the file of a VIB, after that.
      type: str
      sample: http://192.168.77.10/depots/nic-drivers/
    src:
      description: Where it was imported from.
      type: str
    sha256:
      description: SHA-256 of that file.
      type: str
    imported:
      description: When, in UTC.
      type: str
      sample: "2026-11-22T20:00:00Z"
    bytes:
      description: Size of all its files together.
      type: int
    files:
      description: Its files by path, each with C(bytes) and C(sha256).
      type: dict
    profiles:
      description: Image profiles that it offers.
      type: list
      elements: str
      sample: []
    bulletins:
      description: Bulletins and components that it offers.
      type: list
      elements: str
      sample: [NIC-driver-1.0]
    vibs:
      description: Packages that it offers.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the VIB.
          type: str
          sample: net-example
        version:
          description: Its version.
          type: str
          sample: 1.2.3-1OEM.800.1.0.20613240
        vendor:
          description: Who made it.
          type: str
          sample: EXA
        acceptance:
          description: Acceptance level (V(certified), V(accepted), V(partner), V(community)), empty where it has none.
          type: str
          sample: partner
        reboot_required:
          description: Whether a host that gets it must be rebooted. V(none) where the metadata do not say.
          type: bool
          sample: true
        maintenance_mode:
          description: Whether it wants the host in maintenance mode. V(none) where the metadata do not say.
          type: bool
          sample: true
        file:
          description: Path below the depot.
          type: str
          sample: vib20/net-example/EXA_bootbank_net-example_1.2.3-1OEM.800.1.0.20613240.vib
    hosts:
      description: Published hosts whose kickstart refers to it.
      type: list
      elements: str
      sample: [esx01.example.com]
    damage:
      description: In which ways its files are other than when it was imported. Empty where they are not.
      type: list
      elements: str
      sample: []
unusable:
  description: A sentence for each description of a depot that cannot be used.
  returned: success
  type: list
  elements: str
  sample: []
leftovers:
  description: Folders that interrupted imports have left. The next run of M(pxemanager.esxi.esxi_depot) removes them.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._depots import survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import server_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH, load


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str"},
            "verify": {"type": "bool", "default": False},
            "config": {"type": "path", "default": CONFIG_PATH},
        },
        supports_check_mode=True,
    )
    params = module.params
    with server_errors(module, "read"):
        found = survey(Layout.of(load(params["config"])), names=params["names"], verify=params["verify"])
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
