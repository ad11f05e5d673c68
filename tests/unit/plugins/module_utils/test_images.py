# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    ImageError,
    canonical_entry_name,
    parse_boot_cfg,
    render_boot_cfg,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    BiosLoader,
    Image,
    Source,
    describe_image,
    load_image,
    load_images,
    loader_links,
    mboot_supplier,
    supports_skip,
    version_key,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, LayoutError

MEDIUM = (
    b"bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\n"
    b"modules=/jumpstrt.gz --- /useropts.gz --- /features.gz --- /k.b00 --- /imgpayld.tgz\n"
    b"build=8.0.3-0.0.24022510\nupdated=0\n"
)
FILES = {
    "boot.cfg": 300,
    "b.b00": 10,
    "jumpstrt.gz": 1,
    "useropts.gz": 2,
    "features.gz": 3,
    "k.b00": 4,
    "imgpayld.tgz": 5,
    "mboot.c32": 6,
    "efi/boot/bootx64.efi": 7,
    "efi/boot/crypto64.efi": 8,
}
SOURCE = Source("/srv/iso/esxi.iso", "iso", "1 bytes, changed 2")


def edited(**changes):
    """The medium's boot.cfg with other values; None takes the line away."""
    lines = []
    for line in MEDIUM.decode().splitlines():
        key = line.partition("=")[0]
        value = changes.pop(key, line.partition("=")[2])
        if value is not None:
            lines.append(f"{key}={value}")
    assert not changes
    return "\n".join(lines).encode()


def image(name="esxi-8.0.3", version="8.0.3", number=24022510, **changes):
    files = changes.pop("files", FILES)
    config = parse_boot_cfg(edited(build=f"{version}-0.0.{number}"))
    described = describe_image(name, config, files, sha256="0" * 64, source=SOURCE, imported="2026-11-22T20:00:00Z")
    return dataclasses.replace(described, **changes)


# boot.cfg


def test_a_medium_loses_its_slashes_and_keeps_its_order():
    config = parse_boot_cfg(MEDIUM)
    assert config.kernel == "b.b00"
    assert config.modules == ("jumpstrt.gz", "useropts.gz", "features.gz", "k.b00", "imgpayld.tgz")
    assert (config.build, config.version, config.title) == (
        "8.0.3-0.0.24022510",
        "8.0.3",
        "Loading ESXi installer",
    )
    assert (config.kernelopt, config.dropped) == ("runweasel", ("cdromBoot",))


def test_options_of_a_module_stay_with_it():
    config = parse_boot_cfg(edited(modules="/a.gz  -x   --flag=1 --- /B.GZ ---  --- /sub/c.v00 opt"))
    assert config.modules == ("a.gz -x --flag=1", "b.gz", "sub/c.v00 opt")


def test_a_kickstart_that_is_built_into_the_medium_is_dropped_and_told():
    config = parse_boot_cfg(edited(kernelopt="KS=cdrom:/KS.CFG runweasel cdromBoot allowLegacyCPU=true BOOTIF=x"))
    assert config.kernelopt == "runweasel allowLegacyCPU=true"
    assert config.dropped == ("KS=cdrom:/KS.CFG", "cdromBoot", "BOOTIF=x")


def test_keys_in_any_case_comments_carriage_returns_and_duplicates():
    text = (
        b"# kernel=/no\r\n\r\nKERNEL=/no.b00\r\n  kernel= /b.b00  \r\nmodules=/a.gz\r\nBuild=7.0.3-0.1.2\r\nodd=key\r\n"
    )
    config = parse_boot_cfg(text)
    assert (config.kernel, config.modules, config.version) == ("b.b00", ("a.gz",), "7.0.3")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (edited(kernel=None), "names no kernel"),
        (edited(kernel=""), "names no kernel"),
        (edited(modules=None), "names no modules"),
        (edited(modules=" --- --- "), "names no modules"),
        (edited(build=None), "of which build"),
        (edited(build="eight"), "of which build"),
        (edited(build="8.0-1"), "of which build"),
        (edited(timeout="soon"), "whole number"),
        (edited(kernel="/../../etc/passwd"), "no file of an installer"),
        (edited(kernel="/b.b00 quiet"), "no file of an installer"),
        (edited(modules="/a.gz --- http://evil/b.gz"), "no file of an installer"),
        (edited(modules="/a/../../b.gz"), "no file of an installer"),
        (edited(modules="//"), "no file of an installer"),
        (MEDIUM + b"garbage\n", "not key=value"),
        (MEDIUM + b"=value\n", "not key=value"),
        (MEDIUM + b"kernel = /b.b00\n", "space before"),
        (MEDIUM + "title=ESXi\N{REGISTERED SIGN}\n".encode(), "outside ASCII in line 10"),
        (MEDIUM + b"title=a\x07b\n", "control character"),
        (b"#" * (1024 * 1024), "bytes"),
        (b"", "names no kernel"),
    ],
)
def test_what_is_no_installers_boot_cfg_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        parse_boot_cfg(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_config_or_an_image_error(data):
    try:
        config = parse_boot_cfg(data)
    except ImageError:
        return
    assert not config.kernel.startswith("/") and ".." not in config.kernel


WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=8)


@given(st.lists(st.tuples(WORD, st.lists(WORD, max_size=2)), min_size=1, max_size=20))
def test_reading_what_was_rendered_gives_the_same(modules):
    items = tuple(" ".join([name, *options]) for name, options in modules)
    config = dataclasses.replace(parse_boot_cfg(MEDIUM), modules=items, dropped=())
    assert parse_boot_cfg(render_boot_cfg(config, "esxi").encode()) == config


def test_the_imported_boot_cfg_has_an_absolute_prefix_and_no_slashes():
    text = render_boot_cfg(parse_boot_cfg(MEDIUM), "esxi-8.0.3")
    assert "prefix=/images/esxi-8.0.3/\n" in text
    assert "kernel=b.b00\n" in text
    assert "modules=jumpstrt.gz --- useropts.gz --- features.gz --- k.b00 --- imgpayld.tgz\n" in text
    assert "cdromBoot" not in text


# Names on the medium


@pytest.mark.parametrize(
    ("given_name", "wanted"),
    [
        ("BOOT.CFG;1", "boot.cfg"),
        ("B.B00", "b.b00"),
        ("README.;1", "readme"),
        ("EFI", "efi"),
        ("Release Notes (1).txt", "release notes (1).txt"),
        ("uc_intel.b00", "uc_intel.b00"),
    ],
)
def test_names_become_what_boot_cfg_says(given_name, wanted):
    assert canonical_entry_name(given_name) == wanted


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "...",
        "a/b",
        ".hidden",
        "",
        "a\\b",
        "a\nb",
        "it's",
        'a"b',
        "a..b",
        "b\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "-c",
        "\x00",
    ]
    + ["01-00-50-56-aa-bb-01", "01-00-50-56-AA-BB-01;1"],
)
def test_names_that_no_installer_has_are_refused(name):
    with pytest.raises(ImageError, match="which no ESXi installer has"):
        canonical_entry_name(name)


# Versions


def test_versions_are_compared_as_numbers():
    assert version_key("8.0.10") > version_key("8.0.9")
    assert version_key("8.0.3-0.0.24022510") == (8, 0, 3, 0, 0, 24022510)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("6.7.0", False),
        ("7.0.3", False),
        ("8.0.0", False),
        ("8.0.1", True),
        ("8.0.3", True),
        ("9.0.0", True),
        ("", False),
    ],
)
def test_skip_came_with_8_0_1(version, wanted):
    assert supports_skip(version) is wanted


def test_the_newest_mboot_serves_and_an_old_one_never_does():
    old, middle, new = image("a", "7.0.3"), image("b", "8.0.1"), image("c", "8.0.10")
    headless = image("d", "9.0.0", uefi=None)
    assert mboot_supplier([new, old, middle, headless]) is new
    assert mboot_supplier([old, middle]) is middle
    assert mboot_supplier([old, headless]) is None
    assert mboot_supplier([]) is None


def test_between_two_builds_of_a_version_the_higher_one_serves():
    low, high = image("z", number=9), image("a", number=10)
    assert mboot_supplier([high, low]) is high


def test_mboot_and_crypto_come_from_the_same_image():
    links = loader_links(image())
    assert links["mboot.efi"] == "images/esxi-8.0.3/efi/boot/bootx64.efi"
    assert links["crypto64.efi"] == "images/esxi-8.0.3/efi/boot/crypto64.efi"
    assert links["http/mboot.efi"] == "../mboot.efi"
    assert list(links).index("crypto64.efi") < list(links).index("mboot.efi")
    without = {path: size for path, size in FILES.items() if "crypto" not in path}
    assert loader_links(image(files=without))["crypto64.efi"] is None
    assert set(loader_links(None).values()) == {None}


# Descriptions


def test_an_image_is_described_by_what_the_medium_says_and_holds():
    described = image()
    assert described.to_record() == {
        "schema": 1,
        "name": "esxi-8.0.3",
        "version": "8.0.3",
        "build": "8.0.3-0.0.24022510",
        "kernel": "b.b00",
        "modules": ["jumpstrt.gz", "useropts.gz", "features.gz", "k.b00", "imgpayld.tgz"],
        "kernelopt": "runweasel",
        "title": "Loading ESXi installer",
        "mboot_version": "8.0.3",
        "loaders": {
            "bios": {"kind": "mboot.c32", "path": "mboot.c32"},
            "uefi": {"kind": "mboot", "path": "efi/boot/bootx64.efi", "crypto": "efi/boot/crypto64.efi"},
        },
        "sha256": "0" * 64,
        "source": {"path": "/srv/iso/esxi.iso", "kind": "iso", "fingerprint": "1 bytes, changed 2"},
        "imported": "2026-11-22T20:00:00Z",
        "files": 10,
        "bytes": 346,
        "added_modules": [],
    }
    assert Image.from_record(json.loads(json.dumps(described.to_record()))) == described


def test_descriptions_without_a_loader_or_with_a_linux_one_survive_storing():
    linux = BiosLoader(kind="linux", kernel="vmlinuz", initrd="initrd", append="console=ttyS0")
    for described in (image(bios=None), image(uefi=None), image(bios=linux)):
        assert Image.from_record(json.loads(json.dumps(described.to_record()))) == described


def test_a_file_that_is_missing_shows_that_the_medium_is_incomplete():
    without = {path: size for path, size in FILES.items() if path not in ("k.b00", "useropts.gz")}
    with pytest.raises(ImageError, match=r"2 files that the medium does not have \(useropts.gz, k.b00\)"):
        image(files=without)


def test_a_medium_that_nothing_can_boot_is_refused():
    without = {path: size for path, size in FILES.items() if path not in ("mboot.c32", "efi/boot/bootx64.efi")}
    with pytest.raises(ImageError, match="no machine can boot it"):
        image(files=without)


def test_a_linux_loader_must_be_on_the_medium():
    linux = BiosLoader(kind="linux", kernel="b.b00", initrd="nowhere", append="")
    with pytest.raises(ImageError, match="'nowhere'"):
        describe_image("x", parse_boot_cfg(MEDIUM), FILES, sha256="0" * 64, source=SOURCE, imported="", linux=linux)


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "a b", "a\n", "-x", "x" * 65, "../x"])
def test_a_name_that_could_lead_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(LayoutError):
        image(name)
    with pytest.raises(ImageError):
        load_image(layout(tmp_path), name)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"name": "../x"},
        {"modules": "a.gz"},
        {"modules": [1]},
        {"loaders": {}},
        {"loaders": {"bios": {"path": "x"}, "uefi": None}},
        {"loaders": {"bios": None, "uefi": {"path": "x", "odd": "y"}}},
        {"loaders": {"bios": None, "uefi": {"path": "../../../../etc/passwd"}}},
        {"loaders": {"bios": None, "uefi": {"path": "/mboot.efi"}}},
        {"loaders": {"bios": None, "uefi": {"path": "x\0"}}},
        {"loaders": {"bios": None, "uefi": {"path": "x", "crypto": "../x"}}},
        {"loaders": {"bios": {"kind": "mboot.c32", "path": "../x"}, "uefi": None}},
        {"loaders": {"bios": {"kind": "linux", "kernel": "x", "initrd": "a b"}, "uefi": None}},
        {"files": "many"},
        {"source": None},
        {"version": None},
    ],
)
def test_a_record_that_was_tampered_with_is_refused(change):
    with pytest.raises(ImageError):
        Image.from_record({**image().to_record(), **change})


@pytest.mark.parametrize("record", [None, [], "x", 3])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ImageError):
        Image.from_record(record)


def layout(tmp_path):
    return Layout(boot_root=tmp_path / "boot", state_root=tmp_path / "state", reservations_dir=tmp_path / "dhcp")


def test_loading(tmp_path):
    place = layout(tmp_path)
    assert load_images(place) == ([], [])
    assert load_image(place, "esxi-8.0.3") is None
    place.descriptions_dir.mkdir(parents=True)
    place.description("esxi-8.0.3").write_text(json.dumps(image().to_record()))
    place.description("broken").write_text("{")
    (place.descriptions_dir / ".esxi.json.1.tmp").write_text("{")
    (place.descriptions_dir / ".x.json").write_text("{")
    assert load_image(place, "esxi-8.0.3") == image()
    images, errors = load_images(place)
    assert images == [image()]
    assert len(errors) == 1
    assert str(place.description("broken")) in errors[0]
    assert "import the image again" in errors[0]
