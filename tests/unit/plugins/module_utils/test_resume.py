# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Post actions with restarts between them, run by a real busybox shell on a host that forgets what was not saved."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import firstboot_script, ssh_script
from ansible_collections.pxemanager.esxi.tests.support.script_machine import (
    BUSYBOX,
    CERTIFICATE,
    LOCAL_SH,
    MAC,
    OK,
    EsxiHost,
    Server,
    action,
)

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed")


@pytest.fixture
def server():
    one = Server(OK)
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def host(tmp_path):
    return EsxiHost(tmp_path)


def count(host, name):
    """An action that notes each of its runs."""
    return f'echo {name} >>"{host.root}/runs"\n'


def runs(host):
    path = host.root / "runs"
    return path.read_text().split() if path.exists() else []


def install(host, server, actions):
    """The first boot, and as many more as the host asks for; what it says last, and how often it restarted."""
    host.run(firstboot_script(MAC, 5, actions), server.url)
    while host.wants_restart():
        assert host.boots < 20, "the host restarts for ever"
        host.boot()
    return server.notes()[-1]


def results(note):
    return [(one["name"], one["rc"]) for one in note["actions"]]


def assert_left_clean(host):
    assert host.local.read_text() == LOCAL_SH
    assert not host.kept.exists()
    saved = subprocess.run(
        ["tar", "-tf", "saved/state.tar"], cwd=host.root, capture_output=True, text=True, check=True
    ).stdout
    assert saved.split() == ["etc/rc.local.d/local.sh"], "something of it is on the disk still"
    assert not list(host.root.glob("work*"))


def test_three_actions_two_restarts_then_ready(host, server):
    actions = [
        action("one", count(host, "one"), reboot="yes"),
        action("two", count(host, "two")),
        action("three", count(host, "three"), reboot="yes"),
    ]
    last = install(host, server, actions)
    assert host.boots == 2
    assert runs(host) == ["one", "two", "three"], "each once"
    told = [(note["stage"], note["message"], note.get("progress")) for note in server.notes()]
    assert told == [
        ("installed", "rebooting after action 1 of 3: one", {"total": 3, "rebooting": True}),
        ("installed", "back after restart 1, 1 of 3 post actions are done", {"total": 3, "rebooting": False}),
        ("installed", "rebooting after action 3 of 3: three", {"total": 3, "rebooting": True}),
        ("installed", "back after restart 2, 3 of 3 post actions are done", {"total": 3, "rebooting": False}),
        ("ready", "the first boot is done", None),
    ]
    assert [len(note.get("actions", ())) for note in server.notes()] == [1, 1, 3, 3, 3]
    assert results(last) == [("one", 0), ("two", 0), ("three", 0)]
    assert last["certificate"] == CERTIFICATE
    assert_left_clean(host)


def test_what_is_kept_is_for_root_alone_and_has_the_token(host, server):
    host.run(firstboot_script(MAC, 5, [action("one", "true\n", reboot="yes")]), server.url)
    assert host.wants_restart()
    names = sorted(path.name for path in host.kept.iterdir())
    assert names == ["actions", "failed", "first-boot", "message", "state"]
    assert all(path.stat().st_mode & 0o7777 == 0o1600 for path in host.kept.iterdir())
    assert host.kept.stat().st_mode & 0o077 == 0
    assert host.local.read_text().startswith("#!/bin/sh\n# esxi-pxe: begin\n")
    assert host.local.read_text().endswith("exit 0\n")


def test_local_sh_of_the_first_boot_starts_nothing(host, server):
    """%firstboot and local.sh run in the same boot, one after the other, while the host shuts down."""
    host.run(firstboot_script(MAC, 5, [action("one", count(host, "one"), reboot="yes")]), server.url)
    told = len(server.notes())
    host.run_local()
    assert (runs(host), len(server.notes())) == (["one"], told)


def test_only_what_asks_for_it_restarts(host, server):
    asks = 'echo asked; : >"$ESXI_PXE_REBOOT"\n'
    actions = [
        action("quiet", "true\n", reboot="auto"),
        action("asks, and may not", asks),
        action("fails", "exit 3\n", reboot="yes"),
    ]
    last = install(host, server, [actions[0], actions[2]])
    assert host.boots == 0 and results(last) == [("quiet", 0), ("fails", 3)]
    assert_left_clean(host)
    install(host, server, [action("asks", asks, reboot="auto")])
    assert host.boots == 1


def test_software_in_a_row_shares_one_restart(host, server):
    asks = ': >"$ESXI_PXE_REBOOT"\n'
    vibs = [
        dataclasses.replace(action(f"vib {number}", asks if number < 3 else "true\n", reboot="auto"), kind="vib")
        for number in range(4)
    ]
    last = install(host, server, [*vibs, action("after", count(host, "after"))])
    assert host.boots == 1
    assert results(last) == [("vib 0", 0), ("vib 1", 0), ("vib 2", 0), ("vib 3", 0), ("after", 0)]


@pytest.mark.parametrize("retry", [False, True])
def test_a_power_failure_in_the_middle_of_an_action(host, server, retry):
    """The action kills everything, as a power failure does, in its first run."""
    fuse = f'{count(host, "one")}[ -e "{host.root}/blown" ] || {{ : >"{host.root}/blown"; kill -9 $PPID; sleep 1; }}\n'
    actions = [action("zero", "true\n"), action("one", fuse, retry=retry), action("two", "true\n", reboot="yes")]
    host.run(firstboot_script(MAC, 5, actions), server.url)
    assert server.notes() == []
    host.boot()
    while host.wants_restart():
        host.boot()
    last = server.notes()[-1]
    assert last["stage"] == "ready"
    if retry:
        assert results(last) == [("zero", 0), ("one", 0), ("two", 0)] and runs(host) == ["one", "one"]
    else:
        assert results(last) == [("zero", 0), ("one", 255), ("two", 0)] and runs(host) == ["one"]
        assert last["message"] == "post action one failed with exit code 255: the host restarted while it ran"
    assert_left_clean(host)


def test_an_action_that_always_takes_the_host_down_is_given_up(host, server):
    bomb = action("bomb", count(host, "bomb") + "kill -9 $PPID; sleep 1\n", reboot="yes", retry=True)
    host.run(firstboot_script(MAC, 5, [bomb, action("after", "true\n")]), server.url)
    for _boot in range(5):
        host.boot()
    assert runs(host) == ["bomb", "bomb"], "twice, and never again"
    assert results(server.notes()[-1]) == [("bomb", 255), ("after", 0)]
    assert_left_clean(host)


def test_a_power_failure_before_the_report_repeats_the_report_alone(host, server):
    actions = [action("one", count(host, "one"), reboot="yes")]
    host.run(firstboot_script(MAC, 5, actions), server.url)
    before = host.root / "before"
    shutil.copytree(host.root / "saved", before)
    host.boot()
    assert server.notes()[-1]["stage"] == "ready"
    shutil.rmtree(host.root / "saved")
    before.rename(host.root / "saved")
    host.boot()
    assert server.notes()[-1]["stage"] == "ready" and runs(host) == ["one"]


def test_without_a_way_to_save_there_is_no_restart(host, server):
    (host.root / "full").touch()
    last = install(host, server, [action("one", count(host, "one"), reboot="yes"), action("two", "true\n")])
    assert host.boots == 0
    assert results(last) == [("one", 75), ("two", 0)]
    assert "could not be saved" in last["message"]


@pytest.mark.parametrize("broken", ["", "x\n", "1 2\n"])
def test_a_state_that_cannot_be_read_is_reported(host, server, broken):
    host.run(firstboot_script(MAC, 5, [action("one", "true\n", reboot="yes")]), server.url)
    (host.kept / "state").write_text(broken)
    (host.kept / "state").chmod(0o1600)
    subprocess.run([host.bin / "auto-backup.sh"], check=True)
    host.boot()
    last = server.notes()[-1]
    assert (last["stage"], results(last)) == ("ready", [("after the restart", 255)])
    assert_left_clean(host)


def test_the_firewall_is_as_it_was_before_the_first_restart(host, server):
    """After the restart it is open because the script opened it."""
    state = host.root / "http"
    host.tool(
        "esxcli",
        f'case $* in *"list -r httpClient"*) [ ! -e {state} ] || echo true ;; *"-e true"*) : >{state} ;; '
        f'*"-e false"*) rm -f {state} ;; esac',
    )
    install(host, server, [action("one", "true\n", reboot="yes")])
    assert not state.exists()


def test_failures_and_their_message_outlive_the_restart(host, server):
    actions = [
        action("bad", "echo 'no such \"vmnic\"'; exit 4\n"),
        action("may fail", "exit 5\n", ignore_errors=True),
        action("good", "true\n", reboot="yes"),
    ]
    last = install(host, server, actions)
    assert results(last) == [("bad", 4), ("may fail", 5), ("good", 0)]
    assert last["message"] == "post action bad failed with exit code 4: no such vmnic"
    assert [one["ignored"] for one in last["actions"]] == [False, True, False]


def test_a_server_that_is_gone_stops_neither_actions_nor_restarts(host):
    host.run(firstboot_script(MAC, 2, [action("one", count(host, "one"), reboot="yes")]), "http://127.0.0.1:1/x")
    assert host.wants_restart()
    host.boot()
    assert runs(host) == ["one"]
    assert_left_clean(host)


def test_over_ssh_the_script_ends_where_a_restart_is_due(host):
    actions = [
        action("one", count(host, "one"), reboot="yes"),
        action("two", count(host, "two"), reboot="auto"),
        action("three", count(host, "three") + 'echo "$ESXI_PXE_SERVER"; : >"$ESXI_PXE_REBOOT"\n', reboot="auto"),
        action("four", count(host, "four")),
    ]
    reports = []
    for done in (0, 1, 3):
        script = host.moved(ssh_script(actions, done, "http://192.0.2.1/"))
        ended = subprocess.run(
            [BUSYBOX, "sh"], input=script, env={"PATH": str(host.bin)}, capture_output=True, text=True, check=True
        )
        reports.append(ended)
    assert runs(host) == ["one", "two", "three", "four"]
    assert ['"reboot":true' in one.stdout for one in reports] == [True, True, False]
    assert "http://192.0.2.1\n" in reports[1].stderr
