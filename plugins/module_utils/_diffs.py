# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: differences of many hosts, so that a person can read them.

Pure. A host has some thirty files, and a thousand hosts' differences in full are more than anybody reads. Above a limit
hosts of which the same is done are said together, in one sentence without contents.
"""

from __future__ import annotations

import re
import textwrap
import typing as t

__all__ = ("DIFF_LIMIT", "brief_of", "fold_names", "together")

DIFF_LIMIT = 10
"""Up to so many hosts each file is shown."""

_WIDTH = 110
_RUN = 3
"""So many names in a row become a range."""

_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*(?:\..*)?)", re.DOTALL)


def brief_of(changes: t.Iterable[tuple[str, str | None, str | None]], kinds: t.Sequence[tuple[str, str, str]]) -> str:
    """What is done to the files of one host, in a few words such as V(8 links and the status new).

    :arg changes: path, contents before and contents after; a folder's path ends with a slash.
    :arg kinds: the beginning of a path, and what is there: one, and several of them. The first that fits counts.
    """
    # Of several changes to one file the first knows what was, the last what will be.
    merged: dict[str, tuple[str | None, str | None]] = {}
    for path, before, after in changes:
        merged[path] = (merged.get(path, (before,))[0], after)
    counted: dict[str, dict[tuple[str, str], int]] = {"new": {}, "changed": {}, "removed": {}}
    for path, (before, after) in merged.items():
        if before == after or path.endswith("/"):
            continue
        how = "new" if before is None else "removed" if after is None else "changed"
        kind = next(
            ((one, many) for begin, one, many in kinds if path.startswith(begin)), ("other file", "other files")
        )
        counted[how][kind] = counted[how].get(kind, 0) + 1
    parts = []
    for how, found in counted.items():
        words = [one if count == 1 else f"{count} {many}" for (one, many), count in sorted(found.items())]
        if words:
            parts.append(f"{', '.join(words)} {how}")
    return "; ".join(parts)


def together(briefs: t.Mapping[str, str]) -> str:
    """The differences of many hosts as one text: what is done, and to whom.

    :arg briefs: what is done, by name of the host.
    """
    groups: dict[str, list[str]] = {}
    for name, brief in briefs.items():
        groups.setdefault(brief, []).append(name)
    lines = [f"{len(briefs)} hosts differ. Hosts of which the same is done are said together; to see every file, set"]
    lines.append("diff_limit: 0 (esxi_host_diff_limit), or name fewer hosts (--limit).")
    for brief, names in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        lines.append(f"* {len(names)} host{'' if len(names) == 1 else 's'}: {brief or 'permissions'}")
        folded = ", ".join(fold_names(names))
        lines += textwrap.wrap(
            folded,
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "".join(f"{line}\n" for line in lines)


def fold_names(names: t.Iterable[str]) -> list[str]:
    """Names in order, with runs of numbers as Ansible writes ranges: V(esx[001:400].example.com)."""
    runs: dict[tuple[str, str, int], list[int]] = {}
    others: list[str] = []
    for name in dict.fromkeys(names):
        # The last number of the first label: what follows is the domain.
        match = _NUMBERED.fullmatch(name.partition(".")[0])
        if match is None:
            others.append(name)
            continue
        digits = match.group(2)
        domain = name[len(name.partition(".")[0]) :]
        runs.setdefault((match.group(1), match.group(3) + domain, len(digits)), []).append(int(digits))
    folded: list[str] = others
    for (before, after, width), numbers in runs.items():
        start = previous = None
        for number in [*sorted(numbers), None]:
            if previous is not None and number == previous + 1:
                previous = number
                continue
            if start is not None and previous is not None:
                if previous - start + 1 >= _RUN:
                    folded.append(f"{before}[{start:0{width}}:{previous:0{width}}]{after}")
                else:
                    folded += [f"{before}{one:0{width}}{after}" for one in range(start, previous + 1)]
            start = previous = number
    return sorted(folded)
