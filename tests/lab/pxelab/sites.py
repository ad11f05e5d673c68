# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites, one playbook: installed together, by two controllers at once, and with one of the two sites away."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from . import inventory, report, server, site
from .ansible import Controller, Result
from .faults import sentences
from .inventory import Planned
from .lab import Lab

SETTINGS = {"esxi_host_timeout": 300, "esxi_host_reinstall_max": 50}
_LIBRARY = "/srv/esxi-pxe/library"
#: Numbers of the second site's machines; those of the first are 1, 2, ...
_FIRST_OF_SECOND = 31


def plan(count: int) -> list[Planned]:
    """``count`` machines for each site."""
    if not 1 <= count <= 9:
        raise ValueError("the lab takes 1 to 9 hosts at each of the two sites")
    planned = [inventory.plan_one(number) for number in range(1, count + 1)]
    # UEFI, BIOS, iPXE in turn: all of them have to come through the relay
    planned += [inventory.plan_one(_FIRST_OF_SECOND + number, at=site.SECOND) for number in range(count)]
    # they are installed again and again: their datastores may go
    disk = {"device": "mpx.vmhba0:C0:T0:L0", "existing_vmfs": "overwrite"}
    return [replace(one, variables={**one.variables, "esxi_host_disk": disk}) for one in planned]


def run(lab: Lab, count: int) -> list[str]:
    """Play all of it; returns what did not hold, one sentence each, and writes the report."""
    lab.start_sites(plan(count), SETTINGS)
    problems: list[str] = []
    installs = 1
    found: list[dict[str, Any]] = []
    lab.say("ansible-playbook pxemanager.esxi.provision: both sites, images brought from the controller")
    with lab.phase("provision"):
        result = lab.controller.play("provision", log="sites")
    found = _expect(lab, problems, "the first run", result, installs)
    problems += _images(result)
    if not problems:
        lab.say("ansible-playbook pxemanager.esxi.provision, a second time: nothing may change")
        with lab.phase("second_run"):
            result = lab.controller.play("provision", log="sites-again")
        found = _expect(lab, problems, "the second run", result, installs, changed=False)
    if not problems:
        lab.say(
            "more hosts than esxi_host_reinstall_max are to be reinstalled, at each site no more than that: nobody is"
        )
        with lab.phase("too_many"):
            limit = ("-e", f"esxi_host_reinstall_max={count}", "-e", "esxi_host_reinstall=too-many")
            result = lab.controller.play("provision", *limit, log="sites-too-many")
        if result.code == 0 or f"This run would reinstall {2 * count} hosts" not in " ".join(result.text.split()):
            problems.append(
                "reinstalling more hosts than esxi_host_reinstall_max at two sites together was not refused"
            )
        found = report.rows(lab)
        problems += report.check_installed(lab, found, installs=installs)
    if not problems:
        installs += 1
        lab.say("two controllers at once reinstall the same hosts, by one request: each host once")
        with lab.phase("two_controllers"):
            results = _both(lab, "-e", "esxi_host_reinstall=both-ask")
        for name, one in zip(("one", "two"), results, strict=True):
            found = _expect(lab, problems, f"controller {name}", one, installs)
    if not problems:
        lab.say("two controllers at once, each with a site of its own")
        installs += 1
        with lab.phase("one_each"):
            results = _both(lab, "-e", "esxi_host_reinstall=one-each", limits=(site.FIRST.name, site.SECOND.name))
        for name, one in zip(("one", "two"), results, strict=True):
            found = _expect(lab, problems, f"controller {name} with its own site", one, installs)
    if not problems:
        found = _one_site_away(lab, problems, installs)
    report.write(lab, found, problems)
    for one_site in (site.FIRST, site.SECOND):
        names = [one.name for one in lab.hosts if one.site == one_site]
        title = f"{one_site.name}: PXE server {one_site.box.name}, vCenter {one_site.center.address}"
        lab.say(f"{title}\n\n" + report.table([row for row in found if row["name"] in names]))
    return problems


def _expect(
    lab: Lab, problems: list[str], what: str, result: Result, installs: int, *, changed: bool = True
) -> list[dict[str, Any]]:
    """The hosts after a run in which all had to go well."""
    found = report.rows(lab)
    if result.code != 0:
        problems.append(f"{what} ended with exit code {result.code} (hosts: {sorted(result.failed())})")
    if result.changed and not changed:
        problems.append(f"{what} changed something: {result.recap}")
    secrets = (lab.passwords.vcenter, lab.passwords.vcenter_b, lab.passwords.root, lab.passwords.bootstrap)
    if any(secret in result.text for secret in secrets):
        problems.append(f"{what} showed a password")
    problems += [f"after {what}: {problem}" for problem in report.check_installed(lab, found, installs=installs)]
    return found


def _images(result: Result) -> list[str]:
    """The ISO went to both servers, the one that nobody uses to none, and nothing of it is left there."""
    wrong = []
    for box in (server.FIRST, server.SECOND):
        images = sorted(path.name for path in server.path(f"{report.BOOT}/images", box).iterdir())
        if images != [inventory.IMAGE]:
            wrong.append(f"{box.name} has the images {images} instead of {inventory.IMAGE} alone")
        if server.path(_LIBRARY, box).exists():
            wrong.append(f"{box.name} still has {_LIBRARY}")
    if result.text.count("TASK [pxemanager.esxi.pxe_server : Transfer the ISO") != 1:
        wrong.append("no image was brought to the servers")
    return wrong


def _both(lab: Lab, *arguments: str, limits: tuple[str, ...] = ("", "")) -> list[Result]:
    """Run provision.yml from two controllers at the same time."""
    results: list[Result | None] = [None, None]
    # what both say at once nobody can read: it is in the logs
    controllers = [lab.controller, Controller()]

    def play(index: int) -> None:
        more = ("--limit", limits[index]) if limits[index] else ()
        log = f"sites-controller-{index + 1}-{'own' if limits[index] else 'same'}"
        results[index] = controllers[index].play("provision", *arguments, *more, log=log)

    threads = [threading.Thread(target=play, args=(index,)) for index in (0, 1)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        controllers[1].close()
        raise
    return [one for one in results if one is not None]


def _one_site_away(lab: Lab, problems: list[str], installs: int) -> list[dict[str, Any]]:
    """The second site's PXE server is switched off while all hosts are to be reinstalled, and comes back."""
    here = {one.name for one in lab.hosts if one.site == site.FIRST}
    away = {one.name for one in lab.hosts if one.site == site.SECOND}
    lab.say("the PXE server of the second site is switched off; all hosts are to be reinstalled")
    server.switch_off(server.SECOND)
    with lab.phase("one_site_away"):
        result = lab.controller.play("provision", "-e", "esxi_host_reinstall=site-away", log="sites-away")
    told = sentences(result)
    if result.failed() - {server.SECOND.name} != away:
        problems.append(f"with site B away failed {sorted(result.failed())} instead of the hosts {sorted(away)}")
    for name in sorted(away):
        if not any(server.SECOND.name in text for text in told.get(name, [])):
            problems.append(f"{name} was not told that its PXE server is away, but: {told.get(name)}")
    found = report.rows(lab)
    for row in found:
        wanted = installs + (row["name"] in here)
        if row["installs"] != wanted:
            problems.append(f"with site B away {row['name']} was installed {row['installs']} times, not {wanted}")
    lab.say("what the hosts of the site that is away were told\n\n" + "".join(f"{told.get(n)}\n" for n in sorted(away)))
    lab.say("it is switched on again, and the same run repeated: what was missed is made up for, and no more")
    server.boot(server.SECOND)
    with lab.phase("site_back"):
        result = lab.controller.play("provision", "-e", "esxi_host_reinstall=site-away", log="sites-back")
    changed = {name for name, counts in result.recap.items() if counts.get("changed")}
    # What is done in one call for many hosts is counted for the first host of the play.
    quiet = here - {lab.hosts[0].name}
    if changed & quiet:
        problems.append(f"when site B was back something changed for {sorted(changed & quiet)}")
    return _expect(lab, problems, "the run after site B came back", result, installs + 1)
