# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many machines a second the DHCP servers that the role sets up can answer, measured with ISC's perfdhcp.

dnsmasq with a file for each reservation, and Kea with its reservations in PostgreSQL, each with the role's own
configuration, in two network namespaces of its own. A machine is answered when it has got its OFFER and its ACK. The
rate is raised step by step, and the figure is the most that were answered in a second at any step; beside it stands the
highest rate at which nearly all were. perfdhcp takes the MAC addresses that are reserved, at random, and asks the way a
relay does, as a UEFI machine would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import re
import subprocess
import time
import typing as t

from table import Row, Run, Skip

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import Reservation
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea import PSQL
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea_sql import script, subnet_id
from ansible_collections.pxemanager.esxi.tests.support import dhcp_servers
from ansible_collections.pxemanager.esxi.tests.support.commands import run_command
from ansible_collections.pxemanager.esxi.tests.support.pxe_role import Rendered

LIMIT = 150
QUICK_LIMIT = 40
ROOT = True

SUBNET, SERVER, RELAY = "10.20.0.0/16", "10.20.255.253", "10.20.255.254"
RATES = (250, 500, 1_000, 2_000, 4_000, 6_000, 8_000, 11_000)
NEARLY_ALL = 0.99
TOO_FEW = 0.7


@dataclasses.dataclass(frozen=True)
class _Server:
    """A server that runs: its processes, by what they are."""

    pids: t.Callable[[], dict[str, list[int]]]


def reservations(count: int) -> list[Reservation]:
    """As many hosts, with one MAC address each: a machine boots by one of them at a time."""
    first = int(ipaddress.IPv4Address("10.20.0.1"))
    return [
        Reservation(
            f"esx{number:05d}.example.com",
            (f"00:50:56:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",),
            str(ipaddress.IPv4Address(first + number)),
        )
        for number in range(count)
    ]


def measure(run: Run) -> None:
    """The part of the benchmark."""
    reason = dhcp_servers.missing("perfdhcp", "dnsmasq", "kea-dhcp4", "psql") or (
        None if dhcp_servers.postgresql_programs() else "needs a PostgreSQL server"
    )
    if reason is not None:
        raise Skip(f"DHCP cannot be measured here: {reason}")
    counts = (100,) if run.quick else (1_000, 10_000)
    seconds = 1.0 if run.quick else 2.0
    rates = RATES[1:4] if run.quick else RATES
    postgresql = dhcp_servers.PostgreSQL()
    try:
        for count in counts:
            hosts = reservations(count)
            macs = run.folder / f"macs-{count}"
            macs.write_text("".join(f"{host.macs[0]}\n" for host in hosts))
            found = {}
            for name, start in (("dnsmasq", _dnsmasq), ("Kea", _kea)):
                with _namespaces() as (namespace, relay), start(run, namespace, hosts, postgresql) as server:
                    rate, note = _best(run, name, server, relay, macs, rates, seconds)
                    for what, pids in server.pids().items():
                        memory = _memory(pids)
                        if what == name:
                            found[name] = rate
                            peer = found["dnsmasq"] if name != "dnsmasq" else 0.0
                            run.add(
                                Row(
                                    f"{name}: machines answered a second",
                                    count,
                                    rate=rate,
                                    memory=memory,
                                    note=note,
                                    peer="as many as dnsmasq" if peer else "",
                                    ratio=rate / peer if peer else None,
                                )
                            )
                        else:
                            run.add(Row(f"{what} beside it", count, memory=memory))
    finally:
        postgresql.stop()


@contextlib.contextmanager
def _namespaces() -> t.Iterator[tuple[str, str]]:
    server, relay = (f"pxebench{os.getpid()}{side}" for side in "sr")
    made = []
    try:
        for namespace in (server, relay):
            dhcp_servers.ip("netns", "add", namespace)
            made.append(namespace)
        dhcp_servers.ip("-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", relay)
        for namespace, address in ((server, SERVER), (relay, RELAY)):
            dhcp_servers.ip("-n", namespace, "link", "set", "lo", "up")
            dhcp_servers.ip("-n", namespace, "link", "set", "eth0", "up")
            dhcp_servers.ip("-n", namespace, "address", "add", f"{address}/16", "dev", "eth0")
        yield server, relay
    finally:
        for namespace in made:
            dhcp_servers.ip("netns", "del", namespace)


@contextlib.contextmanager
def _dnsmasq(
    run: Run, namespace: str, hosts: t.Sequence[Reservation], _postgresql: dhcp_servers.PostgreSQL
) -> t.Iterator[_Server]:
    folder = run.folder / f"dnsmasq-{len(hosts)}"
    (folder / "dhcp-hosts").mkdir(parents=True)
    for host in hosts:
        (folder / "dhcp-hosts" / host.name).write_text(f"{host.macs[0]},{host.address},{host.short_name}\n")
    text = Rendered(
        pxe_server_address=SERVER,
        pxe_server_subnet=SUBNET,
        pxe_server_state_root=str(folder),
        pxe_server_boot_root=str(folder),
    ).file("dnsmasq.conf.j2")
    text = re.sub(r"^(user|group|pid-file)=.*\n", "", text, flags=re.MULTILINE)
    config, log = folder / "dnsmasq.conf", folder / "log"
    config.write_text(f"{text}user=root\npid-file\nlog-facility={log}\n")
    log.touch()
    process = subprocess.Popen(["ip", "netns", "exec", namespace, "dnsmasq", "-k", "-C", str(config)])
    try:
        deadline = time.monotonic() + 60
        while log.read_text(errors="replace").count(f"read {folder}/dhcp-hosts/") < len(hosts):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Skip(f"dnsmasq does not start: {log.read_text()[-200:]}")
            time.sleep(0.1)
        yield _Server(lambda: {"dnsmasq": [process.pid]})
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _kea(
    run: Run, namespace: str, hosts: t.Sequence[Reservation], postgresql: dhcp_servers.PostgreSQL
) -> t.Iterator[_Server]:
    postgresql.empty()
    network = subnet_id(hosts[0].address, [SUBNET])
    assert network is not None
    names = [host.name for host in hosts]
    environment = {
        "PGHOST": str(postgresql.folder),
        "PGPORT": str(postgresql.port),
        "PGDATABASE": "kea",
        "PGUSER": "kea",
    }
    for what in ("reservations written into Kea's database", "the same again, nothing changed"):
        started = time.monotonic()
        text = script(SERVER, [(host, network) for host in hosts], names, names, write=True)
        code, _out, err = run_command(PSQL, text, environment)
        if code != 0:
            raise Skip(f"Kea's database takes no reservations: {err.strip()}")
        run.add(Row(what, len(hosts), seconds=time.monotonic() - started))
    config = dhcp_servers.kea_config(postgresql, pxe_server_address=SERVER, pxe_server_subnet=SUBNET)
    kea = dhcp_servers.Kea(namespace, run.folder / f"kea-{len(hosts)}", config)
    try:
        yield _Server(lambda: {"Kea": [kea.pid], "PostgreSQL": postgresql.pids()})
    finally:
        kea.kill()


def _memory(pids: t.Iterable[int]) -> float:
    """MiB of processes; what they share is counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1])  # type: ignore[index]
    return total / 1024


def _cpu(server: _Server) -> float:
    """Seconds of CPU that a server's processes have used so far."""
    total = 0
    for pid in (pid for pids in server.pids().values() for pid in pids):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _best(
    run: Run,
    name: str,
    server: _Server,
    relay: str,
    macs: pathlib.Path,
    rates: t.Sequence[int],
    seconds: float,
) -> tuple[float, str]:
    """The most that were answered in a second, and at which rate nearly all were."""
    best, all_of, few, cpu, total = 0.0, 0, 0, _cpu(server), 0
    for rate in rates:
        answered, sent = perfdhcp(relay, macs, rate, seconds)
        run.say(f"{name}: of {sent / seconds:.0f} machines a second {answered / seconds:.0f} were answered")
        best = max(best, answered / seconds)
        total += answered
        if answered >= NEARLY_ALL * sent:
            all_of = rate
        # One bad step may be the fault of the machine that measures.
        few += answered < TOO_FEW * sent
        if few == 2:
            break
    # Tells how busy the server was, also on a machine that had other things to do.
    each = 1000 * (_cpu(server) - cpu) / max(total, 1)
    nearly = f"99 of 100 at {all_of:,} a second" if all_of else "some were lost at every rate"
    return best, f"{nearly}; {each:.2f} ms of CPU for each"


def perfdhcp(relay: str, macs: pathlib.Path, rate: int, seconds: float) -> tuple[int, int]:
    """How many machines were answered to the end, and how many had asked."""
    done = subprocess.run(
        [
            *("ip", "netns", "exec", relay, "perfdhcp", "-4", "-l", "eth0", "-M", str(macs)),
            *("-r", str(rate), "-p", f"{max(1, round(seconds))}", "-W", "500000"),
            # a UEFI machine: option 60 "PXEClient", option 93 arch 7
            *("-o", "60,505845436c69656e74", "-o", "93,0007", SERVER),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    counts = re.findall(r"^(sent packets|received packets): (\d+)", done.stdout, re.MULTILINE)
    if len(counts) != 4:
        raise Skip(f"perfdhcp says: {(done.stderr or done.stdout).strip()[-300:]}")
    return int(counts[3][1]), int(counts[0][1])
