# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a machine's scripts run for real: a root of its own with busybox, and stand-ins for ESXi's own commands.

The stand-ins write down how they were called and succeed, or fail where the lab told them to. Half of the machines get
a Python besides (ESXi has one, but an installer that cannot use it must work as well), read-only from the tree of the
lab's PXE server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .procs import run

STAND_INS = (
    "/bin/esxcli",
    "/bin/localcli",
    "/bin/vim-cmd",
    "/bin/esxcfg-advcfg",
    "/bin/vmware",
    "/bin/chkconfig",
    "/sbin/auto-backup.sh",
    "/sbin/generate-certificates",
    "/sbin/services.sh",
    "/bin/services.sh",
    "/bin/reboot",
    "/bin/poweroff",
    "/bin/halt",
    "/bin/firmwareConfig.py",
    "/sbin/chkconfig",
    "/sbin/reboot",
)
LOCAL_SH = b"#!/bin/sh\n\n# local configuration options\n\n# Note: modify at your own risk!\n\nexit 0\n"
# What every installation has, as stand_in.sh keeps it.
AS_INSTALLED = {
    "vswitches": b"vSwitch0\n",
    "portgroups": b"Management Network\nVM Network\n",
    "interfaces": b"vmk0\n",
}
CALLS = "var/log/stand-in-calls.log"
REBOOT_ASKED = "var/run/reboot-asked"
SAVED = "bootbank/state.tar"

STAND_IN = (Path(__file__).parent / "stand_in.sh").read_text(encoding="utf-8")
_PYTHON = '#!/bin/sh\nexec /usr/bin/python3 "$@"\n'
_DEVICES = ("null", "zero", "full", "random", "urandom")


class SandboxError(Exception):
    """A script could not be started at all, or took too long."""


class Sandbox:
    """One root folder: the installer's RAM disk, or the disk of the installed system."""

    def __init__(self, root: Path, *, busybox: Path, python_tree: Path | None = None) -> None:
        self.root = root
        self._busybox, self._python_tree = busybox, python_tree

    def create(self, *, version: str = "8.0.3", failing: Iterable[str] = ()) -> None:
        """Make the root anew."""
        if self.root.exists():
            shutil.rmtree(self.root)
        for folder in (
            "bin",
            "sbin",
            "etc/vmware/ssl",
            "tmp",
            "proc",
            "dev",
            "var/log",
            "var/run",
            "root",
            "vmfs/volumes",
            "opt",
            "usr",
        ):
            (self.root / folder).mkdir(parents=True)
        self.put("bin/busybox", self._busybox.read_bytes(), 0o755)
        applets = run([self._busybox, "--list"]).stdout.split()
        for applet in applets:
            if applet != "busybox":
                (self.root / "bin" / applet).symlink_to("busybox")
        self.put("opt/stand-in", STAND_IN.encode(), 0o755)
        for command in STAND_INS:
            link = self.root / command.lstrip("/")
            link.unlink(missing_ok=True)
            link.symlink_to("/opt/stand-in")
        if self._python_tree is not None:
            for name in ("python", "python3"):
                self.put(f"bin/{name}", _PYTHON.encode(), 0o755)
            for name, target in (("lib", "usr/lib"), ("lib64", "usr/lib64")):
                (self.root / name).symlink_to(target)
        for device in _DEVICES:
            (self.root / "dev" / device).touch()
        self.put("etc/stand-in-version", f"{version}\n".encode())
        for name, content in AS_INSTALLED.items():
            self.put(f"var/lib/stand-in/{name}", content)
        self.put("etc/rc.local.d/local.sh", LOCAL_SH, 0o1755)
        self.put("etc/passwd", b"root:x:0:0:Administrator:/:/bin/sh\n")
        self.put("etc/group", b"root:x:0:root\n")
        self.put("etc/hosts", b"127.0.0.1 localhost.localdomain localhost\n")
        self.put(CALLS, b"")
        self.fail_on(failing)

    def put(self, name: str, data: bytes, mode: int = 0o644) -> Path:
        """Write a file into the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def fail_on(self, calls: Iterable[str]) -> None:
        """Let every call of a stand-in that begins with one of these texts fail."""
        self.put("etc/stand-in-fails", "".join(f"{call}\n" for call in calls).encode())

    def calls(self) -> list[str]:
        """How the stand-ins were called so far."""
        return (self.root / CALLS).read_text(encoding="utf-8", errors="replace").splitlines()

    def _command(self, script: str, interpreter: str, host_name: str) -> list[str]:
        mounts = ['mount -t proc proc "$1/proc"']
        mounts += [f'mount --bind /dev/{device} "$1/dev/{device}"' for device in _DEVICES]
        if self._python_tree is not None:
            mounts += ['mount --bind "$2" "$1/usr"', 'mount -o remount,bind,ro "$1/usr"']
        program = "/bin/python3" if interpreter == "python" else "/bin/sh"
        # Debian's busybox shell prefers its own applets to the stand-ins; its "reboot" sends SIGTERM to process 1,
        # which is this shell
        setup = (
            " && ".join([*mounts, 'hostname "$3"'])
            + f"""
            [ $? = 0 ] || exit 125
            trap ': > "$1/{REBOOT_ASKED}"' TERM USR1 USR2
            chroot "$1" {program} "$4" & script=$!
            while :; do
                wait $script; code=$?
                kill -0 $script 2>/dev/null || exit $code
            done"""
        )
        # own mounts, processes and host name; and no way to set this machine's clock or reboot it
        return [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--bounding-set=-sys_time,-sys_boot,-sys_module",
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child=KILL",
            "--",
            "/bin/sh",
            "-c",
            setup,
            "sh",
            str(self.root),
            str((self._python_tree or Path("/")) / "usr"),
            host_name,
            script,
        ]

    def run(
        self,
        text: str,
        *,
        interpreter: str = "busybox",
        host_name: str = "localhost",
        timeout: float = 1800.0,
        say: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> int:
        """Run a script and return its exit code; its output goes to ``say``, line by line, when it has ended.

        Raises ``SandboxError`` when it takes longer than ``timeout`` seconds.
        """
        if interpreter == "python" and self._python_tree is None:
            raise SandboxError("this machine has no Python")
        name = "tmp/script"
        self.put(name, text.encode(), 0o700)
        environment = {"PATH": "/bin:/sbin", "HOME": "/", "TERM": "linux", "LANG": "C"}
        log = self.root.parent / f"{self.root.name}.script.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(f"/{name}", interpreter, host_name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.root,
                start_new_session=True,
            )
            try:
                code = self._wait(process, timeout, pause)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                    say(f"  | {line}")
        return code

    def _wait(self, process: subprocess.Popen[bytes], timeout: float, pause: Callable[[float], None]) -> int:
        deadline = time.monotonic() + timeout
        step = 0.02
        while process.poll() is None:
            if (self.root / REBOOT_ASKED).exists():
                # a restart ends whatever runs, after a while
                pause(1.0)
                process.kill()
                return process.wait()
            if time.monotonic() > deadline:
                raise SandboxError(f"the script was not done after {timeout:.0f} seconds")
            pause(step)
            step = min(0.3, step * 1.5)
        return process.returncode

    def start_over(self) -> None:
        """What ESXi's memory loses at a restart: all but what auto-backup.sh saved of /etc, and what is no file."""
        for folder in ("var/run", "tmp", "etc/esxi-pxe"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        for folder in ("var/run", "tmp"):
            (self.root / folder).mkdir()
        self.put("etc/rc.local.d/local.sh", LOCAL_SH, 0o1755)
        saved = self.root / SAVED
        if saved.exists():
            run(["tar", "-xpf", saved, "-C", self.root])

    def reboot_asked(self) -> bool:
        """Whether a script called ``reboot``."""
        return (self.root / REBOOT_ASKED).exists()

    def asked_for_reboot(self) -> bool:
        """Whether a script called ``reboot``; asking forgets it."""
        path = self.root / REBOOT_ASKED
        asked = path.exists()
        path.unlink(missing_ok=True)
        return asked


def static_busybox(candidates: Iterable[Path]) -> Path | None:
    """The first of these that is a busybox without shared libraries."""
    for path in candidates:
        if not path.is_file() or not os.access(path, os.X_OK):
            continue
        with path.open("rb") as file:
            head = file.read(4096)
        # a dynamic ELF names its interpreter in the first page
        if head.startswith(b"\x7fELF") and b"ld-linux" not in head:
            return path
    return None
