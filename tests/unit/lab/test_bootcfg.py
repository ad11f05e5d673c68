# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from pxelab import bootcfg

MAC = "00:50:56:aa:01:01"
FULL = """\
# a comment
title=Loading  ESXi\tinstaller\r
prefix=/images/esxi/
Kernel=b.b00
kernelopt=runweasel ks=http://h/ks
modules=jumpstrt.gz --- useropts.gz opt=1 two --- k.b00
somethingnew=1
"""


def test_a_usual_file() -> None:
    config = bootcfg.parse(FULL)
    assert config.kernel == "b.b00" and config.title == "Loading ESXi installer"
    assert config.modules == (("jumpstrt.gz", ""), ("useropts.gz", "opt=1 two"), ("k.b00", ""))
    assert not config.skip


@pytest.mark.parametrize(
    "text", ["kernel = b.b00\n", "kernel= b.b00\n", "kernel\n", "kernel=b\ntimeout=soon\n", "title=x\n", ""]
)
def test_what_mboot_stops_at(text: str) -> None:
    with pytest.raises(bootcfg.BootCfgError):
        bootcfg.parse(text)


def test_the_last_of_a_key_wins_and_a_hash_inside_a_line_is_no_comment() -> None:
    config = bootcfg.parse("kernel=a\nkernel=b\nkernelopt=x#y\n")
    assert (config.kernel, config.kernelopt) == ("b", "x#y")


def test_skip_needs_a_loader_that_knows_it() -> None:
    assert bootcfg.parse("skip=1\n").skip
    assert not bootcfg.parse("skip=0\nkernel=b\n").skip
    with pytest.raises(bootcfg.BootCfgError, match="kernel= must be set"):
        bootcfg.parse("skip=1\n", knows_skip=False)
    # the danger that the collection must never serve: an old loader installs
    assert not bootcfg.parse("skip=1\nkernel=b\n", knows_skip=False).skip


@pytest.mark.parametrize(
    ("bootdir", "argument", "expected"),
    [
        ("", None, ["01-00-50-56-aa-01-01/boot.cfg", "boot.cfg"]),
        ("http://h/http", None, ["http://h/http/01-00-50-56-aa-01-01/boot.cfg", "http://h/http/boot.cfg"]),
        ("images/esxi", "01-x/boot.cfg", ["images/esxi/01-x/boot.cfg", "/01-x/boot.cfg"]),
        ("images/esxi", "/boot.cfg", ["/boot.cfg"]),
        ("http://h/a", "http://h/b/boot.cfg", ["http://h/b/boot.cfg"]),
    ],
)
def test_where_boot_cfg_is_looked_for(bootdir: str, argument: str | None, expected: list[str]) -> None:
    assert bootcfg.search_order(bootdir, MAC, argument) == expected


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("b.b00", "/images/esxi/", "/images/esxi/b.b00"),
        ("b.b00", "images/esxi", "efi/images/esxi/b.b00"),
        ("b.b00", "http://h/images/esxi/", "http://h/images/esxi/b.b00"),
        ("/b.b00", "/images/esxi/", "/b.b00"),
        ("http://h/b.b00", "/images/esxi/", "http://h/b.b00"),
        # no prefix: beside boot.cfg, where nothing is
        ("b.b00", "", "01-x/b.b00"),
    ],
)
def test_where_kernel_and_modules_are_looked_for(name: str, prefix: str, expected: str) -> None:
    config = bootcfg.BootCfg(kernel=name, prefix=prefix)
    assert bootcfg.locate(name, config, bootdir="efi", found_at="01-x/boot.cfg") == expected


def test_the_command_line_says_which_nic_booted() -> None:
    config = bootcfg.BootCfg(kernelopt="runweasel")
    assert bootcfg.command_line(config, "ks=x", MAC) == "runweasel ks=x BOOTIF=01-00-50-56-aa-01-01"
    assert bootcfg.command_line(config, "BOOTIF=01-x", MAC) == "runweasel BOOTIF=01-x"
    assert bootcfg.command_line(bootcfg.BootCfg(kernelopt="a", nobootif=True), "", MAC) == "a"
    with pytest.raises(bootcfg.BootCfgError, match="4096"):
        bootcfg.command_line(bootcfg.BootCfg(kernelopt="a" * 4096), "", MAC)
