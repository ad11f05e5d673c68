# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PXE server's folders with armed hosts in them, as far as the pbconnect service looks: for tests."""

from __future__ import annotations

import datetime
import grp
import json
import os
import pathlib
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import FILE_SUFFIXES, host_links
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import Layout, mac_stem
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    flip,
    read_mode,
    replace_link,
    write_json,
)

KICKSTART = "vmaccepteula\n# @PBCONNECT_URL@\n# @PBCONNECT_TOKEN@\n# again @PBCONNECT_TOKEN@\n"

# A self-signed certificate of the kind that ESXi makes for itself; its key is kept nowhere.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBrzCCAVWgAwIBAgIUAIT5SIShbBF2KMIUCRi9JM6Dk7YwCgYIKoZIzj0EAwIw
LTEPMA0GA1UECgwGVk13YXJlMRowGAYDVQQDDBFlc3gwMS5leGFtcGxlLmNvbTAe
Fw0yNjExMjIyMDMzNTZaFw00NjExMTcyMDMzNTZaMC0xDzANBgNVBAoMBlZNd2Fy
ZTEaMBgGA1UEAwwRZXN4MDEuZXhhbXBsZS5jb20wWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARXByAN57a8Bzws74991TrcffepH68PUtOIVJRFxTcesB7QnXJ1pRCd
tdzj2jCLCySHEfl0oT9oLbFioCWqbuQ5o1MwUTAdBgNVHQ4EFgQUSGs80eNexsaS
wfOd9ZfISyzaxJYwHwYDVR0jBBgwFoAUSGs80eNexsaSwfOd9ZfISyzaxJYwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAi5R5CPA6IWmFm8U/VAt/
irKBN/M/YBsfSUbYl3nF+VMCIAEOD6TztGRw52vxlKoKzCCGVKbR/kNzVuisShPm
luRN
-----END CERTIFICATE-----
"""


class Site:
    """One PXE server below a temporary folder."""

    def __init__(self, root: pathlib.Path, **settings: t.Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.config_path = root / "server.json"
        document = {
            **ServerConfig(address="127.0.0.1").to_json(),
            "boot_root": str(root / "boot"),
            "state_root": str(root / "state"),
            # The service's own group: the tests run as whoever runs them.
            "group": grp.getgrgid(os.getegid()).gr_name,
            "dhcp": {"mode": "none", "hosts_dir": str(root / "state" / "dhcp-hosts"), "reload": []},
            "listen": {"host": "127.0.0.1", "port": 0},
            **settings,
        }
        self.config_path.write_text(json.dumps(document))
        self.config = ServerConfig.from_json(document)
        self.layout = Layout.of(self.config)
        for folder in (
            self.layout.status_dir,
            self.layout.installs_dir,
            self.layout.kickstarts_dir,
            self.layout.locks_dir,
            self.layout.events_dir,
            self.layout.trees_dir,
            self.layout.boot_root / "pxelinux.cfg",
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def publish(self, name: str, macs: t.Sequence[str], now: datetime.datetime) -> None:
        """A host that boots from its disk."""
        for mode in ("install", "local"):
            folder = self.layout.mode_dir(name, mode)
            folder.mkdir(parents=True, exist_ok=True)
            for mac in macs:
                for suffix in FILE_SUFFIXES:
                    (folder / f"{mac_stem(mac)}{suffix}").write_text(f"{mode}\n")
        for path, target in host_links(name, macs).items():
            link = self.layout.boot_root / path
            link.parent.mkdir(parents=True, exist_ok=True)
            replace_link(link, target, sync=False)
        for mac in macs:
            kickstart = self.layout.kickstart(name, mac)
            kickstart.parent.mkdir(parents=True, exist_ok=True)
            kickstart.write_text(f"# {mac}\n{KICKSTART}")
        flip(self.layout, name, "local", sync=False)
        write_json(self.layout.status(name), Status.new(name, "esxi-8.0.3", now).to_json(), sync=False)

    def arm(
        self,
        name: str,
        macs: t.Sequence[str],
        addresses: t.Sequence[str],
        now: datetime.datetime,
        ttl: float = 3600,
        request: str | None = None,
    ) -> Install:
        """Published and armed, in the order in which esxi_pxe_host does it."""
        if not self.layout.status(name).exists():
            self.publish(name, macs, now)
        install = Install.new(name, macs, addresses, request, now, ttl)
        self.write_install(install)
        self.write_status(self.status(name).armed(install, now))
        flip(self.layout, name, "install", sync=False)
        return install

    def write_install(self, install: Install) -> None:
        write_json(self.layout.install(install.host), install.to_json(), 0o640, sync=False)

    def write_status(self, status: Status) -> None:
        write_json(self.layout.status(status.host), status.to_json(), sync=False)

    def status(self, name: str) -> Status:
        return Status.from_json(json.loads(self.layout.status(name).read_bytes()))

    def install(self, name: str) -> Install:
        return Install.from_json(json.loads(self.layout.install(name).read_bytes()))

    def mode(self, name: str) -> str | None:
        return read_mode(self.layout, name)

    def mint(self, name: str, mac: str, now: datetime.datetime) -> str:
        """A token of the host's present install, as if its kickstart had been fetched."""
        install, token = self.install(name).mint(mac, now)
        self.write_install(install)
        return token

    def snapshot(self) -> dict[str, object]:
        """Everything that is on disk, but for the locks and the log of events, which follows in its own time."""
        found: dict[str, object] = {}
        for folder, folders, files in os.walk(self.root):
            for name in folders + files:
                path = pathlib.Path(folder, name)
                if {self.layout.locks_dir, self.layout.events_dir} & {path, path.parent}:
                    continue
                state = path.lstat()
                what: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
                found[str(path.relative_to(self.root))] = (state.st_mtime_ns, state.st_ino, what)
        return found
