# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs playbooks as a person at the controller would, shows what they say, and reads their recap."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import net, paths, procs, vcenter
from .errors import LabError

COLLECTION = "pxemanager.esxi"
#: Sockets of SSH connections. Their paths must fit in 108 bytes, which those of a checkout may not.
CONTROL = Path("/run/pxelab-ssh")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECAP = re.compile(r"^(?P<host>\S+)\s+: (?P<counts>(?:\w+=\d+\s*)+)$")


@dataclass
class Result:
    """How a playbook ended: its exit code, its recap, all it said, and how long it took."""

    code: int
    text: str
    seconds: float
    recap: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Changed tasks of all hosts."""
        return sum(counts.get("changed", 0) for counts in self.recap.values())

    def failed(self) -> set[str]:
        """Hosts that failed or could not be reached."""
        return {host for host, counts in self.recap.items() if counts.get("failed", 0) or counts.get("unreachable", 0)}


def read_recap(text: str) -> dict[str, dict[str, int]]:
    """The counts of the PLAY RECAP, by host."""
    _before, _title, lines = _COLOUR.sub("", text).rpartition("PLAY RECAP")
    recap = {}
    for line in lines.splitlines():
        found = _RECAP.match(line.rstrip())
        if found:
            recap[found["host"]] = {
                key: int(value) for key, value in (pair.split("=") for pair in found["counts"].split())
            }
    return recap


class Controller:
    """The machine that Ansible runs on: namespace, settings, and the SSH connections that it keeps."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show or (lambda text: None)
        self._program = Path(sys.executable).with_name("ansible-playbook")
        self._running: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        """What a person would have in the environment and in ansible.cfg."""
        config = paths.RUN / "ansible.cfg"
        CONTROL.mkdir(mode=0o700, exist_ok=True)
        paths.write_text(
            config,
            f"""\
[defaults]
inventory = {paths.INVENTORY}
collections_path = {paths.COLLECTIONS}
forks = 10
retry_files_enabled = false
nocows = true
[ssh_connection]
pipelining = true
control_path_dir = {CONTROL}
ssh_args = -C -o ControlMaster=auto -o ControlPersist=60s
""",
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "VMWARE_"))}
        colour = {"ANSIBLE_FORCE_COLOR": "1"} if sys.stdout.isatty() else {"ANSIBLE_NOCOLOR": "1"}
        return (
            kept
            | colour
            | {
                "ANSIBLE_CONFIG": str(config),
                "SSL_CERT_FILE": str(vcenter.CA),
                "LC_ALL": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",
            }
        )

    def _argv(self, playbook: str, *arguments: str) -> list[str]:
        return [
            "nsenter",
            f"--net=/run/netns/{net.CENTRE}",
            "--",
            str(self._program),
            f"{COLLECTION}.{playbook}",
            *arguments,
        ]

    def command(self, playbook: str) -> str:
        """What to type to run a playbook in this lab by hand."""
        settings = {key: self.environment()[key] for key in ("ANSIBLE_CONFIG", "SSL_CERT_FILE")}
        return shlex.join(["env", *(f"{key}={value}" for key, value in settings.items()), *self._argv(playbook)])

    def play(self, playbook: str, *arguments: str, log: str, kill_at: float | str | None = None) -> Result:
        """Run a playbook of the collection to its end; or kill it, and all it started.

        ``kill_at`` says when: after some seconds, or once it has written a line with this text. A killed one has the
        exit code -9.
        """
        argv = self._argv(playbook, *arguments)
        started = time.monotonic()
        lines: list[str] = []
        path = paths.LOGS / f"{log}.log"
        with path.open("w", encoding="utf-8") as file:
            self._running = process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self.environment(),
                cwd=paths.RUN,
                start_new_session=True,
            )
            killer = _Killer(process, kill_at)
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                file.write(_COLOUR.sub("", line))
                file.flush()
                self._show(line)
                killer.look(line)
            code = process.wait()
            killer.stop()
            self._running = None
        text = "".join(lines)
        return Result(code, _COLOUR.sub("", text), time.monotonic() - started, read_recap(text))

    def module(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run one module of the collection on the PXE server; returns its result, failed or not."""
        program = self._program.with_name("ansible")
        argv = ["nsenter", f"--net=/run/netns/{net.CENTRE}", "--", str(program), "pxe_servers"]
        argv += ["-m", f"{COLLECTION}.{name}", "-a", json.dumps(arguments) if arguments else ""]
        environment = {**self.environment(), "ANSIBLE_NOCOLOR": "1"}
        environment.pop("ANSIBLE_FORCE_COLOR", None)
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            cwd=paths.RUN,
            timeout=300,
            check=False,
        )
        found = re.search(r"(\S+) => (\{.*\})", done.stdout, re.DOTALL)
        if found is None:
            raise LabError(f"{name} said nothing of use: {done.stdout} {done.stderr}")
        # Ansible says it in front of the result, and takes it out of the result.
        return {"failed": found.group(1) == "FAILED!", **json.loads(found.group(2))}

    def close(self) -> None:
        """End a playbook that still runs, and the SSH connections that Ansible left open."""
        if self._running is not None and self._running.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
        close_connections()


def close_connections() -> None:
    """End the SSH connections that Ansible keeps open for its next run."""
    for socket in CONTROL.glob("*"):
        procs.run(["ssh", "-F", "none", "-O", "exit", "-S", socket, "pxelab"], check=False, timeout=10)
    shutil.rmtree(CONTROL, ignore_errors=True)


class _Killer:
    """SIGKILL for a process and its children at some moment: the controller's power is cut."""

    def __init__(self, process: subprocess.Popen[str], moment: float | str | None) -> None:
        self._process = process
        self._text = moment if isinstance(moment, str) else None
        self._timer = threading.Timer(moment, self._kill) if isinstance(moment, float) else None
        if self._timer is not None:
            self._timer.start()

    def look(self, line: str) -> None:
        """Whether this line is the one to kill at."""
        if self._text is not None and self._text in line:
            self._kill()

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
