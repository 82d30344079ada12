#!/usr/bin/env python3
"""Hold the GGUF files that spar writes against llama.cpp.

usage: check_llama_cpp.py SPAR MODEL... [--text FILE] [--types f32,q8_0,...]

SPAR is the program. Each MODEL is exported in each type; llama.cpp opens the file and reads some hundred
tokens: of the text FILE, or, of a model without a tokenizer (tools/make_wide_models.py), random ones.
Checked: both give the same token ids, and the same most likely next token wherever spar's two best
logits are 0.5 apart or more. The exit status is 0 when all agree, 1 otherwise. Needs llama-cpp-python
and numpy.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

TOKENS, CHARACTERS, APART = 256, 1500, 0.5


def read_logits(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        entry = json.loads(f.read(n))["logits.0"]
        begin, end = entry["data_offsets"]
        f.seek(8 + n + begin)
        return np.frombuffer(f.read(end - begin), "<f4").reshape(entry["shape"])


def run(spar, arguments, row):
    done = subprocess.run([spar, *arguments], input=json.dumps(row), text=True, check=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def ids_of(spar, path, llama, text):
    """Ids to read, and whether both programs tokenise alike."""
    if llama.metadata["tokenizer.ggml.model"] == "none":
        draw = random.Random(7)
        return [draw.randrange(3, llama.n_vocab()) for _ in range(TOKENS)], True
    if text is None:
        sys.exit(f"{path}: the model has a tokenizer: name a text file with --text")
    theirs = llama.tokenize(text.encode(), add_bos=True, special=True)
    ours = run(spar, ["tokenize", "-m", path], {"text": text})["ids"]
    return ours[:TOKENS], theirs == ours


def check(spar, model, text, kind, folder):
    path = os.path.join(folder, kind + ".gguf")
    subprocess.run([spar, "export", "-m", model, "-t", kind, "-o", path], check=True,
                   stdout=subprocess.DEVNULL)
    # One token at a time: llama.cpp's products by AMX, which batches take, crashed where this was tried.
    # The cache is f32 (type 0): a mixture's token between two experts tips over by the rounding of f16.
    llama = Llama(path, n_ctx=TOKENS, n_batch=1, type_k=0, type_v=0, logits_all=True, verbose=False)
    ids, same = ids_of(spar, path, llama, text)
    llama.eval(ids)
    found = np.array(llama.scores[:len(ids)])
    logits = os.path.join(folder, "logits.safetensors")
    run(spar, ["score", "-m", path, "--logits", logits], {"ids": ids})
    wanted = read_logits(logits)
    best = np.sort(wanted, axis=1)
    sure = best[:, -1] - best[:, -2] >= APART
    wrong = sure & (wanted.argmax(1) != found.argmax(1))
    good = same and not wrong.any()
    print(f"{model} {kind}: ids {'same' if same else 'DIFFER'}, {int(sure.sum())} of {len(ids)} "
          f"positions sure, {int(wrong.sum())} differ, largest difference of logits "
          f"{np.abs(wanted - found).max():.3g}: {'ok' if good else 'FAIL'}", flush=True)
    llama.close()
    os.remove(path)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("spar")
    parser.add_argument("models", nargs="+", metavar="model")
    parser.add_argument("--text")
    parser.add_argument("--types", default="f32,f16,bf16,q8_0,q4_0,q4_k")
    options = parser.parse_args()
    text = None
    if options.text:
        with open(options.text, encoding="utf-8") as f:
            text = f.read(CHARACTERS)
    with tempfile.TemporaryDirectory() as folder:
        results = [check(options.spar, model, text, kind, folder)
                   for model in options.models for kind in options.types.split(",")]
    sys.exit(0 if all(results) else 1)


main()
