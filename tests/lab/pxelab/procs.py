# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of the lab: started by it, remembered in pid files, and the only ones that it ever ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import paths
from .errors import LabError


def run(
    argv: Sequence[str | os.PathLike[str]], *, check: bool = True, text: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it; a failing one raises ``LabError`` with what it said."""
    try:
        done = subprocess.run(
            [os.fspath(word) for word in argv],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL if text is None else None,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: no such command; tests/lab/packages.txt lists what the lab needs") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LabError(
            f"{' '.join(os.fspath(word) for word in argv)}: exit code {done.returncode}: {said[-1] if said else ''}"
        )
    return done


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), ``None`` when it is gone.

    Together with the pid it names a process for ever: a pid alone may have been given to somebody else's process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def start(
    name: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    namespace: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output in ``log``, and remember it as ``name``.

    It is told to end when the thread that started it ends, so that a killed lab leaves no processes.
    """
    words = ["setpriv", "--pdeathsig", "TERM", "--", *(os.fspath(word) for word in argv)]
    if namespace is not None:
        # nsenter and not "ip netns exec": it does not give the process a mount namespace of its own
        words = ["nsenter", f"--net=/run/netns/{namespace}", "--", *words]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, env=env
        )
    paths.write_json(paths.PIDS / f"{name}.json", {"pid": process.pid, "start": start_time(process.pid), "argv": words})
    return process


def is_alive(name: str) -> bool:
    """Whether the process remembered as ``name`` still runs."""
    record = paths.read_json(paths.PIDS / f"{name}.json")
    return record is not None and record["start"] is not None and start_time(record["pid"]) == record["start"]


def remembered() -> list[str]:
    """Names of the processes with a pid file."""
    return sorted(path.stem for path in paths.PIDS.glob("*.json"))


def stop(
    name: str, *, grace: float = 5.0, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL)
) -> None:
    """End the process remembered as ``name``, and forget it. Nothing happens to a process that only has its pid."""
    path = paths.PIDS / f"{name}.json"
    record = paths.read_json(path)
    if record is None:
        return
    pid = record["pid"]
    for number in signals:
        if not is_alive(name):
            break
        os.kill(pid, number)
        deadline = time.monotonic() + grace
        while is_alive(name) and time.monotonic() < deadline:
            # one that an earlier lab started is not our child
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
    path.unlink(missing_ok=True)
