# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: how a module ends, with what it has done or with what went wrong in words.

The one file of module_utils that knows of Ansible: it stands between its modules and the domain.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError, MissingLibraryError

__all__ = ["Stored", "exit_bulk", "exit_stored", "server_errors", "vsphere_errors"]


class Stored(t.Protocol):
    """What came of bringing something onto the PXE server or off it."""

    @property
    def changed(self) -> bool: ...

    @property
    def msg(self) -> str: ...

    @property
    def warnings(self) -> t.Iterable[str]: ...

    @property
    def before(self) -> str: ...

    @property
    def after(self) -> str: ...


@contextlib.contextmanager
def server_errors(module: AnsibleModule, what: str) -> t.Iterator[None]:
    """What goes wrong on the PXE server fails the task, in a sentence.

    :arg what: what is done to the server's disk, as a participle.
    """
    try:
        yield
    except EsxiPxeError as error:
        text = str(error)
        module.fail_json(msg=text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
    except OSError as error:
        module.fail_json(msg=f"The disk of the PXE server could not be {what}: {error}.")


@contextlib.contextmanager
def vsphere_errors(module: AnsibleModule) -> t.Iterator[None]:
    """What keeps a vSphere module from doing anything at all fails the task, in a sentence."""
    try:
        yield
    except MissingLibraryError as error:
        module.fail_json(msg=missing_required_lib(error.library), exception=error.trace)
    except EsxiPxeError as error:
        module.fail_json(msg=str(error))


def exit_stored(module: AnsibleModule, outcome: Stored, **values: t.Any) -> None:
    """Ends a module that keeps something on the PXE server; ``values`` are the return values of its own."""
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, t.Any] = {"changed": outcome.changed, "msg": outcome.msg, **values}
    if outcome.before != outcome.after:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**result)


def exit_bulk(module: AnsibleModule, result: t.Mapping[str, t.Any]) -> None:
    """Ends a module that has a result for each host; ``result`` is what ``Results.as_return()`` gave."""
    if result["failed"]:
        module.fail_json(**result)
    module.exit_json(**result)
