# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-ins themselves: what they claim to do is what the other tests rest on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_vcsim_ends_with_the_stand_in(authority: Authority, tmp_path: Path, number: signal.Signals) -> None:
    with stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", "Bootstrap-pw-1") as host:
        (simulator,) = children(host.process.pid)
        host.process.send_signal(number)
        host.process.wait(10)
        assert stand_ins.wait_until(lambda: not stand_ins.is_alive(simulator))


def test_the_stand_in_ends_with_its_parent(authority: Authority, tmp_path: Path) -> None:
    pair, state = authority.esxi(), tmp_path / "state"
    state.write_text(stand_ins.crypt_hash("Bootstrap-pw-1"), encoding="utf-8")
    arguments = ["-m", "pxelab.esxi_api", "--listen", "127.0.0.1:0", "--vcsim", str(stand_ins.vcsim_program())]
    arguments += ["--cert", str(pair.cert), "--key", str(pair.key), "--state", str(state)]
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(stand_ins.LAB), "PATH": "/usr/bin:/bin"},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    (simulator,) = children(child)

    parent.kill()
    parent.wait()

    assert stand_ins.wait_until(lambda: not stand_ins.is_alive(child))
    assert stand_ins.wait_until(lambda: not stand_ins.is_alive(simulator))


def test_the_stand_in_ends_when_vcsim_does(authority: Authority, tmp_path: Path) -> None:
    with stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", "Bootstrap-pw-1") as host:
        (simulator,) = children(host.process.pid)
        subprocess.run(["kill", "-9", str(simulator)], check=True)
        assert host.process.wait(10) == 1


def test_a_silent_client_stops_nobody(authority: Authority, tmp_path: Path, run_module) -> None:
    with stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", "Bootstrap-pw-1") as host:
        with socket.create_connection(("127.0.0.1", host.port)):
            result = run_module(
                "esxi_root_password",
                hosts=[
                    {
                        "name": "esx01",
                        "address": "127.0.0.1",
                        "port": host.port,
                        "certificate": host.pair.pem,
                        "password": "Bootstrap-pw-1",
                    }
                ],
                timeout=5,
            )
        assert result["hosts"]["esx01"]["action"] == "unchanged", result["msg"]


def test_memory_of_a_stand_in(authority: Authority, tmp_path: Path, record_property) -> None:
    """Fifty of them share a small machine: their own memory, without the files that they share."""
    with stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", "Bootstrap-pw-1") as host:
        total = 0
        for pid in (host.process.pid, *children(host.process.pid)):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
        record_property("anonymous_kib", total)
        assert total < 40_000


def test_a_look_at_a_host_without_taking_it_in(site, in_vcenter) -> None:
    """QueryConnectionInfo raises its faults at once, and leaves the host as it is."""
    from pyVmomi import vim

    here = site()
    definition = here.host("esx01.example.com")
    known = here.hosts["esx01.example.com"]

    def ask(content: object, **changes: object) -> object:
        center = next(one for one in content.rootFolder.childEntity if one.name == "DC0")
        asked = {
            "hostname": "esx01.example.com",
            "port": known.port,
            "username": "root",
            "password": definition["password"],
            "sslThumbprint": known.pair.fingerprint("sha1"),
            **changes,
        }
        return center.QueryConnectionInfo(**asked)

    found = in_vcenter(here.center, ask)
    assert found.serverIp is None and found.host.config.name == "esx01.example.com"
    for changes, kind in (
        ({"sslThumbprint": "AA:BB"}, vim.fault.SSLVerifyFault),
        ({"password": "wrong"}, vim.fault.InvalidLogin),
        ({"hostname": "esx02.invalid"}, vim.fault.NoHost),
    ):
        with pytest.raises(kind):
            in_vcenter(here.center, lambda content, changes=changes: ask(content, **changes))
    assert known.state().get("managed_by") is None


def test_a_vcsim_without_the_extension_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Somebody's own vcsim may be a fine simulator: what it lacks is said at the start, not in the middle of a test."""
    pair = authority.server()
    program = tmp_path / "vcsim"
    # what such a program says to the extension's object: that there is none
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} - <<'END'\n"
        "import http.server\n"
        "class Other(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        body = b'<e><faultstring>managed object not found: SimpleCommand:pxelab</faultstring></e>'\n"
        "        self.send_response(500)\n"
        "        self.send_header('Content-Length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Other)\n"
        "print(f'export GOVC_URL=http://127.0.0.1:{server.server_port}/sdk', flush=True)\n"
        "server.serve_forever()\n"
        "END\n",
        encoding="utf-8",
    )
    program.chmod(0o755)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pxelab.vcenter_api", "--listen", "127.0.0.1:0", "--vcsim", str(program)),
            *("--cert", str(pair.cert), "--key", str(pair.key)),
        ],
        env={**os.environ, "PYTHONPATH": str(stand_ins.LAB)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1 and "built without tests/lab/vcsim/extension.go" in done.stderr


def test_vcsim_can_be_named(tmp_path: Path) -> None:
    """build.sh takes the program that VCSIM names, and one on PATH, before it builds anything."""
    program = tmp_path / "bin" / "vcsim"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="ascii")
    program.chmod(0o755)
    build = [str(stand_ins.LAB / "vcsim" / "build.sh")]

    subprocess.run([*build, str(tmp_path / "named")], env={"VCSIM": str(program), "PATH": "/usr/bin:/bin"}, check=True)
    subprocess.run([*build, str(tmp_path / "found")], env={"PATH": f"{program.parent}:/usr/bin:/bin"}, check=True)
    # naming what is there already must not make it a link to itself
    subprocess.run([*build, str(program)], env={"VCSIM": str(program), "PATH": "/usr/bin:/bin"}, check=True)

    assert (tmp_path / "named").resolve() == (tmp_path / "found").resolve() == program
    assert program.read_text(encoding="ascii") == "#!/bin/sh\n"
