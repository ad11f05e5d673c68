# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install: the key, the tokens, and what is left of them when it is void."""

from __future__ import annotations

import datetime
import json

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import MAX_TOKENS, Install, token_host
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import SchemaError

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
MAC = "00:50:56:aa:bb:01"


def new(name: str = "esx01.example.com") -> Install:
    return Install.new(name, [MAC, "00:50:56:aa:bb:02"], ["192.168.77.21"], "ticket 7", NOW, 86400)


def test_a_new_install_has_its_own_id_and_key() -> None:
    one, other = new(), new()
    assert one.install.startswith("20261122T200000Z-")
    assert one.key is not None
    assert len(one.key) == 32
    assert one.key != other.key
    assert one.install != other.install
    assert (one.armed_at, one.expires_at) == ("2026-11-22T20:00:00Z", "2026-11-23T20:00:00Z")
    assert (one.host, one.request, one.addresses) == ("esx01.example.com", "ticket 7", ("192.168.77.21",))


def test_given_randomness_is_used() -> None:
    install = Install.new("a.b", [MAC], [], None, NOW, 60, rng=lambda n: b"\x01" * n)
    assert (install.install, install.key) == ("20261122T200000Z-010101", "01" * 16)


def test_a_key_is_known_by_its_own_install_only() -> None:
    install = new()
    assert install.key is not None
    assert install.key_matches(install.key)
    for wrong in ("", "0" * 32, install.key.upper() + "x", install.key[:-1], "\u20ac" * 32, "\udce4"):
        assert not install.key_matches(wrong)


def test_a_token_is_known_by_its_own_install_only() -> None:
    install, token = new().mint(MAC, NOW)
    found = install.verify(token)
    assert found is not None
    assert (found.mac, found.minted_at) == (MAC, "2026-11-22T20:00:00Z")
    other, _unused = new().mint(MAC, NOW)
    assert other.verify(token) is None
    for wrong in ("", token[:-1], token + "x", token.upper(), "\udce4"):
        assert install.verify(wrong) is None


def test_each_hand_out_has_its_own_token_and_the_earlier_ones_stay_good() -> None:
    install, first = new().mint(MAC, NOW)
    install, second = install.mint("00:50:56:aa:bb:02", NOW)
    assert first != second
    assert install.verify(first) is not None
    assert install.verify(second) is not None


def test_only_the_newest_tokens_are_kept() -> None:
    install = new()
    tokens = []
    for _number in range(MAX_TOKENS + 1):
        install, token = install.mint(MAC, NOW)
        tokens.append(token)
    assert len(install.tokens) == MAX_TOKENS
    assert install.verify(tokens[0]) is None
    assert all(install.verify(token) for token in tokens[1:])


def test_no_token_for_a_strange_mac_or_a_void_install() -> None:
    with pytest.raises(ValueError, match="not a MAC address of"):
        new().mint("00:50:56:00:00:00", NOW)
    with pytest.raises(ValueError, match="void"):
        new().void().mint(MAC, NOW)


def test_nothing_works_after_an_install_is_void() -> None:
    install, token = new().mint(MAC, NOW)
    assert install.key is not None
    void = install.void()
    assert void.is_void
    assert not install.is_void
    assert void.verify(token) is None
    assert not void.key_matches(install.key)
    assert Install.from_json(json.loads(json.dumps(void.to_json()))) == void


def test_a_token_names_its_host() -> None:
    _install, token = new("esx-01.lab.example.com").mint(MAC, NOW)
    assert token_host(token) == "esx-01.lab.example.com"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "esx01.example.com",
        "~" + "a" * 43,
        "esx01~" + "a" * 42,
        "esx01~" + "a" * 44,
        "esx01~" + "a" * 42 + "\n",
        "../../etc/passwd~" + "a" * 43,
        "a..b~" + "a" * 43,
        ".hidden~" + "a" * 43,
        "a/b~" + "a" * 43,
        "ESX01~" + "a" * 43,
        "x" * 254 + "~" + "a" * 43,
        "a\x00b~" + "a" * 43,
    ],
)
def test_what_is_no_token_names_nobody(token: str) -> None:
    assert token_host(token) is None


def test_a_record_survives_its_file_and_holds_no_token() -> None:
    install, token = new().mint(MAC, NOW)
    text = json.dumps(install.to_json())
    assert token not in text
    assert token.split("~")[1] not in text
    assert Install.from_json(json.loads(text)) == install
    assert "later" not in Install.from_json({**json.loads(text), "later": 1}).to_json()


def test_secrets_are_not_in_the_repr() -> None:
    install, token = new().mint(MAC, NOW)
    assert install.key is not None
    shown = repr(install)
    assert install.key not in shown
    assert install.tokens[0].sha256 not in shown
    assert token not in shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("host", 1),
        ("install", None),
        ("key", "short"),
        ("key", "G" * 32),
        ("armed_at", "now"),
        ("expires_at", None),
        ("macs", "00:50:56:aa:bb:01"),
        ("macs", [1]),
        ("addresses", {}),
        ("tokens", ["x"]),
        ("tokens", [{"sha256": "x", "mac": MAC, "minted_at": "2026-11-22T20:00:00Z"}]),
    ],
)
def test_a_document_that_is_not_ours_is_refused(key: str, value: object) -> None:
    with pytest.raises(SchemaError):
        Install.from_json({**new().to_json(), key: value})


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(SchemaError):
        Install.from_json(["x"])
