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
def run_module(authority: Authority) -> Run:
    """Run a module in a process of its own, as Ansible does, and return what it returned."""

    def run(name: str, *, check: bool = False, env: t.Optional[dict[str, str]] = None, **params: t.Any) -> t.Any:
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


@pytest.fixture(scope="session", autouse=True)
def _openssl_is_there() -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
