# Sourced by the tests of the command line: test_NAME.sh SPAR SOURCE_DIR.
set -u
spar=$1 source_dir=$2
shared=${SPAR_SHARED:-$source_dir/../shared}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
unset SPAR_MODEL

# fail WHAT: say so and go on; verdict ends the test.
fail() {
    echo "FAILED: $1"
    echo "--- stdout"; head -c 2000 "$dir/out"
    echo "--- stderr"; head -c 2000 "$dir/err"
    failures=$((failures + 1))
}

verdict() {
    [ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
    echo "all as expected"
}

skip_without() {
    [ -e "$shared/$1" ] || { echo "skipped: the shared folder has no $1"; exit 77; }
}

# run STATUS ARGUMENT...: the program, its output in $dir/out and $dir/err, must leave with STATUS.
run() {
    local want=$1 got
    shift
    "$spar" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] || fail "spar $*: expected status $want, found $got"
}

# feed STATUS INPUT ARGUMENT...: the same with INPUT as standard input.
feed() {
    local want=$1 input=$2 got
    shift 2
    printf '%s' "$input" | "$spar" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ "$got" -eq "$want" ] || fail "spar $*: expected status $want, found $got"
}

# out TEXT, err TEXT: the whole of standard output or error; has, err_has: a fixed string in it.
out() { [ "$(cat "$dir/out")" = "$1" ] || fail "expected the output: $1"; }
err() { [ "$(cat "$dir/err")" = "$1" ] || fail "expected the message: $1"; }
has() { grep -qF -- "$1" "$dir/out" || fail "expected in the output: $1"; }
err_has() { grep -qF -- "$1" "$dir/err" || fail "expected in the messages: $1"; }
# lines N: so many lines of output.
lines() { [ "$(wc -l <"$dir/out")" -eq "$1" ] || fail "expected $1 lines of output"; }
# line N TEXT: that line of output.
line() { [ "$(sed -n "$1p" "$dir/out")" = "$2" ] || fail "expected line $1: $2"; }
