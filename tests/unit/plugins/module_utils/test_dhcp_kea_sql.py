# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kea's reservations as one script: nothing in it that psql would misread, and what psql prints is understood."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import Reservation
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea_sql import (
    Conflict,
    Row,
    parse,
    script,
    subnet_id,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

SERVER = "192.168.77.10"
ONE = Reservation("esx01.example.com", ("00:50:56:aa:01:01", "00:50:56:aa:01:02"), "192.168.77.21")


def text(write=True):
    return script(SERVER, [(ONE, 3232255232)], [ONE.name, "gone"], [ONE.name, "other"], write)


def copied(table):
    found = re.search(rf"^COPY {table} FROM STDIN;\n(.*?)^\\\.$", text(), re.MULTILINE | re.DOTALL)
    return [line.split("\t") for line in found[1].splitlines()]


def test_data_are_copied_and_are_part_of_no_statement():
    assert copied("esxi_wanted") == [
        [ONE.name, r"\\x005056aa0101", "3232255253", "esx01", "3232255232"],
        [ONE.name, r"\\x005056aa0102", "3232255253", "esx01", "3232255232"],
    ]
    assert copied("esxi_named") == [[ONE.name], ["gone"]]
    assert copied("esxi_known") == [[ONE.name], ["other"]]


def test_looking_writes_nothing():
    look = text(write=False)
    assert look.endswith("ROLLBACK;\n") and "\nCOMMIT" not in look and "INSERT" not in look
    assert "DELETE FROM hosts" not in look and "advisory" not in look
    assert text().endswith("COMMIT;\n")


def test_kea_can_read_the_mark():
    mark, end = re.search(
        r"SELECT mac, 0, subnet, address, hostname, '(.*?)' \|\| host \|\| '(.*?)' FROM", text()
    ).groups()
    assert json.loads(f"{mark}{ONE.name}{end}") == {"pxemanager.esxi": {"server": SERVER, "host": ONE.name}}


@pytest.mark.parametrize("server", ["x", "1.2.3.4'", ""])
def test_the_server_is_an_address(server):
    with pytest.raises(ValueError, match="."):
        script(server, [], [], [], True)


@pytest.mark.parametrize("name", ["a\tb", "a\n\\\\.", "'; DROP TABLE hosts; --"])
def test_no_name_can_smuggle_anything_in(name):
    for arguments in ([[name], []], [[], [name]]):
        with pytest.raises(EsxiPxeError):
            script(SERVER, [], *arguments, True)


def test_what_psql_prints():
    lines = [
        "",
        "clash\tesx02.example.com\t005056aa0201\t3232255254\tprinter\t",
        "clash\tesx03.example.com\t\t3232255255\tesx09\t"
        '{"pxemanager.esxi": {"server": "10.0.0.1", "host": "esx09.x.y"}}',
        "old\tesx01.example.com\t005056aa0101\t3232255264\tesx01",
        "new\tesx01.example.com\t005056aa0101\t3232255253\tesx01",
    ]
    answer = parse("\n".join(lines), SERVER)
    assert answer.conflicts == [
        Conflict("esx02.example.com", "00:50:56:aa:02:01", "192.168.77.22", "printer"),
        Conflict("esx03.example.com", "", "192.168.77.23", "esx09.x.y of the PXE server 10.0.0.1"),
    ]
    assert answer.old == [Row("esx01.example.com", "00:50:56:aa:01:01", "192.168.77.32", "esx01")]
    assert answer.new == [Row("esx01.example.com", "00:50:56:aa:01:01", "192.168.77.21", "esx01")]


@pytest.mark.parametrize("line", ["x", "new\ta", "new\ta\tb\tc\td", "what\ta\tb\t1\td"])
def test_anything_else_that_psql_prints_is_an_error(line):
    with pytest.raises(EsxiPxeError, match="cannot be understood"):
        parse(line, SERVER)


def test_a_network_is_known_by_its_own_address():
    networks = ["192.168.77.0/24", "10.0.0.0/8", "10.1.2.0/24"]
    assert subnet_id("192.168.77.21", networks) == 0xC0A84D00
    assert subnet_id("10.1.2.3", networks) == 0x0A010200, "the smallest, as Kea chooses by the router's address"
    assert subnet_id("10.9.9.9", networks) == 0x0A000000
    assert subnet_id("172.16.0.1", networks) is None
