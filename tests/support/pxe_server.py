# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PXE server below a temporary folder, and machines that boot from it: for tests of what publishes hosts."""

from __future__ import annotations

import datetime
import grp
import json
import os
import pathlib
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import host_links
from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import parse_hosts
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, mac_stem
from ansible_collections.pxemanager.esxi.plugins.module_utils._publish import Publisher
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import flip, read_mode, write_json
from ansible_collections.pxemanager.esxi.tests.support.commands import run_command

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)

WAYS = ("bios", "uefi", "uefi-http", "ipxe")
"""The ways in which a machine boots over the network."""


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def definition(number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    """A correct definition of a host, without anything that need not be there."""
    return {
        "name": f"esx{number:02d}.example.com",
        "macs": [f"00:50:56:aa:{number:02x}:01", f"00:50:56:aa:{number:02x}:02"],
        "network": {"address": f"192.168.77.{20 + number}/24", "gateway": "192.168.77.1"},
        "image": "esxi-8.0.3",
        "disk": {"first": ["local"]},
        **changes,
    }


def image_record(name: str = "esxi-8.0.3", version: str = "8.0.3", **changes: t.Any) -> dict[str, t.Any]:
    """The description of an imported image."""
    return {
        "schema": 1,
        "name": name,
        "version": version,
        "build": f"{version}-0.0.24022510",
        "kernel": "b.b00",
        "modules": ["jumpstrt.gz", "useropts.gz quiet", "features.gz"],
        "kernelopt": "runweasel",
        "title": "Loading ESXi installer",
        "mboot_version": version,
        "loaders": {
            "bios": {"kind": "mboot.c32", "path": "mboot.c32"},
            "uefi": {"kind": "mboot", "path": "efi/boot/bootx64.efi", "crypto": "efi/boot/crypto64.efi"},
        },
        "sha256": "0" * 64,
        "source": {"path": "/iso", "kind": "iso", "fingerprint": "1"},
        "imported": "2026-11-22T19:00:00Z",
        "files": 6,
        "bytes": 600,
        **changes,
    }


class PxeServer:
    """A server with one image, the way the roles leave it before the first host."""

    def __init__(self, root: pathlib.Path, image: bool = True, **settings: t.Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        document = {
            **ServerConfig(address="192.168.77.10").to_json(),
            "boot_root": str(root / "boot"),
            "state_root": str(root / "state"),
            "group": grp.getgrgid(os.getegid()).gr_name,
            "dhcp": {"mode": "dnsmasq", "hosts_dir": str(root / "state/dhcp-hosts"), "reload": ["reload-dhcp"]},
            **settings,
        }
        self.config_path = root / "server.json"
        self.config_path.write_text(json.dumps(document))
        self.config = ServerConfig.from_json(document)
        self.layout = Layout.of(self.config)
        self.boot, self.state = self.layout.boot_root, self.layout.state_root
        for folder in (self.layout.images_dir, self.layout.descriptions_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.reloads = 0
        self.reload_problem: str | None = None
        self.released: list[tuple[str, str]] = []
        self.dhcp_reads_again: t.Callable[[], None] = lambda: None
        self.now = NOW
        if image:
            self.import_image()

    def import_image(self, name: str = "esxi-8.0.3", version: str = "8.0.3", **changes: t.Any) -> None:
        record = image_record(name, version, **changes)
        self.layout.description(name).write_text(json.dumps(record))
        for kind, keys in (("bios", ("path", "kernel", "initrd")), ("uefi", ("path", "crypto"))):
            loader = record["loaders"][kind] or {}
            for key in keys:
                if loader.get(key):
                    file = self.layout.image_dir(name) / loader[key]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"loader of {name}\n")

    def write_kickstarts(self, *definitions: t.Mapping[str, t.Any]) -> None:
        for given in definitions:
            for mac in given["macs"]:
                path = self.layout.kickstart(given["name"], mac)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("vmaccepteula\n")

    def reload(self, argv: t.Sequence[str]) -> str | None:
        assert list(argv) == list(self.config.dhcp.reload)
        self.reloads += 1
        if self.reload_problem is None:
            self.dhcp_reads_again()
        return self.reload_problem

    def release(self, leases: t.Sequence[tuple[str, str]]) -> None:
        self.released += leases

    def call(self, state: str, *definitions: t.Mapping[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
        """What esxi_pxe_host does; options are a Publisher's. Returns what the module would."""
        results = Results()
        publisher = Publisher(
            self.config,
            results,
            **{"reload": self.reload, "release": self.release, "now": self.now, "run": run_command, **options},
        )
        if state in ("published", "armed"):
            parsed = parse_hosts(definitions)
            for name, errors in parsed.errors.items():
                results.fail(name, errors)
            publisher.publish(parsed.hosts, arm=state == "armed")
        else:
            names = [given["name"] for given in definitions]
            (publisher.disarm if state == "disarmed" else publisher.remove)(names)
        return results.as_return()

    def good(self, state: str, *definitions: t.Mapping[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
        """As `call`, for calls that have to succeed."""
        value = self.call(state, *definitions, **options)
        assert not value["failed_hosts"], value["msg"]
        return value

    # What a machine sees.

    def fetch(self, path: str) -> str | None:
        """A file as TFTP and HTTP hand it out."""
        file = self.boot / path
        try:
            return file.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def boot_file(self, mac: str, way: str = "uefi") -> str:
        """What a machine reads first, looked for as its loader looks for it."""
        stem = mac_stem(mac)
        places = {
            "bios": (f"pxelinux.cfg/{stem}", "pxelinux.cfg/default"),
            "uefi": (f"{stem}/boot.cfg", "boot.cfg"),
            "uefi-http": (f"http/{stem}/boot.cfg", "http/boot.cfg"),
            "ipxe": (f"ipxe/{stem}.ipxe", "ipxe/default.ipxe"),
        }[way]
        for place in places:
            text = self.fetch(place)
            if text is not None:
                return text
        raise AssertionError(f"{mac} finds nothing by {way}: it hangs")

    def boots(self, mac: str, way: str = "uefi") -> str:
        """`install` or `local`: what a machine with this MAC does."""
        text = self.boot_file(mac, way)
        assert text.endswith("\n"), text
        lines = text.splitlines()
        if way == "bios":
            entry = [line.strip() for line in lines if line.startswith("  ")]
            if "APPEND -c" in text:
                target = next(line.split()[2] for line in entry if line.startswith("APPEND"))
                return "install" if "kernel=" in (self.fetch(target) or "") else "local"
            assert entry[0] == "LOCALBOOT 0" or entry[0].startswith("KERNEL "), text
            return "local" if entry[0] == "LOCALBOOT 0" else "install"
        if way == "ipxe":
            assert lines[0] == "#!ipxe"
            if lines[-1] == "exit 1":
                return "local"
            assert lines[-1] == "boot", text
            return "install"
        keys = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        if keys.get("skip") == "1":
            assert "kernel" not in keys
            return "local"
        assert "updated" in keys, text
        return "install"

    # What is on disk.

    def status(self, name: str = "esx01.example.com") -> Status:
        return Status.from_json(json.loads(self.layout.status(name).read_bytes()))

    def install(self, name: str = "esx01.example.com") -> Install:
        return Install.from_json(json.loads(self.layout.install(name).read_bytes()))

    def mode(self, name: str = "esx01.example.com") -> str | None:
        return read_mode(self.layout, name)

    def notify(self, stage: str, name: str = "esx01.example.com", **report: t.Any) -> None:
        """What the pbconnect service does when a host reports."""
        flip(self.layout, name, "local")
        write_json(self.layout.status(name), self.status(name).notified(stage, self.now, **report).to_json())

    def snapshot(self) -> dict[str, tuple[t.Any, ...]]:
        """Everything on disk: permissions, group, contents, time and identity."""
        found: dict[str, tuple[t.Any, ...]] = {}
        for folder, folders, files in os.walk(self.root):
            for name in folders + files:
                path = pathlib.Path(folder, name)
                info = path.lstat()
                what: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
                state = (info.st_mode, info.st_gid, what, info.st_mtime_ns, info.st_ino)
                found[str(path.relative_to(self.root))] = state
        return found

    def contents(self) -> dict[str, tuple[t.Any, ...]]:
        """As `snapshot`, but for what two equal servers may differ in."""
        own = ("state/locks", "server.json")
        return {path: state[:3] for path, state in self.snapshot().items() if not path.startswith(own)}

    def temporary_files(self) -> list[str]:
        return [path for path in self.snapshot() if path.rpartition("/")[2].startswith(".")]

    def stray_links(self, *definitions: t.Mapping[str, t.Any]) -> list[str]:
        """Links of MACs that none of these hosts has."""
        known = {path for given in definitions for path in host_links(given["name"], given["macs"])}
        places = ("pxelinux.cfg/01-*", "01-*/boot.cfg", "http/01-*/boot.cfg", "ipxe/01-*")
        found = {str(path.relative_to(self.boot)) for place in places for path in self.boot.glob(place)}
        return sorted(found - known)

    def check_invariants(self, names: t.Iterable[str], macs: t.Iterable[str]) -> None:
        """What must hold at every moment, whoever was killed where: nothing torn, no installer without an arming."""
        armed: dict[str, str] = {}
        for name in names:
            for path in (self.layout.status(name), self.layout.install(name), self.layout.record(name)):
                if path.exists():
                    assert json.loads(path.read_bytes())["schema"] == 1
            if self.layout.mode_link(name).is_symlink() and self.mode(name) == "install":
                assert self.status(name).stage == "armed", f"{name} boots the installer without being armed"
                assert self.status(name).install == self.install(name).install
                armed[name] = self.install(name).key or ""
        for mac in macs:
            for way in WAYS:
                if self.boots(mac, way) == "local":
                    continue
                text = self.boot_file(mac, way)
                owner = text.partition(": install ")[0].rpartition("# ")[2]
                assert owner in armed, f"{mac} installs {owner} by {way}, which is not armed"
                if "ks=" in text:
                    assert f"/ks/{armed[owner]}/" in text, "a key that is not the install's"
        for file in self.layout.reservations_dir.glob("[!.]*"):
            assert file.read_text().endswith("\n")
