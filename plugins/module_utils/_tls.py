# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: certificates as identities of hosts. Standard library only.

An ESXi host signs its own certificate when it is installed. No authority vouches for it: the certificate that the host
itself reported through pbconnect is the identity, so everything here compares or trusts one certificate, never a chain.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import socket
import ssl

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = [
    "CertificateError",
    "UnreachableError",
    "UnresolvableError",
    "fetch_certificate",
    "first_certificate",
    "pinned_context",
    "sha1_thumbprint",
    "sha256_thumbprint",
]

_PEM_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")

# Flags that OpenSSL has had since 1.1.0 and that Python names later than 3.9 (the first) or not at all (the second).
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000


class CertificateError(EsxiPxeError):
    """A text that should be a certificate is none."""


class UnreachableError(EsxiPxeError):
    """Nothing that speaks TLS answers at an address."""


class UnresolvableError(UnreachableError):
    """A name that means nothing here: trying again does not help."""


def first_certificate(text: str) -> str:
    """The first certificate of a PEM text, in Python's own line breaks, so that two PEMs of one certificate are equal.

    Only the first: a chain's further certificates belong to authorities, and trusting one of those would trust every
    host that it signed. Raises CertificateError when there is none.
    """
    match = _PEM_BLOCK.search(text)
    if match is None:
        raise CertificateError("The text is no PEM certificate: it has no BEGIN CERTIFICATE / END CERTIFICATE block.")
    try:
        der = binascii.a2b_base64(match.group(1))
    except binascii.Error as error:
        raise CertificateError(f"The PEM certificate is damaged: {error}.") from error
    # A DER certificate is one SEQUENCE whose length field covers all of it: this catches a block that was cut short,
    # which would otherwise be reported as "another certificate" or as an OpenSSL error number.
    if len(der) < 4 or der[0] != 0x30 or _der_length(der) != len(der):
        raise CertificateError("The PEM certificate is damaged: its content is cut short or is not a certificate.")
    return ssl.DER_cert_to_PEM_cert(der)


def _der_length(der: bytes) -> int:
    """Bytes that the outermost DER element says it takes, its header included."""
    if der[1] < 0x80:
        return 2 + der[1]
    octets = der[1] & 0x7F
    return 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")


def sha1_thumbprint(pem: str) -> str:
    """``AA:BB:...`` of the first certificate: what HostConnectSpec.sslThumbprint takes (SHA-1 in every API version).

    It names a certificate here, it does not protect anything: the module compares the whole certificate.
    """
    der = ssl.PEM_cert_to_DER_cert(first_certificate(pem))
    return _colons(hashlib.new("sha1", der, usedforsecurity=False).digest())


def sha256_thumbprint(pem: str) -> str:
    """``AA:BB:...`` of the first certificate with SHA-256: for messages, where people compare certificates by eye."""
    return _colons(hashlib.sha256(ssl.PEM_cert_to_DER_cert(first_certificate(pem))).digest())


def _colons(digest: bytes) -> str:
    return ":".join(f"{octet:02X}" for octet in digest)


def fetch_certificate(address: str, port: int = 443, *, timeout: float = 10.0) -> str:
    """The certificate (PEM) that a server presents, whatever it is; nothing is sent to the server.

    timeout: seconds for each of connecting and the handshake.
    Raises UnreachableError with a sentence when nobody answers there or what answers does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Not trusted here: the caller compares what comes back.
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=address) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise UnreachableError(
            f"What answers at {address}:{port} does not speak TLS ({error.reason or error})."
        ) from error
    except socket.gaierror as error:
        kind = UnreachableError if error.errno == socket.EAI_AGAIN else UnresolvableError
        raise kind(f"The name {address} cannot be resolved here ({error.strerror}).") from error
    except socket.timeout as error:
        raise UnreachableError(f"Nothing answers at {address}:{port} within {timeout:g} seconds.") from error
    except OSError as error:
        raise UnreachableError(f"Cannot connect to {address}:{port} ({error.strerror or error}).") from error
    except ValueError as error:
        raise UnreachableError(f"{address!r} is no address or name of a host.") from error
    if der is None:
        raise UnreachableError(f"What answers at {address}:{port} presents no certificate.")
    return ssl.DER_cert_to_PEM_cert(der)


def pinned_context(pem: str) -> ssl.SSLContext:
    """A client context that trusts the first certificate of ``pem`` and nothing else.

    The certificate itself is the trust anchor, so no authority is needed (partial chain) and the name in it does not
    matter (a fresh host's says localhost.localdomain). Its dates are not looked at either: the pin is the identity, and
    a freshly installed host whose clock is wrong issues itself a certificate that is not valid yet.
    Raises CertificateError when there is no certificate in the text.
    """
    anchor = first_certificate(pem)
    # Not create_default_context(): from Python 3.13 on that adds VERIFY_X509_STRICT, which refuses the certificates
    # that ESXi makes (no authority key identifier).
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        context.load_verify_locations(cadata=anchor)
    except ssl.SSLError as error:
        raise CertificateError(f"OpenSSL does not take the PEM certificate ({error.reason or error}).") from error
    return context
