# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: bringing ESXi hosts into a vCenter, many over one session, each with a known certificate.

It goes in rounds: look at vCenter and, where that matters, at the hosts' certificates; decide what each host needs
next; do that one step for all of them, so many at a time; look again. A host is done when there is nothing left to do,
so what a lost answer has left unknown is known at the next look, and a second run of the module is one look.
"""

from __future__ import annotations

import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import RefusedError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import (
    UnreachableError,
    UnresolvableError,
    fetch_certificate,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_faults import (
    Attempt,
    explain,
    is_worth_retrying,
    says_already_there,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_plan import (
    Sight,
    certificate_to_use,
    entry_of,
    needs_certificate,
    needs_power_state,
    state_in_words,
    steps_for,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_report import (
    Work,
    facts,
    report_done,
    report_failure,
    report_foreseen,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_steps import (
    assigned_licenses,
    create_folders,
    disconnect,
    do_call,
    task_for,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    Inventory,
    Place,
    PlaceError,
    count_powered_on,
    read_inventory,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    LoginRefusedError,
    ServiceUnavailableError,
    Session,
    VsphereError,
    connection_errors,
    fault_kinds,
    is_fault,
    session_is_over,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_tasks import TaskOutcome, run_tasks

__all__ = ["HostToAdd", "add_hosts"]

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_SHOW_EVERY = 2.0


def add_hosts(
    session: Session,
    hosts: t.Sequence[HostToAdd],
    results: Results,
    *,
    parallel: int = 16,
    timeout: float = 600.0,
    retry_for: float = 120.0,
    check_mode: bool = False,
    connect_timeout: float = 10.0,
    progress: t.Callable[[str], None] = lambda _line: None,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """Bring hosts into vCenter and report each one to ``results`` (extra: ``action``, ``steps``, ``path``).

    timeout: seconds for each task of vCenter. retry_for: seconds for which what may pass is tried again, with growing
    pauses: a host that does not answer yet, a busy vCenter, a lost connection. Wrong passwords are never tried again.
    progress: gets a line whenever some hosts have come further.
    Raises VsphereError only when nothing at all could be done: the inventory cannot be read.
    """
    _Join(
        session, hosts, results, parallel, timeout, retry_for, check_mode, connect_timeout, progress, clock, sleep
    ).run()


class _Join:
    def __init__(
        self,
        session: Session,
        hosts: t.Sequence[HostToAdd],
        results: Results,
        parallel: int,
        timeout: float,
        retry_for: float,
        check_mode: bool,
        connect_timeout: float,
        progress: t.Callable[[str], None],
        clock: t.Callable[[], float],
        sleep: t.Callable[[float], None],
    ) -> None:
        self._session = session
        self._pending = [Work(host) for host in hosts]
        self._total = len(hosts)
        self._results = results
        self._parallel = parallel
        self._timeout = timeout
        self._retry_for = retry_for
        self._check_mode = check_mode
        self._connect_timeout = connect_timeout
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._has_looked = False
        self._session_lost = False
        self._stranded: list[tuple[Work, Sight]] = []

    def run(self) -> None:
        while self._pending:
            now = self._clock()
            ready = [work for work in self._pending if work.not_before <= now]
            if not ready:
                self._sleep(max(0.01, min(work.not_before for work in self._pending) - now))
                continue
            try:
                if self._session_lost:
                    self._session.renew()
                    self._session_lost = False
                seen = self._look(ready)
            except ServiceUnavailableError as error:
                self._session_lost = True
                self._cannot_look(ready, error, passing=True)
            except LoginRefusedError as error:
                # For every host: each further login would be one more wrong one.
                self._cannot_look(list(self._pending), error, passing=False)
            except VsphereError as error:
                self._cannot_look(ready, error, passing=False)
            else:
                self._has_looked = True
                self._act(seen)
            self._show()
        self._restore()

    # -- looking

    def _look(self, ready: t.Sequence[Work]) -> list[tuple[Work, Sight]]:
        """How each host stands now. Hosts that cannot be looked at are reported or put off."""
        lockdown = any(work.host.lockdown_mode is not None for work in ready)
        inventory = read_inventory(self._session, lockdown=lockdown)
        places: dict[t.Any, t.Union[Place, PlaceError]] = {}
        known: list[tuple[Work, Sight]] = []
        for work in ready:
            place = self._place(inventory, work.host, places)
            if isinstance(place, PlaceError):
                self._fail(work, str(place))
            else:
                known.append((work, Sight(place, entry_of(work.host, inventory))))
        seen = self._with_certificates(known)
        licensed = assigned_licenses(self._session) if any(work.host.license for work, _sight in seen) else {}
        movers = [
            sight.entry.ref
            for _work, sight in seen
            if sight.entry is not None and needs_power_state(sight.entry, sight.place)
        ]
        running = count_powered_on(self._session, movers) if movers else {}
        return [
            (
                work,
                replace(sight, licensed=licensed.get(sight.entry.id), powered_on=running.get(sight.entry.id, 0))
                if sight.entry is not None and (licensed or running)
                else sight,
            )
            for work, sight in seen
        ]

    @staticmethod
    def _place(
        inventory: Inventory, host: HostToAdd, places: dict[t.Any, t.Union[Place, PlaceError]]
    ) -> t.Union[Place, PlaceError]:
        key = (host.datacenter, host.cluster, host.folder, host.create_folders)
        if key not in places:
            try:
                places[key] = inventory.place(
                    datacenter=host.datacenter,
                    cluster=host.cluster,
                    folder=host.folder,
                    missing_allowed=host.create_folders,
                )
            except PlaceError as error:
                places[key] = error
        return places[key]

    def _with_certificates(self, known: t.Sequence[tuple[Work, Sight]]) -> list[tuple[Work, Sight]]:
        """Look at the certificates of those hosts for which that matters, so many at a time."""

        def fetch(work: Work) -> t.Union[str, UnreachableError]:
            try:
                return fetch_certificate(work.host.address, work.host.port, timeout=self._connect_timeout)
            except UnreachableError as error:
                return error

        wanted = [work for work, sight in known if needs_certificate(work.host, sight.entry)]
        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            answers = dict(zip((work.name for work in wanted), pool.map(fetch, wanted)))
        seen = []
        for work, sight in known:
            answer = answers.get(work.name)
            if isinstance(answer, UnreachableError):
                if sight.entry is not None and sight.entry.state == "connected":
                    # vCenter reaches it; that we do not is no reason to touch it.
                    answer = None
                else:
                    reason = f"{answer} Is {work.name} up, and may this machine reach its port {work.host.port}?"
                    if isinstance(answer, UnresolvableError):
                        self._fail(work, reason)
                    else:
                        self._put_off(work, reason)
                    continue
            seen.append((work, replace(sight, presented=answer)))
        return seen

    def _cannot_look(self, ready: t.Sequence[Work], error: VsphereError, *, passing: bool) -> None:
        """vCenter does not show its hosts: what has been done stays done, the rest is put off or given up."""
        if not passing and not self._has_looked:
            raise error
        for work in ready:
            if work.done and not work.remaining:
                self._report(work, work.path or None)
            elif passing:
                self._put_off(work, str(error), unless_first=not self._has_looked)
            else:
                self._fail(work, str(error))
        if passing and not self._has_looked and all(self._is_late(work) for work in self._pending):
            raise error

    # -- deciding and doing

    def _act(self, seen: t.Sequence[tuple[Work, Sight]]) -> None:
        doing: list[tuple[Work, Sight, str]] = []
        for work, sight in seen:
            if work.before is None:
                work.before = facts(sight)
                work.origin = sight.entry.place if sight.entry is not None else ""
            entered = "enter_maintenance" in work.done
            try:
                steps = steps_for(work.host, sight, entered_maintenance=entered)
            except RefusedError as error:
                self._fail(work, str(error), sight)
                continue
            if sight.entry is None and "add" in work.done:
                # It was added, and this vCenter user does not see it.
                steps = ()
            if work.unknown is not None and work.unknown not in steps:
                work.done.append(work.unknown)
                work.unknown = None
            work.path = sight.entry.path if sight.entry is not None else f"{sight.place.path}/{work.name}"
            if self._check_mode:
                self._pending.remove(work)
                if steps:
                    report_foreseen(self._results, work, sight, steps)
                else:
                    report_done(self._results, work, work.path, sight)
            elif not steps:
                self._report(work, work.path, sight)
            elif steps[0] in work.done:
                self._fail(work, self._did_not_help(work, sight, steps[0]), sight)
            elif work.there_already is not None and steps[0] == "add":
                self._fail(work, work.there_already)
            else:
                work.remaining = steps[1:]
                doing.append((work, sight, steps[0]))
        if doing:
            self._carry_out(doing)

    def _did_not_help(self, work: Work, sight: Sight, step: str) -> str:
        if step == "reconnect" and sight.entry is not None:
            return (
                f"{work.name} was reconnected, but vCenter still shows it as {state_in_words(sight.entry.state)}, at "
                f"{sight.entry.path}: look at its events in vCenter."
            )
        return f"vCenter said that all was done for {work.name}, but it is not so: look at its events in vCenter."

    def _carry_out(self, doing: t.Sequence[tuple[Work, Sight, str]]) -> None:
        """Do one step for each host. The outcome of each counts alone."""
        doing = self._make_folders(doing)
        doing = self._disconnect(doing)
        certificates: dict[str, t.Optional[str]] = {}
        tasks: dict[str, t.Callable[[], t.Any]] = {}
        calls: dict[str, tuple[str, Sight]] = {}
        by_name = {work.name: (work, sight, step) for work, sight, step in doing}
        for work, sight, step in doing:
            certificate = certificate_to_use(work.host, sight) if step in ("add", "reconnect") else None
            certificates[work.name] = certificate
            if certificate is not None and work.host.certificate is None:
                work.trusted = certificate
            task = task_for(self._session, step, work.host, sight.place, sight.entry, certificate, self._timeout)
            if task is not None:
                tasks[work.name] = task
            else:
                calls[work.name] = (step, sight)
        shown_at = self._clock()
        for ended, (name, outcome) in enumerate(self._outcomes(tasks, calls, by_name), 1):
            work, sight, step = by_name[name]
            self._settle(work, sight, step, outcome, certificates[name])
            if self._clock() - shown_at >= _SHOW_EVERY and ended < len(by_name):
                self._show(f"; {ended} of the {len(by_name)} at work are one step further")
                shown_at = self._clock()

    def _outcomes(
        self,
        tasks: t.Mapping[str, t.Callable[[], t.Any]],
        calls: t.Mapping[str, tuple[str, Sight]],
        by_name: t.Mapping[str, tuple[Work, Sight, str]],
    ) -> t.Iterator[tuple[str, TaskOutcome]]:
        yield from run_tasks(self._session, tasks, parallel=self._parallel, timeout=self._timeout, clock=self._clock)
        if not calls:
            return

        def call(name: str) -> TaskOutcome:
            step, sight = calls[name]
            if sight.entry is None:
                return TaskOutcome(problem=f"{name} is not in vCenter.")
            host, entry = by_name[name][0].host, sight.entry
            return self._called(lambda: do_call(self._session, step, host, entry))

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            yield from zip(calls, pool.map(call, calls))

    def _called(self, call: t.Callable[[], t.Any]) -> TaskOutcome:
        """The outcome of a call that is no task."""
        try:
            with connection_errors(self._session.endpoint):
                call()
        except ServiceUnavailableError as error:
            return TaskOutcome(problem=str(error), lost=True)
        except VsphereError as error:
            return TaskOutcome(problem=str(error))
        except Exception as fault:
            if not is_fault(fault):
                raise
            if session_is_over(fault):
                return TaskOutcome(problem=f"{self._session.endpoint} has ended the session.", lost=True)
            return TaskOutcome(fault=fault)
        return TaskOutcome()

    def _make_folders(self, doing: t.Sequence[tuple[Work, Sight, str]]) -> list[tuple[Work, Sight, str]]:
        """Create each missing folder once, whoever needs it; those hosts go on at the next look."""
        outcomes: dict[str, TaskOutcome] = {}
        others = []
        for work, sight, step in doing:
            if step != "create_folder":
                others.append((work, sight, step))
                continue
            place = sight.place
            if place.path not in outcomes:
                outcomes[place.path] = self._called(lambda place=place: create_folders(place))  # type: ignore[misc]
                if outcomes[place.path].succeeded:
                    self._results.shared_changed = True
            outcome = outcomes[place.path]
            if outcome.fault is not None and "vim.fault.DuplicateName" in fault_kinds(outcome.fault):
                # Another host's folder that lies on the way, or somebody else's: the next look finds it.
                reason = explain(outcome.fault, Attempt(work.host, step, place.path))
                self._put_off(work, reason, pause=None if work.tries else 0.0)
                continue
            self._settle(work, sight, step, outcome, None)
        return others

    def _disconnect(self, doing: t.Sequence[tuple[Work, Sight, str]]) -> list[tuple[Work, Sight, str]]:
        """Disconnect the hosts that are to be reconnected, where vCenter does not show them as that already."""
        starts = {}
        for work, sight, step in doing:
            if step == "reconnect" and sight.entry is not None and sight.entry.state != "disconnected":
                starts[work.name] = lambda entry=sight.entry: disconnect(entry)
        bad: dict[str, TaskOutcome] = {}
        for name, outcome in run_tasks(
            self._session, starts, parallel=self._parallel, timeout=self._timeout, clock=self._clock
        ):
            is_so = outcome.fault is not None and "vim.fault.InvalidState" in fault_kinds(outcome.fault)
            if not outcome.succeeded and not is_so:
                bad[name] = outcome
        for work, sight, step in doing:
            if work.name in bad:
                self._settle(work, sight, step, bad[work.name], None)
        return [one for one in doing if one[0].name not in bad]

    def _settle(self, work: Work, sight: Sight, step: str, outcome: TaskOutcome, certificate: t.Optional[str]) -> None:
        """What the outcome of a step means for its host."""
        if outcome.succeeded:
            if step not in work.done:
                work.done.append(step)
            work.tries, work.since, work.unknown = 0, None, None
            if step == "move":
                work.path = f"{sight.place.path}/{work.name}"
        elif outcome.fault is not None:
            reason = explain(outcome.fault, Attempt(work.host, step, sight.place.path, certificate))
            if step == "add" and says_already_there(outcome.fault, work.name):
                # Somebody else added it between our look and our add, or an earlier try of ours went through.
                work.there_already = reason
                self._put_off(work, reason, pause=0.0)
            elif is_worth_retrying(outcome.fault):
                self._put_off(work, reason)
            else:
                self._fail(work, reason, sight)
        elif outcome.lost:
            self._session_lost = True
            work.unknown = step
            reason = f"{outcome.problem} It is not known how far vCenter came with {work.name}: run again to find out."
            self._put_off(work, reason)
        else:
            self._fail(
                work,
                f"{outcome.problem} It is not known how far vCenter came with {work.name}: run again to find out.",
                sight,
            )

    def _restore(self) -> None:
        """Take those hosts out of maintenance mode again that were brought into it for a move which failed."""
        starts = {}
        for work, sight in self._stranded:
            task = task_for(
                self._session, "leave_maintenance", work.host, sight.place, sight.entry, None, self._timeout
            )
            if task is not None:
                starts[work.name] = task
        by_name = {work.name: work for work, _sight in self._stranded}
        for name, outcome in run_tasks(
            self._session, starts, parallel=self._parallel, timeout=self._timeout, clock=self._clock
        ):
            work = by_name[name]
            if outcome.succeeded:
                work.done.append("leave_maintenance")
                said = f"{name} was taken out of maintenance mode again."
            else:
                said = f"{name} is still in maintenance mode: take it out in vCenter."
            extra = {key: value for key, value in self._results.hosts[name].items() if key in ("action", "path")}
            self._results.fail(name, said, changed=True, steps=list(work.done), **extra)

    # -- putting off and reporting

    def _is_late(self, work: Work) -> bool:
        return work.since is not None and self._clock() - work.since >= self._retry_for

    def _put_off(self, work: Work, reason: str, *, pause: t.Optional[float] = None, unless_first: bool = False) -> None:
        """Come back to a host later, unless that was done for long enough."""
        now = self._clock()
        if work.since is None:
            work.since = now
        if pause is None:
            pause = min(_FIRST_PAUSE * 2**work.tries, _LONGEST_PAUSE)
            if now + pause - work.since > self._retry_for:
                if unless_first:
                    work.since = now - self._retry_for
                    return
                tried = f" It was tried {work.tries + 1} times." if work.tries else ""
                self._fail(work, f"{reason}{tried}")
                return
        work.tries += 1
        work.not_before = now + pause

    def _fail(self, work: Work, reason: str, sight: t.Optional[Sight] = None) -> None:
        self._pending.remove(work)
        path = work.path if work.done and work.path else None
        if sight is not None and sight.entry is not None:
            path = sight.entry.path
            if "enter_maintenance" in work.done and "leave_maintenance" not in work.done:
                self._stranded.append((work, sight))
        report_failure(self._results, work, reason, path)

    def _report(self, work: Work, path: t.Optional[str], sight: t.Optional[Sight] = None) -> None:
        self._pending.remove(work)
        report_done(self._results, work, path or work.path, sight)

    def _show(self, more: str = "") -> None:
        settled = self._total - len(self._pending)
        failed = len(self._results.failed_hosts)
        waiting = sum(1 for work in self._pending if work.tries)
        line = f"{settled} of {self._total} hosts are settled"
        if failed:
            line += f", {failed} have failed"
        if waiting:
            line += f", {waiting} are tried again"
        self._progress(line + more)
