# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture and the page about the architecture name only what there is."""

from __future__ import annotations

import pathlib
import re
from xml.etree import ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"


def texts():
    picture = ElementTree.parse(ROOT / "docs/architecture.svg")
    drawn = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    return " ".join(drawn), (ROOT / "docs/architecture.md").read_text()


def names(pattern):
    found = sorted({match for text in texts() for match in re.findall(pattern, text)})
    assert found, f"nothing matches {pattern}: has the picture changed its way of naming files?"
    return found


@pytest.mark.parametrize("name", names(r"\b_[a-z]+\.py"))
def test_every_module_util_named_exists(name):
    assert (PLUGINS / "module_utils" / name).is_file()


@pytest.mark.parametrize("name", names(r"\b(?:action|modules)/[a-z_]+\.py"))
def test_every_plugin_named_exists(name):
    assert (PLUGINS / name).is_file()


@pytest.mark.parametrize(
    "name",
    names(
        r"\b(?:esxi_(?:(?:image|depot|pxe_host)(?:_info)?|kickstart|firstboot_wait|post_actions|root_password)"
        r"|vcenter_[a-z]+_[a-z]+)\b"
    ),
)
def test_every_module_named_exists(name):
    assert (PLUGINS / "modules" / f"{name}.py").is_file()


def test_every_module_is_in_the_picture():
    picture, _page = texts()
    missing = [path.stem for path in (PLUGINS / "modules").glob("*.py") if path.stem not in picture]
    assert not missing, f"docs/architecture.svg does not show {missing}"


@pytest.mark.parametrize("name", names(r"\broles/[a-z_]+(?:/[a-z/]+\.yml)?|\bplaybooks/[a-z_]+\.yml|\btests/lab"))
def test_every_role_file_and_playbook_named_exists(name):
    assert (ROOT / name).exists()
