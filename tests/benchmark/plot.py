# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draws the benchmark: ``python tests/benchmark/plot.py RESULTS FOLDER`` with a Python that has matplotlib.

One picture, as PNG and SVG: hosts against seconds, ours and the usual ways, and beside it every budget: how far each
figure is on its good side. Prints the names of the files.
"""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter
from table import Row, cells, number

# Line of the plot: colour, marker. Colours that people with any colour vision tell apart (Okabe and Ito).
LINES = {
    "published, first": ("#0072b2", "o"),
    "nothing changed": ("#56b4e9", "s"),
    "one host changed": ("#009e73", "^"),
    "all armed": ("#e69f00", "D"),
    "all re-armed": ("#cc79a7", "v"),
    "kickstarts, first": ("#999999", "P"),
    "template tasks": ("#d55e00", "x"),
    "cobbler sync": ("#000000", "+"),
}
REMARKS = {"cobbler sync": "in process, not durable"}


LICENCE = """<!-- Copyright (c) 2026 The pxemanager.esxi authors
     GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
     {tag}: GPL-3.0-or-later
-->""".format(tag="SPDX-" + "License-Identifier")  # in two parts: it is not this file's own


def seconds_of(rows: t.Sequence[Row], line: str) -> tuple[list[Row], list[Row]]:
    """The rows of a line: measured, and extrapolated, each by number of hosts."""
    own = sorted((row for row in rows if row.line == line and row.seconds is not None), key=lambda row: row.count)
    return [row for row in own if not row.extrapolated], [row for row in own if row.extrapolated]


def times(axes: t.Any, rows: t.Sequence[Row]) -> None:
    """Hosts against seconds. What is extrapolated is dashed, with hollow marks, and says so."""
    for line, (colour, marker) in LINES.items():
        measured, extrapolated = seconds_of(rows, line)
        label = f"{line} ({REMARKS[line]})" if line in REMARKS else line
        if measured:
            points = [(row.count, row.seconds) for row in measured]
            axes.plot(*zip(*points), color=colour, marker=marker, label=label)
        if extrapolated:
            points = [(row.count, row.seconds) for row in measured[-1:] + extrapolated]
            style = {"color": colour, "marker": marker, "linestyle": "--", "markerfacecolor": "white"}
            axes.plot(*zip(*points), label=f"{line}, extrapolated", **style)
    start = [row.seconds for row in rows if row.part == "publish" and row.count == 0]
    if start:
        axes.axhline(start[0], color="#999999", linewidth=0.8, linestyle=":")
        axes.text(1, start[0], " ansible-playbook without a task", fontsize=7, va="bottom", color="#555555")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.10g}"))
    axes.set_xlabel("hosts, with two MAC addresses each")
    axes.set_ylabel("seconds, with Ansible's start")
    axes.set_title("Publishing hosts on a PXE server")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=7, loc="upper left")


def headroom(row: Row) -> float:
    """How many times better than its budget a figure is; below 1 it is missed."""
    budget = row.budget
    if budget is None:
        return 1
    value = getattr(row, budget.what)
    if budget.at_least is not None:
        return float(value / budget.at_least)
    return float((budget.at_most or 1) / max(value, 1e-9))


def budgets(axes: t.Any, rows: t.Sequence[Row]) -> None:
    """A bar for each budget, to the right of 1 when it is met."""
    judged = [row for row in rows if row.met is not None]
    labels = [f"{row.name}\n{row.count:,}: {cells(row)[6]}" for row in judged]
    values = [headroom(row) for row in judged]
    colours = ["#009e73" if row.met else "#d55e00" for row in judged]
    places = range(len(judged))
    axes.barh(places, values, color=colours, height=0.6)
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="#000000", linewidth=1)
    for place, value in zip(places, values):
        axes.text(max(value, 1), place, f" {number(value)} x", va="center", fontsize=7)
    axes.set_xlim(min([0.5, *values]) / 1.5, max([2, *values]) * 3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("times better than the budget")
    axes.set_title("Budgets")
    axes.grid(True, axis="x", which="major", alpha=0.3)


def main(results: Path, folder: Path) -> None:
    """Draw what is there."""
    document = json.loads(results.read_text("utf-8"))
    rows = [Row.from_json(row) for row in document["rows"]]
    judged = sum(row.met is not None for row in rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, max(6, 0.5 * judged + 1.5)), layout="constrained")
    times(left, rows)
    budgets(right, rows)
    about = document["machine"]
    figure.supxlabel(
        f"{about['processor']}, {about['memory']}, {about['file system']}; load {about['load']}; {about['measured']}",
        fontsize=7,
    )
    # The same bytes for the same figures: no time, no random names in the SVG.
    plt.rcParams["svg.hashsalt"] = "pxemanager.esxi"
    for suffix, more in ((".png", {"dpi": 110}), (".svg", {"metadata": {"Date": None}})):
        path = folder / f"bench{suffix}"
        figure.savefig(path, **more)
        if suffix == ".svg":
            # Lines of it end in blanks, which the style of this repository has no use for.
            head, *lines = path.read_text("utf-8").splitlines()
            path.write_text("".join(f"{line.rstrip()}\n" for line in [head, LICENCE, *lines]), "utf-8")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
