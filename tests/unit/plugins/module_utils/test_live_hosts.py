# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live-host guard: every case in which a host is refused, forced or let through."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import (
    Group,
    ManagedHost,
    Member,
    WantedHost,
    judge,
    normal_mac,
)

HERE, THERE = "vc1.example.com:443", "vc2.example.com:443"
HOST = WantedHost.parse(
    {
        "name": "esx01.example.com",
        "address": "192.168.77.21",
        "macs": ["00:50:56:AA:01:01", "00-50-56-aa-01-02"],
        "uuid": "30373237-3132-4d32-3235-303131303256",
    }
)
FORCED = dataclasses.replace(HOST, forced=True)
LIVE = ManagedHost(
    name="esx01.example.com",
    vcenter=HERE,
    path="/Berlin/host/Production/esx01.example.com",
    state="connected",
    maintenance=False,
    powered_on=3,
)


def group(*hosts: ManagedHost, problem: t.Optional[str] = None, down: t.Optional[str] = None) -> Group:
    """Two linked vCenters with these hosts. down: what is wrong with the second one."""
    here = Member(HERE, hosts=tuple(host for host in hosts if host.vcenter == HERE))
    there = Member(THERE, hosts=tuple(host for host in hosts if host.vcenter == THERE), problem=down)
    return Group(HERE, (here, there), linked=True, problem=problem)


def seen(**changes: t.Any) -> ManagedHost:
    return dataclasses.replace(LIVE, **changes)


def test_nothing_stands_in_the_way_of_a_first_run() -> None:
    for job in ("install", "retire", "join"):
        verdict = judge(HOST, group(), job)
        assert verdict.kind == "free" and not verdict.refused
        assert judge(HOST, group(seen(name="esx02.example.com")), job).kind == "free"


@pytest.mark.parametrize("job", ["install", "retire"])
def test_a_live_host_is_refused_by_name_and_told_what_to_do(job: t.Any) -> None:
    verdict = judge(HOST, group(LIVE), job)

    assert verdict.refused and verdict.kind == "live" and verdict.seen == LIVE and verdict.recognised_by == "name"
    done = {"install": "installed", "retire": "retired"}[job]
    assert verdict.msg == (
        "esx01.example.com is connected in vc1.example.com:443 at /Berlin/host/Production/esx01.example.com, not in "
        f"maintenance mode, with 3 powered-on machines: it is not {done}. Put it into maintenance mode first. To have "
        f"it {done} all the same, force it by its name (esxi_host_force_live=esx01.example.com)."
    )


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "live"),
        ({"powered_on": 1}, "live"),
        ({"powered_on": 0}, "idle"),
        ({"maintenance": True}, "idle"),
        # a host in maintenance mode may not show how many machines it has
        ({"maintenance": True, "powered_on": None}, "idle"),
        # what cannot be seen counts against
        ({"maintenance": None}, "live"),
        ({"powered_on": None}, "live"),
        ({"maintenance": None, "powered_on": None, "state": "unknown"}, "live"),
        # out of sight is not dead
        ({"state": "disconnected"}, "live"),
        ({"state": "notResponding"}, "live"),
        ({"state": "notResponding", "powered_on": 0}, "idle"),
        ({"state": "notResponding", "maintenance": True}, "idle"),
    ],
)
@pytest.mark.parametrize("job", ["install", "retire"])
def test_what_counts_as_alive(job: t.Any, changes: dict[str, t.Any], kind: str) -> None:
    verdict = judge(HOST, group(seen(**changes)), job)
    assert verdict.kind == kind, verdict.msg
    assert "esx01.example.com" in verdict.msg and HERE in verdict.msg


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"name": "ESX01.Example.Com."}, "name"),
        ({"name": "old-name.example.com", "addresses": ("192.168.77.21",)}, "management address"),
        ({"name": "192.168.77.21"}, "management address"),
        ({"name": "old-name.example.com", "macs": ("00:50:56:aa:09:09", "0050.56aa.0102")}, "MAC address"),
        ({"name": "old-name.example.com", "uuid": "30373237-3132-4D32-3235-303131303256"}, "hardware UUID"),
        # the first three fields the other way round, as some firmware has them
        ({"name": "old-name.example.com", "uuid": "37323730-3231-324d-3235-303131303256"}, "hardware UUID"),
    ],
)
def test_a_host_is_recognised_under_another_name(changes: dict[str, t.Any], how: str) -> None:
    verdict = judge(HOST, group(seen(**changes)), "install")
    assert verdict.kind == "live" and verdict.recognised_by == how
    if how != "name":
        assert f"(there under the name {changes['name']}, recognised by its {how})" in verdict.msg


def test_what_many_machines_share_recognises_nobody() -> None:
    for address in ("127.0.0.1", "169.254.1.1", "::1", "0.0.0.0"):
        host = WantedHost.parse({"name": "esx01.example.com", "address": address})
        assert judge(host, group(seen(name="esx09.example.com", addresses=(address,))), "install").kind == "free"
    with pytest.raises(DefinitionError, match="is no UUID"):
        WantedHost.parse({"name": "esx01.example.com", "uuid": "00000000-0000-0000-0000-000000000000"})


def test_the_worst_of_several_entries_counts() -> None:
    old = seen(name="192.168.77.21", maintenance=True)
    assert judge(HOST, group(old, LIVE), "install").kind == "live"


def test_a_host_of_another_vcenter_is_refused_whatever_its_state_and_whoever_forces_it() -> None:
    other = seen(vcenter=THERE, maintenance=True, powered_on=0)
    for host in (HOST, FORCED):
        for job in ("install", "join"):
            verdict = judge(host, group(other), job)
            assert verdict.kind == "elsewhere" and verdict.refused
            assert THERE in verdict.msg and other.path in verdict.msg and HERE in verdict.msg
    # taking it off a PXE server takes it from nobody
    assert judge(HOST, group(other), "retire").kind == "idle"
    assert judge(HOST, group(seen(vcenter=THERE)), "retire").kind == "live"


def test_a_join_does_not_ask_whether_the_host_is_alive() -> None:
    assert judge(HOST, group(LIVE), "join").kind == "idle"


def test_a_host_that_was_named_is_let_through_and_it_is_said_why() -> None:
    verdict = judge(FORCED, group(LIVE), "install")
    assert verdict.kind == "forced" and not verdict.refused
    assert "3 powered-on machines" in verdict.msg and "was named" in verdict.msg
    verdict = judge(FORCED, group(down="vc2 is down."), "install")
    assert verdict.kind == "forced" and "vc2 is down." in verdict.msg


@pytest.mark.parametrize("problem", [{"problem": "Nobody knows who is linked."}, {"down": "vc2 cannot be asked."}])
def test_what_is_not_known_counts_against_going_on(problem: dict[str, str]) -> None:
    for job in ("install", "retire"):
        verdict = judge(HOST, group(**problem), job)
        assert verdict.kind == "unknown" and verdict.refused
        assert next(iter(problem.values())) in verdict.msg and "esxi_host_force_live=esx01.example.com" in verdict.msg
        # also where the part that is known has it, and at rest
        assert judge(HOST, group(seen(powered_on=0), **problem), job).kind == "unknown"
        assert judge(HOST, group(**problem), job, accept_unknown=True).kind == "accepted"
    # vCenter itself refuses to take a host away from another one
    assert judge(HOST, group(**problem), "join").kind == "accepted"


def test_accepting_what_is_unknown_accepts_nothing_that_is_known() -> None:
    assert judge(HOST, group(LIVE, down="vc2 is down."), "install", accept_unknown=True).kind == "live"


@pytest.mark.parametrize("force", ["esx01.example.com", "ESX01.example.com.", "esx07, esx01.example.com"])
def test_forcing_by_name(force: str) -> None:
    assert WantedHost.parse({"name": "esx01.example.com", "force": force}).forced
    assert WantedHost.parse({"name": "esx01.example.com", "force": force.split(",")}).forced


@pytest.mark.parametrize(
    "force", [None, "", False, [], "esx02.example.com", ["esx02.example.com"], "esx01", "example.com"]
)
def test_what_forces_nothing(force: t.Any) -> None:
    assert not WantedHost.parse({"name": "esx01.example.com", "force": force}).forced


@pytest.mark.parametrize("force", [True, "true", "True", "yes", "all", 1, [True], ["esx01.example.com", "yes"]])
def test_forcing_everything_is_a_mistake(force: t.Any) -> None:
    with pytest.raises(DefinitionError, match="force must be the names of the hosts that are meant"):
        WantedHost.parse({"name": "esx01.example.com", "force": force})


def test_every_mistake_is_said() -> None:
    with pytest.raises(DefinitionError) as caught:
        WantedHost.parse({"name": "a b", "macs": ["00:11"], "uuid": "x", "address": "/", "force": True})
    assert len(caught.value.errors) == 5


def test_mac_notations() -> None:
    notations = ("00:50:56:AA:01:02", "00-50-56-aa-01-02", "0050.56aa.0102", "0:50:56:aa:1:2", "005056aa0102")
    assert {normal_mac(text) for text in notations} == {"005056aa0102"}
    assert normal_mac("00:50:56:aa:01") is None and normal_mac("") is None
