"""What spar trains on of completions of several messages, against TRL's own preprocessing: token ids and masks of sft,
of sft with assistant-only loss (templates with {% generation %} blocks), and of dpo.

usage: python compare_trl.py SPAR MODEL TEMPLATE.jinja...          (needs trl; MODEL is a folder with a tokenizer)

Where a template renders the prompt otherwise alone than within the conversation, TRL warns and spar refuses.
"""
import argparse
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import types

from compare_templates import ANSWERED, ASK, CALLED, SAID, THOUGHT, TOOLS, call

from datasets import IterableDataset
from transformers import AutoTokenizer
from trl import DPOTrainer, SFTTrainer

SYSTEM = {"role": "system", "content": "Terse."}
AGAIN = {"role": "user", "content": "And then?  "}
TWO = {**CALLED, "tool_calls": [call("get_weather", {"city": "A"}), call("now", {}, "b1B2c3D4e")]}
NOON = {**ANSWERED, "tool_call_id": "b1B2c3D4e", "name": "now", "content": "noon"}
OTHER = {"role": "assistant", "content": " I do not know.\n"}

ROWS = [  # prompt, completion, another completion, what stands beside them
    ([ASK], [CALLED, ANSWERED, SAID], [OTHER], {"tools": TOOLS}),
    ([SYSTEM, ASK], [CALLED, ANSWERED, SAID], [CALLED, ANSWERED, OTHER], {"tools": TOOLS}),
    ([ASK], [TWO, ANSWERED, NOON, SAID], [OTHER], {"tools": TOOLS}),
    ([ASK, SAID, AGAIN], [CALLED, ANSWERED, SAID], [CALLED, ANSWERED, CALLED, ANSWERED, SAID], {"tools": json.dumps(TOOLS)}),
    ([ASK, CALLED, ANSWERED, SAID, AGAIN], [{**CALLED, "content": "I ask."}, ANSWERED, SAID, AGAIN, OTHER], [SAID], {"tools": TOOLS}),
    ([ASK], [SAID, AGAIN, OTHER], [OTHER, AGAIN, SAID], {}),
    ([SYSTEM, ASK], [SAID, AGAIN, THOUGHT], [OTHER], {"chat_template_kwargs": {"enable_thinking": False}}),
    ([ASK], [{**CALLED, "reasoning_content": "Call."}, ANSWERED, {**SAID, "reasoning_content": "So."}], [OTHER], {"tools": TOOLS}),
    ([{"role": "user", "content": "über 中文"}], [{"role": "assistant", "content": "\n\n é 👩‍👧"}, AGAIN, {"role": "assistant", "content": "  "}, AGAIN, SAID], [SAID], {}),
]


def prepare(trainer, tokenizer, row, turns=False):
    """A row through a trainer's own preparation; where that refuses, why."""
    args = types.SimpleNamespace(dataset_num_proc=None, max_length=None, dataset_text_field="text", packing=False,
                                 assistant_only_loss=turns, shuffle_dataset=False)
    one = types.SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    extra = {"packing": False, "formatting_func": None} if trainer is SFTTrainer else {}
    try:
        rows = IterableDataset.from_generator(lambda: iter([row]))  # not by Arrow, which gives every call all names with nulls
        return next(iter(trainer._prepare_dataset(one, rows, tokenizer, args, dataset_name="rows", **extra)))
    except Exception as error:  # a template may raise anything
        return str(error)


def cut(ids, learned):
    """Ids and whether each is learned, up to the last that is: nothing behind it changes the loss."""
    last = max((t for t, bit in enumerate(learned) if bit), default=-1) + 1
    return ids[:last], learned[:last]


def pair_of(made):
    return [made[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")]


def theirs(method, tokenizer, row):
    made = prepare(DPOTrainer if method == "dpo" else SFTTrainer, tokenizer, row, method == "turns")
    if isinstance(made, str):
        return made
    return (pair_of(made) if method == "dpo"
            else cut(made["input_ids"], [int(label != -100) for label in made["labels"]]))


def ours(method, spar, model, template, row):
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "rows.jsonl")
        with open(data, "w", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        options = ["--method", "sft", "--assistant-only-loss"] if method == "turns" else ["--method", method]
        done = subprocess.run([spar, "train", "-m", model, "--template", template, "--data", data, "--write-ids", "-", *options],
                              capture_output=True, text=True)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1]
    made = json.loads(done.stdout)
    if method != "dpo":
        mask = made.get("completion_mask", [1] * len(made["completion_ids"]))
        return cut(made["prompt_ids"] + made["completion_ids"], [0] * len(made["prompt_ids"]) + mask)
    return pair_of(made)


def begins_otherwise(tokenizer, prompt, rest, beside):
    """Whether the conversation does not begin with its generation prompt."""
    tools = beside.get("tools")
    options = {"tools": json.loads(tools) if isinstance(tools, str) else tools, "tokenize": False, **beside.get("chat_template_kwargs", {})}
    try:
        first = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **options)
        return any(not tokenizer.apply_chat_template(prompt + end, **options).startswith(first) for end in rest)
    except Exception:
        return False


def rows_of(method):
    for prompt, good, bad, beside in ROWS:
        ends = {"chosen": good, "rejected": bad} if method == "dpo" else {"completion": good}
        yield {"prompt": prompt, **ends, **beside}, prompt, list(ends.values()), beside


def shown(tokenizer, made):
    """The end of the ids and of what goes with them, in words."""
    return made if isinstance(made, str) else [tokenizer.decode(made[0])[-300:], *(f"{part!s}"[-200:] for part in made)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("model")
    parser.add_argument("templates", nargs="+")
    o = parser.parse_args()
    logging.disable(logging.WARNING)
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    seen, refused, otherwise, differ = 0, 0, 0, 0
    for path, method in itertools.product(o.templates, ("sft", "turns", "dpo")):
        tokenizer.chat_template = open(path, encoding="utf-8").read()
        if method == "turns" and "generation %}" not in tokenizer.chat_template.replace("-%}", " %}"):
            continue
        for number, (row, prompt, rest, beside) in enumerate(rows_of(method)):
            want, found = theirs(method, tokenizer, row), ours(method, o.spar, o.model, path, row)
            seen += 1
            if isinstance(want, str) and isinstance(found, str):
                refused += 1
            elif isinstance(found, str) and begins_otherwise(tokenizer, prompt, rest, beside):
                otherwise += 1
            elif want != found:
                differ += 1
                print(f"{path}: {method}, row {number}\n  trl:  {shown(tokenizer, want)}\n  spar: {shown(tokenizer, found)}")
    print(f"{len(o.templates)} templates, {seen} rows: {refused} refused by both, {otherwise} that do not begin with their "
          f"generation prompt and that spar refuses, {differ} differ")
    return differ != 0


if __name__ == "__main__":
    sys.exit(main())
