# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxelab import dhcp

ADDRESSES = st.ip_addresses(v=4).map(str)
OPTIONS = st.dictionaries(
    st.integers(1, 254).filter(lambda code: code != dhcp.OVERLOAD), st.binary(min_size=1, max_size=600), max_size=8
)
ACK = dhcp.Packet(
    op=2,
    xid=1,
    mac="00:50:56:aa:01:01",
    yiaddr="192.168.77.21",
    siaddr="192.168.77.10",
    file="mboot.efi",
    options={
        dhcp.MESSAGE_TYPE: bytes([dhcp.ACK]),
        dhcp.SERVER_ID: b"\xc0\xa8\x4d\x0b",
        dhcp.SUBNET_MASK: b"\xff\xff\xfe\0",
    },
)


@given(xid=st.integers(0, 2**32 - 1), options=OPTIONS, yiaddr=ADDRESSES, siaddr=ADDRESSES, secs=st.integers(0, 65535))
def test_what_is_encoded_is_decoded(xid: int, options: dict[int, bytes], yiaddr: str, siaddr: str, secs: int) -> None:
    packet = dhcp.Packet(2, xid, "00:50:56:aa:01:01", options, secs, True, "0.0.0.0", yiaddr, siaddr, file="a/b")
    assert dhcp.decode(dhcp.encode(packet)) == packet


@given(st.binary(max_size=700))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        packet = dhcp.decode(data)
    except dhcp.MalformedPacket:
        return
    assert packet.kind >= 0


def test_options_in_the_file_and_sname_fields_are_read() -> None:
    data = bytearray(dhcp.encode(replace(ACK, options={**ACK.options, dhcp.OVERLOAD: b"\3"}, file="")))
    data[108 : 108 + 11] = bytes([dhcp.BOOTFILE, 9]) + b"pxelinux."
    data[44 : 44 + 6] = bytes([dhcp.HOST_NAME, 4]) + b"esx1"
    packet = dhcp.decode(bytes(data))
    assert packet.text(dhcp.BOOTFILE) == "pxelinux." and packet.text(dhcp.HOST_NAME) == "esx1"
    assert packet.file == "" and packet.sname == ""


def test_an_option_that_runs_over_the_end_is_refused() -> None:
    data = dhcp.encode(ACK)[:240] + bytes([dhcp.BOOTFILE, 200]) + b"short"
    with pytest.raises(dhcp.MalformedPacket):
        dhcp.decode(data)


def test_the_boot_server_is_siaddr_then_option_54_and_never_66() -> None:
    assert dhcp.lease_of(ACK).boot_server == "192.168.77.10"
    without = replace(ACK, siaddr="0.0.0.0", options={**ACK.options, 66: b"192.168.77.99"})
    assert dhcp.lease_of(without).boot_server == "192.168.77.11"


def test_the_boot_file_is_the_field_then_option_67() -> None:
    assert dhcp.lease_of(ACK).bootfile == "mboot.efi"
    assert dhcp.lease_of(replace(ACK, file="", options={**ACK.options, dhcp.BOOTFILE: b"x.efi\0"})).bootfile == "x.efi"


def test_a_proxy_says_where_to_boot_from_and_nothing_else() -> None:
    proxy = dhcp.Packet(2, 1, ACK.mac, {dhcp.VENDOR_CLASS: b"PXEClient"}, siaddr="192.168.77.12", file="pxelinux.0")
    lease = dhcp.lease_of(replace(ACK, file="", siaddr="0.0.0.0"), proxy)
    assert (lease.address, lease.boot_server, lease.bootfile) == ("192.168.77.21", "192.168.77.12", "pxelinux.0")
    assert lease.prefix_length == 23


def test_what_each_client_says_it_is() -> None:
    uuid = bytes(range(16))
    uefi = dhcp.UEFI_PXE.options(uuid)
    assert uefi[dhcp.CLIENT_ARCH] == b"\0\7" and uefi[dhcp.CLIENT_UUID] == b"\0" + uuid
    assert uefi[dhcp.VENDOR_CLASS].startswith(b"PXEClient:Arch:00007:")
    http = dhcp.UEFI_HTTP.options(uuid)
    assert http[dhcp.CLIENT_ARCH] == b"\0\x10" and http[dhcp.VENDOR_CLASS].startswith(b"HTTPClient:Arch:00016:")
    assert dhcp.IPXE_UEFI.options(uuid)[dhcp.USER_CLASS] == b"iPXE"
    assert dhcp.CLIENT_ARCH not in dhcp.INSTALLED.options(uuid)
