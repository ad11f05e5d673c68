# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it; what it does is tested with module_utils."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.modules import esxi_depot
from ansible_collections.pxemanager.esxi.tests.support.documents import documented_keys
from pxelab.depot import Package, make_bundle


@pytest.fixture
def bundle(tmp_path):
    return str(make_bundle(tmp_path / "bundle.zip", [Package("net-example")]))


def test_a_depot_comes_stays_and_goes(call, server, bundle):
    would = call(esxi_depot, name="drivers", src=bundle, check=True)
    assert (would["changed"], would["depot"]) == (True, None)
    first = call(esxi_depot, name="drivers", src=bundle)
    assert first["changed"]
    assert "net-example" in first["diff"]["after"]
    assert set(first["depot"]) == documented_keys(esxi_depot, "depot") | {"schema"}
    again = call(esxi_depot, name="drivers", src=bundle)
    assert (again["changed"], "diff" in again) == (False, False)
    gone = call(esxi_depot, name="drivers", state="absent")
    assert (gone["changed"], gone["depot"]) == (True, None)
    assert not call(esxi_depot, name="drivers", state="absent")["changed"]


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_a_checksum_may_have_its_algorithm_before_it(call, bundle, prefix):
    result = call(esxi_depot, name="drivers", src=bundle, checksum=prefix + "0" * 64)
    assert result["failed"]
    assert f"not {'0' * 64}" in result["msg"]


def test_mistakes_are_failures_in_a_sentence(call, bundle, monkeypatch):
    for name, params in (("../x", {"src": bundle}), ("drivers", {"src": "/none.zip"}), ("drivers", {})):
        result = call(esxi_depot, name=name, **params)
        assert result["failed"]
    monkeypatch.setattr("os.fsync", lambda fd: (nothing for nothing in ()).throw(OSError(5, "Input/output error")))
    assert "Input/output error" in call(esxi_depot, name="drivers", src=bundle)["msg"]
