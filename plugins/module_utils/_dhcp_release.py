# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: gives back DHCP leases that a changed reservation leaves behind.

dnsmasq keeps a lease until it runs out, whatever its reservations say by then, and offers its address to nobody else:
two hosts whose addresses were exchanged would get none at all. Reading the files again does not change that, and a
restart would break every TFTP transfer that is under way. So the lease is released in the name of the machine that had
it, as dnsmasq's own `dhcp_release` does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import check_mac

__all__ = ("Lease", "release_packet", "send_releases")

Lease = tuple[str, str]
"""MAC address (aa:bb:cc:dd:ee:ff) and IPv4 address."""

_BURST = 50


def release_packet(lease: Lease, server: str, xid: bytes) -> bytes:
    """A DHCPRELEASE (RFC 2131, 4.4.6) for a lease.

    :arg server: IPv4 address of the DHCP server.
    :arg xid: four random bytes.
    """
    mac, address = lease
    head = struct.pack(
        "!BBBB4sHH4s12x16s192x",
        1,  # from a client
        1,  # Ethernet
        6,
        0,
        xid,
        0,
        0,
        ipaddress.IPv4Address(address).packed,
        bytes.fromhex(check_mac(mac).replace(":", "")).ljust(16, b"\0"),
    )
    options = b"\x63\x82\x53\x63" + b"\x35\x01\x07" + b"\x36\x04" + ipaddress.IPv4Address(server).packed + b"\xff"
    return (head + options).ljust(300, b"\0")


def send_releases(leases: t.Iterable[Lease], server: str) -> None:
    """Release leases of the DHCP server on this machine.

    Nobody answers a release, so this cannot fail: at worst the leases run out by themselves.
    """
    packets = [release_packet(lease, server, os.urandom(4)) for lease in leases]
    for _index, interface in socket.if_nameindex() if packets else ():
        # To this machine's own address, but as if it came in by that interface: dnsmasq listens to its own only.
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            for number, packet in enumerate(packets, 1):
                sock.sendto(packet, (server, 67))
                if number % _BURST == 0:
                    time.sleep(0.01)  # a socket's buffer holds some hundred of them
