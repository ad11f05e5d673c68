# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a vCenter does with hosts and vcsim does not: it connects to them, and decides whether it may.

Adding, disconnecting, reconnecting, moving, maintenance mode and licences. Each host's certificate is compared with
what came with the call, its password tried, and the host told who manages it now. What is wrong becomes a failing task
with vCenter's own fault. What is carried out changes vcsim's own objects, through the extension of the lab's vcsim
(tests/lab/vcsim/extension.go), so every way of reading the inventory shows it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from . import soap
from .trouble import Trouble

_CONNECT_SECONDS = 10.0
_TAKES_CERTIFICATES = (9, 0)
_NO_HOST = "Unable to communicate with the remote host, since it is disconnected or not reachable."
_WRONG_LOGIN = "Cannot complete login due to an incorrect user name or password."


class Simulator:
    """The extension of the lab's vcsim. ``forward`` sends a SOAP message to it within somebody's session."""

    def __init__(self, forward: Callable[[bytes], soap.Answer]) -> None:
        self._forward = forward

    def ask(self, *words: str) -> str:
        """A verb and its arguments; what extension.go says comes back. Raises RuntimeError when it refuses."""
        arguments = "".join(f"<arguments>{escape(word)}</arguments>" for word in words)
        answer = self._forward(
            soap.envelope(
                '<ExecuteSimpleCommand xmlns="urn:vim25"><_this type="SimpleCommand">pxelab</_this>'
                f"{arguments}</ExecuteSimpleCommand>"
            )
        )
        root = ElementTree.fromstring(answer.body) if answer.body else None
        if answer.status != 200 or root is None:
            said = "" if root is None else root.findtext(".//faultstring") or ""
            if "not found" in said:
                said = "this vcsim was built without tests/lab/vcsim/extension.go"
            raise RuntimeError(f"vcsim does not {' '.join(words)}: HTTP {answer.status} {said}")
        return root.findtext(f".//{soap.VIM}returnval") or ""

    def host(self, host_id: str) -> dict[str, Any]:
        """How a host stands."""
        found: dict[str, Any] = json.loads(self.ask("describe", host_id))
        return found


@dataclass(frozen=True)
class Settings:
    """What this vCenter is. ``licences``: how many hosts each key is good for; ``most_hosts``: what the edition allows.

    ``denied``: privileges that nobody has here.
    """

    identity: str
    version: tuple[int, ...]
    names: Path | None = None
    licences: dict[str, int] = field(default_factory=dict)
    most_hosts: int | None = None
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Connection:
    """How a host was taken in: where vCenter finds it again, and by what it knows it."""

    name: str
    port: int
    thumbprint: str


class Hosts:
    """Answers the calls that are about hosts; ``None`` for every other one."""

    def __init__(
        self, settings: Settings, task: Callable[[soap.Call, tuple[str, str], Trouble | None, float], soap.Answer]
    ) -> None:
        self._settings = settings
        self._task = task
        self._connections: dict[str, Connection] = {}
        self._licensed: dict[str, str] = {}
        # One change of the inventory at a time: two adds of one machine at once must not both find it missing. Looking
        # at the machines, which takes the time, is done outside.
        self._lock = threading.Lock()
        self._methods: dict[str, Callable[[soap.Call], soap.Answer | None]] = {
            "AddHost_Task": self._add,
            "AddStandaloneHost_Task": self._add,
            "QueryConnectionInfo": self._query,
            "DisconnectHost_Task": self._disconnect,
            "ReconnectHost_Task": self._reconnect,
            "MoveHostInto_Task": self._move_into_cluster,
            "MoveIntoFolder_Task": self._move_into_folder,
            "EnterMaintenanceMode_Task": self._enter_maintenance,
            "ExitMaintenanceMode_Task": self._exit_maintenance,
            "CreateFolder": self._create_folder,
            "QueryAssignedLicenses": self._assigned_licences,
            "UpdateAssignedLicense": self._assign_licence,
            "ChangeLockdownMode": self._change_lockdown,
        }

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        method = self._methods.get(call.method)
        return method(call) if method is not None else None

    # -- taking in

    def _add(self, call: soap.Call) -> soap.Answer | None:
        privilege = "AddHostToCluster" if call.method == "AddHost_Task" else "AddStandaloneHost"
        denied = self._denied(f"Host.Inventory.{privilege}")
        if denied is not None:
            return denied.answer()
        name, port = call.text("spec/hostName"), int(call.text("spec/port") or 443)
        simulator = Simulator(call.forward)
        place, key = this(call), call.text("license")
        found = self._look(call, name, port) if not simulator.ask("find", name) else name
        with self._lock:
            trouble: Trouble | None
            if simulator.ask("find", name):
                trouble = already_connected(name)
            elif simulator.ask("child", *place, name) == "true":
                trouble = duplicate(name)
            elif isinstance(found, Trouble):
                trouble = found
            else:
                trouble = self._full(simulator) or self._licence_trouble(key, None)
            if trouble is None:
                trouble = self._take(call, name, port)
            if trouble is not None:
                say(call, name, trouble.kind)
                return self._task(call, place, trouble, 0.0)
            assert not isinstance(found, Trouble)
            say(call, name, "taken in")
            answer = call.forward(call.body)
            host_id = simulator.ask("find", name)
            if host_id:
                simulator.ask("adopt", host_id)
                self._remember(simulator, host_id, Connection(name, port, found))
                if key:
                    self._licensed[host_id] = key
            return answer

    def _remember(self, simulator: Simulator, host_id: str, connection: Connection) -> None:
        self._connections[host_id] = connection
        simulator.ask("set", host_id, "thumbprint", connection.thumbprint)

    def _look(self, call: soap.Call, name: str, port: int, spec: str = "spec/") -> str | Trouble:
        """The thumbprint of the machine of that name, or what vCenter does not like about it."""
        address = self._resolve(name)
        if address is None:
            return Trouble("NoHost", _NO_HOST, (("name", name),))
        try:
            presented = certificate(address, port)
        except OSError:
            return Trouble("NoHost", _NO_HOST, (("name", name),))
        thumbprint = thumbprint_of(presented)
        pem, given = call.text(f"{spec}sslCertificate"), call.text(f"{spec}sslThumbprint")
        if self._settings.version[:2] >= _TAKES_CERTIFICATES:
            trusted = bool(pem) and ssl.PEM_cert_to_DER_cert(pem) == presented
        else:
            trusted = given.upper() == thumbprint
        if not trusted:
            return unverified(thumbprint)
        return thumbprint

    def _take(self, call: soap.Call, name: str, port: int, spec: str = "spec/") -> Trouble | None:
        """Log in, and tell a machine that it is this vCenter's now, unless it is another one's or has a name here."""
        address, user, password = self._resolve(name), call.text(f"{spec}userName"), call.text(f"{spec}password")
        if address is None:
            return Trouble("NoHost", _NO_HOST, (("name", name),))
        manager, _space, known_as = managed_by(address, port).partition(" ")
        refusal: Trouble | None = None
        if manager and manager != self._settings.identity and call.text(f"{spec}force") != "true":
            message = "The host is already being managed by another vCenter."
            refusal = Trouble("AlreadyBeingManaged", message, (("ipAddress", manager),))
        elif manager and known_as != name and Simulator(call.forward).ask("find", known_as):
            refusal = already_connected(known_as)
        if refusal is not None:
            return refusal if lets_in(address, port, user, password) else Trouble("InvalidLogin", _WRONG_LOGIN)
        taken = take_in(address, port, user, password, f"{self._settings.identity} {name}")
        return None if taken else Trouble("InvalidLogin", _WRONG_LOGIN)

    def _query(self, call: soap.Call) -> soap.Answer:
        """QueryConnectionInfo: the same look, without taking the host in; its faults come at once."""
        name, port = call.text("hostname"), int(call.text("port") or 443)
        address = self._resolve(name)
        try:
            presented = certificate(address or "", port)
        except OSError:
            return Trouble("NoHost", _NO_HOST, (("name", name),)).answer()
        if call.text("sslThumbprint").upper() != thumbprint_of(presented):
            return unverified(thumbprint_of(presented)).answer()
        if not lets_in(address or "", port, call.text("username"), call.text("password")):
            return Trouble("InvalidLogin", _WRONG_LOGIN).answer()
        manager = managed_by(address or "", port).partition(" ")[0]
        return soap.Answer(
            200,
            soap.envelope(
                '<QueryConnectionInfoResponse xmlns="urn:vim25"><returnval>'
                f"{f'<serverIp>{escape(manager)}</serverIp>' if manager else ''}<inDasCluster>false</inDasCluster>"
                "<host><config><name>" + escape(name) + f"</name><port>{port}</port></config></host>"
                "<vimAccountNameRequired>true</vimAccountNameRequired><clusterSupported>true</clusterSupported>"
                "</returnval></QueryConnectionInfoResponse>"
            ),
        )

    # -- disconnecting and reconnecting

    def _disconnect(self, call: soap.Call) -> soap.Answer:
        simulator, place = Simulator(call.forward), this(call)
        with self._lock:
            if simulator.host(place[1])["state"] == "disconnected":
                return self._task(call, place, invalid_state("The host is not connected."), 0.0)
            simulator.ask("set", place[1], "state", "disconnected")
        return self._task(call, place, None, 0.0)

    def _reconnect(self, call: soap.Call) -> soap.Answer:
        simulator, place = Simulator(call.forward), this(call)
        host = simulator.host(place[1])
        known = self._connections.get(place[1])
        trouble: Trouble | None = None
        if host["state"] == "connected":
            trouble = invalid_state("The host is not disconnected.")
        elif known is None and not call.text("cnxSpec/hostName"):
            trouble = Trouble("HostConnectFault", "Nothing is known of how this host is reached.")
        else:
            if call.text("cnxSpec/userName"):
                name, port = call.text("cnxSpec/hostName") or host["name"], int(call.text("cnxSpec/port") or 443)
                found = self._look(call, name, port, "cnxSpec/")
                if isinstance(found, Trouble):
                    trouble = found
                else:
                    trouble = self._take(call, name, port, "cnxSpec/")
                    known = Connection(name, port, found)
            elif known is not None:
                state = self._state_of(known)
                trouble = {
                    "connected": None,
                    "notResponding": Trouble("NoHost", _NO_HOST, (("name", known.name),)),
                    "disconnected": Trouble("InvalidLogin", _WRONG_LOGIN),
                }[state]
        say(call, host["name"], trouble.kind if trouble else "connected again")
        if trouble is None and known is not None:
            with self._lock:
                self._remember(simulator, place[1], known)
                simulator.ask("set", place[1], "state", "connected")
        return self._task(call, place, trouble, 0.0)

    def _state_of(self, known: Connection) -> str:
        """How vCenter sees a host that it has: a machine that was reinstalled does not know its agent any more."""
        address = self._resolve(known.name)
        try:
            presented = certificate(address or "", known.port)
            manager = managed_by(address or "", known.port).partition(" ")[0]
        except (OSError, http.client.HTTPException):
            return "notResponding"
        mine = thumbprint_of(presented) == known.thumbprint and manager == self._settings.identity
        return "connected" if mine else "disconnected"

    def heartbeat(self, simulator: Simulator) -> None:
        """Look once at every host that is not disconnected on purpose, and note how it stands."""
        for host_id, known in list(self._connections.items()):
            try:
                before = simulator.host(host_id)["state"]
            except RuntimeError:
                del self._connections[host_id]  # removed
                continue
            if before == "disconnected":
                continue
            now = self._state_of(known)
            with self._lock:
                if now != before and simulator.host(host_id)["state"] == before:
                    simulator.ask("set", host_id, "state", now)

    # -- moving

    def _move_into_cluster(self, call: soap.Call) -> soap.Answer:
        simulator, cluster, host_id = Simulator(call.forward), this(call), call.text("host")
        denied = self._denied("Host.Inventory.MoveHost")
        if denied is not None:
            return denied.answer()
        with self._lock:
            host = simulator.host(host_id)
            trouble = self._cannot_move(simulator, host, cluster)
            if trouble is None:
                simulator.ask("move", host_id, *cluster)
        return self._task(call, cluster, trouble, 0.0)

    def _move_into_folder(self, call: soap.Call) -> soap.Answer | None:
        simulator, folder = Simulator(call.forward), this(call)
        denied = self._denied("Host.Inventory.MoveHost")
        if denied is not None:
            return denied.answer()
        moved = [(one.get("type", ""), one.text or "") for one in call.element.iter(f"{soap.VIM}list")]
        if not any(kind == "HostSystem" for kind, _id in moved):
            return None
        with self._lock:
            for _kind, host_id in moved:
                host = simulator.host(host_id)
                trouble = (
                    Trouble("NotSupported", "A standalone host is moved with its compute resource.")
                    if host["parent_type"] == "ComputeResource"
                    else self._cannot_move(simulator, host, folder)
                )
                if trouble is not None:
                    return self._task(call, folder, trouble, 0.0)
                simulator.ask("move", host_id, *folder)
        return self._task(call, folder, None, 0.0)

    @staticmethod
    def _cannot_move(simulator: Simulator, host: dict[str, Any], target: tuple[str, str]) -> Trouble | None:
        if host["parent_type"] == "ClusterComputeResource" and not host["maintenance"]:
            return invalid_state("The host is in a cluster and not in maintenance mode.")
        if simulator.ask("child", *target, host["name"]) == "true":
            return duplicate(host["name"])
        if simulator.ask("datacenter", *target) != host["datacenter"]:
            return Trouble("InvalidArgument", "The host is in another datacenter.", (("invalidProperty", "host"),))
        return None

    # -- the rest

    def _enter_maintenance(self, call: soap.Call) -> soap.Answer | None:
        host = Simulator(call.forward).host(this(call)[1])
        if host["state"] != "connected":
            return self._task(call, this(call), invalid_state("The host is not connected."), 0.0)
        if host["powered_on"]:
            # Without DRS, vCenter waits until somebody has moved the machines away.
            seconds = float(call.text("timeout") or 0) or 3600.0
            return self._task(call, this(call), Trouble("Timedout", "Operation timed out."), seconds)
        return None

    def _exit_maintenance(self, call: soap.Call) -> soap.Answer | None:
        host = Simulator(call.forward).host(this(call)[1])
        if not host["maintenance"]:
            return self._task(call, this(call), invalid_state("The host is not in maintenance mode."), 0.0)
        return None

    def _create_folder(self, call: soap.Call) -> soap.Answer | None:
        denied = self._denied("Folder.Create")
        return denied.answer() if denied is not None else None

    def _change_lockdown(self, call: soap.Call) -> soap.Answer | None:
        denied = self._denied("Host.Config.Settings")
        return denied.answer() if denied is not None else None

    def _assigned_licences(self, call: soap.Call) -> soap.Answer:
        wanted = call.text("entityId")
        found = "".join(
            f"<returnval><entityId>{escape(host_id)}</entityId><assignedLicense><licenseKey>{escape(key)}</licenseKey>"
            "<editionKey>esx.enterprisePlus.cpuPackage</editionKey><name>ESXi</name>"
            f"<total>{self._settings.licences.get(key, 0)}</total></assignedLicense></returnval>"
            for host_id, key in sorted(self._licensed.items())
            if wanted in ("", host_id)
        )
        return soap.Answer(
            200,
            soap.envelope(f'<QueryAssignedLicensesResponse xmlns="urn:vim25">{found}</QueryAssignedLicensesResponse>'),
        )

    def _assign_licence(self, call: soap.Call) -> soap.Answer:
        host_id, key = call.text("entity"), call.text("licenseKey")
        with self._lock:
            trouble = self._denied("Global.Licenses") or self._licence_trouble(key, host_id)
            if trouble is not None:
                return trouble.answer()
            self._licensed[host_id] = key
        return soap.Answer(
            200,
            soap.envelope(
                f'<UpdateAssignedLicenseResponse xmlns="urn:vim25"><returnval><licenseKey>{escape(key)}</licenseKey>'
                f"<editionKey>esx</editionKey><name>ESXi</name><total>{self._settings.licences[key]}</total></returnval>"
                "</UpdateAssignedLicenseResponse>"
            ),
        )

    def _licence_trouble(self, key: str, host_id: str | None) -> Trouble | None:
        if not key:
            return None
        if key not in self._settings.licences:
            return Trouble("LicenseEntityNotFound", "There is no such license.", (("entityId", host_id or ""),))
        used = sum(1 for one, other in self._licensed.items() if other == key and one != host_id)
        if used >= self._settings.licences[key]:
            return Trouble("NotEnoughLicenses", "There are not enough licenses installed to perform the operation.")
        return None

    def _full(self, simulator: Simulator) -> Trouble | None:
        most = self._settings.most_hosts
        if most is not None and len(json.loads(simulator.ask("hosts"))) >= most:
            return Trouble("TooManyHosts", "No more hosts can be added.")
        return None

    def _denied(self, privilege: str) -> Trouble | None:
        if privilege not in self._settings.denied:
            return None
        return Trouble(
            "NoPermission", "Permission to perform this operation was denied.", (("privilegeId", privilege),)
        )

    def _resolve(self, name: str) -> str | None:
        if self._settings.names is not None:
            for line in self._settings.names.read_text(encoding="utf-8").splitlines():
                address, *names = line.partition("#")[0].split() or [""]
                if name.lower() in map(str.lower, names):
                    return address
        try:
            return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
        except OSError:
            return None


def this(call: soap.Call) -> tuple[str, str]:
    """Type and id of the object that a call is about."""
    found = call.element.find(f"{soap.VIM}_this")
    return ("", "") if found is None else (found.get("type", ""), found.text or "")


def say(call: soap.Call, name: str, text: str) -> None:
    """A line about a host in the log."""
    print(f"{call.method} {name}: {text}", file=sys.stderr, flush=True)


def already_connected(name: str) -> Trouble:
    """The machine is here already, under a name."""
    return Trouble("AlreadyConnected", "The host is already connected to vCenter Server.", (("name", name),))


def duplicate(name: str) -> Trouble:
    """Something else has the name."""
    return Trouble("DuplicateName", f"The name '{name}' already exists.", (("name", name),))


def invalid_state(message: str) -> Trouble:
    """The object is in no state for what is asked."""
    return Trouble("InvalidState", message)


def unverified(thumbprint: str) -> Trouble:
    """The certificate is not the one that the caller named."""
    fields = (("selfSigned", "true"), ("thumbprint", thumbprint))
    return Trouble("SSLVerifyFault", "Authenticity of the host's SSL certificate is not verified.", fields)


# -- a host's own API


def thumbprint_of(der: bytes) -> str:
    """SHA-1, as vCenter writes it."""
    return ":".join(f"{octet:02X}" for octet in hashlib.sha1(der).digest())


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(address: str, port: int) -> bytes:
    """What a machine presents (DER). Raises OSError."""
    with (
        socket.create_connection((address, port), timeout=_CONNECT_SECONDS) as plain,
        _context().wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _calls(address: str, port: int, contents: Sequence[str]) -> list[tuple[int, bytes]]:
    """Calls of one session with a host's API; after the first that fails there are no more."""
    connection = http.client.HTTPSConnection(address, port, timeout=_CONNECT_SECONDS, context=_context())
    answers: list[tuple[int, bytes]] = []
    headers = {"Content-Type": "text/xml", "SOAPAction": "urn:vim25/6.5"}
    try:
        for content in contents:
            connection.request("POST", "/sdk", soap.envelope(content), headers)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
            cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
            if cookie:
                headers["Cookie"] = cookie
            if response.status != 200:
                break
    finally:
        connection.close()
    return answers


_MANAGER = '<_this type="SessionManager">ha-sessionmgr</_this>'
_LOGOUT = f'<Logout xmlns="urn:vim25">{_MANAGER}</Logout>'


def _login(user: str, password: str) -> str:
    return (
        f'<Login xmlns="urn:vim25">{_MANAGER}<userName>{escape(user)}</userName>'
        f"<password>{escape(password)}</password></Login>"
    )


def lets_in(address: str, port: int, user: str, password: str) -> bool:
    """Whether a host's API accepts a login."""
    try:
        return _calls(address, port, [_login(user, password), _LOGOUT])[0][0] == 200
    except (OSError, http.client.HTTPException):
        return False


def managed_by(address: str, port: int) -> str:
    """Who manages a host, and under which name; empty for nobody."""
    (answer,) = _calls(address, port, ['<PxelabManagedBy xmlns="urn:vim25"/>'])
    return (ElementTree.fromstring(answer[1]).findtext(f".//{soap.VIM}returnval") or "") if answer[0] == 200 else ""


def take_in(address: str, port: int, user: str, password: str, manager: str) -> bool:
    """Have a host be managed by somebody."""
    note = f'<PxelabTakeIn xmlns="urn:vim25"><vcenter>{escape(manager)}</vcenter></PxelabTakeIn>'
    try:
        answers = _calls(address, port, [_login(user, password), note, _LOGOUT])
    except (OSError, http.client.HTTPException):
        return False
    return len(answers) > 1 and answers[1][0] == 200


class OwnSession:
    """A session of the gateway's own with the vcsim behind it, for what no client has asked for."""

    def __init__(self, backend: tuple[str, int], user: str, password: str) -> None:
        self._backend, self._user, self._password = backend, user, password
        self._cookie = ""

    def forward(self, body: bytes) -> soap.Answer:
        """Send a message; logs in first where that was not done."""
        if not self._cookie:
            login = _login(self._user, self._password).replace("ha-sessionmgr", "SessionManager")
            self._send(soap.envelope(login))
        return self._send(body)

    def _send(self, body: bytes) -> soap.Answer:
        connection = http.client.HTTPConnection(*self._backend, timeout=30)
        try:
            headers = {"Content-Type": "text/xml", "SOAPAction": "urn:vim25/6.5"}
            if self._cookie:
                headers["Cookie"] = self._cookie
            connection.request("POST", "/sdk", body, headers)
            response = connection.getresponse()
            self._cookie = (response.getheader("Set-Cookie") or "").partition(";")[0] or self._cookie
            return soap.Answer(response.status, response.read())
        finally:
            connection.close()


def watch(hosts: Hosts, session: OwnSession, seconds: float) -> None:
    """Look at all hosts again and again, in a thread that ends with the process."""

    def loop() -> None:
        while True:
            time.sleep(seconds)
            try:
                hosts.heartbeat(Simulator(session.forward))
            except Exception as error:  # the next round may be a better one
                print(f"heartbeat: {error}", file=sys.stderr, flush=True)

    threading.Thread(target=loop, daemon=True).start()


def task_answer(call: soap.Call, task: str) -> soap.Answer:
    """What a call that starts a task is answered with."""
    return soap.Answer(
        200,
        soap.envelope(
            f'<{call.method}Response xmlns="urn:vim25"><returnval type="Task">{quoteattr(task)[1:-1]}</returnval>'
            f"</{call.method}Response>"
        ),
    )
