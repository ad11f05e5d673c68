# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing, arming, disarming and removing hosts: what machines boot afterwards, and at every moment in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _batch, _publish, _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError, flip, host_lock, tree_lock
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import WAYS, PxeServer, definition, later

ONE, TWO, THREE = definition(1), definition(2), definition(3)
NAME, NAME2, NAME3 = (given["name"] for given in (ONE, TWO, THREE))
MAC, MAC2 = ONE["macs"]
UNKNOWN = "00:50:56:ff:ff:ff"


@pytest.fixture
def server(tmp_path):
    return PxeServer(tmp_path / "server")


@pytest.fixture
def armed(server):
    server.write_kickstarts(ONE)
    server.good("armed", ONE)
    return server


def all_boot(server, *definitions):
    return {server.boots(mac, way) for given in definitions for mac in given["macs"] for way in WAYS}


def permissions(path):
    return stat.S_IMODE(path.lstat().st_mode)


# Publishing.


def test_a_published_host_boots_its_disk(server):
    value = server.good("published", ONE, TWO)
    assert value["changed"] is True
    assert value["hosts"][NAME] == {
        "changed": True,
        "failed": False,
        "msg": f"{NAME}: published.",
        "action": "published",
        "mode": "local",
        "stage": "defined",
        "install": None,
        "arming": "arm",
        "reinstalls": False,
        "server_url": "http://192.168.77.10",
    }
    assert all_boot(server, ONE, TWO) == {"local"}
    assert (server.mode(), server.status().stage, server.status().image) == ("local", "defined", "esxi-8.0.3")
    assert json.loads(server.layout.record(NAME).read_bytes())["macs"] == [MAC, MAC2]
    assert server.layout.reservation(NAME).read_text() == f"{MAC},{MAC2},192.168.77.21,esx01\n"
    assert not server.layout.install(NAME).exists()
    assert list(server.layout.mode_dir(NAME, "install").iterdir()) == []
    assert server.reloads == 0, "dnsmasq takes up new reservations by itself"
    assert server.temporary_files() == []


def test_machines_that_nobody_defined_boot_their_disk(server):
    server.good("published", ONE)
    assert {server.boots(UNKNOWN, way) for way in WAYS} == {"local"}
    assert server.fetch("mboot.efi") == server.fetch("http/mboot.efi") == "loader of esxi-8.0.3\n"


def test_publishing_again_touches_nothing(server):
    server.good("published", ONE, TWO)
    before = server.snapshot()
    value = server.good("published", ONE, TWO, now=later(1000))
    assert value["changed"] is False
    assert value["hosts"][NAME]["action"] == "left"
    after = server.snapshot()
    assert {path for path in before if before[path] != after.get(path)} <= {"state/locks"}


def test_check_mode_says_the_same_and_writes_nothing(server):
    for state, definitions in (("published", [ONE]), ("armed", [ONE, TWO]), ("disarmed", [ONE]), ("absent", [ONE])):
        server.write_kickstarts(*definitions)
        before = server.snapshot()
        planned = server.call(state, *definitions, check_mode=True, diff=True)
        assert server.snapshot() == before
        done = server.call(state, *definitions, diff=True)
        for name, result in planned["hosts"].items():
            unpredictable = {"install"} if state == "armed" else set()
            for key in result.keys() - unpredictable:
                assert result[key] == done["hosts"][name][key], (state, name, key)
        assert planned["changed"] == done["changed"]
        assert [diff["after_header"] for diff in planned["diff"]] == [diff["after_header"] for diff in done["diff"]]


def test_permissions(armed):
    layout = armed.layout
    gid = os.getegid()
    for path in (layout.tree(NAME), layout.status_dir, layout.locks_dir):
        assert permissions(path) == 0o2775, path
        assert path.stat().st_gid == gid
    assert permissions(layout.installs_dir) == 0o2770
    assert permissions(layout.records_dir) == 0o2750
    for path in (layout.mode_dir(NAME, "install"), layout.mode_dir(NAME, "local")):
        assert permissions(path) == 0o755
    assert permissions(layout.status(NAME)) == 0o644
    assert permissions(layout.install(NAME)) == permissions(layout.record(NAME)) == 0o640
    assert permissions(layout.reservation(NAME)) == 0o644
    for path in layout.tree(NAME).rglob("01-*"):
        assert permissions(path) == 0o644


def test_folders_of_the_role_keep_their_permissions(server):
    server.layout.status_dir.mkdir(mode=0o700)
    server.good("published", ONE)
    assert permissions(server.layout.status_dir) == 0o700


def test_new_macs_and_addresses_leave_nothing_of_the_old(server):
    server.good("published", ONE, TWO)
    server.write_kickstarts(ONE)
    changed = definition(1, macs=[MAC2, "00:50:56:aa:01:03"], network={"address": "192.168.77.99/24"})
    server.good("published", changed, TWO)
    assert server.stray_links(changed, TWO) == []
    assert not (server.boot / "01-00-50-56-aa-01-01").exists()
    assert not (server.boot / "http/01-00-50-56-aa-01-01").exists()
    assert not list(server.layout.tree(NAME).rglob("*aa-01-01*"))
    assert not server.layout.kickstart(NAME, MAC).exists()
    assert server.layout.kickstart(NAME, MAC2).exists()
    assert all_boot(server, changed) == {"local"}
    assert server.layout.reservation(NAME).read_text() == "00:50:56:aa:01:02,00:50:56:aa:01:03,192.168.77.99,esx01\n"
    assert server.reloads == 1


def test_without_a_reservation_of_ours_there_is_no_file_and_no_reload(tmp_path):
    server = PxeServer(tmp_path / "s", dhcp={"mode": "proxy", "hosts_dir": str(tmp_path / "s/h"), "reload": ["x"]})
    server.good("published", ONE)
    server.good("published", definition(1, network={"address": "192.168.77.99/24"}))
    assert server.reloads == 0
    assert not (tmp_path / "s/h").exists()


def test_publishing_leaves_mode_and_stage_of_a_host_alone(armed):
    armed.good("published", ONE)
    assert (armed.mode(), armed.status().stage) == ("install", "armed")
    armed.notify("installing")
    armed.notify("ready")
    before = armed.status()
    assert armed.good("published", ONE, now=later(9))["changed"] is False
    assert (armed.mode(), armed.status()) == ("local", before)


def test_a_mode_that_somebody_set_by_hand_is_set_right(server):
    server.good("published", ONE)
    for target in ("install", "nonsense"):
        server.layout.mode_link(NAME).unlink()
        server.layout.mode_link(NAME).symlink_to(target)
        server.good("published", ONE)
        assert server.mode() == "local"


def test_a_lost_or_damaged_file_is_made_anew(armed):
    armed.good("published", ONE)
    whole = armed.contents()
    victims = [armed.layout.record(NAME), armed.layout.reservation(NAME)]
    victims += [armed.boot / f"ipxe/01-{MAC.replace(':', '-')}.ipxe", *armed.layout.tree(NAME).glob("*/01-*")]
    for path in victims:
        kept = os.readlink(path) if path.is_symlink() else None
        path.unlink()
        armed.good("published", ONE)
        assert armed.contents() == whole, path
        if kept is None:
            path.write_text("{")
            armed.good("published", ONE)
            assert armed.contents() == whole, path


def test_one_bad_definition_does_not_stop_the_others(server):
    bad = definition(2, macs=["nonsense"])
    value = server.call("published", ONE, bad, THREE)
    assert value["failed_hosts"] == [NAME2]
    assert not server.layout.tree(NAME2).exists()
    assert all_boot(server, ONE, THREE) == {"local"}
    assert server.layout.status(NAME).exists() and server.layout.status(NAME3).exists()


def test_one_hosts_trouble_on_the_disk_is_its_own(server):
    server.layout.tree(NAME2).parent.mkdir()
    server.layout.tree(NAME2).symlink_to("/tmp")
    value = server.call("published", ONE, TWO, THREE)
    assert value["failed_hosts"] == [NAME2]
    assert "must be a folder, not a link" in value["hosts"][NAME2]["msg"]
    assert server.layout.status(NAME).exists() and server.layout.status(NAME3).exists()
    assert not list(server.layout.status_dir.glob(f"{NAME2}*"))


def test_without_the_servers_folders_the_role_is_named(tmp_path):
    server = PxeServer(tmp_path / "s", boot_root=str(tmp_path / "missing"), image=False)
    server.boot.joinpath("images").rmdir()
    server.boot.rmdir()
    for state in ("published", "disarmed", "absent"):
        with pytest.raises(StoreError, match="missing does not exist: run the role pxe_server"):
            server.call(state, ONE)


# Who owns what.


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"macs": ["00:50:56:aa:02:09", MAC2]}, f"The MAC address {MAC2} of {NAME2} belongs to {NAME}"),
        ({"network": {"address": "192.168.77.21/24"}}, f"The IP address 192.168.77.21 of {NAME2} belongs to {NAME}"),
        (
            {"network": {"address": "192.168.77.22/24", "boot_address": "192.168.77.21"}},
            f"The IP address 192.168.77.21 of {NAME2} belongs to {NAME}",
        ),
        ({"network": {"address": "192.168.77.10/24"}}, "192.168.77.10 is this PXE server's own"),
    ],
)
def test_what_belongs_to_another_published_host_is_refused(server, change, text):
    server.good("published", ONE)
    before = server.contents()
    value = server.call("published", definition(2, **change))
    assert text in value["hosts"][NAME2]["msg"]
    assert server.contents() == before
    if NAME in text:
        server.good("absent", ONE)
        server.good("published", definition(2, **change))


def test_a_refused_host_keeps_what_it_has(server):
    server.good("published", ONE, TWO)
    before = server.contents()
    value = server.call("armed", definition(2, macs=[MAC]))
    assert value["failed_hosts"] == [NAME2]
    assert server.contents() == before


def test_hosts_of_one_call_may_exchange_what_they_have(server):
    server.good("published", ONE, TWO)
    swapped = (
        definition(1, macs=TWO["macs"], network=TWO["network"]),
        definition(2, macs=ONE["macs"], network=ONE["network"]),
    )
    server.good("published", *swapped)
    assert server.stray_links(*swapped) == []
    for given in swapped:
        for mac in given["macs"]:
            assert f"/{given['name']}/" in os.readlink(server.boot / f"pxelinux.cfg/01-{mac.replace(':', '-')}")
            assert given["name"] in server.boot_file(mac)
    assert server.good("published", *swapped)["changed"] is False


def test_who_counts_on_what_a_refused_host_would_have_given_up_is_refused_too(server):
    server.good("published", ONE, TWO, THREE)
    # 1 wants what 3 has and keeps, so it does not give up what 2 wants.
    value = server.call("published", definition(1, macs=THREE["macs"]), definition(2, macs=ONE["macs"]))
    assert value["failed_hosts"] == [NAME, NAME2]
    assert f"belongs to {NAME3}" in value["hosts"][NAME]["msg"]
    assert f"belongs to {NAME}," in value["hosts"][NAME2]["msg"]


def test_a_damaged_record_does_not_hide_an_owner(server):
    server.good("published", ONE)
    server.layout.record(NAME).write_text("{")
    for change in ({"macs": [MAC]}, {"network": {"address": "192.168.77.21/24"}}):
        assert server.call("published", definition(2, **change))["failed_hosts"] == [NAME2]


# Arming.


def test_an_armed_host_installs_in_every_way_in(server):
    server.write_kickstarts(ONE, TWO)
    value = server.good("armed", ONE, TWO)
    install = server.install()
    result = value["hosts"][NAME]
    assert {key: result[key] for key in ("action", "mode", "stage", "install", "changed")} == {
        "action": "armed",
        "mode": "install",
        "stage": "armed",
        "install": install.install,
        "changed": True,
    }
    assert all_boot(server, ONE, TWO) == {"install"}
    assert f"ks=http://192.168.77.10/ks/{install.key}/01-00-50-56-aa-01-02.cfg" in server.boot_file(MAC2)
    status = server.status()
    assert (status.install, status.mode, status.stage, status.expires) == (
        install.install,
        "install",
        "armed",
        "2026-11-23T20:00:00Z",
    )
    assert (install.macs, install.addresses) == ((MAC, MAC2), ("192.168.77.21",))
    assert {server.boots(UNKNOWN, way) for way in WAYS} == {"local"}
    assert server.install(NAME2).key != install.key


def test_the_link_is_flipped_last_and_after_everything_is_on_disk(server, monkeypatch):
    server.write_kickstarts(ONE)
    server.good("published", ONE)
    order = []

    class Watch:
        def __getattr__(self, name):
            function = getattr(os, name)
            if name not in ("rename", "symlink", "fsync"):
                return function

            def call(*arguments, **options):
                order.append((name, arguments[1] if name != "fsync" else ""))
                return function(*arguments, **options)

            return call

    for module in (_store, _batch):
        monkeypatch.setattr(module, "os", Watch())
        monkeypatch.setattr(module, "sync_filesystem", lambda fd: order.append(("sync", "")))
    server.good("armed", ONE)
    arming = order[order.index(("rename", f"01-{MAC.replace(':', '-')}.pxelinux")) - 1 :]
    names = [name for kind, name in arming if kind == "rename"]
    assert names[-3:] == [f"{NAME}.json", f"{NAME}.json", "boot"]
    assert arming[0] == ("sync", ""), "contents are not on disk before they get their names"
    kinds = [kind for kind, _name in arming]
    last = len(kinds) - 1 - kinds[::-1].index("rename")
    # The link is tried under its name, where the old one is, and then made under another.
    assert kinds[last - 3] in ("sync", "fsync") and kinds[last - 2 : last] == ["symlink", "symlink"]
    assert kinds[last + 1] in ("sync", "fsync")


def test_arming_again_changes_nothing(armed):
    before = armed.snapshot()
    value = armed.good("armed", ONE, now=later(60))
    assert (value["changed"], value["hosts"][NAME]["action"]) == (False, "left")
    assert {path for path, state in armed.snapshot().items() if before.get(path) != state} <= {"state/locks"}


def test_a_link_that_a_killed_call_left_is_flipped(armed):
    install = armed.install()
    flip(armed.layout, NAME, "local")
    value = armed.good("armed", ONE)
    assert (armed.mode(), value["changed"], value["hosts"][NAME]["action"]) == ("install", True, "armed")
    assert armed.install() == install


def test_an_armed_host_follows_its_definition(armed):
    armed.import_image("esxi-9.0.0", "9.0.0")
    changed = definition(
        1, image="esxi-9.0.0", macs=[MAC, "00:50:56:aa:01:09"], network={"address": "192.168.77.88/24"}
    )
    armed.write_kickstarts(changed)
    key = armed.install().key
    for state in ("published", "armed"):
        armed.good(state, changed)
    assert armed.install().key == key
    assert armed.install().macs == (MAC, "00:50:56:aa:01:09")
    assert armed.install().addresses == ("192.168.77.88",)
    assert (armed.status().stage, armed.status().image) == ("armed", "esxi-9.0.0")
    assert all_boot(armed, changed) == {"install"}
    assert "images/esxi-9.0.0/" in armed.boot_file("00:50:56:aa:01:09")
    assert {armed.boots(MAC2, way) for way in WAYS} == {"local"}


def test_an_armed_host_whose_install_record_is_lost_is_armed_anew(armed):
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("{")):
        old = armed.status().install
        damage(armed.layout.install(NAME))
        value = armed.good("armed", ONE)
        assert value["hosts"][NAME]["action"] == "armed"
        assert armed.install().install == armed.status().install != old
        assert armed.install().key in armed.boot_file(MAC)


@pytest.mark.parametrize("stage", ["installing", "installed", "ready", "failed"])
def test_what_has_begun_is_left_alone(armed, stage):
    armed.notify(stage)
    before = armed.contents()
    value = armed.good("armed", ONE, now=later(10**6))
    assert (value["changed"], value["hosts"][NAME]["action"]) == (False, "left")
    assert f"{stage} since" in value["hosts"][NAME]["msg"]
    assert armed.contents() == before
    assert all_boot(armed, ONE) == {"local"}


def test_publishing_tells_what_arming_would_do(armed):
    def published(**changes):
        return armed.good("published", {**ONE, **changes}, now=later(60))["hosts"][NAME]

    def arming(**changes):
        return published(**changes)["arming"]

    assert arming() == "keep" and not published(reinstall=True)["reinstalls"], "it has no ESXi yet"
    armed.notify("installing")
    assert arming() == arming(reinstall=True) == "leave"
    armed.notify("ready")
    assert arming() == "leave" and arming(reinstall=True) == arming(reinstall="CHG1") == "arm"
    assert published(reinstall="CHG1")["reinstalls"] and not published()["reinstalls"]
    assert armed.good("armed", {**ONE, "reinstall": "CHG1"})["hosts"][NAME]["action"] == "armed"
    assert arming(reinstall="CHG1") == "keep"
    # one that ran out was for nothing, so the request still stands
    expired = armed.good("published", {**ONE, "reinstall": "CHG1"}, now=later(10 * 86400))["hosts"][NAME]
    assert expired["arming"] == "arm" and armed.mode() == "install"


def test_a_reinstall_is_a_new_install_with_a_new_key(armed):
    armed.notify("ready")
    old = armed.install()
    value = armed.good("armed", {**ONE, "reinstall": True}, now=later(60))
    new = armed.install()
    assert value["hosts"][NAME]["action"] == "armed"
    assert new.install != old.install and new.key != old.key
    assert old.key not in armed.boot_file(MAC)
    assert new.key in armed.boot_file(MAC)
    assert all_boot(armed, ONE) == {"install"}


def test_a_request_with_a_label_is_fulfilled_once(armed):
    request = {**ONE, "reinstall": "CHG1"}
    armed.notify("ready")
    assert armed.good("armed", request, now=later(10))["hosts"][NAME]["action"] == "armed"
    assert armed.status().request == armed.install().request == "CHG1"
    armed.notify("ready")
    for seconds in (20, 10**7):
        value = armed.good("armed", request, now=later(seconds))
        assert (value["changed"], value["hosts"][NAME]["action"]) == (False, "left")
    assert armed.good("armed", {**ONE, "reinstall": "CHG2"}, now=later(30))["hosts"][NAME]["action"] == "armed"


def test_a_request_made_while_the_host_is_armed_is_fulfilled_by_that_install(armed):
    install = armed.install().install
    request = {**ONE, "reinstall": "CHG1"}
    assert armed.good("armed", request)["changed"] is True
    assert armed.good("armed", request)["changed"] is False
    assert armed.status().install == armed.install().install == install
    assert armed.status().request == armed.install().request == "CHG1"
    armed.notify("ready")
    assert armed.good("armed", request)["hosts"][NAME]["action"] == "left"


def test_a_stuck_install_may_be_started_again(armed):
    armed.notify("installing")
    request = {**ONE, "reinstall": True}
    assert armed.good("armed", request, now=later(100), stuck_after=100)["hosts"][NAME]["action"] == "left"
    assert armed.good("armed", ONE, now=later(101), stuck_after=100)["hosts"][NAME]["action"] == "left"
    assert armed.good("armed", request, now=later(101), stuck_after=100)["hosts"][NAME]["action"] == "armed"


def test_an_expired_arming_is_renewed(armed):
    old = armed.install()
    value = armed.good("armed", ONE, now=later(86400))
    assert value["hosts"][NAME]["action"] == "armed"
    assert armed.install().key != old.key
    assert armed.install().key in armed.boot_file(MAC)
    assert armed.status().expires == "2026-11-24T20:00:00Z"
    assert all_boot(armed, ONE) == {"install"}


def test_a_reinstall_that_expired_unused_leaves_a_live_host_alone(armed):
    armed.notify("ready")
    armed.good("armed", {**ONE, "reinstall": "CHG1"})
    value = armed.good("armed", ONE, now=later(10**6))
    assert value["hosts"][NAME]["action"] == "left"
    assert (armed.mode(), armed.status().stage, armed.status().mode) == ("local", "ready", "local")
    assert all_boot(armed, ONE) == {"local"}
    assert armed.good("armed", {**ONE, "reinstall": "CHG1"}, now=later(10**6))["hosts"][NAME]["action"] == "armed"


def test_more_reinstalls_than_were_meant_are_none(server):
    server.write_kickstarts(ONE, TWO, THREE)
    server.good("armed", ONE, TWO)
    server.notify("ready", NAME)
    server.notify("failed", NAME2)
    again = [{**given, "reinstall": True} for given in (ONE, TWO, THREE)]
    value = server.call("armed", *again, reinstall_max=1)
    assert value["failed_hosts"] == [NAME, NAME2]
    assert "would reinstall 2 hosts and reinstall_max is 1" in value["hosts"][NAME]["msg"]
    assert (server.mode(NAME), server.mode(NAME2), server.mode(NAME3)) == ("local", "local", "install")
    value = server.good("armed", *again, reinstall_max=2)
    assert [value["hosts"][given["name"]]["action"] for given in again] == ["armed", "armed", "left"]


def test_a_first_install_does_not_count_as_a_reinstall(server):
    again = [{**given, "reinstall": True} for given in (ONE, TWO)]
    server.write_kickstarts(*again)
    server.good("armed", *again, reinstall_max=0)


@pytest.mark.parametrize(
    ("prepare", "change", "text"),
    [
        (lambda server: server.layout.description("esxi-8.0.3").unlink(), {}, "is not imported on this PXE server"),
        (lambda server: server.layout.kickstart(NAME, MAC2).unlink(), {}, f"has no kickstart for {MAC2}"),
        (lambda server: None, {"network": {"bootproto": "dhcp"}}, "set network.boot_address"),
        (lambda server: server.import_image(version="7.0.3"), {}, "import an image of ESXi 8.0.1 or later"),
    ],
)
def test_arming_is_refused_in_one_sentence_and_the_host_boots_its_disk(server, prepare, change, text):
    server.write_kickstarts(ONE)
    prepare(server)
    value = server.call("armed", definition(1, **change))
    assert value["failed_hosts"] == [NAME]
    assert text in value["hosts"][NAME]["msg"]
    assert value["hosts"][NAME]["msg"].count(". ") == 0
    assert (server.mode(), server.status().stage) == ("local", "defined")
    assert all_boot(server, ONE) == {"local"}
    assert not server.layout.install(NAME).exists()


def test_all_reasons_against_arming_are_given_at_once(server):
    server.layout.description("esxi-8.0.3").unlink()
    result = server.call("armed", ONE)["hosts"][NAME]
    assert len(result["reasons"]) == 2
    assert "not imported" in result["reasons"][0] and "no kickstart" in result["reasons"][1]


def test_open_networks_do_without_a_known_address(tmp_path):
    server = PxeServer(tmp_path / "s", kickstart_clients=["192.168.77.0/24"])
    given = definition(1, network={"bootproto": "dhcp"})
    server.write_kickstarts(given)
    server.good("armed", given)


def test_no_loader_that_cannot_boot_the_disk_is_served(server):
    server.import_image(version="7.0.3")
    server.good("published", ONE)
    assert server.fetch("mboot.efi") is None
    server.import_image("esxi-8.0.1", "8.0.1")
    server.good("published", ONE)
    assert server.fetch("mboot.efi") == server.fetch("http/mboot.efi") == "loader of esxi-8.0.1\n"


# Disarming.


def test_disarming(armed):
    key = armed.install().key
    value = armed.good("disarmed", ONE)
    assert (value["changed"], value["hosts"][NAME]["action"], value["hosts"][NAME]["stage"]) == (
        True,
        "disarmed",
        "defined",
    )
    assert (armed.mode(), armed.status().stage, armed.install().is_void) == ("local", "defined", True)
    assert not any(key in path.read_text() for path in armed.root.rglob("*") if path.is_file())
    assert all_boot(armed, ONE) == {"local"}
    before = armed.contents()
    value = armed.good("disarmed", ONE, now=later(5))
    assert (value["changed"], value["hosts"][NAME]["action"]) == (False, "left")
    assert armed.contents() == before
    assert armed.good("armed", ONE, now=later(9))["hosts"][NAME]["action"] == "armed"


def test_a_host_that_has_begun_to_install_can_still_say_how_it_ends(armed):
    armed.notify("installing")
    before = armed.contents()
    assert armed.good("disarmed", ONE)["changed"] is False
    assert armed.contents() == before


def test_a_withdrawn_reinstall_leaves_a_live_host_alone(armed):
    armed.notify("ready", certificate=None)
    armed.good("armed", {**ONE, "reinstall": True})
    armed.good("disarmed", ONE)
    assert armed.status().stage == "ready"
    assert armed.good("armed", ONE)["hosts"][NAME]["action"] == "left"


def test_a_host_that_is_not_there_needs_no_disarming(server):
    value = server.good("disarmed", ONE)
    assert (value["changed"], value["hosts"][NAME]["mode"], value["hosts"][NAME]["stage"]) == (False, None, None)
    assert not list(server.state.rglob(f"*{NAME}.json"))


# Removing.


def test_nothing_is_left_of_a_removed_host(server):
    server.write_kickstarts(ONE, TWO)
    server.good("armed", TWO)
    before = server.contents()
    server.good("armed", ONE)
    value = server.good("absent", ONE)
    assert (value["changed"], value["hosts"][NAME]["action"]) == (True, "removed")
    left = server.contents()
    assert {path for path in before.keys() | left.keys() if before.get(path) != left.get(path)} == {
        path for path in before if NAME in path
    }, "the kickstarts that were there before, and nothing else"
    assert not server.layout.lock(NAME).exists()
    assert server.reloads == 1
    assert {server.boots(mac, way) for mac in ONE["macs"] for way in WAYS} == {"local"}
    assert all_boot(server, TWO) == {"install"}
    value = server.good("absent", ONE)
    assert (value["changed"], value["hosts"][NAME]["action"], server.reloads) == (False, "left", 1)


def test_a_removed_host_takes_nothing_of_another_with_it(server):
    server.good("published", ONE, TWO)
    # As after a killed exchange: the record still names a MAC whose links are another host's by now.
    record = json.loads(server.layout.record(NAME).read_bytes())
    record["macs"] += TWO["macs"]
    server.layout.record(NAME).write_text(json.dumps(record))
    server.good("absent", ONE)
    assert server.stray_links(TWO) == []
    assert len(list(server.boot.glob("01-00-50-56-aa-02-*/boot.cfg"))) == 2
    assert NAME2 in server.boot_file(TWO["macs"][0])


def test_a_host_can_be_removed_however_damaged_its_state_is(armed):
    for path in (armed.layout.record(NAME), armed.layout.status(NAME), armed.layout.install(NAME)):
        path.write_text("{")
    value = armed.call("armed", ONE)
    assert value["failed_hosts"] == [NAME]
    assert "it is not known whether ESXi is on its disk" in value["hosts"][NAME]["msg"]
    armed.good("absent", ONE)
    assert armed.stray_links() == []
    assert not [path for path in armed.contents() if NAME in path]


# DHCP.


def test_a_reload_that_fails_stops_arming_and_is_made_up_for(server):
    server.write_kickstarts(ONE, TWO)
    server.good("published", ONE)
    moved = definition(1, network={"address": "192.168.77.99/24"})
    server.reload_problem = "systemctl reload dnsmasq ended with 1: not active"
    value = server.call("armed", moved, TWO)
    assert value["failed_hosts"] == [NAME, NAME2]
    assert "systemctl reload dnsmasq ended with 1: not active" in value["hosts"][NAME]["msg"]
    assert value["hosts"][NAME]["changed"] is True
    assert (server.mode(NAME), server.mode(NAME2)) == ("local", "local")
    assert server.layout.reload_marker.exists()
    server.reload_problem = None
    server.good("armed", moved)
    assert not server.layout.reload_marker.exists()
    assert server.reloads == 2
    server.good("armed", moved)
    assert server.reloads == 2


def test_leases_of_former_reservations_are_released(server):
    server.good("published", ONE, TWO)
    assert server.released == []
    server.good("published", definition(1, macs=[MAC2, "00:50:56:aa:01:09"]))
    assert server.released == [(MAC, "192.168.77.21")]
    server.released.clear()
    server.good("absent", TWO)
    assert server.released == [(mac, "192.168.77.22") for mac in TWO["macs"]]


def test_what_several_failed_calls_owe_is_released_by_the_next(server):
    server.good("published", ONE, TWO)
    server.reload_problem = "no"
    server.call("absent", TWO)
    server.call("published", definition(1, network={"address": "192.168.77.99/24"}))
    assert server.released == []
    server.reload_problem = None
    server.good("absent", TWO)
    assert server.released == [
        (MAC, "192.168.77.21"),
        (MAC2, "192.168.77.21"),
        *((mac, "192.168.77.22") for mac in TWO["macs"]),
    ]
    assert not server.layout.reload_marker.exists()


def test_a_damaged_marker_is_a_reload_all_the_same(server):
    server.layout.reload_marker.write_text("x")
    server.good("published", ONE)
    assert (server.reloads, server.released) == (1, [])
    assert not server.layout.reload_marker.exists()


def test_check_mode_does_not_reload(server):
    server.good("published", ONE)
    server.layout.reload_marker.write_text("x")
    server.good("absent", ONE, check_mode=True)
    assert server.reloads == 0


# What people see.


def test_differences_show_modes_and_files_and_no_secrets(armed):
    armed.notify("ready")
    value = armed.good("armed", {**ONE, "reinstall": "CHG1"}, diff=True, now=later(5))
    key = armed.install().key
    (diff,) = value["diff"]
    assert diff["before_header"] == diff["after_header"] == NAME
    assert diff["before"].startswith("mode: local\nstage: ready\nimage: esxi-8.0.3\n")
    assert diff["after"].startswith("mode: install\nstage: armed\nimage: esxi-8.0.3\nrequest: CHG1\n")
    assert "/ks/********/01-00-50-56-aa-01-01.cfg" in diff["after"] or diff["after"].count("kernelopt") == 0
    assert f"{armed.layout.install(NAME)} (changed, contents not shown)" in diff["after"]
    assert key not in json.dumps(value)


def test_differences_of_changed_files_show_their_contents(armed):
    value = armed.good("published", definition(1, boot={"vlan": 12}), diff=True)
    (diff,) = value["diff"]
    path = str(armed.layout.mode_dir(NAME, "install") / "01-00-50-56-aa-01-01.boot.cfg")
    assert f"{path}\n" in diff["before"] and f"{path}\n" in diff["after"]
    line = (
        "  kernelopt=runweasel ks=http://192.168.77.10/ks/********/01-00-50-56-aa-01-01.cfg netdevice=00:50:56:aa:01:01"
    )
    assert f"{line}\n" in diff["before"]
    assert f"{line} vlanid=12\n" in diff["after"]


def test_differences_of_new_and_removed_hosts_name_their_files(server):
    server.write_kickstarts(ONE)
    value = server.good("armed", ONE, diff=True)
    (shared, diff) = value["diff"]
    assert shared["after_header"] == "files of all hosts"
    assert diff["before"] == ""
    assert f"{server.layout.reservation(NAME)}\n" in diff["after"]
    assert "kernelopt" not in diff["after"]
    value = server.good("absent", ONE, diff=True)
    assert value["diff"][0]["after"] == ""
    assert "vmaccepteula" not in value["diff"][0]["before"]


# Locks.


def _hold(layout, ready, done):
    with host_lock(layout, NAME2):
        ready.set()
        done.wait(60)


def test_a_host_that_somebody_else_holds_fails_alone_and_the_call_ends(server):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    server.good("published", ONE)
    holder = context.Process(target=_hold, args=(server.layout, ready, done))
    holder.start()
    try:
        assert ready.wait(10)
        value = server.call("published", ONE, TWO, THREE, lock_timeout=0.05)
    finally:
        done.set()
        holder.join()
    assert value["failed_hosts"] == [NAME2]
    assert "has held the lock of host esx02.example.com" in value["hosts"][NAME2]["msg"]
    server.good("published", TWO)


def test_a_tree_that_somebody_else_holds_is_said(server):
    with tree_lock(server.layout), pytest.raises(EsxiPxeError, match="the boot tree"):
        server.call("published", ONE, lock_timeout=0.05)


def test_many_hosts_are_done_in_parts(server, monkeypatch):
    monkeypatch.setattr(_publish, "_CHUNK", 3)
    many = [definition(number) for number in range(1, 11)]
    server.write_kickstarts(*many)
    server.good("armed", *many)
    assert all_boot(server, *many) == {"install"}
    assert server.good("armed", *many)["changed"] is False
    server.good("absent", *many)
    assert server.stray_links() == []


def test_failed_post_actions_are_named(armed):
    armed.notify("ready", actions=[ActionResult("ntp", 3, 1.0)])
    msg = armed.good("armed", ONE)["hosts"][NAME]["msg"]
    assert "failed since" in msg and "ntp ended with 3" in msg


# Firmware.


def test_no_file_of_another_firmware_stays(server):
    server.write_kickstarts(ONE)
    bios = {**ONE, "firmware": "bios"}
    server.good("armed", bios)
    tree = server.layout.tree(NAME)
    assert len(list(tree.rglob("*.bios.boot.cfg"))) == 4
    assert {server.boots(MAC, way) for way in WAYS if way != "bios"} == {"local"}
    assert server.boots(MAC, "bios") == "install"
    value = server.good("published", ONE)
    assert value["hosts"][NAME]["mode"] == "install"
    assert list(tree.rglob("*.bios.boot.cfg")) == []
    assert {server.boots(MAC, way) for way in WAYS} == {"install"}


# Upgrades.


def upgradable(server, **changes):
    """What asks for an upgrade of ONE, which is installed and ready."""
    server.import_image("esxi-9.0.0", "9.0.0")
    server.write_kickstarts(ONE)
    server.good("armed", ONE)
    server.notify("ready", NAME)
    return {**ONE, "image": "esxi-9.0.0", "upgrade": "CHG1", **changes}


def kickstart_says(server, line):
    for mac in ONE["macs"]:
        server.layout.kickstart(NAME, mac).write_text(f"vmaccepteula\n{line}\nreboot\n%pre\ninstall x\n")


def test_an_upgrade_is_armed_once_by_its_label(server):
    wanted = upgradable(server)
    kickstart_says(server, "upgrade --firstdisk=local")
    assert server.good("published", wanted)["hosts"][NAME]["arming"] == "arm"
    value = server.good("armed", wanted)
    assert value["hosts"][NAME]["action"] == "armed" and server.mode() == "install"
    status = server.status()
    assert (status.command, status.image, status.request) == ("upgrade", "esxi-9.0.0", "CHG1")
    server.notify("ready", NAME)
    assert server.status().command == "upgrade"
    assert server.good("armed", wanted)["hosts"][NAME]["action"] == "left"


def test_a_kickstart_that_installs_is_no_upgrade(server):
    """Another run, without the request, has written it between this run's two calls."""
    wanted = upgradable(server)
    kickstart_says(server, "install --firstdisk=local")
    value = server.call("armed", wanted)
    assert value["failed_hosts"] == [NAME] and "its kickstart installs" in value["msg"]
    assert server.mode() == "local" and server.status().stage == "ready"


def test_a_run_without_the_request_leaves_an_armed_upgrade_as_it_is(server):
    wanted = upgradable(server)
    kickstart_says(server, "upgrade --firstdisk=local")
    server.good("armed", wanted)
    before = server.install()
    server.good("armed", {**ONE, "image": "esxi-9.0.0"})
    assert (server.status().command, server.install(), server.mode()) == ("upgrade", before, "install")


def test_an_armed_upgrade_is_not_turned_into_a_reinstall(server):
    wanted = upgradable(server)
    kickstart_says(server, "upgrade --firstdisk=local")
    server.good("armed", wanted)
    for state in ("published", "armed"):
        value = server.call(state, {**ONE, "image": "esxi-9.0.0", "reinstall": True})
        assert value["failed_hosts"] == [NAME] and "disarm it first" in value["msg"]
    assert server.status().command == "upgrade"


def test_an_upgrade_whose_record_is_gone_does_not_become_an_install(server):
    wanted = upgradable(server)
    kickstart_says(server, "upgrade --firstdisk=local")
    server.good("armed", wanted)
    server.layout.install(NAME).unlink()
    value = server.call("armed", {**ONE, "image": "esxi-9.0.0"})
    assert value["failed_hosts"] == [NAME] and "ask for it again" in value["msg"]


def test_a_reinstall_by_mistake_after_a_change_of_the_image(server):
    wanted = upgradable(server, upgrade=False, reinstall=True)
    for state in ("published", "armed"):
        value = server.call(state, wanted)
        assert value["failed_hosts"] == [NAME] and "esxi_host_upgrade" in value["msg"]
    assert server.mode() == "local" and server.status().stage == "ready"
    server.good("armed", {**wanted, "reinstall_image": "esxi-9.0.0"})
    assert server.mode() == "install"


def test_an_upgrade_does_not_go_back(server):
    server.import_image("esxi-7.0.3", "7.0.3")
    wanted = upgradable(server, image="esxi-7.0.3")
    kickstart_says(server, "upgrade --firstdisk=local")
    value = server.call("armed", wanted)
    assert value["failed_hosts"] == [NAME] and "an upgrade does not go back" in value["msg"]


def test_upgrades_are_counted_with_reinstalls(server):
    wanted = upgradable(server)
    server.write_kickstarts(TWO)
    server.good("armed", TWO)
    server.notify("ready", NAME2)
    kickstart_says(server, "upgrade --firstdisk=local")
    value = server.call("armed", wanted, {**TWO, "reinstall": True}, reinstall_max=1)
    assert value["failed_hosts"] == [NAME, NAME2] and "would reinstall or upgrade 2 hosts" in value["msg"]


def test_what_the_version_does_not_take_is_refused_before_arming(server):
    server.import_image("esxi-6.7.0", "6.7.0")
    given = {**ONE, "image": "esxi-6.7.0", "boot": {"media_size": "min"}}
    server.write_kickstarts(given)
    value = server.call("armed", given)
    assert value["failed_hosts"] == [NAME] and "boot.media_size needs ESXi 7.0 U1c" in value["msg"]
