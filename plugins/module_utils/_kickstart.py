# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the pieces of a host's kickstart, which a template puts together."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import with_firstboot_script
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import (
    firstboot_script,
    post_script,
    pre_script,
    python_script,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import is_sha512_crypt

__all__ = [
    "Deadlines",
    "Kickstart",
    "build",
    "check_password",
    "check_password_hash",
    "password_salt",
]

_SALT_LETTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True)
class Deadlines:
    """Seconds for which each section tries to reach the PXE server."""

    pre: int = 300
    post: int = 120
    firstboot: int = 900


@dataclasses.dataclass(frozen=True)
class Kickstart:
    """What a template puts together: each is a list of whole lines, or a whole section with its opening line.

    ``firstboot`` is empty with Secure Boot, under which ESXi would not run it.
    """

    accept_eula: tuple[str, ...]
    rootpw: tuple[str, ...]
    clearpart: tuple[str, ...]
    install: tuple[str, ...]
    partitions: tuple[str, ...]
    network: tuple[str, ...]
    keyboard: tuple[str, ...]
    serial_number: tuple[str, ...]
    mode: tuple[str, ...]
    extra_commands: tuple[str, ...]
    reboot: tuple[str, ...]
    pre: str
    post: str
    firstboot: str

    @property
    def commands(self) -> tuple[str, ...]:
        """Every command line, in an order that the installer takes."""
        return (
            *self.accept_eula,
            *self.mode,
            *self.rootpw,
            *self.clearpart,
            *self.install,
            *self.partitions,
            *self.network,
            *self.keyboard,
            *self.serial_number,
            *self.extra_commands,
            *self.reboot,
        )

    def to_template(self) -> dict[str, t.Any]:
        """As plain lists and texts, which is all that a template may be given."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {**fields, "commands": list(self.commands)}


def check_password(password: str) -> t.Optional[str]:
    """What is wrong with a bootstrap password, or None. The sentence does not repeat it."""
    if not re.match(r"[ -~]{7,127}\Z", password):
        return "root_password must be 7 to 127 printable ASCII characters."
    return None


def check_password_hash(value: str) -> t.Optional[str]:
    """What is wrong with a password's hash, or None. The sentence does not repeat it."""
    if not is_sha512_crypt(value):
        return "root_password_hash must be a SHA-512 crypt hash, which begins with $6$ (mkpasswd -m sha-512 makes one)."
    return None


def password_salt(name: str) -> str:
    """16 characters that are always the same for a host and differ between hosts.

    A random salt would make every run a change; one salt for all would show which hosts share a password.
    """
    digest = hashlib.sha256(f"pxemanager.esxi {name}".encode("ascii")).digest()
    return "".join(_SALT_LETTERS[octet % 64] for octet in digest[:16])


def _value(text: str) -> str:
    """A value as the installer, which takes a line apart as a shell does, reads it."""
    return f'"{text}"' if " " in text else text


def _first(option: str, words: t.Sequence[str]) -> str:
    return f"{option}={_value(','.join(words))}" if words else option


def _install_line(host: Host) -> str:
    disk, options = host.disk, host.kickstart
    fresh = host.command != "upgrade"
    words = [host.command]
    if disk.booted and not fresh:
        words.append("--diskBootedFrom")
    elif disk.device is not None:
        words.append(f"--disk={disk.device}")
    else:
        words.append(_first("--firstdisk", disk.first or ()))
    for is_set, word in (
        (fresh and disk.existing_vmfs == "overwrite", "--overwritevmfs"),
        (fresh and disk.existing_vmfs == "preserve", "--preservevmfs"),
        (fresh and not disk.create_vmfs, "--novmfsondisk"),
        (fresh and disk.overwrite_vsan, "--overwritevsan"),
        (fresh and disk.ignore_ssd, "--ignoressd"),
        (fresh and disk.force_unsupported, "--forceunsupportedinstall"),
        (host.command != "install" and options.force_migrate, "--forcemigrate"),
        (disk.booted and not fresh, f"--savebootbank={options.save_bootbank}"),
        (options.ignore_prereq_warnings, "--ignoreprereqwarnings"),
        (options.ignore_prereq_errors, "--ignoreprereqerrors"),
        *((True, option) for option in options.extra_options),
    ):
        if is_set:
            words.append(word)
    return " ".join(words)


def _clearpart_line(host: Host) -> t.Iterator[str]:
    clearpart = host.kickstart.clearpart
    if clearpart is None:
        return
    if clearpart.drives:
        words = [f"--drives={','.join(clearpart.drives)}"]
    elif clearpart.ignore_drives:
        words = [f"--ignoredrives={','.join(clearpart.ignore_drives)}"]
    elif clearpart.first is not None:
        words = [_first("--firstdisk", clearpart.first)]
    else:
        words = ["--alldrives"]
    if host.disk.existing_vmfs == "overwrite":
        words.append("--overwritevmfs")
    yield " ".join(["clearpart", *words])


def _network_line(host: Host) -> str:
    network = host.network
    words = [f"--bootproto={network.bootproto}", f"--device={network.nic}"]
    if network.bootproto == "static":
        words.extend((f"--ip={network.address}", f"--netmask={network.netmask}"))
        if network.gateway is not None:
            words.append(f"--gateway={network.gateway}")
        if network.nameservers:
            words.append(f"--nameserver={','.join(network.nameservers)}")
        words.append(f"--hostname={host.name}")
    if network.vlan:
        words.append(f"--vlanid={network.vlan}")
    # Always said: without it the installer adds a port group for virtual machines to the management network.
    words.append(f"--addvmportgroup={int(network.vm_portgroup)}")
    if network.nodns:
        words.append("--nodns")
    return " ".join(["network", *words])


def _partition_lines(host: Host) -> t.Iterator[str]:
    for partition in host.kickstart.partitions:
        if partition.disk is not None:
            yield f"part {partition.name} --ondisk={partition.disk}"
        else:
            yield f"part {partition.name} {_first('--onfirstdisk', partition.first or ())}"


def _script(text: t.Optional[str], interpreter: str) -> t.Optional[str]:
    return python_script(text) if text is not None and interpreter == "python" else text


def build(host: Host, mac: str, password_hash: str, deadlines: Deadlines) -> Kickstart:
    """The pieces of the kickstart that ``host`` gets when it boots from ``mac``.

    Nothing random and no time goes in, so the same definition gives the same text. An upgrade keeps what the installed
    system has, and the installer complains of commands that would change it: they are left out.
    """
    options = host.kickstart
    fresh = host.command != "upgrade"
    # An upgraded host has its configuration: only what asks for it is done again.
    actions = (
        with_firstboot_script(host.post_actions, _script(options.firstboot, options.firstboot_interpreter))
        if fresh
        else tuple(action for action in host.post_actions if action.after_upgrade)
    )
    own_pre, own_post = (
        _script(options.pre, options.pre_interpreter),
        _script(options.post, options.post_interpreter),
    )
    post_fatal = options.post is not None and not options.post_ignore_failure
    # The script's own time-out comes first; the installer's is there for the day when nothing else works.
    post_seconds = deadlines.post + 120 + (options.post_timeout if options.post is not None else 0)
    post_line = f"%post --interpreter=busybox --timeout={post_seconds} --ignorefailure={str(not post_fatal).lower()}"
    return Kickstart(
        accept_eula=("vmaccepteula",),
        rootpw=(f"rootpw --iscrypted {password_hash}",) if fresh else (),
        clearpart=tuple(_clearpart_line(host)) if fresh else (),
        install=(_install_line(host),),
        partitions=tuple(_partition_lines(host)) if fresh else (),
        network=(_network_line(host),) if fresh else (),
        keyboard=(f"keyboard {_value(options.keyboard)}",) if fresh and options.keyboard is not None else (),
        serial_number=(f"serialnum --esx={options.serial_number}",)
        if fresh and options.serial_number is not None
        else (),
        mode=tuple(word for word, is_set in (("paranoid", options.paranoid), ("dryrun", options.dryrun)) if is_set),
        extra_commands=options.extra_commands,
        reboot=("reboot --noeject" if options.no_eject else "reboot",),
        pre="%pre --interpreter=busybox\n" + pre_script(mac, deadlines.pre, own_pre),
        post=post_line
        + "\n"
        + post_script(mac, deadlines.post, own_post, options.post_timeout, options.post_ignore_failure),
        firstboot=""
        if host.secure_boot
        else "%firstboot --interpreter=busybox\n" + firstboot_script(mac, deadlines.firstboot, actions),
    )
