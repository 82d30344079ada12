#!/usr/bin/env bash
# Help, version, manual, completion; unknown names; exit statuses.
. "$(dirname "$0")/cli.sh"
commands="play report eval generate chat merge inspect doctor pull tasks bench tokenize render score judge"

run 2
err_has "usage: spar COMMAND"
out ""
for form in --help -h help; do
    run 0 $form
    err ""
    for command in $commands; do
        has "  $command "
    done
done
for command in $commands; do
    run 0 help "$command"
    has "Usage: spar $command "
    cp "$dir/out" "$dir/help"
    run 0 "$command" --help
    cmp -s "$dir/help" "$dir/out" || fail "spar help $command and spar $command --help differ"
    run 0 --man "$command"
    has ".TH SPAR\\-${command^^} 1"
    has ".SH EXIT STATUS"
done
run 0 --man spar
has ".TH SPAR 1"
has "spar tokenize: "

run 0 --version
for word in "spar 0." "build: " "compiler " oneDNN SQLite jansson PCRE2 utf8proc libyaml "HTTP " "processor: "; do
    has "$word"
done
run 0 --completion bash
bash -n "$dir/out" || fail "the completion function is not bash"
(
    . "$dir/out"
    COMP_WORDS=(spar sc) COMP_CWORD=1
    _spar
    [ "${COMPREPLY[*]}" = score ]
) || fail "spar sc<TAB>: expected score"
run 2 --completion zsh
err "spar: --completion: expected bash, found zsh"

run 2 genrate
err "spar: unknown command genrate: did you mean generate?"
run 2 xyzzy
err "spar: unknown command xyzzy (spar --help lists them)"
run 2 help genrate
err_has "did you mean generate?"
run 2 --man genrate
err_has "did you mean generate?"
run 2 play --rnu x
err_has "--rnu; did you mean --run?"
run 2 play --run
err_has "--run"
run 2 generate --temperature hot -m x y
err_has "temperature"
run 2 generate --dtype f64 -m x y
err_has "dtype"
run 2 inspect
run 2 inspect a b
err_has "unexpected operand b"
for command in eval chat tokenize score; do
    run 2 "$command"
    err_has "-m: expected a model"
done
run 5 inspect "$dir/missing"
run 5 score -m "$dir/missing"
run 5 tokenize -m "$dir/missing"
err_has "$dir/missing"

# What cannot be written is an error, also of help.
if [ -w /dev/full ]; then
    for arguments in --help --version "help play" "--man play" "--completion bash" tasks; do
        # shellcheck disable=SC2086 # words
        "$spar" $arguments >/dev/full 2>"$dir/err"
        [ $? -eq 6 ] || fail "spar $arguments on a full disk: expected status 6"
        err "spar: standard output: cannot be written"
    done
fi

# A name from outside cannot drive the terminal: escape sequences in 7 bits (ESC) and 8 (U+009B).
run 5 inspect "$dir/$(printf 'a\033[2Jb')"
grep -q "$(printf '\033')" "$dir/err" && fail "an escape sequence came through"
header='{"a\u001b[2J\u009b2J\u00e9":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
# shellcheck disable=SC2059 # the format is the bytes
printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0" >"$dir/hostile.safetensors"
printf '%s\0\0\0\0' "$header" >>"$dir/hostile.safetensors"
run 0 inspect "$dir/hostile.safetensors" --tensors
has "a?[2J?2Jé"
verdict
