# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pbconnect service: hands out kickstarts and takes the notifications of hosts that install themselves.

Only HTTP is here; what is decided and written is module_utils/_pbconnect.py. Runs as C(python3 pbconnect.py --config
/etc/esxi-pxe/server.json) with the collection's namespace on PYTHONPATH, behind nginx, which it believes about the
client's address if it connects from loopback. Works with aiohttp 3.7 and newer, Python 3.9 and newer.

Every line on standard output is one event: words C(key=value), values quoted as in JSON where needed. A token or a key
is in none of them, so neither are request paths.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import datetime
import functools
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
import typing as t

from aiohttp import web
from watch import WATCHED, Watch

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import (
    MAX_BODY,
    Ack,
    Pbconnect,
    Rejected,
    Report,
    parse_notification,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import (
    CONFIG_PATH,
    ConfigError,
    ServerConfig,
    load,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import LockTimeout
from ansible_collections.pxemanager.esxi.plugins.module_utils._throttle import Throttle

_Result = t.TypeVar("_Result")
_Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]

# Threads for what is not a notification, or has to wait for a lock. More of them would mostly wait for each other.
_WORKERS = 8
# So many notifications at most are brought to disk together: those that came while the last ones were on their way. Two
# such groups may be under way, so that one is prepared while the other waits for the disk.
_TOGETHER = 128
_WRITERS = 2
# Seconds.
_BODY_TIMEOUT = 15.0
_KEEPALIVE = 30.0
_SHUTDOWN_TIMEOUT = 20.0
_SWEEP_INTERVAL = 30.0

# An address may be refused so many times, and once more each second. A host stops at the first refusal.
_REFUSALS = 60
_REFUSALS_SECONDS = 1.0
# Bytes of a request line, and of a header: a token has some 250, a kickstart's address 60.
_MAX_LINE = 2048
_MAX_HEADER = 4096

_STATUS_OF_REJECTION = {"malformed": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "backwards": 409}
_BARE = re.compile(r"[A-Za-z0-9_.:/+-]+")
_BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE)


# -- logging ------------------------------------------------------------------------------------------------------


def _log(event: str, level: str = "info", **fields: object) -> None:
    """One line, whatever the values are; journald adds time and host.

    Never fails: what has been brought to disk is acknowledged, whether or not somebody can be told.
    """
    words = [f"level={level}", f"event={event}"]
    for key, value in fields.items():
        text = str(value)
        words.append(f"{key}={text if _BARE.fullmatch(text) else json.dumps(text)}")
    with contextlib.suppress(OSError, ValueError):
        print(" ".join(words), flush=True)


class _LibraryLog(logging.Handler):
    """Where aiohttp and asyncio complain.

    Their messages quote requests, and a request holds a token or a key: what went wrong is passed on, its text is not.
    """

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        _log("library", record.levelname.lower(), source=record.name, line=record.lineno, error=kind)


# -- requests -----------------------------------------------------------------------------------------------------


def _client(request: web.Request) -> str:
    """The address of the host that sends the request.

    Only nginx on this machine may speak for somebody else; anyone else would be free to choose an address.
    """
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    address = str(peer[0]) if peer else ""
    loopback = _read_address(address)
    if loopback is None or not loopback[1]:
        return address if loopback is not None else ""
    # Only the last header counts: nginx sets its own, a client's would come before it.
    named = request.headers.getall("X-Real-IP", [])
    if not named:
        return address
    text = named[-1].strip()
    told = _read_address(text) if len(text) < 64 else None  # nothing that fills the memory is kept
    return told[0] if told is not None else ""


@functools.lru_cache(maxsize=4096)
def _read_address(text: str) -> tuple[str, bool] | None:
    """An IP address in its usual form, and whether it is loopback; None: it is no address.

    Kept, because it takes as long as all else that is asked of a request's headers, and the same few are asked about.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(address), address.is_loopback


def _answer(status: int, **body: object) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status in (429, 503):
        headers["Retry-After"] = "5"
    return web.json_response(body, status=status, headers=headers)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Service:
    """The web application around one :class:`Pbconnect`."""

    def __init__(self, pbconnect: Pbconnect, watch: Watch) -> None:
        self._pbconnect = pbconnect
        self._watch = watch
        self._pool = concurrent.futures.ThreadPoolExecutor(_WORKERS, "disk")
        self._problems: frozenset[tuple[str, str]] = frozenset()
        self._throttle = Throttle(_REFUSALS, _REFUSALS_SECONDS)
        self._writer = concurrent.futures.ThreadPoolExecutor(_WRITERS, "notify")
        self._reports: collections.deque[tuple[Report, asyncio.Future[Ack | Exception]]] = collections.deque()
        self._writing: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY, middlewares=[self._watch.noticed, self._errors])
        # No HEAD for kickstarts: every answer costs a token.
        application.router.add_get("/ks/{key}/{file}", self._kickstart, allow_head=False)
        application.router.add_post("/pbconnect/v1/notify", self._notify)
        application.router.add_get("/healthz", self._healthz)
        self._watch.mount(application.router)
        return application

    async def _on_disk(self, work: t.Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(work, *arguments))

    @web.middleware
    async def _errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Every failure becomes an answer and one line in the log, with a word of what was asked but never the path.

        An address that is refused again and again gets neither for a while.
        """
        client = _client(request)
        if request.path.startswith(WATCHED):
            # nginx has let its readers in by a password, and they all come from the same address: its own.
            return await self._answer_or_refusal(request, handler, client)
        if self._throttle.retry_after(client, time.monotonic()) > 0:
            return _answer(429, ok=False, error="too many requests of this address were refused")
        answer = await self._answer_or_refusal(request, handler, client)
        if 400 <= answer.status < 500 and answer.status != 409 and self._throttle.refused(client, time.monotonic()):
            _log("throttled", "warning", client=client)
        return answer

    async def _answer_or_refusal(self, request: web.Request, handler: _Handler, client: str) -> web.StreamResponse:
        asked = {"ks": "kickstart", "pbconnect": "notify"}.get(request.path.split("/")[1], "other")
        try:
            return await handler(request)
        except Rejected as rejected:
            status, reason = _STATUS_OF_REJECTION[rejected.code], str(rejected)
            _log(
                "refused",
                "warning",
                asked=asked,
                client=client,
                host=rejected.host or "-",
                status=status,
                reason=reason,
            )
            # Whoever guesses at addresses of kickstarts is not told how close the guess was.
            return _answer(status, ok=False, error="there is nothing here" if status == 404 else reason)
        except asyncio.TimeoutError:
            # Before OSError, which it is a kind of since Python 3.11.
            status, reason = 408, "the body did not arrive in time"
        except web.HTTPException as exc:
            status, reason = exc.status, exc.reason
        except (EsxiPxeError, OSError) as exc:
            # A full disk, a busy lock: the host retries, and nobody was told that anything was done.
            _log("error", "error", asked=asked, client=client, error=type(exc).__name__, reason=exc)
            return _answer(503, ok=False, error="the PXE server could not do this now, see its log")
        except Exception as exc:
            # A mistake of ours. Its place is enough to find it; its text may quote what was sent.
            frames = traceback.extract_tb(exc.__traceback__)
            place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "-"
            _log("bug", "error", asked=asked, client=client, error=type(exc).__name__, place=place)
            return _answer(500, ok=False, error="the PXE server made a mistake, see its log")
        _log("refused", "warning", asked=asked, client=client, host="-", status=status, reason=reason)
        return _answer(status, ok=False, error=reason)

    async def _kickstart(self, request: web.Request) -> web.Response:
        client = _client(request)
        found = await self._on_disk(
            self._pbconnect.kickstart, request.match_info["key"], request.match_info["file"], client, _now()
        )
        request["host"] = found.host
        _log("kickstart", host=found.host, mac=found.mac, client=client, bytes=len(found.content))
        # aiohttp sends Content-Length with a body that it has whole; the installer's loader fails on chunks.
        return web.Response(
            body=found.content, content_type="text/plain", charset="us-ascii", headers={"Cache-Control": "no-store"}
        )

    async def _notify(self, request: web.Request) -> web.Response:
        begun = time.monotonic()
        client = _client(request)
        bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        if bearer is None:
            raise Rejected("unauthorized", "there is no bearer token")
        if request.content_length is not None and request.content_length > MAX_BODY:
            # Said before the body is sent, if the client waits to be told.
            raise web.HTTPRequestEntityTooLarge(MAX_BODY, request.content_length)
        # Nearly always the body is here with the headers, and a task that could wait for it would cost more than it.
        reading = request.read()
        body = await (reading if request.content.is_eof() else asyncio.wait_for(reading, _BODY_TIMEOUT))
        notification = parse_notification(body)
        ack = await self._take(Report(bearer.group(1), notification, client, _now()))
        request["host"], request["duplicate"] = ack.host, ack.duplicate
        _log(
            "notified",
            host=ack.host,
            said=notification.stage,
            stage=ack.stage,
            mode=ack.mode,
            client=client,
            duplicate=str(ack.duplicate).lower(),
            ms=round((time.monotonic() - begun) * 1000),
        )
        return _answer(200, ok=True, stage=ack.stage, mode=ack.mode)

    async def _take(self, report: Report) -> Ack:
        """As :meth:`Pbconnect.notify`, together with the notifications that arrive at the same time."""
        future: asyncio.Future[Ack | Exception] = asyncio.get_running_loop().create_future()
        self._reports.append((report, future))
        if len(self._writing) < _WRITERS:
            self._writing.add(asyncio.get_running_loop().create_task(self._write()))
        outcome = await future
        if isinstance(outcome, LockTimeout):
            # A module is at this host: waiting for it must not hold up the others.
            return await self._on_disk(
                self._pbconnect.notify, report.token, report.notification, report.client, report.now
            )
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _write(self) -> None:
        """Have what has come brought to disk, then what came meanwhile, until nothing is left."""
        try:
            while self._reports:
                taken = [self._reports.popleft() for _number in range(min(_TOGETHER, len(self._reports)))]
                outcomes: list[Ack | Exception]
                try:
                    outcomes = await asyncio.get_running_loop().run_in_executor(
                        self._writer, self._pbconnect.notify_all, [report for report, _future in taken]
                    )
                except Exception as exc:
                    outcomes = [exc for _report in taken]
                for (_report, future), outcome in zip(taken, outcomes):
                    # Done already: its connection was lost, and nobody waits for the answer.
                    if not future.done():
                        future.set_result(outcome)
        finally:
            # In the same step as the last look at what has come: whatever comes next finds a place free.
            self._writing.discard(t.cast("asyncio.Task[None]", asyncio.current_task()))

    async def _healthz(self, request: web.Request) -> web.Response:
        healthy = await self._on_disk(self._pbconnect.healthy)
        return _answer(200 if healthy else 503, ok=healthy)

    # -- beside requests

    async def sweep_for_ever(self) -> None:
        """End expired armings, now and every half minute: nothing that happens here may end it."""
        while True:
            await self.sweep()
            await asyncio.sleep(_SWEEP_INTERVAL)

    async def sweep(self) -> None:
        try:
            swept = await self._on_disk(self._pbconnect.sweep, _now())
        except (EsxiPxeError, OSError) as exc:
            _log("error", "error", asked="sweep", error=type(exc).__name__, reason=exc)
            return
        self._watch.expired(swept.expired)
        for name in swept.expired:
            _log("expired", "warning", host=name, stage="defined", mode="local")
        problems = frozenset(swept.problems)
        # Said once, not every half minute until somebody mends it.
        for name, reason in sorted(problems - self._problems):
            _log("error", "error", asked="sweep", host=name, reason=reason)
        self._problems = problems

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.shutdown(wait=True)
        self._pool.shutdown(wait=True)


# -- the process --------------------------------------------------------------------------------------------------


def _tell_systemd(message: str) -> None:
    """sd_notify(3) without its library; nothing happens when systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # "@" stands for the zero byte of the abstract namespace.
    address = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.sendto(message.encode("ascii"), address)
    except OSError as exc:
        _log("systemd", "warning", reason=exc)


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    :raises StoreError: the configured group does not exist.
    :raises OSError: the address cannot be listened on.
    """
    watch = Watch(config, _log)
    service = Service(Pbconnect(config), watch)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # No access log: its lines are request paths.
    runner = web.AppRunner(
        service.application(),
        access_log=None,
        keepalive_timeout=_KEEPALIVE,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_HEADER,
    )
    await runner.setup()
    beside: list[asyncio.Task[None]] = []
    try:
        site = web.TCPSite(
            runner, config.listen.host, config.listen.port, backlog=1024, shutdown_timeout=_SHUTDOWN_TIMEOUT
        )
        await site.start()
        beside = [asyncio.ensure_future(work) for work in (service.sweep_for_ever(), watch.run())]
        _log("listening", address=config.listen.host, port=runner.addresses[0][1])
        _tell_systemd("READY=1")
        await stop.wait()
        _tell_systemd("STOPPING=1")
        _log("stopping")
    finally:
        watch.stop()
        for task in beside:
            task.cancel()
        await runner.cleanup()
        service.close()
        watch.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Hands out kickstarts to ESXi hosts and takes their notifications.")
    parser.add_argument("--config", default=CONFIG_PATH, help="settings of the PXE server (default: %(default)s)")
    arguments = parser.parse_args()
    logging.getLogger().handlers = [_LibraryLog(logging.WARNING)]
    try:
        asyncio.run(serve(load(arguments.config)))
    except (ConfigError, EsxiPxeError, OSError) as exc:
        _log("failed", "error", reason=exc)
        sys.exit(1)


if __name__ == "__main__":
    main()
