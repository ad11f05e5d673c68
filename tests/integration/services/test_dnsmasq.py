# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reservations under a real dnsmasq: what machines are offered after hosts are published, moved and removed.

In two network namespaces of its own, joined by a cable.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import time
import uuid

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_release import send_releases
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition
from pxelab import dhcp, net

SERVER, CLIENT = (f"pxetest{os.getpid()}{side}" for side in "sc")


def missing():
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    for program in ("dnsmasq", "ip"):
        if shutil.which(program) is None:
            return f"needs {program}"
    probe = subprocess.run(["ip", "netns", "add", SERVER], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"no network namespaces here: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", SERVER], check=True)
    return None


REASON = missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

ONE, TWO = definition(1), definition(2)
NAME = ONE["name"]
MAC, MAC2 = ONE["macs"]

CONFIG = """\
port=0
interface=eth0
except-interface=lo
bind-dynamic
user=root
pid-file
no-hosts
no-resolv
no-ping
log-dhcp
log-facility={root}/dnsmasq.log
leasefile-ro
dhcp-ignore=tag:!known
dhcp-authoritative
dhcp-range=192.168.77.0,static,255.255.255.0,1h
dhcp-boot=pxelinux.0
dhcp-hostsdir={hosts_dir}
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module")
def cable():
    made = []
    try:
        for namespace in (SERVER, CLIENT):
            ip("netns", "add", namespace)
            made.append(namespace)
        ip("-n", SERVER, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", CLIENT)
        for namespace in (SERVER, CLIENT):
            ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", namespace, "link", "set", "eth0", "up")
        ip("-n", SERVER, "address", "add", "192.168.77.10/24", "dev", "eth0")
        yield
    finally:
        for namespace in made:
            ip("netns", "del", namespace)


class Dnsmasq(PxeServer):
    """A PXE server whose reservations a running dnsmasq reads."""

    def __init__(self, root):
        super().__init__(root)
        self.layout.reservations_dir.mkdir()
        config = root / "dnsmasq.conf"
        config.write_text(CONFIG.format(root=root, hosts_dir=self.layout.reservations_dir))
        self.process = subprocess.Popen(["ip", "netns", "exec", SERVER, "dnsmasq", "-k", "-C", str(config)])
        self.log = root / "dnsmasq.log"
        self.wait_for_log("DHCP, static leases only")

    def wait_for_log(self, text, times=1):
        deadline = time.monotonic() + 10
        while not self.log.exists() or self.log.read_text().count(text) < times:
            assert self.process.poll() is None, "dnsmasq has died:\n" + self.log.read_text()
            assert time.monotonic() < deadline, f"dnsmasq does not say {text!r}:\n" + self.log.read_text()
            time.sleep(0.01)

    def reload(self, argv):
        self.reloads += 1
        times = self.log.read_text().count("\n")
        self.process.send_signal(signal.SIGHUP)
        # It reads the files some milliseconds after the signal.
        deadline = time.monotonic() + 5
        while self.log.read_text().count("\n") == times and time.monotonic() < deadline:
            if self.process.poll() is not None:
                return "dnsmasq has died"
            time.sleep(0.01)
        time.sleep(0.1)
        return None

    def release(self, leases):
        super().release(leases)
        net.call_in(SERVER, functools.partial(send_releases, leases, self.config.address))

    def offered(self, mac, within=3.0, persona=dhcp.BIOS_PXE):
        """The address that a machine gets; None: nobody answers it."""

        def ask():
            return dhcp.Client("eth0", mac, uuid.UUID(int=1).bytes, persona, tries=1).acquire().address

        deadline = time.monotonic() + within
        while True:
            try:
                return net.call_in(CLIENT, ask)
            except dhcp.NoOffer:
                assert self.process.poll() is None, "dnsmasq has died:\n" + self.log.read_text()
                if time.monotonic() >= deadline:
                    return None

    def refused(self, mac):
        return self.offered(mac, within=0) is None

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def server(cable, tmp_path):
    server = Dnsmasq(tmp_path / "server")
    yield server
    server.stop()


def moved(address, macs=(MAC, MAC2), number=1):
    return definition(number, macs=list(macs), network={"address": f"{address}/24"})


def test_a_published_host_is_served_at_once_on_each_of_its_macs(server):
    assert server.refused(MAC)
    server.good("published", ONE, TWO)
    assert server.reloads == 0
    assert server.offered(MAC) == server.offered(MAC2) == "192.168.77.21"
    assert server.offered(MAC, persona=dhcp.UEFI_PXE) == server.offered(MAC, persona=dhcp.INSTALLER) == "192.168.77.21"
    assert server.offered(TWO["macs"][1]) == "192.168.77.22"
    assert server.refused("00:50:56:ff:ff:ff")


def test_a_changed_address_is_served_after_the_reload(server):
    server.good("published", ONE)
    assert server.offered(MAC) == "192.168.77.21"
    server.good("published", moved("192.168.77.99"))
    assert server.reloads == 1
    assert server.offered(MAC) == server.offered(MAC2) == "192.168.77.99"


def test_a_changed_mac_that_keeps_the_address_is_served_after_the_reload(server):
    """dnsmasq rejects such a change as a duplicate when it notices it by itself, and keeps the lease of the old MAC."""
    server.good("published", ONE)
    assert server.offered(MAC) == "192.168.77.21"
    new = "00:50:56:aa:01:77"
    server.good("published", moved("192.168.77.21", macs=(new,)))
    assert server.offered(new) == "192.168.77.21"
    assert server.refused(MAC)


def test_a_removed_host_is_no_longer_served(server):
    server.good("published", ONE, TWO)
    assert server.offered(MAC) == "192.168.77.21"
    server.good("absent", ONE)
    assert server.reloads == 1
    assert server.refused(MAC)
    assert server.offered(TWO["macs"][0]) == "192.168.77.22"


def test_a_new_host_gets_the_address_that_another_gave_up(server):
    server.good("published", ONE)
    assert server.offered(MAC) == "192.168.77.21"
    server.good("absent", ONE)
    server.good("published", moved("192.168.77.21", macs=TWO["macs"], number=2))
    assert server.offered(TWO["macs"][0]) == "192.168.77.21"


def test_two_hosts_exchange_their_addresses(server):
    server.good("published", ONE, TWO)
    assert (server.offered(MAC), server.offered(TWO["macs"][0])) == ("192.168.77.21", "192.168.77.22")
    server.good("published", moved("192.168.77.22"), moved("192.168.77.21", macs=TWO["macs"], number=2))
    assert (server.offered(MAC), server.offered(TWO["macs"][0])) == ("192.168.77.22", "192.168.77.21")


def test_dnsmasq_survives_many_reloads_while_hosts_are_served(server):
    server.good("published", ONE, TWO)
    for turn in range(5):
        assert server.offered(MAC) is not None
        assert server.offered(TWO["macs"][0]) is not None
        server.good("published", moved(f"192.168.77.{100 + turn}"))
    assert server.reloads == 5
    assert server.offered(MAC) == "192.168.77.104"


def test_a_reload_that_a_killed_call_owed_is_made_up_for(server):
    server.good("published", ONE)
    assert server.offered(MAC) == "192.168.77.21"

    def killed(argv):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.good("absent", ONE, reload=killed)
    assert server.offered(MAC) == "192.168.77.21", "dnsmasq has noticed by itself: then this shows nothing"
    server.good("absent", ONE)
    assert server.refused(MAC)


@pytest.mark.parametrize("short", ["ignore", "infinite", "12h", "3600"])
def test_names_that_mean_something_to_dnsmasq(server, short):
    server.good("published", definition(1, name=f"{short}.example.com"))
    assert server.offered(MAC) == "192.168.77.21"


def test_a_half_written_reservation_is_not_served(server):
    line = f"{MAC},192.168.77.21\n"
    (server.layout.reservations_dir / f".{NAME}.1-1.tmp").write_text(line)
    server.reload([])
    assert server.refused(MAC)
    # The same under a name of its own is: the test would see it.
    (server.layout.reservations_dir / "seen").write_text(line)
    assert server.offered(MAC) == "192.168.77.21"
