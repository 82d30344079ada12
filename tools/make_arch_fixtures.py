#!/usr/bin/env python3
"""Write tests/golden/arch: tiny random decoders, one a variant, with what transformers computes.

usage: make_arch_fixtures.py FOLDER        (made with torch 2.15, transformers 5.23)

Each folder holds config.json, model.safetensors, io.json (rows of ids, greedy continuations) and
expected.safetensors: logits.i [T,V], logp.i [T-1] of the next tokens, and grad.PARAMETER of the sum
of -log p over tokens 3, 4, ... of every row, all computed in double precision.
"""
import json
import os
import random
import sys

import torch
import transformers as tf
from safetensors.torch import save_file

BASE = dict(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.25,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
GRANITE = dict(
    BASE,
    embedding_multiplier=12.0,
    attention_multiplier=0.3,
    residual_multiplier=0.22,
    logits_scaling=8.0,
)
LONG = dict(
    rope_type="longrope",
    rope_theta=1e4,
    short_factor=[1.0, 1.5],
    long_factor=[2.0, 6.0],
    original_max_position_embeddings=48,
)
# name: family, settings, whether config.json is in the form of transformers 4
VARIANTS = {
    "granite": ("Granite", dict(GRANITE, attention_bias=True, mlp_bias=True), False),
    "phi3-long": ("Phi3", dict(BASE, rope_parameters=LONG, original_max_position_embeddings=48), True),
    "llama-dynamic": (
        "Llama",
        dict(BASE, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=2.0)),
        False,
    ),
    "granite-tied": ("Granite", dict(GRANITE, tie_word_embeddings=True), True),
}
ROWS = (5, 17, 40)


def old_form(path):
    with open(path) as file:
        config = json.load(file)
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    config["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = rope
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def expected(model, rows):
    out, loss = {}, 0
    for i, row in enumerate(rows):
        ids = torch.tensor([row])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        logp = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        out[f"logits.{i}"], out[f"logp.{i}"] = logits.detach(), logp.detach()
        loss = loss - logp[2:].sum()
    loss.backward()
    for name, p in model.named_parameters():
        out["grad." + name] = p.grad
    return {name: value.float().contiguous() for name, value in out.items()}


def make(folder, name, family, settings, old):
    torch.manual_seed(sum(map(ord, name)))
    config = getattr(tf, family + ("TextConfig" if family == "Gemma3" else "Config"))(**settings)
    config._attn_implementation = "eager"
    model = getattr(tf, family + "ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.2)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder)
    if old:
        old_form(f"{folder}/config.json")
    model = model.double()
    draw = random.Random(5)
    rows = [[draw.randrange(3, settings["vocab_size"]) for _ in range(n)] for n in ROWS]
    save_file(expected(model, rows), f"{folder}/expected.safetensors")
    greedy = {}
    for i, row in enumerate(rows):
        ids = torch.tensor([row])
        more = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12,
                              do_sample=False, eos_token_id=None, pad_token_id=0)
        greedy[str(i)] = more[0, len(row):].tolist()
    with open(f"{folder}/io.json", "w") as file:
        json.dump(dict(rows=rows, greedy=greedy), file)
    for extra in ("generation_config.json",):
        os.remove(f"{folder}/{extra}")


def main():
    for name, (family, settings, old) in VARIANTS.items():
        make(f"{sys.argv[1]}/{name}", name, family, settings, old)


if __name__ == "__main__":
    main()
