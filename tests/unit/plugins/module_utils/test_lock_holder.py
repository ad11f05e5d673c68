# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever waited for a lock in vain is told who has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._lock_holder import describe_process
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import LockTimeout, host_lock
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

HOLD = """
import fcntl, os, subprocess, sys
if len(sys.argv) > 2:
    # as become has it: a child that does not know of the session
    os.environ.pop("SSH_CONNECTION")
    sys.exit(subprocess.run([sys.executable, sys.argv[0], sys.argv[1]], env={}).returncode)
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_sentence_names_the_module_its_age_and_the_controller(tmp_path):
    layout = PxeServer(tmp_path / "server").layout
    layout.locks_dir.mkdir()
    program = tmp_path / "AnsiballZ_esxi_pxe_host.py"
    program.write_text(HOLD)
    holder = subprocess.Popen(
        [sys.executable, str(program), str(layout.lock("esx01.example.com")), "become"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SSH_CONNECTION": "192.0.2.7 50022 192.0.2.1 22"},
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockTimeout) as caught, host_lock(layout, "esx01.example.com", 0.05):
            pass
    finally:
        holder.communicate(timeout=30)
    assert re.search(
        r"another run \(process \d+, esxi_pxe_host, running for \d+ s, from 192\.0\.2\.7\) has held the lock of host "
        r"esx01\.example\.com for more than 0\.05 s: wait for it to end and try again",
        str(caught.value),
    ), caught.value


def test_a_process_that_is_gone_is_a_number():
    assert describe_process(2**22 + 1) == f"process {2**22 + 1}"
