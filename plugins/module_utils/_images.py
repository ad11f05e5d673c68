# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what is known of an imported installer image.

Nothing here writes a file.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    BootConfig,
    ImageError,
    is_plain_path,
    module_name,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, LayoutError, check_image_name

__all__ = [
    "SKIP_SINCE",
    "UEFI_LOADER_PATH",
    "AddedModule",
    "BiosLoader",
    "Image",
    "ImageError",
    "Source",
    "UefiLoader",
    "describe_image",
    "load_image",
    "load_images",
    "loader_links",
    "mboot_supplier",
    "supports_skip",
    "version_key",
]

SCHEMA = 1

#: Where an installer medium keeps its boot loader for UEFI.
UEFI_LOADER_PATH = "efi/boot/bootx64.efi"

#: The first mboot that knows ``skip=1``. An older one ignores the key and starts the installer.
SKIP_SINCE = (8, 0, 1)

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class BiosLoader:
    """What pxelinux starts: ``kind`` is ``mboot.c32`` (with ``path``) or ``linux`` (kernel, initrd, append).

    ``linux`` exists for stand-in media: no ESXi medium names a Linux kernel.
    """

    kind: str
    path: str = ""
    kernel: str = ""
    initrd: str = ""
    append: str = ""

    def to_record(self) -> dict[str, str]:
        if self.kind == "linux":
            return {"kind": self.kind, "kernel": self.kernel, "initrd": self.initrd, "append": self.append}
        return {"kind": self.kind, "path": self.path}


@dataclass(frozen=True)
class UefiLoader:
    """The image's mboot for UEFI machines and, from 7.0.2, the crypto module that belongs beside it."""

    path: str
    crypto: t.Optional[str] = None
    kind: str = "mboot"

    def to_record(self) -> dict[str, t.Optional[str]]:
        return {"kind": self.kind, "path": self.path, "crypto": self.crypto}


@dataclass(frozen=True)
class Source:
    """Where an image was imported from: ``kind`` is ``iso`` or ``folder``.

    ``fingerprint`` is cheap to take (names, sizes, times) and tells that nothing was touched; only when it differs are
    contents read and compared with the image's ``sha256``.
    """

    path: str
    kind: str
    fingerprint: str

    def to_record(self) -> dict[str, str]:
        return {"path": self.path, "kind": self.kind, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class AddedModule:
    """A file that the administrator has added to the modules of a medium; only the installer loads it."""

    name: str
    sha256: str
    size: int

    def to_record(self) -> dict[str, t.Any]:
        return {"name": self.name, "sha256": self.sha256, "size": self.size}

    @classmethod
    def from_record(cls, record: t.Any) -> AddedModule:
        return cls(name=module_name(_text(record["name"])), sha256=_text(record["sha256"]), size=int(record["size"]))


@dataclass(frozen=True)
class Image:
    """An imported installer: the contents of ``images/<image>.json`` in the state folder.

    ``sha256`` is of the ISO file, or of a folder's file names and contents; ``files`` and ``bytes`` count the
    imported tree; ``imported`` is UTC, ISO 8601 with a ``Z``.
    """

    name: str
    version: str
    build: str
    kernel: str
    modules: tuple[str, ...]
    kernelopt: str
    title: str
    mboot_version: str
    bios: t.Optional[BiosLoader]
    uefi: t.Optional[UefiLoader]
    sha256: str
    source: Source
    imported: str
    files: int
    bytes: int
    added_modules: tuple[AddedModule, ...] = ()

    def to_record(self) -> dict[str, t.Any]:
        """The JSON-able form that is stored."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "kernel": self.kernel,
            "modules": list(self.modules),
            "kernelopt": self.kernelopt,
            "title": self.title,
            "mboot_version": self.mboot_version,
            "loaders": {
                "bios": self.bios.to_record() if self.bios else None,
                "uefi": self.uefi.to_record() if self.uefi else None,
            },
            "sha256": self.sha256,
            "source": self.source.to_record(),
            "imported": self.imported,
            "files": self.files,
            "bytes": self.bytes,
            "added_modules": [module.to_record() for module in self.added_modules],
        }

    @classmethod
    def from_record(cls, record: t.Any) -> Image:
        """Read the stored form back; raises :class:`ImageError` when it is not one."""
        try:
            if record["schema"] != SCHEMA:
                raise ImageError("its schema is {!r}, this version reads {}".format(record["schema"], SCHEMA))
            loaders, modules = record["loaders"], record["modules"]
            if not isinstance(modules, list):
                raise ImageError("its modules are no list")
            bios = BiosLoader(**_texts(loaders["bios"])) if loaders["bios"] is not None else None
            if bios is not None:
                for path in (bios.kernel, bios.initrd) if bios.kind == "linux" else (bios.path,):
                    _path(path)
            uefi = None
            if loaders["uefi"] is not None:
                found = dict(loaders["uefi"])
                crypto = found.pop("crypto", None)
                uefi = UefiLoader(crypto=None if crypto is None else _path(_text(crypto)), **_texts(found))
                _path(uefi.path)
            return cls(
                name=check_image_name(_text(record["name"])),
                version=_text(record["version"]),
                build=_text(record["build"]),
                kernel=_text(record["kernel"]),
                modules=tuple(_text(module) for module in modules),
                kernelopt=_text(record["kernelopt"]),
                title=_text(record["title"]),
                mboot_version=_text(record["mboot_version"]),
                bios=bios,
                uefi=uefi,
                sha256=_text(record["sha256"]),
                source=Source(**_texts(record["source"])),
                imported=_text(record["imported"]),
                files=int(record["files"]),
                bytes=int(record["bytes"]),
                # Images that were imported before there was such a thing have none.
                added_modules=tuple(AddedModule.from_record(item) for item in record.get("added_modules", ())),
            )
        except ImageError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ImageError(f"it is not an image description ({type(exc).__name__}: {exc})") from exc


def _text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise ImageError(f"a text was expected, not {value!r}")
    return value


def _path(path: str) -> str:
    """A file inside the image's folder: links of the boot tree lead to it."""
    if not is_plain_path(path):
        raise ImageError(f"its loader {path!r} cannot be a file inside the image")
    return path


def _texts(record: t.Any) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in record.items()}


def version_key(version: str) -> tuple[int, ...]:
    """A sort key from a version or build text: ``8.0.3-0.0.24022510`` becomes ``(8, 0, 3, 0, 0, 24022510)``."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


def supports_skip(mboot_version: str) -> bool:
    """Whether an mboot of this ESXi version leaves for the next boot device when boot.cfg says ``skip=1``."""
    return version_key(mboot_version)[:3] >= SKIP_SINCE


def mboot_supplier(images: t.Iterable[Image]) -> t.Optional[Image]:
    """The image whose mboot serves every UEFI machine, or ``None`` when there is none that may.

    It is the newest one: a newer mboot boots older ESXi, not reliably the reverse. One from before 8.0.1 never serves:
    given the ``skip=1`` of a host that is not armed it hangs or installs, while a machine that finds no mboot.efi at
    all goes on to its disk at once.
    """
    candidates = [image for image in images if image.uefi is not None and supports_skip(image.mboot_version)]
    if not candidates:
        return None
    return max(candidates, key=lambda image: (version_key(image.version), version_key(image.build), image.name))


def loader_links(supplier: t.Optional[Image]) -> dict[str, t.Optional[str]]:
    """The links by which mboot and its crypto module are served: path below the boot root to target, relative.

    ``None`` stands for a link that must not be there. crypto64.efi comes from the same image or not at all: the two are
    parts of one build. It is put in place first, because it must be there when the mboot that asks for it is.
    """
    uefi = supplier.uefi if supplier is not None else None
    mboot = crypto = None
    if supplier is not None and uefi is not None:
        mboot = f"images/{supplier.name}/{uefi.path}"
        crypto = f"images/{supplier.name}/{uefi.crypto}" if uefi.crypto else None
    return {
        "crypto64.efi": crypto,
        "http/crypto64.efi": "../crypto64.efi" if crypto else None,
        "mboot.efi": mboot,
        "http/mboot.efi": "../mboot.efi" if mboot else None,
    }


def describe_image(
    name: str,
    config: BootConfig,
    files: t.Mapping[str, int],
    *,
    sha256: str,
    source: Source,
    imported: str,
    linux: t.Optional[BiosLoader] = None,
    mboot_version: t.Optional[str] = None,
    added: t.Sequence[AddedModule] = (),
) -> Image:
    """Join what the medium says and what it holds to an :class:`Image`.

    ``files`` maps each file's path in the tree (lower case, ``/`` between parts) to its size in bytes. ``linux`` is the
    BIOS loader of a stand-in medium, ``mboot_version`` what its UEFI loader was found to be (default: of the medium's
    version), ``added`` what was added to its modules (``config`` names them already).

    Raises :class:`ImageError` when boot.cfg names a file that is not there, which is how a truncated medium shows, or
    when nothing on it can start a machine, and LayoutError for the name.
    """
    if not _SHA256.match(sha256):
        raise ImageError(f"{sha256!r} is no SHA-256 sum in hexadecimal")
    wanted = [config.kernel] + [module.split(" ", 1)[0] for module in config.modules]
    missing = [path for path in wanted if path not in files]
    if missing:
        raise ImageError(
            "boot.cfg names {} that the medium does not have ({}): it is incomplete".format(
                "a file" if len(missing) == 1 else f"{len(missing)} files", ", ".join(missing[:3])
            )
        )
    bios: t.Optional[BiosLoader] = None
    if linux is not None:
        for path in (linux.kernel, linux.initrd):
            if path not in files:
                raise ImageError(f"the medium has no file {path!r} for the Linux loader")
        bios = linux
    elif "mboot.c32" in files:
        bios = BiosLoader(kind="mboot.c32", path="mboot.c32")
    uefi: t.Optional[UefiLoader] = None
    if UEFI_LOADER_PATH in files:
        crypto = "efi/boot/crypto64.efi"
        uefi = UefiLoader(path=UEFI_LOADER_PATH, crypto=crypto if crypto in files else None)
    if bios is None and uefi is None:
        raise ImageError("the medium has neither mboot.c32 nor efi/boot/bootx64.efi: no machine can boot it")
    return Image(
        name=check_image_name(name),
        version=config.version,
        build=config.build,
        kernel=config.kernel,
        modules=config.modules,
        kernelopt=config.kernelopt,
        title=config.title,
        mboot_version=mboot_version or config.version,
        bios=bios,
        uefi=uefi,
        sha256=sha256,
        source=source,
        imported=imported,
        files=len(files),
        bytes=sum(files.values()),
        added_modules=tuple(added),
    )


def load_image(layout: Layout, name: str) -> t.Optional[Image]:
    """The description of one imported image, or ``None`` when there is no such image.

    Raises :class:`ImageError` when the name can name no image, or when the description cannot be used.
    """
    try:
        path = layout.description(name)
    except LayoutError as error:
        raise ImageError(str(error)) from error
    try:
        with open(path, encoding="utf-8") as file:
            return Image.from_record(json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ImageError) as error:
        raise ImageError(f"{path} cannot be used ({error}): remove the file and import the image again") from error


def load_images(layout: Layout) -> tuple[list[Image], list[str]]:
    """Every imported image by name, and one sentence for each description that cannot be used."""
    images: list[Image] = []
    errors: list[str] = []
    try:
        names = sorted(path.stem for path in layout.descriptions_dir.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        names = []
    for name in names:
        if name.startswith("."):
            continue
        try:
            image = load_image(layout, name)
        except ImageError as error:
            errors.append(str(error))
        else:
            if image is not None:
                images.append(image)
    return images, errors
