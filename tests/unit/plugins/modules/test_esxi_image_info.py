# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it; what it does is tested with module_utils."""

from __future__ import annotations

import yaml

from ansible_collections.pxemanager.esxi.plugins.modules import esxi_image_info
from ansible_collections.pxemanager.esxi.tests.support.documents import documented_keys
from pxelab.medium import make_tree


def test_images_are_told_with_all_that_is_documented(call, server, tmp_path):
    server.images().present("esxi", str(make_tree(tmp_path / "medium", module_size=64)))
    server.publish("esx01.example.com", "esxi", mode="install")
    result = call(esxi_image_info)
    assert (result["changed"], result["failed"]) == (False, False)
    assert result["msg"] == "1 image, all whole."
    assert result["images"][0]["armed"] == ["esx01.example.com"]
    undocumented = {"schema", "kernel", "modules", "kernelopt", "title"}  # as esxi_image documents them
    assert set(result["images"][0]) - undocumented == documented_keys(esxi_image_info, "images")
    keys = set(yaml.safe_load(esxi_image_info.RETURN))
    assert keys == set(result) - {"changed", "failed"}


def test_damage_is_found_by_reading_only_when_that_is_asked_for(call, server, tmp_path):
    server.images().present("esxi", str(make_tree(tmp_path / "medium", module_size=64)))
    (server.layout.image_dir("esxi") / "k.b00").write_bytes(b"x" * 64)
    assert call(esxi_image_info)["images"][0]["damage"] == []
    before = server.contents()
    found = call(esxi_image_info, verify=True, check=True)
    assert found["images"][0]["damage"] == ["k.b00 has other contents"]
    assert found["msg"] == "1 image; damaged: esxi."
    assert call(esxi_image_info, names=["other"])["images"] == []
    assert server.contents() == before


def test_a_machine_that_is_no_pxe_server_is_told_so(call, tmp_path):
    result = call(esxi_image_info, config=str(tmp_path / "none.json"))
    assert result["failed"]
    assert result["msg"].endswith("run the role pxe_server on this machine first.")
