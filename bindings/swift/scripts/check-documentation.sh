#!/usr/bin/env bash
# Compiles the documentation of Quire; a link that leads nowhere, or a step without its file, is an error.
# Exits with 77 where the toolchain has no docc.
set -euo pipefail
cd "$(dirname "$0")/.."

docc=$(dirname "$(readlink -f "$(command -v swift)")")/docc
if [ ! -x "$docc" ]; then
    docc=$(xcrun --find docc 2>/dev/null) || { echo "this toolchain has no docc: documentation not checked" >&2; exit 77; }
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

swift package dump-symbol-graph --minimum-access-level public >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir "$work/symbols"
find "$(swift build --show-bin-path)/../symbolgraph" -name 'Quire.symbols.json' -o -name 'Quire@*.symbols.json' |
    while read -r graph; do cp "$graph" "$work/symbols"; done
"$docc" convert Sources/Quire/Quire.docc --warnings-as-errors \
    --fallback-display-name Quire --fallback-bundle-identifier quire --fallback-bundle-version 1 \
    --additional-symbol-graph-dir "$work/symbols" --output-path "$work/Quire.doccarchive"
echo "documentation: every link leads somewhere"
