#!/bin/sh
# Compiles the workspace's own crates so that libFuzzer sees which branches an input takes, and with overflow
# checks. Cargo calls it for those crates only (RUSTC_WORKSPACE_WRAPPER) and keeps what comes out beside what is
# built without it: the engine is the same for both. The flags are those of `cargo fuzz build -s none`, and one
# that leaves comparisons of bytes as calls, which libFuzzer sees; stable rustc takes all of them.
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Cllvm-args=-max-loads-per-memcmp=0 \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks
