#!/usr/bin/env bash
# train: a row that cannot be used is named with its place and the reason, and stops the training or is
# left out and counted, as --on-bad-row and --on-long say: in every layout, and in every kind of file.
. "$(dirname "$0")/cli.sh"
skip_without models/stories260K/hf
printf '%s' '{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == "assistant" %}{{ eos_token }}{% else %} {% endif %}{% endfor %}' >"$dir/template.jinja"
python3 - "$spar" "$shared/models/stories260K/hf" "$dir" <<'END' || fail "the rows"
import csv, gzip, io, json, struct, subprocess, sys
spar, model, folder = sys.argv[1:]
LONG = "is a very long and tiring story about many, many small things that nobody wants to hear again."
failed = 0

def train(path, method, *options):
    done = subprocess.run([spar, "train", "-m", model, "--template", folder + "/template.jinja", "--data", path,
                           "--method", method, "--max-length", "30", "--lr", "0", "--dtype", "f32",
                           "--log", folder + "/log.jsonl", *options], capture_output=True, text=True)
    return done.returncode, done.stderr

def expect(what, ok, text):
    global failed
    if not ok:
        failed += 1
        print(f"FAILED: {what}\n{text}")

def user(text): return {"role": "user", "content": text}
def bot(text): return {"role": "assistant", "content": text}
def human(text): return {"from": "human", "value": text}
def gpt(text): return {"from": "gpt", "value": text}
def turns(prompt, response): return f"\n\nHuman: {prompt}\n\nAssistant: {response}"

# Of each layout: a method, a row of a prompt, a winner and a loser, and a member that a row must have.
LAYOUTS = {
    "preference": ("dpo", lambda p, w, l: {"prompt": p, "chosen": w, "rejected": l}, "rejected"),
    "preference of messages": ("dpo", lambda p, w, l: {"prompt": [user(p)], "chosen": [bot(w)], "rejected": [bot(l)]}, "chosen"),
    "implicit preference": ("dpo", lambda p, w, l: {"chosen": [user(p), bot(w)], "rejected": [user(p), bot(l)]}, "rejected"),
    "conversations preference": ("dpo", lambda p, w, l: {"conversations": [human(p)], "chosen": gpt(w), "rejected": gpt(l)}, "conversations"),
    "instruction preference": ("ipo", lambda p, w, l: {"instruction": p, "chosen": w, "rejected": l}, "instruction"),
    "transcripts": ("dpo", lambda p, w, l: {"chosen": turns(p, w), "rejected": turns(p, l)}, "rejected"),
    "real and generated": ("spin", lambda p, w, l: {"real": [user(p), bot(w)], "generated": [user(p), bot(l)]}, "generated"),
    "messages": ("sft", lambda p, w, l: {"messages": [user(p), bot(w)]}, "messages"),
    "conversations": ("sft", lambda p, w, l: {"conversations": [human(p), gpt(w)]}, "conversations"),
    "prompt and completion": ("sft", lambda p, w, l: {"prompt": p, "completion": w}, "completion"),
    "instruction": ("sft", lambda p, w, l: {"instruction": p, "input": "", "output": w}, "output"),
    "labelled": ("kto", lambda p, w, l: {"prompt": p, "completion": w, "label": l != ""}, "label"),
    "scored": ("rebel", lambda p, w, l: {"prompt": p, "chosen": w, "rejected": l, "score_chosen": 1, "score_rejected": 0}, "score_chosen"),
    "with the base's": ("xpo", lambda p, w, l: {"prompt": p, "chosen": w, "rejected": l, "base": "is."}, "base"),
    "responses": ("grpo", lambda p, w, l: {"prompt": p, "responses": [l, w], "rewards": [0, 1]}, "rewards"),
    "completions": ("sppo", lambda p, w, l: {"prompt": p, "completions": [l, w], "win_rates": [0.4, 0.6]}, "win_rates"),
}
WORDS = {"": [], "is warm.": [270, 2], "is cold.": [271, 272, 2], LONG: [280] * 40, "The sea": [1, 403], "The sun": [1, 410]}
def ids(make): return lambda p, w, l: make(WORDS[p], WORDS[w], WORDS[l])
LAYOUTS.update({
    "ids of pairs": ("dpo", ids(lambda p, w, l: {"prompt_ids": p, "chosen_ids": w, "rejected_ids": l}), "rejected_ids"),
    "ids of labelled": ("kto", ids(lambda p, w, l: {"prompt_ids": p, "completion_ids": w, "label": True}), "label"),
    "ids of responses": ("rloo", ids(lambda p, w, l: {"prompt_ids": p, "responses_ids": [l, w], "rewards": [0, 1]}), "prompt_ids"),
    "ids of triples": ("t_spin", ids(lambda p, w, l: {"prompt_ids": p, "chosen_ids": w, "rejected_ids": l, "base_ids": w}), "chosen_ids"),
})

def rows_of(name):
    method, make, member = LAYOUTS[name]
    good = [make("The sea", "is warm.", "is cold."), make("The sun", "is cold.", "is warm.")]
    missing = dict(good[0])
    del missing[member]
    bad = [("missing", missing, member.split("_")[0]),
           ("empty", make("The sun", "", "is cold."), "expected"),
           ("long", make("The sun", LONG, "is cold."), "expected at most 30 tokens with its prompt, found ")]
    return method, good, bad

def jsonl(path, rows, pack=open):
    with pack(path, "wt") as f:
        f.writelines((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
    return [f"{path}:{i + 1}: " for i in range(len(rows))]

def as_csv(path, rows):
    names = list(rows[0])
    text = lambda v: v if isinstance(v, str) else json.dumps(v)
    with open(path, "w", newline="") as f:
        f.write(",".join(names) + "\r\n")
        for r in rows:
            if isinstance(r, str):
                f.write(r + "\r\n")
            else:
                csv.writer(f).writerow([text(r[n]) if n in r else "" for n in names])
    return [f"{path}:{i + 2} (row {i + 1}): " for i in range(len(rows))]

# Parquet of texts: one group, one plain page a column, missing values as nulls.
def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def zigzag(n): return varint(n << 1 if n >= 0 else (-n << 1) - 1)
def struct_of(*fields): # (id, value): an int (32 bits), a str, a list of structs or ints, or a struct
    out, last = b"", 0
    for number, value in fields:
        kind = {int: 5, str: 8, list: 9, bytes: 12, tuple: 6}[type(value)]
        out += bytes([(number - last) << 4 | kind]) + encode(value)
        last = number
    return out + b"\0"
def encode(value):
    if isinstance(value, int): return zigzag(value)
    if isinstance(value, tuple): return zigzag(value[0])
    if isinstance(value, str): return varint(len(value.encode())) + value.encode()
    if isinstance(value, bytes): return value
    kind = {int: 5, str: 8, bytes: 12}[type(value[0])]
    head = bytes([len(value) << 4 | kind]) if len(value) < 15 else bytes([0xF0 | kind]) + varint(len(value))
    return head + b"".join(map(encode, value))
def parquet(path, rows):
    names = list(rows[0])
    out, chunks = b"PAR1", []
    for name in names:
        values = [r.get(name) for r in rows]
        bits = sum((v is not None) << i for i, v in enumerate(values))
        groups = (len(values) + 7) // 8
        levels = varint(groups << 1 | 1) + bits.to_bytes(groups, "little")
        page = struct.pack("<I", len(levels)) + levels + b"".join(
            struct.pack("<I", len(v.encode())) + v.encode() for v in values if v is not None)
        header = struct_of((1, 0), (2, len(page)), (3, len(page)),
                           (5, struct_of((1, len(values)), (2, 0), (3, 3), (4, 3))))
        meta = struct_of((1, 6), (2, [0, 3]), (3, [name]), (4, 0), (5, (len(values),)),
                         (6, (len(header + page),)), (7, (len(header + page),)), (9, (len(out),)))
        chunks.append(struct_of((2, (len(out),)), (3, meta)))
        out += header + page
    schema = [struct_of((4, "schema"), (5, len(names)))]
    schema += [struct_of((1, 6), (3, 1), (4, n), (6, 0)) for n in names]
    footer = struct_of((1, 1), (2, schema), (3, (len(rows),)),
                       (4, [struct_of((1, chunks), (2, (len(out),)), (3, (len(rows),)))]))
    open(path, "wb").write(out + footer + struct.pack("<I", len(footer)) + b"PAR1")
    return [f"{path}: row {i + 1}: " for i in range(len(rows))]

def check(what, method, good, bad, write, path):
    # Alone behind a good row, each stops the training at its place; --on-long skip is for long ones.
    for kind, row, reason in bad:
        where = write(path, [good[0], row, good[1]])
        code, text = train(path, method)
        expect(f"{what}, {kind}: stop", code != 0 and where[1] in text and reason in text.split(where[1], 1)[1], text)
        code, text = train(path, method, "--on-long", "skip")
        expect(f"{what}, {kind}: --on-long skip", (code == 0) == (kind == "long"), text)
    # All of them are left out, each with its place and reason.
    where = write(path, [good[0]] + [row for _, row, _ in bad] + [good[1]])
    code, text = train(path, method, "--on-bad-row", "skip")
    expect(f"{what}: skip", code == 0 and f"2 rows to learn from, {len(bad)} left out" in text, text)
    for (kind, _, reason), at in zip(bad, where[1:]):
        line = text.split("left out: " + at, 1)
        expect(f"{what}, {kind}: left out", len(line) == 2 and reason in line[1].split("\n")[0], text)
    # And nothing is left of a file without a good one.
    write(path, [row for _, row, _ in bad])
    code, text = train(path, method, "--on-bad-row", "skip")
    expect(f"{what}: none", code != 0 and path in text and "none that can be used" in text, text)

BROKEN = ("broken", '{"prompt": "The sun", "chosen', "expected JSON")
for name in LAYOUTS:
    method, good, bad = rows_of(name)
    check(name, method, good, bad + [BROKEN], jsonl, folder + "/rows.jsonl")
for name in ("preference", "ids of pairs", "responses"):
    method, good, bad = rows_of(name)
    check(name + " in gzip", method, good, bad + [BROKEN], lambda p, r: jsonl(p, r, gzip.open), folder + "/rows.jsonl.gz")
for name in ("preference", "instruction preference", "prompt and completion", "responses", "ids of pairs"):
    method, good, bad = rows_of(name)
    # a missing field is an empty cell
    bad = [(kind, row, "expected" if kind == "missing" else reason) for kind, row, reason in bad]
    check(name + " in CSV", method, good, bad + [("broken", "a", "fields, as the header has, found 1")], as_csv, folder + "/rows.csv")
for name in ("preference", "instruction preference", "prompt and completion"):
    method, good, bad = rows_of(name)
    check(name + " in Parquet", method, good, bad, parquet, folder + "/rows.parquet")
sys.exit(failed > 0)
END
verdict
