# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: the files and links of the boot tree, as text.

Pure: computes what is to be there, writes nothing. All paths are relative to the boot root. All links are relative too:
absolute ones work under dnsmasq's TFTP or under a chrooted tftpd, never under both.

For each MAC and boot mode there are four files, because each way in reads another one:

- `.pxelinux`: BIOS.
- `.boot.cfg`: mboot, loaded over TFTP (UEFI directly, BIOS through PXELINUX). Its prefix is absolute to the TFTP root:
  with a missing or relative one, mboot looks beside the boot.cfg or beside itself.
- `.http.boot.cfg`: mboot, loaded over HTTP, where only a prefix that is a URL works.
- `.ipxe`: iPXE.

A host whose firmware is BIOS has a fifth, `.bios.boot.cfg`: what its mboot.c32 reads, while the `.boot.cfg` that UEFI
reads says "boot the disk" in either mode.

In the mode local they all say "boot the disk": `LOCALBOOT`, mboot's `skip=1` (which makes it leave for the firmware's
next boot option), iPXE's `exit 1` (`exit` alone sends some machines into their setup). mboot knows `skip` from ESXi
8.0.1 on and an older one hangs, so an older one is never put where machines load it (see `mboot_supplier`).
"""

from __future__ import annotations

import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    mboot_supplier,
    version_key,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import (
    INSTALL,
    LOCAL,
    MODES,
    LayoutError,
    check_image_name,
    check_mode,
    check_name,
    mac_stem,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._images import Image
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = (
    "COMMAND_LINE_LIMIT",
    "FILE_SUFFIXES",
    "TreeError",
    "defaults",
    "host_files",
    "host_folders",
    "host_links",
    "kernel_options",
    "mac_files",
    "mode_link",
    "other_firmware_files",
    "refusals",
    "stems_of",
)

COMMAND_LINE_LIMIT = 4096
"""Bytes that the kernel's command line must stay under; mboot refuses to boot with more."""

FILE_SUFFIXES: t.Final = (".pxelinux", ".boot.cfg", ".http.boot.cfg", ".ipxe", ".bios.boot.cfg")
"""What follows `01-<mac>` in the names of a mode's files; the last is of BIOS hosts only."""

_BY_HAND = "# Written by pxemanager.esxi; changes made by hand are lost.\n"
_TITLE = "Loading ESXi installer"

# Of the image's own kernel options: where the medium's installer would look for its files, and what is set for each
# install. Compared in lower case, up to the first "=".
_NOT_FROM_IMAGE = frozenset(("cdromboot", "ks", "ksdevice", "bootif", "netdevice"))


class TreeError(LayoutError):
    """Something that cannot be put into a boot file; the text says what."""


# Lines.


def _line(text: str) -> str:
    """One line of a boot file.

    mboot and PXELINUX read bytes and end a value at the line's end: whatever could end it early is refused here,
    however well it was checked before.
    """
    if not text.isascii() or not text.isprintable():
        raise TreeError(f"{text[:80]!r} cannot stand in a boot file: only printable ASCII can")
    return text + "\n"


def _word(text: str) -> str:
    """One word of a kernel command line."""
    if not text or " " in text:
        raise TreeError(f"{text[:80]!r} must be one word without blanks")
    _line(text)
    return text


# Paths.


def mode_link(name: str) -> str:
    """Path of the link that is a host's boot mode."""
    return f"hosts/{check_name(name)}/boot"


def mac_files(name: str, mode: str, mac: str) -> tuple[str, ...]:
    """Paths of the files of one mode of a host for one MAC."""
    folder = f"hosts/{check_name(name)}/{check_mode(mode)}"
    return tuple(f"{folder}/{mac_stem(mac)}{suffix}" for suffix in FILE_SUFFIXES)


def other_firmware_files(host: Host) -> list[str]:
    """Paths of files that the host may have from another firmware in its definition, and must no longer have."""
    if host.firmware == "bios":
        return []
    return [mac_files(host.name, mode, mac)[-1] for mode in MODES for mac in host.macs]


def stems_of(entries: t.Iterable[str]) -> set[str]:
    """MAC addresses for which a mode's folder has files, from the names in it."""
    macs: set[str] = set()
    for entry in entries:
        if entry.startswith("01-") and entry[20:] in FILE_SUFFIXES:
            mac = entry[3:20].replace("-", ":")
            try:
                mac_stem(mac)
            except LayoutError:
                continue
            macs.add(mac)
    return macs


def host_folders(macs: t.Iterable[str]) -> list[str]:
    """Folders that hold the links of these MACs; the folder `http` exists."""
    return [folder for mac in macs for folder in (mac_stem(mac), f"http/{mac_stem(mac)}")]


def host_links(name: str, macs: t.Iterable[str]) -> dict[str, str]:
    """The links by which boot loaders find a host: path to target, for each of its MACs.

    In the order in which they are made, and taken away in the other: what PXELINUX and iPXE read needs a boot.cfg.
    """
    tree = f"hosts/{check_name(name)}/boot"
    links: dict[str, str] = {}
    for mac in macs:
        stem = mac_stem(mac)
        links[f"{stem}/boot.cfg"] = f"../{tree}/{stem}.boot.cfg"
        links[f"http/{stem}/boot.cfg"] = f"../../{tree}/{stem}.http.boot.cfg"
        links[f"pxelinux.cfg/{stem}"] = f"../{tree}/{stem}.pxelinux"
        links[f"ipxe/{stem}.ipxe"] = f"../{tree}/{stem}.ipxe"
    return links


# Local boot.


def _pxelinux_local(config: ServerConfig, why: str) -> str:
    return (
        _BY_HAND
        + _line(f"# {why}")
        + "DEFAULT local\nPROMPT 0\nLABEL local\n"
        + _line(f"  LOCALBOOT {config.bios_localboot}")
    )


def _boot_cfg_local(why: str) -> str:
    # No kernel: a loader that does not know `skip` must not find one.
    return _BY_HAND + _line(f"# {why}") + "title=Booting from the disk\ntimeout=0\nskip=1\n"


def _ipxe_local(why: str) -> str:
    return "#!ipxe\n" + _BY_HAND + _line(f"# {why}") + "exit 1\n"


def defaults(config: ServerConfig) -> dict[str, str]:
    """What a machine gets that nobody defined: local boot, in every way in."""
    why = "Local boot for every machine without a file of its own."
    return {
        "pxelinux.cfg/default": _pxelinux_local(config, why),
        "boot.cfg": _boot_cfg_local(why),
        "http/boot.cfg": _boot_cfg_local(why),
        "ipxe/default.ipxe": _ipxe_local(why),
    }


def _local_files(host: Host, config: ServerConfig) -> dict[str, str]:
    why = f"{host.name}: local boot"
    pxelinux, boot_cfg, ipxe = _pxelinux_local(config, why), _boot_cfg_local(why), _ipxe_local(why)
    files: dict[str, str] = {}
    for mac in host.macs:
        paths = mac_files(host.name, LOCAL, mac)
        if host.firmware == "bios":
            files[paths[-1]] = boot_cfg  # for an mboot.c32 that the mode was switched under
        files.update(zip(paths, (pxelinux, boot_cfg, boot_cfg, ipxe)))
    return files


# Installation.


def kernel_options(host: Host, image: Image, config: ServerConfig, key: str, mac: str) -> str:
    """The kernel options with which the installer starts on one MAC of a host.

    :arg key: secret of the install, part of the kickstart's URL.
    :raises TreeError: a word cannot stand there.
    """
    words = [word for word in image.kernelopt.split() if word.partition("=")[0].lower() not in _NOT_FROM_IMAGE]
    words.append(f"ks={config.kickstart_url(key, mac_stem(mac))}")
    if host.boot.netdevice:
        # The NIC that booted is the one that reaches this server.
        words.append(f"netdevice={mac}")
    own = [_word(word) for word in host.boot.words()]
    for word in own:
        if word.partition("=")[0].lower() in _NOT_FROM_IMAGE:
            raise TreeError(f"the boot option {word} of {host.name} is set by the collection itself: remove it")
    return " ".join([_word(word) for word in words] + own)


def _check_length(host: Host, image: Image, prefix: str, options: str, mac: str) -> None:
    # mboot puts the kernel's name first and adds the NIC that booted.
    length = len(f"{prefix}{image.kernel} {options} BOOTIF={mac_stem(mac)}")
    if length >= COMMAND_LINE_LIMIT:
        raise TreeError(
            f"the kernel command line of {host.name} has {length} bytes, the boot loader takes fewer than "
            f"{COMMAND_LINE_LIMIT}: shorten its boot.options"
        )


def _boot_cfg_install(host: Host, image: Image, prefix: str, options: str) -> str:
    modules = []
    for module in image.modules:
        # mboot takes the first word for the file; what follows are words for the module, which it does not read.
        file = module.partition(" ")[0]
        if "---" in module or module != module.strip() or file.startswith("/") or "://" in file:
            raise TreeError(f"the image {image.name} has the module {module!r}, which a boot.cfg cannot name")
        modules.append(module)
    if not image.kernel or image.kernel.startswith("/") or " " in image.kernel or "://" in image.kernel:
        raise TreeError(f"the image {image.name} has the kernel {image.kernel!r}, which a boot.cfg cannot name")
    # No blanks beside "=": mboot rejects them.
    lines = (
        f"# {host.name}: install {image.name}",
        f"title={image.title or _TITLE}",
        "timeout=3",
        f"prefix={prefix}",
        f"kernel={image.kernel}",
        f"kernelopt={options}",
        f"modules={' --- '.join(modules)}",
        "updated=0",
    )
    return _BY_HAND + "".join(map(_line, lines))


def _pxelinux_install(host: Host, image: Image, options: str, mac: str) -> str:
    folder = f"images/{check_image_name(image.name)}"
    bios = image.bios
    if bios is None:
        return ""
    head = _BY_HAND + _line(f"# {host.name}: install {image.name}") + "DEFAULT install\nPROMPT 0\nLABEL install\n"
    if bios.kind == "linux":
        return (
            head
            + _line(f"  KERNEL {folder}/{_relative(image, bios.kernel)}")
            + _line(f"  INITRD {folder}/{_relative(image, bios.initrd)}")
            + _line("  APPEND " + f"{bios.append} {options}".strip())
            + "  IPAPPEND 2\n"
        )
    # mboot looks for this beside itself, then in the TFTP root: the file that UEFI reads too, unless it must not.
    boot_cfg = f"{mac_stem(mac)}/boot.cfg"
    if host.firmware == "bios":
        boot_cfg = f"{mode_link(host.name)}/{mac_stem(mac)}.bios.boot.cfg"
    return (
        head
        + _line(f"  KERNEL {folder}/{_relative(image, bios.path)}")
        + _line(f"  APPEND -c {boot_cfg}")
        + "  IPAPPEND 2\n"
    )


def _relative(image: Image, path: str) -> str:
    """A path inside an image's folder that stays inside."""
    parts = path.split("/")
    if not path.isascii() or not path.isprintable() or " " in path or any(part in ("", ".", "..") for part in parts):
        raise TreeError(f"the image {image.name} names the file {path!r}, which cannot be inside its folder")
    return path


def _ipxe_install(host: Host, image: Image, config: ServerConfig, mac: str) -> str:
    http = f"{config.base_url}/http"
    return (
        "#!ipxe\n"
        + _BY_HAND
        + _line(f"# {host.name}: install {image.name}")
        + _line(f"kernel {http}/mboot.efi -c {http}/{mac_stem(mac)}/boot.cfg")
        + "boot\n"
    )


def _install_files(host: Host, image: Image, config: ServerConfig, key: str) -> dict[str, str]:
    if check_image_name(image.name) != host.image:
        raise TreeError(f"{host.name} wants the image {host.image}, not {image.name}")
    files: dict[str, str] = {}
    prefixes = (f"/images/{image.name}/", config.image_url(image.name))
    for mac in host.macs:
        options = kernel_options(host, image, config, key, mac)
        for prefix in prefixes:
            _check_length(host, image, prefix, options, mac)
        boot_cfg, http_boot_cfg = (_boot_cfg_install(host, image, prefix, options) for prefix in prefixes)
        pxelinux = _pxelinux_install(host, image, options, mac)
        ipxe = _ipxe_install(host, image, config, mac)
        # A machine whose firmware is not what the definition says would be installed for the wrong one.
        if not pxelinux or host.firmware == "uefi":
            pxelinux = _pxelinux_local(config, f"{host.name}: no BIOS install (firmware {host.firmware})")
        paths = mac_files(host.name, INSTALL, mac)
        if host.firmware == "bios":
            # First, because the configuration of PXELINUX names it.
            files[paths[-1]] = boot_cfg
            why = f"{host.name}: no UEFI install (firmware bios)"
            boot_cfg = http_boot_cfg = _boot_cfg_local(why)
            ipxe = _ipxe_local(why)
        files.update(zip(paths, (pxelinux, boot_cfg, http_boot_cfg, ipxe)))
    return files


def host_files(host: Host, image: Image | None, config: ServerConfig, key: str | None) -> dict[str, str]:
    """Every file of a host's boot modes: path to contents (ASCII).

    :arg key: secret of the install; None: the host has no install under way, and so no files for the mode install (they
        carry the kickstart's URL, which is new for every install).
    :raises TreeError: something in the definition or the image cannot be put into a boot file.
    """
    check_name(host.name)
    files = _local_files(host, config)
    if key is not None:
        if image is None:
            raise TreeError(_not_imported(host))
        try:
            files.update(_install_files(host, image, config, key))
        except TreeError as error:
            # A line that is refused does not know whose it is.
            raise TreeError(f"{host.name} cannot get boot files for {image.name}: {error}") from error
    return files


# Refusals.


def _not_imported(host: Host) -> str:
    return f"The image {host.image} of {host.name} is not imported on this PXE server: import it with esxi_image."


def refusals(host: Host, images: t.Iterable[Image]) -> list[str]:
    """Why a host must not be armed as things stand, a sentence each; empty: it may.

    :arg images: every imported image.
    """
    known = {image.name: image for image in images}
    image = known.get(host.image)
    if image is None:
        return [_not_imported(host)]
    reasons = []
    if host.firmware == "bios" and image.bios is None:
        reasons.append(
            f"The image {image.name} has no boot loader for BIOS machines: "
            f"import a medium that has mboot.c32, or set the firmware of {host.name} to uefi."
        )
    if host.firmware != "bios":
        loader = mboot_supplier(known.values())
        if loader is None:
            reasons.append(
                f"{host.name} may boot by UEFI, and no imported image has a boot loader that can also boot the disk: "
                "import an image of ESXi 8.0.1 or later, or set firmware: bios."
            )
        elif version_key(image.version)[:3] > version_key(loader.mboot_version)[:3]:
            reasons.append(
                f"The image {image.name} ({image.version}) is newer than the UEFI boot loader of {loader.name} "
                f"({loader.mboot_version}) and brings none: import a medium that has efi/boot/bootx64.efi, "
                f"or set the firmware of {host.name} to bios."
            )
    return reasons
