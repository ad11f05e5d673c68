# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vSphere modules take for each host."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_options import is_host_name, parse_each


@pytest.mark.parametrize("name", ["esx01", "esx01.example.com", "ESX_1", "192.168.77.21", "2001:db8::1", "::1"])
def test_names_of_hosts(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "a b", "esx\n", ".esx", "esx/1", "esx:1", "-x", "a" * 256, "ésx", "<x>"])
def test_names_that_no_host_has(name: str) -> None:
    assert not is_host_name(name)


class TestParseEach:
    @staticmethod
    def parse(options: t.Mapping[str, t.Any]) -> str:
        if options.get("bad"):
            raise DefinitionError(["One.", "Two."])
        return f"parsed {options['name']}"

    def test_sound_ones_in_order_and_mistakes_by_name(self) -> None:
        results = Results()
        parsed = parse_each([{"name": "b"}, {"name": "a", "bad": True}, {"name": "c"}], self.parse, results)
        assert parsed == ["parsed b", "parsed c"]
        assert results.hosts["a"]["reasons"] == ["One.", "Two."]
        assert list(results.hosts) == ["a"]

    def test_a_name_given_twice_is_neither(self) -> None:
        results = Results()
        parsed = parse_each([{"name": "a"}, {"name": "A"}, {"name": "b"}, {"name": "a"}], self.parse, results)
        assert parsed == ["parsed b"]
        assert results.failed_hosts == ["A", "a"]
