#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter_linked_info
short_description: Lists the vCenters of a linked-mode group and every ESXi host that they manage
version_added: 1.0.0
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Asks the Lookup Service of one vCenter which vCenters are linked with it, at every run, and reads the ESXi hosts of
    all of them at the same time, each in one retrieve however many hosts there are.
  - A vCenter without a Lookup Service is a group of one, and RV(linked) says so.
  - A vCenter that cannot be asked is named in RV(unreachable) and in a warning; the hosts of the others are returned.
    Only when the vCenter O(hostname) itself cannot be used the task fails.
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
notes:
  - O(username), O(password), O(validate_certs) and O(proxy_host) count for all vCenters of the group. They are one
    single sign-on domain, so one login serves all.
  - What the user may not see in a vCenter is not there for this module.
seealso:
  - module: pxemanager.esxi.vcenter_live_hosts
"""

EXAMPLES = r"""
- name: See all hosts of all linked vCenters
  pxemanager.esxi.vcenter_linked_info:
    hostname: vcenter.example.com
    username: "{{ vcenter_username }}"
    password: "{{ vcenter_password }}"
  delegate_to: localhost
  register: group

- name: Say where a host is
  ansible.builtin.debug:
    msg: "{{ group.esxi_hosts | selectattr('name', 'equalto', 'esx01.example.com') | map(attribute='vcenter') | list }}"
"""

RETURN = r"""
linked:
  description:
    - Whether a Lookup Service said which vCenters there are. Without one the vCenter counts as a group of one.
  returned: success
  type: bool
complete:
  description:
    - Whether everything is known, the vCenters of the group and the hosts of each of them.
  returned: success
  type: bool
unreachable:
  description:
    - Addresses of the vCenters whose hosts are not known.
  returned: success
  type: list
  elements: str
  sample: []
problems:
  description:
    - A sentence for each thing that is not known.
  returned: success
  type: list
  elements: str
  sample: []
vcenters:
  description:
    - The vCenters of the group. The one that was asked is the first.
  returned: success
  type: list
  elements: dict
  contains:
    vcenter:
      description: Host and port of its API.
      type: str
    name:
      description: Its name in the group.
      type: str
    instance_uuid:
      description: Its instance UUID.
      type: str
    version:
      description: Its version. Empty when it could not be asked.
      type: str
    reachable:
      description: Whether its hosts are known.
      type: bool
    hosts:
      description: How many ESXi hosts it manages.
      type: int
  sample:
    - hosts: 2
      instance_uuid: dbed6e0c-bd88-4ef6-b594-21283e1c677f
      name: Berlin
      reachable: true
      vcenter: vcenter.example.com:443
      version: 8.0.3
esxi_hosts:
  description:
    - The ESXi hosts that the group manages. A host that two vCenters have is in the list twice.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name under which the vCenter has it.
      type: str
    vcenter:
      description: Host and port of the vCenter's API.
      type: str
    path:
      description: Where it is in that vCenter.
      type: str
    connection_state:
      description: V(connected), V(disconnected) or V(notResponding).
      type: str
    maintenance_mode:
      description: Whether it is in maintenance mode. V(none) when the vCenter does not say.
      type: bool
    powered_on:
      description: How many powered-on machines it has. V(none) when the vCenter does not say.
      type: int
    uuid:
      description: UUID of its hardware.
      type: str
    addresses:
      description: IP addresses of its first VMkernel interface, where the installer puts the management network.
      type: list
      elements: str
    macs:
      description: MAC addresses of its physical NICs.
      type: list
      elements: str
  sample:
    - addresses: [192.168.77.21]
      connection_state: connected
      macs: ["00:50:56:aa:01:01", "00:50:56:aa:01:02"]
      maintenance_mode: false
      name: esx01.example.com
      path: /Berlin/host/Production/esx01.example.com
      powered_on: 12
      uuid: 30373237-3132-4d32-3235-303131303256
      vcenter: vcenter.example.com:443
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vmware.vmware.plugins.module_utils.argument_spec import base_argument_spec

from ansible_collections.pxemanager.esxi.plugins.module_utils._linked import entry_point, read_group
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import Group
from ansible_collections.pxemanager.esxi.plugins.module_utils._module import vsphere_errors


def as_return(group: Group) -> dict[str, t.Any]:
    """The module's return value."""
    return {
        "changed": False,
        "linked": group.linked,
        "complete": not group.gaps,
        "unreachable": [member.vcenter for member in group.members if member.problem],
        "problems": group.gaps,
        "vcenters": [
            {
                "vcenter": member.vcenter,
                "name": member.name,
                "instance_uuid": member.instance_uuid,
                "version": member.version,
                "reachable": member.problem is None,
                "hosts": len(member.hosts),
            }
            for member in group.members
        ],
        "esxi_hosts": [
            {
                "name": host.name,
                "vcenter": host.vcenter,
                "path": host.path,
                "connection_state": host.state,
                "maintenance_mode": host.maintenance,
                "powered_on": host.powered_on,
                "uuid": host.uuid,
                "addresses": list(host.addresses),
                "macs": list(host.macs),
            }
            for host in group.hosts
        ],
    }


def main() -> None:
    spec: dict[str, t.Any] = base_argument_spec()
    spec.update(timeout={"type": "int", "default": 60})
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    with vsphere_errors(module):
        group = read_group(entry_point(module.params), module.params["username"], module.params["password"])
    for gap in group.gaps:
        module.warn(gap)
    module.exit_json(**as_return(group))


if __name__ == "__main__":
    main()
