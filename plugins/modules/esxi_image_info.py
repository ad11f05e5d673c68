#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_image_info
short_description: List the ESXi installer images of a PXE server
version_added: "1.0.0"
description:
  - Tells what images there are, which hosts use them and which are armed with them, and whether their files are whole.
  - Finds what interrupted imports have left, and hosts whose image is gone.
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
      - Images to tell of. All if it is left out.
    type: list
    elements: str
  verify:
    description:
      - Whether to read every file and compare its SHA-256 with that of the import. It takes as long as reading the
        images from the disk does.
      - Without it, names and sizes are compared.
    type: bool
    default: false
seealso:
  - module: pxemanager.esxi.esxi_image
  - module: pxemanager.esxi.esxi_depot_info
"""

EXAMPLES = r"""
- name: Look at the images, every byte of them
  pxemanager.esxi.esxi_image_info:
    verify: true
  register: images
  delegate_to: pxe01.example.com

- name: Say which are damaged
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.damage | join(', ') }}"
  loop: "{{ images.images | selectattr('damage') }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
images:
  description: The images by name. Each has what M(pxemanager.esxi.esxi_image) returns of it, and how it is.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the image.
      type: str
      sample: esxi-8.0.3
    version:
      description: Version of ESXi.
      type: str
      sample: 8.0.3
    build:
      description: The build as the medium has it.
      type: str
      sample: 8.0.3-0.0.24022510
    mboot_version:
      description: What its boot loader for UEFI is believed to be.
      type: str
      sample: 8.0.3
    loaders:
      description: The boot loaders for C(bios) and C(uefi), V(none) where the medium has none.
      type: dict
    sha256:
      description: SHA-256 of the ISO file, or of the names and contents of the folder's files.
      type: str
    source:
      description: Where it was imported from.
      type: dict
    imported:
      description: When, in UTC.
      type: str
      sample: "2026-11-22T20:00:00Z"
    files:
      description: Number of files.
      type: int
    bytes:
      description: Size of all files together.
      type: int
    added_modules:
      description: What was added to the medium's modules.
      type: list
      elements: dict
    hosts:
      description: Published hosts that use it.
      type: list
      elements: str
      sample: [esx01.example.com]
    armed:
      description: Those of them that are armed with it.
      type: list
      elements: str
      sample: []
    supplies_mboot:
      description: Whether the boot loaders of all UEFI machines come from it.
      type: bool
      sample: true
    damage:
      description: In which ways its files are other than when it was imported. Empty where they are not.
      type: list
      elements: str
      sample: [k.b00 has other contents]
unusable:
  description: A sentence for each description of an image that cannot be used.
  returned: success
  type: list
  elements: str
  sample: []
undescribed:
  description: Folders of images without a description, from an import that was interrupted at its very end. No host can
    be published with them. Import them again, or remove them.
  returned: success
  type: list
  elements: str
  sample: []
leftovers:
  description: Folders that interrupted imports have left. The next run of M(pxemanager.esxi.esxi_image) removes them.
  returned: success
  type: list
  elements: str
  sample: []
busy:
  description: Whether an import is under way. The leftovers are its own then.
  returned: success
  type: bool
  sample: false
missing:
  description: Images that hosts are published with and that are not there, and those hosts.
  returned: success
  type: dict
  sample: {}
msg:
  description: How many there are, and what is wrong, in one sentence.
  returned: always
  type: str
  sample: 2 images, all whole.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import survey
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
        layout = Layout.of(load(params["config"]))
        found = survey(layout, names=params["names"], verify=params["verify"])
    module.exit_json(
        changed=False,
        msg=found.summary(),
        images=[state.to_record() for state in found.images],
        unusable=found.unusable,
        undescribed=found.undescribed,
        leftovers=found.leftovers,
        busy=found.busy,
        missing=found.missing,
    )


if __name__ == "__main__":
    main()
