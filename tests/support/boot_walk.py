# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of the boot loaders over a boot tree on disk, file by file: what would a machine with this MAC do?

As `boot_rules`, written from what is known of the loaders alone.
"""

from __future__ import annotations

import ipaddress
import os
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.pxemanager.esxi.tests.support.boot_rules import (
    COMMAND_LINE_LIMIT,
    SKIP_SINCE,
    Violation,
    check_boot_cfg,
    check_ipxe,
    check_pxelinux,
    is_url,
    read_boot_cfg,
    read_ipxe,
    read_pxelinux,
    url_path,
    version_of,
)

INSTALL, LOCAL, HANG = "install", "local", "hang"


class BadLink(AssertionError):
    """A link that a TFTP server does not follow, or follows out of the tree."""


@dataclass(frozen=True)
class Tree:
    """A boot tree, as TFTP and HTTP hand it out.

    ``base_url`` is where HTTP has it, ``mboots`` the version of the mboot of each image, by the image's folder.
    """

    root: Path
    base_url: str
    mboots: t.Mapping[str, str]

    def resolve(self, path: str) -> str | None:
        """The path with all links followed, relative to the root; None: there is nothing.

        :raises BadLink: a link is absolute (it works under dnsmasq or in tftpd's chroot, never both) or leads outside.
        """
        parts, done = [part for part in path.split("/") if part], list[str]()
        for _step in range(200):
            if not parts:
                return "/".join(done)
            part = parts.pop(0)
            if part == ".":
                continue
            if part == "..":
                if not done:
                    raise BadLink(f"{path} leads out of the boot tree")
                done.pop()
                continue
            here = "/".join((str(self.root), *done, part))
            try:
                target = os.readlink(here)
            except FileNotFoundError:
                return None
            except OSError:
                # No link.
                done.append(part)
                continue
            if target.startswith("/"):
                raise BadLink(f"{path} is found by way of the absolute link {part} -> {target}")
            parts = [*target.split("/"), *parts]
        raise BadLink(f"{path} is a loop of links")

    def read(self, name: str) -> bytes | None:
        """A file by the path or URL that a loader asks for; None: it is not there."""
        path: str | None = name
        if is_url(name):
            path = url_path(name) if name.startswith(f"{self.base_url}/") else None
        found = self.resolve(path) if path else None
        if found is None or ".." in name.split("/"):
            return None
        file = self.root / found
        return file.read_bytes() if file.is_file() else None

    def mboot_version(self, name: str) -> str:
        """The version of an mboot by the path or URL that it was loaded from."""
        path = url_path(name) if is_url(name) else name
        parts = (self.resolve(path or "") or "").split("/")
        assert parts[0] == "images", f"{name} is no image's loader"
        return self.mboots[parts[1]]


@dataclass
class Walk:
    """What a machine does in the end and what it went through.

    ``what`` is install, local or hang, ``why`` a few words for it. ``files`` are the kernel and the modules as paths
    below the boot root, ``missing`` what was asked for and not found outside of the documented search orders.
    """

    what: str = HANG
    why: str = ""
    command_line: str = ""
    files: tuple[str, ...] = ()
    missing: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def ends(self, what: str, why: str) -> Walk:
        self.what, self.why = what, why
        return self

    @property
    def options(self) -> list[str]:
        """The kernel's options, without its name."""
        return self.command_line.split(" ")[1:]


def _stem(mac: str) -> str:
    return f"01-{mac.replace(':', '-')}"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _first(tree: Tree, walk: Walk, names: t.Sequence[str]) -> tuple[str, bytes] | None:
    """The first file of a search order; all of it is missing when none is there."""
    for name in names:
        data = tree.read(name)
        if data is not None:
            return name, data
    walk.missing += names
    return None


def pxelinux(tree: Tree, mac: str, *, uuid: str = "", address: str = "") -> Walk:
    """A BIOS machine: PXELINUX from the root of the tree."""
    walk = Walk()
    digits = f"{int(ipaddress.IPv4Address(address)):08X}" if address else ""
    names = [uuid, _stem(mac), *(digits[:length] for length in range(len(digits), 0, -1)), "default"]
    found = _first(tree, walk, [f"pxelinux.cfg/{name}" for name in names if name])
    if found is None:
        return walk.ends(HANG, "PXELINUX finds no configuration")
    walk.violations += check_pxelinux(found[1])
    entry = read_pxelinux(found[1])
    if entry is None:
        return walk.ends(HANG, "PXELINUX waits at its prompt")
    if entry.localboot is not None:
        return walk.ends(LOCAL, f"LOCALBOOT {entry.localboot}")
    bootif = f" BOOTIF={_stem(mac)}" if entry.ipappend == "2" else ""
    if not entry.kernel.endswith(".c32"):
        walk.command_line = f"{entry.kernel} {entry.append}{bootif}"
        return _load(tree, walk, [entry.kernel, entry.initrd], "KERNEL and INITRD")
    if tree.read(entry.kernel) is None:
        walk.missing.append(entry.kernel)
        return walk.ends(HANG, "PXELINUX does not find mboot.c32")
    return _mboot(tree, walk, mac, entry.kernel, f"{entry.append}{bootif}".split(), "tftp")


def mboot_tftp(tree: Tree, mac: str) -> Walk:
    """A UEFI machine whose bootfile is mboot.efi by TFTP."""
    return _firmware(tree, mac, "mboot.efi", "tftp")


def mboot_http(tree: Tree, mac: str) -> Walk:
    """A UEFI machine that boots by HTTP."""
    return _firmware(tree, mac, f"{tree.base_url}/http/mboot.efi", "http")


def _firmware(tree: Tree, mac: str, loader: str, transport: str) -> Walk:
    walk = Walk()
    if tree.read(loader) is None:
        # Not missing: where no mboot knows skip, there must be none.
        return walk.ends(LOCAL, "the firmware finds no boot file and goes on")
    return _mboot(tree, walk, mac, loader, [], transport)


def ipxe(tree: Tree, mac: str) -> Walk:
    """iPXE, which was told to look for this MAC's script and then for the one of all others."""
    walk = Walk()
    names = [f"{tree.base_url}/ipxe/{_stem(mac)}.ipxe", f"{tree.base_url}/ipxe/default.ipxe"]
    found = _first(tree, walk, names)
    if found is None:
        return walk.ends(HANG, "iPXE finds no script")
    walk.violations += check_ipxe(found[1])
    script = read_ipxe(found[1])
    if script is None:
        return walk.ends(HANG, "iPXE finds a script that starts nothing")
    if script.exit is not None:
        return walk.ends(LOCAL if script.exit == "1" else HANG, f"exit {script.exit}")
    if tree.read(script.kernel) is None:
        walk.missing.append(script.kernel)
        return walk.ends(HANG, "iPXE does not find mboot.efi")
    return _mboot(tree, walk, mac, script.kernel, list(script.arguments), "http")


WAYS: t.Mapping[str, t.Callable[[Tree, str], Walk]] = {
    "bios": pxelinux,
    "uefi": mboot_tftp,
    "uefi-http": mboot_http,
    "ipxe": ipxe,
}


def _search_order(folder: str, mac: str, argument: str | None) -> list[str]:
    if argument is None:
        return [_join(folder, f"{_stem(mac)}/boot.cfg"), _join(folder, "boot.cfg")]
    if is_url(argument) or argument.startswith("/"):
        return [argument]
    return [_join(folder, argument), f"/{argument}"]


def _mboot(tree: Tree, walk: Walk, mac: str, loader: str, words: list[str], transport: str) -> Walk:
    version, folder = tree.mboot_version(loader), _folder(loader)
    argument = words.pop(words.index("-c") + 1) if "-c" in words[:-1] else None
    extra = " ".join(word for word in words if word != "-c")
    found = _first(tree, walk, _search_order(folder, mac, argument))
    if found is None:
        return walk.ends(HANG, "mboot finds no boot.cfg")
    walk.violations += check_boot_cfg(found[1], transport=transport, mboot=version, mac=mac)
    config = read_boot_cfg(found[1])
    if config.skip and version_of(version) >= SKIP_SINCE:
        return walk.ends(LOCAL, "skip=1")
    if not config.values.get("kernel"):
        return walk.ends(HANG, "mboot finds no kernel in its boot.cfg")
    walk.command_line = config.command_line(mac, extra)
    if len(walk.command_line) >= COMMAND_LINE_LIMIT:
        return walk.ends(HANG, "the kernel's command line is too long for mboot")
    prefix = config.values.get("prefix", "")
    if not prefix:
        prefix = f"{_folder(found[0])}/"
    elif not prefix.startswith("/") and not is_url(prefix):
        prefix = _join(folder, prefix)
    names = [name if name.startswith("/") or is_url(name) else f"{prefix}{name}" for name in config.files]
    for name in names:
        if is_url(name) != (transport == "http"):
            walk.missing.append(name)
            return walk.ends(HANG, f"{name} cannot be had over {transport.upper()}")
    if loader.endswith(".efi") and version_of(version) >= (7, 0, 2):
        crypto = _join(folder, "crypto64.efi")
        if tree.read(crypto) is None:
            walk.missing.append(crypto)
    return _load(tree, walk, names, "kernel and modules")


def _load(tree: Tree, walk: Walk, names: t.Sequence[str], what: str) -> Walk:
    gone = [name for name in names if tree.read(name) is None]
    walk.missing += gone
    walk.files = tuple((url_path(name) or "" if is_url(name) else name).lstrip("/") for name in names)
    if gone:
        return walk.ends(HANG, f"{gone[0]} is not there")
    return walk.ends(INSTALL, what)
