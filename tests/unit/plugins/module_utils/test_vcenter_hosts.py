# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds in which hosts are brought into a vCenter, with a clock and a vCenter made of lists. The real thing:
tests/integration/vcenter."""

from __future__ import annotations

import ssl
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vcenter_hosts, _vsphere_session

if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim

from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import UnreachableError, UnresolvableError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import Inventory, _Node
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    Endpoint,
    LoginRefusedError,
    ServiceUnavailableError,
    VsphereError,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_tasks import TaskOutcome
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM


class Center:
    """What a vCenter has, and how each task for a host ends: the answers of a list, then well."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.there: set[str] = set()
        self.folders: set[str] = set()
        self.answers: dict[str, list[TaskOutcome]] = {}
        self.tried: list[str] = []
        self.looks: list[t.Optional[Exception]] = []
        self.fetches: list[t.Union[str, Exception]] = []
        self.renewed = 0
        self.renewal: t.Optional[Exception] = None
        self.endpoint = Endpoint("vcenter.example.com", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 2))
        self.now += seconds

    def clock(self) -> float:
        return self.now

    def renew(self) -> None:
        self.renewed += 1
        if self.renewal is not None:
            raise self.renewal

    def inventory(self, _session: t.Any, *, lockdown: bool = False) -> Inventory:
        error = self.looks.pop(0) if self.looks else None
        if error is not None:
            raise error
        nodes = {
            "root": _Node(None, "folder", "Datacenters", None, "unknown"),
            "dc": _Node(None, "datacenter", "B", "root", "unknown"),
            "h": _Node("ref", "folder", "host", "dc", "unknown"),
            "c": _Node("ref", "cluster", "C", "h", "unknown"),
        }
        for name in self.folders:
            nodes[f"f-{name}"] = _Node("ref", "folder", name, "h", "unknown")
        for name in self.there:
            nodes[name] = _Node("ref", "host", name, "c", "connected")
        return Inventory(nodes, "root")

    def fetch(self, *_unused: t.Any, **_more: t.Any) -> str:
        if not self.fetches:
            return ESXI_PEM
        answer = self.fetches.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tasks(self, _session: t.Any, starts: t.Mapping[str, t.Any], **_more: t.Any) -> t.Any:
        for name in starts:
            self.tried.append(name)
            answers = self.answers.get(name, [])
            outcome = answers.pop(0) if answers else TaskOutcome()
            if outcome.succeeded:
                self.there.add(name)
            yield name, outcome


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch) -> Center:
    made = Center()
    monkeypatch.setattr(_vcenter_hosts, "read_inventory", made.inventory)
    monkeypatch.setattr(_vcenter_hosts, "fetch_certificate", made.fetch)
    monkeypatch.setattr(_vcenter_hosts, "run_tasks", made.tasks)
    monkeypatch.setattr(_vcenter_hosts, "task_for", lambda *_unused: lambda: None)
    return made


def host(name: str = "esx01", **changes: t.Any) -> HostToAdd:
    known = {"name": name, "password": "p", "certificate": ESXI_PEM, "datacenter": "B", "cluster": "C"}
    return HostToAdd.parse({**known, **changes})


def run(center: Center, *hosts: HostToAdd, **more: t.Any) -> Results:
    results = Results()
    _vcenter_hosts.add_hosts(
        t.cast(t.Any, center), hosts, results, clock=center.clock, sleep=center.sleep, **{"retry_for": 60.0, **more}
    )
    assert len(results.hosts) == len(hosts), "each host has a result"
    return results


def fault(kind: t.Any) -> TaskOutcome:
    return TaskOutcome(fault=kind())


def test_a_good_one_is_looked_at_twice(center: Center) -> None:
    results = run(center, host())
    assert results.hosts["esx01"]["action"] == "added" and center.pauses == []
    assert run(center, host()).hosts["esx01"]["action"] == "present" and center.tried == ["esx01"]


def test_pauses_grow_and_end(center: Center) -> None:
    center.answers["esx01"] = [fault(vim.fault.NoHost)] * 99
    results = run(center, host(), host("esx02"), retry_for=100.0)
    assert center.pauses == [1, 2, 4, 8, 16, 30, 30]
    assert center.tried.count("esx01") == 8 and center.tried.count("esx02") == 1
    assert "It was tried 8 times." in results.hosts["esx01"]["msg"]
    assert results.hosts["esx02"]["action"] == "added"


def test_without_time_to_retry_everything_is_tried_once(center: Center) -> None:
    center.answers["esx01"] = [fault(vim.fault.TaskInProgress)]
    results = run(center, host(), retry_for=0.0)
    assert results.failed("esx01") and center.tried == ["esx01"] and center.pauses == []


def test_a_wrong_password_is_tried_once_however_much_time_there_is(center: Center) -> None:
    center.answers["esx01"] = [fault(vim.fault.InvalidLogin)] * 9
    results = run(center, host(), retry_for=9999.0)
    assert results.failed("esx01") and center.tried == ["esx01"]


def test_a_lost_answer_is_found_out(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = TaskOutcome(problem="Lost.", lost=True)
    center.answers = {"esx01": [lost], "esx02": [lost]}

    def went_through(_session: t.Any, starts: t.Mapping[str, t.Any], **_more: t.Any) -> t.Any:
        for name, outcome in Center.tasks(center, _session, starts):
            # that of the first one went through all the same
            if name == "esx01":
                center.there.add(name)
            yield name, outcome

    monkeypatch.setattr(_vcenter_hosts, "run_tasks", went_through)
    results = run(center, host(), host("esx02"))
    assert {one["action"] for one in results.hosts.values()} == {"added"}
    assert center.tried == ["esx01", "esx02", "esx02"] and center.renewed == 1


def test_a_refused_renewal_is_asked_for_once(center: Center) -> None:
    center.answers["esx01"] = [fault(vim.fault.NoHost)] * 2
    center.answers["esx02"] = [TaskOutcome(problem="Lost.", lost=True)] * 2
    center.renewal = LoginRefusedError("vcenter refuses the login.")
    results = run(center, host(), host("esx02"), host("esx03"))
    assert center.renewed == 1
    assert results.failed_hosts == ["esx01", "esx02"] and results.hosts["esx03"]["action"] == "added"
    assert "refuses the login" in results.hosts["esx01"]["msg"]


def test_the_first_look(center: Center) -> None:
    center.looks = [ServiceUnavailableError("Not yet.")] * 2
    assert run(center, host()).hosts["esx01"]["action"] == "added"
    assert center.pauses == [1, 2]
    for errors, retry_for in (([VsphereError("No.")], 60.0), ([ServiceUnavailableError("Down.")] * 99, 5.0)):
        center.looks = list(errors)
        with pytest.raises(VsphereError):
            run(center, host("esx02"), retry_for=retry_for)


def test_a_host_that_does_not_answer_here(center: Center) -> None:
    center.fetches = [UnreachableError("Nobody there.")] * 2
    assert run(center, host()).hosts["esx01"]["action"] == "added" and center.pauses == [1, 2]
    # a name that means nothing is no matter of time
    center.fetches = [UnresolvableError("No such name.")]
    results = run(center, host("esx02"))
    assert results.failed("esx02") and center.pauses == [1, 2]


def test_a_folder_that_somebody_made_but_nobody_sees_is_no_endless_matter(
    center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def create(place: t.Any) -> None:
        made.append(place.path)
        raise vim.fault.DuplicateName(name="Edge")

    monkeypatch.setattr(_vcenter_hosts, "create_folders", create)
    results = run(center, host(cluster=None, folder="Edge", create_folders=True), retry_for=10.0)
    assert results.failed("esx01") and "has the name Edge" in results.hosts["esx01"]["msg"]
    assert len(made) < 9 and center.tried == []


def test_check_mode_only_looks(center: Center) -> None:
    results = run(center, host(), check_mode=True)
    assert results.hosts["esx01"]["steps"] == ["add"] and center.tried == [] and center.there == set()


def test_progress(center: Center) -> None:
    lines: list[str] = []
    center.answers["esx01"] = [fault(vim.fault.InvalidLogin)]
    center.answers["esx02"] = [fault(vim.fault.NoHost)]
    run(center, host(), host("esx02"), host("esx03"), progress=lines.append)
    assert lines == [
        "1 of 3 hosts are settled, 1 have failed, 1 are tried again",
        "2 of 3 hosts are settled, 1 have failed, 1 are tried again",
        "2 of 3 hosts are settled, 1 have failed",
        "3 of 3 hosts are settled, 1 have failed",
    ]
