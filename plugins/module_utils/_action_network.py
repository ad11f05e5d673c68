# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions that set up an ESXi host's network.

Each looks first where doing it again would be an error ("already exists"), so that a rerun changes nothing.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._action_text import (
    REBOOT,
    Kind,
    Lines,
    interface_name,
    ip_address,
    line,
    object_name,
    on_off,
    options,
    scalar,
    subnet,
    switch_name,
    uplink_name,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    choice,
    fqdn,
    integer,
    ipv4,
    list_of,
    matching,
    netmask_prefix,
    network_server,
    show,
)

__all__ = ["NETWORK"]

_ruleset = matching(r"[A-Za-z][A-Za-z0-9_-]*", 64, "a firewall ruleset's name such as ntpClient")
_SWITCH = ("esxcli", "network", "vswitch", "standard")


def unless(seen: str, command: str) -> str:
    """Run the command, but not when the other one finds that there is nothing to do."""
    return f"{seen} || {command}"


def _listed(listing: str, item: str) -> str:
    """Whether a list such as ``DNSServers: 10.0.0.1, 10.0.0.2`` has an item; esxcli's lists of one line."""
    return f"{listing} | tr ' ,' '\\n\\n' | grep -qxF {line('--', item)}"


def _dns(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "servers", owner, path)
    servers = fields.get("servers", list_of(ip_address, most=3), ())
    search = fields.get("search", list_of(network_server, most=16), ())
    fields.finish()
    if not servers and not search:
        owner.wrong(path, "has nothing to do; write servers or search")
    command = ("esxcli", "network", "ip", "dns")
    lines = [
        unless(_listed(line(*command, "server", "list"), item), line(*command, "server", "add", f"--server={item}"))
        for item in servers
    ]
    lines.extend(
        unless(_listed(line(*command, "search", "list"), item), line(*command, "search", "add", f"--domain={item}"))
        for item in search
    )
    return lines


def _hostname(value: object, owner: Fields, path: str) -> Lines:
    name = scalar(value, fqdn, owner, path)
    return [] if name is None else [line("esxcli", "system", "hostname", "set", f"--fqdn={name}")]


def _vswitch(value: object, owner: Fields, path: str) -> Lines:
    """``create`` is true but for vSwitch0, which every installation has."""
    fields = options(value, "name", owner, path)
    name = fields.need("name", switch_name, "a switch's name such as vSwitch1") or ""
    uplinks = fields.get("uplinks", list_of(uplink_name, most=32), ())
    active = fields.get("active", list_of(uplink_name, least=1, most=32), ())
    standby = fields.get("standby", list_of(uplink_name, least=1, most=32), ())
    mtu = fields.get("mtu", integer(1280, 9000), None)
    create = fields.get("create", boolean, name != "vSwitch0")
    security = [
        f"--{word}={on_off(setting)}"
        for word, setting in (
            ("allow-promiscuous", fields.get("promiscuous", boolean, None)),
            ("allow-mac-change", fields.get("mac_changes", boolean, None)),
            ("allow-forged-transmits", fields.get("forged_transmits", boolean, None)),
        )
        if setting is not None
    ]
    fields.finish()
    which = f"--vswitch-name={name}"
    lines = []
    if create:
        # Looked at for what it prints: also a switch that is not there can end with 0.
        seen = f"{line(*_SWITCH, 'list', which)} 2>/dev/null | grep -qxF {line('--', name)}"
        lines.append(unless(seen, line(*_SWITCH, "add", which)))
    if mtu is not None:
        lines.append(line(*_SWITCH, "set", which, f"--mtu={mtu}"))
    for uplink in uplinks:
        seen = f"{line(*_SWITCH, 'list', which)} 2>/dev/null | grep 'Uplinks:' | grep -qw {uplink}"
        lines.append(unless(seen, line(*_SWITCH, "uplink", "add", which, f"--uplink-name={uplink}")))
    if active or standby:
        order = [f"--active-uplinks={','.join(active)}"] if active else []
        order += [f"--standby-uplinks={','.join(standby)}"] if standby else []
        lines.append(line(*_SWITCH, "policy", "failover", "set", which, *order))
    if security:
        lines.append(line(*_SWITCH, "policy", "security", "set", which, *security))
    if not lines:
        owner.wrong(path, "has nothing to do; write uplinks, mtu or create: true")
    return lines


def _has_portgroup(name: str) -> str:
    """The first column of a table; its columns are two blanks apart at least."""
    listing = line(*_SWITCH, "portgroup", "list")
    return f"{listing} | sed 's/  .*//' | grep -qxF {line('--', name)}"


def _portgroup(value: object, owner: Fields, path: str) -> Lines:
    """With ``vswitch`` the port group is added (or, with state absent, removed), without it an existing one is set."""
    fields = options(value, "name", owner, path)
    name = fields.need("name", object_name, "the port group's name") or ""
    vswitch = fields.get("vswitch", switch_name, None)
    vlan = fields.get("vlan", integer(0, 4095), None)
    state = fields.get("state", choice("present", "absent"), "present")
    fields.finish()
    command = (*_SWITCH, "portgroup")
    if state == "absent":
        if vswitch is None:
            owner.wrong(f"{path}.vswitch", "is missing; write the switch that the port group is on")
        removal = line(*command, "remove", f"--portgroup-name={name}", f"--vswitch-name={vswitch}")
        return [f"if {_has_portgroup(name)}; then {removal}; fi"]
    lines = []
    if vswitch is not None:
        addition = line(*command, "add", f"--portgroup-name={name}", f"--vswitch-name={vswitch}")
        lines.append(unless(_has_portgroup(name), addition))
    if vlan is not None:
        lines.append(line(*command, "set", f"--portgroup-name={name}", f"--vlan-id={vlan}"))
    if not lines:
        owner.wrong(path, "has nothing to do; write vswitch (to create it) or vlan (to set it)")
    return lines


def _vmkernel(value: object, owner: Fields, path: str) -> Lines:
    """With ``portgroup`` the interface is added, without it an existing one (vmk0) is set."""
    fields = options(value, "interface", owner, path)
    interface = fields.need("interface", interface_name, "an interface such as vmk1") or ""
    portgroup = fields.get("portgroup", object_name, None)
    netstack = fields.get("netstack", matching(r"[A-Za-z][A-Za-z0-9_-]*", 40, "a TCP/IP stack such as vmotion"), None)
    mtu = fields.get("mtu", integer(1280, 9000), None)
    dhcp = fields.get("dhcp", boolean, False)
    address = fields.get("address", ipv4, None)
    prefix = fields.get("netmask", netmask_prefix, None)
    gateway = fields.get("gateway", ipv4, None)
    tags = fields.get("tags", list_of(_tag, most=16), ())
    fields.finish()
    if (address is None) != (prefix is None):
        owner.wrong(
            f"{path}.{'address' if address is None else 'netmask'}", "is missing; write address and netmask, or neither"
        )
    if dhcp and address is not None:
        owner.wrong(f"{path}.dhcp", "cannot be set together with address; write one of them")
    if gateway is not None and address is None:
        owner.wrong(f"{path}.gateway", "needs an address and a netmask; write them too")
    if netstack is not None and portgroup is None:
        owner.wrong(f"{path}.netstack", "is chosen when an interface is made; write portgroup too")
    command = ("esxcli", "network", "ip", "interface")
    which = f"--interface-name={interface}"
    lines: Lines = []
    if portgroup is not None:
        stack = () if netstack is None else (line(*command[:-1], "netstack", "add", f"--netstack={netstack}"),)
        # An interface of a stack that is not there yet: the stack is made with its first interface.
        lines.extend(f"{addition} 2>/dev/null || true" for addition in stack)
        extra = [] if netstack is None else [f"--netstack={netstack}"]
        extra += [] if mtu is None else [f"--mtu={mtu}"]
        seen = f"{line(*command, 'list')} | grep -qxF {interface}"
        lines.append(unless(seen, line(*command, "add", which, f"--portgroup-name={portgroup}", *extra)))
    if mtu is not None:
        lines.append(line(*command, "set", which, f"--mtu={mtu}"))
    if dhcp:
        lines.append(line(*command, "ipv4", "set", which, "--type=dhcp"))
    if address is not None and prefix is not None:
        words = [which, f"--ipv4={address}", f"--netmask={_mask(prefix)}", "--type=static"]
        if gateway is not None:
            words.append(f"--gateway={gateway}")
        lines.append(line(*command, "ipv4", "set", *words))
    for tag in tags:
        seen = f"{line(*command, 'tag', 'get', which)} | grep -qiw {tag}"
        lines.append(unless(seen, line(*command, "tag", "add", which, f"--tagname={tag}")))
    if not lines:
        owner.wrong(path, "has nothing to do; write portgroup, address, dhcp, mtu or tags")
    return lines


def _mask(prefix: int) -> str:
    return str(ipaddress.IPv4Address((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF))


def _route(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "", owner, path)
    network = fields.need("network", _subnet4, "a network such as 10.0.0.0/8")
    gateway = fields.need("gateway", ipv4, "the router's address")
    fields.finish()
    if network is None or gateway is None:
        return []
    command = ("esxcli", "network", "ip", "route", "ipv4")
    row = f"^{network.network_address} *{network.netmask} *{gateway} ".replace(".", "[.]")
    addition = line(*command, "add", f"--network={network}", f"--gateway={gateway}")
    return [unless(f"{line(*command, 'list')} | sed 's/$/ /' | grep -q '{row}'", addition)]


def _subnet4(value: object) -> ipaddress.IPv4Network:
    network = ipaddress.ip_network(subnet(value))
    if not isinstance(network, ipaddress.IPv4Network):
        raise Wrong(f"is {show(value)}; write an IPv4 network such as 10.0.0.0/8")
    return network


def _ipv6(value: object, owner: Fields, path: str) -> Lines:
    """In force after the next boot only, which is asked for when it was set otherwise."""
    enable = scalar(value, boolean, owner, path)
    if enable is None:
        return []
    other = f"'IPv6 Enabled: {on_off(not enable)}'"
    return [
        f"if esxcli network ip get | grep -q {other}; then {REBOOT}; fi",
        line("esxcli", "network", "ip", "set", f"--ipv6-enabled={on_off(enable)}"),
    ]


def _firewall(value: object, owner: Fields, path: str) -> Lines:
    fields = options(value, "ruleset", owner, path)
    ruleset = fields.need("ruleset", _ruleset, "a firewall ruleset's name such as ntpClient") or ""
    enabled = fields.get("enabled", boolean, True)
    allowed = fields.get("allowed", list_of(subnet, least=1, most=64), ())
    fields.finish()
    command = ("esxcli", "network", "firewall", "ruleset")
    which = f"--ruleset-id={ruleset}"
    lines = [line(*command, "set", which, f"--enabled={on_off(enabled)}")]
    if allowed:
        lines.append(line(*command, "set", which, "--allowed-all=false"))
        listing = line(*command, "allowedip", "list", which)
        for item in allowed:
            # One machine may be listed with or without its prefix length.
            alone = item.rsplit("/", 1)[0] if item.endswith(("/32", "/128")) else item
            seen = f"{listing} | tr ' ,' '\\n\\n' | grep -qxF {line('-e', item, '-e', alone)}"
            lines.append(unless(seen, line(*command, "allowedip", "add", which, f"--ip-address={item}")))
    return lines


def _tag(value: object) -> str:
    return matching("[A-Za-z][A-Za-z0-9]*", 40, "a tag such as vMotion, VSAN or Management")(value)


NETWORK: t.Mapping[str, Kind] = {
    "dns": Kind(_dns),
    "firewall": Kind(_firewall),
    "hostname": Kind(_hostname),
    "ipv6": Kind(_ipv6, "auto"),
    "portgroup": Kind(_portgroup),
    "route": Kind(_route),
    "vmkernel": Kind(_vmkernel),
    "vswitch": Kind(_vswitch),
}
