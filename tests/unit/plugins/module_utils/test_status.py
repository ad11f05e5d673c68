# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status: the transitions that it makes and those that it refuses."""

from __future__ import annotations

import datetime
import json
import typing as t

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Refused, Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    NOTIFIED_STAGES,
    STAGES,
    ActionResult,
    Failure,
    KickstartFetch,
    timestamp,
)
from ansible_collections.pxemanager.esxi.tests.support.statuses import (
    ADDRESS,
    BROKEN,
    MAC,
    NOW,
    OK,
    SHRUGGED,
    armed,
    defined,
    later,
    new_install,
    ready,
)

# -- times


def test_a_clock_that_goes_back_does_not_reorder_the_stages() -> None:
    status = armed().notified("installing", later(100)).notified("installed", later(-100))
    assert status.stages["installed"] == status.stages["installing"] == timestamp(later(100))
    assert status.updated == timestamp(later(100))


# -- the ordinary way


def test_a_new_host_boots_from_its_disk() -> None:
    status = defined()
    assert (status.mode, status.stage, status.install, status.expires) == ("local", "defined", None, None)
    assert status.stages == {"defined": timestamp(NOW)}


def test_an_install_from_arming_to_ready() -> None:
    install = new_install(request="ticket 7")
    status = defined().armed(install, later(1))
    assert (status.mode, status.stage, status.install) == ("install", "armed", install.install)
    assert (status.expires, status.request) == (install.expires_at, "ticket 7")

    status = status.fetched(MAC, ADDRESS, later(5))
    assert status.kickstart == KickstartFetch(MAC, ADDRESS, timestamp(later(5)))
    assert (status.mode, status.stage) == ("install", "armed")

    status = status.notified("installing", later(10), mac=MAC)
    assert (status.mode, status.stage, status.booted_mac, status.expires) == ("local", "installing", MAC, None)
    status = status.notified("installed", later(20))
    assert (status.mode, status.stage) == ("local", "installed")
    status = status.notified("ready", later(30), actions=[OK, SHRUGGED], certificate="PEM", message="hello")
    assert (status.mode, status.stage, status.failure) == ("local", "ready", None)
    assert (status.actions, status.certificate, status.message) == ((OK, SHRUGGED), "PEM", "hello")
    assert status.booted_mac == MAC
    assert list(status.stages) == ["armed", "defined", "installing", "installed", "ready"]
    assert status.updated == timestamp(later(30))


def test_the_image_can_be_changed_by_arming() -> None:
    assert defined().armed(new_install(), NOW).image == "esxi-8.0.3"
    assert defined().armed(new_install(), NOW, image="esxi-9").image == "esxi-9"


def test_arming_forgets_what_the_last_install_reported() -> None:
    status = ready().armed(new_install(later(60)), later(60))
    assert (status.certificate, status.actions, status.booted_mac, status.kickstart) == (None, (), None, None)
    assert set(status.stages) == {"defined", "armed"}


def test_the_same_install_cannot_be_armed_twice() -> None:
    install = new_install()
    status = defined().armed(install, NOW).notified("installing", later(1))
    with pytest.raises(Refused) as refused:
        status.armed(install, later(2))
    assert refused.value.code == "same_install"


# -- what a host reports


@pytest.mark.parametrize("stage", NOTIFIED_STAGES)
def test_any_report_ends_the_install_mode(stage: str) -> None:
    assert armed().notified(stage, later(1)).mode == "local"


@pytest.mark.parametrize("stage", NOTIFIED_STAGES)
def test_the_same_report_twice_changes_nothing(stage: str) -> None:
    once = armed().notified(stage, later(1), message="first")
    assert once.notified(stage, later(2), message="second", actions=[BROKEN], certificate="other") is once


def test_the_same_report_twice_after_a_failed_post_action_changes_nothing() -> None:
    once = armed().notified("ready", later(1), actions=[BROKEN])
    assert once.stage == "failed"
    assert once.notified("ready", later(2), actions=[OK]) is once


@pytest.mark.parametrize(
    ("reached", "reported"),
    [(a, b) for i, a in enumerate(NOTIFIED_STAGES) for b in NOTIFIED_STAGES[:i]],
)
def test_an_earlier_report_is_refused(reached: str, reported: str) -> None:
    status = armed().notified(reached, later(1))
    with pytest.raises(Refused) as refused:
        status.notified(reported, later(2))
    assert refused.value.code == "backwards"


@pytest.mark.parametrize("stage", [*NOTIFIED_STAGES])
def test_a_host_that_is_not_armed_has_nothing_to_report(stage: str) -> None:
    for status in (defined(), armed().disarmed(later(1)), armed().expired(later(4000))):
        with pytest.raises(Refused) as refused:
            status.notified(stage, later(5000))
        assert refused.value.code == "not_armed"


@pytest.mark.parametrize("stage", ["armed", "defined", "", "READY", "installing\n"])
def test_a_host_cannot_report_what_is_not_its_own_to_say(stage: str) -> None:
    with pytest.raises(Refused) as refused:
        armed().notified(stage, later(1))
    assert refused.value.code == "unknown_stage"


@pytest.mark.parametrize("before", ["armed", "installing", "installed", "ready"])
def test_a_failure_can_follow_any_stage(before: str) -> None:
    status = armed() if before == "armed" else armed().notified(before, later(1))
    status = status.notified("failed", later(2), message="no such disk")
    assert (status.stage, status.mode, status.failure) == ("failed", "local", Failure("install", "no such disk"))


def test_a_failure_without_a_reason_says_so() -> None:
    failure = armed().notified("failed", later(1)).failure
    assert failure is not None
    assert "without a reason" in failure.reason


def test_a_failed_post_action_fails_the_install_but_keeps_the_certificate() -> None:
    status = armed().notified("ready", later(1), actions=[OK, BROKEN, SHRUGGED], certificate="PEM")
    assert status.stage == "failed"
    assert status.failure == Failure("post_action", "ntp ended with 2")
    assert status.certificate == "PEM"
    assert status.stages["ready"] == status.stages["failed"] == timestamp(later(1))


def test_a_failed_post_action_that_was_reported_earlier_is_not_forgotten() -> None:
    status = armed().notified("installed", later(1), actions=[BROKEN]).notified("ready", later(2))
    assert status.stage == "failed"
    assert status.actions == (BROKEN,)
    # Later results replace earlier ones.
    assert (
        armed().notified("installed", later(1), actions=[BROKEN]).notified("ready", later(2), actions=[OK]).failure
        is None
    )


# -- ending an arming


def test_what_follows_an_install_is_finished_once() -> None:
    finished = ready().finish(later(60))
    assert (finished.stage, finished.finished) == ("ready", "2026-11-22T20:01:00Z")
    assert finished.finish(later(90)) is finished


@pytest.mark.parametrize("status", [defined(), armed()], ids=["defined", "armed"])
def test_a_host_that_did_not_come_up_cannot_be_finished(status: Status) -> None:
    with pytest.raises(Refused) as refused:
        status.finish(later(60))
    assert refused.value.code == "not_ready"


def test_a_host_whose_post_action_failed_can_be_finished() -> None:
    broken = armed().notified("ready", later(1), actions=[ActionResult("ntp", 1, 0.5)])
    assert broken.stage == "failed" and broken.finish(later(2)).finished is not None


def test_a_new_install_is_not_finished_and_a_withdrawn_one_is_again() -> None:
    again = ready().finish(later(60)).armed(new_install(later(120)), later(120))
    assert again.finished is None
    assert again.disarmed(later(130)).finished == "2026-11-22T20:01:00Z"


def test_disarming_before_the_installer_started() -> None:
    status = armed(request="ticket 7").disarmed(later(5))
    assert (status.mode, status.stage, status.expires) == ("local", "defined", None)
    assert status.request == "ticket 7"


def test_disarming_twice_changes_nothing() -> None:
    once = armed().disarmed(later(5))
    assert once.disarmed(later(6)) is once


@pytest.mark.parametrize("stage", NOTIFIED_STAGES)
def test_disarming_a_running_install_leaves_its_stage(stage: str) -> None:
    status = armed().notified(stage, later(1))
    assert status.disarmed(later(2)) is status


def test_an_arming_expires_at_its_time_and_not_before() -> None:
    status = armed()
    assert not status.has_expired(later(3599))
    with pytest.raises(Refused):
        status.expired(later(3599))
    assert status.has_expired(later(3600))
    gone = status.expired(later(3600))
    assert (gone.mode, gone.stage) == ("local", "defined")
    assert gone.failure is not None
    assert gone.failure.kind == "expired"
    assert "never asked for its kickstart" in gone.failure.reason
    assert not gone.has_expired(later(9999))


def test_an_expired_arming_says_who_fetched_the_kickstart() -> None:
    gone = armed().fetched(MAC, ADDRESS, later(9)).expired(later(3600))
    assert gone.failure is not None
    assert ADDRESS in gone.failure.reason


def test_an_install_that_began_does_not_expire() -> None:
    assert not armed().notified("installing", later(1)).has_expired(later(99999))


def test_no_kickstart_for_a_host_that_is_not_armed() -> None:
    for status in (defined(), armed().notified("installing", later(1)), armed().disarmed(later(1))):
        with pytest.raises(Refused):
            status.fetched(MAC, ADDRESS, later(2))
    with pytest.raises(Refused):
        armed().fetched(MAC, ADDRESS, later(3600))


@pytest.mark.parametrize("end", ["disarmed", "expired"])
def test_a_withdrawn_reinstall_leaves_a_ready_host_ready(end: str) -> None:
    """Otherwise the next ordinary run would find stage `defined` and reinstall a machine that is alive."""
    before = ready()
    again = before.armed(new_install(later(60), request="again"), later(60)).fetched(MAC, ADDRESS, later(70))
    after = getattr(again, end)(later(60 + 3600))
    assert (after.mode, after.stage, after.install) == ("local", "ready", before.install)
    assert (after.certificate, after.actions, after.stages) == (before.certificate, before.actions, before.stages)
    assert (after.previous, after.expires, after.kickstart) == (None, None, None)
    # An expired request may be tried again by its label; one that somebody withdrew may not.
    assert after.request == ("again" if end == "disarmed" else None)


def test_what_was_before_is_remembered_over_two_armings_and_forgotten_when_the_installer_starts() -> None:
    twice = ready().armed(new_install(later(60)), later(60)).armed(new_install(later(70)), later(70))
    assert twice.disarmed(later(80)).stage == "ready"
    assert twice.notified("installing", later(80)).previous is None


# -- any order of events


class Lifecycle(RuleBasedStateMachine):
    """Whatever comes in whatever order: the rules of a status hold."""

    @initialize()
    def publish(self) -> None:
        self.now = NOW
        self.status = defined()

    def _move(self, change: t.Callable[[], Status]) -> tuple[Status, Status] | None:
        before = self.status
        document = before.to_json()
        try:
            self.status = change()
        except Refused:
            assert before.to_json() == document
            return None
        return before, self.status

    @rule(seconds=st.integers(min_value=-5000, max_value=5000))
    def time_passes(self, seconds: int) -> None:
        self.now += datetime.timedelta(seconds=seconds)

    @rule(request=st.none() | st.text(max_size=3), ttl=st.integers(min_value=1, max_value=4000))
    def arm(self, request: str | None, ttl: int) -> None:
        install = new_install(self.now, request, ttl)
        moved = self._move(lambda: self.status.armed(install, self.now))
        if moved:
            assert (moved[1].stage, moved[1].mode) == ("armed", "install")

    @rule()
    def disarm(self) -> None:
        moved = self._move(lambda: self.status.disarmed(self.now))
        assert moved is not None
        assert moved[1].mode == "local"
        assert moved[1].stage != "armed"

    @rule()
    def sweep(self) -> None:
        moved = self._move(lambda: self.status.expired(self.now))
        if moved:
            assert moved[0].stage == "armed"
            assert moved[1].mode == "local"
            assert moved[1].stage != "armed"

    @rule()
    def fetch(self) -> None:
        moved = self._move(lambda: self.status.fetched(MAC, ADDRESS, self.now))
        if moved:
            assert moved[0].mode == moved[1].mode == "install"
            assert moved[1].stage == "armed"

    @rule(
        stage=st.sampled_from([*STAGES, "nonsense"]),
        codes=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=3),
        certificate=st.none() | st.just("PEM"),
    )
    def notify(self, stage: str, codes: list[tuple[int, bool]], certificate: str | None) -> None:
        actions = [ActionResult("a", code, 0.0, ignored) for code, ignored in codes]
        moved = self._move(
            lambda: self.status.notified(stage, self.now, mac=MAC, actions=actions, certificate=certificate)
        )
        if moved is None:
            return
        before, after = moved
        assert stage in NOTIFIED_STAGES
        assert before.stage != "defined"
        assert after.mode == "local"
        assert STAGES.index(after.stage) >= STAGES.index(before.stage)
        assert set(after.stages) >= set(before.stages)
        assert all(after.stages[known] == at for known, at in before.stages.items())
        assert after.install == before.install
        assert after.notified(stage, self.now) is after
        if before.stage != after.stage and after.stage == "ready":
            assert not any(action.failed for action in after.actions)

    @precondition(lambda self: self.status.stage in NOTIFIED_STAGES)
    @rule()
    def a_backwards_report_is_refused(self) -> None:
        reached = max(STAGES.index(stage) for stage in self.status.stages if stage != "failed")
        for stage in STAGES[2:reached]:
            with pytest.raises(Refused):
                self.status.notified(stage, self.now)

    @invariant()
    def install_mode_means_armed(self) -> None:
        assert (self.status.mode == "install") == (self.status.stage == "armed")

    @invariant()
    def an_arming_has_an_end(self) -> None:
        assert (self.status.expires is not None) == (self.status.stage == "armed")

    @invariant()
    def the_stage_has_a_time_and_times_are_in_order(self) -> None:
        assert self.status.stage in self.status.stages
        times = [self.status.stages[stage] for stage in STAGES if stage in self.status.stages and stage != "failed"]
        assert times == sorted(times)
        assert self.status.updated >= max(self.status.stages.values())

    @invariant()
    def a_failed_stage_has_a_failure(self) -> None:
        assert self.status.stage != "failed" or self.status.failure is not None

    @invariant()
    def the_file_tells_all(self) -> None:
        assert Status.from_json(json.loads(json.dumps(self.status.to_json()))) == self.status


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_what_the_controller_did_counts_as_the_hosts_own_report():
    waiting = defined().armed(new_install(), NOW).notified("installing", NOW).notified("installed", later(60))
    what = {"actions": [OK, SHRUGGED], "certificate": "PEM", "message": "done"}

    done = waiting.completed(waiting.install, later(90), **what)

    assert done == waiting.notified("ready", later(90), **what)
    assert done.completed(waiting.install, later(99), certificate="other") is done
    broken = waiting.completed(waiting.install, later(90), actions=[BROKEN], certificate="PEM")
    assert (broken.stage, broken.failure) == ("failed", Failure("post_action", "ntp ended with 2"))
    assert broken.completed(waiting.install, later(99), certificate="other") is broken


def test_the_controller_can_complete_only_the_install_that_it_saw_installed():
    early = defined().armed(new_install(), NOW).notified("installing", NOW)
    with pytest.raises(Refused) as refused:
        early.completed(early.install, NOW, certificate="PEM")
    assert refused.value.code == "not_installed"
    installed = early.notified("installed", NOW)
    again = installed.armed(new_install(later(100)), later(100)).notified("installing", later(110))
    again = again.notified("installed", later(120))
    for status, install in ((again, installed.install), (defined(), None), (defined(), "some")):
        with pytest.raises(Refused) as refused:
            status.completed(install, later(130), certificate="PEM")
        assert refused.value.code == "another_install"
