"""Render chat templates by spar and by transformers on conversations with tools, tool calls, documents,
reasoning and options that templates read, and list where the texts differ or only one of the two refuses.

usage: python compare_templates.py SPAR TEMPLATE.jinja...      (needs transformers and jinja2)
"""
import json
import subprocess
import sys
import tempfile

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
    {"messages": [ASK], "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [ASK, THOUGHT, ASK], "chat_template_kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Part é"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, SAID]},
    {"messages": [{"role": "developer", "content": "Dev."}, ASK]},
    {"messages": [ASK, ASK]},
    {"messages": [SAID]},
    {"messages": []},
]


def theirs(template, row, prompt):
    """The text; where the template refuses, None and why."""
    variables = row.get("chat_template_kwargs", {})
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[row["messages"]], tools=row.get("tools"), documents=row.get("documents"), chat_template=template,
            add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", **variables)
        return texts[0]
    except Exception as error:  # a template may raise anything
        return None, str(error)


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


def main(spar, paths):
    fix_clock()
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
