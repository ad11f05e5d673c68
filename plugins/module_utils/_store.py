# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: files, links and locks on a PXE server's disk (many at once: `_batch`).

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

import contextlib
import ctypes
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
from ansible_collections.pxemanager.esxi.plugins.module_utils._lock_holder import holder_of

__all__ = (
    "LockTimeout",
    "PathLike",
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
    "read_at",
    "read_bytes",
    "read_json",
    "read_mode",
    "readlink_at",
    "remove",
    "replace_link",
    "resolve_group",
    "sync_filesystem",
    "target_of",
    "temporary_name",
    "tree_lock",
    "write_json",
)

PathLike = t.Union[str, "os.PathLike[str]"]

LOCK_TIMEOUT = 300.0
"""Seconds to wait for a lock. Ten thousand hosts are published in less."""


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


def target_of(entry: str) -> str | None:
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


def read_at(name: str, folder: int) -> tuple[bytes, os.stat_result] | None:
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
            if len(part) < size:  # a regular file has no more to give then
                break
        return b"".join(parts), info
    finally:
        os.close(fd)


def readlink_at(name: str, folder: int) -> str | None:
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
    path = layout.paths(name).mode_link
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
                        waited = f" for more than {timeout:g} s" if timeout else " all the while"
                        raise LockTimeout(
                            f"another run{holder_of(fd)} has held the lock of {what}{waited}: "
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
            held.append(_lock(layout.paths(name).lock, f"host {name}", deadline, timeout))
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
