# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: where everything lies on a PXE server.

Pure: nothing here looks at a disk. Every name that becomes part of a path is checked here once more, whoever checked it
before, so that no definition, URL or file can lead outside its folder.

Names that begin with a dot are temporary files of a write that is under way (or was killed); who lists a folder
skips them.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = (
    "INSTALL",
    "LOCAL",
    "MODES",
    "HostPaths",
    "Layout",
    "LayoutError",
    "check_depot_name",
    "check_image_name",
    "check_mac",
    "check_mode",
    "check_name",
    "mac_stem",
)

INSTALL: t.Final = "install"
LOCAL: t.Final = "local"
MODES: t.Final = (INSTALL, LOCAL)
"""Boot modes: what the next PXE boot of a host does."""

# 200, not DNS's 253: a temporary name adds up to 30 characters and a file name ends at 255 bytes.
_NAME_LENGTH = 200
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_IMAGE_LENGTH = 64
_IMAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9])?")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


class LayoutError(EsxiPxeError, ValueError):
    """A name cannot be part of a path."""


# One host's name and MAC addresses become part of thirty paths, one after the other.
_remember = functools.lru_cache(maxsize=4096)


@_remember
def check_name(name: str) -> str:
    """Return a host's name if it can be a folder: lower-case labels of RFC 1123, joined by dots.

    :raises LayoutError: it cannot.
    """
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        raise LayoutError(
            f"{name!r} cannot be the name of a host: it needs lower-case letters, digits, hyphens and dots, "
            f"at most {_NAME_LENGTH} characters"
        )
    return name


def check_image_name(image: str) -> str:
    """Return an image's name if it can be a folder and stand in a boot.cfg.

    :raises LayoutError: it cannot.
    """
    if len(image) > _IMAGE_LENGTH or not _IMAGE.fullmatch(image) or ".." in image:
        raise LayoutError(
            f"{image!r} cannot be the name of an image: it needs letters, digits and . _ + - between them, "
            f"at most {_IMAGE_LENGTH} characters"
        )
    return image


def check_depot_name(depot: str) -> str:
    """Return a depot's name if it can be a folder and stand in a URL.

    :raises LayoutError: it cannot.
    """
    if len(depot) > _IMAGE_LENGTH or not _IMAGE.fullmatch(depot) or ".." in depot:
        raise LayoutError(
            f"{depot!r} cannot be the name of a depot: it needs letters, digits and . _ + - between them, "
            f"at most {_IMAGE_LENGTH} characters"
        )
    return depot


def check_mac(mac: str) -> str:
    """Return a MAC address if it is in the canonical form `aa:bb:cc:dd:ee:ff`.

    :raises LayoutError: it is not.
    """
    if not _MAC.fullmatch(mac):
        raise LayoutError(f"{mac!r} is not a MAC address of the form aa:bb:cc:dd:ee:ff")
    return mac


def check_mode(mode: str) -> str:
    """Return a boot mode if it is one.

    :raises LayoutError: it is not.
    """
    if mode not in MODES:
        raise LayoutError(f"{mode!r} is not a boot mode; there are {' and '.join(MODES)}")
    return mode


@_remember
def mac_stem(mac: str) -> str:
    """`01-aa-bb-cc-dd-ee-ff`, the form in which PXELINUX and mboot ask for a MAC (01 is Ethernet).

    :raises LayoutError: the address is not canonical.
    """
    return "01-" + check_mac(mac).replace(":", "-")


class HostPaths(t.NamedTuple):
    """What a notification or a publishing touches of one host: the same as a `Layout`'s methods give, as text."""

    tree: str
    record: str
    mode_link: str
    status: str
    install: str
    lock: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Paths on one PXE server.

    :ivar boot_root: TFTP root, also served over HTTP.
    :ivar state_root: what only the modules and the pbconnect service read.
    :ivar reservations_dir: dnsmasq's `dhcp-hostsdir`.
    :ivar depots_dir: holds a folder for each depot; served over HTTP, not over TFTP.
    """

    boot_root: pathlib.Path
    state_root: pathlib.Path
    reservations_dir: pathlib.Path
    depots_dir: pathlib.Path = pathlib.Path("/srv/esxi-pxe/depots")

    @classmethod
    def of(cls, config: ServerConfig) -> Layout:
        """The layout of a server with these settings."""
        return cls(
            boot_root=pathlib.Path(config.boot_root),
            state_root=pathlib.Path(config.state_root),
            reservations_dir=pathlib.Path(config.dhcp.hosts_dir),
            depots_dir=pathlib.Path(config.depot_root),
        )

    # The boot tree.

    @property
    def images_dir(self) -> pathlib.Path:
        """Holds a folder for each image."""
        return self.boot_root / "images"

    def image_dir(self, image: str) -> pathlib.Path:
        """An image's installer tree."""
        return self.images_dir / check_image_name(image)

    @property
    def trees_dir(self) -> pathlib.Path:
        """Holds a folder for each host."""
        return self.boot_root / "hosts"

    def tree(self, name: str) -> pathlib.Path:
        """A host's folder in the boot tree."""
        return self.trees_dir / check_name(name)

    def mode_dir(self, name: str, mode: str) -> pathlib.Path:
        """The files of one boot mode of a host."""
        return self.tree(name) / check_mode(mode)

    def mode_link(self, name: str) -> pathlib.Path:
        """THE boot mode of a host: a symbolic link to `install` or `local`."""
        return self.tree(name) / "boot"

    # The state.

    @property
    def status_dir(self) -> pathlib.Path:
        """Holds a status file for each host."""
        return self.state_root / "status"

    def status(self, name: str) -> pathlib.Path:
        """Status of a host (0644, no secrets)."""
        return self.status_dir / f"{check_name(name)}.json"

    @property
    def installs_dir(self) -> pathlib.Path:
        """Holds the install record of each host that has one."""
        return self.state_root / "installs"

    def install(self, name: str) -> pathlib.Path:
        """Install record of a host (0640: it has the key of the kickstart's URL)."""
        return self.installs_dir / f"{check_name(name)}.json"

    @property
    def records_dir(self) -> pathlib.Path:
        """Holds the published definition of each host."""
        return self.state_root / "hosts"

    def record(self, name: str) -> pathlib.Path:
        """Published definition of a host (0640)."""
        return self.records_dir / f"{check_name(name)}.json"

    @property
    def kickstarts_dir(self) -> pathlib.Path:
        """Holds a folder of kickstarts for each host."""
        return self.state_root / "kickstarts"

    def kickstart_dir(self, name: str) -> pathlib.Path:
        """A host's kickstarts."""
        return self.kickstarts_dir / check_name(name)

    def kickstart(self, name: str, mac: str) -> pathlib.Path:
        """A host's kickstart for one of its MACs (0640), with placeholders for the secrets."""
        return self.kickstart_dir(name) / f"{mac_stem(mac)}.cfg"

    @property
    def descriptions_dir(self) -> pathlib.Path:
        """Holds the description of each imported image."""
        return self.state_root / "images"

    def description(self, image: str) -> pathlib.Path:
        """Description of an imported image (0644)."""
        return self.descriptions_dir / f"{check_image_name(image)}.json"

    def manifest(self, image: str) -> pathlib.Path:
        """Size and SHA-256 of each file of an imported image (0644)."""
        return self.state_root / "manifests" / f"{check_image_name(image)}.json"

    def depot_dir(self, depot: str) -> pathlib.Path:
        """A depot's files."""
        return self.depots_dir / check_depot_name(depot)

    @property
    def depot_descriptions_dir(self) -> pathlib.Path:
        """Holds the description of each imported depot."""
        return self.state_root / "depots"

    def depot_description(self, depot: str) -> pathlib.Path:
        """Description of an imported depot (0644)."""
        return self.depot_descriptions_dir / f"{check_depot_name(depot)}.json"

    def reservation(self, name: str) -> pathlib.Path:
        """DHCP reservation of a host (0644)."""
        return self.reservations_dir / check_name(name)

    @property
    def events_dir(self) -> pathlib.Path:
        """Holds the log of events, which the pbconnect service alone writes."""
        return self.state_root / "events"

    @property
    def reload_marker(self) -> pathlib.Path:
        """Present while the DHCP server has not yet been told of a changed or removed reservation."""
        return self.state_root / "dhcp-reload-pending"

    @property
    def locks_dir(self) -> pathlib.Path:
        """Holds the lock files."""
        return self.state_root / "locks"

    def lock(self, name: str) -> pathlib.Path:
        """Lock of one host: whoever changes its files, link, record or status holds it."""
        return self.locks_dir / f"{check_name(name)}.lock"

    def paths(self, name: str) -> HostPaths:
        """Paths of one host, for who needs them a thousand times a second: pathlib takes a tenth of that time."""
        check_name(name)
        tree, state = f"{self.boot_root}/hosts/{name}", self.state_root
        return HostPaths(
            tree=tree,
            record=f"{state}/hosts/{name}.json",
            mode_link=f"{tree}/boot",
            status=f"{state}/status/{name}.json",
            install=f"{state}/installs/{name}.json",
            lock=f"{state}/locks/{name}.lock",
        )

    @property
    def tree_lock(self) -> pathlib.Path:
        """Lock of what belongs to no single host: loaders, defaults, who owns which MAC and address."""
        return self.locks_dir / "_tree.lock"
