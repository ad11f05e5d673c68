# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of inventories that share a PXE server: nobody touches another one's hosts."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

ONE = definition(1)
NAME = ONE["name"]
BERLIN, OSLO = Owner("berlin"), Owner("oslo")


@pytest.fixture
def server(tmp_path):
    server = PxeServer(tmp_path / "server")
    server.write_kickstarts(ONE)
    return server


def label(server):
    return json.loads(server.layout.record(NAME).read_bytes()).get("owner")


def test_a_published_host_gets_the_label_and_keeps_it(server):
    server.good("published", ONE, owner=BERLIN)
    assert label(server) == "berlin"
    assert server.good("published", ONE, owner=BERLIN)["changed"] is False
    # who has no label asks nothing
    server.good("armed", ONE)
    assert label(server) == "berlin"


def test_without_a_label_a_record_is_as_it_always_was(server):
    server.good("published", ONE)
    assert label(server) is None
    assert server.good("published", ONE, owner=BERLIN)["changed"] is True
    assert label(server) == "berlin"


@pytest.mark.parametrize("state", ["published", "armed", "disarmed", "absent"])
def test_another_label_is_refused_whatever_is_asked(server, state):
    server.good("armed", ONE, owner=BERLIN)
    before = server.snapshot()
    value = server.call(state, ONE, owner=OSLO)
    assert value["failed_hosts"] == [NAME]
    assert "by the inventory berlin, and this one is oslo" in value["msg"] and server.snapshot() == before


def test_hosts_are_taken_over_when_it_is_said(server):
    server.good("published", ONE, owner=BERLIN)
    server.good("armed", ONE, owner=Owner("oslo", "berlin"))
    assert label(server) == "oslo"
    assert server.call("disarmed", ONE, owner=BERLIN)["failed_hosts"] == [NAME]


@pytest.mark.parametrize("wrong", ["a\nb", " berlin", "x" * 65, "b{{", "-"])
def test_a_label_is_a_name(wrong):
    with pytest.raises(EsxiPxeError, match="write a name"):
        Owner.parse(wrong, "")


def test_options_become_an_owner():
    assert Owner.parse("", None) == Owner()
    assert Owner.parse("git@example.com:esxi/berlin", "oslo") == Owner("git@example.com:esxi/berlin", "oslo")
    with pytest.raises(EsxiPxeError, match="take_over_from needs owner"):
        Owner.parse("", "oslo")
