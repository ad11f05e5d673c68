# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what the typed post actions are made of: checked values, and quoted shell text."""

from __future__ import annotations

import dataclasses
import ipaddress
import shlex
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    integer,
    matching,
    network_server,
    plain_text,
    show,
)

__all__ = [
    "NAME",
    "REBOOT",
    "DepotUse",
    "Kind",
    "Lines",
    "Work",
    "action_name",
    "advanced",
    "advanced_value",
    "datastore_name",
    "enabled",
    "interface_name",
    "ip_address",
    "line",
    "object_name",
    "on_off",
    "options",
    "scalar",
    "subnet",
    "switch_name",
    "uplink_name",
]

Lines = list[str]
Reboot = t.Literal["no", "auto", "yes"]

# What an action does to have the host restarted after it; the runner names the file.
REBOOT = ': >"$ESXI_PXE_REBOOT"'

# Names travel through shell, JSON and log files: no character of them means anything to any of the three.
NAME = r"[A-Za-z0-9][A-Za-z0-9 ._:/+@#()&,=-]*"
_A_NAME = "a name of letters, digits, blanks and ._:/+@#()&,=- that begins with a letter or digit"
action_name = matching(NAME, 100, _A_NAME)
object_name = matching(NAME, 80, _A_NAME)
switch_name = matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", 31, "a switch's name such as vSwitch1")
uplink_name = matching(r"vmnic[0-9]{1,4}", 9, "an uplink such as vmnic1")
interface_name = matching(r"vmk[0-9]{1,3}", 6, "an interface such as vmk1")
datastore_name = matching(
    r"[A-Za-z0-9][A-Za-z0-9._() -]*", 42, "a datastore's name of letters, digits, blanks and ._()- (at most 42)"
)


@dataclasses.dataclass(frozen=True)
class DepotUse:
    """What an action takes from a depot of its PXE server. ``file``: one VIB below the depot's folder."""

    name: str
    file: t.Optional[str] = None
    profile: t.Optional[str] = None
    vibs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Work:
    """What a parser made of an action's options."""

    lines: Lines
    depots: tuple[DepotUse, ...] = ()


Parser = t.Callable[[object, Fields, str], t.Union[Lines, Work]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One type of action.

    :ivar reboot: whether the host restarts after it unless the action says otherwise; V(auto): when it asks for it.
    :ivar rerun: whether doing it again leaves the host as it is.
    """

    parse: Parser
    reboot: Reboot = "no"
    rerun: bool = True


def line(*words: str) -> str:
    """One command, each word quoted."""
    return " ".join(shlex.quote(word) for word in words)


def on_off(value: bool) -> str:
    return "true" if value else "false"


def enabled(value: object) -> bool:
    """V(enabled) or V(disabled), or a boolean."""
    if isinstance(value, str) and value in ("enabled", "disabled"):
        return value == "enabled"
    try:
        return boolean(value)
    except Wrong:
        raise Wrong(f"is {show(value)}; write enabled or disabled") from None


def advanced(option: str, value: t.Union[int, str]) -> str:
    flag = f"--int-value={value}" if isinstance(value, int) else f"--string-value={value}"
    return line("esxcli", "system", "settings", "advanced", "set", f"--option={option}", flag)


def advanced_value(value: object) -> t.Union[int, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return integer(-(2**63), 2**63 - 1)(value)
    return plain_text(1024)(value)


def ip_address(value: object) -> str:
    server = network_server(value)
    try:
        return str(ipaddress.ip_address(server))
    except ValueError:
        raise Wrong(f"is {show(server)}; write an IP address") from None


def subnet(value: object) -> str:
    try:
        if isinstance(value, str):
            return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    raise Wrong(f"is {show(value)}; write a network such as 192.168.77.0/24 (no host bits set) or an IP address")


def scalar(value: object, check: t.Callable[[object], t.Any], owner: Fields, path: str) -> t.Any:
    try:
        return check(value)
    except Wrong as wrong:
        owner.wrong(path, str(wrong))
        return None


def options(value: object, main: str, owner: Fields, path: str) -> Fields:
    """The action's mapping; where there is one main option its value alone will do (``vib: URL``)."""
    if main and value is not None and not isinstance(value, t.Mapping):
        value = {main: value}
    return Fields(value, owner.label, f"{path}.", owner.errors)
