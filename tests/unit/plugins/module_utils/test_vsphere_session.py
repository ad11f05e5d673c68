# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions without a server: faults and broken connections in words."""

from __future__ import annotations

import http.client
import ssl

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session

if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import MissingLibraryError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    Endpoint,
    ServiceUnavailableError,
    WrongCertificateError,
    connection_errors,
    describe_fault,
    fault_kinds,
)

ENDPOINT = Endpoint("vcenter.example.com", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


class TestFaults:
    def test_kinds(self) -> None:
        assert fault_kinds(vim.fault.PasswordExpired())[:2] == ["vim.fault.PasswordExpired", "vim.fault.InvalidLogin"]

    def test_description(self) -> None:
        fault = vmodl.fault.SystemError(msg="A general system error occurred: Busy.", reason="Busy.")
        assert describe_fault(fault) == "SystemError: A general system error occurred: Busy."
        assert describe_fault(vim.fault.HostConfigFault()) == "HostConfigFault."
        told = vim.fault.HostConfigFault(
            msg="Cannot.", faultMessage=[vmodl.LocalizableMessage(key="k", message="Disk.")]
        )
        assert describe_fault(told) == "HostConfigFault: Cannot. Disk."


class TestConnectionErrors:
    @pytest.mark.parametrize(
        "error",
        [ConnectionRefusedError(111, "Connection refused"), http.client.HTTPException("503 Not yet"), OSError()],
    )
    def test_a_broken_connection_is_worth_another_try(self, error: Exception) -> None:
        with (
            pytest.raises(
                ServiceUnavailableError, match=r"^The API at vcenter\.example\.com:443 does not answer \(.+\)"
            ),
            connection_errors(ENDPOINT),
        ):
            raise error

    def test_a_wrong_certificate_is_not(self) -> None:
        with pytest.raises(WrongCertificateError), connection_errors(ENDPOINT):
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")

    def test_faults_and_mistakes_pass(self) -> None:
        for error in (vim.fault.InvalidLogin(), KeyError("mistake")):
            with pytest.raises(type(error)), connection_errors(ENDPOINT):
                raise error


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vsphere_session, "PYVMOMI_IMPORT_ERROR", "Traceback ...")
    with pytest.raises(MissingLibraryError) as caught:
        _vsphere_session.Session(ENDPOINT)
    assert (caught.value.library, caught.value.trace) == ("pyvmomi", "Traceback ...")
