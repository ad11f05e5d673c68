# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting wrong logins over runs, with a clock of the test's own."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._login_attempts import (
    LOCK_SECONDS,
    MOST_WRONG_LOGINS,
    Attempts,
)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_counts_over_runs_and_waits(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "made" / "attempts.json")
    for _unused in range(2):
        attempts = Attempts(path, clock)
        assert attempts.wait("host", 2) == 0
        attempts.wrong("host")
        clock.now += 10
        attempts.wrong("host")
        clock.now += 10
    third = Attempts(path, clock)
    # two of the four have to be forgotten: the second was sent 30 seconds ago
    assert third.wait("host", 2) == LOCK_SECONDS - 30
    assert third.wait("host", 1) == LOCK_SECONDS - 40
    assert third.wait("other", 2) == 0
    clock.now += LOCK_SECONDS - 30
    assert third.wait("host", 2) == 0


def test_a_login_that_succeeds_forgets_the_wrong_ones(tmp_path: Path, clock: Clock) -> None:
    attempts = Attempts(str(tmp_path / "attempts.json"), clock)
    for _unused in range(MOST_WRONG_LOGINS):
        attempts.wrong("host")
    assert attempts.wait("host", 1) > 0
    attempts.right("host")
    assert attempts.wait("host", 2) == 0
    assert json.loads((tmp_path / "attempts.json").read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": "x"}', '{"host": [null, "x"]}', '{"host": [9e99]}'])
def test_a_damaged_file_counts_nothing(tmp_path: Path, clock: Clock, content: str) -> None:
    path = tmp_path / "attempts.json"
    path.write_text(content, encoding="utf-8")
    attempts = Attempts(str(path), clock)
    assert attempts.wait("host", 2) == 0
    attempts.wrong("host")
    assert json.loads(path.read_text(encoding="utf-8")) == {"host": [clock.now]}


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    Attempts(str(tmp_path / "made" / "attempts.json")).wrong("host")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made" / "attempts.json").stat().st_mode & 0o777 == 0o600


def test_many_at_once_lose_nothing(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "attempts.json")
    threads = [
        threading.Thread(target=lambda name=f"host{number}": Attempts(path, clock).wrong(name)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / "attempts.json").read_text(encoding="utf-8"))) == 20


def test_without_a_file_nothing_is_counted() -> None:
    attempts = Attempts(None)
    for _unused in range(9):
        attempts.wrong("host")
    assert attempts.wait("host", 2) == 0
