#!/usr/bin/env bash
# export: a folder to GGUF and back to the same numbers, and what is wrong said in one line.
. "$(dirname "$0")/cli.sh"
skip_without golden/arch/llama
model=$shared/golden/arch/llama
rows='{"ids": [1, 5, 9, 30, 7]}'

run 0 export -m "$model" -t f32 -o "$dir/m.gguf"
run 0 export -m "$dir/m.gguf" -t f32 -o "$dir/back"
feed 0 "$rows" score -m "$model" --dtype f32
cp "$dir/out" "$dir/want"
for again in "$dir/m.gguf" "$dir/back"; do
    feed 0 "$rows" score -m "$again" --dtype f32
    out "$(cat "$dir/want")"
done

run 0 export -m "$model" -t q8_0 -o "$dir/q.gguf"
feed 0 "$rows" score -m "$dir/q.gguf"
[ -e "$dir/back/config.json" ] || fail "no config.json"

run 2 export -m "$model" -t q8_0 -o "$dir/folder"
err 'spar: type of a folder: expected f32, f16 or bf16, found q8_0'
run 2 export -m "$model"
err 'spar: expected what to write: -o OUT'
[ ! -e "$dir/folder" ] || fail "a folder was left"
verdict
