#!/usr/bin/env python3
"""Write tests/golden/gguf_bits.gguf: blocks of seeded bytes of the types of one and two bits, as q.TYPE,
and what llama.cpp's library makes of them, as f.TYPE in f32.

usage: make_gguf_bits.py OUT.gguf        (made with llama-cpp-python 0.3.36, numpy 2)
"""

import ctypes
import pathlib
import struct
import sys

import llama_cpp
import numpy as np

ROWS, BLOCKS, F32 = 4, 2, 0
TYPES = {"Q1_0": 41, "Q2_0": 42}


def blocks_of(library, name, kind, rng):
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    elements, size = library.ggml_blck_size(kind), library.ggml_type_size(kind)
    blocks = rng.integers(0, 256, (ROWS, BLOCKS, size), dtype=np.uint8)
    scales = rng.standard_normal((ROWS, BLOCKS, 1)) * np.array([1e-6, 0.01, 1.0, 30.0])[:, None, None]
    blocks[:, :, :2] = scales.astype(np.float16).view(np.uint8)
    values = np.zeros((ROWS, BLOCKS * elements), np.float32)
    getattr(library, "dequantize_row_" + name.lower())(
        blocks.ctypes.data_as(ctypes.c_void_p), values.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(values.size))
    return blocks, values


def main(path):
    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(folder / "libggml-base.so"))
    rng = np.random.default_rng(3)
    tensors = []
    for name, kind in TYPES.items():
        blocks, values = blocks_of(library, name, kind, rng)
        tensors.append(("q." + name, kind, values.shape, blocks.tobytes()))
        tensors.append(("f." + name, F32, values.shape, values.tobytes()))
    head, data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 0), b""
    for name, kind, shape, raw in tensors:
        head += struct.pack("<Q", len(name)) + name.encode()
        head += struct.pack("<IQQIQ", 2, shape[1], shape[0], kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    pathlib.Path(path).write_bytes(head + bytes(-len(head) % 32) + data)


main(sys.argv[1])
