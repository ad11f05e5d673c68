# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's machines, and the inventory that an administrator would have written for them."""

from __future__ import annotations

import secrets
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import medium, net, paths, server, site, vcenter
from .firmware import Hardware
from .site import Site
from .vcenter import Center

DOMAIN = "lab.example"
IMAGE = f"esxi-{medium.DEFAULT_VERSION}"
ISO = f"/srv/iso/{IMAGE}.iso"
MOST_HOSTS = 50
#: Firmware of the machines in turn; with three hosts the first three are seen.
FIRMWARE = ("uefi", "bios", "ipxe", "uefi-http")


@dataclass(frozen=True)
class Planned:
    """A machine, and what the inventory says of the host on it (``variables`` are its host_vars)."""

    hardware: Hardware
    variables: dict[str, Any]
    address: str
    place: str
    site: Site = site.FIRST

    @property
    def name(self) -> str:
        """The host's name in the inventory; the machine is called the same."""
        return self.hardware.name


@dataclass
class Secrets:
    """Passwords of one run of the lab."""

    bootstrap: str = field(default_factory=lambda: f"Boot-{secrets.token_hex(8)}")
    root: str = field(default_factory=lambda: f"Root-{secrets.token_hex(8)}")
    vcenter: str = field(default_factory=lambda: f"Vc-{secrets.token_hex(8)}")
    vcenter_b: str = field(default_factory=lambda: f"Vc-{secrets.token_hex(8)}")

    def of(self, center: Center) -> str:
        """The password of a vCenter."""
        return self.vcenter if center == site.FIRST.center else self.vcenter_b


def plan(count: int, kinds: Sequence[str] = FIRMWARE) -> list[Planned]:
    """Machines 1 to ``count``, as different from one another as a real inventory is, with firmware of these kinds."""
    if not 1 <= count <= MOST_HOSTS:
        raise ValueError(f"the lab takes 1 to {MOST_HOSTS} hosts, not {count}")
    return [plan_one(number, kinds) for number in range(1, count + 1)]


def plan_one(number: int, kinds: Sequence[str] = FIRMWARE, at: Site = site.FIRST, **hardware: Any) -> Planned:
    """One machine and its host, at a site. ``hardware`` overrides attributes of the machine."""
    name = f"esx{number:02d}.{DOMAIN}"
    firmware = kinds[(number - 1) % len(kinds)]
    macs = [f"00:50:56:aa:{number:02x}:01"]
    if number % 2:
        macs.append(f"00:50:56:aa:{number:02x}:02")
    address = f"{at.network}{20 + number}"
    network: dict[str, Any] = {
        "address": f"{address}/{net.PREFIX_LENGTH}",
        "gateway": at.gateway,
        "nameservers": [net.CONTROLLER_ADDRESS],
    }
    if number % 5 == 3:
        # installed on a provisioning address, in service on another one
        network["boot_address"] = f"{at.network}{120 + number}"
    cluster = vcenter.CLUSTERS[(number - 1) % len(vcenter.CLUSTERS)]
    variables: dict[str, Any] = {
        # notations as people write them
        "esxi_host_macs": [mac.upper().replace(":", "-") if number % 3 == 0 else mac for mac in macs],
        "esxi_host_network": network,
        "esxi_host_firmware": {"bios": "bios", "ipxe": "auto"}.get(firmware, "uefi"),
        "esxi_host_post_actions": [
            {"name": "let us in", "ssh": "enabled"},
            {"ntp": {"servers": [net.CONTROLLER_ADDRESS]}},
            {"advanced": {"option": "/UserVars/SuppressShellWarning", "value": 1}},
            {"name": "note the rack", "shell": f"esxcli system welcomemsg set -m 'rack 7, slot {number}'"},
        ],
        "esxi_host_vcenter": {"hostname": at.center.address, "datacenter": vcenter.DATACENTER, "cluster": cluster},
    }
    if number != 2:
        # one host without
        variables["esxi_host_profile"] = {
            "name": vcenter.PROFILE,
            "answers": {"IpAddressPolicy.address": f"198.51.100.{20 + number}"},
        }
    if number == 1:
        # the one that the demo reinstalls: its datastore may go
        variables["esxi_host_disk"] = {"device": "mpx.vmhba0:C0:T0:L0", "existing_vmfs": "overwrite"}
    values: dict[str, Any] = {
        "name": name,
        "number": number,
        "macs": tuple(macs),
        "firmware": firmware,
        "uuid": uuid.uuid5(uuid.NAMESPACE_DNS, name).bytes,
        # some boot from their second NIC first: every MAC of a host must do
        "boot_nics": (1, 0) if number % 4 == 1 and number > 1 else tuple(range(len(macs))),
        "python": number % 2 == 1,
    }
    place = f"/{vcenter.DATACENTER}/host/{cluster}/{name}"
    return Planned(Hardware(**{**values, **hardware}), variables, address, place, at)


def _write(name: str, data: object) -> None:
    paths.write_text(paths.INVENTORY / name, "---\n" + yaml.safe_dump(data, sort_keys=False, width=120), 0o600)


def write(
    hosts: Iterable[Planned],
    passwords: Secrets,
    *,
    settings: dict[str, Any] | None = None,
    dhcp: str = "dnsmasq",
    server_settings: dict[str, Any] | None = None,
) -> Path:
    """Write the inventory folder for these hosts and return it.

    ``settings`` are further variables of all hosts, ``server_settings`` of the PXE server (``None`` as a value takes a
    variable away), ``dhcp`` is the PXE server's pxe_server_dhcp_mode.
    """
    shutil.rmtree(paths.INVENTORY, ignore_errors=True)
    planned = list(hosts)
    _write(
        "hosts.yml",
        {
            "pxe_servers": {"hosts": {server.NAME: None}},
            "esxi_hosts": {"hosts": {one.name: None for one in planned}},
        },
    )
    of_server = {
        "ansible_host": net.SERVER_ADDRESS,
        **_login(),
        "pxe_server_interface": net.SERVER_INTERFACE,
        "pxe_server_address": net.SERVER_ADDRESS,
        "pxe_server_subnet": net.SUBNET,
        "pxe_server_dhcp_mode": dhcp,
        "pxe_server_gateway": net.CONTROLLER_ADDRESS,
        "pxe_server_pxelinux_dir": server.PXELINUX_DIR,
        "pxe_server_images": [{"name": IMAGE, "src": ISO}],
    } | (server_settings or {})
    _write("group_vars/pxe_servers.yml", {key: value for key, value in of_server.items() if value is not None})
    of_hosts = {
        **_of_all_hosts(passwords),
        "esxi_host_vcenter_username": vcenter.USERNAME,
        "esxi_host_vcenter_password": passwords.vcenter,
    }
    _write("group_vars/esxi_hosts.yml", {**of_hosts, **(settings or {})})
    for one in planned:
        _write(f"host_vars/{one.name}.yml", one.variables)
    return paths.INVENTORY


def _login() -> dict[str, str]:
    return {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": " ".join(server.ssh_options()),
    }


def _of_all_hosts(passwords: Secrets) -> dict[str, Any]:
    return {
        "esxi_host_image": IMAGE,
        "esxi_host_disk": {"first": ["local"]},
        "esxi_host_bootstrap_password": passwords.bootstrap,
        "esxi_host_root_password": passwords.root,
        "esxi_host_power_tasks": str(_write_power_tasks()),
    }


def write_sites(hosts: Iterable[Planned], passwords: Secrets, iso: Path, settings: dict[str, Any]) -> Path:
    """The inventory of two sites: what all have, what each site has, and the hosts. The ISO lies on the controller."""
    shutil.rmtree(paths.INVENTORY, ignore_errors=True)
    planned = list(hosts)
    sites = (site.FIRST, site.SECOND)
    _write(
        "hosts.yml",
        {
            "pxe_servers": {"hosts": {one.box.name: None for one in sites}},
            "esxi_hosts": {
                "children": {
                    one.name: {"hosts": {host.name: None for host in planned if host.site == one}} for one in sites
                }
            },
        },
    )
    _write(
        "group_vars/pxe_servers.yml",
        {
            **_login(),
            "pxe_server_interface": net.SERVER_INTERFACE,
            "pxe_server_pxelinux_dir": server.PXELINUX_DIR,
            "pxe_server_images": [
                {"name": IMAGE, "src": str(iso), "from": "controller"},
                # nobody uses it: it must go nowhere
                {"name": "unused", "src": str(iso), "from": "controller"},
            ],
        },
    )
    _write(
        f"host_vars/{server.FIRST.name}.yml",
        {
            "ansible_host": server.FIRST.address,
            "pxe_server_site": "A",
            "pxe_server_address": server.FIRST.address,
            "pxe_server_subnet": net.SUBNET,
            "pxe_server_gateway": net.CONTROLLER_ADDRESS,
        },
    )
    _write(
        f"host_vars/{server.SECOND.name}.yml",
        {
            "ansible_host": server.SECOND.address,
            "pxe_server_site": "B",
            "pxe_server_address": server.SECOND.address,
            "pxe_server_subnet": net.SERVER_B_SUBNET,
            "pxe_server_gateway": net.SERVER_B_GATEWAY,
            "pxe_server_relayed_subnets": [{"subnet": net.RELAYED_SUBNET, "gateway": net.RELAYED_GATEWAY}],
            "pxe_server_push_rate": 4096,
        },
    )
    _write("group_vars/esxi_hosts.yml", {**_of_all_hosts(passwords), **settings})
    for one in sites:
        _write(
            f"group_vars/{one.name}.yml",
            {
                "esxi_host_pxe_server": one.box.name,
                "esxi_host_vcenter_username": one.center.username,
                "esxi_host_vcenter_password": passwords.of(one.center),
            },
        )
    for host in planned:
        _write(f"host_vars/{host.name}.yml", host.variables)
    return paths.INVENTORY


def _write_power_tasks() -> Path:
    """The power hook: in a data centre it would call the host's BMC, here it presses the machine's button."""
    path = paths.RUN / "power.yml"
    tasks = [
        {
            "name": "Press the power button of the machine",
            "ansible.builtin.command": {
                "argv": [sys.executable, "-m", "pxelab", "power", "netboot", "{{ inventory_hostname }}"],
            },
            "delegate_to": "localhost",
            "environment": {"PYTHONPATH": str(paths.ROOT / "tests/lab")},
            "changed_when": True,
        }
    ]
    paths.write_text(path, "---\n" + yaml.safe_dump(tasks, sort_keys=False))
    return path
