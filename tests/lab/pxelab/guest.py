# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer medium for virtual machines: an ESXi medium's layout, with programs that real firmware can run.

====================  ==============================================================================================
efi/boot/bootx64.efi  tests/lab/mboot: a UEFI program that searches and reads ``boot.cfg`` as mboot does
b.b00                 a Linux kernel of the distribution, in the place of ESXi's
first.gz, initrd.gz   pieces of its initrd: busybox, drivers, and tests/lab/guest (``modules=`` of boot.cfg)
system.gz             what the installer writes to the disk: a file system that BIOS and UEFI boot, with the same
                      kernel, and Python, OpenSSL and vcsim for the host's API
====================  ==============================================================================================

BIOS machines start kernel and initrd through pxelinux itself (``linux_loader`` of esxi_image): VMware's mboot.c32 needs
Syslinux 3.86, which distributions do not have.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import medium, paths, procs, sandbox
from .errors import LabError

VERSION = "8.0.3"
KERNEL_OPTIONS = "runweasel console=tty0 console=ttyS0 quiet loglevel=4"
LINUX_LOADER = {"kernel": "b.b00", "initrd": "initrd.gz", "append": ""}
#: Bytes of a machine's disk; the marks behind the file system are guest/installer.sh's.
DISK_BYTES = 128 * 1024 * 1024
IMAGE_BYTES = 112 * 1024 * 1024
_GUEST = paths.ROOT / "tests/lab/guest"
_MBOOT = paths.ROOT / "tests/lab/mboot"
_KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic", "linux-image-amd64")
_DRIVERS = (
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio-rng",
    "e1000e",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "loop",
    "squashfs",
)
_BOOTLOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
#: Parts of Python's standard library that nothing in the guest imports.
_NOT_PYTHON = (
    "test",
    "idlelib",
    "tkinter",
    "lib2to3",
    "ensurepip",
    "turtledemo",
    "pydoc_data",
    "distutils",
    "config-*",
    "__pycache__",
    "dist-packages",
)
_PROGRAMS = ("/usr/bin/openssl",)
#: Of this package: what the API of an installed host is made of.
_API = ("__init__", "esxi_api", "soap", "paths")


def _apt(*words: str) -> str:
    return procs.run(["apt-cache", *words], check=False).stdout


def _kernel_packages() -> list[str]:
    """The packages that hold the distribution's kernel for virtual machines and its modules."""
    for name in _KERNELS:
        found = re.findall(r"Depends: (linux-(?:image|modules)(?:-unsigned)?-[0-9]\S*)", _apt("depends", name))
        if found:
            more = [
                one
                for image in found
                for one in re.findall(r"Depends: (linux-modules-[0-9]\S*)", _apt("depends", image))
            ]
            return sorted({*found, *more})
    raise LabError("no kernel for virtual machines in the package lists: run apt-get update")


def kernel() -> tuple[Path, Path]:
    """The kernel image and its folder of modules; fetched as packages, unpacked and never installed."""
    packages = _kernel_packages()
    place = paths.CACHE / f"kernel-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    if not place.is_dir():
        fresh = place.with_name(f"{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "debs").mkdir(parents=True)
        done = subprocess.run(
            ["apt-get", "download", "-qq", *packages], cwd=fresh / "debs", capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(f"cannot fetch {' '.join(packages)}: {done.stderr.strip()}")
        for package in (fresh / "debs").glob("*.deb"):
            procs.run(["dpkg-deb", "-x", package, fresh])
        shutil.rmtree(fresh / "debs")
        for old in paths.CACHE.glob("kernel-*"):
            if old != fresh:
                shutil.rmtree(old, ignore_errors=True)
        fresh.rename(place)
    image = next(place.glob("boot/vmlinuz-*"), None)
    modules = next(place.glob("lib/modules/*"), None) or next(place.glob("usr/lib/modules/*"), None)
    if image is None or modules is None:
        raise LabError(f"{place} has no kernel")
    return image, modules


def _drivers(modules: Path) -> list[Path]:
    """Files of the drivers, each behind those that it needs."""
    files = {re.sub(r"\.ko(\.\w+)?$", "", path.name).replace("-", "_"): path for path in modules.rglob("*.ko*")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None:
            return  # built in
        needs = re.search(rb"\0depends=([^\0]*)\0", b"\0" + _module(path))
        for need in needs[1].decode("ascii").split(",") if needs else ():
            if need:
                add(need)
        if path not in order:
            order.append(path)

    for name in _DRIVERS:
        add(name)
    return order


def _module(path: Path) -> bytes:
    """A module's bytes: some distributions compress them, which busybox's insmod cannot read."""
    if path.suffix == ".ko":
        return path.read_bytes()
    tool = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}.get(path.suffix)
    if tool is None or not shutil.which(tool):
        raise LabError(f"{path.name}: cannot unpack it")
    return subprocess.run([tool, "-dc", str(path)], capture_output=True, check=True).stdout


class Archive:
    """A cpio archive of the kind that Linux takes for an initrd ("newc"), all owned by root."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._number = 0
        self._folders: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._number += 1
        raw = name.encode("ascii") + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        self._data += b"\0" * (-len(self._data) % 4) + data
        self._data += b"\0" * (-len(self._data) % 4)

    def _parents(self, name: str) -> None:
        folder, _slash, _name = name.rpartition("/")
        if folder and folder not in self._folders:
            self._parents(folder)
            self._folders.add(folder)
            self._entry(folder, stat.S_IFDIR | 0o755)

    def folder(self, name: str) -> None:
        """An empty folder."""
        self._parents(f"{name}/x")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode("ascii"))

    def device(self, name: str, major: int, minor: int) -> None:
        """A character device."""
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def packed(self, level: int = 9) -> bytes:
        """The archive, compressed; the same bytes every time."""
        self._entry("TRAILER!!!", 0)
        return gzip.compress(bytes(self._data), level, mtime=0)


def _initrd(modules: Path, system_md5: str) -> bytes:
    """Busybox, drivers and the scripts of tests/lab/guest."""
    busybox = sandbox.static_busybox([Path("/usr/bin/busybox"), Path("/bin/busybox")])
    if busybox is None:
        raise LabError("no static busybox on this machine")
    archive = Archive()
    for folder in (
        "proc",
        "sys",
        "dev",
        "tmp",
        "var/log",
        "var/run",
        "root",
        "vmfs/volumes",
        "etc/rc.local.d",
        "var/lib/stand-in",
    ):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    stand_ins = {command.lstrip("/") for command in sandbox.STAND_INS}
    # the machine's own: it really restarts
    stand_ins -= {"bin/reboot", "sbin/reboot"}
    for applet in procs.run([busybox, "--list"]).stdout.split():
        if applet != "busybox" and f"bin/{applet}" not in stand_ins:
            archive.link(f"bin/{applet}", "busybox")
    archive.file("opt/stand-in", sandbox.STAND_IN.encode(), 0o755)
    for command in sorted(stand_ins):
        archive.link(command, "/opt/stand-in")
    archive.file("etc/stand-in-version", f"{VERSION}\n".encode())
    archive.file("etc/stand-in-fails", b"")
    archive.file("etc/rc.local.d/local.sh", sandbox.LOCAL_SH, 0o1755)
    for name, content in sandbox.AS_INSTALLED.items():
        archive.file(f"var/lib/stand-in/{name}", content)
    archive.link("bootbank", "/disk/state")
    archive.file("etc/passwd", b"root:x:0:0:Administrator:/:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:root\n")
    archive.file("etc/hosts", b"127.0.0.1 localhost.localdomain localhost\n")
    names = []
    for path in _drivers(modules):
        name = re.sub(r"\.ko.*$", ".ko", path.name)
        names.append(name)
        archive.file(f"lib/modules/{name}", _module(path))
    archive.file("lib/modules/order", "".join(f"{name}\n" for name in names).encode())
    archive.file("init", (_GUEST / "init").read_bytes(), 0o755)
    archive.file("lib/pxelab/udhcpc", (_GUEST / "udhcpc").read_bytes(), 0o755)
    for name in ("installer.sh", "system.sh"):
        archive.file(f"lib/pxelab/{name}", (_GUEST / name).read_bytes())
    archive.file("lib/pxelab/image-md5", f"{system_md5}\n".encode())
    archive.file("lib/pxelab/image-bytes", f"{IMAGE_BYTES}\n".encode())
    # of the installed system's squashfs
    for link, target in (
        ("usr", "system/usr"),
        ("lib64", "system/lib64"),
        ("lib/x86_64-linux-gnu", "/system/lib/x86_64-linux-gnu"),
    ):
        archive.link(link, target)
    for name, target in (
        ("python3", "/usr/bin/python3"),
        ("python", "/usr/bin/python3"),
        ("openssl", "/usr/bin/openssl"),
    ):
        archive.link(f"bin/{name}", target)
    return archive.packed()


def _first_module() -> bytes:
    """A module of its own: whoever does not load every module of boot.cfg has an incomplete installer."""
    archive = Archive()
    archive.file("lib/pxelab/first-module", b"complete\n")
    return archive.packed()


def _libraries(files: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for file in files:
        for line in procs.run(["ldd", file], check=False).stdout.splitlines():
            match = re.search(r"(/\S+)", line)
            if match and ".so" in match[1]:
                found.add(match[1])
    return found


def _copy(source: Path, root: Path, name: str) -> Path:
    target = root / name.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), target)
    return target


def _system_tree(root: Path, vcsim: Path) -> None:
    """What the installed system needs beside busybox: this machine's own Python and OpenSSL, the lab's API, vcsim."""
    python = Path("/usr/bin/python3").resolve()
    stdlib = Path(procs.run([python, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]).stdout.strip())
    shutil.copytree(stdlib, root / str(stdlib).lstrip("/"), ignore=shutil.ignore_patterns(*_NOT_PYTHON), symlinks=False)
    binaries = [_copy(python, root, str(python)), *(_copy(Path(name), root, name) for name in _PROGRAMS)]
    (root / "usr/bin/python3").symlink_to(python.name)
    # openssl reads it even for a certificate that names everything itself
    _copy(Path("/etc/ssl/openssl.cnf"), root, "/usr/lib/ssl/openssl.cnf")
    extensions = list((root / str(stdlib).lstrip("/")).rglob("*.so"))
    crypt = next((path for path in Path("/").glob("*lib/x86_64-linux-gnu/libcrypt.so.1")), None) or Path(
        "/usr/lib/x86_64-linux-gnu/libcrypt.so.1"
    )
    for library in sorted({*_libraries([*binaries, *extensions]), str(crypt)}):
        # the guest's /lib and /lib64 lead to these two
        place = "lib64" if library.startswith("/lib64/") else "lib/x86_64-linux-gnu"
        _copy(Path(library), root, f"{place}/{Path(library).name}")
    _copy(vcsim, root, "lab/vcsim")
    for name in _API:
        _copy(paths.ROOT / f"tests/lab/pxelab/{name}.py", root, f"lab/pxelab/{name}.py")


_SYSLINUX = (
    "DEFAULT disk\nPROMPT 0\nTIMEOUT 0\nLABEL disk\n  KERNEL /vmlinuz\n  INITRD /initrd.gz\n  APPEND {options}\n"
)
_LOADER = "timeout 0\nconsole-mode keep\ndefault disk.conf\n"
_ENTRY = "title   stand-in of ESXi\nlinux   /vmlinuz\ninitrd  /initrd.gz\noptions {options}\n"


def _disk_image(work: Path, vmlinuz: Path, initrd: bytes, vcsim: Path) -> Path:
    """The file system that the installer writes: not bootable until its two last steps make it so."""
    tree = work / "system"
    _system_tree(tree, vcsim)
    squashed = work / "system.sfs"
    procs.run(
        [
            "mksquashfs",
            tree,
            squashed,
            "-comp",
            "gzip",
            "-all-root",
            "-noappend",
            "-quiet",
            "-no-progress",
            "-mkfs-time",
            "0",
            "-all-time",
            "0",
        ]
    )
    image = work / "system.img"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    procs.run(["mkfs.vfat", "-F", "32", "-n", "ESXSTANDIN", "-i", "e5c1e5c1", "--invariant", image])
    options = "pxelab.disk console=tty0 console=ttyS0 quiet loglevel=4"
    texts = {
        "syslinux.cfg": _SYSLINUX.format(options=options),
        "loader/loader.conf": _LOADER,
        "loader/entries/disk.conf": _ENTRY.format(options=options),
    }
    put = work / "put"
    for name, text in texts.items():
        (put / name).parent.mkdir(parents=True, exist_ok=True)
        (put / name).write_text(text, encoding="ascii")
    (put / "initrd.gz").write_bytes(initrd)
    procs.run(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"])
    procs.run(["mcopy", "-i", image, "-s", "-o", *put.iterdir(), "::/"])
    procs.run(["mcopy", "-i", image, vmlinuz, "::/vmlinuz"])
    procs.run(["mcopy", "-i", image, squashed, "::/system.sfs"])
    procs.run(["mcopy", "-i", image, _BOOTLOADER, "::/EFI/BOOT/pending.efi"])
    procs.run(["syslinux", "--install", image])
    # a BIOS does not boot a sector without the signature
    with image.open("r+b") as file:
        file.seek(510)
        file.write(b"\0\0")
    return image


def _recipe(vmlinuz: Path) -> str:
    """What the medium depends on."""
    parts = [vmlinuz.name, VERSION]
    sources = [Path(__file__), Path(sandbox.__file__), *sorted(_GUEST.iterdir()), *sorted(_MBOOT.iterdir())]
    sources += [paths.ROOT / f"tests/lab/pxelab/{name}.py" for name in _API]
    for path in sources:
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def check_tools() -> None:
    """Raises ``LabError`` when something that the medium is made with is not installed."""
    tools = (
        "qemu-system-x86_64",
        "gcc",
        "objcopy",
        "mksquashfs",
        "mkfs.vfat",
        "mmd",
        "mcopy",
        "syslinux",
        "apt-get",
        "dpkg-deb",
    )
    missing = [tool for tool in tools if not shutil.which(tool)]
    if not _BOOTLOADER.exists():
        missing.append("systemd-boot-efi")
    if missing:
        raise LabError(
            f"not installed: {', '.join(missing)}; tests/lab/packages-vm.txt lists what virtual machines need"
        )


def make_loader(out: Path, version: str = VERSION) -> Path:
    """The stand-in of mboot.efi that plays a version."""
    out.parent.mkdir(parents=True, exist_ok=True)
    procs.run([_MBOOT / "build.sh", out, version], timeout=300)
    return out


def make_tree(work: Path, vmlinuz: Path, modules: Path, vcsim: Path) -> Path:
    """The medium's files below ``work/tree``."""
    tree = work / "tree"
    tree.mkdir(parents=True)
    # the initrd knows the sum of the disk image, and the disk image holds an initrd: there it is one without the sum
    image = _disk_image(work, vmlinuz, _initrd(modules, "-"), vcsim)
    data = image.read_bytes()
    initrd = _initrd(modules, hashlib.md5(data, usedforsecurity=False).hexdigest())
    (tree / "b.b00").write_bytes(vmlinuz.read_bytes())
    (tree / "initrd.gz").write_bytes(initrd)
    (tree / "first.gz").write_bytes(_first_module())
    (tree / "system.gz").write_bytes(gzip.compress(data, 1, mtime=0))
    config = medium.boot_cfg(build=medium.build_of(VERSION), modules=["first.gz", "initrd.gz"])
    config = re.sub(r"(?m)^kernelopt=.*$", f"kernelopt={KERNEL_OPTIONS} cdromBoot", config)
    for name in ("boot.cfg", "efi/boot/boot.cfg"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(config, encoding="ascii")
    make_loader(tree / "efi/boot/bootx64.efi")
    (tree / "efi/boot/crypto64.efi").write_bytes(b"MZ stand-in of crypto64.efi\n")
    return tree


def make_iso(vcsim: Path) -> Path:
    """The medium as an ISO, made once for each version of what it is made of. Raises ``LabError``."""
    check_tools()
    vmlinuz, modules = kernel()
    iso = paths.CACHE / f"esxi-vm-{VERSION}-{_recipe(vmlinuz)}.iso"
    if iso.exists():
        return iso
    work = paths.CACHE / "medium-vm.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        fresh = work / "new.iso"
        medium.make_iso(make_tree(work, vmlinuz, modules, vcsim), fresh)
        for old in paths.CACHE.glob("esxi-vm-*.iso"):
            old.unlink()
        os.replace(fresh, iso)
    except RuntimeError as error:
        raise LabError(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return iso
