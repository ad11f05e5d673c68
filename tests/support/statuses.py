# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statuses of a host at each point of an install, for tests."""

from __future__ import annotations

import datetime

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
MAC = "00:50:56:aa:bb:01"
ADDRESS = "192.168.77.21"
OK = ActionResult("ssh", 0, 1.5)
BROKEN = ActionResult("ntp", 2, 0.1)
SHRUGGED = ActionResult("motd", 1, 0.1, ignored=True)


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def new_install(now: datetime.datetime = NOW, request: str | None = None, ttl: float = 3600) -> Install:
    return Install.new("esx01.example.com", [MAC], [ADDRESS], request, now, ttl)


def defined() -> Status:
    return Status.new("esx01.example.com", "esxi-8.0.3", NOW)


def armed(request: str | None = None) -> Status:
    return defined().armed(new_install(request=request), NOW)


def ready() -> Status:
    status = armed().notified("installing", later(10), mac=MAC).notified("installed", later(20))
    return status.notified("ready", later(30), actions=[OK], certificate="PEM")
