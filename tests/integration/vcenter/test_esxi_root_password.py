# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""esxi_root_password against stand-in hosts: a real ``vcsim -esx`` behind the host's own certificate and password."""

from __future__ import annotations

import socket
import threading
import time
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, tls_server

MODULE = "esxi_root_password"
BOOTSTRAP = "Bootstrap-pw-1"
WANTED = "Wanted-secret-2"


@pytest.fixture
def esxi(start: t.Callable[..., t.Any], authority: Authority, tmp_path: Path) -> stand_ins.EsxiHost:
    """A host as its kickstart left it."""
    return t.cast(stand_ins.EsxiHost, start(stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", BOOTSTRAP)))


def account(host: stand_ins.EsxiHost, name: str = "esx01.example.com", **changes: t.Any) -> dict[str, t.Any]:
    known = {
        "name": name,
        "address": "127.0.0.1",
        "port": host.port,
        "certificate": host.pair.pem,
        "password": WANTED,
        "bootstrap_password": BOOTSTRAP,
    }
    return {key: value for key, value in {**known, **changes}.items() if value is not None}


def test_sets_the_password_once(run_module, esxi) -> None:
    first = run_module(MODULE, hosts=[account(esxi)])

    assert first["hosts"]["esx01.example.com"] == {
        "changed": True,
        "failed": False,
        "action": "set",
        "msg": "The password of root was set.",
    }
    assert (esxi.state()["password_changes"], esxi.state()["logins"]) == (1, 1)

    second = run_module(MODULE, hosts=[account(esxi)])

    assert second["hosts"]["esx01.example.com"]["action"] == "unchanged" and not second["changed"]
    # the wanted password was tried first: no wrong login is left behind
    assert (esxi.state()["password_changes"], esxi.state()["logins"], esxi.state()["failed_logins"]) == (1, 2, 0)
    # the bootstrap password is not good for anything any more
    back = run_module(MODULE, hosts=[account(esxi, password="Another-pw-3")])
    assert back["failed"] and esxi.state()["password_changes"] == 1


def test_check_mode_foresees_it_and_sets_nothing(run_module, esxi) -> None:
    foreseen = run_module(MODULE, check=True, hosts=[account(esxi)])
    assert foreseen["changed"] and foreseen["hosts"]["esx01.example.com"]["msg"] == "The password of root would be set."
    assert esxi.state()["password_changes"] == 0

    hopeless = run_module(MODULE, check=True, hosts=[account(esxi, bootstrap_password="Not-the-one-9")])
    assert hopeless["failed"]

    run_module(MODULE, hosts=[account(esxi)])
    unchanged = run_module(MODULE, check=True, hosts=[account(esxi)])
    assert not unchanged["changed"] and not unchanged.get("failed")


def test_neither_password_fits(run_module, esxi) -> None:
    result = run_module(MODULE, hosts=[account(esxi, bootstrap_password="Not-the-one-9")])

    message = result["hosts"]["esx01.example.com"]["msg"]
    assert message.startswith("esx01.example.com does not let root in with password or bootstrap_password.")
    assert "do not run this again at once" in message
    state = esxi.state()
    assert (state["failed_logins"], state["password_changes"]) == (2, 0), "never more than two logins"


@pytest.mark.parametrize("bootstrap", [None, WANTED])
def test_one_password_is_tried_once(run_module, esxi, bootstrap) -> None:
    result = run_module(MODULE, hosts=[account(esxi, bootstrap_password=bootstrap)])

    assert result["failed"]
    assert esxi.state()["failed_logins"] == 1


def test_a_locked_account_stays_locked_and_is_explained(run_module, start, authority, tmp_path) -> None:
    host = start(stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", BOOTSTRAP, "--unlock-after", "3"))
    for _unused in range(3):
        run_module(MODULE, hosts=[account(host, bootstrap_password="Not-the-one-9")], attempts_file="")
    assert host.state()["failed_logins"] == 5

    locked = run_module(MODULE, hosts=[account(host)], attempts_file="")
    assert locked["failed"] and "ESXi has locked the account" in locked["msg"]
    assert host.state()["password_changes"] == 0

    time.sleep(3)
    assert run_module(MODULE, hosts=[account(host)], attempts_file="")["changed"]


def test_run_after_run_never_locks_the_account(run_module, esxi) -> None:
    """Whoever runs a playbook with the wrong password again and again must not be the reason why nobody gets in."""
    wrong = account(esxi, bootstrap_password="Not-the-one-9")
    messages = [run_module(MODULE, check=check, hosts=[wrong])["msg"] for check in (False, True, False, False)]

    state = esxi.state()
    assert (state["failed_logins"], state["locked_until"]) == (4, None)
    for message in messages[2:]:
        assert "esx01.example.com was sent up to 4 wrong logins of root" in message and "nothing was sent" in message
        assert "wait 15 minutes, and run again" in message
    # and so the right password still opens the door
    assert not run_module(MODULE, hosts=[account(esxi, password=BOOTSTRAP)], attempts_file="")["failed_hosts"]


def test_a_reinstalled_host_begins_anew(run_module, start, authority, tmp_path) -> None:
    first = start(stand_ins.esxi_host(authority.esxi(), tmp_path / "first", BOOTSTRAP))
    for _unused in range(2):
        run_module(MODULE, hosts=[account(first, bootstrap_password="Not-the-one-9")])
    assert "nothing was sent" in run_module(MODULE, hosts=[account(first)])["msg"]
    again = start(stand_ins.esxi_host(authority.esxi(), tmp_path / "again", BOOTSTRAP))

    assert run_module(MODULE, hosts=[account(again)])["changed"]


def test_wrong_logins_that_cannot_be_counted_are_not_sent(run_module, esxi, tmp_path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    result = run_module(MODULE, hosts=[account(esxi)], attempts_file=str(tmp_path / "file" / "attempts.json"))

    assert "esx01.example.com was left as it is" in result["msg"] and "Give attempts_file a path" in result["msg"]
    assert (esxi.state()["logins"], esxi.state()["failed_logins"]) == (0, 0)


def test_nothing_is_sent_to_somebody_else(run_module, esxi, authority) -> None:
    other = authority.esxi()

    result = run_module(MODULE, hosts=[account(esxi, certificate=other.pem)])

    message = result["hosts"]["esx01.example.com"]["msg"]
    assert "not the one that esx01.example.com reported" in message and "No password was sent." in message
    assert esxi.pair.fingerprint("sha256") in message and other.fingerprint("sha256") in message
    state = esxi.state()
    assert (state["logins"], state["failed_logins"]) == (0, 0)
    with tls_server(esxi.pair) as (port, received):
        run_module(MODULE, hosts=[account(esxi, certificate=other.pem, port=port)])
    assert not any(received)


def test_a_host_that_vcenter_gave_another_certificate_is_left_alone(run_module, esxi, authority) -> None:
    """vCenter replaces certificates of the hosts that it takes in; a run that was killed just then must go on."""
    result = run_module(MODULE, hosts=[account(esxi, certificate=authority.esxi().pem, joined=True)])

    assert not result["changed"] and not result["failed_hosts"]
    assert result["hosts"]["esx01.example.com"]["action"] == "left"
    state = esxi.state()
    assert (state["logins"], state["failed_logins"]) == (0, 0)


def test_a_joined_host_with_its_own_certificate_still_gets_its_password(run_module, esxi) -> None:
    assert run_module(MODULE, hosts=[account(esxi, joined=True)])["hosts"]["esx01.example.com"]["action"] == "set"


def test_the_dates_of_the_certificate_do_not_matter(run_module, start, authority, tmp_path) -> None:
    """A fresh host's clock may be wrong by years; its certificate is its identity all the same."""
    host = start(stand_ins.esxi_host(authority.esxi(days=-1), tmp_path / "esxi", BOOTSTRAP))

    assert run_module(MODULE, hosts=[account(host)])["changed"]


def test_waits_for_an_api_that_comes_up(run_module, authority, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pair, stack = authority.esxi(), ExitStack()

    def come_up() -> None:
        time.sleep(2)
        stack.enter_context(stand_ins.esxi_host(pair, tmp_path / "esxi", BOOTSTRAP, port=port))

    # the stand-in dies with the thread that started it, so that one has to wait for the end
    done = threading.Event()

    def live() -> None:
        with stack:
            come_up()
            done.wait(60)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        definition = {"name": "esx01.example.com", "address": "127.0.0.1", "port": port, "certificate": pair.pem}
        result = run_module(
            MODULE, hosts=[{**definition, "password": WANTED, "bootstrap_password": BOOTSTRAP}], timeout=30
        )
        assert result["hosts"]["esx01.example.com"]["action"] == "set", result["msg"]
    finally:
        done.set()
        thread.join()


def test_gives_up_on_an_api_that_does_not_come_up(run_module, esxi) -> None:
    begin = time.monotonic()

    result = run_module(MODULE, hosts=[account(esxi, port=1)], timeout=2)

    assert time.monotonic() - begin < 10
    assert "The API at 127.0.0.1:1 does not answer (Connection refused). It was tried for 2 seconds." in result["msg"]


def test_the_host_refuses_the_new_password(run_module, esxi) -> None:
    result = run_module(MODULE, hosts=[account(esxi, password="tiny7")])

    assert result["hosts"]["esx01.example.com"]["msg"] == (
        "esx01.example.com does not take the new password of root: SystemError: A general system error occurred: Weak "
        "password: too short. Its rules are in the advanced option Security.PasswordQualityControl."
    )
    assert esxi.state()["password_changes"] == 0


def test_many_hosts_and_one_bad_one(run_module, start, authority, tmp_path, esxi) -> None:
    hosts = [start(stand_ins.esxi_host(authority.esxi(), tmp_path / f"esxi{number}", BOOTSTRAP)) for number in range(4)]
    accounts = [account(host, f"esx{number}.example.com") for number, host in enumerate(hosts)]
    accounts[2]["bootstrap_password"] = "Not-the-one-9"
    accounts.append(account(esxi, "esx9.example.com", certificate=None))

    result = run_module(MODULE, hosts=accounts, on_host_failure="report")

    assert not result.get("failed") and result["changed"]
    assert result["failed_hosts"] == ["esx2.example.com", "esx9.example.com"]
    assert "a password is sent to nobody else" in result["hosts"]["esx9.example.com"]["msg"]
    assert [host.state()["password_changes"] for host in hosts] == [1, 1, 0, 1]


def test_passwords_are_nowhere_in_the_output(run_module, esxi) -> None:
    good = run_module(MODULE, hosts=[account(esxi)])
    bad = run_module(MODULE, hosts=[account(esxi, password="Another-pw-3")])

    for password in (BOOTSTRAP, WANTED, "Another-pw-3"):
        assert password not in good["output"] + bad["output"]
