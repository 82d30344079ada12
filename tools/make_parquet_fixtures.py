#!/usr/bin/env python3
"""Make tests/golden/parquet: small Parquet files and, beside each, the rows it holds as JSON.

    python3 tools/make_parquet_fixtures.py tests/golden/parquet        (needs pyarrow)

Each file is one way of writing the same kinds of rows: encodings, compressions, page versions, row
groups, nulls and nested lists.
"""
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 40


def rows():
    out = []
    for i in range(ROWS):
        turns = [{"role": ("user", "assistant")[t % 2], "content": None if (i + t) % 11 == 10
                  else f"turn {t} of {i % 5}"} for t in range(i % 4)]
        out.append({
            "prompt": f"prompt {i % 7}" if i % 5 else "",
            "chosen": None if i % 6 == 5 else f"größer {i}",
            "messages": None if i % 9 == 8 else turns,
            "tags": None if i % 8 == 7 else [None if k == 1 else f"t{k}" for k in range(i % 3)],
            "nested": [[j * i for j in range(k)] for k in range(i % 3)],
            "extra": None if i % 7 == 6 else {"n": i - 20, "who": f"w{i % 2}"},
            "count": None if i % 10 == 9 else i * 1000003 - 17,
            "small": (i * 7) % 50 - 25,
            "wide": 2 ** 33 * i,
            "half": i / 4,
            "score": None if i % 4 == 3 else i / 8 - 2,
            "label": None if i % 12 == 11 else i % 3 == 0,
        })
    return out


SCHEMA = pa.schema([
    ("prompt", pa.string()), ("chosen", pa.string()),
    ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("tags", pa.list_(pa.string())), ("nested", pa.list_(pa.list_(pa.int64()))),
    ("extra", pa.struct([("n", pa.int32()), ("who", pa.string())])),
    ("count", pa.int64()), ("small", pa.int32()), ("wide", pa.uint64()),
    ("half", pa.float32()), ("score", pa.float64()), ("label", pa.bool_()),
])
TEXTS = ["prompt", "chosen"]
NUMBERS = ["count", "small", "wide"]
DELTAS = {**{c: "DELTA_BYTE_ARRAY" for c in TEXTS}, **{c: "DELTA_BINARY_PACKED" for c in NUMBERS},
          "half": "BYTE_STREAM_SPLIT", "score": "BYTE_STREAM_SPLIT",
          "messages.list.element.role": "DELTA_LENGTH_BYTE_ARRAY", "label": "RLE"}

FILES = {
    "plain": dict(use_dictionary=False, compression="NONE"),
    "dictionary": dict(compression="NONE", row_group_size=15),
    "snappy": dict(compression="SNAPPY", row_group_size=7),
    "gzip": dict(compression="GZIP", data_page_version="2.0"),
    "zstd": dict(compression="ZSTD", data_page_version="2.0", data_page_size=64,
                 write_batch_size=4),
    "pages": dict(compression="NONE", data_page_size=64, write_batch_size=4,
                  use_dictionary=TEXTS),
    "delta": dict(use_dictionary=False, compression="NONE", column_encoding=DELTAS),
    "delta_v2": dict(use_dictionary=False, compression="SNAPPY", data_page_version="2.0",
                     column_encoding=DELTAS, write_page_checksum=True),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows(), schema=SCHEMA)
    for name, options in FILES.items():
        options.setdefault("version", "2.6")
        pq.write_table(table, folder / f"{name}.parquet", write_statistics=False,
                       store_schema=False, **options)
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as out:
        for row in table.to_pylist():
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


main()
