# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in vCenter that looks at the hosts it is given, as a real one does and vcsim does not.

    python -m pxelab.vcenter_api --cert vc.crt --key vc.key --listen 127.0.0.1:8989 --vcsim PATH \
        [--hosts FILE] [--profiles FILE] [--faults FILE] [--calls FILE] [--heartbeat SECONDS] \
        [-- -dc 1 -cluster 1 -host 0 -standalone-host 0 -vm 0 -username ... -password ...]

What is done with hosts is in pxelab.vcenter_hosts, host profiles in pxelab.vcenter_profiles, trouble on demand in
pxelab.trouble. ``--hosts`` is a file in the form of /etc/hosts with what vCenter's DNS knows. ``--profiles`` is a JSON
object: ``profiles``, and under ``configured`` names of clusters with vSphere Configuration Profiles. ``--calls`` gets
the name of every method that is called, a line each. The process ends when the thread that started it ends. It prints
``ready ADDRESS:PORT`` once it takes connections.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from pathlib import Path

from . import paths, soap, trouble, vcenter_hosts, vcenter_lookup
from .trouble import Trouble
from .vcenter_profiles import HostProfiles

_TASK_OR_FAULT = re.compile(
    r'type="Task"[^>]*>(?P<task>[^<]+)<'
    r'|<fault\b[^>]*type="NoHost"[^>]*(?:/>|>.*?</fault>)(?:<localizedMessage>[^<]*</localizedMessage>)?',
    re.DOTALL,
)


class VcenterApi:
    """What the stand-in answers itself; everything else is vcsim's."""

    def __init__(
        self,
        settings: vcenter_hosts.Settings,
        rules: trouble.Rules | None = None,
        calls: Path | None = None,
        profiles: HostProfiles | None = None,
    ) -> None:
        self.hosts = vcenter_hosts.Hosts(settings, self._task)
        self._profiles = profiles or HostProfiles()
        self._rules = rules or trouble.Rules(None)
        self._calls = calls
        self._lock = threading.Lock()
        self._failing: dict[str, Trouble] = {}

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        if self._calls is not None:
            with self._lock, self._calls.open("a", encoding="utf-8") as log:
                log.write(f"{call.method}\n")
        rule = self._rules.rule_for(call)
        if rule is not None:
            trouble.cut(rule, call)
            answer = trouble.plain_answer(rule, call)
            if answer is not None:
                return answer
            if "task_fault" in rule:
                end = Trouble.of(rule["task_fault"])
                return self._task(call, vcenter_hosts.this(call), end, float(rule.get("seconds", 0)))
            if "task_delay" in rule:
                self._carry_out(call)
                return self._task(call, vcenter_hosts.this(call), None, float(rule["task_delay"]))
        return self._carry_out(call)

    def _carry_out(self, call: soap.Call) -> soap.Answer:
        # The profiles first: they also want to know of calls that others answer, such as a host's reconnection.
        answer = self._profiles(call) or self.hosts(call)
        if answer is None:
            answer = call.forward(call.body)
        return soap.Answer(answer.status, self._profiles.rewrite(self._with_faults(answer.body)), answer.headers)

    def _task(self, call: soap.Call, entity: tuple[str, str], end: Trouble | None, seconds: float) -> soap.Answer:
        """A task of vcsim that ends after so many seconds, well or with a fault."""
        simulator = vcenter_hosts.Simulator(call.forward)
        name = call.method.removesuffix("_Task")
        outcome = "good" if end is None else "bad"
        task = simulator.ask("task", *entity, name[:1].lower() + name[1:], f"{seconds:g}", outcome)
        if end is not None:
            # vcsim knows only some faults: the task fails with one of those, which is replaced wherever it is read.
            with self._lock:
                self._failing[task] = end
        return vcenter_hosts.task_answer(call, task)

    def _with_faults(self, body: bytes) -> bytes:
        """An answer of vcsim with the faults that its failing tasks should have."""
        if b"NoHost" not in body:
            return body
        task = ""

        def replace(found: re.Match[str]) -> str:
            nonlocal task
            if found["task"]:
                task = found["task"]
                return found[0]
            end = self._failing.get(task)
            return found[0] if end is None else end.xml()

        return _TASK_OR_FAULT.sub(replace, body.decode()).encode()


def _after(arguments: list[str], option: str, otherwise: str = "") -> str:
    """The value of one of vcsim's own options."""
    return arguments[arguments.index(option) + 1] if option in arguments else otherwise


def main() -> None:
    """Run until the process that started this one ends, or a signal comes."""
    parser = argparse.ArgumentParser(prog="pxelab.vcenter_api", description="API of a stand-in vCenter")
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT; port 0 takes a free one")
    parser.add_argument("--cert", required=True, type=Path, help="its certificate")
    parser.add_argument("--key", required=True, type=Path, help="the certificate's key")
    parser.add_argument("--vcsim", type=Path, default=paths.CACHE / "vcsim" / "vcsim", help="the program")
    parser.add_argument("--hosts", type=Path, help="what vCenter's DNS knows, in the form of /etc/hosts")
    parser.add_argument("--profiles", type=Path, help="the host profiles that it has: see pxelab.vcenter_profiles")
    parser.add_argument("--faults", type=Path, help="trouble on demand: see pxelab.trouble")
    parser.add_argument("--calls", type=Path, help="file that gets the name of every method called")
    parser.add_argument("--heartbeat", type=float, default=0.0, help="seconds between two looks at all hosts; 0: none")
    parser.add_argument("--license", action="append", default=[], metavar="KEY:HOSTS", help="a licence key it has")
    parser.add_argument("--most-hosts", type=int, help="how many hosts its edition allows")
    parser.add_argument("--deny", action="append", default=[], metavar="PRIVILEGE", help="a privilege nobody has")
    parser.add_argument("arguments", nargs="*", metavar="VCSIM-ARGUMENT", help="after --: arguments of vcsim")
    options = parser.parse_args()

    soap.die_with_parent()
    gateway = soap.Gateway(
        soap.address_and_port(options.listen),
        soap.server_context(str(options.cert), str(options.key)),
        ("127.0.0.1", 0),
        # until its port, and with it its identity, is known
        lambda _call: None,
    )
    lookup = vcenter_lookup.alone(f"{gateway.server_name}:{gateway.server_port}")
    licences = dict(one.rsplit(":", 1) for one in options.license)
    settings = vcenter_hosts.Settings(
        identity=f"{gateway.server_name}:{gateway.server_port}",
        version=tuple(int(part) for part in _after(options.arguments, "-api-version", "6.5").split(".")),
        names=options.hosts,
        licences={key: int(hosts) for key, hosts in licences.items()},
        most_hosts=options.most_hosts,
        denied=frozenset(options.deny),
    )
    profiles = HostProfiles(**json.loads(options.profiles.read_text(encoding="utf-8")) if options.profiles else {})
    api = VcenterApi(settings, trouble.Rules(options.faults), options.calls, profiles)
    gateway.answer = lambda call: lookup(call) or api(call)
    vcsim = soap.Vcsim(str(options.vcsim), options.arguments)
    gateway.backend = vcsim.address
    user, password = _after(options.arguments, "-username", "user"), _after(options.arguments, "-password", "pass")
    session = vcenter_hosts.OwnSession(vcsim.address, user, password)
    try:
        vcenter_hosts.Simulator(session.forward).ask("hosts")
    except RuntimeError as error:
        vcsim.stop()
        sys.exit(str(error))
    if options.heartbeat > 0:
        vcenter_hosts.watch(api.hosts, session, options.heartbeat)
    soap.serve(gateway, vcsim)


if __name__ == "__main__":
    main()
