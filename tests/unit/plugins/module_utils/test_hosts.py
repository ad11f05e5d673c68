# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of hosts: what is accepted, in which form, and what is said about the rest."""

from __future__ import annotations

import datetime
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils import _deps
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError, MissingLibraryError
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts, valid_name
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

NAME = "esx01.example.com"


def good(**changes):
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.errors, parsed.errors
    return next(iter(parsed.hosts.values()))


def wrong(**changes):
    """The sentences about a definition, joined; there must be some."""
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.hosts
    return "\n".join(sentence for sentences in parsed.errors.values() for sentence in sentences)


def network(**changes):
    return {"network": {"address": "192.168.77.21/24", "gateway": "192.168.77.1", **changes}}


def test_a_minimal_definition_gets_its_defaults():
    host = good()
    assert host.name == NAME and host.short_name == "esx01"
    assert host.macs == ("00:50:56:aa:01:01", "00:50:56:aa:01:02")
    assert host.firmware == "auto" and host.reinstall is False and host.post_actions == ()
    assert host.network.bootproto == "static"
    assert (host.network.address, host.network.prefix, host.network.netmask) == ("192.168.77.21", 24, "255.255.255.0")
    assert host.network.nic == host.macs[0] and host.network.boot_address == "192.168.77.21"
    assert host.disk.existing_vmfs == "refuse" and host.disk.create_vmfs and not host.disk.overwrite_vsan
    assert host.boot.words() == ()
    assert host.addresses == ("192.168.77.21",)


def test_options_that_are_none_count_as_not_given():
    full = definition(firmware=None, post_actions=None, reinstall=None, kickstart=None, boot=None, vcenter=None)
    full["network"].update(vlan=None, nic=None, nameservers=None, netmask=None)
    assert parse_hosts([full]).hosts[NAME] == good()


@pytest.mark.parametrize(
    "notation",
    ["00:50:56:AA:BB:01", "00-50-56-aa-bb-01", "0050.56aa.bb01", "005056aabb01", "005056-aabb01", "0:50:56:aa:bb:1"],
)
def test_mac_notations(notation):
    assert good(macs=[notation]).macs == ("00:50:56:aa:bb:01",)


@pytest.mark.parametrize(
    ("mac", "says"),
    [
        ("", "no MAC address"),
        ("00:50:56:aa:bb", "no MAC address"),
        ("00:50:56:aa:bb:01:02:03", "no MAC address"),
        ("00:50:56:aa:bb:0g", "no MAC address"),
        ("00:50:56:aa:bb:01\n", "no MAC address"),
        (" 00:50:56:aa:bb:01", "no MAC address"),
        ("00:50:56:aa:bb:01\nignore", "no MAC address"),
        ("esx01", "no MAC address"),
        ("00:00:00:00:00:00", "no network card has"),
        ("ff:ff:ff:ff:ff:ff", "no network card has"),
        ("01:00:5e:00:00:01", "multicast"),
        ("33:33:00:00:00:01", "multicast"),
        (685463, "put the MAC address in quotes"),
        (True, "boolean"),
        (None, "empty"),
        (["00:50:56:aa:bb:01"], "a list"),
    ],
)
def test_bad_macs(mac, says):
    text = wrong(macs=["00:50:56:aa:bb:99", mac])
    assert text.startswith(f"{NAME}: macs[1] ") and says in text


@pytest.mark.parametrize("macs", [None, [], {}, "", 5.5])
def test_macs_are_needed(macs):
    assert f"{NAME}: macs" in wrong(macs=macs)


def test_a_mac_that_is_listed_twice():
    text = wrong(macs=["00:50:56:aa:bb:01", "0050.56AA.BB01"])
    assert "macs[1] is 00:50:56:aa:bb:01, which is listed before" in text


def test_names_are_lower_cased():
    parsed = parse_hosts([definition(name="ESX01.Example.COM")])
    assert list(parsed.hosts) == [NAME]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("esx_01.example.com", "underscore, which fails the ESXi installer"),
        ("esx01", "has no domain"),
        ("esx01.", "RFC 1123"),
        ("-esx.example.com", "RFC 1123"),
        ("esx-.example.com", "RFC 1123"),
        ("esx..com", "RFC 1123"),
        ("a" * 64 + ".com", "RFC 1123"),
        ("a." * 120 + "com", "at most 200"),
        ("esx 01.example.com", "RFC 1123"),
        ("esx01.example.com\n", "RFC 1123"),
        ("../../etc/passwd", "RFC 1123"),
        ("esx01.example.com/x", "RFC 1123"),
        ("esx\u00e4.example.com", "RFC 1123"),
        ("192.168.77.21", "as an IP address does"),
        ("", "RFC 1123"),
        (None, "missing"),
        (7, "put the value in quotes"),
    ],
)
def test_bad_names(name, says):
    assert says in wrong(name=name)


def test_names_that_are_good():
    for name in ("a.b", "1esx.example.com", "a" * 63 + ".com", "xn--esx-.x--y.de".replace("-.", "-a."), "e-s-x.1a"):
        assert good(name=name).name == name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (network(address=None), "network.address is missing"),
        (network(address="192.168.77.21"), "network.netmask is missing"),
        (network(address="192.168.77.0/24"), "network or broadcast address"),
        (network(address="192.168.77.255/24"), "network or broadcast address"),
        (network(address="192.168.77.21/0"), "prefix length from 1 to 31"),
        (network(address="192.168.77.21/32"), "prefix length from 1 to 31"),
        (network(address="192.168.77.21/"), "prefix length from 1 to 31"),
        (network(address="192.168.77.21/024"), "prefix length from 1 to 31"),
        (network(address="192.168.77.21/24 --x"), "prefix length from 1 to 31"),
        (network(address="192.168.077.21/24"), "no IPv4 address"),
        (network(address="fe80::1/64"), "no IPv4 address"),
        (network(address="127.0.0.1/8"), "no machine on a network"),
        (network(address="224.0.0.9/24"), "no machine on a network"),
        (network(address="0.0.0.0/8"), "no machine on a network"),
        (network(address="255.255.255.255/8"), "no machine on a network"),
        (network(address=3232255265), "put the value in quotes"),
        (network(netmask="255.255.0.0"), "says /16 but network.address says /24"),
        (network(netmask="255.0.255.0"), "no netmask"),
        (network(gateway="192.168.78.1"), "outside 192.168.77.0/24"),
        (network(gateway="192.168.77.21"), "the host's own address"),
        (network(gateway="192.168.77.255"), "network or broadcast address"),
        (network(gateway="router"), "no IPv4 address"),
        (network(nameservers=["1.1.1.1", "1.1.1.2", "1.1.1.3"]), "at most 2"),
        (network(nameservers=["ns1.example.com"]), "item 1 is 'ns1.example.com', which is no IPv4 address"),
        (network(vlan=4095), "from 0 to 4094"),
        (network(vlan=-1), "from 0 to 4094"),
        (network(vlan="5 --x"), "from 0 to 4094"),
        (network(vlan=True), "from 0 to 4094"),
        (network(nic="00:50:56:00:00:09"), "none of the host's macs"),
        (network(nic="vmnic"), "no MAC address"),
        (network(nic="vmnic0 --x"), "no MAC address"),
        (network(bootproto="DHCP"), "write one of static, dhcp"),
        (network(bootproto="dhcp"), "network.gateway cannot be set with bootproto dhcp"),
        (network(boot_address="192.168.77.121/24"), "no IPv4 address"),
        (network(adress="x"), "network.adress is no option; did you mean address?"),
        ({"network": "192.168.77.21"}, "network is a str; write a mapping"),
        ({"network": None}, "network.address is missing"),
    ],
)
def test_bad_networks(changes, says):
    text = wrong(**changes)
    assert says in text
    assert len(text.splitlines()) == 1, "one mistake, one sentence"
    assert text.startswith(f"{NAME}: network") and text.endswith((".", "?"))


def test_dhcp():
    host = good(network={"bootproto": "dhcp"})
    assert host.network.address is None and host.network.boot_address is None and host.addresses == ()
    host = good(network={"bootproto": "dhcp", "address": "192.168.77.21"})
    assert host.network.boot_address == "192.168.77.21"
    assert "nameservers are ignored" in wrong(network={"bootproto": "dhcp", "nameservers": ["1.1.1.1"]})


def test_other_networks_that_are_good():
    assert good(**network(address="192.168.77.21", netmask="255.255.255.0")).network.prefix == 24
    assert good(**network(address="10.0.0.0/31", gateway="10.0.0.1")).network.netmask == "255.255.255.254"
    assert good(**network(vlan="12", nic="vmnic3")).network.vlan == 12
    host = good(**network(nic="0050.56AA.0102", boot_address="192.168.80.5"))
    assert host.network.nic == "00:50:56:aa:01:02"
    assert host.addresses == ("192.168.80.5", "192.168.77.21")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": None}, "image is missing"),
        ({"image": 8.0}, "image was read by YAML as the number 8.0; put the value in quotes"),
        ({"image": "../x"}, "imported image's name"),
        ({"image": "a..b"}, "imported image's name"),
        ({"image": "a b"}, "imported image's name"),
        ({"image": "esxi\n"}, "imported image's name"),
        ({"image": "x" * 65}, "at most 64"),
        ({"firmware": "efi"}, "write one of auto, bios, uefi"),
        ({"disk": None}, "disk is missing"),
        ({"disk": {}}, "none is ever taken by itself"),
        ({"disk": {"first": ["local"], "device": "naa.1"}}, "write only one of"),
        ({"disk": {"device": "naa.1 --overwritevmfs"}}, "a disk's name"),
        ({"disk": {"device": "/dev/sda"}}, "a disk's name"),
        ({"disk": {"first": ["local,remote"]}}, "disk.first item 1"),
        ({"disk": {"first": ['a" --overwritevmfs "']}}, "disk.first item 1"),
        ({"disk": {"first": ["PERC H730P Mini Monolithic"]}}, "write 'PERC H730P Mini'"),
        ({"disk": {"first": True}}, "disk.first"),
        ({"disk": {"first": [], "existing_vmfs": "yes"}}, "write one of refuse, preserve, overwrite"),
        ({"disk": {"first": [], "existing_vmfs": True}}, "write one of refuse, preserve, overwrite"),
        ({"disk": {"device": "naa.1", "ignore_ssd": True}}, "disk.ignore_ssd works with disk.first"),
        ({"disk": {"booted": True}}, "for kickstart.command: upgrade only"),
        ({"boot": {"options": {"ks": "http://evil/"}}}, "this install's own URL"),
        ({"boot": {"options": {"KS": "http://evil/"}}}, "this install's own URL"),
        ({"boot": {"options": {"netdevice": "x"}}}, "use boot.netdevice"),
        ({"boot": {"options": {"a": "b c"}}}, "without blanks"),
        ({"boot": {"options": {"a": "b\nkernel=/x"}}}, "without blanks"),
        ({"boot": {"options": {"a b": "c"}}}, "kernel option's name"),
        ({"boot": {"options": ["a"]}}, "is no mapping"),
        ({"boot": {"vlan": 5000}}, "boot.vlan"),
        ({"boot": {"media_size": "big"}}, "write one of min, small, default, max"),
        ({"reinstall": "a\nb"}, "reinstall"),
        ({"reinstall": datetime.date(2026, 11, 22)}, "reinstall is a date"),
        ({"reinstall": 20261122}, "put the value in quotes"),
        ({"firmwar": "bios"}, "firmwar is no option; did you mean firmware?"),
        ({"\nx": 1}, "is no option"),
        ({"kickstart": {"command": "instal"}}, "write one of install, installorupgrade, upgrade"),
        ({"kickstart": {"keyboard": "US\nreboot"}}, "keyboard's name"),
        ({"kickstart": {"partitions": {"name": "x"}}}, "is no list"),
        ({"kickstart": {"partitions": [{"name": "x"}]}}, "exactly one of disk and first"),
        ({"kickstart": {"clearpart": {}}}, "exactly one of drives"),
        ({"kickstart": {"clearpart": {"all_drives": True, "first": []}}}, "exactly one of drives"),
        ({"kickstart": {"pre": "a\r\nb"}}, "carriage returns"),
        ({"kickstart": {"pre": "echo \u00e4"}}, "printable ASCII"),
        ({"kickstart": {"pre": "a\0b"}}, "line 1 is 'a\\x00b'"),
        ({"kickstart": {"pre": ["a"]}}, "is a list"),
        ({"kickstart": {"pre": " \n"}}, "is empty"),
        ({"kickstart": {"extra_commands": ["rootpw secret"]}}, "the password is an option of its own"),
        ({"kickstart": {"extra_commands": ["install --firstdisk --overwritevmfs"]}}, "use disk"),
        ({"kickstart": {"extra_commands": ["accepteula"]}}, "it is always there"),
        ({"kickstart": {"extra_commands": ["%pre"]}}, "opens a section"),
        ({"kickstart": {"extra_commands": ["%include /x\nrootpw x"]}}, "one line"),
        ({"kickstart": {"extra_commands": ["x 'open"]}}, "never closed"),
        ({"kickstart": {"force_migrate": True}}, "installorupgrade or upgrade only"),
        ({"kickstart": {"command": "upgrade", "clearpart": {"all_drives": True}}}, "works with command install only"),
        ({"upgrade": True, "reinstall": "CHG1"}, "upgrade and reinstall are both asked for"),
        ({"reinstall": True, "kickstart": {"command": "upgrade"}}, "write upgrade in place of reinstall"),
        ({"upgrade": True, "disk": {"first": [], "force_unsupported": True}}, "disk.force_unsupported is for installs"),
        (
            {"kickstart": {"command": "upgrade"}, "disk": {"first": [], "force_unsupported": True}},
            "boot.options: {allowLegacyCPU: true}",
        ),
        ({"upgrade": True, "disk": {"booted": True}}, "disk.booted needs the UUID of the boot bank"),
        (
            {"kickstart": {"save_bootbank": "5e7d1c2a-93b1f0aa-4c11-005056aa0101"}},
            "disk.booted only; write disk.booted: true",
        ),
        ({"kickstart": {"save_bootbank": "x"}}, "as vmkfstools -P /bootbank shows it"),
        ({"kickstart": {"extra_options": ["--disk=naa.1"]}}, "which the collection writes itself"),
        ({"kickstart": {"extra_options": ["--OverwriteVMFS"]}}, "which the collection writes itself"),
        ({"kickstart": {"extra_options": ["--a b"]}}, "without blanks"),
        ({"kickstart": {"extra_options": ["--ok=1\nreboot"]}}, "without blanks"),
        ({"kickstart": {"pre_interpreter": "perl"}}, "write one of busybox, python"),
        ({"upgrade": 20261122}, "put the value in quotes"),
        ({"reinstall_image": "../x"}, "reinstall_image"),
        ({"post_actions": [{"ssh": "enabled", "after_upgrade": "perhaps"}]}, "write true or false"),
        (
            {"kickstart": {"command": "installorupgrade"}, "disk": {"first": [], "create_vmfs": False}},
            "disk.create_vmfs cannot be set with kickstart.command: installorupgrade",
        ),
        (
            {"kickstart": {"command": "upgrade"}, "disk": {"first": [], "existing_vmfs": "overwrite"}},
            "disk.existing_vmfs cannot be set with kickstart.command: upgrade",
        ),
    ],
)
def test_bad_options(changes, says):
    assert says in wrong(**changes)


@pytest.mark.parametrize("option", ["name", "firmware", "reinstall", "image"])
def test_a_number_that_python_does_not_print(option):
    assert option in wrong(**{option: 10**5000})
    assert "macs[0] " in wrong(macs=[10**5000])
    assert "is no option" in wrong(network={10**5000: 1, "address": "192.168.77.21/24"})


@pytest.mark.parametrize("command", ["installorupgrade", "upgrade"])
def test_ignore_ssd_is_for_an_install(command):
    told = wrong(disk={"first": [], "ignore_ssd": True}, kickstart={"command": command})
    assert "disk.ignore_ssd works with disk.first and kickstart.command: install only" in told


def test_what_depends_on_a_wrong_command_is_not_judged():
    told = wrong(
        disk={"first": [], "ignore_ssd": True}, kickstart={"command": "instal", "clearpart": {"all_drives": 1}}
    )
    assert told == f"{NAME}: kickstart.command is 'instal'; write one of install, installorupgrade, upgrade."
    told = wrong(disk={"booted": True}, kickstart=["upgrade"])
    assert told == f"{NAME}: kickstart is a list; write a mapping of options."


def test_a_licence_key_is_never_repeated():
    text = wrong(kickstart={"serial_number": "AAAAA-BBBBB-CCCCC-DDDDD-EEEE"})
    assert "kickstart.serial_number is no ESXi licence key" in text and "AAAAA" not in text


@pytest.mark.parametrize(
    ("given_value", "value"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("no", False),
        ("", False),
        (None, False),
        ("2026-11-22 a", "2026-11-22 a"),
    ],
)
def test_reinstall(given_value, value):
    assert good(reinstall=given_value).reinstall == value


def test_boot_words():
    boot = {"options": {"allowLegacyCPU": True, "ip": "10.0.0.1", "quiet": None}, "vlan": 7, "media_size": "min"}
    words = ("vlanid=7", "systemMediaSize=min", "allowLegacyCPU=true", "ip=10.0.0.1", "quiet")
    assert good(boot=boot).boot.words() == words


def test_all_mistakes_of_a_host_are_told_at_once():
    text = wrong(name="esx_1.example.com", macs=["x", "y"], network={"vlan": "z", "address": "q"}, disk={}, image="")
    for option in ("name", "macs[0]", "macs[1]", "network.vlan", "network.address", "disk", "image"):
        assert f"esx_1.example.com: {option} " in text
    assert len(text.splitlines()) == 7


@pytest.mark.parametrize("value", [None, "x", 5, [], ["a"], True])
def test_what_is_no_definition(value):
    parsed = parse_hosts([value])
    assert list(parsed.errors) == ["hosts[0]"] and not parsed.hosts


def test_a_bad_host_says_nothing_about_the_others():
    parsed = parse_hosts([definition(1), definition(2, image=None), None, definition(3)])
    assert sorted(parsed.hosts) == [NAME, "esx03.example.com"]
    assert sorted(parsed.errors) == ["esx02.example.com", "hosts[2]"]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("MAC address 00:50:56:aa:01:02", {"macs": ["0050.56aa.0102"]}),
        ("IP address 192.168.77.21", {"network": {"address": "192.168.77.21/24"}}),
        ("IP address 192.168.77.21", {"network": {"address": "192.168.77.99/24", "boot_address": "192.168.77.21"}}),
        ("IP address 192.168.77.21", {"network": {"bootproto": "dhcp", "address": "192.168.77.21"}}),
    ],
)
def test_what_two_hosts_share_is_a_mistake_of_both(what, changes):
    parsed = parse_hosts([definition(1), definition(2, **changes), definition(3)])
    assert list(parsed.hosts) == ["esx03.example.com"]
    assert f"{what} of hosts[0] is also that of esx02.example.com (hosts[1])" in parsed.errors[NAME][0]
    assert f"{what} of hosts[1] is also that of {NAME} (hosts[0])" in parsed.errors["esx02.example.com"][0]


def test_two_hosts_of_one_name():
    parsed = parse_hosts([definition(1), definition(2, name="ESX01.example.com")])
    assert not parsed.hosts
    assert [sentence.split(": ", 1)[1].split(";")[0] for sentence in parsed.errors[NAME]] == [
        f"name {NAME} of hosts[0] is also that of {NAME} (hosts[1])",
        f"name {NAME} of hosts[1] is also that of {NAME} (hosts[0])",
    ]


def test_a_shared_mac_is_found_even_when_the_other_host_is_wrong():
    parsed = parse_hosts([definition(1), definition(2, macs=["00:50:56:aa:01:01"], image=None)])
    assert not parsed.hosts and "is also that of" in parsed.errors[NAME][0]


def test_hosts_own_two_addresses_may_be_the_same():
    assert good(**network(boot_address="192.168.77.21")).addresses == ("192.168.77.21",)


def test_the_record_is_canonical_and_keeps_no_secret():
    secret = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
    host = good(
        name="ESX01.example.com",
        macs=["0050.56AA.0101"],
        reinstall="now",
        kickstart={"serial_number": secret, "pre": "echo sesame"},
        post_actions=[{"shell": "echo sesame"}, {"license": secret}],
    )
    text = json.dumps(host.to_record())
    assert secret not in text and "sesame" not in text and "reinstall" not in text
    assert host.to_record()["macs"] == ["00:50:56:aa:01:01"]
    assert host.to_record()["post_actions"] == ["shell", "license"]
    assert json.loads(text) == host.to_record()
    json.dumps(host.to_template())


def test_a_request_to_reinstall_does_not_change_the_record():
    assert good().to_record() == good(reinstall=True).to_record()


def test_valid_name():
    assert valid_name("ESX01.example.com") == NAME
    with pytest.raises(DefinitionError, match="underscore"):
        valid_name("a_b.example.com")


def test_without_netaddr(monkeypatch):
    monkeypatch.setattr(_deps, "NETADDR_IMPORT_ERROR", "trace")
    with pytest.raises(MissingLibraryError, match="netaddr"):
        parse_hosts([definition()])


def test_ten_thousand_hosts_in_seconds():
    many = [
        definition(
            1,
            name=f"esx{number}.example.com",
            macs=[f"00:50:56:{number >> 8:02x}:{number & 255:02x}:{card:02x}" for card in (1, 2)],
            network={"address": f"10.1.{number >> 8}.{number & 255}/8", "gateway": "10.255.255.1"},
        )
        for number in range(1, 10001)
    ]
    began = time.process_time()
    assert len(parse_hosts(many).hosts) == 10000
    assert time.process_time() - began < 10


HOSTILE = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["\n", "a\nb", "'", '"', "`id`", "$(id)", "a;b", "--x", "%pre", "../x", "a b", "\x00", "\u2028", "a\\b"]
    ),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
OPTIONS = {
    "network": ("bootproto", "address", "netmask", "gateway", "nameservers", "vlan", "nic", "boot_address"),
    "disk": ("device", "first", "existing_vmfs", "overwrite_vsan", "create_vmfs"),
    "boot": ("options", "vlan", "media_size", "netdevice"),
    "kickstart": ("command", "clearpart", "partitions", "keyboard", "serial_number", "extra_commands"),
}
PATHS = [
    *((key,) for key in ("name", "macs", "image", "firmware", "reinstall", "vcenter", "unknown", *OPTIONS)),
    ("macs", 0),
    *((section, key) for section, keys in OPTIONS.items() for key in keys),
    ("boot", "options", "x"),
]


def with_value(path, value):
    changed = definition()
    place = changed
    for key in path[:-1]:
        if isinstance(place, dict):
            place = place.setdefault(key, {})
        else:
            place = place[key]
    place[path[-1]] = value
    return changed


@given(path=st.sampled_from(PATHS), value=HOSTILE)
def test_no_value_gets_through_that_could_do_harm(path, value):
    parsed = parse_hosts([with_value(path, value)])
    assert bool(parsed.hosts) != bool(parsed.errors)
    for host in parsed.hosts.values():
        for text in texts_of(host.to_record()):
            assert text.isascii() and text.isprintable()
            assert not set(text) & set("'\"`\\$;|&<>\n")
            assert ".." not in text
    for name, sentences in parsed.errors.items():
        for sentence in (name, *sentences):
            assert sentence.isascii() and sentence.isprintable() and len(sentence) < 1000


def texts_of(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value


def test_a_name_of_blanks_is_refused_by_its_position():
    parsed = parse_hosts([{"name": "   ", "macs": ["00:50:56:aa:bb:01"]}])
    assert list(parsed.errors) == ["hosts[0]"]
    assert "name" in str(parsed.errors["hosts[0]"])
