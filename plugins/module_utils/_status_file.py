# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: a host's status file, how it is written and how it is read.

Whatever a file says that this version of the collection would not write is refused here, so that nobody else has to
look. Nothing here reads a clock or a file.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

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
    "SchemaError",
    "Stage",
    "StatusFile",
    "parse_timestamp",
    "timestamp",
)

_Word = t.TypeVar("_Word", bound=str)

Mode = t.Literal["install", "local"]
Stage = t.Literal["defined", "armed", "installing", "installed", "ready", "failed"]
FailureKind = t.Literal["install", "post_action", "expired"]

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


def _command(document: t.Mapping[str, object]) -> str | None:
    # A status that an earlier version of the collection wrote has none.
    command = read_optional_text(document, "command")
    return None if command is None else read_word(command, "command", COMMANDS)


def read_word(value: object, key: str, words: t.Sequence[_Word]) -> _Word:
    """:raises SchemaError: if the value is none of the words."""
    for word in words:
        if value == word:
            return word
    raise SchemaError(f"{key!r} is {value!r}, not one of {', '.join(words)}")


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
    return {read_word(stage, "stage", STAGES): read_time(document, stage) for stage in document}


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
            stage=read_word(document.get("stage"), "stage", STAGES),
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

_Kind = t.TypeVar("_Kind", bound="StatusFile")


@dataclasses.dataclass(frozen=True)
class StatusFile:
    """What one host's status file says. What becomes of it is in `Status`.

    Times are strings as :func:`timestamp` writes them.

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

    @classmethod
    def from_json(cls: type[_Kind], value: object) -> _Kind:
        """Read a decoded status file. Keys that this version does not know are left out, not refused.

        :raises SchemaError: if a known key has a value that :meth:`to_json` cannot have written.
        """
        document = read_mapping(value, "the status")
        read_schema(document, "the status")
        fetched, previous = document.get("kickstart"), document.get("previous")
        progress = document.get("progress")
        return cls(
            host=read_text(document, "host"),
            mode=read_word(document.get("mode"), "mode", MODES),
            stage=read_word(document.get("stage"), "stage", STAGES),
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
