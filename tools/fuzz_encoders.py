#!/usr/bin/env python3
"""Hold spar's encoders against transformers on tiny classifiers of random settings.

usage: fuzz_encoders.py SPAR [--rounds N] [--seed N] [--show N] [--keep DIR]

A round draws BERT, RoBERTa, XLM-RoBERTa or DeBERTa-v2 with one output, some keys of its config.json dropped that say
what is left out anyway, and rows of ids, whose scores are compared with transformers' in double precision. What
transformers cannot build is drawn again; what spar refuses is counted by its message. The exit status is 0 when all
that both read agree, 1 otherwise. Needs torch and transformers.
"""

import json
import os
import random
import subprocess
import sys

import random_rounds
import torch
import transformers as tf

VOCAB = 24


def flip(rng, **choices):
    """Each of the settings with a chance of a half."""
    return {key: rng.choice(values) for key, values in choices.items() if rng.random() < 0.5}


def draw(rng):
    family = rng.choice(["bert", "roberta", "xlm-roberta", "deberta-v2", "deberta-v2"])
    heads = rng.choice([1, 2, 4])
    settings = dict(vocab_size=VOCAB, hidden_size=heads * rng.choice([3, 4, 6]), num_hidden_layers=rng.randint(1, 3),
                    num_attention_heads=heads, intermediate_size=rng.choice([5, 12]), initializer_range=0.5,
                    max_position_embeddings=rng.choice([44, 64]), num_labels=1)
    settings.update(flip(rng, hidden_act=["gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "silu", "tanh"],
                         layer_norm_eps=[1e-12, 1e-5, 1e-3], type_vocab_size=[1, 2, 3], pad_token_id=[0, 1, 3],
                         attention_probs_dropout_prob=[0.0, 0.2], classifier_dropout=[None, 0.3]))
    if family == "deberta-v2":
        settings.update(flip(rng, relative_attention=[True, True, False], position_biased_input=[True, False],
                             share_att_key=[True, False], norm_rel_ebd=["layer_norm", "none"],
                             position_buckets=[-1, 4, 8, 16], max_relative_positions=[-1, 20, 64],
                             pos_att_type=[["p2c", "c2p"], ["c2p"], ["p2c"], [], "c2p|p2c"], conv_kernel_size=[0, 3, 5],
                             conv_act=["tanh", "gelu", "relu"], pooler_hidden_act=["gelu", "tanh", "relu"], legacy=[True, False],
                             embedding_size=[6, settings["hidden_size"]], type_vocab_size=[0, 2], conv_groups=[1, 1, 2]))
    return family, settings


def make(rng, folder):
    family, settings = draw(rng)
    config = tf.CONFIG_MAPPING[family](**settings)
    torch.manual_seed(rng.randrange(1 << 30))
    model = tf.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.2)
    model.save_pretrained(folder)
    with open(f"{folder}/config.json") as file:
        written = json.load(file)
    default = tf.CONFIG_MAPPING[family]().to_dict()
    for key in list(written):
        if key != "model_type" and key in default and default[key] == written[key] and rng.random() < 0.3:
            del written[key]
    with open(f"{folder}/config.json", "w") as file:
        json.dump(written, file, indent=2)
    return family, tf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()


def compare(spar, folder, model, rng):
    """What differs, "" where nothing does; and the refusal, or None."""
    pad = model.config.pad_token_id
    ids = [i for i in range(VOCAB) if i != pad]
    rows = [[rng.choice(ids) for _ in range(n)] for n in (rng.randint(2, 5), 13, 38)]
    text = "".join(json.dumps({"prompt_ids": row[:1], "responses_ids": [row[1:]]}) + "\n" for row in rows)
    run = subprocess.run([spar, "judge", "--judge", f"reward:{folder}"], input=text, capture_output=True, text=True, check=False)
    if run.returncode not in range(0, 64):
        return f"exit {run.returncode}: {run.stderr.strip()}", None
    if run.returncode:
        return "", run.stderr.strip() or run.stdout.strip()
    with torch.no_grad():
        want = [float(model(input_ids=torch.tensor([row])).logits[0, 0]) for row in rows]
    got = [json.loads(line)["scores"][0] for line in run.stdout.splitlines()]
    worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(got, want, strict=True))
    return ("" if worst < 1e-3 else f"scores differ by {worst:.2g}"), None


def main():
    o = random_rounds.options(__doc__).parse_args()

    def play(rng, folder, names):
        family, model = make(rng, folder)
        names.append(family)
        return compare(o.spar, folder, model, rng)

    return random_rounds.run(o, play)


if __name__ == "__main__":
    sys.exit(main())
