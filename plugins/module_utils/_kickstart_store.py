# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: putting rendered kickstarts on a PXE server's disk."""

from __future__ import annotations

import contextlib
import functools
import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change, Leftovers
from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import brief_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import mask_secrets
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner, owner_in
from ansible_collections.pxemanager.esxi.plugins.module_utils._rendered import Rendered
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    StoreError,
    host_locks,
    read_bytes,
    read_json,
)

__all__ = ["write_kickstarts"]

# Each lock is an open file, and 1,024 open files are a usual limit.
_AT_ONCE = 200

_NOBODY = Owner()


def write_kickstarts(
    rendered: Rendered,
    layout: Layout,
    gid: t.Optional[int],
    results: Results,
    check_mode: bool,
    want_diff: bool,
    owner: Owner = _NOBODY,
) -> None:
    """Makes each host's folder hold exactly its kickstarts, readable by root and the group ``gid`` alone.

    ``results`` gets an outcome for every host of ``rendered``. In check mode nothing is written, not even a lock.
    """
    for name, reasons in rendered.failures.items():
        results.fail(name, reasons)
    writer = _Writer(rendered, layout, gid, results, check_mode, want_diff, owner)
    names = sorted(name for name in rendered.texts if name not in rendered.failures)
    for start in range(0, len(names), _AT_ONCE):
        writer.write(names[start : start + _AT_ONCE])


class _Writer:
    def __init__(
        self,
        rendered: Rendered,
        layout: Layout,
        gid: t.Optional[int],
        results: Results,
        check_mode: bool,
        want_diff: bool,
        owner: Owner,
    ) -> None:
        self._rendered = rendered
        self._layout = layout
        self._gid = gid
        self._results = results
        self._check_mode = check_mode
        self._want_diff = want_diff
        self._owner = owner
        self._leftovers = Leftovers()
        self._kept: set[str] = set()

    def write(self, names: t.Sequence[str]) -> None:
        """Does these hosts in one go; where that fails, one by one, so that only those fail that have a reason to."""
        try:
            with contextlib.nullcontext() if self._check_mode else host_locks(self._layout, names):
                changes = self._commit(names)
        except (EsxiPxeError, OSError) as error:
            if len(names) > 1:
                for name in names:
                    self.write([name])
                return
            self._results.fail(names[0], f"{str(error).rstrip('.')}.")
            return
        self._report(names, changes)

    def _owner_of(self, name: str) -> str:
        try:
            return owner_in(read_json(self._layout.record(name)))
        except StoreError:
            return ""  # publishing mends a damaged record

    def _commit(self, names: t.Sequence[str]) -> list[Change]:
        layout, gid = self._layout, self._gid
        self._kept = {name for name in names if name not in self._rendered.upgrades and self._waits_for_upgrade(name)}
        batch = Batch(self._leftovers)
        batch.folder(layout.kickstarts_dir, 0o2750, gid, mend=False)
        for name in names:
            if self._owner.label:
                self._owner.check(name, self._owner_of(name))
            folder = layout.kickstart_dir(name)
            batch.folder(folder, 0o2750, gid, tag=name)
            wanted = set()
            for mac, text in self._rendered.texts[name].items():
                if name in self._kept and layout.kickstart(name, mac).exists():
                    wanted.add(layout.kickstart(name, mac).name)
                    continue
                path = layout.kickstart(name, mac)
                wanted.add(path.name)
                batch.write(path, text, 0o640, gid, tag=name)
            for old in _kickstarts_in(str(folder)):
                if old not in wanted:
                    batch.remove(folder / old, tag=name)
        return batch.plan() if self._check_mode else batch.commit()

    def _waits_for_upgrade(self, name: str) -> bool:
        """Whether the host is armed for an upgrade.

        A later run without the request renders the kickstart of an install. It must not get under an installer that
        is about to upgrade: the machine would be wiped.
        """
        data = read_bytes(self._layout.status(name))
        if data is None or (data.endswith(b"}\n") and b'"upgrade"' not in data):
            # Taking ten thousand of them apart would take longer than all the rest.
            return False
        try:
            status = Status.from_json(read_json(self._layout.status(name)))
        except EsxiPxeError:
            # esxi_pxe_host arms nothing then, and says why.
            return True
        return status.stage == "armed" and status.command == "upgrade"

    def _report(self, names: t.Sequence[str], changes: t.Sequence[Change]) -> None:
        changed = {change.tag for change in changes}
        for name in names:
            macs = list(self._rendered.texts[name])
            what = "1 kickstart" if len(macs) == 1 else f"{len(macs)} kickstarts"
            how = ("to be written" if self._check_mode else "written") if name in changed else "up to date"
            kept = " Armed for an upgrade: what is there stays until it has booted." if name in self._kept else ""
            self._results.ok(name, changed=name in changed, msg=f"{what} {how}.{kept}", macs=macs)
        by_host: dict[str, list[Change]] = {}
        for change in changes if self._want_diff else ():
            if change.path.endswith(".cfg"):
                by_host.setdefault(change.tag, []).append(change)
        kinds = [("", "kickstart", "kickstarts")]
        for name, of_host in by_host.items():
            brief = brief_of(((one.path, one.before, one.after) for one in of_host), kinds)
            self._results.diff_of_host(name, brief, functools.partial(_full, of_host))


def _full(changes: t.Iterable[Change]) -> list[tuple[str, str, str]]:
    return [(one.path, mask_secrets(one.before or ""), mask_secrets(one.after or "")) for one in changes]


def _kickstarts_in(folder: str) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(folder) if entry.endswith(".cfg") and not entry.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
