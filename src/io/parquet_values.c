/* The encodings of a page's values (Parquet's "Encodings.md"). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/parquet.h"
#include "io/thrift.h"

enum {
    PLAIN = 0,
    PLAIN_DICTIONARY = 2,
    RLE = 3,
    DELTA_BINARY_PACKED = 5,
    DELTA_LENGTH_BYTE_ARRAY = 6,
    DELTA_BYTE_ARRAY = 7,
    RLE_DICTIONARY = 8,
    BYTE_STREAM_SPLIT = 9,
};
enum { LONGEST_VALUE = 64 << 20, LARGEST_BLOCK = 1 << 20 };

static spar_status no_value(spar_error *err) {
    return spar_fail(
        err, SPAR_FORMAT,
        "expected as many values as the page announces, found fewer or ill-formed ones");
}

static uint64_t read_little(const uint8_t *at, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

/* width bits (at most 64) from bit on; the bytes are there. */
static uint64_t read_bits(const uint8_t *at, uint64_t bit, int width) {
    uint64_t value = 0;
    for (int got = 0; got < width;) {
        const int skip = (int)(bit % 8), n = 8 - skip < width - got ? 8 - skip : width - got;
        const uint64_t piece = ((unsigned)at[bit / 8] >> skip) & ((1U << n) - 1);
        value |= piece << got;
        got += n;
        bit += (uint64_t)n;
    }
    return value;
}

/* ---- runs and groups ---- */

void sp_parquet_hybrid_init(sp_parquet_hybrid *h, const uint8_t *at, const uint8_t *end,
                            int width) {
    *h = (sp_parquet_hybrid){.at = at, .end = end, .width = width};
}

/* The header of a run or group; the last group may be cut short behind its last value. */
static bool next_run(sp_parquet_hybrid *h) {
    sp_thrift t = {h->at, h->end, false};
    const uint64_t header = sp_thrift_unsigned(&t);
    const size_t left = (size_t)(t.end - t.at), bytes = ((size_t)h->width + 7) / 8;
    h->packed = NULL;
    h->left = header >> 1;
    if (t.failed || header >> 1 > UINT32_MAX) {
        return false;
    }
    h->at = t.at;
    if (header & 1) {
        const uint64_t size = h->left * (uint64_t)h->width;
        h->packed = t.at;
        h->bit = 0;
        h->left *= 8;
        h->at += size < left ? (size_t)size : left;
        return true;
    }
    if (bytes > left) {
        return false;
    }
    h->value = (uint32_t)read_little(t.at, bytes);
    h->at += bytes;
    return true;
}

bool sp_parquet_hybrid_next(sp_parquet_hybrid *h, uint32_t *value) {
    while (h->left == 0) {
        if (!next_run(h)) {
            return false;
        }
    }
    h->left--;
    if (h->packed) {
        const size_t next = h->bit + (size_t)h->width;
        if ((next + 7) / 8 > (size_t)(h->at - h->packed)) {
            return false;
        }
        h->value = (uint32_t)read_bits(h->packed, h->bit, h->width);
        h->bit = next;
    }
    *value = h->value;
    return true;
}

/* ---- deltas ---- */

static bool delta_init(sp_parquet_delta *d, const uint8_t *at, const uint8_t *end) {
    sp_thrift t = {at, end, false};
    const uint64_t block = sp_thrift_unsigned(&t);
    const uint64_t minis = sp_thrift_unsigned(&t);
    *d = (sp_parquet_delta){.minis = minis, .end = end};
    d->total = d->left = sp_thrift_unsigned(&t);
    d->value = (uint64_t)sp_thrift_int(&t);
    d->at = t.at;
    if (t.failed || block == 0 || block > LARGEST_BLOCK || minis == 0 || block % minis != 0 ||
        block / minis % 8 != 0) {
        return false;
    }
    d->per_mini = d->in_mini = block / minis;
    d->mini = minis - 1;
    return true;
}

/* The next miniblock, and before it the next block where this one is over. */
static bool next_mini(sp_parquet_delta *d) {
    if (++d->mini == d->minis) {
        sp_thrift t = {d->at, d->end, false};
        d->least = (uint64_t)sp_thrift_int(&t);
        if (t.failed || d->minis > (uint64_t)(t.end - t.at)) {
            return false;
        }
        d->widths = t.at;
        d->at = t.at + d->minis;
        d->mini = 0;
    }
    const uint64_t size = d->per_mini / 8 * d->widths[d->mini];
    if (d->widths[d->mini] > 64 || size > (uint64_t)(d->end - d->at)) {
        return false;
    }
    d->packed = d->at;
    d->at += size;
    d->in_mini = 0;
    return true;
}

static bool delta_next(sp_parquet_delta *d, uint64_t *value) {
    if (d->left == 0) {
        return false;
    }
    if (d->left-- < d->total) {
        if (d->in_mini == d->per_mini && !next_mini(d)) {
            return false;
        }
        const int width = d->widths[d->mini];
        d->value += d->least + read_bits(d->packed, d->in_mini++ * (uint64_t)width, width);
    }
    *value = d->value;
    return true;
}

/* Lengths, and where the bytes behind them begin: lengths take no memory, they are read twice. */
static bool lengths_init(sp_parquet_values *v, sp_parquet_delta *lengths) {
    uint64_t value;
    if (!delta_init(lengths, v->at, v->end)) {
        return false;
    }
    sp_parquet_delta ahead = *lengths;
    while (ahead.left > 0) {
        if (!delta_next(&ahead, &value)) {
            return false;
        }
    }
    v->at = ahead.at;
    return true;
}

/* ---- values ---- */

size_t sp_parquet_width(const sp_parquet_node *leaf) {
    static const size_t widths[] = {0, 4, 8, 12, 4, 8, 0, 0};
    return leaf->type == SP_PARQUET_FIXED ? leaf->width : widths[leaf->type];
}

spar_status sp_parquet_dictionary_init(sp_parquet_dictionary *d, const sp_parquet_node *leaf,
                                       const uint8_t *bytes, size_t size, int64_t n,
                                       spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t width = leaf->type == SP_PARQUET_BYTES ? 4 : sp_parquet_width(leaf);
    void *memory;
    size_t at = 0;
    *d = (sp_parquet_dictionary){.bytes = bytes, .size = size};
    if (width == 0 || n < 0 || (uint64_t)n > size / width) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "expected a dictionary of %lld values, found %zu bytes", (long long)n,
                           size));
    }
    d->n = (size_t)n;
    if (leaf->type != SP_PARQUET_BYTES) {
        goto done;
    }
    SPAR_TRY(sp_mem_calloc(&memory, d->n, sizeof *d->offsets, err));
    d->offsets = memory;
    for (size_t i = 0; i < d->n; i++) {
        d->offsets[i] = at;
        if (size - at < 4 || read_little(bytes + at, 4) > size - at - 4) {
            SPAR_TRY(no_value(err));
        }
        at += 4 + (size_t)read_little(bytes + at, 4);
    }
done:
    return status;
}

static bool encoding_ready(sp_parquet_values *v, size_t size) {
    const bool bytes = v->type == SP_PARQUET_BYTES;
    switch (v->encoding) {
    case PLAIN:
        return true;
    case PLAIN_DICTIONARY:
    case RLE_DICTIONARY:
        if (!v->dictionary || size == 0 || v->at[0] > 32) {
            return size == 0; /* a page of nulls */
        }
        sp_parquet_hybrid_init(&v->hybrid, v->at + 1, v->end, v->at[0]);
        return true;
    case RLE:
        if (v->type != SP_PARQUET_BOOLEAN || size < 4) {
            return size == 0;
        }
        sp_parquet_hybrid_init(&v->hybrid, v->at + 4, v->end, 1);
        return read_little(v->at, 4) <= size - 4;
    case DELTA_BINARY_PACKED:
        return (v->type == SP_PARQUET_INT32 || v->type == SP_PARQUET_INT64) &&
               (size == 0 || delta_init(&v->lengths, v->at, v->end));
    case DELTA_LENGTH_BYTE_ARRAY:
        return bytes && (size == 0 || lengths_init(v, &v->lengths));
    case DELTA_BYTE_ARRAY:
        return bytes &&
               (size == 0 || (lengths_init(v, &v->prefixes) && lengths_init(v, &v->lengths)));
    default:
        return v->encoding == BYTE_STREAM_SPLIT && v->width > 0 && size % v->width == 0;
    }
}

spar_status sp_parquet_values_init(sp_parquet_values *v, const sp_parquet_node *leaf, int encoding,
                                   const uint8_t *bytes, size_t size,
                                   const sp_parquet_dictionary *dictionary, spar_error *err) {
    sp_str_release(&v->previous);
    *v = (sp_parquet_values){.type = leaf->type,
                             .encoding = encoding,
                             .width = sp_parquet_width(leaf),
                             .at = bytes,
                             .end = bytes + size,
                             .dictionary = dictionary->bytes ? dictionary : NULL};
    return encoding_ready(v, size)
               ? SPAR_OK
               : spar_fail(err, SPAR_FORMAT,
                           "expected values in an encoding that their type has, found %zu bytes in "
                           "encoding %d that are none",
                           size, encoding);
}

/* n bytes at *at as a value, of which numbers keep at most 8. */
static bool take_fixed(const uint8_t *at, size_t n, sp_parquet_value *out) {
    out->bits = read_little(at, n < 8 ? n : 8);
    out->bytes = at;
    out->n = n;
    return true;
}

static bool take_bytes(sp_parquet_values *v, uint64_t n, sp_parquet_value *out) {
    if (n > (uint64_t)(v->end - v->at)) {
        return false;
    }
    out->bytes = v->at;
    out->n = (size_t)n;
    v->at += n;
    return true;
}

static bool next_plain(sp_parquet_values *v, sp_parquet_value *out) {
    const size_t left = (size_t)(v->end - v->at);
    if (v->type == SP_PARQUET_BOOLEAN) {
        const bool there = v->index / 8 < left;
        out->bits = there ? read_bits(v->at, v->index++, 1) : 0;
        return there;
    }
    if (v->type == SP_PARQUET_BYTES) {
        if (left < 4) {
            return false;
        }
        v->at += 4;
        return take_bytes(v, read_little(v->at - 4, 4), out);
    }
    if (left < v->width) {
        return false;
    }
    v->at += v->width;
    return take_fixed(v->at - v->width, v->width, out);
}

static bool next_of_dictionary(sp_parquet_values *v, sp_parquet_value *out) {
    const sp_parquet_dictionary *d = v->dictionary;
    uint32_t index;
    if (!d || !sp_parquet_hybrid_next(&v->hybrid, &index) || index >= d->n) {
        return false;
    }
    if (!d->offsets) {
        return take_fixed(d->bytes + index * v->width, v->width, out);
    }
    out->bytes = d->bytes + d->offsets[index] + 4;
    out->n = (size_t)read_little(out->bytes - 4, 4);
    return true;
}

/* A value that shares its beginning with the one before. */
static bool next_delta_bytes(sp_parquet_values *v, sp_parquet_value *out) {
    uint64_t shared, rest;
    if (!delta_next(&v->prefixes, &shared) || !delta_next(&v->lengths, &rest) ||
        shared > v->previous.len || rest > LONGEST_VALUE || shared + rest > LONGEST_VALUE ||
        !take_bytes(v, rest, out)) {
        return false;
    }
    sp_str_truncate(&v->previous, (size_t)shared);
    sp_str_append(&v->previous, out->bytes, out->n);
    out->bytes = (const uint8_t *)sp_str_get(&v->previous);
    out->n = v->previous.len;
    return !v->previous.failed;
}

static bool next_split(sp_parquet_values *v, sp_parquet_value *out) {
    const size_t n = (size_t)(v->end - v->at) / v->width;
    if (v->index >= n) {
        return false;
    }
    for (size_t k = 0; k < v->width && k < 8; k++) {
        out->bits |= (uint64_t)v->at[k * n + v->index] << (8 * k);
    }
    v->index++;
    return true;
}

static bool next_value(sp_parquet_values *v, sp_parquet_value *out) {
    uint64_t n;
    uint32_t truth = 0;
    switch (v->encoding) {
    case PLAIN:
        return next_plain(v, out);
    case PLAIN_DICTIONARY:
    case RLE_DICTIONARY:
        return next_of_dictionary(v, out);
    case RLE:
        if (!sp_parquet_hybrid_next(&v->hybrid, &truth)) {
            return false;
        }
        out->bits = truth;
        return true;
    case DELTA_BINARY_PACKED:
        return delta_next(&v->lengths, &out->bits);
    case DELTA_LENGTH_BYTE_ARRAY:
        return delta_next(&v->lengths, &n) && take_bytes(v, n, out);
    case DELTA_BYTE_ARRAY:
        return next_delta_bytes(v, out);
    default:
        return next_split(v, out);
    }
}

spar_status sp_parquet_values_next(sp_parquet_values *v, sp_parquet_value *out, spar_error *err) {
    *out = (sp_parquet_value){0};
    return next_value(v, out) ? SPAR_OK : no_value(err);
}
