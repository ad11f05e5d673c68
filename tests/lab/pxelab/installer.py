# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in installer: what ESXi's own does with a kernel command line, a kickstart and a disk."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import dhcp, http, kickstart, medium, net, nic
from .disk import Disk, System
from .firmware import Hardware
from .kickstart import Kickstart, KickstartError, Section
from .loader import Console, Loaded
from .procs import run
from .sandbox import Sandbox, SandboxError
from .wire import Wire

INCLUDE_DEPTH = 5


class InstallFailed(Exception):
    """The installer shows this message and waits for somebody at the console."""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", version))


def options_of(command_line: str) -> dict[str, str]:
    """Kernel options by lower-case name; the last of a name wins."""
    options = {}
    for word in command_line.split():
        key, _equals, value = word.partition("=")
        options[key.lower()] = value
    return options


def make_certificate(root: Path, host_name: str) -> None:
    """A key and a self-signed certificate as ESXi makes them on its own: the name of the host, nothing else."""
    folder = root / "etc/vmware/ssl"
    # a new serial and key each time: a reinstalled host must be told apart from the one before
    run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-sha256",
            "-days",
            "3650",
            "-subj",
            f"/O=VMware ESXi stand-in/CN={host_name}",
            "-addext",
            f"subjectAltName=DNS:{host_name}",
            "-keyout",
            folder / "rui.key",
            "-out",
            folder / "rui.crt",
        ]
    )
    (folder / "rui.key").chmod(0o600)


@dataclass
class Installer:
    """One run of the installer on one machine."""

    hardware: Hardware
    disk: Disk
    ramdisk: Sandbox
    console: Console
    new_sandbox: Callable[[Path], Sandbox]
    began: Callable[[], None]
    wire: Wire

    def run(self, loaded: Loaded) -> bool:
        """Install; returns whether to reboot. Raises ``InstallFailed``."""
        self.console.say(f"installer: {loaded.title or 'started'}")
        if any(not data for data in loaded.files.values()):
            raise InstallFailed("a module is empty")
        options = options_of(loaded.command_line)
        if "runweasel" not in options:
            raise InstallFailed("the kernel was started without runweasel: no scripted install")
        if not options.get("ks"):
            raise InstallFailed("no ks= on the kernel command line: the installer waits at its welcome screen")
        mac = self._bring_up_network(options)
        text = self._fetch_kickstart(options["ks"])
        self.began()
        self.ramdisk.create(failing=self.hardware.failing_commands)
        try:
            ks = kickstart.parse(text)
            self._run_pre(ks)
            for name in ks.includes[:INCLUDE_DEPTH]:
                self._include(ks, name)
            for warning in ks.warnings:
                self.console.say(f"installer: warning: {warning}")
            kickstart.check(ks)
        except KickstartError as error:
            raise InstallFailed(str(error)) from error
        version = medium.kernel_version(loaded.files.get(loaded.kernel, b"")) or medium.DEFAULT_VERSION
        if ks.one("upgrade"):
            self._upgrade_disk(ks, version)
        else:
            self._write_disk(ks, mac, version)
        self._run_post(ks)
        if not ks.one("reboot"):
            raise InstallFailed("installed; press Enter to reboot (the kickstart has no reboot)")
        return True

    def _bring_up_network(self, options: dict[str, str]) -> str:
        wanted = options.get("netdevice") or options.get("ksdevice") or options.get("bootif", "")[3:].replace("-", ":")
        mac = wanted.lower().replace("-", ":")
        if mac not in self.hardware.macs:
            raise InstallFailed(f"no NIC {wanted or '(none named)'} in this machine")
        index = self.hardware.macs.index(mac)
        if options.get("vlanid", "0") not in ("", "0"):
            self.console.say(f"installer: VLAN {options['vlanid']} (the lab's wire has no VLANs: untagged)")
        self.wire.clear()
        if options.get("ip"):
            try:
                address = ipaddress.IPv4Interface(f"{options['ip']}/{options.get('netmask') or '255.255.255.0'}")
            except ValueError as error:
                raise InstallFailed(f"ip=: {error}") from error
            self.wire.set_address(index, str(address.ip), address.network.prefixlen, options.get("gateway"))
            return mac
        client = self.wire.dhcp_client(index, dhcp.INSTALLER, pause=self.console.pause)
        try:
            lease = client.acquire()
        except dhcp.NoOffer as error:
            raise InstallFailed(f"no network for the kickstart: {error}") from error
        finally:
            self.console.count("dhcp_requests", client.requests)
        self.wire.set_address(index, lease.address, lease.prefix_length, lease.gateway)
        self.console.say(f"installer: {lease.address} on {self.wire.interface(index)}")
        return mac

    def _fetch_kickstart(self, url: str) -> str:
        last = ""
        for attempt in range(4):
            self.console.count("http_requests")
            try:
                body = self.wire.fetch_kickstart(url, self.console.pause)
                self.console.say(f"installer: kickstart {url.rsplit('/', 1)[-1]}, {len(body)} bytes")
                return body.decode("utf-8", errors="replace")
            except http.HttpError as error:
                last = str(error)
                self.console.say(f"installer: {last}")
                if error.status is not None and error.status < 500:
                    break
                self.console.pause(2**attempt)
        raise InstallFailed(f"cannot read the kickstart: {last}")

    def _run_script(self, where: Sandbox, section: Section, host_name: str, timeout: float = 1800.0) -> int:
        self.console.say(f"{section.name} ({section.interpreter})")
        try:
            code = where.run(
                section.text,
                interpreter=section.interpreter,
                host_name=host_name,
                timeout=timeout,
                say=self.console.say,
                pause=self.console.pause,
            )
        except SandboxError as error:
            self.console.say(f"{section.name}: {error}")
            return 1
        self.console.say(f"{section.name}: exit code {code}")
        return code

    def _run_pre(self, ks: Kickstart) -> None:
        if self.hardware.cut_off:
            self.console.say("lab: from here on packets to the PXE server get lost")
            for index in range(len(self.hardware.macs)):
                nic.lose(f"eth{index}", net.SERVER_ADDRESS)
        for section in ks.scripts("%pre"):
            if self._run_script(self.ramdisk, section, "localhost") != 0:
                raise InstallFailed("a %pre script failed: the install is aborted")

    def _include(self, ks: Kickstart, name: str) -> None:
        path = (self.ramdisk.root / name.lstrip("/")).resolve()
        if not path.is_relative_to(self.ramdisk.root.resolve()) or not path.is_file():
            raise KickstartError(f"%include {name}: no such file")
        more = kickstart.parse(path.read_text(encoding="utf-8"))
        ks.commands += more.commands
        ks.sections += more.sections
        ks.warnings += more.warnings

    def _target(self, ks: Kickstart) -> str:
        install = ks.one("install", "installorupgrade", "upgrade")
        assert install is not None
        if "diskBootedFrom" in install.options:
            return self.hardware.disks[0]
        named = install.options.get("disk") or install.options.get("drive")
        if named is not None:
            disk = named.removeprefix("/vmfs/devices/disks/")
            if disk not in self.hardware.disks:
                raise InstallFailed(f"no disk {disk} in this machine (there is {', '.join(self.hardware.disks)})")
            return disk
        filters = (install.options.get("firstdisk") or "local").split(",")
        if not {"local", "usb", "remote", "esx"} & set(filters):
            raise InstallFailed(f"no disk fits --firstdisk={','.join(filters)}")
        return self.hardware.disks[0]

    def _upgrade_disk(self, ks: Kickstart, version: str) -> None:
        """A new system in the place of the old one, which keeps what is its own: see ``System`` and ``Sandbox``."""
        target = self._target(ks)
        system = self.disk.read()
        if system is None:
            raise InstallFailed(f"upgrade specified, but no versions of ESXi were found on disk: {target}")
        if _numbers(version) < _numbers(system.version):
            raise InstallFailed(f"{target} has ESXi {system.version}, which is newer than {version}")
        if ks.one("dryrun"):
            raise InstallFailed("dryrun: nothing was written")
        self.console.say(f"installer: upgrading {target} from {system.version} to {version}")
        # the old system boots until the new one is whole
        self.console.pause(float(self.hardware.options.get("install_seconds", "1")))
        system.version, system.upgrades = version, system.upgrades + 1
        system.firstboot = [{"interpreter": part.interpreter, "text": part.text} for part in ks.scripts("%firstboot")]
        root = self.new_sandbox(self.disk.root)
        root.put("etc/stand-in-version", f"{version}\n".encode())
        self.disk.write(system)

    def _write_disk(self, ks: Kickstart, mac: str, version: str) -> None:
        target = self._target(ks)
        install = ks.one("install", "installorupgrade")
        clearpart = ks.one("clearpart")
        assert install is not None
        keep = "preservevmfs" in install.options
        wiped = "overwritevmfs" in install.options or (clearpart is not None and "overwritevmfs" in clearpart.options)
        if self.disk.has_vmfs() and not keep and not wiped:
            raise InstallFailed(
                f"{target} has a VMFS datastore, and neither --overwritevmfs nor --preservevmfs is given"
            )
        if ks.one("dryrun"):
            raise InstallFailed("dryrun: nothing was written")
        network = ks.one("network")
        options = {key: value or "" for key, value in (network.options if network else {}).items()}
        device = options.get("device", "")
        if device and not device.startswith("vmnic") and nic.interface_of(self.hardware.macs, device) is None:
            raise InstallFailed(f"network --device={device}: no such NIC in this machine")
        if device.startswith("vmnic") and int(device[5:] or "0") >= len(self.hardware.macs):
            raise InstallFailed(f"network --device={device}: this machine has {len(self.hardware.macs)} NICs")
        host_name = options.get("hostname") or "localhost"
        rootpw = ks.one("rootpw")
        system = System(
            host_name=host_name,
            version=version,
            datastore=self.disk.datastore() if keep and self.disk.has_vmfs() else secrets.token_hex(8),
            mac=mac,
            network=options,
            password_hash=rootpw.words[0] if rootpw else "",
            vmfs="novmfsondisk" not in install.options or (keep and self.disk.has_vmfs()),
            firstboot=[{"interpreter": part.interpreter, "text": part.text} for part in ks.scripts("%firstboot")],
        )
        self.console.say(f"installer: writing {target}")
        self._put_system(system)

    def _put_system(self, system: System) -> None:
        self.disk.write(system)
        root = self.new_sandbox(self.disk.root)
        root.create(version=system.version, failing=self.hardware.failing_commands)
        servers = system.network.get("nameserver", "")
        root.put("etc/resolv.conf", "".join(f"nameserver {one}\n" for one in servers.split(",") if one).encode())
        make_certificate(root.root, system.host_name)
        self.console.pause(float(self.hardware.options.get("install_seconds", "1")))
        system.complete = True
        self.disk.write(system)

    def _run_post(self, ks: Kickstart) -> None:
        for section in ks.scripts("%post"):
            code = self._run_script(self.ramdisk, section, "localhost", float(section.options.get("timeout") or 1800))
            if code != 0 and section.options.get("ignorefailure", "false") != "true":
                self.console.say("installer: warning: %post failed")
