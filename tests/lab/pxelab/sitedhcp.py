# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DHCP server of a site that has its own: it knows the machines, and the PXE server may not hand out addresses.

With mode ``proxy`` it says nothing about booting, the PXE server adds that. With mode ``none`` it says everything, as
its administrator set it up after the collection's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import net, paths, procs
from .inventory import Planned

PROCESS = "sitedhcp"
MODES = ("dnsmasq", "kea", "proxy", "none")
#: Those in which the PXE server does DHCP itself.
OWN = ("dnsmasq", "kea")
_URL = f"http://{net.SERVER_ADDRESS}"


def _boot(loader: str) -> str:
    return f"""\
dhcp-no-override
dhcp-match=set:bios,option:client-arch,0
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:efihttp,option:client-arch,16
dhcp-userclass=set:ipxe,iPXE
dhcp-boot=tag:bios,pxelinux.0,,{net.SERVER_ADDRESS}
dhcp-boot=tag:efi,tag:!ipxe,{loader},,{net.SERVER_ADDRESS}
dhcp-boot=tag:efi,tag:ipxe,{_URL}/boot.ipxe
dhcp-boot=tag:efihttp,{_URL}/http/mboot.efi
dhcp-option-force=tag:efihttp,60,HTTPClient
"""


def config(mode: str, hosts: Iterable[Planned], loader: str = "mboot.efi") -> str:
    """The server's dnsmasq configuration; ``loader`` is what UEFI machines load by TFTP."""
    lines = [
        "port=0",
        f"interface={net.BRIDGE}",
        "bind-interfaces",
        "no-hosts",
        "no-resolv",
        "no-ping",
        "user=root",
        "leasefile-ro",
        "log-dhcp",
        "log-facility=-",
        "dhcp-authoritative",
        f"dhcp-range={net.SUBNET.partition('/')[0]},static,255.255.255.0,1h",
    ]
    for one in hosts:
        address = one.variables["esxi_host_network"].get("boot_address", one.address)
        lines.append(f"dhcp-host={','.join(one.hardware.macs)},{address}")
    return "\n".join(lines) + "\n" + (_boot(loader) if mode == "none" else "")


def start(mode: str, hosts: Iterable[Planned], loader: str = "mboot.efi") -> None:
    """Start it beside the controller; nothing for the modes in which the PXE server does DHCP itself."""
    if mode in OWN:
        return
    path = paths.RUN / "sitedhcp.conf"
    paths.write_text(path, config(mode, hosts, loader))
    procs.start(
        PROCESS,
        ["dnsmasq", "--keep-in-foreground", f"--conf-file={path}"],
        log=paths.LOGS / "sitedhcp.log",
        namespace=net.CENTRE,
    )
