# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook killed at random moments and started again, pbconnect killed between notifications: no loss."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

from . import demo, inventory, paths, report, server
from .errors import LabError
from .lab import Lab

SERVICE = "esxi-pbconnect.service"
#: The role's step after a host was armed.
BEFORE_POWER = "TASK [pxemanager.esxi.esxi_host : Power the armed hosts]"
#: Seconds between two kills of the service: systemd gives up on one that dies five times in ten seconds.
_PAUSE = 3.0


class ServiceKiller(threading.Thread):
    """SIGKILL for pbconnect each time that a host has reached another stage: between two notifications."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(name="service-killer", daemon=True)
        self._lab = lab
        self._over = threading.Event()
        self.kills = 0

    def _stages(self) -> dict[str, Any]:
        read = {}
        for one in self._lab.hosts:
            status = paths.read_json(server.path(f"{report.STATUS}/{one.name}.json")) or {}
            read[one.name] = status.get("stage")
        return read

    def run(self) -> None:
        """Until ``stop``."""
        before = self._stages()
        while not self._over.wait(0.1):
            after = self._stages()
            if after == before or not {"installing", "installed", "ready"} & set(after.values()):
                before = after
                continue
            before = after
            try:
                # not "systemctl kill": that signals a control group, which a container cannot do everywhere
                server.run(f"kill -KILL $(systemctl show --property=MainPID --value {SERVICE})")
            except LabError:
                continue
            self.kills += 1
            self._over.wait(_PAUSE)

    def stop(self) -> int:
        """End it; returns how often it killed."""
        self._over.set()
        self.join(60)
        return self.kills


def run(lab: Lab, count: int, kills: int, seed: int | None) -> list[str]:
    """Play the kills; returns what did not hold, one sentence each."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    chance = random.Random(seed)
    lab.start(inventory.plan(count), settings=demo.SETTINGS)
    lab.say(f"seed {seed}")
    problems: list[str] = []
    killer = ServiceKiller(lab)
    killer.start()
    try:
        # half of the time is the PXE server's own set-up
        killed = _play(lab, problems, "install", [chance.uniform(2.0, 40.0) for _kill in range(kills)])
        found = report.rows(lab)
        problems += report.check_installed(lab, found)
        if not problems:
            # a request with a label is carried out once, however often it is made
            target = lab.hosts[0].name
            request = ("--limit", target, "-e", "esxi_host_reinstall=killed-in-between")
            # the worst moment first: the host is armed, and nobody has told its machine
            moments: list[float | str] = [BEFORE_POWER, *(chance.uniform(2.0, 9.0) for _kill in range(kills))]
            killed += _play(lab, problems, "reinstall", moments, *request)
            found = report.rows(lab)
            for row in found:
                wanted = 2 if row["name"] == target else 1
                state = (row["installs"], row["stage"], row["loops"], row["root_password"])
                if state != (wanted, "ready", 0, "wanted"):
                    problems.append(
                        f"{row['name']}: {row['installs']} installs instead of {wanted}, {row['loops']} loops, "
                        f"stage {row['stage']}, root password {row['root_password']} after the reinstall of {target}"
                    )
    finally:
        service_kills = killer.stop()
    if not service_kills:
        problems.append("the pbconnect service was never killed: the run shows nothing about it")
    report.write(lab, found, problems, kills={"seed": seed, "ansible": killed, "pbconnect": service_kills})
    lab.say("the hosts\n\n" + report.table(found))
    lab.say(f"ansible-playbook was killed {killed} times, pbconnect {service_kills} times (--seed {seed})")
    return problems


def _play(lab: Lab, problems: list[str], name: str, moments: Sequence[float | str], *arguments: str) -> int:
    """Run the playbook, killed after each of these seconds, then once to its end; returns how often it was killed."""
    killed = 0
    for number, moment in enumerate(moments, 1):
        when = f"at '{moment}'" if isinstance(moment, str) else f"after {moment:.1f} s"
        lab.say(f"ansible-playbook pxemanager.esxi.provision {' '.join(arguments)}, to be killed {when}")
        with lab.phase(f"{name}_{number}"):
            result = lab.controller.play("provision", *arguments, log=f"kill-{name}-{number}", kill_at=moment)
        if result.code >= 0:
            lab.say(f"it ended before that, with exit code {result.code}")
            break
        killed += 1
    lab.say(f"ansible-playbook pxemanager.esxi.provision {' '.join(arguments)}, to its end")
    with lab.phase(name):
        result = lab.controller.play("provision", *arguments, log=f"kill-{name}-last")
    if result.code != 0:
        problems.append(f"{name}: the last run ended with exit code {result.code}: {sorted(result.failed())}")
    return killed
