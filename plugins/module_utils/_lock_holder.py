# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: who holds a lock on this machine, for the sentence of who waited in vain.

All of it is best effort: what the kernel does not tell is left out.
"""

from __future__ import annotations

import os
import re
import typing as t

__all__ = ("describe_process", "holder_of")

_PROGRAM = re.compile(rb"([A-Za-z0-9_.-]+)\.py(?:\0|$)")
_ANCESTORS = 12


def holder_of(fd: int) -> str:
    """Who holds the flock of an open file, such as C( (process 4711, esxi_pxe_host, for 42 s, from 192.0.2.7)).

    Empty when the kernel does not tell.
    """
    try:
        info = os.fstat(fd)
        wanted = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted:
                    return f" ({describe_process(int(words[4]))})"
    except (OSError, ValueError):
        pass
    return ""


def describe_process(pid: int) -> str:
    """A process: its number, which module or program it is, how long it has run, and whose SSH session it came with."""
    parts = [f"process {pid}"]
    match = _PROGRAM.search(_read(pid, "cmdline"))
    if match is not None:
        parts.append(match.group(1).decode("ascii").removeprefix("AnsiballZ_"))
    seconds = _seconds(pid)
    if seconds is not None:
        parts.append(f"running for {seconds} s")
    client = _client(pid)
    if client is not None:
        parts.append(f"from {client}")
    return ", ".join(parts)


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(65536)
    except OSError:
        return b""


def _fields(pid: int) -> list[bytes]:
    """What follows the name in /proc/PID/stat; the name may hold anything, so count from its end."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _seconds(pid: int) -> int | None:
    fields = _fields(pid)
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
        return max(0, int(uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")))
    except (OSError, ValueError, IndexError):
        return None


def _client(pid: int) -> str | None:
    """The controller's address. become takes the variable away, so whoever started the process is asked as well."""
    for one in _ancestors(pid):
        for entry in _read(one, "environ").split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                words = entry.partition(b"=")[2].split()
                address = words[0].decode("ascii", "replace") if words else ""
                return address if re.fullmatch(r"[0-9A-Fa-f:.%a-z]{1,64}", address) else None
    return None


def _ancestors(pid: int) -> t.Iterator[int]:
    for _step in range(_ANCESTORS):
        if pid <= 1:
            return
        yield pid
        try:
            pid = int(_fields(pid)[1])
        except (IndexError, ValueError):
            return
