# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of vCenter, raised for real or on demand: the sentence names the host and the next step, and what passes
is tried again."""

from __future__ import annotations

import time
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support.certificates import tls_server

MODULE = "vcenter_add_host"
NAME, OTHER = "esx01.example.com", "esx02.example.com"


def run(run_module: t.Any, here: t.Any, *hosts: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", run_module(MODULE, **here.center.options(), hosts=list(hosts), **more))


def said(result: dict[str, t.Any], name: str = NAME) -> str:
    """What is said of a host that failed."""
    one = result["hosts"][name]
    assert one["failed"], one
    assert name in one["msg"]
    return str(one["msg"])


class TestRaisedForReal:
    """The vCenter looks for itself and finds what is wrong; nobody told it what to say."""

    def test_InvalidLogin(self, run_module, site, listing) -> None:
        here = site()

        result = run(run_module, here, here.host(NAME, password="wrong-secret"), here.host(OTHER), retry_for=30)

        assert "refuses the login of root" in said(result) and "esxi_root_password" in said(result)
        assert here.hosts[NAME].state()["failed_logins"] == 1, "a wrong password is tried once"
        assert list(listing(here.center)) == [OTHER]

    def test_SSLVerifyFault(self, run_module, site, authority, listing) -> None:
        """The name leads vCenter to another machine than the address leads us to."""
        here = site()
        definition, impostor = here.host(NAME), authority.esxi()
        here.resolve("esx03.example.com", "127.0.0.2")
        with tls_server(impostor, ("127.0.0.2", definition["port"])):
            result = run(run_module, here, {**definition, "name": "esx03.example.com"}, retry_for=30)

        message = said(result, "esx03.example.com")
        assert f"vCenter sees another certificate at esx03.example.com:{definition['port']}" in message
        assert impostor.fingerprint("sha1") in message and here.hosts[NAME].pair.fingerprint("sha1") in message
        assert "check what esx03.example.com resolves to on vCenter" in message
        assert listing(here.center) == {}
        assert here.center.calls().count("AddHost_Task") == 1

    def test_NoHost(self, run_module, site, listing) -> None:
        here = site()
        definition = {**here.host(NAME), "name": "esx09.invalid"}

        result = run(run_module, here, definition)

        message = said(result, "esx09.invalid")
        assert "vCenter cannot reach esx09.invalid" in message and "resolves the name to 127.0.0.1" in message
        assert listing(here.center) == {}

    def test_AlreadyBeingManaged(self, run_module, site) -> None:
        first, second = site(), site()
        definition = first.host(NAME)
        second.resolve(NAME)
        run(run_module, first, definition)

        message = said(run(run_module, second, definition))

        assert f"managed by another vCenter already (127.0.0.1:{first.center.port})" in message
        assert "remove it there first" in message

    def test_AlreadyConnected(self, run_module, site) -> None:
        here = site()
        definition = here.host(NAME)
        here.resolve("alias.example.com")
        run(run_module, here, definition)

        message = said(run(run_module, here, {**definition, "name": "alias.example.com"}), "alias.example.com")

        assert f"under the name {NAME}" in message and "remove that entry, or use that name" in message

    def test_DuplicateName(self, run_module, site, in_vcenter, listing) -> None:
        here = site()
        in_vcenter(
            here.center,
            lambda content: next(
                one for one in content.rootFolder.childEntity if one.name == "DC0"
            ).hostFolder.CreateFolder(NAME),
        )

        message = said(run(run_module, here, here.host(NAME, cluster=None, folder="/"), retry_for=30))

        assert f"Another object in /DC0/host has the name {NAME}" in message and "rename it" in message
        assert here.center.calls().count("AddStandaloneHost_Task") == 1

    def test_TooManyHosts(self, run_module, site, listing) -> None:
        here = site(gateway=["--most-hosts", "1"])

        result = run(run_module, here, here.host(NAME), here.host(OTHER), parallel=1)

        assert "takes no more hosts than it has" in said(result, OTHER)
        assert "bigger licence, or remove a host" in said(result, OTHER)
        assert list(listing(here.center)) == [NAME]

    def test_NotEnoughLicenses_and_an_unknown_licence(self, run_module, site) -> None:
        here = site(gateway=["--license", "AAAAA-BBBBB:1"])
        hosts = [here.host(NAME, license="AAAAA-BBBBB"), here.host(OTHER, license="AAAAA-BBBBB")]
        hosts.append(here.host("esx03.example.com", license="CCCCC-DDDDD"))

        result = run(run_module, here, *hosts, parallel=1)

        assert "no licence left" in said(result, OTHER) and "add capacity to the key" in said(result, OTHER)
        unknown = said(result, "esx03.example.com")
        assert "does not have the licence" in unknown and "add the key to vCenter's licences" in unknown
        assert "AAAAA" not in result["output"] and "CCCCC" not in result["output"]

    @pytest.mark.parametrize(
        ("privilege", "place"),
        [
            ("Host.Inventory.AddHostToCluster", {}),
            ("Host.Inventory.AddStandaloneHost", {"cluster": None, "folder": "/"}),
        ],
    )
    def test_NoPermission(self, run_module, site, privilege, place) -> None:
        here = site(gateway=["--deny", privilege])

        message = said(run(run_module, here, here.host(NAME, **place)))

        assert f"lacks the privilege {privilege} on /DC0/host" in message and "give it to the user's role" in message

    def test_a_thumbprint_is_not_enough_for_a_vcenter_of_9(self, run_module, site, tmp_path) -> None:
        """An older pyVmomi cannot send the certificate: what vCenter says then has a sentence of its own."""
        here = site("-api-version", "9.0.0.0")
        older = tmp_path / "older"
        older.mkdir()
        # As the module sees an older pyVmomi: its ConnectSpec has no sslCertificate.
        (older / "sitecustomize.py").write_text(
            "import importlib.abc, sys\n"
            "class Older(importlib.abc.MetaPathFinder):\n"
            "    def find_spec(self, name, path, target=None):\n"
            "        if name.endswith('module_utils._vcenter_steps'):\n"
            "            sys.meta_path.remove(self)\n"
            "            from pyVmomi import vim\n"
            "            vim.host.ConnectSpec._propInfo.pop('sslCertificate', None)\n"
            "            vim.host.ConnectSpec._propList[:] = [\n"
            "                one for one in vim.host.ConnectSpec._propList if one.name != 'sslCertificate'\n"
            "            ]\n"
            "        return None\n"
            "sys.meta_path.insert(0, Older())\n",
            encoding="utf-8",
        )
        import os

        path = os.pathsep.join([str(older), os.environ.get("PYTHONPATH", "")])

        message = said(run(run_module, here, here.host(NAME), env={"PYTHONPATH": path}))

        assert "vCenter sees the right certificate" in message and "pyVmomi 9.0 or newer" in message


RAISED_ON_DEMAND = [
    ("HostConnectFault", {}, "could not connect to", "look at the host's events"),
    ("NotSupportedHost", {"productName": "ESXi", "productVersion": "6.0.0"}, "ESXi 6.0.0", "update vCenter first"),
    ("AgentInstallFailed", {"reason": "AgentUploadFailed"}, "could not install its agent", "free space"),
    ("LicenseRestricted", {}, "are restricted", "check vCenter's own licence"),
    ("LicenseAssignmentFailed", {"reason": "keyEntityMismatch"}, "keyEntityMismatch", "check that the key"),
    ("PasswordExpired", {}, "has expired", "set a new one at the host"),
    ("Timedout", {}, "gave up waiting", "check the network"),
    ("TaskInProgress", {}, "busy", "run again"),
    ("HostNotReachable", {}, "vCenter lost", "check that the host is up"),
    ("InvalidState", {}, "in the state that it is in", "look at its connection"),
    ("SystemError", {"reason": "Odd."}, "Odd.", "look at its recent tasks"),
]


@pytest.fixture
def demanding(site) -> t.Any:
    """One vCenter and a host, for faults on demand."""
    # old clients and servers are told of newer faults by an older kind
    here = site("-api-version", "8.0.3.0")
    here.first = here.host(NAME)
    return here


def test_faults_on_demand(run_module, demanding, listing) -> None:
    """As the end of the task, for every fault that no stand-in host can bring about; one vCenter for all of them."""
    here = demanding
    for kind, fields, meaning, next_step in RAISED_ON_DEMAND:
        here.center.trouble({"method": "AddHost_Task", "task_fault": {"kind": kind, "fields": fields}})

        message = said(run(run_module, here, here.first))

        assert meaning in message and next_step in message, f"{kind}: {message}"
        assert listing(here.center) == {}
    assert here.center.calls().count("AddHost_Task") == len(RAISED_ON_DEMAND), "each was tried once"
    here.center.trouble()
    assert run(run_module, here, here.first)["changed"]


class TestTriedAgain:
    def test_what_passes(self, run_module, site, listing) -> None:
        here = site()
        kinds = ["NoHost", "TaskInProgress", "Timedout", "HostNotReachable"]
        hosts = [here.host(f"{kind.lower()}.example.com") for kind in kinds]
        here.center.trouble(
            *(
                {
                    "method": "AddHost_Task",
                    "contains": f"{kind.lower()}.example.com",
                    "count": 2,
                    "task_fault": {"kind": kind},
                }
                for kind in kinds
            )
        )

        begin = time.monotonic()
        result = run(run_module, here, *hosts, retry_for=30)

        assert {one["action"] for one in result["hosts"].values()} == {"added"}, result["msg"]
        assert here.center.calls().count("AddHost_Task") == 3 * len(kinds)
        assert time.monotonic() - begin >= 3, "one second, then two"
        assert {state for _place, state in listing(here.center).values()} == {"connected"}

    def test_not_for_ever(self, run_module, site, listing) -> None:
        here = site()
        here.center.trouble({"method": "AddHost_Task", "contains": NAME, "task_fault": {"kind": "NoHost"}})

        result = run(run_module, here, here.host(NAME), here.host(OTHER), retry_for=4)

        assert "It was tried 3 times." in said(result)
        assert list(listing(here.center)) == [OTHER], "the other one did not wait for it"

    def test_503_in_the_middle(self, run_module, site, listing) -> None:
        here = site()
        hosts = [here.host(f"esx{number}.example.com") for number in range(4)]
        here.center.trouble({"method": "AddHost_Task", "skip": 1, "count": 2, "status": 503})

        result = run(run_module, here, *hosts, retry_for=30, parallel=1)

        assert not result["failed_hosts"], result["msg"]
        assert {one["action"] for one in result["hosts"].values()} == {"added"}
        assert len(listing(here.center)) == 4

    def test_the_answer_to_an_add_is_lost(self, run_module, site, listing) -> None:
        """The connection breaks when vCenter has begun: the next look tells that it is done, and it is not repeated."""
        here = site()
        here.center.trouble({"method": "AddHost_Task", "count": 1, "drop": "after"})

        result = run(run_module, here, here.host(NAME), retry_for=30)

        assert result["hosts"][NAME]["action"] == "added" and result["changed"], result["msg"]
        assert here.center.calls().count("AddHost_Task") == 1
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

    def test_the_connection_breaks_before_it(self, run_module, site, listing) -> None:
        here = site()
        here.center.trouble({"method": "AddHost_Task", "count": 1, "drop": "before"})

        result = run(run_module, here, here.host(NAME), retry_for=30)

        assert result["hosts"][NAME]["action"] == "added", result["msg"]
        assert here.center.calls().count("AddHost_Task") == 2

    def test_vcenter_ends_the_session(self, run_module, site, listing) -> None:
        here = site()
        hosts = [here.host(f"esx{number}.example.com") for number in range(3)]
        here.center.trouble({"method": "AddHost_Task", "skip": 1, "count": 1, "fault": {"kind": "NotAuthenticated"}})

        result = run(run_module, here, *hosts, retry_for=30, parallel=1)

        assert not result["failed_hosts"], result["msg"]
        assert len(listing(here.center)) == 3
        assert here.center.calls().count("Login") >= 2

    def test_a_password_that_was_changed_meanwhile_is_not_tried_again_and_again(self, run_module, site) -> None:
        """vCenter has ended the session and lets nobody in any more: one login, and every host is named."""
        here = site()
        here.center.trouble(
            {"method": "AddHost_Task", "count": 1, "fault": {"kind": "NotAuthenticated"}},
            {"method": "Login", "skip": 1, "fault": {"kind": "InvalidLogin"}},
        )

        result = run(run_module, here, here.host(NAME), here.host(OTHER), retry_for=30)

        assert result["failed_hosts"] == [NAME, OTHER]
        assert "refuses the login of administrator" in result["hosts"][OTHER]["msg"]
        assert here.center.calls().count("Login") == 2

    def test_a_host_that_comes_up_in_time(self, run_module, site, listing) -> None:
        import threading

        here = site()
        definition = here.host(NAME)
        here.shut_down(NAME)

        def later() -> None:
            time.sleep(2)
            here.boot(NAME, definition["port"])
            done.wait(60)

        done = threading.Event()
        thread = threading.Thread(target=later)
        # a stand-in ends with the thread that started it
        thread.start()
        try:
            # the folder of its first boot has its state; the certificate is a new one, so nobody compares it
            unknown = {**definition, "trust_on_first_use": True}
            del unknown["certificate"]
            result = run(run_module, here, unknown, retry_for=30)
            assert result["hosts"][NAME]["action"] == "added", result["msg"]
        finally:
            done.set()
            thread.join()


def test_a_task_that_does_not_end_fails_its_host_alone(run_module, site, listing) -> None:
    here = site()
    here.center.trouble({"method": "AddHost_Task", "contains": NAME, "task_delay": 30})

    result = run(run_module, here, here.host(NAME), here.host(OTHER), timeout=2)

    assert "has not finished" in said(result) and "run again to find out" in said(result)
    assert result["hosts"][OTHER]["action"] == "added"


def test_progress(run_module, site, tmp_path) -> None:
    here = site()
    lines = tmp_path / "progress"

    run(run_module, here, here.host(NAME), here.host(OTHER, password="wrong-secret"), progress_file=str(lines))

    shown = lines.read_text(encoding="utf-8").splitlines()
    assert shown[-1] == "2 of 2 hosts are settled, 1 have failed"
    assert shown[0].startswith("1 of 2 hosts are settled")
