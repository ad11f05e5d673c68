# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a machine of the lab stands: its network, its PXE server, its vCenter."""

from __future__ import annotations

from dataclasses import dataclass

from . import net, server, vcenter


@dataclass(frozen=True)
class Site:
    """One site: ``network`` begins the addresses of its machines, ``centre`` is the namespace of their bridge."""

    name: str
    box: server.Box
    center: vcenter.Center
    centre: str
    network: str
    gateway: str


FIRST = Site("site_a", server.FIRST, vcenter.FIRST, net.CENTRE, "192.168.77.", net.CONTROLLER_ADDRESS)
#: Behind a router that relays DHCP.
SECOND = Site("site_b", server.SECOND, vcenter.SECOND, net.ROUTER, "10.20.1.", net.RELAYED_GATEWAY)
