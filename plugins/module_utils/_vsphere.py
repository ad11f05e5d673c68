# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: sessions with the vSphere API of a vCenter or an ESXi host, bulk reads, tasks, faults.

The client of vmware.vmware is not used: it sets no time limit on any call, cannot be given a certificate to pin, and
waits for one task at a time. The connection options are the same ones.
"""

from __future__ import annotations

import http.client
import math
import re
import ssl
import time
import traceback
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import (
    DefinitionError,
    EsxiPxeError,
    MissingLibraryError,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results

try:
    from pyVmomi import SoapStubAdapter, vim, vmodl
    from pyVmomi.VmomiSupport import GetServiceVersions, versionIdMap
except Exception:  # on a Python that is too old for it, pyVmomi raises just that
    PYVMOMI_IMPORT_ERROR: t.Optional[str] = traceback.format_exc()
else:
    PYVMOMI_IMPORT_ERROR = None

__all__ = [
    "Endpoint",
    "HostEntry",
    "Inventory",
    "LoginRefusedError",
    "Place",
    "PlaceError",
    "Session",
    "ServiceUnavailableError",
    "TaskOutcome",
    "VsphereError",
    "WrongCertificateError",
    "connection_errors",
    "describe_fault",
    "fault_kinds",
    "parse_each",
    "is_fault",
    "is_host_name",
    "read_inventory",
    "require_pyvmomi",
    "retrieve",
    "run_tasks",
    "verifying_context",
]

# pyVmomi has no types for checkers: its managed objects and faults are Any here.
ManagedObject = t.Any
Fault = t.Any
Key = t.TypeVar("Key", bound=t.Hashable)
Definition = t.TypeVar("Definition")

# One WaitForUpdatesEx call takes at most this long, so that time limits of tasks are kept and proxies see traffic.
_WAIT_SECONDS = 20
_VERSIONS_DOCUMENT_LIMIT = 1 << 20
_NAMES_IN_A_SENTENCE = 20


class VsphereError(EsxiPxeError):
    """Something that the vSphere API said or did not say, in a sentence."""


class ServiceUnavailableError(VsphereError):
    """The API does not answer, or not yet: trying again later may help."""


class WrongCertificateError(VsphereError):
    """Who answers cannot show the certificate that was asked for. Trying again does not help."""


class LoginRefusedError(VsphereError):
    """The API answered that user name and password do not fit."""


class PlaceError(VsphereError):
    """A datacenter, cluster or folder that does not exist, or that is not the only one of its name."""


def is_host_name(text: str) -> bool:
    """Whether a text can be the name or the IP address of a host: keeps out what no host is called."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?", text):
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def parse_address(options: t.Mapping[str, t.Any], errors: list[str]) -> tuple[str, str, int]:
    """Name, address and port of a host's API, from its options; adds a sentence to ``errors`` for each mistake."""
    name = str(options.get("name") or "")
    if not is_host_name(name):
        errors.append(f"{name!r} is no host name.")
    address = str(options.get("address") or name)
    if not is_host_name(address):
        errors.append(f"address {address!r} is no host name or IP address.")
    port = 443 if options.get("port") is None else int(options["port"])
    if not 0 < port < 65536:
        errors.append(f"port {port} is not between 1 and 65535.")
    return name, address, port


def parse_each(
    definitions: t.Iterable[t.Mapping[str, t.Any]],
    parse: t.Callable[[t.Mapping[str, t.Any]], Definition],
    results: Results,
) -> list[Definition]:
    """The definitions that are sound; every other one is reported as failed, under its name, with all its mistakes.

    A name that occurs twice is two hosts or one mistake: nobody can tell, so neither is touched.
    """
    parsed: dict[str, tuple[str, t.Optional[Definition]]] = {}
    for definition in definitions:
        name = str(definition.get("name") or "")
        if name.lower() in parsed:
            first, _unused = parsed[name.lower()]
            parsed[name.lower()] = (first, None)
            for twice in sorted({first, name}):
                results.fail(twice, f"The host {name} is in the list twice: give it once.", action="none")
            continue
        try:
            parsed[name.lower()] = (name, parse(definition))
        except DefinitionError as error:
            parsed[name.lower()] = (name, None)
            results.fail(name, list(error.errors), action="none")
    return [host for _unused, host in parsed.values() if host is not None]


def require_pyvmomi() -> None:
    """Raises MissingLibraryError when pyVmomi is not there, so that a module can say how to install it."""
    if PYVMOMI_IMPORT_ERROR is not None:
        raise MissingLibraryError("pyvmomi", PYVMOMI_IMPORT_ERROR)


def verifying_context(validate_certs: bool) -> ssl.SSLContext:
    """The TLS context for a vCenter: the system's authorities, or no validation at all when somebody asked for that."""
    # SSLContext, not create_default_context(): see pinned_context().
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if validate_certs:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Endpoint:
    """Where an API is and how to get there. ``timeout``: seconds that any one answer may take."""

    host: str
    port: int
    context: ssl.SSLContext
    proxy_host: t.Optional[str] = None
    proxy_port: t.Optional[int] = None
    timeout: float = 60.0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Session:
    """One session with an API. Use it in a ``with``: the session is ended whatever happens.

    Opening it says nothing about credentials; ``login()`` does.
    Raises ServiceUnavailableError, WrongCertificateError, MissingLibraryError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        require_pyvmomi()
        self.endpoint = endpoint
        self._logged_in = False
        with connection_errors(endpoint):
            proxy = {}
            if endpoint.proxy_host:
                proxy = {"httpProxyHost": endpoint.proxy_host, "httpProxyPort": endpoint.proxy_port or 80}
            self._stub = SoapStubAdapter(
                host=endpoint.host,
                port=endpoint.port,
                version=_service_version(endpoint),
                sslContext=endpoint.context,
                # More than one call of WaitForUpdatesEx takes, or every long wait would look like a dead server.
                httpConnectionTimeout=max(endpoint.timeout, 2 * _WAIT_SECONDS),
                **proxy,
            )
            try:
                self.content: ManagedObject = vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()
            except vmodl.MethodFault as fault:
                # Whoever asks needs no rights for this: a fault means that the service behind the proxy is not up yet.
                raise ServiceUnavailableError(f"The API at {endpoint} is not ready: {describe_fault(fault)}") from fault

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def login(self, username: str, password: str) -> None:
        """One login attempt. Raises LoginRefusedError (wrong pair) or VsphereError (any other fault)."""
        with connection_errors(self.endpoint):
            try:
                self.content.sessionManager.Login(username, password, None)
            except vim.fault.InvalidLogin as fault:
                raise LoginRefusedError(f"{self.endpoint} refuses the login of {username}.") from fault
            except vmodl.MethodFault as fault:
                raise VsphereError(
                    f"{self.endpoint} does not let {username} log in: {describe_fault(fault)}"
                ) from fault
        self._logged_in = True

    def close(self) -> None:
        """Log out and drop the connections. Never raises: the work is done or has failed already."""
        if self._logged_in:
            self._logged_in = False
            # An abandoned session ends by itself after half an hour.
            with suppress(Exception):
                self.content.sessionManager.Logout()
        with suppress(OSError):
            self._stub.DropConnections()

    @property
    def api_version(self) -> tuple[int, ...]:
        """For example ``(8, 0, 3, 0)``."""
        return tuple(int(part) for part in str(self.content.about.apiVersion).split(".") if part.isdigit())

    @property
    def is_vcenter(self) -> bool:
        return str(self.content.about.apiType) == "VirtualCenter"


@contextmanager
def connection_errors(endpoint: Endpoint) -> t.Iterator[None]:
    """Turn what a broken connection raises into sentences. Faults (answers of the API) pass through."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        reason = getattr(error, "verify_message", None) or str(error)
        raise WrongCertificateError(f"The certificate of {endpoint} is not to be trusted ({reason}).") from error
    except (OSError, http.client.HTTPException, ExpatError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServiceUnavailableError(f"The API at {endpoint} does not answer ({reason}).") from error


def _service_version(endpoint: Endpoint) -> str:
    """The newest API version that both pyVmomi and the server know.

    pyVmomi's own look-up has no time limit and lets an unverified proxy tunnel to localhost pass; this is the same
    question, put through the endpoint's own TLS context.
    """
    if endpoint.proxy_host:
        connection = http.client.HTTPSConnection(
            endpoint.proxy_host, endpoint.proxy_port or 80, timeout=endpoint.timeout, context=endpoint.context
        )
        connection.set_tunnel(endpoint.host, endpoint.port)
    else:
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=endpoint.timeout, context=endpoint.context
        )
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        response = connection.getresponse()
        document = response.read(_VERSIONS_DOCUMENT_LIMIT)
        if response.status != 200:
            raise http.client.HTTPException(f"{response.status} {response.reason}")
    finally:
        connection.close()
    offered = {element.text for element in ElementTree.fromstring(document).iter("version")}
    for version in GetServiceVersions("vim25"):
        if versionIdMap[version] in offered:
            return str(version)
    raise ServiceUnavailableError(f"{endpoint} speaks no version of the vSphere API that the installed pyVmomi knows.")


# -- Faults ------------------------------------------------------------------------------------------------------------


def fault_kinds(fault: Fault) -> list[str]:
    """Names of the fault's class and its ancestors, the most special first, such as ``vim.fault.InvalidLogin``.

    Names, not classes: which classes exist depends on the installed pyVmomi.
    """
    return [kind.__name__ for kind in type(fault).__mro__]


def is_fault(error: object) -> bool:
    """Whether an exception is a fault that the API answered with."""
    return PYVMOMI_IMPORT_ERROR is None and isinstance(error, vmodl.MethodFault)


def describe_fault(fault: Fault) -> str:
    """A fault that nobody foresaw: its class and whatever text came with it."""
    said = [getattr(fault, "msg", None), getattr(fault, "reason", None)]
    said += [message.message for message in getattr(fault, "faultMessage", None) or []]
    texts: list[str] = []
    for text in said:
        if isinstance(text, str) and text and not any(text in known for known in texts):
            texts.append(text)
    name = fault_kinds(fault)[0].rsplit(".", 1)[-1]
    return f"{name}: {' '.join(texts)}" if texts else f"{name}."


# -- Reading the inventory ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostEntry:
    """A host as vCenter has it. ``place``: path of the cluster or folder it is in; ``state``: connected, ...

    ref, resource: the host and its compute resource (a cluster or its own).
    """

    name: str
    path: str
    place: str
    state: str
    ref: ManagedObject = None
    resource: ManagedObject = None


@dataclass(frozen=True)
class Place:
    """A cluster or a host folder, where hosts can be added."""

    ref: ManagedObject
    path: str
    is_cluster: bool


@dataclass(frozen=True)
class _Node:
    ref: ManagedObject
    kind: str
    name: str
    parent: t.Optional[str]
    state: str


class Inventory:
    """The host side of a vCenter at one moment: datacenters, host folders, clusters and hosts."""

    def __init__(self, nodes: t.Mapping[str, _Node], root: str) -> None:
        self._nodes = nodes
        self._root = root
        self._hosts: dict[str, list[HostEntry]] = {}
        for node in nodes.values():
            if node.kind == "host":
                place = self._place_of(node)
                entry = HostEntry(
                    name=node.name,
                    path=f"{place.rstrip('/')}/{node.name}",
                    place=place,
                    state=node.state,
                    ref=node.ref,
                    resource=nodes[node.parent].ref if node.parent is not None and node.parent in nodes else None,
                )
                self._hosts.setdefault(node.name.lower(), []).append(entry)
        self._paths = {key: self._path(key) for key, node in nodes.items() if node.kind != "host"}

    def hosts_named(self, name: str) -> t.Sequence[HostEntry]:
        """The hosts of this name, upper and lower case being the same. More than one only if vCenter is confused."""
        return self._hosts.get(name.lower(), ())

    def place(self, *, datacenter: str, cluster: t.Optional[str] = None, folder: t.Optional[str] = None) -> Place:
        """The place that a definition means. Raises PlaceError with a sentence that names what there is.

        datacenter: its name, or its path when the name is not unique.
        cluster: the same. folder: path below the datacenter's host folder, or from the root; ``/`` is that folder.
        """
        center = self._one("datacenter", datacenter, self._of_kind("datacenter"), "vCenter")
        where = f"datacenter {self._paths[center].lstrip('/')}"
        inside = [key for key in self._nodes if self._is_below(key, center)]
        if cluster is not None:
            clusters = [key for key in inside if self._nodes[key].kind == "cluster"]
            key = self._one("cluster", cluster, clusters, where)
            return Place(self._nodes[key].ref, self._paths[key], True)
        top = next((key for key in inside if self._is_host_folder(key, center)), None)
        if top is None:
            raise PlaceError(f"The host folder of {where} is not visible to this vCenter user.")
        parts = [part for part in (folder or "").split("/") if part]
        start = [part for part in self._paths[top].split("/") if part]
        if (folder or "").startswith("/") and parts[: len(start)] == start:
            parts = parts[len(start) :]
        wanted = "/".join([self._paths[top], *parts])
        folders = {self._paths[key]: key for key in inside if self._nodes[key].kind == "folder"}
        if wanted not in folders:
            below = [path[len(self._paths[top]) + 1 :] for path in folders if path != self._paths[top]]
            raise PlaceError(f"There is no host folder {'/'.join(parts)!r} in {where}; {_there_is(below)}")
        return Place(self._nodes[folders[wanted]].ref, wanted, False)

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


def read_inventory(session: Session) -> Inventory:
    """Read the host side of a vCenter: one retrieve with a path set, however many hosts there are.

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
        collector.PropertySpec(type=vim.HostSystem, pathSet=["name", "parent", "runtime.connectionState"]),
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
            raise VsphereError(f"{session.endpoint} refuses to list its hosts: {describe_fault(fault)}") from fault


# -- Tasks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended: ``fault`` is the API's fault, ``problem`` a sentence when there is no answer of the API."""

    fault: t.Optional[Fault] = None
    problem: t.Optional[str] = None
    result: t.Any = None

    @property
    def succeeded(self) -> bool:
        return self.fault is None and self.problem is None


def run_tasks(
    session: Session,
    starts: t.Mapping[Key, t.Callable[[], ManagedObject]],
    *,
    parallel: int,
    timeout: float,
    clock: t.Callable[[], float] = time.monotonic,
) -> t.Iterator[tuple[Key, TaskOutcome]]:
    """Start tasks, at most ``parallel`` running at a time, and yield each one's outcome as soon as it has ended.

    starts: a call for each key that starts a task and returns it. timeout: seconds for each task.
    All running tasks are waited for in one call. When the connection is lost, every task that has no outcome gets one
    that says so: nothing is raised half way, because the outcomes that are known must not be lost with it.
    """
    waiting = list(starts)
    running: dict[str, _Running[Key]] = {}
    watcher = _TaskWatcher(session)
    try:
        while waiting or running:
            started = []
            while waiting and len(running) < parallel:
                key = waiting.pop(0)
                try:
                    with connection_errors(session.endpoint):
                        task = starts[key]()
                except vmodl.MethodFault as fault:
                    if _session_is_over(fault):
                        waiting.insert(0, key)
                        raise ServiceUnavailableError(f"{session.endpoint} has ended the session.") from fault
                    yield key, TaskOutcome(fault=fault)
                    continue
                except ServiceUnavailableError:
                    waiting.insert(0, key)
                    raise
                running[str(task._moId)] = _Running(key, task, clock() + timeout)
                started.append(task)
            if started:
                watcher.watch(started)
            if not running:
                continue
            nearest = min(one.deadline for one in running.values()) - clock()
            for task_id, outcome in watcher.ended(max(0.0, min(nearest, _WAIT_SECONDS))):
                one = running.pop(task_id, None)
                if one is not None:
                    yield one.key, outcome
            for task_id in [task_id for task_id, one in running.items() if one.deadline <= clock()]:
                one = running.pop(task_id)
                watcher.forget(task_id)
                yield (
                    one.key,
                    TaskOutcome(problem=f"{session.endpoint} has not finished {task_id} within {timeout:g} seconds."),
                )
    except VsphereError as error:
        for key in [*(one.key for one in running.values()), *waiting]:
            yield key, TaskOutcome(problem=str(error))
    finally:
        watcher.close()


@dataclass(frozen=True)
class _Running(t.Generic[Key]):
    key: Key
    task: ManagedObject
    deadline: float


def _session_is_over(fault: Fault) -> bool:
    return "vim.fault.NotAuthenticated" in fault_kinds(fault)


class _TaskWatcher:
    """Property filters on tasks, and one wait for all of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._collector = session.content.propertyCollector
        self._version = ""
        # Tasks that were started together share a filter, which goes when the last of them has ended.
        self._filters: list[tuple[t.Any, set[str]]] = []

    def watch(self, tasks: t.Sequence[ManagedObject]) -> None:
        query = vmodl.query.PropertyCollector
        what = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=task) for task in tasks],
            propSet=[query.PropertySpec(type=vim.Task, pathSet=["info.state"])],
        )
        with self._errors():
            self._filters.append((self._collector.CreateFilter(what, False), {str(task._moId) for task in tasks}))
        # From the beginning: the next answer is how everything stands now, at once, so a task that has ended already is
        # not waited for. Later ones wait for what changes after that.
        self._version = ""

    def ended(self, seconds: float) -> t.Iterator[tuple[str, TaskOutcome]]:
        """Wait until a task ends, at most ``seconds``; yield the id and the outcome of each one that has ended."""
        query = vmodl.query.PropertyCollector
        with self._errors():
            options = query.WaitOptions(maxWaitSeconds=int(math.ceil(seconds)))
            update = self._collector.WaitForUpdatesEx(self._version, options)
        if update is None:
            return
        self._version = str(update.version)
        ended: dict[str, ManagedObject] = {}
        for changes in update.filterSet or []:
            for change in changes.objectSet or []:
                for prop in change.changeSet or []:
                    if prop.name == "info.state" and str(prop.val) in ("success", "error"):
                        ended[str(change.obj._moId)] = change.obj
        if not ended:
            return
        # State, result and error are separate properties that may arrive in separate updates: ask for them now that
        # the task has ended and none of them changes any more.
        what = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=task) for task in ended.values()],
            propSet=[query.PropertySpec(type=vim.Task, pathSet=["info"])],
            reportMissingObjectsInResults=True,
        )
        answers = {str(task._moId): properties.get("info") for task, properties in retrieve(self._session, what)}
        for task_id in ended:
            self.forget(task_id)
            info = answers.get(task_id)
            if info is None:
                yield task_id, TaskOutcome(problem=f"{self._session.endpoint} does not say how {task_id} ended.")
            elif str(info.state) == "success":
                yield task_id, TaskOutcome(result=info.result)
            elif info.error is None:
                yield task_id, TaskOutcome(problem=f"{self._session.endpoint} does not say why {task_id} failed.")
            else:
                yield task_id, TaskOutcome(fault=info.error)

    def forget(self, task_id: str) -> None:
        for entry in list(self._filters):
            watched, tasks = entry
            tasks.discard(task_id)
            if not tasks:
                self._filters.remove(entry)
                self._destroy(watched)

    def close(self) -> None:
        for watched, _tasks in self._filters:
            self._destroy(watched)
        self._filters = []

    @staticmethod
    def _destroy(watched: t.Any) -> None:
        # The filter goes with the session at the latest.
        with suppress(Exception):
            watched.Destroy()

    @contextmanager
    def _errors(self) -> t.Iterator[None]:
        with connection_errors(self._session.endpoint):
            try:
                yield
            except vmodl.MethodFault as fault:
                if _session_is_over(fault):
                    raise ServiceUnavailableError(f"{self._session.endpoint} has ended the session.") from fault
                raise VsphereError(
                    f"{self._session.endpoint} does not let its tasks be watched: {describe_fault(fault)}"
                ) from fault
