# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folders of a PXE server as the role makes them, for tests of what imports images and depots."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils import (
    _batch,
    _depots,
    _image_import,
    _image_medium,
    _image_state,
    _intake,
    _store,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._depots import DepotStore
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_import import ImageStore
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import Dhcp, default_config

WRITERS = (_batch, _depots, _image_import, _image_medium, _image_state, _intake, _store)


def run(argv: t.Sequence[str]) -> tuple[int, str, str]:
    """Run a command the way the module does."""
    done = subprocess.run(
        argv, capture_output=True, check=False, env={**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    )
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")


class ImageServer:
    """A PXE server's folders below a temporary one."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.config = dataclasses.replace(
            default_config(),
            boot_root=str(root / "boot"),
            state_root=str(root / "state"),
            depot_root=str(root / "depots"),
            dhcp=Dhcp(hosts_dir=str(root / "state/dhcp-hosts")),
        )
        self.layout = Layout.of(self.config)
        for folder in ("images", "hosts", "http", "ipxe", "pxelinux.cfg"):
            (root / "boot" / folder).mkdir(parents=True)
        for folder in ("images", "manifests", "depots", "hosts", "locks", "status", "kickstarts"):
            (root / "state" / folder).mkdir(parents=True)
        (root / "depots").mkdir()

    def images(self, **options: t.Any) -> ImageStore:
        return ImageStore(self.config, run=run, **options)

    def depots(self, **options: t.Any) -> DepotStore:
        return DepotStore(self.config, **options)

    def settings(self) -> pathlib.Path:
        """The file that modules read."""
        path = self.root / "server.json"
        path.write_text(json.dumps(self.config.to_json()))
        return path

    def publish(self, host: str, image: str, mode: str = "local", kickstart: str = "") -> None:
        """Leave the traces of a published host."""
        record = self.layout.record(host)
        record.write_text(json.dumps({"schema": 1, "name": host, "image": image}))
        tree = self.layout.tree(host)
        tree.mkdir(exist_ok=True)
        (tree / "boot").unlink(missing_ok=True)
        (tree / "boot").symlink_to(mode)
        folder = self.layout.kickstart_dir(host)
        folder.mkdir(exist_ok=True)
        (folder / "01-00-50-56-aa-bb-01.cfg").write_text(kickstart)

    def hidden(self) -> list[str]:
        """What imports have left."""
        folders = (self.layout.images_dir, self.layout.depots_dir)
        return sorted(path.name for folder in folders for path in folder.iterdir() if path.name.startswith("."))

    def contents(self) -> dict[str, t.Any]:
        """Everything but locks: path to what it is."""
        found: dict[str, t.Any] = {}
        for path in sorted(self.root.rglob("*")):
            if "/locks" not in str(path):
                found[str(path)] = (
                    os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
                )
        return found


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the code does after it changes the disk any more."""


class DyingOs:
    """Stands for `os`: dies at one of the operations that change the disk; `before`: without having done it."""

    CHANGING = ("write", "rename", "symlink", "unlink", "mkdir", "rmdir", "fchmod", "chmod")

    def __init__(self, last: int, before: bool) -> None:
        self.left = last
        self.before = before
        self.dead = False

    def __getattr__(self, name: str) -> t.Any:
        function = getattr(os, name)
        return self.counted(function) if name in self.CHANGING else function

    def counted(self, function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        """A function that counts as one operation."""

        def call(*arguments: t.Any, **options: t.Any) -> t.Any:
            if not self.dead:
                self.left -= 1
                self.dead = self.left == 0
                if not (self.dead and self.before):
                    result = function(*arguments, **options)
                    if not self.dead:
                        return result
            raise Killed

        return call


@contextlib.contextmanager
def dying(monkeypatch: t.Any, last: int, before: bool) -> t.Iterator[DyingOs]:
    """All that imports do to the disk ends with its `last` operation."""
    fake = DyingOs(last, before)
    with monkeypatch.context() as patch:
        for module in WRITERS:
            patch.setattr(module, "os", fake, raising=False)
        patch.setattr(_intake, "_exchange", fake.counted(_intake._exchange))
        patch.setattr(shutil, "rmtree", fake.counted(shutil.rmtree))
        with contextlib.suppress(Killed):
            yield fake
