#!/bin/sh
# Fuzzes for some seconds a target: the pre-scan, loading, and what guests pass to imports. Inputs that reach
# new branches stay in the cargo target directory, where the next run begins with them.
set -eu
seconds=${1:?how many seconds a target}
cd "$(dirname "$0")/.."
wrapper=$PWD/crates/fuzz/rustc.sh
work=${CARGO_TARGET_DIR:=$PWD/target}/fuzz
export CARGO_TARGET_DIR

build() { # build BINARY...
    cargo build --release --locked --quiet --package fuseboard-fuzz --features libfuzzer "$@"
}

found() { # found TARGET LOG
    grep -E -A 4 'panicked at|ERROR: libFuzzer' "$2" >&2 || tail -n 20 "$2" >&2
    input=$(sed -n 's/.*Test unit written to //p' "$2" | tail -n 1)
    echo "✗ $1: found something; all that was said is in $2" >&2
    [ -z "$input" ] || cat >&2 <<SAY
  the input is saved: $input
  run it again:       $CARGO_TARGET_DIR/release/fuzz-$1 $input
  what it means:      $CARGO_TARGET_DIR/release/inputs explain $1 $input
  keep it, as text:   $CARGO_TARGET_DIR/release/inputs hex $1 $input (see CONTRIBUTING.md)
SAY
    exit 1
}

fuzz() { # fuzz TARGET BYTES: how long an input can be; short ones are quick
    corpus=$work/$1 log=$work/$1.log
    mkdir -p "$work/found"
    "$CARGO_TARGET_DIR/release/inputs" seed "$1" "$corpus"
    "$CARGO_TARGET_DIR/release/fuzz-$1" "$corpus" -max_total_time="$seconds" -max_len="$2" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$work/found/$1-" >"$log" 2>&1 || found "$1" "$log"
    branches=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    inputs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    [ "${branches:-0}" -gt 100 ] || {
        echo "✗ $1: only ${branches:-0} branches were seen; $wrapper had no effect, see $log" >&2
        exit 1
    }
    echo "✓ $1: nothing found in $inputs inputs, which took $branches branches"
}

echo "→ fuzzing for $seconds s a target: the pre-scan, loading, what guests pass to imports"
build --bin inputs
RUSTC_WORKSPACE_WRAPPER=$wrapper build --bin fuzz-scan --bin fuzz-load --bin fuzz-abi
fuzz scan 1024
fuzz load 4096
fuzz abi 4096
