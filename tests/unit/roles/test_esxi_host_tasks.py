# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much the role esxi_host asks of Ansible for each host: with a thousand hosts that is most of a play."""

from __future__ import annotations

from pathlib import Path

import yaml

TASKS = Path(__file__).resolve().parents[3] / "roles/esxi_host/tasks"
# Phases that are left out as a whole, by one task for each host, when they concern none of the hosts.
NOBODY = ("power.yml", "secure_boot.yml", "profile.yml")


def tasks_of_each_host(name="main.yml"):
    """Names of the tasks that run once for each host of a play without Secure Boot, host profiles and power tasks."""
    found = []
    for task in yaml.safe_load((TASKS / name).read_text()):
        imported = task.get("ansible.builtin.import_tasks")
        included = task.get("ansible.builtin.include_tasks")
        if imported:
            found += tasks_of_each_host(imported)
        elif included and included not in NOBODY:
            found += [task["name"], *tasks_of_each_host(included)]
        # add_host runs once for all hosts by itself
        elif not task.get("run_once") and "ansible.builtin.add_host" not in task:
            found.append(task["name"])
    return found


def test_there_are_few_tasks_for_each_host():
    found = tasks_of_each_host()
    assert len(found) <= 14, found


def test_phases_that_concern_nobody_cost_one_task():
    included = [
        task for task in yaml.safe_load((TASKS / "main.yml").read_text()) if "ansible.builtin.include_tasks" in task
    ]
    assert {task["ansible.builtin.include_tasks"] for task in included} <= set(NOBODY)
    assert all(task.get("when") for task in included)


def test_what_walks_over_all_hosts_does_so_once():
    """A task of each host that looks at all hosts takes a time that grows with their square."""
    for path in TASKS.glob("*.yml"):
        for task in yaml.safe_load(path.read_text()):
            if "hostvars" in str(task) and "'extract'" in str(task):
                # imports hand their variables to tasks that run once
                assert task.get("run_once") or "ansible.builtin.import_tasks" in task, (path.name, task["name"])
