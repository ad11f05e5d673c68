# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pxelab``: the lab's commands."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LabError

if TYPE_CHECKING:
    from .lab import Lab

_ABOUT = """\
A site in a box: PXE server, vCenter and stand-in machines in network namespaces of their own. Run it as root.

  demo     install all hosts, run again, reinstall one, upgrade one; a table and .lab/report.json; exit code 1 when
           anything is wrong
  upgrade  only the upgrade of the demo: one host, from bare metal to vCenter and from there to a newer image
  firmware real firmware: BIOS and UEFI machines from blank disks to vCenter, rebooted, reinstalled
  flaps    real firmware: power lost at the worst moments, pbconnect silent for a while
  faults   hosts that fail, each in its own way, beside good ones
  images   images and depots: imported, booted from, kept while they are used, damaged, mended, removed
  sites    two sites, one of them behind a DHCP relay, two vCenters, two controllers at once, one site away
  storm    a rack after a power failure: up to 5,000 light-weight machines boot at once from a PXE server of their own
  kill     the same job with ansible-playbook and pbconnect killed in between
  up       start the lab and leave it running until Ctrl-C (or 'down' from elsewhere)
  down     stop the lab of this checkout, or clean up after a killed one
  status   the hosts of the running lab
  power    press a machine's power button: power cycle|on|off|netboot NAME...
"""


def _say(text: str) -> None:
    print(f"\npxelab: {text}" if "\n" in text else f"pxelab: {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pxelab", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    hosts = os.environ.get("HOSTS") or "3"  # argparse turns a text into the type of the option, and says what is wrong
    demo = commands.add_parser("demo")
    demo.add_argument(
        "--hosts", type=int, default=hosts, help="how many (default 3, or the variable HOSTS; at most 50)"
    )
    demo.add_argument(
        "--dhcp",
        choices=("dnsmasq", "kea", "proxy", "none"),
        default="dnsmasq",
        help="who does DHCP: the PXE server (default; kea: with Kea and PostgreSQL), the site with the PXE server as "
        "its proxy, the site alone",
    )
    demo.add_argument("--keep", action="store_true", help="leave the lab running afterwards until Ctrl-C")
    up = commands.add_parser("up")
    up.add_argument("--hosts", type=int, default=hosts)
    up.add_argument("--provision", action="store_true", help="also run pxe_server.yml and provision.yml")
    firmware = commands.add_parser("firmware")
    firmware.add_argument(
        "--firmware",
        default=os.environ.get("FIRMWARE") or "bios,uefi",
        help="bios, uefi, uefi-http, ipxe with commas between them, or all (default bios,uefi, or FIRMWARE)",
    )
    firmware.add_argument("--reboots", type=int, default=1, help="power cycles of the installed machines (default 1)")
    firmware.add_argument("--pictures", type=Path, help="a folder for pictures of the machines' screens")
    commands.add_parser("flaps")
    commands.add_parser("upgrade")
    commands.add_parser("faults")
    commands.add_parser("images")
    two_sites = commands.add_parser("sites")
    two_sites.add_argument("--hosts", type=int, default=2, help="how many at each site (default 2, at most 9)")
    two_sites.add_argument("--keep", action="store_true", help="leave the lab running afterwards until Ctrl-C")
    kill = commands.add_parser("kill")
    kill.add_argument("--hosts", type=int, default=hosts)
    kill.add_argument("--kills", type=int, default=4, help="how often ansible-playbook is killed (default 4)")
    kill.add_argument("--seed", type=int, default=None, help="repeat the moments of an earlier run")
    storm = commands.add_parser("storm")
    storm.add_argument("--hosts", type=int, default=1000, help="how many (default 1000, at most 5000)")
    storm.add_argument("--limit", type=float, default=300, help="seconds for each of the two storms (default 300)")
    storm.add_argument("--untuned", action="store_true", help="without what the role sets for many machines at once")
    storm.add_argument("--json", type=Path, help="a file for what happened to each machine")
    commands.add_parser("down")
    commands.add_parser("status")
    power = commands.add_parser("power")
    power.add_argument("action", choices=("cycle", "on", "off", "netboot", "thaw"))
    power.add_argument("names", nargs="+", metavar="NAME")
    return parser


def _up(lab: Lab, hosts: int, provision: bool) -> int:
    from . import demo, inventory, server

    lab.start(inventory.plan(hosts), settings=demo.SETTINGS)
    if provision:
        lab.controller.play("provision", log="provision")
    _say(
        "the lab is up\n\n"
        f"  run playbooks as its controller   {lab.controller.command('provision')}\n"
        f"  on its PXE server                 {shlex.join(server.command())}\n"
        f"  machines                          .lab/run/machines/*.json, .lab/logs/*.console.log\n"
        f"  power                             python -m pxelab power cycle {lab.hosts[0].name}\n"
    )
    _stay()
    return 0


def _stay() -> None:
    _say("the lab stays until Ctrl-C, or 'python -m pxelab down' from elsewhere")
    while True:
        time.sleep(3600)


def _verdict(problems: list[str]) -> int:
    if not problems:
        _say("everything was as it should be")
        return 0
    for problem in problems:
        print(f"pxelab: WRONG: {problem}", file=sys.stderr)
    return 1


def _firmware(options: argparse.Namespace) -> int:
    from . import firmware_runs, lab

    asked = options.firmware.split(",")
    kinds = list(firmware_runs.KINDS) if asked == ["all"] else asked
    unknown = [kind for kind in kinds if kind not in firmware_runs.KINDS]
    if unknown:
        raise LabError(f"--firmware: {unknown[0]} is none of {', '.join(firmware_runs.KINDS)}, all")
    problems = []
    for some in firmware_runs.rounds(kinds):
        with lab.running(_say) as one:
            problems += firmware_runs.run(one, some, reboots=options.reboots, pictures=options.pictures)
    return _verdict(problems)


def _storm(options: argparse.Namespace) -> int:
    """Nothing of it belongs to the lab: not its lock, nor its namespaces."""
    import dataclasses

    from . import paths, storm

    with storm.folder() as place:
        done = storm.run(options.hosts, place, _say, limit=options.limit, tuned=not options.untuned)
    _say("the storm\n\n" + storm.report(done))
    if options.json:
        paths.write_json(options.json, [dataclasses.asdict(outcome) for outcome in done.outcomes])
    return _verdict(done.problems)


def _run(options: argparse.Namespace) -> int:
    if options.command == "power":
        # called by the playbook for each host: only what it needs is loaded
        from . import supervisor

        _say(supervisor.press(options.action, options.names))
        return 0
    if options.command == "storm":
        return _storm(options)
    from . import demo, faults, flaps, images, kills, lab, report, sites

    if options.command == "down":
        lab.down(_say)
        return 0
    if options.command == "status":
        _say("the hosts\n\n" + report.table(report.rows(lab.attach(_say))))
        return 0
    if not 1 <= getattr(options, "hosts", 1) <= 50:
        raise LabError("--hosts: 1 to 50")
    if options.command == "firmware":
        return _firmware(options)
    with lab.running(_say) as one:
        if options.command == "up":
            return _up(one, options.hosts, options.provision)
        if options.command == "flaps":
            return _verdict(flaps.run(one))
        if options.command == "upgrade":
            return _verdict(demo.run_upgrade(one))
        if options.command == "faults":
            return _verdict(faults.run(one))
        if options.command == "images":
            return _verdict(images.run(one))
        if options.command == "sites":
            code = _verdict(sites.run(one, options.hosts))
            if options.keep:
                _stay()
            return code
        if options.command == "kill":
            return _verdict(kills.run(one, options.hosts, options.kills, options.seed))
        code = _verdict(demo.run(one, options.hosts, dhcp=options.dhcp))
        if options.keep:
            _stay()
        return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit code 0: everything was as it should be; 1: it was not; 2: it could not be tried."""
    # children are started with -m pxelab... from other folders
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    try:
        return _run(_parser().parse_args(argv))
    except LabError as error:
        print(f"pxelab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pxelab: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
