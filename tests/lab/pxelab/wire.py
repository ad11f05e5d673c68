# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine's firmware and installer reach the network: through interfaces of the machine's own namespace.

``storm`` has another one of these, for a thousand machines that share one namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import dhcp, http, nic
from .loader import Console, Network


class Wire:
    """The NICs of one machine. Everything is done in the calling thread's namespace."""

    def __init__(self, macs: Sequence[str], uuid: bytes) -> None:
        self.macs, self.uuid = tuple(macs), uuid

    def interface(self, index: int) -> str:
        """Name of a NIC's interface."""
        return f"eth{index}"

    def clear(self) -> None:
        """Take all addresses off all NICs."""
        nic.clear(len(self.macs))

    def dhcp_client(
        self, index: int, persona: dhcp.Persona, *, pause: Callable[[float], None], tries: int = 3
    ) -> dhcp.Client:
        """A DHCP client on one NIC."""
        return dhcp.Client(self.interface(index), self.macs[index], self.uuid, persona, pause=pause, tries=tries)

    def set_address(self, index: int, address: str, prefix_length: int, gateway: str | None) -> None:
        """Give a NIC its address."""
        nic.set_address(self.interface(index), address, prefix_length, gateway)

    def network(self, index: int, lease: dhcp.Lease, console: Console) -> Network:
        """What a loader on this NIC fetches its files through."""
        return Network(
            console=console,
            interface=self.interface(index),
            mac=self.macs[index],
            uuid=self.uuid,
            address=lease.address,
            tftp_server=lease.boot_server,
        )

    def fetch_kickstart(self, url: str, pause: Callable[[float], None]) -> bytes:
        """The kickstart, as the installer asks for it. Raises ``http.HttpError``."""
        return http.request(url, agent="VMware-ESXi-installer", need_length=False, pause=pause)[0]
