# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the Lookup Service, where the vCenters of a linked-mode group are registered.

It runs on every vCenter, answers without a login, and replicates within the group: each member lists all of them.
pyVmomi has no types for it, so this is plain SOAP.
"""

from __future__ import annotations

import http.client
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from ansible_collections.pxemanager.esxi.plugins.module_utils._safe_xml import XmlError, parse_xml
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    ServiceUnavailableError,
    VsphereError,
    connection_errors,
    is_host_name,
)

__all__ = ["PATH", "LookupServiceError", "Registration", "registered_vcenters"]

PATH = "/lookupservice/sdk"
_LOOKUP = "{urn:lookup}"
_SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
_LARGEST_ANSWER = 8 << 20
# Key of the attribute in which a vCenter registers the name that its administrator gave it.
_INSTANCE_NAME = "com.vmware.vim.vcenter.instanceName"


class LookupServiceError(VsphereError):
    """The Lookup Service says something else than which vCenters there are."""


@dataclass(frozen=True)
class Registration:
    """One vCenter as the Lookup Service lists it.

    service_id: the vCenter's instance UUID. host, port: of its API; ``problem`` says why they cannot be used, if so.
    """

    service_id: str
    name: str
    host: str
    port: int
    problem: t.Optional[str] = None


def registered_vcenters(endpoint: Endpoint) -> t.Optional[list[Registration]]:
    """The vCenters that the Lookup Service of the vCenter at ``endpoint`` lists; None when it has no Lookup Service.

    Raises VsphereError: ServiceUnavailableError, WrongCertificateError, LookupServiceError.
    """
    content = _ask(
        endpoint,
        '<RetrieveServiceContent xmlns="urn:lookup"><_this type="LookupServiceInstance">ServiceInstance</_this>'
        "</RetrieveServiceContent>",
    )
    if content is None:
        return None
    registry = content.find(f".//{_LOOKUP}returnval/{_LOOKUP}serviceRegistration")
    if registry is None or not registry.text:
        raise LookupServiceError(f"The Lookup Service of {endpoint} has no registry of services.")
    answer = _ask(
        endpoint,
        f'<List xmlns="urn:lookup"><_this type={quoteattr(registry.get("type") or "LookupServiceRegistration")}>'
        f"{escape(registry.text)}</_this><filterCriteria>"
        "<serviceType><product>com.vmware.cis</product><type>vcenterserver</type></serviceType>"
        "<endpointType><protocol>vmomi</protocol><type>com.vmware.vim</type></endpointType>"
        "</filterCriteria></List>",
    )
    if answer is None:
        raise ServiceUnavailableError(f"The Lookup Service of {endpoint} went away while it was asked.")
    return _read_list(answer)


def _read_list(answer: ElementTree.Element) -> list[Registration]:
    found: dict[tuple[str, str, int], Registration] = {}
    for info in answer.iter(f"{_LOOKUP}returnval"):
        # Whether a filter is kept to is not taken for granted: what follows sends a password there.
        if info.findtext(f"{_LOOKUP}serviceType/{_LOOKUP}type") != "vcenterserver":
            continue
        service_id = (info.findtext(f"{_LOOKUP}serviceId") or "").strip()
        attributes = {
            attribute.findtext(f"{_LOOKUP}key"): attribute.findtext(f"{_LOOKUP}value") or ""
            for attribute in info.findall(f"{_LOOKUP}serviceAttributes")
        }
        url = next(
            (
                (service.findtext(f"{_LOOKUP}url") or "").strip()
                for service in info.findall(f"{_LOOKUP}serviceEndpoints")
                if service.findtext(f"{_LOOKUP}endpointType/{_LOOKUP}type") == "com.vmware.vim"
            ),
            "",
        )
        host, port, problem = _address(url)
        name = _printable(attributes.get(_INSTANCE_NAME) or "")
        one = Registration(service_id=_printable(service_id), name=name, host=host, port=port, problem=problem)
        found.setdefault((service_id.lower() if problem else "", host, port), one)
    return list(found.values())


def _address(url: str) -> tuple[str, int, t.Optional[str]]:
    """Host and port of a vCenter's API, and what is wrong with the URL."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or 443
    except ValueError:
        return "", 0, f"The Lookup Service gives it the unusable address {_printable(url)!r}."
    if not is_host_name(host):
        return "", 0, f"The Lookup Service gives it the unusable address {_printable(url)!r}."
    if parts.scheme != "https":
        return host, port, f"The Lookup Service gives it the address {_printable(url)}, which is not encrypted."
    return host, port, None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:200])


def _ask(endpoint: Endpoint, content: str) -> t.Optional[ElementTree.Element]:
    """The body of the answer to one call; None when nothing is there that could answer."""
    message = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<soapenv:Body>{content}</soapenv:Body></soapenv:Envelope>"
    )
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": "urn:lookup/2.0"}
    with connection_errors(endpoint):
        if endpoint.proxy_host:
            connection = http.client.HTTPSConnection(
                endpoint.proxy_host, endpoint.proxy_port or 80, timeout=endpoint.timeout, context=endpoint.context
            )
            connection.set_tunnel(endpoint.host, endpoint.port)
        else:
            connection = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=endpoint.timeout, context=endpoint.context
            )
        try:
            connection.request("POST", PATH, message.encode(), headers)
            response = connection.getresponse()
            status, document = response.status, response.read(_LARGEST_ANSWER + 1)
        finally:
            connection.close()
    if status == 404:
        return None
    if status in (502, 503, 504):
        raise ServiceUnavailableError(f"The Lookup Service of {endpoint} is not up (HTTP {status}).")
    if status not in (200, 500) or len(document) > _LARGEST_ANSWER:
        raise LookupServiceError(f"What answers at {endpoint}{PATH} is no Lookup Service (HTTP {status}).")
    try:
        body = parse_xml(document).find(f"{_SOAP}Body")
    except XmlError as error:
        raise LookupServiceError(f"The answer of the Lookup Service of {endpoint} cannot be read: {error}") from error
    if body is None:
        raise LookupServiceError(f"What answers at {endpoint}{PATH} is no Lookup Service.")
    fault = body.find(f"{_SOAP}Fault")
    if fault is not None or status != 200:
        said = _printable((fault.findtext("faultstring") if fault is not None else None) or "no reason given")
        raise LookupServiceError(f"The Lookup Service of {endpoint} refuses to list the vCenters: {said}.")
    return body
