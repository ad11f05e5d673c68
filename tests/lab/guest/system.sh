# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=sh
# The system that the stand-in installer left on the disk: management network, API, and once the %firstboot scripts.
# Sourced by init.

mount_disk || stop "cannot mount the disk"
mkdir -p /system
losetup /dev/loop0 /disk/system.sfs
mount -t squashfs -o ro /dev/loop0 /system || stop "cannot mount the system"
mkdir -p /etc/vmware
ln -s /disk/state/ssl /etc/vmware/ssl
. /disk/state/host.conf
hostname "$host_name"
say "event disk $host_name"

case $device in
    *:*) interface=$(interface_of "$(echo "$device" | tr A-F a-f)") ;;
    vmnic*) interface=eth${device#vmnic} ;;
esac
[ -n "$interface" ] || stop "no NIC $device in this machine"
ip link set "$interface" up
if [ "$bootproto" = static ]; then
    ip address add "$address/${netmask:-255.255.255.0}" dev "$interface"
    [ -z "$gateway" ] || ip route add default via "$gateway"
else
    udhcpc -q -n -f -t 10 -T 3 -i "$interface" -V VMkernel -s /lib/pxelab/udhcpc || stop "no address for the management network"
    address=$(ip -4 -o address show dev "$interface" | awk '{ sub("/.*", "", $4); print $4 }')
fi

ssl=/etc/vmware/ssl
if [ ! -s $ssl/rui.crt ]; then
    # As ESXi makes them on its own; new at each install, so that a reinstalled host can be told from the one before.
    openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj "/O=VMware ESXi stand-in/CN=$host_name" \
        -addext "subjectAltName=DNS:$host_name" -keyout $ssl/rui.key -out $ssl/new.crt 2>/dev/null || stop "cannot make a certificate"
    mv $ssl/new.crt $ssl/rui.crt
    sync
fi

PYTHONPATH=/system/lab PYTHONDONTWRITEBYTECODE=1 python3 -m pxelab.esxi_api --listen "$address:443" --cert $ssl/rui.crt --key $ssl/rui.key \
    --state /disk/state/password --vcsim /system/lab/vcsim --name "$host_name" >/var/log/api.log 2>&1 &

# Their reboot tells process 1, which is this shell; it ends whatever runs.
restart() {
    sync
    say "event reboot"
    reboot -f
}
trap restart TERM

# In the background: a shell hears no signal while it waits for what runs in front of it.
run_script() {
    code=0
    sh "$1" </dev/null &
    wait $! || code=$?
}

# Of ESXi's memory a restart leaves what auto-backup.sh saved of /etc.
if [ -e /bootbank/state.tar ]; then tar -x -p -f /bootbank/state.tar -C /; fi

# Noted before they run: they run once, whatever becomes of them.
mkdir -p /tmp/firstboot
if [ -e /disk/state/firstboot/1 ]; then
    mv /disk/state/firstboot/* /tmp/firstboot/
    sync
    for script in /tmp/firstboot/*; do
        say "event firstboot"
        run_script "$script"
        say "%firstboot: exit code $code"
    done
fi
run_script /etc/rc.local.d/local.sh
if [ -e /var/run/reboot-asked ]; then
    sync
    say "event reboot"
    reboot -f
fi
# Python starts slowly in an emulated machine.
waited=0
until nc -w 2 "$address" 443 </dev/null >/dev/null 2>&1; do
    waited=$((waited + 1))
    if [ $waited -gt 120 ]; then
        cat /var/log/api.log
        stop "the host's API did not start"
    fi
    sleep 1
done
say "event running $address"
while :; do sleep 3600; done
