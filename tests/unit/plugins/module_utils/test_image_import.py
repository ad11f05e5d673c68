# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports of real files on a real disk; the ISO files are made by xorriso and unpacked by bsdtar."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _image_medium
from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    ImageError,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_import import ImageStore
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    BiosLoader,
    load_image,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, LayoutError
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import Dhcp, default_config
from pxelab.medium import make_iso, make_tree

NAME = "esxi-8.0.3"

needs_iso_tools = pytest.mark.skipif(
    shutil.which("xorriso") is None or shutil.which("bsdtar") is None, reason="needs xorriso and bsdtar"
)


def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def never(argv):
    raise AssertionError(f"nothing should have been run: {argv}")


class Server:
    """A PXE server's folders below a temporary one."""

    def __init__(self, root):
        self.config = dataclasses.replace(
            default_config(),
            boot_root=str(root / "boot"),
            state_root=str(root / "state"),
            dhcp=Dhcp(hosts_dir=str(root / "state/dhcp-hosts")),
        )
        self.layout = Layout.of(self.config)
        self.boot, self.state = root / "boot", root / "state"
        for folder in ("images", "hosts", "http", "ipxe", "pxelinux.cfg"):
            (self.boot / folder).mkdir(parents=True)
        for folder in ("images", "hosts", "locks", "status"):
            (self.state / folder).mkdir(parents=True)

    def store(self, runner=run, **options):
        return ImageStore(self.config, run=runner, **options)

    def snapshot(self):
        """Everything on this server: path to what it is."""
        found = {}
        for top in (self.boot, self.state):
            for path in [top, *sorted(top.rglob("*"))]:
                info = path.lstat()
                kind = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
                found[str(path)] = (kind, info.st_mode, info.st_mtime_ns)
        return found

    def publish(self, host, image, mode="local"):
        (self.state / f"hosts/{host}.json").write_text(json.dumps({"schema": 1, "name": host, "image": image}))
        (self.boot / f"hosts/{host}").mkdir()
        (self.boot / f"hosts/{host}/boot").symlink_to(mode)

    def leftovers(self):
        return [path.name for path in (self.boot / "images").iterdir() if path.name.startswith(".")]


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "server")


@pytest.fixture
def medium(tmp_path):
    return make_tree(tmp_path / "medium", module_size=64)


@pytest.fixture
def iso(tmp_path, medium):
    return make_iso(medium, tmp_path / "esxi.iso")


def sums(top):
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in top.rglob("*")
        if path.is_file() and path.name != "boot.cfg"
    }


# The ordinary way.


@needs_iso_tools
def test_an_iso_is_imported_with_lower_case_names_and_its_very_contents(server, medium, iso):
    assert b"B.B00" in iso.read_bytes(), "the medium is to have upper-case names"
    outcome = server.store().present(NAME, str(iso))
    assert (outcome.changed, outcome.warnings) == (True, [])
    assert "was imported (build 8.0.3-0.0.24022510)" in outcome.msg
    tree = server.boot / "images" / NAME
    assert sums(tree) == sums(medium)
    assert outcome.image == load_image(server.layout, NAME)
    assert outcome.image.sha256 == hashlib.sha256(iso.read_bytes()).hexdigest()
    assert outcome.image.source.kind == "iso"
    assert (outcome.image.bios.path, outcome.image.uefi.path) == ("mboot.c32", "efi/boot/bootx64.efi")
    assert outcome.image.files == sum(1 for path in tree.rglob("*") if path.is_file())
    assert outcome.image.bytes == sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    for path in [tree, *tree.rglob("*")]:
        assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path
    assert server.leftovers() == []


def test_a_folder_is_imported(server, medium):
    outcome = server.store(never).present(NAME, str(medium))
    assert outcome.changed
    assert sums(server.boot / "images" / NAME) == sums(medium)
    assert outcome.image.source.kind == "folder"
    assert outcome.image.modules[0] == "jumpstrt.gz"
    assert outcome.image.modules[-1] == "imgpayld.tgz"


def test_both_boot_cfgs_get_the_form_for_the_network(server, medium):
    server.store(never).present(NAME, str(medium))
    for path in ("boot.cfg", "efi/boot/boot.cfg"):
        text = (server.boot / "images" / NAME / path).read_text()
        assert f"prefix=/images/{NAME}/\nkernel=b.b00\nkernelopt=runweasel\nmodules=jumpstrt.gz --- " in text


def test_the_loaders_and_local_boot_are_put_in_place(server, medium):
    server.store(never).present(NAME, str(medium))
    boot = server.boot
    assert os.readlink(boot / "mboot.efi") == f"images/{NAME}/efi/boot/bootx64.efi"
    assert (boot / "http/mboot.efi").read_bytes() == (medium / "efi/boot/bootx64.efi").read_bytes()
    assert (boot / "http/crypto64.efi").read_bytes() == (medium / "efi/boot/crypto64.efi").read_bytes()
    assert "skip=1" in (boot / "boot.cfg").read_text()
    assert "LOCALBOOT 0" in (boot / "pxelinux.cfg/default").read_text()


@needs_iso_tools
@pytest.mark.parametrize("kind", ["iso", "folder"])
def test_a_second_run_changes_and_reads_nothing(server, medium, iso, kind, monkeypatch):
    src = str(iso if kind == "iso" else medium)
    first = server.store().present(NAME, src)
    before = server.snapshot()
    monkeypatch.setattr(_image_medium, "sum_of", never)
    second = server.store(never).present(NAME, src)
    assert (first.changed, second.changed) == (True, False)
    assert server.snapshot() == before
    assert (second.before, second.after) == ("", "")


@needs_iso_tools
@pytest.mark.parametrize("kind", ["iso", "folder"])
def test_check_mode_says_what_would_be_done_and_writes_nothing(server, medium, iso, kind):
    src = str(iso if kind == "iso" else medium)
    before = server.snapshot()
    outcome = server.store(never, check_mode=True).present(NAME, src)
    assert outcome.changed
    assert "would be imported" in outcome.msg
    assert server.snapshot() == before
    server.store().present(NAME, src)
    before = server.snapshot()
    assert not server.store(never, check_mode=True).present(NAME, src).changed
    assert server.store(never, check_mode=True).absent(NAME).changed
    assert server.snapshot() == before


def test_a_copy_of_the_same_medium_elsewhere_is_the_same_image(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    imported = load_image(server.layout, NAME)
    shutil.copytree(medium, tmp_path / "copy")
    outcome = server.store(never).present(NAME, str(tmp_path / "copy"))
    assert not outcome.changed
    noted = load_image(server.layout, NAME)
    assert noted.source.path == str(tmp_path / "copy")
    assert dataclasses.replace(noted, source=imported.source) == imported


def test_a_source_that_is_gone_is_no_trouble_once_it_is_imported(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    shutil.rmtree(medium)
    outcome = server.store(never).present(NAME, str(medium))
    assert not outcome.changed
    assert "is gone" in outcome.msg
    with pytest.raises(ImageError, match="does not exist on the PXE server"):
        server.store(never).present(NAME, str(tmp_path / "typo"))
    with pytest.raises(ImageError, match="does not exist on the PXE server"):
        server.store(never).present("other", str(medium))


# Other contents under the same name.


def test_other_contents_need_a_name_of_their_own(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    before = server.snapshot()
    other = make_tree(tmp_path / "other", version="8.0.1")
    with pytest.raises(ImageError, match=r"imported from .*8.0.3-0.0.24022510.* has other contents"):
        server.store(never).present(NAME, str(other))
    assert server.snapshot() == before


def test_one_changed_byte_is_other_contents(server, medium):
    server.store(never).present(NAME, str(medium))
    data = bytearray((medium / "k.b00").read_bytes())
    data[0] ^= 1
    (medium / "k.b00").write_bytes(bytes(data))
    with pytest.raises(ImageError, match="has other contents"):
        server.store(never).present(NAME, str(medium))


def test_an_image_is_replaced_when_that_is_asked_for(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    server.publish("esx01.example.com", NAME)
    other = make_tree(tmp_path / "other", version="9.0.0")
    outcome = server.store(never).present(NAME, str(other), replace_other=True)
    assert outcome.changed
    assert "was replaced" in outcome.msg
    assert sums(server.boot / "images" / NAME) == sums(other)
    assert load_image(server.layout, NAME).version == "9.0.0"
    assert server.leftovers() == []


def test_no_image_is_replaced_under_an_armed_host(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    server.publish("esx01.example.com", NAME, mode="install")
    other = make_tree(tmp_path / "other", version="9.0.0")
    before = server.snapshot()
    with pytest.raises(ImageError, match=r"while esx01\.example\.com may be reading it"):
        server.store(never).present(NAME, str(other), replace_other=True)
    assert server.snapshot() == before


# Repair.


@pytest.mark.parametrize("damage", ["module", "tree", "description", "extra"])
def test_a_damaged_image_is_repaired(server, medium, damage):
    server.store(never).present(NAME, str(medium))
    tree = server.boot / "images" / NAME
    if damage == "module":
        (tree / "k.b00").write_bytes(b"")
    elif damage == "extra":
        (tree / "01-00-50-56-aa-bb-01").symlink_to("/etc")
    elif damage == "tree":
        shutil.rmtree(tree)
    else:
        server.layout.description(NAME).write_text("{")
    outcome = server.store(never).present(NAME, str(medium))
    assert outcome.changed
    assert sums(tree) == sums(medium)
    assert not (tree / "01-00-50-56-aa-bb-01").is_symlink()
    assert not server.store(never).present(NAME, str(medium)).changed


# Checksums.


@needs_iso_tools
def test_a_checksum_is_checked_before_anything_is_unpacked(server, iso):
    right = hashlib.sha256(iso.read_bytes()).hexdigest()
    wrong = "0" * 64
    before = server.snapshot()
    with pytest.raises(ImageError, match=f"has the SHA-256 sum {right}, not {wrong}"):
        server.store(never).present(NAME, str(iso), checksum=wrong)
    assert server.snapshot() == before
    assert server.store().present(NAME, str(iso), checksum=right.upper()).changed
    assert not server.store(never).present(NAME, str(iso), checksum=right).changed
    with pytest.raises(ImageError, match="has the SHA-256 sum"):
        server.store(never).present(NAME, str(iso), checksum=wrong)
    iso.unlink()
    with pytest.raises(ImageError, match="has the SHA-256 sum"):
        server.store(never).present(NAME, str(iso), checksum=wrong)


def test_a_folder_has_no_checksum(server, medium):
    with pytest.raises(ImageError, match="is a folder"):
        server.store(never).present(NAME, str(medium), checksum="0" * 64)


# What is no medium.


def test_what_is_no_medium_is_refused(server, tmp_path):
    (tmp_path / "text").write_text("no ISO")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    for src, reason in (
        (tmp_path / "text", "is not an ISO file"),
        (tmp_path / "pipe", "neither an ISO file nor a folder"),
        (tmp_path / "empty", "no boot.cfg"),
        (Path("relative"), "absolute path"),
    ):
        with pytest.raises(ImageError, match=reason):
            server.store(never).present(NAME, str(src))
    assert server.leftovers() == []
    assert load_image(server.layout, NAME) is None


@needs_iso_tools
def test_an_iso_that_was_cut_off_is_refused(server, tmp_path):
    iso = make_iso(make_tree(tmp_path / "large", module_size=100_000), tmp_path / "esxi.iso")
    os.truncate(iso, iso.stat().st_size // 2)
    with pytest.raises(ImageError, match="esxi.iso"):
        server.store().present(NAME, str(iso))
    assert server.leftovers() == []
    assert not (server.boot / "images" / NAME).exists()


def test_an_unpacker_that_fails_is_told_in_its_own_words(server, tmp_path):
    iso = tmp_path / "esxi.iso"
    iso.write_bytes(b"\0" * (16 * 2048 + 1) + b"CD001")
    with pytest.raises(ImageError, match=r"cannot read .*: bsdtar: odd \(exit code 3\)"):
        server.store(lambda argv: (3, "", "bsdtar: odd\nmore\n")).present(NAME, str(iso))
    assert server.leftovers() == []


def test_a_medium_without_a_module_is_refused(server, medium):
    (medium / "k.b00").unlink()
    with pytest.raises(ImageError, match=r"does not have \(k.b00\): it is incomplete"):
        server.store(never).present(NAME, str(medium))
    assert server.leftovers() == []


@pytest.mark.parametrize("name", ["..", "../evil", "/abs", ".hidden", "a/b", ""])
def test_a_name_with_path_tricks_is_refused(server, medium, name):
    before = server.snapshot()
    for act in (lambda: server.store(never).present(name, str(medium)), lambda: server.store(never).absent(name)):
        with pytest.raises((ImageError, LayoutError)):
            act()
    assert server.snapshot() == before


# Hostile media.


def hostile_link_out(medium):
    (medium / "k.b00").unlink()
    (medium / "k.b00").symlink_to("/etc/passwd")


def hostile_link_inside(medium):
    (medium / "again.b00").symlink_to("b.b00")


def hostile_folder_link(medium):
    (medium / "drivers").symlink_to("/etc")


def hostile_pipe(medium):
    os.mkfifo(medium / "pipe")


def hostile_hidden(medium):
    (medium / ".htaccess").write_text("")


def hostile_case(medium):
    (medium / "B.B00").write_text("another")


def hostile_mac_folder(medium):
    (medium / "01-00-50-56-aa-bb-01").mkdir()
    (medium / "01-00-50-56-aa-bb-01/boot.cfg").write_text("")


def hostile_depth(medium):
    (medium / "/".join("abcdefghijkl")).mkdir(parents=True)


def hostile_name(medium):
    (medium / "a\nb").write_text("")


def hostile_boot_cfg(medium):
    (medium / "boot.cfg").write_text((medium / "boot.cfg").read_text().replace("/k.b00", "/../../../etc/passwd"))


HOSTILE = [value for name, value in sorted(globals().items()) if name.startswith("hostile_")]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_folder_is_refused_and_leaves_nothing(server, medium, make):
    make(medium)
    before = {path: what for path, what in server.snapshot().items() if "/locks" not in path}
    with pytest.raises(ImageError):
        server.store(never).present(NAME, str(medium))
    after = {path: what for path, what in server.snapshot().items() if "/locks" not in path}
    assert before.keys() == after.keys()
    assert load_image(server.layout, NAME) is None


def test_what_an_unpacker_leaves_is_not_trusted(server, tmp_path):
    """Whatever bsdtar may do one day: a hard link to a file of the server is copied, never moved or changed."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)

    def unpack(argv):
        if "-c" in argv:
            return 0, "#mtree\n. type=dir\n./linked type=file size=6\n", ""
        raw = Path(argv[argv.index("-C") + 1])
        make_tree(raw.parent / "made", module_size=64)
        for path in (raw.parent / "made").iterdir():
            path.rename(raw / path.name)
        os.link(secret, raw / "linked")
        return 0, "", ""

    iso = tmp_path / "esxi.iso"
    iso.write_bytes(b"\0" * (16 * 2048 + 1) + b"CD001")
    with pytest.raises(ImageError, match="is linked to something outside the medium"):
        server.store(unpack).present(NAME, str(iso))
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_nlink == 1


@needs_iso_tools
def test_files_with_shared_contents_are_imported_as_files_of_their_own(server, medium, tmp_path):
    (medium / "twin.b00").hardlink_to(medium / "k.b00")
    iso = make_iso(medium, tmp_path / "twins.iso", rock_ridge=True)
    server.store().present(NAME, str(iso))
    tree = server.boot / "images" / NAME
    assert (tree / "twin.b00").read_bytes() == (medium / "k.b00").read_bytes()
    assert (tree / "twin.b00").stat().st_nlink == 1


# Interruptions.


class Killed(BaseException):
    pass


# Several images, removal.


def test_the_newest_image_supplies_the_loaders_and_an_old_one_never_does(server, tmp_path):
    def loader():
        path = server.boot / "mboot.efi"
        return os.readlink(path).split("/")[1] if path.is_symlink() else None

    def add(version):
        server.store(never).present(version, str(make_tree(tmp_path / version, version=version, module_size=16)))

    add("7.0.3")
    assert loader() is None
    add("8.0.1")
    assert loader() == "8.0.1"
    add("8.0.3")
    assert loader() == "8.0.3"
    server.store(never).absent("8.0.3")
    assert loader() == "8.0.1"
    server.store(never).absent("8.0.1")
    assert loader() is None
    assert not (server.boot / "http/mboot.efi").is_symlink()
    assert (server.boot / "boot.cfg").exists()


def test_an_image_is_removed_with_everything_of_it(server, medium):
    server.store(never).present(NAME, str(medium))
    outcome = server.store(never).absent(NAME)
    assert outcome.changed
    assert outcome.image is None
    assert "b.b00" in outcome.before
    assert not (server.boot / "images" / NAME).exists()
    assert load_image(server.layout, NAME) is None
    before = server.snapshot()
    again = server.store(never).absent(NAME)
    assert not again.changed
    assert server.snapshot() == before


def test_an_image_that_hosts_use_stays(server, medium):
    server.store(never).present(NAME, str(medium))
    for number in range(7):
        server.publish(f"esx{number}.example.com", NAME)
    server.publish("esx9.example.com", "another")
    before = server.snapshot()
    with pytest.raises(ImageError) as caught:
        server.store(never).absent(NAME)
    assert "esx0.example.com, esx1.example.com" in str(caught.value)
    assert "and 2 more hosts" in str(caught.value)
    assert "esx9" not in str(caught.value)
    assert {path: what for path, what in server.snapshot().items() if "/locks" not in path} == {
        path: what for path, what in before.items() if "/locks" not in path
    }


def test_what_a_tampered_tree_holds_is_removed_without_following_links(server, medium, tmp_path):
    server.store(never).present(NAME, str(medium))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    tree = server.boot / "images" / NAME
    shutil.rmtree(tree)
    tree.symlink_to(outside)
    server.store(never).absent(NAME)
    assert (outside / "file").read_text() == "stays"
    assert not tree.is_symlink()


# Odds and ends.


def test_refreshing_mends_defaults_and_loaders_and_nothing_else(server, medium):
    store = server.store(never)
    assert store.refreshed().changed
    assert not store.refreshed().changed
    store.present(NAME, str(medium))
    (server.boot / "boot.cfg").write_text("kernel=/b.b00\n")
    (server.boot / "mboot.efi").unlink()
    outcome = store.refreshed()
    assert outcome.changed
    assert "skip=1" in (server.boot / "boot.cfg").read_text()
    assert (server.boot / "mboot.efi").exists()
    assert "boot.cfg" in outcome.after


def test_a_custom_medium_with_a_kickstart_built_in_warns(server, medium):
    for path in ("boot.cfg", "efi/boot/boot.cfg"):
        text = (medium / path).read_text().replace("cdromBoot", "ks=cdrom:/KS.CFG")
        (medium / path).write_text(text)
    outcome = server.store(never).present(NAME, str(medium))
    assert len(outcome.warnings) == 1
    assert "ks=cdrom:/KS.CFG" in outcome.warnings[0]
    assert "ks=" not in (server.boot / "images" / NAME / "boot.cfg").read_text()


def test_boot_cfgs_that_differ_warn(server, medium):
    path = medium / "efi/boot/boot.cfg"
    path.write_text(path.read_text().replace(" --- /k.b00", ""))
    outcome = server.store(never).present(NAME, str(medium))
    assert "differ" in outcome.warnings[0]
    assert "k.b00" in outcome.image.modules


def test_a_medium_for_one_firmware_only(server, tmp_path):
    outcome = server.store(never).present("a", str(make_tree(tmp_path / "a", uefi=False)))
    assert (outcome.image.uefi, outcome.image.bios.kind) == (None, "mboot.c32")
    assert not (server.boot / "mboot.efi").is_symlink()
    outcome = server.store(never).present("b", str(make_tree(tmp_path / "b", bios=False)))
    assert (outcome.image.bios, outcome.image.uefi.kind) == (None, "mboot")


def test_a_linux_loader_is_part_of_the_image(server, medium):
    linux = BiosLoader(kind="linux", kernel="b.b00", initrd="k.b00", append="quiet")
    store = server.store(never)
    assert store.present(NAME, str(medium), linux=linux).image.bios == linux
    assert not store.present(NAME, str(medium), linux=linux).changed
    other = dataclasses.replace(linux, append="verbose")
    assert store.present(NAME, str(medium), linux=other).image.bios == other


def test_an_unusable_description_is_warned_about(server):
    (server.state / "images/broken.json").write_text("[]")
    outcome = server.store(never).refreshed()
    assert any("broken.json" in warning for warning in outcome.warnings)
