# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of post actions says what the code does, and every action in it may be done twice."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import ACTION_TYPES, kind_of, parse_action
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields
from ansible_collections.pxemanager.esxi.tests import catalogue

ROOT = pathlib.Path(__file__).parents[3]
STAND_IN = ROOT / "tests/lab/pxelab/stand_in.sh"
COMMANDS = ("esxcli", "vim-cmd", "vmware", "chkconfig", "generate-certificates")
ENTRIES = catalogue.entries()
EXAMPLES = [
    pytest.param(entry, value, id=f"{kind}-{number}")
    for kind, entry in ENTRIES.items()
    for number, value in enumerate((entry.example, *entry.more))
]


def parsed(value):
    errors: list[str] = []
    return parse_action(value, Fields({}, "esx01", "", errors), "post_actions[0]"), errors


def test_the_page_is_as_the_code_is():
    """Written anew by: python tests/catalogue.py."""
    text = catalogue.PAGE.read_text(encoding="utf-8")
    assert catalogue.page(text) == text


def test_every_type_is_in_it():
    assert sorted(ENTRIES) == sorted(ACTION_TYPES)


@pytest.mark.parametrize("kind", [kind for kind, entry in ENTRIES.items() if entry.options])
def test_every_option_is_in_it_and_no_other(kind):
    _action, errors = parsed({kind: {"zzzzzzzz": 1}})
    known = next(re.search("known here: (.*)[.]", error) for error in errors if "zzzzzzzz" in error)
    assert known is not None
    assert sorted(name for name, _value, _text in ENTRIES[kind].options) == known[1].split(", ")


def test_the_common_options_are_on_the_page():
    text = catalogue.PAGE.read_text(encoding="utf-8").partition(catalogue.BEGIN)[0]
    _action, errors = parsed({"shell": ":", "zzzzzzzz": 1})
    known = errors[0].partition("known here: ")[2].rstrip(".").split(", ")
    assert sorted(re.findall(r"^[|] `(\w+)` [|]", text, re.M)) == sorted(set(known) - set(ACTION_TYPES))
    (first,) = re.findall(r"```yaml\nesxi_host_post_actions:\n(.*?)```", text, re.S)
    for value in yaml.safe_load(first):
        assert parsed(value)[1] == []


@dataclasses.dataclass
class Host:
    """The commands of a stand-in host, and the files that the actions look at, below one folder."""

    root: pathlib.Path
    version: str = "8.0.3"

    def __post_init__(self):
        for folder in ("bin", "var/lib/stand-in", "var/log", "etc/ssh", "etc/init.d", "vmfs/volumes/datastore1", "tmp"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "bin/stand-in").write_text(self.moved(STAND_IN.read_text(encoding="utf-8")))
        (self.root / "bin/stand-in").chmod(0o755)
        for command in COMMANDS:
            (self.root / "bin" / command).symlink_to("stand-in")
        for service in ("ntpd", "hostd"):
            (self.root / "etc/init.d" / service).symlink_to("../../bin/stand-in")
        for name, text in (
            ("etc/stand-in-version", self.version),
            ("etc/stand-in-fails", ""),
            ("etc/ntp.conf", "restrict default nomodify\nserver 10.9.9.9\n"),
            ("var/lib/stand-in/vswitches", "vSwitch0\n"),
            ("var/lib/stand-in/portgroups", "Management Network\nVM Network\n"),
            ("var/lib/stand-in/interfaces", "vmk0\n"),
        ):
            (self.root / name).write_text(text)

    def moved(self, text: str) -> str:
        for place in ("/var/l", "/etc/", "/vmfs/", "/tmp/esxi-pxe", "/sbin/generate"):
            text = text.replace(place, f"{self.root}{place}".replace("/sbin/", "/bin/"))
        return text

    def run(self, action):
        """(Exit code, what it said, whether it asks for a restart)."""
        wanted = self.root / "wanted"
        wanted.unlink(missing_ok=True)
        done = subprocess.run(
            ["busybox", "sh", "-c", self.moved(action.script)],
            env={
                "PATH": f"{self.root}/bin:/usr/bin:/bin",
                "ESXI_PXE_REBOOT": str(wanted),
                "ESXI_PXE_SERVER": "http://192.0.2.1",
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, wanted.exists()

    def restart(self):
        """Settings that need one are in force."""
        kernel = self.root / "var/lib/stand-in/kernel"
        if kernel.exists():
            shutil.copy(kernel, kernel.with_name("kernel-now"))

    def state(self):
        files = sorted(path for path in self.root.rglob("*") if path.is_file() and "stand-in-calls" not in path.name)
        folders = sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_dir())
        return {str(path.relative_to(self.root)): path.read_text() for path in files if path.name != "wanted"}, folders

    def calls(self):
        path = self.root / "var/log/stand-in-calls.log"
        return path.read_text().splitlines() if path.exists() else []


needs_busybox = pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")


@needs_busybox
@pytest.mark.parametrize(("entry", "value"), EXAMPLES)
def test_twice_is_as_once(tmp_path, entry, value):
    host = Host(tmp_path)
    for before in entry.before:
        action, errors = parsed(before)
        assert action is not None, errors
        assert host.run(action)[0] == 0
    action, errors = parsed({entry.kind: value})
    assert action is not None, errors
    untouched = host.state()
    code, said, _asks = host.run(action)
    assert code == 0, said
    once = host.state()
    wants = host.calls()
    host.restart()
    code, said, asks = host.run(action)
    assert (code, asks) == (0, False), said
    known = kind_of(entry.kind)
    after = host.state()
    for state in (once, after):
        # What is in force only after a restart is not what is set.
        state[0].pop("var/lib/stand-in/kernel-now", None)
    assert known is None or not known.rerun or after == once
    mode_is_so = {entry.kind: value} == {"maintenance_mode": False}
    assert mode_is_so or once != untouched or "--dry-run" in " ".join(wants) or not (known and known.rerun), (
        "it did nothing"
    )


@needs_busybox
@pytest.mark.parametrize("version", ["6.7.0", "7.0.3", "8.0.3", "9.0.0"])
@pytest.mark.parametrize("kind", ["ntp", "component", "depot"])
def test_versions_that_differ(tmp_path, version, kind):
    host = Host(tmp_path, version)
    action, _errors = parsed({kind: ENTRIES[kind].example})
    assert action is not None
    old = version.startswith("6.")
    code, said, _asks = host.run(action)
    calls = " ".join(host.calls())
    if kind == "ntp":
        assert code == 0, said
        assert ("esxcli system ntp set" in calls) is not old
        servers = (host.root / "etc/ntp.conf").read_text()
        if old:
            assert servers == "restrict default nomodify\nserver 192.168.77.1\nserver pool.ntp.example.com\n"
            assert "chkconfig ntpd on" in calls and "ntpd restart" in calls
    elif kind == "component":
        assert (code != 0) is old
        assert ("write vib instead of component" in said) is old
    else:
        assert code == 0
        assert (
            f"esxcli software {'vib install' if old else 'component apply'} --depot=http://192.0.2.1/depots/" in calls
        )


@needs_busybox
def test_a_profile_update_enters_maintenance_mode_and_leaves_it_when_it_fails_too(tmp_path):
    host = Host(tmp_path)
    action, _errors = parsed({"profile": {"depot": "patch", "profile": "X"}})
    (tmp_path / "etc/stand-in-fails").write_text("esxcli software profile\n")
    code, said, asks = host.run(action)
    assert code != 0 and "told to fail" in said and not asks
    assert "on\tfalse" in host.state()[0]["var/lib/stand-in/maintenance"]
    (tmp_path / "etc/stand-in-fails").write_text("")
    assert host.run(action)[0::2] == (0, True)
    changes = [call.rpartition("=")[2] for call in host.calls() if "maintenanceMode set" in call]
    assert changes == ["true", "false", "true", "false"]
    inside, _errors = parsed({"maintenance_mode": True})
    host.run(inside)
    host.run(parsed({"profile": {"depot": "patch", "profile": "Y"}})[0])
    assert "on\ttrue" in host.state()[0]["var/lib/stand-in/maintenance"], "it was in it before"


@needs_busybox
def test_without_the_pxe_servers_url_nothing_is_installed(tmp_path):
    host = Host(tmp_path)
    action, _errors = parsed({"vib": {"depot": "drivers"}})
    assert action is not None
    done = subprocess.run(
        ["busybox", "sh", "-c", host.moved(action.script)],
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "nobody has said where the PXE server is" in done.stderr
