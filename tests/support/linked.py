# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCenters that are linked with each other, each a real vcsim behind a gateway with a Lookup Service: for tests."""

from __future__ import annotations

import ssl
import tempfile
import threading
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Pair
from pxelab import soap
from pxelab.vcenter_lookup import LookupService, Registered

_EMPTY = ("-dc", "1", "-cluster", "1", "-host", "0", "-standalone-host", "0", "-vm", "0", "-ds", "1")
_LOGIN = ("-username", stand_ins.USER, "-password", stand_ins.PASSWORD)


@dataclass
class LinkedVcenter:
    """One of them. ``calls``: the methods that it was asked so far, the Lookup Service's included."""

    name: str
    port: int
    authority: str
    folder: Path
    calls: list[str] = field(default_factory=list)
    stop: t.Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def options(self) -> dict[str, t.Any]:
        """The connection options of a module."""
        return {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": stand_ins.USER,
            "password": stand_ins.PASSWORD,
        }

    @contextmanager
    def content(self) -> t.Iterator[t.Any]:
        """What is in it, by a way that the collection does not use."""
        from pyVim import connect

        instance = connect.SmartConnect(
            host="127.0.0.1",
            port=self.port,
            user=stand_ins.USER,
            pwd=stand_ins.PASSWORD,
            sslContext=ssl.create_default_context(cafile=self.authority),
        )
        try:
            yield instance.RetrieveContent()
        finally:
            connect.Disconnect(instance)

    def add_host(self, name: str, *, machines: int = 0, maintenance: bool = False, state: str = "connected") -> None:
        """Put a host into the only cluster, with so many machines that are powered on, and one that is not."""
        from pyVim import task
        from pyVmomi import vim

        with self.content() as content:
            center = content.rootFolder.childEntity[0]
            cluster = center.hostFolder.childEntity[0]
            spec = vim.host.ConnectSpec(hostName=name, userName="root", password="x", force=False)
            adding = cluster.AddHost_Task(spec=spec, asConnected=True)
            task.WaitForTask(adding)
            host = adding.info.result
            # A machine needs a datastore that its host can reach: a folder, which goes with the tests.
            store = tempfile.mkdtemp(prefix="datastore-", dir=self.folder)
            host.configManager.datastoreSystem.CreateLocalDatastore(name=f"{name}-disk", path=store)
            for number in range(machines + 1):
                config = vim.vm.ConfigSpec(
                    name=f"{name}-vm{number}", files=vim.vm.FileInfo(vmPathName=f"[{name}-disk]"), guestId="otherGuest"
                )
                making = center.vmFolder.CreateVM_Task(config=config, pool=cluster.resourcePool, host=host)
                task.WaitForTask(making)
                if number < machines:
                    task.WaitForTask(making.info.result.PowerOnVM_Task())
            if maintenance:
                task.WaitForTask(host.EnterMaintenanceMode_Task(timeout=0))
            if state != "connected":
                command = vim.SimpleCommand("pxelab", host._stub)
                command.ExecuteSimpleCommand(["set", host._moId, "state", state])

    def hardware(self, name: str) -> t.Any:
        """The UUID of a host's hardware."""
        with self.content() as content:
            return _host(content, name).hardware.systemInfo.uuid


def _host(content: t.Any, name: str) -> t.Any:
    hosts = content.rootFolder.childEntity[0].hostFolder.childEntity[0].host
    return next(host for host in hosts if host.name == name)


@dataclass
class LinkedGroup:
    """All of them.

    registered: what their Lookup Services list; None: they have none. answer: what they say to everything instead.
    """

    members: list[LinkedVcenter]
    registered: t.Optional[list[Registered]] = None
    answer: t.Optional[soap.Answer] = None

    def __getitem__(self, index: int) -> LinkedVcenter:
        return self.members[index]

    def registrations(self) -> list[Registered]:
        """What the Lookup Service of a real group of these would list."""
        return [Registered(f"https://{one.address}/sdk", one.name) for one in self.members]

    def stop(self) -> None:
        """End all of them."""
        for one in self.members:
            one.stop()


def start_group(count: int, pair: Pair, authority: Path, *more: str) -> LinkedGroup:
    """Start so many vCenters that are linked. pair: their certificate, of ``authority``. more: options of vcsim."""
    group = LinkedGroup([])
    service = LookupService(lambda: group.registered)

    def lookup(call: soap.Call) -> t.Optional[soap.Answer]:
        answer = service(call)
        return answer if answer is None or group.answer is None else group.answer

    for number in range(count):
        group.members.append(_start(f"vc{number}", pair, authority, lookup, more))
    group.registered = group.registrations()
    return group


def _start(
    name: str,
    pair: Pair,
    authority: Path,
    lookup: t.Callable[[soap.Call], t.Optional[soap.Answer]],
    more: t.Sequence[str],
) -> LinkedVcenter:
    simulator = soap.Vcsim(str(stand_ins.vcsim_program()), [*_EMPTY, *_LOGIN, *more])
    calls: list[str] = []

    def answer(call: soap.Call) -> t.Optional[soap.Answer]:
        calls.append(call.method)
        return lookup(call)

    context = soap.server_context(str(pair.cert), str(pair.key))
    gateway = soap.Gateway(("127.0.0.1", 0), context, simulator.address, answer)
    threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop() -> None:
        gateway.shutdown()
        gateway.server_close()
        simulator.stop()

    return LinkedVcenter(name, gateway.server_port, str(authority), pair.cert.parent, calls, stop)
