# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: reservations for dnsmasq, one file a host.

A marker is left before a reservation is changed or removed, with the leases that it led to, and goes when dnsmasq has
read them all again and has been told to forget those leases.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import leases_of, needs_reload, reservation
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_back_end import NoReservations, Settled
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    StoreError,
    dump_json,
    read_json,
    remove,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host

__all__ = ("MARKER_SCHEMA", "Dnsmasq")

MARKER_SCHEMA = 1


class Dnsmasq(NoReservations):
    """A `BackEnd`."""

    def add_shared(self, batch: Batch) -> None:
        """The folder that dnsmasq watches."""
        batch.folder(self._context.layout.reservations_dir, mend=False)

    def plan(self, batch: Batch, host: Host) -> None:
        """The host's file."""
        line = reservation(host, self._context.config)
        if line is None:
            super().plan(batch, host)
        else:
            batch.write(self._context.layout.reservation(host.name), line, tag=host.name)

    def before(self, changes: t.Iterable[Change]) -> None:
        """Leave word that dnsmasq must be told of changes, before they are made: whoever is killed then."""
        context = self._context
        folder = f"{context.layout.reservations_dir}/"
        changed = [
            change for change in changes if change.path.startswith(folder) and needs_reload(change.before, change.after)
        ]
        if changed:
            gone = self._marked()
            for change in changed:
                gone |= leases_of(change.before) - leases_of(change.after)
            mark = Batch(context.leftovers)
            mark.write(context.layout.reload_marker, dump_json({"schema": MARKER_SCHEMA, "released": sorted(gone)}))
            mark.commit()

    def _marked(self) -> set[tuple[str, str]]:
        """Leases that dnsmasq has to forget."""
        try:
            value = read_json(self._context.layout.reload_marker, MARKER_SCHEMA)
        except StoreError:
            return set()
        pairs = value.get("released") if value is not None else None
        return {(str(pair[0]), str(pair[1])) for pair in pairs or () if isinstance(pair, list) and len(pair) == 2}

    def settle(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> Settled:
        """Tell dnsmasq to read its reservations again, if this or an earlier, killed call has to."""
        context = self._context
        marker = context.layout.reload_marker
        if context.check_mode or not os.path.lexists(marker):
            return Settled()
        command = context.config.dhcp.reload
        problem = context.reload(command) if command else None
        if problem is not None:
            # For all hosts: the marker may be an earlier call's, and then it is not known whose reservation is old.
            return Settled(f"The DHCP server could not be told to read its changed reservations ({problem})")
        context.release(sorted(self._marked()))
        remove(marker)
        return Settled()
