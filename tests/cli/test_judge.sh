#!/usr/bin/env bash
# judge: rows of responses to win probabilities; wrong rows in their places.
. "$(dirname "$0")/cli.sh"

feed 0 '{"prompt": "6*7?", "responses": ["41", "It is 42.", "\\boxed{42}"], "reference": 42}' \
    judge --judge verifier:number
lines 1
has '{"p":[[0.5,0.0,0.0],[1.0,0.5,0.5],[1.0,0.5,0.5]],"scores":[0.0,1.0,1.0],"best":1,"worst":0,"seconds":'
has '"judge":{"kind":"verifier","model":"number"}}'

printf '%s\n' '{"responses": ["a"], "answer": "a"}' 'nonsense' '{"responses": 3}' \
    '{"responses": ["b"], "answer": "a"}' >"$dir/rows"
run 2 judge --judge verifier:exact --data "$dir/rows"
lines 4
line 3 '{"error":"responses: expected a list of strings, found integer"}'
sed -n 4p "$dir/out" | grep -qF '"scores":[0.0]' || fail "expected a score behind the wrong rows"
err_has "2 rows failed"

# A program of the user's; one that hangs is ended, and the next row is judged.
feed 2 '{"responses": ["ab", "abc"]}
{"prompt": "hang", "responses": ["a"]}
{"responses": ["a"]}' judge --time-limit 1 --judge 'program:
    while read -r row; do case $row in *hang*) sleep 60 & wait;; esac; echo "{\"score\": ${#row}}"; done'
lines 3
has '"p":[[0.5,0.0],[1.0,0.5]]'
line 2 '{"error":"judge program: no end after 1 seconds"}'

run 2 judge
err_has "--judge: expected KIND[:MODEL], found nothing"
run 5 judge --judge oracle
err_has "expected one of verifier"
err_has "api (or endpoint), process (or prm)"
run 5 judge --judge prm:"$dir/missing"
err_has "$dir/missing"
run 2 judge --judge endpoint:name
run 2 judge --judge prm
err_has "expected process:FOLDER"
run 5 judge --judge verifier:exact --data "$dir/missing"
# Rows to train on: the best of n, the best against the worst, nothing where all are alike.
rows='{"prompt": "6*7?", "responses": ["41", "42", "43"], "reference": "42"}
{"prompt": "1+1?", "responses": ["3", "4"], "reference": "2"}'
feed 0 "$rows" judge --judge verifier:exact --write best
line 1 '{"prompt":"6*7?","completion":"42"}'
lines 2
feed 0 "$rows" judge --judge verifier:exact --write pairs
out '{"prompt":"6*7?","chosen":"42","rejected":"41"}'
feed 2 "$rows" judge --judge verifier:exact --write step-pairs
has 'expected a judge that scores steps'
# All responses with what they scored; those of spar generate stay as they are, and are read by text.
feed 0 '{"prompt": "6*7?", "responses": [{"text": "41", "ids": [5]}, "42"], "reference": "42", "extra": 1}' \
    judge --judge verifier:exact --write groups
out '{"prompt":"6*7?","responses":[{"text":"41","ids":[5]},"42"],"rewards":[0.0,1.0],"p":[[0.5,0.0],[1.0,0.5]]}'
feed 0 '{"prompt": "6*7?", "responses": [{"text": "41"}, {"text": "42"}], "reference": "42"}' \
    judge --judge verifier:exact --write pairs
out '{"prompt":"6*7?","chosen":"42","rejected":"41"}'
feed 2 '{"prompt": "6*7?", "responses": [{"ids": [5]}], "reference": "42"}' judge --judge verifier:exact
has 'responses[0]: expected a string, found object'
run 5 judge --judge process:"$dir/missing"

run 5 judge --judge llm:"$dir/missing"
run 5 judge --judge llm:"$dir/missing" --prompt "$dir/missing.jsonl#x"
err_has "missing.jsonl"
if [ -e "$shared/models/stories260K/hf" ]; then
    feed 2 '{"prompt": "x", "responses": ["a", "b"]}' \
        judge --judge "llm:$shared/models/stories260K/hf"
    has 'has no chat template'
fi
verdict
