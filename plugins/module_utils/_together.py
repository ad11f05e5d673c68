# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: calls of one loop that go on side by side.

Ansible makes the calls of a loop one after the other, in one process, and gives each a connection of its own. A call
that would take long goes on in a child of that process instead, and the last call of the loop collects what became of
them. The controller pays a process for each, and nothing for the hosts that are waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import typing as t

__all__ = ("Child", "start")

_LOST: t.Final = "the process on the controller that waited for it was ended; run the play again"


@dataclasses.dataclass
class Child:
    """Work that goes on in a process of its own."""

    label: str
    names: list[str]
    pid: int
    _pipe: int

    def result(self) -> dict[str, t.Any]:
        """What the work returned, once it has; C(hosts) or, where it failed as a whole, C(msg)."""
        number, self._pipe = self._pipe, -1
        with os.fdopen(number, encoding="utf-8") as pipe:
            text = pipe.read()
        os.waitpid(self.pid, 0)
        try:
            found = json.loads(text)
        except ValueError:
            return {"msg": _LOST}
        return found if isinstance(found, dict) else {"msg": _LOST}

    def kill(self) -> None:
        """End it; what it would have found is lost."""
        if self._pipe < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._pipe)
        self._pipe = -1


def start(label: str, names: t.Sequence[str], work: t.Callable[[], dict[str, t.Any]]) -> Child:
    """Begin C(work) in a process of its own; it must look at :func:`os.getppid` itself if it may take long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Child(label, list(names), pid, read)
    # From here on nothing may get back into the program that this process is a copy of.
    try:
        os.close(read)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with os.fdopen(write, "w", encoding="utf-8") as pipe:
            json.dump(work(), pipe)
    finally:
        os._exit(0)
