# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: whose host a published host is, where several inventories share a server.

Pure. An inventory may have a label. What it publishes carries that label, what carries another one is not its to touch,
and reconciling looks at its own hosts only. An inventory without a label asks nothing and leaves labels as they are.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = ("Owner", "owner_in")

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@ -]{0,62}[A-Za-z0-9])?")


def owner_in(record: t.Mapping[str, t.Any] | None) -> str:
    """The label in a host's record; empty: it has none."""
    value = record.get("owner") if record is not None else None
    return value if isinstance(value, str) else ""


@dataclasses.dataclass(frozen=True)
class Owner:
    """The inventory that a call is made for.

    :ivar label: its own; empty: it has none.
    :ivar take_over_from: a label whose hosts become this inventory's when they are published.
    """

    label: str = ""
    take_over_from: str = ""

    @classmethod
    def parse(cls, label: str | None, take_over_from: str | None) -> Owner:
        """From a module's options.

        :raises EsxiPxeError: a label is none.
        """
        for option, value in (("owner", label), ("take_over_from", take_over_from)):
            if value and not _LABEL.fullmatch(value):
                raise EsxiPxeError(
                    f"{option} is {value[:80]!r}: write a name of at most 64 letters, digits and . _ : / @ - or blanks "
                    "between them, such as berlin"
                )
        if take_over_from and not label:
            raise EsxiPxeError("take_over_from needs owner: write the label that those hosts are to get")
        return cls(label or "", take_over_from or "")

    def check(self, name: str, there: str) -> None:
        """Whether a host is this inventory's to touch.

        :arg there: the label that it has on the server.
        :raises EsxiPxeError: it is another inventory's.
        """
        if self.label and there not in ("", self.label, self.take_over_from):
            raise EsxiPxeError(
                f"{name} was published on this PXE server by the inventory {there}, and this one is {self.label}: "
                f"give one of the two another name, or say that this inventory takes it over (take_over_from: {there})."
            )

    def after(self, there: str) -> str:
        """The label that a published host has afterwards."""
        return self.label or there

    def of_record(self, there: str) -> dict[str, str]:
        """What its record has of it: nothing where there is no label."""
        label = self.after(there)
        return {"owner": label} if label else {}
