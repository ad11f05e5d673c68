# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and depots, shown: imported with a driver, booted from, kept while they are used, damaged, mended, removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from . import depot, inventory, medium, net, paths, procs, report, server
from .lab import Lab

DRIVER = "/srv/drivers/raidctl.v00"
BUNDLE = "/srv/drivers/net-example.zip"
OTHER = "esxi-9.0.0"
OTHER_ISO = f"/srv/iso/{OTHER}.iso"
DEPOT = "net-example"

#: Variables of the PXE server.
SETTINGS: dict[str, Any] = {
    "pxe_server_images": [
        {"name": inventory.IMAGE, "src": inventory.ISO, "add_modules": [DRIVER]},
        {"name": OTHER, "src": OTHER_ISO},
    ],
    "pxe_server_depots": [{"name": DEPOT, "src": BUNDLE}],
}


def _prepare() -> None:
    """Put on the server what an administrator would have copied there."""
    server.path(DRIVER).parent.mkdir(parents=True, exist_ok=True)
    server.path(DRIVER).write_bytes(b"\x1f\x8bstand-in of a driver")
    packages = [depot.Package(DEPOT), depot.Package("scsi-example", live=True)]
    depot.make_bundle(server.path(BUNDLE), packages, profile="ESXi-8.0-example")
    tree = paths.RUN / "other.tree"
    try:
        medium.make_iso(medium.make_tree(tree, version="9.0.0"), server.path(OTHER_ISO))
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _fetch(url: str) -> tuple[bool, bytes]:
    """What a machine of the provisioning network gets for a URL."""
    out = paths.RUN / "fetched"
    out.unlink(missing_ok=True)
    argv = ["nsenter", f"--net=/run/netns/{net.CENTRE}", "--", "curl", "-sS", "-f", "-m", "10", "-o", str(out), url]
    done = procs.run(argv, check=False, timeout=30)
    return done.returncode == 0, out.read_bytes() if out.exists() else b""


class Story:
    """The steps, and what did not hold."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.problems: list[str] = []

    def expect(self, holds: bool, sentence: str) -> None:
        """Note what should be true."""
        self.lab.say(f"{'yes' if holds else 'NO '}  {sentence}")
        if not holds:
            self.problems.append(f"not true: {sentence}")

    def module(self, module: str, /, **arguments: Any) -> dict[str, Any]:
        """Run a module of the collection on the PXE server; returns its result."""
        result = self.lab.controller.module(module, arguments)
        self.lab.say(f"{module} {json.dumps(arguments)}\n  {result.get('msg') or list(result)}")
        return result

    def play(self, playbook: str, *arguments: str) -> None:
        """Run a playbook that has to succeed."""
        result = self.lab.controller.play(playbook, *arguments, log=f"images-{playbook}")
        self.expect(result.code == 0, f"the playbook {playbook} {' '.join(arguments)} succeeds")


def run(lab: Lab) -> list[str]:
    """Play it; returns what did not hold, one sentence each."""
    lab.start(inventory.plan(1), settings={"esxi_host_timeout": 300}, server_settings=SETTINGS)
    _prepare()
    story = Story(lab)
    host = lab.hosts[0].name
    base = f"http://{net.SERVER_ADDRESS}"

    story.play("pxe_server")
    _imported(story, base)
    story.play("provision")
    story.problems += report.check_installed(lab, report.rows(lab))
    log = (paths.LOGS / f"{host}.console.log").read_text(errors="replace")
    modules = len(medium.module_names(8)) + 1
    story.expect(
        f"and {modules} modules" in log, f"the machine has loaded {modules} modules, the one that was added among them"
    )
    _kept(story, host)
    _damaged(story)
    _removed(story, host, base)
    return story.problems


def _imported(story: Story, base: str) -> None:
    found = story.module("esxi_image_info", verify=True)
    images = {image["name"]: image for image in found["images"]}
    story.expect(sorted(images) == [inventory.IMAGE, OTHER], "both ISO files are images")
    story.expect(not any(image["damage"] for image in images.values()), "every byte of them is what was imported")
    story.expect(images[OTHER]["supplies_mboot"], f"the newest, {OTHER}, supplies mboot")
    story.expect(
        images[inventory.IMAGE]["modules"][-1] == "raidctl.v00",
        "the driver is the last module of the image it was added to",
    )
    offered = story.module("esxi_depot_info", verify=True)["depots"][0]
    vibs = {vib["name"]: vib for vib in offered["vibs"]}
    story.expect(vibs[DEPOT]["reboot_required"] is True, f"the VIB {DEPOT} is known to want a reboot")
    url = offered["url"]
    story.expect(url == f"{base}/depots/{DEPOT}/", f"the depot is at {url}")
    for name in ("index.xml", "vendor-index.xml", "metadata.zip", f"{DEPOT}.zip", vibs[DEPOT]["file"]):
        there, data = _fetch(url + name)
        story.expect(there and data == _served(name), f"a host can fetch {name}, and gets its very bytes")
    for name, kind in ((f"tftp://{net.SERVER_ADDRESS}/depots/{DEPOT}/index.xml", "TFTP"), (url, "a listing of HTTP")):
        story.expect(not _fetch(name)[0], f"nothing of it by {kind}")
    work = server.path(f"/srv/esxi-pxe/boot/images/.importing.{OTHER}")
    work.mkdir(mode=0o700)
    (work / "b.b00").write_bytes(b"half")
    for scheme in ("http", "tftp"):
        there, _data = _fetch(f"{scheme}://{net.SERVER_ADDRESS}/images/.importing.{OTHER}/b.b00")
        story.expect(not there, f"what a killed import left is not handed out by {scheme.upper()}")
    story.expect(
        story.module("esxi_image_info")["leftovers"] == [f".importing.{OTHER}"], "what a killed import left is told"
    )
    story.module("esxi_image", name=OTHER, src=OTHER_ISO)
    story.expect(not work.exists(), "the next run has removed it")


def _served(name: str) -> bytes:
    return Path(server.path(f"/srv/esxi-pxe/depots/{DEPOT}/{name}")).read_bytes()


def _kept(story: Story, host: str) -> None:
    refused = story.module("esxi_image", name=inventory.IMAGE, state="absent")
    story.expect(
        bool(refused.get("failed")) and f"is used by {host}" in refused["msg"],
        "an image that a host uses is not removed",
    )
    link = server.path(f"/srv/esxi-pxe/boot/hosts/{host}/boot")
    link.unlink()
    link.symlink_to("install")
    refused = story.module("esxi_image", name=inventory.IMAGE, src=OTHER_ISO, replace=True)
    story.expect(
        bool(refused.get("failed")) and f"while {host} may be reading it" in refused["msg"],
        "no image is replaced under an armed host",
    )
    link.unlink()
    link.symlink_to("local")


def _damaged(story: Story) -> None:
    kernel = server.path(f"/srv/esxi-pxe/boot/images/{inventory.IMAGE}/b.b00")
    data = bytearray(kernel.read_bytes())
    data[100] ^= 1
    kernel.write_bytes(bytes(data))
    image = story.module("esxi_image_info", names=[inventory.IMAGE], verify=True)["images"][0]
    story.expect(image["damage"] == ["b.b00 has other contents"], "one flipped bit is found")
    arguments = {"name": inventory.IMAGE, "src": inventory.ISO, "add_modules": [DRIVER], "verify": True}
    story.expect(story.module("esxi_image", **arguments)["changed"] is True, "and mended")
    story.expect(story.module("esxi_image", **arguments)["changed"] is False, "once")


def _removed(story: Story, host: str, base: str) -> None:
    story.play("retire", "--limit", host)
    for name in (OTHER, inventory.IMAGE):
        story.expect(story.module("esxi_image", name=name, state="absent")["changed"] is True, f"{name} is removed")
        story.expect(not _fetch(f"{base}/images/{name}/boot.cfg")[0], f"{name} is not handed out any more")
        left = server.path("/srv/esxi-pxe/boot/mboot.efi").is_symlink()
        story.expect(left == (name == OTHER), "mboot comes from what is left, or is not there")
    story.expect(story.module("esxi_depot", name=DEPOT, state="absent")["changed"] is True, "the depot is removed")
    story.expect(not _fetch(f"{base}/depots/{DEPOT}/index.xml")[0], "the depot is not handed out any more")
