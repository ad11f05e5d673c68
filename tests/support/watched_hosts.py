# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status files of many hosts in every stage, for tests and pictures of what people and machines watch."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult, Stage
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, Site

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

COLLECTIONS = pathlib.Path(__file__).resolve().parents[2] / ".lab/collections"
SERVICE = pathlib.Path(__file__).resolve().parents[2] / "roles/pxe_server/files/pbconnect.py"

IMAGES = ("esxi-8.0.3", "esxi-8.0.3", "esxi-8.0.3", "esxi-9.0.0")
ACTIONS = ("ntp", "syslog", "vmk1-vmotion", "iscsi", "licence")
# What a person meets: nearly all hosts are done, a rack is being installed, a few have failed.
SHARES: t.Mapping[Stage, float] = {
    "ready": 0.93,
    "defined": 0.02,
    "armed": 0.012,
    "installing": 0.025,
    "installed": 0.008,
    "failed": 0.005,
}


def mac_of(number: int) -> str:
    return f"00:50:56:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def name_of(number: int) -> str:
    return f"esx{number:05d}.ber1.example.com"


def status_in(stage: Stage, name: str, mac: str, now: datetime.datetime, rng: random.Random) -> Status:
    """A host that came to a stage in the ordinary way and at the usual pace."""

    def ago(seconds: float) -> datetime.datetime:
        return now - datetime.timedelta(seconds=seconds)

    image = rng.choice(IMAGES)
    waits, installs, boots = (rng.uniform(low, high) for low, high in ((90, 260), (380, 640), (200, 420)))
    age = rng.uniform(3600, 90 * 86400)
    since = {
        "defined": age,
        "armed": rng.uniform(5, 200),
        "installing": rng.uniform(5, 600),
        "installed": rng.uniform(5, 400),
        "failed": rng.uniform(600, 20000),
        "ready": age,
    }[stage]
    begun = {"armed": 0.0, "installing": waits, "installed": waits + installs}.get(stage, waits + installs + boots)
    start = since + begun
    status = Status.new(name, image, ago(start + 120))
    if stage == "defined":
        return status
    install = Install.new(name, [mac], [], None, ago(start), 86400, rng.randbytes)
    status = status.armed(install, ago(start), image)
    if stage == "armed":
        return status
    status = status.fetched(mac, "192.168.77.21", ago(start - waits * 0.9))
    status = status.notified("installing", ago(start - waits), mac=mac, message="the installer has started")
    if stage == "installing":
        return status
    if stage == "failed" and rng.random() < 0.4:
        return status.notified("failed", ago(since), message="no disk matches first=local: 2 disks seen, both USB")
    status = status.notified("installed", ago(start - waits - installs), message="installed, rebooting")
    if stage == "installed":
        return status
    broken = rng.choice(ACTIONS) if stage == "failed" else None
    actions = [
        ActionResult(action, 3 if action == broken else 0, round(rng.uniform(0.2, 25), 1), False) for action in ACTIONS
    ]
    message = f"{len(actions)} post actions have run"
    status = status.notified("ready", ago(since), actions=actions, certificate=CERTIFICATE, message=message)
    return status.finish(ago(max(since - 60, 0))) if stage == "ready" else status


def fill(site: Site, count: int, now: datetime.datetime, seed: int = 1) -> None:
    """So many hosts, nothing but their status files."""
    rng = random.Random(seed)
    # A few hundred are worked out, the others differ from one of them in name, MAC address and install: in seconds.
    drafts = {stage: [_draft(stage, now, rng) for _number in range(60)] for stage in SHARES}
    stages, weights = list(SHARES), list(SHARES.values())
    for number in range(1, count + 1):
        text, install = rng.choice(drafts[rng.choices(stages, weights)[0]])
        text = text.replace(_NAME, name_of(number)).replace(_MAC, mac_of(number))
        if install:
            text = text.replace(install, f"{install[:-6]}{number:06x}")
        site.layout.status(name_of(number)).write_text(text)


_NAME, _MAC = "the-name.example.com", "00:00:00:00:00:00"


def _draft(stage: Stage, now: datetime.datetime, rng: random.Random) -> tuple[str, str | None]:
    status = status_in(stage, _NAME, _MAC, now, rng)
    return json.dumps(status.to_json()), status.install


@contextlib.contextmanager
def serving(site: Site | PxeServer) -> t.Iterator[Served]:
    """The real service for a site, ended with the block."""
    served = Served(site)
    try:
        served.start()
        yield served
    finally:
        served.stop()


class Served:
    """A service process that can be killed and started again on its port."""

    def __init__(self, site: Site | PxeServer) -> None:
        self._config = site.config_path
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        if self.port:
            # The same port again: browsers and readers of events come back to it.
            document = json.loads(self._config.read_text())
            document["listen"]["port"] = self.port
            self._config.write_text(json.dumps(document))
        self._process = subprocess.Popen(
            [sys.executable, str(SERVICE), "--config", str(self._config)],
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert " event=listening " in line, line
        self.port = int(line.rsplit("=", 1)[1])
        # What it says further must not fill the pipe.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self.wait()

    def wait(self) -> None:
        """Until the first look is done."""
        for _attempt in range(600):
            if self.get("/watch/").status != 503:
                return
            time.sleep(0.05)
        raise AssertionError("the service has not looked at its hosts for half a minute")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)

    def get(self, path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> t.Any:
        return json.loads(self.text)
