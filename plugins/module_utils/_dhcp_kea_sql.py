# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: Kea's reservations in PostgreSQL, as one script for psql.

Pure. The script is one transaction for all hosts of a call: it compares, changes only what differs, and prints each
difference. Data go in by COPY and are never part of a statement, so nothing that a definition says can be read as SQL.

- A row is ours when its user_context begins with our mark, which names this PXE server; several may share a database.
  Other rows are never changed. One that has a MAC or IP address of a host of ours is a conflict, and that host is left
  as it was.
- A row belongs to the network in which its address lies: Kea would hand out a global one also where that address
  cannot work. A network's id is its own address as a number, so that all servers of a database agree about it.
- Our rows follow from the records: rows of a host that this server does not know any more go as well. They are there
  when a host was retired while another DHCP server was in use.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import Reservation
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import check_name

__all__ = ("Answer", "Conflict", "Row", "parse", "script", "subnet_id")

_LOCK = 0x657378695F707865
"""Whoever changes reservations holds this lock of the database: the letters `esxi_pxe`."""

_LOCK_SECONDS = 120

# The mark, then the host's name, then the end: JSON, because Kea reads it, and always in these words, to be compared.
_MARK = '{{"pxemanager.esxi": {{"server": "{server}", "host": "'
_END = '"}}'

_TABLES = """\
CREATE TEMPORARY TABLE esxi_wanted (host text, mac bytea, address bigint, hostname text, subnet bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE esxi_named (host text PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE esxi_known (host text PRIMARY KEY) ON COMMIT DROP;
"""

# %(mark)s is made of this server's address alone, which has been checked to be one.
_COMPARE = """\
ANALYZE esxi_wanted;
CREATE TEMPORARY TABLE esxi_ours ON COMMIT DROP AS
  SELECT host_id, dhcp_identifier AS mac, ipv4_address AS address, hostname, dhcp4_subnet_id AS subnet,
    dhcp_identifier_type = 0 AND dhcp6_subnet_id IS NULL AND dhcp4_client_classes IS NULL AS plain,
    substr(user_context, length('%(mark)s') + 1, length(user_context) - length('%(mark)s') - length('%(end)s')) AS host
  FROM hosts WHERE starts_with(user_context, '%(mark)s');
CREATE TEMPORARY TABLE esxi_clash ON COMMIT DROP AS
  SELECT w.host, w.mac, w.address, true AS by_mac, h.hostname, h.user_context FROM esxi_wanted w JOIN hosts h
    ON h.dhcp_identifier = w.mac AND h.dhcp_identifier_type = 0
    WHERE starts_with(h.user_context, '%(mark)s') IS NOT TRUE
  UNION ALL
  SELECT w.host, w.mac, w.address, false, h.hostname, h.user_context FROM esxi_wanted w JOIN hosts h
    ON h.ipv4_address = w.address
    WHERE starts_with(h.user_context, '%(mark)s') IS NOT TRUE;
SELECT DISTINCT ON (host) 'clash', host, CASE WHEN by_mac THEN encode(mac, 'hex') ELSE '' END, address,
  translate(coalesce(hostname, ''), E'\\t\\n', '  '), translate(coalesce(user_context, ''), E'\\t\\n', '  ')
  FROM esxi_clash ORDER BY host, by_mac DESC, mac;
DELETE FROM esxi_wanted USING esxi_clash WHERE esxi_wanted.host = esxi_clash.host;
DELETE FROM esxi_named USING esxi_clash WHERE esxi_named.host = esxi_clash.host;
CREATE TEMPORARY TABLE esxi_old ON COMMIT DROP AS
  SELECT o.* FROM esxi_ours o
  WHERE (o.host IN (SELECT host FROM esxi_named) OR o.mac IN (SELECT mac FROM esxi_wanted)
    OR (o.host NOT IN (SELECT host FROM esxi_known) AND o.host NOT IN (SELECT host FROM esxi_clash)))
  AND NOT EXISTS (SELECT FROM esxi_wanted w WHERE o.plain AND w.host = o.host AND w.mac = o.mac
    AND w.address = o.address AND w.subnet = o.subnet AND w.hostname IS NOT DISTINCT FROM o.hostname);
CREATE TEMPORARY TABLE esxi_new ON COMMIT DROP AS
  SELECT w.* FROM esxi_wanted w WHERE NOT EXISTS (SELECT FROM esxi_ours o WHERE o.plain AND w.host = o.host
    AND w.mac = o.mac AND w.address = o.address AND w.subnet = o.subnet AND w.hostname IS NOT DISTINCT FROM o.hostname);
SELECT 'old', host, encode(mac, 'hex'), address, hostname FROM esxi_old ORDER BY host, mac;
SELECT 'new', host, encode(mac, 'hex'), address, hostname FROM esxi_new ORDER BY host, mac;
"""

_WRITE = """\
DELETE FROM hosts USING esxi_old WHERE hosts.host_id = esxi_old.host_id;
INSERT INTO hosts (dhcp_identifier, dhcp_identifier_type, dhcp4_subnet_id, ipv4_address, hostname, user_context)
  SELECT mac, 0, subnet, address, hostname, '%(mark)s' || host || '%(end)s' FROM esxi_new;
COMMIT;
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One MAC address of a host, as it is reserved."""

    host: str
    mac: str
    address: str
    hostname: str


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Somebody else's reservation has an address of a host.

    :ivar mac: the MAC address that it has; empty: it has the IP address.
    :ivar owner: whose it is, as far as can be told; may be empty.
    """

    host: str
    mac: str
    address: str
    owner: str


@dataclasses.dataclass
class Answer:
    """What the script found.

    :ivar old: rows that go (or went).
    :ivar new: rows that come (or came).
    """

    conflicts: list[Conflict] = dataclasses.field(default_factory=list)
    old: list[Row] = dataclasses.field(default_factory=list)
    new: list[Row] = dataclasses.field(default_factory=list)


def script(
    server: str,
    wanted: t.Iterable[tuple[Reservation, int]],
    names: t.Iterable[str],
    known: t.Iterable[str],
    write: bool,
) -> str:
    """The script.

    :arg server: IPv4 address of this PXE server.
    :arg wanted: what is to be reserved for hosts of this call, with the id of the network.
    :arg names: all hosts of this call; those without a reservation lose theirs.
    :arg known: the hosts of this server.
    :arg write: otherwise everything is found out and rolled back.
    """
    words = {"mark": _MARK.format(server=ipaddress.IPv4Address(server)), "end": _END}
    parts = ["BEGIN;\n", f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';\n"]
    if write:
        # (Its result, an empty line, is skipped by who reads the answer.)
        parts.append(f"SELECT pg_advisory_xact_lock({_LOCK});\n")
    parts.append(_TABLES)
    rows: list[tuple[str, ...]] = []
    for one, subnet in wanted:
        rest = (str(int(ipaddress.IPv4Address(one.address))), one.short_name, str(int(subnet)))
        rows += [(one.name, "\\\\x" + mac.replace(":", ""), *rest) for mac in one.macs]
    parts.append(_copy("esxi_wanted", rows))
    parts.append(_copy("esxi_named", [(check_name(name),) for name in dict.fromkeys(names)]))
    parts.append(_copy("esxi_known", [(check_name(name),) for name in dict.fromkeys(known)]))
    parts.append(_COMPARE % words)
    parts.append(_WRITE % words if write else "ROLLBACK;\n")
    return "".join(parts)


def subnet_id(address: str, subnets: t.Iterable[str]) -> int | None:
    """Kea's id of the network in which an address lies; None: in none of these."""
    found = [network for network in map(ipaddress.IPv4Network, subnets) if ipaddress.IPv4Address(address) in network]
    if not found:
        return None
    return int(max(found, key=lambda network: network.prefixlen).network_address)


def _copy(table: str, rows: t.Iterable[tuple[str, ...]]) -> str:
    # Every word has been checked: no tab, no line break, and no backslash but the one before a MAC.
    return f"COPY {table} FROM STDIN;\n" + "".join("\t".join(row) + "\n" for row in rows) + "\\.\n"


def parse(output: str, server: str) -> Answer:
    """Read what psql printed.

    :raises EsxiPxeError: it is nothing that the script prints.
    """
    answer = Answer()
    for line in output.splitlines():
        if not line:
            continue
        words = line.split("\t")
        try:
            if words[0] == "clash":
                _clash, host, mac, address, hostname, context = words
                owner = _owner(hostname, context, server)
                answer.conflicts.append(Conflict(host, _mac(mac) if mac else "", _address(address), owner))
                continue
            kind, host, mac, address, hostname = words
            rows = {"old": answer.old, "new": answer.new}[kind]
            rows.append(Row(host, _mac(mac), _address(address), hostname))
        except (ValueError, KeyError):
            raise EsxiPxeError(f"psql printed {line[:200]!r}, which cannot be understood") from None
    return answer


def _mac(digits: str) -> str:
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))


def _address(number: str) -> str:
    return str(ipaddress.IPv4Address(int(number))) if number else ""


def _owner(hostname: str, context: str, server: str) -> str:
    head, end = _MARK.partition("{server}")[0].format(), _END
    if context.startswith(head) and context.endswith(end):
        other, _between, host = context[len(head) : -len(end)].partition('", "host": "')
        if other != server and host:
            return f"{host} of the PXE server {other}"
    return hostname
