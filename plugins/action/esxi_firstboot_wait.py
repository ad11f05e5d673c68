# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits on the controller: many bounded calls of the module, one at a time, and a line for whoever watches."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.pxemanager.esxi.plugins.module_utils import _together
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._wait import (
    ReportError,
    Request,
    Wait,
    argument_spec,
)

display = Display()

_NAME = "esxi_firstboot_wait"
# Seconds without a change after which the present state is shown again.
_SHOW_EVERY = 60.0
_LONGEST_PAUSE = 30.0
# Beyond the time that a call may stay open: for copying the module there and starting it.
_CALL_GRACE = 60.0
# A module that ends without an answer was killed (a reboot, the OOM killer) or cannot run at all, which looks the same.
_DEATHS_ALLOWED = 5
# Waits that earlier calls of this loop have left to its last one. All calls of a loop are made in one process.
_children: list[_together.Child] = []


class _Lost(Exception):
    """The PXE server cannot be asked now; it may be worth trying again."""


class _Hung(BaseException):
    """Raised out of a call that does not end; no connection plugin may take it for an error of its own."""


class _Broken(Exception):
    """The PXE server was asked and says that it cannot be done; carries the module's result."""

    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False
    # who shows a line, and which process this one must not outlive
    _say = _NAME
    _parent: int | None = None

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        del tmp
        _unused, options = self.validate_argument_spec(argument_spec=argument_spec())
        wait = Wait(
            [
                Request(
                    name=str(host["name"]),
                    timeout=float(options["timeout"] if host["timeout"] is None else host["timeout"]),
                    install=None if host["install"] is None else str(host["install"]),
                    goal=host["stage"],
                )
                for host in options["hosts"]
            ],
            options["stage"],
        )
        self._say = f"{_NAME}: {options['site']}" if options["site"] else _NAME
        if options["background"] and not self._task.check_mode:
            _children.append(self._start(wait, options, task_vars))
            result.update({"changed": False, "hosts": {}, "failed_hosts": [], "msg": "the last call of the loop waits"})
            return result
        children = list(_children)
        _children.clear()
        try:
            own = self._outcome(wait, options, task_vars)
            found = [child.result() for child in children]
        except BaseException:
            for child in children:
                child.kill()
            raise
        if isinstance(own, AnsibleConnectionFailure) and not children:
            raise own
        if isinstance(own, dict) and "hosts" not in own and not children:
            result.update(own)
            result["failed"] = True
            return result

        results = Results()
        everybody = [(options["site"], [str(host["name"]) for host in options["hosts"]], own)]
        everybody += [(child.label, child.names, one) for child, one in zip(children, found)]
        for site, names, outcome in everybody:
            if isinstance(outcome, AnsibleConnectionFailure) or "hosts" not in outcome:
                # Beside other PXE servers it is the failure of its own hosts only.
                reason = outcome.get("msg") if isinstance(outcome, dict) else str(outcome)
                for name in names:
                    results.fail(name, f"{name}: {site}: {reason}" if site else f"{name}: {reason}")
                continue
            for name, one in outcome["hosts"].items():
                if one["reached"] or one["kind"] == "pending":
                    results.ok(name, changed=False, **one)
                else:
                    results.fail(name, one.pop("msg"), **one)
        result.update(results.as_return(options["on_host_failure"]))
        if not results.failed_hosts:
            result["msg"] = wait.progress(0.0)
        return result

    def _start(self, wait: Wait, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> _together.Child:
        """Wait in a process of its own, which ends when this one is no more."""

        def work() -> dict[str, t.Any]:
            outcome = self._outcome(wait, options, task_vars)
            self.cleanup(force=True)
            return outcome if isinstance(outcome, dict) else {"msg": str(outcome)}

        self._parent = os.getpid()
        return _together.start(options["site"] or "", [str(host["name"]) for host in options["hosts"]], work)

    def _outcome(
        self, wait: Wait, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any] | AnsibleConnectionFailure:
        """What became of the hosts, or why nobody knows."""
        try:
            if self._task.check_mode:
                self._look_once(wait, options, task_vars)
            else:
                self._wait(wait, options, task_vars)
        except _Broken as broken:
            return {key: value for key, value in broken.result.items() if key != "hosts"}
        except _Lost as lost:
            return AnsibleConnectionFailure(f"the PXE server cannot be reached: {lost}")
        return {"hosts": wait.results()}

    # -- the loop

    def _look_once(self, wait: Wait, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> None:
        if wait.pending:
            self._ask(wait, options, task_vars, hold=0.0, elapsed=lambda: 0.0)

    def _wait(self, wait: Wait, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> None:
        begun = time.monotonic()

        def elapsed() -> float:
            return time.monotonic() - begun

        shown_at = float("-inf")
        deaths = failures = 0
        first = True
        while wait.pending:
            if self._parent is not None and os.getppid() != self._parent:
                os._exit(1)  # Ansible was killed, and nobody would read what is found
            lost: str | None = None
            changed = False
            try:
                # The first look comes back at once, so that who is watching sees where everybody is.
                hold = 0.0 if first else min(wait.hold(elapsed()), max(0.0, shown_at + _SHOW_EVERY - elapsed()))
                changed = self._ask(wait, options, task_vars, hold, elapsed)
                if failures:
                    display.display(f"{self._say}: the PXE server answers again")
                deaths = failures = 0
                first = False
            except _Lost as exc:
                lost = str(exc)
            except _Broken as broken:
                deaths += 1
                if deaths > _DEATHS_ALLOWED or not _died(broken.result):
                    raise
                lost = "the module was killed there"
            if lost is not None:
                failures += 1
                if failures == 1:
                    # No warning: those are kept back until the task is over.
                    display.display(f"{self._say}: lost the PXE server, trying again: {lost}")
            if wait.expire(elapsed(), lost):
                changed = True
            if changed or elapsed() - shown_at >= _SHOW_EVERY:
                display.display(f"{self._say}: {wait.progress(elapsed())}")
                shown_at = elapsed()
            if lost is not None and wait.pending:
                self._disconnect()
                time.sleep(min(2.0 ** (failures - 1), _LONGEST_PAUSE, wait.until_deadline(elapsed())))

    def _ask(
        self,
        wait: Wait,
        options: dict[str, t.Any],
        task_vars: dict[str, t.Any] | None,
        hold: float,
        elapsed: t.Callable[[], float],
    ) -> bool:
        """One call on the PXE server; whether anything changed.

        :raises _Lost: it could not be asked.
        :raises _Broken: it answered, but not with a report.
        """
        arguments = {
            "hosts": [{"name": name} for name in wait.pending],
            "config": options["config"],
            "poll": options["poll"],
            "hold": hold,
            "seen": wait.seen(),
        }
        try:
            with _no_longer_than(hold + _CALL_GRACE):
                answer = self._execute_module(
                    module_name="pxemanager.esxi.esxi_firstboot_wait", module_args=arguments, task_vars=task_vars
                )
        except AnsibleConnectionFailure as exc:
            raise _Lost(str(exc)) from exc
        if answer.get("unreachable"):
            raise _Lost(str(answer.get("msg") or "the connection was lost"))
        if answer.get("failed") or "hosts" not in answer:
            raise _Broken(answer)
        try:
            return wait.observe(answer.get("now"), answer["hosts"], elapsed())
        except ReportError as exc:
            raise _Broken({"msg": str(exc)}) from exc

    def _disconnect(self) -> None:
        """Forget a connection that is no more: a shared one that hangs would take every new call with it."""
        connection = self._connection
        try:
            # The base class only warns that it cannot.
            if type(connection).reset is not ConnectionBase.reset:
                connection.reset()
            else:
                connection.close()
        except Exception as exc:
            # Whatever a connection plugin makes of a dead connection, the next call opens a new one.
            display.vvv(f"{_NAME}: closing the lost connection: {exc}")
        # A PXE server that was rebooted may have lost the temporary folder.
        connection._shell.tmpdir = None


@contextlib.contextmanager
def _no_longer_than(seconds: float) -> t.Iterator[None]:
    """Give up on a call whose connection has silently died: SSH would wait for it for a quarter of an hour.

    Does nothing under a task's own C(timeout), which uses the same alarm and ends the task.

    :raises _Lost: it took longer.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGALRM) in (
        signal.SIG_DFL,
        None,
    )
    if not ours:
        yield
        return

    def ring(_number: int, _frame: object) -> t.NoReturn:
        raise _Hung

    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Hung:
        raise _Lost(f"no answer for {seconds:.0f} s") from None
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _died(answer: dict[str, t.Any]) -> bool:
    """Whether the module ended without saying anything of its own."""
    return "module_stdout" in answer or "module_stderr" in answer
