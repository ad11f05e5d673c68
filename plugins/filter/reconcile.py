# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter reconcile: what PXE servers have, compared with the whole inventory, and what of it may be removed."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import normal_mac
from ansible_collections.pxemanager.esxi.plugins.module_utils._reconcile import (
    Left,
    Wanted,
    asked_names,
    choose,
    compare,
    table,
)


def _get(variables: Mapping[str, t.Any], key: str, default: t.Any = None) -> t.Any:
    """A host's variable. One that cannot be worked out here, such as one of a role's, is as good as not given."""
    try:
        value = variables[key]
    except Exception:
        return default
    return default if value is None else value


def _must(name: str, variables: Mapping[str, t.Any], key: str, default: str) -> str:
    """A variable on which it depends whether a host is left over: one that cannot be worked out stops everything."""
    if key not in variables:
        return default
    try:
        return str(variables[key] or default)
    except Exception as error:
        raise AnsibleFilterError(f"{name}: {key} cannot be worked out from here: {error}") from error


def _wanted(name: str, variables: Mapping[str, t.Any], server: str) -> Wanted:
    network = _get(variables, "esxi_host_network", {})
    address = network.get("address") if isinstance(network, Mapping) else None
    macs = _get(variables, "esxi_host_macs")
    image = _get(variables, "esxi_host_image")
    known = None
    if isinstance(macs, list):
        found = [normal_mac(str(mac)) for mac in macs]
        known = None if None in found else frozenset(mac for mac in found if mac)
    return Wanted(
        name=_must(name, variables, "esxi_host_name", name).lower(),
        server=_must(name, variables, "esxi_host_pxe_server", server),
        owner=_must(name, variables, "esxi_host_owner", ""),
        macs=known,
        address=str(address).split("/", 1)[0] if address else None,
        image=str(image) if image else None,
    )


def _identity(one: Left, force: t.Any) -> dict[str, t.Any]:
    """What a vCenter may know the machine by."""
    return {
        "name": one.name,
        "address": one.host.get("address") or "",
        "macs": list(one.host.get("macs") or []),
        "force": force,
    }


def reconcile(
    found: t.Any,
    hostvars: Mapping[str, t.Any],
    names: t.Sequence[str],
    default_server: str = "",
    owners: t.Sequence[str] = (),
    remove: t.Any = "",
    maximum: int = 1,
    partial: str = "",
    force: t.Any = "",
    lines: int = 200,
) -> dict[str, t.Any]:
    """Compare FOUND, what esxi_pxe_host_info returned by PXE server, with the hosts NAMES (see the documentation)."""
    if not isinstance(found, Mapping) or not all(isinstance(one, Mapping) and "hosts" in one for one in found.values()):
        raise AnsibleFilterError("reconcile takes a dictionary of results of esxi_pxe_host_info, by PXE server")
    wanted = []
    vcenters: dict[str, str] = {}
    for name in names:
        variables = hostvars[name]
        wanted.append(_wanted(name, variables, default_server))
        place = _get(variables, "esxi_host_vcenter", {})
        if isinstance(place, Mapping) and place.get("hostname"):
            vcenters.setdefault(str(place["hostname"]), name)
    labels = set(owners) or {host.owner for host in wanted} or {""}
    reports = compare(wanted, found, labels)
    try:
        asked = asked_names(remove)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    choice = choose(reports, asked, int(maximum), can_ask=bool(vcenters), partial=partial)
    at_stake = {
        one.name: one
        for server, chosen in choice.names.items()
        for one in reports[server].left
        if one.name in set(chosen)
    }
    return {
        "in_order": all(report.in_order for report in reports.values()),
        "servers": {
            server: {
                "table": table(report, int(lines)),
                "published": report.published,
                "wanted": report.wanted,
                "left_over": [one.name for one in report.left],
                "moved": {one.name: one.moved_to for one in report.left if one.moved_to},
                "missing": dict(report.missing),
                "differing": {name: list(what) for name, what in report.differing.items()},
                "conflicts": dict(report.conflicts),
                "problems": list(report.problems),
                "in_order": report.in_order,
                "remove": list(choice.names.get(server, ())),
            }
            for server, report in reports.items()
        },
        "refused": dict(choice.refused),
        "problem": choice.problem,
        "identities": [_identity(one, force) for one in at_stake.values()],
        # One host of each, whose variables have the login.
        "vcenters": [{"hostname": hostname, "of": name} for hostname, name in sorted(vcenters.items())],
    }


class FilterModule:
    """The collection's filters for playbooks."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"reconcile": reconcile}
