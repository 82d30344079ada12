#!/usr/bin/env python3
"""Write src/text/unicode_tables.c: what tokenizers need of the Unicode character database.

usage: make_unicode_tables.py >src/text/unicode_tables.c

The Hugging Face tokenizers library reads text by tables of several ages. The expressions of
tokenizer.json go by the general categories of Unicode 16.0.0, which come from unicodedata2 and are
held against the library. Its normalizers and the BERT steps go by older tables; what those say is
asked of the library, one code point after another. Needs unicodedata2==16.0.0 and
tokenizers; clang-format lays the file out.
"""

import sys

import unicodedata2 as ucd
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn"
).split()
UPPER_LOWER, LOWER_UPPER = 30, 31  # runs that change at every code point: even ones Lu, or Ll
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORY = [ucd.category(chr(c)) for c in range(0x110000)]


def check_library():
    """The library's expressions have the same categories."""
    for name in CATEGORIES:
        if name in ("Cs", "Cn"):
            continue
        if matched(r"\p{%s}" % name) != {c for c in CODE_POINTS if CATEGORY[c] == name}:
            sys.exit(f"the library's {name} is not that of Unicode {ucd.unidata_version}")


def category_runs():
    """(first code point, category) where runs begin."""
    runs = []
    c = 0
    while c < 0x110000:
        end = c + 1
        pair = CATEGORY[c] in ("Lu", "Ll") and CATEGORY[c : c + 4] in (["Lu", "Ll"] * 2, ["Ll", "Lu"] * 2)
        if pair:
            while end < 0x110000 and CATEGORY[end] in ("Lu", "Ll") and CATEGORY[end] != CATEGORY[end - 1]:
                end += 1
            upper_even = (CATEGORY[c] == "Lu") == (c % 2 == 0)
            runs.append((c, UPPER_LOWER if upper_even else LOWER_UPPER))
        else:
            while end < 0x110000 and CATEGORY[end] == CATEGORY[c]:
                end += 1
            runs.append((c, CATEGORIES.index(CATEGORY[c])))
        c = end
    return runs


def ranges(members):
    out = []
    for c in sorted(members):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def matched(pattern):
    """The code points that the library's expression matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for begin in range(0, len(CODE_POINTS), 20000):
        text = "".join(map(chr, CODE_POINTS[begin : begin + 20000]))
        for piece, _ in split.pre_tokenize_str(text):
            found.update(map(ord, piece))
    return found


def script_runs():
    """(first code point, number of a script) where runs begin, as UnicodeScripts has them; 0 goes with
    any script."""
    step = pre_tokenizers.UnicodeScripts()

    def together(*characters):
        return len(step.pre_tokenize_str("".join(characters))) == 1

    runs, known = [], []  # known: a character of each script
    for c in CODE_POINTS:
        s = chr(c)
        if together("a", s) and together("\u4e2d", s):
            number = 0
        elif runs and runs[-1][1] and together(known[runs[-1][1] - 1], s):
            number = runs[-1][1]
        else:
            number = next((i + 1 for i, k in enumerate(known) if together(k, s)), len(known) + 1)
            if number > len(known):
                known.append(s)
        if not runs or runs[-1][1] != number:
            runs.append((c, number))
    return runs


def splits(step):
    return [c for c in CODE_POINTS if len(step.pre_tokenize_str("a" + chr(c) + "a")) > 1]


def removed(step):
    return [c for c in CODE_POINTS if step.normalize_str(chr(c)) == ""]


def decomposed_later():
    """What has a class, a decomposition or a place in a composition, but not in the library's tables."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    out = set()
    for c in CODE_POINTS:
        s = chr(c)
        # a mark changes places with one of the highest class before it, or of the lowest after it
        stays = nfd.normalize_str("\u0345" + s) == "\u0345" + s and (
            nfd.normalize_str(s + "\u0334") == s + "\u0334"
        )
        parts = ucd.decomposition(s).split()
        if parts and nfkd.normalize_str(s) == s:
            out.add(c)
            out.update([int(parts[0], 16)] if len(parts) == 2 and parts[0][0] != "<" else [])
        elif ucd.combining(s) and stays:
            out.add(c)
    return out


def not_composed():
    """What is not sure to stay as it is in NFC, of what is no mark: a superset of NFC_QC."""
    second = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for c in CODE_POINTS:
        parts = ucd.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            second.add(int(parts[1], 16))
    changed = {c for c in CODE_POINTS if ucd.normalize("NFC", chr(c)) != chr(c)}
    return [c for c in second | changed if CATEGORY[c][0] != "M"]


def lowered():
    """Runs of what the library lowers to one other character: first << 1 | (every second one), last,
    and what the first becomes; all move by one distance."""
    lower = normalizers.Lowercase()
    pairs = []
    for c in CODE_POINTS:
        text = lower.normalize_str(chr(c))
        if text != chr(c) and len(text) == 1:
            pairs.append((c, ord(text)))
    runs = []
    for c, to in pairs:
        run = runs[-1] if runs else None
        if run and to - c == run[2] - run[0] and c - run[1] in (1, 2) and run[3] in (None, c - run[1]):
            run[1], run[3] = c, c - run[1]
        else:
            runs.append([c, c, to, None])
    return [v for r in runs for v in (r[0] << 1 | (r[3] == 2), r[1], r[2])]


def put(name, what, values):
    print(f"/* {what} */")
    print(f"const uint32_t {name}[] = {{")
    print(", ".join(f"0x{v:X}" for v in values))
    print("};")
    print(f"const size_t {name}_n = sizeof {name} / sizeof {name}[0];\n")


def put_ranges(name, what, members):
    put(name, what, [v for r in ranges(members) for v in r])


def main():
    check_library()
    print('/* Written by tools/make_unicode_tables.py; do not edit. */\n#include "text/unicode_tables.h"\n')
    put("sp_unicode_categories", f"General categories of Unicode {ucd.unidata_version}: first code "
        "point << 5 | category, where a run begins.",
        [first << 5 | category for first, category in category_runs()])  # fmt: skip
    for script in ("Han", "Hiragana", "Katakana", "Hangul"):
        put_ranges(f"sp_unicode_{script.lower()}", f"The script {script}, of Unicode {ucd.unidata_version}.",
                   matched(r"\p{%s}" % script))  # fmt: skip
    put("sp_unicode_scripts", "Scripts as the step UnicodeScripts has them: first code point << 8 | number, "
        "where a run begins; 0: any.", [first << 8 | number for first, number in script_runs()])  # fmt: skip
    put_ranges("sp_unicode_old_punctuation", "Punctuation as of Unicode 8, with ASCII's symbols.",
               splits(pre_tokenizers.Punctuation()))  # fmt: skip
    put_ranges("sp_unicode_old_marks", "Marks (M) as of Unicode 9.", removed(normalizers.StripAccents()))
    put_ranges("sp_unicode_old_nonspacing", "Nonspacing marks (Mn) as of Unicode 8.",
               removed(normalizers.BertNormalizer(False, False, True, False)))  # fmt: skip
    put_ranges("sp_unicode_old_other", "Controls, formats and private use (Cc, Cf, Co) as of Unicode 8.",
               [c for c in removed(normalizers.BertNormalizer(True, False, False, False)) if c != 0xFFFD])  # fmt: skip
    put_ranges("sp_unicode_decomposed_later", "What has a class or a decomposition since Unicode 9.",
               decomposed_later())  # fmt: skip
    put_ranges("sp_unicode_not_composed", "What NFC may change, besides marks.", not_composed())
    put("sp_unicode_lowered", "Lower case by runs: first << 1 | (every second one), last, what the first "
        "becomes.", lowered())  # fmt: skip


if __name__ == "__main__":
    main()
