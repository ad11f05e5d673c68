# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: post actions that go on after a restart of the host.

ESXi runs %firstboot once. What it runs at every boot is /etc/rc.local.d/local.sh, except under Secure Boot. So the
script puts a copy of itself and how far it is into /etc/esxi-pxe, a line that starts it into local.sh, and has
auto-backup.sh bring both to the disk: of /etc, ESXi keeps the files that have the sticky bit. At the end it takes all
of it away again.

No host restarts for ever: that an action was begun is on disk before it is, so no action is begun more than twice, and
the host is only restarted after what is done has been saved.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import Action

__all__ = ["RESUMING", "SSH_STEPS", "may_reboot", "resuming_script"]

_WANTED = r"""
# Whether the host is to restart after an action: pb_wanted REBOOT, with pb_rc. "later": an action after it does that.
pb_wanted() {
  case $1 in
    yes) [ "$pb_rc" -eq 0 ] || [ -e "$ESXI_PXE_REBOOT" ] ;;
    auto) [ -e "$ESXI_PXE_REBOOT" ] ;;
    *) false ;;
  esac
}
"""

# Over SSH it is the controller that remembers how far the actions are.
SSH_STEPS = (
    _WANTED
    + r"""
pb_number=0
pb_halted=no

# pb_action NAME IGNORED SECONDS REBOOT: as on a first boot, until an action needs a restart of the host.
pb_action() {
  pb_number=$((pb_number + 1))
  if [ "$pb_halted" = yes ] || [ "$pb_number" -le "$pb_done" ]; then return; fi
  pb_say "post action: $1"
  pb_run "$3"
  pb_result "$1" "$2"
  if pb_wanted "$4"; then
    pb_halted=yes
    pb_extra=',"reboot":true'
  fi
}
"""
)

_STATE = r"""
pb_kept=/etc/esxi-pxe
pb_local=/etc/rc.local.d/local.sh
# In memory: it is gone after a restart.
pb_booted=/var/run/esxi-pxe.boot

# Brings to the disk how far the actions are. 0: it is there.
pb_save() {
  {
    mkdir -p "$pb_kept" &&
      chmod 0700 "$pb_kept" &&
      printf '%s\n' "$pb_done $pb_started $pb_attempts $pb_boots $pb_was_open" >"$pb_kept/state" &&
      printf '%s\n' "$pb_failed" >"$pb_kept/failed" &&
      printf '%s\n' "$pb_message" >"$pb_kept/message" &&
      cat "$pb_dir/actions" >"$pb_kept/actions" &&
      chmod 1600 "$pb_kept/state" "$pb_kept/failed" "$pb_kept/message" "$pb_kept/actions"
  } 2>/dev/null || return 1
  /sbin/auto-backup.sh >/dev/null 2>&1
}

pb_load() {
  read -r pb_done pb_started pb_attempts pb_boots pb_was_open <"$pb_kept/state" || return 1
  for pb_count in "$pb_done" "$pb_started" "$pb_attempts" "$pb_boots"; do
    case $pb_count in '' | *[!0-9]*) return 1 ;; esac
  done
  read -r pb_failed <"$pb_kept/failed"
  read -r pb_message <"$pb_kept/message"
  cat "$pb_kept/actions" >"$pb_dir/actions"
}

pb_unhook() {
  sed '/^# esxi-pxe: begin$/,/^# esxi-pxe: end$/d' "$pb_local" >"$pb_dir/local.sh" 2>/dev/null || return 1
  cat "$pb_dir/local.sh" >"$pb_local"
}

# The line goes right after the first one: local.sh ends with exit 0.
pb_hook() {
  pb_unhook || return 1
  {
    sed -n 1p "$pb_dir/local.sh"
    echo '# esxi-pxe: begin'
    echo 'if [ -s /etc/esxi-pxe/first-boot ]; then sh </etc/esxi-pxe/first-boot >/dev/null 2>&1; fi'
    echo '# esxi-pxe: end'
    sed 1d "$pb_dir/local.sh"
  } >"$pb_dir/hooked" && cat "$pb_dir/hooked" >"$pb_local" && chmod +t "$pb_local"
}

pb_forget() {
  pb_unhook
  rm -rf "$pb_kept"
}

pb_extra_of() { pb_extra=$(printf ',"progress":{"total":%s,"rebooting":%s}' "$pb_total" "$1"); }
"""

_STEPS = r"""
# pb_restart NAME: the state is on disk. Never returns where the host is an ESXi host.
pb_restart() {
  pb_say "rebooting after action $pb_done of $pb_total: $1"
  pb_extra_of true
  pb_notify installed 60 "rebooting after action $pb_done of $pb_total: $1"
  # Never a machine that these scripts were tried on.
  if [ ! -d /vmfs ]; then
    pb_say "this is no ESXi host: it is not restarted"
    exit 0
  fi
  for pb_try in /bin/reboot /sbin/reboot; do
    if [ -x "$pb_try" ]; then
      "$pb_try"
      break
    fi
  done
  # Shutting down takes minutes. Nothing must go on meanwhile.
  sleep 900
  pb_say "the host has not restarted"
  exit 0
}

# pb_action NAME IGNORED SECONDS REBOOT RETRY: runs the script on standard input, unless that was done before a restart.
pb_action() {
  pb_number=$((pb_number + 1))
  if [ "$pb_number" -le "$pb_done" ]; then return; fi
  if [ "$pb_number" -ne "$pb_started" ]; then
    pb_attempts=0
  elif [ "$5" = no ] || [ "$pb_attempts" -ge 2 ]; then
    pb_rc=255
    pb_seconds=0
    echo 'the host restarted while it ran' >"$pb_dir/output"
    pb_result "$1" "$2"
    pb_done=$pb_number
    return
  else
    pb_say "post action: $1: was interrupted, and is run again"
  fi
  pb_started=$pb_number
  pb_attempts=$((pb_attempts + 1))
  if [ "$pb_can_save" = yes ]; then pb_save || pb_can_save=no; fi
  pb_say "post action: $1"
  pb_run "$3"
  cat "$pb_dir/actions" >"$pb_dir/actions.before"
  pb_before=$pb_failed
  pb_result "$1" "$2"
  pb_done=$pb_number
  pb_wanted "$4" || return 0
  if [ "$pb_can_save" = yes ] && pb_save; then pb_restart "$1"; fi
  # Without a way back there is no restart: the host would never be reported.
  rm -f "$ESXI_PXE_REBOOT"
  cat "$pb_dir/actions.before" >"$pb_dir/actions"
  pb_failed=$pb_before
  pb_rc=75
  echo 'it needs a restart of the host, and how far it is could not be saved (auto-backup.sh)' >"$pb_dir/output"
  pb_result "$1" "$2"
}
"""

_START = r"""
pb_number=0
pb_can_save=yes
: >"$pb_dir/actions"
if [ -z "$PB_TEXT" ] && [ -d "$pb_booted" ]; then
  # In this boot the first boot's own script is at it, or was: local.sh may come after it.
  rm -rf "$pb_dir"
  exit 0
fi
mkdir -p "$pb_booted" 2>/dev/null
if [ -n "$PB_TEXT" ]; then
  pb_done=0
  pb_started=0
  pb_attempts=0
  pb_boots=0
  pb_was_open=no
  if esxcli network firewall ruleset list -r httpClient 2>/dev/null | grep -q true; then pb_was_open=yes; fi
  mkdir -p "$pb_kept" && chmod 0700 "$pb_kept" && cat "$PB_TEXT" >"$pb_kept/first-boot" &&
    chmod 1600 "$pb_kept/first-boot" && pb_hook || pb_can_save=no
else
  if ! pb_load; then
    pb_say "nothing can be read of how far the post actions are: they are given up"
    pb_failed=state
    pb_message='the host restarted in the middle of its post actions, and how far they are could not be read'
    pb_done=$pb_total
    pb_started=0
    pb_attempts=0
    pb_boots=0
    pb_was_open=no
    pb_rc=255
    pb_seconds=0
    printf '{"name":"after the restart","rc":255,"seconds":0,"ignored":false}' >"$pb_dir/actions"
  fi
  pb_boots=$((pb_boots + 1))
  # local.sh may be early.
  pb_tick=0
  until esxcli system version get >/dev/null 2>&1 || [ "$pb_tick" -ge 60 ]; do
    sleep 5
    pb_tick=$((pb_tick + 1))
  done
fi
# Depots are fetched and the PXE server is called through it.
esxcli network firewall ruleset set -e true -r httpClient >/dev/null 2>&1
if [ -z "$PB_TEXT" ]; then
  pb_extra_of false
  pb_notify installed 60 "back after restart $pb_boots, $pb_done of $pb_total post actions are done"
fi

"""

_END = r"""
pb_extra=
# From here on a restart only repeats the report.
pb_started=0
pb_save
"""

_LEAVE = r"""if [ "$pb_was_open" = no ]; then
  esxcli network firewall ruleset set -e false -r httpClient >/dev/null 2>&1
fi
pb_forget
if [ -x /sbin/auto-backup.sh ]; then /sbin/auto-backup.sh >/dev/null 2>&1; fi
rm -rf "$pb_dir"
exit 0
"""


RESUMING = (_STATE, _WANTED, _STEPS, _START, _END, _LEAVE)
"""The parts of a resuming script that are the same for every host."""


def may_reboot(actions: t.Sequence[Action]) -> bool:
    """Whether any of the actions may have the host restarted."""
    return any(action.reboot != "no" for action in actions)


def resuming_script(before: str, calls: str, total: int, notify: str) -> str:
    """The first boot's script, as text that it can keep a copy of.

    All of it is one function, so that nothing that it runs can read the rest of it.
    """
    main = (
        "pb_main() {\n"
        + before
        + f"pb_total={total}\n"
        + _STATE
        + _WANTED
        + _STEPS
        + _START
        + calls
        + _END
        + notify
        + _LEAVE
        + "}\npb_main </dev/null\n"
    )
    return (
        "# Keeps a copy of what follows, to go on after a restart of the host.\n"
        "pb_copy=/tmp/esxi-pxe.$$\n"
        'mkdir -m 0700 -p "$pb_copy"\n'
        "cat >\"$pb_copy/script\" <<'PB_ALL'\n" + main + "PB_ALL\n"
        'PB_TEXT=$pb_copy/script sh <"$pb_copy/script"\n'
        'rm -rf "$pb_copy"\n'
        "exit 0\n"
    )
