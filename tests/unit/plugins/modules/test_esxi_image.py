# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it; what an import does is tested with module_utils."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.plugins.module_utils._server import Dhcp, default_config
from ansible_collections.pxemanager.esxi.plugins.modules import esxi_image
from pxelab.medium import make_tree

ISO = b"\0" * (16 * 2048 + 1) + b"CD001"


class Exited(Exception):
    def __init__(self, result):
        super().__init__(result)
        self.result = result


@pytest.fixture
def server(tmp_path):
    for folder in ("boot/images", "boot/hosts", "state/images", "state/hosts", "state/locks"):
        (tmp_path / folder).mkdir(parents=True)
    config = dataclasses.replace(
        default_config(),
        boot_root=str(tmp_path / "boot"),
        state_root=str(tmp_path / "state"),
        dhcp=Dhcp(hosts_dir=str(tmp_path / "state/dhcp-hosts")),
    )
    (tmp_path / "server.json").write_text(json.dumps(config.to_json()))
    return tmp_path


@pytest.fixture
def call(server, monkeypatch):
    warnings = []

    def leave(failed):
        def method(self, **result):
            raise Exited({"failed": failed, "changed": False, **result})

        return method

    monkeypatch.setattr(AnsibleModule, "exit_json", leave(False))
    monkeypatch.setattr(AnsibleModule, "fail_json", lambda self, msg, **rest: leave(True)(self, msg=msg, **rest))
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text, **_options: warnings.append(text))

    def run(check=False, **params):
        params.setdefault("config", str(server / "server.json"))
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch_module_args({**params, "_ansible_check_mode": check, "_ansible_diff": True}))
            caught = stack.enter_context(pytest.raises(Exited))
            esxi_image.main()
        return {**caught.value.result, "warnings": list(warnings)}

    return run


@pytest.fixture
def medium(tmp_path):
    return make_tree(tmp_path / "medium", module_size=64)


def test_an_import_and_a_second_run(call, medium, server):
    first = call(name="esxi-8.0.3", src=str(medium))
    assert (first["failed"], first["changed"]) == (False, True)
    assert first["image"] == json.loads((server / "state/images/esxi-8.0.3.json").read_text())
    assert first["diff"]["before"] == ""
    assert "8.0.3-0.0.24022510" in first["diff"]["after"]
    second = call(name="esxi-8.0.3", src=str(medium))
    assert (second["failed"], second["changed"]) == (False, False)
    assert second["image"] == first["image"]
    assert "diff" not in second


def test_check_mode(call, medium, server):
    result = call(check=True, name="esxi-8.0.3", src=str(medium))
    assert (result["changed"], result["image"]) == (True, None)
    assert not (server / "boot/images/esxi-8.0.3").exists()
    assert list((server / "state/locks").iterdir()) == []


def test_removal_and_refreshing(call, medium, server):
    call(name="esxi-8.0.3", src=str(medium))
    result = call(name="esxi-8.0.3", state="absent")
    assert (result["changed"], result["image"]) == (True, None)
    assert not call(name="esxi-8.0.3", state="absent")["changed"]
    assert not call(state="refreshed")["changed"]


@pytest.mark.parametrize(
    ("params", "missing"),
    [({}, "name, src"), ({"name": "x"}, "src"), ({"src": "/x"}, "name"), ({"state": "absent"}, "name")],
)
def test_what_a_state_needs(call, params, missing):
    result = call(**params)
    assert result["failed"]
    assert f"missing: {missing}" in result["msg"]


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_a_checksum_may_have_its_algorithm_before_it(call, tmp_path, prefix, monkeypatch):
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda self, *args, **options: "/bin/bsdtar")
    monkeypatch.setattr(AnsibleModule, "run_command", lambda self, argv: (1, "", "bsdtar: no"))
    iso = tmp_path / "esxi.iso"
    iso.write_bytes(ISO)
    right, wrong = hashlib.sha256(ISO).hexdigest(), "0" * 64
    assert f"not {wrong}" in call(name="x", src=str(iso), checksum=prefix + wrong)["msg"]
    assert "cannot read" in call(name="x", src=str(iso), checksum=prefix + right)["msg"]


def test_a_server_without_bsdtar_is_told_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda self, *args, **options: None)
    iso = tmp_path / "esxi.iso"
    iso.write_bytes(ISO)
    result = call(name="x", src=str(iso))
    assert result["failed"]
    assert "bsdtar is not installed: run the role pxe_server" in result["msg"]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"name": "../x", "src": "/nowhere"}, "cannot be the name of an image"),
        ({"name": "x", "src": "/nowhere"}, "/nowhere does not exist on the PXE server"),
        ({"name": "x", "src": "/nowhere", "config": "/nowhere/server.json"}, "run the role pxe_server"),
    ],
)
def test_errors_are_sentences(call, params, sentence):
    result = call(**params)
    assert result["failed"]
    assert sentence in result["msg"]
    assert result["msg"].endswith(".")
    assert not result["msg"][0].islower()


def test_warnings_reach_the_user(call, medium):
    for path in ("boot.cfg", "efi/boot/boot.cfg"):
        (medium / path).write_text((medium / path).read_text().replace("cdromBoot", "ks=cdrom:/KS.CFG"))
    assert "ks=cdrom:/KS.CFG" in call(name="x", src=str(medium))["warnings"][0]


def test_a_disk_that_cannot_be_written_is_a_failure_and_no_traceback(call, medium, server, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = call(name="x", src=str(medium))
    assert result["failed"]
    assert "The disk filled up" in result["msg"]
    assert result["msg"].endswith("make room and try again.")


def test_the_linux_loader_is_passed_on(call, medium):
    loader = {"kernel": "b.b00", "initrd": "k.b00"}
    bios = call(name="x", src=str(medium), linux_loader=loader)["image"]["loaders"]["bios"]
    assert bios == {"kind": "linux", "append": "", **loader}


def test_every_return_value_of_an_image_is_documented(call, medium):
    documented = yaml.safe_load(esxi_image.RETURN)["image"]["contains"]
    assert set(documented) | {"schema"} == set(call(name="x", src=str(medium))["image"])
