#!/usr/bin/env bash
# Runs every fuzz target for SECONDS_EACH (120), or those that are named. What is found lies in fuzz/artifacts/<target>/.
# Needs cargo-fuzz (`cargo install cargo-fuzz`), a nightly toolchain and a C++ compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is not installed: cargo install cargo-fuzz" >&2; exit 1; }
rustc +nightly --version >/dev/null 2>&1 || { echo "no nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }

each=${SECONDS_EACH:-120}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(config frames handshake json proxy_header token)
export RUSTUP_TOOLCHAIN=nightly CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"

cargo run --locked --release --quiet --bin seeds -- corpus
cargo fuzz build --fuzz-dir .
code=0
for target in "${targets[@]}"; do
    echo "== $target, $each s"
    nice -n 10 cargo fuzz run --fuzz-dir . "$target" -- -max_total_time="$each" -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -dict=corpus/words -print_final_stats=1 2>&1 | tee "corpus/$target.log" |
        grep -E '^(SUMMARY|Test unit|stat::(number_of_executed|average|peak))|DONE|panicked|artifact_prefix' || true
    [ "${PIPESTATUS[0]}" -eq 0 ] || code=1
done
exit $code
