# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it; what it does is tested with module_utils."""

from __future__ import annotations

import yaml

from ansible_collections.pxemanager.esxi.plugins.modules import esxi_depot, esxi_depot_info
from ansible_collections.pxemanager.esxi.tests.support.documents import documented_keys
from pxelab.depot import Package, make_bundle


def test_depots_are_told_with_all_that_is_documented(call, server, tmp_path):
    server.depots().present("drivers", str(make_bundle(tmp_path / "bundle.zip", [Package("net-example")])))
    server.publish("esx01.example.com", "x", kickstart="http://192.168.77.10/depots/drivers/index.xml")
    result = call(esxi_depot_info)
    assert (result["changed"], result["failed"]) == (False, False)
    assert result["depots"][0]["hosts"] == ["esx01.example.com"]
    assert set(result["depots"][0]) - {"schema"} == documented_keys(esxi_depot_info, "depots")
    assert set(yaml.safe_load(esxi_depot_info.RETURN)) == set(result) - {"changed", "failed"}
    assert call(esxi_depot_info, names=["other"], verify=True)["depots"] == []


def test_a_machine_that_is_no_pxe_server_is_told_so(call, tmp_path):
    result = call(esxi_depot_info, config=str(tmp_path / "none.json"))
    assert result["failed"]
    assert result["msg"].endswith("run the role pxe_server on this machine first.")


def test_a_depot_is_documented_in_the_same_words_as_where_it_is_imported():
    # What is returned cannot be in a fragment.
    imported = yaml.safe_load(esxi_depot.RETURN)["depot"]["contains"]
    told = yaml.safe_load(esxi_depot_info.RETURN)["depots"]["contains"]
    assert {key: told.get(key) for key in imported} == imported
