# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its things. Everything lies under ``.lab`` of the checkout, except one lock (see ``lock.py``)."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / ".lab"
CACHE = LAB / "cache"
COLLECTIONS = LAB / "collections"
RUN = LAB / "run"
LOGS = LAB / "logs"
MACHINES = RUN / "machines"
PIDS = RUN / "pids"
TLS = RUN / "tls"
SSH = RUN / "ssh"
INVENTORY = RUN / "inventory"
SERVER = RUN / "server"
SPEC = RUN / "lab.json"
POWER_SOCKET = RUN / "power.sock"
REPORT = LAB / "report.json"


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new text, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_json(path: Path, data: Any, mode: int = 0o644) -> None:
    """``write_text`` for JSON."""
    write_text(path, json.dumps(data, indent=2) + "\n", mode)


def read_json(path: Path) -> Any:
    """The content of a JSON file, ``None`` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def machine_state(name: str) -> Path:
    """Where a machine writes its state and counters."""
    return MACHINES / f"{name}.json"
