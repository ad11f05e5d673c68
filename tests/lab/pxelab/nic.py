# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's network interfaces: addresses come and go with whatever program owns the machine at the time."""

from __future__ import annotations

from collections.abc import Sequence

from .procs import run


def _batch(lines: Sequence[str]) -> None:
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def interface_of(macs: Sequence[str], mac: str) -> str | None:
    """Name of the interface with a MAC; the machine has ``eth0``, ``eth1`` ... in the order of its MACs."""
    lowered = mac.lower().replace("-", ":")
    return f"eth{list(macs).index(lowered)}" if lowered in macs else None


def clear(count: int) -> None:
    """Take every address off the first ``count`` interfaces, and all they knew about neighbours."""
    _batch(
        [f"address flush dev eth{index}" for index in range(count)]
        + [f"neigh flush dev eth{index} nud all" for index in range(count)]
    )


def set_address(interface: str, address: str, prefix_length: int, gateway: str | None) -> None:
    """Give an interface its address, and the namespace its way out."""
    lines = [f"address add {address}/{prefix_length} dev {interface}"]
    if gateway:
        lines.append(f"route replace default via {gateway} dev {interface}")
    _batch(lines)


def lose(interface: str, address: str) -> None:
    """Make packets to an address get lost on the wire, as with a wrong VLAN or a firewall that drops."""
    _batch([f"neigh replace {address} lladdr 02:00:00:00:00:ff dev {interface} nud permanent"])


def find_again(interface: str, address: str) -> None:
    """Undo ``lose``."""
    _batch([f"neigh del {address} dev {interface}"])
