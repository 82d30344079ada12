#!/usr/bin/env bash
# tokenize and render: rows in, rows out, errors in place.
. "$(dirname "$0")/cli.sh"
tokenizer=$source_dir/tests/fuzz/corpus/tokenizer/bytes.json
template=$dir/template.jinja
printf '%s' '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if tools %}T{{ tools | length }}{% endif %}{% if add_generation_prompt %}>{% endif %}' >"$template"

rows='{"text": "abc ab1"}
{"text": ""}
{"text": "<s>a"}'
want='{"ids":[8,9,5]}
{"ids":[]}
{"ids":[0,1]}'
feed 0 "$rows" tokenize -m "$tokenizer"
out "$want"
feed 0 "$rows" tokenize --model="$tokenizer" --no-special -
out "$want"
printf '%s' "$rows" >"$dir/rows.jsonl"
run 0 tokenize -m "$tokenizer" "$dir/rows.jsonl"
out "$want"
mkdir "$dir/folder"
cp "$tokenizer" "$dir/folder/tokenizer.json"
run 0 tokenize -m "$dir/folder" "$dir/rows.jsonl"
out "$want"
run 0 tokenize -m "$source_dir/tests/fuzz/corpus/vocab/bytes.gguf" "$dir/rows.jsonl"
lines 3
feed 0 '' tokenize -m "$tokenizer"
out ""

# And back: ids that came from texts give them again, special tokens as they are written.
feed 0 "$want" tokenize -m "$tokenizer" --decode
out "${rows//: /:}"
feed 2 '{"ids": [8, "a"]}
{"ids": [1]}' tokenize -m "$tokenizer" --decode
out '{"error":"ids[1]: expected a token id"}
{"text":"a"}'

# Where each token is, in characters.
feed 0 '{"text": "abba"}' tokenize -m "$tokenizer" --offsets
out '{"ids":[7,2,1],"offsets":[[0,2],[2,3],[3,4]]}'

# A row that fails says so in its place; the others come out.
feed 2 '{"text": "a"}
{"text": 5}
{"txt": "a"}
{"text": "b"}' tokenize -m "$tokenizer"
out '{"ids":[1]}
{"error":"text: expected a string, found another type"}
{"error":"text: expected a string, found nothing"}
{"ids":[2]}'
err 'spar: 2 rows failed: see "error" in the output'
feed 2 '{"text": "a"}
{"text"
{"text": "b"}' tokenize -m "$tokenizer"
line 1 '{"ids":[1]}'
has '{"error":"standard input:2: '
line 3 '{"ids":[2]}'
run 5 tokenize -m "$tokenizer" "$dir/missing.jsonl"
feed 3 '' tokenize -m "$template"

chat='{"messages": [{"role": "user", "content": "hi"}]}'
feed 0 "$chat" render --template "$template"
out '{"text":"[user]hi"}'
printf '%s' '{% for m in messages %}b{% generation %}a{% endgeneration %}{% endfor %}' >"$dir/marked.jinja"
feed 0 "$chat" render -m "$tokenizer" --template "$dir/marked.jinja" --assistant-masks
out '{"text":"ba","ids":[2,1],"assistant_masks":[0,1]}'
feed 2 "$chat" render --template "$dir/marked.jinja" --assistant-masks
err_has "--assistant-masks: expected -m MODEL"
feed 0 "$chat" render --template "$template" --generation-prompt --bos '<B>'
out '{"text":"<B>[user]hi>"}'
feed 0 '{"messages": [{"role": "user", "content": "hi"}], "tools": [{"a": 1}, {}]}' \
    render --template "$template"
out '{"text":"[user]hiT2"}'
feed 2 "$chat
{\"messages\": 1}
$chat" render --template "$template"
line 2 '{"error":"row: messages: expected a list of messages, found integer"}'
lines 3
# Other layouts are rendered whole.
feed 0 '{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}], "tools": [{"name": "f"}]}
{"prompt": "hi", "completion": [{"role": "assistant", "content": "ho"}]}
{"prompt": "hi", "completion": [{"role": "assistant", "content": "ho"}, {"role": "user", "content": "ha"}, {"role": "assistant", "content": "he"}]}' render --template "$template"
cp "$dir/out" "$dir/others"
feed 0 '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "tools": [{"type": "function", "function": {"name": "f"}}]}
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}, {"role": "user", "content": "ha"}, {"role": "assistant", "content": "he"}]}' render --template "$template"
cmp -s "$dir/out" "$dir/others" || fail "expected what rows of messages give"
# Text may hold U+0000; the date is an input, today unless given.
feed 0 '{"messages": [{"role": "user", "content": "a\u0000b"}]}' render --template "$template"
out '{"text":"[user]a\u0000b"}'
printf '%s' '{{ strftime_now("%d.%m.%Y") }}' >"$dir/date.jinja"
feed 0 '{"messages": []}' render --template "$dir/date.jinja" --now 2024-02-29
out '{"text":"29.02.2024"}'
before=$(date +%d.%m.%Y)
feed 0 '{"messages": []}' render --template "$dir/date.jinja"
grep -qF -e "$before" -e "$(date +%d.%m.%Y)" "$dir/out" || fail "expected today's date"
# What a template refuses is an error of the row, cut within a character or not.
printf '%s' '{{ raise_exception("é" * 2000) }}' >"$dir/refuses.jinja"
feed 2 "$chat" render --template "$dir/refuses.jinja"
has '{"error":"'
printf '%s' '{% if %}' >"$dir/broken.jinja"
feed 3 "$chat" render --template "$dir/broken.jinja"
err_has "broken.jinja"
feed 5 "$chat" render -m "$tokenizer"
err_has "has no chat template"
run 2 render
run 5 render --template "$dir/missing.jinja"
# With a folder, its template and its special tokens.
cp "$template" "$dir/folder/chat_template.jinja"
echo '{"bos_token": "<s>"}' >"$dir/folder/tokenizer_config.json"
feed 0 "$chat" render -m "$dir/folder"
out '{"text":"<s>[user]hi"}'
feed 0 "$chat" render -m "$dir/folder" --bos X
out '{"text":"X[user]hi"}'

# Documents and variables of a row's own.
printf '%s' '{{ documents | length if documents else "none" }} {{ thinking | default("unset") }}' >"$template"
feed 2 '{"messages": [], "documents": [{"text": "d"}], "chat_template_kwargs": {"thinking": 7}}
{"messages": []}
{"messages": [], "documents": 1}
{"messages": [], "documents": "[{\"text\": \"d\"}, {}]", "chat_template_kwargs": "{\"thinking\": 8}"}
{"messages": [], "chat_template_kwargs": []}' render --template "$template"
out '{"text":"1 7"}
{"text":"none unset"}
{"error":"documents: expected a list of objects, found integer"}
{"text":"2 8"}
{"error":"chat_template_kwargs: expected an object, found array"}'
verdict
