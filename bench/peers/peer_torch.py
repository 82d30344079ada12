"""transformers on torch: peer_torch.py train|rollout|rollout8|single MODEL_DIR f32|bf16."""

import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

work, path, dtype = sys.argv[1:4]
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(
    path, dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype], attn_implementation="sdpa"
)


def train():
    """Seconds of a step on 4 x 256 tokens, as a function."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    ids = torch.randint(0, model.config.vocab_size, (4, 256))

    def step():
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, ids.numel()


def sample(prompt_tokens, responses):
    model.eval()
    ids = torch.randint(0, model.config.vocab_size, (1, prompt_tokens)).repeat(responses, 1)

    def step():
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=128,
                min_new_tokens=128,
                do_sample=True,
                top_k=0,
                top_p=1.0,
                pad_token_id=0,
            )

    return step, responses * 128


works = {
    "train": train,
    "rollout": lambda: sample(128, 32),
    "rollout8": lambda: sample(128, 8),
    "single": lambda: sample(8, 1),
}
step, tokens = works[work]()
step()
times = []
for _ in range(3):
    begun = time.perf_counter()
    step()
    times.append(time.perf_counter() - begun)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"tokens_per_s": tokens / sorted(times)[1], "peak_rss_mb": peak}))
