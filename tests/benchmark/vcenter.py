# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure how long it takes to add hosts to a vCenter: ``python tests/benchmark/vcenter.py [hosts [looped]]``.

1,000 hosts are added to an empty vcsim by one task of vcenter_add_host, certificates compared, and then again,
unchanged. Beside it, vmware.vmware.esxi_host is looped over the first 50 of the same hosts, in another vcsim of the
same kind. Its time for all of them is that multiplied: extrapolated, not measured, and in its favour, because it lists
all hosts in every call and there are few yet, and because it is given the thumbprints instead of connecting to the
hosts. Every figure is the wall-clock time of a whole ansible-playbook on this machine, within this run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from publish import ROOT, play

sys.path.insert(0, str(ROOT / ".lab" / "collections"))

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, tls_server

BUDGET = 20


def measure(count: int, looped: int, directory: Path) -> int:
    """Run the plays and print their times; the exit code says whether the budget is kept."""
    authority = Authority(directory / "authority")
    # Ansible's processes and the simulator's clients trust what the tests trust.
    os.environ["SSL_CERT_FILE"] = str(authority.pair.cert)
    host, server = authority.esxi(), authority.server()
    with ExitStack() as stack:
        port, _received = stack.enter_context(tls_server(host))
        ours, theirs = (
            stack.enter_context(stand_ins.vcsim(server, directory / f"vcsim{number}.log", "-trace=false"))
            for number in range(2)
        )
        hosts = [
            {
                "name": f"esx{number:04}.example.com",
                "address": "127.0.0.1",
                "port": port,
                "password": "Root-secret-7!",
                "certificate": host.pem,
                "datacenter": "DC0",
                "cluster": f"DC0_C{number % 2}",
            }
            for number in range(count)
        ]
        (directory / "hosts.json").write_text(json.dumps({"definitions": hosts}), "utf-8")
        join: dict[str, object] = {
            "name": "Add all hosts",
            "pxemanager.esxi.vcenter_add_host": {**ours.options(), "hosts": "{{ definitions }}"},
        }
        loop: dict[str, object] = {
            "name": "Add one host after the other",
            "vmware.vmware.esxi_host": {
                **theirs.options(),
                "datacenter": "DC0",
                "cluster": "{{ item.cluster }}",
                "esxi_host_name": "{{ item.name }}",
                "esxi_username": "root",
                "esxi_password": "{{ item.password }}",
                "ssl_thumbprint": host.fingerprint("sha1"),
            },
            "loop": f"{{{{ definitions[:{looped}] }}}}",
            "loop_control": {"label": "{{ item.name }}"},
        }
        nothing, _output = play(directory, "nothing", [])
        first, output = play(directory, "first", [join])
        if "changed=1" not in output:
            sys.exit(f"Nothing was added:\n{output[-2000:]}")
        second, output = play(directory, "second", [join])
        if "changed=0" not in output:
            sys.exit(f"The second run changed something:\n{output[-2000:]}")
        one_by_one, _output = play(directory, "looped", [loop])
    each = (one_by_one - nothing) / min(looped, count)
    ratio = each * count / (first - nothing)
    rows = [
        ("ansible-playbook without a task", nothing),
        (f"{count:,} hosts added by vcenter_add_host", first),
        ("the same again, nothing changed", second),
        (f"{min(looped, count)} hosts added by vmware.vmware.esxi_host in a loop ({each:.2f} s each)", one_by_one),
        (f"the same for {count:,} hosts (extrapolated, not measured)", nothing + each * count),
    ]
    for label, seconds in rows:
        print(f"{label:<76}{seconds:>9.1f} s")
    verdict = "kept" if ratio >= BUDGET else "MISSED"
    print(f"faster than the loop: {ratio:,.0f} x, without the start of Ansible (budget {BUDGET} x: {verdict})")
    return 0 if ratio >= BUDGET else 1


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="pxemanager-bench-", dir="/var/tmp") as name:
        sys.exit(measure(*(numbers + [1000, 50][len(numbers) :]), Path(name)))
