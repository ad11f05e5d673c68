# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what is to be done with a host in a vCenter, decided from what is seen."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import RefusedError
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import sha1_thumbprint, sha256_thumbprint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import LOCKDOWN_MODES, HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import HostEntry, Inventory, Place

__all__ = [
    "Sight",
    "certificate_to_use",
    "entry_of",
    "needs_certificate",
    "needs_power_state",
    "state_in_words",
    "steps_for",
]


@dataclass(frozen=True)
class Sight:
    """One host as it stands: in vCenter, and at its own address.

    entry: what vCenter has. place: where it belongs.
    presented: the certificate (PEM) at its address, when that was looked at. licensed: its licence key.
    powered_on: how many virtual machines run on it, when that was looked at.
    """

    place: Place
    entry: t.Optional[HostEntry] = None
    presented: t.Optional[str] = None
    licensed: t.Optional[str] = None
    powered_on: int = 0


def entry_of(host: HostToAdd, inventory: Inventory) -> t.Optional[HostEntry]:
    """The host's entry in vCenter: under its name or, where somebody added it by that, under its IP address.

    Where there are several of one name, which only a confused vCenter has, the one that is in use.
    """
    named = inventory.hosts_named(host.name)
    if not named and host.address.lower() != host.name.lower():
        named = inventory.hosts_named(host.address)
    return next((entry for entry in named if entry.state == "connected"), named[0] if named else None)


def needs_certificate(host: HostToAdd, entry: t.Optional[HostEntry]) -> bool:
    """Whether the certificate at the host's address matters.

    A connected host that vCenter knows by another certificate than it reported was given one by vCenter, which is
    usual, or was reinstalled just now, which vCenter has not noticed: only the host itself can tell.
    """
    if entry is None or entry.state != "connected":
        return True
    if host.certificate is None or entry.thumbprint is None or not host.reconnect:
        return False
    return entry.thumbprint.upper() != sha1_thumbprint(host.certificate)


def needs_power_state(entry: t.Optional[HostEntry], place: Place) -> bool:
    """Whether the virtual machines on the host matter: it would have to go into maintenance mode to be moved."""
    return (
        entry is not None
        and entry.state == "connected"
        and entry.in_cluster
        and not entry.maintenance
        and entry.place != place.path
    )


def certificate_to_use(host: HostToAdd, sight: Sight) -> str:
    """The certificate (PEM) that vCenter is told: the one at the host's address, if it is known to be the host's.

    It is when the host has reported it, when vCenter knows the host by it already, or when anybody is to be trusted.
    Raises RefusedError.
    """
    presented = sight.presented
    if presented is None:
        raise RefusedError(f"The certificate of {host.name} was not looked at.")
    known = sight.entry.thumbprint if sight.entry is not None else None
    reported = host.certificate
    if reported is None or reported == presented or (known and known.upper() == sha1_thumbprint(presented)):
        return presented
    raise RefusedError(
        f"The certificate at {host.address}:{host.port} is not the one that {host.name} reported: its SHA-256 "
        f"thumbprint is {sha256_thumbprint(presented)}, reported was {sha256_thumbprint(reported)}. "
        "Someone else answers at that address, or the host was reinstalled or given another certificate since. "
        f"Nothing was sent. Reinstall {host.name} so that it reports itself, or correct its address."
    )


def steps_for(host: HostToAdd, sight: Sight, *, entered_maintenance: bool = False) -> tuple[str, ...]:
    """What is to be done, in this order; empty when the host is as it should be.

    entered_maintenance: it was brought into maintenance mode for being moved, so it leaves that again.
    Raises RefusedError when something stands in the way, before anything is done.
    """
    entry, place = sight.entry, sight.place
    steps: list[str] = []
    if entry is None:
        certificate_to_use(host, sight)
        steps += ["create_folder"] if place.missing else []
        steps.append("add")
        if host.lockdown_mode not in (None, "disabled"):
            steps.append("lockdown")
        return tuple(steps)
    moves = entry.place != place.path
    if moves:
        _may_move(host, sight, entry)
    if entry.state != "connected":
        if not host.reconnect:
            raise RefusedError(
                f"{host.name} is at {entry.path}, but vCenter shows it as {state_in_words(entry.state)}: reconnect it "
                "there, or allow it with reconnect."
            )
        certificate_to_use(host, sight)
        steps.append("reconnect")
    elif sight.presented is not None and sight.presented == host.certificate:
        # vCenter goes by another certificate: it has not noticed yet that the host was reinstalled.
        steps.append("reconnect")
    leaves = entered_maintenance and entry.maintenance
    if moves:
        steps += ["create_folder"] if place.missing else []
        if entry.in_cluster and not entry.maintenance:
            steps.append("enter_maintenance")
            leaves = True
        steps.append("move")
    if leaves or (host.leave_maintenance and entry.maintenance):
        steps.append("leave_maintenance")
    if host.license is not None and sight.licensed != host.license:
        steps.append("license")
    if host.lockdown_mode is not None:
        if (entry.lockdown or LOCKDOWN_MODES["disabled"]) != LOCKDOWN_MODES[host.lockdown_mode]:
            steps.append("lockdown")
    return tuple(steps)


def _may_move(host: HostToAdd, sight: Sight, entry: HostEntry) -> None:
    """Raises RefusedError when the host cannot or may not be moved to its place."""
    place = sight.place
    if not host.move:
        raise RefusedError(
            f"{host.name} is in this vCenter already, at {entry.path}, but should be in {place.path}: allow it with "
            "move, move it there in vCenter, or correct its place in the inventory."
        )
    if entry.datacenter != place.datacenter:
        raise RefusedError(
            f"{host.name} is in datacenter {entry.datacenter}, at {entry.path}, but should be in {place.path}: a host "
            "cannot be moved from one datacenter to another. Remove it from vCenter and run again, or correct its "
            "place in the inventory."
        )
    if needs_power_state(entry, place) and sight.powered_on:
        raise RefusedError(
            f"{host.name} is at {entry.path}, but should be in {place.path}; {sight.powered_on} virtual machines run "
            "on it, and a host leaves its cluster in maintenance mode only. Bring it into maintenance mode (which "
            "moves the machines away) and run again."
        )


def state_in_words(state: str) -> str:
    """``disconnected``, ``not responding``, or what else vCenter says."""
    return {"notResponding": "not responding", "disconnected": "disconnected"}.get(state, f"in state {state}")
