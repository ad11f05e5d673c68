# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's disk: a folder with the installed system's root, and a note of what is on it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from . import paths


@dataclass
class System:
    """What an installer left on the disk; ``firstboot`` are the scripts that the next start from the disk runs once.

    ``datastore`` tells one datastore from another; an upgrade keeps it. ``upgrades`` counts them.
    """

    host_name: str
    version: str
    mac: str
    network: dict[str, str]
    password_hash: str
    vmfs: bool
    firstboot: list[dict[str, str]]
    complete: bool = False
    starts: int = 0
    datastore: str = ""
    upgrades: int = 0


class Disk:
    """The disk of one machine. It survives power cycles, not the lab."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "system.json"
        self.root = folder / "root"

    def read(self) -> System | None:
        """The system on the disk, ``None`` when there is none that boots."""
        note = paths.read_json(self._note)
        return System(**note) if note and note["complete"] else None

    def has_vmfs(self) -> bool:
        """Whether a datastore is on the disk, also one that an unfinished install left behind."""
        note = paths.read_json(self._note)
        return bool(note and note["vmfs"])

    def datastore(self) -> str:
        """Which datastore is on the disk."""
        note = paths.read_json(self._note)
        return str(note.get("datastore", "")) if note else ""

    def write(self, system: System) -> None:
        """Replace the note."""
        paths.write_json(self._note, asdict(system))

    def wipe(self) -> None:
        """An empty disk."""
        self._note.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
