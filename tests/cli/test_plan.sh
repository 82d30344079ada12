#!/usr/bin/env bash
# plan: the settings in the order of their memory, and memory as bench then finds it.
. "$(dirname "$0")/cli.sh"
run 2 plan
err_has "-m MODEL"
run 5 plan -m "$dir/none"
err_has "$dir/none"

# value KEY: of the first row of the output.
value() { grep -m1 "\"$1\": " "$dir/out" | tr -dc '0-9.'; }
# planned OPTION...: the memory of plan is within a twentieth of that of bench.
planned() {
    run 0 plan -m "$model" --dtype f32 --json "$@"
    local said found
    said=$(value peak_rss_mb)
    run 0 bench -m "$model" --dtype f32 --runs 1 --json "$@"
    found=$(value peak_rss_mb)
    awk "BEGIN { exit !($said > 0.95 * $found && $said < 1.05 * $found) }" ||
        fail "plan $*: expected $found MB within 5 %, found $said"
}

model=${XDG_CACHE_HOME:-$HOME/.cache}/spar/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -e "$model" ]; then
    planned --work lora --tokens 16 --sequences 1
    planned --work single --tokens 8 --weights file
fi

skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
run 2 plan -m "$model" --work rollout --recompute
err_has "--recompute"
run 0 plan -m "$model" --tokens 16 --json
[ "$(grep -c '"work"' "$dir/out")" -eq 1 ] || fail "expected the asked setting alone, which fits"
run 0 plan -m "$model" --tokens 16 --memory 1 --json
[ "$(grep -c '"work"' "$dir/out")" -eq 6 ] || fail "expected every alternative, as none fits"
[ "$(grep -c '"fits": false' "$dir/out")" -eq 6 ] || fail "expected none to fit"
run 0 plan -m "$model" --tokens 16 --work lora --recompute --all --steps 10
has "q4_1"
[ "$(grep -c '^lora' "$dir/out")" -eq 3 ] || fail "expected what takes less than was asked for"
verdict
