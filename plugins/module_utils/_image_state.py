# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what there is to say about the images of a PXE server. It writes nothing
but the list of files that belongs to an image.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import ImageError
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import Image, load_images, mboot_supplier
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import Intake, file_sum
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import INSTALL, Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    StoreError,
    read_json,
    read_mode,
    write_json,
)

__all__ = ["ImageState", "Survey", "armed_with", "damage_of", "survey", "users_of", "write_manifest"]

_SCHEMA = 1
_MAX_TOLD = 20


# Which hosts use an image.


def uses(layout: Layout) -> dict[str, list[str]]:
    """The published hosts by the name of their image; those whose record cannot be read are under an empty name."""
    found: dict[str, list[str]] = {}
    try:
        entries = sorted(os.listdir(layout.records_dir))
    except FileNotFoundError:
        entries = []
    for entry in entries:
        if entry.startswith(".") or not entry.endswith(".json"):
            continue
        try:
            record = read_json(layout.records_dir / entry)
        except StoreError:
            record = {}
        if record is not None:
            found.setdefault(str(record.get("image") or ""), []).append(entry[: -len(".json")])
    return found


def users_of(layout: Layout, name: str) -> list[str]:
    """Published hosts that use an image. One whose record cannot be read may use any image."""
    found = uses(layout)
    return sorted(found.get(name, []) + found.get("", []))


def armed_with(layout: Layout, hosts: t.Iterable[str]) -> list[str]:
    """Those of some hosts whose next boot starts the installer, or may."""
    armed = []
    for host in hosts:
        try:
            mode = read_mode(layout, host)
        except StoreError:
            mode = INSTALL  # a link that is none of ours: nobody knows where it leads
        if mode == INSTALL:
            armed.append(host)
    return armed


# What is on disk of an image.


def write_manifest(layout: Layout, name: str, files: t.Mapping[str, tuple[int, str]]) -> None:
    """Note size and SHA-256 of each file of an image."""
    path = layout.manifest(name)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path.parent, 0o755)
    value = {"schema": _SCHEMA, "name": name, "files": {path: list(what) for path, what in sorted(files.items())}}
    write_json(path, value)


def _read_manifest(layout: Layout, name: str) -> dict[str, tuple[int, str]] | None:
    try:
        value = read_json(layout.manifest(name), _SCHEMA)
        return None if value is None else {str(p): (int(s), str(d)) for p, (s, d) in value["files"].items()}
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return None


def damage_of(layout: Layout, image: Image, *, verify: bool = False) -> list[str]:
    """In which ways the files of an image are other than when it was imported; empty: in none.

    :arg verify: read every file and compare its SHA-256. Otherwise names and sizes are compared.
    """
    tree = layout.image_dir(image.name)
    if tree.is_symlink() or not tree.is_dir():
        return ["its folder is gone" if not tree.is_symlink() else "its folder is a symbolic link"]
    sizes: dict[str, int] = {}
    damage: list[str] = []
    for parent, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted(files + [name for name in folders if os.path.islink(os.path.join(parent, name))]):
            path = os.path.join(parent, name)
            inside = os.path.relpath(path, tree)
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode):
                damage.append(f"{inside} is no plain file")
            sizes[inside] = info.st_size
    known = _read_manifest(layout, image.name)
    if known is None:
        # Imported by a version of the collection that kept no list of files.
        if (len(sizes), sum(sizes.values())) != (image.files, image.bytes):
            damage.append(
                f"it has {len(sizes)} files of {sum(sizes.values())} bytes in place of {image.files} of {image.bytes}"
            )
        if verify and not damage:
            damage.append("there is no list of its files to verify them by")
        return damage[:_MAX_TOLD]
    for inside, (size, digest) in known.items():
        if inside not in sizes:
            damage.append(f"{inside} is missing")
        elif sizes[inside] != size:
            damage.append(f"{inside} has {sizes[inside]} bytes in place of {size}")
        elif verify and (found := _sum_or_error(os.path.join(tree, inside))) != digest:
            damage.append(f"{inside} {'cannot be read: ' + found if len(found) != 64 else 'has other contents'}")
    damage += [f"{inside} does not belong to it" for inside in sizes if inside not in known]
    if len(damage) > _MAX_TOLD:
        damage[_MAX_TOLD:] = [f"and {len(damage) - _MAX_TOLD} more"]
    return damage


def _sum_or_error(path: str) -> str:
    try:
        return file_sum(path)
    except OSError as error:
        return error.strerror or str(error)


# All of it.


@dataclass(frozen=True)
class ImageState:
    """An image and how it is.

    :ivar hosts: published hosts that use it.
    :ivar armed: those of them that the installer waits for.
    :ivar supplies_mboot: whether the boot loaders of all UEFI machines are this image's.
    :ivar damage: see `damage_of`.
    """

    image: Image
    hosts: list[str]
    armed: list[str]
    supplies_mboot: bool
    damage: list[str]

    def to_record(self) -> dict[str, t.Any]:
        """For a module's result."""
        return {
            **self.image.to_record(),
            "hosts": self.hosts,
            "armed": self.armed,
            "supplies_mboot": self.supplies_mboot,
            "damage": self.damage,
        }


@dataclass(frozen=True)
class Survey:
    """All images of a PXE server.

    :ivar unusable: a sentence for each description that cannot be used.
    :ivar undescribed: folders of images without a description: an import was killed when it was all but done.
    :ivar leftovers: folders that killed imports have left; the next run of esxi_image removes them.
    :ivar busy: an import is under way, and the leftovers may be its.
    :ivar missing: hosts by the image that they are published with and that there is not.
    """

    images: list[ImageState]
    unusable: list[str]
    undescribed: list[str]
    leftovers: list[str]
    busy: bool
    missing: dict[str, list[str]]

    def summary(self) -> str:
        """How many there are and what is wrong, in one sentence."""
        count = len(self.images)
        text = f"{count} image{'' if count == 1 else 's'}"
        wrong = []
        damaged = [state.image.name for state in self.images if state.damage]
        if damaged:
            wrong.append(f"damaged: {', '.join(damaged)}")
        if self.unusable:
            wrong.append(f"{len(self.unusable)} with a description that cannot be used")
        if self.undescribed:
            wrong.append(f"without a description: {', '.join(self.undescribed)}")
        if self.leftovers and not self.busy:
            wrong.append(f"{len(self.leftovers)} left by interrupted imports")
        if self.missing:
            wrong.append(f"used by hosts and not there: {', '.join(sorted(self.missing))}")
        if wrong:
            return f"{text}; {'; '.join(wrong)}."
        return f"{text}, all whole." if count else "No images."


def survey(layout: Layout, *, names: t.Container[str] | None = None, verify: bool = False) -> Survey:
    """Look at the images of a server.

    :arg names: only these; None: all.
    :raises ImageError: the server was not set up.
    """
    if not layout.images_dir.is_dir():
        raise ImageError(f"{layout.images_dir} does not exist: run the role pxe_server on this machine first")
    images, unusable = load_images(layout)
    supplier = mboot_supplier(images)
    by_image = uses(layout)
    states = []
    for image in images:
        if names is not None and image.name not in names:
            continue
        hosts = by_image.get(image.name, [])
        states.append(
            ImageState(
                image=image,
                hosts=hosts,
                armed=armed_with(layout, hosts),
                supplies_mboot=supplier is not None and supplier.name == image.name,
                damage=damage_of(layout, image, verify=verify),
            )
        )
    described = {image.name for image in images}
    entries = sorted(os.listdir(layout.images_dir))
    intake = Intake(layout.images_dir, error=ImageError)
    return Survey(
        images=states,
        unusable=unusable,
        undescribed=[entry for entry in entries if not entry.startswith(".") and entry not in described],
        leftovers=intake.leftovers(),
        busy=intake.busy(),
        missing={name: hosts for name, hosts in by_image.items() if name and name not in described},
    )
