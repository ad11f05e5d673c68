# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, and shows how far it has come while it runs, for whoever watches many hosts join a vCenter."""

from __future__ import annotations

import os
import tempfile
import threading
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

_NAME = "vcenter_add_host"
# A handful of hosts is done before anybody wonders.
_SHOW_FROM = 10
# Seconds between two lines, at least.
_SHOW_EVERY = 5.0


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        del tmp
        arguments = dict(self._task.args)
        hosts = arguments.get("hosts")
        # The module writes to a file of its own machine. One session serves all hosts, so it is called once, and cannot
        # come back in between as a module that only waits can.
        here = getattr(self._connection, "transport", None) == "local"
        if not here or arguments.get("progress_file") or not isinstance(hosts, list) or len(hosts) < _SHOW_FROM:
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
            return result
        with tempfile.TemporaryDirectory(prefix="ansible-progress-") as folder:
            path = os.path.join(folder, "lines")
            arguments["progress_file"] = path
            over = threading.Event()
            watcher = threading.Thread(target=_show_lines, args=(path, over), daemon=True)
            watcher.start()
            try:
                result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
            finally:
                over.set()
                watcher.join()
        return result


def _show_lines(path: str, over: threading.Event) -> None:
    """Show the newest line of a file again and again, when there is a new one, until it is over."""
    shown = ""
    while not over.wait(_SHOW_EVERY):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                lines = stream.read().splitlines()
        except OSError:
            continue
        if lines and lines[-1] != shown:
            shown = lines[-1]
            display.display(f"{_NAME}: {shown}")
