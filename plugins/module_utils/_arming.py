# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: whether a host that is wanted installed gets an install.

Pure. This is what stands between a forgotten variable and a reinstalled machine: everything that may have ESXi on it is
left alone unless a reinstall is asked for, by name and once.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import parse_timestamp, timestamp

__all__ = ("Decision", "Wanted", "decide", "describe")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do about one host.

    :ivar action: `arm`: begin a new install; `keep`: it is armed, see that all of it is in place; `leave`: do nothing;
        `refuse`: do nothing, and say that what is asked for cannot be meant.
    :ivar reinstall: whether arming touches a machine that may have ESXi on its disk.
    :ivar msg: why, in one sentence.
    """

    action: t.Literal["arm", "keep", "leave", "refuse"]
    reinstall: bool
    msg: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a definition says of the next install.

    :ivar command: what the installer would be told to do: `install`, `installorupgrade` or `upgrade`.
    :ivar image: the image; None: not known here.
    :ivar reinstall_image: the image that a reinstall may put in the place of another one.
    """

    command: str = "install"
    image: str | None = None
    reinstall_image: str | None = None


def describe(status: Status) -> str:
    """The stage of a host and since when, such as C(ready since 2026-11-22T20:00:00Z)."""
    since = status.stages.get(status.stage, status.updated)
    why = f" ({status.failure.reason})" if status.stage == "failed" and status.failure is not None else ""
    return f"{status.stage} since {since}{why}"


def decide(
    status: Status, reinstall: bool | str, now: datetime.datetime, stuck_after: float, *, wanted: Wanted = Wanted()
) -> Decision:
    """What to do about a host that is wanted installed.

    :arg status: its status; an arming that has expired has been ended in it.
    :arg reinstall: whether it is to be installed, or upgraded (see `wanted`), again. False; True: each time it is
        asked; a text: the label of one request, fulfilled once.
    :arg stuck_after: seconds without a sign of life after which an install that has begun may be started again.
    :arg wanted: what the definition says would be done.
    """
    label = reinstall if isinstance(reinstall, str) else None
    upgrade = wanted.command == "upgrade"
    if status.stage == "defined":
        if upgrade:
            # Whatever is on its disk: an upgrade of it touches a machine that somebody may be working with.
            return Decision("arm", True, "armed for an upgrade: the next PXE boot starts the installer")
        if status.command == "upgrade" and not reinstall:
            # Nobody has installed it from here, and yet there was something to be upgraded.
            return Decision(
                "leave",
                False,
                f"{describe(status)}: an upgrade of it was asked for and did not begin, so it has ESXi on its disk: "
                "left alone; ask for the upgrade again, or set reinstall to install it",
            )
        return Decision("arm", False, "armed: the next PXE boot starts the installer")
    if status.stage == "armed":
        return _armed(status, bool(reinstall), upgrade, now)
    if not reinstall:
        return Decision("leave", False, f"{describe(status)}: left alone{_hint(status, wanted)}")
    if label is not None and label == status.request:
        done = "upgrade" if status.command == "upgrade" else "reinstall"
        if status.command is not None and upgrade != (status.command == "upgrade"):
            other = "upgrade" if upgrade else "reinstall"
            why = f"the label {label!r} was that of another request, write another label for the {other}"
            return Decision("leave", False, f"{describe(status)}: {why}")
        return Decision("leave", False, f"{describe(status)}: the {done} {label!r} has been carried out, left alone")
    if status.stage in ("installing", "installed"):
        silent = (now - parse_timestamp(status.updated)).total_seconds()
        if silent <= stuck_after:
            return Decision(
                "leave",
                False,
                f"{describe(status)}, last heard of {max(silent, 0):.0f} s ago: an install is under way and is left "
                f"alone until nothing has been heard for {stuck_after:.0f} s",
            )
    if not upgrade and _other_image(status, wanted) and wanted.reinstall_image != wanted.image:
        return Decision(
            "refuse",
            False,
            f"{status.host} runs {status.image}, its image is now {wanted.image}, and a reinstall is asked for, which "
            "takes its configuration away: ask for an upgrade (esxi_host_upgrade) to keep it, or say that the "
            f"reinstall is meant: esxi_host_reinstall_image: {wanted.image}.",
        )
    what = "an upgrade" if upgrade else "a reinstall"
    why = "asked for again" if label is None else f"asked for as {label!r}"
    return Decision("arm", True, f"armed for {what} ({why}) at {timestamp(now)}: was {describe(status)}")


def _armed(status: Status, asked: bool, upgrade: bool, now: datetime.datetime) -> Decision:
    """A host that waits for its boot. What it waits for changes only from an install to an upgrade, never back."""
    waits = f"{describe(status)}, until {status.expires}: waiting for its PXE boot"
    if status.command == "upgrade":
        if asked and not upgrade:
            return Decision(
                "refuse",
                False,
                f"{status.host} is armed for an upgrade and a reinstall is asked for, which would take away what the "
                "upgrade keeps: disarm it first (esxi_pxe_host, state: disarmed), or take the request out.",
            )
        return Decision("keep", False, f"{waits} for an upgrade")
    if upgrade:
        return Decision(
            "arm", status.previous is not None, f"armed for an upgrade at {timestamp(now)}: was {describe(status)}"
        )
    return Decision("keep", False, waits)


def _other_image(status: Status, wanted: Wanted) -> bool:
    """Whether the host runs another image than its definition says now."""
    return status.came_up and None not in (status.image, wanted.image) and status.image != wanted.image


def _hint(status: Status, wanted: Wanted) -> str:
    """What to ask for, where there is something to be asked for."""
    if status.stage in ("installing", "installed"):
        return ""
    if _other_image(status, wanted):
        return (
            f"; it has {status.image} and its image is now {wanted.image}: set upgrade to upgrade it, "
            "or reinstall to install it again"
        )
    return "; set reinstall to install it again"
