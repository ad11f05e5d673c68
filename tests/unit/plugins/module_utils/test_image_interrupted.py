# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports, replacements, repairs and removals, killed anywhere and done by several at once."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _batch, _image_import, _intake, _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import ImageError
from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import DepotError
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import damage_of, survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import load_image
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer, dying
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition
from pxelab.depot import Package, make_bundle
from pxelab.medium import make_iso, make_tree

# A long campaign: IMAGE_KILLS=500 pytest -k kill_nine.
KILLS = int(os.environ.get("IMAGE_KILLS", "6"))

NAME = "esxi-8.0.3"
OTHER = "9.0.0"
HOST = "esx01.example.com"

needs_iso_tools = pytest.mark.skipif(
    shutil.which("xorriso") is None or shutil.which("bsdtar") is None, reason="needs xorriso and bsdtar"
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    # A killed process loses nothing that it wrote; only a power failure does, which no test here can show.
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    for module in (_store, _batch):
        monkeypatch.setattr(module, "sync_filesystem", lambda fd: None)


@pytest.fixture
def media(tmp_path):
    make_tree(tmp_path / "first", module_size=64, modules=2)
    make_tree(tmp_path / "other", version=OTHER, module_size=64, modules=2)
    make_tree(tmp_path / "old", version="7.0.3", module_size=64, modules=2)
    for medium in ("first", "other", "old"):
        for file in ("menu.c32", "isolinux.bin", "isolinux.cfg", "upgrade/metadata.xml"):
            (tmp_path / medium / file).unlink()
    return tmp_path


def safe(server):
    """What must be true whenever a process was killed: nobody is given half an image, or an mboot that installs."""
    image = load_image(server.layout, NAME)
    if image is not None:
        assert damage_of(server.layout, image, verify=True) == []
    mboot = server.root / "boot/mboot.efi"
    if mboot.is_symlink() and mboot.exists():
        assert b"skip\0" in mboot.read_bytes(), "a machine that is to boot its disk would be given an installer"
    for path in server.layout.images_dir.iterdir():
        if path.name.startswith(".importing."):
            assert path.stat().st_mode & 0o777 == 0o700, "an import under way must not be readable for the services"


def first(server, media):
    server.images().present(NAME, str(media / "first"))


def damaged(server, media):
    first(server, media)
    (server.layout.image_dir(NAME) / "b.b00").write_bytes(b"other")


JOBS = {
    "import": (lambda server, media: None, lambda store, media: store.present(NAME, str(media / "first")), "8.0.3"),
    "replace": (
        first,
        lambda store, media: store.present(NAME, str(media / "other"), replace_other=True),
        OTHER,
    ),
    "replace-by-old": (
        first,
        lambda store, media: store.present(NAME, str(media / "old"), replace_other=True),
        "7.0.3",
    ),
    "repair": (damaged, lambda store, media: store.present(NAME, str(media / "first")), "8.0.3"),
    "remove": (first, lambda store, media: store.absent(NAME), None),
}


@pytest.mark.parametrize(
    ("job", "exchange"), [*((job, True) for job in JOBS), ("replace", False)], ids=[*JOBS, "replace-by-two-renames"]
)
def test_killed_at_any_operation_nothing_half_is_served_and_a_rerun_finishes(
    tmp_path, media, monkeypatch, job, exchange
):
    prepare, act, version = JOBS[job]
    if not exchange:
        monkeypatch.setattr(_intake, "_exchange", lambda one, other: False)
    last = 0
    while True:
        last += 1
        server = ImageServer(tmp_path / f"server{last}")
        prepare(server, media)
        with dying(monkeypatch, last, before=bool(last % 2)) as fake:
            act(server.images(), media)
        if job != "repair" or not fake.dead:
            safe(server)
        server.images().refreshed()
        assert server.hidden() == []
        if job != "repair":
            safe(server)
        act(server.images(), media)
        image = load_image(server.layout, NAME)
        assert (image.version if image else None) == version
        safe(server)
        assert survey(server.layout).undescribed == []
        shutil.rmtree(server.root)
        if not fake.dead:
            break
    assert last > (6 if job == "remove" else 20), "too few operations were counted to believe this"


@needs_iso_tools
def test_kill_nine_at_random_moments(tmp_path, media, seed=2026):
    """The real thing: a process of its own, its bsdtar with it, killed by the kernel."""
    medium = make_tree(tmp_path / "large", module_size=200_000, modules=20)
    iso = make_iso(medium, tmp_path / "esxi.iso")
    server = ImageServer(tmp_path / "server")
    context = multiprocessing.get_context("fork")
    chance = random.Random(seed)
    begun = time.monotonic()
    server.images().present(NAME, str(iso))
    whole = time.monotonic() - begun
    killed = 0
    for turn in range(KILLS):
        server.images().absent(NAME)
        worker = context.Process(target=server.images().present, args=(NAME, str(iso)))
        worker.start()
        time.sleep(chance.uniform(0, whole))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        killed += worker.exitcode == -signal.SIGKILL
        safe(server)
        if turn % 2:
            server.images().refreshed()
            assert server.hidden() == []
        server.images().present(NAME, str(iso))
        image = load_image(server.layout, NAME)
        assert damage_of(server.layout, image, verify=True) == []
    assert killed > KILLS // 4


def test_two_imports_of_one_name_at_once_are_one(tmp_path, media):
    server = ImageServer(tmp_path / "server")
    outcomes = []

    def work():
        outcomes.append(server.images().present(NAME, str(media / "first")).changed)

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == [False, False, False, True]
    assert server.hidden() == []


def test_a_file_of_an_image_is_never_missing_while_it_is_replaced(tmp_path, media):
    """Machines read from the old one meanwhile."""
    server = ImageServer(tmp_path / "server")
    first(server, media)
    kernel = server.layout.image_dir(NAME) / "b.b00"
    missing, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                kernel.read_bytes()
            except FileNotFoundError:
                missing.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(10):
        server.images().present(NAME, str(media / ("other" if turn % 2 == 0 else "first")), replace_other=True)
    stop.set()
    reader.join(10)
    assert not missing


def test_a_host_that_is_armed_while_its_image_is_imported_anew_keeps_the_old_one(tmp_path, media, monkeypatch):
    server = ImageServer(tmp_path / "server")
    first(server, media)
    server.publish(HOST, NAME)
    real = _image_import.seal

    def seal(tree):
        server.publish(HOST, NAME, mode="install")
        return real(tree)

    monkeypatch.setattr(_image_import, "seal", seal)
    with pytest.raises(ImageError, match=rf"cannot be replaced while {HOST} may be reading it"):
        server.images().present(NAME, str(media / "other"), replace_other=True)
    assert load_image(server.layout, NAME).version == "8.0.3"
    safe(server)
    assert server.hidden() == []


def test_files_that_nobody_describes_are_not_replaced_under_an_armed_host(tmp_path, media):
    server = ImageServer(tmp_path / "server")
    first(server, media)
    server.layout.description(NAME).write_text("{")
    server.publish(HOST, NAME, mode="install")
    before = server.contents()
    with pytest.raises(ImageError, match="may be reading it"):
        server.images().present(NAME, str(media / "other"))
    assert server.contents() == before
    server.publish(HOST, NAME)
    assert server.images().present(NAME, str(media / "other")).changed


def test_a_damaged_image_is_mended_under_armed_hosts(tmp_path, media):
    server = ImageServer(tmp_path / "server")
    damaged(server, media)
    server.publish(HOST, NAME, mode="install")
    assert server.images().present(NAME, str(media / "first")).changed
    safe(server)


@pytest.mark.parametrize("turn", range(8))
def test_no_host_is_armed_with_an_image_that_goes_at_that_moment(tmp_path, media, turn):
    server = PxeServer(tmp_path / "server", image=False)
    host = definition(1)
    server.write_kickstarts(host)
    images = _image_import.ImageStore(server.config, run=lambda argv: (1, "", "nothing to run"))
    server.layout.images_dir.mkdir(exist_ok=True)
    server.layout.descriptions_dir.mkdir(exist_ok=True)
    images.present(NAME, str(media / "first"))
    told = {}
    barrier = threading.Barrier(2)

    def arm():
        barrier.wait()
        time.sleep(turn % 4 / 1000)
        told["armed"] = server.call("armed", host)

    def remove():
        barrier.wait()
        try:
            told["removed"] = images.absent(NAME).changed
        except ImageError as error:
            told["removed"] = str(error)

    threads = [threading.Thread(target=arm), threading.Thread(target=remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    armed = server.mode(host["name"]) == "install"
    there = load_image(server.layout, NAME) is not None
    assert armed == there, told
    assert (told["removed"] is True) == (not there)


# Disks that fill up.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, for real."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=300", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def blind(monkeypatch):
    """Nothing is noticed before."""
    for module in ("_image_import", "_depots"):
        monkeypatch.setattr(
            f"ansible_collections.pxemanager.esxi.plugins.module_utils.{module}.check_space", lambda *a, **k: None
        )


@pytest.mark.parametrize("kind", ["folder", "iso", "depot", "inodes"])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(small_disk, tmp_path, blind, kind):
    server = ImageServer(small_disk / "server")
    small = make_tree(tmp_path / "small-medium", module_size=64, modules=4)
    server.images().present("small", str(small))
    before = server.contents()
    large = make_tree(tmp_path / "large", module_size=300_000 if kind != "inodes" else 1, modules=16)
    if kind == "inodes":
        for number in range(300):
            (large / f"f{number}.v00").write_text("")
    with pytest.raises((ImageError, DepotError), match=r"the disk filled up .* nothing of it is left; make room"):
        if kind == "depot":
            packages = [Package(f"drv{number}", size=300_000) for number in range(10)]
            server.depots().present("drivers", str(make_bundle(tmp_path / "bundle.zip", packages)))
        elif kind == "iso":
            server.images().present("large", str(make_iso(large, tmp_path / "large.iso")))
        else:
            server.images().present("large", str(large))
    assert server.contents() == before
    assert server.hidden() == []
    small_again = server.images().present("small", str(small))
    assert not small_again.changed


def test_too_little_room_is_told_before_anything_is_written(small_disk, tmp_path):
    server = ImageServer(small_disk / "server")
    before = server.contents()
    medium = make_tree(tmp_path / "medium")
    bundle = make_bundle(tmp_path / "bundle.zip", [Package("net-example")])
    with pytest.raises(ImageError, match=r"needs 1 MiB below .* 64 MiB are to stay free, but only \d MiB are free"):
        server.images().present(NAME, str(medium))
    with pytest.raises(DepotError, match=r"needs 1 MiB below .* 64 MiB are to stay free, but only \d MiB are free"):
        server.depots().present("drivers", str(bundle))
    assert server.contents() == before


def test_a_disk_that_breaks_is_no_full_disk(tmp_path, media, monkeypatch):
    def broken(fd):
        raise OSError(errno.EIO, "Input/output error")

    server = ImageServer(tmp_path / "server")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        server.images().present(NAME, str(media / "first"))
