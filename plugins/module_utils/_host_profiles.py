# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: host profiles without a vCenter: answers and their names, faults in words.

A host profile asks for values that differ from host to host, such as the address of a VMkernel interface. vCenter keeps
them in the host's answer file. There an answer has a path of several parts; here it has one name, ``PROFILE
PATH.POLICY.PARAMETER``, for example ``network.hostPortGroup["key-..."].ipConfig.IpAddressPolicy.address``. People may
write any ending of it that fits one answer only.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._vsphere import (
    describe_fault,
    fault_kinds,
    is_host_name,
)

__all__ = [
    "AnswerError",
    "Entry",
    "Path",
    "ProfiledHost",
    "Question",
    "Secret",
    "describe_problems",
    "merge_answers",
    "missing_answers",
    "names_are_known",
    "secret_names",
    "state_text",
    "why_not",
]

Fault = t.Any

_MOST_NAMES = 20
# What a parameter's type may be called in the metadata: XML Schema names, and those that pyVmomi makes of them.
_NUMBERS = ("int", "long", "short", "byte", "integer")


@dataclass(frozen=True)
class Secret:
    """A value of vSphere's type PasswordField."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class Path:
    """Where an answer belongs: vSphere's ProfilePropertyPath."""

    profile: str
    policy: str = ""
    option: t.Optional[str] = None
    parameter: t.Optional[str] = None

    @property
    def name(self) -> str:
        """The part of an answer's name that comes before the parameter."""
        return f"{self.profile}.{self.policy}" if self.policy else self.profile


@dataclass(frozen=True)
class Entry:
    """The parameters of one policy of a host, by their keys. Empty where a profile asks and nobody has answered."""

    path: Path
    parameters: t.Mapping[str, t.Any]

    def name(self, parameter: str) -> str:
        return f"{self.path.name}.{parameter}"


@dataclass(frozen=True)
class Question:
    """A parameter of a policy as the profile's metadata describe it. ``kind`` is the name of its type."""

    policy: str
    option: str
    parameter: str
    label: str = ""
    summary: str = ""
    secret: bool = False
    optional: bool = False
    kind: str = ""

    @property
    def words(self) -> str:
        """What is asked for, in the words of vCenter."""
        return self.summary or self.label


class AnswerError(DefinitionError):
    """Answers that fit no question, or more than one, or that must not be given in this way."""


@dataclass(frozen=True)
class ProfiledHost:
    """One host that should be as a host profile says.

    replace: another profile that is attached to the host is taken off. enter_maintenance_mode: whether the host may be
    put into maintenance mode. update_secrets: secrets that vCenter has already are written again.
    """

    name: str
    profile: str
    answers: t.Mapping[str, t.Any]
    secret_answers: t.Mapping[str, str] = field(repr=False)
    replace: bool = False
    enter_maintenance_mode: bool = True
    update_secrets: bool = False

    @classmethod
    def parse(cls, options: t.Mapping[str, t.Any]) -> ProfiledHost:
        """From a host's options. Raises DefinitionError with every mistake that is in them."""
        errors: list[str] = []
        name = str(options.get("name") or "")
        if not is_host_name(name):
            errors.append(f"{name!r} is no host name.")
        if not options.get("profile"):
            errors.append("No profile is given: write the name of a host profile of this vCenter.")
        answers = dict(options.get("answers") or {})
        secrets = dict(options.get("secret_answers") or {})
        for option, given in (("answers", answers), ("secret_answers", secrets)):
            for key, value in given.items():
                if not isinstance(key, str) or not key.strip():
                    errors.append(f"{option}: {key!r} is no name of an answer.")
                elif isinstance(value, (list, tuple, dict)) or value is None:
                    errors.append(f"{option}: {key} must be a text, a number, true or false.")
        for twice in sorted(set(answers).intersection(secrets), key=str):
            errors.append(f"{twice} is in answers and in secret_answers: give it once.")
        if errors:
            raise DefinitionError(errors)
        return cls(
            name=name,
            profile=str(options["profile"]),
            answers=answers,
            secret_answers={key: str(value) for key, value in secrets.items()},
            replace=bool(options.get("replace")),
            enter_maintenance_mode=options.get("enter_maintenance_mode", True) is not False,
            update_secrets=bool(options.get("update_secrets")),
        )


# -- Answers -----------------------------------------------------------------------------------------------------------


def _questions_of(path: Path, questions: t.Iterable[Question]) -> list[Question]:
    """The questions that the metadata have for a policy. Of several options that ask, the one of the path counts."""
    mine = [one for one in questions if one.policy == path.policy]
    if path.option is not None and any(one.option == path.option for one in mine):
        mine = [one for one in mine if one.option == path.option]
    if path.parameter is not None:
        mine = [one for one in mine if one.parameter == path.parameter]
    return mine


def _places(entries: t.Iterable[Entry], questions: t.Sequence[Question]) -> dict[str, tuple[Path, str]]:
    """Every answer that can be given, by its full name."""
    places: dict[str, tuple[Path, str]] = {}
    for entry in entries:
        keys = [*entry.parameters, *(one.parameter for one in _questions_of(entry.path, questions))]
        if entry.path.parameter is not None:
            keys.append(entry.path.parameter)
        for key in keys:
            places.setdefault(entry.name(key), (entry.path, key))
    return places


def _find(name: str, places: t.Mapping[str, tuple[Path, str]]) -> list[str]:
    """The full names that a name may mean."""
    return [name] if name in places else [full for full in places if full.endswith(f".{name}")]


def _by_word(name: str, entries: t.Iterable[Entry], questions: t.Sequence[Question]) -> t.Optional[tuple[Path, str]]:
    """What a full name means in a policy whose parameters nobody knows: it is taken at its word."""
    for entry in entries:
        key = name[len(entry.path.name) + 1 :]
        unknown = not entry.parameters and not _questions_of(entry.path, questions)
        if unknown and key and "." not in key and name.startswith(f"{entry.path.name}."):
            return entry.path, key
    return None


def names_are_known(host: ProfiledHost, stored: t.Sequence[Entry]) -> bool:
    """Whether the answer file alone tells what every given answer means, so that the profile need not be asked."""
    places = _places(stored, ())
    return all(len(_find(name, places)) == 1 for name in [*host.answers, *host.secret_answers])


def merge_answers(
    host: ProfiledHost, stored: t.Sequence[Entry], asked: t.Sequence[Entry], questions: t.Sequence[Question]
) -> tuple[list[Entry], list[str]]:
    """The answer file as it should be, and the full names of the answers that it has otherwise or not at all.

    stored: what is in the answer file. asked: what the profile asks for. Raises AnswerError.
    """
    known: dict[Path, dict[str, t.Any]] = {}
    for entry in stored:
        known.setdefault(entry.path, {}).update(entry.parameters)
    by_place = {_place_key(path): path for path in known}
    entries = [*stored, *asked]
    places = _places(entries, questions)
    errors: list[str] = []
    changed: list[str] = []
    meant: dict[str, str] = {}
    for secret, given in ((False, host.answers), (True, host.secret_answers)):
        for name, value in given.items():
            found = _find(name, places)
            word = None if found else _by_word(name, entries, questions)
            if word is not None:
                found, places[name] = [name], word
            if len(found) != 1:
                errors.append(_not_one(name, found, places))
                continue
            full = found[0]
            if full in meant:
                errors.append(f"{meant[full]} and {name} are the same answer ({full}): give it once.")
                continue
            meant[full] = name
            path, key = places[full]
            path = by_place.setdefault(_place_key(path), path)
            question = next((one for one in _questions_of(path, questions) if one.parameter == key), None)
            before = known.get(path, {}).get(key)
            if not secret and (isinstance(before, Secret) or (question is not None and _is_secret(question))):
                errors.append(f"{full} is a secret: give it in secret_answers, where nobody sees it.")
                continue
            try:
                after = _typed(value, before, question, secret)
            except ValueError as error:
                errors.append(f"{full}: {error}")
                continue
            if after == before:
                continue
            if secret and before is not None and not host.update_secrets:
                # What vCenter says of a stored secret need not be the secret: it cannot be compared.
                continue
            known.setdefault(path, {})[key] = after
            changed.append(full)
    if errors:
        raise AnswerError(errors)
    return [Entry(path, parameters) for path, parameters in known.items()], changed


def _place_key(path: Path) -> tuple[str, str, t.Optional[str]]:
    """What tells policies apart: the same one may come with and without its option."""
    return path.profile, path.policy, path.parameter


def _not_one(name: str, found: t.Sequence[str], places: t.Iterable[str]) -> str:
    if found:
        return f"{name} may be one of {', '.join(sorted(found))}: write more of the name."
    names = sorted(places)
    if not names:
        return f"The profile asks for no answer at all, so {name} cannot be given: take it out."
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"The profile asks for no answer {name}; it asks for {', '.join(names[:_MOST_NAMES])}{more}."


def _is_secret(question: Question) -> bool:
    return question.secret or question.kind.rpartition(".")[2].rpartition(":")[2] == "PasswordField"


def _typed(value: t.Any, before: t.Any, question: t.Optional[Question], secret: bool) -> t.Any:
    """A given value in the type that vCenter wants: that of the metadata, or of what it has now."""
    kind = question.kind.rpartition(".")[2].rpartition(":")[2] if question is not None else ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "PasswordField" or isinstance(before, Secret) or (secret and not kind):
        return Secret(text)
    if not kind and before is None and isinstance(value, int):
        return value
    if kind in ("boolean", "bool") or isinstance(before, bool):
        if text.lower() not in ("true", "false", "yes", "no"):
            # The value of a secret must not be said.
            raise ValueError("must be true or false." if secret else f"must be true or false, not {text}.")
        return text.lower() in ("true", "yes")
    if kind in _NUMBERS or (not kind and isinstance(before, int)):
        try:
            return int(text)
        except ValueError:
            raise ValueError("must be a number." if secret else f"must be a number, not {text}.") from None
    return text


def missing_answers(asked: t.Sequence[Entry], questions: t.Sequence[Question]) -> list[dict[str, t.Any]]:
    """What a profile still asks for: ``name``, ``description`` and ``secret`` of each missing answer."""
    missing: dict[str, dict[str, t.Any]] = {}
    for entry in asked:
        mine = _questions_of(entry.path, questions)
        given = {key for key, value in entry.parameters.items() if value not in (None, "", Secret(""))}
        wanted = [one for one in mine if one.parameter not in given and not one.optional]
        for one in wanted:
            missing[entry.name(one.parameter)] = {"description": one.words, "secret": _is_secret(one)}
        if wanted or (given and mine):
            continue
        for key in entry.parameters:
            if key not in given:
                missing[entry.name(key)] = {"description": "", "secret": isinstance(entry.parameters[key], Secret)}
        if not entry.parameters and not mine:
            missing[entry.name(entry.path.parameter) if entry.path.parameter else entry.path.name] = {
                "description": "",
                "secret": False,
            }
    return [{"name": name, **missing[name]} for name in sorted(missing)]


def secret_names(entries: t.Iterable[Entry], host: ProfiledHost, questions: t.Sequence[Question]) -> set[str]:
    """Full names of the answers whose values nobody should see."""
    names = set()
    for entry in entries:
        asked = {one.parameter for one in _questions_of(entry.path, questions) if _is_secret(one)}
        for key, value in entry.parameters.items():
            full = entry.name(key)
            given = any(full == name or full.endswith(f".{name}") for name in host.secret_answers)
            if isinstance(value, Secret) or key in asked or given:
                names.add(full)
    return names


# -- Words -------------------------------------------------------------------------------------------------------------


def state_text(
    profile: t.Optional[str],
    entries: t.Iterable[Entry],
    problems: t.Optional[t.Sequence[str]],
    *,
    secrets: t.Collection[str],
    new_secrets: t.Collection[str] = (),
) -> str:
    """How a host stands, for a diff: its profile, its answers, in what it does not comply. No secret is in it.

    problems: None when nobody has looked.
    """
    lines = [f"profile: {profile or 'none'}"]
    answers = []
    for entry in entries:
        for key, value in entry.parameters.items():
            full = entry.name(key)
            shown = ("a new secret" if full in new_secrets else "a secret") if full in secrets else value
            answers.append(f"answer {full}: {shown}")
    lines += sorted(answers)
    if problems is not None:
        lines += [f"not compliant: {problem}" for problem in problems] or ["compliant"]
    return "\n".join(lines) + "\n"


def describe_problems(result: t.Any) -> list[str]:
    """The failures of a ComplianceResult, one line each, without a repetition."""
    lines: dict[str, None] = {}
    for failure in getattr(result, "failure", None) or []:
        text = _text_of(failure.message) or str(failure.failureType)
        shown = []
        for one in failure.failureValues or []:
            where = f"{one.profileInstance}: " if one.profileInstance else ""
            shown.append(f"{where}host {_shown(one.hostValue)}, profile {_shown(one.profileValue)}")
        lines[f"{text.rstrip('.')} ({'; '.join(shown)})" if shown else text.rstrip(".")] = None
    return list(lines)


def _text_of(message: t.Any) -> str:
    return str(getattr(message, "message", None) or getattr(message, "key", None) or "")


def _shown(value: t.Any) -> str:
    if value is None:
        return "nothing"
    if type(value).__name__.endswith("PasswordField"):
        return "a secret"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(one) for one in value) or "nothing"
    return str(value)


def _update_failures(fault: Fault) -> str:
    found = []
    for failure in getattr(fault, "failure", None) or []:
        path = failure.userInputPath
        name = ".".join(str(part) for part in (path.profilePath, path.policyId, path.parameterId) if part)
        found.append(f"{name}: {_text_of(failure.errMsg).rstrip('.')}")
    return "; ".join(found) or describe_fault(fault).rstrip(".")


def _config_failures(fault: Fault) -> str:
    """What is behind a HostConfigFailed, which itself says nothing."""
    found = []
    for one in getattr(fault, "failure", None) or []:
        if "vim.fault.DuplicateName" in fault_kinds(one):
            there = getattr(one, "name", None) or "(unknown)"
            found.append(f"the host has an object called {there} already: rename or remove it")
        else:
            # A PlatformConfigFault has what the host said in a property of its own.
            more = getattr(one, "text", None)
            found.append(describe_fault(one).rstrip(".") + (f": {more.rstrip('.')}" if more else ""))
    return "; ".join(found) or describe_fault(fault).rstrip(".")


def why_not(doing: str, fault: Fault, *, host: str, profile: str, seconds: float = 0) -> str:
    """A fault in words that say what to do. ``doing`` is attach, answer, check, execute, enter, apply or leave."""
    for kind in fault_kinds(fault):
        if kind == "vim.fault.NoPermission":
            privilege = getattr(fault, "privilegeId", None) or _PRIVILEGES.get(doing, "(not told which)")
            return f"vCenter does not let this user {_DOING[doing]}: give it the privilege {privilege}."
        if kind == "vim.fault.NotAuthenticated":
            return f"vCenter has ended the session while it should {_DOING[doing]}: run again."
        if kind == "vim.fault.AnswerFileUpdateFailed":
            return f"vCenter does not take the answers: {_update_failures(fault)}."
        if kind == "vmodl.fault.HostCommunication":
            return (
                f"vCenter lost {host} while it should {_DOING[doing]} ({describe_fault(fault).rstrip('.')}): see "
                "whether the host answers at the address that the profile gives it, and run again."
            )
        if kind == "vim.fault.InvalidProfileReferenceHost":
            return (
                f"The profile {profile} has no usable reference host: set one in vCenter (Host Profiles, {profile}, "
                "Change Reference Host) and run again."
            )
        if doing == "attach" and kind == "vmodl.fault.InvalidArgument":
            return (
                f"vCenter does not attach {profile} to {host}, because of another attachment of the host or of its "
                "cluster: detach that one in vCenter, and run again."
            )
        if doing == "apply" and kind == "vim.fault.InvalidState":
            return (
                f"{host} is not in a state in which {profile} can be applied ({describe_fault(fault).rstrip('.')}): "
                "put it into maintenance mode, or let this module do so (enter_maintenance_mode)."
            )
        if doing == "apply" and kind == "vim.fault.HostConfigFailed":
            return (
                f"{host} did not take the configuration of {profile}: {_config_failures(fault)}. What could be set has "
                "been set; put the rest right and run again."
            )
        if doing == "enter" and kind == "vim.fault.Timedout":
            return (
                f"{host} was not in maintenance mode after {seconds:g} seconds and vCenter gave up: see in vCenter "
                "what holds it, or raise maintenance_timeout."
            )
        if doing == "enter" and kind == "vim.fault.InvalidState":
            return (
                f"{host} does not go into maintenance mode ({describe_fault(fault).rstrip('.')}): see in vCenter what "
                "else is done with it, and run again."
            )
        if kind == "vim.fault.TaskInProgress":
            return f"Another task works on {host} in vCenter: wait for its end and run again."
        if kind == "vmodl.fault.RequestCanceled":
            return f"Somebody cancelled the task in vCenter that should {_DOING[doing]}: run again."
    return f"vCenter could not {_DOING[doing]}: {describe_fault(fault)}"


_DOING = {
    "attach": "attach the profile",
    "answer": "write the answer file",
    "read": "read the answer file",
    "check": "check the host's compliance",
    "execute": "work out what the profile would change",
    "enter": "put the host into maintenance mode",
    "apply": "apply the profile",
    "leave": "take the host out of maintenance mode",
}
_PRIVILEGES = {
    "attach": "Profile.Edit",
    "answer": "Profile.Edit",
    "enter": "Host.Config.Maintenance",
    "leave": "Host.Config.Maintenance",
}
