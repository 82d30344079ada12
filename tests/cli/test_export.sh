#!/usr/bin/env bash
# export: a folder to GGUF and back to the same numbers, and what is wrong said in one line.
. "$(dirname "$0")/cli.sh"
skip_without golden/arch/llama
model=$shared/golden/arch/llama
rows='{"ids": [1, 5, 9, 30, 7]}'

run 0 export -m "$model" -t f32 -o "$dir/m.gguf"
run 0 export -m "$dir/m.gguf" -t f32 -o "$dir/back"
feed 0 "$rows" score -m "$model" --dtype f32
cp "$dir/out" "$dir/want"
for again in "$dir/m.gguf" "$dir/back"; do
    feed 0 "$rows" score -m "$again" --dtype f32
    out "$(cat "$dir/want")"
done

# A slash at the end is no part of a name, and there is no empty one.
run 0 export -m "$model" -t f32 -o "$dir/slashed/"
cmp "$dir/slashed/model.safetensors" "$dir/back/model.safetensors" || fail "expected the same weights"
run 2 export -m "$model" -o ""
err_has "-o: expected OUT, found an empty text"

run 0 export -m "$model" -t q8_0 -o "$dir/q.gguf"
feed 0 "$rows" score -m "$dir/q.gguf"
[ -e "$dir/back/config.json" ] || fail "no config.json"

# A template of its own for conversations with tools goes both ways.
cp -r "$shared/models/stories260K/hf" "$dir/chat"
chmod -R u+w "$dir/chat"
echo '{"bos_token": "<s>", "eos_token": "</s>", "chat_template": [{"name": "tool_use", "template": "with {{ tools | length }}"}, {"name": "default", "template": "plain"}]}' \
    >"$dir/chat/tokenizer_config.json"
rm -f "$dir/chat/chat_template.jinja"
run 0 export -m "$dir/chat" -t f32 -o "$dir/chat.gguf"
run 0 export -m "$dir/chat.gguf" -t f32 -o "$dir/chat-back"
for again in "$dir/chat" "$dir/chat.gguf" "$dir/chat-back"; do
    feed 0 '{"messages": [], "tools": [{}, {}]}
{"messages": [], "tools": []}' render -m "$again"
    out '{"text":"with 2"}
{"text":"plain"}'
done
[ -e "$dir/chat-back/additional_chat_templates/tool_use.jinja" ] || fail "no tool_use.jinja"

run 2 export -m "$model" -t q8_0 -o "$dir/folder"
err 'spar: type of a folder: expected f32, f16 or bf16, found q8_0'
run 2 export -m "$model"
err 'spar: expected what to write: -o OUT'
[ ! -e "$dir/folder" ] || fail "a folder was left"
verdict
