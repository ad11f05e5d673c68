# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import os

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._events import Cursor, CursorError, EventLog, Gap
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import HostView, changes_between

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)


def published(*numbers, seconds=0):
    changes = []
    for number in numbers:
        status = Status.new(f"esx{number:02d}.example.com", "esxi-8.0.3", NOW + datetime.timedelta(seconds=seconds))
        changes += changes_between(None, HostView.of(status), "2026-11-22T20:00:00Z")
    return changes


def removed(number):
    view = published(number)[0].view
    return changes_between(view, None, "2026-11-22T20:00:00Z")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "events"


def log_in(folder, **options):
    return EventLog(folder, "ber1", **{"segment": 4, "segments": 3, **options})


def begin(log):
    return Cursor(log.log, 0)


def hosts(events):
    return [event.host[:5] for event in events]


def test_events_come_in_order_and_from_any_cursor_on(folder):
    log = log_in(folder)
    log.append(published(1, 2))
    log.append(published(3))
    assert hosts(log.after(begin(log))) == ["esx01", "esx02", "esx03"]
    assert [event.number for event in log.after(begin(log))] == [1, 2, 3]
    assert hosts(log.after(Cursor(log.log, 2))) == ["esx03"]
    assert hosts(log.after(begin(log), limit=2)) == ["esx01", "esx02"]
    assert log.after(log.cursor) == []
    document = json.loads(log.after(Cursor(log.log, 2))[0].data)
    assert document["id"] == str(log.cursor)
    assert (document["type"], document["site"], document["previous"]) == ("published", "ber1", None)
    assert document["status"]["host"] == document["host"] == "esx03.example.com"


def test_nothing_is_lost_over_a_restart(folder):
    log = log_in(folder)
    log.append(published(1, 2))
    cursor = log.cursor
    again = log_in(folder)
    assert again.cursor == cursor
    assert sorted(again.hosts) == ["esx01.example.com", "esx02.example.com"]
    again.append(published(3))
    assert hosts(again.after(cursor)) == ["esx03"]
    assert hosts(again.after(begin(again))) == ["esx01", "esx02", "esx03"]


@pytest.mark.parametrize("count", range(1, 14))
def test_the_hosts_are_known_again_wherever_segments_end(folder, count):
    log = log_in(folder)
    for number in range(count):
        log.append(published(number))
    log.append(removed(0))
    again = log_in(folder)
    assert again.hosts == log.hosts
    assert again.cursor == log.cursor


def test_old_segments_go_and_a_cursor_into_them_is_told_so(folder):
    log = log_in(folder)
    for number in range(30):
        log.append(published(number))
    assert len(list(folder.iterdir())) == 3
    assert log.oldest.number > 0
    with pytest.raises(Gap) as gap:
        log.after(begin(log))
    assert gap.value.reason == "too_old"
    found = log.after(log.oldest)
    assert [event.number for event in found] == list(range(log.oldest.number + 1, 31))
    again = log_in(folder)
    assert [event.number for event in again.after(again.oldest)] == [event.number for event in found]


def test_events_are_read_from_the_disk_where_memory_has_them_no_more(folder, monkeypatch):
    monkeypatch.setattr("ansible_collections.pxemanager.esxi.plugins.module_utils._events._TAIL", 2)
    log = log_in(folder, segments=10)
    for number in range(11):
        log.append(published(number))
    assert [event.number for event in log.after(Cursor(log.log, 1))] == list(range(2, 12))
    assert [event.number for event in log.after(Cursor(log.log, 1), 3)] == [2, 3, 4]
    assert [event.number for event in log.after(Cursor(log.log, 9))] == [10, 11]


def test_a_cursor_of_another_log_or_of_the_future_is_told_so(folder, tmp_path):
    log = log_in(folder)
    log.append(published(1))
    for cursor in (Cursor("00000000", 1), Cursor(log.log, 99)):
        with pytest.raises(Gap) as gap:
            log.after(cursor)
        assert gap.value.reason == "unknown_log"


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_line_that_a_killed_process_began_is_cut_off(folder, cut):
    log = log_in(folder)
    log.append(published(1))
    path = next(folder.iterdir())
    whole = path.read_bytes()
    log.append(published(2))
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    again = log_in(folder)
    assert (again.number, list(again.hosts)) == (1, ["esx01.example.com"])
    assert path.read_bytes() == whole
    again.append(published(3))
    assert hosts(log_in(folder).after(begin(again))) == ["esx01", "esx03"]


@pytest.mark.parametrize("garbage", [b"", b"{}\n", b"\xff\xfe\n", b'{"schema": 9, "log": "aa", "hosts": []}\n'])
def test_a_log_that_cannot_be_read_begins_anew_under_another_name(folder, garbage):
    log = log_in(folder)
    log.append(published(1))
    next(folder.iterdir()).write_bytes(garbage)
    again = log_in(folder)
    assert again.log != log.log
    assert (again.number, dict(again.hosts)) == (0, {})
    with pytest.raises(Gap):
        again.after(log.cursor)


def test_an_event_that_could_not_be_written_is_not_told_and_can_be_written_again(folder, monkeypatch):
    log = log_in(folder)
    log.append(published(1))

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            log.append(published(2, 3))
    assert (log.number, sorted(log.hosts)) == (1, ["esx01.example.com"])
    assert hosts(log.after(begin(log))) == ["esx01"]
    log.append(published(2, 3))
    assert hosts(log.after(begin(log))) == ["esx01", "esx02", "esx03"]
    assert hosts(log_in(folder).after(begin(log))) == ["esx01", "esx02", "esx03"]


def test_the_history_of_one_host(folder):
    log = log_in(folder, segments=10)
    for number in (1, 2, 1, 3, 1, 1, 12):
        log.append(published(number, seconds=number))
    assert [event["id"] for event in log.history("esx01.example.com")] == [f"{log.log}-{n}" for n in (6, 5, 3, 1)]
    assert len(log.history("esx01.example.com", 2)) == 2
    assert log.history('esx01", "site') == []


@pytest.mark.parametrize(
    "text", ["", "x", "1", "0a1b2c3d", "0a1b2c3d-", "0a1b2c3d-1 ", "0a1b2c3d--1", "0a1b2c3d-" + "9" * 40]
)
def test_what_is_no_cursor(text):
    with pytest.raises(CursorError):
        Cursor.parse(text)


def test_a_cursor_comes_back():
    assert Cursor.parse(str(Cursor("0a1b2c3d", 42))) == Cursor("0a1b2c3d", 42)
