# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: adding ESXi hosts to a vCenter, many over one session, each with a known certificate.

The order for each host: is it there already, does its place exist, does it present the certificate that it reported,
and only then the add. vCenter checks the certificate once more, with its own eyes.
"""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import (
    CertificateError,
    UnreachableError,
    fetch_certificate,
    first_certificate,
    sha1_thumbprint,
    sha256_thumbprint,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Inventory,
    Place,
    PlaceError,
    Session,
    TaskOutcome,
    VsphereError,
    describe_fault,
    fault_kinds,
    parse_address,
    read_inventory,
    run_tasks,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim

__all__ = ["HostToAdd", "add_hosts"]

# Since this version HostConnectSpec takes the certificate itself, and has been seen to refuse a thumbprint.
_TAKES_CERTIFICATES = (9, 0)


@dataclass(frozen=True)
class HostToAdd:
    """One host that should be in vCenter.

    address, port: where the host's API answers here. vCenter itself connects to ``name``.
    certificate: PEM that the host reported; None with ``trust_on_first_use`` only.
    datacenter and one of cluster and folder: where it belongs.
    """

    name: str
    address: str
    port: int
    username: str
    password: str = field(repr=False)
    certificate: t.Optional[str]
    datacenter: str
    cluster: t.Optional[str]
    folder: t.Optional[str]
    trust_on_first_use: bool

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> HostToAdd:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name, address, port = parse_address(options, errors)
        if not options.get("password"):
            errors.append("No password is given: vCenter logs in to the host once, with username and password.")
        if not options.get("datacenter"):
            errors.append("No datacenter is given.")
        cluster, folder = options.get("cluster") or None, options.get("folder") or None
        if (cluster is None) == (folder is None):
            errors.append(
                "Exactly one of cluster and folder must be given (folder: / is the datacenter's own host folder)."
            )
        trust = bool(options.get("trust_on_first_use"))
        certificate = None
        if options.get("certificate"):
            try:
                certificate = first_certificate(str(options["certificate"]))
            except CertificateError as error:
                errors.append(f"certificate: {error}")
        elif not trust:
            errors.append(
                "No certificate is given. It is what the host reported through pbconnect when it became ready; "
                "a host that never reported one can be added with trust_on_first_use."
            )
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            address=address,
            port=port,
            username=str(options.get("username") or "root"),
            password=str(options["password"]),
            certificate=certificate,
            datacenter=str(options["datacenter"]),
            cluster=None if cluster is None else str(cluster),
            folder=None if folder is None else str(folder),
            trust_on_first_use=trust,
        )


def add_hosts(
    session: Session,
    hosts: t.Sequence[HostToAdd],
    results: Results,
    *,
    parallel: int = 16,
    timeout: float = 600.0,
    check_mode: bool = False,
    connect_timeout: float = 10.0,
) -> None:
    """Bring hosts into vCenter and report each one to ``results`` (extra: ``action`` added or present, ``path``).

    Raises VsphereError only when nothing at all could be done: the inventory cannot be read.
    """
    inventory = read_inventory(session)
    missing = _missing_hosts(inventory, hosts, results)
    with ThreadPoolExecutor(max_workers=parallel) as pool:
        certificates = pool.map(lambda host: _presented_certificate(host[0], connect_timeout), missing)
        checked = [(host, place, answer) for (host, place), answer in zip(missing, certificates)]
    to_add: dict[str, _Addition] = {}
    for host, place, answer in checked:
        if isinstance(answer, _Refusal):
            results.fail(host.name, answer.reason, action="none")
        else:
            to_add[host.name] = _Addition(host, place, answer)
    if check_mode:
        for addition in to_add.values():
            _report_added(results, addition, path=addition.path, would=True)
        return

    starts = {name: _starter(session, addition) for name, addition in to_add.items()}
    outcomes = dict(run_tasks(session, starts, parallel=parallel, timeout=timeout))
    if outcomes:
        _report(session, to_add, outcomes, results)


@dataclass(frozen=True)
class _Refusal:
    reason: str


@dataclass(frozen=True)
class _Addition:
    host: HostToAdd
    place: Place
    certificate: str

    @property
    def path(self) -> str:
        return f"{self.place.path}/{self.host.name}"


def _missing_hosts(
    inventory: Inventory, hosts: t.Sequence[HostToAdd], results: Results
) -> list[tuple[HostToAdd, Place]]:
    """The hosts that are to be added, with their places; every other one is reported."""
    places: dict[tuple[t.Optional[str], ...], t.Union[Place, PlaceError]] = {}
    missing = []
    for host in hosts:
        key = (host.datacenter, host.cluster, host.folder)
        if key not in places:
            try:
                places[key] = inventory.place(datacenter=host.datacenter, cluster=host.cluster, folder=host.folder)
            except PlaceError as error:
                places[key] = error
        place = places[key]
        if isinstance(place, PlaceError):
            results.fail(host.name, str(place), action="none")
            continue
        entries = inventory.hosts_named(host.name)
        if not entries:
            missing.append((host, place))
            continue
        here = next((entry for entry in entries if entry.place == place.path), None)
        if here is None:
            results.fail(
                host.name,
                f"{host.name} is in this vCenter already, at {entries[0].path}, but should be in {place.path}. "
                "This module does not move hosts: move it there in vCenter, or correct its place in the inventory.",
                action="none",
                path=entries[0].path,
            )
        elif here.state != "connected":
            results.fail(host.name, _not_connected(host.name, here.path, here.state), action="none", path=here.path)
        else:
            results.ok(
                host.name, changed=False, msg=f"{host.name} is at {here.path}.", action="present", path=here.path
            )
    return missing


def _not_connected(name: str, path: str, state: str) -> str:
    words = {"notResponding": "not responding", "disconnected": "disconnected"}.get(state, f"in state {state}")
    return (
        f"{name} is at {path}, but vCenter shows it as {words}. This module does not reconnect hosts: reconnect it in "
        "vCenter or, if it was reinstalled, remove it from vCenter and run again."
    )


def _presented_certificate(host: HostToAdd, timeout: float) -> t.Union[str, _Refusal]:
    """The certificate to add a host with: the one it presents, if that is the one it reported."""
    try:
        presented = fetch_certificate(host.address, host.port, timeout=timeout)
    except UnreachableError as error:
        return _Refusal(f"{error} Is {host.name} up, and may this machine reach its port {host.port}?")
    if host.certificate is not None and presented != host.certificate:
        return _Refusal(
            f"The certificate at {host.address}:{host.port} is not the one that {host.name} reported: its SHA-256 "
            f"thumbprint is {sha256_thumbprint(presented)}, reported was {sha256_thumbprint(host.certificate)}. "
            "Someone else answers at that address, or the host was reinstalled or given another certificate since. "
            "It was not added."
        )
    return presented


def _starter(session: Session, addition: _Addition) -> t.Callable[[], t.Any]:
    """The call that starts the add task of a host."""
    place, spec = addition.place, _connect_spec(session, addition)
    if place.is_cluster:
        return lambda: place.ref.AddHost_Task(spec=spec, asConnected=True)
    return lambda: place.ref.AddStandaloneHost_Task(spec=spec, addConnected=True)


def _connect_spec(session: Session, addition: _Addition) -> t.Any:
    host = addition.host
    # force is never set: it would take a host away from another vCenter that manages it.
    spec = vim.host.ConnectSpec(
        hostName=host.name, port=host.port, userName=host.username, password=host.password, force=False
    )
    if session.api_version[:2] >= _TAKES_CERTIFICATES and hasattr(spec, "sslCertificate"):
        spec.sslCertificate = addition.certificate
    else:
        spec.sslThumbprint = sha1_thumbprint(addition.certificate)
    return spec


def _report(
    session: Session, additions: t.Mapping[str, _Addition], outcomes: t.Mapping[str, TaskOutcome], results: Results
) -> None:
    """Report what became of the additions, as vCenter shows it now.

    What a task returns is not looked at: for a standalone host it is the host or its compute resource.
    """
    try:
        now: t.Optional[Inventory] = read_inventory(session)
    except VsphereError:
        # The adds have happened all the same.
        now = None
    for name, outcome in outcomes.items():
        addition = additions[name]
        entries = now.hosts_named(name) if now is not None else ()
        here = next((entry for entry in entries if entry.place == addition.place.path), None)
        if outcome.succeeded:
            if here is not None and here.state != "connected":
                results.fail(
                    name, _not_connected(name, here.path, here.state), changed=True, action="added", path=here.path
                )
            else:
                _report_added(results, addition, path=addition.path if here is None else here.path, would=False)
        elif outcome.fault is None:
            results.fail(
                name,
                f"{outcome.problem} It is not known whether {name} was added: run again to find out.",
                action="none",
            )
        elif here is not None and here.state == "connected" and _says_already_there(outcome.fault):
            # Somebody else added it between our look and our add.
            results.ok(name, changed=False, msg=f"{name} is at {here.path}.", action="present", path=here.path)
        else:
            results.fail(name, _why_not_added(outcome.fault, addition), action="none")


def _report_added(results: Results, addition: _Addition, *, path: str, would: bool) -> None:
    host = addition.host
    text = f"{host.name} would be added at {path}" if would else f"{host.name} was added at {path}"
    if host.certificate is None:
        text += (
            " with the certificate that answered there, because of trust_on_first_use (SHA-256 thumbprint "
            f"{sha256_thumbprint(addition.certificate)}); nobody has confirmed it"
        )
    results.ok(host.name, changed=True, msg=f"{text}.", action="added", path=path)
    results.diff(host.name, "", f"{path}\n")


def _why_not_verified(fault: t.Any, addition: _Addition) -> str:
    """An SSLVerifyFault names the certificate that vCenter saw by a thumbprint or, since 9.0, by the certificate."""
    host, told = addition.host, sha1_thumbprint(addition.certificate)
    seen = getattr(fault, "thumbprint", None)
    if not seen:
        with suppress(CertificateError):
            seen = sha1_thumbprint(str(getattr(fault, "certificate", None) or ""))
    if seen == told:
        return (
            f"vCenter sees the right certificate at {host.name}:{host.port}, but does not accept it by its SHA-1 "
            "thumbprint: vCenter 9.0 and newer want the certificate itself, and for that pyVmomi 9.0 or newer."
        )
    return (
        f"vCenter sees another certificate at {host.name}:{host.port} (SHA-1 thumbprint {seen or 'not told'}) than is "
        f"seen from here at {host.address} ({told}): check what {host.name} resolves to on vCenter."
    )


def _says_already_there(fault: t.Any) -> bool:
    return bool({"vim.fault.DuplicateName", "vim.fault.AlreadyConnected"}.intersection(fault_kinds(fault)))


def _why_not_added(fault: t.Any, addition: _Addition) -> str:
    """A fault of an add task in words that say what to do. The most special kind that is known decides."""
    host, place = addition.host, addition.place
    sentences: dict[str, t.Callable[[], str]] = {
        "vim.fault.SSLVerifyFault": lambda: _why_not_verified(fault, addition),
        "vim.fault.InvalidLogin": lambda: (
            f"The host refuses the login of {host.username} with the given password: set the root password first "
            "(module esxi_root_password). After five wrong logins ESXi locks the account for 15 minutes."
        ),
        "vim.fault.AlreadyBeingManaged": lambda: (
            "The host is managed by another vCenter already "
            f"({getattr(fault, 'ipAddress', None) or 'address unknown'}): remove it there first."
        ),
        "vim.fault.AlreadyConnected": lambda: (
            "This vCenter has that machine already, under the name "
            f"{getattr(fault, 'name', None) or '(unknown)'}: remove that entry, or use that name."
        ),
        "vim.fault.DuplicateName": lambda: (
            f"Another object in {place.path} has the name {getattr(fault, 'name', None) or host.name}: rename it."
        ),
        "vim.fault.NoHost": lambda: (
            f"vCenter cannot reach {host.name}:{host.port}: check that vCenter resolves the name to {host.address} and "
            "may connect to ports 443 and 902 of that address."
        ),
        "vim.fault.TooManyHosts": lambda: "vCenter's edition or licence manages no more hosts than it has.",
        "vmodl.fault.NotEnoughLicenses": lambda: f"vCenter has no licence left for this host: {describe_fault(fault)}",
        "vim.fault.LicenseAssignmentFailed": lambda: (
            f"vCenter cannot give this host a licence: {describe_fault(fault)}"
        ),
        "vim.fault.InvalidLicense": lambda: f"The licence does not allow it: {describe_fault(fault)}",
        "vim.fault.NoPermission": lambda: (
            f"The vCenter user lacks the privilege {getattr(fault, 'privilegeId', None) or 'to add hosts'} "
            f"on {place.path}."
        ),
        "vim.fault.HostConnectFault": lambda: f"vCenter could not take the host in: {describe_fault(fault)}",
    }
    for kind in fault_kinds(fault):
        if kind in sentences:
            return sentences[kind]()
    return f"vCenter could not add the host: {describe_fault(fault)}"
