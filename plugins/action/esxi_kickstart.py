# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders every host's kickstarts on the controller; the module of the same name then writes them on the PXE server."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host, parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import (
    Deadlines,
    build,
    check_password,
    check_password_hash,
    password_salt,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import check_kickstart
from ansible_collections.pxemanager.esxi.plugins.module_utils._rendered import Rendered, argument_spec
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import sha512_crypt

_DEFAULT_TEMPLATE = "ks.cfg.j2"
_ROLE_TEMPLATES = os.path.join(os.path.dirname(__file__), "..", "..", "roles", "esxi_host", "templates")


class NotRendered(Exception):
    """A host's kickstart could not be made; carries the sentences."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = list(reasons)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        del tmp
        _unused, options = self.validate_argument_spec(argument_spec=argument_spec())
        if options["rendered"] is not None:
            raise AnsibleActionFail("The option rendered cannot be set by a task.")
        deadlines = _deadlines(options["deadlines"])
        try:
            parsed = parse_hosts(options["hosts"])
        except EsxiPxeError as error:
            raise AnsibleActionFail(f"On the controller: {error}") from error
        rendered = Rendered(failures=parsed.errors)
        if parsed.hosts:
            template = KickstartTemplate(self, options["template"], task_vars)
            for name, host in parsed.hosts.items():
                try:
                    hashed = _password_hash(host, options)
                    rendered.texts[name] = template.render(host, hashed, deadlines)
                    if host.command == "upgrade":
                        rendered.upgrades.append(name)
                except NotRendered as reason:
                    rendered.failures[name] = reason.reasons
        result.update(
            self._execute_module(
                module_name="pxemanager.esxi.esxi_kickstart",
                module_args={
                    # Passwords stay on the controller: the module needs the rendered texts and nothing else.
                    "hosts": [{"name": host.name, "macs": list(host.macs)} for host in parsed.hosts.values()],
                    "template": options["template"],
                    "config": options["config"],
                    "on_host_failure": options["on_host_failure"],
                    **{key: options[key] for key in ("owner", "take_over_from", "diff_limit")},
                    "rendered": rendered.pack(),
                },
                task_vars=task_vars,
            )
        )
        return result


def _deadlines(given: t.Mapping[str, int]) -> Deadlines:
    for key, value in given.items():
        if not 1 <= value <= 86400:
            raise AnsibleActionFail(f"deadlines.{key} is {value}; write seconds from 1 to 86400.")
    return Deadlines(**given)


def _password_hash(host: Host, options: t.Mapping[str, t.Any]) -> str:
    """The hash that the host gets; an upgrade keeps the password that is there."""
    if host.command == "upgrade":
        return ""
    own = {str(name).lower(): value for name, value in (options["root_passwords"] or {}).items()}.get(host.name)
    password = own if own is not None else options["root_password"]
    if password is not None:
        # A password of digits alone is a number to YAML.
        password = str(password)
        wrong = check_password(password)
        if wrong is not None:
            raise NotRendered(f"{host.name}: {wrong}")
        return sha512_crypt(password, password_salt(host.name))
    if options["root_password_hash"] is None:
        raise NotRendered(f"{host.name}: no root password is given; write root_password or root_password_hash.")
    wrong = check_password_hash(options["root_password_hash"])
    if wrong is not None:
        raise NotRendered(f"{host.name}: {wrong}")
    return str(options["root_password_hash"])


def _is_encrypted(path: str) -> bool:
    """Whether a template is a vault's, which Jinja's own loader cannot open."""
    with open(path, "rb") as file:
        return file.read(14) == b"$ANSIBLE_VAULT"


class KickstartTemplate:
    """One template, rendered for many hosts."""

    def __init__(self, action: ActionBase, source: str, task_vars: dict[str, t.Any]) -> None:
        self._action = action
        self._task_vars = task_vars
        path = self._find(source)
        # A template file is a person's own: its text may be run, as ansible.builtin.template has it.
        text = action._loader.get_text_file_contents(path)
        folders = [*task_vars.get("ansible_search_path", []), action._loader.get_basedir(), os.path.dirname(path)]
        self._search = [place for folder in folders for place in (os.path.join(folder, "templates"), folder)]
        if not text.startswith("#jinja2:") and not _is_encrypted(path):
            # Ansible compiles what it is given each time, which takes longer than rendering it. What is included is
            # compiled once. (A first line with settings of Jinja's counts in the given text alone.)
            self._search.append("/")
            ending = text[len(text.rstrip("\n")) :]
            text = f"{{% include {os.path.abspath(path).lstrip('/')!r} %}}{ending}"
        self._text = trust_as_template(text)
        # One environment for all hosts, because that is where the compiled template is kept.
        self._templar = action._templar.copy_with_new_env(searchpath=self._search, available_variables={})

    def _find(self, source: str) -> str:
        try:
            return str(self._action._find_needle("templates", source))
        except AnsibleError as error:
            own = os.path.realpath(os.path.join(_ROLE_TEMPLATES, _DEFAULT_TEMPLATE))
            if source == _DEFAULT_TEMPLATE and os.path.exists(own):
                return own
            raise AnsibleActionFail(f"The template {source} was not found: {error}") from error

    def render(self, host: Host, password_hash: str, deadlines: Deadlines) -> dict[str, str]:
        """The kickstart for each MAC of the host; raises NotRendered."""
        variables = {**self._variables_of(host.name), "host": host.to_template()}
        self._templar.available_variables = variables
        texts = {}
        for mac in host.macs:
            variables["mac"] = mac
            variables["ks"] = build(host, mac, password_hash, deadlines).to_template()
            try:
                text = self._templar.template(self._text, escape_backslashes=False)
            except AnsibleError as error:
                raise NotRendered(f"{host.name}: the kickstart's template cannot be rendered: {error}") from error
            if not isinstance(text, str):
                raise NotRendered(f"{host.name}: the kickstart's template gives a {type(text).__name__} and no text.")
            text = str(text)
            errors = check_kickstart(text, host)
            if errors:
                raise NotRendered(*(f"{host.name}: {sentence}" for sentence in errors))
            texts[mac] = text
        return texts

    def _variables_of(self, name: str) -> dict[str, t.Any]:
        """What the task's variables would be if it ran for the host of that name; the task's own for no such host."""
        hostvars = self._task_vars.get("hostvars")
        if hostvars is None or name not in hostvars:
            return self._task_vars
        task = self._action._task
        own = hostvars._variable_manager.get_vars(
            play=task.get_play(), host=hostvars._inventory.get_host(name), task=task, include_hostvars=False
        )
        return {**own, "hostvars": hostvars}
