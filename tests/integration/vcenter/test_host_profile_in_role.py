# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role esxi_host's step for host profiles, run by Ansible on hosts that have joined, against a vcsim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("pyVmomi")

from pyVmomi import vim

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from ansible_collections.pxemanager.esxi.tests.support.profiled_center import WRITES, Center, profiled_center

INVENTORY = ("-dc", "1", "-cluster", "1", "-host", "3", "-standalone-host", "0", "-vm", "0", "-ds", "1")
SECRET = "Monitoring-secret-9"
PROFILES = [
    {
        "name": "Production",
        "settings": {"NTP servers": "192.0.2.4"},
        "asks": [{"path": "security.user", "policy": "PasswordPolicy", "parameter": "password", "secret": True}],
    }
]
HOSTS = ["dc0_c0_h0", "dc0_c0_h1", "dc0_c0_h2"]
# What the steps before leave behind.
PLAY = """
- name: Apply the host profiles
  hosts: esxi_hosts
  gather_facts: false
  tasks:
    - name: Say what the steps before have found out
      ansible.builtin.set_fact:
        esxi_host__self:
          name: "{{ inventory_hostname }}"
          vcenter: 127.0.0.1
          login:
            hostname: 127.0.0.1
            port: "{{ esxi_host_vcenter_port }}"
            username: "{{ esxi_host_vcenter_username }}"
            password: "{{ esxi_host_vcenter_password }}"
            validate_certs: true
        esxi_host__join: {name: "{{ inventory_hostname }}", vcenter: 127.0.0.1}
        esxi_host__missing: {results: [{hosts: "{{ {newcomer: {'changed': true, 'failed': false}} }}"}]}
      vars:
        newcomer: "{{ groups['esxi_hosts'][2] }}"

    - name: Apply the host profile
      ansible.builtin.include_role:
        name: pxemanager.esxi.esxi_host
        tasks_from: profile.yml
"""


@pytest.fixture
def center(start: t.Callable[..., t.Any], server_pair: Pair, authority: Authority) -> Center:
    return t.cast(Center, start(profiled_center(server_pair, authority, PROFILES, INVENTORY)))


@pytest.fixture
def play(tmp_path: Path, center: Center, authority: Authority) -> t.Callable[..., tuple[dict[str, t.Any], str]]:
    def run(*arguments: str, **variables: t.Any) -> tuple[dict[str, t.Any], str]:
        common = {
            "ansible_python_interpreter": sys.executable,
            "esxi_host_vcenter_port": center.port,
            "esxi_host_vcenter_username": stand_ins.USER,
            "esxi_host_vcenter_password": stand_ins.PASSWORD,
            "esxi_host_profile": {"name": "Production"},
            "esxi_host_profile_secrets": {"password": SECRET},
        }
        hosts = {name: dict(variables.get(name, {})) for name in HOSTS}
        inventory = {"esxi_hosts": {"hosts": hosts}, "all": {"vars": common}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.yml", "--diff", *arguments],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "SSL_CERT_FILE": str(authority.pair.cert),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            },
            check=False,
        )
        recap = {}
        for line in done.stdout.partition("PLAY RECAP")[2].splitlines():
            name, colon, counts = line.partition(" : ")
            if colon:
                recap[name.strip()] = {key: int(value) for key, value in (one.split("=") for one in counts.split())}
        assert recap, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        # long messages are wrapped
        return recap, " ".join(done.stdout.split())

    return run


def test_all_hosts_in_one_call_and_nothing_the_second_time(play, center) -> None:
    first, output = play()

    assert {name: one["failed"] for name, one in first.items()} == dict.fromkeys(HOSTS, 0), output
    assert center.calls("Login") == 1 and center.calls("ApplyHostConfig_Task") == 3
    assert "dc0_c0_h0 complies with host profile Production: it was attached; answers were written" in output
    center.profiles.seen.clear()

    second, output = play()

    assert {name: (one["changed"], one["failed"]) for name, one in second.items()} == dict.fromkeys(HOSTS, (0, 0)), (
        output
    )
    assert center.writes() == []


def test_a_host_fails_alone_and_the_next_run_tries_it_again(play, center) -> None:
    center.profiles.inject(
        "ApplyHostConfig_Task",
        vim.fault.HostConfigFailed(failure=[vim.fault.HostConfigFault(msg="no")]),
        host=center.hosts()["DC0_C0_H1"],
    )

    first, output = play()

    assert {name: one["failed"] for name, one in first.items()} == {HOSTS[0]: 0, HOSTS[1]: 1, HOSTS[2]: 0}
    assert "dc0_c0_h1 did not take the configuration of Production" in output

    second, output = play()

    assert {name: one["failed"] for name, one in second.items()} == dict.fromkeys(HOSTS, 0), output
    assert "dc0_c0_h1 complies with host profile Production" in output


def test_check_mode_leaves_out_hosts_that_are_not_in_vcenter_yet(play, center) -> None:
    recap, output = play("--check")

    assert {name: one["failed"] for name, one in recap.items()} == dict.fromkeys(HOSTS, 0), output
    assert "dc0_c0_h1 would comply with host profile Production" in output
    assert "dc0_c0_h2 would comply" not in output
    assert not WRITES.intersection(center.writes())


def test_a_host_without_a_profile_is_not_touched(play, center) -> None:
    recap, output = play(**{HOSTS[0]: {"esxi_host_profile": {}}})

    assert recap[HOSTS[0]]["failed"] == 0
    touched = {host for method, host in center.profiles.seen if method == "ApplyHostConfig_Task"}
    assert center.hosts()["DC0_C0_H0"] not in touched
    assert center.calls("ApplyHostConfig_Task") == 2
