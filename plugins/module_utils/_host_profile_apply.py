# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: bring hosts of a vCenter to comply with host profiles.

Hosts go through the steps together, in waves: attach, answer, check, enter maintenance mode, apply, check again, leave.
What changes something is one of `AssociateProfile`, `DissociateProfile`, `UpdateAnswerFile_Task`,
`EnterMaintenanceMode_Task`, `ApplyHostConfig_Task` and `ExitMaintenanceMode_Task`. A compliance check is a look: it
needs no more than the privilege System.View, and leaves behind nothing but vCenter's note of its result.
"""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profile_report import Job, report
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profile_view import (
    HostNow,
    Metadata,
    Profile,
    Profiles,
    from_entries,
    look_at_hosts,
    self_configured,
    to_entries,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import (
    AnswerError,
    Entry,
    ProfiledHost,
    describe_problems,
    merge_answers,
    missing_answers,
    names_are_known,
    why_not,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    HostEntry,
    PlaceError,
    Session,
    TaskOutcome,
    VsphereError,
    connection_errors,
    fault_kinds,
    read_inventory,
    run_tasks,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = ["apply_profiles"]

# Faults that come before anything is done to a host.
_REFUSALS = {
    "vim.fault.NoPermission",
    "vim.fault.InvalidState",
    "vim.fault.NotAuthenticated",
    "vim.fault.TaskInProgress",
}
# vCenter itself ends a maintenance mode task that takes too long; its own sentence is better than ours.
_GRACE_SECONDS = 60
_MACHINES_NAMED = 5


def apply_profiles(
    session: Session,
    hosts: t.Sequence[ProfiledHost],
    results: Results,
    *,
    parallel: int = 16,
    timeout: float = 600.0,
    maintenance_timeout: int = 600,
    check_mode: bool = False,
) -> None:
    """Bring hosts to comply with their profiles and report each one to ``results``.

    parallel: hosts of a wave. timeout: seconds for each task; maintenance_timeout: for going into and out of
    maintenance mode. Raises VsphereError only when nothing at all could be done: profiles or inventory cannot be read.
    """
    jobs = _jobs(session, hosts, results)
    metadata = Metadata(session)
    for start in range(0, len(jobs), parallel):
        wave = _Wave(session, metadata, jobs[start : start + parallel], timeout, maintenance_timeout, check_mode)
        wave.run()
        for job in wave.jobs:
            report(job, results, check_mode)


def _jobs(session: Session, hosts: t.Sequence[ProfiledHost], results: Results) -> list[Job]:
    """The hosts that can be worked on; every other one is reported."""
    profiles = Profiles(session)
    inventory = read_inventory(session)
    found: list[tuple[ProfiledHost, HostEntry, Profile]] = []
    for host in hosts:
        try:
            profile = profiles.named(host.profile)
        except PlaceError as error:
            results.fail(host.name, str(error), action="none")
            continue
        entries = inventory.hosts_named(host.name)
        if len(entries) != 1:
            sentence = (
                f"{host.name} is not in this vCenter: add it first (module vcenter_add_host)."
                if not entries
                else f"This vCenter has {host.name} more than once: at {', '.join(one.path for one in entries)}."
            )
            results.fail(host.name, sentence, action="none")
        elif entries[0].state != "connected":
            words = {"notResponding": "not responding"}.get(entries[0].state, entries[0].state)
            results.fail(
                host.name,
                f"vCenter shows {host.name} as {words}: its profile can be applied once it is connected. Reconnect it "
                "and run again.",
                action="none",
                path=entries[0].path,
            )
        else:
            found.append((host, entries[0], profile))
    managed = self_configured(
        session, [entry.resource for _host, entry, _profile in found if entry.resource is not None]
    )
    jobs = []
    for host, entry, profile in found:
        cluster = entry.resource
        if cluster is not None and str(cluster._moId) in managed:
            results.fail(
                host.name,
                f"{host.name} is in {entry.place}, whose hosts vSphere Configuration Profiles configure: a host "
                "profile cannot be used there. Change the desired configuration of the cluster in vCenter, and take "
                "the host profile out of this host's definition.",
                action="none",
                path=entry.path,
                configuration_profile=True,
            )
            continue
        own = profiles.attached_to(entry.ref)
        cluster_wide = profiles.attached_to(cluster) if cluster is not None else None
        current = own or cluster_wide
        if current is not None and current.name != profile.name and not (host.replace and own is not None):
            where = "it" if own is not None else f"its cluster {entry.place}"
            remedy = (
                "set replace to exchange it"
                if own is not None
                else "detach that one from the cluster in vCenter, or ask for it"
            )
            results.fail(
                host.name,
                f"{host.name} should have host profile {profile.name}, but {current.name} is attached to {where}: "
                f"{remedy}.",
                action="none",
                path=entry.path,
            )
            continue
        attached = current is not None and current.name == profile.name
        jobs.append(Job(host, entry, profile, None if attached else own, attached))
    return jobs


class _Wave:
    """Hosts that go through the steps together. Each step is for those that nothing has stopped so far."""

    def __init__(
        self,
        session: Session,
        metadata: Metadata,
        jobs: t.Sequence[Job],
        timeout: float,
        maintenance_timeout: int,
        check_mode: bool,
    ) -> None:
        self.jobs = jobs
        self._session = session
        self._metadata = metadata
        self._timeout = timeout
        self._maintenance_timeout = maintenance_timeout
        self._check_mode = check_mode
        self._manager = session.content.hostProfileManager

    def run(self) -> None:
        try:
            self._run()
        finally:
            # Whatever happens, and a fault of our own is no reason to leave hosts where nobody looks for them.
            self._leave_maintenance_mode()

    def _run(self) -> None:
        if not self._check_mode:
            self._attach()
        self._read_answers()
        if not self._check_mode:
            self._write_answers()
        self._check()
        failing = [job for job in self._going() if not job.compliant]
        self._work_out(failing)
        failing = [job for job in failing if not job.problems]
        self._ask_for_requirements(failing)
        self._enter_maintenance_mode([job for job in failing if job.needs_maintenance])
        failing = [job for job in failing if not job.problems]
        if self._check_mode:
            return
        self._apply(failing)
        self._check([job for job in failing if not job.problems], again=True)

    def _going(self) -> list[Job]:
        return [job for job in self.jobs if not job.problems]

    # -- the two ways to ask vCenter ---------------------------------------------------------------------------------

    def _together(
        self, doing: str, jobs: t.Sequence[Job], call: t.Callable[[Job], t.Any]
    ) -> t.Iterator[tuple[Job, t.Any]]:
        """Make a call for each host, side by side; yield the answers. A host whose call fails is stopped."""

        def one(job: Job) -> TaskOutcome:
            try:
                with connection_errors(self._session.endpoint):
                    return TaskOutcome(result=call(job))
            except AnswerError as error:
                job.stop(*error.errors)
                return TaskOutcome()
            except VsphereError as error:
                return TaskOutcome(problem=str(error))
            except vmodl.MethodFault as fault:
                return TaskOutcome(fault=fault)

        if jobs:
            with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
                for job, outcome in zip(jobs, list(pool.map(one, jobs))):
                    self._judge(doing, job, outcome)
                    if not job.problems:
                        yield job, outcome.result

    def _tasks(
        self,
        doing: str,
        jobs: t.Sequence[Job],
        start: t.Callable[[Job], t.Callable[[], t.Any]],
        timeout: t.Optional[float] = None,
    ) -> t.Iterator[tuple[Job, TaskOutcome]]:
        """Run a task for each host; yield every outcome after a host whose task failed was stopped."""
        by_name = {job.host.name: job for job in jobs}
        starts = {name: start(job) for name, job in by_name.items()}
        seconds = self._timeout if timeout is None else timeout
        for name, outcome in run_tasks(self._session, starts, parallel=max(1, len(starts)), timeout=seconds):
            self._judge(doing, by_name[name], outcome)
            yield by_name[name], outcome

    def _judge(self, doing: str, job: Job, outcome: TaskOutcome) -> None:
        if outcome.fault is not None:
            job.stop(
                why_not(
                    doing,
                    outcome.fault,
                    host=job.host.name,
                    profile=job.profile.name,
                    seconds=self._maintenance_timeout,
                )
            )
        elif outcome.problem is not None:
            job.stop(f"{outcome.problem} See in vCenter what became of it, and run again.")

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        def attach(job: Job) -> None:
            if job.other is not None:
                job.other.ref.DissociateEntities([job.ref])
                job.changed, job.was_replaced = True, True
            try:
                job.profile.ref.AssociateEntities([job.ref])
            except vmodl.MethodFault:
                if job.other is not None:
                    # As it was: a host should not lose its profile because it cannot get another one.
                    with suppress(vmodl.MethodFault):
                        job.other.ref.AssociateEntities([job.ref])
                        job.changed, job.was_replaced = False, False
                raise

        for job, _unused in self._together("attach", [job for job in self._going() if not job.attached], attach):
            job.changed, job.action = True, "attached"

    def _read_answers(self) -> None:
        """Find out what the answer file has and should have, and whether the profile asks for more."""

        def read(job: Job) -> None:
            answers = self._manager.RetrieveAnswerFile(job.ref)
            job.stored = to_entries(answers.userInput if answers is not None else None)
            if not job.attached or not names_are_known(job.host, job.stored):
                self._execute(job, job.stored)
                if not job.attached:
                    # What an earlier profile asked for is not this one's.
                    paths = {(one.path.profile, one.path.policy) for one in job.asked}
                    job.stored = [one for one in job.stored if (one.path.profile, one.path.policy) in paths]
            else:
                job.questions = self._metadata.questions(job.profile, job.stored)
            job.wanted, job.written = merge_answers(job.host, job.stored, job.asked, job.questions)
            if job.written:
                # The answers are verified before they are written, by who will use them.
                self._execute(job, job.wanted)

        for job, _unused in self._together("read", self._going(), read):
            if job.written:
                self._judge_execution(job)

    def _execute(self, job: Job, entries: t.Sequence[Entry]) -> None:
        """Have the profile worked out for a host with some answers: nothing is changed by that."""
        job.execution = job.profile.ref.Execute(job.ref, from_entries(entries))
        job.asked = to_entries(job.execution.requireInput)
        job.questions = self._metadata.questions(job.profile, [*entries, *job.asked])

    def _work_out(self, jobs: t.Sequence[Job]) -> None:
        unknown = [job for job in jobs if job.execution is None]
        for _unused in self._together("execute", unknown, lambda job: self._execute(job, job.wanted)):
            pass
        for job in jobs:
            if not job.problems:
                self._judge_execution(job)

    def _judge_execution(self, job: Job) -> None:
        status = str(job.execution.status)
        if status == "needInput":
            job.missing = missing_answers(job.asked, job.questions)
            wanted = "; ".join(
                f"{one['name']}{' (' + one['description'].rstrip('.') + ')' if one['description'] else ''}"
                f"{' [secret]' if one['secret'] else ''}"
                for one in job.missing
            )
            job.stop(
                f"{job.profile.name} asks {job.host.name} for answers that are not given: "
                f"{wanted or 'it is not told which'}. Give them in answers, secrets in secret_answers."
            )
        elif status != "success":
            texts = [str(one.message.message or one.message.key) for one in job.execution.error or []]
            job.stop(
                f"vCenter cannot work out what {job.profile.name} would change on {job.host.name}: "
                f"{'; '.join(texts).rstrip('.') or 'it does not say why'}. Put it right in the profile, and run again."
            )

    def _write_answers(self) -> None:
        def write(job: Job) -> t.Callable[[], t.Any]:
            spec = vim.profile.host.ProfileManager.AnswerFileOptionsCreateSpec(
                validating=True, userInput=from_entries(job.wanted)
            )
            return lambda: self._manager.UpdateAnswerFile(job.ref, spec)

        for job, outcome in self._tasks("answer", [job for job in self._going() if job.written], write):
            if outcome.succeeded:
                job.changed, job.answered, job.action = True, True, "answered"

    def _check(self, jobs: t.Optional[t.Sequence[Job]] = None, again: bool = False) -> None:
        manager = self._session.content.complianceManager

        def check(job: Job) -> t.Callable[[], t.Any]:
            return lambda: manager.CheckCompliance([job.profile.ref], [job.ref])

        for job, outcome in self._tasks("check", self._going() if jobs is None else jobs, check):
            if not outcome.succeeded:
                continue
            mine = [one for one in outcome.result or [] if one.entity._moId == job.ref._moId]
            status = str(mine[0].complianceStatus) if mine else "unknown"
            problems = [line for one in mine for line in describe_problems(one)]
            job.compliant = status == "compliant"
            if status == "running" or (again and status not in ("compliant", "nonCompliant")):
                job.stop(
                    f"vCenter does not know whether {job.host.name} complies with {job.profile.name} ({status}"
                    f"{': ' + '; '.join(problems) if problems else ''}): check it in vCenter and run again."
                )
            elif again:
                job.after = [] if job.compliant else problems or ["vCenter does not say in what"]
            elif job.compliant:
                job.before = []
            else:
                # Not known is no reason to stop here: it is what vCenter says while answers are missing.
                job.before = problems or [
                    "vCenter does not say in what" if status == "nonCompliant" else "vCenter does not know"
                ]

    def _ask_for_requirements(self, jobs: t.Sequence[Job]) -> None:
        """Whether the changes need maintenance mode, and a reboot."""

        def ask(job: Job) -> t.Callable[[], t.Any]:
            return lambda: self._manager.GenerateTaskList(job.execution.configSpec, job.ref)

        starts = {job.host.name: ask(job) for job in jobs}
        by_name = {job.host.name: job for job in jobs}
        for name, outcome in run_tasks(self._session, starts, parallel=max(1, len(starts)), timeout=self._timeout):
            # Where it cannot be told, maintenance mode is the safe way; so a failure here is none of the host's.
            if outcome.succeeded and outcome.result is not None:
                needed = {str(one) for one in outcome.result.taskListRequirement or []}
                by_name[name].needs_maintenance = "maintenanceModeRequired" in needed
                by_name[name].reboot = "rebootRequired" in needed

    def _enter_maintenance_mode(self, jobs: t.Sequence[Job]) -> None:
        if not jobs:
            return
        try:
            now = look_at_hosts(self._session, [job.ref for job in jobs])
        except VsphereError as error:
            for job in jobs:
                job.stop(f"{error} Nothing was applied to {job.host.name}: run again.")
            return
        for job in jobs:
            self._judge_maintenance(job, now.get(str(job.ref._moId)))
        going = [
            job
            for job in jobs
            if not job.problems and not now[str(job.ref._moId)].in_maintenance_mode and not self._check_mode
        ]

        def enter(job: Job) -> t.Callable[[], t.Any]:
            def start() -> t.Any:
                job.entering = job.ref.EnterMaintenanceMode(self._maintenance_timeout, False)
                return job.entering

            return start

        for job, outcome in self._tasks("enter", going, enter, self._maintenance_timeout + _GRACE_SECONDS):
            if outcome.succeeded:
                job.entered = job.did_enter = job.changed = True
            elif outcome.problem is not None and job.entering is not None:
                # Or the host would go into maintenance mode later, when nobody takes it out again.
                with suppress(Exception):
                    job.entering.CancelTask()

    def _judge_maintenance(self, job: Job, now: t.Optional[HostNow]) -> None:
        name = job.host.name
        if now is None:
            job.stop(f"{name} has gone from vCenter while this ran: see what became of it.")
        elif now.in_maintenance_mode:
            return
        elif not job.host.enter_maintenance_mode:
            job.stop(
                f"{job.profile.name} can be applied to {name} in maintenance mode only, and this module must not put "
                "it there (enter_maintenance_mode): do so in vCenter, and run again."
            )
        elif now.running:
            more = f" and {len(now.running) - _MACHINES_NAMED} more" if len(now.running) > _MACHINES_NAMED else ""
            job.stop(
                f"{job.profile.name} can be applied to {name} in maintenance mode only, and virtual machines run on "
                f"it: {', '.join(now.running[:_MACHINES_NAMED])}{more}. Move or stop them, or put the host into "
                "maintenance mode in vCenter, and run again."
            )

    def _apply(self, jobs: t.Sequence[Job]) -> None:
        def apply(job: Job) -> t.Callable[[], t.Any]:
            # The complete input as the profile has verified it, not what we sent.
            return lambda: self._manager.ApplyHostConfiguration(
                job.ref, job.execution.configSpec, job.execution.requireInput or None
            )

        for job, outcome in self._tasks("apply", jobs, apply):
            # Also a failure may come after some settings were made.
            if outcome.fault is None or not _REFUSALS.intersection(fault_kinds(outcome.fault)):
                job.changed, job.action = True, "applied"
            job.unfinished = outcome.problem is not None

    def _leave_maintenance_mode(self) -> None:
        """Also hosts that were stopped: they go back to where they were, and nobody finds them there by surprise.

        Only a host on which a profile may still be at work is left alone.
        """

        def leave(job: Job) -> t.Callable[[], t.Any]:
            return lambda: job.ref.ExitMaintenanceMode(self._maintenance_timeout)

        for job in self.jobs:
            if job.entered and job.unfinished:
                job.stop(
                    f"{job.host.name} stays in maintenance mode, because {job.profile.name} may still be applied to "
                    "it: take it out in vCenter when that has ended."
                )
        entered = [job for job in self.jobs if job.entered and not job.unfinished]
        for job, outcome in self._tasks("leave", entered, leave, self._maintenance_timeout + _GRACE_SECONDS):
            job.entered = not outcome.succeeded
            if job.entered:
                job.stop(f"{job.host.name} is still in maintenance mode: take it out in vCenter.")
