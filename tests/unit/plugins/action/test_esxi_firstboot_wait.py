# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action esxi_firstboot_wait: the loop around the module, lines for people, and connections that are lost."""

from __future__ import annotations

import datetime
import signal
import time
import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

from ansible_collections.pxemanager.esxi.plugins.action import esxi_firstboot_wait
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult, timestamp

NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
MAC = "00:50:56:aa:bb:01"


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def armed(name: str) -> Status:
    return Status.new(name, None, NOW).armed(Install.new(name, [MAC], [], None, NOW, 86400), NOW)


class Connection:
    """A connection that counts how often it is taken down."""

    def __init__(self) -> None:
        self.resets = 0
        self._shell = mock.Mock(tmpdir="/tmp/x")

    def reset(self) -> None:
        self.resets += 1


class Server:
    """A PXE server whose hosts change stage at given seconds, behind a fake clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **history: list[tuple[float, Status]]) -> None:
        self.clock = 0.0
        self.history = {name.replace("_", "."): states for name, states in history.items()}
        self.calls: list[dict[str, t.Any]] = []
        self.outages: list[tuple[float, float, t.Any]] = []
        self.shown: list[tuple[float, str]] = []
        self.connection: t.Any = Connection()
        monkeypatch.setattr(
            esxi_firstboot_wait, "time", mock.Mock(monotonic=lambda: self.clock, sleep=self._sleep), raising=True
        )
        display = mock.Mock()
        display.display.side_effect = lambda text: self.shown.append((self.clock, text))
        monkeypatch.setattr(esxi_firstboot_wait, "display", display)

    @property
    def losses(self) -> int:
        return sum("lost the PXE server" in text for _at, text in self.shown)

    def _sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.clock += max(seconds, 0.01)

    def _report(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        reports = {}
        for host in arguments["hosts"]:
            states = self.history.get(host["name"], [])
            past = [(index, status) for index, (at, status) in enumerate(states) if at <= self.clock]
            fingerprint = str(past[-1][0]) if past else "none"
            if arguments["seen"].get(host["name"]) != fingerprint:
                document = past[-1][1].to_json() if past else None
                reports[host["name"]] = {"fingerprint": fingerprint, "status": document, "problem": None}
        return reports

    def execute(self, module_name: str, module_args: dict[str, t.Any], task_vars: object) -> dict[str, t.Any]:
        assert module_name == "pxemanager.esxi.esxi_firstboot_wait"
        self.calls.append({"at": self.clock, **module_args})
        self.clock += 0.5
        end = self.clock + module_args["hold"]
        while True:
            for begin, over, outcome in self.outages:
                if begin <= self.clock < over:
                    if isinstance(outcome, Exception):
                        raise outcome
                    return dict(outcome)
            reports = self._report(module_args)
            if reports or self.clock >= end:
                return {"changed": False, "now": timestamp(later(self.clock)), "hosts": reports}
            self.clock += 1.0

    def run(self, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        if "hosts" not in options:
            options["hosts"] = [{"name": name} for name in self.history]
        task = mock.Mock(args=options, check_mode=check, async_val=0, action="esxi_firstboot_wait")
        action = esxi_firstboot_wait.ActionModule(
            task=task,
            connection=self.connection,
            play_context=mock.Mock(check_mode=check),
            loader=mock.Mock(),
            templar=mock.Mock(),
            shared_loader_obj=mock.Mock(),
        )
        with mock.patch.object(action, "_execute_module", self.execute):
            return action.run(task_vars={})


def journey(name: str, *stages: tuple[float, str]) -> list[tuple[float, Status]]:
    states = [(0.0, armed(name))]
    for at, stage in stages:
        states.append((at, states[-1][1].notified(stage, later(at))))
    return states


def test_all_hosts_become_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(
        monkeypatch,
        esx01=journey("esx01", (50, "installing"), (300, "installed"), (400, "ready")),
        esx02=journey("esx02", (60, "installing"), (200, "ready")),
    )
    result = server.run()
    assert (result["failed"], result["changed"], result["failed_hosts"]) == (False, False, [])
    assert result["msg"] == "2/2 ready"
    assert {name: found["kind"] for name, found in result["hosts"].items()} == {"esx01": "ok", "esx02": "ok"}
    assert result["hosts"]["esx01"]["status"]["stage"] == "ready"
    assert result["hosts"]["esx01"]["changed"] is False
    assert 400 <= server.clock < 405
    # A host that is there is asked for no more, and one that has not changed is not sent again.
    assert [host["name"] for host in server.calls[-1]["hosts"]] == ["esx01"]
    assert all(call["hold"] <= 45 for call in server.calls)
    assert server.calls[0]["hold"] == 0
    assert len(server.calls) < 20


def test_progress_is_shown_on_each_change_and_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "installing"), (500, "ready")))
    server.run()
    texts = [text for _at, text in server.shown]
    assert texts[0] == "esxi_firstboot_wait: 0/1 ready; esx01 armed for 0s"
    assert "esxi_firstboot_wait: 0/1 ready; esx01 installing for 0s" in texts
    assert texts[-1] == "esxi_firstboot_wait: 1/1 ready"
    times = [at for at, _text in server.shown]
    assert max(b - a for a, b in zip(times, times[1:])) < 62
    assert len(times) < 14


def test_each_host_has_its_own_deadline_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(
        monkeypatch,
        esx01=journey("esx01"),
        esx02=journey("esx02", (100, "installing"), (700, "ready")),
        esx03=journey("esx03", (100, "installing")),
    )
    result = server.run(hosts=[{"name": "esx01", "timeout": 60}, {"name": "esx02"}, {"name": "esx03"}], timeout=900)
    assert result["failed"] is True
    assert result["failed_hosts"] == ["esx01", "esx03"]
    assert "never asked for its kickstart in 1m" in result["hosts"]["esx01"]["msg"]
    assert "look at its console" in result["hosts"]["esx03"]["msg"]
    assert result["hosts"]["esx02"]["reached"] is True
    assert "esx01" in result["msg"]
    assert "esx03" in result["msg"]
    assert 900 <= server.clock < 910
    assert any(at < 65 and "failed: esx01" in text for at, text in server.shown)


def test_failures_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = journey("esx02", (10, "installing"))
    broken.append((20, broken[-1][1].notified("ready", later(20), actions=[ActionResult("ntp", 3, 1.0)])))
    server = Server(
        monkeypatch,
        esx01=journey("esx01", (10, "failed")),
        esx02=broken,
        esx03=[],
        esx04=[(0, Status.new("esx04", None, NOW))],
        esx05=[(0, armed("esx05")), (40, armed("esx05").expired(later(86400)))],
        esx06=journey("esx06", (30, "ready")),
    )
    result = server.run(on_host_failure="report")
    assert result["failed"] is False
    assert {name: found["kind"] for name, found in result["hosts"].items()} == {
        "esx01": "install_failed",
        "esx02": "post_action_failed",
        "esx03": "not_published",
        "esx04": "not_armed",
        "esx05": "expired",
        "esx06": "ok",
    }
    assert result["failed_hosts"] == ["esx01", "esx02", "esx03", "esx04", "esx05"]
    assert server.clock < 50


def test_another_stage_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "installing"), (300, "installed")))
    result = server.run(stage="installed", timeout=1000)
    assert result["hosts"]["esx01"]["kind"] == "ok"
    assert server.clock < 305


def test_check_mode_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "ready")), esx02=[])
    result = server.run(check=True)
    assert len(server.calls) == 1
    assert server.calls[0]["hold"] == 0
    assert result["changed"] is False
    assert result["hosts"]["esx01"]["kind"] == "pending"
    assert result["hosts"]["esx01"]["stage"] == "armed"
    assert result["hosts"]["esx01"]["failed"] is False
    assert result["failed_hosts"] == ["esx02"]
    assert server.shown == []


LOST: list[t.Any] = [
    AnsibleConnectionFailure("Data could not be sent to remote host"),
    {"unreachable": True, "msg": "Failed to connect to the host via ssh: Connection refused", "changed": False},
    {"failed": True, "msg": "MODULE FAILURE", "module_stdout": "", "module_stderr": "Terminated", "rc": 143},
]


@pytest.mark.parametrize("outcome", LOST, ids=["exception", "unreachable", "killed"])
def test_a_lost_connection_is_opened_again(monkeypatch: pytest.MonkeyPatch, outcome: t.Any) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "installing"), (400, "ready")))
    server.outages.append((100, 110, outcome))
    result = server.run()
    assert result["hosts"]["esx01"]["kind"] == "ok"
    assert server.clock < 405
    assert server.connection.resets > 0
    assert server.connection._shell.tmpdir is None
    assert any("answers again" in text for _at, text in server.shown)
    assert server.losses == 1


def test_a_long_outage_is_tried_again_ever_more_rarely_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "installing")), esx02=journey("esx02"))
    server.outages.append((100, 1e9, AnsibleConnectionFailure("No route to host")))
    result = server.run(hosts=[{"name": "esx01", "timeout": 300}, {"name": "esx02", "timeout": 600}])
    assert 600 <= server.clock < 610
    tries = [call["at"] for call in server.calls if call["at"] > 100]
    pauses = [b - a for a, b in zip(tries, tries[1:])]
    assert pauses[:4] == [2.5, 4.5, 8.5, 16.5]
    assert max(pauses) <= 31
    for name in ("esx01", "esx02"):
        assert result["hosts"][name]["kind"] == "timeout"
        assert "No route to host" in result["hosts"][name]["msg"]
    # Whoever watches is still told how things stand, and the outage is announced once.
    assert server.losses == 1
    assert sum(at > 110 for at, _text in server.shown) >= 8
    # esx01's deadline did not wait for the end of a pause.
    assert any(300 <= at < 302 and "failed: esx01" in text for at, text in server.shown)


def test_the_first_call_may_be_lost_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "ready")))
    server.outages.append((0, 20, AnsibleConnectionFailure("Connection timed out")))
    assert server.run()["hosts"]["esx01"]["kind"] == "ok"


def test_a_connection_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01", (50, "ready")))
    execute = server.execute
    hangs = [True]

    def hanging(module_name: str, module_args: dict[str, t.Any], task_vars: object) -> dict[str, t.Any]:
        while hangs[0]:
            try:
                time.sleep(0.01)
            except Exception as exc:  # as a connection plugin might
                raise AssertionError from exc
            finally:
                hangs[0] = hangs[0] and time.monotonic() < begun + 20
        return execute(module_name, module_args, task_vars)

    def display(text: str) -> None:
        hangs[0] = hangs[0] and "lost" not in text

    begun = time.monotonic()
    monkeypatch.setattr(server, "execute", hanging)
    # The first call, which is not to be held open.
    monkeypatch.setattr(esxi_firstboot_wait, "_CALL_GRACE", 0.5)
    monkeypatch.setattr(esxi_firstboot_wait.display, "display", display)
    assert server.run()["hosts"]["esx01"]["kind"] == "ok"
    assert not hangs[0]
    assert time.monotonic() - begun < 15
    assert server.connection.resets == 1
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_timeout_of_the_task_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_task(_number: int, _frame: object) -> None: ...

    signal.signal(signal.SIGALRM, of_the_task)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        server = Server(monkeypatch, esx01=journey("esx01", (50, "ready")))
        assert server.run()["hosts"]["esx01"]["kind"] == "ok"
        assert signal.getsignal(signal.SIGALRM) is of_the_task
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_connection_plugin_that_cannot_reset_or_fails_to_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(ConnectionBase):
        transport = "plain"
        closed = 0

        def __init__(self) -> None:
            self._shell = mock.Mock()

        def _connect(self) -> t.Any: ...

        def exec_command(self, *_arguments: t.Any, **_named: t.Any) -> t.Any: ...

        def put_file(self, *_arguments: t.Any) -> None: ...

        def fetch_file(self, *_arguments: t.Any) -> None: ...

        def close(self) -> None:
            self.closed += 1

        def __del__(self) -> None: ...

    class Stubborn(Connection):
        def reset(self) -> None:
            raise OSError("the control socket is gone")

    for connection in (Plain(), Stubborn()):
        server = Server(monkeypatch, esx01=journey("esx01", (50, "ready")))
        server.connection = connection
        server.outages.append((10, 15, AnsibleConnectionFailure("lost")))
        assert server.run()["hosts"]["esx01"]["kind"] == "ok"
        assert getattr(connection, "closed", 1) > 0


def test_a_module_that_dies_again_and_again_is_not_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    server.outages.append((0, 1e9, LOST[2]))
    result = server.run()
    assert result["failed"] is True
    assert result["msg"] == "MODULE FAILURE"
    assert len(server.calls) == 6


def test_an_answer_of_the_server_that_it_cannot_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    server.outages.append((0, 1e9, {"failed": True, "msg": "run the role pxe_server on this machine first"}))
    result = server.run()
    assert (result["failed"], result["msg"]) == (True, "run the role pxe_server on this machine first")
    assert len(server.calls) == 1


def test_nonsense_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    server.outages.append((0, 1e9, {"changed": False, "now": "?", "hosts": {}}))
    assert server.run()["failed"] is True


def test_a_server_that_is_away_in_check_mode_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    server.outages.append((0, 1e9, AnsibleConnectionFailure("No route to host")))
    with pytest.raises(AnsibleConnectionFailure, match="No route"):
        server.run(check=True)


@pytest.mark.parametrize(
    "options",
    [{"hosts": [{}]}, {"hosts": [{"name": "a", "timeuot": 5}]}, {"stage": "armed"}, {"timeout": "soon"}, {"x": 1}],
)
def test_wrong_options_are_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]
) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    with pytest.raises(AnsibleActionFail):
        server.run(**options)
    assert server.calls == []


def test_no_hosts_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    result = server.run(hosts=[])
    assert (result["failed"], result["hosts"], server.calls) == (False, {}, [])


def two_servers(monkeypatch: pytest.MonkeyPatch, second: t.Callable[[Server], None]) -> tuple[dict[str, t.Any], float]:
    """A loop over two PXE servers, the first in the background; what its last call returned, and after how long."""
    first = Server(monkeypatch, esx01=journey("esx01", (5, "installing"), (20, "installed"), (30, "ready")))
    begun = first.run(hosts=[{"name": "esx01", "timeout": 60}], background=True, site="pxe1")
    assert begun["hosts"] == {} and not begun.get("failed")
    last = Server(monkeypatch, esx02=journey("esx02", (5, "installing"), (20, "installed"), (40, "ready")))
    second(last)
    result = last.run(hosts=[{"name": "esx02", "timeout": 60}], site="pxe2", on_host_failure="report")
    assert all(text.startswith("esxi_firstboot_wait: pxe2: ") for _at, text in last.shown)
    return result, last.clock


def test_two_servers_are_waited_for_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    result, clock = two_servers(monkeypatch, lambda _server: None)
    assert {name: one["stage"] for name, one in result["hosts"].items()} == {"esx01": "ready", "esx02": "ready"}
    assert not result.get("failed_hosts") and clock < 60
    assert not esxi_firstboot_wait._children


def test_a_server_that_cannot_be_asked_fails_its_own_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(server: Server) -> None:
        server.outages.append((0, 1000, {"failed": True, "msg": "no settings here"}))

    result, _clock = two_servers(monkeypatch, broken)
    assert result["hosts"]["esx01"]["stage"] == "ready" and not result["hosts"]["esx01"]["failed"]
    assert result["hosts"]["esx02"]["failed"] and "esx02: pxe2: no settings here" in result["hosts"]["esx02"]["msg"]
    assert result["failed_hosts"] == ["esx02"]


def test_a_server_lost_in_the_background_fails_its_own_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Server(monkeypatch, esx01=journey("esx01"))
    lost.outages.append((0, 1000, {"failed": True, "msg": "no settings here"}))
    lost.run(hosts=[{"name": "esx01", "timeout": 5}], background=True, site="pxe1")
    good = Server(monkeypatch, esx02=journey("esx02", (1, "ready")))
    result = good.run(hosts=[{"name": "esx02", "timeout": 60}], site="pxe2", on_host_failure="report")
    assert "esx01: pxe1: no settings here" in result["hosts"]["esx01"]["msg"]
    assert result["hosts"]["esx02"]["stage"] == "ready"


def test_in_check_mode_nothing_goes_on_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, esx01=journey("esx01"))
    result = server.run(check=True, background=True)
    assert result["hosts"]["esx01"]["stage"] == "armed" and not esxi_firstboot_wait._children
