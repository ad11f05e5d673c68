# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark's table: what a figure, a ratio, a budget and an extrapolation look like."""

from __future__ import annotations

import ast
import dataclasses
import json
import pathlib

import pytest

from ansible_collections.pxemanager.esxi.tests.benchmark import table
from ansible_collections.pxemanager.esxi.tests.benchmark.table import Budget, Row

BENCHMARK = pathlib.Path(table.__file__).parent
FAST = Row("published", 1000, 4.2, ratio=250.4, peer="faster than a loop", budget=Budget("ratio", at_least=100))
SLOW = Row(
    "again", 1000, 2.1, ratio=0.5, peer="of the first run", budget=Budget("ratio", at_most=1 / 3), part="publish"
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.333, "0.33"), (9.994, "9.99"), (12.34, "12.3"), (123.4, "123"), (18008.8, "18,009")],
)
def test_a_figure_has_as_many_digits_as_one_can_use(value, text):
    assert table.number(value) == text


@pytest.mark.parametrize(
    ("budget", "value", "met"),
    [
        (Budget("ratio", at_least=100), 100, True),
        (Budget("ratio", at_least=100), 99.9, False),
        (Budget("ratio", at_most=1 / 3), 0.3, True),
        (Budget("ratio", at_most=1 / 3), 0.34, False),
        (Budget("rate", at_least=1, at_most=2), 3, False),
    ],
)
def test_a_budget_is_kept_up_to_its_very_bound(budget, value, met):
    assert budget.met(value) is met


def test_a_row_knows_whether_its_budget_is_met():
    assert FAST.met is True
    assert SLOW.met is False
    assert Row("x", 1, 1.0).met is None
    assert Row("x", 1, budget=Budget("rate", at_least=1)).met is None, "no figure, no verdict"
    assert Row("x", 1, seconds=0.06, budget=Budget("seconds", at_most=0.05)).met is False


def test_the_cells_of_a_row():
    assert table.cells(FAST) == (
        "published",
        "1,000",
        "4.20",
        "",
        "",
        "250 x faster than a loop",
        "at least 100 x",
        "yes",
    )
    assert table.cells(SLOW)[-1] == "NO"


def test_what_is_extrapolated_says_so_twice():
    name, _count, seconds, *_rest = table.cells(Row("template tasks", 1000, 900.0, extrapolated=True, note="in a loop"))
    assert name == "template tasks (extrapolated, in a loop)"
    assert seconds == "~900"


def test_columns_stand_under_each_other():
    lines = table.text_table([SLOW, Row("a", 1, 1000.0, part="other")]).splitlines()
    assert [line for line in lines if line.endswith(":")] == ["publish:", "other:"]
    end = lines[0].index("seconds") + len("seconds")
    figures = [line[:end].split()[-1] for line in lines if line.startswith(("again", "a "))]
    assert figures == ["2.10", "1,000"]


def test_markdown_shows_a_missed_budget_and_survives_a_bar():
    text = table.markdown_table([SLOW, Row("a|b", 1, part="publish")])
    assert text.count("### publish") == 1
    assert "| **no** |" in text
    assert "a\\|b" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(table.HEAD) + 1}


def test_the_verdict_names_what_was_missed():
    assert table.verdict([FAST, Row("x", 1)]) == "All 1 budgets are met."
    assert table.verdict([FAST, SLOW]) == "1 of 2 budgets are missed: again, 1,000."
    assert table.verdict([]) == "No budget was measured."


def test_a_row_survives_json():
    for row in (FAST, SLOW, Row("x", 1)):
        assert Row.from_json(json.loads(json.dumps(dataclasses.asdict(row)))) == row


def test_each_row_is_kept_as_soon_as_it_is_there(tmp_path):
    said = []
    run = table.Run((1,), True, tmp_path, said.append, tmp_path / "result.json", part="publish")
    run.add(FAST)
    kept = json.loads((tmp_path / "result.json").read_text())
    assert [Row.from_json(row).part for row in kept["rows"]] == ["publish"]
    with run.optional("cobbler sync"):
        raise table.Skip("it is not here.")
    kept = json.loads((tmp_path / "result.json").read_text())
    assert len(kept["rows"]) == 1
    assert kept["notes"] == ["cobbler sync: not measured, it is not here."]
    assert said[-1] == kept["notes"][0]


@pytest.mark.parametrize("name", [name for name in table.PARTS if (BENCHMARK / f"{name}.py").is_file()])
def test_every_part_is_what_the_runner_expects(name):
    tree = ast.parse((BENCHMARK / f"{name}.py").read_text())
    assert ast.get_docstring(tree)
    functions = {node.name: len(node.args.args) for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert functions["measure"] == 1
    assert functions.get("prepare", 1) == 1
