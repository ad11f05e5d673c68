# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: waiting for hosts, without a clock, a connection or Ansible.

Two halves. :class:`Observer` runs on the PXE server and reads status files, in bounded calls. :class:`Wait` runs on the
controller: it remembers what was seen of each host, judges it, and says what to show and how long to look next.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, LayoutError
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    STAGES,
    SchemaError,
    Stage,
    parse_timestamp,
    timestamp,
)

__all__ = (
    "GOALS",
    "HOLD_LIMIT",
    "Goal",
    "Kind",
    "Observer",
    "ReportError",
    "Request",
    "Verdict",
    "Wait",
    "argument_spec",
    "server_now",
)

Goal = t.Literal["installing", "installed", "ready"]
Kind = t.Literal[
    "ok",
    "pending",
    "timeout",
    "install_failed",
    "post_action_failed",
    "not_published",
    "not_armed",
    "expired",
    "unreadable",
]

GOALS: t.Final[tuple[Goal, ...]] = ("installing", "installed", "ready")
# Seconds that one call may stay open: less than firewalls and SSH servers let a silent session live.
HOLD_LIMIT: t.Final = 45

# The service looks for expired armings every half minute; if it still has not after this long, it is not running.
_SWEEP_GRACE = datetime.timedelta(minutes=3)
# More names than this in a progress line help nobody.
_NAMED = 5

# How an observation travels from the PXE server to the controller: JSON types only.
_Observed = dict[str, t.Any]


class ReportError(EsxiPxeError):
    """What the PXE server sent is no report of an :class:`Observer`."""


def argument_spec() -> dict[str, t.Any]:
    """Options of esxi_firstboot_wait: one description for the action, which runs the wait, and for the module."""
    return {
        "hosts": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "timeout": {"type": "int"},
                "install": {"type": "str"},
                "stage": {"type": "str", "choices": list(GOALS)},
            },
        },
        "stage": {"type": "str", "choices": list(GOALS), "default": "ready"},
        "timeout": {"type": "int", "default": 3600},
        "poll": {"type": "float", "default": 2.0},
        "config": {"type": "path", "default": "/etc/esxi-pxe/server.json"},
        "on_host_failure": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        "site": {"type": "str", "default": ""},
        "background": {"type": "bool", "default": False},
        "hold": {"type": "float", "default": 0.0},
        "seen": {"type": "dict", "default": {}},
    }


# -- on the PXE server --------------------------------------------------------------------------------------------


class Observer:
    """Reads the status files of some hosts, but only those that are not as they were seen last."""

    def __init__(self, layout: Layout, names: t.Iterable[str]) -> None:
        self._layout = layout
        self._names = tuple(names)

    def look(self, seen: t.Mapping[str, object]) -> dict[str, _Observed]:
        """Every host whose status file is another than the one of the fingerprint in `seen`.

        :arg seen: fingerprints of an earlier look; a host that is not in it is always reported.
        """
        reports = {}
        for name in self._names:
            report = self._look_at(name, seen.get(name))
            if report is not None:
                reports[name] = report
        return reports

    def _look_at(self, name: str, seen: object) -> _Observed | None:
        try:
            path = self._layout.status(name)
        except LayoutError as exc:
            return _observed("no name", seen, problem=str(exc))
        try:
            # A status file is never written to, only replaced, so these three tell any two of its versions apart.
            with open(path, "rb") as stream:
                found = os.fstat(stream.fileno())
                fingerprint = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
                return None if fingerprint == seen else _observed(fingerprint, seen, status=json.load(stream))
        except FileNotFoundError:
            return _observed("none", seen)
        except (OSError, ValueError) as exc:
            return _observed("unreadable", seen, problem=f"{path} cannot be read: {exc}")


def _observed(fingerprint: str, seen: object, status: object = None, problem: str | None = None) -> _Observed | None:
    if fingerprint == seen:
        return None
    return {"fingerprint": fingerprint, "status": status, "problem": problem}


# -- on the controller --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    """One host to wait for.

    :ivar timeout: seconds from the start of the wait.
    :ivar install: id of the install to wait for; None: of the one that is seen first.
    :ivar goal: the stage to wait for; None: that of the wait.
    """

    name: str
    timeout: float
    install: str | None = None
    goal: Goal | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a host's status means for the wait.

    :ivar done: nothing is gained by waiting longer.
    """

    kind: Kind
    msg: str
    done: bool = True

    @property
    def reached(self) -> bool:
        return self.kind == "ok"


_UNSEEN: t.Final = Verdict("pending", "not looked at yet", done=False)


@dataclasses.dataclass
class _Watched:
    request: Request
    verdict: Verdict = _UNSEEN
    fingerprint: str | None = None
    status: Status | None = None
    document: object = None
    # The install that this wait is about, and until when it stays armed.
    install: str | None = None
    expires: str | None = None


class Wait:
    """The state of waiting for many hosts, each with its own deadline.

    Times called `elapsed` are seconds since the wait began, on a clock that cannot be set.
    """

    def __init__(self, requests: t.Iterable[Request], goal: Goal) -> None:
        self.goal: t.Final = goal
        self._watched = {request.name: _Watched(request, install=request.install) for request in requests}
        # The PXE server's time at some moment of ours: ages are reckoned on the clock that wrote the files.
        self._server_time: datetime.datetime | None = None
        self._server_time_at = 0.0

    # -- what to ask

    @property
    def pending(self) -> list[str]:
        """Hosts that are worth waiting for."""
        return [name for name, watched in self._watched.items() if not watched.verdict.done]

    def seen(self) -> dict[str, str]:
        """Fingerprints of the pending hosts, for the next look."""
        return {
            name: watched.fingerprint
            for name, watched in self._watched.items()
            if not watched.verdict.done and watched.fingerprint is not None
        }

    def hold(self, elapsed: float) -> float:
        """Seconds for which the next call may stay open: not past the next deadline."""
        return min(HOLD_LIMIT, self.until_deadline(elapsed))

    def until_deadline(self, elapsed: float) -> float:
        """Seconds to the next deadline; 0 if it is past, or nobody is waited for."""
        return max(0.0, min((self._watched[name].request.timeout - elapsed for name in self.pending), default=0.0))

    # -- what was seen

    def observe(self, now: object, hosts: object, elapsed: float) -> bool:
        """Take in one report of an :class:`Observer`; True if any host's stage or verdict changed.

        :arg now: the PXE server's time, as :func:`timestamp` writes it.
        :raises ReportError: if it is no such report.
        """
        try:
            server_time = parse_timestamp(now if isinstance(now, str) else "")
        except ValueError as exc:
            raise ReportError(f"the PXE server's answer has no time: {exc}") from exc
        if not isinstance(hosts, dict):
            raise ReportError("the PXE server's answer has no hosts")
        self._server_time, self._server_time_at = server_time, elapsed
        changed = False
        for name, report in hosts.items():
            watched = self._watched.get(str(name))
            if watched is None or not isinstance(report, dict) or not isinstance(report.get("fingerprint"), str):
                raise ReportError(f"the PXE server's answer about {name} is not what was asked for")
            if watched.verdict.done:
                continue
            before = _shown(watched)
            watched.fingerprint = report["fingerprint"]
            watched.document = report.get("status")
            self._judge_document(watched, report.get("problem"), server_time)
            changed = changed or _shown(watched) != before
        # Nothing writes a status file when the service is down, yet an arming that ran out is over.
        for name in self.pending:
            watched = self._watched[name]
            if watched.status is not None:
                before = _shown(watched)
                watched.verdict = self._judge(watched, watched.status, server_time)
                changed = changed or _shown(watched) != before
        return changed

    def _judge_document(self, watched: _Watched, problem: object, server_time: datetime.datetime) -> None:
        name = watched.request.name
        watched.status = None
        if problem is not None:
            watched.verdict = Verdict(
                "unreadable", f"{name}: {problem}; remove that file on the PXE server and publish the host again."
            )
        elif watched.document is None:
            watched.verdict = Verdict(
                "not_published",
                f"{name} is not published on this PXE server: run esxi_pxe_host with state=armed for it first.",
            )
        else:
            try:
                watched.status = Status.from_json(watched.document)
            except SchemaError as exc:
                watched.verdict = Verdict(
                    "unreadable",
                    f"{name}: its status file cannot be understood ({exc}): use the same version of the collection "
                    "on the controller and on the PXE server.",
                )
            else:
                watched.verdict = self._judge(watched, watched.status, server_time)

    def _judge(self, watched: _Watched, status: Status, server_time: datetime.datetime) -> Verdict:
        name = watched.request.name
        if status.install is not None and (watched.install is None or status.install > watched.install):
            # Ids sort by time. A later one: somebody armed the host again, and that install is the one that counts.
            watched.install, watched.expires = status.install, None
        if status.stage == "armed" and status.install == watched.install:
            watched.expires = status.expires
        elif status.install != watched.install or status.stage == "defined":
            return self._withdrawn(watched, status)

        failure = status.failure
        if failure is not None and failure.kind == "install":
            return Verdict(
                "install_failed",
                f"{name}: the install failed: {failure.reason.rstrip('.')}; put that right, then ask for a reinstall "
                "of this host.",
            )
        goal = watched.request.goal or self.goal
        if _has_reached(status, goal):
            if failure is None or failure.kind != "post_action" or goal != "ready":
                return Verdict("ok", f"{name} is {status.stage if failure is None else goal}.")
            broken = ", ".join(f"{action.name} (exit code {action.rc})" for action in status.actions if action.failed)
            return Verdict(
                "post_action_failed",
                f"{name} is installed and up, but on its first boot failed: {broken or failure.reason}; mend the post "
                "action and ask for a reinstall, or put it right on the host by hand.",
            )
        if status.stage == "armed" and status.expires is not None:
            if server_time >= parse_timestamp(status.expires) + _SWEEP_GRACE:
                return Verdict(
                    "expired",
                    f"{name}: its arming ran out at {status.expires} and the pbconnect service has not disarmed it: "
                    "start that service on the PXE server, then run this again.",
                )
        return Verdict("pending", f"{name} is {status.stage}.", done=False)

    def _withdrawn(self, watched: _Watched, status: Status) -> Verdict:
        """The host is no longer armed, and not because its installer started."""
        name = watched.request.name
        ran_out = watched.expires is not None and status.updated >= watched.expires
        if ran_out or (status.failure is not None and status.failure.kind == "expired"):
            return Verdict(
                "expired",
                f"{name}: {status.message.rstrip('.') or 'its arming expired'}; switch the machine on with PXE first "
                "in its boot order soon after arming it, and run this again.",
            )
        said = f" ({status.message})" if status.message else ""
        return Verdict(
            "not_armed", f"{name} is published but not armed{said}: run esxi_pxe_host with state=armed for it first."
        )

    # -- the end of waiting

    def expire(self, elapsed: float, unreachable: str | None = None) -> bool:
        """Give up on the hosts whose time is over; True if there were any.

        :arg unreachable: why the PXE server cannot be asked now, if it cannot.
        """
        over = False
        for name in self.pending:
            watched = self._watched[name]
            if elapsed < watched.request.timeout:
                continue
            over = True
            after = _duration(watched.request.timeout)
            if unreachable is not None:
                stage = "nothing is known of it" if watched.status is None else f"it was {watched.status.stage}"
                msg = (
                    f"{name}: the PXE server could not be reached when the wait of {after} ended, {stage} "
                    f"({unreachable.strip()}): see that the PXE server is up, then run this again."
                )
            else:
                msg = _diagnosis(name, watched.status, after)
            watched.verdict = Verdict("timeout", msg)
        return over

    def results(self) -> dict[str, dict[str, t.Any]]:
        """What the task returns of each host."""
        return {
            name: {
                "reached": watched.verdict.reached,
                "stage": None if watched.status is None else watched.status.stage,
                "kind": watched.verdict.kind,
                "msg": watched.verdict.msg,
                "install": None if watched.status is None else watched.status.install,
                "status": watched.document if watched.status is not None else None,
            }
            for name, watched in self._watched.items()
        }

    # -- what people see

    def progress(self, elapsed: float) -> str:
        """One line: how many are there, who is where and for how long."""
        reached = sum(watched.verdict.reached for watched in self._watched.values())
        parts = [f"{reached}/{len(self._watched)} {self.goal}"]
        pending = [self._watched[name] for name in self.pending]
        if len(pending) <= _NAMED:
            parts += [f"{watched.request.name} {self._where(watched, elapsed)}" for watched in pending]
        else:
            parts += self._grouped(pending, elapsed)
        failed = [
            watched.request.name
            for watched in self._watched.values()
            if watched.verdict.done and not watched.verdict.reached
        ]
        if failed:
            parts.append(f"failed: {_names(failed)}")
        return "; ".join(parts)

    def _grouped(self, pending: t.Sequence[_Watched], elapsed: float) -> list[str]:
        parts = []
        for stage in STAGES:
            there = [watched for watched in pending if watched.status is not None and watched.status.stage == stage]
            if there:
                longest = max(there, key=lambda watched: self._age(watched, elapsed))
                parts.append(f"{len(there)} {stage} (longest {longest.request.name} {self._where(longest, elapsed)})")
        unknown = sum(watched.status is None for watched in pending)
        return [*parts, f"{unknown} unknown"] if unknown else parts

    def _age(self, watched: _Watched, elapsed: float) -> float:
        if watched.status is None or self._server_time is None:
            return 0.0
        since = parse_timestamp(watched.status.stages.get(watched.status.stage, watched.status.updated))
        return max(0.0, (self._server_time - since).total_seconds() + elapsed - self._server_time_at)

    def _where(self, watched: _Watched, elapsed: float) -> str:
        if watched.status is None:
            return "not seen yet"
        fetched = " (kickstart fetched)" if watched.status.stage == "armed" and watched.status.kickstart else ""
        return f"{watched.status.stage}{fetched} for {_duration(self._age(watched, elapsed))}{_actions(watched.status)}"


def _shown(watched: _Watched) -> tuple[object, ...]:
    """What a person would call a change; a status that was merely written again is none."""
    status = watched.status
    if status is None:
        return (watched.verdict.kind,)
    return (watched.verdict.kind, status.stage, status.install, status.kickstart is not None, _actions(status))


def _actions(status: Status) -> str:
    """How far the post actions are of a host that restarts between them."""
    if status.progress is None:
        return ""
    doing = ", rebooting" if status.progress.rebooting else ""
    return f" ({len(status.actions)} of {status.progress.total} post actions{doing})"


def _has_reached(status: Status, goal: Stage) -> bool:
    # Not by the present stage: a host whose post actions failed is `failed`, and has been `ready` all the same.
    return any(stage in status.stages for stage in STAGES[STAGES.index(goal) : STAGES.index("failed")])


def _diagnosis(name: str, status: Status | None, after: str) -> str:
    """Why a host may have got no further: what it did last tells where to look."""
    if status is None:
        return f"{name}: its status was never seen in {after}: see that the PXE server is up, then run this again."
    if status.stage == "armed" and status.kickstart is None:
        return (
            f"{name} never asked for its kickstart in {after}: check that it is switched on, that the network is first "
            "in its boot order, that its MAC addresses are those of its definition, and that DHCP answers on its "
            "network."
        )
    if status.stage == "armed" and status.kickstart is not None:
        return (
            f"{name}: {status.kickstart.address} fetched the kickstart at {status.kickstart.at} but never called back "
            f"in {after}: the installer cannot reach the PXE server from its own network settings, so check VLAN, "
            "gateway and firewall."
        )
    if status.stage == "installing" and status.command == "upgrade":
        return (
            f"{name} has been upgrading since {status.stages.get('installing')} and did not finish in {after}: look at "
            "its console, where the installer says what stopped it (often that the disk of its definition has no ESXi, "
            "which only an install can change; disk.first: [esx] finds the one that has), put that right and ask for "
            "the upgrade under another label."
        )
    if status.stage == "installing":
        return (
            f"{name} has been installing since {status.stages.get('installing')} and did not finish in {after}: "
            "nothing installs it again by itself, so look at its console, where the installer says what stopped it "
            "(often the disk, unsupported hardware or a power failure), put that right and ask for a reinstall of this "
            "host."
        )
    if status.progress is not None:
        doing = "it said that it restarts" if status.progress.rebooting else "it has come back from a restart"
        return (
            f"{name} was at post action {len(status.actions)} of {status.progress.total} at {status.updated}, where "
            f"{doing}, and did not finish in {after}: look at its console and at /var/log/esxi-pxe-actions.log, and "
            "give it more time (timeout) if it only takes long."
        )
    return (
        f"{name} was installed at {status.stages.get('installed')} but its first boot did not report in {after}: "
        "if it boots with Secure Boot, say so (secure_boot), for %firstboot does not run under it; else check "
        "that it boots its disk and reaches the PXE server from its final network."
    )


def _duration(seconds: float) -> str:
    """As people say it: 45s, 1m20s, 2h05m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _names(names: t.Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def server_now() -> str:
    """The time of the machine this runs on, for a report."""
    return timestamp(datetime.datetime.now(datetime.timezone.utc))
