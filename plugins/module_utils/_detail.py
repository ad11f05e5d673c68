# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: everything about one host that may be shown, read when it is asked for.

May be shown means: no key of a kickstart, no token. The boot files carry the key; what is read here has it blotted out.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, LayoutError, check_name
from ansible_collections.pxemanager.esxi.plugins.module_utils._mask import mask, masked
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import StoreError, read_json, read_mode
from ansible_collections.pxemanager.esxi.plugins.module_utils._validity import Certificate, read_certificate

__all__ = ("BootFile", "Detail", "read_detail")

# Bytes of one file, and files of one host, that are shown.
_MAX_BYTES = 32 * 1024
_MAX_FILES = 64


@dataclasses.dataclass(frozen=True)
class BootFile:
    """A file that a machine is given: `path` below the folder of the host's mode, `text` masked."""

    path: str
    text: str


@dataclasses.dataclass(frozen=True)
class Detail:
    """One host.

    :ivar mode: where its link leads, which is what a machine meets whatever the status says; None: nowhere.
    :ivar macs: those of its published definition.
    :ivar files: what lies behind the link.
    """

    status: Status
    mode: str | None
    macs: tuple[str, ...]
    address: str | None
    firmware: str | None
    files: tuple[BootFile, ...]
    certificate: Certificate | None

    def to_json(self) -> dict[str, object]:
        """What the JSON interface tells beside the host's view."""
        certificate = self.certificate
        return {
            "mode_link": self.mode,
            "macs": list(self.macs),
            "address": self.address,
            "firmware": self.firmware,
            "request": self.status.request,
            "kickstart": None if self.status.kickstart is None else self.status.kickstart.to_json(),
            "post_actions": [action.to_json() for action in self.status.actions],
            "progress": None if self.status.progress is None else self.status.progress.to_json(),
            "certificate": None
            if certificate is None
            else {
                "pem": self.status.certificate,
                "sha256": certificate.sha256,
                "sha1": certificate.sha1,
                "not_before": certificate.not_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "not_after": certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "boot_files": [{"path": file.path, "text": file.text} for file in self.files],
        }


def read_detail(layout: Layout, name: str) -> Detail | None:
    """Read everything about a host; None: there is no such host.

    :raises StoreError, SchemaError: its status cannot be read.
    """
    try:
        document = read_json(layout.status(check_name(name)))
    except LayoutError:
        return None
    if document is None:
        return None
    status = masked(Status.from_json(document))
    try:
        mode = read_mode(layout, name)
    except StoreError:
        mode = None
    try:
        record = read_json(layout.record(name)) or {}
    except StoreError:
        record = {}
    network = record.get("network")
    certificate = None
    if status.certificate is not None:
        try:
            certificate = read_certificate(status.certificate)
        except ValueError:
            certificate = None
    macs = record.get("macs")
    return Detail(
        status=status,
        mode=mode,
        macs=tuple(mac for mac in macs if isinstance(mac, str)) if isinstance(macs, list) else (),
        address=_text(network.get("address")) if isinstance(network, dict) else None,
        firmware=_text(record.get("firmware")),
        files=() if mode is None else tuple(_files(layout, name, mode)),
        certificate=certificate,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _files(layout: Layout, name: str, mode: str) -> t.Iterator[BootFile]:
    folder = layout.mode_dir(name, mode)
    try:
        entries = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except OSError:
        return
    for entry in entries[:_MAX_FILES]:
        try:
            with open(folder / entry, "rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError:
            continue
        text = data[:_MAX_BYTES].decode("utf-8", "replace")
        # A key that is cut in two is still after /ks/, and masked up to the cut.
        yield BootFile(entry, mask(text) + ("\n(cut here)\n" if len(data) > _MAX_BYTES else ""))
