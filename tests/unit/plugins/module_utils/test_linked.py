# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Linked vCenters without a server: which registration is whose, and what of a list is not believed."""

from __future__ import annotations

import ssl

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from ansible_collections.pxemanager.esxi.plugins.module_utils._linked import entry_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._lookup_service import Registration, _read_list
from ansible_collections.pxemanager.esxi.plugins.module_utils._safe_xml import parse_xml
from pxelab import soap
from pxelab.vcenter_lookup import Registered

ENTRY = _vsphere.Endpoint("VC1.example.com", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def registration(host: str, service_id: str, port: int = 443) -> Registration:
    return Registration(service_id, "", host, port)


def read(*registered: Registered) -> list[Registration]:
    document = soap.envelope(
        f'<ListResponse xmlns="urn:lookup">{"".join(one.xml() for one in registered)}</ListResponse>'
    )
    return _read_list(parse_xml(document))


def test_the_vcenter_that_was_asked_is_found_by_its_address_first() -> None:
    by_name, clone = registration("vc1.example.com", "u1"), registration("vc2.example.com", "u1")
    assert entry_of([clone, by_name], ENTRY, "u1") is by_name
    assert entry_of([registration("vc1.example.com", "u1", 8443), by_name], ENTRY, "u2") is by_name


def test_or_else_by_its_uuid_if_it_is_the_only_one() -> None:
    alias = registration("vc1.internal", "U1")
    assert entry_of([alias, registration("vc2.internal", "u2")], ENTRY, "u1") is alias
    assert entry_of([alias, registration("vc2.internal", "u1")], ENTRY, "u1") is None
    assert entry_of([registration("vc2.internal", "")], ENTRY, "") is None
    assert entry_of([], ENTRY, "u1") is None


def test_a_vcenter_that_is_listed_twice_is_one() -> None:
    one = Registered("https://vc1.example.com:443/sdk", "one", "u1")
    assert [(found.host, found.port, found.name) for found in read(one, one)] == [("vc1.example.com", 443, "one")]


def test_a_service_of_another_kind_gets_no_password() -> None:
    assert read(Registered("https://evil.example.com/sdk", kind="sso:sts")) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https:///sdk",
        "https://a b/sdk",
        "https://[::1/sdk",
        "https://vc1.example.com:no/sdk",
        "https://vc1.example.com:70000/sdk",
        "https://-x/sdk",
        "ftp",
    ],
)
def test_an_address_that_cannot_be_is_a_vcenter_that_is_not_known(url: str) -> None:
    (found,) = read(Registered(url, "one", "u1"))
    assert found.problem is not None and "unusable address" in found.problem and found.name == "one"


def test_a_login_is_never_sent_in_the_clear() -> None:
    (found,) = read(Registered("http://vc1.example.com/sdk", "one", "u1"))
    assert found.problem is not None and "not encrypted" in found.problem


def test_what_is_shown_is_printable() -> None:
    (found,) = read(Registered("https://vc1.example.com/sdk", "a\u202eb\nc" + "x" * 500, "u1"))
    assert found.name.isprintable() and len(found.name) == 200
