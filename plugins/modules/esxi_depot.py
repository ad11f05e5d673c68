#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_depot
short_description: Offer drivers and patches for ESXi from a PXE server
version_added: "1.0.0"
description:
  - Brings an offline bundle (a zip file with C(index.xml)) or a single VIB onto a PXE server that the role
    P(pxemanager.esxi.pxe_server#role) has set up. Hosts fetch from it over HTTP, with C(esxcli software) in their post
    actions.
  - A bundle is served unpacked, as C(/depots/NAME/), and as it came, as C(/depots/NAME/NAME.zip). A VIB is served as
    C(/depots/NAME/FILE.vib). Nothing of it is served over TFTP.
  - The metadata are read and checked, and so are the checksums of the VIBs where the metadata have them.
  - An import becomes visible when it is whole. One that was interrupted is never served, and the next run removes what
    it left. Room for it, bytes and inodes, is checked before.
  - The signatures of VIBs are not checked here. The host does that when it installs them.
  - This module runs on the PXE server.
author:
  - The pxemanager.esxi authors (@pxemanager)
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_pxe
  - pxemanager.esxi.options.config
attributes:
  check_mode:
    support: full
    details:
      - A bundle is not unpacked in check mode, so its contents are not checked.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: posix
options:
  name:
    description:
      - Name of the depot, by which post actions refer to it. Letters, digits, dot, underscore, plus and hyphen, at most
        64 characters.
    type: str
    required: true
  state:
    description:
      - V(present) imports the depot unless it is there already.
      - V(absent) removes it. This is refused while the kickstart of a published host refers to it.
    type: str
    choices:
      - present
      - absent
    default: present
  src:
    description:
      - Absolute path on the PXE server of the offline bundle (C(.zip)) or of the VIB (C(.vib)).
      - When it is gone later and the depot was imported from this very path, the depot counts as present.
      - Needed when O(state=present).
    type: path
  checksum:
    description:
      - SHA-256 of the file in hexadecimal, with or without V(sha256:) before it.
      - Nothing is imported when it differs.
    type: str
  replace:
    description:
      - What to do when a depot with this name exists and O(src) has other contents.
      - With V(false), the module fails.
      - With V(true), the depot is replaced, unless a host that refers to it is armed.
    type: bool
    default: false
  verify:
    description:
      - Whether to read every file of a depot that is there and compare its SHA-256 with that of the import. What is
        damaged is imported again.
      - Without it, sizes are compared.
    type: bool
    default: false
seealso:
  - module: pxemanager.esxi.esxi_depot_info
  - module: pxemanager.esxi.esxi_image
"""

EXAMPLES = r"""
- name: Offer the driver of a network card
  pxemanager.esxi.esxi_depot:
    name: nic-drivers
    src: /srv/drivers/EXA-net-example-1.2.3-offline_bundle.zip
    checksum: sha256:8bd9b66a1d0e9ca9d47a2e2a2a2ed1a9a1d6e1f46b0a3b0f9b7f1c0e2d3c4b5a
  delegate_to: pxe01.example.com

- name: Remove a depot that no host uses any more
  pxemanager.esxi.esxi_depot:
    name: patches-2025
    state: absent
  delegate_to: pxe01.example.com
"""

RETURN = r"""
depot:
  description:
    - What is known of the depot. It is V(none) after a removal, and in check mode for one that would be imported.
  returned: success
  type: dict
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
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Depot nic-drivers was imported (1 VIB).
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._depots import DepotOutcome, DepotStore
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_stored, server_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH, load


def act(module: AnsibleModule) -> DepotOutcome:
    """Do what was asked; raises the errors of the domain."""
    params = module.params
    store = DepotStore(load(params["config"]), check_mode=module.check_mode)
    if params["state"] == "absent":
        return store.absent(params["name"])
    checksum = params["checksum"]
    return store.present(
        params["name"],
        params["src"],
        checksum=checksum.lower().removeprefix("sha256:") if checksum else None,
        replace_other=params["replace"],
        verify=params["verify"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "src": {"type": "path"},
            "checksum": {"type": "str"},
            "replace": {"type": "bool", "default": False},
            "verify": {"type": "bool", "default": False},
            "config": {"type": "path", "default": CONFIG_PATH},
        },
        required_if=[("state", "present", ("src",))],
        supports_check_mode=True,
    )
    with server_errors(module, "read or written"):
        outcome = act(module)
    exit_stored(module, outcome, depot=outcome.depot)


if __name__ == "__main__":
    main()
