# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that fail, each in its own way, beside good ones: each must fail alone, and say in one sentence what to do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from . import inventory, report
from .ansible import Result
from .inventory import Planned
from .lab import Lab

#: Long enough for a good host, short enough to wait for one that will never come.
GIVE_UP = 75
_BAD_MAC = "00:50:56:zz:03:01"
_ACTION = "attach the storage network"
_FATAL = re.compile(r"^(?:fatal|failed): \[(?P<host>[^\]\s]+)[^\]]*\][^{]*(?P<data>\{.*)$")


def _variables(one: Planned, **changes: Any) -> Planned:
    return replace(one, variables={**one.variables, **changes})


def hosts() -> list[Planned]:
    """Two good hosts, and one for each fault of the issue."""
    bad_mac, dead = inventory.plan_one(3), inventory.plan_one(4, dead=True)
    bad_action = inventory.plan_one(5, failing_commands=("esxcli network vswitch standard add",))
    cut_off = inventory.plan_one(6, cut_off=True)
    action = {"name": _ACTION, "vswitch": {"name": "vSwitch1", "uplinks": ["vmnic1"], "mtu": 9000}}
    return [
        inventory.plan_one(1),
        inventory.plan_one(2),
        _variables(bad_mac, esxi_host_macs=[_BAD_MAC]),
        _variables(dead, esxi_host_timeout=GIVE_UP),
        _variables(bad_action, esxi_host_post_actions=[action, *bad_action.variables["esxi_host_post_actions"]]),
        _variables(cut_off, esxi_host_timeout=GIVE_UP),
    ]


def sentences(result: Result) -> dict[str, list[str]]:
    """What each failed host was told, from Ansible's output."""
    found: dict[str, list[str]] = {}
    for line in result.text.splitlines():
        match = _FATAL.match(line)
        if not match:
            continue
        text = match["data"]
        try:
            message = json.loads(text).get("msg", "")
        except ValueError:
            message = text
        found.setdefault(match["host"], []).append(str(message))
    # ansible-core 2.19 and later print "[ERROR]: Task failed: ..." besides; the line above carries the same text
    return found


def run(lab: Lab) -> list[str]:
    """Play the faults; returns what did not hold, one sentence each."""
    planned = hosts()
    lab.start(planned, settings={"esxi_host_timeout": 600})
    lab.say("ansible-playbook pxemanager.esxi.provision, with four hosts that must fail")
    with lab.phase("provision"):
        result = lab.controller.play("provision", log="faults")
    good = [planned[0].name, planned[1].name]
    bad = {planned[2].name: _BAD_MAC, planned[3].name: "", planned[4].name: _ACTION, planned[5].name: ""}
    found = report.rows(lab)
    told = sentences(result)
    problems = _check(result, found, told, good, bad)
    report.write(lab, found, problems, faults={name: told.get(name, []) for name in bad})
    lab.say("the hosts\n\n" + report.table(found))
    lab.say(
        "what the failed hosts were told\n\n"
        + "".join(f"{name}: {' / '.join(told.get(name, ['nothing']))}\n" for name in bad)
    )
    return problems


def _check(
    result: Result, found: list[dict[str, Any]], told: dict[str, list[str]], good: list[str], bad: dict[str, str]
) -> list[str]:
    problems = []
    if result.code == 0:
        problems.append("the playbook ended with exit code 0 although hosts failed")
    if result.failed() != set(bad):
        problems.append(f"failed hosts: {sorted(result.failed())} instead of {sorted(bad)}")
    for row in found:
        name = row["name"]
        if row["loops"]:
            problems.append(f"{name} was told to install in a loop")
        if name in good and (row["stage"] != "ready" or not row["vcenter_path"]):
            problems.append(f"{name} should not care: stage {row['stage']}, in vCenter at {row['vcenter_path']}")
        if name in bad and row["vcenter_path"]:
            problems.append(f"{name} failed and is in vCenter all the same")
    for name, word in bad.items():
        messages = told.get(name, [])
        if len(messages) != 1:
            problems.append(f"{name} was told {len(messages)} things instead of one: {messages}")
        elif word not in messages[0] or name not in messages[0]:
            problems.append(f"{name}: the message names not both the host and what is wrong: {messages[0]}")
        elif "\n" in messages[0].strip():
            problems.append(f"{name}: the message is more than one line: {messages[0]!r}")
    without_names = [re.sub(r"esx\d+|\d+", "", " ".join(told.get(name, []))) for name in bad]
    if len(set(without_names)) != len(without_names):
        problems.append("two hosts with different faults were told the same")
    return problems
