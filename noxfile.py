# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of the collection, each in an environment of its own; ``.lab/venv/bin/nox --list`` names them.

Most come from antsibull-nox and are set in antsibull-nox.toml. This file adds what its configuration cannot say: where
the Python interpreters and the collections that ours depends on are found, ansible-test without a container engine, and
checks of the code that lies outside the collection's plugins.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import sys
import urllib.request
from pathlib import Path

import antsibull_nox
import nox

ROOT = Path(__file__).resolve().parent

# Code that antsibull-nox's lint sessions do not look at.
OTHER_CODE = ["noxfile.py", "tests", "roles/pxe_server/files"]
TYPED_OTHER_CODE = ["tests/stages.py", "tests/lab/pxelab", "roles/pxe_server/files"]

# The pip that ansible-test bootstraps its environments with, and where it looks for it first.
GET_PIP_CACHE = Path.home() / ".ansible" / "test" / "cache"
GET_PIP_STAND_IN = '''\
"""Stand-in for get-pip.py, written by a noxfile: installs the wanted pip with the one that Python carries."""

import runpy
import subprocess
import sys

# In a process of its own: ensurepip turns pip's configuration off, and the index may be set there.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv = ["pip", "install", "--upgrade", "--force-reinstall", *wanted]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
'''


def search_path() -> str:
    """Return PATH without pyenv's shims, and with the interpreters behind them and the tools beside nox appended.

    The shim of a Python that is not active fails when it is run, which ansible-test takes for fatal.
    """
    entries = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(entry).name != "shims"]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    entries += sorted(str(directory) for directory in pyenv.glob("versions/*/bin"))
    entries.append(str(Path(sys.executable).parent))
    return os.pathsep.join(dict.fromkeys(entries))


def prepare_environment() -> None:
    """Set what every session inherits."""
    os.environ["PATH"] = search_path()
    # The package `ansible` beside nox brings vmware.vmware: no session needs to ask a Galaxy server. The one variable
    # is for Ansible's own tools, the other for galaxy-importer, which sets the first anew for those that it runs.
    for path in site.getsitepackages():
        if Path(path, "ansible_collections", "vmware").is_dir():
            place = ROOT / ".nox" / "dependencies"
            place.mkdir(parents=True, exist_ok=True)
            link = place / "ansible_collections"
            link.unlink(missing_ok=True)
            link.symlink_to(Path(path, "ansible_collections"))
            os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(place)
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(place))))
            break
    # A collection that is copied from there is not part of this repository, whose git would say that it has no files.
    ceiling = [str(ROOT / ".lab"), str(ROOT / ".nox"), *filter(None, [os.environ.get("GIT_CEILING_DIRECTORIES")])]
    os.environ["GIT_CEILING_DIRECTORIES"] = os.pathsep.join(ceiling)
    # git lists the files to check. It refuses to where the checkout belongs to someone else, as in a CI container.
    count = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    os.environ[f"GIT_CONFIG_KEY_{count}"] = "safe.directory"
    os.environ[f"GIT_CONFIG_VALUE_{count}"] = str(ROOT)
    os.environ["GIT_CONFIG_COUNT"] = str(count + 1)


def provide_get_pip() -> None:
    """Fill ansible-test's cache with the script that it would download, or with a stand-in where it cannot be had."""
    for requirements in ROOT.glob(".nox/ansible-test-*/lib/python3*/site-packages/ansible_test"):
        version = re.search(r"\bpip='([\d.]+)'", (requirements / "_internal/python_requirements.py").read_text("utf-8"))
        url = re.search(
            r"'(https://\S+)%s\.py'", (requirements / "_util/target/setup/requirements.py").read_text("utf-8")
        )
        if not version or not url:
            continue
        script = GET_PIP_CACHE / f"get_pip_{version[1].replace('.', '_')}.py"
        if script.exists() and not script.read_text("utf-8").startswith(GET_PIP_STAND_IN.splitlines()[0]):
            continue
        try:
            with urllib.request.urlopen(f"{url[1]}{version[1]}.py", timeout=10) as response:
                content = response.read().decode("utf-8")
        except OSError:
            content = GET_PIP_STAND_IN
        GET_PIP_CACHE.mkdir(parents=True, exist_ok=True)
        script.write_text(content, "utf-8")


def remove_leftovers() -> None:
    """Remove ansible-test's environments from the tested copy: they cannot be brought back into the checkout."""
    shutil.rmtree("tests/output/.tmp", ignore_errors=True)


def add_sanity_session(ansible_core_version: str) -> None:
    """Add a session that runs ansible-test sanity with an ansible-core from the package index."""
    antsibull_nox.add_ansible_test_session(
        name=f"ansible-test-sanity-{ansible_core_version}",
        description=f"Run the sanity tests of ansible-core {ansible_core_version}, without a container engine.",
        ansible_test_params=["sanity", "--venv"],
        ansible_core_version=ansible_core_version,
        ansible_core_source="pypi",
        callback_before=provide_get_pip,
        callback_after=remove_leftovers,
        default=False,
    )


prepare_environment()
nox.options.reuse_venv = "yes"
antsibull_nox.load_antsibull_nox_toml()

# The oldest and the newest ansible-core that the collection is for; each session needs a Python that its own runs on.
add_sanity_session("2.19")
add_sanity_session("2.21")


@nox.session(name="other-code")
def other_code(session: nox.Session) -> None:
    """Check the code outside the plugins: the lab, the service, the tests."""
    session.install("ruff>=0.12,<1", "mypy>=1.20,<2", "pytest", "-r", "tests/unit/requirements.txt")
    session.run("ruff", "format", "--check", *OTHER_CODE)
    session.run("ruff", "check", *OTHER_CODE)
    # The lab's package and the collection are found from where they are used, the service is a program of its own.
    tree = Path(session.create_tmp()) / "ansible_collections" / "pxemanager"
    tree.mkdir(parents=True, exist_ok=True)
    if not (tree / "esxi").is_symlink():
        (tree / "esxi").symlink_to(ROOT)
    # The service's own files lie beside each other on a PXE server.
    service = ROOT / "roles" / "pxe_server" / "files"
    mypy_path = os.pathsep.join((str(ROOT / "tests" / "lab"), str(service), str(tree.parent.parent)))
    for path in TYPED_OTHER_CODE:
        session.run("mypy", "--config-file", "tests/mypy.ini", path, env={"MYPYPATH": mypy_path})


@nox.session
def changelog(session: nox.Session) -> None:
    """Check the changelog fragments."""
    session.install("antsibull-changelog", "ansible-core")
    session.run("antsibull-changelog", "lint")
