# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the host side of a vCenter's inventory, read in bulk."""

from __future__ import annotations

import typing as t
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    ManagedObject,
    ServiceUnavailableError,
    Session,
    VsphereError,
    connection_errors,
    describe_fault,
    session_is_over,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = [
    "MACHINE_PROPERTIES",
    "HostEntry",
    "Inventory",
    "Place",
    "PlaceError",
    "count_powered_on",
    "machine_power",
    "read_inventory",
    "retrieve",
]

MACHINE_PROPERTIES = ("runtime.powerState", "config.managedBy")
"""Properties of a virtual machine that `machine_power` looks at."""

# ESX Agent Manager owns machines that belong to a host or a cluster (vCLS, agents) and stops them itself.
_AGENT_MANAGER = "com.vmware.vim.eam"

_NAMES_IN_A_SENTENCE = 20
_HOST_PROPERTIES = (
    "name",
    "parent",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "summary.config.sslThumbprint",
)
_LOCKDOWN = ("config.lockdownMode", "configManager.hostAccessManager")


class PlaceError(VsphereError):
    """A datacenter, cluster or folder that does not exist, or that is not the only one of its name."""


@dataclass(frozen=True)
class HostEntry:
    """A host as vCenter has it. What a vCenter user may not see is ``None`` or ``unknown``.

    place: path of the cluster or folder it is in. datacenter: path of that.
    state: ``connected``, ``disconnected`` or ``notResponding``.
    ref: the host. resource: its compute resource, the cluster or what a standalone host has of its own.
    thumbprint: SHA-1 of the certificate by which vCenter knows it. lockdown, access: only when they were asked for.
    """

    name: str
    path: str
    place: str
    state: str
    ref: ManagedObject = None
    resource: ManagedObject = None
    in_cluster: bool = False
    datacenter: str = ""
    maintenance: bool = False
    thumbprint: t.Optional[str] = None
    lockdown: t.Optional[str] = None
    access: ManagedObject = None

    @property
    def id(self) -> str:
        """vCenter's own name for the host, such as ``host-21``."""
        return str(self.ref._moId)


@dataclass(frozen=True)
class Place:
    """A cluster or a host folder, where hosts can be added.

    missing: names of the folders below ``ref`` that have to be created first; ``path`` is that of the last of them.
    """

    ref: ManagedObject
    path: str
    is_cluster: bool
    datacenter: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Node:
    ref: ManagedObject
    kind: str
    name: str
    parent: t.Optional[str]
    state: str
    more: t.Mapping[str, t.Any] = field(default_factory=dict)


class Inventory:
    """The host side of a vCenter at one moment: datacenters, host folders, clusters and hosts."""

    def __init__(self, nodes: t.Mapping[str, _Node], root: str) -> None:
        self._nodes = nodes
        self._root = root
        self._hosts: dict[str, list[HostEntry]] = {}
        for key, node in nodes.items():
            if node.kind == "host":
                self._hosts.setdefault(node.name.lower(), []).append(self._entry(key, node))
        self._paths = {key: self._path(key) for key, node in nodes.items() if node.kind != "host"}

    def _entry(self, key: str, node: _Node) -> HostEntry:
        place = self._place_of(node)
        resource = self._nodes.get(node.parent or "")
        center = next((above for above in self._ancestors(key) if self._nodes[above].kind == "datacenter"), None)
        return HostEntry(
            name=node.name,
            path=f"{place.rstrip('/')}/{node.name}",
            place=place,
            state=node.state,
            ref=node.ref,
            resource=None if resource is None else resource.ref,
            in_cluster=resource is not None and resource.kind == "cluster",
            datacenter="" if center is None else self._path(center),
            maintenance=bool(node.more.get("runtime.inMaintenanceMode")),
            thumbprint=node.more.get("summary.config.sslThumbprint") or None,
            lockdown=node.more.get("config.lockdownMode"),
            access=node.more.get("configManager.hostAccessManager"),
        )

    def hosts_named(self, name: str) -> t.Sequence[HostEntry]:
        """The hosts of this name, upper and lower case being the same. More than one only if vCenter is confused."""
        return self._hosts.get(name.lower(), ())

    def place(
        self,
        *,
        datacenter: str,
        cluster: t.Optional[str] = None,
        folder: t.Optional[str] = None,
        missing_allowed: bool = False,
    ) -> Place:
        """The place that a definition means. Raises PlaceError with a sentence that names what there is.

        datacenter: its name, or its path when the name is not unique.
        cluster: the same. folder: path below the datacenter's host folder, or from the root; ``/`` is that folder.
        missing_allowed: a folder need not exist; ``missing`` of the place says what to create.
        """
        center = self._one("datacenter", datacenter, self._of_kind("datacenter"), "vCenter")
        where = f"datacenter {self._paths[center].lstrip('/')}"
        inside = [key for key in self._nodes if self._is_below(key, center)]
        if cluster is not None:
            clusters = [key for key in inside if self._nodes[key].kind == "cluster"]
            key = self._one("cluster", cluster, clusters, where)
            return Place(self._nodes[key].ref, self._paths[key], True, self._paths[center])
        top = next((key for key in inside if self._is_host_folder(key, center)), None)
        if top is None:
            raise PlaceError(f"The host folder of {where} is not visible to this vCenter user.")
        parts = [part for part in (folder or "").split("/") if part]
        start = [part for part in self._paths[top].split("/") if part]
        if (folder or "").startswith("/") and parts[: len(start)] == start:
            parts = parts[len(start) :]
        wanted = "/".join([self._paths[top], *parts])
        folders = {self._paths[key]: key for key in inside if self._nodes[key].kind == "folder"}
        deepest = len(parts)
        while missing_allowed and deepest > 0 and "/".join([self._paths[top], *parts[:deepest]]) not in folders:
            deepest -= 1
        there = "/".join([self._paths[top], *parts[:deepest]])
        if there not in folders:
            below = [path[len(self._paths[top]) + 1 :] for path in folders if path != self._paths[top]]
            raise PlaceError(
                f"There is no host folder {'/'.join(parts)!r} in {where}; {_there_is(below)} "
                "With create_folders it would be created."
            )
        return Place(self._nodes[folders[there]].ref, wanted, False, self._paths[center], tuple(parts[deepest:]))

    def _one(self, kind: str, wanted: str, keys: t.Sequence[str], where: str) -> str:
        """The one of ``keys`` that ``wanted`` names or whose path it is."""
        found = [key for key in keys if self._nodes[key].name == wanted]
        if len(found) != 1:
            by_path = [key for key in keys if self._paths[key].strip("/") == wanted.strip("/")]
            if len(found) == 0 or len(by_path) == 1:
                found = by_path
        if len(found) == 1:
            return found[0]
        if found:
            paths = ", ".join(sorted(self._paths[key] for key in found))
            raise PlaceError(f"There are several {kind}s {wanted!r} in {where}: give the path of one of {paths}.")
        names = (self._nodes[key].name for key in keys)
        raise PlaceError(f"There is no {kind} {wanted!r} in {where}; {_there_is(names)}")

    def _of_kind(self, kind: str) -> list[str]:
        return [key for key, node in self._nodes.items() if node.kind == kind]

    def _ancestors(self, key: str) -> t.Iterator[str]:
        """The keys above an object, the nearest first, without the root folder."""
        parent = self._nodes[key].parent
        while parent is not None and parent != self._root and parent in self._nodes:
            yield parent
            parent = self._nodes[parent].parent

    def _is_below(self, key: str, ancestor: str) -> bool:
        return ancestor in self._ancestors(key)

    def _is_host_folder(self, key: str, datacenter: str) -> bool:
        return self._nodes[key].kind == "folder" and self._nodes[key].parent == datacenter

    def _path(self, key: str) -> str:
        names = [self._nodes[key].name, *(self._nodes[above].name for above in self._ancestors(key))]
        return "/" + "/".join(reversed(names))

    def _place_of(self, host: _Node) -> str:
        """The cluster or folder of a host. A standalone host's own compute resource is left out: nobody sees it."""
        parent = host.parent
        while parent is not None and parent in self._nodes and self._nodes[parent].kind == "compute":
            parent = self._nodes[parent].parent
        return self._path(parent) if parent is not None and parent in self._nodes else "/"


def _there_is(names: t.Iterable[str]) -> str:
    """``there is: A, B.``, at most so many that a sentence stays one."""
    known = sorted(set(names))
    if not known:
        return "there is none at all (or this vCenter user sees none)."
    more = f" and {len(known) - _NAMES_IN_A_SENTENCE} more" if len(known) > _NAMES_IN_A_SENTENCE else ""
    return f"there is: {', '.join(known[:_NAMES_IN_A_SENTENCE])}{more}."


def read_inventory(session: Session, *, lockdown: bool = False) -> Inventory:
    """Read the host side of a vCenter: one retrieve with a path set, however many hosts there are.

    lockdown: read the hosts' lockdown modes too, which are a part of their configuration and take vCenter longer.

    It walks down from the root folder, not along ``cluster.host``, which may name hosts that are gone; and it takes
    every property as one that may be missing, because a property that a user may not see is.
    Raises VsphereError.
    """
    collector = vmodl.query.PropertyCollector
    everything_below = [collector.SelectionSpec(name="folder"), collector.SelectionSpec(name="compute")]
    walk = [
        collector.TraversalSpec(
            name="folder",
            type=vim.Folder,
            path="childEntity",
            skip=False,
            selectSet=[*everything_below, collector.SelectionSpec(name="datacenter")],
        ),
        collector.TraversalSpec(
            name="datacenter",
            type=vim.Datacenter,
            path="hostFolder",
            skip=False,
            selectSet=[collector.SelectionSpec(name="folder")],
        ),
        collector.TraversalSpec(name="compute", type=vim.ComputeResource, path="host", skip=False),
    ]
    root = session.content.rootFolder
    wanted = [
        collector.PropertySpec(type=vim.Folder, pathSet=["name", "parent"]),
        collector.PropertySpec(type=vim.Datacenter, pathSet=["name", "parent"]),
        collector.PropertySpec(type=vim.ComputeResource, pathSet=["name", "parent"]),
        collector.PropertySpec(type=vim.HostSystem, pathSet=[*_HOST_PROPERTIES, *(_LOCKDOWN if lockdown else ())]),
    ]
    what = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=root, skip=False, selectSet=walk)],
        propSet=wanted,
        reportMissingObjectsInResults=True,
    )
    nodes: dict[str, _Node] = {}
    for reference, properties in retrieve(session, what):
        kind = _kind(reference)
        name = properties.get("name")
        if kind is None or name is None:
            continue
        parent = properties.get("parent")
        nodes[str(reference._moId)] = _Node(
            ref=reference,
            kind=kind,
            # vCenter stores / \ % in names as %2f %5c %25.
            name=unquote(str(name)),
            parent=None if parent is None else str(parent._moId),
            state=str(properties.get("runtime.connectionState", "unknown")),
            more=properties,
        )
    return Inventory(nodes, str(root._moId))


def _kind(reference: ManagedObject) -> t.Optional[str]:
    for kind, name in (
        (vim.HostSystem, "host"),
        (vim.ClusterComputeResource, "cluster"),
        (vim.ComputeResource, "compute"),
        (vim.Datacenter, "datacenter"),
        (vim.Folder, "folder"),
    ):
        if isinstance(reference, kind):
            return name
    return None


def retrieve(session: Session, what: t.Any) -> t.Iterator[tuple[ManagedObject, dict[str, t.Any]]]:
    """Every object of a retrieve with the properties it has, all pages of it."""
    collector = session.content.propertyCollector
    with connection_errors(session.endpoint):
        try:
            page = collector.RetrievePropertiesEx([what], vmodl.query.PropertyCollector.RetrieveOptions())
            while page is not None:
                for item in page.objects:
                    yield item.obj, {prop.name: prop.val for prop in item.propSet or []}
                page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
        except vmodl.MethodFault as fault:
            if session_is_over(fault):
                raise ServiceUnavailableError(f"{session.endpoint} has ended the session.") from fault
            raise VsphereError(f"{session.endpoint} refuses to list its hosts: {describe_fault(fault)}") from fault


def machine_power(properties: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """C(poweredOn), C(poweredOff) or C(suspended) of a virtual machine; None: not told.

    A machine of ESX Agent Manager's counts as off: every host of a cluster with DRS may have one, which goes by itself.
    """
    if getattr(properties.get("config.managedBy"), "extensionKey", None) == _AGENT_MANAGER:
        return "poweredOff"
    state = properties.get("runtime.powerState")
    return None if state is None else str(state)


def count_powered_on(session: Session, hosts: t.Sequence[ManagedObject]) -> dict[str, int]:
    """How many virtual machines run on each of some hosts, by the host's id. Raises VsphereError."""
    collector = vmodl.query.PropertyCollector
    machines = collector.TraversalSpec(name="machines", type=vim.HostSystem, path="vm", skip=False)
    what = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=host, skip=False, selectSet=[machines]) for host in hosts],
        propSet=[
            collector.PropertySpec(type=vim.HostSystem, pathSet=["vm"]),
            collector.PropertySpec(type=vim.VirtualMachine, pathSet=list(MACHINE_PROPERTIES)),
        ],
        reportMissingObjectsInResults=True,
    )
    running: set[str] = set()
    placed: dict[str, list[str]] = {}
    for reference, properties in retrieve(session, what):
        if isinstance(reference, vim.HostSystem):
            placed[str(reference._moId)] = [str(machine._moId) for machine in properties.get("vm") or []]
        elif machine_power(properties) != "poweredOff":
            # suspended, or not told: nobody may count on it being off
            running.add(str(reference._moId))
    return {host: sum(machine in running for machine in machines) for host, machines in placed.items()}
