# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's vCenter: vcsim behind a gateway that looks at the hosts it is given, with a certificate of a lab CA."""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import net, paths, procs
from .errors import LabError

PROCESS = "vcenter"
USERNAME = "administrator@vsphere.local"
DATACENTER = "DC0"
CLUSTERS = ("DC0_C0", "DC0_C1")
CA = paths.TLS / "ca.crt"
NAMES = paths.RUN / "vcenter-hosts"
PROFILE = "Lab"
PROFILES = paths.RUN / "vcenter-profiles.json"
#: What the lab's host profile sets, and what it asks for each host.
_PROFILE = {
    "name": PROFILE,
    "settings": {"NTP servers": net.CONTROLLER_ADDRESS, "Syslog host": net.CONTROLLER_ADDRESS},
    "asks": [
        {
            "path": 'network.hostPortGroup["key-vim-profile-host-HostPortgroupProfile-vMotion"].ipConfig',
            "policy": "IpAddressPolicy",
            "parameter": "address",
            "summary": "IPv4 address of the VMkernel interface for vMotion",
            "valid": r"[0-9]+(\.[0-9]+){3}",
        }
    ],
}
_START_SECONDS = 30.0


def program() -> Path:
    """The simulator, built or found now (see tests/lab/vcsim/build.sh); raises ``LabError``."""
    out = paths.CACHE / "vcsim" / "vcsim"
    procs.run([paths.ROOT / "tests/lab/vcsim/build.sh", out], timeout=900)
    return out


def make_certificates() -> None:
    """A CA of the lab, and the vCenter's certificate: vcsim's own is refused as too weak, and checks stay on."""
    paths.TLS.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    procs.run(
        [
            "openssl",
            "req",
            "-x509",
            *key,
            "-days",
            "30",
            "-subj",
            "/CN=pxelab CA",
            "-keyout",
            paths.TLS / "ca.key",
            "-out",
            CA,
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]
    )
    procs.run(
        [
            "openssl",
            "req",
            "-new",
            *key,
            "-subj",
            "/CN=vcenter.lab.example",
            "-keyout",
            paths.TLS / "vcenter.key",
            "-out",
            paths.TLS / "vcenter.csr",
        ]
    )
    extensions = paths.TLS / "vcenter.ext"
    extensions.write_text(
        f"subjectAltName=IP:{net.VCENTER_ADDRESS},DNS:vcenter.lab.example\nbasicConstraints=CA:FALSE\n",
        encoding="ascii",
    )
    procs.run(
        [
            "openssl",
            "x509",
            "-req",
            "-days",
            "30",
            "-in",
            paths.TLS / "vcenter.csr",
            "-CA",
            CA,
            "-CAkey",
            paths.TLS / "ca.key",
            "-CAcreateserial",
            "-extfile",
            extensions,
            "-out",
            paths.TLS / "vcenter.crt",
        ]
    )


def start(vcsim: Path, password: str, addresses: dict[str, str]) -> None:
    """Start the vCenter and wait for it. ``addresses`` is what its DNS knows: the hosts' names and addresses."""
    make_certificates()
    paths.write_text(NAMES, "".join(f"{address} {name}\n" for name, address in addresses.items()))
    paths.write_text(PROFILES, json.dumps({"profiles": [_PROFILE]}, indent=2) + "\n")
    log = paths.LOGS / "vcenter.log"
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "pxelab.vcenter_api",
        "--listen",
        f"{net.VCENTER_ADDRESS}:443",
        "--cert",
        paths.TLS / "vcenter.crt",
        "--key",
        paths.TLS / "vcenter.key",
        "--vcsim",
        vcsim,
        "--hosts",
        NAMES,
        "--profiles",
        PROFILES,
        # "-host 0" alone makes vcsim panic: the other two must be 0 as well
        "--",
        "-dc",
        "1",
        "-cluster",
        str(len(CLUSTERS)),
        "-host",
        "0",
        "-standalone-host",
        "0",
        "-vm",
        "0",
        "-username",
        USERNAME,
        "-password",
        password,
    ]
    procs.start(PROCESS, argv, log=log, namespace=net.CENTRE)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            hosts(password)
            return
        except Exception as error:
            if not procs.is_alive(PROCESS) or time.monotonic() > deadline:
                raise LabError(f"the vCenter did not come up: {error}; see {log}") from error
        time.sleep(0.3)


def stop() -> None:
    """End the vCenter. Harmless when there is none."""
    procs.stop(PROCESS)


def hosts(password: str) -> dict[str, str]:
    """The hosts in the inventory: name and path, read by the lab itself over the vSphere API."""
    return net.call_in(net.CENTRE, lambda: _with_session(password, _read_hosts))


def compliance(password: str) -> dict[str, str]:
    """What vCenter says of each host that has a host profile: its name and ``compliant``, ``nonCompliant``, ..."""
    return net.call_in(net.CENTRE, lambda: _with_session(password, _read_compliance))


def _with_session(password: str, work: Callable[[Any], dict[str, str]]) -> dict[str, str]:
    from pyVim.connect import Disconnect, SmartConnect

    context = ssl.create_default_context(cafile=str(CA))
    session = SmartConnect(
        host=net.VCENTER_ADDRESS, user=USERNAME, pwd=password, sslContext=context, httpConnectionTimeout=20
    )
    try:
        return work(session.RetrieveContent())
    finally:
        Disconnect(session)


def _read_compliance(content: Any) -> dict[str, str]:
    from pyVmomi import vim

    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
    hosts = {host._moId: host for host in view.view}
    if not hosts:
        return {}
    results = content.complianceManager.QueryComplianceStatus(entity=list(hosts.values()))
    return {hosts[one.entity._moId].name: one.complianceStatus for one in results}


def _read_hosts(content: Any) -> dict[str, str]:
    from pyVmomi import vim, vmodl

    kinds = [vim.Folder, vim.Datacenter, vim.ComputeResource, vim.HostSystem]
    view = content.viewManager.CreateContainerView(content.rootFolder, kinds, True)
    # all at once: reading one unset property (the root's parent) makes vcsim panic
    collector = vmodl.query.PropertyCollector
    wanted = collector.FilterSpec(
        objectSet=[
            collector.ObjectSpec(
                obj=view,
                skip=True,
                selectSet=[collector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)],
            )
        ],
        propSet=[collector.PropertySpec(type=vim.ManagedEntity, pathSet=["name", "parent"])],
    )
    read = content.propertyCollector.RetrievePropertiesEx([wanted], collector.RetrieveOptions())
    entities: dict[Any, dict[str, Any]] = {}
    while read is not None:
        entities |= {one.obj: {value.name: value.val for value in one.propSet} for one in read.objects}
        read = content.propertyCollector.ContinueRetrievePropertiesEx(read.token) if read.token else None
    return {
        values["name"]: _path(entity, entities)
        for entity, values in entities.items()
        if isinstance(entity, vim.HostSystem)
    }


def _path(entity: Any, entities: dict[Any, dict[str, Any]]) -> str:
    names: list[str] = []
    while entity in entities:
        names.append(entities[entity]["name"])
        entity = entities[entity].get("parent")
    return "/" + "/".join(reversed(names))
