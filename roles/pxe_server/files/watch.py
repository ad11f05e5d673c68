# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and machines watch of a PXE server, over HTTP: the pages, /metrics, the JSON and the event stream.

Part of the pbconnect service, which tells it that a host has changed. Everything shown comes from the status files, so
what modules change is seen as well. Nothing here writes to a host's files.

Read-only, and for callers on this machine alone: nginx there lets readers in by name and password, or nobody at all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import functools
import ipaddress
import itertools
import json
import os
import pathlib
import platform
import time
import typing as t
import urllib.parse

from aiohttp import web

from ansible_collections.pxemanager.esxi.plugins.module_utils._detail import Detail, read_detail
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._events import Cursor, CursorError, Event, EventLog, Gap
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._metrics import (
    CONTENT_TYPE,
    Counters,
    Gauges,
    exposition,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._pages import BASE, host_page, message_page, overview
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import (
    Change,
    HostView,
    Query,
    Watcher,
    changes_between,
    parse_query,
    select,
)

_Result = t.TypeVar("_Result")
_Handler = t.Callable[[web.Request], t.Awaitable[web.StreamResponse]]
_Log = t.Callable[..., None]

SCHEMA = 1

# Seconds. Looking takes about a twentieth of a processor at most, because notifications want it, too; but whoever
# watches is not kept waiting for much longer than a moment.
_INTERVAL = 0.5
_SHARE = 20
_LONGEST = 2.0
# What comes together is looked at together.
_GATHER = 0.05
# So many hosts at most while more of them call, so that a storm of notifications has the processor for itself. When it
# is over, one look at the folder finds all others.
_AT_ONCE = 100
# Seconds: proxies close what is silent for a minute.
_KEEPALIVE = 20.0
_MAX_STREAMS = 200
_BATCH = 500
_MAX_EVENTS = 1000

# How the paths begin that readers ask for.
WATCHED = (BASE, "/metrics", "/api/v1/")
_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_NOTIFICATIONS = {200: "accepted", 401: "unauthorized", 403: "forbidden", 409: "backwards", 429: "limited"}
_KICKSTARTS = {200: "served", 403: "forbidden", 429: "limited"}

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Watch:
    """The reading side of the service.

    What a handler of the service knows of its request, it leaves there for :meth:`noticed`: C(request["host"]) is the
    host whose status it has written, C(request["duplicate"]) tells that it was written before.
    """

    def __init__(self, config: ServerConfig, log: _Log) -> None:
        self._counters = Counters()
        self._log = log
        self._layout = Layout.of(config)
        self._site = config.site_name
        self._watcher = Watcher(self._layout)
        self._events: EventLog | None = None
        self._behind = False
        self._problem = ""
        self._look_seconds = self._look_cpu = 0.0
        self._looked_at = 0.0
        self._started = time.time()
        # In the order in which they called.
        self._touched: dict[str, None] = {}
        self._poke = asyncio.Event()
        self._news = asyncio.Event()
        self._stopping = False
        self._streams = 0
        # One thread looks, so that a look never waits for what requests read, nor they for it.
        self._looker = concurrent.futures.ThreadPoolExecutor(1, "look")
        self._readers = concurrent.futures.ThreadPoolExecutor(2, "read")
        self._static = {name: (pathlib.Path(__file__).parent / name) for name in _STATIC}

    # -- what the service tells

    def mount(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes: tuple[tuple[str, _Handler], ...] = (
            (BASE, self._overview),
            (f"{BASE}hosts/{{name}}", self._host),
            (f"{BASE}static/{{file}}", self._file),
            ("/metrics", self._metrics),
            ("/api/v1/hosts", self._api_hosts),
            ("/api/v1/hosts/{name}", self._api_host),
            ("/api/v1/events", self._api_events),
        )
        for path, handler in routes:
            router.add_get(path, functools.partial(self._guarded, handler), allow_head=True)

    @web.middleware
    async def noticed(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Count what hosts ask and are answered, and have a host looked at at once that has just changed."""
        response = await handler(request)
        host = request.get("host")
        if host is not None:
            self._touched[host] = None
            self._poke.set()
        if request.path.startswith("/pbconnect/"):
            outcome = "duplicate" if request.get("duplicate") else _NOTIFICATIONS.get(response.status, "malformed")
            self._counters.notification(outcome if response.status < 500 else "error")
        elif request.path.startswith("/ks/"):
            outcome = _KICKSTARTS.get(response.status, "not_found")
            self._counters.kickstart(outcome if response.status < 500 else "error")
        return response

    def expired(self, hosts: t.Collection[str]) -> None:
        """Armings have just been ended."""
        self._counters.expired += len(hosts)
        if hosts:
            self._touched.update(dict.fromkeys(hosts))
            self._poke.set()

    def stop(self) -> None:
        """End the streams, so that the service can end."""
        self._stopping = True
        self._poke.set()
        self._announce()

    def close(self) -> None:
        """Wait for what is being read and written."""
        self._looker.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        if self._events is not None:
            self._events.close()

    # -- looking

    async def run(self) -> None:
        """Look for changes until :meth:`stop`: nothing that happens here may end it or the service."""
        loop = asyncio.get_running_loop()
        while not self._stopping:
            touched = list(itertools.islice(self._touched, _AT_ONCE))
            for name in touched:
                del self._touched[name]
            self._poke.clear()
            before = self._events.number if self._events is not None else -1
            try:
                await loop.run_in_executor(self._looker, self._look, touched)
                self._problem = ""
            except (EsxiPxeError, OSError) as exc:
                if self._problem != str(exc):
                    self._log("error", "error", asked="watch", error=type(exc).__name__, reason=exc)
                self._problem = str(exc)
            except Exception as exc:
                if self._problem != repr(exc):
                    self._log("bug", "error", asked="watch", error=type(exc).__name__, reason=exc)
                self._problem = repr(exc)
            if self._events is not None and self._events.number != before:
                self._announce()
            rest = min(_LONGEST, self._look_cpu * _SHARE)
            try:
                await asyncio.wait_for(self._poke.wait(), max(_INTERVAL, rest))
                await asyncio.sleep(max(_GATHER, rest))
            except asyncio.TimeoutError:
                pass

    def _look(self, touched: t.Collection[str]) -> None:
        begun, cpu = time.monotonic(), time.thread_time()
        now = _now()
        if self._events is None:
            log = EventLog(self._layout.events_dir, self._site)
            # What changed while the service was not running is told now.
            try:
                self._watcher.restore(log.hosts)
                self._watcher.look(now)
                self._behind = True
                self._catch_up(log, now, log.begun)
            except BaseException:
                log.close()
                raise
            self._events = log
        elif self._behind:
            self._watcher.look(now)
            self._catch_up(self._events, now)
        else:
            changes = self._watcher.look(now, touched)
            if changes:
                self._behind = True
                self._tell(self._events, changes)
        self._looked_at = time.time()
        self._look_seconds = time.monotonic() - begun
        self._look_cpu = time.thread_time() - cpu

    def _catch_up(self, log: EventLog, now: datetime.datetime, anew: bool = False) -> None:
        """Tell the difference between what the log has told and what is."""
        told, views = log.hosts, self._watcher.views
        seen_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        changes: list[Change] = []
        for name in sorted(told.keys() | views.keys()):
            view = views.get(name)
            if anew and view is not None:
                # A log that has just been begun tells what there is, not all that ever happened.
                changes.append(Change("published", name, view.since, view.stage, view.mode, view, None))
            else:
                changes += changes_between(told.get(name), view, seen_at)
        self._tell(log, changes)

    def _tell(self, log: EventLog, changes: t.Sequence[Change]) -> None:
        log.append(changes)
        self._behind = False
        for change in changes:
            self._counters.happened(change)

    def _announce(self) -> None:
        """Wake whoever waits for events."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _read(self, work: t.Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._readers, functools.partial(work, *arguments))

    # -- requests

    async def _guarded(self, handler: _Handler, request: web.Request) -> web.StreamResponse:
        """Only callers on this machine, and only by its names.

        The second is for a browser on this machine: a page from elsewhere, whose name is made to lead here, is refused.
        And nginx says of whoever it has not asked for a password from where they come: so no mistake in its settings
        opens this to them.
        """
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        addresses = [str(peer[0]) if peer else "", *request.headers.getall("X-Real-IP", [])]
        try:
            near = all(ipaddress.ip_address(address.strip()).is_loopback for address in addresses)
            name = urllib.parse.urlsplit(f"//{request.host}").hostname or ""
        except ValueError:
            near, name = False, ""
        if not near or name not in _NAMES:
            raise web.HTTPForbidden(reason="only readable on the PXE server itself or through its nginx")
        if self._events is None:
            return self._json({"error": "the service has just started"}, 503, {"Retry-After": "1"})
        return await handler(request)

    @property
    def _log_of_events(self) -> EventLog:
        assert self._events is not None  # _guarded() has looked
        return self._events

    @staticmethod
    def _json(
        document: t.Mapping[str, object], status: int = 200, headers: t.Optional[t.Mapping[str, str]] = None
    ) -> web.Response:
        return web.json_response(document, status=status, headers={**_HEADERS, **(headers or {})})

    @staticmethod
    def _page(text: str, status: int = 200) -> web.Response:
        return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in self._static:
            raise web.HTTPNotFound
        body = await self._read(self._static[name].read_bytes)
        headers = {**_HEADERS, "Cache-Control": "no-cache"}
        return web.Response(body=body, content_type=_STATIC[name], charset="utf-8", headers=headers)

    # -- pages

    async def _overview(self, request: web.Request) -> web.Response:
        try:
            query = parse_query(request.query, "stage")
        except ValueError as exc:
            return self._page(message_page("No such list", f"The address is wrong: {exc}.", self._site), 400)
        # Before the views are read: what happens meanwhile is told once more rather than not at all.
        cursor = str(self._log_of_events.cursor)
        return self._page(await self._read(self._render_overview, query, cursor))

    def _render_overview(self, query: Query, cursor: str) -> str:
        watcher = self._watcher
        page = select(watcher, query, self._site)
        return overview(page, watcher.usual, self._site, cursor, _now(), watcher.problems)

    async def _host(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        cursor = str(self._log_of_events.cursor)
        text = await self._read(self._render_host, name, cursor)
        if text is None:
            said = "This PXE server has no host of that name, or no longer."
            return self._page(message_page("No such host", said, self._site), 404)
        return self._page(text)

    def _render_host(self, name: str, cursor: str) -> str | None:
        detail = self._detail(name)
        if detail is None:
            return None
        events = self._log_of_events.history(detail.status.host, 20)
        return host_page(detail, self._watcher.usual, self._site, cursor, _now(), events)

    def _detail(self, name: str) -> Detail | None:
        return read_detail(self._layout, name)

    # -- for machines

    async def _metrics(self, request: web.Request) -> web.Response:
        text = await self._read(self._render_metrics)
        return web.Response(body=text.encode("utf-8"), headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    def _render_metrics(self) -> str:
        watcher = self._watcher
        gauges = Gauges(
            unreadable=len(watcher.problems),
            streams=self._streams,
            events=self._log_of_events.number,
            look_seconds=self._look_seconds,
            looked_at=self._looked_at,
            process={"process_start_time_seconds": self._started, **_process()},
        )
        python = platform.python_version()
        return exposition(watcher.views.values(), watcher.usual, self._counters, gauges, self._site, _now(), python)

    def _host_json(self, view: HostView, now: datetime.datetime) -> dict[str, object]:
        progress = self._watcher.usual.progress(view, now)
        return {
            **view.to_json(),
            "site": self._site,
            "progress": None
            if progress is None
            else {
                "elapsed_seconds": progress.elapsed,
                "usual_seconds": progress.usual,
                "share": progress.share,
                "late": progress.late,
            },
        }

    async def _api_hosts(self, request: web.Request) -> web.Response:
        try:
            query = parse_query(request.query)
        except ValueError as exc:
            return self._json({"error": str(exc)}, 400)
        cursor = str(self._log_of_events.cursor)
        text = await self._read(self._render_hosts, query, cursor)
        return web.Response(text=text, content_type="application/json", charset="utf-8", headers=_HEADERS)

    def _render_hosts(self, query: Query, cursor: str) -> str:
        page = select(self._watcher, query, self._site)
        now = _now()
        return json.dumps(
            {
                "schema": SCHEMA,
                "site": self._site,
                "cursor": cursor,
                "total": page.total,
                "page": page.query.page,
                "pages": page.pages,
                "per_page": page.query.per_page,
                "counts": page.counts,
                "hosts": [self._host_json(view, now) for view in page.views],
            }
        )

    async def _api_host(self, request: web.Request) -> web.Response:
        cursor = str(self._log_of_events.cursor)
        detail = await self._read(self._detail, request.match_info["name"])
        if detail is None:
            return self._json({"error": "there is no such host"}, 404)
        view = HostView.of(detail.status)
        host = {**self._host_json(view, _now()), **detail.to_json()}
        return self._json({"schema": SCHEMA, "cursor": cursor, "host": host})

    async def _api_events(self, request: web.Request) -> web.StreamResponse:
        """Events after a cursor: a page of them as JSON, or a stream for whoever accepts one."""
        log = self._log_of_events
        wanted = request.headers.get("Last-Event-ID") or request.query.get("after") or "now"
        try:
            cursor = {"now": log.cursor, "begin": log.oldest}.get(wanted) or Cursor.parse(wanted)
            limit = int(request.query.get("limit", _MAX_EVENTS))
            if not 1 <= limit <= _MAX_EVENTS:
                raise ValueError
        except CursorError as exc:
            return self._json({"error": str(exc)}, 400)
        except ValueError:
            return self._json({"error": f"limit is not a whole number between 1 and {_MAX_EVENTS}"}, 400)
        host = request.query.get("host", "")
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self._stream(request, log, cursor, host)
        try:
            events = await self._read(log.after, cursor, limit)
        except Gap as gap:
            return self._json(
                {"error": str(gap), "reason": gap.reason, "oldest": str(log.oldest), "cursor": str(log.cursor)}, 410
            )
        last = Cursor(log.log, events[-1].number) if events else cursor
        shown = [json.loads(event.data) for event in events if host in ("", event.host)]
        return self._json({"schema": SCHEMA, "cursor": str(last), "more": last < log.cursor, "events": shown})

    async def _stream(self, request: web.Request, log: EventLog, cursor: Cursor, host: str) -> web.StreamResponse:
        if self._streams >= _MAX_STREAMS:
            return self._json({"error": "too many streams are open"}, 503, {"Retry-After": "10"})
        # Without a length and without buffering in nginx: each event goes out when it is there.
        response = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self._streams += 1
        try:
            await self._follow(response, log, cursor, host)
        except (ConnectionError, asyncio.CancelledError):
            # The reader has gone. It comes again with the cursor of the last event that it got.
            pass
        finally:
            self._streams -= 1
        return response

    async def _follow(self, response: web.StreamResponse, log: EventLog, cursor: Cursor, host: str) -> None:
        # The cursor is said at once, so that who got no event yet loses none either.
        await response.write(f"retry: 2000\nid: {cursor}\nevent: hello\ndata: {{}}\n\n".encode())
        while not self._stopping:
            # Before the log is read: what comes while it is read wakes us again.
            news = self._news
            try:
                events = await self._read(log.after, cursor, _BATCH)
            except Gap as gap:
                cursor = log.cursor
                data = json.dumps({"schema": SCHEMA, "reason": gap.reason, "cursor": str(cursor)})
                await response.write(f"id: {cursor}\nevent: reset\ndata: {data}\n\n".encode())
                continue
            if events:
                cursor = Cursor(log.log, events[-1].number)
                await response.write(_frames(events, log.log, host, cursor))
                continue
            try:
                await asyncio.wait_for(news.wait(), _KEEPALIVE)
            except asyncio.TimeoutError:
                await response.write(b": still here\n\n")


def _frames(events: t.Sequence[Event], log: str, host: str, cursor: Cursor) -> bytes:
    """Events as server-sent events. Their JSON has no line ends in it."""
    parts = [
        f"id: {log}-{event.number}\nevent: host\ndata: {event.data}\n\n" for event in events if host in ("", event.host)
    ]
    if host:
        # So that a reader of one host comes back to where the log is now, not to that host's last event.
        parts.append(f"id: {cursor}\nevent: hello\ndata: {{}}\n\n")
    return "".join(parts).encode()


def _process() -> dict[str, float]:
    """The process's own figures, as far as the kernel tells."""
    found: dict[str, float] = {"process_cpu_seconds_total": time.process_time()}
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            found["process_resident_memory_bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        found["process_open_fds"] = len(os.listdir("/proc/self/fd"))
    except (OSError, ValueError, IndexError):
        pass
    return found
