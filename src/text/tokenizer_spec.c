/* A GGUF vocabulary as the tokenizer.json that means the same. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/pre_names.h"
#include "text/tokenizer_parts.h"

static json_t *byte_level(void) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 0);
}

static json_t *pre_tokenizer_json(const sp_pre *pre) {
    json_t *steps = json_array();
    for (size_t i = 0; pre->patterns[i]; i++) {
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                               "pattern", "Regex", pre->patterns[i], "behavior",
                                               "Isolated", "invert", 0));
    }
    json_array_append_new(steps, byte_level());
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

static bool is_one_of(sp_bytes token, const char *const *names) {
    for (; *names; names++) {
        if (strlen(*names) == token.n && memcmp(*names, token.data, token.n) == 0) {
            return true;
        }
    }
    return false;
}

/* Added tokens: those that the file marks as control or user-defined. */
static json_t *added_json(const sp_vocab_spec *spec) {
    json_t *list = json_array();
    for (size_t i = 0; spec->types && i < spec->n_tokens; i++) {
        int32_t type = spec->types[i];
        bool unknown = spec->sentencepiece && type == SP_TOKEN_UNKNOWN;
        if (type != SP_TOKEN_CONTROL && type != SP_TOKEN_USER && !unknown) {
            continue;
        }
        static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>", NULL};
        bool rstrip = spec->strip_after && !is_one_of(spec->tokens[i], plain);
        json_array_append_new(list,
                              json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                        "content", spec->tokens[i].data, (int)spec->tokens[i].n,
                                        "single_word", 0, "lstrip", 0, "rstrip", rstrip,
                                        "normalized", 0, "special", type != SP_TOKEN_USER));
    }
    return list;
}

static spar_status vocab_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                              spar_error *err) {
    json_t *vocab = json_object();
    for (size_t i = 0; i < spec->n_tokens; i++) {
        json_t *id = json_integer((json_int_t)i);
        if (json_object_setn_new(vocab, spec->tokens[i].data, spec->tokens[i].n, id) != 0) {
            json_decref(vocab);
            return spar_fail(err, SPAR_FORMAT,
                             "%s: token %zu: expected UTF-8 text, found other bytes", where, i);
        }
    }
    *out = vocab;
    return SPAR_OK;
}

static spar_status merges_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                               spar_error *err) {
    json_t *merges = json_array();
    for (size_t i = 0; i < spec->n_merges; i++) {
        json_t *merge = json_stringn(spec->merges[i].data, spec->merges[i].n);
        if (!merge || json_array_append_new(merges, merge) != 0) {
            json_decref(merges);
            return spar_fail(err, SPAR_FORMAT,
                             "%s: merge %zu: expected UTF-8 text, found other bytes", where, i);
        }
    }
    *out = merges;
    return SPAR_OK;
}

/* ---- merges from the scores of a SentencePiece vocabulary ---- */

/* Every way to cut a token into two tokens is a merge; better scores merge first (the order of the
 * reference's conversion: by score, then by the ids of both parts). */
typedef struct scored_merge {
    double score;
    int32_t left, right, token;
} scored_merge;

static int by_score(const void *a, const void *b) {
    const scored_merge *x = a;
    const scored_merge *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->token != y->token) {
        return x->token < y->token ? -1 : 1;
    }
    if (x->left != y->left) {
        return x->left < y->left ? -1 : 1;
    }
    return (x->right > y->right) - (x->right < y->right);
}

static int32_t id_of(const json_t *vocab, const char *text, size_t n) {
    const json_t *id = json_object_getn(vocab, text, n);
    return id ? (int32_t)json_integer_value(id) : -1;
}

static spar_status collect_merges(const sp_vocab_spec *spec, const json_t *vocab,
                                  scored_merge **out, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t capacity = 0;
    void *memory = NULL;
    *n = 0;
    for (size_t i = 0; i < spec->n_tokens; i++) {
        sp_bytes token = spec->tokens[i];
        if (spec->types && spec->types[i] != SP_TOKEN_NORMAL) {
            continue;
        }
        for (size_t cut = 1; cut < token.n && token.n <= 256; cut++) {
            if (((unsigned char)token.data[cut] & 0xC0U) == 0x80U) {
                continue;
            }
            int32_t left = id_of(vocab, token.data, cut);
            int32_t right = id_of(vocab, token.data + cut, token.n - cut);
            if (left < 0 || right < 0) {
                continue;
            }
            SPAR_TRY(sp_mem_grow(&memory, &capacity, *n + 1, sizeof **out, err));
            ((scored_merge *)memory)[(*n)++] =
                (scored_merge){(double)spec->scores[i], left, right, (int32_t)i};
        }
    }
done:
    *out = memory;
    return status;
}

static spar_status score_merges(const sp_vocab_spec *spec, const json_t *vocab, json_t **out,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    scored_merge *merges = NULL;
    size_t n;
    json_t *list = json_array();
    SPAR_TRY(collect_merges(spec, vocab, &merges, &n, err));
    if (n > 1) {
        qsort(merges, n, sizeof *merges, by_score);
    }
    for (size_t i = 0; i < n; i++) {
        const sp_bytes *l = &spec->tokens[merges[i].left];
        const sp_bytes *r = &spec->tokens[merges[i].right];
        json_array_append_new(list, json_pack("[s%, s%]", l->data, (int)l->n, r->data, (int)r->n));
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    free(merges);
    return status;
}

/* ---- the whole ---- */

static bool adds_bos(const sp_vocab_spec *spec, const sp_pre *pre) {
    return spec->add_bos < 0 ? spec->sentencepiece || pre->add_bos : spec->add_bos > 0;
}

static json_t *template_processor(const sp_vocab_spec *spec, bool add_bos) {
    json_t *single = json_array();
    json_t *specials = json_object();
    int64_t ids[2] = {add_bos ? spec->bos : -1, spec->add_eos ? spec->eos : -1};
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            json_array_append_new(single,
                                  json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
        }
        if (ids[i] < 0 || (size_t)ids[i] >= spec->n_tokens) {
            continue;
        }
        const sp_bytes *t = &spec->tokens[ids[i]];
        json_array_append_new(single, json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id", t->data,
                                                (int)t->n, "type_id", 0));
        json_object_setn_new(specials, t->data, t->n,
                             json_pack("{s:s%, s:[I], s:[s%]}", "id", t->data, (int)t->n, "ids",
                                       (json_int_t)ids[i], "tokens", t->data, (int)t->n));
    }
    json_t *pair = json_deep_copy(single);
    json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", specials);
}

static json_t *sentencepiece_normalizer(const sp_vocab_spec *spec) {
    json_t *steps = json_array();
    if (spec->add_space_prefix) {
        json_array_append_new(
            steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "\xE2\x96\x81"));
    }
    json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                           "String", " ", "content", "\xE2\x96\x81"));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
}

static json_t *sentencepiece_decoder(const sp_vocab_spec *spec) {
    json_t *steps =
        json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                  "\xE2\x96\x81", "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (spec->add_space_prefix) {
        json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                               " ", "start", 1, "stop", 0));
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *unk_json(const sp_vocab_spec *spec) {
    if (!spec->sentencepiece || spec->unk < 0 || (size_t)spec->unk >= spec->n_tokens) {
        return json_null();
    }
    return json_stringn(spec->tokens[spec->unk].data, spec->tokens[spec->unk].n);
}

static spar_status make_root(const sp_vocab_spec *spec, const char *where, json_t **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *vocab = NULL;
    json_t *merges = NULL;
    const sp_pre *pre =
        spec->sentencepiece ? sp_pre_find("default", 7) : sp_pre_find(spec->pre.data, spec->pre.n);
    if (!pre) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tokenizer.ggml.pre: %.*s is not a known pre-tokeniser", where,
                           (int)(spec->pre.n < 64 ? spec->pre.n : 64), spec->pre.data));
    }
    SPAR_TRY(vocab_json(spec, where, &vocab, err));
    SPAR_TRY(spec->sentencepiece ? score_merges(spec, vocab, &merges, err)
                                 : merges_json(spec, where, &merges, err));
    json_t *model =
        json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                  "unk_token", unk_json(spec), "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", spec->sentencepiece, "byte_fallback", spec->sentencepiece,
                  "ignore_merges", pre->ignore_merges, "vocab", vocab, "merges", merges);
    bool plain = !spec->sentencepiece;
    *out = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added_json(spec), "normalizer",
                     plain ? (pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null())
                           : sentencepiece_normalizer(spec),
                     "pre_tokenizer", plain ? pre_tokenizer_json(pre) : json_null(),
                     "post_processor", template_processor(spec, adds_bos(spec, pre)), "decoder",
                     plain ? byte_level() : sentencepiece_decoder(spec), "model", model);
    if (!*out) {
        SPAR_TRY(
            spar_fail(err, SPAR_FORMAT, "%s: the vocabulary holds text that is not UTF-8", where));
    }
done:
    json_decref(vocab);
    json_decref(merges);
    return status;
}

static spar_status keep(spar_tokenizer *t, sp_bytes text, const char **out, spar_error *err) {
    *out = sp_arena_strndup(&t->arena, text.data, text.n);
    return *out ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a tokenizer");
}

spar_status sp_tokenizer_from_spec(spar_tokenizer **out, const sp_vocab_spec *spec,
                                   const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *root = NULL;
    spar_tokenizer *t = NULL;
    const int64_t ids[SP_SPECIALS] = {spec->bos, spec->eos, spec->pad, spec->unk};
    SPAR_TRY(make_root(spec, where, &root, err));
    SPAR_TRY(sp_tokenizer_from_json(&t, root, where, err));
    for (int i = 0; i < SP_SPECIALS; i++) {
        if (ids[i] >= 0 && (size_t)ids[i] < spec->n_tokens) {
            SPAR_TRY(keep(t, spec->tokens[ids[i]], &t->special_text[i], err));
        }
    }
    if (spec->chat_template.data) {
        SPAR_TRY(keep(t, spec->chat_template, &t->chat_template, err));
    }
    *out = t;
    t = NULL;
done:
    spar_tokenizer_free(t);
    json_decref(root);
    return status;
}
