#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_image
short_description: Import ESXi installer images on a PXE server
version_added: "1.0.0"
description:
  - Brings an ESXi installer, from its ISO file or from a folder with its files, into the boot tree of a PXE server that
    the role P(pxemanager.esxi.pxe_server#role) has set up, under a name that host definitions refer to.
  - An import becomes visible in one step when it is whole. One that was interrupted is never served, and the next run
    removes what it left.
  - The medium's C(boot.cfg) is checked and put into the form that works over the network. The order of its modules is
    kept.
  - Room for it, bytes and inodes, is checked before. A disk that fills up all the same leaves nothing behind.
  - Afterwards C(mboot.efi) and C(crypto64.efi), the boot loaders of all UEFI machines, come from the newest image.
    What an image's own loader is able to do is read from its program, and the lower of that and of the medium's version
    is believed, because a custom medium may carry another loader.
    Images of ESXi before 8.0.1 never supply them, because their loader cannot leave a machine to its disk. The boot
    files for machines that nobody defined (local boot) are put in place, too.
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
      - A medium is not unpacked in check mode, so its contents are not checked.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: posix
requirements:
  - C(bsdtar) on the PXE server, for ISO files (package C(libarchive-tools) on Debian and Ubuntu, C(bsdtar) on RHEL)
options:
  name:
    description:
      - Name of the image. Letters, digits, dot, underscore, plus and hyphen, at most 64 characters.
      - Needed unless O(state=refreshed).
    type: str
  state:
    description:
      - V(present) imports the image unless it is there already.
      - V(absent) removes it. This is refused while a published host uses it.
      - V(refreshed) imports and removes nothing. It only brings the boot loaders of UEFI machines and the boot files of
        undefined machines up to date, as the other states do as well.
    type: str
    choices:
      - present
      - absent
      - refreshed
    default: present
  src:
    description:
      - Absolute path on the PXE server of the ISO file, or of a folder with the files of one.
      - When it is gone later and the image was imported from this very path, the image counts as present.
      - Needed when O(state=present).
    type: path
  checksum:
    description:
      - SHA-256 of the ISO file in hexadecimal, with or without V(sha256:) before it.
      - Nothing is imported when it differs.
    type: str
  replace:
    description:
      - What to do when an image with this name exists and O(src) has other contents.
      - With V(false), the module fails.
      - With V(true), the image is replaced, unless a host is armed with it. Publish the hosts that use it afterwards,
        because their boot files name the files of the old one.
    type: bool
    default: false
  add_modules:
    description:
      - Files on the PXE server that the installer is to load beside the modules of the medium, after them and in this
        order, for example the driver of a network card that the medium does not know. Absolute paths.
      - This is for the installer alone. It does not put a driver on the installed host. Use
        M(pxemanager.esxi.esxi_depot) and a post action for that, or a medium that a vendor or C(ImageBuilder) has made.
      - A file is a module as C(boot.cfg) names them (C(.v00), C(.tgz), C(.gz)), not a VIB. With Secure Boot the
        installer accepts none that is not signed by VMware.
      - A name that the medium has already is refused.
    type: list
    elements: path
    default: []
  verify:
    description:
      - Whether to read every file of an image that is there and compare its SHA-256 with that of the import. What is
        damaged is imported again.
      - Without it, names and sizes are compared.
    type: bool
    default: false
  linux_loader:
    description:
      - How BIOS machines start a stand-in medium that brings a Linux kernel in place of C(mboot.c32). No ESXi medium
        needs this; it is there for trials without one.
    type: dict
    suboptions:
      kernel:
        description:
          - Path of the kernel on the medium, in lower case.
        type: str
        required: true
      initrd:
        description:
          - Path of the initrd on the medium, in lower case.
        type: str
        required: true
      append:
        description:
          - Kernel options that come before those of the host.
        type: str
        default: ""
seealso:
  - module: pxemanager.esxi.esxi_image_info
  - module: pxemanager.esxi.esxi_depot
  - module: pxemanager.esxi.esxi_pxe_host
"""

EXAMPLES = r"""
- name: Import ESXi 8.0 Update 3
  pxemanager.esxi.esxi_image:
    name: esxi-8.0.3
    src: /srv/iso/VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso
    checksum: sha256:8bd9b66a1d0e9ca9d47a2e2a2a2ed1a9a1d6e1f46b0a3b0f9b7f1c0e2d3c4b5a
  delegate_to: pxe01.example.com

- name: Import it with the driver of a disk controller that the installer does not know
  pxemanager.esxi.esxi_image:
    name: esxi-8.0.3-raid
    src: /srv/iso/VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso
    add_modules:
      - /srv/drivers/raidctl.v00
  delegate_to: pxe01.example.com

- name: Read every file of the image and import again what is damaged
  pxemanager.esxi.esxi_image:
    name: esxi-8.0.3
    src: /srv/iso/VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso
    verify: true
  delegate_to: pxe01.example.com

- name: Remove an image that no host uses any more
  pxemanager.esxi.esxi_image:
    name: esxi-7.0.3
    state: absent
  delegate_to: pxe01.example.com
"""

RETURN = r"""
image:
  description:
    - What is known of the image. It is V(none) after a removal, and in check mode for an image that would be imported.
  returned: success
  type: dict
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
    kernel:
      description: The file that the boot loader starts.
      type: str
      sample: b.b00
    modules:
      description: The modules that it loads, in this order, each with its options.
      type: list
      elements: str
      sample: [jumpstrt.gz, useropts.gz, features.gz]
    kernelopt:
      description: Kernel options of the medium, without those that make no sense over the network.
      type: str
      sample: runweasel
    title:
      description: The medium's title.
      type: str
      sample: Loading ESXi installer
    mboot_version:
      description: What the image's boot loader for UEFI is believed to be, at most the version of the medium.
      type: str
      sample: 8.0.3
    loaders:
      description: The boot loaders for C(bios) and C(uefi), V(none) where the medium has none.
      type: dict
    sha256:
      description: SHA-256 of the ISO file, or of the names and contents of the folder's files.
      type: str
    source:
      description: Where the image was imported from.
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
      description: What O(add_modules) has added, with C(name), C(sha256) and C(size).
      type: list
      elements: dict
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Image esxi-8.0.3 was imported (build 8.0.3-0.0.24022510).
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._image_import import ImageStore, Outcome
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import BiosLoader
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_stored, server_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH, load


def act(module: AnsibleModule) -> Outcome:
    """Do what was asked; raises the errors of the domain."""

    def run(argv: t.Sequence[str]) -> tuple[int, str, str]:
        if module.get_bin_path(argv[0]) is None:
            return 127, "", f"{argv[0]} is not installed: run the role pxe_server, which installs it"
        return t.cast("tuple[int, str, str]", module.run_command(list(argv)))

    params = module.params
    store = ImageStore(load(params["config"]), run=run, check_mode=module.check_mode)
    if params["state"] == "refreshed":
        return store.refreshed()
    if params["state"] == "absent":
        return store.absent(params["name"])
    loader = params["linux_loader"]
    checksum = params["checksum"]
    return store.present(
        params["name"],
        params["src"],
        checksum=checksum.lower().removeprefix("sha256:") if checksum else None,
        replace_other=params["replace"],
        linux=BiosLoader(kind="linux", **loader) if loader else None,
        add_modules=params["add_modules"],
        verify=params["verify"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "refreshed"], "default": "present"},
            "src": {"type": "path"},
            "checksum": {"type": "str"},
            "replace": {"type": "bool", "default": False},
            "add_modules": {"type": "list", "elements": "path", "default": []},
            "verify": {"type": "bool", "default": False},
            "linux_loader": {
                "type": "dict",
                "options": {
                    "kernel": {"type": "str", "required": True},
                    "initrd": {"type": "str", "required": True},
                    "append": {"type": "str", "default": ""},
                },
            },
            "config": {"type": "path", "default": CONFIG_PATH},
        },
        required_if=[("state", "present", ("name", "src")), ("state", "absent", ("name",))],
        supports_check_mode=True,
    )
    with server_errors(module, "read or written"):
        outcome = act(module)
    exit_stored(module, outcome, image=outcome.image.to_record() if outcome.image is not None else None)


if __name__ == "__main__":
    main()
