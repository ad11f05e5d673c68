# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kickstart's scripts are run on in the tests: a busybox shell, a folder as its root, and an HTTP server."""

from __future__ import annotations

import dataclasses
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import threading

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import Action

BUSYBOX = shutil.which("busybox")

MAC = "00:50:56:aa:bb:01"
TOKEN = "0123456789abcdef0123456789abcdef"
APPLETS = (
    *("[", "cat", "cut", "date", "echo", "grep", "ls", "mkdir", "nc", "printf", "rm", "sed", "sh", "sleep", "tail"),
    *("test", "timeout", "tr", "true", "wc", "chmod"),
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB+/=\nabcd\n-----END CERTIFICATE-----\n"
OK = (200, {"ok": True, "stage": "x", "mode": "local"})


class Server:
    """Answers with the given (status, body) pairs in turn, the last one for ever; keeps what it was sent."""

    def __init__(self, *answers, port=0):
        self.answers = list(answers)
        self.seen = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                owner.seen.append((self.path, dict(self.headers), raw))
                status, body = owner.answers.pop(0) if len(owner.answers) > 1 else owner.answers[0]
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/pbconnect/v1/notify"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def notes(self):
        return [json.loads(raw) for _path, _headers, raw in self.seen]


@dataclasses.dataclass
class Outcome:
    code: int
    output: str
    console: str
    calls: list
    slept: list


class Machine:
    """A machine that has busybox, stand-ins that record their calls, and maybe Python."""

    def __init__(self, root: pathlib.Path, python: str | None, prelude: str = ""):
        # Debian's busybox finds its own applets even where PATH has none: what shall be missing is a function here.
        self.prelude = prelude
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        for applet in APPLETS:
            (self.bin / applet).symlink_to(BUSYBOX)
        for tool in ("esxcli", "localcli", "vim-cmd"):
            self.tool(tool, f'echo "{tool} $*" >>"{root}/calls"')
        if python:
            self.tool(python, f'exec {sys.executable} "$@"')
        (root / "rui.crt").write_text("some text in front\n" + CERTIFICATE + CERTIFICATE)

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!{BUSYBOX} sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def moved(self, script: str, url: str = "") -> str:
        """The script with its own places below the machine's folder."""
        for there, here in (
            ("@PBCONNECT_URL@", url),
            ("@PBCONNECT_TOKEN@", TOKEN),
            ("/dev/console", f"{self.root}/console"),
            ("/var/log/", f"{self.root}/"),
            ("/tmp/esxi-pxe", f"{self.root}/work"),
            ("/etc/vmware/ssl/rui.crt", f"{self.root}/rui.crt"),
            ("/sbin/auto-backup.sh", f"{self.bin}/auto-backup.sh"),
            ("/etc/esxi-pxe", f"{self.root}/etc/esxi-pxe"),
            ("/etc/rc.local.d", f"{self.root}/etc/rc.local.d"),
            ("/etc/ssh/", f"{self.root}/etc/ssh/"),
            ("/etc/ntp.conf", f"{self.root}/etc/ntp.conf"),
            ("/etc/init.d/", f"{self.root}/etc/init.d/"),
            ("/var/run/", f"{self.root}/run/"),
            ("/vmfs", f"{self.root}/vmfs"),
            ("/sbin/reboot", f"{self.root}/nothing"),
            ("/bin/reboot", f"{self.bin}/reboot"),
        ):
            script = script.replace(there, here)
        return script

    def run(self, script: str, url: str, fast: bool = True, env=None) -> Outcome:
        script = self.prelude + self.moved(script, url)
        if fast:
            # A function comes before a command and before a built-in.
            script = f'sleep() {{ echo "$1" >>"{self.root}/slept"; command sleep 0.02; }}\n' + script
        (self.root / "section").write_text(script)
        return self._shell(self.root / "section", env or {})

    def _shell(self, script: pathlib.Path, env) -> Outcome:
        done = subprocess.run(
            [BUSYBOX, "sh", str(script)],
            env={"PATH": str(self.bin), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return Outcome(
            done.returncode,
            done.stdout.decode(errors="replace"),
            self._read("console"),
            self._read("calls").splitlines(),
            self._read("slept").split(),
        )

    def _read(self, name: str) -> str:
        path = self.root / name
        return path.read_text() if path.exists() else ""


def action(name, script, ignore_errors=False, timeout=60, **more):
    return Action(kind="shell", name=name, script=script, ignore_errors=ignore_errors, timeout=timeout, **more)


LOCAL_SH = "#!/bin/sh\n\n# local configuration options\n\n# Note: modify at your own risk!\n\nexit 0\n"


class EsxiHost(Machine):
    """As ESXi: files are in memory. Of /etc only what has the sticky bit outlives a restart, as it was saved last."""

    def __init__(self, root: pathlib.Path, python: str | None = "python3"):
        super().__init__(root, python)
        self.local = root / "etc/rc.local.d/local.sh"
        self.kept = root / "etc/esxi-pxe"
        for folder in ("run", "vmfs/volumes", "etc/rc.local.d", "saved"):
            (root / folder).mkdir(parents=True)
        self.local.write_text(LOCAL_SH)
        self.local.chmod(0o1755)
        self.tool("reboot", f': >"{root}/rebooted"; echo reboot >>"{root}/calls"')
        # tar keeps the names, modes and contents of what it is given.
        self.tool(
            "auto-backup.sh",
            f'[ ! -e "{root}/full" ] || exit 1\ncd "{root}" && rm -rf saved && mkdir saved && '
            "/usr/bin/find etc -type f -perm -1000 | /bin/tar -c -f saved/state.tar -T -",
        )
        self.boots = 0

    def run(self, script: str, url: str, fast: bool = True, env=None) -> Outcome:
        # A restart ends whatever runs; the scripts sleep when they have asked for one.
        dying = f'sleep() {{ if [ -e "{self.root}/rebooted" ]; then kill -9 $$; fi; command sleep 0.02; }}\n'
        return super().run(script.replace("pb_main() {\n", f"{dying}pb_main() {{\n", 1), url, fast, env)

    def wants_restart(self) -> bool:
        return (self.root / "rebooted").exists()

    def boot(self) -> Outcome:
        """Power on: what was not saved is gone; then what ESXi runs at each boot."""
        self.boots += 1
        (self.root / "rebooted").unlink(missing_ok=True)
        for folder in ("run", "etc"):
            shutil.rmtree(self.root / folder)
            (self.root / folder).mkdir()
        for left in self.root.glob("work*"):
            shutil.rmtree(left)
        self.local.parent.mkdir()
        self.local.write_text(LOCAL_SH)
        self.local.chmod(0o1755)
        if (self.root / "saved/state.tar").exists():
            subprocess.run(["tar", "-xpf", "saved/state.tar"], cwd=self.root, check=True)
        return self.run_local()

    def run_local(self) -> Outcome:
        """What ESXi runs at the end of each boot; its paths are this folder's already."""
        return self._shell(self.local, {})
