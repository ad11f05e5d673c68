#!/bin/sh
# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Builds the stand-in boot loader: build.sh OUT VERSION. Needs gcc, binutils and gnu-efi.
# A version before 8.0.1 makes one that does not know skip=1.

set -eu

out=$1
version=$2
here=$(cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

lib=
for folder in /usr/lib /usr/lib/x86_64-linux-gnu /usr/lib/gnuefi /usr/lib/x86_64-linux-gnu/gnuefi; do
    if [ -e "$folder/crt0-efi-x86_64.o" ]; then lib=$folder; fi
done
[ -n "$lib" ] || { echo "gnu-efi is not installed (no crt0-efi-x86_64.o)" >&2; exit 1; }

skip=1
case $version in [0-7].* | 8.0.0) skip=0 ;; esac

gcc -I/usr/include/efi -I/usr/include/efi/x86_64 -DGNU_EFI_USE_MS_ABI -DSTANDS_FOR="\"$version\"" -DKNOWS_SKIP=$skip \
    -O2 -Wall -Wno-pointer-sign -Wno-unused-parameter -ffreestanding -fpic -fshort-wchar -fno-stack-protector -fno-strict-aliasing \
    -maccumulate-outgoing-args -mno-red-zone -c "$here/mboot.c" -o "$work/mboot.o"
ld -nostdlib -znocombreloc -shared -Bsymbolic -T "$lib/elf_x86_64_efi.lds" -L "$lib" -L /usr/lib \
    "$lib/crt0-efi-x86_64.o" "$work/mboot.o" -o "$work/mboot.so" -lefi -lgnuefi
objcopy -j .text -j .sdata -j .data -j .dynamic -j .rodata -j .dynsym -j .rel -j .rela -j .rel.* -j .rela.* -j .reloc \
    --target efi-app-x86_64 "$work/mboot.so" "$out"
