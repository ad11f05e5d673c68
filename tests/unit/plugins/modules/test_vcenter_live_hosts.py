# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_live_hosts and vcenter_linked_info as modules. What they see is tested in tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

# Only where the collection's dependency is installed: ansible-test does not install it for unit tests.
pytest.importorskip("ansible_collections.vmware.vmware.plugins.module_utils.argument_spec")

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._live_hosts import Group, ManagedHost, Member
from ansible_collections.pxemanager.esxi.plugins.modules import vcenter_linked_info
from ansible_collections.pxemanager.esxi.plugins.modules import vcenter_live_hosts as module

LIVE = ManagedHost("esx01.example.com", "vc1:443", "/DC/host/C/esx01.example.com", "connected", False, 2)
GROUP = Group(
    "vc1:443",
    (Member("vc1:443", "one", "u1", "8.0.3", hosts=(LIVE,)), Member("vc2:443", problem="vc2 is down.")),
    linked=True,
)


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
        "job": "install",
        "unknown": "refuse",
        "timeout": 60,
        "on_host_failure": "fail",
        **changes,
    }


def test_options() -> None:
    spec = module.argument_spec()
    assert spec["validate_certs"]["default"] is True and spec["password"]["no_log"] is True
    assert spec["unknown"]["default"] == "refuse" and spec["job"]["default"] == "install"
    # anything else that is required would fail all hosts for the mistake of one
    options = spec["hosts"]["options"]
    assert [name for name, option in options.items() if option.get("required")] == ["name"]


@pytest.mark.parametrize(
    ("option", "variable"), [("hostname", "VMWARE_HOST"), ("username", "VMWARE_USER"), ("password", "VMWARE_PASSWORD")]
)
def test_what_is_needed_to_connect(option: str, variable: str) -> None:
    with pytest.raises(EsxiPxeError, match=f"^No {option} of the vCenter is given: set {option} or {variable}.$"):
        module.run(params(**{option: None}))


def test_a_number_that_makes_no_sense() -> None:
    with pytest.raises(EsxiPxeError, match="^timeout must be 1 or more, not 0.$"):
        module.run(params(timeout=0))


def test_nobody_is_asked_about_no_host() -> None:
    result = module.run(params(hosts=[{"name": "a b"}]))
    assert result["failed_hosts"] == ["a b"] and result["hosts"]["a b"]["kind"] == "mistake"
    assert module.run(params())["hosts"] == {}


def test_a_verdict_is_under_the_name_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_group", lambda *_unused: GROUP)

    result = module.run(params(hosts=[{"name": "ESX01.example.com."}, {"name": "new.example.com"}]))

    assert result["failed_hosts"] == ["ESX01.example.com.", "new.example.com"]
    one = result["hosts"]["ESX01.example.com."]
    assert (one["kind"], one["vcenter"], one["recognised_by"]) == ("live", "vc1:443", "name")
    assert result["problems"] == ["vc2 is down."]


def test_what_is_told_of_a_group() -> None:
    told = vcenter_linked_info.as_return(GROUP)

    assert told["linked"] and not told["complete"] and told["unreachable"] == ["vc2:443"]
    assert [(one["vcenter"], one["reachable"], one["hosts"]) for one in told["vcenters"]] == [
        ("vc1:443", True, 1),
        ("vc2:443", False, 0),
    ]
    assert told["esxi_hosts"] == [
        {
            "name": "esx01.example.com",
            "vcenter": "vc1:443",
            "path": "/DC/host/C/esx01.example.com",
            "connection_state": "connected",
            "maintenance_mode": False,
            "powered_on": 2,
            "uuid": "",
            "addresses": [],
            "macs": [],
        }
    ]
