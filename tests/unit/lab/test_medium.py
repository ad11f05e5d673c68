# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil

import pytest

from pxelab import medium

needs_xorriso = pytest.mark.skipif(shutil.which("xorriso") is None, reason="needs xorriso")


def files(top):
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("count", [2, 3, 8, 12, 13, 150])
def test_the_first_and_the_last_module_are_those_of_a_real_medium(count):
    names = medium.module_names(count)
    assert (len(names), len(set(names)), names[0], names[-1]) == (count, count, "jumpstrt.gz", "imgpayld.tgz")
    assert all(len(name.partition(".")[0]) <= 8 for name in names), "ISO9660 level 1 takes 8.3 names only"


def test_boot_cfg_has_the_slashes_that_a_real_one_has(tmp_path):
    found = files(medium.make_tree(tmp_path / "m", modules=40, module_size=10))
    text = found["boot.cfg"].decode()
    assert "kernel=/b.b00\n" in text
    assert "prefix=\n" in text
    named = text.split("modules=")[1].splitlines()[0].split(" --- ")
    assert len(named) == 40
    assert all(found[name[1:]] for name in named if name.startswith("/"))
    assert found["efi/boot/boot.cfg"] == found["boot.cfg"]


def test_a_loader_tells_its_version(tmp_path):
    found = files(medium.make_tree(tmp_path / "m", version="7.0.3"))
    assert medium.loader_version(found["efi/boot/bootx64.efi"]) == "7.0.3"
    assert medium.loader_version(found["b.b00"]) is None
    assert medium.kernel_version(found["b.b00"]) == "7.0.3"
    assert medium.kernel_version(found["efi/boot/bootx64.efi"]) is None


def test_crypto_came_with_7_0_2(tmp_path):
    assert "efi/boot/crypto64.efi" not in files(medium.make_tree(tmp_path / "m", version="6.7.0"))


@needs_xorriso
def test_an_iso_is_the_same_every_time_and_has_upper_case_names(tmp_path, capsys):
    for name in ("a.iso", "b.iso"):
        assert medium.main([str(tmp_path / name), "--version", "8.0.1", "--iso"]) == 0
    data = (tmp_path / "a.iso").read_bytes()
    assert data == (tmp_path / "b.iso").read_bytes()
    assert b"BOOTX64.EFI" in data
    assert b"bootx64.efi" not in data.replace(b"MZ pxelab stand-in of bootx64.efi", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.iso", "b.iso"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a.iso"), str(tmp_path / "b.iso")]


@needs_xorriso
def test_what_xorriso_says_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="xorriso could not make"):
        medium.make_iso(tmp_path / "nowhere", tmp_path / "x.iso")
