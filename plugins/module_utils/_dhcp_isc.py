# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: reservations for ISC dhcpd, one file that the site's dhcpd.conf includes.

The file is made from the records of all published hosts, so a call that was killed, or a server that had another DHCP
server before, is put right by the next. A new file counts only when dhcpd itself finds no fault in it. dhcpd reads its
files when it starts and at no other time: a marker stays until it was started again.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import (
    Reservation,
    dhcpd_blocks,
    dhcpd_file,
    reservation_of_record,
    reserved,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_back_end import NoReservations, Settled
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    atomic_write,
    dump_json,
    read_bytes,
    read_json,
    remove,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host

__all__ = ("Dhcpd",)


class Dhcpd(NoReservations):
    """A `BackEnd`."""

    def settle(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> Settled:
        """Write the file anew if it is not as it has to be, and have dhcpd start again."""
        context = self._context
        settings, marker = context.config.dhcp, context.layout.reload_marker
        wanted = dhcpd_file(self._reservations(hosts, removed))
        old = (read_bytes(settings.include) or b"").decode("ascii", "replace")
        settled = Settled(changes=_changes(settings.include, old, wanted))
        if context.check_mode:
            return settled
        if old != wanted:
            fault = self._fault(wanted)
            if fault is not None:
                settled.changes.clear()
                settled.problem = f"ISC dhcpd finds a fault in {settings.include} as it would be ({fault})"
                return settled
            mark = Batch(context.leftovers)
            mark.write(marker, dump_json({"schema": 1}))
            mark.commit()
            atomic_write(settings.include, wanted.encode("ascii"))
        if os.path.lexists(marker):
            problem = context.reload(settings.reload) if settings.reload else None
            if problem is not None:
                settled.problem = f"The DHCP server could not be told to read its changed reservations ({problem})"
                return settled
            remove(marker)
        return settled

    def _reservations(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> t.Iterator[Reservation]:
        """What follows from the records; in check mode they are not written yet."""
        for name in self._context.known():
            if name in hosts or name in removed:
                continue
            # A damaged record is reported where its host is published again.
            with contextlib.suppress(EsxiPxeError):
                record = read_json(self._context.layout.record(name))
                one = reservation_of_record(record) if record is not None else None
                if one is not None and one.name == name:
                    yield one
        for host in hosts.values():
            one = reserved(host)
            if one is not None:
                yield one

    def _fault(self, text: str) -> str | None:
        """What dhcpd says against a file; None: nothing."""
        settings = self._context.config.dhcp
        if not settings.check:
            return None
        folder, base = os.path.split(settings.include)
        # Beside the file, where dhcpd may read (AppArmor); a name that no "include" of it would take.
        draft = os.path.join(folder, f".{base}.draft")
        atomic_write(draft, text.encode("ascii"), sync=False)
        try:
            code, _out, err = self._context.run([*settings.check, draft], "", {})
        finally:
            remove(draft, sync=False)
        if code == 0:
            return None
        # It prints its name and licence first, and a summary last.
        lines = (
            [line for line in err.splitlines() if ".draft line" in line] or err.splitlines() or [f"exit code {code}"]
        )
        return lines[0].strip()


def _changes(path: str, old: str, new: str) -> list[Change]:
    before, after = dhcpd_blocks(old), dhcpd_blocks(new)
    names = sorted({*before, *after})
    return [
        Change(name, f"{path}: {name}", before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]
