# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: brings depots of drivers and patches onto a PXE server.

A depot is an offline bundle (a zip file) or a single VIB. It lies beside the boot root and is served over HTTP alone:
``esxcli software`` on a host that boots for the first time fetches from it. How an import stays invisible until it is
whole is told in ``_intake.py``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import (
    XML_LIMIT,
    DepotError,
    Metadata,
    Vib,
    add_metadata_file,
    index_files,
    is_safe_path,
    metadata_files,
    parse_vib,
    vib_descriptor,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_medium import copy_file
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import armed_with
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import (
    Intake,
    check_space,
    file_sum,
    full_disk,
    seal,
    sync_folder,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    StoreError,
    dump_json,
    read_json,
    tree_lock,
    write_json,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._unzip import extract, list_zip, open_zip, read_entry

__all__ = ["SCHEMA", "DepotOutcome", "DepotStore", "damage_of", "hosts_of", "load_depots", "survey"]

SCHEMA = 1

_VIB_SUFFIX = ".vib"
_MAX_METADATA = 1024**3


@dataclass
class DepotOutcome:
    """What one call did, or in check mode would do; ``depot`` is the description of the depot that there is then."""

    changed: bool
    msg: str
    depot: dict[str, t.Any] | None = None
    before: str = ""
    after: str = ""
    warnings: list[str] = field(default_factory=list)


class DepotStore:
    """The depots of one PXE server."""

    def __init__(self, config: ServerConfig, *, check_mode: bool = False) -> None:
        self._config = config
        self._layout = Layout.of(config)
        self._check_mode = check_mode
        self._intake = Intake(self._layout.depots_dir, error=DepotError, check_mode=check_mode)

    def present(
        self, name: str, src: str, *, checksum: str | None = None, replace_other: bool = False, verify: bool = False
    ) -> DepotOutcome:
        """Import an offline bundle or a VIB under a name, unless it is there already. Raises :class:`DepotError`.

        :arg checksum: SHA-256 of the file in hexadecimal.
        :arg verify: read every file of a depot that is there, and import it again where one is other than it was.
        """
        self._layout.depot_dir(name)
        with self._intake.lock():
            current = _load(self._layout, name)
            damage = damage_of(self._layout, current, verify=verify) if current is not None else []
            found = _sum_of(src)
            if found is None:
                if current is not None and not damage and current.get("src") == src:
                    _check_sum(checksum, str(current["sha256"]), src)
                    return DepotOutcome(
                        False, f"Depot {name} is imported; its source {src} is gone meanwhile.", current
                    )
                raise DepotError(
                    f"{src} does not exist on the PXE server: copy the bundle or VIB there, or correct src"
                )
            _check_sum(checksum, found, src)
            if current is not None and current["sha256"] == found and not damage:
                return DepotOutcome(False, f"Depot {name} is imported already.", current)
            if current is not None and current["sha256"] != found:
                if not replace_other:
                    raise DepotError(
                        f"depot {name} was imported from {current.get('src')} and {src} has other contents: import it "
                        "under a name of its own, or set replace to true"
                    )
                self._refuse_while_used(name, "replaced", armed_only=True)
            what = "repaired" if damage else ("replaced" if current is not None else "imported")
            before = _diff_text(current)
            if self._check_mode:
                return DepotOutcome(
                    True, f"Depot {name} would be {what} from {src}.", current, before, f"imported from {src}\n"
                )
            depot = self._import(name, src, found, replacing=current is not None and not damage)
            return DepotOutcome(
                True,
                f"Depot {name} was {what} ({_count(depot)}).",
                depot,
                before,
                _diff_text(depot),
                [f"Depot {name} was damaged and has been imported again: {text}." for text in damage[:3]],
            )

    def absent(self, name: str) -> DepotOutcome:
        """Take a depot away; raises :class:`DepotError` while the kickstart of a published host refers to it."""
        final, description = self._layout.depot_dir(name), self._layout.depot_description(name)
        with self._intake.lock(), self._tree_lock():
            if not (description.exists() or final.is_symlink() or final.exists()):
                return DepotOutcome(False, f"There is no depot {name}.")
            self._refuse_while_used(name, "removed", armed_only=False)
            before = _diff_text(_load(self._layout, name)) or f"depot {name} without a usable description\n"
            if self._check_mode:
                return DepotOutcome(True, f"Depot {name} would be removed.", None, before, "")
            self._undescribe(name)
            self._intake.discard(name)
            return DepotOutcome(True, f"Depot {name} was removed.", None, before, "")

    def _import(self, name: str, src: str, checksum: str, *, replacing: bool) -> dict[str, t.Any]:
        is_vib = src.lower().endswith(_VIB_SUFFIX)
        try:
            with self._intake.workspace(name) as work:
                tree = work / "tree"
                os.mkdir(tree)
                base = os.path.basename(src) if is_vib else f"{name}.zip"
                if not is_safe_path(base):
                    raise DepotError(f"{base!r} cannot be the name of a VIB's file: rename it")
                size = os.stat(src).st_size
                self._check_room(src, size, 2)
                # What is looked at is the copy: the original may change under our hands.
                if copy_file(src, tree / base) != checksum:
                    raise DepotError(f"{src} changed while it was read: try again")
                metadata = self._read_vib(tree / base) if is_vib else self._unpack(tree / base, tree, src, size)
                files = seal(tree)
                _check_vibs(metadata, files)
                depot = {
                    "schema": SCHEMA,
                    "name": name,
                    "kind": "vib" if is_vib else "bundle",
                    "url": self._config.depot_url(name),
                    "src": src,
                    "sha256": checksum,
                    "imported": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "bytes": sum(length for length, _sum in files.values()),
                    "files": {path: {"bytes": length, "sha256": digest} for path, (length, digest) in files.items()},
                    "profiles": sorted(set(metadata.profiles)),
                    "bulletins": sorted(set(metadata.bulletins)),
                    "vibs": [vib.to_record() for vib in metadata.vibs],
                }
                with self._tree_lock():
                    if replacing:
                        self._refuse_while_used(name, "replaced", armed_only=True)
                    self._undescribe(name)
                    self._intake.put_in_place(name, tree)
                    write_json(self._layout.depot_description(name), depot)
        except OSError as error:
            if not full_disk(error):
                raise
            raise DepotError(
                f"the disk filled up while {src} was imported below {self._layout.depots_dir}: nothing of it is left; "
                "make room and try again"
            ) from error
        return depot

    def _check_room(self, src: str, size: int, files: int) -> None:
        check_space(self._layout.depots_dir, size=size, files=files, what=src, error=DepotError)

    def _read_vib(self, path: Path) -> Metadata:
        with open(path, "rb") as file:
            vib = parse_vib(vib_descriptor(file.read(XML_LIMIT), path.name), path.name)
        return Metadata(vibs=[Vib(**{**vars(vib), "file": path.name, "sha256": ""})])

    def _unpack(self, bundle: Path, tree: Path, src: str, size: int) -> Metadata:
        with open_zip(bundle) as archive:
            contents = list_zip(archive, src)
            names = {entry.filename: entry for entry in contents.files}
            if bundle.name in names:
                raise DepotError(f"{src} has an entry named as the depot, {bundle.name}: give the depot another name")
            if "index.xml" not in names:
                raise DepotError(
                    f"{src} has no index.xml: it is no offline bundle. An installer's ISO is an image, and a zip "
                    "around an offline bundle must be unpacked first"
                )
            self._check_room(src, contents.size, 2 * len(contents.files))
            extract(archive, contents, tree, src)
        metadata = Metadata()
        for index in index_files(_read(tree, "index.xml", "index.xml")):
            for path in metadata_files(_read(tree, index, "index.xml"), index):
                _read_metadata(tree, path, index, metadata)
        if not metadata.vibs:
            raise DepotError(f"the metadata of {src} name no VIB: it is no depot of ESXi software")
        return metadata

    def _undescribe(self, name: str) -> None:
        description = self._layout.depot_description(name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(description.parent, 0o755)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(description)
            sync_folder(description.parent)

    def _refuse_while_used(self, name: str, what: str, *, armed_only: bool) -> None:
        hosts = hosts_of(self._layout, name)
        if armed_only:
            hosts = armed_with(self._layout, hosts)
        if hosts:
            shown = ", ".join(hosts[:5]) + ("" if len(hosts) <= 5 else f" and {len(hosts) - 5} more hosts")
            raise DepotError(
                f"depot {name} cannot be {what} while the post actions of {shown} refer to it: change their post "
                "actions and publish them again, or retire them first"
            )

    def _tree_lock(self) -> t.ContextManager[None]:
        return contextlib.nullcontext() if self._check_mode else tree_lock(self._layout)


# What an import reads.


def _read(tree: Path, path: str, named_in: str) -> bytes:
    file = tree / path
    if not file.is_file():
        raise DepotError(f"{named_in} names {path}, and the bundle has no such file: it is incomplete")
    with open(file, "rb") as reader:
        return reader.read(XML_LIMIT + 1)


def _read_metadata(tree: Path, path: str, named_in: str, metadata: Metadata) -> None:
    if not (tree / path).is_file():
        raise DepotError(f"{named_in} names {path}, and the bundle has no such file: it is incomplete")
    with open_zip(tree / path) as archive:
        contents = list_zip(archive, path)
        if contents.size > _MAX_METADATA:
            raise DepotError(f"{path} has {contents.size // 2**20} MiB of metadata, which no depot needs")
        for entry in contents.files:
            if entry.filename.lower().endswith(".xml"):
                add_metadata_file(metadata, entry.filename, read_entry(archive, entry, path, XML_LIMIT))


def _check_vibs(metadata: Metadata, files: t.Mapping[str, tuple[int, str]]) -> None:
    unique: dict[tuple[str, str, str], Vib] = {}
    for vib in metadata.vibs:
        if vib.file not in files:
            what = f"the file {vib.file} of" if vib.file else "a file for"
            raise DepotError(f"the bundle does not have {what} the VIB {vib.name} {vib.version}: it is incomplete")
        if vib.sha256 and vib.sha256 != files[vib.file][1]:
            raise DepotError(f"{vib.file} has another SHA-256 than the bundle says: it is damaged, download it again")
        unique[(vib.name, vib.version, vib.file)] = vib
    metadata.vibs = [unique[key] for key in sorted(unique)]


def _sum_of(src: str) -> str | None:
    if not src.startswith("/"):
        raise DepotError(f"src must be an absolute path on the PXE server, not {src!r}")
    try:
        info = os.stat(src)
        if not stat.S_ISREG(info.st_mode):
            raise DepotError(f"{src} is neither an offline bundle (.zip) nor a VIB (.vib)")
        if not src.lower().endswith((".zip", _VIB_SUFFIX)):
            raise DepotError(f"{src} must end with .zip (an offline bundle) or .vib, as esxcli wants it")
        return file_sum(src)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DepotError(f"{src} cannot be read: {error.strerror}") from error


def _check_sum(wanted: str | None, found: str, src: str) -> None:
    if wanted is not None and wanted.lower() != found:
        raise DepotError(
            f"{src} has the SHA-256 sum {found}, not {wanted.lower()}: download it again, or correct checksum"
        )


# What there is.


def _load(layout: Layout, name: str) -> dict[str, t.Any] | None:
    try:
        depot = read_json(layout.depot_description(name), SCHEMA)
    except StoreError:
        return None
    if depot is None or not isinstance(depot.get("files"), dict) or not isinstance(depot.get("sha256"), str):
        return None
    return depot


def load_depots(layout: Layout) -> tuple[list[dict[str, t.Any]], list[str]]:
    """The descriptions of all depots by name, and one sentence for each that cannot be used."""
    depots, errors = [], []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(layout.depot_descriptions_dir.iterdir()):
            if path.name.startswith(".") or path.suffix != ".json":
                continue
            depot = _load(layout, path.stem)
            if depot is None:
                errors.append(f"{path} cannot be used: import the depot {path.stem} again, or remove it")
            else:
                depots.append(depot)
    return depots, errors


def damage_of(layout: Layout, depot: t.Mapping[str, t.Any], *, verify: bool = False) -> list[str]:
    """In which ways the files of a depot are other than when it was imported."""
    tree = layout.depot_dir(str(depot["name"]))
    damage = []
    for path, what in sorted(depot["files"].items()):
        try:
            info = os.lstat(tree / path)
        except OSError:
            damage.append(f"{path} is missing")
            continue
        if not stat.S_ISREG(info.st_mode) or info.st_size != what["bytes"]:
            damage.append(f"{path} has {info.st_size} bytes in place of {what['bytes']}")
        elif verify and file_sum(tree / path) != what["sha256"]:
            damage.append(f"{path} has other contents")
    return damage[:20]


def hosts_of(layout: Layout, name: str) -> list[str]:
    """Published hosts in whose kickstart a depot's URL stands: they fetch from it on their first boot."""
    needle = f"/depots/{name}/".encode("ascii")
    hosts = []
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(layout.kickstarts_dir.iterdir()):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            if any(needle in path.read_bytes() for path in folder.glob("*.cfg")):
                hosts.append(folder.name)
    return hosts


def survey(layout: Layout, *, names: t.Container[str] | None = None, verify: bool = False) -> dict[str, t.Any]:
    """Look at the depots of a server, for a module's result.

    :arg names: only these; None: all.
    :raises DepotError: the server was not set up for depots.
    """
    if not layout.depots_dir.is_dir():
        raise DepotError(f"{layout.depots_dir} does not exist: run the role pxe_server on this machine first")
    depots, errors = load_depots(layout)
    return {
        "depots": [
            {
                **depot,
                "hosts": hosts_of(layout, depot["name"]),
                "damage": damage_of(layout, depot, verify=verify),
            }
            for depot in depots
            if names is None or depot["name"] in names
        ],
        "unusable": errors,
        "leftovers": Intake(layout.depots_dir, error=DepotError).leftovers(),
    }


# Texts.


def _count(depot: t.Mapping[str, t.Any]) -> str:
    vibs, profiles = len(depot["vibs"]), len(depot["profiles"])
    text = f"{vibs} VIB{'' if vibs == 1 else 's'}"
    return f"{text}, {profiles} image profile{'' if profiles == 1 else 's'}" if profiles else text


def _diff_text(depot: t.Mapping[str, t.Any] | None) -> str:
    if depot is None:
        return ""
    return dump_json({key: depot[key] for key in depot if key not in ("imported", "src", "files")}).decode("ascii")
