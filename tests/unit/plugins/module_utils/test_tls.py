# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: reading, thumbprints, fetching and pinning, against the openssl command and real TLS."""

from __future__ import annotations

import socket
import ssl
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import (
    CertificateError,
    UnreachableError,
    fetch_certificate,
    first_certificate,
    pinned_context,
    sha1_thumbprint,
    sha256_thumbprint,
)
from ansible_collections.pxemanager.esxi.tests.support.certificates import HAVE_OPENSSL, Authority, Pair, tls_server

pytestmark = pytest.mark.skipif(not HAVE_OPENSSL, reason="the openssl command is not installed")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.esxi()


def connect(context: ssl.SSLContext, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context.wrap_socket(plain, server_hostname="127.0.0.1").close()


def test_thumbprints_are_those_of_openssl(pair: Pair) -> None:
    assert sha1_thumbprint(pair.pem) == pair.fingerprint("sha1")
    assert sha256_thumbprint(pair.pem) == pair.fingerprint("sha256")


@pytest.mark.parametrize(
    "written",
    [
        lambda pem: pem,
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: "subject=/CN=esx\n\n" + pem + "\n\n",
        lambda pem: pem.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n  "),
        lambda pem: pem.rstrip("\n"),
        lambda pem: "".join(
            [
                "-----BEGIN CERTIFICATE-----\n",
                pem.replace("-----BEGIN CERTIFICATE-----", "")
                .replace("-----END CERTIFICATE-----", "")
                .replace("\n", ""),
                "\n-----END CERTIFICATE-----\n",
            ]
        ),
    ],
    ids=["as it is", "CRLF", "text around", "indented", "no last line break", "one long line"],
)
def test_one_certificate_is_one_text_however_it_is_written(pair: Pair, written: t.Callable[[str], str]) -> None:
    assert first_certificate(written(pair.pem)) == first_certificate(pair.pem)


def test_only_the_first_of_a_chain_counts(authority: Authority, pair: Pair) -> None:
    assert first_certificate(pair.pem + authority.pair.pem) == first_certificate(pair.pem)
    assert first_certificate(authority.pair.pem + pair.pem) != first_certificate(pair.pem)


def test_what_is_no_certificate(pair: Pair) -> None:
    lines = pair.pem.splitlines(keepends=True)
    for text in (
        "",
        "esx01",
        pair.key.read_text(encoding="utf-8"),
        "".join(lines[:-1]),
        "".join(lines[:3] + lines[-1:]),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
    ):
        with pytest.raises(CertificateError):
            first_certificate(text)


def test_fetches_what_is_presented(pair: Pair) -> None:
    with tls_server(pair) as (port, received):
        assert fetch_certificate("127.0.0.1", port) == first_certificate(pair.pem)
    assert not any(received)


def test_who_does_not_answer_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"^Cannot connect to 127\.0\.0\.1:1 \(Connection refused\)\.$"):
        fetch_certificate("127.0.0.1", 1, timeout=2)
    with pytest.raises(UnreachableError, match=r"^The name esx\.invalid cannot be resolved here"):
        fetch_certificate("esx.invalid", timeout=2)
    with pytest.raises(UnreachableError, match="is no address or name"):
        fetch_certificate("a" * 300, timeout=2)


def test_who_does_not_speak_tls_or_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UnreachableError, match=rf"^Nothing answers at 127\.0\.0\.1:{port} within 0\.3 seconds\.$"):
            fetch_certificate("127.0.0.1", port, timeout=0.3)


def test_the_pinned_certificate_is_trusted_whatever_it_says(authority: Authority, pair: Pair) -> None:
    """Unknown issuer, another name, and for the second one its time is over."""
    for one in (pair, authority.esxi(days=-1)):
        with tls_server(one) as (port, _received):
            connect(pinned_context(one.pem), port)


def test_no_other_certificate_is_trusted(authority: Authority, pair: Pair) -> None:
    other = authority.esxi()
    with tls_server(other) as (port, _received):
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(pinned_context(pair.pem), port)
        # not even when the authority that signed both comes along in the reported text
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(pinned_context(pair.pem + authority.pair.pem), port)


def test_a_pin_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(CertificateError):
        pinned_context("")
