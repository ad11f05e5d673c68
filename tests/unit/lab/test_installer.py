# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in installer's upgrade: what is on the disk stays, and without ESXi there is nothing to upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pxelab import kickstart
from pxelab.disk import Disk, System
from pxelab.firmware import Hardware
from pxelab.installer import Installer, InstallFailed
from pxelab.wire import Wire

UPGRADE = """\
vmaccepteula
upgrade --firstdisk=esx
reboot
%firstboot --interpreter=busybox
echo after the upgrade
"""


class Console:
    def say(self, text: str) -> None:
        pass

    def pause(self, seconds: float) -> None:
        pass

    def count(self, what: str, number: int = 1) -> None:
        pass


class Root:
    """What the installer puts into the disk's root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, data: bytes, mode: int = 0o644) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def upgrade(disk: Disk, version: str, text: str = UPGRADE) -> None:
    hardware = Hardware("esx01.example.com", 1, ("00:50:56:aa:01:01",), "uefi", b"\0" * 16)
    wire = Wire(hardware.macs, b"\0" * 16)
    parts: Any = (hardware, disk, Root(disk.root), Console(), Root, lambda: None, wire)
    ks = kickstart.parse(text)
    kickstart.check(ks)
    Installer(*parts)._upgrade_disk(ks, version)


def installed(folder: Path) -> tuple[Disk, System]:
    disk = Disk(folder)
    system = System("esx01", "8.0.3", "00:50:56:aa:01:01", {"ip": "192.168.77.21"}, "$6$", True, [], complete=True)
    system.datastore = "one"
    disk.write(system)
    Root(disk.root).put("etc/vmware/ssl/rui.crt", b"its own")
    return disk, system


def test_what_an_upgrade_keeps(tmp_path: Path) -> None:
    disk, before = installed(tmp_path)
    upgrade(disk, "9.0.0")
    after = disk.read()
    assert after is not None and (after.version, after.upgrades) == ("9.0.0", 1)
    kept = ("host_name", "mac", "network", "password_hash", "vmfs", "datastore")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert after.firstboot == [{"interpreter": "busybox", "text": "echo after the upgrade\n"}]
    assert (disk.root / "etc/vmware/ssl/rui.crt").read_bytes() == b"its own"
    assert (disk.root / "etc/stand-in-version").read_text() == "9.0.0\n"


@pytest.mark.parametrize(
    "target", ["--firstdisk=esx", "--disk=mpx.vmhba0:C0:T0:L0", "--diskBootedFrom --savebootbank=x"]
)
def test_an_empty_disk_has_nothing_to_upgrade(tmp_path: Path, target: str) -> None:
    with pytest.raises(InstallFailed, match="no versions of ESXi were found on disk: mpx"):
        upgrade(Disk(tmp_path), "9.0.0", UPGRADE.replace("--firstdisk=esx", target))
    assert Disk(tmp_path).read() is None


def test_an_upgrade_does_not_go_back(tmp_path: Path) -> None:
    disk, _before = installed(tmp_path)
    with pytest.raises(InstallFailed, match="8.0.3, which is newer than 8.0.1"):
        upgrade(disk, "8.0.1")
    with pytest.raises(InstallFailed, match="dryrun"):
        upgrade(disk, "9.0.0", UPGRADE.replace("reboot", "dryrun\nreboot"))
    system = disk.read()
    assert system is not None and (system.version, system.upgrades) == ("8.0.3", 0)
