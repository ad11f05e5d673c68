# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: DHCP reservations, as text.

Pure. One file a host in dnsmasq's `dhcp-hostsdir`, one line in it: `mac,mac,address,name`.

- No tags (`set:`): dnsmasq 2.90 dies on SIGHUP when a reservation in a file that it reads again carries one and that
  host has talked to it.
- dnsmasq takes up a new file at once (inotify). A changed one it may reject as a duplicate of the old (same address),
  and a removed one it keeps: after either it must be told to read them all again (SIGHUP).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError, check_mac, check_name

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = ("leases_of", "needs_reload", "reservation")

_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

# dnsmasq reads these words in a reservation as something else than a name: keywords, and lease times such as 12h.
_NO_NAME = re.compile(r"ignore|infinite|\d+[smhdw]?")


def reservation(host: Host, config: ServerConfig) -> str | None:
    """Contents of a host's reservation file; None: this server keeps none for it.

    A name that dnsmasq would misread is left out; the host has its name from the kickstart anyway.

    :raises LayoutError: a part of it is not in canonical form.
    """
    address = host.network.boot_address
    if config.dhcp.mode != "dnsmasq" or address is None:
        return None
    if not _ADDRESS.fullmatch(address):
        raise LayoutError(f"{address!r} is not an IPv4 address")
    words = [check_mac(mac) for mac in host.macs] + [address]
    short = check_name(host.name).partition(".")[0]
    if not _NO_NAME.fullmatch(short):
        words.append(short)
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
