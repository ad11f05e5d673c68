# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ssh: how the password travels, and what is made of ssh's own failures. The real thing: tests/integration/vcenter."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._ssh import Ssh, SshRefusedError, SshUnreachableError

PASSWORD = "it's $(a) \\ secret\"%s"


def connect(run, tmp_path):
    return Ssh(run, "/usr/bin/ssh", str(tmp_path), "192.168.77.21", 22, "root")


def test_the_password_is_in_no_argument_and_in_no_file(tmp_path):
    seen = []

    def run(arguments, *, data, environ_update, **how):
        helper = environ_update["SSH_ASKPASS"]
        mode = stat.S_IMODE(os.stat(helper).st_mode), stat.S_IMODE(os.stat(os.path.dirname(helper)).st_mode)
        text = pathlib.Path(helper).read_text()
        said = subprocess.run([helper], env={**os.environ, **environ_update}, capture_output=True, check=True).stdout
        seen.append((arguments, data, mode, text, said.decode(), environ_update["SSH_ASKPASS_REQUIRE"]))
        return 0, "out", "err"

    with connect(run, tmp_path) as ssh:
        assert ssh.run("echo hello\n", PASSWORD) == (0, "out", "err")

    arguments, data, mode, text, said, require = seen[0]
    assert PASSWORD not in str(arguments) and PASSWORD not in text and data == "echo hello\n"
    assert (said, require) == (PASSWORD + "\n", "force")
    assert mode == (0o700, 0o700)
    assert arguments[-3:] == ["--", "192.168.77.21", "sh"] and arguments[1:3] == ["-F", "none"]
    assert "NumberOfPasswordPrompts=1" in arguments
    assert os.listdir(tmp_path) == [], "nothing is left"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("root@192.168.77.21: Permission denied (keyboard-interactive).", SshRefusedError),
        ("Received disconnect from 192.168.77.21: Too many authentication failures", SshRefusedError),
        ("ssh: connect to host 192.168.77.21 port 22: Connection refused", SshUnreachableError),
        ("", SshUnreachableError),
    ],
)
def test_what_is_worth_another_try_is_told_from_a_refusal(tmp_path, said, kind):
    with connect(lambda *_words, **_how: (255, "", said), tmp_path) as ssh, pytest.raises(kind) as failed:
        ssh.run("true\n", PASSWORD)
    assert "192.168.77.21:22" in str(failed.value) and PASSWORD not in str(failed.value)


def test_an_ssh_that_ends_before_it_reads_is_no_connection(tmp_path):
    def run(*_words, **_how):
        raise BrokenPipeError

    with connect(run, tmp_path) as ssh, pytest.raises(SshUnreachableError):
        ssh.run("true\n", PASSWORD)
