"""Rounds of random models, which spar and transformers are held against each other on.

Shared by fuzz_models.py and fuzz_encoders.py.
"""

import argparse
import collections
import random
import re
import shutil
import tempfile
import warnings

import torch
import transformers as tf


def options(doc):
    """The parser of what all rounds have; doc: a tool's own text."""
    parser = argparse.ArgumentParser(usage=doc.split("usage: ")[1].split("\n")[0])
    parser.add_argument("spar")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--keep")
    return parser


def run(o, play):
    """The exit status. play(rng, folder, names) puts the family's name into names as soon as it is drawn, and gives
    what differs ("": nothing) and spar's refusal (None: none)."""
    warnings.simplefilter("ignore")
    tf.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    refusals, impossible, same, differ = collections.Counter(), collections.Counter(), 0, 0
    for i in range(o.rounds):
        names = []
        with tempfile.TemporaryDirectory() as folder:
            try:
                what, refused = play(random.Random(f"{o.seed}.{i}"), folder, names)
            except Exception as e:  # settings that transformers cannot build or run
                impossible[f"{''.join(names)}: {type(e).__name__}: {' '.join(str(e).split())[:90]}"] += 1
                continue
            if refused:
                refusals[re.sub(r"\S*/", "", refused)[:150]] += 1
            same += not what and not refused
            if what:
                differ += 1
                if differ <= o.show:
                    print(f"round {i}: {''.join(names)}: {what}", flush=True)
                if o.keep:
                    shutil.copytree(folder, f"{o.keep}/{o.seed}.{i}", dirs_exist_ok=True)
    for title, counter in (("refused by spar", refusals), ("not built by transformers", impossible)):
        print(f"{title}: {counter.total()}")
        for message, n in counter.most_common(o.show):
            print(f"  {n:5} {message}")
    print(f"{same} alike, {differ} differ")
    return 1 if differ else 0
