# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PXE server has: every kind of damage is seen, and what is right is not called wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _published
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import mac_stem
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner
from ansible_collections.pxemanager.esxi.plugins.module_utils._published import survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError, flip, host_lock
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import NOW, PxeServer, definition, later

ONE, TWO, THREE = definition(1), definition(2), definition(3)
NAME, NAME2 = ONE["name"], TWO["name"]
MAC = ONE["macs"][0]


@pytest.fixture
def server(tmp_path):
    server = PxeServer(tmp_path / "server")
    server.write_kickstarts(ONE, TWO, THREE)
    server.good("published", ONE)
    server.good("armed", TWO, owner=Owner("berlin"))
    server.good("armed", THREE)
    server.now = later(60)
    server.notify("ready", THREE["name"])
    return server


def look(server, names=None, now=None):
    return survey(server.config, now or later(120), names)


def test_a_server_in_order_has_no_problems(server):
    found = look(server)
    assert list(found.hosts) == [NAME, NAME2, THREE["name"]]
    assert [host.problems for host in found.hosts.values()] == [(), (), ()]
    assert (found.leftovers, found.problems) == ((), ())
    assert {(host.stage, host.mode, host.owner) for host in found.hosts.values()} == {
        ("defined", "local", ""),
        ("armed", "install", "berlin"),
        ("ready", "local", ""),
    }


def test_times_ages_and_what_the_definition_says(server):
    host = look(server).hosts[THREE["name"]]
    value = host.to_return(later(3660))
    assert (value["since"], value["age"]) == ("2026-11-22T20:01:00Z", 3600)
    assert (value["last_heard"], value["heard_age"]) == ("2026-11-22T20:01:00Z", 3600)
    assert value["published"] == "2026-11-22T20:00:00Z"
    assert (value["macs"], value["address"], value["image"]) == (THREE["macs"], "192.168.77.23", "esxi-8.0.3")
    assert look(server).hosts[NAME].last_heard is None


def test_no_secret_is_returned(server):
    keys = {server.install(name).key for name in (NAME2, THREE["name"])}
    text = str([host.to_return(NOW) for host in look(server).hosts.values()])
    assert not any(key in text for key in keys)


def test_what_a_host_said_is_masked(server):
    server.now = later(90)
    key = server.install(NAME2).key
    server.notify("failed", NAME2, message=f"cannot fetch http://192.168.77.10/ks/{key}/x.cfg")
    assert key not in look(server).hosts[NAME2].failure


def damage_link(server):
    os.unlink(server.boot / "pxelinux.cfg" / mac_stem(MAC))


def damage_links(server):
    for mac in ONE["macs"]:
        shutil.rmtree(server.boot / mac_stem(mac))


def damage_link_elsewhere(server):
    path = server.boot / "pxelinux.cfg" / mac_stem(MAC)
    path.unlink()
    path.symlink_to("default")


def damage_files(server):
    os.unlink(server.layout.mode_dir(NAME, "local") / f"{mac_stem(MAC)}.ipxe")


def damage_mode(server):
    os.unlink(server.layout.mode_link(NAME))


def damage_reservation(server):
    os.unlink(server.layout.reservation(NAME))


def damage_status(server):
    server.layout.status(NAME).write_text("{")


def damage_no_status(server):
    server.layout.status(NAME).unlink()


def damage_record(server):
    server.layout.record(NAME).write_text("{")


def damage_hand(server):
    flip(server.layout, NAME, "install")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_link, "the link pxelinux.cfg/01-00-50-56-aa-01-01 is missing or leading elsewhere"),
        (damage_links, "2 links (01-00-50-56-aa-01-01/boot.cfg, 01-00-50-56-aa-01-02/boot.cfg) are missing"),
        (damage_link_elsewhere, "leading elsewhere"),
        (damage_files, "the file 01-00-50-56-aa-01-01.ipxe is for local boot missing"),
        (damage_mode, "has no boot mode"),
        (damage_reservation, "has no DHCP reservation"),
        (damage_status, "it is not known whether ESXi is on its disk"),
        (damage_no_status, "has no status"),
        (damage_record, "Publish the host again"),
        (damage_hand, "has the boot mode install and its stage is defined"),
    ],
)
def test_damage_of_a_host_is_said(server, damage, said):
    damage(server)
    found = look(server)
    assert any(said in sentence for sentence in found.hosts[NAME].problems), found.hosts[NAME].problems
    assert all(NAME in sentence for sentence in found.hosts[NAME].problems)
    assert found.hosts[NAME2].problems == () and found.leftovers == ()


def armed_link_local(server):
    flip(server.layout, NAME2, "local")


def armed_no_install(server):
    server.layout.install(NAME2).unlink()


def armed_no_kickstart(server):
    server.layout.kickstart(NAME2, TWO["macs"][1]).unlink()


def armed_no_image(server):
    server.layout.description("esxi-8.0.3").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (armed_link_local, "is armed and its boot mode is local"),
        (armed_no_install, "no install record of its own"),
        (armed_no_kickstart, "the MAC address 00:50:56:aa:02:02 is without kickstart"),
        (armed_no_image, "its image esxi-8.0.3 is not on this PXE server"),
        (None, "its arming expired at 2026-11-23T20:00:00Z and nobody has ended it"),
    ],
)
def test_damage_of_an_armed_host_is_said(server, damage, said):
    if damage is not None:
        damage(server)
    now = later(120) if damage is not None else later(86400 + 3600)
    problems = look(server, now=now).hosts[NAME2].problems
    assert len(problems) == 1 and said in problems[0]


def test_what_belongs_to_no_host_is_said(server):
    server.layout.record(NAME).unlink()
    gone = server.boot / "pxelinux.cfg" / "01-00-50-56-aa-09-09"
    gone.symlink_to("../hosts/esx99.example.com/boot/01-00-50-56-aa-09-09.pxelinux")
    temporary = server.layout.status_dir / ".esx01.example.com.json.1f-3.tmp"
    temporary.write_text("half")
    os.utime(temporary, (1, 1))
    fresh = server.layout.status_dir / ".esx02.example.com.json.1f-4.tmp"
    fresh.write_text("half")
    os.utime(fresh, (later(119).timestamp(),) * 2)
    found = look(server).leftovers
    by_kind = {kind: {one.name: one.msg for one in found if one.kind == kind} for kind in ("host", "link", "temporary")}
    assert list(by_kind["host"]) == [NAME]
    assert "boot tree, status, kickstarts, reservation" in by_kind["host"][NAME]
    assert "remove them by hand" in by_kind["link"]["00:50:56:aa:09:09"]
    # the links of the host whose record is gone
    assert f"taking {NAME} off this PXE server clears them" in by_kind["link"][MAC]
    assert list(by_kind["temporary"]) == [str(temporary)]
    server.good("absent", ONE)
    gone.unlink()
    assert look(server).leftovers == ()


def test_kickstarts_without_a_record_are_said(server):
    server.write_kickstarts(definition(7))
    assert [(one.kind, one.name) for one in look(server).leftovers] == [("host", "esx07.example.com")]


def test_two_hosts_with_one_mac_are_said(server):
    record = server.layout.record(NAME)
    record.write_text(record.read_text().replace("00:50:56:aa:01:02", "00:50:56:aa:02:02"))
    found = look(server)
    assert any("is also that of esx02.example.com" in one for one in found.hosts[NAME].problems)
    assert any("is also that of esx01.example.com" in one for one in found.hosts[NAME2].problems)


def test_a_dhcp_server_that_was_not_told_is_said(server):
    server.layout.reload_marker.write_text("{}")
    os.utime(server.layout.reload_marker, (1, 1))
    assert "has not read its changed reservations" in look(server).problems[0]


def test_only_some_hosts_are_looked_at(server):
    shutil.rmtree(server.layout.tree(NAME))
    found = look(server, [NAME2, "esx77.example.com"])
    assert list(found.hosts) == [NAME2] and found.leftovers == ()


def test_what_somebody_is_writing_is_no_mistake(server, monkeypatch):
    """The first look sees half of it; the second waits for whoever holds the lock."""
    os.unlink(server.layout.mode_link(NAME))
    begun = threading.Event()

    def mend():
        with host_lock(server.layout, NAME):
            begun.set()
            looked.wait(10)
            flip(server.layout, NAME, "local")

    looked = threading.Event()
    real = _published.host_locks

    @contextlib.contextmanager
    def waits(*arguments):
        looked.set()
        with real(*arguments):
            yield

    monkeypatch.setattr(_published, "host_locks", waits)
    writer = threading.Thread(target=mend)
    writer.start()
    begun.wait(10)
    assert look(server).hosts[NAME].problems == ()
    writer.join()


def test_nothing_is_said_of_a_host_that_stays_locked(server, monkeypatch):
    os.unlink(server.layout.mode_link(NAME))
    monkeypatch.setattr(_published, "_LOCK_TIMEOUT", 0.05)
    with host_lock(server.layout, NAME):
        assert look(server).hosts[NAME].problems == ()


def test_a_host_that_is_taken_away_meanwhile_is_not_there(server, monkeypatch):
    os.unlink(server.layout.mode_link(NAME))
    real = _published.host_locks

    def first_taken_away(*arguments):
        server.good("absent", ONE)
        return real(*arguments)

    monkeypatch.setattr(_published, "host_locks", first_taken_away)
    found = look(server)
    assert NAME not in found.hosts and not server.layout.lock(NAME).exists()


def test_looking_changes_nothing(server):
    before = server.snapshot()
    look(server)
    assert server.snapshot() == before


def test_a_server_that_was_not_set_up_is_said(server):
    shutil.rmtree(server.boot)
    with pytest.raises(StoreError, match="run the role pxe_server"):
        look(server)
