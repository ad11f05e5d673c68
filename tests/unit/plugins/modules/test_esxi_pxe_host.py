# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module esxi_pxe_host: what it takes, what it returns, and that check mode writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.module_utils import _deps
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_pxe_host
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

ONE, TWO = definition(1), definition(2)
NAME, NAME2 = ONE["name"], TWO["name"]


class Ended(Exception):
    pass


@pytest.fixture(autouse=True)
def no_exit(monkeypatch):
    def exit_json(_module, **result):
        raise Ended(result)

    def fail_json(_module, msg, **result):
        raise Ended({**result, "msg": msg, "failed": True})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)


@pytest.fixture
def server(tmp_path):
    # A command that leaves a trace, in the place of systemctl.
    reload = ["/bin/sh", "-c", f"echo x >> {tmp_path}/reloads"]
    hosts_dir = str(tmp_path / "server/state/dhcp-hosts")
    server = PxeServer(tmp_path / "server", dhcp={"mode": "dnsmasq", "hosts_dir": hosts_dir, "reload": reload})
    server.write_kickstarts(ONE, TWO)
    return server


def run(server, check=False, diff=False, **options):
    options = {
        "config": str(server.config_path),
        "state": "armed",
        **options,
        "_ansible_check_mode": check,
        "_ansible_diff": diff,
    }
    with patch_module_args(options), pytest.raises(Ended) as ended:
        esxi_pxe_host.main()
    result = ended.value.args[0]
    return json.loads(json.dumps(result))


def test_without_a_state_nothing_is_armed(server):
    options = {"config": str(server.config_path), "hosts": [ONE]}
    with patch_module_args(options), pytest.raises(Ended) as ended:
        esxi_pxe_host.main()
    assert ended.value.args[0]["hosts"][NAME]["action"] == "published"
    assert server.boots(ONE["macs"][0]) == "local"


def test_a_finished_host_is_noted_once_and_only_when_it_is_ready(server):
    run(server, hosts=[ONE, TWO])
    server.notify("ready", NAME)
    before = server.snapshot()
    planned = run(server, check=True, hosts=[ONE], state="finished")
    assert planned["changed"] and server.snapshot() == before

    result = run(server, hosts=[ONE, TWO], state="finished")

    assert result["hosts"][NAME]["action"] == "finished" and server.status(NAME).finished is not None
    assert result["failed_hosts"] == [NAME2] and "not ready" in result["hosts"][NAME2]["msg"]
    assert server.boots(TWO["macs"][0]) == "install", "a host that waits for its install is not disturbed"
    again = run(server, hosts=[ONE], state="finished")
    assert not again["changed"] and again["hosts"][NAME]["action"] == "left"


def test_a_host_that_is_not_published_cannot_be_finished(server):
    assert "not published" in run(server, hosts=[ONE], state="finished", on_host_failure="report")["hosts"][NAME]["msg"]


def test_what_was_done_in_place_of_the_first_boot_is_noted_once(server):
    armed = run(server, hosts=[ONE, TWO])["hosts"]
    server.notify("installed", NAME)
    done = {
        "name": NAME.upper(),
        "install": armed[NAME]["install"],
        "actions": [{"name": "ntp", "rc": 0, "seconds": 1, "ignored": False}],
        "certificate": CERTIFICATE,
        "message": "done",
    }
    before = server.snapshot()
    planned = run(server, check=True, hosts=[done], state="ready")
    assert planned["hosts"][NAME]["stage"] == "ready" and planned["changed"] and server.snapshot() == before

    result = run(server, diff=True, hosts=[done, {**done, "name": NAME2}, {"name": "no name"}], state="ready")

    assert (result["hosts"][NAME]["action"], result["hosts"][NAME]["stage"]) == ("ready", "ready")
    assert "ready" in result["diff"][0]["after"] and "CERTIFICATE" not in str(result["diff"][0]["before"])
    assert "the last install of" in result["hosts"][NAME2]["msg"] and "no name" in result["failed_hosts"]
    status = server.status(NAME)
    assert (status.certificate, status.message, status.actions[0].name) == (CERTIFICATE, "done", "ntp")
    again = run(server, hosts=[done], state="ready")
    assert not again["changed"] and again["hosts"][NAME]["action"] == "left"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"install": ""}, "install is missing"),
        ({"certificate": ""}, "certificate is missing"),
        ({"certificate": "none"}, "not one PEM certificate"),
        ({"actions": [{"name": "x", "rc": "0"}]}, "'rc' is not an exit code"),
        ({"actions": "x"}, "'actions' is not a list"),
    ],
)
def test_what_was_done_must_make_sense(server, wrong, said):
    run(server, hosts=[ONE])
    server.notify("installed", NAME)
    before = server.snapshot()
    result = run(server, hosts=[{"name": NAME, "install": "x", "certificate": CERTIFICATE, **wrong}], state="ready")
    assert result["failed"] and said in result["hosts"][NAME]["msg"] and server.snapshot() == before


def test_hosts_are_armed_and_the_second_call_changes_nothing(server):
    result = run(server, hosts=[ONE, TWO])
    assert (result["changed"], result["failed"], result["failed_hosts"]) == (True, False, [])
    assert {name: host["action"] for name, host in result["hosts"].items()} == {NAME: "armed", NAME2: "armed"}
    assert server.boots(ONE["macs"][0]) == "install"
    assert "diff" not in result
    again = run(server, hosts=[ONE, TWO])
    assert again["changed"] is False
    assert {name: host["action"] for name, host in again["hosts"].items()} == {NAME: "left", NAME2: "left"}


@pytest.mark.parametrize("state", ["published", "armed", "disarmed", "absent"])
def test_check_mode_writes_nothing(server, state):
    if state in ("disarmed", "absent"):
        run(server, hosts=[ONE])
    before = server.snapshot()
    planned = run(server, check=True, diff=True, hosts=[ONE], state=state)
    assert server.snapshot() == before
    assert planned["changed"] is True
    done = run(server, hosts=[ONE], state=state)
    assert done["hosts"][NAME]["action"] == planned["hosts"][NAME]["action"]
    before = server.snapshot()
    assert run(server, check=True, hosts=[ONE], state=state)["changed"] is False
    assert server.snapshot() == before


def test_every_state(server):
    assert run(server, hosts=[ONE], state="published")["hosts"][NAME]["mode"] == "local"
    assert run(server, hosts=[ONE], state="armed")["hosts"][NAME]["mode"] == "install"
    assert run(server, hosts=[{"name": NAME}], state="disarmed")["hosts"][NAME]["mode"] == "local"
    assert run(server, hosts=[{"name": NAME.upper()}], state="absent")["hosts"][NAME]["action"] == "removed"
    assert not server.layout.tree(NAME).exists()


def test_a_bad_host_fails_the_task_after_the_others_are_done(server):
    bad = {**TWO, "macs": ["00:50:56:aa:02:zz"], "image": "a b"}
    result = run(server, hosts=[ONE, bad, {"macs": []}])
    assert result["failed"] is True
    assert result["failed_hosts"] == [NAME2, "hosts[2]"]
    assert len(result["hosts"][NAME2]["reasons"]) == 2
    assert NAME2 in result["msg"] and "hosts[2]" in result["msg"]
    assert server.boots(ONE["macs"][0]) == "install"
    result = run(server, hosts=[ONE, bad], on_host_failure="report")
    assert (result["failed"], result["failed_hosts"]) == (False, [NAME2])


@pytest.mark.parametrize("state", ["disarmed", "absent"])
def test_names_are_checked_where_nothing_else_is(server, state):
    run(server, hosts=[ONE])
    hosts = [{"name": "../etc"}, {"name": "a\nb"}, {}, {"name": 5}, {"name": NAME}, {"name": NAME}]
    result = run(server, hosts=hosts, state=state)
    assert result["failed_hosts"] == ["../etc", "hosts[1]", "hosts[2]", "hosts[3]"]
    assert result["hosts"][NAME]["failed"] is False


def test_the_dhcp_server_is_told(server, tmp_path):
    run(server, hosts=[ONE], state="published")
    assert not (tmp_path / "reloads").exists()
    run(server, hosts=[{**ONE, "network": {"address": "192.168.77.99/24"}}], state="published")
    assert (tmp_path / "reloads").read_text() == "x\n"


def test_a_dhcp_server_that_does_not_listen_is_said(server):
    run(server, hosts=[ONE], state="published")
    document = json.loads(server.config_path.read_text())
    document["dhcp"]["reload"] = ["/bin/sh", "-c", "echo Unit not found >&2; exit 5"]
    server.config_path.write_text(json.dumps(document))
    result = run(server, hosts=[ONE], state="absent")
    assert result["failed_hosts"] == [NAME]
    assert "ended with 5: Unit not found" in result["msg"]


def test_the_definitions_are_not_sent_back(server):
    result = run(server, hosts=[ONE, TWO], reinstall_max=3)
    assert result["invocation"]["module_args"]["hosts"] == [NAME, NAME2]
    assert result["invocation"]["module_args"]["reinstall_max"] == 3


def test_a_limit_of_reinstalls(server):
    run(server, hosts=[ONE, TWO])
    server.notify("ready", NAME)
    server.notify("ready", NAME2)
    hosts = [{**given, "reinstall": True} for given in (ONE, TWO)]
    assert run(server, hosts=hosts, reinstall_max=1)["failed_hosts"] == [NAME, NAME2]
    result = run(server, hosts=hosts[:1], reinstall_max=1)
    assert result["hosts"][NAME]["action"] == "armed"


def test_a_difference_for_each_host(server):
    result = run(server, hosts=[ONE, TWO], diff=True)
    assert [diff["after_header"] for diff in result["diff"]] == ["files of all hosts", NAME, NAME2]
    assert server.install(NAME).key not in json.dumps(result)


def test_no_key_is_returned(server):
    result = run(server, hosts=[ONE])
    assert server.install(NAME).key not in json.dumps(result)


def test_a_server_that_was_not_set_up_is_said(server, tmp_path):
    result = run(server, hosts=[ONE], config=str(tmp_path / "missing.json"))
    assert result == {
        "failed": True,
        "msg": f"{tmp_path}/missing.json does not exist: run the role pxe_server on this machine first.",
    }


def test_a_missing_library_is_named(server, monkeypatch):
    monkeypatch.setattr(_deps, "NETADDR_IMPORT_ERROR", "Traceback")
    result = run(server, hosts=[ONE])
    assert result["failed"] is True
    assert "netaddr" in result["msg"]
    assert result["exception"] == "Traceback"


def test_documentation_and_arguments_are_the_same():
    documented = yaml.safe_load(esxi_pxe_host.DOCUMENTATION)["options"]
    assert documented["state"]["choices"] == ["published", "armed", "disarmed", "ready", "finished", "absent"]
    assert {name: option.get("default") for name, option in documented.items()} == {
        "hosts": None,
        "state": "published",
        "stuck_after": 3600,
        "reinstall_max": None,
        "owner": "",
        "take_over_from": "",
        "diff_limit": 10,
        "lock_timeout": 300,
        "on_host_failure": "fail",
        "config": "/etc/esxi-pxe/server.json",
    }


def test_as_a_process_of_its_own(server):
    arguments = {"config": str(server.config_path), "hosts": [ONE], "state": "published"}
    code = (
        "from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.pxemanager.esxi.plugins.modules import esxi_pxe_host\n"
        f"with patch_module_args({arguments!r}): esxi_pxe_host.main()\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["hosts"][NAME]["action"] == "published"
