# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PXE server whose reservations a real DHCP server gives out, and the machines on its network."""

from __future__ import annotations

import functools
import pathlib
import socket
import time
import typing as t
import uuid

from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer
from pxelab import dhcp, net


class ServedHosts(PxeServer):
    """A PXE server whose reservations a running DHCP server gives out, and machines on its network."""

    def __init__(self, root: pathlib.Path, client: str, reload: t.Callable[[], None] | None, **settings: t.Any) -> None:
        super().__init__(root, **settings)
        self._client, self._restart = client, reload

    def reload(self, argv: t.Sequence[str]) -> str | None:
        problem = super().reload(argv)
        if self._restart is not None and problem is None:
            self._restart()
        return problem

    def lease(self, mac: str, within: float = 6.0, persona: dhcp.Persona = dhcp.BIOS_PXE) -> dhcp.Lease | None:
        """What a machine gets; None: nobody answers it."""
        deadline = time.monotonic() + within
        while True:
            try:
                return net.call_in(self._client, functools.partial(_ask, mac, persona))
            except dhcp.NoOffer:
                if time.monotonic() >= deadline:
                    return None

    def offered(self, mac: str, within: float = 6.0, persona: dhcp.Persona = dhcp.BIOS_PXE) -> str | None:
        found = self.lease(mac, within, persona)
        return None if found is None else found.address

    def answer(self, mac: str, persona: dhcp.Persona, within: float = 3.0, **fields: t.Any) -> dhcp.Packet | None:
        """One packet of a machine, and the answer to it as it is; None: there is none. Keywords are of a Packet."""
        return net.call_in(self._client, functools.partial(_talk, mac, persona, within, **fields))

    def refused(self, mac: str) -> bool:
        return self.answer(mac, dhcp.BIOS_PXE, within=0.7) is None


def _ask(mac: str, persona: dhcp.Persona) -> dhcp.Lease:
    return dhcp.Client("eth0", mac, uuid.UUID(int=1).bytes, persona, tries=1).acquire()


def _talk(
    mac: str,
    persona: dhcp.Persona,
    within: float,
    kind: int = dhcp.DISCOVER,
    options: t.Mapping[int, bytes] | None = None,
    **fields: t.Any,
) -> dhcp.Packet | None:
    wanted = bytes([dhcp.SUBNET_MASK, dhcp.ROUTER, dhcp.DNS, dhcp.HOST_NAME, 51, 58, 59, dhcp.VENDOR_CLASS])
    given = {dhcp.MESSAGE_TYPE: bytes([kind]), dhcp.PARAMETERS: wanted}
    given |= {**persona.options(bytes(16)), **(options or {})}
    sent = dhcp.Packet(op=1, xid=uuid.uuid4().int & 0xFFFFFFFF, mac=mac, options=given, **fields)
    relay = sent.giaddr != "0.0.0.0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if not relay:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        sock.bind((sent.giaddr, 67) if relay else ("", 68))
        sock.sendto(dhcp.encode(sent), ("192.168.77.10" if relay else "255.255.255.255", 67))
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                packet = dhcp.decode(sock.recv(4096))
            except TimeoutError:
                break
            if packet.op == 2 and packet.xid == sent.xid:
                return packet
    return None
