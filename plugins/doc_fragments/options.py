# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The modules that run on a PXE server.
    CONFIG = r"""
options:
  config:
    description:
      - The settings of the PXE server, as the role P(pxemanager.esxi.pxe_server#role) has written them.
    type: path
    default: /etc/esxi-pxe/server.json
"""

    # The modules that do many hosts in a call.
    ON_HOST_FAILURE = r"""
options:
  on_host_failure:
    description:
      - What happens when hosts fail. All other hosts are done in either case.
      - V(fail) fails the task and names every failed host.
      - V(report) does not fail the task. RV(failed_hosts) says which hosts failed.
    type: str
    choices:
      - fail
      - report
    default: fail
"""

    # The same for modules that do them all through one vCenter.
    ON_HOST_FAILURE_VCENTER = r"""
options:
  on_host_failure:
    description:
      - What happens when hosts fail. All other hosts are done in either case.
      - V(fail) fails the task and names every failed host.
      - V(report) does not fail the task. RV(failed_hosts) says which hosts failed. When vCenter itself cannot be used,
        that is every host's failure.
    type: str
    choices:
      - fail
      - report
    default: fail
"""

    # The modules that log in to the API of each host.
    HOST_LOGIN = r"""
options:
  parallel:
    description:
      - How many hosts are served at a time.
    type: int
    default: 16
  attempts_file:
    description:
      - File in which wrong logins of the last 15 minutes are counted, on the machine where the module runs. It holds
        thumbprints of certificates and times, no secrets.
      - Where nothing outlives a run, such as in an execution environment, give a path that does.
      - An empty text counts nothing.
    type: str
    default: ~/.ansible/pxemanager-esxi/attempts.json
"""

    # The modules that ask all vCenters of a linked-mode group.
    LINKED = r"""
options:
  timeout:
    description:
      - Seconds that a vCenter may take for any one answer.
    type: int
    default: 60
"""
