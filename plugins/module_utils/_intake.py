# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: how images and depots come into a folder whole, or not at all.

An import is made in a folder of its own whose name begins with a dot and which only root may enter, so neither TFTP nor
HTTP can hand out half of it. It is synced, and changes places with what was there before in one step. What a killed
import left behind is removed by the next run, whatever that run was asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import time
import typing as t
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = ["CHUNK", "Intake", "check_space", "file_sum", "full_disk", "remove_tree", "seal", "sync_folder"]

CHUNK: t.Final = 1024 * 1024

_PARTIAL = ".importing."
_DISCARDED = ".discarded."
# What a new tree replaces where the file system cannot exchange two folders: put back if the new one never came.
_REPLACED = ".replaced."

# What an import leaves free for everybody else on that file system.
_SPARE_BYTES = 64 * 1024 * 1024
_SPARE_FILES = 1000

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Intake:
    """A folder that holds a folder for each thing that was imported.

    :ivar folder: the folder.
    """

    def __init__(self, folder: Path, *, error: type[EsxiPxeError], check_mode: bool = False) -> None:
        self.folder = folder
        self._error = error
        self._check_mode = check_mode

    @contextlib.contextmanager
    def lock(self) -> t.Iterator[None]:
        """One import at a time: the lock of the folder. It never keeps a publish waiting.

        In check mode nothing is written, so nothing is locked: a lock file would be a write.
        """
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._error(f"{self.folder} does not exist: run the role pxe_server on this machine first") from None
        try:
            if not self._check_mode:
                self._flock(fd)
                self.clean_up()
            yield
        finally:
            os.close(fd)

    def _flock(self, fd: int, timeout: float = 1800.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._error(
                        f"another import has held {self.folder} for more than {timeout:g} s: wait for it to end"
                    ) from None
                time.sleep(0.2)

    @contextlib.contextmanager
    def workspace(self, name: str) -> t.Iterator[Path]:
        """A new folder to work in, which is gone afterwards; what is kept of it is put in place before."""
        work = self.folder / f"{_PARTIAL}{name}"
        os.mkdir(work, 0o700)
        try:
            yield work
        finally:
            self.clean_up()

    def put_in_place(self, name: str, tree: Path) -> None:
        """Give a finished tree its name. One that has the name is not missing for a moment."""
        final = self.folder / name
        if not (final.is_symlink() or final.exists()):
            os.rename(tree, final)
        elif not _exchange(tree, final):
            os.rename(final, self.folder / f"{_REPLACED}{name}")
            os.rename(tree, final)
        sync_folder(self.folder)

    def discard(self, name: str) -> None:
        """Take a tree away, and everything that was left of others."""
        final = self.folder / name
        if final.is_symlink():
            os.unlink(final)
        elif final.exists():
            os.rename(final, self.folder / f"{_DISCARDED}{name}")
        sync_folder(self.folder)
        self.clean_up()

    def leftovers(self) -> list[str]:
        """Names of what killed imports have left, or of what an import is making just now."""
        try:
            entries = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(entry for entry in entries if entry.startswith((_PARTIAL, _DISCARDED, _REPLACED)))

    def busy(self) -> bool:
        """Whether an import or a removal is under way."""
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def clean_up(self) -> None:
        """Remove what this or an earlier, killed, run has left. The caller holds the lock."""
        for entry in self.leftovers():
            path = self.folder / entry
            final = self.folder / entry[len(_REPLACED) :]
            if entry.startswith(_REPLACED) and not final.exists() and not final.is_symlink():
                os.rename(path, final)
            elif path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                os.unlink(path)


def _exchange(one: Path, other: Path) -> bool:
    """Let two entries of one file system change places in one step; ``False``: it cannot do that."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result = function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


# Room.


def check_space(folder: Path, *, size: int, files: int, what: str, error: type[EsxiPxeError]) -> None:
    """Refuse what would not fit on the file system of a folder, with the figures.

    :arg size: bytes that will be written.
    :arg files: files and folders that will be made.
    :arg what: what is to be imported.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < size + _SPARE_BYTES:
        raise error(
            f"importing {what} needs {_mib(size)} MiB below {folder}, and {_mib(_SPARE_BYTES)} MiB are to stay free, "
            f"but only {free // 2**20} MiB are free: make room first"
        )
    # Some file systems (btrfs) make room for files as they come, and count none.
    if found.f_files and found.f_favail < files + _SPARE_FILES:
        raise error(
            f"importing {what} needs {files} files (inodes) below {folder}, and {_SPARE_FILES} are to stay free, "
            f"but only {found.f_favail} are free: make room first"
        )


def _mib(size: int) -> int:
    return -(-size // 2**20)


def full_disk(problem: OSError) -> bool:
    """Whether something could not be written because there is no room for it."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT)


# Files.


def seal(tree: Path) -> dict[str, tuple[int, str]]:
    """Give everything its permissions, bring it to disk, and return size and SHA-256 of each file."""
    found: dict[str, tuple[int, str]] = {}
    for parent, _folders, files in os.walk(tree, topdown=False):
        for name in files:
            path = os.path.join(parent, name)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(fd, "rb", buffering=0) as file:
                os.fchmod(fd, 0o644)
                os.fsync(fd)
                found[os.path.relpath(path, tree)] = (os.fstat(fd).st_size, _sum(file))
        os.chmod(parent, 0o755)
        sync_folder(Path(parent))
    return found


def file_sum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file; a link in its place is not followed.

    :raises OSError: it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb", buffering=0) as file:
        return _sum(file)


def _sum(file: t.BinaryIO | t.Any) -> str:
    text = hashlib.sha256()
    for chunk in iter(lambda: file.read(CHUNK), b""):
        text.update(chunk)
    return text.hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it."""
    for attempt in range(100):
        try:
            shutil.rmtree(path)
            return
        except OSError as problem:
            # The bsdtar of a killed import may still be writing there; its folder is gone in a moment, and so is it.
            if attempt == 99 or problem.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
            if not path.exists():
                return
            time.sleep(0.05)


def sync_folder(path: Path) -> None:
    """Bring the entries of a folder to disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
