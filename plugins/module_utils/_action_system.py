# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions that set up an ESXi host itself.

The commands are those of ESXi 6.7 to 9.x; where versions differ, the host is asked.
"""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._action_text import (
    REBOOT,
    Kind,
    Lines,
    advanced,
    advanced_value,
    datastore_name,
    enabled,
    interface_name,
    ip_address,
    line,
    on_off,
    options,
    scalar,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    advanced_option,
    boolean,
    choice,
    integer,
    list_of,
    matching,
    network_server,
)

__all__ = ["SYSTEM"]

_licence = matching(r"[0-9A-Z]{5}(?:-[0-9A-Z]{5}){4}", 29, "a licence key of five groups of five")
_log_host = matching(
    r"(?:udp|tcp|ssl)://(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    300,
    "a log host such as tcp://192.168.77.5:514",
)
_ssh_key = matching(
    r"(?:ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,4000}={0,3}"
    r"(?: [A-Za-z0-9@._+:-]{1,100})?",
    4200,
    "one public key as it is in a .pub file: type, key and a comment of one word, without options in front",
)
_setting = matching(r"[A-Za-z][A-Za-z0-9_]*", 64, "a kernel setting's name such as iovDisableIR")
_module = matching(r"[A-Za-z][A-Za-z0-9_-]*", 64, "a module's name such as nmlx5_core")
_plain_value = matching(r"[A-Za-z0-9][A-Za-z0-9_.,:-]*", 200, "a value of letters, digits and _.,:-")
_parameters = matching(
    r"[A-Za-z][A-Za-z0-9_]*=[A-Za-z0-9_.,:-]+(?: [A-Za-z][A-Za-z0-9_]*=[A-Za-z0-9_.,:-]+)*",
    500,
    "parameters such as max_vfs=8,8",
)
_volume_path = matching(
    r"/vmfs/volumes/[A-Za-z0-9][A-Za-z0-9 ._()-]*(?:/[.]?[A-Za-z0-9_][A-Za-z0-9._-]*)+",
    400,
    "a folder on a datastore such as /vmfs/volumes/datastore1/.locker",
)
_share = matching(r"/[A-Za-z0-9._/-]*", 255, "the exported folder such as /exports/iso")
_RULESET = ("esxcli", "network", "firewall", "ruleset", "set")
_KEYS = "/etc/ssh/keys-root/authorized_keys"


def _ssh_lines(enable: bool) -> Lines:
    verbs = ("enable_ssh", "start_ssh") if enable else ("stop_ssh", "disable_ssh")
    return [line("vim-cmd", f"hostsvc/{verb}") for verb in verbs]


def _esx_shell_lines(enable: bool) -> Lines:
    verbs = ("enable_esx_shell", "start_esx_shell") if enable else ("stop_esx_shell", "disable_esx_shell")
    return [line("vim-cmd", f"hostsvc/{verb}") for verb in verbs]


def _ssh(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "state", owner, path)
    state = fields.need("state", enabled, "enabled or disabled")
    esx_shell = fields.get("shell", enabled, None)
    suppress = fields.get("suppress_warning", boolean, None)
    fields.finish()
    lines = [] if state is None else _ssh_lines(state)
    if esx_shell is not None:
        lines.extend(_esx_shell_lines(esx_shell))
    if suppress is not None:
        lines.append(advanced("/UserVars/SuppressShellWarning", int(suppress)))
    return lines


def _esx_shell(value: object, owner: Fields, path: str) -> Lines:
    state = scalar(value, enabled, owner, path)
    return [] if state is None else _esx_shell_lines(state)


def _suppress_shell_warning(value: object, owner: Fields, path: str) -> Lines:
    suppress = scalar(value, boolean, owner, path)
    return [] if suppress is None else [advanced("/UserVars/SuppressShellWarning", int(suppress))]


def _ssh_keys(value: object, owner: Fields, path: str) -> Lines:
    """Keys that may log in as root. The file is kept over restarts only with its sticky bit."""
    fields = options(value, "keys", owner, path)
    keys = fields.need("keys", list_of(_ssh_key, least=1, most=50), "a list of public keys") or ()
    exclusive = fields.get("exclusive", boolean, False)
    fields.finish()
    lines = [f"mkdir -p {_KEYS.rsplit('/', 1)[0]}"]
    if exclusive:
        lines.append(f": >{_KEYS}")
    for key in keys:
        word = shlex.quote(key)
        lines.append(f"grep -qxF {word} {_KEYS} 2>/dev/null || printf '%s\\n' {word} >>{_KEYS}")
    return [*lines, f"chmod 1600 {_KEYS}"]


def _ntp(value: object, owner: Fields, path: str) -> Lines:
    """``esxcli system ntp`` exists from ESXi 7.0 Update 1 on; before, it is a file and a service."""
    fields = options(value, "servers", owner, path)
    servers = fields.need("servers", list_of(network_server, least=1, most=16), "a list of NTP servers") or ()
    enable = fields.get("enabled", boolean, True)
    fields.finish()
    words = [*(f"--server={server}" for server in servers), f"--enabled={on_off(enable)}"]
    old = [
        "grep -v '^server ' /etc/ntp.conf >/tmp/esxi-pxe-ntp.conf || true",
        *(f"echo {line(f'server {server}')} >>/tmp/esxi-pxe-ntp.conf" for server in servers),
        "cat /tmp/esxi-pxe-ntp.conf >/etc/ntp.conf",
        "rm -f /tmp/esxi-pxe-ntp.conf",
        f"chkconfig ntpd {'on' if enable else 'off'}",
        line(
            "esxcli", "network", "firewall", "ruleset", "set", "--ruleset-id=ntpClient", f"--enabled={on_off(enable)}"
        ),
        f"/etc/init.d/ntpd {'restart' if enable else 'stop'}",
    ]
    return [
        "if esxcli system ntp get >/dev/null 2>&1; then",
        f"  {line('esxcli', 'system', 'ntp', 'set', *words)}",
        "else",
        *(f"  {command}" for command in old),
        "fi",
    ]


def _syslog(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "hosts", owner, path)
    hosts = fields.need(
        "hosts", list_of(_log_host, least=1, most=8), "a list of log hosts such as tcp://192.168.77.5:514"
    )
    folder = fields.get("directory", _volume_path, None)
    unique = fields.get("unique", boolean, None)
    fields.finish()
    words = [f"--loghost={','.join(hosts or ())}"]
    if folder is not None:
        words.append(f"--logdir={folder}")
    if unique is not None:
        words.append(f"--logdir-unique={on_off(unique)}")
    return [
        *([] if folder is None else [line("mkdir", "-p", folder)]),
        line("esxcli", "system", "syslog", "config", "set", *words),
        line(*_RULESET, "--ruleset-id=syslog", "--enabled=true"),
        line("esxcli", "system", "syslog", "reload"),
    ]


def _coredump(value: object, owner: Fields, path: str) -> Lines:
    """Core dumps over the network."""
    fields = options(value, "server", owner, path)
    server = fields.need("server", ip_address, "the collector's address")
    port = fields.get("port", integer(1, 65535), 6500)
    interface = fields.get("interface", interface_name, "vmk0")
    fields.finish()
    command = ("esxcli", "system", "coredump", "network", "set")
    return [
        line(*command, f"--interface-name={interface}", f"--server-ip={server}", f"--server-port={port}"),
        line(*command, "--enable=true"),
    ]


def _advanced_action(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "", owner, path)
    option = fields.need("option", advanced_option, "an option's path such as /UserVars/SuppressShellWarning")
    setting = fields.need("value", advanced_value, "a whole number or a text")
    fields.finish()
    return [] if option is None or setting is None else [advanced(option, setting)]


def _power_policy(value: object, owner: Fields, path: str) -> Lines:
    names = {"high": "High Performance", "balanced": "Balanced", "low": "Low Power", "custom": "Custom"}
    policy = scalar(value, choice(*names), owner, path)
    return [] if policy is None else [advanced("/Power/CpuPolicy", names[policy])]


def _kernel_setting(value: object, owner: Fields, path: str) -> Lines:
    """In force after the next boot only, which is asked for when the running kernel has another value."""
    fields = options(value, "", owner, path)
    name = fields.need("name", _setting, "a kernel setting's name such as iovDisableIR") or ""
    setting = fields.need("value", _kernel_value, "the setting's value, in quotes") or ""
    fields.finish()
    command = ("esxcli", "system", "settings", "kernel")
    # Columns: Name, Type, Configured, Runtime, Default, Description.
    differs = f"awk -v name={name} '$1 == name && tolower($4) != tolower(\"{setting}\") {{ print }}' | grep -q ."
    return [
        line(*command, "set", f"--setting={name}", f"--value={setting}"),
        f"if {line(*command, 'list', f'--option={name}')} | {differs}; then {REBOOT}; fi",
    ]


def _kernel_value(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return _plain_value(str(value) if isinstance(value, int) else value)


def _module_parameters(value: object, owner: Fields, path: str) -> Lines:
    """Read when the module is loaded: asks for a restart when they were other ones."""
    fields = options(value, "", owner, path)
    module = fields.need("module", _module, "a module's name such as nmlx5_core") or ""
    parameters = fields.need("parameters", _parameters, "parameters such as max_vfs=8,8") or ""
    fields.finish()
    command = ("esxcli", "system", "module", "parameters")
    listing = line(*command, "list", f"--module={module}")
    # Before and after are compared as esxcli shows them: how it shows a value is its own affair.
    return [
        f"before=$({listing})",
        line(*command, "set", f"--module={module}", f"--parameter-string={parameters}"),
        f'if [ "$before" != "$({listing})" ]; then {REBOOT}; fi',
    ]


def _scratch(value: object, owner: Fields, path: str) -> Lines:
    """Where logs and core dumps are kept, for hosts that boot from small media. In force after the next boot only."""
    folder = scalar(value, _volume_path, owner, path)
    if folder is None:
        return []
    option = "ScratchConfig.ConfiguredScratchLocation"
    return [
        line("mkdir", "-p", folder),
        f"if ! vim-cmd hostsvc/advopt/view {option} | grep -qF {shlex.quote(chr(34) + folder + chr(34))}; then",
        f"  {line('vim-cmd', 'hostsvc/advopt/update', option, 'string', folder)}",
        f"  {REBOOT}",
        "fi",
    ]


def _datastore(value: object, owner: Fields, path: str) -> Lines:
    """Another name for a datastore: the installer calls each host's first one datastore1."""
    fields = options(value, "", owner, path)
    name = fields.need("name", datastore_name, "the datastore's name such as datastore1") or ""
    new = fields.need("new_name", datastore_name, "the name that it shall have") or ""
    fields.finish()
    seen = f"[ -e {shlex.quote(f'/vmfs/volumes/{new}')} ]"
    return [f"{seen} || {line('vim-cmd', 'hostsvc/datastore/rename', name, new)}"]


def _nfs(value: object, owner: Fields, path: str) -> Lines:
    """A datastore on an NFS 3 server."""
    fields = options(value, "", owner, path)
    name = fields.need("name", datastore_name, "the datastore's name") or ""
    server = fields.need("server", network_server, "the NFS server's name or address") or ""
    share = fields.need("share", _share, "the exported folder such as /exports/iso") or ""
    read_only = fields.get("read_only", boolean, False)
    fields.finish()
    seen = f"esxcli storage nfs list | sed 's/  .*//' | grep -qxF {line('--', name)}"
    words = [f"--host={server}", f"--share={share}", f"--volume-name={name}", *(["--readonly"] if read_only else [])]
    return [f"{seen} || {line('esxcli', 'storage', 'nfs', 'add', *words)}"]


def _maintenance_mode(value: object, owner: Fields, path: str) -> Lines:
    """To enter it again would be an error, and so would be to leave it again."""
    enable = scalar(value, boolean, owner, path)
    if enable is None:
        return []
    seen = f"esxcli system maintenanceMode get | grep -q {'Enabled' if enable else 'Disabled'}"
    return [f"{seen} || {line('esxcli', 'system', 'maintenanceMode', 'set', f'--enable={on_off(enable)}')}"]


def _ceip(value: object, owner: Fields, path: str) -> Lines:
    """The option's values are 1 (takes part) and 2 (does not)."""
    take_part = scalar(value, boolean, owner, path)
    return [] if take_part is None else [advanced("/UserVars/HostClientCEIPOptIn", 1 if take_part else 2)]


def _certificates(value: object, owner: Fields, path: str) -> Lines:
    """Services keep the old certificate until restarted, and the one that pbconnect reports must be the one in use.

    6.7 and 7.0 answer on port 443 with rhttpproxy, later versions with others: restarted where present.
    """
    if scalar(value, choice("regenerate"), owner, path) is None:
        return []
    restart = "  if [ -x /etc/init.d/$service ]; then /etc/init.d/$service restart; fi"
    return ["/sbin/generate-certificates", "for service in hostd rhttpproxy envoy; do", restart, "done"]


def _license(value: object, owner: Fields, path: str) -> Lines:
    key = None
    try:
        key = _licence(value)
    except Wrong:
        # Never shown: a licence key is worth money, even with a typing mistake in it.
        owner.wrong(path, "is no licence key; write five groups of five letters and digits, joined by hyphens")
    return [] if key is None else [line("vim-cmd", "vimsvc/license", "--set", key)]


SYSTEM: t.Mapping[str, Kind] = {
    "advanced": Kind(_advanced_action),
    "ceip": Kind(_ceip),
    "certificates": Kind(_certificates, rerun=False),
    "coredump": Kind(_coredump),
    "datastore": Kind(_datastore),
    "esx_shell": Kind(_esx_shell),
    "kernel_setting": Kind(_kernel_setting, "auto"),
    "license": Kind(_license),
    "maintenance_mode": Kind(_maintenance_mode),
    "module_parameters": Kind(_module_parameters, "auto"),
    "nfs": Kind(_nfs),
    "ntp": Kind(_ntp),
    "power_policy": Kind(_power_policy),
    "scratch": Kind(_scratch, "auto"),
    "ssh": Kind(_ssh),
    "ssh_keys": Kind(_ssh_keys),
    "suppress_shell_warning": Kind(_suppress_shell_warning),
    "syslog": Kind(_syslog),
}
