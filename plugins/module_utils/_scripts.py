# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection: the shell text of a kickstart's sections, with the pbconnect client in it.

All of it runs in the busybox shell of ESXi's installer (%pre, %post) and of the installed host (%firstboot), so it asks
for nothing but busybox's own commands. The client prefers Python, which ESXi carries (3.5 in 6.7), and falls back to
``nc``: busybox's wget can only GET. It calls by IP, because names may not resolve there, and never through a proxy.

Text that others wrote is carried in here-documents whose every line begins with ``|``, which ``sed`` takes away on the
host. So no line of it can open a kickstart section with ``%``, and none can be the here-document's end.
"""

from __future__ import annotations

import itertools
import shlex
import typing as t

from ansible_collections.pxemanager.esxi.plugins.module_utils._action_software import SOFTWARE
from ansible_collections.pxemanager.esxi.plugins.module_utils._actions import Action
from ansible_collections.pxemanager.esxi.plugins.module_utils._resume import (
    RESUMING,
    SSH_STEPS,
    may_reboot,
    resuming_script,
)

__all__ = [
    "PLACEHOLDER_TOKEN",
    "PLACEHOLDER_URL",
    "firstboot_script",
    "own_blocks",
    "post_script",
    "pre_script",
    "python_script",
    "quoted_lines",
    "ssh_script",
]

# The pbconnect service puts the real values in when it hands the kickstart out, so no token lies on the PXE server.
PLACEHOLDER_URL = "@PBCONNECT_URL@"
PLACEHOLDER_TOKEN = "@PBCONNECT_TOKEN@"

_ACTIONS_LOG = "/var/log/esxi-pxe-actions.log"

_SERVER = r"""# pbconnect: tells the PXE server how far this install is.
pb_url='@PBCONNECT_URL@'
pb_token='@PBCONNECT_TOKEN@'
pb_server_url=${pb_url%%/pbconnect/*}
"""

_COMMON = r"""pb_mac='%(mac)s'
pb_dir=/tmp/esxi-pxe.$$
pb_log=%(log)s
pb_console=/dev/console
mkdir -m 0700 -p "$pb_dir"

pb_say() {
  echo "esxi-pxe: $*"
  (echo "esxi-pxe: $*" >>"$pb_log") 2>/dev/null
  (echo "esxi-pxe: $*" >>"$pb_console") 2>/dev/null
}

# Any text as one line that needs no escaping in JSON or in a log.
pb_plain() {
  tr '\n\t' '  ' | tr -cd 'A-Za-z0-9 ._:/+@#(),=-' | cut -c1-400
}
"""

_SENDER = r"""
# Passed with -c, as all scripts are: ESXi may refuse to run files that no signed package brought.
pb_client='
import os, sys, urllib.error, urllib.request
head = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["PB_TOKEN"]}
body = open(sys.argv[2], "rb").read()
call = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = call.open(urllib.request.Request(sys.argv[1], body, head), timeout=15)
    status, text = answer.getcode(), answer.read(4096)
except urllib.error.HTTPError as error:
    status, text = error.code, error.read(4096)
except Exception as error:
    status, text = 0, str(error).encode("ascii", "replace")
print("%%03d %%s" %% (status, " ".join(text.decode("ascii", "replace").split())))
'

pb_python=
for pb_try in python3 python; do
  if "$pb_try" -c 'import urllib.request' >/dev/null 2>&1; then
    pb_python=$pb_try
    break
  fi
done

# One attempt: prints the HTTP status (000: no answer) and the answer, on one line.
pb_post() {
  if [ -n "$pb_python" ]; then
    pb_line=$(PB_TOKEN=$pb_token "$pb_python" -c "$pb_client" "$pb_url" "$1" 2>/dev/null)
    echo "${pb_line:-000 $pb_python failed}"
    return
  fi
  pb_rest=${pb_url#http://}
  pb_server=${pb_rest%%%%/*}
  pb_port=80
  case $pb_server in *:*) pb_port=${pb_server##*:} ;; esac
  rm -f "$pb_dir/answer" "$pb_dir/answered"
  # Standard input stays open until the answer is there: a proxy takes a half-closed connection for a lost client.
  {
    printf 'POST /%%s HTTP/1.0\r\nHost: %%s\r\n' "${pb_rest#*/}" "$pb_server"
    printf 'Authorization: Bearer %%s\r\nContent-Type: application/json\r\n' "$pb_token"
    printf 'Content-Length: %%s\r\nConnection: close\r\n\r\n' "$(($(wc -c <"$1")))"
    cat "$1"
    pb_tick=0
    while [ ! -e "$pb_dir/answered" ] && [ "$pb_tick" -lt 20 ]; do
      sleep 1
      pb_tick=$((pb_tick + 1))
    done
  } 2>/dev/null | {
    nc -w 15 "${pb_server%%:*}" "$pb_port" >"$pb_dir/answer" 2>"$pb_dir/nc"
    : >"$pb_dir/answered"
  }
  pb_status=000
  IFS=' ' read -r pb_line pb_status pb_rest <"$pb_dir/answer"
  case $pb_status in
    [1-5][0-9][0-9]) echo "$pb_status $(tr -d '\r' <"$pb_dir/answer" | sed '1,/^$/d' | tr '\n' ' ' | cut -c1-4096)" ;;
    *) echo "000 $(tr '\n' ' ' <"$pb_dir/nc")" ;;
  esac
}
"""

_BODY = r"""
# What is reported: stage, message. pb_extra is what else there is to say, as it stands in JSON.
pb_extra=
pb_body() {
  printf '{"stage":"%%s","mac":"%%s","message":"%%s"' "$1" "$pb_mac" "$(printf '%%s' "$2" | pb_plain)"
  if [ -s "$pb_dir/actions" ]; then
    printf ',"actions":[%%s]' "$(cat "$pb_dir/actions")"
  fi
  if [ -s "$pb_dir/certificate" ]; then
    printf ',"certificate":"'
    tr -cd 'A-Za-z0-9+/= \n-' <"$pb_dir/certificate" | while IFS= read -r pb_line; do printf '%%s\\n' "$pb_line"; done
    printf '"'
  fi
  printf '%%s}' "$pb_extra"
}
"""

_NOTIFY = r"""
# pb_notify STAGE SECONDS MESSAGE: 0 acknowledged, 1 not in time, 2 refused; why is in pb_why.
# Time is counted here, because the clock may jump when it is set.
pb_notify() {
  pb_body "$1" "$3" >"$pb_dir/body"
  pb_waited=0
  pb_delay=1
  while :; do
    pb_began=$(date +%%s)
    pb_reply=$(pb_post "$pb_dir/body")
    pb_spent=$(($(date +%%s) - pb_began))
    if [ "$pb_spent" -lt 0 ] || [ "$pb_spent" -gt 60 ]; then pb_spent=15; fi
    pb_waited=$((pb_waited + pb_spent))
    pb_why=$(printf '%%s' "$pb_reply" | pb_plain)
    case $pb_reply in
      200*'"ok":true'* | 200*'"ok": true'*)
        pb_say "the PXE server acknowledged: $1"
        return 0
        ;;
      408* | 425* | 429*) ;;
      4*)
        pb_say "the PXE server refused: $1 (HTTP $pb_why)"
        return 2
        ;;
    esac
    pb_left=$(($2 - pb_waited))
    if [ "$pb_left" -le 0 ]; then
      pb_say "no acknowledgement from $pb_url in $2 seconds: $1 ($pb_why)"
      return 1
    fi
    if [ "$pb_delay" -gt "$pb_left" ]; then pb_delay=$pb_left; fi
    pb_say "no acknowledgement from $pb_url yet ($pb_why), trying again in $pb_delay seconds"
    sleep "$pb_delay"
    pb_waited=$((pb_waited + pb_delay))
    pb_delay=$((pb_delay * 2))
    if [ "$pb_delay" -gt 32 ]; then pb_delay=32; fi
  done
}
"""

_RUNNER = r"""
# Old versions of busybox want the seconds behind -t.
pb_timeout=
if timeout 5 true >/dev/null 2>&1; then
  pb_timeout='timeout'
elif timeout -t 5 true >/dev/null 2>&1; then
  pb_timeout='timeout -t'
fi

# An action asks for a restart of the host by making this file. Depots are below the PXE server's URL.
ESXI_PXE_REBOOT=$pb_dir/reboot
ESXI_PXE_SERVER=$pb_server_url
export ESXI_PXE_REBOOT ESXI_PXE_SERVER

# pb_run SECONDS: runs the script on standard input, each line behind a |, in a shell of its own.
# pb_rc (124: it took too long) and pb_seconds tell what came of it.
pb_run() {
  pb_script=$(sed 's/^|//')
  pb_began=$(date +%s)
  pb_rc=0
  # Unquoted: nothing, or a command with its option.
  $pb_timeout ${pb_timeout:+"$1"} sh -c "$pb_script" </dev/null >"$pb_dir/output" 2>&1 || pb_rc=$?
  pb_seconds=$(($(date +%s) - pb_began))
  case $pb_rc in 124 | 137 | 143) if [ "$pb_seconds" -ge "$1" ]; then pb_rc=124; fi ;; esac
  if [ "$pb_seconds" -lt 0 ] || [ "$pb_seconds" -gt 86400 ]; then pb_seconds=0; fi
  cat "$pb_dir/output"
  (cat "$pb_dir/output" >>"$pb_log") 2>/dev/null
}
"""

_PRE = r"""
pb_rc=0
pb_notify installing %(deadline)s 'the installer has started' || pb_rc=$?
if [ "$pb_rc" -ne 0 ]; then
  # A machine that the PXE server cannot set to local boot would be installed again and again.
  case $pb_rc in
    2) pb_say "STOPPED: the PXE server refused this install (HTTP $pb_why). No disk was touched. Arm the host again." ;;
    *) pb_say "STOPPED: $pb_url did not answer within %(deadline)s seconds ($pb_why). No disk was touched." \
      "Check this host's network, VLAN and switch port, and the pbconnect service on the PXE server." ;;
  esac
  rm -rf "$pb_dir"
  exit 1
fi
"""

_PRE_EXTRA = r"""
pb_run 86400 <<'PB_END'
%(script)sPB_END
if [ "$pb_rc" -ne 0 ]; then
  pb_say "STOPPED: the kickstart's own pre script failed with exit code $pb_rc. No disk was touched."
  pb_notify failed 60 "the kickstart's own pre script failed with exit code $pb_rc: $(tail -n 3 "$pb_dir/output")"
  rm -rf "$pb_dir"
  exit 1
fi
"""

_POST = r"""
pb_message='the installer has written the system'
# The firewall is in force again by now and blocks outgoing HTTP. This is still the installer, not the installed host.
localcli network firewall set --enabled no >/dev/null 2>&1
"""

_POST_EXTRA = r"""
pb_run %(timeout)s <<'PB_END'
%(script)sPB_END
if [ "$pb_rc" -ne 0 ]; then
  pb_message="the kickstart's own post script failed with exit code $pb_rc: $(tail -n 3 "$pb_dir/output")"
  pb_say "the kickstart's own post script failed with exit code $pb_rc"
fi
"""

_POST_FATAL = r"""if [ "$pb_rc" -ne 0 ]; then
  pb_notify failed %(deadline)s "$pb_message"
  rm -rf "$pb_dir"
  exit 1
fi
"""

_POST_END = r"""
pb_notify installed %(deadline)s "$pb_message"
# Whatever came of it: the system is installed, and the host must boot.
rm -rf "$pb_dir"
exit 0
"""

_FIRSTBOOT = r"""
pb_message='the first boot is done'
pb_failed=

# pb_result NAME IGNORED: says and records what came of an action, from pb_rc and pb_seconds.
pb_result() {
  if [ "$pb_rc" -eq 0 ]; then
    pb_say "post action: $1: done in $pb_seconds seconds"
  else
    pb_say "post action: $1: FAILED with exit code $pb_rc after $pb_seconds seconds"
    if [ "$2" = false ] && [ -z "$pb_failed" ]; then
      pb_failed=$1
      pb_message="post action $1 failed with exit code $pb_rc: $(tail -n 3 "$pb_dir/output")"
    fi
  fi
  if [ -s "$pb_dir/actions" ]; then printf ',' >>"$pb_dir/actions"; fi
  printf '{"name":"%s","rc":%s,"seconds":%s,"ignored":%s}' "$1" "$pb_rc" "$pb_seconds" "$2" >>"$pb_dir/actions"
}
"""

_ACTION = r"""
# pb_action NAME IGNORED SECONDS: runs the script on standard input and records what came of it.
pb_action() {
  pb_say "post action: $1"
  pb_run "$3"
  pb_result "$1" "$2"
}
"""

_OPEN = r"""
pb_was_open=no
if esxcli network firewall ruleset list -r httpClient 2>/dev/null | grep -q true; then pb_was_open=yes; fi
# Depots are fetched and the PXE server is called through it.
esxcli network firewall ruleset set -e true -r httpClient >/dev/null 2>&1

"""

_FIRSTBOOT_SAVE = r"""
if [ -x /sbin/auto-backup.sh ]; then /sbin/auto-backup.sh >/dev/null 2>&1; fi
"""

_FIRSTBOOT_CERTIFICATE = r"""
# The host's own certificate is the first one in the file.
sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p;/^-----END CERTIFICATE-----/q' \
  /etc/vmware/ssl/rui.crt >"$pb_dir/certificate" 2>/dev/null
"""

_FIRSTBOOT_NOTIFY = r"""# An action may have closed it.
esxcli network firewall ruleset set -e true -r httpClient >/dev/null 2>&1
pb_notify ready %(deadline)s "$pb_message"
"""

_FIRSTBOOT_END = r"""if [ "$pb_was_open" = no ]; then
  esxcli network firewall ruleset set -e false -r httpClient >/dev/null 2>&1
fi
rm -rf "$pb_dir"
exit 0
"""


def python_script(text: str) -> str:
    """Shell text that runs a Python script by whichever name Python has there: python3 from ESXi 7.0 on, python before.

    Through standard input: ESXi may refuse to run files that no signed package brought.
    """
    end = "PB_PYTHON"
    while end in text:
        end += "_"
    return (
        "pb_name=python\n"
        "if python3 -c 'pass' >/dev/null 2>&1; then pb_name=python3; fi\n"
        f"\"$pb_name\" - <<'{end}'\n{text}{end}\n"
    )


def quoted_lines(script: str) -> str:
    """Raw text for a here-document: a ``|`` in front of each line, a newline at the end."""
    return "".join(f"|{line}\n" for line in script.rstrip("\n").split("\n"))


def _client(mac: str, log: str) -> str:
    return (_SERVER + _COMMON + _SENDER + _BODY + _NOTIFY) % {"mac": mac, "log": log}


def own_blocks(mac: str, pre: int, post: int, firstboot: int) -> tuple[str, ...]:
    """The parts of a kickstart that are the collection's own and the same for every host. The numbers are deadlines."""
    logs = ("/var/log/esxi-pxe-pre.log", "/var/log/esxi-pxe-post.log", _ACTIONS_LOG)
    return (
        *(_client(mac, log) for log in logs),
        _RUNNER,
        _PRE % {"deadline": pre},
        _POST,
        _POST_FATAL % {"deadline": post},
        _POST_END % {"deadline": post},
        _FIRSTBOOT,
        _ACTION,
        _OPEN,
        *RESUMING,
        _FIRSTBOOT_SAVE,
        _FIRSTBOOT_CERTIFICATE,
        _FIRSTBOOT_NOTIFY % {"deadline": firstboot},
        _FIRSTBOOT_END,
    )


def pre_script(mac: str, deadline: int, extra: t.Optional[str]) -> str:
    """%pre: "installing" first, to be acknowledged within ``deadline`` seconds; then the site's own script."""
    text = _client(mac, "/var/log/esxi-pxe-pre.log") + _PRE % {"deadline": deadline}
    if extra is not None:
        # The function is not in the text when nothing needs it: less that can fail.
        text += _RUNNER + _PRE_EXTRA % {"script": quoted_lines(extra)}
    return text + 'rm -rf "$pb_dir"\nexit 0\n'


def post_script(mac: str, deadline: int, extra: t.Optional[str], timeout: int, ignore_failure: bool) -> str:
    """%post: the site's own script (at most ``timeout`` seconds), then "installed". Fails only if that script does."""
    text = _client(mac, "/var/log/esxi-pxe-post.log") + _POST
    if extra is not None:
        text += _RUNNER + _POST_EXTRA % {"script": quoted_lines(extra), "timeout": timeout}
        if not ignore_failure:
            text += _POST_FATAL % {"deadline": deadline}
    return text + _POST_END % {"deadline": deadline}


def firstboot_script(mac: str, deadline: int, actions: t.Sequence[Action]) -> str:
    """%firstboot: each action in a shell of its own, then "ready" with their results and the host's certificate.

    When an action may have the host restarted, the script is one that goes on where it was.
    """
    if may_reboot(actions):
        return resuming_script(
            before=_client(mac, _ACTIONS_LOG) + _RUNNER + _FIRSTBOOT,
            calls=_calls(actions),
            total=len(actions),
            notify=_FIRSTBOOT_CERTIFICATE + _FIRSTBOOT_NOTIFY % {"deadline": deadline},
        )
    return (
        _client(mac, _ACTIONS_LOG)
        + _RUNNER
        + _FIRSTBOOT
        + _ACTION
        + _OPEN
        + _calls(actions)
        + _FIRSTBOOT_SAVE
        + _FIRSTBOOT_CERTIFICATE
        + _FIRSTBOOT_NOTIFY % {"deadline": deadline}
        + _FIRSTBOOT_END
    )


def ssh_script(actions: t.Sequence[Action], done: int = 0, server_url: str = "") -> str:
    """What %firstboot would have done, to be read by a shell at the other end of an SSH connection.

    Its standard output is what would have been reported, one JSON object, and nothing else; what the actions say is on
    standard error. It is one function: a shell that has not got all of it does none of it, and nothing that it runs
    can read the rest of the script.

    After an action that needs a restart of the host it ends, and its report says so; whoever sent it restarts the host
    and sends it again.

    :arg done: how many of the actions are done already.
    """
    return (
        "pb_main() {\nexec 3>&1 >&2\n"
        + f"pb_server_url={shlex.quote(server_url.rstrip('/'))}\n"
        + (_COMMON + _BODY) % {"mac": "", "log": _ACTIONS_LOG}
        + _RUNNER
        + _FIRSTBOOT
        + SSH_STEPS
        + f"pb_done={done}\n"
        + _OPEN
        + _calls(actions)
        + _FIRSTBOOT_SAVE
        + _FIRSTBOOT_CERTIFICATE
        + 'pb_body ready "$pb_message" >&3\n'
        + _FIRSTBOOT_END
        + "}\npb_main </dev/null\n"
    )


def _calls(actions: t.Sequence[Action]) -> str:
    """The post actions, each handed to pb_action on its standard input.

    Behind name, errors and time comes what only those scripts look at that survive a restart: whether the host restarts
    after the action, and whether an interrupted one is run again. Actions in a row that install software share one
    restart after the last of them.
    """
    text = ""
    for action, following in itertools.zip_longest(actions, actions[1:]):
        ignored = "true" if action.ignore_errors else "false"
        reboot = action.reboot
        shared = (action, following)
        if following is not None and all(one.reboot == "auto" and one.kind in SOFTWARE for one in shared):
            reboot = "later"
        retry = "yes" if action.retry else "no"
        text += (
            f"pb_action '{action.name}' {ignored} {action.timeout} {reboot} {retry} <<'PB_END'\n"
            f"{quoted_lines(action.shell())}PB_END\n"
        )
    return text
