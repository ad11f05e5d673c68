# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: the status of a host and the only transitions it may make.

Nothing here reads a clock or a file: the caller hands in the time and stores what comes back.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install

__all__ = (
    "COMMANDS",
    "FAILURE_KINDS",
    "MODES",
    "NOTIFIED_STAGES",
    "SCHEMA",
    "STAGES",
    "ActionResult",
    "Failure",
    "KickstartFetch",
    "Mode",
    "Previous",
    "Progress",
    "Refused",
    "SchemaError",
    "Stage",
    "Status",
    "parse_timestamp",
    "timestamp",
)

Mode = t.Literal["install", "local"]
Stage = t.Literal["defined", "armed", "installing", "installed", "ready", "failed"]
FailureKind = t.Literal["install", "post_action", "expired"]
RefusedCode = t.Literal[
    "another_install",
    "another_machine",
    "backwards",
    "not_armed",
    "not_installed",
    "not_ready",
    "same_install",
    "unknown_stage",
]

SCHEMA: t.Final = 1
MODES: t.Final[tuple[Mode, ...]] = ("install", "local")
# In the order in which an install passes through them; "failed" may follow any of them.
STAGES: t.Final[tuple[Stage, ...]] = ("defined", "armed", "installing", "installed", "ready", "failed")
NOTIFIED_STAGES: t.Final[tuple[Stage, ...]] = ("installing", "installed", "ready", "failed")
# What the installer was told to do.
COMMANDS: t.Final = ("install", "installorupgrade", "upgrade")
FAILURE_KINDS: t.Final[tuple[FailureKind, ...]] = ("install", "post_action", "expired")

_UTC = datetime.timezone.utc
_TIMESTAMP = re.compile(r"\A(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z\Z", re.ASCII)


class SchemaError(EsxiPxeError, ValueError):
    """A stored document is not what this version of the collection writes or reads."""


class Refused(EsxiPxeError):
    """A transition that the rules of an install forbid.

    :ivar code: which rule, for programs: V(another_install), V(another_machine), V(backwards), V(not_armed),
        V(not_installed), V(not_ready), V(same_install), V(unknown_stage).
    """

    def __init__(self, code: RefusedCode, reason: str) -> None:
        super().__init__(reason)
        self.code: t.Final = code


def timestamp(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC with whole seconds, such as ``2026-11-22T20:00:00Z``.

    :raises ValueError: for a time without a zone, which could mean any hour.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone cannot be recorded")
    return moment.astimezone(_UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime.datetime:
    """The opposite of :func:`timestamp`; aware, in UTC.

    :raises ValueError: for anything that :func:`timestamp` does not write.
    """
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(f"not a time such as 2026-11-22T20:00:00Z: {text!r}")
    # strptime() takes ten times as long, and a status has a handful of times.
    return datetime.datetime(*map(int, match.groups()), tzinfo=_UTC)  # type: ignore[arg-type,misc]


# -- reading documents --------------------------------------------------------------------------------------------


def read_mapping(value: object, what: str) -> t.Mapping[str, object]:
    """:raises SchemaError: if `value` is no JSON object."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SchemaError(f"{what} is not an object")
    return value


def read_schema(document: t.Mapping[str, object], what: str) -> None:
    """:raises SchemaError: if the document was written by another version of the schema, or by something else."""
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise SchemaError(f"{what} has schema {schema!r}; this version of pxemanager.esxi reads {SCHEMA}")


def read_text(document: t.Mapping[str, object], key: str) -> str:
    """:raises SchemaError: if the key is missing or no string."""
    value = document.get(key)
    if not isinstance(value, str):
        raise SchemaError(f"{key!r} is not a string")
    return value


def read_optional_text(document: t.Mapping[str, object], key: str) -> str | None:
    """:raises SchemaError: if the value is neither null nor a string. A missing key is null."""
    return None if document.get(key) is None else read_text(document, key)


def read_time(document: t.Mapping[str, object], key: str) -> str:
    """:raises SchemaError: if the key is missing or no time as :func:`timestamp` writes it."""
    value = read_text(document, key)
    try:
        parse_timestamp(value)
    except ValueError as exc:
        raise SchemaError(f"{key!r} is {exc}") from exc
    return value


def read_optional_time(document: t.Mapping[str, object], key: str) -> str | None:
    """:raises SchemaError: if the value is neither null nor a time. A missing key is null."""
    return None if document.get(key) is None else read_time(document, key)


def read_list(document: t.Mapping[str, object], key: str) -> list[object]:
    """:raises SchemaError: if the value is no list. A missing key is an empty list."""
    value = document.get(key, [])
    if not isinstance(value, list):
        raise SchemaError(f"{key!r} is not a list")
    return value


def _mode(value: object) -> Mode:
    for mode in MODES:
        if value == mode:
            return mode
    raise SchemaError(f"'mode' is {value!r}, not one of {', '.join(MODES)}")


def _command(document: t.Mapping[str, object]) -> str | None:
    # A status that an earlier version of the collection wrote has none.
    command = read_optional_text(document, "command")
    if command is not None and command not in COMMANDS:
        raise SchemaError(f"'command' is {command!r}, not one of {', '.join(COMMANDS)}")
    return command


def _stage(value: object) -> Stage:
    for stage in STAGES:
        if value == stage:
            return stage
    raise SchemaError(f"'stage' is {value!r}, not one of {', '.join(STAGES)}")


# -- parts of a status --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KickstartFetch:
    """Who was last given the kickstart of this install: the first sign of life of the installer."""

    mac: str
    address: str
    at: str

    @classmethod
    def from_json(cls, value: object) -> KickstartFetch:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "kickstart")
        return cls(read_text(document, "mac"), read_text(document, "address"), read_time(document, "at"))

    def to_json(self) -> dict[str, object]:
        return {"mac": self.mac, "address": self.address, "at": self.at}


@dataclasses.dataclass(frozen=True)
class ActionResult:
    """What one post action did on the host: exit code and duration in seconds."""

    name: str
    rc: int
    seconds: float
    ignored: bool = False

    @property
    def failed(self) -> bool:
        return self.rc != 0 and not self.ignored

    @classmethod
    def from_json(cls, value: object) -> ActionResult:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "an action")
        code, seconds, ignored = document.get("rc"), document.get("seconds"), document.get("ignored", False)
        if not isinstance(code, int) or isinstance(code, bool):
            raise SchemaError("an action's 'rc' is not an integer")
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
            raise SchemaError("an action's 'seconds' is not a number")
        if not isinstance(ignored, bool):
            raise SchemaError("an action's 'ignored' is not a boolean")
        return cls(read_text(document, "name"), code, seconds, ignored)

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "rc": self.rc, "seconds": self.seconds, "ignored": self.ignored}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the post actions of a host are that restarts between them.

    :ivar total: how many there are.
    :ivar rebooting: whether the host said last that it restarts now.
    """

    total: int
    rebooting: bool

    @classmethod
    def from_json(cls, value: object) -> Progress:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "progress")
        total, rebooting = document.get("total"), document.get("rebooting")
        if not isinstance(total, int) or isinstance(total, bool) or not isinstance(rebooting, bool):
            raise SchemaError("'progress' has no 'total' and 'rebooting'")
        return cls(total, rebooting)

    def to_json(self) -> dict[str, object]:
        return {"total": self.total, "rebooting": self.rebooting}


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why an install did not end at V(ready)."""

    kind: FailureKind
    reason: str

    @classmethod
    def from_json(cls, value: object) -> Failure:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "failure")
        for kind in FAILURE_KINDS:
            if document.get("kind") == kind:
                return cls(kind, read_text(document, "reason"))
        raise SchemaError(f"the failure's 'kind' is {document.get('kind')!r}, not one of {', '.join(FAILURE_KINDS)}")

    def to_json(self) -> dict[str, object]:
        return {"kind": self.kind, "reason": self.reason}


def _stages_from_json(value: object) -> dict[Stage, str]:
    document = read_mapping(value, "stages")
    return {_stage(stage): read_time(document, stage) for stage in document}


def _actions_from_json(document: t.Mapping[str, object]) -> tuple[ActionResult, ...]:
    return tuple(ActionResult.from_json(action) for action in read_list(document, "actions"))


def _failure_from_json(document: t.Mapping[str, object]) -> Failure | None:
    return None if document.get("failure") is None else Failure.from_json(document["failure"])


@dataclasses.dataclass(frozen=True)
class Previous:
    """What was known of the host before it was armed again.

    A reinstall that is withdrawn or expires unused has touched no disk. Without this the host would look as if it had
    never been installed, and the next ordinary run would arm a machine that is alive.
    """

    stage: Stage
    install: str | None
    image: str | None
    request: str | None
    stages: t.Mapping[Stage, str]
    booted_mac: str | None
    actions: tuple[ActionResult, ...]
    certificate: str | None
    failure: Failure | None
    finished: str | None
    command: str | None = None

    @classmethod
    def from_json(cls, value: object) -> Previous:
        """:raises SchemaError: if the document is not one that :meth:`to_json` wrote."""
        document = read_mapping(value, "previous")
        return cls(
            stage=_stage(document.get("stage")),
            install=read_optional_text(document, "install"),
            image=read_optional_text(document, "image"),
            request=read_optional_text(document, "request"),
            stages=_stages_from_json(document.get("stages")),
            booted_mac=read_optional_text(document, "booted_mac"),
            actions=_actions_from_json(document),
            certificate=read_optional_text(document, "certificate"),
            failure=_failure_from_json(document),
            finished=read_optional_time(document, "finished"),
            command=_command(document),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "stage": self.stage,
            "install": self.install,
            "image": self.image,
            "command": self.command,
            "request": self.request,
            "stages": dict(self.stages),
            "booted_mac": self.booted_mac,
            "actions": [action.to_json() for action in self.actions],
            "certificate": self.certificate,
            "failure": None if self.failure is None else self.failure.to_json(),
            "finished": self.finished,
        }


# -- the status ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Status:
    """One host's status file. Every method that changes something returns a new status.

    Times are strings as :func:`timestamp` writes them. They never run backwards, whatever the server's clock does:
    a stage is never recorded as earlier than the one before it.

    :ivar command: what the installer was told to do (see `COMMANDS`); None before the first install.
    :ivar finished: when the controller was done with what this install needed afterwards: root password and vCenter.
    """

    host: str
    mode: Mode
    stage: Stage
    stages: t.Mapping[Stage, str]
    updated: str
    install: str | None = None
    image: str | None = None
    request: str | None = None
    expires: str | None = None
    kickstart: KickstartFetch | None = None
    booted_mac: str | None = None
    actions: tuple[ActionResult, ...] = ()
    certificate: str | None = None
    message: str = ""
    failure: Failure | None = None
    finished: str | None = None
    previous: Previous | None = None
    command: str | None = None
    progress: Progress | None = None

    # -- documents

    @classmethod
    def from_json(cls, value: object) -> Status:
        """Read a decoded status file. Keys that this version does not know are left out, not refused.

        :raises SchemaError: if a known key has a value that :meth:`to_json` cannot have written.
        """
        document = read_mapping(value, "the status")
        read_schema(document, "the status")
        fetched, previous = document.get("kickstart"), document.get("previous")
        progress = document.get("progress")
        return cls(
            host=read_text(document, "host"),
            mode=_mode(document.get("mode")),
            stage=_stage(document.get("stage")),
            stages=_stages_from_json(document.get("stages")),
            updated=read_time(document, "updated"),
            install=read_optional_text(document, "install"),
            image=read_optional_text(document, "image"),
            request=read_optional_text(document, "request"),
            expires=read_optional_time(document, "expires"),
            kickstart=None if fetched is None else KickstartFetch.from_json(fetched),
            booted_mac=read_optional_text(document, "booted_mac"),
            actions=_actions_from_json(document),
            certificate=read_optional_text(document, "certificate"),
            message=read_text(document, "message"),
            failure=_failure_from_json(document),
            finished=read_optional_time(document, "finished"),
            previous=None if previous is None else Previous.from_json(previous),
            command=_command(document),
            progress=None if progress is None else Progress.from_json(progress),
        )

    def to_json(self) -> dict[str, object]:
        """A document that JSON can carry; the same status always gives the same document."""
        return {
            "schema": SCHEMA,
            "host": self.host,
            "mode": self.mode,
            "stage": self.stage,
            "install": self.install,
            "image": self.image,
            "command": self.command,
            "request": self.request,
            "stages": {stage: self.stages[stage] for stage in STAGES if stage in self.stages},
            "expires": self.expires,
            "kickstart": None if self.kickstart is None else self.kickstart.to_json(),
            "booted_mac": self.booted_mac,
            "actions": [action.to_json() for action in self.actions],
            "certificate": self.certificate,
            "message": self.message,
            "failure": None if self.failure is None else self.failure.to_json(),
            "finished": self.finished,
            "previous": None if self.previous is None else self.previous.to_json(),
            "progress": None if self.progress is None else self.progress.to_json(),
            "updated": self.updated,
        }

    # -- what the PXE server does

    @classmethod
    def new(cls, host: str, image: str | None, now: datetime.datetime) -> Status:
        """A host that has just been published: local boot, nothing installed."""
        at = timestamp(now)
        return cls(host=host, mode="local", stage="defined", stages={"defined": at}, updated=at, image=image)

    def armed(
        self, install: Install, now: datetime.datetime, image: str | None = None, command: str = "install"
    ) -> Status:
        """A new install begins: the next PXE boot starts the installer.

        :arg image: the image it installs; default the one already recorded.
        :arg command: what the installer is told to do, see `COMMANDS`.
        :raises Refused: V(same_install) if `install` is this status's own install: a token that has been used must
            never come to life again.
        """
        if install.install == self.install:
            raise Refused("same_install", f"{self.host} has already been armed for the install {install.install}")
        at = self._not_before(now)
        stages: dict[Stage, str] = {"armed": at}
        if "defined" in self.stages:
            stages["defined"] = self.stages["defined"]
        return dataclasses.replace(
            self,
            mode="install",
            stage="armed",
            stages=stages,
            updated=at,
            install=install.install,
            image=self.image if image is None else image,
            command=command,
            request=install.request,
            expires=install.expires_at,
            kickstart=None,
            booted_mac=None,
            actions=(),
            certificate=None,
            message="",
            failure=None,
            finished=None,
            previous=self._remembered(),
            progress=None,
        )

    def disarmed(self, now: datetime.datetime) -> Status:
        """Local boot again. An install that has not begun is withdrawn; one that has begun keeps its stage.

        A host that was armed for a reinstall gets back the stage of the install that is still on its disk.
        """
        at = self._not_before(now)
        if self.stage != "armed":
            return self if self.mode == "local" else dataclasses.replace(self, mode="local", updated=at)
        # The label of a withdrawn request stays: whoever withdrew it does not want the next run to arm again by it.
        return self._withdrawn(at, "the host was disarmed before it started the installer", self.request)

    def expired(self, now: datetime.datetime) -> Status:
        """The arming ran out before the installer reported: local boot again.

        :raises Refused: V(not_armed) if there is no arming, or it has not run out at `now`.
        """
        if not self.has_expired(now):
            raise Refused("not_armed", f"the arming of {self.host} has not expired")
        if self.kickstart is None:
            seen = "the host never asked for its kickstart"
        else:
            seen = f"{self.kickstart.address} fetched the kickstart at {self.kickstart.at} and never called back"
        reason = f"the arming expired at {self.expires}: {seen}"
        at = self._not_before(now)
        if self.previous is not None:
            # The request was not fulfilled, so its label is not used up.
            return self._withdrawn(at, reason, self.previous.request)
        return dataclasses.replace(self._withdrawn(at, reason, self.request), failure=Failure("expired", reason))

    def has_expired(self, now: datetime.datetime) -> bool:
        """Whether this is an arming that has run out at `now`."""
        return self.stage == "armed" and self.expires is not None and timestamp(now) >= self.expires

    def fetched(self, mac: str, address: str, now: datetime.datetime) -> Status:
        """The kickstart has been handed out to `address` for `mac`.

        :raises Refused: V(not_armed) if the host is not armed or the arming has run out.
        """
        if self.stage != "armed" or self.mode != "install":
            raise Refused("not_armed", f"{self.host} is not armed (stage {self.stage}, mode {self.mode})")
        if self.has_expired(now):
            raise Refused("not_armed", f"the arming of {self.host} expired at {self.expires}")
        at = self._not_before(now)
        return dataclasses.replace(self, kickstart=KickstartFetch(mac, address, at), updated=at)

    def finish(self, now: datetime.datetime) -> Status:
        """The controller is done with this install. Doing so again changes nothing.

        :raises Refused: V(not_ready) if the host has not come up yet. One whose post action failed has.
        """
        if self._last_reported() != "ready":
            raise Refused("not_ready", f"{self.host} is {self.stage} and not ready, so nothing of it can be finished")
        if self.finished is not None:
            return self
        at = self._not_before(now)
        return dataclasses.replace(self, finished=at, updated=at)

    def completed(
        self,
        install: str | None,
        now: datetime.datetime,
        *,
        message: str = "",
        actions: t.Sequence[ActionResult] = (),
        certificate: str,
    ) -> Status:
        """The controller has done what this host's first boot could not: as if the host had reported V(ready) itself.

        Doing so again changes nothing.

        :arg install: the install that the actions ran after; another one may have begun meanwhile.
        :raises Refused: V(another_install); V(not_installed) if that install has not got to V(installed).
        """
        if install is None or install != self.install:
            raise Refused(
                "another_install", f"the last install of {self.host} is {self.install or 'none'}, and not {install}"
            )
        if self._last_reported() == "ready":
            return self
        if self.stage != "installed":
            raise Refused("not_installed", f"{self.host} is {self.stage} and not installed, so it cannot become ready")
        return self.notified("ready", now, message=message, actions=actions, certificate=certificate)

    # -- what the host says

    def notified(
        self,
        stage: str,
        now: datetime.datetime,
        *,
        mac: str | None = None,
        message: str = "",
        actions: t.Sequence[ActionResult] = (),
        certificate: str | None = None,
        progress: Progress | None = None,
    ) -> Status:
        """The host has reported that it reached `stage`. Afterwards the mode is always V(local).

        A report that has been taken before changes nothing and returns this very object. A report may skip a stage
        (a lost call must not hold up the later ones), but never goes back. V(ready) with an action that failed and was
        not to be ignored becomes V(failed), its certificate still kept: the host is up, and can be put right.

        An install belongs to the machine that called first. When another MAC address of the host calls with a kickstart
        of its own, two machines have booted at once, and one of them is not meant.

        A host whose post actions need restarts reports V(installed) again and again, with more of their results each
        time. What tells nothing new, such as an earlier one of these that was delayed, is a report taken before.

        :arg mac: the MAC address that the caller's kickstart was handed out to.
        :raises Refused: V(unknown_stage); V(not_armed) if no install is under way; V(backwards) for an earlier stage;
            V(another_machine) for a MAC address other than the one that called first.
        """
        reported = next((known for known in NOTIFIED_STAGES if known == stage), None)
        if reported is None:
            raise Refused("unknown_stage", f"a host cannot report the stage {stage!r}")
        if self.stage == "defined" or self.install is None:
            raise Refused("not_armed", f"no install of {self.host} is under way")
        if mac is not None and self.booted_mac is not None and mac != self.booted_mac:
            raise Refused(
                "another_machine",
                f"{self.host} is being installed on the machine with {self.booted_mac}, and {mac} has called: see "
                "which machine has it, and take it out of the host's definition if it is another one",
            )
        if self._last_reported() == reported:
            if self.stage == "installed" and self._is_news(message, actions, progress):
                return dataclasses.replace(
                    self,
                    mode="local",
                    updated=self._not_before(now),
                    actions=tuple(actions),
                    message=message,
                    progress=progress,
                )
            return self if self.mode == "local" else dataclasses.replace(self, mode="local")
        if STAGES.index(reported) <= STAGES.index(self.stage):
            raise Refused("backwards", f"{self.host} is at {self.stage} and cannot go back to {reported}")

        at = self._not_before(now)
        stages = {**self.stages, reported: at}
        reached: Stage = reported
        failure: Failure | None = None
        # Results may come with an earlier report, and a last one without any must not make them forgotten.
        kept = tuple(actions) or self.actions
        broken = [action for action in kept if action.failed]
        if reported == "failed":
            failure = Failure("install", message or "the host reported a failure without a reason")
        elif reported == "ready" and broken:
            reached = "failed"
            stages["failed"] = at
            failure = Failure("post_action", ", ".join(f"{action.name} ended with {action.rc}" for action in broken))
        return dataclasses.replace(
            self,
            mode="local",
            stage=reached,
            stages=stages,
            updated=at,
            # From now on no clock may take this install back.
            expires=None,
            booted_mac=self.booted_mac if mac is None else mac,
            actions=kept,
            certificate=self.certificate if certificate is None else certificate,
            message=message,
            failure=failure,
            # The installer is at the disk: what was there before is no longer true.
            previous=None,
            progress=progress if reached == "installed" else None,
        )

    @property
    def came_up(self) -> bool:
        """Whether the host runs what its last install left, be it with a post action that failed."""
        return self._last_reported() == "ready"

    # -- helpers

    def _is_news(self, message: str, actions: t.Sequence[ActionResult], progress: Progress | None) -> bool:
        """Whether a further report of V(installed) says more of the post actions than is known. They only ever grow."""
        if progress is None or tuple(actions[: len(self.actions)]) != self.actions:
            return False
        if len(actions) == len(self.actions) and self.progress is not None:
            if progress.rebooting and not self.progress.rebooting:
                return False
            return (message, progress) != (self.message, self.progress)
        return True

    def _last_reported(self) -> Stage | None:
        """The last report that was taken: V(ready) for a host whose post actions failed, although it is V(failed)."""
        if self.stage == "failed" and self.failure is not None and self.failure.kind == "post_action":
            return "ready"
        return self.stage if self.stage in NOTIFIED_STAGES else None

    def _not_before(self, now: datetime.datetime) -> str:
        # The strings sort like the times they stand for.
        return max(timestamp(now), self.updated)

    def _remembered(self) -> Previous | None:
        if self.stage == "armed":
            return self.previous
        if self.stage not in ("installed", "ready", "failed"):
            return None
        return Previous(
            stage=self.stage,
            install=self.install,
            image=self.image,
            request=self.request,
            stages=self.stages,
            booted_mac=self.booted_mac,
            actions=self.actions,
            certificate=self.certificate,
            failure=self.failure,
            finished=self.finished,
            command=self.command,
        )

    def _withdrawn(self, at: str, message: str, request: str | None) -> Status:
        back = self.previous
        if back is None:
            # The command stays: who was to be upgraded has something on its disk (see `decide`).
            return dataclasses.replace(
                self, mode="local", stage="defined", updated=at, expires=None, message=message, request=request
            )
        return dataclasses.replace(
            self,
            mode="local",
            stage=back.stage,
            stages=back.stages,
            updated=at,
            install=back.install,
            image=back.image,
            command=back.command,
            request=request,
            expires=None,
            kickstart=None,
            booted_mac=back.booted_mac,
            actions=back.actions,
            certificate=back.certificate,
            finished=back.finished,
            message=message,
            failure=back.failure,
            previous=None,
        )
