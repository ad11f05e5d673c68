# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A status file: what is written, and that nothing else is read."""

from __future__ import annotations

import copy
import datetime
import json
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    SchemaError,
    parse_timestamp,
    timestamp,
)
from ansible_collections.pxemanager.esxi.tests.support.statuses import (
    ADDRESS,
    BROKEN,
    MAC,
    NOW,
    armed,
    defined,
    later,
    new_install,
    ready,
)

# -- times


def test_a_time_is_written_in_utc_without_microseconds() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert timestamp(datetime.datetime(2026, 11, 22, 22, 0, 0, 999999, tzinfo=zone)) == "2026-11-22T20:00:00Z"
    assert parse_timestamp("2026-11-22T20:00:00Z") == NOW


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        timestamp(datetime.datetime(2026, 11, 22))


@pytest.mark.parametrize(
    "text", ["", "2026-11-22 20:00:00", "2026-11-22T20:00:00.5Z", "2026-11-22T20:00:00+00:00", "2026-13-01T00:00:00Z"]
)
def test_only_our_own_way_of_writing_a_time_is_read(text: str) -> None:
    with pytest.raises(ValueError):
        parse_timestamp(text)


# -- documents


@pytest.mark.parametrize(
    "status",
    [
        defined(),
        armed(),
        armed().fetched(MAC, ADDRESS, later(1)),
        ready(),
        armed().notified("ready", later(1), actions=[BROKEN], certificate="PEM"),
        armed().notified("failed", later(1)),
        armed().expired(later(4000)),
        ready().armed(new_install(later(60)), later(60)),
    ],
    ids=lambda status: status.stage,
)
def test_a_status_survives_its_file(status: Status) -> None:
    document = json.loads(json.dumps(status.to_json()))
    assert Status.from_json(document) == status
    assert document["schema"] == 1


def test_keys_of_a_later_version_are_left_out() -> None:
    document = {**ready().to_json(), "colour": "green"}
    assert "colour" not in Status.from_json(document).to_json()


def _broken(change: t.Callable[[dict[str, t.Any]], object]) -> dict[str, t.Any]:
    document = copy.deepcopy(
        ready().armed(new_install(later(60)), later(60)).fetched(MAC, ADDRESS, later(61)).to_json()
    )
    change(document)
    return document


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        _broken(lambda d: d.update(schema=2)),
        _broken(lambda d: d.update(schema=True)),
        _broken(lambda d: d.update(schema="1")),
        _broken(lambda d: d.update(host=None)),
        _broken(lambda d: d.update(mode="Install")),
        _broken(lambda d: d.update(stage="done")),
        _broken(lambda d: d.update(stages=[])),
        _broken(lambda d: d["stages"].update(done="2026-11-22T20:00:00Z")),
        _broken(lambda d: d["stages"].update(armed="yesterday")),
        _broken(lambda d: d.update(updated="now")),
        _broken(lambda d: d.update(expires=5)),
        _broken(lambda d: d.update(kickstart={"mac": MAC})),
        _broken(lambda d: d.update(actions={})),
        _broken(lambda d: d.update(actions=[{"name": "a", "rc": "0", "seconds": 1}])),
        _broken(lambda d: d.update(actions=[{"name": "a", "rc": True, "seconds": 1}])),
        _broken(lambda d: d.update(actions=[{"name": "a", "rc": 0, "seconds": "1"}])),
        _broken(lambda d: d.update(actions=[{"name": "a", "rc": 0, "seconds": 1, "ignored": "no"}])),
        _broken(lambda d: d.update(failure={"kind": "bad luck", "reason": ""})),
        _broken(lambda d: d.pop("message")),
        _broken(lambda d: d["previous"].update(stage="x")),
    ],
)
def test_a_document_that_is_not_ours_is_refused(document: object) -> None:
    with pytest.raises(SchemaError):
        Status.from_json(document)
