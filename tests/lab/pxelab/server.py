# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's PXE server: a real systemd machine in a container, reached over SSH like any other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import net, paths, procs
from .errors import LabError

NAME = "pxe01.lab.example"
PROCESS = "server"
ROOT = paths.SERVER / "root"
KEY = paths.SSH / "id_ed25519"
KNOWN_HOSTS = paths.SSH / "known_hosts"
BOOT_SECONDS = 90.0
#: Where the role finds a pxelinux that VMware's mboot.c32 runs under (Syslinux 3.86); see ``_put_files``.
PXELINUX_DIR = "/srv/pxelinux-3.86"


@dataclass(frozen=True)
class Box:
    """One PXE server: what it is called, and where it is."""

    name: str
    namespace: str
    address: str
    process: str
    folder: Path

    @property
    def root(self) -> Path:
        """Its file system, seen from this machine."""
        return self.folder / "root"


FIRST = Box(NAME, net.SERVER, net.SERVER_ADDRESS, PROCESS, paths.SERVER)
SECOND = Box("pxe02.lab.example", net.SERVER_B, net.SERVER_B_ADDRESS, "server-b", paths.RUN / "server-b")


def path(name: str, box: Box = FIRST) -> Path:
    """A file of the server, seen from this machine."""
    return box.root / name.lstrip("/")


def ssh_options() -> list[str]:
    """Options of ssh(1) that reach the server and nothing of the caller's own configuration."""
    return [
        "-F",
        "none",
        "-i",
        str(KEY),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        f"UserKnownHostsFile={KNOWN_HOSTS}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "BatchMode=yes",
    ]


def command(*words: str, box: Box = FIRST) -> list[str]:
    """The command line that reaches the server, or runs ``words`` there."""
    return [
        "nsenter",
        f"--net=/run/netns/{net.CENTRE}",
        "--",
        "ssh",
        *ssh_options(),
        f"root@{box.address}",
        *words,
    ]


def run(command_line: str, *, check: bool = True, timeout: float = 60.0, box: Box = FIRST) -> str:
    """Run a shell command on the server; returns its output, raises ``LabError`` when it fails."""
    try:
        return procs.run(command(command_line, box=box), check=check, timeout=timeout).stdout
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the PXE server did not answer within {timeout:.0f} s: {command_line}") from error


def start(tree: Path, box: Box = FIRST) -> None:
    """Boot the server from a tree, with an empty layer above it, and wait until it takes SSH. Raises ``LabError``."""
    _mount(tree, box)
    _put_files(box)
    boot(box)


def boot(box: Box = FIRST) -> None:
    """Switch the server on, with the disk that it has, and wait until it takes SSH. Raises ``LabError``."""
    argv = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={box.root}",
        "--boot",
        "--register=no",
        f"--machine={box.namespace}",
        f"--network-namespace-path=/run/netns/{box.namespace}",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        # a DHCP server needs it, and a namespace that is not nspawn's own does not bring it along
        "--capability=CAP_NET_ADMIN",
    ]
    if not Path("/run/systemd/system").is_dir():
        # there is no service manager here that could give it a unit of its own
        argv.append("--keep-unit")
    log = f"{box.process}.console.log"
    procs.start(box.process, argv, log=paths.LOGS / log)
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            run("true", timeout=10, box=box)
            return
        except LabError as error:
            if not procs.is_alive(box.process):
                raise LabError(f"the PXE server's container ended; see .lab/logs/{log}") from error
            if time.monotonic() > deadline:
                raise LabError(f"the PXE server did not come up: {error}; see .lab/logs/{log}") from error
        time.sleep(0.3)


def _mount(tree: Path, box: Box) -> None:
    shutil.rmtree(box.folder, ignore_errors=True)
    for folder in ("root", "layer/upper", "layer/work"):
        (box.folder / folder).mkdir(parents=True)

    def mount() -> None:
        layer = box.folder / "layer"
        for folder in ("upper", "work"):
            (layer / folder).mkdir(exist_ok=True)
        procs.run(
            [
                "mount",
                "-t",
                "overlay",
                box.namespace,
                "-o",
                f"lowerdir={tree},upperdir={layer}/upper,workdir={layer}/work",
                box.root,
            ]
        )

    try:
        mount()
    except LabError:
        # a checkout that is itself on an overlay (a container) cannot hold the upper layer; memory can
        procs.run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=0755", "pxelab-layer", box.folder / "layer"])
        mount()


def _put_files(box: Box) -> None:
    """What an administrator's installation of the machine would have left: a name, a key that lets Ansible in."""

    def path(name: str) -> Path:
        return box.root / name.lstrip("/")

    if box == FIRST:
        shutil.rmtree(paths.SSH, ignore_errors=True)
        paths.SSH.mkdir(parents=True, mode=0o700)
        procs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pxelab", "-f", KEY])
    root_ssh = path("/root/.ssh")
    root_ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(KEY.with_suffix(".pub"), root_ssh / "authorized_keys")
    # keys of its own for each run: the tree's are the same for everyone who has the cache
    for old in path("/etc/ssh").glob("ssh_host_*"):
        old.unlink()
    host_key = path("/etc/ssh/ssh_host_ed25519_key")
    procs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", box.name, "-f", host_key])
    public = host_key.with_name(f"{host_key.name}.pub").read_text(encoding="ascii").split()[:2]
    with KNOWN_HOSTS.open("a", encoding="ascii") as known:
        known.write(f"{box.address} {' '.join(public)}\n")
    path("/etc/hostname").write_text(f"{box.name}\n", encoding="ascii")
    path("/etc/hosts").write_text(
        f"127.0.0.1 localhost\n{box.address} {box.name} {box.name.partition('.')[0]}\n", encoding="ascii"
    )
    # "the package lists are fresh": there is no way out to refresh them
    for stamp in ("/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists/lock"):
        path(stamp).parent.mkdir(parents=True, exist_ok=True)
        path(stamp).touch()
        os.utime(path(stamp).parent)
    # Syslinux 3.86 cannot be had as a package. Nothing runs it here; the machines look at its version only.
    folder = path(PXELINUX_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pxelinux.0").write_bytes(b"pxelab stand-in of PXELINUX 3.86 2010-03-31\n".ljust(16384, b"\0"))


def switch_off(box: Box = FIRST) -> None:
    """End the server; its disk stays. Harmless when there is none."""
    # SIGTERM lets systemd shut the services down in order, which is more than the lab needs to wait for
    procs.stop(box.process, grace=8.0, signals=(signal.SIGTERM, signal.SIGKILL))


def stop() -> None:
    """End the servers and unmount their trees. Harmless when there are none."""
    for box in (SECOND, FIRST):
        switch_off(box)
        save_journal(box)
        for folder in (box.root, box.folder / "layer"):
            if os.path.ismount(folder):
                procs.run(["umount", "-l", folder], check=False)


def save_journal(box: Box = FIRST) -> None:
    """Keep the server's log where it survives the server."""
    folder = path("/var/log/journal", box)
    if not folder.is_dir():
        return
    done = procs.run(["journalctl", "--no-pager", "--output=short-iso", f"--directory={folder}"], check=False)
    paths.write_text(paths.LOGS / f"{box.process}.journal.log", done.stdout)
