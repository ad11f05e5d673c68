# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kickstart's scripts, run by a real busybox shell against a real HTTP server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._scripts import (
    firstboot_script,
    post_script,
    pre_script,
    quoted_lines,
    ssh_script,
)
from ansible_collections.pxemanager.esxi.tests.support.script_machine import (
    BUSYBOX,
    CERTIFICATE,
    MAC,
    OK,
    TOKEN,
    Machine,
    Server,
    action,
)

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed")


@pytest.fixture
def serve():
    servers = []

    def start(*answers, port=0):
        servers.append(Server(*answers, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture(params=["python3", "python", None], ids=["python3", "python", "nc"])
def machine(request, tmp_path):
    return Machine(tmp_path, request.param)


@pytest.fixture
def plain(tmp_path):
    return Machine(tmp_path, "python3")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_pre_reports_installing(machine, serve):
    server = serve(OK)
    outcome = machine.run(pre_script(MAC, 30, None), server.url)
    assert outcome.code == 0, outcome.output
    assert server.notes() == [{"stage": "installing", "mac": MAC, "message": "the installer has started"}]
    path, headers, _raw = server.seen[0]
    assert path == "/pbconnect/v1/notify"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert not list(machine.root.glob("work*")), "the token's folder is left behind"
    assert TOKEN not in outcome.output + outcome.console


def test_pre_is_refused_at_once(machine, serve):
    server = serve((403, {"error": "token is void"}))
    outcome = machine.run(pre_script(MAC, 300, "touch never"), server.url)
    assert outcome.code == 1
    assert len(server.seen) == 1
    last = outcome.console.splitlines()[-1]
    assert "STOPPED" in last and "refused" in last and "403" in last and "token is void" in last and "No disk" in last
    assert not (machine.root / "never").exists()


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413])
def test_every_refusal_is_final(plain, serve, status):
    server = serve((status, {"error": "no"}))
    assert plain.run(pre_script(MAC, 300, None), server.url).code == 1
    assert len(server.seen) == 1


def test_pre_tries_again_with_growing_pauses(machine, serve):
    server = serve(*[(503, b"busy")] * 7, OK)
    outcome = machine.run(pre_script(MAC, 300, None), server.url)
    assert outcome.code == 0, outcome.output
    assert len(server.seen) == 8
    pauses = [pause for pause in outcome.slept if pause != "1" or machine_has_python(machine)]
    if machine_has_python(machine):
        assert pauses == ["1", "2", "4", "8", "16", "32", "32"]
    else:
        # The nc client pauses too, for a second each, until the answer is there.
        assert pauses == ["2", "4", "8", "16", "32", "32"]


def machine_has_python(machine) -> bool:
    return any((machine.bin / name).exists() for name in ("python", "python3"))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502])
def test_passing_trouble_is_tried_again(plain, serve, status):
    server = serve((status, b"<html>"), OK)
    assert plain.run(pre_script(MAC, 300, None), server.url).code == 0
    assert len(server.seen) == 2


def test_pre_gives_up_at_its_deadline(machine):
    url = f"http://127.0.0.1:{unused_port()}/pbconnect/v1/notify"
    outcome = machine.run(pre_script(MAC, 100, "touch never"), url)
    assert outcome.code == 1
    last = outcome.console.splitlines()[-1]
    assert "STOPPED" in last and url in last and "100 seconds" in last
    assert not (machine.root / "never").exists()
    pauses = [int(pause) for pause in outcome.slept]
    if machine_has_python(machine):
        # The last pause is cut, so that the last attempt comes at the deadline and not after it.
        assert sum(pauses) <= 100 and pauses[:6] == [1, 2, 4, 8, 16, 32]


def test_pre_waits_for_a_server_that_is_down_at_first(machine, serve):
    port = unused_port()
    url = f"http://127.0.0.1:{port}/pbconnect/v1/notify"
    started = []
    timer = threading.Timer(1.5, lambda: started.append(serve(OK, port=port)))
    timer.start()
    began = time.monotonic()
    outcome = machine.run(pre_script(MAC, 60, None), url, fast=False)
    timer.join()
    assert outcome.code == 0, outcome.output
    assert "no acknowledgement" in outcome.output
    assert time.monotonic() - began < 20
    assert len(started[0].notes()) == 1


def test_another_web_server_is_not_taken_for_pbconnect(machine, serve):
    server = serve((200, b"<html>Welcome to nginx</html>"))
    outcome = machine.run(pre_script(MAC, 10, None), server.url)
    assert outcome.code == 1
    assert "Welcome to nginx" in outcome.console.splitlines()[-1]


def test_a_proxy_of_the_environment_is_not_used(plain, serve):
    server = serve(OK)
    proxy = f"http://127.0.0.1:{unused_port()}"
    assert plain.run(pre_script(MAC, 5, None), server.url, env={"http_proxy": proxy, "HTTP_PROXY": proxy}).code == 0


def test_an_old_python_is_not_used(tmp_path, serve):
    machine = Machine(tmp_path, None)
    machine.tool("python", "exit 1")
    server = serve(OK)
    assert machine.run(pre_script(MAC, 5, None), server.url).code == 0
    assert len(server.seen) == 1


def test_neither_python_nor_nc(tmp_path, serve):
    machine = Machine(tmp_path, None, "nc() { echo 'nc: not found' >&2; return 127; }\n")
    outcome = machine.run(pre_script(MAC, 5, None), serve(OK).url)
    assert outcome.code == 1
    assert "nc" in outcome.console.splitlines()[-1]


def test_the_nc_client_keeps_its_side_open(tmp_path):
    """nginx drops a proxied request whose client has closed its sending side."""
    machine = Machine(tmp_path, None)
    half_closed = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _peer = listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                    data += connection.recv(65536)
                connection.settimeout(0.5)
                try:
                    half_closed.append(connection.recv(1) == b"")
                except OSError:
                    half_closed.append(False)
                body = json.dumps(OK[1]).encode()
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/pbconnect/v1/notify"
        outcome = machine.run(pre_script(MAC, 5, None), url, fast=False)
        thread.join()
    assert outcome.code == 0, outcome.output
    assert half_closed == [False]


def test_pre_runs_the_sites_own_script_after_the_acknowledgement(machine, serve):
    server = serve(OK)
    outcome = machine.run(pre_script(MAC, 5, f"echo '%post' >{machine.root}/include\nPB_END=1\n"), server.url)
    assert outcome.code == 0, outcome.output
    assert (machine.root / "include").read_text() == "%post\n"
    assert [note["stage"] for note in server.notes()] == ["installing"]


def test_a_failing_pre_script_is_reported_and_stops_the_install(machine, serve):
    server = serve(OK)
    outcome = machine.run(pre_script(MAC, 5, 'echo "no such \\"disk\\"" >&2\nexit 7\n'), server.url)
    assert outcome.code == 1
    assert [note["stage"] for note in server.notes()] == ["installing", "failed"]
    assert server.notes()[1]["message"] == "the kickstarts own pre script failed with exit code 7: no such disk"
    assert "exit code 7" in outcome.console


def test_post_opens_the_firewall_and_reports(machine, serve):
    server = serve(OK)
    outcome = machine.run(post_script(MAC, 5, None, 900, False), server.url)
    assert outcome.code == 0
    assert outcome.calls == ["localcli network firewall set --enabled no"]
    assert [note["stage"] for note in server.notes()] == ["installed"]


@pytest.mark.parametrize("answer", [None, (403, {"error": "no"}), (500, b"")])
def test_post_never_fails_because_of_the_server(plain, serve, answer):
    url = serve(answer).url if answer else f"http://127.0.0.1:{unused_port()}/x"
    assert plain.run(post_script(MAC, 3, None, 900, False), url).code == 0


@pytest.mark.parametrize(("ignore", "stage", "code"), [(False, "failed", 1), (True, "installed", 0)])
def test_a_failing_post_script_is_reported(machine, serve, ignore, stage, code):
    server = serve(OK)
    outcome = machine.run(post_script(MAC, 5, "echo oh\nexit 3\n", 900, ignore), server.url)
    assert outcome.code == code
    assert [(note["stage"], note["message"]) for note in server.notes()] == [
        (stage, "the kickstarts own post script failed with exit code 3: oh")
    ]


def test_firstboot_runs_every_action_and_reports_all(machine, serve):
    server = serve(OK)
    machine.tool("auto-backup.sh", f'echo backup >>"{machine.root}/calls"')
    actions = [
        action("one", "esxcli one 'a b'\n"),
        action("two (a/b)", 'echo "broken: \\"x\\"" >&2\nexit 9\n'),
        action("three", "exit 4\n", ignore_errors=True),
        action("four", "cat\necho four >four.txt\n".replace("four.txt", str(machine.root / "four.txt"))),
    ]
    outcome = machine.run(firstboot_script(MAC, 5, actions), server.url)
    assert outcome.code == 0, outcome.output
    (note,) = server.notes()
    assert note["stage"] == "ready"
    assert [(item["name"], item["rc"], item["ignored"]) for item in note["actions"]] == [
        ("one", 0, False),
        ("two (a/b)", 9, False),
        ("three", 4, True),
        ("four", 0, False),
    ]
    assert all(isinstance(item["seconds"], int) for item in note["actions"])
    assert note["message"] == "post action two (a/b) failed with exit code 9: broken: x"
    assert note["certificate"] == CERTIFICATE
    assert (machine.root / "four.txt").read_text() == "four\n", "the action after a failing one did not run"
    assert outcome.calls == [
        "esxcli network firewall ruleset list -r httpClient",
        "esxcli network firewall ruleset set -e true -r httpClient",
        "esxcli one a b",
        "backup",
        "esxcli network firewall ruleset set -e true -r httpClient",
        "esxcli network firewall ruleset set -e false -r httpClient",
    ]
    assert "broken" in (machine.root / "esxi-pxe-actions.log").read_text()


def test_nobody_else_can_read_the_working_folder(plain, serve):
    look = action("look", f"ls -ld {plain.root}/work.* >{plain.root}/seen\n")
    plain.run(firstboot_script(MAC, 5, [look]), serve(OK).url)
    assert (plain.root / "seen").read_text().startswith("drwx------ ")


def test_actions_write_files_that_others_can_read(plain, serve):
    """The client's own care must not become the action's umask."""
    plain.run(firstboot_script(MAC, 5, [action("write", f"echo x >{plain.root}/motd\n")]), serve(OK).url)
    assert (plain.root / "motd").stat().st_mode & 0o044 == 0o044


def test_firstboot_without_actions_and_certificate(machine, serve):
    server = serve(OK)
    (machine.root / "rui.crt").unlink()
    outcome = machine.run(firstboot_script(MAC, 5, []), server.url)
    assert outcome.code == 0
    assert server.notes() == [{"stage": "ready", "mac": MAC, "message": "the first boot is done"}]


def test_firstboot_leaves_an_open_firewall_open(plain, serve):
    plain.tool("esxcli", f'echo "$*" >>"{plain.root}/calls"; case $* in *list*) echo "httpClient     true";; esac')
    outcome = plain.run(firstboot_script(MAC, 5, []), serve(OK).url)
    assert not any("false" in call for call in outcome.calls)


def test_firstboot_never_stops_the_boot(plain):
    url = f"http://127.0.0.1:{unused_port()}/x"
    outcome = plain.run(firstboot_script(MAC, 3, [action("bad", "exit 1\n")]), url)
    assert outcome.code == 0
    assert "FAILED with exit code 1" in outcome.console


@pytest.mark.parametrize(
    "text",
    [
        "kill -9 $$\n",
        "exit 0\n",
        "set -e\nfalse\ntrue\n",
        "exec sh -c 'exit 5'\n",
        "cd /\nunset PATH\n",
        "if then fi\n",
    ],
)
def test_an_action_cannot_harm_the_next(plain, serve, text):
    server = serve(OK)
    plain.run(firstboot_script(MAC, 5, [action("first", text), action("next", "esxcli still here\n")]), server.url)
    (note,) = server.notes()
    assert [item["name"] for item in note["actions"]] == ["first", "next"]
    assert note["actions"][1]["rc"] == 0


def test_an_action_that_takes_too_long_is_ended(plain, serve):
    server = serve(OK)
    began = time.monotonic()
    plain.run(firstboot_script(MAC, 5, [action("slow", "sleep 30\n", timeout=1), action("next", "true\n")]), server.url)
    assert time.monotonic() - began < 15
    assert [item["rc"] for item in server.notes()[0]["actions"]] == [124, 0]


def test_the_old_timeout_command(tmp_path, serve):
    old = 'timeout() { [ "$1" = -t ] || return 127; shift; echo "timeout $1" >>"ROOT/calls"; shift; "$@"; }\n'
    machine = Machine(tmp_path, "python3", old.replace("ROOT", str(tmp_path)))
    server = serve(OK)
    outcome = machine.run(firstboot_script(MAC, 5, [action("one", "exit 2\n", timeout=77)]), server.url)
    assert "timeout 77" in outcome.calls
    assert server.notes()[0]["actions"][0]["rc"] == 2


def test_without_a_timeout_command(tmp_path, serve):
    machine = Machine(tmp_path, "python3", "timeout() { return 127; }\n")
    server = serve(OK)
    machine.run(firstboot_script(MAC, 5, [action("one", "exit 2\n"), action("two", "true\n")]), server.url)
    assert [item["rc"] for item in server.notes()[0]["actions"]] == [2, 0]


def test_hostile_output_keeps_the_json_well_formed(machine, serve):
    server = serve(OK)
    noise = "printf '\\001\\377\"\\\\ \\n\\t$(reboot) `x` \\303\\244'\nexit 1\n"
    machine.run(firstboot_script(MAC, 5, [action("noise", noise)]), server.url)
    assert server.notes()[0]["message"].startswith("post action noise failed with exit code 1:")


def test_a_long_output_is_cut(plain, serve):
    server = serve(OK)
    plain.run(
        firstboot_script(
            MAC, 5, [action("long", "i=0; while [ $i -lt 2000 ]; do printf 0123456789; i=$((i+1)); done; exit 1\n")]
        ),
        server.url,
    )
    assert len(server.notes()[0]["message"]) <= 400


def test_quoted_lines_hide_sections_and_the_end():
    text = quoted_lines("%post\nPB_END\n\n  %pre\n|x\n")
    assert text == "|%post\n|PB_END\n|\n|  %pre\n||x\n"


def test_the_clients_python_is_old_enough_for_esxi():
    """ESXi 6.7 has Python 3.5: no f-strings, no variable annotations."""
    import ast

    source = pre_script(MAC, 5, None).split("pb_client='\n", 1)[1].split("\n'\n", 1)[0]
    ast.parse(source, feature_version=(3, 5))
    assert "'" not in source


def test_other_shells_can_read_the_scripts(tmp_path):
    """Syntax only; what runs on ESXi is busybox, but a plain POSIX shell must agree."""
    sh = shutil.which("dash") or "/bin/sh"
    for text in (
        pre_script(MAC, 5, "a\n"),
        post_script(MAC, 5, "a\n", 9, False),
        firstboot_script(MAC, 5, [action("a", "b\n")]),
    ):
        (tmp_path / "x").write_text(text)
        assert subprocess.run([sh, "-n", str(tmp_path / "x")], check=False, env=dict(os.environ)).returncode == 0


def read_by_a_shell(machine, script):
    """As a shell at the end of an SSH connection reads it."""
    done = subprocess.run(
        [BUSYBOX, "sh"], input=script, env={"PATH": str(machine.bin)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_over_ssh_the_report_is_all_that_is_on_standard_output(plain):
    actions = [
        action("talks", "echo on both; echo on both >&2\n"),
        action("reads", "cat\n"),
        action("ends the document", "cat <<'PB_END'\nPB_END\n}\nPB_END\nexit 5\n"),
        action("late", "sleep 20\n", timeout=1, ignore_errors=True),
    ]
    code, out, err = read_by_a_shell(plain, plain.moved(ssh_script(actions)))
    report = json.loads(out)
    assert code == 0 and "on both" in err
    assert [(one["name"], one["rc"], one["ignored"]) for one in report["actions"]] == [
        ("talks", 0, False),
        ("reads", 0, False),
        ("ends the document", 2, False),
        ("late", 124, True),
    ]
    assert report["certificate"] == CERTIFICATE and report["message"].startswith("post action ends the document failed")
    assert "@PBCONNECT" not in ssh_script(actions), "no token is needed, none is sent"
    assert not list(plain.root.glob("work*"))


def test_of_a_script_that_was_cut_off_nothing_is_done(plain):
    script = plain.moved(ssh_script([action("one", f"echo x >{plain.root}/done\n")]))
    for cut in (len(script) // 2, len(script) - 25):
        _code, out, _err = read_by_a_shell(plain, script[:cut])
        assert out == "" and not (plain.root / "done").exists()
