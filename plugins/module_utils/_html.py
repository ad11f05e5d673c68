# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: HTML that cannot be broken by what is put into it.

Elements are made by :func:`el` alone. Whatever is not :class:`Markup` already is text, and is escaped: forgetting to is
not possible, since nothing else makes Markup.
"""

from __future__ import annotations

import html
import typing as t

__all__ = ("Child", "Markup", "document", "el", "join")


class Markup(str):
    """HTML that was made here."""

    __slots__ = ()


Child = t.Union[str, Markup, None, t.Iterable[t.Union[str, Markup, None]]]

_VOID = frozenset(("input", "link", "meta", "wbr"))


def el(tag: str, *children: Child, **attributes: t.Union[str, int, float, bool, None]) -> Markup:
    """An element.

    :arg attributes: a trailing underscore is dropped and others become hyphens (`class_`, `aria_label`). None and False
        leave an attribute out, True gives it no value.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(f" {name}" if value is True else f' {name}="{html.escape(str(value))}"')
    parts.append(">")
    if tag in _VOID:
        return Markup("".join(parts))
    parts.append(join(*children))
    parts.append(f"</{tag}>")
    return Markup("".join(parts))


def join(*children: Child) -> Markup:
    """Children one after the other, without an element around them."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(html.escape(child, quote=False))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def document(title: str, head: Child, body: Markup) -> str:
    """A whole page."""
    return "<!DOCTYPE html>\n" + el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", title),
            head,
        ),
        body,
        lang="en",
    )
