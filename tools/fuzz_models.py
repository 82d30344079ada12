#!/usr/bin/env python3
"""Hold spar against transformers on tiny models of random settings.

usage: fuzz_models.py SPAR [--rounds N] [--seed N] [--family NAME]... [--show N] [--keep DIR]

A round draws a family and settings: sizes, switches, activations, rope scaling, windows, layer types. Its config.json
is in transformers 5's form or the older one, and some keys that say what is left out anyway are dropped. Log-probs and
gradients of all parameters are compared with transformers in double precision. What transformers refuses is drawn
again; what spar refuses is counted by its message, to be read: it should name a setting that it has not. --keep saves
the folders of rounds that differ. The exit status is 0 when all that both read agree, 1 otherwise. Needs torch and
transformers.
"""

import json
import os
import random
import re
import subprocess
import sys

import random_rounds
import torch
import transformers as tf
from safetensors.torch import load_file

from make_arch_fixtures import by_expert, correct, old_form

VOCAB = 20
FAMILIES = [
    "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "qwen2_moe", "olmoe", "phi3", "smollm3", "gemma", "gemma2",
    "gemma3_text", "olmo", "phi", "olmo3", "olmo2", "seed_oss", "glm4", "glm", "ernie4_5", "exaone4", "helium", "arcee",
    "nemotron", "vaultgemma", "granitemoehybrid", "granitemoeshared", "granitemoe", "ernie4_5_moe", "glm4_moe", "dots1", "granite", "stablelm", "starcoder2", "cohere2", "cohere", "gpt2", "gpt_neo",
    "gpt_neox", "ministral", "cwm", "jais2", "gptj", "codegen", "gpt_bigcode", "opt", "bloom", "mpt", "falcon",
    "hunyuan_v1_dense", "ministral3", "apertus", "nanochat", "lfm2",
]  # fmt: skip
ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "gelu_fast", "quick_gelu"]
# Switches that are no part of what a model computes here, or that only other settings make sense of.
FIXED = re.compile(r"^(output_|return_dict|use_cache|is_encoder|is_decoder|add_cross|cross_att|summary_|torchscript|chunk_|pad_"
                   r"|gradient_|use_mamba|mamba_|has_no_defaults|use_bfloat16|tie_encoder|pruned)")
# What a value of 0 or a wild one only breaks.
FLOATS = re.compile(r"(multiplier|scal(e|ing)|softcapping|_eps|epsilon)$")


class Draw:
    """Settings of one model: the defaults of its configuration, shrunk and changed."""

    def __init__(self, rng, family):
        self.rng = rng
        self.family = family
        self.default = tf.CONFIG_MAPPING[family]().to_dict()
        self.settings = {}

    def put(self, key, *choices, always=True):
        if key in self.default and (always or self.rng.random() < 0.5):
            self.settings[key] = self.rng.choice(choices)

    def sizes(self):
        heads = self.rng.choice([1, 2, 4])
        width = heads * self.rng.choice([4, 6, 8])
        layers = self.rng.randint(1, 4)
        kv = self.rng.choice([n for n in (1, 2, 4) if heads % n == 0])
        self.heads, self.width, self.layers = heads, width, layers
        for key, value in [("hidden_size", width), ("n_embd", width), ("num_attention_heads", heads), ("n_head", heads),
                           ("num_heads", heads), ("num_hidden_layers", layers), ("n_layer", layers), ("num_layers", layers),
                           ("num_key_value_heads", kv), ("vocab_size", VOCAB), ("initializer_range", 0.3), ("d_model", width),
                           ("n_heads", heads), ("n_layers", layers), ("word_embed_proj_dim", width), ("num_kv_heads", kv)]:
            self.put(key, value)
        self.put("rotary_dim", 2, 4)
        self.put("ffn_dim", 5, 9)
        self.put("ffn_hidden_size", 4 * width, 9)
        self.put("n_inner", None, 2 * width)
        for key in ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"):
            self.put(key, 5, 6, 9)
        self.put("head_dim", 4, 6, 8, 10, always=self.default.get("head_dim") is not None)
        for key in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
            self.put(key, 40, 64, 200)
        self.put("query_pre_attn_scalar", 4, 7, 16)
        self.settings.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)

    def experts(self):
        n = self.rng.randint(2 if "n_group" in self.default else 1, 5)
        groups = [g for g in (2, 3) if "n_group" in self.default and self.rng.random() < 0.4]
        if groups:
            n = groups[0] * self.rng.randint(2, 3)
            self.settings.update(n_group=groups[0], topk_group=self.rng.randint(1, groups[0]))
        for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"):
            self.put(key, n)
        most = n // groups[0] * self.settings["topk_group"] if groups else n
        for key in ("num_experts_per_tok", "moe_k"):
            self.put(key, *range(1, most + 1))
        self.put("n_shared_experts", 1, 2)
        self.put("moe_num_shared_experts", 0, 1, 2)
        self.put("first_k_dense_replace", 0, 1, 2)
        self.put("moe_layer_start_index", 0, 1, 2)
        self.put("moe_layer_end_index", -1, 0, 2)
        self.put("moe_layer_interval", 1, 2)
        self.put("moe_norm_min", 1e-12, 0.3, 0.6, always=False)
        self.put("routed_scaling_factor", 1.0, 2.5, 0.4)
        self.put("decoder_sparse_step", 1, 2, always=False)
        self.put("mlp_only_layers", [], [0], [1], always=False)
        if self.family == "granitemoehybrid":
            self.put("num_local_experts", 0, n)
            self.settings.update(layer_types=["full_attention"] * self.layers, mamba_n_heads=2,
                                 position_embedding_type=self.rng.choice(["rope", None]))

    def switches(self):
        for key, value in self.default.items():
            if isinstance(value, bool) and not FIXED.match(key) and self.rng.random() < 0.35:
                self.settings[key] = not value
            elif isinstance(value, float) and FLOATS.search(key) and self.rng.random() < 0.4:
                self.settings[key] = value * self.rng.choice([0.5, 1.5, 3.0])
            elif key.endswith(("dropout", "_pdrop")) and self.rng.random() < 0.2:
                self.settings[key] = 0.1
        for key in ("hidden_act", "hidden_activation", "activation_function"):
            if self.rng.random() < 0.3:
                self.put(key, *ACTIVATIONS)
        self.put("clip_qkv", None, 0.5, 4.0, always=False)
        self.put("logit_scale", 0.25, 1.0, always=False)

    def windows(self):
        self.put("sliding_window", None, 3, 7, 4096, always=self.rng.random() < 0.8)
        self.put("window_size", 3, 7)
        self.put("max_window_layers", 0, 1, 2, 9)
        kinds = ["full_attention", "conv" if self.family == "lfm2" else "sliding_attention"]
        self.put("conv_L_cache", 1, 2, 3, 5)
        self.put("block_multiple_of", 1, 4)
        self.put("full_attn_idxs", [], [0], list(range(self.layers)), always=False)
        if "layer_types" in self.default and self.rng.random() < 0.4:
            self.settings.setdefault("layer_types", [self.rng.choice(kinds) for _ in range(self.layers)])
        if "attention_types" in self.default:
            kinds = [self.rng.choice(["global", "local"]) for _ in range(self.layers)]
            self.settings["attention_types"] = [[kinds, 1]]
        self.put("no_rope_layers", None, [self.rng.randint(0, 1) for _ in range(self.layers)], always=False)
        self.put("no_rope_layer_interval", 2, 3, always=False)

    def rope(self):
        kind = self.rng.choice(["default"] * 4 + ["linear", "dynamic", "yarn", "llama3", "longrope"])
        rope = dict(rope_type=kind, rope_theta=self.rng.choice([1e4, 5e5, 100.0]))
        if kind in ("linear", "dynamic", "yarn", "llama3"):
            rope["factor"] = self.rng.choice([1.5, 2.0, 8.0])
        if kind in ("yarn", "llama3"):
            rope["original_max_position_embeddings"] = self.rng.choice([8, 16, 32])
        if kind == "yarn":
            rope.update({key: value for key, value in dict(
                beta_fast=8.0, beta_slow=2.0, attention_factor=0.8, mscale=0.7, mscale_all_dim=1.3, truncate=False).items()
                if self.rng.random() < 0.3})
        if kind == "llama3":
            rope.update(low_freq_factor=1.0, high_freq_factor=self.rng.choice([2.0, 4.0]))
        part = self.default.get("partial_rotary_factor") or (self.default.get("rope_parameters") or {}).get("partial_rotary_factor")
        if part:
            rope["partial_rotary_factor"] = self.rng.choice([0.5, 1.0])
        if kind == "longrope":
            head = self.settings.get("head_dim") or self.width // self.heads
            half = int(head * rope.get("partial_rotary_factor", 1.0)) // 2
            rope.update(short_factor=[self.rng.uniform(1, 2) for _ in range(half)],
                        long_factor=[self.rng.uniform(2, 6) for _ in range(half)], original_max_position_embeddings=50)
            self.settings["original_max_position_embeddings"] = 50
        given = self.default.get("rope_parameters")
        if given and "full_attention" in given:
            plain = dict(rope_type="default", rope_theta=self.rng.choice([1e4, 100.0]))
            self.settings["rope_parameters"] = dict(full_attention=rope, sliding_attention=plain)
        elif given:
            self.settings["rope_parameters"] = rope

    def all(self):
        self.sizes()
        self.experts()
        self.switches()
        self.windows()
        if self.rng.random() < 0.7:
            self.rope()
        return self.settings


def make(rng, family, folder):
    """A model as a folder; the model in double precision."""
    config = tf.CONFIG_MAPPING[family](**Draw(rng, family).all())
    config._attn_implementation = config._experts_implementation = "eager"
    torch.manual_seed(rng.randrange(1 << 30))
    model = tf.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 or "_norm" in name:
                p.add_(torch.randn_like(p) * 0.2)
        correct(model)
    model.save_pretrained(folder)
    os.remove(f"{folder}/generation_config.json")
    path = f"{folder}/config.json"
    if rng.random() < 0.5:
        old_form(path)
    with open(path) as file:
        written = json.load(file)
    default = tf.CONFIG_MAPPING[family]().to_dict()
    for key in list(written):
        if key != "model_type" and key in default and default[key] == written[key] and rng.random() < 0.5:
            del written[key]
    with open(path, "w") as file:
        json.dump(written, file, indent=2)
    # What a reader of this very folder computes, not what it was made from.
    again = tf.AutoConfig.from_pretrained(folder)
    again._experts_implementation = "eager"
    again._attn_implementation = "sdpa" if family == "falcon" else "eager"  # eager code adds its ALiBi twice
    return tf.AutoModelForCausalLM.from_pretrained(folder, config=again, dtype=torch.float64).eval()


def theirs(model, rows):
    logps, loss = [], 0
    for row in rows:
        ids = torch.tensor([row])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        logp = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        logps.append(logp.detach())
        loss = loss - logp.sum()
    loss.backward()
    grads = {}
    for name, p in model.named_parameters():
        grads.update(by_expert(model, name, torch.zeros_like(p) if p.grad is None else p.grad))
    return logps, grads


def ours(spar, folder, rows):
    """Log-probs and gradients; or None and the refusal."""
    grads = f"{folder}/grads.safetensors"
    text = "".join(json.dumps({"ids": row}) + "\n" for row in rows)
    run = subprocess.run([spar, "score", "-m", folder, "--dtype", "f32", "-j", "1", "--grads", grads], input=text,
                         capture_output=True, text=True, check=False)
    if run.returncode not in range(0, 64) or (run.returncode == 0) != (run.stderr.strip() == ""):
        return None, f"EXIT {run.returncode}: {run.stderr.strip()}"
    if run.returncode:
        return None, run.stderr.strip() or run.stdout.strip()
    return [torch.tensor(json.loads(line)["logprobs"], dtype=torch.float64) for line in run.stdout.splitlines()], load_file(grads)


def far(a, b):
    """The largest difference, by the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) if a.shape == b.shape else float("inf")


def compare(spar, folder, model, rows):
    """What differs, "" where nothing does; and the refusal, or None."""
    want, want_grads = theirs(model, rows)
    got, got_grads = ours(spar, folder, rows)
    if got is None:
        return (got_grads, None) if got_grads.startswith("EXIT") else ("", got_grads)
    worst = max(far(a, b) for a, b in zip(got, want, strict=True))
    if not worst < 1e-3:
        return f"log-probs differ by {worst:.2g}", None
    wrong = []
    for name, grad in want_grads.items():
        mine = got_grads.get(name)
        if mine is None:
            wrong.append(f"{name}: none")
        elif not far(mine.double(), grad) < 2e-3:
            wrong.append(f"{name}: {far(mine.double(), grad):.2g}")
    return ("gradients: " + ", ".join(wrong[:4])) if wrong else "", None


def main():
    parser = random_rounds.options(__doc__)
    parser.add_argument("--family", action="append")
    o = parser.parse_args()

    def play(rng, folder, names):
        names.append(rng.choice(o.family or FAMILIES))
        model = make(rng, names[0], folder)
        rows = [[rng.randrange(3, VOCAB) for _ in range(n)] for n in (2 + rng.randrange(4), 13, 30)]
        return compare(o.spar, folder, model, rows)

    return random_rounds.run(o, play)


if __name__ == "__main__":
    sys.exit(main())
