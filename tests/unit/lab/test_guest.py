# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The medium for virtual machines: archives that Linux and cpio read, kickstarts that the guest's shell takes apart."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pxelab import guest, paths

INSTALLER = paths.ROOT / "tests/lab/guest/installer.sh"

KICKSTART = """\
vmaccepteula
rootpw --iscrypted $6$salt$hash
install --disk=mpx.vmhba0:C0:T0:L0 --overwritevmfs
network --bootproto=static --ip=192.0.2.21 --netmask=255.255.255.0 --hostname=esx01.example.com
reboot
%pre --interpreter=busybox
echo first
install --not-a-command
%pre --interpreter=busybox
echo second
%post --interpreter=busybox
|%firstboot in a text
echo post
%firstboot --interpreter=busybox
echo up
"""


def test_an_archive_is_one_that_others_read(tmp_path: Path) -> None:
    if not shutil.which("bsdtar"):
        pytest.skip("bsdtar is not installed")
    archive = guest.Archive()
    archive.folder("proc")
    archive.file("a/b/script", b"#!/bin/sh\n", 0o755)
    archive.file("a/odd", b"12345")
    archive.link("bin/sh", "/bin/busybox")
    (tmp_path / "archive.gz").write_bytes(archive.packed())
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["bsdtar", "-xf", tmp_path / "archive.gz", "-C", out], check=True)
    assert (out / "a/odd").read_bytes() == b"12345"
    assert (out / "a/b/script").stat().st_mode & 0o777 == 0o755
    assert (out / "bin/sh").readlink() == Path("/bin/busybox")
    assert (out / "proc").is_dir()


def test_an_archive_is_the_same_every_time() -> None:
    def make() -> bytes:
        archive = guest.Archive()
        archive.file("a", b"x")
        return archive.packed()

    assert make() == make()
    assert len(gzip.decompress(make())) % 4 == 0


def functions() -> str:
    """The functions of the guest's installer, without what it does."""
    text = INSTALLER.read_text(encoding="ascii")
    one_line = re.findall(r"(?m)^\w+\(\) \{ .* \}$", text)
    return "\n".join([*one_line, *re.findall(r"(?ms)^\w+\(\) \{\n.*?^\}$", text)])


def shell(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    kickstart = tmp_path / "ks.cfg"
    kickstart.write_text(KICKSTART, encoding="ascii")
    text = f"set -f\nks={kickstart}\n{functions()}\n{script}\n"
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, timeout=20)


@pytest.mark.parametrize(
    ("kind", "number", "body"),
    [
        ("%pre", 1, "echo first\ninstall --not-a-command\n"),
        ("%pre", 2, "echo second\n"),
        ("%post", 1, "|%firstboot in a text\necho post\n"),
        ("%firstboot", 1, "echo up\n"),
    ],
)
def test_the_guest_finds_each_section(tmp_path: Path, kind: str, number: int, body: str) -> None:
    assert shell(tmp_path, f"section {kind} {number}").stdout == body


def test_the_guest_knows_when_there_is_no_more_section(tmp_path: Path) -> None:
    assert shell(tmp_path, "section %pre 3").returncode == 1
    assert shell(tmp_path, "section %post 1").returncode == 0


def test_the_guest_reads_commands_before_the_first_section_only(tmp_path: Path) -> None:
    assert shell(tmp_path, "commands install").stdout.splitlines() == [
        "install --disk=mpx.vmhba0:C0:T0:L0 --overwritevmfs"
    ]
    done = shell(
        tmp_path, 'line=$(commands network); value "$line" ip; value "$line" hostname; has "$line" vlanid || echo no'
    )
    assert done.stdout.split() == ["192.0.2.21", "esx01.example.com", "no"]


def test_the_mark_of_a_datastore_lies_behind_the_file_system_and_on_the_disk() -> None:
    sector = int(re.search(r"^vmfs_sector=(\d+)$", INSTALLER.read_text(encoding="ascii"), re.MULTILINE)[1])  # type: ignore[index]
    assert guest.IMAGE_BYTES <= sector * 512 < guest.DISK_BYTES
