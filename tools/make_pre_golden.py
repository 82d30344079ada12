#!/usr/bin/env python3
"""Write tests/golden/pre_names.json: token ids that llama.cpp gives for texts, by the names of pre-tokenisers.

usage: make_pre_golden.py VOCAB.gguf OUT.json        (made with llama-cpp-python 0.3.36)

VOCAB.gguf is GPT-2's vocabulary; each name is written into a copy. The texts leave out what llama.cpp splits
otherwise than the tokenizers that the names stand for: capitals within words (some of its patterns do not tell
them apart), digits beside letters (\\b), and text that is not NFC.
"""

import json
import os
import struct
import sys
import tempfile

from llama_cpp import Llama

NAMES = (
    "default gpt-2 smollm falcon llama-bpe glm4 qwen2 stablelm2 gpt-4o tekken minicpm5 laguna jais-2 ufakzeka "
    "exaone-moe granite-embed-multi-97m tiny_aya youtu kimi-k2 superbpe chameleon deepseek-llm spark2_5 afmoe "
    "deepseek-coder deepseek-v3 qwen35 bailingmoe seed-coder bloom viking"
).split()
TEXTS = [
    "Hello world, it's  here.\n\nDon't I'LL stop?", "12345 1234567 1 22 333 4444 +55555\t3.14159",
    "a+b=c $100 (foo_bar) #include <x>", "中文字，日本語テキスト。カタカナ",
    "Привет мир, ελληνικά naïve", "हिन्दी แมว 한국어 ㅋㅋ", "x\r\n\r\ny \n z\n\n\n", "   lead" + " " * 37 + "tail   ",
    "👍👩‍👧 😀😀 <|x|> [a]{b}~`^", "“quoted” — ½ ² ٣٤ ⅷ … ‘s’", "http://a.b/c?d=1&e=2 /path/to/ ...!?",
    "'Tis 's ' the THE Straße ß\u00a0ß\u3000。、", "<sentinel:12> IMGIMGABZ !!x", " a b c d\n/e \n\t f",
]  # fmt: skip
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEXT, ARRAY, PRE = 8, 9, b"tokenizer.ggml.pre"


def behind(raw, at, kind):
    """Where a value ends."""
    if kind == TEXT:
        return at + 8 + struct.unpack_from("<Q", raw, at)[0]
    if kind == ARRAY:
        kind, n = struct.unpack_from("<IQ", raw, at)
        at += 12
        for _ in range(n):
            at = behind(raw, at, kind)
        return at
    return at + SIZES[kind]


def named(raw, name):
    """The file's metadata with the name in it."""
    version, _, n = struct.unpack_from("<IQQ", raw, 4)
    at, kept = 24, []
    for _ in range(n):
        begin, length = at, struct.unpack_from("<Q", raw, at)[0]
        key = raw[at + 8 : at + 8 + length]
        kind = struct.unpack_from("<I", raw, at + 8 + length)[0]
        at = behind(raw, at + 12 + length, kind)
        if key != PRE:
            kept.append(raw[begin:at])
    text = name.encode()
    kept.append(struct.pack("<Q", len(PRE)) + PRE + struct.pack("<IQ", TEXT, len(text)) + text)
    out = b"GGUF" + struct.pack("<IQQ", version, 0, len(kept)) + b"".join(kept)
    return out + bytes(-len(out) % 32)


def main(vocab, out):
    with open(vocab, "rb") as f:
        raw = f.read()
    ids = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            path = os.path.join(folder, "v.gguf")
            with open(path, "wb") as f:
                f.write(named(raw, name))
            llama = Llama(path, vocab_only=True, n_ctx=8, verbose=False)
            ids[name] = [llama.tokenize(text.encode(), add_bos=False) for text in TEXTS]
            llama.close()
    with open(out, "w") as f:
        lines = [f"{json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}" for name, rows in ids.items()]
        f.write(f'{{"texts": {json.dumps(TEXTS)},\n"ids": {{\n' + ",\n".join(lines) + "}}\n")


main(*sys.argv[1:])
