# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what a depot of ESXi software says of itself.

Pure: bytes in, facts out. A depot begins with ``index.xml``, a list of vendors; each vendor's index names zip files of
metadata; those hold a small XML file for each VIB, image profile and bulletin. A single VIB is an ``ar`` archive whose
first member is the same XML. All of it comes from somewhere else and is not trusted.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field
from xml.etree import ElementTree

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._safe_xml import XmlError, parse_xml

__all__ = [
    "ACCEPTANCE",
    "XML_LIMIT",
    "DepotError",
    "Metadata",
    "Vib",
    "add_metadata_file",
    "index_files",
    "is_safe_path",
    "metadata_files",
    "parse_vib",
    "vib_descriptor",
]

#: Acceptance levels, the most trusted first.
ACCEPTANCE = ("certified", "accepted", "partner", "community")

#: The most that one XML file of a depot may have.
XML_LIMIT = 16 * 1024 * 1024

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+~@%=() -]*\Z")
_WORD = re.compile(r"[\x21-\x7e]{1,200}\Z")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")


class DepotError(EsxiPxeError):
    """A depot that cannot be used; the message is one sentence for the administrator."""


@dataclass(frozen=True)
class Vib:
    """One package.

    :ivar acceptance: one of `ACCEPTANCE`; empty: it does not say.
    :ivar reboot_required: whether a host that gets it must be rebooted; None: it does not say.
    :ivar maintenance_mode: whether it wants the host in maintenance mode; None: it does not say.
    :ivar file: path below the depot.
    :ivar sha256: of that file, as the metadata have it; empty: they do not say.
    """

    name: str
    version: str
    vendor: str
    acceptance: str
    reboot_required: bool | None
    maintenance_mode: bool | None
    file: str = ""
    sha256: str = ""

    def to_record(self) -> dict[str, t.Any]:
        """The JSON-able form."""
        return {
            "name": self.name,
            "version": self.version,
            "vendor": self.vendor,
            "acceptance": self.acceptance,
            "reboot_required": self.reboot_required,
            "maintenance_mode": self.maintenance_mode,
            "file": self.file,
        }


@dataclass
class Metadata:
    """What the metadata of a depot name."""

    vibs: list[Vib] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    bulletins: list[str] = field(default_factory=list)


def is_safe_path(path: str) -> bool:
    """Whether a path names a file below a depot, and can stand in a URL and on a command line in quotes."""
    parts = path.split("/")
    return 0 < len(path) <= 400 and len(parts) <= 8 and all(_PART.match(p) and ".." not in p for p in parts)


# From index.xml to the metadata.


def index_files(data: bytes) -> list[str]:
    """The vendors' indexes that index.xml names, by path."""
    files = []
    for vendor in _all(_xml(data, "index.xml"), "vendor"):
        name = _text(vendor, "indexfile", "index.xml")
        below = _text(vendor, "relativepath", "index.xml", optional=True).strip("/")
        files.append(_path(f"{below}/{name}" if below else name, "index.xml"))
    if not files:
        raise DepotError("index.xml names no vendor: this is no depot of ESXi software")
    return files


def metadata_files(data: bytes, path: str) -> list[str]:
    """The zip files of metadata that a vendor's index names, by path; they lie beside it."""
    folder = path.rpartition("/")[0]
    files = []
    for entry in _all(_xml(data, path), "metadata"):
        url = _text(entry, "url", path)
        files.append(_path(f"{folder}/{url}" if folder else url, path))
    if not files:
        raise DepotError(f"{path} names no metadata: this is no depot of ESXi software")
    return list(dict.fromkeys(files))


def add_metadata_file(metadata: Metadata, name: str, data: bytes) -> None:
    """Take what one file of a metadata zip says; files of other kinds are passed over."""
    folder, _slash, base = name.rpartition("/")
    if not base.lower().endswith(".xml"):
        return
    kind = folder.rpartition("/")[2].lower()
    if kind == "vibs":
        metadata.vibs.append(parse_vib(data, name))
    elif kind == "profiles":
        metadata.profiles.append(_checked(_text(_xml(data, name), "name", name), _TEXT, "name", name))
    elif kind == "bulletins":
        metadata.bulletins.append(_checked(_text(_xml(data, name), "id", name), _WORD, "id", name))


# VIBs.


def vib_descriptor(head: bytes, where: str) -> bytes:
    """The descriptor inside a VIB, from the first bytes of its file (`XML_LIMIT` of them are enough)."""
    if head[: len(_AR_MAGIC)] != _AR_MAGIC:
        raise DepotError(f"{where} is no VIB: it is not an ar archive")
    start = len(_AR_MAGIC)
    header = head[start : start + _AR_HEADER]
    name = header[:16].decode("ascii", "replace").rstrip().rstrip("/")
    size = header[48:58].decode("ascii", "replace").strip()
    if len(header) != _AR_HEADER or header[58:] != b"`\n" or name != "descriptor.xml" or not size.isdigit():
        raise DepotError(f"{where} is no VIB: it does not begin with descriptor.xml")
    begin = start + _AR_HEADER
    if begin + int(size) > len(head):
        raise DepotError(f"{where} is cut off, or its descriptor is too large")
    return head[begin : begin + int(size)]


def parse_vib(data: bytes, where: str) -> Vib:
    """What the XML of a VIB says; in a depot's metadata it also names the VIB's file."""
    root = _xml(data, where)
    if _local(root) != "vib":
        raise DepotError(f"{where} does not describe a VIB")
    live = _text(root, "live-install-allowed", where, optional=True).lower()
    maintenance = _text(root, "maintenance-mode", where, optional=True).lower()
    acceptance = _text(root, "acceptance-level", where, optional=True).lower()
    if acceptance and acceptance not in ACCEPTANCE:
        raise DepotError(f"{where} has the acceptance level {acceptance[:40]!r}; there are {', '.join(ACCEPTANCE)}")
    file = _text(root, "relative-path", where, optional=True)
    return Vib(
        name=_checked(_text(root, "name", where), _WORD, "name", where),
        version=_checked(_text(root, "version", where), _WORD, "version", where),
        vendor=_checked(_text(root, "vendor", where), _TEXT, "vendor", where),
        acceptance=acceptance,
        reboot_required={"true": False, "false": True}.get(live),
        maintenance_mode={"true": True, "false": False}.get(maintenance),
        file=_path(file, where) if file else "",
        sha256=_file_sum(root) if file else "",
    )


def _file_sum(root: ElementTree.Element) -> str:
    """SHA-256 of the VIB's file. It stands beside its path; those of the payloads stand deeper, in ``payloads``."""
    for parent in root.iter():
        if _local(parent) in ("payload", "payloads"):
            continue
        children = list(parent)
        if not any(_local(child) == "relative-path" for child in children):
            continue
        for child in children:
            if _local(child) != "checksum":
                continue
            kind = child.get("checksum-type") or _text(child, "checksum-type", "", optional=True)
            value = (child.text or "").strip() or _text(child, "checksum", "", optional=True)
            if kind.lower() in ("sha-256", "sha256") and _SHA256.match(value):
                return value.lower()
    return ""


# XML.


def _xml(data: bytes, where: str) -> ElementTree.Element:
    if len(data) > XML_LIMIT:
        raise DepotError(f"{where} has more than {XML_LIMIT // 2**20} MiB, which no honest depot needs")
    try:
        return parse_xml(data)
    except XmlError as error:
        reason = "it declares a document type" if "document type" in str(error) else str(error).rstrip(".").lower()
        raise DepotError(f"{where} cannot be read: {reason}") from error
    except RecursionError as error:
        raise DepotError(f"{where} cannot be read: its elements are nested without end") from error


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if _local(element) == name]


def _text(root: ElementTree.Element, name: str, where: str, optional: bool = False) -> str:
    """Text of the first element of that name: a child if there is one, otherwise anywhere below."""
    found = next((child for child in root if _local(child) == name), None)
    if found is None:
        found = next((element for element in root.iter() if element is not root and _local(element) == name), None)
    text = (found.text or "").strip() if found is not None else ""
    if not text and not optional:
        raise DepotError(f"{where} has no {name}")
    return text


def _checked(text: str, pattern: re.Pattern[str], what: str, where: str) -> str:
    if not pattern.match(text):
        raise DepotError(f"{where} has a {what} that cannot be one: {text[:60]!r}")
    return text


def _path(text: str, where: str) -> str:
    if not is_safe_path(text):
        raise DepotError(f"{where} names a file that cannot be one of the depot's: {text[:80]!r}")
    return text
