# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's firmware: network boot first, on each NIC in its boot order; then the disk.

It decides nothing by itself: DHCP says what to load, and the downloaded file is run for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import bootcfg, dhcp, ipxe, mboot, pxelinux
from .loader import Console, Hang, Loaded, NextBootOption, NotFound, identify
from .wire import Wire

KINDS = ("bios", "uefi", "ipxe", "uefi-http")


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of; the lab's description of it, unknown to the PXE server but for the MACs."""

    name: str
    number: int
    macs: tuple[str, ...]
    firmware: str
    uuid: bytes
    boot_nics: tuple[int, ...] = (0,)
    disks: tuple[str, ...] = ("mpx.vmhba0:C0:T0:L0",)
    python: bool = True
    dead: bool = False
    cut_off: bool = False
    failing_commands: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    #: a virtual machine with real firmware (see ``virtual``) instead of a stand-in
    virtual: bool = False


def network_boot(hardware: Hardware, console: Console, wire: Wire) -> Loaded:
    """Try each NIC; returns the installer that a loader started.

    Raises ``NextBootOption`` with what the last NIC said when all of them gave the machine back, ``Hang`` when a loader
    stands still.
    """
    last = NextBootOption("no NIC to boot from")
    for index in hardware.boot_nics:
        try:
            return _boot_nic(hardware, index, console, wire)
        except NextBootOption as reason:
            console.say(f"firmware: {reason}")
            last = reason
    raise last


def _exchange(index: int, persona: dhcp.Persona, console: Console, wire: Wire) -> dhcp.Lease:
    """DHCP on one NIC, its address set up."""
    wire.clear()
    client = wire.dhcp_client(index, persona, pause=console.pause)
    try:
        lease = client.acquire()
    except dhcp.NoOffer as error:
        raise NextBootOption(str(error)) from error
    finally:
        console.count("dhcp_requests", client.requests)
    wire.set_address(index, lease.address, lease.prefix_length, lease.gateway)
    if lease.proxy is not None:
        console.say(f"DHCP: the PXE server {lease.proxy.server} adds where to boot from")
        try:
            lease = client.ask_proxy(lease)
        except dhcp.NoOffer as error:
            raise NextBootOption(str(error)) from error
    console.say(
        f"DHCP: {lease.address} from {lease.server}, boot file {lease.bootfile or '(none)'}"
        f" on {lease.boot_server or '(none)'}"
    )
    return lease


def _boot_nic(hardware: Hardware, index: int, console: Console, wire: Wire) -> Loaded:
    console.say(f"{hardware.firmware}: network boot on NIC {index}, {hardware.macs[index]}")
    if hardware.firmware == "ipxe":
        # iPXE in the NIC's ROM: no first stage
        lease = _exchange(index, dhcp.IPXE_UEFI, console, wire)
        return ipxe.boot(wire.network(index, lease, console), identify("", b"iPXE"), lease.bootfile, embedded=True)
    if hardware.firmware == "uefi-http":
        return _http_boot(index, console, wire)
    persona = dhcp.BIOS_PXE if hardware.firmware == "bios" else dhcp.UEFI_PXE
    lease = _exchange(index, persona, console, wire)
    if not lease.bootfile:
        raise NextBootOption("PXE-E53: no boot filename received")
    network = wire.network(index, lease, console)
    try:
        data = network.read(lease.bootfile)
    except NotFound as error:
        raise NextBootOption(f"PXE-T01: {error}") from error
    program = identify(lease.bootfile, data)
    if program.kind == "ipxe":
        platform = "pcbios" if hardware.firmware == "bios" else "efi"
        lease = _exchange(index, dhcp.IPXE_BIOS if platform == "pcbios" else dhcp.IPXE_UEFI, console, wire)
        return ipxe.boot(wire.network(index, lease, console), program, lease.bootfile, platform=platform)
    if program.kind == "pxelinux" and hardware.firmware == "bios":
        return pxelinux.boot(
            network, program, lease.bootfile, config_file=lease.config_file, path_prefix=lease.path_prefix
        )
    if program.kind == "mboot.efi" and hardware.firmware == "uefi":
        return mboot.boot(network, program, lease.bootfile)
    if hardware.firmware == "bios":
        # a BIOS jumps into whatever it got
        raise Hang(f"{lease.bootfile} is no BIOS boot loader: the machine stands still")
    raise NextBootOption(f"{lease.bootfile} is no UEFI boot loader")


def _http_boot(index: int, console: Console, wire: Wire) -> Loaded:
    lease = _exchange(index, dhcp.UEFI_HTTP, console, wire)
    if not lease.vendor_class.startswith("HTTPClient"):
        raise NextBootOption("UEFI HTTP boot: the DHCP answer does not echo HTTPClient")
    if not bootcfg.is_url(lease.bootfile):
        raise NextBootOption(f"UEFI HTTP boot: no URL in the DHCP answer ({lease.bootfile or 'empty'})")
    network = wire.network(index, lease, console)
    try:
        network.size(lease.bootfile)
        data = network.read(lease.bootfile, agent="UefiHttpBoot/1.0")
    except NotFound as error:
        raise NextBootOption(f"UEFI HTTP boot: {error}") from error
    program = identify(lease.bootfile, data)
    if program.kind != "mboot.efi":
        raise NextBootOption(f"{lease.bootfile} is no UEFI boot loader")
    return mboot.boot(network, program, lease.bootfile, transport="http")
