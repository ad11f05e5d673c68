# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vcsim with host profiles, whose gateway runs in the test's own process: for tests. Needs pyVmomi."""

from __future__ import annotations

import ssl
import threading
import typing as t
from contextlib import contextmanager

from pyVmomi import vim

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair
from pxelab import soap
from pxelab.vcenter_profiles import HostProfiles

# The calls that change something.
WRITES = {
    "AssociateProfile",
    "DissociateProfile",
    "UpdateAnswerFile_Task",
    "EnterMaintenanceMode_Task",
    "ApplyHostConfig_Task",
    "ExitMaintenanceMode_Task",
}


class Center:
    """A vCenter with host profiles, in this process: what has come to it and what its hosts have can be looked at."""

    def __init__(self, profiles: HostProfiles, port: int, authority: Authority) -> None:
        self.profiles = profiles
        self.port = port
        self._authority = authority

    def options(self) -> dict[str, t.Any]:
        return {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": stand_ins.USER,
            "password": stand_ins.PASSWORD,
        }

    def writes(self) -> list[str]:
        return [method for method, _host in self.profiles.seen if method in WRITES]

    def calls(self, method: str) -> int:
        return sum(1 for name, _host in self.profiles.seen if name == method)

    def look(self, work: t.Callable[[t.Any], t.Any]) -> t.Any:
        """Do something as an administrator, by a way that the collection does not use."""
        from pyVim import connect

        context = ssl.create_default_context(cafile=str(self._authority.pair.cert))
        instance = connect.SmartConnect(
            host="127.0.0.1", port=self.port, user=stand_ins.USER, pwd=stand_ins.PASSWORD, sslContext=context
        )
        try:
            return work(instance.RetrieveContent())
        finally:
            connect.Disconnect(instance)

    def hosts(self) -> dict[str, t.Any]:
        """Id of each host by its name."""
        return t.cast(
            "dict[str, t.Any]", self.look(lambda content: {one.name: one._moId for one in host_refs(content)})
        )

    def in_maintenance_mode(self) -> set[str]:
        return t.cast(
            "set[str]",
            self.look(lambda content: {one.name for one in host_refs(content) if one.runtime.inMaintenanceMode}),
        )


def host_refs(content: t.Any) -> list[t.Any]:
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
    return list(view.view)


@contextmanager
def profiled_center(
    pair: Pair,
    authority: Authority,
    profiles: t.Sequence[t.Mapping[str, t.Any]],
    arguments: t.Sequence[str],
    configured: t.Sequence[str] = (),
) -> t.Iterator[Center]:
    """Start one. arguments: those of vcsim. configured: the clusters with vSphere Configuration Profiles."""
    simulator = soap.Vcsim(str(stand_ins.vcsim_program()), list(arguments))
    known = HostProfiles(profiles, configured)

    def answer(call: soap.Call) -> soap.Answer:
        mine = known(call)
        if mine is not None:
            return mine
        passed = call.forward(call.body)
        return soap.Answer(passed.status, known.rewrite(passed.body), passed.headers)

    context = soap.server_context(str(pair.cert), str(pair.key))
    gateway = soap.Gateway(("127.0.0.1", 0), context, simulator.address, answer)
    threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield Center(known, gateway.server_port, authority)
    finally:
        gateway.shutdown()
        gateway.server_close()
        simulator.stop()
