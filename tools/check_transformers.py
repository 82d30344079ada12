#!/usr/bin/env python3
"""Hold a checkpoint that spar wrote against Hugging Face transformers.

usage: check_transformers.py SPAR FOLDER [TEXTS]

SPAR is the program, FOLDER a checkpoint (RUN/final). TEXTS is a JSON list of {"text"} rows to
tokenise beside the built-in ones; where a row has "ids" and the model's tokenizer is the one that
made them, they are compared too (--golden).

Checked: the folder loads in AutoModelForCausalLM and AutoTokenizer; both give the same token ids,
the same rendered chat, and logits within 1e-3. The exit status is 0 when all agree, 1 otherwise.
Needs torch, transformers and safetensors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-3
TEXTS = [
    "",
    "Sort these numbers: 12, 7, 93 and 5.",
    "  two  spaces\n\n\tand a tab; it's 1234567 o'clock",
    "naïve Straße, 日本語, العربية, e\u0301 and 👩‍👩‍👧 are text too",
    "def f(x):\n    return x**2  # comment\r\n",
]
CONVERSATIONS = [
    [{"role": "user", "content": "What is the largest of 4, 9 and 2?"}],
    [
        {"role": "system", "content": "You answer with a number."},
        {"role": "user", "content": "7 x 8?"},
        {"role": "assistant", "content": "56"},
        {"role": "user", "content": "And 7 x 9?"},
    ],
]


class Checks:
    def __init__(self):
        self.failed = 0

    def add(self, name, same, detail=""):
        self.failed += not same
        print(f"{'ok  ' if same else 'FAIL'} {name}{': ' + detail if detail else ''}")


def run_rows(spar, arguments, rows):
    """The rows that a spar command gives for these rows."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run(
        [spar, *arguments], input=text.encode(), stdout=subprocess.PIPE, check=False
    )
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    if len(answers) != len(rows):
        sys.exit(f"spar {arguments[0]}: {len(rows)} rows gave {len(answers)}")
    return answers


def check_ids(checks, spar, folder, tokenizer, texts, golden):
    rows = [{"text": row["text"]} for row in texts]
    for special in (True, False):
        flags = [] if special else ["--no-special"]
        answers = run_rows(spar, ["tokenize", "-m", folder, *flags], rows)
        wrong = 0
        for row, answer in zip(texts, answers):
            expected = tokenizer(row["text"], add_special_tokens=special)["input_ids"]
            if answer.get("ids") != expected or (golden and not special and row["ids"] != expected):
                wrong += 1
                if wrong == 1:
                    print(f"     text {row['text']!r}\n     spar {answer}\n     HF   {expected}")
        name = "token ids" if special else "token ids, nothing added"
        checks.add(name, wrong == 0, f"{len(rows) - wrong} of {len(rows)} texts agree")


def check_chat(checks, spar, folder, tokenizer):
    if not tokenizer.chat_template:
        print("     no chat template")
        return
    for prompt in (False, True):
        flags = ["--generation-prompt"] if prompt else []
        rows = [{"messages": messages} for messages in CONVERSATIONS]
        answers = run_rows(spar, ["render", "-m", folder, *flags], rows)
        for i, answer in enumerate(answers):
            expected = tokenizer.apply_chat_template(
                CONVERSATIONS[i], tokenize=False, add_generation_prompt=prompt
            )
            same = answer.get("text") == expected
            checks.add(f"chat {i}{', generation prompt' if prompt else ''}", same)
            if not same:
                print(f"     spar {answer}\n     HF   {expected!r}")


def check_logits(checks, spar, folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        if len(ids) >= 2:
            rows.append(ids)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "logits.safetensors")
        run_rows(
            spar,
            ["score", "-m", folder, "--dtype", "f32", "--logits", path],
            [{"ids": ids} for ids in rows],
        )
        logits = load_file(path)
    for i, ids in enumerate(rows):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0]
        found = logits[f"logits.{i}"]
        same_shape = found.shape == expected.shape
        worst = (found - expected).abs().max().item() if same_shape else float("nan")
        checks.add(f"logits {i}", worst <= TOLERANCE, f"{len(ids)} tokens, largest gap {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar", help="the spar program")
    parser.add_argument("folder", help="a checkpoint folder that spar wrote")
    parser.add_argument("texts", nargs="?", help='more texts: a JSON list of {"text"} rows')
    parser.add_argument(
        "--golden", action="store_true", help='compare with the "ids" of TEXTS as well'
    )
    arguments = parser.parse_args()
    texts = [{"text": text} for text in TEXTS]
    more = []
    if arguments.texts:
        with open(arguments.texts, encoding="utf-8") as file:
            more = json.load(file)

    checks = Checks()
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    check_ids(checks, arguments.spar, arguments.folder, tokenizer, texts, False)
    if more:
        check_ids(
            checks, arguments.spar, arguments.folder, tokenizer, more, arguments.golden
        )
    check_chat(checks, arguments.spar, arguments.folder, tokenizer)
    check_logits(checks, arguments.spar, arguments.folder, tokenizer)
    print("all agree" if not checks.failed else f"{checks.failed} checks failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
