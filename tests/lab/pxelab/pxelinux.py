# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PXELINUX: its search order for the configuration, as much of the language as boot trees use, and COM32 modules."""

from __future__ import annotations

import ipaddress
import uuid as uuids
from dataclasses import dataclass, field

from . import mboot
from .loader import Hang, Loaded, Loader, Network, NextBootOption, NotFound, com32_fits, identify

_MENUS = ("menu.c32", "vesamenu.c32")


@dataclass
class Label:
    """One entry: a local boot, or a kernel with its command line."""

    name: str
    kernel: str = ""
    append: str = ""
    ipappend: int = 0
    localboot: str | None = None
    menu_default: bool = False


@dataclass
class Config:
    """A parsed configuration file."""

    default: str = ""
    ui: str = ""
    labels: dict[str, Label] = field(default_factory=dict)

    def chosen(self) -> Label | None:
        """The entry that boots when nobody touches the keyboard."""
        for label in self.labels.values():
            if label.menu_default:
                return label
        first = self.default.split()[0].lower() if self.default else ""
        if first in self.labels:
            return self.labels[first]
        if first and not first.endswith(_MENUS):
            return Label(name=first, kernel=self.default.split()[0], append=self.default.partition(" ")[2])
        return next(iter(self.labels.values()), None)


def parse(text: str) -> Config:
    """Read a configuration. Unknown words are skipped, as pxelinux does."""
    config = Config()
    scope = everywhere = Label(name="")  # an APPEND before the first LABEL holds for every entry without its own
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        word, _space, value = line.partition(" ")
        word, value = word.lower(), value.strip()
        if word == "menu" and value.lower() == "default":
            scope.menu_default = True
        elif word == "default":
            config.default = value
        elif word == "ui":
            config.ui = value
        elif word == "label":
            scope = Label(name=value.lower(), append=everywhere.append)
            config.labels[scope.name] = scope
        elif word in ("kernel", "linux", "com32"):
            scope.kernel = value
        elif word == "append":
            scope.append = "" if value == "-" else value
        elif word in ("ipappend", "sysappend"):
            scope.ipappend = int(value, 0)
        elif word == "localboot":
            scope.localboot = value or "0"
    return config


def config_names(machine: uuids.UUID | None, mac: str, address: str) -> list[str]:
    """The names below ``pxelinux.cfg/`` in the order in which they are tried."""
    names = [str(machine)] if machine is not None else []
    names.append(f"01-{mac.replace(':', '-')}")
    digits = f"{int(ipaddress.IPv4Address(address)):08X}"
    return names + [digits[:length] for length in range(8, 0, -1)] + ["default"]


def boot(network: Network, loader: Loader, loaded_from: str, *, config_file: str = "", path_prefix: str = "") -> Loaded:
    """Run pxelinux, loaded by TFTP from a path. ``config_file`` and ``path_prefix`` are DHCP options 209 and 210.

    Raises ``NextBootOption`` for a local boot and ``Hang`` where the real one waits for a key.
    """
    console = network.console
    prefix = path_prefix or loaded_from[: loaded_from.rfind("/") + 1]
    if loader.major >= 5:
        try:
            network.read(f"{prefix}ldlinux.c32")
        except NotFound as error:
            raise Hang(f"pxelinux: Failed to load ldlinux.c32 ({error})") from error
    names = [config_file] if config_file else []
    names += [
        f"pxelinux.cfg/{name}" for name in config_names(uuids.UUID(bytes=network.uuid), network.mac, network.address)
    ]
    for name in names:
        try:
            text = network.read(prefix + name).decode("utf-8", errors="replace")
            break
        except NotFound:
            console.pause(0)
    else:
        raise Hang("pxelinux: unable to locate configuration file; press a key to retry")
    console.say(f"PXELINUX {loader.version}: configuration {prefix}{name}")
    label = parse(text).chosen()
    if label is None:
        raise Hang(f"pxelinux: {name} has no entry to boot")
    if label.localboot is not None:
        raise NextBootOption(f"pxelinux: LOCALBOOT {label.localboot}")
    return _start(network, loader, prefix, label)


def _start(network: Network, pxelinux: Loader, prefix: str, label: Label) -> Loaded:
    path = label.kernel if label.kernel.startswith("/") else prefix + label.kernel
    try:
        data = network.read(path)
    except NotFound as error:
        raise Hang(f"pxelinux: {error}; boot:") from error
    program = identify(path, data)
    if not path.endswith(".c32"):
        raise Hang(f"pxelinux: {path} is no installer that this machine knows")
    reason = com32_fits(data, pxelinux)
    if reason:
        raise Hang(f"pxelinux: Failed to load COM32 file {path}: {reason}")
    if program.kind != "mboot.c32":
        raise Hang(f"pxelinux: {path} waits for somebody at the keyboard")
    if pxelinux.major >= 5:
        network.console.say(
            f"pxelinux: a real {path} would not load under PXELINUX {pxelinux.version}, only under 3.86"
        )
    arguments = label.append
    if label.ipappend & 2:
        arguments += f" BOOTIF=01-{network.mac.replace(':', '-')}"
    return mboot.boot(network, program, path, arguments)
