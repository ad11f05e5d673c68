# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the stages of ``make test``: ``python tests/stages.py [stage ...]``.

Each stage's output goes to .lab/stages/<stage>.log and is shown when the stage fails. All stages are run whatever the
earlier ones gave. The last line counts the tests of the pytest stages, and every other stage as one.

The checks (nox) and the tests (pytest) go on side by side, for each of them keeps one processor busy at most times. The
lab's machines come after both, because they need the time that their boot loaders and installers count on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".lab" / "stages"
SHOWN_LINES = 80

# Two lanes write to one screen.
PRINTING = threading.Lock()


ADDED_ENVIRONMENT = {
    # Tools check instead of mending, and do not ask.
    "CI": "true",
    # The lab run of the tests is a small one.
    "HOSTS": "2",
    # What runs as root leaves nothing in the checkout that its owner cannot remove.
    "PYTHONDONTWRITEBYTECODE": "1",
}


def nox(session: str) -> list[str]:
    """Return the command for a nox session; one whose Python is not on this machine is skipped, and said to be."""
    return [sys.executable, "-m", "nox", "--no-error-on-missing-interpreters", "--session", session]


def pytest(directory: str) -> list[str]:
    """Return the command for the tests in a directory."""
    return [sys.executable, "-m", "pytest", directory, "-q", "-p", "no:cacheprovider"]


def pxelab(*arguments: str) -> list[str]:
    """Return the command for a run of the lab."""
    return as_root(["env", f"PYTHONPATH={ROOT / 'tests' / 'lab'}", sys.executable, "-m", "pxelab", *arguments])


def as_root(command: list[str]) -> list[str]:
    """Return the command, through sudo where this process is not root."""
    if os.geteuid() == 0:
        return command
    return ["sudo", "env", *(f"{name}={value}" for name, value in ADDED_ENVIRONMENT.items()), *command]


STAGES: dict[str, list[str]] = {
    # Checks that execute nothing.
    "format": nox("formatters"),
    "style": nox("codeqa"),
    "other-code": nox("other-code"),
    "yaml": nox("yamllint"),
    "types": nox("typing"),
    "licences": nox("license-check"),
    "extra": nox("extra-checks"),
    "changelog": nox("changelog"),
    "nox-config": nox("antsibull-nox-config"),
    "docs": nox("docs-check"),
    "package": nox("build-import-check"),
    "ansible-lint": nox("ansible-lint"),
    # ansible-test: it compiles and imports with every Python that it finds.
    "sanity-2.19": nox("ansible-test-sanity-2.19"),
    "sanity-2.21": nox("ansible-test-sanity-2.21"),
    # Tests.
    "unit": pytest("tests/unit"),
    "integration": as_root(pytest("tests/integration")),
    "lab": pxelab("demo"),
    "lab-faults": pxelab("faults"),
    # Two hosts, a few kills: what it is for is that the next run finishes the job.
    "lab-kill": pxelab("kill", "--kills", "2", "--seed", "1"),
    # Real firmware, emulated: one pass of what most machines are.
    "firmware": pxelab("firmware", "--firmware", "bios,uefi", "--reboots", "1"),
}
# What takes too long for every change; `make test-firmware` runs it.
LONG_STAGES: dict[str, list[str]] = {
    "firmware-reboots": pxelab("firmware", "--firmware", "bios,uefi", "--reboots", "20"),
    "firmware-http": pxelab("firmware", "--firmware", "uefi-http", "--reboots", "2"),
    "firmware-ipxe": pxelab("firmware", "--firmware", "ipxe", "--reboots", "2"),
    "firmware-flaps": pxelab("flaps"),
}
ALL_STAGES = STAGES | LONG_STAGES
GROUPS = {
    "lint": list(STAGES)[: list(STAGES).index("sanity-2.19")],
    "sanity": ["sanity-2.19", "sanity-2.21"],
    "test-firmware": list(LONG_STAGES),
}


@dataclass
class Outcome:
    """What a stage gave. ``seconds`` is wall-clock time."""

    stage: str
    passed: int
    failed: int
    skipped: list[str]
    seconds: float


def count(stage: str, returncode: int, output: str) -> tuple[int, int]:
    """Return how many tests passed and failed."""
    closing = [line for line in output.splitlines() if re.search(r"\d+ (passed|failed|errors?)\b.* in [\d.]+s", line)]
    if "pytest" not in ALL_STAGES[stage] or not closing:
        return (1, 0) if returncode == 0 else (0, 1)
    numbers = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", closing[-1])}
    failed = numbers.get("failed", 0) + numbers.get("error", 0)
    return numbers.get("passed", 0), failed if returncode == 0 else max(failed, 1)


def run(stage: str) -> Outcome:
    """Run one stage and say how it went."""
    log = LOGS / f"{stage}.log"
    with PRINTING:
        print(f"{stage:<17}started", flush=True)
    started = time.monotonic()
    with log.open("wb") as file:
        returncode = subprocess.run(
            ALL_STAGES[stage],
            cwd=ROOT,
            env={**os.environ, **ADDED_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    seconds = time.monotonic() - started
    output = log.read_text("utf-8", "replace")
    passed, failed = count(stage, returncode, output)
    skipped = re.findall(r"^nox > (Session \S+ skipped.*)|^(SKIPPED .*)", output, re.MULTILINE)
    outcome = Outcome(stage, passed, failed, [one or other for one, other in skipped], seconds)
    with PRINTING:
        show(outcome, output)
    return outcome


def show(outcome: Outcome, output: str) -> None:
    """Print how a stage went, and the end of its output when it failed."""
    verdict = "FAILED" if outcome.failed else "ok"
    counts = f"{outcome.passed:>6} passed{outcome.failed:>5} failed"
    print(f"{outcome.stage:<17}{verdict:<8}{counts}{outcome.seconds:>8.1f} s", flush=True)
    for note in outcome.skipped:
        print(f"    {note}")
    if outcome.failed:
        lines = output.splitlines()
        # ansible-test says what is wrong here and there between what it installs.
        said = [line for line in lines if line.startswith(("ERROR: ", "FATAL: "))]
        print("\n".join(f"    {line}" for line in (said or lines)[-SHOWN_LINES:]))
        print(f"    (all of it: .lab/stages/{outcome.stage}.log)", flush=True)


def lanes(stages: t.Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the stages that nox runs, those that pytest runs, and those that have the machine for themselves."""
    checks = [stage for stage in stages if "nox" in ALL_STAGES[stage]]
    tests = [stage for stage in stages if "pytest" in ALL_STAGES[stage]]
    return checks, tests, [stage for stage in stages if stage not in {*checks, *tests}]


def run_all(stages: t.Sequence[str]) -> list[Outcome]:
    """Run the stages in their lanes; return how each went."""
    checks, tests, alone = lanes(stages)
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda lane: [run(stage) for stage in lane], (checks, tests)))
    return [outcome for lane in beside for outcome in lane] + [run(stage) for stage in alone]


def main(names: t.Sequence[str]) -> int:
    """Run the named stages, all without a name; return the exit code."""
    chosen = [stage for name in names or STAGES for stage in GROUPS.get(name, [name])]
    unknown = [stage for stage in chosen if stage not in ALL_STAGES]
    if unknown:
        known = ", ".join([*GROUPS, *ALL_STAGES])
        print(f"No such stage: {', '.join(unknown)}. There are: {known}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    outcomes = run_all(list(dict.fromkeys(chosen)))
    bad = [outcome.stage for outcome in outcomes if outcome.failed]
    if bad:
        print(f"\nFailed: {', '.join(bad)}")
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"\n{passed} passed, {failed} failed in {time.monotonic() - began:.1f}s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
