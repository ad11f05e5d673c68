# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Post actions: the commands they become, and what is refused."""

from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import ACTION_TYPES, parse_action, parse_actions
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
            {"ntp": {"servers": ["10.0.0.1", "ntp.Example.com", "2001:db8::1"]}},
            ["esxcli system ntp set --server=10.0.0.1 --server=ntp.example.com --server=2001:db8::1 --enabled=true"],
        ),
        ({"ntp": ["10.0.0.1"]}, ["esxcli system ntp set --server=10.0.0.1 --enabled=true"]),
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
            ["esxcli network vswitch standard portgroup remove '--portgroup-name=VM Network' --vswitch-name=vSwitch0"],
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
        (
            {"vib": VIB},
            [f"esxcli software vib install --viburl={VIB}"],
        ),
        (
            {"vib": {"depot": "/vmfs/volumes/ds/d.zip", "vib_name": "x", "force": True, "no_signature_check": True}},
            ["esxcli software vib install --depot=/vmfs/volumes/ds/d.zip --vibname=x --force --no-sig-check"],
        ),
        ({"component": "https://h/d.zip"}, ["esxcli software component apply --depot=https://h/d.zip"]),
        (
            {"image_profile": {"url": "https://h/d.zip", "profile": "ESXi-8.0U3-standard"}},
            ["esxcli software profile update --depot=https://h/d.zip --profile=ESXi-8.0U3-standard"],
        ),
        ({"maintenance_mode": True}, ["esxcli system maintenanceMode set --enable=true"]),
        ({"ipv6": False}, ["esxcli network ip set --ipv6-enabled=false"]),
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
    assert lines(action) == commands


def test_every_type_is_tested_here():
    """So that a new type comes with its commands."""
    source = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert not [kind for kind in ACTION_TYPES if f'"{kind}":' not in source]


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
    (lambda x: {"image_profile": {"url": "http://a", "profile": x}}, "--profile="),
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
    command = action.shell().splitlines()[1]
    words = [word for word in shlex.split(command) if word.startswith(option)]
    assert len(words) == 1
    assert words[0][len(option) :].lower() == text.lower()
    assert action.shell().isascii() and action.shell().replace("\n", "").isprintable()


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
