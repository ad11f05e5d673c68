# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: the settings of a PXE server.

The role pxe_server writes them to /etc/esxi-pxe/server.json; the modules that run on the PXE server and the pbconnect
service read them from there, so that both speak of the same folders, address and port.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import json
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError

__all__ = (
    "CONFIG_PATH",
    "SCHEMA",
    "ConfigError",
    "Database",
    "Dhcp",
    "Listen",
    "ServerConfig",
    "default_config",
    "load",
)

CONFIG_PATH = "/etc/esxi-pxe/server.json"
"""Where the role pxe_server writes the settings."""

SCHEMA = 1
"""Version of the settings' form. A reader refuses any other."""

DHCP_MODES = ("dnsmasq", "kea", "dhcpd", "proxy", "none")


class ConfigError(EsxiPxeError):
    """The settings are missing or wrong; the text says where and what to do."""


@dataclasses.dataclass(frozen=True)
class Database:
    """Where Kea's reservations are: a PostgreSQL database.

    :ivar password_file: in libpq's own form (`host:port:database:user:password`), readable by root alone.
    """

    host: str = "127.0.0.1"
    port: int = 5432
    name: str = "esxi_pxe_kea"
    user: str = "esxi_pxe_kea"
    password_file: str = "/etc/esxi-pxe/kea.pgpass"


@dataclasses.dataclass(frozen=True)
class Dhcp:
    """How this site hands out addresses.

    :ivar mode: `dnsmasq`, `kea`, `dhcpd`: this server keeps the reservations; `proxy` and `none`: somebody else does.
    :ivar hosts_dir: dnsmasq's `dhcp-hostsdir`, absolute.
    :ivar reload: command (argv) that makes dnsmasq or dhcpd read its reservations again; empty: nothing is run.
    :ivar include: the file with reservations that dhcpd.conf includes, absolute.
    :ivar check: command (argv) that looks for faults in a file, to be added as its last word; empty: nobody looks.
    :ivar subnets: networks (CIDR) in which Kea hands out addresses.
    :ivar database: Kea's.
    """

    mode: str = "dnsmasq"
    hosts_dir: str = "/var/lib/esxi-pxe/dhcp-hosts"
    reload: tuple[str, ...] = ("systemctl", "reload", "dnsmasq")
    include: str = "/etc/dhcp/esxi-pxe-hosts.conf"
    check: tuple[str, ...] = ("dhcpd", "-t", "-cf")
    subnets: tuple[str, ...] = ()
    database: Database = Database()


@dataclasses.dataclass(frozen=True)
class Listen:
    """Where the pbconnect service listens; nginx stands in front of it."""

    host: str = "127.0.0.1"
    port: int = 8073


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """Settings of one PXE server.

    :ivar address: IPv4 address at which the ESXi hosts reach this server.
    :ivar http_port: port of nginx; 80, because ESXi's httpClient firewall ruleset opens 80 and 443 only.
    :ivar boot_root: TFTP root, also served over HTTP; absolute.
    :ivar state_root: status files, records, kickstarts; absolute.
    :ivar depot_root: depots of drivers and patches, served over HTTP alone below `/depots/`; absolute.
    :ivar group: group of the pbconnect service.
    :ivar bios_localboot: value of PXELINUX's `LOCALBOOT`: 0 (normal) or -1 (report a failure to the BIOS).
    :ivar arming_ttl: seconds after which an arming expires.
    :ivar kickstart_clients: networks (CIDR) whose hosts may fetch kickstarts beside the reserved addresses.
    :ivar site: what this server's site is called on the page and in the metrics; empty: its address.
    """

    address: str
    http_port: int = 80
    boot_root: str = "/srv/esxi-pxe/boot"
    state_root: str = "/var/lib/esxi-pxe"
    depot_root: str = "/srv/esxi-pxe/depots"
    group: str = "esxi-pxe"
    dhcp: Dhcp = Dhcp()
    bios_localboot: int = 0
    arming_ttl: int = 86400
    kickstart_clients: tuple[str, ...] = ()
    listen: Listen = Listen()
    site: str = ""

    @property
    def site_name(self) -> str:
        """What this server's site is called."""
        return self.site or self.address

    @property
    def base_url(self) -> str:
        """URL of boot_root as an ESXi host sees it, without a slash at its end."""
        return f"http://{self.address}" if self.http_port == 80 else f"http://{self.address}:{self.http_port}"

    @property
    def pbconnect_url(self) -> str:
        """URL that takes the notifications of an ESXi host."""
        return f"{self.base_url}/pbconnect/v1/notify"

    def kickstart_url(self, key: str, mac_stem: str) -> str:
        """URL of a kickstart.

        :arg key: the secret of the install.
        :arg mac_stem: `01-aa-bb-cc-dd-ee-ff`.
        """
        return f"{self.base_url}/ks/{key}/{mac_stem}.cfg"

    def image_url(self, image: str) -> str:
        """URL of an image's folder, with a slash at its end."""
        return f"{self.base_url}/images/{image}/"

    def depot_url(self, depot: str) -> str:
        """URL of a depot's folder, with a slash at its end: what `esxcli software ... -d` is given."""
        return f"{self.base_url}/depots/{depot}/"

    def to_json(self) -> dict[str, t.Any]:
        """The settings as they are stored."""
        value = dataclasses.asdict(self)
        value["dhcp"]["reload"] = list(self.dhcp.reload)
        value["dhcp"]["check"] = list(self.dhcp.check)
        value["dhcp"]["subnets"] = list(self.dhcp.subnets)
        value["kickstart_clients"] = list(self.kickstart_clients)
        return {"schema": SCHEMA, **value}

    @classmethod
    def from_json(cls, value: object) -> ServerConfig:
        """Check stored settings; everything but `address` may be left out.

        :raises ConfigError: with all that is wrong at once.
        """
        errors: list[str] = []
        top = _Section(value, "", errors)
        if not top.given:
            raise ConfigError("the settings must be one JSON object")
        schema = top.take("schema")
        if schema != SCHEMA:
            raise ConfigError(
                f"schema is {schema!r}, this version of the collection reads {SCHEMA}: run the role pxe_server again"
            )
        dhcp = _Section(top.take("dhcp", {}), "dhcp.", errors)
        listen = _Section(top.take("listen", {}), "listen.", errors)
        database = _Section(dhcp.take("database", {}), "dhcp.database.", errors)
        default = Dhcp()
        config = cls(
            address=top.ipv4("address"),
            http_port=top.integer("http_port", cls.http_port, 1, 65535),
            boot_root=top.folder("boot_root", cls.boot_root),
            state_root=top.folder("state_root", cls.state_root),
            depot_root=top.folder("depot_root", cls.depot_root),
            group=top.text("group", cls.group),
            dhcp=Dhcp(
                mode=dhcp.choice("mode", default.mode, DHCP_MODES),
                hosts_dir=dhcp.folder("hosts_dir", default.hosts_dir),
                reload=dhcp.texts("reload", default.reload),
                include=dhcp.folder("include", default.include),
                check=dhcp.texts("check", default.check),
                subnets=dhcp.networks("subnets"),
                database=Database(
                    host=database.text("host", Database.host),
                    port=database.integer("port", Database.port, 1, 65535),
                    name=database.text("name", Database.name),
                    user=database.text("user", Database.user),
                    password_file=database.folder("password_file", Database.password_file),
                ),
            ),
            bios_localboot=top.integer("bios_localboot", cls.bios_localboot, -1, 255),
            arming_ttl=top.integer("arming_ttl", cls.arming_ttl, 60, 366 * 86400),
            kickstart_clients=top.networks("kickstart_clients"),
            listen=Listen(
                host=listen.text("host", Listen.host),
                port=listen.integer("port", Listen.port, 0, 65535),
            ),
            site=top.label("site", cls.site),
        )
        for section in (top, dhcp, database, listen):
            section.finish()
        if errors:
            raise ConfigError("; ".join(errors))
        return config


class _Section:
    """One JSON object that is being read: collects errors instead of stopping at the first."""

    def __init__(self, value: object, prefix: str, errors: list[str]) -> None:
        self.given = isinstance(value, dict)
        self._value: dict[str, t.Any] = dict(value) if isinstance(value, dict) else {}
        self._prefix = prefix
        self._errors = errors
        self._known: list[str] = []
        if not self.given and prefix:
            errors.append(f"{prefix.rstrip('.')} must be an object")

    def error(self, key: str, text: str) -> None:
        self._errors.append(f"{self._prefix}{key} {text}")

    def take(self, key: str, default: t.Any = None) -> t.Any:
        self._known.append(key)
        return self._value.pop(key, default)

    def text(self, key: str, default: str) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
            self.error(key, f"must be a word, not {value!r}")
            return default
        return value

    def label(self, key: str, default: str) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.isprintable() or len(value) > 64 or value != value.strip():
            self.error(key, f"must be a name of at most 64 characters, not {value!r}")
            return default
        return value

    def choice(self, key: str, default: str, choices: t.Sequence[str]) -> str:
        value = self.take(key, default)
        if value not in choices:
            self.error(key, f"must be one of {', '.join(choices)}, not {value!r}")
            return default
        return str(value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.error(key, f"must be a whole number between {low} and {high}, not {value!r}")
            return default
        return value

    def folder(self, key: str, default: str) -> str:
        value = self.take(key, default)
        if (
            not isinstance(value, str)
            or not value.startswith("/")
            or not value.isprintable()
            or any(part in (".", "..") for part in value.split("/"))
        ):
            self.error(key, f"must be an absolute path, not {value!r}")
            return default
        return value.rstrip("/") or "/"

    def ipv4(self, key: str) -> str:
        value = self.take(key)
        try:
            if not isinstance(value, str):
                raise ValueError
            return str(ipaddress.IPv4Address(value))
        except ValueError:
            self.error(key, f"must be an IPv4 address, not {value!r}")
            return "0.0.0.0"

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.take(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) and word for word in value):
            self.error(key, f"must be a list of words, not {value!r}")
            return default
        return tuple(value)

    def networks(self, key: str) -> tuple[str, ...]:
        found: list[str] = []
        for word in self.texts(key, ()):
            try:
                found.append(str(ipaddress.IPv4Network(word)))
            except ValueError as error:
                self.error(key, f"must be IPv4 networks such as 192.168.77.0/24: {error}")
        return tuple(found)

    def finish(self) -> None:
        for key in sorted(self._value):
            close = difflib.get_close_matches(key, self._known, n=1)
            self.error(key, "is not a setting" + (f"; did you mean {close[0]}?" if close else ""))


def default_config(address: str = "192.168.77.10") -> ServerConfig:
    """The settings that the role writes when only the address is chosen."""
    return ServerConfig(address=address)


def load(path: str = CONFIG_PATH) -> ServerConfig:
    """Read the settings from a file.

    :raises ConfigError: the file is missing, not readable, not JSON, or wrong; the text names the file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: run the role pxe_server on this machine first") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): run the role pxe_server again") from error
    try:
        return ServerConfig.from_json(value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
