# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: one bridge in a namespace of its own, and a namespace for each machine. No uplink.

::

    pxelab            br0 192.168.77.1 (controller), 192.168.77.2 (vCenter)
    pxelab-server     eth0 192.168.77.10
    pxelab-mNN        eth0, eth1 with the MACs of the machine; its firmware and installer set the addresses

A second site, where there is one, is routed: neither its PXE server nor its machines hear a broadcast of the other::

    pxelab-router     wan 192.168.77.254; lan 10.20.0.1 towards its PXE server; br0 10.20.1.1 towards its machines
    pxelab-server-b   eth0 10.20.0.10
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from .procs import run

T = TypeVar("T")

ROUTER = "pxelab-router"
WAN_ADDRESS = "192.168.77.254"
VCENTER_B_ADDRESS = "192.168.77.3"
SERVER_B = "pxelab-server-b"
SERVER_B_ADDRESS, SERVER_B_GATEWAY, SERVER_B_SUBNET = "10.20.0.10", "10.20.0.1", "10.20.0.0/24"
RELAYED_SUBNET, RELAYED_GATEWAY = "10.20.1.0/24", "10.20.1.1"

PREFIX = "pxelab"
CENTRE = "pxelab"
SERVER = "pxelab-server"
BRIDGE = "br0"
PREFIX_LENGTH = 24
SUBNET = "192.168.77.0/24"
CONTROLLER_ADDRESS = "192.168.77.1"
VCENTER_ADDRESS = "192.168.77.2"
SERVER_ADDRESS = "192.168.77.10"
SERVER_INTERFACE = "eth0"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def machine_namespace(number: int) -> str:
    """Namespace of the machine with this number."""
    return f"{PREFIX}-m{number:02d}"


def namespaces() -> list[str]:
    """Names of the lab's namespaces that exist."""
    lines = run(["ip", "netns", "list"]).stdout.splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    return [name for name in names if name == PREFIX or name.startswith(f"{PREFIX}-")]


def port(number: int, index: int) -> str:
    """The bridge's port for a NIC of a machine."""
    return f"m{number:02d}e{index}"


def _in(namespace: str, commands: Iterable[str]) -> None:
    """Run ip(8) commands in a namespace, all in one process: 50 machines are 150 of them."""
    run(["ip", "-n", namespace, "-batch", "-"], text="\n".join(commands) + "\n")


def _plug(namespace: str, interface: str, port: str, mac: str | None, centre: str | None = None) -> None:
    """A cable from an interface of a namespace to a port of the bridge of the site."""
    address = f" address {mac}" if mac else ""
    _in(
        centre or CENTRE,
        [
            f"link add name {port} type veth peer name {interface} netns {namespace}{address}",
            f"link set {port} master {BRIDGE} up",
        ],
    )
    _in(namespace, [f"link set {interface} up"])


def create_centre() -> None:
    """Namespace, bridge and the addresses of controller and vCenter."""
    run(["ip", "netns", "add", CENTRE])
    # a bridge that learns spanning tree first would swallow the firmware's first DHCP packets
    _in(
        CENTRE,
        [
            "link set lo up",
            f"link add name {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"link set {BRIDGE} up",
            f"address add {CONTROLLER_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
            f"address add {VCENTER_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
        ],
    )


def create_server() -> None:
    """Namespace of the PXE server, with its address."""
    run(["ip", "netns", "add", SERVER])
    _plug(SERVER, SERVER_INTERFACE, "server", None)
    _in(SERVER, ["link set lo up", f"address add {SERVER_ADDRESS}/{PREFIX_LENGTH} dev {SERVER_INTERFACE}"])


def create_second_site() -> None:
    """A router with a leg in the first site, and behind it a PXE server and a network for machines."""
    for namespace in (ROUTER, SERVER_B):
        run(["ip", "netns", "add", namespace])
        _in(namespace, ["link set lo up"])
    _in(
        ROUTER,
        [
            f"link add name {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"link set {BRIDGE} up",
            f"address add {RELAYED_GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}",
            f"link add name lan type veth peer name {SERVER_INTERFACE} netns {SERVER_B}",
            "link set lan up",
            f"address add {SERVER_B_GATEWAY}/{PREFIX_LENGTH} dev lan",
        ],
    )
    _plug(ROUTER, "wan", "router", None)
    _in(ROUTER, [f"address add {WAN_ADDRESS}/{PREFIX_LENGTH} dev wan"])
    _in(
        SERVER_B,
        [
            f"link set {SERVER_INTERFACE} up",
            f"address add {SERVER_B_ADDRESS}/{PREFIX_LENGTH} dev {SERVER_INTERFACE}",
            f"route add default via {SERVER_B_GATEWAY}",
        ],
    )
    _in(
        CENTRE,
        [
            f"route add {SERVER_B_SUBNET} via {WAN_ADDRESS}",
            f"route add {RELAYED_SUBNET} via {WAN_ADDRESS}",
            f"address add {VCENTER_B_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
        ],
    )
    call_in(ROUTER, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii"))


def create_machine(number: int, macs: Iterable[str], centre: str | None = None) -> None:
    """Namespace of a machine with a NIC for each MAC, without any address; ``centre`` is where its bridge is."""
    namespace = machine_namespace(number)
    run(["ip", "netns", "add", namespace])
    _in(namespace, ["link set lo up"])
    for index, mac in enumerate(macs):
        _plug(namespace, f"eth{index}", port(number, index), mac, centre)


def create_taps(number: int, macs: Iterable[str]) -> None:
    """Ports of the bridge that a virtual machine opens itself, one for each of its NICs."""
    lines = []
    for index, _mac in enumerate(macs):
        name = port(number, index)
        lines += [f"tuntap add dev {name} mode tap", f"link set {name} master {BRIDGE} up"]
    for line in lines:
        run(["ip", "-n", CENTRE, *line.split()])


def delete_all() -> None:
    """Remove every namespace of the lab; veths and bridge go with them."""
    for name in namespaces():
        run(["ip", "netns", "delete", name], check=False)


def enter(namespace: str) -> None:
    """Move the calling thread (not the process) into a namespace: its sockets and children are made there."""
    handle = os.open(Path("/run/netns") / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(handle, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {namespace}: {os.strerror(number)}")
    finally:
        os.close(handle)


def call_in(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a namespace, from a thread of its own, and return or raise what it does."""
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            enter(namespace)
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, name=f"in-{namespace}")
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    value: T = outcome["value"]
    return value
