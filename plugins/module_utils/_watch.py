# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: all hosts of a PXE server at a glance, and what changed since a look.

The status files are the only source, because modules write them as well as the service. Every write of one is a rename
in their folder, so the folder's own time tells that something happened, and a status file's inode and time tell which:
a look at 10,000 hosts of which none changed costs one stat(2).
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import os
import statistics
import threading
import time
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import MODES, Layout, LayoutError, check_name
from ansible_collections.pxemanager.esxi.plugins.module_utils._mask import masked
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    STAGES,
    Failure,
    Mode,
    SchemaError,
    Stage,
    parse_timestamp,
    read_mapping,
    read_optional_text,
    read_optional_time,
    read_text,
    read_time,
    read_word,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import read_json

__all__ = (
    "UNDER_WAY",
    "Change",
    "HostView",
    "Page",
    "Progress",
    "Query",
    "Usual",
    "Watcher",
    "changes_between",
    "parse_query",
    "select",
    "stage_seconds",
)

# The stages in which an install is under way, each of which has a usual time.
UNDER_WAY: t.Final[tuple[Stage, ...]] = ("armed", "installing", "installed")

_FOLLOWS: t.Final[tuple[tuple[Stage, Stage], ...]] = (
    ("armed", "installing"),
    ("installing", "installed"),
    ("installed", "ready"),
)

# Seconds. A folder's time has the grain of the kernel's clock (a few milliseconds), so a change may carry the time of
# the look before it. A folder that was changed this recently is looked at once more.
_GRAIN = 0.5
# Seconds. Whoever edits a status file in place does not touch the folder.
_FULL_SCAN = 60.0
# Durations of which a median is taken.
_SAMPLES = 500

_ORDERS = ("name", "stage", "age")
_DEFAULT_PER_PAGE = 100
_MAX_PER_PAGE = 1000
_MAX_TEXT = 200


# -- one host -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class HostView:
    """What is shown of a host among others: its status without what only the host's own page shows.

    :ivar stages: time of each stage, as :class:`Status` has it.
    :ivar mac: the MAC address that it booted from, or that its kickstart was fetched for.
    :ivar actions: how many post actions reported, and how many of them failed.
    """

    name: str
    mode: Mode
    stage: Stage
    stages: t.Mapping[Stage, str]
    updated: str
    install: str | None = None
    image: str | None = None
    expires: str | None = None
    kickstart_at: str | None = None
    mac: str | None = None
    message: str = ""
    failure: Failure | None = None
    finished: str | None = None
    actions: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, status: Status) -> HostView:
        """The view of a host with this status."""
        return cls(
            name=status.host,
            mode=status.mode,
            stage=status.stage,
            stages=dict(status.stages),
            updated=status.updated,
            install=status.install,
            image=status.image,
            expires=status.expires,
            kickstart_at=None if status.kickstart is None else status.kickstart.at,
            mac=status.booted_mac or (None if status.kickstart is None else status.kickstart.mac),
            message=status.message,
            failure=status.failure,
            finished=status.finished,
            actions=(len(status.actions), sum(action.failed for action in status.actions)),
        )

    @property
    def since(self) -> str:
        """When the present stage began."""
        return self.stages.get(self.stage, self.updated)

    @property
    def under_way(self) -> bool:
        """Whether an install has been begun and has not ended."""
        return self.stage in UNDER_WAY

    @property
    def said(self) -> str:
        """The last message, for people: why it failed if it did."""
        return self.failure.reason if self.failure is not None else self.message

    def to_json(self) -> dict[str, object]:
        """As the JSON interface and the events show it."""
        return {
            "host": self.name,
            "mode": self.mode,
            "stage": self.stage,
            "stages": {stage: self.stages[stage] for stage in STAGES if stage in self.stages},
            "since": self.since,
            "updated": self.updated,
            "install": self.install,
            "image": self.image,
            "expires": self.expires,
            "kickstart_at": self.kickstart_at,
            "mac": self.mac,
            "message": self.message,
            "failure": None if self.failure is None else self.failure.to_json(),
            "finished": self.finished,
            "actions": {"reported": self.actions[0], "failed": self.actions[1]},
        }

    @classmethod
    def from_json(cls, value: object) -> HostView:
        """Read what :meth:`to_json` wrote.

        :raises SchemaError: it did not.
        """
        document = read_mapping(value, "a host")
        stages = read_mapping(document.get("stages"), "stages")
        failure = document.get("failure")
        actions = read_mapping(document.get("actions"), "actions")
        counts = tuple(count for count in (actions.get("reported"), actions.get("failed")) if isinstance(count, int))
        if len(counts) != 2:
            raise SchemaError("'actions' are no counts")
        return cls(
            name=read_text(document, "host"),
            mode=read_word(document.get("mode"), "mode", MODES),
            stage=read_word(document.get("stage"), "stage", STAGES),
            stages={stage: read_time(stages, stage) for stage in STAGES if stage in stages},
            updated=read_time(document, "updated"),
            install=read_optional_text(document, "install"),
            image=read_optional_text(document, "image"),
            expires=read_optional_time(document, "expires"),
            kickstart_at=read_optional_time(document, "kickstart_at"),
            mac=read_optional_text(document, "mac"),
            message=read_text(document, "message"),
            failure=None if failure is None else Failure.from_json(failure),
            finished=read_optional_time(document, "finished"),
            actions=(counts[0], counts[1]),
        )


# -- how long a stage usually takes -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a host is in its present stage, in seconds. `usual` is None until an install has passed through it."""

    elapsed: float
    usual: float | None

    @property
    def share(self) -> float | None:
        """Part of the usual time that is over, between 0 and 1; None: no usual time is known."""
        if self.usual is None:
            return None
        return min(1.0, self.elapsed / self.usual) if self.usual > 0 else 1.0

    @property
    def late(self) -> bool:
        """Whether it takes much longer than usual: half as long again, and a minute at least."""
        return self.usual is not None and self.elapsed > max(self.usual * 1.5, self.usual + 60)


class Usual:
    """The median time of each stage, learnt from installs that left it; the newest few hundred count."""

    def __init__(self) -> None:
        # By install, so that whoever tells of the same install twice adds nothing.
        self._seconds: dict[Stage, collections.OrderedDict[str, float]] = {
            stage: collections.OrderedDict() for stage in UNDER_WAY
        }
        self._medians: dict[Stage, float | None] = {}

    def learn(self, view: HostView) -> None:
        """Take in the stages that this host has left behind it."""
        if view.install is None:
            return
        for stage, seconds in stage_seconds(view).items():
            known = self._seconds[stage]
            if view.install not in known:
                known[view.install] = seconds
                if len(known) > _SAMPLES:
                    known.popitem(last=False)
                self._medians.pop(stage, None)

    def seconds(self, stage: Stage) -> float | None:
        """Median time of a stage; None: nothing is known of it, or it has no end."""
        if stage not in self._seconds:
            return None
        if stage not in self._medians:
            known = self._seconds[stage]
            self._medians[stage] = statistics.median(known.values()) if known else None
        return self._medians[stage]

    def progress(self, view: HostView, now: datetime.datetime) -> Progress | None:
        """How far a host is in its stage; None: no install is under way."""
        if not view.under_way:
            return None
        elapsed = max(0.0, (now - parse_timestamp(view.since)).total_seconds())
        return Progress(elapsed, self.seconds(view.stage))


def stage_seconds(view: HostView) -> dict[Stage, float]:
    """How long each stage took that this install has left in the ordinary way.

    A stage that ended in a failure says nothing about how long it takes, and one that was skipped (a lost call) has no
    end of its own.
    """
    found: dict[Stage, float] = {}
    for stage, following in _FOLLOWS:
        begun, ended = view.stages.get(stage), view.stages.get(following)
        if begun is not None and ended is not None:
            found[stage] = (parse_timestamp(ended) - parse_timestamp(begun)).total_seconds()
    return found


# -- what changed -------------------------------------------------------------------------------------------------

ChangeType = t.Literal["published", "stage", "changed", "removed"]


@dataclasses.dataclass(frozen=True)
class Change:
    """Something that happened to a host.

    :ivar type: V(published): it is new here; V(stage): it reached another stage; V(changed): anything else; V(removed).
    :ivar at: when it happened as far as the status says, else when it was seen.
    :ivar stage: the stage of this change. Several may have passed between two looks: each is a change of its own.
    :ivar view: the host as it was seen; None: it is gone.
    """

    type: ChangeType
    host: str
    at: str
    stage: Stage
    mode: Mode
    view: HostView | None
    before: HostView | None


def changes_between(before: HostView | None, after: HostView | None, seen_at: str) -> list[Change]:
    """What happened to a host between two looks, in the order in which it did.

    :arg seen_at: time of the second look.
    """
    if after is None:
        if before is None:
            return []
        return [Change("removed", before.name, seen_at, before.stage, before.mode, None, before)]
    if before == after:
        return []
    found: list[Change] = []
    if before is None:
        # One that was armed at once has been published all the same, and before that.
        at = after.stages.get("defined", after.since)
        begun: Stage = "defined" if "defined" in after.stages else after.stage
        mode: Mode = "local" if begun != after.stage else after.mode
        found.append(Change("published", after.name, at, begun, mode, after, None))
        if begun == after.stage:
            return found
        before = dataclasses.replace(after, stage=begun, mode=mode, stages={begun: at}, updated=at, install=None)
    # Times never run backwards in a status, so an older one is of an install whose reinstall was withdrawn.
    passed = [
        (at, stage)
        for stage, at in after.stages.items()
        if before.stages.get(stage) != at and at >= before.updated and stage != after.stage
    ]
    # By time, then in the order of an install: a fast one passes two stages within a second.
    for at, stage in sorted(passed, key=lambda item: (item[0], STAGES.index(item[1]))):
        mode = "install" if stage == "armed" else "local"
        found.append(Change("stage", after.name, at, stage, mode, after, before))
    if before.stage != after.stage or before.install != after.install:
        at = after.since if after.since >= before.updated else after.updated
        found.append(Change("stage", after.name, at, after.stage, after.mode, after, before))
    elif not found:
        found.append(Change("changed", after.name, after.updated, after.stage, after.mode, after, before))
    return found


# -- all hosts ----------------------------------------------------------------------------------------------------

_Version = tuple[int, int, int]


class Watcher:
    """The views of all hosts, brought up to date by :meth:`look`. One thread looks, any may read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folder: tuple[int, int] | None = None
        self._versions: dict[str, _Version] = {}
        self._problems: dict[str, str] = {}
        self._full_scan_at = 0.0
        self._lock = threading.Lock()
        # Never changed, only replaced: whoever has one reads it in peace.
        self.views: t.Mapping[str, HostView] = {}
        self.names: t.Sequence[str] = ()
        self.usual: t.Final = Usual()

    @property
    def problems(self) -> t.Mapping[str, str]:
        """Status files that could not be read, and why."""
        return self._problems

    def restore(self, views: t.Mapping[str, HostView]) -> None:
        """Begin with what was known before, so that the first look tells what changed while nobody looked."""
        self.views = dict(views)
        self.names = sorted(views)
        for view in views.values():
            self.usual.learn(view)

    def look(self, now: datetime.datetime, touched: t.Collection[str] = ()) -> list[Change]:
        """Read the status files that changed and tell how.

        :arg touched: hosts of which the caller knows that they changed.
        :raises OSError: the folder of the status files cannot be read.
        """
        with self._lock:
            return self._look(now, touched)

    def _look(self, now: datetime.datetime, touched: t.Collection[str]) -> list[Change]:
        found = os.stat(self._layout.status_dir)
        folder = (found.st_ino, found.st_mtime_ns)
        full = time.monotonic() >= self._full_scan_at
        if folder == self._folder and not full:
            return []
        # Before it is read: what happens meanwhile has a later time.
        self._folder = None if time.time() - found.st_mtime_ns / 1e9 < _GRAIN else folder
        if touched and not full and self._folder is None and len(touched) < 64 + len(self._versions) // 4:
            # Quick answers for the hosts that just called; the next look sees to all others. A stat(2) by name costs
            # a few times of what one costs in a listing.
            changed = {name: self._version(name) for name in touched}
        else:
            changed = self._scan()
            self._full_scan_at = time.monotonic() + _FULL_SCAN
        return self._take(changed, now)

    def _scan(self) -> dict[str, _Version | None]:
        """The hosts whose status files are not as they were; None: gone."""
        changed: dict[str, _Version | None] = {}
        present = set()
        with os.scandir(self._layout.status_dir) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.endswith(".json"):
                    continue
                name = entry.name[: -len(".json")]
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                version = (found.st_ino, found.st_mtime_ns, found.st_size)
                present.add(name)
                if self._versions.get(name) != version:
                    changed[name] = version
        for name in (self._versions.keys() | self.views.keys()) - present:
            changed[name] = None
        return changed

    def _version(self, name: str) -> _Version | None:
        try:
            found = os.stat(self._layout.status(name), follow_symlinks=False)
        except (FileNotFoundError, LayoutError):
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def _take(self, changed: t.Mapping[str, _Version | None], now: datetime.datetime) -> list[Change]:
        if not changed:
            return []
        seen_at = now.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        views = dict(self.views)
        problems = dict(self._problems)
        changes: list[Change] = []
        for name, version in sorted(changed.items()):
            before = views.get(name)
            problems.pop(name, None)
            after: HostView | None = None
            if version is None:
                self._versions.pop(name, None)
            else:
                try:
                    after = self._read(name)
                except (EsxiPxeError, OSError, ValueError) as exc:
                    # Kept as it was last seen: a file that cannot be read is no host that is gone.
                    problems[name] = str(exc)
                    self._versions[name] = version
                    continue
                self._versions[name] = version
            if after is None:
                views.pop(name, None)
            else:
                views[name] = after
                self.usual.learn(after)
            changes += changes_between(before, after, seen_at)
        if views.keys() != self.views.keys():
            self.names = sorted(views)
        self.views = views
        self._problems = problems
        return changes

    def _read(self, name: str) -> HostView | None:
        document = read_json(self._layout.status(check_name(name)))
        if document is None:
            return None
        view = HostView.of(masked(Status.from_json(document)))
        if view.name != name:
            raise SchemaError(f"the status file of {name} is that of {view.name}")
        return view


# -- some of them -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Query:
    """Which hosts, in which order, and which part of them."""

    text: str = ""
    stage: str = ""
    mode: str = ""
    site: str = ""
    order: str = "name"
    page: int = 1
    per_page: int = _DEFAULT_PER_PAGE

    def parameters(self, **changes: object) -> dict[str, str]:
        """The parameters that ask the page for this, without those that say what is so anyway."""
        query = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        named = {
            "q": query.text,
            "stage": query.stage,
            "mode": query.mode,
            "site": query.site,
            "order": "" if query.order == "stage" else query.order,
            "page": "" if query.page == 1 else str(query.page),
            "per_page": "" if query.per_page == _DEFAULT_PER_PAGE else str(query.per_page),
        }
        return {key: value for key, value in named.items() if value}


@dataclasses.dataclass(frozen=True)
class Page:
    """A part of the hosts that a query found.

    :ivar counts: hosts by stage, of those that everything else in the query lets through.
    :ivar total: how many the query found.
    """

    query: Query
    views: tuple[HostView, ...]
    counts: t.Mapping[Stage, int]
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.query.per_page))


def parse_query(parameters: t.Mapping[str, str], order: str = "name") -> Query:
    """Read URL parameters. What is not known is left out; what cannot be is an error.

    :arg order: if none is asked for: V(stage) puts what wants attention first.
    :raises ValueError: a sentence about a parameter.
    """
    stage, mode = parameters.get("stage", ""), parameters.get("mode", "")
    order = parameters.get("order", "") or order
    for what, value, choices in (
        ("stage", stage, (*STAGES, "active")),
        ("mode", mode, MODES),
        ("order", order, _ORDERS),
    ):
        if value and value not in choices:
            raise ValueError(f"{what} is not one of {', '.join(choices)}")
    return Query(
        text=parameters.get("q", "").strip()[:_MAX_TEXT],
        stage=stage,
        mode=mode,
        site=parameters.get("site", "")[:_MAX_TEXT],
        order=order,
        page=_number(parameters, "page", 1, 1_000_000),
        per_page=_number(parameters, "per_page", _DEFAULT_PER_PAGE, _MAX_PER_PAGE),
    )


def _number(parameters: t.Mapping[str, str], key: str, default: int, highest: int) -> int:
    text = parameters.get(key, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 7 or not 1 <= int(text) <= highest:
        raise ValueError(f"{key} is not a whole number between 1 and {highest}")
    return int(text)


def select(watcher: Watcher, query: Query, site: str) -> Page:
    """The hosts that a query asks for.

    :arg site: the site of this PXE server, which is that of all its hosts.
    """
    views, names = watcher.views, watcher.names
    counts: dict[Stage, int] = dict.fromkeys(STAGES, 0)
    words = query.text.lower().split()
    found: list[HostView] = []
    if query.site in ("", site):
        for name in names:
            view = views.get(name)
            if view is None or (query.mode and view.mode != query.mode):
                continue
            if words:
                haystack = f"{name} {view.mac or ''} {view.image or ''} {view.said} {view.install or ''}".lower()
                if not all(word in haystack for word in words):
                    continue
            counts[view.stage] += 1
            if not query.stage or view.stage == query.stage or (query.stage == "active" and view.under_way):
                found.append(view)
    if query.order == "stage":
        # What wants attention comes first, what is done last.
        rank = {stage: place for place, stage in enumerate(("failed", "installing", "installed", "armed", "defined"))}
        found.sort(key=lambda view: rank.get(view.stage, len(rank)))
    elif query.order == "age":
        found.sort(key=lambda view: view.updated, reverse=True)
    total = len(found)
    last = max(1, -(-total // query.per_page))
    query = dataclasses.replace(query, page=min(query.page, last))
    begin = (query.page - 1) * query.per_page
    return Page(query, tuple(found[begin : begin + query.per_page]), counts, total)
