# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host profiles: definitions, answers and their names, what is shown, faults. The rest: tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import (
    AnswerError,
    Entry,
    Path,
    ProfiledHost,
    Question,
    Secret,
    describe_problems,
    merge_answers,
    missing_answers,
    names_are_known,
    secret_names,
    state_text,
    why_not,
)

VMOTION = Path('network.hostPortGroup["key-vMotion"].ipConfig', "IpAddressPolicy")
VSAN = Path('network.hostPortGroup["key-vSAN"].ipConfig', "IpAddressPolicy")
USER = Path("security.user", "PasswordPolicy")
VLAN = Path("network.vswitch", "VlanPolicy")
ADDRESS = f"{VMOTION.name}.address"
STORED = [
    Entry(VMOTION, {"address": "198.51.100.21", "subnetmask": "255.255.255.0"}),
    Entry(USER, {"password": Secret("********")}),
    Entry(VLAN, {"vlan": 7, "trunk": False}),
]
QUESTIONS = [
    Question("IpAddressPolicy", "FixedIp", "address", summary="IPv4 address."),
    Question("IpAddressPolicy", "FixedIp", "subnetmask", label="Mask"),
    Question("IpAddressPolicy", "Dhcp", "hint", optional=True),
    Question("PasswordPolicy", "Fixed", "password", summary="Password", secret=True, kind="vim.PasswordField"),
    Question("VlanPolicy", "Fixed", "vlan", kind="int"),
    Question("VlanPolicy", "Fixed", "trunk", kind="bool"),
]


def host(answers: t.Any = None, secrets: t.Any = None, **changes: t.Any) -> ProfiledHost:
    options = {"name": "esx01", "profile": "Production", "answers": answers, "secret_answers": secrets, **changes}
    return ProfiledHost.parse(options)


def as_dict(entries: t.Iterable[Entry]) -> dict[str, t.Any]:
    return {entry.name(key): value for entry in entries for key, value in entry.parameters.items()}


class TestParse:
    def test_defaults(self) -> None:
        one = host()
        assert (one.replace, one.enter_maintenance_mode, one.update_secrets) == (False, True, False)

    def test_secrets_are_not_shown(self) -> None:
        assert "pa55" not in repr(host(secrets={"password": "pa55"})) and "pa55" not in repr(Secret("pa55"))

    def test_all_mistakes_at_once(self) -> None:
        with pytest.raises(DefinitionError) as caught:
            ProfiledHost.parse(
                {
                    "name": "a b",
                    "answers": {"x": ["1"], "": 1, "y": 1},
                    "secret_answers": {"y": None, "z": {"a": "pa55"}},
                }
            )
        assert caught.value.errors == (
            "'a b' is no host name.",
            "No profile is given: write the name of a host profile of this vCenter.",
            "answers: x must be a text, a number, true or false.",
            "answers: '' is no name of an answer.",
            "secret_answers: y must be a text, a number, true or false.",
            "secret_answers: z must be a text, a number, true or false.",
            "y is in answers and in secret_answers: give it once.",
        )


class TestMerge:
    def test_nothing_given_changes_nothing(self) -> None:
        entries, changed = merge_answers(host(), STORED, [], QUESTIONS)
        assert (entries, changed) == (STORED, [])

    @pytest.mark.parametrize(
        "name", [ADDRESS, "IpAddressPolicy.address", "address", "ipConfig.IpAddressPolicy.address"]
    )
    def test_any_ending_of_a_name_will_do(self, name: str) -> None:
        entries, changed = merge_answers(host({name: "198.51.100.99"}), STORED, [], [])
        assert changed == [ADDRESS]
        assert as_dict(entries)[ADDRESS] == "198.51.100.99"
        # the other answers are kept: the answer file is written as a whole
        assert as_dict(entries)[f"{VMOTION.name}.subnetmask"] == "255.255.255.0"
        assert as_dict(entries)[f"{USER.name}.password"] == Secret("********")

    def test_an_ending_begins_after_a_dot(self) -> None:
        with pytest.raises(AnswerError, match="asks for no answer ress; it asks for network"):
            merge_answers(host({"ress": "x"}), STORED, [], [])

    def test_an_ending_that_fits_two_answers_is_refused(self) -> None:
        asked = [Entry(VSAN, {})]
        with pytest.raises(AnswerError) as caught:
            merge_answers(host({"address": "x"}), STORED, asked, QUESTIONS)
        assert str(caught.value) == f"address may be one of {ADDRESS}, {VSAN.name}.address: write more of the name."

    def test_what_is_asked_for_the_first_time(self) -> None:
        entries, changed = merge_answers(
            host({f"{VSAN.name}.address": "192.0.2.1"}), STORED, [Entry(VSAN, {})], QUESTIONS
        )
        assert changed == [f"{VSAN.name}.address"] and as_dict(entries)[f"{VSAN.name}.address"] == "192.0.2.1"

    def test_without_metadata_a_full_name_is_taken_at_its_word(self) -> None:
        entries, changed = merge_answers(host({f"{VSAN.name}.address": "192.0.2.1"}), [], [Entry(VSAN, {})], [])
        assert changed == [f"{VSAN.name}.address"] and entries == [Entry(VSAN, {"address": "192.0.2.1"})]
        with pytest.raises(AnswerError):
            # with metadata it is a typing error
            merge_answers(host({f"{VSAN.name}.adress": "192.0.2.1"}), [], [Entry(VSAN, {})], QUESTIONS)

    @pytest.mark.parametrize(
        ("given", "after"), [({"vlan": "9"}, 9), ({"vlan": 9}, 9), ({"trunk": True}, True), ({"trunk": "yes"}, True)]
    )
    def test_values_get_the_type_that_vcenter_wants(self, given: dict[str, t.Any], after: t.Any) -> None:
        for questions in (QUESTIONS, []):
            entries, _changed = merge_answers(host(given), STORED, [], questions)
            value = as_dict(entries)[f"{VLAN.name}.{next(iter(given))}"]
            assert value == after and type(value) is type(after)

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            ({"vlan": "many"}, f"{VLAN.name}.vlan: must be a number, not many."),
            ({"trunk": "maybe"}, f"{VLAN.name}.trunk: must be true or false, not maybe."),
            (
                {"password": "pa55"},
                f"{USER.name}.password is a secret: give it in secret_answers, where nobody sees it.",
            ),
        ],
    )
    def test_values_that_do_not_fit(self, given: dict[str, t.Any], sentence: str) -> None:
        with pytest.raises(AnswerError) as caught:
            merge_answers(host(given), STORED, [], QUESTIONS)
        assert caught.value.errors == (sentence,)

    @pytest.mark.parametrize("name", ["vlan", "trunk"])
    def test_the_value_of_a_secret_is_in_no_sentence(self, name: str) -> None:
        with pytest.raises(AnswerError) as caught:
            merge_answers(host(secrets={name: "pa55"}, update_secrets=True), STORED, [], QUESTIONS)
        assert "pa55" not in str(caught.value)

    def test_the_same_value_in_another_type_is_no_change(self) -> None:
        given = {"vlan": "7", "trunk": "no", "address": "198.51.100.21"}
        assert merge_answers(host(given), STORED, [], QUESTIONS)[1] == []

    def test_a_stored_secret_counts_as_right_unless_it_is_to_be_written_again(self) -> None:
        full = f"{USER.name}.password"
        assert merge_answers(host(secrets={"password": "pa55"}), STORED, [], QUESTIONS)[1] == []
        entries, changed = merge_answers(host(secrets={"password": "pa55"}, update_secrets=True), STORED, [], [])
        assert changed == [full] and as_dict(entries)[full] == Secret("pa55")
        entries, changed = merge_answers(host(secrets={"password": "pa55"}), [], [Entry(USER, {})], QUESTIONS)
        assert changed == [full] and as_dict(entries)[full] == Secret("pa55")

    def test_a_policy_with_and_without_its_option_is_the_same(self) -> None:
        asked = [Entry(Path(VMOTION.profile, VMOTION.policy, "FixedIp"), {"address": "198.51.100.21"})]
        entries, changed = merge_answers(host({"address": "198.51.100.99"}), STORED, asked, QUESTIONS)
        assert changed == [ADDRESS] and len(entries) == len(STORED)

    def test_the_answer_file_tells_when_the_profile_need_not_be_asked(self) -> None:
        assert names_are_known(host({"address": "x"}, {"password": "y"}), STORED)
        assert not names_are_known(host({"address": "x", "hint": "y"}), STORED)
        assert names_are_known(host(), [])


class TestMissing:
    def test_each_by_name_with_what_it_is(self) -> None:
        asked = [Entry(VMOTION, {"address": "192.0.2.1"}), Entry(USER, {}), Entry(Path("a", "B"), {})]
        assert missing_answers(asked, QUESTIONS) == [
            {"name": "a.B", "description": "", "secret": False},
            {"name": f"{VMOTION.name}.subnetmask", "description": "Mask", "secret": False},
            {"name": f"{USER.name}.password", "description": "Password", "secret": True},
        ]

    def test_keys_without_values_and_without_metadata(self) -> None:
        asked = [Entry(Path("a", "B"), {"x": None, "y": "1"}), Entry(Path("a", "C", parameter="z"), {})]
        assert [one["name"] for one in missing_answers(asked, [])] == ["a.B.x", "a.C.z"]

    def test_only_the_option_that_is_chosen_asks(self) -> None:
        questions = [Question("P", "One", "a"), Question("P", "Two", "b")]
        assert [one["name"] for one in missing_answers([Entry(Path("x", "P", "Two"), {})], questions)] == ["x.P.b"]


class TestShown:
    def test_no_secret_is_in_a_diff(self) -> None:
        entries = [*STORED, Entry(Path("a", "B"), {"token": "pa55"})]
        one = host(secrets={"token": "pa55"})
        secrets = secret_names(entries, one, QUESTIONS)
        assert secrets == {f"{USER.name}.password", "a.B.token"}
        text = state_text("Production", entries, ["NTP"], secrets=secrets, new_secrets=["a.B.token"])
        assert "pa55" not in text and "****" not in text
        assert "answer a.B.token: a new secret\n" in text and f"answer {USER.name}.password: a secret\n" in text
        assert text.startswith("profile: Production\n") and text.endswith("not compliant: NTP\n")

    def test_what_nobody_has_looked_at_is_not_said(self) -> None:
        assert state_text(None, [], None, secrets=()) == "profile: none\n"
        assert state_text(None, [], [], secrets=()) == "profile: none\ncompliant\n"

    def test_failures_of_a_compliance_check(self) -> None:
        failure = vim.profile.ComplianceResult.ComplianceFailure
        values = [
            failure.ComplianceFailureValues(
                comparisonIdentifier="x",
                profileInstance="vmk1",
                hostValue=vim.PasswordField(value="pa55"),
                profileValue="on",
            ),
            failure.ComplianceFailureValues(comparisonIdentifier="x", hostValue=None, profileValue="on"),
        ]
        one = failure(failureType="T", message=vmodl.LocalizableMessage(key="k", message="It differs."))
        two = failure(failureType="T", message=vmodl.LocalizableMessage(key="only.a.key"), failureValues=values)
        result = vim.profile.ComplianceResult(
            complianceStatus="nonCompliant", entity=vim.HostSystem("host-1"), failure=[one, one, two]
        )
        assert describe_problems(result) == [
            "It differs",
            "only.a.key (vmk1: host a secret, profile on; host nothing, profile on)",
        ]


def update_failed(*texts: str) -> t.Any:
    path = vim.profile.ProfilePropertyPath(profilePath="a.b", policyId="P", parameterId="x")
    return vim.fault.AnswerFileUpdateFailed(
        failure=[
            vim.fault.AnswerFileUpdateFailed.UpdateFailure(
                userInputPath=path, errMsg=vmodl.LocalizableMessage(key="k", message=text)
            )
            for text in texts
        ]
    )


@pytest.mark.parametrize(
    ("doing", "fault", "sentence"),
    [
        (
            "attach",
            vim.fault.NoPermission(object=vim.Folder("group-1"), privilegeId="Profile.Edit"),
            "vCenter does not let this user attach the profile: give it the privilege Profile.Edit.",
        ),
        (
            "enter",
            vim.fault.NoPermission(object=vim.Folder("group-1")),
            "vCenter does not let this user put the host into maintenance mode: give it the privilege "
            "Host.Config.Maintenance.",
        ),
        ("attach", vmodl.fault.InvalidArgument(), "vCenter does not attach Production to esx01, because of another"),
        (
            "apply",
            vmodl.fault.InvalidArgument(msg="Odd."),
            "vCenter could not apply the profile: InvalidArgument: Odd.",
        ),
        (
            "answer",
            update_failed("Bad.", "Worse."),
            "vCenter does not take the answers: a.b.P.x: Bad; a.b.P.x: Worse.",
        ),
        ("check", vmodl.fault.HostNotConnected(), "vCenter lost esx01 while it should check the host's compliance"),
        ("apply", vmodl.fault.HostNotReachable(), "vCenter lost esx01 while it should apply the profile"),
        ("enter", vim.fault.Timedout(), "esx01 was not in maintenance mode after 30 seconds and vCenter gave up"),
        # a time limit that is not about maintenance mode
        ("apply", vim.fault.Timedout(), "vCenter could not apply the profile: Timedout."),
        (
            "execute",
            vim.fault.InvalidProfileReferenceHost(),
            "The profile Production has no usable reference host: set one in vCenter",
        ),
        ("leave", vim.fault.TaskInProgress(task=vim.Task("t")), "Another task works on esx01 in vCenter"),
        (
            "apply",
            vim.fault.HostConfigFailed(failure=[vim.fault.DuplicateName(name="vm0", object=vim.Folder("group-1"))]),
            "esx01 did not take the configuration of Production: the host has an object called vm0 already: rename",
        ),
    ],
)
def test_faults_in_words(doing: str, fault: t.Any, sentence: str) -> None:
    assert why_not(doing, fault, host="esx01", profile="Production", seconds=30).startswith(sentence)
