# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of the lab's PXE server: a minimal install of this machine's own distribution, made once and kept.

The lab's network has no way out, so the packages that the role asks for are in the tree already; the role's package
task finds them there. Everything else the role does for real.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from . import paths
from .errors import LabError

# what makes the tree a machine; the role's own list is added
_BASE = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "openssh-server",
    "python3",
    "python3-apt",
    "busybox-static",
    "procps",
)
_RECIPE = 1
_USUAL = ("sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list")


def role_packages(dhcp: str = "dnsmasq") -> list[str]:
    """The packages that the role installs on Debian and Ubuntu with this pxe_server_dhcp_mode."""
    text = (paths.ROOT / "roles/pxe_server/vars/Debian.yml").read_text(encoding="utf-8")
    variables = yaml.safe_load(text)
    lists = ["__pxe_server_packages"]
    if dhcp == "kea":
        lists += ["__pxe_server_kea_packages", "__pxe_server_postgresql_packages"]
    return sorted(package for name in lists for package in variables[name])


def names_suite(text: str, suite: str) -> bool:
    """Whether an apt source file (of either format) offers the distribution's own suite and its main component."""
    stanzas = [
        f"Suites: {match[2]}\nComponents: {match[3]}"
        for match in re.finditer(r"^deb\s+(\[[^\]]*\]\s+)?\S+\s+(\S+)\s+(.*)$", text, re.MULTILINE)
    ]
    stanzas += re.split(r"\n\s*\n", text)
    for stanza in stanzas:
        fields = {key.lower(): value.split() for key, value in re.findall(r"^(\w+):[ \t]*(.*)$", stanza, re.MULTILINE)}
        if suite in fields.get("suites", []) and "main" in fields.get("components", []):
            return True
    return False


def apt_sources(suite: str, apt: Path = Path("/etc/apt")) -> Path:
    """The file with this machine's own package sources; raises ``LabError`` when there is none."""
    others = sorted([*apt.glob("sources.list.d/*.sources"), *apt.glob("sources.list.d/*.list")])
    for path in [*(apt / name for name in _USUAL), *others]:
        if path.is_file() and names_suite(path.read_text(encoding="utf-8"), suite):
            return path
    raise LabError(f"no package source of {suite} in {apt}: the lab needs a Debian or Ubuntu machine")


def ensure(dhcp: str = "dnsmasq") -> Path:
    """The tree, made now when it is not there yet (some 20 to 60 seconds). Raises ``LabError``.

    With Kea it is another one, half as large again: whoever never asks for it does not pay for it.
    """
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is not installed; tests/lab/packages.txt lists what the lab needs")
    system = platform.freedesktop_os_release()
    suite = system.get("VERSION_CODENAME", "")
    sources = apt_sources(suite)
    packages = sorted({*_BASE, *role_packages(dhcp)})
    kind = "kea-rootfs" if dhcp == "kea" else "rootfs"
    recipe = f"{_RECIPE}\n{suite}\n{sources.read_text(encoding='utf-8')}\n{packages}"
    tree = paths.CACHE / f"{kind}-{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if tree.is_dir():
        return tree
    fresh = tree.with_name(f"{tree.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    log = paths.LOGS / "rootfs.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}", suite, str(fresh)]
    with log.open("wb") as output:
        code = subprocess.run(
            [*argv, str(sources)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if code != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise LabError(f"mmdebstrap failed with {code}; see {log}")
    _finish(fresh)
    for old in paths.CACHE.glob(f"{kind}-*"):
        if old not in (tree, fresh):
            shutil.rmtree(old, ignore_errors=True)
    fresh.rename(tree)
    return tree


def _finish(tree: Path) -> None:
    """What a machine without an uplink can do without, and what every start of the lab needs."""
    system = tree / "etc/systemd/system"
    for unit in (
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "motd-news.timer",
        "systemd-networkd-wait-online.service",
        "systemd-firstboot.service",
    ):
        (system / unit).unlink(missing_ok=True)
        (system / unit).symlink_to("/dev/null")
    # an empty machine-id is what a fresh image has: systemd writes one at its first start
    (tree / "etc/machine-id").write_text("", encoding="ascii")
    (tree / "var/log/journal").mkdir(exist_ok=True)
