"""Write tests/golden/gguf_blocks.gguf: seeded numbers in each type that spar reads, as q.TYPE, and
what the gguf package makes of them, as f.TYPE in f32; the numbers themselves are n.

usage: python make_gguf_blocks.py OUT.gguf        (made with gguf 0.19, numpy 2)
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

TYPES = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.BF16, Type.F16]


def encode(numbers, kind):
    if kind == Type.F16:
        half = numbers.astype(np.float16)
        return half, half.astype(np.float32)
    blocks = quants.quantize(numbers, kind)
    return blocks, quants.dequantize(blocks, kind).astype(np.float32)


def main(path):
    rng = np.random.default_rng(1)
    # a row of tiny, of ordinary and of large numbers: scales that are subnormal halves occur
    scales = np.array([[1e-6], [1.0], [300.0]])
    numbers = (rng.standard_normal((3, 96)) * scales).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("n", numbers)
    for kind in TYPES:
        blocks, values = encode(numbers, kind)
        raw = None if kind == Type.F16 else kind
        writer.add_tensor(f"q.{kind.name}", blocks, raw_dtype=raw)
        writer.add_tensor(f"f.{kind.name}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
