# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection: the folders that a batch (`_batch`) works in, and what lies about in them."""

from __future__ import annotations

import collections
import errno
import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError, open_folder, target_of

__all__ = ("Folders", "Leftovers")

_OPEN_FOLDERS = 64
"""Folders kept open at once while a batch runs."""


class Folders:
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

    def of(self, path: str, fd: int) -> tuple[list[tuple[str, str]], t.Collection[str] | None]:
        """Names in a folder that were to become something else, and what; and all names, if it was listed just now."""
        known = self._known.get(path)
        if known is not None:
            return known, None
        entries = os.listdir(fd)
        known = []
        for entry in entries:
            if entry[0] == ".":
                target = target_of(entry)
                if target is not None:
                    known.append((entry, target))
        if len(entries) >= self._WORTH_KEEPING:
            self._known[path] = known
            return known, None
        return known, entries
