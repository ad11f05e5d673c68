# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host belongs in an inventory, without a server."""

from __future__ import annotations

import typing as t
from types import SimpleNamespace

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session

if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    Inventory,
    PlaceError,
    _Node,
    machine_power,
)


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
                "There is no host folder 'Edge' in datacenter Europe/Berlin; there is: Racks, Racks/Rack/1. "
                "With create_folders it would be created.",
            ),
        ],
    )
    def test_places_that_are_not_there(self, wanted: dict[str, str], sentence: str) -> None:
        with pytest.raises(PlaceError) as caught:
            EUROPE.place(**wanted)
        assert str(caught.value) == sentence

    def test_a_folder_that_may_be_missing(self) -> None:
        place = EUROPE.place(datacenter="/Europe/Berlin", folder="Racks/New/R1", missing_allowed=True)
        assert (place.ref, place.missing) == ("ref of x1", ("New", "R1"))
        assert place.path == "/Europe/Berlin/host/Racks/New/R1"
        assert EUROPE.place(datacenter="/Europe/Berlin", folder="Racks", missing_allowed=True).missing == ()
        top = EUROPE.place(datacenter="Tokyo", folder="/Asia/Tokyo/host/A", missing_allowed=True)
        assert (top.ref, top.path, top.missing) == ("ref of h2", "/Asia/Tokyo/host/A", ("A",))
        # clusters and datacenters are not made
        for wanted in ({"datacenter": "Tokyo", "cluster": "None"}, {"datacenter": "None", "folder": "/"}):
            with pytest.raises(PlaceError):
                EUROPE.place(**wanted, missing_allowed=True)

    def test_what_a_host_is_in(self) -> None:
        clustered, alone = EUROPE.hosts_named("esx01.example.com")[0], EUROPE.hosts_named("esx02.example.com")[0]
        assert (clustered.in_cluster, clustered.resource) == (True, "ref of c1")
        assert clustered.datacenter == "/Europe/Berlin" == alone.datacenter
        assert (alone.in_cluster, alone.resource) == (False, "ref of s1")

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


def test_a_machine_of_the_agent_manager_does_not_count_as_running() -> None:
    owner = SimpleNamespace(extensionKey="com.vmware.vim.eam")
    assert machine_power({"runtime.powerState": "poweredOn", "config.managedBy": owner}) == "poweredOff"


def test_any_other_machine_is_what_it_says() -> None:
    owner = SimpleNamespace(extensionKey="com.example.backup")
    assert machine_power({"runtime.powerState": "poweredOn", "config.managedBy": owner}) == "poweredOn"
    assert machine_power({"runtime.powerState": "suspended"}) == "suspended"
    assert machine_power({}) is None
