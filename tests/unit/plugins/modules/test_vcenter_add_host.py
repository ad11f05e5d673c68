# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_add_host as a module. What it does in a vCenter is tested in tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

# Only where the collection's dependency is installed: ansible-test does not install it for unit tests.
pytest.importorskip("ansible_collections.vmware.vmware.plugins.module_utils.argument_spec")

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.modules import vcenter_add_host as module


def params(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "hostname": "vcenter.invalid",
        "username": "administrator",
        "password": "secret",
        "port": 443,
        "validate_certs": True,
        "proxy_host": None,
        "proxy_port": None,
        "hosts": [],
        "parallel": 16,
        "timeout": 600,
        "retry_for": 0,
        "progress_file": None,
        "on_host_failure": "fail",
        **changes,
    }


def test_options() -> None:
    spec = module.argument_spec()
    assert spec["validate_certs"]["default"] is True and spec["password"]["no_log"] is True
    options = spec["hosts"]["options"]
    assert {name for name, option in options.items() if option.get("no_log")} == {"password", "license"}
    assert options["trust_on_first_use"]["default"] is False
    # anything else that is required would fail all hosts for the mistake of one
    assert [name for name, option in options.items() if option.get("required")] == ["name"]


@pytest.mark.parametrize(
    ("option", "variable"), [("hostname", "VMWARE_HOST"), ("username", "VMWARE_USER"), ("password", "VMWARE_PASSWORD")]
)
def test_what_is_needed_to_connect(option: str, variable: str) -> None:
    with pytest.raises(EsxiPxeError, match=f"^No {option} of the vCenter is given: set {option} or {variable}.$"):
        module.run(params(**{option: None}), check_mode=False)


@pytest.mark.parametrize("option", ["parallel", "timeout"])
def test_numbers_that_make_no_sense(option: str) -> None:
    with pytest.raises(EsxiPxeError, match=f"^{option} must be 1 or more, not 0.$"):
        module.run(params(**{option: 0}), check_mode=False)


def test_no_sound_host_is_no_reason_to_connect() -> None:
    """vcenter.invalid does not exist: a connection would fail the call and hide the mistake."""
    result = module.run(params(hosts=[{"name": "esx01"}]), check_mode=False)
    assert result["failed"] and result["failed_hosts"] == ["esx01"]
    assert module.run(params(), check_mode=False)["hosts"] == {}
