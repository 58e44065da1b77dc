#!/bin/sh
# What must be there before xtask itself can be compiled: cargo, and a linker for it.
set -eu

if ! command -v "${CARGO:-cargo}" >/dev/null; then
    echo "error: cargo is missing; install Rust 1.89 or later from https://rustup.rs" >&2
    exit 1
fi
if command -v cc >/dev/null; then
    exit 0
fi
if [ "$(uname)" = Darwin ]; then
    echo "error: the Xcode command line tools are missing; install them with: xcode-select --install" >&2
    exit 1
fi
by_hand="install a C compiler, on Debian or Ubuntu with: apt-get install g++"
if ! command -v apt-get >/dev/null; then
    echo "error: there is no C compiler (cc); $by_hand" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "error: there is no C compiler (cc), and neither root nor sudo to install one; $by_hand" >&2
    exit 1
fi
echo "==> installing g++" >&2
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends g++ libc6-dev
