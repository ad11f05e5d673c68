# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine with real firmware: SeaBIOS or OVMF, real pxelinux and iPXE, in QEMU without hardware help.

It has the power button, the counters and the state file of a stand-in machine (see ``machine``). What happens inside is
read from its serial console, where the programs of tests/lab/guest and the boot loader say what they do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any

from . import guest, net, ovmf, paths
from .firmware import Hardware
from .machine import COUNTERS, now

#: Seconds in the firmware after which nothing more is to be expected of it: a boot menu, a shell, an empty disk.
_LOST_IN_FIRMWARE = 150.0
_ON_THE_WAY = ("installer", "installing", "frozen")
_NOTHING_TO_BOOT = re.compile(r"No bootable (option|device)|UEFI Interactive Shell|No mapping found")
_FIRST_NIC = 4
_DISK = 8
_ANSI = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1a\x7f]")
_EVENT = re.compile(r"pxelab: event (?P<what>\w+) ?(?P<rest>.*)")


def disk_of(name: str) -> Path:
    """The file that is a machine's disk."""
    return paths.MACHINES / name / "disk.img"


class VirtualMachine:
    """One machine. ``power`` may be called from any thread; ``run`` is the machine's own."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.folder = paths.MACHINES / hardware.name
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.state, self.reason, self.on = "off", "", False
        self._since = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._pressed = threading.Event()
        self._wanted: str | None = None
        self._lock = threading.RLock()
        self._ending = False
        self._unasked = 0
        #: texts of the console at which the power is cut and given back, and one at which time stops until ``thaw``
        self._cuts = list(json.loads(hardware.options.get("cut_power", "[]")))
        self._freeze_at = hardware.options.get("freeze_at", "")
        self.folder.mkdir(parents=True, exist_ok=True)
        paths.LOGS.mkdir(parents=True, exist_ok=True)
        self._log: IO[str] = (paths.LOGS / f"{hardware.name}.console.log").open("a", encoding="utf-8", buffering=1)

    def say(self, text: str) -> None:
        """A line in the console log."""
        self._log.write(f"{now()} {text}\n")

    # --- the power button -------------------------------------------------------------------------------------------

    def power(self, action: str) -> None:
        """``on``, ``off``, ``cycle`` or ``netboot``, as a stand-in machine's, or ``thaw``. Returns at once."""
        with self._lock:
            if action == "thaw":
                self._resume()
                return
            if action == "on" and self.on:
                return
            if action == "netboot":
                waiting = self.state == "firmware" and time.monotonic() - self._since < _LOST_IN_FIRMWARE
                if self.on and (waiting or self.state in _ON_THE_WAY):
                    self.say(f"lab: power netboot: nothing to do, the machine is at: {self.state}")
                    return
                action = "cycle" if self.on else "on"
            self._wanted = action
            self._pressed.set()

    def end(self) -> None:
        """Switch off and let the thread end."""
        self._ending = True
        self._wanted = "off"
        self._pressed.set()

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until ``end``. Call it in a thread of its own, it moves that thread into the lab's namespace."""
        net.enter(net.CENTRE)
        disk = disk_of(self.hardware.name)
        with disk.open("wb") as file:
            file.truncate(guest.DISK_BYTES)
        self._show("off")
        while not self._ending:
            self._pressed.wait(timeout=1.0)
            with self._lock:
                wanted, self._wanted = self._wanted, None
                self._pressed.clear()
            if wanted is not None:
                self._obey(wanted)
            elif self._process is not None and self._process.poll() is not None:
                self.say(f"lab: QEMU ended with {self._process.returncode}")
                self._stop()
                self._show("broken", "QEMU ended")
        self._stop()
        self._show("off")

    def _obey(self, wanted: str) -> None:
        self.say(f"lab: power {wanted}")
        self._stop()
        if wanted == "off":
            self._show("off")
            return
        # an attempt that the lab itself cut off is the same attempt
        if wanted != "again":
            self._unasked = 0
            self.count("power_cycles", int(wanted == "cycle"))
        self._start()

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter."""
        self.counters[what] += number

    def _show(self, state: str, reason: str = "") -> None:
        with self._lock:
            if state != self.state:
                self._since = time.monotonic()
            self.state, self.reason = state, reason
            record = {
                "name": self.hardware.name,
                "macs": self.hardware.macs,
                "firmware": self.hardware.firmware,
                "on": self.on,
                "state": state,
                "reason": reason,
                "since": now(),
                **self.counters,
            }
        paths.write_json(paths.MACHINES / f"{self.hardware.name}.json", record)

    # --- QEMU -------------------------------------------------------------------------------------------------------

    def _argv(self) -> list[str]:
        kind, macs = self.hardware.firmware, self.hardware.macs
        uefi = kind != "bios"
        argv = [
            "qemu-system-x86_64",
            "-name",
            self.hardware.name,
            "-M",
            "q35,graphics=off",
            "-accel",
            "tcg",
            "-cpu",
            "qemu64",
        ]
        argv += ["-smp", "1", "-m", "768", "-nodefaults", "-display", "none", "-vga", "std", "-serial", "stdio"]
        # relative to the folder that QEMU runs in: the kernel takes 108 bytes
        argv += ["-qmp", "unix:qmp,server=on,wait=off", "-device", "virtio-rng-pci"]
        if uefi:
            variables = self.folder / "variables.fd"
            if not variables.exists():
                self._write_variables(variables)
            argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={ovmf.code()}"]
            argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
        for index, mac in enumerate(macs):
            argv += [
                "-netdev",
                f"tap,id=n{index},ifname={net.port(self.hardware.number, index)},script=no,downscript=no",
            ]
            # OVMF has a driver of its own; a BIOS boots with what the NIC's ROM holds, which is iPXE
            place = f",romfile=,addr={_FIRST_NIC + index:#x}" if uefi else f",bootindex={self._order(index)}"
            argv += ["-device", f"virtio-net-pci,netdev=n{index},mac={mac}{place}"]
        argv += ["-drive", f"if=none,id=d0,format=raw,cache=unsafe,file={disk_of(self.hardware.name)}"]
        argv += ["-device", "virtio-blk-pci,drive=d0" + (f",addr={_DISK:#x}" if uefi else f",bootindex={len(macs)}")]
        if not uefi:
            # nothing to boot: the BIOS starts over, as a server's does
            argv += ["-boot", "reboot-timeout=10000"]
        return argv

    def _order(self, index: int) -> int:
        order = [
            *self.hardware.boot_nics,
            *(one for one in range(len(self.hardware.macs)) if one not in self.hardware.boot_nics),
        ]
        return order.index(index)

    def _write_variables(self, path: Path) -> None:
        http = self.hardware.firmware == "uefi-http"
        order = sorted(range(len(self.hardware.macs)), key=self._order)
        options = [
            (f"network boot, NIC {index}", ovmf.nic_path(_FIRST_NIC + index, self.hardware.macs[index], http=http))
            for index in order
        ]
        ovmf.write(path, [*options, ("disk", ovmf.disk_path(_DISK))])

    def _start(self) -> None:
        self.on = True
        self.count("boots")
        self._show("firmware")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "qmp").unlink()
        with (paths.LOGS / f"{self.hardware.name}.qemu.log").open("ab") as errors:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._argv()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.folder,
                start_new_session=True,
            )
        threading.Thread(
            target=self._listen, args=(self._process,), name=f"{self.hardware.name}-console", daemon=True
        ).start()

    def _stop(self) -> None:
        process, self._process = self._process, None
        self.on = False
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()

    # --- the console ------------------------------------------------------------------------------------------------

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        pending = b""
        while True:
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                return
            pending += part
            lines = pending.split(b"\n")
            pending = lines.pop()
            for raw in lines:
                line = _ANSI.sub("", raw.decode("utf-8", "replace")).rstrip().rpartition("\r")[2]
                if line:
                    self.say(line)
                    if process is self._process:
                        self._look(line)

    def _look(self, line: str) -> None:
        self._cut(line)
        if self._freeze_at and self._freeze_at in line:
            self._freeze_at = ""
            monitor(self.hardware.name, "stop")
            self.say("lab: FROZEN")
            self._show("frozen")
            return
        found = _EVENT.search(line)
        if found is None:
            if _NOTHING_TO_BOOT.search(line):
                self._show("no boot device")
            elif "mboot: the machine stands still" in line:
                self.count("hangs")
                self._show("hung", "the boot loader stands still")
            return
        what, rest = found["what"], found["rest"].strip()
        if what == "installer":
            self._show("installer")
        elif what == "began":
            self.count("install_starts")
            self._unasked += 1
            if self._unasked > 1:
                self.count("loops")
                self.say("lab: LOOP: told to install again, and nobody had asked for it")
            self._show("installing")
        elif what == "installed":
            self.count("installs")
            self._show("installing", "installed")
        elif what == "reboot":
            self.count("reboots")
            self.count("boots")
            self._show("firmware")
        elif what == "stopped":
            self.count("failed_installs", int(self.state in _ON_THE_WAY))
            self._show("stopped", rest)
        elif what == "disk":
            self.count("local_boots")
            self._show("booting")
        elif what == "firstboot":
            self._show("first boot")
        elif what == "running":
            self._show("running")

    def _resume(self) -> None:
        self.say("lab: goes on")
        self._show("installing")
        monitor(self.hardware.name, "cont")

    def _cut(self, line: str) -> None:
        """Cut the power at the first of the moments in ``cut_power``, and give it back: a text of the console each."""
        if not self._cuts or self._cuts[0] not in line:
            return
        text = self._cuts.pop(0)
        self.say(f"lab: POWER CUT at '{text}'")
        with self._lock:
            self._wanted = "again"
            self._pressed.set()
        # what the guest writes between now and the cut must not be taken for an event
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()


def monitor(name: str, command: str, **arguments: str) -> None:
    """Give a command to a machine's QEMU (QMP). Raises ``OSError`` when the machine is off or QEMU refuses."""
    folder = os.open(paths.MACHINES / name, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(20)
            connection.connect(f"/proc/self/fd/{folder}/qmp")
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.readline()
                for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    stream.write(json.dumps(words) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = {}
                    # events come in between
                    while not {"return", "error"} & set(answer):
                        answer = json.loads(stream.readline())
                    if "error" in answer:
                        raise OSError(answer["error"]["desc"])
    finally:
        os.close(folder)


def screenshot(name: str, out: Path) -> None:
    """A picture of what a machine's screen shows, as a PNG file. Raises ``OSError`` when the machine is off."""
    monitor(name, "screendump", filename=str(out), format="png")


class Camera:
    """Takes a picture of each machine's screen whenever it has another state, and now and then in between."""

    def __init__(self, names: list[str], folder: Path | None) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._run, args=(names, folder), name="camera", daemon=True)
            self._thread.start()

    def _run(self, names: list[str], folder: Path) -> None:
        number = 0
        while not self._over.wait(2.0):
            number += 1
            for name in names:
                state = str((paths.read_json(paths.machine_state(name)) or {}).get("state", "off")).replace(" ", "-")
                # a machine that is off has no screen
                with contextlib.suppress(OSError, ValueError):
                    screenshot(name, folder / f"{name}-{number:04d}-{state}.png")

    def stop(self) -> None:
        """No more pictures."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(30)
