# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what DHCP has to reserve for a host, and the text of it.

Pure. A host's MAC addresses share one address: the machine boots by one of them at a time. How a DHCP server comes to
know of it is the business of its writer: `_dhcp_dnsmasq`, `_dhcp_kea` or `_dhcp_isc`, chosen by `_dhcp_back_end`.

dnsmasq: one file a host in its `dhcp-hostsdir`, one line in it: `mac,mac,address,name`.

- No tags (`set:`): dnsmasq 2.90 dies on SIGHUP when a reservation in a file that it reads again carries one and that
  host has talked to it.
- dnsmasq takes up a new file at once (inotify). A changed one it may reject as a duplicate of the old (same address),
  and a removed one it keeps: after either it must be told to read them all again (SIGHUP).

ISC dhcpd: one file with a declaration for each MAC. It keeps no leases of such hosts, so nothing is in the way of a
machine that comes by its other MAC, or of addresses that were exchanged.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError, check_mac, check_name

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = (
    "Reservation",
    "dhcpd_blocks",
    "dhcpd_file",
    "leases_of",
    "needs_reload",
    "reservation",
    "reservation_of_record",
    "reserved",
)

_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

# dnsmasq reads these words in a reservation as something else than a name: keywords, and lease times such as 12h.
_NO_NAME = re.compile(r"ignore|infinite|\d+[smhdw]?")

_DHCPD_HEAD = """\
# Written by pxemanager.esxi when hosts are published; changes made by hand are lost.
"""
_DHCPD_HOST = "# host "


@dataclasses.dataclass(frozen=True)
class Reservation:
    """What DHCP reserves for one host. Every part is in canonical form, so that it can stand in any text."""

    name: str
    macs: tuple[str, ...]
    address: str

    def __post_init__(self) -> None:
        check_name(self.name)
        for mac in self.macs:
            check_mac(mac)
        if not _ADDRESS.fullmatch(self.address) or any(int(part) > 255 for part in self.address.split(".")):
            raise LayoutError(f"{self.address!r} is not an IPv4 address")

    @property
    def short_name(self) -> str:
        """The name up to the first dot."""
        return self.name.partition(".")[0]


def reserved(host: Host) -> Reservation | None:
    """What is to be reserved for a host; None: its address is not known.

    :raises LayoutError: a part of it is not in canonical form.
    """
    address = host.network.boot_address
    return None if address is None else Reservation(host.name, tuple(host.macs), address)


def reservation_of_record(record: t.Mapping[str, t.Any]) -> Reservation | None:
    """What is to be reserved for a published host, from the record that is kept of it; None: nothing.

    :raises LayoutError: the record is damaged.
    """
    network = record.get("network")
    address = network.get("boot_address") if isinstance(network, dict) else None
    macs = record.get("macs")
    if address is None:
        return None
    if not isinstance(macs, list) or not all(isinstance(mac, str) for mac in macs):
        raise LayoutError(f"{macs!r} are not MAC addresses")
    return Reservation(str(record.get("name")), tuple(macs), str(address))


# dnsmasq.


def reservation(host: Host, config: ServerConfig) -> str | None:
    """Contents of a host's reservation file for dnsmasq; None: there is to be none.

    A name that dnsmasq would misread is left out; the host has its name from the kickstart anyway.

    :raises LayoutError: a part of it is not in canonical form.
    """
    wanted = reserved(host) if config.dhcp.mode == "dnsmasq" else None
    if wanted is None:
        return None
    words = [*wanted.macs, wanted.address]
    if not _NO_NAME.fullmatch(wanted.short_name):
        words.append(wanted.short_name)
    return ",".join(words) + "\n"


def leases_of(text: str | None) -> set[tuple[str, str]]:
    """The leases that a reservation can lead to: MAC address and IPv4 address. Damaged text leads to none."""
    words = (text or "").strip().split(",")
    addresses = [word for word in words if _ADDRESS.fullmatch(word)]
    return {(word, address) for address in addresses[:1] for word in words if _MAC.fullmatch(word)}


def needs_reload(before: str | None, after: str | None) -> bool:
    """Whether dnsmasq must be told to read its reservations again for this change to count.

    :arg before: contents of the file; None: there was none.
    """
    return before is not None and before != after


# ISC dhcpd.


def dhcpd_file(reservations: t.Iterable[Reservation]) -> str:
    """The file that dhcpd.conf includes, with every host of this server in the order of their names."""
    return _DHCPD_HEAD + "".join(_dhcpd_block(one) for one in sorted(reservations, key=lambda one: one.name))


def _dhcpd_block(one: Reservation) -> str:
    # The name of a declaration must be unique and no keyword (a host may be called "group"): made of the MAC.
    lines = [f"{_DHCPD_HOST}{one.name}\n"]
    for mac in one.macs:
        lines.append(
            f"host esxi-pxe-{mac.replace(':', '')} {{ hardware ethernet {mac}; fixed-address {one.address}; "
            f'option host-name "{one.short_name}"; }}\n'
        )
    return "".join(lines)


def dhcpd_blocks(text: str) -> dict[str, str]:
    """The declarations in such a file by host; what stands before the first host is left out."""
    blocks: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line.startswith(_DHCPD_HOST):
            name = line[len(_DHCPD_HOST) :].strip()
            blocks[name] = ""
        elif name:
            blocks[name] += line
    return blocks
