#!/usr/bin/env bash
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes a fresh Debian 12/13 or Ubuntu 22.04/24.04 ready for the lab and the tests: the packages it lacks, and below
# .lab/ a Python environment and a collections tree that points to this checkout. Nothing else is touched, and a second
# run finds everything in place and ends at once.

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
lab=$root/.lab
venv=$lab/venv
log=$lab/bootstrap.log
oldest_minor=11

say() { printf 'bootstrap: %s\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$*" >&2
    exit 1
}

# Runs a command with its output in the log, which is shown only when it fails. The lock (9) is not handed on: a daemon
# that a package starts would hold it for ever.
quietly() {
    "$@" >>"$log" 2>&1 </dev/null 9>&- || {
        tail -n 40 "$log" >&2
        die "failed: $* (the whole output is in $log)"
    }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root: run as root, or install sudo. The command: $*"
    fi
}

# Prints the names of those of the given packages that are not installed.
missing_packages() {
    comm -23 <(printf '%s\n' "$@" | sort -u) \
        <(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
            sed -n 's/^installed //p' | sort -u)
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing packages: ${missing[*]}"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq update
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y \
        install --no-install-recommends "${missing[@]}"
}

# Prints the minor version of a Python 3 interpreter that runs and is new enough, else nothing.
usable_minor() {
    "$1" -c "import sys; v = sys.version_info; v[:2] >= (3, $oldest_minor) and print(v[1])" 2>/dev/null </dev/null || true
}

# The distribution's own Python where it is new enough, else the newest that the machine has.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.{14,13,12,11} /usr/local/bin/python3.{14,13,12,11}; do
        if [ -x "$candidate" ] && [ -n "$(usable_minor "$candidate")" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

# Prints the packages that a list names. One with "@debian" at its end is for Debian alone.
packages_of() {
    local id
    id=$(sed -n 's/^ID=//p' /etc/os-release)
    sed -e 's/#.*//' -e "s/@$id[[:space:]]*\$//" "$1" | xargs -n1 | grep -v @
}

mkdir -p "$lab/cache"
exec 9>"$lab/bootstrap.lock"
# Two `make` at once: the second waits and then finds the work done.
flock 9

if command -v dpkg-query >/dev/null; then
    packages=(ca-certificates git python3)
    lists=("$root/tests/lab/packages.txt")
    # "bootstrap.sh vm": virtual machines with real firmware as well
    if [ "${1:-}" = vm ] || [ "${1:-}" = tests ]; then lists+=("$root/tests/lab/packages-vm.txt"); fi
    # "bootstrap.sh tests": what the tests need as well
    if [ "${1:-}" = tests ]; then lists+=("$root/tests/packages.txt"); fi
    for list in "${lists[@]}"; do
        mapfile -t -O "${#packages[@]}" packages < <(packages_of "$list")
    done
    install_packages "${packages[@]}"
    # Ubuntu 22.04: its python3 is 3.10, and 3.11 is a package beside it.
    [ -n "$(find_python)" ] || install_packages "python3.$oldest_minor"
else
    say "no dpkg here: the packages in tests/lab/packages.txt are left to you"
fi

python=$(find_python)
[ -n "$python" ] || die "found no Python 3.$oldest_minor or newer below /usr/bin and /usr/local/bin: install one"

# Everything that the environment depends on; the path too, as its scripts hold it.
wanted=$(
    printf '%s\n' "$root"
    "$python" --version
    cat "$root/requirements.txt" "$root/tests/requirements.txt"
)
if [ "$(cat "$venv/.bootstrap" 2>/dev/null)" != "$wanted" ]; then
    if [ -z "$(usable_minor "$venv/bin/python")" ]; then
        if command -v dpkg-query >/dev/null && [[ $python == /usr/bin/* ]]; then
            install_packages "python3.$(usable_minor "$python")-venv"
        fi
        say "making .lab/venv with $("$python" --version)"
        quietly "$python" -m venv --clear "$venv"
    fi
    say "installing Ansible and the Python packages of tests/requirements.txt (minutes, the first time)"
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check --upgrade-strategy only-if-needed \
        -r "$root/tests/requirements.txt"
    printf '%s\n' "$wanted" >"$venv/.bootstrap"
fi

tree=$lab/collections/ansible_collections/pxemanager
if [ "$(readlink "$tree/esxi" 2>/dev/null)" != "$root" ]; then
    say "linking .lab/collections/ansible_collections/pxemanager/esxi to this checkout"
    mkdir -p "$tree"
    ln -sfn "$root" "$tree/esxi"
fi

say "ready: $("$venv/bin/python" --version)" \
    "with ansible-core $(echo "$venv"/lib/python3.*/site-packages/ansible_core-*.dist-info | sed 's/.*ansible_core-\(.*\)\.dist-info/\1/')"
