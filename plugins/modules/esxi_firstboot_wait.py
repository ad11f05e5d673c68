#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_firstboot_wait
short_description: Wait until ESXi hosts have installed themselves
version_added: "1.0.0"
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Waits on a PXE server until hosts that were armed with M(pxemanager.esxi.esxi_pxe_host) have reached a stage, by
    reading the status files that the pbconnect service writes when a host reports.
  - One task waits for any number of hosts, each with its own deadline, over one call that is open at a time. It shows
    who is where, and for how long, on each change and at least once a minute.
  - A connection that is lost while waiting is opened again until the deadlines are over.
  - A host that is out of time, a failed install and a failed post action are told apart. Each host that did not arrive
    has a sentence that says what to do.
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.info_module
  - pxemanager.esxi.attributes.action
  - pxemanager.esxi.attributes.actiongroup_pxe
  - pxemanager.esxi.options.config
attributes:
  check_mode:
    details:
      - Returns at once with the present stages. A host that is still on its way is not a failure then.
  platform:
    platforms: posix
options:
  hosts:
    description:
      - The hosts to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the host as it was published.
        type: str
        required: true
      timeout:
        description:
          - Seconds to wait for this host, from the start of the task.
          - O(timeout) by default.
        type: int
      install:
        description:
          - The install to wait for, as RV(pxemanager.esxi.esxi_pxe_host#module:hosts) has it. A later one will do as
            well.
          - By default the one that is under way or was the last when the task begins.
        type: str
      stage:
        description:
          - The stage to wait for with this host.
          - O(stage) by default.
        type: str
        choices:
          - installing
          - installed
          - ready
  stage:
    description:
      - The stage to wait for. A host that is further than that has reached it.
      - V(installing) is over when the installer has started, V(installed) when ESXi is on the disk, V(ready) when the
        first boot and its post actions are done.
      - Hosts with Secure Boot do not get to V(ready) by themselves, because ESXi does not run the first boot's script
        then. Wait for V(installed) with them, and use M(pxemanager.esxi.esxi_post_actions).
    type: str
    choices:
      - installing
      - installed
      - ready
    default: ready
  timeout:
    description:
      - Seconds to wait for each host that has no timeout of its own.
    type: int
    default: 3600
  poll:
    description:
      - Seconds between two looks at the status files on the PXE server.
    type: float
    default: 2.0
  on_host_failure:
    description:
      - What becomes of the task when a host did not reach O(stage).
      - With V(fail) it fails and names each such host. With V(report) it does not, and whoever runs it looks at
        RV(failed_hosts).
      - Either way all the others are waited for first.
    type: str
    choices:
      - fail
      - report
    default: fail
  site:
    description:
      - What lines for people call this PXE server. Useful where one task waits on several.
    type: str
    default: ""
  background:
    description:
      - For a loop over several PXE servers, which Ansible would wait for one after the other.
      - With V(true), this call of the loop begins to wait and returns at once, without hosts. The first later call of
        the same loop with V(false), which must be the last one, waits as well, and returns the hosts of all.
      - A PXE server that cannot be asked at all is then the failure of its own hosts, not of the task.
      - Has no effect in check mode.
    type: bool
    default: false
  hold:
    description:
      - Seconds for which one call on the PXE server stays open when nothing happens, at most 45.
      - Set by the action plugin. No use in a task.
    type: float
    default: 0.0
  seen:
    description:
      - What the action plugin has seen of each host.
      - Set by the action plugin. No use in a task.
    type: dict
    default: {}
seealso:
  - module: pxemanager.esxi.esxi_pxe_host
"""

EXAMPLES = r"""
- name: Wait until all hosts of the play are ready
  pxemanager.esxi.esxi_firstboot_wait:
    hosts:
      - name: esx01.example.com
      - name: esx02.example.com
        # A big machine that takes long to test its memory.
        timeout: 7200
    timeout: 2700
  delegate_to: pxe01.example.com
  run_once: true

- name: Wait on two PXE servers at once
  pxemanager.esxi.esxi_firstboot_wait:
    hosts: "{{ hosts_of[server] }}"
    site: "{{ server }}"
    background: "{{ not ansible_loop.last }}"
  delegate_to: "{{ server }}"
  run_once: true
  loop: [pxe01.berlin.example.com, pxe01.tokyo.example.com]
  loop_control:
    loop_var: server
    extended: true

- name: Wait for a host with Secure Boot, and go on with those that arrived
  pxemanager.esxi.esxi_firstboot_wait:
    hosts:
      - name: esx03.example.com
    stage: installed
    on_host_failure: report
  delegate_to: pxe01.example.com
  register: arrived
"""

RETURN = r"""
hosts:
  description: A result for each host, by its name.
  returned: success or a host failed
  type: dict
  contains:
    reached:
      description: Whether the host reached O(stage).
      type: bool
    stage:
      description: The stage that the host is at. Null if its status is not known.
      type: str
      sample: ready
    kind:
      description:
        - V(ok) for a host that reached O(stage).
        - V(timeout) when its time was over.
        - V(install_failed) when the installer reported a failure.
        - V(post_action_failed) when ESXi is installed, and a post action ended with an exit code that was not to be
          ignored.
        - V(expired) when the host was not started before its arming ended.
        - V(not_armed) when it was published, but no install of it was to be waited for, or somebody disarmed it.
        - V(not_published) when the PXE server does not know the host.
        - V(unreadable) when its status file cannot be understood.
        - V(pending) in check mode for a host that is on its way.
      type: str
      sample: ok
    msg:
      description: One sentence that says what is the matter and what to do.
      type: str
      sample: esx01.example.com is ready.
    install:
      description: Id of the install. Null if there was none.
      type: str
      sample: 20261122T200000Z-3f2a9c
    status:
      description:
        - The host's status file, with the certificate that the host reported, the exit codes of its post actions and
          the time of each stage.
        - Null if it is not known.
      type: dict
    changed:
      description: Always V(false), because waiting changes nothing.
      type: bool
    failed:
      description: Whether the host did not reach O(stage).
      type: bool
failed_hosts:
  description: Names of the hosts that did not reach O(stage), sorted.
  returned: success or a host failed
  type: list
  elements: str
  sample: []
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ConfigError, load
from ansible_collections.pxemanager.esxi.plugins.module_utils._wait import (
    HOLD_LIMIT,
    Observer,
    argument_spec,
    server_now,
)


def main() -> t.NoReturn:
    """One look at the PXE server, held open until something is to be seen. The action plugin makes a wait of it."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        layout = Layout.of(load(module.params["config"]))
    except ConfigError as exc:
        module.fail_json(msg=str(exc))
    observer = Observer(layout, [host["name"] for host in module.params["hosts"]])
    hold = 0.0 if module.check_mode else min(max(module.params["hold"], 0.0), HOLD_LIMIT)
    poll = max(module.params["poll"], 0.1)
    end = time.monotonic() + hold
    reports = observer.look(module.params["seen"])
    while not reports and time.monotonic() < end:
        time.sleep(max(0.0, min(poll, end - time.monotonic())))
        reports = observer.look(module.params["seen"])
    module.exit_json(changed=False, now=server_now(), hosts=reports)
    raise AssertionError("exit_json does not return")


if __name__ == "__main__":
    main()
