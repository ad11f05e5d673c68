# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What boot loaders have in common: how they fetch files, how they end, and which one a downloaded file is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from . import http, medium, tftp
from .bootcfg import is_url


class NextBootOption(Exception):
    """The loader (or the firmware's own PXE) left; the firmware goes on with the next boot option."""


class Hang(Exception):
    """The machine stands still with a message on its screen until somebody switches it off."""


class NotFound(Exception):
    """A file that a loader asked for is not there, or nobody answered."""


class Console(Protocol):
    """What a loader may do with the machine that it runs on."""

    def say(self, text: str) -> None:
        """A line on the machine's console."""

    def pause(self, seconds: float) -> None:
        """Wait; raises when the machine is switched off meanwhile."""

    def count(self, what: str, number: int = 1) -> None:
        """Add to one of the machine's counters."""


@dataclass
class Network:
    """Where a loader gets its files: an interface with an address, the TFTP server, and the console to report to."""

    console: Console
    interface: str
    mac: str
    uuid: bytes
    address: str
    tftp_server: str

    def read(self, name: str, *, agent: str = "esx-boot/2.0") -> bytes:
        """A whole file, by HTTP when the name is a URL, else by TFTP. Raises ``NotFound``."""
        try:
            if is_url(name) and name.startswith("http://"):
                self.console.count("http_requests")
                return http.request(name, agent=agent, pause=self.console.pause)[0]
            self.console.count("tftp_requests")
            return tftp.fetch(self.tftp_server, name, pause=self.console.pause)
        except (http.HttpError, tftp.TftpError) as error:
            raise NotFound(str(error)) from error

    def size(self, name: str) -> int:
        """The size of a file, without reading it. Raises ``NotFound``."""
        try:
            if is_url(name) and name.startswith("http://"):
                self.console.count("http_requests")
                return http.request(name, method="HEAD", pause=self.console.pause)[1]
            self.console.count("tftp_requests")
            return tftp.size_of(self.tftp_server, name, pause=self.console.pause)
        except (http.HttpError, tftp.TftpError) as error:
            raise NotFound(str(error)) from error


@dataclass(frozen=True)
class Loaded:
    """A kernel with its modules in memory, ready to be started: the installer."""

    command_line: str
    kernel: str
    modules: tuple[str, ...]
    mac: str
    interface: str
    title: str = ""
    files: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Loader:
    """Which program a downloaded file is. ``version`` is empty where the file does not tell."""

    kind: str
    version: str = ""

    @property
    def major(self) -> int:
        """First number of the version, 0 when it is not known."""
        found = re.match(r"\d+", self.version)
        return int(found.group()) if found else 0

    def at_least(self, *wanted: int) -> bool:
        """Whether the version is this one or newer; an unknown version counts as new."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version))
        return not numbers or numbers >= wanted


_COM32_3X = b"\xb8\xff\x4c\xcd\x21"
_COM32_4X = b"\xb8\xfe\x4c\xcd\x21"


def identify(name: str, data: bytes) -> Loader:
    """Look at a file's bytes, and only where they say nothing at its name, as little as firmware itself cares."""
    version = medium.loader_version(data)
    if version is not None:
        kind = "mboot.c32" if b"mboot.c32" in data[:64] else "mboot.efi"
        return Loader(kind, version)
    found = re.search(rb"PXELINUX (\d+\.\d+)", data)
    if found:
        return Loader("pxelinux", found.group(1).decode())
    if b"iPXE" in data:
        return Loader("ipxe")
    if name.endswith(".c32"):
        return Loader("com32")
    if data.startswith(b"MZ") and "mboot" in name:
        return Loader("mboot.efi")
    return Loader("unknown")


def com32_fits(data: bytes, pxelinux: Loader) -> str:
    """Why this COM32 file does not run under this pxelinux, or an empty text.

    Syslinux 3 and 4 have formats of their own, from 5 on modules are ELF (doc/comboot.txt of Syslinux).
    """
    if medium.loader_version(data) is not None:
        return ""
    if pxelinux.major >= 5:
        return "" if data.startswith(b"\x7fELF") else "it is no ELF module, as Syslinux 5 and later want"
    wanted = _COM32_4X if pxelinux.major == 4 else _COM32_3X
    return "" if data.startswith(wanted) else f"it is no COM32 module of Syslinux {pxelinux.major}"


Start = Callable[[Network, str, str], Loaded]
