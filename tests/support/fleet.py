# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory of many hosts on PXE servers that are folders of this machine, and plays on it: for tests."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULTS = {"group/pxemanager.esxi.pxe": {"config": "{{ settings }}"}}
# Not the whole role: nobody boots here.
PUBLISH = [
    {"ansible.builtin.import_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": part}}
    for part in ("describe", "publish")
]
RETIRE = [{"ansible.builtin.import_role": {"name": "pxemanager.esxi.esxi_host", "tasks_from": "retire"}}]


def slice_of(names: t.Iterable[str], number: int, count: int) -> list[str]:
    """What AWX gives to one slice of a sliced job: every so-manyth host, in the order of their names."""
    return sorted(names)[number - 1 :: count]


class Fleet:
    """PXE servers and hosts; `hosts` holds the variables of each, and may be changed before a play.

    :ivar variables: of the group all.
    """

    def __init__(
        self, folder: pathlib.Path, servers: t.Sequence[str] = ("pxe01",), hosts: t.Iterable[int] = ()
    ) -> None:
        self.folder = folder
        self.servers = {
            name: PxeServer(
                folder / name,
                dhcp={"mode": "dnsmasq", "hosts_dir": str(folder / name / "state/dhcp-hosts"), "reload": ["/bin/true"]},
            )
            for name in servers
        }
        local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
        self.variables: dict[str, t.Any] = {
            **local,
            "esxi_host_bootstrap_password": "Bootstrap-pw-1",
            "esxi_host_root_password": "Root-secret-7!",
            "esxi_host_pxe_server": next(iter(self.servers)),
            # of whoever delegates to a PXE server
            "settings": str(self.server.config_path),
        }
        self.hosts: dict[str, dict[str, t.Any]] = {}
        for number in hosts:
            self.add(definition(number))
        self.output = ""

    @property
    def server(self) -> PxeServer:
        return next(iter(self.servers.values()))

    def add(self, given: t.Mapping[str, t.Any], **variables: t.Any) -> None:
        """Put a host into the inventory."""
        keys = ("macs", "network", "image", "disk")
        self.hosts[given["name"]] = {**{f"esxi_host_{key}": given[key] for key in keys}, **variables}

    def inventory(self, only: t.Collection[str] | None = None) -> dict[str, t.Any]:
        """The inventory, or the part of it that is given to a slice."""
        pxe = {name: {"settings": str(server.config_path)} for name, server in self.servers.items()}

        def part(hosts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
            return {name: values for name, values in hosts.items() if only is None or name in only}

        groups = {"pxe_servers": {"hosts": part(pxe)}, "esxi_hosts": {"hosts": part(self.hosts)}}
        return {"all": {"vars": self.variables, "children": groups}}

    def command(
        self,
        what: str,
        *arguments: str,
        only: t.Collection[str] | None = None,
        play: t.Mapping[str, t.Any] | None = None,
    ) -> dict[str, t.Any]:
        """What subprocess needs for a play: publish, retire or reconcile."""
        number = len(list(self.folder.glob("inventory-*.json")))
        inventory, book = self.folder / f"inventory-{number}.json", self.folder / f"play-{number}.json"
        inventory.write_text(json.dumps(self.inventory(only)))
        if what == "reconcile":
            body: dict[str, t.Any] = {"hosts": "pxe_servers", "roles": ["pxemanager.esxi.esxi_reconcile"]}
        else:
            body = {"hosts": "esxi_hosts", "tasks": PUBLISH if what == "publish" else RETIRE}
        book.write_text(json.dumps([{"gather_facts": False, "module_defaults": DEFAULTS, **body, **(play or {})}]))
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        return {
            "args": [program, "-i", str(inventory), str(book), *arguments],
            "env": {
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".lab" / "collections"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            },
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "stdin": subprocess.DEVNULL,
            "text": True,
        }

    def play(self, what: str, *arguments: str, **options: t.Any) -> dict[str, str]:
        """Run a play; returns why hosts failed. Its output is in `output`."""
        only, play = options.pop("only", None), options.pop("play", None)
        extra = ("-e", json.dumps(options)) if options else ()
        return self.result(subprocess.run(check=False, **self.command(what, *arguments, *extra, only=only, play=play)))

    def result(self, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        """Why hosts failed in a play that has ended."""
        self.output = done.stdout
        assert "PLAY RECAP" in done.stdout, done.stdout
        failed = re.findall(r"^fatal: \[(\S+?)(?: -> .*)?\]: FAILED! => (\{.*\})$", done.stdout, re.MULTILINE)
        assert bool(failed) == bool(done.returncode), done.stdout
        return {name: json.loads(result)["msg"] for name, result in failed}

    def changed(self) -> int:
        """How many changes the last play counted."""
        return sum(map(int, re.findall(r" changed=(\d+)", self.output)))

    def modes(self) -> dict[str, str | None]:
        """Which boot mode each host of the inventory has; None: it is not published."""
        return {name: self.servers[self._server_of(name)].mode(name) for name in self.hosts}

    def _server_of(self, name: str) -> str:
        return str(self.hosts[name].get("esxi_host_pxe_server", self.variables["esxi_host_pxe_server"]))
