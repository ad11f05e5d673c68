# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host profiles for a vcsim, which names their managers and has none of their methods.

``HostProfiles`` answers the calls that a client makes with them, as vCenter does, and keeps what each host has: the
attached profile, the answer file and the settings that were applied. Tasks are real tasks of vcsim, which every client
can wait for: the host is sent into the maintenance mode that it is in already, and what comes of that is rewritten.

A profile, as JSON or a dictionary::

    {"name": "Production",
     "settings": {"NTP servers": "192.0.2.4"},
     "asks": [{"path": "network.hostPortGroup[\"key-vMotion\"].ipConfig", "policy": "IpAddressPolicy",
               "parameter": "address", "summary": "IPv4 address of vMotion", "secret": false, "valid": "[0-9.]+"}],
     "maintenance": true, "reboot": false, "stubborn": []}

``maintenance`` and ``reboot`` say what applying needs, ``stubborn`` names settings that never take, ``valid`` is what a
value must look like. A secret is told to nobody: a client that asks gets stars, and stars that it writes back change
nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from xml.etree import ElementTree

from pyVmomi import vim, vmodl

from . import soap
from .vim_xml import contents, fault_answer, returned, serialize

VIM = soap.VIM
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_STARS = "********"
_MARK = "pxelab.profile"
_EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)

Answers = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Profile:
    """One host profile; see the module's own text for what each part means."""

    id: str
    name: str
    settings: Mapping[str, str]
    asks: Sequence[Mapping[str, Any]]
    maintenance: bool = True
    reboot: bool = False
    stubborn: tuple[str, ...] = ()

    @classmethod
    def read(cls, number: int, spec: Mapping[str, Any]) -> Profile:
        return cls(
            id=f"hostprofile-{number}",
            name=str(spec["name"]),
            settings=dict(spec.get("settings", {})),
            asks=list(spec.get("asks", [])),
            maintenance=bool(spec.get("maintenance", True)),
            reboot=bool(spec.get("reboot", False)),
            stubborn=tuple(spec.get("stubborn", ())),
        )


@dataclass
class Host:
    """What a host has. ``waiting`` are settings that come with its next boot."""

    profile: str | None = None
    answers: Answers = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    result: str = "unknown"


@dataclass
class Injection:
    """What a call comes to instead. ``fault`` None: its task never ends. at_once: the call itself fails."""

    method: str
    fault: Any
    host: str | None
    at_once: bool
    times: int


class HostProfiles:
    """The host profiles of one vCenter. ``seen``: every call that has come, by method and host, in order."""

    def __init__(self, profiles: Iterable[Mapping[str, Any]] = (), configured: Iterable[str] = ()) -> None:
        """configured: names of the clusters that vSphere Configuration Profiles configure."""
        read = [Profile.read(number, spec) for number, spec in enumerate(profiles, 1)]
        self._profiles = {one.id: one for one in read}
        self._configured = set(configured)
        self._cluster_wide: dict[str, str] = {}
        self._hosts: dict[str, Host] = {}
        self._tasks: dict[str, tuple[Any, bool]] = {}
        self._injections: list[Injection] = []
        self._lock = threading.RLock()
        self.seen: list[tuple[str, str]] = []
        self._methods: dict[str, Callable[[soap.Call], soap.Answer | None]] = {
            "FindAssociatedProfile": self._find_associated,
            "AssociateProfile": self._associate,
            "DissociateProfile": self._dissociate,
            "RetrieveAnswerFile": self._retrieve_answers,
            "UpdateAnswerFile_Task": self._update_answers,
            "QueryAnswerFileStatus": lambda call: returned(call, self._answer_status(call)),
            "CheckAnswerFileStatus_Task": lambda call: self._task(call, self._answer_status(call)),
            "QueryPolicyMetadata": self._metadata,
            "CheckCompliance_Task": lambda call: self._task(call, self._check(call)),
            "QueryComplianceStatus": lambda call: returned(call, self._check(call)),
            "ExecuteHostProfile": self._execute,
            "GenerateHostProfileTaskList_Task": self._requirements,
            "ApplyHostConfig_Task": self._apply,
            "ReconnectHost_Task": self._reconnected,
        }

    # -- for tests -----------------------------------------------------------------------------------------------------

    def host(self, host: str) -> Host:
        """What the host with an id has."""
        with self._lock:
            return self._hosts.setdefault(host, Host())

    def attach_to_cluster(self, cluster: str, name: str) -> None:
        """Somebody attaches a profile to a cluster, given by its id."""
        with self._lock:
            self._cluster_wide[cluster] = next(one.id for one in self._profiles.values() if one.name == name)

    def inject(
        self, method: str, fault: Any, *, host: str | None = None, at_once: bool = False, times: int = 1
    ) -> None:
        """Let the next calls of a method fail with a fault (of pyVmomi), or never end (None)."""
        with self._lock:
            self._injections.append(Injection(method, fault, host, at_once, times))

    def rebooted(self, host: str) -> None:
        """The host has booted: what waited for that holds now."""
        one = self.host(host)
        one.settings.update(one.waiting)
        one.waiting = {}

    # -- between a client and vcsim ------------------------------------------------------------------------------------

    def __call__(self, call: soap.Call) -> soap.Answer | None:
        host = call.text("host") or call.text("entity") or call.element.findtext(f"{VIM}_this") or ""
        with self._lock:
            self.seen.append((call.method, host))
            injected = self._injected(call.method, host)
            if injected is not None:
                if injected.at_once:
                    return fault_answer(injected.fault)
                return self._task(call, injected.fault, hangs=injected.fault is None)
        if call.method in ("RetrievePropertiesEx", "RetrieveProperties"):
            return self._retrieve(call)
        if call.method == "Fetch" and host in self._profiles:
            # how pyVmomi reads a single property
            name = call.text("prop")
            return returned(call, self._properties(self._profiles[host], [name]).get(name))
        answer = self._methods.get(call.method)
        return answer(call) if answer is not None else None

    def _injected(self, method: str, host: str) -> Injection | None:
        for one in self._injections:
            if one.method == method and one.host in (None, host) and one.times > 0:
                one.times -= 1
                return one
        return None

    def rewrite(self, body: bytes) -> bytes:
        """An answer of vcsim with what its tasks should have come to. Goes over every answer that is passed on."""
        if not self._tasks or b'type="Task"' not in body:
            return body
        parts = re.split(r'(?=<obj type="Task")', body.decode())
        for position, part in enumerate(parts):
            found = re.match(r'<obj type="Task"[^>]*>([^<]+)<', part)
            if found is None or found[1] not in self._tasks:
                continue
            outcome, hangs = self._tasks[found[1]]
            if hangs:
                state, more = "running", ""
            elif isinstance(outcome, vmodl.MethodFault):
                state, more = "error", serialize("error", outcome, vmodl.MethodFault)
            else:
                state, more = "success", "" if outcome is None else serialize("result", outcome, object)
            part = part.replace("<state>success</state>", f"<state>{state}</state>{more}")
            parts[position] = re.sub(
                r'(<val [^>]*type="TaskInfoState"[^>]*>)success(</val>)', rf"\g<1>{state}\g<2>", part
            )
        return "".join(parts).encode()

    def _task(self, call: soap.Call, outcome: Any, hangs: bool = False) -> soap.Answer:
        """A task of vcsim that comes to something else: a result, a fault, or nothing at all."""
        host = call.text("host") or call.text("entity") or call.element.findtext(f"{VIM}_this") or ""
        mode = "Enter" if self._in_maintenance_mode(call, host) else "Exit"
        body = (
            f'<{mode}MaintenanceMode_Task xmlns="urn:vim25"><_this type="HostSystem">{host}</_this>'
            f"<timeout>0</timeout></{mode}MaintenanceMode_Task>"
        )
        answer = call.forward(soap.envelope(body))
        task = re.search(rb'type="Task"[^>]*>([^<]+)<', answer.body)
        if task is None:
            return answer
        with self._lock:
            self._tasks[task[1].decode()] = (outcome, hangs)
        return soap.Answer(
            answer.status,
            answer.body.replace(f"{mode}MaintenanceMode_TaskResponse".encode(), f"{call.method}Response".encode()),
            answer.headers,
        )

    @staticmethod
    def _in_maintenance_mode(call: soap.Call, host: str) -> bool:
        question = soap.envelope(
            '<RetrieveProperties xmlns="urn:vim25"><_this type="PropertyCollector">propertyCollector</_this><specSet>'
            "<propSet><type>HostSystem</type><pathSet>runtime.inMaintenanceMode</pathSet></propSet>"
            f'<objectSet><obj type="HostSystem">{host}</obj></objectSet></specSet></RetrieveProperties>'
        )
        return b">true</val>" in call.forward(question).body

    # -- reading -------------------------------------------------------------------------------------------------------

    def _retrieve(self, call: soap.Call) -> soap.Answer | None:
        if b"configManagerEnabled" in call.body:
            return self._configuration_profiles(call)
        wanted = [one.text for one in call.element.iter(f"{VIM}pathSet")]
        objects: list[Any] = []
        for one in call.element.iter(f"{VIM}objectSet"):
            ref = one.find(f"{VIM}obj")
            if ref is None or ref.get("type") not in ("HostProfileManager", "HostProfile"):
                return None
            walks = [path.text for path in one.iter(f"{VIM}path")]
            if ref.get("type") == "HostProfile":
                objects.append(self._profiles[str(ref.text)])
            elif "profile" in walks:
                objects += self._profiles.values()
            elif "profile" in wanted:
                refs = vim.profile.Profile.Array([vim.profile.host.HostProfile(key) for key in self._profiles])
                return contents(call, [(vim.profile.host.ProfileManager(str(ref.text)), {"profile": refs})])
        return contents(
            call,
            [(vim.profile.host.HostProfile(one.id), self._properties(one, wanted)) for one in objects],
        )

    def _properties(self, profile: Profile, wanted: Sequence[str | None]) -> dict[str, Any]:
        with self._lock:
            entities = [vim.HostSystem(key) for key, host in self._hosts.items() if host.profile == profile.id]
            entities += [
                vim.ClusterComputeResource(key) for key, one in self._cluster_wide.items() if one == profile.id
            ]
        known: dict[str, Any] = {
            "name": profile.name,
            "createdTime": _EPOCH,
            "modifiedTime": _EPOCH,
            "complianceStatus": "unknown",
        }
        if entities:
            known["entity"] = vim.ManagedEntity.Array(entities)
        return {name: value for name, value in known.items() if name in wanted}

    def _configuration_profiles(self, call: soap.Call) -> soap.Answer:
        """vcsim does not know the property: it is asked for the clusters' names instead."""
        answer = call.forward(call.body.replace(b"configManagerEnabled", b"name"))
        text = re.sub(
            r"<name>name</name><val[^>]*>([^<]*)</val>",
            lambda found: (
                '<name>configManagerEnabled</name><val xsi:type="xsd:boolean">'
                f"{'true' if found[1] in self._configured else 'false'}</val>"
            ),
            answer.body.decode(),
        )
        return soap.Answer(answer.status, text.encode(), answer.headers)

    # -- the calls -----------------------------------------------------------------------------------------------------

    def _profile(self, call: soap.Call) -> Profile:
        return self._profiles[call.text("_this")]

    @staticmethod
    def _entities(call: soap.Call, name: str = "entity") -> list[str]:
        return [str(one.text) for one in call.element.findall(f"{VIM}{name}")]

    def _find_associated(self, call: soap.Call) -> soap.Answer:
        key = self.host(call.text("entity")).profile
        return returned(call, vim.profile.Profile.Array([vim.profile.host.HostProfile(key)] if key else []))

    def _associate(self, call: soap.Call) -> soap.Answer:
        profile = self._profile(call)
        hosts = [self.host(one) for one in self._entities(call)]
        if any(one.profile not in (None, profile.id) for one in hosts):
            return fault_answer(vmodl.fault.InvalidArgument(msg="A specified parameter was not correct: entity"))
        for one in hosts:
            one.profile = profile.id
        return returned(call, None)

    def _dissociate(self, call: soap.Call) -> soap.Answer:
        for one in self._entities(call):
            self.host(one).profile, self.host(one).answers = None, {}
        return returned(call, None)

    def _reconnected(self, call: soap.Call) -> None:
        """A host is reconnected with a password after it was reinstalled: nothing that was applied is left on it."""
        if call.text("cnxSpec/password"):
            one = self.host(call.text("_this"))
            one.settings, one.waiting = {}, {}

    def _retrieve_answers(self, call: soap.Call) -> soap.Answer:
        answers = self.host(call.text("host")).answers
        if not answers:
            return returned(call, None)
        hidden = {
            place: {key: _stars(value) for key, value in parameters.items()} for place, parameters in answers.items()
        }
        file = vim.profile.host.AnswerFile(userInput=inputs(hidden), createdTime=_EPOCH, modifiedTime=_EPOCH)
        return returned(call, file)

    def _update_answers(self, call: soap.Call) -> soap.Answer:
        host = self.host(call.text("host"))
        given = read_inputs(call.element.findall(f"{VIM}configSpec/{VIM}userInput"))
        self._keep_secrets(host, given)
        failures = []
        for ask in self._asks(host):
            value = given.get((ask["path"], ask["policy"]), {}).get(ask["parameter"])
            if not _fits(ask, value):
                path = vim.profile.ProfilePropertyPath(
                    profilePath=ask["path"], policyId=ask["policy"], parameterId=ask["parameter"]
                )
                text = "A value is missing" if value is None else "The value is not valid"
                failures.append(
                    vim.fault.AnswerFileUpdateFailed.UpdateFailure(
                        userInputPath=path, errMsg=vmodl.LocalizableMessage(key="x", message=text)
                    )
                )
        if failures:
            return self._task(call, vim.fault.AnswerFileUpdateFailed(msg="Update failed.", failure=failures))
        host.answers = given
        return self._task(call, None)

    @staticmethod
    def _keep_secrets(host: Host, given: Answers) -> None:
        for place, parameters in given.items():
            for key, value in parameters.items():
                if isinstance(value, vim.PasswordField) and value.value == _STARS:
                    parameters[key] = host.answers.get(place, {}).get(key, value)

    def _asks(self, host: Host) -> Sequence[Mapping[str, Any]]:
        return self._profiles[host.profile].asks if host.profile is not None else ()

    def _answer_status(self, call: soap.Call) -> Any:
        results = []
        for key in self._entities(call, "host"):
            host = self.host(key)
            good = all(
                _fits(ask, host.answers.get((ask["path"], ask["policy"]), {}).get(ask["parameter"]))
                for ask in self._asks(host)
            )
            results.append(
                vim.profile.host.AnswerFileStatusResult(
                    checkedTime=_EPOCH, host=vim.HostSystem(key), status="valid" if good else "invalid"
                )
            )
        return vim.profile.host.AnswerFileStatusResult.Array(results)

    def _metadata(self, call: soap.Call) -> soap.Answer:
        profile = self._profiles[call.text("profile")]
        found = []
        for policy in self._entities(call, "policyName"):
            asks = {ask["parameter"]: ask for ask in profile.asks if ask["policy"] == policy}
            parameters = [
                vim.profile.ParameterMetadata(
                    id=_description(ask["parameter"], ask.get("summary", "")),
                    type=vim.PasswordField if ask.get("secret") else str,
                    optional=False,
                    securitySensitive=bool(ask.get("secret")),
                )
                for ask in asks.values()
            ]
            option = vim.profile.PolicyOptionMetadata(id=_description(f"{policy}Option", ""), parameter=parameters)
            found.append(vim.profile.PolicyMetadata(id=_description(policy, ""), possibleOption=[option]))
        return returned(call, vim.profile.PolicyMetadata.Array(found))

    def _check(self, call: soap.Call) -> Any:
        results = []
        for key in self._entities(call):
            host = self.host(key)
            asked = call.text("profile") or host.profile
            if asked is None:
                continue
            profile = self._profiles[asked]
            failures = []
            if host.profile == profile.id and any(
                host.answers.get((ask["path"], ask["policy"]), {}).get(ask["parameter"]) is None for ask in profile.asks
            ):
                host.result = "unknown"
            else:
                secrets = {_full_name(ask) for ask in profile.asks if ask.get("secret")}
                for name, value in self._target(profile, host.answers).items():
                    if host.settings.get(name) != value:
                        failures.append(_failure(name, host.settings.get(name), value, name in secrets))
                host.result = "nonCompliant" if failures else "compliant"
            results.append(
                vim.profile.ComplianceResult(
                    profile=vim.profile.host.HostProfile(profile.id),
                    complianceStatus=host.result,
                    entity=vim.HostSystem(key),
                    checkTime=_EPOCH,
                    failure=failures,
                )
            )
        return vim.profile.ComplianceResult.Array(results)

    @staticmethod
    def _target(profile: Profile, answers: Answers) -> dict[str, str]:
        target = dict(profile.settings)
        for ask in profile.asks:
            value = answers.get((ask["path"], ask["policy"]), {}).get(ask["parameter"])
            text = value.value if isinstance(value, vim.PasswordField) else value
            target[_full_name(ask)] = str(text)
        return target

    def _execute(self, call: soap.Call) -> soap.Answer:
        profile = self._profile(call)
        given = read_inputs(call.element.findall(f"{VIM}deferredParam"))
        self._keep_secrets(self.host(call.text("host")), given)
        known: Answers = {}
        missing = False
        for ask in profile.asks:
            place = (ask["path"], ask["policy"])
            known.setdefault(place, {})
            value = given.get(place, {}).get(ask["parameter"])
            if value is not None:
                known[place][ask["parameter"]] = value
            else:
                missing = True
        spec = None
        if not missing:
            spec = vim.host.ConfigSpec(option=[vim.option.OptionValue(key=_MARK, value=profile.id)])
        status = "needInput" if missing else "success"
        result = vim.profile.host.ExecuteResult(status=status, configSpec=spec, requireInput=inputs(known))
        return returned(call, result)

    def _requirements(self, call: soap.Call) -> soap.Answer:
        profile = self._profiles[call.text("configSpec/option/value")]
        needed = [
            word
            for word, wanted in (("maintenanceModeRequired", profile.maintenance), ("rebootRequired", profile.reboot))
            if wanted
        ]
        return self._task(call, vim.profile.host.ProfileManager.ConfigTaskList(taskListRequirement=needed))

    def _apply(self, call: soap.Call) -> soap.Answer:
        key = call.text("host")
        host, profile = self.host(key), self._profiles[call.text("configSpec/option/value")]
        if profile.maintenance and not self._in_maintenance_mode(call, key):
            return self._task(
                call, vim.fault.InvalidState(msg="The operation is not allowed in the current state of the host.")
            )
        given = read_inputs(call.element.findall(f"{VIM}userInput"))
        self._keep_secrets(host, given)
        host.answers = given or host.answers
        new = {
            name: value for name, value in self._target(profile, host.answers).items() if name not in profile.stubborn
        }
        (host.waiting if profile.reboot else host.settings).update(new)
        return self._task(call, None)


# -- Answers ---------------------------------------------------------------------------------------------------------


def inputs(answers: Answers) -> Any:
    """Answers as deferred parameters. Where there is none, the parameters are left out."""
    return [
        vim.profile.DeferredPolicyOptionParameter(
            inputPath=vim.profile.ProfilePropertyPath(profilePath=path, policyId=policy),
            parameter=[vmodl.KeyAnyValue(key=key, value=value) for key, value in parameters.items()],
        )
        for (path, policy), parameters in answers.items()
    ]


def read_inputs(elements: Iterable[ElementTree.Element]) -> Answers:
    """Deferred parameters as they come in a call."""
    answers: Answers = {}
    for one in elements:
        place = (
            one.findtext(f"{VIM}inputPath/{VIM}profilePath") or "",
            one.findtext(f"{VIM}inputPath/{VIM}policyId") or "",
        )
        parameters = answers.setdefault(place, {})
        for parameter in one.findall(f"{VIM}parameter"):
            value = parameter.find(f"{VIM}value")
            if value is None:
                continue
            kind = (value.get(_TYPE) or "").rpartition(":")[2]
            if kind == "PasswordField":
                parsed: Any = vim.PasswordField(value=value.findtext(f"{VIM}value") or "")
            else:
                parsed = value.text or ""
            parameters[parameter.findtext(f"{VIM}key") or ""] = parsed
    return answers


def _stars(value: Any) -> Any:
    return vim.PasswordField(value=_STARS) if isinstance(value, vim.PasswordField) else value


def _fits(ask: Mapping[str, Any], value: Any) -> bool:
    text = value.value if isinstance(value, vim.PasswordField) else value
    return text is not None and re.fullmatch(ask.get("valid", ".+"), str(text)) is not None


def _description(key: str, summary: str) -> Any:
    return vim.ExtendedElementDescription(label=key, summary=summary, key=key, messageCatalogKeyPrefix=key)


def _full_name(ask: Mapping[str, Any]) -> str:
    return f"{ask['path']}.{ask['policy']}.{ask['parameter']}"


def _failure(name: str, on_host: str | None, in_profile: str, secret: bool) -> Any:
    values: list[Any] = [on_host, in_profile]
    if secret:
        values = [None if value is None else vim.PasswordField(value=value) for value in values]
    failure = vim.profile.ComplianceResult.ComplianceFailure
    return failure(
        failureType=name,
        message=vmodl.LocalizableMessage(key=name, message=f"{name} does not match"),
        failureValues=[
            failure.ComplianceFailureValues(comparisonIdentifier=name, hostValue=values[0], profileValue=values[1])
        ],
    )
