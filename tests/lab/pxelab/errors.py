# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong in the lab itself (as opposed to what a stand-in machine runs into)."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what it was asked; the message is one sentence for the person at the terminal."""
