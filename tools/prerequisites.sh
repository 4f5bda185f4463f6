#!/bin/sh
# Names each missing prerequisite in one sentence; with `test` as the second argument, what tests need too.
python=${1:-python3}

missing() {
    echo "fuseboard: $1" >&2
    exit 1
}

lacking() { # what tests do without, except on CI
    [ -z "${CI:-}" ] || missing "$1"
    echo "! $1" >&2
}

at_least() { # at_least WANTED FOUND
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

command -v "$python" >/dev/null || missing "Python 3.11 or newer is needed and '$python' is not on PATH."
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
at_least 3.11 "$found" || missing "Python 3.11 or newer is needed; '$python' is $found (set PYTHON=... to choose another)."
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing "Python's venv and ensurepip modules are needed (on Debian: python3-venv)."
command -v cargo >/dev/null || missing "Rust 1.95 or newer is needed and cargo is not on PATH (see https://rustup.rs)."
found=$(rustc --version | cut -d ' ' -f 2)
at_least 1.95.0 "$found" || missing "Rust 1.95 or newer is needed; rustc is $found (rustup update stable)."
command -v cc >/dev/null || missing "a C linker is needed and cc is not on PATH (on Debian: gcc)."
[ "${2:-}" = test ] || exit 0
command -v "$(set -- ${CXX:-c++} && echo "$1")" >/dev/null || # CXX may be a command with arguments
    missing "a C++ compiler is needed to fuzz, and '${CXX:-c++}' is not on PATH (on Debian: g++)."

libraries=$(rustc --print target-libdir --target wasm32-wasip1)
[ -d "$libraries" ] || command -v rustup >/dev/null || # `make guests` adds it where rustup is
    lacking "Rust's target wasm32-wasip1 is needed for guests in Rust, and rustup isn't there to add it (see https://rustup.rs); their tests are skipped."
if command -v go >/dev/null; then
    found=$(go env GOVERSION)
    at_least 1.24 "${found#go}" || lacking "Go 1.24 or newer is needed for guests in Go; go is ${found#go} (see https://go.dev/dl); their tests are skipped."
else
    lacking "Go 1.24 or newer is needed for guests in Go and go is not on PATH (see https://go.dev/dl); their tests are skipped."
fi
