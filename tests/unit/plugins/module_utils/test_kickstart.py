# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of a kickstart, and that no value of a definition can be more than a value in it."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import (
    Deadlines,
    build,
    check_password,
    check_password_hash,
    password_salt,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import check_kickstart, split_kickstart
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import python_script
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import sha512_crypt
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

HASH = sha512_crypt("bootstrap-1", password_salt("esx01.example.com"))
TEMPLATE = pathlib.Path(__file__).parents[4] / "roles" / "esxi_host" / "templates" / "ks.cfg.j2"
MAC = "00:50:56:aa:01:01"
UUID = "5e7d1c2a-93b1f0aa-4c11-005056aa0101"


def host(**changes):
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.errors, parsed.errors
    return next(iter(parsed.hosts.values()))


def kickstart(**changes):
    return build(host(**changes), MAC, HASH, Deadlines())


def render(some_host, mac=MAC):
    """The role's template as Ansible renders it."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text())
    ks = build(some_host, mac, HASH, Deadlines()).to_template()
    return template.render(ks=ks, host=some_host.to_template(), mac=mac)


def test_the_smallest_kickstart():
    assert kickstart().commands == (
        "vmaccepteula",
        f"rootpw --iscrypted {HASH}",
        "install --firstdisk=local",
        f"network --bootproto=static --device={MAC} --ip=192.168.77.21 --netmask=255.255.255.0 "
        "--gateway=192.168.77.1 --hostname=esx01.example.com --addvmportgroup=0",
        "reboot",
    )


@pytest.mark.parametrize(
    ("disk", "line"),
    [
        ({"device": "mpx.vmhba0:C0:T0:L0"}, "install --disk=mpx.vmhba0:C0:T0:L0"),
        ({"first": []}, "install --firstdisk"),
        ({"first": "local"}, "install --firstdisk=local"),
        ({"first": ["PERC H730P Mini", "usb"]}, 'install --firstdisk="PERC H730P Mini,usb"'),
        ({"first": ["local"], "existing_vmfs": "refuse"}, "install --firstdisk=local"),
        ({"first": ["local"], "existing_vmfs": "preserve"}, "install --firstdisk=local --preservevmfs"),
        ({"first": ["local"], "existing_vmfs": "overwrite"}, "install --firstdisk=local --overwritevmfs"),
        (
            {"first": [], "create_vmfs": False, "overwrite_vsan": True, "ignore_ssd": True, "force_unsupported": True},
            "install --firstdisk --novmfsondisk --overwritevsan --ignoressd --forceunsupportedinstall",
        ),
    ],
)
def test_the_install_line(disk, line):
    assert kickstart(disk=disk).install == (line,)


@pytest.mark.parametrize(
    ("network", "line"),
    [
        ({"bootproto": "dhcp"}, f"network --bootproto=dhcp --device={MAC} --addvmportgroup=0"),
        (
            {"bootproto": "dhcp", "address": "192.168.77.21", "nic": "vmnic2", "vlan": 7, "nodns": True},
            "network --bootproto=dhcp --device=vmnic2 --vlanid=7 --addvmportgroup=0 --nodns",
        ),
        (
            {"address": "10.0.0.5/8", "nameservers": ["10.0.0.1", "10.0.0.2"], "vm_portgroup": True},
            f"network --bootproto=static --device={MAC} --ip=10.0.0.5 --netmask=255.0.0.0 "
            "--nameserver=10.0.0.1,10.0.0.2 --hostname=esx01.example.com --addvmportgroup=1",
        ),
    ],
)
def test_the_network_line(network, line):
    assert kickstart(network=network).network == (line,)


def test_everything_of_the_command_reference():
    some = host(
        disk={"device": "naa.1", "existing_vmfs": "overwrite"},
        kickstart={
            "clearpart": {"first": ["local"]},
            "partitions": [{"name": "ds1", "disk": "naa.2"}, {"name": "ds2", "first": []}],
            "keyboard": "Swiss German",
            "serial_number": "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
            "dryrun": True,
            "no_eject": True,
            "extra_commands": ["%include /tmp/more", "dpu --slot=1"],
        },
    )
    lines = build(some, MAC, HASH, Deadlines()).commands
    assert [line for line in lines if not line.startswith(("network", "rootpw"))] == [
        "vmaccepteula",
        "dryrun",
        "clearpart --firstdisk=local --overwritevmfs",
        "install --disk=naa.1 --overwritevmfs",
        "part ds1 --ondisk=naa.2",
        "part ds2 --onfirstdisk",
        'keyboard "Swiss German"',
        "serialnum --esx=AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
        "%include /tmp/more",
        "dpu --slot=1",
        "reboot --noeject",
    ]
    assert check_kickstart(render(some), some) == []


@pytest.mark.parametrize(
    ("clearpart", "line"),
    [
        ({"all_drives": True}, "clearpart --alldrives"),
        ({"drives": ["naa.1", "naa.2"]}, "clearpart --drives=naa.1,naa.2"),
        ({"ignore_drives": ["naa.3"]}, "clearpart --ignoredrives=naa.3"),
        ({"first": []}, "clearpart --firstdisk"),
    ],
)
def test_clearpart_overwrites_nothing_by_itself(clearpart, line):
    assert kickstart(kickstart={"clearpart": clearpart}).clearpart == (line,)


def test_an_upgrade_leaves_out_what_it_would_not_obey():
    some = host(
        disk={"booted": True},
        kickstart={"command": "upgrade", "save_bootbank": UUID, "force_migrate": True, "keyboard": "French"},
    )
    assert build(some, MAC, "", Deadlines()).commands == (
        "vmaccepteula",
        f"upgrade --diskBootedFrom --forcemigrate --savebootbank={UUID}",
        "reboot",
    )
    assert check_kickstart(render(some), some) == []


def test_installorupgrade():
    some = host(kickstart={"command": "installorupgrade", "force_migrate": True}, disk={"first": ["local"]})
    assert build(some, MAC, HASH, Deadlines()).install == ("installorupgrade --firstdisk=local --forcemigrate",)
    assert check_kickstart(render(some), some) == []


def test_the_sections_name_their_interpreter_and_the_mac():
    ks = build(host(), "00:50:56:aa:01:02", HASH, Deadlines(pre=11, post=22, firstboot=33))
    assert ks.pre.startswith("%pre --interpreter=busybox\n") and "pb_notify installing 11 " in ks.pre
    assert ks.post.startswith("%post --interpreter=busybox --timeout=142 --ignorefailure=true\n")
    assert "pb_notify installed 22 " in ks.post
    assert ks.firstboot.startswith("%firstboot --interpreter=busybox\n") and "pb_notify ready 33 " in ks.firstboot
    for section in (ks.pre, ks.post, ks.firstboot):
        assert "pb_mac='00:50:56:aa:01:02'\n" in section and section.endswith("\n")


@pytest.mark.parametrize(("ignore", "word"), [(False, "false"), (True, "true")])
def test_a_failing_post_script_fails_the_install_unless_it_is_ignored(ignore, word):
    ks = kickstart(kickstart={"post": "true", "post_timeout": 60, "post_ignore_failure": ignore})
    assert ks.post.startswith(f"%post --interpreter=busybox --timeout=300 --ignorefailure={word}\n")


def test_the_sites_firstboot_script_is_the_last_action():
    ks = kickstart(kickstart={"firstboot": "echo last"}, post_actions=[{"ssh": "enabled"}])
    assert ks.firstboot.index("pb_action 'ssh'") < ks.firstboot.index("pb_action 'firstboot script'")
    assert "|echo last\n" in ks.firstboot


def test_the_same_definition_gives_the_same_text():
    assert render(host()) == render(host())


def test_template_values_are_plain():
    some = host(post_actions=[{"shell": "a"}], kickstart={"partitions": [{"name": "x", "disk": "naa.1"}]})
    assert json.loads(json.dumps(some.to_template())) == some.to_template()
    ks = build(some, MAC, HASH, Deadlines()).to_template()
    assert json.loads(json.dumps(ks)) == ks


def test_the_roles_template_gives_a_kickstart_that_passes():
    some = host(post_actions=[{"ssh": "enabled"}, {"shell": "%post\n"}], kickstart={"pre": "a", "post": "b"})
    text = render(some)
    assert check_kickstart(text, some) == []
    assert (
        text.splitlines()[0]
        == f"# ESXi kickstart of esx01.example.com ({MAC}), made by the collection pxemanager.esxi."
    )
    assert text.endswith("\n")


def test_the_salt_is_the_hosts_own_and_stays():
    salt = password_salt("esx01.example.com")
    assert salt == password_salt("esx01.example.com") != password_salt("esx02.example.com")
    assert len(salt) == 16
    assert check_password_hash(HASH) is None


def test_a_hash_with_another_number_of_rounds():
    slow = HASH.replace("$6$", "$6$rounds=656000$")
    assert check_password_hash(slow) is None
    assert check_kickstart(render(host()).replace(HASH, slow), host()) == []


@pytest.mark.parametrize("password", ["short1", "", "a" * 128, "with\nnewline", "umlaut\u00e4\u00e4\u00e4"])
def test_passwords_that_cannot_be(password):
    sentence = check_password(password)
    assert sentence is not None and (not password or password not in sentence)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "$1$salt$" + "a" * 22,
        "$5$salt$" + "a" * 43,
        "$6$salt$" + "a" * 85,
        "$6$salt$" + "a" * 86 + "\n",
        "$6$sa lt$" + "a" * 86,
        "$6$$" + "a" * 86,
    ],
)
def test_hashes_that_are_no_sha512(value):
    sentence = check_password_hash(value)
    assert sentence is not None and "$6$" in sentence and value.strip() not in sentence


# Nothing of what a definition says may become a line, a section, a word or an option of its own.

PIECES = ["%post\n", "\nPB_END\n", "%include x\n", "exit 0\n", *"abz %|'\"`$(){}\\;<>&\n\t_#-=P"]
SCRIPTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
HOSTILE = st.text(max_size=16) | st.sampled_from(
    [
        "a\nreboot",
        'a" --overwritevmfs "',
        "x --overwritevmfs",
        "%pre",
        "#",
        "a'b",
        "a b",
        "\u00e4",
        "$(id)",
        "a;b",
        "--x",
    ]
)


def near(*good):
    """Mostly values that may well pass, for what does not pass cannot do harm."""
    return st.sampled_from([*good] * 12 + [None]).flatmap(lambda value: HOSTILE if value is None else st.just(value))


def options(**strategies):
    return st.fixed_dictionaries({}, optional=strategies)


NAMES = near("local", "a b", "ds1", "VM Network (2)", "a.b-c_d", "x#1", "a=b", "a,b", "Swiss German")
DISK = st.one_of(
    options(existing_vmfs=st.sampled_from(["refuse", "preserve"]), ignore_ssd=st.booleans()).flatmap(
        lambda rest: st.lists(near("local", "usb", "PERC H730P Mini", "vmw_ahci"), max_size=3).map(
            lambda first: {"first": first, **rest}
        )
    ),
    near("naa.6001", "mpx.vmhba0:C0:T0:L0", "/vmfs/devices/disks/t10.ATA_x").map(lambda device: {"device": device}),
)
DEFINITIONS = options(
    name=near("esx01.example.com", "ESX9.example.com"),
    image=near("esxi-8.0.3"),
    disk=DISK,
    network=st.fixed_dictionaries(
        {"bootproto": st.sampled_from(["static", "dhcp"]), "address": near("192.168.77.21/24")},
        optional={"nic": near("vmnic0", "00:50:56:aa:01:02"), "vlan": st.integers(0, 4094)},
    ),
    kickstart=options(
        keyboard=near("Swiss German", "French"),
        serial_number=near("AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"),
        pre=SCRIPTS,
        post=SCRIPTS,
        firstboot=SCRIPTS,
        extra_commands=st.lists(near("%include /tmp/x", "dpu --slot=1", "x 'a b'", "a#b"), max_size=2),
        partitions=st.lists(options(name=near("ds1"), disk=near("naa.1")), max_size=1),
    ),
    post_actions=st.lists(
        st.one_of(
            st.fixed_dictionaries({"shell": SCRIPTS}, optional={"name": NAMES}),
            st.fixed_dictionaries({"portgroup": st.fixed_dictionaries({"name": NAMES, "vswitch": near("vSwitch1")})}),
            st.fixed_dictionaries({"advanced": st.fixed_dictionaries({"option": near("/A/b"), "value": NAMES})}),
        ),
        max_size=3,
    ),
)


@given(changes=DEFINITIONS)
def test_no_definition_smuggles_anything_into_a_kickstart(changes):
    parsed = parse_hosts([definition(**changes)])
    for some in parsed.hosts.values():
        text = render(some)
        assert text.isascii() and not set(text) - set("\n\t") - {chr(code) for code in range(32, 127)}
        lines, sections = split_kickstart(text)
        expected = build(some, MAC, HASH, Deadlines())
        # Read back, the lines are those that were meant, and each is a known command with known options.
        assert [line for _number, line in lines] == list(expected.commands)
        assert [section.line.split()[0] for section in sections] == ["%pre", "%post", "%firstboot"]
        assert "--overwritevmfs" not in " ".join(expected.commands)
        for line in expected.commands:
            if line not in some.kickstart.extra_commands:
                assert len(shlex.split(line)) == len(meant_words(line))
        assert not [
            error for error in check_kickstart(text, some) if "did you mean" not in error and not excused(error, some)
        ]


def meant_words(line):
    """A line has as many words as blanks outside of quotes make of it."""
    return re.sub('"[^"]*"', "x", line).split()


def excused(error, some):
    """Extra commands and the text of scripts are the site's own words, and are checked as such."""
    own = [*some.kickstart.extra_commands, some.kickstart.pre, some.kickstart.post, some.kickstart.firstboot]
    own.extend(action.script for action in some.post_actions)
    return any(text and "overwritevmfs" in text.lower() for text in own) and "overwritevmfs" in error


@given(script=SCRIPTS)
def test_a_script_comes_out_of_its_here_document_as_it_went_in(script):
    parsed = parse_hosts([definition(post_actions=[{"shell": script}])])
    for some in parsed.hosts.values():
        section = build(some, MAC, HASH, Deadlines()).firstboot
        inside = section.split("<<'PB_END'\n", 1)[1]
        carried = inside[: inside.index("\nPB_END\n") + 1]
        assert all(line.startswith("|") for line in carried.splitlines())
        assert "".join(f"{line[1:]}\n" for line in carried.splitlines()) == some.post_actions[0].shell()


def test_with_secure_boot_nothing_is_left_to_the_first_boot():
    secure = host(secure_boot=True, post_actions=[{"ssh": "enabled"}])
    kickstart = build(secure, MAC, HASH, Deadlines())
    text = jinja2.Template(TEMPLATE.read_text()).render(host=secure.to_template(), ks=kickstart.to_template(), mac=MAC)
    assert "%firstboot" not in text and "hostsvc/enable_ssh" not in text
    assert check_kickstart(text, secure) == []
    assert any("%firstboot" in error for error in check_kickstart(text, host())), "every other host needs it"


def test_secure_boot_with_bios_is_a_mistake():
    parsed = parse_hosts([definition(secure_boot=True, firmware="bios")])
    assert not parsed.hosts and "firmware: uefi" in str(parsed.errors)


def test_a_request_for_an_upgrade_leaves_out_what_only_an_install_knows():
    """The definition of a host need not be written anew to upgrade it once."""
    ks = kickstart(
        upgrade="CHG1",
        disk={"first": ["local"], "existing_vmfs": "overwrite", "create_vmfs": False, "ignore_ssd": True},
        kickstart={"clearpart": {"first": []}, "keyboard": "German", "firstboot": "echo configure", "dryrun": True},
        post_actions=[
            {"ssh": "enabled"},
            {"name": "driver", "shell": "echo driver", "after_upgrade": True},
        ],
    )
    assert ks.commands == ("vmaccepteula", "dryrun", "upgrade --firstdisk=local", "reboot")
    assert "echo driver" in ks.firstboot
    assert "enable_ssh" not in ks.firstboot and "echo configure" not in ks.firstboot


def test_an_install_runs_all_post_actions():
    ks = kickstart(post_actions=[{"ssh": "enabled"}, {"shell": "echo driver", "after_upgrade": True}])
    assert "enable_ssh" in ks.firstboot and "echo driver" in ks.firstboot


def test_the_booted_disk_is_for_upgrades_alone():
    disk, options = {"first": ["local"], "booted": True}, {"save_bootbank": UUID}
    assert kickstart(disk=disk, kickstart=options).install == ("install --firstdisk=local",)
    line = f"upgrade --diskBootedFrom --savebootbank={UUID}"
    assert kickstart(disk=disk, kickstart=options, upgrade=True).install == (line,)


def test_a_python_script_runs_by_whichever_name_python_has(tmp_path):
    text = "import sys\nprint('PB_PYTHON', sys.version_info[0] > 2)\n"
    for names in (("python3",), ("python",)):
        folder = tmp_path / names[0]
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(sys.executable)
        done = subprocess.run(
            ["/bin/sh", "-c", python_script(text)],
            env={"PATH": str(folder), "PYTHONHOME": sys.base_prefix},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "PB_PYTHON True\n"), done.stderr
    ks = kickstart(kickstart={"post": text, "post_interpreter": "python", "pre": "echo shell"})
    assert "|print('PB_PYTHON'" in ks.post and "pb_name" not in ks.pre


def test_options_that_the_collection_does_not_know():
    ks = kickstart(kickstart={"extra_options": ["--dpupcislots=2", "--future"]})
    assert ks.install == ("install --firstdisk=local --dpupcislots=2 --future",)


@pytest.mark.parametrize("word", ["install", "installorupgrade"])
def test_a_template_that_installs_is_no_upgrade(word):
    some = host(upgrade=True)
    text = render(some).replace("upgrade --firstdisk=local", f"{word} --firstdisk=local")
    found = check_kickstart(text, some)
    assert any("an upgrade is asked for; write {{ ks.install }} there" in sentence for sentence in found)


def test_a_template_that_gives_an_upgrade_a_password():
    some = host(upgrade=True)
    text = render(some).replace("vmaccepteula", f"vmaccepteula\nrootpw --iscrypted {HASH}")
    assert any("rootpw, which an upgrade does not take" in sentence for sentence in check_kickstart(text, some))
