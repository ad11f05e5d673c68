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

from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status, parse_timestamp, timestamp

__all__ = ("Decision", "decide", "describe")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do about one host.

    :ivar action: `arm`: begin a new install; `keep`: it is armed, see that all of it is in place; `leave`: do nothing.
    :ivar reinstall: whether arming touches a machine that may have ESXi on its disk.
    :ivar msg: why, in one sentence.
    """

    action: t.Literal["arm", "keep", "leave"]
    reinstall: bool
    msg: str


def describe(status: Status) -> str:
    """The stage of a host and since when, such as C(ready since 2026-11-22T20:00:00Z)."""
    since = status.stages.get(status.stage, status.updated)
    why = f" ({status.failure.reason})" if status.stage == "failed" and status.failure is not None else ""
    return f"{status.stage} since {since}{why}"


def decide(status: Status, reinstall: bool | str, now: datetime.datetime, stuck_after: float) -> Decision:
    """What to do about a host that is wanted installed.

    :arg status: its status; an arming that has expired has been ended in it.
    :arg reinstall: False; True: each time it is asked; a text: the label of one request, fulfilled once.
    :arg stuck_after: seconds without a sign of life after which an install that has begun may be started again.
    """
    label = reinstall if isinstance(reinstall, str) else None
    if status.stage == "defined":
        return Decision("arm", False, "armed: the next PXE boot starts the installer")
    if status.stage == "armed":
        return Decision("keep", False, f"{describe(status)}, until {status.expires}: waiting for its PXE boot")
    if not reinstall:
        again = "" if status.stage in ("installing", "installed") else "; set reinstall to install it again"
        return Decision("leave", False, f"{describe(status)}: left alone{again}")
    if label is not None and label == status.request:
        return Decision("leave", False, f"{describe(status)}: the reinstall {label!r} has been carried out, left alone")
    if status.stage in ("installing", "installed"):
        silent = (now - parse_timestamp(status.updated)).total_seconds()
        if silent <= stuck_after:
            return Decision(
                "leave",
                False,
                f"{describe(status)}, last heard of {max(silent, 0):.0f} s ago: an install is under way and is left "
                f"alone until nothing has been heard for {stuck_after:.0f} s",
            )
    why = "asked for again" if label is None else f"asked for as {label!r}"
    return Decision("arm", True, f"armed for a reinstall ({why}) at {timestamp(now)}: was {describe(status)}")
