# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab at a time on a machine: namespaces and bridge have fixed names, whatever checkout they were started from."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from . import paths
from .errors import LabError

LOCK = Path("/run/pxelab.lock")


class Lock:
    """Held by the process that runs the lab; the kernel gives it back when that process dies, however it dies."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock, or raise ``LabError`` naming who has it."""
        file = LOCK.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise LabError(f"another lab is running on this machine ({holder}); wait for it or stop it first") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {paths.LAB}\n")
        file.flush()
        self._file = file

    def give_back(self) -> None:
        """Let the next lab start."""
        if self._file is not None:
            self._file.close()
            self._file = None
