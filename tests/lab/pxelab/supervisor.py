# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that all stand-in machines live in: a thread for each, and a socket with their power buttons."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import paths
from .errors import LabError
from .firmware import Hardware
from .machine import Machine
from .virtual import VirtualMachine

ACTIONS = ("on", "off", "cycle", "netboot", "thaw")
_MAX_REQUEST = 65536


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of a socket that fits into the 108 bytes that the kernel takes, however deep the checkout lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def write_spec(machines: Iterable[Hardware], *, busybox: Path, python_tree: Path | None, retry_seconds: float) -> None:
    """Describe the machines for the supervisor process that is started next."""
    paths.write_json(
        paths.SPEC,
        {
            "busybox": str(busybox),
            "python_tree": str(python_tree) if python_tree else None,
            "retry_seconds": retry_seconds,
            "machines": [dataclasses.asdict(one) | {"uuid": one.uuid.hex()} for one in machines],
        },
    )


def read_spec() -> dict[str, Any]:
    """The description of the running lab's machines; raises ``LabError`` when there is none."""
    spec = paths.read_json(paths.SPEC)
    if spec is None:
        raise LabError("no lab is running here: start one with 'pxelab up'")
    return dict(spec)


def hardware_of(record: dict[str, Any]) -> Hardware:
    """A machine's description, read back from JSON."""
    values = dict(record)
    values["uuid"] = bytes.fromhex(values["uuid"])
    for key in ("macs", "boot_nics", "disks", "failing_commands"):
        values[key] = tuple(values[key])
    return Hardware(**values)


class Supervisor:
    """Runs the machines of a spec until SIGTERM."""

    def __init__(self, spec: dict[str, Any]) -> None:
        python_tree = Path(spec["python_tree"]) if spec["python_tree"] else None
        self.machines: dict[str, Machine | VirtualMachine] = {}
        for record in spec["machines"]:
            hardware = hardware_of(record)
            self.machines[hardware.name] = (
                VirtualMachine(hardware)
                if hardware.virtual
                else Machine(
                    hardware,
                    busybox=Path(spec["busybox"]),
                    python_tree=python_tree,
                    retry_seconds=spec["retry_seconds"],
                )
            )
        self._over = threading.Event()

    def answer(self, request: object) -> dict[str, Any]:
        """Do what a request says: ``{"action": "cycle", "names": [...]}``."""
        if not isinstance(request, dict) or request.get("action") not in ACTIONS:
            return {"ok": False, "message": f"action must be one of {', '.join(ACTIONS)}"}
        names = request.get("names") or []
        unknown = sorted(set(names) - set(self.machines))
        if unknown or not names:
            return {
                "ok": False,
                "message": f"no machine called {', '.join(unknown)}" if unknown else "no machine named",
            }
        for name in names:
            self.machines[name].power(request["action"])
        return {"ok": True, "message": f"{request['action']}: {', '.join(names)}"}

    def _serve(self, listener: socket.socket) -> None:
        while not self._over.is_set():
            try:
                connection, _address = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                data = b""
                while not data.endswith(b"\n") and len(data) < _MAX_REQUEST:
                    part = connection.recv(4096)
                    if not part:
                        break
                    data += part
                try:
                    reply = self.answer(json.loads(data))
                except ValueError:
                    reply = {"ok": False, "message": "not JSON"}
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def run(self) -> None:
        """Power the machines on, serve their buttons, and switch them off at the end."""
        signal.signal(signal.SIGTERM, lambda *_ignored: self._over.set())
        signal.signal(signal.SIGINT, lambda *_ignored: self._over.set())
        threads = [threading.Thread(target=machine.run, name=name) for name, machine in self.machines.items()]
        paths.POWER_SOCKET.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(paths.POWER_SOCKET) as address:
            listener.bind(address)
        paths.POWER_SOCKET.chmod(0o600)
        listener.listen(64)
        listener.settimeout(0.5)
        server = threading.Thread(target=self._serve, args=(listener,), name="power")
        for thread in threads:
            thread.start()
        server.start()
        for machine in self.machines.values():
            # a virtual one would only burn the processor until there is something to boot
            if not machine.hardware.virtual:
                machine.power("on")
            self._over.wait(0.05)
        while not self._over.wait(3600):
            pass
        for machine in self.machines.values():
            machine.end()
        for thread in [*threads, server]:
            thread.join(timeout=20)
        listener.close()
        paths.POWER_SOCKET.unlink(missing_ok=True)


def press(action: str, names: list[str]) -> str:
    """Press power buttons of the running lab; returns what it says, raises ``LabError``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        try:
            with _short(paths.POWER_SOCKET) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"action": action, "names": names}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                reply = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise LabError(f"the lab's machines do not answer: {error}") from error
    if not reply["ok"]:
        raise LabError(str(reply["message"]))
    return str(reply["message"])


def main() -> int:
    """The supervisor process."""
    Supervisor(read_spec()).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
