# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kea with PostgreSQL, and ISC dhcpd: machines are offered the same as under dnsmasq, whichever of them serves.

The regression tests of test_dnsmasq.py, with the real servers, and what is particular to each.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import threading
import time

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _dhcp_isc
from ansible_collections.pxemanager.esxi.tests.support import dhcp_servers
from ansible_collections.pxemanager.esxi.tests.support.commands import run_command
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition
from ansible_collections.pxemanager.esxi.tests.support.served_hosts import ServedHosts
from pxelab import dhcp

SERVER, SECOND, CLIENT = (f"pxedhcp{os.getpid()}{side}" for side in "stc")
ONE, TWO = definition(1), definition(2)
NAME, NAME2 = ONE["name"], TWO["name"]
MAC, MAC2 = ONE["macs"]
MAC3 = TWO["macs"][0]
NEW = "00:50:56:aa:01:77"

NO_KEA = dhcp_servers.missing("kea-dhcp4", "psql") or (
    None if dhcp_servers.postgresql_programs() else "needs a PostgreSQL server; tests/packages.txt lists the package"
)
NO_DHCPD = dhcp_servers.missing("dhcpd")
pytestmark = [pytest.mark.root]
needs_kea = pytest.mark.skipif(NO_KEA is not None, reason=str(NO_KEA))
needs_dhcpd = pytest.mark.skipif(NO_DHCPD is not None, reason=str(NO_DHCPD))


@pytest.fixture(scope="module")
def network():
    with dhcp_servers.cable(SERVER, SECOND, CLIENT):
        yield


@pytest.fixture(scope="module")
def postgresql():
    cluster = dhcp_servers.PostgreSQL()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def kea(network, postgresql, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kea")
    relayed = [{"subnet": "10.1.2.0/24", "gateway": "10.1.2.1", "dns_servers": ["10.9.9.9"]}]
    config = dhcp_servers.kea_config(postgresql, pxe_server_relayed_subnets=relayed)
    server = dhcp_servers.Kea(SERVER, folder, config)
    yield server
    server.kill()


@pytest.fixture
def database(postgresql):
    postgresql.empty()
    return postgresql


@pytest.fixture
def served_by_kea(kea, database, tmp_path):
    return ServedHosts(tmp_path / "server", CLIENT, None, dhcp=database.settings())


@pytest.fixture
def served_by_dhcpd(network, tmp_path):
    include = tmp_path / "esxi-pxe-hosts.conf"
    include.write_text("")
    dhcpd = dhcp_servers.Dhcpd(SECOND, tmp_path, include)
    settings = {"mode": "dhcpd", "reload": ["restart-dhcpd"], "include": str(include)}
    yield ServedHosts(tmp_path / "server", CLIENT, dhcpd.restart, dhcp=settings)
    dhcpd.stop()


BOTH = [pytest.param("kea", marks=needs_kea), pytest.param("dhcpd", marks=needs_dhcpd)]


@pytest.fixture(params=BOTH)
def server(request):
    return request.getfixturevalue(f"served_by_{request.param}")


def moved(address, macs=(MAC, MAC2), number=1, **changes):
    return definition(number, macs=list(macs), network={"address": f"{address}/24"}, **changes)


# The same under each server.


def test_a_published_host_is_served_at_once_on_each_of_its_macs(server):
    server.good("published", ONE, TWO)
    assert server.offered(MAC) == server.offered(MAC2) == "192.168.77.21"
    assert server.offered(TWO["macs"][1]) == "192.168.77.22"
    assert server.refused("00:50:56:ff:ff:ff")
    assert server.good("published", ONE, TWO)["changed"] is False


FIRMWARE = [
    (dhcp.BIOS_PXE, "pxelinux.0", ""),
    (dhcp.UEFI_PXE, "mboot.efi", ""),
    (dhcp.IPXE_UEFI, "http://192.168.77.10/boot.ipxe", ""),
    (dhcp.UEFI_HTTP, "http://192.168.77.10/http/mboot.efi", "HTTPClient"),
    (dhcp.IPXE_BIOS, "pxelinux.0", ""),
    (dhcp.INSTALLER, "", ""),
]


def test_what_each_firmware_is_told(server):
    server.good("published", ONE)
    for persona, file, vendor_class in FIRMWARE:
        answer = server.answer(MAC, persona)
        assert (answer.yiaddr, answer.siaddr, answer.file) == ("192.168.77.21", "192.168.77.10", file), persona
        assert answer.text(dhcp.VENDOR_CLASS) == vendor_class
        assert answer.address(dhcp.ROUTER) == "192.168.77.1"
        assert answer.text(dhcp.HOST_NAME) == "esx01"
        # For the machine the lease lasts an hour, whatever Kea thinks, and it renews when it is used to.
        assert int.from_bytes(answer.options[51], "big") == 3600
        assert 58 not in answer.options and 59 not in answer.options


def test_two_hosts_exchange_their_addresses(server):
    server.good("published", ONE, TWO)
    assert (server.offered(MAC), server.offered(MAC3)) == ("192.168.77.21", "192.168.77.22")
    server.good("published", moved("192.168.77.22"), moved("192.168.77.21", macs=TWO["macs"], number=2))
    assert (server.offered(MAC), server.offered(MAC3)) == ("192.168.77.22", "192.168.77.21")


def test_a_nic_is_replaced_and_the_address_stays(server):
    server.good("published", ONE)
    assert server.offered(MAC) == "192.168.77.21"
    server.good("published", moved("192.168.77.21", macs=(NEW,)))
    assert server.offered(NEW) == "192.168.77.21"
    assert server.refused(MAC)


def test_a_removed_host_is_no_longer_served_and_another_gets_its_address(server):
    server.good("published", ONE, TWO)
    assert server.offered(MAC) == "192.168.77.21"
    server.good("absent", ONE)
    server.good("published", moved("192.168.77.21", macs=TWO["macs"], number=2))
    assert server.offered(MAC3) == "192.168.77.21"
    assert server.refused(MAC)


@needs_dhcpd
def test_names_that_mean_something_to_dhcpd(served_by_dhcpd):
    names = ["group.example.com", "host.example.com", "12h.example.com", "3600.example.com"]
    served_by_dhcpd.good("published", *(definition(number, name=name) for number, name in enumerate(names, 1)))
    assert served_by_dhcpd.offered("00:50:56:aa:04:02") == "192.168.77.24"


# Kea.


@needs_kea
def test_a_relayed_network(served_by_kea):
    served_by_kea.good("published", moved("10.1.2.50"))
    dhcp_servers.ip("-n", CLIENT, "address", "replace", "192.168.77.1/24", "dev", "eth0")
    dhcp_servers.ip("-n", CLIENT, "address", "replace", "10.1.2.1/24", "dev", "lo")
    dhcp_servers.ip("-n", SERVER, "route", "replace", "10.1.2.0/24", "via", "192.168.77.1")
    answer = served_by_kea.answer(MAC, dhcp.UEFI_PXE, giaddr="10.1.2.1", broadcast=False)
    assert (answer.yiaddr, answer.siaddr, answer.file) == ("10.1.2.50", "192.168.77.10", "mboot.efi")
    assert answer.address(dhcp.ROUTER) == "10.1.2.1"
    assert answer.address(dhcp.DNS) == "10.9.9.9"
    # A machine of another network that was plugged in here is not given an address that cannot work here.
    assert served_by_kea.refused(MAC)
    value = served_by_kea.call("published", definition(2, network={"address": "10.9.9.22/24"}))
    assert value["hosts"][NAME2]["msg"].startswith(
        f"The address 10.9.9.22 of {NAME2} is in no network of this PXE server (192.168.77.0/24, 10.1.2.0/24)"
    )


@needs_kea
def test_a_machine_keeps_its_address_for_as_long_as_it_was_told(served_by_kea):
    """Kea's own lease has run out long before: renewing, and booting with a remembered address."""
    served_by_kea.good("published", ONE)
    assert served_by_kea.offered(MAC) == "192.168.77.21"
    time.sleep(2.1)
    # The answer comes to the address that the machine has.
    dhcp_servers.ip("-n", CLIENT, "link", "set", "eth0", "address", MAC)
    dhcp_servers.ip("-n", CLIENT, "address", "replace", "192.168.77.21/24", "dev", "eth0")
    try:
        renewed = served_by_kea.answer(MAC, dhcp.INSTALLED, kind=dhcp.REQUEST, ciaddr="192.168.77.21", broadcast=False)
    finally:
        dhcp_servers.ip("-n", CLIENT, "address", "flush", "dev", "eth0")
    assert (renewed.kind, renewed.yiaddr) == (dhcp.ACK, "192.168.77.21")
    asked = {dhcp.REQUESTED_ADDRESS: socket.inet_aton("192.168.77.21")}
    remembered = served_by_kea.answer(MAC, dhcp.INSTALLED, kind=dhcp.REQUEST, options=asked)
    assert (remembered.kind, remembered.yiaddr) == (dhcp.ACK, "192.168.77.21")
    # Somebody else's machine that asks for an address of another network is left alone.
    other = {dhcp.REQUESTED_ADDRESS: socket.inet_aton("10.9.8.7")}
    assert served_by_kea.answer("00:50:56:ff:ff:ff", dhcp.INSTALLED, 0.7, kind=dhcp.REQUEST, options=other) is None


@needs_kea
def test_the_standby_answers_when_the_primary_is_killed(database, tmp_path):
    """Both read the same database. Nothing else is shared, and no lease is passed on."""
    one, two, machines = (f"pxepair{os.getpid()}{side}" for side in "ptc")
    pair = {
        "pxe_server_kea_ha_peers": [
            {"name": "pxe01", "address": "192.168.77.10", "role": "primary"},
            {"name": "pxe02", "address": "192.168.77.11", "role": "standby"},
        ],
        "pxe_server_kea_ha_password": "a#secret:of,two",
    }
    started = []
    with dhcp_servers.cable(one, two, machines):
        try:
            for namespace, address in ((one, "192.168.77.10"), (two, "192.168.77.11")):
                config = dhcp_servers.kea_config(database, pxe_server_address=address, **pair)
                started.append(dhcp_servers.Kea(namespace, tmp_path / address, config))
            primary, standby = started
            server = ServedHosts(tmp_path / "server", machines, None, dhcp=database.settings())
            server.good("published", ONE)
            for each in started:
                each.wait_for("HOT-STANDBY")
            assert {server.lease(MAC).server for _attempt in range(3)} == {"192.168.77.10"}
            primary.kill()
            lease = server.lease(MAC, within=20)
            assert (lease.address, lease.server, lease.boot_server) == (
                "192.168.77.21",
                "192.168.77.11",
                "192.168.77.11",
            )
            # The database is shared: what is published while one is away is served by the other at once.
            server.good("published", TWO)
            assert server.offered(MAC3) == "192.168.77.22"
        finally:
            for each in started:
                each.kill()


# The database, without a DHCP server.


@pytest.fixture
def site(database, tmp_path):
    return PxeServer(tmp_path / "server", dhcp=database.settings())


ROWS_ONE = [(MAC, "192.168.77.21", "esx01"), (MAC2, "192.168.77.21", "esx01")]
ROWS_TWO = [(mac, "192.168.77.22", "esx02") for mac in TWO["macs"]]


@needs_kea
def test_check_mode_shows_the_reservation_and_writes_nothing(site, database):
    value = site.good("published", ONE, check_mode=True, diff=True)
    assert value["hosts"][NAME]["changed"] is True
    assert database.rows() == []
    shown = "".join(diff["after"] for diff in value["diff"])
    assert f"reservation in Kea's database: {MAC} 192.168.77.21 esx01" in shown
    site.good("published", ONE)
    assert site.good("published", ONE, check_mode=True)["changed"] is False
    value = site.good("absent", ONE, check_mode=True, diff=True)
    assert MAC in "".join(diff["before"] for diff in value["diff"])
    assert database.rows() == ROWS_ONE


@needs_kea
def test_only_what_differs_is_written(site, database):
    site.good("published", ONE, TWO)
    ids = "SELECT encode(dhcp_identifier, 'hex') || host_id FROM hosts ORDER BY 1"
    before = database.sql(ids, database="kea")
    value = site.good("published", ONE, definition(2, network={"address": "192.168.77.99/24"}))
    assert (value["hosts"][NAME]["changed"], value["hosts"][NAME2]["changed"]) == (False, True)
    after = database.sql(ids, database="kea")
    assert before[:2] == after[:2] and set(before[2:]).isdisjoint(after[2:])


def foreign(database, mac, address, context="NULL", subnet=1):
    database.sql(
        "INSERT INTO hosts (dhcp_identifier, dhcp_identifier_type, dhcp4_subnet_id, ipv4_address, hostname, "
        f"user_context) VALUES (decode('{mac.replace(':', '')}', 'hex'), 0, {subnet}, '{address}'::inet - "
        f"'0.0.0.0'::inet, 'printer', {context})",
        database="kea",
    )


@needs_kea
@pytest.mark.parametrize(
    ("mac", "address", "what"),
    [
        (MAC2, "192.168.77.200", f"MAC address {MAC2}"),
        ("00:11:22:33:44:55", "192.168.77.21", "IP address 192.168.77.21"),
    ],
)
@pytest.mark.parametrize("context", ["NULL", '\'{"site": "ours"}\''])
def test_somebody_elses_reservation_is_a_conflict_and_stays(site, database, mac, address, what, context):
    foreign(database, mac, address, context)
    kept = database.rows()
    value = site.call("published", ONE, TWO)
    assert value["failed_hosts"] == [NAME]
    assert value["hosts"][NAME]["msg"] == (
        f"The {what} of {NAME} is in a reservation of printer in Kea's database, which this PXE server has not made "
        "and leaves alone: correct one of the two, or remove that reservation."
    )
    assert value["hosts"][NAME]["changed"] is False and not site.layout.record(NAME).exists()
    assert sorted(kept + ROWS_TWO) == database.rows()
    # Taking the host away, or others, does not touch it either.
    site.good("absent", ONE, TWO)
    assert database.rows() == kept


@needs_kea
def test_two_pxe_servers_share_a_database(site, database, tmp_path):
    other = PxeServer(tmp_path / "other", dhcp=database.settings(), address="192.168.78.10")
    site.good("published", ONE)
    contexts = database.sql("SELECT user_context FROM hosts", database="kea")
    wanted = {"pxemanager.esxi": {"server": "192.168.77.10", "host": NAME}}
    assert [json.loads(context) for context in contexts] == [wanted, wanted]
    value = other.call("published", ONE, TWO)
    assert value["failed_hosts"] == [NAME]
    assert f"is in a reservation of {NAME} of the PXE server 192.168.77.10" in value["hosts"][NAME]["msg"]
    assert database.rows() == ROWS_ONE + ROWS_TWO
    other.good("absent", ONE)
    assert database.rows() == ROWS_ONE + ROWS_TWO


@needs_kea
def test_many_controllers_at_once_lose_nothing(database, tmp_path):
    """Each is another PXE server, so that no lock on a disk keeps them apart."""
    problems = []

    def publish(number):
        server = PxeServer(tmp_path / str(number), dhcp=database.settings(), address=f"192.168.77.{230 + number}")
        for step in range(2):
            mine = [definition(1 + number * 10 + step * 3 + index) for index in range(3)]
            try:
                server.good("published", *mine)
                server.good("published", *mine)
            except BaseException as error:
                problems.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(database.rows()) == 3 * 6 * 2


@needs_kea
def test_what_a_killed_call_owed_is_made_up_for(site, database):
    """Killed when the files are there and the database does not know: the next run sees it by comparing."""
    calls = []

    def killed(argv, data, environment):
        calls.append(argv)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_command(argv, data, environment)

    with pytest.raises(KeyboardInterrupt):
        site.good("published", ONE, run=killed)
    assert site.layout.record(NAME).exists() and database.rows() == []
    assert site.good("published", ONE)["changed"] is True
    assert database.rows() == ROWS_ONE
    with pytest.raises(KeyboardInterrupt):
        site.good("absent", ONE, run=lambda *words: (nothing for nothing in ()).throw(KeyboardInterrupt()))
    assert not site.layout.record(NAME).exists() and database.rows() == ROWS_ONE
    site.good("absent", ONE)
    assert database.rows() == []


@needs_kea
def test_reservations_of_hosts_that_were_retired_under_another_server_go(site, database, tmp_path):
    site.good("published", ONE, TWO)
    dnsmasq = PxeServer(tmp_path / "server")
    dnsmasq.good("published", TWO)
    dnsmasq.good("absent", ONE)
    assert database.rows() == ROWS_ONE + ROWS_TWO
    assert dnsmasq.layout.reservation(NAME2).exists()
    value = site.good("published", TWO, diff=True)
    assert database.rows() == ROWS_TWO
    assert value["changed"] is True
    assert any(diff["before_header"] == "reservations of other hosts" for diff in value["diff"])
    assert not site.layout.reservation(NAME2).exists()


@needs_kea
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"host": "127.0.0.1", "password_file": "/dev/null"}, "no password supplied"),
        ({"port": 1}, "refused|No such file"),
        ({"name": "other"}, "does not exist"),
    ],
)
def test_a_database_that_cannot_be_had(database, tmp_path, changes, text):
    server = PxeServer(tmp_path / "server", dhcp=database.settings(**changes))
    value = server.call("published", ONE)
    assert value["failed_hosts"] == [NAME] and value["hosts"][NAME]["changed"] is False
    msg = value["hosts"][NAME]["msg"]
    assert re.search(text, msg) and f"so nothing was done for {NAME}: see that PostgreSQL runs" in msg
    assert not server.layout.record(NAME).exists()


@needs_kea
def test_by_password_as_the_role_sets_it_up(database, tmp_path):
    server = PxeServer(tmp_path / "server", dhcp=database.settings(host="127.0.0.1"))
    server.good("published", ONE)
    assert database.rows() == ROWS_ONE


# ISC dhcpd.


@needs_dhcpd
def test_a_file_with_a_fault_never_counts(served_by_dhcpd, monkeypatch):
    server = served_by_dhcpd
    server.good("published", ONE)
    include = pathlib.Path(server.config.dhcp.include)
    before = include.read_text()
    monkeypatch.setattr(_dhcp_isc, "dhcpd_file", lambda reservations: "# host x\nhost x { hardware }\n")
    value = server.call("published", TWO)
    assert value["failed_hosts"] == [NAME2]
    assert "ISC dhcpd finds a fault in" in value["hosts"][NAME2]["msg"] and "line 2" in value["hosts"][NAME2]["msg"]
    assert include.read_text() == before
    assert [path.name for path in include.parent.glob(".*")] == []
    assert server.reloads == 1


@needs_dhcpd
def test_a_restart_that_failed_is_made_up_for(served_by_dhcpd):
    server = served_by_dhcpd
    server.reload_problem = "systemctl restart isc-dhcp-server ended with 1: failed"
    value = server.call("published", ONE)
    assert value["failed_hosts"] == [NAME]
    server.reload_problem = None
    server.good("published", ONE)
    assert server.reloads == 2
    assert server.offered(MAC) == "192.168.77.21"
    assert server.good("published", ONE)["changed"] is False
    assert server.reloads == 2
