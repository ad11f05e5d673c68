# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters call_groups, in_group, host_conflicts and images_wanted: what a play with several sites is made of."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping

from ansible.errors import AnsibleFilterError


def call_groups(hosts: Iterable[Mapping[str, t.Any]], by: list[str]) -> list[dict[str, t.Any]]:
    """Return a group for each call that HOSTS need when all in one call must agree in BY.

    A group names its hosts and shows of BY only what is plain text at the top: a login stays where it is.
    """
    groups: list[dict[str, t.Any]] = []
    # Compared, not hashed: a login is a dictionary, and there are as many as there are vCenters.
    wanted: list[tuple[list[t.Any], dict[str, t.Any]]] = []
    for host in hosts:
        try:
            values = [host[key] for key in by]
            name, inventory_name = host["name"], host["host"]
        except (KeyError, TypeError) as error:
            raise AnsibleFilterError(f"call_groups takes hosts with name, host and {', '.join(by)}: {error}") from error
        group = next((group for others, group in wanted if others == values), None)
        if group is None:
            first = values[0]
            label = first.get("hostname", "") if isinstance(first, Mapping) else str(first)
            shown = {key: value for key, value in zip(by, values) if isinstance(value, str)}
            group = {**shown, "label": label, "first": inventory_name, "names": []}
            groups.append(group)
            wanted.append((values, group))
        group["names"].append(name)
    return groups


def in_group(hosts: Iterable[Mapping[str, t.Any]], group: Mapping[str, t.Any]) -> list[Mapping[str, t.Any]]:
    """Return those of HOSTS that are in GROUP, one of call_groups."""
    names = frozenset(group["names"])
    return [host for host in hosts if host["name"] in names]


def _mac(text: t.Any) -> str:
    """A MAC address as it is compared; what is none is left to the definition's own check."""
    return "".join(letter for letter in str(text).lower() if letter in "0123456789abcdef")


def _read(hostvars: Mapping[str, t.Any], name: str, *keys: str) -> list[t.Any]:
    """Variables of a host that is not in the play; None for one that is not set or cannot be made out there."""
    variables = hostvars[name]
    values: list[t.Any] = []
    for key in keys:
        try:
            value = variables.get(key)
            values.append(list(value) if isinstance(value, (list, tuple)) else value)
        except Exception:  # a template that only the role's own variables would fill
            values.append(None)
    return values


def host_conflicts(hostvars: Mapping[str, t.Any], play: Iterable[str], default_server: str = "") -> dict[str, str]:
    """Return for each host of PLAY that a host of another PXE server gets in the way of one sentence, by its name.

    All hosts of the inventory are looked at for MAC addresses, those of the play for what a play must tell apart. Two
    hosts of one PXE server are left to that server. A host without a server of its own has the DEFAULT_SERVER.
    """
    hosts = {name: hostvars[name]["esxi_host__self"] for name in play}
    servers = {name: str(host["server"]) for name, host in hosts.items()}
    macs: dict[str, list[str]] = {}
    for name in hostvars:
        if name in hosts:
            given = hosts[name]["definition"]["macs"]
        else:
            given, server = _read(hostvars, name, "esxi_host_macs", "esxi_host_pxe_server")
            servers[name] = str(server or default_server)
        for mac in given if isinstance(given, (list, tuple)) else []:
            macs.setdefault(_mac(mac), []).append(name)
    found: dict[str, str] = {}
    for name, host in hosts.items():
        for mac in host["definition"]["macs"] if isinstance(host["definition"]["macs"], (list, tuple)) else []:
            for other in macs[_mac(mac)]:
                if servers[other] != servers[name]:
                    found.setdefault(
                        name,
                        f"{name}: its MAC address {mac} is also that of {other} on PXE server {servers[other]}. No two "
                        "machines have the same: correct esxi_host_macs of one of the two.",
                    )
    for key, sentence in (
        ("name", "has the same esxi_host_name, {value}. Give each host a name of its own."),
        (
            "api_address",
            "would be reached at the same address, {value}. Correct the address of one of the two; where the networks "
            "of two sites really overlap, set esxi_host_api_address to what this controller reaches the host at, or "
            "run each site in a play of its own.",
        ),
    ):
        first: dict[str, str] = {}
        for name, host in hosts.items():
            other = first.setdefault(str(host[key]).lower(), name)
            if servers[other] != servers[name]:
                for one, two in ((name, other), (other, name)):
                    text = sentence.format(value=host[key])
                    found.setdefault(one, f"{one}: {two} on PXE server {servers[two]} {text}")
    return found


def images_wanted(hostvars: Mapping[str, t.Any], hosts: Iterable[str], default_server: str) -> dict[str, list[str]]:
    """Return the names of the images that HOSTS, names of the inventory, use on each PXE server."""
    wanted: dict[str, dict[str, None]] = {}
    for name in hosts:
        image, server = _read(hostvars, name, "esxi_host_image", "esxi_host_pxe_server")
        if image:
            wanted.setdefault(str(server or default_server), {})[str(image)] = None
    return {server: list(names) for server, names in wanted.items()}


class FilterModule:
    """The collection's filters for plays with several sites."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "call_groups": call_groups,
            "in_group": in_group,
            "host_conflicts": host_conflicts,
            "images_wanted": images_wanted,
        }
