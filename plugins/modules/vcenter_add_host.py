#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter_add_host
short_description: Brings ESXi hosts into a vCenter with certificates that are known before
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Brings ESXi hosts to where they belong in one vCenter, a cluster or, as standalone hosts, a folder. One call and one
    session serve any number of hosts.
  - A host that is not there is added. A host that is there but not connected is reconnected, with the certificate and
    the password that it has now; so a host that was reinstalled keeps its old place. A host that is somewhere else in
    the same datacenter is moved. A host that is as it should be is left alone.
  - A host is added or reconnected with the certificate that it reported itself when it was installed
    (M(pxemanager.esxi.esxi_firstboot_wait) returns it). Before that, the module looks at the certificate that answers
    at the host's address, and refuses when it is another one.
  - vCenter is told the certificate (from API version 9.0 on) or its SHA-1 thumbprint (below), and checks it once more.
  - What passes is tried again with growing pauses, such as a host that does not answer yet or a vCenter that is busy or
    restarts. A wrong password is tried once.
  - No host is ever taken away from another vCenter.
requirements:
  - pyVmomi
extends_documentation_fragment:
  - vmware.vmware.base_options
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.action
  - pxemanager.esxi.attributes.actiongroup_vcenter
  - pxemanager.esxi.options.on_host_failure_vcenter
attributes:
  action:
    details:
      - It shows how far a run with ten hosts or more has come, when the module runs on the controller.
  check_mode:
    support: full
    details:
      - Nothing is called that changes anything. Hosts that would be added or reconnected are asked for their
        certificates, so that a wrong one is found.
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
          - Hosts that are in vCenter are recognised by it, upper and lower case being the same. A host that vCenter has
            under O(hosts[].address) instead is taken for the same one, and keeps that name.
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
          - User of the host that vCenter logs in as, once, to take the host in or to reconnect it.
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
          - Adds or reconnects the host with whatever certificate answers at its address, when no
            O(hosts[].certificate) is given.
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
      create_folders:
        description:
          - Creates those folders of O(hosts[].folder) that do not exist. Without it, a missing folder is a failure.
          - Clusters and datacenters are never created.
        type: bool
        default: false
      reconnect:
        description:
          - What happens with a host that vCenter has but is not connected to, because it was reinstalled, was
            disconnected by somebody, or does not respond.
          - When V(true), it is reconnected with O(hosts[].username), O(hosts[].password) and its certificate, and stays
            where it is. When V(false), it is reported as failed.
          - A connected host is reconnected too if it presents O(hosts[].certificate) and vCenter still goes by another
            one, which means that vCenter has not noticed the reinstall yet.
        type: bool
        default: true
      move:
        description:
          - What happens with a host that is in another cluster or folder of the same datacenter. When V(true), it is
            moved; when V(false), it is reported as failed.
          - A host that leaves a cluster is brought into maintenance mode for that, and taken out of it afterwards. When
            virtual machines run on it, that is not done, and the host is reported as failed.
          - A host in another datacenter is always reported as failed. vCenter cannot move it.
        type: bool
        default: true
      license:
        description:
          - Key of the licence that the host gets, as vCenter's licences have it.
          - Without it, the licence is left as it is. A host that is added without one runs in evaluation mode.
        type: str
      lockdown_mode:
        description:
          - The lockdown mode that the host is brought into once it is connected.
          - Without it, the lockdown mode is left as it is.
        type: str
        choices:
          - disabled
          - normal
          - strict
      leave_maintenance:
        description:
          - Whether a host that is in maintenance mode is taken out of it.
        type: bool
        default: false
  parallel:
    description:
      - How many hosts are looked at and added at a time.
    type: int
    default: 16
  timeout:
    description:
      - Seconds that each task of vCenter may take. After that the host is reported as failed; vCenter may still finish
        it.
    type: int
    default: 600
  retry_for:
    description:
      - Seconds for which a host is tried again, with growing pauses, when what failed may pass. That is a host that
        does not answer here or to vCenter, a task that is in progress, and a connection to vCenter that is lost or
        answered with status 503.
      - V(0) tries everything once.
      - The first connection to vCenter is not tried again.
    type: int
    default: 120
  progress_file:
    description:
      - A file, on the machine where the module runs, that gets a line whenever some hosts have come further.
      - Usually not given. The action plugin of the module sets it and shows the lines while the task runs, when the
        module runs on the controller itself.
    type: path
notes:
  - All names are case sensitive, except O(hosts[].name).
  - The certificates of the hosts are fetched directly, not through O(proxy_host).
  - The vCenter user needs C(Host.Inventory.AddHostToCluster) or C(Host.Inventory.AddStandaloneHost) to add,
    C(Host.Config.Connection) to reconnect, C(Host.Inventory.MoveHost) and C(Host.Config.Maintenance) to move,
    C(Folder.Create), C(Global.Licenses) and C(Host.Config.Settings) for the options that need them.
  - A run that is killed while it moves a host may leave the host in maintenance mode; O(hosts[].leave_maintenance)
    takes it out.
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

- name: See which hosts a new place in the inventory would move, and with which licence and lockdown mode they would end
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
        folder: Edge/Rack 7
        create_folders: true
        license: "{{ esxi_license }}"
        lockdown_mode: normal
        leave_maintenance: true
  check_mode: true
  diff: true
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
        - Whether anything was done with the host.
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
        - The most that was done, V(added), V(moved), V(reconnected) or V(configured). V(present) when nothing was to be
          done, V(none) when the host failed and nothing was done.
      returned: always
      type: str
    steps:
      description:
        - What was done, in this order. A step is one of V(create_folder), V(add), V(reconnect), V(enter_maintenance),
          V(move), V(leave_maintenance), V(license) and V(lockdown).
      returned: always, except for a host whose options are wrong
      type: list
      elements: str
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
      steps:
        - add
failed_hosts:
  description:
    - Names of the hosts that failed.
  returned: always, unless vCenter cannot be used at all and O(on_host_failure=fail)
  type: list
  elements: str
  sample: []
"""

import typing as t
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmware.vmware.plugins.module_utils.argument_spec import base_argument_spec

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import exit_bulk, vsphere_errors
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import LOCKDOWN_MODES, HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_hosts import add_hosts
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
                "address": {"type": "str"},
                "port": {"type": "int", "default": 443},
                "username": {"type": "str", "default": "root"},
                "password": {"type": "str", "no_log": True},
                "certificate": {"type": "str"},
                "trust_on_first_use": {"type": "bool", "default": False},
                "datacenter": {"type": "str"},
                "cluster": {"type": "str"},
                "folder": {"type": "str"},
                "create_folders": {"type": "bool", "default": False},
                "reconnect": {"type": "bool", "default": True},
                "move": {"type": "bool", "default": True},
                "license": {"type": "str", "no_log": True},
                "lockdown_mode": {"type": "str", "choices": list(LOCKDOWN_MODES)},
                "leave_maintenance": {"type": "bool", "default": False},
            },
        },
        parallel={"type": "int", "default": 16},
        timeout={"type": "int", "default": 600},
        retry_for={"type": "int", "default": 120},
        progress_file={"type": "path"},
        on_host_failure={"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    )
    return spec


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's return value. Raises EsxiPxeError when the options are wrong or a library is missing, and also, with
    on_host_failure=fail, when vCenter cannot be used at all; with report that is every host's failure.
    """
    require_pyvmomi()
    endpoint = vcenter_endpoint(params)
    for option in ("parallel", "timeout"):
        if params[option] < 1:
            raise EsxiPxeError(f"{option} must be 1 or more, not {params[option]}.")
    if params["retry_for"] < 0:
        raise EsxiPxeError(f"retry_for must be 0 or more, not {params['retry_for']}.")
    results = Results()
    hosts = parse_each(params["hosts"], HostToAdd.parse, results)
    if hosts:
        try:
            _add(endpoint, hosts, results, params, check_mode)
        except EsxiPxeError as error:
            if params["on_host_failure"] == "fail":
                raise
            # One vCenter that is down must not stop the hosts of another one in the same play.
            for host in hosts:
                if host.name not in results.hosts:
                    results.fail(host.name, f"{host.name} was left as it is: {error}", action="none", steps=[])
    return results.as_return(params["on_host_failure"])


def _add(
    endpoint: Endpoint, hosts: t.Sequence[HostToAdd], results: Results, params: t.Mapping[str, t.Any], check_mode: bool
) -> None:
    with vcenter_session(endpoint, params["username"], params["password"]) as session:
        add_hosts(
            session,
            hosts,
            results,
            parallel=params["parallel"],
            timeout=params["timeout"],
            retry_for=params["retry_for"],
            check_mode=check_mode,
            progress=_writer(params["progress_file"]),
        )


def _writer(path: t.Optional[str]) -> t.Callable[[str], None]:
    """What puts a line into the progress file; nothing of it may stop the work."""

    def write(line: str) -> None:
        if path is not None:
            with suppress(OSError), open(path, "a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")

    return write


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    with vsphere_errors(module):
        result = run(module.params, module.check_mode)
    exit_bulk(module, result)


if __name__ == "__main__":
    main()
