"""TRL's DPOTrainer: peer_trl.py dpo MODEL_DIR f32|bf16 PAIRS.jsonl.

Rows as spar train takes them: {"prompt_ids", "chosen_ids", "rejected_ids"} or conversations under
"prompt", "chosen" and "rejected".
"""

import json
import resource
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

_, path, dtype, data = sys.argv[1:5]
tokenizer = AutoTokenizer.from_pretrained(path)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token


def text_row(row):
    if "prompt_ids" not in row:
        return {k: row[k] for k in ("prompt", "chosen", "rejected")}
    return {k: tokenizer.decode(row[k + "_ids"]) for k in ("prompt", "chosen", "rejected")}


with open(data, encoding="utf-8") as lines:
    rows = [text_row(json.loads(line)) for line in lines if line.strip()]
begun = time.perf_counter()
with tempfile.TemporaryDirectory() as out:
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        args=DPOConfig(
            output_dir=out,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            num_train_epochs=1,
            max_length=512,
            learning_rate=5e-7,
            optim="rmsprop",
            bf16=dtype == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            gradient_checkpointing=False,
            beta=0.1,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_rss_mb": peak}))
