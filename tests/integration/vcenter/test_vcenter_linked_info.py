# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_linked_info against several vcsims that are linked with each other."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import linked, stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from pxelab import soap
from pxelab.vcenter_lookup import Registered

MODULE = "vcenter_linked_info"


@pytest.fixture(scope="module")
def three(authority: Authority, server_pair: Pair) -> t.Iterator[linked.LinkedGroup]:
    """Three vCenters with hosts."""
    group = linked.start_group(3, server_pair, authority.pair.cert)
    group[0].add_host("esx01.example.com", machines=2)
    group[1].add_host("esx02.example.com", maintenance=True)
    group[1].add_host("esx03.example.com", machines=1, state="notResponding")
    yield group
    group.stop()


@pytest.fixture
def group(three: linked.LinkedGroup) -> linked.LinkedGroup:
    """The same, and whatever the last test did to their Lookup Service undone."""
    three.registered, three.answer = three.registrations(), None
    return three


def test_every_member_tells_of_all_hosts_of_all_members(run_module, group) -> None:
    for entry in group.members:
        result = run_module(MODULE, **entry.options())

        assert not result.get("failed"), result["msg"]
        assert result["linked"] and result["complete"] and not result["changed"]
        assert result["vcenters"][0]["vcenter"] == entry.address
        assert {one["vcenter"]: (one["name"], one["hosts"]) for one in result["vcenters"]} == {
            group[0].address: ("vc0", 1),
            group[1].address: ("vc1", 2),
            group[2].address: ("vc2", 0),
        }
        hosts = {one["name"]: one for one in result["esxi_hosts"]}
        assert {
            name: (one["vcenter"], one["connection_state"], one["maintenance_mode"], one["powered_on"], one["path"])
            for name, one in hosts.items()
        } == {
            "esx01.example.com": (group[0].address, "connected", False, 2, "/DC0/host/DC0_C0/esx01.example.com"),
            "esx02.example.com": (group[1].address, "connected", True, 0, "/DC0/host/DC0_C0/esx02.example.com"),
            "esx03.example.com": (group[1].address, "notResponding", False, 1, "/DC0/host/DC0_C0/esx03.example.com"),
        }
        assert hosts["esx01.example.com"]["uuid"] == group[0].hardware("esx01.example.com")
        # what vcsim gives every host
        assert hosts["esx01.example.com"]["macs"] == ["00:0c:29:81:d8:a0", "00:0c:29:81:d8:aa"]
        assert hosts["esx01.example.com"]["addresses"] == ["127.0.0.1"]


def test_the_group_is_asked_for_at_every_run(run_module, group) -> None:
    assert len(run_module(MODULE, **group[0].options())["vcenters"]) == 3
    group.registered = group.registrations()[:2]
    assert len(run_module(MODULE, **group[0].options())["vcenters"]) == 2


def test_one_session_and_one_retrieve_for_each_vcenter(run_module, group) -> None:
    for one in group.members:
        one.calls.clear()

    run_module(MODULE, **group[0].options())

    for one in group.members:
        assert one.calls.count("Login") == 1 and one.calls.count("Logout") == 1
        assert one.calls.count("RetrievePropertiesEx") == 1
    assert group[0].calls.count("List") == 1
    assert "List" not in group[1].calls


def test_a_vcenter_without_a_lookup_service_is_a_group_of_one(run_module, group) -> None:
    group.registered = None

    result = run_module(MODULE, **group[0].options())

    assert not result["linked"] and result["complete"]
    assert [one["name"] for one in result["esxi_hosts"]] == ["esx01.example.com"]


def test_a_vcenter_is_known_by_its_uuid_when_it_is_asked_under_another_name(run_module, group) -> None:
    group.registered = [Registered("https://vc0.example.com/sdk", "vc0")]

    result = run_module(MODULE, **group[0].options())

    assert result["complete"], result["problems"]
    assert [(one["vcenter"], one["name"]) for one in result["vcenters"]] == [(group[0].address, "vc0")]


@pytest.mark.parametrize(
    ("registered", "vcenter", "sentence"),
    [
        (Registered("https://127.0.0.1:1/sdk"), "127.0.0.1:1", "does not answer"),
        (Registered("http://127.0.0.1:8080/sdk"), "127.0.0.1:8080", "which is not encrypted"),
        (Registered("https://a b/../sdk", "vc9"), "vc9", "unusable address"),
        (Registered("https://x:99999/sdk", "vc9"), "vc9", "unusable address"),
        (Registered("", "vc9"), "vc9", "unusable address"),
    ],
)
def test_a_member_that_cannot_be_asked_is_named_and_hides_nobody(
    run_module, group, registered, vcenter, sentence
) -> None:
    group.registered = [*group.registrations(), registered]

    result = run_module(MODULE, **group[0].options())

    assert not result.get("failed")
    assert not result["complete"] and result["unreachable"] == [vcenter]
    assert len(result["problems"]) == 1 and vcenter in result["problems"][0] and sentence in result["problems"][0]
    assert len(result["warnings"]) == 1
    assert len(result["esxi_hosts"]) == 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (soap.Answer(503, b"", ()), "is not up (HTTP 503)"),
        (soap.Answer(401, b"", ()), "is no Lookup Service (HTTP 401)"),
        (soap.Answer(302, b"", (("Location", "https://192.0.2.1/"),)), "is no Lookup Service (HTTP 302)"),
        (soap.Answer(200, b"<html>hello</html>"), "is no Lookup Service"),
        (soap.Answer(200, b"hello"), "cannot be read"),
        (soap.Answer(200, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "declares a document type"),
        (soap.Answer(200, soap.envelope("<a/>")), "has no registry of services"),
        (soap.fault("SystemError", "Something broke"), "refuses to list the vCenters: Something broke"),
    ],
)
def test_a_broken_lookup_service_is_not_taken_for_none(run_module, group, answer, sentence) -> None:
    group.answer = answer

    result = run_module(MODULE, **group[0].options())

    assert not result.get("failed") and not result["linked"] and not result["complete"]
    assert "It is not known which vCenters are linked with" in result["problems"][0]
    assert sentence in result["problems"][0]
    assert [one["name"] for one in result["esxi_hosts"]] == ["esx01.example.com"]


def test_a_member_with_a_certificate_of_somebody_else_gets_no_password(
    run_module, group, authority, tmp_path, start
) -> None:
    stranger = Authority(tmp_path)
    other = linked.start_group(1, stranger.server(), stranger.pair.cert)
    try:
        group.registered = [*group.registrations(), *other.registrations()]
        result = run_module(MODULE, **group[0].options())
    finally:
        other.stop()

    assert result["unreachable"] == [other[0].address]
    assert "is not to be trusted" in result["problems"][0]
    assert other[0].calls == []


def test_a_member_that_refuses_the_login(run_module, group, authority, server_pair) -> None:
    other = linked.start_group(1, server_pair, authority.pair.cert, "-password", "another")
    try:
        group.registered = [*group.registrations(), *other.registrations()]
        result = run_module(MODULE, **group[0].options())
    finally:
        other.stop()

    assert result["unreachable"] == [other[0].address]
    assert f"refuses the login of {stand_ins.USER}" in result["problems"][0]
    assert stand_ins.PASSWORD not in result["output"]


def test_the_vcenter_itself_cannot_be_used(run_module, group) -> None:
    wrong = run_module(MODULE, **{**group[0].options(), "password": "wrong"})
    assert wrong["failed"] and "refuses the login" in wrong["msg"]
    absent = run_module(MODULE, **{**group[0].options(), "port": 1})
    assert absent["failed"] and "does not answer" in absent["msg"]
    nameless = run_module(MODULE, **{**group[0].options(), "hostname": ""})
    assert nameless["failed"] and "set hostname or VMWARE_HOST" in nameless["msg"]


def test_a_bare_simulator_lists_itself(run_module, vcsim) -> None:
    result = run_module(MODULE, **vcsim.options())

    assert result["linked"] and result["complete"], result["problems"]
    assert [one["vcenter"] for one in result["vcenters"]] == [f"127.0.0.1:{vcsim.port}"]


def test_the_lab_s_vcenter_is_a_group_of_one(run_module, start, server_pair, tmp_path) -> None:
    names = tmp_path / "names"
    names.write_text("")
    center = start(stand_ins.vcenter(server_pair, tmp_path / "vcenter.log", names))

    result = run_module(MODULE, **center.options())

    assert result["linked"] and result["complete"], result["problems"]
    assert [one["vcenter"] for one in result["vcenters"]] == [f"127.0.0.1:{center.port}"]
