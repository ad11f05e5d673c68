# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/pbconnect.md and docs/threat-model.md say what the code does."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils import _install, _status, _status_file

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_key_of_a_status_file_is_documented_and_no_other():
    section = (DOCS / "pbconnect.md").read_text("utf-8").partition("## Status files")[2].partition("| from |")[0]
    documented = [key for row in re.findall(r"^\| (`.*?) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)]
    now = datetime.datetime.now(datetime.timezone.utc)
    assert sorted(documented) == sorted(_status.Status.new("esx01", None, now).to_json())
    assert f"`schema` is {_status_file.SCHEMA}." in section


def test_the_lengths_of_secrets_are_those_of_the_code():
    text = (DOCS / "threat-model.md").read_text("utf-8")
    asked = []

    def rng(count):
        asked.append(count)
        return b"\0" * count

    now = datetime.datetime.now(datetime.timezone.utc)
    install = _install.Install.new("esx01", ["00:50:56:aa:bb:01"], [], None, now, 60, rng)
    install.mint("00:50:56:aa:bb:01", now, rng)
    assert "| bits | 128 | 256 |" in text
    assert asked == [3, 16, 32]
    assert f"at most {_install.MAX_TOKENS} are good" in text
