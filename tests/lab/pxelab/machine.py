# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in machine: power, firmware, loader, installer, and the system on its disk. One thread for each.

A machine knows nothing of the collection. It obeys what DHCP, TFTP and HTTP tell it, and counts what happens to it.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from . import dhcp, firmware, net, nic, paths
from .disk import Disk, System
from .installer import Installer, InstallFailed
from .loader import Hang, NextBootOption
from .sandbox import LOCAL_SH, Sandbox, SandboxError
from .wire import Wire

COUNTERS = (
    "boots",
    "reboots",
    "power_cycles",
    "install_starts",
    "installs",
    "loops",
    "local_boots",
    "hangs",
    "failed_installs",
    "dhcp_requests",
    "tftp_requests",
    "http_requests",
)
#: States of a machine that comes to the network by itself, or is past it.
_ON_THE_WAY = ("firmware", "no boot device", "installer", "installing")


class PowerChanged(Exception):
    """Somebody used the power button; whatever the machine was doing is over."""


class Reboot(Exception):
    """The running program restarts the machine."""


def now() -> str:
    """UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Machine:
    """One machine. ``power`` may be called from any thread; everything else runs in the machine's own."""

    def __init__(
        self, hardware: firmware.Hardware, *, busybox: Path, python_tree: Path | None, retry_seconds: float = 5.0
    ) -> None:
        self.hardware = hardware
        self.folder = paths.MACHINES / hardware.name
        self.disk = Disk(self.folder / "disk")
        self.wire = Wire(hardware.macs, hardware.uuid)
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.state, self.reason, self.on = "off", "", False
        self._busybox = busybox
        self._python_tree = python_tree if hardware.python else None
        self._retry_seconds = retry_seconds
        self._pressed = threading.Event()
        self._wanted: str | None = None
        self._lock = threading.Lock()
        self._ending = False
        # installs that began since somebody outside asked for one; a second is what a loop looks like
        self._unasked = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        paths.LOGS.mkdir(parents=True, exist_ok=True)
        self._log: IO[str] = (paths.LOGS / f"{hardware.name}.console.log").open("a", encoding="utf-8", buffering=1)
        self._api: subprocess.Popen[bytes] | None = None

    # --- what loaders, installer and installed system see of the machine (loader.Console) ---------------------------

    def say(self, text: str) -> None:
        """A line on the console."""
        self._log.write(f"{now()} {text}\n")

    def pause(self, seconds: float) -> None:
        """Wait, unless the power button is pressed."""
        if self._pressed.wait(seconds) if seconds > 0 else self._pressed.is_set():
            raise PowerChanged

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter."""
        self.counters[what] += number

    # --- the power button -------------------------------------------------------------------------------------------

    def power(self, action: str) -> None:
        """``on``, ``off``, ``cycle`` or ``netboot``: a request from outside. Returns at once.

        ``netboot`` is what a BMC does that is asked for a one-time network boot, as far as a PXE-first machine needs
        it: a machine that is on its way to the network, or installing, is left to it.
        """
        with self._lock:
            if self.hardware.dead:
                self.say(f"power {action}: nothing happens, this machine is dead")
                return
            if action == "on" and self.on:
                return
            if action == "netboot":
                if self.on and self.state in _ON_THE_WAY:
                    self.say(f"power netboot: nothing to do, the machine is at: {self.state}")
                    return
                action = "cycle"
            self._wanted = action
            self._pressed.set()

    def end(self) -> None:
        """Switch off and let the thread end."""
        self._ending = True
        self._wanted = "off"
        self._pressed.set()

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until ``end``. Call it in a thread of its own, it moves that thread into the machine's namespace."""
        net.enter(net.machine_namespace(self.hardware.number))
        while not self._ending:
            try:
                self._obey_button()
                while self.on:
                    self._one_boot()
            except PowerChanged:
                continue
            except Exception as error:
                # a defect of the lab itself: stop this machine, and say it where the report looks
                self.say(f"lab: {type(error).__name__}: {error}")
                self._show("broken", f"{type(error).__name__}: {error}")
                self._pressed.wait()
            finally:
                self._stop_api()
        nic.clear(len(self.hardware.macs))
        self._show("off")

    def _obey_button(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            self._pressed.clear()
        if wanted in ("off", None):
            if wanted == "off":
                self.say("power off")
            self.on = False
            nic.clear(len(self.hardware.macs))
            self._show("off")
            if not self._ending:
                self._pressed.wait()
            return
        self.say(f"power {wanted}")
        self._unasked = 0
        if wanted == "cycle":
            self.count("power_cycles")
        self.on = True

    def _wait_for_button(self) -> None:
        while True:
            self.pause(3600)

    def _show(self, state: str, reason: str = "") -> None:
        """Publish the machine's state, for the report and for whoever looks into ``.lab/run/machines``."""
        self.state, self.reason = state, reason
        paths.write_json(
            paths.MACHINES / f"{self.hardware.name}.json",
            {
                "name": self.hardware.name,
                "macs": self.hardware.macs,
                "firmware": self.hardware.firmware,
                "on": self.on,
                "state": state,
                "reason": reason,
                "since": now(),
                **self.counters,
            },
        )

    def _one_boot(self) -> None:
        """From the firmware's first instruction to the next reset."""
        self.count("boots")
        self._show("firmware")
        try:
            loaded = firmware.network_boot(self.hardware, self, self.wire)
        except NextBootOption:
            self._boot_disk()
            return
        except Hang as error:
            self.count("hangs")
            self._stand_still("hung", str(error))
            return
        self._show("installer")
        try:
            self._install(loaded)
        except InstallFailed as error:
            self.count("failed_installs")
            self._stand_still("stopped", str(error))
            return
        self.count("reboots")
        self.say("reboot")

    def _stand_still(self, state: str, reason: str) -> None:
        self.say(f"{reason}")
        self.say("the machine stands still until somebody switches it off")
        self._show(state, reason)
        self._wait_for_button()

    def _sandbox(self, root: Path) -> Sandbox:
        return Sandbox(root, busybox=self._busybox, python_tree=self._python_tree)

    def _install(self, loaded: object) -> None:
        installer = Installer(
            hardware=self.hardware,
            disk=self.disk,
            ramdisk=self._sandbox(self.folder / "ramdisk"),
            console=self,
            new_sandbox=self._sandbox,
            began=self._install_began,
            wire=self.wire,
        )
        installer.run(loaded)  # type: ignore[arg-type]
        self.count("installs")

    def _install_began(self) -> None:
        self.count("install_starts")
        self._unasked += 1
        if self._unasked > 1:
            self.count("loops")
            self.say("LOOP: told to install again, and nobody had asked for it")
        self._show("installing")

    # --- from the disk ----------------------------------------------------------------------------------------------

    def _boot_disk(self) -> None:
        system = self.disk.read()
        if system is None:
            self.say("no bootable device; the firmware starts over")
            self._show("no boot device")
            self.pause(self._retry_seconds)
            return
        self.count("local_boots")
        self.say(f"booting {system.host_name} from the disk")
        self._show("booting")
        sandbox = self._sandbox(self.disk.root)
        sandbox.start_over()
        address = self._configure(system)
        self._start_api(system, address)
        self._first_boot(system, sandbox)
        if not sandbox.reboot_asked():
            self._local_sh(system, sandbox)
        if sandbox.asked_for_reboot():
            self.count("reboots")
            self.say("reboot")
            self._stop_api()
            return
        self._show("running")
        self._watch_api()

    def _configure(self, system: System) -> str:
        """The installed system's own network settings; returns its address."""
        network = system.network
        device = network.get("device") or system.mac
        interface = (
            f"eth{int(device[5:] or '0')}"
            if device.startswith("vmnic")
            else nic.interface_of(self.hardware.macs, device) or "eth0"
        )
        nic.clear(len(self.hardware.macs))
        if network.get("bootproto") == "static":
            prefix = net.PREFIX_LENGTH
            if network.get("netmask"):
                prefix = dhcp.Lease("", network["netmask"], None, "", "", "", "", "", "").prefix_length
            nic.set_address(interface, network["ip"], prefix, network.get("gateway"))
            address = network["ip"]
        else:
            index = int(interface[3:])
            client = dhcp.Client(
                interface, self.hardware.macs[index], self.hardware.uuid, dhcp.INSTALLED, pause=self.pause, tries=6
            )
            try:
                lease = client.acquire()
            except dhcp.NoOffer as error:
                self._stand_still("running without network", str(error))
                raise
            finally:
                self.count("dhcp_requests", client.requests)
            nic.set_address(interface, lease.address, lease.prefix_length, lease.gateway)
            address = lease.address
        self.say(f"management network: {address} on {interface}")
        return address

    def _first_boot(self, system: System, sandbox: Sandbox) -> None:
        system.starts += 1
        scripts, system.firstboot = system.firstboot, []
        # noted before they run: they run once, whatever becomes of them
        self.disk.write(system)
        if scripts:
            self._show("first boot")
        for script in scripts:
            self.say(f"%firstboot ({script['interpreter']})")
            try:
                code = sandbox.run(
                    script["text"],
                    interpreter=script["interpreter"],
                    host_name=system.host_name,
                    say=self.say,
                    pause=self.pause,
                )
                self.say(f"%firstboot: exit code {code}")
            except SandboxError as error:
                self.say(f"%firstboot: {error}")

    def _local_sh(self, system: System, sandbox: Sandbox) -> None:
        """What ESXi runs at the end of each boot; its API is up by then."""
        text = (sandbox.root / "etc/rc.local.d/local.sh").read_text(encoding="utf-8")
        if text == LOCAL_SH.decode():
            return
        self._show("local.sh")
        try:
            code = sandbox.run(text, host_name=system.host_name, say=self.say, pause=self.pause)
            self.say(f"local.sh: exit code {code}")
        except SandboxError as error:
            self.say(f"local.sh: {error}")

    def _start_api(self, system: System, address: str) -> None:
        self._api = start_api(self.disk.root, system, address, paths.LOGS / f"{self.hardware.name}.api.log")

    def _watch_api(self) -> None:
        while True:
            self.pause(2.0)
            if self._api is not None and self._api.poll() is not None:
                self._stand_still(
                    "broken", f"the host's API ended with {self._api.returncode}; see its log in .lab/logs"
                )

    def _stop_api(self) -> None:
        if self._api is not None and self._api.poll() is None:
            self._api.kill()
            self._api.wait()
        self._api = None


def start_api(root: Path, system: System, address: str, log: Path) -> subprocess.Popen[bytes]:
    """The stand-in of the host's own API, in the calling thread's namespace."""
    paths.write_text(root / "etc/pxelab-password-hash", f"{system.password_hash}\n", 0o600) if not (
        root / "etc/pxelab-password-hash"
    ).exists() else None
    with log.open("ab") as stream:
        return subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
                sys.executable,
                "-m",
                "pxelab.esxi_api",
                "--root",
                str(root),
                "--listen",
                f"{address}:443",
                "--name",
                system.host_name,
            ],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
