# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: installer media, and what is taken from them.

A medium is not trusted: it may come from a vendor's site or a colleague's folder and is read by root. An ISO is listed
before anything of it is unpacked, and what was unpacked is looked at once more.

ISO files are read by bsdtar. All supported distributions have it, it is maintained, it reads ISO9660 with Joliet and
Rock Ridge without a mount, it refuses absolute names, '..' and writing through links by itself, and its listing escapes
whatever stands in a name. (pycdlib is not in RHEL and would be one more thing to install; xorriso is made to write.)
"""

from __future__ import annotations

import collections
import errno
import hashlib
import os
import re
import stat
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    ImageError,
    canonical_entry_name,
    module_name,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import AddedModule, Source
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import CHUNK, file_sum

__all__ = [
    "Run",
    "Taker",
    "Wanted",
    "check_sum",
    "digest",
    "digest_of",
    "list_iso",
    "look_at",
    "look_at_modules",
    "unpack",
]

Run = t.Callable[[t.Sequence[str]], tuple[int, str, str]]
"""Runs a command (argv) and returns its exit code, output and error output."""

# Limits that no installer comes near; a medium made to exhaust the server stops here.
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8
_MAX_ADDED = 64
_MAX_ADDED_BYTES = 1024**3

# Where the name of ISO9660's first volume descriptor stands: sector 16, after its type byte.
_ISO_MAGIC = (16 * 2048 + 1, b"CD001")

_UDF_MAGIC = b"BEA01"

# What a file system and two names for the same contents may add to the size of an ISO.
_SLACK = 64 * 1024 * 1024

_ESCAPED = re.compile(r"\\([0-7]{3})")
_VIB_MAGIC = b"!<arch>\n"


def look_at(src: str) -> t.Optional[Source]:
    """What lies at ``src``; ``None``: nothing. Raises :class:`ImageError` when it is no medium at all."""
    if not src.startswith("/"):
        raise ImageError(f"src must be an absolute path on the PXE server, not {src!r}")
    try:
        info = os.stat(src)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ImageError(f"{src} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(info.st_mode):
        text = hashlib.sha256()
        for name, entry in walk(src):
            text.update(f"{name}\0{entry.st_size}\0{entry.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return Source(src, "folder", text.hexdigest())
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{src} is neither an ISO file nor a folder")
    with open(src, "rb") as file:
        file.seek(_ISO_MAGIC[0])
        magic = file.read(len(_ISO_MAGIC[1]))
        if magic == _UDF_MAGIC:
            raise ImageError(f"{src} is a UDF medium without ISO9660: copy its files to a folder, and import that")
        if magic != _ISO_MAGIC[1]:
            raise ImageError(f"{src} is not an ISO file")
    return Source(src, "iso", f"{info.st_size} bytes, changed {info.st_mtime_ns}")


def walk(top: str) -> t.Iterator[tuple[str, os.stat_result]]:
    """Every entry but folders below a folder, in a fixed order, with its own ``lstat``; links are not followed."""

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}") from error

    count = 0
    for parent, folders, files in os.walk(top, onerror=fail):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted(files + links):
            count += 1
            if count > _MAX_ENTRIES:
                raise ImageError(f"{top} has more than {_MAX_ENTRIES} files: it is no ESXi installer")
            path = os.path.join(parent, name)
            yield os.path.relpath(path, top), os.lstat(path)


# Checksums.


def digest(source: Source) -> str:
    """SHA-256 of an ISO file, or of a folder's names and contents as :func:`digest_of` has it."""
    if source.kind == "iso":
        return sum_of(source.path)
    sums = {}
    for name, info in walk(source.path):
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(f"{source.path} has an entry {name!r} that is no plain file")
        canonical = "/".join(canonical_entry_name(part) for part in name.split("/"))
        sums[canonical] = sum_of(os.path.join(source.path, name))
    return digest_of(sums)


def digest_of(sums: t.Mapping[str, str]) -> str:
    """One SHA-256 for many files, from that of each."""
    text = hashlib.sha256()
    for name in sorted(sums):
        text.update(f"{name}\0{sums[name]}\n".encode("ascii"))
    return text.hexdigest()


def sum_of(path: str) -> str:
    """SHA-256 of a file."""
    try:
        return file_sum(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error


def check_sum(wanted: t.Optional[str], found: str, src: str) -> None:
    """Raises :class:`ImageError` when a file has another checksum than it should."""
    if wanted is not None and wanted.lower() != found:
        raise ImageError(
            f"{src} has the SHA-256 sum {found}, not {wanted.lower()}: download it again, or correct checksum"
        )


# ISO files.


@dataclass(frozen=True)
class Wanted:
    """Room that a medium needs."""

    size: int
    files: int


def list_iso(run: Run, iso: str) -> Wanted:
    """Look at what an ISO has, before anything of it is unpacked.

    Raises :class:`ImageError` for what no installer medium has: links, devices, names that lead elsewhere, and files
    that together are larger than the ISO that is to hold them.
    """
    argv = ["bsdtar", "-c", "-f", "-", "--format=mtree", "--options=!all,type,size", f"@{iso}"]
    code, out, err = run(argv)
    if code != 0:
        raise ImageError(f"bsdtar cannot read {iso}: {_first_line(err)} (exit code {code})")
    size = count = 0
    for line in out.splitlines():
        if not line or line.startswith("#"):
            continue
        count += 1
        if count > _MAX_ENTRIES:
            raise ImageError(f"the medium has more than {_MAX_ENTRIES} entries: it is no ESXi installer")
        words = line.split(" ")
        facts = dict(word.partition("=")[::2] for word in words[1:])
        name = _unescaped(words[0])
        kind = facts.get("type", "")
        if kind not in ("file", "dir"):
            what = "a symbolic link" if kind == "link" else "a device, pipe or socket"
            raise ImageError(f"the medium has {what} at {name!r}: only plain files are taken")
        parts = name.removeprefix("./").split("/")
        if name != ".":
            for part in parts:
                canonical_entry_name(part)
        if len(parts) > _MAX_DEPTH + 1:
            raise ImageError(f"the medium has folders in folders at {name!r}, deeper than any ESXi installer")
        size += int(facts.get("size", "0")) if kind == "file" else 0
    limit = _limit(iso)
    if size > limit:
        raise ImageError(
            f"the files on {iso} claim to have {size // 2**20} MiB, and the ISO itself has "
            f"{os.stat(iso).st_size // 2**20}: it is damaged, or made to fill the disk"
        )
    return Wanted(size, count)


def _limit(iso: str) -> int:
    """The most that the files of an ISO may need: two names may stand for the same contents."""
    return 2 * os.stat(iso).st_size + _SLACK


def _unescaped(text: str) -> str:
    data = _ESCAPED.sub(lambda found: chr(int(found.group(1), 8) & 0xFF), text)
    return data.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "no message"


def unpack(run: Run, iso: str, target: Path) -> None:
    """Unpack an ISO that was listed before."""
    argv = ["bsdtar", "-x", "-f", iso, "-C", str(target), "--no-same-owner", "--no-same-permissions"]
    argv += ["--no-acls", "--no-xattrs", "--no-fflags"]
    code, _out, err = run(argv)
    if code != 0:
        if os.strerror(errno.ENOSPC) in err:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        raise ImageError(f"bsdtar cannot unpack {iso}: {_first_line(err)} (exit code {code})")
    names: collections.Counter[tuple[int, int]] = collections.Counter()
    for _name, info in walk(str(target)):
        names[(info.st_dev, info.st_ino)] += 1
    for name, info in walk(str(target)):
        if info.st_nlink != names[(info.st_dev, info.st_ino)]:
            raise ImageError(f"the medium has a file {name!r} that is linked to something outside the medium")


class Taker:
    """Takes the files of an unpacked medium into a new tree, under their canonical names.

    Whatever is no plain file or folder is refused, and so is a name that could lead anywhere else. A file with further
    names is copied, not moved: bsdtar makes hard links of files that share their contents on the ISO.
    """

    def __init__(self, tree: Path, *, iso: t.Optional[str]) -> None:
        self._tree = tree
        self._move = iso is not None
        self._left = _limit(iso) if iso is not None else None
        self._sums: dict[str, str] = {}
        self._entries = 0

    def take(self, top: Path) -> dict[str, str]:
        """Returns the SHA-256 of each file that was copied, by its path in the new tree."""
        self._take(top, "", 0)
        return self._sums

    def _take(self, folder: Path, below: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ImageError(f"the medium has folders in folders at {below!r}, deeper than any ESXi installer")
        seen: dict[str, str] = {}
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise ImageError(f"{folder} cannot be read: {error.strerror}") from error
        for entry in entries:
            self._entries += 1
            if self._entries > _MAX_ENTRIES:
                raise ImageError(f"the medium has more than {_MAX_ENTRIES} entries: it is no ESXi installer")
            name = canonical_entry_name(entry.name)
            if name in seen:
                raise ImageError(
                    f"the medium has both {seen[name]!r} and {entry.name!r}, which are one name in lower case"
                )
            seen[name] = entry.name
            path = f"{below}{name}"
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                os.mkdir(self._tree / path)
                self._take(Path(entry.path), path + "/", depth + 1)
                continue
            if not stat.S_ISREG(info.st_mode):
                raise ImageError(f"the medium has {_kind(info.st_mode)} at {path!r}: only plain files are taken")
            if self._left is not None:
                self._left -= info.st_size
                if self._left < 0:
                    raise ImageError("the medium has more in its files than it can hold: it is made to fill the disk")
            if self._move and info.st_nlink == 1:
                os.rename(entry.path, self._tree / path)
            else:
                self._sums[path] = copy_file(entry.path, self._tree / path)


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "a device, pipe or socket"


def copy_file(source: str, target: Path) -> str:
    """Copy a plain file to a new one and return its SHA-256. Raises :class:`OSError` when there is no room for it."""
    text = hashlib.sha256()
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ImageError(f"{source} was a file a moment ago and is none now")
            for chunk in iter(lambda: reader.read(CHUNK), b""):
                text.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[writer.write(view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImageError(f"{source} cannot be copied: {error.strerror}") from error
    return text.hexdigest()


# Modules that are added to those of a medium.


def look_at_modules(paths: t.Sequence[str], known: t.Sequence[AddedModule]) -> list[tuple[str, AddedModule]]:
    """The files that are to be added to an image's modules: each with its path and what it is.

    ``known`` are those that the image has: a file that is gone meanwhile is what it was.
    Raises :class:`ImageError` for what cannot be a module.
    """
    if len(paths) > _MAX_ADDED:
        raise ImageError(f"add_modules has {len(paths)} files, and at most {_MAX_ADDED} can be added")
    before = {module.name: module for module in known}
    found: dict[str, tuple[str, AddedModule]] = {}
    for path in paths:
        if not path.startswith("/"):
            raise ImageError(f"add_modules needs absolute paths on the PXE server, not {path!r}")
        name = module_name(os.path.basename(path))
        if name in found:
            raise ImageError(f"add_modules has two files named {name}: the installer could load only one of them")
        try:
            info = os.stat(path)
        except FileNotFoundError:
            if name not in before:
                raise ImageError(
                    f"{path} in add_modules does not exist on the PXE server: copy it there, or correct add_modules"
                ) from None
            found[name] = (path, before[name])
            continue
        except OSError as error:
            raise ImageError(f"{path} in add_modules cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(f"{path} in add_modules is no plain file")
        if not 0 < info.st_size <= _MAX_ADDED_BYTES:
            raise ImageError(f"{path} in add_modules has {info.st_size} bytes, which no module has")
        with open(path, "rb") as file:
            if file.read(len(_VIB_MAGIC)) == _VIB_MAGIC:
                raise ImageError(
                    f"{path} in add_modules is a VIB, and the boot loader loads the payload inside it: take that out "
                    "(ar x), or make the VIB a depot that a post action installs from"
                )
        found[name] = (path, AddedModule(name=name, sha256=sum_of(path), size=info.st_size))
    return list(found.values())
