#!/usr/bin/env bash
# compare: arms that branch off from one, each against its control, over seeds; killed and gone on with.
. "$(dirname "$0")/cli.sh"
run 2 compare
run 2 compare x.yaml
err_has "--run"
run 2 compare x.yaml --run ""
err_has "--run: expected DIR, found an empty text"

skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
sed '/^arms:/,$d; s/families: .*/families: [maximum:2]/; s/train: 24/train: 48/' \
    "$source_dir/recipes/stories260k.yaml" >"$dir/head.yaml"
cat "$dir/head.yaml" - >"$dir/recipe.yaml" <<'END'
arms:
  - {name: warm-up, method: sft, iterations: 12, lr: 2e-3}
  - {name: more sft, method: sft, pairs: real, from: warm-up, iterations: 2, lr: 1e-3}
  - {name: spin, method: spin, from: warm-up, against: more sft, iterations: 2, lr: 1e-5}
  - {name: own answers, method: sft, pairs: verified, from: warm-up, iterations: 2, samples: 4, fresh: 24, lr: 1e-3}
  - {name: grpo, method: grpo, from: warm-up, against: own answers, iterations: 2, samples: 4, fresh: 24, lr: 1e-4}
END
compare() { run 0 compare "$dir/recipe.yaml" -m "$model" --seeds 2 --first 3 --run "$1" --dtype f32 --threads 1; }
compare "$dir/whole"
has "own answers"
run 0 report "$dir/whole/seed-3" "$dir/whole/seed-4"
has "The arms over 2 runs"
run 2 report "$dir/whole/seed-3" "$dir/whole/seed-3"
err_has "expected a seed of its own, found 3"
cp -r "$dir/whole/seed-4" "$dir/other-base"
python3 -c "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(\"update run set value = '00' where \
key = 'model_fingerprint'\"); db.commit()" "$dir/other-base/run.db"
run 11 report "$dir/whole/seed-3" "$dir/other-base"
err_has "other-base: expected a run from the same base model as $dir/whole/seed-3 ($model, fingerprint "
grep -q "^| grpo |" "$dir/whole/report.md" || fail "expected a row of grpo in report.md"

# What it says, from the databases: the same start, the same questions and first answers; levels and
# differences as they are counted here.
python3 - "$dir/whole" <<'END' >"$dir/out" 2>&1 || fail "the figures"
import json, sqlite3, sys
folder = sys.argv[1]
arms = {a["arm"]: a for a in json.load(open(folder + "/report.json"))["arms"]}
level, difference = [], []
for seed in (3, 4):
    db = sqlite3.connect(f"file:{folder}/seed-{seed}/run.db?mode=ro", uri=True)
    stage = lambda arm, i: db.execute("select id from stages where arm=? and iteration=? and kind in "
                                      "('iteration', 'epoch')", (arm, i)).fetchone()[0]
    parent = lambda arm: db.execute("select value from metrics where stage=? and name='parent'",
                                    (stage(arm, 1),)).fetchone()[0]
    for arm in ("more sft", "spin", "own answers", "grpo"):
        assert parent(arm) == stage("warm-up", 12), arm
    samples = lambda arm, i: db.execute("select prompt, sample_index, text from samples where stage=? order "
                                        "by prompt, sample_index", (stage(arm, i),)).fetchall()
    assert samples("own answers", 1) == samples("grpo", 1) and len(samples("grpo", 1)) == 96
    assert samples("more sft", 1) == samples("spin", 1)
    assert [s[0] for s in samples("grpo", 1)] != [s[0] for s in samples("grpo", 2)]
    right = lambda arm: [r[0] for r in db.execute("select strict from evaluations where stage=? and "
        "set_name='report' order by prompt", (stage(arm, 2),))]
    mean = lambda x: sum(x) / len(x)
    level.append(mean(right("spin")))
    difference.append(mean(right("spin")) - mean(right("more sft")))
close = lambda a, b: abs(a - b) < 1e-12
spin = arms["spin"]
assert close(spin["score"], sum(level) / 2), spin
assert all(map(close, spin["differences"], difference)), (spin, difference)
assert close(spin["difference"]["value"], sum(difference) / 2)
assert spin["difference"]["low"] <= spin["difference"]["value"] <= spin["difference"]["high"]
assert spin["against"] == "more sft" and "against" not in arms["more sft"]
assert spin["p_holm"] >= spin["p"] and spin["kl"] > 0 and arms["grpo"]["cpu_seconds"] > 0
assert [k for k, a in arms.items() if "difference" in a] == ["spin", "grpo"]
END

# The report of a run is on the model that the run keeps, whose checkpoint is the one that is left, and
# not on the last that an arm kept for itself.
python3 - "$dir/whole" <<'END' >"$dir/out" 2>&1 || fail "the kept stage"
import json, os, sys
for seed in (3, 4):
    folder = f"{sys.argv[1]}/seed-{seed}"
    kept, left = json.load(open(folder + "/report.json"))["kept_stage"], os.listdir(folder + "/checkpoints")
    assert [name[:3] for name in left] == [f"{kept:03}"], (kept, left)
END
# An evaluation of a prompt that is not there is refused, not looked up.
cp -r "$dir/whole/seed-3" "$dir/dangling"
python3 -c "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('update evaluations set prompt = 99999999 \
where prompt = (select max(prompt) from evaluations)'); db.commit()" "$dir/dangling/run.db"
run 3 report "$dir/dangling"
err_has "expected one of a prompt that is there, found 99999999"

# Killed again and again, the same command goes on to the same figures, but for what they cost.
RANDOM=5
for _ in $(seq 12); do
    "$spar" compare "$dir/recipe.yaml" -m "$model" --seeds 2 --first 3 --run "$dir/killed" \
        --dtype f32 --threads 1 >"$dir/out" 2>"$dir/err" &
    pid=$!
    sleep 0.$((RANDOM % 80 + 10))
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
done
compare "$dir/killed"
python3 - "$dir/whole" "$dir/killed" <<'END' >"$dir/out" 2>&1 || fail "expected the same figures after kills"
import json, sys
def arms(folder):
    return [{k: v for k, v in a.items() if k != "cpu_seconds"}
            for a in json.load(open(folder + "/report.json"))["arms"]]
assert arms(sys.argv[1]) == arms(sys.argv[2])
END
# A kill leaves what its process took, for the next one to add to.
python3 - "$dir/killed" <<'END' >"$dir/out" 2>&1 || fail "what the killed processes took does not add up"
import json, sqlite3, sys
total, several = 0, 0
for seed in (3, 4):
    db = sqlite3.connect(f"file:{sys.argv[1]}/seed-{seed}/run.db?mode=ro", uri=True)
    total += db.execute("select sum(w.cpu) from work as w join stages as s on s.id = w.stage "
                        "where s.arm = 'grpo'").fetchone()[0]
    several += db.execute("select count(*) from work where segment > 1").fetchone()[0]
grpo = [a for a in json.load(open(sys.argv[1] + "/report.json"))["arms"] if a["arm"] == "grpo"][0]
assert several > 0
assert abs(grpo["cpu_seconds"] - total / 2) < 1e-9, (grpo["cpu_seconds"], total)
END
for seed in 3 4; do
    cmp -s "$dir/whole/seed-$seed/final/model.safetensors" \
        "$dir/killed/seed-$seed/final/model.safetensors" || fail "seed $seed: another model after kills"
    [ "$(ls "$dir/whole/seed-$seed/checkpoints" | wc -l)" -le 1 ] ||
        fail "expected no checkpoint but the kept one"
done

# Names that do not say which arm, and SFT that compares.
refuse() { # WORD ARM...
    local word=$1
    shift
    { cat "$dir/head.yaml"; echo "arms:"; printf '  - %s\n' "$@"; } >"$dir/wrong.yaml"
    run 2 compare "$dir/wrong.yaml" -m "$model" --run "$dir/x"
    err_has "$word"
}
refuse "from" "{name: a, method: sft, from: b}" "{name: b, method: sft}"
refuse "against" "{name: a, method: spin, against: none}"
refuse "name" "{name: a, method: sft}" "{name: a, method: spin, from: a}"
refuse "pairs" "{name: a, method: sft, pairs: judged, samples: 2}"
verdict
