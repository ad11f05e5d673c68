# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_add_host against a real vcsim, and against one with a gateway that looks at the hosts as a vCenter does."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
import time
import typing as t
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins
from ansible_collections.pxemanager.esxi.tests.support.certificates import Authority, Pair, tls_server

MODULE = "vcenter_add_host"
HOST_PASSWORD = "Root-secret-7!"
WRITES = ("AddHost_Task", "AddStandaloneHost_Task")


@pytest.fixture
def host_pair(authority: Authority) -> Pair:
    return authority.esxi()


@pytest.fixture
def host_port(start: t.Callable[..., t.Any], host_pair: Pair) -> int:
    """A port that presents the hosts' certificate; vcsim itself never looks at a host."""
    return t.cast(int, start(tls_server(host_pair))[0])


@pytest.fixture
def host(host_pair: Pair, host_port: int) -> t.Callable[..., dict[str, t.Any]]:
    def definition(name: str, **changes: t.Any) -> dict[str, t.Any]:
        known = {
            "name": name,
            "address": "127.0.0.1",
            "port": host_port,
            "password": HOST_PASSWORD,
            "certificate": host_pair.pem,
            "datacenter": "DC0",
            "cluster": "DC0_C1",
        }
        return {key: value for key, value in {**known, **changes}.items() if value is not None}

    return definition


def test_adds_hosts_once_over_one_session(run_module, vcsim, host, listing) -> None:
    hosts = [host("esx01.example.com"), host("esx02.example.com", cluster="DC0_C0"), host("esx03.example.com")]

    first = run_module(MODULE, **vcsim.options(), hosts=hosts)

    assert first["changed"] and not first.get("failed"), first["msg"]
    assert first["hosts"]["esx02.example.com"] == {
        "changed": True,
        "failed": False,
        "action": "added",
        "path": "/DC0/host/DC0_C0/esx02.example.com",
        "msg": "esx02.example.com was added at /DC0/host/DC0_C0/esx02.example.com.",
        "steps": ["add"],
    }
    assert listing(vcsim) == {
        "esx01.example.com": ("DC0_C1", "connected"),
        "esx02.example.com": ("DC0_C0", "connected"),
        "esx03.example.com": ("DC0_C1", "connected"),
    }
    assert {
        "before_header": "esx01.example.com",
        "after_header": "esx01.example.com",
        "before": "",
        "after": "path: /DC0/host/DC0_C1/esx01.example.com\nstate: connected\nmaintenance_mode: false\n",
    } in first["diff"]

    second = run_module(MODULE, **vcsim.options(), hosts=hosts)

    assert not second["changed"] and not second.get("failed")
    assert {result["action"] for result in second["hosts"].values()} == {"present"}
    assert second["hosts"]["esx01.example.com"]["path"] == "/DC0/host/DC0_C1/esx01.example.com"
    assert "diff" not in second
    assert len(vcsim.requests("AddHost_Task")) == 3


def test_one_call_is_one_session_that_is_ended(run_module, vcsim, host) -> None:
    run_module(
        MODULE, **vcsim.options(), hosts=[host(f"esx{number:02d}.example.com") for number in range(20)], parallel=4
    )

    assert len(vcsim.requests("AddHost_Task")) == 20
    assert len(vcsim.requests("Login")) == 1
    assert len(vcsim.requests("Logout")) == 1


def test_check_mode_foresees_everything_and_writes_nothing(run_module, vcsim, host, listing, authority) -> None:
    run_module(MODULE, **vcsim.options(), hosts=[host("there.example.com")])
    before, writes = listing(vcsim), [len(vcsim.requests(method)) for method in WRITES]
    hosts = [
        host("there.example.com"),
        host("new.example.com"),
        host("alone.example.com", cluster=None, folder="/"),
        host("other.example.com", certificate=authority.esxi().pem),
    ]

    result = run_module(MODULE, check=True, **vcsim.options(), hosts=hosts, on_host_failure="report")

    assert {name: (one["changed"], one["failed"], one["action"]) for name, one in result["hosts"].items()} == {
        "there.example.com": (False, False, "present"),
        "new.example.com": (True, False, "added"),
        "alone.example.com": (True, False, "added"),
        "other.example.com": (False, True, "none"),
    }
    assert result["hosts"]["new.example.com"]["path"] == "/DC0/host/DC0_C1/new.example.com"
    assert "would be added" in result["hosts"]["new.example.com"]["msg"]
    assert len(result["diff"]) == 2
    assert listing(vcsim) == before
    assert [len(vcsim.requests(method)) for method in WRITES] == writes


def test_the_case_of_a_name_does_not_matter(run_module, vcsim, host, listing) -> None:
    run_module(MODULE, **vcsim.options(), hosts=[host("ESX01.Example.com")])

    again = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com")])

    assert not again["changed"]
    assert again["hosts"]["esx01.example.com"]["path"] == "/DC0/host/DC0_C1/ESX01.Example.com"
    assert list(listing(vcsim)) == ["ESX01.Example.com"]


def test_another_certificate_is_refused_before_anything_is_sent(run_module, vcsim, host, listing, authority) -> None:
    other = authority.esxi()

    result = run_module(
        MODULE, **vcsim.options(), hosts=[host("esx01.example.com", certificate=other.pem), host("esx02.example.com")]
    )

    assert result["failed"] and result["failed_hosts"] == ["esx01.example.com"]
    message = result["hosts"]["esx01.example.com"]["msg"]
    assert "not the one that esx01.example.com reported" in message
    assert other.fingerprint("sha256") in message
    assert list(listing(vcsim)) == ["esx02.example.com"]


def test_trust_on_first_use_says_whom_it_trusted(run_module, vcsim, host, host_pair, listing) -> None:
    unknown = host("esx01.example.com", certificate=None)

    refused = run_module(MODULE, **vcsim.options(), hosts=[unknown])
    assert refused["failed"] and "No certificate is given" in refused["msg"]
    assert listing(vcsim) == {}

    trusted = run_module(MODULE, **vcsim.options(), hosts=[{**unknown, "trust_on_first_use": True}])
    message = trusted["hosts"]["esx01.example.com"]["msg"]
    assert "because of trust_on_first_use" in message and host_pair.fingerprint("sha256") in message
    assert list(listing(vcsim)) == ["esx01.example.com"]


def test_trust_on_first_use_does_not_weaken_a_known_certificate(run_module, vcsim, host, listing, authority) -> None:
    result = run_module(
        MODULE,
        **vcsim.options(),
        hosts=[host("esx01.example.com", certificate=authority.esxi().pem, trust_on_first_use=True)],
    )

    assert result["failed"] and "not the one" in result["msg"]
    assert listing(vcsim) == {}


def test_nobody_at_the_address(run_module, vcsim, host, listing) -> None:
    result = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com", port=1), host("esx02.example.com")])

    assert "Cannot connect to 127.0.0.1:1" in result["hosts"]["esx01.example.com"]["msg"]
    assert list(listing(vcsim)) == ["esx02.example.com"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ({"datacenter": "Berlin"}, "There is no datacenter 'Berlin' in vCenter; there is: DC0, DC1."),
        ({"cluster": "Nope"}, "There is no cluster 'Nope' in datacenter DC0; there is: DC0_C0, DC0_C1."),
        # a cluster of another datacenter is none of this one's
        ({"cluster": "DC1_C0"}, "There is no cluster 'DC1_C0' in datacenter DC0; there is: DC0_C0, DC0_C1."),
        (
            {"cluster": None, "folder": "Edge"},
            "There is no host folder 'Edge' in datacenter DC0; there is none at all (or this vCenter user sees none). "
            "With create_folders it would be created.",
        ),
        (
            {"cluster": "DC0_C0", "folder": "/"},
            "Exactly one of cluster and folder must be given (folder: / is the datacenter's own host folder).",
        ),
    ],
)
def test_a_place_that_is_not_there(run_module, vcsim, host, listing, place, sentence) -> None:
    result = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com", **place)])

    assert result["hosts"]["esx01.example.com"]["msg"] == sentence
    assert listing(vcsim) == {}


def test_standalone_hosts_in_folders(run_module, vcsim, host, listing, authority) -> None:
    _in_vcenter(
        authority, vcsim, lambda content: _host_folder(content, "DC0").CreateFolder("Edge").CreateFolder("R%2f1")
    )
    hosts = [
        host("top.example.com", cluster=None, folder="/"),
        host("edge.example.com", cluster=None, folder="Edge"),
        host("full.example.com", cluster=None, folder="/DC0/host/Edge"),
    ]

    first = run_module(MODULE, **vcsim.options(), hosts=hosts)
    second = run_module(MODULE, **vcsim.options(), hosts=hosts)

    assert {name: one["path"] for name, one in first["hosts"].items()} == {
        "top.example.com": "/DC0/host/top.example.com",
        "edge.example.com": "/DC0/host/Edge/edge.example.com",
        "full.example.com": "/DC0/host/Edge/full.example.com",
    }
    assert listing(vcsim) == {
        "top.example.com": ("host", "connected"),
        "edge.example.com": ("Edge", "connected"),
        "full.example.com": ("Edge", "connected"),
    }
    assert first["changed"] and not second["changed"], second["msg"]
    assert {name: one["path"] for name, one in second["hosts"].items()} == {
        name: one["path"] for name, one in first["hosts"].items()
    }


def test_a_host_that_is_elsewhere_stays_there_where_it_may_not_be_moved(run_module, vcsim, host, listing) -> None:
    run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com", cluster="DC0_C0")])

    result = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com", cluster="DC0_C1", move=False)])

    one = result["hosts"]["esx01.example.com"]
    assert one["failed"] and one["path"] == "/DC0/host/DC0_C0/esx01.example.com"
    assert one["msg"].startswith(
        "esx01.example.com is in this vCenter already, at /DC0/host/DC0_C0/esx01.example.com, but should be in "
        "/DC0/host/DC0_C1: allow it with move"
    )
    assert listing(vcsim) == {"esx01.example.com": ("DC0_C0", "connected")}


def test_a_disconnected_host_is_reported_where_it_may_not_be_reconnected(run_module, vcsim, host, authority) -> None:
    def add_disconnected(content: t.Any) -> None:
        from pyVmomi import vim

        cluster = next(one for one in _host_folder(content, "DC0").childEntity if one.name == "DC0_C1")
        cluster.AddHost_Task(spec=vim.host.ConnectSpec(hostName="esx01.example.com", force=False), asConnected=False)

    _in_vcenter(authority, vcsim, add_disconnected)

    result = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com", reconnect=False)])

    assert result["failed"]
    assert "vCenter shows it as disconnected" in result["msg"]
    assert vcsim.requests("AddHost_Task")[1:] == []


def test_a_host_that_was_removed_is_added_again(run_module, vcsim, host, listing, authority) -> None:
    """The cluster goes on naming the removed host: a dangling reference, over which a naive listing falls."""
    hosts = [host("esx01.example.com"), host("esx02.example.com")]
    run_module(MODULE, **vcsim.options(), hosts=hosts)

    def destroy(content: t.Any) -> None:
        cluster = next(one for one in _host_folder(content, "DC0").childEntity if one.name == "DC0_C1")
        next(one for one in cluster.host if one.name == "esx01.example.com").Destroy_Task()

    _in_vcenter(authority, vcsim, destroy)
    assert list(listing(vcsim)) == ["esx02.example.com"]

    result = run_module(MODULE, **vcsim.options(), hosts=hosts)

    assert {name: one["action"] for name, one in result["hosts"].items()} == {
        "esx01.example.com": "added",
        "esx02.example.com": "present",
    }
    assert sorted(listing(vcsim)) == ["esx01.example.com", "esx02.example.com"]


@pytest.mark.parametrize("version", ["7.0.3.0", "8.0.3.0", "9.0.0.0"])
def test_vcenter_is_told_the_certificate_as_its_version_wants_it(
    run_module, start, server_pair, tmp_path, host, host_pair, version
) -> None:
    center = start(stand_ins.vcsim(server_pair, tmp_path / "log", "-api-version", version))

    result = run_module(MODULE, **center.options(), hosts=[host("esx01.example.com")])

    assert not result.get("failed"), result["msg"]
    (request,) = center.requests("AddHost_Task")
    told = (
        re.search("<sslThumbprint>(.*?)</sslThumbprint>", request),
        re.search("<sslCertificate>(.*?)</sslCertificate>", request, re.DOTALL),
    )
    if version.startswith("9"):
        assert told[0] is None and told[1] is not None
        assert ssl.PEM_cert_to_DER_cert(told[1][1]) == ssl.PEM_cert_to_DER_cert(host_pair.pem)
    else:
        assert told[1] is None and told[0] is not None
        assert told[0][1] == host_pair.fingerprint("sha1")
    assert "<force>false</force>" in request


def test_passwords_are_nowhere_in_the_output(run_module, vcsim, host) -> None:
    result = run_module(MODULE, **vcsim.options(), hosts=[host("esx01.example.com"), host("esx02.example.com", port=1)])

    assert HOST_PASSWORD not in result["output"]
    assert stand_ins.PASSWORD not in result["output"]


def test_the_connection_to_vcenter_is_checked(run_module, vcsim, host, start, authority, tmp_path) -> None:
    hosts = [host("esx01.example.com")]

    unknown_authority = run_module(
        MODULE, **vcsim.options(), hosts=hosts, env={"SSL_CERT_FILE": str(authority.esxi().cert)}
    )
    assert "is not to be trusted" in unknown_authority["msg"]
    unchecked = run_module(
        MODULE,
        **vcsim.options(),
        hosts=hosts,
        check=True,
        validate_certs=False,
        env={"SSL_CERT_FILE": str(authority.esxi().cert)},
    )
    assert not unchecked.get("failed")
    wrong = run_module(MODULE, **{**vcsim.options(), "password": "wrong"}, hosts=hosts)
    assert re.fullmatch(r"127\.0\.0\.1:\d+ refuses the login of administrator\.", wrong["msg"])
    nobody = run_module(MODULE, **{**vcsim.options(), "port": 1}, hosts=hosts)
    assert "The API at 127.0.0.1:1 does not answer" in nobody["msg"]
    esxi = start(stand_ins.esxi_host(authority.server(), tmp_path / "esxi", HOST_PASSWORD))
    no_vcenter = run_module(MODULE, **{**vcsim.options(), "port": esxi.port}, hosts=hosts)
    assert "is no vCenter" in no_vcenter["msg"]
    assert esxi.state()["failed_logins"] == 0
    nameless = run_module(MODULE, hosts=hosts)
    assert nameless["msg"] == "No hostname of the vCenter is given: set hostname or VMWARE_HOST."


def test_a_vcenter_that_cannot_be_used_is_each_hosts_failure_where_asked(run_module, vcsim, host) -> None:
    """One vCenter that is down must not end a play whose other hosts belong to another one."""
    hosts = [host("esx01.example.com"), host("esx02.example.com")]
    bad = {**vcsim.options(), "password": "wrong"}

    result = run_module(MODULE, **bad, hosts=hosts, on_host_failure="report")

    assert not result.get("failed") and not result["changed"]
    assert result["failed_hosts"] == ["esx01.example.com", "esx02.example.com"]
    for name in result["failed_hosts"]:
        assert result["hosts"][name]["msg"].startswith(f"{name} was left as it is: ")
        assert "refuses the login of administrator" in result["hosts"][name]["msg"]


def test_connection_options_from_the_environment(run_module, vcsim, host, listing) -> None:
    result = run_module(
        MODULE,
        hosts=[host("esx01.example.com")],
        env={
            "VMWARE_HOST": "127.0.0.1",
            "VMWARE_PORT": str(vcsim.port),
            "VMWARE_USER": stand_ins.USER,
            "VMWARE_PASSWORD": stand_ins.PASSWORD,
        },
    )

    assert result["changed"], result["msg"]


def test_vcenter_behind_a_proxy(run_module, vcsim, host, listing) -> None:
    """The name resolves nowhere here: only the proxy can know where it leads. The certificate is checked through it."""
    with _proxy({"localhost": vcsim.port}) as (port, asked):
        through = {**vcsim.options(), "hostname": "localhost", "port": 9, "proxy_host": "127.0.0.1", "proxy_port": port}
        result = run_module(MODULE, **through, hosts=[host("esx01.example.com")])
        assert result["changed"] and not result.get("failed"), result["msg"]
        assert set(asked) == {"CONNECT localhost:9"}
        stranger = run_module(MODULE, **{**through, "hostname": "vcenter.invalid"}, hosts=[host("esx02.example.com")])
        assert "is not to be trusted" in stranger["msg"], "the certificate is for localhost"
    assert list(listing(vcsim)) == ["esx01.example.com"]


def test_mistakes_fail_their_own_host_only(run_module, vcsim, host, listing) -> None:
    hosts = [
        host("esx01.example.com"),
        host("bad name"),
        host("esx03.example.com", password=None, datacenter=None, certificate="no PEM"),
        host("twice.example.com"),
        host("Twice.example.com", cluster="DC0_C0"),
    ]

    result = run_module(MODULE, **vcsim.options(), hosts=hosts, on_host_failure="report")

    assert not result.get("failed")
    assert result["failed_hosts"] == sorted(["bad name", "esx03.example.com", "twice.example.com", "Twice.example.com"])
    assert [reason.split()[0] for reason in result["hosts"]["esx03.example.com"]["reasons"]] == [
        "No",
        "No",
        "certificate:",
    ]
    assert list(listing(vcsim)) == ["esx01.example.com"]


class TestVcenterThatLooks:
    """With a gateway that connects to the hosts itself and raises what a vCenter raises, as failing tasks."""

    @pytest.fixture
    def names(self, tmp_path: Path) -> Path:
        path = tmp_path / "names"
        path.write_text("127.0.0.1 esx01.example.com esx02.example.com\n", encoding="utf-8")
        return path

    @pytest.fixture
    def center(self, start, server_pair, tmp_path, names) -> stand_ins.Vcenter:
        return start(stand_ins.vcenter(server_pair, tmp_path / "vcenter.log", names))

    @pytest.fixture
    def esxi(self, start, authority, tmp_path) -> stand_ins.EsxiHost:
        return start(stand_ins.esxi_host(authority.esxi(), tmp_path / "esxi", HOST_PASSWORD))

    @pytest.fixture
    def defined(self, host, esxi) -> t.Callable[..., dict[str, t.Any]]:
        return lambda name, **changes: host(name, **{"port": esxi.port, "certificate": esxi.pair.pem, **changes})

    def test_a_host_that_is_as_it_should_be(self, run_module, center, defined, listing, esxi) -> None:
        result = run_module(MODULE, **center.options(), hosts=[defined("esx01.example.com")])

        assert result["changed"] and not result.get("failed"), result["msg"]
        assert listing(center) == {"esx01.example.com": ("DC0_C1", "connected")}
        assert esxi.state()["logins"] == 1

    def test_wrong_password_and_unknown_name_fail_alone(self, run_module, center, defined, listing, esxi) -> None:
        hosts = [
            defined("esx01.example.com"),
            defined("esx02.example.com", password="wrong-secret"),
            defined("esx03.invalid", cluster=None, folder="/"),
        ]

        result = run_module(MODULE, **center.options(), hosts=hosts)

        assert result["failed_hosts"] == ["esx02.example.com", "esx03.invalid"]
        assert (
            "esx02.example.com refuses the login of root with the given password"
            in result["hosts"]["esx02.example.com"]["msg"]
        )
        assert (
            f"vCenter cannot reach esx03.invalid:{esxi.port}: check that vCenter resolves the name"
            in result["hosts"]["esx03.invalid"]["msg"]
        )
        assert list(listing(center)) == ["esx01.example.com"]

    def test_vcenter_sees_another_machine_than_we_do(
        self, run_module, center, defined, listing, start, authority, esxi, tmp_path
    ) -> None:
        """The name resolves to another machine on vCenter: found by the thumbprint that it was told."""
        (tmp_path / "names").write_text("127.0.0.2 esx01.example.com\n", encoding="utf-8")
        impostor = authority.esxi()
        with _server_on("127.0.0.2", esxi.port, impostor):
            result = run_module(MODULE, **center.options(), hosts=[defined("esx01.example.com")])

        message = result["hosts"]["esx01.example.com"]["msg"]
        assert "vCenter sees another certificate at esx01.example.com" in message
        assert impostor.fingerprint("sha1") in message and esxi.pair.fingerprint("sha1") in message
        assert listing(center) == {}

    def test_pem_is_checked_by_a_vcenter_of_9(
        self, run_module, start, server_pair, tmp_path, names, defined, listing
    ) -> None:
        center = start(stand_ins.vcenter(server_pair, tmp_path / "log9", names, "-api-version", "9.0.0.0"))

        result = run_module(MODULE, **center.options(), hosts=[defined("esx01.example.com")])

        assert result["changed"] and not result.get("failed"), result["msg"]
        assert list(listing(center)) == ["esx01.example.com"]


@pytest.mark.slow
def test_a_thousand_hosts_over_one_session(run_module, vcsim, host, listing, record_property) -> None:
    hosts = [host(f"esx{number:04d}.example.com", cluster=f"DC0_C{number % 2}") for number in range(1000)]

    begin = time.monotonic()
    first = run_module(MODULE, **vcsim.options(), hosts=hosts)
    middle = time.monotonic()
    second = run_module(MODULE, **vcsim.options(), hosts=hosts)
    end = time.monotonic()

    record_property("seconds_added", round(middle - begin, 1))
    record_property("seconds_unchanged", round(end - middle, 1))
    print(f"1,000 hosts added in {middle - begin:.1f} s, found unchanged in {end - middle:.1f} s")
    assert not first["failed_hosts"] and len(listing(vcsim)) == 1000
    assert not second["changed"] and not second["failed_hosts"]
    assert len(vcsim.requests("Login")) == 3  # two runs and the listing


def _server_on(address: str, port: int, pair: Pair) -> t.ContextManager[t.Any]:
    return tls_server(pair, (address, port))


@contextmanager
def _proxy(places: dict[str, int]) -> t.Iterator[tuple[int, list[str]]]:
    """An HTTP proxy for CONNECT; yields its port and what it was asked for. Unknown names lead to the first place."""
    asked: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(" ".join(self.rfile.readline().decode().split()[:2]))
            while self.rfile.readline().strip():
                pass
            name = asked[-1].split()[1].partition(":")[0]
            target = socket.create_connection(("127.0.0.1", places.get(name, next(iter(places.values())))))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with target, suppress(OSError):
                back = threading.Thread(target=self._pump, args=(target, self.connection), daemon=True)
                back.start()
                self._pump(self.connection, target)

        @staticmethod
        def _pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


def _in_vcenter(authority: Authority, center: stand_ins.Vcenter, work: t.Callable[[t.Any], t.Any]) -> None:
    """Do something in a vCenter as an administrator would."""
    from pyVim import connect

    context = ssl.create_default_context(cafile=str(authority.pair.cert))
    instance = connect.SmartConnect(
        host="127.0.0.1", port=center.port, user=stand_ins.USER, pwd=stand_ins.PASSWORD, sslContext=context
    )
    try:
        work(instance.RetrieveContent())
    finally:
        connect.Disconnect(instance)


def _host_folder(content: t.Any, datacenter: str) -> t.Any:
    return next(one for one in content.rootFolder.childEntity if one.name == datacenter).hostFolder
