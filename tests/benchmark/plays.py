# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-playbook for the benchmark: how long it took, and how much memory its processes had at most."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 600


@dataclasses.dataclass(frozen=True)
class Played:
    """A play that succeeded.

    :ivar controller: largest resident memory of an ansible-playbook process, MiB.
    :ivar module: that of a process which ran a module.
    """

    seconds: float
    output: str
    controller: float
    module: float


class Memory(threading.Thread):
    """Looks at a process and all below it ten times a second, and keeps the largest resident memory of each kind.

    The kernel keeps a process's own maximum, so only what happens in a process's last tenth of a second is missed.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.most = {"controller": 0.0, "module": 0.0}

    def run(self) -> None:
        while not self._over.wait(0.1):
            for pid in self._all(self._pid):
                with contextlib.suppress(OSError, IndexError, ValueError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
                    kind = "controller" if b"ansible-playbook" in command else "module"
                    size = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
                    self.most[kind] = max(self.most[kind], size)

    def _all(self, pid: int) -> t.Iterator[int]:
        yield pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
                yield from self._all(int(child))

    def end(self) -> None:
        self._over.set()
        self.join()


def play(
    directory: Path,
    name: str,
    tasks: t.Sequence[t.Mapping[str, t.Any]],
    *,
    hosts: str = "localhost",
    inventory: Path | None = None,
    forks: int = 5,
    variables: Path | None = None,
    timeout: float = TIMEOUT,
) -> Played:
    """Run a play with these tasks, local connection and pipelining.

    :arg variables: a JSON file of variables; default: `hosts.json` in the directory.
    """
    playbook = directory / f"{name}.json"
    document: dict[str, t.Any] = {
        "name": name,
        "hosts": hosts,
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    if inventory is None:
        document["vars_files"] = [str(variables or directory / "hosts.json")]
    playbook.write_text(json.dumps([document]), "utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".lab" / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_FORKS": str(forks),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCAL_TEMP": str(directory / "ansible-tmp"),
        "ANSIBLE_REMOTE_TEMP": str(directory / "ansible-tmp"),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook)]
    if inventory is not None:
        command += ["-i", str(inventory)]
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )
    memory = Memory(process.pid)
    memory.start()
    try:
        output, _nothing = process.communicate(timeout=timeout)
    finally:
        memory.end()
        if process.poll() is None:
            process.kill()
            process.wait()
    seconds = time.monotonic() - begun
    if process.returncode:
        sys.exit(f"{name} failed:\n{output[-3000:]}")
    return Played(seconds, output, memory.most["controller"], memory.most["module"])
