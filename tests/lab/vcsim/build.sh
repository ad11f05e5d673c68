#!/bin/sh
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Puts a vcsim at OUT: `build.sh OUT`.
#
# The first of these wins:
#   1. the program that the variable VCSIM names,
#   2. an OUT that is already newer than its sources,
#   3. a vcsim on PATH (upstream's release binary, or `docker run` wrapped in a script),
#   4. a build of main.go and extension.go with Debian's golang-go and golang-github-vmware-govmomi-dev, without any module download.
#
# Only 4 has the extension that disconnecting, reconnecting and moving hosts need (extension.go).
# Prefer 3 or 4 of a version below 0.36: newer simulators crash when a cluster host is destroyed and added again.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ $# -ne 1 ]; then
    echo "usage: build.sh OUT" >&2
    exit 2
fi
mkdir -p "$(dirname -- "$1")"
out=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")

adopt() {
    # VCSIM may name OUT itself: a link to itself would be the end of it.
    if [ "$1" = "$(realpath -m -- "$out")" ]; then
        echo "vcsim: $out"
        return
    fi
    # A link, not a copy: the program may be a script that looks for files beside itself.
    ln -sfn "$1" "$out.new"
    mv -Tf "$out.new" "$out"
    echo "vcsim: $out -> $1"
}

if [ -n "${VCSIM:-}" ]; then
    found=$(command -v "$VCSIM") || { echo "VCSIM=$VCSIM is not a program." >&2; exit 1; }
    adopt "$(realpath -- "$found")"
    exit 0
fi

if [ -x "$out" ] && [ ! -L "$out" ] && [ "$out" -nt "$here/main.go" ] && [ "$out" -nt "$here/extension.go" ] \
    && [ "$out" -nt "$here/build.sh" ]; then
    echo "vcsim: $out is up to date"
    exit 0
fi

if found=$(command -v vcsim); then
    adopt "$(realpath -- "$found")"
    exit 0
fi

gopath=${VCSIM_GOPATH:-/usr/share/gocode}
if ! command -v go >/dev/null || [ ! -d "$gopath/src/github.com/vmware/govmomi/simulator" ]; then
    cat >&2 <<'END'
vcsim: nothing to build it with. Do one of these:
  - on Debian or Ubuntu: apt-get install golang-go golang-github-vmware-govmomi-dev
  - put a vcsim on PATH (a release of github.com/vmware/govmomi has one for every system)
  - name one: VCSIM=/path/to/vcsim
END
    exit 1
fi

# Built beside OUT and renamed, so that an interrupted or a second build never leaves half a program there.
# GO111MODULE=off and GOPATH: Debian's library packages are a GOPATH tree; nothing is fetched from anywhere.
temporary=$(mktemp "$out.XXXXXX")
trap 'rm -f "$temporary"' EXIT
(cd "$here" && GO111MODULE=off GOPATH="$gopath" GOFLAGS='' CGO_ENABLED=0 go build -trimpath -o "$temporary" main.go extension.go)
chmod 0755 "$temporary"
mv -f "$temporary" "$out"
trap - EXIT
echo "vcsim: built $out"
