# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vCenter's faults mean: each sentence names the host and what to do next."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _vsphere_session

if _vsphere_session.PYVMOMI_IMPORT_ERROR is not None:
    pytest.skip("pyVmomi cannot be used here", allow_module_level=True)

from pyVmomi import vim, vmodl

from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_definition import HostToAdd
from ansible_collections.pxemanager.esxi.plugins.module_utils._vcenter_faults import (
    Attempt,
    explain,
    is_worth_retrying,
    says_already_there,
)
from ansible_collections.pxemanager.esxi.tests.support.certificates import ESXI_PEM, ESXI_SHA1

NAME = "esx01.example.com"
HOST = HostToAdd.parse(
    {
        "name": NAME,
        "address": "192.0.2.21",
        "password": "secret",
        "certificate": ESXI_PEM,
        "datacenter": "Berlin",
        "cluster": "Production",
    }
)


def attempt(step: str = "add") -> Attempt:
    return Attempt(HOST, step, "/Berlin/host/Production", ESXI_PEM)


@pytest.mark.parametrize(
    ("fault", "meaning", "next_step"),
    [
        (
            vim.fault.SSLVerifyFault(selfSigned=True, thumbprint="AA:BB"),
            f"(SHA-1 thumbprint AA:BB) than is seen from here at 192.0.2.21 ({ESXI_SHA1})",
            f"check what {NAME} resolves to on vCenter",
        ),
        (vim.fault.InvalidLogin(), "refuses the login of root", "set the root password first"),
        (vim.fault.PasswordExpired(), "has expired", "set a new one at the host"),
        (
            vim.fault.AlreadyBeingManaged(ipAddress="192.0.2.9"),
            "managed by another vCenter already (192.0.2.9)",
            "remove it there first",
        ),
        (vim.fault.AlreadyConnected(name="192.0.2.21"), "under the name 192.0.2.21", "remove that entry"),
        (vim.fault.DuplicateName(name=NAME), "Another object in /Berlin/host/Production", "rename it"),
        (vim.fault.NoHost(name=NAME), f"vCenter cannot reach {NAME}:443", "check that vCenter resolves the name"),
        (vim.fault.TooManyHosts(), "takes no more hosts", "Give vCenter a bigger licence"),
        (vmodl.fault.NotEnoughLicenses(msg="None."), "no licence left", "add capacity"),
        (vim.fault.LicenseExpired(licenseKey="X"), "has expired", "assign one that is valid"),
        (vim.fault.LicenseRestricted(), "are restricted", "check vCenter's own licence"),
        (
            vim.fault.LicenseAssignmentFailed(reason="keyEntityMismatch"),
            "keyEntityMismatch",
            "check that the key is one for ESXi hosts",
        ),
        (
            vim.fault.LicenseEntityNotFound(entityId="x"),
            "does not have the licence",
            "add the key to vCenter's licences",
        ),
        (vim.fault.InvalidLicense(licenseContent="x"), "does not fit", "check the key"),
        (
            vim.fault.NoPermission(privilegeId="Host.Inventory.AddHostToCluster"),
            "lacks the privilege Host.Inventory.AddHostToCluster on /Berlin/host/Production",
            "give it to the user's role there",
        ),
        (
            vim.fault.NotSupportedHost(msg="Too old.", productName="ESXi", productVersion="5.5"),
            "does not support the ESXi version of",
            "update vCenter first",
        ),
        (
            vim.fault.AgentInstallFailed(reason="AgentUploadFailed", statusCode=1),
            "could not install its agent",
            "check that the host has free space",
        ),
        (vim.fault.HostConnectFault(msg="Odd."), "HostConnectFault: Odd.", "look at the host's events"),
        (vim.fault.TaskInProgress(), "busy", "wait until that has ended"),
        (vim.fault.Timedout(), "gave up waiting", "check the network"),
        (vim.fault.InvalidState(), "in the state that it is in", "look at its connection and maintenance mode"),
        (vmodl.fault.HostNotConnected(), "vCenter lost", "check that the host is up"),
        (vmodl.fault.ManagedObjectNotFound(), "was removed from vCenter in the meantime", "run again"),
        (vmodl.fault.NotSupported(), "does not support to add", "check that the place is for hosts"),
        (vmodl.fault.SystemError(msg="Odd."), "SystemError: Odd.", "look at its recent tasks and events"),
    ],
    ids=lambda value: type(value).__name__.rpartition(".")[2] if isinstance(value, vmodl.MethodFault) else "",
)
def test_faults_in_words(fault: t.Any, meaning: str, next_step: str) -> None:
    sentence = explain(fault, attempt())
    assert NAME in sentence and meaning in sentence and next_step in sentence
    assert sentence[0] in "eTAv" and sentence.endswith((".", ")"))


def test_what_a_privilege_is_missing_for() -> None:
    silent = vim.fault.NoPermission()
    assert "Host.Inventory.MoveHost" in explain(silent, attempt("move"))
    assert "Folder.Create" in explain(silent, attempt("create_folder"))
    assert "which it takes to set the lockdown mode of" in explain(silent, attempt("lockdown"))


def test_a_vcenter_of_9_shows_the_certificate_instead_of_a_thumbprint() -> None:
    silent = vim.fault.SSLVerifyFault(selfSigned=True, thumbprint="")
    assert "(SHA-1 thumbprint not told) than" in explain(silent, attempt())
    if not hasattr(silent, "certificate"):
        pytest.skip("this pyVmomi is older than vCenter 9.0")
    silent.certificate = ESXI_PEM
    # the one that it was told: what it does not like is the thumbprint
    assert "and for that pyVmomi 9.0 or newer" in explain(silent, attempt())


def test_a_vcenter_of_9_that_an_old_pyvmomi_told_a_thumbprint() -> None:
    fault = vim.fault.SSLVerifyFault(selfSigned=True, thumbprint=ESXI_SHA1)
    assert "vCenter sees the right certificate" in explain(fault, attempt())


@pytest.mark.parametrize(
    "fault",
    [vim.fault.NoHost(), vim.fault.TaskInProgress(), vim.fault.Timedout(), vmodl.fault.HostNotReachable()],
    ids=lambda fault: type(fault).__name__,
)
def test_what_passes_is_tried_again(fault: t.Any) -> None:
    assert is_worth_retrying(fault)


@pytest.mark.parametrize(
    "fault",
    [
        vim.fault.InvalidLogin(),
        vim.fault.PasswordExpired(),
        vim.fault.SSLVerifyFault(),
        vim.fault.AlreadyBeingManaged(),
        vim.fault.NoPermission(),
        vim.fault.TooManyHosts(),
        vmodl.fault.NotEnoughLicenses(),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_what_does_not_pass_is_not(fault: t.Any) -> None:
    assert not is_worth_retrying(fault)


def test_faults_that_say_that_it_is_there() -> None:
    assert says_already_there(vim.fault.AlreadyConnected(name="ESX01.example.com"), NAME)
    assert says_already_there(vim.fault.DuplicateName(name=NAME), NAME)
    assert not says_already_there(vim.fault.AlreadyConnected(name="192.0.2.21"), NAME)
    assert not says_already_there(vim.fault.InvalidLogin(), NAME)
