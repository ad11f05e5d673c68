# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: what a vCenter knows of host profiles, read in bulk, and answers to and from its API."""

from __future__ import annotations

import threading
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from ansible_collections.pxemanager.esxi.plugins.module_utils._host_profiles import Entry, Path, Question, Secret
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    PlaceError,
    Session,
    VsphereError,
    fault_kinds,
    retrieve,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere_inventory import (
    MACHINE_PROPERTIES,
    machine_power,
)

with suppress(Exception):
    # Without pyVmomi there is no Session to call anything here with: Session says what is missing.
    from pyVmomi import vim, vmodl

__all__ = [
    "HostNow",
    "Metadata",
    "Profile",
    "Profiles",
    "from_entries",
    "look_at_hosts",
    "self_configured",
    "to_entries",
]

ManagedObject = t.Any

_MOST_NAMES = 20
# vSphere Configuration Profiles came with this version.
_CONFIGURATION_PROFILES = (8, 0)


@dataclass(frozen=True)
class Profile:
    """A host profile. ``attached``: ids of the hosts and clusters that it is attached to."""

    ref: ManagedObject
    name: str
    attached: frozenset[str]


class Profiles:
    """All host profiles of a vCenter, read in one call. Raises VsphereError when there can be none."""

    def __init__(self, session: Session) -> None:
        manager = session.content.hostProfileManager
        if manager is None:
            raise VsphereError(f"{session.endpoint} has no host profiles: its edition does not include them.")
        collector = vmodl.query.PropertyCollector
        walk = collector.TraversalSpec(type=vim.profile.ProfileManager, path="profile", skip=False)
        what = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=manager, skip=True, selectSet=[walk])],
            propSet=[collector.PropertySpec(type=vim.profile.Profile, pathSet=["name", "entity"])],
        )
        self._all = [
            Profile(
                ref,
                str(properties.get("name", "")),
                frozenset(str(one._moId) for one in properties.get("entity") or []),
            )
            for ref, properties in retrieve(session, what)
        ]

    def named(self, name: str) -> Profile:
        """The profile of a name. Raises PlaceError with a sentence that names what there is."""
        found = [one for one in self._all if one.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise PlaceError(f"This vCenter has {len(found)} host profiles {name!r}: rename all but one.")
        names = sorted(one.name for one in self._all)
        if not names:
            raise PlaceError(
                f"There is no host profile {name!r}: this vCenter has none at all, or its user may see none."
            )
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        raise PlaceError(f"There is no host profile {name!r}; there is: {', '.join(names[:_MOST_NAMES])}{more}.")

    def attached_to(self, entity: ManagedObject) -> t.Optional[Profile]:
        """The profile that is attached to a host or a cluster itself."""
        return next((one for one in self._all if str(entity._moId) in one.attached), None)


def self_configured(session: Session, clusters: t.Iterable[ManagedObject]) -> set[str]:
    """Ids of those clusters whose hosts vSphere Configuration Profiles configure. Only looks: nothing switches it on.

    The property is ``ComputeResource.configManagerEnabled``, of vSphere API 8.0.0.0.
    """
    known = {str(one._moId): one for one in clusters if isinstance(one, vim.ClusterComputeResource)}
    if not known or session.api_version[:2] < _CONFIGURATION_PROFILES:
        return set()
    collector = vmodl.query.PropertyCollector
    what = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=one) for one in known.values()],
        propSet=[collector.PropertySpec(type=vim.ClusterComputeResource, pathSet=["configManagerEnabled"])],
        reportMissingObjectsInResults=True,
    )
    try:
        return {str(ref._moId) for ref, properties in retrieve(session, what) if properties.get("configManagerEnabled")}
    except VsphereError as error:
        # What does not know the property (simulators that only say they are 8.0) has no such clusters.
        if error.__cause__ is not None and "vmodl.query.InvalidProperty" in fault_kinds(error.__cause__):
            return set()
        raise


@dataclass(frozen=True)
class HostNow:
    """Whether a host is in maintenance mode, and the names of its powered-on machines that nobody else stops."""

    in_maintenance_mode: bool
    running: tuple[str, ...]


def look_at_hosts(session: Session, hosts: t.Iterable[ManagedObject]) -> dict[str, HostNow]:
    """How hosts stand at this moment, by their ids: one retrieve."""
    collector = vmodl.query.PropertyCollector
    walk = collector.TraversalSpec(type=vim.HostSystem, path="vm", skip=False)
    what = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=host, skip=False, selectSet=[walk]) for host in hosts],
        propSet=[
            collector.PropertySpec(type=vim.HostSystem, pathSet=["runtime.inMaintenanceMode"]),
            collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name", "runtime.host", *MACHINE_PROPERTIES]),
        ],
        reportMissingObjectsInResults=True,
    )
    modes: dict[str, bool] = {}
    running: dict[str, list[str]] = {}
    for ref, properties in retrieve(session, what):
        if isinstance(ref, vim.HostSystem):
            modes[str(ref._moId)] = bool(properties.get("runtime.inMaintenanceMode"))
        elif machine_power(properties) == "poweredOn":
            host = properties.get("runtime.host")
            if host is not None:
                running.setdefault(str(host._moId), []).append(str(properties.get("name", ref._moId)))
    return {key: HostNow(mode, tuple(sorted(running.get(key, ())))) for key, mode in modes.items()}


# -- Answers -----------------------------------------------------------------------------------------------------------


def to_entries(inputs: t.Optional[t.Iterable[t.Any]]) -> list[Entry]:
    """Deferred parameters of the API as entries."""
    entries = []
    for one in inputs or []:
        path = one.inputPath
        parameters = {
            str(item.key): Secret(str(item.value.value)) if isinstance(item.value, vim.PasswordField) else item.value
            for item in one.parameter or []
        }
        entries.append(
            Entry(
                Path(
                    str(path.profilePath),
                    str(path.policyId or ""),
                    path.policyOptionId or None,
                    path.parameterId or None,
                ),
                parameters,
            )
        )
    return entries


def from_entries(entries: t.Iterable[Entry]) -> list[t.Any]:
    """Entries as deferred parameters of the API."""
    return [
        vim.profile.DeferredPolicyOptionParameter(
            inputPath=vim.profile.ProfilePropertyPath(
                profilePath=entry.path.profile,
                policyId=entry.path.policy or None,
                policyOptionId=entry.path.option,
                parameterId=entry.path.parameter,
            ),
            parameter=[
                vmodl.KeyAnyValue(
                    key=key, value=vim.PasswordField(value=value.text) if isinstance(value, Secret) else value
                )
                for key, value in entry.parameters.items()
            ],
        )
        for entry in entries
    ]


class Metadata:
    """What the policies of profiles ask for, in words; asked once for each policy. For several threads."""

    def __init__(self, session: Session) -> None:
        self._manager = session.content.hostProfileManager
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], list[Question]] = {}

    def questions(self, profile: Profile, entries: t.Iterable[Entry]) -> list[Question]:
        """The questions of all policies of some entries. None where vCenter has no words for them."""
        key = str(profile.ref._moId)
        policies = sorted({entry.path.policy for entry in entries if entry.path.policy})
        with self._lock:
            wanted = [one for one in policies if (key, one) not in self._known]
            if wanted:
                found = self._ask(profile, wanted)
                for policy in wanted:
                    self._known[key, policy] = [one for one in found if one.policy == policy]
            return [question for policy in policies for question in self._known[key, policy]]

    def _ask(self, profile: Profile, policies: t.Sequence[str]) -> list[Question]:
        questions: list[Question] = []
        # Only words are lost without them: the profile itself says what it asks for. Besides faults (no reference
        # host), a type that the installed pyVmomi does not know is an error here.
        with suppress(Exception):
            for policy in self._manager.QueryPolicyMetadata(policyName=list(policies), profile=profile.ref) or []:
                for option in policy.possibleOption:
                    for one in option.parameter or []:
                        questions.append(
                            Question(
                                policy=str(policy.id.key),
                                option=str(option.id.key),
                                parameter=str(one.id.key),
                                label=str(one.id.label or ""),
                                summary=str(one.id.summary or ""),
                                secret=bool(one.securitySensitive),
                                optional=bool(one.optional),
                                kind=str(getattr(one.type, "__name__", one.type)),
                            )
                        )
        return questions
