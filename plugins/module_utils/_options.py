# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the parts of a host's definition that only the boot loader and the installer read."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._commands import extra_command, extra_option
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    choice,
    integer,
    list_of,
    matching,
    script,
    show,
)

__all__ = [
    "BootOptions",
    "ClearPart",
    "Disk",
    "KickstartOptions",
    "Partition",
    "parse_boot",
    "parse_disk",
    "parse_kickstart",
]

_DISK_NAME = r"(?:/vmfs/devices/disks/)?[A-Za-z0-9][A-Za-z0-9._:+-]*"
_disk_name: t.Callable[[object], str] = matching(
    _DISK_NAME, 255, "a disk's name such as mpx.vmhba0:C0:T0:L0 or naa.600508b1001c4d41"
)

# Set by the collection itself from other options, or never to be set: what people should write instead.
_TAKEN_BOOT_OPTIONS = {
    "ks": "the collection sets it to this install's own URL",
    "bootif": "the boot loader sets it",
    "netdevice": "use boot.netdevice",
    "ksdevice": "use boot.netdevice",
    "vlanid": "use boot.vlan",
    "systemmediasize": "use boot.media_size",
}


@dataclasses.dataclass(frozen=True)
class Disk:
    """Where ESXi goes: exactly one of ``device`` and ``first`` (maybe empty: any disk).

    ``booted``: an upgrade goes to the disk that the machine was started from, whatever the other two say; a host that
    is only ever upgraded needs neither of them. ``existing_vmfs`` is refuse, preserve or overwrite.
    """

    device: t.Optional[str]
    first: t.Optional[tuple[str, ...]]
    booted: bool
    existing_vmfs: str
    overwrite_vsan: bool
    create_vmfs: bool
    ignore_ssd: bool
    force_unsupported: bool


@dataclasses.dataclass(frozen=True)
class BootOptions:
    """Kernel options. ``options`` are pairs in the order given, an empty value stands for a bare word."""

    options: tuple[tuple[str, str], ...]
    vlan: int
    media_size: t.Optional[str]
    netdevice: bool

    def words(self) -> tuple[str, ...]:
        """The words for the kernel's command line, but for ks= and netdevice=, which depend on install and MAC."""
        words = [f"vlanid={self.vlan}"] if self.vlan else []
        if self.media_size is not None:
            words.append(f"systemMediaSize={self.media_size}")
        words.extend(f"{key}={value}" if value else key for key, value in self.options)
        return tuple(words)


@dataclasses.dataclass(frozen=True)
class ClearPart:
    """Which disks are cleared before the install: exactly one of the four."""

    drives: tuple[str, ...]
    all_drives: bool
    ignore_drives: tuple[str, ...]
    first: t.Optional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Partition:
    """A datastore on an empty or cleared disk: ``disk`` or ``first``."""

    name: str
    disk: t.Optional[str]
    first: t.Optional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class KickstartOptions:
    """What else the kickstart says. Scripts are raw shell text that ends in a newline, timeouts are seconds.

    ``command`` is "" after a mistake in it: what depends on it cannot be judged then.
    """

    command: str
    force_migrate: bool
    save_bootbank: t.Optional[str]
    ignore_prereq_warnings: bool
    ignore_prereq_errors: bool
    extra_options: tuple[str, ...]
    clearpart: t.Optional[ClearPart]
    partitions: tuple[Partition, ...]
    keyboard: t.Optional[str]
    serial_number: t.Optional[str]
    paranoid: bool
    dryrun: bool
    no_eject: bool
    pre: t.Optional[str]
    pre_interpreter: str
    post: t.Optional[str]
    post_interpreter: str
    post_timeout: int
    post_ignore_failure: bool
    firstboot: t.Optional[str]
    firstboot_interpreter: str
    extra_commands: tuple[str, ...]


_first_word: t.Callable[[object], str] = matching(
    r"[A-Za-z0-9](?:[A-Za-z0-9 ._+/-]*[A-Za-z0-9._+/-])?", 64, "local, remote, usb, a disk model or a driver's name"
)


def _first_item(value: object) -> str:
    word = _first_word(value)
    if len(word) > 16:
        # The installer sees 16 characters of a model; a longer text never matches and the install stops at the console.
        raise Wrong(
            f"is {show(word)}; the installer cuts disk models at 16 characters: write {show(word[:16].rstrip())}"
        )
    return word


_first = list_of(_first_item, most=16)


def parse_disk(fields: Fields, kickstart: KickstartOptions, upgrading: bool = False) -> t.Optional[Disk]:
    """The target disk; None after a mistake. ``upgrading``: an upgrade is asked for, whatever the command is.

    What only an install knows may stay in the definition of a host that is asked to be upgraded once. In one whose
    command is upgrade it is a contradiction.
    """
    if not fields.readable:
        return None
    disk = Disk(
        device=fields.get("device", _disk_name, None),
        first=fields.get("first", _first, None),
        booted=fields.get("booted", boolean, False),
        existing_vmfs=fields.get("existing_vmfs", choice("refuse", "preserve", "overwrite"), "refuse"),
        overwrite_vsan=fields.get("overwrite_vsan", boolean, False),
        create_vmfs=fields.get("create_vmfs", boolean, True),
        ignore_ssd=fields.get("ignore_ssd", boolean, False),
        force_unsupported=fields.get("force_unsupported", boolean, False),
    )
    always = kickstart.command == "upgrade"
    installs = fields.has("device") + fields.has("first")
    chosen = installs + (disk.booted and (always or not installs))
    fields.finish()
    if chosen == 0 and fields.good():
        fields.wrong(
            "disk",
            "is missing; write disk.device, or disk.first (an empty list for any disk): none is ever taken by itself",
        )
    elif chosen > 1:
        fields.wrong("disk", "names more than one target; write only one of device, first and booted")
    if not fields.good() or not kickstart.command:
        return None
    if disk.booted and not installs and not always and not upgrading:
        fields.wrong("disk.booted", "is for kickstart.command: upgrade only; write disk.device or disk.first")
    if disk.booted and (always or upgrading) and kickstart.save_bootbank is None:
        fields.wrong(
            "disk.booted",
            "needs the UUID of the boot bank that the installer keeps; write it in kickstart.save_bootbank, or take "
            "disk.booted out and write disk.device or disk.first",
        )
    if kickstart.save_bootbank is not None and not disk.booted:
        fields.wrong(
            "kickstart.save_bootbank", "is read with disk.booted only; write disk.booted: true, or take it out"
        )
    if disk.force_unsupported and (always or upgrading):
        fields.wrong(
            "disk.force_unsupported",
            "is for installs, an upgrade has no such option; write disk.force_unsupported: false, and for an old CPU "
            "boot.options: {allowLegacyCPU: true}",
        )
    if disk.ignore_ssd and (disk.first is None or kickstart.command != "install"):
        fields.wrong("disk.ignore_ssd", "works with disk.first and kickstart.command: install only; take it out")
    for option, is_set, allowed in (
        ("existing_vmfs", disk.existing_vmfs == "preserve", ("install",)),
        ("existing_vmfs", disk.existing_vmfs == "overwrite", ("install", "installorupgrade")),
        ("create_vmfs", not disk.create_vmfs, ("install",)),
        ("overwrite_vsan", disk.overwrite_vsan, ("install", "installorupgrade")),
    ):
        if is_set and kickstart.command not in allowed:
            fields.wrong(f"disk.{option}", f"cannot be set with kickstart.command: {kickstart.command}; take it out")
    return disk if fields.good() else None


def _boot_options(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, t.Mapping):
        raise Wrong("is no mapping; write option: value pairs, an empty value for a bare word")
    key_check = matching(r"[A-Za-z][A-Za-z0-9_.-]*", 64, "a kernel option's name")
    value_check = matching(
        r"[A-Za-z0-9_.:/,@+=%-]*", 512, "letters, digits and _.:/,@+=%- without blanks (quote it in YAML)"
    )
    pairs = []
    for key, item in value.items():
        word = key_check(key)
        if word.lower() in _TAKEN_BOOT_OPTIONS:
            raise Wrong(f"has {word}, which cannot be set here: {_TAKEN_BOOT_OPTIONS[word.lower()]}")
        if isinstance(item, (bool, int)):
            # No other reading is possible here: true and 1 are what the kernel takes.
            item = str(item).lower()
        try:
            pairs.append((word, "" if item is None else value_check(item)))
        except Wrong as wrong:
            raise Wrong(f"{word} {wrong}") from None
    return tuple(pairs)


def parse_boot(fields: Fields) -> BootOptions:
    """The kernel options."""
    boot = BootOptions(
        options=fields.get("options", _boot_options, ()),
        vlan=fields.get("vlan", integer(0, 4094), 0),
        media_size=fields.get("media_size", choice("min", "small", "default", "max"), None),
        netdevice=fields.get("netdevice", boolean, True),
    )
    fields.finish()
    return boot


def _clearpart(fields: Fields) -> ClearPart:
    clearpart = ClearPart(
        drives=fields.get("drives", list_of(_disk_name, least=1, most=64), ()),
        all_drives=fields.get("all_drives", boolean, False),
        ignore_drives=fields.get("ignore_drives", list_of(_disk_name, least=1, most=64), ()),
        first=fields.get("first", _first, None),
    )
    chosen = sum((fields.has("drives"), clearpart.all_drives, fields.has("ignore_drives"), fields.has("first")))
    fields.finish()
    if fields.good() and chosen != 1:
        fields.wrong(
            "kickstart.clearpart", "needs exactly one of drives, all_drives, ignore_drives and first; write one"
        )
    return clearpart


_datastore_name = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]*", 42, "a datastore's name of letters, digits, dots, hyphens and underscores"
)


def _partitions(value: object, owner: Fields) -> tuple[Partition, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        owner.wrong("kickstart.partitions", "is no list; write a list of mappings with name and disk (or first)")
        return ()
    partitions = []
    for position, item in enumerate(value):
        fields = Fields(item, owner.label, f"kickstart.partitions[{position}].", owner.errors)
        name = fields.need("name", _datastore_name, "the datastore's name")
        disk = fields.get("disk", _disk_name, None)
        first = fields.get("first", _first, None)
        if fields.good() and fields.has("disk") == fields.has("first"):
            fields.wrong(fields.path.rstrip("."), "needs exactly one of disk and first; write one")
        fields.finish()
        partitions.append(Partition(name or "", disk, first))
    return tuple(partitions)


_uuid = matching(
    "[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}",
    35,
    "a boot bank's UUID such as 5e7d1c2a-93b1f0aa-4c11-005056aa0101, as vmkfstools -P /bootbank shows it on the host",
)
_interpreter = choice("busybox", "python")


def parse_kickstart(fields: Fields, upgrading: bool = False) -> KickstartOptions:
    """The rest of the installer's options. ``upgrading``: an upgrade is asked for, whatever the command is."""
    command = fields.get("command", choice("install", "installorupgrade", "upgrade"), "install")
    if not fields.good():
        command = ""
    options = KickstartOptions(
        command=command,
        force_migrate=fields.get("force_migrate", boolean, False),
        save_bootbank=fields.get("save_bootbank", _uuid, None),
        ignore_prereq_warnings=fields.get("ignore_prereq_warnings", boolean, False),
        ignore_prereq_errors=fields.get("ignore_prereq_errors", boolean, False),
        extra_options=fields.get("extra_options", list_of(extra_option, most=16), ()),
        clearpart=_clearpart(fields.section("clearpart")) if fields.has("clearpart") else None,
        partitions=_partitions(fields.raw("partitions"), fields),
        keyboard=fields.get(
            "keyboard", matching("[A-Za-z]+(?: [A-Za-z]+)*", 40, "a keyboard's name such as US Default"), None
        ),
        serial_number=_serial_number(fields),
        paranoid=fields.get("paranoid", boolean, False),
        dryrun=fields.get("dryrun", boolean, False),
        no_eject=fields.get("no_eject", boolean, False),
        pre=fields.get("pre", script, None),
        pre_interpreter=fields.get("pre_interpreter", _interpreter, "busybox"),
        post=fields.get("post", script, None),
        post_interpreter=fields.get("post_interpreter", _interpreter, "busybox"),
        post_timeout=fields.get("post_timeout", integer(1, 86400), 900),
        post_ignore_failure=fields.get("post_ignore_failure", boolean, False),
        firstboot=fields.get("firstboot", script, None),
        firstboot_interpreter=fields.get("firstboot_interpreter", _interpreter, "busybox"),
        extra_commands=fields.get("extra_commands", list_of(extra_command, most=200), ()),
    )
    fields.finish()
    if not command:
        return options
    if options.force_migrate and command == "install" and not upgrading:
        fields.wrong("kickstart.force_migrate", "works with command installorupgrade or upgrade only; take it out")
    if options.clearpart is not None and command != "install":
        fields.wrong("kickstart.clearpart", "works with command install only; take it out")
    return options


def _serial_number(fields: Fields) -> t.Optional[str]:
    """A licence key; never shown in a message."""
    group = "[0-9A-Z]{5}"
    check = matching(f"{group}(?:-{group}){{4}}", 29, "")

    def quiet(value: object) -> str:
        try:
            return check(value)
        except Wrong:
            raise Wrong(
                "is no ESXi licence key; write five groups of five letters and digits, joined by hyphens"
            ) from None

    return fields.get("serial_number", quiet, None)
