#!/usr/bin/env bash
# bench: names, and the figures' form.
. "$(dirname "$0")/cli.sh"
run 2 bench -m x --work trian
err_has "trian"
run 2 bench -m x --dtype f64
XDG_CACHE_HOME=$dir run 5 bench
err_has "fetch_model"

skip_without models/stories260K/hf
run 0 bench -m "$shared/models/stories260K/hf" --runs 1 --work single,prefill --dtype f32 --json
for part in '"gemm_gflops": {' '"f32": ' '"bf16": ' '"int8": ' '"bandwidth_gbs": ' '"cores": ' \
    '"work": "single"' '"work": "prefill"' '"dtype": "f32"' '"tokens_per_s": ' \
    '"limit_tokens_per_s": ' '"share_of_limit": ' '"peak_rss_mb": '; do
    has "$part"
done
[ "$(grep -c '"work"' "$dir/out")" -eq 2 ] || fail "expected 2 rows"
verdict
