# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with logins of their own at several vCenters, in one play of the role: each call uses those of its hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair

WRONG = "Wrong-secret-9"
PLAY = [
    {
        "name": "Ask the vCenters",
        "hosts": "esxi_hosts",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Describe the host",
                "ansible.builtin.include_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": "describe.yml"},
            },
            {
                "name": "Look for hosts that are alive",
                "ansible.builtin.include_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": "guard.yml"},
                "vars": {
                    "esxi_host__job": "install",
                    "esxi_host__at_stake": "{{ esxi_host__batch | map(attribute='name') | list }}",
                },
            },
            {
                "name": "Take this host's result",
                "ansible.builtin.debug": {
                    "msg": "{{ [esxi_host__guard] | pxemanager.esxi.host_result(esxi_host__self.name) }}"
                },
            },
        ],
    }
]


@pytest.fixture
def centers(server_pair: Pair, tmp_path: Path) -> t.Iterator[list[t.Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(stand_ins.vcsim(server_pair, tmp_path / f"vcsim{number}.log")) for number in (1, 2)]


def test_each_call_has_the_login_of_its_hosts(centers: list[t.Any], authority: Authority, tmp_path: Path) -> None:
    def host(number: int, center: t.Any, password: str = stand_ins.PASSWORD) -> dict[str, t.Any]:
        return {
            "esxi_host_macs": [f"00:50:56:00:00:0{number}"],
            "esxi_host_vcenter_port": center.port,
            "esxi_host_vcenter_password": password,
        }

    # a machine that two sites think is theirs, written in two ways
    twice = {
        "esx05": {"esxi_host_macs": ["00-50-56-00-00-AA"], "esxi_host_vcenter": {}},
        "esx06": {"esxi_host_macs": ["00:50:56:00:00:aa"], "esxi_host_vcenter": {}, "esxi_host_pxe_server": "pxe02"},
    }
    # the first host of the play has the wrong one: all others had it, too, when there was one login for all
    hosts = {
        "esx01": host(1, centers[0], WRONG),
        "esx02": host(2, centers[0]),
        "esx03": host(3, centers[1]),
        "esx04": {"esxi_host_macs": ["00:50:56:00:00:04"], "esxi_host_vcenter": {}},
        **twice,
    }
    inventory = {
        "all": {
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "esxi_host_vcenter": {"hostname": "127.0.0.1", "datacenter": "DC0", "cluster": "DC0_C0"},
                "esxi_host_vcenter_username": stand_ins.USER,
            },
            "children": {"pxe_servers": {"hosts": {"pxe01": {}, "pxe02": {}}}, "esxi_hosts": {"hosts": hosts}},
        }
    }
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    (tmp_path / "play.json").write_text(json.dumps(PLAY))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, "-i", "inventory.json", "play.json"],
        env={
            **os.environ,
            "SSL_CERT_FILE": str(authority.pair.cert),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    for secret in (WRONG, stand_ins.PASSWORD):
        assert secret not in output
    tasks = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]
    refused = {name: one["msg"] for task in tasks for name, one in task["hosts"].items() if one.get("failed")}
    assert set(refused) == set(twice), output
    assert "00-50-56-00-00-AA is also that of esx06 on PXE server pxe02" in refused["esx05"]
    told = {name: result["msg"] for name, result in tasks[-1]["hosts"].items()}
    assert {name: one["failed"] for name, one in told.items() if name != "esx04"} == {
        "esx01": True,
        "esx02": False,
        "esx03": False,
    }, output
    assert "password" in told["esx01"]["msg"] or "log" in told["esx01"]["msg"], told["esx01"]
