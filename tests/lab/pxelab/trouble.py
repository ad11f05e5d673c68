# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the lab's vCenter, and trouble on demand: faults, delays, lost connections and 503s, by method and count.

The rules are a JSON list in a file, read anew when it changes (which sets the counts back). A rule has ``method``, and
may have ``contains`` (a text that the request must contain), ``skip`` (so many matching calls are let pass first) and
``count`` (after so many it is over). What it does is one of

- ``fault``: ``{"kind": "NoPermission", "message": "...", "fields": {"privilegeId": "..."}}``, at once;
- ``task_fault``: the same, as the end of a task that fails after ``seconds``;
- ``delay``: so many seconds before the call is carried out;
- ``task_delay``: the call is carried out, but its task goes on for so many seconds;
- ``status``: this HTTP status and nothing else, such as 503;
- ``drop``: ``before``, the connection is cut and nothing is done; ``after``, it is done and the answer is lost.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from . import soap


@dataclass(frozen=True)
class Trouble:
    """A fault of the vSphere API: ``kind`` such as ``InvalidLogin``, ``fields`` its own properties."""

    kind: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, said: dict[str, Any]) -> Trouble:
        """From a rule."""
        return cls(said["kind"], said.get("message", ""), tuple(said.get("fields", {}).items()))

    def xml(self) -> str:
        """As the ``error`` of a task."""
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.fields)
        return (
            f"<fault xsi:type={quoteattr(self.kind)}>{inner}</fault>"
            f"<localizedMessage>{escape(self.message)}</localizedMessage>"
        )

    def answer(self) -> soap.Answer:
        """As the answer of a call that is no task."""
        return soap.fault(self.kind, self.message, self.fields)


class Rules:
    """The rules of a file; without a file there are none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = 0
        self._rules: list[dict[str, Any]] = []
        self._seen: list[int] = []

    def rule_for(self, call: soap.Call) -> dict[str, Any] | None:
        """The first rule that applies to a call now; it counts as applied."""
        if self._path is None:
            return None
        with self._lock:
            self._read(self._path)
            for number, rule in enumerate(self._rules):
                if rule["method"] != call.method or rule.get("contains", "").encode() not in call.body:
                    continue
                self._seen[number] += 1
                over = self._seen[number] - rule.get("skip", 0)
                if over > 0 and (rule.get("count") is None or over <= rule["count"]):
                    return rule
        return None

    def _read(self, path: Path) -> None:
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            self._rules, self._seen, self._stamp = [], [], 0
            return
        if stamp != self._stamp:
            self._rules = json.loads(path.read_text(encoding="utf-8"))
            self._seen = [0] * len(self._rules)
            self._stamp = stamp


def plain_answer(rule: dict[str, Any], call: soap.Call) -> soap.Answer | None:
    """What a rule answers that needs no task; ``None`` when the call is to go on (after a delay, perhaps)."""
    if "delay" in rule:
        time.sleep(rule["delay"])
        return None
    if "status" in rule:
        return soap.Answer(rule["status"], b"", ())
    if "fault" in rule:
        return Trouble.of(rule["fault"]).answer()
    return None


def cut(rule: dict[str, Any], call: soap.Call) -> None:
    """Raise what ends the connection, where a rule says so."""
    if "drop" in rule:
        if rule["drop"] == "after":
            call.forward(call.body)
        raise ConnectionAbortedError("cut, as a rule says")
