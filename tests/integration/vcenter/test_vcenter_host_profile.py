# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_host_profile against a vcsim whose gateway has host profiles (tests/lab/pxelab/vcenter_profiles.py)."""

from __future__ import annotations

import typing as t

import pytest

pytest.importorskip("pyVmomi")

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from ansible_collections.pxemanager.esxi.tests.support.profiled_center import (
    WRITES,
    Center,
    host_refs,
    profiled_center,
)

MODULE = "vcenter_host_profile"
# Two clusters with two hosts each, and a host of its own.
INVENTORY = ("-dc", "1", "-cluster", "2", "-host", "2", "-standalone-host", "1", "-ds", "1", "-api-version", "8.0.3.0")
ONE, TWO, THREE, ALONE = "DC0_C0_H0", "DC0_C0_H1", "DC0_C1_H0", "DC0_H0"
VMOTION = 'network.hostPortGroup["key-vim-profile-host-HostPortgroupProfile-vMotion"].ipConfig'
ADDRESS = f"{VMOTION}.IpAddressPolicy.address"
PASSWORD = "security.user.PasswordPolicy.password"
SECRET = "Monitoring-secret-9"
ASKS = [
    {
        "path": VMOTION,
        "policy": "IpAddressPolicy",
        "parameter": "address",
        "summary": "IPv4 address of vMotion",
        "valid": r"[0-9.]+",
    },
    {
        "path": VMOTION,
        "policy": "IpAddressPolicy",
        "parameter": "subnetmask",
        "summary": "Subnet mask of vMotion",
        "valid": r"[0-9.]+",
    },
    {
        "path": "security.user",
        "policy": "PasswordPolicy",
        "parameter": "password",
        "summary": "Password of the monitoring user",
        "secret": True,
    },
]
PROFILES = [
    {"name": "Plain", "settings": {"NTP servers": "192.0.2.4", "Syslog host": "192.0.2.6"}},
    {"name": "Asking", "settings": {"NTP servers": "192.0.2.4"}, "asks": ASKS},
    {"name": "Soft", "settings": {"Welcome message": "hello"}, "maintenance": False},
    {"name": "Booting", "settings": {"Kernel option": "1"}, "reboot": True},
    {
        "name": "Stubborn",
        "settings": {"NTP servers": "192.0.2.4", "Power policy": "static"},
        "stubborn": ["Power policy"],
    },
]
ANSWERS = {"IpAddressPolicy.address": "198.51.100.21", "subnetmask": "255.255.255.0"}


@pytest.fixture
def start_center(start: t.Callable[..., t.Any], server_pair: Pair, authority: Authority) -> t.Callable[..., Center]:
    def run(*more: str, configured: t.Sequence[str] = (), inventory: t.Sequence[str] = INVENTORY) -> Center:
        machines = () if "-vm" in more else ("-vm", "0")
        arguments = [*inventory, *machines, *more]
        return t.cast(Center, start(profiled_center(server_pair, authority, PROFILES, arguments, configured)))

    return run


@pytest.fixture
def center(start_center: t.Callable[..., Center]) -> Center:
    return start_center()


@pytest.fixture
def apply(run_module: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    def run(center: Center, *hosts: dict[str, t.Any], **more: t.Any) -> t.Any:
        return run_module(MODULE, **center.options(), hosts=list(hosts), **more)

    return run


def test_applies_once_and_leaves_maintenance_mode(apply, center) -> None:
    first = apply(center, {"name": ONE, "profile": "Plain"}, {"name": ALONE.lower(), "profile": "Plain"})

    assert first["changed"] and not first.get("failed"), first["msg"]
    assert first["hosts"][ONE] == {
        "action": "applied",
        "answers_written": [],
        "changed": True,
        "compliant": True,
        "configuration_profile": False,
        "entered_maintenance_mode": True,
        "failed": False,
        "msg": f"{ONE} complies with host profile Plain: it was attached; 2 settings were put right, in maintenance "
        "mode.",
        "non_compliant": [
            "NTP servers does not match (host nothing, profile 192.0.2.4)",
            "Syslog host does not match (host nothing, profile 192.0.2.6)",
        ],
        "non_compliant_after": [],
        "path": f"/DC0/host/DC0_C0/{ONE}",
        "profile": "Plain",
        "reboot_required": False,
    }
    assert first["diff"][0] == {
        "before_header": ONE,
        "after_header": ONE,
        "before": "profile: none\n"
        "not compliant: NTP servers does not match (host nothing, profile 192.0.2.4)\n"
        "not compliant: Syslog host does not match (host nothing, profile 192.0.2.6)\n",
        "after": "profile: Plain\ncompliant\n",
    }
    assert center.in_maintenance_mode() == set()
    assert sorted(center.writes()) == sorted(2 * list(WRITES - {"DissociateProfile", "UpdateAnswerFile_Task"}))
    center.profiles.seen.clear()

    second = apply(center, {"name": ONE, "profile": "Plain"}, {"name": ALONE, "profile": "Plain"})

    assert not second["changed"] and not second.get("failed"), second["msg"]
    assert second["hosts"][ONE]["action"] == "compliant"
    assert second["hosts"][ONE]["msg"] == f"{ONE} complies with host profile Plain."
    assert "diff" not in second and center.writes() == []
    assert (center.calls("Login"), center.calls("Logout")) == (1, 1)
    # a host that complies and asks for nothing new is not worked out again
    assert center.calls("ExecuteHostProfile") == 0


def test_check_mode_foresees_everything_and_writes_nothing(apply, center) -> None:
    host = {"name": ONE, "profile": "Asking", "answers": ANSWERS, "secret_answers": {"password": SECRET}}

    foreseen = apply(center, host, {"name": TWO, "profile": "Asking"}, check=True, on_host_failure="report")

    one = foreseen["hosts"][ONE]
    assert (one["changed"], one["failed"], one["action"]) == (True, False, "applied")
    assert one["msg"].startswith(f"{ONE} would comply with host profile Asking: it would be attached; answers would be")
    assert sorted(one["answers_written"]) == sorted([ADDRESS, f"{VMOTION}.IpAddressPolicy.subnetmask", PASSWORD])
    two = foreseen["hosts"][TWO]
    assert two["failed"] and not two["changed"] and len(two["missing_answers"]) == 3
    assert center.writes() == []
    assert [entry["before_header"] for entry in foreseen["diff"]] == [ONE]
    assert SECRET not in foreseen["output"]

    done = apply(center, host)
    assert done["changed"] and not done.get("failed"), done["msg"]
    assert done["hosts"][ONE]["answers_written"] == one["answers_written"]


def test_missing_answers_are_listed_by_name_and_what_they_are(apply, center) -> None:
    result = apply(center, {"name": ONE, "profile": "Asking", "answers": {"address": "198.51.100.21"}})

    one = result["hosts"][ONE]
    assert one["missing_answers"] == [
        {
            "name": f"{VMOTION}.IpAddressPolicy.subnetmask",
            "description": "Subnet mask of vMotion",
            "secret": False,
        },
        {"name": PASSWORD, "description": "Password of the monitoring user", "secret": True},
    ]
    assert "subnetmask (Subnet mask of vMotion); " in one["msg"] and f"{PASSWORD} (Password" in one["msg"]
    assert one["msg"].endswith("[secret]. Give them in answers, secrets in secret_answers.")
    # only the attachment was made: nothing half is written
    assert center.writes() == ["AssociateProfile"] and one["action"] == "attached"


def test_answers_are_written_when_they_change_and_secrets_when_asked(apply, center) -> None:
    host = {"name": ONE, "profile": "Asking", "answers": ANSWERS, "secret_answers": {"password": SECRET}}
    first = apply(center, host)
    assert not first.get("failed"), first["msg"]
    kept = center.profiles.host(center.hosts()[ONE])
    assert kept.settings[ADDRESS] == "198.51.100.21" and kept.settings[PASSWORD] == SECRET

    same = apply(center, host)
    assert not same["changed"], same["msg"]

    moved = apply(center, {**host, "answers": {"address": "198.51.100.99"}})
    assert moved["hosts"][ONE]["answers_written"] == [ADDRESS]
    assert moved["hosts"][ONE]["action"] == "applied"
    assert kept.settings[ADDRESS] == "198.51.100.99"
    (diff,) = moved["diff"]
    assert f"answer {ADDRESS}: 198.51.100.21\n" in diff["before"]
    assert f"answer {ADDRESS}: 198.51.100.99\n" in diff["after"]
    assert f"answer {PASSWORD}: a secret\n" in diff["after"]
    # the stars that vCenter shows for it went back with the other answers, and did it no harm
    assert kept.settings[PASSWORD] == SECRET

    other = {**host, "answers": {}, "secret_answers": {"password": "Another-secret-1"}}
    left = apply(center, other)
    assert not left["changed"] and kept.settings[PASSWORD] == SECRET
    written = apply(center, {**other, "update_secrets": True})
    assert written["hosts"][ONE]["answers_written"] == [PASSWORD] and kept.settings[PASSWORD] == "Another-secret-1"
    assert f"answer {PASSWORD}: a new secret\n" in written["diff"][0]["after"]
    for result in (first, same, moved, left, written):
        assert SECRET not in result["output"] and "Another-secret-1" not in result["output"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"answers": {"adress": "x"}}, f"The profile asks for no answer adress; it asks for {ADDRESS}, "),
        ({"answers": {"password": "x"}}, f"{PASSWORD} is a secret: give it in secret_answers, where nobody sees it."),
        (
            {"answers": {"address": "x", "IpAddressPolicy.address": "y"}},
            f"address and IpAddressPolicy.address are the same answer ({ADDRESS}): give it once.",
        ),
        (
            {"answers": {**ANSWERS, "address": "not one"}, "secret_answers": {"password": SECRET}},
            None,
        ),
    ],
)
def test_answers_that_are_wrong(apply, center, given, sentence) -> None:
    if sentence is None:
        given["answers"].pop("IpAddressPolicy.address")
        sentence = f"vCenter does not take the answers: {ADDRESS}: The value is not valid."

    result = apply(center, {"name": ONE, "profile": "Asking", **given})

    assert result["failed"] and result["hosts"][ONE]["msg"].startswith(sentence), result["msg"]
    assert "ApplyHostConfig_Task" not in center.writes() and center.in_maintenance_mode() == set()


def test_one_bad_host_stops_no_other(apply, center) -> None:
    result = apply(
        center,
        {"name": ONE, "profile": "Plain"},
        {"name": "gone.example.com", "profile": "Plain"},
        {"name": TWO, "profile": "Plan"},
        {"name": "a b", "profile": ""},
        {"name": THREE, "profile": "Soft"},
        on_host_failure="report",
    )

    assert sorted(result["failed_hosts"]) == sorted(["gone.example.com", TWO, "a b"])
    assert result["hosts"]["gone.example.com"]["msg"] == (
        "gone.example.com is not in this vCenter: add it first (module vcenter_add_host)."
    )
    assert result["hosts"][TWO]["msg"] == (
        "There is no host profile 'Plan'; there is: Asking, Booting, Plain, Soft, Stubborn."
    )
    assert len(result["hosts"]["a b"]["reasons"]) == 2
    assert result["hosts"][ONE]["compliant"] and result["hosts"][THREE]["compliant"]


def test_maintenance_mode_only_where_it_is_needed(apply, center) -> None:
    result = apply(center, {"name": ONE, "profile": "Soft"})

    assert result["hosts"][ONE]["action"] == "applied" and not result["hosts"][ONE]["entered_maintenance_mode"]
    assert center.writes() == ["AssociateProfile", "ApplyHostConfig_Task"]


def test_a_host_that_is_in_maintenance_mode_stays_there(apply, center) -> None:
    def enter(content: t.Any) -> None:
        next(one for one in host_refs(content) if one.name == ONE).EnterMaintenanceMode_Task(0)

    center.look(enter)

    result = apply(center, {"name": ONE, "profile": "Plain", "enter_maintenance_mode": False})

    assert result["hosts"][ONE]["compliant"] and not result["hosts"][ONE]["entered_maintenance_mode"]
    assert center.in_maintenance_mode() == {ONE}


def test_maintenance_mode_is_refused_by_the_definition(apply, center) -> None:
    result = apply(center, {"name": ONE, "profile": "Plain", "enter_maintenance_mode": False})

    assert result["hosts"][ONE]["msg"].startswith(
        f"Plain can be applied to {ONE} in maintenance mode only, and this module must not put it there"
    )
    assert center.writes() == ["AssociateProfile"]


def test_a_host_with_running_machines_is_refused_and_named(apply, start_center) -> None:
    center = start_center("-vm", "3")
    named = center.look(
        lambda content: {
            host.name: sorted(vm.name for vm in host.vm if vm.runtime.powerState == "poweredOn")
            for host in host_refs(content)
        }
    )
    busy = next(name for name, machines in named.items() if machines)

    foreseen = apply(center, {"name": busy, "profile": "Plain"}, check=True)
    assert foreseen["failed"] and named[busy][0] in foreseen["msg"] and center.writes() == []

    result = apply(center, {"name": busy, "profile": "Plain"})

    message = result["hosts"][busy]["msg"]
    assert message.startswith(
        f"Plain can be applied to {busy} in maintenance mode only, and virtual machines run on it:"
    )
    assert all(machine in message for machine in named[busy])
    assert center.writes() == ["AssociateProfile"] and center.in_maintenance_mode() == set()


def test_another_profile_is_exchanged_only_when_asked(apply, center) -> None:
    apply(center, {"name": ONE, "profile": "Soft"})
    center.profiles.seen.clear()

    refused = apply(center, {"name": ONE, "profile": "Plain"})
    assert refused["hosts"][ONE]["msg"] == (
        f"{ONE} should have host profile Plain, but Soft is attached to it: set replace to exchange it."
    )
    assert center.writes() == []

    foreseen = apply(center, {"name": ONE, "profile": "Plain", "replace": True}, check=True)
    assert "it would be attached in place of Soft" in foreseen["hosts"][ONE]["msg"] and center.writes() == []
    replaced = apply(center, {"name": ONE, "profile": "Plain", "replace": True})
    assert "it was attached in place of Soft" in replaced["hosts"][ONE]["msg"]
    assert replaced["diff"][0]["before"].startswith("profile: Soft\n")
    assert not apply(center, {"name": ONE, "profile": "Plain", "replace": True})["changed"]


def test_a_profile_of_the_cluster_counts_and_is_never_taken_off(apply, center) -> None:
    def cluster(content: t.Any) -> str:
        return str(next(one.parent._moId for one in host_refs(content) if one.name == ONE))

    center.profiles.attach_to_cluster(center.look(cluster), "Soft")

    result = apply(center, {"name": ONE, "profile": "Soft"}, {"name": TWO, "profile": "Plain", "replace": True})

    assert result["hosts"][ONE]["compliant"] and "AssociateProfile" not in center.writes()
    assert result["hosts"][TWO]["msg"] == (
        f"{TWO} should have host profile Plain, but Soft is attached to its cluster /DC0/host/DC0_C0: detach that one "
        "from the cluster in vCenter, or ask for it."
    )


def test_a_profile_that_cannot_be_attached_gives_the_old_one_back(apply, center) -> None:
    apply(center, {"name": ONE, "profile": "Soft"})
    denied = vim.fault.NoPermission(privilegeId="Profile.Edit", object=vim.Folder("group-d1"))
    center.profiles.inject("AssociateProfile", denied, at_once=True)

    result = apply(center, {"name": ONE, "profile": "Plain", "replace": True})

    assert result["hosts"][ONE]["msg"] == (
        "vCenter does not let this user attach the profile: give it the privilege Profile.Edit."
    )
    assert not result["changed"]
    associated = center.look(
        lambda content: [
            one.name
            for one in content.hostProfileManager.FindAssociatedProfile(
                next(host for host in host_refs(content) if host.name == ONE)
            )
        ]
    )
    assert associated == ["Soft"]


def test_a_reboot_is_reported_and_left_to_people(apply, center) -> None:
    first = apply(center, {"name": ONE, "profile": "Booting"})

    one = first["hosts"][ONE]
    assert one["failed"] and one["changed"] and one["reboot_required"] and one["action"] == "applied"
    assert one["msg"] == (
        f"Booting was applied to {ONE}, which needs a reboot before it complies (still not: Kernel option does not "
        "match (host nothing, profile 1)). Reboot it, and run again."
    )
    assert center.in_maintenance_mode() == set()
    center.profiles.rebooted(center.hosts()[ONE])
    again = apply(center, {"name": ONE, "profile": "Booting"})
    assert not again.get("failed") and not again["changed"], again["msg"]


def test_what_does_not_comply_after_the_profile_was_applied(apply, center) -> None:
    result = apply(center, {"name": ONE, "profile": "Stubborn"})

    one = result["hosts"][ONE]
    assert one["failed"] and len(one["non_compliant"]) == 2
    assert one["non_compliant_after"] == ["Power policy does not match (host nothing, profile static)"]
    assert one["msg"].startswith(f"Stubborn was applied to {ONE}, but it does not comply: Power policy does not match")
    assert "not compliant: Power policy" in result["diff"][0]["after"]
    assert "NTP servers" not in result["diff"][0]["after"]


FAULTS = [
    (
        "ApplyHostConfig_Task",
        vim.fault.HostConfigFailed(
            failure=[
                vim.fault.DuplicateName(name="vMotion", object=vim.Folder("group-n1")),
                vim.fault.PlatformConfigFault(text="no such NIC"),
            ]
        ),
        "did not take the configuration of Plain: the host has an object called vMotion already: rename or remove it; "
        "PlatformConfigFault: no such NIC.",
    ),
    (
        "ApplyHostConfig_Task",
        vim.fault.InvalidState(msg="Not now."),
        "is not in a state in which Plain can be applied (InvalidState: Not now): put it into maintenance mode",
    ),
    (
        "ApplyHostConfig_Task",
        vmodl.fault.HostNotConnected(),
        "vCenter lost DC0_C0_H0 while it should apply the profile",
    ),
    (
        "CheckCompliance_Task",
        vim.fault.NoPermission(privilegeId="System.View", object=vim.Folder("group-d1")),
        "vCenter does not let this user check the host's compliance: give it the privilege System.View.",
    ),
    (
        "EnterMaintenanceMode_Task",
        vim.fault.Timedout(),
        "was not in maintenance mode after 600 seconds and vCenter gave up",
    ),
    (
        "EnterMaintenanceMode_Task",
        vim.fault.InvalidState(msg="Evacuating."),
        "does not go into maintenance mode (InvalidState: Evacuating): see in vCenter what else is done with it",
    ),
    (
        "EnterMaintenanceMode_Task",
        vmodl.fault.RequestCanceled(),
        "Somebody cancelled the task in vCenter that should put",
    ),
    ("ExitMaintenanceMode_Task", vim.fault.InvalidState(), "is still in maintenance mode: take it out in vCenter."),
    (
        "CheckCompliance_Task",
        vim.fault.TaskInProgress(task=vim.Task("task-1")),
        "Another task works on DC0_C0_H0 in vCenter: wait for its end and run again.",
    ),
]


@pytest.mark.parametrize(("method", "fault", "sentence"), FAULTS)
def test_faults_of_tasks_are_told_and_stop_one_host_only(apply, center, method, fault, sentence) -> None:
    center.profiles.inject(method, fault, host=center.hosts()[ONE], times=1)

    result = apply(center, {"name": ONE, "profile": "Plain"}, {"name": TWO, "profile": "Plain"})

    assert result["failed_hosts"] == [ONE] and sentence in result["hosts"][ONE]["msg"], result["msg"]
    assert result["hosts"][TWO]["compliant"]
    assert center.in_maintenance_mode() == ({ONE} if method == "ExitMaintenanceMode_Task" else set())
    if method != "ExitMaintenanceMode_Task":
        # what was wrong is over: the next run finishes the host
        assert not apply(center, {"name": ONE, "profile": "Plain"}).get("failed")


def test_the_profile_cannot_be_worked_out(apply, center) -> None:
    fault = vim.fault.InvalidProfileReferenceHost(reason="missing")
    center.profiles.inject("ExecuteHostProfile", fault, at_once=True)

    result = apply(center, {"name": ONE, "profile": "Plain"})

    assert "The profile Plain has no usable reference host" in result["msg"]


def test_a_task_that_does_not_end(apply, center) -> None:
    center.profiles.inject("ApplyHostConfig_Task", None, host=center.hosts()[ONE])

    result = apply(center, {"name": ONE, "profile": "Plain"}, {"name": TWO, "profile": "Plain"}, timeout=1)

    assert result["failed_hosts"] == [ONE] and result["hosts"][TWO]["compliant"]
    slow, stays = result["hosts"][ONE]["reasons"]
    assert "within 1 seconds. See in vCenter what became of it" in slow
    # not taken out under a profile that may still be at work
    assert stays.startswith(f"{ONE} stays in maintenance mode, because Plain may still be applied to it")
    assert center.in_maintenance_mode() == {ONE}


def test_a_check_that_does_not_end(apply, center) -> None:
    center.profiles.inject("CheckCompliance_Task", None, host=center.hosts()[ONE])

    result = apply(center, {"name": ONE, "profile": "Plain"}, timeout=1)

    assert "within 1 seconds" in result["msg"] and center.in_maintenance_mode() == set()


def test_the_session_ends_in_the_middle(apply, center) -> None:
    center.profiles.inject(
        "ApplyHostConfig_Task",
        vim.fault.NotAuthenticated(privilegeId="x", object=vim.Folder("g")),
        at_once=True,
        times=9,
    )

    result = apply(center, {"name": ONE, "profile": "Plain"}, {"name": TWO, "profile": "Plain"})

    assert result["failed_hosts"] == [ONE, TWO]
    assert all("has ended the session" in one["msg"] for one in result["hosts"].values())


def test_a_disconnected_host_is_reported(apply, center) -> None:
    def add(content: t.Any) -> None:
        folder = content.rootFolder.childEntity[0].hostFolder
        cluster = next(one for one in folder.childEntity if one.name == "DC0_C1")
        cluster.AddHost_Task(spec=vim.host.ConnectSpec(hostName="esx01.example.com", force=False), asConnected=False)

    center.look(add)

    result = apply(center, {"name": "esx01.example.com", "profile": "Plain"})

    assert "vCenter shows esx01.example.com as disconnected" in result["msg"]


def test_a_cluster_with_configuration_profiles_is_left_alone(apply, start_center) -> None:
    center = start_center(configured=["DC0_C1"])

    result = apply(center, {"name": ONE, "profile": "Plain"}, {"name": THREE, "profile": "Plain"})

    assert result["failed_hosts"] == [THREE] and result["hosts"][ONE]["compliant"]
    assert result["hosts"][THREE]["configuration_profile"] and not result["hosts"][ONE]["configuration_profile"]
    assert result["hosts"][THREE]["msg"].startswith(
        f"{THREE} is in /DC0/host/DC0_C1, whose hosts vSphere Configuration Profiles configure: a host profile "
    )
    assert center.hosts()[THREE] not in [host for method, host in center.profiles.seen if method in WRITES]


def test_a_vcenter_before_version_8_is_not_asked_for_configuration_profiles(apply, start_center) -> None:
    center = start_center(configured=["DC0_C0"], inventory=INVENTORY[:-2])

    assert apply(center, {"name": ONE, "profile": "Plain"})["hosts"][ONE]["compliant"]


def test_hosts_go_in_waves(apply, center) -> None:
    """Never more hosts in maintenance mode at a time than are worked on at a time."""
    names = [ONE, TWO, THREE, ALONE]

    result = apply(center, *({"name": name, "profile": "Plain"} for name in names), parallel=2)

    assert not result.get("failed"), result["msg"]
    inside = most = 0
    for method, _host in center.profiles.seen:
        inside += {"EnterMaintenanceMode_Task": 1, "ExitMaintenanceMode_Task": -1}.get(method, 0)
        most = max(most, inside)
    assert (most, inside) == (2, 0)


def test_a_reinstalled_host_is_configured_again(apply, center) -> None:
    apply(center, {"name": ONE, "profile": "Plain"})
    center.profiles.host(center.hosts()[ONE]).settings.clear()

    again = apply(center, {"name": ONE, "profile": "Plain"})

    assert again["changed"] and again["hosts"][ONE]["action"] == "applied"


def test_vcenter_cannot_be_used(apply, center) -> None:
    center.profiles.inject("RetrievePropertiesEx", vmodl.fault.SystemError(reason="broken"), at_once=True)

    result = apply(center, {"name": ONE, "profile": "Plain"}, on_host_failure="report")

    assert result["hosts"][ONE]["msg"].startswith(f"{ONE} was not brought to comply: ")
