# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: SHA-512 crypt with a given salt.

After Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512", with the default number of rounds.

Ansible's own hashing cannot be used for this: what it makes of a salt, and of the number of rounds, differs between
ansible-core 2.19 (passlib, which must be installed) and 2.21 (libxcrypt, which takes the salt for random input). The
same play run from two controllers would rewrite every kickstart.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import typing as t

__all__ = ["is_sha512_crypt", "sha512_crypt"]

_ROUNDS = 5000
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


_HASH = re.compile(r"\$6\$(?:rounds=[1-9][0-9]{3,8}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}\Z")


def is_sha512_crypt(text: str) -> bool:
    """Whether the text has the form of such a hash, with whatever number of rounds."""
    return _HASH.match(text) is not None


def _repeat(digest: bytes, length: int) -> bytes:
    return (digest * (length // 64 + 1))[:length]


def _load_crypt() -> t.Optional[t.Callable[[bytes, bytes], t.Optional[bytes]]]:
    """The C library's crypt(3), where there is one."""
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            # (PyDLL: it returns a buffer of its own, so no other thread may run meanwhile.)
            function = ctypes.PyDLL(name).crypt
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        function.restype = ctypes.c_char_p
        return t.cast("t.Callable[[bytes, bytes], t.Optional[bytes]]", function)
    return None


_crypt = _load_crypt()


def sha512_crypt(password: str, salt: str) -> str:
    """``$6$salt$...`` with the default 5000 rounds. ``salt``: up to 16 characters of ``./0-9A-Za-z``.

    A third of the time goes where the C library can do it: with a salt for each of a thousand hosts that is seconds.
    """
    if not 1 <= len(salt) <= 16 or not set(salt) <= set(_ALPHABET):
        raise ValueError("the salt must be 1 to 16 characters of ./0-9A-Za-z")
    if _crypt is not None and "\0" not in password:
        found = (_crypt(password.encode("utf-8"), f"$6${salt}".encode("ascii")) or b"").decode("ascii", "replace")
        # One that does not know this method, or must not use it, says so by something else.
        if found.startswith(f"$6${salt}$") and is_sha512_crypt(found):
            return found
    return _in_python(password, salt)


def _in_python(password: str, salt: str) -> str:
    word, grain = password.encode("utf-8"), salt.encode("ascii")
    other = hashlib.sha512(word + grain + word).digest()
    start = hashlib.sha512(word + grain + _repeat(other, len(word)))
    bits = len(word)
    while bits:
        start.update(other if bits & 1 else word)
        bits >>= 1
    digest = start.digest()
    words = _repeat(hashlib.sha512(word * len(word)).digest(), len(word))
    grains = _repeat(hashlib.sha512(grain * (16 + digest[0])).digest(), len(grain))
    # What stands beside the digest depends on the round's number modulo 42 alone: joined once, used 5000 times.
    middles = [(grains if number % 3 else b"") + (words if number % 7 else b"") for number in range(42)]
    befores = [words + middle for middle in middles]
    afters = [middle + words for middle in middles]
    sha512 = hashlib.sha512
    for number in range(_ROUNDS):
        place = number % 42
        digest = sha512(befores[place] + digest if number & 1 else digest + afters[place]).digest()
    return f"$6${salt}${_encode(digest)}"


def _encode(digest: bytes) -> str:
    """crypt's own base 64: three octets at a time, from places 0, 21 and 42 on, each group's order turned by one."""
    letters: list[str] = []
    first, second, third = 0, 21, 42
    for _group in range(21):
        value = digest[first] << 16 | digest[second] << 8 | digest[third]
        letters.extend(_ALPHABET[value >> shift & 63] for shift in (0, 6, 12, 18))
        first, second, third = second + 1, third + 1, first + 1
    letters.extend(_ALPHABET[digest[63] >> shift & 63] for shift in (0, 6))
    return "".join(letters)
