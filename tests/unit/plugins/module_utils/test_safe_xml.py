# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XML from the network: what honest services send is read, what attacks a parser is refused."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._safe_xml import XmlError, parse_xml

SOAP = b"""<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>
<ListResponse xmlns="urn:lookup" kind="a&amp;b"><returnval>one</returnval> <returnval/>two &lt; three</ListResponse>
</e:Body></e:Envelope>"""


def test_a_document_is_read_as_the_standard_library_reads_it() -> None:
    assert ElementTree.tostring(parse_xml(SOAP)) == ElementTree.tostring(ElementTree.fromstring(SOAP))


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;&x;">]><a>&z;</a>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://192.0.2.1/x.dtd"><a/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"),
    ],
)
def test_a_document_type_is_refused(document: bytes) -> None:
    with pytest.raises(XmlError, match="document type"):
        parse_xml(document)


@pytest.mark.parametrize(
    "document", [b"", b"<a>", b"<a></b>", b"{}", b"<a>&nope;</a>", b"\x00", b"<a xmlns:b=''/>", b"<a/><b/>"]
)
def test_what_is_no_xml_is_an_error_of_ours(document: bytes) -> None:
    with pytest.raises(XmlError, match="is no XML"):
        parse_xml(document)
