# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: handing out kickstarts and taking notifications, without HTTP.

The order of every change is the point of this file. A notification flips the boot mode, then writes the status, and
each is on disk before the next begins and before the caller may acknowledge. So whoever is killed at any moment leaves
one of two things: a link that is already V(local) beside a status that still says V(install), which the host's retry
completes, or both done. Never a status that says V(local) beside a link that would install again.

Nothing here may put a token or a key into a message: messages are logged.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import datetime
import ipaddress
import json
import math
import os
import re
import secrets
import ssl
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._groupcommit import GroupCommit, LocalBoot
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install, Random, token_host
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import (
    INSTALL,
    LOCAL,
    Layout,
    LayoutError,
    check_name,
    mac_stem,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Refused, Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    NOTIFIED_STAGES,
    ActionResult,
    Mode,
    Progress,
    Stage,
    parse_timestamp,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    dump_json,
    flip,
    host_lock,
    lock_host,
    parse_json,
    read_bytes,
    read_json,
    read_mode,
    resolve_group,
    write_json,
)

__all__ = (
    "MAX_BODY",
    "TOKEN_PLACEHOLDER",
    "URL_PLACEHOLDER",
    "Ack",
    "Handout",
    "Notification",
    "Pbconnect",
    "Rejected",
    "Report",
    "Sweep",
    "parse_notification",
)

# Stand in a stored kickstart where the secrets go when it is handed out.
URL_PLACEHOLDER: t.Final = b"@PBCONNECT_URL@"
TOKEN_PLACEHOLDER: t.Final = b"@PBCONNECT_TOKEN@"

# Bytes. A notification with a certificate and the results of a hundred post actions has about 20,000.
MAX_BODY: t.Final = 256 * 1024
_MAX_MESSAGE = 2000
_MAX_ACTIONS = 256
_MAX_ACTION_NAME = 128
_MAX_CERTIFICATE = 16 * 1024
# Ten digits hold every exit code and every time; Python before 3.11 would spend seconds on a number of 200,000 digits.
_MAX_DIGITS = 10

# Seconds. A host retries for minutes; a worker that waits longer than this is missing elsewhere.
_LOCK_TIMEOUT = 15.0

_KEY = re.compile(r"[0-9a-f]{32}")
_FILENAME = re.compile(r"01-([0-9a-f]{2}(?:-[0-9a-f]{2}){5})\.cfg")
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}", re.IGNORECASE)
_CERTIFICATE = re.compile(r"\s*-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
# What a link of the boot tree that belongs to one MAC leads to.
_OWNER = re.compile(r"\.\./hosts/([^/]+)/boot/[^/]+")

RejectedCode = t.Literal["malformed", "unauthorized", "forbidden", "not_found", "backwards"]


class Rejected(EsxiPxeError):
    """A request that changes nothing.

    :ivar code: what kind of refusal, for the HTTP status.
    :ivar host: the host that it was about, as far as it is known; for the log.
    """

    def __init__(self, code: RejectedCode, reason: str, host: str | None = None) -> None:
        super().__init__(reason)
        self.code: t.Final = code
        self.host: t.Final = host


@dataclasses.dataclass(frozen=True)
class Ack:
    """A notification that is on disk. `duplicate`: it was already."""

    host: str
    stage: Stage
    mode: Mode
    duplicate: bool


@dataclasses.dataclass(frozen=True)
class Handout:
    """A kickstart with its secrets filled in."""

    host: str
    mac: str
    content: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Hosts whose arming has expired and been ended, and what could not be done, as (host, reason)."""

    expired: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]


# -- what a host sends --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Notification:
    """What one call of pbconnect says, checked and bounded: the sender is a machine that we do not control."""

    stage: Stage
    mac: str | None
    message: str
    actions: tuple[ActionResult, ...]
    certificate: str | None
    progress: Progress | None = None


def parse_notification(body: bytes) -> Notification:
    """Read the body of a notification. Keys that are not known are not looked at.

    Texts are for people: what is not printable becomes a blank and what is too long is cut, since a report of a failure
    must not be lost for its length. Everything else has to be right.

    :raises Rejected: V(malformed).
    """
    if len(body) > MAX_BODY:
        raise Rejected("malformed", f"the notification has more than {MAX_BODY} bytes")
    try:
        value = json.loads(body.decode("utf-8"), parse_int=_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # The decoder's own words would quote what was sent.
        raise Rejected("malformed", "the notification is not JSON") from None
    if not isinstance(value, dict):
        raise Rejected("malformed", "the notification is not an object")
    stage = next((known for known in NOTIFIED_STAGES if known == value.get("stage")), None)
    if stage is None:
        raise Rejected("malformed", f"'stage' is not one of {', '.join(NOTIFIED_STAGES)}")
    return Notification(
        stage=stage,
        mac=_mac(value.get("mac")),
        message=_text(value.get("message", ""), "message", _MAX_MESSAGE),
        actions=_actions(value.get("actions")),
        certificate=_certificate(value.get("certificate")),
        progress=_progress(value.get("progress")),
    )


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS + 1:
        raise ValueError("a number is too long")
    return int(digits)


def _no_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not JSON")


def _text(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str):
        raise Rejected("malformed", f"'{what}' is not a string")
    printable = "".join(char if char.isprintable() else " " for char in value[: 2 * limit]).strip()
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."


def _mac(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise Rejected("malformed", "'mac' is not a MAC address")
    return value.lower().replace("-", ":")


def _actions(value: object) -> tuple[ActionResult, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_ACTIONS:
        raise Rejected("malformed", f"'actions' is not a list of at most {_MAX_ACTIONS}")
    return tuple(_action(action) for action in value)


def _action(value: object) -> ActionResult:
    if not isinstance(value, dict):
        raise Rejected("malformed", "an action is not an object")
    name = _text(value.get("name"), "name", _MAX_ACTION_NAME)
    code, seconds, ignored = value.get("rc"), value.get("seconds", 0), value.get("ignored", False)
    if not name:
        raise Rejected("malformed", "an action has no name")
    if not isinstance(code, int) or isinstance(code, bool) or not -(2**31) <= code < 2**31:
        raise Rejected("malformed", "an action's 'rc' is not an exit code")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise Rejected("malformed", "an action's 'seconds' is not a number")
    if not math.isfinite(seconds) or not 0 <= seconds < 10**8:
        raise Rejected("malformed", "an action's 'seconds' is out of range")
    if not isinstance(ignored, bool):
        raise Rejected("malformed", "an action's 'ignored' is not a boolean")
    return ActionResult(name, code, seconds, ignored)


def _progress(value: object) -> Progress | None:
    if value is None:
        return None
    total = value.get("total") if isinstance(value, dict) else None
    rebooting = value.get("rebooting", False) if isinstance(value, dict) else None
    if not isinstance(total, int) or isinstance(total, bool) or not 0 <= total <= _MAX_ACTIONS:
        raise Rejected("malformed", "'progress' does not say how many actions there are")
    if not isinstance(rebooting, bool):
        raise Rejected("malformed", "'rebooting' of 'progress' is not a boolean")
    return Progress(total, rebooting)


def _certificate(value: object) -> str | None:
    """One X.509 certificate as PEM, in the one form in which it is kept: later it is what the host is known by."""
    if value is None or value == "":
        return None
    match = _CERTIFICATE.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_CERTIFICATE else None
    if match is None:
        raise Rejected("malformed", "'certificate' is not one PEM certificate")
    try:
        der = base64.b64decode("".join(match.group(1).split()), validate=True)
        # Has OpenSSL read it: whether anyone signed it does not matter here.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (binascii.Error, ssl.SSLError, ValueError):
        raise Rejected("malformed", "'certificate' is not an X.509 certificate") from None
    if not _is_one_sequence(der):
        # OpenSSL would read several that follow each other.
        raise Rejected("malformed", "'certificate' is more than one certificate")
    return ssl.DER_cert_to_PEM_cert(der)


def _is_one_sequence(der: bytes) -> bool:
    """Whether this is one ASN.1 sequence and nothing after it: a byte of type, then the length in one of two forms."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    digits = der[1] - 0x80
    return len(der) == 2 + digits + int.from_bytes(der[2 : 2 + digits], "big")


@dataclasses.dataclass(frozen=True)
class Report:
    """A notification with its circumstances: token, the IP address it came from, and when."""

    token: str = dataclasses.field(repr=False)
    notification: Notification
    client: str
    now: datetime.datetime


# -- the service's work -------------------------------------------------------------------------------------------


class Pbconnect:
    """One PXE server's kickstarts and notifications. Safe for use by several threads and beside the modules.

    No index is kept: a token carries its host's name, and the boot tree's own links tell whose a MAC is. So nothing has
    to be rebuilt when a module changes a host, and a request costs the same with ten hosts and with ten thousand.
    """

    def __init__(self, config: ServerConfig, rng: Random = secrets.token_bytes) -> None:
        """:raises StoreError: if the configured group does not exist."""
        self._layout: t.Final = Layout.of(config)
        self._url: t.Final = config.pbconnect_url.encode("ascii")
        self._clients: t.Final = tuple(ipaddress.ip_network(network) for network in config.kickstart_clients)
        self._gid: t.Final = resolve_group(config.group)
        self._commit: t.Final = GroupCommit(str(self._layout.status_dir), self._gid)
        self._rng: t.Final = rng
        # Of each status file: which version was read, and when the arming in it ends.
        self._armings: dict[str, tuple[tuple[int, int], datetime.datetime | None]] = {}

    # -- kickstarts

    def kickstart(self, key: str, filename: str, client: str, now: datetime.datetime) -> Handout:
        """The kickstart of one MAC, with a token of its own.

        :arg filename: C(01-aa-bb-cc-dd-ee-ff.cfg).
        :arg client: IP address of whoever asks.
        :raises Rejected: V(not_found) or V(forbidden).
        :raises StoreError: the disk has something that should not be there.
        """
        match = _FILENAME.fullmatch(filename)
        if match is None or not _KEY.fullmatch(key):
            raise Rejected("not_found", "the address is not one of a kickstart")
        mac = match.group(1).replace("-", ":")
        name = self._owner(mac)
        if name is None:
            raise Rejected("not_found", f"no host has the MAC address {mac}")
        # Before any lock is taken or file made for them: strangers must not be able to keep a host's lock busy.
        self._check_key(name, self._install(name), key, mac, client)
        with host_lock(self._layout, name, _LOCK_TIMEOUT):
            install = self._check_key(name, self._install(name), key, mac, client)
            status = self._status(name)
            if status is None or status.install != install.install:
                raise Rejected("not_found", "the host's arming is not complete", name)
            try:
                status = status.fetched(mac, client, now)
            except Refused as refused:
                raise Rejected("not_found", str(refused), name) from refused
            if read_mode(self._layout, name) != INSTALL:
                raise Rejected("not_found", "the host's boot mode is not install", name)
            template = read_bytes(self._layout.kickstart(name, mac))
            if template is None:
                raise Rejected("not_found", f"there is no kickstart for {mac}: run esxi_kickstart for this host", name)
            install, token = install.mint(mac, now, self._rng)
            write_json(self._layout.install(name), install.to_json(), 0o640, self._gid)
            self._write_status(status)
        content = template.replace(URL_PLACEHOLDER, self._url).replace(TOKEN_PLACEHOLDER, token.encode("ascii"))
        return Handout(name, mac, content)

    def _owner(self, mac: str) -> str | None:
        """The host that a MAC belongs to. One readlink, because every published MAC has a link for PXELINUX."""
        try:
            target = os.readlink(self._layout.boot_root / "pxelinux.cfg" / mac_stem(mac))
            match = _OWNER.fullmatch(target)
            return None if match is None else check_name(match.group(1))
        except (OSError, LayoutError):
            return None

    def _check_key(self, name: str, install: Install | None, key: str, mac: str, client: str) -> Install:
        if install is None or not install.key_matches(key):
            raise Rejected("not_found", "the key is wrong, or of an install that is over", name)
        if mac not in install.macs:
            raise Rejected("not_found", f"{mac} was not the host's when it was armed", name)
        self._check_client(name, install, client)
        return install

    def _check_client(self, name: str, install: Install, client: str) -> None:
        """Only the addresses that the host is known by, and networks that the administrator has opened.

        :raises Rejected: V(forbidden).
        """
        if client in install.addresses:
            # Nearly always, and said in the same form: reading an address would take longer than all else here.
            return
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            raise Rejected("forbidden", "the client has no IP address", name) from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if str(address) in install.addresses or any(address in network for network in self._clients):
            return
        raise Rejected("forbidden", f"{address} is neither an address of the host nor in kickstart_clients", name)

    # -- notifications

    def notify(self, token: str, notification: Notification, client: str, now: datetime.datetime) -> Ack:
        """Take in what a host reports. When this returns, it is on disk.

        :arg client: IP address of whoever sends it.
        :raises Rejected: V(unauthorized), V(forbidden), V(malformed) or V(backwards).
        :raises StoreError: the disk has something that should not be there, or the host's lock was not to be had.
        :raises OSError: the disk did not take it; the host must try again.
        """
        outcome = self._notify([Report(token, notification, client, now)], _LOCK_TIMEOUT)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def notify_all(self, reports: t.Sequence[Report]) -> list[Ack | Exception]:
        """Take in what several hosts report, as :meth:`notify` for each, and wait for the disk once.

        Never waits for a lock: somebody who holds one for long would hold up all the others.

        :returns: for each report what :meth:`notify` returns or raises; :class:`LockTimeout` for a host that somebody
            else is at (also an earlier report of these): try that one with :meth:`notify`.
        """
        return self._notify(reports, 0)

    def _notify(self, reports: t.Sequence[Report], lock_timeout: float) -> list[Ack | Exception]:
        outcomes: list[Ack | Exception | None] = [None] * len(reports)
        begun: list[tuple[int, Ack, LocalBoot]] = []
        with contextlib.ExitStack() as locks:
            for number, report in enumerate(reports):
                try:
                    ack, local_boot = self._begin(report, lock_timeout, locks)
                except Exception as exc:
                    # Whatever it is, it is this report's alone.
                    outcomes[number] = exc
                else:
                    begun.append((number, ack, local_boot))
            try:
                if begun:
                    self._commit.run([local_boot for _number, _ack, local_boot in begun])
            except OSError as exc:
                for _number, _ack, local_boot in begun:
                    local_boot.error = exc
        for number, ack, local_boot in begun:
            outcomes[number] = ack if local_boot.error is None else local_boot.error
        return [outcome for outcome in outcomes if outcome is not None]

    def _begin(self, report: Report, lock_timeout: float, locks: contextlib.ExitStack) -> tuple[Ack, LocalBoot]:
        """Decide about a report, under the host's lock, which is held until `locks` is closed. Writes nothing."""
        name = token_host(report.token)
        if name is None:
            raise Rejected("unauthorized", "this is no token")
        try:
            paths = self._layout.paths(name)
        except LayoutError:
            raise Rejected("unauthorized", "this is no token") from None
        # Before the lock is taken or made: strangers must not be able to keep a host's lock busy.
        with _Opened(paths.install) as record:
            install, mac = self._check_token(name, record.document(), report)
            locks.callback(os.close, lock_host(self._layout, name, paths.lock, lock_timeout))
            if not record.is_current():
                install, mac = self._check_token(name, read_json(paths.install), report)
        notification = report.notification
        if notification.mac is not None and notification.mac != mac:
            raise Rejected("malformed", f"{notification.mac} is not the MAC address that this kickstart is for", name)
        with _Opened(paths.status) as record:
            ack, status = self._decide(name, install, mac, record.document(), report)
            return ack, LocalBoot(paths, status, record.detach())

    @staticmethod
    def _decide(name: str, install: Install, mac: str, document: object, report: Report) -> tuple[Ack, bytes | None]:
        """What a report that counts makes of a host's status; None: it says so already.

        :arg mac: the MAC address whose kickstart the token was in.
        """
        notification = report.notification
        before = None if document is None else Status.from_json(document)
        if before is None or before.install != install.install:
            raise Rejected("forbidden", "the token's install is not the host's present one", name)
        try:
            after = before.notified(
                notification.stage,
                report.now,
                mac=mac,
                message=notification.message,
                actions=notification.actions,
                certificate=notification.certificate,
                progress=notification.progress,
            )
        except Refused as refused:
            code: RejectedCode = "backwards" if refused.code == "backwards" else "forbidden"
            raise Rejected(code, str(refused), name) from refused
        duplicate = after is before
        # A duplicate only has to be safe: the writer may have been killed between rename and sync.
        return Ack(name, after.stage, after.mode, duplicate), None if duplicate else dump_json(after.to_json())

    def _check_token(self, name: str, document: object, report: Report) -> tuple[Install, str]:
        """The host's install, and the MAC address whose kickstart the token was in."""
        install = None if document is None else Install.from_json(document)
        token = None if install is None else install.verify(report.token)
        if install is None or token is None:
            raise Rejected("forbidden", "the token is unknown, or of an install that is over", name)
        self._check_client(name, install, report.client)
        return install, token.mac

    # -- armings that run out

    def sweep(self, now: datetime.datetime) -> Sweep:
        """End every arming that has expired. Not for two threads at once.

        Reads only status files that changed since the last sweep.
        """
        expired: list[str] = []
        problems: list[tuple[str, str]] = []
        for name in self._due(now, problems):
            try:
                if self._expire(name, now):
                    expired.append(name)
            except (EsxiPxeError, OSError) as exc:
                problems.append((name, str(exc)))
        return Sweep(tuple(expired), tuple(problems))

    def _due(self, now: datetime.datetime, problems: list[tuple[str, str]]) -> list[str]:
        known, self._armings = self._armings, {}
        due = []
        with os.scandir(self._layout.status_dir) as entries:
            for entry in entries:
                name = entry.name[: -len(".json")]
                if entry.name.startswith(".") or not entry.name.endswith(".json"):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                    version = (found.st_ino, found.st_mtime_ns)
                    arming = known.get(name)
                    if arming is None or arming[0] != version:
                        arming = (version, self._end_of_arming(name))
                except FileNotFoundError:
                    continue
                except (EsxiPxeError, LayoutError, OSError) as exc:
                    problems.append((name, str(exc)))
                    continue
                self._armings[name] = arming
                if arming[1] is not None and now >= arming[1]:
                    due.append(name)
        return due

    def _end_of_arming(self, name: str) -> datetime.datetime | None:
        status = self._status(name)
        if status is None or status.stage != "armed" or status.expires is None:
            return None
        return parse_timestamp(status.expires)

    def _expire(self, name: str, now: datetime.datetime) -> bool:
        with host_lock(self._layout, name, _LOCK_TIMEOUT):
            status = self._status(name)
            if status is None or not status.has_expired(now):
                return False
            flip(self._layout, name, LOCAL)
            # Before the status: a status that says `armed` makes the next sweep finish what this one did not.
            install = self._install(name)
            if install is not None and not install.is_void:
                write_json(self._layout.install(name), install.void().to_json(), 0o640, self._gid)
            self._write_status(status.expired(now))
        return True

    # -- files

    def healthy(self) -> bool:
        """Whether the folders that every request needs are there and can be written."""
        folders = (self._layout.status_dir, self._layout.installs_dir, self._layout.locks_dir)
        return self._layout.trees_dir.is_dir() and all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)

    def _status(self, name: str) -> Status | None:
        document = read_json(self._layout.status(name))
        return None if document is None else Status.from_json(document)

    def _install(self, name: str) -> Install | None:
        document = read_json(self._layout.install(name))
        return None if document is None else Install.from_json(document)

    def _write_status(self, status: Status) -> None:
        write_json(self._layout.status(status.host), status.to_json(), 0o644, self._gid)


class _Opened:
    """A stored JSON object that is read once, and can tell later whether it is still the one that is there.

    Such files are only ever replaced, and as long as this one is open nobody else gets its inode number.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> _Opened:
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def detach(self) -> int:
        """The descriptor, which somebody else closes now; -1: there is no such file."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def document(self) -> dict[str, t.Any] | None:
        """:raises StoreError: it is not a JSON object of ours."""
        if self._descriptor < 0:
            return None
        parts = []
        while part := os.read(self._descriptor, 65536):
            parts.append(part)
        return parse_json(self._path, b"".join(parts))

    def is_current(self) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return self._descriptor < 0
        if self._descriptor < 0:
            return False
        mine = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
