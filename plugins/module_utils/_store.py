# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: everything that is written to a PXE server's disk.

Nothing is ever seen half-written: a file or link is made under a temporary name in its own folder, synced, and renamed.
A process that is killed between any two operations leaves old or new contents, and at worst a temporary file, which the
next write of the same target clears away.

Temporary names begin with a dot and end in `.tmp`: dnsmasq does not read such names in its `dhcp-hostsdir`, and who
lists a folder of records skips names that begin with a dot.

Groups: the pbconnect service replaces links and files in folders that its group may write (setgid, 2775). Root sets the
group given; a process that is neither root nor in that group (a test, a trial) writes with its own group instead, and
nothing is refused. Root does not get that leniency: for root a missing group is an error, because the service could
not work with the result.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import grp
import itertools
import json
import os
import stat
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import MODES, Layout, check_mode

__all__ = (
    "Batch",
    "Change",
    "Leftovers",
    "LockTimeout",
    "StoreError",
    "atomic_write",
    "create_file",
    "dump_json",
    "flip",
    "host_lock",
    "host_locks",
    "lock_host",
    "make_symlink",
    "open_folder",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_mode",
    "remove",
    "replace_link",
    "resolve_group",
    "sync_filesystem",
    "temporary_name",
    "tree_lock",
    "write_json",
)

PathLike = t.Union[str, "os.PathLike[str]"]

LOCK_TIMEOUT = 300.0
"""Seconds to wait for a lock. Ten thousand hosts are published in less."""

_STALE = 86400.0
"""Seconds after which a temporary file belongs to nobody, whatever its target was."""

_OPEN_FOLDERS = 64
"""Folders kept open at once while a batch runs."""

_FSYNC_AT_MOST = 4
"""Up to so many files or folders are synced one by one; above, one syncfs of the whole file system is cheaper."""


class StoreError(EsxiPxeError):
    """Something on disk is not as it has to be, or could not be written; the text names the path."""


class LockTimeout(StoreError):
    """Somebody else held a lock for too long."""


# Names of temporary files.

_counter = itertools.count()


def temporary_name(base: str) -> str:
    """The name under which a file or link that is to be `base` is made in its folder."""
    # The process and a counter make it unique on this machine; a restart may reuse both, which _fresh() takes care of.
    return f".{base}.{os.getpid():x}-{next(_counter):x}.tmp"


def _target_of(entry: str) -> str | None:
    """The name that a temporary file was to become; None: not a temporary file of ours."""
    if not entry.startswith(".") or not entry.endswith(".tmp"):
        return None
    return entry[1 : -len(".tmp")].rpartition(".")[0] or None


# Syncing.


def _load_syncfs() -> t.Callable[[int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int]
    function.restype = ctypes.c_int
    return t.cast("t.Callable[[int], int]", function)


_syncfs = _load_syncfs()


def sync_filesystem(fd: int) -> None:
    """Bring everything on the file system of an open file to disk; unlike sync(2) it reports write errors."""
    if _syncfs is None:
        os.sync()
    elif _syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# Single files and links.


def resolve_group(name: str) -> int | None:
    """Numeric id of the group that files are to have; None: leave the group as it comes (see above).

    :raises StoreError: the group does not exist and this is root.
    """
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        if os.geteuid() == 0:
            raise StoreError(
                f"the group {name} does not exist: run the role pxe_server on this machine first"
            ) from None
        return None
    if os.geteuid() == 0 or gid == os.getegid() or gid in os.getgroups():
        return gid
    return None


def create_file(name: str, folder: int, data: bytes, mode: int, gid: int | None) -> int:
    """Make a file below an open folder and return its descriptor, still open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, mode, dir_fd=folder)
    except FileExistsError:
        # Left by a killed process that had the same id.
        os.unlink(name, dir_fd=folder)
        fd = os.open(name, flags, mode, dir_fd=folder)
    try:
        # Most files come as they are to be, and each change is one more entry in the file system's journal.
        info = os.fstat(fd)
        if gid is not None and info.st_gid != gid:
            os.fchown(fd, -1, gid)
        if stat.S_IMODE(info.st_mode) != mode:
            os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_symlink(target: str, name: str, folder: int) -> None:
    """Make a temporary link below an open folder, in the place of one that a killed process left."""
    try:
        os.symlink(target, name, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        os.symlink(target, name, dir_fd=folder)


def open_folder(path: PathLike) -> int:
    """Open a folder. A symbolic link in its place is refused: whoever may write beside it could lead us elsewhere."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _read_at(name: str, folder: int) -> tuple[bytes, os.stat_result] | None:
    """Contents of a regular file; None: there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return None
        parts = []
        size = info.st_size + 1
        while True:
            part = os.read(fd, size)
            if not part:
                break
            parts.append(part)
        return b"".join(parts), info
    finally:
        os.close(fd)


def _readlink_at(name: str, folder: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise


def read_bytes(path: PathLike) -> bytes | None:
    """Contents of a file; None: it does not exist.

    :raises StoreError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{os.fspath(path)} cannot be read: {error.strerror}") from error


def read_json(path: PathLike, schema: int = 1) -> dict[str, t.Any] | None:
    """A stored JSON object; None: the file does not exist.

    :arg schema: version that the object must carry as `schema`.
    :raises StoreError: it cannot be read, is not a JSON object, or is of another schema.
    """
    data = read_bytes(path)
    return None if data is None else parse_json(path, data, schema)


def parse_json(path: PathLike, data: bytes, schema: int = 1) -> dict[str, t.Any]:
    """The JSON object that was read from a file.

    :raises StoreError: as `read_json`.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{os.fspath(path)} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{os.fspath(path)} is not a JSON object")
    if value.get("schema") != schema:
        raise StoreError(
            f"{os.fspath(path)} has schema {value.get('schema')!r}, this version of the collection reads {schema}"
        )
    return value


def dump_json(value: t.Mapping[str, t.Any]) -> bytes:
    """The stored form of a JSON object: the same object always gives the same bytes, one top-level key a line.

    (`indent=` would be as readable and takes ten times as long: it switches the C encoder off.)
    """
    keys = sorted(value, key=lambda key: (key != "schema", key))
    lines = [f"{_json_text(key)}: {_json(value[key])}" for key in keys]
    return ("{" + ",\n ".join(lines) + "}\n").encode("ascii")


_json_text = json.encoder.encode_basestring_ascii
_json_encode = json.JSONEncoder(sort_keys=True).encode


def _json(value: object) -> str:
    # Most values are texts or null, and an encoder costs more than they do.
    if value is None:
        return "null"
    return _json_text(value) if isinstance(value, str) else _json_encode(value)


def atomic_write(path: PathLike, data: bytes, mode: int = 0o644, gid: int | None = None, sync: bool = True) -> None:
    """Replace a file in one step; with `sync` it is on disk when this returns.

    :arg gid: numeric group of the file, from `resolve_group`; None: as it comes.
    :raises OSError: it could not be written; the old contents are still there then.
    """
    parent, base = os.path.split(os.fspath(path))
    temporary = temporary_name(base)
    folder = open_folder(parent or ".")
    try:
        fd = create_file(temporary, folder, data, mode, gid)
        try:
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, base, src_dir_fd=folder, dst_dir_fd=folder)
        if sync:
            os.fsync(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(folder)


def write_json(
    path: PathLike, value: t.Mapping[str, t.Any], mode: int = 0o644, gid: int | None = None, sync: bool = True
) -> None:
    """Replace a JSON object in one step, as `atomic_write`."""
    atomic_write(path, dump_json(value), mode, gid, sync)


def replace_link(path: PathLike, target: str, sync: bool = True) -> None:
    """Make a symbolic link, or lead an existing one elsewhere, in one step.

    :raises OSError: it could not be done; the old link is still there then.
    """
    parent, base = os.path.split(os.fspath(path))
    temporary = temporary_name(base)
    folder = open_folder(parent or ".")
    try:
        make_symlink(target, temporary, folder)
        os.rename(temporary, base, src_dir_fd=folder, dst_dir_fd=folder)
        if sync:
            os.fsync(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(folder)


def remove(path: PathLike, sync: bool = True) -> bool:
    """Remove a file or link; False: there was none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    if sync:
        folder = open_folder(os.path.dirname(os.fspath(path)) or ".")
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return True


def read_mode(layout: Layout, name: str) -> str | None:
    """Boot mode of a host as its link says; None: the host is not in the boot tree.

    :raises StoreError: the link leads somewhere that is no mode.
    """
    path = layout.mode_link(name)
    try:
        target = os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} is not a symbolic link: {error.strerror}") from error
    if target not in MODES:
        raise StoreError(f"{path} leads to {target!r}, which is no boot mode")
    return target


def flip(layout: Layout, name: str, mode: str, sync: bool = True) -> bool:
    """Set the boot mode of a host: one atomic rename. The caller holds the host's lock.

    With `sync` the mode is on disk when this returns, also when the link was right before: whoever wrote it may have
    been killed before it synced.

    :returns: whether the link was changed.
    :raises OSError: the host is not in the boot tree, or the link could not be replaced.
    """
    path = layout.mode_link(name)
    try:
        current = os.readlink(path)
    except OSError:
        current = None
    changed = current != check_mode(mode)
    if changed:
        replace_link(path, mode, sync=sync)
    elif sync:
        folder = open_folder(path.parent)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return changed


# Locks.


def _holder(fd: int) -> str:
    """Who holds the lock of an open file, for a message; empty when the kernel does not tell."""
    try:
        info = os.fstat(fd)
        wanted = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted:
                    return f" (process {words[4]})"
    except (OSError, ValueError):
        pass
    return ""


def _lock(path: str, what: str, deadline: float, timeout: float) -> int:
    """Take a lock and return the descriptor that holds it."""
    pause = 0.005
    while True:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise LockTimeout(
                            f"another run{_holder(fd)} has held the lock of {what} for more than {timeout:g} s: "
                            f"wait for it to end and try again ({path})"
                        ) from None
                    time.sleep(pause)
                    pause = min(pause * 2, 0.1)
            # The file may have been removed with its host while we waited; then our lock is on nothing.
            mine = os.fstat(fd)
            try:
                current = os.stat(path)
            except FileNotFoundError:
                current = None
            if current is not None and (current.st_dev, current.st_ino) == (mine.st_dev, mine.st_ino):
                if mine.st_mode & 0o777 != 0o664 and mine.st_uid == os.geteuid():
                    os.fchmod(fd, 0o664)  # the umask took the group's bit: the service could not open it
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _make_locks_dir(layout: Layout) -> None:
    path = layout.locks_dir
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise StoreError(f"{layout.state_root} does not exist: run the role pxe_server on this machine first") from None
    # The group comes from state_root when that is setgid; the role or a Batch sets it otherwise.
    os.chmod(path, 0o2775)


@contextlib.contextmanager
def host_locks(layout: Layout, names: t.Iterable[str], timeout: float = LOCK_TIMEOUT) -> t.Iterator[None]:
    """Hold the locks of some hosts. Who also needs `tree_lock` takes that one first.

    One open file each: at most a few hundred hosts at once.

    :arg timeout: seconds to wait in all.
    :raises LockTimeout: somebody else held one of them for longer.
    """
    _make_locks_dir(layout)
    deadline = time.monotonic() + timeout
    held: list[int] = []
    try:
        for name in sorted(set(names)):  # always in the same order, so that two of us cannot wait for each other
            held.append(_lock(str(layout.lock(name)), f"host {name}", deadline, timeout))
        yield
    finally:
        for fd in held:
            os.close(fd)


def lock_host(layout: Layout, name: str, path: str, timeout: float) -> int:
    """Take the lock of one host and return the descriptor that holds it until it is closed.

    :arg path: the lock's, as `layout` has it.
    :arg timeout: seconds to wait; 0: try once.
    :raises LockTimeout: somebody else held it for longer.
    """
    deadline = time.monotonic() + timeout
    try:
        return _lock(path, f"host {name}", deadline, timeout)
    except FileNotFoundError:
        _make_locks_dir(layout)
        return _lock(path, f"host {name}", deadline, timeout)


def host_lock(layout: Layout, name: str, timeout: float = LOCK_TIMEOUT) -> t.ContextManager[None]:
    """Hold the lock of one host; as `host_locks`."""
    return host_locks(layout, [name], timeout)


@contextlib.contextmanager
def tree_lock(layout: Layout, timeout: float = LOCK_TIMEOUT) -> t.Iterator[None]:
    """Hold the lock of what belongs to no single host: loaders, defaults, who owns which MAC and address.

    :raises LockTimeout: somebody else held it for longer than `timeout` seconds.
    """
    _make_locks_dir(layout)
    fd = _lock(str(layout.tree_lock), "the boot tree", time.monotonic() + timeout, timeout)
    try:
        yield
    finally:
        os.close(fd)


# Many files at once.


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


class _Folders:
    """Open folders by path: the few that are used most recently."""

    def __init__(self) -> None:
        self._fds: collections.OrderedDict[str, int] = collections.OrderedDict()

    def fd(self, path: str) -> int:
        """Descriptor of a folder.

        :raises FileNotFoundError: there is no such folder.
        """
        fd = self._fds.get(path)
        if fd is None:
            try:
                fd = open_folder(path)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise StoreError(f"{path} must be a folder, not a link or file: remove it and run again") from None
                raise
            self._fds[path] = fd
            if len(self._fds) > _OPEN_FOLDERS:
                os.close(self._fds.popitem(last=False)[1])
        else:
            self._fds.move_to_end(path)
        return fd

    def forget(self, path: str) -> None:
        fd = self._fds.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])


class Leftovers:
    """Temporary files that were there when a folder was first looked at."""

    # A folder that all hosts share would else be listed again for every few hundred of them.
    _WORTH_KEEPING = 64

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, str]]] = {}

    def of(self, path: str, fd: int) -> list[tuple[str, str]]:
        """Names in a folder that were to become something else, and what."""
        known = self._known.get(path)
        if known is None:
            entries = os.listdir(fd)
            known = []
            for entry in entries:
                if entry[0] == ".":
                    target = _target_of(entry)
                    if target is not None:
                        known.append((entry, target))
            if len(entries) >= self._WORTH_KEEPING:
                self._known[path] = known
        return known


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
        parent, base = os.path.split(os.fspath(path))
        raw = data.encode("ascii") if isinstance(data, str) else data
        self._operations.append(_Operation("write", self.phase, tag, parent, base, data=raw, mode=mode, gid=gid))

    def link(self, path: PathLike, target: str, tag: str = "") -> None:
        """Want a symbolic link to `target`, a path relative to the link's folder."""
        parent, base = os.path.split(os.fspath(path))
        self._operations.append(_Operation("link", self.phase, tag, parent, base, target=target))

    def remove(self, path: PathLike, tag: str = "", only_to: str | None = None) -> None:
        """Want a file or link gone.

        :arg only_to: leave it alone unless it is a link to this target: it may be another host's by now.
        """
        parent, base = os.path.split(os.fspath(path))
        self._operations.append(_Operation("remove", self.phase, tag, parent, base, only_to=only_to))

    def remove_folder(self, path: PathLike, tag: str = "") -> None:
        """Want a folder gone if it is empty by then and this batch does not want it to be there."""
        parent, base = os.path.split(os.fspath(path))
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
            folders = _Folders()
            try:
                self._changes = self._compare(folders)
            finally:
                folders.close()
        return self._changes

    def _compare(self, folders: _Folders) -> list[Change]:
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
        # What earlier operations of this batch will have made of a path; the disk does not know yet.
        planned: dict[tuple[str, str], tuple[str | None, str | None]] = {}
        self._operations.sort(key=lambda operation: operation.phase)  # stable: the order within a phase stays
        for operation in self._operations:
            operation.needed = False
            parent, base = operation.parent, operation.base
            if operation.kind == "rmdir" and f"{parent}/{base}" in self._folders:
                continue
            if parent in new:
                folder = None
            else:
                try:
                    folder = folders.fd(parent)
                except FileNotFoundError:
                    folder = None
            if folder is not None:
                targets.setdefault(parent, set()).add(base)
            key = (parent, base)
            content: str | None
            if key in planned:
                content, target = planned[key]
            else:
                content, target = self._look(operation, folder)
            change = self._difference(operation, content, target, folder)
            if change is not None:
                operation.needed = True
                changes.append(change)
                planned[key] = _after(operation)
        self._find_stale(folders, targets)
        return changes

    @staticmethod
    def _look(operation: _Operation, folder: int | None) -> tuple[str | None, str | None]:
        """What is at the place of an operation: contents and permissions as text, or the target of a link."""
        if folder is None:
            return None, None
        if operation.kind == "write":
            found = _read_at(operation.base, folder)
            if found is None:
                target = _readlink_at(operation.base, folder)
                return None, target
            data, info = found
            if data != operation.data:
                return data.decode("ascii", "replace"), None
            if stat.S_IMODE(info.st_mode) != operation.mode or operation.gid not in (None, info.st_gid):
                return f"mode {stat.S_IMODE(info.st_mode):04o} gid {info.st_gid}", None
            return _RIGHT, None
        target = _readlink_at(operation.base, folder)
        if target is not None or operation.kind == "link":
            return None, target
        try:
            info = os.stat(operation.base, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None, None
        if operation.kind == "remove" and stat.S_ISREG(info.st_mode):
            found = _read_at(operation.base, folder)
            return (found[0].decode("ascii", "replace") if found else ""), None
        return "", None

    @staticmethod
    def _difference(
        operation: _Operation, content: str | None, target: str | None, folder: int | None
    ) -> Change | None:
        path = f"{operation.parent}/{operation.base}"
        before = content if target is None else f"-> {target}"
        if operation.kind == "write":
            if content is _RIGHT or (target is None and content == operation.data.decode("ascii", "replace")):
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

    def _find_stale(self, folders: _Folders, targets: t.Mapping[str, t.Collection[str]]) -> None:
        now = time.time()
        for parent, bases in targets.items():
            fd = folders.fd(parent)
            for entry, target in self._leftovers.of(parent, fd):
                # We hold the lock of every target of ours, so nobody is writing it now.
                if target not in bases:
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
        folders = _Folders()
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

    def _clean_up(self, folders: _Folders) -> None:
        for operation in self._operations:
            if operation.temporary:
                with contextlib.suppress(OSError):
                    os.unlink(operation.temporary, dir_fd=folders.fd(operation.parent))

    def _write(self, folders: _Folders) -> None:
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
    def _execute(operation: _Operation, folders: _Folders) -> None:
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

    def __init__(self, folders: _Folders) -> None:
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
