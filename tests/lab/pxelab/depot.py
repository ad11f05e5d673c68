# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for depots of ESXi software: the layout of the real ones, packages without contents.

A bundle has ``index.xml``, ``vendor-index.xml``, ``metadata.zip`` with a file for each VIB, bulletin and image profile,
and the VIBs below ``vib20``; a VIB is an ar archive of ``descriptor.xml``, a signature (empty) and one payload.

Use from a shell: ``PYTHONPATH=tests/lab python3 -m pxelab.depot OUT.zip net-example 1.2.3``.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

__all__ = ["Package", "bundle_files", "make_bundle", "make_vib", "pack", "vib_bytes"]


@dataclasses.dataclass(frozen=True)
class Package:
    """One VIB."""

    name: str
    version: str = "1.2.3-1OEM.800.1.0.20613240"
    vendor: str = "EXA"
    acceptance: str = "partner"
    live: bool = False
    maintenance: bool = True
    size: int = 4096

    @property
    def file(self) -> str:
        """Its path below a depot."""
        return f"vib20/{self.name}/{self.vendor}_bootbank_{self.name}_{self.version}.vib"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def descriptor(package: Package, more: str = "") -> bytes:
    """The XML about a VIB."""
    payload = _payload(package)
    checksum = hashlib.sha256(payload).hexdigest()
    return f"""<vib version="5.0">
  <type>bootbank</type>
  <name>{package.name}</name>
  <version>{package.version}</version>
  <vendor>{package.vendor}</vendor>
  <summary>A stand-in</summary>
  <description>A package without contents</description>
  <release-date>2026-01-01T00:00:00.000000+00:00</release-date>
  <relationships><depends/><conflicts/><replaces/><provides/></relationships>
  <software-tags><tag>driver</tag></software-tags>
  <system-requires><maintenance-mode>{_bool(package.maintenance)}</maintenance-mode></system-requires>
  <file-list><file>usr/lib/vmware/vmkmod/{package.name}</file></file-list>
  <acceptance-level>{package.acceptance}</acceptance-level>
  <live-install-allowed>{_bool(package.live)}</live-install-allowed>
  <live-remove-allowed>{_bool(package.live)}</live-remove-allowed>
  <cimom-restart>false</cimom-restart>
  <stateless-ready>true</stateless-ready>
  <overlay>false</overlay>
  <payloads>
    <payload name="payload1" type="vgz" size="{len(payload)}">
      <checksum checksum-type="sha-256">{checksum}</checksum>
    </payload>
  </payloads>{more}
</vib>
""".encode()


def _payload(package: Package) -> bytes:
    text = hashlib.shake_256(f"{package.name} {package.version}".encode()).digest(package.size)
    return gzip.compress(text, mtime=0)


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
    return header + data + (b"\n" if len(data) % 2 else b"")


def vib_bytes(package: Package) -> bytes:
    """A VIB."""
    parts = (("descriptor.xml", descriptor(package)), ("sig.pkcs7", b""), ("payload1", _payload(package)))
    return b"!<arch>\n" + b"".join(_member(name, data) for name, data in parts)


def make_vib(out: Path, package: Package) -> Path:
    """Write a VIB to a file and return its path."""
    out.write_bytes(vib_bytes(package))
    return out


def bundle_files(
    packages: Sequence[Package], *, profile: Optional[str] = None, vendor: str = "EXA"
) -> dict[str, bytes]:
    """The files of an offline bundle."""
    files = {
        "index.xml": f"""<vendorList>
  <vendor>
    <name>Example Devices</name>
    <code>{vendor}</code>
    <indexfile>vendor-index.xml</indexfile>
    <patchUrl/>
    <relativePath/>
    <content><type>http://www.vmware.com/depotmanagement/esx</type></content>
  </vendor>
</vendorList>
""".encode(),
        "vendor-index.xml": b"""<metaList>
  <metadata>
    <productId>embeddedEsx</productId>
    <version>8.*</version>
    <locale/>
    <url>metadata.zip</url>
  </metadata>
</metaList>
""",
    }
    metadata = {"vendor-index.xml": files["vendor-index.xml"], "vmware.xml": b"<metadataResponse version='3.0'/>"}
    for package in packages:
        data = vib_bytes(package)
        files[package.file] = data
        more = f"""
  <relative-path>{package.file}</relative-path>
  <packed-size>{len(data)}</packed-size>
  <checksum><checksum-type>sha-256</checksum-type><checksum>{hashlib.sha256(data).hexdigest()}</checksum></checksum>"""
        metadata[f"vibs/{package.name}-{hash_of(package)}.xml"] = descriptor(package, more)
        bulletin = f"{vendor}-{package.name}-{package.version.partition('-')[0]}"
        metadata[f"bulletins/{bulletin}.xml"] = (
            f"<bulletin><id>{bulletin}</id><kind>extension</kind></bulletin>".encode()
        )
    if profile is not None:
        metadata[f"profiles/{profile}.xml"] = (
            f"<imageprofile><name>{profile}</name><creator>Example</creator></imageprofile>".encode()
        )
    files["metadata.zip"] = pack(metadata)
    return files


def hash_of(package: Package) -> int:
    """A number as the files of real metadata have it in their names."""
    return int.from_bytes(hashlib.sha256(package.file.encode()).digest()[:4], "big")


def pack(files: dict[str, bytes]) -> bytes:
    """A zip file: the same files always give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def make_bundle(out: Path, packages: Sequence[Package], *, profile: Optional[str] = None) -> Path:
    """Write an offline bundle to a file and return its path."""
    out.write_bytes(pack(bundle_files(packages, profile=profile)))
    return out


def main(arguments: Sequence[str]) -> int:
    out, name, version = arguments
    print(make_bundle(Path(out), [Package(name, f"{version}-1OEM.800.1.0.20613240")]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
