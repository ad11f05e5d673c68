# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: reading a kickstart back as the installer would, to check and to show it.

A site's own template may have made anything of a kickstart, so the rendered text is checked and not only its parts.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._commands import (
    COMMANDS,
    INSTALL_COMMANDS,
    SECTIONS,
    SWITCHED_OFF_BY_UPGRADE,
    Command,
    check_command,
    check_section,
    split_command,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Wrong, show
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import PLACEHOLDER_TOKEN, PLACEHOLDER_URL

__all__ = ["Section", "check_kickstart", "mask_secrets", "split_kickstart"]

# The installer's own limit.
_MOST_COMMANDS = 256
# More sentences than these help nobody: one lost newline makes a mistake of every line of a script.
_MOST_ERRORS = 10
_ASCII = re.compile(r"[\n\t -~]*\Z")
_SWALLOWED = re.compile(r"(?<=.)%(?:pre|post|firstboot) --interpreter=")


@dataclasses.dataclass(frozen=True)
class Section:
    """One %pre, %post or %firstboot: its opening line, that line's number, and the lines of its script."""

    line: str
    number: int
    script: tuple[str, ...]


def split_kickstart(text: str) -> tuple[list[tuple[int, str]], list[Section]]:
    """The command lines (number, line; blanks and comments left out) and the sections of a kickstart.

    A section lasts until the next line that begins with ``%`` and a word, as the installer has it.
    """
    commands: list[tuple[int, str]] = []
    sections: list[Section] = []
    script: t.Optional[list[str]] = None
    opening = (0, "")

    def close() -> None:
        if script is not None:
            sections.append(Section(opening[1], opening[0], tuple(script)))

    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("%") and not (line.startswith("%include") and script is None):
            close()
            script, opening = [], (number, line)
        elif script is not None:
            script.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            commands.append((number, line.strip()))
    close()
    return commands, sections


def check_kickstart(text: str, host: Host) -> list[str]:
    """What the installer or the collection would stumble over in a rendered kickstart; [] when it is good.

    Each sentence names the line. A secret is never repeated.
    """
    errors: list[str] = []
    if not _ASCII.match(text):
        errors.extend(
            f"line {number} of the kickstart has characters other than printable ASCII; take them out."
            for number, line in enumerate(text.split("\n"), 1)
            if not _ASCII.match(line)
        )
    if host.disk.existing_vmfs != "overwrite" or host.command == "upgrade":
        errors.extend(
            f"line {number} of the kickstart says --overwritevmfs, which the definition does not ask for; "
            "take it out, or set disk.existing_vmfs: overwrite."
            for number in _overwriting_lines(text)
        )
    errors.extend(_swallowed_sections(text))
    lines, sections = split_kickstart(text)
    commands = _check_lines(lines, host, errors)
    _check_whole(commands, host, errors)
    _check_sections(sections, host.secure_boot, errors)
    if len(lines) + len(sections) > _MOST_COMMANDS:
        errors.append(
            f"the kickstart has {len(lines) + len(sections)} commands, the installer takes {_MOST_COMMANDS}; "
            "move some into a script."
        )
    if len(errors) > _MOST_ERRORS:
        errors[_MOST_ERRORS:] = [f"{len(errors) - _MOST_ERRORS} more mistakes follow from these, or come after them."]
    return errors


def _swallowed_sections(text: str) -> t.Iterator[str]:
    """Sections that do not begin their line, which is what a Jinja include without a final newline makes of them."""
    if not _SWALLOWED.search(text):
        return
    for number, line in enumerate(text.split("\n"), 1):
        found = _SWALLOWED.search(line)
        if found and not line.startswith("|"):
            yield (
                f"line {number} of the kickstart has {found.group().split()[0]} in its middle; a section must begin a "
                "line (Jinja takes away the newline after a block or an include, so leave a blank line there)."
            )


def _overwriting_lines(text: str) -> t.Iterator[int]:
    """The numbers of the lines that would overwrite a datastore, scripts included: a script can write what is included.

    Quotes do not hide the word, for they do not hide it from the installer.
    """
    if "vmfs" not in text.lower():
        return
    for number, line in enumerate(text.split("\n"), 1):
        if "overwritevmfs" in re.sub(r"[\\'\"]", "", line.lower()) and not line.lstrip().startswith("#"):
            yield number


def _check_lines(lines: t.Sequence[tuple[int, str]], host: Host, errors: list[str]) -> list[Command]:
    commands = []
    paranoid = any(line == "paranoid" for _number, line in lines)
    for number, line in lines:
        try:
            command = split_command(line)
        except Wrong as wrong:
            errors.append(f"line {number} of the kickstart {wrong}.")
            continue
        commands.append(command)
        if line in host.kickstart.extra_commands and command.name not in COMMANDS and not paranoid:
            # The definition says so in as many words, and the installer only warns.
            continue
        for wrong_text in check_command(command, strict=paranoid):
            stop = "" if wrong_text.endswith("?") else "."
            name = show(command.name)[1:-1]
            errors.append(f"line {number} of the kickstart, {name}: {wrong_text}{stop}")
    return commands


def _check_whole(commands: t.Sequence[Command], host: Host, errors: list[str]) -> None:
    names = [command.name for command in commands]
    installs = [name for name in names if name in INSTALL_COMMANDS]
    if "vmaccepteula" not in names:
        errors.append("the kickstart has no vmaccepteula; add it.")
    if len(installs) > 1:
        errors.append(f"the kickstart has {', '.join(installs)}; leave exactly one of them.")
    elif not installs and "%include" not in names:
        errors.append(
            "the kickstart has no install, installorupgrade or upgrade; add {{ ks.commands }} or one of them."
        )
    if "rootpw" not in names and "upgrade" not in installs:
        errors.append("the kickstart has no rootpw; add rootpw --iscrypted with a hash that begins with $6$.")
    if host.command == "upgrade" and any(name != "upgrade" for name in installs):
        # A template of somebody's own that says install would take away what the upgrade was asked to keep.
        errors.append(
            f"the kickstart says {', '.join(installs)}, and an upgrade is asked for; write {{{{ ks.install }}}} there."
        )
    if "upgrade" in installs:
        errors.extend(
            f"the kickstart has {name}, which an upgrade does not take; write it only where ks.{piece} is not empty."
            for name, piece in zip(
                SWITCHED_OFF_BY_UPGRADE, ("rootpw", "network", "keyboard", "serial_number", "clearpart", "partitions")
            )
            if name in names
        )
    if names.count("rootpw") > 1:
        errors.append("the kickstart has rootpw more than once; leave one.")
    if "clearpart" in names and "install" not in names and "%include" not in names:
        errors.append("the kickstart has clearpart without install; take it out.")


def _check_sections(sections: t.Sequence[Section], secure_boot: bool, errors: list[str]) -> None:
    for section in sections:
        try:
            opening = split_command(section.line)
        except Wrong as wrong:
            errors.append(f"line {section.number} of the kickstart {wrong}.")
            continue
        if opening.name not in SECTIONS:
            errors.append(
                f"line {section.number} of the kickstart begins with {show(opening.name)}, which is no section; "
                f"there are {', '.join(SECTIONS)}."
            )
            continue
        errors.extend(
            f"line {section.number} of the kickstart, {opening.name}: {wrong}." for wrong in check_section(opening)
        )
    needed = [
        ("%pre", "installing", "the PXE server would never learn that the install began, and would begin it again")
    ]
    if not secure_boot:
        needed.append(("%firstboot", "ready", "the host would never be reported as ready"))
    for name, stage, why in needed:
        named = [section for section in sections if section.line.split()[0] == name]
        # Only the first %pre will do: whatever runs before it could fail with the host still armed.
        if not any(_calls(section, stage) for section in (named[:1] if name == "%pre" else named)):
            which = "first %pre" if name == "%pre" else name
            errors.append(
                f"the kickstart's {which} does not call pbconnect ({stage}), so {why}; add {{{{ ks.{name[1:]} }}}}."
            )


def _calls(section: Section, stage: str) -> bool:
    """Whether the script, but for its comments and the text that others wrote, can report the stage."""
    whole = "\n".join(line for line in section.script if not line.startswith(("#", "|")))
    return (
        PLACEHOLDER_URL in whole
        and PLACEHOLDER_TOKEN in whole
        and re.search(rf"(?m)^[^#\n]*\b{stage}\b", whole) is not None
    )


def mask_secrets(text: str) -> str:
    """The kickstart as a person may see it in a difference: without password hash and licence keys."""
    text = re.sub(r"(?m)^(\s*rootpw\b).*$", r"\1 ********", text)
    text = re.sub(r"(?m)^(\s*(?:vm)?serialnum\b).*$", r"\1 ********", text)
    return re.sub(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){4}\b", "********", text)
