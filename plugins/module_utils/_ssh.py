# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: scripts on an ESXi host through this machine's own ``ssh`` program, with a password.

The password is handed over through ``SSH_ASKPASS``, so it is in no argument list and in no file: the helper program
prints a variable of its environment. Nobody's SSH configuration, keys and known hosts are looked at: what a host gets
must not depend on who runs the play.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = ["RunCommand", "Ssh", "SshRefusedError", "SshUnreachableError"]

RunCommand = t.Callable[..., tuple[int, str, str]]
"""AnsibleModule.run_command(), or something that takes and returns the same."""

_VARIABLE = "PXEMANAGER_ESXI_SSH_PASSWORD"
_HELPER = f"""#!/bin/sh
printf '%s\\n' "${_VARIABLE}"
"""
_OWN_FAILURE = 255


class SshUnreachableError(EsxiPxeError):
    """No connection came about, or it broke. Trying again may help."""


class SshRefusedError(EsxiPxeError):
    """The host does not let this user in. Trying again would help to lock the account."""


class Ssh:
    """Connections to one host. Use it in a ``with``: what it keeps on disk meanwhile is removed.

    The host's key is taken as it comes at the first connection and must be the same at every further one.
    folder: where temporary folders may be made and programs in them run.
    """

    def __init__(self, run: RunCommand, program: str, folder: str, address: str, port: int, user: str) -> None:
        self._run = run
        self._program = program
        self._parent = folder
        self._where = (address, port, user)
        self._folder = ""

    def __enter__(self) -> Ssh:
        self._folder = tempfile.mkdtemp(prefix="ssh-", dir=self._parent)
        with open(os.open(self._helper, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w", encoding="ascii") as stream:
            stream.write(_HELPER)
        return self

    def __exit__(self, *unused: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _helper(self) -> str:
        return os.path.join(self._folder, "askpass")

    def run(self, script: str, password: str) -> tuple[int, str, str]:
        """Have a shell on the host read a script; its exit code, standard output and standard error.

        One login attempt. Raises SshUnreachableError, SshRefusedError. A script that ends with 255 itself cannot be
        told from a connection that broke.
        """
        address, port, _user = self._where
        try:
            code, out, err = self._run(
                self._arguments(),
                data=script,
                environ_update={"SSH_ASKPASS": self._helper, "SSH_ASKPASS_REQUIRE": "force", _VARIABLE: password},
                expand_user_and_vars=False,
                handle_exceptions=False,
            )
        except BrokenPipeError:
            # ssh has ended before it took the script: there was no connection.
            raise SshUnreachableError(f"SSH at {address}:{port} takes no connection.") from None
        if code != _OWN_FAILURE:
            return code, out, err
        said = (err.strip().splitlines() or ["no reason given"])[-1].strip()
        if "Permission denied" in err or "Too many authentication failures" in err:
            raise SshRefusedError(f"SSH at {address}:{port} refuses the login: {said}")
        raise SshUnreachableError(f"SSH at {address}:{port}: {said}")

    def _arguments(self) -> list[str]:
        address, port, user = self._where
        options = (
            f'UserKnownHostsFile="{os.path.join(self._folder, "known_hosts")}"',
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=accept-new",
            "PubkeyAuthentication=no",
            # ESXi asks for passwords in the first of these ways, and offers no other.
            "PreferredAuthentications=keyboard-interactive,password",
            "NumberOfPasswordPrompts=1",
            "ControlPath=none",
            "ConnectTimeout=10",
            # An action may be silent for long: the connection is what is looked at.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=8",
            "LogLevel=ERROR",
        )
        words = [self._program, "-F", "none", "-T", "-p", str(port), "-l", user]
        for option in options:
            words += ["-o", option]
        return [*words, "--", address, "sh"]
