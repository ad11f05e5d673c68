# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the client of the vSphere API, whose parts are in modules of their own."""

from __future__ import annotations

from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    HostEntry,
    Inventory,
    Place,
    PlaceError,
    read_inventory,
    retrieve,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_options import (
    is_host_name,
    parse_address,
    parse_each,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_session import (
    PYVMOMI_IMPORT_ERROR,
    Endpoint,
    Fault,
    LoginRefusedError,
    ManagedObject,
    ServiceUnavailableError,
    Session,
    VsphereError,
    WrongCertificateError,
    connection_errors,
    describe_fault,
    fault_kinds,
    is_fault,
    require_pyvmomi,
    vcenter_endpoint,
    vcenter_session,
    verifying_context,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_tasks import TaskOutcome, run_tasks

__all__ = [
    "Endpoint",
    "Fault",
    "HostEntry",
    "Inventory",
    "LoginRefusedError",
    "ManagedObject",
    "PYVMOMI_IMPORT_ERROR",
    "Place",
    "PlaceError",
    "ServiceUnavailableError",
    "Session",
    "TaskOutcome",
    "VsphereError",
    "WrongCertificateError",
    "connection_errors",
    "describe_fault",
    "fault_kinds",
    "is_fault",
    "is_host_name",
    "parse_address",
    "parse_each",
    "read_inventory",
    "require_pyvmomi",
    "retrieve",
    "run_tasks",
    "vcenter_endpoint",
    "vcenter_session",
    "verifying_context",
]
