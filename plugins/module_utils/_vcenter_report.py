# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what has become of each host that was to be in vCenter, in words and as a difference."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import sha1_thumbprint, sha256_thumbprint
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_plan import Sight

__all__ = ["Work", "facts", "report_done", "report_failure", "report_foreseen"]

_DONE = {
    "create_folder": "its folder {was} created",
    "add": "it {was} added",
    "reconnect": "it {was} reconnected",
    "enter_maintenance": "it {was} brought into maintenance mode",
    "move": "it {was} moved from {origin}",
    "leave_maintenance": "it {was} taken out of maintenance mode",
    "license": "its licence {was} assigned",
    "lockdown": "its lockdown mode {was} set to {lockdown}",
}
_ACTIONS = (("add", "added"), ("move", "moved"), ("reconnect", "reconnected"))


@dataclass(eq=False)
class Work:
    """A host that is not done yet, and what has become of it so far."""

    host: HostToAdd
    done: list[str] = field(default_factory=list)
    remaining: tuple[str, ...] = ()
    before: t.Optional[dict[str, str]] = None
    origin: str = ""
    path: str = ""
    trusted: t.Optional[str] = None
    there_already: t.Optional[str] = None
    tries: int = 0
    since: t.Optional[float] = None
    not_before: float = 0.0
    # The step whose answer was lost: it may have been carried out.
    unknown: t.Optional[str] = None

    @property
    def name(self) -> str:
        return self.host.name


def report_failure(results: Results, work: Work, reason: str, path: t.Optional[str]) -> None:
    """A host that could not be brought to where it belongs. path: where it is in vCenter, if it is."""
    extra: dict[str, t.Any] = {"action": _action(work.done, "none"), "steps": list(work.done)}
    if path is not None:
        extra["path"] = path
    before = f" Before that, {_sentence(work, 'was')}." if work.done else ""
    results.fail(work.name, f"{reason}{before}", changed=bool(work.done), **extra)


def report_done(results: Results, work: Work, where: str, sight: t.Optional[Sight]) -> None:
    """A host that is as it should be. sight: how it stands; None when vCenter could not be looked at any more."""
    name = work.name
    if not work.done:
        known_as = where.rpartition("/")[2]
        note = "" if known_as.lower() == name.lower() else f", under the name {known_as}"
        text = f"{name} is at {where}{note}."
    elif work.done == ["add"]:
        text = f"{name} was added at {where}{_trust(work)}."
    else:
        text = f"{name} is at {where}: {_sentence(work, 'was')}{_trust(work)}."
    results.ok(name, changed=bool(work.done), msg=text, action=_action(work.done), steps=list(work.done), path=where)
    if work.done:
        seen = sight is not None and sight.entry is not None
        _diff(results, work, facts(sight) if sight is not None and seen else {"path": where, "state": "connected"})


def report_foreseen(results: Results, work: Work, sight: Sight, steps: t.Sequence[str]) -> None:
    """A host with which these steps would be taken."""
    name = work.name
    work.done = list(steps)
    entry = sight.entry
    where = work.path
    if entry is None or "move" in steps:
        where = f"{sight.place.path}/{name if entry is None else entry.name}"
    connects = bool({"add", "reconnect"}.intersection(steps))
    if connects and work.host.certificate is None:
        work.trusted = sight.presented
    if work.done == ["add"]:
        text = f"{name} would be added at {where}{_trust(work)}."
    else:
        text = f"{name} would be at {where}: {_sentence(work, 'would be')}{_trust(work)}."
    results.ok(name, changed=True, msg=text, action=_action(steps), steps=list(steps), path=where)
    after = {"path": where, "state": "connected", "maintenance_mode": "false", **(work.before or {})}
    after.update(path=where, state="connected")
    if connects and sight.presented is not None:
        after["certificate"] = f"SHA-1 {sha1_thumbprint(sight.presented)}"
    if "leave_maintenance" in steps:
        after["maintenance_mode"] = "false"
    if "lockdown" in steps:
        after["lockdown_mode"] = str(work.host.lockdown_mode)
    _diff(results, work, after)


def _diff(results: Results, work: Work, after: t.Mapping[str, str]) -> None:
    """Both sides show what changes, and the path, so that a reader sees which host it is. A licence key is a secret."""
    before = work.before or {}
    after = dict(after)
    if "license" in work.done:
        before = {**before, "license": "another one, or none"}
        after["license"] = "as asked for"
    keys = [key for key in after if key == "path" or before.get(key) != after[key]]
    results.diff(
        work.name,
        "".join(f"{key}: {before[key]}\n" for key in keys if key in before),
        "".join(f"{key}: {after[key]}\n" for key in keys),
    )


def facts(sight: Sight) -> dict[str, str]:
    """A host's entry in vCenter, for a diff; empty when there is none."""
    entry = sight.entry
    if entry is None:
        return {}
    facts = {"path": entry.path, "state": entry.state, "maintenance_mode": str(entry.maintenance).lower()}
    if entry.thumbprint:
        facts["certificate"] = f"SHA-1 {entry.thumbprint.upper()}"
    if entry.lockdown:
        facts["lockdown_mode"] = entry.lockdown.replace("lockdown", "", 1).lower()
    return facts


def _action(steps: t.Sequence[str], nothing: str = "present") -> str:
    """The one word for what was done with a host."""
    for step, action in _ACTIONS:
        if step in steps:
            return action
    return "configured" if steps else nothing


def _sentence(work: Work, was: str) -> str:
    parts = [
        _DONE[step].format(was=was, origin=work.origin, lockdown=work.host.lockdown_mode)
        # What is undone in the same run is not worth a reader's time.
        for step in work.done
        if not (
            step in ("enter_maintenance", "leave_maintenance")
            and "move" in work.done
            and "enter_maintenance" in work.done
        )
    ]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}"


def _trust(work: Work) -> str:
    if work.trusted is None:
        return ""
    return (
        " with the certificate that answered there, because of trust_on_first_use (SHA-256 thumbprint "
        f"{sha256_thumbprint(work.trusted)}); nobody has confirmed it"
    )
