# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences of many hosts: short, complete, and without what nobody should see."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import brief_of, fold_names, together
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results

KINDS = (("/b/hosts/", "boot file", "boot files"), ("/b/", "link", "links"), ("/s/", "status", "statuses"))


def test_files_are_counted_by_what_they_are():
    changes = [
        ("/b/hosts/x/1", None, "a"),
        ("/b/hosts/x/2", None, "a"),
        ("/b/01/boot.cfg", "-> a", "-> b"),
        ("/b/hosts/x/", None, ""),
        ("/s/x", "a", None),
        ("/else", None, "a"),
    ]
    assert brief_of(changes, KINDS) == "2 boot files, other file new; link changed; status removed"


def test_several_changes_to_a_file_are_one():
    assert brief_of([("/s/x", None, "a"), ("/s/x", "a", "b")], KINDS) == "status new"
    assert brief_of([("/s/x", "a", "b"), ("/s/x", "b", "a")], KINDS) == ""


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["a1.x", "a2.x", "a3.x", "a5.x"], ["a5.x", "a[1:3].x"]),
        (["a01.x", "a02.x"], ["a01.x", "a02.x"]),
        (["a08.x", "a09.x", "a10.x"], ["a[08:10].x"]),
        (["a9.x", "a10.x", "a11.x"], ["a10.x", "a11.x", "a9.x"]),
        (["esx1.b2.x", "esx2.b2.x", "esx3.b2.x", "esx3.b3.x"], ["esx3.b3.x", "esx[1:3].b2.x"]),
        (["r1-n1.x", "r1-n2.x", "r1-n3.x", "r2-n1.x"], ["r1-n[1:3].x", "r2-n1.x"]),
        (["one.x", "one.x", "two"], ["one.x", "two"]),
        ([], []),
    ],
)
def test_names_are_folded(names, folded):
    assert fold_names(names) == folded


def test_hosts_of_which_the_same_is_done_are_said_together():
    briefs = {f"esx{number:04}.example.com": "status new" for number in range(1000)}
    briefs["esx0500.example.com"] = "record changed"
    lines = together(briefs).splitlines()
    assert "1000 hosts differ" in lines[0] and "diff_limit: 0" in lines[1]
    assert lines[2:] == [
        "* 999 hosts: status new",
        "    esx[0000:0499].example.com, esx[0501:0999].example.com",
        "* 1 host: record changed",
        "    esx0500.example.com",
    ]


@pytest.mark.parametrize(("limit", "short"), [(2, True), (3, False), (0, False)])
def test_contents_are_made_only_when_they_are_shown(limit, short):
    results = Results()
    asked = []

    def full(name):
        asked.append(name)
        return [(name, "before\n", "after\n"), (name, "same\n", "same\n")]

    for name in ("a", "b", "c"):
        results.ok(name, changed=True, msg="x")
        results.diff_of_host(name, "status changed", lambda name=name: full(name))
    results.diff("files of all hosts", "", "x\n")
    diffs = results.as_return("fail", limit)["diff"]
    assert diffs[0]["after"] == "x\n"
    if short:
        assert asked == [] and len(diffs) == 2 and "3 hosts: status changed" in diffs[1]["prepared"]
    else:
        assert asked == ["a", "b", "c"] and [one["after"] for one in diffs[1:]] == ["after\n"] * 3
