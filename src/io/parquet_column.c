/* A chunk of a column, page by page. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/parquet.h"
#include "io/thrift.h"

enum { DATA = 0, DICTIONARY = 2, DATA_V2 = 3, LEVELS_RLE = 3 };
/* A page may expand so far without a ratio, and never further. */
enum { PAGE_FREE = 16 << 20, PAGE_MOST = 256 << 20, MOST_VALUES = 1 << 26 };

typedef struct page {
    int type, encoding, def_encoding, rep_encoding;
    int64_t packed_size, size, n_values, def_size, rep_size;
    bool is_packed;
    const uint8_t *bytes; /* behind the header, packed_size of them */
} page;

static const struct {
    const char *name;
    sp_compression kind;
    bool known;
} CODECS[] = {{"none", SP_COMPRESSION_NONE, true},    {"snappy", SP_COMPRESSION_SNAPPY, true},
              {"gzip", SP_COMPRESSION_GZIP, true},    {"LZO", SP_COMPRESSION_NONE, false},
              {"brotli", SP_COMPRESSION_NONE, false}, {"LZ4", SP_COMPRESSION_NONE, false},
              {"zstd", SP_COMPRESSION_ZSTD, true},    {"LZ4_RAW", SP_COMPRESSION_NONE, false}};
enum { CODEC_COUNT = sizeof CODECS / sizeof *CODECS };

void sp_parquet_column_init(sp_parquet_column *c, const sp_parquet_node *leaf,
                            const sp_parquet_chunk *chunk, const sp_map *map) {
    *c = (sp_parquet_column){.leaf = leaf,
                             .at = map->data + chunk->offset,
                             .end = map->data + chunk->offset + chunk->size,
                             .codec = chunk->codec,
                             .chunk_left = chunk->n_values};
}

void sp_parquet_column_release(sp_parquet_column *c) {
    free(c->expanded);
    free(c->dictionary_bytes);
    free(c->dictionary.offsets);
    sp_str_release(&c->values.previous);
    *c = (sp_parquet_column){0};
}

/* ---- headers ---- */

/* The struct that says what kind of page it is: its fields go to the places that the kind has. */
static void read_kind(sp_thrift *t, int kind, page *p) {
    int64_t numbers[7] = {0};
    int id = 0, type;
    while (sp_thrift_field(t, &id, &type)) {
        if (type == SP_THRIFT_TRUE || type == SP_THRIFT_FALSE) {
            p->is_packed = id == 7 && kind == DATA_V2 ? type == SP_THRIFT_TRUE : p->is_packed;
        } else if (id < 7 && type > SP_THRIFT_FALSE && type < 7) {
            numbers[id] = sp_thrift_int(t);
        } else {
            sp_thrift_skip(t, type);
        }
    }
    const bool second = kind == DATA_V2;
    p->n_values = numbers[1];
    p->encoding = (int)(numbers[second ? 4 : 2] & 0xff);
    p->def_encoding = second ? LEVELS_RLE : (int)(numbers[3] & 0xff);
    p->rep_encoding = second ? LEVELS_RLE : (int)(numbers[4] & 0xff);
    p->def_size = second ? numbers[5] : 0;
    p->rep_size = second ? numbers[6] : 0;
}

static spar_status read_header(sp_parquet_column *c, page *p, spar_error *err) {
    static const int kinds[] = {[5] = DATA, [7] = DICTIONARY, [8] = DATA_V2};
    sp_thrift t = {c->at, c->end, false};
    int id = 0, type;
    *p = (page){.is_packed = true, .type = -1};
    while (sp_thrift_field(&t, &id, &type)) {
        if ((id == 5 || id == 7 || id == 8) && type == SP_THRIFT_STRUCT) {
            read_kind(&t, kinds[id], p);
        } else if (id <= 3 && type < 7) {
            const int64_t value = sp_thrift_int(&t);
            p->type = id == 1 ? (int)(value & 0xff) : p->type;
            p->size = id == 2 ? value : p->size;
            p->packed_size = id == 3 ? value : p->packed_size;
        } else {
            sp_thrift_skip(&t, type);
        }
    }
    if (t.failed || p->packed_size < 0 || p->packed_size > t.end - t.at || p->size < 0 ||
        p->n_values < 0 || p->n_values > MOST_VALUES || p->def_size < 0 || p->rep_size < 0 ||
        p->rep_size > p->packed_size || p->def_size > p->packed_size - p->rep_size ||
        p->rep_size + p->def_size > p->size) {
        return spar_fail(err, SPAR_FORMAT,
                         "expected the header of a page within the column, found another");
    }
    p->bytes = t.at;
    c->at = t.at + p->packed_size;
    return SPAR_OK;
}

/* ---- bytes ---- */

/* n bytes of a page as they were before compression: borrowed from the file, or of *memory. */
static spar_status expand(const sp_parquet_column *c, bool is_packed, const uint8_t *bytes,
                          size_t n, size_t size, uint8_t **memory, const uint8_t **out,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    void *room;
    if (c->codec >= CODEC_COUNT || !CODECS[c->codec].known) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "expected pages within snappy, gzip, zstd or nothing, found %s",
                           c->codec < CODEC_COUNT ? CODECS[c->codec].name : "an unknown codec"));
    }
    if (CODECS[c->codec].kind == SP_COMPRESSION_NONE || !is_packed) {
        *out = bytes;
        SPAR_TRY(n == size
                     ? SPAR_OK
                     : spar_fail(err, SPAR_FORMAT,
                                 "expected %zu bytes without compression, found %zu", size, n));
        goto done;
    }
    if (size > PAGE_MOST || (size > PAGE_FREE && size / SP_EXPAND_RATIO > n)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "expected a page of at most %d bytes and %d times its size, found %zu "
                           "from %zu",
                           PAGE_MOST, SP_EXPAND_RATIO, size, n));
    }
    SPAR_TRY(sp_mem_calloc(&room, size, 1, err));
    free(*memory);
    *memory = room;
    *out = room;
    if (size > 0 || n > 0) {
        SPAR_TRY(sp_expand_block(CODECS[c->codec].kind, bytes, n, room, size, err));
    }
done:
    return status;
}

static int bits_for(int level) {
    int bits = 0;
    while (level >> bits) {
        bits++;
    }
    return bits;
}

/* Levels in front of the values of a page of version 1: their size and their bytes. */
static spar_status split_levels(const uint8_t **at, const uint8_t *end, int level, int encoding,
                                sp_parquet_hybrid *out, spar_error *err) {
    if (level == 0) {
        return SPAR_OK;
    }
    const size_t left = (size_t)(end - *at);
    uint32_t size = 0;
    for (size_t i = 0; i < 4 && left >= 4; i++) {
        size |= (uint32_t)(*at)[i] << (8 * i);
    }
    if (left < 4 || size > left - 4 || encoding != LEVELS_RLE) {
        return spar_fail(err, SPAR_FORMAT,
                         "expected levels as runs within the page, found %u bytes in encoding %d",
                         size, encoding);
    }
    sp_parquet_hybrid_init(out, *at + 4, *at + 4 + size, bits_for(level));
    *at += 4 + size;
    return SPAR_OK;
}

static spar_status open_dictionary(sp_parquet_column *c, const page *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const uint8_t *bytes;
    free(c->dictionary.offsets);
    c->dictionary = (sp_parquet_dictionary){0};
    SPAR_TRY(expand(c, true, p->bytes, (size_t)p->packed_size, (size_t)p->size,
                    &c->dictionary_bytes, &bytes, err));
    SPAR_TRY(sp_parquet_dictionary_init(&c->dictionary, c->leaf, bytes, (size_t)p->size,
                                        p->n_values, err));
done:
    return status;
}

static spar_status open_data(sp_parquet_column *c, const page *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const uint8_t *bytes, *end;
    const int64_t before = p->rep_size + p->def_size; /* levels of version 2, as they are */
    SPAR_TRY(expand(c, p->is_packed, p->bytes + before, (size_t)(p->packed_size - before),
                    (size_t)(p->size - before), &c->expanded, &bytes, err));
    end = bytes + (p->size - before);
    if (p->type == DATA_V2) {
        const uint8_t *defs = p->bytes + p->rep_size;
        sp_parquet_hybrid_init(&c->reps, p->bytes, defs, bits_for(c->leaf->rep));
        sp_parquet_hybrid_init(&c->defs, defs, defs + p->def_size, bits_for(c->leaf->def));
    } else {
        SPAR_TRY(split_levels(&bytes, end, c->leaf->rep, p->rep_encoding, &c->reps, err));
        SPAR_TRY(split_levels(&bytes, end, c->leaf->def, p->def_encoding, &c->defs, err));
    }
    SPAR_TRY(sp_parquet_values_init(&c->values, c->leaf, p->encoding, bytes, (size_t)(end - bytes),
                                    &c->dictionary, err));
    c->page_left = p->n_values;
done:
    return status;
}

/* Until a page has values or the chunk is over. */
static spar_status next_page(sp_parquet_column *c, spar_error *err) {
    spar_status status = SPAR_OK;
    page p;
    while (c->page_left == 0 && c->chunk_left > 0) {
        c->page++;
        SPAR_TRY(read_header(c, &p, err));
        if (p.type == DICTIONARY) {
            SPAR_TRY(open_dictionary(c, &p, err));
        } else if (p.type == DATA || p.type == DATA_V2) {
            SPAR_TRY(open_data(c, &p, err));
        }
        if (c->page_left > c->chunk_left) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "expected at most %lld values, found %lld",
                               (long long)c->chunk_left, (long long)c->page_left));
        }
    }
done:
    return status;
}

/* ---- values ---- */

static spar_status read_levels(sp_parquet_column *c, spar_error *err) {
    c->rep = c->def = 0;
    const bool there = (c->leaf->rep == 0 || sp_parquet_hybrid_next(&c->reps, &c->rep)) &&
                       (c->leaf->def == 0 || sp_parquet_hybrid_next(&c->defs, &c->def));
    if (!there || c->rep > (uint32_t)c->leaf->rep || c->def > (uint32_t)c->leaf->def) {
        return spar_fail(err, SPAR_FORMAT, "expected levels up to %d and %d, found none or others",
                         c->leaf->rep, c->leaf->def);
    }
    c->has = true;
    return SPAR_OK;
}

static spar_status with_page(const sp_parquet_column *c, spar_status status, spar_error *err) {
    if (status != SPAR_OK) {
        spar_error_context(err, "page %d", c->page);
    }
    return status;
}

spar_status sp_parquet_column_peek(sp_parquet_column *c, spar_error *err) {
    spar_status status = SPAR_OK;
    if (c->has || c->at_end) {
        return SPAR_OK;
    }
    SPAR_TRY(next_page(c, err));
    c->at_end = c->page_left == 0;
    SPAR_TRY(c->at_end ? SPAR_OK : read_levels(c, err));
done:
    return with_page(c, status, err);
}

spar_status sp_parquet_column_take(sp_parquet_column *c, sp_parquet_value *out, spar_error *err) {
    c->has = false;
    c->page_left--;
    c->chunk_left--;
    if (c->def < (uint32_t)c->leaf->def) {
        return SPAR_OK;
    }
    return with_page(c, sp_parquet_values_next(&c->values, out, err), err);
}
