#include "model/vocab_gguf.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "text/tokenizer_parts.h"

static bool equals(sp_gguf_string s, const char *text) {
    return s.n == strlen(text) && memcmp(s.data, text, s.n) == 0;
}

/* A metadata array of n elements of one type, or NULL where it is missing. */
static spar_status get_array(const sp_gguf *g, const char *key, sp_gguf_type type, uint64_t n,
                             const sp_gguf_value **out, spar_error *err) {
    const sp_gguf_value *v = sp_gguf_find(g, key);
    *out = v;
    if (v && (!v->is_array || v->type != type || (n && v->n != n))) {
        return spar_fail(err, SPAR_FORMAT, "%s: metadata %s: expected an array of %llu values",
                         sp_gguf_path(g), key, (unsigned long long)n);
    }
    return SPAR_OK;
}

static spar_status get_strings(const sp_gguf_value *v, sp_bytes **out, size_t *n, spar_error *err) {
    void *memory;
    *n = v ? (size_t)v->n : 0;
    spar_status status = sp_mem_calloc(&memory, *n, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        for (size_t i = 0; i < *n; i++) {
            (*out)[i] = (sp_bytes){v->strings[i].data, v->strings[i].n};
        }
    }
    return status;
}

static spar_status get_id(const sp_gguf *g, const char *key, int64_t *out, spar_error *err) {
    return sp_gguf_get_int(g, key, 0, UINT32_MAX, -1, out, err);
}

/* The added tokens of Phi-3 take the spaces after them, which its GGUF files do not say. */
static bool is_phi3(sp_gguf_string name) {
    for (size_t i = 0; i + 4 <= name.n; i++) {
        if (strncasecmp(name.data + i, "phi", 3) == 0 &&
            (name.data[i + 3] == '3' ||
             (i + 5 <= name.n && name.data[i + 3] == '-' && name.data[i + 4] == '3'))) {
            return true;
        }
    }
    return false;
}

/* CLS and SEP go around a text, with the ids of BERT where the file does not say. */
static spar_status get_word_piece(const sp_gguf *g, sp_vocab_spec *spec, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(
        sp_gguf_get_int(g, "tokenizer.ggml.cls_token_id", 0, UINT32_MAX, 101, &spec->bos, err));
    SPAR_TRY(sp_gguf_get_int(g, "tokenizer.ggml.seperator_token_id", 0, UINT32_MAX, 102, &spec->eos,
                             err));
    SPAR_TRY(sp_gguf_get_bool(g, "tokenizer.ggml.add_sep_token", true, &spec->add_eos, err));
    if (spec->unk < 0) {
        spec->unk = 100;
    }
done:
    return status;
}

/* The compiled map of characters of a Unigram vocabulary, where there is one. */
static spar_status get_charsmap(const sp_gguf *g, sp_vocab_spec *spec, spar_error *err) {
    const sp_gguf_value *map = sp_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    if (map && (!map->is_array || (map->type != SP_GGUF_U8 && map->type != SP_GGUF_I8))) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: metadata tokenizer.ggml.precompiled_charsmap: expected an array of "
                         "bytes",
                         sp_gguf_path(g));
    }
    if (map) {
        spec->charsmap = (sp_bytes){(const char *)map->data, (size_t)map->n};
    }
    return SPAR_OK;
}

static spar_status get_kind(const sp_gguf *g, sp_gguf_string model, sp_vocab_kind *kind,
                            spar_error *err) {
    static const char *const names[] = {[SP_VOCAB_BYTE_LEVEL] = "gpt2",
                                        [SP_VOCAB_SENTENCEPIECE] = "llama",
                                        [SP_VOCAB_UNIGRAM] = "t5",
                                        [SP_VOCAB_WORD_PIECE] = "bert"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (equals(model, names[i])) {
            *kind = (sp_vocab_kind)i;
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "%s: tokenizer.ggml.model: expected gpt2, llama, t5 or bert, found %.*s",
                     sp_gguf_path(g), (int)(model.n < 64 ? model.n : 64), model.data);
}

static spar_status get_settings(const sp_gguf *g, sp_vocab_spec *spec, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf_string text;
    SPAR_TRY(sp_gguf_get_string(g, "tokenizer.ggml.pre", &text, err));
    spec->pre = (sp_bytes){text.data, text.n};
    SPAR_TRY(sp_gguf_get_string(g, "tokenizer.chat_template", &text, err));
    spec->chat_template = (sp_bytes){text.data, text.n};
    SPAR_TRY(sp_gguf_get_string(g, "tokenizer.chat_template.tool_use", &text, err));
    spec->tool_template = (sp_bytes){text.data, text.n};
    SPAR_TRY(sp_gguf_get_string(g, "general.name", &text, err));
    spec->strip_after = is_phi3(text);
    SPAR_TRY(get_id(g, "tokenizer.ggml.bos_token_id", &spec->bos, err));
    SPAR_TRY(get_id(g, "tokenizer.ggml.eos_token_id", &spec->eos, err));
    SPAR_TRY(get_id(g, "tokenizer.ggml.padding_token_id", &spec->pad, err));
    SPAR_TRY(get_id(g, "tokenizer.ggml.unknown_token_id", &spec->unk, err));
    bool add_bos;
    SPAR_TRY(sp_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", false, &add_bos, err));
    spec->add_bos = sp_gguf_find(g, "tokenizer.ggml.add_bos_token") ? add_bos : -1;
    SPAR_TRY(sp_gguf_get_bool(g, "tokenizer.ggml.add_eos_token", spec->kind == SP_VOCAB_UNIGRAM,
                              &spec->add_eos, err));
    SPAR_TRY(sp_gguf_get_bool(g, "tokenizer.ggml.add_space_prefix",
                              spec->kind == SP_VOCAB_SENTENCEPIECE, &spec->add_space_prefix, err));
    SPAR_TRY(sp_gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", false,
                              &spec->strip_spaces, err));
    if (spec->kind == SP_VOCAB_WORD_PIECE) {
        SPAR_TRY(get_word_piece(g, spec, err));
    }
done:
    return status;
}

spar_status sp_vocab_from_gguf(const sp_gguf *g, spar_tokenizer **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_vocab_spec spec = {0};
    sp_gguf_string model;
    const sp_gguf_value *tokens = NULL;
    const sp_gguf_value *types = NULL;
    const sp_gguf_value *scores = NULL;
    const sp_gguf_value *merges = NULL;
    int32_t *type_list = NULL;
    float *score_list = NULL;
    void *memory;
    *out = NULL;
    SPAR_TRY(sp_gguf_get_string(g, "tokenizer.ggml.model", &model, err));
    if (model.n == 0 || equals(model, "none") || equals(model, "no_vocab")) {
        goto done;
    }
    SPAR_TRY(get_kind(g, model, &spec.kind, err));
    SPAR_TRY(get_array(g, "tokenizer.ggml.tokens", SP_GGUF_STRING, 0, &tokens, err));
    if (!tokens || tokens->n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: metadata tokenizer.ggml.tokens: is missing",
                           sp_gguf_path(g)));
        goto done;
    }
    SPAR_TRY(get_array(g, "tokenizer.ggml.token_type", SP_GGUF_I32, tokens->n, &types, err));
    SPAR_TRY(get_array(g, "tokenizer.ggml.scores", SP_GGUF_F32, tokens->n, &scores, err));
    SPAR_TRY(get_array(g, "tokenizer.ggml.merges", SP_GGUF_STRING, 0, &merges, err));
    bool by_scores = spec.kind == SP_VOCAB_SENTENCEPIECE || spec.kind == SP_VOCAB_UNIGRAM;
    if ((by_scores && !scores) || (spec.kind == SP_VOCAB_BYTE_LEVEL && !merges)) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: metadata tokenizer.ggml.%s: is missing",
                           sp_gguf_path(g), by_scores ? "scores" : "merges"));
    }
    SPAR_TRY(get_strings(tokens, &spec.tokens, &spec.n_tokens, err));
    SPAR_TRY(get_strings(merges, &spec.merges, &spec.n_merges, err));
    SPAR_TRY(sp_mem_calloc(&memory, spec.n_tokens, sizeof *type_list, err));
    type_list = memory;
    SPAR_TRY(sp_mem_calloc(&memory, spec.n_tokens, sizeof *score_list, err));
    score_list = memory;
    for (size_t i = 0; i < spec.n_tokens; i++) {
        type_list[i] = types ? (int32_t)sp_gguf_integer(types, i) : SP_TOKEN_NORMAL;
        score_list[i] = scores ? (float)sp_gguf_number(scores, i) : 0.0F;
    }
    spec.types = type_list;
    spec.scores = by_scores ? score_list : NULL;
    SPAR_TRY(get_settings(g, &spec, err));
    SPAR_TRY(get_charsmap(g, &spec, err));
    SPAR_TRY(sp_tokenizer_from_spec(out, &spec, sp_gguf_path(g), err));
done:
    free(spec.tokens);
    free(spec.merges);
    free(type_list);
    free(score_list);
    return status;
}
