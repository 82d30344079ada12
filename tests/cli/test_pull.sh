#!/usr/bin/env bash
# A hub of the test's own on the loopback: listings, redirects, ranges, faults, the cache's layout.
. "$(dirname "$0")/cli.sh"
server=$3
"$spar" --version | grep -q 'HTTP yes' || { echo "skipped: built without libcurl"; exit 77; }
unset HF_HUB_CACHE HF_HUB_OFFLINE HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH XDG_CACHE_HOME
export HF_HOME=$dir/home no_proxy=127.0.0.1
cache=$HF_HOME/hub root=$dir/root commit=0123456789abcdef0123456789abcdef01234567
trap 'kill $(cat "$dir/pids") 2>/dev/null; rm -rf "$dir"' EXIT

start() { # NAME: a server over the root; its port goes to $dir/NAME.port
    "$server" "$root" "$dir/$1.log" >"$dir/$1.port" &
    echo $! >>"$dir/pids"
    for _ in $(seq 200); do [ -s "$dir/$1.port" ] && break; sleep 0.02; done
}
mkdir -p "$root"
start hub
start cdn
hub=http://127.0.0.1:$(cat "$dir/hub.port") cdn=http://127.0.0.1:$(cat "$dir/cdn.port")
export HF_ENDPOINT=$hub/

# ---- a repository: two small files, two large ones that live on the other server ----
blob_sha1() { { printf 'blob %d\0' "$(stat -c %s "$1")"; cat "$1"; } | sha1sum | cut -d ' ' -f 1; }
blob_sha256() { sha256sum "$1" | cut -d ' ' -f 1; }
api=$root/api/models/org/tiny files=$root/org/tiny/resolve/$commit
mkdir -p "$api/revision" "$api/tree" "$files/sub" "$root/cdn"
echo "{\"sha\": \"$commit\", \"siblings\": []}" >"$api/revision/main"
echo '{"hidden_size": 8}' >"$files/config.json"
echo 'a note' >"$files/sub/a note.txt"
mv "$files/sub/a note.txt" "$files/sub/a%20note.txt" # as URLs spell it
seq 400000 >"$root/cdn/weights"
weights=$(blob_sha256 "$root/cdn/weights") size=$(stat -c %s "$root/cdn/weights")
printf 'Location: %s/cdn/weights\r\nX-Linked-Etag: "%s"\r\n' "$cdn" "$weights" \
    >"$files/model.safetensors.headers"
config=$(blob_sha1 "$files/config.json") note=$(blob_sha1 "$files/sub/a%20note.txt")
small() { echo "{\"type\": \"file\", \"path\": \"$1\", \"size\": $2, \"oid\": \"$3\"}"; }
large() {
    echo "{\"type\": \"file\", \"path\": \"$1\", \"size\": $2, \"oid\": \"$config\"," \
        "\"lfs\": {\"oid\": \"$3\", \"size\": $2, \"pointerSize\": 130}}"
}
cat >"$api/tree/$commit?recursive=true" <<END
[$(small config.json "$(stat -c %s "$files/config.json")" "$config"),
 {"type": "directory", "path": "sub", "size": 0, "oid": "$config"},
 $(small "sub/a note.txt" 7 "$note")]
END
printf 'Link: <%s/api/models/org/tiny/tree/%s?page=2>; rel="next"\r\n' "$hub" "$commit" \
    >"$api/tree/$commit?recursive=true.headers"
echo "[$(large model.safetensors "$size" "$weights"), $(large pytorch_model.bin 9 "$weights")]" \
    >"$api/tree/$commit?page=2"

folder=$cache/models--org--tiny snapshot=$cache/models--org--tiny/snapshots/$commit
fresh() { rm -rf "$HF_HOME/hub" "$dir/hub.log" "$dir/cdn.log"; printf '%s' "$1" >"$root/script"; }
whole() { cmp -s "$root/cdn/weights" "$snapshot/model.safetensors" || fail "$1: the weights differ"; }
absent() { [ ! -e "$snapshot/model.safetensors" ] || fail "$1: a final name without its bytes"; }

# ---- all goes well: the layout of the cache, and the token at the hub alone ----
fresh ""
HF_TOKEN=secret run 0 pull org/tiny
out "$snapshot"
whole "a pull"
cmp -s "$files/config.json" "$snapshot/config.json" || fail "config.json differs"
cmp -s "$files/sub/a%20note.txt" "$snapshot/sub/a note.txt" || fail "the note differs"
[ "$(cat "$folder/refs/main")" = "$commit" ] || fail "refs/main"
[ "$(readlink "$snapshot/model.safetensors")" = "../../blobs/$weights" ] || fail "the link"
[ "$(readlink "$snapshot/sub/a note.txt")" = "../../../blobs/$note" ] || fail "the inner link"
[ ! -e "$snapshot/pytorch_model.bin" ] || fail "a foreign format was taken"
grep -q "/resolve/.* secret$" "$dir/hub.log" || fail "the hub did not get the token"
grep -q secret "$dir/cdn.log" && fail "the other server got the token"
grep -rq secret "$HF_HOME" && fail "the token was stored"
err_has "model.safetensors: 2.7 MB, sha256 right"

# What is there is not fetched again; nor is what other tools fetched.
rm -f "$dir/hub.log"
run 0 pull org/tiny
out "$snapshot"
grep -q resolve "$dir/hub.log" && fail "fetched again"

# The token of the login file, and the one that the environment names.
fresh ""
echo filed >"$HF_HOME/token"
run 0 pull org/tiny
grep -q "/resolve/.* filed$" "$dir/hub.log" || fail "the login's token was not used"
rm "$HF_HOME/token"

# ---- the cache by name, and offline ----
run 3 inspect org/tiny/config.json # found, and no model
err_has "$snapshot/config.json: "
run 5 tokenize -m hub:org/other
err_has "org/other, revision main: neither here nor in the hub's cache"
err_has "spar pull org/other fetches it"
run 5 tokenize -m org/tiny@v2
err_has "revision v2"
run 2 tokenize -m hub:org/tiny/../../x
err_has "expected hub:org/name[/FILE][@REVISION]"
rm -f "$dir/hub.log"
HF_HUB_OFFLINE=1 run 0 pull org/tiny
out "$snapshot"
run 0 pull --offline --revision "$commit" org/tiny
run 5 pull --offline org/other
err_has "offline, and not in the cache"
run 5 pull --offline org/tiny --include '*.gguf'
err_has "the cache has no file that is wanted"
run 0 pull --offline org/tiny --out "$dir/copied"
out "$dir/copied"
diff -r "$snapshot" "$dir/copied" >&2 || fail "the copy differs"
[ -z "$(find "$dir/copied" -type l)" ] || fail "expected plain files"
echo 'a text' >"$dir/copied/sub/a note.txt" # of the right length
touch -d 2000-01-01 "$dir/copied/config.json"
run 0 pull --offline org/tiny --out "$dir/copied" --exclude '*.safetensors'
diff -r "$snapshot" "$dir/copied" >&2 || fail "the copy was not mended"
[ "$(stat -c %Y "$dir/copied/config.json")" = "$(date -d 2000-01-01 +%s)" ] || fail "copied again"
rm -r "$dir/copied"
printf x | dd of="$folder/blobs/$weights" bs=1 seek=9 conv=notrunc 2>/dev/null
run 11 pull --offline org/tiny --out "$dir/copied"
err_has "model.safetensors: its bytes in the cache are not those of the hash $weights"
[ ! -e "$dir/copied/model.safetensors" ] || fail "a file of other bytes was copied"
rm "$folder/blobs/$weights"
run 5 pull --offline org/tiny --out "$dir/copied"
err_has "model.safetensors: offline, and its bytes are not in the cache"
run 5 pull --offline org/tiny
err_has "model.safetensors: offline, and its bytes are not in the cache"
[ ! -e "$dir/hub.log" ] || fail "offline, and the hub was asked"

# A model that another tool has put there is found by its name.
model=$shared/models/stories260K/hf
if [ -e "$model" ]; then
    other=$cache/models--else--stories/snapshots/$commit
    mkdir -p "$other" "$cache/models--else--stories/refs"
    printf %s "$commit" >"$cache/models--else--stories/refs/main"
    ln -s "$model"/* "$other"
    run 0 pull --offline else/stories --out "$dir/stories" # links that name no hash
    diff -r "$model" "$dir/stories" >&2 || fail "the copy of the stories differs"
    for name in else/stories hub:else/stories "else/stories@$commit"; do
        feed 0 '{"text": "Once"}' tokenize -m "$name"
        lines 1
    done
fi

# ---- which files, and where ----
fresh ""
run 0 pull org/tiny --out "$dir/plain" --include '*.json,*.txt' --exclude 'sub/*'
out "$dir/plain"
[ "$(ls "$dir/plain")" = config.json ] && [ ! -L "$dir/plain/config.json" ] || fail "--out, --include"
run 5 pull org/tiny --include nothing
err_has "no file is wanted"
run 2 pull ../tiny
err_has "expected a repository as org/name"
run 2 pull org/tiny --revision ../x
err_has "expected a branch, tag or commit"
run 5 pull org/tiny --revision v9
err_has "org/tiny, revision v9: no such repository or revision"

# ---- faults of the network: cut, 503, no ranges; all in one call ----
fresh ooococr # config, note, redirect, half, redirect, half again, redirect; then all bytes anew
run 0 pull org/tiny
whole "cut twice"
grep -q "^. /cdn/weights $((size / 2))- " "$dir/cdn.log" || fail "expected a range"
fresh ooorc
printf 'ooococor' >"$root/script"
run 0 pull org/tiny
whole "a server that ignores ranges"
fresh 5o5
run 0 pull org/tiny
whole "503"
err_has "HTTP status 503; trying again in 1.0 s"

# ---- faults that end the call; the next goes on ----
fresh oooc
run 6 pull org/tiny --attempts 1
err_has "$((size / 2)) bytes are kept, call again to go on"
absent "cut"
[ ! -e "$folder/refs/main" ] || fail "a revision before its files"
rm "$dir/cdn.log"
run 0 pull org/tiny
whole "resumed"
grep -q "^o /cdn/weights $((size / 2))- " "$dir/cdn.log" || fail "expected the rest alone"
fresh ooow
run 11 pull org/tiny
err_has "model.safetensors: expected the sha256 $weights, found"
absent "a wrong hash"
run 0 pull org/tiny
whole "after a wrong hash"
fresh w
run 11 pull org/tiny
err_has "config.json: expected the git hash $config, found"
fresh oool
run 11 pull org/tiny
err_has "expected $size bytes, found $((size + 1))"
absent "a wrong length"
fresh 4
run 6 pull org/tiny
err_has "config.json: HTTP status 429; the server asks to wait"
fresh 1
run 2 pull org/tiny
err_has "access is gated: ask for it at $hub/org/tiny, then give a token"
fresh u
HF_TOKEN=old run 2 pull org/tiny
err_has "the token in use is not valid"
fresh ""
mv "$root/cdn/weights" "$root/cdn/away"
run 5 pull org/tiny
err_has "org/tiny, revision main, model.safetensors: no such file"
mv "$root/cdn/away" "$root/cdn/weights"
HF_ENDPOINT=http://127.0.0.1:1 run 6 pull org/tiny --attempts 2
err_has "trying again in 0.5 s"
HF_TOKEN=$(printf 'a\nb') run 2 pull org/tiny
err_has "the hub's token: expected one line"

# A disk that is full, here a limit on the size of files; then it is not.
fresh ""
(
    trap '' XFSZ
    ulimit -f 1000
    run 6 pull org/tiny
    err_has "cannot write"
    exit "$failures"
) || failures=$((failures + 1))
absent "a full disk"
[ "$(stat -c %s "$folder/blobs/$weights.incomplete")" = 1024000 ] || fail "the part was not kept"
run 0 pull org/tiny
whole "after a full disk"

# Killed midway.
fresh ooos
"$spar" pull org/tiny >"$dir/out" 2>"$dir/err" &
pull=$!
for _ in $(seq 200); do
    [ "$(stat -c %s "$folder/blobs/$weights.incomplete" 2>/dev/null)" = $((size / 2)) ] && break
    sleep 0.05
done
run 9 pull org/tiny
err_has "another process is fetching it"
kill -9 $pull
wait $pull 2>/dev/null
absent "killed"
run 0 pull org/tiny
whole "after a kill"
grep -q "^o /cdn/weights $((size / 2))- " "$dir/cdn.log" || fail "expected the rest alone after a kill"

# ---- hostile listings ----
cp "$api/tree/$commit?page=2" "$dir/page"
for path in ../x /etc/x a/../b a//b 'a\u0001b' .. ''; do
    small "$path" 7 "$note" | sed 's/^/[/; s/$/]/' >"$api/tree/$commit?page=2"
    run 3 pull org/tiny
    err_has "the name of a file: expected a path that stays in its folder"
done
small x 7 "${note}00" | sed 's/^/[/; s/$/]/' >"$api/tree/$commit?page=2"
run 3 pull org/tiny
err_has "x: oid: expected a hash"
echo "[$(large a-q4.gguf 9 "$weights"), $(large a-q8.gguf 9 "$weights")]" >"$api/tree/$commit?page=2"
run 2 pull org/tiny
err_has "2 GGUF files: expected a choice among them, such as --include 'a-q8.gguf'"
cp "$dir/page" "$api/tree/$commit?page=2"
fresh ""
printf 'Location: file:///etc/passwd\r\n' >"$files/model.safetensors.headers"
run 3 pull org/tiny
err_has "which is no safe place"

# ---- URLs ----
fresh c
printf 'ETag: "one"\r\n' >"$root/cdn/weights.headers"
cd "$dir" || exit 1
cp "$root/cdn/weights" "$root/cdn/v.bin?download=true"
run 6 pull "$cdn/cdn/v.bin?download=true" --attempts 1
run 0 pull "$cdn/cdn/v.bin?download=true" # without a tag it begins anew
out ./v.bin
cmp -s v.bin "$root/cdn/weights" || fail "the URL's file differs"
cp "$root/cdn/weights" "$root/cdn/w.bin"
printf 'ETag: "one"\r\n' >"$root/cdn/w.bin.headers"
printf c >"$root/script"
run 6 pull "$cdn/cdn/w.bin" --attempts 1 -o "$dir/got"
err_has "call again to go on"
run 0 pull "$cdn/cdn/w.bin" -o "$dir/got" --sha256 "$weights"
out "$dir/got/w.bin"
[ "$(ls "$dir/got")" = w.bin ] || fail "more than the file"
cmp -s "$dir/got/w.bin" "$root/cdn/weights" || fail "the URL's file differs"
run 11 pull "file://$root/cdn/weights" --sha256 "${weights%?}0"
run 0 pull "file://$root/cdn/weights" --sha256 "$weights"
cmp -s weights "$root/cdn/weights" || fail "the copied file differs"
run 5 pull "$cdn/cdn/nothing"
run 6 pull "file://$dir/nothing"
run 5 pull --offline "$cdn/cdn/weights"
run 2 pull "ftp://x/y"
run 2 pull "$cdn/"
verdict
