# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pbconnect service as it runs on a PXE server: a process of its own, spoken to over HTTP, killed at any moment."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import grp
import http.client
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import parse_actions
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import (
    firstboot_script,
    post_script,
    pre_script,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, KICKSTART, Site
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_service import (
    ADDRESS,
    NOTIFY,
    SERVICE,
    Service,
    ask,
    library,
    tell,
)
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import WAYS, PxeServer, definition

NAME = "esx01.example.com"
MAC = "00:50:56:aa:bb:01"
FILE = "01-00-50-56-aa-bb-01.cfg"


def pythons() -> list[str]:
    """This Python, and the distribution's with the distribution's aiohttp if it is there: that is what really runs."""
    found = [sys.executable]
    system = "/usr/bin/python3"
    probe = [system, "-c", "import aiohttp"]
    if os.path.exists(system) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        found.append(system)
    return found


@pytest.fixture(params=pythons(), ids=lambda path: path.replace("/", "_"))
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def key(site: Site) -> str:
    key = site.arm(NAME, [MAC], [ADDRESS], now()).key
    assert key is not None
    return key


@pytest.fixture
def service(site: Site, key: str, python: str) -> t.Iterator[Service]:
    service = Service(site, python)
    try:
        yield service
    finally:
        assert service.stop() == 0
    text = "\n".join(service.lines)
    assert key not in text
    assert not re.search(r"~[A-Za-z0-9_-]{20}", text), "a token is in the log"
    assert "Traceback" not in text
    for line in service.lines:
        assert re.fullmatch(r"level=\w+ event=\w+( \w+=(\"([^\"\\]|\\.)*\"|[A-Za-z0-9_.:/+-]+))*", line), line


def fetch(service: Service, key: str) -> str:
    answer = ask(service.port, "GET", f"/ks/{key}/{FILE}")
    assert answer.status == 200
    return answer.body.decode().splitlines()[3][2:]


def test_a_host_installs_itself(site: Site, service: Service, key: str) -> None:
    answer = ask(service.port, "GET", f"/ks/{key}/{FILE}")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "Transfer-Encoding" not in answer.headers
    assert answer.headers.get_content_type() == "text/plain"
    assert answer.headers["Cache-Control"] == "no-store"
    assert b"http://127.0.0.1/pbconnect/v1/notify" in answer.body
    token = answer.body.decode().splitlines()[3][2:]
    assert site.mode(NAME) == "install"

    answer = tell(service.port, token, "installing", mac=MAC)
    assert (answer.status, answer.json) == (200, {"ok": True, "stage": "installing", "mode": "local"})
    assert site.mode(NAME) == "local"
    assert site.status(NAME).stage == "installing"
    assert ask(service.port, "GET", f"/ks/{key}/{FILE}").status == 404

    assert tell(service.port, token, "installed").status == 200
    assert tell(service.port, token, "installed").json == {"ok": True, "stage": "installed", "mode": "local"}
    assert tell(service.port, token, "installing").status == 409
    actions = [{"name": "ntp", "rc": 0, "seconds": 3, "ignored": False}]
    assert tell(service.port, token, "ready", actions=actions, certificate=CERTIFICATE).status == 200
    status = site.status(NAME)
    assert (status.stage, status.certificate, status.booted_mac) == ("ready", CERTIFICATE, MAC)
    service.wait_for(r"event=notified host=esx01.example.com said=installed .*duplicate=true")
    service.wait_for(r"event=refused asked=notify client=192.168.77.21 host=esx01.example.com status=409")


def test_requests_that_are_refused(site: Site, service: Service, key: str) -> None:
    token = fetch(service, key)
    before = site.snapshot()
    port = service.port
    good = json.dumps({"stage": "installing"}).encode()
    bearer = f"Bearer {token}"
    for expected, answer in {
        "no token": (401, ask(port, "POST", NOTIFY, good)),
        "another scheme": (401, ask(port, "POST", NOTIFY, good, Authorization=f"Basic {token}")),
        "no token at all": (401, ask(port, "POST", NOTIFY, good, Authorization="Bearer x")),
        "an unknown host's": (403, tell(port, token.replace("esx01", "esx09"), "installing")),
        "a wrong one": (403, tell(port, token[:-4] + "AAAA", "installing")),
        "another address": (403, tell(port, token, "installing", client="192.168.77.99")),
        "no address": (403, tell(port, token, "installing", client="")),
        "two words": (403, tell(port, token, "installing", client=f"{ADDRESS}, 1.2.3.4")),
        "not JSON": (400, ask(port, "POST", NOTIFY, b"{", Authorization=bearer)),
        "no stage": (400, tell(port, token, "armed")),
        "a bad certificate": (400, tell(port, token, "ready", certificate="x")),
        "too large": (413, tell(port, token, "installing", message="x" * 300_000)),
        "too large, in chunks": (413, ask(port, "POST", NOTIFY, iter([b"x" * 70_000] * 6), Authorization=bearer)),
        "GET": (405, ask(port, "GET", NOTIFY, Authorization=bearer)),
        "HEAD of a kickstart": (405, ask(port, "HEAD", f"/ks/{key}/{FILE}")),
        "a wrong key": (404, ask(port, "GET", f"/ks/{'0' * 32}/{FILE}")),
        "a kickstart for another address": (403, ask(port, "GET", f"/ks/{key}/{FILE}", client="192.168.77.99")),
        "no kickstart": (404, ask(port, "GET", f"/ks/{key}/..%2f..%2finstalls%2f{NAME}.json")),
        "elsewhere": (404, ask(port, "GET", f"/{key}/{token}")),
        "the root": (404, ask(port, "GET", "/")),
    }.items():
        status, got = answer
        assert got.status == status, expected
        assert token not in got.body.decode()
        assert key not in got.body.decode()
        if status != 405:
            assert got.json["ok"] is False
    assert site.snapshot() == before
    assert site.mode(NAME) == "install"
    assert tell(port, token, "installing").status == 200


def test_who_is_not_on_loopback_cannot_choose_an_address(tmp_path: pathlib.Path, python: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    site = Site(tmp_path / "site", listen={"host": "0.0.0.0", "port": 0})
    key = site.arm(NAME, [MAC], [ADDRESS], now()).key
    service = Service(site, python)
    try:
        path = f"/ks/{key}/{FILE}"
        assert ask(service.port, "GET", path, host=own, client=ADDRESS).status == 403
        assert ask(service.port, "GET", path, host="127.0.0.1", client=ADDRESS).status == 200
        assert ask(service.port, "GET", path, host="127.0.0.1", client=None).status == 403
    finally:
        service.stop()
    assert any(f"client={own}" in line for line in service.lines)


def test_the_last_x_real_ip_counts(service: Service, key: str) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 10) as raw:
        request = f"GET /ks/{key}/{FILE} HTTP/1.1\r\nHost: x\r\nX-Real-IP: {ADDRESS}\r\nX-Real-IP: 10.0.0.1\r\n\r\n"
        raw.sendall(request.encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 403")


def test_what_is_not_http_is_not_repeated_in_the_log(service: Service, key: str) -> None:
    token = fetch(service, key)
    for sent in (
        f"GET /ks/{key}/{FILE} NONSENSE {token}\r\n\r\n",
        f"{token} {key}\r\n\r\n",
        f"GET /ks/{key}/{FILE} HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {token}\r\n\r\n",
        f"POST {NOTIFY} HTTP/1.1\r\nHost: x\r\nContent-Length: {key}\r\n\r\n{token}",
        f"GET /ks/{key}/%zz%ff HTTP/1.1\r\nHost: {token}\r\n\r\n",
        "\x00" * 100,
        f"GET /{'x' * 20_000}{key} HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", service.port), 10) as raw:
            raw.sendall(sent.encode())
            with contextlib.suppress(OSError):
                assert not raw.recv(65536).startswith(b"HTTP/1.1 2")
    assert ask(service.port, "GET", "/healthz").status == 200


@pytest.mark.slow
def test_a_body_that_does_not_come_is_not_waited_for(service: Service, key: str) -> None:
    token = fetch(service, key)
    with socket.create_connection(("127.0.0.1", service.port), 30) as raw:
        raw.sendall(
            f"POST {NOTIFY} HTTP/1.1\r\nHost: x\r\nX-Real-IP: {ADDRESS}\r\nAuthorization: Bearer {token}\r\n"
            'Content-Length: 100\r\n\r\n{"stage"'.encode()
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")


def test_health(site: Site, service: Service) -> None:
    assert ask(service.port, "GET", "/healthz").json == {"ok": True}
    site.layout.trees_dir.rename(site.layout.boot_root / "away")
    assert ask(service.port, "GET", "/healthz").status == 503
    (site.layout.boot_root / "away").rename(site.layout.trees_dir)
    assert ask(service.port, "GET", "/healthz").status == 200


def test_a_disk_that_fails_is_said_and_not_acknowledged(site: Site, service: Service, key: str) -> None:
    token = fetch(service, key)
    site.layout.status(NAME).write_text("{")
    answer = tell(service.port, token, "installing")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    service.wait_for(r"level=error event=error asked=notify client=192.168.77.21 error=StoreError")


def test_an_arming_that_expired_while_the_service_was_down_ends_when_it_starts(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path / "site")
    site.arm(NAME, [MAC], [ADDRESS], now() - datetime.timedelta(hours=2), ttl=3600)
    service = Service(site)
    try:
        service.wait_for("event=expired host=esx01.example.com")
    finally:
        service.stop()
    assert (site.mode(NAME), site.status(NAME).stage) == ("local", "defined")


def test_systemd_is_told(tmp_path: pathlib.Path, site: Site) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        service = Service(site, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        assert service.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_sigterm_lets_work_under_way_finish(site: Site, python: str) -> None:
    names = [f"esx{number:02}.example.com" for number in range(20)]
    tokens = {}
    for number, name in enumerate(names):
        mac = f"00:50:56:00:00:{number:02x}"
        site.arm(name, [mac], [ADDRESS], now())
        tokens[name] = site.mint(name, mac, now())
    service = Service(site, python)

    def notify(name: str) -> bool:
        try:
            return tell(service.port, tokens[name], "installing").status == 200
        except (OSError, http.client.HTTPException):
            return False

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        acknowledged = pool.map(notify, names)
        time.sleep(0.03)
        begun = time.monotonic()
        assert service.stop() == 0
    assert time.monotonic() - begun < 10
    for name, ok in zip(names, acknowledged):
        assert site.mode(name) == ("local" if site.status(name).stage == "installing" else "install")
        assert not ok or site.status(name).stage == "installing"


@pytest.mark.parametrize("content", [None, "{", '{"schema": 9}', '{"schema": 1, "address": "x"}'])
def test_wrong_settings_are_one_line(site: Site, content: str | None) -> None:
    site.config_path.unlink()
    if content is not None:
        site.config_path.write_text(content)
    done = subprocess.run(
        [sys.executable, str(SERVICE), "--config", str(site.config_path)],
        env={"PYTHONPATH": str(library())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("level=error event=failed reason=")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_scripts_of_a_kickstart_are_understood(tmp_path: pathlib.Path, python: str) -> None:
    """What the collection puts into %pre, %post and %firstboot, run by a shell, against the service that it is for."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    site = Site(tmp_path / "site", http_port=port, listen={"host": "127.0.0.1", "port": port})
    site.publish(NAME, [MAC], now())
    wanted = [{"shell": "true", "name": "fine"}, {"shell": "exit 7", "name": "ignored", "ignore_errors": True}]
    actions = parse_actions(wanted, Fields({}, NAME, "", []))
    sections = {
        "pre": pre_script(MAC, 20, None),
        "post": post_script(MAC, 20, None, 60, False),
        "firstboot": firstboot_script(MAC, 20, actions),
    }
    marks = [f"#### {name}\n{text}" for name, text in sections.items()]
    site.layout.kickstart(NAME, MAC).write_text("\n".join(marks))
    key = site.arm(NAME, [MAC], ["127.0.0.1"], now()).key
    (tmp_path / "rui.crt").write_text(CERTIFICATE)
    service = Service(site, python)
    try:
        text = ask(port, "GET", f"/ks/{key}/{FILE}", client=None).body.decode()
        for name, stage in {"pre": "installing", "post": "installed", "firstboot": "ready"}.items():
            script = text.partition(f"#### {name}\n")[2].partition("\n####")[0]
            # Nothing of this machine is touched.
            for real, ours in {
                "/var/log": str(tmp_path),
                "/dev/console": str(tmp_path / "console"),
                "/etc/vmware/ssl": str(tmp_path),
                "/sbin/auto-backup.sh": str(tmp_path / "none"),
                "localcli": "true",
            }.items():
                script = script.replace(real, ours)
            done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            assert site.status(NAME).stage == stage, done.stdout + done.stderr
            assert site.mode(NAME) == "local"
    finally:
        service.stop()
    status = site.status(NAME)
    assert status.certificate == CERTIFICATE
    assert [(action.name, action.rc, action.ignored) for action in status.actions] == [
        ("fine", 0, False),
        ("ignored", 7, True),
    ]
    assert status.booted_mac == MAC


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the service runs as another user than the modules")
def test_what_the_modules_publish_is_what_the_service_flips(python: str) -> None:
    """Files that root wrote as esxi_pxe_host does, under the service's own user, which may do what its group may."""
    user = pwd.getpwnam("nobody")
    try:
        subprocess.run([python, "-c", ""], user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{python} is of no use to anyone but root")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        (root / "server").mkdir()
        server = PxeServer(
            root / "server",
            group=grp.getgrgid(user.pw_gid).gr_name,
            listen={"host": "127.0.0.1", "port": 0},
        )
        # As the role makes it; esxi_pxe_host sees to the others.
        server.layout.locks_dir.mkdir()
        os.chown(server.layout.locks_dir, 0, user.pw_gid)
        server.layout.locks_dir.chmod(0o2775)
        one = definition(1)
        server.write_kickstarts(one)
        kickstart = server.layout.kickstart(one["name"], one["macs"][0])
        kickstart.write_text(KICKSTART)
        os.chown(kickstart, 0, user.pw_gid)
        kickstart.chmod(0o640)
        server.now = now()
        server.good("armed", one)
        shutil.copytree(library(), root / "library")
        (root / "library").chmod(0o755)
        for name in ("pbconnect.py", "watch.py"):
            shutil.copy(SERVICE.parent / name, root / name)
        service = Service(server, python, script=root / "pbconnect.py", code=root / "library", user=user)
        try:
            client = server.install().addresses[0]
            file = f"01-{one['macs'][0].replace(':', '-')}.cfg"
            assert ask(service.port, "GET", "/healthz").status == 200
            answer = ask(service.port, "GET", f"/ks/{server.install().key}/{file}", client=client)
            assert answer.status == 200, service.lines
            token = answer.body.decode().splitlines()[2][2:]
            assert server.boots(one["macs"][0]) == "install"
            for stage in Machine.stages:
                assert tell(service.port, token, stage, client=client).status == 200, service.lines
                for way in WAYS:
                    assert server.boots(one["macs"][0], way) == "local"
        finally:
            service.stop()
        assert server.status().stage == "ready"
        # And the other way round: what the service wrote, the module goes on with.
        server.now = now()
        assert server.good("armed", one)["hosts"][one["name"]]["action"] == "left"
        result = server.good("armed", {**one, "reinstall": True})
        assert result["hosts"][one["name"]]["action"] == "armed"
        assert server.mode() == "install"
        assert stat.S_IMODE(server.layout.install(one["name"]).stat().st_mode) == 0o640


# -- kill -9


class Machine:
    """A host that installs itself: reports its stages one after the other and tries again until it is heard."""

    stages = ("installing", "installed", "ready")

    def __init__(self, site: Site, name: str, mac: str) -> None:
        self.name = name
        self._mac = mac
        install = site.arm(name, [mac], [ADDRESS], now())
        self.install = install.install
        self._token = site.mint(name, mac, now())
        self.acknowledged: list[str] = []

    def run(self, port: t.Callable[[], int], stop: threading.Event) -> None:
        for stage in self.stages:
            while not stop.is_set():
                try:
                    answer = tell(port(), self._token, stage, mac=self._mac)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                assert answer.status in (200, 503), (answer.status, answer.body)
                if answer.status == 200:
                    self.acknowledged.append(stage)
                    break


def check_disk(site: Site, machines: t.Sequence[Machine]) -> None:
    """What has to be true of the files at every moment, whoever was killed."""
    for machine in machines:
        # Before the files: what is acknowledged while they are read may be missing from them.
        acknowledged = list(machine.acknowledged)
        mode = site.mode(machine.name)
        status = site.status(machine.name)
        assert status.install == machine.install
        assert site.install(machine.name).install == machine.install
        if acknowledged:
            assert STAGES.index(status.stage) >= STAGES.index(acknowledged[-1])  # type: ignore[arg-type]
            assert set(acknowledged) <= set(status.stages)
            assert mode == status.mode == "local"
        assert mode in ("install", "local")
        # The link is never behind the status: that would be a loop.
        assert mode == "local" or status.mode == "install"
        assert (status.mode == "install") == (status.stage == "armed")


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path / "site")
    moments = random.Random(7)
    current: list[Service] = []
    kills = mid_install = 0
    for round_number in range(20):
        machines = [
            Machine(site, f"esx{number:02}.example.com", f"00:50:56:00:{round_number:02x}:{number:02x}")
            for number in range(12)
        ]
        stop = threading.Event()
        current.append(Service(site))
        with concurrent.futures.ThreadPoolExecutor(len(machines)) as pool:
            running = [pool.submit(machine.run, lambda: current[-1].port, stop) for machine in machines]
            try:
                while not all(future.done() for future in running):
                    time.sleep(moments.uniform(0, 0.12))
                    current[-1].kill()
                    kills += 1
                    check_disk(site, machines)
                    mid_install += any(0 < len(machine.acknowledged) < 3 for machine in machines)
                    current.append(Service(site))
                for future in running:
                    future.result()
            finally:
                stop.set()
                current[-1].kill()
        check_disk(site, machines)
        assert all(machine.acknowledged == list(Machine.stages) for machine in machines)
        assert all(site.status(machine.name).stage == "ready" for machine in machines)
    assert kills >= 20
    assert mid_install, "no kill came between two notifications: the test shows nothing"
    # No file but the known ones has been left, and every one of them is whole.
    for path in site.layout.state_root.rglob("*"):
        if path.is_file() and path.suffix == ".json":
            assert json.loads(path.read_bytes())["schema"] == 1
    for path in site.layout.status_dir.iterdir():
        if not path.name.startswith("."):
            Status.from_json(json.loads(path.read_bytes()))
    for service in current:
        assert not any("event=bug" in line or "Traceback" in line for line in service.lines)


def test_a_killed_service_starts_again_on_its_port(site: Site) -> None:
    """As systemd does it, while a connection to the first one is still open."""
    first = Service(site)
    document = json.loads(site.config_path.read_text())
    document["listen"]["port"] = first.port
    site.config_path.write_text(json.dumps(document))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", first.port)) as open_connection:
        open_connection.request("GET", "/healthz")
        assert open_connection.getresponse().read()
        os.kill(first.process.pid, signal.SIGKILL)
        first.kill()
        second = Service(site)
        assert second.port == first.port
        assert ask(second.port, "GET", "/healthz").status == 200
        assert second.stop() == 0
