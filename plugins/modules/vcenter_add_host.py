#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter_add_host
short_description: Adds ESXi hosts to a vCenter with certificates that are known before
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Adds ESXi hosts to clusters, or as standalone hosts to folders, of one vCenter. One call and one session serve any
    number of hosts.
  - A host is added with the certificate that it reported itself when it was installed
    (M(pxemanager.esxi.esxi_firstboot_wait) returns it). Before that, the module looks at the certificate that answers
    at the host's address, and refuses when it is another one.
  - vCenter is told the certificate (from API version 9.0 on) or its SHA-1 thumbprint (below), and checks it once more.
  - A host that is in its place already is left alone. A host that is somewhere else in this vCenter, or in its place
    but not connected, is reported as failed. This module neither moves nor reconnects hosts.
  - No host is ever taken away from another vCenter.
requirements:
  - pyVmomi
extends_documentation_fragment:
  - vmware.vmware.base_options
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_vcenter
attributes:
  check_mode:
    support: full
    details:
      - Hosts that would be added are asked for their certificates, so that a wrong one is found.
  diff_mode:
    support: full
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
          - Name under which the host is added, normally its FQDN. vCenter connects to the host by this name.
          - Hosts that are in vCenter are recognised by it, upper and lower case being the same.
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
      username:
        description:
          - User of the host that vCenter logs in as, once, to take the host in.
        type: str
        default: root
      password:
        description:
          - Password of O(hosts[].username).
          - It must be given.
        type: str
      certificate:
        description:
          - The host's own certificate (PEM), as it reported it through pbconnect.
          - It must be given, unless O(hosts[].trust_on_first_use=true).
        type: str
      trust_on_first_use:
        description:
          - Adds the host with whatever certificate answers at its address, when no O(hosts[].certificate) is given.
          - Nobody confirms then that it is the host. The result says that this was done, and which certificate it was.
        type: bool
        default: false
      datacenter:
        description:
          - Name of the datacenter, or its path, such as V(/Europe/Berlin).
          - It must be given.
        type: str
      cluster:
        description:
          - Name of the cluster, or its path, such as V(/Berlin/host/Rack 1/Cluster).
          - Either this or O(hosts[].folder) must be given.
        type: str
      folder:
        description:
          - Folder for a standalone host, as a path below the datacenter's host folder, such as V(Edge/Rack 1), or from
            the root, such as V(/Berlin/host/Edge/Rack 1).
          - V(/) is the datacenter's host folder itself.
        type: str
  parallel:
    description:
      - How many hosts are looked at and added at a time.
    type: int
    default: 16
  timeout:
    description:
      - Seconds that vCenter may take to add one host. After that the host is reported as failed; vCenter may still
        finish it.
    type: int
    default: 600
  on_host_failure:
    description:
      - What happens when hosts fail. All other hosts are done in either case.
      - V(fail) fails the task and names every failed host.
      - V(report) does not fail the task. RV(failed_hosts) says which hosts failed. When vCenter itself cannot be used,
        that is every host's failure.
    type: str
    choices:
      - fail
      - report
    default: fail
notes:
  - All names are case sensitive, except O(hosts[].name).
  - The certificates of the hosts are fetched directly, not through O(proxy_host).
  - The vCenter user needs the privileges C(Host.Inventory.AddHostToCluster) or C(Host.Inventory.AddStandaloneHost).
seealso:
  - module: pxemanager.esxi.esxi_firstboot_wait
  - module: pxemanager.esxi.esxi_root_password
  - module: vmware.vmware.esxi_host
    description: Adds one host, and trusts the certificate that answers.
"""

EXAMPLES = r"""
- name: Add a host to its cluster, with the certificate that it reported
  pxemanager.esxi.vcenter_add_host:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: esx01.example.com
        address: 192.168.77.21
        password: "{{ esxi_root_password }}"
        certificate: "{{ ready.hosts['esx01.example.com'].status.certificate }}"
        datacenter: Berlin
        cluster: Production
  delegate_to: localhost

- name: Add a standalone host that never reported a certificate
  pxemanager.esxi.vcenter_add_host:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
    hosts:
      - name: edge07.example.com
        password: "{{ esxi_root_password }}"
        datacenter: Berlin
        folder: Edge
        trust_on_first_use: true
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
        - Whether the host was added.
      returned: always
      type: bool
    failed:
      description:
        - Whether the host could not be brought into its place.
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
        - V(added) or V(present). V(none) when the host failed and nothing was done.
      returned: always
      type: str
    path:
      description:
        - Where the host is in vCenter. A standalone host is shown in its folder.
      returned: when the host is or would be in vCenter
      type: str
  sample:
    esx01.example.com:
      action: added
      changed: true
      failed: false
      msg: esx01.example.com was added at /Berlin/host/Production/esx01.example.com.
      path: /Berlin/host/Production/esx01.example.com
failed_hosts:
  description:
    - Names of the hosts that failed.
  returned: always, unless vCenter cannot be used at all and O(on_host_failure=fail)
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.vmware.vmware.plugins.module_utils.argument_spec import base_argument_spec

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError, MissingLibraryError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_hosts import HostToAdd, add_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    Session,
    parse_each,
    require_pyvmomi,
    verifying_context,
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
                "address": {"type": "str"},
                "port": {"type": "int", "default": 443},
                "username": {"type": "str", "default": "root"},
                "password": {"type": "str", "no_log": True},
                "certificate": {"type": "str"},
                "trust_on_first_use": {"type": "bool", "default": False},
                "datacenter": {"type": "str"},
                "cluster": {"type": "str"},
                "folder": {"type": "str"},
            },
        },
        parallel={"type": "int", "default": 16},
        timeout={"type": "int", "default": 600},
        on_host_failure={"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    )
    return spec


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when the options are wrong or a library is missing, and also, with
    on_host_failure=fail, when vCenter cannot be used at all; with report that is every host's failure.
    """
    require_pyvmomi()
    for option in ("hostname", "username", "password"):
        if not params[option]:
            raise EsxiPxeError(f"No {option} of the vCenter is given: set {option} or VMWARE_{_VARIABLES[option]}.")
    for option in ("parallel", "timeout"):
        if params[option] < 1:
            raise EsxiPxeError(f"{option} must be 1 or more, not {params[option]}.")
    results = Results()
    hosts = parse_each(params["hosts"], HostToAdd.parse, results)
    endpoint = Endpoint(
        params["hostname"],
        params["port"],
        verifying_context(params["validate_certs"]),
        proxy_host=params["proxy_host"],
        proxy_port=params["proxy_port"],
    )
    if hosts:
        try:
            _add(endpoint, hosts, results, params, check_mode)
        except EsxiPxeError as error:
            if params["on_host_failure"] == "fail":
                raise
            # One vCenter that is down must not stop the hosts of another one in the same play.
            for host in hosts:
                if host.name not in results.hosts:
                    results.fail(host.name, f"{host.name} was not added: {error}", action="none")
    return results.as_return(params["on_host_failure"])


def _add(
    endpoint: Endpoint, hosts: t.Sequence[HostToAdd], results: Results, params: t.Mapping[str, t.Any], check_mode: bool
) -> None:
    with Session(endpoint) as session:
        if not session.is_vcenter:
            raise EsxiPxeError(f"{endpoint} is no vCenter ({session.content.about.fullName}).")
        session.login(params["username"], params["password"])
        add_hosts(
            session,
            hosts,
            results,
            parallel=params["parallel"],
            timeout=params["timeout"],
            check_mode=check_mode,
        )


_VARIABLES = {"hostname": "HOST", "username": "USER", "password": "PASSWORD"}


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except MissingLibraryError as error:
        module.fail_json(msg=missing_required_lib(error.library), exception=error.trace)
    except EsxiPxeError as error:
        module.fail_json(msg=str(error))
    if result["failed"]:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
