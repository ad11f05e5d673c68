# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The previews of docs/examples: as they were reviewed, and good by the strict rules of loaders and installer.

What has changed on purpose is written anew by `make previews`, and reviewed.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._preview import ASSUMED_MODULES, fold
from ansible_collections.pxemanager.esxi.tests.support import boot_rules, kickstart_rules

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/previews"
EXAMPLES = ROOT / "docs/examples"
HOSTS = sorted(path.stem for path in (EXAMPLES / "host_vars").glob("*.yml") if not path.name.startswith("pxe"))
HEADING = re.compile(r"(?P<title>[^\n:]+): (?P<path>/\S+)\n")
MAC = re.compile(r"01((?:-[0-9a-f]{2}){6})")


def play(*words):
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", str(EXAMPLES), str(ROOT / "playbooks/preview.yml"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"},
    )


@pytest.fixture(scope="module")
def previews(tmp_path_factory):
    """The whole text of each host, from one run of the playbook."""
    folder = tmp_path_factory.mktemp("previews")
    done = play("-e", f"esxi_host_preview_dir={folder}", "-e", "esxi_host_preview_full=true")
    assert done.returncode == 0, done.stdout + done.stderr
    texts = {path.stem: path.read_text() for path in folder.glob("*.txt")}
    for text in texts.values():
        # Printed as it is written, and not as one line of JSON.
        assert text in done.stdout
    return texts


def macs_of(text):
    return sorted({found[1:].replace("-", ":") for found in MAC.findall(text)})


def files_of(text):
    """{path: (title, contents)} of everything that a preview shows."""
    found = {}
    blocks = re.split(r"(?m)^((?:[^\n:]+: /\S+\n)+)-{20,}\n", text)[1:]
    for headings, contents in zip(blocks[::2], blocks[1::2]):
        for heading in HEADING.finditer(headings):
            # A blank line stands between two files.
            found[heading["path"]] = (heading["title"], contents[:-1] if contents.endswith("\n\n") else contents)
    return found


def test_there_is_a_preview_of_every_example(previews):
    assert len(HOSTS) == 10
    assert sorted(previews) == sorted(path.stem for path in GOLDEN.glob("*.txt")) == HOSTS


@pytest.mark.parametrize("name", HOSTS)
def test_the_preview_is_the_one_that_was_reviewed(previews, name):
    text = previews[name]
    for mac in macs_of(text):
        text = fold(text, mac)
    assert text == (GOLDEN / f"{name}.txt").read_text(), "make previews writes it anew: review what changes"


@pytest.mark.parametrize("name", HOSTS)
def test_installer_and_loaders_take_all_of_it(previews, name):
    files = files_of(previews[name])
    kinds = {path.partition("/01-")[2][17:] for path in files if "/boot/hosts/" in path}
    assert kinds >= {".pxelinux", ".boot.cfg", ".http.boot.cfg", ".ipxe"}
    for path, (_title, text) in files.items():
        data = text.replace("/ks/********/", f"/ks/{'0' * 32}/").encode("ascii")
        if path.endswith(".cfg") and "/kickstarts/" in path:
            text = text.replace("rootpw ********", f"rootpw --iscrypted $6$salt${'a' * 86}")
            text = text.replace("serialnum ********", "serialnum --esx=AAAAA-BBBBB-CCCCC-DDDDD-EEEEE")
            assert kickstart_rules.check(text) == [], path
        elif path.endswith(".pxelinux"):
            assert boot_rules.check_pxelinux(data) == [], path
        elif path.endswith(".ipxe"):
            assert boot_rules.check_ipxe(data) == [], path
        elif path.endswith("boot.cfg"):
            transport = "http" if path.endswith(".http.boot.cfg") else "tftp"
            modules = None if "skip=1" in text else ASSUMED_MODULES
            assert boot_rules.check_boot_cfg(data, transport=transport, mboot="8.0.3", modules=modules) == [], path
        else:
            assert "/dhcp-hosts/" in path, path


@pytest.mark.parametrize("name", HOSTS)
def test_nothing_secret_is_shown(previews, name):
    assert "$6$" not in previews[name]
    assert "00000-00000" not in previews[name]
    assert "/ks/0" not in previews[name]


def test_what_could_not_be_armed_is_refused_by_name(tmp_path):
    done = play(
        "--limit",
        "usb.example.com,simple.example.com",
        "-e",
        '{"esxi_host_image": "esxi-6.7.0"}',
        "-e",
        f"esxi_host_preview_dir={tmp_path}",
    )
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "usb.example.com: boot.media_size needs ESXi 7.0 U1c, and the image esxi-6.7.0 is 6.7.0; take it out" in said
    assert [path.stem for path in tmp_path.iterdir()] == ["simple.example.com"]
