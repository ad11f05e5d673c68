# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of pbconnect's interface says what the service does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import (
    MAX_BODY,
    Pbconnect,
    Rejected,
    parse_notification,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import NOTIFIED_STAGES
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site

ROOT = Path(__file__).resolve().parents[3]
OURS = ("/ks/", "/pbconnect/v1/", "/healthz")


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((ROOT / "docs/pbconnect.openapi.yaml").read_text("utf-8"))


def routes(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    path = ROOT / "roles/pxe_server/files/pbconnect.py"
    # where it finds its other part
    monkeypatch.syspath_prepend(str(path.parent))
    specification = importlib.util.spec_from_file_location("pbconnect_program", path)
    program = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(program)
    config = Site(tmp_path / "site").config
    watch = program.Watch(config, lambda *_words, **_values: None)
    service = program.Service(Pbconnect(config), watch)
    for route in service.application().router.routes():
        yield route.method, route.resource.canonical
    service.close()
    watch.close()


def test_every_route_is_described_and_nothing_else(document, tmp_path, monkeypatch):
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    found = set(routes(tmp_path, monkeypatch))
    assert described <= found
    assert {(method, path) for method, path in found if path.startswith(OURS) and method != "HEAD"} <= described


def test_the_stages_and_the_limits_are_those_of_the_code(document):
    notification = document["components"]["schemas"]["Notification"]["properties"]
    assert notification["stage"]["enum"] == list(NOTIFIED_STAGES)
    actions = [{"name": "a", "rc": 0}] * notification["actions"]["maxItems"]
    assert parse_notification(json.dumps({"stage": "ready", "actions": actions}).encode())
    with pytest.raises(Rejected):
        parse_notification(json.dumps({"stage": "ready", "actions": [*actions, actions[0]]}).encode())
    assert notification["certificate"]["maxLength"] < MAX_BODY


def test_every_refusal_of_the_service_is_described(document):
    responses = document["paths"]["/pbconnect/v1/notify"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "408", "409", "413", "429", "503"}
