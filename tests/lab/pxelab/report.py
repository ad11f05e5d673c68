# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came out: the hosts as server, machines and vCenter see them, the expectations that did not hold, the report."""

from __future__ import annotations

import json
import os
from typing import Any

from . import esxi_api, net, paths, server, vcenter
from .inventory import Planned, Secrets
from .lab import Lab

STATUS = "/var/lib/esxi-pxe/status"
BOOT = "/srv/esxi-pxe/boot"
_COLUMNS = ("host", "firmware", "mode", "stage", "installs", "loops", "vCenter")


def rows(lab: Lab) -> list[dict[str, Any]]:
    """One record for each host, from three independent sources: the status file and the mode link on the server, the
    machine's own counters, and vCenter's inventory."""
    members: dict[str, str] = {}
    compliance: dict[str, str] = {}
    for center in {one.site.center: None for one in lab.hosts}:
        try:
            members |= vcenter.hosts(lab.passwords.of(center), center)
            compliance |= vcenter.compliance(lab.passwords.of(center), center)
        except Exception as error:
            # the rest of the table is what tells why
            lab.say(f"{center.name} does not answer: {error}")
    found = []
    for one in lab.hosts:
        machine = lab.machine(one.name)
        status = paths.read_json(server.path(f"{STATUS}/{one.name}.json", one.site.box)) or {}
        try:
            mode = os.readlink(server.path(f"{BOOT}/hosts/{one.name}/boot", one.site.box))
        except OSError:
            mode = "-"
        found.append(
            {
                "name": one.name,
                "firmware": one.hardware.firmware,
                "mode": mode,
                "stage": status.get("stage", "-"),
                "installs": machine.get("installs", 0),
                "install_starts": machine.get("install_starts", 0),
                "loops": machine.get("loops", 0),
                "vcenter_path": members.get(one.name),
                "compliance": compliance.get(one.name, "no profile"),
                "machine": machine.get("state", "-"),
                "reboots": machine.get("reboots", 0),
                "boots": machine.get("boots", 0),
                "power_cycles": machine.get("power_cycles", 0),
                "reason": machine.get("reason", ""),
                "status_mode": status.get("mode", "-"),
                "root_password": _root_password(lab, one),
            }
        )
    return found


def _root_password(lab: Lab, host: Planned) -> str:
    """Which password opens the host's root account: ``wanted``, ``bootstrap``, or ``unknown``."""
    if host.hardware.virtual:
        return net.call_in(net.CENTRE, lambda: _password_that_opens(host.address, lab.passwords))
    name = host.name
    try:
        state = (paths.MACHINES / name / "disk/root/etc/pxelab-password-hash").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
    hashed = state if state.startswith("$") else json.loads(state)["root_password_hash"]
    crypt = esxi_api.Crypt()
    for word, password in (("wanted", lab.passwords.root), ("bootstrap", lab.passwords.bootstrap)):
        if crypt.fits(password, hashed):
            return word
    return "unknown"


def _password_that_opens(address: str, passwords: Secrets) -> str:
    """As ``_root_password``, asked of the host's own API: nobody can look into a virtual machine's disk."""
    from pyVim.connect import Disconnect, SmartConnect
    from pyVmomi import vim

    for word, password in (("wanted", passwords.root), ("bootstrap", passwords.bootstrap)):
        try:
            session = SmartConnect(
                host=address, user="root", pwd=password, disableSslCertValidation=True, httpConnectionTimeout=30
            )
        except vim.fault.InvalidLogin:
            continue
        except OSError:
            return "unknown"
        Disconnect(session)
        return word
    return "unknown"


def table(found: list[dict[str, Any]]) -> str:
    """The records as a table for the terminal."""
    lines = [_COLUMNS] + [
        (
            row["name"],
            row["firmware"],
            row["mode"],
            row["stage"],
            str(row["installs"]),
            str(row["loops"]),
            row["vcenter_path"] or "-",
        )
        for row in found
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text) + "\n"


def check_installed(lab: Lab, found: list[dict[str, Any]], *, installs: int | None = 1) -> list[str]:
    """What is not as it should be after every host was installed, one sentence each.

    ``installs`` is how often each should have been; ``None``: somebody else counts.
    """
    wrong = []
    places = {one.name: one.place for one in lab.hosts}
    complying = {one.name: "compliant" if "esxi_host_profile" in one.variables else "no profile" for one in lab.hosts}
    for row in found:
        name = row["name"]
        if row["stage"] != "ready":
            wrong.append(f"{name} is at stage {row['stage']} instead of ready")
        if row["mode"] != "local" or row["status_mode"] != "local":
            wrong.append(f"{name}: its next boot is {row['mode']} (status: {row['status_mode']}) instead of local")
        if installs is not None and row["installs"] != installs:
            wrong.append(f"{name} was installed {row['installs']} times instead of {installs}")
        if row["loops"]:
            wrong.append(f"{name} was told to install again {row['loops']} times although nobody had asked for it")
        if row["vcenter_path"] != places[name]:
            wrong.append(f"{name} is at {row['vcenter_path'] or 'no place'} in vCenter instead of {places[name]}")
        if row["compliance"] != complying[name]:
            wrong.append(f"{name}: its host profile is {row['compliance']} instead of {complying[name]}")
        if row["root_password"] != "wanted":
            wrong.append(f"{name}: its root password is the {row['root_password']} one instead of the wanted one")
        if row["machine"] != "running":
            wrong.append(f"{name}: its machine is {row['machine']} {row['reason']}".rstrip())
    return wrong


def write(lab: Lab, found: list[dict[str, Any]], problems: list[str], **more: Any) -> None:
    """Write ``.lab/report.json``."""
    keep = ("name", "firmware", "mode", "stage", "installs", "loops", "vcenter_path")
    paths.write_json(
        paths.REPORT,
        {
            "ok": not problems,
            "problems": problems,
            "hosts": [{key: row[key] for key in keep} for row in found],
            **more,
            "seconds": {**lab.seconds, "total": round(sum(lab.seconds.values()), 1)},
        },
    )
