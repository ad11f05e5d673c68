# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: the record of one install, with its secrets.

Pure: reads no clock and no file.

Two secrets belong to an install. The key is part of the kickstart's address and is in the boot files, which anyone on
the provisioning network can read: it only keeps others from guessing addresses. The token is made when the kickstart
is handed out, is inside it, and is what a notification is believed for; only its hash is kept. Neither may ever be
logged.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import hmac
import re
import secrets
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    SCHEMA,
    SchemaError,
    read_list,
    read_mapping,
    read_optional_text,
    read_schema,
    read_text,
    read_time,
    timestamp,
)

__all__ = ("MAX_TOKENS", "Install", "Random", "TokenHash", "token_host")

#: n random bytes, as :func:`secrets.token_bytes` gives them.
Random = t.Callable[[int], bytes]

# An installer asks once for its kickstart, a person who looks at it a few times more; the record must stay small.
MAX_TOKENS: t.Final = 16

_KEY = re.compile(r"\A[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"\A[0-9a-f]{64}\Z")
# "~" is in no host name and in no base64 alphabet, and means nothing to a URL, to HTTP or inside shell quotes.
_TOKEN = re.compile(r"\A([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)~[A-Za-z0-9_-]{43}\Z")


def token_host(token: str) -> str | None:
    """The host that a token claims to be of, None for what cannot be a token.

    Proves nothing: see :meth:`Install.verify`. The name is carried in the token so that finding the
    record takes one open, however many hosts there are.
    """
    match = _TOKEN.match(token)
    if match is None or ".." in match.group(1):
        return None
    return match.group(1)


@dataclasses.dataclass(frozen=True)
class TokenHash:
    """What is kept of a token: its SHA-256 in hexadecimal, for which MAC and when it was handed out."""

    sha256: str
    mac: str
    minted_at: str

    @classmethod
    def from_json(cls, value: object) -> TokenHash:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "a token")
        digest = read_text(document, "sha256")
        if not _SHA256.match(digest):
            raise SchemaError("a token's 'sha256' is not a SHA-256 in hexadecimal")
        return cls(digest, read_text(document, "mac"), read_time(document, "minted_at"))

    def to_json(self) -> dict[str, object]:
        return {"sha256": self.sha256, "mac": self.mac, "minted_at": self.minted_at}


@dataclasses.dataclass(frozen=True)
class Install:
    """One attempt to install one host, from arming to V(ready).

    :ivar install: its id, time of arming and a random part: sorts by time, never repeats.
    :ivar key: 32 hexadecimal digits, None once the install is void.
    :ivar macs: the host's MAC addresses as aa:bb:cc:dd:ee:ff.
    :ivar addresses: IP addresses that may fetch the kickstart and notify.
    """

    host: str
    install: str
    key: str | None = dataclasses.field(repr=False)
    armed_at: str
    expires_at: str
    request: str | None
    macs: tuple[str, ...]
    addresses: tuple[str, ...]
    tokens: tuple[TokenHash, ...] = dataclasses.field(default=(), repr=False)

    @classmethod
    def new(
        cls,
        host_name: str,
        macs: t.Sequence[str],
        addresses: t.Sequence[str],
        request: str | None,
        now: datetime.datetime,
        ttl: float,
        rng: Random = secrets.token_bytes,
    ) -> Install:
        """A new install with a key of its own.

        :arg ttl: seconds until the arming expires.
        :arg rng: for tests only; anything but the default makes the key guessable.
        """
        armed_at = timestamp(now)
        stamp = armed_at.replace("-", "").replace(":", "")
        return cls(
            host=host_name,
            install=f"{stamp}-{rng(3).hex()}",
            key=rng(16).hex(),
            armed_at=armed_at,
            expires_at=timestamp(now + datetime.timedelta(seconds=ttl)),
            request=request,
            macs=tuple(macs),
            addresses=tuple(addresses),
        )

    @property
    def is_void(self) -> bool:
        return self.key is None

    def void(self) -> Install:
        """The same install, whose key and tokens nobody can use any more."""
        return dataclasses.replace(self, key=None, tokens=())

    def key_matches(self, key: str) -> bool:
        """Whether `key` is this install's. Takes the same time for every wrong key."""
        return self.key is not None and hmac.compare_digest(self.key.encode(), key.encode("utf-8", "replace"))

    def mint(self, mac: str, now: datetime.datetime, rng: Random = secrets.token_bytes) -> tuple[Install, str]:
        """The record with one token more, and that token, which is kept nowhere else. The oldest of many is dropped.

        :raises ValueError: for a void install or a MAC that is not the host's.
        """
        if self.is_void:
            raise ValueError(f"the install {self.install} is void")
        if mac not in self.macs:
            raise ValueError(f"{mac} is not a MAC address of {self.host}")
        token = f"{self.host}~{base64.urlsafe_b64encode(rng(32)).decode().rstrip('=')}"
        digest = TokenHash(_digest(token), mac, timestamp(now))
        return dataclasses.replace(self, tokens=(*self.tokens, digest)[-MAX_TOKENS:]), token

    def verify(self, token: str) -> TokenHash | None:
        """What is known of `token` if it is one of this install's, else None."""
        digest = _digest(token)
        found: TokenHash | None = None
        for known in self.tokens:
            if hmac.compare_digest(known.sha256, digest):
                found = known
        return found

    @classmethod
    def from_json(cls, value: object) -> Install:
        """Read a decoded install record. Keys that this version does not know are left out, not refused.

        :raises SchemaError: if a known key has a value that :meth:`to_json` cannot have written.
        """
        document = read_mapping(value, "the install record")
        read_schema(document, "the install record")
        key = read_optional_text(document, "key")
        if key is not None and not _KEY.match(key):
            raise SchemaError("'key' is not 32 hexadecimal digits")
        return cls(
            host=read_text(document, "host"),
            install=read_text(document, "install"),
            key=key,
            armed_at=read_time(document, "armed_at"),
            expires_at=read_time(document, "expires_at"),
            request=read_optional_text(document, "request"),
            macs=_texts(document, "macs"),
            addresses=_texts(document, "addresses"),
            tokens=tuple(TokenHash.from_json(token) for token in read_list(document, "tokens")),
        )

    def to_json(self) -> dict[str, object]:
        """A document that JSON can carry. It holds the key: not for logs, not for a module's result."""
        return {
            "schema": SCHEMA,
            "host": self.host,
            "install": self.install,
            "key": self.key,
            "armed_at": self.armed_at,
            "expires_at": self.expires_at,
            "request": self.request,
            "macs": list(self.macs),
            "addresses": list(self.addresses),
            "tokens": [token.to_json() for token in self.tokens],
        }


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _texts(document: t.Mapping[str, object], key: str) -> tuple[str, ...]:
    return tuple(read_text({key: item}, key) for item in read_list(document, key))
