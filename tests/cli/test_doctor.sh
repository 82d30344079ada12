#!/usr/bin/env bash
# Models and data that are broken one way each, made from a tiny healthy one.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
command -v python3 >/dev/null || { echo "skipped: no python3 to break models with"; exit 77; }
stories=$shared/models/stories260K/hf

# A chat model: its template writes BOS and the end of turns, its tokenizer adds none.
healthy='{% for m in messages %}{% if m.role == "user" %}<s>{{ m.content }}{% endif %}{% if m.role == "assistant" %}<unk>{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<unk>{% endif %}'
# make NAME [PYTHON]: a copy of the chat model in $dir/NAME, changed by code that sees c (config.json),
# g (generation_config.json), t (tokenizer_config.json), k (tokenizer.json), w (tensors by name).
make() {
    mkdir "$dir/$1"
    printf %s "${template:-$healthy}" >"$dir/$1/chat_template.jinja"
    python3 - "$stories" "$dir/$1" "${2:-}" <<'END' || fail "the model $1 could not be made"
import json, struct, sys
source, out, code = sys.argv[1:]
load = lambda name: json.load(open(f"{source}/{name}"))
c, g, k = load("config.json"), load("generation_config.json"), load("tokenizer.json")
t = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
k["post_processor"] = None
raw = open(f"{source}/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
head.pop("__metadata__", None)
w = {name: [e["dtype"], e["shape"], raw[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]]]
     for name, e in head.items()}
embedding = "model.embed_tokens.weight"
exec(code)
for name, value in [("config", c), ("generation_config", g), ("tokenizer_config", t), ("tokenizer", k)]:
    json.dump(value, open(f"{out}/{name}.json", "w"))
head, data = {}, b""
for name, (dtype, shape, values) in w.items():
    head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
    data += values
text = json.dumps(head).encode()
open(f"{out}/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
END
}
# finds CHECK TEXT: one finding, of that check, with that text.
finds() {
    [ "$(grep -c '^  found: ' "$dir/out")" = 1 ] || fail "expected one finding"
    grep -qxF -- "$1" "$dir/out" || fail "expected the check: $1"
    has "$2"
    has "  mend:  "
    err_has ": 1 finding"
}
# broken NAME PYTHON CHECK TEXT: a model changed so has that finding and no other.
broken() {
    make "$1" "$2"
    run 11 doctor -m "$dir/$1"
    finds "$3" "$4"
}
# rows ROW...: a data file; row_finds CHECK TEXT: of the healthy model with it.
rows() { printf '%s\n' "$@" >"$dir/rows.jsonl"; }
row_finds() {
    run 11 doctor -m "$dir/healthy" --data "$dir/rows.jsonl" "${@:3}"
    finds "$1" "$2"
}

# ---- nothing is found on what is healthy ----
make healthy
run 0 doctor -m "$dir/healthy"
out "nothing found"
run 0 doctor -m "$stories"
has "note: no chat template"
has "nothing found"
rows '{"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."}' \
    '{"prompt": "Why?", "chosen": "So.", "rejected": "Because."}'
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
out "nothing found"
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl" --json
has '"rows": 2'
has '"findings": []'
make padded 't["pad_token"] = "</s>"'
run 0 doctor -m "$dir/padded"
has "note: pad_token is eos_token"
run 2 doctor
run 5 doctor -m "$dir/healthy" --data "$dir/missing"

# With generation blocks, around the reply and its end; and where they leave out or take in something.
marked=${healthy/'{{ m.content }}</s>'/'{% generation %}{{ m.content }}</s>{% endgeneration %}'}
template=$marked make marked
run 0 doctor -m "$dir/marked" --data "$dir/rows.jsonl"
out "nothing found"
template=${marked/'</s>{% endgeneration %}'/'{% endgeneration %}</s>'} broken no_end_marked "" "assistant mask" \
    "a short conversation: the generation blocks mark other tokens"
template=${marked/'<unk>{% generation %}'/'{% generation %}<unk>'} broken prompt_marked "" "assistant mask" \
    "a short conversation: the generation blocks mark other tokens"
template=${marked/'{% generation %}'/'{% if loop.last %}{% generation %}'} \
    template=${template/'{% endgeneration %}'/'{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}'} \
    broken last_marked "" "assistant mask" "a conversation of several turns: the generation blocks mark other tokens"
template=${marked/'{% generation %}'/'{% if "So" in m.content %}{{ m.content }}</s>{% else %}{% generation %}'} \
    template=${template/'{% endgeneration %}'/'{% endgeneration %}{% endif %}'} make some_marked
rows '{"prompt": "Why?", "completion": "So it is."}' '{"prompt": "Is it?", "completion": "Yes."}'
run 11 doctor -m "$dir/some_marked" --data "$dir/rows.jsonl"
has "1 of 2 rows (50.0 %): the generation blocks mark other tokens"

# What a template passes over is said; what it writes is not.
rows '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "thinking": "Hm."}]}' \
    '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "tools": [{"name": "f"}]}' \
    '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}'
row_finds "unread members" "2 of 3 rows (66.7 %): the chat template writes the same without the tools"
rows '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}' \
    '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "Four."}]}' \
    '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}'
row_finds "unread members" "2 of 3 rows (66.7 %): the chat template writes the same without the tools, documents, calls, reasoning or messages of a role"
rows '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "thinking": "Hm."}]}' \
    '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "tools": [{"name": "f"}]}' \
    '{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}'
template="{{ tools }}${healthy/'{{ m.content }}</s>'/'{{ m.reasoning_content }}{{ m.content }}</s>'}" make reads
run 0 doctor -m "$dir/reads" --data "$dir/rows.jsonl"
out "nothing found"

# Rows of text: healthy, empty, too long.
rows '{"text": "Once upon a time there was a small cat"}' '{"text": "The end"}'
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
out "nothing found"
row_finds "truncated rows" "1 of 2 rows" --max-length 8
rows '{"text": "Once upon a time"}' '{"text": ""}'
row_finds "empty responses" "1 of 2 rows"

# Arguments of a call that are a text of JSON, which the template quotes once more.
template=${healthy/'{{ m.content }}</s>'/'{{ m.content }}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}</s>'} make calls
call() { rows "{\"messages\": [{\"role\": \"user\", \"content\": \"Why?\"}, {\"role\": \"assistant\", \"content\": \"So.\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": $1}}]}]}"; }
call '"{\"day\": 1}"'
run 11 doctor -m "$dir/calls" --data "$dir/rows.jsonl"
has "quoted arguments" "1 of 1 rows (100.0 %): the chat template writes the arguments of a call"
call '{"day": 1}'
run 0 doctor -m "$dir/calls" --data "$dir/rows.jsonl"
out "nothing found"

# Responses of several messages: healthy, with a call that the template passes over, the same up to the longest row.
several() { rows "{\"prompt\": \"Why?\", \"chosen\": [{\"role\": \"assistant\", \"content\": \"So.\"$1}, {\"role\": \"user\", \"content\": \"Now?\"}, {\"role\": \"assistant\", \"content\": \"Yes.\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"So.\"}, {\"role\": \"user\", \"content\": \"Now?\"}, {\"role\": \"assistant\", \"content\": \"$2\"}]}"; }
several "" "No."
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
out "nothing found"
several ', "tool_calls": [{"function": {"name": "f"}}]' "No."
row_finds "unread members" "1 of 1 rows (100.0 %): the chat template writes the same"
several "" "Yes."
row_finds "identical pairs" "1 of 1 rows"
several "" ""
row_finds "empty responses" "1 of 1 rows"

# ---- the model ----
bos='k["post_processor"] = json.load(open(f"{source}/tokenizer.json"))["post_processor"]'
broken bos_added "$bos" "double BOS" "the chat template writes BOS, and the tokenizer adds it as well"
template="<s>$healthy" broken bos_twice "" "double BOS" "the chat template writes BOS twice"
broken eos_generation 'g["eos_token_id"] = 0; t["eos_token"] = "<unk>"' "missing EOS" \
    "the chat template's end of a turn is </s> (2), which no eos_token_id has"
broken eos_tokenizer 't["eos_token"] = "<s>"' "missing EOS" "the tokenizer's eos_token is <s> (1)"
template=${healthy/<\/s>/} broken eos_template "" "missing EOS" \
    "the chat template ends a reply with no special token"
broken no_eos 'c["eos_token_id"] = None; g.pop("eos_token_id"); t.pop("eos_token")' "missing EOS" \
    "neither the configuration nor the tokenizer names a token"
template=${healthy/'{% if add_generation_prompt %}<unk>'/'{% if add_generation_prompt %}<unk><unk>'} \
    broken prefix "" "template mismatch" "does not begin with its own generation prompt"
template=${healthy/'<unk>{{ m.content }}</s>'/'{% if loop.last %}<unk>{{ m.content }}</s>{% else %}{{ m.content }}{% endif %}'} \
    broken turns "" "template mismatch" "in a conversation of several turns"
broken ids_beyond 'k["added_tokens"].append(dict(k["added_tokens"][2], id=512, content="<|new|>"))' \
    "wrong vocabulary size" "the tokenizer's largest id is 512, the model has 512 rows"
broken rows_padded 'c["vocab_size"] = 2048; w[embedding][1] = [2048, 64]; w[embedding][2] *= 4' \
    "wrong vocabulary size" "the model has 2048 rows, the tokenizer 512 tokens"
broken vocab_size 'c["vocab_size"] = 500' "wrong vocabulary size" \
    "vocab_size is 500, model.embed_tokens.weight has 512 rows"
has "note: the model does not load"
broken rope_dropped 'c["original_max_position_embeddings"] = 128' "rope scaling dropped" \
    "max_position_embeddings is 512 and the original length 128, without rope scaling"
broken rope_short 'c["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0,
"original_max_position_embeddings": 128}' "rope scaling dropped" "more than factor 2 times the original 128"
broken context 't["model_max_length"] = 4096' "rope scaling dropped" "model_max_length is 4096"
make unlimited 't["model_max_length"] = 1e30'
run 0 doctor -m "$dir/unlimited"
broken not_a_number 'w["model.norm.weight"][2] = w["model.norm.weight"][2][:-8] + struct.pack("<ff", float("nan"), float("-inf"))' \
    "damaged weights" "2 values of 1 tensors are NaN or infinite, the first in model.norm.weight"
broken no_head 'c["tie_word_embeddings"] = False' "tied head missing" "there is no lm_head.weight"
broken other_head 'w["lm_head.weight"] = w[embedding][:2] + [bytes(len(w[embedding][2]))]' \
    "tied head missing" "lm_head.weight differs"
make same_head 'w["lm_head.weight"] = w[embedding]'
run 0 doctor -m "$dir/same_head"
broken no_word 'c.pop("tie_word_embeddings")' "tied head missing" \
    "tie_word_embeddings is not there, which means false, and there is no lm_head.weight"

# A family whose files name things otherwise: the text's part of the configuration, tensors under a
# prefix, and a head that is tied unless it says otherwise.
gemma='
text = dict(c, model_type="gemma3_text", query_pre_attn_scalar=8, sliding_window=16, architectures=["Gemma3ForCausalLM"])
for key in ["hidden_act", "mlp_bias", "pretraining_tp", "tie_word_embeddings", "rope_parameters"]: text.pop(key)
for layer in range(5):
    for norm, n in [("self_attn.q_norm", 8), ("self_attn.k_norm", 8), ("pre_feedforward_layernorm", 64),
                    ("post_feedforward_layernorm", 64)]:
        w[f"model.layers.{layer}.{norm}.weight"] = ["F32", [n], bytes(4 * n)]
c = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text, "eos_token_id": 2}
w = {name.replace("model.", prefix, 1): values for name, values in w.items()}
embedding = prefix + "embed_tokens.weight"
zeros = w[embedding][:2] + [bytes(len(w[embedding][2]))]'
newer="prefix = \"model.language_model.\"$gemma" older="prefix = \"language_model.model.\"$gemma"
make gemma "$newer"
run 0 doctor -m "$dir/gemma"
out "nothing found"
make gemma_older "$older"
run 0 doctor -m "$dir/gemma_older"
broken gemma_head "$newer
w['lm_head.weight'] = zeros" "tied head missing" "lm_head.weight differs from model.language_model.embed_tokens.weight"
broken gemma_older_head "$older
w['language_model.lm_head.weight'] = zeros" "tied head missing" \
    "language_model.lm_head.weight differs from language_model.model.embed_tokens.weight"
broken gemma_no_head "$newer
text['tie_word_embeddings'] = False" "tied head missing" "tie_word_embeddings is false, and there is no lm_head.weight"
broken gemma_rows "$newer
text['vocab_size'] = 500" "wrong vocabulary size" "vocab_size is 500, model.language_model.embed_tokens.weight has 512 rows"
broken gemma_context "$newer
t['model_max_length'] = 4096" "rope scaling dropped" "max_position_embeddings is 512"
broken gemma_end "$newer
c['eos_token_id'] = 0; g.pop('eos_token_id'); text['eos_token_id'] = 0; t['eos_token'] = '<unk>'" "missing EOS" "the chat template's end of a turn is </s> (2)"

# ---- data ----
good='{"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."}'
long=$(printf 'x y %.0s' $(seq 300))
rows "$good" "{\"prompt\": \"Is it?\", \"chosen\": \"$long\", \"rejected\": \"No.\"}"
row_finds "truncated rows" "1 of 2 rows (50.0 %): prompt and response are longer"
has "of 512 tokens, first $dir/rows.jsonl:2"
rows "$good"
row_finds "truncated rows" "1 of 1 rows" --max-length 10
rows "$good" '{"prompt": "Why?", "chosen": "So.", "rejected": "So."}'
row_finds "identical pairs" "1 of 2 rows (50.0 %): chosen and rejected are the same, first $dir/rows.jsonl:2"
rows "{\"prompt\": \"Is it?\", \"chosen\": \"${long}a\", \"rejected\": \"${long}b\"}"
run 11 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
has "pairs identical after the cut"
has "truncated rows"
rows "$good" '{"prompt": "Why?", "chosen": "So.", "rejected": ""}'
row_finds "empty responses" "1 of 2 rows"
rows '{"prompt": "<s>Is it?", "chosen": "Yes.", "rejected": "No."}'
row_finds "double BOS" "a row begins with two BOS tokens"
rows "$good" '{"prompt": 1}'
row_finds "unreadable rows" "rows.jsonl:2"
rows '{"prompt_ids": [1, 5], "chosen_ids": [6, 2], "rejected_ids": [7, 2]}' \
    '{"prompt_ids": [1, 5], "chosen_ids": [6], "rejected_ids": [7, 2]}'
row_finds "missing end token" "1 of 2 rows (50.0 %)"
rows '{"prompt_ids": [1, 5], "chosen_ids": [512, 2], "rejected_ids": [7, 2]}'
row_finds "unreadable rows" "of ids below 512"
rows '{"prompt": "Is it?", "completion": "Yes.", "label": true}' \
    '{"prompt": "Is it?", "completion": "No.", "label": false}'
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"

# ---- rows of several responses ----
group() { printf '{"prompt": "%s", "responses": %s, "%s": %s}' "$1" "$2" "${4:-rewards}" "$3"; }
healthy_group=$(group 'Is it?' '["Yes.", "No.", "No."]' '[1, 0, 0]')
win_group=$(group 'Why?' '["So.", {"text": "Because."}]' '[[0.5, 0.8], [0.3, 0.5]]' p)
rows "$healthy_group" "$win_group" "$(group 'Why?' '["So.", "Because."]' '[0.7, 0.3]' win_rates)" \
    "$(group 'Why?' '[{"ids": [261, 376], "text": "x"}, {"ids": [300, 2], "text": "y"}]' '[0, 1]')"
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
out "nothing found"
rows '{"prompt_ids": [1, 5], "responses_ids": [[6, 2], [7, 8]], "rewards": [1, 0]}'
run 0 doctor -m "$dir/healthy" --data "$dir/rows.jsonl"
out "nothing found"
group_finds() { # ROW CHECK TEXT
    rows "$healthy_group" "$1"
    row_finds "$2" "1 of 2 rows (50.0 %): $3" "${@:4}"
}
group_finds "$(group 'Is it?' '["Yes."]' '[1]')" "single responses" "a row has one response"
group_finds "$(group 'Is it?' '["Yes.", "Yes."]' '[1, 1]')" "identical responses" "all responses of a row are the same"
group_finds "$(group 'Is it?' '["Yes.", "Yes.", "No."]' '[1, 0, 0]')" "contradictory numbers" "the same response has two"
group_finds "$(group 'Is it?' '["Yes.", "No."]' '[0.5, 0.5]')" "no spread" "all responses of a row have the same number"
group_finds "$(group 'Is it?' '["Yes.", "No."]' '[[0.5, 0.5], [0.5, 0.5]]' p)" "no spread" "all responses"
group_finds "$(group 'Is it?' '["Yes.", "No."]' '[1, null]')" "unusable numbers" \
    "rewards[1]: expected a number from -1e+30 to 1e+30, found null"
group_finds "$(group 'Is it?' '["Yes.", "No."]' '[1]')" "unusable numbers" "rewards: expected a list of 2 numbers, found 1"
group_finds "$(group 'Is it?' '["Yes.", "No."]' '[0.5, 1.5]' win_rates)" "unusable numbers" "win_rates[1]: expected a number from 0 to 1"
group_finds "$(group 'Is it?' '["Yes.", ""]' '[1, 0]')" "empty responses" "a response has no text"
group_finds "$(group 'Is it?' "[\"Yes.\", \"$long\"]" '[1, 0]')" "truncated rows" "prompt and response are longer"
group_finds "$(group 'Is it?' '["Yes.", 5]' '[1, 0]')" "unreadable rows" "responses[1]: expected a string or a message, found"
group_finds "$(group '<s>Is it?' '["Yes.", "No."]' '[1, 0]')" "double BOS" "a row begins with two BOS tokens"
group_finds "$(group 'Is it?' '[{"ids": [261, 376], "text": "x"}, {"ids": [300, 2], "text": "y"}]' '[1, 0]')" \
    "truncated responses rewarded" "a response that was cut off, without an end, has the best number"
rows '{"prompt_ids": [1, 5], "responses_ids": [[6, 2], [7, 8]], "rewards": [0, 1]}'
row_finds "truncated responses rewarded" "1 of 1 rows"
rows '{"prompt_ids": [1, 5], "responses_ids": [[6, 2], []], "rewards": [0, 1]}'
row_finds "empty responses" "1 of 1 rows"
# P as JSON in a cell of CSV.
printf '%s\n' 'prompt,responses,p' 'Is it?,"[""Yes."", ""No.""]","[[0.5, 0.8], [0.2, 0.5]]"' >"$dir/rows.csv"
run 0 doctor -m "$dir/healthy" --data "$dir/rows.csv"
out "nothing found"

# A prompt that ends within a token: here a merge that reaches over the boundary.
template=${healthy//<unk>/ans} make boundary
run 11 doctor -m "$dir/boundary"
has "token boundary"
verdict
