# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of a stand-in ESXi host: ``vcsim -esx`` behind the host's own certificate and its own root password.

    python -m pxelab.esxi_api --cert rui.crt --key rui.key --listen 192.168.77.21:443 --vcsim PATH --state FILE

The state file is what the kickstart left behind: ``{"root_password_hash": "$6$..."}``, or the bare hash. It is written
back as JSON and says besides how many logins failed in a row (``failed_logins``), until when the account is locked
(``locked_until``, seconds since 1970, or null), how often it was logged in to and its password set (``logins``,
``password_changes``), and which vCenter has taken the host in (``managed_by``, or null). It is read anew for every
login, so a reinstall may replace it.

With ``--root DIR``, files that are not named are looked for where an installed host has them, below that folder.
The process ends when the thread that started it ends. It prints ``ready ADDRESS:PORT`` once it takes connections.
"""

from __future__ import annotations

import argparse
import ctypes
import hmac
import json
import secrets
import string
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from . import paths, soap

# ESXi's defaults: Security.AccountLockFailures, Security.AccountUnlockTime.
LOCK_AFTER = 5
UNLOCK_SECONDS = 900.0
_SALT = string.ascii_letters + string.digits + "./"
_WRONG_LOGIN = "Cannot complete login due to an incorrect user name or password."


class Crypt:
    """SHA-512 crypt through the C library's libcrypt: Python's own ``crypt`` module is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        for name in ("libcrypt.so.1", "libcrypt.so.2"):
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            self._crypt = library.crypt
            self._crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
            self._crypt.restype = ctypes.c_char_p
            return
        sys.exit("This system has no libcrypt.")

    def hash(self, password: str, setting: str) -> str:
        """The hash of a password with the salt of ``setting``, empty when that is no setting."""
        with self._lock:  # crypt() answers in a buffer of its own
            found: bytes | None = self._crypt(password.encode(), setting.encode())
        return (found or b"").decode()

    def new(self, password: str) -> str:
        """A hash with a fresh salt."""
        return self.hash(password, "$6$" + "".join(secrets.choice(_SALT) for _position in range(16)))

    def fits(self, password: str, hashed: str) -> bool:
        """Whether a hash is that of a password. Only SHA-512 crypt counts, as ESXi takes no other."""
        return hashed.startswith("$6$") and hmac.compare_digest(self.hash(password, hashed), hashed)


class Account:
    """The root account: its hash, and the lock that too many wrong passwords put on it."""

    def __init__(self, state: Path, crypt: Crypt, unlock_seconds: float = UNLOCK_SECONDS) -> None:
        self._state = state
        self._crypt = crypt
        self._unlock_seconds = unlock_seconds
        self._lock = threading.Lock()

    def login(self, user: str, password: str) -> bool:
        """Whether a login succeeds. A locked account refuses the right password as well, and does not say so."""
        if user != "root":
            return False
        with self._lock:
            state = self._read()
            if state["locked_until"] is not None:
                if time.time() < state["locked_until"]:
                    return False
                state.update(failed_logins=0, locked_until=None)
            good = self._crypt.fits(password, state["root_password_hash"])
            if good:
                state.update(failed_logins=0, logins=state["logins"] + 1)
            else:
                state["failed_logins"] += 1
                if state["failed_logins"] >= LOCK_AFTER:
                    state["locked_until"] = time.time() + self._unlock_seconds
            self._write(state)
            return good

    def set_password(self, password: str) -> None:
        """Replace the hash."""
        with self._lock:
            state = self._read()
            state.update(root_password_hash=self._crypt.new(password), password_changes=state["password_changes"] + 1)
            self._write(state)

    def managed_by(self) -> str:
        """The vCenter that has taken the host in, empty when none has."""
        with self._lock:
            return str(self._read()["managed_by"] or "")

    def take_in(self, vcenter: str) -> None:
        """Belong to a vCenter from now on."""
        with self._lock:
            state = self._read()
            state.update(managed_by=vcenter)
            self._write(state)

    def _read(self) -> dict[str, Any]:
        text = self._state.read_text(encoding="utf-8")
        state = {"root_password_hash": text.strip()} if text.startswith("$") else json.loads(text)
        empty = {"failed_logins": 0, "locked_until": None, "logins": 0, "password_changes": 0, "managed_by": None}
        return {**empty, **state}

    def _write(self, state: dict[str, Any]) -> None:
        paths.write_text(self._state, json.dumps(state, indent=2) + "\n", 0o600)


class EsxiApi:
    """What this host answers itself; everything else is vcsim's."""

    def __init__(
        self, account: Account, name: str, services: Callable[[soap.Call], soap.Answer | None] | None = None
    ) -> None:
        self._account = account
        self._name = name
        self._services = services

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        if self._services is not None and (answer := self._services(call)) is not None:
            return answer
        if call.method == "Login":
            return self._login(call)
        if call.method == "UpdateUser":
            return self._update_user(call)
        if call.method == "PxelabManagedBy":
            return self._managed_by()
        if call.method == "PxelabTakeIn":
            return self._take_in(call)
        return None

    def _managed_by(self) -> soap.Answer:
        return soap.Answer(
            200,
            soap.envelope(
                '<PxelabManagedByResponse xmlns="urn:vim25">'
                f"<returnval>{escape(self._account.managed_by())}</returnval></PxelabManagedByResponse>"
            ),
        )

    def _take_in(self, call: soap.Call) -> soap.Answer:
        """What installing vCenter's agent is on a real host: only who has logged in may do it."""
        answer = call.forward(
            soap.envelope(
                '<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>'
            )
        )
        if answer.status != 200:
            return answer
        self._account.take_in(call.text("vcenter"))
        self._say(f"taken in by {call.text('vcenter')}")
        return soap.Answer(200, soap.envelope('<PxelabTakeInResponse xmlns="urn:vim25"/>'))

    def _login(self, call: soap.Call) -> soap.Answer | None:
        user = call.text("userName")
        if self._account.login(user, call.text("password")):
            self._say(f"{user} logged in")
            return None
        self._say(f"refused a login of {user}")
        return soap.fault("InvalidLogin", _WRONG_LOGIN)

    def _update_user(self, call: soap.Call) -> soap.Answer:
        # vcsim knows whether there is a session; that it then does nothing is why this is answered here
        answer = call.forward(call.body)
        if answer.status != 200:
            return answer
        user, password = call.text("user/id"), call.text("user/password")
        if user != "root":
            return soap.fault(
                "UserNotFound", f"There is no user {user}.", [("principal", user), ("unresolved", "true")]
            )
        if len(password) < 7:
            return soap.fault(
                "SystemError",
                "A general system error occurred: Weak password: too short.",
                [("reason", "Weak password: too short.")],
            )
        self._account.set_password(password)
        self._say(f"the password of {user} was set")
        return soap.Answer(200, soap.envelope('<UpdateUserResponse xmlns="urn:vim25"/>'))

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run until the process that started this one ends, or a signal comes."""
    parser = argparse.ArgumentParser(prog="pxelab.esxi_api", description="API of a stand-in ESXi host")
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT; port 0 takes a free one")
    parser.add_argument("--root", type=Path, help="the installed host's root folder")
    parser.add_argument("--cert", type=Path, help="the host's certificate (default: ROOT/etc/vmware/ssl/rui.crt)")
    parser.add_argument("--key", type=Path, help="its key (default: ROOT/etc/vmware/ssl/rui.key)")
    parser.add_argument("--state", type=Path, help="the state file (default: ROOT/etc/pxelab-password-hash)")
    parser.add_argument("--vcsim", type=Path, default=paths.CACHE / "vcsim" / "vcsim", help="the program")
    parser.add_argument("--name", help="what the host is called in the log")
    parser.add_argument(
        "--unlock-after", type=float, default=UNLOCK_SECONDS, help="seconds that a locked account stays so"
    )
    parser.add_argument("--ssh", help="ADDRESS:PORT of its SSH, which its API starts and stops")
    parser.add_argument("--ssh-folder", type=Path, help="where shells that come by SSH run (pxelab.esxi_ssh)")
    options = parser.parse_args()
    root = options.root or Path("/nonexistent")
    cert = options.cert or root / "etc/vmware/ssl/rui.crt"
    key = options.key or root / "etc/vmware/ssl/rui.key"
    state = options.state or root / "etc/pxelab-password-hash"
    for path in (cert, key, state, options.vcsim):
        if not path.exists():
            parser.error(f"there is no {path}")

    soap.die_with_parent()
    account = Account(state, Crypt(), options.unlock_after)
    services = None
    if options.ssh:
        from . import esxi_ssh  # its library is needed by nobody else

        at = soap.address_and_port(options.ssh)
        services = esxi_ssh.SshService(at, options.ssh_folder.absolute(), cert, account.login).answer
    # The port is taken before vcsim is started: when somebody else has it, nothing is left running.
    gateway = soap.Gateway(
        soap.address_and_port(options.listen),
        soap.server_context(str(cert), str(key)),
        ("127.0.0.1", 0),
        EsxiApi(account, options.name or options.listen, services),
    )
    vcsim = soap.Vcsim(str(options.vcsim), ["-esx", "-vm", "0", "-ds", "0"])
    gateway.backend = vcsim.address
    soap.serve(gateway, vcsim)


if __name__ == "__main__":
    main()
