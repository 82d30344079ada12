#!/usr/bin/env bash
# generate: a prompt, rows of prompts, what is refused.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
model=$shared/models/stories260K/hf

run 0 generate -m "$model" -T 0 -n 12 "Once upon a time"
out ", there was a little girl named Lily. She"
run 0 generate -m "$model" -n 8 -k 3 --seed 5 "Once"
lines 3
cp "$dir/out" "$dir/first"
run 0 generate -m "$model" -n 8 -k 3 --seed 5 "Once"
cmp -s "$dir/first" "$dir/out" || fail "the same seed: expected the same responses"
run 0 generate -m "$model" -n 8 -k 3 --seed 5 --lookup 4 "Once"
cmp -s "$dir/first" "$dir/out" || fail "with lookup: expected the same responses"
run 0 generate -m "$model" -n 8 -k 3 --seed 6 "Once"
cmp -s "$dir/first" "$dir/out" && fail "another seed: expected other responses"

rows='{"prompt": "Once upon a time"}
{"ids": [1, 403, 407]}
{"ids": [1, -4]}
{"ids": [1, 99999]}
{"ids": [1, 1.5]}
{"ids": []}
{"messages": [{"role": "user", "content": "x"}]}
{"other": 1}
{"prompt": "The end"}'
feed 2 "$rows" generate -m "$model" -T 0 -n 4 --prompts -
lines 9
[ "$(grep -c '"error"' "$dir/out")" -eq 6 ] || fail "expected 6 error rows"
line 3 '{"error":"ids[1]: expected a token id"}'
for part in '"ids":[432,383,286,261]' '"text":", there was a"' '"finish_reason":"length"' \
    '"prompt":"Once upon a time"' '"logprobs":[-0.03'; do
    has "$part"
done
cp "$dir/out" "$dir/first"
feed 2 "$rows" generate -m "$model" -T 0 -n 4 -
cmp -s "$dir/first" "$dir/out" || fail "- and --prompts -: expected the same"
feed 0 '{"prompt": "Once"}' generate -m "$model" -n 2 -k 2 -
lines 1
[ "$(grep -o finish_reason "$dir/out" | wc -l)" -eq 2 ] || fail "expected 2 responses"

# A stop string is cut from the text.
run 0 generate -m "$model" -T 0 -n 12 --stop little "Once upon a time"
out ", there was a "
# More ids than the context takes.
long=$(printf '5,%.0s' $(seq 600))
feed 2 "{\"ids\": [${long%,}]}" generate -m "$model" -
has "context"

# The prompt of a row in any layout, with a system message and the tools that it has; a known answer is left out.
printf '%s' '{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}' >"$dir/template.jinja"
sample() { feed 0 "$1" generate -m "$model" --template "$dir/template.jinja" -T 0 -n 4 --prompts -; }
sample '{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once"}]}'
cp "$dir/out" "$dir/first"
for row in '{"question": "Once", "answer": "upon", "system_prompt": "Be brief."}' '{"prompt": "Once", "system": "Be brief."}' \
    '{"instruction": "Once", "input": "", "system": "Be brief."}' \
    '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once"}, {"role": "assistant", "content": "upon"}]}' \
    '{"conversations": [{"from": "human", "value": "Once"}], "system": "Be brief."}'; do
    sample "$row"
    cmp -s "$dir/first" "$dir/out" || fail "expected another output of $row"
done
sample '{"conversations": [{"from": "human", "value": "Once"}, {"from": "gpt", "value": "upon"}], "tools": [{"name": "f"}]}'
has '"prompt":[{"role":"user","content":"Once"}],"tools":[{"type":"function","function":{"name":"f"}}]'
feed 2 '{"number": 3}' generate -m "$model" --prompts -
has '{"error":"row: row: expected a prompt, messages, conversations, an instruction or a question, found none"}'

run 2 generate -m "$model"
run 2 generate -m "$model" x --prompts y
run 2 generate -m "$model" --chat --raw x
run 4 generate -m "$model" --chat x
err_has "no chat template"
run 2 generate "Once"
run 2 generate -m "$model" --temperature -1 x
run 2 generate -m "$model" "$(printf '\377')"
err_has "UTF-8"

# Ctrl-C: stopped, and the status says so.
"$spar" generate -m "$model" -k 64 -n 400 --ignore-eos "Once" >"$dir/out" 2>"$dir/err" &
pid=$!
sleep 0.5
kill -TERM $pid
wait $pid
status=$?
[ "$status" -eq 10 ] || fail "stopped: expected status 10, found $status"
verdict
