# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pbconnect service as a process of its own, as the role installs it, and a client: for tests."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICE = ROOT / "roles" / "pxe_server" / "files" / "pbconnect.py"
NOTIFY = "/pbconnect/v1/notify"
# Whose requests these are unless a test says otherwise.
ADDRESS = "192.168.77.21"


@functools.cache
def library() -> pathlib.Path:
    """What the role puts on a PXE server: module_utils alone, below the collection's namespace."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="esxi-pxe-library-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "ansible_collections" / "pxemanager" / "esxi" / "plugins" / "module_utils"
    shutil.copytree(ROOT / "plugins" / "module_utils", target, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Service:
    """One service process and what it has written."""

    def __init__(
        self,
        site: t.Union[Site, PxeServer],
        python: str = sys.executable,
        script: pathlib.Path = SERVICE,
        code: t.Optional[pathlib.Path] = None,
        user: t.Optional[pwd.struct_passwd] = None,
        **environment: str,
    ) -> None:
        self.process = subprocess.Popen(
            [python, str(script), "--config", str(site.config_path)],
            env={"PYTHONPATH": str(code or library()), "PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **({} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}),
        )
        self.lines: list[str] = []
        self._listening = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._listening.wait(30)
        assert self.port, f"the service did not start: {self.lines}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = re.fullmatch(r"level=info event=listening address=\S+ port=(\d+)", self.lines[-1])
            if found:
                self.port = int(found.group(1))
                self._listening.set()
        self._listening.set()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        self.process.terminate()
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(40)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def wait_for(self, pattern: str, seconds: float = 10) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line {pattern!r} in {self.lines}")


@dataclasses.dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> t.Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | t.Iterable[bytes] | None = None,
    *,
    client: str | None = ADDRESS,
    host: str = "127.0.0.1",
    **headers: str,
) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        if client is not None:
            headers["X-Real-IP"] = client
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def tell(port: int, token: str, stage: str, client: str = ADDRESS, **values: object) -> Answer:
    body = json.dumps({"stage": stage, **values}).encode()
    return ask(port, "POST", NOTIFY, body, client=client, Authorization=f"Bearer {token}")
