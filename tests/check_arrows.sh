#!/bin/sh
# check_arrows.sh [ROOT]: hold the tree against its architecture.
#   - a file in src/FOLDER includes only FOLDER, the folders that the spar_module lines of
#     CMakeLists.txt let it reach, and the public headers;
#   - src/cli includes only the public headers and its own;
#   - the public headers include only each other;
#   - no two source files share a name.
set -eu
cd "${1:-.}"
if [ ! -f CMakeLists.txt ] || [ ! -d src ]; then
    echo "check_arrows: no CMakeLists.txt and src/ in $(pwd)" >&2
    exit 2
fi

list=$(mktemp)
trap 'rm -f "$list"' EXIT
for folder in src include tests tools; do
    [ ! -d "$folder" ] || find "$folder" -type f \
        \( -name '*.c' -o -name '*.h' -o -name '*.sh' -o -name '*.py' \)
done | sort >"$list"

bad=0
awk -F / '
    $NF in first { print "same name: " first[$NF] " and " $0; bad = 1 }
    !($NF in first) { first[$NF] = $0 }
    END { exit bad }' "$list" || bad=1

# The first file is CMakeLists.txt, the others are sources; none has a space in its name.
# shellcheck disable=SC2046
awk '
    function module_line(text, words, n, i, on) {
        gsub(/[()]/, " ", text)
        n = split(text, words, " ")
        known[words[2]] = 1
        for (i = 3; i <= n; i++) {
            if (words[i] == "DEPENDS" || words[i] == "LIBS") {
                on = words[i] == "DEPENDS"
            } else if (on) {
                reach[words[2], words[i]] = 1
            }
        }
    }
    function close_over(a, b, c, again) {
        do {
            again = 0
            for (a in known) for (b in known) for (c in known) {
                if (((a, b) in reach) && ((b, c) in reach) && !((a, c) in reach)) {
                    reach[a, c] = again = 1
                }
            }
        } while (again)
        closed = 1
    }
    function wrong(text) {
        print FILENAME ":" FNR ": " text
        bad = 1
    }
    FILENAME == "CMakeLists.txt" {
        if ($0 ~ /^spar_module\(/) { module_line($0) }
        next
    }
    FNR == 1 {
        if (!closed) { close_over() }
        split(FILENAME, part, "/")
        own = part[1] == "include" ? "spar" : part[2]
        if (part[1] == "src" && own != "cli" && !(own in known)) {
            wrong("src/" own " is no spar_module of CMakeLists.txt")
        }
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, quoted, "\"")
        n = split(quoted[2], path, "/")
        # A bare name is a header beside the file.
        target = n > 1 ? path[1] : own
        if (target == ".." || target == ".") {
            wrong("relative include of " quoted[2])
        } else if (target != own && target != "spar" && !((own, target) in reach)) {
            wrong("src/" own " may not include " quoted[2])
        }
    }
    END { exit bad }' CMakeLists.txt $(grep -E '^(src|include)/.*\.[ch]$' "$list") || bad=1

[ "$bad" -eq 0 ] || {
    echo "check_arrows: the arrows are in CMakeLists.txt and docs/architecture.md" >&2
    exit 1
}
