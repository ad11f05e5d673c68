# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The standard fragment: every module extends it and says its own `support` for each attribute.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description:
      - Can run in C(check_mode) and return the changed status and the result of each host that a real run would have,
        without modifying anything.
  diff_mode:
    description:
      - Returns what changes (or, in C(check_mode), what would change) when run with C(--diff).
  idempotent:
    description:
      - Run twice in a row with the same arguments outside C(check_mode), the second run reports no change.
      - This assumes that what the module manages was not changed by anything else in between.
  platform:
    description:
      - The operating systems that the module itself runs on, which is never the ESXi host.
    platforms: posix
    support: full
"""

    # For a module that only looks. Together with the standard fragment.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
    details:
      - This module does not modify state.
"""

    # For a module whose work begins on the controller.
    ACTION = r"""
options: {}
attributes:
  action:
    description:
      - There is an action plugin of the same name, which does a part of the work on the controller.
    support: full
"""

    # The action groups, see meta/runtime.yml. A module is in one of these, and so in esxi.
    ACTIONGROUP_PXE = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pxemanager.esxi.pxe), or C(group/pxemanager.esxi.esxi) for all modules of the collection,
        in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pxemanager.esxi.esxi
      - pxemanager.esxi.pxe
"""

    ACTIONGROUP_CONTROLLER = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pxemanager.esxi.controller), or C(group/pxemanager.esxi.esxi) for all modules of the collection,
        in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pxemanager.esxi.controller
      - pxemanager.esxi.esxi
"""

    ACTIONGROUP_VCENTER = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pxemanager.esxi.vcenter), or C(group/pxemanager.esxi.esxi) for all modules of the collection,
        in C(module_defaults) to set defaults for this module.
      - C(group/pxemanager.esxi.vmware) sets the connection to a vCenter for this module and for those of vmware.vmware
        at once.
    support: full
    membership:
      - pxemanager.esxi.esxi
      - pxemanager.esxi.vcenter
      - pxemanager.esxi.vmware
"""

    ACTIONGROUP_HOST = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pxemanager.esxi.host), or C(group/pxemanager.esxi.esxi) for all modules of the collection,
        in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pxemanager.esxi.esxi
      - pxemanager.esxi.host
"""
