# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what PXE servers have, compared with what an inventory has.

Pure. Nothing is ever removed for being missing from an inventory: that is said, and somebody asks for it, by name or
within a number. An inventory may be incomplete for many reasons (a slice, a limit, a source that did not answer), so
whatever is doubtful counts against removing.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import fold_names
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import normal_mac

__all__ = ("Choice", "Left", "ServerReport", "Wanted", "asked_names", "choose", "compare", "table")

_ALL = "all"
_NOT_NAMES = ("true", "yes", "on", "1", "false", "no", "off", "0", "none")

# Somebody waits for what these are doing.
_BUSY_STAGES = ("armed", "installing", "installed")

_NO_DATE = "never"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A host of the inventory. What is None is not compared.

    :ivar server: the PXE server that it is to be published on.
    """

    name: str
    server: str
    owner: str = ""
    macs: frozenset[str] | None = None
    address: str | None = None
    image: str | None = None


@dataclasses.dataclass(frozen=True)
class Left:
    """A host of a PXE server that the inventory does not have there.

    :ivar host: what the server knows of it, as esxi_pxe_host_info returns it.
    :ivar moved_to: the PXE server on which the inventory has it; None: nowhere.
    """

    name: str
    host: t.Mapping[str, t.Any]
    moved_to: str | None = None


@dataclasses.dataclass(frozen=True)
class ServerReport:
    """One PXE server.

    :ivar published: how many hosts it has, whoever's they are.
    :ivar wanted: how many the inventory has on it.
    :ivar left: hosts that it has and should not.
    :ivar missing: hosts that it should have, and where they are in place of that.
    :ivar differing: hosts that it has otherwise, and in what.
    :ivar others: how many hosts of other labels it has.
    :ivar conflicts: hosts of the inventory that another label has published here.
    :ivar kept: hosts that are not left over, and why not.
    :ivar problems: sentences about what is not as it should be.
    """

    server: str
    published: int
    wanted: int
    left: tuple[Left, ...]
    missing: t.Mapping[str, str | None]
    differing: t.Mapping[str, tuple[str, ...]]
    others: t.Mapping[str, int]
    conflicts: t.Mapping[str, str]
    kept: t.Mapping[str, str]
    problems: tuple[str, ...]

    @property
    def in_order(self) -> bool:
        """Whether nothing is to be done about this server."""
        return not (self.left or self.missing or self.differing or self.conflicts or self.problems)


def compare(
    wanted: t.Sequence[Wanted], found: t.Mapping[str, t.Mapping[str, t.Any]], owners: t.Collection[str]
) -> dict[str, ServerReport]:
    """Compare an inventory with its PXE servers.

    :arg wanted: every host of the inventory.
    :arg found: what esxi_pxe_host_info returned for all hosts, by PXE server.
    :arg owners: labels of the inventory; hosts with another one are none of its business.
    """
    by_name = {host.name: host for host in wanted}
    places: dict[str, list[str]] = {}
    for server, result in found.items():
        for name in result["hosts"]:
            places.setdefault(name, []).append(server)
    return {server: _compare_one(server, result, by_name, places, owners) for server, result in found.items()}


def _compare_one(
    server: str,
    result: t.Mapping[str, t.Any],
    by_name: t.Mapping[str, Wanted],
    places: t.Mapping[str, list[str]],
    owners: t.Collection[str],
) -> ServerReport:
    left: list[Left] = []
    differing: dict[str, tuple[str, ...]] = {}
    others: dict[str, int] = {}
    conflicts: dict[str, str] = {}
    kept: dict[str, str] = {}
    problems = list(result["problems"])
    for name, host in sorted(result["hosts"].items()):
        mine = by_name.get(name)
        here = mine is not None and mine.server == server
        if host["owner"] not in owners:
            others[host["owner"]] = others.get(host["owner"], 0) + 1
            if here and host["owner"]:
                conflicts[name] = host["owner"]
            label = f"label {host['owner']}" if host["owner"] else "no label"
            kept[name] = f"has {label} and is none of this inventory's ({', '.join(sorted(owners)) or 'no label'})"
            continue
        problems += host["problems"]
        if mine is None or not here:
            left.append(Left(name, host, mine.server if mine is not None else None))
            continue
        kept[name] = "is in the inventory (take it out there first, or run the playbook retire)"
        differences = tuple(_differences(mine, host))
        if differences:
            differing[name] = differences
    for one in result["leftovers"]:
        if one["kind"] == "host" and one["name"] not in by_name:
            left.append(Left(one["name"], {}))
        problems.append(one["msg"])
    missing = {
        name: next((place for place in places.get(name, ()) if place != server), None)
        for name, host in sorted(by_name.items())
        if host.server == server and name not in result["hosts"]
    }
    count = sum(1 for host in by_name.values() if host.server == server)
    return ServerReport(
        server,
        published=len(result["hosts"]),
        wanted=count,
        left=tuple(left),
        missing=missing,
        differing=differing,
        others=others,
        conflicts=conflicts,
        kept=kept,
        problems=tuple(problems),
    )


def _differences(mine: Wanted, host: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if mine.macs is not None:
        there = frozenset(filter(None, map(normal_mac, host["macs"])))
        if there != mine.macs:
            yield f"MAC addresses {_macs(there)}, in the inventory {_macs(mine.macs)}"
    for what, wanted, key in (("address", mine.address, "address"), ("image", mine.image, "image")):
        if wanted and wanted != host[key]:
            yield f"{what} {host[key] or 'none'}, in the inventory {wanted}"


def _macs(macs: t.Collection[str]) -> str:
    return " and ".join(":".join(mac[i : i + 2] for i in range(0, 12, 2)) for mac in sorted(macs)) or "none"


# What is asked for.


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is to be removed.

    :ivar names: hosts by PXE server.
    :ivar refused: a sentence for each host that is not removed although it was asked for.
    :ivar problem: why nothing at all is removed; empty: it may be.
    """

    names: t.Mapping[str, tuple[str, ...]]
    refused: t.Mapping[str, str]
    problem: str = ""


def asked_names(given: object) -> list[str]:
    """The names in what somebody asked to have removed; V(all) alone means all.

    :raises ValueError: it is neither names nor V(all); the text says what to write.
    """
    if given is None or given == "":
        return []
    parts = given.split(",") if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else [given]
    names = [str(part).strip().rstrip(".").lower() for part in parts]
    if any(isinstance(part, bool) for part in parts) or any(not name or name in _NOT_NAMES for name in names):
        raise ValueError("esxi_reconcile_remove must be names of hosts with commas between them, or all")
    if _ALL in names and len(names) > 1:
        raise ValueError("esxi_reconcile_remove is either names of hosts or all, and not both")
    return list(dict.fromkeys(names))


def choose(
    reports: t.Mapping[str, ServerReport],
    names: t.Sequence[str],
    maximum: int,
    *,
    can_ask: bool = True,
    partial: str = "",
) -> Choice:
    """What may be removed of what was asked for.

    :arg names: as `asked_names` returns them.
    :arg maximum: with more hosts than this, none is removed.
    :arg can_ask: whether there is a vCenter to ask which hosts are alive.
    :arg partial: why the inventory may be only a part of itself; empty: it is the whole.
    """
    if not names:
        return Choice({}, {})
    if partial:
        return Choice({}, {}, f"Nothing is removed: {partial}.")
    everything = list(names) == [_ALL]
    chosen: dict[str, list[str]] = {}
    refused: dict[str, str] = {}
    for report in reports.values():
        if everything and report.left and not report.wanted:
            return Choice(
                {},
                {},
                f"Nothing is removed: the inventory has no ESXi host on {report.server}, which is more often a broken "
                "inventory than a wish. Name the hosts (esxi_reconcile_remove=NAME,NAME) when it is meant.",
            )
        for one in report.left:
            if not everything and one.name not in names:
                continue
            reason = _why_not_all(one, can_ask) if everything else None
            if reason is not None:
                refused[one.name] = f"{one.name} {reason}. Name it (esxi_reconcile_remove={one.name}) when it is meant."
            else:
                chosen.setdefault(report.server, []).append(one.name)
    for report in reports.values() if not everything else ():
        for name in report.kept.keys() & set(names):
            refused[name] = f"{name} {report.kept[name]}, so it is not taken off {report.server}."
    total = len({name for taken in chosen.values() for name in taken})
    if total > maximum:
        return Choice(
            {},
            refused,
            f"This run would take {total} hosts off their PXE servers and esxi_reconcile_max is {maximum}, so none is: "
            f"name fewer, or say -e esxi_reconcile_max={total} when you mean all of them.",
        )
    return Choice({server: tuple(taken) for server, taken in chosen.items()}, refused)


def _why_not_all(one: Left, can_ask: bool) -> str | None:
    """Why a host is not among all, although it is left over; None: it is."""
    stage = one.host.get("stage")
    if stage in _BUSY_STAGES:
        return f"is {stage}, so somebody waits for its install"
    if not can_ask:
        return "could be alive, and the inventory has no vCenter to ask"
    return None


# For people.


def table(report: ServerReport, lines: int = 0) -> list[str]:
    """A report as lines of text.

    :arg lines: of each part so many lines at most; 0: all.
    """
    others = sum(report.others.values())
    labels = ", ".join(sorted(label or "no label" for label in report.others))
    text = [
        f"{report.server}: {report.published} published, {report.wanted} in the inventory, "
        f"{len(report.left)} left over, {len(report.missing)} missing, {len(report.differing)} different"
        + (f", {others} of other inventories ({labels})" if others else "")
    ]
    if report.left:
        text += _part("LEFT OVER (on this server, not in the inventory):", _left_rows(report.left), lines)
    elsewhere = {name: place for name, place in report.missing.items() if place}
    nowhere = [name for name, place in report.missing.items() if not place]
    if nowhere:
        text += _part("MISSING (in the inventory, not published):", fold_names(nowhere), lines)
    if elsewhere:
        rows = [f"{name}  is on {place}" for name, place in elsewhere.items()]
        text += _part("ON ANOTHER PXE SERVER (publish them here, then take them off there):", rows, lines)
    if report.differing:
        rows = [f"{name}  {'; '.join(what)}" for name, what in report.differing.items()]
        text += _part("DIFFERENT (the playbook provision publishes them anew):", rows, lines)
    if report.conflicts:
        rows = [f"{name}  is published by {owner}" for name, owner in report.conflicts.items()]
        text += _part("ANOTHER INVENTORY'S (give one of the two another name):", rows, lines)
    if report.problems:
        text += _part("NOT AS IT SHOULD BE:", list(report.problems), lines)
    if report.in_order:
        text.append("  all as in the inventory")
    # What comes from a machine may hold anything.
    return ["".join(char if char.isprintable() else "?" for char in line) for line in text]


def _part(title: str, rows: t.Sequence[str], lines: int) -> list[str]:
    shown = rows if lines <= 0 else rows[:lines]
    text = [f"  {title}", *(f"    {row}" for row in shown)]
    if len(shown) < len(rows):
        text.append(f"    ... and {len(rows) - len(shown)} more (esxi_reconcile_lines=0 shows all)")
    return text


def _left_rows(left: t.Sequence[Left]) -> list[str]:
    rows = [("host", "stage", "since", "mode", "last heard", "image", "")]
    for one in left:
        host = one.host
        note = f"moved to {one.moved_to}" if one.moved_to else "" if host else "no record: left by a killed run"
        rows.append(
            (
                one.name,
                host.get("stage") or "-",
                _when(host.get("since"), host.get("age")),
                host.get("mode") or "-",
                _when(host.get("last_heard"), host.get("heard_age")),
                host.get("image") or "-",
                note,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _when(time: str | None, age: int | None) -> str:
    if time is None:
        return _NO_DATE
    return time if age is None else f"{time} ({_ago(age)})"


def _ago(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
