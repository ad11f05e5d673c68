# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kickstart as ESXi's installer reads it: sections, commands, and the rules whose breach stops an install."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass, field

MAX_COMMANDS = 256
SECTIONS = {
    "%pre": {"interpreter"},
    "%post": {"interpreter", "timeout", "ignorefailure"},
    "%firstboot": {"interpreter"},
}
COMMANDS = frozenset(
    (
        "accepteula",
        "vmaccepteula",
        "rootpw",
        "clearpart",
        "install",
        "installorupgrade",
        "upgrade",
        "network",
        "part",
        "partition",
        "reboot",
        "keyboard",
        "serialnum",
        "vmserialnum",
        "dryrun",
        "paranoid",
        "include",
        "%include",
    )
)
_SWITCHED_OFF = ("rootpw", "network", "keyboard", "serialnum", "vmserialnum", "clearpart", "part", "partition")
_UPGRADE_OPTIONS = frozenset(
    (
        "disk",
        "drive",
        "firstdisk",
        "diskBootedFrom",
        "savebootbank",
        "forcemigrate",
        "ignoreprereqwarnings",
        "ignoreprereqerrors",
    )
)
_INSTALL_OPTIONS = frozenset(
    (
        "disk",
        "drive",
        "firstdisk",
        "overwritevmfs",
        "preservevmfs",
        "novmfsondisk",
        "overwritevsan",
        "ignoressd",
        "forceunsupportedinstall",
        "ignoreprereqwarnings",
        "ignoreprereqerrors",
    )
)


class KickstartError(ValueError):
    """The installer stops with this message."""


@dataclass(frozen=True)
class Command:
    """One command: its name, options (``None`` as value for a bare one) and positional words."""

    name: str
    options: dict[str, str | None]
    words: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Section:
    """A script: ``%pre``, ``%post`` or ``%firstboot``, with its options."""

    name: str
    options: dict[str, str]
    text: str

    @property
    def interpreter(self) -> str:
        """``busybox`` (also when nothing is said) or ``python``."""
        return self.options.get("interpreter", "busybox")


@dataclass
class Kickstart:
    """Everything of a kickstart, and what the installer would warn of."""

    commands: list[Command] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def scripts(self, name: str) -> list[Section]:
        """The scripts of one kind, in order."""
        return [section for section in self.sections if section.name == name]

    def one(self, *names: str) -> Command | None:
        """The last command with one of these names."""
        return next((command for command in reversed(self.commands) if command.name in names), None)


def _options(words: list[str]) -> tuple[dict[str, str | None], tuple[str, ...]]:
    options: dict[str, str | None] = {}
    rest = []
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            options[key] = value if equals else None
        else:
            rest.append(word)
    return options, tuple(rest)


def parse(text: str) -> Kickstart:
    """Split a kickstart into commands and sections; raises ``KickstartError``."""
    if not text.isascii():
        raise KickstartError("the kickstart is not plain ASCII")
    kickstart = Kickstart()
    body: list[str] | None = None
    header: tuple[str, dict[str, str]] | None = None

    def finish() -> None:
        if header is not None and body is not None:
            kickstart.sections.append(Section(header[0], header[1], "\n".join(body) + "\n"))

    for number, line in enumerate(text.splitlines(), 1):
        first = line.split(None, 1)[0] if line.strip() else ""
        if line.startswith("%") and first != "%include":
            finish()
            header, body = None, None
            if first == "%end":
                continue
            if first not in SECTIONS:
                raise KickstartError(f"line {number}: unknown section {first}")
            given, _rest = _options(shlex.split(line)[1:])
            for key in set(given) - SECTIONS[first]:
                kickstart.warnings.append(f"line {number}: {first} does not know --{key}")
            header, body = (first, {key: value or "" for key, value in given.items()}), []
            if header[1].get("interpreter", "busybox") not in ("busybox", "python"):
                raise KickstartError(f"line {number}: no such interpreter: {header[1]['interpreter']}")
        elif body is not None:
            body.append(line)
        elif first and not first.startswith("#"):
            _command(kickstart, line, number)
    finish()
    return kickstart


def _command(kickstart: Kickstart, line: str, number: int) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise KickstartError(f"line {number}: {error}") from error
    if not words:
        return
    name = words[0]
    if name in ("%include", "include"):
        if len(words) != 2:
            raise KickstartError(f"line {number}: %include takes one file")
        kickstart.includes.append(words[1])
        return
    if name not in COMMANDS:
        kickstart.warnings.append(f"line {number}: unknown command {name}")
        return
    options, rest = _options(words[1:])
    kickstart.commands.append(Command(name, options, rest, number))


def check(kickstart: Kickstart) -> None:
    """The rules that hold for an install and for an upgrade; raises ``KickstartError`` with the installer's reason."""
    if len(kickstart.commands) > MAX_COMMANDS:
        raise KickstartError(f"{len(kickstart.commands)} commands, the limit is {MAX_COMMANDS}")
    if kickstart.one("paranoid") and kickstart.warnings:
        raise KickstartError(f"paranoid: {kickstart.warnings[0]}")
    if not kickstart.one("accepteula", "vmaccepteula"):
        raise KickstartError("vmaccepteula is missing")
    installs = [command for command in kickstart.commands if command.name in ("install", "installorupgrade", "upgrade")]
    if len(installs) != 1:
        raise KickstartError("exactly one of install, installorupgrade and upgrade must be given")
    if installs[0].name == "upgrade":
        _check_upgrade(kickstart, installs[0])
        return
    _check_rootpw(kickstart)
    _check_install(kickstart, installs[0])
    _check_network(kickstart)


def _check_upgrade(kickstart: Kickstart, upgrade: Command) -> None:
    targets = {"disk", "drive", "firstdisk", "diskBootedFrom"} & set(upgrade.options)
    if len(targets) != 1:
        raise KickstartError("upgrade: exactly one of --disk, --firstdisk and --diskBootedFrom must be given")
    if ("diskBootedFrom" in upgrade.options) != bool(upgrade.options.get("savebootbank")):
        raise KickstartError("upgrade: --diskBootedFrom and --savebootbank=UUID belong together")
    for option in set(upgrade.options) - _UPGRADE_OPTIONS:
        kickstart.warnings.append(f"line {upgrade.line}: upgrade does not know --{option}")
    for command in kickstart.commands:
        if command.name in _SWITCHED_OFF:
            kickstart.warnings.append(f"line {command.line}: {command.name} is not valid with upgrade, it is ignored")


def _check_rootpw(kickstart: Kickstart) -> None:
    rootpw = kickstart.one("rootpw")
    if rootpw is None or len(rootpw.words) != 1:
        raise KickstartError("rootpw is missing or has no password")
    if "iscrypted" in rootpw.options:
        if not re.fullmatch(
            r"\$(6\$([^$]{1,16}|rounds=\d+\$[^$]{1,16})\$[./0-9A-Za-z]{86}|1\$[^$]{1,8}\$[./0-9A-Za-z]{22})",
            rootpw.words[0],
        ):
            raise KickstartError("rootpw --iscrypted: not a SHA-512 or MD5 crypt hash")
        return
    classes = sum(bool(re.search(kind, rootpw.words[0])) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^a-zA-Z0-9]"))
    if not 7 <= len(rootpw.words[0]) <= 40 or classes < 3:
        raise KickstartError("rootpw: the password is too weak")


def _check_install(kickstart: Kickstart, install: Command) -> None:
    targets = {"disk", "drive", "firstdisk"} & set(install.options)
    if len(targets) != 1:
        raise KickstartError(f"{install.name}: exactly one of --disk and --firstdisk must be given")
    if {"overwritevmfs", "preservevmfs"} <= set(install.options):
        raise KickstartError("install: --overwritevmfs and --preservevmfs exclude each other")
    for option in set(install.options) - _INSTALL_OPTIONS:
        kickstart.warnings.append(f"line {install.line}: {install.name} does not know --{option}")
    if "ignoressd" in install.options and "firstdisk" not in install.options:
        raise KickstartError("install: --ignoressd goes with --firstdisk only")


def _check_network(kickstart: Kickstart) -> None:
    network = kickstart.one("network")
    if network is None:
        return
    options = network.options
    kind = options.get("bootproto") or "dhcp"
    if kind == "static":
        try:
            address = ipaddress.IPv4Interface(f"{options.get('ip')}/{options.get('netmask') or '255.255.255.0'}")
            if options.get("gateway"):
                ipaddress.IPv4Address(options["gateway"])
        except ValueError as error:
            raise KickstartError(f"network: {error}") from error
        if address.ip in (address.network.network_address, address.network.broadcast_address):
            raise KickstartError(f"network: {address} is no host address")
    elif kind == "dhcp":
        wrong = sorted({"ip", "netmask", "gateway"} & set(options))
        if wrong:
            raise KickstartError(f"network: --{wrong[0]} cannot be given with --bootproto=dhcp")
    else:
        raise KickstartError(f"network: no such bootproto: {kind}")
    host = options.get("hostname")
    if host and not re.fullmatch(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?)+", host):
        raise KickstartError(f"network: {host} is no host name")
