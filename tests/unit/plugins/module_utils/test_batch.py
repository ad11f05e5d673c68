# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches: what differs is written, in the order that was asked for, and nothing else."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError
from ansible_collections.pxemanager.esxi.tests.support.disk import Recorder, mode_of, snapshot


@pytest.fixture
def recorder(monkeypatch):
    return Recorder.in_place(monkeypatch)


def fill(root, text="new"):
    batch = Batch()
    batch.folder(root / "a", tag="x")
    batch.folder(root / "a/b", tag="x")
    batch.write(root / "a/f", text, tag="x")
    batch.write(root / "a/b/g", text, 0o640, tag="y")
    batch.link(root / "a/l", "b/g", tag="y")
    return batch


def test_a_batch_writes_what_is_missing_and_then_nothing_more(tmp_path):
    changes = fill(tmp_path).commit()
    assert [(change.tag, pathlib.Path(change.path).name, change.before, change.after) for change in changes] == [
        ("x", "a", None, ""),
        ("x", "b", None, ""),
        ("x", "f", None, "new"),
        ("y", "g", None, "new"),
        ("y", "l", None, "-> b/g"),
    ]
    assert (tmp_path / "a/l").read_text() == "new"
    before = snapshot(tmp_path)
    assert fill(tmp_path).commit() == []
    assert snapshot(tmp_path) == before


def test_only_what_differs_is_written(tmp_path):
    fill(tmp_path).commit()
    (tmp_path / "a/f").write_text("old")
    before = snapshot(tmp_path)
    assert [(change.path, change.before, change.after) for change in fill(tmp_path).commit()] == [
        (str(tmp_path / "a/f"), "old", "new")
    ]
    after = snapshot(tmp_path)
    assert {path for path in after if before[path] != after[path]} == {str(tmp_path / "a"), str(tmp_path / "a/f")}


def test_planning_writes_nothing(tmp_path):
    (tmp_path / "other").write_text("x")
    (tmp_path / ".f.1-1.tmp").write_text("left over")
    before = snapshot(tmp_path)
    batch = fill(tmp_path)
    batch.remove(tmp_path / "other")
    batch.write(tmp_path / "f", "x")
    assert len(batch.plan()) == 7
    assert snapshot(tmp_path) == before


def test_permissions_are_put_right(tmp_path):
    fill(tmp_path).commit()
    (tmp_path / "a/b/g").chmod(0o666)
    (tmp_path / "a").chmod(0o700)
    changes = fill(tmp_path).commit()
    assert {change.path for change in changes} == {str(tmp_path / "a") + "/", str(tmp_path / "a/b/g")}
    assert (mode_of(tmp_path / "a/b/g"), mode_of(tmp_path / "a")) == (0o640, 0o755)


def test_a_folder_of_somebody_elses_keeps_its_permissions(tmp_path):
    (tmp_path / "d").mkdir(mode=0o700)
    batch = Batch()
    batch.folder(tmp_path / "d", 0o2775, mend=False)
    assert batch.commit() == []
    assert mode_of(tmp_path / "d") == 0o700


def test_contents_reach_the_disk_before_they_get_their_names(tmp_path, recorder):
    batch = Batch()
    for number in range(20):
        batch.write(tmp_path / f"f{number}", b"x")
    batch.phase = 1
    batch.link(tmp_path / "mode", "install")
    batch.commit()
    kinds = recorder.kinds()
    # All contents, a sync, all names, a sync, only then the link, and a sync.
    expected = ["open"] * 20 + ["syncfs"] + ["rename"] * 20 + ["fsync", "symlink", "fsync"]
    assert kinds == expected


def test_phases_run_in_order_whoever_collected_them_first(tmp_path, recorder):
    one, two = Batch(), Batch()
    one.phase = 1
    one.link(tmp_path / "last", "x")
    two.link(tmp_path / "first", "y")
    together = Batch()
    together.extend(one)
    together.extend(two)
    together.commit()
    assert [call[2] for call in recorder.calls if call[0] == "symlink"] == ["first", "last"]


def test_operations_see_what_earlier_ones_of_the_batch_do(tmp_path):
    (tmp_path / "l").symlink_to("old")
    batch = Batch()
    batch.remove(tmp_path / "l")
    batch.link(tmp_path / "l", "old")
    batch.write(tmp_path / "f", "one")
    batch.write(tmp_path / "f", "two")
    batch.commit()
    assert os.readlink(tmp_path / "l") == "old"
    assert (tmp_path / "f").read_text() == "two"


def test_another_hosts_link_is_left_alone(tmp_path):
    (tmp_path / "l").symlink_to("../hosts/b/x")
    batch = Batch()
    batch.remove(tmp_path / "l", only_to="../hosts/a/x")
    batch.remove(tmp_path / "missing", only_to="../hosts/a/x")
    assert batch.commit() == []
    batch.remove(tmp_path / "l", only_to="../hosts/b/x")
    again = Batch()
    again.remove(tmp_path / "l", only_to="../hosts/b/x")
    assert len(again.commit()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_removed_without_following_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = tmp_path / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "sub/f").write_text("x")
    (tree / ".f.1-1.tmp").write_text("x")
    (tree / "l").symlink_to("../outside")
    (tree / "sub/m").symlink_to("/nowhere")
    batch = Batch()
    batch.remove_tree(tree)
    batch.commit()
    assert not tree.exists()
    assert (outside / "precious").read_text() == "x"


def test_a_folder_with_something_elses_in_it_stays(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    batch = Batch()
    batch.remove_folder(tmp_path / "d")
    batch.commit()
    assert (tmp_path / "d/f").exists()


def test_a_folder_that_is_wanted_elsewhere_in_the_batch_stays(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/l").symlink_to("old")
    batch = Batch()
    batch.remove(tmp_path / "d/l")
    batch.remove_folder(tmp_path / "d")
    batch.folder(tmp_path / "d")
    batch.link(tmp_path / "d/l", "new")
    batch.commit()
    assert os.readlink(tmp_path / "d/l") == "new"


def test_left_overs_of_killed_processes_are_cleared_but_nobody_elses(tmp_path):
    for name in (".mine.1-1.tmp", ".l.2-7.tmp", ".theirs.1-1.tmp", ".old.1-1.tmp", ".config", "plain.tmp", ".mine.txt"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / ".old.1-1.tmp", (1, 1))
    batch = Batch()
    batch.write(tmp_path / "mine", "x")
    batch.link(tmp_path / "l", "x")
    batch.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["mine", "l", ".theirs.1-1.tmp", ".config", "plain.tmp", ".mine.txt"]
    )


def test_left_overs_are_cleared_even_when_nothing_else_is_to_be_done(tmp_path):
    (tmp_path / "mine").write_text("x")
    (tmp_path / ".mine.1-1.tmp").write_text("half")
    batch = Batch()
    batch.write(tmp_path / "mine", "x")
    assert batch.commit() == []
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_batch_that_fails_leaves_no_temporary_files_and_says_why(tmp_path, monkeypatch):
    (tmp_path / "f1").write_text("old")

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    batch = Batch()
    for number in range(3):
        batch.write(tmp_path / f"f{number}", b"new")
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left on device"):
        patch.setattr(os, "fsync", full)
        batch.commit()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"f1": "old"}


def test_more_folders_than_may_be_open_at_once(tmp_path):
    batch = Batch()
    for number in range(200):
        batch.folder(tmp_path / f"d{number}")
        batch.write(tmp_path / f"d{number}/f", b"x")
    open_before = len(os.listdir("/proc/self/fd"))
    batch.commit()
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert sum(1 for _file in tmp_path.glob("*/f")) == 200


def test_without_syncfs_everything_is_synced(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(_store, "_syncfs", None)
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    batch = Batch()
    for number in range(20):
        batch.write(tmp_path / f"f{number}", b"x")
    batch.commit()
    assert calls == ["sync"]


def test_an_error_of_syncfs_is_not_swallowed(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_syncfs", lambda fd: -1)
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    batch = Batch()
    for number in range(20):
        batch.write(tmp_path / f"f{number}", b"x")
    with pytest.raises(StoreError, match="Input/output error"):
        batch.commit()
    assert list(tmp_path.iterdir()) == []


def test_syncfs_is_really_there():
    assert _store._syncfs is not None, "this C library has no syncfs: batches fall back to sync"
