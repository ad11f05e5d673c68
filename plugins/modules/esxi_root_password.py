#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_root_password
short_description: Sets the root password of freshly installed ESXi hosts
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - A kickstart travels over the provisioning network in the clear and carries a hash of the root password, so hosts are
    installed with a bootstrap password. This module gives them the real one, over each host's own API, many hosts at a
    time.
  - It logs in with the wanted password first. When that works, nothing is changed. When not, it logs in with the
    bootstrap password and sets the wanted one.
  - It never tries more than two logins for a host in a run, and it counts wrong ones over runs, because ESXi locks an
    account for 15 minutes after five of them. Before that could happen, it sends nothing and says how long to wait.
  - Passwords are sent only to a server that presents exactly the certificate that the host reported when it was
    installed.
  - It waits for hosts whose API is still coming up.
requirements:
  - pyVmomi
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_host
  - pxemanager.esxi.options.host_login
  - pxemanager.esxi.options.on_host_failure
attributes:
  check_mode:
    support: full
    details:
      - It logs in to find out which password a host has. Wrong logins are counted in O(attempts_file) as well.
  diff_mode:
    support: none
    details:
      - There is nothing about a password that could be shown.
  idempotent:
    support: full
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
          - Where the host's API answers, as seen from where this module runs.
          - By default it is O(hosts[].name).
        type: str
      port:
        description:
          - Port of the host's API.
        type: int
        default: 443
      certificate:
        description:
          - The host's own certificate (PEM), as it reported it through pbconnect.
          - Its dates and the name in it do not matter, it is the host's identity as it is.
          - It must be given.
        type: str
      joined:
        description:
          - Whether the host is in a vCenter. vCenter may give a host that it takes in another certificate.
          - A host that presents another certificate than O(hosts[].certificate) is left alone then, and is a failure
            otherwise.
        type: bool
        default: false
      username:
        description:
          - The account whose password is set.
        type: str
        default: root
      password:
        description:
          - The password that the account should have.
          - It must be given.
        type: str
      bootstrap_password:
        description:
          - The password that the host was installed with.
          - Without it the module can tell whether O(hosts[].password) is set, and nothing more.
        type: str
  timeout:
    description:
      - Seconds that each host's API may take to come up.
    type: int
    default: 120
seealso:
  - module: pxemanager.esxi.esxi_kickstart
  - module: pxemanager.esxi.vcenter_add_host
"""

EXAMPLES = r"""
- name: Give a fresh host its root password
  pxemanager.esxi.esxi_root_password:
    hosts:
      - name: esx01.example.com
        address: 192.168.77.21
        certificate: "{{ ready.hosts['esx01.example.com'].status.certificate }}"
        password: "{{ vault_esxi_root_password }}"
        bootstrap_password: "{{ vault_esxi_bootstrap_password }}"
  delegate_to: localhost
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
        - Whether the password was set.
      returned: always
      type: bool
    failed:
      description:
        - Whether the account does not have the wanted password.
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
        - V(set), V(unchanged), or V(left) for a host that has joined a vCenter and got another certificate from it.
          V(none) when the host failed.
      returned: always
      type: str
  sample:
    esx01.example.com:
      action: set
      changed: true
      failed: false
      msg: The password of root was set.
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
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._root_password import HostAccount, set_passwords
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
                "certificate": {"type": "str"},
                "joined": {"type": "bool", "default": False},
                "username": {"type": "str", "default": "root"},
                "password": {"type": "str", "no_log": True},
                "bootstrap_password": {"type": "str", "no_log": True},
            },
        },
        "parallel": {"type": "int", "default": 16},
        "timeout": {"type": "int", "default": 120},
        "attempts_file": {"type": "str", "default": "~/.ansible/pxemanager-esxi/attempts.json"},
        "on_host_failure": {"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    }


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when nothing can be done for any host."""
    require_pyvmomi()
    if params["parallel"] < 1:
        raise EsxiPxeError(f"parallel must be 1 or more, not {params['parallel']}.")
    if params["timeout"] < 0:
        raise EsxiPxeError(f"timeout must be 0 or more, not {params['timeout']}.")
    results = Results()
    accounts = parse_each(params["hosts"], HostAccount.parse, results)
    set_passwords(
        accounts,
        results,
        parallel=params["parallel"],
        timeout=params["timeout"],
        check_mode=check_mode,
        attempts=Attempts(params["attempts_file"] or None),
    )
    return results.as_return(params["on_host_failure"])


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with vsphere_errors(module):
        result = run(module.params, module.check_mode)
    exit_bulk(module, result)


if __name__ == "__main__":
    main()
