# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: the figures of a PXE server in Prometheus's text format.

Pure: the caller hands in the time and what only a process knows of itself. Names and units follow Prometheus's own
conventions: base units, `_total` for what only grows, times as Unix timestamps where a reader wants an age.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import MODES, STAGES, Stage, parse_timestamp
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import UNDER_WAY, Change, HostView, Usual

__all__ = ("CONTENT_TYPE", "KICKSTART_OUTCOMES", "NOTIFICATION_OUTCOMES", "VERSION", "Counters", "Gauges", "exposition")

#: Of the collection; a unit test compares it with galaxy.yml, which is not on a PXE server.
VERSION: t.Final = "1.0.0"

CONTENT_TYPE: t.Final = "text/plain; version=0.0.4; charset=utf-8"

NOTIFICATION_OUTCOMES: t.Final = (
    "accepted",
    "duplicate",
    "malformed",
    "unauthorized",
    "forbidden",
    "backwards",
    "limited",
    "error",
)
KICKSTART_OUTCOMES: t.Final = ("served", "not_found", "forbidden", "limited", "error")

# Seconds: an install takes between some minutes and a few hours.
_BUCKETS: t.Final = (60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 7200, 14400)


class Counters:
    """What only grows while the service runs. All of it is there from the start, so that a first increase is seen."""

    def __init__(self) -> None:
        self.notifications: t.Final[dict[str, int]] = dict.fromkeys(NOTIFICATION_OUTCOMES, 0)
        self.kickstarts: t.Final[dict[str, int]] = dict.fromkeys(KICKSTART_OUTCOMES, 0)
        self.stages: t.Final[dict[Stage, int]] = dict.fromkeys(STAGES, 0)
        self.expired = 0
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def notification(self, outcome: str) -> None:
        """Count a notification; an outcome that is not known counts as an error."""
        self.notifications[outcome if outcome in self.notifications else "error"] += 1

    def kickstart(self, outcome: str) -> None:
        """Count a request for a kickstart."""
        self.kickstarts[outcome if outcome in self.kickstarts else "error"] += 1

    def happened(self, change: Change) -> None:
        """Count what happened to a host."""
        if change.type != "stage":
            return
        self.stages[change.stage] += 1
        view = change.view
        if change.stage == "ready" and view is not None and "installing" in view.stages and "ready" in view.stages:
            seconds = (
                parse_timestamp(view.stages["ready"]) - parse_timestamp(view.stages["installing"])
            ).total_seconds()
            self._buckets[bisect.bisect_left(_BUCKETS, seconds)] += 1
            self._sum += seconds

    def durations(self) -> t.Iterator[tuple[str, str, float]]:
        """The samples of the histogram: suffix, labels, value."""
        total = 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self._buckets):
            total += count
            yield "_bucket", f'{{le="{bound}"}}', total
        yield "_sum", "", self._sum
        yield "_count", "", total


@dataclasses.dataclass(frozen=True)
class Gauges:
    """What the caller knows beside the hosts.

    :ivar process: metrics of the process, by their standard names: `process_resident_memory_bytes` and others.
    """

    unreadable: int = 0
    streams: int = 0
    events: int = 0
    look_seconds: float = 0.0
    looked_at: float = 0.0
    process: t.Mapping[str, float] = dataclasses.field(default_factory=dict)


def exposition(
    views: t.Iterable[HostView],
    usual: Usual,
    counters: Counters,
    gauges: Gauges,
    site: str,
    now: datetime.datetime,
    python: str,
) -> str:
    """All metrics of a PXE server."""
    out = _Text()
    counts = {(mode, stage): 0 for mode in MODES for stage in STAGES}
    begun: list[str] = []
    expiries: list[str] = []
    unfinished = 0
    for view in views:
        counts[view.mode, view.stage] += 1
        if view.under_way:
            begun.append(view.stages.get("armed", view.since))
        if view.stage == "armed" and view.expires is not None:
            expiries.append(view.expires)
        if view.stage == "ready" and view.finished is None:
            unfinished += 1
    where = _label("site", site)

    out.family("esxi_pxe_build_info", "gauge", "The collection's version that this service is of.")
    out.sample("esxi_pxe_build_info", f"{{{_label('version', VERSION)},{_label('python', python)}}}", 1)
    out.family("esxi_pxe_hosts", "gauge", "Published hosts by boot mode and stage.")
    for (mode, stage), count in counts.items():
        out.sample("esxi_pxe_hosts", f'{{{where},mode="{mode}",stage="{stage}"}}', count)
    out.family("esxi_pxe_hosts_unfinished", "gauge", "Ready hosts that the controller has not finished yet.")
    out.sample("esxi_pxe_hosts_unfinished", f"{{{where}}}", unfinished)
    out.family("esxi_pxe_status_files_unreadable", "gauge", "Status files that could not be read.")
    out.sample("esxi_pxe_status_files_unreadable", "", gauges.unreadable)

    out.family(
        "esxi_pxe_oldest_install_start_timestamp_seconds",
        "gauge",
        "When the oldest install that has not ended was armed; 0 if none is under way.",
    )
    out.sample("esxi_pxe_oldest_install_start_timestamp_seconds", "", _unix(min(begun)) if begun else 0)
    out.family(
        "esxi_pxe_oldest_install_age_seconds",
        "gauge",
        "Time since the oldest install that has not ended was armed; 0 if none is under way.",
    )
    age = max(0.0, now.timestamp() - _unix(min(begun))) if begun else 0
    out.sample("esxi_pxe_oldest_install_age_seconds", "", age)
    out.family(
        "esxi_pxe_next_arming_expiry_timestamp_seconds",
        "gauge",
        "When the next arming expires; 0 if no host is armed.",
    )
    out.sample("esxi_pxe_next_arming_expiry_timestamp_seconds", "", _unix(min(expiries)) if expiries else 0)

    out.family("esxi_pxe_install_duration_seconds", "histogram", "Time from installing to ready.")
    for suffix, labels, value in counters.durations():
        out.sample(f"esxi_pxe_install_duration_seconds{suffix}", labels, value)
    out.family("esxi_pxe_stage_usual_seconds", "gauge", "Median time of a stage in past installs.")
    for stage in UNDER_WAY:
        seconds = usual.seconds(stage)
        if seconds is not None:
            out.sample("esxi_pxe_stage_usual_seconds", f'{{stage="{stage}"}}', seconds)

    out.family("esxi_pxe_stages_reached_total", "counter", "Times that a host reached a stage.")
    for stage, count in counters.stages.items():
        out.sample("esxi_pxe_stages_reached_total", f'{{stage="{stage}"}}', count)
    out.family("esxi_pxe_notifications_total", "counter", "Notifications by outcome.")
    for outcome, count in counters.notifications.items():
        out.sample("esxi_pxe_notifications_total", f'{{outcome="{outcome}"}}', count)
    out.family("esxi_pxe_kickstarts_total", "counter", "Requests for kickstarts by outcome.")
    for outcome, count in counters.kickstarts.items():
        out.sample("esxi_pxe_kickstarts_total", f'{{outcome="{outcome}"}}', count)
    out.family("esxi_pxe_armings_expired_total", "counter", "Armings that ran out before the host called.")
    out.sample("esxi_pxe_armings_expired_total", "", counters.expired)

    out.family("esxi_pxe_events_total", "counter", "Events in the log since it was begun.")
    out.sample("esxi_pxe_events_total", "", gauges.events)
    out.family("esxi_pxe_event_streams", "gauge", "Readers that follow the events now.")
    out.sample("esxi_pxe_event_streams", "", gauges.streams)
    out.family("esxi_pxe_look_duration_seconds", "gauge", "How long the last look at the status files took.")
    out.sample("esxi_pxe_look_duration_seconds", "", gauges.look_seconds)
    out.family("esxi_pxe_look_timestamp_seconds", "gauge", "When the status files were last looked at.")
    out.sample("esxi_pxe_look_timestamp_seconds", "", gauges.looked_at)
    for name, value in gauges.process.items():
        out.family(name, "counter" if name.endswith("_total") else "gauge", _PROCESS.get(name, "Of the process."))
        out.sample(name, "", value)
    return out.text()


_PROCESS: t.Final = {
    "process_cpu_seconds_total": "CPU time that the process has spent.",
    "process_open_fds": "Open file descriptors.",
    "process_resident_memory_bytes": "Memory of the process that is in RAM.",
    "process_start_time_seconds": "When the process was started.",
}


def _unix(text: str) -> float:
    return parse_timestamp(text).timestamp()


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'


class _Text:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, about: str) -> None:
        self._lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]

    def sample(self, name: str, labels: str, value: float) -> None:
        self._lines.append(f"{name}{labels} {value:d}" if isinstance(value, int) else f"{name}{labels} {value!r}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
