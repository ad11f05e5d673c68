# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: zip files from elsewhere, unpacked without what a zip file can do besides.

Names that lead out, links and devices, two entries of one name, encrypted entries, entries that grow without end: all
are refused before anything is written, and the sizes once more while it is.
"""

from __future__ import annotations

import os
import stat
import typing as t
import zipfile
import zlib
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import DepotError, is_safe_path
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import CHUNK

__all__ = ["Contents", "extract", "list_zip", "open_zip", "read_entry"]

_MAX_ENTRIES = 20_000
_MAX_BYTES = 16 * 1024**3
# Bundles hold compressed archives, which hardly shrink; their XML does, some thirty times.
_MAX_RATIO = 200
_RATIO_FREE = 64 * 1024 * 1024


class Contents(t.NamedTuple):
    """What a zip file has: its plain files, and how many bytes they are together."""

    files: list[zipfile.ZipInfo]
    size: int


def list_zip(archive: zipfile.ZipFile, where: str) -> Contents:
    """The files of a zip, all of them checked. Raises :class:`DepotError`."""
    files: list[zipfile.ZipInfo] = []
    seen: dict[str, str] = {}
    total = packed = 0
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise DepotError(f"{where} has more than {_MAX_ENTRIES} entries: it is no depot of ESXi software")
    for entry in entries:
        name = entry.filename
        if not is_safe_path(name[:-1] if entry.is_dir() else name):
            raise DepotError(f"{where} has an entry named {name[:80]!r}, which no depot has")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.flag_bits & 0x1:
            what = "is encrypted" if entry.flag_bits & 0x1 else "is a link or a device"
            raise DepotError(f"{where} has an entry {name[:80]!r} that {what}: only plain files are taken")
        if entry.is_dir():
            continue
        # Two names that differ in case only are one for whoever serves them from another file system one day.
        if name.lower() in seen:
            raise DepotError(f"{where} has two entries for {name[:80]!r}")
        seen[name.lower()] = name
        total += entry.file_size
        packed += entry.compress_size
        files.append(entry)
    for name in seen:
        if any("/".join(name.split("/")[:depth]) in seen for depth in range(1, name.count("/") + 1)):
            raise DepotError(f"{where} has {seen[name][:80]!r} below an entry that is a file")
    if packed > _length(archive):
        raise DepotError(f"{where} has entries that share their bytes: it is made to fill the disk")
    if total > _MAX_BYTES or total > _RATIO_FREE + _MAX_RATIO * packed:
        raise DepotError(
            f"{where} would unpack to {total // 2**20} MiB from {packed // 2**20}: it is made to fill the disk"
        )
    return Contents(files, total)


def _length(archive: zipfile.ZipFile) -> int:
    if archive.fp is None:
        raise DepotError("the zip file is closed already")
    return archive.fp.seek(0, os.SEEK_END)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str, limit: int) -> bytes:
    """Contents of a small file in a zip."""
    if entry.file_size > limit:
        raise DepotError(f"{where} has {entry.filename[:80]!r} with {entry.file_size} bytes, which no depot needs")
    return b"".join(_chunks(archive, entry, where))


def extract(archive: zipfile.ZipFile, contents: Contents, target: Path, where: str) -> None:
    """Unpack checked files into an empty folder. Raises :class:`OSError` when there is no room for them."""
    for entry in contents.files:
        path = target / entry.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            for chunk in _chunks(archive, entry, where):
                file.write(chunk)


def _chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> t.Iterator[bytes]:
    left = entry.file_size
    try:
        with archive.open(entry) as reader:
            while chunk := reader.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise DepotError(f"{where} has more in {entry.filename[:80]!r} than it says")
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DepotError(f"{where} is damaged: {entry.filename[:80]!r} cannot be unpacked ({error})") from error
    if left:
        raise DepotError(f"{where} is damaged: {entry.filename[:80]!r} is shorter than it says")


def open_zip(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    """Open a zip file. Raises :class:`DepotError`."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DepotError(f"{path} is not a zip file: {error}") from error
