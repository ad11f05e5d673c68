# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for many tasks, without a server."""

from __future__ import annotations

import ssl
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session

if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import Endpoint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_tasks import run_tasks

ENDPOINT = Endpoint("vcenter.example.com", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


# -- Tasks, with a vCenter made of a clock: every task runs for the seconds that the test says -------------------------


class FakeTask:
    def __init__(self, center: FakeVcenter, number: int, seconds: float, fault: t.Any) -> None:
        self._moId, self._center, self.fault = f"task-{number}", center, fault
        self.ends = center.now + seconds

    @property
    def state(self) -> str:
        if self._center.now < self.ends:
            return "running"
        return "error" if self.fault is not None else "success"


class FakeVcenter:
    """The property collector of a session, as far as waiting for tasks goes, with the API's own rules:

    an answer to an empty version says how everything stands at once, to any other version what has changed since.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.tasks: list[FakeTask] = []
        self.filters: list[t.Any] = []
        self.most_running = 0
        self.waits: list[float] = []
        self.broken: t.Optional[Exception] = None
        self.endpoint = ENDPOINT
        self.content = self
        self.propertyCollector = self
        self._told: dict[str, str] = {}

    def start(self, seconds: float, fault: t.Any = None) -> FakeTask:
        task = FakeTask(self, len(self.tasks), seconds, fault)
        self.tasks.append(task)
        self.most_running = max(self.most_running, sum(one.state == "running" for one in self.tasks))
        return task

    def CreateFilter(self, what: t.Any, partial: bool) -> t.Any:
        assert partial is False
        assert what.propSet[0].pathSet == ["info.state"]
        watched = FakeFilter(self, [one.obj for one in what.objectSet])
        self.filters.append(watched)
        return watched

    def WaitForUpdatesEx(self, version: str, options: t.Any) -> t.Any:
        if self.broken is not None:
            raise self.broken
        watched = [task for one in self.filters for task in one.tasks]
        if version == "":
            self._told = {}
        changed = [task for task in watched if self._told.get(task._moId) != task.state]
        if not changed:
            self.waits.append(options.maxWaitSeconds)
            ends = [task.ends for task in watched if task.state == "running"]
            self.now = min([self.now + options.maxWaitSeconds, *ends])
            changed = [task for task in watched if self._told.get(task._moId) != task.state]
            if not changed:
                return None
        self._told.update((task._moId, task.state) for task in changed)
        return Bag(
            version=f"{self.now}",
            filterSet=[
                Bag(objectSet=[Bag(obj=task, changeSet=[Bag(name="info.state", val=task.state)]) for task in changed])
            ],
        )

    def RetrievePropertiesEx(self, specs: t.Any, options: t.Any) -> t.Any:
        objects = []
        for one in specs[0].objectSet:
            info = Bag(state=one.obj.state, error=one.obj.fault, result=f"result of {one.obj._moId}")
            objects.append(Bag(obj=one.obj, propSet=[Bag(name="info", val=info)]))
        return Bag(objects=objects, token=None)


class FakeFilter:
    def __init__(self, center: FakeVcenter, tasks: list[FakeTask]) -> None:
        self._center, self.tasks = center, tasks

    def Destroy(self) -> None:
        self._center.filters.remove(self)


class Bag:
    def __init__(self, **values: t.Any) -> None:
        self.__dict__.update(values)


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch) -> FakeVcenter:
    # pyVmomi checks the types of what goes into its objects; these are the same bags of values without that
    query = vmodl.query.PropertyCollector
    for name in ("ObjectSpec", "PropertySpec", "FilterSpec", "RetrieveOptions", "WaitOptions"):
        monkeypatch.setattr(query, name, Bag)
    return FakeVcenter()


def run(center: FakeVcenter, starts: t.Mapping[str, t.Any], parallel: int = 16, timeout: float = 600.0) -> t.Any:
    return dict(run_tasks(t.cast(t.Any, center), starts, parallel=parallel, timeout=timeout, clock=lambda: center.now))


class TestRunTasks:
    def test_each_ends_in_its_own_way(self, center: FakeVcenter) -> None:
        fault = vim.fault.InvalidLogin()
        starts = {
            "good": lambda: center.start(3),
            "bad": lambda: center.start(5, fault),
            "at once": lambda: center.start(0),
        }
        outcomes = run(center, starts)
        assert outcomes["good"].succeeded and outcomes["good"].result == "result of task-0"
        assert outcomes["bad"].fault is fault and not outcomes["bad"].succeeded
        assert outcomes["at once"].succeeded
        assert center.now == 5
        assert center.filters == [], "no filter is left behind"

    @pytest.mark.parametrize("parallel", [1, 3, 16])
    def test_so_many_at_a_time_and_a_free_place_is_taken_at_once(self, center: FakeVcenter, parallel: int) -> None:
        starts = {f"{number}": lambda number=number: center.start(1 + number % 3) for number in range(30)}
        outcomes = run(center, starts, parallel=parallel)
        assert len(outcomes) == 30 and all(outcome.succeeded for outcome in outcomes.values())
        assert center.most_running == parallel
        # 60 seconds of work: nobody waits for the slowest of a batch
        assert center.now <= 60 / parallel + 3

    def test_one_that_takes_too_long_fails_alone(self, center: FakeVcenter) -> None:
        starts = {"slow": lambda: center.start(1000), "good": lambda: center.start(50), "next": lambda: center.start(5)}
        outcomes = run(center, starts, parallel=2, timeout=100)
        assert outcomes["slow"].problem == "vcenter.example.com:443 has not finished task-0 within 100 seconds."
        assert outcomes["good"].succeeded and outcomes["next"].succeeded
        assert center.now == 100
        assert center.filters == []

    def test_long_waits_are_cut_so_that_limits_are_kept(self, center: FakeVcenter) -> None:
        run(center, {"one": lambda: center.start(75)}, timeout=600)
        assert max(center.waits) <= 20

    def test_a_start_that_fails_is_one_hosts_matter(self, center: FakeVcenter) -> None:
        def denied() -> t.NoReturn:
            raise vim.fault.NoPermission(privilegeId="Host.Inventory.AddHostToCluster")

        outcomes = run(center, {"denied": denied, "good": lambda: center.start(1)}, parallel=1)
        assert outcomes["denied"].fault.privilegeId == "Host.Inventory.AddHostToCluster"
        assert outcomes["good"].succeeded

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (ConnectionResetError(104, "Connection reset"), "does not answer (Connection reset)"),
            (vim.fault.NotAuthenticated(), "has ended the session"),
            (vmodl.fault.SystemError(msg="Busy."), "does not let its tasks be watched: SystemError: Busy."),
        ],
    )
    def test_known_outcomes_survive_a_lost_connection(
        self, center: FakeVcenter, error: Exception, sentence: str
    ) -> None:
        seen = {}
        starts = {f"{number}": lambda number=number: center.start(1 + number) for number in range(5)}
        for key, outcome in run_tasks(t.cast(t.Any, center), starts, parallel=2, timeout=600, clock=lambda: center.now):
            seen[key] = outcome
            center.broken = error
        assert seen["0"].succeeded
        assert sorted(seen) == ["0", "1", "2", "3", "4"]
        assert all(sentence in (seen[key].problem or "") for key in "1234")

    def test_nothing_to_do(self, center: FakeVcenter) -> None:
        assert run(center, {}) == {}
