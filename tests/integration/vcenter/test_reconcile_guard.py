# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in no inventory any more may be alive: all vCenters of the inventory are asked before it is taken off."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import linked, stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from ansible_collections.pxemanager.esxi.tests.support.fleet import Fleet
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

LIVE, PARKED = "esx02.example.com", "esx03.example.com"


@pytest.fixture
def fleet(
    tmp_path: pathlib.Path, authority: Authority, server_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> t.Iterator[Fleet]:
    """One host in the inventory and in vCenter; two left over, of which the linked vCenter shows one alive."""
    group = linked.start_group(2, server_pair, authority.pair.cert)
    group[1].add_host(LIVE, machines=1)
    group[1].add_host(PARKED, maintenance=True)
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority.pair.cert))
    fleet = Fleet(tmp_path)
    fleet.add(definition(1), esxi_host_vcenter={"hostname": "127.0.0.1", "datacenter": "DC0", "cluster": "DC0_C0"})
    fleet.variables.update(
        esxi_host_vcenter_port=group[0].port,
        esxi_host_vcenter_username=stand_ins.USER,
        esxi_host_vcenter_password=stand_ins.PASSWORD,
    )
    fleet.server.good("published", *(definition(number) for number in (1, 2, 3)))
    yield fleet
    group.stop()


def there(fleet: Fleet) -> list[str]:
    return sorted(path.stem for path in fleet.server.layout.records_dir.glob("[!.]*"))


def test_a_live_host_is_not_taken_off_unless_it_is_forced_by_name(fleet: Fleet) -> None:
    failed = fleet.play("reconcile", esxi_reconcile_remove="all", esxi_reconcile_max=2)
    assert f"{LIVE} is connected in" in failed["pxe01"] and "1 powered-on machine" in failed["pxe01"]
    assert PARKED not in failed["pxe01"] and there(fleet) == ["esx01.example.com", LIVE]
    assert stand_ins.PASSWORD not in fleet.output

    unknown = {"esxi_reconcile_remove": LIVE, "esxi_host_vcenter_port": 1}
    assert f"It is not known whether {LIVE} is alive" in fleet.play("reconcile", **unknown)["pxe01"]
    assert LIVE in there(fleet)

    assert fleet.play("reconcile", esxi_reconcile_remove=LIVE, esxi_host_force_live=LIVE) == {}
    assert there(fleet) == ["esx01.example.com"]
