# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what the vSphere modules take for each host, read and checked. Needs no pyVmomi."""

from __future__ import annotations

import re
import typing as t
from ipaddress import ip_address

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results

__all__ = ["is_host_name", "parse_address", "parse_each"]

Definition = t.TypeVar("Definition")


def is_host_name(text: str) -> bool:
    """Whether a text can be the name or the IP address of a host: keeps out what no host is called."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?", text):
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def parse_address(options: t.Mapping[str, t.Any], errors: list[str]) -> tuple[str, str, int]:
    """Name, address and port of a host's API, from its options; adds a sentence to ``errors`` for each mistake."""
    name = str(options.get("name") or "")
    if not is_host_name(name):
        errors.append(f"{name!r} is no host name.")
    address = str(options.get("address") or name)
    if not is_host_name(address):
        errors.append(f"address {address!r} is no host name or IP address.")
    port = 443 if options.get("port") is None else int(options["port"])
    if not 0 < port < 65536:
        errors.append(f"port {port} is not between 1 and 65535.")
    return name, address, port


def parse_each(
    definitions: t.Iterable[t.Mapping[str, t.Any]],
    parse: t.Callable[[t.Mapping[str, t.Any]], Definition],
    results: Results,
) -> list[Definition]:
    """The definitions that are sound; every other one is reported as failed, under its name, with all its mistakes.

    A name that occurs twice is two hosts or one mistake: nobody can tell, so neither is touched.
    """
    parsed: dict[str, tuple[str, t.Optional[Definition]]] = {}
    for definition in definitions:
        name = str(definition.get("name") or "")
        if name.lower() in parsed:
            first, _unused = parsed[name.lower()]
            parsed[name.lower()] = (first, None)
            for twice in sorted({first, name}):
                results.fail(twice, f"The host {name} is in the list twice: give it once.", action="none")
            continue
        try:
            parsed[name.lower()] = (name, parse(definition))
        except DefinitionError as error:
            parsed[name.lower()] = (name, None)
            results.fail(name, list(error.errors), action="none")
    return [host for _unused, host in parsed.values() if host is not None]
