# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send pbconnect what does not fit: ``python tests/faults/fuzz.py [scale]``, some minutes without a number.

Requests made up from its description, with and without a good token; bytes; and, in process, hosts that are published,
armed, withdrawn and removed and that report, in any order. It ends with an error at the first thing that is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".lab" / "collections"))


def main(scale: int) -> None:
    """Run all of it and print what was sent."""
    import hypothesis
    from hypothesis.stateful import run_state_machine_as_test

    from ansible_collections.pxemanager.esxi.tests.support import pbconnect_fuzz as fuzz
    from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
    from ansible_collections.pxemanager.esxi.tests.support.pbconnect_states import Hosts

    with tempfile.TemporaryDirectory(prefix="pxemanager-fuzz-", dir="/var/tmp") as folder:
        for name, good_token in (("strangers", False), ("hosts", True)):
            target = fuzz.Target(Site(Path(folder, name)))
            before = target.site.snapshot()
            begun = time.monotonic()
            answers = fuzz.made_up_requests(target, 40 * scale, good_token)
            target.check()
            assert good_token or target.site.snapshot() == before
            target.service.stop()
            print(f"made-up requests of {name}: {sum(answers.values()):,} {answers} {time.monotonic() - begun:.0f} s")
        target = fuzz.Target(Site(Path(folder, "bytes")))
        begun = time.monotonic()
        received = fuzz.random_bytes(target, 200 * scale, seed=scale)
        target.check()
        target.service.stop()
        print(f"random bytes: {sum(received.values()):,} {received} {time.monotonic() - begun:.0f} s")
    begun = time.monotonic()
    settings = hypothesis.settings(
        max_examples=10 * scale,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    run_state_machine_as_test(Hosts, settings=settings)
    print(
        f"states: {Hosts.steps:,} steps, {Hosts.accepted:,} reports accepted, {Hosts.refused:,} refused "
        f"{time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 50)
