# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH of a stand-in ESXi host: a real SSH server that asks for the stand-in's root password, as ESXi's does.

A shell on it is one of this machine with ``FOLDER/bin`` first on its path, where ``esxcli`` and ``vim-cmd`` only note
what they were called with in ``FOLDER/calls``. Paths of the installed host that a script names are below ``FOLDER``.
``FOLDER/events`` has a line for everything that somebody may want to know afterwards.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncssh
from pyVmomi import vim

from . import soap, vim_xml

KEY = "TSM-SSH"
_STUB = '#!/bin/sh\necho "{name} $*" >>"{folder}/calls"\n'
# vim-cmd hostsvc/enable_ssh: from now on SSH starts with the host
_POLICY = 'case "$1" in hostsvc/enable_ssh) echo on >"{folder}/policy" ;; esac\n'
_REBOOT = '#!/bin/sh\necho reboot >>"{folder}/calls"\n: >"{folder}/reboot-asked"\n'
_MOVED = ("/var/log/", "/etc/vmware/", "/sbin/auto-backup.sh", "/dev/console", "/var/run/", "/vmfs", "/bin/reboot")
# Seconds that a restart takes: until it goes down, and until it answers again.
_GOING, _COMING = 1.0, 2.0


class SshService:
    """The service TSM-SSH: the calls of the API about it, and the server that they start and stop."""

    def __init__(self, listen: tuple[str, int], folder: Path, certificate: Path, login: Callable[[str, str], bool]):
        self._listen = listen
        self._folder = folder
        self._login = login
        self._lock = threading.Lock()
        self._server: asyncssh.SSHAcceptor | None = None
        self._down_until = 0.0
        for path in ("bin", "var/log", "var/run", "vmfs/volumes", "etc/vmware/ssl"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        (folder / "etc/vmware/ssl/rui.crt").write_bytes(certificate.read_bytes())
        for name, more in (("esxcli", ""), ("localcli", ""), ("vim-cmd", _POLICY)):
            stub = folder / "bin" / name
            stub.write_text((_STUB + more).format(name=name, folder=folder), encoding="utf-8")
            stub.chmod(0o755)
        reboot = folder / "bin/reboot"
        reboot.write_text(_REBOOT.format(folder=folder), encoding="utf-8")
        reboot.chmod(0o755)
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def answer(self, call: soap.Call) -> soap.Answer | None:
        """The answer to a call about services; ``None`` for every other call."""
        if time.monotonic() < self._down_until:
            return soap.Answer(503, b"")
        if call.method in ("StartService", "StopService"):
            return self._switch(call)
        if b"HostServiceSystem" in call.body and b"serviceInfo" in call.body:
            info = self._info()
            if call.method == "Fetch":
                return vim_xml.returned(call, info)
            reference = vim.host.ServiceSystem("serviceSystem")
            return vim_xml.contents(call, [(reference, {"serviceInfo": info})])
        return None

    def _switch(self, call: soap.Call) -> soap.Answer:
        allowed = call.forward(
            soap.envelope(
                '<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>'
            )
        )
        if allowed.status != 200:
            return allowed
        if call.text("id") != KEY:
            return soap.fault("NotFound", "There is no such service.")
        with self._lock:
            if call.method == "StartService" and self._server is None:
                self._server = self._wait(self._start())
            elif call.method == "StopService" and self._server is not None:
                self._server.get_loop().call_soon_threadsafe(self._server.close)
                self._wait(self._server.wait_closed())
                self._server = None
        self._note(call.method)
        return vim_xml.returned(call, None)

    def _info(self) -> Any:
        service = vim.host.Service(
            key=KEY,
            label="SSH",
            required=False,
            uninstallable=False,
            running=self._server is not None,
            ruleset=["sshServer"],
            policy=self._policy(),
        )
        return vim.host.ServiceInfo(service=[service])

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> asyncssh.SSHAcceptor:
        owner = self

        class Login(asyncssh.SSHServer):
            """ESXi's sshd takes passwords in this way only."""

            _user = ""

            def begin_auth(self, username: str) -> bool:
                self._user = username
                return True

            def kbdint_auth_supported(self) -> bool:
                return True

            def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
                return "", "", lang, [("Password:", False)]

            def validate_kbdint_response(self, username: str, responses: Any) -> bool:
                good = len(responses) == 1 and owner._login(username, responses[0])
                owner._note("login" if good else "wrong login")
                return good

        return await asyncssh.listen(
            *self._listen,
            server_factory=Login,
            server_host_keys=[self._key],
            process_factory=self._shell,
            password_auth=False,
            public_key_auth=False,
            encoding=None,
            reuse_address=True,
        )

    async def _shell(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        script = (await process.stdin.read()).decode()
        for path in _MOVED:
            script = script.replace(path, f"{self._folder}{path}")
        environment = {**os.environ, "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}"}
        shell = await asyncio.create_subprocess_exec(
            *(process.command or "sh").split(),
            cwd=self._folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await shell.communicate(script.encode())
        process.stdout.write(out)
        process.stderr.write(err)
        process.exit(shell.returncode or 0)
        asked = self._folder / "reboot-asked"
        if asked.exists():
            asked.unlink()
            # Kept, so that nobody takes it away before it has run.
            self._restarting = asyncio.ensure_future(self._restart())

    async def _restart(self) -> None:
        """Down, and up again with an empty memory; SSH runs only where it starts with the host."""
        await asyncio.sleep(_GOING)
        self._note("restart")
        self._down_until = time.monotonic() + _COMING
        if self._server is not None:
            self._server.close()
            self._server = None
        for path in (self._folder / "var/run").iterdir():
            path.unlink()
        if self._policy() == "on":
            await asyncio.sleep(_COMING)
            self._server = await self._start()

    def _policy(self) -> str:
        path = self._folder / "policy"
        return path.read_text(encoding="utf-8").strip() if path.exists() else "off"

    def _note(self, event: str) -> None:
        with (self._folder / "events").open("a", encoding="utf-8") as stream:
            stream.write(event + "\n")
