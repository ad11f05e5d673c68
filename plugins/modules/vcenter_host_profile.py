#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter_host_profile
short_description: Makes ESXi hosts comply with host profiles of a vCenter
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Attaches a host profile to each host, fills in its answer file, checks whether the host complies and, where it does
    not, applies the profile in maintenance mode and checks again. One call and one session serve any number of hosts.
  - A host goes into maintenance mode only when vCenter says that the changes need it, and never while virtual machines
    run on it. It is taken out again if, and only if, this module put it there, also when something has failed.
  - Answers that are missing are listed by name, with what vCenter says that they are.
  - A host whose cluster is configured by vSphere Configuration Profiles is refused. They are never switched on.
  - No host is rebooted. When a reboot is needed, RV(hosts.reboot_required) says so.
requirements:
  - pyVmomi
extends_documentation_fragment:
  - vmware.vmware.base_options
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_vcenter
  - pxemanager.esxi.options.on_host_failure_vcenter
attributes:
  check_mode:
    support: full
    details:
      - The host is checked for compliance, and what the profile would change is worked out. Neither changes a host,
        its profile or its answers; vCenter notes when and with what result it last checked.
      - Whether a host complies is told from the answers that vCenter has, not from those that would be written.
  diff_mode:
    support: full
    details:
      - Shows the attached profile, the answers and the settings that do not comply. Secrets are left out.
  idempotent:
    support: full
    details:
      - Not with O(hosts[].update_secrets=true).
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
          - Name of the host in vCenter, upper and lower case being the same.
        type: str
        required: true
      profile:
        description:
          - Name of the host profile.
          - It must be given.
        type: str
      answers:
        description:
          - What the profile asks for this host, by the names of the answers. Answers that are not named stay as they
            are.
          - The full name of an answer is C(PROFILE PATH.POLICY.PARAMETER). Any ending of it will do that begins after a
            dot and fits one answer only, such as V(IpAddressPolicy.address) or V(address).
          - Leave this out, and the module tells you the names that are missing.
        type: dict
        default: {}
      secret_answers:
        description:
          - Further answers, which nobody should see, such as passwords.
          - vCenter does not give stored secrets away, so one that it has already counts as right, unless
            O(hosts[].update_secrets=true).
        type: dict
        default: {}
      update_secrets:
        description:
          - Writes O(hosts[].secret_answers) again that vCenter has already.
        type: bool
        default: false
      replace:
        description:
          - Whether another profile that is attached to the host is detached first. Without it, such a host is refused.
          - A profile that is attached to the host's cluster is never detached.
        type: bool
        default: false
      enter_maintenance_mode:
        description:
          - Whether this module may put the host into maintenance mode when the changes need that.
          - With V(false), such a host is refused unless it is in maintenance mode already. There it stays.
        type: bool
        default: true
  parallel:
    description:
      - How many hosts are worked on at a time, and so are in maintenance mode at a time at most.
    type: int
    default: 16
  timeout:
    description:
      - Seconds that vCenter may take for one task on one host, such as applying a profile.
    type: int
    default: 600
  maintenance_timeout:
    description:
      - Seconds that a host may take to go into maintenance mode, and out of it.
    type: int
    default: 600
notes:
  - All names are case sensitive, except O(hosts[].name).
  - The vCenter user needs the privileges C(Profile.Edit), C(Host.Config.Maintenance), and those for what the profile
    configures.
seealso:
  - module: pxemanager.esxi.vcenter_add_host
"""

EXAMPLES = r"""
- name: Make two hosts comply with their host profile
  pxemanager.esxi.vcenter_host_profile:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: esx01.example.com
        profile: Production
        answers:
          ipConfig.IpAddressPolicy.address: 198.51.100.21
          IpAddressPolicy.subnetmask: 255.255.255.0
      - name: esx02.example.com
        profile: Production
        answers:
          IpAddressPolicy.address: 198.51.100.22
          IpAddressPolicy.subnetmask: 255.255.255.0
        secret_answers:
          UserInputPasswordConfigOption.password: "{{ monitoring_password }}"
  delegate_to: localhost

- name: See what does not comply, and change nothing
  pxemanager.esxi.vcenter_host_profile:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: esx01.example.com
        profile: Production
    on_host_failure: report
  check_mode: true
  delegate_to: localhost
"""

RETURN = r"""
hosts:
  description:
    - The result of each host, by the name under which it was given.
  returned: always, unless vCenter cannot be used at all and O(on_host_failure=fail)
  type: dict
  contains:
    changed:
      description:
        - Whether anything was changed on the host or in vCenter.
      returned: always
      type: bool
    failed:
      description:
        - Whether the host could not be brought to comply.
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
        - The last thing that was done. V(compliant) when there was nothing to do, otherwise V(attached), V(answered)
          (the answer file was written) or V(applied).
        - V(none) when the host failed before anything of this.
      returned: always
      type: str
    profile:
      description:
        - Name of the host profile.
      returned: when vCenter has the host and the profile
      type: str
    path:
      description:
        - Where the host is in vCenter.
      returned: when vCenter has the host
      type: str
    compliant:
      description:
        - Whether the host complies, as far as this was checked.
      returned: when vCenter has the host and the profile
      type: bool
    non_compliant:
      description:
        - In what the host did not comply before.
      returned: when vCenter has the host and the profile
      type: list
      elements: str
    non_compliant_after:
      description:
        - In what the host does not comply after the profile was applied.
      returned: when the profile was applied
      type: list
      elements: str
    answers_written:
      description:
        - Full names of the answers that were, or in check mode would be, written.
      returned: when vCenter has the host and the profile
      type: list
      elements: str
    missing_answers:
      description:
        - What the profile asks for and nobody has answered.
      returned: when answers are missing
      type: list
      elements: dict
      contains:
        name:
          description: Full name of the answer.
          type: str
        description:
          description: What it is, in the words of vCenter.
          type: str
        secret:
          description: Whether it must be given in O(hosts[].secret_answers).
          type: bool
    entered_maintenance_mode:
      description:
        - Whether this module put the host into maintenance mode.
      returned: when vCenter has the host and the profile
      type: bool
    reboot_required:
      description:
        - Whether the changes need a reboot of the host, which this module leaves to you.
      returned: when vCenter has the host and the profile
      type: bool
    configuration_profile:
      description:
        - Whether vSphere Configuration Profiles configure the host's cluster. Such a host has failed.
      returned: when vCenter has the host and the profile
      type: bool
  sample:
    esx01.example.com:
      action: applied
      answers_written:
        - network.hostPortGroup["key-vim-profile-host-HostPortgroupProfile-vMotion"].ipConfig.IpAddressPolicy.address
      changed: true
      compliant: true
      configuration_profile: false
      entered_maintenance_mode: true
      failed: false
      msg: >-
        esx01.example.com complies with host profile Production: it was attached; 1 setting was put right, in
        maintenance mode.
      non_compliant:
        - NTP servers do not match (host nothing, profile 192.0.2.4)
      non_compliant_after: []
      path: /Berlin/host/Production/esx01.example.com
      profile: Production
      reboot_required: false
failed_hosts:
  description:
    - Names of the hosts that failed.
  returned: always, unless vCenter cannot be used at all and O(on_host_failure=fail)
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmware.vmware.plugins.module_utils.argument_spec import base_argument_spec

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profile_apply import apply_profiles
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import ProfiledHost
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_bulk, vsphere_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    parse_each,
    require_pyvmomi,
    vcenter_endpoint,
    vcenter_session,
)


def argument_spec() -> dict[str, t.Any]:
    spec: dict[str, t.Any] = base_argument_spec()
    spec.update(
        hosts={
            "type": "list",
            "elements": "dict",
            "required": True,
            # Only the name is required: anything else that is missing must fail its own host, not all of them.
            "options": {
                "name": {"type": "str", "required": True},
                "profile": {"type": "str"},
                "answers": {"type": "dict", "default": {}},
                "secret_answers": {"type": "dict", "default": {}, "no_log": True},
                # What it says is no secret.
                "update_secrets": {"type": "bool", "default": False, "no_log": False},
                "replace": {"type": "bool", "default": False},
                "enter_maintenance_mode": {"type": "bool", "default": True},
            },
        },
        parallel={"type": "int", "default": 16},
        timeout={"type": "int", "default": 600},
        maintenance_timeout={"type": "int", "default": 600},
        on_host_failure={"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    )
    return spec


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when the options are wrong or a library is missing, and also, with
    on_host_failure=fail, when vCenter cannot be used at all; with report that is every host's failure.
    """
    require_pyvmomi()
    # Working out what a profile changes is one call, in which vCenter asks the host.
    endpoint = vcenter_endpoint(params, float(params["timeout"]))
    for option in ("parallel", "timeout", "maintenance_timeout"):
        if params[option] < 1:
            raise EsxiPxeError(f"{option} must be 1 or more, not {params[option]}.")
    results = Results()
    hosts = parse_each(params["hosts"], ProfiledHost.parse, results)
    if hosts:
        try:
            _apply(endpoint, hosts, results, params, check_mode)
        except EsxiPxeError as error:
            if params["on_host_failure"] == "fail":
                raise
            # One vCenter that is down must not stop the hosts of another one in the same play.
            for host in hosts:
                if host.name not in results.hosts:
                    results.fail(host.name, f"{host.name} was not brought to comply: {error}", action="none")
    return results.as_return(params["on_host_failure"])


def _apply(
    endpoint: Endpoint, hosts: t.Sequence[ProfiledHost], results: Results, params: t.Mapping[str, t.Any], check: bool
) -> None:
    with vcenter_session(endpoint, params["username"], params["password"]) as session:
        apply_profiles(
            session,
            hosts,
            results,
            parallel=params["parallel"],
            timeout=params["timeout"],
            maintenance_timeout=params["maintenance_timeout"],
            check_mode=check,
        )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with vsphere_errors(module):
        result = run(module.params, module.check_mode)
    exit_bulk(module, result)


if __name__ == "__main__":
    main()
