# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a PXE server: what is wrong in them is said at once, all of it, and by name."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._server import (
    ConfigError,
    Dhcp,
    Listen,
    ServerConfig,
    default_config,
    load,
)

MINIMAL = {"schema": 1, "address": "192.168.77.10"}


def test_defaults():
    config = ServerConfig.from_json(MINIMAL)
    assert config == default_config("192.168.77.10")
    assert config.base_url == "http://192.168.77.10"
    assert config.pbconnect_url == "http://192.168.77.10/pbconnect/v1/notify"
    assert config.dhcp == Dhcp("dnsmasq", "/var/lib/esxi-pxe/dhcp-hosts", ("systemctl", "reload", "dnsmasq"))
    assert config.listen == Listen("127.0.0.1", 8073)
    assert (config.arming_ttl, config.bios_localboot, config.kickstart_clients) == (86400, 0, ())


def test_urls():
    config = ServerConfig.from_json({**MINIMAL, "http_port": 8080})
    assert config.base_url == "http://192.168.77.10:8080"
    assert config.kickstart_url("a" * 32, "01-00") == f"http://192.168.77.10:8080/ks/{'a' * 32}/01-00.cfg"
    assert config.image_url("esxi-8.0.3") == "http://192.168.77.10:8080/images/esxi-8.0.3/"


def test_what_is_written_is_read_back():
    config = ServerConfig.from_json(
        {
            **MINIMAL,
            "http_port": 81,
            "boot_root": "/b/",
            "state_root": "/s",
            "group": "g",
            "dhcp": {"mode": "none", "hosts_dir": "/d", "reload": []},
            "bios_localboot": -1,
            "arming_ttl": 3600,
            "kickstart_clients": ["10.0.0.0/8"],
            "listen": {"host": "127.0.0.2", "port": 1},
        }
    )
    assert config.boot_root == "/b"
    assert ServerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"address": "pxe01"}, "address must be an IPv4 address"),
        ({"address": None}, "address must be an IPv4 address"),
        ({"http_port": 0}, "http_port must be a whole number between 1 and 65535"),
        ({"http_port": True}, "http_port"),
        ({"http_port": "80"}, "http_port"),
        ({"boot_root": "boot"}, "boot_root must be an absolute path"),
        ({"boot_root": "/srv/../etc"}, "boot_root must be an absolute path"),
        ({"state_root": ""}, "state_root"),
        ({"group": "a b"}, "group must be a word"),
        ({"dhcp": []}, "dhcp must be an object"),
        ({"dhcp": {"mode": "bootp"}}, "dhcp.mode must be one of dnsmasq, kea, dhcpd, proxy, none"),
        ({"dhcp": {"reload": "systemctl reload dnsmasq"}}, "dhcp.reload must be a list"),
        ({"dhcp": {"host_dir": "/x"}}, "dhcp.host_dir is not a setting; did you mean hosts_dir?"),
        ({"arming_ttl": 5}, "arming_ttl"),
        ({"kickstart_clients": ["10.0.0.1/8"]}, "kickstart_clients must be IPv4 networks"),
        ({"listen": {"port": 99999}}, "listen.port"),
        ({"adress": "x"}, "adress is not a setting; did you mean address?"),
        ({"schema": 2}, "schema is 2, this version of the collection reads 1"),
    ],
)
def test_mistakes_are_named(change, text):
    with pytest.raises(ConfigError, match=".") as caught:
        ServerConfig.from_json({**MINIMAL, **change})
    assert text in str(caught.value)


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError) as caught:
        ServerConfig.from_json({"schema": 1, "http_port": -1, "dhcp": {"mode": "x"}, "foo": 1})
    for word in ("address", "http_port", "dhcp.mode", "foo"):
        assert word in str(caught.value)


def test_loading(tmp_path):
    path = tmp_path / "server.json"
    with pytest.raises(ConfigError, match="does not exist: run the role pxe_server"):
        load(str(path))
    path.write_text("{")
    with pytest.raises(ConfigError, match="server.json is not JSON"):
        load(str(path))
    path.write_text("[]")
    with pytest.raises(ConfigError, match="server.json: the settings must be one JSON object"):
        load(str(path))
    path.write_text(json.dumps(MINIMAL))
    assert load(str(path)).address == "192.168.77.10"
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path))


def test_a_depot_has_a_url_of_its_own():
    assert default_config("192.0.2.1").depot_url("nic-drivers") == "http://192.0.2.1/depots/nic-drivers/"
