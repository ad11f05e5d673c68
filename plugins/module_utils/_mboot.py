# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: what an image's own boot loader, mboot, is able to do.

Pure. A medium says in boot.cfg of which build it is, and nobody says of which build its mboot is: a vendor's or a
colleague's custom medium may carry another one. mboot has no version text either. But it keeps the names of the keys
that it knows in boot.cfg as texts in its program (public source, vmware/esx-boot, ``mboot/config.c``), and that table
has grown:

=========== ==============================================
since       keys
=========== ==============================================
7.0.2       ``crypto``, ``nativehttp`` (this one left in 9.0)
8.0         ``runtimewd``, ``tftpblksize``, ``acpitables``
8.0.1       ``skip``, ``errtimeout``
=========== ==============================================

A loader that lacks a key cannot obey it. That is what matters: given ``skip=1``, one that does not know it hangs, or
starts an installer.
"""

from __future__ import annotations

import re
import typing as t

__all__ = ("UNKNOWN", "at_most", "believed")

UNKNOWN: t.Final = "0.0.0"
"""Stands for the version of a loader in which none of mboot's keys was found."""

# What a loader without the key can be at most, newest first. The last key is in every mboot that there ever was here.
_NEWEST_WITHOUT: t.Final = (
    (b"skip", "8.0.0"),
    (b"runtimewd", "7.0.3"),
    (b"crypto", "7.0.1"),
    (b"nobootif", UNKNOWN),
)


def at_most(loader: bytes) -> str | None:
    """The newest version of ESXi that a loader's program can come from; ``None``: its keys set no limit.

    A key ends with a NUL. What stands before it does not count: a linker may let it share the end of a longer text.
    """
    found = None
    for key, version in _NEWEST_WITHOUT:
        if key + b"\0" in loader:
            return found
        found = version
    return found


def believed(version: str, loader: bytes) -> tuple[str, str | None]:
    """The version that an image's mboot is taken for, and a sentence for the administrator where that needs one.

    :arg version: what the medium's boot.cfg says.
    :returns: the lower of what the medium says and what its loader shows.
    """
    limit = at_most(loader)
    if limit is not None and _key(limit) < _key(version):
        is_one = "has none of the keys of an mboot" if limit == UNKNOWN else f"is that of ESXi {limit} or older"
        return limit, f"The medium is ESXi {version}, but its boot loader {is_one}: it is treated as such."
    if limit is None and _key(version) < (8, 0, 1):
        return version, (
            f"The medium is ESXi {version}, but its boot loader is that of ESXi 8.0.1 or later: it is treated as that "
            f"of {version} all the same."
        )
    return version, None


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))[:3]
