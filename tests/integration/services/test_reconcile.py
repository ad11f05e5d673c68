# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PXE servers compared with their inventory, by the role and its modules as a person runs them."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner
from ansible_collections.pxemanager.esxi.tests.support.fleet import Fleet, slice_of
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

LEFT, MOVED = "esx04.example.com", "esx05.example.com"


@pytest.fixture
def fleet(tmp_path):
    """Five hosts on pxe01, of which one is in no inventory any more and one has moved; one is missing on pxe02."""
    fleet = Fleet(tmp_path, ("pxe01", "pxe02"), hosts=(1, 2, 3))
    fleet.servers["pxe01"].good("published", *(definition(number) for number in range(1, 6)))
    fleet.add(definition(5), esxi_host_pxe_server="pxe02")
    return fleet


def there(fleet):
    return sorted(path.stem for path in fleet.server.layout.records_dir.glob("[!.]*"))


def test_a_report_changes_nothing_whatever_the_limit(fleet):
    before = {name: server.snapshot() for name, server in fleet.servers.items()}

    assert fleet.play("reconcile", "--limit", "pxe01") == {}

    assert fleet.changed() == 0 and {name: server.snapshot() for name, server in fleet.servers.items()} == before
    assert "pxe01: 5 published, 3 in the inventory, 2 left over, 0 missing, 0 different" in fleet.output
    rows = [line for line in fleet.output.splitlines() if "defined" in line]
    assert len(rows) == 2 and LEFT in rows[0] and "never" in rows[0] and "moved to pxe02" in rows[1]


def test_what_is_left_over_is_taken_off_by_name_and_once(fleet):
    assert fleet.play("reconcile", esxi_reconcile_remove=f"{LEFT},esx77.example.com") == {}
    assert LEFT not in there(fleet) and len(there(fleet)) == 4 and fleet.changed() == 1
    assert f"{LEFT}: removed." in fleet.output

    assert fleet.play("reconcile", esxi_reconcile_remove=LEFT, esxi_reconcile_strict=True) == {
        "pxe01": "pxe01 differs from the inventory, see its table above (esxi_reconcile_strict).",
        "pxe02": "pxe02 differs from the inventory, see its table above (esxi_reconcile_strict).",
    }
    assert fleet.changed() == 0


def test_more_than_was_meant_and_what_is_in_the_inventory_stay(fleet):
    failed = fleet.play("reconcile", esxi_reconcile_remove=f"{LEFT},{MOVED}")
    assert "esxi_reconcile_max is 1" in failed["pxe01"] and len(there(fleet)) == 5

    failed = fleet.play("reconcile", esxi_reconcile_remove=f"{LEFT},esx01.example.com")
    assert "esx01.example.com is in the inventory" in failed["pxe01"]
    assert there(fleet) == [f"esx0{number}.example.com" for number in (1, 2, 3, 5)]


def test_nothing_is_taken_off_by_a_slice_of_a_job(fleet):
    """AWX cuts the inventory: most of what is published seems to be left over."""
    names = slice_of([*fleet.hosts, *fleet.servers], 2, 3)
    assert "pxe01" in names and len(names) == 2
    awx = {"awx_job_template_name": "reconcile", "awx_workflow_job_name": "reconcile"}

    failed = fleet.play("reconcile", only=names, esxi_reconcile_remove="all", esxi_reconcile_max=99, **awx)

    assert "a slice of a sliced AWX job" in failed["pxe01"] and len(there(fleet)) == 5
    # a workflow that somebody has made of several templates is none
    awx["awx_workflow_job_name"] = "every night"
    fleet.play("reconcile", esxi_reconcile_remove=LEFT, **awx)
    assert LEFT not in there(fleet)


def test_inventories_that_share_a_server_do_not_see_each_others_hosts(fleet):
    fleet.variables["esxi_host_owner"] = "berlin"
    fleet.server.good("published", definition(1), definition(4), owner=Owner("berlin"))
    fleet.server.good("published", definition(2), owner=Owner("oslo"))

    assert fleet.play("reconcile") == {}

    assert "1 left over, 0 missing, 0 different, 3 of other inventories (no label, oslo)" in fleet.output
    assert "esx02.example.com  is published by oslo" in fleet.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_who_may_not_look_is_told(fleet):
    fleet.server.layout.records_dir.chmod(0)
    try:
        assert "run this as root" in fleet.play("reconcile")["pxe01"]
    finally:
        fleet.server.layout.records_dir.chmod(0o750)
