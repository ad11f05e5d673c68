# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: made from nothing, used, and taken down again whatever happened in between."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import guest, inventory, medium, net, paths, procs, rootfs, sandbox, server, site, sitedhcp, supervisor, vcenter
from .ansible import Controller, close_connections
from .errors import LabError
from .inventory import Planned, Secrets
from .lock import Lock

MACHINES = "machines"
RELAY = "relay"
SECRETS = paths.RUN / "secrets.json"
_STATE_SECONDS = 10.0


class Lab:
    """A running lab. Make one with ``running``."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.hosts: list[Planned] = []
        self.passwords = Secrets()
        self.seconds: dict[str, float] = {}
        self.controller = Controller(show=lambda line: print(line, end="", flush=True))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase of the run for the report."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 1)

    def start(
        self,
        hosts: Iterable[Planned],
        *,
        settings: dict[str, Any] | None = None,
        dhcp: str = "dnsmasq",
        server_settings: dict[str, Any] | None = None,
    ) -> None:
        """Bring everything up: network, PXE server, vCenter, machines, inventory.

        ``dhcp`` is the role's pxe_server_dhcp_mode; with ``proxy`` and ``none`` the site has its own DHCP server.
        ``settings`` and ``server_settings`` are further variables of the hosts and of the PXE server.
        """
        self.hosts = list(hosts)
        with self.phase("prepare"):
            _check_tools()
            self.say("preparing: the PXE server's tree, the vCenter simulator, the installer medium")
            tree = rootfs.ensure(dhcp)
            vcsim = vcenter.program()
            iso = guest.make_iso(vcsim) if any(one.hardware.virtual for one in self.hosts) else make_medium()
        with self.phase("start"):
            self.say(f"starting: network, PXE server, vCenter and {len(self.hosts)} machines")
            net.create_centre()
            net.create_server()
            for one in self.hosts:
                create = net.create_taps if one.hardware.virtual else net.create_machine
                create(one.hardware.number, one.hardware.macs)
            paths.write_json(SECRETS, dataclasses.asdict(self.passwords), 0o600)
            inventory.write(self.hosts, self.passwords, settings=settings, dhcp=dhcp, server_settings=server_settings)
            sitedhcp.start(dhcp, self.hosts)
            server.start(tree)
            copy = server.path(inventory.ISO)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(iso, copy)
            vcenter.start(vcsim, self.passwords.vcenter, {one.name: one.address for one in self.hosts})
            self._start_machines(tree)

    def start_sites(self, hosts: Iterable[Planned], settings: dict[str, Any]) -> None:
        """Bring up two sites, each with a PXE server and a vCenter of its own; the second is behind a relay."""
        self.hosts = list(hosts)
        with self.phase("prepare"):
            _check_tools("rsync", "dnsmasq")
            self.say("preparing: the PXE servers' tree, the vCenter simulator, the installer medium")
            tree, vcsim, iso = rootfs.ensure(), vcenter.program(), make_medium()
        with self.phase("start"):
            self.say(f"starting: networks, two PXE servers, two vCenters and {len(self.hosts)} machines")
            net.create_centre()
            net.create_server()
            net.create_second_site()
            for one in self.hosts:
                net.create_machine(one.hardware.number, one.hardware.macs, one.site.centre)
            paths.write_json(SECRETS, dataclasses.asdict(self.passwords), 0o600)
            inventory.write_sites(self.hosts, self.passwords, iso, settings)
            procs.start(RELAY, relay(), log=paths.LOGS / "relay.log", namespace=net.ROUTER)
            for one_site in (site.FIRST, site.SECOND):
                server.start(tree, one_site.box)
                known = {one.name: one.address for one in self.hosts if one.site == one_site}
                vcenter.start(vcsim, self.passwords.of(one_site.center), known, one_site.center)
            self._start_machines(tree)

    def _start_machines(self, tree: Path) -> None:
        busybox = sandbox.static_busybox([tree / "usr/bin/busybox", tree / "bin/busybox"])
        if busybox is None:
            raise LabError("the tree of the PXE server has no static busybox")
        # some fifty machines without anything to boot would keep a small box busy with nothing but their retries
        retry = max(3.0, len(self.hosts) / 4)
        supervisor.write_spec(
            [one.hardware for one in self.hosts], busybox=busybox, python_tree=tree, retry_seconds=retry
        )
        procs.start(MACHINES, [sys.executable, "-m", "pxelab.supervisor"], log=paths.LOGS / "machines.log")
        deadline = time.monotonic() + _STATE_SECONDS
        while any(not paths.machine_state(one.name).exists() for one in self.hosts):
            if not procs.is_alive(MACHINES) or time.monotonic() > deadline:
                raise LabError("the machines did not start; see .lab/logs/machines.log")
            time.sleep(0.1)

    def machine(self, name: str) -> dict[str, Any]:
        """State and counters of a machine, as it last wrote them."""
        return dict(paths.read_json(paths.machine_state(name)) or {})

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether something came true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def take_down(self) -> None:
        """End everything that this lab started. Each step is tried, whatever became of the one before."""
        for step in (self.controller.close, take_down):
            try:
                step()
            except Exception as error:
                self.say(f"while taking the lab down: {error}")


def relay() -> list[str]:
    """The relay agent of the second site's router: ISC's where it is installed (isc-dhcp-relay), else dnsmasq's."""
    if shutil.which("dhcrelay"):
        return ["dhcrelay", "-4", "-d", "--no-pid", "-id", net.BRIDGE, "-iu", "lan", net.SERVER_B_ADDRESS]
    way = f"--dhcp-relay={net.RELAYED_GATEWAY},{net.SERVER_B_ADDRESS}"
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--log-facility=-",
        "--log-dhcp",
        way,
    ]


def take_down() -> None:
    """End what a lab of this checkout left: its processes by their pid files, mounts and namespaces."""
    close_connections()
    procs.stop(MACHINES, grace=25.0)
    vcenter.stop()
    server.stop()
    for name in procs.remembered():
        if name != "lab":
            procs.stop(name)
    net.delete_all()
    paths.POWER_SOCKET.unlink(missing_ok=True)
    paths.SPEC.unlink(missing_ok=True)


def _check_tools(*more: str) -> None:
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and a container: run it as root")
    needed = (
        "ip",
        "nsenter",
        "unshare",
        "setpriv",
        "systemd-nspawn",
        "mmdebstrap",
        "openssl",
        "ssh",
        "ssh-keygen",
        "xorriso",
        *more,
    )
    missing = [tool for tool in needed if not shutil.which(tool)]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; tests/lab/packages.txt lists what the lab needs")


def make_medium(version: str = medium.DEFAULT_VERSION) -> Path:
    """The stand-in installer ISO of a version, made once for each version of the code that makes it."""
    source = hashlib.sha256(Path(medium.__file__).read_bytes()).hexdigest()[:12]
    iso = paths.CACHE / f"esxi-{version}-{source}.iso"
    if not iso.exists():
        tree = paths.CACHE / "medium.tree"
        fresh = paths.CACHE / "medium.iso.new"
        try:
            medium.make_iso(medium.make_tree(tree, version=version), fresh)
        except RuntimeError as error:
            raise LabError(str(error)) from error
        finally:
            shutil.rmtree(tree, ignore_errors=True)
        fresh.rename(iso)
    return iso


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[Lab]:
    """A lab to be started inside the block; taken down at its end, also after an error, Ctrl-C or SIGTERM."""
    lock = Lock()
    lock.take()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    lab = Lab(say)
    try:
        if procs.remembered() or net.namespaces():
            say("taking down what a killed lab left behind")
            take_down()
        for folder in (paths.RUN, paths.LOGS):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        paths.write_json(
            paths.PIDS / "lab.json", {"pid": os.getpid(), "start": procs.start_time(os.getpid()), "argv": sys.argv}
        )
        yield lab
    finally:
        # a second Ctrl-C must not leave half a lab behind
        kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("taking the lab down")
        lab.take_down()
        (paths.PIDS / "lab.json").unlink(missing_ok=True)
        signal.signal(signal.SIGINT, kept)
        signal.signal(signal.SIGTERM, previous)
        lock.give_back()


def _interrupt(*_ignored: object) -> None:
    raise KeyboardInterrupt


def attach(say: Callable[[str], None]) -> Lab:
    """The lab that runs, to look at; raises ``LabError`` when there is none."""
    record = paths.read_json(SECRETS)
    if record is None or not procs.is_alive("lab"):
        raise LabError("no lab is running here: start one with 'pxelab up'")
    lab = Lab(say)
    lab.passwords = Secrets(**record)
    names = {machine["name"]: supervisor.hardware_of(machine) for machine in supervisor.read_spec()["machines"]}
    lab.hosts = [Planned(hardware, {}, "", "") for hardware in names.values()]
    return lab


def down(say: Callable[[str], None]) -> None:
    """Stop the lab of this checkout if one runs, else clean up after one that was killed."""
    record = paths.read_json(paths.PIDS / "lab.json")
    if record is not None and procs.is_alive("lab"):
        say(f"stopping the lab (process {record['pid']})")
        os.kill(record["pid"], signal.SIGTERM)
        deadline = time.monotonic() + 90
        while procs.is_alive("lab"):
            if time.monotonic() > deadline:
                raise LabError(f"the lab (process {record['pid']}) does not end")
            time.sleep(0.2)
        return
    lock = Lock()
    lock.take()
    try:
        take_down()
        (paths.PIDS / "lab.json").unlink(missing_ok=True)
        say("nothing of the lab is left")
    finally:
        lock.give_back()
