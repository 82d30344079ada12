#!/usr/bin/env bash
# tasks and eval.
. "$(dirname "$0")/cli.sh"
run 0 tasks
cp "$dir/out" "$dir/list"
has "multiply"
run 0 tasks list
cmp -s "$dir/list" "$dir/out" || fail "tasks and tasks list differ"
run 0 tasks show
lines 10
run 0 tasks show -n 4 --families letter,sort_words --difficulty 3 --seed 1
lines 4
[ "$(grep -c '"difficulty":3' "$dir/out")" -eq 4 ] || fail "expected difficulty 3"
cp "$dir/out" "$dir/first"
run 0 tasks -n 4 --families letter:3,sort_words:3 --seed 1
cmp -s "$dir/first" "$dir/out" || fail "expected the same problems by name:difficulty"
run 0 tasks show -n 4 --families letter:3,sort_words:3 --seed 2
cmp -s "$dir/first" "$dir/out" && fail "another seed: expected other problems"
run 2 tasks other
err "spar: expected list or show, found other"
run 5 tasks show --families lettre
err_has "letter"
run 2 tasks show --families letter --difficulty 99
err_has "family letter: expected a difficulty"

skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
run 0 eval -m "$model" --families letter:3,maximum:2 -n 6 --max-new-tokens 4
lines 3
for part in "letter " "maximum " "all " "strict" "lenient"; do
    has "$part"
done
run 0 eval -m "$model" --families letter:3 -n 4 --max-new-tokens 4 --json
for part in '"strict": {' '"passed":' '"low":' '"families": {'; do
    has "$part"
done
run 2 eval -m "$model" -n 0
verdict
