#!/usr/bin/env python3
"""Print the rows of tests/unit/text/test_unicode_steps.c: checksums of what the Hugging Face tokenizers
library makes of all code points, step by step.

The text is each code point from U+0001 on, surrogates left out, with an x behind it, in parts of 4,096
code points. The sum is the CRC-32 of the normalised parts, or of their pieces with U+00FF bytes between.
Needs tokenizers.
"""

import json
import zlib

from tokenizers import Tokenizer

NORMALIZERS = [
    {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
    {"type": "Nmt"}, {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False},
    {"type": "Replace", "pattern": {"Regex": "\\p{M}|\\s"}, "content": "-"},
]  # fmt: skip
PRE_TOKENIZERS = [
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    {"type": "Digits", "individual_digits": False}, {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"}, {"type": "UnicodeScripts"},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
] + [
    {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}
    for pattern in (
        "\\p{Lu}|\\p{Lt}", "\\p{Ll}", "\\p{Lm}|\\p{Mc}", "\\p{Lo}", "\\p{Mn}|\\p{Me}", "\\p{Nd}|\\p{Pc}|\\p{Pd}", "\\p{Nl}|\\p{Sm}",
        "\\p{No}|\\p{Sc}", "\\p{P}", "\\p{S}", "\\p{Sk}|\\p{Cf}", "\\p{C}|\\p{Zs}", "\\s|\\p{Co}", "[^\\s\\p{L}\\p{N}]", "\\d|\\p{Han}",
        "\\p{Hangul}|\\p{Hiragana}", "(?i:s|k)", "\\w", "[\\w]", "[^\\W\\d]|\\W",
    )
]  # fmt: skip
PART = 4096


def main():
    code_points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    parts = [
        "".join(chr(c) + "x" for c in code_points[at : at + PART]) for at in range(0, len(code_points), PART)
    ]
    for kind, steps in (("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS)):
        for step in steps:
            model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
            tokenizer = Tokenizer.from_str(json.dumps({kind: step, "model": model}))
            total = 0
            for part in parts:
                if kind == "normalizer":
                    out = tokenizer.normalizer.normalize_str(part).encode()
                else:
                    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(part)
                    out = b"".join(piece.encode() + b"\xff" for piece, _ in pieces)
                total = zlib.crc32(out, total)
            print(f"    {{SP_{kind.upper()}, {json.dumps(json.dumps(step))}, 0x{total:08X}}},")


if __name__ == "__main__":
    main()
