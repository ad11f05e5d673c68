# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hundreds of machines in one process and one namespace, for ``storm``: a thread each, with the lab's own firmware.

They differ from the lab's other stand-ins in three ways. They share an interface, so each speaks from an address of its
own and sends DHCP in frames with its own MAC. Their disks are in memory. And the kickstart's scripts are read, not run:
what the pbconnect client in them would send is sent, with its own rules for trying again. Everything else is the same
code: what a machine boots is what DHCP, TFTP and HTTP tell it, and each install is counted.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import queue
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import dhcp, firmware, tftp
from . import http as fetch
from .bootcfg import is_url
from .disk import System
from .installer import Installer, InstallFailed
from .kickstart import Section
from .loader import Console, Hang, Network, NextBootOption, NotFound
from .wire import Wire

INTERFACE = "eth0"
#: Seconds between two rounds of a firmware that found nothing to boot.
RETRY = 3.0
#: A machine that has not come to its disk after so many boots never will.
MAX_BOOTS = 12
_CALL = re.compile(r"^\s*pb_notify (installing|installed|ready) (\d+)\b", re.MULTILINE)
_VALUE = re.compile(r"^pb_(url|token|mac)='([^'\n]*)'$", re.MULTILINE)


class Stopped(Exception):
    """The storm is over; the machine's thread ends."""


def frame(mac: str, payload: bytes) -> bytes:
    """A DHCP packet in an Ethernet frame as firmware broadcasts it, from a machine that has no address yet."""
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + head + udp


class Switch:
    """DHCP of all machines through one pair of sockets: an answer is handed to the machine whose MAC is in it."""

    def __init__(self) -> None:
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._out.bind((INTERFACE, 0))
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._in.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode() + b"\0")
        self._in.bind(("", 68))
        self._waiting: dict[bytes, queue.SimpleQueue[bytes]] = {}
        threading.Thread(target=self._receive, name="switch", daemon=True).start()

    def _receive(self) -> None:
        while True:
            data = self._in.recv(4096)
            waiting = self._waiting.get(data[28:34])
            if waiting is not None:
                waiting.put(data)

    def send(self, mac: str, payload: bytes) -> None:
        """Broadcast a packet of this machine's."""
        self._out.send(frame(mac, payload))

    def plug(self, mac: str) -> queue.SimpleQueue[bytes]:
        """From now on keep the answers to this MAC."""
        return self._waiting.setdefault(bytes.fromhex(mac.replace(":", "")), queue.SimpleQueue())


class _Port:
    """The socket of one machine's DHCP client, as ``dhcp.Client`` uses one."""

    def __init__(self, switch: Switch, mac: str) -> None:
        self._switch, self._mac, self._answers = switch, mac, switch.plug(mac)
        self._seconds = 1.0

    def __enter__(self) -> _Port:
        with contextlib.suppress(queue.Empty):
            while True:
                self._answers.get_nowait()  # of an exchange that is over
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def sendto(self, data: bytes, _to: tuple[str, int]) -> None:
        self._switch.send(self._mac, data)

    def recv(self, _size: int) -> bytes:
        try:
            return self._answers.get(timeout=self._seconds)
        except queue.Empty:
            raise TimeoutError from None


class _Client(dhcp.Client):
    switch: Switch

    def _socket(self, address: str = "") -> Any:
        if address:
            raise dhcp.NoOffer("the machines of a storm do not ask a proxyDHCP server")
        return _Port(self.switch, self.mac)


class _Network(Network):
    """Files, fetched from the machine's own address."""

    def read(self, name: str, *, agent: str = "esx-boot/2.0") -> bytes:
        try:
            if is_url(name) and name.startswith("http://"):
                self.console.count("http_requests")
                return fetch.request(name, agent=agent, pause=self.console.pause, source=self.address)[0]
            self.console.count("tftp_requests")
            return tftp.fetch(
                self.tftp_server, name, pause=self.console.pause, source=self.address, asked_again=self._again
            )
        except (fetch.HttpError, tftp.TftpError) as error:
            raise NotFound(str(error)) from error

    def size(self, name: str) -> int:
        try:
            if is_url(name) and name.startswith("http://"):
                self.console.count("http_requests")
                return fetch.request(name, method="HEAD", pause=self.console.pause, source=self.address)[1]
            self.console.count("tftp_requests")
            return tftp.size_of(
                self.tftp_server, name, pause=self.console.pause, source=self.address, asked_again=self._again
            )
        except (fetch.HttpError, tftp.TftpError) as error:
            raise NotFound(str(error)) from error

    def _again(self) -> None:
        self.console.count("tftp_retries")


class StormWire(Wire):
    """One machine's part of the interface that all share."""

    def __init__(self, macs: Sequence[str], uuid: bytes, switch: Switch, expected: str) -> None:
        super().__init__(macs, uuid)
        self.address = ""
        self._switch, self._expected = switch, expected

    def interface(self, index: int) -> str:
        return INTERFACE

    def clear(self) -> None:
        self.address = ""

    def dhcp_client(
        self, index: int, persona: dhcp.Persona, *, pause: Callable[[float], None], tries: int = 3
    ) -> dhcp.Client:
        client = _Client(INTERFACE, self.macs[index], self.uuid, persona, pause=pause, tries=tries)
        client.switch = self._switch
        return client

    def set_address(self, index: int, address: str, prefix_length: int, gateway: str | None) -> None:
        if address != self._expected:
            raise InstallFailed(f"{self.macs[index]} was given {address}, which is not its own {self._expected}")
        self.address = address

    def network(self, index: int, lease: dhcp.Lease, console: Console) -> Network:
        return _Network(console, INTERFACE, self.macs[index], self.uuid, lease.address, lease.boot_server)

    def fetch_kickstart(self, url: str, pause: Callable[[float], None]) -> bytes:
        agent = "VMware-ESXi-installer"
        return fetch.request(url, agent=agent, need_length=False, pause=pause, source=self.address)[0]


class _Disk:
    """A disk in memory."""

    def __init__(self) -> None:
        self._system: dict[str, Any] | None = None
        self.root = Path("/nonexistent")

    def read(self) -> System | None:
        return System(**self._system) if self._system and self._system["complete"] else None

    def has_vmfs(self) -> bool:
        return bool(self._system and self._system["vmfs"])

    def write(self, system: System) -> None:
        self._system = asdict(system)


class _NoRoot:
    """In the place of the installer's RAM disk: nothing is run in it."""

    root = Path("/nonexistent")

    def create(self, **_options: object) -> None:
        """Nothing to make."""


class _Installer(Installer):
    """The installer, with scripts that are read instead of run."""

    machine: StormMachine

    def _run_script(self, where: object, section: Section, host_name: str, timeout: float = 1800.0) -> int:
        return self.machine.play(section)

    def _put_system(self, system: System) -> None:
        system.complete = True
        self.disk.write(system)


class StormMachine:
    """One machine (a ``loader.Console``). ``boot`` lives through everything from its power button to its disk."""

    def __init__(self, spec: dict[str, Any], switch: Switch, certificate: str) -> None:
        self.hardware = firmware.Hardware(
            name=spec["name"],
            number=0,
            macs=tuple(spec["macs"]),
            firmware=spec["firmware"],
            uuid=bytes.fromhex(spec["uuid"]),
            boot_nics=(0,),
        )
        self.disk = _Disk()
        self.wire = StormWire(self.hardware.macs, self.hardware.uuid, switch, spec["address"])
        self.counters: dict[str, int] = collections.Counter()
        self.seconds: list[tuple[str, float]] = []
        self.console: collections.deque[str] = collections.deque(maxlen=40)
        self.stopped = threading.Event()
        self.end = ""
        self._certificate = certificate

    # loader.Console

    def say(self, text: str) -> None:
        """A line on the console."""
        self.console.append(text)

    def pause(self, seconds: float) -> None:
        """Wait, unless the storm is over."""
        if self.stopped.wait(seconds) if seconds > 0 else self.stopped.is_set():
            raise Stopped

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter."""
        self.counters[what] += number

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long something took, if it came to a good end."""
        begun = time.monotonic()
        yield
        self.seconds.append((phase, time.monotonic() - begun))

    # its life

    def boot(self) -> None:
        """Power on. Ends when the installed system runs, or when the machine stands still; ``end`` says which."""
        self.end = ""
        try:
            with self.timed("power on to running"):
                while not self.end:
                    self._one_boot()
        except Stopped:
            self.end = "still on its way when the storm ended"
        except (Hang, InstallFailed) as error:
            self.end = f"stands still: {error}"
        except Exception as error:  # a defect of this file: said where the report looks
            self.end = f"broken: {type(error).__name__}: {error}"
        if self.end != "running" and self.console:
            self.end += f" (last on its console: {self.console[-1]})"

    def _one_boot(self) -> None:
        self.count("boots")
        if self.counters["boots"] > MAX_BOOTS:
            raise Hang(f"{MAX_BOOTS} boots and still not on its disk")
        begun = time.monotonic()
        try:
            loaded = firmware.network_boot(self.hardware, self, self.wire)
        except NextBootOption:
            self.seconds.append(("network boot, local", time.monotonic() - begun))
            self._boot_disk()
            return
        self.seconds.append(("network boot, installer", time.monotonic() - begun))
        installer = _Installer(
            hardware=self.hardware,
            disk=self.disk,  # type: ignore[arg-type]
            ramdisk=_NoRoot(),  # type: ignore[arg-type]
            console=self,
            new_sandbox=lambda _root: _NoRoot(),  # type: ignore[arg-type,return-value]
            began=lambda: self.count("install_starts"),
            wire=self.wire,
        )
        installer.machine = self
        with self.timed("install"):
            installer.run(loaded)
        self.count("installs")

    def _boot_disk(self) -> None:
        system = self.disk.read()
        if system is None:
            # the firmware starts over
            self.count("nothing_to_boot")
            self.pause(RETRY)
            return
        self.count("local_boots")
        self.wire.clear()
        if system.network.get("bootproto") == "static":
            self.wire.set_address(0, system.network["ip"], 16, None)
        else:
            client = self.wire.dhcp_client(0, dhcp.INSTALLED, pause=self.pause, tries=6)
            try:
                lease = client.acquire()
            finally:
                self.count("dhcp_requests", client.requests)
            self.wire.set_address(0, lease.address, lease.prefix_length, lease.gateway)
        scripts, system.firstboot = system.firstboot, []
        self.disk.write(system)
        for script in scripts:
            self.play(Section("%firstboot", {}, script["text"]))
        self.end = "running"

    # pbconnect, as the scripts of the kickstart have it

    def play(self, section: Section) -> int:
        """What the section's pbconnect client would do; returns the section's exit code."""
        called = _CALL.search(section.text)
        if called is None:
            return 0
        values = dict(_VALUE.findall(section.text))
        body = {"stage": called.group(1), "mac": values["mac"], "message": "from a storm"}
        if called.group(1) == "ready":
            body["certificate"] = self._certificate
        with self.timed(f"pbconnect {called.group(1)}"):
            told = self._notify(values["url"], values["token"], json.dumps(body).encode(), float(called.group(2)))
        self.count("acknowledged" if told else "not_acknowledged")
        return 0 if told or called.group(1) != "installing" else 1

    def _notify(self, url: str, token: str, body: bytes, deadline: float) -> bool:
        """``pb_notify``: 408, 425, 429, 5xx and no answer are tried again, other refusals are not."""
        begun, delay = time.monotonic(), 1.0
        while True:
            self.count("http_requests")
            status, text = self._post(url, token, body)
            if status == 200 and b'"ok": true' in text:
                return True
            self.say(f"pbconnect: {status} {text[:200]!r}")
            if 400 <= status < 500 and status not in (408, 425, 429):
                return False
            left = deadline - (time.monotonic() - begun)
            if left <= 0:
                return False
            self.count("pbconnect_retries")
            self.pause(min(delay, left))
            delay = min(delay * 2, 32.0)

    def _post(self, url: str, token: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(url)
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=15, source_address=(self.wire.address, 0)
        )
        try:
            connection.request("POST", parts.path, body, head)
            answer = connection.getresponse()
            return answer.status, answer.read(4096)
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def results(self) -> dict[str, Any]:
        """What happened since the last call, and empty books."""
        told = {
            "name": self.hardware.name,
            "firmware": self.hardware.firmware,
            "end": self.end,
            "counters": dict(self.counters),
            "seconds": self.seconds,
            "console": list(self.console) if self.end != "running" else [],
        }
        self.counters, self.seconds = collections.Counter(), []
        return told


def power_on(machines: Sequence[StormMachine], seconds: float) -> None:
    """All at once; returns when all have come to an end, or after so many seconds."""
    threading.stack_size(512 * 1024)
    together = threading.Event()

    def live(machine: StormMachine) -> None:
        together.wait()
        machine.boot()

    threads = [threading.Thread(target=live, args=(machine,), daemon=True) for machine in machines]
    random.shuffle(threads)
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    together.set()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for machine in machines:
        machine.stopped.set()
    for thread in threads:
        thread.join(30)
    for machine in machines:
        machine.stopped.clear()


def main() -> int:
    """A process of machines: a line ``SECONDS`` on standard input switches all on; the answer is a line of JSON."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # Hundreds of threads that wait for the interpreter would each wake up this often to ask for it. They hand it on
    # with each packet anyway.
    sys.setswitchinterval(1.0)
    switch = Switch()
    machines = [StormMachine(one, switch, spec["certificate"]) for one in spec["machines"]]
    print(json.dumps({"machines": len(machines)}), flush=True)
    for line in sys.stdin:
        power_on(machines, float(line))
        print(json.dumps([machine.results() for machine in machines]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
