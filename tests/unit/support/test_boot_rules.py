# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule about boot files passes what is right and finds what is wrong; every walk ends where the loader would."""

from __future__ import annotations

import pytest

from ansible_collections.pxemanager.esxi.tests.support import boot_walk
from ansible_collections.pxemanager.esxi.tests.support.boot_rules import (
    check_boot_cfg,
    check_ipxe,
    check_pxelinux,
    read_boot_cfg,
)

MAC = "00:50:56:aa:01:01"
STEM = "01-00-50-56-aa-01-01"
BASE = "http://192.168.77.10"
MODULES = ["a.gz", "b.gz quiet x=1", "c.gz"]

TFTP = """\
# comment
title=Loading ESXi installer
timeout=3
prefix=/images/esxi/
kernel=b.b00
kernelopt=runweasel ks=http://192.168.77.10/ks/0/x.cfg
modules=a.gz --- b.gz quiet x=1 --- c.gz
updated=0
"""
HTTP = TFTP.replace("prefix=/", f"prefix={BASE}/")
SKIP = "title=disk\ntimeout=0\nskip=1\n"

LOCAL_BIOS = "# comment\nDEFAULT local\nPROMPT 0\nLABEL local\n  LOCALBOOT 0\n"
MBOOT_BIOS = (
    "DEFAULT install\nPROMPT 0\nLABEL install\n  KERNEL images/esxi/mboot.c32\n"
    f"  APPEND -c {STEM}/boot.cfg\n  IPAPPEND 2\n"
)
LINUX_BIOS = (
    "DEFAULT install\nPROMPT 0\nLABEL install\n  KERNEL images/esxi/vmlinuz\n  INITRD images/esxi/initrd.gz\n"
    "  APPEND quiet ks=http://192.168.77.10/ks/0/x.cfg\n  IPAPPEND 2\n"
)
IPXE = f"#!ipxe\n# comment\nkernel {BASE}/http/mboot.efi -c {BASE}/http/{STEM}/boot.cfg\nboot\n"
IPXE_LOCAL = "#!ipxe\nexit 1\n"


def rules(violations):
    return {violation.rule for violation in violations}


def boot_cfg(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    return check_boot_cfg(data, **{"transport": "tftp", "mboot": "8.0.3", "mac": MAC, "modules": MODULES, **options})


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


def test_good_files_break_no_rule():
    assert boot_cfg(TFTP) == boot_cfg(SKIP) == []
    assert boot_cfg(HTTP, transport="http") == []
    assert boot_cfg(TFTP, mboot="6.7.0") == []
    for text in (LOCAL_BIOS, changed(LOCAL_BIOS, "LOCALBOOT 0", "LOCALBOOT -1"), MBOOT_BIOS, LINUX_BIOS):
        assert check_pxelinux(text.encode()) == []
    assert check_ipxe(IPXE.encode()) == check_ipxe(IPXE_LOCAL.encode()) == []


@pytest.mark.parametrize(
    ("rule", "line", "old", "new"),
    [
        ("ascii", 2, "installer", "inst\u00e4ller"),
        ("ascii", 2, "installer", "installer\r"),
        ("ascii", 2, "installer", "inst\taller"),
        ("whole", 8, "updated=0\n", "updated=0"),
        ("key-value", 8, "updated=0", "updated"),
        ("key-value", 8, "updated=0", "=0"),
        ("key-value", 8, "updated=0", " # comment"),
        ("key-value", 8, "updated=0", ""),
        ("blanks", 5, "kernel=b", "kernel =b"),
        ("blanks", 5, "kernel=b", "kernel= b"),
        ("blanks", 5, "kernel=b", " kernel=b"),
        ("blanks", 2, "ESXi installer", "ESXi  installer"),
        ("blanks", 2, "installer", "installer "),
        ("known-key", 8, "updated", "update"),
        ("duplicate", 8, "updated=0", "Kernel=b.b00"),
        ("integer", 3, "timeout=3", "timeout=soon"),
        ("integer", 3, "timeout=3", "timeout="),
        ("integer", 8, "updated=0", "norts=yes"),
        ("timeout", 3, "timeout=3", "timeout=10"),
        ("kernel", 5, "b.b00", ""),
        ("kernel", 0, "kernel=b.b00\n", ""),
        ("prefix", 0, "prefix=/images/esxi/\n", ""),
        ("prefix", 4, "/images/esxi/", ""),
        ("prefix-tftp", 4, "/images/esxi/", "images/esxi/"),
        ("prefix-tftp", 4, "/images/esxi/", f"{BASE}/images/esxi/"),
        ("prefix-tftp", 4, "/images/esxi/", "/images/esxi"),
        ("prefix-tftp", 4, "/images/esxi/", "/images/../esxi/"),
        ("prefix-tftp", 4, "/images/esxi/", "//images/esxi/"),
        ("name", 5, "b.b00", "/b.b00"),
        ("name", 5, "b.b00", "../b.b00"),
        ("name", 5, "b.b00", "b.b00 quiet"),
        ("name", 7, "c.gz", "/c.gz"),
        ("name", 7, "c.gz", f"{BASE}/c.gz"),
        ("modules", 7, "a.gz --- b.gz quiet x=1 --- c.gz", ""),
        ("modules", 7, " --- c.gz", " --- "),
        ("modules", 7, " --- c.gz", " ---  --- c.gz"),
        ("modules", 7, " --- c.gz", "---c.gz"),
        ("order", 7, "a.gz --- b.gz quiet x=1", "b.gz quiet x=1 --- a.gz"),
        ("order", 7, "x=1", "x=2"),
        ("order", 7, " --- c.gz", ""),
        ("bootif", 6, "runweasel", f"BOOTIF={STEM}"),
        ("bootif", 6, "updated=0", "nobootif=1"),
        ("command-line", 6, "runweasel", "x" * 4096),
    ],
)
def test_what_mboot_stops_at_or_reads_otherwise(rule, line, old, new):
    found = boot_cfg(changed(TFTP, old, new))
    assert (rule, line) in {(violation.rule, violation.line) for violation in found}, found
    assert all(violation.fact for violation in found)


@pytest.mark.parametrize(
    "prefix", ["/images/esxi/", "images/esxi/", f"{BASE}/images/esxi", f"{BASE}/../esxi/", "ftp://h/x/"]
)
def test_over_http_only_an_absolute_url_works(prefix):
    assert "prefix-http" in rules(boot_cfg(changed(TFTP, "/images/esxi/", prefix), transport="http"))


@pytest.mark.parametrize(
    ("key", "value", "since", "before"),
    [
        ("crypto", "crypto64.efi", "7.0.2", "7.0.1"),
        ("runtimewd", "1", "8.0.0", "7.0.3"),
        ("tftpblksize", "1024", "8.0.0", "7.0.3"),
        ("acpitables", "x", "8.0.0", "7.0.3"),
        ("errtimeout", "5", "8.0.1", "8.0.0"),
    ],
)
def test_keys_that_came_later(key, value, since, before):
    text = f"{TFTP}{key}={value}\n"
    assert boot_cfg(text, mboot=since) == []
    assert rules(boot_cfg(text, mboot=before)) == {"since"}


@pytest.mark.parametrize(("version", "expected"), [("8.0.1", set()), ("9.0.0", set()), ("8.0.0", {"skip-version"})])
def test_skip_is_for_an_mboot_that_knows_it(version, expected):
    assert rules(boot_cfg(SKIP, mboot=version)) == expected


def test_skip_stands_without_anything_that_could_start():
    assert rules(boot_cfg(SKIP + "kernel=b.b00\n")) == rules(boot_cfg(SKIP + "modules=a.gz\n")) == {"skip-alone"}
    assert rules(boot_cfg("skip=0\n")) == {"kernel"}


def test_the_command_line_is_measured_as_the_kernel_gets_it():
    room = 4095 - len(read_boot_cfg(TFTP.encode()).command_line(MAC))
    assert boot_cfg(changed(TFTP, "runweasel", "runweasel" + "x" * room)) == []
    assert rules(boot_cfg(changed(TFTP, "runweasel", "runweasel" + "x" * (room + 1)))) == {"command-line"}
    line = read_boot_cfg(TFTP.encode()).command_line(MAC)
    assert line == f"/images/esxi/b.b00 runweasel ks={BASE}/ks/0/x.cfg BOOTIF={STEM}"


@pytest.mark.parametrize(
    ("rule", "text", "old", "new"),
    [
        ("ascii", LOCAL_BIOS, "# comment", "# c\u00f6mment"),
        ("keyword", LOCAL_BIOS, "PROMPT 0", "PROMPT 0\nTIMEOUT 0"),
        ("keyword", LOCAL_BIOS, "  LOCALBOOT 0", "  LOCALBOOT 0\n\n"),
        ("keyword", MBOOT_BIOS, "  IPAPPEND 2", "  IPAPPEND 2\n  CONFIG other"),
        ("one-label", LOCAL_BIOS, "  LOCALBOOT 0\n", "  LOCALBOOT 0\nLABEL other\n"),
        ("duplicate", MBOOT_BIOS, "  IPAPPEND 2\n", "  IPAPPEND 2\n  APPEND -c x/boot.cfg\n"),
        ("before-label", LOCAL_BIOS, "LABEL local\n", "APPEND x\nLABEL local\n"),
        ("default", LOCAL_BIOS, "DEFAULT local", "DEFAULT disk"),
        ("default", LOCAL_BIOS, "DEFAULT local\n", ""),
        ("prompt", LOCAL_BIOS, "PROMPT 0\n", ""),
        ("prompt", LOCAL_BIOS, "PROMPT 0", "PROMPT 1"),
        ("entry", LOCAL_BIOS, "  LOCALBOOT 0\n", ""),
        ("entry", LOCAL_BIOS, "  LOCALBOOT 0\n", "  LOCALBOOT 0\n  KERNEL x\n"),
        ("entry", LOCAL_BIOS, "  LOCALBOOT 0\n", "  LOCALBOOT 0\n  APPEND x\n"),
        ("localboot", LOCAL_BIOS, "LOCALBOOT 0", "LOCALBOOT 0x80"),
        ("path", MBOOT_BIOS, "images/esxi/mboot", "/images/esxi/mboot"),
        ("path", MBOOT_BIOS, "images/esxi/mboot", "images/../mboot"),
        ("path", LINUX_BIOS, "images/esxi/initrd", "images//initrd"),
        ("path", LINUX_BIOS, "images/esxi/vmlinuz", f"{BASE}/vmlinuz"),
        ("ipappend", MBOOT_BIOS, "  IPAPPEND 2\n", ""),
        ("ipappend", MBOOT_BIOS, "IPAPPEND 2", "IPAPPEND 1"),
        ("append", MBOOT_BIOS, "/boot.cfg", "/boot.cfg quiet"),
        ("append", MBOOT_BIOS, "-c ", ""),
        ("append", MBOOT_BIOS, STEM, ".."),
        ("initrd", MBOOT_BIOS, "  IPAPPEND 2\n", "  IPAPPEND 2\n  INITRD x\n"),
        ("initrd", LINUX_BIOS, "  INITRD images/esxi/initrd.gz\n", ""),
        ("command-line", LINUX_BIOS, "quiet", "x" * 4096),
    ],
)
def test_what_pxelinux_would_read_otherwise(rule, text, old, new):
    assert rule in rules(check_pxelinux(changed(text, old, new).encode()))


@pytest.mark.parametrize(
    ("rule", "text", "old", "new"),
    [
        ("ascii", IPXE, "# comment", "# c\u00f6mment"),
        ("shebang", IPXE, "#!ipxe\n", ""),
        ("shebang", IPXE, "#!ipxe\n", "\n#!ipxe\n"),
        ("command", IPXE, "boot\n", "shell\nboot\n"),
        ("command", IPXE, "boot\n", "\nboot\n"),
        ("exit", IPXE_LOCAL, "exit 1", "exit"),
        ("exit", IPXE_LOCAL, "exit 1", "exit 0"),
        ("exit", IPXE_LOCAL, "exit 1", "exit 1 || shell"),
        ("literal", IPXE_LOCAL, "exit 1", "exit 1 || shell"),
        ("literal", IPXE, STEM, "${mac}"),
        ("sequence", IPXE_LOCAL, "exit 1\n", "exit 1\nexit 1\n"),
        ("sequence", IPXE, "boot\n", "exit 1\n"),
        ("sequence", IPXE, "kernel", "boot\nkernel"),
        ("sequence", IPXE, "boot\n", "boot now\n"),
        ("end", IPXE, "boot\n", ""),
        ("end", IPXE_LOCAL, "exit 1\n", ""),
        ("arguments", IPXE, "/boot.cfg", "/boot.cfg quiet"),
        ("arguments", IPXE, f" -c {BASE}/http/{STEM}/boot.cfg", ""),
        ("url", IPXE, f"kernel {BASE}/http/", "kernel "),
        ("url", IPXE, f"-c {BASE}/http/", "-c /http/"),
        ("url", IPXE, f"kernel {BASE}/http/", f"kernel {BASE}/../"),
    ],
)
def test_what_ipxe_would_read_otherwise(rule, text, old, new):
    assert rule in rules(check_ipxe(changed(text, old, new).encode()))


# Walks.


@pytest.fixture
def tree(tmp_path):
    """An armed MAC, local boot for every other one."""
    write(
        tmp_path,
        {
            "boot.cfg": SKIP,
            "http/boot.cfg": SKIP,
            f"{STEM}/boot.cfg": TFTP,
            f"http/{STEM}/boot.cfg": HTTP,
            "pxelinux.cfg/default": LOCAL_BIOS,
            f"pxelinux.cfg/{STEM}": MBOOT_BIOS,
            "ipxe/default.ipxe": IPXE_LOCAL,
            f"ipxe/{STEM}.ipxe": IPXE,
            **{f"images/esxi/{name}": "x" for name in ("b.b00", "a.gz", "b.gz", "c.gz", "mboot.c32", "vmlinuz")},
            "images/esxi/initrd.gz": "x",
            "images/esxi/mboot.efi": "x",
            "crypto64.efi": "x",
            "http/crypto64.efi": "x",
        },
    )
    (tmp_path / "mboot.efi").symlink_to("images/esxi/mboot.efi")
    (tmp_path / "http/mboot.efi").symlink_to("../mboot.efi")
    return boot_walk.Tree(tmp_path, BASE, {"esxi": "8.0.3"})


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize("way", boot_walk.WAYS)
def test_an_armed_mac_installs_and_any_other_boots_its_disk(tree, way):
    walk = boot_walk.WAYS[way](tree, MAC)
    assert (walk.what, walk.missing, walk.violations) == ("install", [], [])
    assert walk.files == ("images/esxi/b.b00", "images/esxi/a.gz", "images/esxi/b.gz", "images/esxi/c.gz")
    assert walk.options == ["runweasel", f"ks={BASE}/ks/0/x.cfg", f"BOOTIF={STEM}"]
    other = boot_walk.WAYS[way](tree, "00:50:56:aa:01:02")
    assert (other.what, other.missing, other.violations) == ("local", [], [])


def test_a_linux_kernel_gets_its_words_from_pxelinux(tree):
    write(tree.root, {f"pxelinux.cfg/{STEM}": LINUX_BIOS})
    walk = boot_walk.pxelinux(tree, MAC)
    assert (walk.what, walk.files) == ("install", ("images/esxi/vmlinuz", "images/esxi/initrd.gz"))
    assert walk.options == ["quiet", f"ks={BASE}/ks/0/x.cfg", f"BOOTIF={STEM}"]


def test_pxelinux_looks_by_uuid_mac_and_address(tree):
    for name in ("uuid", STEM, "C0A84D15", "C0A8"):
        write(tree.root, {f"pxelinux.cfg/{name}": LOCAL_BIOS.replace("LOCALBOOT 0", "LOCALBOOT -1")})
        walk = boot_walk.pxelinux(tree, MAC, uuid="uuid", address="192.168.77.21")
        assert (walk.what, walk.why) == ("local", "LOCALBOOT -1")
        (tree.root / "pxelinux.cfg" / name).unlink()


@pytest.mark.parametrize(
    ("way", "gone", "what", "missing"),
    [
        ("bios", ["pxelinux.cfg/default"], "hang", ["pxelinux.cfg/01-02-00-00-00-00-00", "pxelinux.cfg/default"]),
        ("uefi", ["boot.cfg"], "hang", ["01-02-00-00-00-00-00/boot.cfg", "boot.cfg"]),
        ("ipxe", ["ipxe/default.ipxe"], "hang", None),
        ("uefi", ["mboot.efi"], "local", []),
        ("uefi-http", ["http/mboot.efi"], "local", []),
    ],
)
def test_what_a_stranger_does_not_find(tree, way, gone, what, missing):
    for path in gone:
        (tree.root / path).unlink()
    walk = boot_walk.WAYS[way](tree, "02:00:00:00:00:00")
    assert walk.what == what
    assert walk.missing == missing if missing is not None else walk.missing


@pytest.mark.parametrize(
    ("way", "gone", "missing"),
    [
        ("bios", "images/esxi/mboot.c32", "images/esxi/mboot.c32"),
        ("bios", "images/esxi/b.b00", "/images/esxi/b.b00"),
        ("uefi", "images/esxi/c.gz", "/images/esxi/c.gz"),
        ("uefi-http", "images/esxi/c.gz", f"{BASE}/images/esxi/c.gz"),
        ("ipxe", "http/mboot.efi", f"{BASE}/http/mboot.efi"),
        ("ipxe", "images/esxi/c.gz", f"{BASE}/images/esxi/c.gz"),
    ],
)
def test_what_an_installer_does_not_find_it_hangs_for(tree, way, gone, missing):
    (tree.root / gone).unlink()
    walk = boot_walk.WAYS[way](tree, MAC)
    assert (walk.what, walk.missing) == ("hang", [missing])


def test_without_crypto64_beside_mboot_secure_boot_would_stop(tree):
    (tree.root / "crypto64.efi").unlink()
    assert boot_walk.mboot_tftp(tree, MAC).missing == ["crypto64.efi"]
    older = boot_walk.Tree(tree.root, BASE, {"esxi": "7.0.1"})
    assert boot_walk.mboot_tftp(older, MAC).missing == []


def test_an_old_mboot_hangs_at_skip_or_installs(tree):
    older = boot_walk.Tree(tree.root, BASE, {"esxi": "8.0.0"})
    assert boot_walk.mboot_tftp(older, "02:00:00:00:00:00").what == "hang"
    write(tree.root, {"boot.cfg": TFTP + "skip=1\n"})
    assert boot_walk.mboot_tftp(older, "02:00:00:00:00:00").what == "install"


@pytest.mark.parametrize(
    ("way", "path", "old", "new"),
    [
        ("uefi", f"{STEM}/boot.cfg", "prefix=/images/esxi/\n", ""),
        ("uefi", f"{STEM}/boot.cfg", "prefix=/", f"prefix={BASE}/"),
        ("uefi", f"{STEM}/boot.cfg", "kernel=", "kernel=/"),
        ("bios", f"{STEM}/boot.cfg", "prefix=/", "prefix="),
        ("uefi", f"{STEM}/boot.cfg", "runweasel", "x" * 4096),
        ("uefi-http", f"http/{STEM}/boot.cfg", f"prefix={BASE}", "prefix="),
        ("ipxe", f"http/{STEM}/boot.cfg", f"prefix={BASE}", "prefix=http://192.168.77.11"),
        ("ipxe", "ipxe/default.ipxe", "exit 1", "exit"),
        ("bios", "pxelinux.cfg/default", "DEFAULT", "PROMPT"),
    ],
)
def test_what_a_machine_hangs_at(tree, way, path, old, new):
    file = tree.root / path
    file.write_text(changed(file.read_text(), old, new))
    mac = MAC if STEM in path else "02:00:00:00:00:00"
    assert boot_walk.WAYS[way](tree, mac).what == "hang"


def test_links_are_relative_and_stay_inside(tree):
    link = tree.root / "link"
    for target in ("/boot.cfg", "../boot.cfg", "link"):
        link.symlink_to(target)
        with pytest.raises(boot_walk.BadLink):
            tree.read("link")
        link.unlink()
    with pytest.raises(boot_walk.BadLink):
        tree.read("../boot.cfg")
