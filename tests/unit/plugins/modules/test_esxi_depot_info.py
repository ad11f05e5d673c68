# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it; what it does is tested with module_utils."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.modules import esxi_depot_info
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer
from pxelab.depot import Package, make_bundle


class Exited(Exception):
    def __init__(self, result):
        super().__init__(result)
        self.result = result


@pytest.fixture
def server(tmp_path):
    return ImageServer(tmp_path / "server")


@pytest.fixture
def call(server, monkeypatch):
    def leave(failed):
        def method(self, **result):
            raise Exited({"failed": failed, "changed": False, **result})

        return method

    monkeypatch.setattr(AnsibleModule, "exit_json", leave(False))
    monkeypatch.setattr(AnsibleModule, "fail_json", lambda self, msg, **rest: leave(True)(self, msg=msg, **rest))
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text, **_options: None)

    def run(module, check=False, **params):
        params.setdefault("config", str(server.settings()))
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch_module_args({**params, "_ansible_check_mode": check, "_ansible_diff": True}))
            caught = stack.enter_context(pytest.raises(Exited))
            module.main()
        return caught.value.result

    return run


def documented(module, key):
    """Keys of a list or dictionary that a module returns."""
    return set(yaml.safe_load(module.RETURN)[key]["contains"])


def test_depots_are_told_with_all_that_is_documented(call, server, tmp_path):
    server.depots().present("drivers", str(make_bundle(tmp_path / "bundle.zip", [Package("net-example")])))
    server.publish("esx01.example.com", "x", kickstart="http://192.168.77.10/depots/drivers/index.xml")
    result = call(esxi_depot_info)
    assert (result["changed"], result["failed"]) == (False, False)
    assert result["depots"][0]["hosts"] == ["esx01.example.com"]
    assert set(result["depots"][0]) - {"schema"} == documented(esxi_depot_info, "depots")
    assert set(yaml.safe_load(esxi_depot_info.RETURN)) == set(result) - {"changed", "failed"}
    assert call(esxi_depot_info, names=["other"], verify=True)["depots"] == []


def test_a_machine_that_is_no_pxe_server_is_told_so(call, tmp_path):
    result = call(esxi_depot_info, config=str(tmp_path / "none.json"))
    assert result["failed"]
    assert result["msg"].endswith("run the role pxe_server on this machine first.")
