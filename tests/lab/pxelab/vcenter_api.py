# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in vCenter that looks at the hosts it is given, as a real one does and vcsim does not.

    python -m pxelab.vcenter_api --cert vc.crt --key vc.key --listen 127.0.0.1:8989 --vcsim PATH \
        [--hosts FILE] [--profiles FILE] [-- -dc 1 -cluster 1 -host 0 -standalone-host 0 -vm 0 -username ...]

Before an AddHost_Task or AddStandaloneHost_Task reaches vcsim, the host is connected to, its certificate compared with
the thumbprint or the PEM that came with the call, and its password tried. What is wrong becomes a failing task with the
fault that vCenter raises: NoHost, SSLVerifyFault, InvalidLogin, AlreadyConnected. ``--hosts`` is a file in the form of
/etc/hosts with what vCenter's DNS knows. ``--profiles`` is a JSON list of host profiles (vcenter_profiles.py has their
form), or an object with that list as ``profiles`` and the names of the clusters that vSphere Configuration Profiles
configure as ``configured``. The process ends when the thread that started it ends. It prints
``ready ADDRESS:PORT`` once it takes connections.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import socket
import ssl
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from . import paths, soap
from .vcenter_profiles import HostProfiles

_ADDS = ("AddHost_Task", "AddStandaloneHost_Task")
_CONNECT_SECONDS = 10.0
_TASK_OR_FAULT = re.compile(
    r'type="Task"[^>]*>(?P<task>[^<]+)<'
    r'|<fault\b[^>]*type="NoHost"[^>]*(?:/>|>.*?</fault>)(?:<localizedMessage>[^<]*</localizedMessage>)?',
    re.DOTALL,
)


@dataclass(frozen=True)
class Trouble:
    """A fault that an add ends with."""

    kind: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()

    def xml(self) -> str:
        """As the ``error`` of a task."""
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.fields)
        return (
            f"<fault xsi:type={quoteattr(self.kind)}>{inner}</fault>"
            f"<localizedMessage>{escape(self.message)}</localizedMessage>"
        )


class VcenterApi:
    """What the stand-in answers itself; everything else is vcsim's."""

    def __init__(self, names: Path | None, profiles: HostProfiles | None = None) -> None:
        self._names = names
        self._profiles = profiles or HostProfiles()
        self._lock = threading.Lock()
        self._failing: dict[str, Trouble] = {}

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        if call.method in _ADDS:
            return self._add(call)
        mine = self._profiles(call)
        if mine is not None:
            return mine
        answer = call.forward(call.body)
        return soap.Answer(answer.status, self._profiles.rewrite(self._with_faults(answer.body)), answer.headers)

    def _add(self, call: soap.Call) -> soap.Answer | None:
        trouble = self._trouble(call)
        if trouble is None:
            self._say(call, "taken in")
            return None
        self._say(call, f"{trouble.kind}: {trouble.message}")
        # vcsim can be had to start a task that fails: it refuses a host without a name. The fault is put in later.
        answer = call.forward(re.sub(rb"<hostName>[^<]*</hostName>", b"<hostName></hostName>", call.body))
        task = re.search(rb'type="Task"[^>]*>([^<]+)<', answer.body)
        if task is not None:
            with self._lock:
                self._failing[task.group(1).decode()] = trouble
        return answer

    def _with_faults(self, body: bytes) -> bytes:
        """An answer of vcsim with the faults that its failing tasks should have."""
        if b"NoHost" not in body:
            return body
        task = ""

        def replace(found: re.Match[str]) -> str:
            nonlocal task
            if found["task"]:
                task = found["task"]
                return found[0]
            trouble = self._failing.get(task)
            return found[0] if trouble is None else trouble.xml()

        return _TASK_OR_FAULT.sub(replace, body.decode()).encode()

    def _trouble(self, call: soap.Call) -> Trouble | None:
        """What vCenter would not like about a host, in the order in which it looks."""
        name, port = call.text("spec/hostName"), int(call.text("spec/port") or 443)
        if self._is_there(call, name):
            return Trouble("AlreadyConnected", "The host is already connected to vCenter Server.", (("name", name),))
        address = self._resolve(name)
        if address is None:
            return Trouble("NoHost", "Unable to communicate with the remote host.", (("name", name),))
        try:
            presented = _certificate(address, port)
        except OSError:
            return Trouble("NoHost", "Unable to communicate with the remote host.", (("name", name),))
        thumbprint = ":".join(f"{octet:02X}" for octet in hashlib.sha1(presented).digest())
        pem, given = call.text("spec/sslCertificate"), call.text("spec/sslThumbprint")
        trusted = ssl.PEM_cert_to_DER_cert(pem) == presented if pem else given.upper() == thumbprint
        if not trusted:
            fields = (("selfSigned", "true"), ("thumbprint", thumbprint))
            return Trouble("SSLVerifyFault", "Authenticity of the host's SSL certificate is not verified.", fields)
        if not _lets_in(address, port, call.text("spec/userName"), call.text("spec/password")):
            return Trouble("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")
        return None

    def _is_there(self, call: soap.Call, name: str) -> bool:
        question = soap.envelope(
            '<FindByDnsName xmlns="urn:vim25"><_this type="SearchIndex">SearchIndex</_this>'
            f"<dnsName>{escape(name)}</dnsName><vmSearch>false</vmSearch></FindByDnsName>"
        )
        return b"<returnval" in call.forward(question).body

    def _resolve(self, name: str) -> str | None:
        if self._names is not None:
            for line in self._names.read_text(encoding="utf-8").splitlines():
                address, *names = line.partition("#")[0].split() or [""]
                if name.lower() in map(str.lower, names):
                    return address
        try:
            return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
        except OSError:
            return None

    @staticmethod
    def _say(call: soap.Call, text: str) -> None:
        print(f"{call.method} {call.text('spec/hostName')}: {text}", file=sys.stderr, flush=True)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate(address: str, port: int) -> bytes:
    with (
        socket.create_connection((address, port), timeout=_CONNECT_SECONDS) as plain,
        _context().wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _lets_in(address: str, port: int, user: str, password: str) -> bool:
    """Whether a host's API accepts a login."""
    manager = '<_this type="SessionManager">ha-sessionmgr</_this>'
    login = soap.envelope(
        f'<Login xmlns="urn:vim25">{manager}<userName>{escape(user)}</userName>'
        f"<password>{escape(password)}</password></Login>"
    )
    connection = http.client.HTTPSConnection(address, port, timeout=_CONNECT_SECONDS, context=_context())
    try:
        connection.request("POST", "/sdk", login, {"Content-Type": "text/xml", "SOAPAction": "urn:vim25/6.5"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            return False
        cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
        logout = soap.envelope(f'<Logout xmlns="urn:vim25">{manager}</Logout>')
        connection.request("POST", "/sdk", logout, {"Content-Type": "text/xml", "Cookie": cookie})
        connection.getresponse().read()
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read_profiles(path: Path | None) -> HostProfiles:
    known = [] if path is None else json.loads(path.read_text(encoding="utf-8"))
    return HostProfiles(**known) if isinstance(known, dict) else HostProfiles(known)


def main() -> None:
    """Run until the process that started this one ends, or a signal comes."""
    parser = argparse.ArgumentParser(prog="pxelab.vcenter_api", description="API of a stand-in vCenter")
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT; port 0 takes a free one")
    parser.add_argument("--cert", required=True, type=Path, help="its certificate")
    parser.add_argument("--key", required=True, type=Path, help="the certificate's key")
    parser.add_argument("--vcsim", type=Path, default=paths.CACHE / "vcsim" / "vcsim", help="the program")
    parser.add_argument("--hosts", type=Path, help="what vCenter's DNS knows, in the form of /etc/hosts")
    parser.add_argument("--profiles", type=Path, help="the host profiles that it has (JSON)")
    parser.add_argument("arguments", nargs="*", metavar="VCSIM-ARGUMENT", help="after --: arguments of vcsim")
    options = parser.parse_args()

    soap.die_with_parent()
    gateway = soap.Gateway(
        soap.address_and_port(options.listen),
        soap.server_context(str(options.cert), str(options.key)),
        ("127.0.0.1", 0),
        VcenterApi(options.hosts, _read_profiles(options.profiles)),
    )
    vcsim = soap.Vcsim(str(options.vcsim), options.arguments)
    gateway.backend = vcsim.address
    soap.serve(gateway, vcsim)


if __name__ == "__main__":
    main()
