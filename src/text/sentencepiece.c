/* SentencePiece models: a Protocol Buffers message of pieces, a trainer and a normalizer part. Of
 * the encoding (varints, and fields of four wire types) only what these need is read. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/tokenizer_parts.h"
#include "text/vocab_files.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* Fields of the messages. */
enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_MODEL_TYPE = 3,
    TRAINER_SUFFIX = 24, /* treat_whitespace_as_suffix */
    TRAINER_UNK_ID = 40,
    TRAINER_BOS_ID,
    TRAINER_EOS_ID,
    TRAINER_PAD_ID
};
enum {
    NORMALIZER_CHARSMAP = 2,
    NORMALIZER_PREFIX = 3, /* add_dummy_prefix */
    NORMALIZER_STRIP = 4,  /* remove_extra_whitespaces */
    NORMALIZER_ESCAPE = 5  /* escape_whitespaces */
};
enum { TYPE_UNIGRAM = 1, TYPE_BPE = 2 };

typedef struct field {
    uint64_t number;
    uint64_t value; /* varint, or the four bytes of a float */
    sp_bytes bytes; /* WIRE_BYTES */
} field;

typedef struct reader {
    const char *at, *end;
} reader;

static bool read_varint(reader *r, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        unsigned char byte = (unsigned char)*r->at++;
        *out |= (uint64_t)(byte & 0x7FU) << shift;
        if (!(byte & 0x80U)) {
            return true;
        }
    }
    return false;
}

static bool read_fixed(reader *r, size_t n, uint64_t *out) {
    if ((size_t)(r->end - r->at) < n) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        *out |= (uint64_t)(unsigned char)r->at[i] << (8 * i);
    }
    r->at += n;
    return true;
}

/* A field of another wire type than expected has no bytes: an empty message. */
static reader message_of(sp_bytes bytes) {
    return (reader){bytes.data, bytes.n ? bytes.data + bytes.n : bytes.data};
}

/* False at the end of the message (*broken false) or where it cannot be read. */
static bool next_field(reader *r, field *f, bool *broken) {
    uint64_t key;
    uint64_t n;
    *broken = false;
    if (r->at == r->end) {
        return false;
    }
    *broken = true;
    *f = (field){0};
    if (!read_varint(r, &key)) {
        return false;
    }
    f->number = key >> 3;
    switch (key & 7U) {
    case WIRE_VARINT:
        *broken = !read_varint(r, &f->value);
        break;
    case WIRE_64:
        *broken = !read_fixed(r, 8, &f->value);
        break;
    case WIRE_32:
        *broken = !read_fixed(r, 4, &f->value);
        break;
    case WIRE_BYTES:
        if (read_varint(r, &n) && n <= (uint64_t)(r->end - r->at)) {
            f->bytes = (sp_bytes){r->at, (size_t)n};
            r->at += n;
            *broken = false;
        }
        break;
    default:
        break;
    }
    return !*broken;
}

/* What is read of a model. */
typedef struct model {
    sp_bytes *tokens; /* owned */
    size_t n, capacity;
    int32_t *types; /* owned */
    size_t types_capacity;
    float *scores; /* owned */
    size_t scores_capacity;
    uint64_t kind;
    int64_t unk, bos, eos, pad;
    bool suffix, prefix, strip, escape;
    sp_bytes charsmap;
} model;

static spar_status broken_file(const char *where, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT,
                     "%s: expected a SentencePiece model, found a message that breaks off", where);
}

static spar_status take_piece(model *m, sp_bytes bytes, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    reader r = message_of(bytes);
    field f;
    bool broken;
    void *memory = m->tokens;
    SPAR_TRY(sp_mem_grow(&memory, &m->capacity, m->n + 1, sizeof *m->tokens, err));
    m->tokens = memory;
    memory = m->types;
    SPAR_TRY(sp_mem_grow(&memory, &m->types_capacity, m->n + 1, sizeof *m->types, err));
    m->types = memory;
    memory = m->scores;
    SPAR_TRY(sp_mem_grow(&memory, &m->scores_capacity, m->n + 1, sizeof *m->scores, err));
    m->scores = memory;
    m->tokens[m->n] = (sp_bytes){"", 0};
    m->types[m->n] = SP_TOKEN_NORMAL;
    m->scores[m->n] = 0.0F;
    while (next_field(&r, &f, &broken)) {
        const uint32_t bits = (uint32_t)f.value;
        switch (f.number) {
        case PIECE_TEXT:
            m->tokens[m->n] = f.bytes;
            break;
        case PIECE_SCORE:
            memcpy(&m->scores[m->n], &bits, sizeof bits);
            break;
        case PIECE_TYPE:
            m->types[m->n] = (int32_t)f.value;
            break;
        default:
            break;
        }
    }
    m->n++;
    SPAR_TRY(broken ? broken_file(where, err) : SPAR_OK);
done:
    return status;
}

static void take_trainer(model *m, const field *f) {
    switch (f->number) {
    case TRAINER_MODEL_TYPE:
        m->kind = f->value;
        break;
    case TRAINER_SUFFIX:
        m->suffix = f->value != 0;
        break;
    case TRAINER_UNK_ID:
        m->unk = (int32_t)f->value;
        break;
    case TRAINER_BOS_ID:
        m->bos = (int32_t)f->value;
        break;
    case TRAINER_EOS_ID:
        m->eos = (int32_t)f->value;
        break;
    case TRAINER_PAD_ID:
        m->pad = (int32_t)f->value;
        break;
    default:
        break;
    }
}

static void take_normalizer(model *m, const field *f) {
    switch (f->number) {
    case NORMALIZER_CHARSMAP:
        m->charsmap = f->bytes.n ? f->bytes : (sp_bytes){NULL, 0};
        break;
    case NORMALIZER_PREFIX:
        m->prefix = f->value != 0;
        break;
    case NORMALIZER_STRIP:
        m->strip = f->value != 0;
        break;
    case NORMALIZER_ESCAPE:
        m->escape = f->value != 0;
        break;
    default:
        break;
    }
}

static spar_status take_part(model *m, sp_bytes bytes, void (*take)(model *m, const field *f),
                             const char *where, spar_error *err) {
    reader r = message_of(bytes);
    field f;
    bool broken;
    while (next_field(&r, &f, &broken)) {
        take(m, &f);
    }
    return broken ? broken_file(where, err) : SPAR_OK;
}

static spar_status read_model(model *m, const char *bytes, size_t n, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    reader r = {bytes, bytes + n};
    field f;
    bool broken;
    while (next_field(&r, &f, &broken)) {
        switch (f.number) {
        case MODEL_PIECE:
            SPAR_TRY(take_piece(m, f.bytes, where, err));
            break;
        case MODEL_TRAINER:
            SPAR_TRY(take_part(m, f.bytes, take_trainer, where, err));
            break;
        case MODEL_NORMALIZER:
            SPAR_TRY(take_part(m, f.bytes, take_normalizer, where, err));
            break;
        default:
            break;
        }
    }
    SPAR_TRY(broken ? broken_file(where, err) : SPAR_OK);
done:
    return status;
}

/* What cannot be said in tokenizer.json, and classes whose ids are not the model's. */
static spar_status check_model(const model *m, const json_t *config, const char *where,
                               spar_error *err) {
    static const char *const shifted[] = {"XLMRoberta", "Camembert", "MBart",     "Barthez",
                                          "XGLM",       "Pegasus",   "NllbToken", "M2M100"};
    const char *class_name = json_string_value(json_object_get(config, "tokenizer_class"));
    if (m->n == 0 || (m->kind != TYPE_UNIGRAM && m->kind != TYPE_BPE)) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: model_type: expected 1 (unigram) or 2 (bpe) and pieces, found %llu "
                         "and %zu pieces",
                         where, (unsigned long long)m->kind, m->n);
    }
    if (m->suffix || !m->escape) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: expected spaces as marks before words, found %s", where,
                         m->suffix ? "treat_whitespace_as_suffix" : "escape_whitespaces false");
    }
    for (size_t i = 0; class_name && i < sizeof shifted / sizeof shifted[0]; i++) {
        if (strncmp(class_name, shifted[i], strlen(shifted[i])) == 0) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: %s numbers its tokens otherwise than the model does: expected a "
                             "tokenizer.json beside it",
                             where, class_name);
        }
    }
    return SPAR_OK;
}

/* A Unigram model puts around a text what it has ids for (</s> of T5, [CLS] and [SEP] of DeBERTa),
 * a BPE model BOS (Llama), unless tokenizer_config.json says otherwise. */
static sp_vocab_spec spec_of(const model *m, const json_t *config) {
    const bool unigram = m->kind == TYPE_UNIGRAM;
    const json_t *bos = json_object_get(config, "add_bos_token");
    const json_t *eos = json_object_get(config, "add_eos_token");
    return (sp_vocab_spec){.kind = unigram ? SP_VOCAB_UNIGRAM : SP_VOCAB_SENTENCEPIECE,
                           .tokens = m->tokens,
                           .n_tokens = m->n,
                           .types = m->types,
                           .scores = m->scores,
                           .bos = m->bos,
                           .eos = m->eos,
                           .pad = m->pad,
                           .unk = m->unk,
                           .add_bos = json_is_boolean(bos) ? json_is_true(bos) : 1,
                           .add_eos = json_is_boolean(eos) ? json_is_true(eos) : unigram,
                           .add_space_prefix = m->prefix,
                           .strip_spaces = m->strip,
                           .charsmap = m->charsmap};
}

bool sp_is_sentencepiece(const char *bytes, size_t n) {
    reader r = {bytes, bytes + n};
    field f;
    field text;
    bool broken;
    if (!next_field(&r, &f, &broken) || f.number != MODEL_PIECE || !f.bytes.data) {
        return false;
    }
    r = (reader){f.bytes.data, f.bytes.data + f.bytes.n};
    return next_field(&r, &text, &broken) && text.number == PIECE_TEXT;
}

spar_status sp_sentencepiece_json(json_t **out, const char *bytes, size_t n, const json_t *config,
                                  const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    model m = {.kind = TYPE_UNIGRAM,
               .unk = 0,
               .bos = 1,
               .eos = 2,
               .pad = -1,
               .prefix = true,
               .strip = true,
               .escape = true};
    SPAR_TRY(read_model(&m, bytes, n, where, err));
    SPAR_TRY(check_model(&m, config, where, err));
    sp_vocab_spec spec = spec_of(&m, config);
    SPAR_TRY(sp_vocab_spec_json(&spec, where, out, err));
done:
    free(m.tokens);
    free(m.types);
    free(m.scores);
    return status;
}
