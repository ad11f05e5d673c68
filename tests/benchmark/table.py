# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a part of the benchmark is given, what it gives back, and how that becomes one table.

A part is a file beside this one with a name from `PARTS`. It has a docstring, a number `LIMIT` (seconds after which it
is stopped; `QUICK_LIMIT` with QUICK=1) and a function `measure(run: Run) -> None`; with a function
`prepare(say)` what must be installed first is not measured. It runs in a process of its own, so
that it may die, leak or set environment variables without harm to the next one, and calls `run.add(Row(...))` as soon
as it has a figure: a part that is stopped keeps the rows that it had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t
from pathlib import Path

PARTS = ("publish", "provision", "storm", "pbconnect", "dhcp", "vcenter")
"""The parts, in the order of the table; one whose file is not there is left out."""

SIZES = (1, 10, 100, 1_000, 10_000)
QUICK_SIZES = (1, 10, 100)

Say = t.Callable[[str], None]


class Skip(Exception):
    """A part or a peer cannot be measured here; the text says why, in one sentence for the table's notes."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a figure has to be.

    :ivar what: the field of the row that it is about: "ratio", "rate", "seconds" or "memory".
    """

    what: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    :ivar name: what was measured, such as "published for the first time".
    :ivar count: how many hosts, reservations, … it was.
    :ivar seconds: how long all of it took, wall clock.
    :ivar rate: how many a second, where that is the figure; None: it is left to the reader.
    :ivar memory: largest resident memory, MiB.
    :ivar peer: what `ratio` compares with; "" without one.
    :ivar ratio: a number of times; say in `peer` of what ("faster than cobbler sync", "of the first run").
    :ivar extrapolated: computed from a smaller measurement, not measured. Always shown as such.
    :ivar line: the line of the plot (hosts against seconds) that it belongs to; "": not in that plot.
    :ivar note: anything else that a reader must know, in a few words.
    :ivar part: set by `Run.add`.
    """

    name: str
    count: int
    seconds: float | None = None
    rate: float | None = None
    memory: float | None = None
    peer: str = ""
    ratio: float | None = None
    budget: Budget | None = None
    extrapolated: bool = False
    line: str = ""
    note: str = ""
    part: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None: there is none, or no figure for it."""
        value = getattr(self, self.budget.what) if self.budget is not None else None
        return None if self.budget is None or value is None else self.budget.met(value)

    @classmethod
    def from_json(cls, value: t.Mapping[str, t.Any]) -> Row:
        budget = value.get("budget")
        return cls(**{**value, "budget": Budget(**budget) if budget is not None else None})


@dataclasses.dataclass
class Run:
    """What a part is given.

    :ivar sizes: how many hosts to measure with, ascending.
    :ivar quick: a run to see that it works: everything small and short.
    :ivar folder: an empty folder on the disk that is measured; it is removed afterwards, whatever happens.
    :ivar say: prints a line of progress.
    :ivar result: where the rows go.
    """

    sizes: tuple[int, ...]
    quick: bool
    folder: Path
    say: Say
    result: Path
    rows: list[Row] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    part: str = ""

    def add(self, row: Row) -> Row:
        """Take a row into the table, at once."""
        row = dataclasses.replace(row, part=self.part)
        self.rows.append(row)
        self._save()
        self.say(" ".join(cell for cell in cells(row) if cell))
        return row

    def note(self, text: str) -> None:
        """A sentence for below the table, such as why a peer could not be had."""
        self.notes.append(text)
        self._save()
        self.say(text)

    def _save(self) -> None:
        document = {"rows": [dataclasses.asdict(row) for row in self.rows], "notes": self.notes}
        temporary = self.result.with_suffix(".new")
        temporary.write_text(json.dumps(document, indent=1), "utf-8")
        temporary.replace(self.result)

    @contextlib.contextmanager
    def optional(self, what: str) -> t.Iterator[None]:
        """Go on without a peer that is not to be had, and say why."""
        try:
            yield
        except Skip as why:
            self.note(f"{what}: not measured, {why}")


# The table.

HEAD = ("what", "hosts", "seconds", "a second", "MiB", "ratio", "budget", "met")


def number(value: float | None) -> str:
    """A figure with as many digits as a reader can use."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def budget_text(budget: Budget | None) -> str:
    if budget is None:
        return ""
    unit = {"ratio": " x", "rate": " a second", "seconds": " s", "memory": " MiB"}[budget.what]
    bounds = [("at least", budget.at_least), ("at most", budget.at_most)]
    return " and ".join(f"{word} {number(value)}{unit}" for word, value in bounds if value is not None)


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row, in the order of `HEAD`."""
    name = row.name
    remarks = [text for text in ("extrapolated" if row.extrapolated else "", row.note) if text]
    if remarks:
        name += f" ({', '.join(remarks)})"
    ratio = "" if row.ratio is None else f"{number(row.ratio)} x {row.peer}".strip()
    verdict = {None: "", True: "yes", False: "NO"}[row.met]
    seconds = ("~" if row.extrapolated else "") + number(row.seconds) if row.seconds is not None else ""
    return (
        name,
        f"{row.count:,}",
        seconds,
        number(row.rate),
        number(row.memory),
        ratio,
        budget_text(row.budget),
        verdict,
    )


def text_table(rows: t.Sequence[Row]) -> str:
    """For a terminal: a heading for each part, columns as wide as they must be."""
    table = [HEAD, *map(cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    right = range(1, 5)

    def line(words: t.Sequence[str]) -> str:
        return "  ".join(
            word.rjust(width) if column in right else word.ljust(width)
            for column, (word, width) in enumerate(zip(words, widths))
        ).rstrip()

    lines = [line(HEAD), line(["-" * width for width in widths])]
    part = ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines.append(f"{part}:")
        lines.append(line(cells(row)))
    return "\n".join(lines)


def markdown_table(rows: t.Sequence[Row]) -> str:
    """For docs/benchmark.md: a table for each part."""
    blocks = []
    for part in dict.fromkeys(row.part for row in rows):
        lines = [f"### {part}", "", f"| {' | '.join(HEAD)} |", "| --- | --: | --: | --: | --: | --- | --- | --- |"]
        for row in rows:
            if row.part == part:
                texts = [cell.replace("|", "\\|") for cell in cells(row)]
                if row.met is not None:
                    texts[-1] = "yes" if row.met else "**no**"
                lines.append(f"| {' | '.join(texts)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def verdict(rows: t.Sequence[Row]) -> str:
    """One sentence about the budgets."""
    judged = [row for row in rows if row.met is not None]
    missed = [f"{row.name}, {row.count:,}" for row in judged if not row.met]
    if not missed:
        return f"All {len(judged)} budgets are met." if judged else "No budget was measured."
    return f"{len(missed)} of {len(judged)} budgets are missed: {'; '.join(missed)}."


def ladder(run: Run, most: int) -> t.Iterator[int]:
    """The sizes of a run up to one that a slow peer can reach."""
    return (size for size in run.sizes if size <= most)
