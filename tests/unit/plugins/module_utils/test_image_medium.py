# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media as vendors and colleagues make them, and as somebody makes them who means ill. The ISO files are real ones."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import ImageError
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_import import ImageStore
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_medium import list_iso, look_at, look_at_modules
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import damage_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import load_image, load_images
from ansible_collections.pxemanager.esxi.tests.support import boot_walk
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer, run
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition
from pxelab.depot import Package, make_vib
from pxelab.medium import make_iso, make_tree

NAME = "esxi"

pytestmark = pytest.mark.skipif(
    shutil.which("xorriso") is None or shutil.which("bsdtar") is None, reason="needs xorriso and bsdtar"
)


@pytest.fixture
def server(tmp_path):
    return ImageServer(tmp_path / "server")


@pytest.fixture
def medium(tmp_path):
    return make_tree(tmp_path / "medium", module_size=64)


def iso_of(tree, *options):
    out = tree.with_suffix(".iso")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", *options, "-o", out, tree], check=True, capture_output=True)
    return out


def edit(medium, **changes):
    """Other values in both boot.cfg."""
    for path in (medium / "boot.cfg", medium / "efi/boot/boot.cfg"):
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{changes.get(line.partition('=')[0], line)}\n" for line in lines))


# What vendors ship.


def vendor_hpe(medium):
    """Modules and folders of their own, another title, a serial console in the options."""
    for name in ("amshelpr.v00", "ilo.v00"):
        (medium / name).write_bytes(name.encode())
    modules = (medium / "boot.cfg").read_text().partition("modules=")[2].splitlines()[0]
    edit(
        medium,
        title="title=Loading VMware ESXi 8.0.3 HPE Custom Image",
        modules=f"modules={modules} --- /amshelpr.v00 --- /ilo.v00",
        kernelopt="kernelopt=cdromBoot runweasel com1_Port=0x3f8 tty2Port=com1",
    )
    return ["-iso-level", "1", "--norock"]


def vendor_dell(medium):
    """Joliet and Rock Ridge, names in mixed case."""
    (medium / "DellEMC_Addon.XML").write_text("<addon/>")
    os.rename(medium / "k.b00", medium / "K.B00")
    edit(medium, title="title=Loading DellEMC ESXi installer")
    return ["-iso-level", "3", "-R", "-J"]


def vendor_lenovo(medium):
    """Joliet only: long names, no Rock Ridge."""
    (medium / "lenovo-customization-8.0.3-LVO.txt").write_text("x")
    return ["-iso-level", "1", "--norock", "-J"]


def vendor_kickstart(medium):
    """A kickstart baked in by a colleague."""
    (medium / "KS.CFG").write_text("install --firstdisk --overwritevmfs\n")
    edit(medium, kernelopt="kernelopt=runweasel ks=cdrom:/KS.CFG")
    return ["-iso-level", "1", "--norock"]


VENDORS = [value for name, value in sorted(globals().items()) if name.startswith("vendor_")]


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.__name__)
def test_media_of_vendors_are_imported(server, medium, vendor):
    kernel = (medium / "k.b00").read_bytes()
    iso = iso_of(medium, *vendor(medium))
    outcome = server.images().present(NAME, str(iso))
    tree = server.layout.image_dir(NAME)
    assert (tree / "k.b00").read_bytes() == kernel
    assert (outcome.image.version, outcome.image.build) == ("8.0.3", "8.0.3-0.0.24022510")
    assert outcome.image.sha256 == hashlib.sha256(iso.read_bytes()).hexdigest()
    assert damage_of(server.layout, outcome.image, verify=True) == []
    assert all(module.split(" ")[0] in os.listdir(tree) for module in outcome.image.modules)
    if vendor is vendor_hpe:
        assert outcome.image.modules[-2:] == ("amshelpr.v00", "ilo.v00")
        assert outcome.image.kernelopt == "runweasel com1_Port=0x3f8 tty2Port=com1"
        assert "HPE" in outcome.image.title
    assert bool(outcome.warnings) == (vendor is vendor_kickstart)
    assert "ks=" not in outcome.image.kernelopt


@pytest.mark.parametrize(
    ("version", "mboot", "crypto"),
    [("6.7.0", "6.7.0", False), ("7.0.3", "7.0.3", True), ("8.0.1", "8.0.1", True), ("9.0.0", "9.0.0", True)],
)
def test_layouts_of_all_versions_are_imported(server, tmp_path, version, mboot, crypto):
    iso = make_iso(make_tree(tmp_path / version, version=version, module_size=64), tmp_path / "x.iso")
    image = server.images().present(NAME, str(iso)).image
    assert (image.version, image.mboot_version, image.uefi.crypto is not None) == (version, mboot, crypto)
    supplies = (server.layout.boot_root / "mboot.efi").exists()
    assert supplies == (version in ("8.0.1", "9.0.0"))


def test_a_custom_medium_with_an_older_mboot_never_supplies_the_loaders(server, tmp_path):
    medium = make_tree(tmp_path / "custom", version="8.0.3", loader="7.0.3", module_size=64)
    outcome = server.images().present(NAME, str(medium))
    assert (outcome.image.version, outcome.image.mboot_version) == ("8.0.3", "7.0.3")
    assert "its boot loader is that of ESXi 7.0.3 or older" in outcome.warnings[0]
    assert not (server.layout.boot_root / "mboot.efi").is_symlink()


def test_boot_cfgs_of_two_builds_are_taken_for_the_older(server, medium):
    path = medium / "efi/boot/boot.cfg"
    path.write_text(path.read_text().replace("8.0.3-0.0.24022510", "7.0.3-0.0.21930508"))
    outcome = server.images().present(NAME, str(medium))
    assert outcome.image.version == "7.0.3"
    assert any("is believed" in warning for warning in outcome.warnings)


# What is no medium, or is one of somebody who means ill.


def hostile_link_out(medium):
    (medium / "passwd").symlink_to("/etc/passwd")


def hostile_folder_link(medium):
    (medium / "drivers").symlink_to("/etc")


def hostile_pipe(medium):
    os.mkfifo(medium / "pipe")


def hostile_device(medium):
    os.mknod(medium / "sda", 0o60600, os.makedev(8, 0))


def hostile_newline(medium):
    (medium / "a\nb type=file size=0").write_text("")


def hostile_escape(medium):
    (medium / "\x1b[2Jx").write_text("")


def hostile_hidden(medium):
    (medium / ".htaccess").write_text("")


def hostile_depth(medium):
    (medium / "a/b/c/d/e/f/g/h/i/j/k").mkdir(parents=True)


def hostile_case(medium):
    (medium / "B.B00").write_text("another")


def hostile_mac_folder(medium):
    (medium / "01-00-50-56-aa-bb-01").mkdir()


def hostile_boot_cfg_size(medium):
    with open(medium / "boot.cfg", "ab") as file:
        file.truncate(100 * 1024 * 1024)


def hostile_boot_cfg_path(medium):
    edit(medium, kernel="kernel=/../../../etc/passwd")


HOSTILE = [value for name, value in sorted(globals().items()) if name.startswith("hostile_")]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_iso_is_refused_in_a_sentence_and_leaves_nothing(server, medium, make):
    if make is hostile_device and os.geteuid() != 0:
        pytest.skip("only root can make a device")
    make(medium)
    iso = iso_of(medium, "-R")
    before = server.contents()
    with pytest.raises(ImageError) as caught:
        server.images().present(NAME, str(iso))
    assert server.contents() == before
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 400


def patched(iso, path, offset, data):
    """An ISO with other bytes in the directory entry of a file, in both byte orders where that counts."""
    image = bytearray(iso.read_bytes())
    place = image.find(path.encode())
    assert place > 0
    image[place - 33 + offset : place - 33 + offset + len(data)] = data
    iso.write_bytes(bytes(image))


def test_a_file_that_claims_to_be_larger_than_the_iso_is_refused_before_it_is_unpacked(server, medium):
    iso = iso_of(medium, "-iso-level", "1", "--norock")
    size = 4 * 1024**3 - 2048
    patched(iso, "K.B00;1", 10, size.to_bytes(4, "little") + size.to_bytes(4, "big"))
    unpacked = []

    def watched(argv):
        unpacked.extend(argv[1:2])
        return run(argv)

    store = server.images()
    store._run = watched
    with pytest.raises(ImageError, match="bsdtar cannot read|claim to have"):
        store.present(NAME, str(iso))
    assert unpacked == ["-c"]
    assert server.hidden() == []


def test_a_name_that_leads_out_of_the_medium_is_refused(server, medium):
    (medium / "xx").mkdir()
    (medium / "xx/evil").write_text("")
    iso = iso_of(medium, "-R")
    data = iso.read_bytes()
    # The Rock Ridge name of the file: NM, length, version, flags, name.
    place = data.find(b"NM\x09\x01\x00evil")
    assert place > 0
    iso.write_bytes(data[: place + 5] + b"../a" + data[place + 9 :])
    with pytest.raises(ImageError):
        server.images().present(NAME, str(iso))
    assert server.hidden() == []
    assert not (server.layout.images_dir / "a").exists()


@pytest.mark.parametrize(
    "line",
    ["/etc/passwd type=file size=1", "./../x type=file size=1", "./x type=char", "./x size=1", "./x type=socket"],
)
def test_what_a_listing_may_say_is_checked(tmp_path, line):
    iso = tmp_path / "x.iso"
    iso.write_bytes(b"x")
    with pytest.raises(ImageError):
        list_iso(lambda argv: (0, f"#mtree\n. type=dir\n{line}\n", ""), str(iso))


def test_files_that_together_are_larger_than_the_iso_are_refused(tmp_path):
    iso = tmp_path / "x.iso"
    iso.write_bytes(b"x")
    with pytest.raises(ImageError, match="claim to have 95 MiB, and the ISO itself has 0"):
        list_iso(lambda argv: (0, "./x type=file size=50000000\n./y type=file size=50000000\n", ""), str(iso))


def test_a_listing_without_end_is_refused(tmp_path):
    iso = tmp_path / "x.iso"
    iso.write_bytes(b"x")
    many = "\n".join(f"./f{number} type=file size=0" for number in range(20_001))
    with pytest.raises(ImageError, match="more than 20000 entries"):
        list_iso(lambda argv: (0, many, ""), str(iso))


def test_files_that_share_their_contents_fill_no_disk(server, medium):
    """A hundred names for one file: each would be a file of its own in the boot tree."""
    big = medium / "big.v00"
    with open(big, "wb") as file:
        file.write(os.urandom(3 * 1024 * 1024))
    for number in range(100):
        os.link(big, medium / f"c{number}.v00")
    iso = iso_of(medium, "-R")
    assert iso.stat().st_size < 5 * 1024 * 1024
    with pytest.raises(ImageError, match="made to fill the disk|claim to have"):
        server.images().present(NAME, str(iso))
    assert server.hidden() == []


def test_a_udf_medium_without_iso9660_is_named(tmp_path):
    path = tmp_path / "udf.iso"
    path.write_bytes(b"\0" * (16 * 2048 + 1) + b"BEA01")
    with pytest.raises(ImageError, match="is a UDF medium without ISO9660"):
        look_at(str(path))


# Modules that are added.


@pytest.fixture
def driver(tmp_path):
    path = tmp_path / "RaidCtl.v00"
    path.write_bytes(b"\x1f\x8bdriver")
    return path


def test_a_module_is_added_after_those_of_the_medium(server, medium, driver):
    plain = server.images().present("plain", str(medium)).image
    outcome = server.images().present(NAME, str(medium), add_modules=[str(driver)])
    assert outcome.image.modules == (*plain.modules, "raidctl.v00")
    assert [module.name for module in outcome.image.added_modules] == ["raidctl.v00"]
    assert "does not install them" in outcome.warnings[0]
    text = (server.layout.image_dir(NAME) / "boot.cfg").read_text()
    assert text.partition("modules=")[2].splitlines()[0].endswith(" --- raidctl.v00")
    assert (server.layout.image_dir(NAME) / "raidctl.v00").read_bytes() == driver.read_bytes()
    assert load_image(server.layout, NAME) == outcome.image
    before = server.contents()
    assert not server.images().present(NAME, str(medium), add_modules=[str(driver)]).changed
    driver.unlink()
    assert not server.images().present(NAME, str(medium), add_modules=[str(driver)]).changed
    assert server.contents() == before


def test_other_added_modules_make_another_image(server, medium, driver):
    server.images().present(NAME, str(medium), add_modules=[str(driver)])
    driver.write_bytes(b"\x1f\x8bnewer")
    assert server.images(check_mode=True).present(NAME, str(medium), add_modules=[str(driver)]).changed
    assert server.images().present(NAME, str(medium), add_modules=[str(driver)]).changed
    assert (server.layout.image_dir(NAME) / "raidctl.v00").read_bytes() == b"\x1f\x8bnewer"
    server.publish("esx01.example.com", NAME, mode="install")
    with pytest.raises(ImageError, match="may be reading it"):
        server.images().present(NAME, str(medium))
    server.publish("esx01.example.com", NAME)
    assert server.images().present(NAME, str(medium)).image.added_modules == ()


def walks(server, mac):
    tree = boot_walk.Tree(
        server.boot, server.config.base_url, {image.name: image.version for image in load_images(server.layout)[0]}
    )
    return [boot_walk.mboot_tftp(tree, mac), boot_walk.mboot_http(tree, mac)]


def test_armed_machines_load_every_module_of_an_import_and_the_others_their_disks(tmp_path, medium, driver):
    """An ISO, imported and booted from the way mboot does, replaced while nobody is armed, and removed."""
    server = PxeServer(tmp_path / "pxe", image=False)
    images = ImageStore(server.config, run=run)
    image = images.present("esxi-8.0.3", str(iso_of(medium, "-iso-level", "1")), add_modules=[str(driver)]).image
    host, other = definition(1), definition(2)
    server.write_kickstarts(host, other)
    server.good("published", other)
    server.good("armed", host)
    for walk in walks(server, host["macs"][0]):
        assert (walk.what, walk.missing) == (boot_walk.INSTALL, [])
        files = tuple(f"images/esxi-8.0.3/{name}" for name in (image.kernel, *image.modules))
        assert walk.files == files
        assert files[-1] == "images/esxi-8.0.3/raidctl.v00"
    for mac in (other["macs"][0], "00:50:56:ff:ff:ff"):
        assert [walk.what for walk in walks(server, mac)] == [boot_walk.LOCAL] * 2
    with pytest.raises(ImageError, match=r"of which esx01\.example\.com is armed"):
        images.absent("esxi-8.0.3")
    server.good("absent", host, other)
    assert images.absent("esxi-8.0.3").changed
    for walk in walks(server, host["macs"][0]):
        assert walk.what == boot_walk.LOCAL


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("k.b00", b"x", "has the name of a file of the medium"),
        ("a b.v00", b"x", "cannot be the name of a module"),
        ("..v00", b"x", "cannot be the name of a module"),
        ("driver.v00", b"", "has 0 bytes"),
        ("driver.vib", None, "is a VIB"),
    ],
)
def test_what_cannot_be_a_module_is_refused(server, medium, tmp_path, name, contents, reason):
    path = tmp_path / name
    if contents is None:
        make_vib(path, Package("net-example"))
    else:
        path.write_bytes(contents)
    before = server.contents()
    with pytest.raises(ImageError, match=reason):
        server.images().present(NAME, str(medium), add_modules=[str(path)])
    assert server.contents() == before


def test_modules_are_looked_for_where_they_are_said_to_be(tmp_path, driver):
    for paths, reason in (
        (["relative.v00"], "absolute paths"),
        ([str(tmp_path / "none.v00")], "does not exist on the PXE server"),
        ([str(driver), str(driver)], "two files named raidctl.v00"),
        ([str(tmp_path)], "no plain file|cannot be the name"),
        ([f"/x/{number}.v00" for number in range(65)], "at most 64"),
    ):
        with pytest.raises(ImageError, match=reason):
            look_at_modules(paths, [])
