"""Write src/tensor/codebook_values.c: the code books of ggml's types IQ1, IQ2 and IQ3 (facts of the
file format, from the gguf package), a word of 16 bits an entry.

usage: python make_codebooks.py OUT.c
"""
import sys

import numpy as np
from gguf import quants

BOOKS = {
    "iq1_s": (quants.IQ1_S, 2),
    "iq2_xxs": (quants.IQ2_XXS, 2),
    "iq2_xs": (quants.IQ2_XS, 2),
    "iq2_s": (quants.IQ2_S, 2),
    "iq3_xxs": (quants.IQ3_XXS, 3),
    "iq3_s": (quants.IQ3_S, 3),
}


def words(kind, bits):
    kind.init_grid()
    grid = kind.grid.reshape(kind.grid_shape).astype(np.int64)
    places = {value: place for place, value in enumerate(kind.grid_map)}
    return [sum(places[v] << bits * j for j, v in enumerate(row)) for row in grid.tolist()]


def main(path):
    with open(path, "w") as out:
        out.write("/* Made by tools/make_codebooks.py: the code books of ggml's types IQ1, IQ2 and IQ3. */\n")
        out.write('#include "tensor/codebook_values.h"\n')
        for name, (kind, bits) in BOOKS.items():
            values = words(kind, bits)
            out.write(f"\nconst uint16_t sp_{name}_words[{len(values)}] = {{\n")
            for at in range(0, len(values), 12):
                out.write("    " + ", ".join(f"0x{v:04x}" for v in values[at : at + 12]) + ",\n")
            out.write("};\n")


if __name__ == "__main__":
    main(sys.argv[1])
