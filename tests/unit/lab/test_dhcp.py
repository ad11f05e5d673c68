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


@pytest.mark.parametrize(
    ("option_43", "server", "item"),
    [
        # what dnsmasq sends to a BIOS for one pxe-service, and to UEFI (nothing)
        (
            b"\x06\x01\x03\n\x04\x00PXE\x08\x07\x80\x00\x01\xc0\xa8M\n\t\r\x80\x00\nPXE server\xff",
            "192.168.77.10",
            b"\x47\x04\x80\x00\x00\x00\xff",
        ),
        (b"", "192.168.77.11", b""),
        (b"\x09\xff", "192.168.77.11", b""),
    ],
)
def test_a_proxy_without_a_boot_file_is_asked_for_the_first_entry_of_its_menu(
    option_43: bytes, server: str, item: bytes
) -> None:
    offer = dhcp.Packet(2, 1, ACK.mac, {dhcp.SERVER_ID: b"\xc0\xa8M\x0b", dhcp.VENDOR_SPECIFIC: option_43})
    assert dhcp.proxy_of(offer) == dhcp.Proxy(server, item)
