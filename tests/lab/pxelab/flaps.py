# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with real firmware whose power fails, each at another moment, and a PXE server that is silent for a while.

Of each: no second install of an installed host, and no host lost. It ends ready, or failed with a reason and a way on.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import Any

from . import faults, firmware_runs, inventory, report, server, supervisor
from .inventory import Planned
from .lab import Lab

SERVICE = "esxi-pbconnect.service"
#: Seconds for hosts that will never get further by themselves.
GIVE_UP = 150
_SILENCE = 20.0


@dataclass(frozen=True)
class Flap:
    """One machine: what happens to it, and how it ends the run that installs it.

    ``installs`` and ``starts`` are how often it is installed and begins to, at most, by then.
    """

    title: str
    firmware: str
    ready: bool
    starts: int
    installs: int
    options: dict[str, str]


def _cut(*moments: str) -> dict[str, str]:
    return {"cut_power": json.dumps(moments)}


FLAPS = (
    Flap("power lost in %pre, before the acknowledgement", "bios", True, 2, 1, _cut("pxelab: %pre begins")),
    Flap("power lost in %pre, after the acknowledgement", "uefi", False, 1, 0, _cut("acknowledged: installing")),
    Flap("power lost while the disk is written", "bios", False, 1, 0, _cut("event writing")),
    Flap("power lost between installed and the first boot", "uefi", True, 1, 1, _cut("event reboot")),
    Flap("pbconnect silent when the installer calls", "uefi", True, 1, 1, {"freeze_at": "%pre begins"}),
)


def plan() -> list[Planned]:
    """The machines; the last one boots from a NIC that is not its management NIC."""
    planned = []
    for number, flap in enumerate(FLAPS, 1):
        one = inventory.plan_one(number, [flap.firmware], virtual=True, options=flap.options)
        if not flap.ready:
            one = replace(one, variables={**one.variables, "esxi_host_timeout": GIVE_UP})
        planned.append(one)
    return planned


class Silence(threading.Thread):
    """Stops pbconnect while the frozen machine is about to call, lets the machine go on, and starts pbconnect again."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(name="silence", daemon=True)
        self._lab, self._name = lab, name
        self.happened = False

    def run(self) -> None:
        """Once."""
        if not self._lab.wait_for(lambda: self._lab.machine(self._name).get("state") == "frozen", 900):
            return
        server.run(f"systemctl stop {SERVICE}")
        try:
            supervisor.press("thaw", [self._name])
            threading.Event().wait(_SILENCE)
        finally:
            server.run(f"systemctl start {SERVICE}")
        self.happened = True


def run(lab: Lab) -> list[str]:
    """Play the flaps; returns what did not hold, one sentence each, and writes the report."""
    planned = plan()
    firmware_runs.start(lab, planned, [flap.firmware for flap in FLAPS])
    frozen = next(one.name for one, flap in zip(planned, FLAPS, strict=True) if "freeze_at" in flap.options)
    silence = Silence(lab, frozen)
    silence.start()
    lab.say("ansible-playbook pxemanager.esxi.provision, while the machines' power comes and goes")
    with lab.phase("provision"):
        result = lab.controller.play("provision", log="flaps")
    silence.join(60)
    problems: list[str] = []
    if not silence.happened:
        problems.append("pbconnect was never silent: the run shows nothing about it")
    told = faults.sentences(result)
    problems += _check(report.rows(lab), told)
    lost = [one.name for one, flap in zip(planned, FLAPS, strict=True) if not flap.ready]
    if not problems:
        problems += _way_on(lab, lost)
    if not problems:
        firmware_runs.reboot(lab, 1, problems)
    found = report.rows(lab)
    told_lost = {name: told.get(name, []) for name in lost}
    report.write(
        lab,
        found,
        problems,
        flaps={one.name: flap.title for one, flap in zip(planned, FLAPS, strict=True)},
        told=told_lost,
    )
    lab.say("the hosts\n\n" + report.table(found))
    lab.say("what happened, and what the lost hosts were told\n\n" + "".join(_story(planned, told)))
    return problems


def _story(planned: list[Planned], told: dict[str, list[str]]) -> list[str]:
    lines = []
    for one, flap in zip(planned, FLAPS, strict=True):
        lines.append(f"{one.name}: {flap.title}\n")
        lines += [f"    {text}\n" for text in told.get(one.name, [])]
    return lines


def _check(found: list[dict[str, Any]], told: dict[str, list[str]]) -> list[str]:
    problems = []
    for row, flap in zip(found, FLAPS, strict=True):
        name = row["name"]
        if (row["installs"], row["install_starts"]) != (flap.installs, flap.starts):
            problems.append(
                f"{name} ({flap.title}): {row['install_starts']} installs begun and {row['installs']} done "
                f"instead of {flap.starts} and {flap.installs}"
            )
        if row["mode"] != "local":
            problems.append(f"{name} ({flap.title}): its next boot is {row['mode']}")
        if flap.ready and (row["stage"] != "ready" or not row["vcenter_path"]):
            problems.append(f"{name} ({flap.title}): stage {row['stage']}, in vCenter at {row['vcenter_path']}")
        if not flap.ready:
            sentences = told.get(name, [])
            if len(sentences) != 1 or name not in sentences[0] or "reinstall" not in sentences[0]:
                problems.append(
                    f"{name} ({flap.title}): it was not told one thing that names it and a way on: {sentences}"
                )
    return problems


def _way_on(lab: Lab, lost: list[str]) -> list[str]:
    """What the lost hosts were told to do: ask for a reinstall."""
    extra = {
        "esxi_host_reinstall": "true",
        "esxi_host_reinstall_max": len(lost),
        "esxi_host_stuck_after": 10,
        "esxi_host_timeout": 1200,
    }
    words = ["--limit", ",".join(lost), *(word for key, value in extra.items() for word in ("-e", f"{key}={value}"))]
    lab.say(f"ansible-playbook pxemanager.esxi.provision {' '.join(words)}")
    with lab.phase("way_on"):
        result = lab.controller.play("provision", *words, log="way-on")
    problems = [] if result.code == 0 else [f"the way on ended with exit code {result.code}: {sorted(result.failed())}"]
    return problems + report.check_installed(lab, [row for row in report.rows(lab) if row["name"] in lost])
