# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows on the controller what would be published of hosts. No server is asked, and none learns of it."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from ansible_collections.pxemanager.esxi.plugins.action.esxi_kickstart import KickstartTemplate, NotRendered
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError, EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import Deadlines
from ansible_collections.pxemanager.esxi.plugins.module_utils._preview import assume_image, preview
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE, Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

_ROLE = os.path.join(os.path.dirname(__file__), "..", "..", "roles", "pxe_server")
# Nobody needs a password to look: what is made of it is masked.
_SOME_HASH = f"$6$preview${'.' * 86}"


def argument_spec() -> dict[str, t.Any]:
    """The options of esxi_preview."""
    return {
        "hosts": {"type": "list", "elements": "dict", "required": True},
        "pxe_server": {"type": "str", "required": True},
        "template": {"type": "str", "default": "ks.cfg.j2"},
        "version": {"type": "str", "default": ""},
        "full": {"type": "bool", "default": False},
        "dir": {"type": "path"},
        "show": {"type": "bool", "default": True},
        "on_host_failure": {"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
    }


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        del tmp
        _unused, options = self.validate_argument_spec(argument_spec=argument_spec())
        try:
            config, catalogue = self._server(options["pxe_server"], task_vars)
            parsed = parse_hosts(options["hosts"])
        except EsxiPxeError as error:
            raise AnsibleActionFail(str(error)) from error
        results = Results()
        for name, errors in parsed.errors.items():
            results.fail(name, errors)
        template: KickstartTemplate | None = None
        for name, host in parsed.hosts.items():
            # Not read, and not missed, when there is nothing to render.
            template = template or KickstartTemplate(self, options["template"], task_vars)
            try:
                texts = template.render(host, "" if host.command == "upgrade" else _SOME_HASH, Deadlines())
                shown = preview(
                    host,
                    texts,
                    config,
                    assume_image(host.image, catalogue, options["version"]),
                    options["pxe_server"],
                    full=options["full"],
                )
                changed = self._keep(name, shown.text(), options["dir"], results) if options["dir"] else False
            except NotRendered as reason:
                results.fail(name, reason.reasons)
            except DefinitionError as error:
                results.fail(name, error.errors)
            except (EsxiPxeError, OSError) as error:
                results.fail(name, f"{name}: {error}")
            else:
                files = {file.path: file.text for file in shown.files}
                results.ok(
                    name,
                    changed=changed,
                    msg=f"{name}: {len(files)} files.",
                    files=files,
                    text=shown.text(),
                    warnings=list(shown.warnings),
                )
                if options["show"]:
                    self._display.display(shown.text())
        result.update(results.as_return(options["on_host_failure"]))
        return result

    def _server(self, name: str, task_vars: dict[str, t.Any]) -> tuple[ServerConfig, list[dict[str, t.Any]]]:
        """The PXE server's settings and images, as its role would make them of its variables in the inventory."""
        hostvars = task_vars.get("hostvars") or {}
        if name not in hostvars:
            raise AnsibleActionFail(f"{name} is no host of the inventory: write the inventory name of the PXE server.")
        values: dict[str, t.Any] = {}
        # The same order of precedence as in a play: defaults, inventory, the role's own.
        for file, more in (("defaults/main.yml", hostvars[name]), ("vars/main.yml", {})):
            path = os.path.realpath(os.path.join(_ROLE, file))
            found = self._loader.load_from_file(path, trusted_as_template=True)
            values.update(found or {})
            values.update(more)
        templar = self._templar.copy_with_new_env(available_variables=values)
        try:
            document = templar.template(trust_as_template("{{ __pxe_server_config }}"))
            catalogue = templar.template(trust_as_template("{{ pxe_server_images | default([], true) }}"))
        except AnsibleError as error:
            raise AnsibleActionFail(f"The settings of {name} cannot be made of its variables: {error}") from error
        if not document.get("address"):
            raise AnsibleActionFail(
                f"The inventory does not say at which address {name} is reached: set pxe_server_address. (The role "
                "finds it out on the server, which a preview does not ask.)"
            )
        return ServerConfig.from_json(document), [item for item in catalogue if isinstance(item, dict)]

    def _keep(self, name: str, text: str, folder: str, results: Results) -> bool:
        """Write a host's preview into the folder; whether that changes anything."""
        path = os.path.join(folder, f"{name}.txt")
        before = _read(path)
        if before == text:
            return False
        if self._task.diff:
            results.diff(path, before or "", text)
        if not self._task.check_mode:
            os.makedirs(folder, exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        return True


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
