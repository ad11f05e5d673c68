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

import contextlib
import json
import math
import re
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

# The mark first: whoever comes back looks for it. The host goes down once this connection has been answered.
_RESTART = """: >/var/run/esxi-pxe.restart
for program in /bin/reboot /sbin/reboot; do
  if [ -d /vmfs ] && [ -x "$program" ]; then
    "$program" </dev/null >/dev/null 2>&1
    break
  fi
done
"""

USER = "root"
_SSH_SERVICE = "TSM-SSH"
_LONGEST_PAUSE = 10.0
# Seconds: from "started" until SSH takes connections; from a restarted service until the API is back.
_SETTLE_SECONDS = 60.0
_SERVER_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?\Z")
# In the memory of the host: gone after a restart.
_MARK = "/var/run/esxi-pxe.restart"
_Made = t.TypeVar("_Made")


@dataclass(frozen=True)
class FreshHost:
    """A host as the installer left it, and what is still to be done on it."""

    name: str
    address: str
    port: int
    password: str = field(repr=False)
    actions: tuple[Action, ...] = field(repr=False)
    server_url: str = ""

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
        server_url = str(options.get("server_url") or "")
        if server_url and not _SERVER_URL.match(server_url):
            errors.append(f"{name}: server_url is no URL; write one such as http://192.168.77.10.")
        if not server_url:
            errors.extend(
                f"{name}: the post action {action.name} takes {depot.name} from the PXE server; write server_url, "
                "where the PXE server's depots are, such as http://192.168.77.10."
                for action in actions
                for depot in action.depots
            )
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            address=address,
            port=port,
            password=str(options["bootstrap_password"]),
            actions=with_firstboot_script(actions, own),
            server_url=server_url,
        )


def run_actions(
    hosts: t.Sequence[FreshHost],
    results: Results,
    ssh: t.Callable[[FreshHost], Ssh],
    *,
    parallel: int = 16,
    timeout: float = 900.0,
    reboot_timeout: float = 1800.0,
    check_mode: bool = False,
    attempts: t.Optional[Attempts] = None,
    connect_timeout: float = 10.0,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """Run each host's actions and report it to ``results`` (extra: ``action``, ``actions``, ``certificate``).

    An action that ends with an error does not fail its host here: that is for the PXE server to judge, as it does with
    what hosts report themselves. timeout: seconds that each host's API may take to come up; reboot_timeout: seconds
    that a host may take to go down and come up again, where an action needs that.
    """

    def one(host: FreshHost) -> t.Union[_Answer, str]:
        job = _Job(host, ssh, attempts or Attempts(None), connect_timeout, clock, sleep, reboot_timeout)
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
                    reboots=answer.reboots,
                )


@dataclass(frozen=True)
class _Answer:
    msg: str
    certificate: str
    report: t.Optional[Notification] = None
    reboots: int = 0


@dataclass
class _Job:
    """One host. ``certificate``: the one that it is known by, from the first look at it on."""

    host: FreshHost
    ssh: t.Callable[[FreshHost], Ssh]
    attempts: Attempts
    connect_timeout: float
    clock: t.Callable[[], float]
    sleep: t.Callable[[float], None]
    reboot_timeout: float = 1800.0
    certificate: str = ""
    connection: Ssh = field(init=False)

    def foresee(self, timeout: float) -> _Answer:
        """Everything but what would change something."""
        with self._first_session(timeout) as session:
            self._login(session)
            self._service(session)
        return _Answer(f"{len(self.host.actions)} post actions would be run.", self.certificate)

    def run(self, timeout: float) -> _Answer:
        """Open SSH, run the script, close SSH; again after each restart that actions need. Raises EsxiPxeError."""
        # One and the same for all parts: the host's key must stay what it was at the first.
        with self.ssh(self.host) as self.connection:
            return self._parts(timeout)

    def _parts(self, timeout: float) -> _Answer:
        reports: list[Notification] = []
        done = reboots = 0
        with self._first_session(timeout) as session:
            self._login(session)
            system, service = self._service(session)
            opened, started_with_host = not service.running, service.policy == "on"
            left_open, report, reboot = self._part(system, opened, started_with_host, done)
        reports.append(report)
        while reboot:
            # Each part does an action at least, so this ends.
            done += len(report.actions)
            reboots += 1
            left_open, report, reboot = self._after_restart(started_with_host, done)
            reports.append(report)
        actions = tuple(action for report in reports for action in report.actions)
        broken = [action.name for action in actions if action.failed]
        # The last words of the first action that failed are in the report that it is in.
        message = next((one.message for one in reports if any(action.failed for action in one.actions)), report.message)
        msg = f"{len(actions)} post actions were run over SSH"
        if reboots:
            msg += f", with {reboots} restart{'s' if reboots > 1 else ''} of the host"
        if broken:
            msg += f", and failed: {', '.join(broken)}"
        elif opened and left_open:
            msg += ", and one of them has SSH stay open"
        whole = Notification("ready", None, message, actions, self.certificate or None)
        return _Answer(f"{msg}.", self.certificate, whole, reboots)

    def _part(
        self, system: ManagedObject, opened: bool, started_with_host: bool, done: int
    ) -> tuple[bool, Notification, bool]:
        """The actions up to the next restart: whether SSH is left open, the report, and whether a restart is due."""
        try:
            if opened:
                self._start(system)
            # An action may restart what this is a session with: nothing more is asked through it.
            report, reboot = self._report(done)
            if report.certificate:
                # The actions may have given the host another one.
                self.certificate = report.certificate
        except BaseException as error:
            if opened:
                self._close_after(error, started_with_host)
            raise
        if reboot:
            # A restart closes what does not start with the host.
            return False, report, True
        return (self._close(started_with_host) if opened else True), report, False

    # -- a restart

    def _after_restart(self, started_with_host: bool, done: int) -> tuple[bool, Notification, bool]:
        """Wait until the host has gone down and is up again, and go on there."""
        deadline = self.clock() + self.reboot_timeout
        while True:
            # It takes a while to go down, and answers meanwhile.
            self.sleep(min(_LONGEST_PAUSE, max(1.0, self.reboot_timeout / 60)))
            with self._until(self._session, max(0.0, deadline - self.clock())) as session:
                try:
                    self._login(session)
                    system, service = self._service(session)
                    opened = not service.running
                    if opened:
                        self._start(system)
                    # Whether what was left in its memory before the restart is gone.
                    code, _out, _err = self.connection.run(f"[ ! -e {_MARK} ]\n", self.host.password)
                    why = "it has not gone down" if code else ""
                except (UnreachableError, ServiceUnavailableError, SshUnreachableError, VsphereError) as error:
                    why = str(error)
                if not why:
                    return self._part_again(system, opened, started_with_host, done)
            if self.clock() >= deadline:
                raise EsxiPxeError(
                    f"{self.host.name} was told to restart after post action {done} of {len(self.host.actions)}, and "
                    f"is not back after {self.reboot_timeout:g} seconds ({why}). Look at its console."
                )

    def _part_again(
        self, system: ManagedObject, opened: bool, started_with_host: bool, done: int
    ) -> tuple[bool, Notification, bool]:
        # SSH is open by now.
        try:
            left_open, report, reboot = self._part(system, False, started_with_host, done)
        except BaseException as error:
            if opened:
                self._close_after(error, started_with_host)
            raise
        return (self._close(started_with_host) if opened and not reboot else left_open), report, reboot

    def _start(self, system: ManagedObject) -> None:
        self._ask(lambda: system.StartService(id=_SSH_SERVICE), "does not start SSH")

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

    def _report(self, done: int) -> tuple[Notification, bool]:
        """Run the script; what it reports, and whether it had the host restarted. Raises EsxiPxeError."""
        host = self.host
        ssh = self.connection
        self._until(lambda: ssh.run("exit 0\n", host.password), _SETTLE_SECONDS)
        try:
            code, out, err = ssh.run(ssh_script(host.actions, done, host.server_url), host.password)
        except SshUnreachableError as error:
            raise EsxiPxeError(
                f"The connection to {host.name} broke while its post actions ran ({error}) Which of them are done "
                "is in /var/log/esxi-pxe-actions.log of the host. The next run does all of them again."
            ) from error
        report, reboot = self._read(code, out, err, done)
        if reboot:
            # It may go down faster than it can answer.
            with contextlib.suppress(SshUnreachableError):
                ssh.run(_RESTART, host.password)
        return report, reboot

    def _read(self, code: int, out: str, err: str, done: int) -> tuple[Notification, bool]:
        host = self.host
        try:
            report = parse_notification(out.encode("utf-8", "replace"))
        except EsxiPxeError as error:
            last = (err.strip().splitlines() or ["no message"])[-1][:200]
            raise EsxiPxeError(
                f"The post actions of {host.name} ended with {code} and no report ({error}): {last}"
            ) from error
        reboot = json.loads(out).get("reboot") is True
        given = [action.name for action in host.actions][done:]
        names = [action.name for action in report.actions]
        if names != (given[: max(1, len(names))] if reboot else given):
            raise EsxiPxeError(f"{host.name} has reported on other post actions than it was given: {out[:200]!r}.")
        return report, reboot

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
