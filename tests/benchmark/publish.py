# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing hosts with two MAC addresses each, beside a template task a file and beside `cobbler sync`.

Every figure is the wall-clock time of a whole ansible-playbook, within this run, with everything on disk at its end.
What ansible-playbook takes for a play without a task is measured as well, and ratios to peers are of times without it:
it says nothing of either side. How a run that changes nothing compares with the first is of times without those of the
same task for a single host that is right already: building, sending and starting a module is Ansible's, and takes as
long for one host as for ten thousand. The ratio of the whole times is given beside it.
"""

from __future__ import annotations

import dataclasses
import grp
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import peers
from plays import ROOT, Played, play
from table import Budget, Row, Run, Say, Skip

sys.path.insert(0, str(ROOT / ".lab" / "collections"))

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import Publisher
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import image_record

LIMIT, QUICK_LIMIT = 1200, 90  # the peers take most of it
# So many hosts decide about the budgets; fewer are mostly Ansible's own start.
JUDGED = 1_000
# Files that the template tasks write: enough for a time for each of them.
TEMPLATE_FILES, QUICK_TEMPLATE_FILES = 60, 12
TEMPLATE_FORKS = 10
# What takes minutes with 10,000 hosts and says nothing that it has not said with 1,000.
EVERYTHING_AT_MOST = 1_000
COBBLER_AT_MOST, QUICK_COBBLER = 1_000, 1
COBBLER = "cobbler==3.3.10"
FIRST, SAME, ONE, ARMED, AGAIN = "published, first", "nothing changed", "one host changed", "all armed", "all re-armed"


def definitions(count: int) -> list[dict[str, t.Any]]:
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


class Site:
    """An empty PXE server's folders, and plays that publish so many hosts there."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.hosts = definitions(count)
        document = {
            **ServerConfig(address="10.255.255.253").to_json(),
            "boot_root": str(folder / "boot"),
            "state_root": str(folder / "state"),
            "group": grp.getgrgid(os.getegid()).gr_name,
            "dhcp": {"mode": "dnsmasq", "hosts_dir": str(folder / "state" / "dhcp-hosts"), "reload": []},
        }
        self.config = ServerConfig.from_json(document)
        self.config_path = folder / "server.json"
        layout = Layout.of(self.config)
        for place in (layout.image_dir("esxi-8.0.3"), layout.descriptions_dir):
            place.mkdir(parents=True)
        self.config_path.write_text(json.dumps(document), "utf-8")
        layout.description("esxi-8.0.3").write_text(json.dumps(image_record()), "utf-8")
        for loader in ("mboot.c32", "efi/boot/bootx64.efi", "efi/boot/crypto64.efi"):
            path = layout.image_dir("esxi-8.0.3") / loader
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("loader\n", "utf-8")
        (folder / "hosts.json").write_text(json.dumps({"definitions": self.hosts}), "utf-8")

    def kickstarts(self, name: str) -> Played:
        """One task of esxi_kickstart for all hosts."""
        return self._play(name, "esxi_kickstart", root_password="Secret-word-7!")

    def publish(self, name: str, state: str = "published", variables: Path | None = None) -> Played:
        """One task of esxi_pxe_host for all hosts."""
        return self._play(name, "esxi_pxe_host", variables, state=state)

    def _play(self, name: str, module: str, variables: Path | None = None, **options: t.Any) -> Played:
        task = {
            "name": name,
            f"pxemanager.esxi.{module}": {"hosts": "{{ definitions }}", "config": str(self.config_path), **options},
        }
        return play(self.folder, name.replace(" ", "-"), [task], variables=variables)

    def with_one_changed(self) -> Path:
        """Variables in which the host in the middle has another address."""
        hosts = list(self.hosts)
        middle = self.count // 2
        network = {**hosts[middle]["network"], "address": "10.254.0.2/8"}
        hosts[middle] = {**hosts[middle], "network": network}
        path = self.folder / "hosts-changed.json"
        path.write_text(json.dumps({"definitions": hosts}), "utf-8")
        return path

    def plain_kickstarts(self) -> None:
        """Something to be armed with, for so many hosts that rendering would take minutes."""
        layout = Layout.of(self.config)
        for host in self.hosts:
            layout.kickstart_dir(host["name"]).mkdir(parents=True)
            for mac in host["macs"]:
                layout.kickstart(host["name"], mac).write_text("vmaccepteula\n", "utf-8")

    def in_process(self, do: t.Callable[[Publisher], None]) -> float:
        """Seconds of the same work without Ansible: what the module's own code takes."""
        results = Results()
        begun = time.monotonic()
        do(Publisher(self.config, results, reload=lambda _argv: None, release=lambda _leases: None))
        seconds = time.monotonic() - begun
        if results.failed_hosts:
            sys.exit(results.summary()[:2000])
        return seconds

    def files(self) -> int:
        """Regular files of the hosts, which is what template tasks would have to write; links not counted."""
        roots = [self.folder / "boot" / "hosts", self.folder / "state"]
        count = 0
        for root in roots:
            for parent, folders, names in os.walk(root):
                if parent == str(self.folder / "state"):
                    folders[:] = [name for name in folders if name in ("hosts", "status", "dhcp-hosts")]
                    continue
                count += sum(not os.path.islink(os.path.join(parent, name)) for name in names)
        return count


@dataclasses.dataclass
class Templates:
    """A template task a file, as roles have it: seconds of each file, and how it was run."""

    each: float
    how: str


def templates(run: Run, start: float) -> Templates:
    """The two usual ways to write a file for each host and MAC: a loop in one task, and a task for each host."""
    folder = run.folder / "templates"
    folder.mkdir()
    count = QUICK_TEMPLATE_FILES if run.quick else TEMPLATE_FILES
    hosts = definitions(count)
    (folder / "hosts.json").write_text(json.dumps({"definitions": hosts}), "utf-8")
    template = ROOT / "tests" / "benchmark" / "pxelinux.j2"
    looped = {
        "name": "Write one file for each host",
        "ansible.builtin.template": {"src": str(template), "dest": f"{folder}/{{{{ item.name }}}}", "mode": "0644"},
        "loop": "{{ definitions }}",
        "loop_control": {"label": "{{ item.name }}"},
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {host["name"]: {"item": host} for host in hosts}}}), "utf-8")
    each_host = {
        "name": "Write one file for this host",
        "ansible.builtin.template": {"src": str(template), "dest": f"{folder}/{{{{ item.name }}}}.2", "mode": "0644"},
    }
    loop = (play(folder, "looped", [looped]).seconds - start) / count
    forked = (
        play(folder, "forked", [each_host], hosts="all", inventory=inventory, forks=TEMPLATE_FORKS).seconds - start
    ) / count
    run.add(Row("template task, loop", count, loop * count, rate=1 / loop, note="files, not hosts"))
    how = f"a task for each host, {TEMPLATE_FORKS} forks"
    run.add(Row(f"template task, {how}", count, forked * count, rate=1 / forked, note="files, not hosts"))
    return Templates(loop, "loop") if loop < forked else Templates(forked, how)


def cobbler(run: Run, count: int) -> dict[str, float]:
    """What `cobbler sync` of so many systems takes: seconds by name of the step.

    :raises Skip: Cobbler is not to be had here.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise Skip("it needs root, for a mount namespace in which Cobbler may write to /etc and /var.")
    try:
        python = peers.environment("cobbler", [COBBLER], run.say, make=False)
    except Skip as why:
        packages = "apache2-dev libldap-dev libsasl2-dev python3-dev rsync"
        raise Skip(f"{why} Its build needs the packages {packages}.") from None
    scratch = run.folder / f"cobbler{count}"
    scratch.mkdir()
    command = ["unshare", "--mount", "--propagation", "private", str(python)]
    script = ROOT / "tests" / "benchmark" / "cobbler_sync.py"
    try:
        done = subprocess.run(
            [*command, str(script), str(scratch), str(count)],
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise Skip(f"{count:,} systems took it more than 150 s.") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise Skip(f"it ended with {done.returncode} ({said[-1][:200]}).")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def prepare(say: Say) -> None:
    """Install what takes minutes, before the clock runs."""
    if os.geteuid() == 0:
        peers.environment("cobbler", [COBBLER], say)


def measure(run: Run) -> None:
    """All sizes, then the peers."""
    empty = run.folder / "nothing"
    empty.mkdir()
    (empty / "hosts.json").write_text("{}", "utf-8")
    start = statistics.median(play(empty, "nothing", []).seconds for _round in range(3))
    run.add(Row("ansible-playbook without a task", 0, start, note="taken off in all ratios"))
    peer = templates(run, start)
    firsts: dict[int, float] = {}
    call = 0.0
    for count in run.sizes[::2] if run.quick else run.sizes:
        folder = run.folder / f"hosts{count}"
        folder.mkdir()
        firsts[count], same = publishing(run, Site(folder, count), start, call, peer)
        call = call or same
        before, per_host = firsts.get(JUDGED), firsts[count] / count
        if count > JUDGED and before is not None:
            run.add(
                Row(
                    f"time of a host, beside that of {JUDGED:,} hosts",
                    count,
                    seconds=per_host,
                    ratio=per_host / (before / JUDGED),
                    budget=Budget("ratio", at_most=1.25),
                    note="linear",
                )
            )
        shutil.rmtree(folder)
    with run.optional("cobbler sync"):
        beside_cobbler(run, firsts)


def publishing(run: Run, site: Site, start: float, call: float, peer: Templates) -> tuple[float, float]:
    """Everything for one size.

    :arg start: seconds of a play without a task.
    :arg call: seconds of the same play for a single host, unchanged; 0: this is it.
    :returns: seconds of the first publishing without Ansible's start, and of an unchanged one with it.
    """
    count, judged = site.count, site.count >= JUDGED
    everything = count <= EVERYTHING_AT_MOST

    def own(played: Played) -> float:
        return max(played.seconds - start, 0.001)

    def row(name: str, played: Played, **more: t.Any) -> None:
        memory = f"controller {played.controller:,.0f} MiB, module {played.module:,.0f} MiB"
        note = "; ".join(text for text in (more.pop("note", ""), memory) if text)
        most = max(played.controller, played.module)
        run.add(Row(name, count, played.seconds, memory=most, line=name, note=note, **more))

    if everything:
        row("kickstarts, first", written := site.kickstarts("kickstarts first"))
        same = site.kickstarts("kickstarts again")
        unchanged(same, "kickstarts again")
        row("kickstarts, nothing changed", same, ratio=own(same) / own(written), peer="of the first run")
    first = site.publish("publish first")
    files = site.files()
    template_seconds = peer.each * files
    row(
        FIRST,
        first,
        ratio=template_seconds / own(first),
        peer="faster than template tasks",
        budget=Budget("ratio", at_least=100) if judged else None,
    )
    run.add(
        Row(
            f"template tasks for the same {files:,} files",
            count,
            template_seconds + start,
            extrapolated=True,
            line="template tasks",
            note=f"{peer.each:.3f} s a file by {peer.how}",
        )
    )
    same = min((site.publish("publish again") for _round in range(1 if judged else 2)), key=lambda one: one.seconds)
    unchanged(same, "publish again")
    row(
        SAME,
        same,
        ratio=max(same.seconds - call, 0.001) / max(first.seconds - call, 0.001) if call else None,
        peer="of the first run",
        budget=Budget("ratio", at_most=1 / 3) if judged else None,
        note=f"{same.seconds / first.seconds:.2f} of the whole time",
    )
    parsed = parse_hosts(site.hosts).hosts
    row(ONE, site.publish("publish one changed", variables=site.with_one_changed()))
    site.in_process(lambda publisher: publisher.publish(parsed, arm=False))
    if not everything:
        site.plain_kickstarts()
    row(ARMED, site.publish("arm", "armed"))
    if not everything:
        return own(first), same.seconds
    names = [host["name"] for host in site.hosts]
    site.in_process(lambda publisher: publisher.disarm(names))
    row(AGAIN, site.publish("arm again", "armed"))
    site.in_process(lambda publisher: publisher.remove(names))
    fresh, again = (
        site.in_process(lambda publisher: publisher.publish(parse_hosts(site.hosts).hosts, arm=False))
        for _round in range(2)
    )
    run.add(Row("module's own work, first", count, fresh, line="module's own work", note="without Ansible"))
    run.add(
        Row(
            "module's own work, nothing changed",
            count,
            again,
            ratio=again / fresh,
            peer="of the first run",
            note="without Ansible",
        )
    )
    return own(first), same.seconds


def unchanged(played: Played, name: str) -> None:
    if "changed=0" not in played.output:
        sys.exit(f"{name}: something was changed:\n{played.output[-2000:]}")


def beside_cobbler(run: Run, firsts: t.Mapping[int, float]) -> None:
    """Cobbler, as far as it comes in reasonable time.

    :raises Skip: it is not to be had.
    """
    at_most = QUICK_COBBLER if run.quick else COBBLER_AT_MOST
    sizes = [size for size in firsts if size <= at_most]
    # One run for each of the two largest: its systems have to be made anew, which takes as long as the sync.
    for count in sizes[-2:]:
        seconds = cobbler(run, count)
        ours = firsts[count]
        run.add(
            Row(
                "cobbler sync",
                count,
                seconds["sync"],
                line="cobbler sync",
                ratio=seconds["sync"] / ours,
                peer="of our first run",
                # Ours in less than half of its time.
                budget=Budget("ratio", at_least=2) if count >= JUDGED else None,
                note=f"{COBBLER.replace('==', ' ')}, in process, not brought to disk, no kickstarts",
            )
        )
        run.add(Row("cobbler sync, nothing changed", count, seconds["again"], line="", note="in process"))
    most = max(run.sizes)
    if sizes and most > sizes[-1]:
        run.add(
            Row(
                "cobbler sync",
                most,
                seconds["sync"] * most / sizes[-1],
                extrapolated=True,
                line="cobbler sync",
                note=f"in proportion to {sizes[-1]:,}",
            )
        )


if __name__ == "__main__":
    sys.exit("Run it with: python tests/benchmark/run.py publish")
