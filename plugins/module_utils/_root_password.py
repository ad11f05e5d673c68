# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: setting the root password of freshly installed ESXi hosts over their own API.

A password goes to a host only through TLS that is pinned to the certificate which that very host reported. At most two
logins are tried in a run, and wrong ones are counted over runs, because ESXi locks an account after five of them.
"""

from __future__ import annotations

import math
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._login_attempts import MOST_WRONG_LOGINS, Attempts
from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
from ansible_collections.pxemanager.esxi.plugins.module_utils._tls import (
    CertificateError,
    UnreachableError,
    fetch_certificate,
    first_certificate,
    pinned_context,
    sha256_thumbprint,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    Endpoint,
    LoginRefusedError,
    ServiceUnavailableError,
    Session,
    VsphereError,
    WrongCertificateError,
    connection_errors,
    describe_fault,
    is_fault,
    parse_address,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim

__all__ = ["HostAccount", "set_passwords"]

_LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class HostAccount:
    """The account of one host and the password it should have.

    certificate: PEM that the host reported. bootstrap_password: what the kickstart set, if known.
    joined: whether a vCenter has taken the host in, and may have given it another certificate.
    """

    name: str
    address: str
    port: int
    certificate: str
    username: str
    password: str = field(repr=False)
    bootstrap_password: t.Optional[str] = field(repr=False)
    joined: bool = False

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> HostAccount:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name, address, port = parse_address(options, errors)
        if not options.get("password"):
            errors.append("No password is given.")
        certificate = ""
        if options.get("certificate"):
            try:
                certificate = first_certificate(str(options["certificate"]))
            except CertificateError as error:
                errors.append(f"certificate: {error}")
        else:
            errors.append(
                "No certificate is given. It is what the host reported through pbconnect when it became ready; "
                "a password is sent to nobody else."
            )
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            address=address,
            port=port,
            certificate=certificate,
            username=str(options.get("username") or "root"),
            password=str(options["password"]),
            bootstrap_password=str(options["bootstrap_password"]) if options.get("bootstrap_password") else None,
            joined=bool(options.get("joined")),
        )


def set_passwords(
    accounts: t.Sequence[HostAccount],
    results: Results,
    *,
    parallel: int = 16,
    timeout: float = 120.0,
    check_mode: bool = False,
    attempts: t.Optional[Attempts] = None,
    connect_timeout: float = 10.0,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """Give accounts their passwords and report each one to ``results`` (extra: ``action`` unchanged, set or left).

    timeout: seconds that each host's API may take to come up. attempts: the wrong logins of earlier runs, also those in
    check mode, which logs in as well.
    A second run finds the wanted password at the first login and changes nothing.
    """

    def one(account: HostAccount) -> _Answer:
        session = _open(account, timeout, connect_timeout, clock, sleep)
        if isinstance(session, _Answer):
            return session
        with session:
            return _set_password(session, account, check_mode, attempts or Attempts(None))

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        for account, answer in zip(accounts, pool.map(one, accounts)):
            if answer.failed:
                results.fail(account.name, answer.msg, action=answer.action)
            else:
                results.ok(account.name, changed=answer.action == "set", msg=answer.msg, action=answer.action)


@dataclass(frozen=True)
class _Answer:
    msg: str
    action: str = "none"
    failed: bool = False


def _open(
    account: HostAccount,
    timeout: float,
    connect_timeout: float,
    clock: t.Callable[[], float],
    sleep: t.Callable[[float], None],
) -> t.Union[Session, _Answer]:
    """A session with the host's API, not logged in. Waits for an API that is coming up; nothing else is retried."""
    try:
        context = pinned_context(account.certificate)
    except CertificateError as error:
        return _Answer(f"certificate: {error}", failed=True)
    endpoint = Endpoint(account.address, account.port, context, timeout=connect_timeout)
    deadline = clock() + timeout
    pause = 1.0
    while True:
        try:
            return Session(endpoint)
        except WrongCertificateError:
            if account.joined:
                return _Answer(
                    f"{account.name} is in vCenter and presents another certificate than it reported: left alone.",
                    "left",
                )
            return _Answer(_someone_else(account, connect_timeout), failed=True)
        except ServiceUnavailableError as error:
            left = deadline - clock()
            if left <= 0:
                return _Answer(
                    f"{error} It was tried for {timeout:g} seconds. Is {account.name} up, and may this machine reach "
                    f"its port {account.port}?",
                    failed=True,
                )
            sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _someone_else(account: HostAccount, timeout: float) -> str:
    presented = ""
    with suppress(UnreachableError):
        other = fetch_certificate(account.address, account.port, timeout=timeout)
        presented = f"its SHA-256 thumbprint is {sha256_thumbprint(other)}, "
    return (
        f"The certificate at {account.address}:{account.port} is not the one that {account.name} reported: {presented}"
        f"reported was {sha256_thumbprint(account.certificate)}. Someone else answers at that address, or the host was "
        "reinstalled or given another certificate since. No password was sent."
    )


def _set_password(session: Session, account: HostAccount, check_mode: bool, attempts: Attempts) -> _Answer:
    """The one or two logins, and the change. Every login that is sent counts: none is repeated."""
    host = f"{sha256_thumbprint(account.certificate)} {account.username}"
    try:
        wanted = 1 if account.bootstrap_password in (None, account.password) else 2
        wait = attempts.wait(host, wanted)
        if wait > 0:
            return _Answer(_too_many(account, wait), failed=True)
        if _fits(session, account, account.password, host, attempts):
            return _Answer(f"{account.username} has the wanted password.", "unchanged")
        bootstrap = account.bootstrap_password
        if bootstrap is None:
            return _Answer(_refused(account, "password, and there is no bootstrap_password to try"), failed=True)
        if bootstrap == account.password:
            return _Answer(_refused(account, "password (bootstrap_password is the same one)"), failed=True)
        if not _fits(session, account, bootstrap, host, attempts):
            return _Answer(_refused(account, "password or bootstrap_password"), failed=True)
        if check_mode:
            return _Answer(f"The password of {account.username} would be set.", "set")
        _update(session, account)
        return _Answer(f"The password of {account.username} was set.", "set")
    except VsphereError as error:
        return _Answer(str(error), failed=True)
    except OSError as error:
        # Without the count, going on could lock the account.
        return _Answer(
            f"Wrong logins cannot be counted, so {account.name} was left as it is: {error}. Give attempts_file a path "
            "that can be written to.",
            failed=True,
        )


def _fits(session: Session, account: HostAccount, password: str, host: str, attempts: Attempts) -> bool:
    try:
        session.login(account.username, password)
    except LoginRefusedError:
        attempts.wrong(host)
        return False
    attempts.right(host)
    return True


def _too_many(account: HostAccount, wait: float) -> str:
    minutes = max(1, math.ceil(wait / 60))
    return (
        f"{account.name} was sent up to {MOST_WRONG_LOGINS} wrong logins of {account.username} from here in the last "
        "15 minutes, and one or two more would lock the account: nothing was sent. Correct password or "
        f"bootstrap_password, wait {minutes} minutes, and run again."
    )


def _refused(account: HostAccount, what: str) -> str:
    return (
        f"{account.name} does not let {account.username} in with {what}. Somebody has changed the password, the host "
        "was installed with another kickstart, or ESXi has locked the account: five wrong logins lock it for 15 "
        "minutes, so do not run this again at once. Set the password at the host's console, or reinstall the host."
    )


def _update(session: Session, account: HostAccount) -> None:
    """Set the password. Raises VsphereError with the host's own reason."""
    manager = session.content.accountManager
    if manager is None:
        raise VsphereError(f"{session.endpoint} manages no local accounts: it is no ESXi host.")
    with connection_errors(session.endpoint):
        try:
            manager.UpdateUser(
                user=vim.host.LocalAccountManager.AccountSpecification(id=account.username, password=account.password)
            )
        except Exception as fault:
            if not is_fault(fault):
                raise
            raise VsphereError(
                f"{account.name} does not take the new password of {account.username}: {describe_fault(fault)} "
                "Its rules are in the advanced option Security.PasswordQualityControl."
            ) from fault
