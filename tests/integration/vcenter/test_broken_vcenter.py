# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_add_host when vCenter answers with faults, ends the session or goes away in the middle."""

from __future__ import annotations

import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair, tls_server
from pxelab import soap

MODULE = "vcenter_add_host"


@pytest.fixture
def behind(start: t.Callable[..., t.Any], tmp_path: Path, server_pair: Pair) -> t.Iterator[t.Callable[..., int]]:
    """A vcsim behind a gateway of the test's own; returns the port. The gateway runs in this process."""
    stack: list[t.Callable[[], None]] = []

    def put(answer: t.Callable[[soap.Call], t.Optional[soap.Answer]]) -> int:
        simulator = soap.Vcsim(str(stand_ins.vcsim_program()), list(stand_ins.INVENTORY))
        context = soap.server_context(str(server_pair.cert), str(server_pair.key))
        gateway = soap.Gateway(("127.0.0.1", 0), context, simulator.address, answer)
        thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()

        def end() -> None:
            gateway.shutdown()
            gateway.server_close()
            simulator.stop()

        stack.append(end)
        return gateway.server_port

    yield put
    for end in stack:
        end()


class Counted:
    """Answers the calls of some methods itself from the n-th on."""

    def __init__(self, answer: soap.Answer, methods: t.Sequence[str], after: int = 0) -> None:
        self._answer, self._methods, self._left = answer, methods, after
        self.seen: list[str] = []

    def __call__(self, call: soap.Call) -> t.Optional[soap.Answer]:
        self.seen.append(call.method)
        if call.method not in self._methods:
            return None
        self._left -= 1
        return self._answer if self._left < 0 else None


@pytest.fixture
def hosts(start: t.Callable[..., t.Any], authority: Authority) -> list[dict[str, t.Any]]:
    pair = authority.esxi()
    port = start(tls_server(pair))[0]
    return [
        {
            "name": f"esx{number}.example.com",
            "address": "127.0.0.1",
            "port": port,
            "password": "secret-5",
            "certificate": pair.pem,
            "datacenter": "DC0",
            "cluster": "DC0_C0",
        }
        for number in range(5)
    ]


def options(port: int) -> dict[str, t.Any]:
    return {"hostname": "127.0.0.1", "port": port, "username": stand_ins.USER, "password": stand_ins.PASSWORD}


def test_a_fault_at_the_start_of_one_add_fails_that_host(run_module, behind, hosts) -> None:
    denied = soap.fault("NoPermission", "Permission denied.", [("privilegeId", "Host.Inventory.AddHostToCluster")])
    port = behind(Counted(denied, ["AddHost_Task"], after=4))

    result = run_module(MODULE, **options(port), hosts=hosts, parallel=2)

    assert result["failed_hosts"] == ["esx4.example.com"]
    assert result["hosts"]["esx4.example.com"]["msg"] == (
        "The vCenter user lacks the privilege Host.Inventory.AddHostToCluster on /DC0/host/DC0_C0, which it takes to "
        "add esx4.example.com: give it to the user's role there."
    )
    assert result["changed"]


def test_vcenter_goes_away_in_the_middle(run_module, behind, hosts) -> None:
    """What was added before stays reported as added; what is not known is said to be not known."""
    port = behind(Counted(soap.Answer(503, b"", ()), ["AddHost_Task"], after=2))

    result = run_module(MODULE, **options(port), hosts=hosts, parallel=1)

    assert [result["hosts"][f"esx{number}.example.com"]["action"] for number in range(5)] == [
        "added",
        "added",
        "none",
        "none",
        "none",
    ]
    message = result["hosts"]["esx3.example.com"]["msg"]
    assert "does not answer (503 Service Unavailable)" in message and "run again to find out" in message


def test_vcenter_ends_the_session_in_the_middle(run_module, behind, hosts) -> None:
    over = soap.fault("NotAuthenticated", "The session is not authenticated.")
    port = behind(Counted(over, ["AddHost_Task", "RetrievePropertiesEx"], after=5))

    result = run_module(MODULE, **options(port), hosts=hosts, parallel=1)

    # one look at the inventory, then an add and a look at its task for each of the first two hosts
    assert result["failed_hosts"] == [f"esx{number}.example.com" for number in (2, 3, 4)]
    assert all("has ended the session" in result["hosts"][name]["msg"] for name in result["failed_hosts"])


def test_the_inventory_cannot_be_read(run_module, behind, hosts) -> None:
    broken = soap.fault("HostCommunication", "Unable to communicate.")
    gateway = Counted(broken, ["RetrievePropertiesEx"])
    port = behind(gateway)

    result = run_module(MODULE, **options(port), hosts=hosts)

    assert result["failed"] and "refuses to list its hosts: HostCommunication" in result["msg"]
    assert "AddHost_Task" not in gateway.seen
    assert gateway.seen[-1] == "Logout", "the session is ended whatever happens"


def test_the_read_after_the_adds_fails(run_module, behind, hosts) -> None:
    """The hosts are in vCenter: they must not be reported as failed because the look at them went wrong."""

    class AfterAdds(Counted):
        def __call__(self, call: soap.Call) -> t.Optional[soap.Answer]:
            adds = self.seen.count("AddHost_Task")
            is_inventory = call.method == "RetrievePropertiesEx" and b"Datacenter" in call.body
            self.seen.append(call.method)
            return self._answer if adds == 5 and is_inventory else None

    port = behind(AfterAdds(soap.fault("HostCommunication", "Unable to communicate."), []))

    result = run_module(MODULE, **options(port), hosts=hosts)

    assert {one["action"] for one in result["hosts"].values()} == {"added"}
    assert result["hosts"]["esx0.example.com"]["path"] == "/DC0/host/DC0_C0/esx0.example.com"


def test_somebody_else_adds_the_host_at_the_same_time(run_module, behind, hosts) -> None:
    """Two controllers at once: who comes second finds the host where it should be, and that is all it wanted."""

    class Second:
        def __call__(self, call: soap.Call) -> t.Optional[soap.Answer]:
            if call.method != "AddHost_Task":
                return None
            call.forward(call.body)
            name = call.text("spec/hostName")
            return soap.fault("AlreadyConnected", "Already connected.", [("name", name)])

    port = behind(Second())

    result = run_module(MODULE, **options(port), hosts=hosts[:2])

    assert not result["changed"] and not result.get("failed"), result["msg"]
    assert {one["action"] for one in result["hosts"].values()} == {"present"}
