#!/usr/bin/env bash
# score: rows of ids, of prompt and response, of messages; logits and gradients as files.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
model=$shared/models/stories260K/hf

# The same tokens give the same log-probs however the row says them.
feed 0 '{"ids": [1, 403, 407, 261]}
{"prompt_ids": [1, 403], "response_ids": [407, 261]}
{"ids": [1]}' score -m "$model"
lines 3
whole=$(sed -n 1p "$dir/out" | grep -o '[-0-9.e]*,[-0-9.e]*\]')
part=$(sed -n 2p "$dir/out" | grep -o '[-0-9.e]*,[-0-9.e]*\]')
[ -n "$whole" ] && [ "$whole" = "$part" ] || fail "expected the log-probs $whole, found $part"
line 3 '{"logprobs":[],"sum":0.0}'
feed 0 '{"ids": [1, 403, 407, 261]}' score -m "$model" --reference --threads 1
awk -F'"sum":' '{ s = $2 + 0; exit !(s > -0.4 && s < -0.2) }' "$dir/out" ||
    fail "expected the sum of \"once upon a time\" between -0.4 and -0.2"

# Files: one tensor a row, under the number of the row, failed rows counted and left out.
feed 2 '{"ids": [1, 403]}
{"ids": [1, "a"]}
{"ids": [1, 99999]}
{"ids": [-4294967295, 403]}
{"ids": []}
{"prompt_ids": [], "response_ids": [5]}
{"prompt_ids": [5]}
{"nothing": 1}
{"messages": [{"role": "user", "content": "x"}]}
{"ids": [4294967297, 403]}
{"ids": [1, 403, 407]}' score -m "$model" --logits "$dir/logits" --grads "$dir/grads"
lines 11
[ "$(grep -c '"error"' "$dir/out")" -eq 9 ] || fail "expected 9 error rows"
line 2 '{"error":"ids[1]: expected a token id"}'
line 7 '{"error":"response_ids: expected a list of token ids, found nothing"}'
line 10 '{"error":"ids[0]: expected a token id"}'
err_has "9 rows failed"
run 0 inspect "$dir/logits" --tensors
has "tensors: 2"
grep -q 'f32 *\[2,512\] *logits\.0$' "$dir/out" || fail "expected logits.0 [2,512]"
grep -q 'f32 *\[3,512\] *logits\.10$' "$dir/out" || fail "expected logits.10 [3,512]"
run 0 inspect "$dir/grads" --tensors
cp "$dir/out" "$dir/grads.txt"
run 0 inspect "$model/model.safetensors" --tensors
grep -o '\[.*' "$dir/out" | grep model >"$dir/want"
grep -o '\[.*' "$dir/grads.txt" | grep model >"$dir/got"
[ -s "$dir/want" ] && cmp -s "$dir/want" "$dir/got" || fail "gradients: other names or shapes"

# A line that is no JSON, or no object, has its error in its place too.
feed 2 '{"ids": [1, 403]}
{"ids": [1, 403
7
{"ids": [1, 403, 407]}' score -m "$model"
lines 4
grep -q '^{"error":"standard input:2: ' "$dir/out" || fail "expected the error of line 2"
line 3 '{"error":"standard input:3: expected a row that is an object, found integer"}'
err_has "2 rows failed"

feed 5 '{"ids": [1, 403]}' score -m "$model" --logits "$dir/no/such/folder"
feed 3 '[{"ids": [1]}' score -m "$model"

# Messages: the prompt as rendered for generation, the response from there on.
cp -r "$model" "$dir/chat"
chmod -R u+w "$dir/chat"
printf '%s' '{% for m in messages %}{{ m.content }}{% if m.role == "assistant" %}{{ eos_token }}{% endif %}{% endfor %}' \
    >"$dir/chat/chat_template.jinja"
echo '{"bos_token": "<s>", "eos_token": "</s>"}' >"$dir/chat/tokenizer_config.json"
feed 0 '{"messages": [{"role": "user", "content": "Once upon"}, {"role": "assistant", "content": " a time"}]}' \
    score -m "$dir/chat"
grep -q '^{"logprobs":\[-[^]]*\],"sum":-' "$dir/out" || fail "expected log-probs of the response"
# Other layouts give the same; a response of several messages is scored whole.
cp "$dir/out" "$dir/messages"
feed 0 '{"prompt": "Once upon", "completion": " a time"}' score -m "$dir/chat"
cmp -s "$dir/out" "$dir/messages" || fail "expected what the row of messages gives"
feed 0 '{"conversations": "[{\"from\": \"human\", \"value\": \"Once upon\"}, {\"from\": \"gpt\", \"value\": \" a time\"}]"}' score -m "$dir/chat"
cmp -s "$dir/out" "$dir/messages" || fail "expected what the row of messages gives, of a text of JSON"
feed 0 '{"prompt": "Once upon", "completion": [{"role": "assistant", "content": " a"}, {"role": "user", "content": " time"}, {"role": "assistant", "content": " there"}]}' \
    score -m "$dir/chat"
[ "$(grep -o , "$dir/out" | wc -l)" -gt "$(grep -o , "$dir/messages" | wc -l)" ] || fail "expected more log-probs: $(cat "$dir/out")"
# A template whose generation prompt the answer does not go on from is refused.
printf '%s' '{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}!{% endif %}' \
    >"$dir/chat/chat_template.jinja"
feed 2 '{"messages": [{"role": "user", "content": "Once"}, {"role": "assistant", "content": " upon"}]}' \
    score -m "$dir/chat"
has '{"error":"'
has "generation prompt"
verdict
