# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each of the installer's rules, with a kickstart that keeps it and one that breaks it."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.tests.support.kickstart_rules import check, read

SHA512 = f"$6$saltsalt${'a' * 86}"
BASE = {
    "eula": "vmaccepteula",
    "rootpw": f"rootpw --iscrypted {SHA512}",
    "install": "install --firstdisk=local --overwritevmfs",
    "network": "network --bootproto=dhcp --device=vmnic0",
    "reboot": "reboot",
}
PRE = "%pre --interpreter=busybox\nlocalcli network ip get\n"


def kickstart(*more, sections=PRE, **changes):
    lines = [line for line in {**BASE, **changes}.values() if line is not None]
    return "\n".join(["# a comment", *lines, *more, ""]) + "\n" + sections


def rules(text, **options):
    return sorted({violation.rule for violation in check(text, **options)})


def static(words):
    return kickstart(network=f"network --bootproto=static {words}")


ADDRESS = "--ip=192.168.77.21 --netmask=255.255.255.0"
UPGRADE = {"rootpw": None, "network": None}
BOOTBANK = "5e7d1c2a-93b1f0aa-4c11-005056aa0101"


@pytest.mark.parametrize(
    "text",
    [
        kickstart(),
        kickstart(sections=""),
        kickstart(eula="accepteula"),
        *(kickstart(install=f"install {words}") for words in ("--disk=naa.1", "--drive=mpx.vmhba0:C0:T0:L0")),
        kickstart(install="install --firstdisk --preservevmfs --novmfsondisk --ignoressd"),
        kickstart(install="install --firstdisk='local,ST3120814A,LOGICAL VOLUME' --overwritevsan"),
        kickstart(install="install --disk=a --forceunsupportedinstall"),
        kickstart(install="installorupgrade --disk=a --overwritevmfs --forcemigrate"),
        *(
            kickstart(install=f"upgrade {words} --ignoreprereqwarnings --forcemigrate", **UPGRADE)
            for words in ("--disk=a", "--firstdisk", f"--diskBootedFrom --savebootbank={BOOTBANK}")
        ),
        *(
            kickstart(f"clearpart {words} --overwritevmfs")
            for words in ("--drives=a,b", "--alldrives", "--ignoredrives=a", "--firstdisk=usb", "--firstdisk")
        ),
        kickstart("part one --ondisk=naa.1", "partition two --onfirstdisk=local", "part three --onfirstdisk"),
        kickstart('keyboard "US Default"', "serialnum --esx=A-B", "dryrun", "paranoid", "%include /tmp/more"),
        kickstart(reboot="reboot --noeject"),
        kickstart(network="network --bootproto=dhcp --vlanid=4094 --addvmportgroup=1 --nodns"),
        kickstart(network=None),
        static(ADDRESS),
        static(f"{ADDRESS} --gateway=192.168.77.1 --nameserver=1.1.1.1,2.2.2.2 --hostname=esx01.example.com"),
        static(f"{ADDRESS} --device=00:50:56:aa:bb:01 --vlanid=0 --addvmportgroup=0"),
        *(
            kickstart(rootpw=f"rootpw {words}")
            for words in (
                "Sesame-1",
                "'Sesame 1 $5$'",
                f"--iscrypted $6$rounds=9999$salt${'b' * 86}",
                f"--iscrypted $1$salt${'c' * 22}",
                f"--iscrypted {'d' * 13}",
            )
        ),
        kickstart(sections="%post --interpreter=busybox --timeout=60 --ignorefailure=true\nsync\n"),
        kickstart(sections="%post --ignorefailure=false\nsync\n%firstboot --interpreter=busybox\nesxcli x\n"),
        kickstart(sections="%firstboot --interpreter=python\nprint('a')\n"),
        kickstart(sections="%pre\ncat <<'END'\n%d text\n|%post\nEND\n".replace("%d", "|%d")),
        kickstart(*(f"part p{number} --ondisk=d{number}" for number in range(250))),
    ],
)
def test_good_kickstarts(text):
    assert check(text) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (kickstart(eula=None), "eula"),
        (kickstart(rootpw=None), "rootpw"),
        (kickstart(install="installorupgrade --firstdisk", rootpw=None), "rootpw"),
        (kickstart(install=None), "one-install"),
        (kickstart("installorupgrade --firstdisk"), "one-install"),
        (kickstart("upgrade --firstdisk"), "one-install"),
        (kickstart(BASE["install"]), "repeated-command"),
        (kickstart(BASE["rootpw"]), "repeated-command"),
        (kickstart(BASE["network"]), "repeated-command"),
        *(
            (kickstart(install=f"install {words}"), "one-target")
            for words in ("", "--disk=a --firstdisk", "--disk=a --drive=a", "--overwritevmfs")
        ),
        (kickstart(install="install --firstdisk --overwritevmfs --preservevmfs"), "vmfs"),
        (kickstart(install="install --disk=a --ignoressd"), "ignoressd"),
        (kickstart(install="install --firstdisk --forcemigrate"), "unknown-option"),
        (kickstart(install="install --diskBootedFrom"), "unknown-option"),
        (kickstart(install="install --firstdisk --FIRSTDISK"), "unknown-option"),
        (kickstart(install="install --firstdisk --firstdisk=usb"), "repeated-option"),
        (kickstart(install="install --disk"), "option-value"),
        (kickstart(install="install --disk="), "option-value"),
        (kickstart(install="install --disk=a,b"), "option-value"),
        (kickstart(install="install --firstdisk="), "option-value"),
        (kickstart(install="install --firstdisk=local,,usb"), "option-value"),
        (kickstart(install="install --firstdisk=ABCDEFGHIJKLMNOPQ"), "option-value"),
        (kickstart(install="install --firstdisk --overwritevmfs=yes"), "option-value"),
        (kickstart(install="install --firstdisk=LOGICAL VOLUME"), "arguments"),
        (kickstart(install="install --firstdisk='local"), "quotes"),
        *(
            (kickstart(install=f"installorupgrade --firstdisk {word}"), "unknown-option")
            for word in ("--preservevmfs", "--novmfsondisk", "--ignoressd")
        ),
        (kickstart(install="installorupgrade --overwritevmfs"), "one-target"),
        (kickstart(install="upgrade --firstdisk --diskBootedFrom", **UPGRADE), "one-target"),
        (kickstart(install="upgrade --firstdisk --overwritevmfs", **UPGRADE), "unknown-option"),
        (kickstart(install="upgrade --firstdisk --forceunsupportedinstall", **UPGRADE), "unknown-option"),
        (kickstart(install="upgrade --firstdisk", network=None), "switched-off"),
        (kickstart(install="upgrade --firstdisk", rootpw=None), "switched-off"),
        *(
            (kickstart(line, install="upgrade --firstdisk", **UPGRADE), "switched-off")
            for line in ("keyboard German", "serialnum --esx=A", "clearpart --alldrives", "part a --ondisk=b")
        ),
        (kickstart("clearpart"), "one-target"),
        (kickstart("clearpart --alldrives --drives=a"), "one-target"),
        (kickstart("clearpart --alldrives", install="installorupgrade --firstdisk"), "clearpart"),
        (kickstart("clearpart --drives="), "option-value"),
        (kickstart("part --ondisk=a"), "arguments"),
        (kickstart("part a b --ondisk=a"), "arguments"),
        (kickstart("part a"), "one-target"),
        (kickstart("part a --ondisk=b --onfirstdisk"), "one-target"),
        *((kickstart(network=f"network --bootproto=dhcp --{word}=10.0.0.1"), "dhcp") for word in ("ip", "gateway")),
        (kickstart(network="network --bootproto=dhcp --netmask=255.0.0.0"), "dhcp"),
        (kickstart(network="network --ip=10.0.0.1"), "dhcp"),
        (kickstart(network="network --bootproto=dhcp --hostname=a.example.com"), "dhcp-ignored"),
        (kickstart(network="network --bootproto=dhcp --nameserver=10.0.0.1"), "dhcp-ignored"),
        (kickstart(network="network --bootproto=bootp"), "option-value"),
        (kickstart(network="network --bootproto=dhcp --device=eth0"), "option-value"),
        (kickstart(network="network --bootproto=dhcp --vlanid=4096"), "option-value"),
        (kickstart(network="network --bootproto=dhcp --addvmportgroup=no"), "option-value"),
        (kickstart(network="network --bootproto=dhcp --nodns=1"), "option-value"),
        (static("--netmask=255.255.255.0"), "static"),
        (static("--ip=192.168.77.21"), "static"),
        (static(f"{ADDRESS} --gateway=192.168.78.1"), "static"),
        (static("--ip=192.168.77.256 --netmask=255.255.255.0"), "option-value"),
        (static("--ip=192.168.77.2 --netmask=255.0.255.0"), "option-value"),
        (static("--ip=192.168.77.2 --netmask=0.0.0.255"), "option-value"),
        (static(f"{ADDRESS} --nameserver=1.1.1.1,2.2.2.2,3.3.3.3"), "option-value"),
        (static(f"{ADDRESS} --hostname=esx_01.example.com"), "host-name"),
        (static(f"{ADDRESS} --hostname=-a"), "host-name"),
        (static(f"{ADDRESS} --hostname={'a' * 64}"), "host-name"),
        *(
            (kickstart(rootpw=f"rootpw {words}"), "password")
            for words in (
                f"--iscrypted $5$salt${'a' * 43}",
                "--iscrypted $2b$12$abcdefghijklmnopqrstuv",
                "--iscrypted Sesame-12",
                f"--iscrypted $6$salt${'a' * 85}",
                "Aa1-bc",
                "Aa1-" * 11,
                "abcdefgh1",
            )
        ),
        (kickstart(rootpw="rootpw --iscrypted"), "arguments"),
        (kickstart(rootpw="rootpw Sesame 1"), "arguments"),
        (kickstart("keyboard US Default"), "arguments"),
        (kickstart("keyboard"), "arguments"),
        (kickstart("serialnum --esx"), "option-value"),
        (kickstart("%include"), "arguments"),
        (kickstart("dryrun now"), "arguments"),
        (kickstart("bootloader --append=x"), "unknown-command"),
        (kickstart("Reboot"), "unknown-command"),
        (kickstart(*(f"part p{number} --ondisk=d{number}" for number in range(251))), "most-commands"),
        (kickstart("keyboard Fran\u00e7ais"), "ascii"),
        (kickstart().replace("\nreboot\n", "\nreboot\r\n"), "ascii"),
        (kickstart().rstrip("\n"), "last-line"),
        (kickstart(sections="%packages\nesx\n"), "unknown-section"),
        (kickstart(sections="%pre --interpreter=bash\n:\n"), "option-value"),
        (kickstart(sections="%pre --timeout=5\n:\n"), "unknown-option"),
        (kickstart(sections="%firstboot --timeout=5\n:\n"), "unknown-option"),
        (kickstart(sections="%firstboot --level=90\n:\n"), "unknown-option"),
        (kickstart(sections="%post --ignorefailure\n:\n"), "option-value"),
        (kickstart(sections="%post --ignorefailure=maybe\n:\n"), "option-value"),
        (kickstart(sections="%post --timeout=0\n:\n"), "option-value"),
        (kickstart(sections="%post now\n:\n"), "arguments"),
        (kickstart(sections="%post '\n:\n"), "quotes"),
        (kickstart(sections="%pre\n%include /tmp/x\n"), "include"),
        (kickstart(sections="%pre\n:\n  %firstboot\n"), "section-line"),
        (kickstart(sections="%pre\ncat <<'END'\n%firstboot\nEND\n"), "here-document"),
        (kickstart(sections="%pre\ncat <<END\ntext\n"), "here-document"),
        (kickstart(sections="%pre\nif true; then\n"), "syntax"),
        (kickstart(sections="%pre\necho 'a\n"), "syntax"),
        (kickstart(sections="%post --interpreter=python\nif True:\n"), "syntax"),
        (kickstart(sections="%post\nesxcli system ntp get\n"), "tool"),
    ],
)
def test_broken_rules(text, rule):
    assert rule in rules(text)


def test_only_the_broken_rule_is_named_with_its_line():
    (violation,) = check(kickstart(install="install --disk=a --ignoressd"))
    assert (violation.rule, violation.line) == ("ignoressd", 4)
    assert "--firstdisk" in violation.fact
    (violation,) = check(kickstart(sections=f"{PRE}%firstboot --level=1\n:\n"))
    assert (violation.rule, violation.line) == ("unknown-option", 10)


def test_an_unknown_command_that_is_meant():
    text = kickstart("future --thing=1")
    assert rules(text) == ["unknown-command"]
    assert rules(text, unknown=["future --thing=1"]) == []
    assert rules(text, unknown=["future"]) == ["unknown-command"]
    assert rules(kickstart("future --thing=1", "paranoid"), unknown=["future --thing=1"]) == ["unknown-command"]


def test_a_section_ends_where_the_next_begins():
    text = kickstart(sections="%pre\nfirst\n#%post\n|%post\n%post --timeout=3\nsecond\n")
    pre, post = read(text).scripts
    assert pre.lines == ("first", "#%post", "|%post")
    assert (post.opening.name, post.opening.value("--timeout"), post.text) == ("%post", "3", "second\n")
