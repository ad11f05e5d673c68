#!/bin/sh
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ESXi's commands on a stand-in host, one file under all their names. Every call is noted. Those of the post actions keep
# a state in $state, print it in ESXi's form, and refuse what ESXi refuses: adding what is there, entering maintenance
# mode twice. Everything else does nothing and succeeds.

state=/var/lib/stand-in
program=${0##*/}
call=$program
for word in "$@"; do
    case $word in
        *[!A-Za-z0-9_.,:=/@%+-]* | '') quoted=$(printf %s "$word" | sed "s/'/'\\\\''/g"); call="$call '$quoted'" ;;
        *) call="$call $word" ;;
    esac
done
printf '%s\n' "$call" >>/var/log/stand-in-calls.log

die() {
    echo "$program: $*" >&2
    exit 1
}

while IFS= read -r start; do
    case $start in '') continue ;; esac
    case $call in "$start"*) die "told to fail" ;; esac
done </etc/stand-in-fails
mkdir -p "$state"

# Options by their long names; what is no option makes up the command.
verb=
given=
want=
for word in "$@"; do
    if [ -n "$want" ]; then
        given="$given$want=$word
"
        want=
        continue
    fi
    case $word in
        --*=*) given="$given${word#--}
" ;;
        --*) given="$given${word#--}=yes
" ;;
        -e) want=enabled ;;
        -r) want=ruleset-id ;;
        -*) ;;
        *) verb="$verb${verb:+ }$word" ;;
    esac
done
option() { printf %s "$given" | sed -n "s/^$1=//p" | head -n 1; }
options() { printf %s "$given" | sed -n "s/^$1=//p"; }

# A list is a file with an item a line.
has() { [ -e "$state/$1" ] && grep -qxF -e "$2" "$state/$1"; }
add() { has "$1" "$2" || printf '%s\n' "$2" >>"$state/$1"; }
drop() {
    grep -vxF -e "$2" "$state/$1" >"$state/.new"
    mv "$state/.new" "$state/$1"
}
all() { cat "$state/$1" 2>/dev/null; }
joined() { all "$1" | tr '\n' ',' | sed 's/,$//; s/,/, /g'; }
# One value under a key.
keep() {
    touch "$state/$1"
    awk -v key="$2" -F '\t' '$1 != key' "$state/$1" >"$state/.new"
    printf '%s\t%s\n' "$2" "$(printf %s "$3" | tr '\n' ' ')" >>"$state/.new"
    sort "$state/.new" >"$state/$1"
    rm "$state/.new"
}
kept() { [ ! -e "$state/$1" ] || awk -v key="$2" -F '\t' '$1 == key { print $2 }' "$state/$1"; }
need() { has "$1" "$2" || die "there is no $2"; }

vswitch() {
    name=$(option vswitch-name)
    case $1 in
        add)
            ! has vswitches "$name" || die "a portset with this name already exists"
            add vswitches "$name"
            ;;
        list)
            need vswitches "$name"
            printf '%s\n   Name: %s\n   Uplinks: %s\n' "$name" "$name" "$(joined "uplinks-$name")"
            ;;
        uplink)
            need vswitches "$name"
            ! has "uplinks-$name" "$(option uplink-name)" || die "Uplink already exists: $(option uplink-name)"
            add "uplinks-$name" "$(option uplink-name)"
            ;;
        *)
            need vswitches "$name"
            keep "vswitch-$name" "$*" "$given"
            ;;
    esac
}

portgroup() {
    name=$(option portgroup-name)
    case $1 in
        list)
            printf 'Name                Virtual Switch  Active Clients  VLAN ID\n------------------  --------------  --------------  -------\n'
            all portgroups | while read -r line; do printf '%-18s  vSwitch0                     0        0\n' "$line"; done
            ;;
        add)
            need vswitches "$(option vswitch-name)"
            ! has portgroups "$name" || die "A portgroup with the name $name already exists"
            add portgroups "$name"
            ;;
        remove)
            need portgroups "$name"
            drop portgroups "$name"
            ;;
        set)
            need portgroups "$name"
            keep vlans "$name" "$(option vlan-id)"
            ;;
    esac
}

interface() {
    name=$(option interface-name)
    case $* in
        list) all interfaces | while read -r line; do printf '%s\n   Name: %s\n' "$line" "$line"; done ;;
        add)
            need portgroups "$(option portgroup-name)"
            ! has interfaces "$name" || die "A vmkernel nic for the connection point already exists"
            add interfaces "$name"
            ;;
        'tag get') echo "   Tags: $(joined "tags-$name")" ;;
        'tag add')
            need interfaces "$name"
            ! has "tags-$name" "$(option tagname)" || die "the tag is there already"
            add "tags-$name" "$(option tagname)"
            ;;
        *)
            need interfaces "$name"
            keep "interface-$name" "$*" "$given"
            ;;
    esac
}

software() {
    [ "$1 $2" != 'profile update' ] || [ "$(kept maintenance on)" = true ] || die "the host is not in maintenance mode"
    for source in $(options viburl) $(options depot); do
        if [ -e /etc/stand-in-fetches ]; then
            case $source in http:*) wget -q -O /dev/null "$source" || die "[MetadataDownloadError] Could not download from $source" ;; esac
        fi
        what="$source $(options vibname | tr '\n' ' ')$(options component | tr '\n' ' ')$(option profile)"
        if has software "$what"; then
            printf 'Installation Result\n   Message: Host is not changed.\n   VIBs Installed: \n   VIBs Removed: \n   VIBs Skipped: %s\n' "$what"
            echo '   Reboot Required: false'
        else
            [ "$(option dry-run)" = yes ] || add software "$what"
            echo 'Installation Result'
            echo '   Message: The update completed successfully, but the system needs to be rebooted for the changes to be effective.'
            printf '   VIBs Installed: %s\n   VIBs Removed: \n   VIBs Skipped: \n   Reboot Required: true\n' "$what"
        fi
    done
}

case "$program $verb" in
    auto-backup.sh*)
        # As ESXi's: of /etc what has the sticky bit.
        cd / && mkdir -p bootbank || exit 1
        # Unquoted: no name of /etc has a blank.
        tar -c -f bootbank/state.new $(find etc -type f -perm -1000) && mv bootbank/state.new bootbank/state.tar
        exit
        ;;
    reboot* | poweroff* | halt*) : >/var/run/reboot-asked ;;
    vmware*) echo "VMware ESXi $(cat /etc/stand-in-version) (stand-in)" ;;
    *'system version get') printf '   Product: VMware ESXi\n   Version: %s\n' "$(cat /etc/stand-in-version)" ;;
    *'system maintenanceMode get') if [ "$(kept maintenance on)" = true ]; then echo Enabled; else echo Disabled; fi ;;
    *'system maintenanceMode set')
        now=$(kept maintenance on)
        [ "${now:-false}" != "$(option enable)" ] || die "the operation is not allowed in the current state"
        keep maintenance on "$(option enable)"
        ;;
    *'network ip get') printf '   IPv6 Enabled: %s\n' "$([ "$(kept ipv6 on)" = false ] && echo false || echo true)" ;;
    *'network ip set') keep ipv6 on "$(option ipv6-enabled)" ;;
    *'network ip dns server list') echo "   DNSServers: $(joined dns-servers)" ;;
    *'network ip dns search list') echo "   DNSSearch Domains: $(joined dns-search)" ;;
    *'network ip dns server add')
        ! has dns-servers "$(option server)" || die "Duplicate server"
        add dns-servers "$(option server)"
        ;;
    *'network ip dns search add')
        ! has dns-search "$(option domain)" || die "Duplicate domain"
        add dns-search "$(option domain)"
        ;;
    *'network vswitch standard portgroup '*) portgroup "${verb##* }" ;;
    *'network vswitch standard uplink add') vswitch uplink ;;
    *'network vswitch standard policy '*) vswitch "${verb##*standard }" ;;
    *'network vswitch standard '*) vswitch "${verb##* }" ;;
    *'network ip netstack add') add netstacks "$(option netstack)" ;;
    *'network ip interface '*)
        # Unquoted: its words.
        interface ${verb#network ip interface }
        ;;
    *'network ip route ipv4 list')
        printf 'Network        Netmask        Gateway       Interface  Source\n-------------  -------------  ------------  ---------  ------\n'
        all routes
        ;;
    *'network ip route ipv4 add')
        net=$(option network)
        mask=$(ipcalc -m "$net" 2>/dev/null | sed 's/NETMASK=//')
        row="${net%/*}  ${mask:-255.0.0.0}  $(option gateway)  vmk0       MANUAL"
        ! has routes "$row" || die "Unable to add route: it already exists"
        add routes "$row"
        ;;
    *'network firewall ruleset allowedip list')
        printf 'Ruleset    Allowed IP Addresses\n---------  --------------------\n%s  %s\n' "$(option ruleset-id)" "$(joined "allowed-$(option ruleset-id)")"
        ;;
    *'network firewall ruleset allowedip add')
        ! has "allowed-$(option ruleset-id)" "$(option ip-address)" || die "Ip address already exists"
        add "allowed-$(option ruleset-id)" "$(option ip-address)"
        ;;
    *'network firewall ruleset list')
        printf 'Name        Enabled\n----------  -------\n%s  %s\n' "$(option ruleset-id)" "$(kept rulesets "$(option ruleset-id)")"
        ;;
    *'network firewall ruleset set') [ -z "$(option enabled)" ] || keep rulesets "$(option ruleset-id)" "$(option enabled)" ;;
    *'system ntp get') case $(cat /etc/stand-in-version) in 6.*) die "Unknown command or namespace system ntp get" ;; esac ;;
    *'system settings kernel list')
        printf 'Name  Type  Configured  Runtime  Default  Description\n----  ----  ----------  -------  -------  -----------\n'
        name=$(option option)
        echo "$name  Bool  $(kept kernel "$name")  $(kept kernel-now "$name" | grep . || echo FALSE)  FALSE    of the stand-in"
        ;;
    *'system settings kernel set') keep kernel "$(option setting)" "$(option value)" ;;
    *'system module parameters list') printf 'Name  Type  Value  Description\n----  ----  -----  -----------\n%s\n' "$(kept modules "$(option module)")" ;;
    *'system module parameters set') keep modules "$(option module)" "$(option parameter-string)" ;;
    *'storage nfs list')
        printf 'Volume Name  Host  Share  Accessible\n-----------  ----  -----  ----------\n'
        all nfs | while read -r line; do printf '%-11s  h     /s     true\n' "$line"; done
        ;;
    *'storage nfs add')
        ! has nfs "$(option volume-name)" || die "Unable to complete Sysinfo operation: $(option volume-name) already exists"
        add nfs "$(option volume-name)"
        ;;
    *'software acceptance get') kept acceptance level | grep . || echo PartnerSupported ;;
    *'software acceptance set') keep acceptance level "$(option level)" ;;
    *'software '*) software ${verb#*software } ;;
    esxcli*' set') keep settings "$verb" "$given" ;;
    'vim-cmd hostsvc/advopt/view'*) printf '   value = "%s"\n' "$(kept advopt "$2")" ;;
    'vim-cmd hostsvc/advopt/update'*) keep advopt "$2" "$4" ;;
    'vim-cmd hostsvc/datastore/rename'*)
        [ -d "/vmfs/volumes/$2" ] || die "no datastore $2"
        mv "/vmfs/volumes/$2" "/vmfs/volumes/$3"
        ;;
    'vim-cmd hostsvc/'*) keep services "$1" yes ;;
    'vim-cmd vimsvc/license'*) keep licence key "$2" ;;
esac
exit 0
