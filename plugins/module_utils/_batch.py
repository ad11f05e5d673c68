# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: many files, links and folders on a PXE server's disk, written in one go.

What `_store` promises of one file holds for each of a batch, and a batch adds an order: see `Batch`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._folders import Folders, Leftovers
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    PathLike,
    StoreError,
    create_file,
    make_symlink,
    read_at,
    readlink_at,
    sync_filesystem,
    temporary_name,
)

__all__ = ("Batch", "Change", "Leftovers")

_STALE = 86400.0
"""Seconds after which a temporary file belongs to nobody, whatever its target was."""

_FSYNC_AT_MOST = 4
"""Up to so many files or folders are synced one by one; above, one syncfs of the whole file system is cheaper."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference between what is on disk and what a batch wants.

    :ivar tag: what the caller gave, usually a host's name.
    :ivar path: absolute path.
    :ivar before: contents, or `-> target` of a link; None: it is not there.
    :ivar after: the same, as it is to be.
    """

    tag: str
    path: str
    before: str | None
    after: str | None


@dataclasses.dataclass
class _Operation:
    kind: str  # "write", "link", "remove", "rmdir"
    phase: int
    tag: str
    parent: str
    base: str
    data: bytes = b""
    target: str = ""
    mode: int = 0
    gid: int | None = None
    only_to: str | None = None
    temporary: str = ""
    needed: bool = False


@dataclasses.dataclass(frozen=True)
class _Folder:
    mode: int
    gid: int | None
    tag: str
    mend: bool


class Batch:
    """Files, links and folders of many hosts, written in one go.

    Collect operations, then `commit()`. They are compared with the disk first: what is right already is not touched.
    Then folders are made, all contents are written under temporary names, one sync brings them to disk, and only then
    are they renamed, linked and removed **in the order in which they were collected**.

    The attribute `phase` is given to each operation that is collected. Phases run in ascending order, and all of one is
    on disk before anything of the next happens: a power failure cannot swap them either.

    The caller holds the locks of whatever it writes.
    """

    def __init__(self, leftovers: Leftovers | None = None) -> None:
        """Collect nothing yet.

        :arg leftovers: what is known of temporary files of killed processes; one for all batches of a call saves time.
        """
        self.phase = 0
        self._leftovers = leftovers if leftovers is not None else Leftovers()
        self._folders: dict[str, _Folder] = {}
        self._operations: list[_Operation] = []
        self._changes: list[Change] | None = None
        self._new_folders: list[str] = []
        self._wrong_folders: list[str] = []
        self._stale: list[tuple[str, str]] = []

    def folder(
        self, path: PathLike, mode: int = 0o755, gid: int | None = None, tag: str = "", mend: bool = True
    ) -> None:
        """Want a folder; its parent must exist or have been asked for before.

        :arg mend: give it these permissions also when it exists.
        """
        self._folders.setdefault(os.fspath(path), _Folder(mode, gid, tag, mend))

    def write(
        self, path: PathLike, data: bytes | str, mode: int = 0o644, gid: int | None = None, tag: str = ""
    ) -> None:
        """Want a file with these contents."""
        parent, base = _split(path)
        raw = data.encode("ascii") if isinstance(data, str) else data
        self._operations.append(_Operation("write", self.phase, tag, parent, base, data=raw, mode=mode, gid=gid))

    def link(self, path: PathLike, target: str, tag: str = "") -> None:
        """Want a symbolic link to `target`, a path relative to the link's folder."""
        parent, base = _split(path)
        self._operations.append(_Operation("link", self.phase, tag, parent, base, target=target))

    def remove(self, path: PathLike, tag: str = "", only_to: str | None = None) -> None:
        """Want a file or link gone.

        :arg only_to: leave it alone unless it is a link to this target: it may be another host's by now.
        """
        parent, base = _split(path)
        self._operations.append(_Operation("remove", self.phase, tag, parent, base, only_to=only_to))

    def remove_folder(self, path: PathLike, tag: str = "") -> None:
        """Want a folder gone if it is empty by then and this batch does not want it to be there."""
        parent, base = _split(path)
        self._operations.append(_Operation("rmdir", self.phase, tag, parent, base))

    def remove_tree(self, path: PathLike, tag: str = "", keep: t.Collection[str] = ()) -> None:
        """Want a folder and everything in it gone.

        :arg keep: names directly in the folder that stay (and so does the folder then).
        """
        top = os.fspath(path)
        for parent, folders, files in os.walk(top, topdown=False):
            linked = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for name in sorted(files + linked):
                if parent != top or name not in keep:
                    self.remove(os.path.join(parent, name), tag)
            if parent != top:
                self.remove_folder(parent, tag)
        if not keep:
            self.remove_folder(top, tag)

    def extend(self, other: Batch) -> None:
        """Take over everything that another batch has collected, with its phases."""
        for path, folder in other._folders.items():
            self._folders.setdefault(path, folder)
        self._operations.extend(other._operations)

    # Looking.

    def plan(self) -> list[Change]:
        """Compare with the disk and return what would be changed. Writes nothing.

        :raises StoreError: something is in the way, such as a link in the place of a folder.
        :raises OSError: the disk cannot be read.
        """
        if self._changes is None:
            folders = Folders()
            try:
                self._changes = self._compare(folders)
            finally:
                folders.close()
        return self._changes

    def _compare(self, folders: Folders) -> list[Change]:
        changes: list[Change] = []
        new: set[str] = set()
        for path, folder_wanted in self._folders.items():
            mode, gid, tag = folder_wanted.mode, folder_wanted.gid, folder_wanted.tag
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                new.add(path)
                self._new_folders.append(path)
                changes.append(Change(tag, path + "/", None, ""))
                continue
            if not stat.S_ISDIR(info.st_mode):
                raise StoreError(f"{path} must be a folder, not a link or file: remove it and run again")
            if not folder_wanted.mend:
                continue
            if stat.S_IMODE(info.st_mode) != mode or (gid is not None and info.st_gid != gid):
                self._wrong_folders.append(path)
                before = f"mode {stat.S_IMODE(info.st_mode):04o} gid {info.st_gid}"
                changes.append(Change(tag, path + "/", before, f"mode {mode:04o} gid {gid}"))
        targets: dict[str, set[str]] = {}
        leftovers: dict[str, list[tuple[str, str]]] = {}
        entries: t.Collection[str] | None = None
        opened, folder = "", None
        # What earlier operations of this batch will have made of a path; the disk does not know yet.
        planned: dict[tuple[str, str], tuple[str | None, str | None]] = {}
        self._operations.sort(key=lambda operation: operation.phase)  # stable: the order within a phase stays
        for operation in self._operations:
            operation.needed = False
            parent, base = operation.parent, operation.base
            if operation.kind == "rmdir" and f"{parent}/{base}" in self._folders:
                continue
            if parent != opened:  # most operations are in the folder of the one before
                opened, folder, entries = parent, None, None
                if parent not in new:
                    with contextlib.suppress(FileNotFoundError):
                        folder = folders.fd(parent)
                if folder is not None:
                    targets.setdefault(parent, set())
                    if parent not in leftovers:
                        leftovers[parent], entries = self._leftovers.of(parent, folder)
            if folder is not None:
                targets[parent].add(base)
            key = (parent, base)
            content: str | None
            if key in planned:
                content, target = planned[key]
            elif entries is not None and base not in entries:
                content, target = None, None
            else:
                content, target = self._look(operation, folder)
            if content is _RIGHT or (target is not None and target == operation.target):
                continue
            change = self._difference(operation, content, target)
            if change is not None:
                operation.needed = True
                changes.append(change)
                planned[key] = _after(operation)
        self._find_stale(folders, targets, leftovers)
        return changes

    @staticmethod
    def _look(operation: _Operation, folder: int | None) -> tuple[str | None, str | None]:
        """What is at the place of an operation: contents and permissions as text, or the target of a link."""
        if folder is None:
            return None, None
        if operation.kind == "write":
            found = read_at(operation.base, folder)
            if found is None:
                target = readlink_at(operation.base, folder)
                return None, target
            data, info = found
            if data != operation.data:
                return data.decode("ascii", "replace"), None
            if stat.S_IMODE(info.st_mode) != operation.mode or operation.gid not in (None, info.st_gid):
                return f"mode {stat.S_IMODE(info.st_mode):04o} gid {info.st_gid}", None
            return _RIGHT, None
        target = readlink_at(operation.base, folder)
        if target is not None or operation.kind == "link":
            return None, target
        try:
            info = os.stat(operation.base, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None, None
        if operation.kind == "remove" and stat.S_ISREG(info.st_mode):
            found = read_at(operation.base, folder)
            return (found[0].decode("ascii", "replace") if found else ""), None
        return "", None

    @staticmethod
    def _difference(operation: _Operation, content: str | None, target: str | None) -> Change | None:
        path = f"{operation.parent}/{operation.base}"
        before = content if target is None else f"-> {target}"
        if operation.kind == "write":
            if target is None and content == operation.data.decode("ascii", "replace"):
                return None
            return Change(operation.tag, path, before, operation.data.decode("ascii", "replace"))
        if operation.kind == "link":
            if target == operation.target:
                return None
            return Change(operation.tag, path, before, f"-> {operation.target}")
        if before is None or (operation.only_to is not None and target != operation.only_to):
            return None
        if operation.kind == "rmdir":
            return Change(operation.tag, path + "/", "", None)
        return Change(operation.tag, path, before, None)

    def _find_stale(
        self,
        folders: Folders,
        targets: t.Mapping[str, t.Collection[str]],
        leftovers: t.Mapping[str, t.Collection[tuple[str, str]]],
    ) -> None:
        now = time.time()
        for parent, found in leftovers.items():
            for entry, target in found:
                # We hold the lock of every target of ours, so nobody is writing it now.
                if target not in targets[parent]:
                    fd = folders.fd(parent)
                    try:
                        info = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if now - info.st_mtime < _STALE:
                        continue
                self._stale.append((parent, entry))

    # Writing.

    def commit(self) -> list[Change]:
        """Do it; everything is on disk when this returns.

        :returns: what was changed.
        :raises StoreError, OSError: it was not all done; every file is old or new, none is torn.
        """
        changes = self.plan()
        if not changes and not self._stale:
            return changes
        folders = Folders()
        try:
            self._write(folders)
        except BaseException as error:
            self._clean_up(folders)
            if isinstance(error, OSError):
                name = f" ({error.filename})" if isinstance(error.filename, str) else ""
                raise StoreError(f"writing to the PXE server's disk failed: {error.strerror}{name}") from error
            raise
        finally:
            folders.close()
        return changes

    def _clean_up(self, folders: Folders) -> None:
        for operation in self._operations:
            if operation.temporary:
                with contextlib.suppress(OSError):
                    os.unlink(operation.temporary, dir_fd=folders.fd(operation.parent))

    def _write(self, folders: Folders) -> None:
        dirty = _Dirty(folders)
        for parent, entry in self._stale:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry, dir_fd=folders.fd(parent))
        for path in self._new_folders:
            os.mkdir(path)
            dirty.add(os.path.dirname(path))
        for path in self._new_folders + self._wrong_folders:
            wanted = self._folders[path]
            fd = folders.fd(path)
            if wanted.gid is not None:
                os.fchown(fd, -1, wanted.gid)
            os.fchmod(fd, wanted.mode)
            dirty.add(path)
        writes = [operation for operation in self._operations if operation.kind == "write" and operation.needed]
        one_by_one = len(writes) <= _FSYNC_AT_MOST
        for operation in writes:
            folder = folders.fd(operation.parent)
            operation.temporary = temporary_name(operation.base)
            fd = create_file(operation.temporary, folder, operation.data, operation.mode, operation.gid)
            try:
                if one_by_one:
                    os.fsync(fd)
            finally:
                os.close(fd)
        if not one_by_one:
            dirty.sync_filesystems(operation.parent for operation in writes)
        phase = None
        for operation in self._operations:
            if operation.needed:
                if phase not in (None, operation.phase):
                    dirty.sync()
                phase = operation.phase
                self._execute(operation, folders)
                dirty.add(operation.parent)
        dirty.sync()

    @staticmethod
    def _execute(operation: _Operation, folders: Folders) -> None:
        folder = folders.fd(operation.parent)
        base = operation.base
        if operation.kind == "write":
            os.rename(operation.temporary, base, src_dir_fd=folder, dst_dir_fd=folder)
            operation.temporary = ""
        elif operation.kind == "link":
            try:
                # Where nothing is, making the link is one step already.
                os.symlink(operation.target, base, dir_fd=folder)
                return
            except FileExistsError:
                pass
            operation.temporary = temporary_name(base)
            make_symlink(operation.target, operation.temporary, folder)
            os.rename(operation.temporary, base, src_dir_fd=folder, dst_dir_fd=folder)
            operation.temporary = ""
        elif operation.kind == "remove":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(base, dir_fd=folder)
        else:
            folders.forget(f"{operation.parent}/{base}")
            try:
                os.rmdir(base, dir_fd=folder)
            except OSError as error:
                # Somebody put something of their own there: not ours to remove.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise


def _split(path: PathLike) -> tuple[str, str]:
    """Folder and name. (os.path.split does more, and is called for each of a host's thirty files.)"""
    parent, _slash, base = os.fspath(path).rpartition("/")
    return parent, base


_RIGHT: t.Final = "\0right"
"""Stands for contents that need not be carried around because they are as wanted."""


def _after(operation: _Operation) -> tuple[str | None, str | None]:
    if operation.kind == "write":
        return operation.data.decode("ascii", "replace"), None
    if operation.kind == "link":
        return None, operation.target
    return None, None


class _Dirty:
    """Folders whose entries are not on disk yet."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._paths: dict[str, None] = {}

    def add(self, path: str) -> None:
        self._paths[path] = None

    def sync(self) -> None:
        """Bring the entries of all of them to disk."""
        paths = list(self._paths)
        self._paths.clear()
        if len(paths) > _FSYNC_AT_MOST:
            self.sync_filesystems(paths)
            return
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # removed since, and its parent is in the list
                os.fsync(self._folders.fd(path))

    def sync_filesystems(self, paths: t.Iterable[str]) -> None:
        """Bring everything on the file systems of these folders to disk."""
        done: set[int] = set()
        seen: set[str] = set()
        for path in paths:
            if path in seen:
                continue
            seen.add(path)
            try:
                fd = self._folders.fd(path)
            except FileNotFoundError:
                continue
            device = os.fstat(fd).st_dev
            if device not in done:
                done.add(device)
                sync_filesystem(fd)
