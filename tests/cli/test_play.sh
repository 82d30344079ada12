#!/usr/bin/env bash
# play and report: a run, a run stopped and resumed by the command it printed, what is refused.
. "$(dirname "$0")/cli.sh"
run 2 play
run 2 play x.yaml
err_has "--run"
run 2 play --run "$dir/x"
err_has "expected a recipe"
run 5 report "$dir/missing"

skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
recipe=$source_dir/recipes/stories260k.yaml
run 5 play "$dir/missing.yaml" -m "$model" --run "$dir/x"
printf 'nmae: x\n' >"$dir/wrong.yaml"
run 2 play "$dir/wrong.yaml" -m "$model" --run "$dir/x"
err_has "nmae"

# What would fail once the first answers are sampled is said before.
for key in optimizer control_optimizer schedule; do
    sed "/^ *$key:/d; s/method: spin/method: spin\n    $key: adma/" "$recipe" >"$dir/unknown.yaml"
    run 2 play "$dir/unknown.yaml" -m "$model" --run "$dir/x"
    err_has "adma"
    sed "s/: adma$/:/" "$dir/unknown.yaml" >"$dir/empty.yaml"
    run 2 play "$dir/empty.yaml" -m "$model" --run "$dir/x"
    err_has "$key: expected a string, found null"
done
# A database of another program stays.
mkdir "$dir/other"
python3 -c "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('create table mine(x)'); db.commit()" \
    "$dir/other/run.db"
run 11 play "$recipe" -m "$model" --run "$dir/other"
err_has "a database of another program"
[ -s "$dir/other/run.db" ] || fail "expected the other program's database to stay"

# A loss takes its own parameters, and no other's.
sed 's/method: spin/method: spin\n    gamma: 2/' "$recipe" >"$dir/gamma.yaml"
run 2 play "$dir/gamma.yaml" -m "$model" --run "$dir/x"
err_has "gamma"

run 0 play "$recipe" -m "$model" --run "$dir/whole" --dtype f32 --threads 1
has "The kept model is in $dir/whole/final"
run 2 play "$recipe" -m "$model" --run "$dir/whole"
err_has "--resume"
run 0 report "$dir/whole"
has "warm-up"
run 0 report "$dir/whole" --markdown
has "|"
run 0 report "$dir/whole" --json
has '"stages": ['
run 0 generate -m "$dir/whole/final" -n 2 "Once"

# Controls are beside the arms, which are the same with them: here the last arm trains too.
sed 's/method: rpo/method: spin/; s/pairs: verified/pairs: real/; s/control: verified/control: none/' \
    "$recipe" >"$dir/two.yaml"
for controls in "" --controls; do
    run 0 play "$dir/two.yaml" -m "$model" --run "$dir/two$controls" $controls --dtype f32
    has "The kept model"
done
has "spin control"
cmp -s "$dir/two/final/model.safetensors" "$dir/two--controls/final/model.safetensors" ||
    fail "expected the same model with controls"

# Stopped in the middle, it prints the command that goes on, for any name of the folder.
folder="$dir/it's a run"
"$spar" play "$recipe" -m "$model" --run "$folder" --dtype f32 --threads 1 >"$dir/out" 2>"$dir/err" &
pid=$!
for _ in $(seq 200); do
    [ -e "$folder/run.db" ] && break
    sleep 0.02
done
kill -TERM $pid
wait $pid
status=$?
if [ "$status" -eq 10 ]; then
    command=$(sed -n 's/^stopped; go on with: spar //p' "$dir/err")
    [ -n "$command" ] || fail "expected the command that goes on"
    eval "\"\$spar\" $command" >"$dir/out" 2>"$dir/err" || fail "spar $command"
elif [ "$status" -ne 0 ]; then
    fail "stopped: expected status 10, found $status"
fi
# Stopped while it trains, what it took adds up over the processes.
sed '/^arms:/,$d' "$recipe" >"$dir/long.yaml"
printf 'arms:\n  - {name: spin, method: spin, pairs: real, epochs: 20, lr: 1e-5}\n' >>"$dir/long.yaml"
run 0 play "$dir/long.yaml" -m "$model" --run "$dir/long" --dtype f32 --threads 1
has "What the stages took"
# Watches a run until 20 steps are stored.
cat >"$dir/watch.py" <<'END'
import sqlite3, sys, time
for _ in range(3000):
    time.sleep(0.02)
    try:
        db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
        if (db.execute("select max(step) from metrics").fetchone()[0] or 0) >= 20:
            sys.exit(0)
    except sqlite3.Error:
        pass
sys.exit(1)
END
# On a machine that does other things the run may be over before it is told to stop: once more then.
for _ in 1 2 3 4 5; do
    rm -rf "$dir/halves"
    "$spar" play "$dir/long.yaml" -m "$model" --run "$dir/halves" --dtype f32 --threads 1 >"$dir/out" 2>"$dir/err" &
    pid=$!
    python3 "$dir/watch.py" "$dir/halves/run.db" || fail "expected steps of training"
    kill -TERM $pid 2>/dev/null
    wait $pid
    status=$?
    [ $status -eq 0 ] || break
done
[ $status -eq 10 ] || fail "expected a run that was stopped, found status $status"
run 0 play --run "$dir/halves" --resume
run 0 report "$dir/halves" --json
python3 - "$dir/out" "$dir/halves/run.db" "$dir/long/run.db" <<'END' >"$dir/err" 2>&1 || fail "what the processes took does not add up"
import json, sqlite3, sys
report = json.load(open(sys.argv[1]))
halves, whole = (sqlite3.connect(f"file:{p}?mode=ro", uri=True).execute(
    "select cpu, seconds from work where phase='train' order by segment").fetchall() for p in sys.argv[2:])
assert len(halves) == 2 and len(whole) == 1, (halves, whole)
assert all(cpu > 0 and seconds > 0 for cpu, seconds in halves), halves
took = [s["work"]["train"] for s in report["stages"] if "train" in s["work"]]
assert len(took) == 1 and took[0]["processes"] == 2, took
assert abs(took[0]["cpu_seconds"] - sum(cpu for cpu, _ in halves)) < 1e-9
assert abs(took[0]["seconds"] - sum(seconds for _, seconds in halves)) < 1e-9
assert took[0]["cpu_seconds"] > 0.5 * whole[0][0], (halves, whole)
END
# Told to stop again and again, wherever it is, it stops in order: products come from generated code that
# uses the stack pointer for something else, and a handler on the same stack wrote into the heap.
rm -rf "$dir/often"
for delay in 0.3 0.32 0.34 0.36 0.38 0.4 0.42 0.44 0.46 0.48 0.5 0.52; do
    timeout --preserve-status -s TERM $delay "$spar" play "$dir/long.yaml" -m "$model" --run "$dir/often" --resume \
        --dtype f32 --threads 2 >"$dir/out" 2>"$dir/err"
    status=$?
    # 143: it came before the program listened
    case $status in 0 | 10 | 143) ;; *) fail "told to stop: expected status 10, found $status" ;; esac
done
# What a run began with it goes on with; other kernels are named.
cp -r "$dir/whole" "$dir/again"
run 0 play --run "$dir/again" --resume
grep -q "the run began with" "$dir/again/log.txt" && fail "expected the dtype that the run began with"
run 0 play --run "$dir/again" --resume --dtype bf16
grep -q "the run began with .*f32.* goes on with .*bf16" "$dir/again/log.txt" ||
    fail "expected another dtype to be named"
# An adapter instead of the weights: it is kept apart and merged, and the two say the same.
{ cat "$recipe"; printf '\nlora: {rank: 4, alpha: 8}\n'; } >"$dir/lora.yaml"
run 0 play "$dir/lora.yaml" -m "$model" --run "$dir/lora" --dtype f32 --threads 1
[ -e "$dir/lora/final/model.safetensors" ] || fail "expected the merged model"
# On blocks, which stay as they are; without an adapter there is nothing to train.
{ cat "$dir/lora.yaml"; printf '\nweights: q8_0\n'; } >"$dir/qlora.yaml"
run 0 play "$dir/qlora.yaml" -m "$model" --run "$dir/qlora" --dtype f32 --threads 1
[ -e "$dir/qlora/final/model.safetensors" ] || fail "expected the merged model"
{ cat "$recipe"; printf '\nweights: q8_0\n'; } >"$dir/frozen.yaml"
run 2 play "$dir/frozen.yaml" -m "$model" --run "$dir/x"
err_has "weights"
err_has "lora"
feed 0 '{"ids": [1, 403, 407, 261]}' score -m "$model"
base=$(sed 's/.*"sum":\(.....\).*/\1/' "$dir/out")
feed 0 '{"ids": [1, 403, 407, 261]}' score -m "$dir/lora/final"
merged=$(sed 's/.*"sum":\(.....\).*/\1/' "$dir/out")
feed 0 '{"ids": [1, 403, 407, 261]}' score -m "$model" --adapter "$dir/lora/adapter"
adapted=$(sed 's/.*"sum":\(.....\).*/\1/' "$dir/out")
[ "$merged" = "$adapted" ] || fail "merged: $merged, with the adapter: $adapted"
[ "$merged" != "$base" ] || fail "expected an adapter that has learnt something"
run 0 merge -m "$model" --adapter "$dir/lora/adapter" -o "$dir/merged"
cmp -s "$dir/merged/model.safetensors" "$dir/lora/final/model.safetensors" ||
    fail "expected spar merge to give the run's own merged model"
run 2 merge -m "$model" --adapter "$dir/lora/adapter" -o "$dir/merged"
run 0 play --run "$dir/lora" --resume
cmp -s "$dir/whole/final/model.safetensors" "$folder/final/model.safetensors" ||
    fail "expected the same model from a run that was stopped"
verdict
