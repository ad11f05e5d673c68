# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: whether what post actions take from depots of the PXE server is there.

Asked before a host is published, because on its first boot nobody could mend it.
"""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import read_json

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import DepotUse
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host

__all__ = ["DepotCheck"]

_FEW = 10


class DepotCheck:
    """The depots of one PXE server, each read once.

    :arg state_root: where the server's state is; the description of a depot is C(depots/NAME.json) in it.
    """

    def __init__(self, state_root: str) -> None:
        self._folder = pathlib.Path(state_root) / "depots"
        self._known: dict[str, t.Optional[dict[str, t.Any]]] = {}

    def problems(self, host: Host) -> list[str]:
        """A sentence for everything that a host's post actions want and would not find; [] when all is there."""
        return [
            f"{host.name}: the post action {action.name} {problem}"
            for action in host.post_actions
            for use in action.depots
            if (problem := self._problem(use)) is not None
        ]

    def _problem(self, use: DepotUse) -> t.Optional[str]:
        try:
            depot = self._describe(use.name)
        except EsxiPxeError as error:
            return f"takes its software from the depot {use.name}, whose description cannot be read: {error}"
        if depot is None:
            return (
                f"takes its software from the depot {use.name}, which this PXE server does not have{self._others()}; "
                "import it with esxi_depot, or correct the name."
            )
        vibs = [vib for vib in depot.get("vibs", []) if isinstance(vib, dict)]
        if use.file is not None:
            return _missing(use, "VIB file", [use.file], [str(vib.get("file")) for vib in vibs])
        if depot.get("kind") == "vib":
            name = next((str(vib.get("file")) for vib in vibs), "NAME.vib")
            return (
                f"takes a whole depot from {use.name}, which is a single VIB; write vib with depot: {use.name} and "
                f"file: {name}."
            )
        if use.profile is not None:
            profiles = [str(profile) for profile in depot.get("profiles", [])]
            return _missing(use, "image profile", [use.profile], profiles)
        return _missing(use, "VIB", use.vibs, [str(vib.get("name")) for vib in vibs])

    def _describe(self, name: str) -> t.Optional[dict[str, t.Any]]:
        if name not in self._known:
            self._known[name] = read_json(self._folder / f"{name}.json")
        return self._known[name]

    def _others(self) -> str:
        names = sorted(path.stem for path in self._folder.glob("[!.]*.json")) if self._folder.is_dir() else []
        return f" (it has {_few(names)})" if names else " (it has none)"


def _missing(use: DepotUse, what: str, wanted: t.Sequence[str], there: t.Sequence[str]) -> t.Optional[str]:
    missing = [name for name in wanted if name not in there]
    if not missing:
        return None
    have = _few(there) or "none"
    return f"wants the {what} {missing[0]} of the depot {use.name}, which has {have}; correct the name."


def _few(names: t.Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")
