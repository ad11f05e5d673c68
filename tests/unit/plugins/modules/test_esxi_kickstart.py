# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module esxi_kickstart: rendered texts on the PXE server's disk."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import stat

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._rendered import Rendered
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_kickstart

A, B = "esx01.example.com", "esx02.example.com"
ONE, TWO = "00:50:56:aa:01:01", "00:50:56:aa:01:02"
TEXT = "vmaccepteula\nrootpw --iscrypted $6$salt$hash\n"


class Ended(Exception):
    def __init__(self, result):
        super().__init__(result)
        self.result = result


@pytest.fixture(autouse=True)
def no_exit(monkeypatch):
    def exit_json(_module, **result):
        raise Ended(result)

    def fail_json(_module, msg, **result):
        raise Ended({**result, "msg": msg, "failed": True})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)


class Site:
    def __init__(self, root: pathlib.Path):
        self.root = root
        self.state = root / "state"
        self.state.mkdir()
        self.config = root / "server.json"
        group = {"group": "root"} if os.geteuid() == 0 else {}
        self.config.write_text(
            json.dumps(
                {
                    "schema": 1,
                    "address": "192.168.77.10",
                    "boot_root": f"{root}/boot",
                    "state_root": f"{self.state}",
                    **group,
                }
            )
        )

    def run(self, texts=None, failures=None, check=False, diff=True, upgrades=(), **options):
        arguments = {
            "hosts": [{"name": name} for name in texts or {}],
            "config": str(self.config),
            "rendered": Rendered(texts or {}, failures or {}, list(upgrades)).pack(),
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            **options,
        }
        with patch_module_args(arguments), pytest.raises(Ended) as ended:
            esxi_kickstart.main()
        return ended.value.result

    def snapshot(self):
        """Every path below the state's folder, with contents, permissions and time of change."""
        found = {}
        for path in sorted(self.state.rglob("*")):
            info = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[str(path)] = (info.st_mode, info.st_ino, info.st_mtime_ns, content)
        return found

    def file(self, name, mac):
        return self.state / "kickstarts" / name / f"01-{mac.replace(':', '-')}.cfg"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_file_for_each_mac(site):
    result = site.run({A: {ONE: TEXT, TWO: TEXT + "x\n"}, B: {"00:50:56:aa:02:01": TEXT}})
    assert result["changed"] and not result["failed"] and result["failed_hosts"] == []
    assert result["hosts"][A] == {"changed": True, "failed": False, "macs": [ONE, TWO], "msg": "2 kickstarts written."}
    assert result["hosts"][B]["msg"] == "1 kickstart written."
    assert site.file(A, ONE).read_text() == TEXT
    assert site.file(A, TWO).read_text() == TEXT + "x\n"
    for path in (site.file(A, ONE), site.file(A, TWO)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert not path.parent.stat().st_mode & 0o007, "others could read a password's hash"


def test_a_second_run_changes_nothing(site):
    site.run({A: {ONE: TEXT}})
    before = site.snapshot()
    result = site.run({A: {ONE: TEXT}})
    assert not result["changed"] and "diff" not in result
    assert result["hosts"][A]["msg"] == "1 kickstart up to date."
    assert site.snapshot() == before


def test_only_what_differs_is_written(site):
    site.run({A: {ONE: TEXT}, B: {TWO: TEXT}})
    before = site.snapshot()
    result = site.run({A: {ONE: TEXT}, B: {TWO: TEXT + "x\n"}})
    assert [result["hosts"][name]["changed"] for name in (A, B)] == [False, True]
    assert site.snapshot()[str(site.file(A, ONE))] == before[str(site.file(A, ONE))]
    assert site.file(B, TWO).read_text() == TEXT + "x\n"


def test_kickstarts_of_former_macs_go(site):
    site.run({A: {ONE: TEXT, TWO: TEXT}, B: {"00:50:56:aa:02:01": TEXT}})
    (site.file(A, ONE).parent / "notes.txt").write_text("not ours")
    result = site.run({A: {ONE: TEXT}})
    assert result["hosts"][A]["changed"]
    assert not site.file(A, TWO).exists() and site.file(A, ONE).exists()
    assert site.file(B, "00:50:56:aa:02:01").exists(), "another host's"
    assert (site.file(A, ONE).parent / "notes.txt").exists()


@pytest.mark.parametrize("present", [False, True])
def test_check_mode_writes_nothing(site, present):
    if present:
        site.run({A: {ONE: TEXT, TWO: TEXT}})
    before = site.snapshot()
    result = site.run({A: {ONE: TEXT + "x\n"}}, check=True)
    assert result["changed"] and result["hosts"][A]["msg"] == "1 kickstart to be written."
    assert len(result["diff"]) == (2 if present else 1)
    assert site.snapshot() == before
    assert site.run({A: {ONE: TEXT + "x\n"}})["changed"]


def test_the_difference_shows_no_secret(site):
    site.run({A: {ONE: TEXT, TWO: TEXT}})
    result = site.run({A: {ONE: TEXT.replace("salt", "pepper") + "serialnum --esx=AAAAA-BBBBB-CCCCC-DDDDD-EEEEE\n"}})
    text = json.dumps(result)
    assert "$6$" not in text and "AAAAA" not in text
    assert {item["after_header"] for item in result["diff"]} == {str(site.file(A, ONE)), str(site.file(A, TWO))}
    assert "vmaccepteula" in result["diff"][0]["before"]
    assert "diff" not in site.run({A: {ONE: TEXT}}, diff=False)


def test_permissions_are_mended(site):
    site.run({A: {ONE: TEXT}})
    site.file(A, ONE).chmod(0o644)
    assert site.run({A: {ONE: TEXT}})["changed"]
    assert stat.S_IMODE(site.file(A, ONE).stat().st_mode) == 0o640


def test_a_host_that_was_not_rendered_fails_alone(site):
    result = site.run({A: {ONE: TEXT}}, {B: ["b is wrong.", "b is very wrong."]})
    assert result["failed"] and result["failed_hosts"] == [B]
    assert B in result["msg"] and "b is wrong." in result["msg"]
    assert result["hosts"][B]["reasons"] == ["b is wrong.", "b is very wrong."]
    assert site.file(A, ONE).exists() and result["hosts"][A]["changed"]
    assert not site.file(B, TWO).parent.exists()


def test_the_old_kickstart_of_a_host_that_fails_is_left(site):
    site.run({B: {TWO: TEXT}})
    before = site.snapshot()
    site.run({}, {B: ["b is wrong."]})
    assert site.snapshot() == before


def test_failures_can_be_left_to_the_caller(site):
    result = site.run({A: {ONE: TEXT}}, {B: ["b is wrong."]}, on_host_failure="report")
    assert not result["failed"] and result["failed_hosts"] == [B]


def test_many_hosts_are_done_in_several_goes(site):
    many = {
        f"esx{number}.example.com": {f"00:50:56:00:{number >> 8:02x}:{number & 255:02x}": TEXT} for number in range(450)
    }
    result = site.run(many)
    assert len(result["hosts"]) == 450 and not result["failed_hosts"]
    assert len(list((site.state / "kickstarts").glob("*/*.cfg"))) == 450


def test_something_in_the_way_fails_that_host_alone(site):
    (site.state / "kickstarts").mkdir()
    (site.state / "kickstarts" / A).write_text("a file")
    result = site.run({A: {ONE: TEXT}, B: {TWO: TEXT}, "../x": {ONE: TEXT}})
    assert result["failed_hosts"] == ["../x", A] and "must be a folder" in result["hosts"][A]["msg"]
    assert site.file(B, TWO).exists() and result["hosts"][B]["changed"]


def test_a_server_that_is_not_set_up(site):
    result = site.run({A: {ONE: TEXT}}, config=str(site.root / "none.json"))
    assert result["failed"] and "run the role pxe_server" in result["msg"]


def test_without_the_action_plugin(site):
    with patch_module_args({"hosts": [], "config": str(site.config)}), pytest.raises(Ended) as ended:
        esxi_kickstart.main()
    assert ended.value.result["failed"] and "pxemanager.esxi.esxi_kickstart" in ended.value.result["msg"]


@pytest.mark.parametrize("text", ["", "x", "AAAA", "eJwDAAAAAAE=", "\u00e4"])
def test_what_no_action_plugin_made(text):
    with pytest.raises(EsxiPxeError, match="action plugin"):
        Rendered.unpack(text)


def test_names_that_would_leave_the_folder_are_refused(site):
    before = site.snapshot()
    result = site.run({"../../evil": {ONE: TEXT}})
    assert result["failed_hosts"] == ["../../evil"]
    assert {path for path in site.snapshot() if "locks" not in path} == set(before)


def armed(site, command):
    """A host that waits for its boot."""
    now = datetime.datetime(2026, 11, 22, 20, tzinfo=datetime.timezone.utc)
    install = Install.new(A, [ONE], ["192.168.77.21"], None, now, 3600)
    status = Status.new(A, "esxi-8.0.3", now).armed(install, now, command=command)
    (site.state / "status").mkdir()
    (site.state / "status" / f"{A}.json").write_text(json.dumps(status.to_json()))


def test_what_an_armed_upgrade_will_fetch_is_not_replaced_by_an_install(site):
    """A run without the request comes while the host waits: its kickstart would wipe the machine."""
    site.run({A: {ONE: TEXT + "upgrade\n"}}, upgrades=[A])
    armed(site, "upgrade")
    result = site.run({A: {ONE: TEXT, TWO: TEXT}, B: {TWO: TEXT}})
    assert site.file(A, ONE).read_text() == TEXT + "upgrade\n"
    assert "Armed for an upgrade" in result["hosts"][A]["msg"]
    assert site.file(B, TWO).read_text() == TEXT
    # An upgrade's own kickstart may change.
    site.run({A: {ONE: TEXT + "upgrade x\n"}}, upgrades=[A])
    assert site.file(A, ONE).read_text() == TEXT + "upgrade x\n"


def test_an_install_that_waits_gets_what_is_new(site):
    site.run({A: {ONE: TEXT}})
    armed(site, "install")
    site.run({A: {ONE: TEXT + "x\n"}})
    assert site.file(A, ONE).read_text() == TEXT + "x\n"


def test_a_status_that_cannot_be_read_is_taken_for_an_upgrade_that_waits(site):
    site.run({A: {ONE: TEXT}})
    armed(site, "upgrade")
    (site.state / "status" / f"{A}.json").write_text("{")
    site.run({A: {ONE: TEXT + "x\n"}})
    assert site.file(A, ONE).read_text() == TEXT
