# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: what a host's certificate says, with Python's own library alone.

A PXE server has no cryptography library, and Python's ssl module tells the dates of certificate authorities only. So
the few fields down to the dates are walked through here, as RFC 5280 section 4.1 lays them out.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ssl

__all__ = ("Certificate", "read_certificate")

_SEQUENCE, _INTEGER, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


@dataclasses.dataclass(frozen=True)
class Certificate:
    """`sha256` and `sha1` are thumbprints with colons, as vCenter and browsers show them. Times are in UTC."""

    sha256: str
    sha1: str
    not_before: datetime.datetime
    not_after: datetime.datetime


def read_certificate(pem: str) -> Certificate:
    """:raises ValueError: this is no certificate."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    certificate = _Reader(der).enter(_SEQUENCE).enter(_SEQUENCE)
    if certificate.peek() == _VERSION:
        certificate.take(_VERSION)
    certificate.take(_INTEGER)  # serial number
    certificate.take(_SEQUENCE)  # algorithm of the signature
    certificate.take(_SEQUENCE)  # issuer
    validity = certificate.enter(_SEQUENCE)
    return Certificate(_colons("sha256", der), _colons("sha1", der), validity.time(), validity.time())


def _colons(algorithm: str, der: bytes) -> str:
    return hashlib.new(algorithm, der, usedforsecurity=False).digest().hex(":").upper()


class _Reader:
    """Walks through DER: a byte of type, a length in one of two forms, the contents."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def peek(self) -> int:
        if not self._data:
            raise ValueError("the certificate ends too early")
        return self._data[0]

    def take(self, wanted: int) -> bytes:
        if self.peek() != wanted or len(self._data) < 2:
            raise ValueError("the certificate is not laid out as one")
        length, begin = self._data[1], 2
        if length >= 0x80:
            begin += length - 0x80
            length = int.from_bytes(self._data[2:begin], "big")
        if begin > 6 or begin + length > len(self._data):
            raise ValueError("the certificate ends too early")
        value, self._data = self._data[begin : begin + length], self._data[begin + length :]
        return value

    def enter(self, wanted: int) -> _Reader:
        return _Reader(self.take(wanted))

    def time(self) -> datetime.datetime:
        kind = self.peek()
        if kind == _UTC_TIME:
            text = self.take(kind).decode("ascii", "replace")
            # RFC 5280: years from 50 on are of the last century.
            text = ("19" if text[:2] >= "50" else "20") + text
        else:
            text = self.take(_GENERALIZED_TIME).decode("ascii", "replace")
        return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
