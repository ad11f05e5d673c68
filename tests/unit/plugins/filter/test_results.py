# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pxemanager.esxi.plugins.filter.results import host_result, hosts_with

GOOD = {"failed": False, "changed": True, "msg": "armed"}
LEFT = {"failed": False, "changed": False, "msg": "left alone"}
BAD = {"failed": True, "changed": False, "msg": "bad MAC"}
NAME = "esx01.example.com"


def test_the_last_good_result_wins():
    registered = [{"hosts": {NAME: GOOD}}, {"results": [{"hosts": {NAME: LEFT}}]}]
    assert host_result(registered, NAME) == LEFT


def test_an_earlier_failure_is_never_hidden_by_a_later_success():
    registered = [{"hosts": {NAME: BAD}}, {"hosts": {NAME: GOOD}}]
    assert host_result(registered, NAME) == BAD


def test_a_host_that_no_call_mentions_has_failed_and_says_why():
    unreachable = {"results": [{"unreachable": True, "msg": "no route"}, {"skipped": True}]}
    result = host_result([unreachable], NAME, otherwise="pxe1 gave no answer")
    assert result["failed"] and not result["changed"]
    assert result["msg"] == f"{NAME}: pxe1 gave no answer"


def test_one_hosts_result_is_found_among_several_calls():
    registered = [{"results": [{"hosts": {"other": BAD}}, {"hosts": {NAME: GOOD}}]}]
    assert host_result(registered, NAME) == GOOD


def test_a_call_that_failed_as_a_whole_is_the_failure_of_the_hosts_it_was_for():
    first = {"ansible_loop_var": "server", "server": "pxe1", "unreachable": True, "msg": "no route"}
    other = {"ansible_loop_var": "server", "server": "pxe2", "hosts": {"esx02.example.com": GOOD}}
    loop = {"results": [first, other]}

    result = host_result([loop], NAME, of="pxe1")
    assert result["failed"] and result["msg"] == f"{NAME}: pxe1: no route"
    assert host_result([loop], "esx02.example.com", of="pxe2") == GOOD


def test_the_items_of_several_calls_are_looked_for():
    server = {"ansible_loop_var": "server", "server": "pxe1", "hosts": {NAME: GOOD}}
    vcenter = {"ansible_loop_var": "vcenter", "vcenter": "vc1", "msg": "no library"}

    result = host_result([{"results": [vcenter]}, {"results": [server]}], NAME, of=["pxe1", "vc1"])
    assert result["failed"] and result["msg"] == f"{NAME}: vc1: no library"
    assert host_result([{"results": [vcenter]}, {"results": [server]}], NAME, of=["pxe1", ""]) == GOOD


def test_the_item_of_a_loop_over_an_earlier_loop_is_found():
    first = {"ansible_loop_var": "server", "server": "pxe1", "hosts": {NAME: GOOD}}
    second = {"ansible_loop_var": "earlier", "earlier": first, "msg": "the disk is full"}
    assert host_result([{"results": [first]}, {"results": [second]}], NAME, of="pxe1")["msg"].endswith(
        "the disk is full"
    )


def test_a_skipped_call_says_nothing():
    skipped = {"ansible_loop_var": "server", "server": "pxe1", "skipped": True, "msg": "condition"}
    assert host_result([{"hosts": {NAME: GOOD}}, {"results": [skipped]}], NAME, of="pxe1") == GOOD


def test_hosts_with_asks_only_what_it_is_told():
    registered = [{"results": [{"hosts": {"a": GOOD, "b": LEFT}}, {"hosts": {"c": BAD}}]}]
    assert hosts_with(registered) == ["a", "b", "c"]
    assert hosts_with(registered, changed=True) == ["a"]
    assert hosts_with(registered, changed=False, failed=False) == ["b"]
    assert hosts_with(registered, failed=True) == ["c"]


def test_something_that_was_never_registered_is_an_error_and_not_an_empty_answer():
    with pytest.raises(AnsibleFilterError):
        hosts_with(["a text"])
