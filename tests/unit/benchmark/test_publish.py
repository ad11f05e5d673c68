# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmark publishes is what it says that it publishes."""

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.tests.benchmark import run

sys.modules.setdefault("table", run.table)
import publish  # noqa: E402


def test_ten_thousand_definitions_are_accepted():
    parsed = parse_hosts(publish.definitions(10_000))
    assert parsed.errors == {}
    assert len(parsed.hosts) == 10_000
    assert {len(host.macs) for host in parsed.hosts.values()} == {2}


def test_a_site_is_published_and_its_files_counted(tmp_path):
    site = publish.Site(tmp_path, 10)
    hosts = parse_hosts(site.hosts).hosts
    assert site.in_process(lambda publisher: publisher.publish(hosts, arm=False)) > 0
    # Four ways in for each of two MACs, reservation, record, status.
    assert site.files() == 10 * (4 * 2 + 3)
    changed = json.loads(site.with_one_changed().read_text())["definitions"]
    assert [one["name"] for one, other in zip(changed, site.hosts) if one != other] == ["esx00005.example.com"]
    assert parse_hosts(changed).errors == {}


def test_a_site_that_fails_is_not_measured(tmp_path):
    site = publish.Site(tmp_path, 1)
    with pytest.raises(SystemExit, match="no kickstart"):
        site.in_process(lambda publisher: publisher.publish(parse_hosts(site.hosts).hosts, arm=True))
