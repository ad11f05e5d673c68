# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-512 crypt against the vectors of its specification, and against whatever else of it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _sha512_crypt
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import sha512_crypt

LENGTHS = (0, 1, 7, 15, 16, 17, 63, 64, 65, 127, 128, 129)


def test_the_specifications_vector():
    assert sha512_crypt("Hello world!", "saltstring") == (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("length", LENGTHS[1:])
def test_openssl_agrees(length):
    password = ("aB3 $" * 30)[:length]
    for salt in ("x", "./09AZaz", "0123456789abcdef"):
        command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
        done = subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=True)
        assert sha512_crypt(password, salt) == done.stdout.strip()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("length", LENGTHS)
def test_the_c_library_agrees(length):
    crypt = pytest.importorskip("crypt")
    password = ("aB3 $\u00e4" * 30)[:length]
    for salt in ("x", "./09AZaz", "0123456789abcdef"):
        assert sha512_crypt(password, salt) == crypt.crypt(password, f"$6${salt}")


@pytest.mark.parametrize("salt", ["", "a" * 17, "a$b", "a b", "\u00e4"])
def test_a_salt_that_crypt_would_read_otherwise_is_refused(salt):
    with pytest.raises(ValueError, match="salt"):
        sha512_crypt("password", salt)


@pytest.mark.parametrize("answer", [None, b"", b"*0", b"abJnggxhB/yWI", b"$6$salt$short", b"$6$other$" + b"a" * 86])
def test_without_a_usable_crypt_it_is_computed_here(answer, monkeypatch):
    wanted = sha512_crypt("Hello world!", "salt")
    for crypt in (None, lambda _password, _setting: answer):
        monkeypatch.setattr(_sha512_crypt, "_crypt", crypt)
        assert sha512_crypt("Hello world!", "salt") == wanted


def test_a_password_does_not_end_at_a_null():
    assert sha512_crypt("a\0b", "salt") == _sha512_crypt._in_python("a\0b", "salt")
    assert sha512_crypt("a\0b", "salt") != sha512_crypt("a", "salt")


@pytest.mark.parametrize("length", LENGTHS)
def test_both_ways_agree(length):
    password = ("aB3 $\u00e4" * 30)[:length]
    assert sha512_crypt(password, "0123456789abcdef") == _sha512_crypt._in_python(password, "0123456789abcdef")
