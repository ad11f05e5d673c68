# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab inventory that people read is the one that the lab's machines are built for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pxelab import inventory, net, paths, server

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def committed() -> dict[str, dict[str, object]]:
    """What Ansible reads from inventory/lab; values that depend on a running lab stay templates."""
    program = Path(sys.executable).with_name("ansible-inventory")
    listing = subprocess.run(
        [program, "-i", ROOT / "inventory/lab", "--list"], capture_output=True, text=True, check=True
    )
    variables: dict[str, dict[str, object]] = json.loads(listing.stdout)["_meta"]["hostvars"]
    return variables


def test_it_has_the_first_three_machines_as_they_are(committed: dict[str, dict[str, object]]) -> None:
    planned = {one.name: one.variables for one in inventory.plan(3)}
    assert set(committed) == {server.NAME, *planned}
    for name, variables in planned.items():
        assert {key: committed[name][key] for key in variables} == variables


def test_its_pxe_server_is_the_labs(committed: dict[str, dict[str, object]]) -> None:
    ours = committed[server.NAME]
    assert ours["ansible_host"] == ours["pxe_server_address"] == net.SERVER_ADDRESS
    assert (ours["pxe_server_interface"], ours["pxe_server_subnet"]) == (net.SERVER_INTERFACE, net.SUBNET)
    assert ours["pxe_server_images"] == [{"name": inventory.IMAGE, "src": inventory.ISO}]
    assert ours["pxe_server_pxelinux_dir"] == server.PXELINUX_DIR
    for path in (server.KEY, server.KNOWN_HOSTS):
        assert f"{{{{ lab_run }}}}/{path.relative_to(paths.RUN)}" in str(ours["ansible_ssh_common_args"])
