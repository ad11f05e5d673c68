# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live-host guard where it counts: role esxi_host run by ansible-playbook, on a PXE server that is this machine."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import linked, stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair, tls_server
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

ROOT = pathlib.Path(__file__).resolve().parents[3]
# In this order they are esx01, esx02 ...
NAMES = ("live", "parked", "elsewhere", "new", "outside")

PLAYBOOK = """
- hosts: esxi_hosts
  gather_facts: false
  module_defaults:
    group/pxemanager.esxi.pxe:
      config: "{{ settings }}"
  tasks:
    - ansible.builtin.import_role:
        name: pxemanager.esxi.esxi_host
        tasks_from: "{{ entry }}"
"""


class Site:
    """A PXE server and an inventory of hosts, some of which the vCenters know."""

    def __init__(self, folder: pathlib.Path, group: linked.LinkedGroup, authority: Authority) -> None:
        self.server = PxeServer(folder / "pxe", dhcp={"mode": "none"})
        self._folder, self._authority = folder, authority
        place = {"hostname": "127.0.0.1", "datacenter": "DC0", "cluster": "DC0_C0"}
        hosts: dict[str, t.Any] = {}
        for number, name in enumerate(NAMES, 1):
            known = definition(number)
            hosts[f"{name}.example.com"] = {
                **{f"esxi_host_{key}": known[key] for key in ("macs", "network", "image", "disk")},
                "esxi_host_vcenter": {} if name == "outside" else place,
            }
        # Everybody's own, so that nobody's is taken for another's: vcsim gives all hosts one MAC address.
        local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
        settings = {
            "esxi_host_vcenter_port": group[0].port,
            "esxi_host_vcenter_username": stand_ins.USER,
            "esxi_host_vcenter_password": stand_ins.PASSWORD,
            "esxi_host_bootstrap_password": "Bootstrap-pw-1",
            "esxi_host_root_password": "Root-secret-7!",
            "esxi_host_retire_max": 9,
            "esxi_host_reinstall_max": 9,
            # nobody boots here: a host that is armed fails at once, at the wait
            "esxi_host_timeout": 1,
            "settings": str(self.server.config_path),
        }
        inventory = {
            "all": {
                "vars": {**local, **settings},
                "children": {"pxe_servers": {"hosts": {"pxe01": {}}}, "esxi_hosts": {"hosts": hosts}},
            }
        }
        (folder / "inventory.yml").write_text(json.dumps(inventory))
        for entry in ("main", "retire"):
            (folder / f"{entry}.yml").write_text(PLAYBOOK.replace("{{ entry }}", entry))
        collections = folder / "collections" / "ansible_collections" / "pxemanager"
        collections.mkdir(parents=True)
        (collections / "esxi").symlink_to(ROOT)

    def play(self, entry: str, *arguments: str, limit: str = "", **variables: t.Any) -> dict[str, str]:
        """Run the role; returns why hosts failed, by their short names."""
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml"]
        command += [f"{entry}.yml", "-e", json.dumps(variables), *arguments]
        if limit:
            command += ["--limit", ",".join(f"{name}.example.com" for name in limit.split(","))]
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(self._folder / "collections"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_LOCAL_TEMP": str(self._folder / "tmp"),
                "ANSIBLE_REMOTE_TEMP": str(self._folder / "tmp"),
                "SSL_CERT_FILE": str(self._authority.pair.cert),
            },
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert "PLAY RECAP" in done.stdout, self.output
        assert stand_ins.PASSWORD not in self.output
        failed = re.findall(r"^fatal: \[(\w+)\.example\.com\]: FAILED! => (\{.*\})$", done.stdout, re.MULTILINE)
        return {name: json.loads(result)["msg"] for name, result in failed}

    def modes(self) -> dict[str, t.Optional[str]]:
        """What the next PXE boot of each host does; None: it is not on the PXE server."""
        return {name: self.server.mode(f"{name}.example.com") for name in NAMES}

    def all_ready(self, certificate: t.Optional[str] = None) -> None:
        """Publish every host and have it report that it was installed."""
        given = [{**definition(number), "name": f"{name}.example.com"} for number, name in enumerate(NAMES, 1)]
        self.server.good("published", *given)
        self.server.write_kickstarts(*given)
        self.server.good("armed", *given)
        for name in NAMES:
            self.server.notify("ready", f"{name}.example.com", certificate=certificate)


@pytest.fixture(scope="module")
def two(authority: Authority, server_pair: Pair) -> t.Iterator[linked.LinkedGroup]:
    """Two linked vCenters with hosts of that inventory."""
    group = linked.start_group(2, server_pair, authority.pair.cert)
    group[0].add_host("live.example.com", machines=1)
    group[0].add_host("parked.example.com", maintenance=True)
    group[1].add_host("elsewhere.example.com")
    yield group
    group.stop()


@pytest.fixture
def group(two: linked.LinkedGroup) -> linked.LinkedGroup:
    for one in two.members:
        one.calls.clear()
    return two


@pytest.fixture
def site(tmp_path: pathlib.Path, group: linked.LinkedGroup, authority: Authority) -> Site:
    return Site(tmp_path, group, authority)


def test_new_hosts_are_armed_and_live_ones_are_not(site, group) -> None:
    failed = site.play("main")

    assert site.modes() == {
        "live": "local",
        "parked": "install",
        "elsewhere": "local",
        "new": "install",
        "outside": "install",
    }
    assert "is connected in" in failed["live"] and "esxi_host_force_live=live.example.com" in failed["live"]
    assert f"is managed by another vCenter of the group, {group[1].address}" in failed["elsewhere"]
    for name in ("parked", "new", "outside"):
        assert "never asked for its kickstart" in failed[name], failed[name]
    # all hosts of the play at once
    assert [one.calls.count("RetrievePropertiesEx") for one in group.members] == [1, 1]


def test_an_ordinary_run_asks_nobody(site, group) -> None:
    site.all_ready()

    assert site.play("main") == {}, site.output

    assert [one.calls for one in group.members] == [[], []]
    assert set(site.modes().values()) == {"local"}


def test_a_reinstall_of_a_live_host_needs_its_name(site, group) -> None:
    site.all_ready()

    for force in ("", True, "parked.example.com"):
        failed = site.play("main", limit="live", esxi_host_reinstall=True, esxi_host_force_live=force)
        assert site.modes()["live"] == "local", force
        sentence = "force must be the names" if force is True else "1 powered-on machine"
        assert sentence in failed["live"]
    checked = site.play("main", "--check", limit="live", esxi_host_reinstall=True)
    assert "1 powered-on machine" in checked["live"]

    failed = site.play("main", limit="live", esxi_host_reinstall=True, esxi_host_force_live="live.example.com")
    assert site.modes()["live"] == "install" and "never asked for its kickstart" in failed["live"]

    # and now that it is armed, a run without the name says that the arming is still there
    failed = site.play("main", limit="live")
    assert "It has been armed since an earlier run" in failed["live"]


def test_retired_and_provisioned_again_a_live_host_is_still_refused(site, group) -> None:
    site.all_ready()

    failed = site.play("retire", limit="live,parked,new,outside")
    assert list(failed) == ["live"] and "it is not retired" in failed["live"]
    assert site.modes() == {"live": "local", "parked": None, "elsewhere": "local", "new": None, "outside": None}

    assert site.play("retire", limit="live", esxi_host_force_live="live.example.com") == {}
    assert site.modes()["live"] is None
    group[0].calls.clear()
    assert site.play("retire", limit="live") == {} and group[0].calls == []

    failed = site.play("main", limit="live")
    assert "1 powered-on machine" in failed["live"] and site.modes()["live"] == "local"


def test_a_vcenter_that_cannot_be_asked(site) -> None:
    failed = site.play("main", limit="new,outside", esxi_host_vcenter_port=1)
    assert "It is not known whether new.example.com is alive" in failed["new"] and "127.0.0.1:1" in failed["new"]
    assert site.modes()["new"] == "local" and site.modes()["outside"] == "install"

    site.play("main", limit="new", esxi_host_vcenter_port=1, esxi_host_vcenter_unreachable="accept")
    assert site.modes()["new"] == "install"


def test_without_a_login_nothing_is_armed(site) -> None:
    failed = site.play("main", limit="new,outside", esxi_host_vcenter_password="")
    assert "No password of the vCenter is given" in failed["new"]
    assert site.modes()["new"] == "local" and site.modes()["outside"] == "install"


def test_check_mode_writes_nothing_and_foresees_the_same(site) -> None:
    before = site.server.snapshot()

    failed = site.play("main", "--check", "--diff")

    assert set(failed) == {"live", "elsewhere"}, site.output
    assert site.server.snapshot() == before
    # once, not for publishing and once more for arming
    assert site.output.count("+mode: install") == 3


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a host's API is at port 443, which needs root")
def test_a_host_of_another_vcenter_does_not_join(site, group, authority) -> None:
    pair = authority.esxi()
    site.all_ready(pair.pem)

    with tls_server(pair, ("127.0.77.23", 443)):
        failed = site.play("main", limit="elsewhere", esxi_host_api_address="127.0.77.23")

    assert f"is managed by another vCenter of the group, {group[1].address}" in failed["elsewhere"]
    assert "AddHost_Task" not in group[0].calls
