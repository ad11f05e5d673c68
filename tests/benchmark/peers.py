# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python environments that only the benchmark needs, made below .lab/bench/ when they are first asked for.

None of them is in tests/requirements.txt: what `make demo` and the tests install stays as small as it is.
"""

from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

from table import Say, Skip

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".lab" / "bench"
MINUTES = 5


def environment(name: str, requirements: t.Sequence[str], say: Say, make: bool = True) -> Path:
    """The Python of an environment that has these packages.

    :arg make: False: it should have been made before the clock ran; if that failed, say why once more.
    :raises Skip: it cannot be made here, and why.
    """
    folder = PLACE / f"venv-{name}"
    why = folder.with_suffix(".failed")
    if not make and why.is_file():
        raise Skip(why.read_text("utf-8"))
    why.unlink(missing_ok=True)
    try:
        return _made(folder, requirements, say)
    except Skip as reason:
        why.write_text(str(reason), "utf-8")
        raise


def _made(folder: Path, requirements: t.Sequence[str], say: Say) -> Path:
    python, made = folder / "bin" / "python", folder / "made-of"
    wanted = "\n".join([sys.version, str(folder), *requirements]) + "\n"
    if made.is_file() and made.read_text("utf-8") == wanted:
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"installing {', '.join(requirements)} into {folder.relative_to(ROOT)} (once)")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=60 * MINUTES, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise Skip(f"{', '.join(requirements)} could not be installed within {MINUTES} minutes.") from None
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            said = next((line for line in lines if "error" in line.lower()), lines[-1])
            raise Skip(f"{', '.join(requirements)} could not be installed ({said.strip()[:200]}).")
    made.write_text(wanted, "utf-8")
    return python
