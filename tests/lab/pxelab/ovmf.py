# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's UEFI variables: OVMF's empty store with the boot options and their order put in.

QEMU's own ``bootindex`` would make OVMF try IPv6 and HTTP as well, a minute each. Layouts: UEFI specification (load
options, device paths), EDK2's authenticated variable store.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_NON_VOLATILE = 0x7  # and readable by the firmware and by what it boots
_ADDED = 0x3F
_END = struct.pack("<BBH", 0x7F, 0xFF, 4)

CODE = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd")


def code() -> Path:
    """The firmware, as the distribution has it; raises ``LabError``."""
    for name in CODE:
        if Path(name).exists():
            return Path(name)
    raise LabError("OVMF is not installed; tests/lab/packages-vm.txt lists what virtual machines need")


def _pci(device: int) -> bytes:
    root = struct.pack("<BBHII", 2, 1, 12, 0x0A0341D0, 0)
    return root + struct.pack("<BBHBB", 1, 1, 6, 0, device)


def nic_path(device: int, mac: str, *, http: bool) -> bytes:
    """The device path of network boot over IPv4 by the NIC in a PCI slot: by PXE, or by HTTP."""
    address = bytes.fromhex(mac.replace(":", "")).ljust(32, b"\0")
    path = _pci(device) + struct.pack("<BBH", 3, 11, 37) + address + b"\x01"
    path += struct.pack("<BBH", 3, 12, 27) + b"\0" * 23
    if http:
        path += struct.pack("<BBH", 3, 24, 4)
    return path + _END


def disk_path(device: int) -> bytes:
    """The device path of the disk in a PCI slot."""
    return _pci(device) + _END


def _variable(name: str, data: bytes) -> bytes:
    raw = name.encode("utf-16-le") + b"\0\0"
    head = struct.pack("<HBBIQ16sIII", 0x55AA, _ADDED, 0, _NON_VOLATILE, 0, b"\0" * 16, 0, len(raw), len(data))
    record = head + _GLOBAL.bytes_le + raw + data
    return record + b"\xff" * (-len(record) % 4)


def _load_option(title: str, path: bytes) -> bytes:
    return struct.pack("<IH", 1, len(path)) + title.encode("utf-16-le") + b"\0\0" + path


def write(out: Path, options: Sequence[tuple[str, bytes]]) -> None:
    """Write a variable store in which the firmware tries these (title, device path) in this order."""
    template = Path(str(code()).replace("_CODE", "_VARS")).read_bytes()
    header = struct.unpack_from("<H", template, 0x30)[0]
    if template[header : header + 16] != _STORE.bytes_le:
        raise LabError("OVMF's variable store is of a kind that the lab does not know")
    at = header + 28
    while template[at : at + 2] == b"\xaa\x55":
        name, data = struct.unpack_from("<II", template, at + 36)
        at += 60 + name + data
        at += -at % 4
    records = b"".join(
        _variable(f"Boot{number:04X}", _load_option(title, path)) for number, (title, path) in enumerate(options)
    )
    records += _variable("BootOrder", b"".join(struct.pack("<H", number) for number in range(len(options))))
    records += _variable("Timeout", struct.pack("<H", 0))
    store = bytearray(template)
    store[at : at + len(records)] = records
    out.write_bytes(store)
