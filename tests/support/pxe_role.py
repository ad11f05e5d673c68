# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the role pxe_server writes, as Ansible would render them."""

from __future__ import annotations

import pathlib
import typing as t

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/pxe_server"

FACTS = {
    "os_family": "Debian",
    "default_ipv4": {"interface": "eth0"},
    "eth0": {"ipv4": {"address": "192.168.77.10", "network": "192.168.77.0", "prefix": "24"}},
}


def load(name: str) -> t.Any:
    """A YAML file of the role."""
    return yaml.safe_load((ROLE / name).read_text())


class Rendered:
    """The role's templates, rendered by Ansible with its defaults, its variables and facts of a Debian machine."""

    def __init__(self, **changes: t.Any) -> None:
        variables = {**load("defaults/main.yml"), **load("vars/main.yml"), **load("vars/Debian.yml"), **changes}
        variables |= {"ansible_facts": FACTS, "role_path": str(ROLE)}
        self._variables = {name: self._trust(value) for name, value in variables.items()}
        self._loader = DataLoader()

    def _trust(self, value: t.Any) -> t.Any:
        if isinstance(value, str):
            return trust_as_template(value)
        if isinstance(value, dict):
            return {key: self._trust(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._trust(item) for item in value]
        return value

    def value(self, expression: str) -> t.Any:
        return Templar(loader=self._loader, variables=self._variables).template(trust_as_template(expression))

    def file(self, name: str) -> str:
        # As the action ansible.builtin.template does it.
        text: str = self.value("#jinja2: trim_blocks:True\n" + (ROLE / "templates" / name).read_text())
        return text
