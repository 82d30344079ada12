#!/usr/bin/env python3
"""Write tests/golden/chat.json: where the tokens of texts are, by the tokenizers library, and which tokens of
conversations the assistant wrote, by transformers.

usage: make_chat_fixtures.py SHARED/tokenizers OUT.json      (needs tokenizers and transformers)

Texts and templates are of this file. Offsets are in bytes and without the trimming of ByteLevel's post-processor.
"""
import json
import os
import sys

from compare_templates import load_tokenizer
from compare_tokenizers import load

TOKENIZERS = ["smollm2", "qwen3", "llama3_1", "phi-3-mini", "gemma3", "t5-small", "roberta-base"]
TEXTS = [
    "", " ", "Hello world", "  two  spaces ", "a\n\nb\n", "don't I'M 123456", "naïve über Ä 中文字 العربية",
    "👩‍👧 🇩🇪 👍🏽!", "def f(x):\n\treturn x  # ok\n", "<|im_end|> in text", "<s>x</s> y", "▁the ▁ the", "x" * 70, "ﬀ½".replace("ﬀ", "f"),
]  # fmt: skip
# Blocks around a turn with its end; around a turn that shares a token with what is before and behind it; several in a
# turn; a second one of a turn that is empty; and a turn that a macro writes, which begins with its block (transformers
# takes a macro's block to begin where the macro is called).
TEMPLATES = [
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + "
    "'<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}",
    "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %} {{ m.content }}\n{% endgeneration %}"
    "{% else %} {{ m.content }}\n{% endif %}{{ '\n' }}{% endfor %}",
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}<think>{% endgeneration %}no"
    "{%- generation %}{{ m.content }}{% endgeneration %}{% generation %}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}",
    "{% macro say(m) %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% endmacro %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{{ say(m) }}{% else %}{{ m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}",
]
ASK, MORE = {"role": "user", "content": "Weather in Zürich?"}, {"role": "user", "content": "\nAnd then?"}
CONVERSATIONS = [
    [ASK, {"role": "assistant", "content": "12 degrees."}],
    [{"role": "system", "content": "Terse."}, ASK, {"role": "assistant", "content": "\n\n é 👩‍👧 "}, MORE,
     {"role": "assistant", "content": "über 中文"}],
    [ASK, {"role": "assistant", "content": ""}, MORE, {"role": "assistant", "content": " "}],
    [ASK],
]


def byte_offsets(text, offsets):
    return [[len(text[:begin].encode()), len(text[:end].encode())] for begin, end in offsets]


def places(folder):
    tokenizer = load(os.path.join(folder, "tokenizer.json"))
    found = [(text, tokenizer.encode(text, add_special_tokens=False)) for text in TEXTS]
    return [{"text": text, "ids": e.ids, "spans": byte_offsets(text, e.offsets)} for text, e in found]


def masks(folder):
    tokenizer = load_tokenizer(folder)
    rows = []
    for template in range(len(TEMPLATES)):
        for conversation in range(len(CONVERSATIONS)):
            found = tokenizer.apply_chat_template(CONVERSATIONS[conversation], chat_template=TEMPLATES[template], tokenize=True,
                                                  return_dict=True, return_assistant_tokens_mask=True)
            rows.append({"template": template, "conversation": conversation, "ids": found["input_ids"],
                         "mask": found["assistant_masks"]})
    return rows


def main(root, out):
    folders = {name: os.path.join(root, name) for name in TOKENIZERS}
    fixture = {"templates": TEMPLATES, "conversations": CONVERSATIONS, "places": {n: places(f) for n, f in folders.items()},
               "masks": {n: masks(f) for n, f in folders.items() if os.path.exists(os.path.join(f, "tokenizer_config.json"))}}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(fixture, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
