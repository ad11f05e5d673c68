# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DHCP client as firmware has it: RFC 2131, the PXE options (RFC 4578) and proxyDHCP.

``encode`` and ``decode`` are pure; ``Client`` talks. It uses UDP port 68 with the broadcast flag, as most PXE ROMs do,
so that the answer comes while the interface has no address yet.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK = 1, 2, 3, 4, 5, 6
COOKIE = b"\x63\x82\x53\x63"
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")

SUBNET_MASK, ROUTER, DNS, HOST_NAME = 1, 3, 6, 12
VENDOR_SPECIFIC, REQUESTED_ADDRESS, OVERLOAD, MESSAGE_TYPE, SERVER_ID = 43, 50, 52, 53, 54
PARAMETERS, MAX_SIZE, VENDOR_CLASS, BOOTFILE, USER_CLASS = 55, 57, 60, 67, 77
CLIENT_ARCH, CLIENT_NDI, CLIENT_UUID, IPXE, CONFIG_FILE, PATH_PREFIX = 93, 94, 97, 175, 209, 210
_WANTED = bytes([1, 3, 6, 12, 15, 28, 43, 54, 60, 66, 67, 97, 209, 210])


class MalformedPacket(ValueError):
    """The bytes are no DHCP packet."""


@dataclass(frozen=True)
class Packet:
    """One DHCP packet. ``options`` has the raw bytes of each option; addresses are dotted text."""

    op: int
    xid: int
    mac: str
    options: dict[int, bytes] = field(default_factory=dict)
    secs: int = 0
    broadcast: bool = True
    ciaddr: str = "0.0.0.0"
    yiaddr: str = "0.0.0.0"
    siaddr: str = "0.0.0.0"
    giaddr: str = "0.0.0.0"
    sname: str = ""
    file: str = ""

    @property
    def kind(self) -> int:
        """Message type (option 53), 0 for plain BOOTP."""
        value = self.options.get(MESSAGE_TYPE, b"")
        return value[0] if value else 0

    def address(self, option: int) -> str | None:
        """First IPv4 address of an option."""
        value = self.options.get(option, b"")
        return str(ipaddress.IPv4Address(value[:4])) if len(value) >= 4 else None

    def text(self, option: int) -> str:
        """An option as text, without the NUL that some servers append."""
        return self.options.get(option, b"").rstrip(b"\0").decode("latin-1")


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def encode(packet: Packet) -> bytes:
    """The bytes of a packet, padded to the 300 bytes that old relays insist on."""
    hardware = bytes.fromhex(packet.mac.replace(":", ""))
    head = _FIXED.pack(
        packet.op,
        1,
        6,
        0,
        packet.xid,
        packet.secs,
        0x8000 if packet.broadcast else 0,
        _packed(packet.ciaddr),
        _packed(packet.yiaddr),
        _packed(packet.siaddr),
        _packed(packet.giaddr),
        hardware.ljust(16, b"\0"),
        packet.sname.encode("latin-1"),
        packet.file.encode("latin-1"),
    )
    body = bytearray(COOKIE)
    for code, value in packet.options.items():
        # RFC 3396: a long option is several of the same code
        for start in range(0, max(len(value), 1), 255):
            part = value[start : start + 255]
            body += bytes([code, len(part)]) + part
    body.append(255)
    return (head + bytes(body)).ljust(300, b"\0")


def _read_options(data: bytes, into: dict[int, bytes]) -> None:
    position = 0
    while position < len(data):
        code = data[position]
        if code == 255:
            return
        if code == 0:
            position += 1
            continue
        if position + 1 >= len(data) or position + 2 + data[position + 1] > len(data):
            raise MalformedPacket(f"option {code} reaches beyond the packet")
        length = data[position + 1]
        into[code] = into.get(code, b"") + data[position + 2 : position + 2 + length]
        position += 2 + length


def decode(data: bytes) -> Packet:
    """Read a packet; raises ``MalformedPacket``."""
    if len(data) < _FIXED.size + 4 or data[_FIXED.size : _FIXED.size + 4] != COOKIE:
        raise MalformedPacket("too short, or not DHCP")
    op, _htype, hlen, _hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file = _FIXED.unpack(
        data[: _FIXED.size]
    )
    options: dict[int, bytes] = {}
    _read_options(data[_FIXED.size + 4 :], options)
    overload = options.get(OVERLOAD, b"\0")[:1]
    # RFC 2132 9.3: the fields may hold more options instead of what their name says
    if overload in (b"\1", b"\3"):
        _read_options(file, options)
        file = b""
    if overload in (b"\2", b"\3"):
        _read_options(sname, options)
        sname = b""
    return Packet(
        op=op,
        xid=xid,
        mac=":".join(f"{byte:02x}" for byte in chaddr[: min(hlen, 6)]),
        options=options,
        secs=secs,
        broadcast=bool(flags & 0x8000),
        ciaddr=str(ipaddress.IPv4Address(ciaddr)),
        yiaddr=str(ipaddress.IPv4Address(yiaddr)),
        siaddr=str(ipaddress.IPv4Address(siaddr)),
        giaddr=str(ipaddress.IPv4Address(giaddr)),
        sname=sname.split(b"\0")[0].decode("latin-1"),
        file=file.split(b"\0")[0].decode("latin-1"),
    )


@dataclass(frozen=True)
class Persona:
    """What a client says it is: one of these for each program that does DHCP during a machine's life."""

    vendor_class: str
    arch: int | None = None
    user_class: str = ""
    network_boot: bool = True

    def options(self, uuid: bytes) -> dict[int, bytes]:
        """The options that this persona adds to its packets."""
        options = {VENDOR_CLASS: self.vendor_class.encode()} if self.vendor_class else {}
        if self.arch is not None:
            options |= {
                CLIENT_ARCH: struct.pack("!H", self.arch),
                CLIENT_NDI: b"\x01\x03\x10",
                CLIENT_UUID: b"\0" + uuid,
            }
        if self.user_class:
            # iPXE sends the bare text, not RFC 3004's length-prefixed one, and its own encapsulated features
            options |= {USER_CLASS: self.user_class.encode(), IPXE: b"\x13\x01\x01\x18\x01\x01\x22\x01\x01"}
        return options


BIOS_PXE = Persona("PXEClient:Arch:00000:UNDI:002001", arch=0)
UEFI_PXE = Persona("PXEClient:Arch:00007:UNDI:003016", arch=7)
UEFI_HTTP = Persona("HTTPClient:Arch:00016:UNDI:003016", arch=16)
IPXE_UEFI = Persona("PXEClient:Arch:00007:UNDI:003010", arch=7, user_class="iPXE")
IPXE_BIOS = Persona("PXEClient:Arch:00000:UNDI:002001", arch=0, user_class="iPXE")
INSTALLER = Persona("VMware ESXi installer", network_boot=False)
INSTALLED = Persona("VMware ESXi", network_boot=False)


@dataclass(frozen=True)
class Proxy:
    """A proxyDHCP server that wants to be asked: its address, and the sub-options (of option 43) to ask with."""

    server: str
    item: bytes


@dataclass(frozen=True)
class Lease:
    """What the client got: the address, and where to boot from (empty without)."""

    address: str
    netmask: str
    gateway: str | None
    server: str
    boot_server: str
    bootfile: str
    vendor_class: str
    config_file: str
    path_prefix: str
    proxy: Proxy | None = None

    @property
    def prefix_length(self) -> int:
        """Length of the network prefix."""
        return ipaddress.IPv4Network(f"0.0.0.0/{self.netmask}").prefixlen


def proxy_of(offer: Packet) -> Proxy:
    """Whom to ask and how, after a proxyDHCP offer without a boot file (PXE specification 2.1, sections 2.2 and 2.4).

    A PXE server lists boot servers (sub-option 8) and a menu (9) in option 43; without a prompt its first entry is
    taken, and asked for by its type (71).
    """
    fields: dict[int, bytes] = {}
    try:
        _read_options(offer.options.get(VENDOR_SPECIFIC, b""), fields)
    except MalformedPacket:
        fields = {}
    server = offer.address(SERVER_ID) or ""
    servers, menu = fields.get(8, b""), fields.get(9, b"")
    if len(menu) < 2:
        return Proxy(server, b"")
    if len(servers) >= 7 and servers[:2] == menu[:2] and servers[2]:
        server = str(ipaddress.IPv4Address(servers[3:7]))
    return Proxy(server, bytes([71, 4]) + menu[:2] + b"\0\0" + b"\xff")


class NoOffer(Exception):
    """Nobody answered, or nobody with what this client needs."""


def lease_of(ack: Packet, boot: Packet | None = None) -> Lease:
    """The lease in an ACK; ``boot`` is a proxyDHCP answer that says where to boot from instead."""
    source = boot or ack
    # siaddr first, then option 54, and never option 66: so do PXE ROMs and mboot
    boot_server = source.siaddr if source.siaddr != "0.0.0.0" else source.address(SERVER_ID) or ""
    return Lease(
        address=ack.yiaddr,
        netmask=ack.address(SUBNET_MASK) or "255.255.255.0",
        gateway=ack.address(ROUTER),
        server=ack.address(SERVER_ID) or "",
        boot_server=boot_server,
        bootfile=source.file or source.text(BOOTFILE),
        vendor_class=source.text(VENDOR_CLASS),
        config_file=source.text(CONFIG_FILE),
        path_prefix=source.text(PATH_PREFIX),
    )


class Client:
    """One DHCP exchange on one interface of the calling thread's network namespace."""

    def __init__(
        self,
        interface: str,
        mac: str,
        uuid: bytes,
        persona: Persona,
        *,
        pause: Callable[[float], None] = time.sleep,
        tries: int = 3,
    ) -> None:
        self.interface, self.mac, self.uuid, self.persona = interface, mac, uuid, persona
        self.requests = 0
        self._pause, self._tries = pause, tries

    def _socket(self, address: str = "") -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode() + b"\0")
        sock.bind((address, 68))
        return sock

    def _send(
        self,
        sock: socket.socket,
        kind: int,
        xid: int,
        secs: int,
        extra: dict[int, bytes],
        to: tuple[str, int] = ("255.255.255.255", 67),
        ciaddr: str = "0.0.0.0",
    ) -> None:
        options = {MESSAGE_TYPE: bytes([kind]), PARAMETERS: _WANTED, MAX_SIZE: struct.pack("!H", 1500)}
        options |= self.persona.options(self.uuid) | extra
        packet = Packet(
            op=1, xid=xid, mac=self.mac, options=options, secs=secs, ciaddr=ciaddr, broadcast=ciaddr == "0.0.0.0"
        )
        self.requests += 1
        sock.sendto(encode(packet), to)

    def _receive(
        self,
        sock: socket.socket,
        xid: int,
        kinds: tuple[int, ...],
        seconds: float,
        done: Callable[[list[Packet]], bool],
    ) -> list[Packet]:
        """Answers to this exchange, until ``done`` or the time is over."""
        answers: list[Packet] = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not done(answers):
            sock.settimeout(min(left, 0.5))
            try:
                packet = decode(sock.recv(4096))
            except (TimeoutError, MalformedPacket):
                self._pause(0)
                continue
            if packet.op == 2 and packet.xid == xid and packet.kind in kinds and packet.mac == self.mac:
                answers.append(packet)
        return answers

    @staticmethod
    def _is_proxy(packet: Packet) -> bool:
        return packet.yiaddr == "0.0.0.0" and packet.text(VENDOR_CLASS).startswith("PXEClient")

    def acquire(self) -> Lease:
        """DISCOVER, OFFER, REQUEST, ACK. Raises ``NoOffer`` when nobody offers an address."""
        with self._socket() as sock:
            for attempt in range(self._tries):
                xid = int.from_bytes(os.urandom(4), "big")
                secs = 2**attempt
                self._send(sock, DISCOVER, xid, secs, {})
                # firmware waits a little after the first offer: a proxyDHCP server may answer besides
                offers = self._receive(
                    sock, xid, (OFFER,), 2.0 * secs, lambda got: any(p.yiaddr != "0.0.0.0" for p in got)
                )
                offer = next((packet for packet in offers if packet.yiaddr != "0.0.0.0"), None)
                if offer is None:
                    continue
                proxy = None
                if self.persona.network_boot and not (offer.file or offer.text(BOOTFILE)):
                    late = self._receive(sock, xid, (OFFER,), 1.0, lambda got: any(map(self._is_proxy, got)))
                    proxy = next((packet for packet in offers + late if self._is_proxy(packet)), None)
                extra = {REQUESTED_ADDRESS: _packed(offer.yiaddr), SERVER_ID: offer.options.get(SERVER_ID, b"")}
                self._send(sock, REQUEST, xid, secs, extra)
                answers = self._receive(
                    sock, xid, (ACK, NAK), 4.0, lambda got: any(p.yiaddr != "0.0.0.0" or p.kind == NAK for p in got)
                )
                ack = next((packet for packet in answers if packet.kind == ACK and packet.yiaddr != "0.0.0.0"), None)
                if ack is not None:
                    if proxy is not None and not (proxy.file or proxy.text(BOOTFILE)):
                        return replace(lease_of(ack), proxy=proxy_of(proxy))
                    return lease_of(ack, proxy)
                self._pause(secs)
        raise NoOffer(f"no DHCP offer for {self.mac}")

    def ask_proxy(self, lease: Lease) -> Lease:
        """Ask the proxyDHCP server of a lease for the boot file, on port 4011 and from the address of the lease."""
        assert lease.proxy is not None
        extra = {VENDOR_SPECIFIC: lease.proxy.item} if lease.proxy.item else {}
        with self._socket(lease.address) as sock:
            for attempt in range(self._tries):
                xid = int.from_bytes(os.urandom(4), "big")
                to = (lease.proxy.server, 4011)
                self._send(sock, REQUEST, xid, 0, extra, to=to, ciaddr=lease.address)
                answers = self._receive(sock, xid, (ACK,), 1.0 + attempt, bool)
                if answers:
                    told = lease_of(answers[0])
                    return replace(lease, boot_server=told.boot_server, bootfile=told.bootfile, proxy=None)
        raise NoOffer(f"no answer of the boot server {lease.proxy.server} on port 4011")
