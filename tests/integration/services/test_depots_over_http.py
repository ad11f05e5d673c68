# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Depots as hosts fetch them: imported by the module's code, handed out by nginx with the role's configuration."""

from __future__ import annotations

import http.client
import pathlib
import shutil
import socket
import subprocess
import time
import typing as t
import zipfile

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import index_files, metadata_files
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer
from pxelab.depot import Package, make_bundle

ROLE = pathlib.Path(__file__).resolve().parents[3] / "roles/pxe_server"
PACKAGE = Package("net-example")

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")


def rendered(port: int, server: ImageServer) -> str:
    """The role's nginx configuration."""
    variables: dict[str, t.Any] = {}
    for name in ("defaults/main.yml", "vars/main.yml"):
        variables |= yaml.safe_load((ROLE / name).read_text())
    variables |= {
        "ansible_facts": {"default_ipv4": {}},
        "pxe_server_address": "127.0.0.1",
        "pxe_server_http_port": port,
        "pxe_server_boot_root": server.config.boot_root,
        "pxe_server_depot_root": server.config.depot_root,
    }
    trusted = {key: trust_as_template(value) if isinstance(value, str) else value for key, value in variables.items()}
    text = "#jinja2: trim_blocks:True\n" + (ROLE / "templates/nginx.conf.j2").read_text()
    return str(Templar(loader=DataLoader(), variables=trusted).template(trust_as_template(text)))


@pytest.fixture
def site(tmp_path: pathlib.Path) -> t.Iterator[tuple[ImageServer, int]]:
    server = ImageServer(tmp_path / "server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "site.conf").write_text(rendered(port, server))
    (tmp_path / "nginx.conf").write_text(
        f"user root;\ndaemon off;\npid {tmp_path}/pid;\nevents {{}}\n"
        f"http {{ access_log {tmp_path}/access.log; include {tmp_path}/site.conf; }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", f"{tmp_path}/nginx.conf", "-e", f"{tmp_path}/error.log"])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield server, port
    finally:
        process.terminate()
        process.wait(10)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Content-Length")
    finally:
        connection.close()


def test_esxcli_finds_its_way_through_a_depot(site: tuple[ImageServer, int], tmp_path: pathlib.Path) -> None:
    server, port = site
    bundle = make_bundle(tmp_path / "bundle.zip", [PACKAGE])
    depot = server.depots().present("drivers", str(bundle)).depot
    assert depot is not None

    def get(path: str) -> bytes:
        status, data, length = ask(port, f"/depots/drivers/{path}")
        assert (status, length) == (200, str(len(data)))
        return data

    (index,) = index_files(get("index.xml"))
    (metadata,) = metadata_files(get(index), index)
    (tmp_path / "metadata.zip").write_bytes(get(metadata))
    with zipfile.ZipFile(tmp_path / "metadata.zip") as archive:
        assert any(PACKAGE.file.encode() in archive.read(name) for name in archive.namelist())
    assert get(depot["vibs"][0]["file"])[:8] == b"!<arch>\n"
    assert get("drivers.zip") == bundle.read_bytes()


def test_nothing_else_is_handed_out_and_nothing_is_taken(site: tuple[ImageServer, int], tmp_path: pathlib.Path) -> None:
    server, port = site
    server.depots().present("drivers", str(make_bundle(tmp_path / "bundle.zip", [PACKAGE])))
    work = server.layout.depots_dir / ".importing.new"
    work.mkdir()
    (work / "index.xml").write_text("half")
    (server.root / "secret").write_text("secret")
    (server.root / "depots-of-others").mkdir()
    (server.root / "depots-of-others/x").write_text("secret")
    for path in (
        "/depots/",
        "/depots/drivers/",
        "/depots/.importing.new/index.xml",
        "/depots/../secret",
        "/depots/%2e%2e/secret",
        "/depots../secret",
        "/depots-of-others/x",
        "/depots/drivers/../../secret",
    ):
        status, data, _length = ask(port, path)
        assert status in (400, 403, 404), path
        assert b"secret" not in data
        assert b"half" not in data
    for method in ("PUT", "POST", "DELETE"):
        assert ask(port, "/depots/drivers/index.xml", method)[0] in (403, 405)
    assert not (server.layout.boot_root / "depots").exists(), "TFTP would have it"
