# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for vCenter: their definitions, and what faults mean. The adding itself: tests/integration/vcenter."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere

if _vsphere.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_hosts import (
    HostToAdd,
    _Addition,
    _why_not_added,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import Place
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM, ESXI_SHA1

SOUND = {
    "name": "esx01.example.com",
    "password": "secret",
    "certificate": ESXI_PEM,
    "datacenter": "Berlin",
    "cluster": "Production",
}


def errors(**changes: t.Any) -> t.Sequence[str]:
    with pytest.raises(DefinitionError) as caught:
        HostToAdd.parse({**SOUND, **changes})
    return caught.value.errors


class TestParse:
    def test_defaults(self) -> None:
        host = HostToAdd.parse(SOUND)
        assert (host.address, host.port, host.username) == ("esx01.example.com", 443, "root")
        assert (host.cluster, host.folder, host.trust_on_first_use) == ("Production", None, False)

    def test_the_password_is_not_shown(self) -> None:
        assert "secret" not in repr(HostToAdd.parse(SOUND))

    def test_all_mistakes_at_once(self) -> None:
        found = errors(name="a b", password="", datacenter=None, folder="/", port=70000, certificate="x")
        assert len(found) == 7  # the address is the name

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"address": "not an address"}, "address 'not an address' is no host name or IP address."),
            ({"port": 0}, "port 0 is not between 1 and 65535."),
            ({"cluster": None}, "Exactly one of cluster and folder must be given"),
            ({"folder": "Edge"}, "Exactly one of cluster and folder must be given"),
            ({"certificate": "x"}, "certificate: The text is no PEM certificate"),
            ({"certificate": None}, "No certificate is given."),
            ({"certificate": ""}, "No certificate is given."),
            # a damaged certificate is a mistake, and not a reason to trust anybody
            ({"certificate": "x", "trust_on_first_use": True}, "certificate: The text is no PEM certificate"),
        ],
    )
    def test_mistakes(self, changes: dict[str, t.Any], sentence: str) -> None:
        (found,) = errors(**changes)
        assert found.startswith(sentence)

    def test_no_certificate_when_anybody_is_to_be_trusted(self) -> None:
        assert HostToAdd.parse({**SOUND, "certificate": None, "trust_on_first_use": True}).certificate is None


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            vim.fault.SSLVerifyFault(selfSigned=True, thumbprint="AA:BB"),
            "vCenter sees another certificate at esx01.example.com:443 (SHA-1 thumbprint AA:BB) than is seen from here "
            f"at esx01.example.com ({ESXI_SHA1}): check what esx01.example.com resolves to on vCenter.",
        ),
        (vim.fault.InvalidLogin(), "The host refuses the login of root with the given password: set the root password"),
        (
            vim.fault.AlreadyBeingManaged(ipAddress="192.0.2.9"),
            "The host is managed by another vCenter already (192.0.2.9): remove it there first.",
        ),
        (
            vim.fault.AlreadyConnected(name="192.0.2.21"),
            "This vCenter has that machine already, under the name 192.0.2.21: remove that entry, or use that name.",
        ),
        (
            vim.fault.DuplicateName(name="esx01.example.com"),
            "Another object in /Berlin/host/Production has the name esx01.example.com: rename it.",
        ),
        (vim.fault.NoHost(name="esx01.example.com"), "vCenter cannot reach esx01.example.com:443: check that vCenter"),
        (vim.fault.TooManyHosts(), "vCenter's edition or licence manages no more hosts than it has."),
        (
            vmodl.fault.NotEnoughLicenses(msg="None."),
            "vCenter has no licence left for this host: NotEnoughLicenses: None.",
        ),
        # a special kind of a kind that is known
        (vim.fault.LicenseExpired(licenseKey="X"), "vCenter has no licence left for this host: LicenseExpired."),
        (
            vim.fault.LicenseAssignmentFailed(reason="keyEntityMismatch"),
            "vCenter cannot give this host a licence: LicenseAssignmentFailed: keyEntityMismatch",
        ),
        (
            vim.fault.NoPermission(privilegeId="Host.Inventory.AddHostToCluster"),
            "The vCenter user lacks the privilege Host.Inventory.AddHostToCluster on /Berlin/host/Production.",
        ),
        (
            vim.fault.NotSupportedHost(msg="Too old.", productName="ESXi", productVersion="5.5"),
            "vCenter could not take the host in: NotSupportedHost: Too old.",
        ),
        (vim.fault.HostConnectFault(msg="Odd."), "vCenter could not take the host in: HostConnectFault: Odd."),
        (vmodl.fault.SystemError(msg="Odd."), "vCenter could not add the host: SystemError: Odd."),
    ],
    ids=lambda value: type(value).__name__.rpartition(".")[2] if isinstance(value, vmodl.MethodFault) else "",
)
def test_faults_in_words(fault: t.Any, sentence: str) -> None:
    addition = _Addition(HostToAdd.parse(SOUND), Place(None, "/Berlin/host/Production", True), ESXI_PEM)
    assert _why_not_added(fault, addition).startswith(sentence)


def test_a_vcenter_of_9_shows_the_certificate_instead_of_a_thumbprint() -> None:
    addition = _Addition(HostToAdd.parse(SOUND), Place(None, "/B/host/P", True), ESXI_PEM)
    silent = vim.fault.SSLVerifyFault(selfSigned=True, thumbprint="")
    assert "(SHA-1 thumbprint not told) than" in _why_not_added(silent, addition)
    if not hasattr(silent, "certificate"):
        pytest.skip("this pyVmomi is older than vCenter 9.0")
    silent.certificate = ESXI_PEM
    # the one that it was told: what it does not like is the thumbprint
    assert "and for that pyVmomi 9.0 or newer" in _why_not_added(silent, addition)


def test_a_vcenter_of_9_that_an_old_pyvmomi_told_a_thumbprint() -> None:
    addition = _Addition(HostToAdd.parse(SOUND), Place(None, "/B/host/P", True), ESXI_PEM)
    fault = vim.fault.SSLVerifyFault(selfSigned=True, thumbprint=ESXI_SHA1)
    assert "vCenter sees the right certificate" in _why_not_added(fault, addition)
