"""llama.cpp through its C interface: peer_llama.py rollout|rollout8|single|prefill MODEL.gguf THREADS.

Tokens are drawn beforehand, so sampling costs nothing here.
"""

import json
import random
import resource
import sys
import time

import llama_cpp as ll

work, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
works = {  # tokens of the prompt, streams, new tokens
    "rollout": (128, 32, 128),
    "rollout8": (128, 8, 128),
    "single": (8, 1, 128),
    "prefill": (512, 1, 0),
}
prompt, streams, new = works[work]
random.seed(0)
ll.llama_backend_init()
loading = ll.llama_model_default_params()
loading.use_extra_bufts = False  # 0.3.36 crashes on its AMX layouts; Q4_1 has no other one on x86
model = ll.llama_model_load_from_file(path.encode(), loading)
settings = ll.llama_context_default_params()
settings.n_ctx = 16384
settings.n_batch = 2048
settings.n_seq_max = 64
settings.n_threads = settings.n_threads_batch = threads
if hasattr(settings, "kv_unified"):
    settings.kv_unified = True
context = ll.llama_init_from_model(model, settings)
memory = ll.llama_get_memory(context)
batch = ll.llama_batch_init(2048, 0, 64)


def decode(tokens):
    """One batch of (position, stream, wanted) at random tokens."""
    for i, (position, stream, wanted) in enumerate(tokens):
        batch.token[i] = random.randrange(100, 30000)
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = stream
        batch.logits[i] = wanted
    batch.n_tokens = len(tokens)
    if ll.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    ll.llama_synchronize(context)


def once():
    """Tokens a second: of the prompt for prefill, else of the new tokens, the prompt included."""
    ll.llama_memory_clear(memory, True)
    begun = time.perf_counter()
    decode([(i, 0, i == prompt - 1) for i in range(prompt)])
    for stream in range(1, streams):
        ll.llama_memory_seq_cp(memory, 0, stream, -1, -1)
    for k in range(new):
        decode([(prompt + k, stream, True) for stream in range(streams)])
    return (streams * new or prompt) / (time.perf_counter() - begun)


once()
rates = sorted(once() for _ in range(3))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"tokens_per_s": rates[1], "peak_rss_mb": peak}))
