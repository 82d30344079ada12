"""Write tests/golden/gguf_kblocks.gguf: super-blocks of seeded bytes under finite scales, as
q.TYPE, and what the gguf package makes of them, as f.TYPE in f32.

usage: python make_gguf_kblocks.py OUT.gguf
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

ROWS = 4
# type: bytes of a block, where its half-precision scales are, how many
TYPES = {
    Type.Q2_K: (84, 80, 2),
    Type.Q3_K: (110, 108, 1),
    Type.Q4_K: (144, 0, 2),
    Type.Q5_K: (176, 0, 2),
    Type.Q6_K: (210, 208, 1),
    Type.IQ4_NL: (18, 0, 1),
    Type.IQ4_XS: (136, 0, 1),
    Type.TQ1_0: (54, 52, 1),
    Type.TQ2_0: (66, 64, 1),
    Type.MXFP4: (17, 0, 0),
    Type.NVFP4: (36, 0, 0),
    Type.IQ1_S: (50, 0, 1),
    Type.IQ1_M: (56, 0, 0),
    Type.IQ2_XXS: (66, 0, 1),
    Type.IQ2_XS: (74, 0, 1),
    Type.IQ2_S: (82, 0, 1),
    Type.IQ3_XXS: (98, 0, 1),
    Type.IQ3_S: (110, 0, 1),
}


def spread_scale(blocks, scale):
    """IQ1_M: the nibbles of a block's half-precision scale are the upper ones of its last four words."""
    words = blocks[:, 48:].copy().view(np.uint16)
    nibbles = scale.view(np.uint16)[:, None] >> np.array([0, 4, 8, 12], dtype=np.uint16) & np.uint16(15)
    blocks[:, 48:] = (words & np.uint16(0x0FFF) | nibbles << np.uint16(12)).view(np.uint8)


def main(path):
    rng = np.random.default_rng(2)
    writer = gguf.GGUFWriter(path, "llama")
    for kind, (size, at, count) in TYPES.items():
        blocks = rng.integers(0, 256, (ROWS, size), dtype=np.uint8)
        sizes = np.array([[1e-6], [0.01], [1.0], [30.0]])
        scales = (rng.standard_normal((ROWS, count)) * sizes).astype(np.float16).view(np.uint8)
        blocks[:, at : at + scales.shape[1]] = scales
        if kind is Type.IQ1_M:
            spread_scale(blocks, (rng.standard_normal(ROWS) * sizes[:, 0]).astype(np.float16))
        writer.add_tensor(f"q.{kind.name}", blocks, raw_dtype=kind)
        writer.add_tensor(f"f.{kind.name}", quants.dequantize(blocks, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
