# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure `cobbler sync`: run by publish.py with the Python that has Cobbler, as root, in a mount namespace of its own.

`cobbler_sync.py SCRATCH SYSTEMS`. Cobbler writes where distributions have its files, so /etc, /var and /srv are
overlaid: what it writes lands in SCRATCH, on the disk that is measured, and nothing of the machine is changed. Its data
files come from its wheel. The systems have one MAC address each, which is in Cobbler's favour; DHCP is managed, no
daemon is told of it; nothing of what it writes is brought to disk, and no kickstart is rendered.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import time

# /var last: the scratch folder is below it.
OVERLAID = ("/etc", "/usr/share", "/srv", "/var")


def overlay(scratch: str) -> None:
    """Let what is written below some folders land in the scratch folder."""
    for place in OVERLAID:
        upper, work = (os.path.join(scratch, f"{kind}{place.replace('/', '-')}") for kind in ("upper", "work"))
        for folder in (upper, work, place):
            os.makedirs(folder, exist_ok=True)
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True)
    for tree in ("etc", "var", "usr/share", "srv"):
        source = os.path.join(sysconfig.get_paths()["purelib"], tree)  # where its wheel puts them
        if os.path.isdir(source):
            shutil.copytree(source, f"/{tree}", dirs_exist_ok=True, symlinks=True)


def settings() -> None:
    """Cobbler's settings, as they are but for what needs a daemon that is not there."""
    path = "/etc/cobbler/settings.yaml"
    wanted = {"restart_dhcp": "false", "restart_dns": "false", "manage_dhcp": "true", "manage_dhcp_v4": "true"}
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    lines = [line for line in lines if line.split(":")[0] not in wanted]
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join([*lines, *(f"{key}: {value}" for key, value in wanted.items()), ""]))
    kinds = "distros", "files", "images", "menus", "mgmtclasses", "packages", "profiles", "repos", "systems"
    for folder in (
        *(f"/var/lib/cobbler/collections/{kind}" for kind in kinds),
        "/var/log/cobbler",
        "/var/lib/tftpboot",
        "/srv/tftpboot",
        "/srv/www/cobbler",
        "/etc/dhcp",
        "/var/www",
    ):
        os.makedirs(folder, exist_ok=True)


def main(scratch: str, count: int) -> None:
    """Make the systems; print the seconds of both syncs as JSON."""
    overlay(scratch)
    settings()
    from cobbler.api import CobblerAPI
    from cobbler.items.system import NetworkInterface

    api = CobblerAPI(is_cobblerd=False)
    logging.disable(logging.CRITICAL)
    os.makedirs("/srv/kernel", exist_ok=True)
    for file in ("vmlinuz", "initrd.img"):
        with open(f"/srv/kernel/{file}", "w", encoding="ascii") as stream:
            stream.write(file)
    distro = api.new_distro()
    distro.name, distro.kernel, distro.initrd = "distro", "/srv/kernel/vmlinuz", "/srv/kernel/initrd.img"
    distro.arch = "x86_64"
    api.add_distro(distro)
    profile = api.new_profile()
    profile.name, profile.distro = "profile", "distro"
    api.add_profile(profile)
    begun = time.monotonic()
    for number in range(count):
        system = api.new_system()
        system.name, system.profile, system.netboot_enabled = f"esx{number:05}", "profile", True
        interface = NetworkInterface(api, system.name)
        interface.mac_address = f"00:50:56:00:{number >> 8:02x}:{number & 255:02x}"
        interface.ip_address = f"10.{number // 250 // 250}.{number // 250 % 250}.{number % 250 + 2}"
        system.interfaces = {"default": interface}
        api.add_system(system, check_for_duplicate_names=False, with_triggers=False, with_sync=False)
    seconds = {"added": time.monotonic() - begun}
    for name in ("sync", "again"):
        begun = time.monotonic()
        api.sync()
        seconds[name] = time.monotonic() - begun
    written = sum(len(files) for _path, _folders, files in os.walk(api.settings().tftpboot_location))
    if written < count:
        sys.exit(f"cobbler sync wrote {written} files for {count} systems")
    print(json.dumps(seconds), flush=True)
    # Cobbler leaves threads behind.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
