# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait: what is reported of status files, what it means for each host, and what is shown."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult, timestamp
from ansible_collections.pxemanager.esxi.plugins.module_utils._wait import (
    HOLD_LIMIT,
    Goal,
    Observer,
    ReportError,
    Request,
    Wait,
)
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
NAME = "esx01.example.com"
MAC = "00:50:56:aa:bb:01"
ADDRESS = "192.168.77.21"
BROKEN = (ActionResult("ntp", 2, 1.0), ActionResult("motd", 1, 1.0, ignored=True), ActionResult("dns", 0, 1.0))


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def armed(name: str = NAME, now: datetime.datetime = NOW, before: Status | None = None) -> Status:
    install = Install.new(name, [MAC], [ADDRESS], None, now, 3600)
    return (Status.new(name, None, now) if before is None else before).armed(install, now)


def ready(name: str = NAME) -> Status:
    return armed(name).notified("installing", later(60)).notified("ready", later(300))


class Seen:
    """Feeds a wait with statuses as an observer would report them."""

    def __init__(self, *names: str, goal: Goal = "ready", timeout: float = 3600, install: str | None = None) -> None:
        self.wait = Wait([Request(name, timeout, install) for name in names or (NAME,)], goal)
        self._count = 0

    def __call__(self, *statuses: Status | None, elapsed: float = 0, now: datetime.datetime = NOW) -> bool:
        hosts: dict[str, t.Any] = {}
        for status in statuses:
            self._count += 1
            document = None if status is None else status.to_json()
            hosts[NAME if status is None else status.host] = {
                "fingerprint": str(self._count),
                "status": document,
                "problem": None,
            }
        return self.wait.observe(timestamp(now), hosts, elapsed)

    def result(self, name: str = NAME) -> dict[str, t.Any]:
        return self.wait.results()[name]


def judged(status: Status | None, goal: Goal = "ready", now: datetime.datetime = NOW) -> dict[str, t.Any]:
    seen = Seen(goal=goal)
    seen(status, now=now)
    return seen.result()


# -- observer


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path / "site")


def test_a_host_is_reported_once_until_its_file_changes(site: Site) -> None:
    site.arm(NAME, [MAC], [ADDRESS], NOW)
    observer = Observer(site.layout, [NAME])
    first = observer.look({})
    assert first[NAME]["status"]["stage"] == "armed"
    assert first[NAME]["problem"] is None
    seen = {NAME: first[NAME]["fingerprint"]}
    assert observer.look(seen) == {}
    site.write_status(site.status(NAME).notified("installing", later(1)))
    assert observer.look(seen)[NAME]["status"]["stage"] == "installing"


def test_a_host_that_is_not_published_is_reported_once(site: Site) -> None:
    observer = Observer(site.layout, [NAME])
    report = observer.look({})[NAME]
    assert (report["status"], report["problem"]) == (None, None)
    assert observer.look({NAME: report["fingerprint"]}) == {}
    site.publish(NAME, [MAC], NOW)
    assert observer.look({NAME: report["fingerprint"]})[NAME]["status"]["stage"] == "defined"


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_a_file_that_cannot_be_read_is_a_problem_of_that_host_alone(site: Site, content: bytes) -> None:
    site.publish(NAME, [MAC], NOW)
    site.layout.status("bad.example.com").write_bytes(content)
    reports = Observer(site.layout, [NAME, "bad.example.com", "../../etc/passwd"]).look({})
    assert reports[NAME]["problem"] is None
    assert "bad.example.com.json" in reports["bad.example.com"]["problem"]
    assert reports["../../etc/passwd"]["problem"]


def test_only_the_hosts_asked_for_are_reported(site: Site) -> None:
    site.publish(NAME, [MAC], NOW)
    site.publish("esx02.example.com", ["00:50:56:aa:bb:02"], NOW)
    assert set(Observer(site.layout, [NAME]).look({})) == {NAME}
    before = site.snapshot()
    Observer(site.layout, [NAME]).look({})
    assert site.snapshot() == before


# -- verdicts


@pytest.mark.parametrize(
    ("goal", "stage", "reached"),
    [
        ("installing", "installing", True),
        ("installing", "ready", True),
        ("installed", "installing", False),
        ("installed", "installed", True),
        ("installed", "ready", True),
        ("ready", "installed", False),
        ("ready", "ready", True),
    ],
)
def test_a_stage_that_is_far_enough_is_reached(goal: Goal, stage: str, reached: bool) -> None:
    result = judged(armed().notified(stage, later(1)), goal)
    assert result["reached"] is reached
    assert result["kind"] == ("ok" if reached else "pending")
    assert result["stage"] == stage


def test_an_armed_host_is_waited_for() -> None:
    seen = Seen()
    seen(armed())
    assert seen.wait.pending == [NAME]
    assert seen.result()["kind"] == "pending"


def test_a_host_that_is_not_published() -> None:
    result = judged(None)
    assert (result["kind"], result["stage"], result["status"]) == ("not_published", None, None)
    assert "state=armed" in result["msg"]


def test_a_host_that_is_not_armed_is_not_waited_for() -> None:
    result = judged(Status.new(NAME, None, NOW))
    assert result["kind"] == "not_armed"
    assert "state=armed" in result["msg"]
    result = judged(armed().disarmed(later(1)))
    assert result["kind"] == "not_armed"
    assert "disarmed before it started" in result["msg"]


def test_an_arming_that_expired() -> None:
    result = judged(armed().expired(later(3600)))
    assert result["kind"] == "expired"
    assert "never asked for its kickstart" in result["msg"]


def test_an_arming_that_expired_and_nobody_ended() -> None:
    seen = Seen()
    seen(armed(), now=later(3600 + 60))
    assert seen.wait.pending == [NAME]
    assert seen(elapsed=300, now=later(3600 + 300))
    assert seen.result()["kind"] == "expired"
    assert "start that service" in seen.result()["msg"]


def test_a_failed_install() -> None:
    status = armed().notified("installing", later(1)).notified("failed", later(2), message="no such disk.")
    for goal in t.get_args(Goal):
        result = judged(status, goal)
        assert result["kind"] == "install_failed"
        assert "no such disk;" in result["msg"]


def test_a_failed_post_action_names_each_with_its_exit_code() -> None:
    status = armed().notified("ready", later(1), actions=BROKEN)
    result = judged(status)
    assert (result["kind"], result["stage"], result["reached"]) == ("post_action_failed", "failed", False)
    assert "ntp (exit code 2)" in result["msg"]
    assert "motd" not in result["msg"]
    assert "dns" not in result["msg"]
    # Who only wants the system on the disk has it.
    assert judged(status, "installed")["kind"] == "ok"


def test_a_status_of_another_version() -> None:
    seen = Seen()
    document = {**armed().to_json(), "schema": 2}
    seen.wait.observe(timestamp(NOW), {NAME: {"fingerprint": "1", "status": document, "problem": None}}, 0)
    assert seen.result()["kind"] == "unreadable"
    assert "same version" in seen.result()["msg"]
    seen = Seen()
    seen.wait.observe(timestamp(NOW), {NAME: {"fingerprint": "1", "status": None, "problem": "no good"}}, 0)
    assert seen.result()["kind"] == "unreadable"
    assert "no good" in seen.result()["msg"]


def test_a_reinstall_that_expired_is_not_taken_for_the_install_before_it() -> None:
    again = armed(now=later(1000), before=ready())
    seen = Seen()
    seen(again, now=later(1000))
    seen(again.expired(later(1000 + 3600)), now=later(1000 + 3600))
    assert (seen.result()["kind"], seen.result()["reached"]) == ("expired", False)


def test_a_reinstall_that_was_withdrawn_is_not_taken_for_the_install_before_it() -> None:
    again = armed(now=later(1000), before=ready())
    seen = Seen()
    seen(again, now=later(1000))
    seen(again.disarmed(later(1010)), now=later(1010))
    assert (seen.result()["kind"], seen.result()["reached"]) == ("not_armed", False)
    # Whoever comes later finds a host that is ready, as it is.
    assert judged(again.disarmed(later(1010)))["kind"] == "ok"


def test_an_install_can_be_asked_for_by_its_id() -> None:
    old = ready()
    again = armed(now=later(1000), before=old)
    seen = Seen(install=again.install)
    seen(old)
    assert seen.result()["kind"] == "not_armed"
    seen = Seen(install=again.install)
    seen(again.notified("ready", later(2000)))
    assert seen.result()["kind"] == "ok"


def test_a_host_that_is_armed_again_meanwhile_is_waited_for() -> None:
    first = armed()
    seen = Seen()
    seen(first)
    second = armed(now=later(100), before=first)
    assert seen(second)
    assert seen.wait.pending == [NAME]
    seen(second.notified("ready", later(200)))
    assert seen.result()["kind"] == "ok"


def test_a_verdict_stands() -> None:
    seen = Seen()
    seen(ready())
    assert not seen(armed(now=later(1000), before=ready()))
    assert seen.result()["kind"] == "ok"


# -- time


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (armed(), ["never asked for its kickstart", "DHCP", "MAC", "boot order"]),
        (armed().fetched(MAC, ADDRESS, later(5)), [ADDRESS, "never called back", "VLAN", "firewall", "gateway"]),
        (armed().notified("installing", later(5)), ["installing since", "console"]),
        (armed().notified("installed", later(5)), ["first boot did not report", "Secure Boot", "%firstboot"]),
    ],
    ids=["never seen", "cannot call back", "stuck", "no first boot"],
)
def test_a_host_that_is_out_of_time_gets_a_diagnosis(status: Status, words: list[str]) -> None:
    seen = Seen(timeout=90)
    seen(status)
    assert not seen.wait.expire(89.9)
    assert seen.wait.expire(90)
    result = seen.result()
    assert (result["kind"], result["reached"], result["stage"]) == ("timeout", False, status.stage)
    assert result["msg"].startswith(NAME)
    assert "1m30s" in result["msg"]
    for word in words:
        assert word in result["msg"]
    assert seen.wait.pending == []
    assert not seen.wait.expire(91)


def test_out_of_time_because_the_server_was_away() -> None:
    seen = Seen(timeout=90)
    seen(armed())
    seen.wait.expire(90, "ssh: connect to host pxe01 port 22: No route to host\n")
    result = seen.result()
    assert result["kind"] == "timeout"
    assert "No route to host" in result["msg"]
    assert "it was armed" in result["msg"]
    assert "\n" not in result["msg"]


def test_every_host_has_its_own_deadline() -> None:
    wait = Wait([Request("a", 100), Request("b", 20), Request("c", 1000)], "ready")
    assert wait.hold(0) == 20
    assert wait.until_deadline(15) == 5
    assert wait.expire(20)
    assert wait.pending == ["a", "c"]
    assert wait.hold(20) == HOLD_LIMIT
    assert wait.expire(100)
    assert wait.pending == ["c"]
    assert wait.hold(2000) == 0
    wait.expire(2000)
    assert (wait.hold(2000), wait.until_deadline(2000)) == (0, 0)


def test_every_message_is_one_sentence() -> None:
    statuses = [
        None,
        Status.new(NAME, None, NOW),
        armed().expired(later(3600)),
        armed().disarmed(later(1)),
        armed().notified("failed", later(1), message="why"),
        armed().notified("ready", later(1), actions=BROKEN),
        ready(),
    ]
    messages = [judged(status)["msg"] for status in statuses]
    for status in (armed(), armed().fetched(MAC, ADDRESS, NOW), armed().notified("installing", later(1)), None):
        seen = Seen()
        if status is not None:
            seen(status)
        seen.wait.expire(9999)
        messages.append(seen.result()["msg"])
    for message in messages:
        assert message.endswith(".")
        assert ". " not in message
        assert NAME in message


# -- what is seen


def test_what_was_seen_is_asked_for_no_more() -> None:
    seen = Seen("a.b", "c.d")
    seen(ready("a.b"), armed("c.d"))
    assert seen.wait.pending == ["c.d"]
    assert seen.wait.seen() == {"c.d": "2"}


def test_only_what_a_person_would_call_a_change_is_one() -> None:
    seen = Seen()
    assert seen(armed())
    status = armed()
    seen = Seen()
    assert seen(status)
    assert not seen(status)
    assert not seen(dataclasses.replace(status, updated=timestamp(later(5))))
    assert not seen()
    assert seen(status.fetched(MAC, ADDRESS, later(6)))
    assert seen(status.notified("installing", later(7)))


def test_progress_of_a_few_hosts() -> None:
    seen = Seen("esx01", "esx02", "esx03", "esx04")
    assert seen.wait.progress(0).startswith("0/4 ready; esx01 not seen yet")
    seen(
        ready("esx01"),
        armed("esx02").fetched(MAC, ADDRESS, later(1)),
        armed("esx03").notified("installing", later(10)),
        armed("esx04").notified("failed", later(10)),
        elapsed=5,
        now=later(60),
    )
    assert seen.wait.progress(35) == (
        "1/4 ready; esx02 armed (kickstart fetched) for 1m30s; esx03 installing for 1m20s; failed: esx04"
    )


def test_progress_of_many_hosts() -> None:
    names = [f"esx{number:02}" for number in range(20)]
    seen = Seen(*names)
    seen(*[armed(name) for name in names[:8]], *[ready(name) for name in names[8:10]], elapsed=0, now=later(3700))
    seen(*[armed(name).notified("installing", later(int(name[3:]))) for name in names[10:18]], now=later(3700))
    assert seen.wait.progress(0) == (
        "2/20 ready; 8 armed (longest esx00 armed for 1h01m); 8 installing (longest esx10 installing for 1h01m); "
        "2 unknown"
    )


def test_progress_names_only_some_of_many_failures() -> None:
    names = [f"esx{number:02}" for number in range(9)]
    seen = Seen(*names)
    seen(*[armed(name).notified("failed", later(1)) for name in names])
    assert seen.wait.progress(0) == "0/9 ready; failed: esx00, esx01, esx02, esx03, esx04 and 4 more"


def test_an_age_is_reckoned_on_the_servers_clock() -> None:
    seen = Seen()
    seen(armed(), elapsed=100, now=later(-500))
    assert seen.wait.progress(100) == f"0/1 ready; {NAME} armed for 0s"


@pytest.mark.parametrize(
    ("now", "hosts"),
    [
        (None, {}),
        ("yesterday", {}),
        ("2026-11-22T20:00:00Z", []),
        ("2026-11-22T20:00:00Z", {"stranger": {"fingerprint": "1"}}),
        ("2026-11-22T20:00:00Z", {NAME: "x"}),
        ("2026-11-22T20:00:00Z", {NAME: {"status": {}}}),
    ],
)
def test_what_is_no_report_is_refused(now: object, hosts: object) -> None:
    with pytest.raises(ReportError):
        Seen().wait.observe(now, hosts, 0)


def test_a_waiting_look_costs_little(site: Site) -> None:
    """A thousand hosts: the files are looked at, not read."""
    names = [f"esx{number:04}.example.com" for number in range(50)]
    for number, name in enumerate(names):
        site.publish(name, [f"00:50:56:00:00:{number:02x}"], NOW)
    observer = Observer(site.layout, names)
    seen = {name: report["fingerprint"] for name, report in observer.look({}).items()}
    for name in names:
        # Only whoever reads the contents would notice.
        state = site.layout.status(name).stat()
        site.layout.status(name).write_bytes(b"x" * state.st_size)
        os.utime(site.layout.status(name), ns=(state.st_atime_ns, state.st_mtime_ns))
    assert observer.look(seen) == {}


def test_a_host_may_have_a_stage_of_its_own():
    seen = Seen()
    seen.wait = Wait([Request(NAME, 3600, None, "installed")], "ready")
    installing = armed().notified("installing", later(60))
    seen(installing)
    assert seen.wait.pending
    seen(installing.notified("installed", later(90)))
    assert not seen.wait.pending and seen.wait.results()[NAME]["kind"] == "ok"
