# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the pictures of the pages that are in docs/pictures/: ``make pictures``.

Each is of the real service and the distribution's Chromium. Says also how long 10,000 hosts take the browser.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".lab" / "collections"))

from selenium import webdriver  # noqa: E402

from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult  # noqa: E402
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import write_json  # noqa: E402
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, Site  # noqa: E402
from ansible_collections.pxemanager.esxi.tests.support.browser import browser, picture, prefer, resize  # noqa: E402
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition  # noqa: E402
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import fill, serving  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
NAMES = [f"esx{number:02d}.example.com" for number in (1, 2, 3)]


def ago(seconds: float) -> datetime.datetime:
    """A time before now."""
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)


def empty_server(root: Path) -> PxeServer:
    """A server that no host has been published on."""
    server = PxeServer(root, address="127.0.0.1", listen={"host": "127.0.0.1", "port": 0}, site="Berlin 1")
    for folder in (server.layout.status_dir, server.layout.installs_dir, server.layout.locks_dir):
        folder.mkdir(parents=True, exist_ok=True)
    return server


def install_three(server: PxeServer) -> None:
    """One host that is ready, one that is being installed, one that waits for its first boot."""
    hosts = [definition(number) for number in (1, 2, 3)]
    server.write_kickstarts(*hosts)

    def at(seconds: float, stage: str, number: int, **report: t.Any) -> None:
        server.now = ago(seconds)
        if stage == "armed":
            server.good("armed", hosts[number])
        elif stage == "fetched":
            status = server.status(NAMES[number])
            status = status.fetched(hosts[number]["macs"][0], f"192.168.77.{21 + number}", server.now)
            write_json(server.layout.status(NAMES[number]), status.to_json())
        else:
            server.notify(stage, NAMES[number], mac=hosts[number]["macs"][0], **report)
        # The service looks twice a second: each is a change of its own.
        time.sleep(0.7)

    at(1500, "armed", 0)
    at(1330, "fetched", 0)
    at(1310, "installing", 0, message="the installer has started")
    at(800, "installed", 0, message="installed, rebooting")
    actions = [ActionResult("ntp", 0, 1.2), ActionResult("syslog", 0, 0.8), ActionResult("vmk1-vmotion", 0, 3.4)]
    at(470, "ready", 0, actions=actions, certificate=CERTIFICATE, message="3 post actions have run")
    status = server.status(NAMES[0]).finish(ago(440))
    write_json(server.layout.status(NAMES[0]), status.to_json())
    at(420, "armed", 1)
    at(290, "fetched", 1)
    at(270, "installing", 1, message="the installer has started")
    at(95, "armed", 2)


def show(driver: webdriver.Chrome, url: str, name: str, height: int, scheme: str = "light") -> None:
    """Take one picture."""
    resize(driver, 1400, height)
    prefer(driver, scheme)
    driver.get(url)
    time.sleep(1)
    picture(driver, PICTURES / name)


def measure(driver: webdriver.Chrome, url: str) -> None:
    """Say how long a page of many hosts takes."""
    driver.get(url)
    time.sleep(1)
    paint = driver.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    # By the browser's own clock, from the key to the row.
    driver.set_script_timeout(20)
    seconds = driver.execute_async_script(FILTER) / 1000
    print(f"10,000 hosts: first paint {paint:.2f} s after the request, filtered {seconds:.2f} s after the key")


FILTER = """
const done = arguments[0], begun = performance.now(), search = document.querySelector('[name=q]');
new MutationObserver(() => {
  if (document.querySelectorAll('#hosts tbody tr').length === 1) done(performance.now() - begun);
}).observe(document.getElementById('hosts'), { childList: true, subtree: true });
search.value = 'esx09876';
search.dispatchEvent(new Event('input', { bubbles: true }));
"""


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        server = empty_server(Path(folder) / "three")
        with serving(server) as served:
            install_three(server)
            show(driver, f"{served.url}/watch/", "overview.png", 440)
            show(driver, f"{served.url}/watch/hosts/{NAMES[0]}", "host.png", 900)
        site = Site(Path(folder) / "many", site="Berlin 1")
        fill(site, 10_000, ago(0))
        with serving(site) as served:
            show(driver, f"{served.url}/watch/?stage=active", "overview-10000.png", 800)
            show(driver, f"{served.url}/watch/", "dark.png", 800, "dark")
            measure(driver, f"{served.url}/watch/")


if __name__ == "__main__":
    main()
