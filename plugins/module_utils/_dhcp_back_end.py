# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: the one way in which publishing speaks to whatever DHCP server there is.

A back end is told of hosts at four moments, in this order:

1. `refuse`, before anything is written: which hosts it could not take;
2. `plan` and `plan_removal`: what of a host is a file goes into the host's own batch;
3. `before`, just before such a batch is written: the place for leaving word of what is about to change;
4. `settle`, when the records are on disk: make it all count. Until this has succeeded no host is armed.

Whoever is killed anywhere in between is made up for by the next call: what is reserved follows from the records.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change, Leftovers

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_release import Lease
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = ("BackEnd", "Context", "NoReservations", "Release", "Reload", "Run", "Settled", "run_nothing")

Reload = t.Callable[[t.Sequence[str]], t.Optional[str]]
"""Runs a command (argv); returns None, or one sentence about why it failed."""

Release = t.Callable[[t.Sequence["Lease"]], None]
"""Makes the DHCP server forget leases."""

Run = t.Callable[[t.Sequence[str], str, t.Mapping[str, str]], "tuple[int, str, str]"]
"""Runs a command (argv) with standard input and further environment variables; exit code, output, errors."""


def run_nothing(argv: t.Sequence[str], _data: str, _environment: t.Mapping[str, str]) -> tuple[int, str, str]:
    """A `Run` for who has no DHCP server that is spoken to by commands."""
    return 127, "", f"nobody here runs {argv[0]}"


@dataclasses.dataclass(frozen=True)
class Context:
    """What a back end needs of the call that it works for.

    :ivar known: names of the hosts that are published on this server, by the records as they are on disk.
    """

    config: ServerConfig
    layout: Layout
    leftovers: Leftovers
    check_mode: bool
    reload: Reload
    release: Release
    run: Run
    known: t.Callable[[], t.Sequence[str]]


@dataclasses.dataclass
class Settled:
    """What came of `settle`.

    :ivar problem: why nothing of it counts yet, for every host of the call; None: it does.
    :ivar refused: what became impossible since `refuse`, by host.
    :ivar changes: differences that are in no batch; the tag is the host's name.
    """

    problem: str | None = None
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    changes: list[Change] = dataclasses.field(default_factory=list)


class BackEnd(t.Protocol):
    """Where a DHCP server has its reservations from. The caller of every method holds the tree's lock."""

    def add_shared(self, batch: Batch) -> None:
        """Add what belongs to no single host."""

    def refuse(self, hosts: t.Mapping[str, Host]) -> dict[str, str]:
        """Hosts that cannot be published, and why in one sentence. Writes nothing."""

    def plan(self, batch: Batch, host: Host) -> None:
        """Add a published host's part."""

    def plan_removal(self, batch: Batch, name: str) -> None:
        """Add the end of a host's part."""

    def before(self, changes: t.Iterable[Change]) -> None:
        """Changes are about to be written."""

    def settle(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> Settled:
        """Make it count. In check mode: find out what would be changed, write nothing.

        :arg hosts: those that are published as they are here.
        """


class NoReservations:
    """Somebody else's DHCP server. What a former back end left behind goes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def add_shared(self, batch: Batch) -> None:
        """Nothing."""

    def refuse(self, hosts: t.Mapping[str, Host]) -> dict[str, str]:
        """Nobody."""
        return {}

    def plan(self, batch: Batch, host: Host) -> None:
        """No file for dnsmasq."""
        batch.remove(self._context.layout.reservation(host.name), host.name)

    def plan_removal(self, batch: Batch, name: str) -> None:
        """No file for dnsmasq."""
        batch.remove(self._context.layout.reservation(name), name)

    def before(self, changes: t.Iterable[Change]) -> None:
        """Nothing."""

    def settle(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> Settled:
        """Nothing."""
        return Settled()
