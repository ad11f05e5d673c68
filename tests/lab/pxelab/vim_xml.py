# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a stand-in vCenter whose values are pyVmomi's own objects, in the XML that pyVmomi makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from pyVmomi import SoapAdapter, vmodl
from pyVmomi.VmomiSupport import Object

from . import soap

_VERSION = "vim.version.v8_0_0_0"


def serialize(name: str, value: Any, kind: Any) -> str:
    """An element in pyVmomi's own XML."""
    info = Object(name=name, type=kind, flags=0, version="vim.version.version1")
    text = str(SoapAdapter.SerializeToStr(value, info, version=_VERSION))
    return re.sub(r' versionId="[^"]*"', "", text)


def returned(call: soap.Call, value: Any) -> soap.Answer:
    """The answer of a call that returns a value, or nothing."""
    inner = "" if value is None else serialize("returnval", value, type(value))
    return soap.Answer(200, soap.envelope(f'<{call.method}Response xmlns="urn:vim25">{inner}</{call.method}Response>'))


def fault_answer(fault: Any) -> soap.Answer:
    """A call that fails with a fault."""
    inside = re.search(
        r'<fault xsi:type="(\w+)"[^>]*?(?:/>|>(.*)</fault>)', serialize("e", fault, vmodl.MethodFault), re.DOTALL
    )
    assert inside is not None
    kind, fields = inside[1], inside[2] or ""
    return soap.Answer(
        500,
        soap.envelope(
            "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
            f"<faultstring>{escape(fault.msg or '')}</faultstring><detail>"
            f'<{kind}Fault xmlns="urn:vim25" xsi:type="{kind}">{fields}</{kind}Fault></detail></soapenv:Fault>'
        ),
    )


def contents(call: soap.Call, objects: Iterable[tuple[Any, Mapping[str, Any]]]) -> soap.Answer:
    """The answer of a call for properties."""
    collector = vmodl.query.PropertyCollector
    found = [
        collector.ObjectContent(
            obj=ref, propSet=[vmodl.DynamicProperty(name=name, val=value) for name, value in properties.items()]
        )
        for ref, properties in objects
    ]
    if call.method == "RetrieveProperties":
        return returned(call, collector.ObjectContent.Array(found))
    return returned(call, collector.RetrieveResult(objects=found))
