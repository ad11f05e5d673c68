# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: the status of a host and the only transitions it may make.

Nothing here reads a clock or a file: the caller hands in the time and stores what comes back.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import EsxiPxeError
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import (
    NOTIFIED_STAGES,
    STAGES,
    ActionResult,
    Failure,
    KickstartFetch,
    Previous,
    Progress,
    Stage,
    StatusFile,
    timestamp,
)

if t.TYPE_CHECKING:
    from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install

__all__ = ("Refused", "Status")

RefusedCode = t.Literal[
    "another_install",
    "another_machine",
    "backwards",
    "not_armed",
    "not_installed",
    "not_ready",
    "same_install",
    "unknown_stage",
]


class Refused(EsxiPxeError):
    """A transition that the rules of an install forbid.

    :ivar code: which rule, for programs: V(another_install), V(another_machine), V(backwards), V(not_armed),
        V(not_installed), V(not_ready), V(same_install), V(unknown_stage).
    """

    def __init__(self, code: RefusedCode, reason: str) -> None:
        super().__init__(reason)
        self.code: t.Final = code


@dataclasses.dataclass(frozen=True)
class Status(StatusFile):
    """A host's status and its transitions. Every method that changes something returns a new status.

    Times never run backwards, whatever the server's clock does: a stage is never recorded as earlier than the one
    before it.
    """

    # -- what the PXE server does

    @classmethod
    def new(cls, host: str, image: str | None, now: datetime.datetime) -> Status:
        """A host that has just been published: local boot, nothing installed."""
        at = timestamp(now)
        return cls(host=host, mode="local", stage="defined", stages={"defined": at}, updated=at, image=image)

    def armed(
        self, install: Install, now: datetime.datetime, image: str | None = None, command: str = "install"
    ) -> Status:
        """A new install begins: the next PXE boot starts the installer.

        :arg image: the image it installs; default the one already recorded.
        :arg command: what the installer is told to do, see `COMMANDS`.
        :raises Refused: V(same_install) if `install` is this status's own install: a token that has been used must
            never come to life again.
        """
        if install.install == self.install:
            raise Refused("same_install", f"{self.host} has already been armed for the install {install.install}")
        at = self._not_before(now)
        stages: dict[Stage, str] = {"armed": at}
        if "defined" in self.stages:
            stages["defined"] = self.stages["defined"]
        return dataclasses.replace(
            self,
            mode="install",
            stage="armed",
            stages=stages,
            updated=at,
            install=install.install,
            image=self.image if image is None else image,
            command=command,
            request=install.request,
            expires=install.expires_at,
            kickstart=None,
            booted_mac=None,
            actions=(),
            certificate=None,
            message="",
            failure=None,
            finished=None,
            previous=self._remembered(),
            progress=None,
        )

    def disarmed(self, now: datetime.datetime) -> Status:
        """Local boot again. An install that has not begun is withdrawn; one that has begun keeps its stage.

        A host that was armed for a reinstall gets back the stage of the install that is still on its disk.
        """
        at = self._not_before(now)
        if self.stage != "armed":
            return self if self.mode == "local" else dataclasses.replace(self, mode="local", updated=at)
        # The label of a withdrawn request stays: whoever withdrew it does not want the next run to arm again by it.
        return self._withdrawn(at, "the host was disarmed before it started the installer", self.request)

    def expired(self, now: datetime.datetime) -> Status:
        """The arming ran out before the installer reported: local boot again.

        :raises Refused: V(not_armed) if there is no arming, or it has not run out at `now`.
        """
        if not self.has_expired(now):
            raise Refused("not_armed", f"the arming of {self.host} has not expired")
        if self.kickstart is None:
            seen = "the host never asked for its kickstart"
        else:
            seen = f"{self.kickstart.address} fetched the kickstart at {self.kickstart.at} and never called back"
        reason = f"the arming expired at {self.expires}: {seen}"
        at = self._not_before(now)
        if self.previous is not None:
            # The request was not fulfilled, so its label is not used up.
            return self._withdrawn(at, reason, self.previous.request)
        return dataclasses.replace(self._withdrawn(at, reason, self.request), failure=Failure("expired", reason))

    def has_expired(self, now: datetime.datetime) -> bool:
        """Whether this is an arming that has run out at `now`."""
        return self.stage == "armed" and self.expires is not None and timestamp(now) >= self.expires

    def fetched(self, mac: str, address: str, now: datetime.datetime) -> Status:
        """The kickstart has been handed out to `address` for `mac`.

        :raises Refused: V(not_armed) if the host is not armed or the arming has run out.
        """
        if self.stage != "armed" or self.mode != "install":
            raise Refused("not_armed", f"{self.host} is not armed (stage {self.stage}, mode {self.mode})")
        if self.has_expired(now):
            raise Refused("not_armed", f"the arming of {self.host} expired at {self.expires}")
        at = self._not_before(now)
        return dataclasses.replace(self, kickstart=KickstartFetch(mac, address, at), updated=at)

    def finish(self, now: datetime.datetime) -> Status:
        """The controller is done with this install. Doing so again changes nothing.

        :raises Refused: V(not_ready) if the host has not come up yet. One whose post action failed has.
        """
        if self._last_reported() != "ready":
            raise Refused("not_ready", f"{self.host} is {self.stage} and not ready, so nothing of it can be finished")
        if self.finished is not None:
            return self
        at = self._not_before(now)
        return dataclasses.replace(self, finished=at, updated=at)

    def completed(
        self,
        install: str | None,
        now: datetime.datetime,
        *,
        message: str = "",
        actions: t.Sequence[ActionResult] = (),
        certificate: str,
    ) -> Status:
        """The controller has done what this host's first boot could not: as if the host had reported V(ready) itself.

        Doing so again changes nothing.

        :arg install: the install that the actions ran after; another one may have begun meanwhile.
        :raises Refused: V(another_install); V(not_installed) if that install has not got to V(installed).
        """
        if install is None or install != self.install:
            raise Refused(
                "another_install", f"the last install of {self.host} is {self.install or 'none'}, and not {install}"
            )
        if self._last_reported() == "ready":
            return self
        if self.stage != "installed":
            raise Refused("not_installed", f"{self.host} is {self.stage} and not installed, so it cannot become ready")
        return self.notified("ready", now, message=message, actions=actions, certificate=certificate)

    # -- what the host says

    def notified(
        self,
        stage: str,
        now: datetime.datetime,
        *,
        mac: str | None = None,
        message: str = "",
        actions: t.Sequence[ActionResult] = (),
        certificate: str | None = None,
        progress: Progress | None = None,
    ) -> Status:
        """The host has reported that it reached `stage`. Afterwards the mode is always V(local).

        A report that has been taken before changes nothing and returns this very object. A report may skip a stage
        (a lost call must not hold up the later ones), but never goes back. V(ready) with an action that failed and was
        not to be ignored becomes V(failed), its certificate still kept: the host is up, and can be put right.

        An install belongs to the machine that called first. When another MAC address of the host calls with a kickstart
        of its own, two machines have booted at once, and one of them is not meant.

        A host whose post actions need restarts reports V(installed) again and again, with more of their results each
        time. What tells nothing new, such as an earlier one of these that was delayed, is a report taken before.

        :arg mac: the MAC address that the caller's kickstart was handed out to.
        :raises Refused: V(unknown_stage); V(not_armed) if no install is under way; V(backwards) for an earlier stage;
            V(another_machine) for a MAC address other than the one that called first.
        """
        reported = next((known for known in NOTIFIED_STAGES if known == stage), None)
        if reported is None:
            raise Refused("unknown_stage", f"a host cannot report the stage {stage!r}")
        if self.stage == "defined" or self.install is None:
            raise Refused("not_armed", f"no install of {self.host} is under way")
        if mac is not None and self.booted_mac is not None and mac != self.booted_mac:
            raise Refused(
                "another_machine",
                f"{self.host} is being installed on the machine with {self.booted_mac}, and {mac} has called: see "
                "which machine has it, and take it out of the host's definition if it is another one",
            )
        if self._last_reported() == reported:
            if self.stage == "installed" and self._is_news(message, actions, progress):
                return dataclasses.replace(
                    self,
                    mode="local",
                    updated=self._not_before(now),
                    actions=tuple(actions),
                    message=message,
                    progress=progress,
                )
            return self if self.mode == "local" else dataclasses.replace(self, mode="local")
        if STAGES.index(reported) <= STAGES.index(self.stage):
            raise Refused("backwards", f"{self.host} is at {self.stage} and cannot go back to {reported}")

        at = self._not_before(now)
        stages = {**self.stages, reported: at}
        reached: Stage = reported
        failure: Failure | None = None
        # Results may come with an earlier report, and a last one without any must not make them forgotten.
        kept = tuple(actions) or self.actions
        broken = [action for action in kept if action.failed]
        if reported == "failed":
            failure = Failure("install", message or "the host reported a failure without a reason")
        elif reported == "ready" and broken:
            reached = "failed"
            stages["failed"] = at
            failure = Failure("post_action", ", ".join(f"{action.name} ended with {action.rc}" for action in broken))
        return dataclasses.replace(
            self,
            mode="local",
            stage=reached,
            stages=stages,
            updated=at,
            # From now on no clock may take this install back.
            expires=None,
            booted_mac=self.booted_mac if mac is None else mac,
            actions=kept,
            certificate=self.certificate if certificate is None else certificate,
            message=message,
            failure=failure,
            # The installer is at the disk: what was there before is no longer true.
            previous=None,
            progress=progress if reached == "installed" else None,
        )

    @property
    def came_up(self) -> bool:
        """Whether the host runs what its last install left, be it with a post action that failed."""
        return self._last_reported() == "ready"

    # -- helpers

    def _is_news(self, message: str, actions: t.Sequence[ActionResult], progress: Progress | None) -> bool:
        """Whether a further report of V(installed) says more of the post actions than is known. They only ever grow."""
        if progress is None or tuple(actions[: len(self.actions)]) != self.actions:
            return False
        if len(actions) == len(self.actions) and self.progress is not None:
            if progress.rebooting and not self.progress.rebooting:
                return False
            return (message, progress) != (self.message, self.progress)
        return True

    def _last_reported(self) -> Stage | None:
        """The last report that was taken: V(ready) for a host whose post actions failed, although it is V(failed)."""
        if self.stage == "failed" and self.failure is not None and self.failure.kind == "post_action":
            return "ready"
        return self.stage if self.stage in NOTIFIED_STAGES else None

    def _not_before(self, now: datetime.datetime) -> str:
        # The strings sort like the times they stand for.
        return max(timestamp(now), self.updated)

    def _remembered(self) -> Previous | None:
        if self.stage == "armed":
            return self.previous
        if self.stage not in ("installed", "ready", "failed"):
            return None
        return Previous(
            stage=self.stage,
            install=self.install,
            image=self.image,
            request=self.request,
            stages=self.stages,
            booted_mac=self.booted_mac,
            actions=self.actions,
            certificate=self.certificate,
            failure=self.failure,
            finished=self.finished,
            command=self.command,
        )

    def _withdrawn(self, at: str, message: str, request: str | None) -> Status:
        back = self.previous
        if back is None:
            # The command stays: who was to be upgraded has something on its disk (see `decide`).
            return dataclasses.replace(
                self, mode="local", stage="defined", updated=at, expires=None, message=message, request=request
            )
        return dataclasses.replace(
            self,
            mode="local",
            stage=back.stage,
            stages=back.stages,
            updated=at,
            install=back.install,
            image=back.image,
            command=back.command,
            request=request,
            expires=None,
            kickstart=None,
            booted_mac=back.booted_mac,
            actions=back.actions,
            certificate=back.certificate,
            finished=back.finished,
            message=message,
            failure=back.failure,
            previous=None,
        )
