# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told about images: who uses them, and whether they are whole."""

from __future__ import annotations

import json
import shutil

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import ImageError
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import damage_of, survey, users_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import load_image
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer
from pxelab.medium import make_tree

NAME = "esxi-8.0.3"


@pytest.fixture
def server(tmp_path):
    server = ImageServer(tmp_path / "server")
    server.images().present(NAME, str(make_tree(tmp_path / "medium", module_size=64)))
    return server


def state(server, name=NAME, **options):
    return {item.image.name: item for item in survey(server.layout, **options).images}[name]


def test_a_whole_image_nobody_uses(server):
    found = survey(server.layout, verify=True)
    assert found.summary() == "1 image, all whole."
    item = found.images[0]
    assert (item.hosts, item.armed, item.damage, item.supplies_mboot) == ([], [], [], True)
    record = item.to_record()
    assert record["name"] == NAME
    assert record["damage"] == []


def test_hosts_and_those_that_are_armed_are_told(server):
    server.publish("esx01.example.com", NAME, mode="install")
    server.publish("esx02.example.com", NAME)
    server.publish("esx03.example.com", "gone")
    found = survey(server.layout)
    assert found.images[0].hosts == ["esx01.example.com", "esx02.example.com"]
    assert found.images[0].armed == ["esx01.example.com"]
    assert found.missing == {"gone": ["esx03.example.com"]}
    assert "used by hosts and not there: gone" in found.summary()


def test_a_mode_that_nobody_understands_counts_as_armed(server):
    server.publish("esx01.example.com", NAME, mode="/etc")
    assert state(server).armed == ["esx01.example.com"]


def test_a_host_whose_record_cannot_be_read_may_use_any_image(server):
    server.layout.record("esx01.example.com").write_text("{")
    assert users_of(server.layout, NAME) == ["esx01.example.com"]
    with pytest.raises(ImageError, match=r"is used by esx01\.example\.com"):
        server.images().absent(NAME)


def test_a_removal_says_who_is_armed(server):
    server.publish("esx01.example.com", NAME, mode="install")
    server.publish("esx02.example.com", NAME)
    with pytest.raises(
        ImageError, match=r"used by esx01.* esx02\.example\.com, of which esx01\.example\.com is armed:"
    ):
        server.images().absent(NAME)


def flip_one_bit(tree):
    data = bytearray((tree / "k.b00").read_bytes())
    data[5] ^= 1
    (tree / "k.b00").write_bytes(bytes(data))


def swap_two(tree):
    """The number and the sum of the sizes stay what they were."""
    one, other = tree / "k.b00", tree / "mboot.c32"
    one_data, other_data = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_data)
    other.write_bytes(one_data)


def link_away(tree):
    (tree / "k.b00").unlink()
    (tree / "k.b00").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("make", "quick", "told"),
    [
        (lambda tree: (tree / "k.b00").unlink(), True, "k.b00 is missing"),
        (lambda tree: (tree / "k.b00").write_bytes(b"short"), True, "k.b00 has 5 bytes in place of 64"),
        (lambda tree: (tree / "new.b00").write_bytes(b""), True, "new.b00 does not belong to it"),
        (link_away, True, "k.b00 is no plain file"),
        (swap_two, True, "k.b00 has 4096 bytes in place of 64"),
        (shutil.rmtree, True, "its folder is gone"),
        (flip_one_bit, False, "k.b00 has other contents"),
    ],
)
def test_damage_is_found_told_and_mended(server, tmp_path, make, quick, told):
    make(server.layout.image_dir(NAME))
    assert any(told in text for text in state(server).damage) == quick
    item = state(server, verify=True)
    assert any(told in text for text in item.damage), item.damage
    assert f"damaged: {NAME}" in survey(server.layout, verify=True).summary()
    outcome = server.images().present(NAME, str(tmp_path / "medium"), verify=True)
    assert "was repaired" in outcome.msg
    assert any(told in warning for warning in outcome.warnings)
    assert state(server, verify=True).damage == []
    assert not server.images().present(NAME, str(tmp_path / "medium"), verify=True).changed


def test_damage_without_a_source_is_told(server, tmp_path):
    (server.layout.image_dir(NAME) / "k.b00").unlink()
    shutil.rmtree(tmp_path / "medium")
    with pytest.raises(ImageError, match=r"does not exist .*the image is damaged: k.b00 is missing"):
        server.images().present(NAME, str(tmp_path / "medium"))


def test_much_damage_is_cut_short(server):
    for number in range(50):
        (server.layout.image_dir(NAME) / f"x{number}").write_text("")
    damage = state(server).damage
    assert len(damage) == 21
    assert damage[-1] == "and 30 more"


def test_an_image_from_before_there_were_lists_is_measured_as_before(server, tmp_path):
    server.layout.manifest(NAME).unlink()
    image = load_image(server.layout, NAME)
    assert damage_of(server.layout, image) == []
    assert damage_of(server.layout, image, verify=True) == ["there is no list of its files to verify them by"]
    server.images().present(NAME, str(tmp_path / "medium"), verify=True)
    assert damage_of(server.layout, image, verify=True) == []
    server.layout.manifest(NAME).write_text('{"schema": 1, "files": 3}')
    (server.layout.image_dir(NAME) / "k.b00").unlink()
    assert "files of" in damage_of(server.layout, image)[0]


def test_what_is_left_and_what_is_not_described_is_told(server):
    (server.layout.images_dir / ".importing.x").mkdir()
    (server.layout.images_dir / "nobody").mkdir()
    server.layout.description("broken").write_text("[]")
    found = survey(server.layout)
    assert (found.leftovers, found.undescribed, found.busy) == ([".importing.x"], ["nobody"], False)
    assert "broken.json" in found.unusable[0]
    assert "1 left by interrupted imports" in found.summary()
    with server.images()._intake.lock():
        assert survey(server.layout).busy


def test_only_some_are_asked_for(server):
    assert survey(server.layout, names=["other"]).images == []
    assert survey(server.layout, names=[NAME]).images[0].image.name == NAME
    assert json.dumps([item.to_record() for item in survey(server.layout).images])


def test_a_server_that_was_not_set_up_is_told_so(server):
    shutil.rmtree(server.layout.images_dir)
    with pytest.raises(ImageError, match="run the role pxe_server"):
        survey(server.layout)
