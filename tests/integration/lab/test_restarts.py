# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post actions with restarts on a stand-in machine that boots from the network each time and keeps what was saved."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import parse_actions
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import firstboot_script, post_script, pre_script
from ansible_collections.pxemanager.esxi.tests.integration.lab import test_machines as machines
from ansible_collections.pxemanager.esxi.tests.support.script_machine import OK, Server
from pxelab.sandbox import LOCAL_SH, Sandbox

pytestmark = machines.pytestmark
site = machines.site

ACTIONS = [
    {"ipv6": False},
    {"name": "between", "shell": "touch /etc/stand-in-fetches\n"},
    {"name": "drivers", "vib": {"depot": "drivers"}},
]


def test_three_actions_two_restarts_then_ready(site: machines.Site) -> None:
    errors: list[str] = []
    actions = parse_actions(ACTIONS, Fields({}, "esx01", "", errors))
    assert not errors
    commands, _pre, _scripts = machines.KICKSTART.partition("%pre")
    texts = {
        "%pre": pre_script(machines.MAC, 30, None),
        "%post": post_script(machines.MAC, 30, None, 60, False),
        "%firstboot": firstboot_script(machines.MAC, 60, actions),
    }
    sections = "".join(f"{name} --interpreter=busybox\n{text}" for name, text in texts.items())
    secrets = (("@PBCONNECT_URL@", f"{machines.BASE}/pbconnect/v1/notify"), ("@PBCONNECT_TOKEN@", "the-secret-token"))
    for placeholder, value in secrets:
        sections = sections.replace(placeholder, value)
    site.write("ks.cfg", commands + sections)
    site.write("depots/drivers/index.xml", "<vendorList/>\n")
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine("uefi")

    machines.wait(lambda: bool(site.notes) and site.notes[-1]["stage"] == "ready", one, 120)
    machines.wait(lambda: one.state == "running", one)

    assert [(note["stage"], len(note.get("actions", ())), note["message"]) for note in site.notes] == [
        ("installing", 0, "the installer has started"),
        ("installed", 0, "the installer has written the system"),
        ("installed", 1, "rebooting after action 1 of 3: ipv6"),
        ("installed", 1, "back after restart 1, 1 of 3 post actions are done"),
        ("installed", 3, "rebooting after action 3 of 3: drivers"),
        ("installed", 3, "back after restart 2, 3 of 3 post actions are done"),
        ("ready", 3, "the first boot is done"),
    ]
    assert [(action["name"], action["rc"]) for action in site.notes[-1]["actions"]] == [
        ("ipv6", 0),
        ("between", 0),
        ("drivers", 0),
    ]
    counted = {key: one.counters[key] for key in ("installs", "boots", "local_boots", "reboots", "loops")}
    assert counted == {"installs": 1, "boots": 4, "local_boots": 3, "reboots": 3, "loops": 0}
    assert "/depots/drivers/index.xml" in site.requests
    root = one.disk.root
    assert (root / "etc/rc.local.d/local.sh").read_bytes() == LOCAL_SH
    assert not (root / "etc/esxi-pxe").exists()
    for left in ("etc", "tmp", "bootbank", "var/run"):
        for path in (root / left).rglob("*"):
            assert not path.is_file() or b"the-secret-token" not in path.read_bytes() or path.name == "script"

    # another start from the disk does nothing of it again
    one.power("cycle")
    machines.wait(lambda: one.counters["local_boots"] == 4 and one.state == "running", one)
    assert len(site.notes) == 7


def test_in_its_sandbox_alone(tmp_path: Path) -> None:
    """The same without network namespaces: what the machine runs, on a root that forgets what was not saved."""
    assert machines.BUSYBOX is not None
    sandbox = Sandbox(tmp_path / "root", busybox=machines.BUSYBOX)
    sandbox.create()
    server = Server(OK)
    try:
        errors: list[str] = []
        text = firstboot_script(machines.MAC, 30, parse_actions(ACTIONS[:1] + ACTIONS[2:], Fields({}, "x", "", errors)))
        assert not errors
        sandbox.run(text.replace("@PBCONNECT_URL@", server.url).replace("@PBCONNECT_TOKEN@", "token"))
        boots = 0
        while sandbox.asked_for_reboot():
            boots += 1
            assert boots < 5
            sandbox.start_over()
            sandbox.run((sandbox.root / "etc/rc.local.d/local.sh").read_text())
    finally:
        server.http.shutdown()
        server.http.server_close()
    assert boots == 2
    assert [note["stage"] for note in server.notes()] == [*["installed"] * 4, "ready"]
    assert (sandbox.root / "etc/rc.local.d/local.sh").read_bytes() == LOCAL_SH
    assert not (sandbox.root / "etc/esxi-pxe").exists()
