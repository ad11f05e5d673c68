# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ESXi an image is taken for that nobody has looked at."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._preview import assume_image

CATALOGUE = [{"name": "gold", "version": "8.0.3", "build": "8.0.3-0.0.24022510"}, {"name": "esxi-7.0.3-hpe"}]


@pytest.mark.parametrize(
    ("name", "said", "version", "why"),
    [
        ("gold", "", "8.0.3", "its entry of pxe_server_images"),
        ("gold", "9.0.0", "8.0.3", "its entry of pxe_server_images"),
        ("esxi-7.0.3-hpe", "", "7.0.3", "its name"),
        ("esxi-7.0.3-hpe", "8.0.2", "8.0.2", "esxi_host_preview_version"),
        ("esxi-9.0.0", "", "9.0.0", "its name; pxe_server_images has no such image"),
    ],
)
def test_the_version(name, said, version, why):
    assumed = assume_image(name, CATALOGUE, said)
    assert (assumed.image.name, assumed.image.version, assumed.why) == (name, version, why)


def test_a_build_is_taken_from_the_catalogue():
    assert assume_image("gold", CATALOGUE).image.build == "8.0.3-0.0.24022510"


@pytest.mark.parametrize("name", ["silver", "esxi-8", "build-24022510", "v1.2.3.4"])
def test_without_a_version_there_is_no_preview(name):
    with pytest.raises(DefinitionError, match="which version of ESXi the image"):
        assume_image(name, CATALOGUE)
