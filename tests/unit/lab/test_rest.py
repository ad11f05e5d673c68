# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path

import pytest

from pxelab import ansible, faults, inventory, lock, paths, procs, rootfs, supervisor, tftp
from pxelab.errors import LabError

RECAP = """\
PLAY RECAP *********************************************************************
\x1b[0;32mesx01.lab.example\x1b[0m          : \x1b[0;32mok=19  \x1b[0m changed=2    unreachable=0    failed=0
pxe01.lab.example          : ok=22   changed=0    unreachable=1    failed=0    skipped=5    rescued=0    ignored=0
"""


def test_the_recap_is_read_with_and_without_colours() -> None:
    recap = ansible.read_recap(f"PLAY RECAP in an earlier line\n{RECAP}")
    assert recap["esx01.lab.example"] == {"ok": 19, "changed": 2, "unreachable": 0, "failed": 0}
    result = ansible.Result(4, "", 1.0, recap)
    assert result.changed == 2 and result.failed() == {"pxe01.lab.example"}
    assert ansible.read_recap("killed before that") == {}


def test_what_failed_hosts_were_told() -> None:
    text = 'fatal: [esx03]: FAILED! => {"changed": false, "msg": "esx03: one sentence."}\nok: [esx04]\n'
    text += 'failed: [esx05 -> pxe01] (item=x) => {"msg": "two"}\n'
    assert faults.sentences(ansible.Result(2, text, 1.0)) == {"esx03": ["esx03: one sentence."], "esx05": ["two"]}


def test_every_machine_of_a_plan_is_its_own() -> None:
    planned = inventory.plan(inventory.MOST_HOSTS)
    macs = [mac for one in planned for mac in one.hardware.macs]
    assert len(set(macs)) == len(macs)
    addresses = [one.address for one in planned]
    addresses += [one.variables["esxi_host_network"].get("boot_address", one.address) for one in planned]
    assert len(set(addresses)) == len(planned) + sum(
        "boot_address" in one.variables["esxi_host_network"] for one in planned
    )
    assert {one.hardware.firmware for one in planned[:4]} == set(inventory.FIRMWARE)
    assert {one.hardware.python for one in planned[:2]} == {True, False}
    with pytest.raises(ValueError, match="50"):
        inventory.plan(51)


def test_a_machine_survives_json() -> None:
    hardware = inventory.plan_one(5, cut_off=True).hardware
    record = json.loads(json.dumps({**hardware.__dict__, "uuid": hardware.uuid.hex()}))
    assert supervisor.hardware_of(record) == hardware


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("deb http://mirror.example/debian bookworm main contrib\n", True),
        ("deb [signed-by=/k] http://mirror.example/debian bookworm main\n", True),
        ("# deb http://mirror.example/debian bookworm main\n", False),
        ("deb http://mirror.example/sdk sdk-bookworm main\n", False),
        ("deb http://mirror.example/other bookworm stable\n", False),
        ("Types: deb\nURIs: http://mirror.example\nSuites: bookworm bookworm-updates\nComponents: main\n", True),
        ("Types: deb\nSuites: nodistro\nComponents: main\n\nTypes: deb\nSuites: bookworm\nComponents: other\n", False),
    ],
)
def test_the_distributions_own_package_source_is_found(tmp_path: Path, text: str, found: bool) -> None:
    assert rootfs.names_suite(text, "bookworm") is found
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/x.list").write_text(text)
    if found:
        assert rootfs.apt_sources("bookworm", tmp_path).name == "x.list"
    else:
        with pytest.raises(LabError):
            rootfs.apt_sources("bookworm", tmp_path)


def test_the_tree_has_what_the_role_asks_for() -> None:
    assert {"dnsmasq-base", "nginx", "python3-aiohttp"} <= set(rootfs.role_packages())


def test_only_the_process_that_was_started_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PIDS", tmp_path)
    process = procs.start("sleeper", ["sleep", "60"], log=tmp_path / "log")
    assert procs.is_alive("sleeper")
    record = paths.read_json(tmp_path / "sleeper.json")
    # the same pid, but not the process that the file is about
    paths.write_json(tmp_path / "other.json", {**record, "start": record["start"] - 1})
    procs.stop("other")
    assert procs.is_alive("sleeper") and not (tmp_path / "other.json").exists()
    procs.stop("sleeper")
    assert procs.start_time(process.pid) is None
    assert procs.remembered() == []


def test_one_lab_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK", tmp_path / "lock")
    first, second = lock.Lock(), lock.Lock()
    first.take()
    with pytest.raises(LabError, match="another lab"):
        second.take()
    first.give_back()
    second.take()
    second.give_back()


def test_a_power_request_must_name_machines_that_exist() -> None:
    machines = supervisor.Supervisor(
        {"python_tree": None, "busybox": "/bin/busybox", "retry_seconds": 1, "machines": []}
    )
    assert machines.answer({"action": "explode", "names": ["x"]})["ok"] is False
    assert "no machine called x" in machines.answer({"action": "cycle", "names": ["x"]})["message"]
    assert machines.answer([])["ok"] is False


class TftpServer(threading.Thread):
    """As much of a TFTP server as the client's corners need."""

    def __init__(self, content: bytes, *, options: bool) -> None:
        super().__init__(daemon=True)
        self.content, self.options = content, options
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.start()

    def run(self) -> None:
        data, peer = self.socket.recvfrom(2048)
        words = data[2:].split(b"\0")
        if words[0] == b"missing":
            self.socket.sendto(struct.pack("!HH", 5, 1) + b"file not found\0", peer)
            return
        size = 512
        if self.options:
            wanted = {words[i]: words[i + 1] for i in range(2, len(words) - 1, 2)}
            size = int(wanted[b"blksize"])
            oack = b"blksize\0" + wanted[b"blksize"] + b"\0tsize\0" + str(len(self.content)).encode() + b"\0"
            self.socket.sendto(struct.pack("!H", 6) + oack, peer)
            self.socket.recvfrom(2048)
        for number in range(len(self.content) // size + 1):
            block = struct.pack("!HH", 3, (number + 1) & 0xFFFF) + self.content[number * size : (number + 1) * size]
            # each block twice: a duplicate must not be taken for the next one
            for _copy in range(2):
                self.socket.sendto(block, peer)
            while True:
                answer, _peer = self.socket.recvfrom(2048)
                if answer == struct.pack("!HH", 4, (number + 1) & 0xFFFF):
                    break


@pytest.mark.parametrize("options", [True, False])
@pytest.mark.parametrize("length", [0, 511, 512, 1408, 5000])
def test_tftp_reads_whole_files(monkeypatch: pytest.MonkeyPatch, options: bool, length: int) -> None:
    content = bytes(index % 251 for index in range(length))
    server = TftpServer(content, options=options)
    monkeypatch.setattr(tftp, "PORT", server.socket.getsockname()[1])
    assert tftp.fetch("127.0.0.1", "name") == content


def test_tftp_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TftpServer(b"", options=True)
    monkeypatch.setattr(tftp, "PORT", server.socket.getsockname()[1])
    with pytest.raises(tftp.TftpError, match="missing: file not found") as caught:
        tftp.fetch("127.0.0.1", "missing")
    assert caught.value.code == tftp.NOT_FOUND
