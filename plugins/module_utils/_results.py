# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: one result for each host of a bulk call.

Every module takes a list of hosts. One bad host neither stops nor hides the others, so a module collects an outcome
for each name here and turns them into its return value at the end.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import together

__all__ = ("ON_HOST_FAILURE", "Results")

ON_HOST_FAILURE = ("fail", "report")
"""Choices of the modules' option `on_host_failure`."""


# What it is of, before, after.
_Diff = tuple[str, str, str]


class Results:
    """Outcomes by host name, in the order in which they were reported."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, t.Any]] = {}
        self.diffs: list[dict[str, t.Any]] = []
        self._host_diffs: dict[str, tuple[str, t.Callable[[], t.Iterable[_Diff]]]] = {}
        self.shared_changed = False
        """Whether something was changed that belongs to no single host."""

    def ok(self, name: str, *, changed: bool, msg: str, **extra: t.Any) -> None:
        """Report that a host is as it was asked for.

        :arg msg: one sentence for people.
        :arg extra: further return values of this host, of JSON types.

        A host that has failed before stays failed: a later stage of the same call cannot make it good.
        """
        if self.failed(name):
            return
        self.hosts[name] = dict(extra, changed=changed, failed=False, msg=msg)

    def fail(self, name: str, reason: str | t.Sequence[str], *, changed: bool = False, **extra: t.Any) -> None:
        """Report that a host could not be done.

        :arg reason: one sentence, or several that all hold; each says what to do about it.
        :arg changed: whether something was changed on disk for this host before it failed.

        Failing a host again adds the new reasons to the old ones.
        """
        reasons = [reason] if isinstance(reason, str) else list(reason)
        old = self.hosts.get(name)
        if old is not None and old["failed"]:
            reasons = list(old["reasons"]) + [text for text in reasons if text not in old["reasons"]]
        changed = changed or bool(old is not None and old["changed"])
        self.hosts[name] = dict(extra, changed=changed, failed=True, msg=" ".join(reasons), reasons=reasons)

    def failed(self, name: str) -> bool:
        """Whether a host has been reported as failed."""
        return bool(name in self.hosts and self.hosts[name]["failed"])

    def diff(self, name: str, before: str, after: str) -> None:
        """Add a difference in the form that Ansible's `--diff` prints; equal texts are left out."""
        if before != after:
            self.diffs.append(_as_diff(name, before, after))

    def diff_of_host(self, name: str, brief: str, full: t.Callable[[], t.Iterable[_Diff]]) -> None:
        """Add what is different of one host: in a few words for many hosts, in full for few.

        :arg full: gives header, before and after of each difference; called only when these are wanted.
        """
        self._host_diffs[name] = (brief, full)

    @property
    def failed_hosts(self) -> list[str]:
        """Names of the failed hosts, sorted."""
        return sorted(name for name, result in self.hosts.items() if result["failed"])

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return self.shared_changed or any(result["changed"] for result in self.hosts.values())

    def summary(self) -> str:
        """One line about the whole call; it names every failed host and why it failed."""
        failed = self.failed_hosts
        if not failed:
            changed = sum(1 for result in self.hosts.values() if result["changed"])
            return f"{len(self.hosts)} hosts, {changed} changed."
        # (Many a sentence begins with the host's name already.)
        reasons = " | ".join(f"{name}: {self.hosts[name]['msg'].removeprefix(f'{name}: ')}" for name in failed)
        return f"{len(failed)} of {len(self.hosts)} hosts failed: {reasons}"

    def as_return(self, on_host_failure: str = "fail", diff_limit: int = 0) -> dict[str, t.Any]:
        """The return value of a module: `changed`, `failed`, `msg`, `hosts`, `failed_hosts` and, if any, `diff`.

        :arg on_host_failure: `fail` makes the task fail when a host has failed; `report` leaves that to the caller.
        :arg diff_limit: with more different hosts than this, no contents are shown; 0: however many there are.
        """
        if on_host_failure not in ON_HOST_FAILURE:
            raise ValueError(f"on_host_failure must be one of {', '.join(ON_HOST_FAILURE)}, not {on_host_failure!r}")
        failed = self.failed_hosts
        value: dict[str, t.Any] = {
            "changed": self.changed,
            "failed": bool(failed) and on_host_failure == "fail",
            "msg": self.summary(),
            "hosts": self.hosts,
            "failed_hosts": failed,
        }
        diffs = list(self.diffs)
        if 0 < diff_limit < len(self._host_diffs):
            diffs.append({"prepared": together({name: brief for name, (brief, _full) in self._host_diffs.items()})})
        else:
            for _brief, full in self._host_diffs.values():
                for header, before, after in full():
                    if before != after:
                        diffs.append(_as_diff(header, before, after))
        if diffs:
            value["diff"] = diffs
        return value


def _as_diff(name: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": name, "after_header": name, "before": before, "after": after}
