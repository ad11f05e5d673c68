#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter_live_hosts
short_description: Refuses to install or retire ESXi hosts that a vCenter shows alive
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Looks hosts up in all vCenters that are linked with the one that it is given, and says of each whether it may be
    installed, retired or joined. It changes nothing. A host that may not be is a failed host.
  - A host is alive when a vCenter shows it with powered-on machines and not in maintenance mode. It makes no difference
    then whether that vCenter is still connected to it.
  - A host is recognised by its name, by its management address, by any of its MAC addresses and by the UUID of its
    hardware, so one that was renamed in vCenter is found as well.
  - When a vCenter of the group cannot be asked, nothing is known of any host, and each of them is refused unless
    O(unknown=accept). Hosts that are named in O(hosts[].force) are never refused for being alive or unknown.
  - A host that another vCenter of the group manages is refused for O(job=install) and O(job=join), and nothing forces
    it.
requirements:
  - pyVmomi
extends_documentation_fragment:
  - vmware.vmware.base_options
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.info_module
  - pxemanager.esxi.attributes.actiongroup_vcenter
  - pxemanager.esxi.options.linked
attributes:
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
          - Name of the host, upper and lower case being the same.
        type: str
        required: true
      address:
        description:
          - Its management address. A name is not looked up.
        type: str
      macs:
        description:
          - MAC addresses of its NICs, in any usual notation.
        type: list
        elements: str
        default: []
      uuid:
        description:
          - UUID of its hardware, as its firmware, its BMC or ESXi shows it.
        type: str
      force:
        description:
          - Names of hosts, with commas or as a list, that are meant although they are alive. It has an effect when
            O(hosts[].name) is one of them. The role P(pxemanager.esxi.esxi_host#role) calls it C(esxi_host_force_live).
          - V(true), and whatever else means all hosts, is a mistake.
        type: raw
  job:
    description:
      - What is going to be done to the hosts.
      - V(install) needs all that is known to be well. V(retire) does not look at which vCenter a host belongs to.
        V(join) looks at nothing else.
    type: str
    choices:
      - install
      - retire
      - join
    default: install
  unknown:
    description:
      - What becomes of the hosts when a vCenter of the group cannot be asked.
    type: str
    choices:
      - refuse
      - accept
    default: refuse
  on_host_failure:
    description:
      - With V(fail) the task fails when a host is refused, and names every one.
      - With V(report) it does not, and RV(failed_hosts) has their names.
    type: str
    choices:
      - fail
      - report
    default: fail
notes:
  - One login of O(username) serves all vCenters of the group. What this user may not see is not there for this module.
seealso:
  - module: pxemanager.esxi.vcenter_linked_info
  - module: pxemanager.esxi.esxi_pxe_host
"""

EXAMPLES = r"""
- name: Refuse to go on when a host is alive
  pxemanager.esxi.vcenter_live_hosts:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: esx01.example.com
        address: 192.168.77.21
        macs:
          - 00:50:56:aa:01:01
  delegate_to: localhost

- name: Go on with one host whatever runs on it
  pxemanager.esxi.vcenter_live_hosts:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: esx01.example.com
        force: esx01.example.com
      - name: esx02.example.com
    job: retire
  delegate_to: localhost
"""

RETURN = r"""
hosts:
  description:
    - The verdict on each host, by the name under which it was given.
  returned: always
  type: dict
  contains:
    changed:
      description: Always V(false).
      type: bool
    failed:
      description: Whether the host is refused.
      type: bool
    msg:
      description: What is known of the host or, when it is refused, why and what to do about it.
      type: str
    reasons:
      description: The sentences of C(msg).
      returned: when the host is refused
      type: list
      elements: str
    kind:
      description:
        - V(free) when no vCenter has it, V(idle) when one has it and nothing runs there, V(forced) when it was named,
          V(accepted) when it is not known and O(unknown=accept) or O(job=join).
        - V(live), V(elsewhere), V(unknown) when it is refused, V(mistake) when its options are wrong.
      type: str
    vcenter:
      description: The vCenter that has it.
      returned: when one has it
      type: str
    path:
      description: Where it is there.
      returned: when one has it
      type: str
    recognised_by:
      description: V(name), V(management address), V(MAC address) or V(hardware UUID).
      returned: when one has it
      type: str
  sample:
    esx01.example.com:
      changed: false
      failed: false
      kind: idle
      msg: >-
        esx01.example.com is in vcenter.example.com:443 at /Berlin/host/Edge/esx01.example.com, connected, in
        maintenance mode.
      path: /Berlin/host/Edge/esx01.example.com
      recognised_by: name
      vcenter: vcenter.example.com:443
failed_hosts:
  description: Names of the hosts that are refused, sorted.
  returned: always
  type: list
  elements: str
  sample: []
problems:
  description:
    - A sentence for each thing that is not known of the group.
  returned: always
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmware.vmware.plugins.module_utils.argument_spec import base_argument_spec

from ansible_collections.pxemanager.esxi.plugins.module_utils._linked import entry_point, read_group
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import (
    JOBS,
    Group,
    Verdict,
    WantedHost,
    judge,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_bulk, vsphere_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    VsphereError,
    parse_each,
    require_pyvmomi,
)


def argument_spec() -> dict[str, t.Any]:
    spec: dict[str, t.Any] = base_argument_spec()
    spec.update(
        hosts={
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str"},
                "macs": {"type": "list", "elements": "str", "default": []},
                "uuid": {"type": "str"},
                "force": {"type": "raw"},
            },
        },
        job={"type": "str", "choices": list(JOBS), "default": "install"},
        unknown={"type": "str", "choices": ["refuse", "accept"], "default": "refuse"},
        timeout={"type": "int", "default": 60},
        on_host_failure={"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    )
    return spec


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when the options are wrong or a library is missing."""
    require_pyvmomi()
    entry = entry_point(params)
    results = Results()
    given = {str(host["name"]).rstrip(".").lower(): str(host["name"]) for host in params["hosts"]}
    hosts = parse_each(params["hosts"], WantedHost.parse, results)
    for result in results.hosts.values():
        del result["action"]
        result["kind"] = "mistake"
    group = Group(str(entry), (), linked=False)
    if hosts:
        try:
            group = read_group(entry, params["username"], params["password"])
        except VsphereError as error:
            # Nothing is known then, of no host. Whether that stops one is decided like everything else.
            group = Group(str(entry), (), linked=False, problem=f"The vCenter {entry} cannot be asked: {error}")
    for host in hosts:
        verdict = judge(host, group, params["job"], accept_unknown=params["unknown"] == "accept")
        report(results, given[host.name], verdict)
    return dict(results.as_return(params["on_host_failure"]), problems=group.gaps)


def report(results: Results, name: str, verdict: Verdict) -> None:
    """Enter a verdict under the name that the host was given by."""
    extra: dict[str, t.Any] = {"kind": verdict.kind}
    if verdict.seen is not None:
        extra.update(vcenter=verdict.seen.vcenter, path=verdict.seen.path, recognised_by=verdict.recognised_by)
    if verdict.refused:
        results.fail(name, verdict.msg, **extra)
    else:
        results.ok(name, changed=False, msg=verdict.msg, **extra)


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with vsphere_errors(module):
        result = run(module.params)
    for host in result["hosts"].values():
        if host["kind"] in ("forced", "accepted"):
            module.warn(host["msg"])
    exit_bulk(module, result)


if __name__ == "__main__":
    main()
