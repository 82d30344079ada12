#!/bin/sh
# check_arrows_test.sh SCRIPT: the script passes a good tree and fails on each kind of bad one.
set -eu
script=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

fresh() {
    rm -rf "$tree"
    mkdir -p "$tree/src/base" "$tree/src/tensor" "$tree/src/io" "$tree/src/cli" \
        "$tree/include/spar" "$tree/tests" "$tree/tools"
    cat >"$tree/CMakeLists.txt" <<'END'
spar_module(base LIBS m)
spar_module(tensor DEPENDS base)
spar_module(io DEPENDS tensor LIBS base_is_no_dependency)
END
    echo '#include "spar/api.h"' >"$tree/include/spar/more.h"
    : >"$tree/include/spar/api.h"
    echo '#include <tensor/view.h>' >"$tree/src/base/mem.c"
    printf '#include "base/mem.h"\n#include "view.h"\n' >"$tree/src/tensor/view.c"
    printf '#include "base/mem.h"\n#include "tensor/view.h"\n#include "spar/api.h"\n' \
        >"$tree/src/io/gguf.c"
    printf '#include "spar/api.h"\n#include "cli/command.h"\n' >"$tree/src/cli/main.c"
}

expect() { # STATUS PATTERN WHAT
    status=0
    output=$(sh "$script" "$tree" 2>&1) || status=$?
    if [ "$status" -ne "$1" ] || ! echo "$output" | grep -q -e "$2"; then
        echo "$3: expected status $1 and '$2', found status $status and: $output"
        exit 1
    fi
}

fresh
expect 0 '' 'a good tree'

fresh
echo '#include "tensor/view.h"' >"$tree/src/base/str.c"
expect 1 'src/base/str.c:1: src/base may not include tensor/view.h' 'an arrow the wrong way'

fresh
mkdir "$tree/src/tensor/cpu"
printf '\n  #  include "io/gguf.h"\n' >"$tree/src/tensor/cpu/add.c"
expect 1 'add.c:2: src/tensor may not include io/gguf.h' 'a wrong arrow in a folder below'

fresh
echo '#include "base/mem.h"' >"$tree/src/cli/main.c"
expect 1 'src/cli may not include base/mem.h' 'the program reaching inside'

fresh
echo '#include "base/mem.h"' >"$tree/include/spar/more.h"
expect 1 'more.h:1:' 'a public header reaching inside'

fresh
echo '#include "../base/mem.h"' >"$tree/src/io/gguf.c"
expect 1 'relative include' 'a relative include'

fresh
mkdir "$tree/src/misc"
echo "int any;" >"$tree/src/misc/any.c"
expect 1 'src/misc is no spar_module' 'a folder outside the architecture'

fresh
: >"$tree/tests/gguf.c"
expect 1 'same name: src/io/gguf.c and tests/gguf.c' 'a duplicate name'

rm -rf "$tree/src"
expect 2 'no CMakeLists.txt and src/' 'no tree at all'
