# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what vCenter's faults about hosts mean, in sentences that say what to do next."""

from __future__ import annotations

import typing as t
from contextlib import suppress
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import CertificateError, sha1_thumbprint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import Fault, describe_fault, fault_kinds

__all__ = ["Attempt", "explain", "is_worth_retrying", "says_already_there"]

# A host that has just booted, a vCenter that is busy: these pass. A wrong password does not, and every further attempt
# brings the account nearer to being locked.
_PASSING = frozenset(
    {
        "vim.fault.NoHost",
        "vim.fault.TaskInProgress",
        "vim.fault.Timedout",
        "vim.fault.ConcurrentAccess",
        "vmodl.fault.HostCommunication",
    }
)

_WORDS = {
    "create_folder": "create the folder of",
    "add": "add",
    "reconnect": "reconnect",
    "enter_maintenance": "bring into maintenance mode",
    "move": "move",
    "leave_maintenance": "take out of maintenance mode",
    "license": "assign the licence of",
    "lockdown": "set the lockdown mode of",
}

_PRIVILEGES = {
    "create_folder": "Folder.Create",
    "reconnect": "Host.Config.Connection",
    "enter_maintenance": "Host.Config.Maintenance",
    "move": "Host.Inventory.MoveHost",
    "leave_maintenance": "Host.Config.Maintenance",
    "license": "Global.Licenses",
    "lockdown": "Host.Config.Settings",
}


@dataclass(frozen=True)
class Attempt:
    """What was tried when a fault came.

    place: path of the cluster or folder. certificate: PEM that vCenter was told.
    """

    host: HostToAdd
    step: str
    place: str
    certificate: t.Optional[str] = None


def is_worth_retrying(fault: Fault) -> bool:
    """Whether the same call may succeed a little later."""
    return bool(_PASSING.intersection(fault_kinds(fault)))


def says_already_there(fault: Fault, name: str) -> bool:
    """Whether a fault says that vCenter has the host itself, or something of its name, by now."""
    kinds = set(fault_kinds(fault))
    if "vim.fault.DuplicateName" in kinds:
        return True
    return "vim.fault.AlreadyConnected" in kinds and str(getattr(fault, "name", "") or name).lower() == name.lower()


def explain(fault: Fault, attempt: Attempt) -> str:
    """A fault in words that name the host and say what to do. The most special kind that is known decides."""
    host, place, step = attempt.host, attempt.place, attempt.step
    name = host.name
    said = describe_fault(fault)
    sentences: dict[str, t.Callable[[], str]] = {
        "vim.fault.SSLVerifyFault": lambda: _why_not_verified(fault, attempt),
        "vim.fault.PasswordExpired": lambda: (
            f"The password of {host.username} on {name} has expired: set a new one at the host, and give that here."
        ),
        "vim.fault.InvalidLogin": lambda: (
            f"{name} refuses the login of {host.username} with the given password: set the root password first "
            "(module esxi_root_password), and check that lockdown mode lets that user in. After five wrong logins ESXi "
            "locks the account for 15 minutes, so this was tried once."
        ),
        "vim.fault.AlreadyBeingManaged": lambda: (
            f"{name} is managed by another vCenter already "
            f"({getattr(fault, 'ipAddress', None) or 'address unknown'}): remove it there first. It is never taken "
            "away from another vCenter."
        ),
        "vim.fault.AlreadyConnected": lambda: (
            f"This vCenter has the machine {name} already, under the name "
            f"{getattr(fault, 'name', None) or '(unknown)'}: remove that entry, or use that name."
        ),
        "vim.fault.DuplicateName": lambda: (
            f"Another object in {place} has the name {getattr(fault, 'name', None) or name}: rename it, or give "
            f"{name} another place."
        ),
        "vim.fault.NoHost": lambda: (
            f"vCenter cannot reach {name}:{host.port}: check that vCenter resolves the name to {host.address} and "
            "may connect to ports 443 and 902 of that address."
        ),
        "vim.fault.TooManyHosts": lambda: (
            f"vCenter takes no more hosts than it has, so {name} is not among them: its edition or licence allows no "
            "more. Give vCenter a bigger licence, or remove a host."
        ),
        "vim.fault.LicenseEntityNotFound": lambda: (
            f"vCenter does not have the licence that {name} should get: add the key to vCenter's licences first, or "
            "correct license."
        ),
        "vim.fault.LicenseExpired": lambda: (
            f"The licence for {name} has expired: assign one that is valid with license. ({said})"
        ),
        "vim.fault.LicenseRestricted": lambda: (
            f"vCenter's licences are restricted and do not cover {name}: check vCenter's own licence. ({said})"
        ),
        "vmodl.fault.NotEnoughLicenses": lambda: (
            f"vCenter has no licence left for {name}: add capacity to the key, give another one with license, or take "
            f"the licence from a host that is gone. ({said})"
        ),
        "vim.fault.LicenseAssignmentFailed": lambda: (
            f"vCenter cannot give {name} its licence: check that the key is one for ESXi hosts of its version. ({said})"
        ),
        "vim.fault.InvalidLicense": lambda: (
            f"The licence does not fit {name}: check the key that license names. ({said})"
        ),
        "vim.fault.NoPermission": lambda: (
            f"The vCenter user lacks the privilege {_privilege(fault, step)} on {place}, which it takes to "
            f"{_WORDS[step]} {name}: give it to the user's role there."
        ),
        "vim.fault.NotSupportedHost": lambda: (
            f"This vCenter does not support the ESXi version of {name}"
            f"{_product(fault)}: update vCenter first, or install an older image. ({said})"
        ),
        "vim.fault.AgentInstallFailed": lambda: (
            f"vCenter could not install its agent on {name}: check that the host has free space in /tmp and its "
            f"scratch partition and that its clock is right, then run again. ({said})"
        ),
        "vim.fault.GatewayConnectFault": lambda: (
            f"vCenter could not reach {name} through its host gateway: check the gateway. ({said})"
        ),
        "vim.fault.HostConnectFault": lambda: (
            f"vCenter could not connect to {name}: look at the host's events in vCenter and at /var/log/hostd.log on "
            f"the host, then run again. ({said})"
        ),
        "vim.fault.TaskInProgress": lambda: (
            f"vCenter is busy with {name} in another task: wait until that has ended, and run again."
        ),
        "vim.fault.Timedout": lambda: (
            f"vCenter gave up waiting for {name}: check the network between them, and run again. ({said})"
        ),
        "vim.fault.InvalidState": lambda: (
            f"vCenter cannot {_WORDS[step]} {name} in the state that it is in: look at its connection and maintenance "
            f"mode in vCenter. ({said})"
        ),
        "vim.fault.DisallowedOperationOnFailoverHost": lambda: (
            f"{name} is a failover host of its cluster: take it out of the admission control of vSphere HA first."
        ),
        "vim.fault.VsanFault": lambda: (
            f"vSAN does not let {name} leave its cluster: take it out of vSAN first. ({said})"
        ),
        "vmodl.fault.HostCommunication": lambda: (
            f"vCenter lost {name} while it talked to it: check that the host is up, and run again. ({said})"
        ),
        "vmodl.fault.ManagedObjectNotFound": lambda: (
            f"{name}, or the place for it, was removed from vCenter in the meantime: run again."
        ),
        "vmodl.fault.NotSupported": lambda: (
            f"This vCenter does not support to {_WORDS[step]} {name} in {place}: check that the place is for hosts."
            f" ({said})"
        ),
    }
    for kind in fault_kinds(fault):
        if kind in sentences:
            return sentences[kind]()
    return f"vCenter could not {_WORDS[step]} {name}: look at its recent tasks and events. ({said})"


def _privilege(fault: Fault, step: str) -> str:
    return str(getattr(fault, "privilegeId", None) or _PRIVILEGES.get(step) or "to add hosts")


def _product(fault: Fault) -> str:
    known = " ".join(str(getattr(fault, one, None) or "") for one in ("productName", "productVersion")).strip()
    return f" ({known})" if known else ""


def _why_not_verified(fault: Fault, attempt: Attempt) -> str:
    """An SSLVerifyFault names the certificate that vCenter saw by a thumbprint or, since 9.0, by the certificate."""
    host = attempt.host
    told = sha1_thumbprint(attempt.certificate) if attempt.certificate else None
    seen = getattr(fault, "thumbprint", None)
    if not seen:
        with suppress(CertificateError):
            seen = sha1_thumbprint(str(getattr(fault, "certificate", None) or ""))
    if seen is not None and seen == told:
        return (
            f"vCenter sees the right certificate at {host.name}:{host.port}, but does not accept it by its SHA-1 "
            "thumbprint: vCenter 9.0 and newer want the certificate itself, and for that pyVmomi 9.0 or newer."
        )
    return (
        f"vCenter sees another certificate at {host.name}:{host.port} (SHA-1 thumbprint {seen or 'not told'}) than is "
        f"seen from here at {host.address} ({told or 'not told'}): check what {host.name} resolves to on vCenter."
    )
