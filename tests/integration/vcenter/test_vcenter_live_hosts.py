# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_live_hosts against vcsims that are linked with each other: what it sees there, and one call for all hosts.

The cases of the decision itself are in the unit tests of _live_hosts.
"""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import linked, stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from pxelab.vcenter_lookup import Registered

MODULE = "vcenter_live_hosts"
WRITES = ("Destroy_Task", "DisconnectHost_Task", "EnterMaintenanceMode_Task", "AddHost_Task", "PowerOffVM_Task")


@pytest.fixture(scope="module")
def pair_of(authority: Authority, server_pair: Pair) -> t.Iterator[linked.LinkedGroup]:
    """Two vCenters; the second has hosts as well."""
    group = linked.start_group(2, server_pair, authority.pair.cert)
    group[0].add_host("live.example.com", machines=2)
    group[0].add_host("resting.example.com")
    group[0].add_host("parked.example.com", maintenance=True)
    group[0].add_host("lost.example.com", machines=1, state="disconnected")
    group[1].add_host("elsewhere.example.com", machines=1)
    yield group
    group.stop()


@pytest.fixture
def group(pair_of: linked.LinkedGroup) -> linked.LinkedGroup:
    """The same, and whatever the last test did to them undone."""
    pair_of.registered = pair_of.registrations()
    for one in pair_of.members:
        one.calls.clear()
    return pair_of


def hosts(*names: str, **more: t.Any) -> list[dict[str, t.Any]]:
    return [{"name": f"{name}.example.com", **more} for name in names]


EVERYBODY = ("live", "resting", "parked", "lost", "elsewhere", "new")


def kinds(result: dict[str, t.Any]) -> dict[str, tuple[str, bool]]:
    return {name.partition(".")[0]: (one["kind"], one["failed"]) for name, one in result["hosts"].items()}


@pytest.mark.parametrize("check", [False, True])
def test_all_hosts_of_a_play_in_one_look(run_module, group, check) -> None:
    result = run_module(MODULE, check=check, **group[0].options(), hosts=hosts(*EVERYBODY), on_host_failure="report")

    assert not result.get("failed") and not result["changed"]
    assert kinds(result) == {
        "live": ("live", True),
        "resting": ("idle", False),
        "parked": ("idle", False),
        "lost": ("live", True),
        "elsewhere": ("elsewhere", True),
        "new": ("free", False),
    }
    assert result["failed_hosts"] == ["elsewhere.example.com", "live.example.com", "lost.example.com"]
    live = result["hosts"]["live.example.com"]
    assert "2 powered-on machines" in live["msg"] and live["path"] == "/DC0/host/DC0_C0/live.example.com"
    assert group[1].address in result["hosts"]["elsewhere.example.com"]["msg"]
    for one in group.members:
        assert one.calls.count("RetrievePropertiesEx") == 1
        assert not set(one.calls).intersection(WRITES)


def test_a_refused_host_fails_the_task_unless_that_is_only_reported(run_module, group) -> None:
    result = run_module(MODULE, **group[0].options(), hosts=hosts("live", "new"))
    assert result["failed"] and "live.example.com is connected in" in result["msg"]
    assert kinds(result) == {"live": ("live", True), "new": ("free", False)}


def test_only_the_host_that_is_named_is_forced(run_module, group) -> None:
    given = hosts("live", "lost", force="live.example.com") + hosts("elsewhere", force=["elsewhere.example.com"])

    result = run_module(MODULE, **group[0].options(), hosts=given, on_host_failure="report")

    assert kinds(result) == {"live": ("forced", False), "lost": ("live", True), "elsewhere": ("elsewhere", True)}
    assert len(result["warnings"]) == 1


def test_a_mistake_fails_its_own_host(run_module, group) -> None:
    given = hosts("live", force=True) + hosts("new") + hosts("resting", "resting")

    result = run_module(MODULE, **group[0].options(), hosts=given, on_host_failure="report")

    assert kinds(result) == {"live": ("mistake", True), "new": ("free", False), "resting": ("mistake", True)}
    assert "force must be the names" in result["hosts"]["live.example.com"]["msg"]


def test_a_renamed_host_is_recognised_by_its_hardware(run_module, group) -> None:
    uuid = group[0].hardware("live.example.com")
    for known in ({"uuid": uuid.upper()}, {"macs": ["00-0C-29-81-D8-A0"]}):
        result = run_module(MODULE, **group[0].options(), hosts=hosts("new", **known), on_host_failure="report")
        one = result["hosts"]["new.example.com"]
        assert one["failed"], one["msg"]
    result = run_module(MODULE, **group[0].options(), hosts=hosts("new", uuid=uuid), on_host_failure="report")
    one = result["hosts"]["new.example.com"]
    assert one["kind"] == "live" and one["recognised_by"] == "hardware UUID"
    assert "(there under the name live.example.com, recognised by its hardware UUID)" in one["msg"]


def test_retiring_and_joining(run_module, group) -> None:
    retire = run_module(
        MODULE, **group[0].options(), hosts=hosts("live", "parked", "new"), job="retire", on_host_failure="report"
    )
    assert kinds(retire) == {"live": ("live", True), "parked": ("idle", False), "new": ("free", False)}
    join = run_module(
        MODULE, **group[0].options(), hosts=hosts("live", "elsewhere", "new"), job="join", on_host_failure="report"
    )
    assert kinds(join) == {"live": ("idle", False), "elsewhere": ("elsewhere", True), "new": ("free", False)}


def test_a_member_that_is_down_makes_everything_unknown(run_module, group) -> None:
    group.registered = [*group.registrations(), Registered("https://127.0.0.1:1/sdk", "vc9")]
    given = hosts("live", "new") + hosts("lost", force="lost.example.com")

    refused = run_module(MODULE, **group[0].options(), hosts=given, on_host_failure="report")
    assert kinds(refused) == {"live": ("live", True), "new": ("unknown", True), "lost": ("forced", False)}
    assert "127.0.0.1:1" in refused["hosts"]["new.example.com"]["msg"]
    assert len(refused["problems"]) == 1

    accepted = run_module(MODULE, **group[0].options(), hosts=given, unknown="accept", on_host_failure="report")
    assert kinds(accepted) == {"live": ("live", True), "new": ("accepted", False), "lost": ("forced", False)}


def test_the_vcenter_itself_cannot_be_asked(run_module, group) -> None:
    for change in ({"port": 1}, {"password": "wrong"}):
        options = {**group[0].options(), **change}
        refused = run_module(MODULE, **options, hosts=hosts("new"), on_host_failure="report")
        assert kinds(refused) == {"new": ("unknown", True)}
        assert "cannot be asked" in refused["hosts"]["new.example.com"]["msg"]
        accepted = run_module(MODULE, **options, hosts=hosts("new"), unknown="accept")
        assert kinds(accepted) == {"new": ("accepted", False)}
        assert stand_ins.PASSWORD not in refused["output"] + accepted["output"]
