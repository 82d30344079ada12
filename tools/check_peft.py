#!/usr/bin/env python3
"""Hold spar's LoRA adapters against PEFT (Hugging Face), in both directions.

usage: check_peft.py SPAR MODEL... [--adapter ADAPTER]

SPAR is the program, each MODEL a Hugging Face folder (tools/make_wide_models.py has one a family),
ADAPTER a folder that a run with a `lora` section wrote (RUN/adapter), for the first of them. Checked:
PEFT loads ADAPTER, and adapters that `spar train` makes here of random ids, plain and with magnitudes
(DoRA), and gives the logits of `spar score --adapter`; and spar reads adapters that PEFT writes, plain,
rank-stabilised and DoRA, on all linear layers and on two of them. Of mixtures also adapters of experts:
those that spar makes, those that PEFT writes of the parameters that transformers 5 has, and a module an
expert, as older versions have it. Logits agree within 1e-3. The exit status is 0 when all agree, 1
otherwise. Needs torch, transformers, peft and safetensors.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-3
IDS = [1, 40, 7, 300, 22, 5, 90, 17, 260, 33, 8]
TWO = ("q_proj", "qkv_proj", "query_key_value", "c_attn", "down_proj", "c_proj", "dense_4h_to_h", "o_proj")


def spar_logits(spar, model, adapter):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "logits.safetensors")
        subprocess.run(
            [spar, "score", "-m", model, "--adapter", adapter, "--logits", path],
            input=json.dumps({"ids": IDS}).encode(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return load_file(path)["logits.0"]


def base(model):
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def torch_logits(model):
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].float()


def compare(name, spar, model, adapter, peft_model):
    found = spar_logits(spar, model, adapter)
    gap = (found - torch_logits(peft_model)).abs().max().item()
    change = (found - torch_logits(base(model))).abs().max().item()
    good = gap <= TOLERANCE < change
    print(f"{'ok  ' if good else 'FAIL'} {model}, {name}: largest difference {gap:.2e}; the adapter moves "
          f"logits by up to {change:.2e}", flush=True)
    return good


def train(spar, model, folder, more):
    """An adapter that spar makes, of a few random rows."""
    draw = random.Random(3)
    rows = os.path.join(folder, "rows.jsonl")
    with open(rows, "w") as file:
        for _ in range(16):
            ids = [draw.randrange(3, 300) for _ in range(12)]
            file.write(json.dumps(dict(prompt_ids=ids[:4], completion_ids=ids[4:])) + "\n")
    out = os.path.join(folder, "adapter")
    subprocess.run([spar, "train", "-m", model, "--data", rows, "--method", "sft", "--lr", "1e-2",
                    "--batch", "4", "--lora-rank", "4", *more, "--out", out],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def has_experts(model):
    return any(".experts" in name for name, _ in base(model).named_parameters())


def check_written(spar, model):
    ok = True
    dense = has_experts(model) and ".mlp.gate_proj.weight" in str(base(model).state_dict().keys())
    # of dense layers beside experts PEFT is told as of parameters, for which it has no DoRA
    runs = [[], ["--dora", *(["--lora-targets", "q_proj,o_proj"] if dense else [])]]
    if has_experts(model):
        runs += [["--lora-targets", "all-linear"], ["--lora-targets", "experts.down_proj,q_proj"]]
        runs += [["--lora-targets", "gate_up_proj", "--weights", "q8_0"]]
    if "layers.0.shared_mlp.input_linear.weight" in str(base(model).state_dict().keys()):
        runs += [["--lora-targets", "input_linear,output_linear"]]
    if "layers.0.mlp.shared_expert_gate.weight" in str(base(model).state_dict().keys()):
        runs += [["--lora-targets", "shared_expert.down_proj,shared_expert.up_proj"]]
    for more in runs:
        with tempfile.TemporaryDirectory() as folder:
            adapter = train(spar, model, folder, more)
            ok &= compare(" ".join(["written by spar"] + more), spar, model, adapter,
                          PeftModel.from_pretrained(base(model), adapter))
    return ok


def write(model, folder, settings):
    """An adapter that PEFT writes; returns its model."""
    torch.manual_seed(1)
    adapted = get_peft_model(base(model), LoraConfig(
        r=5, lora_alpha=9, init_lora_weights=False, task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "magnitude" in name:
                p.mul_(1 + 0.2 * torch.rand_like(p))
            elif ".experts" in name and "lora_" in name:
                p.mul_(0.3)
    adapted.save_pretrained(folder)
    return adapted


def write_by_expert(model, folder):
    """A module an expert, with the names of the checkpoint; returns what PEFT makes of it."""
    torch.manual_seed(2)
    tensors, targets = {}, set()
    for name, weight in load_file(f"{model}/model.safetensors").items():
        if ".experts." in name:
            module = name.removesuffix(".weight")
            targets.add(module.split(".")[-1])
            tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(3, weight.shape[1]) * 0.05
            tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(weight.shape[0], 3) * 0.05
    save_file(tensors, f"{folder}/adapter_model.safetensors")
    with open(f"{folder}/adapter_config.json", "w") as file:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", r=3, lora_alpha=6, bias="none",
                       target_modules=sorted(targets)), file)
    return PeftModel.from_pretrained(base(model), folder)


def check_read(spar, model):
    ok = True
    names = {name.split(".")[-1] for name, _ in base(model).named_modules()}
    conv = dict(fan_in_fan_out="c_attn" in names)
    experts = has_experts(model)
    some = ["q_proj", "o_proj"] if experts else [name for name in TWO if name in names][:2]
    parameters = ["experts.gate_up_proj", "experts.down_proj"]
    cases = [dict(conv, target_modules=some, **more)
             for more in ({}, dict(use_rslora=True), dict(use_dora=True))]
    cases.append(dict(conv, target_modules="all-linear"))
    if experts:
        cases += [dict(target_modules=some, target_parameters=parameters, use_rslora=True),
                  dict(target_parameters=parameters[1:]), dict(target_parameters=parameters[:1])]
    else:
        cases += [dict(conv, target_modules="all-linear", **more)
                  for more in (dict(use_rslora=True), dict(use_dora=True))]
    for settings in cases:
        with tempfile.TemporaryDirectory() as folder:
            adapted = write(model, folder, settings)
            ok &= compare(f"written by PEFT, {settings}", spar, model, folder, adapted)
    # PEFT drops those of qwen2_moe; checkpoints of Granite have no matrix of one expert
    if experts and not base(model).config.model_type.startswith(("qwen2_moe", "granitemoe")):
        with tempfile.TemporaryDirectory() as folder:
            adapted = write_by_expert(model, folder)
            ok &= compare("a module an expert", spar, model, folder, adapted)
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("spar")
    parser.add_argument("models", nargs="+", metavar="model")
    parser.add_argument("--adapter")
    options = parser.parse_args()
    ok = True
    if options.adapter:
        model = options.models[0]
        ok = compare("given", options.spar, model, options.adapter,
                     PeftModel.from_pretrained(base(model), options.adapter))
    for model in options.models:
        ok = check_written(options.spar, model) and ok
        ok = check_read(options.spar, model) and ok
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
