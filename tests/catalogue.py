# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of post actions in docs/post-actions.md: ``python tests/catalogue.py`` writes it anew.

What an action runs, whether it restarts the host, and what a rerun does is taken from the code. A unit test compares.
"""

from __future__ import annotations

import dataclasses
import sys
import typing as t
from pathlib import Path

import yaml

_ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(_ROOT / ".lab/collections"))

PAGE = _ROOT / "docs/post-actions.md"
BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"

Option = tuple[str, str, str]
"""Name, what may be written (and the default), what it means."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One type: the value of its example, and of others that the tests try as well."""

    kind: str
    what: str
    example: t.Any
    options: tuple[Option, ...] = ()
    value: str = ""
    note: str = ""
    versions: str = "6.7 to 9"
    more: tuple[t.Any, ...] = ()
    before: tuple[t.Mapping[str, t.Any], ...] = ()


_ACCEPTANCE: Option = (
    "acceptance",
    "`certified`, `accepted`, `partner` or `community`",
    "the host's acceptance level is set to it before",
)
_SOFTWARE: tuple[Option, ...] = (
    _ACCEPTANCE,
    ("no_signature_check", "boolean, `false`", "`--no-sig-check`. Never without being asked for"),
    ("dry_run", "boolean, `false`", "`--dry-run`: say what would be done. Restarts nothing"),
)
_DEPOT: Option = (
    "depot",
    "name, URL or path",
    "name of a depot on the host's PXE server, URL of a depot's `index.xml`, or path of a ZIP below `/vmfs/volumes/`",
)


def _maintenance(default: str) -> Option:
    return ("maintenance_mode", f"boolean, `{default}`", "enter maintenance mode for it, and leave it again")


_SWITCH = {"vswitch": {"name": "vSwitch1"}}
_PORTGROUP = {"portgroup": {"name": "vMotion", "vswitch": "vSwitch1"}}

SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Access",
        (
            Entry(
                "ssh",
                "SSH, and with it the ESXi Shell and the warning about both.",
                {"state": "enabled", "suppress_warning": True},
                (
                    ("state", "`enabled` or `disabled`", "now, and at each start of the host"),
                    ("shell", "`enabled` or `disabled`", "the ESXi Shell at the console"),
                    ("suppress_warning", "boolean", "whether the clients keep quiet about it"),
                ),
                value="`state`",
                more=("disabled", {"state": "enabled", "shell": "enabled"}),
            ),
            Entry(
                "esx_shell",
                "The ESXi Shell at the console.",
                "enabled",
                value="`enabled` or `disabled`",
                more=("disabled",),
            ),
            Entry(
                "suppress_shell_warning",
                "Whether the clients keep quiet about an open shell.",
                True,
                value="boolean",
            ),
            Entry(
                "ssh_keys",
                "Public keys that may log in as root.",
                {
                    "keys": [
                        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789 admin@example.com"
                    ]
                },
                (
                    ("keys", "list of texts", "each as in a `.pub` file, without options in front"),
                    ("exclusive", "boolean, `false`", "take all other keys away"),
                ),
                value="`keys`",
            ),
            Entry(
                "certificates",
                "A new self-signed certificate. pbconnect reports the new one.",
                "regenerate",
                value="`regenerate`",
            ),
            Entry(
                "maintenance_mode",
                "Enter or leave maintenance mode.",
                True,
                value="boolean",
                more=(False,),
                note="A host that joins a vCenter stays in it: see `leave_maintenance` of `esxi_host_vcenter`.",
            ),
        ),
    ),
    (
        "Network",
        (
            Entry(
                "vswitch",
                "A standard switch: made unless it is there, then set.",
                {
                    "name": "vSwitch1",
                    "uplinks": ["vmnic1", "vmnic2"],
                    "mtu": 9000,
                    "standby": ["vmnic2"],
                    "active": ["vmnic1"],
                },
                (
                    ("name", "text", "such as `vSwitch1`"),
                    ("uplinks", "list", "`vmnicN`; those that it has already stay"),
                    ("active", "list", "uplinks in use"),
                    ("standby", "list", "uplinks that wait"),
                    ("mtu", "1280 to 9000", ""),
                    ("promiscuous", "boolean", "security policy"),
                    ("mac_changes", "boolean", "security policy"),
                    ("forged_transmits", "boolean", "security policy"),
                    ("create", "boolean, `true` except for `vSwitch0`", "make it"),
                ),
                more=(
                    {"name": "vSwitch0", "uplinks": ["vmnic1"]},
                    {"name": "vSwitch2", "promiscuous": False, "mac_changes": False, "forged_transmits": True},
                ),
            ),
            Entry(
                "portgroup",
                "A port group of a standard switch.",
                {"name": "vMotion", "vswitch": "vSwitch1", "vlan": 20},
                (
                    ("name", "text", ""),
                    ("vswitch", "text", "makes it on that switch; without it an existing one is set"),
                    ("vlan", "0 to 4095", ""),
                    ("state", "`present` or `absent`, `present`", "`absent` removes it, and needs `vswitch`"),
                ),
                before=(_SWITCH,),
                more=(
                    {"name": "Management Network", "vlan": 10},
                    {"name": "VM Network", "vswitch": "vSwitch0", "state": "absent"},
                ),
            ),
            Entry(
                "vmkernel",
                "A VMkernel interface: made with `portgroup`, set without.",
                {
                    "interface": "vmk1",
                    "portgroup": "vMotion",
                    "address": "192.168.20.21",
                    "netmask": "255.255.255.0",
                    "mtu": 9000,
                    "tags": ["vMotion"],
                },
                (
                    ("interface", "`vmkN`", ""),
                    ("portgroup", "text", "makes the interface on it"),
                    ("netstack", "text", "TCP/IP stack of a new interface, such as `vmotion`"),
                    ("address", "IPv4 address", "with `netmask`"),
                    ("netmask", "netmask", ""),
                    ("gateway", "IPv4 address", "of this interface"),
                    ("dhcp", "boolean, `false`", "instead of an address"),
                    ("mtu", "1280 to 9000", ""),
                    ("tags", "list", "`Management`, `vMotion`, `VSAN`, `faultToleranceLogging`, …"),
                ),
                before=(_SWITCH, _PORTGROUP),
                more=(
                    {"interface": "vmk0", "mtu": 1500, "dhcp": True},
                    {"interface": "vmk2", "portgroup": "vMotion", "netstack": "vmotion"},
                ),
            ),
            Entry(
                "route",
                "A static IPv4 route.",
                {"network": "10.0.0.0/8", "gateway": "192.168.77.1"},
                (("network", "network in CIDR form", ""), ("gateway", "IPv4 address", "")),
            ),
            Entry(
                "dns",
                "DNS servers and search domains, beside those that the host has.",
                {"servers": ["192.168.77.1"], "search": ["example.com"]},
                (("servers", "list of at most 3 addresses", ""), ("search", "list of domains", "")),
                value="`servers`",
            ),
            Entry(
                "hostname",
                "The fully qualified name. The kickstart sets it already; a vCenter loses a host whose name changes.",
                "esx01.example.com",
                value="name",
            ),
            Entry(
                "ipv6",
                "IPv6, on or off. In force after a restart, which it asks for when that changes something.",
                False,
                value="boolean",
            ),
            Entry(
                "firewall",
                "A firewall ruleset, and who may use it.",
                {"ruleset": "sshServer", "allowed": ["192.168.77.0/24"]},
                (
                    ("ruleset", "text", "such as `ntpClient`"),
                    ("enabled", "boolean, `true`", ""),
                    ("allowed", "list of networks and addresses", "added, and everybody else is shut out"),
                ),
                value="`ruleset`",
                more=({"ruleset": "ntpClient", "enabled": False},),
            ),
        ),
    ),
    (
        "Time, logs, dumps",
        (
            Entry(
                "ntp",
                "Time servers, and the service.",
                {"servers": ["192.168.77.1", "pool.ntp.example.com"]},
                (
                    ("servers", "list of names and addresses", ""),
                    ("enabled", "boolean, `true`", "whether the service runs"),
                ),
                value="`servers`",
                note="From 7.0 Update 1 on `esxcli system ntp`; on older versions, which have none, `/etc/ntp.conf`, "
                "`chkconfig` and the firewall's ruleset. The host is asked which.",
            ),
            Entry(
                "syslog",
                "Where logs go. Opens the firewall's ruleset and reloads.",
                {"hosts": ["tcp://192.168.77.5:514"]},
                (
                    ("hosts", "list", "`udp://`, `tcp://` or `ssl://`, name or address, and a port"),
                    (
                        "directory",
                        "path below `/vmfs/volumes/`",
                        "where they are kept on the host; made when it is not there",
                    ),
                    ("unique", "boolean", "a folder of its own for each host in it"),
                ),
                value="`hosts`",
                more=(
                    {"hosts": ["udp://log.example.com"], "directory": "/vmfs/volumes/datastore1/logs", "unique": True},
                ),
            ),
            Entry(
                "coredump",
                "Core dumps to a collector on the network.",
                {"server": "192.168.77.5"},
                (
                    ("server", "address", ""),
                    ("port", "number, `6500`", ""),
                    ("interface", "`vmkN`, `vmk0`", ""),
                ),
                value="`server`",
            ),
            Entry(
                "scratch",
                "Where a host on small media keeps logs and dumps. In force after a restart, which it asks for.",
                "/vmfs/volumes/datastore1/.locker",
                value="path below `/vmfs/volumes/`; the folder is made",
                note="ESXi 7.0 and later keep them on their own partition (ESX-OSData), and seldom need this.",
            ),
        ),
    ),
    (
        "Settings",
        (
            Entry(
                "advanced",
                "An advanced setting.",
                {"option": "/UserVars/ESXiShellInteractiveTimeOut", "value": 900},
                (
                    ("option", "path", "as `esxcli system settings advanced list` shows it"),
                    ("value", "number or text", ""),
                ),
                more=({"option": "/Misc/Note", "value": "rack 7"},),
            ),
            Entry(
                "kernel_setting",
                "A setting of the kernel. Asks for a restart when the running kernel has another value.",
                {"name": "iovDisableIR", "value": True},
                (("name", "text", ""), ("value", "boolean, number or text", "")),
            ),
            Entry(
                "module_parameters",
                "Parameters of a driver. Read when it is loaded, so it asks for a restart when they were others.",
                {"module": "nmlx5_core", "parameters": "max_vfs=8,8"},
                (("module", "text", ""), ("parameters", "text", "`name=value`, several with a blank between")),
            ),
            Entry(
                "power_policy",
                "The processor's power policy.",
                "high",
                value="`high`, `balanced`, `low` or `custom`",
            ),
            Entry("ceip", "The customer experience programme: whether the host takes part.", False, value="boolean"),
            Entry(
                "license",
                "A licence key. It is never shown, not in a difference either; keep it in a vault.",
                "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
                value="key",
            ),
        ),
    ),
    (
        "Storage",
        (
            Entry(
                "datastore",
                "Another name for a datastore. The installer calls each host's first one `datastore1`.",
                {"name": "datastore1", "new_name": "esx01-local"},
                (("name", "text", ""), ("new_name", "text", "")),
            ),
            Entry(
                "nfs",
                "A datastore on an NFS 3 server.",
                {"name": "iso", "server": "192.168.77.6", "share": "/exports/iso", "read_only": True},
                (
                    ("name", "text", ""),
                    ("server", "name or address", ""),
                    ("share", "path", ""),
                    ("read_only", "boolean, `false`", ""),
                ),
            ),
        ),
    ),
    (
        "Drivers and patches",
        (
            Entry(
                "vib",
                "VIBs: one by itself, some of a depot, or all of it.",
                {"depot": "vendor-drivers", "vib_name": ["nmlx5-core"]},
                (
                    ("url", "URL or path", "one VIB, at a URL or below `/vmfs/volumes/`"),
                    _DEPOT,
                    ("file", "file name", "one VIB of a depot on the PXE server"),
                    ("vib_name", "text or list", "only these of the depot"),
                    ("force", "boolean, `false`", "`--force`"),
                    ("no_live_install", "boolean, `false`", "`--no-live-install`"),
                    *_SOFTWARE,
                    _maintenance("false"),
                ),
                value="`url`",
                more=(
                    "http://192.168.77.10/depots/x/x.vib",
                    {
                        "depot": "vendor-drivers",
                        "file": "nmlx5.vib",
                        "acceptance": "community",
                        "no_signature_check": True,
                    },
                    {"depot": "/vmfs/volumes/datastore1/drivers.zip"},
                ),
            ),
            Entry(
                "component",
                "Components of a depot, or all of them.",
                {"depot": "vendor-drivers"},
                (_DEPOT, ("component_name", "text or list", "only these"), *_SOFTWARE, _maintenance("false")),
                value="`depot`",
                versions="7.0 to 9",
                note="On 6.7 it fails and says so: use `vib`, or `depot`, which takes whichever there is.",
                more=({"depot": "vendor-drivers", "component_name": "Mellanox-nmlx5", "maintenance_mode": True},),
            ),
            Entry(
                "depot",
                "All that is in a depot: components from ESXi 7.0 on, VIBs on 6.7.",
                "vendor-drivers",
                (_DEPOT, *_SOFTWARE, _maintenance("false")),
                value="`depot`",
            ),
            Entry(
                "profile",
                "An image profile: the whole of ESXi, as in a patch.",
                {"depot": "esxi-8.0u3b", "profile": "ESXi-8.0U3b-24280767-standard"},
                (
                    _DEPOT,
                    ("profile", "text", "the image profile's name in it"),
                    (
                        "replace",
                        "boolean, `false`",
                        "`profile install --ok-to-remove`: what is not in it goes. Otherwise `profile update`",
                    ),
                    ("no_hardware_warning", "boolean, `false`", "`--no-hardware-warning`"),
                    ("force", "boolean, `false`", "`--force`"),
                    *_SOFTWARE,
                    _maintenance("true"),
                ),
                more=({"depot": "esxi-8.0u3b", "profile": "X", "replace": True, "dry_run": True},),
            ),
        ),
    ),
    (
        "Anything else",
        (
            Entry(
                "shell",
                "Your own script, for busybox's shell. `ESXI_PXE_SERVER` is the URL of the PXE server; with "
                '`reboot: auto` it asks for a restart by `: >"$ESXI_PXE_REBOOT"`.',
                "esxcli system welcomemsg set -m 'Rack 7'",
                value="text; at most 64 KiB of printable ASCII",
                note="As it stands: nothing in it is checked or quoted.",
            ),
        ),
    ),
)


def entries() -> dict[str, Entry]:
    """Every entry by its type."""
    return {entry.kind: entry for _title, section in SECTIONS for entry in section}


def _yaml(value: t.Any) -> str:
    return yaml.safe_dump([value], sort_keys=False, width=200, default_flow_style=False).rstrip("\n")


def _render_entry(entry: Entry) -> list[str]:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import kind_of, parse_action
    from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields

    errors: list[str] = []
    action = parse_action({entry.kind: entry.example}, Fields({}, "x", "", errors), "example")
    if action is None:
        raise SystemExit("\n".join(errors))
    lines = [f"### `{entry.kind}`", "", entry.what, "", "```yaml", _yaml({entry.kind: entry.example}), "```", ""]
    if entry.options:
        short = f" {entry.value} alone will do: `{entry.kind}: VALUE`." if entry.value else ""
        if short:
            lines += [short.strip(), ""]
        lines += ["| option | value, default | |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {value} | {text} |" for name, value, text in entry.options]
    else:
        lines.append(f"Value: {entry.value}.")
    if entry.note:
        lines += ["", entry.note]
    script = [line for line in action.script.rstrip("\n").split("\n") if line != "set -e"]
    if kind_of(entry.kind) is not None:
        lines += ["", "<details><summary>What it runs</summary>", "", "```sh", *script, "```", "", "</details>"]
    return [*lines, ""]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def render() -> str:
    """The part of the page between its two marks."""
    from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import kind_of

    lines = [
        "",
        "| type | what it does | ESXi | a rerun changes nothing | restarts the host |",
        "| --- | --- | --- | --- | --- |",
    ]
    restarts = {"no": "no", "auto": "when needed", "yes": "yes"}
    for _title, section in SECTIONS:
        for entry in section:
            known = kind_of(entry.kind)
            again = "as you write it" if known is None else _yes(known.rerun)
            restart = "with `reboot`" if known is None else restarts[known.reboot]
            first = entry.what.partition(". ")[0].rstrip(".")
            lines.append(f"| [`{entry.kind}`](#{entry.kind}) | {first} | {entry.versions} | {again} | {restart} |")
    lines.append("")
    for title, section in SECTIONS:
        lines += [f"## {title}", ""]
        for entry in section:
            lines += _render_entry(entry)
    return "\n".join(lines).rstrip("\n") + "\n\n"


def page(text: str) -> str:
    """The page with its generated part as the code has it now."""
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}{END}{after}"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
