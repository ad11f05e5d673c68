# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kickstarts of any definition: refused with a clear sentence, or good by the installer's rules and as asked for.

Every text is rendered with the role's template by the action's own code. What the post actions and scripts do is seen
by running the sections: stand-ins record their arguments, so that text which stops to be data shows.
"""

from __future__ import annotations

import copy
import itertools
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import types

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.action import esxi_kickstart
from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import ACTION_TYPES
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import show
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import Deadlines
from ansible_collections.pxemanager.esxi.tests.support.kickstart_rules import COMMANDS, MOST_COMMANDS, check, read

BUSYBOX = shutil.which("busybox")
HASH = f"$6$saltsalt${'a' * 86}"
UUID = "5e7d1c2a-93b1f0aa-4c11-005056aa0101"
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def bounded(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=SLOW,
        # A failure is reported as it is found: making it smaller takes minutes.
        phases=[Phase.explicit, Phase.generate],
    )


# --- from a definition to its kickstarts ------------------------------------------------------------------------------


def _no_needle(*_arguments):
    raise AnsibleError("the play has no template of that name")


def template():
    loader = DataLoader()
    loader.set_basedir("/nowhere")
    action = types.SimpleNamespace(_loader=loader, _templar=Templar(loader=loader), _find_needle=_no_needle)
    return esxi_kickstart.KickstartTemplate(action, "ks.cfg.j2", {})


TEMPLATE = template()


def render(definition):
    """(host, {mac: kickstart}, sentences): either there are kickstarts or there are sentences."""
    parsed = parse_hosts([definition])
    if parsed.errors:
        assert not parsed.hosts
        return None, {}, [sentence for sentences in parsed.errors.values() for sentence in sentences]
    (host,) = parsed.hosts.values()
    try:
        hashed = esxi_kickstart._password_hash(
            host, {"root_passwords": None, "root_password": None, "root_password_hash": HASH}
        )
        return host, TEMPLATE.render(host, hashed, Deadlines()), []
    except esxi_kickstart.NotRendered as reason:
        return host, {}, reason.reasons


# --- what the definition asks for, in this file's own words -----------------------------------------------------------


def true(value):
    return value is True or str(value).strip().lower() in ("true", "yes", "on", "1", "y", "t")


def many(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def mac_of(value):
    digits = re.sub("[^0-9a-f]", "", value.lower())
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


def first(option, value):
    return {option: ",".join(many(value)) or None}


def mask_of(prefix):
    bits = "1" * prefix + "0" * (32 - prefix)
    return ".".join(str(int(bits[place : place + 8], 2)) for place in range(0, 32, 8))


def expected_commands(definition):
    """[(name, words, options)] of all commands, in the order in which they must come."""
    network, disk = definition["network"], definition["disk"]
    kickstart = {key: value for key, value in (definition.get("kickstart") or {}).items() if value is not None}
    command = kickstart.get("command", "install")
    fresh = command != "upgrade"
    lines = [("vmaccepteula", [], {})]
    lines.extend((word, [], {}) for word in ("paranoid", "dryrun") if true(kickstart.get(word)))
    if fresh:
        lines.append(("rootpw", [HASH], {"--iscrypted": None}))
    overwrite = {"--overwritevmfs": None} if disk.get("existing_vmfs") == "overwrite" else {}
    cleared = kickstart.get("clearpart")
    if cleared is not None:
        options = {}
        for key, option in (("drives", "--drives"), ("ignore_drives", "--ignoredrives"), ("first", "--firstdisk")):
            if cleared.get(key) is not None:
                options = first(option, cleared[key])
        lines.append(("clearpart", [], {**(options or {"--alldrives": None}), **overwrite}))
    if disk.get("device") is not None:
        options = {"--disk": disk["device"]}
    elif disk.get("first") is not None:
        options = first("--firstdisk", disk["first"])
    else:
        options = {"--diskBootedFrom": None, "--savebootbank": kickstart["save_bootbank"]}
    options.update(overwrite)
    if disk.get("existing_vmfs") == "preserve":
        options["--preservevmfs"] = None
    if disk.get("create_vmfs") is not None and not true(disk["create_vmfs"]):
        options["--novmfsondisk"] = None
    for place, key, option in (
        (disk, "overwrite_vsan", "--overwritevsan"),
        (disk, "ignore_ssd", "--ignoressd"),
        (disk, "force_unsupported", "--forceunsupportedinstall"),
        (kickstart, "force_migrate", "--forcemigrate"),
        (kickstart, "ignore_prereq_warnings", "--ignoreprereqwarnings"),
        (kickstart, "ignore_prereq_errors", "--ignoreprereqerrors"),
    ):
        if true(place.get(key)):
            options[option] = None
    lines.append((command, [], options))
    if fresh:
        for partition in kickstart.get("partitions", ()):
            if partition.get("disk") is not None:
                options = {"--ondisk": partition["disk"]}
            else:
                options = first("--onfirstdisk", partition["first"])
            lines.append(("part", [partition["name"]], options))
        lines.append(("network", [], expected_network(definition, network)))
        if "keyboard" in kickstart:
            lines.append(("keyboard", [kickstart["keyboard"]], {}))
        if "serial_number" in kickstart:
            lines.append(("serialnum", [], {"--esx": kickstart["serial_number"]}))
    for line in many(kickstart.get("extra_commands", [])):
        words = shlex.split(line)
        options = (word.partition("=") for word in words[1:] if word.startswith("--"))
        lines.append(
            (
                words[0],
                [word for word in words[1:] if not word.startswith("--")],
                {name: value if equals else None for name, equals, value in options},
            )
        )
    lines.append(("reboot", [], {"--noeject": None} if true(kickstart.get("no_eject")) else {}))
    return lines


def expected_network(definition, network):
    nic = network.get("nic") or definition["macs"][0]
    options = {
        "--bootproto": network.get("bootproto") or "static",
        "--device": nic if nic.startswith("vmnic") else mac_of(nic),
        "--addvmportgroup": str(int(true(network.get("vm_portgroup")))),
    }
    if options["--bootproto"] == "static":
        address, _slash, prefix = network["address"].partition("/")
        options.update({"--ip": address, "--netmask": mask_of(int(prefix)) if prefix else network["netmask"]})
        options["--hostname"] = definition["name"].lower()
        if network.get("gateway") is not None:
            options["--gateway"] = network["gateway"]
        if network.get("nameservers"):
            options["--nameserver"] = ",".join(many(network["nameservers"]))
    if int(network.get("vlan") or 0):
        options["--vlanid"] = str(int(network["vlan"]))
    if true(network.get("nodns")):
        options["--nodns"] = None
    return options


def assert_good(definition, texts):
    """The installer takes it, and it says what the definition says and no more."""
    extra = many((definition.get("kickstart") or {}).get("extra_commands") or [])
    assert list(texts) == [mac_of(mac) for mac in many(definition["macs"])]
    for text in texts.values():
        assert check(text, unknown=[line.rstrip() for line in extra]) == []
        kickstart = read(text)
        found = [(line.words[0], list(line.arguments), dict(line.options)) for line in kickstart.commands]
        assert found == expected_commands(definition)
        assert [script.opening.name for script in kickstart.scripts] == ["%pre", "%post", "%firstboot"]


# --- strategies -------------------------------------------------------------------------------------------------------

NASTY = (
    *(
        "\n",
        "\n\n",
        "\t",
        "\r",
        "\x00",
        "\x1b[2J",
        "\x0b",
        "\x0c",
        "\x7f",
        "\x85",
        "\u2028",
        "\u00e9",
        "\U0001f4a5",
        "\ud800",
    ),
    *("'", '"', "\\", "\\\n", "`touch pwned`", "$(touch pwned)", "${HOME}", "$0", "$", "!", "#", "~", "*", "?", "[a"),
    *("'; touch pwned; '", "; touch pwned", "&& touch pwned", "| touch pwned", "> pwned", "\ntouch pwned\n", "&"),
    *("%firstboot", "\n%firstboot --interpreter=busybox\n", "\n%pre\n", "%post", "\n%include /tmp/x\n", "%", "%s%d"),
    *("PB_END", "\nPB_END\n", "|", "\n|", "\n|PB_END\n", "<<'PB_END'\n", "<<E\n", "EOF"),
    *("{{ 7 * 7 }}", "{% raw %}", "{% endraw %}", "{#", "#}", "\nreboot\n", "install --alldrives", "--overwritevmfs"),
    *(" ", "  ", "-", "--", "=", ",", "/", "..", "a", "Z", "9", "A" * 5000, "\nrootpw x\n", "a.example.com"),
)
hostile_text = st.lists(st.sampled_from(NASTY) | st.text(max_size=4), min_size=1, max_size=4).map("".join)
hostile_value = st.one_of(
    hostile_text,
    st.integers(),
    st.sampled_from([10**5000, -1, 0, 2**63, 1.5, float("nan"), True, False, b"a\nb", [], {}, [None], [["a"]]]),
    st.lists(hostile_text, max_size=2),
    st.dictionaries(hostile_text, hostile_text, max_size=2),
)


def fully(pattern):
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)


def maybe(**options):
    return st.fixed_dictionaries({}, optional=options)


label = fully("[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?")
dns_name = st.builds("{}.{}.example.com".format, label, label)
octet = st.integers(0, 255)
host_octet = st.integers(1, 254)
address = st.builds("10.{}.{}.{}".format, octet, octet, host_octet)
unicast = st.lists(st.integers(0, 255), min_size=5, max_size=5).map(
    lambda rest: "02:" + ":".join(f"{number:02x}" for number in rest)
)
disk_name = fully(r"(/vmfs/devices/disks/)?[A-Za-z0-9][A-Za-z0-9._:+-]{0,30}")
first_word = st.sampled_from(["local", "remote", "usb", "LOGICAL VOLUME", "ST3120814A"]) | fully(
    r"[A-Za-z0-9]([A-Za-z0-9 ._+/-]{0,14}[A-Za-z0-9._+/-])?"
)
first_words = st.lists(first_word, max_size=3) | first_word
serial = fully("[0-9A-Z]{5}(-[0-9A-Z]{5}){4}")
# Every character that a name or a value may have: those that mean something to a shell among them.
object_name = fully(r"[A-Za-z0-9][A-Za-z0-9 ._:/+@#()&,=-]{0,30}")
switch = fully(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}")
depot = fully(r"(https?://[A-Za-z0-9]|/vmfs/volumes/)[A-Za-z0-9._~:/?#@!&()*+,;=%-]{0,40}")
volume = fully(r"[A-Za-z0-9][A-Za-z0-9._() -]{0,20}")
volume_folder = fully(r"/vmfs/volumes/[A-Za-z0-9][A-Za-z0-9 ._()-]{0,10}(/[.]?[A-Za-z0-9_][A-Za-z0-9._-]{0,8}){1,2}")
CORE = ("system", "coredump", "network", "set")
plain = fully(r"[!#-&(-\[\]-_a-~]([ !#-&(-\[\]-_a-~]{0,30}[!#-&(-\[\]-_a-~])?")
flag = st.booleans()


@st.composite
def networks(draw, macs):
    network = draw(maybe(vlan=st.integers(0, 4094), vm_portgroup=flag, nodns=flag))
    network.update(draw(maybe(nic=st.sampled_from([*macs, "vmnic0", "vmnic31"]))))
    if draw(st.integers(0, 3)) == 0:
        network["bootproto"] = "dhcp"
        return {**network, **draw(maybe(address=address.map("{}/24".format)))}
    own, other = draw(st.lists(host_octet, min_size=2, max_size=2, unique=True))
    base = draw(st.builds("10.{}.{}".format, octet, octet))
    if draw(flag):
        network["address"] = f"{base}.{own}/{draw(st.sampled_from([8, 16, 24]))}"
    else:
        network.update(address=f"{base}.{own}", netmask=draw(st.sampled_from(["255.255.255.0", "255.0.0.0"])))
    extra = {"gateway": st.just(f"{base}.{other}"), "nameservers": st.lists(address, max_size=2)}
    return {**network, **draw(maybe(**extra, bootproto=st.just("static"), boot_address=st.just(f"{base}.{own}")))}


extra_command = st.builds(
    "{} {}".format,
    st.sampled_from(["%include", "include"]),
    fully(r"/tmp/[A-Za-z0-9._/-]{1,20}"),
) | st.builds("future{} --option={}".format, fully("[a-z]{0,5}"), fully("[A-Za-z0-9,._-]{1,10}"))


@st.composite
def shell_scripts(draw):
    """(script, [the arguments of the stand-in ``report``]): any text that a script may hold, in quotes of some kind."""
    pieces = [piece for piece in NASTY if re.fullmatch(r"[\n\t -~]*", piece) and "overwritevmfs" not in piece]
    lines, calls = [], []
    for _number in range(draw(st.integers(1, 3))):
        text = "".join(draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=4)))
        form = draw(st.sampled_from(["word", "here"]))
        if form == "here" and "E_N_D" not in text:
            # A command's output loses its newlines at the end: the x keeps them.
            lines.append(f"report \"$(cat <<'E_N_D'\n{text}x\nE_N_D\n)\"")
            calls.append(["report", text + "x"])
        else:
            lines.append(f"report {shlex.quote(text)}")
            calls.append(["report", text])
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"])), calls


def esxcli(*words):
    return ["esxcli", *words]


def advanced_call(option, value):
    kind = "int" if isinstance(value, int) else "string"
    return esxcli("system", "settings", "advanced", "set", f"--option={option}", f"--{kind}-value={value}")


def vim(*verbs):
    return [["vim-cmd", f"hostsvc/{verb}"] for verb in verbs]


def word(value):
    return str(value).lower()


def on_off(value, long):
    return f"--{long}={word(value)}"


@st.composite
def ssh_action(draw):
    value = {"state": draw(st.sampled_from(["enabled", "disabled"])), **draw(maybe(suppress_warning=flag, shell=flag))}
    calls = vim("enable_ssh", "start_ssh") if value["state"] == "enabled" else vim("stop_ssh", "disable_ssh")
    if "shell" in value:
        verbs = ("enable_esx_shell", "start_esx_shell") if value["shell"] else ("stop_esx_shell", "disable_esx_shell")
        calls = calls + vim(*verbs)
    if "suppress_warning" in value:
        calls = [*calls, advanced_call("/UserVars/SuppressShellWarning", int(value["suppress_warning"]))]
    return value, calls


@st.composite
def vswitch_action(draw):
    value = {"name": draw(switch.filter(lambda name: name != "vSwitch0"))}
    value.update(draw(maybe(uplinks=st.lists(fully("vmnic[0-9]{1,2}"), max_size=3), mtu=st.integers(1280, 9000))))
    command = ("network", "vswitch", "standard")
    name = f"--vswitch-name={value['name']}"
    calls = [esxcli(*command, "add", name)]
    if "mtu" in value:
        calls.append(esxcli(*command, "set", name, f"--mtu={value['mtu']}"))
    calls.extend(esxcli(*command, "uplink", "add", name, f"--uplink-name={nic}") for nic in value.get("uplinks", ()))
    return value, calls


@st.composite
def portgroup_action(draw):
    value = {"name": draw(object_name), "vswitch": draw(switch)}
    value.update(draw(maybe(vlan=st.integers(0, 4095), state=st.sampled_from(["present", "absent"]))))
    command = ("network", "vswitch", "standard", "portgroup")
    both = (f"--portgroup-name={value['name']}", f"--vswitch-name={value['vswitch']}")
    if value.get("state") == "absent":
        # The stand-in shows none, so there is nothing to remove.
        return value, []
    calls = [esxcli(*command, "add", *both)]
    if "vlan" in value:
        calls.append(esxcli(*command, "set", both[0], f"--vlan-id={value['vlan']}"))
    return value, calls


@st.composite
def vmkernel_action(draw):
    value = {"interface": draw(fully("vmk[0-9]{1,2}")), "portgroup": draw(object_name)}
    value.update(draw(maybe(mtu=st.integers(1280, 9000), tags=st.lists(fully("[A-Za-z][A-Za-z0-9]{0,8}"), max_size=2))))
    command, name = ("network", "ip", "interface"), f"--interface-name={value['interface']}"
    more = [f"--mtu={value['mtu']}"] if "mtu" in value else []
    calls = [esxcli(*command, "add", name, f"--portgroup-name={value['portgroup']}", *more)]
    calls += [esxcli(*command, "set", name, *more)] if more else []
    if draw(flag):
        value.update(address=draw(address), netmask="255.255.252.0", **draw(maybe(gateway=address)))
        gateway = [f"--gateway={value['gateway']}"] if "gateway" in value else []
        words = (f"--ipv4={value['address']}", "--netmask=255.255.252.0", "--type=static", *gateway)
        calls.append(esxcli(*command, "ipv4", "set", name, *words))
    elif draw(flag):
        value["dhcp"] = True
        calls.append(esxcli(*command, "ipv4", "set", name, "--type=dhcp"))
    calls.extend(esxcli(*command, "tag", "add", name, f"--tagname={tag}") for tag in value.get("tags", ()))
    return value, calls


@st.composite
def vib_action(draw):
    source, option = draw(st.sampled_from([("url", "--viburl"), ("depot", "--depot")]))
    value = {source: draw(depot)}
    flags = {"force": "--force", "no_signature_check": "--no-sig-check", "no_live_install": "--no-live-install"}
    value.update(draw(maybe(vib_name=object_name, **dict.fromkeys(flags, flag))))
    words = [f"{option}={value[source]}"]
    if "vib_name" in value:
        words.append(f"--vibname={value['vib_name']}")
    words.extend(flags[key] for key in ("force", "no_live_install", "no_signature_check") if value.get(key))
    return value, [esxcli("software", "vib", "install", *words)]


@st.composite
def firewall_action(draw):
    value = {"ruleset": draw(fully("[A-Za-z][A-Za-z0-9_-]{0,10}")), **draw(maybe(enabled=flag))}
    allowed = draw(st.lists(st.builds("10.{}.0.0/16".format, octet), max_size=2))
    command, rule = ("network", "firewall", "ruleset"), f"--ruleset-id={value['ruleset']}"
    calls = [esxcli(*command, "set", rule, on_off(value.get("enabled", True), "enabled"))]
    if allowed:
        value["allowed"] = allowed
        calls.append(esxcli(*command, "set", rule, "--allowed-all=false"))
        calls.extend(esxcli(*command, "allowedip", "add", rule, f"--ip-address={net}") for net in allowed)
    return value, calls


def scalar(values, call):
    return values.map(lambda value: (value, call(value)))


@st.composite
def dns_action(draw):
    servers = draw(st.lists(address, min_size=1, max_size=3))
    search = draw(st.lists(dns_name, max_size=2))
    calls = [esxcli("network", "ip", "dns", "server", "add", f"--server={server}") for server in servers]
    calls.extend(esxcli("network", "ip", "dns", "search", "add", f"--domain={name}") for name in search)
    return {"servers": servers, "search": search}, calls


log_host = st.builds("{}://{}:{}".format, st.sampled_from(["udp", "tcp", "ssl"]), address | dns_name, host_octet)
ADVANCED = fully(r"/[A-Za-z0-9]{1,8}([/.][A-Za-z0-9_-]{1,8}){1,2}")

TYPED = {
    "advanced": st.builds(
        lambda option, value: ({"option": option, "value": value}, [advanced_call(option, value)]),
        ADVANCED,
        plain | st.integers(-(2**63), 2**63 - 1),
    ),
    "ceip": scalar(flag, lambda on: [advanced_call("/UserVars/HostClientCEIPOptIn", 1 if on else 2)]),
    "certificates": scalar(st.just("regenerate"), lambda _value: [["generate-certificates"]]),
    "component": st.builds(
        lambda url, name: (
            {"depot": url, "component_name": name},
            [esxcli("software", "component", "apply", f"--depot={url}", *([f"--component={name}"] if name else []))],
        ),
        depot,
        st.none() | object_name,
    ),
    "coredump": st.builds(
        lambda server, port: (
            {"server": server, "port": port},
            [
                esxcli(*CORE, "--interface-name=vmk0", f"--server-ip={server}", f"--server-port={port}"),
                esxcli(*CORE, "--enable=true"),
            ],
        ),
        address,
        st.integers(1, 65535),
    ),
    "datastore": st.builds(
        lambda name, new: (
            {"name": name, "new_name": new},
            [["vim-cmd", "hostsvc/datastore/rename", name, new]],
        ),
        volume,
        volume,
    ),
    "depot": depot.map(lambda url: (url, [esxcli("software", "component", "apply", f"--depot={url}")])),
    "dns": dns_action(),
    "esx_shell": scalar(
        st.sampled_from(["enabled", "disabled"]),
        lambda state: (
            vim("enable_esx_shell", "start_esx_shell")
            if state == "enabled"
            else vim("stop_esx_shell", "disable_esx_shell")
        ),
    ),
    "firewall": firewall_action(),
    "hostname": scalar(dns_name, lambda name: [esxcli("system", "hostname", "set", f"--fqdn={name}")]),
    "ipv6": scalar(flag, lambda on: [esxcli("network", "ip", "set", on_off(on, "ipv6-enabled"))]),
    "kernel_setting": st.builds(
        lambda name, value: (
            {"name": name, "value": value},
            [esxcli("system", "settings", "kernel", "set", f"--setting={name}", f"--value={value}")],
        ),
        fully("[A-Za-z][A-Za-z0-9_]{0,10}"),
        st.integers(0, 9999),
    ),
    "license": scalar(serial, lambda key: [["vim-cmd", "vimsvc/license", "--set", key]]),
    "maintenance_mode": scalar(flag, lambda on: [esxcli("system", "maintenanceMode", "set", on_off(on, "enable"))]),
    "module_parameters": st.builds(
        lambda name, value: (
            {"module": name, "parameters": f"a={value} b=1,2"},
            [
                esxcli(
                    *("system", "module", "parameters", "set"),
                    *(f"--module={name}", f"--parameter-string=a={value} b=1,2"),
                )
            ],
        ),
        fully("[A-Za-z][A-Za-z0-9_-]{0,10}"),
        st.integers(0, 9999),
    ),
    "nfs": st.builds(
        lambda name, server, share: (
            {"name": name, "server": server, "share": share},
            [esxcli("storage", "nfs", "add", f"--host={server}", f"--share={share}", f"--volume-name={name}")],
        ),
        volume,
        address | dns_name,
        fully("/[A-Za-z0-9._/-]{0,20}"),
    ),
    "ntp": st.builds(
        lambda servers, on: (
            {"servers": servers, "enabled": on},
            [esxcli("system", "ntp", "set", *(f"--server={name}" for name in servers), on_off(on, "enabled"))],
        ),
        st.lists(address | dns_name, min_size=1, max_size=3),
        flag,
    ),
    "portgroup": portgroup_action(),
    "power_policy": st.just(("low", [advanced_call("/Power/CpuPolicy", "Low Power")])),
    "profile": st.builds(
        lambda url, name: (
            {"depot": url, "profile": name},
            [
                esxcli("system", "maintenanceMode", "set", "--enable=true"),
                esxcli("software", "profile", "update", f"--depot={url}", f"--profile={name}"),
                esxcli("system", "maintenanceMode", "set", "--enable=false"),
            ],
        ),
        depot,
        object_name,
    ),
    "route": st.builds(
        lambda third, gateway: (
            {"network": f"10.{third}.0.0/16", "gateway": gateway},
            [esxcli("network", "ip", "route", "ipv4", "add", f"--network=10.{third}.0.0/16", f"--gateway={gateway}")],
        ),
        octet,
        address,
    ),
    "scratch": volume_folder.map(
        lambda path: (
            path,
            [["vim-cmd", "hostsvc/advopt/update", "ScratchConfig.ConfiguredScratchLocation", "string", path]],
        )
    ),
    "shell": shell_scripts(),
    "ssh": ssh_action(),
    "ssh_keys": st.just((["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789 a@b"], [])),
    "suppress_shell_warning": scalar(flag, lambda on: [advanced_call("/UserVars/SuppressShellWarning", int(on))]),
    "syslog": st.lists(log_host, min_size=1, max_size=3).map(
        lambda hosts: (
            {"hosts": hosts},
            [
                esxcli("system", "syslog", "config", "set", f"--loghost={','.join(hosts)}"),
                esxcli("network", "firewall", "ruleset", "set", "--ruleset-id=syslog", "--enabled=true"),
                esxcli("system", "syslog", "reload"),
            ],
        )
    ),
    "vib": vib_action(),
    "vmkernel": vmkernel_action(),
    "vswitch": vswitch_action(),
}


@st.composite
def actions(draw, kinds=tuple(TYPED)):
    """(the post action as a definition has it, the calls that it must make)."""
    kind = draw(st.sampled_from(kinds))
    value, calls = draw(TYPED[kind])
    common = maybe(name=object_name, ignore_errors=flag, timeout=st.integers(60, 86400))
    # To the stand-ins every such setting is new: the hosts would restart.
    still = {"reboot": False} if kind in ("module_parameters", "scratch") else {}
    return {kind: value, **still, **draw(common)}, calls


@st.composite
def definitions(draw):
    """A correct definition, with anything that one may have."""
    macs = draw(st.lists(unicast, min_size=1, max_size=2, unique=True))
    command = draw(st.sampled_from(["install", "install", "installorupgrade", "upgrade"]))
    fresh, install = command != "upgrade", command == "install"
    booted = {} if fresh else {"booted": st.just(True)}
    target = draw(st.sampled_from(["device", "first", *booted]))
    disk = draw(st.fixed_dictionaries({target: {"device": disk_name, "first": first_words, **booted}[target]}))
    rules = {}
    if fresh:
        rules.update(
            force_unsupported=flag, existing_vmfs=st.sampled_from(["refuse", "overwrite"]), overwrite_vsan=flag
        )
    if install:
        rules.update(existing_vmfs=st.sampled_from(["refuse", "overwrite", "preserve"]), create_vmfs=flag)
        if target == "first":
            rules["ignore_ssd"] = flag
    disk.update(draw(maybe(**rules)))
    some_disks = st.lists(disk_name, min_size=1, max_size=3)
    where = st.sampled_from(["disk", "first"]).flatmap(
        lambda key: st.fixed_dictionaries({key: disk_name if key == "disk" else first_words})
    )
    partition = st.builds(lambda name, on: {"name": name, **on}, fully("[A-Za-z0-9][A-Za-z0-9._-]{0,20}"), where)
    options = {
        "partitions": st.lists(partition, max_size=3),
        "keyboard": st.sampled_from(["US Default", "German", "Swiss French"]),
        "serial_number": serial,
        "dryrun": flag,
        "no_eject": flag,
        "post_timeout": st.integers(1, 86400),
        "post_ignore_failure": flag,
        **{name: shell_scripts().map(lambda made: made[0]) for name in ("pre", "post", "firstboot")},
        **({} if install else {"force_migrate": flag}),
        "ignore_prereq_warnings": flag,
        "ignore_prereq_errors": flag,
    }
    always = {"save_bootbank": UUID} if target == "booted" else {}
    if install:
        options["clearpart"] = st.one_of(
            st.fixed_dictionaries({"drives": some_disks}),
            st.just({"all_drives": True}),
            st.fixed_dictionaries({"ignore_drives": some_disks}),
            st.fixed_dictionaries({"first": first_words}),
        )
    # Unknown commands are fatal where it is set.
    options.update({"paranoid": flag} if draw(flag) else {"extra_commands": st.lists(extra_command, max_size=3)})
    return {
        "name": draw(dns_name),
        "macs": macs,
        "network": draw(networks(macs)),
        "image": "esxi-8.0.3",
        "disk": disk,
        "kickstart": {"command": command, **always, **draw(maybe(**options))},
        "post_actions": [action for action, _calls in draw(st.lists(actions(), max_size=4))],
    }


# --- texts ------------------------------------------------------------------------------------------------------------


@given(definitions())
@bounded(90)
def test_a_correct_definition_gives_a_good_kickstart(definition):
    _host, texts, sentences = render(copy.deepcopy(definition))
    assert sentences == []
    assert_good(definition, texts)


def places(value, path=()):
    """The way to everything below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@given(definitions(), st.data())
@bounded(150)
def test_anything_else_is_refused_in_clear_words_or_is_good(definition, data):
    broken = copy.deepcopy(definition)
    path = data.draw(st.sampled_from(list(places(broken))))
    parent = broken
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(hostile_value)
    # A number may have more digits than Python would print.
    note(f"{path}: {show(parent[path[-1]])}")
    host, texts, sentences = render(copy.deepcopy(broken))
    if texts:
        assert_good(broken, texts)
        assert host is not None
        return
    assert sentences
    shown = show(broken["name"])
    name, raw = shown.strip("'\"").lower(), broken["name"].lower() if isinstance(broken["name"], str) else shown
    option = path[0]
    for sentence in sentences:
        assert re.fullmatch("[ -~]{10,800}", sentence), sentence
        assert sentence.startswith((f"{definition['name']}: ", f"{name}: ", f"{raw}: ", "hosts[0]: ")), sentence
        assert option in sentence or "line " in sentence, sentence
    # A list or a mapping may hold several mistakes, and a line of a script may break several rules.
    if not isinstance(parent[path[-1]], (list, dict)) and "line " not in sentences[0]:
        assert len(sentences) == 1, "one mistake, one sentence"


@pytest.mark.parametrize(
    ("section", "broken"),
    [
        ("kickstart", {"clearpart": "all"}),
        ("kickstart", {"clearpart": {"all_drives": "some"}}),
        ("kickstart", {"partitions": ["data"]}),
        ("kickstart", {"partitions": [{"name": "data", "disk": 7.5}]}),
        ("disk", {"booted": "perhaps"}),
        ("disk", {"devise": "naa.1"}),
        ("post_actions", [{"vib": {"urll": "http://192.168.77.1/a.vib"}}]),
    ],
)
def test_one_mistake_where_options_exclude_each_other_is_one_sentence(section, broken):
    definition = {
        "name": "esx1.example.com",
        "macs": ["00:50:56:aa:01:01"],
        "network": {"address": "192.168.77.21/24"},
        "image": "esxi-8.0.3",
        "disk": {"first": ["local"]},
    }
    _host, texts, sentences = render({**definition, section: broken})
    assert not texts
    assert len(sentences) == 1


TARGETS = ({"first": []}, {"device": "naa.1"}, {"booted": True})
INSTALLER = (
    *(("disk", *knob) for target in TARGETS for knob in target.items()),
    *(("disk", "existing_vmfs", word) for word in ("refuse", "overwrite", "preserve")),
    *(("disk", option, True) for option in ("overwrite_vsan", "ignore_ssd", "force_unsupported")),
    ("disk", "create_vmfs", False),
    *(("disk", "first", [model]) for model in ("ST3120814A-16let", "ST3120814A-17lett")),
    *(("kickstart", "command", word) for word in ("install", "installorupgrade", "upgrade")),
    *(("kickstart", option, value) for option, value in (("force_migrate", True), ("save_bootbank", UUID))),
    *(("kickstart", "clearpart", value) for value in ({}, {"all_drives": True}, {"all_drives": True, "first": []})),
)
NETWORK = (
    *(("network", "bootproto", word) for word in ("static", "dhcp")),
    *(("network", "address", word) for word in ("192.168.77.21", "192.168.77.21/24")),
    *(("network", "netmask", word) for word in ("255.255.255.0", "255.255.0.0")),
    *(("network", "gateway", word) for word in ("192.168.77.1", "192.168.78.1", "192.168.77.21")),
    *(("network", "nameservers", ["192.168.77.1"] * count) for count in (1, 2, 3)),
    *(("network", "vlan", number) for number in (4094, 4095, 5000)),
)


@pytest.mark.parametrize(
    ("base", "knobs"),
    [
        *(({"disk": target}, INSTALLER) for target in TARGETS),
        ({"network": {}}, NETWORK),
        ({"network": {"address": "192.168.77.21/24"}}, NETWORK),
    ],
)
def test_what_excludes_each_other_is_refused_by_the_names_of_the_options(base, knobs):
    good = 0
    for pair in itertools.combinations(knobs, 2):
        definition = plain_definition(**copy.deepcopy(base))
        for section, option, value in pair:
            definition.setdefault(section, {})[option] = value
        _host, texts, sentences = render(copy.deepcopy(definition))
        for sentence in sentences:
            assert re.match(r"esx01\.example\.com: (?:disk|kickstart|network)[. ]", sentence), sentence
        if texts:
            good += 1
            chosen = [option for option in ("first", "device") if option in definition["disk"]]
            assert len(chosen) == 1 or (not chosen and "booted" in definition["disk"]), definition
            assert_good(definition, texts)
    assert good > 5 or base == {"disk": {"booted": True}}


words = st.sampled_from(
    [
        *("vmaccepteula", "rootpw", "install", "installorupgrade", "upgrade", "network", "part", "clearpart", "reboot"),
        *(
            "accepteula",
            "partition",
            "include",
            "%include",
            "%pre",
            "%post",
            "%firstboot",
            "%end",
            "paranoid",
            "dryrun",
        ),
        *(
            "in'stall'",
            'root"pw"',
            "\\\\reboot",
            "%'pre'",
            "keyboard",
            "serialnum",
            "vmserialnum",
            "future",
            "#",
            "'",
            ";",
        ),
        *(
            "--firstdisk",
            "--alldrives",
            "--overwritevmfs",
            "--overwrite''vmfs",
            "--interpreter=busybox",
            "--ip=10.0.0.1",
        ),
        *("/tmp/x", "http://10.0.0.1/x", "x", HASH, "%pre --interpreter=busybox", "a=b", "$(touch pwned)"),
    ]
)
lines = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(st.lists(lines, min_size=1, max_size=2), flag)
@bounded(400)
def test_an_extra_command_is_one_command_and_none_that_the_definition_has_options_for(extra, paranoid):
    definition = plain_definition(kickstart={"extra_commands": extra, "paranoid": paranoid})
    _host, texts, sentences = render(definition)
    if texts:
        assert_good(definition, texts)
        names = [line.name for line in read(next(iter(texts.values()))).commands]
        assert not set(names[-1 - len(extra) : -1]) & (COMMANDS - {"%include"})
    assert texts or all(
        sentence.startswith("esx01.example.com: kickstart.extra_commands ") or " line " in sentence
        for sentence in sentences
    )


@given(st.integers(240, 260))
@bounded(12)
def test_more_commands_than_the_installer_takes_are_refused(count):
    partitions = [{"name": f"d{number}", "disk": f"naa.{number}"} for number in range(count)]
    definition = plain_definition(kickstart={"partitions": partitions})
    _host, texts, sentences = render(definition)
    assert bool(texts) == (len(expected_commands(definition)) + 3 <= MOST_COMMANDS)
    if texts:
        assert_good(definition, texts)
    else:
        assert [sentence.partition(" commands, ")[0] for sentence in sentences] == [
            f"esx01.example.com: the kickstart has {count + 5 + 3}"
        ]


@given(hostile_text | st.text(alphabet=[chr(number) for number in range(32, 127)], min_size=6, max_size=128))
@bounded(40)
def test_a_password_is_refused_or_hashed_and_never_told(password):
    (host,) = parse_hosts([plain_definition()]).hosts.values()
    options = {"root_passwords": {}, "root_password": password, "root_password_hash": None}
    try:
        (text,) = list(TEMPLATE.render(host, esxi_kickstart._password_hash(host, options), Deadlines()).values())
    except esxi_kickstart.NotRendered as reason:
        assert reason.reasons == [f"{host.name}: root_password must be 7 to 127 printable ASCII characters."]
        return
    assert check(text) == []
    assert len(password) < 10 or password not in text


# --- behaviour --------------------------------------------------------------------------------------------------------

TOOLS = ("[", "cat", "cut", "date", "echo", "grep", "mkdir", "printf", "rm", "sed", "sleep", "tail", "test", "timeout")
STAND_INS = ("esxcli", "localcli", "vim-cmd", "generate-certificates", "report")
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n"


class Machine:
    """Runs sections with busybox, where every other command is a stand-in that records its arguments.

    They are kept as they came, each with a zero byte behind it, so no text can look like two.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.work = root / "work"
        bin_folder = root / "bin"
        for folder in (self.work, bin_folder):
            folder.mkdir()
        for tool in (*TOOLS, "sh", "tr", "true", "wc", "touch"):
            (bin_folder / tool).symlink_to(BUSYBOX)
        record = f"printf '%s\\0' \"${{0##*/}}\" \"$@\" '' >>{root}/calls"
        # What the sections take for Python: says that it is there, and that the PXE server acknowledged.
        python = f'[ $# -gt 2 ] || exit 0\ncat "$4" >{root}/note\necho \'200 {{"ok":true}}\''
        for name, text in (*((name, record) for name in STAND_INS), ("python3", python)):
            (bin_folder / name).write_text(f"#!{BUSYBOX} sh\n{text}\n")
            (bin_folder / name).chmod(0o755)
        (root / "rui.crt").write_text(CERTIFICATE)

    def run(self, script):
        """(exit code, calls, what was reported); calls are lists of words without those that every section makes."""
        for there, here in (
            ("@PBCONNECT_URL@", "http://192.0.2.1/notify"),
            ("@PBCONNECT_TOKEN@", "0123456789abcdef"),
            ("/dev/console", f"{self.root}/console"),
            ("/var/log/", f"{self.root}/"),
            ("/tmp/esxi-pxe", f"{self.root}/own"),
            ("/etc/vmware/ssl/rui.crt", f"{self.root}/rui.crt"),
            ("/sbin/auto-backup.sh", f"{self.root}/none"),
            ("/etc/esxi-pxe", f"{self.root}/kept"),
            ("/etc/rc.local.d", f"{self.root}/kept"),
            ("/etc/ssh/", f"{self.root}/kept/ssh/"),
            ("/var/run/", f"{self.root}/run/"),
            ("/vmfs", f"{self.root}/vmfs"),
            ("/sbin/reboot", f"{self.root}/none"),
            ("/bin/reboot", f"{self.root}/none"),
            ("/sbin/generate-certificates", "generate-certificates"),
        ):
            script = script.replace(there, here)
        for name in ("calls", "note"):
            (self.root / name).write_bytes(b"")
        shutil.rmtree(self.root / "vmfs", ignore_errors=True)
        (self.root / "section").write_text(script)
        done = subprocess.run(
            [BUSYBOX, "sh", str(self.root / "section")],
            cwd=self.work,
            env={"PATH": str(self.root / "bin"), "HOME": "/home-of-nobody"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        calls, words = [], []
        for word in (self.root / "calls").read_bytes().decode("ascii").split("\0")[:-1]:
            # An argument is never empty here but for the last, which ends a call.
            if word:
                words.append(word.replace(f"{self.root}/vmfs", "/vmfs"))
            else:
                calls.append(words)
                words = []
        assert not words
        assert list(self.work.iterdir()) == [], "text was run"
        note = (self.root / "note").read_text()
        own = [call for call in calls if "httpClient" in call or call[:3] == ["localcli", "network", "firewall"]]
        # Actions look before they change something.
        own += [call for call in calls if {"list", "get", "hostsvc/advopt/view"} & set(call[1:6])]
        return done.returncode, [call for call in calls if call not in own], json.loads(note) if note else None


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    if BUSYBOX is None:
        pytest.skip("busybox is not installed")
    return Machine(tmp_path_factory.mktemp("machine"))


def plain_definition(**changes):
    return {
        "name": "esx01.example.com",
        "macs": ["02:00:00:00:00:01"],
        "network": {"address": "192.168.77.21/24"},
        "image": "esxi-8.0.3",
        "disk": {"first": []},
        **changes,
    }


def sections(definition):
    _host, texts, sentences = render(definition)
    assert sentences == []
    (text,) = list(texts.values())
    assert check(text) == []
    return {script.opening.name: script.text for script in read(text).scripts}


def check_actions(machine, made):
    """Runs the post actions on their first boot; they call what they must and their results are reported."""
    code, calls, note = machine.run(
        sections(plain_definition(post_actions=[action for action, _calls in made]))["%firstboot"]
    )
    assert code == 0
    assert calls == [call for _action, calls in made for call in calls]
    assert (note["stage"], note["message"]) == ("ready", "the first boot is done")
    assert [result["rc"] for result in note.get("actions", [])] == [0] * len(made)
    assert [result["ignored"] for result in note.get("actions", [])] == [
        bool(action.get("ignore_errors")) for action, _calls in made
    ]
    names = [result["name"] for result in note.get("actions", [])]
    assert len(set(names)) == len(names)
    for (action, _calls), name in zip(made, names):
        assert name.startswith(action.get("name", next(iter(action)))[:100])


@pytest.mark.parametrize("kind", sorted(TYPED))
def test_a_post_action_does_what_it_says(machine, kind):
    @given(st.lists(actions(kinds=(kind,)), min_size=1, max_size=6))
    @bounded(3 if kind != "shell" else 15)
    def run(made):
        check_actions(machine, made)

    run()


def test_every_kind_of_post_action_is_known_here():
    assert sorted(TYPED) == sorted(ACTION_TYPES)


def texts_in(value):
    """The ways to all texts of an action."""
    return [path for path in places(value) if isinstance(at(value, path), str)]


def at(value, path):
    for key in path:
        value = value[key]
    return value


special = st.lists(st.sampled_from([*" ._:/+@#()&,=-$!*;|~{}[]<>'\"`\\%?^", "$(touch pwned)", "\n", "\t"]), max_size=2)
odd_word = st.builds(
    "{}{}{}".format, fully("[A-Za-z][A-Za-z0-9]{0,3}"), special.map("".join), fully("[A-Za-z0-9]{0,2}")
)


@given(actions(kinds=tuple(sorted(set(TYPED) - {"shell"}))), st.data())
@bounded(150)
def test_a_value_is_data_or_is_refused(machine, made, data):
    action, calls = made
    paths = texts_in(action)
    path = data.draw(st.sampled_from(paths)) if paths else ("name",)
    odd = data.draw(odd_word | hostile_text)
    before = at(action, path) if paths else None
    action = copy.deepcopy(action)
    at(action, path[:-1])[path[-1]] = odd
    note(f"{path}: {odd!a}")
    definition = plain_definition(post_actions=[action])
    host, texts, sentences = render(definition)
    if not texts:
        assert all(" post_actions[0]" in sentence or " line " in sentence for sentence in sentences)
        return
    assert host is not None
    if odd == before:
        return
    code, found, note_of_it = machine.run(sections(definition)["%firstboot"])
    assert code == 0
    if path == ("name",):
        assert found == calls
        assert [result["name"] for result in note_of_it["actions"]] == [odd]
    else:
        assert any(odd.lower() in word.lower() for call in found for word in call)


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda text: {"shell": ":", "name": text}, None),
        (lambda text: {"advanced": {"option": "/A/b", "value": text}}, "--string-value="),
        (lambda text: {"portgroup": {"name": text, "vlan": 1}}, "--portgroup-name="),
        (lambda text: {"component": f"http://{text}"}, "--depot=http://"),
    ],
    ids=["name", "advanced", "portgroup", "component"],
)
def test_every_character_that_is_taken_arrives(machine, make, place):
    texts = [f"a{chr(number)}b{number}" for number in range(256)]
    taken = [text for text in texts if not parse_hosts([plain_definition(post_actions=[make(text)])]).errors]
    assert len(taken) > 60
    definition = plain_definition(post_actions=[make(text) for text in taken])
    code, calls, note_of_it = machine.run(sections(definition)["%firstboot"])
    assert code == 0
    if place is None:
        assert [result["name"] for result in note_of_it["actions"]] == taken
    else:
        assert [word for call in calls for word in call if word.startswith(place)] == [place + text for text in taken]


@given(made=st.lists(actions(), max_size=8))
@bounded(8)
def test_post_actions_run_in_their_order_and_know_nothing_of_each_other(machine, made):
    check_actions(machine, made)


@given(pre=shell_scripts(), post=shell_scripts(), firstboot=shell_scripts(), ignored=flag)
@bounded(10)
def test_the_sections_own_scripts_run_as_they_were_written(machine, pre, post, firstboot, ignored):
    scripts = {"pre": pre[0], "post": post[0], "firstboot": firstboot[0], "post_ignore_failure": ignored}
    run = sections(plain_definition(kickstart=scripts))
    for name, (_script, calls), stage in (("%pre", pre, "installing"), ("%post", post, "installed")):
        code, found, note = machine.run(run[name])
        assert (code, found, note["stage"]) == (0, calls, stage)
    code, found, note = machine.run(run["%firstboot"])
    assert (code, found) == (0, firstboot[1])
    assert [(result["name"], result["rc"]) for result in note["actions"]] == [("firstboot script", 0)]


@given(
    st.lists(object_name, min_size=1, max_size=3).flatmap(lambda names: st.lists(st.sampled_from(names), max_size=6))
)
@bounded(60)
def test_no_two_post_actions_are_reported_under_one_name(names):
    numbered = [name for name in names for name in (name, f"{name} #2")]
    host, _texts, sentences = render(
        plain_definition(post_actions=[{"shell": ":", "name": name[:100]} for name in numbered])
    )
    assert sentences == []
    assert len({action.name for action in host.post_actions}) == len(numbered)
