# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: XML from the network, read without what XML can do besides. Standard library only."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree
from xml.parsers import expat

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = ["XmlError", "parse_xml"]


class XmlError(EsxiPxeError):
    """A document that is no XML, or XML of a kind that no honest service sends."""


def parse_xml(document: bytes) -> ElementTree.Element:
    """The root element of a document; names are written ``{namespace}name``.

    A document type declaration is refused where it begins: entities that expand without end, and those that name files
    and addresses, cannot be declared without one, and SOAP forbids it anyway.
    Raises XmlError.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def start(tag: str, attributes: t.Mapping[str, str]) -> None:
        builder.start(_name(tag), {_name(name): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        builder.end(_name(tag))

    def refuse(*_unused: object) -> None:
        raise XmlError("The document declares a document type, which no SOAP message may do.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise XmlError(f"The document is no XML ({error}).") from error


def _name(text: str) -> str:
    return "{" + text if "}" in text else text
