# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the one place where the PXE side imports third-party libraries.

The vSphere libraries are guarded elsewhere: importing them takes half a second, and nothing of the PXE side needs them.
"""

from __future__ import annotations

import traceback
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import MissingLibraryError

try:
    import netaddr
except ImportError:
    NETADDR_IMPORT_ERROR: t.Optional[str] = traceback.format_exc()
else:
    NETADDR_IMPORT_ERROR = None

__all__ = ["NETADDR_IMPORT_ERROR", "require_netaddr", "split_mac"]


def require_netaddr() -> None:
    """Raises MissingLibraryError when netaddr is not there, so that a module can say how to install it."""
    if NETADDR_IMPORT_ERROR is not None:
        raise MissingLibraryError("netaddr", NETADDR_IMPORT_ERROR)


def split_mac(text: str) -> tuple[int, ...]:
    """The six octets of a 48-bit MAC address in any notation that netaddr reads.

    Raises ValueError when it is none, MissingLibraryError without netaddr.
    """
    require_netaddr()
    try:
        return tuple(netaddr.EUI(text, version=48).words)
    except (netaddr.AddrFormatError, TypeError) as error:
        raise ValueError(str(error)) from error
