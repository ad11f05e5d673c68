# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""esxi_post_actions as a module. What it does on hosts is tested in tests/integration/vcenter."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_post_actions as module
from ansible_collections.pxemanager.esxi.tests.support.documents import documented_options

SOUND = {"name": "esx01.example.com", "bootstrap_password": "Bootstrap-1", "trust_on_first_use": True}


class Ended(Exception):
    pass


@pytest.fixture(autouse=True)
def no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_json(_module: t.Any, **result: t.Any) -> None:
        raise Ended(result)

    def fail_json(_module: t.Any, msg: str, **result: t.Any) -> None:
        raise Ended({**result, "msg": msg, "failed": True})

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)


def run(**options: t.Any) -> dict[str, t.Any]:
    with patch_module_args({"hosts": [], "attempts_file": "", **options}), pytest.raises(Ended) as ended:
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(json.dumps(ended.value.args[0])))


def _needs_pyvmomi() -> None:
    if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
        pytest.skip("pyVmomi cannot be used here")


def test_documentation_and_arguments_are_the_same() -> None:
    documented = documented_options(module)
    spec = module.argument_spec()
    assert set(documented) == set(spec)
    assert set(documented["hosts"]["suboptions"]) == set(spec["hosts"]["options"])
    for name, option in spec.items():
        assert documented[name].get("default") == option.get("default"), name
    options = spec["hosts"]["options"]
    assert [name for name, option in options.items() if option.get("no_log")] == ["bootstrap_password"]
    assert [name for name, option in options.items() if option.get("required")] == ["name"]


@pytest.mark.parametrize(("option", "value"), [("parallel", 0), ("timeout", -1), ("ssh_port", 70000)])
def test_numbers_that_make_no_sense(option: str, value: int) -> None:
    _needs_pyvmomi()
    result = run(**{option: value})
    assert result["failed"] and result["msg"].startswith(f"{option} must be")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trust_on_first_use": False}, "esxi_host_trust_on_first_use: true"),
        ({"bootstrap_password": ""}, "No bootstrap_password is given."),
        ({"address": "-oProxyCommand=touch"}, "is no host name or IP address"),
        ({"post_actions": [{"ssh": "perhaps"}]}, "write enabled or disabled"),
        ({"firstboot": "bell \a\n"}, "firstboot"),
    ],
)
def test_a_mistake_fails_its_host_with_a_sentence(wrong: dict[str, t.Any], said: str) -> None:
    _needs_pyvmomi()
    result = run(hosts=[{**SOUND, **wrong}], on_host_failure="report")
    mine = result["hosts"]["esx01.example.com"]
    assert mine["failed"] and said in mine["msg"] and "Bootstrap-1" not in str(result)


def test_without_an_ssh_program(monkeypatch: pytest.MonkeyPatch) -> None:
    _needs_pyvmomi()
    monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda *_unused, **_more: None)
    assert "install OpenSSH's client" in run(hosts=[SOUND])["msg"]
