# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin: which runs are watched, and what is shown of them."""

from __future__ import annotations

import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.action import vcenter_add_host as action


class Task:
    async_val = 0
    check_mode = False
    diff = False
    delegate_to = None

    def __init__(self, args: dict[str, t.Any]) -> None:
        self.args = args


class Connection:
    def __init__(self, transport: str) -> None:
        self.transport = transport


def run(monkeypatch: pytest.MonkeyPatch, transport: str, hosts: t.Any, **more: t.Any) -> tuple[t.Any, t.Any]:
    """What the module was told, and what the plugin returned."""
    told: list[dict[str, t.Any]] = []
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = Task({"hosts": hosts, **more})
    plugin._connection = Connection(transport)

    def execute(module_args: dict[str, t.Any], task_vars: t.Any) -> dict[str, t.Any]:
        told.append(module_args)
        if "progress_file" in module_args:
            Path(module_args["progress_file"]).write_text("one\ntwo\n", encoding="utf-8")
        return {"changed": True, "hosts": {}}

    monkeypatch.setattr(action.ActionBase, "run", lambda self, tmp, task_vars: {})
    monkeypatch.setattr(plugin, "_execute_module", execute, raising=False)
    result = plugin.run(None, {})
    assert len(told) == 1, "one call, one session, for all hosts"
    return told[0], result


MANY = [{"name": f"esx{number}"} for number in range(10)]


def test_a_run_with_many_hosts_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    told, result = run(monkeypatch, "local", MANY)
    assert told["hosts"] == MANY and result["changed"]
    assert not Path(told["progress_file"]).exists(), "the file goes with the task"


@pytest.mark.parametrize(
    ("transport", "hosts", "more"),
    [
        ("local", MANY[:9], {}),
        # the file would be on another machine
        ("ssh", MANY, {}),
        ("local", "{{ nonsense }}", {}),
        ("local", None, {}),
    ],
)
def test_other_runs_are_not(monkeypatch: pytest.MonkeyPatch, transport: str, hosts: t.Any, more: t.Any) -> None:
    told, _result = run(monkeypatch, transport, hosts, **more)
    assert "progress_file" not in told


def test_a_file_that_somebody_gave_is_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told, _result = run(monkeypatch, "local", MANY, progress_file=str(tmp_path / "mine"))
    assert told["progress_file"] == str(tmp_path / "mine") and (tmp_path / "mine").exists()


def test_the_newest_line_is_shown_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[str] = []
    over = threading.Event()
    rounds = iter([False, False, False, True])
    monkeypatch.setattr(action.display, "display", shown.append)
    monkeypatch.setattr(over, "wait", lambda _seconds: next(rounds))
    path = tmp_path / "lines"
    path.write_text("5 of 10\n7 of 10\n", encoding="utf-8")
    action._show_lines(str(path), over)
    assert shown == ["vcenter_add_host: 7 of 10"]


def test_a_file_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    over = threading.Event()
    rounds = iter([False, True])
    monkeypatch.setattr(over, "wait", lambda _seconds: next(rounds))
    action._show_lines(str(tmp_path / "lines"), over)
