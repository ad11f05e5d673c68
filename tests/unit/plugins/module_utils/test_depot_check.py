# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What post actions take from depots of the PXE server is looked for before the host is published."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_check import DepotCheck
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts

BUNDLE = {
    "schema": 1,
    "name": "patch",
    "kind": "bundle",
    "profiles": ["ESXi-8.0U3-standard", "ESXi-8.0U3-no-tools"],
    "vibs": [{"name": "nmlx5-core", "file": "vib20/nmlx5.vib"}, {"name": "esx-base", "file": "vib20/base.vib"}],
}
SINGLE = {"schema": 1, "name": "nic", "kind": "vib", "profiles": [], "vibs": [{"name": "nic", "file": "nic.vib"}]}


@pytest.fixture
def problems(tmp_path):
    (tmp_path / "depots").mkdir()
    for depot in (BUNDLE, SINGLE):
        (tmp_path / "depots" / f"{depot['name']}.json").write_text(json.dumps(depot))
    (tmp_path / "depots/torn.json").write_text("{")

    def ask(*actions, root=tmp_path):
        parsed = parse_hosts(
            [
                {
                    "name": "esx01.example.com",
                    "macs": ["00:50:56:00:00:01"],
                    "network": {"address": "192.168.77.21/24"},
                    "image": "esxi-8.0.3",
                    "disk": {"device": "mpx.vmhba0:C0:T0:L0"},
                    "post_actions": list(actions),
                }
            ]
        )
        assert not parsed.errors
        (host,) = parsed.hosts.values()
        return DepotCheck(str(root)).problems(host)

    return ask


def test_what_is_there_is_no_problem(problems):
    assert not problems(
        {"vib": {"depot": "patch", "vib_name": ["nmlx5-core", "esx-base"]}},
        {"vib": {"depot": "nic", "file": "nic.vib"}},
        {"depot": "patch"},
        {"component": "patch"},
        {"profile": {"depot": "patch", "profile": "ESXi-8.0U3-standard"}},
        {"vib": "http://elsewhere.example.com/x.vib"},
        {"depot": "/vmfs/volumes/ds/x.zip"},
        {"shell": "true"},
    )


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (
            {"depot": "drivers"},
            "drivers, which this PXE server does not have (it has nic, patch, torn); import",
        ),
        (
            {"vib": {"depot": "patch", "vib_name": "x"}},
            "wants the VIB x of the depot patch, which has nmlx5-core, ",
        ),
        ({"vib": {"depot": "nic", "file": "y.vib"}}, "wants the VIB file y.vib of the depot nic, which has nic.vib"),
        ({"depot": "nic"}, "is a single VIB; write vib with depot: nic and file: nic.vib."),
        (
            {"profile": {"depot": "patch", "profile": "X"}},
            "wants the image profile X of the depot patch, which has",
        ),
        ({"component": "torn"}, "whose description cannot be read"),
    ],
)
def test_what_is_missing_is_named(problems, action, says):
    (sentence,) = problems({**action, "name": "the drivers"})
    assert sentence.startswith("esx01.example.com: the post action the drivers ")
    assert says in sentence


def test_everything_is_told_at_once_and_a_server_without_depots_says_so(problems, tmp_path):
    found = problems({"depot": "a"}, {"depot": "b"}, root=tmp_path / "nothing")
    assert len(found) == 2
    assert all("does not have (it has none)" in sentence for sentence in found)
