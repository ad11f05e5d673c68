# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module esxi_pxe_host_info: which hosts it returns, and that it only looks."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_pxe_host_info
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

NAMES = [definition(number)["name"] for number in (1, 2, 3)]


class Ended(Exception):
    pass


@pytest.fixture(autouse=True)
def no_exit(monkeypatch):
    def exit_json(_module, **result):
        raise Ended(result)

    def fail_json(_module, msg, **result):
        raise Ended({**result, "msg": msg, "failed": True})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)


@pytest.fixture
def server(tmp_path):
    server = PxeServer(tmp_path / "server")
    for number in (1, 2, 3):
        server.write_kickstarts(definition(number))
    server.good("published", definition(1))
    server.good("armed", definition(2), owner=Owner("berlin"))
    server.good("published", definition(3))
    server.layout.reservation(NAMES[2]).unlink()
    return server


def run(server, **options):
    with patch_module_args({"config": str(server.config_path), **options}), pytest.raises(Ended) as ended:
        esxi_pxe_host_info.main()
    return json.loads(json.dumps(ended.value.args[0]))


def test_everything_is_listed_and_nothing_changed(server):
    before = server.snapshot()
    result = run(server)
    assert list(result["hosts"]) == NAMES and result["changed"] is False and server.snapshot() == before
    assert (result["published"], result["stages"]) == (3, {"defined": 2, "armed": 1})
    # armed in the past of the clock, so it has expired, and nobody has ended that
    assert result["msg"] == "3 hosts, 2 defined, 1 armed, 2 problems."
    assert server.install(NAMES[1]).key not in json.dumps(result)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"names": [NAMES[0].upper(), "esx99.example.com"]}, [0]),
        ({"stages": ["armed", "ready"]}, [1]),
        ({"mode": "local"}, [0, 2]),
        ({"owners": [""]}, [0, 2]),
        ({"owners": ["berlin"]}, [1]),
        ({"with_problems": True, "owners": [""]}, [2]),
        ({"names": []}, []),
    ],
)
def test_hosts_are_chosen(server, options, numbers):
    server.write_kickstarts(definition(9))
    result = run(server, **options)
    assert list(result["hosts"]) == [NAMES[number] for number in numbers]
    assert result["leftovers"] == [], "who asks for some hosts is not told of what is nobody's"
    assert run(server)["leftovers"][0]["name"] == "esx09.example.com"


def test_a_server_that_was_not_set_up_is_said(server, tmp_path):
    result = run(server, config=str(tmp_path / "missing.json"))
    assert result["failed"] and "run the role pxe_server" in result["msg"]


def test_what_is_documented_is_returned(server):
    documented = yaml.safe_load(esxi_pxe_host_info.RETURN)
    result = run(server)
    assert set(documented) == set(result) - {"changed"}
    assert set(documented["hosts"]["contains"]) == set(result["hosts"][NAMES[0]])
    sample = next(iter(documented["hosts"]["sample"].values()))
    assert set(sample) == set(result["hosts"][NAMES[0]])
