#!/usr/bin/env bash
# train: ids and conversations, the log, what is refused, what is left out.
. "$(dirname "$0")/cli.sh"
run 2 train -m x
err_has "--data"
run 2 train --data x
err_has "-m"
run 2 train -m x --data y
err_has "--out DIR, --log FILE or --write-ids FILE"

# Adapters of a mixture's experts, by each kind of method: merged they are what they are.
moe=$source_dir/tests/golden/arch/qwen2-moe
printf '%s\n' '{"prompt_ids": [3, 4], "chosen_ids": [5, 6, 2], "rejected_ids": [7, 2]}' \
    '{"prompt_ids": [3, 9, 8], "chosen_ids": [12, 2], "rejected_ids": [13, 5, 2]}' >"$dir/pairs.jsonl"
printf '%s\n' '{"prompt_ids": [3, 4], "completion_ids": [5, 2], "label": true}' \
    '{"prompt_ids": [3, 9], "completion_ids": [6, 2], "label": false}' >"$dir/labels.jsonl"
printf '%s\n' '{"prompt_ids": [3, 4], "responses_ids": [[5, 2], [6, 7, 2], [8, 2]], "rewards": [1, 0, 0.5]}' \
    >"$dir/groups.jsonl"
for case in sft:pairs dpo:pairs kto:labels grpo:groups; do
    out="$dir/experts-${case%%:*}"
    run 0 train -m "$moe" --data "$dir/${case#*:}.jsonl" --method "${case%%:*}" --lr 1e-2 --epochs 5 \
        --dtype f32 --lora-rank 2 --lora-targets all-linear --out "$out"
    run 0 merge -m "$moe" --adapter "$out" -o "$out-merged"
    row='{"ids": [3, 4, 5, 6, 7, 8, 9, 10]}'
    feed 0 "$row" score -m "$moe" --dtype f32
    plain=$(sed 's/.*"sum"://; s/}//' "$dir/out")
    feed 0 "$row" score -m "$moe" --adapter "$out" --dtype f32
    adapted=$(sed 's/.*"sum"://; s/}//' "$dir/out")
    feed 0 "$row" score -m "$out-merged" --dtype f32
    merged=$(sed 's/.*"sum"://; s/}//' "$dir/out")
    awk "BEGIN { d = $adapted - $merged; m = $adapted - $plain; exit !(d * d < 1e-8 && m * m > 1e-4) }" ||
        fail "${case%%:*}: $plain plain, $adapted adapted, $merged merged"
done
run 2 train -m "$moe" --data "$dir/pairs.jsonl" --lora-rank 2 --lora-targets w1 --out "$dir/none"
err_has "target module w1: expected all-linear"
run 4 train -m "$moe" --data "$dir/pairs.jsonl" --lora-rank 2 --lora-targets experts.up_proj \
    --out "$dir/none"
err_has "adapted as a whole"

skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
template="$dir/template.jinja"
printf '%s' '{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == "assistant" %}{{ eos_token }}{% else %} {% endif %}{% endfor %}' >"$template"
cat >"$dir/ids.jsonl" <<'ROWS'
{"prompt_ids": [1, 403, 407], "chosen_ids": [261, 376, 2], "rejected_ids": [300, 2]}
{"prompt_ids": [1, 403, 410], "chosen_ids": [270, 2], "rejected_ids": [301, 302, 2]}
{"prompt_ids": [1, 403], "chosen_ids": [280, 281, 2], "rejected_ids": [280, 2]}
ROWS

# At rate 0 every loss stays where its formula puts it at a margin of 0.
losses() { sed -n 's/.*"loss":\([0-9.e+-]*\).*/\1/p' "$dir/log.jsonl"; }
for case in dpo:0.6931472 spin:0.6931472 ipo:25 sppo_hard:50 spin_hinge:1; do
    run 0 train -m "$model" --data "$dir/ids.jsonl" --method "${case%%:*}" --beta 0.1 --lr 0 \
        --steps 2 --batch 3 --shuffle no --dtype f32 --log "$dir/log.jsonl"
    [ "$(losses | wc -l)" -eq 2 ] || fail "expected two rows in the log"
    for loss in $(losses); do
        awk "BEGIN { d = $loss / ${case#*:} - 1; exit !(d < 1e-6 && d > -1e-6) }" ||
            fail "${case%%:*}: expected a loss of ${case#*:}, found $loss"
    done
done
# At rate 0 a row's own parameters hold where none is given: SPPO's beta of 0.001.
run 0 train -m "$model" --data "$dir/ids.jsonl" --method sppo_hard --lr 0 --batch 3 --shuffle no \
    --dtype f32 --log "$dir/log.jsonl"
awk "BEGIN { d = $(losses) / 500000 - 1; exit !(d < 1e-6 && d > -1e-6) }" ||
    fail "sppo_hard: expected a loss of 500000, found $(losses)"
for method in hinge orpo cpo; do
    run 0 train -m "$model" --data "$dir/ids.jsonl" --method $method --lr 1e-4 --log "$dir/log.jsonl"
done
run 0 train -m "$model" --data "$dir/ids.jsonl" --method spin --lr 0 --log "$dir/log.jsonl"
for part in '"step":1' '"grad_norm":' '"lr":' '"margin":' '"accuracy":' '"s_w":' '"s_l":' '"kl":' \
    '"tokens_per_s":'; do
    grep -qF "$part" "$dir/log.jsonl" || fail "expected in the log: $part"
done

# It learns, is written whole, and not over what is there.
run 0 train -m "$model" --data "$dir/ids.jsonl" --method dpo --lr 1e-4 --epochs 4 --batch 3 \
    --dtype f32 --schedule constant --clip 0 --log "$dir/log.jsonl" --out "$dir/out-model"
err_has "3 rows to learn from, 0 left out"
err_has "first row, chosen"
first=$(losses | head -1)
last=$(losses | tail -1)
awk "BEGIN { exit !($last < $first) }" || fail "expected a falling loss: $first, then $last"
run 2 train -m "$model" --data "$dir/ids.jsonl" --out "$dir/out-model"
err_has "out-model"
feed 0 '{"ids": [1, 403, 407]}' score -m "$dir/out-model"
# Another reference is asked once; the order of rows and threads change nothing they should not.
run 0 train -m "$model" --data "$dir/ids.jsonl" --reference "$dir/out-model" --lr 0 --dtype f32 \
    --log "$dir/other.jsonl"
grep -q '"loss":0.69314' "$dir/other.jsonl" && fail "expected another loss under another reference"
run 0 train -m "$model" --data "$dir/ids.jsonl" --lora-rank 2 --lr 1e-3 --out "$dir/adapter"
[ -e "$dir/adapter/adapter_model.safetensors" ] || fail "expected an adapter"

# Conversations, by the template; plain answers to learn.
cat >"$dir/text.jsonl" <<'ROWS'
{"prompt": "Once upon a time", "chosen": "there was a cat.", "rejected": "there was a dog."}
{"prompt": "The end", "chosen": "of the day.", "rejected": "of the day."}
{"prompt": "The sun", "chosen": "is warm.", "rejected": ""}
{"prompt": "The sun", "chosen": "is warm."}
{"prompt": "The moon", "chosen": "is a very long and tiring story about many, many small things.", "rejected": "is."}
broken
{"prompt": "The sea", "chosen": "is blue.", "rejected": "is red."}
ROWS
run 3 train -m "$model" --template "$template" --data "$dir/text.jsonl" --log "$dir/log.jsonl"
err_has "text.jsonl:4: "
run 0 train -m "$model" --template "$template" --data "$dir/text.jsonl" --on-bad-row skip \
    --max-length 30 --log "$dir/log.jsonl"
for line in 2 3 4 5 6; do
    err_has "left out: $dir/text.jsonl:$line: "
done
err_has "2 rows to learn from, 5 left out; layout: rows of prompt, chosen and rejected"
run 0 train -m "$model" --template "$template" --data "$dir/text.jsonl" --on-bad-row skip \
    --method sft --log "$dir/log.jsonl"
# Conversations of several turns: the loss is the mean over what the assistant wrote, of the last turn, or of all;
# as generation blocks mark it, or by rendering.
plain='{% for m in messages %}{% if m.role == "user" %}<s>{{ m.content }}{% else %}<unk>{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<unk>{% endif %}'
printf '%s' "$plain" >"$dir/plain.jinja"
printf '%s' "$plain" | sed 's/{{ m.content }}<.s>/{% generation %}&{% endgeneration %}/' >"$dir/marked.jinja"
printf '%s\n' '{"messages": [{"role": "user", "content": "Once"}, {"role": "assistant", "content": "upon a time"}, {"role": "user", "content": "Then"}, {"role": "assistant", "content": "the end."}]}' >"$dir/turns.jsonl"
# expect_loss SCORED: the loss in the log is the mean of -log p over the last SCORED marked tokens.
expect_loss() {
    run 0 render -m "$model" --template "$dir/marked.jinja" --bos '<s>' --eos '</s>' --assistant-masks "$dir/turns.jsonl"
    sed 's/"text":"[^"]*",//' "$dir/out" >"$dir/masks.jsonl"
    run 0 score -m "$model" --dtype f32 "$dir/masks.jsonl"
    python3 - "$dir/masks.jsonl" "$dir/out" "$1" "$(losses)" <<'END' || fail "expected another loss over $1 turns"
import json, sys
marked, scored = (json.loads(open(path).readline()) for path in sys.argv[1:3])
learned = [t for t, bit in enumerate(marked["assistant_masks"]) if bit]
if sys.argv[3] == "1":  # those behind the last gap
    learned = [t for t in learned if all(marked["assistant_masks"][t:learned[-1]])]
logps = scored["logprobs"][-len(marked["ids"]) + 1:]
mean = -sum(logps[t - 1] for t in learned) / len(learned)
print(mean, float(sys.argv[4]), len(learned))
sys.exit(abs(mean - float(sys.argv[4])) > 1e-5 * mean or len(learned) < 3)
END
}
expect_losses() {
    for form in plain marked; do
        sft="train -m $model --method sft --template $dir/$form.jinja --data $dir/turns.jsonl --lr 0 --dtype f32 --log $dir/log.jsonl"
        run 0 $sft
        expect_loss 1
        run 0 $sft --assistant-only-loss
        err_has "of them learned"
        expect_loss 2
    done
}
expect_losses
run 2 train -m "$model" --template "$template" --data "$dir/text.jsonl" --method sft --assistant-only-loss \
    --on-bad-row skip --log "$dir/l"
err_has "assistant-only-loss: expected sft on rows of messages, conversations or prompt and completion, found sft on rows of prompt, chosen"
sed 's/^{/{"label": true, /' "$dir/turns.jsonl" >"$dir/labelled.jsonl"
run 2 train -m "$model" --template "$dir/plain.jinja" --data "$dir/labelled.jsonl" --method kto --assistant-only-loss --log "$dir/l"
err_has "assistant-only-loss: expected sft on rows of messages, conversations or prompt and completion, found kto"
# An earlier turn that is rendered otherwise than it was generated is found by blocks alone.
for form in plain marked; do
    sed 's/{% for m/{% set last = messages | length - 1 %}&/; s/<s>{{ m.content }}/&{% if loop.index0 < last %}-{% endif %}/' \
        "$dir/$form.jinja" >"$dir/$form-other.jinja"
done
run 11 train -m "$model" --method sft --template "$dir/plain-other.jinja" --data "$dir/turns.jsonl" --assistant-only-loss --log "$dir/l"
err_has "turns.jsonl:1: "
err_has "of its first 1 messages, found another text"
run 0 train -m "$model" --method sft --template "$dir/marked-other.jinja" --data "$dir/turns.jsonl" --assistant-only-loss --log "$dir/l"
printf '%s' '{% for m in messages %}{{ m.content }}{% endfor %}{% if false %}{% generation %}{% endgeneration %}{% endif %}' >"$dir/none.jinja"
run 2 train -m "$model" --method sft --template "$dir/none.jinja" --data "$dir/turns.jsonl" --log "$dir/l"
err_has "turns.jsonl:1: $model: chat template: expected a generation block around what the assistant writes"

# Whole messages reach the template, and what stands beside them: tools as a text of JSON, calls, names, parts, reasoning.
cat >"$dir/turns.jsonl" <<'ROWS'
{"messages": [{"role": "user", "content": [{"type": "text", "text": "Once"}, {"type": "text", "text": "upon"}], "name": "Tim"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "now", "arguments": {"day": 1}}}]}, {"role": "tool", "tool_call_id": "a", "content": "noon"}, {"role": "assistant", "thinking": "So it is", "content": "the end."}], "tools": "[{\"name\": \"now\"}]", "documents": [{"text": "big cat"}], "chat_template_kwargs": {"mood": "happy"}}
ROWS
plain='{{ tools | tojson }}{{ documents[0].text }}{{ mood }}{% for m in messages %}{% if m.role == "assistant" %}<unk>{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}</s>{% else %}<s>{{ m.name }}{{ m.tool_call_id }}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<unk>{% endif %}'
printf '%s' "$plain" >"$dir/plain.jinja"
printf '%s' "$plain" | sed 's/{{ m.reasoning.*<.s>/{% generation %}&{% endgeneration %}/' >"$dir/marked.jinja"
run 0 render --template "$dir/marked.jinja" "$dir/turns.jsonl"
out '{"text":"[{\"name\": \"now\"}]big cathappy<s>TimOnceupon<unk>now{\"day\": 1}</s><s>anoon<unk>So it isthe end.</s>"}'
expect_losses
# The same by every way in: a pair, a group of messages, a prompt to sample for and the row of its samples.
python3 - "$dir" <<'END'
import json, sys
row = json.load(open(f"{sys.argv[1]}/turns.jsonl"))
messages = row.pop("messages")
good, bad = messages[3], {"role": "assistant", "tool_calls": [{"function": {"name": "now", "arguments": {}}}]}
row["prompt"] = messages[:3]
print(json.dumps({**row, "chosen": good, "rejected": [*messages[:3], bad]}), file=open(f"{sys.argv[1]}/pair.jsonl", "w"))
print(json.dumps({**row, "responses": [good, [bad]], "rewards": [1, 0]}), file=open(f"{sys.argv[1]}/whole.jsonl", "w"))
END
run 0 train -m "$model" --template "$dir/plain.jinja" --data "$dir/pair.jsonl" --method dpo --lr 0 --dtype f32 --log "$dir/log.jsonl"
err_has 'first row, prompt (50 tokens): [{"name": "now"}]big cathappy'
err_has '<s> anoon<unk>'
err_has 'first row, chosen (11 tokens): So it isthe end.</s>'
err_has 'first row, rejected (5 tokens): now{}</s>'
run 0 train -m "$model" --template "$dir/plain.jinja" --data "$dir/whole.jsonl" --method grpo --lr 0 --dtype f32 --log "$dir/log.jsonl"
err_has 'first row, prompt (50 tokens): [{"name": "now"}]big cathappy'
err_has 'first row, responses[1] (5 tokens): now{}</s>'
run 0 generate -m "$model" --template "$dir/plain.jinja" -n 4 -k 2 --prompts "$dir/pair.jsonl"
has '"prompt_tokens":50,'
for part in '"tools":[{"name":"now"}]' '"documents":[{"text":"big cat"}]' '"chat_template_kwargs":{"mood":"happy"}' '"tool_call_id":"a"'; do
    has "$part"
done
sed 's/^{/{"rewards": [1, 0], /' "$dir/out" >"$dir/sampled.jsonl"
run 0 train -m "$model" --template "$dir/plain.jinja" --data "$dir/sampled.jsonl" --method grpo --lr 0 --dtype f32 --log "$dir/log.jsonl"
err_has 'first row, prompt (50 tokens): [{"name": "now"}]big cathappy'
sed 's/"type": "text", "text": "upon"/"type": "image", "url": "u"/' "$dir/turns.jsonl" >"$dir/image.jsonl"
run 4 train -m "$model" --template "$dir/plain.jinja" --data "$dir/image.jsonl" --method sft --log "$dir/l"
err_has "image.jsonl:1: messages[0]: content[1]: expected a part of text, found image"

# Rows of text are learned whole, with the tokenizer's BOS and an end, without a template; pairs are not made of them.
printf '%s\n' '{"text": "Once upon\n a time"}' '{"text": "The end"}' >"$dir/whole-text.jsonl"
run 0 train -m "$model" --data "$dir/whole-text.jsonl" --method sft --lr 0 --batch 2 --dtype f32 --write-ids "$dir/text-ids.jsonl" --log "$dir/log.jsonl"
err_has "layout: rows of text, learned whole"
err_has "first row, prompt (1 tokens): <s>"
err_has 'Once upon\n a time</s>' # a line end, written on one line
sed 's/"prompt_ids":\(\[1\]\),"completion_ids":\[/"ids":[1,/' "$dir/text-ids.jsonl" >"$dir/whole-ids.jsonl"
run 0 score -m "$model" --dtype f32 "$dir/whole-ids.jsonl"
python3 - "$dir/out" "$(losses)" <<'END' || fail "expected the mean of -log p over all tokens, found $(losses)"
import json, sys
logps = [p for line in open(sys.argv[1]) for p in json.loads(line)["logprobs"]]
sys.exit(abs(-sum(logps) / len(logps) - float(sys.argv[2])) > 1e-5 or len(logps) < 8)
END
run 3 train -m "$model" --template "$template" --data "$dir/whole-text.jsonl" --method dpo --log "$dir/l"
err_has 'whole-text.jsonl:1: row: expected messages, '
err_has 'found "text"'
run 2 train -m "$model" --data "$dir/whole-text.jsonl" --method sft --assistant-only-loss --log "$dir/l"
err_has "found sft on rows of text, learned whole"
printf '%s\n' '{"text": ""}' >"$dir/no-text.jsonl"
run 2 train -m "$model" --data "$dir/no-text.jsonl" --method sft --log "$dir/l"
err_has "no-text.jsonl:1: text: expected a text, found an empty one"
printf '{\n "prompt": "a"\n}\n' >"$dir/pretty.json"
run 3 train -m "$model" --data "$dir/pretty.json" --method sft --log "$dir/l"
err_has "pretty.json:1: expected an object in one line, or an array of objects, found one over several lines"

# A ShareGPT row with calls, tools as a text and a system column; an instruction with a history, whose turns are the assistant's.
printf '%s\n' '{"conversations": [{"from": "human", "value": "When?"}, {"from": "function_call", "value": "{\"name\": \"now\", \"arguments\": \"{\\\"day\\\":1}\"}"}, {"from": "observation", "value": "noon"}, {"from": "gpt", "value": "At noon."}], "system": "Be brief.", "tools": "[{\"name\": \"now\"}]"}' >"$dir/shared.jsonl"
printf '%s' '{{ tools | tojson }}{% for m in messages %}<s>{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}' >"$dir/tools.jinja"
run 0 train -m "$model" --template "$dir/tools.jinja" --data "$dir/shared.jsonl" --method sft --write-ids "$dir/shared-ids.jsonl"
err_has 'layout: rows of conversations: the last turn, of gpt, is the response'
err_has ': [{"type": "function", "function": {"name": "now"}}]<s> system:Be brief.</s><s> user:When?</s><s> assistant:now{"day": 1}</s><s> tool:noon</s><s> assistant:'
printf '%s\n' '{"instruction": "Then", "output": "the end.", "history": [["Once", "upon a time"]]}' >"$dir/history.jsonl"
printf '%s\n' '{"messages": [{"role": "user", "content": "Once"}, {"role": "assistant", "content": "upon a time"}, {"role": "user", "content": "Then"}, {"role": "assistant", "content": "the end."}]}' >"$dir/as-messages.jsonl"
for file in history as-messages; do
    run 0 train -m "$model" --template "$dir/tools.jinja" --data "$dir/$file.jsonl" --method sft --assistant-only-loss --write-ids "$dir/$file-ids.jsonl"
done
cmp -s "$dir/history-ids.jsonl" "$dir/as-messages-ids.jsonl" || fail "expected a history to be turns"

# Completions of several messages, tokenised whole: all of it is learned, with the option the assistant's turns alone, as
# blocks mark them or by rendering. Pairs part where either leaves the prompt. The ids are read again as they are written.
cat >"$dir/several.jsonl" <<'ROWS'
{"prompt": [{"role": "user", "content": "Once"}], "completion": [{"role": "assistant", "content": "upon"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "time"}]}
{"prompt": "Then", "completion": "the end."}
ROWS
plain='{% for m in messages %}{% if m.role == "user" %}<s>{{ m.content }}{% else %}<unk>{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<unk>{% endif %}'
printf '%s' "$plain" >"$dir/plain.jinja"
printf '%s' "$plain" | sed 's/{{ m.content }}<.s>/{% generation %}&{% endgeneration %}/' >"$dir/marked.jinja"
write_ids() { run 0 train -m "$model" --template "$dir/$1.jinja" --data "$2" --write-ids - "${@:3}"; }
for form in plain marked; do
    write_ids $form "$dir/several.jsonl" --method sft
    python3 - "$dir/out" <<'END' || fail "$form: expected all of the completion to be learned"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
whole = rows[0]["prompt_ids"] + rows[0]["completion_ids"]
assert whole.count(1) == 2 and whole.count(0) == 2 and whole.count(2) == 2, whole
assert rows[0]["prompt_ids"][-1] == 0 and rows[0]["prompt_ids"].count(0) == 1
assert "completion_mask" not in rows[0] and rows[0]["completion_ids"][-1] == 2
assert rows[1]["completion_ids"].count(2) == 1 and "completion_mask" not in rows[1]
END
    write_ids $form "$dir/several.jsonl" --method sft --assistant-only-loss
    cp "$dir/out" "$dir/masked-$form.jsonl"
    python3 - "$dir/out" <<'END' || fail "$form: expected the turns of the assistant's to be learned"
import json, sys
row = json.loads(open(sys.argv[1]).readline())
ids, mask = row["completion_ids"], row["completion_mask"]
end, begin = ids.index(2), len(ids) - 1 - ids[::-1].index(0)
assert mask == [int(t <= end or t > begin) for t in range(len(ids))] and len(ids) > begin + 2, (ids, mask)
END
    run 0 train -m "$model" --template "$dir/$form.jinja" --data "$dir/several.jsonl" --method sft --assistant-only-loss --lr 0 --batch 2 --dtype f32 --log "$dir/log.jsonl"
    wanted=$(losses)
    run 0 train -m "$model" --data "$dir/masked-$form.jsonl" --method sft --lr 0 --batch 2 --dtype f32 --log "$dir/log.jsonl"
    [ "$(losses)" = "$wanted" ] || fail "$form: expected the loss of the rows, $wanted, of their ids, found $(losses)"
done
cmp -s "$dir/masked-plain.jsonl" "$dir/masked-marked.jsonl" || fail "expected the same ids by blocks and by rendering"
head -1 "$dir/masked-plain.jsonl" | sed 's/^{/{"label": true, /' >"$dir/wrong.jsonl"
run 2 train -m "$model" --data "$dir/wrong.jsonl" --method kto --log "$dir/l"
err_has "wrong.jsonl:1: completion_mask: expected method sft, which reads it, found kto"
sed 's/"completion_mask":\[1,/"completion_mask":[/' "$dir/masked-plain.jsonl" >"$dir/wrong.jsonl"
run 3 train -m "$model" --data "$dir/wrong.jsonl" --method sft --log "$dir/l"
err_has "wrong.jsonl:1: completion_mask: expected a list of "
sed 's/"completion_mask":\[1,/"completion_mask":[2,/' "$dir/masked-plain.jsonl" >"$dir/wrong.jsonl"
run 3 train -m "$model" --data "$dir/wrong.jsonl" --method sft --log "$dir/l"
err_has "wrong.jsonl:1: completion_mask[0]: expected 1 or 0"
cat >"$dir/agents.jsonl" <<'ROWS'
{"prompt": "Once", "chosen": [{"role": "assistant", "content": "upon"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "time"}], "rejected": "more"}
ROWS
write_ids plain "$dir/agents.jsonl" --method dpo
python3 - "$dir/out" "$dir/masked-plain.jsonl" <<'END' || fail "expected a pair tokenised whole"
import json, sys
pair, single = (json.loads(open(path).readline()) for path in sys.argv[1:])
assert pair["prompt_ids"] == single["prompt_ids"] and pair["chosen_ids"] == single["completion_ids"]
assert pair["rejected_ids"][-1] == 2 and pair["rejected_ids"].count(2) == 1
END
cp "$dir/out" "$dir/pair-ids.jsonl"
run 0 train -m "$model" --data "$dir/pair-ids.jsonl" --method dpo --write-ids "$dir/again.jsonl"
cmp -s "$dir/pair-ids.jsonl" "$dir/again.jsonl" || fail "expected the same ids, read again"
# A prompt that is rendered otherwise within the conversation; a token over its end.
printf '%s' "$plain" | sed 's/<s>{{ m.content }}/<s>{% if loop.last %}+{% endif %}{{ m.content }}/' >"$dir/other.jinja"
run 11 train -m "$model" --template "$dir/other.jinja" --data "$dir/several.jsonl" --method sft --write-ids -
err_has "several.jsonl:1: $model: chat template: expected the conversation to begin with its generation prompt"
run 0 train -m "$model" --template "$dir/plain.jinja" --data "$dir/several.jsonl" --method sft --write-ids -
grep -q "over the end of the prompt" "$dir/err" && fail "expected no token over the end of a prompt"
printf '%s' '{% for m in messages %}{{ m.content }}{% if m.role == "assistant" %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %} up{% endif %}' | sed 's/{{ m.content }}/{% if m.role == "assistant" %} up{% endif %}&/' >"$dir/merging.jinja"
sed 's/"upon"/"on"/; 2,$d' "$dir/several.jsonl" >"$dir/merged.jsonl"
run 0 train -m "$model" --template "$dir/merging.jinja" --data "$dir/merged.jsonl" --method sft --write-ids -
err_has "in 1 rows a token goes over the end of the prompt"

# KTO on rows with a label: half the mean lambda at the reference, whose z is 0; then it falls.
cat >"$dir/kto.jsonl" <<'ROWS'
{"prompt_ids": [1, 403, 407], "completion_ids": [261, 376, 2], "label": true}
{"prompt_ids": [1, 403, 407], "completion_ids": [300, 2], "label": false}
{"prompt_ids": [1, 403], "completion_ids": [280, 281, 2], "label": true}
ROWS
run 0 train -m "$model" --data "$dir/kto.jsonl" --method kto --lambda-good 1.5 --lr 0 --batch 3 \
    --dtype f32 --log "$dir/log.jsonl"
awk "BEGIN { d = $(losses) - 4.0 / 6; exit !(d < 1e-6 && d > -1e-6) }" ||
    fail "kto: expected a loss of 4 / 6, found $(losses)"
run 0 train -m "$model" --data "$dir/kto.jsonl" --method kto --lr 1e-3 --batch 3 --epochs 5 \
    --schedule constant --dtype f32 --log "$dir/log.jsonl"
awk "BEGIN { exit !($(losses | tail -1) < $(losses | head -1)) }" || fail "kto: expected it to learn"
head -2 "$dir/kto.jsonl" >"$dir/one.jsonl"
run 2 train -m "$model" --data "$dir/one.jsonl" --method kto --log "$dir/l"
err_has "rows of two prompts"
printf '%s\n' '{"prompt": "a", "completion": "b", "label": true}' '{"prompt": "c", "completion": "d"}' \
    >"$dir/unlabelled.jsonl"
run 3 train -m "$model" --template "$template" --data "$dir/unlabelled.jsonl" --method kto --log "$dir/l"
err_has "unlabelled.jsonl:2: label: expected true or false"
run 2 train -m "$model" --data "$dir/ids.jsonl" --lambda-bad 2 --log "$dir/l"
err_has "method dpo: has no parameter lambda_bad; it has beta, label_smoothing"
run 2 train -m "$model" --data "$dir/ids.jsonl" --clip-low 0.1 --log "$dir/l"
err_has "method dpo: has no parameter clip; it has"

# Win rates and rewards from the rows: 1/2 ((P_w - 1/2)^2 + (P_l - 1/2)^2) / beta^2, (r_w - r_l)^2.
cat >"$dir/scores.jsonl" <<'ROWS'
{"prompt_ids": [1, 403, 407], "chosen_ids": [261, 376, 2], "rejected_ids": [300, 2], "score_chosen": 0.8, "score_rejected": 0.3}
{"prompt_ids": [1, 403], "chosen_ids": [280, 281, 2], "rejected_ids": [280, 2], "chosen_probs_win": 0.6, "chosen_probs_lose": 0.4}
ROWS
for case in sppo:37500 rebel:0.145; do
    run 0 train -m "$model" --data "$dir/scores.jsonl" --method "${case%%:*}" --lr 0 --dtype f32 \
        --log "$dir/log.jsonl"
    awk "BEGIN { d = $(losses) / ${case#*:} - 1; exit !(d < 1e-6 && d > -1e-6) }" ||
        fail "${case%%:*}: expected a loss of ${case#*:}, found $(losses)"
done
run 2 train -m "$model" --data "$dir/ids.jsonl" --method sppo --log "$dir/l"
err_has "ids.jsonl:1: expected score_chosen and score_rejected, which method sppo reads"
sed 's/0.3}/"high"}/; s/"score_rejected"/"score_rejected" /' "$dir/scores.jsonl" >"$dir/wrong.jsonl"
run 3 train -m "$model" --data "$dir/wrong.jsonl" --method sppo --log "$dir/l"
err_has "wrong.jsonl:1: score_rejected: expected a number, found"
run 2 train -m "$model" --data "$dir/scores.jsonl" --method rebel --tau 1 --log "$dir/l"
run 0 train -m "$model" --data "$dir/ids.jsonl" --method simpo --lr 0 --log "$dir/log.jsonl"
grep -q '"kl":null' "$dir/log.jsonl" || fail "expected no kl without a reference"
run 2 train -m "$model" --data "$dir/ids.jsonl" --method simpo --reference "$model" --log "$dir/l"
err_has "method simpo reads no reference"
run 2 train -m "$model" --data "$dir/ids.jsonl" --method xpo --log "$dir/l"
err_has "ids.jsonl:1: base: expected a response of the reference, which method xpo reads, found none"
run 2 train -m "$model" --data "$dir/ids.jsonl" --method grpo --log "$dir/l"
err_has "ids.jsonl:1: expected score_chosen and score_rejected, which method grpo reads"

printf '%s\n' '{"prompt": "a", "completion": "b"}' >"$dir/plain.jsonl"
run 2 train -m "$model" --template "$template" --data "$dir/plain.jsonl" --method rloo --log "$dir/l"
err_has "plain.jsonl:1: expected responses with what method rloo reads of each, or chosen and rejected, found one response"
run 0 train -m "$model" --data "$dir/ids.jsonl" --method t_spin --log "$dir/l"
err_has "3 rows have no response of the base's"
head -1 "$dir/kto.jsonl" >"$dir/single.jsonl"
run 0 train -m "$model" --data "$dir/single.jsonl" --method sft --log "$dir/l"
err_has "1 rows to learn from, 0 left out; layout: token ids: prompt_ids and a response's"
run 3 train -m "$model" --data "$dir/kto.jsonl" --method sft --log "$dir/l"
err_has "kto.jsonl:2: label: expected true or nothing, of a response to learn, found false"

# Any number of responses with rewards, as text or ids; the best is shown first; it learns.
cat >"$dir/group.jsonl" <<'ROWS'
{"prompt": "The sea", "responses": ["is red.", "is blue.", "is a very long and tiring story."], "rewards": [0, 1, 0.5]}
{"prompt": [{"role": "user", "content": "The sun"}], "completions": ["is warm.", {"role": "assistant", "content": "is cold."}], "scores": [1, 0]}
{"prompt": "The moon", "responses": [{"text": "is far.", "ids": [261, 376], "logprobs": [-3.5, -2]}, [{"role": "assistant", "content": "is near."}]], "rewards": [1, 1]}
ROWS
group() { run "$1" train -m "$model" --template "$template" --data "$dir/group.jsonl" --dtype f32 --log "$dir/log.jsonl" "${@:2}"; }
group 0 --method grpo
err_has "3 rows to learn from, 0 left out; layout: rows of prompt and responses"
err_has "of 1 rows all responses are alike"
err_has "the rows' log-probs and the model's own differ by "
grep -q 'first row, responses\[1\] .*is blue' "$dir/err" || fail "expected the best response"
group 0 --method rloo --kl 0.1 --clip-low 0.1 --clip-high 0.3 --reference "$model"
group 0 --method dr_grpo --constant 16 --max-tokens 24
grep -q "more than --max-tokens" "$dir/err" && fail "expected responses that fit by themselves"
group 0 --method dr_grpo --constant 16 --max-tokens 8
err_has "a prompt with what is computed beside it takes 22 rows, more than --max-tokens: 8"
run 0 train -m "$model" --data "$dir/ids.jsonl" --max-tokens 6 --log "$dir/l"
err_has "takes 8 rows, more than --max-tokens: 6"
group 2 --method grpo --reference "$model"
err_has "reads no reference while its kl is 0"
group 3 --method nash_md
err_has "group.jsonl:1: expected p or win_rates, which method nash_md reads, found neither"
group 8 --method grpo --max-length 20
err_has "group.jsonl:1: responses[2]: expected at most 20 tokens with its prompt, found "
group 0 --method grpo --max-length 20 --on-long truncate
err_has "1 rows were cut to 20 tokens"
sed 's/"rewards": \[0, 1, 0.5\]/"p": [[0.5, 0.2, 0.4], [0.9, 0.5, 1], [0.6, 0.1, 0.5]]/; 2,$d' "$dir/group.jsonl" >"$dir/p.jsonl"
mv "$dir/p.jsonl" "$dir/group.jsonl"
# Both orders evened: (0.5 + 0.15 + 0.4)/3, (0.85 + 0.5 + 0.95)/3, (0.6 + 0.05 + 0.5)/3, each less 1/2.
group 0 --method sppo --lr 0
awk "BEGIN { d = $(losses) / (0.5e6 * ((0.35 / 3) ^ 2 + (0.8 / 3 ) ^ 2 + (0.45 / 3) ^ 2)) - 1; exit !(d < 1e-6 && d > -1e-6) }" ||
    fail "sppo on a matrix: found $(losses)"
group 0 --method nash_md
for method in sppo nash_md; do
    group 0 --method $method --lr 0 --write-ids "$dir/group-ids.jsonl"
    wanted=$(losses)
    run 0 train -m "$model" --data "$dir/group-ids.jsonl" --method $method --lr 0 --dtype f32 --log "$dir/log.jsonl"
    [ "$(losses)" = "$wanted" ] || fail "$method: expected the loss of the rows, $wanted, of their ids, found $(losses)"
done
# The model's own responses, judged, and trained on as they were sampled: a loop of three commands.
printf '%s\n' '{"prompt": "The sea"}' '{"messages": [{"role": "user", "content": "The sun"}]}' >"$dir/prompts.jsonl"
run 0 generate -m "$model" --template "$template" --prompts "$dir/prompts.jsonl" --samples 4 --temperature 1 \
    --max-new-tokens 12 --dtype f32
cp "$dir/out" "$dir/sampled.jsonl"
run 0 judge --data "$dir/sampled.jsonl" --write groups \
    --judge "program:while IFS= read -r row; do echo \"{\\\"score\\\": -\${#row}}\"; done"
cp "$dir/out" "$dir/group.jsonl"
for method in grpo nash_md; do
    group 0 --method $method
    err_has "2 rows to learn from, 0 left out; layout: rows of prompt and responses"
    # the log-probs kept from sampling are those of the model, but for rounding
    grep -q "differ by [0-9.]*e-0[5-9] on average" "$dir/err" || fail "$method: expected the model's own log-probs"
done

# Rows over --max-length, and transcripts.
cat >"$dir/long.jsonl" <<'ROWS'
{"chosen": "\n\nHuman: The sea\n\nAssistant: is blue.", "rejected": "\n\nHuman: The sea\n\nAssistant: is red."}
{"chosen": "\n\nHuman: The moon\n\nAssistant: is a very long and tiring story about many, many small things.", "rejected": "\n\nHuman: The moon\n\nAssistant: is."}
ROWS
run 8 train -m "$model" --template "$template" --data "$dir/long.jsonl" --max-length 30 \
    --log "$dir/log.jsonl"
err_has "long.jsonl:2: chosen: expected at most 30 tokens"
run 0 train -m "$model" --template "$template" --data "$dir/long.jsonl" --max-length 30 \
    --on-long skip --log "$dir/log.jsonl"
err_has "1 rows to learn from, 1 left out; layout: rows of chosen and rejected transcripts"
run 0 train -m "$model" --template "$template" --data "$dir/long.jsonl" --max-length 30 \
    --on-long truncate --log "$dir/log.jsonl"
err_has "2 rows to learn from, 0 left out"
err_has "1 rows were cut to 30 tokens"
run 8 train -m "$model" --template "$template" --data "$dir/long.jsonl" --max-length 2 \
    --on-long truncate --log "$dir/log.jsonl"
err_has "long.jsonl:1: prompt: expected fewer than 2 tokens, found "
run 4 train -m "$model" --data "$dir/text.jsonl" --on-bad-row skip --log "$dir/log.jsonl"
err_has "chat template"
run 2 train -m "$model" --data "$dir/ids.jsonl" --method simpo --label-smoothing 0.1 --log "$dir/l"
err_has "simpo"
run 2 train -m "$model" --data "$dir/ids.jsonl" --method dpoo --log "$dir/l"
err_has "dpo"
verdict
