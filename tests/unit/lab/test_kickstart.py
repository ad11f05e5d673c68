# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from pxelab import kickstart

HASH = "$6$salt$" + "a" * 86
GOOD = f"""\
# comment
vmaccepteula
rootpw --iscrypted {HASH}
install --firstdisk=local
network --bootproto=static --ip=192.168.77.21 --netmask=255.255.255.0 --hostname=esx01.example.com
reboot

%pre --interpreter=busybox
echo one
# not a comment of ours
%post --timeout=30 --ignorefailure=true
echo two
%firstboot --interpreter=busybox
echo three
"""


def test_sections_and_commands() -> None:
    ks = kickstart.parse(GOOD)
    kickstart.check(ks)
    assert [section.name for section in ks.sections] == ["%pre", "%post", "%firstboot"]
    assert ks.sections[0].text == "echo one\n# not a comment of ours\n"
    assert ks.sections[1].options == {"timeout": "30", "ignorefailure": "true"}
    network = ks.one("network")
    assert network is not None and network.options["ip"] == "192.168.77.21"
    assert ks.warnings == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("vmaccepteula\n", "", "vmaccepteula"),
        (f"rootpw --iscrypted {HASH}\n", "", "rootpw"),
        (HASH, "$5$salt$abc", "SHA-512"),
        (f"--iscrypted {HASH}", "short", "weak"),
        ("install --firstdisk=local", "install", "--disk and --firstdisk"),
        ("install --firstdisk=local", "install --disk=a --firstdisk", "--disk and --firstdisk"),
        ("install --firstdisk=local", "install --disk=a --overwritevmfs --preservevmfs", "exclude"),
        ("install --firstdisk=local", "install --disk=a --ignoressd", "--ignoressd"),
        ("install --firstdisk=local", "install --disk=a\ninstall --disk=b", "exactly one"),
        ("--bootproto=static", "--bootproto=dhcp", "bootproto=dhcp"),
        ("192.168.77.21", "192.168.77.0", "no host address"),
        ("esx01.example.com", "esx_01.example.com", "no host name"),
        ("reboot\n", "paranoid\nnonsense\nreboot\n", "paranoid"),
        ("reboot\n", "reboot\n" + "keyboard 'US Default'\n" * 260, "256"),
    ],
)
def test_what_stops_an_install(old: str, new: str, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(kickstart.KickstartError, match=reason):
        kickstart.check(kickstart.parse(GOOD.replace(old, new)))


@pytest.mark.parametrize("text", ["%packages\n", "rootpw 'a\n", "vmaccepteula \u00e9\n", "%pre --interpreter=perl\n"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(kickstart.KickstartError):
        kickstart.parse(text)


def test_what_is_only_warned_of() -> None:
    ks = kickstart.parse(GOOD.replace("reboot\n", "auth --x\nreboot\n").replace("%firstboot", "%firstboot --level=998"))
    kickstart.check(ks)
    assert len(ks.warnings) == 2


UPGRADE = GOOD.replace(f"rootpw --iscrypted {HASH}\n", "").replace(
    "install --firstdisk=local", "upgrade --firstdisk=esx"
)


def test_an_upgrade_needs_no_password_and_warns_of_what_it_switches_off() -> None:
    ks = kickstart.parse(UPGRADE)
    kickstart.check(ks)
    (warning,) = ks.warnings
    assert "network is not valid with upgrade" in warning


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("upgrade", "exactly one of --disk, --firstdisk and --diskBootedFrom"),
        ("upgrade --disk=a --firstdisk", "exactly one of --disk, --firstdisk and --diskBootedFrom"),
        ("upgrade --diskBootedFrom", "belong together"),
        ("upgrade --disk=a --savebootbank=x", "belong together"),
    ],
)
def test_what_stops_an_upgrade(line: str, reason: str) -> None:
    with pytest.raises(kickstart.KickstartError, match=reason):
        kickstart.check(kickstart.parse(UPGRADE.replace("upgrade --firstdisk=esx", line)))
