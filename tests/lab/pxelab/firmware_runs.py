# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job with real firmware: blank disks, PXE-first, to vCenter; reboots; a reinstall on request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import demo, guest, inventory, net, paths, procs, report, server, sitedhcp, supervisor, virtual
from .inventory import Planned
from .lab import Lab

KINDS = ("bios", "uefi", "uefi-http", "ipxe")
DISK = {"device": "mpx.vmhba0:C0:T0:L0", "existing_vmfs": "overwrite"}
#: An emulated machine takes a minute or two for an install; two at once, on a busy box, several.
SETTINGS: dict[str, Any] = {"esxi_host_timeout": 1200, "esxi_host_disk": DISK}
BOOT_SECONDS = 420.0


def plan(kinds: Sequence[str], **hardware: Any) -> list[Planned]:
    """A virtual machine of each kind of firmware."""
    return [inventory.plan_one(number, kinds, virtual=True, **hardware) for number in range(1, len(kinds) + 1)]


def server_settings(kinds: Sequence[str]) -> dict[str, Any]:
    """What the PXE server is told besides: the medium's loader for BIOS, the distribution's pxelinux, iPXE if asked."""
    image = {"name": inventory.IMAGE, "src": inventory.ISO, "linux_loader": guest.LINUX_LOADER}
    more: dict[str, Any] = {"pxe_server_pxelinux_dir": None, "pxe_server_images": [image]}
    if "ipxe" in kinds:
        more["pxe_server_uefi_loader"] = "ipxe"
    return more


def start(lab: Lab, planned: list[Planned], kinds: Sequence[str], **settings: Any) -> None:
    """The lab with virtual machines, all of them switched off."""
    lab.start(planned, settings={**SETTINGS, **settings}, server_settings=server_settings(kinds))
    _advertise_router()


def _advertise_router() -> None:
    """What a network without IPv6 service lacks: iPXE in the ROM of a BIOS machine waits for it, 13 seconds a NIC."""
    procs.run(["ip", "-n", net.CENTRE, "address", "add", "fd77::1/64", "dev", net.BRIDGE, "nodad"])
    words = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        f"--interface={net.BRIDGE}",
        "--user=root",
    ]
    words += [
        "--bind-interfaces",
        "--enable-ra",
        "--dhcp-range=fd77::,ra-only",
        "--ra-param=br0,4,0",
        "--log-facility=-",
        "--pid-file=",
    ]
    procs.start("router", words, log=paths.LOGS / "router.log", namespace=net.CENTRE)


def rounds(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """Kinds that one lab can hold: what UEFI machines load by TFTP (mboot or iPXE) is a setting of the PXE server."""
    plain = tuple(kind for kind in kinds if kind != "ipxe")
    return [*([plain] if plain else []), *([("ipxe",)] if "ipxe" in kinds else [])]


def run(lab: Lab, kinds: Sequence[str], *, reboots: int, pictures: Path | None = None) -> list[str]:
    """Play the run; returns what did not hold, one sentence each, and writes the report."""
    start(lab, plan(kinds), kinds)
    problems: list[str] = []
    more: dict[str, Any] = {}
    camera = virtual.Camera([one.name for one in lab.hosts], pictures)
    try:
        found = demo.install(lab, problems)
        if not problems:
            more["second_run"] = demo.again(lab, found, problems)
        if not problems:
            more["reboots"] = reboot(lab, reboots, problems)
        if not problems:
            reinstall(lab, problems)
        if not problems:
            upgrade(lab, problems)
        if not problems:
            forget(lab, kinds, problems)
        problems += missing_files(lab)
    finally:
        camera.stop()
    found = report.rows(lab)
    report.write(lab, found, problems, **more)
    lab.say("the hosts\n\n" + report.table(found))
    return problems


def reboot(lab: Lab, times: int, problems: list[str]) -> dict[str, int]:
    """Press each machine's power button again and again: PXE-first, and no install."""
    before = {row["name"]: row for row in report.rows(lab)}
    done = 0
    with lab.phase("reboots"):
        for number in range(1, times + 1):
            lab.say(f"power cycle {number} of {times}, all machines: network first, and from there to their disks")
            if not boot_all(lab, problems):
                break
            done += len(lab.hosts)
    after = {row["name"]: row for row in report.rows(lab)}
    for name, row in after.items():
        if row["install_starts"] != before[name]["install_starts"]:
            problems.append(
                f"{name} began {row['install_starts'] - before[name]['install_starts']} installs while it was rebooted"
            )
    return {
        "reboots": done,
        "installs": sum(after[name]["install_starts"] - before[name]["install_starts"] for name in after),
    }


def boot_all(lab: Lab, problems: list[str]) -> bool:
    """Power-cycle every machine and wait until each runs from its disk again."""
    before = {one.name: lab.machine(one.name)["local_boots"] for one in lab.hosts}
    supervisor.press("cycle", list(before))

    def up() -> bool:
        states = {name: lab.machine(name) for name in before}
        return all(
            state["state"] == "running" and state["local_boots"] > before[name] for name, state in states.items()
        )

    if lab.wait_for(up, BOOT_SECONDS):
        return True
    for name in before:
        state = lab.machine(name)
        if state["state"] != "running":
            problems.append(f"{name} did not come back from its disk: {state['state']} {state['reason']}".rstrip())
    return False


def reinstall(lab: Lab, problems: list[str]) -> None:
    """Ask for a reinstall of all machines: the installer once more, then the disk."""
    before = {row["name"]: row for row in report.rows(lab)}
    words = ("-e", "esxi_host_reinstall=true", "-e", f"esxi_host_reinstall_max={len(before)}")
    lab.say(f"ansible-playbook pxemanager.esxi.provision {' '.join(words)}")
    with lab.phase("reinstall"):
        result = lab.controller.play("provision", *words, log="reinstall")
    if result.code != 0:
        problems.append(f"the reinstall ended with exit code {result.code}")
    found = report.rows(lab)
    for row in found:
        more = row["installs"] - before[row["name"]]["installs"]
        if more != 1:
            problems.append(f"{row['name']} was installed {more} times by the reinstall")
    problems += report.check_installed(lab, found, installs=None)


def upgrade(lab: Lab, problems: list[str]) -> None:
    """Ask for an upgrade of all machines, to the image that they have: each keeps its password and its certificate.

    The installer itself stops when the datastore behind the system is not what it was.
    """

    def certificates() -> dict[str, Any]:
        found = {one.name: paths.read_json(server.path(f"{report.STATUS}/{one.name}.json")) or {} for one in lab.hosts}
        return {name: (status.get("certificate"), status.get("command")) for name, status in found.items()}

    before, installs = certificates(), {row["name"]: row["installs"] for row in report.rows(lab)}
    words = ("-e", "esxi_host_upgrade=true", "-e", f"esxi_host_reinstall_max={len(before)}")
    lab.say(f"ansible-playbook pxemanager.esxi.provision {' '.join(words)}")
    with lab.phase("upgrade"):
        result = lab.controller.play("provision", *words, log="upgrade")
    if result.code != 0:
        problems.append(f"the upgrade ended with exit code {result.code}")
    found = report.rows(lab)
    for row in found:
        name = row["name"]
        if row["installs"] != installs[name] + 1:
            problems.append(f"{name} was upgraded {row['installs'] - installs[name]} times")
        if certificates()[name] != (before[name][0], "upgrade"):
            problems.append(f"{name} has another certificate after its upgrade")
    # among them: the root password is the wanted one, and the host is where it was in vCenter
    problems += report.check_installed(lab, found, installs=None)


def forget(lab: Lab, kinds: Sequence[str], problems: list[str]) -> None:
    """Retire all hosts: their MACs are unknown now, and each machine must still reach its disk.

    First nobody answers their DHCP, which the firmware waits out; then a DHCP server of the site does, with the PXE
    server's boot files.
    """
    before = {row["name"]: row for row in report.rows(lab)}
    lab.say("ansible-playbook pxemanager.esxi.retire: from now on nobody knows these machines")
    result = lab.controller.play("retire", "-e", f"esxi_host_retire_max={len(before)}", log="retire")
    if result.code != 0:
        problems.append(f"retiring the hosts ended with exit code {result.code}")
        return
    lab.say("power cycle, all machines: nobody answers their DHCP")
    with lab.phase("silence"):
        if not boot_all(lab, problems):
            return
    sitedhcp.start("none", lab.hosts, "snponly.efi" if "ipxe" in kinds else "mboot.efi")
    lab.say("power cycle, all machines: MAC addresses that the PXE server does not know")
    with lab.phase("unknown"):
        boot_all(lab, problems)
    for one in lab.hosts:
        if lab.machine(one.name)["install_starts"] != before[one.name]["install_starts"]:
            problems.append(f"{one.name} got an installer although the PXE server does not know it")


#: What loaders ask for in their search before they come to what is there: pxelinux by UUID, and all of them by MAC
#: where the host is not defined.
_SEARCHED = re.compile(
    r"/pxelinux\.cfg/([0-9a-f-]{36}|01(-[0-9a-f]{2}){6}|[0-9A-F]{1,8})$|/01(-[0-9a-f]{2}){6}/boot\.cfg$|/ipxe/01(-[0-9a-f]{2}){6}\.ipxe$"
)


def missing_files(lab: Lab) -> list[str]:
    """What a loader asked the PXE server for and did not find, apart from its documented search."""
    text = server.run("journalctl --no-pager --output=cat --unit=esxi-pxe-dnsmasq")
    wanted = set(re.findall(r"file (\S+) not found", text))
    text = server.run("cat /var/log/nginx/access.log")
    wanted |= set(re.findall(r'"(?:GET|HEAD) (\S+) HTTP/[0-9.]+" 404 ', text))
    sent = len(re.findall(r'"(?:GET|HEAD) \S+ HTTP/[0-9.]+" 200 ', text))
    lab.say(f"{sent} files by HTTP; asked for and not there: {', '.join(sorted(wanted)) or 'nothing'}")
    return [f"a loader asked for {name}, and it is not there" for name in sorted(wanted) if not _SEARCHED.search(name)]
