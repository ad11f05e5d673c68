# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.pxemanager.esxi.plugins.module_utils._throttle import Throttle


def test_an_address_is_not_heard_after_so_many_refusals_and_heard_again_later():
    throttle = Throttle(3, 10.0)
    assert [throttle.refused("a", 100.0) for _turn in range(3)] == [False, False, True]
    assert throttle.retry_after("a", 100.0) == 10.0
    assert throttle.retry_after("a", 109.9) > 0
    assert throttle.retry_after("a", 110.0) == 0
    assert throttle.refused("a", 110.0), "one was given back, not all"
    assert throttle.retry_after("a", 1000.0) == 0
    assert [throttle.refused("a", 1000.0) for _turn in range(3)] == [False, False, True]


def test_other_addresses_do_not_suffer():
    throttle = Throttle(1, 10.0)
    assert throttle.refused("a", 0.0)
    assert throttle.retry_after("a", 0.0) > 0
    assert throttle.retry_after("b", 0.0) == 0


def test_memory_is_bounded_and_the_quietest_is_forgotten():
    throttle = Throttle(1, 1000.0, addresses=100)
    for number in range(10_000):
        throttle.refused(f"10.0.{number >> 8}.{number & 255}", 0.0)
        throttle.refused("busy", 0.0)
    assert len(throttle) == 100
    assert throttle.retry_after("busy", 0.0) > 0
    assert throttle.retry_after("10.0.0.1", 0.0) == 0
