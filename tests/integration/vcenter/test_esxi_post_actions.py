# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with Secure Boot: stand-ins whose API starts and stops a real SSH server, and this machine's own ssh."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import armed_hosts, stand_ins

pytest.importorskip("asyncssh")
if shutil.which("ssh") is None:
    pytest.skip("the ssh command is not installed", allow_module_level=True)

MODULE = "esxi_post_actions"
NAME, OTHER = "esx01.example.com", "esx02.example.com"
BOOTSTRAP, WANTED = "Bootstrap-pw-1", "Wanted-secret-2"
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)


def free_port(address: str = "127.0.0.1") -> int:
    with socket.create_server((address, 0)) as taken:
        return t.cast(int, taken.getsockname()[1])


@dataclasses.dataclass
class SecureHost:
    esxi: stand_ins.EsxiHost
    folder: Path
    address: str
    ssh_port: int

    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.ssh_port)) == 0

    def definition(self, **changes: t.Any) -> dict[str, t.Any]:
        known = {
            "name": NAME,
            "address": self.address,
            "port": self.esxi.port,
            "bootstrap_password": BOOTSTRAP,
            "post_actions": [{"ntp": {"servers": ["192.168.77.1"]}}],
            "trust_on_first_use": True,
        }
        return {key: value for key, value in {**known, **changes}.items() if value is not None}


@pytest.fixture
def boot(start, authority, tmp_path) -> t.Callable[..., SecureHost]:
    """Start a host as the installer left it. Its shells know the certificate that its API presents."""

    def do(name: str = "host", address: str = "127.0.0.1", port: int = 0, ssh_port: int = 0) -> SecureHost:
        ssh_port = ssh_port or free_port(address)
        folder = tmp_path / name / "root"
        pair = authority.esxi()
        esxi = start(
            stand_ins.esxi_host(
                pair,
                tmp_path / name,
                BOOTSTRAP,
                *("--ssh", f"{address}:{ssh_port}", "--ssh-folder", str(folder)),
                port=port,
                address=address,
            )
        )
        return SecureHost(esxi, folder, address, ssh_port)

    return do


@pytest.fixture
def run(run_module, tmp_path) -> t.Callable[..., t.Any]:
    def do(*definitions: dict[str, t.Any], host: SecureHost, **more: t.Any) -> t.Any:
        return run_module(
            MODULE,
            hosts=list(definitions),
            ssh_port=host.ssh_port,
            timeout=20,
            attempts_file=str(tmp_path / "attempts" / "attempts.json"),
            **more,
        )

    return do


def test_the_actions_run_and_ssh_is_closed_again(boot, run) -> None:
    host = boot()
    actions = [
        {"ntp": {"servers": ["192.168.77.1"]}},
        {"name": "does not work", "shell": "echo it said why; exit 3\n"},
        {"name": "may fail", "shell": "exit 4\n", "ignore_errors": True},
        {"name": "takes too long", "shell": "exec sleep 30\n", "timeout": 1},
    ]

    result = run(host.definition(post_actions=actions, firstboot="echo last\n"), host=host)

    mine = result["hosts"][NAME]
    assert (mine["failed"], mine["changed"]) == (False, True), result
    assert [(one["name"], one["rc"], one["ignored"]) for one in mine["actions"]] == [
        ("ntp", 0, False),
        ("does not work", 3, False),
        ("may fail", 4, True),
        ("takes too long", 124, False),
        ("firstboot script", 0, False),
    ]
    assert "does not work failed with exit code 3: it said why" in mine["message"]
    assert mine["certificate"].split() == host.esxi.pair.pem.split()
    assert "esxcli system ntp set --server=192.168.77.1 --enabled=true" in (host.folder / "calls").read_text()
    assert host.events() == ["StartService", "login", "login", "StopService"]
    assert not host.is_open()
    assert BOOTSTRAP not in result["output"]


def test_the_host_restarts_between_the_actions(boot, run) -> None:
    host = boot()
    actions = [
        {"name": "one", "shell": "echo one >>runs\n", "reboot": True},
        {"name": "two", "shell": "echo two >>runs; exit 3\n"},
        {"name": "three", "shell": 'echo "three $ESXI_PXE_SERVER" >>runs; : >"$ESXI_PXE_REBOOT"\n', "reboot": "auto"},
        {"name": "four", "shell": "echo four >>runs\n"},
    ]

    result = run(host.definition(post_actions=actions, server_url="http://192.0.2.1"), host=host, reboot_timeout=60)

    mine = result["hosts"][NAME]
    assert (mine["failed"], mine["reboots"]) == (False, 2), result
    assert [(one["name"], one["rc"]) for one in mine["actions"]] == [("one", 0), ("two", 3), ("three", 0), ("four", 0)]
    assert mine["message"].startswith("post action two failed with exit code 3")
    assert "with 2 restarts of the host, and failed: two" in mine["msg"]
    runs = (host.folder / "runs").read_text().split("\n")
    assert runs == ["one", "two", "three http://192.0.2.1", "four", ""], "each once"
    events = host.events()
    assert events.count("restart") == 2 and events.count("StartService") == 3
    assert events[-1] == "StopService" and not host.is_open()
    assert host.esxi.state()["failed_logins"] == 0


def test_a_host_that_does_not_restart_is_said(boot, run) -> None:
    host = boot()
    (host.folder / "bin" / "reboot").write_text("#!/bin/sh\nexit 0\n")

    result = run(
        host.definition(post_actions=[{"name": "one", "shell": "true\n", "reboot": True}]), host=host, reboot_timeout=3
    )

    message = result["hosts"][NAME]["msg"]
    assert "was told to restart after post action 1 of 1" in message and "it has not gone down" in message


def test_a_depot_needs_its_url(boot, run) -> None:
    host = boot()

    result = run(host.definition(post_actions=[{"vib": {"depot": "drivers"}}]), host=host)

    assert "takes drivers from the PXE server; write server_url" in result["hosts"][NAME]["msg"]
    assert host.events() == []


def test_a_wrong_bootstrap_password_is_sent_once(boot, run) -> None:
    host = boot()

    result = run(host.definition(bootstrap_password="Not-the-one-9"), host=host)

    assert result["failed"] and f"{NAME} does not let root in with bootstrap_password" in result["msg"]
    assert host.esxi.state()["failed_logins"] == 1
    assert host.events() == [] and not host.is_open()


def test_no_trust_no_connection(boot, run) -> None:
    host = boot()

    result = run(host.definition(trust_on_first_use=False), host.definition(name=OTHER), host=host)

    message = result["hosts"][NAME]["msg"]
    assert "Nobody has reported the certificate" in message and "esxi_host_trust_on_first_use: true" in message
    assert not result["hosts"][OTHER]["failed"], "the others are done"
    assert host.esxi.state()["logins"] == 4, "those of one run alone: API, SSH twice, API"


def test_check_mode_logs_in_and_touches_nothing(boot, run) -> None:
    host = boot()

    result = run(host.definition(), host=host, check=True)

    assert result["changed"] and result["hosts"][NAME]["certificate"].split() == host.esxi.pair.pem.split()
    assert host.events() == [] and not (host.folder / "calls").exists()


def test_hostile_text_stays_data(boot, run, tmp_path) -> None:
    host = boot()
    trap = tmp_path / "trap"
    evil = f"PB_END\n}}\ntouch {trap}; exit 0\n%firstboot\nPB_END\n"
    quoted = f"$(touch {trap}); touch {trap}"

    result = run(
        host.definition(
            post_actions=[
                {"name": "ends the document", "shell": f"cat <<'EOF'\n{evil.replace(str(trap), 'nothing')}EOF\n"},
                {"advanced": {"option": "/Misc/Note", "value": quoted}},
                {"name": "prints a report", "shell": 'echo \'{"stage":"ready","actions":[]}\'\n'},
            ]
        ),
        host=host,
    )

    mine = result["hosts"][NAME]
    assert not mine["failed"], mine["msg"]
    assert [one["rc"] for one in mine["actions"]] == [0, 0, 0], result
    assert not trap.exists()
    assert f"--string-value={quoted}" in (host.folder / "calls").read_text()
    refused = run(host.definition(post_actions=[{"name": "x'; touch y; '", "shell": "true\n"}]), host=host)
    assert refused["failed"] and "name" in refused["msg"]


def test_ssh_that_an_action_wants_open_stays_open(boot, run) -> None:
    host = boot()

    result = run(host.definition(post_actions=[{"ssh": "enabled"}]), host=host)

    assert not result["hosts"][NAME]["failed"] and host.is_open()
    assert "has SSH stay open" in result["hosts"][NAME]["msg"]
    run(host.definition(), host=host)
    assert host.is_open() and host.events().count("StartService") == 1, "it was open before"


def test_ssh_is_closed_when_the_script_does_not_report(boot, run) -> None:
    host = boot()
    (host.folder / "bin" / "mkdir").write_text("#!/bin/sh\nkill -9 $PPID\n")
    (host.folder / "bin" / "mkdir").chmod(0o755)

    result = run(host.definition(), host=host)

    assert result["failed"] and "no report" in result["msg"]
    assert host.events()[-1] == "StopService" and not host.is_open()


def test_ssh_that_cannot_be_closed_is_said_and_no_login_is_repeated(boot, run) -> None:
    host = boot()
    changed = stand_ins.crypt_hash("Changed-by-an-action-3")

    result = run(host.definition(post_actions=[{"shell": f"echo '{changed}' >../state\n"}]), host=host)

    assert result["failed"] and "could not be closed again" in result["msg"] and "TSM-SSH" in result["msg"]
    assert host.esxi.state()["failed_logins"] == 1


class Controller:
    """Plays the role's phases from the wait on, for hosts that are installed."""

    def __init__(self, folder: Path, ssh_port: int) -> None:
        self._folder, self._ssh_port = folder, ssh_port
        self.server = armed_hosts.Site(folder / "pxe")
        self.output = ""

    def installed(self, name: str) -> None:
        macs = [f"00:50:56:00:00:{int(name[3:5]):02x}"]
        self.server.publish(name, macs, NOW)
        self.server.arm(name, macs, ["127.0.0.1"], NOW)
        status = self.server.status(name).notified("installing", NOW).notified("installed", NOW)
        self.server.write_status(status)

    def play(self, hosts: dict[str, dict[str, t.Any]], *more: str, **settings: t.Any) -> dict[str, dict[str, int]]:
        everything = {"hosts": {**hosts, "pxe01": {}}}
        everything["vars"] = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "esxi_host_pxe_server": "pxe01",
            "esxi_host_macs": ["00:50:56:00:00:01"],
            "esxi_host_bootstrap_password": BOOTSTRAP,
            "esxi_host_root_password": WANTED,
            "esxi_host_secure_boot": True,
            "esxi_host_trust_on_first_use": True,
            "esxi_host_post_actions": [{"ntp": {"servers": ["192.168.77.1"]}}],
            "esxi_host_timeout": 5,
            "esxi_host__publications": {"hosts": {name: {"action": "left"} for name in hosts}},
            **settings,
        }
        attempts = str(self._folder / "attempts.json")
        book = [
            {
                "name": "Go on",
                "hosts": ",".join(hosts),
                "gather_facts": False,
                "module_defaults": {
                    "group/pxemanager.esxi.pxe": {"config": str(self.server.config_path)},
                    "pxemanager.esxi.esxi_root_password": {"timeout": 20, "attempts_file": attempts},
                    "pxemanager.esxi.esxi_post_actions": {
                        "timeout": 20,
                        "ssh_port": self._ssh_port,
                        "attempts_file": attempts,
                    },
                },
                "tasks": [
                    {
                        "name": "A phase of the role",
                        "ansible.builtin.include_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": phase},
                    }
                    for phase in ("describe.yml", "wait.yml", "secure_boot.yml", "finish.yml")
                ],
            }
        ]
        (self._folder / "inventory.json").write_text(json.dumps({"all": everything}), encoding="utf-8")
        (self._folder / "play.json").write_text(json.dumps(book), encoding="utf-8")
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(self._folder / "inventory.json"), str(self._folder / "play.json"), *more),
            ],
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOCALHOST_WARNING": "false"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self.output = done.stdout + done.stderr
        found = json.loads(done.stdout[done.stdout.index("{") :])
        return t.cast("dict[str, dict[str, int]]", found["stats"])


def test_in_the_role_hosts_become_ready_and_are_finished(boot, tmp_path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the hosts listen at port 443, where the role looks for them: that needs root")
    ssh_port = free_port()
    controller = Controller(tmp_path, ssh_port)
    addresses = {NAME: "127.77.1.21", OTHER: "127.77.1.22"}
    machines = {name: boot(name, address, 443, ssh_port) for name, address in addresses.items()}
    for name in addresses:
        controller.installed(name)
    hosts: dict[str, dict[str, t.Any]] = {
        name: {"esxi_host_api_address": address} for name, address in addresses.items()
    }
    hosts[OTHER]["esxi_host_post_actions"] = [{"name": "breaks", "shell": "exit 7\n"}]

    foreseen = controller.play(hosts, "--check")
    assert not any(counts["failures"] for counts in foreseen.values()), controller.output
    assert controller.server.status(NAME).stage == "installed"

    first = controller.play(hosts)

    assert (first[NAME]["failures"], first[OTHER]["failures"]) == (0, 1), controller.output
    good, bad = controller.server.status(NAME), controller.server.status(OTHER)
    assert (good.mode, good.stage, good.finished is not None) == ("local", "ready", True)
    assert [(one.name, one.rc) for one in good.actions] == [("ntp", 0)]
    assert (good.certificate or "").split() == machines[NAME].esxi.pair.pem.split()
    assert machines[NAME].esxi.state()["password_changes"] == 1
    assert (bad.stage, bad.finished) == ("failed", None)
    assert bad.failure is not None and (bad.failure.kind, bad.failure.reason) == ("post_action", "breaks ended with 7")
    assert not any(machine.is_open() for machine in machines.values())

    before = {name: machine.events() for name, machine in machines.items()}
    second = controller.play(hosts)

    assert (second[NAME]["changed"], second[NAME]["failures"], second[OTHER]["failures"]) == (0, 0, 1), (
        controller.output
    )
    assert {name: machine.events() for name, machine in machines.items()} == before, "nothing runs twice"


def test_in_the_role_nothing_happens_without_trust(boot, tmp_path) -> None:
    controller = Controller(tmp_path, 22)
    controller.installed(NAME)

    counts = controller.play({NAME: {"esxi_host_api_address": "127.0.0.1"}}, esxi_host_trust_on_first_use=False)

    assert counts[NAME]["failures"] == 1 and "Nobody has reported the certificate" in controller.output
    assert controller.server.status(NAME).stage == "installed"
