# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the README shows is what there is, and what it lets people copy is accepted."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts

ROOT = pathlib.Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "inventory/example"
# the variables that make up a definition; the others are the role's own
KEYS = ("macs", "network", "image", "firmware", "disk", "boot", "kickstart", "post_actions", "vcenter")


def definition(name):
    variables = {}
    for path in (EXAMPLE / "group_vars/esxi_hosts/main.yml", EXAMPLE / f"host_vars/{name}.yml"):
        variables.update(yaml.safe_load(path.read_text()))
    known = yaml.safe_load((ROOT / "roles/esxi_host/defaults/main.yml").read_text())
    assert set(variables) <= set(known), "a variable that the role does not know"
    return {
        "name": name,
        **{key: variables[f"esxi_host_{key}"] for key in KEYS if f"esxi_host_{key}" in variables},
    }


def blocks():
    return [yaml.safe_load(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)]


def test_the_example_inventory_is_accepted():
    names = sorted(yaml.safe_load((EXAMPLE / "hosts.yml").read_text())["esxi_hosts"]["hosts"])
    parsed = parse_hosts([definition(name) for name in names])
    assert parsed.errors == {}
    assert sorted(parsed.hosts) == names


@pytest.mark.parametrize("name", ["esx01.example.com", "esx02.example.com"])
def test_the_readme_shows_the_example_hosts_as_they_are(name):
    assert yaml.safe_load((EXAMPLE / f"host_vars/{name}.yml").read_text()) in blocks()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_what_the_readme_links_to_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README))))
def test_every_make_target_of_the_readme_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"\b(?:esxi_host|pxe_server)_[a-z_]+", README))))
def test_every_variable_of_the_readme_exists(variable):
    role = "esxi_host" if variable.startswith("esxi_host_") else "pxe_server"
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]
    assert any(variable in spec["options"] for spec in specs.values()), f"{variable} is no option of the role {role}"


def test_the_example_with_two_sites_is_accepted_and_names_its_servers():
    folder = ROOT / "inventory/example-sites"
    tree = yaml.safe_load((folder / "hosts.yml").read_text())
    hosts = []
    for site, group in tree["esxi_hosts"]["children"].items():
        for name in group["hosts"]:
            variables = {}
            for path in ("group_vars/esxi_hosts.yml", f"group_vars/{site}.yml", f"host_vars/{name}.yml"):
                variables.update(yaml.safe_load((folder / path).read_text()))
            assert set(variables) <= set(yaml.safe_load((ROOT / "roles/esxi_host/defaults/main.yml").read_text()))
            assert variables["esxi_host_pxe_server"] in tree["pxe_servers"]["hosts"]
            given = {key: variables[f"esxi_host_{key}"] for key in KEYS if f"esxi_host_{key}" in variables}
            hosts.append({"name": name, **given})
    parsed = parse_hosts(hosts)
    assert parsed.errors == {} and len(parsed.hosts) == 2
    known = yaml.safe_load((ROOT / "roles/pxe_server/defaults/main.yml").read_text())
    for path in [folder / "group_vars/pxe_servers.yml", *folder.glob("host_vars/pxe*.yml")]:
        own = {key for key in yaml.safe_load(path.read_text()) if not key.startswith("ansible_")}
        assert own <= set(known), path


@pytest.mark.parametrize("page", ["sites"])
def test_what_a_page_links_to_exists(page):
    text = (ROOT / f"docs/{page}.md").read_text()
    for path in re.findall(r"\]\(([^)#:]+)", text):
        assert (ROOT / "docs" / path).exists(), path
    for variable in set(re.findall(r"\b(?:esxi_host|pxe_server)_[a-z_]+[a-z]", text)):
        role = "esxi_host" if variable.startswith("esxi_host") else "pxe_server"
        defaults = (ROOT / f"roles/{role}/defaults/main.yml").read_text()
        assert f"\n{variable}:" in defaults, variable
