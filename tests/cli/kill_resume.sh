#!/usr/bin/env bash
# A run killed (SIGKILL) at random instants and resumed each time ends in the same bytes as one that
# was left alone. usage: kill_resume.sh SPAR RECIPE MODEL KILLS
set -u
spar=$1 recipe=$2 model=$3 kills=$4
if [ ! -d "$model" ]; then
    echo "skipped: the shared folder has no models/stories260K"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
begun=$(date +%s%N)
"$spar" play "$recipe" -m "$model" --run "$dir/whole" >"$dir/out" 2>&1 || { cat "$dir/out"; exit 1; }
took=$((($(date +%s%N) - begun) / 1000000))
want=$(sha256sum <"$dir/whole/final/model.safetensors")
RANDOM=7
done=0
# Waits are up to a third of a whole run, so that most kills hit a run under way.
while [ "$done" -lt "$kills" ]; do
    wait_ms=$((RANDOM % (took / 3 + 20)))
    "$spar" play "$recipe" -m "$model" --run "$dir/killed" --resume >"$dir/out" 2>&1 &
    pid=$!
    sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ $? -eq 137 ] && done=$((done + 1))
    if [ -e "$dir/killed/final" ]; then
        got=$(sha256sum <"$dir/killed/final/model.safetensors")
        [ "$got" = "$want" ] || { echo "kill $done: another model: $got, not $want"; exit 1; }
        rm -rf "$dir/killed"
    fi
done
"$spar" play "$recipe" -m "$model" --run "$dir/killed" --resume >"$dir/out" 2>&1 ||
    { echo "the last resume failed:"; cat "$dir/out"; exit 1; }
got=$(sha256sum <"$dir/killed/final/model.safetensors")
if [ "$got" != "$want" ]; then
    echo "after $done kills: another model: $got, not $want"
    exit 1
fi
echo "$done kills, the same sha256 each time: $want"
