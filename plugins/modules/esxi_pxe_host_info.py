#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_pxe_host_info
short_description: List the ESXi hosts of a PXE server, and what is not as it should be
version_added: "1.0.0"
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Lists the hosts that are published on a PXE server, with boot mode, stage, image, addresses and times.
  - Says of each host what is not as it should be, such as missing links, and a boot mode that does not fit its stage.
  - Lists what belongs to no published host, such as what a killed run has left. Only when no host is left out by an
    option.
  - What looks wrong is looked at once more under the host's lock, so a run that publishes at the same moment is not
    taken for a mistake.
  - It returns no secrets, neither keys of kickstarts nor tokens nor passwords.
  - This module runs on the PXE server, as root, and is one call for ten thousand hosts.
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.info_module
  - pxemanager.esxi.attributes.actiongroup_pxe
  - pxemanager.esxi.options.config
attributes:
  platform:
    platforms: posix
options:
  names:
    description:
      - Only these hosts. One that is not published is not in the answer.
    type: list
    elements: str
  stages:
    description:
      - Only hosts at one of these stages.
    type: list
    elements: str
    choices:
      - defined
      - armed
      - installing
      - installed
      - ready
      - failed
  mode:
    description:
      - Only hosts with this boot mode.
    type: str
    choices:
      - install
      - local
  owners:
    description:
      - Only hosts with one of these labels, see O(pxemanager.esxi.esxi_pxe_host#module:owner). The empty text means
        hosts without a label.
    type: list
    elements: str
  with_problems:
    description:
      - Only hosts of which something is not as it should be.
    type: bool
    default: false
seealso:
  - module: pxemanager.esxi.esxi_pxe_host
"""

EXAMPLES = r"""
- name: List all hosts of a PXE server
  pxemanager.esxi.esxi_pxe_host_info:
  delegate_to: pxe01.example.com
  become: true
  register: there

- name: Say which of them wait for their installer
  ansible.builtin.debug:
    msg: "{{ there.hosts | dict2items | selectattr('value.stage', 'equalto', 'armed') | map(attribute='key') | list }}"

- name: Fail when anything on the PXE server is not as it should be
  pxemanager.esxi.esxi_pxe_host_info:
    with_problems: true
  delegate_to: pxe01.example.com
  become: true
  register: wrong
  failed_when: wrong.hosts | length > 0
"""

RETURN = r"""
hosts:
  description:
    - The hosts, by name.
  returned: success
  type: dict
  contains:
    name:
      description: The host's name.
      type: str
    owner:
      description: The label of the inventory that has published it. Empty for none.
      type: str
    macs:
      description: MAC addresses that it may boot from.
      type: list
      elements: str
    address:
      description: Its management address.
      type: str
    boot_address:
      description: The address that DHCP gives it.
      type: str
    image:
      description: The image of its definition.
      type: str
    firmware:
      description: V(auto), V(bios) or V(uefi).
      type: str
    mode:
      description: The boot mode, V(install) or V(local). V(none) when its link is missing.
      type: str
    stage:
      description: The stage, such as V(ready). V(none) when its status is missing.
      type: str
    since:
      description: When it reached that stage.
      type: str
    age:
      description: Seconds since then.
      type: int
    published:
      description: When it was published here for the first time.
      type: str
    last_heard:
      description: When the machine itself called last, for its kickstart or with a notification. V(none) for never.
      type: str
    heard_age:
      description: Seconds since then.
      type: int
    updated:
      description: When its status changed last.
      type: str
    expires:
      description: When its arming ends by itself.
      type: str
    finished:
      description: When it had its root password and was in vCenter.
      type: str
    install:
      description: Id of its last install.
      type: str
    failure:
      description: Why its install has failed.
      type: str
    problems:
      description: A sentence for each thing that is not as it should be.
      type: list
      elements: str
  sample:
    esx01.example.com:
      address: 192.168.77.21
      age: 86400
      boot_address: 192.168.77.21
      expires:
      failure:
      finished: "2026-11-22T20:21:40Z"
      firmware: auto
      heard_age: 86400
      image: esxi-8.0.3
      install: 20261122T200000Z-3f2a9c
      last_heard: "2026-11-22T20:20:00Z"
      macs:
        - "00:50:56:aa:bb:01"
      mode: local
      name: esx01.example.com
      owner: ""
      problems: []
      published: "2026-11-22T19:59:00Z"
      since: "2026-11-22T20:20:00Z"
      stage: ready
      updated: "2026-11-22T20:21:40Z"
leftovers:
  description:
    - What is on the PXE server and belongs to no published host. Empty when an option leaves hosts out.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(host) for parts of a host that has no record, V(link) for entries of a MAC address that no host has,
          V(temporary) for a file that a killed run did not finish.
      type: str
    name:
      description: Name of the host, MAC address or path.
      type: str
    msg:
      description: What it is and what to do about it.
      type: str
  sample: []
problems:
  description:
    - A sentence for each thing of the PXE server as a whole that is not as it should be.
  returned: success
  type: list
  elements: str
  sample: []
published:
  description:
    - How many hosts are published, whichever are returned. V(none) when O(names) is given.
  returned: success
  type: int
  sample: 1
stages:
  description:
    - How many of the returned hosts are at each stage.
  returned: success
  type: dict
  sample:
    ready: 1
msg:
  description: One line about what was found.
  returned: success
  type: str
  sample: 1 host, 1 ready, no problems.
"""

import collections
import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._published import Published, Survey, survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH, load
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES


def wanted(host: Published, params: t.Mapping[str, t.Any]) -> bool:
    """Whether the options ask for a host."""
    return (
        (params["stages"] is None or host.stage in params["stages"])
        and (params["mode"] is None or host.mode == params["mode"])
        and (params["owners"] is None or host.owner in params["owners"])
        and (bool(host.problems) or not params["with_problems"])
    )


def summary(hosts: t.Sequence[Published], found: Survey, stages: t.Mapping[str, int]) -> str:
    wrong = sum(1 for host in hosts if host.problems) + len(found.leftovers) + len(found.problems)
    counts = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    return (
        f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}{', ' if counts else ''}{counts}, "
        f"{wrong or 'no'} problem{'' if wrong == 1 else 's'}."
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str"},
            "stages": {"type": "list", "elements": "str", "choices": list(STAGES)},
            "mode": {"type": "str", "choices": ["install", "local"]},
            "owners": {"type": "list", "elements": "str"},
            "with_problems": {"type": "bool", "default": False},
            "config": {"type": "path", "default": CONFIG_PATH},
        },
        supports_check_mode=True,
    )
    params = module.params
    now = datetime.datetime.now(datetime.timezone.utc)
    names = None if params["names"] is None else [name.lower() for name in params["names"]]
    try:
        found = survey(load(params["config"]), now, names)
    except EsxiPxeError as error:
        module.fail_json(msg=f"{error}.".replace("..", "."))
    except OSError as error:
        module.fail_json(msg=f"The disk of the PXE server could not be read: {error}.")
    hosts = [host for host in found.hosts.values() if wanted(host, params)]
    if len(hosts) < len(found.hosts):
        found = Survey(found.hosts, (), found.problems)
    counted = collections.Counter(host.stage for host in hosts)
    stages: dict[str, int] = {stage: counted[stage] for stage in STAGES if counted[stage]}
    module.exit_json(
        changed=False,
        hosts={host.name: host.to_return(now) for host in hosts},
        leftovers=[{"kind": one.kind, "name": one.name, "msg": one.msg} for one in found.leftovers],
        problems=list(found.problems),
        published=len(found.hosts) if names is None else None,
        stages=stages,
        msg=summary(hosts, found, stages),
    )


if __name__ == "__main__":
    main()
