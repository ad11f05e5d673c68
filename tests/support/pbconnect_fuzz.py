# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is not a correct request, sent to a real pbconnect service: made-up requests and random bytes."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import random
import socket
import typing as t

import hypothesis
import schemathesis
import yaml

from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_service import NOTIFY, ROOT, Service, ask

DESCRIPTION = ROOT / "docs" / "pbconnect.openapi.yaml"
NAME = "esx01.example.com"
MAC = "00:50:56:aa:bb:01"
FILE = "01-00-50-56-aa-bb-01.cfg"
# An address is not heard any more after some refusals, so that a host with one address would end the fuzzing early.
ADDRESSES = [f"192.168.{third}.{last}" for third in range(64) for last in range(1, 251)]


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def described() -> t.Any:
    return yaml.safe_load(DESCRIPTION.read_text("utf-8"))


class Target:
    """A service with one armed host, which has all of ADDRESSES; its token and key are good."""

    def __init__(self, site: Site) -> None:
        self.site = site
        install = site.arm(NAME, [MAC], ADDRESSES, now())
        self.key = str(install.key)
        self.install = install.install
        self.token = site.mint(NAME, MAC, now())
        self.addresses = itertools.cycle(ADDRESSES)
        self.service = Service(site)

    def check(self) -> None:
        """It is alive, has made no mistake, and the host is in a state that the rules allow."""
        assert ask(self.service.port, "GET", "/healthz", client=next(self.addresses)).status == 200
        assert not [line for line in self.service.lines if "event=bug" in line or "Traceback" in line]
        status, mode = self.site.status(NAME), self.site.mode(NAME)
        assert status.install == self.install
        assert (status.mode == "install") == (status.stage == "armed")
        assert mode == "local" or status.mode == "install"
        times = [status.stages[stage] for stage in STAGES if stage in status.stages]
        assert times == sorted(times)


def made_up_requests(target: Target, count: int, good_token: bool) -> dict[int, int]:
    """Requests made up from the description, right and wrong ones; returns how often which status was answered.

    Every answer has to be one of those described, and of the form described.
    """
    document = described()
    if good_token:
        # Else nearly every request would end at the token; with it they reach what is behind.
        document["paths"].pop("/ks/{key}/{file}")
    schema = schemathesis.openapi.from_dict(document)
    answers: dict[int, int] = {}
    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        derandomize=False,
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in modes:
            with contextlib.suppress(hypothesis.errors.Unsatisfiable):
                _send(target, operation, mode, settings, good_token, answers)
    return answers


def _send(
    target: Target, operation: t.Any, mode: t.Any, settings: t.Any, good_token: bool, answers: dict[int, int]
) -> None:
    @settings
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send(case: t.Any) -> None:
        headers = {"X-Real-IP": next(target.addresses)}
        if good_token:
            headers["Authorization"] = f"Bearer {target.token}"
        response = case.call(base_url=f"http://127.0.0.1:{target.service.port}", headers=headers, timeout=30)
        answers[response.status_code] = answers.get(response.status_code, 0) + 1
        # A method or path that is not described is answered by 404 or 405 like anything else that is not there.
        if response.status_code not in (404, 405):
            case.validate_response(
                response,
                checks=[
                    schemathesis.checks.not_a_server_error,
                    schemathesis.specs.openapi.checks.status_code_conformance,
                    schemathesis.specs.openapi.checks.content_type_conformance,
                    schemathesis.specs.openapi.checks.response_schema_conformance,
                ],
            )

    send()


def random_bytes(target: Target, count: int, seed: int) -> dict[str, int]:
    """Bytes at the port: random ones, and requests of the host with some bytes broken, torn off or put twice.

    No token among them is right: nothing may change. Returns how often which status line was answered.
    """
    generator = random.Random(seed)
    wrong = target.token[:-4] + "".join(generator.choices("abcdefgh", k=4))
    assert wrong != target.token
    body = json.dumps({"stage": "installing", "mac": MAC})
    before = target.site.snapshot()
    answers: dict[str, int] = {}
    for _turn in range(count):
        head = (
            f"POST {NOTIFY} HTTP/1.1\r\nHost: pxe\r\nX-Real-IP: {next(target.addresses)}\r\n"
            f"Authorization: Bearer {wrong}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        fetch = f"GET /ks/{'0' * 32}/{FILE} HTTP/1.1\r\nHost: pxe\r\nX-Real-IP: {next(target.addresses)}\r\n\r\n"
        sent = bytearray(generator.choice((head, fetch)).encode())
        kind = generator.randrange(6)
        if kind == 0:
            sent = bytearray(generator.randbytes(generator.randrange(1, 3000)))
        elif kind == 1:
            for _byte in range(generator.randrange(1, 12)):
                sent[generator.randrange(len(sent))] = generator.randrange(256)
        elif kind == 2:
            del sent[generator.randrange(len(sent)) :]
        elif kind == 3:
            place = generator.randrange(len(sent))
            sent[place:place] = sent[: generator.randrange(len(sent))]
        elif kind == 4:
            sent = bytearray(sent.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nX: "))
            sent += generator.randbytes(generator.randrange(200))
        else:
            place = generator.randrange(len(sent))
            sent[place:place] = generator.randbytes(1) * generator.choice((1, 100, 5000, 70_000))
        status = _exchange(target.service.port, bytes(sent))
        answers[status] = answers.get(status, 0) + 1
        assert not status.startswith(("5", "2")), (status, bytes(sent))
    assert target.site.snapshot() == before, "something was changed without a token"
    return answers


def _exchange(port: int, sent: bytes) -> str:
    """The status that is answered, or a word for having got none."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        # What is torn off is waited for by the service, not by us.
        connection.settimeout(0.1)
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            return "waits"
        except OSError:
            return "reset"
    words = answer.split(b" ", 2)
    return words[1].decode() if len(words) > 1 and answer.startswith(b"HTTP/") else "closed"
