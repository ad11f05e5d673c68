# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=sh
# The stand-in installer: what ESXi's own does with a kernel command line, a kickstart and a disk. Sourced by init.

ks=/tmp/ks.cfg
# Beyond the file system: it survives whatever an installer writes there.
vmfs_sector=253952
image_bytes=$(cat /lib/pxelab/image-bytes)

has_vmfs() { [ "$(dd if=/dev/vda bs=512 skip=$vmfs_sector count=1 2>/dev/null | head -c 4)" = VMFS ]; }

# Prints the nth section of a kind; the exit code says whether there is one.
section() {
    awk -v want="$1" -v number="$2" '
        /^%/ && $1 != "%include" { inside = 0; if ($1 == want && ++count == number) { inside = 1; found = 1; next } }
        inside { print }
        END { exit !found }
    ' $ks
}

# The command lines of one name, before the first section.
commands() { awk -v want="$1" '/^%/ && $1 != "%include" { exit } $1 == want { print }' $ks; }

# The value of an option of a command line: value LINE OPTION
value() {
    for word in $1; do
        case $word in "--$2="*) echo "${word#*=}" ;; esac
    done
}

has() {
    for word in $1; do
        case $word in "--$2" | "--$2="*) return 0 ;; esac
    done
    return 1
}

run_sections() {
    number=1
    while section "$1" $number >/tmp/script; do
        say "$1 begins"
        code=0
        sh /tmp/script </dev/null || code=$?
        say "$1: exit code $code"
        if [ $code -ne 0 ] && [ "$1" = %pre ]; then return 1; fi
        number=$((number + 1))
    done
}

# --- network ------------------------------------------------------------------------------------------------------------

say "event installer"
# A BIOS machine gets everything as one file.
if [ -d /sys/firmware/efi ] && [ ! -e /lib/pxelab/first-module ]; then stop "a module of boot.cfg was not loaded"; fi
set -f
tr ' ' '\n' </proc/cmdline | grep -qix runweasel || stop "the kernel was started without runweasel: no scripted install"
url=$(option ks)
[ -n "$url" ] || stop "no ks= on the kernel command line: the installer waits at its welcome screen"
mac=$(option netdevice)
[ -n "$mac" ] || mac=$(option BOOTIF | sed 's/^01-//')
mac=$(echo "$mac" | tr 'A-F-' 'a-f:')
interface=$(set +f; interface_of "$mac")
[ -n "$interface" ] || stop "no NIC $mac in this machine"
ip link set "$interface" up
if [ -n "$(option ip)" ]; then
    mask=$(option netmask)
    ip address add "$(option ip)/${mask:-255.255.255.0}" dev "$interface"
    [ -z "$(option gateway)" ] || ip route add default via "$(option gateway)"
else
    udhcpc -q -n -f -t 8 -T 3 -i "$interface" -V VMkernel -s /lib/pxelab/udhcpc || stop "no network for the kickstart: DHCP gave no address"
fi
say "network: $(ip -4 -o address show dev "$interface" | awk '{ print $4 }') on $mac"

# --- kickstart ----------------------------------------------------------------------------------------------------------

attempt=0
# not wget's own -T: Debian's busybox crashes of it
until timeout 30 wget -q -O $ks "$url"; do
    attempt=$((attempt + 1))
    [ $attempt -lt 10 ] || stop "cannot read the kickstart"
    sleep $attempt
done
say "event began $mac"
run_sections %pre || stop "a %pre script failed: the install is aborted"
[ -n "$(commands vmaccepteula)$(commands accepteula)" ] || stop "vmaccepteula is missing"
install=$(commands install)
rootpw=$(commands rootpw)
network=$(commands network)
clearpart=$(commands clearpart)
upgrade=$(commands upgrade)
[ -n "$install$upgrade" ] || stop "no install command in the kickstart"
[ -z "$install" ] || [ -z "$upgrade" ] || stop "exactly one of install and upgrade must be given"
[ -n "$upgrade" ] || has "$rootpw" iscrypted || stop "rootpw: no hash"
disk=$(value "$install$upgrade" disk)
case ${disk:-mpx.vmhba0:C0:T0:L0} in
    mpx.vmhba0:C0:T0:L0 | /vmfs/devices/disks/mpx.vmhba0:C0:T0:L0) ;;
    *) stop "no disk $disk in this machine" ;;
esac
if [ -n "$upgrade" ]; then
    # What ESXi has of its own and keeps: configuration, password, certificate. The datastore lies behind it.
    [ -z "$rootpw$network$clearpart" ] || say "warning: rootpw, network and clearpart are not valid with upgrade"
    if ! mount_disk || [ ! -s /disk/state/password ]; then
        stop "upgrade specified, but no versions of ESXi were found on disk: mpx.vmhba0:C0:T0:L0"
    fi
    cp -a /disk/state /tmp/state
    umount /disk
    datastore=$(dd if=/dev/vda bs=512 skip=$vmfs_sector count=1 2>/dev/null | md5sum)
elif has_vmfs && ! has "$install" overwritevmfs && ! has "$install" preservevmfs && ! has "$clearpart" overwritevmfs; then
    stop "the disk has a VMFS datastore, and neither --overwritevmfs nor --preservevmfs is given"
fi

# --- the disk -----------------------------------------------------------------------------------------------------------

# Where the medium lies over HTTP: from the kernel's own name, which the boot loader put first (or pxelinux, as BOOT_IMAGE).
image=$(option BOOT_IMAGE)
[ -n "$image" ] || image=$(cut -d ' ' -f 1 /proc/cmdline)
image=${image%/*}
case $image in
    http://*) ;;
    *)
        server=${url#http://}
        image=http://${server%%/*}/${image#/}
        ;;
esac
say "event writing $image"
# Until the last step the disk does not boot: neither a BIOS nor UEFI finds what it looks for.
dd if=/dev/zero of=/dev/vda bs=1M count=1 2>/dev/null
wget -q -O - "$image/system.gz" | gzip -dc | dd of=/dev/vda bs=64k 2>/tmp/dd || stop "cannot write the disk"
sync
[ "$(dd if=/dev/vda bs=64k 2>/dev/null | head -c "$image_bytes" | md5sum | cut -d ' ' -f 1)" = "$(cat /lib/pxelab/image-md5)" ] ||
    stop "the image on the disk is not the medium's"
mount_disk || stop "cannot mount the new disk"
if [ -n "$upgrade" ]; then cp -r /tmp/state /disk/; fi
mkdir -p /disk/state/firstboot /disk/state/ssl
if [ -z "$upgrade" ]; then
    device=$(value "$network" device)
    {
        echo "host_name='$(value "$network" hostname | tr -cd 'A-Za-z0-9.-')'"
        echo "device='$(echo "${device:-$mac}" | tr -cd 'A-Za-z0-9:')'"
        echo "bootproto='$(value "$network" bootproto | tr -cd 'a-z')'"
        echo "address='$(value "$network" ip | tr -cd '0-9.')'"
        echo "netmask='$(value "$network" netmask | tr -cd '0-9.')'"
        echo "gateway='$(value "$network" gateway | tr -cd '0-9.')'"
    } >/disk/state/host.conf
    for word in $rootpw; do password_hash=$word; done
    echo "$password_hash" >/disk/state/password
fi
number=1
while section %firstboot $number >/tmp/script; do
    cp /tmp/script "/disk/state/firstboot/$number"
    number=$((number + 1))
done
if [ -z "$upgrade" ]; then
    printf 'VMFS %s' "$(head -c 8 /dev/urandom | md5sum | cut -c 1-16)" | dd of=/dev/vda bs=512 seek=$vmfs_sector conv=notrunc 2>/dev/null
elif [ "$datastore" != "$(dd if=/dev/vda bs=512 skip=$vmfs_sector count=1 2>/dev/null | md5sum)" ]; then
    stop "the upgrade has changed the datastore"
fi
sync
mv /disk/EFI/BOOT/pending.efi /disk/EFI/BOOT/BOOTX64.EFI
umount /disk
printf '\125\252' | dd of=/dev/vda bs=1 seek=510 conv=notrunc 2>/dev/null
sync
say "event installed"
run_sections %post
[ -n "$(commands reboot)" ] || stop "installed; the kickstart has no reboot"
sync
say "event reboot"
reboot -f
