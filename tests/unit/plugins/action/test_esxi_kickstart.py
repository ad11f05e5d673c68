# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action esxi_kickstart, in real playbooks: which template, which variables, whose mistake."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart import password_salt
from ansible_collections.pxemanager.esxi.plugins.module_utils._sha512_crypt import sha512_crypt
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import definition

A, B, C = (f"esx{number:02d}.example.com" for number in (1, 2, 3))
PASSWORD = "Sesame!opens-it"
COLLECTIONS = pathlib.Path(definition.__code__.co_filename).parents[5]
pytestmark = pytest.mark.skipif(
    not (COLLECTIONS / "ansible_collections").is_dir(),
    reason="the checkout is in no collection path: tests/bootstrap.sh",
)
OWN = """# {{ site }} {{ host.name }} {{ host.network.address }} {{ mac }} {{ inventory_hostname }} {{ greeting }}
{{ ks.commands | join('\\n') }}
{% include 'more.j2' %}

{{ ks.pre }}
{{ ks.post }}
{{ ks.firstboot }}
"""


class Controller:
    """A controller with an inventory of two hosts and a playbook of one task; the PXE server is the same machine."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.state = root / "state"
        for folder in (self.state, root / "templates", root / "host_vars"):
            folder.mkdir()
        settings = {"schema": 1, "address": "192.168.77.10", "boot_root": f"{root}/boot", "state_root": str(self.state)}
        if os.geteuid() == 0:
            settings["group"] = "root"
        (root / "server.json").write_text(json.dumps(settings))
        self.hosts = [definition(1), definition(2)]
        self.host_vars = {A: {"site": "berlin"}, B: {"site": "oslo"}}
        self.options = {"root_password": PASSWORD}
        self.play_vars = {"greeting": "hello"}

    def template(self, text=OWN, more="# more {{ site }}\n"):
        (self.root / "templates" / "own.j2").write_text(text)
        (self.root / "templates" / "more.j2").write_text(more)
        self.options["template"] = "own.j2"

    def run(self, *arguments, code=0):
        task = {
            "pxemanager.esxi.esxi_kickstart": {
                "hosts": self.hosts,
                "config": f"{self.root}/server.json",
                **self.options,
            },
            "run_once": True,
            "delegate_to": "localhost",
            "register": "outcome",
            "ignore_errors": True,
        }
        keep = {
            "ansible.builtin.copy": {
                "dest": f"{self.root}/result.json",
                "content": "{{ outcome | to_json }}",
                "mode": "0600",
            },
            "run_once": True,
            "delegate_to": "localhost",
            "check_mode": False,
            "diff": False,
        }
        play = {"hosts": "all", "gather_facts": False, "vars": self.play_vars, "tasks": [task, keep]}
        (self.root / "play.yml").write_text(json.dumps([play]))
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": self.host_vars, "vars": local}}
        (self.root / "inventory.json").write_text(json.dumps(inventory))
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCAL_TEMP": f"{self.root}/tmp",
            "ANSIBLE_REMOTE_TEMP": f"{self.root}/tmp",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "play.yml", *arguments]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output = done.stdout
        assert done.returncode == code, done.stdout
        result = json.loads((self.root / "result.json").read_text())
        assert PASSWORD not in done.stdout + json.dumps(result), "the password was shown"
        assert "$6$" not in done.stdout + json.dumps(result), "the password's hash was shown"
        return result

    def kickstart(self, name, number=1):
        files = sorted((self.state / "kickstarts" / name).glob("*.cfg"))
        return files[number - 1].read_text()

    def files(self):
        return {str(path): path.read_bytes() for path in self.state.rglob("*") if path.is_file()}


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path)


def test_the_roles_template_is_the_default(controller):
    result = controller.run("-vvv", "--diff")
    assert result["changed"] and not result["failed_hosts"]
    assert sorted(result["hosts"]) == [A, B]
    text = controller.kickstart(A, 2)
    assert text.startswith(f"# ESXi kickstart of {A} (00:50:56:aa:01:02)")
    assert f"\nrootpw --iscrypted {sha512_crypt(PASSWORD, password_salt(A))}\n" in text
    assert "pb_url='@PBCONNECT_URL@'" in text
    again = controller.run()
    assert not again["changed"] and "diff" not in again


def test_check_mode_shows_and_writes_nothing(controller):
    result = controller.run("--check", "--diff")
    assert result["changed"] and len(result["diff"]) == 4
    assert not list(controller.state.iterdir())
    assert "+rootpw ********" in controller.output
    assert controller.run()["changed"]


def test_a_template_of_the_sites_own_gets_each_hosts_variables(controller):
    controller.template()
    controller.run()
    assert controller.kickstart(A, 2).splitlines()[0] == f"# berlin {A} 192.168.77.21 00:50:56:aa:01:02 {A} hello"
    assert controller.kickstart(B).splitlines()[0] == f"# oslo {B} 192.168.77.22 00:50:56:aa:02:01 {B} hello"
    assert "\n# more oslo\n" in controller.kickstart(B)


def test_a_template_with_settings_of_its_own_and_an_encrypted_one(controller):
    own = OWN.replace("{{", "[%").replace("}}", "%]").replace("{% include 'more.j2' %}", "{# #}")
    controller.template("#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n" + own)
    controller.run()
    first = controller.kickstart(A).splitlines()[0]
    assert first == f"# berlin {A} 192.168.77.21 00:50:56:aa:01:01 {A} hello"
    controller.template()
    controller.run()
    plain = controller.kickstart(B)
    (controller.root / "secret").write_text("vault\n")
    vault = [sys.executable, "-m", "ansible", "vault", "encrypt", "--vault-password-file", "secret", "templates/own.j2"]
    subprocess.run(vault, cwd=controller.root, check=True, capture_output=True)
    assert controller.run("--vault-password-file", "secret")["changed"] is False
    assert controller.kickstart(B) == plain


def test_values_are_no_templates(controller):
    controller.template(OWN + "# {{ host.post_actions[0].script }}")
    controller.hosts[0]["post_actions"] = [{"shell": "echo {% raw %}{{ site }}{% endraw %}"}]
    controller.hosts[1]["post_actions"] = [{"shell": "true"}]
    controller.run()
    assert "|echo {{ site }}\n" in controller.kickstart(A)
    assert controller.kickstart(A).endswith("# echo {{ site }}\n")


def test_an_undefined_variable_fails_that_host_alone(controller):
    controller.template()
    del controller.host_vars[B]["site"]
    result = controller.run()
    assert result["failed"] and result["failed_hosts"] == [B]
    assert "'site' is undefined" in result["hosts"][B]["msg"] and B in result["hosts"][B]["msg"]
    assert result["hosts"][A]["changed"] and controller.kickstart(A)
    assert not (controller.state / "kickstarts" / B).exists()


def test_another_hosts_variables_never_stand_in(controller):
    """The task runs once, for the first host: its variables must not be taken for those of the second."""
    controller.template(OWN.replace("site", "only_first"), "")
    controller.host_vars[A]["only_first"] = "x"
    assert controller.run()["failed_hosts"] == [B]


def test_a_host_that_is_not_in_the_inventory_gets_the_tasks_variables(controller):
    controller.template()
    controller.hosts.append(definition(3))
    controller.run()
    assert controller.kickstart(C).splitlines()[0] == f"# berlin {C} 192.168.77.23 00:50:56:aa:03:01 {A} hello"


def test_bad_definitions_and_bad_templates_fail_alone(controller):
    controller.template(OWN + "{% if host.name == 'esx02.example.com' %}\nfrobnicate\n%bad\n{% endif %}\n")
    controller.hosts.append(definition(3, image=None, macs=["x"]))
    controller.hosts.append({"macs": ["00:50:56:aa:09:01"]})
    controller.options["on_host_failure"] = "report"
    result = controller.run()
    assert not result["failed"] and result["failed_hosts"] == [B, C, "hosts[3]"]
    assert len(result["hosts"][C]["reasons"]) == 2
    assert "begins with '%bad', which is no section" in result["hosts"][B]["msg"]
    assert controller.kickstart(A)


def test_passwords_by_host(controller):
    controller.hosts.append(definition(3))
    hashed = sha512_crypt(PASSWORD, "given")
    controller.options = {"root_passwords": {A: PASSWORD + "1", B: "short"}, "root_password_hash": hashed}
    result = controller.run()
    assert result["failed_hosts"] == [B]
    assert "7 to 127 printable ASCII" in result["hosts"][B]["msg"] and "short" not in json.dumps(result)
    assert f"rootpw --iscrypted {sha512_crypt(PASSWORD + '1', password_salt(A))}\n" in controller.kickstart(A)
    assert f"rootpw --iscrypted {hashed}\n" in controller.kickstart(C)


def test_without_a_password(controller):
    controller.options = {}
    controller.hosts[1].update(kickstart={"command": "upgrade"})
    result = controller.run()
    assert result["failed_hosts"] == [A] and "no root password is given" in result["hosts"][A]["msg"]
    assert "rootpw" not in controller.kickstart(B)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"template": "none.j2"}, "The template none.j2 was not found"),
        ({"deadlines": {"pre": 0}}, "deadlines.pre is 0"),
        ({"rendered": "x"}, "cannot be set by a task"),
        ({"no_such": "x"}, "no_such"),
        ({"config": "/nonexistent/server.json"}, "run the role pxe_server"),
    ],
)
def test_wrong_options_fail_the_task(controller, options, says):
    controller.options.update(options)
    result = controller.run()
    assert result["failed"] and says in result["msg"]
    assert not controller.files()


def test_a_template_with_a_mistake_names_it(controller):
    controller.template("{% if %}")
    result = controller.run()
    assert result["failed_hosts"] == [A, B] and "cannot be rendered" in result["hosts"][A]["msg"]
