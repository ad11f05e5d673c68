# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ESXi's installer accepts as a kickstart, as a strict checker for tests.

Written from the installer's documented rules alone. It imports nothing of the collection and nothing of the lab's
stand-in installer, so that it cannot share their mistakes. Strict: what the installer only warns of is a violation too.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
import shlex
import shutil
import subprocess
import typing as t

__all__ = ["COMMANDS", "MOST_COMMANDS", "CommandLine", "Kickstart", "Script", "Violation", "check", "read"]

MOST_COMMANDS = 256


@dataclasses.dataclass(frozen=True)
class Violation:
    """``rule`` is a short name, ``line`` counts from 1 (0: the whole kickstart), ``fact`` is what the rule says."""

    rule: str
    line: int
    fact: str


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """One command. ``words`` are the shell's words of the line; empty when a quote is left open."""

    number: int
    line: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The command in its usual spelling."""
        return _SPELLINGS.get(self.words[0], self.words[0]) if self.words else ""

    @property
    def options(self) -> tuple[tuple[str, str | None], ...]:
        """(--option, value) in order; None where there is no equals sign."""
        found = []
        for word in self.words[1:]:
            if word.startswith("--"):
                option, equals, value = word.partition("=")
                found.append((option, value if equals else None))
        return tuple(found)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words that are no options."""
        return tuple(word for word in self.words[1:] if not word.startswith("--"))

    def has(self, *options: str) -> list[str]:
        """Those of ``options`` that are given."""
        given = {option for option, _value in self.options}
        return [option for option in options if option in given]

    def value(self, option: str) -> str | None:
        """The value of an option; None when it has none or is not there."""
        return dict(self.options).get(option)


@dataclasses.dataclass(frozen=True)
class Script:
    """One section: its opening line taken apart, and its lines, the first of which is ``opening.number + 1``."""

    opening: CommandLine
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the interpreter gets."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def interpreter(self) -> str:
        """busybox unless said otherwise."""
        return self.opening.value("--interpreter") or "busybox"


@dataclasses.dataclass(frozen=True)
class Kickstart:
    """The commands, which come before all sections, and the sections."""

    commands: tuple[CommandLine, ...]
    scripts: tuple[Script, ...]


# An option's value: there must be none, must be one (that the function finds good), or may be one.
Problem = t.Optional[str]
_Check = t.Callable[[str], Problem]


@dataclasses.dataclass(frozen=True)
class _Option:
    value: t.Literal["none", "needed", "possible"]
    check: _Check | None = None


def _choice(*words: str) -> _Check:
    return lambda value: None if value in words else f"takes {' or '.join(words)}"


def _number(low: int, high: int) -> _Check:
    def check(value: str) -> Problem:
        good = re.fullmatch("[0-9]{1,9}", value) and low <= int(value) <= high
        return None if good else f"takes a whole number from {low} to {high}"

    return check


def _address(value: str) -> Problem:
    try:
        return None if str(ipaddress.IPv4Address(value)) == value else "takes an IPv4 address"
    except ValueError:
        return "takes an IPv4 address"


def _netmask(value: str) -> Problem:
    try:
        return None if ipaddress.IPv4Network(f"0.0.0.0/{value}").netmask == ipaddress.IPv4Address(value) else "netmask"
    except ValueError:
        return "takes a netmask such as 255.255.255.0"


def _nameservers(value: str) -> Problem:
    servers = value.split(",")
    if len(servers) > 2:
        return "the installer uses two name servers"
    return next((problem for problem in map(_address, servers) if problem), None)


def _device(value: str) -> Problem:
    good = re.fullmatch(r"vmnic[0-9]+|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", value)
    return None if good else "takes vmnicN or a MAC address"


def _host_name(value: str) -> Problem:
    if "_" in value:
        return "a host name with an underscore fails the install"
    label = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    good = len(value) <= 253 and re.fullmatch(rf"{label}(?:\.{label})*", value)
    return None if good else "takes a host name of letters, digits, hyphens and dots"


def _drives(value: str) -> Problem:
    return None if all(re.fullmatch(r"[^\s,'\"]+", name) for name in value.split(",")) else "takes names of disks"


def _drive(value: str) -> Problem:
    return "takes one disk" if "," in value else _drives(value)


def _first_disks(value: str) -> Problem:
    words = value.split(",")
    if not all(word.strip() == word and word for word in words):
        return "takes local, remote, usb, models and drivers with commas between them"
    # A longer model never matches, so that the installer stops at the console.
    return None if all(len(word) <= 16 for word in words) else "disk models are cut at 16 characters"


def _bootbank(value: str) -> Problem:
    good = re.fullmatch("[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}", value)
    return None if good else "takes a boot bank's UUID"


_NONE = _Option("none")
_DISK = {"--disk": _Option("needed", _drive), "--drive": _Option("needed", _drive)}
_FIRST = _Option("possible", _first_disks)
_INSTALLORUPGRADE = {
    **_DISK,
    "--firstdisk": _FIRST,
    "--overwritevmfs": _NONE,
    "--overwritevsan": _NONE,
    "--forceunsupportedinstall": _NONE,
    "--forcemigrate": _NONE,
    "--ignoreprereqwarnings": _NONE,
    "--ignoreprereqerrors": _NONE,
}

_OPTIONS: dict[str, dict[str, _Option]] = {
    "vmaccepteula": {},
    "rootpw": {"--iscrypted": _NONE},
    "clearpart": {
        "--drives": _Option("needed", _drives),
        "--alldrives": _NONE,
        "--ignoredrives": _Option("needed", _drives),
        "--firstdisk": _FIRST,
        "--overwritevmfs": _NONE,
    },
    "install": {
        **{option: kind for option, kind in _INSTALLORUPGRADE.items() if option != "--forcemigrate"},
        "--preservevmfs": _NONE,
        "--novmfsondisk": _NONE,
        "--ignoressd": _NONE,
    },
    "installorupgrade": _INSTALLORUPGRADE,
    "upgrade": {
        "--disk": _DISK["--disk"],
        "--firstdisk": _FIRST,
        "--diskBootedFrom": _NONE,
        "--savebootbank": _Option("needed", _bootbank),
        "--ignoreprereqwarnings": _NONE,
        "--ignoreprereqerrors": _NONE,
        "--forcemigrate": _NONE,
    },
    "network": {
        "--bootproto": _Option("needed", _choice("dhcp", "static")),
        "--device": _Option("needed", _device),
        "--ip": _Option("needed", _address),
        "--netmask": _Option("needed", _netmask),
        "--gateway": _Option("needed", _address),
        "--nameserver": _Option("needed", _nameservers),
        "--hostname": _Option("needed", _host_name),
        "--vlanid": _Option("needed", _number(0, 4095)),
        "--addvmportgroup": _Option("needed", _choice("0", "1")),
        "--nodns": _NONE,
    },
    "part": {"--ondisk": _Option("needed", _drive), "--onfirstdisk": _FIRST},
    "reboot": {"--noeject": _NONE},
    "keyboard": {},
    "serialnum": {"--esx": _Option("needed")},
    "dryrun": {},
    "paranoid": {},
    "%include": {},
}
COMMANDS = frozenset(_OPTIONS)
_ARGUMENTS = {"rootpw": 1, "part": 1, "keyboard": 1, "%include": 1}
_MORE_THAN_ONCE = ("part", "%include")
_SPELLINGS = {"accepteula": "vmaccepteula", "partition": "part", "vmserialnum": "serialnum", "include": "%include"}

_INTERPRETER = {"--interpreter": _Option("needed", _choice("python", "busybox"))}
_SECTIONS: dict[str, dict[str, _Option]] = {
    "%pre": _INTERPRETER,
    "%post": {
        **_INTERPRETER,
        "--timeout": _Option("needed", _number(1, 10**9)),
        "--ignorefailure": _Option("needed", _choice("true", "false")),
    },
    "%firstboot": _INTERPRETER,
}


def _command(number: int, line: str) -> CommandLine:
    try:
        words = tuple(shlex.split(line))
    except ValueError:
        words = ()
    return CommandLine(number, line, words)


def read(text: str) -> Kickstart:
    """Takes a kickstart apart as the installer does: a section lasts until the next line that begins with ``%``."""
    commands: list[CommandLine] = []
    scripts: list[tuple[CommandLine, list[str]]] = []
    for number, line in enumerate(text.split("\n")[: -1 if text.endswith("\n") else None], 1):
        if re.match(r"%(?!include\b)", line):
            scripts.append((_command(number, line), []))
        elif scripts:
            scripts[-1][1].append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            commands.append(_command(number, line.strip()))
    return Kickstart(tuple(commands), tuple(Script(opening, tuple(lines)) for opening, lines in scripts))


def check(text: str, unknown: t.Collection[str] = ()) -> list[Violation]:
    """Every rule that the kickstart breaks; [] for a good one.

    ``unknown`` are whole command lines that are meant although no rule knows their command: the installer warns of
    them, unless it is ``paranoid``.
    """
    kickstart = read(text)
    return [
        *_check_text(text),
        *_check_commands(kickstart, unknown),
        *_check_whole(kickstart),
        *(violation for script in kickstart.scripts for violation in _check_script(script)),
    ]


def _check_text(text: str) -> t.Iterator[Violation]:
    for number, line in enumerate(text.split("\n"), 1):
        if not re.fullmatch(r"[\t -~]*", line):
            yield Violation("ascii", number, "a kickstart is printable ASCII with Unix line ends")
    if not text.endswith("\n"):
        yield Violation("last-line", text.count("\n") + 1, "the last line ends in a newline")


def _check_commands(kickstart: Kickstart, unknown: t.Collection[str]) -> t.Iterator[Violation]:
    paranoid = any(command.name == "paranoid" for command in kickstart.commands)
    for command in kickstart.commands:
        if not command.words:
            yield Violation("quotes", command.number, "a quote is left open")
        elif command.name in _OPTIONS:
            yield from _check_options(command, _OPTIONS[command.name])
            wanted = _ARGUMENTS.get(command.name, 0)
            if len(command.arguments) != wanted:
                yield Violation("arguments", command.number, f"{command.name} takes {wanted} words besides its options")
            elif command.name in _RULES:
                for rule, fact in _RULES[command.name](command):
                    yield Violation(rule, command.number, fact)
        elif paranoid:
            yield Violation("unknown-command", command.number, "paranoid makes an unknown command fatal")
        elif command.line not in unknown:
            yield Violation("unknown-command", command.number, f"{command.name} is no command of the installer")


def _check_options(command: CommandLine, known: t.Mapping[str, _Option]) -> t.Iterator[Violation]:
    seen = set()
    for name, value in command.options:
        if name in seen:
            yield Violation("repeated-option", command.number, f"{name} is there more than once")
        seen.add(name)
        option = known.get(name)
        if option is None:
            yield Violation("unknown-option", command.number, f"{command.name} has no option {name}")
        elif option.value == "none" and value is not None:
            yield Violation("option-value", command.number, f"{name} takes no value")
        elif (option.value == "needed" and not value) or value == "":
            yield Violation("option-value", command.number, f"{name} needs a value")
        elif value and option.check is not None:
            problem = option.check(value)
            if problem is not None:
                rule = "host-name" if name == "--hostname" else "option-value"
                yield Violation(rule, command.number, f"{name}: {problem}")


Broken = t.Iterator[tuple[str, str]]


def _rule_target(command: CommandLine, *targets: str) -> Broken:
    if len(command.has(*targets)) != 1:
        yield "one-target", f"{command.name} needs exactly one of {', '.join(targets)}"


def _rule_install(command: CommandLine) -> Broken:
    yield from _rule_target(command, "--disk", "--drive", "--firstdisk")
    if len(command.has("--overwritevmfs", "--preservevmfs")) == 2:
        yield "vmfs", "--overwritevmfs and --preservevmfs exclude each other"
    if command.has("--ignoressd") and not command.has("--firstdisk"):
        yield "ignoressd", "--ignoressd is for --firstdisk only"


def _rule_installorupgrade(command: CommandLine) -> Broken:
    yield from _rule_target(command, "--disk", "--drive", "--firstdisk")


def _rule_upgrade(command: CommandLine) -> Broken:
    yield from _rule_target(command, "--disk", "--firstdisk", "--diskBootedFrom")
    if len(command.has("--diskBootedFrom", "--savebootbank")) == 1:
        # The installer reads the one where it is given the other, and fails without it.
        yield "bootbank", "--diskBootedFrom and --savebootbank=UUID belong together"


def _rule_clearpart(command: CommandLine) -> Broken:
    yield from _rule_target(command, "--drives", "--alldrives", "--ignoredrives", "--firstdisk")


def _rule_part(command: CommandLine) -> Broken:
    yield from _rule_target(command, "--ondisk", "--onfirstdisk")


_HASHES = (
    r"\$6\$(?:rounds=[0-9]{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}|\$1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}"
)
_DES_HASH = r"[./A-Za-z0-9]{13}"


def _rule_rootpw(command: CommandLine) -> Broken:
    (word,) = command.arguments
    if command.has("--iscrypted"):
        if word.startswith("$5$"):
            yield "password", "a SHA-256 hash ($5$) is refused"
        elif not re.fullmatch(f"{_HASHES}|{_DES_HASH}", word):
            yield "password", "--iscrypted takes a SHA-512 ($6$), MD5 ($1$) or DES hash"
        return
    classes = sum(bool(re.search(kind, word)) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"))
    if not 7 <= len(word) <= 40:
        yield "password", "a password in plain text has 7 to 40 characters"
    if classes < 3:
        yield "password", "a password in plain text has characters of three classes"


def _rule_network(command: CommandLine) -> Broken:
    if command.value("--bootproto") == "static":
        for option in ("--ip", "--netmask"):
            if not command.has(option):
                yield "static", f"--bootproto=static needs {option}"
        gateway, address, mask = (command.value(f"--{option}") for option in ("gateway", "ip", "netmask"))
        if gateway and address and mask and not (_address(gateway) or _address(address) or _netmask(mask)):
            if ipaddress.IPv4Address(gateway) not in ipaddress.IPv4Network(f"{address}/{mask}", strict=False):
                yield "static", "the gateway is outside the host's network"
        return
    # Without --bootproto it is DHCP.
    for option in command.has("--ip", "--netmask", "--gateway"):
        yield "dhcp", f"{option} is an error with DHCP"
    for option in command.has("--hostname", "--nameserver"):
        yield "dhcp-ignored", f"{option} is ignored with DHCP"


_RULES: dict[str, t.Callable[[CommandLine], Broken]] = {
    "install": _rule_install,
    "installorupgrade": _rule_installorupgrade,
    "upgrade": _rule_upgrade,
    "clearpart": _rule_clearpart,
    "part": _rule_part,
    "rootpw": _rule_rootpw,
    "network": _rule_network,
}


def _check_whole(kickstart: Kickstart) -> t.Iterator[Violation]:
    places: dict[str, list[int]] = {}
    for command in kickstart.commands:
        places.setdefault(command.name, []).append(command.number)
    installs = [name for name in ("install", "installorupgrade", "upgrade") if name in places]
    if "vmaccepteula" not in places:
        yield Violation("eula", 0, "vmaccepteula is required")
    if len(installs) != 1:
        yield Violation("one-install", 0, "exactly one of install, installorupgrade and upgrade")
    if installs == ["upgrade"]:
        for name in ("rootpw", "network", "keyboard", "serialnum", "clearpart", "part"):
            for number in places.get(name, ()):
                yield Violation("switched-off", number, f"upgrade switches {name} off")
    elif "rootpw" not in places:
        yield Violation("rootpw", 0, "rootpw is required for an install")
    if "clearpart" in places and "install" not in places:
        yield Violation("clearpart", places["clearpart"][0], "clearpart needs install")
    for name, numbers in places.items():
        if name in _OPTIONS and name not in _MORE_THAN_ONCE:
            for number in numbers[1:]:
                yield Violation("repeated-command", number, f"{name} is there more than once")
    count = len(kickstart.commands) + len(kickstart.scripts)
    if count > MOST_COMMANDS:
        yield Violation("most-commands", 0, f"the installer takes {MOST_COMMANDS} commands, there are {count}")


def _check_script(script: Script) -> t.Iterator[Violation]:
    opening = script.opening
    if not opening.words:
        yield Violation("quotes", opening.number, "a quote is left open")
        return
    if opening.name not in _SECTIONS:
        yield Violation("unknown-section", opening.number, "the sections are %pre, %post and %firstboot")
        return
    yield from _check_options(opening, _SECTIONS[opening.name])
    if opening.arguments:
        yield Violation("arguments", opening.number, f"{opening.name} takes options only")
    for number, line in enumerate(script.lines, opening.number + 1):
        if re.match(r"%include\b", line):
            yield Violation("include", number, "%include is a command and comes before all sections")
        elif re.match(r"\s*%(?:pre|post|firstboot|include)\b", line):
            yield Violation("section-line", number, "a line of a script could be taken for a section's first line")
    if script.interpreter == "python":
        yield from _check_python(script)
    else:
        yield from _check_shell(script)


def _check_python(script: Script) -> t.Iterator[Violation]:
    try:
        compile(script.text, "section", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        yield Violation("syntax", script.opening.number, f"{script.opening.name} is no Python")


def _check_shell(script: Script) -> t.Iterator[Violation]:
    own: list[str] = []
    end, opened = None, 0
    for number, line in enumerate(script.lines, script.opening.number + 1):
        if end is not None:
            end = None if line == end else end
            continue
        if not line.lstrip().startswith("#"):
            own.append(line)
            found = re.search(r"(?<!<)<<-?\s*(['\"]?)([A-Za-z_]\w*)\1", line)
            if found:
                end, opened = found.group(2), number
    if end is not None:
        yield Violation("here-document", opened, "a here-document ends inside its own section")
    if script.opening.name != "%firstboot" and any(re.search(r"(?:^|[\s;&|(])esxcli\s", line) for line in own):
        yield Violation("tool", script.opening.number, "the installer's system has localcli, esxcli is for %firstboot")
    for shell in _shells():
        if not _parses(shell, script.text):
            yield Violation("syntax", script.opening.number, f"{shell[0]} cannot read {script.opening.name}")


@functools.cache
def _shells() -> tuple[tuple[str, ...], ...]:
    """ESXi's shell is busybox's; dash is its relative, for machines without busybox. One of them must be there."""
    known = (("busybox", "sh"), ("dash",))
    found = tuple((path, *words[1:]) for words in known for path in (shutil.which(words[0]),) if path)
    return found[:1] or (("/bin/sh",),)


@functools.lru_cache(maxsize=4096)
def _parses(shell: tuple[str, ...], text: str) -> bool:
    done = subprocess.run(
        [*shell, "-n"], input=text.encode("utf-8", "surrogateescape"), capture_output=True, check=False
    )
    return done.returncode == 0 and not done.stderr
