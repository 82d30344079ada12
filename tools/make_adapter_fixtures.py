#!/usr/bin/env python3
"""Write tests/golden/adapters: LoRA adapters of experts as PEFT writes them, with what it computes.

usage: make_adapter_fixtures.py ARCH FOLDER     (made with torch 2.15, transformers 5.24, peft 0.21)

ARCH is tests/golden/arch, where the models are. Each folder is what PEFT saves (adapter_config.json,
adapter_model.safetensors), random, with expected.safetensors: logp.i [T-1] of the next tokens of the
model's i-th row, and grad.TENSOR of the sum of -log p over all of them, in double precision.
NAME-experts has a module an expert, as adapters of transformers 4 have it, and what PEFT makes of it.
"""
import json
import os
import sys

import torch
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
SHARED = ["shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert.down_proj",
          "shared_expert_gate"]
# name: model, settings
ADAPTERS = {
    "mixtral-linear": ("mixtral", dict(r=2, lora_alpha=5, target_modules="all-linear")),
    "qwen2-moe": ("qwen2-moe-plain", dict(r=3, lora_alpha=4, use_rslora=True, target_modules=SHARED,
                                          target_parameters=EXPERTS)),
    "olmoe-down": ("olmoe", dict(r=2, lora_alpha=3, target_modules=["k_proj"],
                                 target_parameters=EXPERTS[1:])),
}


def load(arch, model):
    return tf.AutoModelForCausalLM.from_pretrained(
        f"{arch}/{model}", dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager").eval()


def expected(adapted, arch, model, grads):
    with open(f"{arch}/{model}/io.json") as file:
        rows = json.load(file)["rows"]
    out, loss = {}, 0
    for i, row in enumerate(rows):
        ids = torch.tensor([row])
        logits = adapted(input_ids=ids, use_cache=False).logits[0]
        logp = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        out[f"logp.{i}"] = logp.detach()
        loss = loss - logp.sum()
    if grads:
        loss.backward()
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                out["grad." + name.replace(".default", "")] = p.grad
    return {name: value.float().contiguous() for name, value in out.items()}


def make(arch, folder, name, model, settings):
    torch.manual_seed(sum(map(ord, name)))
    adapted = get_peft_model(load(arch, model), LoraConfig(
        task_type="CAUSAL_LM", init_lora_weights=False, **settings))
    adapted.save_pretrained(folder)
    os.remove(f"{folder}/README.md")
    save_file(expected(adapted.double(), arch, model, True), f"{folder}/expected.safetensors")


def make_experts(arch, folder):
    """w1, w2, w3 of every expert of mixtral: modules of their own."""
    torch.manual_seed(7)
    rank, tensors = 2, {}
    for layer in range(2):
        for expert in range(4):
            for part in ("w1", "w2", "w3"):
                base = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}"
                wide, narrow = (8, 5) if part != "w2" else (5, 8)
                tensors[base + ".lora_A.weight"] = torch.randn(rank, wide) * 0.5
                tensors[base + ".lora_B.weight"] = torch.randn(narrow, rank) * 0.5
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, f"{folder}/adapter_model.safetensors")
    with open(f"{folder}/adapter_config.json", "w") as file:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=3, bias="none",
                       target_modules=["w1", "w2", "w3"]), file, indent=2)
    adapted = PeftModel.from_pretrained(load(arch, "mixtral"), folder).double()
    save_file(expected(adapted, arch, "mixtral", False), f"{folder}/expected.safetensors")


def main():
    arch, out = sys.argv[1:3]
    for name, (model, settings) in ADAPTERS.items():
        make(arch, f"{out}/{name}", name, model, settings)
    make_experts(arch, f"{out}/mixtral-experts")


if __name__ == "__main__":
    main()
