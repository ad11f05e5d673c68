# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: how often an address may be refused before it is not heard any more.

Pure: the caller hands in the time. This is not what keeps tokens from being guessed, their length is; it keeps
somebody who tries from filling the log and from using up the service.
"""

from __future__ import annotations

import collections
import typing as t

__all__ = ("Throttle",)


class Throttle:
    """Counts refusals by address. An address may be refused `burst` times, and gets one back each `seconds`.

    Bounded: of many addresses the one that was quiet for longest is forgotten.
    """

    def __init__(self, burst: int, seconds: float, addresses: int = 4096) -> None:
        self._burst: t.Final = burst
        self._seconds: t.Final = seconds
        self._addresses: t.Final = addresses
        # Of each address: the moment at which nothing is held against it any more.
        self._clear_at: collections.OrderedDict[str, float] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._clear_at)

    def retry_after(self, address: str, now: float) -> float:
        """Seconds until the address is heard again; 0: now.

        :arg now: seconds of a clock that never goes back.
        """
        return max(0.0, self._clear_at.get(address, now) - now - (self._burst - 1) * self._seconds)

    def refused(self, address: str, now: float) -> bool:
        """Note a refusal. Returns whether it was the last one that was allowed."""
        clear_at = max(self._clear_at.pop(address, now), now) + self._seconds
        self._clear_at[address] = clear_at
        if len(self._clear_at) > self._addresses:
            self._clear_at.popitem(last=False)
        return self.retry_after(address, now) > 0
