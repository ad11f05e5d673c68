# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iPXE: as much of its script language as boot scripts use (https://ipxe.org/scripting), and the images it starts."""

from __future__ import annotations

import re
import uuid as uuids
from dataclasses import dataclass, field
from urllib.parse import quote

from . import bootcfg, mboot
from .loader import Hang, Loaded, Loader, Network, NextBootOption, NotFound, identify

_MAX_STEPS = 10_000


class ScriptFailed(Exception):
    """A command failed and nothing in the script caught that."""


class _Exit(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"exit {status}")
        self.status = status


@dataclass
class Image:
    """A downloaded file and the command line it was given."""

    url: str
    data: bytes
    arguments: str


@dataclass
class Shell:
    """One run of iPXE: settings, the images it holds, and where it fetches from."""

    network: Network
    settings: dict[str, str]
    base: str
    images: list[Image] = field(default_factory=list)

    def expand(self, text: str) -> str:
        """Put settings in; an unknown one is empty."""

        def value(match: re.Match[str]) -> str:
            name, _colon, form = match.group(1).partition(":")
            name = re.sub(r"^net(\d+|[xX])/", "", name)
            found = self.settings.get(name, "")
            if form == "hexhyp":
                return found.replace(":", "-")
            if form == "hexraw":
                return found.replace(":", "")
            return quote(found, safe="") if form == "uristring" else found

        previous = None
        while previous != text:
            previous, text = text, re.sub(r"\$\{([^${}]+)\}", value, text)
        return text

    def url(self, name: str) -> str:
        """A file name as it is fetched: absolute, beside the running script, or from the TFTP server."""
        if bootcfg.is_url(name):
            return name
        if bootcfg.is_url(self.base):
            if name.startswith("/"):
                return "/".join(self.base.split("/")[:3]) + name
            return bootcfg.join(bootcfg.folder_of(self.base), name)
        return name if name.startswith("/") else bootcfg.join(bootcfg.folder_of(self.base), name)

    def fetch(self, name: str) -> Image:
        """Download what the first word names; the rest is its command line."""
        words = name.split()
        while words and words[0].startswith("--"):
            words = words[2:] if words[0] in ("--name", "--timeout") else words[1:]
        if not words:
            raise ScriptFailed("no file named")
        url = self.url(words[0])
        try:
            read_from = re.sub(r"^tftp://[^/]+", "", url)
            data = self.network.read(read_from, agent="iPXE/1.21.1")
        except NotFound as error:
            raise ScriptFailed(str(error)) from error
        return Image(url, data, " ".join(words[1:]))

    def run(self, script: str) -> Loaded | None:
        """Run a script to its end or to ``exit``. Returns what was booted, raises ``ScriptFailed``."""
        if not script.startswith("#!ipxe"):
            raise ScriptFailed("not an iPXE script")
        lines = [line.strip() for line in script.splitlines()]
        labels = {line[1:].split()[0]: number for number, line in enumerate(lines) if re.match(r":\S", line)}
        position = 0
        for _step in range(_MAX_STEPS):
            if position >= len(lines):
                return None
            line = lines[position]
            position += 1
            if not line or line.startswith(("#", ":")):
                continue
            jump = self._line(line)
            if isinstance(jump, Loaded):
                return jump
            if jump is not None:
                if jump not in labels:
                    raise ScriptFailed(f"goto {jump}: no such label")
                position = labels[jump]
                self.network.console.pause(0)
        raise ScriptFailed("the script runs in circles")

    def _line(self, line: str) -> Loaded | str | None:
        """One line with its ``&&`` and ``||``; returns a label to go to, or what was booted."""
        status, skip = True, False
        for part in re.split(r"\s(\|\||&&)(?=\s|$)", f"{line} "):
            if part in ("||", "&&"):
                skip = status is (part == "||")
                continue
            if skip:
                continue
            command = self.expand(part).strip()
            if not command:
                status = True
                continue
            try:
                result = self._command(command)
            except ScriptFailed as error:
                self.network.console.say(f"iPXE: {error}")
                status = False
                continue
            if isinstance(result, (Loaded, str)):
                return result
            status = result
        if not status:
            raise ScriptFailed(f"failed: {line}")
        return None

    def _command(self, command: str) -> Loaded | str | bool:
        word, _space, rest = command.partition(" ")
        rest = rest.strip()
        if word == "goto":
            return rest
        if word == "set":
            name, _space, value = rest.partition(" ")
            self.settings[re.sub(r":.*", "", name)] = value.strip()
            return True
        if word == "clear":
            self.settings.pop(rest, None)
            return True
        if word == "isset":
            return bool(rest)
        if word == "iseq":
            words = rest.split()
            return (words + ["", ""])[0] == (words + ["", ""])[1] if len(words) != 1 else False
        if word in ("echo", "imgfree", "sleep", "ifopen", "ifclose", "dhcp", "ifconf", "cpuid", "prompt", "console"):
            if word == "echo":
                self.network.console.say(f"iPXE: {rest}")
            elif word == "imgfree":
                self.images.clear()
            return word not in ("cpuid", "prompt")
        if word == "exit":
            raise _Exit(int(rest or "0"))
        if word in ("kernel", "imgselect", "initrd", "module", "imgfetch"):
            image = self.fetch(rest)
            if word in ("kernel", "imgselect"):
                self.images.insert(0, image)
            else:
                self.images.append(image)
            return True
        if word in ("chain", "boot", "imgexec"):
            if not rest and not self.images:
                raise ScriptFailed("boot: no image")
            target = self.fetch(rest) if rest else self.images[0]
            try:
                return self.start(target) or True
            except _Exit as done:
                # exit leaves the chained script, and its status is that of the chain command
                if done.status:
                    raise ScriptFailed(f"{target.url}: exit {done.status}") from done
                return True
        raise ScriptFailed(f"{word}: command not found")

    def start(self, image: Image) -> Loaded | None:
        """Run an image: another script, or VMware's loader."""
        if image.data.startswith(b"#!ipxe"):
            before, self.base = self.base, image.url
            try:
                return self.run(image.data.decode("utf-8", errors="replace"))
            finally:
                self.base = before
        program = identify(image.url, image.data)
        if program.kind != "mboot.efi" or self.settings["platform"] != "efi":
            raise ScriptFailed(f"{image.url}: Exec format error")
        transport = "http" if bootcfg.is_url(image.url) and image.url.startswith("http") else "tftp"
        return mboot.boot(self.network, program, image.url, image.arguments, transport=transport)


def boot(network: Network, _loader: Loader, filename: str, *, platform: str = "efi", embedded: bool = False) -> Loaded:
    """Run iPXE after its own DHCP exchange. ``embedded``: iPXE in the NIC's ROM, not one loaded by UEFI PXE.

    Raises ``NextBootOption`` when it gives the machine back, and ``Hang`` where a firmware is known not to come back.
    """
    settings = {
        "mac": network.mac,
        "ip": network.address,
        "next-server": network.tftp_server,
        "filename": filename,
        "uuid": str(uuids.UUID(bytes=network.uuid)),
        "platform": platform,
        "buildarch": "x86_64",
    }
    shell = Shell(network, settings, base="")
    name = shell.expand(filename)
    if not name:
        raise NextBootOption("iPXE: nothing to boot: no filename")
    try:
        loaded = shell.start(shell.fetch(name))
    except ScriptFailed as error:
        # after a failed script iPXE gives up with a failure status, as exit 1 does
        raise NextBootOption(f"iPXE: {error}") from error
    except _Exit as done:
        if done.status == 0 and platform == "efi":
            # measured with OVMF: a success status means "booted", and the firmware shows its setup screen
            raise Hang("iPXE left with exit 0: the firmware stays in its setup screen") from done
        raise NextBootOption(f"iPXE: exit {done.status}") from done
    if loaded is None:
        raise NextBootOption("iPXE: the script ended without a boot")
    if embedded:
        network.console.say("iPXE: booted from the NIC's own ROM")
    return loaded
