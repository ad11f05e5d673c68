# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for an ESXi installer medium: the layout of the real one, none of its contents.

The real media may not be redistributed, and nothing that prepares a PXE server looks further than names, sizes and
``boot.cfg``. So the stand-in has the real names (8.3, as ISO9660 level 1 wants them), a ``boot.cfg`` with the leading
slashes that trip people up, and module files of repeatable bytes.

Use from a shell: ``PYTHONPATH=tests/lab python3 -m pxelab.medium OUT --version 8.0.3 --iso``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

__all__ = [
    "DEFAULT_VERSION",
    "boot_cfg",
    "build_of",
    "kernel_version",
    "loader_version",
    "make_iso",
    "make_tree",
    "module_names",
]

DEFAULT_VERSION = "8.0.3"

# The build number of one public release of each line; any other version gets a number that is clearly made up.
_BUILD_NUMBERS = {"8.0.3": 24022510, "8.0.1": 21495797, "7.0.3": 21930508, "6.7.0": 14320388}
_MADE_UP_BUILD = 99999999

# The first and the last modules of a real boot.cfg: the order matters to the installer, so a test wants to see it kept.
_FIRST_MODULES = ("jumpstrt.gz", "useropts.gz", "features.gz", "k.b00", "uc_intel.b00", "uc_amd.b00", "sb.v00", "s.v00")
_LAST_MODULES = ("imgdb.tgz", "basemisc.tgz", "esxiodpt.tgz", "imgpayld.tgz")

# Real media carry one date for all files; a fixed one makes the ISO the same byte for byte every time.
_EPOCH = 1_700_000_000

# The keys of boot.cfg that an mboot knows stand in its program; from which version on it has them.
_LOADER_KEYS = (
    ((6, 7, 0), "kernel kernelopt modules title prefix nobootif timeout noquirks norts"),
    ((7, 0, 2), "crypto"),
    ((8, 0, 0), "runtimewd tftpblksize acpitables runtimewdtimeout"),
    ((8, 0, 1), "skip errtimeout"),
)

_LOADER_LINE = re.compile(rb"^MZ pxelab stand-in of (?P<what>[a-z0-9.]+) from ESXi (?P<version>[0-9.]+) ")

_KERNEL_LINE = re.compile(rb"^pxelab stand-in of a kernel from ESXi (?P<version>[0-9.]+) ")


def build_of(version: str) -> str:
    """The text after ``build=`` for a version: ``8.0.3`` becomes ``8.0.3-0.0.24022510``."""
    return f"{version}-0.0.{_BUILD_NUMBERS.get(version, _MADE_UP_BUILD)}"


def module_names(count: int) -> list[str]:
    """The names of ``count`` modules, in the order of boot.cfg; filler goes where a real medium has its drivers."""
    known = len(_FIRST_MODULES) + len(_LAST_MODULES)
    if count < 2:
        raise ValueError("a medium has at least two modules")
    if count <= known:
        head = max(1, count - len(_LAST_MODULES))
        return [*_FIRST_MODULES[:head], *_LAST_MODULES[len(_LAST_MODULES) - (count - head) :]]
    filler = [f"drv{number:05d}.v00" for number in range(count - known)]
    return [*_FIRST_MODULES, *filler, *_LAST_MODULES]


def boot_cfg(*, build: str, modules: Sequence[str], kernel: str = "b.b00") -> str:
    """The text of ``boot.cfg`` as an installer medium has it: leading slashes, no prefix."""
    lines = [
        "bootstate=0",
        "title=Loading ESXi installer",
        "timeout=5",
        "prefix=",
        f"kernel=/{kernel}",
        "kernelopt=runweasel cdromBoot",
        "modules={}".format(" --- ".join("/" + module for module in modules)),
        f"build={build}",
        "updated=0",
    ]
    return "\n".join(lines) + "\n"


def loader_version(data: bytes) -> Optional[str]:
    """The ESXi version that a stand-in loader was made for, or ``None`` when the bytes are no such loader.

    A stand-in machine asks this of the ``mboot.efi`` it was given: one from before 8.0.1 does not know ``skip=1``.
    """
    found = _LOADER_LINE.match(data)
    return found.group("version").decode("ascii") if found else None


def kernel_version(data: bytes) -> Optional[str]:
    """The ESXi version that a stand-in kernel was made for, or ``None``: what an installer installs."""
    found = _KERNEL_LINE.match(data)
    return found.group("version").decode("ascii") if found else None


def _filler(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode("ascii")).digest(size)


def _loader(what: str, version: str, size: int) -> bytes:
    head = f"MZ pxelab stand-in of {what} from ESXi {version} \n"
    if what in ("bootx64.efi", "mboot.c32"):
        head += "".join(f"{key}\0" for key in _loader_keys(version))
    return _padded(head.encode("ascii"), what, version, size)


def _loader_keys(version: str) -> list[str]:
    number = tuple(int(part) for part in version.split("."))
    return [key for since, keys in _LOADER_KEYS if number >= since for key in keys.split()]


def _padded(head: bytes, what: str, version: str, size: int) -> bytes:
    return head + _filler(f"{what} {version}", max(0, size - len(head)))


def _kernel(version: str, build: str, size: int) -> bytes:
    head = f"pxelab stand-in of a kernel from ESXi {version} \n".encode("ascii")
    return head + _filler("b.b00 " + build, max(0, size - len(head)))


def make_tree(
    out: Path,
    *,
    version: str = DEFAULT_VERSION,
    build: Optional[str] = None,
    modules: int = 8,
    module_size: int = 16384,
    uefi: bool = True,
    bios: bool = True,
    loader: Optional[str] = None,
) -> Path:
    """Write a medium's files into the folder ``out`` (made anew) and return it.

    ``modules`` is the number of modules beside the kernel, ``module_size`` the size of each in bytes, ``loader`` the
    version of its boot loaders where that is not the medium's.
    """
    loader = loader or version
    wanted_build = build or build_of(version)
    names = module_names(modules)
    config = boot_cfg(build=wanted_build, modules=names).encode("ascii")
    files: dict[str, bytes] = {"boot.cfg": config, "b.b00": _kernel(version, wanted_build, module_size)}
    for name in names:
        files[name] = _filler(f"{name} {wanted_build}", module_size)
    if bios:
        files["mboot.c32"] = _loader("mboot.c32", loader, 4096)
        files["menu.c32"] = _loader("menu.c32", version, 2048)
        files["isolinux.bin"] = _loader("isolinux.bin", version, 4096)
        files["isolinux.cfg"] = b"DEFAULT menu.c32\nLABEL install\n  KERNEL mboot.c32\n  APPEND -c boot.cfg\n"
    if uefi:
        files["efi/boot/boot.cfg"] = config
        files["efi/boot/bootx64.efi"] = _loader("bootx64.efi", loader, 8192)
        if tuple(int(part) for part in version.split(".")) >= (7, 0, 2):
            files["efi/boot/crypto64.efi"] = _loader("crypto64.efi", version, 4096)
    files["upgrade/metadata.xml"] = b"<metadata/>\n"

    if out.exists():
        shutil.rmtree(out)
    for name, data in sorted(files.items()):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in [out, *out.rglob("*")]:
        os.utime(path, (_EPOCH, _EPOCH))
    return out


def make_iso(tree: Path, iso: Path, *, volume: str = "ESXI-STANDIN", rock_ridge: bool = False) -> Path:
    """Pack a folder into an ISO and return its path.

    Plain ISO9660 as on the real media: upper-case 8.3 names and no Rock Ridge, which is why whoever unpacks one has to
    put the names into lower case. Needs ``xorriso``.
    """
    iso.parent.mkdir(parents=True, exist_ok=True)
    if iso.exists():
        iso.unlink()
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-iso-level", "1", "-V", volume, "-o", str(iso)]
    command.insert(3, "-R" if rock_ridge else "--norock")
    command.append(str(tree))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
    )
    if done.returncode != 0:
        raise RuntimeError(f"xorriso could not make {iso}: {done.stderr.strip()}")
    return iso


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="pxelab.medium", description="Make a stand-in ESXi installer medium.")
    parser.add_argument("out", type=Path, help="the folder to make; with --iso, the ISO file to make")
    parser.add_argument("--version", default=DEFAULT_VERSION, help="ESXi version (default %(default)s)")
    parser.add_argument("--build", help="text for build= (default: made from the version)")
    parser.add_argument("--modules", type=int, default=8, help="number of modules (default %(default)s)")
    parser.add_argument("--module-size", type=int, default=16384, help="bytes of each module (default %(default)s)")
    parser.add_argument("--iso", action="store_true", help="make an ISO file instead of a folder")
    arguments = parser.parse_args(argv)
    tree = arguments.out.with_name(arguments.out.name + ".tree") if arguments.iso else arguments.out
    make_tree(
        tree,
        version=arguments.version,
        build=arguments.build,
        modules=arguments.modules,
        module_size=arguments.module_size,
    )
    if arguments.iso:
        try:
            make_iso(tree, arguments.out)
        finally:
            shutil.rmtree(tree)
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
