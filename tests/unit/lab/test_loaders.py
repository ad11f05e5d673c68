# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import uuid

import pytest

from pxelab import ipxe, loader, mboot, medium, pxelinux
from pxelab.loader import Hang, Loaded, Network, NextBootOption, NotFound

MAC = "00:50:56:aa:01:01"
DASHED = "01-00-50-56-aa-01-01"
UUID = uuid.UUID("b8945908-d6a6-41a9-611d-74a6ab80b83d")
MBOOT = b"MZ pxelab stand-in of bootx64.efi from ESXi 8.0.3 \n"
C32 = b"MZ pxelab stand-in of mboot.c32 from ESXi 8.0.3 \n"
INSTALL = "kernel=b.b00\nmodules=s.v00\nkernelopt=ks=http://h/ks\n"


class Console:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def pause(self, seconds: float) -> None:
        pass

    def count(self, what: str, number: int = 1) -> None:
        pass


class Files(Network):
    """A network whose files are a dictionary."""

    def __init__(self, files: dict[str, bytes | str]) -> None:
        super().__init__(Console(), "eth0", MAC, UUID.bytes, "192.168.77.21", "192.168.77.10")
        self.files = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        self.asked: list[str] = []

    def read(self, name: str, *, agent: str = "") -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise NotFound(f"{name}: not found")
        return self.files[name]

    def size(self, name: str) -> int:
        return len(self.read(name))


UEFI = loader.Loader("mboot.efi", "8.0.3")


def test_loaders_are_known_by_their_bytes() -> None:
    assert loader.identify("x", MBOOT) == UEFI
    assert loader.identify("x", C32) == loader.Loader("mboot.c32", "8.0.3")
    assert loader.identify("pxelinux.0", b"..PXELINUX 3.86 2010") == loader.Loader("pxelinux", "3.86")
    assert loader.identify("snponly.efi", b"MZ..iPXE..").kind == "ipxe"
    assert loader.identify("grubx64.efi", b"MZ").kind == "unknown"
    assert not loader.Loader("mboot.efi", "7.0.3").at_least(8, 0, 1)
    assert loader.Loader("mboot.efi", "8.0.1").at_least(8, 0, 1)


def test_com32_modules_fit_their_own_pxelinux_only() -> None:
    old, new = loader.Loader("pxelinux", "3.86"), loader.Loader("pxelinux", "6.04")
    elf, raw = b"\x7fELF....", b"\xb8\xff\x4c\xcd\x21"
    assert loader.com32_fits(elf, new) == "" and loader.com32_fits(raw, old) == ""
    assert loader.com32_fits(raw, new) and loader.com32_fits(elf, old)


def test_mboot_loads_what_boot_cfg_names() -> None:
    files = Files({f"{DASHED}/boot.cfg": f"prefix=/i/\n{INSTALL}", "/i/b.b00": b"k", "/i/s.v00": b"m"})
    loaded = mboot.boot(files, UEFI, "mboot.efi")
    assert loaded.command_line == f"ks=http://h/ks BOOTIF={DASHED}"
    assert (loaded.kernel, loaded.modules, loaded.mac) == ("b.b00", ("s.v00",), MAC)


def test_mboot_leaves_at_skip() -> None:
    with pytest.raises(NextBootOption):
        mboot.boot(Files({"boot.cfg": "skip=1\n"}), UEFI, "mboot.efi")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"boot.cfg": f"prefix=/i/\n{INSTALL}", "/i/b.b00": b"k"},
        {"boot.cfg": f"prefix=/i/\n{INSTALL}", "/i/b.b00": b"", "/i/s.v00": b"m"},
        {"boot.cfg": f"prefix=http://h/\n{INSTALL}", "http://h/b.b00": b"k", "http://h/s.v00": b"m"},
        {"boot.cfg": "kernel = b.b00\n"},
    ],
)
def test_mboot_stands_still_at_what_it_cannot_load(files: dict[str, bytes | str]) -> None:
    with pytest.raises(Hang):
        mboot.boot(Files(files), UEFI, "mboot.efi")


def test_over_http_only_absolute_urls_do() -> None:
    files = Files({"http://h/http/boot.cfg": f"prefix=/i/\n{INSTALL}"})
    with pytest.raises(Hang, match="HTTP"):
        mboot.boot(files, UEFI, "http://h/http/mboot.efi", transport="http")


def test_pxelinux_asks_in_its_own_order() -> None:
    names = pxelinux.config_names(UUID, MAC, "192.0.2.91")
    assert names[:4] == ["b8945908-d6a6-41a9-611d-74a6ab80b83d", DASHED, "C000025B", "C000025"]
    assert names[-2:] == ["C", "default"]


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("DEFAULT b\nLABEL a\n KERNEL x\nLABEL b\n KERNEL y\n", "y"),
        ("LABEL a\n KERNEL x\nLABEL b\n MENU DEFAULT\n KERNEL y\n", "y"),
        ("DEFAULT vesamenu.c32\nLABEL a\n KERNEL x\n", "x"),
        ("default direct.c32 word\n", "direct.c32"),
    ],
)
def test_pxelinux_chooses_an_entry(text: str, kernel: str) -> None:
    chosen = pxelinux.parse(text).chosen()
    assert chosen is not None and chosen.kernel == kernel


def test_pxelinux_passes_the_nic_and_the_words_of_append() -> None:
    config = f"DEFAULT i\nLABEL i\n KERNEL i/mboot.c32\n APPEND -c {DASHED}/boot.cfg extra\n IPAPPEND 2\n"
    files = Files(
        {
            f"pxelinux.cfg/{DASHED}": config,
            "i/mboot.c32": C32,
            f"/{DASHED}/boot.cfg": f"prefix=/i/\n{INSTALL}",
            "/i/b.b00": b"k",
            "/i/s.v00": b"m",
        }
    )
    loaded = pxelinux.boot(files, loader.Loader("pxelinux", "3.86"), "pxelinux.0")
    assert loaded.command_line == f"ks=http://h/ks extra BOOTIF={DASHED}"
    assert "ldlinux.c32" not in files.asked


def test_pxelinux_6_needs_its_library_and_stands_still_without_configuration() -> None:
    with pytest.raises(Hang, match="ldlinux"):
        pxelinux.boot(Files({}), loader.Loader("pxelinux", "6.04"), "pxelinux.0")
    with pytest.raises(Hang, match="configuration"):
        pxelinux.boot(Files({}), loader.Loader("pxelinux", "3.86"), "pxelinux.0")


def test_pxelinux_boots_the_disk() -> None:
    files = Files({"pxelinux.cfg/default": "DEFAULT l\nLABEL l\n LOCALBOOT 0\n"})
    with pytest.raises(NextBootOption, match="LOCALBOOT 0"):
        pxelinux.boot(files, loader.Loader("pxelinux", "3.86"), "pxelinux.0")


IPXE = loader.Loader("ipxe")
BOOTABLE: dict[str, bytes | str] = {
    "http://h/mboot.efi": MBOOT,
    "http://h/boot.cfg": f"prefix=http://h/\n{INSTALL}",
    "http://h/b.b00": b"k",
    "http://h/s.v00": b"m",
}


def run_ipxe(script: str, **more: str) -> Loaded:
    files = Files({**BOOTABLE, "http://h/s.ipxe": f"#!ipxe\n{script}", **more})
    return ipxe.boot(files, IPXE, "http://h/s.ipxe")


def test_ipxe_starts_mboot_with_its_arguments() -> None:
    assert run_ipxe("kernel mboot.efi -c http://h/boot.cfg || exit 1\nboot || exit 1").kernel == "b.b00"


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "chain nothing.ipxe || exit 1",
        "chain nothing.ipxe",
        "iseq a b && boot mboot.efi || exit 1",
        "echo nothing to do",
        "no-such-command",
    ],
)
def test_ipxe_gives_the_machine_back(script: str) -> None:
    with pytest.raises(NextBootOption):
        run_ipxe(script)


def test_ipxe_with_exit_0_does_not_come_back() -> None:
    with pytest.raises(Hang):
        run_ipxe("exit 0")


def test_ipxe_settings_labels_and_conditions() -> None:
    script = """
set x ${netX/mac:hexhyp}
set y 01-${x}
iseq ${y} 01-00-50-56-aa-01-01 && goto right ||
exit 1
:right
isset ${unknown} || boot mboot.efi -c http://h/boot.cfg
"""
    assert run_ipxe(script).kernel == "b.b00"


def test_an_exit_in_a_chained_script_is_the_status_of_chain() -> None:
    script = "chain --autofree per-mac.ipxe || chain --autofree default.ipxe || exit 1"
    local = {"http://h/per-mac.ipxe": "#!ipxe\nexit 1\n", "http://h/default.ipxe": "#!ipxe\nexit 1\n"}
    with pytest.raises(NextBootOption, match="exit 1"):
        run_ipxe(script, **local)
    install = "#!ipxe\nkernel http://h/mboot.efi -c http://h/boot.cfg\nboot\n"
    assert run_ipxe(script, **{**local, "http://h/per-mac.ipxe": install}).kernel == "b.b00"


def test_the_media_that_the_lab_makes_are_loaders_it_knows() -> None:
    assert medium.loader_version(MBOOT) == "8.0.3"
