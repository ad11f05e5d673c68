# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: nothing torn, nothing lost, nothing touched that is right already."""

from __future__ import annotations

import errno
import grp
import json
import multiprocessing
import os
import threading
import time

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    LockTimeout,
    StoreError,
    atomic_write,
    dump_json,
    flip,
    host_lock,
    host_locks,
    read_bytes,
    read_json,
    read_mode,
    remove,
    replace_link,
    resolve_group,
    tree_lock,
    write_json,
)
from ansible_collections.pxemanager.esxi.tests.support.disk import Recorder, mode_of

NAME = "esx01.example.com"
OTHER = "esx02.example.com"


@pytest.fixture
def recorder(monkeypatch):
    return Recorder.in_place(monkeypatch)


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "boot", tmp_path / "state", tmp_path / "state/dhcp-hosts")
    layout.tree(NAME).mkdir(parents=True)
    layout.state_root.mkdir()
    return layout


# Single files.


def test_a_file_is_synced_before_and_its_folder_after_the_rename(tmp_path, recorder):
    atomic_write(tmp_path / "f", b"text", 0o640)
    assert recorder.kinds() == ["open", "fsync", "rename", "fsync"]
    assert (tmp_path / "f").read_bytes() == b"text"
    assert mode_of(tmp_path / "f") == 0o640


def test_permissions_do_not_depend_on_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        atomic_write(tmp_path / "f", b"", 0o644)
        batch = Batch()
        batch.folder(tmp_path / "d", 0o2775)
        batch.write(tmp_path / "d/f", b"x", 0o664)
        batch.commit()
    finally:
        os.umask(old)
    assert (mode_of(tmp_path / "f"), mode_of(tmp_path / "d"), mode_of(tmp_path / "d/f")) == (0o644, 0o2775, 0o664)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old")

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    for victim in ("write", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, victim, full)
            with pytest.raises(OSError, match="No space"):
                atomic_write(tmp_path / "f", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["f"]
        assert (tmp_path / "f").read_text() == "old"


def test_a_left_over_temporary_name_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "temporary_name", lambda base: f".{base}.1-1.tmp")
    (tmp_path / ".f.1-1.tmp").symlink_to("/etc/passwd")
    atomic_write(tmp_path / "f", b"new")
    (tmp_path / ".l.1-1.tmp").write_text("x")
    replace_link(tmp_path / "l", "target")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / "f").is_symlink()
    assert os.readlink(tmp_path / "l") == "target"


def test_a_link_replaces_a_link_a_file_and_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("old")
    for name in ("file", "link", "new"):
        replace_link(tmp_path / name, "target")
        assert os.readlink(tmp_path / name) == "target"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "new"]


def test_nothing_is_written_through_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "d").symlink_to("real")
    with pytest.raises(OSError, match="."):
        atomic_write(tmp_path / "d/f", b"x")
    batch = Batch()
    batch.write(tmp_path / "d/f", b"x")
    with pytest.raises(StoreError, match="must be a folder"):
        batch.plan()
    batch = Batch()
    batch.folder(tmp_path / "d")
    with pytest.raises(StoreError, match="must be a folder"):
        batch.plan()
    assert list((tmp_path / "real").iterdir()) == []


def test_reading(tmp_path):
    assert read_bytes(tmp_path / "f") is None
    assert read_json(tmp_path / "f") is None
    with pytest.raises(StoreError, match="cannot be read"):
        read_bytes(tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "is not a JSON object"), ('{"schema": 2}', "has schema 2")):
        (tmp_path / "f").write_text(text)
        with pytest.raises(StoreError, match=message):
            read_json(tmp_path / "f")
    write_json(tmp_path / "f", {"schema": 1, "a": [1, {"c": None, "b": "\u00e4"}]})
    assert read_json(tmp_path / "f") == {"schema": 1, "a": [1, {"c": None, "b": "\u00e4"}]}


def test_equal_objects_are_equal_bytes_with_a_key_a_line():
    one = dump_json({"b": {"y": 1, "x": 2}, "schema": 1, "a": []})
    assert one == dump_json({"a": [], "schema": 1, "b": {"x": 2, "y": 1}})
    assert one == b'{"schema": 1,\n "a": [],\n "b": {"x": 2, "y": 1}}\n'
    assert json.loads(one) == {"schema": 1, "a": [], "b": {"x": 2, "y": 1}}


def test_removing(tmp_path):
    (tmp_path / "f").write_text("x")
    assert remove(tmp_path / "f")
    assert not remove(tmp_path / "f")


# The mode.


def test_flipping(layout, recorder):
    assert read_mode(layout, NAME) is None
    assert flip(layout, NAME, "local")
    assert read_mode(layout, NAME) == "local"
    recorder.calls.clear()
    assert flip(layout, NAME, "install")
    assert recorder.kinds() == ["symlink", "rename", "fsync"]
    assert read_mode(layout, NAME) == "install"


def test_a_mode_that_is_right_is_synced_all_the_same(layout, recorder):
    flip(layout, NAME, "local", sync=False)
    recorder.calls.clear()
    assert not flip(layout, NAME, "local")
    assert recorder.kinds() == ["fsync"]


def test_only_modes_are_modes(layout):
    with pytest.raises(ValueError, match="boot mode"):
        flip(layout, NAME, "../../other/install")
    layout.mode_link(NAME).symlink_to("../other/install")
    with pytest.raises(StoreError, match="no boot mode"):
        read_mode(layout, NAME)
    layout.mode_link(NAME).unlink()
    layout.mode_link(NAME).mkdir()
    with pytest.raises(StoreError, match="not a symbolic link"):
        read_mode(layout, NAME)


def test_a_reader_sees_a_mode_at_every_moment(layout):
    flip(layout, NAME, "local", sync=False)
    for mode in ("install", "local"):
        layout.mode_dir(NAME, mode).mkdir()
        (layout.mode_dir(NAME, mode) / "f").write_text(f"{mode}\n")
    seen = set()
    stop = threading.Event()

    def read():
        while not stop.is_set():
            seen.add((layout.mode_link(NAME) / "f").read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _turn in range(300):
        flip(layout, NAME, "install", sync=False)
        flip(layout, NAME, "local", sync=False)
    stop.set()
    reader.join()
    assert seen <= {"install\n", "local\n"}


# Groups.


def test_groups(monkeypatch):
    mine = grp.getgrgid(os.getegid()).gr_name
    assert resolve_group(mine) == os.getegid()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(StoreError, match="no-such-group does not exist: run the role pxe_server"):
        resolve_group("no-such-group")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert resolve_group("no-such-group") is None
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    monkeypatch.setattr(os, "getgroups", lambda: [12345])
    assert resolve_group("root" if mine != "root" else mine) is None


# Locks.


def _hold(layout, name, ready, seconds):
    with host_lock(layout, name):
        ready.set()
        time.sleep(seconds)


def test_a_lock_keeps_another_process_out_and_says_who_holds_it(layout):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(layout, NAME, ready, 30))
    holder.start()
    try:
        assert ready.wait(10)
        with (
            pytest.raises(LockTimeout, match=f"process {holder.pid}.*host {NAME}.*0.05 s"),
            host_lock(layout, NAME, timeout=0.05),
        ):
            raise AssertionError("two holders")
        with host_lock(layout, OTHER, timeout=0.05), tree_lock(layout, timeout=0.05):
            pass
    finally:
        holder.kill()
        holder.join()
    with host_lock(layout, NAME, timeout=0.05):  # a killed holder holds nothing
        pass


def test_two_who_want_the_same_locks_in_another_order_do_not_wait_for_ever(layout):
    done = []

    def want(names):
        for _turn in range(50):
            with host_locks(layout, names, timeout=10):
                pass
        done.append(names)

    threads = [threading.Thread(target=want, args=(names,)) for names in ((NAME, OTHER), (OTHER, NAME))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2


def test_locks_are_always_taken_in_the_same_order(layout, monkeypatch):
    taken = []
    real = _store._lock
    monkeypatch.setattr(_store, "_lock", lambda path, *rest: (taken.append(path), real(path, *rest))[1])
    with host_locks(layout, [OTHER, NAME, OTHER]):
        pass
    assert taken == [str(layout.lock(NAME)), str(layout.lock(OTHER))]


def test_a_lock_whose_file_was_removed_with_its_host_is_taken_anew(layout):
    entered = threading.Event()
    order = []

    def wait():
        with host_lock(layout, NAME, timeout=10):
            order.append("second")
            entered.set()

    with host_lock(layout, NAME):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.05)
        layout.lock(NAME).unlink()
        # What comes now makes a new file; the waiter must not believe that the old one counts.
        order.append("first")
    assert entered.wait(10)
    waiter.join()
    assert order == ["first", "second"]
    assert layout.lock(NAME).exists()


def test_the_service_may_open_a_lock_that_root_made(layout):
    old = os.umask(0o077)
    try:
        with host_lock(layout, NAME):
            assert mode_of(layout.lock(NAME)) == 0o664
    finally:
        os.umask(old)
    assert mode_of(layout.locks_dir) == 0o2775


def test_no_lock_without_a_server(tmp_path):
    layout = Layout(tmp_path / "b", tmp_path / "s", tmp_path / "d")
    with pytest.raises(StoreError, match="run the role pxe_server"), host_lock(layout, NAME):
        pass
