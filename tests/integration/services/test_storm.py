# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many machines at once against the real dnsmasq, nginx and pbconnect. ``make bench`` has the long storm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pxelab import storm, storm_site

REASON = storm_site.missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REASON), reason=REASON)]

HOSTS = 60


@pytest.fixture(scope="module")
def done() -> storm.Storm:
    with storm.folder() as place:
        return storm.run(HOSTS, place, print, limit=60)


def test_every_machine_is_installed_once_and_then_boots_its_disk(done: storm.Storm) -> None:
    assert not done.problems, done.problems
    install, cycle = done.outcomes
    assert install.running == cycle.running == HOSTS
    assert install.total("installs") == HOSTS
    # installing, installed, ready, each acknowledged once
    assert install.total("acknowledged") == 3 * HOSTS
    assert install.total("not_acknowledged") == install.total("hangs") == 0
    assert cycle.total("installs") == cycle.total("install_starts") == 0
    assert cycle.total("local_boots") == HOSTS


def test_every_kind_of_firmware_took_part(done: storm.Storm) -> None:
    kinds = [one["firmware"] for one in done.outcomes[0].machines]
    assert {kind: kinds.count(kind) for kind in storm_site.FIRMWARE} == dict.fromkeys(storm_site.FIRMWARE, HOSTS // 4)


def test_the_server_shows_all_of_them_ready_and_local_and_complains_of_nothing(done: storm.Storm) -> None:
    assert done.stages == {("local", "ready"): HOSTS}
    assert not [line for line in done.complaints if "nginx" in line or "pbconnect" in line]


def test_the_report_names_what_was_measured(done: storm.Storm) -> None:
    text = storm.report(done)
    for word in ("install:", "power cycle:", "pbconnect ready", "p99", "dnsmasq", "nginx", "lost"):
        assert word in text


def test_a_killed_storm_leaves_no_processes_and_the_next_one_removes_its_files(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from pxelab import storm, storm_site\n"
        "with storm.folder(pathlib.Path(sys.argv[1])) as place:\n"
        "    space = storm_site.Namespace()\n"
        "    import subprocess\n"
        "    inside = subprocess.Popen(space.enter(['sleep', '1000']))\n"
        "    print(place, space.pid, inside.pid, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(storm.__file__).resolve().parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    place, *pids = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/ns/net").exists() and _runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)
    assert Path(place).is_dir()
    with storm.folder(tmp_path):
        assert not Path(place).exists()


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
