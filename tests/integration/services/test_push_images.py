# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that lie on the controller, brought to a PXE server by the role: a server that is this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="files of the server belong to root"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
]
SIZE = 8 * 2**20
PLAY = [
    {
        "name": "Bring the images",
        "hosts": "pxe_servers",
        "gather_facts": False,
        "module_defaults": {"group/pxemanager.esxi.pxe": {"config": "{{ settings }}"}},
        "tasks": [
            {
                "name": "A part of the role",
                "ansible.builtin.include_role": {"name": "pxemanager.esxi.pxe_server", "tasks_from": "images.yml"},
            }
        ],
    }
]


class Site:
    """Two PXE servers on this machine, hosts of the first, and an ISO on the controller."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = PxeServer(folder / "pxe", dhcp={"mode": "none"})
        self.iso = folder / "esxi.iso"
        self.iso.write_bytes(os.urandom(SIZE))
        self.library = folder / "library"
        (folder / "play.json").write_text(json.dumps(PLAY))

    def copy(self, server: str = "pxe01") -> Path:
        """The ISO on a server."""
        return self.library / server / "esxi-8.iso"

    def start(self, *arguments: str, rate: int = 0, **image: t.Any) -> subprocess.Popen[str]:
        """Begin to bring the image."""
        variables = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "settings": str(self.server.config_path),
            "pxe_server_images": [{"name": "esxi-8", "src": str(self.iso), "from": "controller", **image}],
            "pxe_server_library": str(self.library) + "/{{ inventory_hostname }}",
            "pxe_server_push_rate": rate,
            "pxe_server_push_retries": 0,
        }
        used = {"esxi_host_image": "esxi-8", "esxi_host_pxe_server": "pxe01"}
        inventory = {
            "all": {
                "vars": variables,
                "children": {
                    "pxe_servers": {"hosts": {"pxe01": {}, "pxe02": {}}},
                    "esxi_hosts": {"hosts": {"esx01": used, "esx02": {"esxi_host_pxe_server": "pxe02"}}},
                },
            }
        }
        (self._folder / "inventory.json").write_text(json.dumps(inventory))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return subprocess.Popen(
            [program, "-i", "inventory.json", "play.json", "-v", *arguments],
            env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(self._folder / "tmp"), "ANSIBLE_NOCOLOR": "1"},
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def bring(self, *arguments: str, **more: t.Any) -> str:
        """Bring the image; what Ansible said. Whether it failed is in its recap."""
        self.output = self.start(*arguments, **more).communicate(timeout=120)[0]
        assert "PLAY RECAP" in self.output, self.output
        return self.output

    def sent(self) -> int:
        """Bytes that rsync sent of the ISO itself, in the last run."""
        return sum(int(number.replace(",", "")) for number in re.findall(r'"Literal data: ([\d,]+)', self.output))


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def end_rsync(iso: Path) -> None:
    """SIGKILL for the processes that transfer this very file, as when the line or the machine is gone."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"rsync") and os.fsencode(iso) in words:
            os.kill(int(entry.parent.name), signal.SIGKILL)


def test_an_interrupted_transfer_goes_on_where_it_ended(site: Site) -> None:
    process = site.start("--limit", "pxe01", rate=1024)
    deadline = time.monotonic() + 60
    while not site.copy().exists() or site.copy().stat().st_size < SIZE // 8:
        assert time.monotonic() < deadline and process.poll() is None, "nothing is being brought"
        time.sleep(0.05)
    end_rsync(site.iso)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0, output
    there = site.copy().stat().st_size
    assert SIZE // 8 <= there < SIZE, "the part that came is kept"

    output = site.bring("--limit", "pxe01")

    assert "failed=0" in output and sum_of(site.copy()) == sum_of(site.iso), output
    assert 0 < site.sent() <= SIZE - there, "and the rest alone was sent"


def test_what_is_there_is_not_sent_again_and_what_was_damaged_is(site: Site) -> None:
    # one damaged in the middle, one cut off and damaged, as an interrupted transfer on a bad line would leave it
    for server, length in (("pxe01", SIZE), ("pxe02", SIZE // 2)):
        data = bytearray(site.iso.read_bytes()[:length])
        data[1000] ^= 1
        site.copy(server).parent.mkdir(parents=True)
        site.copy(server).write_bytes(data)
    output = site.bring(push="all")
    assert "failed=0" in output, output
    assert {sum_of(site.copy(server)) for server in ("pxe01", "pxe02")} == {sum_of(site.iso)}, "asked for everywhere"

    output = site.bring(push="all")
    assert "failed=0" in output and site.sent() == 0, output


def test_an_iso_that_is_not_what_was_meant_is_refused_and_removed(site: Site) -> None:
    output = site.bring(checksum="sha256:" + "ab" * 32)
    assert not site.copy("pxe02").parent.exists(), "none of its hosts uses the image"
    assert "failed=1" in output and "Compare the checksum in pxe_server_images" in output, output
    assert sum_of(site.iso) in output and not site.copy().exists()
