# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot tree's texts: what each loader reads, and what must never be in it."""

from __future__ import annotations

import dataclasses
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import (
    COMMAND_LINE_LIMIT,
    TreeError,
    defaults,
    host_files,
    host_folders,
    host_links,
    kernel_options,
    mac_files,
    mode_link,
    other_firmware_files,
    refusals,
    stems_of,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import Image
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import default_config
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition, image_record

CONFIG = default_config("192.168.77.10")
KEY = "0123456789abcdef0123456789abcdef"
NAME = "esx01.example.com"
MAC, MAC2 = "00:50:56:aa:01:01", "00:50:56:aa:01:02"
STEM = "01-00-50-56-aa-01-01"
URL = f"http://192.168.77.10/ks/{KEY}/{STEM}.cfg"
IMAGE = Image.from_record(image_record())


def host(**changes):
    parsed = parse_hosts([definition(**changes)])
    assert not parsed.errors, parsed.errors
    return next(iter(parsed.hosts.values()))


def files(image=IMAGE, config=CONFIG, key=KEY, **changes):
    return host_files(host(**changes), image, config, key)


def installs(suffix, **changes):
    return files(**changes)[f"hosts/{NAME}/install/{STEM}{suffix}"]


def keys(text):
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


# Where things are.


def test_every_file_of_each_mode_and_mac():
    expected = {
        f"hosts/{NAME}/{mode}/01-00-50-56-aa-01-0{number}{suffix}"
        for mode in ("install", "local")
        for number in (1, 2)
        for suffix in (".pxelinux", ".boot.cfg", ".http.boot.cfg", ".ipxe")
    }
    assert set(files()) == expected
    every = {path for mac in (MAC, MAC2) for mode in ("install", "local") for path in mac_files(NAME, mode, mac)}
    of_bios = {path for path in every if path.endswith(".bios.boot.cfg")}
    assert len(of_bios) == 4 and every == expected | of_bios == set(files(firmware="bios"))
    assert set(other_firmware_files(host())) == of_bios and other_firmware_files(host(firmware="bios")) == []


def test_links_are_relative_and_lead_through_the_mode_to_the_files():
    links = host_links(NAME, [MAC, MAC2])
    assert links[f"pxelinux.cfg/{STEM}"] == f"../hosts/{NAME}/boot/{STEM}.pxelinux"
    assert links[f"{STEM}/boot.cfg"] == f"../hosts/{NAME}/boot/{STEM}.boot.cfg"
    assert links[f"http/{STEM}/boot.cfg"] == f"../../hosts/{NAME}/boot/{STEM}.http.boot.cfg"
    assert links[f"ipxe/{STEM}.ipxe"] == f"../hosts/{NAME}/boot/{STEM}.ipxe"
    assert len(links) == 8
    written = set(files())
    for path, target in links.items():
        led = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        for mode in ("install", "local"):
            assert led.replace("/boot/", f"/{mode}/", 1) in written
    assert mode_link(NAME) == f"hosts/{NAME}/boot"
    assert set(host_folders([MAC])) == {STEM, f"http/{STEM}"}


def test_macs_are_found_again_from_the_files():
    names = [path.rpartition("/")[2] for path in files()]
    assert stems_of(names) == {MAC, MAC2}
    assert stems_of(["01-xx.pxelinux", ".01-00-50-56-aa-01-01.ipxe.1-1.tmp", "01-00-50-56-aa-01-01.bak", "x"]) == set()


def test_without_an_install_there_are_no_files_for_it():
    assert {path.split("/")[2] for path in files(key=None, image=None)} == {"local"}


# Local boot.


def test_local_boot_in_every_way_in():
    local = {path.rpartition(STEM)[2]: text for path, text in files().items() if "/local/" in path and STEM in path}
    assert "DEFAULT local\n" in local[".pxelinux"] and "  LOCALBOOT 0\n" in local[".pxelinux"]
    for suffix in (".boot.cfg", ".http.boot.cfg"):
        found = keys(local[suffix])
        assert found["skip"] == "1"
        assert "kernel" not in found, "a loader too old for skip would install"
    assert local[".ipxe"].startswith("#!ipxe\n") and local[".ipxe"].endswith("\nexit 1\n")


def test_the_kind_of_bios_local_boot_is_a_setting():
    config = dataclasses.replace(CONFIG, bios_localboot=-1)
    assert "  LOCALBOOT -1\n" in defaults(config)["pxelinux.cfg/default"]
    assert "  LOCALBOOT -1\n" in files(config=config)[f"hosts/{NAME}/local/{STEM}.pxelinux"]


def test_undefined_machines_boot_locally():
    found = defaults(CONFIG)
    assert set(found) == {"pxelinux.cfg/default", "boot.cfg", "http/boot.cfg", "ipxe/default.ipxe"}
    assert "LOCALBOOT 0" in found["pxelinux.cfg/default"]
    assert keys(found["boot.cfg"])["skip"] == keys(found["http/boot.cfg"])["skip"] == "1"
    assert found["ipxe/default.ipxe"].endswith("exit 1\n")


# Installation.


def test_boot_cfg():
    assert keys(installs(".boot.cfg")) == {
        "title": "Loading ESXi installer",
        "timeout": "3",
        "prefix": "/images/esxi-8.0.3/",
        "kernel": "b.b00",
        "kernelopt": f"runweasel ks={URL} netdevice={MAC}",
        "modules": "jumpstrt.gz --- useropts.gz quiet --- features.gz",
        "updated": "0",
    }


def test_over_http_the_prefix_is_a_url():
    tftp, http = keys(installs(".boot.cfg")), keys(installs(".http.boot.cfg"))
    assert http["prefix"] == "http://192.168.77.10/images/esxi-8.0.3/"
    assert {**http, "prefix": ""} == {**tftp, "prefix": ""}


def test_each_mac_has_its_own_kickstart():
    text = files()[f"hosts/{NAME}/install/01-00-50-56-aa-01-02.boot.cfg"]
    assert f"/ks/{KEY}/01-00-50-56-aa-01-02.cfg netdevice={MAC2}\n" in text


def test_pxelinux():
    text = installs(".pxelinux")
    assert text.splitlines()[2:] == [
        "DEFAULT install",
        "PROMPT 0",
        "LABEL install",
        "  KERNEL images/esxi-8.0.3/mboot.c32",
        f"  APPEND -c {STEM}/boot.cfg",
        "  IPAPPEND 2",
    ]


def test_pxelinux_with_a_linux_kernel():
    loader = {"kind": "linux", "kernel": "vmlinuz", "initrd": "boot/initrd.gz", "append": "quiet"}
    image = Image.from_record(image_record(loaders={"bios": loader, "uefi": None}))
    text = installs(".pxelinux", image=image, firmware="bios")
    assert "  KERNEL images/esxi-8.0.3/vmlinuz\n  INITRD images/esxi-8.0.3/boot/initrd.gz\n" in text
    assert f"  APPEND quiet runweasel ks={URL} netdevice={MAC}\n  IPAPPEND 2\n" in text


def test_ipxe():
    assert installs(".ipxe").splitlines()[-2:] == [
        f"kernel http://192.168.77.10/http/mboot.efi -c http://192.168.77.10/http/{STEM}/boot.cfg",
        "boot",
    ]


def test_another_port_is_in_every_url():
    config = dataclasses.replace(CONFIG, http_port=8080)
    texts = [text for path, text in files(config=config).items() if "/install/" in path]
    assert sum(text.count("http://192.168.77.10:8080/") for text in texts) == 2 * (1 + 2 + 2)
    assert not any("http://192.168.77.10/" in text for text in texts)


def test_kernel_options_in_their_order():
    boot = {"vlan": 12, "media_size": "min", "options": {"allowLegacyCPU": "true", "noIOMMU": None}}
    assert kernel_options(host(boot=boot), IMAGE, CONFIG, KEY, MAC) == (
        f"runweasel ks={URL} netdevice={MAC} vlanid=12 systemMediaSize=min allowLegacyCPU=true noIOMMU"
    )
    assert kernel_options(host(boot={"netdevice": False}), IMAGE, CONFIG, KEY, MAC) == f"runweasel ks={URL}"


@pytest.mark.parametrize("word", ["cdromBoot", "ks=cdrom:/KS.CFG", "KS=usb", "BOOTIF=01-x", "ksdevice=vmnic0"])
def test_the_mediums_own_sources_are_dropped(word):
    image = dataclasses.replace(IMAGE, kernelopt=f"{word} runweasel  {word} foo=1")
    assert kernel_options(host(), image, CONFIG, KEY, MAC) == f"runweasel foo=1 ks={URL} netdevice={MAC}"


@pytest.mark.parametrize(
    ("firmware", "local"),
    [("auto", set()), ("uefi", {".pxelinux"}), ("bios", {".boot.cfg", ".http.boot.cfg", ".ipxe"})],
)
def test_a_machine_with_other_firmware_than_defined_boots_locally(firmware, local):
    for suffix in (".pxelinux", ".boot.cfg", ".http.boot.cfg", ".ipxe"):
        text = installs(suffix, firmware=firmware)
        assert any(mark in text for mark in ("LOCALBOOT", "skip=1", "exit 1")) == (suffix in local)


def test_a_bios_host_has_a_boot_cfg_that_uefi_does_not_read():
    assert f"  APPEND -c hosts/{NAME}/boot/{STEM}.bios.boot.cfg\n" in installs(".pxelinux", firmware="bios")
    # (The first line says for whom it is and is the same.)
    assert installs(".bios.boot.cfg", firmware="bios") == installs(".boot.cfg")
    assert keys(files(firmware="bios")[f"hosts/{NAME}/local/{STEM}.bios.boot.cfg"])["skip"] == "1"
    order = list(files(firmware="bios"))
    for mode in ("install", "local"):
        folder = f"hosts/{NAME}/{mode}/{STEM}"
        assert order.index(f"{folder}.bios.boot.cfg") < order.index(f"{folder}.pxelinux")


@pytest.mark.parametrize(
    "image",
    [
        dataclasses.replace(IMAGE, title="two\nlines"),
        dataclasses.replace(IMAGE, modules=("a.gz", "b\n.gz")),
        dataclasses.replace(IMAGE, kernel="b\n.b00"),
    ],
)
def test_a_refused_line_is_said_to_be_of_which_host_and_image(image):
    with pytest.raises(TreeError, match=f"^{NAME} cannot get boot files for esxi-8.0.3: ") as error:
        files(image=image)
    assert str(error.value).isprintable()


def test_without_a_bios_loader_bios_boots_locally():
    image = dataclasses.replace(IMAGE, bios=None)
    assert "LOCALBOOT" in installs(".pxelinux", image=image)
    assert "kernel=" in installs(".boot.cfg", image=image)


# Nothing can be smuggled in.


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../etc"},
        {"name": "a\nb"},
        {"macs": ("00:50:56:aa:01:01/../x",)},
        {"macs": ("00:50:56:aa:01:01\nkernel=x",)},
        {"image": "../esxi"},
    ],
)
def test_bad_hosts_have_no_files(change):
    bad = dataclasses.replace(host(), **change)
    with pytest.raises(LayoutError):
        host_files(bad, dataclasses.replace(IMAGE, name=bad.image), CONFIG, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"name": "a b"},
        {"title": "x\nkernel=evil"},
        {"title": "\u00e4"},
        {"kernel": "/b.b00"},
        {"kernel": ""},
        {"kernel": "b.b00 x"},
        {"kernel": "http://evil/b.b00"},
        {"modules": ("a", "/b")},
        {"modules": ("a --- b",)},
        {"modules": ("a\n",)},
        {"modules": (" a",)},
        {"modules": ("http://evil/x",)},
        {"kernelopt": "a\x01b"},
    ],
)
def test_bad_images_have_no_files(change):
    image = dataclasses.replace(IMAGE, **change)
    with pytest.raises(LayoutError):
        host_files(dataclasses.replace(host(), image=image.name), image, CONFIG, KEY)


@pytest.mark.parametrize("path", ["../mboot.c32", "/mboot.c32", "a//b", "a b", "", "a\nAPPEND x"])
def test_a_loader_outside_the_image_is_refused(path):
    assert IMAGE.bios is not None
    image = dataclasses.replace(IMAGE, bios=dataclasses.replace(IMAGE.bios, path=path))
    with pytest.raises(TreeError):
        files(image=image)


@pytest.mark.parametrize(
    "option", [("ks", "http://evil/"), ("x", "a b"), ("x", "a\nb"), ("BootIF", "1"), ("\u00e4", "")]
)
def test_bad_boot_options_are_refused(option):
    good = host()
    bad = dataclasses.replace(good, boot=dataclasses.replace(good.boot, options=(option,)))
    with pytest.raises(TreeError):
        host_files(bad, IMAGE, CONFIG, KEY)


def test_the_image_must_be_the_hosts():
    with pytest.raises(TreeError, match="wants the image esxi-8.0.3, not other"):
        files(image=dataclasses.replace(IMAGE, name="other"))
    with pytest.raises(TreeError, match="not imported"):
        files(image=None)


def test_the_command_line_stays_under_the_loaders_limit():
    good = host()

    def with_length(extra):
        boot = dataclasses.replace(
            good.boot, options=tuple((f"o{n:02d}", "x" * 500) for n in range(7)) + (("p", "x" * extra),)
        )
        return dataclasses.replace(good, boot=boot)

    fits = max(extra for extra in range(500) if _fits(with_length(extra)))
    http_line = (
        f"http://192.168.77.10/images/esxi-8.0.3/b.b00 {kernel_options(with_length(fits), IMAGE, CONFIG, KEY, MAC)}"
    )
    assert len(f"{http_line} BOOTIF={STEM}") == COMMAND_LINE_LIMIT - 1
    with pytest.raises(TreeError, match=f"has {COMMAND_LINE_LIMIT} bytes, the boot loader takes fewer than"):
        host_files(with_length(fits + 1), IMAGE, CONFIG, KEY)


def _fits(candidate):
    try:
        host_files(candidate, IMAGE, CONFIG, KEY)
    except TreeError:
        return False
    return True


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_gets_through_keeps_its_line(title, kernelopt):
    image = dataclasses.replace(IMAGE, title=title, kernelopt=kernelopt)
    try:
        found = files(image=image)
    except TreeError:
        return
    for path, text in found.items():
        if path.endswith("boot.cfg") and "/install/" in path:
            assert len(text.splitlines()) == 9
            assert text.count("\n") == 9
            assert text.isascii()
            assert " = " not in text.replace(title, "").replace(kernelopt, "")


# Refusals.


def images(*records):
    return [Image.from_record(record) for record in records]


def old(name="esxi-7.0.3"):
    return image_record(name, "7.0.3")


def test_what_may_be_armed():
    both = images(image_record(), old())
    for firmware in ("auto", "uefi", "bios"):
        assert refusals(host(firmware=firmware), both) == []
        # The newer image's loader boots the older installer.
        assert refusals(host(firmware=firmware, image="esxi-7.0.3"), both) == []
    assert refusals(host(firmware="bios", image="esxi-7.0.3"), images(old())) == []


@pytest.mark.parametrize("firmware", ["auto", "uefi"])
def test_no_uefi_without_a_loader_that_can_boot_the_disk(firmware):
    (reason,) = refusals(host(firmware=firmware, image="esxi-7.0.3"), images(old()))
    assert "import an image of ESXi 8.0.1 or later, or set firmware: bios" in reason
    assert NAME in reason


def test_no_bios_without_a_bios_loader():
    loaders = {"bios": None, "uefi": image_record()["loaders"]["uefi"]}
    (reason,) = refusals(host(firmware="bios"), images(image_record(loaders=loaders)))
    assert "has no boot loader for BIOS machines" in reason
    assert refusals(host(firmware="auto"), images(image_record(loaders=loaders))) == []


def test_no_uefi_with_a_loader_older_than_the_image():
    loaders = {"bios": image_record()["loaders"]["bios"], "uefi": None}
    new = image_record("esxi-9.0.0", "9.0.0", loaders=loaders)
    (reason,) = refusals(host(image="esxi-9.0.0"), images(new, image_record()))
    assert "is newer than the UEFI boot loader of esxi-8.0.3" in reason
    assert refusals(host(image="esxi-9.0.0", firmware="bios"), images(new, image_record())) == []


def test_no_install_without_the_image():
    (reason,) = refusals(host(), images(old()))
    assert reason == (
        "The image esxi-8.0.3 of esx01.example.com is not imported on this PXE server: import it with esxi_image."
    )
