#!/bin/sh
# Is what src/tiphys/addons/dashboard/web holds what these sources make? Needs npm.
set -eu
cd "$(dirname "$0")"
[ -d node_modules ] || npm install --no-fund --no-audit
npx tsc --noEmit
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
npx vite build --outDir "$made" --emptyOutDir --logLevel warn
diff -r "$made" ../src/tiphys/addons/dashboard/web && echo "the built files are these sources'"
