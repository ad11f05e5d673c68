# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""esxi_firstboot_wait run by ansible-playbook: what a person sees, and a connection that is lost on the way."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, Site

ROOT = pathlib.Path(__file__).resolve().parents[3]

PLAYBOOK = """
- hosts: pxe01
  gather_facts: false
  tasks:
    - name: Wait
      pxemanager.esxi.esxi_firstboot_wait:
        hosts: "{{ wanted }}"
        timeout: "{{ patience }}"
        poll: 0.2
        config: "{{ settings }}"
        on_host_failure: "{{ on_failure }}"
      register: waited
    - name: Keep the result
      ansible.builtin.copy:
        content: "{{ waited | to_json }}"
        dest: "{{ result }}"
        mode: "0600"
      check_mode: false
      delegate_to: localhost
"""


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Play:
    """One run of ansible-playbook, in the background, on a PXE server that is this machine."""

    def __init__(self, tmp_path: pathlib.Path, names: t.Sequence[str], *arguments: str, **variables: object) -> None:
        self.site = Site(tmp_path / "site")
        self.names = names
        self._folder = tmp_path
        self._arguments = arguments
        self._variables = variables
        self.down = tmp_path / "down"
        self._output = tmp_path / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def arm(self, name: str, number: int) -> None:
        self.site.arm(name, [f"00:50:56:aa:bb:{number:02x}"], ["192.168.77.21"], now())

    def start(self) -> None:
        collections = self._folder / "collections" / "ansible_collections" / "pxemanager"
        collections.mkdir(parents=True)
        (collections / "esxi").symlink_to(ROOT)
        (self._folder / "play.yml").write_text(PLAYBOOK)
        variables = {
            "wanted": [{"name": name} for name in self.names],
            "patience": 60,
            "settings": str(self.site.config_path),
            "on_failure": "report",
            "result": str(self._folder / "result.json"),
            **self._variables,
        }
        (self._folder / "inventory.yml").write_text(
            json.dumps(
                {
                    "all": {
                        "hosts": {"pxe01": {"ansible_connection": "flaky"}},
                        "vars": {**variables, "ansible_python_interpreter": sys.executable},
                    }
                }
            )
        )
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
                    "-i",
                    str(self._folder / "inventory.yml"),
                    str(self._folder / "play.yml"),
                    *self._arguments,
                ],
                env={
                    **os.environ,
                    "ANSIBLE_COLLECTIONS_PATH": str(self._folder / "collections"),
                    "ANSIBLE_CONNECTION_PLUGINS": str(pathlib.Path(__file__).with_name("connection_plugins")),
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_LOCAL_TEMP": str(self._folder / "tmp"),
                    "ANSIBLE_REMOTE_TEMP": str(self._folder / "tmp"),
                    "FLAKY_DOWN": str(self.down),
                },
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < end, f"no {text!r} in {self.output}"
            time.sleep(0.1)

    def notify(self, name: str, stage: str, **values: t.Any) -> None:
        self.site.write_status(self.site.status(name).notified(stage, now(), **values))

    def end(self) -> dict[str, t.Any]:
        assert self.process is not None
        assert self.process.wait(90) == 0, self.output
        result = json.loads((self._folder / "result.json").read_text())
        assert isinstance(result, dict)
        return result


@pytest.fixture
def play(tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., Play]]:
    made: list[Play] = []

    def make(*arguments: t.Any, **variables: t.Any) -> Play:
        made.append(Play(tmp_path, *arguments, **variables))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.mark.slow
def test_hosts_become_ready_one_after_the_other_over_a_connection_that_is_lost(play: t.Callable[..., Play]) -> None:
    run = play(["esx01", "esx02", "esx03"], patience=120)
    run.arm("esx01", 1)
    run.arm("esx02", 2)
    run.start()
    run.wait_for("0/3 ready; esx01 armed")
    run.wait_for("failed: esx03")
    run.notify("esx01", "installing")
    run.wait_for("esx01 installing for")
    # The connection is lost with the very answer that would have told of this.
    run.down.touch()
    run.notify("esx01", "ready", certificate=CERTIFICATE)
    run.wait_for("lost the PXE server, trying again: flaky: the connection is down")
    run.down.unlink()
    run.wait_for("the PXE server answers again")
    run.wait_for("1/3 ready; esx02 armed")
    run.notify("esx02", "ready")
    result = run.end()
    assert result["changed"] is False
    assert {name: found["kind"] for name, found in result["hosts"].items()} == {
        "esx01": "ok",
        "esx02": "ok",
        "esx03": "not_published",
    }
    assert result["failed_hosts"] == ["esx03"]
    assert result["hosts"]["esx01"]["status"]["certificate"] == CERTIFICATE


@pytest.mark.slow
def test_check_mode_says_how_it_is_and_writes_nothing(play: t.Callable[..., Play]) -> None:
    run = play(["esx01"], "--check")
    run.arm("esx01", 1)
    before = run.site.snapshot()
    run.start()
    result = run.end()
    assert (result["changed"], result["hosts"]["esx01"]["kind"]) == (False, "pending")
    assert result["hosts"]["esx01"]["stage"] == "armed"
    assert run.site.snapshot() == before
