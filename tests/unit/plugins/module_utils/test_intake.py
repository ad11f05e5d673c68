# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What images and depots have in common: one at a time, whole or not at all, and room for it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _intake
from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import ImageError
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import load_image
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import Intake, file_sum, seal
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer, Killed
from pxelab.medium import make_tree

NAME = "esxi-8.0.3"


@pytest.fixture
def server(tmp_path):
    return ImageServer(tmp_path / "server")


@pytest.fixture
def medium(tmp_path):
    return make_tree(tmp_path / "medium", module_size=64)


def sums(top):
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in top.rglob("*")
        if path.is_file() and path.name != "boot.cfg"
    }


def test_what_is_sealed_is_for_all_to_read_and_its_sums_are_known(tmp_path):
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True, mode=0o700)
    (tree / "below/file").write_bytes(b"abc")
    (tree / "below/file").chmod(0o600)
    assert seal(tree) == {"below/file": (3, hashlib.sha256(b"abc").hexdigest())}
    assert file_sum(tree / "below/file") == hashlib.sha256(b"abc").hexdigest()
    assert (tree / "below").stat().st_mode & 0o777 == 0o755
    assert (tree / "below/file").stat().st_mode & 0o777 == 0o644


def test_a_tree_changes_places_with_the_one_before(tmp_path):
    intake = Intake(tmp_path, error=ImageError)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    intake.put_in_place("old", tmp_path / "new")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["old"], "the old one waits to be removed"
    (tmp_path / "link").symlink_to("/etc")
    intake.put_in_place("link", tmp_path / "old")
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["new"]


def test_a_file_system_that_cannot_exchange_is_told_from_one_that_is_broken(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError):
        _intake._exchange(tmp_path / "one", tmp_path / "none")
    monkeypatch.setattr(_intake.ctypes, "get_errno", lambda: errno.EINVAL)
    assert not _intake._exchange(tmp_path / "one", tmp_path / "none")
    monkeypatch.setattr(_intake.ctypes, "CDLL", lambda *a, **k: object())
    assert not _intake._exchange(tmp_path / "one", tmp_path / "one")


def test_what_a_killed_import_still_writes_is_waited_for(server, monkeypatch):
    """Its bsdtar goes on for a moment: the folder fills up again while it is being removed."""
    left = server.layout.boot_root / "images/.importing.x"
    left.mkdir()
    real, calls = shutil.rmtree, []

    def rmtree(path):
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        real(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    server.images().refreshed()
    assert server.hidden() == []
    left.mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda path: (nothing for nothing in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        server.images().refreshed()


def test_where_folders_cannot_be_exchanged_a_killed_replacement_leaves_the_old_one(
    server, medium, tmp_path, monkeypatch
):
    server.images().present(NAME, str(medium))
    other = make_tree(tmp_path / "other", version="9.0.0")
    real = os.rename
    monkeypatch.setattr(_intake, "_exchange", lambda one, other: False)

    def rename(source, target, **options):
        if str(target) == str(server.layout.boot_root / "images" / NAME):
            raise Killed
        real(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        patch.setattr(Intake, "clean_up", lambda self: None)
        with pytest.raises(Killed):
            server.images().present(NAME, str(other), replace_other=True)
    assert not (server.layout.boot_root / "images" / NAME).exists()
    server.images().refreshed()
    assert sums(server.layout.boot_root / "images" / NAME) == sums(medium)
    assert server.hidden() == []
    assert server.images().present(NAME, str(other)).changed
    assert sums(server.layout.boot_root / "images" / NAME) == sums(other)


class Free:
    """Stands for what statvfs says."""

    f_frsize, f_files = 4096, 10**6

    def __init__(self, size=10**12, files=10**6):
        self.f_bavail, self.f_favail = size // 4096, files


@pytest.mark.parametrize(
    ("free", "reason"),
    [
        (
            Free(size=10**6),
            r"needs 1 MiB below .*/images, and 64 MiB are to stay free, but only 0 MiB are free: make room",
        ),
        (Free(files=1010), r"needs \d+ files \(inodes\) below .*, and 1000 are to stay free, but only 1010 are free"),
    ],
    ids=["bytes", "inodes"],
)
def test_a_full_disk_is_noticed_before(server, medium, monkeypatch, free, reason):
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    with pytest.raises(ImageError, match=reason):
        server.images().present(NAME, str(medium))
    assert server.hidden() == []


def test_a_file_system_that_counts_no_inodes_has_enough(server, medium, monkeypatch):
    none = Free(files=0)
    none.f_files = 0
    monkeypatch.setattr(os, "statvfs", lambda path: none)
    assert server.images().present(NAME, str(medium)).changed


def test_a_disk_that_fills_up_while_copying_leaves_nothing(server, medium, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageError, match="the disk filled up .* nothing of it is left"):
        server.images().present(NAME, str(medium))
    assert server.hidden() == []
    assert load_image(server.layout, NAME) is None


def test_only_one_import_runs_at_a_time(server, medium, monkeypatch):
    monkeypatch.setattr(_intake.time, "sleep", lambda seconds: released.set())
    released = threading.Event()
    folder = os.open(server.layout.boot_root / "images", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    done = threading.Thread(target=server.images().present, args=(NAME, str(medium)))
    done.start()
    assert released.wait(5), "the second import did not wait"
    assert not (server.layout.boot_root / "images" / NAME).exists()
    os.close(folder)
    done.join(10)
    assert load_image(server.layout, NAME) is not None


def test_waiting_for_another_import_ends(server):
    folder = os.open(server.layout.boot_root / "images", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    other = os.open(server.layout.boot_root / "images", os.O_RDONLY)
    try:
        with pytest.raises(ImageError, match="another import has held"):
            Intake(server.layout.boot_root / "images", error=ImageError)._flock(other, timeout=0)
    finally:
        os.close(folder)
        os.close(other)


def test_a_server_that_was_not_set_up_is_told_so(server, medium):
    shutil.rmtree(server.layout.boot_root / "images")
    with pytest.raises(ImageError, match="run the role pxe_server"):
        server.images().present(NAME, str(medium))
