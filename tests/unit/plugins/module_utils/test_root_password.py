# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts and passwords without a host: definitions, and the waiting. The logins: tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from ansible_collections.pxemanager.esxi.plugins.module_utils import _root_password
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._root_password import HostAccount, set_passwords
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    LoginRefusedError,
    ServiceUnavailableError,
    VsphereError,
)
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM

SOUND = {"name": "esx01.example.com", "password": "wanted", "bootstrap_password": "boot", "certificate": ESXI_PEM}


class FakeHost:
    """A host's API, as far as a session goes: which password it has, and when it comes up."""

    def __init__(self, password: str, up_at: float = 0.0, login_error: t.Optional[Exception] = None) -> None:
        self.password, self.up_at, self.login_error = password, up_at, login_error
        self.tried: list[str] = []
        self.now = 0.0
        self.closed = 0

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def session(self, endpoint: t.Any) -> t.Any:
        if self.now < self.up_at:
            raise ServiceUnavailableError(f"The API at {endpoint} does not answer.")
        return self

    def __enter__(self) -> t.Any:
        return self

    def __exit__(self, *unused: object) -> None:
        self.closed += 1

    def login(self, username: str, password: str) -> None:
        self.tried.append(password)
        if self.login_error is not None:
            raise self.login_error
        if password != self.password:
            raise LoginRefusedError("No.")


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., dict[str, t.Any]]:
    def run(host: FakeHost, timeout: float = 120.0, check_mode: bool = False, **changes: t.Any) -> dict[str, t.Any]:
        monkeypatch.setattr(_root_password, "Session", host.session)
        monkeypatch.setattr(_root_password, "_update", lambda session, account: setattr(host, "password", "wanted"))
        results = Results()
        set_passwords(
            [HostAccount.parse({**SOUND, **changes})],
            results,
            timeout=timeout,
            check_mode=check_mode,
            clock=lambda: host.now,
            sleep=host.sleep,
        )
        return results.hosts["esx01.example.com"]

    return run


def test_the_wanted_password_is_tried_first(attempt) -> None:
    host = FakeHost("wanted")
    assert attempt(host)["action"] == "unchanged"
    assert host.tried == ["wanted"] and host.closed == 1


def test_then_the_bootstrap_password(attempt) -> None:
    host = FakeHost("boot")
    result = attempt(host)
    assert (result["action"], result["changed"]) == ("set", True)
    assert host.tried == ["wanted", "boot"] and host.password == "wanted" and host.closed == 1


def test_check_mode_changes_nothing(attempt) -> None:
    host = FakeHost("boot")
    assert attempt(host, check_mode=True)["changed"]
    assert host.password == "boot"


@pytest.mark.parametrize(
    ("changes", "tries"),
    [
        ({}, ["wanted", "boot"]),
        ({"bootstrap_password": None}, ["wanted"]),
        ({"bootstrap_password": "wanted"}, ["wanted"]),
    ],
)
def test_never_more_than_two_logins(attempt, changes: dict[str, t.Any], tries: list[str]) -> None:
    host = FakeHost("changed by hand")
    assert attempt(host, **changes)["failed"]
    assert host.tried == tries and host.closed == 1


@pytest.mark.parametrize("error", [ServiceUnavailableError("Gone."), VsphereError("No permission.")])
def test_a_login_that_breaks_is_not_repeated(attempt, error: Exception) -> None:
    """Whether the host has counted it as a wrong one is not known."""
    host = FakeHost("wanted", login_error=error)
    result = attempt(host)
    assert result["failed"] and result["msg"] == str(error)
    assert host.tried == ["wanted"] and host.closed == 1


@pytest.mark.parametrize("up_at", [0.5, 3, 60, 119])
def test_waits_for_the_api(attempt, up_at: float) -> None:
    host = FakeHost("wanted", up_at=up_at)
    assert attempt(host)["action"] == "unchanged"
    assert up_at <= host.now <= up_at + 10, "a late try is never far behind"


def test_gives_up_at_the_deadline(attempt) -> None:
    host = FakeHost("wanted", up_at=1e9)
    result = attempt(host, timeout=30)
    assert result["failed"] and "It was tried for 30 seconds." in result["msg"]
    assert host.now == 30 and host.tried == []


def test_all_mistakes_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        HostAccount.parse({"name": "a b", "address": "c d", "port": 0, "certificate": "x"})
    assert [error.split()[0] for error in caught.value.errors] == ["'a", "address", "port", "No", "certificate:"]


def test_passwords_are_not_shown() -> None:
    shown = repr(HostAccount.parse(SOUND))
    assert "wanted" not in shown and "boot" not in shown
