#!/usr/bin/env bash
# What goes wrong on a user's machine: each fault gives one message, an exit status of its kind,
# and leaves nothing half-written.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
recipe=$source_dir/recipes/stories260k.yaml
original=$shared/models/stories260K/hf
model=$dir/model
cp -rL "$original" "$model"
chmod -R u+w "$model"

# refused STATUS MESSAGE ARGUMENT...: nothing on standard output, one line that holds MESSAGE.
refused() {
    local status=$1 message=$2
    shift 2
    run "$status" "$@"
    [ ! -s "$dir/out" ] || fail "spar $*: expected nothing on standard output"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "spar $*: expected one message"
    err_has "$message"
}
config() { # config SED: the model's config.json, edited
    sed "$1" "$original/config.json" >"$model/config.json"
}

# ---- the model ----
config 's/"model_type": "llama"/"model_type": "lama"/'
refused 4 "$model/config.json: model_type: expected one of" generate -m "$model" x
err_has " llama,"
err_has "found lama"
config 's/"rope_type": "default"/"rope_type": "spiral"/'
refused 4 "$model/config.json: rope_type: expected" generate -m "$model" x
err_has "spiral"
config 's/"hidden_act": "silu"/"hidden_act": "mish"/'
refused 4 "$model/config.json: hidden_act: expected" generate -m "$model" x
config 's/"hidden_size": 64/"hidden_size": 128/'
refused 11 "model.embed_tokens.weight: expected shape [512, 128], found [512, 64]" generate -m "$model" x
config 's/"num_hidden_layers": 5/"num_hidden_layers": 6/'
refused 5 "model.layers.5.input_layernorm.weight" generate -m "$model" x
config 's/"hidden_size": 64/"hidden_size": "64"/'
refused 3 "$model/config.json: hidden_size: expected" generate -m "$model" x
config 's/"eos_token_id": 2/"eos_token_id": "2"/'
refused 3 "$model/config.json: eos_token_id: expected ids, found string" generate -m "$model" x
config 's/"eos_token_id": 2/"eos_token_id": [2, 4294967298]/'
refused 8 "$model/config.json: eos_token_id: expected at most 16 ids of at most 2147483647" generate -m "$model" x
config '$d'
refused 3 "$model/config.json" generate -m "$model" x
config ''
head -c 500000 "$original/model.safetensors" >"$model/model.safetensors"
refused 3 "$model/model.safetensors" generate -m "$model" x
err_has "truncated"
cp "$model/generation_config.json" "$dir/generation_config.json"
printf '{"eos_token_id": [2, "3"]}' >"$model/generation_config.json"
cp "$original/model.safetensors" "$model"
refused 3 "$model/generation_config.json: eos_token_id: expected ids, found string" generate -m "$model" x
printf '{"eos_token_id": [%s]}' "$(seq -s, 17)" >"$model/generation_config.json"
refused 8 "$model/generation_config.json: eos_token_id: expected at most 16 ids" generate -m "$model" x
cp "$dir/generation_config.json" "$model"
rm "$model/model.safetensors"
refused 5 "model.safetensors" generate -m "$model" x
cp "$original/model.safetensors" "$model"
head -c 9000 "$original/tokenizer.json" >"$model/tokenizer.json"
refused 3 "$model/tokenizer.json" generate -m "$model" x
cp "$original/tokenizer.json" "$model"
refused 5 "$dir/nowhere" generate -m "$dir/nowhere" x

# ---- prompts and data ----
long=$(printf 'once upon a time %.0s' $(seq 300))
refused 8 "expected 1 to 511 tokens (the context less one), found 1502" generate -m "$model" "$long"
printf '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n' >"$dir/data.jsonl"
{ sed '/^data:/,/^$/d' "$recipe"; printf 'data: {file: %s, gate: 2, report: 2}\n' "$dir/data.jsonl"; } |
    sed 's/pairs: verified/pairs: real/; /fresh:/d' >"$dir/file.yaml"
refused 3 "$dir/data.jsonl:2" play "$dir/file.yaml" -m "$model" --run "$dir/run"
printf '{"prompt": "%s", "completion": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}, {"role": "assistant", "content": "z"}]}\n' \
    a b c d e >"$dir/data.jsonl"
run 4 play "$dir/file.yaml" -m "$model" --run "$dir/run"
err_has "expected a response of one message, as the model samples it, found 3"
for i in $(seq 9); do printf '{"prompt": "p%s", "completion": "x"}\n' "$i"; done >"$dir/data.jsonl"
printf '{"prompt": "%s", "completion": "x"}\n' "$long" >>"$dir/data.jsonl"
run 8 play "$dir/file.yaml" -m "$model" --run "$dir/run"
err_has "$dir/data.jsonl:10: a prompt of"
err_has "context of 512"
# put right, the same command begins the run
sed -i '$d' "$dir/data.jsonl"
run 0 play "$dir/file.yaml" -m "$model" --run "$dir/run"
run 0 report "$dir/run"
awk '/^stage +gate/ { at = index($0, "kept") } /^base / && at && !seen { seen = 1; off = substr($0, at, 4) != "kept" }
    END { exit off || !seen }' \
    "$dir/out" || fail "expected the figures under their heads"
rm -rf "$dir/run"

# ---- recipes ----
sed 's/^checkpoint_steps/chekpoint_steps/' "$recipe" >"$dir/wrong.yaml"
refused 2 "wrong.yaml: unknown key 'chekpoint_steps'; did you mean 'checkpoint_steps'?" \
    play "$dir/wrong.yaml" -m "$model" --run "$dir/run"
sed 's/method: rpo/method: rop/' "$recipe" >"$dir/wrong.yaml"
refused 2 "rop" play "$dir/wrong.yaml" -m "$model" --run "$dir/run"
sed 's/lr: 1e-3/lr: fast/' "$recipe" >"$dir/wrong.yaml"
refused 2 "lr" play "$dir/wrong.yaml" -m "$model" --run "$dir/run"
printf 'name: [\n' >"$dir/wrong.yaml"
refused 3 "wrong.yaml" play "$dir/wrong.yaml" -m "$model" --run "$dir/run"
[ ! -e "$dir/run" ] || fail "expected no run folder from a recipe that is refused"

# ---- the run's folder ----
run 0 play "$recipe" -m "$model" --run "$dir/whole" --threads 1
want=$(sha256sum <"$dir/whole/final/model.safetensors")

# A second process in the same folder is refused; the first goes on.
(
    exec 9>"$dir/whole/lock"
    flock -n 9 || exit 1
    run 9 play "$recipe" -m "$model" --run "$dir/whole" --resume
    err_has "in use by process"
    exit "$failures"
) || fail "a second process in a run's folder"

# Another model than the one that the run began with.
cp -r "$dir/whole" "$dir/other"
cp -r "$model" "$dir/changed"
printf '\1' | dd of="$dir/changed/model.safetensors" bs=1 seek=900000 conv=notrunc 2>/dev/null
refused 11 "$dir/changed: the run started from a model with fingerprint" \
    play "$recipe" -m "$dir/changed" --run "$dir/other" --resume

# A database with rubbish in a page that a run does not read again, an index.
cp -r "$dir/whole" "$dir/damaged"
head -c 4096 /dev/zero | tr '\0' '\245' | dd of="$dir/damaged/run.db" bs=4096 seek=3 conv=notrunc 2>/dev/null
refused 3 "$dir/damaged/run.db: the database is damaged" \
    play "$recipe" -m "$model" --run "$dir/damaged" --resume

# No file may grow beyond a limit: the message names the file, nothing is half-written, and with
# room again the run ends with the same model.
(
    ulimit -f 600
    run 6 play "$recipe" -m "$model" --run "$dir/limited" --threads 1
    err_has "cannot write"
    exit "$failures"
) || fail "a file that may not grow"
[ -z "$(find "$dir/limited" -name '*.tmp*' -o -name 'model.safetensors')" ] ||
    fail "expected nothing half-written"
run 0 play "$recipe" -m "$model" --run "$dir/limited" --threads 1 --resume
[ "$(sha256sum <"$dir/limited/final/model.safetensors")" = "$want" ] ||
    fail "expected the same model after a limit was lifted"

# A disk of its own, read-only or too small, where the system lets us mount one.
mounted() { unshare -rm sh -c "mount -t tmpfs -o $1 tmpfs '$dir/disk' && \"\$@\"" sh "${@:2}"; }
mkdir "$dir/disk"
if mounted size=1m true 2>/dev/null; then
    mounted ro "$spar" play "$recipe" -m "$model" --run "$dir/disk/run" >"$dir/out" 2>"$dir/err"
    [ $? -eq 6 ] || fail "a read-only folder: expected status 6"
    err_has "Read-only file system"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "a read-only folder: expected one message"
    for size in 64k 1m 4m 6m 7m 8m; do
        mounted size=$size bash -c '
            "$0" play "$1" -m "$2" --run "$3/run" --threads 1 >"$4/out" 2>"$4/err"
            status=$?
            find "$3" -name "*.tmp*"
            [ ! -e "$3/run/final" ] || "$0" inspect "$3/run/final" >/dev/null || echo "final is broken"
            exit $status' "$spar" "$recipe" "$model" "$dir/disk" "$dir" >"$dir/left"
        status=$?
        [ $status -eq 6 ] || [ $status -eq 0 ] || fail "a disk of $size: expected status 6, found $status"
        [ $status -eq 0 ] || [ "$(grep -c '^spar: ' "$dir/err")" -eq 1 ] ||
            fail "a disk of $size: expected one message"
        [ ! -s "$dir/left" ] || fail "a disk of $size: $(cat "$dir/left")"
        echo "a disk of $size: status $status: $(grep '^spar: ' "$dir/err")"
    done
else
    echo "no disk can be mounted here: a full and a read-only one were not tried"
fi
verdict
