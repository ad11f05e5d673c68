# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real vcsim as vCenter, and stand-in ESXi hosts, on loopback ports that are free: for tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.pxemanager.esxi.tests.support.certificates import Pair

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "lab"
USER, PASSWORD = "administrator", "vCenter-secret-1"
# The smallest inventory in which there is more than one of everything. vcsim needs all four zeros to make no host.
INVENTORY = ("-dc", "2", "-cluster", "2", "-host", "0", "-standalone-host", "0", "-vm", "0", "-ds", "0")


def vcsim_program() -> Path:
    """The vcsim of the lab, built or adopted when it is not there yet."""
    program = Path(os.environ.get("PXELAB_DIR", str(ROOT / ".lab"))) / "cache" / "vcsim" / "vcsim"
    subprocess.run([str(LAB / "vcsim" / "build.sh"), str(program)], check=True, stdout=subprocess.DEVNULL)
    return program


@contextmanager
def _process(
    arguments: t.Sequence[t.Union[str, Path]], said: str, log: Path
) -> t.Iterator[tuple[subprocess.Popen[str], re.Match[str]]]:
    """A process that has said on its first line that it is ready."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env={**os.environ, "PYTHONPATH": str(LAB)},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(said, line)
        assert found is not None, f"{arguments[0]} said {line!r}; {log.read_text(errors='replace')[-2000:]}"
        yield process, found
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Vcenter:
    """A running vCenter. ``log``: every SOAP message, when it is a bare vcsim; what it did with hosts otherwise."""

    port: int
    log: Path
    process: subprocess.Popen[str]

    def options(self) -> dict[str, t.Any]:
        """The connection options of a module."""
        return {"hostname": "127.0.0.1", "port": self.port, "username": USER, "password": PASSWORD}

    def calls(self) -> list[str]:
        """The methods that were called so far, when it is one that looks at its hosts."""
        path = self.log.with_suffix(".calls")
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def trouble(self, *rules: dict[str, t.Any]) -> None:
        """Have it make trouble from now on, as tests/lab/pxelab/trouble.py says; without rules: no more."""
        path = self.log.with_suffix(".faults")
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(rules), encoding="utf-8")
        fresh.replace(path)

    def requests(self, method: str) -> list[str]:
        """The SOAP requests of a method that have come so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [
            request
            for request in re.findall(r"^Request: (.*?)^(?=Response: |Request: )", text, re.DOTALL | re.MULTILINE)
            if re.search(rf"<soapenv:Body><{method}\b|<{method} xmlns", request)
        ]


@contextmanager
def vcsim(pair: Pair, log: Path, *more: str) -> t.Iterator[Vcenter]:
    """A bare vcsim: takes every host as it is named."""
    arguments: list[t.Union[str, Path]] = [
        vcsim_program(),
        "-l",
        "127.0.0.1:0",
        "-tlscert",
        pair.cert,
        "-tlskey",
        pair.key,
    ]
    arguments += ["-username", USER, "-password", PASSWORD, "-trace", *INVENTORY, *more]
    with _process(arguments, r":(\d+)/sdk", log) as (process, found):
        yield Vcenter(int(found[1]), log, process)


@contextmanager
def vcenter(pair: Pair, log: Path, names: Path, *more: str, gateway: t.Sequence[str] = ()) -> t.Iterator[Vcenter]:
    """A vCenter that looks at the hosts which it is given. names: what its DNS knows, in the form of /etc/hosts.

    more: options of vcsim. gateway: options of what is in front of it (pxelab.vcenter_api).
    """
    arguments: list[t.Union[str, Path]] = [
        sys.executable,
        "-m",
        "pxelab.vcenter_api",
        "--listen",
        "127.0.0.1:0",
        "--vcsim",
        vcsim_program(),
    ]
    arguments += ["--cert", pair.cert, "--key", pair.key, "--hosts", names]
    arguments += ["--calls", log.with_suffix(".calls"), "--faults", log.with_suffix(".faults"), *gateway, "--"]
    arguments += ["-username", USER, "-password", PASSWORD, *INVENTORY, *more]
    with _process(arguments, r"ready .*:(\d+)$", log) as (process, found):
        yield Vcenter(int(found[1]), log, process)


@dataclass(frozen=True)
class EsxiHost:
    """A running stand-in host."""

    port: int
    pair: Pair
    state_file: Path
    process: subprocess.Popen[str]

    def state(self) -> dict[str, t.Any]:
        """What it knows of its root account; empty numbers when nobody has tried to log in yet."""
        text = self.state_file.read_text(encoding="utf-8")
        return {"failed_logins": 0, "logins": 0, "password_changes": 0, **(json.loads(text) if text[0] == "{" else {})}


def crypt_hash(password: str) -> str:
    """A SHA-512 crypt hash of a password, as a kickstart carries it."""
    done = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=password + "\n", check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


@contextmanager
def esxi_host(
    pair: Pair, folder: Path, password: str, *more: str, port: int = 0, address: str = "127.0.0.1"
) -> t.Iterator[EsxiHost]:
    """A stand-in host whose root password is ``password``."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    if not state.exists():
        state.write_text(crypt_hash(password) + "\n", encoding="utf-8")
    arguments: list[t.Union[str, Path]] = [
        sys.executable,
        "-m",
        "pxelab.esxi_api",
        "--listen",
        f"{address}:{port}",
        "--vcsim",
        vcsim_program(),
    ]
    arguments += ["--cert", pair.cert, "--key", pair.key, "--state", state, *more]
    with _process(arguments, r"ready .*:(\d+)$", folder / "log") as (process, found):
        yield EsxiHost(int(found[1]), pair, state, process)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: t.Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes true within a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
