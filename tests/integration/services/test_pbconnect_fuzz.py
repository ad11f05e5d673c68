# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A little of what ``tests/faults/fuzz.py`` sends for as long as one likes."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import pbconnect_fuzz as fuzz
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site


@pytest.fixture
def target(tmp_path: pathlib.Path) -> t.Iterator[fuzz.Target]:
    target = fuzz.Target(Site(tmp_path / "site"))
    yield target
    target.check()
    assert target.service.stop() == 0
    text = "\n".join(target.service.lines)
    assert target.key not in text
    assert target.token not in text


def test_made_up_requests_without_a_token_change_nothing(target: fuzz.Target) -> None:
    before = target.site.snapshot()
    answers = fuzz.made_up_requests(target, 60, good_token=False)
    assert sum(answers.values()) > 100
    assert target.site.snapshot() == before


def test_made_up_requests_of_a_host_leave_it_in_a_legal_state(target: fuzz.Target) -> None:
    answers = fuzz.made_up_requests(target, 60, good_token=True)
    assert answers.get(200), "none was right: the description is wrong"
    assert answers.get(400), "none was wrong"


def test_random_bytes(target: fuzz.Target) -> None:
    answers = fuzz.random_bytes(target, 400, seed=5)
    assert {"400", "403"} <= set(answers)
