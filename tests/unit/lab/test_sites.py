# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's two sites: nothing of one is that of the other."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
import yaml

from pxelab import inventory, lab, net, paths, report, server, site, sites, vcenter


def test_each_site_has_its_own_machines_networks_and_vcenter() -> None:
    planned = sites.plan(4)
    assert len({one.name for one in planned}) == len({one.address for one in planned}) == 8
    macs = [mac for one in planned for mac in one.hardware.macs]
    assert len(set(macs)) == len(macs)
    there = [one for one in planned if one.site == site.SECOND]
    relayed = ipaddress.ip_network(net.RELAYED_SUBNET)
    assert len(there) == 4 and all(ipaddress.ip_address(one.address) in relayed for one in there)
    assert ipaddress.ip_address(server.SECOND.address) not in relayed, "it hears the machines through the relay only"
    assert {one.hardware.firmware for one in there} == set(inventory.FIRMWARE), "every way to boot comes through it"
    assert {one.variables["esxi_host_vcenter"]["hostname"] for one in there} == {vcenter.SECOND.address}
    with pytest.raises(ValueError, match="1 to 9"):
        sites.plan(10)


def test_the_inventory_has_what_each_site_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "INVENTORY", tmp_path / "inventory")
    monkeypatch.setattr(paths, "RUN", tmp_path)
    passwords = inventory.Secrets()
    folder = inventory.write_sites(sites.plan(1), passwords, Path("/iso"), {"esxi_host_timeout": 5})
    logins = set()
    for one in (site.FIRST, site.SECOND):
        variables = yaml.safe_load((folder / f"group_vars/{one.name}.yml").read_text())
        assert variables["esxi_host_pxe_server"] == one.box.name
        logins.add((variables["esxi_host_vcenter_username"], variables["esxi_host_vcenter_password"]))
        assert yaml.safe_load((folder / f"host_vars/{one.box.name}.yml").read_text())["ansible_host"] == one.box.address
    assert len(logins) == 2 and passwords.of(vcenter.SECOND) == passwords.vcenter_b
    images = yaml.safe_load((folder / "group_vars/pxe_servers.yml").read_text())["pxe_server_images"]
    assert all(one["from"] == "controller" for one in images)


def test_a_relay_is_found_whatever_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    assert f"--dhcp-relay={net.RELAYED_GATEWAY},{net.SERVER_B_ADDRESS}" in lab.relay()
    monkeypatch.setattr(lab.shutil, "which", lambda name: f"/usr/sbin/{name}")
    assert lab.relay()[0] == "dhcrelay" and lab.relay()[-1] == net.SERVER_B_ADDRESS


def test_files_of_each_server_are_looked_for_in_its_own_tree() -> None:
    assert server.path(report.STATUS) != server.path(report.STATUS, server.SECOND)
