#!/bin/bash
# Measures wsgate beside its peers and prints the tables of docs/performance.md. What is not installed is left out, with a line
# that says so. Arguments go to `wsgate-load table`; `benches/run.sh --help` lists them.
#
#   benches/run.sh --write                              the whole run, also written into docs/performance.md
#   benches/run.sh --rounds 1 --only nginx,wsgate --cases 64b-32 --idle-connections 0
#
# WSGATE_BENCH_BUILD=0 measures what has been built before.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
peers=$target/bench-peers
guests=$target/wasm32-wasip2/guest

if [[ " $* " == *" --help "* ]]; then exec cargo run --quiet --locked --release -p wsgate-load -- table --help; fi

# npm packages at the exact versions of package.json, beside copies of the scripts that import them.
install_peers() {
    mkdir -p "$peers"
    cp benches/peers/*.mjs "$peers"
    if cmp -s benches/peers/package.json "$peers/package.json" && [[ -d $peers/node_modules/ws ]]; then return; fi
    cp benches/peers/package.json "$peers"
    npm install --prefix "$peers" --no-package-lock --ignore-scripts --no-audit --no-fund --silent
    # Bun's package downloads nothing but puts its binary in place by this script.
    if [[ -f $peers/node_modules/bun/install.js ]]; then (cd "$peers/node_modules/bun" && node install.js); fi
}

if command -v npm >/dev/null; then
    install_peers || echo "the npm packages of the peers could not be installed" >&2
else
    mkdir -p "$peers"
    echo "npm is not installed" >&2
fi

if [[ ${WSGATE_BENCH_BUILD:-1} != 0 ]]; then
    cargo build --locked --release --bin wsgate
    cargo build --locked --profile guest --target wasm32-wasip2 -p bench-forward -p bench-json
fi
cargo build --locked --release -p wsgate-load

exec "$target/release/wsgate-load" table --peers "$peers" --wsgate "$target/release/wsgate" --guests "$guests" "$@"
