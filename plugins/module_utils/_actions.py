# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions, what is done on a host's first boot.

A typed action becomes shell text whose every value went through an allow-list and is quoted as one shell word besides.
The commands are those of ESXi 6.7 to 9.x, run by %firstboot on the installed system; where a version matters, the
function that writes the command says so.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import re
import shlex
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    advanced_option,
    boolean,
    choice,
    fqdn,
    integer,
    ipv4,
    list_of,
    matching,
    netmask_prefix,
    network_server,
    plain_text,
    script,
    show,
)

__all__ = ["ACTION_TYPES", "Action", "parse_action", "parse_actions", "with_firstboot_script"]

Lines = list[str]

# Names travel through shell, JSON and log files: no character of them means anything to any of the three.
_NAME = r"[A-Za-z0-9][A-Za-z0-9 ._:/+@#()&,=-]*"
_action_name = matching(
    _NAME, 100, "a name of letters, digits, blanks and ._:/+@#()&,=- that begins with a letter or digit"
)
_object_name = matching(
    _NAME, 80, "a name of letters, digits, blanks and ._:/+@#()&,=- that begins with a letter or digit"
)
_switch_name = matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", 31, "a switch's name such as vSwitch1")
_uplink = matching(r"vmnic[0-9]{1,4}", 9, "an uplink such as vmnic1")
_interface = matching(r"vmk[0-9]{1,3}", 6, "an interface such as vmk1")
_ruleset = matching(r"[A-Za-z][A-Za-z0-9_-]*", 64, "a firewall ruleset's name such as ntpClient")
_licence = matching(r"[0-9A-Z]{5}(?:-[0-9A-Z]{5}){4}", 29, "a licence key of five groups of five")
_depot = matching(
    r"(?:https?://[A-Za-z0-9]|/vmfs/volumes/)[A-Za-z0-9._~:/?#@!&()*+,;=%-]*",
    1024,
    "a URL (http:// or https://) or a path under /vmfs/volumes/, without blanks and quotes",
)
_log_host = matching(
    r"(?:udp|tcp|ssl)://(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    300,
    "a log host such as tcp://192.168.77.5:514",
)


@dataclasses.dataclass(frozen=True)
class Action:
    """One post action. ``script`` is shell text that ends in a newline, ``timeout`` is seconds.

    With ``ignore_errors`` its exit code is recorded, and the install counts as good all the same. With
    ``after_upgrade`` it is done after an upgrade as well, not after an install only.
    """

    kind: str
    name: str
    script: str
    ignore_errors: bool
    timeout: int
    after_upgrade: bool = False

    def shell(self) -> str:
        """The shell text that does it; the first command that fails ends a typed action."""
        return self.script


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _on_off(value: bool) -> str:
    return "true" if value else "false"


def _enabled(value: object) -> bool:
    if isinstance(value, str) and value in ("enabled", "disabled"):
        return value == "enabled"
    try:
        return boolean(value)
    except Wrong:
        raise Wrong(f"is {show(value)}; write enabled or disabled") from None


def _advanced(option: str, value: t.Union[int, str]) -> str:
    flag = f"--int-value={value}" if isinstance(value, int) else f"--string-value={value}"
    return _line("esxcli", "system", "settings", "advanced", "set", f"--option={option}", flag)


def _ssh_lines(enabled: bool) -> Lines:
    verbs = ("enable_ssh", "start_ssh") if enabled else ("stop_ssh", "disable_ssh")
    return [_line("vim-cmd", f"hostsvc/{verb}") for verb in verbs]


def _esx_shell_lines(enabled: bool) -> Lines:
    verbs = ("enable_esx_shell", "start_esx_shell") if enabled else ("stop_esx_shell", "disable_esx_shell")
    return [_line("vim-cmd", f"hostsvc/{verb}") for verb in verbs]


def _ssh(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "state", owner, path)
    state = fields.need("state", _enabled, "enabled or disabled")
    esx_shell = fields.get("shell", _enabled, None)
    suppress = fields.get("suppress_warning", boolean, None)
    fields.finish()
    lines = [] if state is None else _ssh_lines(state)
    if esx_shell is not None:
        lines.extend(_esx_shell_lines(esx_shell))
    if suppress is not None:
        lines.append(_advanced("/UserVars/SuppressShellWarning", int(suppress)))
    return lines


def _esx_shell(value: object, owner: Fields, path: str) -> Lines:
    state = _scalar(value, _enabled, owner, path)
    return [] if state is None else _esx_shell_lines(state)


def _suppress_shell_warning(value: object, owner: Fields, path: str) -> Lines:
    suppress = _scalar(value, boolean, owner, path)
    return [] if suppress is None else [_advanced("/UserVars/SuppressShellWarning", int(suppress))]


def _ntp(value: object, owner: Fields, path: str) -> Lines:
    """``esxcli system ntp`` exists from ESXi 7.0 on; on 6.7 the action fails and says so: use ``shell`` there."""
    fields = _options(value, "servers", owner, path)
    servers = fields.need("servers", list_of(network_server, least=1, most=16), "a list of NTP servers")
    enabled = fields.get("enabled", boolean, True)
    fields.finish()
    return [
        _line(
            "esxcli",
            "system",
            "ntp",
            "set",
            *(f"--server={server}" for server in servers or ()),
            f"--enabled={_on_off(enabled)}",
        )
    ]


def _dns(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "servers", owner, path)
    servers = fields.get("servers", list_of(_ip_address, most=3), ())
    search = fields.get("search", list_of(network_server, most=16), ())
    fields.finish()
    if not servers and not search:
        owner.wrong(path, "has nothing to do; write servers or search")
    lines = [_line("esxcli", "network", "ip", "dns", "server", "add", f"--server={server}") for server in servers]
    lines.extend(_line("esxcli", "network", "ip", "dns", "search", "add", f"--domain={domain}") for domain in search)
    return lines


def _syslog(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "hosts", owner, path)
    hosts = fields.need(
        "hosts", list_of(_log_host, least=1, most=8), "a list of log hosts such as tcp://192.168.77.5:514"
    )
    fields.finish()
    return [
        _line("esxcli", "system", "syslog", "config", "set", f"--loghost={','.join(hosts or ())}"),
        _line("esxcli", "network", "firewall", "ruleset", "set", "--ruleset-id=syslog", "--enabled=true"),
        _line("esxcli", "system", "syslog", "reload"),
    ]


def _hostname(value: object, owner: Fields, path: str) -> Lines:
    name = _scalar(value, fqdn, owner, path)
    return [] if name is None else [_line("esxcli", "system", "hostname", "set", f"--fqdn={name}")]


def _vswitch(value: object, owner: Fields, path: str) -> Lines:
    """``create`` is true but for vSwitch0, which every installation has."""
    fields = _options(value, "name", owner, path)
    name = fields.need("name", _switch_name, "a switch's name such as vSwitch1") or ""
    uplinks = fields.get("uplinks", list_of(_uplink, most=32), ())
    mtu = fields.get("mtu", integer(1280, 9000), None)
    create = fields.get("create", boolean, name != "vSwitch0")
    fields.finish()
    command = ("esxcli", "network", "vswitch", "standard")
    lines = [_line(*command, "add", f"--vswitch-name={name}")] if create else []
    if mtu is not None:
        lines.append(_line(*command, "set", f"--vswitch-name={name}", f"--mtu={mtu}"))
    lines.extend(
        _line(*command, "uplink", "add", f"--vswitch-name={name}", f"--uplink-name={uplink}") for uplink in uplinks
    )
    if not lines:
        owner.wrong(path, "has nothing to do; write uplinks, mtu or create: true")
    return lines


def _portgroup(value: object, owner: Fields, path: str) -> Lines:
    """With ``vswitch`` the port group is added (or, with state absent, removed), without it an existing one is set."""
    fields = _options(value, "name", owner, path)
    name = fields.need("name", _object_name, "the port group's name") or ""
    vswitch = fields.get("vswitch", _switch_name, None)
    vlan = fields.get("vlan", integer(0, 4095), None)
    state = fields.get("state", choice("present", "absent"), "present")
    fields.finish()
    command = ("esxcli", "network", "vswitch", "standard", "portgroup")
    if state == "absent":
        if vswitch is None:
            owner.wrong(f"{path}.vswitch", "is missing; write the switch that the port group is on")
        return [_line(*command, "remove", f"--portgroup-name={name}", f"--vswitch-name={vswitch}")]
    lines = [] if vswitch is None else [_line(*command, "add", f"--portgroup-name={name}", f"--vswitch-name={vswitch}")]
    if vlan is not None:
        lines.append(_line(*command, "set", f"--portgroup-name={name}", f"--vlan-id={vlan}"))
    if not lines:
        owner.wrong(path, "has nothing to do; write vswitch (to create it) or vlan (to set it)")
    return lines


def _vmkernel(value: object, owner: Fields, path: str) -> Lines:
    """With ``portgroup`` the interface is added, without it an existing one (vmk0) is set."""
    fields = _options(value, "interface", owner, path)
    interface = fields.need("interface", _interface, "an interface such as vmk1") or ""
    portgroup = fields.get("portgroup", _object_name, None)
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
    command = ("esxcli", "network", "ip", "interface")
    lines = []
    if portgroup is not None:
        extra = [] if mtu is None else [f"--mtu={mtu}"]
        lines.append(_line(*command, "add", f"--interface-name={interface}", f"--portgroup-name={portgroup}", *extra))
    elif mtu is not None:
        lines.append(_line(*command, "set", f"--interface-name={interface}", f"--mtu={mtu}"))
    if dhcp:
        lines.append(_line(*command, "ipv4", "set", f"--interface-name={interface}", "--type=dhcp"))
    if address is not None and prefix is not None:
        mask = ipaddress.IPv4Address((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
        words = [f"--interface-name={interface}", f"--ipv4={address}", f"--netmask={mask}", "--type=static"]
        if gateway is not None:
            words.append(f"--gateway={gateway}")
        lines.append(_line(*command, "ipv4", "set", *words))
    lines.extend(_line(*command, "tag", "add", f"--interface-name={interface}", f"--tagname={tag}") for tag in tags)
    if not lines:
        owner.wrong(path, "has nothing to do; write portgroup, address, dhcp, mtu or tags")
    return lines


def _route(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "", owner, path)
    network = fields.need("network", _subnet, "a network such as 10.0.0.0/8")
    gateway = fields.need("gateway", ipv4, "the router's address")
    fields.finish()
    return [_line("esxcli", "network", "ip", "route", "ipv4", "add", f"--network={network}", f"--gateway={gateway}")]


def _advanced_action(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "", owner, path)
    option = fields.need("option", advanced_option, "an option's path such as /UserVars/SuppressShellWarning")
    setting = fields.need("value", _advanced_value, "a whole number or a text")
    fields.finish()
    return [] if option is None or setting is None else [_advanced(option, setting)]


def _vib(value: object, owner: Fields, path: str) -> Lines:
    """Driver VIBs normally become active at the next boot only."""
    fields = _options(value, "url", owner, path)
    url = fields.get("url", _depot, None)
    depot = fields.get("depot", _depot, None)
    name = fields.get("vib_name", _object_name, None)
    extra = [f"--vibname={name}"] if name is not None else []
    extra.extend(
        flag
        for key, flag in (
            ("force", "--force"),
            ("no_signature_check", "--no-sig-check"),
            ("no_live_install", "--no-live-install"),
        )
        if fields.get(key, boolean, False)
    )
    fields.finish()
    if fields.has("url") == fields.has("depot"):
        owner.wrong(path, "needs exactly one of url and depot; write one")
    source = f"--viburl={url}" if url is not None else f"--depot={depot}"
    return [_line("esxcli", "software", "vib", "install", source, *extra)]


def _component(value: object, owner: Fields, path: str) -> Lines:
    """``esxcli software component`` exists from ESXi 7.0 on; on 6.7 use ``vib``."""
    fields = _options(value, "url", owner, path)
    url = fields.need("url", _depot, "the URL or path of the component's depot (ZIP)")
    name = fields.get("component_name", _object_name, None)
    fields.finish()
    extra = [] if name is None else [f"--component={name}"]
    return [_line("esxcli", "software", "component", "apply", f"--depot={url}", *extra)]


def _image_profile(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "", owner, path)
    url = fields.need("url", _depot, "the URL or path of the depot (ZIP)")
    profile = fields.need("profile", _object_name, "the image profile's name in that depot")
    fields.finish()
    return [_line("esxcli", "software", "profile", "update", f"--depot={url}", f"--profile={profile}")]


def _maintenance_mode(value: object, owner: Fields, path: str) -> Lines:
    enable = _scalar(value, boolean, owner, path)
    return (
        [] if enable is None else [_line("esxcli", "system", "maintenanceMode", "set", f"--enable={_on_off(enable)}")]
    )


def _ipv6(value: object, owner: Fields, path: str) -> Lines:
    """In force after the next boot only."""
    enable = _scalar(value, boolean, owner, path)
    return [] if enable is None else [_line("esxcli", "network", "ip", "set", f"--ipv6-enabled={_on_off(enable)}")]


def _firewall(value: object, owner: Fields, path: str) -> Lines:
    fields = _options(value, "ruleset", owner, path)
    ruleset = fields.need("ruleset", _ruleset, "a firewall ruleset's name such as ntpClient")
    enabled = fields.get("enabled", boolean, True)
    allowed = fields.get("allowed", list_of(_subnet, least=1, most=64), ())
    fields.finish()
    command = ("esxcli", "network", "firewall", "ruleset")
    lines = [_line(*command, "set", f"--ruleset-id={ruleset}", f"--enabled={_on_off(enabled)}")]
    if allowed:
        lines.append(_line(*command, "set", f"--ruleset-id={ruleset}", "--allowed-all=false"))
        lines.extend(
            _line(*command, "allowedip", "add", f"--ruleset-id={ruleset}", f"--ip-address={item}") for item in allowed
        )
    return lines


def _ceip(value: object, owner: Fields, path: str) -> Lines:
    """The option's values are 1 (takes part) and 2 (does not)."""
    take_part = _scalar(value, boolean, owner, path)
    return [] if take_part is None else [_advanced("/UserVars/HostClientCEIPOptIn", 1 if take_part else 2)]


def _certificates(value: object, owner: Fields, path: str) -> Lines:
    """Services keep the old certificate until restarted, and the one that pbconnect reports must be the one in use.

    6.7 and 7.0 answer on port 443 with rhttpproxy, later versions with others: restarted where present.
    """
    if _scalar(value, choice("regenerate"), owner, path) is None:
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
    return [] if key is None else [_line("vim-cmd", "vimsvc/license", "--set", key)]


def _ip_address(value: object) -> str:
    server = network_server(value)
    try:
        return str(ipaddress.ip_address(server))
    except ValueError:
        raise Wrong(f"is {show(server)}; write an IP address") from None


def _subnet(value: object) -> str:
    try:
        if isinstance(value, str):
            return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    raise Wrong(f"is {show(value)}; write a network such as 192.168.77.0/24 (no host bits set) or an IP address")


def _tag(value: object) -> str:
    return matching("[A-Za-z][A-Za-z0-9]*", 40, "a tag such as vMotion, VSAN or Management")(value)


def _advanced_value(value: object) -> t.Union[int, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return integer(-(2**63), 2**63 - 1)(value)
    return plain_text(1024)(value)


def _scalar(value: object, check: t.Callable[[object], t.Any], owner: Fields, path: str) -> t.Any:
    try:
        return check(value)
    except Wrong as wrong:
        owner.wrong(path, str(wrong))
        return None


def _options(value: object, main: str, owner: Fields, path: str) -> Fields:
    """The action's mapping; where there is one main option its value alone will do (``vib: URL``)."""
    if main and value is not None and not isinstance(value, t.Mapping):
        value = {main: value}
    return Fields(value, owner.label, f"{path}.", owner.errors)


_Parser = t.Callable[[object, Fields, str], Lines]

_TYPED: dict[str, _Parser] = {
    "advanced": _advanced_action,
    "ceip": _ceip,
    "certificates": _certificates,
    "component": _component,
    "dns": _dns,
    "esx_shell": _esx_shell,
    "firewall": _firewall,
    "hostname": _hostname,
    "image_profile": _image_profile,
    "ipv6": _ipv6,
    "license": _license,
    "maintenance_mode": _maintenance_mode,
    "ntp": _ntp,
    "portgroup": _portgroup,
    "route": _route,
    "ssh": _ssh,
    "suppress_shell_warning": _suppress_shell_warning,
    "syslog": _syslog,
    "vib": _vib,
    "vmkernel": _vmkernel,
    "vswitch": _vswitch,
}
ACTION_TYPES: tuple[str, ...] = ("shell", *sorted(_TYPED))


def parse_action(value: object, owner: Fields, path: str) -> t.Optional[Action]:
    """One post action; None after a mistake, which is noted in ``owner``."""
    before = len(owner.errors)
    fields = Fields(value, owner.label, f"{path}.", owner.errors)
    kinds = [kind for kind in ACTION_TYPES if fields.has(kind)]
    name = fields.get("name", _action_name, None)
    ignore_errors = fields.get("ignore_errors", boolean, False)
    timeout = fields.get("timeout", integer(1, 86400), 900)
    after_upgrade = fields.get("after_upgrade", boolean, False)
    fields.finish()
    if len(owner.errors) > before:
        return None
    if len(kinds) != 1:
        what = f"has {' and '.join(kinds)}" if kinds else "has no type"
        owner.wrong(path, f"{what}; write exactly one of {', '.join(ACTION_TYPES)}")
        return None
    kind = kinds[0]
    if kind == "shell":
        text = _scalar(fields.raw(kind), script, owner, f"{path}.shell") or ""
    else:
        lines = _TYPED[kind](fields.raw(kind), owner, f"{path}.{kind}")
        text = "\n".join(["set -e", *lines]) + "\n"
    if len(owner.errors) > before:
        return None
    return Action(
        kind=kind,
        name=name or _default_name(kind, fields.raw(kind)),
        script=text,
        ignore_errors=ignore_errors,
        timeout=timeout,
        after_upgrade=after_upgrade,
    )


def _default_name(kind: str, value: object) -> str:
    """``vswitch vSwitch1``: enough to tell which of several it was. Never a licence key."""
    if not isinstance(value, t.Mapping):
        return kind
    for key in ("name", "interface", "option", "ruleset", "network"):
        main = value.get(key)
        if isinstance(main, str) and re.match(_NAME + r"\Z", main.lstrip("/")):
            return f"{kind} {main.lstrip('/')}"[:100]
    return kind


def parse_actions(value: object, owner: Fields) -> tuple[Action, ...]:
    """All post actions, in order; names that would be alike get a number."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        owner.wrong("post_actions", "is no list; write a list of mappings such as - ssh: enabled")
        return ()
    if len(value) > 200:
        owner.wrong("post_actions", f"has {len(value)} items; write at most 200")
        return ()
    actions: list[Action] = []
    taken: set[str] = set()
    for position, item in enumerate(value):
        action = parse_action(item, owner, f"post_actions[{position}]")
        if action is None:
            continue
        names = itertools.chain((action.name,), (f"{action.name} #{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        actions.append(dataclasses.replace(action, name=name))
    return tuple(actions)


def with_firstboot_script(actions: t.Sequence[Action], own: t.Optional[str]) -> tuple[Action, ...]:
    """The post actions, and the kickstart's own first boot script, if there is one, as the last of them."""
    if own is None:
        return tuple(actions)
    last = Action(kind="shell", name="firstboot script", script=own, ignore_errors=False, timeout=86400)
    return (*actions, last)
