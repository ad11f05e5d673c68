# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TFTP client (RFC 1350, 2347, 2348, 2349) as PXE ROMs and boot loaders have it: read only, blksize and tsize."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

RRQ, DATA, ACK, ERROR, OACK = 1, 3, 4, 5, 6
NOT_FOUND = 1
PORT = 69


class TftpError(Exception):
    """The server refused, or did not answer. ``code`` is the protocol's error code, ``None`` for no answer."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def encode_request(name: str, options: dict[str, int]) -> bytes:
    """A read request with options."""
    words = [name, "octet"]
    for key, value in options.items():
        words += [key, str(value)]
    return struct.pack("!H", RRQ) + b"".join(word.encode() + b"\0" for word in words)


def decode_oack(data: bytes) -> dict[str, int]:
    """The options that the server agreed to (data without the opcode). Raises ``ValueError``."""
    words = data.split(b"\0")[:-1]
    if len(words) % 2:
        raise ValueError("an option without a value")
    return {words[i].decode("latin-1").lower(): int(words[i + 1]) for i in range(0, len(words), 2)}


def _failure(name: str, data: bytes) -> TftpError:
    code = struct.unpack("!H", data[2:4])[0]
    return TftpError(f"{name}: {data[4:].rstrip(bytes(1)).decode('latin-1') or 'TFTP error'} (code {code})", code)


def _nothing() -> None:
    pass


def fetch(
    server: str,
    name: str,
    *,
    blksize: int = 1408,
    seconds: float = 20.0,
    pause: Callable[[float], None] = time.sleep,
    source: str = "",
    asked_again: Callable[[], None] = _nothing,
) -> bytes:
    """Read a whole file. Raises ``TftpError``. ``pause(0)`` is called while waiting, so that a caller can break off.

    ``source`` is the address to ask from, where the machine has several; ``asked_again`` hears of every packet that had
    to be sent once more.
    """
    content = bytearray()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        if source:
            sock.bind((source, 0))
        last = encode_request(name, {"blksize": blksize, "tsize": 0})
        peer: tuple[str, int] = (server, PORT)
        sock.sendto(last, peer)
        size, expected, block_size = None, 1, 512
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                data, sender = sock.recvfrom(65536)
            except TimeoutError:
                pause(0)
                asked_again()
                sock.sendto(last, peer)
                continue
            if sender[0] != server or (peer[1] != PORT and sender != peer) or len(data) < 4:
                continue
            peer = sender
            opcode = struct.unpack("!H", data[:2])[0]
            if opcode == ERROR:
                raise _failure(name, data)
            if opcode == OACK and expected == 1:
                agreed = decode_oack(data[2:])
                block_size, size = agreed.get("blksize", 512), agreed.get("tsize")
                last = struct.pack("!HH", ACK, 0)
            elif opcode == DATA:
                number = struct.unpack("!H", data[2:4])[0]
                if number == expected & 0xFFFF:
                    content += data[4:]
                    expected += 1
                    deadline = time.monotonic() + seconds
                last = struct.pack("!HH", ACK, number)
                if len(data) - 4 < block_size and number == (expected - 1) & 0xFFFF:
                    sock.sendto(last, peer)
                    if size is not None and size != len(content):
                        raise TftpError(f"{name}: {len(content)} bytes came, {size} were announced")
                    return bytes(content)
            else:
                continue
            sock.sendto(last, peer)
            pause(0)
    raise TftpError(f"{name}: no answer from the TFTP server {server}")


def size_of(
    server: str,
    name: str,
    *,
    seconds: float = 10.0,
    pause: Callable[[float], None] = time.sleep,
    source: str = "",
    asked_again: Callable[[], None] = _nothing,
) -> int:
    """The size that the server announces, without reading the file, as mboot does first. Raises ``TftpError``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        if source:
            sock.bind((source, 0))
        request = encode_request(name, {"tsize": 0, "blksize": 1408})
        sock.sendto(request, (server, PORT))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                data, sender = sock.recvfrom(65536)
            except TimeoutError:
                pause(0)
                asked_again()
                sock.sendto(request, (server, PORT))
                continue
            opcode = struct.unpack("!H", data[:2])[0]
            if opcode == ERROR:
                raise _failure(name, data)
            if opcode == OACK and "tsize" in (agreed := decode_oack(data[2:])):
                # code 8 (RFC 2347) ends the transfer that was only asked for its size
                sock.sendto(struct.pack("!HH", ERROR, 8) + b"size is enough\0", sender)
                return agreed["tsize"]
    raise TftpError(f"{name}: no answer from the TFTP server {server}")
