# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""esxi_root_password as a module. What it does on hosts is tested in tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError, MissingLibraryError
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_root_password as module


def params(**changes: t.Any) -> dict[str, t.Any]:
    return {"hosts": [], "parallel": 16, "timeout": 120, "attempts_file": "", "on_host_failure": "fail", **changes}


def _needs_pyvmomi() -> None:
    if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
        pytest.skip("pyVmomi cannot be used here")


def test_secrets_are_marked() -> None:
    options = module.argument_spec()["hosts"]["options"]
    assert {name for name, option in options.items() if option.get("no_log")} == {"password", "bootstrap_password"}
    # anything else that is required would fail all hosts for the mistake of one
    assert [name for name, option in options.items() if option.get("required")] == ["name"]


def test_without_pyvmomi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vsphere_session, "PYVMOMI_IMPORT_ERROR", "Traceback ...")
    with pytest.raises(MissingLibraryError):
        module.run(params(), check_mode=False)


@pytest.mark.parametrize(("option", "value"), [("parallel", 0), ("timeout", -1)])
def test_numbers_that_make_no_sense(option: str, value: int) -> None:
    _needs_pyvmomi()
    with pytest.raises(EsxiPxeError, match=rf"^{option} must be \d or more, not {value}\.$"):
        module.run(params(**{option: value}), check_mode=False)


def test_no_hosts_is_nothing_to_do() -> None:
    _needs_pyvmomi()
    assert module.run(params(), check_mode=False) == {
        "changed": False,
        "failed": False,
        "msg": "0 hosts, 0 changed.",
        "hosts": {},
        "failed_hosts": [],
    }
