# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: brings installer media into the boot tree and takes them away again.

An import is unpacked into a folder of its own below ``images/`` whose name begins with a dot and which only root may
enter, so neither TFTP nor HTTP can hand out half of it; it is synced and renamed when it is whole. What a killed import
left behind is removed by the next run, whatever that run was asked for.

A medium is not trusted: it may come from a vendor's site or a colleague's folder and is read by root.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    BOOT_CFG_PATHS,
    BiosLoader,
    BootConfig,
    Image,
    ImageError,
    Source,
    canonical_entry_name,
    describe_image,
    load_image,
    load_images,
    parse_boot_cfg,
    render_boot_cfg,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import INSTALL, Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import add_shared
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    dump_json,
    read_json,
    read_mode,
    tree_lock,
    write_json,
)

__all__ = ["ImageStore", "Outcome", "Run"]

Run = t.Callable[[t.Sequence[str]], tuple[int, str, str]]
"""Runs a command (argv) and returns its exit code, output and error output."""

_PARTIAL = ".importing."
_DISCARDED = ".discarded."

# Limits that no installer comes near; a medium made to exhaust the server stops here.
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8

_CHUNK = 1024 * 1024
_SPARE_BYTES = 64 * 1024 * 1024

# Where the name of ISO9660's first volume descriptor stands: sector 16, after its type byte.
_ISO_MAGIC = (16 * 2048 + 1, b"CD001")


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

    # What modules ask for.

    def present(
        self,
        name: str,
        src: str,
        *,
        checksum: t.Optional[str] = None,
        replace_other: bool = False,
        linux: t.Optional[BiosLoader] = None,
    ) -> Outcome:
        """Import a medium under a name, unless that very medium is there already.

        ``checksum`` is the SHA-256 of an ISO file in hexadecimal. Raises :class:`ImageError`.
        """
        self._layout.image_dir(name)  # refuses a name that is no name, before anything is read
        with self._lock():
            outcome = self._present(name, src, checksum, replace_other, linux)
            return self._with_loaders(outcome)

    def absent(self, name: str) -> Outcome:
        """Take an image away; raises :class:`ImageError` while a published host uses it."""
        self._layout.image_dir(name)
        with self._lock(), self._tree_lock():
            outcome = self._absent(name)
        return outcome

    def refreshed(self) -> Outcome:
        """Bring nothing but the loaders and the default boot files up to date."""
        with self._lock():
            return self._with_loaders(Outcome(changed=False, msg="The loaders and default boot files are in place."))

    # Importing.

    def _present(
        self, name: str, src: str, checksum: t.Optional[str], replace_other: bool, linux: t.Optional[BiosLoader]
    ) -> Outcome:
        current, damage = self._current(name)
        source = _look_at(src)
        if source is None:
            if current is not None and not damage and current.source.path == src:
                _check_sum(checksum, current.sha256, src)
                return Outcome(False, f"Image {name} is imported; its source {src} is gone meanwhile.", current)
            raise ImageError(f"{src} does not exist on the PXE server: copy the ESXi ISO there, or correct src")
        if checksum is not None and source.kind != "iso":
            raise ImageError(f"a checksum can only be checked for an ISO file, and {src} is a folder: leave it out")

        digest: t.Optional[str] = None
        if current is not None:
            same = (current.source.kind, current.source.fingerprint) == (source.kind, source.fingerprint)
            if not same:
                digest = _digest(source)
                same = digest == current.sha256
            if not same and not replace_other:
                raise ImageError(
                    f"image {name} was imported from {current.source.path} (build {current.build}) and {src} has other "
                    "contents: import it under a name of its own, or set replace to true"
                )
            if same:
                _check_sum(checksum, current.sha256, src)
                if not damage and (linux is None or linux == current.bios):
                    if source != current.source and not self._check_mode:
                        # Only where it lies and its dates are new: note them, so that the next run need not read it.
                        current = replace(current, source=source)
                        write_json(self._layout.description(name), current.to_record())
                    return Outcome(False, f"Image {name} is imported already (build {current.build}).", current)
            else:
                self._refuse_while_installing(name)
        if source.kind == "iso":
            digest = digest or _digest(source)
            _check_sum(checksum, digest, src)
        self._check_space(source)

        what = "repaired" if current is not None and damage else ("replaced" if current is not None else "imported")
        before = _diff_text(current)
        if self._check_mode:
            return Outcome(True, f"Image {name} would be {what} from {src}.", current, before, f"imported from {src}\n")
        image, warnings = self._import(name, source, digest, linux)
        return Outcome(
            True, f"Image {name} was {what} (build {image.build}).", image, before, _diff_text(image), warnings
        )

    def _import(
        self, name: str, source: Source, digest: t.Optional[str], linux: t.Optional[BiosLoader]
    ) -> tuple[Image, list[str]]:
        images = self._layout.images_dir
        work = images / f"{_PARTIAL}{name}"
        tree = work / "tree"
        os.mkdir(work, 0o700)
        try:
            os.mkdir(tree)
            if source.kind == "iso":
                raw = work / "raw"
                os.mkdir(raw)
                self._unpack(source.path, raw)
                sums = _Taker(tree, move=True).take(raw)
            else:
                sums = _Taker(tree, move=False).take(Path(source.path))
                digest = _digest_of(sums)
            config, warnings = _configure(tree, name)
            files = _seal(tree)
            image = describe_image(
                name,
                config,
                files,
                sha256=digest or "",
                source=source,
                imported=_now(),
                linux=linux,
            )
            with self._tree_lock():
                self._put_in_place(name, tree)
                write_json(self._layout.description(name), image.to_record())
        finally:
            self._clean_up()
        return image, warnings

    def _unpack(self, iso: str, target: Path) -> None:
        # bsdtar, because all supported distributions have it and it refuses absolute names, '..' and writing through
        # links by itself; what it leaves is looked at once more by _Taker.
        argv = ["bsdtar", "-x", "-f", iso, "-C", str(target), "--no-same-owner", "--no-same-permissions"]
        argv += ["--no-acls", "--no-xattrs", "--no-fflags"]
        code, _out, err = self._run(argv)
        if code != 0:
            lines = err.strip().splitlines() or ["no message"]
            raise ImageError(f"bsdtar cannot unpack {iso}: {lines[0]} (exit code {code})")
        names: collections.Counter[tuple[int, int]] = collections.Counter()
        for _name, info in _walk(str(target)):
            names[(info.st_dev, info.st_ino)] += 1
        for name, info in _walk(str(target)):
            if info.st_nlink != names[(info.st_dev, info.st_ino)]:
                raise ImageError(f"the medium has a file {name!r} that is linked to something outside the medium")

    def _put_in_place(self, name: str, tree: Path) -> None:
        final = self._layout.image_dir(name)
        if final.is_symlink() or final.exists():
            os.rename(final, self._layout.images_dir / f"{_DISCARDED}{name}")
        os.rename(tree, final)
        _sync_folder(self._layout.images_dir)

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
        users = self._users(name)
        if users:
            raise ImageError(
                f"image {name} is used by {_some(users)}: give {'it' if len(users) == 1 else 'them'} another image or "
                "retire them first"
            )
        before = _diff_text(current) or f"image {name} without a usable description\n"
        if self._check_mode:
            return Outcome(True, f"Image {name} would be removed.", None, before, "")
        # First nobody can be armed with it, then no loader leads into it, then it goes.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(description)
        _sync_folder(description.parent)
        outcome = Outcome(True, f"Image {name} was removed.", None, before, "")
        self._add_loaders(outcome)
        if final.is_symlink():
            os.unlink(final)
        elif final.exists():
            os.rename(final, self._layout.images_dir / f"{_DISCARDED}{name}")
        _sync_folder(self._layout.images_dir)
        self._clean_up()
        return outcome

    def _users(self, name: str) -> list[str]:
        users = []
        for path in sorted(self._layout.records_dir.glob("*.json")):
            if path.name.startswith("."):
                continue
            record = read_json(path)
            if record is not None and record.get("image") == name:
                users.append(path.name[: -len(".json")])
        return users

    def _refuse_while_installing(self, name: str) -> None:
        armed = [host for host in self._users(name) if read_mode(self._layout, host) == INSTALL]
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

    # What is there.

    def _current(self, name: str) -> tuple[t.Optional[Image], bool]:
        """The image of that name, and whether its files are other than they were when it was imported."""
        try:
            image = load_image(self._layout, name)
        except ImageError:
            image = None
        if image is None:
            return None, False
        found = _inventory(self._layout.image_dir(name))
        return image, found is None or (len(found), sum(found.values())) != (image.files, image.bytes)

    def _check_space(self, source: Source) -> None:
        needed = _SPARE_BYTES
        if source.kind == "iso":
            needed += os.stat(source.path).st_size
        else:
            needed += sum(info.st_size for _name, info in _walk(source.path))
        free = shutil.disk_usage(self._layout.images_dir).free
        if free < needed:
            raise ImageError(
                f"importing {source.path} needs {needed // 2**20} MiB below {self._layout.images_dir} and "
                f"{free // 2**20} MiB are free: make room first"
            )

    def _clean_up(self) -> None:
        """Remove what this or an earlier, killed, run has left. The caller holds the lock of the images."""
        for entry in os.listdir(self._layout.images_dir):
            if entry.startswith((_PARTIAL, _DISCARDED)):
                path = self._layout.images_dir / entry
                name = entry[len(_DISCARDED) :] if entry.startswith(_DISCARDED) else ""
                if name and self._layout.description(name).exists() and not self._layout.image_dir(name).exists():
                    # Killed between the two renames of a replacement: the old tree still belongs to its description.
                    os.rename(path, self._layout.image_dir(name))
                elif path.is_dir() and not path.is_symlink():
                    _remove_tree(path)
                else:
                    os.unlink(path)

    # Locks. In check mode nothing is written, so nothing is locked: a lock file would be a write.

    @contextlib.contextmanager
    def _lock(self) -> t.Iterator[None]:
        """One import at a time: the lock of the folder of images. It never keeps a publish waiting."""
        folder = self._layout.images_dir
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ImageError(f"{folder} does not exist: run the role pxe_server on this machine first") from None
        try:
            if not self._check_mode:
                _flock(fd, str(folder))
                self._clean_up()
            yield
        finally:
            os.close(fd)

    def _tree_lock(self) -> t.ContextManager[None]:
        return contextlib.nullcontext() if self._check_mode else tree_lock(self._layout)


def _flock(fd: int, what: str, timeout: float = 1800.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise ImageError(
                    f"another import has held {what} for more than {timeout:g} s: wait for it to end"
                ) from None
            time.sleep(0.2)


# Sources.


def _look_at(src: str) -> t.Optional[Source]:
    """What lies at ``src``; ``None``: nothing. Raises :class:`ImageError` when it is no medium at all."""
    if not src.startswith("/"):
        raise ImageError(f"src must be an absolute path on the PXE server, not {src!r}")
    try:
        info = os.stat(src)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ImageError(f"{src} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(info.st_mode):
        text = hashlib.sha256()
        for name, entry in _walk(src):
            text.update(f"{name}\0{entry.st_size}\0{entry.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return Source(src, "folder", text.hexdigest())
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{src} is neither an ISO file nor a folder")
    with open(src, "rb") as file:
        file.seek(_ISO_MAGIC[0])
        if file.read(len(_ISO_MAGIC[1])) != _ISO_MAGIC[1]:
            raise ImageError(f"{src} is not an ISO file")
    return Source(src, "iso", f"{info.st_size} bytes, changed {info.st_mtime_ns}")


def _walk(top: str) -> t.Iterator[tuple[str, os.stat_result]]:
    """Every entry but folders below a folder, in a fixed order, with its own ``lstat``; links are not followed."""

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}") from error

    count = 0
    for parent, folders, files in os.walk(top, onerror=fail):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted(files + links):
            count += 1
            if count > _MAX_ENTRIES:
                raise ImageError(f"{top} has more than {_MAX_ENTRIES} files: it is no ESXi installer")
            path = os.path.join(parent, name)
            yield os.path.relpath(path, top), os.lstat(path)


def _digest(source: Source) -> str:
    """SHA-256 of an ISO file, or of a folder's names and contents as :func:`_digest_of` has it."""
    if source.kind == "iso":
        return _file_sum(source.path)
    sums = {}
    for name, info in _walk(source.path):
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(f"{source.path} has an entry {name!r} that is no plain file")
        canonical = "/".join(canonical_entry_name(part) for part in name.split("/"))
        sums[canonical] = _file_sum(os.path.join(source.path, name))
    return _digest_of(sums)


def _digest_of(sums: t.Mapping[str, str]) -> str:
    text = hashlib.sha256()
    for name in sorted(sums):
        text.update(f"{name}\0{sums[name]}\n".encode("ascii"))
    return text.hexdigest()


def _file_sum(path: str) -> str:
    text = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                text.update(chunk)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return text.hexdigest()


def _check_sum(wanted: t.Optional[str], found: str, src: str) -> None:
    if wanted is not None and wanted.lower() != found:
        raise ImageError(
            f"{src} has the SHA-256 sum {found}, not {wanted.lower()}: download it again, or correct checksum"
        )


class _Taker:
    """Takes the files of an unpacked medium into a new tree, under their canonical names.

    Whatever is no plain file or folder is refused, and so is a name that could lead anywhere else. A file with further
    names is copied, not moved: bsdtar makes hard links of files that share their contents on the ISO.
    """

    def __init__(self, tree: Path, *, move: bool) -> None:
        self._tree = tree
        self._move = move
        self._sums: dict[str, str] = {}
        self._entries = 0

    def take(self, top: Path) -> dict[str, str]:
        """Returns the SHA-256 of each file that was copied, by its path in the new tree."""
        self._take(top, "", 0)
        return self._sums

    def _take(self, folder: Path, below: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ImageError(f"the medium has folders in folders at {below!r}, deeper than any ESXi installer")
        seen: dict[str, str] = {}
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise ImageError(f"{folder} cannot be read: {error.strerror}") from error
        for entry in entries:
            self._entries += 1
            if self._entries > _MAX_ENTRIES:
                raise ImageError(f"the medium has more than {_MAX_ENTRIES} entries: it is no ESXi installer")
            name = canonical_entry_name(entry.name)
            if name in seen:
                raise ImageError(
                    f"the medium has both {seen[name]!r} and {entry.name!r}, which are one name in lower case"
                )
            seen[name] = entry.name
            path = f"{below}{name}"
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                os.mkdir(self._tree / path)
                self._take(Path(entry.path), path + "/", depth + 1)
            elif not stat.S_ISREG(info.st_mode):
                raise ImageError(f"the medium has {_kind(info.st_mode)} at {path!r}: only plain files are taken")
            elif self._move and info.st_nlink == 1:
                os.rename(entry.path, self._tree / path)
            else:
                self._sums[path] = _copy(entry.path, self._tree / path)


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a device, pipe or socket"


def _copy(source: str, target: Path) -> str:
    text = hashlib.sha256()
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as reader, open(target, "xb") as writer:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ImageError(f"{source} was a file a moment ago and is none now")
            for chunk in iter(lambda: reader.read(_CHUNK), b""):
                text.update(chunk)
                writer.write(chunk)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ImageError(f"the disk is full: {target} could not be written") from error
        raise ImageError(f"{source} cannot be copied: {error.strerror}") from error
    return text.hexdigest()


def _configure(tree: Path, name: str) -> tuple[BootConfig, list[str]]:
    """Read the medium's boot.cfg and put a form of it in its place that works over the network."""
    configs: list[BootConfig] = []
    for path in BOOT_CFG_PATHS:
        if (tree / path).is_file():
            with open(tree / path, "rb") as file:
                config = parse_boot_cfg(file.read(_CHUNK))
            configs.append(config)
            (tree / path).unlink()
            (tree / path).write_text(render_boot_cfg(config, name), encoding="ascii")
    if not configs:
        raise ImageError("the medium has no boot.cfg: it is no ESXi installer")
    warnings = []
    if any((other.kernel, other.modules) != (configs[0].kernel, configs[0].modules) for other in configs[1:]):
        warnings.append(f"{BOOT_CFG_PATHS[0]} and {BOOT_CFG_PATHS[1]} of image {name} differ; the first one is used.")
    removed = [word for word in configs[0].dropped if word.lower() != "cdromboot"]
    if removed:
        warnings.append(
            f"The medium of image {name} has the kernel options {' '.join(removed)} built in; they are left out, "
            "because this collection gives every host a kickstart of its own."
        )
    return configs[0], warnings


def _seal(tree: Path) -> dict[str, int]:
    """Give everything its permissions, bring it to disk, and return the size of each file."""
    sizes: dict[str, int] = {}
    for parent, _folders, files in os.walk(tree, topdown=False):
        for name in files:
            path = os.path.join(parent, name)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(fd, 0o644)
                os.fsync(fd)
                sizes[os.path.relpath(path, tree)] = os.fstat(fd).st_size
            finally:
                os.close(fd)
        os.chmod(parent, 0o755)
        _sync_folder(Path(parent))
    return sizes


def _inventory(tree: Path) -> t.Optional[dict[str, int]]:
    """Size of each file of an imported tree; ``None``: there is no such tree, or it holds more than plain files."""
    if tree.is_symlink() or not tree.is_dir():
        return None
    sizes = {}
    for name, info in _walk(str(tree)):
        if not stat.S_ISREG(info.st_mode):
            return None
        sizes[name] = info.st_size
    return sizes


def _remove_tree(path: Path) -> None:
    for attempt in range(100):
        try:
            shutil.rmtree(path)
            return
        except OSError as error:
            # The bsdtar of a killed import may still be writing there; its folder is gone in a moment, and so is it.
            if attempt == 99 or error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
            if not path.exists():
                return
            time.sleep(0.05)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
