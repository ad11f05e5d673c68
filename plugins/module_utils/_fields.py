# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: reading a definition's options, noting every mistake instead of stopping at the first.

Values end up in boot configurations, kickstarts, file names and shell scripts. So every check below is an allow-list: a
character that no legitimate value needs (control characters, quotes, backslashes, anything but ASCII) never passes.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._deps import split_mac

__all__ = [
    "Fields",
    "Wrong",
    "advanced_option",
    "boolean",
    "choice",
    "fqdn",
    "integer",
    "ipv4",
    "list_of",
    "mac_address",
    "matching",
    "netmask_prefix",
    "network_server",
    "plain_text",
    "script",
    "show",
]

T = t.TypeVar("T")
D = t.TypeVar("D")
Check = t.Callable[[object], T]

_NO_MORE_THAN = 4096
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_PLAIN_TEXT = re.compile(r"[ -!#-&(-\[\]-_a-~]*\Z")
_SCRIPT_LINE = re.compile(r"[\t -~]*\Z")
_TRUE = frozenset(("true", "yes", "on", "1", "y", "t"))
_FALSE = frozenset(("false", "no", "off", "0", "n", "f"))

# <name>.json, a temporary name beside it and its suffix must stay under the 255 bytes that file systems allow.
_LONGEST_NAME = 200


class Wrong(ValueError):
    """What is wrong with one value: the part of the sentence that follows the option's name."""


def show(value: object) -> str:
    """The value as an error message may quote it: one line, ASCII, short, whatever was given."""
    try:
        text = ascii(str(value) if isinstance(value, str) else value)
    except ValueError:
        # Python from 3.10.7 on does not print a number of more than 4300 digits.
        return "<too long to be shown>"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _text(value: object) -> str:
    if isinstance(value, bool):
        raise Wrong(f"is the YAML boolean {str(value).lower()}; put the value in quotes")
    if isinstance(value, (int, float)):
        raise Wrong(f"was read by YAML as the number {show(value)}; put the value in quotes")
    if not isinstance(value, str):
        raise Wrong(f"is {_kind(value)}; write a text")
    if len(value) > _NO_MORE_THAN:
        raise Wrong(f"is {len(value)} characters long; write at most {_NO_MORE_THAN}")
    # str() also takes away what Ansible ties to its own strings (origin, trust), which must not travel further.
    return str(value)


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, t.Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {type(value).__name__}"


def boolean(value: object) -> bool:
    """True or false; the words that Ansible takes for them too, because ``-e option=true`` passes a text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise Wrong(f"is {show(value)}; write true or false")


def integer(low: int, high: int) -> Check[int]:
    """A whole number from ``low`` to ``high``; a decimal text is taken too (``-e option=12`` passes a text)."""

    def check(value: object) -> int:
        if isinstance(value, str) and re.match(r"-?[0-9]{1,10}\Z", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Wrong(f"is {show(value)}; write a whole number from {low} to {high}")
        return int(value)

    return check


def choice(*words: str) -> Check[str]:
    """One of ``words``."""

    def check(value: object) -> str:
        if isinstance(value, str) and value in words:
            return str(value)
        raise Wrong(f"is {show(value)}; write one of {', '.join(words)}")

    return check


def matching(pattern: str, longest: int, wanted: str) -> Check[str]:
    """A text that matches ``pattern`` whole and has at most ``longest`` characters; ``wanted`` says what to write."""
    compiled = re.compile(f"(?:{pattern})\\Z", re.ASCII)

    def check(value: object) -> str:
        text = _text(value)
        if len(text) > longest:
            raise Wrong(f"is {len(text)} characters long; write at most {longest}")
        if not compiled.match(text):
            raise Wrong(f"is {show(text)}; write {wanted}")
        return text

    return check


def plain_text(longest: int) -> Check[str]:
    """Printable ASCII on one line, without quotes and backslashes, with no blanks around it."""

    def check(value: object) -> str:
        text = _text(value)
        if not text or text != text.strip():
            raise Wrong(f"is {show(text)}; write a text without blanks around it")
        if not _PLAIN_TEXT.match(text):
            raise Wrong(
                f"is {show(text)}; write printable ASCII on one line, without quotes, back-ticks and backslashes"
            )
        if len(text) > longest:
            raise Wrong(f"is {len(text)} characters long; write at most {longest}")
        return text

    return check


def list_of(check_item: Check[T], least: int = 0, most: int = 1000) -> Check[tuple[T, ...]]:
    """A list whose items all pass; a single value stands for a list of one."""

    def check(value: object) -> tuple[T, ...]:
        items = [value] if isinstance(value, (str, int, float)) else value
        if not isinstance(items, (list, tuple)):
            raise Wrong(f"is {_kind(value)}; write a list")
        if not least <= len(items) <= most:
            raise Wrong(f"has {len(items)} items; write {_how_many(least, most)}")
        good = []
        for position, item in enumerate(items):
            try:
                good.append(check_item(item))
            except Wrong as wrong:
                raise Wrong(f"item {position + 1} {wrong}") from None
        return tuple(good)

    return check


def _how_many(least: int, most: int) -> str:
    return f"{least} to {most}" if least else f"at most {most}"


def script(value: object) -> str:
    """Raw shell text: ASCII lines, Unix line ends. It ends in one newline, so that two scripts never run together."""
    if not isinstance(value, str):
        raise Wrong(f"is {_kind(value)}; write the shell text as one text (YAML: '|')")
    text = str(value)
    if "\r" in text:
        raise Wrong("has carriage returns; save it with Unix line ends")
    if len(text) > 65536:
        raise Wrong(f"is {len(text)} characters long; write at most 65536, or fetch a longer script from a server")
    for number, line in enumerate(text.split("\n"), 1):
        if not _SCRIPT_LINE.match(line):
            raise Wrong(
                f"line {number} is {show(line)}; write printable ASCII and tabs only, the installer reads no more"
            )
    if not text.strip():
        raise Wrong("is empty; write a command, or leave the option out")
    return text.strip("\n") + "\n"


def mac_address(value: object) -> str:
    """A unicast MAC address in any usual notation, as ``aa:bb:cc:dd:ee:ff``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Wrong(f"was read by YAML as the number {show(value)}; put the MAC address in quotes")
    text = _text(value)
    try:
        # netaddr overlooks a newline at the end.
        octets = split_mac(text) if re.match(r"[0-9A-Fa-f:.-]{11,17}\Z", text) else None
    except ValueError:
        octets = None
    if octets is None:
        raise Wrong(f"is {show(text)}, which is no MAC address; write six octets such as 00:50:56:aa:bb:01")
    mac = ":".join(f"{octet:02x}" for octet in octets)
    if mac in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"):
        raise Wrong(f"is {mac}, which no network card has; write the card's own address")
    if octets[0] & 1:
        raise Wrong(f"is {mac}, a multicast address; write the card's own (unicast) address")
    return mac


def ipv4(value: object) -> ipaddress.IPv4Address:
    """An IPv4 address that one machine can have."""
    text = _text(value)
    try:
        address = ipaddress.IPv4Address(text)
        # Python before 3.9.5 reads 010.0.0.1; other programs read it as octal.
        usual = str(address) == text
    except ValueError:
        usual = False
    if not usual:
        raise Wrong(f"is {show(text)}, which is no IPv4 address; write four decimal numbers such as 192.168.77.21")
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise Wrong(f"is {text}, which no machine on a network can have; write the host's own address")
    return address


def netmask_prefix(value: object) -> int:
    """The prefix length that a netmask such as 255.255.255.0 stands for."""
    text = _text(value)
    try:
        mask = int(ipaddress.IPv4Address(text))
    except ValueError:
        mask = -1
    inverted = mask ^ 0xFFFFFFFF
    if mask < 0 or inverted & (inverted + 1):
        raise Wrong(f"is {show(text)}, which is no netmask; write one such as 255.255.255.0")
    return 32 - inverted.bit_length()


def fqdn(value: object) -> str:
    """A fully qualified domain name by RFC 1123, in lower case."""
    text = _text(value)
    name = text.lower()
    if "_" in name:
        raise Wrong(f"{show(text)} has an underscore, which fails the ESXi installer; write a hyphen instead")
    if len(name) > _LONGEST_NAME:
        raise Wrong(f"is {len(name)} characters long; write at most {_LONGEST_NAME}")
    labels = name.split(".")
    if not all(_LABEL.match(label) for label in labels):
        raise Wrong(
            f"{show(text)} is no host name (RFC 1123); write labels of 1 to 63 letters, digits and inner hyphens, "
            "joined by dots"
        )
    if len(labels) < 2:
        raise Wrong(f"{show(text)} has no domain; write the fully qualified name, such as {name}.example.com")
    if labels[-1].isdigit():
        raise Wrong(f"{show(text)} ends in a number, as an IP address does; write a name such as esx01.example.com")
    return name


def network_server(value: object) -> str:
    """A server as a command takes it: a host name (short or full), an IPv4 or an IPv6 address."""
    text = _text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.lower().split(".")
    if len(text) <= 253 and all(_LABEL.match(label) for label in labels) and not labels[-1].isdigit():
        return text.lower()
    raise Wrong(f"is {show(text)}; write a host name or an IP address")


advanced_option: Check[str] = matching(
    r"/[A-Za-z0-9]+(?:[/.][A-Za-z0-9_-]+)+", 128, "an option's path such as /UserVars/HostClientCEIPOptIn"
)


class Fields:
    """Reads one mapping of a definition; notes every mistake in ``errors`` as a sentence and goes on.

    ``label`` is the host's name, ``path`` the mapping's own place in the definition ("" or "network."). An option
    whose value is None counts as not given, because that is what an unset variable looks like.
    """

    def __init__(self, value: object, label: str, path: str, errors: list[str]) -> None:
        self.label = label
        self.path = path
        self.errors = errors
        self._known: set[str] = set()
        self._given: dict[str, object] = {}
        self._before = len(errors)
        # Whether there is anything to read: who finds it false need not complain of what is missing in it.
        self.readable = value is None or isinstance(value, t.Mapping)
        if isinstance(value, t.Mapping):
            self._given = {str(key) if isinstance(key, str) else show(key): item for key, item in value.items()}
        elif not self.readable:
            self.wrong(path.rstrip("."), f"is {_kind(value)}; write a mapping of options")

    def good(self) -> bool:
        """Whether no mistake was noted since this mapping began: only then can be told what goes together in it."""
        return len(self.errors) == self._before

    def wrong(self, option: str, what: str) -> None:
        """Notes one mistake; ``what`` goes on after the option's name."""
        stop = "" if what.endswith("?") else "."
        self.errors.append(" ".join(f"{self.label}: {option} {what}{stop}".split()))

    def has(self, key: str) -> bool:
        """Whether the option is given (and makes it known)."""
        self._known.add(key)
        return self._given.get(key) is not None

    def raw(self, key: str) -> object:
        """The option as it was given."""
        self._known.add(key)
        return self._given.get(key)

    def get(self, key: str, check: Check[T], default: D) -> t.Union[T, D]:
        """The checked option, or ``default`` when it is not given or wrong."""
        if not self.has(key):
            return default
        try:
            return check(self._given[key])
        except Wrong as wrong:
            self.wrong(f"{self.path}{key}", str(wrong))
            return default

    def need(self, key: str, check: Check[T], example: str) -> t.Optional[T]:
        """As get(), but an option that is not given is a mistake; ``example`` says what to write."""
        if not self.has(key):
            if self.readable:
                self.wrong(f"{self.path}{key}", f"is missing; write {example}")
            return None
        return self.get(key, check, None)

    def section(self, key: str) -> Fields:
        """The mapping under ``key``; an empty one when it is not given."""
        self._known.add(key)
        return Fields(self._given.get(key), self.label, f"{self.path}{key}.", self.errors)

    def given(self) -> tuple[str, ...]:
        """The names of all options that are given."""
        return tuple(key for key, value in self._given.items() if value is not None)

    def finish(self) -> None:
        """Notes every option that nobody asked for."""
        for key in self._given:
            if key not in self._known:
                close = difflib.get_close_matches(key, sorted(self._known), 1)
                advice = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(self._known))}"
                self.wrong(f"{self.path}{show(key)[1:-1]}", f"is no option; {advice}")
