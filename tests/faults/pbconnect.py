# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try to make pbconnect lose something: ``python tests/faults/pbconnect.py [rounds]``, 200 rounds without a number.

What is done is in tests/support/pbconnect_faults.py; a short form of it is among the tests. The campaign with a full
disk mounts a tmpfs of 2 MiB and needs root; the others run as anyone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".lab" / "collections"))


def main(rounds: int) -> int:
    """Run the campaigns, print what they counted; return the exit code."""
    from ansible_collections.pxemanager.esxi.tests.support import pbconnect_faults as faults

    print(faults.HEAD, flush=True)
    good = True
    for name in ("killed", "disk_full", "two_controllers"):
        if name == "disk_full" and os.geteuid() != 0:
            print("disk full: left out, it needs root")
            continue
        with tempfile.TemporaryDirectory(prefix="pxemanager-faults-", dir="/var/tmp") as folder:
            if name == "disk_full":
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", folder], check=True)
            begun = time.monotonic()
            try:
                figures = getattr(faults, name)(Path(folder), rounds if name != "two_controllers" else rounds // 4)
            finally:
                if name == "disk_full":
                    subprocess.run(["umount", "--lazy", folder], check=True)
            print(f"{figures}   {time.monotonic() - begun:.0f} s", flush=True)
            good = good and figures.good
            for problem in [*figures.lost, *figures.torn, *figures.illegal][:20]:
                print(f"    {problem}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 200))
