# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zip files with what no depot has; whole bundles are tested with the depots."""

from __future__ import annotations

import io
import zipfile

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _unzip
from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import DepotError
from ansible_collections.pxemanager.esxi.plugins.module_utils._unzip import extract, list_zip, open_zip, read_entry


def archive(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return zipfile.ZipFile(out)


def test_files_come_out_as_they_went_in(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as writer:
        writer.writestr("folder/", "")
        writer.writestr("folder/a", "one")
        writer.writestr("b", "")
    with zipfile.ZipFile(out) as reader:
        contents = list_zip(reader, "x.zip")
        assert (len(contents.files), contents.size) == (2, 3)
        extract(reader, contents, tmp_path, "x.zip")
    assert (tmp_path / "folder/a").read_text() == "one"
    assert (tmp_path / "b").read_bytes() == b""


def test_too_many_entries_are_refused(monkeypatch):
    monkeypatch.setattr(_unzip, "_MAX_ENTRIES", 2)
    with pytest.raises(DepotError, match="more than 2 entries"):
        list_zip(archive(a="", b="", c=""), "x.zip")


def test_more_than_a_disk_holds_is_refused(monkeypatch):
    monkeypatch.setattr(_unzip, "_MAX_BYTES", 10)
    with pytest.raises(DepotError, match="would unpack to"):
        list_zip(archive(a="x" * 11), "x.zip")


def test_entries_that_share_their_bytes_are_refused():
    reader = archive(a="x" * 100, b="y" * 100)
    reader.infolist()[0].compress_size = 1000
    with pytest.raises(DepotError, match="entries that share their bytes"):
        list_zip(reader, "x.zip")


def test_an_encrypted_entry_is_refused():
    reader = archive(a="x")
    reader.infolist()[0].flag_bits |= 1
    with pytest.raises(DepotError, match="is encrypted"):
        list_zip(reader, "x.zip")


@pytest.mark.parametrize(("size", "reason"), [(1, "damaged|more in"), (5, "is shorter than it says|damaged")])
def test_an_entry_that_lies_about_its_size_is_refused(tmp_path, size, reason):
    reader = archive(a="xxx")
    reader.infolist()[0].file_size = size
    with pytest.raises(DepotError, match=reason):
        extract(reader, list_zip(reader, "x.zip"), tmp_path, "x.zip")


def test_an_unknown_way_of_packing_is_refused(tmp_path):
    reader = archive(a="xxx")
    reader.infolist()[0].compress_type = 99
    with pytest.raises(DepotError, match="cannot be unpacked"):
        extract(reader, list_zip(reader, "x.zip"), tmp_path, "x.zip")


def test_a_small_file_is_read_and_a_large_one_is_not():
    reader = archive(a="xxx")
    entry = reader.infolist()[0]
    assert read_entry(reader, entry, "x.zip", 3) == b"xxx"
    with pytest.raises(DepotError, match="with 3 bytes, which no depot needs"):
        read_entry(reader, entry, "x.zip", 2)


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(DepotError, match="is not a zip file"):
        open_zip(tmp_path / "x.zip")
