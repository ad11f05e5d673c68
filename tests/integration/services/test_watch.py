# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines watch of the real service: JSON, events and metrics, over its death and over changes by modules."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import random
import shutil
import socket
import subprocess
import typing as t

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import Site
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import Served, fill, name_of, serving

NAME, MAC, ADDRESS = "esx01.example.com", "00:50:56:aa:bb:01", "192.168.77.21"


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path, site="ber1")


class Stream:
    """A reader of the event stream, as a library for server-sent events is one."""

    def __init__(self, served: Served, query: str = "", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        accept = {"Accept": "text/event-stream", **{key.replace("_", "-"): value for key, value in headers.items()}}
        self._connection.request("GET", f"/api/v1/events{query}", headers=accept)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.cursor = headers.get("Last_Event_ID", "")

    def __iter__(self) -> t.Iterator[tuple[str, t.Any]]:
        """Events as (kind, data) until the server is gone."""
        kind = data = cursor = ""
        try:
            while True:
                line = self._response.readline().decode().rstrip("\n")
                if not line:
                    if not data:
                        return
                    self.cursor = cursor
                    yield kind, json.loads(data)
                    kind = data = ""
                word, _colon, value = line.partition(": ")
                if word == "id":
                    cursor = value
                elif word == "event":
                    kind = value
                elif word == "data":
                    data = value
        except (OSError, http.client.HTTPException):
            return

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def arm(site: Site, name: str = NAME) -> str:
    site.arm(name, [MAC], [ADDRESS], now())
    return site.mint(name, MAC, now())


def tell(served: Served, token: str, stage: str, **report: t.Any) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    headers = {"Authorization": f"Bearer {token}", "X-Real-IP": ADDRESS}
    connection.request("POST", "/pbconnect/v1/notify", json.dumps({"stage": stage, **report}), headers)
    with contextlib.closing(connection):
        return connection.getresponse().status


# -- events


def test_what_hosts_and_modules_do_comes_as_events(site):
    with serving(site) as served:
        stream = Stream(served)
        events = iter(stream)
        assert next(events) == ("hello", {})
        token = arm(site)  # as a module: files alone
        assert tell(served, token, "installing", message="hello") == 200
        found = []
        while not found or found[-1]["stage"] != "installing":
            kind, event = next(events)
            assert kind == "host"
            found.append(event)
        assert {(event["host"], event["site"]) for event in found} == {(NAME, "ber1")}
        assert found[-1]["type"] == "stage"
        assert found[-1]["mode"] == "local"
        assert found[-1]["status"]["message"] == "hello"
        site.layout.status(NAME).unlink()
        assert next(events)[1]["type"] == "removed"
        stream.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_reader_loses_nothing_over_reconnects_and_kills(site, seed):
    """Every stage of every host arrives, once and in order, whoever was killed between writing and telling."""
    rng = random.Random(seed)
    hosts = {f"esx{number:02d}.example.com": "defined" for number in range(8)}
    order = ["defined", "armed", "installing", "installed", "ready"]
    told: list[tuple[str, str]] = []
    ids: list[str] = []
    cursor = "begin"
    with serving(site) as served:
        for name in hosts:
            site.write_status(Status.new(name, "esxi-8.0.3", now()))
        while set(hosts.values()) != {"ready"}:
            for _step in range(rng.randint(1, 6)):
                name = rng.choice(list(hosts))
                following = order[min(order.index(hosts[name]) + 1, 4)]
                status = site.status(name)
                if following == "armed":
                    status = status.armed(Install.new(name, [MAC], [], None, now(), 3600), now())
                elif hosts[name] != "ready":
                    status = status.notified(following, now())
                site.write_status(status)
                hosts[name] = following
            if rng.random() < 0.4:
                served.kill()
                served.start()
            if rng.random() < 0.5:
                # Some of what there is, then the reader goes away in the middle of it.
                answer = served.get(f"/api/v1/events?after={cursor}&limit={rng.randint(1, 5)}").json
                for event in answer["events"]:
                    told.append((event["host"], event["stage"]))
                    ids.append(event["id"])
                cursor = answer["cursor"]
        stream = Stream(served, **({"Last_Event_ID": cursor} if cursor != "begin" else {}), query="?after=begin")
        for kind, event in stream:
            if kind == "host":
                told.append((event["host"], event["stage"]))
                ids.append(event["id"])
            if sum(stage == "ready" for _host, stage in told) == len(hosts):
                break
        stream.close()
    assert len(set(ids)) == len(ids)
    assert [int(number.split("-")[1]) for number in ids] == list(range(1, len(ids) + 1))
    for name in hosts:
        seen = [stage for host, stage in told if host == name]
        assert list(dict.fromkeys(seen)) == order or list(dict.fromkeys(seen)) == order[1:], name
        assert seen == sorted(seen, key=order.index)


def test_a_cursor_that_is_too_old_or_unknown_is_said_to_be(site):
    with serving(site) as served:
        answer = served.get("/api/v1/events?after=00000000-5")
        assert (answer.status, answer.json["reason"]) == (410, "unknown_log")
        assert served.get(f"/api/v1/events?after={answer.json['cursor']}").status == 200
        stream = Stream(served, Last_Event_ID="00000000-5")
        found = [event for _number, event in zip(range(2), stream)]
        assert found[1][0] == "reset"
        assert found[1][1]["cursor"] == stream.cursor == answer.json["cursor"]
        stream.close()
        for wrong in ("x", "00000000-", "../..", "0a1b2c3d-1%0aevent:%20host"):
            assert served.get(f"/api/v1/events?after={wrong}").status == 400
        assert served.get("/api/v1/events?limit=0").status == 400


def test_a_stream_of_one_host_is_about_that_host(site):
    with serving(site) as served:
        stream = Stream(served, f"?host={NAME}")
        events = iter(stream)
        next(events)
        for name in ("esx02.example.com", NAME):
            site.write_status(Status.new(name, None, now()))
            site.write_status(Status.new(name, "esxi-8.0.3", now()))
        assert next(event for kind, event in events if kind == "host")["host"] == NAME
        stream.close()


def test_the_service_ends_although_somebody_follows(site):
    with serving(site) as served:
        stream = Stream(served)
        assert next(iter(stream))[0] == "hello"
        served.stop()
        assert list(stream) == []


# -- JSON


def test_pages_and_filters_of_the_json_and_of_the_page_without_a_script(site):
    fill(site, 250, now())
    with serving(site) as served:
        names: list[str] = []
        for page in (1, 2, 3):
            answer = served.get(f"/api/v1/hosts?page={page}").json
            assert (answer["total"], answer["pages"], answer["site"]) == (250, 3, "ber1")
            names += [host["host"] for host in answer["hosts"]]
        assert names == [name_of(number) for number in range(1, 251)]
        active = served.get("/api/v1/hosts?stage=active&per_page=1000").json
        assert (
            active["total"]
            == len(active["hosts"])
            == sum(active["counts"][s] for s in ("armed", "installing", "installed"))
        )
        assert served.get("/api/v1/hosts?stage=x").status == 400
        assert served.get("/api/v1/hosts/none.example.com").status == 404
        assert served.get("/api/v1/hosts/..%2f..%2fserver").status == 404
        found = served.get("/watch/?q=esx00123&order=name").text
        assert found.count('<tr id="host-') == 1
        assert 'value="esx00123"' in found
        assert served.get("/watch/?page=3&order=name").text.count('<tr id="host-') == 50
        assert served.get("/watch/?stage=x").status == 400
        assert served.get("/watch/hosts/none.example.com").status == 404


def test_no_interface_shows_a_key_or_a_token(tmp_path):
    server = PxeServer(tmp_path, listen={"host": "127.0.0.1", "port": 0}, address="127.0.0.1")
    for folder in (server.layout.status_dir, server.layout.installs_dir, server.layout.locks_dir):
        folder.mkdir(parents=True, exist_ok=True)
    given = definition()
    server.write_kickstarts(given)
    server.good("armed", given, now=now())
    install, token = server.install(NAME).mint(given["macs"][0], now())
    server.layout.install(NAME).write_text(json.dumps(install.to_json()))
    secrets = (install.key, token, token.split("~")[1], install.tokens[0].sha256)
    with serving(server) as served:
        assert tell(served, token, "installing", message=f"my token is {token} /ks/{install.key}/x") in (200, 403)
        for path in (
            "/watch/",
            f"/watch/hosts/{NAME}",
            "/metrics",
            f"/api/v1/hosts/{NAME}",
        ):
            answer = served.get(path)
            assert answer.status == 200, path
            for secret in secrets:
                assert secret not in answer.text, path


# -- metrics


def test_the_metrics_count_what_happened(site):
    with serving(site) as served:
        token = arm(site)
        assert tell(served, token, "installing") == 200
        assert tell(served, token, "installing") == 200
        assert tell(served, token[:-3] + "AAA", "installed") == 403
        answer = served.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        outcomes = {key[1]: value for key, value in found.items() if key[0] == "esxi_pxe_notifications_total"}
        assert {key: value for key, value in outcomes.items() if value} == {
            "accepted": 1,
            "duplicate": 1,
            "forbidden": 1,
        }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of the distribution's package prometheus")
def test_promtool_finds_nothing_to_say(site, tmp_path):
    fill(site, 50, now())
    with serving(site) as served:
        text = served.get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- who may read


def test_only_this_machine_and_only_by_its_names(site):
    with serving(site) as served:
        for path in ("/watch/", "/metrics", "/api/v1/hosts", "/api/v1/events", "/watch/static/page.js"):
            assert served.get(path).status == 200, path
            assert served.get(path, Host=f"localhost:{served.port}").status == 200
            # A name that somebody else has made to lead here.
            for host in (
                site.config.address + ".evil.example.com",
                "192.168.77.10",
                "evil.example.com",
                "127.0.0.1.evil.example.com",
                "[",
                "",
            ):
                assert served.get(path, Host=host).status in (400, 403), (path, host)


def test_a_location_of_nginx_that_asks_for_no_password_opens_nothing(site):
    with serving(site) as served:
        for path in ("/watch/", "/metrics", "/api/v1/hosts", "/api/v1/events"):
            assert served.get(path, Host="localhost", X_Real_IP="192.168.77.99").status == 403, path
            assert served.get(path, Host="localhost", X_Real_IP="").status == 403, path


def other_address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return None


@pytest.mark.skipif(other_address() is None, reason="this machine has no address but loopback")
def test_listening_elsewhere_opens_nothing_to_others(tmp_path):
    address = other_address()
    site = Site(tmp_path, address=address, listen={"host": "0.0.0.0", "port": 0})
    with serving(site) as served:
        for path in ("/watch/", "/metrics", "/api/v1/hosts", "/api/v1/events"):
            connection = http.client.HTTPConnection(str(address), served.port, timeout=20)
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"X-Real-IP": "127.0.0.1"})
                assert connection.getresponse().status == 403, path


def test_every_answer_is_closed_to_other_sites_and_nothing_can_be_written(site):
    site.publish(NAME, [MAC], now())
    with serving(site) as served:
        for path in ("/watch/", f"/watch/hosts/{NAME}", "/watch/static/page.css", "/api/v1/hosts", "/metrics"):
            headers = served.get(path).headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in headers
        for path in ("/watch/", "/api/v1/hosts", "/api/v1/events", "/metrics"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
                with contextlib.closing(connection):
                    connection.request(method, path, "{}")
                    assert connection.getresponse().status == 405
