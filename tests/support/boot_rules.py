# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a boot file must be, stricter than the loaders: for tests of whatever puts one into the boot tree.

Written from what is known of mboot (its public source, VMware's manuals, and boots of the real loader with the network
watched), PXELINUX and iPXE, and from nothing of the collection: it must not share the mistakes of what it judges. Where
a loader shrugs (an unknown key, the last of two) this refuses, because a file that is written by a program has no
business relying on it.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

COMMAND_LINE_LIMIT = 4096

Version = tuple[int, ...]
SKIP_SINCE: Version = (8, 0, 1)

_SINCE: dict[str, Version] = {
    "crypto": (7, 0, 2),
    "runtimewd": (8, 0, 0),
    "tftpblksize": (8, 0, 0),
    "acpitables": (8, 0, 0),
    "skip": SKIP_SINCE,
    "errtimeout": SKIP_SINCE,
}
_INTEGERS = ("nobootif", "timeout", "noquirks", "norts", "runtimewd", "tftpblksize", "skip", "errtimeout")
_TEXTS = ("kernel", "kernelopt", "modules", "title", "prefix", "crypto", "acpitables")
# Read on disk boots only, which does no harm here.
_DISK_ONLY = ("bootstate", "build", "updated", "quickboot")
_KNOWN = frozenset((*_INTEGERS, *_TEXTS, *_DISK_ONLY))

_PXELINUX = ("default", "prompt", "label", "kernel", "append", "initrd", "ipappend", "localboot")
_IPXE = ("kernel", "boot", "exit")


@dataclass(frozen=True)
class Violation:
    """One broken rule: its name, the line (from 1; 0: of the whole file), and what is known of the loader."""

    rule: str
    line: int
    fact: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule}: {self.fact}"


def version_of(text: str) -> Version:
    """``8.0.3`` as numbers."""
    return tuple(int(part) for part in text.split("."))


def _lines(data: bytes) -> tuple[list[str], list[Violation]]:
    """The lines of a file and what is wrong with its bytes, whichever loader reads it."""
    found: list[Violation] = []
    lines = data.split(b"\n")
    if lines[-1]:
        found.append(Violation("whole", len(lines), "a file that ends within a line was not written to its end"))
    else:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if any(not 0x20 <= byte <= 0x7E for byte in line):
            found.append(Violation("ascii", number, "loaders read bytes: only printable ASCII means the same to all"))
    return [line.decode("latin-1") for line in lines], found


def _inside(path: str) -> bool:
    """Whether a path names something below where it starts, in one way only."""
    return bool(path) and " " not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def is_url(name: str) -> bool:
    return "://" in name


_HTTP_URL = re.compile(r"http://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(/[!-~]*)\Z")


def url_path(url: str) -> str | None:
    """The path of a plain HTTP URL without its leading slash; None: it is none."""
    match = _HTTP_URL.match(url)
    return match[1][1:] if match else None


# boot.cfg


@dataclass(frozen=True)
class BootCfg:
    """What mboot makes of a boot.cfg: keys in lower case, the last of two, every value with single blanks."""

    values: t.Mapping[str, str]

    @property
    def skip(self) -> bool:
        return self.values.get("skip", "0").lstrip("-").isdigit() and int(self.values.get("skip", "0")) != 0

    @property
    def modules(self) -> list[tuple[str, str]]:
        """Pairs of name and options, in order."""
        items = (item.strip().partition(" ") for item in self.values.get("modules", "").split("---"))
        return [(name, options.strip()) for name, _blank, options in items if name]

    @property
    def files(self) -> list[str]:
        """Kernel and modules by name."""
        return [self.values.get("kernel", ""), *(name for name, _options in self.modules)]

    def command_line(self, mac: str, extra: str = "") -> str:
        """What the kernel gets from a network boot: its name, the options, the NIC that booted."""
        words = " ".join(part for part in (self.values.get("kernelopt", ""), extra) if part).split()
        if self.values.get("nobootif", "0") in ("", "0") and not any(word.startswith("BOOTIF=") for word in words):
            words.append(f"BOOTIF=01-{mac.replace(':', '-')}")
        return " ".join([self.values.get("prefix", "") + self.values.get("kernel", ""), *words])


def read_boot_cfg(data: bytes) -> BootCfg:
    """As leniently as mboot."""
    values: dict[str, str] = {}
    for raw in data.decode("latin-1").split("\n"):
        key, equals, value = " ".join(raw.split()).partition("=")
        if equals and not raw.startswith("#") and not key.endswith(" "):
            values[key.lower()] = value.strip()
    return BootCfg(values)


def check_boot_cfg(
    data: bytes,
    *,
    transport: str,
    mboot: str,
    mac: str = "00:00:00:00:00:00",
    modules: t.Sequence[str] | None = None,
) -> list[Violation]:
    """Judge a boot.cfg.

    ``transport`` is tftp or http: how mboot itself was loaded. ``mboot`` is the version of the one that reads the file,
    ``mac`` that of a machine that does, ``modules`` the image's own, in its order.
    """
    lines, found = _lines(data)
    where: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        found += _boot_cfg_line(number, line, where, version_of(mboot))
    config = read_boot_cfg(data)
    at = where.get
    if config.skip:
        if version_of(mboot) < SKIP_SINCE:
            fact = "an mboot before 8.0.1 does not know skip: it hangs, or installs"
            found.append(Violation("skip-version", at("skip", 0), fact))
        for key in ("kernel", "modules"):
            if key in where:
                fact = "an mboot that does not know skip would start the installer"
                found.append(Violation("skip-alone", where[key], fact))
        return found
    if not config.values.get("kernel"):
        found.append(Violation("kernel", at("kernel", 0), "mboot stops for ever without kernel="))
        return found
    found += _prefix(config.values.get("prefix", ""), at("prefix", 0), transport)
    found += _names(config, at("kernel", 0), at("modules", 0))
    if modules is not None and [" ".join(pair).strip() for pair in config.modules] != list(modules):
        found.append(Violation("order", at("modules", 0), "modules and their options must be the medium's, in order"))
    words = config.values.get("kernelopt", "").split()
    own = [word for word in words if word.lower().startswith("bootif=")]
    if own or config.values.get("nobootif", "0") != "0":
        found.append(Violation("bootif", at("kernelopt", 0), "mboot itself names the NIC, unless somebody has"))
    length = len(config.command_line(mac))
    if length >= COMMAND_LINE_LIMIT:
        fact = f"the kernel's command line must stay under {COMMAND_LINE_LIMIT} bytes, and has {length}"
        found.append(Violation("command-line", at("kernelopt", 0), fact))
    return found


def _boot_cfg_line(number: int, line: str, where: dict[str, int], mboot: Version) -> t.Iterator[Violation]:
    key, equals, value = line.partition("=")
    name = key.strip().lower()
    if not equals or not name:
        yield Violation("key-value", number, "a line is key=value, split at the first =")
        return
    if key != key.strip() or value != value.strip() or "  " in line:
        yield Violation("blanks", number, "mboot rejects blanks beside =, and makes one of several")
    if name not in _KNOWN:
        yield Violation("known-key", number, f"mboot ignores {name}, so it does nothing")
        return
    if name in where:
        yield Violation("duplicate", number, f"the last {name} wins, so line {where[name]} does nothing")
    where[name] = number
    if name in _SINCE and name != "skip" and mboot < _SINCE[name]:
        yield Violation("since", number, f"mboot knows {name} from {'.'.join(map(str, _SINCE[name]))} on")
    if name in _INTEGERS and not (value.isascii() and value.isdigit()):
        yield Violation("integer", number, f"{name} must be a whole number: anything else is fatal")
    elif name == "timeout" and int(value) > 9:
        yield Violation("timeout", number, "the seconds before booting are 0 to 9")


def _prefix(prefix: str, line: int, transport: str) -> t.Iterator[Violation]:
    if not prefix:
        yield Violation("prefix", line, "without a prefix files are looked for beside boot.cfg, and not found")
    elif transport == "http":
        path = url_path(prefix)
        if path is None or not path.endswith("/") or not _inside(path[:-1]):
            yield Violation("prefix-http", line, "over HTTP only an absolute URL of a folder works")
    elif is_url(prefix):
        yield Violation("prefix-tftp", line, "mboot loaded over TFTP asks TFTP for the URL, and does not find it")
    elif not prefix.startswith("/"):
        yield Violation("prefix-tftp", line, "a relative prefix is relative to where mboot was loaded from")
    elif not prefix.endswith("/") or not _inside(prefix[1:-1]):
        yield Violation("prefix-tftp", line, "a prefix is the absolute path of a folder, written in one way only")


def _names(config: BootCfg, kernel: int, modules: int) -> t.Iterator[Violation]:
    written = config.values.get("modules", "")
    if not config.modules:
        yield Violation("modules", modules, "an installer is a kernel and its modules")
    elif [item != item.strip() or not item for item in written.split(" --- ")].count(True) or (
        written.count("---") != written.count(" --- ")
    ):
        yield Violation("modules", modules, "modules are split on --- whatever stands around it, and none is empty")
    for name, line in ((config.files[0], kernel), *((name, modules) for name in config.files[1:])):
        if name.startswith("/") or is_url(name):
            yield Violation("name", line, f"{name} ignores the prefix: it begins with / or is a URL")
        elif not _inside(name):
            yield Violation("name", line, f"{name} is no file below the image's folder")


# PXELINUX


@dataclass(frozen=True)
class PxelinuxEntry:
    """The entry that boots: `localboot` or `kernel`."""

    kernel: str = ""
    append: str = ""
    initrd: str = ""
    ipappend: str = ""
    localboot: str | None = None


def read_pxelinux(data: bytes) -> PxelinuxEntry | None:
    """The entry that DEFAULT names, or None: PXELINUX waits at its prompt."""
    default = label = ""
    entries: dict[str, dict[str, str]] = {}
    for raw in data.decode("latin-1").split("\n"):
        word, _blank, value = raw.strip().partition(" ")
        word = word.lower()
        if word == "default":
            default = value.strip()
        elif word == "label":
            label = value.strip()
            entries[label] = {}
        elif label and word in ("kernel", "append", "initrd", "ipappend", "localboot"):
            entries[label][word] = value.strip()
    return PxelinuxEntry(**entries[default]) if default in entries else None


def check_pxelinux(data: bytes) -> list[Violation]:
    """Judge a configuration of PXELINUX: one entry, which boots without anybody at the keyboard."""
    lines, found = _lines(data)
    seen: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        word, _blank, value = line.strip().partition(" ")
        word = word.lower()
        if word not in _PXELINUX:
            found.append(Violation("keyword", number, f"PXELINUX does not know {word!r} or is not meant to meet it"))
        elif word in seen:
            rule = "one-label" if word == "label" else "duplicate"
            found.append(Violation(rule, number, f"a second {word.upper()} changes what the first says"))
        elif word not in ("default", "prompt", "label") and "label" not in seen:
            found.append(Violation("before-label", number, f"{word.upper()} before LABEL holds for every entry"))
        else:
            seen[word] = (number, value)
    return found + list(_pxelinux_entry(seen))


def _pxelinux_entry(seen: t.Mapping[str, tuple[int, str]]) -> t.Iterator[Violation]:
    at = {word: number for word, (number, _value) in seen.items()}
    has = {word: value for word, (_number, value) in seen.items()}
    if "label" not in has or has.get("default") != has["label"] or not has["label"]:
        yield Violation("default", at.get("default", 0), "DEFAULT names the one LABEL, or a prompt waits for ever")
    if has.get("prompt") != "0":
        yield Violation("prompt", at.get("prompt", 0), "with PROMPT 0 nobody is asked")
    if ("localboot" in has) == ("kernel" in has):
        yield Violation("entry", at.get("label", 0), "an entry has a KERNEL or a LOCALBOOT")
    if "localboot" in has:
        if has["localboot"] not in ("0", "-1"):
            yield Violation("localboot", at["localboot"], "PXELINUX knows LOCALBOOT 0 and -1")
        for word in ("append", "initrd", "ipappend"):
            if word in has:
                yield Violation("entry", at[word], f"{word.upper()} means nothing beside LOCALBOOT")
        return
    for word in ("kernel", "initrd"):
        if word in has and (not _inside(has[word]) or is_url(has[word])):
            yield Violation("path", at[word], "a file is one path below the folder that PXELINUX comes from")
    if "kernel" not in has:
        return
    if has.get("ipappend") != "2":
        yield Violation("ipappend", at.get("ipappend", 0), "IPAPPEND 2 tells the installer which NIC booted")
    append = has.get("append", "").split()
    if has["kernel"].endswith(".c32"):
        if len(append) != 2 or append[0] != "-c" or not _inside(append[1].lstrip("/")) or is_url(append[1]):
            fact = "mboot.c32 gets -c and its boot.cfg; every further word becomes a kernel option"
            yield Violation("append", at.get("append", 0), fact)
        if "initrd" in has:
            yield Violation("initrd", at["initrd"], "mboot.c32 takes its files from boot.cfg")
    elif "initrd" not in has:
        yield Violation("initrd", at["kernel"], "a Linux kernel of an installer needs its INITRD")
    length = len(" ".join(append))
    if length >= COMMAND_LINE_LIMIT:
        yield Violation("command-line", at["append"], f"APPEND has {length} bytes")


# iPXE


@dataclass(frozen=True)
class IpxeScript:
    """What a script does: `exit` (the code) or `kernel` with its arguments."""

    kernel: str = ""
    arguments: tuple[str, ...] = ()
    exit: str | None = None


def read_ipxe(data: bytes) -> IpxeScript | None:
    """What iPXE makes of a script; None: nothing that boots."""
    lines = data.decode("latin-1").split("\n")
    if not lines[0].startswith("#!ipxe"):
        return None
    kernel: tuple[str, ...] = ()
    for line in lines[1:]:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "exit":
            return IpxeScript(exit=" ".join(words[1:]) or "0")
        if words[0] == "kernel":
            kernel = tuple(words[1:])
        elif words[0] == "boot":
            break
        else:
            return None
    return IpxeScript(kernel[0], kernel[1:]) if kernel else None


def check_ipxe(data: bytes) -> list[Violation]:
    """Judge a script of iPXE: it exits with 1, or starts mboot with its boot.cfg by absolute URLs."""
    lines, found = _lines(data)
    if not lines or lines[0] != "#!ipxe":
        found.append(Violation("shebang", 1, "iPXE knows a script by #!ipxe in its first line"))
    commands: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        words = line.split()
        command = words[0] if words else ""
        if any(mark in line for mark in ("${", "||", "&&")):
            found.append(Violation("literal", number, "iPXE expands ${...} and splits commands at || and &&"))
        if command not in _IPXE:
            found.append(Violation("command", number, f"{command!r} is no command that such a script needs"))
        elif commands and (commands[-1] != "kernel" or command != "boot"):
            found.append(Violation("sequence", number, "a script is kernel and boot, or exit: nothing comes after"))
        elif command == "kernel":
            found += _ipxe_kernel(number, words[1:])
        elif command == "exit" and words[1:] != ["1"]:
            found.append(Violation("exit", number, "only exit 1 goes on to the disk; exit 0 may end in the setup"))
        elif command == "boot" and (not commands or words[1:]):
            found.append(Violation("sequence", number, "boot starts what a kernel line has loaded"))
        commands.append(command)
    if not commands or commands[-1] not in ("boot", "exit"):
        found.append(Violation("end", len(lines), "a script that just ends is an exit 0"))
    return found


def _ipxe_kernel(number: int, words: t.Sequence[str]) -> t.Iterator[Violation]:
    if len(words) != 3 or words[1] != "-c":
        fact = "mboot.efi gets -c and its boot.cfg; every further word becomes a kernel option"
        yield Violation("arguments", number, fact)
    for word in (words[0] if words else "", words[2] if len(words) > 2 else ""):
        path = url_path(word)
        if path is None or not _inside(path):
            yield Violation("url", number, f"{word!r} is no absolute HTTP URL, written in one way only")
