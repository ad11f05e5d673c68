# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arming: a machine that may have ESXi on it is left alone unless somebody asked, by name and once."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._arming import decide, describe
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import ActionResult, Status

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
MAC = "00:50:56:aa:bb:01"


def later(seconds):
    return NOW + datetime.timedelta(seconds=seconds)


def at(stage, request=None):
    status = Status.new("esx01.example.com", "esxi-8.0.3", NOW)
    if stage == "defined":
        return status
    status = status.armed(Install.new(status.host, [MAC], ["10.0.0.1"], request, NOW, 3600), NOW)
    return status if stage == "armed" else status.notified(stage, NOW, message="broken" if stage == "failed" else "")


@pytest.mark.parametrize("reinstall", [False, True, "label"])
def test_a_host_without_esxi_is_armed(reinstall):
    decision = decide(at("defined"), reinstall, NOW, 60)
    assert (decision.action, decision.reinstall) == ("arm", False)


@pytest.mark.parametrize("reinstall", [False, True, "label"])
def test_an_armed_host_stays_armed(reinstall):
    decision = decide(at("armed"), reinstall, later(10**6), 60)
    assert (decision.action, decision.reinstall) == ("keep", False)
    assert "armed since 2026-11-22T20:00:00Z, until 2026-11-22T21:00:00Z" in decision.msg


@pytest.mark.parametrize("stage", ["installing", "installed", "ready", "failed"])
def test_whatever_has_begun_is_left_alone(stage):
    decision = decide(at(stage), False, later(10**9), 60)
    assert (decision.action, decision.reinstall) == ("leave", False)
    assert f"{stage} since 2026-11-22T20:00:00Z" in decision.msg


@pytest.mark.parametrize("stage", ["ready", "failed"])
@pytest.mark.parametrize("reinstall", [True, "label"])
def test_what_is_over_is_installed_again_when_asked_for(stage, reinstall):
    decision = decide(at(stage), reinstall, NOW, 60)
    assert (decision.action, decision.reinstall) == ("arm", True)
    assert "was " + describe(at(stage)) in decision.msg


@pytest.mark.parametrize("stage", ["installing", "installed", "ready", "failed"])
def test_one_label_is_one_reinstall(stage):
    decision = decide(at(stage, "label"), "label", later(10**9), 60)
    assert (decision.action, decision.reinstall) == ("leave", False)
    assert "'label' has been carried out" in decision.msg
    assert decide(at(stage, "label"), "another", later(10**9), 60).action == "arm"


def test_true_is_no_label():
    assert decide(at("ready", "True"), True, NOW, 60).action == "arm"


@pytest.mark.parametrize("stage", ["installing", "installed"])
@pytest.mark.parametrize("reinstall", [True, "label"])
def test_an_install_under_way_is_left_alone_until_it_is_stuck(stage, reinstall):
    for seconds, action in ((0, "leave"), (60, "leave"), (61, "arm"), (-5, "leave")):
        assert decide(at(stage), reinstall, later(seconds), 60).action == action
    decision = decide(at(stage), reinstall, later(20), 60)
    assert "last heard of 20 s ago" in decision.msg
    assert "60 s" in decision.msg


def test_a_failure_says_why():
    status = at("installed").notified("ready", NOW, actions=[ActionResult("ntp", 1, 2.0)])
    assert status.stage == "failed"
    assert describe(status) == "failed since 2026-11-22T20:00:00Z (ntp ended with 1)"
    assert describe(dataclasses.replace(status, stages={})) == "failed since 2026-11-22T20:00:00Z (ntp ended with 1)"
