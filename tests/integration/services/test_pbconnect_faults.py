# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acknowledged means on disk: a few rounds of what ``tests/faults/pbconnect.py`` does for as long as one likes."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import pbconnect_faults as faults


def check(figures: faults.Figures) -> None:
    assert figures.lost == []
    assert figures.torn == []
    assert figures.illegal == []
    assert figures.faults > figures.rounds, "nothing went wrong, so nothing was shown"
    assert figures.acknowledged and figures.looks
    print(figures)


def test_killed_at_random_moments(tmp_path: pathlib.Path) -> None:
    figures = faults.killed(tmp_path, rounds=6)
    check(figures)
    assert figures.acknowledged == 6 * 12 * 3
    assert figures.unanswered


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_a_disk_that_is_full_now_and_then(small_disk: pathlib.Path) -> None:
    figures = faults.disk_full(small_disk, rounds=4)
    check(figures)
    assert figures.acknowledged == 4 * 12 * 3
    assert figures.busy, "nobody was told that the disk is full"


def test_two_controllers_and_the_service_at_once(tmp_path: pathlib.Path) -> None:
    figures = faults.two_controllers(tmp_path, rounds=2)
    check(figures)
    assert figures.acknowledged == 2 * 8 * 3
