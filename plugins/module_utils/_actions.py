# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions, what is done on a host's first boot.

A typed action becomes shell text whose every value went through an allow-list and is quoted as one shell word besides.
docs/post-actions.md is the catalogue.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._action_network import NETWORK
from ansible_collections.pxemanager.esxi.plugins.module_utils._action_software import SOFTWARE
from ansible_collections.pxemanager.esxi.plugins.module_utils._action_system import SYSTEM
from ansible_collections.pxemanager.esxi.plugins.module_utils._action_text import (
    NAME,
    DepotUse,
    Kind,
    Reboot,
    Work,
    action_name,
    scalar,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    integer,
    script,
    show,
)

__all__ = ["ACTION_TYPES", "Action", "DepotUse", "kind_of", "parse_action", "parse_actions", "with_firstboot_script"]


@dataclasses.dataclass(frozen=True)
class Action:
    """One post action. ``script`` is shell text that ends in a newline, ``timeout`` is seconds.

    With ``ignore_errors`` its exit code is recorded, and the install counts as good all the same. With
    ``after_upgrade`` it is done after an upgrade as well, not after an install only.

    :ivar reboot: whether the host restarts after it: V(no), V(yes) once it has succeeded, V(auto) when it asks for it.
    :ivar retry: whether it is run again when it was interrupted; otherwise it counts as failed.
    :ivar depots: what it takes from depots of its PXE server.
    """

    kind: str
    name: str
    script: str
    ignore_errors: bool
    timeout: int
    after_upgrade: bool = False
    reboot: Reboot = "no"
    retry: bool = False
    depots: tuple[DepotUse, ...] = ()

    def shell(self) -> str:
        """The shell text that does it; the first command that fails ends a typed action."""
        return self.script


_TYPED: dict[str, Kind] = {**NETWORK, **SOFTWARE, **SYSTEM}
ACTION_TYPES: tuple[str, ...] = ("shell", *sorted(_TYPED))


def kind_of(name: str) -> t.Optional[Kind]:
    """What is known of a type of action; None for shell, of which nothing is."""
    return _TYPED.get(name)


def _reboot(value: object) -> Reboot:
    if value == "auto":
        return "auto"
    try:
        return "yes" if boolean(value) else "no"
    except Wrong:
        raise Wrong(f"is {show(value)}; write true, false or auto") from None


def parse_action(value: object, owner: Fields, path: str) -> t.Optional[Action]:
    """One post action; None after a mistake, which is noted in ``owner``."""
    before = len(owner.errors)
    fields = Fields(value, owner.label, f"{path}.", owner.errors)
    kinds = [kind for kind in ACTION_TYPES if fields.has(kind)]
    name = fields.get("name", action_name, None)
    ignore_errors = fields.get("ignore_errors", boolean, False)
    timeout = fields.get("timeout", integer(1, 86400), None)
    reboot = fields.get("reboot", _reboot, None)
    retry = fields.get("retry", boolean, None)
    after_upgrade = fields.get("after_upgrade", boolean, False)
    fields.finish()
    if len(owner.errors) > before:
        return None
    if len(kinds) != 1:
        what = f"has {' and '.join(kinds)}" if kinds else "has no type"
        owner.wrong(path, f"{what}; write exactly one of {', '.join(ACTION_TYPES)}")
        return None
    kind = kinds[0]
    known = _TYPED.get(kind)
    if known is None:
        work = Work([])
        text = scalar(fields.raw(kind), script, owner, f"{path}.shell") or ""
    else:
        made = known.parse(fields.raw(kind), owner, f"{path}.{kind}")
        work = made if isinstance(made, Work) else Work(made)
        text = "\n".join(["set -e", *work.lines]) + "\n"
    if len(owner.errors) > before:
        return None
    return Action(
        kind=kind,
        name=name or _default_name(kind, fields.raw(kind)),
        script=text,
        ignore_errors=ignore_errors,
        # Patches of a whole system take their time.
        timeout=timeout or (3600 if kind in SOFTWARE else 900),
        reboot=reboot or (known.reboot if known is not None else "no"),
        # Of what a script does nothing is known; a typed action brings about a state, and may do so twice.
        retry=retry if retry is not None else known is not None,
        depots=work.depots,
        after_upgrade=after_upgrade,
    )


def _default_name(kind: str, value: object) -> str:
    """``vswitch vSwitch1``: enough to tell which of several it was. Never a licence key."""
    if not isinstance(value, t.Mapping):
        return kind
    for key in ("name", "interface", "option", "ruleset", "network", "profile", "module"):
        main = value.get(key)
        if isinstance(main, str) and re.match(NAME + r"\Z", main.lstrip("/")):
            return f"{kind} {main.lstrip('/')}"[:100]
    return kind


def parse_actions(value: object, owner: Fields) -> tuple[Action, ...]:
    """All post actions, in order; names that would be alike get a number."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        owner.wrong("post_actions", "is no list; write a list of mappings such as - ssh: enabled")
        return ()
    if len(value) > 200:
        owner.wrong("post_actions", f"has {len(value)} items; write at most 200")
        return ()
    actions: list[Action] = []
    taken: set[str] = set()
    for position, item in enumerate(value):
        action = parse_action(item, owner, f"post_actions[{position}]")
        if action is None:
            continue
        names = itertools.chain((action.name,), (f"{action.name} #{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        actions.append(dataclasses.replace(action, name=name))
    return tuple(actions)


def with_firstboot_script(actions: t.Sequence[Action], own: t.Optional[str]) -> tuple[Action, ...]:
    """The post actions, and the kickstart's own first boot script, if there is one, as the last of them."""
    if own is None:
        return tuple(actions)
    last = Action(kind="shell", name="firstboot script", script=own, ignore_errors=False, timeout=86400)
    return (*actions, last)
