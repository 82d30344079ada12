#!/usr/bin/env bash
# play with a judge: a program of the user's makes the pairs; killed while it judges, the run goes on
# and asks for nothing twice but for what was under way.
. "$(dirname "$0")/cli.sh"
endpoint=$3
skip_without models/stories260K/hf
model=$shared/models/stories260K/hf
sed '/^arms:/,$d; s/^generate:/&\n  stop: [".", " "]/' "$source_dir/recipes/stories260k.yaml" \
    >"$dir/base.yaml"
cat >>"$dir/base.yaml" <<END
arms:
  - {name: preferred, method: dpo, pairs: judged, samples: 4, iterations: 2, lr: 1e-4, beta: 0.1}
END
# It likes short responses, takes its time, and notes the prompts that it saw.
cat >"$dir/short" <<END
first=1
while IFS= read -r row; do
    [ -z "\$first" ] || { printf '%s\n' "\$row" >>"$dir/seen"; sleep 0.05; }
    first=
    echo "{\"score\": -\${#row}}"
done
END
recipe=$dir/recipe.yaml
{ cat "$dir/base.yaml"; printf 'judge: {train: "program:sh %s/short"}\n' "$dir"; } >"$recipe"

run 0 play "$recipe" -m "$model" --run "$dir/whole" --dtype f32 --threads 1
[ "$(wc -l <"$dir/seen")" -eq 48 ] || fail "expected 2 iterations of 24 prompts to be judged once"
run 0 report "$dir/whole"
has "The judge that made the training pairs"
has "program:sh $dir/short"
run 0 report "$dir/whole" --json
has '"prompts": 24'
grep -qE '"kept(, [^"]*)?": [1-9][0-9]*,?$' "$dir/out" || fail "expected pairs that were kept"
# What judging took, beside sampling and training.
python3 - "$dir/out" "$dir/whole/run.db" <<'END' || fail "expected what judging took"
import json, sqlite3, sys
took = [s["work"]["judge"] for s in json.load(open(sys.argv[1]))["stages"] if "judge" in s["work"]]
db = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
rows = db.execute("select stage, segment, seconds, cpu from work where phase = 'judge'").fetchall()
assert len(took) == len(rows) == 2, (took, rows)  # an iteration each
assert all(t["seconds"] == r[2] > 1 and r[1] == 1 and r[3] >= 0 for t, r in zip(took, rows)), (took, rows)  # 24 prompts, 0.05 s each
END
run 0 report "$dir/whole"
has "judging, s"

# Killed while it judges, twice.
rm "$dir/seen"
for _ in 1 2; do
    before=$(cat "$dir/seen" 2>/dev/null | wc -l)
    "$spar" play "$recipe" -m "$model" --run "$dir/killed" --resume --dtype f32 --threads 1 \
        >"$dir/out" 2>"$dir/err" &
    pid=$!
    for _ in $(seq 500); do
        [ "$(cat "$dir/seen" 2>/dev/null | wc -l)" -ge $((before + 9)) ] && break
        sleep 0.02
    done
    kill -9 $pid
    wait $pid 2>/dev/null
done
run 0 play "$recipe" -m "$model" --run "$dir/killed" --resume --dtype f32 --threads 1
# a fifth of a second of judging is lost by a kill: four or five prompts, and the one under way
seen=$(wc -l <"$dir/seen")
[ "$seen" -le 60 ] || fail "expected at most 60 prompts judged with two kills, found $seen"
cmp -s "$dir/whole/final/model.safetensors" "$dir/killed/final/model.safetensors" ||
    fail "expected the same model from the run that was killed"

# Another judge than the run began with is refused.
sed -i 's/short/short #/' "$dir/killed/recipe.yaml"
run 11 play --run "$dir/killed" --resume
err_has "judge: train: the run began with"

# A judge that reports: another one, or the same where the recipe says so and the report too.
sed 's/iterations: 2/iterations: 1/; s|^judge: {|&report: "verifier:maximum", |' "$recipe" \
    >"$dir/report.yaml"
run 0 play "$dir/report.yaml" -m "$model" --run "$dir/report" --dtype f32 --threads 1
has "Win rates against the base's responses on the report set"
has "verifier:maximum"
grep -q 'overstate' "$dir/out" && fail "expected no word on judges that differ"
sed -i 's/verifier:maximum/program:sh short/; s|sh [^ "]*/short|sh short|' "$dir/report.yaml"
run 2 play "$dir/report.yaml" -m "$model" --run "$dir/same" --dtype f32 --threads 1
err_has "expected another judge than the one that trains"
rm -r "$dir/same"
sed -i 's/^judge: {/&same: true, /' "$dir/report.yaml"
(cd "$dir" && "$spar" play "$dir/report.yaml" -m "$model" --run "$dir/same" --dtype f32 \
    --threads 1 >"$dir/out" 2>"$dir/err") || fail "expected a run with one judge"
head -n 1 "$dir/same/report.md" | grep -q 'by the judge that trained' ||
    fail "expected the first line to say that one judge trained and reports"

# On a file of the user's own the report set is answered for the judge.
for i in $(seq 24); do
    printf '{"prompt": "Tell of day %d.", "completion": "The sun rose on day %d."}\n' $i $i
done >"$dir/data.jsonl"
sed "s|families: .*|file: $dir/data.jsonl|; s/train: 24/train: 8/; s/gate: 16/gate: 4/
    s/report: 24/report: 8/; s/verifier:maximum/verifier:exact/; s/lr: 1e-4/lr: 1e-3, epochs: 8/" "$dir/report.yaml" |
    sed '/^judge:/d' >"$dir/file.yaml"
echo 'while IFS= read -r row; do echo "{\"score\": ${#row}}"; done' >"$dir/long"
echo "judge: {train: \"program:sh $dir/short\", report: \"program:sh $dir/long\"}" >>"$dir/file.yaml"
run 0 play "$dir/file.yaml" -m "$model" --run "$dir/file" --dtype f32 --threads 1
run 0 report "$dir/file" --json
has '"prompts": 8'
has '"against_base"'
has '"length_controlled"'
# The league goes by the judge that reports: whose response is likelier to beat the base's.
python3 - "$dir/out" "$dir/file/run.db" <<'END' || fail "expected a league by the judge"
import json, sqlite3, struct, sys
league = json.load(open(sys.argv[1]))["league"]
db = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
wins = {}
for stage, blob in db.execute("select stage, p from judgements where judge='report' order by prompt"):
    p = struct.unpack("<4d", blob)
    wins.setdefault(stage, []).append((p[2] + 1 - p[1]) / 2)
column = [wins.get(stage, [0.5] * 8) for stage in league["players"]]
assert league["by"] == "judge" and len(column) >= 2 and any(w != 0.5 for c in column for w in c), column
for i, a in enumerate(column):
    for j, b in enumerate(column):
        want = sum((x > y) + (x == y) / 2 for x, y in zip(a, b)) / len(a)
        assert abs(league["wins"][i][j] - want) < 1e-12, (i, j, want)
END

# Calls as responses, and tools that the template and the judge read.
for i in $(seq 24); do
    printf '{"messages": [{"role": "user", "content": "Day %d?"}, {"role": "assistant", "tool_calls": [{"name": "tell", "day": %d}]}], "tools": [{"name": "tell"}]}\n' $i $i
done >"$dir/data.jsonl"
{
    sed '/^chat_template:/d; s/, *epochs: 8/, epochs: 1/' "$dir/file.yaml"
    echo 'chat_template: "{{ bos_token }}{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.name }} {{ c.day }}{% endfor %}{% if m.role == '"'assistant'"' %}{{ eos_token }}{% else %}\n{% endif %}{% endfor %}"'
} >"$dir/calls.yaml"
rm -f "$dir/seen"
run 0 play "$dir/calls.yaml" -m "$model" --run "$dir/calls" --dtype f32 --threads 1
grep -q '"prompt":\[{"role":"user","content":"Day [0-9]*?"}\],"response":.*"reference":"tell [0-9]*","tools":\[{"name":"tell"}\]}' "$dir/seen" ||
    fail "expected the judge to see tools, and the text of a call"
run 0 play --run "$dir/calls" --resume
python3 - "$dir/calls/run.db" <<'END' || fail "expected whole conversations in run.db"
import json, sqlite3, sys
rows = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("select messages, reference from prompts").fetchall()
assert rows and all(json.loads(m)["tools"] == [{"name": "tell"}] and r.startswith("tell ") for m, r in rows), rows[:1]
END

# A judge behind an endpoint that fails in every way, killed in between with four questions under way
# at a time: each is answered once, and the key is stored nowhere.
if "$spar" --version | grep -q 'HTTP yes'; then
    export SPAR_API_KEY=a-secret-key no_proxy=127.0.0.1
    # One of the four always gets an answer: all of them held back would time out, and be asked again.
    "$endpoint" ooxn5joo4dowptwwoooooowwoooooooooooo "$dir/asked" >"$dir/port" &
    server=$!
    for _ in $(seq 100); do [ -s "$dir/port" ] && break; sleep 0.02; done
    sed '/^judge:/d; s/iterations: 2/iterations: 1/; s/samples: 4/samples: 2/' "$recipe" \
        >"$dir/api.yaml"
    echo "judge: {train: endpoint:tiny, endpoint: 'http://127.0.0.1:$(cat "$dir/port")/v1'," \
        "request_limit: 4}" >>"$dir/api.yaml"
    "$spar" play "$dir/api.yaml" -m "$model" --run "$dir/api" --resume --dtype f32 --threads 1 \
        >"$dir/out" 2>"$dir/err" &
    pid=$!
    for _ in $(seq 1000); do
        [ "$(cat "$dir/asked" 2>/dev/null | wc -l)" -ge 20 ] && break
        sleep 0.02
    done
    kill -9 $pid
    wait $pid 2>/dev/null
    run 0 play "$dir/api.yaml" -m "$model" --run "$dir/api" --resume --dtype f32 --threads 1
    answered=$(grep -c '^[opw]' "$dir/asked")
    different=$(grep '^[opw]' "$dir/asked" | cut -d' ' -f2- | sort -u | wc -l)
    # the kill may have come between four answers and their storing
    [ "$answered" -le $((different + 4)) ] ||
        fail "expected each question to be answered once, found $answered answers to $different"
    [ "$different" -ge 24 ] || fail "expected the prompts to be judged, found $different questions"
    grep -q '^o a-secret-key ' "$dir/asked" || fail "expected the key to be sent"
    grep -rqF a-secret-key "$dir/api" && fail "expected the key to be stored nowhere"
    kill $server
    run 0 play --run "$dir/api" --resume

    # A refusal ends the run with the number of the prompt. What was answered stays, to the end of
    # the run that goes on.
    : >"$dir/asked"
    : >"$dir/port" # which still has that of the server before
    "$endpoint" oooooo1 "$dir/asked" >"$dir/port" &
    server=$!
    for _ in $(seq 100); do [ -s "$dir/port" ] && break; sleep 0.02; done
    sed "s|127.0.0.1:[0-9]*|127.0.0.1:$(cat "$dir/port")|" "$dir/api.yaml" >"$dir/refused.yaml"
    run 2 play "$dir/refused.yaml" -m "$model" --run "$dir/refused" --dtype f32 --threads 1
    grep -qE 'judge: train: prompt [34]: http://.*HTTP status 401: no such key' "$dir/err" ||
        fail "expected the prompt that was refused: $(cat "$dir/err")"
    run 0 play "$dir/refused.yaml" --run "$dir/refused" --resume --dtype f32 --threads 1
    [ "$(grep -c '^o' "$dir/asked")" -eq "$(grep '^o' "$dir/asked" | sort -u | wc -l)" ] ||
        fail "expected each question to be answered once"
    cmp -s "$dir/api/final/model.safetensors" "$dir/refused/final/model.safetensors" ||
        fail "expected the same model from the run that was refused"

    # spar judge asks about many rows together, and answers in their order, with what is wrong.
    { for i in 1 2 3; do echo "{\"prompt\": \"p$i\", \"responses\": [\"a\", \"bbb\"]}"; done
      echo '{"prompt": "none"}'
      echo '{"prompt": "p5", "responses": ["ccc", "d"]}'; } >"$dir/rows.jsonl"
    run 2 judge --judge api:tiny --data "$dir/rows.jsonl" \
        --endpoint "http://127.0.0.1:$(cat "$dir/port")/v1" --concurrency 8
    [ "$(sed 's/^{"p":\[\[0.5,\(0.[27]5\)\].*/\1/' "$dir/out" | xargs)" = \
        "0.75 0.75 0.75 {error:responses: expected a list of strings, found nothing} 0.25" ] ||
        fail "expected the rows in their order"
    kill $server

    # Stopped while a server is silent, it ends with what was answered on standard output.
    : >"$dir/asked"
    : >"$dir/port"
    "$endpoint" ootttt "$dir/asked" >"$dir/port" &
    server=$!
    for _ in $(seq 100); do [ -s "$dir/port" ] && break; sleep 0.02; done
    "$spar" judge --judge api:tiny --data "$dir/rows.jsonl" --concurrency 1 --cache "$dir/replies.db" \
        --endpoint "http://127.0.0.1:$(cat "$dir/port")/v1" >"$dir/out" 2>"$dir/err" &
    pid=$!
    for _ in $(seq 500); do [ "$(wc -l <"$dir/asked")" -ge 3 ] && break; sleep 0.02; done
    kill -TERM $pid
    wait $pid
    status=$?
    [ $status -eq 10 ] || fail "expected the status of what was stopped, found $status: $(cat "$dir/err")"
    lines 1
    grep -q '"error"' "$dir/out" && fail "expected no errors of rows that were not judged"
    err_has stopped
    kill $server
fi

refuse() { # STATUS MESSAGE SED: the recipe so changed
    sed "$3" "$recipe" >"$dir/wrong.yaml"
    run "$1" play "$dir/wrong.yaml" -m "$model" --run "$dir/wrong"
    err_has "$2"
}
refuse 5 "judge: train: judge: expected one of verifier" 's/program:/oracle:/'
refuse 2 "samples: expected 2 or more to judge" 's/samples: 4/samples: 1/'
refuse 2 "names a judge, but no arm" 's/pairs: judged/pairs: real/'
refuse 2 "expected task families, or judge: train" '/^judge:/d; s/families: .*/file: x/'
refuse 2 "did you mean 'train'" 's/{train: "program/{trian: "program/'
refuse 2 "pairs: steps needs a judge that scores steps: expected judge: train: process:MODEL, found program:" \
    's/pairs: judged/pairs: steps/'

# Pairs by steps: a process reward model (here a language model that answers each step by + or -, which
# knows nothing) scores the lines of each response; its pairs are those of its scores, before and behind
# a kill.
prm="$dir/prm"
mkdir "$prm"
ln -s "$(cd "$model" && pwd)"/* "$prm"
printf '%s' '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}' \
    >"$prm/chat_template.jinja"
sed '/^judge:/d; /^arms:/,$d; /^generate:/,/^evaluate:/s/max_new_tokens: 8/max_new_tokens: 128/; s/^  stop:.*/  stop: [".\\n"]/; s/train: 24/train: 8/' \
    "$recipe" >"$dir/steps.yaml"
cat >>"$dir/steps.yaml" <<END
judge: {train: "prm:$prm", steps: lines, aggregate: product}
arms:
  - {name: steps, method: dpo, pairs: steps, samples: 4, iterations: 2, optimizer: rmsprop, lr: 1e-5}
END
run 0 play "$dir/steps.yaml" -m "$model" --run "$dir/steps" --dtype f32 --threads 1
python3 - "$dir/steps/run.db" <<'END' >"$dir/out" 2>&1 || fail "the pairs by steps"
import sqlite3, struct, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
kept = several = 0
for stage, prompt in db.execute("select distinct stage, prompt from judgements where judge = 'train'").fetchall():
    samples = db.execute("select id, text, finish from samples where stage=? and prompt=? order by sample_index",
                         (stage, prompt)).fetchall()
    scores = [struct.unpack(f"<{len(b) // 8}d", b) for (b,) in db.execute(
        "select scores from steps where stage=? and prompt=? order by response", (stage, prompt))]
    lines = [[l for l in text.split("\n") if l] or [""] for _, text, _ in samples]
    assert [len(l) for l in lines] == [len(s) for s in scores], (lines, scores)
    several += any(len(l) > 1 for l in lines)
    margins = {}
    for a in range(4):
        for b in range(4):
            at = next((i for i, (x, y) in enumerate(zip(lines[a], lines[b])) if x != y), None)
            if at is not None and samples[a][2] != "length":
                margins[samples[a][0], samples[b][0]] = scores[a][at] - scores[b][at]
    best = max(margins.values(), default=0)
    pair = db.execute("select chosen, rejected, verdict, reason from pairs where stage=? and prompt=?",
                      (stage, prompt)).fetchone()
    if pair[2] == "kept":
        kept += 1
        assert margins[pair[:2]] == best > 0, (pair, margins)
    else:
        assert pair[3] != "no step apart" or best <= 0, (pair, margins)
assert kept > 0 and several > 0, (kept, several)
END
for delay in 0.3 0.6 0.5; do
    timeout -s KILL $delay "$spar" play "$dir/steps.yaml" -m "$model" --run "$dir/steps-killed" --resume \
        --dtype f32 --threads 1 >"$dir/out" 2>"$dir/err"
done 2>/dev/null
run 0 play "$dir/steps.yaml" -m "$model" --run "$dir/steps-killed" --resume --dtype f32 --threads 1
cmp -s "$dir/steps/final/model.safetensors" "$dir/steps-killed/final/model.safetensors" ||
    fail "steps: expected the same model from the run that was killed"

# One that fails ends the run with the prompt's name, and what was judged stays.
printf 'exit 3\n' >"$dir/fails"
sed "s/short/fails/" "$recipe" >"$dir/fails.yaml"
run 2 play "$dir/fails.yaml" -m "$model" --run "$dir/failed"
err_has "judge: train: prompt 1: judge program: exit status 3"
verdict
