# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the calls that each step with a host in a vCenter consists of."""

from __future__ import annotations

import typing as t
from contextlib import suppress

from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import sha1_thumbprint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import LOCKDOWN_MODES, HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import HostEntry, Place, retrieve
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    Session,
    VsphereError,
    connection_errors,
    describe_fault,
    is_fault,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = ["assigned_licenses", "create_folders", "disconnect", "do_call", "task_for"]

# Since this version HostConnectSpec takes the certificate itself, and has been seen to refuse a thumbprint.
_TAKES_CERTIFICATES = (9, 0)


def task_for(
    session: Session,
    step: str,
    host: HostToAdd,
    place: Place,
    entry: t.Optional[HostEntry],
    certificate: t.Optional[str],
    timeout: float,
) -> t.Optional[t.Callable[[], t.Any]]:
    """The call that starts the task of a step; None for a step that is no task. It raises faults.

    certificate: PEM that vCenter is told, for ``add`` and ``reconnect``. timeout: seconds.
    """
    if step == "add":
        spec = _connect_spec(session, host, host.name, certificate)
        if place.is_cluster:
            return lambda: place.ref.AddHost_Task(spec=spec, asConnected=True, license=host.license)
        return lambda: place.ref.AddStandaloneHost_Task(spec=spec, addConnected=True, license=host.license)
    if entry is None:
        return None
    reference = entry.ref
    if step == "reconnect":
        spec = _connect_spec(session, host, entry.name, certificate)
        return lambda: reference.ReconnectHost_Task(cnxSpec=spec)
    if step == "enter_maintenance":
        # vCenter itself is given less time than the task, so that it stops trying before nobody looks any more.
        return lambda: reference.EnterMaintenanceMode_Task(
            timeout=max(1, int(timeout * 0.9)), evacuatePoweredOffVms=False
        )
    if step == "leave_maintenance":
        return lambda: reference.ExitMaintenanceMode_Task(timeout=max(1, int(timeout * 0.9)))
    if step == "move":
        if place.is_cluster:
            return lambda: place.ref.MoveHostInto_Task(host=reference)
        # A standalone host is moved with what it has of its own; one that leaves a cluster gets that in the folder.
        moved = reference if entry.in_cluster else entry.resource
        return lambda: place.ref.MoveIntoFolder_Task(list=[moved])
    return None


def disconnect(entry: HostEntry) -> t.Any:
    """Start to disconnect a host: only a disconnected one can be reconnected with other credentials."""
    return entry.ref.DisconnectHost_Task()


def do_call(session: Session, step: str, host: HostToAdd, entry: HostEntry) -> None:
    """Do a step that is no task. Raises faults, and VsphereError when there is nothing to call."""
    if step == "license":
        _assignments(session).UpdateAssignedLicense(entity=entry.id, licenseKey=host.license)
    elif step == "lockdown" and host.lockdown_mode is not None:
        if entry.access is None:
            raise VsphereError(
                f"This vCenter user does not see the access settings of {host.name}, so its lockdown mode cannot be "
                "changed: give the user's role more rights on the host."
            )
        entry.access.ChangeLockdownMode(mode=LOCKDOWN_MODES[host.lockdown_mode])
    else:
        raise ValueError(f"{step} is no such step")


def create_folders(place: Place) -> None:
    """Create what is missing of a place, the outermost folder first. Raises faults."""
    parent = place.ref
    for name in place.missing:
        # as vCenter stores them
        stored = name.replace("%", "%25").replace("\\", "%5c")
        parent = parent.CreateFolder(name=stored)


def _connect_spec(session: Session, host: HostToAdd, name: str, certificate: t.Optional[str]) -> t.Any:
    # force is never set: it would take a host away from another vCenter that manages it.
    spec = vim.host.ConnectSpec(
        hostName=name, port=host.port, userName=host.username, password=host.password, force=False
    )
    if certificate is not None:
        if session.api_version[:2] >= _TAKES_CERTIFICATES and hasattr(spec, "sslCertificate"):
            spec.sslCertificate = certificate
        else:
            spec.sslThumbprint = sha1_thumbprint(certificate)
    return spec


def assigned_licenses(session: Session) -> dict[str, str]:
    """The licence key of every host that has one, by the host's id, in one call. Raises VsphereError."""
    with connection_errors(session.endpoint):
        try:
            found = _assignments(session).QueryAssignedLicenses()
        except Exception as fault:
            if not is_fault(fault):
                raise
            raise VsphereError(
                f"{session.endpoint} does not tell the licences of its hosts: {describe_fault(fault)}"
            ) from fault
    return {str(one.entityId): str(one.assignedLicense.licenseKey) for one in found or []}


def _assignments(session: Session) -> t.Any:
    # read as one that may be unset: as an attribute, an unset reference is an error of the client
    what = vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=session.content.licenseManager)],
        propSet=[
            vmodl.query.PropertyCollector.PropertySpec(type=vim.LicenseManager, pathSet=["licenseAssignmentManager"])
        ],
    )
    for _manager, properties in retrieve(session, what):
        if properties.get("licenseAssignmentManager") is not None:
            return properties["licenseAssignmentManager"]
    raise VsphereError(f"{session.endpoint} does not let this user assign licences.")
