# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import random
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.pxemanager.esxi.plugins.module_utils._metrics import (
    VERSION,
    Counters,
    Gauges,
    exposition,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import HostView, Usual, changes_between
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import mac_of, status_in

ROOT = Path(__file__).resolve().parents[4]
MONITORING = ROOT / "extensions/monitoring"
NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)


def views(stages):
    rng = random.Random(2)
    return [
        HostView.of(status_in(stage, f"esx{number:02d}.example.com", mac_of(number), NOW, rng))
        for number, stage in enumerate(stages)
    ]


def text(stages=STAGES, counters=None, site="ber1"):
    usual = Usual()
    found = views(stages)
    for view in found:
        usual.learn(view)
    gauges = Gauges(process={"process_resident_memory_bytes": 1, "process_cpu_seconds_total": 0.5})
    return exposition(found, usual, counters or Counters(), gauges, site, NOW, "3.11.2")


def samples(exposed):
    found = {}
    for family in text_string_to_metric_families(exposed):
        assert family.documentation
        assert family.type != "unknown", family.name
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(exposed, name, **labels):
    return samples(exposed)[(name, *sorted(labels.items()))]


def test_the_version_is_the_collections():
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == VERSION


def test_every_host_is_counted_once():
    exposed = text(["ready"] * 5 + ["armed"] * 2 + ["failed"])
    assert value(exposed, "esxi_pxe_hosts", site="ber1", mode="local", stage="ready") == 5
    assert value(exposed, "esxi_pxe_hosts", site="ber1", mode="install", stage="armed") == 2
    assert sum(amount for key, amount in samples(exposed).items() if key[0] == "esxi_pxe_hosts") == 8


def test_the_oldest_install_and_the_next_expiry():
    exposed = text(["armed", "installing", "installed"])
    begun = min(view.stages["armed"] for view in views(["armed", "installing", "installed"]))
    moment = datetime.datetime.strptime(begun, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert value(exposed, "esxi_pxe_oldest_install_start_timestamp_seconds") == moment.timestamp()
    assert value(exposed, "esxi_pxe_oldest_install_age_seconds") == NOW.timestamp() - moment.timestamp()
    assert value(exposed, "esxi_pxe_next_arming_expiry_timestamp_seconds") > NOW.timestamp()
    quiet = text(["ready", "defined"])
    assert value(quiet, "esxi_pxe_oldest_install_age_seconds") == 0
    assert value(quiet, "esxi_pxe_next_arming_expiry_timestamp_seconds") == 0


def test_what_is_counted():
    counters = Counters()
    counters.notification("accepted")
    counters.notification("no such outcome")
    counters.kickstart("served")
    ready = views(["ready"])[0]
    before = views(["installing"])[0]
    for change in changes_between(before, ready, "2026-11-22T20:00:00Z"):
        counters.happened(change)
    exposed = text(counters=counters)
    assert value(exposed, "esxi_pxe_notifications_total", outcome="accepted") == 1
    assert value(exposed, "esxi_pxe_notifications_total", outcome="error") == 1
    assert value(exposed, "esxi_pxe_kickstarts_total", outcome="served") == 1
    assert value(exposed, "esxi_pxe_stages_reached_total", stage="ready") == 1
    assert value(exposed, "esxi_pxe_install_duration_seconds_count") == 1
    assert 500 < value(exposed, "esxi_pxe_install_duration_seconds_sum") < 1100
    buckets = [
        amount for key, amount in samples(exposed).items() if key[0] == "esxi_pxe_install_duration_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1


def test_a_site_with_any_name_is_a_label():
    site = 'Ber"lin\\1'
    assert value(text(site=site), "esxi_pxe_hosts", site=site, mode="local", stage="ready") == 1


# -- what is told to Prometheus and Grafana about these


def exported():
    return {sample[0] for sample in samples(text())} | {"ALERTS", "up"}


def named(expression):
    return set(re.findall(r"\b(?:esxi_pxe|process)_[a-z_]+\b", expression))


def test_every_metric_of_the_alerts_is_exported():
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) >= 6
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert named(rule["expr"]) or "up{" in rule["expr"], rule["alert"]
        assert named(rule["expr"]) <= exported(), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}


def test_every_metric_of_the_dashboard_is_exported():
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert expressions
    for expression in expressions:
        assert named(expression), expression
        assert named(expression) <= exported(), expression


@pytest.mark.parametrize("path", ["docs/monitoring.md"])
def test_every_metric_is_documented(path):
    words = (ROOT / path).read_text()
    families = {family.name for family in text_string_to_metric_families(text())}
    missing = [name for name in families if name.startswith("esxi") and f"`{name}" not in words]
    assert not missing
