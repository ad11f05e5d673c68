# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real DHCP servers beside dnsmasq: Kea with a PostgreSQL of its own, and ISC dhcpd, in network namespaces of a test.

Kea's configuration is what the role writes, and dhcpd's what docs/dhcp.md tells people to write.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.pxemanager.esxi.tests.support.pxe_role import Rendered

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUBNET, RELAYED = "192.168.77.0/24", "10.1.2.0/24"
PASSWORD = "with:a,colon#and$more"
TABLES = "/usr/share/kea/scripts/pgsql/dhcpdb_create.pgsql"


def missing(*programs: str) -> str | None:
    """Why tests with these programs cannot run here; None: they can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    lacking = [program for program in ("ip", *programs) if shutil.which(program) is None]
    if lacking:
        return f"needs {', '.join(lacking)}; tests/packages.txt lists the packages"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no network namespaces here: {probe.stderr.strip()}" if probe.returncode != 0 else None


def postgresql_programs() -> str | None:
    """The newest PostgreSQL's folder with initdb and pg_ctl; None: there is no PostgreSQL server here."""
    found = shutil.which("initdb")
    if found is not None:
        return os.path.dirname(os.path.realpath(found))
    # Debian keeps them out of the path, a folder for each version.
    folders = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    return os.path.dirname(max(folders, key=lambda path: int(path.split("/")[4]))) if folders else None


class PostgreSQL:
    """A cluster below a temporary folder, with an empty database of Kea's tables. No other program knows of it."""

    def __init__(self) -> None:
        programs = postgresql_programs()
        assert programs is not None
        self._pg_ctl = os.path.join(programs, "pg_ctl")
        # It does not run as root, and pytest's own folders are root's alone.
        self._user = next(name for name in ("postgres", "nobody") if _is_user(name))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pxe-pg-"))
        shutil.chown(self.folder, self._user)
        self.folder.chmod(0o711)
        data = self.folder / "data"
        self._run(os.path.join(programs, "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
        hba = data / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.port = _free_port()
        options = f"-p {self.port} -k {self.folder} -c fsync=off -c listen_addresses=127.0.0.1"
        self._run(self._pg_ctl, "-D", str(data), "-l", str(self.folder / "log"), "-o", options, "-w", "start")
        self.sql(f"CREATE ROLE kea LOGIN PASSWORD '{PASSWORD}'", user="postgres")
        self.sql("CREATE DATABASE kea OWNER kea", user="postgres")
        self.sql(pathlib.Path(TABLES).read_text(), database="kea")
        self.password_file = self.folder / "pgpass"
        escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        self.password_file.write_text(f"*:*:kea:kea:{escaped}\n")
        self.password_file.chmod(0o600)

    def _run(self, *argv: str) -> None:
        done = subprocess.run(
            ["runuser", "--user", self._user, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def sql(self, text: str, user: str = "kea", database: str = "postgres") -> list[str]:
        """Run statements; the lines that they print."""
        argv = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", f"--host={self.folder}", f"--port={self.port}"]
        done = subprocess.run(
            [*argv, f"--username={user}", database], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def rows(self) -> list[tuple[str, str, str]]:
        """What is reserved: MAC address, address, name."""
        lines = self.sql(
            "SELECT encode(dhcp_identifier, 'hex'), '0.0.0.0'::inet + ipv4_address, hostname FROM hosts ORDER BY 1",
            database="kea",
        )
        found = [line.split("|") for line in lines]
        return [(":".join(re.findall("..", mac)), address, name) for mac, address, name in found]

    def empty(self) -> None:
        """Take all reservations away."""
        self.sql("DELETE FROM hosts", database="kea")

    def settings(self, **changes: t.Any) -> dict[str, t.Any]:
        """The part of a PXE server's settings that says where the database is. By its socket, from any namespace."""
        database = {
            "host": str(self.folder),
            "port": self.port,
            "name": "kea",
            "user": "kea",
            "password_file": str(self.password_file),
            **changes,
        }
        return {"mode": "kea", "reload": [], "subnets": [SUBNET, RELAYED], "database": database}

    def pids(self) -> list[int]:
        """All processes of the cluster."""
        first = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        children = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            self._run(self._pg_ctl, "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A program in a network namespace, with its output in a file."""

    def __init__(self, namespace: str, argv: t.Sequence[str], log: pathlib.Path, **environment: str) -> None:
        self.log = log
        with log.open("a") as output:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
            )

    def wait_for(self, text: str, times: int = 1, within: float = 20) -> None:
        deadline = time.monotonic() + within
        while self.log.read_text().count(text) < times:
            assert self._process.poll() is None, "it has ended:\n" + self.log.read_text()
            assert time.monotonic() < deadline, f"it does not say {text!r}:\n" + self.log.read_text()
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the program itself: `ip netns exec` has become it."""
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def kea_config(postgresql: PostgreSQL, **changes: t.Any) -> str:
    """What the role writes, with the test's database. Keywords are variables of the role."""
    role = {
        "pxe_server_dhcp_mode": "kea",
        "pxe_server_gateway": "192.168.77.1",
        "pxe_server_kea_database": {
            "host": str(postgresql.folder),
            "port": postgresql.port,
            "name": "kea",
            "user": "kea",
        },
        "__pxe_server_kea_password": PASSWORD,
        **changes,
    }
    return Rendered(**role).file("kea-dhcp4.conf.j2")


class Kea(Process):
    """kea-dhcp4 with such a configuration."""

    def __init__(self, namespace: str, folder: pathlib.Path, config: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "kea-dhcp4.conf"
        path.write_text(config)
        super().__init__(
            namespace,
            ["kea-dhcp4", "-c", str(path)],
            folder / "kea.log",
            KEA_PIDFILE_DIR=str(folder),
            KEA_LOCKFILE_DIR="none",
        )
        self.wait_for("DHCP4_STARTED")


class Dhcpd:
    """ISC dhcpd, set up as docs/dhcp.md says."""

    def __init__(self, namespace: str, folder: pathlib.Path, include: pathlib.Path) -> None:
        self._namespace, self._folder = namespace, folder
        text = (ROOT / "docs/dhcp.md").read_text()
        found = re.search(r"^```dhcpd\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert found is not None
        config = found[1].replace("/etc/dhcp/esxi-pxe-hosts.conf", str(include))
        assert str(include) in config
        self._config = folder / "dhcpd.conf"
        self._config.write_text(config)
        (folder / "dhcpd.leases").write_text("")
        self._process: Process | None = None
        self._starts = 0
        self.restart()

    def restart(self) -> None:
        self.stop()
        self._starts += 1
        files = ["-lf", str(self._folder / "dhcpd.leases"), "-pf", str(self._folder / "dhcpd.pid")]
        argv = ["dhcpd", "-f", "-d", "-cf", str(self._config), *files, "eth0"]
        self._process = Process(self._namespace, argv, self._folder / "dhcpd.log")
        self._process.wait_for("Server starting service", self._starts)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def cable(*namespaces: str) -> t.Iterator[None]:
    """Network namespaces whose `eth0` are on one switch; the last one holds it, and is where the machines are."""
    made = []
    switch = namespaces[-1]
    try:
        for namespace in namespaces:
            ip("netns", "add", namespace)
            made.append(namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", switch, "link", "add", "eth0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        ip("-n", switch, "link", "set", "eth0", "up")
        for number, namespace in enumerate(namespaces[:-1]):
            port = f"port{number}"
            ip("-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
            ip("-n", switch, "link", "set", port, "master", "eth0", "up")
            ip("-n", namespace, "link", "set", "eth0", "up")
            ip("-n", namespace, "address", "add", f"192.168.77.{10 + number}/24", "dev", "eth0")
        yield
    finally:
        for namespace in made:
            ip("netns", "del", namespace)
