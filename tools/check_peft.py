#!/usr/bin/env python3
"""Hold spar's LoRA adapters against PEFT (Hugging Face), in both directions.

usage: check_peft.py SPAR MODEL ADAPTER

SPAR is the program, MODEL a Hugging Face folder, ADAPTER a folder that a run with a `lora` section
wrote (RUN/adapter). Checked: PEFT loads ADAPTER onto MODEL and gives the logits of `spar score
--adapter`; and spar reads adapters that PEFT writes, plain and rank-stabilised, on all linear layers
and on two of them. Logits agree within 1e-3. The exit status is 0 when all agree, 1 otherwise. Needs
torch, transformers, peft and safetensors.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-3
IDS = [1, 40, 7, 300, 22, 5, 90, 17, 260, 33, 8]


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


def compare(name, spar, model, adapter, peft_model):
    with torch.no_grad():
        want = peft_model(torch.tensor([IDS])).logits[0].float()
    gap = (spar_logits(spar, model, adapter) - want).abs().max().item()
    same = gap <= TOLERANCE
    print(f"{'ok  ' if same else 'FAIL'} {name}: largest difference {gap:.2e}")
    return same


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    spar, model, adapter = sys.argv[1:]

    def base():
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    plain = base()
    with torch.no_grad():
        before = plain(torch.tensor([IDS])).logits[0]
    ok = compare("written by spar", spar, model, adapter, PeftModel.from_pretrained(plain, adapter))
    change = (spar_logits(spar, model, adapter) - before).abs().max().item()
    print(f"     (the adapter moves the logits by up to {change:.2e})")
    for rslora in (False, True):
        for targets in ("all-linear", ["q_proj", "down_proj"]):
            torch.manual_seed(1)
            config = LoraConfig(
                r=5,
                lora_alpha=9,
                target_modules=targets,
                use_rslora=rslora,
                init_lora_weights=False,
                task_type="CAUSAL_LM",
            )
            adapted = get_peft_model(base(), config).eval()
            with tempfile.TemporaryDirectory() as folder:
                adapted.save_pretrained(folder)
                name = f"written by PEFT, {targets}{', rsLoRA' if rslora else ''}"
                ok = compare(name, spar, model, folder, adapted) and ok
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
