#!/usr/bin/env python3
"""Hold PairRM in spar against the values that were published with it.

usage: check_pairrm.py SPAR FOLDER [--dtype TYPE]

SPAR is the program, FOLDER the model as its authors publish it, llm-blender/PairRM-hf or
llm-blender/PairRM, with tokenizer files (spar pull gets either). Compared are the logits of two
pairs, read with the first candidate first, from the notebook pairrm_to_hf.ipynb of
github.com/yuchenlin/LLM-Blender, and their signs. The exit status is 0 when both agree within
1e-3 (bf16: 0.1), else 1. Needs nothing but Python.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

PUBLISHED = [
    ("hello!", ["hi!", "f**k off!"], 1.9003021717071533),
    ("I love you!", ["I hate you!", "I love you, too!"], -1.2547134160995483),
]
TOLERANCE = {"f32": 1e-3, "bf16": 0.1}


def judge(spar, folder, dtype):
    with tempfile.TemporaryDirectory() as scratch:
        data = os.path.join(scratch, "rows.jsonl")
        with open(data, "w", encoding="utf-8") as rows:
            for prompt, responses, _ in PUBLISHED:
                rows.write(json.dumps({"prompt": prompt, "responses": responses}) + "\n")
        done = subprocess.run(
            [spar, "judge", "--judge", "pairrm:" + folder, "--dtype", dtype, "--data", data],
            check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("folder")
    parser.add_argument("--dtype", choices=sorted(TOLERANCE), default="f32")
    options = parser.parse_args()
    failed = 0
    for (prompt, _, want), row in zip(PUBLISHED, judge(options.spar, options.folder,
                                                       options.dtype), strict=True):
        found = row["logits"][0][1]
        good = abs(found - want) <= TOLERANCE[options.dtype] and (found > 0) == (want > 0)
        failed += not good
        print(f"{'ok' if good else 'FAILED'}: {prompt!r}: published {want:.7f}, found {found:.7f}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
