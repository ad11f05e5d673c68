# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left over, and what of it may be taken off: whatever is doubtful stays."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._reconcile import (
    Wanted,
    asked_names,
    choose,
    compare,
    table,
)


def there(*hosts, leftovers=(), problems=()):
    """What esxi_pxe_host_info returns; a host is a name, or a name with what is special about it."""
    listed = {}
    for one in hosts:
        name, special = one if isinstance(one, tuple) else (one, {})
        listed[name] = {
            "name": name,
            "owner": "",
            "macs": ["00:50:56:aa:01:01"],
            "address": "192.0.2.1",
            "image": "esxi-8",
            "mode": "local",
            "stage": "ready",
            "since": "2026-11-20T10:00:00Z",
            "age": 400000,
            "last_heard": None,
            "heard_age": None,
            "problems": [],
            **special,
        }
    return {"hosts": listed, "leftovers": list(leftovers), "problems": list(problems)}


def wanted(*names, server="pxe01", **more):
    return [Wanted(name, server, **more) for name in names]


def report(inventory, owners=("",), **found):
    return compare(inventory, found, owners)


def test_equal_is_in_order():
    one = report(wanted("a", "b"), pxe01=there("a", "b"))["pxe01"]
    assert one.in_order and table(one)[-1] == "  all as in the inventory"
    assert (one.published, one.wanted) == (2, 2)


def test_left_over_missing_and_on_another_server():
    found = report(
        [*wanted("a", "b", "c"), *wanted("d", server="pxe02")], pxe01=there("a", "d", "x"), pxe02=there("b", "y")
    )
    one, two = found["pxe01"], found["pxe02"]
    assert [(left.name, left.moved_to) for left in one.left] == [("d", "pxe02"), ("x", None)]
    assert dict(one.missing) == {"b": "pxe02", "c": None}
    assert [(left.name, left.moved_to) for left in two.left] == [("b", "pxe01"), ("y", None)]
    assert dict(two.missing) == {"d": "pxe01"}


def test_differences_are_said_when_they_are_known():
    inventory = [
        Wanted("a", "pxe01", macs=frozenset({"005056aa0101"}), address="192.0.2.1", image="esxi-8"),
        Wanted("b", "pxe01", macs=frozenset({"005056aa0202"}), address="192.0.2.9", image="esxi-9"),
        Wanted("c", "pxe01"),
    ]
    one = report(inventory, pxe01=there("a", "b", "c"))["pxe01"]
    assert dict(one.differing) == {
        "b": (
            "MAC addresses 00:50:56:aa:01:01, in the inventory 00:50:56:aa:02:02",
            "address 192.0.2.1, in the inventory 192.0.2.9",
            "image esxi-8, in the inventory esxi-9",
        )
    }


def test_hosts_of_other_labels_are_nobodys_business():
    berlin, oslo = {"owner": "berlin"}, {"owner": "oslo"}
    found = report(
        wanted("a", "b", owner="berlin"),
        ("berlin",),
        pxe01=there(("a", berlin), ("x", berlin), ("y", oslo), ("b", oslo), "z"),
    )
    one = found["pxe01"]
    assert [left.name for left in one.left] == ["x"]
    assert dict(one.others) == {"oslo": 2, "": 1} and dict(one.conflicts) == {"b": "oslo"} and not one.missing
    choice = choose(found, ["y", "z"], 9)
    assert not choice.names and "label oslo" in choice.refused["y"] and "no label" in choice.refused["z"]
    # and the other way round: who has no label does not see those that have one
    assert [left.name for left in report([], ("",), pxe01=there(("x", oslo), "z"))["pxe01"].left] == ["z"]


def test_problems_and_leftovers():
    left = {"kind": "host", "name": "k", "msg": "k is left."}
    known = {"kind": "host", "name": "a", "msg": "a is left."}
    link = {"kind": "link", "name": "00:50:56:aa:09:09", "msg": "a link."}
    found = report(
        wanted("a"),
        pxe01=there(("b", {"problems": ["b is broken."]}), leftovers=[left, known, link], problems=["dhcp."]),
    )
    one = found["pxe01"]
    assert one.problems == ("dhcp.", "b is broken.", "k is left.", "a is left.", "a link.")
    assert [left.name for left in one.left] == ["b", "k"]
    assert choose(found, ["k"], 1).names == {"pxe01": ("k",)}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("", []),
        (None, []),
        ("A.example.com, b.example.com.", ["a.example.com", "b.example.com"]),
        (["a", "a"], ["a"]),
        ("all", ["all"]),
        (("a",), ["a"]),
    ],
)
def test_what_is_asked_for(given, names):
    assert asked_names(given) == names


@pytest.mark.parametrize("given", [True, "true", "yes", [True], "a,,b", "all,a", False, {"a": 1}, 1])
def test_what_is_no_name_is_refused(given):
    if given == {"a": 1}:
        assert asked_names(given) == ["{'a': 1}"]  # nobody's name, so nobody is meant
        return
    with pytest.raises(ValueError, match="esxi_reconcile_remove"):
        asked_names(given)


def test_names_are_removed_where_they_are_left_over():
    found = report([*wanted("a"), *wanted("d", server="pxe02")], pxe01=there("a", "d", "x"), pxe02=there("d", "x"))
    choice = choose(found, ["x", "d", "a", "nowhere"], 9)
    assert choice.names == {"pxe01": ("d", "x"), "pxe02": ("x",)}
    # x counts once; d is where it belongs on pxe02; a name that is nowhere is done already
    assert set(choice.refused) == {"a", "d"} and "run the playbook retire" in choice.refused["a"]


def test_no_more_than_were_meant():
    found = report(wanted("a"), pxe01=there("a", "x", "y"))
    assert "esxi_reconcile_max is 1" in choose(found, ["all"], 1).problem
    assert not choose(found, ["x", "y"], 1).names
    assert choose(found, ["all"], 2).names == {"pxe01": ("x", "y")}


@pytest.mark.parametrize("stage", ["armed", "installing", "installed"])
def test_all_does_not_mean_hosts_that_somebody_waits_for(stage):
    found = report(wanted("a"), pxe01=there("a", ("x", {"stage": stage}), ("y", {"stage": "failed"})))
    choice = choose(found, ["all"], 9)
    assert choice.names == {"pxe01": ("y",)} and f"x is {stage}" in choice.refused["x"]
    assert choose(found, ["x"], 1).names == {"pxe01": ("x",)}


def test_without_a_vcenter_each_must_be_named():
    found = report(wanted("a"), pxe01=there("a", "x"))
    choice = choose(found, ["all"], 9, can_ask=False)
    assert not choice.names and "has no vCenter to ask" in choice.refused["x"]
    assert choose(found, ["x"], 9, can_ask=False).names == {"pxe01": ("x",)}


def test_an_inventory_without_hosts_proves_nothing():
    found = report(wanted("a", server="pxe02"), pxe01=there("x"), pxe02=there("a"))
    assert "a broken inventory" in choose(found, ["all"], 9).problem
    assert choose(found, ["x"], 9).names == {"pxe01": ("x",)}


def test_a_part_of_an_inventory_proves_nothing_at_all():
    found = report(wanted("a"), pxe01=there("a", "x"))
    for names in (["all"], ["x"]):
        choice = choose(found, names, 9, partial="it is a slice")
        assert not choice.names and choice.problem == "Nothing is removed: it is a slice."
    assert choose(found, [], 9, partial="it is a slice").problem == ""


def test_the_table_is_readable_and_bounded():
    names = [f"esx{number:02}" for number in range(20)]
    found = report(
        wanted(*names), pxe01=there(("x\x1b[2J", {"heard_age": 60, "last_heard": "2026-11-20T10:00:00Z"}), "y")
    )
    lines = table(found["pxe01"])
    assert lines == [
        "pxe01: 2 published, 20 in the inventory, 2 left over, 20 missing, 0 different",
        "  LEFT OVER (on this server, not in the inventory):",
        "    host   stage  since                       mode   last heard                   image",
        "    x?[2J  ready  2026-11-20T10:00:00Z (4 d)  local  2026-11-20T10:00:00Z (60 s)  esxi-8",
        "    y      ready  2026-11-20T10:00:00Z (4 d)  local  never                        esxi-8",
        "  MISSING (in the inventory, not published):",
        "    esx[00:19]",
    ]
    short = table(found["pxe01"], 2)
    assert "    ... and 1 more (esxi_reconcile_lines=0 shows all)" in short
