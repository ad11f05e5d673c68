# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._validity import read_certificate
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE


def test_it_says_what_a_library_says():
    found, known = read_certificate(CERTIFICATE), x509.load_pem_x509_certificate(CERTIFICATE.encode())
    assert found.sha256 == known.fingerprint(hashes.SHA256()).hex(":").upper()
    assert found.sha1 == known.fingerprint(hashes.SHA1()).hex(":").upper()
    assert found.not_before == known.not_valid_before_utc
    assert found.not_after == known.not_valid_after_utc


DER = ssl.PEM_cert_to_DER_cert(CERTIFICATE)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.integers(0, len(DER)))
def test_a_damaged_one_is_refused_or_read(place, byte, length):
    damaged = bytearray(DER)
    damaged[place] = byte
    with contextlib.suppress(ValueError):
        read_certificate(ssl.DER_cert_to_PEM_cert(bytes(damaged[:length])))


@pytest.mark.parametrize("text", ["", "x", ssl.DER_cert_to_PEM_cert(b"0\x83\xff\xff\xff")])
def test_what_is_none(text):
    with pytest.raises(ValueError):
        read_certificate(text)
