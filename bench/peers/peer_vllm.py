"""vLLM on the CPU: peer_vllm.py rollout|rollout8|single MODEL_DIR f32|bf16."""

import json
import os
import random
import resource
import sys
import time

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main():
    from vllm import LLM, SamplingParams

    work, path, dtype = sys.argv[1:4]
    prompt, streams = {"rollout": (128, 32), "rollout8": (128, 8), "single": (8, 1)}[work]
    engine = LLM(
        path,
        dtype={"f32": "float32", "bf16": "bfloat16"}[dtype],
        max_model_len=1024,
        enable_prefix_caching=True,
        max_num_seqs=64,
    )
    random.seed(0)
    ids = [random.randrange(100, 30000) for _ in range(prompt)]
    sampling = SamplingParams(
        n=streams, temperature=1.0, max_tokens=128, min_tokens=128, ignore_eos=True, logprobs=0
    )
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        engine.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)
        times.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = streams * 128 / sorted(times[1:])[1]
    print(json.dumps({"tokens_per_s": rate, "peak_rss_mb": peak}))


if __name__ == "__main__":
    main()
