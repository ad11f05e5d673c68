# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines: what their consoles tell, and what the run makes of what loaders did not find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pxelab import firmware_runs, flaps, inventory, paths, server
from pxelab.firmware import Hardware
from pxelab.virtual import VirtualMachine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualMachine:
    monkeypatch.setattr(paths, "MACHINES", tmp_path / "machines")
    monkeypatch.setattr(paths, "LOGS", tmp_path / "logs")
    hardware = Hardware("esx01.lab.example", 1, ("00:50:56:aa:01:01",), "uefi", b"\0" * 16, virtual=True)
    return VirtualMachine(hardware)


def hear(machine: VirtualMachine, *lines: str) -> None:
    for line in lines:
        machine._look(line)


INSTALL = (
    "pxelab: event installer",
    "pxelab: event began 00:50:56:aa:01:01",
    "pxelab: event installed",
    "pxelab: event reboot",
)


def test_an_install_and_its_first_boot_are_counted_once(machine: VirtualMachine) -> None:
    hear(
        machine,
        *INSTALL,
        "pxelab: event disk esx01.lab.example",
        "pxelab: event firstboot",
        "pxelab: event running 1.2.3.4",
    )
    assert machine.state == "running"
    wanted = {"install_starts": 1, "installs": 1, "loops": 0, "local_boots": 1, "reboots": 1}
    assert {key: machine.counters[key] for key in wanted} == wanted


def test_a_second_install_that_nobody_asked_for_is_a_loop(machine: VirtualMachine) -> None:
    hear(machine, *INSTALL, *INSTALL)
    assert machine.counters["loops"] == 1


def test_a_machine_with_nothing_to_boot_is_started_by_a_network_boot_request(machine: VirtualMachine) -> None:
    machine.on = True
    machine._show("firmware")
    machine.power("netboot")
    assert machine._wanted is None
    hear(machine, "BdsDxe: No bootable option or device was found.")
    assert machine.state == "no boot device"
    machine.power("netboot")
    assert machine._wanted == "cycle"


def test_a_loader_that_stands_still_is_a_hang(machine: VirtualMachine) -> None:
    hear(machine, "mboot: the machine stands still")
    assert (machine.state, machine.counters["hangs"]) == ("hung", 1)


def test_an_installer_that_stops_says_why(machine: VirtualMachine) -> None:
    hear(machine, "pxelab: event installer", "pxelab: event stopped no such disk")
    assert (machine.state, machine.reason, machine.counters["failed_installs"]) == ("stopped", "no such disk", 1)


class _Lab:
    def say(self, text: str) -> None:
        pass


@pytest.mark.parametrize(
    ("journal", "access", "wrong"),
    [
        ("file /srv/boot/pxelinux.cfg/00000000-0000-0000-0000-000000000000 not found", "", []),
        (
            "file /srv/boot/01-00-50-56-aa-01-01/boot.cfg not found",
            '"GET /ipxe/01-00-50-56-aa-01-01.ipxe HTTP/1.1" 404 0',
            [],
        ),
        ("file /srv/boot/images/esxi/k.b00 not found for 192.0.2.1", "", ["/srv/boot/images/esxi/k.b00"]),
        ("", '"HEAD /http/crypto64.efi HTTP/1.1" 404 0', ["/http/crypto64.efi"]),
        ("sent /srv/boot/mboot.efi to 192.0.2.1", '"GET /http/mboot.efi HTTP/1.1" 200 1', []),
    ],
)
def test_only_the_documented_search_may_find_nothing(
    monkeypatch: pytest.MonkeyPatch, journal: str, access: str, wrong: list[str]
) -> None:
    monkeypatch.setattr(server, "run", lambda line: journal if line.startswith("journalctl") else access)
    lab: Any = _Lab()
    found = firmware_runs.missing_files(lab)
    assert [text.split()[4].rstrip(",") for text in found] == wrong


def test_ipxe_by_tftp_is_a_setting_of_the_server_and_gets_a_lab_of_its_own() -> None:
    assert firmware_runs.rounds(("bios", "ipxe", "uefi")) == [("bios", "uefi"), ("ipxe",)]
    assert firmware_runs.rounds(("ipxe",)) == [("ipxe",)]


def test_every_flap_has_a_machine_and_the_lost_ones_do_not_wait_for_ever() -> None:
    planned = flaps.plan()
    assert len(planned) == len(flaps.FLAPS)
    for one, flap in zip(planned, flaps.FLAPS, strict=True):
        assert one.hardware.virtual
        assert ("esxi_host_timeout" in one.variables) == (not flap.ready)
        assert isinstance(json.loads(one.hardware.options.get("cut_power", "[]")), list)
    # one boots from a NIC that is not its management NIC
    assert any(one.hardware.boot_nics[0] != 0 for one in planned)
    assert inventory.plan_one(5).hardware.boot_nics == (1, 0)
