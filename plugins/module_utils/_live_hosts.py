# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: whether ESXi hosts may be installed or retired, as the vCenters see them.

Pure: what the vCenters say comes in, a verdict and its sentence come out. This is what stands between a wrong line in
an inventory and a machine that others are working on, so whatever is not known counts against going on.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_options import is_host_name

__all__ = ["JOBS", "Group", "ManagedHost", "Member", "Verdict", "WantedHost", "judge", "normal_mac"]

Job = t.Literal["install", "retire", "join"]
JOBS: t.Final[tuple[Job, ...]] = ("install", "retire", "join")
Kind = t.Literal["free", "idle", "forced", "live", "elsewhere", "unknown", "accepted"]

# By what a host is recognised, and the value.
_Mark = tuple[str, str]

_MAC = re.compile(r"[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-f]{32}")
# What an inventory or -e makes of true: nobody's name, but somebody's habit.
_NO_NAMES = ("true", "yes", "on", "1", "all")


@dataclass(frozen=True)
class ManagedHost:
    """A host as one vCenter has it.

    vcenter: ``host:port``. state: connected, disconnected, notResponding or unknown. maintenance and powered_on are
    None where vCenter does not say. uuid: of the hardware (SMBIOS). addresses: of vmk0, where the installer puts the
    management network.
    """

    name: str
    vcenter: str
    path: str
    state: str
    maintenance: t.Optional[bool]
    powered_on: t.Optional[int]
    uuid: str = ""
    addresses: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """A vCenter of the group. ``problem`` says why its hosts are not known; None when they are."""

    vcenter: str
    name: str = ""
    instance_uuid: str = ""
    version: str = ""
    problem: t.Optional[str] = None
    hosts: tuple[ManagedHost, ...] = ()


@dataclass(frozen=True)
class Group:
    """All vCenters that are linked with the one that was asked, and that one: ``entry`` is its ``host:port``.

    linked: whether a Lookup Service was asked; without one a vCenter is a group of one. problem: why it is not known
    which vCenters there are.
    """

    entry: str
    members: tuple[Member, ...]
    linked: bool
    problem: t.Optional[str] = None

    @property
    def hosts(self) -> t.Iterator[ManagedHost]:
        for member in self.members:
            yield from member.hosts

    def entries_of(self, host: WantedHost) -> list[tuple[ManagedHost, str]]:
        """The hosts of all vCenters that are this one, and by what each was recognised."""
        found: dict[int, tuple[ManagedHost, str]] = {}
        for mark in host.marks:
            for managed in self._by_mark.get(mark, ()):
                found.setdefault(id(managed), (managed, mark[0]))
        return list(found.values())

    @cached_property
    def _by_mark(self) -> dict[_Mark, list[ManagedHost]]:
        # Made once: a play and a data centre may have thousands of hosts each.
        index: dict[_Mark, list[ManagedHost]] = {}
        for managed in self.hosts:
            for mark in set(_marks(managed)):
                index.setdefault(mark, []).append(managed)
        return index

    @property
    def gaps(self) -> list[str]:
        """A sentence for each thing that is not known of the group."""
        return [text for text in (self.problem, *(member.problem for member in self.members)) if text]


@dataclass(frozen=True)
class WantedHost:
    """A host of the inventory, with what it can be recognised by. ``forced``: somebody said its name."""

    name: str
    addresses: frozenset[str] = frozenset()
    macs: frozenset[str] = frozenset()
    uuids: frozenset[str] = frozenset()
    forced: bool = False

    @property
    def marks(self) -> t.Iterator[_Mark]:
        """What it can be recognised by, the surest first for a reader of the sentence."""
        yield "name", self.name
        for what, values in (
            ("management address", self.addresses),
            ("MAC address", self.macs),
            ("hardware UUID", self.uuids),
        ):
            for value in sorted(values):
                yield what, value

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> WantedHost:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name = str(options.get("name") or "").rstrip(".")
        if not is_host_name(name):
            errors.append(f"{name!r} is no host name.")
        macs = set()
        for text in options.get("macs") or []:
            mac = normal_mac(str(text))
            if mac is None:
                errors.append(f"{str(text)!r} is no MAC address.")
            else:
                macs.add(mac)
        uuids = _uuids(str(options.get("uuid") or ""))
        if options.get("uuid") and not uuids:
            errors.append(f"{str(options['uuid'])!r} is no UUID.")
        address = str(options.get("address") or "")
        if address and not is_host_name(address):
            errors.append(f"address {address!r} is no host name or IP address.")
        forced = _forced(name, options.get("force"), errors)
        if errors:
            raise DefinitionError(errors)
        known = {one for one in (_address(address), _address(name)) if one}
        return cls(name.lower(), frozenset(known), frozenset(macs), uuids, forced)


def _forced(name: str, force: t.Any, errors: list[str]) -> bool:
    """Whether a host's name was said, in a text with commas or in a list."""
    if force is None or force is False or force == "":
        return False
    said = force.split(",") if isinstance(force, str) else list(force) if isinstance(force, (list, tuple)) else [force]
    names = [str(one).strip().rstrip(".").lower() for one in said]
    if any(isinstance(one, bool) or text in _NO_NAMES for one, text in zip(said, names)):
        errors.append(
            f"force must be the names of the hosts that are meant, such as {name}, and nothing that means all of them."
        )
        return False
    return name.lower() in names


def normal_mac(text: str) -> t.Optional[str]:
    """Twelve small hexadecimal digits; None when it is no MAC address."""
    octets = re.split(r"[:-]", text.strip().lower())
    plain = "".join(octet.zfill(2) for octet in octets) if len(octets) == 6 else re.sub("[:.-]", "", "".join(octets))
    return plain if _MAC.fullmatch(plain) else None


def _uuids(text: str) -> frozenset[str]:
    """A hardware UUID as it is, and with its first three fields turned round: firmware, BMC and ESXi do not agree."""
    plain = re.sub(r"[-{}\s]", "", text.lower())
    # All zeros or all ones: the board has none.
    if not _UUID.fullmatch(plain) or len(set(plain)) == 1:
        return frozenset()
    octets = bytes.fromhex(plain)
    turned = octets[3::-1] + octets[5:3:-1] + octets[7:5:-1] + octets[8:]
    return frozenset({plain, turned.hex()})


def _address(text: str) -> t.Optional[str]:
    """An IP address that belongs to one machine, in its shortest form."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return None
    return address.compressed


def _marks(managed: ManagedHost) -> t.Iterator[_Mark]:
    """All that a host of a vCenter can be recognised by."""
    yield "name", managed.name.rstrip(".").lower()
    for address in (*managed.addresses, managed.name):
        normal = _address(address)
        if normal is not None:
            yield "management address", normal
    for mac in managed.macs:
        plain = normal_mac(mac)
        if plain is not None:
            yield "MAC address", plain
    for uuid in _uuids(managed.uuid):
        yield "hardware UUID", uuid


@dataclass(frozen=True)
class Verdict:
    """Whether a host may be installed, retired or joined.

    kind: ``free`` no vCenter has it; ``idle`` one has it and nothing runs there; ``forced`` it is alive, or not known,
    and was named; ``accepted`` it is not known, which was accepted; and why not: ``live``, ``elsewhere``, ``unknown``.
    """

    kind: Kind
    msg: str
    seen: t.Optional[ManagedHost] = None
    recognised_by: t.Optional[str] = None

    @property
    def refused(self) -> bool:
        return self.kind in ("live", "elsewhere", "unknown")


def judge(host: WantedHost, group: Group, job: Job, *, accept_unknown: bool = False) -> Verdict:
    """Whether a host may be installed (its disk is at stake), retired, or joined to the vCenter that was asked."""
    matches = group.entries_of(host)
    if job != "retire":
        for managed, how in matches:
            if managed.vcenter != group.entry:
                return Verdict("elsewhere", _managed_elsewhere(host, managed, how, group), managed, how)
    if job != "join":
        for managed, how in matches:
            running = _alive(managed)
            if running is None:
                continue
            if host.forced:
                msg = f"{host.name} {running}, and was named: {_done(job)}."
                return Verdict("forced", msg, managed, how)
            return Verdict("live", _live(host, managed, how, running, job), managed, how)
    if group.gaps:
        gaps = " ".join(group.gaps)
        if host.forced:
            return Verdict("forced", f"{host.name} was named, and is {_done(job)} although not all is known. {gaps}")
        if accept_unknown or job == "join":
            # A join takes nothing from anybody: vCenter itself refuses a host that it finds managed by another one.
            return Verdict("accepted", f"It is not known whether any vCenter manages {host.name}. {gaps}")
        return Verdict("unknown", _not_known(host, gaps, job))
    if not matches:
        return Verdict("free", f"{host.name} is in no vCenter of the group.")
    managed, how = matches[0]
    return Verdict("idle", f"{host.name} is in {managed.vcenter} at {managed.path}, {_idle(managed)}.", managed, how)


def _alive(managed: ManagedHost) -> t.Optional[str]:
    """What a host of a vCenter is doing that must not be interrupted; None when it is nothing."""
    if managed.maintenance or managed.powered_on == 0:
        return None
    where = f"{managed.vcenter} at {managed.path}"
    if managed.powered_on is None:
        return f"is {_state(managed)} in {where}, which does not say whether machines run on it"
    machines = "1 powered-on machine" if managed.powered_on == 1 else f"{managed.powered_on} powered-on machines"
    if managed.state == "connected":
        return f"is connected in {where}, not in maintenance mode, with {machines}"
    # Out of vCenter's sight is not dead: a host goes on running its machines when it is disconnected.
    return f"is {_state(managed)} in {where}, which saw {machines} on it last"


def _state(managed: ManagedHost) -> str:
    return {"notResponding": "not responding"}.get(managed.state, managed.state)


def _idle(managed: ManagedHost) -> str:
    return f"{_state(managed)}, {'in maintenance mode' if managed.maintenance else 'without a powered-on machine'}"


def _as(host: WantedHost, managed: ManagedHost, how: str) -> str:
    return "" if how == "name" else f" (there under the name {managed.name}, recognised by its {how})"


def _done(job: Job) -> str:
    return "retired" if job == "retire" else "installed"


def _live(host: WantedHost, managed: ManagedHost, how: str, running: str, job: Job) -> str:
    return (
        f"{host.name} {running}{_as(host, managed, how)}: it is not {_done(job)}. Put it into maintenance mode first. "
        f"To have it {_done(job)} all the same, force it by its name (esxi_host_force_live={host.name})."
    )


def _managed_elsewhere(host: WantedHost, managed: ManagedHost, how: str, group: Group) -> str:
    return (
        f"{host.name} is managed by another vCenter of the group, {managed.vcenter}, at {managed.path}"
        f"{_as(host, managed, how)}, and not by {group.entry}, where its definition puts it: remove it there, or "
        "correct its vCenter in the inventory."
    )


def _not_known(host: WantedHost, gaps: str, job: Job) -> str:
    return (
        f"It is not known whether {host.name} is alive, so it is not {_done(job)}. {gaps} Run again when that works; "
        f"or force it by its name (esxi_host_force_live={host.name}); or accept what is not known "
        "(esxi_host_vcenter_unreachable=accept)."
    )
