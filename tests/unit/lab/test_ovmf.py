# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UEFI variables of a virtual machine: what firmware will try, in which order."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from pxelab import ovmf
from pxelab.errors import LabError

_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A firmware whose empty variable store is known."""
    code = tmp_path / "OVMF_CODE_4M.fd"
    code.touch()
    header = bytearray(b"\0" * 0x48)
    struct.pack_into("<H", header, 0x30, 0x48)
    store = _STORE.bytes_le + struct.pack("<IBBHI", 8192, 0x5A, 0xFE, 0, 0)
    (tmp_path / "OVMF_VARS_4M.fd").write_bytes(bytes(header) + store + b"\xff" * 8192)
    monkeypatch.setattr(ovmf, "CODE", (str(code),))
    return tmp_path


def read(path: Path) -> dict[str, bytes]:
    """The variables in a store, read as firmware reads it."""
    data = path.read_bytes()
    at, found = 0x48 + 28, {}
    while data[at : at + 2] == b"\xaa\x55":
        name_size, data_size = struct.unpack_from("<II", data, at + 36)
        name = data[at + 60 : at + 60 + name_size].decode("utf-16-le").rstrip("\0")
        found[name] = data[at + 60 + name_size : at + 60 + name_size + data_size]
        at += 60 + name_size + data_size
        at += -at % 4
    return found


def test_the_order_is_the_given_one(firmware: Path) -> None:
    nic = ovmf.nic_path(4, "00:50:56:aa:01:01", http=False)
    ovmf.write(firmware / "out.fd", [("network", nic), ("disk", ovmf.disk_path(8))])
    found = read(firmware / "out.fd")
    assert found["BootOrder"] == struct.pack("<HH", 0, 1)
    attributes, length = struct.unpack_from("<IH", found["Boot0000"])
    assert attributes == 1
    assert found["Boot0000"][-length:] == nic
    assert len((firmware / "out.fd").read_bytes()) == len((firmware / "OVMF_VARS_4M.fd").read_bytes())


def test_a_network_path_names_the_nic_and_http_only_where_asked() -> None:
    plain, http = (ovmf.nic_path(4, "00:50:56:aa:01:01", http=value) for value in (False, True))
    assert bytes.fromhex("005056aa0101") in plain
    uri = struct.pack("<BBH", 3, 24, 4)
    assert uri in http
    assert uri not in plain
    assert plain.endswith(b"\x7f\xff\x04\x00")


def test_a_store_of_another_kind_is_refused(firmware: Path) -> None:
    (firmware / "OVMF_VARS_4M.fd").write_bytes(b"\0" * 512)
    with pytest.raises(LabError, match="variable store"):
        ovmf.write(firmware / "out.fd", [])
