# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, shown: install all hosts, run again and change nothing, reinstall one of them and only that one, and
upgrade another one, which keeps what it has."""

from __future__ import annotations

import json
import shutil
from typing import Any

from . import inventory, paths, report, server
from .lab import Lab, make_medium

SETTINGS = {"esxi_host_timeout": 300}


def run(lab: Lab, count: int, *, dhcp: str = "dnsmasq") -> list[str]:
    """Play the demo; returns what did not hold, one sentence each, and writes the report.

    ``dhcp`` is the PXE server's DHCP mode (see ``sitedhcp``).
    """
    # an HTTP boot needs an answer of the DHCP server itself: a proxy's is not enough
    kinds = [kind for kind in inventory.FIRMWARE if dhcp != "proxy" or kind != "uefi-http"]
    lab.start(inventory.plan(count, kinds), settings=SETTINGS, dhcp=dhcp)
    problems: list[str] = []
    more: dict[str, Any] = {}
    found = install(lab, problems)
    if not problems:
        more["second_run"] = again(lab, found, problems)
    if not problems:
        more["reinstall"] = _reinstall(lab, problems)
    if not problems:
        more["upgrade"] = upgrade(lab, lab.hosts[-1].name, problems)
    found = report.rows(lab)
    report.write(lab, found, problems, **more)
    lab.say("the hosts\n\n" + report.table(found))
    return problems


def run_upgrade(lab: Lab) -> list[str]:
    """The upgrade alone: install one host, upgrade it."""
    lab.start(inventory.plan(1), settings=SETTINGS)
    problems: list[str] = []
    install(lab, problems)
    more = {} if problems else {"upgrade": upgrade(lab, lab.hosts[0].name, problems)}
    found = report.rows(lab)
    report.write(lab, found, problems, **more)
    lab.say("the host\n\n" + report.table(found))
    return problems


def install(lab: Lab, problems: list[str]) -> list[dict[str, Any]]:
    """Set up the PXE server and provision all hosts; what did not hold is added to ``problems``."""
    for playbook in ("pxe_server", "provision"):
        lab.say(f"ansible-playbook pxemanager.esxi.{playbook}")
        with lab.phase(playbook):
            result = lab.controller.play(playbook, log=playbook)
        if result.code != 0:
            problems.append(
                f"playbook {playbook} ended with exit code {result.code} (hosts: {sorted(result.failed())})"
            )
            break
    found = report.rows(lab)
    if not problems:
        problems += report.check_installed(lab, found)
    return found


def again(lab: Lab, before: list[dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    """Run the playbook once more: nothing may change, and no machine may boot."""
    lab.say("ansible-playbook pxemanager.esxi.provision, a second time: nothing may change")
    with lab.phase("second_run"):
        result = lab.controller.play("provision", log="second-run")
    after = report.rows(lab)
    boots = sum(row["boots"] for row in after) - sum(row["boots"] for row in before)
    if result.code != 0:
        problems.append(f"the second run ended with exit code {result.code}")
    if result.changed:
        who = {host: counts["changed"] for host, counts in result.recap.items() if counts.get("changed")}
        problems.append(f"the second run changed something: {who}")
    if boots:
        problems.append(f"the second run made machines boot ({boots} times)")
    problems += report.check_installed(lab, after)
    return {"changed": result.changed, "reboots": boots}


def _reinstall(lab: Lab, problems: list[str]) -> dict[str, Any]:
    target = lab.hosts[0].name
    before = {row["name"]: row for row in report.rows(lab)}
    lab.say(f"ansible-playbook pxemanager.esxi.provision --limit {target} -e esxi_host_reinstall=true")
    with lab.phase("reinstall"):
        result = lab.controller.play("provision", "--limit", target, "-e", "esxi_host_reinstall=true", log="reinstall")
    after = {row["name"]: row for row in report.rows(lab)}
    if result.code != 0:
        problems.append(f"the reinstall ended with exit code {result.code}")
    for name, row in after.items():
        wanted = before[name]["installs"] + (name == target)
        if row["installs"] != wanted:
            problems.append(
                f"{name} was installed {row['installs']} times instead of {wanted} after the reinstall of {target}"
            )
        if name != target and row["boots"] != before[name]["boots"]:
            problems.append(f"{name} booted while {target} was reinstalled")
        if row["loops"]:
            problems.append(f"{name} was told to install again although nobody had asked for it")
    if after[target]["root_password"] != "wanted":
        problems.append(f"{target}: its root password is the {after[target]['root_password']} one after its reinstall")
    if after[target]["stage"] != "ready" or after[target]["mode"] != "local":
        problems.append(
            f"{target} is at stage {after[target]['stage']}, mode {after[target]['mode']} after its reinstall"
        )
    return {"host": target, "changed": result.changed}


#: What a host is upgraded to.
NEWER = "9.0.0"


def upgrade(lab: Lab, target: str, problems: list[str]) -> dict[str, Any]:
    """Upgrade one host to a newer image: nothing that is its own may be lost, and nobody sets its password."""
    image = f"esxi-{NEWER}"
    iso = f"/srv/iso/{image}.iso"
    shutil.copyfile(make_medium(NEWER), server.path(iso))
    images = [{"name": inventory.IMAGE, "src": inventory.ISO}, {"name": image, "src": iso}]
    words: tuple[str, ...] = ("--limit", f"{target},{server.NAME}", "-e", json.dumps({"pxe_server_images": images}))
    words += ("-e", f"esxi_host_image={image}", "-e", "esxi_host_upgrade=NEWER-1")
    before, kept = {row["name"]: row for row in report.rows(lab)}, own(target)
    shown = f"--limit {target} -e esxi_host_image={image} -e esxi_host_upgrade=NEWER-1"
    lab.say(f"ansible-playbook pxemanager.esxi.provision {shown}")
    with lab.phase("upgrade"):
        result = lab.controller.play("provision", *words, log="upgrade")
    after, now = {row["name"]: row for row in report.rows(lab)}, own(target)
    if result.code != 0:
        problems.append(f"the upgrade ended with exit code {result.code}")
        return {"host": target}
    row = after[target]
    for key in ("certificate", "datastore", "host_name", "network", "password_changes", "managed_by"):
        if kept[key] != now[key] or not now[key]:
            problems.append(f"{target}: its {key} was {kept[key]} and is {now[key]} after its upgrade")
    if (now["version"], now["upgrades"]) != (NEWER, kept["upgrades"] + 1):
        problems.append(f"{target} has ESXi {now['version']} after {now['upgrades']} upgrades instead of {NEWER}")
    if now["failed_logins"]:
        problems.append(f"{target}: {now['failed_logins']} logins with a wrong password after its upgrade")
    if (row["stage"], row["mode"], row["root_password"]) != ("ready", "local", "wanted"):
        problems.append(f"{target} is {row['stage']}, {row['mode']}, with its {row['root_password']} password")
    if row["vcenter_path"] != before[target]["vcenter_path"]:
        problems.append(f"{target} is at {row['vcenter_path']} in vCenter after its upgrade")
    for name, other in after.items():
        if other["loops"]:
            problems.append(f"{name} was told to install again although nobody had asked for it")
        if name != target and other["boots"] != before[name]["boots"]:
            problems.append(f"{name} booted while {target} was upgraded")
    return {"host": target, "from": kept["version"], "to": now["version"], "changed": result.changed}


def own(name: str) -> dict[str, Any]:
    """What is a stand-in machine's own: what an upgrade keeps, and how often somebody changed it."""
    disk = paths.MACHINES / name / "disk"
    system = paths.read_json(disk / "system.json") or {}
    account = json.loads((disk / "root/etc/pxelab-password-hash").read_text(encoding="utf-8"))
    certificate = (disk / "root/etc/vmware/ssl/rui.crt").read_text(encoding="ascii")
    keys = ("host_name", "network", "version", "datastore", "upgrades")
    counts = ("password_changes", "failed_logins", "managed_by")
    return {
        "certificate": certificate,
        **{key: system.get(key) for key in keys},
        **{key: account.get(key) for key in counts},
    }
