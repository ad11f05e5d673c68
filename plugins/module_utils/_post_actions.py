# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the first boot's work on hosts whose %firstboot does not run, over their API and SSH.

ESXi does not run %firstboot under Secure Boot. What it would have done is done from the controller: SSH is opened
through the host's API, the very same script runs, and SSH is closed again.

Nobody could report the certificate of such a host before: in %post the installed system has none yet. So it is trusted
as it is found, which only happens when it was asked for. Not more than one wrong login is ever sent.
"""

from __future__ import annotations

import math
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import (
    Action,
    parse_actions,
    with_firstboot_script,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError, EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import Fields, script
from ansible_collections.pxemanager.esxi.plugins.module_utils._login_attempts import Attempts
from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import Notification, parse_notification
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import ssh_script
from ansible_collections.pxemanager.esxi.plugins.module_utils._ssh import Ssh, SshUnreachableError
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import (
    UnreachableError,
    UnresolvableError,
    fetch_certificate,
    pinned_context,
    sha256_thumbprint,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    LoginRefusedError,
    ManagedObject,
    ServiceUnavailableError,
    Session,
    VsphereError,
    WrongCertificateError,
    connection_errors,
    describe_fault,
    is_fault,
    parse_address,
)

__all__ = ["FreshHost", "run_actions"]

USER = "root"
_SSH_SERVICE = "TSM-SSH"
_LONGEST_PAUSE = 10.0
# Seconds: from "started" until SSH takes connections; from a restarted service until the API is back.
_SETTLE_SECONDS = 60.0
_Made = t.TypeVar("_Made")


@dataclass(frozen=True)
class FreshHost:
    """A host as the installer left it, and what is still to be done on it."""

    name: str
    address: str
    port: int
    password: str = field(repr=False)
    actions: tuple[Action, ...] = field(repr=False)

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> FreshHost:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name, address, port = parse_address(options, errors)
        if not options.get("bootstrap_password"):
            errors.append("No bootstrap_password is given. It is the password that the host was installed with.")
        fields = Fields(options, name, "", errors)
        actions = parse_actions(options.get("post_actions"), fields)
        own = fields.get("firstboot", script, None) if options.get("firstboot") else None
        if not options.get("trust_on_first_use"):
            errors.append(
                f"Nobody has reported the certificate of {name}: with Secure Boot no script runs on its first boot. "
                "So there is nothing to compare with the certificate that it presents. Trust the one that it presents "
                "now by trust_on_first_use: true (in the role: esxi_host_trust_on_first_use: true), if nobody else can "
                "answer at its address on your provisioning network; or switch Secure Boot off until it is installed."
            )
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            address=address,
            port=port,
            password=str(options["bootstrap_password"]),
            actions=with_firstboot_script(actions, own),
        )


def run_actions(
    hosts: t.Sequence[FreshHost],
    results: Results,
    ssh: t.Callable[[FreshHost], Ssh],
    *,
    parallel: int = 16,
    timeout: float = 900.0,
    check_mode: bool = False,
    attempts: t.Optional[Attempts] = None,
    connect_timeout: float = 10.0,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """Run each host's actions and report it to ``results`` (extra: ``action``, ``actions``, ``certificate``).

    An action that ends with an error does not fail its host here: that is for the PXE server to judge, as it does with
    what hosts report themselves. timeout: seconds that each host's API may take to come up.
    """

    def one(host: FreshHost) -> t.Union[_Answer, str]:
        job = _Job(host, ssh, attempts or Attempts(None), connect_timeout, clock, sleep)
        try:
            return job.foresee(timeout) if check_mode else job.run(timeout)
        except EsxiPxeError as error:
            return str(error)
        except OSError as error:
            return f"This machine's disk could not be read or written: {error}."

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        for host, answer in zip(hosts, pool.map(one, hosts)):
            if isinstance(answer, str):
                results.fail(host.name, answer, action="none")
            else:
                results.ok(
                    host.name,
                    changed=True,
                    msg=answer.msg,
                    action="run",
                    actions=[action.to_json() for action in answer.report.actions] if answer.report else [],
                    message=answer.report.message if answer.report else "",
                    certificate=answer.certificate,
                )


@dataclass(frozen=True)
class _Answer:
    msg: str
    certificate: str
    report: t.Optional[Notification] = None


@dataclass
class _Job:
    """One host. ``certificate``: the one that it is known by, from the first look at it on."""

    host: FreshHost
    ssh: t.Callable[[FreshHost], Ssh]
    attempts: Attempts
    connect_timeout: float
    clock: t.Callable[[], float]
    sleep: t.Callable[[float], None]
    certificate: str = ""

    def foresee(self, timeout: float) -> _Answer:
        """Everything but what would change something."""
        with self._first_session(timeout) as session:
            self._login(session)
            self._service(session)
        return _Answer(f"{len(self.host.actions)} post actions would be run.", self.certificate)

    def run(self, timeout: float) -> _Answer:
        """Open SSH, run the script, close SSH. Raises EsxiPxeError."""
        with self._first_session(timeout) as session:
            self._login(session)
            system, service = self._service(session)
            opened, started_with_host = not service.running, service.policy == "on"
            try:
                if opened:
                    self._ask(lambda: system.StartService(id=_SSH_SERVICE), "does not start SSH")
                # An action may restart what this is a session with: nothing more is asked through it.
                report = self._report()
                if report.certificate:
                    # The actions may have given the host another one.
                    self.certificate = report.certificate
            except BaseException as error:
                if opened:
                    self._close_after(error, started_with_host)
                raise
        left_open = self._close(started_with_host) if opened else True
        broken = [action.name for action in report.actions if action.failed]
        msg = f"{len(report.actions)} post actions were run over SSH"
        if broken:
            msg += f", and failed: {', '.join(broken)}"
        elif opened and left_open:
            msg += ", and one of them has SSH stay open"
        return _Answer(f"{msg}.", self.certificate, report)

    # -- the host's API

    def _first_session(self, timeout: float) -> Session:
        """A session with whoever presents a certificate at the host's address: trust on first use."""

        def attempt() -> Session:
            self.certificate = fetch_certificate(self.host.address, self.host.port, timeout=self.connect_timeout)
            return self._session()

        return self._until(attempt, timeout)

    def _session(self) -> Session:
        context = pinned_context(self.certificate)
        return Session(Endpoint(self.host.address, self.host.port, context, timeout=self.connect_timeout))

    def _until(self, attempt: t.Callable[[], _Made], timeout: float) -> _Made:
        """Try until it works or the time is over; what trying again does not mend is raised at once."""
        deadline = self.clock() + timeout
        pause = 1.0
        while True:
            try:
                return attempt()
            except UnresolvableError:
                raise
            except (UnreachableError, ServiceUnavailableError, WrongCertificateError, SshUnreachableError) as error:
                left = deadline - self.clock()
                if left <= 0:
                    raise EsxiPxeError(
                        f"{error} It was tried for {timeout:g} seconds. Is {self.host.name} up, and may this machine "
                        f"reach its port {self.host.port} and its SSH?"
                    ) from error
                self.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _login(self, session: Session) -> None:
        """One login. Raises EsxiPxeError; a wrong password is never sent again."""
        known = f"{sha256_thumbprint(self.certificate)} {USER}"
        wait = self.attempts.wait(known, 1)
        if wait > 0:
            raise EsxiPxeError(
                f"{self.host.name} was sent so many wrong logins of {USER} from here in the last 15 minutes that one "
                f"more would lock the account: nothing was sent. Correct bootstrap_password, wait "
                f"{max(1, math.ceil(wait / 60))} minutes, and run again."
            )
        try:
            session.login(USER, self.host.password)
        except LoginRefusedError as error:
            self.attempts.wrong(known)
            raise EsxiPxeError(
                f"{self.host.name} does not let {USER} in with bootstrap_password. It was tried once, because ESXi "
                "locks an account after five wrong logins. Give the password that the host was installed with, or "
                "reinstall it."
            ) from error
        self.attempts.right(known)

    def _service(self, session: Session) -> tuple[ManagedObject, ManagedObject]:
        """The host's services and SSH among them. Raises VsphereError."""
        system = self._ask(lambda: _service_system(session), "does not tell its services")
        services = self._ask(lambda: system.serviceInfo.service, "does not tell its services")
        for service in services:
            if service.key == _SSH_SERVICE:
                return system, service
        raise VsphereError(f"{session.endpoint} has no service {_SSH_SERVICE}: it is no ESXi host.")

    def _ask(self, call: t.Callable[[], t.Any], what: str) -> t.Any:
        endpoint = Endpoint(self.host.address, self.host.port, pinned_context(self.certificate))
        with connection_errors(endpoint):
            try:
                return call()
            except Exception as fault:
                if not is_fault(fault):
                    raise
                raise VsphereError(f"{self.host.name} {what}: {describe_fault(fault)}") from fault

    # -- SSH

    def _report(self) -> Notification:
        """Run the script; what it reports. Raises EsxiPxeError."""
        host = self.host
        with self.ssh(host) as ssh:
            self._until(lambda: ssh.run("exit 0\n", host.password), _SETTLE_SECONDS)
            try:
                code, out, err = ssh.run(ssh_script(host.actions), host.password)
            except SshUnreachableError as error:
                raise EsxiPxeError(
                    f"The connection to {host.name} broke while its post actions ran ({error}) Which of them are done "
                    "is in /var/log/esxi-pxe-actions.log of the host. The next run does all of them again."
                ) from error
        try:
            report = parse_notification(out.encode("utf-8", "replace"))
        except EsxiPxeError as error:
            last = (err.strip().splitlines() or ["no message"])[-1][:200]
            raise EsxiPxeError(
                f"The post actions of {host.name} ended with {code} and no report ({error}): {last}"
            ) from error
        if [action.name for action in report.actions] != [action.name for action in host.actions]:
            raise EsxiPxeError(f"{host.name} has reported on other post actions than it was given: {out[:200]!r}.")
        return report

    def _close(self, started_with_host: bool) -> bool:
        """Close SSH, unless an action has it start with the host from now on; whether it is open then."""

        def attempt() -> bool:
            with self._session() as session:
                self._login(session)
                system, service = self._service(session)
                if service.policy == "on" and not started_with_host:
                    return True
                if service.running:
                    self._ask(lambda: system.StopService(id=_SSH_SERVICE), "does not stop SSH")
                return False

        try:
            return self._until(attempt, _SETTLE_SECONDS)
        except EsxiPxeError as error:
            raise EsxiPxeError(
                f"SSH of {self.host.name} was opened for its post actions and could not be closed again: {error} "
                f"Close it by hand: stop the service {_SSH_SERVICE}."
            ) from error

    def _close_after(self, error: BaseException, started_with_host: bool) -> None:
        """Close SSH when something else has failed already, and say both."""
        try:
            self._close(started_with_host)
        except EsxiPxeError as also:
            raise EsxiPxeError(f"{error} {also}") from error


def _service_system(session: Session) -> ManagedObject:
    """The services of the one host that an ESXi host's own inventory has."""
    for datacenter in session.content.rootFolder.childEntity:
        for resource in datacenter.hostFolder.childEntity:
            for host in resource.host:
                return host.configManager.serviceSystem
    raise VsphereError(f"{session.endpoint} has no host in its inventory.")
