# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what the action plugin esxi_kickstart hands to its module, and their options."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import typing as t
import zlib

from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import DIFF_LIMIT
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import ON_HOST_FAILURE
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import CONFIG_PATH

__all__ = ["Rendered", "argument_spec"]


@dataclasses.dataclass
class Rendered:
    """``texts``: host name -> canonical MAC -> kickstart. ``failures``: host name -> sentences.

    ``upgrades``: the hosts whose kickstarts upgrade what is on the disk.
    """

    texts: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    failures: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    upgrades: list[str] = dataclasses.field(default_factory=list)

    def pack(self) -> str:
        """As one text. Kickstarts of a site are so alike that compression leaves a hundredth of them to be sent."""
        return base64.b64encode(zlib.compress(json.dumps(dataclasses.asdict(self)).encode("ascii"), 6)).decode("ascii")

    @classmethod
    def unpack(cls, text: str) -> Rendered:
        """The reverse of pack(); raises EsxiPxeError when the text is nothing that pack() made."""
        try:
            value = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
            return cls(texts=dict(value["texts"]), failures=dict(value["failures"]), upgrades=list(value["upgrades"]))
        except (binascii.Error, zlib.error, ValueError, KeyError, TypeError) as error:
            raise EsxiPxeError("The option rendered is set by the action plugin esxi_kickstart alone.") from error


def argument_spec() -> dict[str, t.Any]:
    """The options of esxi_kickstart: the action plugin checks them all, the module sees those that it needs."""
    deadlines = {"pre": 300, "post": 120, "firstboot": 900}
    return {
        "hosts": {"type": "list", "elements": "dict", "required": True},
        "template": {"type": "str", "default": "ks.cfg.j2"},
        "root_password": {"type": "str", "no_log": True},
        "root_passwords": {"type": "dict", "no_log": True},
        "root_password_hash": {"type": "str", "no_log": True},
        "deadlines": {
            "type": "dict",
            "apply_defaults": True,
            "options": {key: {"type": "int", "default": value} for key, value in deadlines.items()},
        },
        "owner": {"type": "str", "default": ""},
        "take_over_from": {"type": "str", "default": ""},
        "diff_limit": {"type": "int", "default": DIFF_LIMIT},
        "config": {"type": "path", "default": CONFIG_PATH},
        "on_host_failure": {"type": "str", "choices": list(ON_HOST_FAILURE), "default": "fail"},
        "rendered": {"type": "str", "no_log": True},
    }
