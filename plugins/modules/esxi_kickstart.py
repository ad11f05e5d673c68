#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_kickstart
short_description: Write ESXi hosts' kickstarts on a PXE server
version_added: "1.0.0"
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Renders a kickstart for every MAC address of every host from a template, and puts them where the pbconnect service
    of a PXE server that the role P(pxemanager.esxi.pxe_server#role) has set up hands them out. Kickstarts lie outside
    of what TFTP and the web server show.
  - The template is found and rendered on the controller, as by M(ansible.builtin.template), with the variables that the
    host of that name has in the inventory. A host that is not in the inventory is rendered with the task's variables.
  - The rendered text is checked as the installer would read it. What the installer would refuse, what would overwrite a
    datastore without being asked to, and what would leave a machine installing for ever, is refused here, for that host
    alone.
  - Takes all hosts of a play in one call. One that cannot be done neither stops nor hides the others.
  - A host's post actions become part of its C(%firstboot) section. The installer skips that section on a machine with
    Secure Boot.
  - The module itself runs on the PXE server.
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.action
  - pxemanager.esxi.attributes.actiongroup_pxe
  - pxemanager.esxi.options.config
  - pxemanager.esxi.options.on_host_failure
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The hash of the root password and licence keys are masked. See O(diff_limit).
  idempotent:
    support: full
    details:
      - The hash of a password is salted with the host's name, so it is the same in every run.
  platform:
    platforms: posix
requirements:
  - The Python library C(netaddr) on the controller
options:
  hosts:
    description:
      - Definitions of the hosts, as P(pxemanager.esxi.esxi_host#role) describes them. Their keys are C(name), C(macs),
        C(network), C(image), C(firmware), C(secure_boot), C(disk), C(boot), C(post_actions), C(kickstart), C(vcenter),
        C(reinstall), C(reinstall_image) and C(upgrade).
      - With C(upgrade) the kickstart upgrades what is on the disk. It has no password then, and of the post actions
        only those with C(after_upgrade). The kickstart of a host that is armed for an upgrade is not replaced by
        another one.
    type: list
    elements: dict
    required: true
  template:
    description:
      - Template of the kickstart, looked for in C(templates/) as by M(ansible.builtin.template).
      - It gets the host's variables and besides C(host), the checked definition, C(mac), the address that the machine
        boots from, and C(ks), the ready-made pieces. C(ks.commands) is a list of all command lines, C(ks.pre),
        C(ks.post) and C(ks.firstboot) are whole sections with their first lines.
      - C(ks.accept_eula), C(ks.rootpw), C(ks.clearpart), C(ks.install), C(ks.partitions), C(ks.network),
        C(ks.keyboard), C(ks.serial_number), C(ks.mode), C(ks.extra_commands) and C(ks.reboot) are lists of the lines
        that C(ks.commands) is made of.
      - C(ks.pre) must come before any other C(%pre) section, because it tells the PXE server that the install has
        begun, and stops it if the server cannot be told.
      - The default is the template of the role P(pxemanager.esxi.esxi_host#role).
    type: str
    default: ks.cfg.j2
  root_password:
    description:
      - Bootstrap password of root, for all hosts that O(root_passwords) does not name. The kickstart gets its SHA-512
        hash.
      - Give it another one as soon as the host is there, as the role P(pxemanager.esxi.esxi_host#role) does.
      - One of O(root_password), O(root_passwords) and O(root_password_hash) is needed for each host that is installed.
    type: str
  root_passwords:
    description:
      - Bootstrap passwords by name of the host.
    type: dict
  root_password_hash:
    description:
      - SHA-512 crypt hash in place of O(root_password). It begins with C($6$).
    type: str
  deadlines:
    description:
      - How long each section tries to reach the PXE server.
    type: dict
    suboptions:
      pre:
        description:
          - Seconds for C(%pre). The install is given up afterwards.
        type: int
        default: 300
      post:
        description:
          - Seconds for C(%post). The install goes on afterwards.
        type: int
        default: 120
      firstboot:
        description:
          - Seconds for C(%firstboot). The host is not reported as ready afterwards.
        type: int
        default: 900
  owner:
    description:
      - Label of the inventory that these hosts are of, as of M(pxemanager.esxi.esxi_pxe_host). Nothing is written for a
        published host that has another one.
    type: str
    default: ""
  take_over_from:
    description:
      - A label whose hosts may be written for as well.
    type: str
    default: ""
  diff_limit:
    description:
      - Up to how many different hosts a run with C(--diff) shows every kickstart of each. Of more than that it says in
        one line what is done to which of them.
      - V(0) shows every kickstart, however many hosts there are.
    type: int
    default: 10
  rendered:
    description:
      - Set by the action plugin to what it has rendered. Nothing else can set it.
    type: str
notes:
  - C(esxcli system ntp), which the post action C(ntp) uses, and C(esxcli software component), which C(component)
    uses, exist from ESXi 7.0 on.
  - A post action runs for at most its C(timeout) where the host's busybox has the command C(timeout). Its output goes
    to C(/var/log/esxi-pxe-actions.log) of the host.
seealso:
  - module: pxemanager.esxi.esxi_pxe_host
  - module: pxemanager.esxi.esxi_firstboot_wait
"""

EXAMPLES = r"""
- name: Write a host's kickstart
  pxemanager.esxi.esxi_kickstart:
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
        post_actions:
          - ssh: enabled
          - ntp:
              servers:
                - 192.168.77.1
    root_password: "{{ bootstrap_password }}"
  delegate_to: pxe01.example.com
"""

RETURN = r"""
hosts:
  description: A result for each host, by its name in lower case. A definition without a name is C(hosts[3]).
  returned: always
  type: dict
  contains:
    changed:
      description: Whether a kickstart was written or removed, or would be in check mode.
      returned: always
      type: bool
    failed:
      description: Whether this host could not be done.
      returned: always
      type: bool
    msg:
      description: What was done, or what is wrong and what to write instead.
      returned: always
      type: str
    reasons:
      description: Each mistake in a sentence of its own.
      returned: when the host failed
      type: list
      elements: str
    macs:
      description: MAC addresses that there is a kickstart for.
      returned: when the host did not fail
      type: list
      elements: str
  sample:
    esx01.example.com:
      changed: true
      failed: false
      macs:
        - "00:50:56:aa:bb:01"
      msg: 1 kickstart written.
failed_hosts:
  description: Names of the hosts that failed.
  returned: always
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_store import write_kickstarts
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner
from ansible_collections.pxemanager.esxi.plugins.module_utils._rendered import Rendered, argument_spec
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import load
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import resolve_group


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if module.params["rendered"] is None:
        module.fail_json(
            msg="Kickstarts are rendered on the controller: call this as the task pxemanager.esxi.esxi_kickstart."
        )
    results = Results()
    try:
        config = load(module.params["config"])
        write_kickstarts(
            Rendered.unpack(module.params["rendered"]),
            Layout.of(config),
            resolve_group(config.group),
            results,
            module.check_mode,
            module._diff,
            Owner.parse(module.params["owner"], module.params["take_over_from"]),
        )
    except EsxiPxeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**results.as_return(module.params["on_host_failure"], module.params["diff_limit"]))
    raise AssertionError("exit_json does not return")


if __name__ == "__main__":
    main()
