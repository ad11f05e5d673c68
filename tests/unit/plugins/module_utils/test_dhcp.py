# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DHCP reservations: nothing in them that dnsmasq would take for something else."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import (
    Reservation,
    dhcpd_blocks,
    dhcpd_file,
    leases_of,
    needs_reload,
    reservation,
    reservation_of_record,
    reserved,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import Dhcp, default_config
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

CONFIG = default_config()


def host(**changes):
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.errors
    return next(iter(parsed.hosts.values()))


def test_all_macs_share_one_address_and_there_are_no_tags():
    assert reservation(host(), CONFIG) == "00:50:56:aa:01:01,00:50:56:aa:01:02,192.168.77.21,esx01\n"


def test_the_address_while_installing_is_the_one_reserved():
    network = {"address": "10.0.0.5/24", "boot_address": "192.168.77.121"}
    assert ",192.168.77.121," in (reservation(host(network=network), CONFIG) or "")


def test_without_an_address_there_is_no_reservation():
    assert reservation(host(network={"bootproto": "dhcp"}), CONFIG) is None
    text = reservation(host(network={"bootproto": "dhcp", "address": "192.168.77.9"}), CONFIG)
    assert text is not None and ",192.168.77.9," in text


@pytest.mark.parametrize("mode", ["proxy", "none", "kea", "dhcpd"])
def test_somebody_elses_dhcp_gets_no_reservations(mode):
    assert reservation(host(), dataclasses.replace(CONFIG, dhcp=Dhcp(mode=mode))) is None


@pytest.mark.parametrize("short", ["ignore", "infinite", "12h", "45m", "1d", "2w", "30s", "3600"])
def test_a_name_that_dnsmasq_would_misread_is_left_out(short):
    text = reservation(host(name=f"{short}.example.com"), CONFIG)
    assert text == "00:50:56:aa:01:01,00:50:56:aa:01:02,192.168.77.21\n"


@pytest.mark.parametrize("short", ["esx-12h", "ignored", "h12"])
def test_other_names_are_kept(short):
    assert (reservation(host(name=f"{short}.example.com"), CONFIG) or "").endswith(f",{short}\n")


@pytest.mark.parametrize(
    "change",
    [
        {"macs": ("00:50:56:aa:bb:01\n11:22:33:44:55:66",)},
        {"macs": ("set:x",)},
        {"name": "a,set:x"},
        {"name": "a\nb"},
    ],
)
def test_nothing_can_be_smuggled_in(change):
    with pytest.raises(LayoutError):
        reservation(dataclasses.replace(host(), **change), CONFIG)


@pytest.mark.parametrize("address", ["192.168.77.21,set:x", "x", "1.2.3.4\n"])
def test_no_address_can_smuggle_anything_in(address):
    good = host()
    bad = dataclasses.replace(good, network=dataclasses.replace(good.network, boot_address=address))
    with pytest.raises(LayoutError):
        reservation(bad, CONFIG)


def test_only_what_dnsmasq_does_not_notice_needs_a_reload():
    assert not needs_reload(None, "new")
    assert not needs_reload("same", "same")
    assert needs_reload("old", "new")
    assert needs_reload("old", None)


def test_the_leases_that_a_reservation_leads_to():
    assert leases_of(reservation(host(), CONFIG)) == {
        ("00:50:56:aa:01:01", "192.168.77.21"),
        ("00:50:56:aa:01:02", "192.168.77.21"),
    }
    for damaged in (None, "", "{", "00:50:56:aa:01:01\n", "192.168.77.21\n", "00:50:56:AA:01:01,192.168.77.21\n"):
        assert leases_of(damaged) == set()


def test_what_is_reserved_follows_from_the_definition_and_from_the_record_alike():
    for one in (host(), host(network={"bootproto": "dhcp"}), host(network={"address": "10.0.0.5/24"})):
        assert reserved(one) == reservation_of_record(one.to_record())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x; }"},
        {"name": "\n"},
        {"macs": "00:50:56:aa:01:01"},
        {"macs": [1]},
        {"macs": ["00:50:56:aa:01:01; }"]},
        {"network": {"boot_address": "192.168.77.256"}},
        {"network": {"boot_address": "1.2.3.4; }"}},
    ],
)
def test_a_damaged_record_is_no_reservation(change):
    with pytest.raises(LayoutError):
        reservation_of_record({**host().to_record(), **change})
    assert reservation_of_record({**host().to_record(), "network": None}) is None


def test_the_file_for_dhcpd():
    two = Reservation("group", ("00:50:56:aa:02:01",), "192.168.77.22")
    text = dhcpd_file([two, reserved(host())])
    assert text.splitlines() == [
        "# Written by pxemanager.esxi when hosts are published; changes made by hand are lost.",
        "# host esx01.example.com",
        "host esxi-pxe-005056aa0101 { hardware ethernet 00:50:56:aa:01:01; fixed-address 192.168.77.21; "
        'option host-name "esx01"; }',
        "host esxi-pxe-005056aa0102 { hardware ethernet 00:50:56:aa:01:02; fixed-address 192.168.77.21; "
        'option host-name "esx01"; }',
        "# host group",
        "host esxi-pxe-005056aa0201 { hardware ethernet 00:50:56:aa:02:01; fixed-address 192.168.77.22; "
        'option host-name "group"; }',
    ]
    blocks = dhcpd_blocks(text)
    assert list(blocks) == ["esx01.example.com", "group"]
    assert blocks["esx01.example.com"].count("fixed-address") == 2
    assert dhcpd_blocks("") == dhcpd_blocks("# a head\n") == {}
