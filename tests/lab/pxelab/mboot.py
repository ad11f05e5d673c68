# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMware's boot loader: finds its boot.cfg, loads kernel and modules, starts the kernel; or stands still for ever."""

from __future__ import annotations

import shlex

from . import bootcfg
from .loader import Hang, Loaded, Loader, Network, NextBootOption, NotFound


def _options(arguments: str) -> tuple[str | None, str]:
    """mboot's own command line: what ``-c`` names, and the words that become kernel options."""
    config, rest = None, []
    words = arguments.split()
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            config = words.pop(0)
        elif word in ("-p", "-S", "-s", "-t", "-E", "-b", "-r") and words:
            words.pop(0)
        elif word in ("-R", "-V", "-D", "-H", "-Q", "-U", "-e", "-A", "-q"):
            continue
        else:
            rest.append(word)
    return config, " ".join(rest)


def boot(network: Network, loader: Loader, loaded_from: str, arguments: str = "", *, transport: str = "tftp") -> Loaded:
    """Run mboot, loaded from a path or URL, to the point where the kernel starts.

    Raises ``NextBootOption`` for ``skip=1`` and ``Hang`` where the real one does. ``transport`` is ``tftp`` or ``http``
    (native HTTP boot, or iPXE's download protocol).
    """
    console = network.console
    bootdir = bootcfg.folder_of(loaded_from)
    config_argument, extra = _options(arguments)
    candidates = bootcfg.search_order(bootdir, network.mac, config_argument)
    for name in candidates:
        try:
            text = network.read(name).decode("ascii", errors="replace")
            break
        except NotFound as error:
            console.say(f"mboot: {error}")
    else:
        raise Hang(f"mboot: fatal error: no boot.cfg (looked for {' and '.join(candidates)})")
    console.say(f"mboot {loader.version}: configuration {name}")
    try:
        config = bootcfg.parse(text, knows_skip=loader.at_least(8, 0, 1))
        if config.skip:
            raise NextBootOption("mboot: skipping boot from this configuration")
        command_line = bootcfg.command_line(config, extra, network.mac)
    except bootcfg.BootCfgError as error:
        raise Hang(f"mboot: fatal error in {name}: {error}") from error
    if loader.kind == "mboot.efi" and loader.at_least(7, 0, 2):
        _crypto(network, bootdir)
    return _load(network, config, command_line, bootdir=bootdir, found_at=name, transport=transport)


def _crypto(network: Network, bootdir: str) -> None:
    """crypto64.efi beside mboot.efi: without it a machine with Secure Boot could not check the modules."""
    name = bootcfg.join(bootdir, "crypto64.efi")
    try:
        network.read(name)
    except NotFound:
        network.console.say(f"mboot: {name} is missing; with Secure Boot this machine would stop here")


def _load(
    network: Network, config: bootcfg.BootCfg, command_line: str, *, bootdir: str, found_at: str, transport: str
) -> Loaded:
    names = [config.kernel, *(name for name, _options in config.modules)]
    paths = [bootcfg.locate(name, config, bootdir=bootdir, found_at=found_at) for name in names]
    for path in paths:
        # measured: a TFTP-booted mboot asks TFTP for "http://...", an HTTP-booted one wants absolute URLs
        if bootcfg.is_url(path) != (transport == "http"):
            raise Hang(f"mboot: fatal error: {path} cannot be loaded over {transport.upper()}")
    files: dict[str, bytes] = {}
    try:
        sizes = [network.size(path) for path in paths]
        for name, path, size in zip(names, paths, sizes, strict=True):
            files[name] = network.read(path)
            if len(files[name]) != size:
                raise Hang(f"mboot: fatal error: {path} has {len(files[name])} bytes instead of {size}")
            if not files[name]:
                raise Hang(f"mboot: fatal error: {path} is empty")
    except NotFound as error:
        raise Hang(f"mboot: fatal error: {error}") from error
    network.console.say(
        f"mboot: {config.title or 'loading'}: kernel {names[0]} and {len(names) - 1} modules,"
        f" {sum(map(len, files.values()))} bytes"
    )
    network.console.say(f"mboot: starting {shlex.join(command_line.split())}")
    return Loaded(
        command_line=command_line,
        kernel=names[0],
        modules=tuple(names[1:]),
        mac=network.mac,
        interface=network.interface,
        title=config.title,
        files=files,
    )
