# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What depots and VIBs say of themselves, and what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import (
    DepotError,
    Metadata,
    add_metadata_file,
    index_files,
    is_safe_path,
    metadata_files,
    parse_vib,
    vib_descriptor,
)
from pxelab.depot import Package, bundle_files, descriptor, vib_bytes

PACKAGE = Package("net-example")


def test_a_bundle_leads_from_its_index_to_its_metadata():
    files = bundle_files([PACKAGE])
    assert index_files(files["index.xml"]) == ["vendor-index.xml"]
    assert metadata_files(files["vendor-index.xml"], "vendor-index.xml") == ["metadata.zip"]
    assert metadata_files(files["vendor-index.xml"], "vmw/vendor-index.xml") == ["vmw/metadata.zip"]


def test_several_vendors_may_be_below_folders():
    vendor = "<vendor><indexfile>i.xml</indexfile><relativePath>{}</relativePath></vendor>"
    data = f"<vendorList>{vendor.format('a/b/')}{vendor.format('')}</vendorList>".encode()
    assert index_files(data) == ["a/b/i.xml", "i.xml"]


@pytest.mark.parametrize(("live", "reboot"), [("true", False), ("false", True), ("", None), ("perhaps", None)], ids=str)
def test_a_vib_says_whether_a_reboot_is_needed(live, reboot):
    data = descriptor(PACKAGE).replace(b"<live-install-allowed>false", f"<live-install-allowed>{live}".encode())
    vib = parse_vib(data, "x")
    assert vib.reboot_required is reboot
    assert (vib.name, vib.version, vib.vendor) == ("net-example", "1.2.3-1OEM.800.1.0.20613240", "EXA")
    assert (vib.acceptance, vib.maintenance_mode) == ("partner", True)


def test_the_checksum_of_the_file_is_not_mistaken_for_one_of_a_payload():
    vib = parse_vib(descriptor(PACKAGE, "<relative-path>a.vib</relative-path>"), "x")
    assert (vib.file, vib.sha256) == ("a.vib", "")
    checksum = f"<checksum checksum-type='sha-256'>{'a' * 64}</checksum>"
    assert parse_vib(descriptor(PACKAGE, f"<relative-path>a.vib</relative-path>{checksum}"), "x").sha256 == "a" * 64


def test_metadata_of_other_kinds_are_passed_over():
    metadata = Metadata()
    add_metadata_file(metadata, "vibs/x.xml", descriptor(PACKAGE))
    add_metadata_file(metadata, "profiles/p.xml", b"<imageprofile><name>ESXi-8-standard</name></imageprofile>")
    add_metadata_file(metadata, "bulletins/b.xml", b"<bulletin><id>EXA-1</id></bulletin>")
    for name in ("vmware.xml", "baseImages/x.xml", "vibs/readme.txt", "addons/x.xml"):
        add_metadata_file(metadata, name, b"not even XML")
    assert ([vib.name for vib in metadata.vibs], metadata.profiles, metadata.bulletins) == (
        ["net-example"],
        ["ESXi-8-standard"],
        ["EXA-1"],
    )


def test_a_vib_holds_its_descriptor():
    assert parse_vib(vib_descriptor(vib_bytes(PACKAGE), "x.vib"), "x.vib").name == "net-example"


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<vendorList><vendor><indexfile>&b;</indexfile></vendor></vendorList>"
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<vendorList/>",
        b"<vendorList><vendor/></vendorList>",
        b"<vendorList><vendor><indexfile>../../etc/x</indexfile></vendor></vendorList>",
        b"<vendorList><vendor><indexfile>/etc/x</indexfile></vendor></vendorList>",
        b"<vendorList><vendor><indexfile>http://evil/x.xml</indexfile></vendor></vendorList>",
        b"<vendorList><vendor><indexfile>i.xml</indexfile><relativePath>..</relativePath></vendor></vendorList>",
        BOMB,
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><vendorList/>',
        b"<a>" * 100_000,
        b"<a>" * 100_000 + b"</a>" * 100_000,
        b"\0" * 100,
        b" " * (16 * 1024 * 1024 + 1),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_an_index_that_is_none_is_refused_in_a_sentence(data):
    with pytest.raises(DepotError) as caught:
        index_files(data)
    assert str(caught.value).startswith("index.xml ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<name>net-example</name>", b""),
        (b"<name>net-example</name>", b"<name>a b</name>"),
        (b"<name>net-example</name>", b"<name>$(reboot)\nx</name>"),
        (b"<vendor>EXA</vendor>", b"<vendor/>"),
        (b"partner</acceptance-level>", b"forged</acceptance-level>"),
        (b'<vib version="5.0">', b"<bib>"),
    ],
)
def test_a_vib_that_says_nonsense_is_refused(old, new):
    data = descriptor(PACKAGE)
    assert old in data
    with pytest.raises(DepotError):
        parse_vib(data.replace(old, new), "x.xml")


@pytest.mark.parametrize(
    "head",
    [b"", b"PK\x03\x04", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, vib_bytes(PACKAGE)[:200]],
    ids=range(5),
)
def test_what_is_no_vib_is_refused(head):
    with pytest.raises(DepotError):
        vib_descriptor(head, "x.vib")


@pytest.mark.parametrize("path", ["a", "vib20/a/EXA_bootbank_a_1.2.3-1OEM.800.vib", "a b/c(1).zip"])
def test_paths_of_depots(path):
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", ".a", "a/.b", "a\nb", "a'b", "a\\b", 'a"b', "$a", "a/", "x" * 500]
)
def test_paths_that_no_depot_has(path):
    assert not is_safe_path(path)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_parse_or_be_refused(data):
    for parse in (
        index_files,
        lambda d: parse_vib(d, "x"),
        lambda d: vib_descriptor(d, "x"),
        lambda d: metadata_files(d, "x"),
    ):
        try:
            parse(data)
        except DepotError as error:
            assert str(error).isprintable()
