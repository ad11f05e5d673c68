# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: a linked-mode group of vCenters, and every ESXi host in it.

Which vCenters there are is asked at every run, of any one of them; then all are read at the same time. A member that
cannot be read is named, and does not hide the others.
"""

from __future__ import annotations

import dataclasses
import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import unquote

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import Group, ManagedHost, Member
from ansible_collections.pxemanager.esxi.plugins.module_utils._lookup_service import Registration, registered_vcenters
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    ManagedObject,
    Session,
    VsphereError,
    retrieve,
    vcenter_endpoint,
    vcenter_session,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    MACHINE_PROPERTIES,
    machine_power,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = ["entry_of", "entry_point", "read_group", "read_hosts"]

_PARALLEL = 16


def entry_point(params: t.Mapping[str, t.Any]) -> Endpoint:
    """The vCenter that a module's connection options mean. Raises EsxiPxeError when one of them is missing."""
    entry = vcenter_endpoint(params, params["timeout"])
    if params["timeout"] < 1:
        raise EsxiPxeError(f"timeout must be 1 or more, not {params['timeout']}.")
    return entry


def read_group(entry: Endpoint, username: str, password: str) -> Group:
    """The group of the vCenter at ``entry``. The same user name and password count in all of it.

    Raises VsphereError when that vCenter itself cannot be used, MissingLibraryError without pyVmomi. Whatever else is
    not known is said in the group.
    """
    with vcenter_session(entry, username, password) as session:
        uuid = str(session.content.about.instanceUuid or "")
        registrations: t.Optional[list[Registration]] = None
        problem: t.Optional[str] = None
        try:
            registrations = registered_vcenters(entry)
        except VsphereError as error:
            problem = f"It is not known which vCenters are linked with {entry}: {error}"
        own = entry_of(registrations or [], entry, uuid)
        others = [one for one in registrations or [] if one is not own]
        with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
            reading = [pool.submit(_read_member, one, entry, username, password) for one in others]
            first = Member(str(entry), own.name if own else "", uuid, str(session.content.about.version))
            try:
                first = dataclasses.replace(first, hosts=tuple(read_hosts(session)))
            except VsphereError as error:
                first = dataclasses.replace(first, problem=str(error))
            members = (first, *(future.result() for future in reading))
    return Group(str(entry), members, linked=registrations is not None, problem=problem)


def entry_of(registrations: t.Sequence[Registration], entry: Endpoint, uuid: str) -> t.Optional[Registration]:
    """The registration of the vCenter that was asked: the one of its address or, failing that, of its instance UUID.

    By the UUID it is found under another name than it was asked by. It must be one: clones share theirs.
    """
    by_address = [one for one in registrations if (one.host.lower(), one.port) == (entry.host.lower(), entry.port)]
    by_uuid = [one for one in registrations if uuid and one.service_id.lower() == uuid.lower()]
    if by_address:
        return by_address[0]
    return by_uuid[0] if len(by_uuid) == 1 else None


def _read_member(one: Registration, entry: Endpoint, username: str, password: str) -> Member:
    endpoint = dataclasses.replace(entry, host=one.host, port=one.port)
    member = Member(str(endpoint) if one.host else one.name or one.service_id, one.name, one.service_id)
    if one.problem is not None:
        return dataclasses.replace(member, problem=f"The vCenter {member.vcenter} cannot be asked: {one.problem}")
    try:
        with Session(endpoint) as session:
            session.login(username, password)
            about = session.content.about
            return dataclasses.replace(
                member,
                instance_uuid=str(about.instanceUuid or ""),
                version=str(about.version),
                hosts=tuple(read_hosts(session)),
            )
    except VsphereError as error:
        return dataclasses.replace(member, problem=f"The vCenter {endpoint} cannot be asked: {error}")


def read_hosts(session: Session) -> list[ManagedHost]:
    """Every host that a vCenter shows this user, and how many machines run on it: one retrieve, however many there are.

    Raises VsphereError.
    """
    # Each object as often as its properties arrive: hosts, what they are in, and the machines on them.
    hosts: dict[str, dict[str, t.Any]] = {}
    above: dict[str, tuple[str, t.Optional[str], bool]] = {}
    power: dict[str, str] = {}
    for reference, properties in retrieve(session, _everything(session)):
        if not properties:
            # A reference to what is gone already.
            continue
        key = str(reference._moId)
        if isinstance(reference, vim.VirtualMachine):
            state = machine_power(properties)
            if state is not None:
                power[key] = state
            continue
        if isinstance(reference, vim.HostSystem):
            hosts[key] = properties
        parent = properties.get("parent")
        # A standalone host's own compute resource is left out of paths: nobody sees it.
        hidden = isinstance(reference, vim.ComputeResource) and not isinstance(reference, vim.ClusterComputeResource)
        above[key] = (_text(properties.get("name")), None if parent is None else str(parent._moId), hidden)
    root = str(session.content.rootFolder._moId)

    def path(key: str) -> str:
        names = []
        at: t.Optional[str] = key
        while at is not None and at != root and at in above:
            name, at, hidden = above[at]
            if not hidden:
                names.append(name)
        return "/" + "/".join(reversed(names))

    return [_host(session, key, properties, path(key), power) for key, properties in hosts.items()]


def _text(value: object) -> str:
    # vCenter stores / \ % in names as %2f %5c %25.
    return "" if value is None else unquote(str(value))


def _host(
    session: Session, key: str, properties: t.Mapping[str, t.Any], path: str, power: t.Mapping[str, str]
) -> ManagedHost:
    maintenance = properties.get("runtime.inMaintenanceMode")
    return ManagedHost(
        # A user may see that a host is there and not what it is called.
        name=_text(properties.get("name")) or key,
        vcenter=str(session.endpoint),
        path=path,
        state=str(properties.get("runtime.connectionState", "unknown")),
        maintenance=None if maintenance is None else bool(maintenance),
        powered_on=_powered_on(properties.get("vm"), power),
        uuid=str(properties.get("hardware.systemInfo.uuid") or ""),
        addresses=tuple(_vmk0(properties.get("config.network.vnic") or [])),
        macs=tuple(str(nic.mac).lower() for nic in properties.get("config.network.pnic") or [] if nic.mac),
    )


def _powered_on(machines: t.Optional[t.Sequence[ManagedObject]], power: t.Mapping[str, str]) -> t.Optional[int]:
    """How many of a host's machines are powered on; None when that cannot be told from none."""
    if machines is None:
        return None
    states = [power.get(str(machine._moId)) for machine in machines]
    count = states.count("poweredOn")
    return count if count or None not in states else None


def _vmk0(nics: t.Iterable[t.Any]) -> t.Iterator[str]:
    for nic in nics:
        if str(nic.device) != "vmk0" or nic.spec is None or nic.spec.ip is None:
            continue
        if nic.spec.ip.ipAddress:
            yield str(nic.spec.ip.ipAddress)
        for address in getattr(nic.spec.ip.ipV6Config, "ipV6Address", None) or []:
            yield str(address.ipAddress)


def _everything(session: Session) -> t.Any:
    """What to retrieve, walking down from the root folder. Each property may be missing: a user may not see it."""
    collector = vmodl.query.PropertyCollector
    walk = [
        collector.TraversalSpec(
            name="folder",
            type=vim.Folder,
            path="childEntity",
            skip=False,
            selectSet=[collector.SelectionSpec(name=name) for name in ("folder", "datacenter", "compute")],
        ),
        collector.TraversalSpec(
            name="datacenter",
            type=vim.Datacenter,
            path="hostFolder",
            skip=False,
            selectSet=[collector.SelectionSpec(name="folder")],
        ),
        collector.TraversalSpec(
            name="compute",
            type=vim.ComputeResource,
            path="host",
            skip=False,
            selectSet=[collector.SelectionSpec(name="machines")],
        ),
        collector.TraversalSpec(name="machines", type=vim.HostSystem, path="vm", skip=False),
    ]
    host = [
        "name",
        "parent",
        "vm",
        "runtime.connectionState",
        "runtime.inMaintenanceMode",
        "hardware.systemInfo.uuid",
        "config.network.pnic",
        "config.network.vnic",
    ]
    return collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=session.content.rootFolder, skip=False, selectSet=walk)],
        propSet=[
            collector.PropertySpec(type=vim.Folder, pathSet=["name", "parent"]),
            collector.PropertySpec(type=vim.Datacenter, pathSet=["name", "parent"]),
            collector.PropertySpec(type=vim.ComputeResource, pathSet=["name", "parent"]),
            collector.PropertySpec(type=vim.HostSystem, pathSet=host),
            collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(MACHINE_PROPERTIES)),
        ],
        reportMissingObjectsInResults=True,
    )
