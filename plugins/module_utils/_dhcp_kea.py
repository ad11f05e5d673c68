# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: reservations for Kea, in the `hosts` table of a PostgreSQL database.

Kea looks there at each request, so that a change counts at once and nothing has to be told or read again.

The program psql does it, and no Python library: it is on every PXE server with Kea already, because kea-admin needs it
to make the tables, and it does not depend on which Python Ansible has found there.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Change
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import Reservation, reserved
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_back_end import NoReservations, Settled
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea_sql import (
    Answer,
    Conflict,
    Row,
    parse,
    script,
    subnet_id,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host

__all__ = ("PSQL", "Kea")

PSQL = (
    "psql",
    "--no-psqlrc",
    "--no-password",
    "--quiet",
    "--no-align",
    "--tuples-only",
    "--field-separator=\t",
    "--set=ON_ERROR_STOP=1",
    "--file=-",
)
"""The command that reads a script and prints what `parse` reads."""


class Kea(NoReservations):
    """A `BackEnd`."""

    def refuse(self, hosts: t.Mapping[str, Host]) -> dict[str, str]:
        """Hosts whose addresses are in somebody else's reservations; all of them if the database cannot be asked."""
        try:
            answer = self._ask(hosts, (), write=False)
        except EsxiPxeError as error:
            return {name: f"{self._trouble(error)}, so nothing was done for {name}: {self._help()}." for name in hosts}
        refused = {conflict.host: _refusal(conflict) for conflict in answer.conflicts}
        subnets = self._context.config.dhcp.subnets
        for host in hosts.values():
            address = host.network.boot_address
            if address is not None and subnet_id(address, subnets) is None:
                refused[host.name] = (
                    f"The address {address} of {host.name} is in no network of this PXE server "
                    f"({', '.join(subnets) or 'it has none'}), so Kea would never hand it out: correct it, or add its "
                    "network to pxe_server_relayed_subnets and run the role pxe_server."
                )
        return refused

    def settle(self, hosts: t.Mapping[str, Host], removed: t.Collection[str]) -> Settled:
        """Bring the rows of these hosts in line with what they are now, in one transaction."""
        try:
            answer = self._ask(hosts, removed, write=not self._context.check_mode)
        except EsxiPxeError as error:
            return Settled(self._trouble(error))
        changes = [Change(row.host, _path(row), _text(row), None) for row in answer.old]
        changes += [Change(row.host, _path(row), None, _text(row)) for row in answer.new]
        return Settled(None, {conflict.host: _refusal(conflict) for conflict in answer.conflicts}, changes)

    def _ask(self, hosts: t.Mapping[str, Host], removed: t.Collection[str], write: bool) -> Answer:
        context = self._context
        database = context.config.dhcp.database
        wanted: list[tuple[Reservation, int]] = []
        for host in hosts.values():
            one = reserved(host)
            number = subnet_id(one.address, context.config.dhcp.subnets) if one is not None else None
            if one is not None and number is not None:
                wanted.append((one, number))
        text = script(context.config.address, wanted, [*hosts, *removed], [*context.known(), *hosts], write)
        environment = {
            "PGHOST": database.host,
            "PGPORT": str(database.port),
            "PGDATABASE": database.name,
            "PGUSER": database.user,
            # libpq reads the password there, and refuses a file that others may read as well.
            "PGPASSFILE": database.password_file,
            "PGCONNECT_TIMEOUT": "10",
            "PGAPPNAME": "pxemanager.esxi",
            "PGCLIENTENCODING": "UTF8",
            "LC_ALL": "C.UTF-8",
        }
        try:
            code, out, err = context.run(PSQL, text, environment)
        except OSError as error:
            raise EsxiPxeError(f"psql: {error.strerror}") from error
        if code != 0:
            lines = [line for line in err.splitlines() if "error:" in line.lower()] or err.splitlines()
            raise EsxiPxeError(lines[0].strip() if lines else f"psql ended with exit code {code}")
        return parse(out, context.config.address)

    def _trouble(self, error: EsxiPxeError) -> str:
        return f"The reservations of Kea could not be brought up to date ({error})"

    def _help(self) -> str:
        database = self._context.config.dhcp.database
        return (
            f"see that PostgreSQL runs at {database.host}:{database.port} and lets {database.user} into the database "
            f"{database.name}, then run this again"
        )


def _refusal(conflict: Conflict) -> str:
    what = f"MAC address {conflict.mac}" if conflict.mac else f"IP address {conflict.address}"
    whose = conflict.owner or "somebody else"
    return (
        f"The {what} of {conflict.host} is in a reservation of {whose} in Kea's database, which this PXE server has "
        "not made and leaves alone: correct one of the two, or remove that reservation."
    )


def _path(row: Row) -> str:
    return f"reservation in Kea's database: {row.mac} {row.address} {row.hostname}"


def _text(row: Row) -> str:
    return f"{row.mac} {row.address} {row.hostname}\n"
