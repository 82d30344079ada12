#!/usr/bin/env python3
"""Write tests/golden/encoders: tiny random encoders, one a variant, with the scores of transformers.

usage: make_encoder_fixtures.py FOLDER        (made with torch 2.15, transformers 5.23)

Each folder holds config.json, model.safetensors (f16) and io.json: rows of ids, where the second
text begins (0: nowhere), and the scores in double precision.
"""
import json
import os
import random
import sys

import torch
import transformers as tf
from safetensors.torch import save_file

BASE = dict(
    vocab_size=24,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    initializer_range=0.5,
    max_position_embeddings=40,
)
ROBERTA = dict(BASE, pad_token_id=1, type_vocab_size=1)
DEBERTA = dict(
    BASE,
    relative_attention=True,
    position_biased_input=False,
    type_vocab_size=0,
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    position_buckets=8,
    pos_att_type=["p2c", "c2p"],
)
VARIANTS = {
    "bert-pair": ("Bert", dict(BASE, hidden_act="gelu_new")),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", dict(ROBERTA, layer_norm_eps=1e-5)),
    "deberta-v3": ("DebertaV2", DEBERTA),
    "deberta-own-keys": ("DebertaV2", dict(DEBERTA, share_att_key=False, norm_rel_ebd="none")),
    "deberta-distances": (
        "DebertaV2",
        dict(DEBERTA, position_buckets=-1, share_att_key=False, pos_att_type=["c2p"]),
    ),
    "deberta-absolute": (
        "DebertaV2",
        dict(DEBERTA, position_biased_input=True, type_vocab_size=2, pos_att_type=["p2c"]),
    ),
    "deberta-plain": ("DebertaV2", dict(DEBERTA, relative_attention=False)),
    "deberta-convolution": ("DebertaV2", dict(DEBERTA, conv_kernel_size=3, conv_act="gelu")),
    "deberta-small-embedding": ("DebertaV2", dict(DEBERTA, embedding_size=6, pooler_hidden_act="tanh")),
}
ROWS = ((5, 0), (17, 6), (38, 0))


def make(folder, family, settings):
    torch.manual_seed(3)
    config = getattr(tf, family + "Config")(**settings, num_labels=2)
    model = getattr(tf, family + "ForSequenceClassification")(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.2)
            p.copy_(p.half())
    os.makedirs(folder, exist_ok=True)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(tensors, folder + "/model.safetensors")
    model = model.double()
    draw = random.Random(5)
    cases = []
    for n, second in ROWS:
        ids = [draw.randrange(2, config.vocab_size) for _ in range(n)]
        if family == "Roberta" and n > 10:
            ids[4] = config.pad_token_id
        x = torch.tensor([ids])
        types = torch.zeros_like(x)
        if second and config.type_vocab_size > 1:
            types[0, second:] = 1
        with torch.no_grad():
            out = model(input_ids=x, attention_mask=torch.ones_like(x), token_type_ids=types)
        cases.append(dict(ids=ids, second=second, scores=out.logits[0].tolist()))
    with open(folder + "/io.json", "w") as f:
        json.dump(cases, f)


for name, (family, settings) in VARIANTS.items():
    make(os.path.join(sys.argv[1], name), family, settings)
