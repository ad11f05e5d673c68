# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are published, armed, withdrawn, removed and that report, in any order, with any token ever handed out."""

from __future__ import annotations

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from ansible_collections.pxemanager.esxi.tests.support.pbconnect_states import Hosts


def test_no_order_of_events_breaks_the_rules() -> None:
    run_state_machine_as_test(
        Hosts,
        settings=hypothesis.settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # The same runs each time; tests/faults/fuzz.py makes new ones.
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    assert Hosts.accepted > 10, "hardly any report was accepted, so hardly anything was tried"
    assert Hosts.refused > 20
