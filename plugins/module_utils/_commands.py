# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the commands of ESXi's kickstart language, as the installer's manual states them."""

from __future__ import annotations

import dataclasses
import difflib
import re
import shlex
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Wrong, show
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import is_sha512_crypt

__all__ = [
    "COMMANDS",
    "INSTALL_COMMANDS",
    "SECTIONS",
    "Command",
    "check_command",
    "check_section",
    "SWITCHED_OFF_BY_UPGRADE",
    "extra_command",
    "extra_option",
    "split_command",
]

_NO, _YES, _MAYBE = "no", "yes", "maybe"

_TARGET = {"--disk": _YES, "--drive": _YES, "--firstdisk": _MAYBE}
_CHECKS = {"--ignoreprereqwarnings": _NO, "--ignoreprereqerrors": _NO}
_INSTALL = {**_TARGET, **_CHECKS, "--overwritevmfs": _NO, "--overwritevsan": _NO, "--forceunsupportedinstall": _NO}

# Name -> whether each option takes a value. The names on the right of _ALIASES are older spellings.
COMMANDS: dict[str, dict[str, str]] = {
    "vmaccepteula": {},
    "rootpw": {"--iscrypted": _NO},
    "clearpart": {
        "--drives": _YES,
        "--alldrives": _NO,
        "--ignoredrives": _YES,
        "--firstdisk": _MAYBE,
        "--overwritevmfs": _NO,
    },
    "install": {**_INSTALL, "--preservevmfs": _NO, "--novmfsondisk": _NO, "--ignoressd": _NO},
    "installorupgrade": {**_INSTALL, "--forcemigrate": _NO},
    "upgrade": {**_TARGET, **_CHECKS, "--diskBootedFrom": _NO, "--savebootbank": _YES, "--forcemigrate": _NO},
    "network": {
        "--bootproto": _YES,
        "--device": _YES,
        "--ip": _YES,
        "--netmask": _YES,
        "--gateway": _YES,
        "--nameserver": _YES,
        "--hostname": _YES,
        "--vlanid": _YES,
        "--addvmportgroup": _YES,
        "--nodns": _NO,
    },
    "part": {"--ondisk": _YES, "--onfirstdisk": _MAYBE},
    "reboot": {"--noeject": _NO},
    "keyboard": {},
    "serialnum": {"--esx": _YES},
    "dryrun": {},
    "paranoid": {},
    "%include": {},
}
# How many words a command takes besides its options; one with none is not listed. rootpw and part say so themselves.
_WORDS = {"keyboard": "NAME (in quotes when it has a blank)", "%include": "FILE"}
_ALIASES = {"accepteula": "vmaccepteula", "partition": "part", "vmserialnum": "serialnum", "include": "%include"}

INSTALL_COMMANDS = ("install", "installorupgrade", "upgrade")
# The installed system keeps what these would change.
SWITCHED_OFF_BY_UPGRADE = ("rootpw", "network", "keyboard", "serialnum", "clearpart", "part")

SECTIONS: dict[str, dict[str, str]] = {
    "%pre": {"--interpreter": _YES},
    "%post": {"--interpreter": _YES, "--timeout": _YES, "--ignorefailure": _YES},
    "%firstboot": {"--interpreter": _YES},
}


@dataclasses.dataclass(frozen=True)
class Command:
    """One line: ``options`` maps a name to its value ("" without one), ``words`` are the others, in order."""

    name: str
    options: dict[str, str]
    words: tuple[str, ...]

    def has(self, *names: str) -> list[str]:
        """Those of ``names`` that are given."""
        return [name for name in names if name in self.options]


def split_command(line: str) -> Command:
    """The words of a line, taken apart as a shell does; raises Wrong when a quote is left open."""
    try:
        words = shlex.split(line)
    except ValueError:
        raise Wrong("has a quote that is never closed; close it") from None
    options: dict[str, str] = {}
    others = []
    for word in words[1:]:
        if word.startswith("--"):
            name, _equals, value = word.partition("=")
            options[name] = value
        else:
            others.append(word)
    name = words[0] if words else ""
    return Command(_ALIASES.get(name, name), options, tuple(others))


def _check_options(command: Command, known: t.Mapping[str, str], strict: bool) -> t.Iterator[str]:
    for option, value in command.options.items():
        takes = known.get(option)
        if takes is None:
            close = difflib.get_close_matches(option, known, 1, 0.8)
            # The installer only warns of an option that it does not know, and later versions have more of them.
            if close or strict:
                advice = f"did you mean {close[0]}?" if close else "take it out"
                yield f"has no option {show(option)[1:-1]}; {advice}"
        elif takes == _YES and not value:
            yield f"{option} needs a value; write {option}=VALUE"
        elif takes == _NO and value:
            yield f"{option} takes no value; write {option} alone"


def check_section(command: Command) -> t.Iterator[str]:
    """What is wrong with the line that opens a section."""
    if command.name == "%firstboot" and "--level" in command.options:
        yield "has no option --level; take it out"
        return
    yield from _check_options(command, SECTIONS[command.name], strict=False)
    interpreter = command.options.get("--interpreter")
    if interpreter is not None and interpreter not in ("python", "busybox"):
        yield f"--interpreter is {show(interpreter)}; write python or busybox"


def check_command(command: Command, strict: bool = False) -> t.Iterator[str]:
    """What is wrong with a line by itself; ``strict`` (the command paranoid) makes every unknown word fatal."""
    known = COMMANDS.get(command.name)
    if known is None:
        close = difflib.get_close_matches(command.name, [*COMMANDS, *SECTIONS], 1)
        yield f"is no kickstart command; {'did you mean ' + close[0] + '?' if close else 'take it out'}"
        return
    yield from _check_options(command, known, strict)
    yield from _check_words(command)
    rule = _RULES.get(command.name)
    if rule is not None:
        yield from rule(command)


def _check_words(command: Command) -> t.Iterator[str]:
    wanted = _WORDS.get(command.name)
    if wanted is not None and len(command.words) != 1:
        yield f"needs exactly one word; write {command.name} {wanted}"
    elif wanted is None and command.words and command.name not in ("rootpw", "part"):
        # Not repeated: it may be a licence key.
        yield "has a word that it does not take; take it out, or put a value that has a blank in quotes"


def _one_of(command: Command, *names: str) -> t.Iterator[str]:
    given = command.has(*names)
    if len(given) != 1:
        yield f"needs exactly one of {', '.join(names)}; it has {' and '.join(given) or 'none'}"


def _check_install(command: Command) -> t.Iterator[str]:
    yield from _one_of(command, "--disk", "--drive", "--firstdisk")
    if len(command.has("--overwritevmfs", "--preservevmfs")) > 1:
        yield "has both --overwritevmfs and --preservevmfs; write one of them"
    if command.has("--ignoressd") and not command.has("--firstdisk"):
        yield "--ignoressd works with --firstdisk only; take it out"


def _check_installorupgrade(command: Command) -> t.Iterator[str]:
    yield from _one_of(command, "--disk", "--drive", "--firstdisk")
    for option in command.has("--preservevmfs", "--novmfsondisk", "--ignoressd"):
        yield f"{option} is an error with installorupgrade; take it out"


def _check_upgrade(command: Command) -> t.Iterator[str]:
    yield from _one_of(command, "--disk", "--drive", "--firstdisk", "--diskBootedFrom")
    if len(command.has("--diskBootedFrom", "--savebootbank")) == 1:
        yield "--diskBootedFrom and --savebootbank=UUID belong together; write both or neither"


def _check_rootpw(command: Command) -> t.Iterator[str]:
    if len(command.words) != 1:
        yield "needs the password's hash and nothing else; write rootpw --iscrypted HASH"
    elif "--iscrypted" not in command.options or not is_sha512_crypt(command.words[0]):
        # The word itself may be a password in plain text: it is not repeated.
        yield "is no SHA-512 hash; write rootpw --iscrypted with a hash that begins with $6$"


def _check_clearpart(command: Command) -> t.Iterator[str]:
    yield from _one_of(command, "--drives", "--alldrives", "--ignoredrives", "--firstdisk")


def _check_part(command: Command) -> t.Iterator[str]:
    if len(command.words) != 1:
        yield "needs one name; write part NAME --ondisk=DISK"
    yield from _one_of(command, "--ondisk", "--onfirstdisk")


def _check_network(command: Command) -> t.Iterator[str]:
    bootproto = command.options.get("--bootproto", "dhcp")
    if bootproto not in ("dhcp", "static"):
        yield f"--bootproto is {show(bootproto)}; write dhcp or static"
    if bootproto == "dhcp":
        for option in command.has("--ip", "--netmask", "--gateway"):
            yield f"{option} is an error with --bootproto=dhcp; take it out"
    if bootproto == "static":
        for option in ("--ip", "--netmask"):
            if option not in command.options:
                yield f"{option} is missing with --bootproto=static; add it"
    if "_" in command.options.get("--hostname", ""):
        yield "--hostname has an underscore, which fails the installation; write a hyphen instead"
    if command.options.get("--nameserver", "").count(",") > 1:
        yield "--nameserver has more than two servers, the installer uses two; write two"
    vlan = command.options.get("--vlanid", "0")
    if not (vlan.isdigit() and int(vlan) <= 4094):
        yield f"--vlanid is {show(vlan)}; write a number from 0 to 4094"
    if command.options.get("--addvmportgroup", "0") not in ("0", "1"):
        yield "--addvmportgroup takes 0 or 1; write one of them"


_RULES: dict[str, t.Callable[[Command], t.Iterator[str]]] = {
    "install": _check_install,
    "installorupgrade": _check_installorupgrade,
    "upgrade": _check_upgrade,
    "rootpw": _check_rootpw,
    "clearpart": _check_clearpart,
    "part": _check_part,
    "network": _check_network,
}

_INSTEAD = {
    "vmaccepteula": "it is always there",
    "rootpw": "the password is an option of its own",
    "install": "use disk",
    "installorupgrade": "use kickstart.command",
    "upgrade": "use kickstart.command",
    "network": "use network",
    "clearpart": "use kickstart.clearpart",
    "part": "use kickstart.partitions",
    "keyboard": "use kickstart.keyboard",
    "serialnum": "use kickstart.serial_number",
    "paranoid": "use kickstart.paranoid",
    "dryrun": "use kickstart.dryrun",
    "reboot": "it is always there; use kickstart.no_eject",
}


def extra_option(value: object) -> str:
    """An option of install, installorupgrade or upgrade that this collection does not know. Raises Wrong."""
    pattern = r"--[A-Za-z][A-Za-z0-9]{1,40}(?:=[A-Za-z0-9][A-Za-z0-9._:,/+-]{0,255})?\Z"
    if not isinstance(value, str) or not re.match(pattern, value):
        raise Wrong(f"is {show(value)}; write an option such as --dpupcislots=2, without blanks")
    name = value.partition("=")[0].lower()
    known = {option.lower() for command in INSTALL_COMMANDS for option in COMMANDS[command]}
    if name in known:
        raise Wrong(f"is {show(name)}, which the collection writes itself; use disk or kickstart (docs/kickstart.md)")
    return str(value)


def extra_command(value: object) -> str:
    """A line that a definition adds: %include, or a command that this collection does not know. Raises Wrong."""
    if not isinstance(value, str) or not re.match(r"[a-z%][ -~]{0,1023}\Z", value):
        raise Wrong(f"is {show(value)}; write one line of printable ASCII that begins with a command")
    line = str(value).rstrip()
    command = split_command(line)
    if command.name.startswith("%") and command.name != "%include":
        raise Wrong(
            f"opens a section; write the script in kickstart.{command.name[1:] if command.name in SECTIONS else 'pre'}"
        )
    if command.name in _INSTEAD:
        raise Wrong(f"is the command {command.name}; {_INSTEAD[command.name]}")
    if command.name in COMMANDS:
        for wrong in check_command(command):
            raise Wrong(f"{command.name} {wrong}")
    return line
