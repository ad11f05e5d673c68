# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of hosts, driven by hypothesis through the code of the modules and of the service.

What must come out is written down here once more and independently: which stage may follow which, by whose doing, and
that a token of another install, host or stage changes nothing at all.
"""

from __future__ import annotations

import datetime
import pathlib
import shutil
import tempfile
import typing as t

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from ansible_collections.pxemanager.esxi.plugins.module_utils._pbconnect import (
    Ack,
    Pbconnect,
    Rejected,
    Report,
    parse_notification,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import NOW, PxeServer, definition

NUMBERS = (1, 2)
HOSTS = st.sampled_from(NUMBERS)
REPORTS = st.sampled_from(["installing", "installed", "ready", "failed"])
RANK = {"armed": 0, "installing": 1, "installed": 2, "ready": 3, "failed": 4}


def name_of(number: int) -> str:
    return str(definition(number)["name"])


class Token(t.NamedTuple):
    """A token and what it was handed out for."""

    text: str
    number: int
    install: str


class Hosts(RuleBasedStateMachine):
    """Two hosts on one PXE server. Steps are counted for all runs together."""

    tokens = Bundle("tokens")
    steps = 0
    accepted = 0
    refused = 0

    @initialize(target=tokens)
    def start(self) -> t.Any:
        """One host is armed and has booted, of the other nobody has heard yet."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="esxi-pxe-states-"))
        self.server = PxeServer(self.folder, kickstart_clients=["127.0.0.0/8"])
        self.server.now = NOW
        # The folders of all hosts, which the role makes.
        self.server.good("published")
        self.pbconnect = Pbconnect(self.server.config)
        return self.arm(1, False, True)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # -- looking

    def status(self, number: int) -> Status | None:
        path = self.server.layout.status(name_of(number))
        return self.server.status(name_of(number)) if path.exists() else None

    def view(self, number: int) -> tuple[object, ...]:
        """All of a host that counts: the mode that boots, stage, install and times."""
        status = self.status(number)
        mode = self.server.mode(name_of(number)) if self.server.layout.tree(name_of(number)).exists() else None
        if status is None:
            return (mode, None)
        return (
            mode,
            status.mode,
            status.stage,
            status.install,
            dict(status.stages),
            status.certificate,
            status.actions,
        )

    def only(self, *numbers: int) -> t.Callable[[], None]:
        """For later: a check that no other host was touched."""
        before = {number: self.view(number) for number in NUMBERS if number not in numbers}

        def check() -> None:
            for number, view in before.items():
                assert self.view(number) == view, f"{name_of(number)} was touched"

        return check

    # -- what controllers do

    @rule(number=HOSTS)
    def publish(self, number: int) -> None:
        Hosts.steps += 1
        check, before = self.only(number), self.status(number)
        self.server.good("published", definition(number))
        check()
        after = self.status(number)
        assert after is not None
        assert after.stage == ("defined" if before is None else before.stage)

    @rule(target=tokens, number=HOSTS, reinstall=st.booleans(), fetched=st.booleans())
    def arm_again(self, number: int, reinstall: bool, fetched: bool) -> t.Any:
        return self.arm(number, reinstall, fetched)

    def arm(self, number: int, reinstall: bool, fetched: bool) -> t.Any:
        """As the role does it: kickstarts, then arming; mostly the host then boots and fetches its own."""
        Hosts.steps += 1
        check, before = self.only(number), self.status(number)
        self.server.write_kickstarts(definition(number))
        for mac in definition(number)["macs"]:
            self.server.layout.kickstart(name_of(number), mac).write_text("@PBCONNECT_TOKEN@")
        result = self.server.call("armed", {**definition(number), "reinstall": reinstall})
        check()
        after = self.status(number)
        if result["failed_hosts"]:
            assert self.server.mode(name_of(number)) != "install" or (before is not None and before.stage == "armed")
            return multiple()
        assert after is not None
        action = result["hosts"][name_of(number)]["action"]
        if action == "armed" and (before is None or before.stage != "armed"):
            assert after.stage == "armed"
            assert before is None or after.install != before.install
            # Whatever may have ESXi on it is armed only when that is asked for.
            assert reinstall or before is None or before.stage == "defined"
        elif before is not None and before.stage != "armed":
            assert after.stage == before.stage
        return self.fetch(number, 0) if fetched else multiple()

    @rule(number=HOSTS)
    def disarm(self, number: int) -> None:
        Hosts.steps += 1
        check, before = self.only(number), self.status(number)
        self.server.good("disarmed", definition(number))
        check()
        after = self.status(number)
        if before is None:
            assert after is None
            return
        assert after is not None and self.server.mode(name_of(number)) == "local"
        assert before.stage == "armed" or after.stage == before.stage

    @rule(number=HOSTS, chance=st.integers(0, 4))
    def remove(self, number: int, chance: int) -> None:
        if chance:
            return
        Hosts.steps += 1
        check = self.only(number)
        self.server.good("absent", definition(number))
        check()
        assert self.status(number) is None

    # -- time

    @rule(seconds=st.sampled_from([1, 60, 3600, 90_000]))
    def wait(self, seconds: int) -> None:
        self.server.now += datetime.timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        Hosts.steps += 1
        before = {number: self.status(number) for number in NUMBERS}
        swept = self.pbconnect.sweep(self.server.now)
        assert swept.problems == ()
        for number, status in before.items():
            expired = status is not None and status.has_expired(self.server.now)
            assert (name_of(number) in swept.expired) == expired
            if expired:
                assert self.server.mode(name_of(number)) == "local"

    # -- what hosts do

    @rule(target=tokens, number=HOSTS, which=st.sampled_from([0, 1]))
    def fetch_again(self, number: int, which: int) -> t.Any:
        return self.fetch(number, which)

    def fetch(self, number: int, which: int) -> t.Any:
        Hosts.steps += 1
        status, mac = self.status(number), definition(number)["macs"][which]
        path = self.server.layout.install(name_of(number))
        key = self.server.install(name_of(number)).key if path.exists() else None
        try:
            handout = self.pbconnect.kickstart(
                key or "0" * 32, f"01-{mac.replace(':', '-')}.cfg", "127.0.0.1", self.server.now
            )
        except Rejected:
            assert status is None or status.stage != "armed" or status.has_expired(self.server.now)
            return multiple()
        assert status is not None and status.stage == "armed"
        return Token(handout.content.decode(), number, str(status.install))

    @rule(token=tokens, stage=REPORTS, together=st.booleans())
    def report(self, token: Token, stage: str, together: bool) -> None:
        Hosts.steps += 1
        self._report(token, token.text, stage, together)

    @rule(token=tokens, stage=REPORTS)
    def report_with_a_broken_token(self, token: Token, stage: str) -> None:
        Hosts.steps += 1
        broken = token.text[:-1] + ("A" if token.text[-1] != "A" else "B")
        for text in (broken, token.text.replace("esx0", "esx1"), token.text.partition("~")[2]):
            before = {number: self.view(number) for number in NUMBERS}
            assert isinstance(self._tell(text, stage, False), Rejected)
            assert {number: self.view(number) for number in NUMBERS} == before
            Hosts.refused += 1

    def _tell(self, text: str, stage: str, together: bool) -> object:
        report = Report(text, parse_notification(f'{{"stage": "{stage}"}}'.encode()), "127.0.0.1", self.server.now)
        if together:
            return self.pbconnect.notify_all([report])[0]
        try:
            return self.pbconnect.notify(report.token, report.notification, report.client, report.now)
        except Rejected as rejected:
            return rejected

    def _report(self, token: Token, text: str, stage: str, together: bool) -> None:
        check, before, view = self.only(token.number), self.status(token.number), self.view(token.number)
        outcome = self._tell(text, stage, together)
        check()
        after = self.status(token.number)
        if isinstance(outcome, Ack):
            Hosts.accepted += 1
            assert before is not None and after is not None
            assert before.install == token.install, "a token of another install counted"
            assert before.stage in RANK
            assert self.server.mode(name_of(token.number)) == after.mode == outcome.mode == "local"
            assert after.stage == outcome.stage
            if outcome.duplicate:
                assert view[1:] == self.view(token.number)[1:]
            else:
                assert RANK[after.stage] > RANK[before.stage]
                assert stage in after.stages
        else:
            Hosts.refused += 1
            assert isinstance(outcome, Rejected), outcome
            assert self.view(token.number) == view, "it was refused, and changed something"
            mine = before is not None and before.install == token.install and before.stage in RANK
            # The one reason left for refusing a host's own token: it would go back.
            assert not mine or before is None or RANK[stage] <= RANK[before.stage] or before.stage == "failed"

    # -- always

    @invariant()
    def nothing_is_torn_and_nobody_installs_unasked(self) -> None:
        if not hasattr(self, "server"):
            return
        for number in NUMBERS:
            status = self.status(number)
            if status is not None:
                assert (status.mode == "install") == (status.stage == "armed")
                assert self.server.mode(name_of(number)) == status.mode
                times = [status.stages[stage] for stage in STAGES if stage in status.stages]
                assert times == sorted(times)
        macs = [mac for number in NUMBERS for mac in definition(number)["macs"]]
        published = [name_of(number) for number in NUMBERS if self.status(number) is not None]
        if published:
            self.server.check_invariants(published, macs)
