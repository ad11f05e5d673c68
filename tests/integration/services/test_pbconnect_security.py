# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody on the provisioning network gets who is no host, or was one: nothing, and nothing changes."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time
import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.pbconnect_service import (
    ADDRESS,
    NOTIFY,
    ROOT,
    Service,
    ask,
    tell,
)
from pxelab import rootfs

NAME = "esx01.example.com"
MAC = "00:50:56:aa:bb:01"


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def service(site: Site) -> t.Iterator[Service]:
    service = Service(site)
    yield service
    assert service.stop() == 0


# -- tokens, as a person would try them


def curl(port: int, token: str, stage: str) -> tuple[int, str]:
    """What curl(1) gets; the token is handed over in a file, so that it is in no list of processes."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--config", "-", f"http://127.0.0.1:{port}{NOTIFY}"],
        input="\n".join(
            [
                f'header = "Authorization: Bearer {token}"',
                f'header = "X-Real-IP: {ADDRESS}"',
                f"data = {json.dumps(json.dumps({'stage': stage}))}",
                'write-out = "\\n%{http_code}"',
            ]
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    text, _newline, status = done.stdout.rpartition("\n")
    return int(status), text


def test_wrong_old_and_replayed_tokens_change_nothing(site: Site, service: Service) -> None:
    site.arm(NAME, [MAC], [ADDRESS], now())
    old = site.mint(NAME, MAC, now())
    assert curl(service.port, old, "installing")[0] == 200
    assert curl(service.port, old, "ready")[0] == 200

    # It is installed again, by name: the token of the last time is worth nothing now.
    site.arm(NAME, [MAC], [ADDRESS], now() + datetime.timedelta(seconds=1))
    token = site.mint(NAME, MAC, now())
    armed = site.snapshot()
    for kind, given, stage, status in (
        ("old", old, "installing", 403),
        ("old, for a later stage", old, "ready", 403),
        ("wrong in one place", token[:-1] + ("A" if token[-1] != "A" else "B"), "installing", 403),
        ("of a host that nobody knows", token.replace("esx01", "esx02"), "installing", 403),
        ("no token of ours", "A" * 43, "installing", 401),
        ("right, for a stage that no host reports", token, "armed", 400),
    ):
        assert curl(service.port, given, stage)[0] == status, kind
        assert site.snapshot() == armed, kind
    assert site.mode(NAME) == "install"

    assert curl(service.port, token, "installing")[0] == 200
    assert curl(service.port, token, "installed")[0] == 200
    installed = site.snapshot()
    # Replayed by somebody who has listened.
    assert curl(service.port, token, "installing") == (
        409,
        json.dumps({"ok": False, "error": f"{NAME} is at installed and cannot go back to installing"}),
    )
    assert site.snapshot() == installed
    status, text = curl(service.port, token, "installed")
    assert (status, json.loads(text)) == (200, {"ok": True, "stage": "installed", "mode": "local"})
    assert site.snapshot() == installed, "the same again is harmless, and no more than that"


def test_no_secret_is_kept_where_others_can_read_it(site: Site, service: Service) -> None:
    """Neither in the list of processes, nor in a file that is world-readable, nor as clear text at all."""
    key = site.arm(NAME, [MAC], [ADDRESS], now()).key
    assert key is not None
    token = ask(service.port, "GET", f"/ks/{key}/01-00-50-56-aa-bb-01.cfg").body.decode().splitlines()[3][2:]
    assert tell(service.port, token, "installing").status == 200
    process = pathlib.Path(f"/proc/{service.process.pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    for path in site.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert token.encode() not in content, path
            if path.stat().st_mode & 0o004:
                shown += content
    for secret in (key, token, token.partition("~")[2]):
        assert secret.encode() not in shown
        assert not any(secret in line for line in service.lines)


# -- who is refused again and again


def test_an_address_that_is_refused_again_and_again_is_not_heard_for_a_while(site: Site, service: Service) -> None:
    site.arm(NAME, [MAC], [ADDRESS], now())
    token = site.mint(NAME, MAC, now())
    other = "192.168.77.66"
    statuses = [tell(service.port, f"{NAME}~{'A' * 43}", "installing", client=other).status for _turn in range(120)]
    assert statuses[:50] == [403] * 50
    assert statuses[-1] == 429
    assert ask(service.port, "GET", "/ks/anything/01-x.cfg", client=other).headers["Retry-After"]
    lines = [line for line in service.lines if "event=refused" in line]
    assert len(lines) < 100, "each refusal is still written to the log"
    service.wait_for(f"event=throttled client={other}")
    # Whoever it was, the hosts do not suffer.
    assert tell(service.port, token, "installing").status == 200


# -- with nginx in front


def rendered(**changes: object) -> str:
    """The role's nginx configuration."""
    role = ROOT / "roles" / "pxe_server"
    variables = {
        **yaml.safe_load((role / "defaults/main.yml").read_text()),
        **yaml.safe_load((role / "vars/main.yml").read_text()),
        **changes,
    }
    trusted = {name: trust_as_template(value) if isinstance(value, str) else value for name, value in variables.items()}
    text = "#jinja2: trim_blocks:True\n" + (role / "templates/nginx.conf.j2").read_text()
    return str(Templar(loader=DataLoader(), variables=trusted).template(trust_as_template(text)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def nginx(site: Site, service: Service, tmp_path: pathlib.Path) -> t.Iterator[int]:
    """An nginx with the role's defaults; its port."""
    with running_nginx(site, service, tmp_path) as port:
        yield port


@contextlib.contextmanager
def running_nginx(site: Site, service: Service, tmp_path: pathlib.Path, **settings: object) -> t.Iterator[int]:
    """The nginx of the distribution that the lab's PXE server has, with the role's configuration; its port."""
    tree = rootfs.ensure()
    port = free_port()
    text = rendered(
        pxe_server_address="127.0.0.1",
        pxe_server_http_port=port,
        pxe_server_pbconnect_port=service.port,
        pxe_server_boot_root=str(site.layout.boot_root),
        **settings,
    )
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"user root;\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 8192;\npid {tmp_path}/nginx.pid;\n"
        f"error_log {tmp_path}/error.log;\nevents {{ worker_connections 4096; }}\n"
        f"http {{\naccess_log {tmp_path}/access.log;\ninclude {tmp_path}/site.conf;\n"
        + "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "}\n"
    )
    # Only the program and its libraries come from the tree: it runs on this machine, with the folders of the test.
    library = ":".join(str(path) for path in (*tree.glob("usr/lib/*-linux-gnu"), tree / "usr/lib"))
    process = subprocess.Popen(
        [str(tree / "usr/sbin/nginx"), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")],
        env={"LD_LIBRARY_PATH": library, "PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, process.stderr and process.stderr.read()
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def request(port: int, source: str, method: str, path: str, body: str = "", token: str = "") -> tuple[int, str]:
    """One request from an address of this machine's loopback network."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make the tree that nginx comes from")
def test_a_rack_that_boots_at_once_is_served_and_a_flood_is_not(
    site: Site, service: Service, nginx: int, tmp_path: pathlib.Path
) -> None:
    rack = {f"esx{number:03}.example.com": f"127.1.0.{number + 1}" for number in range(100)}
    keys = {
        name: site.arm(name, [f"00:50:56:00:01:{number:02x}"], [address], now()).key
        for number, (name, address) in enumerate(rack.items())
    }
    flooding = True

    def flood() -> list[int]:
        seen: list[int] = []
        while flooding or len(seen) < 300:
            seen.append(request(nginx, "127.66.0.1", "POST", NOTIFY, '{"stage": "ready"}', f"{NAME}~{'A' * 43}")[0])
            seen.append(request(nginx, "127.66.0.1", "GET", f"/ks/{'0' * 32}/01-00-50-56-00-01-00.cfg")[0])
        return seen

    def install(name: str) -> list[int]:
        number = list(rack).index(name)
        file = f"01-00-50-56-00-01-{number:02x}.cfg"
        status, text = request(nginx, rack[name], "GET", f"/ks/{keys[name]}/{file}")
        found = [status]
        for stage in ("installing", "installed", "ready"):
            body = json.dumps({"stage": stage})
            found.append(request(nginx, rack[name], "POST", NOTIFY, body, text.splitlines()[3][2:])[0])
        return found

    with concurrent.futures.ThreadPoolExecutor(34) as pool:
        attack = [pool.submit(flood) for _thread in range(2)]
        try:
            results = list(pool.map(install, rack))
        finally:
            flooding = False
        seen = [status for future in attack for status in future.result()]
    assert results == [[200] * 4] * len(rack)
    assert all(site.status(name).stage == "ready" for name in rack)
    assert set(seen) <= {401, 403, 404, 429}
    assert seen.count(429) > len(seen) // 2, "the flood got through"
    # A host that is armed is nobody else's business, and no key is in nginx's logs.
    name = "esx900.example.com"
    key = site.arm(name, [MAC], ["127.1.9.9"], now()).key
    assert request(nginx, "127.1.8.8", "GET", f"/ks/{key}/01-00-50-56-aa-bb-01.cfg")[0] == 403
    logs = (tmp_path / "access.log").read_text() + (tmp_path / "error.log").read_text()
    assert "POST" in logs
    assert not any(str(secret) in logs for secret in (key, *keys.values()))
    assert not re.search(r"~[A-Za-z0-9_-]{43}", logs)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make the tree that nginx comes from")
def test_readers_need_a_password_and_with_a_certificate_https(
    site: Site, service: Service, tmp_path: pathlib.Path
) -> None:
    key, certificate, readers = (tmp_path / name for name in ("nginx.key", "nginx.crt", "readers"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=pxe.example.com"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input="reader's password\n", check=True, capture_output=True, text=True
    ).stdout.strip()
    readers.write_text(f"reader:{hashed}\n")
    https = free_port()
    settings: dict[str, t.Any] = {
        "pxe_server_page_users": [{"name": "reader", "password_hash": hashed}],
        "__pxe_server_htpasswd": str(readers),
        "pxe_server_tls_certificate": str(certificate),
        "pxe_server_tls_key": str(key),
        "pxe_server_https_port": https,
    }
    context = ssl.create_default_context(cafile=str(certificate))

    def read(path: str, password: str | None = None, method: str = "GET") -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", https, timeout=60, context=context)
        try:
            basic = base64.b64encode(f"reader:{password}".encode()).decode()
            connection.request(method, path, None, {"Authorization": f"Basic {basic}"} if password else {})
            return connection.getresponse().status
        finally:
            connection.close()

    site.arm(NAME, [MAC], ["127.0.0.1"], now())
    with running_nginx(site, service, tmp_path, **settings) as port:
        for path in ("/watch/", f"/watch/hosts/{NAME}", "/metrics", "/api/v1/hosts"):
            assert read(path) == 401, path
            assert read(path, "a guess") == 401, path
            assert read(path, "reader's password") == 200, path
            # never over the wire as it is, once there is a better way
            assert request(port, "127.0.0.1", "GET", path)[0] == 404, path
        assert read("/watch/", "reader's password", "POST") == 403
        assert read("/boot.ipxe", "reader's password") == 404
        # a notification counts by its token, whichever way it comes
        assert read(NOTIFY, "reader's password", "POST") == 401
