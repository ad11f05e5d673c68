# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions and inventories without a server: where a host belongs, faults in words, waiting for tasks."""

from __future__ import annotations

import http.client
import ssl
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError, MissingLibraryError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    Inventory,
    PlaceError,
    ServiceUnavailableError,
    WrongCertificateError,
    _Node,
    connection_errors,
    describe_fault,
    fault_kinds,
    is_host_name,
    parse_each,
    run_tasks,
)

ENDPOINT = Endpoint("vcenter.example.com", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def inventory(*nodes: tuple[str, str, str, t.Optional[str]]) -> Inventory:
    """key, kind, name, parent; the root folder is there."""
    made = {"root": _Node(None, "folder", "Datacenters", None, "unknown")}
    for key, kind, name, parent in nodes:
        made[key] = _Node(f"ref of {key}", kind, name, parent, "connected" if kind == "host" else "unknown")
    return Inventory(made, "root")


EUROPE = inventory(
    ("f1", "folder", "Europe", "root"),
    ("dc1", "datacenter", "Berlin", "f1"),
    ("h1", "folder", "host", "dc1"),
    ("c1", "cluster", "Production", "h1"),
    ("x1", "folder", "Racks", "h1"),
    ("x2", "folder", "Rack/1", "x1"),
    ("c2", "cluster", "Test", "x1"),
    ("c3", "cluster", "Test", "x2"),
    ("e1", "host", "ESX01.example.com", "c1"),
    ("s1", "compute", "esx02.example.com", "x1"),
    ("e2", "host", "esx02.example.com", "s1"),
    ("s3", "compute", "esx03.example.com", "h1"),
    ("e3", "host", "esx03.example.com", "s3"),
    ("f2", "folder", "Asia", "root"),
    ("dc2", "datacenter", "Tokyo", "f2"),
    ("h2", "folder", "host", "dc2"),
    ("c4", "cluster", "Production", "h2"),
    ("dc3", "datacenter", "Berlin", "f2"),
    ("h3", "folder", "host", "dc3"),
)


class TestInventory:
    def test_hosts_and_their_places(self) -> None:
        (one,) = EUROPE.hosts_named("esx01.EXAMPLE.com")
        assert (one.name, one.path) == ("ESX01.example.com", "/Europe/Berlin/host/Production/ESX01.example.com")
        assert one.place == "/Europe/Berlin/host/Production"
        assert EUROPE.hosts_named("esx01") == ()

    def test_a_standalone_host_is_shown_in_its_folder(self) -> None:
        assert EUROPE.hosts_named("esx02.example.com")[0].path == "/Europe/Berlin/host/Racks/esx02.example.com"
        assert EUROPE.hosts_named("esx03.example.com")[0].place == "/Europe/Berlin/host"

    @pytest.mark.parametrize(
        ("wanted", "key", "path"),
        [
            ({"datacenter": "Tokyo", "cluster": "Production"}, "c4", "/Asia/Tokyo/host/Production"),
            ({"datacenter": "/Asia/Tokyo", "cluster": "Production"}, "c4", "/Asia/Tokyo/host/Production"),
            ({"datacenter": "/Europe/Berlin", "cluster": "Production"}, "c1", "/Europe/Berlin/host/Production"),
            (
                {"datacenter": "Europe/Berlin", "cluster": "/Europe/Berlin/host/Racks/Test"},
                "c2",
                "/Europe/Berlin/host/Racks/Test",
            ),
            ({"datacenter": "/Europe/Berlin", "folder": "/"}, "h1", "/Europe/Berlin/host"),
            ({"datacenter": "/Europe/Berlin", "folder": "Racks"}, "x1", "/Europe/Berlin/host/Racks"),
            ({"datacenter": "/Europe/Berlin", "folder": "/Racks/"}, "x1", "/Europe/Berlin/host/Racks"),
            (
                {"datacenter": "/Europe/Berlin", "folder": "/Europe/Berlin/host/Racks"},
                "x1",
                "/Europe/Berlin/host/Racks",
            ),
            ({"datacenter": "/Europe/Berlin", "folder": "Racks/Rack/1"}, "x2", "/Europe/Berlin/host/Racks/Rack/1"),
            ({"datacenter": "/Asia/Berlin", "folder": "/"}, "h3", "/Asia/Berlin/host"),
        ],
    )
    def test_places(self, wanted: dict[str, str], key: str, path: str) -> None:
        place = EUROPE.place(**wanted)
        assert (place.ref, place.path, place.is_cluster) == (f"ref of {key}", path, key[0] == "c")

    @pytest.mark.parametrize(
        ("wanted", "sentence"),
        [
            (
                {"datacenter": "Berlin", "cluster": "Production"},
                "There are several datacenters 'Berlin' in vCenter: give the path of one of /Asia/Berlin, "
                "/Europe/Berlin.",
            ),
            (
                {"datacenter": "/Europe/Berlin", "cluster": "Test"},
                "There are several clusters 'Test' in datacenter Europe/Berlin: give the path of one of "
                "/Europe/Berlin/host/Racks/Rack/1/Test, /Europe/Berlin/host/Racks/Test.",
            ),
            (
                {"datacenter": "berlin", "cluster": "Production"},
                "There is no datacenter 'berlin' in vCenter; there is: Berlin, Tokyo.",
            ),
            (
                {"datacenter": "Tokyo", "cluster": "production"},
                "There is no cluster 'production' in datacenter Asia/Tokyo; there is: Production.",
            ),
            (
                {"datacenter": "/Asia/Berlin", "cluster": "Production"},
                "There is no cluster 'Production' in datacenter Asia/Berlin; there is none at all (or this vCenter "
                "user sees none).",
            ),
            (
                {"datacenter": "/Europe/Berlin", "folder": "Edge"},
                "There is no host folder 'Edge' in datacenter Europe/Berlin; there is: Racks, Racks/Rack/1.",
            ),
        ],
    )
    def test_places_that_are_not_there(self, wanted: dict[str, str], sentence: str) -> None:
        with pytest.raises(PlaceError) as caught:
            EUROPE.place(**wanted)
        assert str(caught.value) == sentence

    def test_a_long_list_of_names_is_cut(self) -> None:
        many = inventory(*((f"d{number}", "datacenter", f"DC{number:03d}", "root") for number in range(100)))
        with pytest.raises(PlaceError, match=r"DC018, DC019 and 80 more\.$"):
            many.place(datacenter="Berlin", cluster="C")

    def test_objects_that_are_not_visible(self) -> None:
        """A user may see a host and not what it is in; nothing falls over it."""
        partial = inventory(("e1", "host", "esx01", "gone"), ("dc1", "datacenter", "Berlin", "root"))
        assert partial.hosts_named("esx01")[0].path == "/esx01"
        with pytest.raises(PlaceError, match="The host folder of datacenter Berlin is not visible"):
            partial.place(datacenter="Berlin", folder="/")


class TestFaults:
    def test_kinds(self) -> None:
        assert fault_kinds(vim.fault.PasswordExpired())[:2] == ["vim.fault.PasswordExpired", "vim.fault.InvalidLogin"]

    def test_description(self) -> None:
        fault = vmodl.fault.SystemError(msg="A general system error occurred: Busy.", reason="Busy.")
        assert describe_fault(fault) == "SystemError: A general system error occurred: Busy."
        assert describe_fault(vim.fault.HostConfigFault()) == "HostConfigFault."
        told = vim.fault.HostConfigFault(
            msg="Cannot.", faultMessage=[vmodl.LocalizableMessage(key="k", message="Disk.")]
        )
        assert describe_fault(told) == "HostConfigFault: Cannot. Disk."


class TestConnectionErrors:
    @pytest.mark.parametrize(
        "error",
        [ConnectionRefusedError(111, "Connection refused"), http.client.HTTPException("503 Not yet"), OSError()],
    )
    def test_a_broken_connection_is_worth_another_try(self, error: Exception) -> None:
        with (
            pytest.raises(
                ServiceUnavailableError, match=r"^The API at vcenter\.example\.com:443 does not answer \(.+\)"
            ),
            connection_errors(ENDPOINT),
        ):
            raise error

    def test_a_wrong_certificate_is_not(self) -> None:
        with pytest.raises(WrongCertificateError), connection_errors(ENDPOINT):
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")

    def test_faults_and_mistakes_pass(self) -> None:
        for error in (vim.fault.InvalidLogin(), KeyError("mistake")):
            with pytest.raises(type(error)), connection_errors(ENDPOINT):
                raise error


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vsphere, "PYVMOMI_IMPORT_ERROR", "Traceback ...")
    with pytest.raises(MissingLibraryError) as caught:
        _vsphere.Session(ENDPOINT)
    assert (caught.value.library, caught.value.trace) == ("pyvmomi", "Traceback ...")


@pytest.mark.parametrize("name", ["esx01", "esx01.example.com", "ESX_1", "192.168.77.21", "2001:db8::1", "::1"])
def test_names_of_hosts(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "a b", "esx\n", ".esx", "esx/1", "esx:1", "-x", "a" * 256, "ésx", "<x>"])
def test_names_that_no_host_has(name: str) -> None:
    assert not is_host_name(name)


class TestParseEach:
    @staticmethod
    def parse(options: t.Mapping[str, t.Any]) -> str:
        if options.get("bad"):
            raise DefinitionError(["One.", "Two."])
        return f"parsed {options['name']}"

    def test_sound_ones_in_order_and_mistakes_by_name(self) -> None:
        results = Results()
        parsed = parse_each([{"name": "b"}, {"name": "a", "bad": True}, {"name": "c"}], self.parse, results)
        assert parsed == ["parsed b", "parsed c"]
        assert results.hosts["a"]["reasons"] == ["One.", "Two."]
        assert list(results.hosts) == ["a"]

    def test_a_name_given_twice_is_neither(self) -> None:
        results = Results()
        parsed = parse_each([{"name": "a"}, {"name": "A"}, {"name": "b"}, {"name": "a"}], self.parse, results)
        assert parsed == ["parsed b"]
        assert results.failed_hosts == ["A", "a"]


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
