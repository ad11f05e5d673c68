# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure a boot storm: ``python tests/benchmark/run.py storm``. The power comes back, and 1,000 machines boot at once.

The machines are the lab's stand-ins (``python -m pxelab storm`` is the same): each does DHCP, loads boot loader,
installer and kickstart (a quarter each as BIOS, UEFI, iPXE and UEFI over HTTP do), reports installing, installed and
ready, and boots its disk in between. The servers are the real dnsmasq, nginx and pbconnect with the
role's own settings.
Then the power fails once more: now every machine is told to boot its disk.

Machines and servers share this machine's cores, and the machines take most of them: the figures are a lower bound.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from table import Row, Run, Skip

from pxelab import storm
from pxelab.errors import LabError

LIMIT = 240
QUICK_LIMIT = 60
ROOT = True
COUNT, QUICK_COUNT = 1000, 60


def measure(run: Run) -> None:
    """Both storms, with what the role sets for many machines at once."""
    count = QUICK_COUNT if run.quick else COUNT
    try:
        with storm.folder() as place:
            done = storm.run(count, place, run.say, limit=90)
    except LabError as error:
        raise Skip(str(error)) from error
    for outcome in done.outcomes:
        p50, p99 = (storm.percentile(outcome.phases().get("power on to running", [0.0]), part) for part in (50, 99))
        memory = sum(usage.memory for usage in outcome.usage.values())
        cpu = ", ".join(f"{name} {usage.cpu:.1f} s" for name, usage in outcome.usage.items())
        run.add(
            Row(
                f"{outcome.name}: all {outcome.running:,} machines run",
                count,
                seconds=outcome.seconds,
                rate=outcome.requests / outcome.seconds,
                memory=memory,
                note=f"rate: requests; p50 {p50:.1f} s, p99 {p99:.1f} s; CPU {cpu}; {outcome.lost} packets lost",
            )
        )
    for problem in done.problems[:5]:
        run.note(f"WRONG: {problem}")
    if done.problems:
        sys.exit(f"{len(done.problems)} things were wrong")
