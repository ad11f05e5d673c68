# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: many tasks of one vSphere session at a time, all of them waited for in one call."""

from __future__ import annotations

import math
import time
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import retrieve
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    WAIT_SECONDS,
    Fault,
    ManagedObject,
    ServiceUnavailableError,
    Session,
    VsphereError,
    connection_errors,
    describe_fault,
    session_is_over,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = ["TaskOutcome", "run_tasks"]

Key = t.TypeVar("Key", bound=t.Hashable)


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended: ``fault`` is the API's fault, ``problem`` a sentence when there is no answer of the API.

    lost: the connection or the session was lost, so the task may have been started, or ended, or neither.
    """

    fault: t.Optional[Fault] = None
    problem: t.Optional[str] = None
    result: t.Any = None
    lost: bool = False

    @property
    def succeeded(self) -> bool:
        return self.fault is None and self.problem is None


def run_tasks(
    session: Session,
    starts: t.Mapping[Key, t.Callable[[], ManagedObject]],
    *,
    parallel: int,
    timeout: float,
    clock: t.Callable[[], float] = time.monotonic,
) -> t.Iterator[tuple[Key, TaskOutcome]]:
    """Start tasks, at most ``parallel`` running at a time, and yield each one's outcome as soon as it has ended.

    starts: a call for each key that starts a task and returns it. timeout: seconds for each task.
    All running tasks are waited for in one call. When the connection is lost, every task that has no outcome gets one
    that says so: nothing is raised half way, because the outcomes that are known must not be lost with it.
    """
    waiting = list(starts)
    running: dict[str, _Running[Key]] = {}
    watcher = _TaskWatcher(session)
    try:
        while waiting or running:
            started = []
            while waiting and len(running) < parallel:
                key = waiting.pop(0)
                try:
                    with connection_errors(session.endpoint):
                        task = starts[key]()
                except vmodl.MethodFault as fault:
                    if session_is_over(fault):
                        waiting.insert(0, key)
                        raise ServiceUnavailableError(f"{session.endpoint} has ended the session.") from fault
                    yield key, TaskOutcome(fault=fault)
                    continue
                except ServiceUnavailableError:
                    waiting.insert(0, key)
                    raise
                running[str(task._moId)] = _Running(key, task, clock() + timeout)
                started.append(task)
            if started:
                watcher.watch(started)
            if not running:
                continue
            nearest = min(one.deadline for one in running.values()) - clock()
            for task_id, outcome in watcher.ended(max(0.0, min(nearest, WAIT_SECONDS))):
                one = running.pop(task_id, None)
                if one is not None:
                    yield one.key, outcome
            for task_id in [task_id for task_id, one in running.items() if one.deadline <= clock()]:
                one = running.pop(task_id)
                watcher.forget(task_id)
                yield (
                    one.key,
                    TaskOutcome(problem=f"{session.endpoint} has not finished {task_id} within {timeout:g} seconds."),
                )
    except VsphereError as error:
        for key in [*(one.key for one in running.values()), *waiting]:
            yield key, TaskOutcome(problem=str(error), lost=isinstance(error, ServiceUnavailableError))
    finally:
        watcher.close()


@dataclass(frozen=True)
class _Running(t.Generic[Key]):
    key: Key
    task: ManagedObject
    deadline: float


class _TaskWatcher:
    """Property filters on tasks, and one wait for all of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._collector = session.content.propertyCollector
        self._version = ""
        # Tasks that were started together share a filter, which goes when the last of them has ended.
        self._filters: list[tuple[t.Any, set[str]]] = []

    def watch(self, tasks: t.Sequence[ManagedObject]) -> None:
        query = vmodl.query.PropertyCollector
        what = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=task) for task in tasks],
            propSet=[query.PropertySpec(type=vim.Task, pathSet=["info.state"])],
        )
        with self._errors():
            self._filters.append((self._collector.CreateFilter(what, False), {str(task._moId) for task in tasks}))
        # From the beginning: the next answer is how everything stands now, at once, so a task that has ended already is
        # not waited for. Later ones wait for what changes after that.
        self._version = ""

    def ended(self, seconds: float) -> t.Iterator[tuple[str, TaskOutcome]]:
        """Wait until a task ends, at most ``seconds``; yield the id and the outcome of each one that has ended."""
        query = vmodl.query.PropertyCollector
        with self._errors():
            options = query.WaitOptions(maxWaitSeconds=int(math.ceil(seconds)))
            update = self._collector.WaitForUpdatesEx(self._version, options)
        if update is None:
            return
        self._version = str(update.version)
        ended: dict[str, ManagedObject] = {}
        for changes in update.filterSet or []:
            for change in changes.objectSet or []:
                for prop in change.changeSet or []:
                    if prop.name == "info.state" and str(prop.val) in ("success", "error"):
                        ended[str(change.obj._moId)] = change.obj
        if not ended:
            return
        # State, result and error are separate properties that may arrive in separate updates: ask for them now that
        # the task has ended and none of them changes any more.
        what = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=task) for task in ended.values()],
            propSet=[query.PropertySpec(type=vim.Task, pathSet=["info"])],
            reportMissingObjectsInResults=True,
        )
        answers = {str(task._moId): properties.get("info") for task, properties in retrieve(self._session, what)}
        for task_id in ended:
            self.forget(task_id)
            info = answers.get(task_id)
            if info is None:
                yield task_id, TaskOutcome(problem=f"{self._session.endpoint} does not say how {task_id} ended.")
            elif str(info.state) == "success":
                yield task_id, TaskOutcome(result=info.result)
            elif info.error is None:
                yield task_id, TaskOutcome(problem=f"{self._session.endpoint} does not say why {task_id} failed.")
            else:
                yield task_id, TaskOutcome(fault=info.error)

    def forget(self, task_id: str) -> None:
        for entry in list(self._filters):
            watched, tasks = entry
            tasks.discard(task_id)
            if not tasks:
                self._filters.remove(entry)
                self._destroy(watched)

    def close(self) -> None:
        for watched, _tasks in self._filters:
            self._destroy(watched)
        self._filters = []

    @staticmethod
    def _destroy(watched: t.Any) -> None:
        # The filter goes with the session at the latest.
        with suppress(Exception):
            watched.Destroy()

    @contextmanager
    def _errors(self) -> t.Iterator[None]:
        with connection_errors(self._session.endpoint):
            try:
                yield
            except vmodl.MethodFault as fault:
                if session_is_over(fault):
                    raise ServiceUnavailableError(f"{self._session.endpoint} has ended the session.") from fault
                raise VsphereError(
                    f"{self._session.endpoint} does not let its tasks be watched: {describe_fault(fault)}"
                ) from fault
