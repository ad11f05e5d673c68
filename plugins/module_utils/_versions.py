# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what of a definition an ESXi version does not take.

Pure. Only what is known is refused; what is doubtful becomes a warning. docs/kickstart.md has the same table for
people, and a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._images import version_key

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host

__all__ = ("RULES", "Rule", "VersionProblems", "upgrade_problems", "version_problems")

# The first build that knows systemMediaSize: 7.0 Update 1c, which calls itself 7.0.1 like the builds before it.
_MEDIA_SIZE_BUILD = 17325551


class Rule(t.NamedTuple):
    """One difference between versions.

    :ivar option: the option of the definition.
    :ivar since: the first version that has it, as people write it.
    :ivar known: whether an image with this version and build number has it.
    :ivar used: whether a host makes use of it.
    :ivar instead: what to write for an older version.
    """

    option: str
    since: str
    known: t.Callable[[tuple[int, ...], int], bool]
    used: t.Callable[[Host], bool]
    instead: str


def _from(*version: int) -> t.Callable[[tuple[int, ...], int], bool]:
    return lambda found, _build: found >= version


def _uses_action(kind: str) -> t.Callable[[Host], bool]:
    return lambda host: any(action.kind == kind for action in host.post_actions)


RULES: t.Final[tuple[Rule, ...]] = (
    Rule(
        "boot.media_size",
        "7.0 U1c",
        lambda version, build: version > (7, 0, 1) or (version == (7, 0, 1) and build >= _MEDIA_SIZE_BUILD),
        lambda host: host.boot.media_size is not None,
        "take it out, the installer would use the whole disk as it always did",
    ),
    Rule(
        "kickstart.extra_options (--dpupcislots)",
        "8.0",
        _from(8, 0, 0),
        lambda host: any(option.lower().startswith("--dpu") for option in host.kickstart.extra_options),
        "take it out",
    ),
    Rule(
        "post_actions (ntp)",
        "7.0",
        _from(7, 0, 0),
        _uses_action("ntp"),
        "write a post action of the type shell that writes /etc/ntp.conf",
    ),
    Rule(
        "post_actions (component)",
        "7.0",
        _from(7, 0, 0),
        _uses_action("component"),
        "write vib in its place",
    ),
)


@dataclasses.dataclass(frozen=True)
class VersionProblems:
    """Sentences about one host: what is refused, and what is worth a look."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def version_problems(host: Host, version: str, build: str = "") -> VersionProblems:
    """What of a host's definition this version of ESXi does not take.

    :arg version: such as ``8.0.3``.
    :arg build: the image's build, such as ``8.0.3-0.0.24022510``; without one only the version counts.
    """
    found = version_key(version)[:3]
    number = re.search(r"([0-9]+)\Z", build)
    errors = [
        f"{host.name}: {rule.option} needs ESXi {rule.since}, and the image {host.image} is {version}; {rule.instead}."
        for rule in RULES
        if rule.used(host) and not rule.known(found, int(number.group(1)) if number else 2**63)
    ]
    warnings = []
    if found >= (9,) and host.firmware == "bios":
        warnings.append(
            f"{host.name}: firmware is bios, and ESXi {version} may no longer start on BIOS machines; see its release "
            "notes, or switch the machine to UEFI."
        )
    return VersionProblems(tuple(errors), tuple(warnings))


def upgrade_problems(host: Host, before: str, after: str) -> tuple[str, ...]:
    """What speaks against an upgrade of a host from the version that it runs to that of its image."""
    if host.command != "upgrade":
        return ()
    old, new = version_key(before)[:3], version_key(after)[:3]
    if new < old:
        return (
            f"{host.name} runs ESXi {before}, and the image {host.image} is {after}: an upgrade does not go back; "
            "write an image that is newer, or ask for a reinstall.",
        )
    if old < (7,) and new >= (9,):
        return (
            f"{host.name} runs ESXi {before}, and the image {host.image} is {after}: there is no direct way from 6.x "
            "to 9; upgrade it to an image of ESXi 8 first.",
        )
    return ()
