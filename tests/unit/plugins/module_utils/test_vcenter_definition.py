# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vcenter_add_host is asked for one host, and every mistake in it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM

SOUND = {
    "name": "esx01.example.com",
    "password": "secret",
    "certificate": ESXI_PEM,
    "datacenter": "Berlin",
    "cluster": "Production",
}


def errors(**changes: t.Any) -> t.Sequence[str]:
    with pytest.raises(DefinitionError) as caught:
        HostToAdd.parse({**SOUND, **changes})
    return caught.value.errors


class TestParse:
    def test_defaults(self) -> None:
        host = HostToAdd.parse(SOUND)
        assert (host.address, host.port, host.username) == ("esx01.example.com", 443, "root")
        assert (host.cluster, host.folder, host.trust_on_first_use) == ("Production", None, False)
        assert (host.reconnect, host.move, host.create_folders, host.leave_maintenance) == (True, True, False, False)
        assert (host.license, host.lockdown_mode) == (None, None)

    def test_secrets_are_not_shown(self) -> None:
        shown = repr(HostToAdd.parse({**SOUND, "license": "AAAAA-BBBBB"}))
        assert "secret" not in shown and "AAAAA" not in shown

    def test_all_mistakes_at_once(self) -> None:
        found = errors(name="a b", password="", datacenter=None, folder="/", port=70000, certificate="x")
        assert len(found) == 7  # the address is the name

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"address": "not an address"}, "address 'not an address' is no host name or IP address."),
            ({"port": 0}, "port 0 is not between 1 and 65535."),
            ({"cluster": None}, "Exactly one of cluster and folder must be given"),
            ({"folder": "Edge"}, "Exactly one of cluster and folder must be given"),
            ({"certificate": "x"}, "certificate: The text is no PEM certificate"),
            ({"certificate": None}, "No certificate is given."),
            ({"certificate": ""}, "No certificate is given."),
            ({"lockdown_mode": "total"}, "lockdown_mode 'total' is none of disabled, normal, strict."),
            # a damaged certificate is a mistake, and not a reason to trust anybody
            ({"certificate": "x", "trust_on_first_use": True}, "certificate: The text is no PEM certificate"),
        ],
    )
    def test_mistakes(self, changes: dict[str, t.Any], sentence: str) -> None:
        (found,) = errors(**changes)
        assert found.startswith(sentence)

    def test_no_certificate_when_anybody_is_to_be_trusted(self) -> None:
        assert HostToAdd.parse({**SOUND, "certificate": None, "trust_on_first_use": True}).certificate is None
