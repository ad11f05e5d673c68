# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark: ``python tests/benchmark/run.py [--quick] [part ...]``, which is what ``make bench`` does.

Runs the parts one after the other, each in a process of its own, and prints one table. A run of all of them writes
docs/benchmark.md's table and the plots as well; any other run leaves docs/ alone, and all runs leave their figures in
.lab/bench/.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# (At the end: the tests import this, and names as plain as these must not get in their way.)
sys.path += [str(HERE), str(ROOT / ".lab" / "collections"), str(ROOT / "tests" / "lab")]

import table  # noqa: E402

OUT = ROOT / ".lab" / "bench"
PAGE = ROOT / "docs" / "benchmark.md"
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"
LIMIT, QUICK_LIMIT = 300, 60
# Where a benchmark belongs: /tmp is memory on many machines.
SCRATCH = "/var/tmp"


def say(text: str) -> None:
    print(text, flush=True)


# The machine.


def _first(path: str, pattern: str) -> str:
    with contextlib.suppress(OSError):
        found = re.search(pattern, Path(path).read_text("utf-8", "replace"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return "unknown"


def _version(*command: str) -> str:
    """The first version number that a command prints, or "" without the command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found.group(0) if found else ""


def _file_system(folder: str) -> str:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(
            ["findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", folder], capture_output=True, text=True, check=True
        )
        return " ".join(done.stdout.split())
    return "unknown"


def machine() -> dict[str, str]:
    """What a reader must know of the machine to judge the figures."""
    memory = int(_first("/proc/meminfo", r"MemTotal:\s+(\d+) kB") or 0) / 1024**2
    versions = {
        "Python": platform.python_version(),
        "ansible-core": _version(str(Path(sys.executable).with_name("ansible-playbook")), "--version"),
        "dnsmasq": _version("dnsmasq", "--version"),
        "Kea": _version("kea-dhcp4", "-v"),
    }
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "processor": f"{_first('/proc/cpuinfo', r'model name.*: (.*)')}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"Linux {platform.release()}, {platform.machine()}",
        "system": _first("/etc/os-release", r'PRETTY_NAME="(.*)"'),
        "file system": f"{_file_system(SCRATCH)} ({SCRATCH})",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "commit": commit.stdout.strip(),
        "measured": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def load() -> str:
    """The load averages: a machine that is busy with something else measures that as well."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


# The parts.


def known_parts() -> list[str]:
    return [name for name in table.PARTS if (HERE / f"{name}.py").is_file()]


@dataclasses.dataclass
class Outcome:
    """What came of one part."""

    part: str
    rows: list[table.Row]
    notes: list[str]
    seconds: float


def run_part(name: str, quick: bool, patience: float = 1, most: int | None = None) -> Outcome:
    """Run a part in a process group of its own, and end all of it when its time is up."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return Outcome(name, [], [f"{name}: not measured, {error}."], 0)
    if getattr(module, "ROOT", False) is True and os.geteuid() != 0:
        return Outcome(name, [], [f"{name}: not measured, it needs root."], 0)
    limit = getattr(module, "QUICK_LIMIT", QUICK_LIMIT) if quick else getattr(module, "LIMIT", LIMIT)
    limit *= patience
    with contextlib.suppress(table.Skip):  # the part finds out for itself that something is missing
        getattr(module, "prepare", lambda _say: None)(say)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pxemanager-bench-", dir=SCRATCH, ignore_cleanup_errors=True) as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--run-part", name, folder, *(["--quick"] if quick else [])]
        command += ["--most", str(most)] if most is not None else []
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
        notes = []
        try:
            code = process.wait(limit)
            if code:
                notes.append(f"{name}: ended with {code}, its table is not complete.")
        except subprocess.TimeoutExpired:
            notes.append(f"{name}: stopped after {limit:.0f} seconds, its table is not complete.")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        try:
            document = json.loads(result.read_text("utf-8"))
        except FileNotFoundError:
            document = {"rows": [], "notes": []}
    rows = [table.Row.from_json(row) for row in document["rows"]]
    return Outcome(name, rows, document["notes"] + notes, time.monotonic() - begun)


def inside(name: str, folder: Path, quick: bool, most: int | None) -> int:
    """In a part's own process: measure."""
    sizes = table.QUICK_SIZES if quick else table.SIZES
    own = folder / "work"
    own.mkdir()
    run = table.Run(
        sizes=tuple(size for size in sizes if most is None or size <= most),
        quick=quick,
        folder=own,
        say=lambda text: say(f"  {text}"),
        result=folder / "result.json",
        part=name,
    )
    module = importlib.import_module(name)
    try:
        module.measure(run)
    except table.Skip as why:
        run.note(f"{name}: not measured, {why}")
    return 0


# What is left of a run.


def page_block(document: t.Mapping[str, t.Any], rows: t.Sequence[table.Row]) -> str:
    """The machine, the table and the notes, as they stand in docs/benchmark.md."""
    lines = [f"- {key}: {value}" for key, value in document["machine"].items()]
    blocks = ["\n".join(lines), table.markdown_table(rows), table.verdict(rows)]
    if document["notes"]:
        blocks.append("\n".join(f"- {note}" for note in document["notes"]))
    return "\n\n".join(blocks)


def rewrite(page: str, block: str) -> str:
    """A page with another block between the markers.

    :raises ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no place for the table: it needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def owned_as(path: Path, other: Path) -> None:
    """Give what root has written to whom the checkout belongs to."""
    if os.geteuid() == 0:
        info = other.stat()
        os.chown(path, info.st_uid, info.st_gid)


def main(arguments: argparse.Namespace) -> int:
    """Run the parts, print the table; 1 when a budget is missed."""
    parts = arguments.parts or known_parts()
    unknown = [part for part in parts if part not in known_parts()]
    if unknown:
        sys.exit(f"There is no part {', '.join(unknown)}: choose from {', '.join(known_parts())}.")
    # So that a run that is stopped ends its part and removes its folder, as one that is interrupted does.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    OUT.mkdir(parents=True, exist_ok=True)
    owned_as(OUT, ROOT)
    about = machine()
    before = load()
    for key, value in about.items():
        say(f"{key}: {value}")
    outcomes = []
    for part in parts:
        say(f"\n{part}:")
        outcomes.append(run_part(part, arguments.quick, arguments.patience, arguments.most))
    about["load"] = f"{before} before, {load()} afterwards"
    rows = [row for outcome in outcomes for row in outcome.rows]
    document = {
        "schema": 1,
        "quick": arguments.quick,
        "parts": {outcome.part: round(outcome.seconds, 1) for outcome in outcomes},
        "machine": about,
        "rows": [dataclasses.asdict(row) for row in rows],
        "notes": [note for outcome in outcomes for note in outcome.notes],
    }
    written = [OUT / "results.json", OUT / "table.md"]
    written[0].write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    written[1].write_text(page_block(document, rows) + "\n", "utf-8")
    say(f"\n{table.text_table(rows)}\n")
    for note in document["notes"]:
        say(f"- {note}")
    say(table.verdict(rows))
    whole = arguments.write or (not arguments.quick and not arguments.most and set(parts) == set(known_parts()))
    try:
        written += draw(OUT)
        if whole:
            PAGE.write_text(rewrite(PAGE.read_text("utf-8"), page_block(document, rows)), "utf-8")
            for picture in written[2:]:
                place = ROOT / "docs" / ("pictures" if picture.suffix == ".png" else ".") / picture.name
                shutil.copyfile(picture, place)
                written.append(place)
            written.append(PAGE)
    except table.Skip as why:
        say(f"No plot: {why}")
    for path in written:
        owned_as(path, ROOT)
    say(f"The figures are in {OUT.relative_to(ROOT)}/results.json" + (", table and plots in docs/." if whole else "."))
    return 1 if any(row.met is False for row in rows) else 0


def draw(folder: Path) -> list[Path]:
    """Have the plots drawn, by a Python that has matplotlib.

    :raises Skip: there is none, and why.
    """
    import peers

    python = peers.environment("plot", ["matplotlib>=3.8,<4"], say)
    done = subprocess.run(
        [python, HERE / "plot.py", folder / "results.json", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise table.Skip(f"plot.py failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return [Path(line) for line in done.stdout.split()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the collection, print one table.")
    parser.add_argument("parts", nargs="*", help=f"which parts, default all: {', '.join(known_parts())}")
    parser.add_argument("--quick", action="store_true", help="see that it works, with few hosts")
    parser.add_argument("--most", type=int, help="no more hosts than this")
    parser.add_argument("--write", action="store_true", help="write docs/benchmark.md whatever was left out")
    parser.add_argument("--patience", type=float, default=1, help="give each part this many times its time")
    parser.add_argument("--run-part", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run_part:
        sys.exit(inside(given.run_part[0], Path(given.run_part[1]), given.quick, given.most))
    sys.exit(main(given))
