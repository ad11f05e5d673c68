# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layout: no name leads out of its folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import (
    Layout,
    LayoutError,
    check_image_name,
    check_mode,
    check_name,
    mac_stem,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import default_config

LAYOUT = Layout.of(default_config())
NAME = "esx01.example.com"
MAC = "00:50:56:aa:bb:01"

BAD_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a/../b",
    "/etc",
    ".hidden",
    "a..b",
    "a.",
    "-a",
    "a-",
    "a_b",
    "A",
    "a b",
    "a\n",
    "a\0",
    "\u00e4",
    "a" * 201,
)


def test_paths():
    assert str(LAYOUT.status(NAME)) == "/var/lib/esxi-pxe/status/esx01.example.com.json"
    assert str(LAYOUT.install(NAME)) == "/var/lib/esxi-pxe/installs/esx01.example.com.json"
    assert str(LAYOUT.record(NAME)) == "/var/lib/esxi-pxe/hosts/esx01.example.com.json"
    assert str(LAYOUT.kickstart(NAME, MAC)).endswith("/kickstarts/esx01.example.com/01-00-50-56-aa-bb-01.cfg")
    assert str(LAYOUT.description("esxi-8.0.3")) == "/var/lib/esxi-pxe/images/esxi-8.0.3.json"
    assert str(LAYOUT.reservation(NAME)) == "/var/lib/esxi-pxe/dhcp-hosts/esx01.example.com"
    assert str(LAYOUT.lock(NAME)) == "/var/lib/esxi-pxe/locks/esx01.example.com.lock"
    assert str(LAYOUT.tree_lock) == "/var/lib/esxi-pxe/locks/_tree.lock"


def test_paths_as_text_are_the_same_paths():
    for what, path in LAYOUT.paths("esx01.example.com")._asdict().items():
        assert path == str(getattr(LAYOUT, what)("esx01.example.com")), what
    with pytest.raises(LayoutError):
        LAYOUT.paths("../esx01")
    assert str(LAYOUT.mode_link(NAME)) == "/srv/esxi-pxe/boot/hosts/esx01.example.com/boot"
    assert str(LAYOUT.mode_dir(NAME, "local")) == "/srv/esxi-pxe/boot/hosts/esx01.example.com/local"
    assert str(LAYOUT.image_dir("esxi-8.0.3")) == "/srv/esxi-pxe/boot/images/esxi-8.0.3"


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "path",
    [
        LAYOUT.status,
        LAYOUT.install,
        LAYOUT.record,
        LAYOUT.kickstart_dir,
        LAYOUT.reservation,
        LAYOUT.lock,
        LAYOUT.tree,
        LAYOUT.mode_link,
    ],
)
def test_a_bad_name_is_no_path(path, name):
    with pytest.raises(LayoutError):
        path(name)


@pytest.mark.parametrize("name", [*BAD_NAMES[:8], "-x", "a b", "a\n", "x..y", "a" * 65, "a/b"])
def test_a_bad_image_name_is_no_path(name):
    for path in (LAYOUT.image_dir, LAYOUT.description):
        with pytest.raises(LayoutError):
            path(name)


def test_no_host_can_be_the_lock_of_the_tree():
    with pytest.raises(LayoutError):
        LAYOUT.lock("_tree")


@given(st.text(max_size=40))
def test_whatever_is_accepted_stays_in_its_folder(name):
    for check, path in ((check_name, LAYOUT.tree), (check_image_name, LAYOUT.image_dir)):
        try:
            check(name)
        except LayoutError:
            continue
        found = path(name)
        assert found.name == name
        assert len(found.parts) == len(path("x").parts)
        assert ".." not in found.parts


@pytest.mark.parametrize(
    "mac", ["", "00:50:56:AA:BB:01", "00-50-56-aa-bb-01", "0:50:56:aa:bb:01", MAC + "\n", MAC + ":02", "../../../..:x"]
)
def test_only_canonical_macs_have_files(mac):
    with pytest.raises(LayoutError):
        mac_stem(mac)


def test_macs_and_modes():
    assert mac_stem(MAC) == "01-00-50-56-aa-bb-01"
    assert check_mode("install") == "install"
    with pytest.raises(LayoutError, match="install and local"):
        check_mode("boot")


def test_errors_are_the_collections_own():
    assert issubclass(LayoutError, EsxiPxeError)
