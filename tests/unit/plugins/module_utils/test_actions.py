# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Post actions: the commands they become, and what is refused."""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import (
    ACTION_TYPES,
    DepotUse,
    kind_of,
    parse_action,
    parse_actions,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields

VIB = "http://192.168.77.10/driver.vib"


def parse(value):
    errors = []
    action = parse_action(value, Fields({}, "esx01", "", errors), "post_actions[0]")
    assert (action is None) == bool(errors)
    return action, errors


def lines(value):
    action, errors = parse(value)
    assert action is not None, errors
    first, *rest = action.shell().splitlines()
    assert first == "set -e", "a typed action stops at its first failing command"
    return rest


def changes(value):
    """The commands alone, without the look before each whether there is anything to do (tests/unit/docs tries it)."""
    return [line.rpartition(" || ")[2] for line in lines(value)]


@pytest.mark.parametrize(
    ("action", "commands"),
    [
        ({"ssh": "enabled"}, ["vim-cmd hostsvc/enable_ssh", "vim-cmd hostsvc/start_ssh"]),
        ({"ssh": True}, ["vim-cmd hostsvc/enable_ssh", "vim-cmd hostsvc/start_ssh"]),
        ({"ssh": "disabled"}, ["vim-cmd hostsvc/stop_ssh", "vim-cmd hostsvc/disable_ssh"]),
        (
            {"ssh": {"state": "enabled", "shell": "enabled", "suppress_warning": True}},
            [
                "vim-cmd hostsvc/enable_ssh",
                "vim-cmd hostsvc/start_ssh",
                "vim-cmd hostsvc/enable_esx_shell",
                "vim-cmd hostsvc/start_esx_shell",
                "esxcli system settings advanced set --option=/UserVars/SuppressShellWarning --int-value=1",
            ],
        ),
        ({"esx_shell": "disabled"}, ["vim-cmd hostsvc/stop_esx_shell", "vim-cmd hostsvc/disable_esx_shell"]),
        (
            {"suppress_shell_warning": True},
            ["esxcli system settings advanced set --option=/UserVars/SuppressShellWarning --int-value=1"],
        ),
        (
            {"dns": {"servers": ["10.0.0.1", "10.0.0.2"], "search": ["example.com"]}},
            [
                "esxcli network ip dns server add --server=10.0.0.1",
                "esxcli network ip dns server add --server=10.0.0.2",
                "esxcli network ip dns search add --domain=example.com",
            ],
        ),
        (
            {"syslog": {"hosts": ["tcp://10.0.0.5:514", "ssl://[2001:db8::1]:1514"]}},
            [
                "esxcli system syslog config set '--loghost=tcp://10.0.0.5:514,ssl://[2001:db8::1]:1514'",
                "esxcli network firewall ruleset set --ruleset-id=syslog --enabled=true",
                "esxcli system syslog reload",
            ],
        ),
        ({"hostname": "ESX01.example.com"}, ["esxcli system hostname set --fqdn=esx01.example.com"]),
        (
            {"vswitch": {"name": "vSwitch1", "uplinks": ["vmnic1"], "mtu": 9000}},
            [
                "esxcli network vswitch standard add --vswitch-name=vSwitch1",
                "esxcli network vswitch standard set --vswitch-name=vSwitch1 --mtu=9000",
                "esxcli network vswitch standard uplink add --vswitch-name=vSwitch1 --uplink-name=vmnic1",
            ],
        ),
        (
            {"vswitch": {"name": "vSwitch0", "uplinks": ["vmnic1"]}},
            ["esxcli network vswitch standard uplink add --vswitch-name=vSwitch0 --uplink-name=vmnic1"],
        ),
        (
            {"portgroup": {"name": "VM Network 2", "vswitch": "vSwitch1", "vlan": 12}},
            [
                "esxcli network vswitch standard portgroup add '--portgroup-name=VM Network 2' --vswitch-name=vSwitch1",
                "esxcli network vswitch standard portgroup set '--portgroup-name=VM Network 2' --vlan-id=12",
            ],
        ),
        (
            {"portgroup": {"name": "Management Network", "vlan": 0}},
            ["esxcli network vswitch standard portgroup set '--portgroup-name=Management Network' --vlan-id=0"],
        ),
        (
            {"portgroup": {"name": "VM Network", "vswitch": "vSwitch0", "state": "absent"}},
            [
                "if esxcli network vswitch standard portgroup list | sed 's/  .*//' | grep -qxF -- 'VM Network'; then "
                "esxcli network vswitch standard portgroup remove '--portgroup-name=VM Network' "
                "--vswitch-name=vSwitch0; fi"
            ],
        ),
        (
            {
                "vmkernel": {
                    "interface": "vmk1",
                    "portgroup": "vMotion",
                    "address": "10.1.0.5",
                    "netmask": "255.255.255.0",
                    "mtu": 9000,
                    "tags": ["vMotion", "VSAN"],
                }
            },
            [
                "esxcli network ip interface add --interface-name=vmk1 --portgroup-name=vMotion --mtu=9000",
                "esxcli network ip interface set --interface-name=vmk1 --mtu=9000",
                "esxcli network ip interface ipv4 set --interface-name=vmk1 --ipv4=10.1.0.5 --netmask=255.255.255.0 "
                "--type=static",
                "esxcli network ip interface tag add --interface-name=vmk1 --tagname=vMotion",
                "esxcli network ip interface tag add --interface-name=vmk1 --tagname=VSAN",
            ],
        ),
        (
            {"vmkernel": {"interface": "vmk0", "mtu": 9000}},
            ["esxcli network ip interface set --interface-name=vmk0 --mtu=9000"],
        ),
        (
            {"route": {"network": "10.0.0.0/8", "gateway": "192.168.77.1"}},
            ["esxcli network ip route ipv4 add --network=10.0.0.0/8 --gateway=192.168.77.1"],
        ),
        (
            {"advanced": {"option": "/Net/FollowHardwareMac", "value": 1}},
            ["esxcli system settings advanced set --option=/Net/FollowHardwareMac --int-value=1"],
        ),
        (
            {"advanced": {"option": "/Syslog/global/logDir", "value": "[ds 1] $x;y"}},
            ["esxcli system settings advanced set --option=/Syslog/global/logDir '--string-value=[ds 1] $x;y'"],
        ),
        ({"maintenance_mode": True}, ["esxcli system maintenanceMode set --enable=true"]),
        (
            {"ipv6": False},
            [
                "if esxcli network ip get | grep -q 'IPv6 Enabled: true'; then : >\"$ESXI_PXE_REBOOT\"; fi",
                "esxcli network ip set --ipv6-enabled=false",
            ],
        ),
        (
            {"coredump": {"server": "10.0.0.5", "port": 6501}},
            [
                "esxcli system coredump network set --interface-name=vmk0 --server-ip=10.0.0.5 --server-port=6501",
                "esxcli system coredump network set --enable=true",
            ],
        ),
        (
            {"power_policy": "high"},
            ["esxcli system settings advanced set --option=/Power/CpuPolicy '--string-value=High Performance'"],
        ),
        (
            {"datastore": {"name": "datastore1", "new_name": "a (1)"}},
            ["vim-cmd hostsvc/datastore/rename datastore1 'a (1)'"],
        ),
        (
            {"nfs": {"name": "iso", "server": "10.0.0.6", "share": "/iso", "read_only": True}},
            ["esxcli storage nfs add --host=10.0.0.6 --share=/iso --volume-name=iso --readonly"],
        ),
        (
            {"vswitch": {"name": "vSwitch0", "active": ["vmnic0"], "standby": ["vmnic1"], "promiscuous": False}},
            [
                "esxcli network vswitch standard policy failover set --vswitch-name=vSwitch0 --active-uplinks=vmnic0 "
                "--standby-uplinks=vmnic1",
                "esxcli network vswitch standard policy security set --vswitch-name=vSwitch0 --allow-promiscuous=false",
            ],
        ),
        (
            {"firewall": {"ruleset": "sshServer", "allowed": ["10.0.0.0/8"]}},
            [
                "esxcli network firewall ruleset set --ruleset-id=sshServer --enabled=true",
                "esxcli network firewall ruleset set --ruleset-id=sshServer --allowed-all=false",
                "esxcli network firewall ruleset allowedip add --ruleset-id=sshServer --ip-address=10.0.0.0/8",
            ],
        ),
        ({"ceip": False}, ["esxcli system settings advanced set --option=/UserVars/HostClientCEIPOptIn --int-value=2"]),
        (
            {"license": "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"},
            ["vim-cmd vimsvc/license --set AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"],
        ),
    ],
)
def test_typed_actions(action, commands):
    assert changes(action) == commands


def test_every_type_is_tested_here():
    """So that a new type comes with its commands."""
    source = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert not [kind for kind in ACTION_TYPES if f'"{kind}":' not in source]


INSTALL = "said=$(esxcli software "


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ({"vib": VIB}, f"vib install --viburl={VIB}"),
        (
            {"vib": {"depot": "/vmfs/volumes/ds/d.zip", "vib_name": "x", "force": True, "no_signature_check": True}},
            "vib install --depot=/vmfs/volumes/ds/d.zip --vibname=x --force --no-sig-check",
        ),
        (
            {"vib": {"depot": "drivers", "vib_name": ["a b", "c"]}},
            "vib install --depot=\"$ESXI_PXE_SERVER\"/depots/drivers/index.xml '--vibname=a b' --vibname=c",
        ),
        (
            {"vib": {"depot": "drivers", "file": "x.vib"}},
            'vib install --viburl="$ESXI_PXE_SERVER"/depots/drivers/x.vib',
        ),
        ({"component": "https://h/index.xml"}, "component apply --depot=https://h/index.xml"),
        ({"depot": "drivers"}, None),
        (
            {"profile": {"depot": "https://h/index.xml", "profile": "ESXi-8.0U3-standard"}},
            "profile update --depot=https://h/index.xml --profile=ESXi-8.0U3-standard",
        ),
        (
            {"profile": {"depot": "p", "profile": "X", "replace": True, "no_hardware_warning": True}},
            'profile install --depot="$ESXI_PXE_SERVER"/depots/p/index.xml --profile=X --ok-to-remove '
            "--no-hardware-warning",
        ),
    ],
)
def test_software(action, command):
    text = lines(action)
    (run,) = [line for line in text if line.startswith("said=")]
    if command is not None:
        assert run.startswith(f"{INSTALL}{command} 2>&1)")
    assert text[-1] == "case $said in *'Reboot Required: true'*) : >\"$ESXI_PXE_REBOOT\" ;; esac"
    parsed, _errors = parse(action)
    assert (parsed.reboot, parsed.retry, parsed.timeout) == ("auto", True, 3600)
    assert ("--no-sig-check" in run) is ("no_signature_check" in str(action)), "never without being asked for"


def test_what_is_taken_from_the_pxe_servers_depots_is_known():
    def depots(action):
        return parse(action)[0].depots

    assert depots({"vib": VIB}) == depots({"depot": "http://h/index.xml"}) == ()
    assert depots({"vib": {"depot": "d", "file": "x.vib"}}) == (DepotUse("d", file="x.vib"),)
    assert depots({"vib": {"depot": "d", "vib_name": "x"}}) == (DepotUse("d", vibs=("x",)),)
    assert depots({"profile": {"depot": "d", "profile": "p"}}) == (DepotUse("d", profile="p"),)
    assert depots({"component": "d"}) == depots({"depot": "d"}) == (DepotUse("d"),)


@pytest.mark.parametrize(
    ("more", "reboot", "retry"),
    [
        ({}, "no", False),
        ({"reboot": True}, "yes", False),
        ({"reboot": "true", "retry": "yes"}, "yes", True),
        ({"reboot": "auto"}, "auto", False),
        ({"reboot": False}, "no", False),
    ],
)
def test_restarts(more, reboot, retry):
    action, _errors = parse({"shell": ":", **more})
    assert (action.reboot, action.retry) == (reboot, retry)


def test_what_only_takes_effect_after_a_restart_asks_for_one():
    asking = {kind for kind in ACTION_TYPES if kind_of(kind) and kind_of(kind).reboot == "auto"}
    assert asking == {"component", "depot", "ipv6", "kernel_setting", "module_parameters", "profile", "scratch", "vib"}
    assert parse({"ipv6": False, "reboot": False})[0].reboot == "no"


def test_certificates_are_made_before_the_services_restart():
    text = lines({"certificates": "regenerate"})
    assert text[0] == "/sbin/generate-certificates"
    assert "restart" in "".join(text[1:])


def test_raw_shell_is_kept_as_it_is():
    action, _errors = parse({"shell": "echo 'a b' | tee \"$x\"\n%post\n\nexit 3"})
    assert action.shell() == "echo 'a b' | tee \"$x\"\n%post\n\nexit 3\n"


def test_common_options():
    action, _errors = parse({"ssh": "enabled", "name": "let me in (1/2)", "ignore_errors": "yes", "timeout": "60"})
    assert (action.name, action.ignore_errors, action.timeout) == ("let me in (1/2)", True, 60)
    action, _errors = parse({"ssh": "enabled"})
    assert (action.name, action.ignore_errors, action.timeout) == ("ssh", False, 900)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({}, "has no type; write exactly one of shell, advanced"),
        ({"ssh": "enabled", "ntp": ["x"]}, "has ntp and ssh; write exactly one of"),
        ("ssh", "is a str; write a mapping"),
        ({"sssh": "enabled"}, "sssh is no option; did you mean ssh?"),
        ({"ssh": "maybe"}, "write enabled or disabled"),
        ({"ssh": {"state": "enabled", "sell": True}}, "did you mean shell?"),
        ({"ssh": "enabled", "name": "it's"}, "post_actions[0].name"),
        ({"ssh": "enabled", "name": 'a"b'}, "post_actions[0].name"),
        ({"ssh": "enabled", "name": "a\nb"}, "post_actions[0].name"),
        ({"ssh": "enabled", "timeout": 0}, "post_actions[0].timeout"),
        ({"ntp": {}}, "ntp.servers is missing"),
        ({"ntp": ["a b"]}, "item 1 is 'a b'"),
        ({"ntp": ["--x"]}, "item 1"),
        ({"ntp": ["a;reboot"]}, "item 1"),
        ({"dns": {}}, "has nothing to do"),
        ({"dns": ["ns1.example.com"]}, "write an IP address"),
        ({"syslog": ["10.0.0.5"]}, "a log host such as"),
        ({"hostname": "esx_1.example.com"}, "underscore"),
        ({"vswitch": {"name": "vSwitch 1"}}, "a switch's name"),
        ({"vswitch": {"name": "vSwitch0"}}, "has nothing to do"),
        ({"vswitch": {"name": "vSwitch1", "mtu": 9001}}, "from 1280 to 9000"),
        ({"vswitch": {"name": "vSwitch1", "uplinks": ["eth0"]}}, "an uplink such as"),
        ({"portgroup": {"name": "x"}}, "has nothing to do"),
        ({"portgroup": {"name": "x'; reboot", "vlan": 1}}, "portgroup.name"),
        ({"portgroup": {"name": "x", "state": "absent"}}, "portgroup.vswitch is missing"),
        ({"portgroup": {"name": "x", "vlan": 4096}}, "from 0 to 4095"),
        ({"vmkernel": {"interface": "vmk1"}}, "has nothing to do"),
        ({"vmkernel": {"interface": "vmk1", "address": "10.0.0.1"}}, "netmask is missing"),
        ({"vmkernel": {"interface": "vmk1", "dhcp": True, "address": "10.0.0.1", "netmask": "255.0.0.0"}}, "write one"),
        ({"vmkernel": {"interface": "vmk1", "dhcp": True, "gateway": "10.0.0.1"}}, "needs an address"),
        ({"vmkernel": {"interface": "eth1", "mtu": 1500}}, "an interface such as vmk1"),
        ({"vmkernel": {"interface": "vmk1", "tags": ["a b"]}}, "a tag such as"),
        ({"route": {"network": "10.0.0.1/8", "gateway": "10.0.0.1"}}, "no host bits"),
        ({"route": {"network": "10.0.0.0/8"}}, "route.gateway is missing"),
        ({"advanced": {"option": "UserVars.X", "value": 1}}, "an option's path"),
        ({"advanced": {"option": "/UserVars/X"}}, "advanced.value is missing"),
        ({"advanced": {"option": "/UserVars/X", "value": True}}, "boolean"),
        ({"advanced": {"option": "/UserVars/X", "value": "a'b"}}, "without quotes"),
        ({"advanced": {"option": "/UserVars/X", "value": "a\nb"}}, "on one line"),
        ({"vib": {}}, "exactly one of url and depot"),
        ({"vib": "ftp://x/y.vib"}, "a URL (http:// or https://)"),
        ({"vib": "http://x/y.vib --force"}, "without blanks"),
        ({"vib": "http://x/$(reboot).vib"}, "without blanks and quotes"),
        ({"component": "/etc/passwd"}, "a path under /vmfs/volumes/"),
        ({"depot": "../x"}, "the name of a depot"),
        ({"depot": "a/b"}, "the name of a depot"),
        ({"vib": {"depot": "d", "file": "../x.vib"}}, "the name of a VIB"),
        ({"vib": {"depot": "http://h/index.xml", "file": "x.vib"}}, "goes with a depot of the PXE server"),
        ({"vib": {"depot": "d", "file": "x.vib", "vib_name": "y"}}, "is a VIB by itself"),
        ({"profile": {"depot": "d"}}, "profile.profile is missing"),
        ({"vib": {"depot": "d", "acceptance": "any"}}, "one of certified, accepted"),
        ({"ssh": "enabled", "reboot": "later"}, "write true, false or auto"),
        ({"ssh_keys": ['command="x" ssh-rsa AAAA']}, "one public key"),
        ({"ssh_keys": ["ssh-rsa AAAA\nssh-rsa BBBB"]}, "one public key"),
        ({"scratch": "/vmfs/volumes/ds/../../etc"}, "a folder on a datastore"),
        ({"scratch": "/tmp"}, "a folder on a datastore"),
        ({"kernel_setting": {"name": "a b", "value": 1}}, "a kernel setting's name"),
        ({"kernel_setting": {"name": "a", "value": "$(x)"}}, "letters, digits and"),
        ({"module_parameters": {"module": "m", "parameters": "a=1;b"}}, "parameters such as"),
        ({"power_policy": "full"}, "one of high, balanced"),
        ({"nfs": {"name": "a", "server": "b", "share": "c"}}, "the exported folder"),
        ({"datastore": {"name": "a/b", "new_name": "c"}}, "a datastore's name"),
        ({"coredump": {}}, "coredump.server is missing"),
        ({"route": {"network": "2001:db8::/32", "gateway": "10.0.0.1"}}, "an IPv4 network"),
        ({"maintenance_mode": "on purpose"}, "true or false"),
        ({"firewall": {"ruleset": "a b"}}, "firewall ruleset's name"),
        ({"certificates": True}, "regenerate"),
        ({"shell": "echo \u00e4"}, "printable ASCII"),
        ({"shell": "a\rb"}, "carriage returns"),
        ({"shell": ""}, "is empty"),
        ({"shell": ["a"]}, "is a list"),
    ],
)
def test_what_is_refused(action, says):
    parsed, errors = parse(action)
    assert parsed is None
    assert says in " ".join(errors)
    assert all(error.startswith("esx01: post_actions[0]") for error in errors)


def test_a_licence_key_is_never_repeated():
    _action, errors = parse({"license": "AAAAA-BBBBB-CCCCC-DDDDD-EEEE"})
    assert "no licence key" in errors[0] and "AAAAA" not in errors[0]
    action, _errors = parse({"license": "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"})
    assert "AAAAA" not in action.name


def test_names_tell_actions_apart():
    errors = []
    actions = [
        {"shell": "a"},
        {"shell": "b"},
        {"vswitch": {"name": "vSwitch1"}},
        {"advanced": {"option": "/Net/X", "value": 1}},
        {"portgroup": {"name": "p", "vlan": 1}},
        {"ssh": "enabled", "name": "shell"},
    ]
    names = [action.name for action in parse_actions(actions, Fields({}, "x", "", errors))]
    assert names == ["shell", "shell #2", "vswitch vSwitch1", "advanced Net/X", "portgroup p", "shell #3"]


@pytest.mark.parametrize("given_names", [["a", "a", "a #2"], ["a #2", "a", "a"], ["a", "a #2", "a"]])
def test_a_numbered_name_is_not_one_that_is_given(given_names):
    actions = [{"shell": ":", "name": name} for name in given_names]
    assert len({action.name for action in parse_actions(actions, Fields({}, "x", "", []))}) == 3


def test_all_mistakes_are_told_at_once():
    errors = []
    parse_actions([{"ssh": "x"}, {"ntp": []}, {"shell": "ok"}], Fields({}, "x", "", errors))
    assert [error.split(" ")[1] for error in errors] == ["post_actions[0].ssh.state", "post_actions[1].ntp.servers"]


@pytest.mark.parametrize("value", ["ssh", {"ssh": "enabled"}, 5])
def test_actions_are_a_list(value):
    errors = []
    assert parse_actions(value, Fields({}, "x", "", errors)) == ()
    assert "is no list" in errors[0]


# One option for each kind of value that reaches a shell, and where its value must stand: whole, in one word.
TEXTS = st.text(alphabet=st.sampled_from(list("ab0.-_/:$`'\"\\;|&<>(){}[]*?!#~%= \t\n\r\0\u00e4")), max_size=24)
PLACES = [
    (lambda x: {"portgroup": {"name": x, "vlan": 1}}, "--portgroup-name="),
    (lambda x: {"advanced": {"option": "/A/b", "value": x}}, "--string-value="),
    (lambda x: {"advanced": {"option": x, "value": 1}}, "--option="),
    (lambda x: {"vib": "http://a" + x}, "--viburl=http://a"),
    (lambda x: {"ntp": [x]}, "--server="),
    (lambda x: {"syslog": ["tcp://" + x]}, "--loghost=tcp://"),
    (lambda x: {"vswitch": {"name": x}}, "--vswitch-name="),
    (lambda x: {"profile": {"depot": "http://a", "profile": x, "maintenance_mode": False}}, "--profile="),
    (lambda x: {"nfs": {"name": "a", "server": "b", "share": "/" + x}}, "--share=/"),
    (lambda x: {"syslog": {"hosts": ["tcp://a"], "directory": "/vmfs/volumes/a/" + x}}, "--logdir=/vmfs/volumes/a/"),
    (lambda x: {"module_parameters": {"module": "m", "parameters": "a=" + x}}, "--parameter-string=a="),
    (lambda x: {"firewall": {"ruleset": x}}, "--ruleset-id="),
    (lambda x: {"hostname": x}, "--fqdn="),
]


@given(place=st.sampled_from(PLACES), text=TEXTS)
def test_a_value_stays_one_word(place, text):
    make, option = place
    action, errors = parse(make(text))
    if action is None:
        assert all(error.isascii() and error.isprintable() for error in errors)
        return
    words = [word for word in _words(action.shell()) if word.startswith(option)]
    assert words
    assert {word[len(option) :].lower() for word in words} == {text.lower()}
    assert action.shell().isascii() and action.shell().replace("\n", "").isprintable()


def _words(text):
    """Of what is run in a command substitution too."""
    for line in text.splitlines():
        inner = re.match(r"said=[$][(](.*) 2>&1[)]", line)
        yield from shlex.split(inner[1] if inner else line)


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
@pytest.mark.parametrize(
    "value", ["$(reboot) ;x", "#a b", "!x", "~", "*", "[a]", "{a,b}", "<x>", "%s", "$HOME", "-n", "a=b"]
)
def test_busybox_agrees_about_the_words(value, tmp_path):
    """shlex quotes for a POSIX shell; the one that reads it is busybox."""
    action, errors = parse({"advanced": {"option": "/A/b", "value": value}})
    assert not errors
    script = f'esxcli() {{ for word in "$@"; do printf "%s\\n" "$word"; done; }}\n{action.shell()}'
    done = subprocess.run(["busybox", "sh", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"--string-value={value}"
