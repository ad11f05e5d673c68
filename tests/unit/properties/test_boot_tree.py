# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever people define and whatever a medium says: the boot tree is right by the loaders' rules, or nobody wrote it.

Definitions and media are drawn at random, hostile ones among them, and published as esxi_pxe_host does it into a tree
on disk, on which machines then boot.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils import _store
from ansible_collections.pxemanager.esxi.plugins.module_utils._bootcfg import (
    ImageError,
    parse_boot_cfg,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    BiosLoader,
    Source,
    describe_image,
)
from ansible_collections.pxemanager.esxi.tests.support import boot_walk
from ansible_collections.pxemanager.esxi.tests.support.boot_rules import (
    SKIP_SINCE,
    check_boot_cfg,
    check_ipxe,
    check_pxelinux,
    version_of,
)
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, image_record

UNKNOWN = "02:00:00:00:00:01"

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    """What is on disk after a power cut is tested elsewhere, with fewer trees."""
    with mock.patch.object(os, "fsync"), mock.patch.object(_store, "_syncfs", return_value=0):
        yield


# Text that ends lines, names, paths or words early, or is no text at all.
HOSTILE = [
    "x\nkernel=/evil",
    "x\r\nskip=0",
    "x\rkernel=/evil",
    "x\x00y",
    "x\x1b[2J",
    "x\x85kernel=/evil",
    "x\u2028kernel=/evil",
    "\u00e4\u00f6\u20ac",
    "\u202ecba",
    "x --- evil.v00",
    "---",
    "a---b",
    "tftp://evil/x",
    "http://evil/x",
    "../../etc/passwd",
    "../../../../../../etc/passwd",
    "..",
    "/etc/passwd",
    "x y",
    " x",
    "x ",
    "x\ty",
    "ks=http://evil/ks",
    "BOOTIF=01-00-00-00-00-00-00",
    "skip=1",
    "${net0/mac}",
    "a && shell",
    "x || shell",
    "$(reboot)",
    "`reboot`",
    "'\"\\",
    "%s%n",
    "x" * 5000,
    "x" * 512,
    "",
    "#",
    None,
    True,
    0,
    -1,
    10**12,
    1.5,
    [],
    {},
    {"x\nkernel=/evil": "y"},
    ["x\nkernel=/evil"],
]
hostile = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40), st.integers(), st.binary(max_size=4))

WORDS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9_.:/,@+=%-]{0,20}", fullmatch=True)
TAKEN = {"ks", "bootif", "netdevice", "ksdevice", "vlanid", "systemmediasize", "cdromboot"}

# Media.

VERSIONS = ["6.7.0", "7.0.0", "7.0.2", "7.0.3", "8.0.0", "8.0.1", "8.0.3", "9.0.0"]


@st.composite
def media(draw, number):
    """What is on an installer medium: its boot.cfg (as text), its loaders, and the name that it is imported by."""
    version = draw(st.sampled_from(VERSIONS))
    names = draw(
        st.lists(
            st.from_regex(r"[a-z][a-z0-9_.-]{0,8}\.(?:v00|gz|b00)", fullmatch=True), min_size=1, max_size=6, unique=True
        )
    )
    odd = st.sampled_from([word for word in HOSTILE if isinstance(word, str)])
    options = st.one_of(st.just(""), st.just("quiet"), st.just("a=1 b=/x,y"), st.just("  two   blanks "), odd)
    often = draw(st.booleans())
    modules = [(name, draw(options) if often else "") for name in names]
    kernelopts = ["runweasel", "runweasel cdromBoot", "ks=http://baked/in KSDEVICE=vmnic0 debug", "netdevice=x a", ""]
    kernelopt = draw(st.one_of(st.sampled_from(kernelopts), odd if often else st.just("runweasel")))
    title = draw(st.one_of(st.just("Loading  ESXi installer"), odd if often else st.just("")))
    uefi = draw(st.booleans())
    bios = draw(st.sampled_from(["mboot.c32", "linux", "none"] if uefi else ["mboot.c32", "linux"]))
    text = (
        f"bootstate=0\ntitle={title}\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt={kernelopt}\n"
        f"modules={' --- '.join(f'/{name} {option}' for name, option in modules)}\nbuild={version}-0.0.1\nupdated=0\n"
    )
    return {"name": f"esxi-{number}-{version}", "text": text, "version": version, "bios": bios, "uefi": uefi}


def import_medium(server, medium):
    """As esxi_image does, but for the copying. None: the medium was refused. Else the image's record."""
    try:
        config = parse_boot_cfg(medium["text"].encode())
        files = dict.fromkeys((config.kernel, *(module.split(" ")[0] for module in config.modules)), 1)
        linux = None
        if medium["uefi"]:
            files["efi/boot/bootx64.efi"] = 1
            if version_of(medium["version"]) >= (7, 0, 2):
                files["efi/boot/crypto64.efi"] = 1
        if medium["bios"] == "mboot.c32":
            files["mboot.c32"] = 1
        elif medium["bios"] == "linux":
            files.update({"vmlinuz": 1, "initrd.gz": 1})
            linux = BiosLoader("linux", kernel="vmlinuz", initrd="initrd.gz", append="console=ttyS0")
        source = Source("/iso", "iso", "1")
        image = describe_image(
            medium["name"], config, files, sha256="0" * 64, source=source, imported="2026-11-22T19:00:00Z", linux=linux
        )
    except ImageError as error:
        assert str(error).isprintable(), error
        return None
    folder = server.layout.image_dir(image.name)
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{image.name} {path}\n")
    server.layout.description(image.name).write_text(json.dumps(image.to_record()))
    return image.to_record()


# Definitions.


@st.composite
def definitions(draw, number, images):
    """A correct definition of a host with any of its options."""
    address = f"192.168.77.{20 + number}"
    network = draw(
        st.sampled_from(
            [
                {"address": f"{address}/24", "gateway": "192.168.77.1", "vlan": 7},
                {"address": f"10.1.0.{number}", "netmask": "255.255.0.0", "boot_address": address},
                {"bootproto": "dhcp", "boot_address": address, "vm_portgroup": True},
                {"bootproto": "dhcp"},
            ]
        )
    )
    options = draw(st.dictionaries(WORDS.filter(lambda word: word.lower() not in TAKEN), VALUES, max_size=5))
    bare = draw(st.sampled_from([{}, {"debugLogToSerial": True}, {"allowLegacyCPU": True, "quiet": None}, {"n": 5}]))
    host = {
        "name": draw(st.sampled_from([f"esx{number}.example.com", f"ESX{number}.Lab-1.example.com", f"a{number}.b"])),
        "macs": [f"00:50:56:AA:0{number}:0{card}" for card in range(1, draw(st.integers(1, 3)) + 1)],
        "network": network,
        "image": draw(st.sampled_from(images)),
        "disk": draw(st.sampled_from([{"first": ["local"]}, {"device": "mpx.vmhba0:C0:T0:L0"}, {"first": []}])),
        "boot": {"options": {**options, **bare}},
    }
    for key, values in (
        ("vlan", st.integers(0, 4094)),
        ("media_size", st.sampled_from(["min", "small", "default", "max"])),
        ("netdevice", st.booleans()),
    ):
        if draw(st.booleans()):
            host["boot"][key] = draw(values)
    if draw(st.booleans()):
        host["firmware"] = draw(st.sampled_from(["auto", "bios", "uefi"]))
    if draw(st.integers(0, 3)) == 0:
        host["boot"]["options"].update({f"long{count}": "x" * 500 for count in range(draw(st.integers(6, 9)))})
    return host


PLACES = [
    ("name",),
    ("macs",),
    ("macs", 0),
    ("image",),
    ("firmware",),
    ("reinstall",),
    ("network",),
    ("network", "address"),
    ("network", "boot_address"),
    ("network", "vlan"),
    ("network", "nic"),
    ("network", "nameservers"),
    ("disk",),
    ("disk", "device"),
    ("boot",),
    ("boot", "options"),
    ("boot", "options", "word"),
    ("boot", "options", None),
    ("boot", "vlan"),
    ("boot", "media_size"),
    ("kickstart",),
    ("kickstart", "pre"),
    ("kickstart", "extra_commands"),
    ("post_actions",),
    ("vcenter",),
    (None,),
]


def spoil(host, place, value):
    """The definition with a value put in one place of it; None stands for a key that is the value itself."""
    spoilt = copy.deepcopy(host)
    at = spoilt
    for key in place[:-1]:
        at = at.setdefault(key, {})
    last = place[-1] if place[-1] is not None else (value if isinstance(value, str) else repr(value))
    at[last] = value if place[-1] is not None else "x"
    return spoilt


@st.composite
def sites(draw, spoilt=False):
    site = {
        "media": [draw(media(number)) for number in range(draw(st.integers(1, 2)))],
        "http_port": draw(st.sampled_from([80, 8080])),
        "bios_localboot": draw(st.sampled_from([0, -1])),
    }
    images = [medium["name"] for medium in site["media"]]
    site["hosts"] = [draw(definitions(number, images)) for number in range(1, draw(st.integers(1, 2)) + 1)]
    if spoilt:
        site["place"], site["value"] = draw(st.sampled_from(PLACES)), draw(hostile)
    return site


# What is to be.


def expected_options(host, record, ks, mac):
    """The kernel's options to the last word, from what people and the medium wrote."""
    boot = host.get("boot") or {}
    own = {"ks", "ksdevice", "bootif", "netdevice", "cdromboot"}
    words = [word for word in record["kernelopt"].split() if word.split("=")[0].lower() not in own]
    words.append(f"ks={ks}")
    if boot.get("netdevice", True):
        words.append(f"netdevice={mac}")
    if boot.get("vlan"):
        words.append(f"vlanid={boot['vlan']}")
    if boot.get("media_size"):
        words.append(f"systemMediaSize={boot['media_size']}")
    for key, value in (boot.get("options") or {}).items():
        if isinstance(value, (bool, int)):
            value = str(value).lower()
        words.append(key if value in (None, "") else f"{key}={value}")
    return [*words, f"BOOTIF=01-{mac.replace(':', '-')}"]


def expected_ways(host, record):
    """The ways on which an armed host installs."""
    firmware = host.get("firmware") or "auto"
    ways = set()
    if firmware != "uefi" and record["loaders"]["bios"] is not None:
        ways.add("bios")
    if firmware != "bios":
        ways |= {"uefi", "uefi-http", "ipxe"}
    return ways


class Site:
    """A PXE server in a folder, judged by the rules after every call."""

    def __init__(self, root, site):
        self.server = PxeServer(
            Path(root), image=False, http_port=site["http_port"], bios_localboot=site["bios_localboot"]
        )
        port = "" if site["http_port"] == 80 else f":{site['http_port']}"
        self.base_url = f"http://192.168.77.10{port}"
        self.records = {}
        for medium in site["media"]:
            record = import_medium(self.server, medium)
            if record is not None:
                self.records[medium["name"]] = record
        self.mboots = {name: record["mboot_version"] for name, record in self.records.items()}
        self.tree = boot_walk.Tree(self.server.boot, self.base_url, self.mboots)

    def call(self, state, *hosts):
        value = self.server.call(state, *hosts)
        self.check_files()
        self.check_local(UNKNOWN)
        return value

    def walks(self, mac):
        return {way: walk(self.tree, mac) for way, walk in boot_walk.WAYS.items()}

    def check_local(self, mac):
        for way, walk in self.walks(mac).items():
            assert (walk.what, walk.missing, walk.violations) == ("local", [], []), (mac, way, walk)

    def check_install(self, host, name):
        """An armed host, to the last word; the ways that are not for it boot the disk."""
        record, key = self.records[host["image"]], self.server.install(name).key
        assert re.fullmatch("[0-9a-f]{32,}", key)
        for mac in map(str.lower, host["macs"]):
            stem = f"01-{mac.replace(':', '-')}"
            for way, walk in self.walks(mac).items():
                assert (walk.missing, walk.violations) == ([], []), (way, walk)
                if way not in expected_ways(host, record):
                    assert walk.what == "local", (way, walk)
                    continue
                assert walk.what == "install", (way, walk)
                options = expected_options(host, record, f"{self.base_url}/ks/{key}/{stem}.cfg", mac)
                folder = f"images/{host['image']}"
                files = [record["kernel"], *(module.split(" ")[0] for module in record["modules"])]
                if way == "bios" and record["loaders"]["bios"]["kind"] == "linux":
                    files, options = ["vmlinuz", "initrd.gz"], ["console=ttyS0", *options]
                assert walk.options == options, way
                assert list(walk.files) == [f"{folder}/{file}" for file in files], way

    def check_files(self):
        """Every file of the tree is one that a loader reads, and keeps its rules; every link leads to something."""
        supplier = self.tree.resolve("mboot.efi")
        mboot = self.mboots[supplier.split("/")[1]] if supplier else None
        assert mboot is None or version_of(mboot) >= SKIP_SINCE
        for folder, _folders, files in os.walk(self.server.boot):
            for file in files:
                path = os.path.relpath(os.path.join(folder, file), self.server.boot)
                assert self.tree.resolve(path) is not None, f"{path} leads nowhere"
                if path.startswith("images/") or file.endswith(".efi"):
                    continue
                self.check_file(path, mboot)

    def check_file(self, path, mboot):
        data = (self.server.boot / path).read_bytes()
        if path.endswith(".ipxe"):
            found = check_ipxe(data)
        elif path.endswith(".pxelinux") or path.startswith("pxelinux.cfg/"):
            found = check_pxelinux(data)
        else:
            assert path.endswith("boot.cfg"), f"no loader asks for {path}"
            http = path.startswith("http/") or path.endswith(".http.boot.cfg")
            image = re.search(r"install (\S+)$", data.decode().split("\n")[1])
            modules = self.records[image[1]]["modules"] if image else None
            # Where no mboot is served, none reads it.
            found = check_boot_cfg(data, transport="http" if http else "tftp", mboot=mboot or "9.0.0", modules=modules)
        assert found == [], (path, data, [str(violation) for violation in found])

    def traces(self, name):
        """What there is of a host on the server's disk."""
        stems = [path for path in self.server.snapshot() if f"/{name}" in f"/{path}" and "/locks/" not in path]
        return sorted(stems)


def names_of(hosts):
    return [host["name"].lower() for host in hosts]


@settings(BOUNDED, max_examples=40)
@given(site=sites())
def test_hosts_from_the_first_publishing_to_the_last_trace(site):
    with tempfile.TemporaryDirectory() as root:
        run_site(Site(root, site), site["hosts"])


def run_site(place, hosts):
    server = place.server
    by_name = dict(zip(names_of(hosts), hosts))
    canonical = [
        {**host, "name": name, "macs": [mac.lower() for mac in host["macs"]]} for name, host in by_name.items()
    ]
    value = place.call("published", *hosts)
    assert value["failed_hosts"] == [], value["msg"]
    for host in canonical:
        for mac in host["macs"]:
            place.check_local(mac)

    server.write_kickstarts(*canonical)
    value = place.call("armed", *hosts)
    for host in canonical:
        name = host["name"]
        result = value["hosts"][name]
        if not result["failed"]:
            place.check_install(host, name)
            continue
        assert why_not(place, host), result["msg"]
        assert name in result["msg"]
        assert server.mode(name) == "local" and os.listdir(server.layout.mode_dir(name, "install")) == []
        for mac in host["macs"]:
            place.check_local(mac)
    armed = [host for host in canonical if not value["hosts"][host["name"]]["failed"]]
    for host in armed:
        assert not why_not(place, host)

    again = place.call("armed", *armed)
    assert not again["changed"], "arming twice is arming once"
    place.call("disarmed", *canonical)
    for host in canonical:
        assert os.listdir(server.layout.mode_dir(host["name"], "install")) == []
        for mac in host["macs"]:
            place.check_local(mac)
    place.call("absent", *canonical)
    for host in canonical:
        assert place.traces(host["name"]) == []
        for mac in host["macs"]:
            place.check_local(mac)
            assert not (server.boot / f"01-{mac.replace(':', '-')}").exists()


@pytest.mark.parametrize("newest", ["8.0.0", "8.0.1", "9.0.0"])
def test_every_firmware_with_every_kind_of_image(newest, tmp_path):
    versions = ["6.7.0", newest]
    kinds = [("mboot.c32", True), ("mboot.c32", False), ("linux", True), ("linux", False), ("none", True)]
    text = "kernel=/b.b00\nkernelopt=runweasel cdromBoot\nmodules=/a.v00 --- /b.v00 x\nbuild={}-0.0.1\n"
    drawn = [(version, *kind) for version in versions for kind in kinds]
    drawn.append(("9.0.1", "mboot.c32", False))  # newer than any mboot here
    medium = [
        {"name": f"esxi-{number}", "text": text.format(version), "version": version, "bios": bios, "uefi": uefi}
        for number, (version, bios, uefi) in enumerate(drawn)
    ]
    hosts = [
        {
            "name": f"{firmware}-{image['name']}.example.com",
            "macs": [f"00:50:56:00:{number:02x}:{kind:02x}"],
            "network": {"address": f"10.0.{number}.{kind + 1}/8"},
            "image": image["name"],
            "disk": {"first": ["local"]},
            "firmware": firmware,
        }
        for number, image in enumerate(medium)
        for kind, firmware in enumerate(("auto", "bios", "uefi"))
    ]
    run_site(Site(tmp_path, {"media": medium, "http_port": 80, "bios_localboot": 0}), hosts)


HOST = {
    "name": "esx1.example.com",
    "macs": ["00:50:56:aa:01:01"],
    "network": {"address": "192.168.77.21/24"},
    "image": "esxi",
    "disk": {"first": ["local"]},
}


def with_one_image(root, boot_cfg):
    """A PXE server with the image esxi, whose medium has that boot.cfg."""
    medium = {"name": "esxi", "text": boot_cfg, "version": "8.0.3", "bios": "mboot.c32", "uefi": True}
    return Site(root, {"media": [medium], "http_port": 80, "bios_localboot": 0})


@pytest.mark.parametrize("length", [4094, 4095, 4096, 4097])
def test_the_command_line_to_the_last_byte(length, tmp_path):
    text = "kernel=/b.b00\nkernelopt=runweasel KS=cdrom:/KS.CFG netdevice=x\nmodules=/a.v00\nbuild=8.0.3-0.0.1\n"
    place = with_one_image(tmp_path, text)
    host = {
        **HOST,
        "boot": {"vlan": 7, "options": {f"o{number}": "x" * 500 for number in range(7)}},
    }
    room = length - len(longest_command_line(place, host)) - len(" rest=")
    host["boot"]["options"]["rest"] = "x" * room
    assert len(longest_command_line(place, host)) == length
    run_site(place, [host])
    assert bool(why_not(place, host)) == (length > 4095)


@pytest.mark.parametrize("words", ["tftp://evil/x", "/etc/passwd", "a=1 b=http://x/y", "#", "skip=1"])
def test_words_for_a_module_are_no_file_and_can_be_armed(words, tmp_path):
    text = f"kernel=/b.b00\nkernelopt=runweasel\nmodules=/a.v00 {words} --- /c.v00\nbuild=8.0.3-0.0.1\n"
    place = with_one_image(tmp_path, text)
    run_site(place, [HOST])
    assert not why_not(place, HOST)


def longest_command_line(place, host):
    """With the longer of the two prefixes, for the first MAC."""
    record, mac = place.records[host["image"]], host["macs"][0].lower()
    ks = f"{place.base_url}/ks/{'0' * 32}/01-{mac.replace(':', '-')}.cfg"
    kernel = f"{place.base_url}/images/{host['image']}/{record['kernel']}"
    return " ".join([kernel, *expected_options(host, record, ks, mac)])


def why_not(place, host):
    """Why a correct definition cannot be armed, from what people and the media say; empty: it can."""
    record = place.records.get(host["image"])
    if record is None:
        return "the image was not imported"
    if (host.get("boot") or {}).get("media_size") and version_of(record["version"]) < (7, 0, 1):
        return "an installer without systemMediaSize"
    firmware = host.get("firmware", "auto")
    if firmware == "bios" and record["loaders"]["bios"] is None:
        return "no loader for BIOS"
    if firmware != "bios":
        served = place.tree.resolve("mboot.efi")
        if served is None:
            return "no mboot that could also boot the disk"
        if version_of(place.mboots[served.split("/")[1]]) < version_of(record["version"]):
            return "an older mboot than the image"
    if host["network"] == {"bootproto": "dhcp"}:
        return "nobody may fetch the kickstart"
    return "too long a command line" if len(longest_command_line(place, host)) >= 4096 else ""


@settings(BOUNDED, max_examples=80)
@given(site=sites(spoilt=True))
def test_a_hostile_value_is_refused_by_name_or_does_no_harm(site):
    spoilt = spoil(site["hosts"][0], site["place"], site["value"])
    others = site["hosts"][1:]
    with tempfile.TemporaryDirectory() as root:
        place = Site(root, site)
        before = place.server.snapshot()
        value = place.call("published", spoilt, *others)
        refused = [name for name in value["failed_hosts"] if name not in names_of(others)]
        for name in names_of(others):
            assert not value["hosts"][name]["failed"], "one host's mistake is not another's"
        if refused:
            check_refusal(place, spoilt, site["place"], value["hosts"][refused[0]], before)
            return
        # Harmless: then it is a definition like any other.
        name = spoilt["name"].lower()
        macs = json.loads(place.server.layout.record(name).read_text())["macs"]
        for mac in macs:
            place.check_local(mac)
        place.server.write_kickstarts({"name": name, "macs": macs})
        result = place.call("armed", spoilt, *others)["hosts"][name]
        if not result["failed"]:
            place.check_install({**spoilt, "macs": macs}, name)
            return
        assert name in result["msg"] and result["msg"].isprintable()
        for mac in macs:
            place.check_local(mac)


def check_refusal(place, spoilt, where, result, before):
    """Sentences that name the host and the option, and nothing on disk."""
    name = spoilt["name"].lower() if where != ("name",) else None
    for reason in result["reasons"]:
        assert reason.isascii() and reason.isprintable() and len(reason) < 1000, reason
        assert name is None or name in reason, reason
        assert name is not None or reason.startswith(("hosts[0]", " ".join(str(spoilt["name"]).lower().split()))), (
            reason
        )
    assert where[0] is None or where[0] in result["msg"], result["msg"]
    if name is not None:
        assert place.traces(name) == []
    for mac in ("00-50-56-aa-01-01", "00-50-56-aa-01-02"):
        assert not (place.server.boot / f"01-{mac}").exists()
    assert not (place.server.root / "etc").exists()
    new = set(place.server.snapshot()) - set(before)
    assert "evil" not in " ".join(new)
    assert set(before) <= set(place.server.snapshot())


@settings(BOUNDED, max_examples=40)
@given(
    place=st.sampled_from(
        [
            "kernel",
            "modules",
            "kernelopt",
            "title",
            "version",
            "mboot_version",
            "name",
            "bios",
            "initrd",
            "uefi",
            "crypto",
        ]
    ),
    value=hostile,
    firmware=st.sampled_from(["auto", "bios", "uefi"]),
)
def test_a_description_that_somebody_touched_smuggles_nothing_in(place, value, firmware):
    record = image_record()
    loaders = record["loaders"]
    if place == "modules":
        record["modules"] = ["jumpstrt.gz", value]
    elif place == "bios":
        loaders["bios"]["path"] = value
    elif place == "initrd":
        loaders["bios"] = {"kind": "linux", "kernel": "vmlinuz", "initrd": value, "append": "quiet"}
    elif place in ("uefi", "crypto"):
        loaders["uefi"]["path" if place == "uefi" else "crypto"] = value
    else:
        record[place] = value
    with tempfile.TemporaryDirectory() as root:
        site = Site(root, {"media": [], "http_port": 80, "bios_localboot": 0})
        folder = site.server.layout.image_dir("esxi-8.0.3")
        for file in (
            "b.b00",
            "jumpstrt.gz",
            "useropts.gz",
            "features.gz",
            "mboot.c32",
            "vmlinuz",
            "efi/boot/bootx64.efi",
            "efi/boot/crypto64.efi",
        ):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("x")
        site.server.layout.description("esxi-8.0.3").write_text(json.dumps(record, default=repr))
        host = {
            "name": "esx1.example.com",
            "macs": ["00:50:56:aa:01:01"],
            "network": {"address": "192.168.77.21/24"},
            "image": "esxi-8.0.3",
            "disk": {"first": ["local"]},
            "firmware": firmware,
        }
        site.server.write_kickstarts(host)
        result = site.server.call("armed", host)["hosts"]["esx1.example.com"]
        for file in site.server.boot.rglob("*"):
            # Links lead to somewhere inside, or at worst to nothing.
            site.tree.resolve(str(file.relative_to(site.server.boot)))
            if file.is_file() and "/images/" not in str(file):
                data = file.read_bytes()
                assert all(0x20 <= byte <= 0x7E or byte == 0x0A for byte in data), (file, data)
                assert not any(line.startswith((b"kernel=/", b"kernel /")) for line in data.split(b"\n")), (file, data)
        if result["failed"]:
            assert "esx1.example.com" in result["msg"] or "esxi-8.0.3" in result["msg"], result["msg"]
            assert site.server.mode("esx1.example.com") in ("local", None)


@pytest.mark.parametrize("value", [value for value in HOSTILE if isinstance(value, str) and value], ids=ascii)
def test_no_hostile_text_becomes_a_kernel_option(value, tmp_path):
    text = "kernel=/b.b00\nkernelopt=runweasel\nmodules=/a.v00\nbuild=8.0.3-0.0.1\n"
    place = with_one_image(tmp_path, text)
    host = {
        **HOST,
        "boot": {"options": {"word": value}},
    }
    place.server.write_kickstarts(host)
    result = place.call("armed", host)["hosts"]["esx1.example.com"]
    if not result["failed"]:
        place.check_install(host, "esx1.example.com")
        assert not set(value) & set(" \n\r\t'\"`$\\&|")
        return
    assert "esx1.example.com" in result["msg"] and "boot.options" in result["msg"]
    assert result["msg"].isascii() and result["msg"].isprintable()
    place.check_local(host["macs"][0])
