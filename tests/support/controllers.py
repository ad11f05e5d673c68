# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers at one PXE server at once, each an ansible-playbook, while hosts install; and what came of it.

Each controller has a part of the hosts, and the parts overlap. It writes kickstarts, publishes, arms, disarms, arms
again and takes away, in an order of its own. Two controllers give the same host two different definitions; others give
two hosts the same MAC address, or the same IP address. Machines that are armed fetch their kickstart and report.

What counts is on disk afterwards: every acknowledged stage; no file that is torn or half a definition; every host in a
state that one of the possible orders of what was done to it gives; of two hosts that want the same address one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._published import survey
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_faults import (
    Machine,
    Service,
    free_port,
    now,
    start_processes,
)
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ("esxi-8.0.3", "esxi-8.0.2")
REMOVES = "absent"

# Why a host may be refused when somebody else takes it away at the same moment.
BETWEEN = ("has no kickstart for", "was removed by another run", "is not published on this PXE server")


def host(number: int, version: int = 0, **changes: t.Any) -> dict[str, t.Any]:
    """A host's definition; two versions of one differ in what is in several files."""
    return {
        "name": f"esx{number:05}.example.com",
        "macs": [f"00:50:56:{nic}0:{number >> 8:02x}:{number & 255:02x}" for nic in "12"],
        "network": {"address": f"10.1.{number >> 8}.{number & 255}/8", "gateway": f"10.255.255.25{version}"},
        "image": IMAGES[version],
        "firmware": "uefi",
        "disk": {"first": ["local"]},
        **changes,
    }


@dataclasses.dataclass
class Controller:
    """One controller's hosts, and what it does to them in turn: a state of esxi_pxe_host, and to which hosts."""

    hosts: list[dict[str, t.Any]]
    steps: list[tuple[str, list[dict[str, t.Any]]]]
    refused: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    done: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0

    @property
    def removes(self) -> set[str]:
        return {one["name"] for state, hosts in self.steps if state == REMOVES for one in hosts}


def controllers(count: int, size: int, overlap: int, short: bool = False) -> list[Controller]:
    """Controllers with `size` hosts each, of which so many are the next one's as well; `short`: with half the steps."""
    made = []
    for which in range(count):
        first = which * (size - overlap)
        hosts = [host(first + number, which % 2) for number in range(size)]
        clash = 60000 + which // 2
        hosts.append(
            host(
                61000 + which,
                macs=host(clash)["macs"] if which % 4 < 2 else host(61000 + which)["macs"],
                network=host(61000 + which)["network"] if which % 4 < 2 else host(clash)["network"],
            )
        )
        quarter = max(1, size // 4)
        steps: list[tuple[str, list[dict[str, t.Any]]]] = [("armed", hosts)]
        if which % 2 == 0:
            steps += [("disarmed", hosts[:quarter])]
            steps += [] if short else [("published", hosts), ("armed", hosts)]
        else:
            # The last of its own, and some that are the next one's as well.
            steps += [(REMOVES, hosts[size - quarter : size])]
            steps += [] if short else [("armed", hosts[: size - quarter])]
        made.append(Controller(hosts, steps))
    return made


class Campaign:
    """One PXE server with its pbconnect service, and what happened on it."""

    def __init__(self, folder: pathlib.Path) -> None:
        start_processes()
        self.folder = folder
        self.port = free_port()
        self.server = PxeServer(
            folder / "pxe",
            listen={"host": "127.0.0.1", "port": self.port},
            dhcp={"mode": "dnsmasq", "hosts_dir": str(folder / "pxe/state/dhcp-hosts"), "reload": ["/bin/true"]},
        )
        self.server.import_image(IMAGES[1], "8.0.2")
        self.service = Service(self.server.config_path, self.port, folder / "service.log")
        self.machines: list[Machine] = []
        self.problems: list[str] = []
        self.rounds = self.hosts = self.operations = self.clashes = self.between = 0

    def run(self, those: t.Sequence[Controller]) -> None:
        """Let them all work at once, with the machines, and look at what came of it."""
        self.rounds += 1
        names = {one["name"] for controller in those for one in controller.hosts}
        self.hosts += len(names)
        stop = threading.Event()
        with contextlib.suppress(FileExistsError):
            (self.folder / "tmp").mkdir()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        watcher.start()
        try:
            with concurrent.futures.ThreadPoolExecutor(len(those)) as pool:
                for one in [pool.submit(self._play, which, controller) for which, controller in enumerate(those)]:
                    one.result()
        finally:
            stop.set()
            watcher.join()
        self._look(those)

    # What they do.

    def _play(self, which: int, controller: Controller) -> None:
        results = self.folder / f"results-{which}.json"
        results.unlink(missing_ok=True)
        tasks: list[dict[str, t.Any]] = []
        options = {"config": str(self.server.config_path), "on_host_failure": "report"}
        for number, (state, hosts) in enumerate(controller.steps):
            if state in ("armed", "published"):
                tasks.append(
                    {
                        "pxemanager.esxi.esxi_kickstart": {"hosts": hosts, "root_password": "Boot-strap-1", **options},
                        "register": f"kickstarts_{number}",
                    }
                )
            tasks.append(
                {
                    "pxemanager.esxi.esxi_pxe_host": {"hosts": hosts, "state": state, **options},
                    "register": f"step_{number}",
                }
            )
        steps = ", ".join(f"step_{number}.hosts" for number in range(len(controller.steps)))
        tasks.append({"ansible.builtin.copy": {"content": f"{{{{ [{steps}] | to_json }}}}", "dest": str(results)}})
        book = self.folder / f"controller-{which}.json"
        variables = {"ansible_python_interpreter": sys.executable}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
        book.write_text(json.dumps([play]))
        begun = time.monotonic()
        done = subprocess.run(
            [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), str(book)],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".lab" / "collections"),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        controller.seconds = time.monotonic() - begun
        if done.returncode:
            raise AssertionError(f"controller {which} ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr}")
        for step in json.loads(results.read_text()):
            for name, result in step.items():
                self.operations += 1
                if result["failed"]:
                    controller.refused.setdefault(name, []).append(result["msg"])
                else:
                    controller.done[name] = controller.done.get(name, 0) + 1

    def _watch(self, stop: threading.Event) -> None:
        """Machines that are armed boot, one after the other, as long as there are controllers."""
        self.service.start()
        seen: set[str] = set()
        try:
            while not stop.is_set():
                for entry in sorted(self.server.layout.installs_dir.glob("[!.]*.json")):
                    if stop.is_set():
                        break
                    machine = self._boots(entry.stem, seen)
                    if machine is not None:
                        self.machines.append(machine)
                        machine.run(self.port, stop)
                time.sleep(0.05)
        finally:
            self.service.stop()

    def _boots(self, name: str, seen: set[str]) -> Machine | None:
        """What a machine does that was told to install: it asks for its kickstart. Every third one is switched on."""
        if int(name[3:8]) % 3:
            return None
        try:
            install = self.server.install(name)
            if install.key is None or install.install in seen or self.server.mode(name) != "install":
                return None
        except (OSError, ValueError):
            return None  # taken away at this moment
        seen.add(install.install)
        mac, address = install.macs[0], install.addresses[0]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                "GET", f"/ks/{install.key}/01-{mac.replace(':', '-')}.cfg", headers={"X-Real-IP": address}
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            return None  # disarmed or taken away at this moment
        token = next((word for word in text.replace("'", " ").replace('"', " ").split() if f"{name}~" in word), "")
        return Machine(name, mac, address, install.install, token[token.index(name) :]) if token else None

    # What came of it.

    def _look(self, those: t.Sequence[Controller]) -> None:
        server = self.server
        found = survey(server.config, now())
        removable = set().union(*(controller.removes for controller in those))
        for name, published in found.hosts.items():
            for sentence in published.problems:
                # Kickstarts that one wrote, another took away with the host, before the first published it.
                if not (name in removable and "without kickstart" in sentence):
                    self.problems.append(sentence)
        for one in found.leftovers:
            # The same; and those of a host that was refused because of its address.
            kickstarts = one.msg.split(": ")[1].startswith("kickstarts.")
            if not (kickstarts and (one.name in removable or one.name[3:5] == "61")):
                self.problems.append(one.msg)
        self.problems += [f"{path} is left over" for path in server.temporary_files()]
        versions: dict[str, list[dict[str, t.Any]]] = {}
        for controller in those:
            for one in controller.hosts:
                versions.setdefault(one["name"], []).append(one)
        for name, known in versions.items():
            self._look_at(name, known, name in removable, name in found.hosts)
        for machine in self.machines:
            self._heard(machine, machine.name in removable)
        self._refusals(those, removable, set(found.hosts))

    def _look_at(self, name: str, known: list[dict[str, t.Any]], removable: bool, there: bool) -> None:
        if name[3:5] == "61":
            return  # see _refusals()
        if not there:
            if not removable:
                self.problems.append(f"{name} is lost: nobody has taken it away")
            return
        record = json.loads(self.server.layout.record(name).read_bytes())
        version = [one for one in known if one["image"] == record["image"]]
        if not version or record["network"]["gateway"] != version[0]["network"]["gateway"]:
            self.problems.append(f"{name} is published as a mixture of two definitions")
            return
        status = self.server.status(name)
        if self.server.mode(name) == "install":
            text = self.server.boot_file(record["macs"][0], "uefi")
            if status.image != record["image"] or f"/images/{record['image']}/" not in text:
                self.problems.append(f"{name} is armed with {status.image} and published with {record['image']}")

    def _heard(self, machine: Machine, removable: bool) -> None:
        try:
            status = self.server.status(machine.name)
        except FileNotFoundError:
            if not removable:
                self.problems.append(f"{machine.name} has lost its status")
            return
        if status.install == machine.install:
            lost = [stage for stage in machine.acknowledged if stage not in status.stages]
            if lost:
                self.problems.append(f"{machine.name} has lost {', '.join(lost)}, which was acknowledged")
            if machine.acknowledged and self.server.mode(machine.name) != "local":
                self.problems.append(f"{machine.name} would install again after {machine.acknowledged[-1]}")
        elif machine.acknowledged and not removable:
            # Nobody asks for a reinstall, so only a host that was taken away is armed a second time after that.
            self.problems.append(f"{machine.name} was armed again although its install had begun")

    def _refusals(self, those: t.Sequence[Controller], removable: set[str], there: set[str]) -> None:
        pairs: dict[int, list[str]] = {}
        for which, controller in enumerate(those):
            pairs.setdefault(which // 2, []).append(controller.hosts[-1]["name"])
            for name, reasons in controller.refused.items():
                for reason in reasons:
                    if name[3:5] == "61" and "belongs to" in reason:
                        self.clashes += 1
                    elif name in removable and any(sentence in reason for sentence in BETWEEN):
                        self.between += 1
                    else:
                        self.problems.append(f"controller {which}: {reason}")
        for names in pairs.values():
            published = [name for name in names if name in there]
            if len(published) != 1:
                self.problems.append(
                    f"of {' and '.join(names)}, which share an address, {len(published)} are published"
                )

    def __str__(self) -> str:
        acknowledged = sum(len(machine.acknowledged) for machine in self.machines)
        return (
            f"{self.rounds:>7,}{self.hosts:>8,}{self.operations:>12,}{len(self.machines):>10,}{acknowledged:>14,}"
            f"{self.clashes:>9,}{self.between:>9,}{len(self.problems):>10,}"
        )


HEAD = (
    f"{'rounds':>7}{'hosts':>8}{'operations':>12}{'machines':>10}{'acknowledged':>14}{'clashes':>9}{'between':>9}"
    f"{'problems':>10}"
)
