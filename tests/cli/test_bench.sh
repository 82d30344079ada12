#!/usr/bin/env bash
# bench: names, and the figures' form.
. "$(dirname "$0")/cli.sh"
run 2 bench -m x --work trian
err_has "--work: expected train, rollout, prefill, single, lora, load, tokenize, pairrm, found 'trian'"
run 2 bench -m x --dtype f64
XDG_CACHE_HOME=$dir run 5 bench
err_has "fetch_model"

# PairRM makes its model: no file is needed, and a pair has a length that its parts fit.
run 2 bench --work pairrm --tokens 9
err_has "10 to 2048"
run 2 bench --work pairrm --dtype int8
XDG_CACHE_HOME=$dir run 0 bench --work pairrm --layers 1 --tokens 16 --responses 2 --runs 1 --json
for part in '"work": "pairrm"' '"dtype": "f32"' '"dtype": "bf16"' '"pairs_per_s": ' '"tokens": 32.0' \
    '"share_of_limit": '; do
    has "$part"
done
cp "$dir/out" "$dir/pairs.json"
run 0 bench --compare "$dir/pairs.json" "$dir/pairs.json"
has "pairrm    bf16"

skip_without models/stories260K/hf
run 0 bench -m "$shared/models/stories260K/hf" --runs 1 --work single,prefill --dtype f32 --json
for part in '"gemm_gflops": {' '"f32": ' '"bf16": ' '"int8": ' '"bandwidth_gbs": ' '"cores": ' \
    '"work": "single"' '"work": "prefill"' '"dtype": "f32"' '"tokens_per_s": ' \
    '"limit_tokens_per_s": ' '"share_of_limit": ' '"peak_rss_mb": '; do
    has "$part"
done
[ "$(grep -c '"work"' "$dir/out")" -eq 2 ] || fail "expected 2 rows"

# Two files of figures, side by side.
cp "$dir/out" "$dir/a.json"
sed 's/"bandwidth_gbs": [0-9.]*/"bandwidth_gbs": 1.0/; s/"prefill"/"train"/' "$dir/a.json" >"$dir/b.json"
run 0 bench --compare "$dir/a.json" "$dir/b.json"
has "differs"
has "compare shares"
has "prefill   f32   only in A"
has "train     f32   only in B"
run 2 bench --compare "$dir/a.json"
run 5 bench --compare "$dir/a.json" "$dir/missing.json"
err_has "missing.json"
echo '{"rows": 1}' >"$dir/other.json"
run 3 bench --compare "$dir/a.json" "$dir/other.json"
err_has "other.json"

# On request: whole numbers with the error of their log-probs, other lengths, loading.
run 0 bench -m "$shared/models/stories260K/hf" --runs 1 --work rollout,load --dtype int8,int16 \
    --tokens 16 --responses 4 --json
[ "$(grep -c '"logprob_error_mean": 0.0' "$dir/out")" -eq 2 ] || fail "expected two errors of log-probs"
[ "$(grep -c '"seconds": ' "$dir/out")" -eq 2 ] || fail "expected two loads"
run 0 bench -m "$shared/models/stories260K/hf" --runs 1 --work rollout --dtype f32 --weights q8_0 \
    --tokens 16 --responses 4 --json
has '"logprob_error_mean": 0.0'
run 2 bench -m "$shared/models/stories260K/hf" --work train --dtype int8

# Text to tokens: a tokenizer is enough.
printf 'Once upon a time\n\nthere was a dog.' >"$dir/text"
run 0 bench -m "$shared/models/stories260K/hf" --runs 1 --work tokenize --text "$dir/text" --json
has '"mb_per_s": '
has '"dtype": "-"'
[ "$(grep -c '"work"' "$dir/out")" -eq 1 ] || fail "expected 1 row"
run 2 bench -m "$shared/models/stories260K/hf" --work tokenize
err_has "text FILE"
verdict
