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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import net, paths, procs
from .errors import LabError

USERNAME = "administrator@vsphere.local"
DATACENTER = "DC0"
CLUSTERS = ("DC0_C0", "DC0_C1")
CA = paths.TLS / "ca.crt"
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


@dataclass(frozen=True)
class Center:
    """One vCenter: where it is, and who may log in."""

    name: str
    address: str
    username: str


FIRST = Center("vcenter", net.VCENTER_ADDRESS, USERNAME)
SECOND = Center("vcenter-b", net.VCENTER_B_ADDRESS, "installer@site-b.local")


def program() -> Path:
    """The simulator, built or found now (see tests/lab/vcsim/build.sh); raises ``LabError``."""
    out = paths.CACHE / "vcsim" / "vcsim"
    procs.run([paths.ROOT / "tests/lab/vcsim/build.sh", out], timeout=900)
    return out


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority() -> None:
    """A CA of the lab."""
    paths.TLS.mkdir(parents=True, exist_ok=True, mode=0o700)
    procs.run(
        [
            "openssl",
            "req",
            "-x509",
            *_KEY,
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


def make_certificate(center: Center) -> None:
    """The vCenter's certificate: vcsim's own is refused as too weak, and checks stay on."""
    procs.run(
        [
            "openssl",
            "req",
            "-new",
            *_KEY,
            "-subj",
            f"/CN={center.name}.lab.example",
            "-keyout",
            paths.TLS / f"{center.name}.key",
            "-out",
            paths.TLS / f"{center.name}.csr",
        ]
    )
    extensions = paths.TLS / f"{center.name}.ext"
    extensions.write_text(
        f"subjectAltName=IP:{center.address},DNS:{center.name}.lab.example\nbasicConstraints=CA:FALSE\n",
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
            paths.TLS / f"{center.name}.csr",
            "-CA",
            CA,
            "-CAkey",
            paths.TLS / "ca.key",
            "-CAcreateserial",
            "-extfile",
            extensions,
            "-out",
            paths.TLS / f"{center.name}.crt",
        ]
    )


def start(vcsim: Path, password: str, addresses: dict[str, str], center: Center = FIRST) -> None:
    """Start the vCenter and wait for it. ``addresses`` is what its DNS knows: the hosts' names and addresses."""
    if center == FIRST:
        make_authority()
    make_certificate(center)
    names = paths.RUN / f"{center.name}-hosts"
    paths.write_text(names, "".join(f"{address} {name}\n" for name, address in addresses.items()))
    paths.write_text(PROFILES, json.dumps({"profiles": [_PROFILE]}, indent=2) + "\n")
    log = paths.LOGS / f"{center.name}.log"
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "pxelab.vcenter_api",
        "--listen",
        f"{center.address}:443",
        "--cert",
        paths.TLS / f"{center.name}.crt",
        "--key",
        paths.TLS / f"{center.name}.key",
        "--vcsim",
        vcsim,
        "--hosts",
        names,
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
        center.username,
        "-password",
        password,
    ]
    procs.start(center.name, argv, log=log, namespace=net.CENTRE)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            hosts(password, center)
            return
        except Exception as error:
            if not procs.is_alive(center.name) or time.monotonic() > deadline:
                raise LabError(f"the vCenter did not come up: {error}; see {log}") from error
        time.sleep(0.3)


def stop() -> None:
    """End the vCenters. Harmless when there are none."""
    for center in (SECOND, FIRST):
        procs.stop(center.name)


def hosts(password: str, center: Center = FIRST) -> dict[str, str]:
    """The hosts in the inventory: name and path, read by the lab itself over the vSphere API."""
    return net.call_in(net.CENTRE, lambda: _with_session(password, _read_hosts, center))


def compliance(password: str, center: Center = FIRST) -> dict[str, str]:
    """What vCenter says of each host that has a host profile: its name and ``compliant``, ``nonCompliant``, ..."""
    return net.call_in(net.CENTRE, lambda: _with_session(password, _read_compliance, center))


def _with_session(password: str, work: Callable[[Any], dict[str, str]], center: Center) -> dict[str, str]:
    from pyVim.connect import Disconnect, SmartConnect

    context = ssl.create_default_context(cafile=str(CA))
    session = SmartConnect(
        host=center.address, user=center.username, pwd=password, sslContext=context, httpConnectionTimeout=20
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
