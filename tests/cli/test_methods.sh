#!/usr/bin/env bash
# play: one recipe, every method by one line, on the same rollouts, judge, steps and report; what each
# learns from; iterations that do not help end an arm.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
# The judge likes short responses.
cat >"$dir/short" <<'END'
while IFS= read -r row; do echo "{\"score\": -${#row}}"; done
END
recipe() { # METHOD [MORE KEYS [RATE]]: two iterations of it
    sed '/^arms:/,$d; s/max_new_tokens: 8/max_new_tokens: 16/; s/train: 24/train: 12/; s/^generate:/&\n  stop: [".", " "]/' \
        "$source_dir/recipes/stories260k.yaml" >"$dir/recipe.yaml"
    local keys="pairs: judged, samples: 4, iterations: 2, patience: 2"
    local key
    for key in ${2:-}; do # NAME:VALUE takes the place of what stands there
        keys=$(sed "s/${key%%:*}: [a-z0-9]*/${key%%:*}: ${key#*:}/; t; s/\$/, ${key%%:*}: ${key#*:}/" <<<"$keys")
    done
    cat >>"$dir/recipe.yaml" <<END
judge: {train: "program:sh $dir/short"}
arms:
  - {name: arm, method: $1, batch: 6, optimizer: rmsprop, lr: ${3:-1e-5}, $keys}
END
}
play() { # METHOD [MORE KEYS [RATE]]
    recipe "$@"
    rm -rf "$dir/run"
    run 0 play "$dir/recipe.yaml" -m "$model" --run "$dir/run" --dtype f32 --threads 1
    run 0 report "$dir/run" --json
}
kept() { # whether the report counts groups that were kept
    grep -qE '"kept(, [^"]*)?": [1-9][0-9]*,?$' "$dir/out"
}
figure() { # NAME: the first of an iteration's steps
    python3 - "$dir/out" "$1" "${2:-1}" <<'END'
import json, sys
stages = [s for s in json.load(open(sys.argv[1]))["stages"] if s["kind"] == "iteration"]
print(stages[int(sys.argv[3]) - 1]["metrics"]["steps"][sys.argv[2]]["first"])
END
}
close_to() { # WHAT FOUND EXPECTED
    awk "BEGIN { d = $2 - $3; m = $3 > 1 ? $3 : 1; exit !(d < 1e-5 * m && d > -1e-5 * m) }" ||
        fail "$1: expected $3, found $2"
}

for method in spin t_spin dpo dpo_conservative rpo ipo sppo rebel inpo xpo simpo kto grpo dapo \
    dr_grpo rloo nash_md; do
    play $method
    has '"iteration": 2'
    kept || fail "$method: expected something to learn from"
done

# What was learned from, with its reason.
play sppo
kept || fail "sppo: expected pairs"
play sppo "pairs:all"
has '"kept, all 4"'
# A group that is larger than a micro-batch is computed in parts.
play grpo "samples:16 max_tokens:64"
has '"kept, all 16"'
grep -q "more than max_tokens" "$dir/run/log.txt" && fail "expected parts that fit"
play kto
has '"kept, good alone"'
has '"kept, bad alone"'
play dpo "min_margin:0.9"
has '"margin too short"'
kept && fail "expected no pair with win rates 0.9 apart"

# At rate 0 the first step stands at the closed form, in each iteration: the opponent, and the anchor
# too, are the policy itself.
for case in dpo:0.69314718 ipo:25 inpo:4444.4444 kto:0.5 rloo:0 grpo:0; do
    play "${case%%:*}" "" 0
    for iteration in 1 2; do
        close_to "${case%%:*} at rate 0" "$(figure loss $iteration)" "${case#*:}"
        close_to "${case%%:*} at rate 0, kl" "$(figure kl $iteration)" 0
    done
done

# Iterations that do not help end the arm; its control, with --controls, has as many.
recipe dpo "iterations:5 control:labelled"
sed -i 's/gate_margin: .*/gate_margin: 1/' "$dir/recipe.yaml"
run 0 play "$dir/recipe.yaml" -m "$model" --run "$dir/patient" --controls --dtype f32 --threads 1
grep -q "arm: ends after 2 of 5 iterations" "$dir/patient/log.txt" || fail "expected an early end"
run 0 report "$dir/patient"
has "The arm ended after arm, iteration 2: the last 2 candidates were thrown away."
run 0 report "$dir/patient" --json
[ "$(grep -c '"kind": "control"' "$dir/out")" -eq 2 ] || fail "expected two iterations of the control"

# Killed and resumed, to the same bytes: with an anchor that is not the opponent, and with opponents
# drawn from the models so far.
resumed() { # METHOD KEYS
    recipe "$1" "$2" 1e-4
    rm -rf "$dir/whole" "$dir/killed"
    run 0 play "$dir/recipe.yaml" -m "$model" --run "$dir/whole" --dtype f32 --threads 1
    for delay in 0.3 0.6 0.9 0.5; do
        timeout -s KILL $delay "$spar" play "$dir/recipe.yaml" -m "$model" --run "$dir/killed" \
            --resume --dtype f32 --threads 1 >"$dir/out" 2>"$dir/err"
    done 2>/dev/null
    run 0 play "$dir/recipe.yaml" -m "$model" --run "$dir/killed" --resume --dtype f32 --threads 1
    cmp -s "$dir/whole/final/model.safetensors" "$dir/killed/final/model.safetensors" ||
        fail "$1: expected the same model from the run that was killed"
}
resumed inpo "iterations:3"
for opponents in uniform prioritised; do
    resumed dpo "iterations:4 opponents:$opponents pool:3"
    run 0 report "$dir/whole" --json
    has '"opponent 1":'
    has '"opponent 3":'
    [ "$(ls "$dir/whole/checkpoints" | wc -l)" -eq 1 ] ||
        fail "expected the kept checkpoint alone, found $(ls "$dir/whole/checkpoints")"
done

# The league: expected wins of the five stages, whose winner adds up to 1 and is not beaten.
python3 - "$dir/out" <<'END' || fail "expected a league"
import json, sys
league = json.load(open(sys.argv[1]))["league"]
n = len(league["players"])
assert n == 5 and abs(sum(league["winner"]) - 1) < 1e-9 and abs(league["gap"]) < 1e-9
assert all(abs(league["wins"][i][j] + league["wins"][j][i] - 1) < 1e-12 for i in range(n) for j in range(n))
END
run 0 report "$dir/whole"
has "Expected wins on the report set"
has "5: arm, iteration 4"

refuse() { # STATUS MESSAGE METHOD [KEYS]
    recipe "$3" "${4:-}"
    run "$1" play "$dir/recipe.yaml" -m "$model" --run "$dir/wrong"
    err_has "$2"
}
refuse 2 "takes pairs, found all" dpo "pairs:all"
refuse 2 "samples: expected 2 or more" grpo "samples:1"
refuse 2 "fresh: expected 0 for method xpo" xpo "fresh:8"
refuse 2 "opponents: expected latest for method grpo" grpo "opponents:uniform"
refuse 2 "gamma" sppo "gamma:1"
refuse 2 "the nearest is 'sppo'" spppo
verdict
