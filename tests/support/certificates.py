# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates made with the openssl command, and a TLS server that presents one: for tests."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# A certificate of the kind that ESXi makes for itself, whose key is kept nowhere, and what `openssl x509 -fingerprint
# -sha1` says of it.
ESXI_PEM = """\
-----BEGIN CERTIFICATE-----
MIIBwTCCAWegAwIBAgIUS6F2iqOWIzMTZeLc8JNozG72sRIwCgYIKoZIzj0EAwIw
NjEUMBIGA1UECgwLVk13YXJlLCBJbmMxHjAcBgNVBAMMFWxvY2FsaG9zdC5sb2Nh
bGRvbWFpbjAeFw0yNjExMjIyMDU3MzNaFw00NjExMTcyMDU3MzNaMDYxFDASBgNV
BAoMC1ZNd2FyZSwgSW5jMR4wHAYDVQQDDBVsb2NhbGhvc3QubG9jYWxkb21haW4w
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATKVezk8hmyJ4ZzCrbkyWMKBj6isLjU
cah7q4SK1y7v37HhC/BrZMGl8tTfRMlnpHK/RwDv/UZp2wJW8OlDbLoco1MwUTAd
BgNVHQ4EFgQU7uSkJ5AqAhxmdpvfm8PkNwQBCb0wHwYDVR0jBBgwFoAU7uSkJ5Aq
Ahxmdpvfm8PkNwQBCb0wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBF
AiEAxOUj8lFdN0CqnR9pPTgd3Lr5MrS7qpFBNfhZoogNLb0CICSdJTVzhqhVhXyJ
1CYzQSirfCBJ+kY+jDRz+8ICoQfu
-----END CERTIFICATE-----
"""
ESXI_SHA1 = "45:E2:3B:5C:D0:A4:7C:F9:EB:19:D7:88:87:C2:64:72:13:A2:10:97"

HAVE_OPENSSL = shutil.which("openssl") is not None

# What ESXi's installer makes: no authority, a name that is nobody's, signed by an issuer that is nowhere to be found.
_ESXI_EXTENSIONS = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost.localdomain\n"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as files."""

    cert: Path
    key: Path

    @property
    def pem(self) -> str:
        return self.cert.read_text(encoding="utf-8")

    def fingerprint(self, digest: str) -> str:
        """As the openssl command prints it, ``AA:BB:...``: an opinion that is not ours."""
        return _openssl("x509", "-in", self.cert, "-noout", "-fingerprint", f"-{digest}").rpartition("=")[2].strip()


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._count = 0
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=Authority of the tests"),
            *("-keyout", self.pair.key, "-out", self.pair.cert),
        )

    def server(self, address: str = "127.0.0.1") -> Pair:
        """A certificate for a server at an address."""
        return self._issue(f"subjectAltName=IP:{address},DNS:localhost\n", days=3650)

    def esxi(self, *, days: int = 3650) -> Pair:
        """A certificate like that of a fresh ESXi host. days: -1 makes one whose time is over."""
        return self._issue(_ESXI_EXTENSIONS, days=days)

    def _issue(self, extensions: str, days: int) -> Pair:
        self._count += 1
        stem = self._folder / f"{self._count:03d}"
        pair = Pair(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        request, config = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        config.write_text(extensions, encoding="utf-8")
        subject = "/O=VMware, Inc/CN=localhost.localdomain"
        # An elliptic curve: making an RSA key takes longer than most tests.
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        _openssl("req", *kind, "-nodes", "-subj", subject, "-keyout", pair.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.pair.cert, "-CAkey", self.pair.key),
            *("-set_serial", str(self._count), "-days", str(days), "-sha256", "-extfile", config, "-out", pair.cert),
        )
        return pair


def _openssl(*arguments: t.Union[str, Path]) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return done.stdout


@contextmanager
def tls_server(pair: Pair, listen: tuple[str, int] = ("127.0.0.1", 0)) -> t.Iterator[tuple[int, list[bytes]]]:
    """Presents a certificate; yields the port, and what clients have sent after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pair.cert), str(pair.key))
    received: list[bytes] = []

    def one(plain: socket.socket) -> None:
        with plain, suppress(OSError):
            plain.settimeout(5)
            with context.wrap_socket(plain, server_side=True) as secure:
                received.append(secure.recv(65536))

    def loop() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(listen, backlog=128)
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], received
    finally:
        # shutdown() and not only close(): accept() in the other thread does not notice the latter
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
