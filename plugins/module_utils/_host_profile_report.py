# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: how a host that is to comply with a host profile got on, and what is said of it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profile_view import Profile
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import (
    Entry,
    ProfiledHost,
    Question,
    secret_names,
    state_text,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import HostEntry

__all__ = ["Job", "report"]


@dataclass
class Job:
    """What is known of a host so far, and what was done to it.

    other: a profile that is to be taken off. stored, wanted: the answer file as it is and should be, ``written`` the
    names in which they differ; asked, questions: what the profile asks for. entering: the task that puts it into
    maintenance mode; entered: it is in maintenance mode because of us. unfinished: nobody
    knows whether the profile is still being applied. before, after: in what it does not comply,
    None as long as nobody has looked. action: the last thing that was done to it.
    """

    host: ProfiledHost
    entry: HostEntry
    profile: Profile
    other: t.Optional[Profile]
    attached: bool

    stored: list[Entry] = field(default_factory=list)
    wanted: list[Entry] = field(default_factory=list)
    asked: list[Entry] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    execution: t.Any = None
    needs_maintenance: bool = True
    reboot: bool = False
    entering: t.Any = None
    entered: bool = False
    did_enter: bool = False
    unfinished: bool = False
    was_replaced: bool = False

    changed: bool = False
    action: str = "none"
    written: list[str] = field(default_factory=list)
    answered: bool = False
    missing: list[dict[str, t.Any]] = field(default_factory=list)
    before: t.Optional[list[str]] = None
    after: t.Optional[list[str]] = None
    compliant: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def ref(self) -> t.Any:
        return self.entry.ref

    def stop(self, *sentences: str) -> None:
        """The host goes no further."""
        self.problems.extend(one for one in sentences if one not in self.problems)


def report(job: Job, results: Results, check_mode: bool) -> None:
    """Report a host to ``results``: in check mode what would be done to it, otherwise what was."""
    name, profile = job.host.name, job.profile.name
    if job.after and not job.problems:
        job.stop(_still_not(job))
    foreseen = check_mode and not job.problems
    changed = bool(not job.attached or job.written or not job.compliant) if foreseen else job.changed
    written = job.written if foreseen or job.answered else []
    extra: dict[str, t.Any] = {
        "profile": profile,
        "path": job.entry.path,
        "compliant": job.compliant,
        "non_compliant": job.before or [],
        "answers_written": written,
        "entered_maintenance_mode": job.did_enter,
        "reboot_required": job.reboot,
        "configuration_profile": False,
    }
    if job.after is not None:
        extra["non_compliant_after"] = job.after
    if job.missing:
        extra["missing_answers"] = job.missing
    if changed:
        before = profile if job.attached else (job.other.name if job.other is not None else None)
        after = profile if foreseen or job.action != "none" else (None if job.was_replaced else before)
        secrets = secret_names([*job.stored, *job.wanted], job.host, job.questions)
        failing: t.Optional[list[str]] = [] if foreseen else (job.before if job.after is None else job.after)
        results.diff(
            name,
            state_text(before, job.stored, job.before, secrets=secrets),
            state_text(after, job.wanted if written else job.stored, failing, secrets=secrets, new_secrets=written),
        )
    if job.problems:
        if job.was_replaced and job.action == "none" and job.other is not None:
            job.stop(f"{name} has no host profile now: {job.other.name} was detached.")
        results.fail(name, job.problems, changed=changed, action=job.action, **extra)
        return
    would = "would be" if check_mode else "was"
    were = "would be" if check_mode else "were"
    parts = []
    if not job.attached:
        parts.append(f"it {would} attached" + (f" in place of {job.other.name}" if job.other is not None else ""))
    if job.written:
        parts.append(f"answers {were} written ({', '.join(sorted(job.written))})")
    if job.before:
        mode = ", in maintenance mode" if job.did_enter or (check_mode and job.needs_maintenance) else ""
        one = len(job.before) == 1
        parts.append(f"{len(job.before)} setting{'' if one else 's'} {would if one else were} put right{mode}")
    if job.reboot:
        parts.append("the host needs a reboot" + (" after that" if check_mode else " before all of it holds"))
    if not changed:
        text, job.action = f"{name} complies with host profile {profile}.", "compliant"
    else:
        begin = f"{name} would comply" if check_mode else f"{name} complies"
        text = f"{begin} with host profile {profile}: {'; '.join(parts)}."
        if check_mode:
            job.action = "applied" if not job.compliant else ("answered" if job.written else "attached")
    results.ok(name, changed=changed, msg=text, action=job.action, **extra)


def _still_not(job: Job) -> str:
    left = "; ".join(job.after or []) or "vCenter does not say in what"
    if job.reboot:
        return (
            f"{job.profile.name} was applied to {job.host.name}, which needs a reboot before it complies (still not: "
            f"{left}). Reboot it, and run again."
        )
    return (
        f"{job.profile.name} was applied to {job.host.name}, but it does not comply: {left}. Put these settings right "
        "in the profile or on the host, and run again."
    )
