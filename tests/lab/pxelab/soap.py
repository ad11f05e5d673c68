# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTPS server in front of a vcsim: it answers the calls that vcsim only pretends to do, and passes the others on.

vcsim accepts every password and every certificate, so what has to go wrong in the lab as it does in a data centre is
answered here, with the faults that the real API raises.
"""

from __future__ import annotations

import ctypes
import http.client
import http.server
import os
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

VIM = "{urn:vim25}"
_BODY = "{http://schemas.xmlsoap.org/soap/envelope/}Body"
_LARGEST_REQUEST = 16 << 20
_HANDSHAKE_SECONDS = 10.0
_IDLE_SECONDS = 600.0
_PASSED_REQUEST_HEADERS = ("Cookie", "SOAPAction", "Content-Type", "User-Agent")
_PASSED_ANSWER_HEADERS = ("Content-Type", "Set-Cookie")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: ``headers`` without the length of the body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/xml; charset=utf-8"),)


@dataclass(frozen=True)
class Call:
    """One SOAP call. ``method`` is the name on the wire, such as ``AddHost_Task``; ``body`` the request as it came."""

    method: str
    element: ElementTree.Element
    body: bytes
    forward: Callable[[bytes], Answer]

    def text(self, path: str) -> str:
        """Text of a parameter, such as ``spec/hostName``; empty when there is none."""
        found = self.element.findtext("/".join(VIM + part for part in path.split("/")))
        return found or ""


def envelope(content: str) -> bytes:
    """A SOAP message around a body."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<soapenv:Body>{content}</soapenv:Body></soapenv:Envelope>"
    ).encode()


def fault(kind: str, message: str, fields: Sequence[tuple[str, str]] = ()) -> Answer:
    """A fault as the vSphere API raises it: ``kind`` such as ``InvalidLogin``, ``fields`` its own properties."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields)
    return Answer(
        500,
        envelope(
            "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
            f"<faultstring>{escape(message)}</faultstring><detail>"
            f'<{kind}Fault xmlns="urn:vim25" xsi:type={quoteattr(kind)}>{inner}</{kind}Fault>'
            "</detail></soapenv:Fault>"
        ),
    )


def parse_call(body: bytes, forward: Callable[[bytes], Answer]) -> Call | None:
    """The call in a SOAP message, ``None`` when there is none to be found."""
    try:
        content = ElementTree.fromstring(body).find(_BODY)
    except ElementTree.ParseError:
        return None
    if content is None or len(content) == 0:
        return None
    return Call(content[0].tag.rpartition("}")[2], content[0], body, forward)


class Gateway(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves HTTPS at ``listen`` in front of the vcsim at ``backend`` (plain HTTP).

    answer: gets every SOAP call; what it returns is sent, and ``None`` means: pass the call on.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        listen: tuple[str, int],
        context: ssl.SSLContext,
        backend: tuple[str, int],
        answer: Callable[[Call], Answer | None],
    ) -> None:
        self.context = context
        self.backend = backend
        self.answer = answer
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks up its host name in DNS, which takes seconds where there is none
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        # the handshake belongs to the connection's own thread: a client that says nothing must not stop the others
        request.settimeout(_HANDSHAKE_SECONDS)
        try:
            secure = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        try:
            secure.settimeout(_IDLE_SECONDS)
            _Handler(secure, client_address, self)
        finally:
            secure.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, EOFError)):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # head and body are written one after the other: with Nagle's algorithm every answer takes 40 ms longer
    disable_nagle_algorithm = True
    server: Gateway
    _backend: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        self._send(self._forward("GET", None))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST_REQUEST:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        call = parse_call(body, lambda changed: self._forward("POST", changed))
        answer = self.server.answer(call) if call is not None else None
        self._send(answer if answer is not None else self._forward("POST", body))

    def _forward(self, verb: str, body: bytes | None) -> Answer:
        headers = {name: self.headers[name] for name in _PASSED_REQUEST_HEADERS if self.headers[name] is not None}
        try:
            if self._backend is None:
                self._backend = http.client.HTTPConnection(*self.server.backend, timeout=_IDLE_SECONDS)
            self._backend.request(verb, self.path, body, headers)
            response = self._backend.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._close_backend()
            # what ESXi's and vCenter's reverse proxies say while the service behind them is not up
            return Answer(503, b"", ())
        passed = [(name, value) for name in _PASSED_ANSWER_HEADERS if (value := response.getheader(name)) is not None]
        return Answer(response.status, content, tuple(passed))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def finish(self) -> None:
        self._close_backend()
        super().finish()

    def _close_backend(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is worth a line is said by those who answer."""


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """The TLS context of a server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


def address_and_port(text: str) -> tuple[str, int]:
    """``ADDRESS:PORT``, an IPv6 address with or without brackets."""
    address, _colon, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    before = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, int(number), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != before:
        sys.exit("The process that started this one is gone.")


class Vcsim:
    """A vcsim on a free loopback port, speaking plain HTTP. It dies with this process, however that ends."""

    def __init__(self, program: str, arguments: Sequence[str]) -> None:
        # One processor and a lean heap: dozens of these share a small machine.
        environment = {**os.environ, "GOMAXPROCS": "1", "GOGC": "50"}
        self._process = subprocess.Popen(
            [program, "-l", "127.0.0.1:0", "-tls=false", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode(errors="replace")
        found = re.search(r"://(?:[^@/]*@)?([0-9.]+):([0-9]+)/", line)
        if found is None:
            self.stop()
            sys.exit(f"{program} did not say where it listens: {line.strip()!r}")
        self.address = (found.group(1), int(found.group(2)))
        self._stopping = False
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._stopping = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._stopping:
            print(f"vcsim ended by itself with exit code {code}", file=sys.stderr, flush=True)
            os._exit(1)


def serve(gateway: Gateway, vcsim: Vcsim) -> None:
    """Serve until a signal ends this process; the address is said on standard output once connections are taken."""
    signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(0))
    try:
        print(f"ready {gateway.server_name}:{gateway.server_port}", flush=True)
        gateway.serve_forever(poll_interval=3600)
    except KeyboardInterrupt:
        pass
    finally:
        vcsim.stop()
