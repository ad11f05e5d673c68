# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import time

from ansible_collections.pxemanager.esxi.plugins.module_utils import _together


def test_work_goes_on_in_another_process_and_its_result_comes_back_whole():
    big = "x" * 1_000_000  # far more than a pipe holds
    child = _together.start("pxe1", ["esx01"], lambda: {"hosts": {"esx01": big}, "pid": os.getpid()})
    found = child.result()
    assert found["hosts"]["esx01"] == big and found["pid"] == child.pid != os.getpid()
    assert (child.label, child.names) == ("pxe1", ["esx01"])


def test_two_go_on_side_by_side():
    begun = time.monotonic()
    children = [_together.start(str(number), [], lambda: {"msg": str(time.sleep(1))}) for number in range(3)]
    assert [child.result() for child in children] == [{"msg": "None"}] * 3
    assert time.monotonic() - begun < 2


def test_one_that_died_or_raised_says_so(capfd):
    child = _together.start("pxe1", [], lambda: {"msg": str(time.sleep(60))})
    os.kill(child.pid, signal.SIGKILL)
    assert "ended" in child.result()["msg"]
    assert "ended" in _together.start("pxe1", [], lambda: {"msg": str(1 // 0)}).result()["msg"]


def test_one_that_is_not_needed_any_more_is_ended():
    child = _together.start("pxe1", [], lambda: {"msg": str(time.sleep(60))})
    begun = time.monotonic()
    child.kill()
    assert time.monotonic() - begun < 5
    child.kill()  # harmless
