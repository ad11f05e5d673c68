# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure what the role esxi_host itself takes, all but waiting: ``python tests/benchmark/provision.py [hosts]``.

The whole role runs, as provision.yml runs it, for 1, 100 and 1,000 hosts: settings put together, kickstarts written,
hosts published, asked about and armed, waited for, their passwords set, added to a real vcsim, noted as finished. The
PXE server is a folder of this machine. As soon as a host is armed, a thread writes what pbconnect would have written
when that host had become ready, so that nobody waits for a machine. All hosts' own APIs are one server here, which has
the wanted root password already.

Then the same again, with nothing to do. Every figure is the wall-clock time of a whole ansible-playbook on this machine
and within this run, its memory that of the controlling process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from contextlib import ExitStack
from pathlib import Path

from publish import ROOT, definitions

sys.path.insert(0, str(ROOT / ".lab" / "collections"))

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

if t.TYPE_CHECKING:
    from table import Run

LIMIT = 1500  # a thousand hosts take Ansible itself some ten minutes a run
QUICK_LIMIT = 60
FORKS = 20
BOOTSTRAP, WANTED = "Bootstrap-pw-1", "Wanted-secret-2"


class Responder:
    """Makes every host ready as soon as it is armed."""

    def __init__(self, server: PxeServer, names: t.Sequence[str], certificate: str) -> None:
        self._server, self._left, self._certificate = server, set(names), certificate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Responder:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while self._left and not self._over.wait(0.2):
            for name in list(self._left):
                if self._server.layout.mode_link(name).is_symlink() and self._server.mode(name) == "install":
                    self._answer(name)
                    self._left.discard(name)

    def _answer(self, name: str) -> None:
        for stage in ("installing", "installed", "ready"):
            report = {"certificate": self._certificate} if stage == "ready" else {}
            self._server.notify(stage, name, **report)


@dataclasses.dataclass
class Played:
    """How a playbook went."""

    seconds: float
    memory: float
    cpu: float
    text: str


class Fleet:
    """An inventory of hosts, their PXE server and their vCenter."""

    def __init__(self, folder: Path, count: int, here: Here) -> None:
        self.folder, self.count = folder, count
        folder.mkdir()
        settings = {"dhcp": {"mode": "dnsmasq", "hosts_dir": str(folder / "pxe/state/dhcp-hosts"), "reload": []}}
        self.server = PxeServer(folder / "pxe", **settings)
        self.names = [f"esx{number:05}.example.com" for number in range(count)]
        hosts = {one["name"]: self._variables(one, here) for one in definitions(count)}
        inventory = {
            "pxe_servers": {"hosts": {"pxe01": {}}},
            "esxi_hosts": {"hosts": hosts, "vars": here.variables()},
            "all": {"vars": self._connection()},
        }
        (folder / "inventory.json").write_text(json.dumps(inventory), "utf-8")
        play = {
            "name": "Install the ESXi hosts and take them into vCenter",
            "hosts": "esxi_hosts",
            "gather_facts": False,
            "module_defaults": {
                "group/pxemanager.esxi.pxe": {"config": str(self.server.config_path)},
                "pxemanager.esxi.esxi_root_password": {"attempts_file": str(folder / "attempts.json")},
            },
            "roles": [{"role": "pxemanager.esxi.esxi_host"}],
        }
        (folder / "play.json").write_text(json.dumps([play]), "utf-8")

    @staticmethod
    def _connection() -> dict[str, t.Any]:
        return {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }

    @staticmethod
    def _variables(one: dict[str, t.Any], here: Here) -> dict[str, t.Any]:
        return {
            "esxi_host_macs": one["macs"],
            "esxi_host_network": one["network"],
            "esxi_host_api_address": here.address,
        }

    def run(self, here: Here, forks: int = FORKS) -> Played:
        """The playbook, once."""
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": os.environ.get("COLL", str(ROOT / ".lab" / "collections")),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_FORKS": str(forks),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible"),
            "SSL_CERT_FILE": str(here.trusted),
            **here.environment,
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook"))]
        command += ["-i", str(self.folder / "inventory.json"), str(self.folder / "play.json")]
        begun = time.monotonic()
        with (self.folder / "output").open("w+b") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
            _pid, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - begun
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        if process.returncode:
            failed = [line for line in text.splitlines() if "fatal" in line or "ERROR" in line]
            sys.exit(f"the playbook failed for {len(failed)} hosts: {failed[:1]}\n{text[-2000:]}")
        return Played(seconds, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime, text)


class Here:
    """What is there for all fleets: a vCenter, and an ESXi host that stands for every host."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        authority = Authority(folder / "authority")
        self.trusted = authority.pair.cert
        self.address = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
        self.center = stack.enter_context(stand_ins.vcsim(authority.server(), folder / "vcsim.log", "-trace=false"))
        self.host = stack.enter_context(
            # Its password is set already: a thousand hosts cannot each change the same one.
            stand_ins.esxi_host(authority.esxi(), folder / "esxi", WANTED, address=self.address, port=443)
        )
        self.environment: dict[str, str] = {}

    def variables(self) -> dict[str, t.Any]:
        """Of all hosts."""
        return {
            "esxi_host_image": "esxi-8.0.3",
            "esxi_host_disk": {"first": ["local"]},
            "esxi_host_bootstrap_password": BOOTSTRAP,
            "esxi_host_root_password": WANTED,
            "esxi_host_timeout": 120,
            "esxi_host_vcenter": {"hostname": "127.0.0.1", "datacenter": "DC0", "cluster": "DC0_C1"},
            "esxi_host_vcenter_port": self.center.port,
            "esxi_host_vcenter_username": stand_ins.USER,
            "esxi_host_vcenter_password": stand_ins.PASSWORD,
        }


COUNTS, QUICK_COUNTS = (1, 100, 1000), (1, 10)


def measure(run: Run) -> None:
    """First run and unchanged run, for each size."""
    from table import Row, Skip

    if os.geteuid() != 0:
        raise Skip("the hosts' own API is at port 443, which needs root")
    with ExitStack() as stack:
        here = Here(run.folder, stack)
        for count in QUICK_COUNTS if run.quick else COUNTS:
            fleet = Fleet(run.folder / f"fleet{count}", count, here)
            with Responder(fleet.server, fleet.names, here.host.pair.pem):
                first = fleet.run(here)
            second = fleet.run(here)
            for name, played in (("all but waiting, first run", first), ("nothing to do", second)):
                note = f"{played.cpu:.0f} s CPU, {FORKS} forks"
                run.add(Row(name, count, seconds=played.seconds, memory=played.memory, note=note))


def main(count: int, directory: Path) -> None:
    """One size, without the table."""
    with ExitStack() as stack:
        here = Here(directory, stack)
        fleet = Fleet(directory / "fleet", count, here)
        with Responder(fleet.server, fleet.names, here.host.pair.pem):
            _tell(count, "first run", fleet.run(here))
        _tell(count, "nothing to do", fleet.run(here))


def _tell(count: int, name: str, played: Played) -> None:
    print(
        f"{count:,} hosts, {name}: {played.seconds:.1f} s, {played.cpu:.1f} s CPU, {played.memory:.0f} MiB", flush=True
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pxemanager-bench-", dir="/var/tmp") as place:
        main(int(sys.argv[1]) if sys.argv[1:] else 100, Path(place))
