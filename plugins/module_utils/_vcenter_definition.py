# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what is asked of vcenter_add_host for one host, checked. Needs no pyVmomi."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import CertificateError, first_certificate
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_options import parse_address

__all__ = ["LOCKDOWN_MODES", "HostToAdd"]

LOCKDOWN_MODES = {
    "disabled": "lockdownDisabled",
    "normal": "lockdownNormal",
    "strict": "lockdownStrict",
}
"""What the option says, and what the API calls it."""


@dataclass(frozen=True)
class HostToAdd:
    """One host that should be in vCenter.

    address, port: where the host's API answers here. vCenter itself connects to ``name``.
    certificate: PEM that the host reported; None with ``trust_on_first_use`` only.
    datacenter and one of cluster and folder: where it belongs. create_folders: ``folder`` is made when it is missing.
    reconnect, move: what may be done with a host that is in vCenter already.
    license, lockdown_mode: None leaves them as they are. leave_maintenance: whether the host is to be in use.
    """

    name: str
    address: str
    port: int
    username: str
    password: str = field(repr=False)
    certificate: t.Optional[str]
    datacenter: str
    cluster: t.Optional[str]
    folder: t.Optional[str]
    trust_on_first_use: bool
    create_folders: bool = False
    reconnect: bool = True
    move: bool = True
    license: t.Optional[str] = field(default=None, repr=False)
    lockdown_mode: t.Optional[str] = None
    leave_maintenance: bool = False

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> HostToAdd:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name, address, port = parse_address(options, errors)
        if not options.get("password"):
            errors.append("No password is given: vCenter logs in to the host once, with username and password.")
        if not options.get("datacenter"):
            errors.append("No datacenter is given.")
        cluster, folder = options.get("cluster") or None, options.get("folder") or None
        if (cluster is None) == (folder is None):
            errors.append(
                "Exactly one of cluster and folder must be given (folder: / is the datacenter's own host folder)."
            )
        trust = bool(options.get("trust_on_first_use"))
        certificate = None
        if options.get("certificate"):
            try:
                certificate = first_certificate(str(options["certificate"]))
            except CertificateError as error:
                errors.append(f"certificate: {error}")
        elif not trust:
            errors.append(
                "No certificate is given. It is what the host reported through pbconnect when it became ready; "
                "a host that never reported one can be added with trust_on_first_use."
            )
        lockdown = options.get("lockdown_mode") or None
        if lockdown is not None and lockdown not in LOCKDOWN_MODES:
            errors.append(f"lockdown_mode {lockdown!r} is none of {', '.join(LOCKDOWN_MODES)}.")
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            address=address,
            port=port,
            username=str(options.get("username") or "root"),
            password=str(options["password"]),
            certificate=certificate,
            datacenter=str(options["datacenter"]),
            cluster=None if cluster is None else str(cluster),
            folder=None if folder is None else str(folder),
            trust_on_first_use=trust,
            create_folders=bool(options.get("create_folders")),
            reconnect=_true_unless_given(options.get("reconnect")),
            move=_true_unless_given(options.get("move")),
            license=str(options["license"]) if options.get("license") else None,
            lockdown_mode=None if lockdown is None else str(lockdown),
            leave_maintenance=bool(options.get("leave_maintenance")),
        )


def _true_unless_given(value: t.Any) -> bool:
    return True if value is None else bool(value)
