# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that sends a web server many requests, each over a connection of its own, and notes how long each took."""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import time
import typing as t
from dataclasses import dataclass, field

TIMEOUT = 60.0


@dataclass
class Measured:
    """Answers to some requests: seconds of each, and how many there were a second in each round."""

    answered: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    failed: int = 0
    # Seconds of the client's own CPU: server and client share the machine.
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        if len(self.answered) < 2:
            return float("nan")
        return 1000 * statistics.quantiles(self.answered, n=100, method="inclusive")[percent - 1]

    def add(self, other: Measured) -> None:
        self.answered += other.answered
        self.rates += other.rates
        self.failed += other.failed
        self.cpu += other.cpu


def drive(port: int, requests: t.Sequence[bytes], at_once: int | None = None, rate: float | None = None) -> Measured:
    """Send each request over a connection of its own.

    :arg at_once: so many connections at a time, each request when one is free. None: as `rate` says.
    :arg rate: requests a second, whatever the answers do. None: all at once.
    """
    measured = Measured()
    selector = selectors.DefaultSelector()
    due: dict[socket.socket, float] = {}
    got: dict[socket.socket, bytearray] = {}
    begun, cpu = time.monotonic(), time.process_time()
    sent = 0

    def open_one(at: float) -> None:
        nonlocal sent
        connection = socket.socket()
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.connect(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_WRITE, requests[sent])
        due[connection], got[connection] = at, bytearray()
        sent += 1

    def close(connection: socket.socket, ok: bool) -> None:
        now = time.monotonic()
        selector.unregister(connection)
        connection.close()
        at = due.pop(connection)
        if ok and got[connection].startswith(b"HTTP/1.1 200"):
            measured.answered.append(now - at)
        else:
            measured.failed += 1
        del got[connection]

    while sent < len(requests) or due:
        now = time.monotonic()
        if now - begun > TIMEOUT:
            break
        while sent < len(requests):
            at = begun + sent / rate if rate else now
            if (at_once is not None and len(due) >= at_once) or at > now:
                break
            # A burst is due at its beginning, however long the client takes to open all connections.
            open_one(begun if at_once is None and rate is None else at)
        for key, events in selector.select(0.001):
            connection = t.cast("socket.socket", key.fileobj)
            try:
                if events & selectors.EVENT_WRITE:
                    # Short enough for the socket's buffer, always.
                    connection.sendall(key.data)
                    selector.modify(connection, selectors.EVENT_READ)
                else:
                    part = connection.recv(65536)
                    got[connection] += part
                    if not part:
                        close(connection, True)
            except OSError:
                close(connection, False)
    measured.rates.append(len(measured.answered) / (time.monotonic() - begun))
    measured.failed += len(requests) - sent + len(due)
    for connection in due:
        connection.close()
    measured.cpu = time.process_time() - cpu
    return measured
