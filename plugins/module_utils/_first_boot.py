# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what the controller did on a host in place of its first boot, as the PXE server takes it.

It is held to what a host's own report is held to.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import valid_name
from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import Rejected, parse_notification
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult

__all__ = ["FirstBoot"]


@dataclasses.dataclass(frozen=True)
class FirstBoot:
    """``install``: id of the install that it followed. ``certificate``: PEM of what the host presents now."""

    name: str
    install: str
    actions: tuple[ActionResult, ...]
    certificate: str
    message: str

    @classmethod
    def parse(cls, definition: t.Mapping[str, t.Any]) -> FirstBoot:
        """From C(name), C(install), C(certificate), C(actions) and C(message). Raises DefinitionError."""
        name = valid_name(definition.get("name"))
        install = definition.get("install")
        errors = []
        if not isinstance(install, str) or not install:
            errors.append(f"{name}: install is missing; write the id of the install that the actions ran after.")
        if not definition.get("certificate"):
            errors.append(f"{name}: certificate is missing; write the certificate (PEM) that the host presents.")
        report = {key: definition.get(key) for key in ("certificate", "actions")}
        try:
            body = json.dumps({**report, "stage": "ready", "message": definition.get("message") or ""})
            taken = parse_notification(body.encode("utf-8"))
        except (Rejected, TypeError, ValueError) as error:
            errors.append(
                f"{name}: what its first boot did cannot be taken: {error}; write what esxi_post_actions gave."
            )
        if errors:
            raise DefinitionError(errors)
        return cls(name, str(install), taken.actions, str(taken.certificate), taken.message)
