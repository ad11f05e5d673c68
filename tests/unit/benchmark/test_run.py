# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command behind `make bench`: parts that hang or die take nothing with them, and docs/ is written as a whole."""

from __future__ import annotations

import pathlib
import time

import pytest

from ansible_collections.pxemanager.esxi.tests.benchmark import run

ROW = "    run.add(Row('one', 1, 2.0, note=run.folder.name))\n"


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Make a part of the benchmark and run it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(run, "SCRATCH", str(tmp_path))

    def make_and_run(name, body, head="", quick=True):
        text = f"from table import Row, Skip\n{head}\ndef measure(run):\n{body}"
        (tmp_path / f"{name}.py").write_text(text)
        outcome = run.run_part(name, quick)
        assert list(tmp_path.glob("pxemanager-bench-*")) == [], "its folder is still there"
        return outcome

    return make_and_run


def test_a_part_gives_its_rows(part):
    outcome = part("bench_good", ROW + "    assert run.quick and run.sizes[-1] == 100\n    run.note('So it is.')\n")
    assert [(row.name, row.part, row.note) for row in outcome.rows] == [("one", "bench_good", "work")]
    assert outcome.notes == ["So it is."]


def test_a_part_that_dies_keeps_what_it_had(part):
    outcome = part("bench_dies", ROW + "    raise SystemExit(3)\n")
    assert len(outcome.rows) == 1
    assert outcome.notes == ["bench_dies: ended with 3, its table is not complete."]


def test_a_part_that_hangs_is_ended_with_its_children(part, tmp_path):
    child = (
        "    import subprocess, time\n"
        "    process = subprocess.Popen(['sleep', '600'])\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(process.pid))\n"
        "    time.sleep(600)\n"
    )
    begun = time.monotonic()
    outcome = part("bench_hangs", ROW + child, head="QUICK_LIMIT = 2")
    assert time.monotonic() - begun < 30
    assert len(outcome.rows) == 1
    assert "stopped after 2 seconds" in outcome.notes[0]
    pid = (tmp_path / "pid").read_text()
    status = pathlib.Path(f"/proc/{pid}/status")
    # (A zombie, where nobody of this machine collects orphans.)
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_part_that_cannot_be_measured_here_says_why(part):
    assert part("bench_skips", "    raise Skip('no such thing here.')\n").notes == [
        "bench_skips: not measured, no such thing here."
    ]
    outcome = part("bench_broken", ROW, head="import there_is_no_such_module")
    assert outcome.rows == []
    assert "not measured" in outcome.notes[0]


def test_a_part_for_root_is_left_out_without_root(part, monkeypatch):
    monkeypatch.setattr(run.os, "geteuid", lambda: 1000)
    assert part("bench_root", ROW, head="ROOT = True").notes == ["bench_root: not measured, it needs root."]


def test_the_page_gets_another_table_and_keeps_its_text():
    page = f"before\n{run.BEGIN}\n\nold\n\n{run.END}\nafter\n"
    new = run.rewrite(page, "new")
    assert new == f"before\n{run.BEGIN}\n\nnew\n\n{run.END}\nafter\n"
    assert run.rewrite(new, "new") == new
    with pytest.raises(ValueError, match="no place for the table"):
        run.rewrite("without markers", "new")


def test_the_real_page_has_a_place_for_the_table():
    assert "new" in run.rewrite(run.PAGE.read_text(), "new")


def test_the_machine_is_described():
    about = run.machine()
    assert "cores" in about["processor"]
    assert about["memory"].endswith("GiB")
    assert "Python" in about["versions"]
    document = {"machine": {**about, "load": "1 before"}, "notes": ["A note."]}
    block = run.page_block(document, [run.table.Row("one", 1, 2.0, part="publish")])
    assert f"- kernel: {about['kernel']}" in block
    assert block.endswith("- A note.")
