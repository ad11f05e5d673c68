# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done with a host, from what is seen of it: no vCenter needed."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import RefusedError
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import sha1_thumbprint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_plan import (
    Sight,
    certificate_to_use,
    entry_of,
    needs_certificate,
    needs_power_state,
    steps_for,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    HostEntry,
    Inventory,
    Place,
    _Node,
)
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM, Authority

NAME = "esx01.example.com"
HERE = Place("ref", "/B/host/C1", True, "/B")
OWN = sha1_thumbprint(ESXI_PEM)
SOUND = {
    "name": NAME,
    "address": "192.0.2.21",
    "password": "secret",
    "certificate": ESXI_PEM,
    "datacenter": "B",
    "cluster": "C1",
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another host's certificate."""
    return Authority(tmp_path_factory.mktemp("authority")).esxi().pem


def host(**changes: t.Any) -> HostToAdd:
    return HostToAdd.parse({**SOUND, **changes})


def entry(**changes: t.Any) -> HostEntry:
    known: dict[str, t.Any] = {
        "name": NAME,
        "path": f"/B/host/C1/{NAME}",
        "place": "/B/host/C1",
        "state": "connected",
        "in_cluster": True,
        "datacenter": "/B",
        "thumbprint": OWN,
        **changes,
    }
    known["path"] = f"{known['place']}/{NAME}"
    return HostEntry(**known)


def steps(found: t.Optional[HostEntry], presented: t.Optional[str] = ESXI_PEM, **changes: t.Any) -> tuple[str, ...]:
    place = changes.pop("place", HERE)
    more = {key: changes.pop(key) for key in ("licensed", "powered_on") if key in changes}
    entered = changes.pop("entered", False)
    return steps_for(host(**changes), Sight(place, found, presented, **more), entered_maintenance=entered)


class TestSteps:
    def test_nothing_to_do(self) -> None:
        assert steps(entry(), None) == ()
        assert steps(entry(maintenance=True), None) == (), "maintenance mode is somebody's wish"

    def test_a_host_that_is_not_there(self) -> None:
        assert steps(None) == ("add",)
        folder = Place("ref", "/B/host/Edge/R1", False, "/B", ("Edge", "R1"))
        assert steps(None, place=folder) == ("create_folder", "add")
        # a fresh host is in no lockdown mode; the licence comes with the add
        assert steps(None, lockdown_mode="strict", license="K") == ("add", "lockdown")
        assert steps(None, lockdown_mode="disabled") == ("add",)

    @pytest.mark.parametrize("state", ["disconnected", "notResponding"])
    def test_a_host_that_is_not_connected(self, state: str) -> None:
        assert steps(entry(state=state)) == ("reconnect",)
        with pytest.raises(RefusedError, match=f"{NAME} is at .* vCenter shows it as .*allow it with reconnect"):
            steps(entry(state=state), reconnect=False)

    def test_a_reinstall_that_vcenter_has_not_noticed(self, other: str) -> None:
        stale = entry(thumbprint=sha1_thumbprint(other))
        assert steps(stale, ESXI_PEM) == ("reconnect",)
        # vCenter gave the host another certificate, and that is what it presents
        assert steps(stale, other) == ()

    def test_moves(self) -> None:
        assert steps(entry(place="/B/host/C2"), None) == ("enter_maintenance", "move", "leave_maintenance")
        assert steps(entry(place="/B/host/C2", maintenance=True), None) == ("move",)
        assert steps(entry(place="/B/host/C2", maintenance=True), None, leave_maintenance=True) == (
            "move",
            "leave_maintenance",
        )
        assert steps(entry(place="/B/host/Edge", in_cluster=False), None) == ("move",)
        assert steps(entry(place="/B/host/C2", state="disconnected")) == (
            "reconnect",
            "enter_maintenance",
            "move",
            "leave_maintenance",
        )

    def test_on_its_way(self) -> None:
        """Between the steps of a move, it is remembered that the maintenance mode was for the move alone."""
        assert steps(entry(place="/B/host/C2", maintenance=True), None, entered=True) == ("move", "leave_maintenance")
        assert steps(entry(maintenance=True), None, entered=True) == ("leave_maintenance",)
        assert steps(entry(), None, entered=True) == ()

    def test_moves_that_are_refused(self) -> None:
        with pytest.raises(RefusedError, match="allow it with move"):
            steps(entry(place="/B/host/C2"), None, move=False)
        with pytest.raises(RefusedError, match="from one datacenter to another"):
            steps(entry(place="/T/host/C2", datacenter="/T"), None)
        with pytest.raises(RefusedError, match="3 virtual machines run on it"):
            steps(entry(place="/B/host/C2"), None, powered_on=3)

    def test_machines_matter_only_where_maintenance_mode_is_needed(self) -> None:
        assert "move" in steps(entry(place="/B/host/Edge", in_cluster=False), None, powered_on=3)
        assert steps(entry(), None, powered_on=3) == ()
        # what vCenter remembers of a host that it does not see may be wrong: after a reinstall it is
        assert steps(entry(place="/B/host/C2", state="disconnected"), powered_on=3)[0] == "reconnect"
        assert not needs_power_state(entry(place="/B/host/C2", state="disconnected"), HERE)
        assert needs_power_state(entry(place="/B/host/C2"), HERE)

    def test_settings(self) -> None:
        assert steps(entry(), None, license="K", licensed="K") == ()
        assert steps(entry(), None, license="K", licensed="L") == ("license",)
        assert steps(entry(lockdown="lockdownNormal"), None, lockdown_mode="normal") == ()
        assert steps(entry(lockdown="lockdownNormal"), None, lockdown_mode="disabled") == ("lockdown",)
        assert steps(entry(lockdown="lockdownNormal"), None) == ()
        assert steps(entry(maintenance=True), None, leave_maintenance=True) == ("leave_maintenance",)


class TestCertificates:
    def test_whose_matter(self, other: str) -> None:
        assert needs_certificate(host(), None)
        assert needs_certificate(host(), entry(state="notResponding"))
        assert not needs_certificate(host(), entry())
        assert not needs_certificate(host(), entry(thumbprint=OWN.lower()))
        assert not needs_certificate(host(), entry(thumbprint=None)), "vCenter does not tell"
        assert needs_certificate(host(), entry(thumbprint=sha1_thumbprint(other)))
        assert not needs_certificate(host(reconnect=False), entry(thumbprint=sha1_thumbprint(other)))

    def test_which_is_told(self, other: str) -> None:
        assert certificate_to_use(host(), Sight(HERE, None, ESXI_PEM)) == ESXI_PEM
        with pytest.raises(RefusedError, match=f"is not the one that {NAME} reported"):
            certificate_to_use(host(), Sight(HERE, None, other))
        with pytest.raises(RefusedError):
            certificate_to_use(host(), Sight(HERE, entry(state="disconnected"), other))
        # the one that vCenter itself knows it by
        known = entry(state="disconnected", thumbprint=sha1_thumbprint(other))
        assert certificate_to_use(host(), Sight(HERE, known, other)) == other
        anybody = host(certificate=None, trust_on_first_use=True)
        assert certificate_to_use(anybody, Sight(HERE, None, other)) == other
        with pytest.raises(RefusedError):
            certificate_to_use(anybody, Sight(HERE, None, None))


class TestEntries:
    @staticmethod
    def inventory(*hosts: tuple[str, str]) -> Inventory:
        nodes = {"root": _Node(None, "folder", "Datacenters", None, "unknown")}
        for number, (name, state) in enumerate(hosts):
            nodes[f"h{number}"] = _Node(None, "host", name, None, state)
        return Inventory(nodes, "root")

    def test_by_name_then_by_address(self) -> None:
        both = self.inventory(("192.0.2.21", "connected"), ("ESX01.example.com", "connected"))
        assert t.cast(HostEntry, entry_of(host(), both)).name == "ESX01.example.com"
        address = self.inventory(("192.0.2.21", "connected"))
        assert t.cast(HostEntry, entry_of(host(), address)).name == "192.0.2.21"
        assert entry_of(host(), self.inventory(("192.0.2.22", "connected"))) is None
        assert entry_of(host(address=NAME), address) is None

    def test_of_two_the_one_in_use(self) -> None:
        twice = self.inventory((NAME, "notResponding"), (NAME, "connected"))
        assert t.cast(HostEntry, entry_of(host(), twice)).state == "connected"
