# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arming: a machine that may have ESXi on it is left alone unless somebody asked, by name and once."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._arming import Wanted, decide, describe
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
MAC = "00:50:56:aa:bb:01"


def later(seconds):
    return NOW + datetime.timedelta(seconds=seconds)


def at(stage, request=None, command="install"):
    status = Status.new("esx01.example.com", "esxi-8.0.3", NOW)
    if stage == "defined":
        return status
    install = Install.new(status.host, [MAC], ["10.0.0.1"], request, NOW, 3600)
    status = status.armed(install, NOW, command=command)
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


# Upgrades.

UPGRADE = Wanted("upgrade", "esxi-9.0.0")
NEWER = Wanted("install", "esxi-9.0.0")


@pytest.mark.parametrize("stage", ["defined", "ready", "failed"])
@pytest.mark.parametrize("request_", [True, "label"])
def test_an_upgrade_is_armed_when_asked_for(stage, request_):
    decision = decide(at(stage), request_, NOW, 60, wanted=UPGRADE)
    # It counts as touching a machine that has ESXi, whoever installed it.
    assert (decision.action, decision.reinstall) == ("arm", True)
    assert "upgrade" in decision.msg


def test_a_new_image_alone_changes_nothing_and_says_what_to_ask_for():
    decision = decide(at("ready"), False, NOW, 60, wanted=NEWER)
    assert decision.action == "leave"
    assert "it has esxi-8.0.3 and its image is now esxi-9.0.0: set upgrade to upgrade it" in decision.msg


@pytest.mark.parametrize("request_", [True, "label"])
def test_a_reinstall_that_changes_the_image_must_name_it(request_):
    decision = decide(at("ready"), request_, NOW, 60, wanted=NEWER)
    assert (decision.action, decision.reinstall) == ("refuse", False)
    assert "esxi_host_upgrade" in decision.msg and "esxi_host_reinstall_image: esxi-9.0.0" in decision.msg
    named = dataclasses.replace(NEWER, reinstall_image="esxi-9.0.0")
    assert decide(at("ready"), request_, NOW, 60, wanted=named).action == "arm"
    other = dataclasses.replace(NEWER, reinstall_image="esxi-8.0.3")
    assert decide(at("ready"), request_, NOW, 60, wanted=other).action == "refuse"


def test_an_install_that_never_came_up_has_nothing_to_lose():
    assert decide(at("failed"), True, NOW, 60, wanted=NEWER).action == "arm"
    assert decide(at("installing"), True, later(61), 60, wanted=NEWER).action == "arm"


def test_what_waits_for_an_upgrade_goes_on_waiting_for_it():
    for asked in (True, "label"):
        assert decide(at("armed", command="upgrade"), asked, NOW, 60, wanted=UPGRADE).action == "keep"
    decision = decide(at("armed", command="upgrade"), False, NOW, 60, wanted=NEWER)
    assert decision.action == "keep" and "for an upgrade" in decision.msg


@pytest.mark.parametrize("request_", [True, "label"])
def test_what_waits_for_an_upgrade_is_not_turned_into_an_install(request_):
    decision = decide(at("armed", command="upgrade"), request_, NOW, 60, wanted=NEWER)
    assert decision.action == "refuse" and "disarm it first" in decision.msg


def test_what_waits_for_an_install_can_be_turned_into_an_upgrade():
    decision = decide(at("armed"), True, NOW, 60, wanted=UPGRADE)
    assert (decision.action, decision.reinstall) == ("arm", False)
    ready = at("ready").armed(Install.new("esx01.example.com", [MAC], [], None, later(5), 3600), later(5))
    assert decide(ready, True, NOW, 60, wanted=UPGRADE).reinstall


def test_one_label_is_one_upgrade():
    done = at("ready", "label", "upgrade")
    decision = decide(done, "label", NOW, 60, wanted=UPGRADE)
    assert decision.action == "leave" and "the upgrade 'label' has been carried out" in decision.msg
    assert decide(done, "another", NOW, 60, wanted=UPGRADE).action == "arm"


def test_a_label_of_a_reinstall_is_none_of_an_upgrade():
    decision = decide(at("ready", "label"), "label", NOW, 60, wanted=UPGRADE)
    assert decision.action == "leave" and "write another label for the upgrade" in decision.msg


def test_a_host_that_was_to_be_upgraded_is_not_installed_when_the_arming_has_gone():
    """Nobody has installed it from here: it looks like a new host, and has ESXi on its disk."""
    armed = at("armed", command="upgrade")
    for status in (armed.expired(later(3600)), armed.disarmed(NOW)):
        assert status.stage == "defined"
        decision = decide(status, False, later(3600), 60, wanted=NEWER)
        assert decision.action == "leave" and "it has ESXi on its disk" in decision.msg
        assert decide(status, True, later(3600), 60, wanted=NEWER).action == "arm"
        assert decide(status, True, later(3600), 60, wanted=UPGRADE).action == "arm"
