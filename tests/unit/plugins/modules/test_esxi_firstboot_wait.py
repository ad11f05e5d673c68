# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module esxi_firstboot_wait: one bounded look at the status files."""

from __future__ import annotations

import datetime
import pathlib
import threading
import time
import typing as t

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.modules import esxi_firstboot_wait
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
NAME = "esx01.example.com"


class Ended(Exception):
    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result)
        self.result = result


@pytest.fixture(autouse=True)
def no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_json(_module: object, **result: t.Any) -> t.NoReturn:
        raise Ended(result)

    def fail_json(_module: object, msg: str, **result: t.Any) -> t.NoReturn:
        raise Ended({**result, "msg": msg, "failed": True})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    site = Site(tmp_path / "site")
    site.arm(NAME, ["00:50:56:aa:bb:01"], ["192.168.77.21"], NOW)
    return site


def run(site: Site, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
    options = {"hosts": [{"name": NAME}], "config": str(site.config_path), "poll": 0.1, **options}
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(Ended) as ended:
        esxi_firstboot_wait.main()
    return ended.value.result


def test_a_look_says_how_it_is_and_changes_nothing(site: Site) -> None:
    before = site.snapshot()
    result = run(site, hosts=[{"name": NAME}, {"name": "esx02.example.com"}])
    assert result["changed"] is False
    assert result["now"].endswith("Z")
    assert result["hosts"][NAME]["status"]["stage"] == "armed"
    assert result["hosts"]["esx02.example.com"]["status"] is None
    assert site.snapshot() == before


def test_a_look_ends_when_something_happens(site: Site) -> None:
    seen = {NAME: run(site)["hosts"][NAME]["fingerprint"]}
    change = threading.Timer(
        0.3, lambda: site.write_status(site.status(NAME).notified("installing", NOW + datetime.timedelta(seconds=1)))
    )
    change.start()
    begun = time.monotonic()
    result = run(site, seen=seen, hold=30)
    assert time.monotonic() - begun < 10
    assert result["hosts"][NAME]["status"]["stage"] == "installing"
    change.join()


def test_a_look_ends_when_nothing_happens(site: Site) -> None:
    seen = {NAME: run(site)["hosts"][NAME]["fingerprint"]}
    begun = time.monotonic()
    assert run(site, seen=seen, hold=0.5)["hosts"] == {}
    assert 0.4 < time.monotonic() - begun < 5


def test_no_look_is_held_open_for_ever_or_in_check_mode(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(esxi_firstboot_wait.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        esxi_firstboot_wait.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 0.01))
    )
    seen = {NAME: run(site)["hosts"][NAME]["fingerprint"]}
    assert run(site, seen=seen, hold=1e9, poll=0)["hosts"] == {}
    assert clock[0] == pytest.approx(45, abs=0.5)
    clock[0] = 0.0
    run(site, check=True, seen=seen, hold=45)
    assert clock[0] == 0.0


def test_a_server_that_is_not_set_up(site: Site) -> None:
    result = run(site, config=str(site.root / "nowhere.json"))
    assert result["failed"] is True
    assert "run the role pxe_server" in result["msg"]
