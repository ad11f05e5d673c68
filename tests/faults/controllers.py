# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let controllers get in each other's way: ``python tests/faults/controllers.py [rounds [controllers [hosts]]]``.

Five rounds of four controllers with 200 hosts each, of which 60 are the next one's as well, without numbers. Each is an
ansible-playbook of its own; the PXE server is a folder of this machine with the real pbconnect service. What is done is
in tests/support/controllers.py; a short form of it is among the tests.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".lab" / "collections"))


def main(rounds: int, count: int, size: int) -> int:
    """Run the campaign, print what it counted; return the exit code."""
    from ansible_collections.pxemanager.esxi.tests.support import controllers

    print(controllers.HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="pxemanager-controllers-", dir="/var/tmp") as folder:
        begun = time.monotonic()
        campaign = controllers.Campaign(Path(folder))
        for _number in range(rounds):
            those = controllers.controllers(count, size, size * 3 // 10)
            campaign.run(those)
            seconds = ", ".join(f"{controller.seconds:.1f}" for controller in those)
            print(f"{campaign}   {time.monotonic() - begun:.0f} s (controllers: {seconds} s)", flush=True)
        for problem in campaign.problems[:20]:
            print(f"    {problem}")
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(given + [5, 4, 200][len(given) :])))
