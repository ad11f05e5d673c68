# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results: one host's outcome neither hides nor spoils another's."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results


def test_every_host_has_its_own_result():
    results = Results()
    results.ok("a", changed=True, msg="a: done.", stage="armed")
    results.ok("b", changed=False, msg="b: left alone.")
    results.fail("c", "c has no disk.")
    value = results.as_return()
    assert value["hosts"]["a"] == {"changed": True, "failed": False, "msg": "a: done.", "stage": "armed"}
    assert value["hosts"]["b"]["changed"] is False
    assert value["hosts"]["c"] == {
        "changed": False,
        "failed": True,
        "msg": "c has no disk.",
        "reasons": ["c has no disk."],
    }
    assert (value["changed"], value["failed"], value["failed_hosts"]) == (True, True, ["c"])
    assert value["msg"] == "1 of 3 hosts failed: c: c has no disk."
    assert "diff" not in value


def test_report_leaves_failing_to_the_caller():
    results = Results()
    results.fail("c", "c has no disk.")
    value = results.as_return("report")
    assert (value["failed"], value["failed_hosts"]) == (False, ["c"])
    with pytest.raises(ValueError, match="on_host_failure"):
        results.as_return("ignore")


def test_a_failed_host_stays_failed_and_collects_its_reasons():
    results = Results()
    results.ok("a", changed=True, msg="a: published.")
    results.fail("a", ["One.", "Two."])
    results.fail("a", ["Two.", "Three."])
    results.ok("a", changed=False, msg="a: done.")
    host = results.hosts["a"]
    assert (host["failed"], host["changed"], host["reasons"]) == (True, True, ["One.", "Two.", "Three."])
    assert host["msg"] == "One. Two. Three."


def test_every_failed_host_is_named_with_its_reason():
    results = Results()
    for number in range(40):
        results.fail(f"esx{number:02d}", f"Reason {number}.")
    assert all(f"esx{number:02d}: Reason {number}." in results.summary() for number in range(40))


def test_no_name_is_said_twice():
    results = Results()
    results.fail("esx01", "esx01: disk is missing.")
    assert results.summary() == "1 of 1 hosts failed: esx01: disk is missing."


def test_a_change_of_no_single_host_is_a_change():
    results = Results()
    assert not results.changed
    results.shared_changed = True
    assert results.as_return()["changed"] is True


def test_only_real_differences_are_shown():
    results = Results()
    results.diff("a", "same\n", "same\n")
    results.diff("b", "old\n", "new\n")
    assert results.as_return()["diff"] == [
        {"before_header": "b", "after_header": "b", "before": "old\n", "after": "new\n"}
    ]
