# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: sessions with the vSphere API of a vCenter or an ESXi host, and its faults in words.

The client of vmware.vmware is not used: it sets no time limit on any call, cannot be given a certificate to pin, and
waits for one task at a time. The connection options are the same ones.
"""

from __future__ import annotations

import http.client
import ssl
import traceback
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError, MissingLibraryError

try:
    from pyVmomi import SoapStubAdapter, vim, vmodl
    from pyVmomi.VmomiSupport import GetServiceVersions, versionIdMap
except Exception:  # on a Python that is too old for it, pyVmomi raises just that
    PYVMOMI_IMPORT_ERROR: t.Optional[str] = traceback.format_exc()
else:
    PYVMOMI_IMPORT_ERROR = None

__all__ = [
    "Endpoint",
    "Fault",
    "LoginRefusedError",
    "ManagedObject",
    "PYVMOMI_IMPORT_ERROR",
    "ServiceUnavailableError",
    "Session",
    "VsphereError",
    "WAIT_SECONDS",
    "WrongCertificateError",
    "connection_errors",
    "describe_fault",
    "fault_kinds",
    "is_fault",
    "require_pyvmomi",
    "session_is_over",
    "vcenter_endpoint",
    "vcenter_session",
    "verifying_context",
]

# pyVmomi has no types for checkers: its managed objects and faults are Any here.
ManagedObject = t.Any
Fault = t.Any

WAIT_SECONDS = 20
"""One WaitForUpdatesEx call takes at most this long: time limits of tasks are kept, and proxies see traffic."""
_VERSIONS_DOCUMENT_LIMIT = 1 << 20


class VsphereError(EsxiPxeError):
    """Something that the vSphere API said or did not say, in a sentence."""


class ServiceUnavailableError(VsphereError):
    """The API does not answer, or not yet: trying again later may help."""


class WrongCertificateError(VsphereError):
    """Who answers cannot show the certificate that was asked for. Trying again does not help."""


class LoginRefusedError(VsphereError):
    """The API answered that user name and password do not fit."""


def require_pyvmomi() -> None:
    """Raises MissingLibraryError when pyVmomi is not there, so that a module can say how to install it."""
    if PYVMOMI_IMPORT_ERROR is not None:
        raise MissingLibraryError("pyvmomi", PYVMOMI_IMPORT_ERROR)


def verifying_context(validate_certs: bool) -> ssl.SSLContext:
    """The TLS context for a vCenter: the system's authorities, or no validation at all when somebody asked for that."""
    # SSLContext, not create_default_context(): see pinned_context().
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if validate_certs:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Endpoint:
    """Where an API is and how to get there. ``timeout``: seconds that any one answer may take."""

    host: str
    port: int
    context: ssl.SSLContext
    proxy_host: t.Optional[str] = None
    proxy_port: t.Optional[int] = None
    timeout: float = 60.0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Session:
    """One session with an API. Use it in a ``with``: the session is ended whatever happens.

    Opening it says nothing about credentials; ``login()`` does.
    Raises ServiceUnavailableError, WrongCertificateError, MissingLibraryError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        require_pyvmomi()
        self.endpoint = endpoint
        self._logged_in = False
        self._credentials: t.Optional[tuple[str, str]] = None
        with connection_errors(endpoint):
            proxy = {}
            if endpoint.proxy_host:
                proxy = {"httpProxyHost": endpoint.proxy_host, "httpProxyPort": endpoint.proxy_port or 80}
            self._stub = SoapStubAdapter(
                host=endpoint.host,
                port=endpoint.port,
                version=_service_version(endpoint),
                sslContext=endpoint.context,
                # More than one call of WaitForUpdatesEx takes, or every long wait would look like a dead server.
                httpConnectionTimeout=max(endpoint.timeout, 2 * WAIT_SECONDS),
                **proxy,
            )
            try:
                self.content: ManagedObject = vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()
            except vmodl.MethodFault as fault:
                # Whoever asks needs no rights for this: a fault means that the service behind the proxy is not up yet.
                raise ServiceUnavailableError(f"The API at {endpoint} is not ready: {describe_fault(fault)}") from fault

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def login(self, username: str, password: str) -> None:
        """One login attempt. Raises LoginRefusedError (wrong pair) or VsphereError (any other fault)."""
        with connection_errors(self.endpoint):
            try:
                self.content.sessionManager.Login(username, password, None)
            except vim.fault.InvalidLogin as fault:
                raise LoginRefusedError(f"{self.endpoint} refuses the login of {username}.") from fault
            except vmodl.MethodFault as fault:
                raise VsphereError(
                    f"{self.endpoint} does not let {username} log in: {describe_fault(fault)}"
                ) from fault
        self._logged_in = True
        self._credentials = (username, password)

    def renew(self) -> None:
        """Log in once more, as the last time, after vCenter has ended the session or was restarted.

        Raises what login() raises, and ServiceUnavailableError.
        """
        if self._credentials is not None:
            with suppress(OSError):
                self._stub.DropConnections()
            # or the server would be shown a session that it has forgotten
            self._stub.cookie = ""
            self.login(*self._credentials)

    def close(self) -> None:
        """Log out and drop the connections. Never raises: the work is done or has failed already."""
        if self._logged_in:
            self._logged_in = False
            # An abandoned session ends by itself after half an hour.
            with suppress(Exception):
                self.content.sessionManager.Logout()
        with suppress(OSError):
            self._stub.DropConnections()

    @property
    def api_version(self) -> tuple[int, ...]:
        """For example ``(8, 0, 3, 0)``."""
        return tuple(int(part) for part in str(self.content.about.apiVersion).split(".") if part.isdigit())

    @property
    def is_vcenter(self) -> bool:
        return str(self.content.about.apiType) == "VirtualCenter"


_VARIABLES = {"hostname": "HOST", "username": "USER", "password": "PASSWORD"}


def vcenter_endpoint(params: t.Mapping[str, t.Any], timeout: float = Endpoint.timeout) -> Endpoint:
    """The vCenter that a module's connection options mean. Raises EsxiPxeError when one of them is missing."""
    for option, variable in _VARIABLES.items():
        if not params[option]:
            raise EsxiPxeError(f"No {option} of the vCenter is given: set {option} or VMWARE_{variable}.")
    return Endpoint(
        params["hostname"],
        params["port"],
        verifying_context(params["validate_certs"]),
        proxy_host=params["proxy_host"],
        proxy_port=params["proxy_port"],
        timeout=timeout,
    )


@contextmanager
def vcenter_session(endpoint: Endpoint, username: str, password: str) -> t.Iterator[Session]:
    """A session with a vCenter, logged in. Raises VsphereError also when what answers there is no vCenter."""
    with Session(endpoint) as session:
        if not session.is_vcenter:
            raise VsphereError(f"{endpoint} is no vCenter ({session.content.about.fullName}).")
        session.login(username, password)
        yield session


@contextmanager
def connection_errors(endpoint: Endpoint) -> t.Iterator[None]:
    """Turn what a broken connection raises into sentences. Faults (answers of the API) pass through."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        reason = getattr(error, "verify_message", None) or str(error)
        raise WrongCertificateError(f"The certificate of {endpoint} is not to be trusted ({reason}).") from error
    except (OSError, http.client.HTTPException, ExpatError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServiceUnavailableError(f"The API at {endpoint} does not answer ({reason}).") from error


def _service_version(endpoint: Endpoint) -> str:
    """The newest API version that both pyVmomi and the server know.

    pyVmomi's own look-up has no time limit and lets an unverified proxy tunnel to localhost pass; this is the same
    question, put through the endpoint's own TLS context.
    """
    if endpoint.proxy_host:
        connection = http.client.HTTPSConnection(
            endpoint.proxy_host, endpoint.proxy_port or 80, timeout=endpoint.timeout, context=endpoint.context
        )
        connection.set_tunnel(endpoint.host, endpoint.port)
    else:
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=endpoint.timeout, context=endpoint.context
        )
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        response = connection.getresponse()
        document = response.read(_VERSIONS_DOCUMENT_LIMIT)
        if response.status != 200:
            raise http.client.HTTPException(f"{response.status} {response.reason}")
    finally:
        connection.close()
    offered = {element.text for element in ElementTree.fromstring(document).iter("version")}
    for version in GetServiceVersions("vim25"):
        if versionIdMap[version] in offered:
            return str(version)
    raise ServiceUnavailableError(f"{endpoint} speaks no version of the vSphere API that the installed pyVmomi knows.")


# -- Faults ------------------------------------------------------------------------------------------------------------


def fault_kinds(fault: Fault) -> list[str]:
    """Names of the fault's class and its ancestors, the most special first, such as ``vim.fault.InvalidLogin``.

    Names, not classes: which classes exist depends on the installed pyVmomi.
    """
    return [kind.__name__ for kind in type(fault).__mro__]


def is_fault(error: object) -> bool:
    """Whether an exception is a fault that the API answered with."""
    return PYVMOMI_IMPORT_ERROR is None and isinstance(error, vmodl.MethodFault)


def describe_fault(fault: Fault) -> str:
    """A fault that nobody foresaw: its class and whatever text came with it."""
    said = [getattr(fault, "msg", None), getattr(fault, "reason", None)]
    said += [message.message for message in getattr(fault, "faultMessage", None) or []]
    texts: list[str] = []
    for text in said:
        if isinstance(text, str) and text and not any(text in known for known in texts):
            texts.append(text)
    name = fault_kinds(fault)[0].rsplit(".", 1)[-1]
    return f"{name}: {' '.join(texts)}" if texts else f"{name}."


def session_is_over(fault: Fault) -> bool:
    """Whether a fault says that the session is none any more: it has timed out, or somebody has ended it."""
    return "vim.fault.NotAuthenticated" in fault_kinds(fault)
