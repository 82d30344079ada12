"""The tokenizers library on one core: peer_tokenizers.py tokenize FOLDER TEXT.

Each line of the text is a row of one batch, the library's fastest way; no offsets are kept.
"""

import json
import os
import resource
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read when the library is first used
from tokenizers import Tokenizer  # noqa: E402

_, folder, path = sys.argv[1:]
tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
with open(path, encoding="utf-8", newline="") as file:
    text = file.read()
lines = text.split("\n")


def once():
    """Seconds, and tokens."""
    begun = time.perf_counter()
    rows = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return time.perf_counter() - begun, sum(len(row.ids) for row in rows)


once()
runs = sorted(once() for _ in range(3))
seconds, tokens = runs[1]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
size = os.path.getsize(path)
print(json.dumps({"tokens_per_s": tokens / seconds, "mb_per_s": 1e-6 * size / seconds, "peak_rss_mb": peak}))
