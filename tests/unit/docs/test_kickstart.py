# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of docs/kickstart.md say what the code does: every command and option of the installer can be reached."""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._commands import COMMANDS, SECTIONS
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import Deadlines, build
from ansible_collections.pxemanager.esxi.plugins.module_utils._versions import RULES
from ansible_collections.pxemanager.esxi.tests.support import kickstart_rules
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

PAGE = (pathlib.Path(__file__).resolve().parents[3] / "docs/kickstart.md").read_text()
UUID = "5e7d1c2a-93b1f0aa-4c11-005056aa0101"
KEY = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"


def rows(heading):
    table = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def documented():
    """{command: [options]} of the table; a command without options has one that is empty."""
    found, command = {}, ""
    for name, option, where, versions in rows("Every command of the installer"):
        command = name.strip("`") or command
        assert where and versions
        found.setdefault(command, []).append(option.strip("`"))
    return found


def test_the_table_has_every_command_and_option_of_the_code():
    known = {**COMMANDS, **SECTIONS}
    assert {name: sorted(filter(None, options)) for name, options in documented().items()} == {
        name: sorted(options) for name, options in known.items()
    }


def test_the_table_has_every_command_and_option_of_the_checker():
    """The checker was written from the installer's rules alone."""
    theirs = kickstart_rules._OPTIONS
    ours = documented()
    for name, options in theirs.items():
        # --drive of upgrade is --disk's older name, which the checker does not let pass.
        assert set(options) <= set(ours[name]), name


INSTALL = {"disk": {"first": ["local"]}}
#: What reaches each option: (command, option) -> what the definition says. --drive is another word for --disk.
REACHES = {
    ("vmaccepteula", ""): {},
    ("rootpw", "--iscrypted"): {},
    ("clearpart", "--drives"): {"kickstart": {"clearpart": {"drives": ["naa.1"]}}},
    ("clearpart", "--alldrives"): {"kickstart": {"clearpart": {"all_drives": True}}},
    ("clearpart", "--ignoredrives"): {"kickstart": {"clearpart": {"ignore_drives": ["naa.1"]}}},
    ("clearpart", "--firstdisk"): {"kickstart": {"clearpart": {"first": []}}},
    ("clearpart", "--overwritevmfs"): {
        "kickstart": {"clearpart": {"first": []}},
        "disk": {"first": [], "existing_vmfs": "overwrite"},
    },
    ("install", "--disk"): {"disk": {"device": "naa.1"}},
    ("install", "--firstdisk"): {},
    ("install", "--overwritevmfs"): {"disk": {"first": [], "existing_vmfs": "overwrite"}},
    ("install", "--preservevmfs"): {"disk": {"first": [], "existing_vmfs": "preserve"}},
    ("install", "--novmfsondisk"): {"disk": {"first": [], "create_vmfs": False}},
    ("install", "--overwritevsan"): {"disk": {"first": [], "overwrite_vsan": True}},
    ("install", "--ignoressd"): {"disk": {"first": [], "ignore_ssd": True}},
    ("install", "--forceunsupportedinstall"): {"disk": {"first": [], "force_unsupported": True}},
    ("install", "--ignoreprereqwarnings"): {"kickstart": {"ignore_prereq_warnings": True}},
    ("install", "--ignoreprereqerrors"): {"kickstart": {"ignore_prereq_errors": True}},
    ("upgrade", "--disk"): {"upgrade": True, "disk": {"device": "naa.1"}},
    ("upgrade", "--firstdisk"): {"upgrade": True},
    ("upgrade", "--diskBootedFrom"): {
        "upgrade": True,
        "disk": {"booted": True},
        "kickstart": {"save_bootbank": UUID},
    },
    ("upgrade", "--savebootbank"): {"upgrade": True, "disk": {"booted": True}, "kickstart": {"save_bootbank": UUID}},
    ("upgrade", "--forcemigrate"): {"upgrade": True, "kickstart": {"force_migrate": True}},
    ("upgrade", "--ignoreprereqwarnings"): {"upgrade": True, "kickstart": {"ignore_prereq_warnings": True}},
    ("upgrade", "--ignoreprereqerrors"): {"upgrade": True, "kickstart": {"ignore_prereq_errors": True}},
    **{("network", f"--{option}"): {} for option in ("bootproto", "device", "ip", "netmask", "gateway", "hostname")},
    ("network", "--nameserver"): {"network": {"address": "192.168.77.21/24", "nameservers": ["192.168.77.1"]}},
    ("network", "--vlanid"): {"network": {"address": "192.168.77.21/24", "vlan": 7}},
    ("network", "--addvmportgroup"): {},
    ("network", "--nodns"): {"network": {"address": "192.168.77.21/24", "nodns": True}},
    ("part", "--ondisk"): {"kickstart": {"partitions": [{"name": "one", "disk": "naa.2"}]}},
    ("part", "--onfirstdisk"): {"kickstart": {"partitions": [{"name": "one", "first": []}]}},
    ("reboot", "--noeject"): {"kickstart": {"no_eject": True}},
    ("keyboard", ""): {"kickstart": {"keyboard": "German"}},
    ("serialnum", "--esx"): {"kickstart": {"serial_number": KEY}},
    ("dryrun", ""): {"kickstart": {"dryrun": True}},
    ("paranoid", ""): {"kickstart": {"paranoid": True}},
    ("%include", ""): {"kickstart": {"extra_commands": ["%include /tmp/more"]}},
    ("%pre", "--interpreter"): {},
    ("%post", "--interpreter"): {},
    ("%post", "--timeout"): {},
    ("%post", "--ignorefailure"): {},
    ("%firstboot", "--interpreter"): {},
}
REACHES.update(
    {
        ("installorupgrade", option): {
            **changes,
            "kickstart": {**changes.get("kickstart", {}), "command": "installorupgrade"},
        }
        for (command, option), changes in list(REACHES.items())
        if command == "install" and option in COMMANDS["installorupgrade"]
    }
)
REACHES["installorupgrade", "--forcemigrate"] = {"kickstart": {"command": "installorupgrade", "force_migrate": True}}


@pytest.mark.parametrize(
    ("command", "option"),
    [(name, option) for name, options in documented().items() for option in options if option != "--drive"],
)
def test_every_option_of_the_table_can_be_reached(command, option):
    parsed = parse_hosts([definition(**REACHES[command, option])])
    assert not parsed.errors, parsed.errors
    (host,) = parsed.hosts.values()
    made = build(host, host.macs[0], f"$6$salt${'a' * 86}", Deadlines())
    lines = [*made.commands, *(text.partition("\n")[0] for text in (made.pre, made.post, made.firstboot))]
    found = [line for line in lines if line.split()[0] == command]
    assert found, lines
    assert not option or re.search(rf"{option}(?:[ =]|$)", found[0]), found


def test_the_table_of_versions_is_the_codes():
    found = [(option.strip("`"), since) for option, since, _before in rows("What depends on the version")]
    assert found == [(rule.option, rule.since) for rule in RULES]


def test_whatever_the_table_names_is_an_option():
    """A word of the third column that looks like an option is one that a definition may have."""
    sections = {"disk", "kickstart", "network"}
    for row in rows("Every command of the installer"):
        for section, option in re.findall(r"`(disk|kickstart|network)\.(\w+)", row[2]):
            parsed = parse_hosts([definition(**{section: {option: object()}})])
            (sentences,) = parsed.errors.values()
            assert section in sections and not any("is no option" in sentence for sentence in sentences), row
