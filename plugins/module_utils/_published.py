# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: which hosts a PXE server has, how they stand, and what is wrong with them.

Reads, and changes nothing. What is seen without a lock may be seen in the middle of somebody's writing, so whatever
looks wrong is looked at once more under the host's lock before it is called a problem.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import stat
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import FILE_SUFFIXES, host_links
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import (
    INSTALL,
    LOCAL,
    MODES,
    Layout,
    LayoutError,
    check_mac,
    check_name,
    mac_stem,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._mask import mask
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import owner_in
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import Stage, parse_timestamp
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    LockTimeout,
    StoreError,
    host_locks,
    read_json,
    target_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = ("Leftover", "Published", "Survey", "survey")

RECORD_SCHEMA = 1

# Each lock is an open file, and 1,024 open files are a usual limit.
_AT_ONCE = 200
_LOCK_TIMEOUT = 10.0

_TEMPORARY_AGE = 600.0
"""Seconds after which nobody is still writing a temporary file."""

_SWEPT_WITHIN = 600.0
"""Seconds in which the service ends an arming that has expired; it looks much more often."""

_SHOWN = 3
"""Examples in a sentence about many."""


@dataclasses.dataclass(frozen=True)
class Published:
    """One host of a PXE server. Times are texts as the status has them; None: never, or not known.

    :ivar owner: the label of the inventory that published it; empty: none.
    :ivar since: when it reached its stage.
    :ivar published: when it was first published here.
    :ivar last_heard: when the machine itself last called: for its kickstart or with a notification.
    :ivar problems: a sentence for each thing that is not as it should be.
    """

    name: str
    owner: str = ""
    macs: tuple[str, ...] = ()
    address: str | None = None
    boot_address: str | None = None
    image: str | None = None
    firmware: str | None = None
    mode: str | None = None
    stage: str | None = None
    since: str | None = None
    published: str | None = None
    last_heard: str | None = None
    updated: str | None = None
    expires: str | None = None
    finished: str | None = None
    install: str | None = None
    failure: str | None = None
    problems: tuple[str, ...] = ()

    def to_return(self, now: datetime.datetime) -> dict[str, t.Any]:
        """As a module returns it, with ages in seconds."""
        value = dataclasses.asdict(self)
        value["macs"], value["problems"] = list(self.macs), list(self.problems)
        value["age"] = _age(self.since, now)
        value["heard_age"] = _age(self.last_heard, now)
        return value


@dataclasses.dataclass(frozen=True)
class Leftover:
    """What is on the server and belongs to no published host.

    :ivar kind: `host`: parts of a host without a record; `link`: what a boot loader finds for a MAC that no record has;
        `temporary`: a file that a killed process did not finish.
    :ivar name: the host's name, the MAC address, or the path.
    :ivar msg: what it is and what to do about it.
    """

    kind: t.Literal["host", "link", "temporary"]
    name: str
    msg: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """Everything that one look at a PXE server found. `leftovers` is empty when only some hosts were asked for."""

    hosts: dict[str, Published]
    leftovers: tuple[Leftover, ...] = ()
    problems: tuple[str, ...] = ()


def survey(config: ServerConfig, now: datetime.datetime, names: t.Collection[str] | None = None) -> Survey:
    """Look at all hosts of a PXE server, or at some.

    :arg names: only these; what is not there is not in the answer.
    :raises StoreError: the server's folders are missing.
    """
    return _Surveyor(config, now).look(names)


class _Surveyor:
    def __init__(self, config: ServerConfig, now: datetime.datetime) -> None:
        self._config = config
        self._layout = Layout.of(config)
        self._now = now
        # Joined so often that pathlib would take most of the time.
        self._boot, self._state = str(self._layout.boot_root), str(self._layout.state_root)
        self._reservations = str(self._layout.reservations_dir) if config.dhcp.mode == "dnsmasq" else None

    def look(self, names: t.Collection[str] | None) -> Survey:
        for path in (self._boot, self._state):
            if not os.path.isdir(path):
                raise StoreError(f"{path} does not exist: run the role pxe_server on this machine first")
        self._images = _names_in(f"{self._state}/images", ".json")
        everything = _names_in(f"{self._state}/hosts", ".json")
        known = sorted(everything if names is None else everything & set(names))
        hosts: dict[str, Published] = {}
        for name in known:
            found = self._host(name)
            if found is not None:
                hosts[name] = found
        self._again(hosts)
        if names is not None:
            return Survey(hosts, (), tuple(self._problems()))
        hosts = _with_shared_macs(hosts)
        return Survey(hosts, tuple(self._leftovers(hosts)), tuple(self._problems()))

    def _again(self, hosts: dict[str, Published]) -> None:
        """Look once more at what seems wrong, while nobody is writing it."""
        doubtful = [name for name, host in hosts.items() if host.problems]
        for start in range(0, len(doubtful), _AT_ONCE):
            names = doubtful[start : start + _AT_ONCE]
            try:
                with host_locks(self._layout, names, _LOCK_TIMEOUT):
                    for name in names:
                        found = self._host(name)
                        if found is not None:
                            hosts[name] = found
                            continue
                        # Removed meanwhile, and its lock with it; this is the one that we have just made.
                        del hosts[name]
                        os.unlink(self._layout.lock(name))
            except LockTimeout:
                for name in names:
                    # Whoever is at it will be done some time; until then nothing can be said of it.
                    hosts[name] = dataclasses.replace(hosts[name], problems=())
            except PermissionError:
                pass  # somebody who may only read: what was seen is what there is

    # One host.

    def _host(self, name: str) -> Published | None:
        """What there is of a host; None: it has no record any more."""
        problems: list[str] = []
        try:
            record = read_json(f"{self._state}/hosts/{name}.json", RECORD_SCHEMA)
        except StoreError as error:
            return Published(
                name,
                problems=(
                    f"{name}: {error}. Publish the host again, or take it off this PXE server (esxi_pxe_host, state "
                    "absent).",
                ),
            )
        if record is None:
            return None
        network = record.get("network")
        network = network if isinstance(network, dict) else {}
        status = self._status(name, problems)
        mode = self._mode(name, problems)
        macs = tuple(mac for mac in record.get("macs") or () if isinstance(mac, str))
        self._check_files(name, macs, problems)
        boot_address = network.get("boot_address")
        if self._reservations and boot_address and not os.path.isfile(f"{self._reservations}/{name}"):
            problems.append(f"{name} has no DHCP reservation: publish it again.")
        self._check_arming(name, macs, mode, status, problems)
        host = Published(
            name,
            owner_in(record),
            macs,
            network.get("address"),
            boot_address,
            record.get("image"),
            record.get("firmware"),
            mode,
            problems=tuple(problems),
        )
        if status is None:
            return host
        return dataclasses.replace(
            host,
            stage=status.stage,
            since=status.stages.get(status.stage, status.updated),
            published=status.stages.get("defined"),
            last_heard=_last_heard(status),
            updated=status.updated,
            expires=status.expires,
            finished=status.finished,
            install=status.install,
            failure=mask(status.failure.reason) if status.failure is not None else None,
        )

    def _status(self, name: str, problems: list[str]) -> Status | None:
        try:
            value = read_json(f"{self._state}/status/{name}.json")
            if value is not None:
                return Status.from_json(value)
            problems.append(f"{name} has no status: publish it again; it then counts as new, and is installed.")
        except EsxiPxeError as error:
            problems.append(
                f"{name}: {error}. So it is not known whether ESXi is on its disk: restore that file, or take the host "
                "off this PXE server (esxi_pxe_host, state absent)."
            )
        return None

    def _mode(self, name: str, problems: list[str]) -> str | None:
        try:
            target = os.readlink(f"{self._boot}/hosts/{name}/boot")
        except OSError:
            target = ""
        if target in MODES:
            return target
        problems.append(f"{name} has no boot mode, its link hosts/{name}/boot is missing: publish it again.")
        return None

    def _check_files(self, name: str, macs: t.Sequence[str], problems: list[str]) -> None:
        """Whether every boot loader finds the host's files."""
        wrong = []
        try:
            for path, target in host_links(name, macs).items():
                if _readlink(f"{self._boot}/{path}") != target:
                    wrong.append(path)
            stems = [mac_stem(mac) for mac in macs]
        except LayoutError as error:
            problems.append(f"{name}: its record cannot be used ({error}): publish it again.")
            return
        if wrong or not macs:
            what = (
                f"{_some(wrong, 'link', 'links')} missing or leading elsewhere"
                if macs
                else "no MAC address in its record"
            )
            problems.append(f"{name}: {what}: publish it again.")
        try:
            there = set(os.listdir(f"{self._boot}/hosts/{name}/{LOCAL}"))
        except OSError:
            there = set()
        missing = [
            f"{stem}{suffix}" for stem in stems for suffix in FILE_SUFFIXES[:4] if f"{stem}{suffix}" not in there
        ]
        if missing:
            problems.append(f"{name}: {_some(missing, 'file', 'files')} for local boot missing: publish it again.")

    def _check_arming(
        self, name: str, macs: t.Sequence[str], mode: str | None, status: Status | None, problems: list[str]
    ) -> None:
        armed = status is not None and status.stage == "armed"
        if mode == INSTALL and not armed:
            stage = status.stage if status is not None else "not known"
            problems.append(
                f"{name} has the boot mode install and its stage is {stage}, so its next PXE boot could install it: "
                "disarm it (esxi_pxe_host, state disarmed)."
            )
        if status is None or not armed:
            return
        again = "run the playbook provision for it once more"
        if mode == LOCAL:
            problems.append(f"{name} is armed and its boot mode is local, as a killed run leaves it: {again}.")
        if not self._can_install(name, status):
            problems.append(f"{name} is armed and has no install record of its own, so no installer starts: {again}.")
        missing = [mac for mac in macs if not os.path.isfile(f"{self._state}/kickstarts/{name}/{mac_stem(mac)}.cfg")]
        if missing:
            problems.append(
                f"{name} is armed and {_some(missing, 'MAC address', 'MAC addresses')} without kickstart: {again}."
            )
        if status.image is not None and status.image not in self._images:
            problems.append(f"{name} is armed and its image {status.image} is not on this PXE server: import it.")
        if status.expires is not None and (_age(status.expires, self._now) or 0) > _SWEPT_WITHIN:
            problems.append(
                f"{name}: its arming expired at {status.expires} and nobody has ended it: see whether the "
                "pbconnect service of this PXE server runs."
            )

    def _can_install(self, name: str, status: Status) -> bool:
        try:
            value = read_json(f"{self._state}/installs/{name}.json")
            install = None if value is None else Install.from_json(value)
        except PermissionError:
            return True
        except EsxiPxeError as error:
            # Who may not read it cannot say that it is wrong.
            return isinstance(error.__cause__, PermissionError)
        return install is not None and install.install == status.install and not install.is_void

    # What belongs to nobody.

    def _leftovers(self, hosts: t.Mapping[str, Published]) -> t.Iterator[Leftover]:
        parts: dict[str, list[str]] = {}
        for what, found in (
            ("boot tree", _names_in(f"{self._boot}/hosts", "")),
            ("status", _names_in(f"{self._state}/status", ".json")),
            ("install record", _names_in(f"{self._state}/installs", ".json")),
            ("kickstarts", _names_in(f"{self._state}/kickstarts", "")),
            ("reservation", _names_in(self._reservations, "") if self._reservations else set()),
        ):
            for name in found - hosts.keys():
                # Published since we began to look; or a name that none of ours wrote.
                if not os.path.lexists(f"{self._state}/hosts/{name}.json"):
                    parts.setdefault(name, []).append(what)
        for name in sorted(parts):
            if _passes(check_name, name):
                yield Leftover(
                    "host",
                    name,
                    f"{name} has no record, and is left of it: {', '.join(parts[name])}. A run was killed, or "
                    "refused it after its kickstarts: publish it, or take that away (esxi_pxe_host, state absent).",
                )
        yield from self._strays(hosts)
        yield from self._temporary_files(hosts)

    def _strays(self, hosts: t.Mapping[str, Published]) -> t.Iterator[Leftover]:
        owned = {mac_stem(mac) for host in hosts.values() for mac in host.macs if _passes(check_mac, mac)}
        found: dict[str, list[str]] = {}
        for folder, ending, file in (
            ("", "", "/boot.cfg"),
            ("http/", "", "/boot.cfg"),
            ("pxelinux.cfg/", "", ""),
            ("ipxe/", ".ipxe", ""),
        ):
            for entry in _entries(f"{self._boot}/{folder}"):
                stem = entry.removesuffix(ending)
                if entry.startswith("01-") and entry.endswith(ending) and stem not in owned:
                    found.setdefault(stem, []).append(f"{folder}{entry}{file}")
        for stem, paths in sorted(found.items()):
            mac = stem[3:].replace("-", ":")
            if not _passes(check_mac, mac):
                continue
            targets = sorted({owner for owner in map(self._leads_to, paths) if owner})
            if any(name in hosts and not hosts[name].macs for name in targets):
                continue  # its record cannot be read, which has been said
            if any(os.path.lexists(f"{self._state}/hosts/{name}.json") and name not in hosts for name in targets):
                continue  # published since we began to look
            trees = [name for name in targets if os.path.isdir(f"{self._boot}/hosts/{name}")]
            do = f"taking {trees[0]} off this PXE server clears them" if trees else "remove them by hand"
            where = f" and lead to {', '.join(targets)}" if targets else ""
            yield Leftover(
                "link", mac, f"{mac} is in no record. Its entries in the boot tree are {', '.join(paths)}{where}: {do}."
            )

    def _leads_to(self, path: str) -> str | None:
        """The host that a link of the boot tree leads to."""
        parts = _readlink(f"{self._boot}/{path}").split("/")
        return parts[parts.index("hosts") + 1] if "hosts" in parts[:-1] else None

    def _temporary_files(self, hosts: t.Iterable[str]) -> t.Iterator[Leftover]:
        state, boot = self._state, self._boot
        folders = [f"{state}/{name}" for name in ("hosts", "status", "installs", "")]
        folders += [f"{boot}/{name}" for name in ("", "http", "pxelinux.cfg", "ipxe")]
        folders += [self._reservations] if self._reservations else []
        for name in hosts:
            folders += [f"{boot}/hosts/{name}", f"{boot}/hosts/{name}/{LOCAL}", f"{boot}/hosts/{name}/{INSTALL}"]
            folders.append(f"{state}/kickstarts/{name}")
        for folder in folders:
            for entry in _entries(folder):
                if entry[0] != "." or target_of(entry) is None:
                    continue
                path = f"{folder.rstrip('/')}/{entry}"
                try:
                    info = os.lstat(path)
                except FileNotFoundError:
                    continue
                if self._now.timestamp() - info.st_mtime > _TEMPORARY_AGE and not stat.S_ISDIR(info.st_mode):
                    yield Leftover(
                        "temporary",
                        path,
                        f"{path} was not finished by a killed run. It harms nothing, and the next that writes there "
                        "clears it away.",
                    )

    def _problems(self) -> t.Iterator[str]:
        """Of the server as a whole."""
        marker = str(self._layout.reload_marker)
        try:
            age = self._now.timestamp() - os.lstat(marker).st_mtime
        except FileNotFoundError:
            return
        if age > _TEMPORARY_AGE:
            yield (
                "The DHCP server has not read its changed reservations: a run was killed, or the server does not run. "
                "The next run that publishes anything sees to it."
            )


def _with_shared_macs(hosts: dict[str, Published]) -> dict[str, Published]:
    """Name the hosts that have a MAC address in common; publishing never lets that happen."""
    owners: dict[str, list[str]] = {}
    for name, host in hosts.items():
        for mac in host.macs:
            owners.setdefault(mac, []).append(name)
    for mac, names in owners.items():
        for name in names if len(names) > 1 else ():
            others = " and ".join(other for other in names if other != name)
            sentence = f"{name}: its MAC address {mac} is also that of {others}: take one of them off this PXE server."
            hosts[name] = dataclasses.replace(hosts[name], problems=(*hosts[name].problems, sentence))
    return hosts


_HEARD_STAGES: t.Final[tuple[Stage, ...]] = ("installing", "installed", "ready")


def _last_heard(status: Status) -> str | None:
    times = [status.stages[stage] for stage in _HEARD_STAGES if stage in status.stages]
    if status.failure is not None and status.failure.kind == "install" and "failed" in status.stages:
        times.append(status.stages["failed"])
    if status.kickstart is not None:
        times.append(status.kickstart.at)
    if status.previous is not None:
        # Armed again and not begun: what is on its disk has been heard.
        times += [status.previous.stages[stage] for stage in _HEARD_STAGES if stage in status.previous.stages]
    return max(times, default=None)


def _age(time: str | None, now: datetime.datetime) -> int | None:
    return None if time is None else max(0, int((now - parse_timestamp(time)).total_seconds()))


def _some(things: t.Sequence[str], one: str, many: str) -> str:
    """`the link x is`, `5 links (a, b, c, ...) are`."""
    if len(things) == 1:
        return f"the {one} {things[0]} is"
    shown = ", ".join(things[:_SHOWN]) + (", ..." if len(things) > _SHOWN else "")
    return f"{len(things)} {many} ({shown}) are"


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror}; run this as root (become)") from error


def _names_in(folder: str, ending: str) -> set[str]:
    return {
        entry[: len(entry) - len(ending)] for entry in _entries(folder) if entry[0] != "." and entry.endswith(ending)
    }


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _passes(check: t.Callable[[str], str], text: str) -> bool:
    try:
        return bool(check(text))
    except LayoutError:
        return False
