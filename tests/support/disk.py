# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written to the disk, looked at while it happens and afterwards."""

from __future__ import annotations

import os
import stat

from ansible_collections.pxemanager.esxi.plugins.module_utils import _batch, _store


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def snapshot(root):
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_ino, info.st_mtime_ns)
    return found


class Recorder:
    """Stands for `os` and writes down what changes the disk."""

    KINDS = ("open", "rename", "symlink", "unlink", "mkdir", "rmdir", "fsync")

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in self.KINDS:
            return function

        def call(*arguments, **options):
            if name != "open" or arguments[1] & os.O_CREAT:
                self.calls.append((name, *arguments))
            return function(*arguments, **options)

        return call

    def kinds(self):
        return [call[0] for call in self.calls]

    @classmethod
    def in_place(cls, monkeypatch):
        """One that all writing goes through for the length of a test."""
        recorder = cls()
        for module in (_store, _batch):
            monkeypatch.setattr(module, "os", recorder)
            monkeypatch.setattr(module, "sync_filesystem", lambda fd: recorder.calls.append(("syncfs",)))
        return recorder
