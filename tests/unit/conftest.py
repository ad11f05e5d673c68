# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lets ``pytest`` and ansible-test find ``ansible_collections.pxemanager.esxi`` and the lab's package ``pxelab``."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _find_collection() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.pxemanager.esxi") is not None
    except ModuleNotFoundError:
        return False


def _put_up_collection() -> None:
    parent = None
    for name, path in (
        ("ansible_collections", []),
        ("ansible_collections.pxemanager", []),
        ("ansible_collections.pxemanager.esxi", [str(ROOT)]),
    ):
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = path
            if parent is not None:
                setattr(parent, name.rsplit(".", 1)[1], sys.modules[name])
        parent = sys.modules[name]


# Found already below .lab/collections (pyproject.toml), or through the loader of ansible-test. Where tests/bootstrap.sh
# was not run, it is put up here, with the checkout as its place.
if not _find_collection():
    _put_up_collection()

# pyproject.toml says it too, which ansible-test does not read.
if str(ROOT / "tests" / "lab") not in sys.path:
    sys.path.append(str(ROOT / "tests" / "lab"))
