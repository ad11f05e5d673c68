# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: brings installer media into the boot tree and takes them away again.

How an import stays invisible until it is whole is told in ``_intake.py``; what a medium may hold, in
``_image_medium.py``.

The description of an image (in the state folder) is what makes it one: without it no host can be published with the
image. So an image that is replaced loses its description first and gets the new one last. Killed in between, the run
leaves a folder that nothing leads into, and the next import of that name puts it right.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change
from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    BOOT_CFG_LIMIT,
    BOOT_CFG_PATHS,
    BootConfig,
    ImageError,
    parse_boot_cfg,
    render_boot_cfg,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_medium import (
    Run,
    Taker,
    check_sum,
    copy_file,
    digest,
    digest_of,
    list_iso,
    look_at,
    look_at_modules,
    unpack,
    walk,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._image_state import (
    armed_with,
    damage_of,
    users_of,
    write_manifest,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    UEFI_LOADER_PATH,
    AddedModule,
    BiosLoader,
    Image,
    Source,
    describe_image,
    load_image,
    load_images,
    supports_skip,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._intake import (
    Intake,
    check_space,
    full_disk,
    seal,
    sync_folder,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._mboot import believed
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import add_shared
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import dump_json, tree_lock, write_json

__all__ = ["ImageStore", "Outcome", "Run"]

_Added = t.Sequence[tuple[str, AddedModule]]


@dataclass
class Outcome:
    """What one call did, or in check mode would do.

    ``image`` is ``None`` after a removal, and in check mode for an image that is not imported yet. ``before`` and
    ``after`` are texts for a diff.
    """

    changed: bool
    msg: str
    image: t.Optional[Image] = None
    before: str = ""
    after: str = ""
    warnings: list[str] = field(default_factory=list)


class ImageStore:
    """The images of one PXE server."""

    def __init__(self, config: ServerConfig, *, run: Run, check_mode: bool = False) -> None:
        self._config = config
        self._layout = Layout.of(config)
        self._run = run
        self._check_mode = check_mode
        self._intake = Intake(self._layout.images_dir, error=ImageError, check_mode=check_mode)

    # What modules ask for.

    def present(
        self,
        name: str,
        src: str,
        *,
        checksum: t.Optional[str] = None,
        replace_other: bool = False,
        linux: t.Optional[BiosLoader] = None,
        add_modules: t.Sequence[str] = (),
        verify: bool = False,
    ) -> Outcome:
        """Import a medium under a name, unless that very medium is there already.

        ``checksum`` is the SHA-256 of an ISO file in hexadecimal. ``add_modules`` are files that the installer is to
        load beside the medium's own modules. With ``verify`` every file of an image that is there is read and compared
        with what was imported. Raises :class:`ImageError`.
        """
        self._layout.image_dir(name)  # refuses a name that is no name, before anything is read
        with self._intake.lock():
            wanted = _Wanted(name, src, checksum, replace_other, linux, add_modules, verify)
            return self._with_loaders(self._present(wanted))

    def absent(self, name: str) -> Outcome:
        """Take an image away; raises :class:`ImageError` while a published host uses it."""
        self._layout.image_dir(name)
        with self._intake.lock(), self._tree_lock():
            return self._absent(name)

    def refreshed(self) -> Outcome:
        """Bring nothing but the loaders and the default boot files up to date."""
        with self._intake.lock():
            return self._with_loaders(Outcome(changed=False, msg="The loaders and default boot files are in place."))

    # Importing.

    def _present(self, wanted: _Wanted) -> Outcome:
        name, src, linux = wanted.name, wanted.src, wanted.linux
        try:
            current = load_image(self._layout, name)
        except ImageError:
            current = None
        damage = damage_of(self._layout, current, verify=wanted.verify) if current is not None else []
        source = look_at(src)
        added = look_at_modules(wanted.add_modules, current.added_modules if current is not None else ())
        same_added = current is not None and tuple(module for _path, module in added) == current.added_modules
        if source is None:
            if current is not None and not damage and same_added and current.source.path == src:
                check_sum(wanted.checksum, current.sha256, src)
                return Outcome(False, f"Image {name} is imported; its source {src} is gone meanwhile.", current)
            why = f" (the image is damaged: {damage[0]})" if damage else ""
            raise ImageError(f"{src} does not exist on the PXE server{why}: copy the ESXi ISO there, or correct src")
        if wanted.checksum is not None and source.kind != "iso":
            raise ImageError(f"a checksum can only be checked for an ISO file, and {src} is a folder: leave it out")

        found: t.Optional[str] = None
        if current is not None:
            # Dates and sizes tell about one place only: two media may well have the same.
            same = source == current.source
            if not same:
                found = digest(source)
                same = found == current.sha256
            if not same and not wanted.replace_other:
                raise ImageError(
                    f"image {name} was imported from {current.source.path} (build {current.build}) and {src} has other "
                    "contents: import it under a name of its own, or set replace to true"
                )
            if same:
                check_sum(wanted.checksum, current.sha256, src)
                if not damage and same_added and (linux is None or linux == current.bios):
                    if source != current.source and not self._check_mode:
                        # Only where it lies and its dates are new: note them, so that the next run need not read it.
                        current = replace(current, source=source)
                        write_json(self._layout.description(name), current.to_record())
                    return Outcome(False, f"Image {name} is imported already (build {current.build}).", current)
            if not same or not same_added:
                self._refuse_while_installing(name)
        elif self._layout.image_dir(name).exists():
            self._refuse_while_installing(name)  # nobody can say whether these files are the same
        if source.kind == "iso":
            found = found or digest(source)
            check_sum(wanted.checksum, found, src)
        self._check_room(source, added)

        what = "repaired" if damage else ("replaced" if current is not None else "imported")
        before = _diff_text(current)
        if self._check_mode:
            return Outcome(True, f"Image {name} would be {what} from {src}.", current, before, f"imported from {src}\n")
        image, warnings = self._import(wanted, source, found, added, current)
        warnings += [f"Image {name} was damaged and has been imported again: {text}." for text in damage[:3]]
        return Outcome(
            True, f"Image {name} was {what} (build {image.build}).", image, before, _diff_text(image), warnings
        )

    def _import(
        self, wanted: _Wanted, source: Source, found: t.Optional[str], added: _Added, current: t.Optional[Image]
    ) -> tuple[Image, list[str]]:
        name = wanted.name
        try:
            with self._intake.workspace(name) as work:
                tree = work / "tree"
                os.mkdir(tree)
                if source.kind == "iso":
                    needs = list_iso(self._run, source.path)
                    self._check_room(source, added, size=needs.size, files=needs.files)
                    raw = work / "raw"
                    os.mkdir(raw)
                    unpack(self._run, source.path, raw)
                    Taker(tree, iso=source.path).take(raw)
                else:
                    found = digest_of(Taker(tree, iso=None).take(Path(source.path)))
                _add(tree, added)
                config, warnings = _configure(tree, name, [module for _path, module in added])
                mboot_version, hint = _loader_of(tree, config.version)
                warnings += [f"{hint} (image {name})"] if hint else []
                files = seal(tree)
                image = describe_image(
                    name,
                    config,
                    {path: size for path, (size, _sum) in files.items()},
                    sha256=found or "",
                    source=source,
                    imported=_now(),
                    linux=wanted.linux,
                    mboot_version=mboot_version,
                    added=[module for _path, module in added],
                )
                with self._tree_lock():
                    self._put_in_place(image, tree, files, current)
        except OSError as error:
            if not full_disk(error):
                raise
            raise ImageError(
                f"the disk filled up while {source.path} was imported below {self._layout.images_dir}: nothing of it "
                "is left; make room and try again"
            ) from error
        return image, warnings

    def _put_in_place(
        self, image: Image, tree: Path, files: t.Mapping[str, tuple[int, str]], current: t.Optional[Image]
    ) -> None:
        """Make a finished tree the image. The caller has the tree's lock: nobody is armed meanwhile."""
        name = image.name
        known = current is not None and (image.sha256, image.added_modules) == (current.sha256, current.added_modules)
        if not known:
            self._refuse_while_installing(name)  # once more: an import takes a while, and hosts were armed meanwhile
        if self._undescribe(name) and not supports_skip(image.mboot_version):
            # No loader may lead into a tree whose mboot would install on whoever is told to boot its disk.
            self._add_loaders(Outcome(changed=False, msg=""))
        self._intake.put_in_place(name, tree)
        write_manifest(self._layout, name, files)
        write_json(self._layout.description(name), image.to_record())

    def _undescribe(self, name: str) -> bool:
        description = self._layout.description(name)
        try:
            os.unlink(description)
        except FileNotFoundError:
            return False
        sync_folder(description.parent)
        return True

    def _check_room(
        self, source: Source, added: _Added, size: t.Optional[int] = None, files: t.Optional[int] = None
    ) -> None:
        if size is None and source.kind == "iso":
            size, files = os.stat(source.path).st_size, 0
        elif size is None:
            sizes = [info.st_size for _name, info in walk(source.path)]
            size, files = sum(sizes), 2 * len(sizes)
        check_space(
            self._layout.images_dir,
            size=size + sum(module.size for _path, module in added),
            files=(files or 0) + len(added),
            what=source.path,
            error=ImageError,
        )

    # Removing.

    def _absent(self, name: str) -> Outcome:
        try:
            current = load_image(self._layout, name)
        except ImageError:
            current = None
        final = self._layout.image_dir(name)
        description = self._layout.description(name)
        if not (description.exists() or final.is_symlink() or final.exists()):
            return Outcome(False, f"There is no image {name}.")
        users = users_of(self._layout, name)
        if users:
            armed = armed_with(self._layout, users)
            raise ImageError(
                f"image {name} is used by {_some(users)}{f', of which {_some(armed)} is armed' if armed else ''}: "
                f"give {'it' if len(users) == 1 else 'them'} another image or retire them first"
            )
        before = _diff_text(current) or f"image {name} without a usable description\n"
        if self._check_mode:
            return Outcome(True, f"Image {name} would be removed.", None, before, "")
        # First nobody can be armed with it, then no loader leads into it, then it goes.
        self._undescribe(name)
        outcome = Outcome(True, f"Image {name} was removed.", None, before, "")
        self._add_loaders(outcome)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._layout.manifest(name))
        self._intake.discard(name)
        return outcome

    def _refuse_while_installing(self, name: str) -> None:
        armed = armed_with(self._layout, users_of(self._layout, name))
        if armed:
            raise ImageError(
                f"image {name} cannot be replaced while {_some(armed)} may be reading it: wait for the install, or "
                "disarm first"
            )

    # Loaders and default files.

    def _with_loaders(self, outcome: Outcome) -> Outcome:
        with self._tree_lock():
            self._add_loaders(outcome)
        return outcome

    def _add_loaders(self, outcome: Outcome) -> None:
        """Bring loaders and defaults up to date and add what that changed to an outcome. The caller has the lock."""
        images, errors = load_images(self._layout)
        outcome.warnings.extend(errors)
        batch = Batch()
        add_shared(batch, self._layout, self._config, images)
        changes = batch.plan() if self._check_mode else batch.commit()
        if changes:
            outcome.changed = True
            outcome.before += "".join(_change_text(change, change.before) for change in changes)
            outcome.after += "".join(_change_text(change, change.after) for change in changes)

    def _tree_lock(self) -> t.ContextManager[None]:
        return contextlib.nullcontext() if self._check_mode else tree_lock(self._layout)


@dataclass(frozen=True)
class _Wanted:
    name: str
    src: str
    checksum: t.Optional[str]
    replace_other: bool
    linux: t.Optional[BiosLoader]
    add_modules: t.Sequence[str]
    verify: bool


# A tree that is being made.


def _add(tree: Path, added: _Added) -> None:
    for path, module in added:
        target = tree / module.name
        if target.exists():
            raise ImageError(
                f"{path} in add_modules has the name of a file of the medium, {module.name}: give it another name"
            )
        try:
            taken = copy_file(path, target)
        except FileNotFoundError:
            taken = ""
        if taken != module.sha256:
            raise ImageError(f"{path} in add_modules changed or went while it was read: try again")


def _configure(tree: Path, name: str, added: t.Sequence[AddedModule]) -> tuple[BootConfig, list[str]]:
    """Read the medium's boot.cfg and put a form of it in its place that works over the network."""
    configs: list[BootConfig] = []
    for path in BOOT_CFG_PATHS:
        if (tree / path).is_file():
            with open(tree / path, "rb") as file:
                config = parse_boot_cfg(file.read(BOOT_CFG_LIMIT + 1))
            taken = {module.split(" ", 1)[0] for module in config.modules} & {module.name for module in added}
            if taken:
                raise ImageError(f"the medium's boot.cfg names {min(taken)} already, which add_modules is to add")
            config = replace(config, modules=(*config.modules, *(module.name for module in added)))
            configs.append(config)
            (tree / path).unlink()
            (tree / path).write_text(render_boot_cfg(config, name), encoding="ascii")
    if not configs:
        raise ImageError("the medium has no boot.cfg: it is no ESXi installer")
    warnings = []
    if any((other.kernel, other.modules) != (configs[0].kernel, configs[0].modules) for other in configs[1:]):
        warnings.append(f"{BOOT_CFG_PATHS[0]} and {BOOT_CFG_PATHS[1]} of image {name} differ; the first one is used.")
    if any(other.build != configs[0].build for other in configs[1:]):
        # Both decide what is safe: where they disagree, the older one is believed.
        oldest = min(configs, key=lambda config: tuple(int(part) for part in config.version.split(".")))
        warnings.append(
            f"The two boot.cfg of image {name} are of the builds {configs[0].build} and {configs[-1].build}; "
            f"{oldest.build} is believed."
        )
        configs[0] = replace(configs[0], build=oldest.build, version=oldest.version)
    removed = [word for word in configs[0].dropped if word.lower() != "cdromboot"]
    if removed:
        warnings.append(
            f"The medium of image {name} has the kernel options {' '.join(removed)} built in; they are left out, "
            "because this collection gives every host a kickstart of its own."
        )
    if added:
        warnings.append(
            f"The installer of image {name} loads {', '.join(module.name for module in added)} beside its own modules. "
            "That does not install them: what a host is to keep comes from a depot, by a post action."
        )
    return configs[0], warnings


def _loader_of(tree: Path, version: str) -> tuple[str, t.Optional[str]]:
    """What the medium's UEFI loader is believed to be, and a sentence where that is not what the medium says."""
    path = tree / UEFI_LOADER_PATH
    if not path.is_file() or not stat.S_ISREG(path.lstat().st_mode):
        return version, None
    return believed(version, path.read_bytes())


# Texts.


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _some(names: t.Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more hosts"


def _diff_text(image: t.Optional[Image]) -> str:
    if image is None:
        return ""
    record = image.to_record()
    for key in ("imported", "source"):
        record.pop(key)
    return dump_json(record).decode("ascii")


def _change_text(change: Change, text: t.Optional[str]) -> str:
    return "" if text is None else f"{change.path}: {text.rstrip()}\n"
