# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the definition of a host, checked once and used by everything else.

``parse_hosts()`` turns what people wrote into frozen dataclasses, or into sentences that say what to write instead.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import Action, parse_actions
from ansible_collections.pxemanager.esxi.plugins.module_utils._errors import DefinitionError
from ansible_collections.pxemanager.esxi.plugins.module_utils._fields import (
    Fields,
    Wrong,
    boolean,
    choice,
    fqdn,
    integer,
    ipv4,
    list_of,
    mac_address,
    matching,
    netmask_prefix,
    show,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._options import (
    BootOptions,
    Disk,
    KickstartOptions,
    parse_boot,
    parse_disk,
    parse_kickstart,
)

__all__ = [
    "BootOptions",
    "Disk",
    "Host",
    "KickstartOptions",
    "Network",
    "ParsedHosts",
    "parse_hosts",
    "valid_name",
]

_image: t.Callable[[object], str] = matching(
    r"[A-Za-z0-9](?:(?:[A-Za-z0-9_+-]|\.(?!\.))*[A-Za-z0-9])?",
    64,
    "an imported image's name such as esxi-8.0.3, of letters, digits and . _ + - between them",
)
_label: t.Callable[[object], str] = matching(
    r"[A-Za-z0-9][A-Za-z0-9 ._:/+@#-]*", 128, "true, false, or a label of letters, digits and ._:/+@#- for the request"
)


@dataclasses.dataclass(frozen=True)
class Network:
    """The management network. Addresses are dotted texts, ``prefix`` is 1-31, VLAN 0 means untagged.

    ``nic`` is a canonical MAC or ``vmnicN``. ``boot_address`` is what DHCP reserves and the installer calls from;
    ``address`` is what the installed host has. With bootproto dhcp both may be None: nothing is reserved then.
    """

    bootproto: str
    address: t.Optional[str]
    netmask: t.Optional[str]
    prefix: t.Optional[int]
    gateway: t.Optional[str]
    nameservers: tuple[str, ...]
    vlan: int
    nic: str
    boot_address: t.Optional[str]
    vm_portgroup: bool
    nodns: bool


@dataclasses.dataclass(frozen=True)
class Host:
    """One ESXi machine. ``name`` is a lower-case FQDN, ``macs`` are ``aa:bb:cc:dd:ee:ff``, at least one.

    ``secure_boot``: the machine boots with Secure Boot, so nothing runs on its first boot by itself.
    ``reinstall`` and ``upgrade`` are False, True, or the label of a request; only one of them is a request.
    ``reinstall_image`` is the image that a reinstall may put in the place of another one.
    """

    name: str
    macs: tuple[str, ...]
    network: Network
    image: str
    firmware: str
    disk: Disk
    boot: BootOptions
    post_actions: tuple[Action, ...]
    kickstart: KickstartOptions
    reinstall: t.Union[bool, str]
    secure_boot: bool = False
    upgrade: t.Union[bool, str] = False
    reinstall_image: t.Optional[str] = None

    @property
    def command(self) -> str:
        """What the installer is told to do: install, installorupgrade or upgrade."""
        return "upgrade" if self.upgrade else self.kickstart.command

    @property
    def request(self) -> t.Union[bool, str]:
        """Whether something is asked for that touches a machine with ESXi on it: False, True, or a label."""
        return self.upgrade or self.reinstall

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that the machine may call from: while it installs and afterwards."""
        both = (self.network.boot_address, self.network.address)
        return tuple(dict.fromkeys(address for address in both if address is not None))

    @property
    def short_name(self) -> str:
        """The name up to the first dot."""
        return self.name.split(".", 1)[0]

    def to_record(self) -> dict[str, t.Any]:
        """The canonical, JSON-able form that a PXE server keeps.

        Without what may be secret (scripts, serial number, licence) and without ``reinstall`` and ``upgrade``, which
        are requests and no properties of the host: a request must not make the host look changed.
        """
        return {
            "name": self.name,
            "macs": list(self.macs),
            # (dataclasses.asdict() copies each text deeply, which takes longer than all the rest of a record.)
            "network": {**vars(self.network), "nameservers": list(self.network.nameservers)},
            "image": self.image,
            "firmware": self.firmware,
            "secure_boot": self.secure_boot,
            "disk": {
                **vars(self.disk),
                "first": None if self.disk.first is None else list(self.disk.first),
            },
            "boot": {**vars(self.boot), "options": dict(self.boot.options)},
            "post_actions": [action.name for action in self.post_actions],
        }

    def to_template(self) -> dict[str, t.Any]:
        """All of it but the requests, as plain dictionaries, lists and texts, which is all that a template may get.

        ``kickstart.command`` is what the installer is told, with a request for an upgrade counted in.
        """
        options = {**_plain(dataclasses.asdict(self.kickstart)), "command": self.command}
        actions = [_plain(dataclasses.asdict(action)) for action in self.post_actions]
        return {**self.to_record(), "short_name": self.short_name, "kickstart": options, "post_actions": actions}


def _plain(value: t.Any) -> t.Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclasses.dataclass(frozen=True)
class ParsedHosts:
    """The hosts that can be used, and the sentences about those that cannot.

    ``hosts`` is keyed by the host's name. ``errors`` is keyed by the name as given, in lower case, or by ``hosts[3]``
    when there is none that could be printed. A name is never in both.
    """

    hosts: dict[str, Host]
    errors: dict[str, list[str]]


@dataclasses.dataclass
class _Draft:
    key: str
    position: str
    errors: list[str]
    name: t.Optional[str] = None
    macs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    host: t.Optional[Host] = None


def valid_name(value: object) -> str:
    """The host name in canonical form; raises DefinitionError."""
    try:
        return fqdn(value)
    except Wrong as wrong:
        raise DefinitionError(f"name {wrong}.") from None


def parse_hosts(definitions: t.Sequence[object]) -> ParsedHosts:
    """Checks every definition, alone and against all others.

    A mistake in one host says nothing about the others; a MAC, an address or a name that two hosts share is a mistake
    of both. Raises MissingLibraryError when netaddr is not installed.
    """
    drafts = [_parse(definition, f"hosts[{position}]") for position, definition in enumerate(definitions)]
    _refuse_shared(drafts)
    parsed = ParsedHosts({}, {})
    for draft in drafts:
        if draft.errors:
            parsed.errors.setdefault(draft.key, []).extend(draft.errors)
    for draft in drafts:
        if draft.host is not None and draft.key not in parsed.errors:
            parsed.hosts[draft.host.name] = draft.host
    return parsed


def _refuse_shared(drafts: t.Sequence[_Draft]) -> None:
    """Two hosts with one MAC would be one machine with two installs: neither may be published."""
    for what, values in (
        ("name", lambda draft: (draft.name,) if draft.name else ()),
        ("MAC address", lambda draft: draft.macs),
        ("IP address", lambda draft: draft.addresses),
    ):
        owners: dict[str, list[_Draft]] = {}
        for draft in drafts:
            for value in dict.fromkeys(values(draft)):
                owners.setdefault(value, []).append(draft)
        for value, sharing in owners.items():
            for draft in sharing if len(sharing) > 1 else ():
                others = [f"{other.key} ({other.position})" for other in sharing if other is not draft]
                draft.errors.append(
                    f"{draft.key}: {what} {value} of {draft.position} is also that of {' and '.join(others[:5])}"
                    f"{' and others' if len(others) > 5 else ''}; give each host its own."
                )


def _parse(definition: object, position: str) -> _Draft:
    given = definition.get("name") if isinstance(definition, t.Mapping) else None
    # A name of blanks alone would leave the sentence without a subject.
    printable = isinstance(given, str) and given.isascii() and given.isprintable() and 0 < len(given.strip()) <= 253
    key = str(given).lower() if printable else position
    draft = _Draft(key=key, position=position, errors=[])
    fields = Fields(definition, key, "", draft.errors)
    if not isinstance(definition, t.Mapping):
        if definition is None:
            fields.wrong("the definition", "is empty; write at least name, macs, network, image and disk")
        return draft
    draft.name = fields.need("name", fqdn, "the host's fully qualified name, such as esx01.example.com")
    mistakes = len(fields.errors)
    draft.macs = _macs(fields)
    # One that could not be read may be the one that the network names.
    network = _network(fields.section("network"), draft.macs if len(fields.errors) == mistakes else ())
    if network is not None:
        both = (network.address, network.boot_address)
        draft.addresses = tuple(address for address in both if address is not None)
    image = fields.need("image", _image, "the name of an imported image, such as esxi-8.0.3")
    firmware = fields.get("firmware", choice("auto", "bios", "uefi"), "auto")
    reinstall = fields.get("reinstall", _request, False)
    upgrade = fields.get("upgrade", _request, False)
    kickstart = parse_kickstart(fields.section("kickstart"), bool(upgrade))
    disk = parse_disk(fields.section("disk"), kickstart, bool(upgrade))
    boot = parse_boot(fields.section("boot"))
    post_actions = parse_actions(fields.raw("post_actions"), fields)
    secure_boot = fields.get("secure_boot", boolean, False)
    if secure_boot and firmware == "bios":
        fields.wrong("secure_boot", "is a thing of UEFI; write firmware: uefi or auto, or take it out")
    reinstall_image = fields.get("reinstall_image", _image, None) if fields.raw("reinstall_image") != "" else None
    if reinstall and upgrade:
        fields.wrong(
            "upgrade",
            "and reinstall are both asked for; take out the one that is not meant (or has been carried out)",
        )
    elif reinstall and kickstart.command == "upgrade":
        fields.wrong(
            "reinstall",
            "is asked for, and kickstart.command is upgrade; write upgrade in place of reinstall, or take "
            "kickstart.command out",
        )
    # Where the host goes in vCenter is none of the PXE server's business: accepted unread.
    fields.raw("vcenter")
    fields.finish()
    if not draft.errors and draft.name and network and image and disk:
        draft.host = Host(
            name=draft.name,
            macs=draft.macs,
            network=network,
            image=image,
            firmware=firmware,
            disk=disk,
            boot=boot,
            post_actions=post_actions,
            kickstart=kickstart,
            reinstall=reinstall,
            secure_boot=secure_boot,
            upgrade=upgrade,
            reinstall_image=reinstall_image,
        )
    return draft


def _request(value: object) -> t.Union[bool, str]:
    if value == "":
        return False
    try:
        return boolean(value)
    except Wrong:
        return _label(value)


def _macs(fields: Fields) -> tuple[str, ...]:
    """Each MAC is checked by itself, so that one bad one does not hide the next."""
    given = fields.raw("macs")
    items = [given] if isinstance(given, (str, int, float)) else given
    if not isinstance(items, (list, tuple)) or not items:
        fields.wrong("macs", "is missing; write a list of the MAC addresses that the host may boot from")
        return ()
    macs: list[str] = []
    for position, item in enumerate(items):
        try:
            mac = mac_address(item)
        except Wrong as wrong:
            fields.wrong(f"macs[{position}]", str(wrong))
            continue
        if mac in macs:
            fields.wrong(f"macs[{position}]", f"is {mac}, which is listed before; write each MAC address once")
        else:
            macs.append(mac)
    return tuple(macs)


def _address_and_prefix(value: object) -> tuple[ipaddress.IPv4Address, t.Optional[int]]:
    text, slash, prefix = value.partition("/") if isinstance(value, str) else (value, "", "")
    address = ipv4(text)
    if not slash:
        return address, None
    if not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 2 and 1 <= int(prefix) <= 31):
        raise Wrong(f"is {show(value)}; write a prefix length from 1 to 31 after the slash, such as {address}/24")
    return address, int(prefix)


def _nic(value: object) -> str:
    if (
        isinstance(value, str)
        and value[:5] == "vmnic"
        and value[5:].isascii()
        and value[5:].isdigit()
        and len(value) < 9
    ):
        return str(value)
    return mac_address(value)


def _network(fields: Fields, macs: tuple[str, ...]) -> t.Optional[Network]:
    if not fields.readable:
        return None
    bootproto = fields.get("bootproto", choice("static", "dhcp"), "static")
    address, prefix = fields.get("address", _address_and_prefix, (None, None))
    mask_prefix = fields.get("netmask", netmask_prefix, None)
    gateway = fields.get("gateway", ipv4, None)
    nameservers = fields.get("nameservers", list_of(_nameserver, most=2), ())
    nic = fields.get("nic", _nic, None)
    network = Network(
        bootproto=bootproto,
        address=None if address is None else str(address),
        prefix=prefix if prefix is not None else mask_prefix,
        netmask=None,
        gateway=None if gateway is None else str(gateway),
        nameservers=nameservers,
        vlan=fields.get("vlan", integer(0, 4094), 0),
        nic=nic if nic is not None else (macs[0] if macs else ""),
        boot_address=str(fields.get("boot_address", ipv4, address) or "") or None,
        vm_portgroup=fields.get("vm_portgroup", boolean, False),
        nodns=fields.get("nodns", boolean, False),
    )
    fields.finish()
    if not fields.good():
        # What is compared below may be a default in place of a mistake: no second sentence about the same mistake.
        return None
    if prefix is not None and mask_prefix is not None and prefix != mask_prefix:
        fields.wrong(
            "network.netmask", f"says /{mask_prefix} but network.address says /{prefix}; write only one of them"
        )
    if nic is not None and not nic.startswith("vmnic") and nic not in macs and macs:
        fields.wrong("network.nic", f"is {nic}, which is none of the host's macs; write one of {', '.join(macs)}")
    if bootproto == "dhcp":
        _check_dhcp(fields, network)
    else:
        _check_static(fields, network, address, gateway)
    if not fields.good():
        return None
    if network.prefix is not None:
        mask = ipaddress.IPv4Address((0xFFFFFFFF << (32 - network.prefix)) & 0xFFFFFFFF)
        network = dataclasses.replace(network, netmask=str(mask))
    return network


def _nameserver(value: object) -> str:
    return str(ipv4(value))


def _check_dhcp(fields: Fields, network: Network) -> None:
    if network.gateway is not None:
        fields.wrong("network.gateway", "cannot be set with bootproto dhcp; take it out, or write bootproto: static")
    if network.nameservers:
        fields.wrong(
            "network.nameservers",
            "are ignored by the installer with bootproto dhcp; take them out, or use the post action dns",
        )


def _check_static(
    fields: Fields,
    network: Network,
    address: t.Optional[ipaddress.IPv4Address],
    gateway: t.Optional[ipaddress.IPv4Address],
) -> None:
    if address is None:
        fields.wrong("network.address", "is missing; write an address such as 192.168.77.21/24, or bootproto: dhcp")
        return
    if network.prefix is None:
        fields.wrong("network.netmask", f"is missing; write it, or the address as {address}/24")
        return
    subnet = ipaddress.IPv4Network((int(address), network.prefix), strict=False)
    if network.prefix <= 30 and address in (subnet.network_address, subnet.broadcast_address):
        fields.wrong(
            "network.address", f"is {address}, the network or broadcast address of {subnet}; write a host's address"
        )
    if gateway is None:
        return
    if gateway not in subnet:
        fields.wrong("network.gateway", f"is {gateway}, which is outside {subnet}; write an address of that subnet")
    elif gateway == address:
        fields.wrong("network.gateway", f"is {gateway}, the host's own address; write the router's address")
    elif network.prefix <= 30 and gateway in (subnet.network_address, subnet.broadcast_address):
        fields.wrong(
            "network.gateway", f"is {gateway}, the network or broadcast address of {subnet}; write the router's address"
        )
