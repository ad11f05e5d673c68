# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Lookup Service of a stand-in vCenter: it lists the vCenters of a linked-mode group.

vcsim has one as well, but each lists only itself, by the address that it has behind the gateway.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from . import soap

_LOOKUP = "{urn:lookup}"
# vcsim's own: all of them have the same one.
_INSTANCE = "dbed6e0c-bd88-4ef6-b594-21283e1c677f"


@dataclass(frozen=True)
class Registered:
    """A vCenter as it is registered. ``url`` of its API; ``service_id``: its instance UUID."""

    url: str
    name: str = ""
    service_id: str = _INSTANCE
    kind: str = "vcenterserver"

    def xml(self) -> str:
        """One element of a List's answer, with the children that a real Lookup Service sends, in its order."""
        return (
            "<returnval><serviceVersion>8.0</serviceVersion>"
            f"<serviceEndpoints><url>{escape(self.url)}</url>"
            "<endpointType><protocol>vmomi</protocol><type>com.vmware.vim</type></endpointType></serviceEndpoints>"
            "<serviceAttributes><key>com.vmware.vim.vcenter.instanceName</key>"
            f"<value>{escape(self.name)}</value></serviceAttributes>"
            "<ownerId>vpxd@vsphere.local</ownerId>"
            f"<serviceType><product>com.vmware.cis</product><type>{escape(self.kind)}</type></serviceType>"
            f"<nodeId>{uuid.uuid4()}</nodeId><serviceId>{escape(self.service_id)}</serviceId><siteId>lab</siteId>"
            "</returnval>"
        )


class LookupService:
    """Answers the calls of a Lookup Service; ``group`` says at every call who is registered, None: there is none."""

    def __init__(self, group: Callable[[], Sequence[Registered] | None]) -> None:
        self._group = group

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        """The answer to a call of the Lookup Service; None for calls of anybody else."""
        if not call.element.tag.startswith(_LOOKUP):
            return None
        group = self._group()
        if group is None:
            return soap.Answer(404, b"404 page not found\n", (("Content-Type", "text/plain"),))
        if call.method == "RetrieveServiceContent":
            return soap.Answer(
                200,
                soap.envelope(
                    '<RetrieveServiceContentResponse xmlns="urn:lookup"><returnval>'
                    '<serviceRegistration type="LookupServiceRegistration">ServiceRegistration</serviceRegistration>'
                    "</returnval></RetrieveServiceContentResponse>"
                ),
            )
        if call.method != "List" or call.element.find(f"{_LOOKUP}filterCriteria") is None:
            # What a real one says to a List without a filter.
            return soap.fault("SystemError", "Invalid fault")
        kind = call.element.findtext(f"{_LOOKUP}filterCriteria/{_LOOKUP}serviceType/{_LOOKUP}type")
        listed = "".join(one.xml() for one in group if kind in (None, one.kind))
        return soap.Answer(200, soap.envelope(f'<ListResponse xmlns="urn:lookup">{listed}</ListResponse>'))


def alone(address: str) -> LookupService:
    """The Lookup Service of a vCenter that is linked with no other. ``address``: where its API answers, HOST:PORT."""
    return LookupService(lambda: [Registered(f"https://{address}/sdk", "lab")])
