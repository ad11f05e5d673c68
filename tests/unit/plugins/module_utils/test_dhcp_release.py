# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of DHCP leases: the packet, and that sending it can never fail. Its effect is shown with a real dnsmasq."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_release import release_packet, send_releases
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError

LEASE = ("00:50:56:aa:01:01", "192.168.77.21")


def test_the_packet():
    packet = release_packet(LEASE, "192.168.77.10", b"abcd")
    assert len(packet) == 300
    assert packet[:8] == b"\x01\x01\x06\x00abcd"
    assert packet[12:16] == bytes([192, 168, 77, 21]), "ciaddr"
    assert packet[16:28] == bytes(12), "yiaddr, siaddr, giaddr"
    assert packet[28:44] == bytes.fromhex("005056aa0101") + bytes(10)
    assert packet[44:236] == bytes(192), "sname and file"
    assert packet[236:].rstrip(b"\0") == bytes.fromhex("63825363 350107 3604c0a84d0a ff".replace(" ", ""))


@pytest.mark.parametrize("lease", [("x", "192.168.77.21"), ("00:50:56:aa:01:01", "x")])
def test_only_leases_are_released(lease):
    with pytest.raises((LayoutError, ValueError)):
        release_packet(lease, "192.168.77.10", b"abcd")


def test_nothing_to_release_looks_at_no_interface(monkeypatch):
    monkeypatch.setattr(socket, "if_nameindex", lambda: pytest.fail("looked"))
    send_releases([], "192.168.77.10")


def test_an_interface_that_cannot_be_used_is_passed_over(monkeypatch):
    sent = []

    class Socket:
        def __init__(self, *_arguments):
            self.interface = ""

        def __enter__(self):
            return self

        def __exit__(self, *_arguments):
            pass

        def setsockopt(self, _level, option, value):
            assert option == socket.SO_BINDTODEVICE
            self.interface = value.rstrip(b"\0").decode()
            if self.interface == "forbidden":
                raise PermissionError

        def sendto(self, packet, address):
            if self.interface == "down":
                raise OSError("Network is unreachable")
            sent.append((self.interface, packet[28:34].hex(), address))

    monkeypatch.setattr(socket, "socket", Socket)
    names = ["lo", "forbidden", "down", "eth0"]
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))
    send_releases([LEASE, ("00:50:56:aa:01:02", "192.168.77.21")], "192.168.77.10")
    assert sent == [
        (interface, mac, ("192.168.77.10", 67))
        for interface in ("lo", "eth0")
        for mac in ("005056aa0101", "005056aa0102")
    ]
