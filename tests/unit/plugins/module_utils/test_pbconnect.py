# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pbconnect: who gets a kickstart, which notifications count, and in what order they reach the disk."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import ssl
import threading
import time
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils import _groupcommit, _pbconnect, _scripts
from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import (
    MAX_BODY,
    Ack,
    Notification,
    Pbconnect,
    Rejected,
    Report,
    parse_notification,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    LockTimeout,
    StoreError,
    flip,
    host_lock,
)
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, Site

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
NAME = "esx01.example.com"
MAC, MAC2 = "00:50:56:aa:bb:01", "00:50:56:aa:bb:02"
FILE = "01-00-50-56-aa-bb-01.cfg"
ADDRESS = "192.168.77.21"


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def body(**values: object) -> bytes:
    return json.dumps({"stage": "installing", "mac": MAC, **values}).encode()


def said(stage: str, **values: object) -> Notification:
    return parse_notification(body(stage=stage, **values))


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def pbconnect(site: Site) -> Pbconnect:
    return Pbconnect(site.config)


@pytest.fixture
def key(site: Site) -> str:
    key = site.arm(NAME, [MAC, MAC2], [ADDRESS], NOW).key
    assert key is not None
    return key


@pytest.fixture
def token(site: Site, key: str) -> str:
    return site.mint(NAME, MAC, NOW)


def rejected(code: str, call: t.Callable[..., object], *arguments: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*arguments)
    assert caught.value.code == code
    return caught.value


# -- kickstarts


def test_an_armed_host_gets_its_kickstart(site: Site, pbconnect: Pbconnect, key: str) -> None:
    found = pbconnect.kickstart(key, FILE, ADDRESS, later(5))
    assert (found.host, found.mac) == (NAME, MAC)
    text = found.content.decode()
    assert f"# {MAC}\n" in text
    assert "http://127.0.0.1/pbconnect/v1/notify" in text
    assert "@PBCONNECT" not in text
    token = text.splitlines()[3][2:]
    assert text.count(token) == 2
    assert site.install(NAME).verify(token) is not None
    status = site.status(NAME)
    assert status.kickstart is not None
    assert (status.kickstart.mac, status.kickstart.address) == (MAC, ADDRESS)
    assert (status.stage, status.mode, site.mode(NAME)) == ("armed", "install", "install")


def test_each_mac_has_its_own_kickstart_and_each_hand_out_its_own_token(
    site: Site, pbconnect: Pbconnect, key: str
) -> None:
    first = pbconnect.kickstart(key, FILE, ADDRESS, NOW)
    second = pbconnect.kickstart(key, "01-00-50-56-aa-bb-02.cfg", ADDRESS, NOW)
    assert f"# {MAC2}\n".encode() in second.content
    assert first.content.splitlines()[3] != second.content.splitlines()[3]
    assert len(site.install(NAME).tokens) == 2


def test_the_token_of_a_kickstart_is_good_for_notifying(site: Site, pbconnect: Pbconnect, key: str) -> None:
    token = pbconnect.kickstart(key, FILE, ADDRESS, NOW).content.decode().splitlines()[3][2:]
    ack = pbconnect.notify(token, said("installing"), ADDRESS, later(1))
    assert (ack.host, ack.stage, ack.mode, ack.duplicate) == (NAME, "installing", "local", False)
    assert site.mode(NAME) == "local"


def test_the_hand_out_is_not_in_a_repr(pbconnect: Pbconnect, key: str) -> None:
    found = pbconnect.kickstart(key, FILE, ADDRESS, NOW)
    assert found.content.decode().splitlines()[3][2:] not in repr(found)


@pytest.mark.parametrize(
    "file",
    [
        "01-00-50-56-aa-bb-01",
        "01-00-50-56-AA-BB-01.cfg",
        "01-00-50-56-aa-bb-01.cfg\n",
        "../installs/esx01.example.com.json",
        "01-..-..-..-..-..-...cfg",
        "",
    ],
)
def test_a_file_that_is_no_kickstart_is_not_found(pbconnect: Pbconnect, key: str, file: str) -> None:
    rejected("not_found", pbconnect.kickstart, key, file, ADDRESS, NOW)


def test_a_wrong_key_gets_nothing_and_changes_nothing(site: Site, pbconnect: Pbconnect, key: str) -> None:
    before = site.snapshot()
    for wrong in ("0" * 32, key[:-1], key + "0", key.upper() + "G", "", "../x"):
        refused = rejected("not_found", pbconnect.kickstart, wrong, FILE, ADDRESS, NOW)
        assert key not in str(refused)
    assert site.snapshot() == before


def test_the_key_of_one_host_opens_no_other(site: Site, pbconnect: Pbconnect, key: str) -> None:
    site.arm("esx02.example.com", ["00:50:56:aa:bb:03"], [ADDRESS], NOW)
    rejected("not_found", pbconnect.kickstart, key, "01-00-50-56-aa-bb-03.cfg", ADDRESS, NOW)


def test_a_mac_that_nobody_has_is_not_found_and_leaves_no_lock(site: Site, pbconnect: Pbconnect, key: str) -> None:
    rejected("not_found", pbconnect.kickstart, key, "01-00-50-56-aa-bb-99.cfg", ADDRESS, NOW)
    rejected("not_found", pbconnect.kickstart, "0" * 32, FILE, ADDRESS, NOW)
    assert list(site.layout.locks_dir.iterdir()) == []


def test_a_mac_that_was_added_after_the_arming_is_not_found(site: Site, pbconnect: Pbconnect, key: str) -> None:
    armed = site.status(NAME)
    site.publish(NAME, [MAC, "00:50:56:aa:bb:09"], NOW)
    site.write_status(armed)
    flip(site.layout, NAME, "install")
    assert pbconnect.kickstart(key, FILE, ADDRESS, NOW).host == NAME
    rejected("not_found", pbconnect.kickstart, key, "01-00-50-56-aa-bb-09.cfg", ADDRESS, NOW)


@pytest.mark.parametrize("target", ["../hosts/../../etc/boot/x", "../hosts/UP/boot/x", "/etc/passwd", "x"])
def test_a_link_that_leads_elsewhere_belongs_to_nobody(site: Site, pbconnect: Pbconnect, key: str, target: str) -> None:
    link = site.layout.boot_root / "pxelinux.cfg" / "01-00-50-56-aa-bb-01"
    link.unlink()
    link.symlink_to(target)
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, NOW)


@pytest.mark.parametrize("client", ["192.168.77.99", "10.0.0.1", "", "esx01", "::1"])
def test_another_address_gets_no_kickstart(site: Site, pbconnect: Pbconnect, key: str, client: str) -> None:
    before = site.snapshot()
    rejected("forbidden", pbconnect.kickstart, key, FILE, client, NOW)
    assert site.snapshot() == before


def test_networks_can_be_opened(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path / "open", kickstart_clients=["10.9.0.0/16"])
    key = site.arm(NAME, [MAC], [], NOW).key
    assert key is not None
    pbconnect = Pbconnect(site.config)
    assert pbconnect.kickstart(key, FILE, "10.9.1.2", NOW).host == NAME
    assert pbconnect.kickstart(key, FILE, "::ffff:10.9.1.2", NOW).host == NAME
    rejected("forbidden", pbconnect.kickstart, key, FILE, "10.10.1.2", NOW)


def test_no_kickstart_when_not_armed(site: Site, pbconnect: Pbconnect, key: str, token: str) -> None:
    pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    before = site.snapshot()
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, later(1))
    assert site.snapshot() == before


def test_no_kickstart_after_the_arming_expired_even_if_nobody_swept(pbconnect: Pbconnect, key: str) -> None:
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, later(3600))


def test_no_kickstart_while_the_link_says_local(site: Site, pbconnect: Pbconnect, key: str) -> None:
    link = site.layout.mode_link(NAME)
    link.unlink()
    link.symlink_to("local")
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, NOW)


def test_no_kickstart_for_an_arming_that_was_not_finished(site: Site, pbconnect: Pbconnect, key: str) -> None:
    newer = site.install(NAME).new(NAME, [MAC], [ADDRESS], None, later(9), 3600)
    site.write_install(newer)
    assert newer.key is not None
    rejected("not_found", pbconnect.kickstart, newer.key, FILE, ADDRESS, later(10))
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, later(10))


def test_a_missing_kickstart_says_what_to_do(site: Site, pbconnect: Pbconnect, key: str) -> None:
    site.layout.kickstart(NAME, MAC).unlink()
    assert "run esxi_kickstart" in str(rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, NOW))


def test_a_void_install_has_no_kickstart(site: Site, pbconnect: Pbconnect, key: str) -> None:
    site.write_install(site.install(NAME).void())
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, NOW)


def test_the_placeholders_are_those_that_a_kickstart_is_made_with() -> None:
    """Written twice because the service does without the libraries that making a kickstart needs."""
    assert _scripts.PLACEHOLDER_URL.encode() == _pbconnect.URL_PLACEHOLDER
    assert _scripts.PLACEHOLDER_TOKEN.encode() == _pbconnect.TOKEN_PLACEHOLDER


# -- notifications


def test_an_install_from_start_to_ready(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.notify(token, said("installing"), ADDRESS, later(10))
    pbconnect.notify(token, said("installed"), ADDRESS, later(20))
    actions = [{"name": "ntp", "rc": 0, "seconds": 1.5}, {"name": "motd", "rc": 3, "seconds": 0, "ignored": True}]
    ack = pbconnect.notify(
        token, said("ready", actions=actions, certificate=CERTIFICATE, message="hello"), ADDRESS, later(30)
    )
    assert (ack.stage, ack.mode) == ("ready", "local")
    status = site.status(NAME)
    assert status.stage == "ready"
    assert status.booted_mac == MAC
    assert status.actions == (ActionResult("ntp", 0, 1.5), ActionResult("motd", 3, 0, ignored=True))
    assert status.certificate == CERTIFICATE
    assert status.message == "hello"
    assert list(status.to_json()["stages"]) == ["defined", "armed", "installing", "installed", "ready"]  # type: ignore[call-overload]


def test_a_failed_post_action_is_not_swallowed(pbconnect: Pbconnect, token: str) -> None:
    ack = pbconnect.notify(token, said("ready", actions=[{"name": "ntp", "rc": 1}]), ADDRESS, NOW)
    assert (ack.stage, ack.duplicate) == ("failed", False)
    ack = pbconnect.notify(token, said("ready", actions=[{"name": "ntp", "rc": 1}]), ADDRESS, NOW)
    assert (ack.stage, ack.duplicate) == ("failed", True)


def test_the_same_notification_twice_changes_nothing(site: Site, pbconnect: Pbconnect, token: str) -> None:
    assert not pbconnect.notify(token, said("installing"), ADDRESS, later(1)).duplicate
    before = site.snapshot()
    ack = pbconnect.notify(token, said("installing", message="again"), ADDRESS, later(2))
    assert (ack.duplicate, ack.stage) == (True, "installing")
    assert site.snapshot() == before


def test_a_replay_of_an_earlier_stage_is_refused(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.notify(token, said("installing"), ADDRESS, later(1))
    pbconnect.notify(token, said("installed"), ADDRESS, later(2))
    before = site.snapshot()
    rejected("backwards", pbconnect.notify, token, said("installing"), ADDRESS, later(3))
    assert site.snapshot() == before


def test_wrong_tokens_change_nothing(site: Site, pbconnect: Pbconnect, token: str) -> None:
    site.arm("esx02.example.com", ["00:50:56:aa:bb:03"], [ADDRESS], NOW)
    before = site.snapshot()
    secret = token.split("~")[1]
    for code, wrong in (
        ("unauthorized", ""),
        ("unauthorized", secret),
        ("unauthorized", token + "x"),
        ("unauthorized", f"../x~{secret}"),
        ("unauthorized", f"{'a' * 201}~{secret}"),
        ("forbidden", f"esx02.example.com~{secret}"),
        ("forbidden", f"nobody.example.com~{secret}"),
        ("forbidden", f"{NAME}~{secret[::-1]}"),
    ):
        assert secret not in str(rejected(code, pbconnect.notify, wrong, said("installing"), ADDRESS, NOW))
    assert site.snapshot() == before
    assert site.mode(NAME) == "install"
    # Whoever has no token cannot make files either.
    assert list(site.layout.locks_dir.iterdir()) == []


def test_the_token_of_an_earlier_install_is_refused(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.notify(token, said("installing"), ADDRESS, later(1))
    site.arm(NAME, [MAC, MAC2], [ADDRESS], later(100))
    before = site.snapshot()
    for stage in ("installing", "installed", "ready", "failed"):
        rejected("forbidden", pbconnect.notify, token, said(stage), ADDRESS, later(101))
    assert site.snapshot() == before
    assert site.mode(NAME) == "install"


def test_a_token_is_refused_when_its_install_is_void_or_withdrawn(site: Site, pbconnect: Pbconnect, token: str) -> None:
    install = site.install(NAME)
    site.write_install(install.void())
    rejected("forbidden", pbconnect.notify, token, said("installing"), ADDRESS, NOW)
    site.write_install(install)
    site.write_status(site.status(NAME).disarmed(later(1)))
    rejected("forbidden", pbconnect.notify, token, said("installing"), ADDRESS, later(2))
    site.layout.status(NAME).unlink()
    rejected("forbidden", pbconnect.notify, token, said("installing"), ADDRESS, later(2))


def test_a_withdrawn_reinstall_cannot_spoil_a_ready_host(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.notify(token, said("ready"), ADDRESS, later(1))
    site.arm(NAME, [MAC, MAC2], [ADDRESS], later(100))
    newer = site.mint(NAME, MAC, later(101))
    # Disarmed by somebody who was killed before the record was made void.
    site.write_status(site.status(NAME).disarmed(later(102)))
    rejected("forbidden", pbconnect.notify, newer, said("failed"), ADDRESS, later(103))
    assert site.status(NAME).stage == "ready"


def test_a_notification_from_another_address_is_refused(site: Site, pbconnect: Pbconnect, token: str) -> None:
    before = site.snapshot()
    rejected("forbidden", pbconnect.notify, token, said("installing"), "192.168.77.99", NOW)
    assert site.snapshot() == before


def test_a_notification_for_a_strange_mac_is_refused(site: Site, pbconnect: Pbconnect, token: str) -> None:
    before = site.snapshot()
    rejected("malformed", pbconnect.notify, token, said("installing", mac="00:50:56:00:00:00"), ADDRESS, NOW)
    assert site.snapshot() == before


def test_a_mac_may_be_left_out_or_written_otherwise(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.notify(token, parse_notification(b'{"stage": "installing"}'), ADDRESS, NOW)
    assert site.status(NAME).booted_mac == MAC
    pbconnect.notify(token, said("installed", mac=MAC.upper().replace(":", "-")), ADDRESS, NOW)
    assert site.status(NAME).booted_mac == MAC


def test_a_mac_other_than_that_of_the_kickstart_is_refused(site: Site, pbconnect: Pbconnect, token: str) -> None:
    rejected("malformed", pbconnect.notify, token, said("installing", mac=MAC2), ADDRESS, NOW)
    assert site.mode(NAME) == "install"


def test_of_two_machines_that_boot_at_once_the_second_is_refused(site: Site, pbconnect: Pbconnect, key: str) -> None:
    first, second = site.mint(NAME, MAC, NOW), site.mint(NAME, MAC2, NOW)
    assert pbconnect.notify(first, said("installing", mac=MAC), ADDRESS, NOW).stage == "installing"
    reason = str(rejected("forbidden", pbconnect.notify, second, said("installing", mac=MAC2), ADDRESS, NOW))
    assert MAC in reason
    assert MAC2 in reason
    # nor may it say that the host is done
    rejected("forbidden", pbconnect.notify, second, said("ready", mac=MAC2), ADDRESS, NOW)
    assert site.status(NAME).stage == "installing"
    assert pbconnect.notify(first, said("installed", mac=MAC), ADDRESS, NOW).stage == "installed"


@pytest.mark.parametrize("mode", ["install", "local"])
def test_the_link_is_flipped_and_synced_before_the_status_is_written(
    site: Site, pbconnect: Pbconnect, token: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it was right before: whoever flipped it may have been killed before it was on disk."""
    link = site.layout.mode_link(NAME)
    link.unlink()
    link.symlink_to(mode)
    seen = record_disk(site, monkeypatch)
    pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    events = [event for event in seen if not event.startswith("sync file")]
    flipped = ["rename boot"] if mode == "install" else []
    assert events == [*flipped, f"sync {NAME}", f"rename {NAME}.json", "sync status"]
    assert "sync file" in seen[seen.index(f"sync {NAME}") : seen.index(f"rename {NAME}.json")]


def test_a_duplicate_is_acknowledged_only_when_the_first_is_safe(
    site: Site, pbconnect: Pbconnect, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    seen = record_disk(site, monkeypatch)
    pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    assert seen == [f"sync {NAME}", "sync status"]


def record_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def recording_fsync(number: int) -> None:
        path = pathlib.Path(os.readlink(f"/proc/self/fd/{number}"))
        seen.append(f"sync {path.name}" if path.is_dir() else "sync file")
        fsync(number)

    def recording_rename(source: str, target: str, **where: t.Any) -> None:
        seen.append(f"rename {os.path.basename(target)}")
        rename(source, target, **where)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    return seen


class Full:
    """A disk that takes no more: `fails` of the module `os` raises, from now on or for one kind of name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str, of: str = "") -> None:
        real = getattr(os, fails)

        def broken(*arguments: t.Any, **named: t.Any) -> t.Any:
            if not of or any(of in str(argument) for argument in arguments):
                raise OSError(28, "No space left on device")
            return real(*arguments, **named)

        monkeypatch.setattr(os, fails, broken)


@pytest.mark.parametrize(
    ("fails", "of", "mode"),
    [
        ("symlink", "", "install"),
        ("rename", "boot", "install"),
        ("open", ".tmp", "local"),
        ("write", "", "local"),
        ("fsync", "", "local"),
        ("rename", ".json", "local"),
    ],
)
def test_nothing_is_acknowledged_that_the_disk_did_not_take(
    site: Site, pbconnect: Pbconnect, token: str, fails: str, of: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Full(patch, fails, of)
        with pytest.raises(OSError, match="No space"):
            pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    # A status that says local beside a link that installs would be a loop; the other way round is harmless.
    assert site.status(NAME).stage == "armed"
    assert site.mode(NAME) == mode
    for folder in (site.layout.status_dir, site.layout.tree(NAME)):
        assert not list(folder.glob(".*")), "a temporary file was left"
    # And the retry completes it.
    assert not pbconnect.notify(token, said("installing"), ADDRESS, NOW).duplicate
    assert (site.status(NAME).stage, site.mode(NAME)) == ("installing", "local")


def rack(site: Site, count: int) -> dict[str, Report]:
    """So many armed hosts, and what each of them says next."""
    reports = {}
    for number in range(count):
        name, mac = f"rack{number:02}.example.com", f"00:50:56:00:00:{number:02x}"
        site.arm(name, [mac], [ADDRESS], NOW)
        reports[name] = Report(site.mint(name, mac, NOW), said("installing", mac=mac), ADDRESS, NOW)
    return reports


@pytest.mark.parametrize("count", [1, 4, 5, 40])
def test_many_hosts_at_once(site: Site, pbconnect: Pbconnect, count: int) -> None:
    reports = rack(site, count)
    for duplicate in (False, True):
        acks = pbconnect.notify_all(list(reports.values()))
        assert acks == [Ack(name, "installing", "local", duplicate) for name in reports]
        for name in reports:
            assert (site.status(name).stage, site.mode(name)) == ("installing", "local")
    assert not list(site.layout.status_dir.glob(".*"))


def test_one_bad_report_neither_stops_nor_hides_the_others(site: Site, pbconnect: Pbconnect) -> None:
    reports = list(rack(site, 12).values())
    site.layout.status("rack03.example.com").write_text("{")
    site.layout.mode_link("rack05.example.com").unlink()
    site.layout.tree("rack05.example.com").rename(site.root / "away")
    reports[7] = dataclasses.replace(reports[7], token=reports[7].token[:-4] + "AAAA")
    reports[8] = dataclasses.replace(reports[8], client="10.0.0.1")
    with host_lock(site.layout, "rack09.example.com"):
        outcomes = pbconnect.notify_all([*reports, reports[0]])
    kinds = [type(outcome) for outcome in outcomes]
    wrong = {3: StoreError, 5: FileNotFoundError, 7: Rejected, 8: Rejected, 9: LockTimeout, 12: LockTimeout}
    assert kinds == [wrong.get(number, Ack) for number in range(13)]
    for number in range(12):
        name = f"rack{number:02}.example.com"
        if number not in wrong:
            assert (site.status(name).stage, site.mode(name)) == ("installing", "local")
        elif number not in (3, 5):
            assert (site.status(name).stage, site.mode(name)) == ("armed", "install")
    # Whoever was at the ninth host is done.
    assert pbconnect.notify_all([reports[9]]) == [Ack("rack09.example.com", "installing", "local", False)]


def test_all_links_are_on_disk_before_a_status_gets_its_name(
    site: Site, pbconnect: Pbconnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when one call brings them all there."""
    reports = rack(site, 6)
    real = _groupcommit.sync_filesystem
    seen = record_disk(site, monkeypatch)
    monkeypatch.setattr(_groupcommit, "sync_filesystem", lambda fd: (seen.append("sync all"), real(fd)))
    pbconnect.notify_all(list(reports.values()))
    names = [f"rename {name}.json" for name in reports]
    assert seen == [*["rename boot"] * 6, "sync all", *names, "sync status"]


def test_no_descriptor_is_left_open(site: Site, pbconnect: Pbconnect) -> None:
    reports = list(rack(site, 20).values())
    before = len(os.listdir("/proc/self/fd"))
    pbconnect.notify_all(reports)
    pbconnect.notify_all(reports[:3])
    pbconnect.notify_all([dataclasses.replace(report, client="10.0.0.1") for report in reports])
    site.layout.status_dir.rename(site.root / "away")
    assert not any(isinstance(outcome, Ack) for outcome in pbconnect.notify_all(reports))
    (site.root / "away").rename(site.layout.status_dir)
    # Files that were replaced are closed by somebody else, a little later.
    pbconnect._commit._pool.shutdown(wait=True)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("sync", ["sync_filesystem", "fsync"])
def test_when_the_sync_of_all_fails_none_is_acknowledged(
    site: Site, pbconnect: Pbconnect, sync: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = list(rack(site, 6).values())

    def broken(_descriptor: int) -> t.NoReturn:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(_groupcommit if sync == "sync_filesystem" else os, sync, broken)
        assert all(isinstance(outcome, OSError) for outcome in pbconnect.notify_all(reports))
    # Said again, all of it is done.
    acks = pbconnect.notify_all(reports)
    assert all(isinstance(ack, Ack) and ack.stage == "installing" for ack in acks)


def test_a_file_system_with_much_else_to_write_is_not_waited_for(
    site: Site, pbconnect: Pbconnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = list(rack(site, 6).values())
    calls = []

    def busy(descriptor: int) -> None:
        calls.append(descriptor)
        time.sleep(0.2)

    monkeypatch.setattr(_groupcommit, "sync_filesystem", busy)
    pbconnect.notify_all(reports)
    assert len(calls) == 1
    seen = record_disk(site, monkeypatch)
    later_on = [dataclasses.replace(report.notification, stage="installed") for report in reports]
    pbconnect.notify_all([dataclasses.replace(report, notification=said) for report, said in zip(reports, later_on)])
    assert len(calls) == 1, "it was slow, and was tried again at once"
    names = [event.rpartition(" ")[2] for event in seen if event.startswith("rename")]
    first = seen.index(f"rename {names[0]}")
    assert {f"sync {name.rpartition('.json')[0]}" for name in names} <= set(seen[:first])
    assert seen[:first].count("sync file") == 6
    assert seen[-1] == "sync status"


def test_an_install_that_is_replaced_while_the_lock_is_waited_for_counts(
    site: Site, pbconnect: Pbconnect, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _pbconnect.lock_host

    def disarmed_meanwhile(*arguments: t.Any) -> int:
        site.write_install(site.install(NAME).void())
        return real(*arguments)

    monkeypatch.setattr(_pbconnect, "lock_host", disarmed_meanwhile)
    rejected("forbidden", pbconnect.notify, token, said("installing"), ADDRESS, NOW)
    assert (site.status(NAME).stage, site.mode(NAME)) == ("armed", "install")


def test_a_status_file_that_is_not_ours_is_an_error_and_not_overwritten(
    site: Site, pbconnect: Pbconnect, token: str
) -> None:
    site.layout.status(NAME).write_text("{")
    with pytest.raises(StoreError):
        pbconnect.notify(token, said("installing"), ADDRESS, NOW)
    assert site.layout.status(NAME).read_text() == "{"


def test_notifications_of_one_host_at_once_are_taken_one_by_one(site: Site, pbconnect: Pbconnect, token: str) -> None:
    acks, refusals = [], []

    def notify(stage: str) -> None:
        try:
            acks.append(pbconnect.notify(token, said(stage), ADDRESS, NOW))
        except Rejected as exc:
            refusals.append(exc.code)

    stages = ["installing", "installed", "ready"] * 6
    threads = [threading.Thread(target=notify, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.status(NAME).stage == "ready"
    assert len(acks) + len(refusals) == len(stages)
    assert set(refusals) <= {"backwards"}
    first = [ack.stage for ack in acks if not ack.duplicate]
    assert len(first) == len(set(first))
    assert first[-1] == "ready"


# -- what a notification may look like


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"null",
        b"[]",
        b'"installing"',
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b'{"stage": "installing", "x": NaN}',
        b'{"stage": "installing", "x": ' + b"9" * 200_000 + b"}",
        body(stage="armed"),
        body(stage="defined"),
        body(stage=None),
        body(stage=["installing"]),
        body(mac=1),
        body(mac="not a mac"),
        body(mac="00:50:56:aa:bb:01\n"),
        body(message=5),
        body(message=None),
        body(actions={}),
        body(actions="x"),
        body(actions=[[]]),
        body(actions=[{}]),
        body(actions=[{"name": "a"}]),
        body(actions=[{"name": "a", "rc": "0"}]),
        body(actions=[{"name": "a", "rc": True}]),
        body(actions=[{"name": "a", "rc": 1.0}]),
        body(actions=[{"name": "a", "rc": 2**31}]),
        body(actions=[{"name": "", "rc": 0}]),
        body(actions=[{"name": "\x00", "rc": 0}]),
        body(actions=[{"name": 1, "rc": 0}]),
        body(actions=[{"name": "a", "rc": 0, "seconds": -1}]),
        body(actions=[{"name": "a", "rc": 0, "seconds": "1"}]),
        body(actions=[{"name": "a", "rc": 0, "seconds": True}]),
        b'{"stage": "ready", "actions": [{"name": "a", "rc": 0, "seconds": 1e999}]}',
        body(actions=[{"name": "a", "rc": 0, "ignored": 1}]),
        body(actions=[{"name": "a", "rc": 0}] * 257),
        b" " * (MAX_BODY + 1),
    ],
)
def test_what_is_not_a_notification_is_refused(sent: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        parse_notification(sent)
    assert caught.value.code == "malformed"
    assert len(str(caught.value)) < 200


def test_unknown_keys_are_not_looked_at() -> None:
    assert parse_notification(body(colour="green", mode="install")).stage == "installing"


def test_a_message_is_made_printable_and_cut() -> None:
    message = parse_notification(body(message="a\nlevel=info event=x\x1b[2J\u202e\ud800 end")).message
    assert message.isprintable()
    assert message.startswith("a level=info event=x [2J")
    assert len(parse_notification(body(message="x" * 100_000)).message) == 2000
    assert parse_notification(body(message="y" * 2000)).message == "y" * 2000


def test_the_name_of_an_action_is_made_printable_and_cut() -> None:
    (action,) = parse_notification(body(actions=[{"name": "n\r\n" + "x" * 500, "rc": -1, "seconds": 2}])).actions
    assert action.name.isprintable()
    assert len(action.name) == 128
    assert (action.rc, action.seconds, action.ignored) == (-1, 2, False)


def test_a_certificate_is_kept_in_one_form() -> None:
    crlf = "\r\n" + CERTIFICATE.replace("\n", "\r\n") + "\r\n"
    assert parse_notification(body(certificate=crlf)).certificate == CERTIFICATE
    assert parse_notification(body(certificate="")).certificate is None
    assert parse_notification(body()).certificate is None


KEY = CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY")


@pytest.mark.parametrize(
    "certificate",
    [
        5,
        [CERTIFICATE],
        "x",
        CERTIFICATE + CERTIFICATE,
        CERTIFICATE + KEY,
        KEY,
        "text before\n" + CERTIFICATE,
        CERTIFICATE + "text after",
        CERTIFICATE.replace("M", "!", 1),
        CERTIFICATE.replace("MIIB", "MIIC"),
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(CERTIFICATE)[:-1]),
        ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(CERTIFICATE) * 2),
        ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(CERTIFICATE) + b"more"),
        CERTIFICATE.replace("\n-----END", "\n" * 20_000 + "-----END"),
    ],
)
def test_what_is_not_one_certificate_is_refused(certificate: object) -> None:
    with pytest.raises(Rejected):
        parse_notification(body(stage="ready", certificate=certificate))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
_field = _json | st.lists(
    st.fixed_dictionaries(
        {"name": _json | st.text(), "rc": _json | st.integers()}, optional={"seconds": _json, "ignored": _json}
    )
)


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries(
        {"stage": st.sampled_from(["installing", "ready", "failed"])},
        optional={"mac": _field, "message": _field, "actions": _field, "certificate": _field},
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_is_bounded_and_storable_or_refused(sent: bytes) -> None:
    try:
        notification = parse_notification(sent)
    except Rejected as refused:
        assert str(refused).isprintable()
        return
    assert len(notification.message) <= 2000
    assert notification.message.isprintable()
    assert all(action.name.isprintable() and action.name for action in notification.actions)
    json.dumps([action.to_json() for action in notification.actions], allow_nan=False).encode("ascii")


# -- armings that run out


def test_an_expired_arming_is_ended(site: Site, pbconnect: Pbconnect, key: str, token: str) -> None:
    assert pbconnect.sweep(later(3599)).expired == ()
    assert site.mode(NAME) == "install"
    swept = pbconnect.sweep(later(3600))
    assert (swept.expired, swept.problems) == ((NAME,), ())
    status = site.status(NAME)
    assert (site.mode(NAME), status.mode, status.stage) == ("local", "local", "defined")
    assert status.failure is not None
    assert status.failure.kind == "expired"
    assert site.install(NAME).is_void
    rejected("not_found", pbconnect.kickstart, key, FILE, ADDRESS, later(3601))
    rejected("forbidden", pbconnect.notify, token, said("installing"), ADDRESS, later(3601))
    before = site.snapshot()
    assert pbconnect.sweep(later(9999)).expired == ()
    assert site.snapshot() == before


def test_an_install_under_way_is_not_swept(site: Site, pbconnect: Pbconnect, token: str) -> None:
    pbconnect.sweep(NOW)
    pbconnect.notify(token, said("installing"), ADDRESS, later(1))
    assert pbconnect.sweep(later(99999)).expired == ()
    assert site.status(NAME).stage == "installing"


def test_a_host_that_is_armed_again_gets_its_new_time(site: Site, pbconnect: Pbconnect, key: str) -> None:
    pbconnect.sweep(NOW)
    site.arm(NAME, [MAC, MAC2], [ADDRESS], later(3000))
    assert pbconnect.sweep(later(3700)).expired == ()
    assert pbconnect.sweep(later(6600)).expired == (NAME,)


def test_one_bad_file_does_not_save_the_others(site: Site, pbconnect: Pbconnect, key: str) -> None:
    site.layout.status("bad.example.com").write_text("{")
    (site.layout.status_dir / "NOT A NAME.json").write_text("{}")
    (site.layout.status_dir / ".esx09.json.1-1.tmp").write_text("half")
    (site.layout.status_dir / "README").write_text("hello")
    swept = pbconnect.sweep(later(3600))
    assert swept.expired == (NAME,)
    assert {name for name, _reason in swept.problems} == {"bad.example.com", "NOT A NAME"}


def test_only_changed_files_are_read_again(
    site: Site, pbconnect: Pbconnect, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        site.publish(f"other{number}.example.com", [f"00:50:56:cc:00:0{number}"], NOW)
    pbconnect.sweep(NOW)
    read: list[str] = []
    real = _pbconnect.read_json
    monkeypatch.setattr(_pbconnect, "read_json", lambda path: read.append(path.name) or real(path))
    pbconnect.sweep(later(30))
    assert read == []
    site.write_status(site.status("other3.example.com"))
    pbconnect.sweep(later(60))
    assert read == ["other3.example.com.json"]


@pytest.mark.parametrize("fails", ["flip", "write_json"])
def test_a_sweep_that_was_cut_short_is_finished_by_the_next(
    site: Site, pbconnect: Pbconnect, key: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_named: object) -> t.NoReturn:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(_pbconnect, fails, broken)
        swept = pbconnect.sweep(later(3600))
        assert swept.expired == ()
        assert [name for name, _reason in swept.problems] == [NAME]
    assert pbconnect.sweep(later(3630)).expired == (NAME,)
    assert site.install(NAME).is_void


def test_health(site: Site, pbconnect: Pbconnect) -> None:
    assert pbconnect.healthy()
    site.layout.installs_dir.rmdir()
    assert not pbconnect.healthy()
