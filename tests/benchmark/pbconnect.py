# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many hosts pbconnect can take off the installer: ``python tests/benchmark/pbconnect.py [hosts]`` for all details.

So many hosts (10,000 without a number) are published and armed by the code that esxi_pxe_host runs. Then each reports
"installing" once, to the real service, over a TCP connection of its own: a tenth of all hosts at the same moment, as
racks do after a power failure, then a steady stream. An answer counts when the flip and the status are on disk.

Beside it, in the same run, on the same disk, driven by the same client: what people have instead, a web hook that
renders the pxelinux file of each MAC address anew and renames it into place, with and without bringing it to disk.
And what the disk itself does, so that the table tells a slow service from a slow disk.

The servers take turns, three rounds, because a machine is not equally busy all the time: rates are those of the middle
round, percentiles are of all rounds together. Times of a stream are counted from when a request was due, not from when
the client came round to sending it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import grp
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".lab" / "collections"))

import table as bench  # noqa: E402
from client import Measured, drive  # noqa: E402
from publish import definitions  # noqa: E402

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import Publisher  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (  # noqa: E402
    atomic_write,
    read_mode,
    write_json,
)
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import image_record  # noqa: E402

LIMIT, QUICK_LIMIT = 400, 60
HOSTS, QUICK_HOSTS = 10_000, 300
SERVICE = ROOT / "roles" / "pxe_server" / "files" / "pbconnect.py"
# Requests a second of the two streams with a fixed rate.
RATES = (500, 1000)
# Connections at once of the stream that goes as fast as it is answered.
AT_ONCE = 32
ROUNDS = 3
OURS = "pbconnect"
PEERS = {"a hook that rewrites each MAC's pxelinux file": ["sync"], "the same, not brought to disk": []}


# -- the hosts ----------------------------------------------------------------------------------------------------


class Server:
    """A PXE server's folders with hosts that are armed and have fetched their kickstarts."""

    def __init__(self, root: Path, hosts: list[dict[str, t.Any]]) -> None:
        document = {
            **ServerConfig(address="10.255.255.253").to_json(),
            "boot_root": str(root / "boot"),
            "state_root": str(root / "state"),
            "group": grp.getgrgid(os.getegid()).gr_name,
            "dhcp": {"mode": "none", "hosts_dir": str(root / "state" / "dhcp-hosts"), "reload": []},
            "listen": {"host": "127.0.0.1", "port": 0},
        }
        self.config_path = root / "server.json"
        self.config_path.write_text(json.dumps(document))
        self.config = ServerConfig.from_json(document)
        self.layout = Layout.of(self.config)
        self.hosts = hosts
        for folder in (self.layout.image_dir("esxi-8.0.3"), self.layout.descriptions_dir):
            folder.mkdir(parents=True)
        record = image_record()
        self.layout.description("esxi-8.0.3").write_text(json.dumps(record))
        for loader in ("mboot.c32", "efi/boot/bootx64.efi", "efi/boot/crypto64.efi"):
            path = self.layout.image_dir("esxi-8.0.3") / loader
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("loader\n")
        for host in hosts:
            folder = self.layout.kickstart_dir(host["name"])
            folder.mkdir(parents=True)
            for mac in host["macs"]:
                self.layout.kickstart(host["name"], mac).write_text("vmaccepteula\n")

    def arm(self) -> float:
        """Publish and arm all hosts; return the seconds it took."""
        results = Results()
        begun = time.monotonic()
        parsed = parse_hosts(self.hosts)
        Publisher(self.config, results, reload=lambda _argv: None).publish(parsed.hosts, arm=True)
        failed = results.as_return()["failed_hosts"]
        if failed:
            sys.exit(f"{len(failed)} hosts were not armed, such as {failed[0]}")
        return time.monotonic() - begun

    def requests(self) -> list[bytes]:
        """One "installing" for each host, with a token as its kickstart would have carried it."""
        now = datetime.datetime.now(datetime.timezone.utc)
        found = []
        for host in self.hosts:
            path = self.layout.install(host["name"])
            install, token = Install.from_json(json.loads(path.read_bytes())).mint(host["macs"][0], now)
            write_json(path, install.to_json(), 0o640, sync=False)
            message = {"stage": "installing", "mac": host["macs"][0], "message": "the installer has started"}
            found.append(
                post(
                    "/pbconnect/v1/notify",
                    message,
                    f"X-Real-IP: {install.addresses[0]}",
                    f"Authorization: Bearer {token}",
                )
            )
        os.sync()
        return found

    def installing(self) -> int:
        """How many hosts are off the installer, on disk, by link and by status."""
        return sum(
            read_mode(self.layout, host["name"]) == "local"
            and Status.from_json(json.loads(self.layout.status(host["name"]).read_bytes())).stage == "installing"
            for host in self.hosts
        )


def post(path: str, message: t.Mapping[str, t.Any], *headers: str) -> bytes:
    body = json.dumps(message).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: pxe", "Connection: close", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


# -- the peer -----------------------------------------------------------------------------------------------------


def hook(folder: Path, sync: bool) -> None:
    """What many sites run: a web hook that renders the boot file of each MAC address of a host that has called.

    It believes whoever calls, and keeps no record of it.
    """
    import jinja2
    from aiohttp import web

    template = jinja2.Environment(autoescape=False).from_string(
        "DEFAULT local\nPROMPT 0\nTIMEOUT 10\nLABEL local\n  # {{ name }} {{ now }}\n  LOCALBOOT 0\n"
    )
    pool = concurrent.futures.ThreadPoolExecutor(16)

    def write(name: str, macs: list[str]) -> None:
        for mac in macs:
            text = template.render(name=name, now=time.time())
            atomic_write(folder / f"01-{mac.replace(':', '-')}", text.encode(), sync=sync)

    async def called(request: web.Request) -> web.Response:
        message = await request.json()
        await asyncio.get_running_loop().run_in_executor(pool, write, message["name"], message["macs"])
        return web.json_response({"ok": True})

    async def run() -> None:
        application = web.Application()
        application.router.add_post("/hook", called)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        print(f"event=listening port={runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


# -- the servers -------------------------------------------------------------------------------------------------------


class Process:
    """A web server under test; says its port on its standard output."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._log = log.open("wb")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".lab" / "collections"), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        found = None
        while found is None:
            found = re.search(rb"event=listening .*port=(\d+)", log.read_bytes())
            if time.monotonic() > end or self._process.poll() is not None:
                sys.exit(f"{name} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        self.port = int(found.group(1))

    def resident(self) -> float:
        """Largest resident memory so far, in MiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) / 1024

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


# -- the table ----------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line: what a server did with a burst, a stream as fast as it goes, and streams of a fixed rate."""

    name: str
    burst: Measured
    fast: Measured
    fixed: list[Measured]
    memory: float
    cpu: float

    @property
    def failed(self) -> int:
        return sum(measured.failed for measured in (self.burst, self.fast, *self.fixed))

    @property
    def client_cpu(self) -> float:
        """Milliseconds of the client's CPU for each request."""
        parts = (self.burst, self.fast, *self.fixed)
        count = sum(len(part.answered) + part.failed for part in parts)
        return 1000 * sum(part.cpu for part in parts) / count

    def show(self) -> str:
        return (
            f"{self.name:<44}{self.burst.rate:>8,.0f}{self.burst.percentile(99):>8,.0f}"
            f"{self.fast.rate:>9,.0f}{self.fast.percentile(50):>7,.1f}{self.fast.percentile(99):>7,.1f}"
            + "".join(f"{one.percentile(50):>8,.1f}{one.percentile(99):>8,.1f}" for one in self.fixed)
            + f"{self.cpu:>8.2f}{self.client_cpu:>8.2f}{self.memory:>8,.0f}"
        )


HEAD = (
    f"{'':<44}{'burst':>16}{f'stream, {AT_ONCE} at once':>23}"
    + "".join(f"{f'{rate:,} a second':>16}" for rate in RATES)
    + f"{'CPU':>8}{'client':>8}{'memory':>8}\n"
    + f"{'':<44}{'/s':>8}{'p99 ms':>8}{'/s':>9}{'p50':>7}{'p99':>7}"
    + f"{'p50':>8}{'p99':>8}" * len(RATES)
    + f"{'ms each':>8}{'ms each':>8}{'MiB':>8}"
)


def take_turns(processes: dict[str, Process], requests: dict[str, list[bytes]], burst: int) -> list[Row]:
    """Send each server its requests, all of them in so many rounds, and stop it."""
    rows = {name: Row(name, Measured(), Measured(), [Measured() for _rate in RATES], 0, 0) for name in processes}
    for number in range(ROUNDS):
        for name, process in processes.items():
            rest = requests[name][number::ROUNDS]
            row, before, count = rows[name], process.cpu(), len(rest)
            row.burst.add(drive(process.port, rest[:burst]))
            rest = rest[burst:]
            share = len(rest) // (len(RATES) + 1)
            for rate, measured in zip(RATES, row.fixed):
                measured.add(drive(process.port, rest[:share], rate=rate))
                rest = rest[share:]
            row.fast.add(drive(process.port, rest, at_once=AT_ONCE))
            row.cpu += 1000 * (process.cpu() - before) / count / ROUNDS
    for name, process in processes.items():
        rows[name].memory = process.resident()
        process.stop()
        if rows[name].failed:
            print(f"{name}: {rows[name].failed} requests got no good answer")
    return list(rows.values())


def disk(folder: Path, seconds: float = 1.0) -> dict[int, float]:
    """How often a second this disk takes what a flip and a status need at least, from so many threads at once.

    A link renamed and its folder synced, a file written, synced and renamed and its folder synced: no locks, no checks.
    """
    rates = {}
    for threads in (1, 4, 16):
        own = folder / f"disk{threads}"
        (own / "status").mkdir(parents=True)
        counts = [0] * threads

        def work(number: int, own: Path, counts: list[int]) -> None:
            tree = own / str(number)
            tree.mkdir()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                os.symlink("local", tree / "new")
                os.rename(tree / "new", tree / "boot")
                sync(tree)
                atomic_write(own / "status" / f"{number}.json", b"x" * 700)
                counts[number] += 1

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads), [own] * threads, [counts] * threads))
        rates[threads] = sum(counts) / seconds
        shutil.rmtree(own)
    return rates


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measure(run: bench.Run) -> None:
    """The same as a part of `make bench`."""
    count = QUICK_HOSTS if run.quick else HOSTS
    own, (hook, unsafe), rates = main(count, run.folder)
    run.add(
        bench.Row(
            f"hosts taken off the installer, {AT_ONCE} at once",
            count,
            rate=own.fast.rate,
            memory=own.memory,
            ratio=own.fast.rate / hook.fast.rate,
            peer=f"the rate of {hook.name}",
            budget=bench.Budget("rate", at_least=1000) if not run.quick else None,
            note=f"{own.fast.rate / rates[16]:.2f} of what the disk does; CPU of each {own.cpu:.2f} ms, "
            f"the client's {own.client_cpu:.2f} ms",
        )
    )
    for row, budget in ((own, True), (hook, False), (unsafe, False)):
        for rate, measured in zip(RATES, row.fixed):
            if row is own or rate == RATES[-1]:
                run.add(
                    bench.Row(
                        f"p99 at {rate:,} a second, {row.name}",
                        count,
                        seconds=measured.percentile(99) / 1000,
                        memory=row.memory,
                        # The budget is a thousand a second.
                        budget=bench.Budget("seconds", at_most=0.05)
                        if budget and not run.quick and rate == 1000
                        else None,
                    )
                )
    run.add(bench.Row("a tenth of all at the same moment", count // 10, rate=own.burst.rate))


def main(count: int, folder: Path) -> tuple[Row, list[Row], dict[int, float]]:
    """Measure all and print the table."""
    burst = count // 10
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, Linux {platform.release()}"
    )
    rates = disk(folder)
    print(
        "this disk: " + ", ".join(f"{rate:,.0f}/s from {n} thread(s)" for n, rate in rates.items()) + " (link + status)"
    )
    hosts = definitions(count)
    server = Server(folder, hosts)
    print(f"{count:,} hosts published and armed in {server.arm():.1f} s; {burst:,} of them report at once")
    requests = server.requests()
    command = [sys.executable, str(SERVICE), "--config", str(server.config_path)]
    processes = {OURS: Process(OURS, command, folder / "pbconnect.log")}
    calls = [post("/hook", {"name": host["name"], "macs": host["macs"]}) for host in hosts]
    for name, words in PEERS.items():
        (folder / f"hook{len(words)}").mkdir()
        command = [sys.executable, __file__, "--hook", str(folder / f"hook{len(words)}"), *words]
        processes[name] = Process(name, command, folder / f"hook{len(words)}.log")
    rows = take_turns(processes, {name: requests if name == OURS else calls for name in processes}, burst)
    done = server.installing()
    if done != count - rows[0].failed:
        sys.exit(f"{done} hosts are off the installer, and {count - rows[0].failed} were acknowledged")
    print(f"acknowledged and on disk: {done:,} of {count:,}")
    print(HEAD)
    for row in rows:
        print(row.show())
    for row in rows[1:]:
        print(
            f"pbconnect : {row.name} = {rows[0].burst.rate / row.burst.rate:.2f} in the burst, "
            f"{rows[0].fast.rate / row.fast.rate:.2f} in the stream"
        )
    print(f"pbconnect : this disk from 16 threads = {rows[0].fast.rate / rates[16]:.2f} in the stream")
    return rows[0], rows[1:], rates


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hook"]:
        hook(Path(sys.argv[2]), sys.argv[3:] == ["sync"])
    else:
        with tempfile.TemporaryDirectory(prefix="pxemanager-bench-", dir="/var/tmp") as name:
            main(int(sys.argv[1]) if sys.argv[1:] else 10_000, Path(name))
