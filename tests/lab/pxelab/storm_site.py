# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PXE server for ``storm``: the real dnsmasq, nginx and pbconnect with the role's own settings, in a namespace.

Not the lab's server, which is a machine with systemd: this one is there in seconds, takes nothing that belongs to the
lab, and leaves nothing behind. Its namespaces have no names, so they are gone with the processes in them, however these
end; its files are below one folder.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import medium, paths
from .errors import LabError
from .procs import run

ROLE = paths.ROOT / "roles/pxe_server"
IMAGE = "esxi-8.0.3"
ADDRESS = "10.77.0.10"
SUBNET = "10.77.0.0/16"
PREFIX_LENGTH = 16
FIRMWARE = ("bios", "uefi", "ipxe", "uefi-http")
TOOLS = ("ip", "nsenter", "unshare", "setpriv", "prlimit", "dnsmasq", "nginx", "openssl")
_START_SECONDS = 20.0


def missing() -> str:
    """What keeps a storm from being tried here; empty: nothing."""
    if os.geteuid() != 0:
        return "a storm makes network namespaces: run it as root"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def open_files() -> int:
    """What the role's systemd units allow, or as much of it as a container does."""
    return min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def role_default(name: str) -> Any:
    """The value of a variable of the role pxe_server."""
    return yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))[name]


def give_buffers(pid: int, size: int) -> None:
    """Give the UDP sockets of a process the receive buffers that net.core.rmem_default would have given them.

    That setting is the whole machine's. What a storm does stays in its namespaces, so it does this instead.
    """
    pidfd_getfd = 438  # the same number on all architectures
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not os.readlink(entry).startswith("socket:"):
                continue
            number = libc.syscall(pidfd_getfd, process, int(entry.name), 0)
            if number < 0:
                raise LabError(f"a socket of process {pid} cannot be looked at: {os.strerror(ctypes.get_errno())}")
            with socket.socket(fileno=number) as one:
                if one.type == socket.SOCK_DGRAM and one.family == socket.AF_INET:
                    # the kernel doubles what it is told here, and not what it takes from its settings
                    one.setsockopt(socket.SOL_SOCKET, 33, array.array("i", [size // 2]).tobytes())  # SO_RCVBUFFORCE
    finally:
        os.close(process)


def host(number: int) -> dict[str, Any]:
    """A definition as an administrator writes it."""
    address = f"10.77.{1 + number // 250}.{1 + number % 250}"
    network = (
        {"address": f"{address}/{PREFIX_LENGTH}"} if number % 2 else {"bootproto": "dhcp", "boot_address": address}
    )
    return {
        "name": f"esx{number:05}.storm.example",
        "macs": [f"00:50:56:{nic}{number >> 16:01x}:{number >> 8 & 255:02x}:{number & 255:02x}" for nic in "01"],
        "network": network,
        "image": IMAGE,
        "disk": {"first": ["local"]},
    }


def address_of(definition: dict[str, Any]) -> str:
    """The address that a host's DHCP reservation has."""
    network = definition["network"]
    return str(network.get("boot_address") or network["address"].split("/")[0])


class Namespace:
    """A network namespace without a name, held by a process that ends with this one."""

    def __init__(self) -> None:
        # Its parent's death reaches it even when the parent is killed. That is also the end of the namespace.
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        self.pid = self._holder.pid
        deadline = time.monotonic() + _START_SECONDS
        while os.readlink(f"/proc/{self.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            if time.monotonic() > deadline or self._holder.poll() is not None:
                raise LabError("no network namespace could be made here")
            time.sleep(0.01)
        self.ip("link set lo up")

    def enter(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        """A command line that runs in the namespace and ends with this process."""
        words = [os.fspath(word) for word in argv]
        return ["setpriv", "--pdeathsig", "KILL", "--", "nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *words]

    def ip(self, *lines: str) -> None:
        """ip(8) commands."""
        run(self.enter(["ip", "-batch", "-"]), text="\n".join(lines) + "\n")

    def close(self) -> None:
        """The end of it."""
        self._holder.kill()
        self._holder.wait()


@dataclass
class Usage:
    """What a server's processes have used: seconds of CPU, and MiB of memory at most."""

    cpu: float = 0.0
    memory: float = 0.0


@dataclass
class Server:
    """A server program and the processes that it is made of."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    pids: set[int] = field(default_factory=set)

    def usage(self) -> Usage:
        """Of all its processes together."""
        total = Usage()
        pids, known = [self.process.pid], []
        while pids:
            pid = pids.pop()
            known.append(pid)
            with contextlib.suppress(OSError):
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
        for pid in known:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                total.cpu += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                total.memory += int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
        return total


class Site:
    """The PXE server, the wire, and as many published and armed hosts as asked for."""

    def __init__(self, folder: Path, count: int, *, settings: dict[str, Any] | None = None, tuned: bool = True) -> None:
        self.folder = folder
        self.hosts = [host(number) for number in range(count)]
        self.boot, self.state = folder / "boot", folder / "state"
        self.servers: dict[str, Server] = {}
        self.seconds: dict[str, float] = {}
        self._settings = settings or {}
        self._tuned = tuned
        self._spaces: list[Namespace] = []
        # dnsmasq and nginx read below it as other users than root
        folder.chmod(0o755)

    def publish(self) -> None:
        """All hosts, by the collection's own modules and with the role's own templates. Raises ``LabError``."""
        for path in (
            *(self.boot / name for name in ("hosts", "http", "images", "ipxe", "pxelinux.cfg")),
            *(self.state / n for n in ("dhcp-hosts", "images", "status", "locks", "hosts", "kickstarts", "installs")),
            self.state / "events",
            self.folder / "conf.d",
        ):
            path.mkdir(parents=True, exist_ok=True)
        (self.boot / "pxelinux.0").write_bytes(b"pxelab stand-in of PXELINUX 3.86 2010-03-31\n".ljust(16384, b"\0"))
        medium.make_tree(self.folder / "medium")
        self._write("variables.json", self._variables())
        self._write("play.json", [self._play()])
        begun = time.monotonic()
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), self.folder / "play.json", "-e", self._extra()],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(paths.COLLECTIONS),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"the hosts could not be published:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        self.seconds["publish"] = time.monotonic() - begun

    def _write(self, name: str, value: object) -> None:
        (self.folder / name).write_text(json.dumps(value), encoding="utf-8")

    def _extra(self) -> str:
        return f"@{self.folder / 'variables.json'}"

    def _variables(self) -> dict[str, Any]:
        return {
            "ansible_python_interpreter": sys.executable,
            "pxe_server_interface": "eth0",
            "pxe_server_address": ADDRESS,
            "pxe_server_subnet": SUBNET,
            "pxe_server_boot_root": str(self.boot),
            "pxe_server_state_root": str(self.state),
            # as the user who runs the storm: there is no other on this machine
            "__pxe_server_user": "root",
            "storm_hosts": self.hosts,
            **self._settings,
        }

    def _play(self) -> dict[str, Any]:
        template = "ansible.builtin.template"
        config = str(self.folder / "server.json")
        family = "RedHat" if Path("/etc/redhat-release").exists() else "Debian"
        modules: list[tuple[str, dict[str, Any]]] = [
            ("esxi_image", {"name": IMAGE, "src": str(self.folder / "medium")}),
            ("esxi_kickstart", {"hosts": "{{ storm_hosts }}", "root_password": "Storm-secret-1"}),
            ("esxi_pxe_host", {"hosts": "{{ storm_hosts }}", "state": "published"}),
            ("esxi_pxe_host", {"hosts": "{{ storm_hosts }}", "state": "armed"}),
        ]
        settings = "{{ __pxe_server_config | combine({'dhcp': {'reload': []}}, recursive=true) }}"
        files = {
            "dnsmasq.conf.j2": self.folder / "dnsmasq.conf",
            "nginx.conf.j2": self.folder / "conf.d/esxi-pxe.conf",
            "boot.ipxe.j2": self.boot / "boot.ipxe",
        }
        return {
            "name": "A PXE server for a storm",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars_files": [str(ROLE / name) for name in ("defaults/main.yml", "vars/main.yml", f"vars/{family}.yml")],
            "tasks": [
                {"name": "Settings", "ansible.builtin.copy": {"content": settings, "dest": config, "mode": "0644"}},
                *(
                    {"name": src, template: {"src": str(ROLE / "templates" / src), "dest": str(dest), "mode": "0644"}}
                    for src, dest in files.items()
                ),
                *(
                    {"name": f"{name} {given.get('state', '')}", f"pxemanager.esxi.{name}": {**given, "config": config}}
                    for name, given in modules
                ),
            ],
        }

    def start(self) -> None:
        """The wire, the servers in their namespace, and the machines' addresses in another one."""
        self._spaces = [Namespace(), Namespace()]
        server, machines = self._spaces
        server.ip(f"link add eth0 type veth peer name eth0 netns {machines.pid}")
        server.ip("link set eth0 up", f"address add {ADDRESS}/{PREFIX_LENGTH} dev eth0")
        machines.ip(
            "link set eth0 up",
            *(f"address add {address_of(one)}/{PREFIX_LENGTH} dev eth0" for one in self.hosts),
        )
        limited = ["prlimit", f"--nofile={open_files()}"]
        log = self.folder / "dnsmasq.log"
        config = self.folder / "dnsmasq.conf"
        # a folder that systemd would make
        config.write_text(re.sub(r"(?m)^pid-file=.*", f"pid-file={self.folder}/dnsmasq.pid", config.read_text()))
        self._start("dnsmasq", [*limited, "dnsmasq", "-k", f"--conf-file={config}", f"--log-facility={log}"])
        # what systemd gives a service that does not ask for more, and what the role asks for
        files = open_files() if self._tuned else 1024
        self._start("nginx", ["prlimit", f"--nofile={files}", "nginx", "-c", self._nginx(), "-g", "daemon off;"])
        service: list[str | os.PathLike[str]] = [
            sys.executable,
            ROLE / "files/pbconnect.py",
            "--config",
            self.folder / "server.json",
        ]
        self._start("pbconnect", [*limited, *service])
        self._wait_for("dnsmasq", log, b"static leases only")
        if self._tuned:
            buffer = role_default("pxe_server_sysctl")["net.core.rmem_default"]
            give_buffers(self.servers["dnsmasq"].process.pid, buffer)
        self._wait_for("pbconnect", self.servers["pbconnect"].log, b"event=listening")
        deadline = time.monotonic() + _START_SECONDS
        while subprocess.run(
            server.enter(["curl", "-sf", "-o", "/dev/null", f"http://{ADDRESS}/healthz"]), check=False
        ).returncode:
            self._still_there("nginx", deadline)

    def _nginx(self) -> Path:
        """The distribution's own nginx.conf as the role leaves it, but for the places of its files."""
        text = Path("/etc/nginx/nginx.conf").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^\s*(pid|error_log|access_log|include /etc/nginx/(conf\.d|sites-enabled))\b.*$", "", text)
        here = f"access_log {self.folder}/access.log;\n    include {self.folder}/conf.d/*.conf;\n"
        if self._tuned:
            wanted = f"worker_connections {role_default('pxe_server_nginx_connections')};"
            text = re.sub(r"worker_connections\s+\d+;", wanted, text)
        text = text.rstrip()
        assert text.endswith("}"), "the end of the http block"
        path = self.folder / "nginx.conf"
        head = f"pid {self.folder}/nginx.pid;\nerror_log {self.folder}/nginx-error.log;\n"
        path.write_text(
            head + re.sub(r"(?m)^http\s*\{", f"http {{\n    {here}", text, count=1) + "\n", encoding="utf-8"
        )
        return path

    def _start(self, name: str, argv: Sequence[str | os.PathLike[str]]) -> None:
        log = self.folder / f"{name}.out"
        environment = {**os.environ, "PYTHONPATH": str(paths.COLLECTIONS), "PYTHONDONTWRITEBYTECODE": "1"}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self._spaces[0].enter(argv),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self.servers[name] = Server(name, process, log)

    def _still_there(self, name: str, deadline: float) -> None:
        server = self.servers[name]
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"{name} did not start: {server.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)

    def _wait_for(self, name: str, log: Path, said: bytes) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not log.exists() or said not in log.read_bytes():
            self._still_there(name, deadline)

    def machines(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        """A command line that runs where the machines are."""
        return self._spaces[1].enter(argv)

    def lost(self) -> int:
        """UDP packets that came to the PXE server so far and found its sockets' buffers full."""
        lines = Path(f"/proc/{self._spaces[0].pid}/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Udp:"))
        return int(values[names.index("RcvbufErrors")])

    def stages(self) -> dict[tuple[str, str], int]:
        """How many hosts the PXE server shows in each boot mode and stage: by link and by status file."""
        found: dict[tuple[str, str], int] = {}
        for one in self.hosts:
            mode = os.readlink(self.boot / "hosts" / one["name"] / "boot")
            status = json.loads((self.state / "status" / f"{one['name']}.json").read_bytes())
            found[mode, status["stage"]] = found.get((mode, status["stage"]), 0) + 1
        return found

    def complaints(self) -> list[str]:
        """What the servers' logs say went wrong, each kind of line once and how often."""
        kinds: dict[str, int] = {}
        for name in ("nginx-error.log", "pbconnect.out", "dnsmasq.log"):
            path = self.folder / name
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
                if re.search(
                    r"level=(warning|error)|\[(warn|error|crit|alert|emerg)\]|no more|failed|cannot|reduc", line
                ):
                    kind = re.sub(r"^\S+ \S+ ", "", line) if name == "nginx-error.log" else line
                    kind = re.sub(r"client: .*|[0-9a-f:.]{5,}|\d+", "#", kind)
                    kinds[f"{name}: {kind}"] = kinds.get(f"{name}: {kind}", 0) + 1
        return [f"{count} x {kind[:200]}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1])]

    def stop(self) -> None:
        """End all that was started. Nothing else has to be undone."""
        for server in self.servers.values():
            # the real ones end within a moment; nothing that they would still do is wanted
            server.process.terminate()
        for server in self.servers.values():
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        for space in self._spaces:
            space.close()
