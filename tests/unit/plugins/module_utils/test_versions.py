# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a definition a version of ESXi does not take is refused by host, option and version."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._versions import upgrade_problems, version_problems
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

NTP = {"post_actions": [{"ntp": {"servers": ["192.168.77.1"]}}]}
DPU = {"kickstart": {"extra_options": ["--dpuPciSlots=2"]}}
SIZE = {"boot": {"media_size": "small"}}


def host(**changes):
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.errors, parsed.errors
    return next(iter(parsed.hosts.values()))


@pytest.mark.parametrize(
    ("changes", "version", "build", "wrong"),
    [
        (SIZE, "6.7.0", "", "boot.media_size needs ESXi 7.0 U1c, and the image esxi-8.0.3 is 6.7.0; take it out"),
        (SIZE, "7.0.0", "7.0.0-1.0.15843807", "boot.media_size needs"),
        (SIZE, "7.0.1", "7.0.1-0.0.16850804", "boot.media_size needs"),
        (SIZE, "7.0.1", "7.0.1-0.25.17325551", None),
        (SIZE, "7.0.1", "", None),
        (SIZE, "8.0.3", "", None),
        (DPU, "7.0.3", "", "kickstart.extra_options (--dpupcislots) needs ESXi 8.0"),
        (DPU, "8.0.0", "", None),
        (NTP, "6.7.0", "", "post_actions (ntp) needs ESXi 7.0"),
        (NTP, "7.0.0", "", None),
        ({}, "6.7.0", "", None),
    ],
)
def test_what_a_version_does_not_take(changes, version, build, wrong):
    errors = version_problems(host(**changes), version, build).errors
    assert len(errors) == (wrong is not None)
    if wrong:
        assert errors[0].startswith(f"esx01.example.com: {wrong}")


def test_bios_is_doubted_and_not_refused():
    problems = version_problems(host(firmware="bios"), "9.0.0")
    assert problems.errors == () and "may no longer start on BIOS machines" in problems.warnings[0]
    assert version_problems(host(firmware="bios"), "8.0.3").warnings == ()
    assert version_problems(host(firmware="uefi"), "9.0.0").warnings == ()


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ("8.0.2", "8.0.3", None),
        ("8.0.3", "8.0.3", None),
        ("6.7.0", "8.0.3", None),
        ("8.0.3", "8.0.2", "an upgrade does not go back"),
        ("6.7.0", "9.0.0", "no direct way from 6.x"),
    ],
)
def test_from_where_to_where(before, after, wrong):
    found = upgrade_problems(host(upgrade=True), before, after)
    assert len(found) == (wrong is not None)
    assert wrong is None or (wrong in found[0] and before in found[0] and after in found[0])
    assert upgrade_problems(host(reinstall=True), before, after) == ()
