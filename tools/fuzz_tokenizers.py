#!/usr/bin/env python3
"""Hold spar against the Hugging Face tokenizers library on small tokenizer.json files composed at random.

usage: fuzz_tokenizers.py SPAR [--rounds N] [--seed N] [--show N] [--keep DIR]

A round draws an alphabet, a model with a vocabulary over it, steps of every kind with odd settings, and added
tokens with odd flags; strings over the same alphabet are encoded with and without special tokens, and ids decoded,
by both. A file that only one of the two reads counts as a difference too. --keep saves the files of rounds that
differ. The exit status is 0 when all agree, 1 otherwise. Needs tokenizers.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

LETTERS = "abcdeABCxyz"
ODD = [
    " ", " ", " ", "  ", "\n", "\t", "\r\n", "\xa0", "\u3000", "\u2028", "\u200b", "\ufeff", "\x85", "\x1c", "\x7f",
    "▁", "Ġ", "##", "</w>", "'", "'s", "'ll", ".", ",", "!", "?", "-", "_", "|", "<", ">", "é", "e\u0301", "É", "ß", "İ", "ı", "ς", "Σ",
    "ﬁ", "Å", "ñ", "\u0303", "\u0327", "각", "가", "中", "文", "の", "ー", "カ", "ｶ", "ア", "Ⅷ", "½", "٣", "1", "2", "12", "९", "क्ष", "ा",
    "👍", "👍🏽", "👩\u200d👧", "🇩🇪", "\u0378", "\U0010ffff", "\ue000", "\ufffd", "ж", "Ж", "ת", "א\u05b0", "ก", "\u0e33", "𝐀", "𐐀",
    "<0x41>", "<0x0A>", "n't", " do not", " 've", "¿", "«", "$", "+", "^", "`", "~", "€", "²", "º", "ª", "\u0345",
]  # fmt: skip
PATTERNS = [
    r"\s+", r"\s", r"\w+", r"\w+|\s+", r"[^\s\w]+", r"\d", r"\d{1,3}", r"\p{L}+", r"\p{N}", r" ?\p{L}+", r"(?=\d)", r"\b", r"a|ab",
    r"\p{Lu}?\p{Ll}+", r"(?i:'s|'t|'ll)", r"\s+(?!\S)|\s+", r"[\r\n]+", r"a*", r"(?<=a)b", r".", r"[a-c]+", r"\p{P}", r"[^a]", r"$", r"^a",
    r"[\p{L}\p{M}]+", r"\p{Han}", r"a+?", r"(a)(b)?", r"\S+\s?", r" {2,}", r"\R", r"[[:punct:]]", r"[[:alpha:]]+", r"x??", r"\h",
]  # fmt: skip


EMPTY = ["", r"(?=\d)", r"\b", r"a*", r"$", r"x??"]  # may match nothing


class Round:
    """One random file, and texts for it."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        rng = self.rng
        self.letters = rng.sample(LETTERS, rng.randint(2, 7))
        self.odd = rng.sample(ODD, rng.randint(3, 25))
        self.symbols = self.letters + self.odd

    def chance(self, p):
        return self.rng.random() < p

    def flag(self):
        return self.chance(0.5)

    def piece(self, longest=4):
        return "".join(self.rng.choice(self.symbols) for _ in range(self.rng.randint(1, longest)))

    def some(self, makers, most):
        return [self.rng.choice(makers)() for _ in range(self.rng.randint(1, most))]

    def stage(self, makers, kind, most=3):
        """null, one step or a sequence of them."""
        if self.chance(0.25):
            return None
        steps = self.some(makers, most)
        return steps[0] if len(steps) == 1 and self.flag() else {"type": "Sequence", kind: steps}

    def pattern(self):
        rng = self.rng
        return {"Regex": rng.choice(PATTERNS)} if self.flag() else {"String": rng.choice(["", "", " ", "a", "ab", self.piece(2), self.piece(3)])}

    def rewrite(self):
        """A normalizer; the library repeats parts of the text where it replaces nothing by something."""
        while True:
            step = self.replace()
            if next(iter(step["pattern"].values())) not in EMPTY:
                return step

    def replace(self):
        return {"type": "Replace", "pattern": self.pattern(), "content": self.rng.choice(["", " ", "▁", "a", "ab", self.piece(2)])}

    def metaspace(self):
        scheme = self.rng.choice(["always", "first", "never"])
        step = {"type": "Metaspace", "replacement": self.rng.choice(["▁", "▁", "_", "é", " ", "a"]), "prepend_scheme": scheme, "split": self.flag()}
        if self.chance(0.3):
            step["add_prefix_space"] = scheme != "never"
        if self.chance(0.2):
            del step["split"]
        return step

    def byte_level(self):
        step = {"type": "ByteLevel", "add_prefix_space": self.flag(), "trim_offsets": self.flag(), "use_regex": self.flag()}
        return step

    def normalizer(self):
        plain = [lambda name=name: {"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")]
        bert = lambda: {"type": "BertNormalizer", "clean_text": self.flag(), "handle_chinese_chars": self.flag(),
                        "strip_accents": self.rng.choice([None, True, False]), "lowercase": self.flag()}
        strip = lambda: {"type": "Strip", "strip_left": self.flag(), "strip_right": self.flag()}
        prepend = lambda: {"type": "Prepend", "prepend": self.rng.choice(["▁", " ", "a", self.piece(2)])}
        return self.stage([*plain, bert, strip, prepend, prepend, self.rewrite, self.rewrite, self.rewrite], "normalizers")

    def pre_tokenizer(self):
        behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
        plain = [lambda name=name: {"type": name} for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts")]
        split = lambda: {"type": "Split", "pattern": self.pattern(), "behavior": self.rng.choice(behaviors), "invert": self.flag()}
        others = [
            lambda: {"type": "Digits", "individual_digits": self.flag()},
            lambda: {"type": "Punctuation", "behavior": self.rng.choice(behaviors)},
            lambda: {"type": "CharDelimiterSplit", "delimiter": self.rng.choice([" ", "a", "é", "中", "-"])},
            lambda: {"type": "FixedLength", "length": self.rng.randint(1, 5)},
        ]
        return self.stage([*plain, split, split, split, *others, self.metaspace, self.metaspace, self.byte_level, self.byte_level], "pretokenizers")

    def decoder(self):
        plain = [lambda name=name: {"type": name} for name in ("ByteFallback", "Fuse")]
        others = [
            lambda: {"type": "Strip", "content": self.rng.choice([" ", "a", "▁", "é"]), "start": self.rng.randint(0, 2), "stop": self.rng.randint(0, 2)},
            lambda: {"type": "WordPiece", "prefix": self.rng.choice(["##", "a", ""]), "cleanup": self.flag()},
            lambda: {"type": "BPEDecoder", "suffix": self.rng.choice(["</w>", "a"])},
            lambda: {"type": "CTC", "pad_token": self.rng.choice(["<pad>", "a"]), "word_delimiter_token": self.rng.choice(["|", "b"]), "cleanup": self.flag()},
        ]
        return self.stage([*plain, *plain, *others, self.replace, self.metaspace, self.metaspace, self.byte_level, self.byte_level], "decoders")

    def tokens(self):
        """Texts for a vocabulary: symbols, joins of them, bytes, words in the byte-level alphabet."""
        rng = self.rng
        single = {c for symbol in self.symbols for c in symbol if self.chance(0.8)}
        if self.chance(0.5):
            single |= {bytes_to_alphabet(bytes([b])) for symbol in self.symbols for b in symbol.encode()}
        joins = {self.piece() for _ in range(rng.randint(0, 40))}
        joins |= {"▁" + rng.choice(self.letters) for _ in range(3)} | {bytes_to_alphabet(self.piece(2).encode()) for _ in range(5)}
        if self.chance(0.4):
            joins |= {f"<0x{b:02X}>" for b in range(256) if self.chance(0.97)}
        return sorted(single), sorted(joins - single)

    def bpe(self):
        rng = self.rng
        prefix = rng.choice(["", "", "", "##", "a"])
        suffix = rng.choice(["", "", "", "</w>", "b"])
        single, _ = self.tokens()
        vocab = set(single)
        if prefix or suffix:
            vocab |= {prefix + c for c in single} | {c + suffix for c in single} | {prefix + c + suffix for c in single}
        merges = []
        for _ in range(rng.randint(0, 60)):
            pool = sorted(vocab)
            left, right = rng.choice(pool), rng.choice(pool)
            if prefix and not right.startswith(prefix):
                continue
            if suffix and left.endswith(suffix):
                continue
            if [left, right] in merges:
                continue
            merges.append([left, right])
            vocab.add(left + right[len(prefix):])
        vocab |= {f"<0x{b:02X}>" for b in range(256)} if self.chance(0.3) else set()
        vocab |= {self.piece() for _ in range(5)}
        vocab = self.numbered(vocab)
        model = {"type": "BPE", "dropout": None, "unk_token": rng.choice([None, rng.choice(sorted(vocab)), "[UNK]"]),
                 "continuing_subword_prefix": prefix or None, "end_of_word_suffix": suffix or None, "fuse_unk": self.flag(),
                 "byte_fallback": self.flag(), "ignore_merges": self.chance(0.3), "vocab": vocab, "merges": merges}
        if model["unk_token"] and model["unk_token"] not in vocab:
            vocab[model["unk_token"]] = len(vocab)
        return model

    def numbered(self, texts):
        texts = sorted(t for t in texts if t)
        self.rng.shuffle(texts)
        return {text: i for i, text in enumerate(texts)}

    def unigram(self):
        rng = self.rng
        single, joins = self.tokens()
        texts = list(self.numbered(set(single) | set(joins)))
        vocab = [[text, round(-rng.uniform(0, 12), rng.choice([0, 1, 4]))] for text in texts]
        unk = rng.randrange(len(vocab)) if self.chance(0.85) else None
        if unk is not None and self.flag():
            vocab[unk][0] = "<unk>"
        return {"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": self.flag()}

    def word_piece(self):
        rng = self.rng
        single, joins = self.tokens()
        prefix = rng.choice(["##", "##", "a", ""])
        vocab = self.numbered(set(single) | set(joins) | {prefix + c for c in single} | {prefix + self.piece() for _ in range(15)} | {"[UNK]"})
        return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
                "max_input_chars_per_word": rng.choice([100, 5, 2]), "vocab": vocab}

    def word_level(self):
        single, joins = self.tokens()
        vocab = self.numbered(set(single) | set(joins))
        unk = self.rng.choice(["<unk>", self.rng.choice(sorted(vocab))])
        vocab.setdefault(unk, len(vocab))
        return {"type": "WordLevel", "vocab": vocab, "unk_token": unk}

    def added(self, model):
        """Added tokens: ids of the vocabulary's tokens, and new ones behind it."""
        known = {t: i for i, (t, _) in enumerate(model["vocab"])} if model["type"] == "Unigram" else model["vocab"]
        after = len(known)
        rows, seen = [], set()
        for _ in range(self.rng.randint(0, 6)):
            content = self.rng.choice([self.piece(), self.piece(2), "<s>", "<pad>", " " + self.piece(1), self.piece(1) + " ", "A", "ab", self.rng.choice(sorted(known))])
            if content in seen or not content:
                continue
            seen.add(content)
            row = {"id": known.get(content, after), "content": content, "single_word": self.chance(0.3), "lstrip": self.chance(0.3),
                   "rstrip": self.chance(0.3), "normalized": self.flag(), "special": self.flag()}
            after += content not in known
            rows.append(row)
        return sorted(rows, key=lambda row: row["id"])

    def post_processor(self, model):
        known = [t for t, _ in model["vocab"]] if model["type"] == "Unigram" else sorted(model["vocab"])
        index = {t: i for i, t in enumerate(known)} if model["type"] == "Unigram" else model["vocab"]

        def special():
            text = self.rng.choice(known)
            return text, index[text]

        def template():
            names = [special() for _ in range(self.rng.randint(0, 3))]
            single = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in names]
            single.insert(self.rng.randint(0, len(single)), {"Sequence": {"id": "A", "type_id": 0}})
            pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
            return {"type": "TemplateProcessing", "single": single, "pair": pair,
                    "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in names}}

        makers = [
            template, template,
            lambda: {"type": "BertProcessing", "sep": list(special()), "cls": list(special())},
            lambda: {"type": "RobertaProcessing", "sep": list(special()), "cls": list(special()), "trim_offsets": self.flag(), "add_prefix_space": self.flag()},
            self.byte_level,
        ]  # fmt: skip
        found = self.stage(makers, "processors", 2)
        steps = [step["type"] for step in (found or {}).get("processors", [])]
        return found["processors"][0] if "TemplateProcessing" in steps[:1] and steps[1:] not in ([], ["ByteLevel"]) else found

    def file(self):
        model = self.rng.choice([self.bpe, self.bpe, self.unigram, self.word_piece, self.word_level])()
        normalizer, splitter = self.normalizer(), self.pre_tokenizer()
        if "Replace" in json.dumps(normalizer):  # to the library what replaces several characters stands at the last of them
            splitter = json.loads(json.dumps(splitter).replace('"first"', '"always"'))
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": self.added(model), "normalizer": normalizer,
                "pre_tokenizer": splitter, "post_processor": self.post_processor(model), "decoder": self.decoder(), "model": model}

    def texts(self, file, n):
        rng = self.rng
        vocab = file["model"]["vocab"]
        known = [t for t, _ in vocab] if isinstance(vocab, list) else sorted(vocab)
        added = [row["content"] for row in file["added_tokens"]] or ["<s>"]
        rows = ["", " "]
        for _ in range(n):
            count = int(2 ** rng.uniform(0, 4.5))
            kinds = [lambda: rng.choice(self.symbols), lambda: self.piece(), lambda: rng.choice(known), lambda: rng.choice(added), lambda: rng.choice(" \n a")]
            rows.append("".join(rng.choices(kinds, [6, 2, 2, 2, 2])[0]() for _ in range(count)))
        return rows


def bytes_to_alphabet(data):
    """GPT-2's printable stand-ins of bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in printable)}
    return "".join(others.get(b, chr(b)) for b in data)


def spar_rows(spar, arguments, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run([spar, "tokenize", *arguments], input=text.encode(), capture_output=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return answers if len(answers) == len(rows) else done.stderr.decode().strip() or f"status {done.returncode}"


PANIC = object()


def library(call, *arguments):
    """What the library says; None where it refuses, PANIC where it breaks."""
    try:
        return call(*arguments)
    except Exception:
        return None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return PANIC


def drop_alike(file):
    """Leave out added tokens that normalise to nothing, which the library finds everywhere, without end, and those
    that normalise to the same as one before, of which the library takes any."""
    bare = library(Tokenizer.from_str, json.dumps({**file, "added_tokens": []}))
    if bare in (None, PANIC) or not bare.normalizer:
        return
    seen = {"", PANIC}
    for row in list(file["added_tokens"]):
        form = library(bare.normalizer.normalize_str, row["content"])
        if row["normalized"] and form in seen:
            file["added_tokens"].remove(row)
        seen |= {form} if row["normalized"] else set()
    known = len(file["model"]["vocab"])
    for i, row in enumerate(row for row in file["added_tokens"] if row["id"] >= known):
        row["id"] = known + i


def differences(spar, file, texts, ids):
    """Lists of (what, given, ours, theirs)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(file, out)
        theirs = library(Tokenizer.from_file, path)
        first = spar_rows(spar, ["-m", path], [{"text": text} for text in texts])
        if theirs is PANIC or (theirs is None and isinstance(first, str)):
            return []
        if theirs is None or isinstance(first, str):
            return [("file", None, "reads it" if theirs is None else first, "refuses" if theirs is None else "reads it")]
        found = []
        for special in (True, False):
            ours = first if special else spar_rows(spar, ["-m", path, "--no-special"], [{"text": text} for text in texts])
            want = [library(lambda text=text: theirs.encode(text, add_special_tokens=special).ids) for text in texts]
            found += [("text", t, a.get("ids", a.get("error")), b) for t, a, b in zip(texts, ours, want) if b not in (PANIC, a.get("ids"))]
        lists = ids(theirs)
        ours = spar_rows(spar, ["-m", path, "--decode"], [{"ids": one} for one in lists])
        want = [library(lambda one=one: theirs.decode(one, skip_special_tokens=False)) for one in lists]
        found += [("ids", t, a.get("text", a.get("error")), b) for t, a, b in zip(lists, ours, want) if b not in (PANIC, a.get("text"))]
        return found


def shrink(spar, file, what, given):
    """The file without what the difference does not need."""

    def still(smaller):
        texts, lists = ([given], []) if what == "text" else ([], [given] if what == "ids" else [])
        found = differences(spar, smaller, texts, lambda _: lists)
        return any(one[0] == what for one in found)

    file = json.loads(json.dumps(file))
    for key in ("post_processor", "decoder", "normalizer", "pre_tokenizer"):
        if file[key] is not None and still({**file, key: None}):
            file[key] = None
    for key, kind in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders"), ("post_processor", "processors"), ("added_tokens", None)):
        at = 0
        while file[key] and at < len(file[key] if kind is None else file[key].get(kind, [])):
            smaller = json.loads(json.dumps(file))
            del (smaller[key] if kind is None else smaller[key][kind])[at]
            if still(smaller):
                file = smaller
            else:
                at += 1
    return file


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("--keep")
    o = parser.parse_args()
    differ = 0
    for number in range(o.seed * 1000000, o.seed * 1000000 + o.rounds):
        one = Round(number)
        file = one.file()
        drop_alike(file)
        texts = one.texts(file, o.texts)

        def ids(tokenizer):
            size = tokenizer.get_vocab_size()
            lists = [[one.rng.randrange(size) for _ in range(one.rng.randint(0, 8))] for _ in range(o.texts)]
            coded = [library(lambda text=text: tokenizer.encode(text).ids) for text in texts]
            return lists + [x for x in coded if x and x is not PANIC]

        found = differences(o.spar, file, texts, ids)
        differ += bool(found)
        if found and differ <= o.show:
            what, given, ours, theirs = min(found, key=lambda one: len(one[1] or ""))
            file = shrink(o.spar, file, what, given)
            shown = {key: value for key, value in file.items() if key not in ("model", "version") and value}
            model = {key: value for key, value in file["model"].items() if key not in ("vocab", "merges")}
            print(f"round {number}: {len(found)} differences\n  {what} {given!r}\n    spar    {ours!r}\n    library {theirs!r}\n  {json.dumps(shown, ensure_ascii=False)}\n  {model}", flush=True)
            if o.keep:
                with open(os.path.join(o.keep, f"{number}.json"), "w", encoding="utf-8") as out:
                    json.dump(file, out)
    print(f"{o.rounds} rounds, {differ} differ", flush=True)
    sys.exit(differ != 0)


if __name__ == "__main__":
    main()
