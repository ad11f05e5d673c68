# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules end: what went wrong is said in a sentence, and nothing that was done is left out."""

from __future__ import annotations

import types

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _module
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError, MissingLibraryError


class Ended(Exception):
    """Stands for the end of the process, as of a real module."""


class Module:
    def __init__(self):
        self.warnings = []
        self.result = {}

    def warn(self, text):
        self.warnings.append(text)

    def fail_json(self, msg, **values):
        self.exit_json(failed=True, msg=msg, **{key: value for key, value in values.items() if key != "failed"})

    def exit_json(self, **values):
        self.result = values
        raise Ended


def end_of(context, error, *arguments):
    module = Module()
    with pytest.raises(Ended), context(module, *arguments):
        raise error
    return module.result


@pytest.mark.parametrize(
    ("error", "msg"),
    [
        (EsxiPxeError("the name is no name"), "The name is no name."),
        (EsxiPxeError("It is."), "It is."),
        (EsxiPxeError(""), "."),
        (
            OSError(5, "Input/output error"),
            "The disk of the PXE server could not be read: [Errno 5] Input/output error.",
        ),
    ],
)
def test_what_goes_wrong_on_the_server_is_a_sentence(error, msg):
    assert end_of(_module.server_errors, error, "read") == {"failed": True, "msg": msg}


def test_a_mistake_of_the_collection_itself_is_not_hidden():
    for context, arguments in ((_module.server_errors, ("read",)), (_module.vsphere_errors, ())):
        with pytest.raises(KeyError), context(Module(), *arguments):
            raise KeyError("x")


def test_a_missing_library_is_named_with_its_traceback():
    result = end_of(_module.vsphere_errors, MissingLibraryError("pyvmomi", "Traceback ..."))
    assert (result["failed"], result["exception"]) == (True, "Traceback ...")
    assert "pyvmomi" in result["msg"]
    assert end_of(_module.vsphere_errors, EsxiPxeError("as it is")) == {"failed": True, "msg": "as it is"}


@pytest.mark.parametrize("after", ["old", "new"])
def test_what_is_kept_on_the_server_is_told_with_its_warnings_and_difference(after):
    module = Module()
    outcome = types.SimpleNamespace(changed=True, msg="Done.", warnings=["look"], before="old", after=after)
    with pytest.raises(Ended):
        _module.exit_stored(module, outcome, depot=None)
    diff = {} if after == "old" else {"diff": {"before": "old", "after": "new"}}
    assert module.result == {"changed": True, "msg": "Done.", "depot": None, **diff}
    assert module.warnings == ["look"]


@pytest.mark.parametrize("failed", [True, False])
def test_a_bulk_call_tells_of_every_host_also_when_it_fails(failed):
    module = Module()
    result = {"failed": failed, "changed": True, "msg": "2 hosts.", "hosts": {"a": {}, "b": {}}}
    with pytest.raises(Ended):
        _module.exit_bulk(module, result)
    assert module.result == result
