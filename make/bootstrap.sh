#!/bin/sh
# Bring .venv to a lock: sh make/bootstrap.sh (core | test) ID
#
# Needs a Python from 3.11 on. What Debian keeps apart (ensurepip, ssh-keygen) is fetched where it is missing, without root too.
# Every download goes through the configuration that pip and apt have on this machine.
set -eu
cd "$(dirname "$0")/.."
ready=.venv/.ready      # holds this folder's path; away while .venv is being changed, so that a half done one is remade
changing=.venv/.changing        # as old as the last change that was begun
debian=.venv/debian     # Debian packages unpacked for this project alone
pip=-mpip               # what makes .venv's Python run pip: this, or a path
export PYTHONWARNINGS=ignore

say() { printf 'edgekit: %s\n' "$*"; }
die() { printf 'edgekit: %s\n' "$*" >&2; exit 1; }

find_python() {         # the interpreter beneath any virtual environment, so that .venv can be remade from within
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for candidate; do
        "$candidate" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)' 2>/dev/null && return
    done
    die "no Python from 3.11 on: tried $*; name one with: make PYTHON=/path/to/python3"
}

version() { "$1" -c 'import platform; print(platform.python_version())'; }

usable() {
    [ "$(cat $ready 2>/dev/null)" = "$PWD" ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || return
    [ -z "${PYTHON:-}" ] || [ "$(version "$python")" = "$(version .venv/bin/python)" ]
}

unpack_debian() {       # PACKAGE ADVICE: unpack PACKAGE under $debian/root, or give ADVICE
    command -v apt-get >/dev/null || die "$2"
    say "fetching Debian's $1 into $debian"
    mkdir -p $debian/lists/partial $debian/cache/archives/partial
    (
        cd $debian
        apt() { apt-get -qq -o APT::Sandbox::User=root "$@"; }
        own_lists() { apt -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" "$@"; }
        apt download "$1" 2>/dev/null || { own_lists update && own_lists download "$1"; }  # the machine's lists are empty or old
    ) || die "$2"
    dpkg -x $debian/"$1"_*.deb $debian/root
}

find_pip() {            # sets pip: a path that a Python without pip can run
    bundled=$("$python" -c 'import ensurepip; print(*ensurepip.__path__)' 2>/dev/null) || bundled=
    for wheel in "$bundled"/_bundled/pip-*.whl /usr/share/python-wheels/pip-*.whl; do
        [ ! -e "$wheel" ] || { pip=$wheel/pip; return; }
    done
    pip=$("$python" -c 'import pip; print(*pip.__path__)' 2>/dev/null) && return
    advice="this Python has neither ensurepip nor pip; on Debian: apt-get install python3-venv ca-certificates"
    unpack_debian python3-pip-whl "$advice"
    pip=$(echo $debian/root/usr/share/python-wheels/pip-*.whl)/pip
    if [ -z "${PIP_CERT:-}" ] && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then      # Debian's pip brings none of its own
        unpack_debian ca-certificates "$advice"
        cat $debian/root/usr/share/ca-certificates/mozilla/*.crt >$debian/ca.pem
        export PIP_CERT="$PWD/$debian/ca.pem"
    fi
}

pip_install() {         # WHAT...: what fails is tried once more, aloud
    set -- "$pip" install --disable-pip-version-check --no-input --no-deps "$@"
    .venv/bin/python "$@" -qq || .venv/bin/python "$@" -q && return
    [ ! -e $changing ] || [ -n "$(find .venv/bin .venv/lib/python*/site-packages -maxdepth 1 -newer $changing)" ] || echo "$PWD" >$ready
    die "pip could not install this, and has said why"
}

install_lock() {        # FILE: just what it says, from wheels with its hashes
    pip_install --only-binary :all: --require-hashes -r "$1"
}

make_venv() {
    say "making .venv with Python $(version "$python")"
    rm -f $ready .venv/.core-* .venv/.test-*
    rm -rf .venv
    "$python" -m venv --without-pip .venv
    find_pip
    awk '/^pip==/ { found = 1 } found { print } found && !/\\$/ { exit }' requirements/core.txt >.venv/pip.txt
    install_lock .venv/pip.txt
    pip=-mpip
    echo "$PWD" >$ready
}

provide_ssh_keygen() {  # signs the bundles
    ! command -v ssh-keygen >/dev/null && [ ! -x .venv/bin/ssh-keygen ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Debian's openssh-client"
        apt-get -qq update &&
            DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends openssh-client >/dev/null &&
            return
    fi
    advice="ssh-keygen is missing; install the OpenSSH client"
    unpack_debian openssh-client "$advice"
    rm -f $debian/trial
    $debian/root/usr/bin/ssh-keygen -q -t ed25519 -N '' -f $debian/trial </dev/null || die "$advice"
    ln -s ../debian/root/usr/bin/ssh-keygen .venv/bin/ssh-keygen
}

goal=$1 id=$2
if command -v flock >/dev/null; then
    exec 9<requirements     # one at a time; what this script started holds it too
    flock -n 9 || { say "waiting for another make in this folder" && flock 9; }
fi
[ ! -e ".venv/.$goal-$id" ] || exit 0
python=$(find_python)
usable || make_venv
provide_ssh_keygen
say "installing requirements/$goal.txt and this project"
find .venv -maxdepth 1 \( -name '.core-*' -o -name '.test-*' \) ! -name ".core-$id" -delete
rm -f $ready
touch $changing
install_lock "requirements/$goal.txt"
[ -e ".venv/.core-$id" ] || pip_install --no-build-isolation --editable .
echo "$PWD" >$ready
touch ".venv/.core-$id" ".venv/.$goal-$id"      # every lock holds the core
