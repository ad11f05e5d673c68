# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""boot.cfg as mboot reads it (public source: GitHub vmware/esx-boot). Written apart from the collection's own parser on
purpose: a machine must not share the mistakes of the server that it boots from."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

MAX_COMMAND_LINE = 4096
_INTEGERS = ("nobootif", "timeout", "noquirks", "norts", "runtimewd", "tftpblksize", "skip", "errtimeout")


class BootCfgError(ValueError):
    """mboot would stop at this file."""


@dataclass(frozen=True)
class BootCfg:
    """What one boot.cfg says. ``modules`` are pairs of name and options."""

    kernel: str = ""
    kernelopt: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    title: str = ""
    skip: bool = False
    nobootif: bool = False
    values: dict[str, str] = field(default_factory=dict)


def parse(text: str, *, knows_skip: bool = True) -> BootCfg:
    """Read a boot.cfg; raises ``BootCfgError``.

    ``knows_skip`` is false for an mboot older than 8.0.1, which ignores the key and installs.
    """
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.startswith("#"):
            continue
        line = re.sub(r"\s+", " ", raw).strip()
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals or key != key.strip() or value.startswith(" "):
            raise BootCfgError(f"line {number}: not key=value: {line!r}")
        values[key.lower()] = value  # the last one wins
    for key in _INTEGERS:
        if values.get(key, "0") and not re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)", values.get(key, "0")):
            raise BootCfgError(f"{key}={values[key]}: not a number")
    skip = knows_skip and int(values.get("skip") or "0", 0) != 0
    if not values.get("kernel") and not skip:
        raise BootCfgError("kernel= must be set")
    modules = []
    for item in values.get("modules", "").split("---"):
        name, _space, options = item.strip().partition(" ")
        if name:
            modules.append((name, options.strip()))
    return BootCfg(
        kernel=values.get("kernel", ""),
        kernelopt=values.get("kernelopt", ""),
        modules=tuple(modules),
        prefix=values.get("prefix", ""),
        title=values.get("title", ""),
        skip=skip,
        nobootif=int(values.get("nobootif") or "0", 0) != 0,
        values=values,
    )


def is_url(name: str) -> bool:
    """Whether a name says where it is all by itself."""
    return "://" in name


def join(folder: str, name: str) -> str:
    """A name beside others of a folder; both may be paths or URLs."""
    return name if not folder else f"{folder.rstrip('/')}/{name}"


def folder_of(name: str) -> str:
    """The folder of a path or URL, without the slash at its end (the root of a URL or tree is an empty path)."""
    return posixpath.dirname(name.rstrip("/")) if "/" in name else ""


def search_order(bootdir: str, mac: str, argument: str | None) -> list[str]:
    """Where mboot looks for boot.cfg: ``argument`` is what ``-c`` named, ``bootdir`` the folder it was loaded from."""
    if argument is None:
        return [join(bootdir, f"01-{mac.replace(':', '-')}/boot.cfg"), join(bootdir, "boot.cfg")]
    if is_url(argument) or argument.startswith("/"):
        return [argument]
    return [join(bootdir, argument), f"/{argument}"]


def locate(name: str, config: BootCfg, *, bootdir: str, found_at: str) -> str:
    """Where mboot looks for the kernel or a module of a boot.cfg that it found at ``found_at``.

    A name that begins with ``/`` or is a URL ignores the prefix. Without a prefix, files lie beside boot.cfg.
    """
    if is_url(name) or name.startswith("/"):
        return name
    if not config.prefix:
        return join(folder_of(found_at), name)
    if is_url(config.prefix) or config.prefix.startswith("/"):
        return join(config.prefix, name)
    return join(join(bootdir, config.prefix), name)


def command_line(config: BootCfg, extra: str, mac: str) -> str:
    """The kernel's command line; raises ``BootCfgError`` when it is too long. ``extra`` came on mboot's own."""
    words = " ".join(part for part in (config.kernelopt, extra) if part)
    if not config.nobootif and not re.search(r"(?:^|\s)BOOTIF=", words, re.IGNORECASE):
        words = f"{words} BOOTIF=01-{mac.replace(':', '-')}".strip()
    if len(words) >= MAX_COMMAND_LINE:
        raise BootCfgError(f"the kernel command line is {len(words)} bytes long, the limit is {MAX_COMMAND_LINE}")
    return words
