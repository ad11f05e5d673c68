#!/usr/bin/python
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: esxi_pxe_host
short_description: Publish, arm, disarm and remove ESXi hosts on a PXE server
version_added: "1.0.0"
author:
  - The pxemanager.esxi authors (@pxemanager)
description:
  - Brings ESXi hosts into the boot tree of a PXE server that the role P(pxemanager.esxi.pxe_server#role) has set up.
    Each host gets a DHCP reservation, and boot files for each of its MAC addresses and for BIOS, UEFI and iPXE.
  - What the next PXE boot of a host does is its boot mode. It is one symbolic link in the boot tree, so all its MAC
    addresses and kinds of firmware change together. A machine that nobody defined, and a host that is not armed, boots
    its disk.
  - Takes all hosts of a play in one call. One that cannot be done neither stops nor hides the others.
  - A call that was interrupted, by whatever, is finished by the next one. Two calls at once do not disturb each other.
  - This module runs on the PXE server.
extends_documentation_fragment:
  - pxemanager.esxi.attributes
  - pxemanager.esxi.attributes.actiongroup_pxe
attributes:
  check_mode:
    support: full
    details:
      - Whether a host has its kickstarts is not checked in check mode, because the task that writes them has not.
  diff_mode:
    support: full
    details:
      - One difference for each host. The key of the kickstart's URL is masked.
  idempotent:
    support: partial
    details:
      - A host whose definition says C(reinstall) V(true) or C(upgrade) V(true) is armed again each time it is asked
        for. Give the request a label in its place, and it is fulfilled once.
  platform:
    platforms: posix
requirements:
  - The Python library C(netaddr) on the PXE server
options:
  hosts:
    description:
      - Definitions of the hosts, as P(pxemanager.esxi.esxi_host#role) describes them. Their keys are C(name), C(macs),
        C(network), C(image), C(firmware), C(secure_boot), C(disk), C(boot), C(post_actions), C(kickstart), C(vcenter),
        C(reinstall), C(reinstall_image) and C(upgrade).
      - With O(state=ready) the keys are C(name), C(install), which is the id of the install, and C(actions), C(message)
        and C(certificate) as M(pxemanager.esxi.esxi_post_actions) returns them.
      - With O(state=disarmed), O(state=finished) and O(state=absent) only the C(name) is looked at.
      - C(reinstall) and C(upgrade) are V(false), V(true) or a label of one request. See O(state). Only one of them can
        be asked for.
      - C(reinstall_image) is the image that a reinstall may put in the place of the one that the host has.
    type: list
    elements: dict
    required: true
  state:
    description:
      - V(published) writes everything that a host needs. A new host boots its disk. The boot mode and the stage of a
        host that is there already stay as they are.
      - V(armed) also makes the next PXE boot start the installer, if there is something to install.
      - A host that has no ESXi yet, or whose arming has expired, is armed. One that is armed already stays so.
      - A host whose install is under way is left alone, unless its definition asks for a reinstall and nothing has been
        heard of it for O(stuck_after) seconds.
      - A host that is ready, or whose install has failed, is left alone unless its definition asks for a reinstall. A
        request with a label is fulfilled once, however often it is made.
      - An upgrade is asked for in the same way. It is refused while a kickstart of the host installs. A host that waits
        for an upgrade goes on waiting for it until it is disarmed, and a reinstall is refused.
      - A reinstall of a host that is ready is refused when its image has changed, unless C(reinstall_image) names the
        new one.
      - Arming is refused while the image is not imported, while a MAC address has no kickstart, and where the host's
        firmware could not be told to boot the disk afterwards.
      - V(disarmed) gives a host local boot again. An install that has not begun is withdrawn.
      - V(ready) notes that the controller has done what the first boot of a host with Secure Boot could not, and with
        what result. The host has to be at the stage V(installed) of that very install. An action that failed and was
        not to be ignored makes it V(failed), as when a host reports so itself.
      - V(finished) notes that a host which is ready has its root password and is in vCenter. Nothing of this has to be
        done again before it is reinstalled.
      - V(absent) takes everything of a host away. The machine is not touched.
    type: str
    choices:
      - published
      - armed
      - disarmed
      - ready
      - finished
      - absent
    default: published
  stuck_after:
    description:
      - Seconds without a sign of life after which an unfinished install may be started again by a reinstall.
    type: int
    default: 3600
  reinstall_max:
    description:
      - When more hosts than this would be installed again or upgraded by this call, none of them is, and each of them
        fails.
      - No limit by default.
    type: int
  on_host_failure:
    description:
      - With V(fail) the task fails when a host has failed. All others have been done by then.
      - With V(report) it does not, and RV(failed_hosts) has their names.
    type: str
    choices:
      - fail
      - report
    default: fail
  config:
    description:
      - The settings of the PXE server, as the role P(pxemanager.esxi.pxe_server#role) has written them.
    type: path
    default: /etc/esxi-pxe/server.json
seealso:
  - module: pxemanager.esxi.esxi_kickstart
  - module: pxemanager.esxi.esxi_image
  - module: pxemanager.esxi.esxi_firstboot_wait
"""

EXAMPLES = r"""
- name: Publish a host and arm it, if it has no ESXi yet
  pxemanager.esxi.esxi_pxe_host:
    hosts:
      - name: esx01.example.com
        macs:
          - 00:50:56:aa:bb:01
          - 00:50:56:aa:bb:02
        network:
          address: 192.168.77.21/24
          gateway: 192.168.77.1
        image: esxi-8.0.3
        disk:
          first: [local]
    state: armed
  delegate_to: pxe01.example.com

- name: Reinstall it once, however often this is run
  pxemanager.esxi.esxi_pxe_host:
    hosts:
      - "{{ esx01 | combine({'reinstall': 'CHG0012345'}) }}"
    state: armed
    reinstall_max: 1
  delegate_to: pxe01.example.com

- name: Take it off the PXE server
  pxemanager.esxi.esxi_pxe_host:
    hosts:
      - name: esx01.example.com
    state: absent
  delegate_to: pxe01.example.com
"""

RETURN = r"""
hosts:
  description:
    - The result of each host, by its name. A definition without a usable name has its place in O(hosts) as its name,
      such as V(hosts[3]).
  returned: always
  type: dict
  contains:
    changed:
      description: Whether anything of the host was changed.
      type: bool
    failed:
      description: Whether the host could not be done.
      type: bool
    msg:
      description: What was done, or what is wrong and what to do about it.
      type: str
    reasons:
      description: The sentences that C(msg) consists of.
      type: list
      elements: str
      returned: when the host has failed
    action:
      description:
        - What was done.
        - V(armed) means that the next PXE boot starts the installer, and did not before this call.
      type: str
      choices: [published, armed, left, disarmed, ready, finished, removed]
      returned: when the host has not failed
    mode:
      description: The boot mode, V(install) or V(local). V(none) for a host that is not there.
      type: str
      returned: when the host has not failed
    stage:
      description: The stage, such as V(armed) or V(ready). V(none) for a host that is not there.
      type: str
      returned: when the host has not failed
    arming:
      description:
        - What O(state=armed) would do to the host now. V(arm) begins an install, V(keep) sees to one that waits for the
          machine's next boot, V(leave) does nothing.
      type: str
      choices: [arm, keep, leave]
      returned: when O(state=published) and the host has not failed
    install:
      description: Id of the host's last install. V(none) before the first.
      type: str
      returned: when the host has not failed
  sample:
    esx01.example.com:
      action: armed
      changed: true
      failed: false
      install: 20261122T200000Z-3f2a9c
      mode: install
      msg: "esx01.example.com: armed, the next PXE boot starts the installer."
      stage: armed
failed_hosts:
  description: Names of the hosts that have failed, sorted.
  returned: always
  type: list
  elements: str
msg:
  description: One line about the whole call. It names each host that has failed, and why.
  returned: always
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import (
    DefinitionError,
    EsxiPxeError,
    MissingLibraryError,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._first_boot import FirstBoot
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts, valid_name
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import Publisher
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH, load


def names_of(definitions: t.Sequence[t.Mapping[str, t.Any]], results: Results) -> list[str]:
    """The names in the definitions, each once; what has none is reported as failed."""
    names: dict[str, None] = {}
    for position, definition in enumerate(definitions):
        given = definition.get("name")
        try:
            names[valid_name(given)] = None
        except DefinitionError as error:
            printable = isinstance(given, str) and given.isprintable() and 0 < len(given) <= 200
            results.fail(str(given) if printable else f"hosts[{position}]", error.errors)
    return list(names)


def first_boots_of(definitions: t.Sequence[t.Mapping[str, t.Any]], results: Results) -> dict[str, FirstBoot]:
    """What was done on each host, by name; what cannot be taken is reported as failed."""
    done: dict[str, FirstBoot] = {}
    names = names_of(definitions, results)
    for definition in definitions:
        try:
            first_boot = FirstBoot.parse(definition)
        except DefinitionError as error:
            if str(definition.get("name")).lower() in names:
                results.fail(str(definition["name"]).lower(), error.errors)
            continue
        if first_boot.name in done:
            results.fail(first_boot.name, f"{first_boot.name} is in the list twice: give it once.")
        done[first_boot.name] = first_boot
    return {name: one for name, one in done.items() if not results.failed(name)}


def act(module: AnsibleModule) -> Results:
    """Do what was asked; raises the errors of the domain that concern no single host."""
    params = module.params

    def reload(argv: t.Sequence[str]) -> str | None:
        code, out, err = module.run_command(list(argv))
        if code == 0:
            return None
        lines = (err.strip() or out.strip() or "no message").splitlines()
        return f"{' '.join(argv)} ended with {code}: {lines[-1]}"

    results = Results()
    publisher = Publisher(
        load(params["config"]),
        results,
        reload=reload,
        check_mode=module.check_mode,
        diff=module._diff,
        stuck_after=params["stuck_after"],
        reinstall_max=params["reinstall_max"],
    )
    if params["state"] in ("published", "armed"):
        parsed = parse_hosts(params["hosts"])
        for name, errors in parsed.errors.items():
            results.fail(name, errors)
        publisher.publish(parsed.hosts, arm=params["state"] == "armed")
    elif params["state"] == "disarmed":
        publisher.disarm(names_of(params["hosts"], results))
    elif params["state"] == "ready":
        publisher.complete(first_boots_of(params["hosts"], results))
    elif params["state"] == "finished":
        publisher.finish(names_of(params["hosts"], results))
    else:
        publisher.remove(names_of(params["hosts"], results))
    return results


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "list", "elements": "dict", "required": True},
            "state": {
                "type": "str",
                "choices": ["published", "armed", "disarmed", "ready", "finished", "absent"],
                "default": "published",
            },
            "stuck_after": {"type": "int", "default": 3600},
            "reinstall_max": {"type": "int"},
            "on_host_failure": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
            "config": {"type": "path", "default": CONFIG_PATH},
        },
        supports_check_mode=True,
    )
    try:
        results = act(module)
    except MissingLibraryError as error:
        module.fail_json(msg=missing_required_lib(error.library), exception=error.trace)
    except EsxiPxeError as error:
        module.fail_json(msg=f"{error}.".replace("..", "."))
    except OSError as error:
        module.fail_json(msg=f"The disk of the PXE server could not be read or written: {error}.")
    # Not through fail_json(): a failed call has done the other hosts, and returns what it did.
    module.exit_json(**results.as_return(module.params["on_host_failure"]))


if __name__ == "__main__":
    main()
