#!/usr/bin/env python3
"""Hold spar's tokenizers against the Hugging Face tokenizers library on random strings.

usage: compare_tokenizers.py SPAR TOKENIZER.json|tekken.json... [--rows N] [--seed N] [--show N] [--offsets]

Each string is encoded by both with special tokens, and the ids decoded by both. With --offsets the places of
the tokens are compared too, the library's without trimming. Strings mix scripts,
combining marks, emoji, controls, code, long runs, pieces of the vocabulary and look-alikes of its
added tokens. The exit status is 0 when all agree, 1 otherwise. Needs tokenizers, for
tekken.json also transformers and mistral-common.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer

BATCH = 10000

# Ranges of code points, drawn from alike.
SCRIPTS = [
    (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F),
    (0x2B0, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4),
    (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE01, 0xE5B),
    (0xF00, 0xFDA), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FD),
    (0x1680, 0x169C), (0x1780, 0x17F9), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2000, 0x206F),
    (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x24FF),
    (0x2500, 0x27BF), (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3041, 0x30FF), (0x3131, 0x318E),
    (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xA640, 0xA69F), (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF), (0xF900, 0xFAD9), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF01, 0xFFEE),
    (0xFFF0, 0xFFFF), (0x10000, 0x100FA), (0x10330, 0x1034A), (0x1D400, 0x1D7FF),
    (0x1F100, 0x1F1FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF),
    (0x2F800, 0x2FA1D), (0xE0020, 0xE007F), (0xE0100, 0xE01EF), (0xF0000, 0xF00FF),
]  # fmt: skip
FRAGMENTS = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\r", "\v", "\f", "\x1c", "\x1f", "\x85", "\xa0",
    "\u2028", "\u3000", "\u200b", "\u200c", "\u200d", "\ufeff", "\ufffd", "\u180e", "\u2581", "\u00ad",
    "'s", "'T", "'re", "'VE", "'ll", "'d", "'M", "\u2019s", "'\u017f", "'ſ", "don't", "I'M",
    "1", "12", "123", "1234567", "3.14", "0x1F", "٣٤", "²", "½", "Ⅷ", "①", "e\u0301", "Ǆ", "ﬁ", "ß", "İ", "ı",
    "K", "Å", "\u1100\u1161\u11a8", "각", "\u0958", "क्षि", "👩\u200d👩\u200d👧", "🇩🇪🇫", "👍🏽", "❤\ufe0f",
    "1\ufe0f\u20e3", "!", "?!", "...", "--", "==", "->", "://", "_", "#", "##", "@", "\\", "\"", "<", ">", "|",
    "<|", "|>", "<s", "</s", "s>", "[MASK", "<0x0A>", "<0xFF>", "▁the", "Ġthe", "the", " the", " The", "THE",
    "return", "def f(x):", "a" * 40, " " * 40, "0" * 40, "ab" * 30, "=" * 50, "\n" * 20, "é" * 30,
]  # fmt: skip


def code_point(rng):
    low, high = rng.choice(SCRIPTS)
    return chr(rng.randint(low, high))


def any_code_point(rng):
    c = rng.randrange(1, 0x110000)
    return chr(c if not 0xD800 <= c < 0xE000 else c - 0x800)


def run(rng):
    piece = rng.choice(FRAGMENTS) if rng.random() < 0.5 else code_point(rng)
    return piece * int(2 ** rng.uniform(1, 8))


def word(rng):
    low, high = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))


class Strings:
    def __init__(self, seed, vocabulary, added):
        self.rng = random.Random(seed)
        self.vocabulary = vocabulary
        self.added = added or ["<s>"]

    def look_alike(self):
        """An added token, as it is or marred."""
        rng = self.rng
        text = rng.choice(self.added)
        at = rng.randrange(len(text) + 1)
        return rng.choice(
            [text, text, " " + text + " ", text[:at], text[at:], text[:at] + "x" + text[at:],
             text.upper(), text + text, "\n" + text, text + "\u00a0", "a" + text + "b"]
        )  # fmt: skip

    def piece(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.25:
            return rng.choice(FRAGMENTS)
        if kind < 0.40:
            return word(rng)
        if kind < 0.52:
            return " " + word(rng)
        if kind < 0.65:
            return rng.choice(self.vocabulary).replace("Ġ", " ").replace("▁", " ").replace("##", "")
        if kind < 0.80:
            return code_point(rng)
        if kind < 0.85:
            return any_code_point(rng)
        if kind < 0.92:
            return chr(rng.randint(1, 0x7F))
        if kind < 0.97:
            return self.look_alike()
        return run(rng)

    def string(self):
        n = int(2 ** self.rng.uniform(0, 5))
        return "".join(self.piece() for _ in range(n)).replace("\0", "")


def spar_rows(spar, arguments, rows):
    """The rows that a spar command gives for these rows."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run(
        [spar, "tokenize", *arguments], input=text.encode(), stdout=subprocess.PIPE, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(rows):
        sys.exit(f"spar tokenize: {len(rows)} rows gave {len(answers)}")
    return answers


class Tally:
    def __init__(self, show):
        self.differ = 0
        self.show = show

    def add(self, what, given, ours, theirs):
        if ours == theirs:
            return
        self.differ += 1
        if self.differ <= self.show:
            print(f"  {what} {given!r}\n    spar    {ours!r}\n    library {theirs!r}")


def trim_nothing(processor):
    """Make a post-processor, or a sequence of them, leave offsets as they are; whether it trimmed any."""
    parts = [one for one in (processor or {}).get("processors", [processor or {}]) if one.get("trim_offsets")]
    for one in parts:
        one["trim_offsets"] = False
    return bool(parts)


def load_tekken(path):
    """As transformers converts it, with the BOS that mistral-common's encoder adds."""
    from tokenizers.processors import TemplateProcessing
    from transformers.integrations.mistral.tokenizer import MistralConverter

    tokenizer = MistralConverter(path).converted()
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return tokenizer


def load(path):
    if "tekken" in os.path.basename(path):
        return load_tekken(path)
    with open(path, encoding="utf-8") as file:
        source = json.load(file)
    trimmed = trim_nothing(source.get("post_processor"))
    return Tokenizer.from_str(json.dumps(source)) if trimmed else Tokenizer.from_file(path)


def compare_offsets(spar, path, tokenizer, texts, tally):
    """Of the strings whose ids are alike. The library's offsets are of the first of the characters that normalisation
    joins, and behind what normalisation or the vocabulary loses they are too low; such strings are left out."""
    ours = spar_rows(spar, ["-m", path, "--offsets"], [{"text": text} for text in texts])
    for text, a, b in zip(texts, ours, tokenizer.encode_batch(texts)):
        lost = "\ufffd" in tokenizer.decode(b.ids) or any(c not in "\n\t" and unicodedata.category(c)[0] == "C" for c in text)
        if a.get("ids") == b.ids and not lost and all(unicodedata.is_normalized(form, text) for form in ("NFC", "NFKC")):
            tally.add("offsets", text, a["offsets"], [list(pair) for pair in b.offsets])


def compare(spar, path, rows, seed, show, offsets):
    tokenizer = load(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    strings = Strings(seed, sorted(tokenizer.get_vocab()), added)
    tally = Tally(show)
    for begin in range(0, rows, BATCH):
        texts = [strings.string() for _ in range(min(BATCH, rows - begin))]
        ours = spar_rows(spar, ["-m", path], [{"text": text} for text in texts])
        theirs = [e.ids for e in tokenizer.encode_batch_fast(texts)]
        for text, a, b in zip(texts, ours, theirs):
            tally.add("text", text, a.get("ids", a.get("error")), b)
        if offsets:
            compare_offsets(spar, path, tokenizer, texts, tally)
        ours = spar_rows(spar, ["-m", path, "--decode"], [{"ids": ids} for ids in theirs])
        backs = tokenizer.decode_batch(theirs, skip_special_tokens=False)
        for ids, a, b in zip(theirs, ours, backs):
            tally.add("ids", ids, a.get("text", a.get("error")), b)
    print(f"{path}: {rows} strings, {tally.differ} differences", flush=True)
    return tally.differ


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("--offsets", action="store_true")
    o = parser.parse_args()
    differ = [compare(o.spar, path, o.rows, o.seed, o.show, o.offsets) for path in o.tokenizers]
    sys.exit(any(differ))


if __name__ == "__main__":
    main()
