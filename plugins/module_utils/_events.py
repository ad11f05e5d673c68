# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: a durable, bounded log of what happened to hosts, read with a cursor.

The log is a folder of segments, JSON lines whose numbers never repeat. A segment's first line holds the log's name and
every host as it was when the segment began. So a service that starts again knows from the newest segment alone what the
log has told so far, and tells the difference to what it then finds. Old segments are removed; a reader whose cursor
points before the oldest one, or into a log that was lost, is told so instead of being given a gap.

An event is on disk before anyone is shown it: a cursor never points at something that a crash could take back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import secrets
import threading
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import SchemaError
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError, atomic_write
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import Change, HostView

__all__ = ("SCHEMA", "Cursor", "CursorError", "Event", "EventLog", "Gap", "event_document")

SCHEMA: t.Final = 1

# Events in a segment, and segments kept: 100,000 events, ten of each of 10,000 hosts, in about 60 MB.
_SEGMENT = 10_000
_SEGMENTS = 10
# Events kept in memory: more than a burst, so that who follows the log never reads files.
_TAIL = 4096

_FILE = re.compile(r"([0-9]{16})\.jsonl")
_CURSOR = re.compile(r"([0-9a-f]{8})-([0-9]{1,16})", re.ASCII)


class CursorError(EsxiPxeError, ValueError):
    """What was given is no cursor."""


class Gap(EsxiPxeError):
    """Events after a cursor are no longer there: whoever follows must look at all hosts again.

    :ivar reason: V(unknown_log) or V(too_old).
    """

    def __init__(self, reason: t.Literal["unknown_log", "too_old"], text: str) -> None:
        super().__init__(text)
        self.reason: t.Final = reason


@dataclasses.dataclass(frozen=True, order=True)
class Cursor:
    """A place in a log: after the event with this number."""

    log: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """:raises CursorError: `text` is none that ``str()`` gave."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise CursorError("the cursor is not one that this server gave out, such as 0a1b2c3d-42")
        return cls(match.group(1), int(match.group(2)))

    def __str__(self) -> str:
        return f"{self.log}-{self.number}"


@dataclasses.dataclass(frozen=True)
class Event:
    """A numbered line of the log.

    :ivar data: its JSON text, without the line's end.
    """

    number: int
    type: str
    host: str
    data: str


def event_document(change: Change, cursor: Cursor, site: str) -> dict[str, object]:
    """An event as readers get it; docs/monitoring.md describes it."""
    before = change.before
    return {
        "schema": SCHEMA,
        "id": str(cursor),
        "type": change.type,
        "at": change.at,
        "host": change.host,
        "site": site,
        "stage": change.stage,
        "mode": change.mode,
        "previous": None if before is None else {"stage": before.stage, "mode": before.mode, "install": before.install},
        "status": None if change.view is None else change.view.to_json(),
    }


class EventLog:
    """One writer, many readers, all in one process."""

    def __init__(self, folder: pathlib.Path, site: str, *, segment: int = _SEGMENT, segments: int = _SEGMENTS) -> None:
        """Open the log, or begin one.

        :arg segment: events after which a new segment begins.
        :arg segments: how many are kept.
        :raises OSError: the folder cannot be read or written.
        """
        self._folder = folder
        self._site = site
        self._segment = segment
        self._segments = segments
        self._lock = threading.Lock()
        self._file: t.BinaryIO | None = None
        self._tail: list[Event] = []
        self._hosts: dict[str, HostView] = {}
        self._in_segment = 0
        self.log = ""
        # Of the newest event.
        self.number = 0
        if not folder.is_dir():
            folder.mkdir(mode=0o2770)
        self._starts = self._list()
        # Whether there was none to go on with.
        self.begun = False
        if not self._recover():
            self._begin_log()

    @property
    def cursor(self) -> Cursor:
        """After the newest event."""
        return Cursor(self.log, self.number)

    @property
    def oldest(self) -> Cursor:
        """The first cursor from which nothing is missing."""
        return Cursor(self.log, self._starts[0] - 1)

    @property
    def hosts(self) -> t.Mapping[str, HostView]:
        """Every host as the log has told it."""
        return self._hosts

    # -- writing

    def append(self, changes: t.Sequence[Change]) -> None:
        """Write events; they are on disk when this returns.

        :raises OSError: they are not, and are not told to anyone. The caller comes with the same changes again.
        """
        if not changes:
            return
        with self._lock:
            file = self._ready()
            number = self.number
            events: list[Event] = []
            for change in changes:
                number += 1
                document = event_document(change, Cursor(self.log, number), self._site)
                events.append(Event(number, change.type, change.host, json.dumps(document)))
            self._write(file, "".join(f"{event.data}\n" for event in events).encode("ascii"))
            for change in changes:
                if change.view is None:
                    self._hosts.pop(change.host, None)
                else:
                    self._hosts[change.host] = change.view
            self._in_segment += len(events)
            # Replaced, not changed: a reader may be in it.
            self._tail = [*self._tail, *events][-_TAIL:]
            self.number = number

    def _ready(self) -> t.BinaryIO:
        """The file to write to. After an error, what is on disk decides: a torn line may still be there."""
        if self._file is None and not self._recover():
            self._begin_log()
        if self._file is None or self._in_segment >= self._segment:
            return self._begin_segment()
        return self._file

    def _write(self, file: t.BinaryIO, data: bytes) -> None:
        place = file.seek(0, os.SEEK_END)
        try:
            file.write(data)
            os.fsync(file.fileno())
        except OSError:
            # Half an event, or one that may not be on disk: gone before anything else is written.
            with contextlib.suppress(OSError):
                file.truncate(place)
            file.close()
            self._file = None
            raise

    def _begin_log(self) -> None:
        for start in self._starts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(start))
        self._starts = []
        self._hosts, self._tail = {}, []
        self.log, self.number, self.begun = secrets.token_hex(4), 0, True
        self._begin_segment()

    def _begin_segment(self) -> t.BinaryIO:
        """A new file, complete from its first moment; then the oldest ones go."""
        start = self.number + 1
        head = {"schema": SCHEMA, "log": self.log, "hosts": [view.to_json() for view in self._hosts.values()]}
        atomic_write(self._path(start), f"{json.dumps(head)}\n".encode("ascii"), 0o640)
        if self._file is not None:
            self._file.close()
        self._file = self._open(start)
        self._in_segment = 0
        self._starts = [*(known for known in self._starts if known != start), start]
        while len(self._starts) > self._segments:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(self._starts[0]))
            self._starts = self._starts[1:]
        return self._file

    def _open(self, start: int) -> t.BinaryIO:
        # Unbuffered: what a failed write left in a buffer would be written with the next one.
        return t.cast(t.BinaryIO, open(self._path(start), "r+b", buffering=0))

    def close(self) -> None:
        """Stop writing. Nothing is lost without it."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    # -- starting again

    def _path(self, start: int) -> pathlib.Path:
        return self._folder / f"{start:016d}.jsonl"

    def _list(self) -> list[int]:
        matches = (_FILE.fullmatch(entry) for entry in os.listdir(self._folder))
        return sorted(int(match.group(1)) for match in matches if match is not None)

    def _recover(self) -> bool:
        """Read the newest segment and cut off a line that a killed process began. False: no log to go on with."""
        if not self._starts:
            return False
        start = self._starts[-1]
        data = self._path(start).read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.splitlines()
        try:
            head = json.loads(lines[0])
            if head["schema"] != SCHEMA:
                return False
            hosts = {view.name: view for view in map(HostView.from_json, head["hosts"])}
            events = [self._parse(line) for line in lines[1:]]
            for number, (event, document) in enumerate(events, start):
                if event.number != number:
                    return False
                if document["status"] is None:
                    hosts.pop(event.host, None)
                else:
                    hosts[event.host] = HostView.from_json(document["status"])
            log = str(head["log"])
        except (IndexError, KeyError, TypeError, ValueError, SchemaError, StoreError):
            # Not ours, or of another version: a new log tells its readers to begin anew.
            return False
        self._file = self._open(start)
        if len(whole) != len(data):
            self._file.truncate(len(whole))
            os.fsync(self._file.fileno())
        self.log, self.number = log, start + len(events) - 1
        self._hosts = hosts
        self._in_segment = len(events)
        self._tail = [event for event, _document in events][-_TAIL:]
        return True

    @staticmethod
    def _parse(line: bytes) -> tuple[Event, t.Mapping[str, t.Any]]:
        document = json.loads(line)
        cursor = Cursor.parse(document["id"])
        return Event(cursor.number, document["type"], document["host"], line.decode("ascii")), document

    # -- reading

    def after(self, cursor: Cursor, limit: int = 1000) -> list[Event]:
        """The events that follow a cursor, the oldest first.

        :raises Gap: some of them are no longer there.
        """
        if cursor.log != self.log or cursor.number > self.number:
            raise Gap("unknown_log", "the cursor is of an event log that this server no longer has")
        starts, tail = self._starts, self._tail
        if cursor.number < starts[0] - 1:
            raise Gap("too_old", f"the oldest event that is still there is {self.log}-{starts[0]}")
        if cursor.number >= self.number:
            return []
        if tail and tail[0].number <= cursor.number + 1:
            begin = cursor.number + 1 - tail[0].number
            return tail[begin : begin + limit]
        found: list[Event] = []
        for start, following in zip(starts, [*starts[1:], self.number + 1]):
            if following <= cursor.number + 1:
                continue
            for line in self._lines(start):
                event = self._parse(line)[0]
                if cursor.number < event.number <= self.number:
                    found.append(event)
                    if len(found) == limit:
                        return found
        return found

    def _lines(self, start: int) -> list[bytes]:
        try:
            return self._path(start).read_bytes().splitlines()[1:]
        except FileNotFoundError:
            raise Gap("too_old", "the events after this cursor have just been removed") from None

    def history(self, host: str, limit: int = 20) -> list[dict[str, t.Any]]:
        """The newest events of one host, the newest first."""
        wanted = f'"host": {json.dumps(host)}, "site"'.encode("ascii")
        found: list[dict[str, t.Any]] = []
        for start in reversed(self._starts):
            try:
                lines = self._lines(start)
            except Gap:
                break
            for line in reversed(lines):
                if wanted in line:
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(line))
                    if len(found) == limit:
                        return found
        return found
