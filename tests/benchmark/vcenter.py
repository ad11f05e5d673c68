# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adding hosts to a vCenter, beside vmware.vmware.esxi_host in a loop.

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
from contextlib import ExitStack
from pathlib import Path

from plays import ROOT, play
from table import Budget, Row, Run

sys.path.insert(0, str(ROOT / ".lab" / "collections"))

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, tls_server

LIMIT, QUICK_LIMIT = 240, 60
HOSTS, QUICK_HOSTS = 1_000, 20
LOOPED, QUICK_LOOPED = 50, 5


def measure(run: Run) -> None:
    """Run the plays."""
    count, looped = (QUICK_HOSTS, QUICK_LOOPED) if run.quick else (HOSTS, LOOPED)
    directory: Path = run.folder
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
        nothing = play(directory, "nothing", []).seconds
        first = play(directory, "first", [join])
        if "changed=1" not in first.output:
            sys.exit(f"Nothing was added:\n{first.output[-2000:]}")
        second = play(directory, "second", [join])
        if "changed=0" not in second.output:
            sys.exit(f"The second run changed something:\n{second.output[-2000:]}")
        one_by_one = play(directory, "looped", [loop])
    each = (one_by_one.seconds - nothing) / looped
    memory = f"controller {first.controller:,.0f} MiB, module {first.module:,.0f} MiB"
    name = "vmware.vmware.esxi_host in a loop"
    run.add(Row(name, looped, one_by_one.seconds, note=f"{each:.2f} s each"))
    run.add(Row(name, count, nothing + each * count, extrapolated=True))
    run.add(
        Row(
            "added by vcenter_add_host",
            count,
            first.seconds,
            memory=max(first.controller, first.module),
            ratio=each * count / (first.seconds - nothing),
            peer="faster than the loop",
            budget=None if run.quick else Budget("ratio", at_least=20),
            note=memory,
        )
    )
    run.add(
        Row(
            "added before, nothing changed",
            count,
            second.seconds,
            ratio=(second.seconds - nothing) / (first.seconds - nothing),
            peer="of the first run",
        )
    )


if __name__ == "__main__":
    sys.exit("Run it with: python tests/benchmark/run.py vcenter")
