#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_post_actions
short_description: Runs the post actions of freshly installed ESXi hosts that boot with Secure Boot
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - ESXi does not run C(%firstboot) under Secure Boot, so a host's post actions do not run by themselves and its
    certificate is reported by nobody. This module does both from the controller, many hosts at a time.
  - For each host it waits until the host's API answers, logs in with the bootstrap password, opens SSH through the API,
    runs the same script that the first boot would have run, and closes SSH again, also when something has failed. SSH
    that was open before, or that a post action has start with the host, stays open.
  - It never sends more than one wrong login, and counts wrong ones over runs, because ESXi locks an account for
    15 minutes after five of them.
  - Where post actions need a restart of the host, it restarts the host over SSH, waits until it is down and up again,
    opens SSH once more and goes on. C(local.sh), by which hosts without Secure Boot go on, does not run under it.
  - A post action that fails does not fail its host here. Hand the result to M(pxemanager.esxi.esxi_pxe_host) with
    O(pxemanager.esxi.esxi_pxe_host#module:state=ready), which judges it as it judges what hosts report themselves.
requirements:
  - pyVmomi
  - The program C(ssh) of OpenSSH 8.4 or later
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_host
  - pxemanager.esxi.options.host_login
  - pxemanager.esxi.options.on_host_failure
attributes:
  check_mode:
    support: full
    details:
      - It logs in to the API to find out whether the password fits. SSH is not touched.
  diff_mode:
    support: none
    details:
      - What a post action changes is not known.
  idempotent:
    support: none
    details:
      - It runs the post actions each time. The role P(pxemanager.esxi.esxi_host#role) runs it for hosts at the stage
        V(installed) only.
  platform:
    platforms: posix
options:
  hosts:
    description:
      - The hosts. One host is a list of one.
      - A mistake in one host fails that host alone.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the host.
        type: str
        required: true
      address:
        description:
          - Where the host's API and its SSH answer, as seen from where this module runs.
          - By default it is O(hosts[].name).
        type: str
      port:
        description:
          - Port of the host's API.
        type: int
        default: 443
      bootstrap_password:
        description:
          - The password of root that the host was installed with.
          - It must be given.
        type: str
      post_actions:
        description:
          - The post actions, as P(pxemanager.esxi.esxi_host#role) describes them. The catalogue is in
            U(https://github.com/pxemanager/pxemanager.esxi/blob/main/docs/post-actions.md).
        type: list
        elements: dict
        default: []
      firstboot:
        description:
          - Script that runs after them, as C(firstboot) in the settings of the kickstart.
        type: str
      server_url:
        description:
          - URL of the host's PXE server, such as C(http://192.168.77.10).
          - It must be given when a post action names a depot of that server. M(pxemanager.esxi.esxi_pxe_host) returns
            it.
        type: str
      trust_on_first_use:
        description:
          - Believe that the certificate which is presented at the host's address is the host's own.
          - Nobody can have reported that certificate before, because it does not exist while the host is installed. So
            without this the host fails.
        type: bool
        default: false
  ssh_port:
    description:
      - Port of the hosts' SSH.
    type: int
    default: 22
  timeout:
    description:
      - Seconds that each host's API may take to come up. A server may need ten minutes and more for its own start.
    type: int
    default: 1800
  reboot_timeout:
    description:
      - Seconds that a host may take to go down and come up again, for each restart that its post actions need.
    type: int
    default: 1800
seealso:
  - module: pxemanager.esxi.esxi_firstboot_wait
  - module: pxemanager.esxi.esxi_pxe_host
  - module: pxemanager.esxi.esxi_root_password
"""

EXAMPLES = r"""
- name: Run the post actions of a host with Secure Boot
  pxemanager.esxi.esxi_post_actions:
    hosts:
      - name: esx01.example.com
        address: 192.168.77.21
        bootstrap_password: "{{ vault_esxi_bootstrap_password }}"
        post_actions:
          - ntp:
              servers:
                - 192.168.77.1
        trust_on_first_use: true
  delegate_to: localhost
  register: first_boot

- name: Tell the PXE server
  pxemanager.esxi.esxi_pxe_host:
    hosts:
      - name: esx01.example.com
        install: "{{ installed.hosts['esx01.example.com'].install }}"
        actions: "{{ first_boot.hosts['esx01.example.com'].actions }}"
        certificate: "{{ first_boot.hosts['esx01.example.com'].certificate }}"
    state: ready
  delegate_to: pxe01.example.com
"""

RETURN = r"""
hosts:
  description:
    - The result of each host, by the name under which it was given.
  returned: always
  type: dict
  contains:
    changed:
      description:
        - Whether post actions were run.
      returned: always
      type: bool
    failed:
      description:
        - Whether it is not known what came of the post actions, or SSH could not be closed again.
      returned: always
      type: bool
    msg:
      description:
        - One or more sentences on what was done, or what is wrong and what to do about it.
      returned: always
      type: str
    reasons:
      description:
        - The sentences of RV(hosts.msg) when the host failed.
      returned: on failure of the host
      type: list
      elements: str
    action:
      description:
        - V(run), or V(none) when the host failed.
      returned: always
      type: str
    actions:
      description:
        - Each post action's C(name), exit code C(rc), duration C(seconds), and whether its failure is to be C(ignored).
        - Empty in check mode.
      returned: when the host has not failed
      type: list
      elements: dict
    message:
      description:
        - The last words of the first post action that failed.
      returned: when the host has not failed
      type: str
    reboots:
      description:
        - How often the host was restarted for its post actions.
      returned: when the host has not failed
      type: int
    certificate:
      description:
        - The certificate (PEM) that the host presents.
      returned: when the host has not failed
      type: str
  sample:
    esx01.example.com:
      action: run
      actions:
        - ignored: false
          name: ntp
          rc: 0
          seconds: 2
      certificate: "-----BEGIN CERTIFICATE-----\n..."
      changed: true
      failed: false
      message: the first boot is done
      msg: 1 post actions were run over SSH.
      reboots: 0
failed_hosts:
  description:
    - Names of the hosts that failed.
  returned: always
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._login_attempts import Attempts
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_bulk, vsphere_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._post_actions import USER, FreshHost, run_actions
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._ssh import Ssh
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import parse_each, require_pyvmomi


def argument_spec() -> dict[str, t.Any]:
    return {
        "hosts": {
            "type": "list",
            "elements": "dict",
            "required": True,
            # Only the name is required: anything else that is missing must fail its own host, not all of them.
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str"},
                "port": {"type": "int", "default": 443},
                "bootstrap_password": {"type": "str", "no_log": True},
                "post_actions": {"type": "list", "elements": "dict", "default": []},
                "firstboot": {"type": "str"},
                "server_url": {"type": "str"},
                "trust_on_first_use": {"type": "bool", "default": False},
            },
        },
        "ssh_port": {"type": "int", "default": 22},
        "parallel": {"type": "int", "default": 16},
        "timeout": {"type": "int", "default": 1800},
        "reboot_timeout": {"type": "int", "default": 1800},
        "attempts_file": {"type": "str", "default": "~/.ansible/pxemanager-esxi/attempts.json"},
        "on_host_failure": {"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    }


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when nothing can be done for any host."""
    params = module.params
    require_pyvmomi()
    if params["parallel"] < 1:
        raise EsxiPxeError(f"parallel must be 1 or more, not {params['parallel']}.")
    for option in ("timeout", "reboot_timeout"):
        if params[option] < 0:
            raise EsxiPxeError(f"{option} must be 0 or more, not {params[option]}.")
    if not 0 < params["ssh_port"] < 65536:
        raise EsxiPxeError(f"ssh_port must be between 1 and 65535, not {params['ssh_port']}.")
    program = module.get_bin_path("ssh")
    if program is None:
        raise EsxiPxeError("There is no program ssh on this machine: install OpenSSH's client, 8.4 or later.")
    results = Results()
    hosts = parse_each(params["hosts"], FreshHost.parse, results)

    # Made here, once, and not by many threads at a time.
    folder = module.tmpdir

    def ssh(host: FreshHost) -> Ssh:
        return Ssh(module.run_command, program, folder, host.address, params["ssh_port"], USER)

    run_actions(
        hosts,
        results,
        ssh,
        parallel=params["parallel"],
        timeout=params["timeout"],
        reboot_timeout=params["reboot_timeout"],
        check_mode=module.check_mode,
        attempts=Attempts(params["attempts_file"] or None),
    )
    return results.as_return(params["on_host_failure"])


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with vsphere_errors(module):
        result = run(module)
    exit_bulk(module, result)


if __name__ == "__main__":
    main()
