# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private to the collection pxemanager.esxi: brings hosts into the boot tree, arms and disarms them, takes them away.

Many hosts are one job: a few hundred at a time are compared with the disk, written, and synced together.

A process may be killed between any two operations on the disk. So the order in them is part of the design, and a rerun
finishes whatever was begun:

- publishing: files, the link of the mode (local), old MACs' links away, the record, new MACs' links, reservation,
  status. The record names a MAC before its links exist and as long as they do, so no link is ever forgotten.
- arming: files, install record, status, and on disk all of it; then the link. Until then the machine boots its disk.
- disarming and removing: the link first; removing ends with the record, which is what a rerun finds the rest by.
- reservations: what is a file is written with the others (dnsmasq), the rest follows when the records are on disk; see
  `_dhcp_back_end`. A marker is left before a DHCP server has to be told of something, and goes when it has been told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import itertools
import os
import re
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._arming import Decision, Wanted, decide, describe
from ansible_collections.pxemanager.esxi.plugins.module_utils._batch import Batch, Change, Leftovers
from ansible_collections.pxemanager.esxi.plugins.module_utils._boottree import (
    defaults,
    host_files,
    host_folders,
    host_links,
    mac_files,
    other_firmware_files,
    refusals,
    stems_of,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_check import DepotCheck
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp import leases_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_back_end import (
    BackEnd,
    Context,
    NoReservations,
    Release,
    Reload,
    Run,
    run_nothing,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_dnsmasq import Dnsmasq
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_isc import Dhcpd
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea import Kea
from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_release import send_releases
from ansible_collections.pxemanager.esxi.plugins.module_utils._diffs import brief_of
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._images import (
    Image,
    load_images,
    loader_links,
    mboot_supplier,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._kickstart_text import split_kickstart
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import INSTALL, LOCAL, MODES, Layout
from ansible_collections.pxemanager.esxi.plugins.module_utils._owner import Owner, owner_in
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import timestamp
from ansible_collections.pxemanager.esxi.plugins.module_utils._store import (
    LOCK_TIMEOUT,
    LockTimeout,
    StoreError,
    dump_json,
    host_locks,
    read_bytes,
    read_json,
    read_mode,
    resolve_group,
    tree_lock,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._versions import upgrade_problems, version_problems

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._first_boot import FirstBoot
    from ansible_collections.pxemanager.esxi.plugins.module_utils._hosts import Host
    from ansible_collections.pxemanager.esxi.plugins.module_utils._results import Results
    from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

__all__ = ("Publisher", "add_shared")

RECORD_SCHEMA = 1

_BACK_ENDS: t.Mapping[str, type[NoReservations]] = {"dnsmasq": Dnsmasq, "kea": Kea, "dhcpd": Dhcpd}

# One open file for each host's lock: below the usual limit of 1024, and few enough for a short wait of the service.
_CHUNK = 200

# Phases of a batch after the first (0): each is on disk before the next begins.
_THEN, _LAST = 1, 2

_KEY_IN_URL = re.compile(r"(/ks/)[0-9a-f]{16,}(/)")


def add_shared(batch: Batch, layout: Layout, config: ServerConfig, images: t.Iterable[Image]) -> None:
    """Add what belongs to no single host: the folders, local boot for machines that nobody defined, UEFI's loaders.

    The caller holds the tree's lock.
    """
    for folder in ("hosts", "http", "ipxe", "pxelinux.cfg"):
        batch.folder(layout.boot_root / folder, mend=False)
    for path, text in defaults(config).items():
        batch.write(layout.boot_root / path, text)
    for path, target in loader_links(mboot_supplier(images)).items():
        if target is None:
            batch.remove(layout.boot_root / path)
        else:
            batch.link(layout.boot_root / path, target)


class _Refused(EsxiPxeError):
    """A host must not be armed as things stand."""

    def __init__(self, reasons: t.Sequence[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = list(reasons)


@dataclasses.dataclass
class _Found:
    """What is on disk of one host, or will be.

    :ivar macs: the MACs for which it may have links.
    :ivar mode: None: it has no link; empty: its link is not one of ours.
    :ivar owner: the label in its record.
    """

    macs: tuple[str, ...]
    status: Status | None
    install: Install | None
    mode: str | None
    owner: str = ""


_Plan = t.Callable[[str, _Found], tuple[Batch, _Found]]


class Publisher:
    """One call's work on one PXE server. Outcomes are reported to a `Results`."""

    def __init__(
        self,
        config: ServerConfig,
        results: Results,
        *,
        reload: Reload,
        release: Release | None = None,
        run: Run | None = None,
        now: datetime.datetime | None = None,
        check_mode: bool = False,
        diff: bool = False,
        stuck_after: float = 3600,
        reinstall_max: int | None = None,
        lock_timeout: float = LOCK_TIMEOUT,
        owner: Owner | None = None,
    ) -> None:
        """Look nowhere yet.

        :arg release: default: as `send_releases`.
        :arg run: default: as `run_nothing`.
        :arg now: time of the call, aware; default: the clock's.
        :arg check_mode: find out and report what would be done, write nothing, take no lock.
        :arg stuck_after: seconds, see `decide`.
        :arg reinstall_max: with more hosts than this to be installed again, none of them is; None: no limit.
        :arg owner: whose hosts these are; default: nobody asks, and a label that a host has stays.
        :raises StoreError: the configured group does not exist.
        """
        self._config = config
        self._layout = Layout.of(config)
        self._boot_root = str(self._layout.boot_root)  # joined so often that pathlib would take a third of the time
        self._results = results
        self._now = now if now is not None else datetime.datetime.now(datetime.timezone.utc)
        self._check_mode = check_mode
        self._diff = diff
        self._stuck_after = stuck_after
        self._reinstall_max = reinstall_max
        self._lock_timeout = lock_timeout
        self._owner = owner if owner is not None else Owner()
        self._gid = resolve_group(config.group)
        self._leftovers = Leftovers()
        context = Context(
            config=config,
            layout=self._layout,
            leftovers=self._leftovers,
            check_mode=check_mode,
            reload=reload,
            release=release if release is not None else functools.partial(send_releases, server=config.address),
            run=run if run is not None else run_nothing,
            known=self._published,
        )
        self._dhcp: BackEnd = _BACK_ENDS.get(config.dhcp.mode, NoReservations)(context)
        self._changes: dict[str, list[Change]] = {}
        self._before: dict[str, _Found] = {}
        self._after: dict[str, _Found] = {}

    # What modules ask for.

    def publish(self, hosts: t.Mapping[str, Host], arm: bool) -> None:
        """Publish hosts and, if asked, arm those that there is something to install on.

        :raises StoreError: the server's folders are missing, or the tree's lock was not to be had.
        """
        self._check_roots()
        with self._tree_lock():
            images, _errors = load_images(self._layout)  # a bad description matters to the hosts that want that image
            known = {image.name: image for image in images}
            self._publish_shared(images)
            todo = self._without_conflicts(self._with_their_depots(hosts))

            def plan(name: str, found: _Found) -> tuple[Batch, _Found]:
                return self._plan_publish(todo[name], found, known)

            for chunk in self._chunks(todo):
                self._each(chunk, plan)
            self._settle_dhcp(todo)
            if arm:
                self._arm({name: host for name, host in todo.items() if not self._results.failed(name)}, known)
                return
            for name, host in todo.items():
                after = self._after.get(name)
                # What arming would do, for whoever has to ask somebody else first whether it may.
                extra: dict[str, t.Any] = {"server_url": self._config.base_url}
                if after is not None and after.status is not None:
                    decision = self._decide(host, self._swept(after.status))
                    if decision.action == "refuse":
                        self._results.fail(name, decision.msg, changed=bool(self._changes.get(name)))
                        continue
                    extra |= {"arming": decision.action, "reinstalls": decision.reinstall}
                self._report(name, "published" if self._changes.get(name) else "left", "published", **extra)

    def disarm(self, names: t.Iterable[str]) -> None:
        """Give hosts local boot again; an install that has not begun is withdrawn.

        :raises StoreError: the server's folders are missing.
        """
        self._check_roots()
        wanted = list(names)
        for chunk in self._chunks(wanted):
            self._each(chunk, self._plan_disarm)
        for name in wanted:
            status = self._after[name].status if name in self._after else None
            if status is None:
                self._report(name, "left", "not published on this PXE server")
            elif self._changes.get(name):
                self._report(name, "disarmed", f"disarmed, {describe(status)}")
            else:
                self._report(name, "left", f"not armed, {describe(status)}")

    def finish(self, names: t.Iterable[str]) -> None:
        """Note that hosts which came up have got all that their install needed afterwards, so that nobody repeats it.

        :raises StoreError: the server's folders are missing.
        """
        self._check_roots()
        wanted = list(names)
        for chunk in self._chunks(wanted):
            self._each(chunk, self._plan_finish)
        for name in wanted:
            changed = bool(self._changes.get(name))
            self._report(name, "finished" if changed else "left", "finished" if changed else "finished before")

    def complete(self, first_boots: t.Mapping[str, FirstBoot]) -> None:
        """Note what the controller has done in place of these hosts' own first boot, by name.

        :raises StoreError: the server's folders are missing.
        """
        self._check_roots()

        def plan(name: str, found: _Found) -> tuple[Batch, _Found]:
            if found.status is None:
                raise EsxiPxeError(f"{name} is not published on this PXE server, so it cannot become ready.")
            done = first_boots[name]
            batch = Batch(self._leftovers)
            status = found.status.completed(
                done.install,
                self._now,
                message=done.message,
                actions=done.actions,
                certificate=done.certificate,
            )
            if status is not found.status:
                self._write_status(batch, status)
            return batch, dataclasses.replace(found, status=status)

        for chunk in self._chunks(first_boots):
            self._each(chunk, plan)
        for name in first_boots:
            status = self._after[name].status if name in self._after else None
            changed = bool(self._changes.get(name))
            self._report(name, "ready" if changed else "left", describe(status) if status else "")

    def remove(self, names: t.Iterable[str]) -> None:
        """Take hosts off this server: reservation, boot files, kickstarts, records, status.

        :raises StoreError: as `publish`.
        """
        self._check_roots()
        wanted = list(names)
        with self._tree_lock():
            for chunk in self._chunks(wanted):
                self._each(chunk, self._plan_remove, strict=False, forget=True)
            self._settle_dhcp({}, wanted)
        for name in wanted:
            changed = bool(self._changes.get(name))
            self._report(name, "removed" if changed else "left", "removed" if changed else "not on this PXE server")

    # Publishing.

    def _publish_shared(self, images: t.Iterable[Image]) -> None:
        batch = Batch(self._leftovers)
        # The role has made them, and looks after them.
        batch.folder(self._layout.status_dir, 0o2775, self._gid, mend=False)
        batch.folder(self._layout.installs_dir, 0o2770, self._gid, mend=False)
        for folder in (self._layout.records_dir, self._layout.kickstarts_dir):
            batch.folder(folder, 0o2750, self._gid, mend=False)
        self._dhcp.add_shared(batch)
        add_shared(batch, self._layout, self._config, images)
        changes = batch.plan() if self._check_mode else batch.commit()
        if changes:
            self._results.shared_changed = True
            if self._diff:
                self._results.diff("files of all hosts", *self._diff_texts(changes))

    def _plan_publish(self, host: Host, found: _Found, images: t.Mapping[str, Image]) -> tuple[Batch, _Found]:
        layout, name, root = self._layout, host.name, self._boot_root
        paths = layout.paths(name)
        batch = Batch(self._leftovers)
        batch.folder(paths.tree, 0o2775, self._gid, tag=name)
        for mode in MODES:
            batch.folder(f"{paths.tree}/{mode}", 0o755, tag=name)
        for folder in host_folders(host.macs):
            batch.folder(f"{root}/{folder}", tag=name)

        status, install = found.status, found.install
        key = None
        if status is not None and install is not None and self._is_live(status, install):
            # The installer of an armed host must meet the definition as it is now.
            key = install.key
            install = dataclasses.replace(install, macs=host.macs, addresses=host.addresses)
            self._write_install(batch, install)
        for path, text in host_files(host, images.get(host.image), self._config, key).items():
            batch.write(f"{root}/{path}", text, tag=name)
        for path in other_firmware_files(host):
            batch.remove(f"{root}/{path}", name)

        # Only an armed host may have the mode install; anything else is a trace of somebody's hands.
        armed = status is not None and status.stage == "armed"
        now_mode = INSTALL if found.mode == INSTALL and armed else LOCAL
        batch.link(paths.mode_link, now_mode, name)
        self._plan_old_macs(batch, name, [mac for mac in found.macs if mac not in host.macs])
        record = {"schema": RECORD_SCHEMA, **host.to_record(), **self._owner.of_record(found.owner)}
        batch.write(paths.record, dump_json(record), 0o640, self._gid, name)
        for path, target in host_links(name, host.macs).items():
            batch.link(f"{root}/{path}", target, name)

        self._dhcp.plan(batch, host)

        if status is None:
            status = Status.new(name, host.image, self._now)
        elif status.stage in ("defined", "armed") and status.image != host.image:
            status = dataclasses.replace(status, image=host.image, updated=max(status.updated, timestamp(self._now)))
        if status is not found.status:
            self._write_status(batch, status)
        return batch, _Found(host.macs, status, install, now_mode, self._owner.after(found.owner))

    def _plan_old_macs(self, batch: Batch, name: str, macs: t.Iterable[str]) -> None:
        for mac in macs:
            self._plan_links_away(batch, name, mac)
            for mode in MODES:
                for path in mac_files(name, mode, mac):
                    batch.remove(f"{self._boot_root}/{path}", name)
            batch.remove(self._layout.kickstart(name, mac), name)

    def _plan_links_away(self, batch: Batch, name: str, mac: str) -> None:
        for path, target in reversed(list(host_links(name, [mac]).items())):
            # By now the MAC may be another host's.
            batch.remove(f"{self._boot_root}/{path}", name, only_to=target)
        for folder in host_folders([mac]):
            batch.remove_folder(f"{self._boot_root}/{folder}", name)

    def _write_install(self, batch: Batch, install: Install) -> None:
        batch.write(self._layout.install(install.host), dump_json(install.to_json()), 0o640, self._gid, install.host)

    def _write_status(self, batch: Batch, status: Status) -> None:
        batch.write(self._layout.status(status.host), dump_json(status.to_json()), 0o644, self._gid, status.host)

    def _is_live(self, status: Status, install: Install) -> bool:
        """Whether this install is the one that an armed host is waiting for."""
        return (
            status.stage == "armed"
            and status.install == install.install
            and not install.is_void
            and not status.has_expired(self._now)
        )

    def _with_their_depots(self, hosts: t.Mapping[str, Host]) -> t.Mapping[str, Host]:
        """The hosts whose post actions find what they take from depots; the others are reported as failed."""
        depots = DepotCheck(self._config.state_root)
        for name, host in hosts.items():
            problems = depots.problems(host)
            if problems:
                self._results.fail(name, problems)
        return {name: host for name, host in hosts.items() if not self._results.failed(name)}

    # Who owns what.

    def _without_conflicts(self, hosts: t.Mapping[str, Host]) -> dict[str, Host]:
        """The hosts whose addresses are their own; the others are reported as failed.

        What hosts of this call give up in it, others may take over in it.
        """
        old = {name: self._claims(name) for name in hosts}
        new = {name: frozenset(host.macs) | frozenset(host.addresses) for name, host in hosts.items()}
        for name in hosts:
            if self._config.address in new[name]:
                self._results.fail(
                    name, f"The address {self._config.address} is this PXE server's own: give {name} another one."
                )
        todo = {name: host for name, host in hosts.items() if not self._results.failed(name)}
        for name, reason in self._dhcp.refuse(todo).items():
            self._results.fail(name, reason)
            del todo[name]
        if all(new[name] <= old[name] for name in todo):
            return todo

        owners: dict[str, str] = {}
        for name in self._published():
            if name not in todo:
                owners.update(dict.fromkeys(self._claims(name), name))
        refused = True
        while refused:
            refused = False
            for name in list(todo):
                taken = {claim: owners[claim] for claim in new[name] if owners.get(claim, name) != name}
                for claim, owner in sorted(taken.items()):
                    what = "MAC" if ":" in claim else "IP"
                    self._results.fail(
                        name,
                        f"The {what} address {claim} of {name} belongs to {owner}, which is published on this PXE "
                        f"server: correct one of the two, or retire {owner} (state absent).",
                    )
                if taken:
                    # It keeps what it had; somebody else in this call may have counted on getting that.
                    del todo[name]
                    owners.update(dict.fromkeys(old[name], name))
                    refused = True
        return todo

    def _claims(self, name: str) -> frozenset[str]:
        """MAC and IP addresses that a published host has for itself; the two cannot be taken for each other."""
        try:
            record = read_json(self._layout.paths(name).record, RECORD_SCHEMA)
        except StoreError:
            # A damaged record must not hide an owner.
            line = (read_bytes(self._layout.reservation(name)) or b"").decode("ascii", "replace")
            return frozenset(self._macs_in_tree(name)).union(*leases_of(line))
        if record is None:
            return frozenset()
        network = record.get("network")
        addresses = [network.get(key) for key in ("address", "boot_address")] if isinstance(network, dict) else []
        return frozenset(_texts(record, "macs")) | {item for item in addresses if isinstance(item, str)}

    def _macs_in_tree(self, name: str) -> tuple[str, ...]:
        return tuple(sorted(stems_of(entry for mode in MODES for entry in _entries(self._layout.mode_dir(name, mode)))))

    def _published(self) -> list[str]:
        entries = _entries(self._layout.records_dir)
        return [entry[: -len(".json")] for entry in entries if entry.endswith(".json") and entry[0] != "."]

    # Arming.

    def _arm(self, hosts: t.Mapping[str, Host], images: t.Mapping[str, Image]) -> None:
        allowed = self._within_limit(hosts)
        decisions: dict[str, Decision] = {}

        def plan(name: str, found: _Found) -> tuple[Batch, _Found]:
            batch, after, decisions[name] = self._plan_arm(hosts[name], found, images, name in allowed)
            return batch, after

        for chunk in self._chunks(hosts):
            self._each(chunk, plan, planned=self._check_mode)
        for name, decision in decisions.items():
            # Also a link that a killed call had not flipped yet: the machine has had no chance to boot the installer.
            armed = decision.action != "leave" and (decision.action == "arm" or self._before[name].mode != INSTALL)
            self._report(name, "armed" if armed else "left", decision.msg, server_url=self._config.base_url)

    def _within_limit(self, hosts: t.Mapping[str, Host]) -> t.Container[str]:
        """The hosts that may be installed again; none when they are more than were meant."""
        again: list[str] = []
        for name, host in hosts.items():
            status = self._after[name].status
            if status is not None and self._decide(host, self._swept(status)).reinstall:
                again.append(name)
        if self._reinstall_max is None or len(again) <= self._reinstall_max:
            return frozenset(again)
        what = "reinstall or upgrade" if any(hosts[name].command == "upgrade" for name in again) else "reinstall"
        for name in again:
            self._results.fail(
                name,
                f"This call would {what} {len(again)} hosts and reinstall_max is {self._reinstall_max}, so none of "
                "them was armed: name fewer hosts (--limit), or raise reinstall_max if you mean all of them.",
                changed=bool(self._changes.get(name)),
            )
        return frozenset()

    def _decide(self, host: Host, status: Status) -> Decision:
        wanted = Wanted(host.command, host.image, host.reinstall_image)
        return decide(status, host.request, self._now, self._stuck_after, wanted=wanted)

    def _swept(self, status: Status) -> Status:
        """The status with an arming that ran out ended, whether or not the service has come to it yet."""
        return status.expired(self._now) if status.has_expired(self._now) else status

    def _plan_arm(
        self, host: Host, found: _Found, images: t.Mapping[str, Image], may_reinstall: bool
    ) -> tuple[Batch, _Found, Decision]:
        if found.status is None:
            raise EsxiPxeError(f"{host.name} was removed by another run at the same moment: run this again.")
        name, link = host.name, self._layout.mode_link(host.name)
        status, install, mode = self._swept(found.status), found.install, LOCAL
        decision = self._decide(host, status)
        if decision.action == "keep" and (install is None or not self._is_live(status, install)):
            # Nobody could fetch the kickstart.
            if status.command == "upgrade" and host.command != "upgrade":
                raise _Refused([f"{name} was armed for an upgrade, and its install record is gone: ask for it again."])
            decision = Decision("arm", False, "armed again: its install record was missing or not its own")
            status = status.disarmed(self._now)
        if decision.reinstall and not may_reinstall:
            raise EsxiPxeError(f"{name} reached the end of an install at this very moment: run this again.")
        if decision.action == "refuse":
            raise _Refused([decision.msg])
        if decision.action != "leave":
            self._refuse(host, images, status)
        label = host.request if isinstance(host.request, str) else None

        batch = Batch(self._leftovers)
        if decision.action != "keep":
            # After an arming that expired: no installer until everything of the new one is in place.
            batch.link(link, LOCAL, name)
        batch.phase = _THEN
        if decision.action == "arm":
            install = Install.new(name, host.macs, host.addresses, label, self._now, self._config.arming_ttl)
            status = status.armed(install, self._now, host.image, host.command)
            for path, text in host_files(host, images[host.image], self._config, install.key).items():
                batch.write(f"{self._boot_root}/{path}", text, tag=name)
            self._write_install(batch, install)
            mode = INSTALL
        elif decision.action == "keep" and install is not None:
            # Its files have just been published.
            if label not in (None, status.request):
                # The install that is waiting fulfils this request as well.
                install = dataclasses.replace(install, request=label)
                status = dataclasses.replace(status, request=label)
                self._write_install(batch, install)
            mode = INSTALL
        if status != found.status:
            self._write_status(batch, status)
        if mode == INSTALL:
            batch.phase = _LAST
            batch.link(link, INSTALL, name)
        return batch, dataclasses.replace(found, status=status, install=install, mode=mode), decision

    def _refuse(self, host: Host, images: t.Mapping[str, Image], status: Status) -> None:
        """:raises _Refused: the host must not be armed as things stand; with every reason."""
        reasons = refusals(host, images.values())
        if host.image in images:
            reasons += version_problems(host, images[host.image].version, images[host.image].build).errors
            # An arming in the status has the image that is to come.
            runs = status.previous.image if status.stage == "armed" and status.previous is not None else status.image
            before = images.get(runs or "")
            if before is not None and status.stage != "defined":
                reasons += upgrade_problems(host, before.version, images[host.image].version)
        if not self._check_mode:
            # (In check mode the task before this one, which writes them, has not.)
            missing = [mac for mac in host.macs if not os.path.isfile(self._layout.kickstart(host.name, mac))]
            if missing:
                reasons.append(
                    f"{host.name} has no kickstart for {', '.join(missing)}: run esxi_kickstart for it before arming."
                )
            if host.command == "upgrade" and not all(self._upgrades(host.name, mac) for mac in host.macs):
                # Another run, which knows nothing of the upgrade, has been here since.
                reasons.append(
                    f"{host.name} is to be upgraded, and its kickstart installs: run esxi_kickstart for it again."
                )
        if not host.addresses and not self._config.kickstart_clients:
            reasons.append(
                f"Nobody could fetch the kickstart of {host.name}, whose address is not known: set "
                "network.boot_address, or allow its network in the PXE server's kickstart_clients."
            )
        if reasons:
            raise _Refused(reasons)

    def _upgrades(self, name: str, mac: str) -> bool:
        """Whether a kickstart leaves alone what is on the disk."""
        text = (read_bytes(self._layout.kickstart(name, mac)) or b"").decode("ascii", "replace")
        words = {line.split()[0] for _number, line in split_kickstart(text)[0]}
        return not words & {"install", "installorupgrade"}

    # Finishing.

    def _plan_finish(self, name: str, found: _Found) -> tuple[Batch, _Found]:
        batch = Batch(self._leftovers)
        if found.status is None:
            raise EsxiPxeError(f"{name} is not published on this PXE server, so nothing of it can be finished.")
        status = found.status.finish(self._now)
        if status is not found.status:
            self._write_status(batch, status)
        return batch, dataclasses.replace(found, status=status)

    # Disarming and removing.

    def _plan_disarm(self, name: str, found: _Found) -> tuple[Batch, _Found]:
        batch = Batch(self._leftovers)
        status, install = found.status, found.install
        if found.mode is not None:
            batch.link(self._layout.mode_link(name), LOCAL, name)
        batch.phase = _THEN
        if status is not None and status.stage == "armed":
            # An install that has begun keeps its record: the host can still say how it ends.
            if install is not None:
                install = install.void()
                self._write_install(batch, install)
            folder = self._layout.mode_dir(name, INSTALL)
            for entry in _entries(folder):
                batch.remove(folder / entry, name)
        if status is not None:
            disarmed = status.disarmed(self._now)
            if disarmed != status:
                status = disarmed
                self._write_status(batch, status)
        mode = LOCAL if found.mode is not None else None
        return batch, dataclasses.replace(found, status=status, install=install, mode=mode)

    def _plan_remove(self, name: str, found: _Found) -> tuple[Batch, _Found]:
        layout = self._layout
        batch = Batch(self._leftovers)
        if found.mode is not None:
            batch.link(layout.mode_link(name), LOCAL, name)
        batch.phase = _THEN
        for mac in sorted({*found.macs, *self._macs_in_tree(name)}):
            self._plan_links_away(batch, name, mac)
        self._dhcp.plan_removal(batch, name)
        batch.remove_tree(layout.kickstart_dir(name), name)
        batch.remove(layout.install(name), name)
        batch.remove_tree(layout.tree(name), name)
        batch.remove(layout.status(name), name)
        batch.remove(layout.record(name), name)
        return batch, _Found((), None, None, None)

    # DHCP.

    def _settle_dhcp(self, hosts: t.Mapping[str, Host], removed: t.Collection[str] = ()) -> None:
        """Have the DHCP server act on what it is to know of these hosts now."""
        good = {name: host for name, host in hosts.items() if not self._results.failed(name)}
        settled = self._dhcp.settle(good, [name for name in removed if not self._results.failed(name)])
        others: list[Change] = []
        for change in settled.changes:
            if change.tag in hosts or change.tag in removed:
                self._changes.setdefault(change.tag, []).append(change)
            else:
                others.append(change)
        if others:
            self._results.shared_changed = True
            if self._diff:
                self._results.diff("reservations of other hosts", *self._diff_texts(others))
        for name, reason in settled.refused.items():
            self._results.fail(name, reason, changed=bool(self._changes.get(name)))
        for name in [*hosts, *removed] if settled.problem is not None else ():
            self._results.fail(
                name,
                f"{settled.problem}, so nothing more was done for {name}: get the DHCP server to run, then run this "
                "again.",
                changed=bool(self._changes.get(name)),
            )

    # Every host alone, all of them together.

    def _each(
        self,
        names: t.Collection[str],
        plan: _Plan,
        *,
        planned: bool = False,
        strict: bool = True,
        forget: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Under the locks of some hosts: plan for each of them, then write for all at once.

        :arg planned: start from what an earlier step has planned instead of from the disk.
        :arg strict: refuse a host whose status cannot be used.
        :arg forget: remove the locks as well.
        :arg timeout: seconds to wait for the locks in all; default: as long as this call may.
        """
        try:
            with self._host_locks(names, self._lock_timeout if timeout is None else timeout):
                self._each_locked(names, plan, planned, strict)
                if forget and not self._check_mode:
                    for name in itertools.filterfalse(self._results.failed, names):
                        # We hold it; who waits for it finds out that it is gone and makes a new one.
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(self._layout.lock(name))
        except LockTimeout as error:
            for name in names:
                if len(names) == 1:
                    self._fail(name, error)
                else:
                    # One host's lock is not the others': find out whose it is. All have waited long enough.
                    self._each([name], plan, planned=planned, strict=strict, forget=forget, timeout=0)

    def _each_locked(self, names: t.Iterable[str], plan: _Plan, planned: bool, strict: bool) -> None:
        batches: dict[str, Batch] = {}
        for name in names:
            try:
                found = self._after[name] if planned else self._look(name, strict)
                self._owner.check(name, found.owner)
                self._before.setdefault(name, found)
                batches[name], self._after[name] = plan(name, found)
            except (EsxiPxeError, OSError) as error:
                self._fail(name, error)
        together = Batch(self._leftovers)
        for batch in batches.values():
            together.extend(batch)
        try:
            self._commit(together)
        except (EsxiPxeError, OSError):
            # One host's trouble is not the others': find out whose it is. What was done is found done.
            for name, batch in batches.items():
                try:
                    self._commit(batch)
                except (EsxiPxeError, OSError) as error:
                    self._fail(name, error)

    def _commit(self, batch: Batch) -> None:
        changes = batch.plan()
        for change in changes:
            kept = self._changes.setdefault(change.tag, [])
            if self._diff or not kept:  # without a diff to show, it matters only that there was one
                kept.append(change)
        if not self._check_mode:
            self._dhcp.before(changes)
            batch.commit()

    def _fail(self, name: str, error: Exception) -> None:
        if isinstance(error, _Refused):
            reasons = error.reasons
        else:
            reasons = [str(error) if isinstance(error, EsxiPxeError) else f"{name}: {error}"]
        self._results.fail(name, reasons, changed=bool(self._changes.get(name)))

    def _look(self, name: str, strict: bool) -> _Found:
        """Read what there is of a host. What publishing makes anew may be damaged, its status may not."""
        record: dict[str, t.Any] | None = None
        status: Status | None = None
        install: Install | None = None
        mode: str | None = ""
        paths = self._layout.paths(name)
        with contextlib.suppress(StoreError):
            record = read_json(paths.record, RECORD_SCHEMA)
        with contextlib.suppress(EsxiPxeError):
            value = read_json(paths.install)
            install = None if value is None else Install.from_json(value)
        with contextlib.suppress(StoreError):
            mode = read_mode(self._layout, name)
        try:
            value = read_json(paths.status)
            status = None if value is None else Status.from_json(value)
        except EsxiPxeError as error:
            if strict:
                raise EsxiPxeError(
                    f"The status of {name} cannot be used ({error}), so it is not known whether ESXi is on its disk: "
                    f"restore {self._layout.status(name)}, or retire the host (state absent)."
                ) from error
        macs = _texts(record, "macs") or self._macs_in_tree(name)
        return _Found(macs, status, install, mode, owner_in(record))

    def _chunks(self, names: t.Iterable[str]) -> t.Iterator[list[str]]:
        everything = [name for name in names if not self._results.failed(name)]
        for start in range(0, len(everything), _CHUNK):
            yield everything[start : start + _CHUNK]

    def _tree_lock(self) -> t.ContextManager[None]:
        # A lock file is a write. What is read without it is whole all the same: everything is renamed into place.
        return contextlib.nullcontext() if self._check_mode else tree_lock(self._layout, self._lock_timeout)

    def _host_locks(self, names: t.Iterable[str], timeout: float) -> t.ContextManager[None]:
        return contextlib.nullcontext() if self._check_mode else host_locks(self._layout, names, timeout)

    def _check_roots(self) -> None:
        for path in (self._layout.boot_root, self._layout.state_root):
            if not os.path.isdir(path):
                raise StoreError(f"{path} does not exist: run the role pxe_server on this machine first")

    # Reporting.

    def _report(self, name: str, action: str, msg: str, **extra: str) -> None:
        if self._results.failed(name):
            return
        after = self._after[name]
        changes = self._changes.get(name, [])
        self._results.ok(
            name,
            changed=bool(changes),
            msg=f"{name}: {msg}.",
            action=action,
            mode=after.mode,
            stage=after.status.stage if after.status is not None else None,
            install=after.status.install if after.status is not None else None,
            **extra,
        )
        if self._diff and changes:
            earlier = self._before[name]

            def full() -> list[tuple[str, str, str]]:
                before, now = self._diff_texts(changes)
                return [(name, _summary(earlier) + before, _summary(after) + now)]

            self._results.diff_of_host(name, self._brief(earlier, after, changes), full)

    def _brief(self, before: _Found, after: _Found, changes: t.Iterable[Change]) -> str:
        """What is done to a host, in a few words."""
        root, layout = self._boot_root, self._layout
        kinds = (
            (f"{root}/hosts/", "boot file", "boot files"),
            (f"{root}/", "link", "links"),
            (f"{layout.records_dir}/", "record", "records"),
            (f"{layout.status_dir}/", "status", "statuses"),
            (f"{layout.installs_dir}/", "install record", "install records"),
            (f"{layout.kickstarts_dir}/", "kickstart", "kickstarts"),
            (f"{layout.reservations_dir}/", "reservation", "reservations"),
        )
        steps = [
            f"{what} {old or 'none'} -> {new or 'none'}"
            for what, old, new in (
                ("mode", before.mode, after.mode),
                ("stage", before.status and before.status.stage, after.status and after.status.stage),
            )
            if old != new
        ]
        links = [change for change in changes if change.path != str(layout.mode_link(change.tag))]
        return "; ".join(filter(None, (*steps, brief_of(((one.path, one.before, one.after) for one in links), kinds))))

    def _diff_texts(self, changes: t.Iterable[Change]) -> tuple[str, str]:
        """Before and after: the names of new and removed files, the contents of changed ones. No secrets."""
        secret = (f"{self._layout.installs_dir}/", f"{self._layout.kickstarts_dir}/")
        # Of several changes to one file the first knows what was, the last what will be.
        merged: dict[str, tuple[str | None, str | None]] = {}
        for change in changes:
            merged[change.path] = (merged.get(change.path, (change.before,))[0], change.after)
        before: list[str] = []
        after: list[str] = []
        for path, (old, new) in sorted(merged.items()):
            if old == new:
                continue
            shown = old is not None and new is not None and not path.startswith(secret)
            for lines, content in ((before, old), (after, new)):
                if content is None:
                    continue
                lines.append(path)
                if shown:
                    lines.extend(f"  {line}" for line in _KEY_IN_URL.sub(r"\1********\2", content).splitlines())
            if old is not None and new is not None and not shown:
                after[-1] += " (changed, contents not shown)"
        return "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)


def _summary(found: _Found) -> str:
    if found.status is None and found.mode is None:
        return ""
    status = found.status
    lines = [f"mode: {found.mode}"]
    if status is not None:
        lines += [f"stage: {status.stage}", f"image: {status.image}"]
        if status.request is not None:
            lines.append(f"request: {status.request}")
    return "".join(f"{line}\n" for line in lines)


def _texts(record: t.Mapping[str, t.Any] | None, key: str) -> tuple[str, ...]:
    value = record.get(key) if record is not None else None
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _entries(folder: os.PathLike[str]) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
