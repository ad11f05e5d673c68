# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure Cobbler's nopxe, for comparison with tests/benchmark/pbconnect.py: ``python3 cobbler_nopxe.py [systems]``.

For a machine, or a tree to chroot into, that has Cobbler 3.3 and nothing of value in it: it makes a distro, a profile
and so many systems (1,000 without a number) with one MAC address each, then turns network boot off for 200 of them
through the very call that cobblerd offers. In this process: without XML-RPC, and Cobbler syncs nothing.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time


def main(count: int) -> None:
    """Make the systems and print how fast they are turned off."""
    from cobbler import remote
    from cobbler.api import CobblerAPI
    from cobbler.items.system import NetworkInterface

    api = CobblerAPI(is_cobblerd=False)
    logging.disable(logging.CRITICAL)
    settings = api.settings()
    settings.pxe_just_once, settings.nopxe_with_triggers = True, False
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
        system.interfaces = {"default": interface}
        api.add_system(system, check_for_duplicate_names=False)
    print(f"{count:,} systems added in {time.monotonic() - begun:.1f} s", flush=True)
    interface_of_cobblerd = remote.CobblerXMLRPCInterface(api)
    seconds = []
    for number in range(min(count, 200)):
        begun = time.perf_counter()
        if not interface_of_cobblerd.disable_netboot(f"esx{number:05}"):
            sys.exit("network boot was not turned off")
        seconds.append(time.perf_counter() - begun)
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    print(
        f"nopxe: {len(seconds) / sum(seconds):,.0f} a second, "
        f"p50 {1000 * percentiles[49]:.1f} ms, p99 {1000 * percentiles[98]:.1f} ms"
    )
    # Cobbler leaves threads behind.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
