# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused in a rendered kickstart, whatever template it came from."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._commands import extra_command
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Wrong
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import Deadlines, build, password_salt
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import (
    check_kickstart,
    mask_secrets,
    split_kickstart,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import sha512_crypt
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

HASH = sha512_crypt("bootstrap-1", password_salt("esx01.example.com"))


def host(**changes):
    return next(iter(parse_hosts([definition(**changes)]).hosts.values()))


def text_of(some=None, **pieces):
    """The default kickstart with some pieces replaced."""
    some = some or host()
    ks = {**build(some, some.macs[0], HASH, Deadlines()).to_template(), **pieces}
    if "lines" not in pieces:
        ks["lines"] = ks["commands"]
    return "\n".join([*ks["lines"], "", ks["pre"], ks["post"], ks["firstboot"]])


def lines_with(*more, without=()):
    lines = [
        line for line in build(host(), host().macs[0], HASH, Deadlines()).commands if line.split()[0] not in without
    ]
    return [*lines, *more]


def errors(text, some=None):
    found = check_kickstart(text, some or host())
    assert all(sentence.isascii() and sentence.endswith((".", "?")) for sentence in found)
    return "\n".join(found)


def test_the_default_is_good():
    assert errors(text_of()) == ""


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (lines_with(without=["vmaccepteula"]), "has no vmaccepteula"),
        (lines_with(without=["rootpw"]), "has no rootpw"),
        (lines_with(without=["install"]), "has no install, installorupgrade or upgrade"),
        (lines_with("upgrade --firstdisk"), "has install, upgrade; leave exactly one"),
        (lines_with(f"rootpw --iscrypted {HASH}"), "rootpw more than once"),
        (lines_with("rootpw Secret!123", without=["rootpw"]), "is no SHA-512 hash"),
        (lines_with("rootpw --iscrypted Secret!123", without=["rootpw"]), "is no SHA-512 hash"),
        (lines_with(f"rootpw --iscrypted $5${HASH[3:]}", without=["rootpw"]), "is no SHA-512 hash"),
        (lines_with(f"rootpw {HASH}", without=["rootpw"]), "is no SHA-512 hash"),
        (lines_with("rootpw", without=["rootpw"]), "needs the password's hash"),
        (lines_with("install", without=["install"]), "exactly one of --disk, --drive, --firstdisk; it has none"),
        (lines_with("install --disk=a --firstdisk", without=["install"]), "it has --disk and --firstdisk"),
        (lines_with("install --disk=a --ignoressd", without=["install"]), "--ignoressd works with --firstdisk only"),
        (lines_with("install --disk", without=["install"]), "--disk needs a value"),
        (lines_with("install --firstdisk --novmfsondisk=1", without=["install"]), "--novmfsondisk takes no value"),
        (lines_with("install --firstdsk", without=["install"]), "did you mean --firstdisk?"),
        (
            lines_with("installorupgrade --firstdisk --preservevmfs --novmfsondisk --ignoressd", without=["install"]),
            "--ignoressd is an error with installorupgrade",
        ),
        (
            lines_with("install --firstdisk=LOGICAL VOLUME", without=["install"]),
            "install: has a word that it does not take",
        ),
        (lines_with("serialnum AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"), "serialnum: has a word that it does not take"),
        (lines_with("keyboard US Default"), "keyboard: needs exactly one word"),
        (lines_with("%include"), "%include: needs exactly one word; write %include FILE"),
        (lines_with("%include /tmp/a /tmp/b"), "needs exactly one word"),
        (lines_with("clearpart --alldrives --firstdisk"), "clearpart: needs exactly one of"),
        (
            lines_with("clearpart --alldrives", "upgrade --firstdisk", without=["install"]),
            "has clearpart without install",
        ),
        (lines_with("network --bootproto=dhcp --ip=1.2.3.4", without=["network"]), "--ip is an error"),
        (lines_with("network --ip=1.2.3.4", without=["network"]), "--ip is an error"),
        (lines_with("network --bootproto=static --ip=1.2.3.4", without=["network"]), "--netmask is missing"),
        (lines_with("network --bootproto=bootp", without=["network"]), "write dhcp or static"),
        (lines_with("network --hostname=a_b", without=["network"]), "underscore"),
        (lines_with("network --nameserver=1,2,3", without=["network"]), "two"),
        (lines_with("network --vlanid=4095", without=["network"]), "from 0 to 4094"),
        (lines_with("network --addvmportgroup=yes", without=["network"]), "takes 0 or 1"),
        (lines_with("part ds1"), "exactly one of --ondisk, --onfirstdisk"),
        (lines_with("part --ondisk=naa.1"), "needs one name"),
        (lines_with("serialnum --esxi=x"), "did you mean --esx?"),
        (lines_with("vmacceptula"), "did you mean vmaccepteula?"),
        (lines_with("frobnicate"), "is no kickstart command"),
        (lines_with("keyboard 'open"), "a quote that is never closed"),
        (lines_with("paranoid", "reboot --fast"), "has no option --fast"),
        (lines_with("keyboard Fran\u00e7ais"), "other than printable ASCII"),
        (lines_with("keyboard French\r"), "other than printable ASCII"),
        (lines_with("  %post"), "is no kickstart command"),
        (lines_with(*["keyboard French"] * 250), "commands, the installer takes 256"),
    ],
)
def test_bad_lines(lines, says):
    found = errors(text_of(lines=lines))
    assert says in found
    assert "Secret" not in found


def test_the_line_is_named():
    assert errors(text_of(lines=["# x", "", *lines_with("frobnicate")])).startswith(
        "line 8 of the kickstart, frobnicate:"
    )


def test_as_many_commands_as_the_installer_takes():
    most = 256 - 3 - len(lines_with())
    assert errors(text_of(lines=lines_with(*["keyboard French"] * most))) == ""
    assert "257 commands" in errors(text_of(lines=lines_with(*["keyboard French"] * (most + 1))))


@pytest.mark.parametrize(
    "line",
    [
        "install --firstdisk --overwritevmfs",
        "clearpart --alldrives --overwritevmfs",
        'install --firstdisk --overwrite"vmfs"',
        "install --firstdisk --overwrite\\vmfs",
        "INSTALL --OVERWRITEVMFS",
    ],
)
def test_a_datastore_is_overwritten_only_when_the_definition_says_so(line):
    lines = lines_with(line, without=["install"])
    assert "which the definition does not ask for" in errors(text_of(lines=lines))
    asked = host(disk={"first": [], "existing_vmfs": "overwrite"})
    assert "overwritevmfs, which" not in errors(text_of(lines=lines), asked)


def test_a_script_may_not_write_it_either():
    some = host(kickstart={"pre": "echo install --firstdisk --overwritevmfs >/tmp/disk"})
    assert "which the definition does not ask for" in errors(text_of(some), some)
    assert errors(text_of(lines=["# never --overwritevmfs", *lines_with()])) == ""


def test_what_is_included_cannot_be_known():
    assert errors(text_of(lines=lines_with("%include /tmp/disk", without=["install"]))) == ""


def test_commands_that_the_definition_adds_are_let_through():
    some = host(kickstart={"extra_commands": ["dpu --slot=1"]})
    assert errors(text_of(some), some) == ""
    assert "is no kickstart command" in errors(text_of(some), host())
    paranoid = host(kickstart={"extra_commands": ["dpu --slot=1"], "paranoid": True})
    assert "is no kickstart command" in errors(text_of(paranoid), paranoid)


def test_options_of_later_versions_are_let_through():
    assert errors(text_of(lines=lines_with("install --firstdisk --dpuPciSlots=x", without=["install"]))) == ""


PRE = text_of().split("%pre", 1)[1].split("%post", 1)[0]


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ({"pre": ""}, "first %pre does not call pbconnect (installing)"),
        ({"pre": "%pre --interpreter=busybox\ntrue\n"}, "first %pre does not call pbconnect (installing)"),
        ({"pre": "%pre\nexit 1\n%pre" + PRE}, "first %pre does not call pbconnect (installing)"),
        ({"pre": "%pre" + PRE.replace("@PBCONNECT_TOKEN@", "x")}, "first %pre does not call pbconnect (installing)"),
        ({"pre": "%pre" + PRE.replace("@PBCONNECT_URL@", "x")}, "first %pre does not call pbconnect (installing)"),
        ({"pre": "%pre" + PRE.replace("pb_notify installing", "# pb_notify installing")}, "does not call pbconnect"),
        ({"firstboot": ""}, "%firstboot does not call pbconnect (ready)"),
        ({"firstboot": "%firstboot\ntrue\n"}, "%firstboot does not call pbconnect (ready)"),
        ({"post": "%posst\ntrue\n"}, "begins with '%posst', which is no section"),
        ({"post": "%end\n"}, "which is no section"),
        ({"post": "% x\n"}, "which is no section"),
        ({"post": "%post --interpreter=bash\n"}, "write python or busybox"),
        ({"post": "%post --timeout\n"}, "--timeout needs a value"),
        ({"post": "%firstboot --level=900\n"}, "has no option --level"),
        ({"post": "%post 'x\n"}, "a quote that is never closed"),
        ({"post": "# x %post --interpreter=busybox\n"}, "has %post in its middle"),
    ],
)
def test_bad_sections(pieces, says):
    assert says in errors(text_of(**pieces))


def test_a_site_may_call_pbconnect_in_its_own_way():
    own = "%pre --interpreter=python\nnotify('@PBCONNECT_URL@', '@PBCONNECT_TOKEN@', 'installing')\n"
    assert errors(text_of(pre=own)) == ""


def test_text_of_others_does_not_count_as_the_call():
    some = host(kickstart={"pre": "x @PBCONNECT_URL@ @PBCONNECT_TOKEN@ installing"})
    quoted = "\n".join(line for line in text_of(some).split("\n") if line.startswith(("|", "%")))
    assert "does not call pbconnect (installing)" in errors(quoted, some)


def test_many_mistakes_are_cut_short():
    found = errors(text_of(lines=lines_with(*[f"frobnicate{number}" for number in range(50)])))
    assert len(found.splitlines()) == 11 and "40 more mistakes" in found


def test_split_kickstart():
    lines, sections = split_kickstart("# c\n\n a b\n%include x\n%pre --interpreter=busybox\none\n#two\n\n%post\nthree")
    assert lines == [(3, "a b"), (4, "%include x")]
    assert [(section.line, section.number, section.script) for section in sections] == [
        ("%pre --interpreter=busybox", 5, ("one", "#two", "")),
        ("%post", 9, ("three",)),
    ]


def test_secrets_are_masked():
    key = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
    some = host(kickstart={"serial_number": key}, post_actions=[{"license": key}])
    text = mask_secrets(text_of(some) + f"\n  rootpw  --iscrypted {HASH}\nvmserialnum --esx={key}\n")
    assert HASH not in text and HASH[6:] not in text and key not in text
    assert text.count("rootpw ********") == 2


@pytest.mark.parametrize("value", ["%include /tmp/x", "dpu --slot=1", "x 'a b'  "])
def test_extra_commands(value):
    assert extra_command(value) == value.rstrip()


@pytest.mark.parametrize(
    "value", ["", " x", "X", "x\ny", "x\x00", 5, None, "%post", "%include2 x", "reboot", "part x", "x \u00e4"]
)
def test_extra_commands_that_are_refused(value):
    with pytest.raises(Wrong):
        extra_command(value)
