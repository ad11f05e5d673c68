# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: hosts taken off the installer, many at once, each as safely as alone.

For each host: the link is on disk before the status gets its name, and both are on disk when :meth:`GroupCommit.run`
returns. Only the waiting is shared: one syncfs(2) brings the links and the new files of several hosts to disk, and the
folder of all status files is synced once for all of them.

The caller holds the locks of the hosts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LOCAL
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    create_file,
    make_symlink,
    open_folder,
    sync_filesystem,
    temporary_name,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import HostPaths

__all__ = ("GroupCommit", "LocalBoot")

_ONE_BY_ONE: t.Final = 4
"""So many hosts are synced file by file; for more, one syncfs(2) takes less time."""

_SHARE: t.Final = 0.01
"""A syncfs(2) that takes longer than file by file had other things to write, such as an image that is being imported.
It is tried again after a while, so that no more than this share of the time is spent on trying."""

_THREADS: t.Final = 8


@dataclasses.dataclass
class LocalBoot:
    """One host that is to boot from its disk, and what its status file is to say.

    :ivar status: contents of the status file; None: it is right already, and only has to be safe.
    :ivar error: why it was not done; None: it is on disk. The link may have been changed, the status has not.
    """

    paths: HostPaths
    status: bytes | None
    error: OSError | None = None
    tree: int = -1
    file: int = -1
    temporary: str = ""


class GroupCommit:
    """Takes hosts off the installer. Safe for use by several threads."""

    def __init__(self, status_dir: str, gid: int | None) -> None:
        """Look nowhere yet.

        :arg gid: numeric group of the status files; None: as it comes.
        """
        self._status_dir = status_dir
        self._gid = gid
        self._not_together_before = 0.0
        # Seconds for one of several hosts that are synced file by file, as far as is known.
        self._each = 0.001
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "sync")

    def run(self, hosts: t.Sequence[LocalBoot]) -> None:
        """Do it for all hosts. What went wrong for one is in its `error` and does not touch the others.

        :raises OSError: there is no folder of status files; nothing was done.
        """
        folder = open_folder(self._status_dir)
        try:
            for host in hosts:
                _attempt(host, _flip)
            for host in hosts:
                _attempt(host, _write, folder, self._gid)
            self._sync(hosts, folder)
            for host in hosts:
                _attempt(host, _rename, folder)
            _attempt_for_all(hosts, os.fsync, folder)
        finally:
            for host in hosts:
                _close(host, folder)
            os.close(folder)

    def _sync(self, hosts: t.Sequence[LocalBoot], folder: int) -> None:
        begun = time.monotonic()
        if len(hosts) <= _ONE_BY_ONE:
            for host in hosts:
                _attempt(host, _sync_one)
        elif begun < self._not_together_before:
            # Their waits overlap, and what one has brought to disk the next need not.
            list(self._pool.map(lambda host: _attempt(host, _sync_one), hosts))
            self._each += 0.3 * ((time.monotonic() - begun) / len(hosts) - self._each)
        else:
            # The boot tree may lie on a file system of its own. All of these were opened before anything was written,
            # so that a write that fails on the way is reported.
            trees = {os.fstat(host.tree).st_dev: host.tree for host in hosts if host.error is None}
            for descriptor in {**trees, os.fstat(folder).st_dev: folder}.values():
                _attempt_for_all(hosts, sync_filesystem, descriptor)
            took = time.monotonic() - begun
            if took > self._each * len(hosts):
                self._not_together_before = begun + took + took / _SHARE


def _attempt_for_all(hosts: t.Sequence[LocalBoot], step: t.Callable[[int], None], descriptor: int) -> None:
    try:
        step(descriptor)
    except OSError as error:
        for host in hosts:
            host.error = host.error or error


def _attempt(host: LocalBoot, step: t.Callable[..., None], *arguments: object) -> None:
    if host.error is None:
        try:
            step(host, *arguments)
        except OSError as error:
            host.error = error


def _flip(host: LocalBoot) -> None:
    link = os.path.basename(host.paths.mode_link)
    host.tree = open_folder(host.paths.tree)
    try:
        if os.readlink(link, dir_fd=host.tree) == LOCAL:
            return
    except OSError:
        pass
    temporary = temporary_name(link)
    try:
        make_symlink(LOCAL, temporary, host.tree)
        os.rename(temporary, link, src_dir_fd=host.tree, dst_dir_fd=host.tree)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=host.tree)
        raise


def _write(host: LocalBoot, folder: int, gid: int | None) -> None:
    if host.status is not None:
        host.temporary = temporary_name(os.path.basename(host.paths.status))
        host.file = create_file(host.temporary, folder, host.status, 0o644, gid)


def _sync_one(host: LocalBoot) -> None:
    # Also the link that was right before: whoever made it may have been killed before it was on disk.
    os.fsync(host.tree)
    if host.file >= 0:
        os.fsync(host.file)


def _rename(host: LocalBoot, folder: int) -> None:
    if host.temporary:
        os.rename(host.temporary, os.path.basename(host.paths.status), src_dir_fd=folder, dst_dir_fd=folder)
        host.temporary = ""


def _close(host: LocalBoot, folder: int) -> None:
    for descriptor in (host.tree, host.file):
        if descriptor >= 0:
            os.close(descriptor)
    if host.temporary:
        with contextlib.suppress(OSError):
            os.unlink(host.temporary, dir_fd=folder)
