# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure how long publishing hosts takes: ``python tests/benchmark/publish.py [hosts]``, 1,000 without a number.

Every figure is the wall-clock time of a whole ansible-playbook, on this machine, within this run: one task that runs
esxi_pxe_host for all hosts, with two MAC addresses each, into an empty tree and then again, unchanged; and beside it
what people write without the collection, one template task a file, for as few files as give a time for each.
"""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE_FILES = 40


def definitions(count: int) -> list[dict[str, object]]:
    """Return definitions of so many hosts, with two MAC addresses each."""
    return [
        {
            "name": f"esx{number:05}.example.com",
            "macs": [f"00:50:56:{nic}{number >> 16:01x}:{number >> 8 & 255:02x}:{number & 255:02x}" for nic in "01"],
            "network": {
                "address": f"10.{number // 250 // 250}.{number // 250 % 250}.{number % 250 + 2}/8",
                "gateway": "10.255.255.254",
            },
            "image": "esxi-8.0.3",
            "disk": {"first": ["local"]},
        }
        for number in range(count)
    ]


def play(directory: Path, name: str, tasks: list[dict[str, object]]) -> tuple[float, str]:
    """Run a play with these tasks on localhost; return its seconds and its output."""
    playbook = directory / f"{name}.json"
    playbook.write_text(
        json.dumps(
            [
                {
                    "name": name,
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "vars": {"ansible_python_interpreter": sys.executable},
                    "vars_files": [str(directory / "hosts.json")],
                    "tasks": tasks,
                }
            ]
        ),
        "utf-8",
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".lab" / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook)]
    started = time.monotonic()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds, done.stdout


def measure(count: int, directory: Path) -> None:
    """Run the three plays and print their times."""
    (directory / "hosts.json").write_text(json.dumps({"definitions": definitions(count)}), "utf-8")
    roots = {"boot_root": directory / "boot", "state_root": directory / "state"}
    for root in roots.values():
        root.mkdir()
    settings = {
        "schema": 1,
        "address": "10.255.255.253",
        "group": grp.getgrgid(os.getgid()).gr_name,
        "dhcp": {"mode": "dnsmasq", "hosts_dir": str(directory / "state" / "dhcp-hosts"), "reload": []},
        **{name: str(root) for name, root in roots.items()},
    }
    (directory / "server.json").write_text(json.dumps(settings), "utf-8")
    publish: dict[str, object] = {
        "name": "Publish all hosts",
        "pxemanager.esxi.esxi_pxe_host": {
            "hosts": "{{ definitions }}",
            "state": "published",
            "config": str(directory / "server.json"),
        },
    }
    (directory / "file.j2").write_text("{{ item.name }} {{ item.macs }} {{ item.network }}\n", "utf-8")
    template: dict[str, object] = {
        "name": "Write one file for a host",
        "ansible.builtin.template": {"src": str(directory / "file.j2"), "dest": f"{directory}/{{{{ item.name }}}}"},
        "loop": f"{{{{ definitions[:{TEMPLATE_FILES}] }}}}",
        "loop_control": {"label": "{{ item.name }}"},
    }
    nothing, output = play(directory, "nothing", [])
    first, output = play(directory, "first", [publish])
    files = sum(len(names) for root in roots.values() for _path, _directories, names in os.walk(root))
    second, output = play(directory, "second", [publish])
    if "changed=0" not in output:
        sys.exit(f"The second run changed something:\n{output[-2000:]}")
    templates, output = play(directory, "templates", [template])
    each = (templates - nothing) / min(TEMPLATE_FILES, count)
    rows = [
        ("ansible-playbook without a task", nothing),
        (f"{count:,} hosts published, {files:,} files and links", first),
        ("the same again, nothing changed", second),
        (f"a template task a file, for as many files ({each:.2f} s each)", each * files),
    ]
    for label, seconds in rows:
        print(f"{label:<70}{seconds:>10.1f} s")
    print(
        f"faster than a template task a file: {each * files / (first - nothing):,.0f} x (without the start of Ansible)"
    )
    print(f"second run to first: {(second - nothing) / (first - nothing):.2f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pxemanager-bench-", dir="/var/tmp") as name:
        measure(int(sys.argv[1]) if sys.argv[1:] else 1000, Path(name))
