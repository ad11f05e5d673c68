# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the exceptions that the domain raises and that modules and services turn into words."""

from __future__ import annotations

import typing as t

__all__ = ["DefinitionError", "EsxiPxeError", "MissingLibraryError", "RefusedError"]


class EsxiPxeError(Exception):
    """Root of every error that the collection raises on purpose. ``str()`` of it is a sentence for people."""


class DefinitionError(EsxiPxeError):
    """A host definition, or a part of it, says something that cannot be.

    ``errors`` holds every sentence (at least one), because a person mends a file once, not once for each mistake.
    """

    def __init__(self, errors: t.Union[str, t.Sequence[str]]) -> None:
        self.errors: tuple[str, ...] = (errors,) if isinstance(errors, str) else tuple(errors)
        super().__init__(" ".join(self.errors))


class RefusedError(EsxiPxeError):
    """The request is well formed but must not be carried out as things stand, for example arming without an image."""


class MissingLibraryError(EsxiPxeError):
    """A third-party Python library is not installed where this code runs.

    ``library`` is its name for ``missing_required_lib()``; ``trace`` is the traceback of the failed import.
    """

    def __init__(self, library: str, trace: str) -> None:
        self.library = library
        self.trace = trace
        super().__init__(f"The Python library {library} is not installed for the Python that runs this.")
