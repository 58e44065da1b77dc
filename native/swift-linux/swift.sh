#!/usr/bin/env bash
# Swift where the system has none: a Debian trixie in a folder of its own, which has Swift 6 in its packages.
#
#     swift.sh make                 make the folder, unless it is there (1.5 GB, about a minute)
#     swift.sh run DIR COMMAND...   run a command in it, in the current directory, which is DIR or inside it;
#                                   of this system only DIR is there, at its own path
#
# The folder is $QUIRE_SWIFT_ROOT, or swift-trixie under $XDG_CACHE_HOME/quire or ~/.cache/quire: clones share it.
# Needs root, mmdebstrap (installed through apt-get if missing) and a Debian mirror. Where it cannot be made, exits
# with 77 and says why. Mounts and processes are in namespaces of their own and end with the command.
set -euo pipefail

root=${QUIRE_SWIFT_ROOT:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/quire/swift-trixie}
# Changes with what is put into the folder: one that was made otherwise is made anew.
recipe="trixie swiftlang libc6-dev libstdc++-14-dev 1"

cannot() {
    echo "cannot make a folder with Swift: $1" >&2
    exit 77
}

# A mirror that carries trixie: the one apt is set to, where this system is a Debian, else Debian's own.
mirror() {
    local id site
    id=$(. /etc/os-release && echo "$ID")
    if [ "$id" = debian ]; then
        site=$(apt-get indextargets --format '$(SITE) $(COMPONENT) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
            awk '$2 == "main" && !/security/ { print $1; exit }')
    fi
    echo "${site:-http://deb.debian.org/debian}"
}

install_tools() {
    local missing=()
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || cannot "it takes mmdebstrap, and there is no apt-get to install it with"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >/dev/null 2>&1 || true
    apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        cannot "apt-get could not install ${missing[*]}"
}

# What the package's tests have no use for: debugger, editor servers, embedded and static standard libraries.
exclusions() {
    local path
    for path in 'bin/lldb*' 'lib/liblldb*' bin/repl_swift bin/clangd bin/sourcekit-lsp 'lib/libsourcekitdInProc*' \
        'lib/swift/embedded/*' 'lib/swift_static/*'; do
        printf '%s\n' "--dpkgopt=path-exclude=/usr/libexec/swift/$path"
    done
}

make_root() {
    [ "$(uname -s)" = Linux ] || cannot "this is not Linux"
    [ "$(id -u)" = 0 ] || cannot "it takes root (to mount and to chroot)"
    unshare --mount --pid --fork true 2>/dev/null || cannot "this system allows no new namespaces (unshare)"
    # One at a time: whoever waits finds it made.
    { mkdir -p "$(dirname "$root")" && exec 9>"$root.lock" && flock 9; } 2>/dev/null ||
        cannot "$(dirname "$root") is not writable"
    if [ -e "$root/.quire-recipe" ] && [ "$(cat "$root/.quire-recipe")" = "$recipe" ]; then
        return
    fi
    install_tools
    local skip made="$root.new" log="$root.log"
    mapfile -t skip < <(exclusions)
    rm -rf --one-file-system "$root" "$made"
    echo "making $root (a Debian trixie with Swift 6, once)" >&2
    mmdebstrap --quiet --mode=root --variant=minbase \
        --include=swiftlang,libc6-dev,libstdc++-14-dev \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io "${skip[@]}" \
        trixie "$made" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; rm -rf --one-file-system "$made"; cannot "mmdebstrap failed (see above)"; }
    echo "$recipe" >"$made/.quire-recipe"
    mv "$made" "$root"
    rm -f "$log"
}

run_inside() {
    local project
    project=$(realpath "$1")
    shift
    make_root
    exec 9>&-
    mkdir -p "$root$project"
    exec unshare --mount --propagation private --pid --fork --kill-child -- bash -euc '
        root=$1 project=$2 here=$3
        shift 3
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$project" "$root$project"
        exec chroot "$root" /usr/bin/env --ignore-environment --chdir="$here" \
            HOME=/root PATH=/usr/bin:/usr/sbin LANG=C.UTF-8 "$@"
    ' _ "$root" "$project" "$PWD" "$@"
}

case ${1-} in
    make) make_root ;;
    run)
        [ $# -ge 3 ] || { echo "usage: $0 run DIR COMMAND..." >&2; exit 2; }
        shift
        run_inside "$@"
        ;;
    *) echo "usage: $0 make | run DIR COMMAND..." >&2; exit 2 ;;
esac
