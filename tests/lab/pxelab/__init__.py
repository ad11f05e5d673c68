# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: everything of a site but the ESXi media, on one machine, in network namespaces of its own.

A PXE server that is a real systemd machine, a vCenter simulator, and stand-in machines that speak the protocols of
firmware, boot loader, installer and installed host. ``python -m pxelab --help`` says what it can do.
"""
