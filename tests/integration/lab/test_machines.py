# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in machines against a real dnsmasq and a hand-written boot tree: what each firmware makes of it.

Nothing of the collection is used here: this is the proof that the machines behave as the references say, so that what
they report about the collection can be believed. Needs root, dnsmasq, busybox and the machine's network namespaces.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pxelab import lock, machine, medium, net, paths
from pxelab.firmware import Hardware
from pxelab.sandbox import static_busybox

BUSYBOX = static_busybox([Path("/bin/busybox"), Path("/usr/bin/busybox")])
PXELINUX = Path("/usr/lib/PXELINUX/pxelinux.0")
LDLINUX = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
SNPONLY = Path("/usr/lib/ipxe/snponly.efi")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(not shutil.which("dnsmasq"), reason="dnsmasq is not installed"),
    pytest.mark.skipif(BUSYBOX is None, reason="no static busybox"),
    pytest.mark.skipif(not PXELINUX.exists() or not LDLINUX.exists() or not SNPONLY.exists(), reason="no boot loaders"),
]

MAC = "00:50:56:aa:bb:01"
SECOND_MAC = "00:50:56:aa:bb:02"
DASHED = f"01-{MAC.replace(':', '-')}"
ADDRESS = "192.168.77.21"
BASE = f"http://{net.SERVER_ADDRESS}"

KICKSTART = f"""\
vmaccepteula
rootpw --iscrypted $6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.
install --disk=mpx.vmhba0:C0:T0:L0 --overwritevmfs
network --bootproto=static --device={MAC} --ip=192.168.77.31 --netmask=255.255.255.0 --hostname=esx01.example.com
reboot
%pre --interpreter=busybox
echo 'GET /notify/installing' | nc -w 3 {net.SERVER_ADDRESS} 80 > /dev/null || exit 1
%post --interpreter=busybox
wget -q -O /tmp/answer http://{net.SERVER_ADDRESS}/notify/installed
%firstboot --interpreter=busybox
esxcli system hostname set --fqdn=esx01.example.com
test -s /etc/vmware/ssl/rui.crt && wget -q -O /tmp/answer http://{net.SERVER_ADDRESS}/notify/ready
"""


class Site:
    """A PXE server by hand: dnsmasq for DHCP and TFTP, a small HTTP server, and the tree that both serve."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.requests: list[str] = []
        self.stages: list[str] = []
        self.notes: list[dict[str, Any]] = []
        self.on_notification: Callable[[str], None] = lambda stage: None
        self._machines: list[tuple[machine.Machine, threading.Thread]] = []
        medium.make_tree(self.tree / "images/esxi")
        shutil.copy(PXELINUX, self.tree)
        shutil.copy(LDLINUX, self.tree)
        shutil.copy(SNPONLY, self.tree)
        shutil.copy(self.tree / "images/esxi/efi/boot/bootx64.efi", self.tree / "mboot.efi")
        (self.tree / "http").mkdir()
        shutil.copy(self.tree / "mboot.efi", self.tree / "http/mboot.efi")
        self.write("ks.cfg", KICKSTART)
        self._dnsmasq = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{net.SERVER}", "--", "dnsmasq", "-k", "-C", self._config(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._http = net.call_in(net.SERVER, self._listen)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _config(self, folder: Path) -> str:
        config = folder / "dnsmasq.conf"
        config.write_text(
            f"""\
port=0
user=root
log-dhcp
log-facility={folder}/dnsmasq.log
interface=eth0
bind-interfaces
no-hosts
no-resolv
no-ping
dhcp-leasefile={folder}/leases
dhcp-range=192.168.77.0,static,255.255.255.0,1h
dhcp-host={MAC},{SECOND_MAC},{ADDRESS},esx01
enable-tftp
tftp-root={self.tree}
dhcp-no-override
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:http,option:client-arch,16
dhcp-userclass=set:ipxe,iPXE
dhcp-boot=tag:efi,tag:!ipxe,mboot.efi
dhcp-boot=tag:http,{BASE}/http/mboot.efi
dhcp-option-force=tag:http,60,HTTPClient
dhcp-boot=tag:ipxe,{BASE}/ipxe/01-${{net0/mac:hexhyp}}.ipxe
dhcp-boot=tag:!efi,tag:!http,tag:!ipxe,pxelinux.0
"""
        )
        return str(config)

    def _listen(self) -> http.server.ThreadingHTTPServer:
        site = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                if self.path.startswith("/notify/"):
                    stage = self.path.rpartition("/")[2]
                    site.stages.append(stage)
                    site.on_notification(stage)
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                super().do_GET()

            def do_POST(self) -> None:
                site.notes.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                site.on_notification(site.notes[-1]["stage"])
                answer = json.dumps({"ok": True}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def finish_request(self, request: object, client_address: object) -> None:
                Handler(request, client_address, self, directory=str(site.tree))  # type: ignore[arg-type]

        return Server((net.SERVER_ADDRESS, 80), Handler)

    def write(self, name: str, text: str) -> None:
        """Put a file into the tree, by rename as the collection does."""
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text)
        fresh.rename(path)

    def arm(self) -> None:
        """Files that install, for every firmware."""
        modules = " --- ".join(medium.module_names(8))
        common = f"timeout=3\nkernel=b.b00\nkernelopt=runweasel ks={BASE}/ks.cfg\nmodules={modules}\n"
        self.write(f"{DASHED}/boot.cfg", f"title=x\nprefix=/images/esxi/\n{common}")
        self.write(f"http/{DASHED}/boot.cfg", f"title=x\nprefix={BASE}/images/esxi/\n{common}")
        entry = f"LABEL install\n KERNEL images/esxi/mboot.c32\n APPEND -c {DASHED}/boot.cfg\n IPAPPEND 2\n"
        self.write(f"pxelinux.cfg/{DASHED}", f"DEFAULT install\n{entry}")
        script = f"#!ipxe\nkernel {BASE}/http/mboot.efi -c {BASE}/http/{DASHED}/boot.cfg || exit 1\nboot || exit 1\n"
        self.write(f"ipxe/{DASHED}.ipxe", script)

    def disarm(self) -> None:
        """Files that boot the disk, for every firmware."""
        self.write(f"{DASHED}/boot.cfg", "skip=1\n")
        self.write(f"http/{DASHED}/boot.cfg", "skip=1\n")
        self.write(f"pxelinux.cfg/{DASHED}", "DEFAULT local\nLABEL local\n LOCALBOOT 0\n")
        self.write(f"ipxe/{DASHED}.ipxe", "#!ipxe\nexit 1\n")

    def machine(self, firmware: str, **more: object) -> machine.Machine:
        """A machine with power on."""
        uuid = bytes.fromhex("deadbeef" * 4)
        hardware = Hardware(f"m-{firmware}", 1, (MAC, SECOND_MAC), firmware, uuid, **more)  # type: ignore[arg-type]
        assert BUSYBOX is not None
        one = machine.Machine(hardware, busybox=BUSYBOX, python_tree=None, retry_seconds=0.3)
        thread = threading.Thread(target=one.run, daemon=True)
        thread.start()
        one.power("on")
        self._machines.append((one, thread))
        return one

    def close(self) -> None:
        """Everything off."""
        for one, _thread in self._machines:
            one.end()
        for _one, thread in self._machines:
            thread.join(10)
        self._http.shutdown()
        self._http.server_close()
        self._dnsmasq.terminate()
        self._dnsmasq.wait()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    held = lock.Lock()
    held.take()
    monkeypatch.setattr(paths, "MACHINES", tmp_path / "machines")
    monkeypatch.setattr(paths, "LOGS", tmp_path / "logs")
    # the host's own API is another test's business
    monkeypatch.setattr(machine, "start_api", lambda *_ignored: None)
    net.delete_all()
    try:
        net.create_centre()
        net.create_server()
        net.create_machine(1, [MAC, SECOND_MAC])
        one = Site(tmp_path)
        try:
            yield one
        finally:
            one.close()
    finally:
        net.delete_all()
        held.give_back()


def wait(condition: Callable[[], bool], one: machine.Machine, seconds: float = 30.0) -> None:
    """Until something holds; a machine that does not get there shows its console."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            console = (paths.LOGS / f"{one.hardware.name}.console.log").read_text()
            pytest.fail(f"still {one.state} ({one.reason})\n{console}")
        time.sleep(0.05)


@pytest.mark.parametrize("firmware", ["bios", "uefi", "ipxe", "uefi-http"])
def test_a_machine_installs_once_and_then_boots_its_disk(site: Site, firmware: str) -> None:
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine(firmware)
    wait(lambda: one.state == "running", one)
    assert site.stages == ["installing", "installed", "ready"]
    assert (one.counters["installs"], one.counters["loops"], one.counters["reboots"]) == (1, 0, 1)
    assert (
        "esxcli system hostname set --fqdn=esx01.example.com"
        in (one.disk.root / "var/log/stand-in-calls.log").read_text()
    )
    addresses = subprocess.run(
        ["ip", "-n", "pxelab-m01", "-4", "-br", "address"], capture_output=True, text=True, check=True
    ).stdout
    assert "192.168.77.31/24" in addresses and ADDRESS not in addresses

    # nothing but the disk after a power cycle, and %firstboot does not run again
    one.power("cycle")
    wait(lambda: one.counters["local_boots"] == 2 and one.state == "running", one)
    assert site.stages == ["installing", "installed", "ready"]
    assert one.counters["installs"] == 1


@pytest.mark.parametrize("firmware", ["bios", "uefi", "ipxe", "uefi-http"])
def test_a_machine_that_is_never_disarmed_counts_a_loop(site: Site, firmware: str) -> None:
    site.arm()
    one = site.machine(firmware)
    wait(lambda: one.counters["loops"] >= 1, one)
    assert one.counters["install_starts"] >= 2


@pytest.mark.parametrize("firmware", ["bios", "uefi", "ipxe", "uefi-http"])
def test_an_unarmed_machine_with_an_empty_disk_tries_the_network_again(site: Site, firmware: str) -> None:
    site.disarm()
    one = site.machine(firmware)
    wait(lambda: one.counters["boots"] >= 3, one)
    assert one.counters["install_starts"] == 0
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    wait(lambda: one.state == "running", one)


def test_the_second_nic_installs_as_well(site: Site) -> None:
    site.arm()
    second = f"01-{SECOND_MAC.replace(':', '-')}"
    (site.tree / second).symlink_to(DASHED)
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine("uefi", boot_nics=(1, 0))
    wait(lambda: one.state == "running", one)
    assert one.counters["loops"] == 0


def test_mboot_without_boot_cfg_hangs(site: Site) -> None:
    one = site.machine("uefi")
    wait(lambda: one.state == "hung", one)
    assert "no boot.cfg" in one.reason
    # only the power button helps
    site.disarm()
    time.sleep(0.5)
    assert one.state == "hung"
    one.power("cycle")
    wait(lambda: one.state == "no boot device", one)


def test_mboot_hangs_at_a_missing_module(site: Site) -> None:
    site.arm()
    (site.tree / "images/esxi/jumpstrt.gz").unlink()
    one = site.machine("uefi")
    wait(lambda: one.state == "hung", one)
    assert "jumpstrt.gz" in one.reason


def test_a_missing_boot_file_leaves_the_machine_to_its_disk(site: Site) -> None:
    (site.tree / "mboot.efi").unlink()
    one = site.machine("uefi")
    wait(lambda: one.counters["boots"] >= 2, one)
    assert one.counters["hangs"] == 0


def test_an_old_mboot_does_not_know_skip(site: Site) -> None:
    medium.make_tree(site.tree / "images/old", version="7.0.3")
    shutil.copy(site.tree / "images/old/efi/boot/bootx64.efi", site.tree / "mboot.efi")
    site.disarm()
    one = site.machine("uefi")
    wait(lambda: one.state == "hung", one)
    assert "kernel= must be set" in one.reason


def test_a_failing_pre_script_aborts_the_install(site: Site) -> None:
    site.arm()
    one = site.machine("uefi", cut_off=True)
    wait(lambda: one.state == "stopped", one, 60)
    assert "%pre" in one.reason
    assert site.stages == [] and one.disk.read() is None


def test_a_datastore_is_not_overwritten_unless_the_kickstart_says_so(site: Site) -> None:
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine("bios")
    wait(lambda: one.state == "running", one)
    site.write("ks.cfg", KICKSTART.replace(" --overwritevmfs", ""))
    site.arm()
    one.power("cycle")
    wait(lambda: one.state == "stopped", one)
    assert "VMFS" in one.reason
    assert one.counters["loops"] == 0


UPGRADE = re.sub(r"(?m)^(rootpw|network) .*\n", "", KICKSTART).replace(
    "install --disk=mpx.vmhba0:C0:T0:L0 --overwritevmfs", "upgrade --disk=mpx.vmhba0:C0:T0:L0"
)


def test_an_upgrade_keeps_what_the_host_has(site: Site) -> None:
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine("uefi")
    wait(lambda: one.state == "running", one)
    before, certificate = one.disk.read(), (one.disk.root / "etc/vmware/ssl/rui.crt").read_bytes()
    medium.make_tree(site.tree / "images/esxi", version="9.0.0")
    site.write("ks.cfg", UPGRADE)
    site.arm()
    one.power("cycle")
    wait(lambda: one.counters["installs"] == 2 and one.state == "running", one)
    after = one.disk.read()
    assert before is not None and after is not None
    assert (before.version, after.version, after.upgrades) == ("8.0.3", "9.0.0", 1)
    kept = ("host_name", "network", "password_hash", "vmfs", "datastore")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (one.disk.root / "etc/vmware/ssl/rui.crt").read_bytes() == certificate
    assert (one.disk.root / "etc/stand-in-version").read_text() == "9.0.0\n"
    # its first boot ran again
    assert site.stages == ["installing", "installed", "ready"] * 2
    assert one.counters["loops"] == 0


def test_an_upgrade_of_an_empty_disk_fails(site: Site) -> None:
    site.write("ks.cfg", UPGRADE)
    site.arm()
    site.on_notification = lambda stage: site.disarm() if stage == "installing" else None
    one = site.machine("bios")
    wait(lambda: one.state == "stopped", one)
    assert "no versions of ESXi were found on disk: mpx.vmhba0:C0:T0:L0" in one.reason
    assert one.disk.read() is None


def test_power_off_and_on(site: Site) -> None:
    site.disarm()
    one = site.machine("uefi")
    wait(lambda: one.state == "no boot device", one)
    one.power("off")
    wait(lambda: one.state == "off", one)
    boots = one.counters["boots"]
    time.sleep(0.6)
    assert one.counters["boots"] == boots
    one.power("on")
    wait(lambda: one.counters["boots"] > boots, one)


def test_a_dead_machine_never_boots(site: Site) -> None:
    one = site.machine("uefi", dead=True)
    time.sleep(0.3)
    assert one.state == "off" and one.counters["boots"] == 0
