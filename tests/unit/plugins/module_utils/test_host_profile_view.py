# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers to and from the API, and what a vCenter without host profiles says. The rest: tests/integration/vcenter."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim

from ansible_collections.pxemanager.esxi.plugins.module_utils import _host_profile_view as view
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import Entry, Path, Secret


def session(**content: t.Any) -> t.Any:
    version = content.pop("version", (8, 0, 3, 0))
    return types.SimpleNamespace(
        content=types.SimpleNamespace(**content), endpoint="vcenter.example.com:443", api_version=version
    )


def test_answers_keep_path_and_types_on_their_way() -> None:
    entries = [
        Entry(Path("a.b", "Policy", "Option", "x"), {"x": "text", "y": 7, "z": True, "p": Secret("pa55")}),
        Entry(Path("c"), {}),
    ]

    inputs = view.from_entries(entries)

    assert isinstance(inputs[0].parameter[3].value, vim.PasswordField)
    assert (inputs[0].inputPath.policyOptionId, inputs[1].inputPath.policyId) == ("Option", None)
    assert view.to_entries(inputs) == entries
    assert view.to_entries(None) == []


def test_a_vcenter_without_host_profiles() -> None:
    with pytest.raises(_vsphere.VsphereError, match="^vcenter.example.com:443 has no host profiles: its edition"):
        view.Profiles(session(hostProfileManager=None))


def profiles(monkeypatch: pytest.MonkeyPatch, *names: str) -> view.Profiles:
    found = [(vim.profile.host.HostProfile(f"p-{number}"), {"name": name}) for number, name in enumerate(names)]
    monkeypatch.setattr(view, "retrieve", lambda *_unused: found)
    return view.Profiles(session(hostProfileManager=vim.profile.host.ProfileManager("m")))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "There is no host profile 'Wanted': this vCenter has none at all, or its user may see none."),
        (("Other", "Another"), "There is no host profile 'Wanted'; there is: Another, Other."),
        (("Wanted", "Wanted"), "This vCenter has 2 host profiles 'Wanted': rename all but one."),
        (tuple(f"P{number:02d}" for number in range(30)), "P18, P19 and 10 more."),
    ],
)
def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(_vsphere.PlaceError) as caught:
        profiles(monkeypatch, *names).named("Wanted")
    assert str(caught.value).endswith(sentence)


def test_only_clusters_of_new_vcenters_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_call(*_unused: t.Any) -> t.Any:
        raise AssertionError("a vCenter that does not know the property must not be asked for it")

    monkeypatch.setattr(view, "retrieve", no_call)
    assert view.self_configured(session(version=(7, 0, 3, 0)), [vim.ClusterComputeResource("c-1")]) == set()
    assert view.self_configured(session(), [vim.ComputeResource("s-1")]) == set()


def test_machines_that_the_agent_manager_stops_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """vCLS machines run on every host of a cluster, and go by themselves when it enters maintenance mode."""
    host = vim.HostSystem("host-1")

    def machine(number: int, state: str, owner: t.Optional[str] = None) -> tuple[t.Any, dict[str, t.Any]]:
        properties: dict[str, t.Any] = {"name": f"vm{number}", "runtime.powerState": state, "runtime.host": host}
        if owner is not None:
            properties["config.managedBy"] = vim.ext.ManagedByInfo(extensionKey=owner, type="cluster-agent")
        return vim.VirtualMachine(f"vm-{number}"), properties

    found = [
        (host, {"runtime.inMaintenanceMode": False}),
        machine(1, "poweredOn"),
        machine(2, "poweredOff"),
        machine(3, "poweredOn", "com.vmware.vim.eam"),
        machine(4, "poweredOn", "com.example.backup"),
    ]
    monkeypatch.setattr(view, "retrieve", lambda *_unused: found)

    assert view.look_at_hosts(session(), [host]) == {"host-1": view.HostNow(False, ("vm1", "vm4"))}


def test_metadata_are_words_that_may_be_missing() -> None:
    asked: list[t.Any] = []

    def query(policyName: list[str], profile: t.Any) -> t.Any:
        asked.append(policyName)
        raise TypeError("a type that the installed pyVmomi does not know")

    metadata = view.Metadata(session(hostProfileManager=types.SimpleNamespace(QueryPolicyMetadata=query)))
    profile = view.Profile(vim.profile.host.HostProfile("p-1"), "Production", frozenset())

    for _twice in range(2):
        assert metadata.questions(profile, [Entry(Path("a", "P"), {}), Entry(Path("b", "P"), {})]) == []
    assert asked == [["P"]], "a policy is asked for once"
