# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that restarts between its post actions reports "installed" again and again, and that only ever adds."""

from __future__ import annotations

import datetime
import json

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import Rejected, parse_notification
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Refused, Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult, Progress
from ansible_collections.pxemanager.esxi.plugins.module_utils._wait import Request, Wait

NOW = datetime.datetime(2026, 11, 22, 20, 0, tzinfo=datetime.timezone.utc)
LATER = NOW + datetime.timedelta(minutes=9)
ONE, TWO = ActionResult("one", 0, 3), ActionResult("two", 0, 4)
GOING, BACK = Progress(3, True), Progress(3, False)


@pytest.fixture
def installed():
    at = "2026-11-22T20:00:00Z"
    return Status(
        "esx01", "local", "installed", {"armed": at, "installed": at}, at, install="20261122T195000Z-1", booted_mac=None
    )


def test_it_adds_to_what_is_known_and_the_stage_keeps_its_time(installed):
    first = installed.notified("installed", LATER, message="rebooting", actions=[ONE], progress=GOING)
    assert (first.stage, first.stages, first.updated) == ("installed", installed.stages, "2026-11-22T20:09:00Z")
    assert (first.actions, first.progress, first.message) == ((ONE,), GOING, "rebooting")
    back = first.notified("installed", LATER, message="back", actions=[ONE], progress=BACK)
    assert back.progress == BACK
    assert Status.from_json(json.loads(json.dumps(back.to_json()))) == back


def test_the_same_twice_and_what_comes_late_change_nothing(installed):
    going = installed.notified("installed", NOW, message="a", actions=[ONE], progress=GOING)
    assert going.notified("installed", LATER, message="a", actions=[ONE], progress=GOING) is going
    back = going.notified("installed", NOW, message="b", actions=[ONE], progress=BACK)
    further = back.notified("installed", NOW, message="c", actions=[ONE, TWO], progress=GOING)
    for late in (
        {"message": "a", "actions": [ONE], "progress": GOING},
        {"message": "x", "actions": [], "progress": GOING},
        {"message": "x", "actions": [TWO, ONE], "progress": GOING},
        {"message": "the installer has written the system", "actions": []},
    ):
        assert further.notified("installed", LATER, **late) is further
    assert back.notified("installed", LATER, message="a", actions=[ONE], progress=GOING) is back


def test_at_the_end_there_is_none_and_nothing_goes_back(installed):
    going = installed.notified("installed", NOW, message="a", actions=[ONE], progress=GOING)
    ready = going.notified("ready", LATER, message="done", actions=[ONE, TWO])
    assert (ready.stage, ready.progress) == ("ready", None)
    with pytest.raises(Refused) as refused:
        ready.notified("installed", LATER, message="a", actions=[ONE], progress=GOING)
    assert refused.value.code == "backwards"


@pytest.mark.parametrize("progress", [3, {}, {"total": "3"}, {"total": True}, {"total": -1}, {"total": 257}, [3]])
def test_progress_that_is_none_is_refused(progress):
    with pytest.raises(Rejected):
        parse_notification(json.dumps({"stage": "installed", "progress": progress}).encode())
    with pytest.raises(Rejected):
        parse_notification(json.dumps({"stage": "installed", "progress": {"total": 1, "rebooting": 1}}).encode())


def test_progress_is_read():
    report = parse_notification(b'{"stage":"installed","progress":{"total":3,"rebooting":true}}')
    assert report.progress == GOING
    assert parse_notification(b'{"stage":"installed"}').progress is None


def test_who_waits_sees_it(installed):
    wait = Wait([Request("esx01", 60.0)], "ready")
    going = installed.notified("installed", LATER, message="a", actions=[ONE], progress=GOING)
    seen = []
    for number, status in enumerate((installed, going, going)):
        report = {"fingerprint": str(number), "status": status.to_json(), "problem": None}
        seen.append(wait.observe("2026-11-22T20:10:00Z", {"esx01": report}, 1.0))
    assert seen == [True, True, False], "a line for each change, and none for the same again"
    assert wait.progress(1.0) == "0/1 ready; esx01 installed for 10m (1 of 3 post actions, rebooting)"
    wait.expire(61.0)
    message = wait.results()["esx01"]["msg"]
    assert "was at post action 1 of 3 at 2026-11-22T20:09:00Z, where it said that it restarts" in message
