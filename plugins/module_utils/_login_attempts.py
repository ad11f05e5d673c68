# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: how many wrong logins this machine has sent to each host lately. Standard library only.

ESXi locks an account for 15 minutes after five wrong logins, and a locked account refuses the right password as well,
without saying why. One run sends two at most; what this file is for is the third run in a row. A host is told apart by
the certificate of its install, so a reinstalled one begins anew. Nothing in the file is a secret.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
import typing as t
from contextlib import contextmanager, suppress

__all__ = ["LOCK_SECONDS", "MOST_WRONG_LOGINS", "Attempts"]

# ESXi's defaults: Security.AccountLockFailures is 5, Security.AccountUnlockTime 900. One login is left to somebody
# else, such as vCenter or a person at the host's page.
MOST_WRONG_LOGINS = 4
LOCK_SECONDS = 900.0


class Attempts:
    """Times of wrong logins, by host. ``path``: the file, or None to count nothing."""

    def __init__(self, path: t.Optional[str], clock: t.Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def wait(self, host: str, wanted: int) -> float:
        """Seconds until so many more wrong logins may be sent to a host; 0 when they may be sent now.

        Raises OSError when the file cannot be read or made.
        """
        if self._path is None:
            return 0.0
        with self._locked() as known:
            times = known.get(host, [])
            too_many = len(times) + wanted - MOST_WRONG_LOGINS
            return times[too_many - 1] + LOCK_SECONDS - self._clock() if too_many > 0 and times else 0.0

    def wrong(self, host: str) -> None:
        """Note a wrong login."""
        if self._path is not None:
            with self._locked() as known:
                known.setdefault(host, []).append(self._clock())

    def right(self, host: str) -> None:
        """Note a login that succeeded: ESXi counts from the beginning then."""
        if self._path is not None:
            with self._locked() as known:
                known.pop(host, None)

    @contextmanager
    def _locked(self) -> t.Iterator[dict[str, list[float]]]:
        """What is known, to be changed; nobody else changes it meanwhile."""
        path = os.path.abspath(os.path.expanduser(str(self._path)))
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read(path)
            before = json.dumps(known, sort_keys=True)
            yield known
            if json.dumps(known, sort_keys=True) != before:
                self._write(path, known)
        finally:
            os.close(lock)

    def _read(self, path: str) -> dict[str, list[float]]:
        """The times that still count. A file that is damaged counts nothing, which is how it was without it."""
        try:
            with open(path, encoding="utf-8") as stream:
                document = json.load(stream)
        except (FileNotFoundError, ValueError):
            return {}
        now = self._clock()
        known: dict[str, list[float]] = {}
        for host, times in document.items() if isinstance(document, dict) else ():
            recent = [
                float(one)
                for one in (times if isinstance(times, list) else [])
                if isinstance(one, (int, float)) and now - LOCK_SECONDS < one <= now
            ]
            if recent:
                known[str(host)] = sorted(recent)
        return known

    @staticmethod
    def _write(path: str, known: t.Mapping[str, t.Sequence[float]]) -> None:
        handle, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".attempts-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(known, stream)
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise
