# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an mboot knows, told by its program: stand-ins, and the lab's own program that real firmware runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._mboot import UNKNOWN, at_most, believed

ROOT = Path(__file__).resolve().parents[4]

# The keys that the source of each release has in mboot/config.c.
OLD = "kernel kernelopt modules title prefix nobootif timeout noquirks norts"
KEYS = {
    "6.7.0": OLD,
    "7.0.3": f"{OLD} nativehttp crypto",
    "8.0.0": f"{OLD} nativehttp crypto runtimewd tftpblksize acpitables runtimewdtimeout",
    "8.0.1": f"{OLD} nativehttp crypto runtimewd tftpblksize acpitables runtimewdtimeout skip errtimeout",
    "9.0.0": f"{OLD} crypto runtimewd tftpblksize acpitables runtimewdtimeout skip errtimeout",
}


def program(version):
    return b"MZ\x90\0" + bytes(range(256)) + b"\0".join(key.encode() for key in KEYS[version].split()) + b"\0\xff\xfe"


@pytest.mark.parametrize(
    ("version", "limit"),
    [("6.7.0", "7.0.1"), ("7.0.3", "7.0.3"), ("8.0.0", "8.0.0"), ("8.0.1", None), ("9.0.0", None)],
)
def test_the_keys_tell_how_old_a_loader_is(version, limit):
    assert at_most(program(version)) == limit


@pytest.mark.parametrize("loader", [b"", b"MZ", b"skip", b"no such keys\0", b"Skipping quirks...\0"])
def test_what_has_no_keys_is_no_mboot(loader):
    assert at_most(loader) == UNKNOWN


def test_a_linker_may_let_a_key_share_the_end_of_a_longer_text():
    assert at_most(b"the module is one to skip\0") is None


@pytest.mark.parametrize(
    ("medium", "loader", "result", "hint"),
    [
        ("8.0.3", "8.0.1", "8.0.3", None),
        ("7.0.3", "7.0.3", "7.0.3", None),
        ("6.7.0", "6.7.0", "6.7.0", None),
        ("9.0.0", "9.0.0", "9.0.0", None),
        ("8.0.3", "8.0.0", "8.0.0", "is that of ESXi 8.0.0 or older"),
        ("8.0.3", "7.0.3", "7.0.3", "is that of ESXi 7.0.3 or older"),
        ("7.0.3", "9.0.0", "7.0.3", "is that of ESXi 8.0.1 or later"),
    ],
)
def test_the_lower_of_both_is_believed(medium, loader, result, hint):
    found, said = believed(medium, program(loader))
    assert found == result
    assert (said is None) == (hint is None)
    assert hint is None or hint in said


@pytest.mark.skipif(
    shutil.which("gcc") is None or not Path("/usr/include/efi/efi.h").exists(), reason="needs gcc and gnu-efi"
)
@pytest.mark.parametrize(("version", "knows"), [("8.0.3", True), ("7.0.3", False)])
def test_the_programs_that_the_lab_boots_are_told_apart(tmp_path, version, knows):
    out = tmp_path / "mboot.efi"
    subprocess.run([ROOT / "tests/lab/mboot/build.sh", out, version], check=True)
    assert (at_most(out.read_bytes()) is None) == knows
