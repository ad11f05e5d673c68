# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection for tests: local, but lost as long as the file C(FLAKY_DOWN) is there."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = r"""
name: flaky
short_description: Local connection that can be lost
description:
  - For tests.
options: {}
extends_documentation_fragment:
  - connection_pipelining
"""


class Connection(Local):
    transport = "flaky"

    def exec_command(self, *arguments: t.Any, **named: t.Any) -> t.Any:
        self._check()
        result = super().exec_command(*arguments, **named)
        # Lost while the command ran: nobody learns what it said.
        self._check()
        return result

    def put_file(self, *arguments: t.Any, **named: t.Any) -> t.Any:
        self._check()
        return super().put_file(*arguments, **named)

    def _check(self) -> None:
        if os.path.exists(os.environ["FLAKY_DOWN"]):
            raise AnsibleConnectionFailure("flaky: the connection is down")
