# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers, slices, batches and limits: the same result, nothing lost, and readable when there are many."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._published import survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import tree_lock
from ansible_collections.pxemanager.esxi.tests.support import controllers
from ansible_collections.pxemanager.esxi.tests.support.fleet import Fleet, slice_of
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_faults import now


def test_controllers_that_overlap_while_machines_install(tmp_path: pathlib.Path) -> None:
    campaign = controllers.Campaign(tmp_path)
    campaign.run(controllers.controllers(3, 8, 4, short=True))
    print(campaign)
    assert campaign.problems == []
    assert campaign.clashes and any(machine.acknowledged for machine in campaign.machines)


def outcome(fleet: Fleet) -> dict[str, object]:
    """What came of a play, but for times and secrets."""
    found = survey(fleet.server.config, now())
    assert found.leftovers == () and not any(host.problems for host in found.hosts.values())
    return {
        "hosts": {name: (host.mode, host.stage, host.image, host.macs) for name, host in found.hosts.items()},
        "files": sorted(path for path in fleet.server.contents() if not path.endswith(".lock")),
        "local": {
            path: content
            for path, (_mode, _gid, content) in fleet.server.contents().items()
            if "/local/" in path or "dhcp-hosts" in path or "state/hosts/" in path
        },
    }


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    fleet = Fleet(tmp_path_factory.mktemp("at-once"), hosts=range(1, 5))
    assert fleet.play("publish") == {}
    assert set(fleet.modes().values()) == {"install"}
    return outcome(fleet)


def test_batches_give_what_one_play_gives(tmp_path: pathlib.Path, at_once: dict[str, object]) -> None:
    fleet = Fleet(tmp_path, hosts=range(1, 5))
    assert fleet.play("publish", "--forks", "50", play={"serial": "50%"}) == {}
    assert outcome(fleet) == at_once
    assert fleet.play("publish", "--limit", "esx02.example.com,esx03.example.com") == {} and fleet.changed() == 0


def test_slices_at_once_give_what_one_play_gives(tmp_path: pathlib.Path, at_once: dict[str, object]) -> None:
    """Each is given a third of the inventory, as by AWX, and only one of them the PXE server itself."""
    fleet = Fleet(tmp_path, hosts=range(1, 5))
    local = {
        key: fleet.variables[key] for key in ("ansible_connection", "ansible_python_interpreter", "ansible_become")
    }
    fleet.variables["esxi_host_pxe_servers"] = {"pxe01": local}
    everybody = [*fleet.hosts, *fleet.servers]
    running = [
        subprocess.Popen(**fleet.command("publish", only=slice_of(everybody, number, 3))) for number in (1, 2, 3)
    ]
    for process in running:
        output, _nothing = process.communicate(timeout=120)
        assert fleet.result(subprocess.CompletedProcess([], process.returncode, output)) == {}
    assert outcome(fleet) == at_once


def test_a_play_in_batches_retires_no_more_than_were_meant(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, hosts=(1, 2))
    fleet.server.good("published", *({"name": name, **_definition(values)} for name, values in fleet.hosts.items()))
    failed = fleet.play("retire", play={"serial": 1})
    assert all("This run would retire 2 hosts and esxi_host_retire_max is 1" in reason for reason in failed.values())
    assert set(fleet.modes().values()) == {"local"}


def _definition(values: dict[str, object]) -> dict[str, object]:
    return {key.removeprefix("esxi_host_"): value for key, value in values.items()}


def test_check_mode_of_many_hosts_is_read_in_a_minute(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, hosts=range(1, 13))
    before = fleet.server.snapshot()

    assert fleet.play("publish", "--check", "--diff") == {}

    assert fleet.server.snapshot() == before
    assert fleet.output.count("12 hosts differ.") == 2, "kickstarts, and what is armed"
    assert fleet.output.count("esx[01:12].example.com\n") == 2
    assert "* 12 hosts: 2 kickstarts new" in fleet.output
    assert "* 12 hosts: mode none -> install; stage none -> armed; 16 boot files, " in fleet.output
    assert "+vmaccepteula" not in fleet.output and "$6$" not in fleet.output
    assert "rm -f" not in fleet.output
    few = len(fleet.output.splitlines())

    # a few hosts are shown in full, and many when it is asked for
    assert fleet.play("publish", "--check", "--diff", "--limit", "esx01.example.com") == {}
    assert "+mode: install" in fleet.output and fleet.output.count("+vmaccepteula") == 2
    assert fleet.play("publish", "--check", "--diff", esxi_host_diff_limit=0) == {}
    assert fleet.output.count("+mode: install") == 12 and fleet.output.count("+vmaccepteula") == 24
    assert "$6$" not in fleet.output and len(fleet.output.splitlines()) > few + 1000


def test_who_waits_in_vain_for_the_tree_is_told_who_has_it(tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, hosts=(1,))
    (fleet.server.state / "locks").mkdir()
    defaults = {
        "group/pxemanager.esxi.pxe": {"config": "{{ settings }}"},
        "pxemanager.esxi.esxi_pxe_host": {"config": "{{ settings }}", "lock_timeout": 1},
    }
    with tree_lock(fleet.server.layout):
        failed = fleet.play("publish", play={"module_defaults": defaults})
    assert "has held the lock of the boot tree for more than 1 s: wait for it to end" in failed["esx01.example.com"]
    assert "another run (process " in failed["esx01.example.com"]
