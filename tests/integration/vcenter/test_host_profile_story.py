# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host from its first join to its reinstall, with its host profile, in the vCenter that the lab has as well."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

NAME = "esx01.example.com"
ADDRESS = "network.ipConfig.IpAddressPolicy.address"


@pytest.fixture
def place(site: t.Callable[..., t.Any], tmp_path: Path) -> t.Any:
    known = {
        "profiles": [
            {
                "name": "Production",
                "settings": {"NTP servers": "192.0.2.4"},
                "asks": [{"path": "network.ipConfig", "policy": "IpAddressPolicy", "parameter": "address"}],
            }
        ],
        "configured": ["DC0_C0"],
    }
    path = tmp_path / "profiles.json"
    path.write_text(json.dumps(known), encoding="utf-8")
    return site("-api-version", "8.0.3.0", gateway=["--profiles", str(path)])


def test_join_profile_reinstall_reconnect_profile(run_module, place) -> None:
    options = place.center.options()
    wanted = {"name": NAME, "profile": "Production", "answers": {"address": "198.51.100.21"}}

    joined = run_module("vcenter_add_host", **options, hosts=[place.host(NAME)])
    assert not joined.get("failed"), joined["msg"]
    first = run_module("vcenter_host_profile", **options, hosts=[wanted])
    assert first["hosts"][NAME]["action"] == "applied", first["msg"]
    assert not run_module("vcenter_host_profile", **options, hosts=[wanted])["changed"]

    place.reinstall(NAME)
    again = run_module("vcenter_add_host", **options, hosts=[place.definition(NAME)])
    assert not again.get("failed"), again["msg"]
    second = run_module("vcenter_host_profile", **options, hosts=[{"name": NAME, "profile": "Production"}])

    # profile and answers belong to the host's place in vCenter: only what was on its disk is lost
    one = second["hosts"][NAME]
    assert (one["action"], one["answers_written"], len(one["non_compliant"])) == ("applied", [], 2), second["msg"]
    assert not run_module("vcenter_host_profile", **options, hosts=[wanted])["changed"]


def test_a_host_that_joins_a_cluster_with_configuration_profiles(run_module, place) -> None:
    options = place.center.options()
    run_module("vcenter_add_host", **options, hosts=[place.host(NAME, cluster="DC0_C0")])
    before = len(place.center.calls())

    result = run_module("vcenter_host_profile", **options, hosts=[{"name": NAME, "profile": "Production"}])

    assert result["hosts"][NAME]["configuration_profile"] and "vSphere Configuration Profiles" in result["msg"]
    calls = place.center.calls()[before:]
    assert "AssociateProfile" not in calls and not [one for one in calls if one.endswith("_Task")]
