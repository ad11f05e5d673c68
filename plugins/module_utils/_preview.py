# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what would be published of a host, as text for people.

Pure: nobody is asked. The texts are made by the code that publishes. What only the PXE server knows is the image as it
was imported; here its version is told or guessed, and the preview says so.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import FILE_SUFFIXES, host_files, refusals
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import reservation
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import BiosLoader, Image, Source, UefiLoader
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import Deadlines
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import mask_secrets
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import INSTALL, MODES, Layout, mac_stem
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import own_blocks
from ansible_collections.pxemanager.esxi.plugins.module_utils._versions import version_problems

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = ("ASSUMED_MODULES", "AssumedImage", "Preview", "PreviewFile", "assume_image", "fold", "preview")

#: The modules that every medium begins with; which ones follow is the image's own business.
ASSUMED_MODULES: t.Final = ("jumpstrt.gz", "useropts.gz", "features.gz", "k.b00")

# Each install has a key of its own. No preview knows it, and nobody should see it.
_NO_KEY = "0" * 32
_MASK = "********"
_FOLDED = "# [... of the collection's own, the same for every host: esxi_host_preview_full=true shows it ...]\n"

_WAYS = {
    ".pxelinux": "BIOS (pxelinux)",
    ".boot.cfg": "UEFI over TFTP (mboot)",
    ".http.boot.cfg": "UEFI over HTTP (mboot)",
    ".ipxe": "iPXE",
    ".bios.boot.cfg": "BIOS (mboot.c32)",
}


@dataclasses.dataclass(frozen=True)
class AssumedImage:
    """An image whose medium has not been looked at.

    :ivar why: where its version comes from, for the reader.
    """

    image: Image
    why: str


def assume_image(name: str, catalogue: t.Sequence[t.Mapping[str, t.Any]] = (), version: str = "") -> AssumedImage:
    """What an image is taken for: by its entry in a catalogue, by a version that was said, or by its name.

    :arg catalogue: such as `pxe_server_images`: mappings with `name`, and `version` and `build` where they are known.
    :raises DefinitionError: none of them says a version.
    """
    entry = next((item for item in catalogue if str(item.get("name")) == name), {})
    said = str(entry.get("version") or "")
    found = re.search(r"(?<![0-9.])([0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2})(?!\.?[0-9])", said or version or name)
    if found is None:
        raise DefinitionError(
            f"It is not known which version of ESXi the image {name} is: write it in its name, such as esxi-8.0.3, in "
            "its entry of pxe_server_images (version: 8.0.3), or say -e esxi_host_preview_version=8.0.3."
        )
    why = "its entry of pxe_server_images" if said else "esxi_host_preview_version" if version else "its name"
    if not entry:
        why += "; pxe_server_images has no such image"
    number = found.group(1)
    return AssumedImage(
        Image(
            name=name,
            version=number,
            build=str(entry.get("build") or number),
            kernel="b.b00",
            modules=ASSUMED_MODULES,
            kernelopt="runweasel",
            title="",
            # Whatever is older than 8.0.1 needs a newer image's loader beside it.
            mboot_version=number if _numbers(number) >= (8, 0, 1) else "8.0.1",
            bios=BiosLoader(kind="mboot.c32", path="mboot.c32"),
            uefi=UefiLoader(path="efi/boot/bootx64.efi"),
            sha256="0" * 64,
            source=Source(path="", kind="iso", fingerprint=""),
            imported="",
            files=0,
            bytes=0,
        ),
        why,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


@dataclasses.dataclass(frozen=True)
class PreviewFile:
    """One file: what it is, where it lies on the PXE server, a short name for it, and what is in it."""

    title: str
    server_path: str
    path: str
    text: str


@dataclasses.dataclass(frozen=True)
class Preview:
    """All that would be published of one host."""

    head: str
    files: tuple[PreviewFile, ...]
    warnings: tuple[str, ...]

    def text(self) -> str:
        """For a terminal: headings, one file after the other, equal ones once."""
        parts = [self.head]
        same: dict[str, list[PreviewFile]] = {}
        for file in self.files:
            same.setdefault(file.text, []).append(file)
        for content, files in same.items():
            lines = [f"{file.title}: {file.server_path}" for file in files]
            parts.append("\n".join([*lines, "-" * max(map(len, lines))]) + "\n" + content)
        return "\n".join(parts)


def fold(text: str, mac: str) -> str:
    """A kickstart without the parts that are the same for every host."""
    limits = Deadlines()
    for block in own_blocks(mac, limits.pre, limits.post, limits.firstboot):
        text = text.replace(block, _FOLDED)
    return re.sub(rf"(?:{re.escape(_FOLDED)}\n?)+(?={re.escape(_FOLDED)})", "", text)


def preview(
    host: Host,
    kickstarts: t.Mapping[str, str],
    config: ServerConfig,
    assumed: AssumedImage,
    server: str,
    *,
    full: bool = False,
) -> Preview:
    """What would be published of a host on a PXE server, and what its install would boot.

    :arg kickstarts: its rendered kickstarts by MAC.
    :arg server: what the PXE server is called in the inventory.
    :arg full: with the parts of a kickstart that are the same for every host.
    :raises DefinitionError: it could not be armed.
    :raises TreeError: something in it cannot stand in a boot file.
    """
    image = assumed.image
    problems = version_problems(host, image.version, image.build)
    errors = [*refusals(host, [dataclasses.replace(image, name=host.image)]), *problems.errors]
    if errors:
        raise DefinitionError(errors)
    layout = Layout.of(config)
    files = []
    line = reservation(host, config)
    if line is not None:
        files.append(PreviewFile("DHCP reservation", str(layout.reservation(host.name)), "dhcp-reservation", line))
    boot = host_files(host, image, config, _NO_KEY)
    for mode in MODES:
        for mac in host.macs:
            for suffix in FILE_SUFFIXES:
                path = f"hosts/{host.name}/{mode}/{mac_stem(mac)}{suffix}"
                if path in boot:
                    title = f"{'Armed' if mode == INSTALL else 'Not armed'}, {_WAYS[suffix]}"
                    text = boot[path].replace(f"/ks/{_NO_KEY}/", f"/ks/{_MASK}/")
                    name = f"{mode}/{mac_stem(mac)}{suffix}"
                    files.append(PreviewFile(title, str(layout.boot_root / path), name, text))
    for mac in host.macs:
        text = mask_secrets(kickstarts[mac])
        files.append(
            PreviewFile(
                f"Kickstart ({host.command})",
                str(layout.kickstart(host.name, mac)),
                f"kickstart/{mac_stem(mac)}.cfg",
                text if full else fold(text, mac),
            )
        )
    return Preview(_head(host, config, assumed, server, line, problems.warnings), tuple(files), problems.warnings)


def _head(
    host: Host,
    config: ServerConfig,
    assumed: AssumedImage,
    server: str,
    line: str | None,
    warnings: t.Sequence[str],
) -> str:
    title = f"{host.name} on the PXE server {server} ({config.address})"
    what = {
        "install": "installs ESXi",
        "installorupgrade": "upgrades ESXi, or installs it where there is none",
        "upgrade": "upgrades the ESXi that is there",
    }[host.command]
    lines = [
        "=" * len(title),
        title,
        "=" * len(title),
        f"Once it is armed, its next network boot {what} (image {host.image}). Nothing was sent to any server.",
        f"The image is taken for ESXi {assumed.image.version} ({assumed.why}). The imported image decides what stands",
        "behind kernel=, modules= and title=, whether it has loaders for BIOS and UEFI, and further kernel options.",
        f"The key of the kickstart's address is new for each install: {_MASK} stands for it, and for what is secret.",
    ]
    if line is None:
        why = (
            "its address is not known (network.boot_address)"
            if config.dhcp.mode == "dnsmasq"
            else f"this site has a DHCP server of its own (pxe_server_dhcp_mode: {config.dhcp.mode})"
        )
        lines.append(f"No DHCP reservation: {why}.")
    if host.secure_boot:
        lines.append("Secure Boot: no %firstboot; the post actions are run over SSH after the install.")
    elif host.command == "upgrade":
        lines.append("After an upgrade only the post actions are run that say after_upgrade: true.")
    lines.extend(f"WARNING: {warning}" for warning in warnings)
    return "\n".join(lines) + "\n"
