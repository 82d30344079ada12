#!/usr/bin/env bash
# theory: tables, JSON, payoff matrices.
. "$(dirname "$0")/cli.sh"
run 0 theory
for part in "SPIN: fixed point: holds" "one exact iteration: holds" "average policy: holds" \
    "last policy: holds"; do
    has "$part"
done
run 0 theory --json --responses 3 --seed 4 --tau 0.5
lines 4
[ "$(grep -c '"holds":true' "$dir/out")" -eq 4 ] || fail "expected four theorems that hold"
echo '[[0, -1, 2], [1, 0, -3], [-2, 3, 0]]' >"$dir/game.json"
run 0 theory --game "$dir/game.json"
has "rows: 0.5 0.333333 0.166667"
run 0 theory --json --game "$dir/game.json"
lines 1
echo '[[0, 1], [2]]' >"$dir/game.json"
run 3 theory --game "$dir/game.json"
err_has "row 2: expected 2 numbers, found 1"
run 5 theory --game "$dir/missing.json"
run 2 theory --responses 1
verdict
