# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much the role esxi_host asks of Ansible for each host: with a thousand hosts that is most of a play."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

TASKS = Path(__file__).resolve().parents[3] / "roles/esxi_host/tasks"
# Phases that are left out as a whole when they concern none of the hosts.
NOBODY = ("power.yml", "secure_boot.yml", "profile.yml")


def tasks_of_each_host(name="main.yml"):
    """Names of the tasks that run once for each host of a play in which no host fails and nothing else is special.

    A run_once that is a template says whether a task concerns anybody; what has one is not counted.
    """
    found = []
    for task in yaml.safe_load((TASKS / name).read_text()):
        imported = task.get("ansible.builtin.import_tasks")
        if imported:
            found += tasks_of_each_host(imported)
        # add_host runs once for all hosts by itself
        elif not task.get("run_once") and "ansible.builtin.add_host" not in task:
            found.append(task["name"])
    return found


@pytest.mark.parametrize(("name", "most"), [("main.yml", 1), ("retire.yml", 1), ("preview.yml", 2)])
def test_there_are_few_tasks_for_each_host(name, most):
    found = [one for one in tasks_of_each_host(name) if one != "Say how the host stands"]
    assert len(found) <= most, found


def test_phases_that_concern_nobody_cost_one_task():
    included = [
        task for task in yaml.safe_load((TASKS / "main.yml").read_text()) if "ansible.builtin.include_tasks" in task
    ]
    assert {task["ansible.builtin.include_tasks"] for task in included} == set(NOBODY)
    assert all(task.get("when") and "{{" in task["run_once"] for task in included)


def test_a_failure_is_never_that_of_all_hosts():
    """A fail that is said once fails all hosts. Where it is for a host alone, run_once must be a template."""
    for path in TASKS.glob("*.yml"):
        for task in yaml.safe_load(path.read_text()):
            if "ansible.builtin.fail" in task and task["name"].startswith(("Stop a host", "Refuse a host")):
                assert task.get("run_once", False) is not True, (path.name, task["name"])


def test_what_walks_over_all_hosts_does_so_once():
    """A task of each host that looks at all hosts takes a time that grows with their square."""
    for path in TASKS.glob("*.yml"):
        for task in yaml.safe_load(path.read_text()):
            if "'extract'" in str(task) or "esxi_host__batch" in str(task):
                # imports hand their variables to tasks that run once
                assert task.get("run_once") is True or "ansible.builtin.import_tasks" in task, (path.name, task["name"])
