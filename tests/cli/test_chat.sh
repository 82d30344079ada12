#!/usr/bin/env bash
# chat: turns, /reset, /quit, a turn that fails.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
cp -r "$shared/models/stories260K/hf" "$dir/model"
chmod -R u+w "$dir/model"
template='{% for m in messages %}{% if m.content == "refuse" %}{{ raise_exception("not that") }}{% endif %}{{ m.content }}{% endfor %}'

run 4 chat -m "$dir/model"
err_has "no chat template"
printf '%s' "$template" >"$dir/model/chat_template.jinja"
# What the model says to that, by another way.
run 0 generate -m "$dir/model" -T 0 -n 6 "Once upon a time"
cp "$dir/out" "$dir/first"
answer=$(cat "$dir/first")
[ ${#answer} -gt 10 ] || fail "expected an answer of some length"
chat() { feed 0 "$1" chat -m "$dir/model" -T 0 -n 6; }

chat $'Once upon a time\n/quit\nOnce\n'
out "$answer"
chat $'Once upon a time\n'
out "$answer"
# After /reset, and after a turn that failed, the conversation is what it was.
chat $'Once upon a time\n/reset\nOnce upon a time\n'
cat "$dir/first" "$dir/first" | cmp -s - "$dir/out" || fail "/reset: expected the same twice"
chat $'refuse\nOnce upon a time\n'
err_has "not that"
line 2 "$answer"
lines 2
chat $'Once upon a time\n and\n'
lines 2
[ "$(sed -n 2p "$dir/out")" != "$(cat "$dir/first")" ] ||
    fail "expected the second turn to go on from the first"
chat "$(printf '\377\nOnce upon a time\n')"
err_has "not UTF-8"
has "$answer"

# Ctrl-C stops an answer, not the conversation: the next is whole. (Where the answer was over first,
# there is nothing to stop, Ctrl-C ends the program, and that answer is the whole one.)
run 0 generate -m "$dir/model" -T 0 -n 400 "Once upon a time"
cp "$dir/out" "$dir/whole"
mkfifo "$dir/in"
"$spar" chat -m "$dir/model" -T 0 -n 400 <"$dir/in" >"$dir/out" 2>"$dir/err" &
pid=$!
exec 3>"$dir/in"
echo "Once upon a time" >&3
for _ in $(seq 500); do
    [ -s "$dir/out" ] && break
    sleep 0.01
done
kill -INT $pid
printf '/reset\nOnce upon a time\n/quit\n' >&3 2>/dev/null
exec 3>&-
wait $pid
status=$?
[ "$status" -eq 0 ] || fail "after Ctrl-C: expected status 0, found $status"
tail -c "$(wc -c <"$dir/whole")" "$dir/out" | cmp -s - "$dir/whole" ||
    fail "expected a whole answer after the one that was stopped"
grep -q "^spar:" "$dir/err" && fail "Ctrl-C: expected no complaint"
verdict
