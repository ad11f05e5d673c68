# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pxemanager.esxi.plugins.filter.results import host_result
from ansible_collections.pxemanager.esxi.plugins.filter.sites import (
    call_groups,
    host_conflicts,
    images_wanted,
    in_group,
)

MAC = "00:50:56:aa:01:01"


def login(password="secret-1", hostname="vc1", **more):
    return {"hostname": hostname, "port": 443, "username": "admin", "password": password, **more}


def member(name, **more):
    return {"name": f"{name}.example.com", "host": name, **more}


def test_hosts_that_agree_are_one_call_and_its_group_shows_no_secret():
    hosts = [
        member("esx01", login=login()),
        member("esx02", login=login("secret-2")),
        member("esx03", login=login(hostname="vc2")),
        member("esx04", login=login()),
    ]
    groups = call_groups(hosts, ["login"])
    assert [(one["label"], one["first"], one["names"]) for one in groups] == [
        ("vc1", "esx01", ["esx01.example.com", "esx04.example.com"]),
        ("vc1", "esx02", ["esx02.example.com"]),
        ("vc2", "esx03", ["esx03.example.com"]),
    ]
    assert "secret" not in str(groups) and "admin" not in str(groups)
    assert in_group(hosts, groups[0]) == [hosts[0], hosts[3]]


def test_plain_settings_of_a_group_are_shown():
    hosts = [member("esx01", server="pxe1", template="a.j2"), member("esx02", server="pxe1", template="b.j2")]
    groups = call_groups(hosts, ["server", "template"])
    assert [(one["server"], one["template"], one["label"]) for one in groups] == [
        ("pxe1", "a.j2", "pxe1"),
        ("pxe1", "b.j2", "pxe1"),
    ]
    with pytest.raises(AnsibleFilterError, match="stuck_after"):
        call_groups(hosts, ["stuck_after"])


def test_a_call_for_a_group_that_failed_as_a_whole_is_the_failure_of_its_hosts_alone():
    hosts = [member("esx01", login=login()), member("esx02", login=login("other"))]
    first, second = call_groups(hosts, ["login"])
    good = {"failed": False, "changed": False, "msg": "fine"}
    calls = {
        "results": [
            {"ansible_loop_var": "vcenter", "vcenter": first, "msg": "wrong password"},
            {"ansible_loop_var": "vcenter", "vcenter": second, "hosts": {"esx02.example.com": good}},
        ]
    }
    # both are of one vCenter: its name alone would not tell them apart
    assert host_result([calls], "esx01.example.com", of="vc1")["msg"] == "esx01.example.com: vc1: wrong password"
    assert host_result([calls], "esx02.example.com", of="vc1") == good
    later = {"results": [{"ansible_loop_var": "call", "call": calls["results"][0], "msg": "skipped it"}]}
    assert host_result([later], "esx01.example.com")["msg"] == "esx01.example.com: vc1: skipped it"


def variables(server, macs=(MAC,), name=None, address="192.0.2.1"):
    """Of a host in the play."""
    return lambda host: {
        "esxi_host__self": {
            "name": name or host,
            "server": server,
            "api_address": address,
            "definition": {"macs": list(macs)},
        }
    }


def conflicts(*others, **hosts):
    hostvars = {host: make(host) for host, make in hosts.items()}
    return host_conflicts({**hostvars, **dict(others)}, hosts, "pxe1")


def test_a_mac_address_of_two_sites_is_refused_however_it_is_written():
    found = conflicts(
        esx01=variables("pxe1", ["00-50-56-AA-01-01"]),
        esx02=variables("pxe2", [MAC], address="192.0.2.2"),
        esx03=variables("pxe2", ["00:50:56:aa:01:03"], address="192.0.2.3"),
    )
    assert set(found) == {"esx01", "esx02"}
    assert "00-50-56-AA-01-01" in found["esx01"] and "esx02 on PXE server pxe2" in found["esx01"]
    assert "esxi_host_macs" in found["esx02"]


def test_what_one_pxe_server_knows_is_left_to_it():
    assert conflicts(esx01=variables("pxe1"), esx02=variables("pxe1")) == {}


def test_hosts_that_are_not_in_the_play_have_their_mac_addresses_too():
    other = ("esx09", {"esxi_host_macs": [MAC.upper()], "esxi_host_pxe_server": "pxe2"})
    assert "esx09 on PXE server pxe2" in conflicts(other, esx01=variables("pxe1"))["esx01"]
    same = ("esx09", {"esxi_host_macs": [MAC]})
    assert conflicts(same, esx01=variables("pxe1")) == {}, "it has the server that hosts have that name none"


def test_variables_that_cannot_be_made_out_are_left_alone():
    class Broken(dict):
        def get(self, key, default=None):
            raise RuntimeError("undefined")

    assert conflicts(("localhost", Broken()), ("esx09", {"esxi_host_macs": 7}), esx01=variables("pxe1")) == {}
    assert conflicts(esx01=variables("pxe1", macs=()), esx02=variables("pxe2", macs=(), address="")) == {}


def test_two_hosts_of_a_play_are_reached_at_two_addresses_and_have_two_names():
    found = conflicts(esx01=variables("pxe1", [MAC]), esx02=variables("pxe2", []))
    assert set(found) == {"esx01", "esx02"} and "esxi_host_api_address" in found["esx01"]
    names = conflicts(
        esx01=variables("pxe1", [], name="esx"), esx02=variables("pxe2", [], name="esx", address="192.0.2.2")
    )
    assert "esxi_host_name" in names["esx02"]


def test_images_are_wanted_where_hosts_use_them():
    hostvars = {
        "esx01": {"esxi_host_image": "esxi-8", "esxi_host_pxe_server": "pxe2"},
        "esx02": {"esxi_host_image": "esxi-9"},
        "esx03": {"esxi_host_image": "esxi-8", "esxi_host_pxe_server": "pxe2"},
        "esx04": {},
    }
    assert images_wanted(hostvars, hostvars, "pxe1") == {"pxe2": ["esxi-8"], "pxe1": ["esxi-9"]}
