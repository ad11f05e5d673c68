# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of a boot storm: what they send, and how they take what the PXE server says."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import firstboot_script, post_script, pre_script
from pxelab import storm, storm_machines, storm_site
from pxelab.kickstart import Section

MAC = "00:50:56:00:00:01"
SPEC = {"name": "esx1", "macs": [MAC], "firmware": "bios", "uuid": "00" * 16, "address": "10.77.1.1"}


class Wireless:
    """In the place of the switch: nobody is there."""

    def plug(self, mac: str) -> None:
        raise AssertionError("no machine of these tests does DHCP")


class Machine(storm_machines.StormMachine):
    """A machine whose reports are answered as a test says."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__(SPEC, t.cast("storm_machines.Switch", Wireless()), "PEM")
        self.answers, self.sent, self.waited = list(answers), [], []

    def _post(self, url: str, token: str, body: bytes) -> tuple[int, bytes]:
        self.sent.append((url, token, json.loads(body)))
        return self.answers.pop(0)

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)


def handed_out(text: str) -> Section:
    """A section as the pbconnect service hands it out."""
    return Section("%pre", {}, text.replace("@PBCONNECT_URL@", "http://s/n").replace("@PBCONNECT_TOKEN@", "secret"))


GOOD = (200, b'{"ok": true, "stage": "installing"}')


@pytest.mark.parametrize(
    "script, stage",
    [
        (pre_script(MAC, 300, None), "installing"),
        (pre_script(MAC, 300, "esxcfg-info"), "installing"),
        (post_script(MAC, 120, None, 60, True), "installed"),
        (firstboot_script(MAC, 900, []), "ready"),
    ],
)
def test_what_the_scripts_of_a_kickstart_would_report_is_reported(script: str, stage: str) -> None:
    machine = Machine(GOOD)
    assert machine.play(handed_out(script)) == 0
    ((url, token, body),) = machine.sent
    assert (url, token, body["stage"], body["mac"]) == ("http://s/n", "secret", stage, MAC)
    assert ("certificate" in body) == (stage == "ready")


def test_a_busy_server_is_asked_again_and_a_refusal_is_taken() -> None:
    machine = Machine((503, b""), (429, b""), (0, b"timed out"), GOOD)
    assert machine.play(handed_out(pre_script(MAC, 300, None))) == 0
    assert machine.waited == [1.0, 2.0, 4.0]
    assert machine.counters["pbconnect_retries"] == 3
    machine = Machine((403, b"{}"))
    assert machine.play(handed_out(pre_script(MAC, 300, None))) == 1, "the install stops"
    assert machine.play(Section("%post", {}, "echo nothing to report\n")) == 0


def test_a_machine_with_an_address_that_is_not_its_own_stops() -> None:
    with pytest.raises(storm_machines.InstallFailed, match=r"10\.77\.1\.2"):
        Machine().wire.set_address(0, "10.77.1.2", 16, None)


def test_a_frame_is_what_a_machine_without_an_address_broadcasts() -> None:
    frame = storm_machines.frame(MAC, b"payload")
    assert frame[:14] == b"\xff" * 6 + bytes.fromhex("005056000001") + b"\x08\x00"
    words = [int.from_bytes(frame[14 + at : 16 + at], "big") for at in range(0, 20, 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF, "checksum"
    assert frame[26:34] == bytes(4) + b"\xff" * 4
    assert frame[34:38] == (68).to_bytes(2, "big") + (67).to_bytes(2, "big")
    assert frame[42:] == b"payload"


def test_hosts_of_a_storm_are_all_different() -> None:
    hosts = [storm_site.host(number) for number in range(storm.MAX_HOSTS)]
    assert len({storm_site.address_of(one) for one in hosts}) == len(hosts)
    assert len({mac for one in hosts for mac in one["macs"]}) == 2 * len(hosts)
    assert storm_site.ADDRESS not in {storm_site.address_of(one) for one in hosts}


def machine_result(**counters: int) -> dict[str, t.Any]:
    return {"name": "esx1", "firmware": "bios", "end": "running", "counters": counters, "seconds": [], "console": []}


@pytest.mark.parametrize(
    "name, counters, wrong",
    [
        ("install", {"install_starts": 1, "installs": 1}, False),
        ("install", {"install_starts": 2, "installs": 1}, True),
        ("install", {}, True),
        ("power cycle", {}, False),
        ("power cycle", {"install_starts": 1}, True),
    ],
)
def test_a_loop_is_seen(name: str, counters: dict[str, int], wrong: bool) -> None:
    outcome = storm.Outcome(name, 1.0, [machine_result(**counters)], {})
    assert bool(storm._wrong(outcome, {})) is wrong
