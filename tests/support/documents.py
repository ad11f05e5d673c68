# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documents of a module say, for tests that hold them against what it does."""

from __future__ import annotations

import importlib
import types
import typing as t

import yaml

OURS = "pxemanager.esxi."


def documented_options(module: types.ModuleType) -> dict[str, t.Any]:
    """The options of a module, with those of the collection's own fragments that it extends."""
    document = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, t.Any] = {}
    for name in document.get("extends_documentation_fragment", []):
        if name.startswith(OURS):
            file, _dot, part = name[len(OURS) :].partition(".")
            fragments = importlib.import_module(f"ansible_collections.{OURS}plugins.doc_fragments.{file}")
            text = getattr(fragments.ModuleDocFragment, part.upper() or "DOCUMENTATION")
            options.update(yaml.safe_load(text)["options"])
    return {**options, **document.get("options", {})}


def documented_keys(module: types.ModuleType, key: str) -> set[str]:
    """Keys of a list or dictionary that a module returns."""
    return set(yaml.safe_load(module.RETURN)[key]["contains"])
