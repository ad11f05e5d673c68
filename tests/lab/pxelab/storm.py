# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A boot storm: the power comes back, and a thousand machines boot from one PXE server at the same moment.

First all of them are armed: each must install itself once and become ready. Then the power fails again: each must come
to its disk and see no installer.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import storm_site
from .errors import LabError
from .procs import run as run_command
from .storm_site import FIRMWARE, Server, Site, Usage, address_of

MAX_HOSTS = 5000
_FOLDER = "pxemanager-storm-"
_STORMS = ("install", "power cycle")
#: Processes of machines: more than one, because threads of one Python share one core.
_PROCESSES = 2


@dataclass
class Outcome:
    """What one power-on of all machines came to."""

    name: str
    seconds: float
    machines: list[dict[str, Any]]
    usage: dict[str, Usage]
    lost: int = 0

    def total(self, counter: str) -> int:
        """Of all machines together."""
        return sum(one["counters"].get(counter, 0) for one in self.machines)

    def phases(self) -> dict[str, list[float]]:
        """Seconds of every machine by phase, sorted."""
        found: dict[str, list[float]] = {}
        for one in self.machines:
            for phase, seconds in one["seconds"]:
                found.setdefault(phase, []).append(seconds)
        return {phase: sorted(seconds) for phase, seconds in found.items()}

    @property
    def running(self) -> int:
        """Machines whose installed system runs."""
        return sum(one["end"] == "running" for one in self.machines)

    @property
    def requests(self) -> int:
        """DHCP packets, and files asked for or reports sent by TFTP and HTTP."""
        return sum(self.total(f"{kind}_requests") for kind in ("dhcp", "tftp", "http"))


@dataclass
class Storm:
    """Both storms, and what was wrong."""

    hosts: int
    outcomes: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    stages: dict[tuple[str, str], int] = field(default_factory=dict)


def percentile(values: list[float], percent: int) -> float:
    """Of sorted values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


@contextlib.contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """A place for the site's files, removed at the end. What a killed storm left there is removed first."""
    parent = parent or Path("/var/tmp")
    for left in parent.glob(f"{_FOLDER}*"):
        pid = left.name[len(_FOLDER) :].partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            run_command(["rm", "-rf", "--one-file-system", left])
    with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", dir=parent) as name:
        yield Path(name)


class _Machines:
    """The processes that the machines live in."""

    def __init__(self, site: Site) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        certificate = _certificate(site.folder)
        specs = [
            {
                "name": one["name"],
                "macs": one["macs"],
                "firmware": FIRMWARE[number % len(FIRMWARE)],
                "uuid": uuid.uuid5(uuid.NAMESPACE_DNS, one["name"]).hex,
                "address": address_of(one),
            }
            for number, one in enumerate(site.hosts)
        ]
        for number in range(_PROCESSES):
            path = site.folder / f"machines{number}.json"
            mine = specs[number::_PROCESSES]
            path.write_text(json.dumps({"certificate": certificate, "machines": mine}), encoding="utf-8")
            process = subprocess.Popen(
                site.machines(
                    [
                        "prlimit",
                        f"--nofile={storm_site.open_files()}",
                        sys.executable,
                        "-m",
                        "pxelab.storm_machines",
                        path,
                    ]
                ),
                env={"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd=site.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)
        for process in self._processes:
            self._read(process)

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise LabError("a process of machines ended; what it said is above")
        return json.loads(line)

    def power_on(self, seconds: float) -> list[dict[str, Any]]:
        """All of them; returns what happened to each."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        return [one for process in self._processes for one in self._read(process)]

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()


def _certificate(into: Path) -> str:
    """One for all: what a storm asks is not whether they differ."""
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=esx.storm.example"
    )
    run_command([*words.split(), "-keyout", into / "host.key", "-out", into / "host.crt"])
    return (into / "host.crt").read_text(encoding="ascii")


def _difference(after: Usage, before: Usage) -> Usage:
    return Usage(after.cpu - before.cpu, after.memory)


def run(
    count: int,
    place: Path,
    say: Callable[[str], None],
    *,
    limit: float = 300.0,
    tuned: bool = True,
    **settings: Any,
) -> Storm:
    """Publish, arm, let all boot at once, and again. ``limit``: seconds for each storm. Raises ``LabError``.

    ``tuned``: with what the role sets for many machines at once; without it as the distribution has it. ``settings``
    are variables of the role pxe_server.
    """
    reason = storm_site.missing()
    if reason:
        raise LabError(reason)
    if not 1 <= count <= MAX_HOSTS:
        raise LabError(f"--hosts: 1 to {MAX_HOSTS}")
    storm = Storm(count)
    site = Site(place, count, settings=settings, tuned=tuned)
    site.publish()
    say(f"{count:,} hosts published and armed in {site.seconds['publish']:.1f} s")
    machines = None
    try:
        site.start()
        machines = _Machines(site)
        for name in _STORMS:
            before = {key: server.usage() for key, server in site.servers.items()}
            lost = site.lost()
            begun = time.monotonic()
            told = machines.power_on(limit)
            seconds = time.monotonic() - begun
            used = {key: _difference(server.usage(), before[key]) for key, server in site.servers.items()}
            outcome = Outcome(name, seconds, told, used, site.lost() - lost)
            storm.outcomes.append(outcome)
            say(f"{name}: {outcome.running:,} of {count:,} run after {seconds:.1f} s")
            storm.problems += _wrong(outcome, site.servers)
        storm.stages = site.stages()
        if storm.stages != {("local", "ready"): count}:
            storm.problems.append(f"the PXE server has its hosts at {storm.stages} and not all at local, ready")
        storm.complaints = site.complaints()
    finally:
        if machines is not None:
            machines.stop()
        site.stop()
    return storm


def _wrong(outcome: Outcome, servers: dict[str, Server]) -> list[str]:
    problems = []
    once = 1 if outcome.name == "install" else 0
    for one in outcome.machines:
        if one["end"] != "running":
            problems.append(f"{outcome.name}: {one['name']} ({one['firmware']}) {one['end']}")
        for counter in ("install_starts", "installs"):
            if one["counters"].get(counter, 0) != once:
                problems.append(
                    f"{outcome.name}: {one['name']} ({one['firmware']}): {counter} is"
                    f" {one['counters'].get(counter, 0)}, it should be {once}"
                )
    for server in servers.values():
        if server.process.poll() is not None:
            problems.append(f"{outcome.name}: {server.name} has ended")
    return problems


def report(storm: Storm) -> str:
    """The figures as text."""
    lines = []
    for outcome in storm.outcomes:
        rate = outcome.requests / outcome.seconds
        lines += [
            f"{outcome.name}: {outcome.running:,} of {storm.hosts:,} machines run, the last after"
            f" {outcome.seconds:.1f} s; {outcome.requests:,} requests, {rate:,.0f} a second",
            f"  {'':<28}{'times':>8}{'p50 s':>9}{'p99 s':>9}{'most s':>9}",
        ]
        for phase, seconds in sorted(outcome.phases().items(), key=lambda item: item[0]):
            lines.append(
                f"  {phase:<28}{len(seconds):>8,}{percentile(seconds, 50):>9.2f}{percentile(seconds, 99):>9.2f}"
                f"{seconds[-1]:>9.2f}"
            )
        again = ", ".join(
            f"{outcome.total(counter):,} {what}"
            for counter, what in (
                ("dhcp_requests", "DHCP packets"),
                ("tftp_requests", "TFTP files"),
                ("http_requests", "HTTP requests"),
                ("tftp_retries", "TFTP packets sent again"),
                ("pbconnect_retries", "reports sent again"),
                ("nothing_to_boot", "rounds of a firmware that found nothing"),
            )
        )
        lines.append(f"  {again}, {outcome.lost:,} UDP packets lost in the server's buffers")
        for name, usage in outcome.usage.items():
            lines.append(
                f"  {name:<12}{usage.cpu:>7.1f} s CPU ({100 * usage.cpu / outcome.seconds:.0f} % of a core),"
                f" {usage.memory:,.0f} MiB at most"
            )
    lines += [f"  said: {line}" for line in storm.complaints[:12]]
    return "\n".join(lines)
