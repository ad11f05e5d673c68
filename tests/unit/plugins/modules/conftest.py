# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PXE server's folders, and its modules called as Ansible calls them."""

from __future__ import annotations

import contextlib

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer


class Exited(Exception):
    def __init__(self, result):
        super().__init__(result)
        self.result = result


@pytest.fixture
def server(tmp_path):
    return ImageServer(tmp_path / "server")


@pytest.fixture
def call(server, monkeypatch):
    def leave(failed):
        def method(self, **result):
            raise Exited({"failed": failed, "changed": False, **result})

        return method

    monkeypatch.setattr(AnsibleModule, "exit_json", leave(False))
    monkeypatch.setattr(AnsibleModule, "fail_json", lambda self, msg, **rest: leave(True)(self, msg=msg, **rest))
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text, **_options: None)

    def run(module, check=False, **params):
        params.setdefault("config", str(server.settings()))
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch_module_args({**params, "_ansible_check_mode": check, "_ansible_diff": True}))
            caught = stack.enter_context(pytest.raises(Exited))
            module.main()
        return caught.value.result

    return run
