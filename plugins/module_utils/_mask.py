# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: texts as readers may see them, without the secrets of an install.

A boot file has the key of the kickstart in it, and a host may say anything, its own token among it.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status

__all__ = ("HIDDEN", "mask", "masked")

HIDDEN: t.Final = "(hidden)"

_KEY = re.compile(r"(/ks/)[^/\s]+")
# 32 bytes in base64: what follows a host's name in a token.
_TOKEN = re.compile(r"~[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")


def mask(text: str) -> str:
    """A text without the keys and tokens in it."""
    return _TOKEN.sub(f"~{HIDDEN}", _KEY.sub(rf"\g<1>{HIDDEN}", text))


def masked(status: Status) -> Status:
    """A status without any in what its host has said."""
    failure = status.failure
    return dataclasses.replace(
        status,
        message=mask(status.message),
        failure=None if failure is None else dataclasses.replace(failure, reason=mask(failure.reason)),
        actions=tuple(dataclasses.replace(action, name=mask(action.name)) for action in status.actions),
    )
