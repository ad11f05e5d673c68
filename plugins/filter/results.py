# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters host_result and hosts_with: each host's share of the calls that served all hosts."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError


def _all_calls(registered: t.Any) -> t.Iterator[Mapping[str, t.Any]]:
    """The single calls of a registered result, loops unrolled, without what was skipped."""
    if not isinstance(registered, Mapping):
        raise AnsibleFilterError("this filter takes a list of registered results")
    for call in registered.get("results", [registered]):
        if isinstance(call, Mapping) and not call.get("skipped"):
            yield call


def _calls(registered: t.Any) -> t.Iterator[Mapping[str, t.Any]]:
    """Those calls that have a result for each host."""
    for call in _all_calls(registered):
        if isinstance(call.get("hosts"), Mapping):
            yield call


def _item(call: t.Any) -> t.Any:
    """What the loop was at when it made the call: a name, or a group of the filter call_groups.

    An item may itself be a call of an earlier loop.
    """
    while isinstance(call, Mapping) and "names" not in call:
        call = call.get(call.get("ansible_loop_var", "item"))
    return call


def host_result(
    registered: list[t.Any], name: str, otherwise: str = "no call mentions this host", of: str | list[str] | None = None
) -> dict[str, t.Any]:
    """Return the result of host NAME out of REGISTERED (see the filter's documentation)."""
    items = [of] if isinstance(of, str) else list(of or [])
    mine = []
    for one in registered:
        for call in _all_calls(one):
            hosts = call.get("hosts")
            if isinstance(hosts, Mapping):
                if name in hosts:
                    mine.append(hosts[name])
                continue
            item = _item(call)
            if isinstance(item, Mapping):
                concerned, shown = name in item["names"], item["label"]
            else:
                concerned, shown = item in items, item
            if concerned:
                # The call failed as a whole, before it came to any host.
                reason = call.get("msg") or otherwise
                mine.append({"failed": True, "changed": False, "msg": f"{name}: {shown}: {reason}"})
    for result in mine:
        if result.get("failed"):
            return dict(result)
    if mine:
        return dict(mine[-1])
    return {"failed": True, "changed": False, "msg": f"{name}: {otherwise}"}


def hosts_with(registered: list[t.Any], changed: bool | None = None, failed: bool | None = None) -> list[str]:
    """Return the names of the hosts in REGISTERED whose result is as CHANGED and FAILED say; None asks nothing."""
    names: dict[str, None] = {}
    for one in registered:
        for call in _calls(one):
            for name, result in call["hosts"].items():
                if (changed is None or bool(result.get("changed")) == changed) and (
                    failed is None or bool(result.get("failed")) == failed
                ):
                    names[name] = None
    return list(names)


class FilterModule:
    """The collection's filters for playbooks."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"host_result": host_result, "hosts_with": hosts_with}
