# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions that install drivers and patches.

esxcli leaves alone what is installed already ("VIBs Skipped", "Host is not changed"), so a rerun changes nothing. It
says itself whether a restart is needed. The firewall's httpClient ruleset is open while post actions run.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._action_text import (
    REBOOT,
    DepotUse,
    Kind,
    Lines,
    Work,
    line,
    object_name,
    options,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    choice,
    list_of,
    matching,
    show,
)

__all__ = ["SERVER_VARIABLE", "SOFTWARE"]

SERVER_VARIABLE = "ESXI_PXE_SERVER"
"""In the environment of an action: the URL of the PXE server, without a slash at its end."""

_PLACE = matching(
    r"(?:https?://[A-Za-z0-9]|/vmfs/volumes/)[A-Za-z0-9._~:/?#@!&()*+,;=%-]*",
    1024,
    "a URL (http:// or https://) or a path under /vmfs/volumes/, without blanks and quotes",
)
_DEPOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_file_name = matching(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.vib", 200, "the name of a VIB in the depot, such as driver.vib")
_LEVELS = {
    "certified": "VMwareCertified",
    "accepted": "VMwareAccepted",
    "partner": "PartnerSupported",
    "community": "CommunitySupported",
}


def _depot(value: object) -> str:
    if isinstance(value, str) and _DEPOT_NAME.match(value):
        return str(value)
    try:
        return _PLACE(value)
    except Wrong:
        raise Wrong(
            f"is {show(value)}; write the name of a depot on the PXE server, a URL (http:// or https://) or a path "
            "under /vmfs/volumes/, without blanks and quotes"
        ) from None


def _is_name(depot: str) -> bool:
    return _DEPOT_NAME.match(depot) is not None


def _source(flag: str, place: str, below: str = "index.xml") -> str:
    """An option of esxcli that names a depot or a VIB. Where the PXE server's depots are is known on the host only."""
    if _is_name(place):
        return f'{flag}="${SERVER_VARIABLE}"/{line(f"depots/{place}/{below}")}'
    return line(f"{flag}={place}")


def _run(commands: Lines) -> Lines:
    """Run the last of the commands, show what it says, and ask for a restart when it says that one is needed."""
    *before, last = commands
    # What is only tried says so too.
    ask = [] if " --dry-run" in last else [f"case $said in *'Reboot Required: true'*) {REBOOT} ;; esac"]
    return [
        *before,
        f'said=$({last} 2>&1) || {{ rc=$?; printf \'%s\\n\' "$said"; exit "$rc"; }}',
        "printf '%s\\n' \"$said\"",
        *ask,
    ]


class _Common:
    """The options that all of these actions have."""

    def __init__(self, fields: Fields, maintenance: bool) -> None:
        self._acceptance = fields.get("acceptance", choice(*_LEVELS), None)
        self._maintenance = fields.get("maintenance_mode", boolean, maintenance)
        self.flags = [
            flag
            for key, flag in (("no_signature_check", "--no-sig-check"), ("dry_run", "--dry-run"))
            if fields.get(key, boolean, False)
        ]

    def lines(self, depots: tuple[DepotUse, ...], command: Lines) -> Work:
        """The whole action: what has to be so before, the commands, and what is put back after them."""
        lines: Lines = []
        if depots:
            lines.append(
                f'if [ -z "${SERVER_VARIABLE}" ]; then echo "nobody has said where the PXE server is" >&2; exit 1; fi'
            )
        if self._acceptance is not None:
            level = _LEVELS[self._acceptance]
            lines.append(
                f'[ "$(esxcli software acceptance get)" = {level} ] || esxcli software acceptance set --level={level}'
            )
        if self._maintenance:
            lines += [
                "if ! esxcli system maintenanceMode get | grep -q Enabled; then",
                "  trap 'rc=$?; trap - EXIT; esxcli system maintenanceMode set --enable=false; exit \"$rc\"' EXIT",
                "  trap 'exit 143' TERM",
                "  esxcli system maintenanceMode set --enable=true",
                "fi",
            ]
        return Work([*lines, *_run(command)], depots)


def _vib(value: object, owner: Fields, path: str) -> Work:
    """Driver VIBs normally become active at the next boot only."""
    fields = options(value, "url", owner, path)
    url = fields.get("url", _PLACE, None)
    depot = fields.get("depot", _depot, None)
    file = fields.get("file", _file_name, None)
    names = fields.get("vib_name", list_of(object_name, least=1, most=64), ())
    extra = [
        flag
        for key, flag in (("force", "--force"), ("no_live_install", "--no-live-install"))
        if fields.get(key, boolean, False)
    ]
    common = _Common(fields, maintenance=False)
    fields.finish()
    if fields.good() and fields.has("url") == fields.has("depot"):
        owner.wrong(path, "needs exactly one of url and depot; write one")
    if file is not None and depot is not None and not _is_name(depot):
        owner.wrong(f"{path}.file", "goes with a depot of the PXE server; write url for a VIB elsewhere")
    if file is not None and (names or url is not None):
        owner.wrong(f"{path}.file", "is a VIB by itself; take out vib_name and url")
    depots: tuple[DepotUse, ...] = ()
    if depot is not None and _is_name(depot):
        depots = (DepotUse(depot, file=file, vibs=names),)
    if url is not None:
        source = line(f"--viburl={url}")
    elif file is not None:
        source = _source("--viburl", depot or "", file)
    else:
        source = _source("--depot", depot or "")
    words = [*(f"--vibname={name}" for name in names), *extra, *common.flags]
    command = " ".join(["esxcli software vib install", source, line(*words)]).rstrip()
    return common.lines(depots, [command])


def _component(value: object, owner: Fields, path: str) -> Work:
    """``esxcli software component`` exists from ESXi 7.0 on; on 6.7 the action says so and fails."""
    fields = options(value, "depot", owner, path)
    depot = fields.need("depot", _depot, "the depot that the component is in: a name, a URL or a path") or ""
    names = fields.get("component_name", list_of(object_name, least=1, most=64), ())
    common = _Common(fields, maintenance=False)
    fields.finish()
    words = [*(f"--component={name}" for name in names), *common.flags]
    command = " ".join(["esxcli software component apply", _source("--depot", depot), line(*words)]).rstrip()
    guard = (
        "case $(vmware -v) in *' 6.'*) "
        'echo "ESXi 6 has no components: write vib instead of component" >&2; exit 1 ;; esac'
    )
    return common.lines((DepotUse(depot),) if _is_name(depot) else (), [guard, command])


def _profile(value: object, owner: Fields, path: str) -> Work:
    fields = options(value, "", owner, path)
    depot = fields.need("depot", _depot, "the depot that the image profile is in: a name, a URL or a path") or ""
    profile = fields.need("profile", object_name, "the image profile's name in that depot") or ""
    extra = [
        flag
        for key, flag in (
            ("replace", "--ok-to-remove"),
            ("no_hardware_warning", "--no-hardware-warning"),
            ("force", "--force"),
        )
        if fields.get(key, boolean, False)
    ]
    common = _Common(fields, maintenance=True)
    fields.finish()
    # "install" makes the host exactly what the profile says, "update" only ever raises versions.
    verb = "install" if "--ok-to-remove" in extra else "update"
    words = line(f"--profile={profile}", *extra, *common.flags)
    command = f"esxcli software profile {verb} {_source('--depot', depot)} {words}"
    return common.lines((DepotUse(depot, profile=profile),) if _is_name(depot) else (), [command])


def _whole_depot(value: object, owner: Fields, path: str) -> Work:
    """All that is in a depot: as components from ESXi 7.0 on, as VIBs before."""
    fields = options(value, "depot", owner, path)
    depot = fields.need("depot", _depot, "the depot: a name, a URL or a path") or ""
    common = _Common(fields, maintenance=False)
    fields.finish()
    words = f"{_source('--depot', depot)} {line(*common.flags)}".rstrip()
    choose = "case $(vmware -v) in *' 6.'*) what='vib install' ;; *) what='component apply' ;; esac"
    # Unquoted on purpose: two words.
    return common.lines((DepotUse(depot),) if _is_name(depot) else (), [choose, f"esxcli software $what {words}"])


SOFTWARE: t.Mapping[str, Kind] = {
    "component": Kind(_component, "auto"),
    "depot": Kind(_whole_depot, "auto"),
    "profile": Kind(_profile, "auto"),
    "vib": Kind(_vib, "auto"),
}
