# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the role's tasks run for: none where nobody is concerned, and otherwise those that are, one by one."""

from __future__ import annotations

import re
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.integration.vcenter.test_guard_in_role import NAMES, Site
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority

if t.TYPE_CHECKING:
    from pathlib import Path

OUTSIDE = "outside.example.com"


class NoVcenter(list):  # type: ignore[type-arg]
    """In place of vCenters, where no host is in one."""

    class _Nobody:
        port = 1

    def __init__(self) -> None:
        super().__init__([self._Nobody()])


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Site:
    return Site(tmp_path, t.cast(t.Any, NoVcenter()), authority)


def test_a_host_with_nothing_to_do_costs_two_tasks(site) -> None:
    site.all_ready()

    assert site.play("main", esxi_host_vcenter={}) == {}, site.output

    first, *others = (re.findall(rf"^\w+: \[{name}\.example\.com[] ]", site.output, re.M) for name in NAMES)
    # its settings are checked and put together
    assert {len(lines) for lines in others} == {2}, site.output
    assert len(first) > 10, "what is done once for all hosts is shown for the first"


def test_a_host_that_fails_neither_stops_nor_hides_the_others(site) -> None:
    site.all_ready()
    bad = "{{ 'no such image' if inventory_hostname is match('parked|outside') else 'esxi-8.0.3' }}"

    failed = site.play("main", esxi_host_vcenter={}, esxi_host_image=bad)

    assert sorted(failed) == ["outside", "parked"], site.output
    for name, reason in failed.items():
        assert reason.startswith(f"{name}.example.com: ") and "no such image" in reason, reason
    assert re.findall(r"^(\w+)\.example\.com .*failed=0", site.output, re.M) == ["elsewhere", "live", "new"]


def test_the_first_host_that_fails_leaves_its_place_to_the_next(site) -> None:
    bad = "{{ 'no such image' if inventory_hostname is match('live') else 'esxi-8.0.3' }}"

    failed = site.play("main", esxi_host_vcenter={}, esxi_host_image=bad)

    assert "no such image" in failed.pop("live"), site.output
    assert site.modes()["live"] is None
    assert {name: site.modes()[name] for name in failed} == dict.fromkeys(NAMES[1:], "install")


def test_hosts_without_a_pxe_server_are_refused_alone(site) -> None:
    site.all_ready()

    failed = site.play(
        "main",
        esxi_host_vcenter={},
        esxi_host_pxe_server="{{ 'lost' if inventory_hostname is match('new|outside') else 'pxe01' }}",
    )

    assert sorted(failed) == ["new", "outside"] and "no PXE server" in failed["new"], site.output


def test_power_tasks_are_for_the_hosts_that_have_them(site, tmp_path) -> None:
    tasks = tmp_path / "power.yml"
    tasks.write_text("- ansible.builtin.debug: {msg: 'The button of {{ inventory_hostname }} is pressed'}\n")
    own = f"{{{{ '{tasks}' if inventory_hostname is match('new|outside') else '' }}}}"

    site.play("main", esxi_host_vcenter={}, esxi_host_power_tasks=own)

    pressed = re.findall(r"The button of (\w+)\.example\.com is pressed", site.output)
    assert sorted(pressed) == ["new", "outside"], site.output


def test_one_host_with_secure_boot_among_others(site) -> None:
    site.all_ready()

    secure = f"{{{{ inventory_hostname == '{OUTSIDE}' }}}}"
    assert site.play("main", esxi_host_vcenter={}, esxi_host_secure_boot=secure) == {}, site.output

    assert "Look how the hosts with Secure Boot stand" in site.output
    assert site.play("main", esxi_host_vcenter={}) == {}
    assert "Look how the hosts with Secure Boot stand" not in site.output


def test_retiring_costs_as_little(site) -> None:
    site.all_ready()

    assert site.play("retire", esxi_host_vcenter={}) == {}, site.output

    assert set(site.modes().values()) == {None}
    for name in NAMES[1:]:
        assert len(re.findall(rf"^\w+: \[{name}\.example\.com[] ]", site.output, re.M)) == 2, site.output
