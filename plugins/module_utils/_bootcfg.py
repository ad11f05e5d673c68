# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: the names on an installer medium, and its ``boot.cfg``.

Pure. The rules of ``boot.cfg`` are those of mboot's own parser (public source, vmware/esx-boot: ``bootlib/parse.c``
and ``mboot/config.c``); where mboot shrugs at a slip, an import refuses, because the administrator is still there to
read the sentence and the machine in the rack is not.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = [
    "BOOT_CFG_LIMIT",
    "BOOT_CFG_PATHS",
    "BootConfig",
    "ImageError",
    "canonical_entry_name",
    "is_plain_path",
    "module_name",
    "parse_boot_cfg",
    "render_boot_cfg",
]

#: Where an installer medium keeps its boot.cfg: for BIOS, then for UEFI.
BOOT_CFG_PATHS = ("boot.cfg", "efi/boot/boot.cfg")

# A real one has some 5 KB; a file much larger is no boot.cfg, and it is read whole.
BOOT_CFG_LIMIT = 256 * 1024

# A file that boot.cfg may name; no space, because mboot ends a name there.
_ENTRY = re.compile(r"[a-z0-9_][a-z0-9._+~-]*\Z")
# Anything else on a medium: vendors add folders of their own. No quotes, no backslash, nothing that hides a file.
_FILE_NAME = re.compile(r"[a-z0-9_$#@(][ !#-&(-.0-\[\]-_a-~]*\Z")
# mboot asks for such a folder beside itself before it looks anywhere else.
_MAC_FOLDER = re.compile(r"01(?:-[0-9a-f]{2}){6}\Z")
_BUILD = re.compile(r"(?P<version>[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})(?:-[0-9A-Za-z._-]+)?\Z")
_PRINTABLE = re.compile(r"[\x20-\x7e]*\Z")
_ISO_VERSION = re.compile(r";[0-9]{1,5}\Z")

_MODULE_LENGTH = 64

# Keys that mboot reads as whole numbers: anything else after them is a fatal error on the machine.
_INTEGER_KEYS = frozenset(
    ("nobootif", "timeout", "noquirks", "norts", "runtimewd", "tftpblksize", "runtimewdtimeout", "skip", "errtimeout")
)

# Kernel options of the medium that would fight with a network installation: where the installer comes from, and a
# kickstart that somebody baked into a custom ISO.
_DROPPED_OPTIONS = re.compile(r"(?:cdromboot\Z|ks=|bootif=|ksdevice=)", re.IGNORECASE)


class ImageError(EsxiPxeError):
    """A medium, a description or a name that cannot be used; the message is one sentence for the administrator."""


@dataclass(frozen=True)
class BootConfig:
    """What an installer's own boot.cfg says.

    ``kernel`` and the names in ``modules`` have lost their leading slashes and are in lower case, as the files of an
    import are; ``modules`` keeps the medium's order, each item being ``name`` or ``name options``. ``dropped`` holds
    the words taken out of ``kernelopt``.
    """

    kernel: str
    modules: tuple[str, ...]
    kernelopt: str
    title: str
    build: str
    version: str
    dropped: tuple[str, ...] = ()


def canonical_entry_name(name: str) -> str:
    """The name that one file or folder of a medium gets in the boot tree.

    ISO9660 without extensions has upper-case names, ``;1`` at the end and a dot after names without extension, while
    boot.cfg says ``/b.b00``. Raises :class:`ImageError` for a name that no installer medium has.
    """
    plain = _ISO_VERSION.sub("", name).rstrip(".").lower()
    if not _FILE_NAME.match(plain) or ".." in plain or _MAC_FOLDER.match(plain):
        raise ImageError(f"the medium has an entry named {name!r}, which no ESXi installer has")
    return plain


def is_plain_path(path: str) -> bool:
    """Whether a path is one of a file inside an image's folder: links of the boot tree may lead there."""
    return all(_FILE_NAME.match(part) and ".." not in part and " " not in part for part in path.split("/"))


def module_name(name: str) -> str:
    """The name that a file gets as one more module; raises :class:`ImageError` when mboot could not ask for it."""
    plain = name.lower()
    if not _ENTRY.match(plain) or ".." in plain or _MAC_FOLDER.match(plain) or len(plain) > _MODULE_LENGTH:
        raise ImageError(
            f"{name!r} cannot be the name of a module: it needs letters, digits and . _ + ~ - between them, at most "
            f"{_MODULE_LENGTH} characters"
        )
    return plain


def _lines(data: bytes) -> t.Iterator[tuple[int, str]]:
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            line = raw.decode("ascii")
        except UnicodeDecodeError:
            raise ImageError(f"boot.cfg has a character outside ASCII in line {number}") from None
        line = " ".join(line.split())
        if not _PRINTABLE.match(line):
            raise ImageError(f"boot.cfg has a control character in line {number}")
        yield number, line


def _file_name(what: str, text: str) -> str:
    name = text.lstrip("/").lower()
    parts = name.split("/")
    if not name or not all(_ENTRY.match(part) and ".." not in part for part in parts):
        raise ImageError(f"boot.cfg names {what} {text!r}, which is no file of an installer medium")
    return name


def parse_boot_cfg(data: bytes) -> BootConfig:
    """Read the boot.cfg of an installer medium; raises :class:`ImageError` with the reason when it is none."""
    if len(data) > BOOT_CFG_LIMIT:
        raise ImageError(f"boot.cfg has {len(data)} bytes, which no installer's has")
    values: dict[str, str] = {}
    for number, line in _lines(data):
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not key:
            raise ImageError(f"boot.cfg line {number} is not key=value: {line[:80]!r}")
        if key.endswith(" "):
            raise ImageError(f"boot.cfg line {number} has a space before its '=', and mboot overlooks such a line")
        value = value.strip()
        key = key.lower()
        if key in _INTEGER_KEYS and value and not value.isdigit():
            raise ImageError(f"boot.cfg line {number} wants a whole number after {key}=, not {value!r}")
        values[key] = value

    if not values.get("kernel"):
        raise ImageError("boot.cfg names no kernel")
    modules: list[str] = []
    for item in values.get("modules", "").split("---"):
        name, _space, options = item.strip().partition(" ")
        if name:
            modules.append(" ".join((_file_name("the module", name), options.strip())).strip())
    if not modules:
        raise ImageError("boot.cfg names no modules")
    build = values.get("build", "")
    found = _BUILD.match(build)
    if found is None:
        raise ImageError(f"boot.cfg does not say of which build it is (build={build!r})")
    words = values.get("kernelopt", "").split(" ")
    dropped = tuple(word for word in words if _DROPPED_OPTIONS.match(word))
    return BootConfig(
        kernel=_file_name("the kernel", values["kernel"]),
        modules=tuple(modules),
        kernelopt=" ".join(word for word in words if word and word not in dropped),
        title=values.get("title", ""),
        build=build,
        version=found.group("version"),
        dropped=dropped,
    )


def render_boot_cfg(config: BootConfig, name: str) -> str:
    """The image's own boot.cfg as it lies in the boot tree: an absolute prefix, and names that honour it.

    No host is pointed at this file; it is there for whoever starts the installer by hand over the network.
    """
    lines = [
        f"title={config.title}",
        "timeout=5",
        f"prefix=/images/{name}/",
        f"kernel={config.kernel}",
        f"kernelopt={config.kernelopt}",
        "modules={}".format(" --- ".join(config.modules)),
        f"build={config.build}",
        "updated=0",
    ]
    return "\n".join(lines) + "\n"
