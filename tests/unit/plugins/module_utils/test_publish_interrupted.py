# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing, killed anywhere and done by several at once: no half state counts, and a rerun ends where it should."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _batch, _publish, _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import Pbconnect, parse_notification
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition, later

CONTEXT = multiprocessing.get_context("fork")

A, B, C, D = (f"00:50:56:aa:bb:0{number}" for number in range(1, 5))
ONE = definition(1, macs=[A])
TWO = definition(2, macs=[B])
NAME, NAME2 = ONE["name"], TWO["name"]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    # A killed process loses nothing that it wrote; only a power failure does, which no test here can show.
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    for module in (_store, _batch):
        monkeypatch.setattr(module, "sync_filesystem", lambda fd: None)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the code does after it changes the disk any more."""


class DyingOs:
    """Stands for `os`: dies at one of the operations that change the disk, in the middle of it where it has one."""

    CHANGING = ("write", "rename", "symlink", "unlink", "mkdir", "rmdir")

    def __init__(self, last: int) -> None:
        self.left = last
        self.dead = False

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in self.CHANGING:
            return function

        def call(*arguments, **options):
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left > 0:
                return function(*arguments, **options)
            self.dead = True
            if name == "write":
                function(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            elif self.left == 0:
                function(*arguments, **options)
            raise Killed

        return call


class Dhcp:
    """What a running dnsmasq knows: new files at once, anything else after a reload."""

    def __init__(self, server):
        self.server = server
        self.known = {}

    def on_disk(self):
        folder = self.server.layout.reservations_dir
        return {path.name: path.read_text() for path in folder.glob("[!.]*")} if folder.exists() else {}

    def read(self):
        self.known = self.on_disk()

    def look(self):
        for name, text in self.on_disk().items():
            self.known.setdefault(name, text)
        if self.known != self.on_disk():
            assert self.server.layout.reload_marker.exists(), "nobody knows that dnsmasq must be told"


def start(tmp_path, name, prepare):
    server = PxeServer(tmp_path / name)
    dhcp = Dhcp(server)
    server.dhcp_reads_again = dhcp.read
    prepare(server)
    dhcp.look()
    return server, dhcp


def normal(server):
    """What is on disk, without what is different in every install (that it fits together is checked elsewhere)."""
    found = {}
    for path, (mode, gid, what) in server.contents().items():
        if isinstance(what, bytes):
            what = re.sub(rb"\b\d{8}T\d{6}Z-[0-9a-f]{6}\b", b"ID", what)
            what = re.sub(rb"\b[0-9a-f]{32}\b", b"KEY", what)
        found[path] = (mode, gid, what)
    return found


def kickstarts(server):
    server.good("published")  # what undefined machines boot is there since the server was set up
    server.write_kickstarts(ONE, TWO, definition(1, macs=[C, D]), definition(1, macs=[B]), definition(2, macs=[A]))


def published(server):
    kickstarts(server)
    server.good("published", ONE, TWO)


def armed(server):
    kickstarts(server)
    server.good("armed", ONE, TWO)


def ready(server):
    armed(server)
    server.notify("ready", NAME)
    server.notify("ready", NAME2)


def armed_again(server):
    ready(server)
    server.good("armed", {**ONE, "reinstall": True}, TWO)


def expired(server):
    armed(server)
    server.now = later(10**6)


MOVED = definition(1, macs=[C, D], network={"address": "192.168.77.99/24"})
EXCHANGED = (definition(1, macs=[B]), definition(2, macs=[A]))

JOBS = {
    "publish": (kickstarts, "published", [ONE, TWO]),
    "arm at once": (kickstarts, "armed", [ONE, TWO]),
    "arm": (published, "armed", [ONE, TWO]),
    "move": (published, "published", [MOVED, TWO]),
    "move while armed": (armed, "armed", [MOVED, TWO]),
    "exchange": (published, "armed", EXCHANGED),
    "reinstall": (ready, "armed", [{**ONE, "reinstall": "CHG1"}, TWO]),
    "renew": (expired, "armed", [ONE, TWO]),
    "disarm": (armed, "disarmed", [ONE]),
    "disarm a reinstall": (armed_again, "disarmed", [ONE]),
    "remove": (armed, "absent", [ONE]),
    "remove all": (published, "absent", [ONE, TWO]),
}


@pytest.mark.parametrize("job", JOBS)
def test_killed_after_any_operation_a_rerun_finishes_the_job(tmp_path, monkeypatch, job):
    prepare, state, definitions = JOBS[job]
    macs = {A, B, C, D}
    whole, dhcp = start(tmp_path, "whole", prepare)
    whole.good(state, *definitions)
    dhcp.look()
    expected = normal(whole)
    last = 0
    while True:
        last += 1
        server, dhcp = start(tmp_path, f"killed{last}", prepare)
        dying = DyingOs(last)
        with monkeypatch.context() as patch:
            for module in (_store, _batch):
                patch.setattr(module, "os", dying)
            patch.setattr(_publish, "os", dying)
            with contextlib.suppress(Killed):
                server.call(state, *definitions)
        dhcp.look()
        server.check_invariants([NAME, NAME2], macs)
        had = server.layout.status(NAME).exists() and server.status(NAME)
        server.good(state, *definitions)
        dhcp.look()
        server.check_invariants([NAME, NAME2], macs)
        assert normal(server) == expected, f"killed after operation {last}"
        assert server.temporary_files() == []
        assert dhcp.known == dhcp.on_disk()
        if job == "reinstall" and had and had.request == "CHG1":
            assert server.status(NAME).install == had.install, "one request, two installs"
        shutil.rmtree(server.root)
        if not dying.dead:
            break
    assert last > 10


def test_a_killed_reinstall_that_nobody_wants_any_more_has_not_happened(tmp_path, monkeypatch):
    last = 0
    outcomes = set()
    while True:
        last += 1
        server, _dhcp = start(tmp_path, f"killed{last}", ready)
        dying = DyingOs(last)
        with monkeypatch.context() as patch:
            for module in (_store, _batch):
                patch.setattr(module, "os", dying)
            patch.setattr(_publish, "os", dying)
            with contextlib.suppress(Killed):
                server.call("armed", {**ONE, "reinstall": True})
        value = server.good("armed", ONE)
        stage = value["hosts"][NAME]["stage"]
        assert (stage, server.mode()) in {("ready", "local"), ("armed", "install")}
        outcomes.add(stage)
        server.check_invariants([NAME], [A])
        shutil.rmtree(server.root)
        if not dying.dead:
            break
    assert outcomes == {"ready", "armed"}


@pytest.mark.parametrize("state", ["published", "absent"])
def test_no_link_is_forgotten_when_the_definition_changes_after_a_kill(tmp_path, monkeypatch, state):
    third = definition(1, macs=["00:50:56:aa:bb:99"])
    last = 0
    while True:
        last += 1
        server, dhcp = start(tmp_path, f"killed{last}", published)
        dying = DyingOs(last)
        with monkeypatch.context() as patch:
            for module in (_store, _batch):
                patch.setattr(module, "os", dying)
            patch.setattr(_publish, "os", dying)
            with contextlib.suppress(Killed):
                server.call(state, MOVED)
        dhcp.look()
        server.good("published", third)
        assert server.stray_links(third, TWO) == [], f"killed after operation {last}"
        dhcp.look()
        assert dhcp.known == dhcp.on_disk()
        shutil.rmtree(server.root)
        if not dying.dead:
            break


def test_really_killed(tmp_path):
    many = [definition(number) for number in range(1, 31)]
    names = [given["name"] for given in many]
    macs = [mac for given in many for mac in given["macs"]]
    chance = random.Random(1)
    server = PxeServer(tmp_path / "server")
    server.good("published")
    server.write_kickstarts(*many)
    killed = 0
    for turn in range(12):
        state = ("armed", "absent")[turn % 4 == 3]
        child = CONTEXT.Process(target=server.call, args=(state, *many))
        child.start()
        time.sleep(chance.uniform(0.002, 0.05))
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        server.check_invariants(names, macs)
        server.write_kickstarts(*many)
    server.good("armed", *many)
    server.check_invariants(names, macs)
    assert {server.mode(name) for name in names} == {"install"}
    assert server.temporary_files() == []
    assert killed > 3, "the machine is so fast that nobody was killed: this shows nothing"


# Several at once.


def together(*jobs):
    """Run jobs in processes of their own that start at the same moment, and return what they return."""
    gate = CONTEXT.Barrier(len(jobs))
    results = CONTEXT.SimpleQueue()

    def run(number, job):
        gate.wait(10)
        results.put((number, job()))

    processes = [CONTEXT.Process(target=run, args=item) for item in enumerate(jobs)]
    for process in processes:
        process.start()
    found = dict(results.get() for _process in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(jobs))]


@pytest.mark.parametrize(
    "other", [definition(2, macs=[B, A]), definition(2, macs=[B], network={"address": "192.168.77.21/24"})]
)
def test_two_who_want_the_same_address_at_once(tmp_path, other):
    for turn in range(8):
        server = PxeServer(tmp_path / f"server{turn}")
        first, second = together(
            functools.partial(server.call, "published", ONE), functools.partial(server.call, "published", other)
        )
        losers = first["failed_hosts"] + second["failed_hosts"]
        assert len(losers) == 1
        winner = NAME2 if losers == [NAME] else NAME
        message = {**first["hosts"], **second["hosts"]}[losers[0]]["msg"]
        assert NAME in message and NAME2 in message
        assert not server.layout.record(losers[0]).exists()
        assert winner in server.boot_file(A if winner == NAME else B)


def test_two_who_arm_the_same_hosts_at_once_arm_them_once(tmp_path):
    many = [definition(number, reinstall="CHG1") for number in range(1, 9)]
    for turn in range(5):
        server = PxeServer(tmp_path / f"server{turn}")
        server.write_kickstarts(*many)
        values = together(
            functools.partial(server.call, "armed", *many), functools.partial(server.call, "armed", *reversed(many))
        )
        for given in many:
            results = [value["hosts"][given["name"]] for value in values]
            assert sorted(result["action"] for result in results) == ["armed", "left"]
            assert len({result["install"] for result in results}) == 1
            assert str(server.install(given["name"]).key) in server.boot_file(given["macs"][0])


def test_one_arms_while_another_removes(tmp_path):
    for turn in range(8):
        server = PxeServer(tmp_path / f"server{turn}")
        server.write_kickstarts(ONE)
        server.good("published", ONE)
        values = together(functools.partial(server.call, "armed", ONE), functools.partial(server.call, "absent", ONE))
        server.check_invariants([NAME], [A])
        assert values[1]["failed_hosts"] == []
        if server.layout.record(NAME).exists():
            # Removed first, and its kickstarts with it: published again, not armed.
            assert (server.mode(), values[0]["failed_hosts"]) == ("local", [NAME])
        else:
            assert server.stray_links() == []


def test_a_host_that_has_reported_is_never_sent_back_to_the_installer(tmp_path):
    server = PxeServer(tmp_path / "server", kickstart_clients=["127.0.0.0/8"])
    server.write_kickstarts(ONE)
    server.good("armed", ONE)
    pbconnect = Pbconnect(server.config)
    key = str(server.install().key)
    server.layout.kickstart(NAME, A).write_text("@PBCONNECT_TOKEN@")
    stop = CONTEXT.Event()

    def arm_for_ever():
        while not stop.is_set():
            server.good("armed", ONE)

    child = CONTEXT.Process(target=arm_for_ever)
    child.start()
    try:
        for _turn in range(20):
            handout = pbconnect.kickstart(key, "01-00-50-56-aa-bb-01.cfg", "127.0.0.1", server.now)
        token = handout.content.decode()
        assert server.boots(A) == "install"
        body = parse_notification(b'{"stage": "installing", "mac": "' + A.encode() + b'"}')
        pbconnect.notify(token, body, "127.0.0.1", server.now)
        # Acknowledged: from here on, never again.
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            assert server.boots(A) == "local"
    finally:
        stop.set()
        child.join()
    assert child.exitcode == 0
    assert (server.mode(), server.status().stage) == ("local", "installing")


def test_machines_boot_something_at_every_moment(tmp_path):
    server = PxeServer(tmp_path / "server")
    server.write_kickstarts(ONE)
    stop = threading.Event()
    seen = set()
    problems = []

    def boot():
        while not stop.is_set():
            for way in ("bios", "uefi", "uefi-http", "ipxe"):
                try:
                    seen.add(server.boots(A, way))
                except (AssertionError, OSError) as error:
                    problems.append(error)

    server.good("published", ONE)
    machine = threading.Thread(target=boot)
    machine.start()
    for turn in range(300):
        if turn > 15 and len(seen) == 2:  # on a busy machine the other thread may need longer to see both
            break
        server.good("armed", {**ONE, "boot": {"vlan": turn}})
        server.good("disarmed", ONE)
        if turn % 5 == 4:
            server.good("absent", ONE)
            server.write_kickstarts(ONE)
    stop.set()
    machine.join()
    assert problems == []
    assert seen == {"install", "local"}
