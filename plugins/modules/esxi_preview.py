#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_preview
short_description: Show what would be published of ESXi hosts, without a server
version_added: "1.0.0"
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Makes the DHCP reservation, the boot files of both boot modes and the kickstarts of hosts from the inventory alone,
    by the code that M(pxemanager.esxi.esxi_pxe_host) and M(pxemanager.esxi.esxi_kickstart) run, and shows them. A
    definition that those would refuse is refused here in the same words.
  - Neither a PXE server nor a host is asked. The settings of the PXE server are made of its variables in the inventory
    and of the defaults of the role P(pxemanager.esxi.pxe_server#role).
  - What only the PXE server knows is the image as it was imported. Its version is taken from its entry in
    C(pxe_server_images) (C(version) and C(build), where they are written), from O(version), or from its name, and
    the preview says from which.
  - Passwords are not needed. The hash of the root password, licence keys and the key of the kickstart's address are
    masked. What your own scripts contain is shown as it is.
  - It runs on the controller alone.
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.action
  - pxemanager.esxi.attributes.actiongroup_controller
  - pxemanager.esxi.options.on_host_failure
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of the files in O(dir).
  idempotent:
    support: full
  platform:
    platforms: posix
requirements:
  - The Python library C(netaddr)
options:
  hosts:
    description:
      - Definitions of the hosts, as P(pxemanager.esxi.esxi_host#role) describes them. All are of one PXE server.
    type: list
    elements: dict
    required: true
  pxe_server:
    description:
      - Name of their PXE server in the inventory.
      - It needs C(pxe_server_address) there. The role may find that out on the server, this module may not.
    type: str
    required: true
  template:
    description:
      - Template of the kickstart, as of M(pxemanager.esxi.esxi_kickstart).
    type: str
    default: ks.cfg.j2
  version:
    description:
      - The version of ESXi that an image is taken for whose entry in C(pxe_server_images) has no C(version), such as
        V(8.0.3).
      - By default it is read from the image's name.
    type: str
    default: ""
  full:
    description:
      - Whether kickstarts are shown with the parts that are the same for every host, some two hundred lines for each.
    type: bool
    default: false
  dir:
    description:
      - A folder on the controller that gets a file for each host, C(NAME.txt), with what is printed, for example to see
        in a merge request what it changes.
    type: path
  show:
    description:
      - Whether the preview is printed.
    type: bool
    default: true
seealso:
  - module: pxemanager.esxi.esxi_kickstart
  - module: pxemanager.esxi.esxi_pxe_host
"""

EXAMPLES = r"""
- name: Show what would be published of a host
  pxemanager.esxi.esxi_preview:
    pxe_server: pxe01.example.com
    hosts:
      - name: esx01.example.com
        macs:
          - "00:50:56:aa:bb:01"
        network:
          address: 192.168.77.21/24
          gateway: 192.168.77.1
        image: esxi-8.0.3
        disk:
          first:
            - local
    dir: previews
  delegate_to: localhost
"""

RETURN = r"""
hosts:
  description: A result for each host, by its name in lower case. A definition without a name is C(hosts[3]).
  returned: always
  type: dict
  contains:
    changed:
      description: Whether a file in O(dir) was written or removed, or would be in check mode.
      returned: always
      type: bool
    failed:
      description: Whether this host could not be shown, because it could not be published or armed.
      returned: always
      type: bool
    msg:
      description: How many files there are, or what is wrong and what to write instead.
      returned: always
      type: str
    reasons:
      description: Each mistake in a sentence of its own.
      returned: when the host failed
      type: list
      elements: str
    files:
      description: The files, by a short name for each.
      returned: when the host did not fail
      type: dict
    text:
      description: All of it, as it is printed.
      returned: when the host did not fail
      type: str
    warnings:
      description: What is worth a look.
      returned: when the host did not fail
      type: list
      elements: str
  sample:
    esx01.example.com:
      changed: false
      failed: false
      files:
        dhcp-reservation: "00:50:56:aa:bb:01,192.168.77.21,esx01\n"
      msg: "esx01.example.com: 10 files."
      text: "esx01.example.com on the PXE server pxe01.example.com (192.168.77.10)\n..."
      warnings: []
failed_hosts:
  description: Names of the hosts that failed.
  returned: always
  type: list
  elements: str
  sample: []
"""

# All of it is in the action plugin of the same name.
