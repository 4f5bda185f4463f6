#!/bin/sh
# Fuzzes for some seconds a target: the pre-scan, loading, and what guests pass to imports and to WASI. What was found before is
# tried first. Inputs that reach new branches stay in the cargo target directory, where the next run begins with them.
set -eu
seconds=${1:-}
case $seconds in '' | 0* | *[!0-9]*) echo "✗ how many seconds a target? a whole number above 0" >&2 && exit 2 ;; esac
cd "$(dirname "$0")/.."
work=${CARGO_TARGET_DIR:?is not set; run this by make fuzz}/fuzz
# Cargo keeps what a wrapper builds by the wrapper's path, and does not look in it.
wrapper=$work/rustc-$(cksum <crates/fuzz/rustc.sh | cut -d ' ' -f 1).sh
most_inputs=5000 # of a corpus, before it is cut to those that reach all it does
limits="-timeout=10 -rss_limit_mb=2048"

build() { # build BINARY...
    cargo build --release --locked --quiet --package fuseboard-fuzz --features libfuzzer "$@"
}

found() { # found TARGET LOG [INPUT]: without INPUT, the one that the log names
    grep -E -A 4 'panicked at|ERROR: libFuzzer' "$2" >&2 || tail -n 20 "$2" >&2
    input=${3:-$(sed -n 's/.*Test unit written to //p' "$2" | tail -n 1)}
    echo "✗ $1: found something; all that was said is in $2" >&2
    [ -z "$input" ] || cat >&2 <<SAY
  the input is saved: $input
  run it again:       $CARGO_TARGET_DIR/release/fuzz-$1 $input
  what it means:      $CARGO_TARGET_DIR/release/inputs explain $1 $input
  keep it, as text:   $CARGO_TARGET_DIR/release/inputs hex $1 $input (see CONTRIBUTING.md)
SAY
    exit 1
}

again() { # again TARGET LOG: tries what was found before, and lets go what is mended
    for input in "$work/found/$1-"*; do
        [ -f "$input" ] || continue
        # shellcheck disable=SC2086  # the limits are words
        "$CARGO_TARGET_DIR/release/fuzz-$1" "$input" $limits >"$2" 2>&1 || found "$1" "$2" "$input"
        rm "$input"
    done
}

shorten() { # shorten TARGET CORPUS LOG: cuts a corpus that has grown to the inputs that reach all it reaches
    [ "$(find "$2" -type f | wc -l)" -gt "$most_inputs" ] || return 0
    rm -rf "$2.cut"
    mkdir "$2.cut"
    # shellcheck disable=SC2086
    "$CARGO_TARGET_DIR/release/fuzz-$1" -merge=1 $limits "$2.cut" "$2" >"$3" 2>&1 || found "$1" "$3"
    rm -rf "$2"
    mv "$2.cut" "$2"
}

fuzz() { # fuzz TARGET BYTES: how long an input can be; short ones are quick
    corpus=$work/$1 log=$work/$1.log
    mkdir -p "$work/found"
    again "$1" "$log"
    "$CARGO_TARGET_DIR/release/inputs" seed "$1" "$corpus"
    shorten "$1" "$corpus" "$log"
    # shellcheck disable=SC2086
    "$CARGO_TARGET_DIR/release/fuzz-$1" "$corpus" -max_total_time="$seconds" -max_len="$2" $limits \
        -print_final_stats=1 -artifact_prefix="$work/found/$1-" >"$log" 2>&1 || found "$1" "$log"
    branches=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    inputs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    [ "${branches:-0}" -gt 100 ] || {
        echo "✗ $1: only ${branches:-0} branches were seen; $wrapper had no effect, see $log" >&2
        exit 1
    }
    echo "✓ $1: nothing found in $inputs inputs, which took $branches branches"
}

echo "→ fuzzing for $seconds s a target: the pre-scan, loading, what guests pass to imports and to WASI"
mkdir -p "$work"
cp crates/fuzz/rustc.sh "$wrapper"
chmod +x "$wrapper"
build --bin inputs
RUSTC_WORKSPACE_WRAPPER=$wrapper build --bin fuzz-scan --bin fuzz-load --bin fuzz-abi --bin fuzz-wasi
fuzz scan 1024
fuzz load 4096
fuzz abi 4096
fuzz wasi 4096
