# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: an authority, vCenters and ESXi hosts that are real processes, and the modules as Ansible runs them."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair

pytest.importorskip("pyVmomi")

_DRIVER = """
import sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
import importlib
importlib.import_module("ansible_collections.pxemanager.esxi.plugins.modules." + sys.argv[1]).main()
"""

Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="session", autouse=True)
def _vcsim_is_there() -> None:
    try:
        stand_ins.vcsim_program()
    except subprocess.CalledProcessError:
        pytest.skip("no vcsim, and nothing to build it with (tests/lab/vcsim/build.sh says what is missing)")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    """The certificate of every vCenter of the tests."""
    return authority.server()


@pytest.fixture
def start(tmp_path: Path) -> t.Iterator[t.Callable[[t.ContextManager[t.Any]], t.Any]]:
    """Start a stand-in that ends with the test."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def vcsim(start: t.Callable[..., t.Any], server_pair: Pair, tmp_path: Path) -> stand_ins.Vcenter:
    """A vCenter that takes every host: two datacenters with two clusters each."""
    return t.cast(stand_ins.Vcenter, start(stand_ins.vcsim(server_pair, tmp_path / "vcsim.log")))


@pytest.fixture
def run_module(authority: Authority, tmp_path: Path) -> Run:
    """Run a module in a process of its own, as Ansible does, and return what it returned."""

    def run(name: str, *, check: bool = False, env: t.Optional[dict[str, str]] = None, **params: t.Any) -> t.Any:
        if name == "vcenter_add_host":
            # What fails on purpose here would be tried for two minutes.
            params.setdefault("retry_for", 0)
        if name == "esxi_root_password":
            params.setdefault("attempts_file", str(tmp_path / "attempts" / "attempts.json"))
        arguments = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp", **params}
        done = subprocess.run(
            [sys.executable, "-c", _DRIVER, name],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            env={**os.environ, "SSL_CERT_FILE": str(authority.pair.cert), **(env or {})},
            check=False,
        )
        assert done.stdout.startswith("\n{") or done.stdout.startswith("{"), done.stdout + done.stderr
        result = json.loads(done.stdout)
        result["output"] = done.stdout + done.stderr
        return result

    return run


@pytest.fixture
def listing(authority: Authority) -> t.Callable[[stand_ins.Vcenter], dict[str, tuple[str, str]]]:
    """What is in a vCenter, by a way that the collection does not use: name to parent's name and state of each host."""
    from pyVim import connect
    from pyVmomi import vim, vmodl

    def list_hosts(center: stand_ins.Vcenter) -> dict[str, tuple[str, str]]:
        context = ssl.create_default_context(cafile=str(authority.pair.cert))
        instance = connect.SmartConnect(
            host="127.0.0.1", port=center.port, user=stand_ins.USER, pwd=stand_ins.PASSWORD, sslContext=context
        )
        try:
            content = instance.RetrieveContent()
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
            query = vmodl.query.PropertyCollector
            what = query.FilterSpec(
                objectSet=[
                    query.ObjectSpec(
                        obj=view,
                        skip=True,
                        selectSet=[query.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)],
                    )
                ],
                propSet=[
                    query.PropertySpec(type=vim.HostSystem, pathSet=["name", "parent", "runtime.connectionState"])
                ],
            )
            hosts = {}
            for item in content.propertyCollector.RetrieveContents([what]):
                values = {prop.name: prop.val for prop in item.propSet}
                parent, above = values["parent"].name, values["parent"].parent.name
                where = above if parent == values["name"] else parent
                assert values["name"] not in hosts, "the same host twice"
                hosts[values["name"]] = (where, values["runtime.connectionState"])
            return hosts
        finally:
            connect.Disconnect(instance)

    return list_hosts


class Site:
    """A vCenter that looks at its hosts, and stand-in hosts whose names it knows."""

    PASSWORD = "Root-secret-7!"

    def __init__(
        self,
        start: t.Callable[..., t.Any],
        authority: Authority,
        server_pair: Pair,
        folder: Path,
        *more: str,
        **how: t.Any,
    ) -> None:
        self._start, self._authority, self._folder = start, authority, folder
        self._names = folder / "names"
        self._names.write_text("", encoding="utf-8")
        self.center: stand_ins.Vcenter = start(
            stand_ins.vcenter(server_pair, folder / "vcenter.log", self._names, *more, **how)
        )
        self._end: dict[str, ExitStack] = {}
        self.hosts: dict[str, stand_ins.EsxiHost] = {}
        # where hosts are that are not at 127.0.0.1
        self.addresses: dict[str, str] = {}

    def resolve(self, name: str, address: str = "127.0.0.1") -> None:
        """Let vCenter's DNS know a name."""
        with self._names.open("a", encoding="utf-8") as stream:
            stream.write(f"{address} {name}\n")

    def host(self, name: str, **changes: t.Any) -> dict[str, t.Any]:
        """Start a stand-in host of that name; its definition for the module, in cluster DC0_C1 of DC0."""
        self.boot(name)
        return self.definition(name, **changes)

    def definition(self, name: str, **changes: t.Any) -> dict[str, t.Any]:
        """What the module is told of a host that runs."""
        known = {
            "name": name,
            "address": self.addresses.get(name, "127.0.0.1"),
            "port": self.hosts[name].port,
            "password": self.PASSWORD,
            "certificate": self.hosts[name].pair.pem,
            "datacenter": "DC0",
            "cluster": "DC0_C1",
        }
        return {key: value for key, value in {**known, **changes}.items() if value is not None}

    def shut_down(self, name: str) -> None:
        """Switch a host off."""
        self._end.pop(name).close()

    def reinstall(self, name: str, password: str = PASSWORD) -> None:
        """Install a host anew: another certificate, and nothing known of any vCenter."""
        port = self.hosts[name].port
        self.shut_down(name)
        self.boot(name, port, f"again-{self.hosts[name].pair.cert.stem}", password)

    def boot(self, name: str, port: int = 0, folder: str = "first", password: str = PASSWORD) -> None:
        """Start a host, with a certificate of its own. ``folder``: where its state is; a new one has none."""
        address = self.addresses.get(name, "127.0.0.1")
        if folder == "first":
            self.resolve(name, address)
        stack = self._end[name] = ExitStack()
        self.hosts[name] = stack.enter_context(
            stand_ins.esxi_host(
                self._authority.esxi(), self._folder / name / folder, password, port=port, address=address
            )
        )

    def close(self) -> None:
        for stack in self._end.values():
            stack.close()


@pytest.fixture
def site(
    start: t.Callable[..., t.Any], authority: Authority, server_pair: Pair, tmp_path: Path
) -> t.Iterator[t.Callable[..., Site]]:
    """Make a site: options of vcsim, and ``gateway`` for those of what is in front of it."""
    made: list[Site] = []

    def make(*more: str, **how: t.Any) -> Site:
        folder = tmp_path / f"site{len(made)}"
        folder.mkdir()
        made.append(Site(start, authority, server_pair, folder, *more, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def in_vcenter(authority: Authority) -> t.Callable[..., t.Any]:
    """Do something in a vCenter as an administrator would."""

    def do(center: stand_ins.Vcenter, work: t.Callable[[t.Any], t.Any]) -> t.Any:
        from pyVim import connect

        context = ssl.create_default_context(cafile=str(authority.pair.cert))
        instance = connect.SmartConnect(
            host="127.0.0.1", port=center.port, user=stand_ins.USER, pwd=stand_ins.PASSWORD, sslContext=context
        )
        try:
            return work(instance.RetrieveContent())
        finally:
            connect.Disconnect(instance)

    return do


@pytest.fixture(scope="session", autouse=True)
def _openssl_is_there() -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
