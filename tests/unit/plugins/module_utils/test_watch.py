# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
import random

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _watch
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import (
    HostView,
    Query,
    Usual,
    Watcher,
    changes_between,
    parse_query,
    select,
    stage_seconds,
)
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import mac_of, status_in

NAME, MAC = "esx01.example.com", "00:50:56:aa:bb:01"
NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)


def at(seconds):
    return NOW + datetime.timedelta(seconds=seconds)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def watcher(site, monkeypatch):
    # No look may depend on how fast the test runs.
    monkeypatch.setattr(_watch, "_GRAIN", 0.0)
    return Watcher(site.layout)


def new(name=NAME, seconds=0):
    return Status.new(name, "esxi-8.0.3", at(seconds))


def armed(status, seconds):
    return status.armed(Install.new(status.host, [MAC], [], None, at(seconds), 3600), at(seconds))


def said(changes):
    return [(change.type, change.stage, change.mode, change.at[-9:-1]) for change in changes]


def between(before, after):
    views = [None if status is None else HostView.of(status) for status in (before, after)]
    return said(changes_between(*views, "2026-11-22T21:00:00Z"))


# -- views and changes


@pytest.mark.parametrize("stage", STAGES)
def test_a_view_survives_json(stage):
    view = HostView.of(status_in(stage, NAME, MAC, NOW, random.Random(3)))
    assert HostView.from_json(view.to_json()) == view
    assert "BEGIN" not in str(view.to_json())


@pytest.mark.parametrize(
    "change", [{"mode": "x"}, {"stage": 1}, {"stages": {"armed": "soon"}}, {"actions": {}}, {"host": None}]
)
def test_a_view_that_was_not_written_here_is_refused(change):
    document = HostView.of(new()).to_json()
    with pytest.raises(ValueError):
        HostView.from_json({**document, **change})


def test_one_change_after_the_other():
    steps = [new()]
    steps.append(armed(steps[-1], 10))
    steps.append(steps[-1].fetched(MAC, "192.168.77.21", at(20)))
    steps.append(steps[-1].notified("installing", at(30)))
    steps.append(steps[-1].notified("installed", at(40)))
    steps.append(steps[-1].notified("ready", at(50)))
    steps.append(steps[-1].finish(at(60)))
    found = [between(before, after) for before, after in zip([None, *steps], [*steps, None])]
    assert found == [
        [("published", "defined", "local", "20:00:00")],
        [("stage", "armed", "install", "20:00:10")],
        [("changed", "armed", "install", "20:00:20")],
        [("stage", "installing", "local", "20:00:30")],
        [("stage", "installed", "local", "20:00:40")],
        [("stage", "ready", "local", "20:00:50")],
        [("changed", "ready", "local", "20:01:00")],
        [("removed", "ready", "local", "21:00:00")],
    ]


def test_stages_that_passed_between_two_looks_are_told_one_by_one():
    before = new()
    after = armed(before, 10).notified("installing", at(30)).notified("installed", at(40)).notified("ready", at(50))
    assert between(before, after) == [
        ("stage", "armed", "install", "20:00:10"),
        ("stage", "installing", "local", "20:00:30"),
        ("stage", "installed", "local", "20:00:40"),
        ("stage", "ready", "local", "20:00:50"),
    ]
    again = armed(after, 100).notified("installing", at(110))
    assert between(after, again) == [
        ("stage", "armed", "install", "20:01:40"),
        ("stage", "installing", "local", "20:01:50"),
    ]


def test_a_host_that_was_armed_before_it_was_first_seen():
    assert between(None, armed(new(), 10).notified("installing", at(30))) == [
        ("published", "defined", "local", "20:00:00"),
        ("stage", "armed", "install", "20:00:10"),
        ("stage", "installing", "local", "20:00:30"),
    ]


def test_what_a_host_says_is_masked_before_anyone_sees_it(site, watcher):
    site.write_status(armed(new(), 10).notified("failed", at(30), message=f"{NAME}~{'x' * 43}"))
    assert "x" * 43 not in str([change.view for change in watcher.look(NOW)])


def test_a_reinstall_that_is_withdrawn_does_not_tell_the_old_install_again():
    ready = armed(new(), 10).notified("installing", at(30)).notified("ready", at(50))
    waiting = armed(ready, 100)
    assert between(waiting, waiting.disarmed(at(120))) == [("stage", "ready", "local", "20:02:00")]


def test_the_same_is_no_change():
    assert between(new(), new()) == []
    assert between(None, None) == []


# -- looking


def test_a_look_tells_what_is_new_and_the_next_one_nothing(site, watcher):
    site.write_status(new())
    assert said(watcher.look(NOW)) == [("published", "defined", "local", "20:00:00")]
    assert watcher.look(NOW) == []
    assert list(watcher.names) == [NAME]
    site.write_status(armed(new(), 10))
    assert said(watcher.look(NOW)) == [("stage", "armed", "install", "20:00:10")]
    site.layout.status(NAME).unlink()
    assert [change.type for change in watcher.look(NOW)] == ["removed"]
    assert (list(watcher.names), dict(watcher.views)) == ([], {})


def test_a_look_at_hosts_of_which_none_changed_reads_none_and_lists_none(site, watcher, monkeypatch):
    site.write_status(new())
    watcher.look(NOW)
    monkeypatch.setattr(watcher, "_read", lambda name: pytest.fail("a file was read"))
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail("the folder was listed"))
    assert watcher.look(NOW) == []
    assert watcher.look(NOW, [NAME]) == []


def test_only_the_files_that_changed_are_read(site, watcher, monkeypatch):
    for number in range(5):
        site.write_status(new(f"esx0{number}.example.com"))
    watcher.look(NOW)
    read = []
    monkeypatch.setattr(watcher, "_read", read.append)
    site.write_status(armed(new("esx03.example.com"), 10))
    watcher.look(NOW)
    assert read == ["esx03.example.com"]


def test_a_change_within_the_grain_of_the_clock_is_not_missed(site, monkeypatch):
    monkeypatch.setattr(_watch, "_GRAIN", 1e9)
    watcher = Watcher(site.layout)
    site.write_status(new())
    watcher.look(NOW)
    folder = os.stat(site.layout.status_dir)
    site.write_status(armed(new(), 10))
    # As if the second write had the time of the first.
    os.utime(site.layout.status_dir, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    assert len(watcher.look(NOW)) == 1


def test_a_host_that_just_called_is_looked_at_without_listing_all(site, monkeypatch):
    monkeypatch.setattr(_watch, "_GRAIN", 1e9)
    watcher = Watcher(site.layout)
    for number in range(3):
        site.write_status(new(f"esx0{number}.example.com"))
    watcher.look(NOW)
    for number in range(3):
        site.write_status(armed(new(f"esx0{number}.example.com"), 10))
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: pytest.fail("the folder was listed"))
        assert [change.host for change in watcher.look(NOW, ["esx01.example.com"])] == ["esx01.example.com"]
    assert [change.host for change in watcher.look(NOW)] == ["esx00.example.com", "esx02.example.com"]


def test_an_edit_in_place_is_seen_by_the_next_full_look(site, watcher, monkeypatch):
    site.write_status(new())
    watcher.look(NOW)
    path = site.layout.status(NAME)
    path.write_text(path.read_text().replace('"message": ""', '"message": "by hand"'))
    assert watcher.look(NOW) == []
    watcher._full_scan_at = 0.0
    assert [change.view.message for change in watcher.look(NOW)] == ["by hand"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "\0" * 20])
def test_a_file_that_cannot_be_read_is_a_problem_and_no_removal(site, watcher, text):
    site.write_status(new())
    watcher.look(NOW)
    site.layout.status(NAME).unlink()
    site.layout.status(NAME).write_text(text)
    assert watcher.look(NOW) == []
    assert list(watcher.problems) == [NAME]
    assert NAME in watcher.views
    site.write_status(armed(new(), 10))
    assert [change.stage for change in watcher.look(NOW)] == ["armed"]
    assert dict(watcher.problems) == {}


def test_names_that_are_none_and_temporary_files_are_left_alone(site, watcher):
    (site.layout.status_dir / ".esx01.example.com.json.1-1.tmp").write_text("{")
    (site.layout.status_dir / "README").write_text("hello")
    (site.layout.status_dir / "a b.json").write_text("{}")
    site.write_status(new("esx02.example.com"))
    site.layout.status("esx02.example.com").rename(site.layout.status("esx03.example.com"))
    assert watcher.look(NOW) == []
    assert sorted(watcher.problems) == ["a b", "esx03.example.com"]


def test_after_a_restart_only_the_difference_is_told(site, watcher):
    site.write_status(new())
    site.write_status(new("esx02.example.com"))
    watcher.look(NOW)
    site.write_status(armed(new(), 10))
    site.layout.status("esx02.example.com").unlink()
    again = Watcher(site.layout)
    again.restore(watcher.views)
    assert sorted((change.type, change.host) for change in again.look(NOW)) == [
        ("removed", "esx02.example.com"),
        ("stage", NAME),
    ]


# -- usual times


def test_the_usual_time_is_the_median_of_past_installs():
    usual = Usual()
    assert usual.seconds("installing") is None
    for number, seconds in enumerate((100, 300, 5000)):
        status = armed(new(f"esx0{number}.example.com"), 10)
        status = status.notified("installing", at(20)).notified("installed", at(20 + seconds))
        for _twice in range(2):
            usual.learn(HostView.of(status))
    assert (usual.seconds("armed"), usual.seconds("installing"), usual.seconds("installed")) == (10, 300, None)
    assert usual.seconds("ready") is None


def test_a_stage_that_ended_in_a_failure_says_nothing_of_how_long_it_takes():
    status = armed(new(), 10).notified("installing", at(20)).notified("failed", at(90))
    assert stage_seconds(HostView.of(status)) == {"armed": 10}


def test_progress():
    usual = Usual()
    waiting = HostView.of(armed(new(), 10))
    assert usual.progress(HostView.of(new()), NOW) is None
    assert usual.progress(waiting, at(40)).share is None
    usual.learn(HostView.of(armed(new(), 10).notified("installing", at(110))))
    half = usual.progress(waiting, at(60))
    assert (half.elapsed, half.usual, half.share, half.late) == (50, 100, 0.5, False)
    late = usual.progress(waiting, at(300))
    assert (late.share, late.late) == (1.0, True)
    assert usual.progress(waiting, at(0)).elapsed == 0


# -- queries


@pytest.fixture
def many(site, watcher):
    rng = random.Random(1)
    for number, stage in enumerate(STAGES * 4):
        site.write_status(status_in(stage, f"esx{number:02d}.example.com", mac_of(number), NOW, rng))
    watcher.look(NOW)
    return watcher


def found(watcher, site="ber1", **parameters):
    page = select(watcher, parse_query(parameters), site)
    return [view.name[:5] for view in page.views], page.total


def test_select(many):
    assert found(many)[1] == 24
    assert found(many, stage="failed") == (["esx05", "esx11", "esx17", "esx23"], 4)
    assert found(many, stage="active")[1] == 12
    assert found(many, mode="install")[1] == 4
    assert found(many, q="ESX07 example") == (["esx07"], 1)
    assert found(many, q=mac_of(4))[0] == ["esx04"]
    assert select(many, Query(site="ham2"), "ber1").total == 0
    assert select(many, Query(site="ber1"), "ber1").total == 24
    assert found(many, per_page="10", page="3") == (["esx20", "esx21", "esx22", "esx23"], 24)
    assert found(many, per_page="10", page="99")[0] == ["esx20", "esx21", "esx22", "esx23"]
    assert select(many, parse_query({"order": "stage"}), "").views[0].stage == "failed"
    assert select(many, parse_query({"stage": "failed"}), "").counts["ready"] == 4


@pytest.mark.parametrize(
    "parameters",
    [{"stage": "x"}, {"mode": "<b>"}, {"order": "x"}, {"page": "0"}, {"page": "-1"}, {"page": "1e9"}, {"page": "٣"}]
    + [{"per_page": "1001"}, {"per_page": "9" * 5000}],
)
def test_parameters_that_cannot_be(parameters):
    with pytest.raises(ValueError, match="is not"):
        parse_query(parameters)


def test_parameters_come_back():
    given = {
        "q": "a b",
        "stage": "ready",
        "mode": "local",
        "site": "ber1",
        "order": "age",
        "page": "3",
        "per_page": "7",
    }
    assert parse_query(given).parameters() == given
    assert parse_query({}, "stage").parameters() == {}
