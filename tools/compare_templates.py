"""Render chat templates by spar and by transformers on conversations with tools, tool calls, documents,
reasoning and options that templates read, and list where the texts differ or only one of the two refuses.

usage: python compare_templates.py SPAR [--masks TOKENIZER] TEMPLATE.jinja...      (needs transformers and jinja2)

With --masks, a folder with tokenizer.json, it compares ids and the mask of the assistant's tokens instead, of
templates with {% generation %} blocks.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

DATE = "2026-11-23"

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city, e.g. \"Zürich\""},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "days from today"},
        "exact": {"type": ["boolean", "null"], "default": False},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
    },
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather <now> & later.", "parameters": PARAMETERS,
                                      "return": {"type": "string", "description": "text"}}},
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
DOCUMENTS = [{"title": "Rain", "text": "It rains.\nA lot."}, {"title": "Söl", "text": "Sun é <b>", "id": 2}]


def call(name, arguments, number="a1B2c3D4e"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


ASK = {"role": "user", "content": "Weather in Zürich?"}
CALLED = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Zürich", "days": [1, 2], "exact": None, "t": 1.0})]}
ANSWERED = {"role": "tool", "tool_call_id": "a1B2c3D4e", "name": "get_weather", "content": "{\"c\": 12}"}
SAID = {"role": "assistant", "content": "12 degrees."}
THOUGHT = {"role": "assistant", "reasoning_content": "They ask.\n", "content": "Well."}

ROWS = [
    {"messages": [ASK], "tools": TOOLS},
    {"messages": [{"role": "system", "content": "Terse."}, ASK], "tools": TOOLS[:1]},
    {"messages": [ASK, CALLED, ANSWERED], "tools": TOOLS},
    {"messages": [ASK, CALLED, ANSWERED, SAID, {"role": "user", "content": "And then?"}], "tools": TOOLS},
    {"messages": [ASK, {**CALLED, "tool_calls": [call("get_weather", {"city": "A"}), call("now", {}, "b1B2c3D4e")]}, ANSWERED,
                  {**ANSWERED, "tool_call_id": "b1B2c3D4e", "name": "now", "content": "noon"}, SAID], "tools": TOOLS},
    {"messages": [ASK, {**CALLED, "tool_calls": [call("get_weather", "{\"city\": \"A\"}")]}, ANSWERED], "tools": TOOLS},
    {"messages": [ASK, {**CALLED, "content": None}, ANSWERED, SAID], "tools": TOOLS},
    {"messages": [ASK, CALLED, ANSWERED, SAID]},
    {"messages": [ASK], "documents": DOCUMENTS},
    {"messages": [{"role": "system", "content": "S"}, ASK, SAID, ASK], "documents": DOCUMENTS, "tools": TOOLS},
    {"messages": [ASK, THOUGHT, ASK]},
    {"messages": [ASK, THOUGHT]},
    {"messages": [ASK, {**CALLED, "reasoning_content": "Call."}, ANSWERED], "tools": TOOLS},
    {"messages": [ASK, {**CALLED, "content": None, "thinking": "Call."}, ANSWERED, {**SAID, "reasoning": "So.", "name": None}], "tools": TOOLS},
    {"messages": [ASK, {**CALLED, "content": [{"type": "text", "text": "I call."}]}, {**ANSWERED, "content": [{"type": "text", "text": "12"}]}], "tools": TOOLS},
    {"messages": [ASK], "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [ASK, THOUGHT, ASK], "chat_template_kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Part é"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, SAID]},
    {"messages": [{"role": "developer", "content": "Dev."}, ASK]},
    {"messages": [ASK, ASK]},
    {"messages": [SAID]},
    {"messages": []},
]


# Conversations of several turns, some with texts that run into what stands around them.
TURNS = [
    {"messages": [ASK, SAID, ASK, SAID]},
    {"messages": [{"role": "system", "content": "S"}, ASK, SAID, ASK, {"role": "assistant", "content": "\n\n  é 👩\u200d👧 \n"}]},
    {"messages": [ASK, {"role": "assistant", "content": ""}, ASK, {"role": "assistant", "content": "über Ä 中文"}, ASK, SAID]},
    {"messages": [ASK, {"role": "assistant", "content": "<|im_end|> <s> x"}, ASK, {"role": "assistant", "content": " "}]},
]


def theirs(template, row, prompt):
    """The text; where the template refuses, None and why."""
    variables = row.get("chat_template_kwargs", {})
    try:
        messages = chat_template_utils._normalize_chat_messages(row["messages"])  # as apply_chat_template does first
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=row.get("tools"), documents=row.get("documents"), chat_template=template,
            add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", **variables)
        return texts[0]
    except Exception as error:  # a template may raise anything
        return None, str(error)


def their_masks(tokenizer, template, row):
    """The ids and their mask; where the template refuses, None and why."""
    try:
        found = tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), documents=row.get("documents"), chat_template=template, tokenize=True,
            return_dict=True, return_assistant_tokens_mask=True, **row.get("chat_template_kwargs", {}))
        return found["input_ids"], found["assistant_masks"]
    except Exception as error:  # a template may raise anything
        return None, str(error)


def our_masks(spar, folder, path, rows):
    command = [spar, "render", "-m", folder, "--template", path, "--now", DATE, "--assistant-masks", "-"]
    done = subprocess.run(command, input="".join(json.dumps(row) + "\n" for row in rows), capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [(row["ids"], row["assistant_masks"]) if "ids" in row else (None, row["error"]) for row in found]


def load_tokenizer(folder):
    with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
        named = json.load(file)
    tokens = {name: named[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token") if named.get(name)}
    tokens = {name: token if isinstance(token, str) else token["content"] for name, token in tokens.items()}
    return PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), **tokens)


def compare_masks(spar, folder, paths):
    tokenizer = load_tokenizer(folder)
    # transformers refuses no messages at all, and takes out a content of null before the template sees it
    rows = [row for row in ROWS + TURNS if row["messages"] and all(m["content"] is not None for m in row["messages"])]
    seen = differ = refused = marked = 0
    for path in paths:
        template = open(path, encoding="utf-8").read()
        for number, (row, found) in enumerate(zip(rows, our_masks(spar, folder, path, rows), strict=True)):
            want = their_masks(tokenizer, template, row)
            seen += 1
            if want[0] is None and found[0] is None:
                refused += 1
            elif want != found:
                differ += 1
                print(f"{path}: row {number}\n  transformers: {want!r:.1500}\n  spar:         {found!r:.1500}")
            else:
                marked += any(want[1])
    print(f"{len(paths)} templates, {seen} masks, {marked} of which mark tokens: {refused} refused by both, {differ} differ")
    return differ != 0


def ours(spar, path, row, prompt):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as rows:
        rows.write(json.dumps(row) + "\n")
        rows.flush()
        command = [spar, "render", "--template", path, "--bos", "<s>", "--eos", "</s>", "--pad", "<pad>", "--unk", "<unk>",
                   "--now", DATE, rows.name] + (["--generation-prompt"] if prompt else [])
        done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)["text"] if done.returncode == 0 else (None, done.stderr.strip())


def fix_clock():
    """Templates that print a date get the same one from both."""
    import datetime

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(*map(int, DATE.split("-")), tzinfo=tz)

    chat_template_utils.datetime = Clock


def compare_texts(spar, paths):
    seen = differ = refused = 0
    for path in paths:
        template = open(path, encoding="utf-8").read()
        for number, row in enumerate(ROWS):
            for prompt in (False, True):
                want, found = theirs(template, row, prompt), ours(spar, path, row, prompt)
                seen += 1
                if isinstance(want, tuple) and isinstance(found, tuple):
                    refused += 1
                elif want != found:
                    differ += 1
                    print(f"{path}: row {number}, prompt {prompt}\n  transformers: {want!r:.1500}\n  spar:         {found!r:.1500}")
    print(f"{len(paths)} templates, {seen} renders: {refused} refused by both, {differ} differ")
    return differ != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("templates", nargs="+")
    parser.add_argument("--masks", metavar="TOKENIZER")
    o = parser.parse_args()
    fix_clock()
    return compare_masks(o.spar, o.masks, o.templates) if o.masks else compare_texts(o.spar, o.templates)


if __name__ == "__main__":
    sys.exit(main())
