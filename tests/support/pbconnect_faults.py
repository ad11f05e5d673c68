# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that install themselves while everything around them goes wrong, and a count of what was lost by it.

Three campaigns: the service is killed by SIGKILL at random moments; its disk is full now and then; two controllers
publish and arm the same hosts meanwhile. In each, machines report stage after stage and repeat what was not
acknowledged. What counts is on disk, looked at while nobody writes: every acknowledged stage, no file that is torn,
every host in a state that the rules allow, and none that boots the installer after "installing" was acknowledged.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import http.client
import importlib.util
import json
import multiprocessing.forkserver
import os
import pathlib
import random
import signal
import socket
import sys
import threading
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import read_mode
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_service import ADDRESS, NOTIFY, SERVICE
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

REPORTED = ("installing", "installed", "ready")
# A server of processes that has imported what the service needs: one starts in a few hundredths of a second.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["aiohttp.web", __name__])


def start_processes() -> None:
    """Start that server; it does not hear of this process's path but through the environment."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def run_service(config_path: str, log: str) -> None:
    """The service as its unit runs it, but for the start of Python."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    specification = importlib.util.spec_from_file_location("pbconnect_service_program", SERVICE)
    assert specification is not None and specification.loader is not None
    program = importlib.util.module_from_spec(specification)
    # What lies beside it, as for a program that Python is told to run.
    sys.path.insert(0, str(SERVICE.parent))
    specification.loader.exec_module(program)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    asyncio.run(program.serve(program.load(config_path)))


class Service:
    """The service, again and again on the same port."""

    def __init__(self, config_path: pathlib.Path, port: int, log: pathlib.Path) -> None:
        self._arguments = (str(config_path), str(log))
        self._port = port
        self._process: t.Any = None
        self.log = log
        self.kills = 0

    def start(self) -> None:
        self._process = PROCESSES.Process(target=run_service, args=self._arguments, daemon=True)
        self._process.start()
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            if time.monotonic() > end or not self._process.is_alive():
                raise AssertionError(f"the service does not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.002)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(30)
        self.kills += 1

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(60)


class Machine:
    """A host that reports stage after stage until each is acknowledged."""

    def __init__(self, name: str, mac: str, address: str, install: str, token: str) -> None:
        self.name, self.mac, self.install = name, mac, install
        self._address, self._token = address, token
        self.acknowledged: list[str] = []
        self.sent = 0
        self.refused: list[int] = []

    def run(self, port: int, stop: threading.Event) -> None:
        for stage in REPORTED:
            while not stop.is_set():
                status = self._tell(port, stage)
                if status == 200:
                    self.acknowledged.append(stage)
                    break
                if status:
                    self.refused.append(status)
                time.sleep(0.01)

    def _tell(self, port: int, stage: str) -> int:
        """HTTP status; 0: there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.sent += 1
        try:
            connection.request(
                "POST",
                NOTIFY,
                json.dumps({"stage": stage, "mac": self.mac}),
                {"Authorization": f"Bearer {self._token}", "X-Real-IP": self._address},
            )
            return int(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class Figures:
    """What a campaign counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds = self.notifications = self.acknowledged = self.faults = 0
        self.looks = 0
        self.unanswered = self.busy = 0
        self.lost: list[str] = []
        self.illegal: list[str] = []
        self.torn: list[str] = []

    def add(self, machines: t.Iterable[Machine]) -> None:
        self.rounds += 1
        for machine in machines:
            self.notifications += machine.sent
            self.acknowledged += len(machine.acknowledged)
            self.busy += machine.refused.count(503)
            self.unanswered += machine.sent - len(machine.acknowledged) - len(machine.refused)
            self.illegal += [f"{machine.name} was answered {status}" for status in machine.refused if status != 503]

    def look(self, layout: Layout, machines: t.Iterable[Machine]) -> None:
        """Compare the files with what was acknowledged. Nobody may be writing."""
        self.looks += 1
        for machine in machines:
            # Before the files: what is acknowledged while they are read may be missing from them.
            acknowledged = list(machine.acknowledged)
            try:
                status = Status.from_json(json.loads(layout.status(machine.name).read_bytes()))
                mode = read_mode(layout, machine.name)
            except Exception as exc:
                self.torn.append(f"{machine.name}: {exc}")
                continue
            self.lost += [f"{machine.name}: {stage}" for stage in acknowledged if stage not in status.stages]
            if status.install != machine.install:
                self.lost.append(f"{machine.name}: is at another install")
            self.illegal += [f"{machine.name}: {problem}" for problem in problems_of(status, mode, acknowledged)]
        for folder in (layout.status_dir, layout.installs_dir, layout.records_dir):
            for path in folder.glob("[!.]*") if folder.is_dir() else ():
                try:
                    if json.loads(path.read_bytes())["schema"] != 1:
                        raise ValueError("another schema")
                except (ValueError, KeyError) as exc:
                    self.torn.append(f"{path.name}: {exc}")

    @property
    def good(self) -> bool:
        return not (self.lost or self.illegal or self.torn)

    def __str__(self) -> str:
        return (
            f"{self.name:<34}{self.rounds:>7,}{self.faults:>8,}{self.notifications:>14,}{self.acknowledged:>13,}"
            f"{self.unanswered:>11,}{self.busy:>7,}{self.looks:>7,}{len(self.lost):>6}{len(self.torn):>6}"
            f"{len(self.illegal):>9}"
        )


HEAD = (
    f"{'':<34}{'rounds':>7}{'faults':>8}{'notifications':>14}{'acknowledged':>13}{'no answer':>11}{'503':>7}"
    f"{'looks':>7}{'lost':>6}{'torn':>6}{'illegal':>9}"
)


def problems_of(status: Status, mode: str | None, acknowledged: t.Sequence[str]) -> t.Iterator[str]:
    """What of a host's state the rules do not allow."""
    if mode not in ("install", "local"):
        yield f"the link leads to {mode}"
    if acknowledged and (mode, status.mode) != ("local", "local"):
        yield f"would install again after {acknowledged[-1]} was acknowledged"
    if mode == "install" and status.mode != "install":
        yield "the link is behind the status"
    if (status.mode == "install") != (status.stage == "armed"):
        yield f"mode {status.mode} at stage {status.stage}"
    if acknowledged and STAGES.index(status.stage) < max(STAGES.index(t.cast("t.Any", one)) for one in acknowledged):
        yield f"went back to {status.stage}"
    times = [status.stages[stage] for stage in STAGES if stage in status.stages]
    if times != sorted(times):
        yield "a stage is earlier than the one before it"


@contextlib.contextmanager
def running(machines: t.Sequence[Machine], port: int) -> t.Iterator[list[concurrent.futures.Future[None]]]:
    """The machines at work, each in a thread of its own; stopped at the end whatever they have done."""
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(len(machines)) as pool:
        try:
            yield [pool.submit(machine.run, port, stop) for machine in machines]
        finally:
            stop.set()


def finish(futures: t.Iterable[concurrent.futures.Future[None]], seconds: float = 60) -> None:
    """Wait until all machines have been heard."""
    for future in futures:
        future.result(seconds)


def armed(site: Site, count: int, number: int) -> list[Machine]:
    """So many hosts, armed once more, as if each had fetched its kickstart."""
    machines = []
    for host in range(count):
        name, mac = f"esx{host:03}.example.com", f"00:50:56:00:{host >> 8:02x}:{host & 255:02x}"
        # A second apart: an install's time never goes back.
        install = site.arm(name, [mac], [ADDRESS], now() + datetime.timedelta(seconds=number))
        machines.append(Machine(name, mac, ADDRESS, install.install, site.mint(name, mac, now())))
    return machines


def killed(folder: pathlib.Path, rounds: int, hosts: int = 12, seed: int = 1) -> Figures:
    """SIGKILL at random moments, several times in each round."""
    start_processes()
    figures = Figures("killed by SIGKILL")
    moments = random.Random(seed)
    port = free_port()
    site = Site(folder, listen={"host": "127.0.0.1", "port": port})
    service = Service(site.config_path, port, folder / "service.log")
    for number in range(rounds):
        machines = armed(site, hosts, number)
        service.start()
        with running(machines, port) as futures:
            before = service.kills
            while not all(future.done() for future in futures):
                # Longer with each kill, so that a slow machine gets on as well.
                time.sleep(moments.uniform(0, 0.12) * (1 + (service.kills - before) / 4))
                service.kill()
                figures.look(site.layout, machines)
                service.start()
            finish(futures)
        service.kill()
        figures.look(site.layout, machines)
        figures.add(machines)
    figures.faults = service.kills
    return figures


def disk_full(folder: pathlib.Path, rounds: int, hosts: int = 12, seed: int = 2) -> Figures:
    """A file system of its own that is full for a while, again and again, and now and then a SIGKILL as well.

    :arg folder: the root of a small file system.
    """
    start_processes()
    figures = Figures("disk full")
    moments = random.Random(seed)
    port = free_port()
    site = Site(folder / "site", listen={"host": "127.0.0.1", "port": port})
    service = Service(site.config_path, port, folder / "service.log")
    filler = folder / "filler"
    for number in range(rounds):
        machines = armed(site, hosts, number)
        service.start()
        with running(machines, port) as futures:
            while not all(future.done() for future in futures):
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
                figures.faults += 1
                time.sleep(moments.uniform(0, 0.05))
                if moments.random() < 0.2:
                    service.kill()
                    figures.look(site.layout, machines)
                    filler.unlink()
                    service.start()
                else:
                    filler.unlink()
                time.sleep(moments.uniform(0, 0.03))
            finish(futures)
        service.stop()
        figures.look(site.layout, machines)
        figures.add(machines)
    return figures


def control(config_path: str, root: str, which: int, hosts: int, stop: t.Any, calls: t.Any) -> None:
    """A controller: what esxi_pxe_host does, for all hosts, over and over, until it is told to stop."""
    server = Controller(pathlib.Path(root), json.loads(pathlib.Path(config_path).read_text()))
    while not stop.is_set():
        server.now = now()
        # One arms whoever is not installed yet, the other changes what is published.
        changes = {} if which == 0 else {"boot": {"vlan": 1 + calls.value % 4000}}
        definitions = [definition(number, **changes) for number in range(1, hosts + 1)]
        value = server.call("armed" if which == 0 else "published", *definitions)
        if value["failed_hosts"]:
            raise AssertionError(value["msg"])
        calls.value += 1


class Controller(PxeServer):
    """A second look at a server that is there already."""

    def __init__(self, root: pathlib.Path, document: dict[str, t.Any]) -> None:
        self.root = root
        self.config = ServerConfig.from_json(document)
        self.layout = Layout.of(self.config)
        self.boot, self.state = self.layout.boot_root, self.layout.state_root
        self.reloads = 0
        self.reload_problem = None
        self.released = []
        self.dhcp_reads_again = lambda: None
        self.now = now()


def two_controllers(folder: pathlib.Path, rounds: int, hosts: int = 8, seed: int = 3) -> Figures:
    """Two controllers publish and arm the hosts that report to the service; it is killed now and then as well."""
    start_processes()
    figures = Figures("two controllers at once")
    moments = random.Random(seed)
    port = free_port()
    server = PxeServer(folder, listen={"host": "127.0.0.1", "port": port})
    definitions = [definition(number) for number in range(1, hosts + 1)]
    service = Service(server.config_path, port, folder / "service.log")
    service.start()
    for number in range(rounds):
        server.write_kickstarts(*definitions)
        for one in definitions:
            for mac in one["macs"]:
                server.layout.kickstart(one["name"], mac).write_text("@PBCONNECT_TOKEN@")
        server.now = now()
        server.good("armed", *({**one, "reinstall": f"round {number}"} for one in definitions))
        stop = PROCESSES.Event()
        counts = [PROCESSES.Value("i", 0) for _which in range(2)]
        controllers = [
            PROCESSES.Process(target=control, args=(str(server.config_path), str(folder), which, hosts, stop, count))
            for which, count in enumerate(counts)
        ]
        for controller in controllers:
            controller.start()
        try:
            machines = [fetched(server, one, port) for one in definitions]
            with running(machines, port) as futures:
                if moments.random() < 0.5:
                    time.sleep(moments.uniform(0, 0.1))
                    service.kill()
                    service.start()
                finish(futures)
            # They go on for a little while: nobody may be armed again for having been installed.
            time.sleep(moments.uniform(0, 0.1))
        finally:
            stop.set()
            for controller in controllers:
                controller.join(120)
        figures.illegal += [f"a controller ended with {one.exitcode}" for one in controllers if one.exitcode]
        figures.faults += sum(count.value for count in counts)
        figures.look(server.layout, machines)
        figures.add(machines)
        figures.illegal += [
            f"{machine.name} was left at {server.status(machine.name).stage}"
            for machine in machines
            if server.status(machine.name).stage != "ready"
        ]
        figures.lost += [
            one["name"]
            for one in definitions
            if not server.layout.record(one["name"]).exists() or not server.layout.reservation(one["name"]).exists()
        ]
        server.check_invariants(
            [one["name"] for one in definitions], [mac for one in definitions for mac in one["macs"]]
        )
    service.stop()
    return figures


def fetched(server: PxeServer, one: t.Mapping[str, t.Any], port: int) -> Machine:
    """A host that has fetched its kickstart from the service."""
    name, mac = one["name"], one["macs"][0]
    install = server.install(name)
    address = install.addresses[0]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path = f"/ks/{install.key}/01-{mac.replace(':', '-')}.cfg"
    connection.request("GET", path, headers={"X-Real-IP": address})
    answer = connection.getresponse()
    token = answer.read().decode()
    connection.close()
    if answer.status != 200:
        raise AssertionError(f"{name} got no kickstart: {answer.status} {token}")
    return Machine(name, mac, address, install.install, token)
