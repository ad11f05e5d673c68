# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands run as a module would run them, for tests and benchmarks that have no module."""

from __future__ import annotations

import os
import subprocess
import typing as t


def run_command(argv: t.Sequence[str], data: str, environment: t.Mapping[str, str]) -> tuple[int, str, str]:
    """A `Run` of the DHCP back ends: exit code, output, errors."""
    done = subprocess.run(
        argv, input=data, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr
