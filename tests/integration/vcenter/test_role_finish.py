# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's last phase, as a play runs it: passwords and vCenter, for hosts that are new and for reinstalled ones."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import armed_hosts, stand_ins

NAME, OTHER = "esx01.example.com", "esx02.example.com"
BOOTSTRAP, WANTED = "Bootstrap-pw-1", "Wanted-secret-2"
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)


class Controller:
    """Plays the phase for hosts that have become ready."""

    def __init__(self, here: t.Any, folder: Path, trusted: Path) -> None:
        self.here, self._folder, self._trusted = here, folder, trusted
        self.server = armed_hosts.Site(folder / "pxe")

    def becomes_ready(self, name: str, command: str = "install") -> None:
        """What pbconnect leaves on the PXE server when a host's first boot is done."""
        if not self.server.layout.status(name).exists():
            self.server.publish(name, [f"00:50:56:00:00:{int(name[3:5]):02x}"], NOW)
        self.server.write_status(
            dataclasses.replace(
                self.server.status(name),
                stage="ready",
                certificate=self.here.hosts[name].pair.pem,
                finished=None,
                command=command,
            )
        )

    def play(self, *names: str, own: t.Optional[dict[str, t.Any]] = None, **place: t.Any) -> dict[str, dict[str, int]]:
        """Run the phase; what Ansible counted for each host. ``own`` are further variables of some."""
        hosts = {}
        arrivals = {}
        for name in names:
            arrivals[name] = {"stage": "ready", "status": self.server.status(name).to_json()}
            hosts[name] = {
                "esxi_host_api_address": self.here.addresses[name],
                **(own or {}).get(name, {}),
            }
        everything = {"hosts": {**{name: hosts[name] for name in names}, "pxe01": {}}}
        everything["vars"] = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "esxi_host__arrivals": {"hosts": arrivals},
            "esxi_host_pxe_server": "pxe01",
            "esxi_host_macs": ["00:50:56:00:00:01"],
            "esxi_host_bootstrap_password": BOOTSTRAP,
            "esxi_host_root_password": WANTED,
            "esxi_host_vcenter": {
                "hostname": "127.0.0.1",
                "datacenter": "DC0",
                "cluster": "DC0_C1",
                **place,
            },
            "esxi_host_vcenter_port": self.here.center.port,
            "esxi_host_vcenter_username": stand_ins.USER,
            "esxi_host_vcenter_password": stand_ins.PASSWORD,
        }
        tasks = [
            {
                "name": "A phase of the role",
                "ansible.builtin.include_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": phase},
            }
            for phase in ("describe.yml", "finish.yml")
        ]
        book = [
            {
                "name": "Finish",
                "hosts": ",".join(names),
                "gather_facts": False,
                "module_defaults": {
                    "group/pxemanager.esxi.pxe": {"config": str(self.server.config_path)},
                    "pxemanager.esxi.esxi_root_password": {"timeout": 20},
                    "pxemanager.esxi.vcenter_add_host": {"retry_for": 10},
                },
                "tasks": tasks,
            }
        ]
        (self._folder / "inventory.json").write_text(json.dumps({"all": everything}), encoding="utf-8")
        (self._folder / "play.json").write_text(json.dumps(book), encoding="utf-8")
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(self._folder / "inventory.json"), str(self._folder / "play.json")),
            ],
            env={
                **os.environ,
                "SSL_CERT_FILE": str(self._trusted),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "ANSIBLE_LOCALHOST_WARNING": "false",
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        found = json.loads(done.stdout[done.stdout.index("{") :])
        self.output = done.stdout + done.stderr
        return t.cast("dict[str, dict[str, int]]", found["stats"])


@pytest.fixture(autouse=True)
def _may_take_ports() -> None:
    if os.geteuid() != 0:
        pytest.skip("the hosts listen at port 443, where the role looks for them: that needs root")


@pytest.fixture
def controller(site, tmp_path, authority) -> Controller:
    here = site(gateway=["--heartbeat", "0.1"])
    return Controller(here, tmp_path, authority.pair.cert)


def test_a_reinstalled_host_ends_connected_in_its_old_place(controller, listing) -> None:
    here = controller.here
    for number, name in enumerate((NAME, OTHER)):
        here.addresses[name] = f"127.77.0.{21 + number}"
        here.boot(name, 443, password=BOOTSTRAP)
        controller.becomes_ready(name)

    first = controller.play(NAME, OTHER)

    assert not any(counts["failures"] for counts in first.values()), controller.output
    assert listing(here.center) == {NAME: ("DC0_C1", "connected"), OTHER: ("DC0_C1", "connected")}
    assert controller.server.status(NAME).finished
    again = controller.play(NAME, OTHER)
    assert not any(counts["changed"] or counts["failures"] for counts in again.values()), controller.output

    here.reinstall(NAME, BOOTSTRAP)
    controller.becomes_ready(NAME)
    assert stand_ins.wait_until(lambda: listing(here.center)[NAME][1] == "disconnected")
    second = controller.play(NAME, OTHER)

    assert not any(counts["failures"] for counts in second.values()), controller.output
    assert listing(here.center) == {NAME: ("DC0_C1", "connected"), OTHER: ("DC0_C1", "connected")}
    state = here.hosts[NAME].state()
    assert (state["password_changes"], state["failed_logins"]) == (1, 0), "the real password, in one try"
    assert here.hosts[OTHER].state()["password_changes"] == 1, "the other one was left alone"
    assert state["managed_by"] == f"127.0.0.1:{here.center.port} {NAME}"
    last = controller.play(NAME, OTHER)
    assert not any(counts["changed"] or counts["failures"] for counts in last.values()), controller.output
    for password in (BOOTSTRAP, WANTED, stand_ins.PASSWORD):
        assert password not in controller.output


def test_an_upgraded_host_keeps_its_password_and_its_place(controller, listing) -> None:
    """Another root password than the inventory's is none of this run's business while vCenter has the host."""
    here = controller.here
    here.addresses[NAME] = "127.77.0.21"
    here.boot(NAME, 443, password=WANTED)
    controller.becomes_ready(NAME, command="upgrade")

    first = controller.play(NAME)

    assert not first[NAME]["failures"], controller.output
    assert listing(here.center) == {NAME: ("DC0_C1", "connected")}, "one that nobody had joined is joined"
    assert controller.server.status(NAME).finished
    before = here.hosts[NAME].state()
    assert (before["password_changes"], before["failed_logins"]) == (0, 0)

    controller.becomes_ready(NAME, command="upgrade")
    second = controller.play(NAME)

    assert not second[NAME]["failures"], controller.output
    state = here.hosts[NAME].state()
    assert state == before, "nobody has tried to log in"
    assert controller.server.status(NAME).finished
    last = controller.play(NAME, hostname="", datacenter="", cluster="")
    assert not last[NAME]["failures"] and not last[NAME]["changed"], "one outside vCenter has nothing to be done"


def test_a_login_that_is_refused_fails_its_own_hosts_alone(controller, listing) -> None:
    here = controller.here
    for number, name in enumerate((NAME, OTHER)):
        here.addresses[name] = f"127.77.0.{21 + number}"
        here.boot(name, 443, password=BOOTSTRAP)
        controller.becomes_ready(name)

    # the first host of the play, whose login all others had when there was one for all
    found = controller.play(NAME, OTHER, own={NAME: {"esxi_host_vcenter_password": "Wrong-secret-9"}})

    assert {name: found[name]["failures"] for name in (NAME, OTHER)} == {NAME: 1, OTHER: 0}, controller.output
    assert listing(here.center) == {OTHER: ("DC0_C1", "connected")}
    assert here.hosts[NAME].state()["password_changes"] == 0, "it could not join, so the next run does all of it"
    assert controller.server.status(OTHER).finished and not controller.server.status(NAME).finished
    assert "Wrong-secret-9" not in controller.output
