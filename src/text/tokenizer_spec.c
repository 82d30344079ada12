/* A vocabulary of GGUF or SentencePiece files as the tokenizer.json that means the same. */
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/jsonx.h"
#include "base/str.h"
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
        bool unknown = spec->kind != SP_VOCAB_BYTE_LEVEL && type == SP_TOKEN_UNKNOWN;
        if (type != SP_TOKEN_CONTROL && type != SP_TOKEN_USER && !unknown) {
            continue;
        }
        static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>", NULL};
        bool rstrip = spec->strip_after && !is_one_of(spec->tokens[i], plain);
        json_array_append_new(list,
                              json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                        "content", spec->tokens[i].data, (size_t)spec->tokens[i].n,
                                        "single_word", 0, "lstrip", 0, "rstrip", rstrip,
                                        "normalized", 0, "special", type != SP_TOKEN_USER));
    }
    return list;
}

/* ---- the vocabulary ---- */

static const char mark[] = "\xE2\x96\x81"; /* U+2581, for a space */

/* GGUF files write a WordPiece token that begins a word with the mark, and one within a word bare;
 * in tokenizer.json it is bare and with "##". Names in brackets are as they are. */
static void word_piece_text(sp_bytes token, sp_str *out) {
    const size_t n = sizeof mark - 1;
    sp_str_clear(out);
    if (token.n >= n && memcmp(token.data, mark, n) == 0) {
        sp_str_append(out, token.data + n, token.n - n);
        return;
    }
    bool name = token.n > 1 && token.data[0] == '[' && token.data[token.n - 1] == ']';
    sp_str_puts(out, name ? "" : "##");
    sp_str_append(out, token.data, token.n);
}

static spar_status not_text(const char *where, const char *what, size_t i, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT, "%s: %s %zu: expected UTF-8 text, found other bytes", where,
                     what, i);
}

/* {token: id}, of two equal tokens the first. */
static spar_status vocab_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    json_t *vocab = json_object();
    for (size_t i = 0; i < spec->n_tokens; i++) {
        sp_bytes token = spec->tokens[i];
        const bool added = spec->types && spec->types[i] != SP_TOKEN_NORMAL;
        if (spec->kind == SP_VOCAB_WORD_PIECE && !added) {
            word_piece_text(token, &text);
            SPAR_TRY(sp_str_status(&text, err));
            token = (sp_bytes){sp_str_get(&text), text.len};
        }
        if (json_object_setn_new(vocab, token.data, token.n, json_integer((json_int_t)i)) != 0) {
            SPAR_TRY(not_text(where, "token", i, err));
        }
    }
    *out = vocab;
    vocab = NULL;
done:
    json_decref(vocab);
    sp_str_release(&text);
    return status;
}

static bool is_piece(const sp_vocab_spec *spec, size_t i) {
    return !spec->types || spec->types[i] == SP_TOKEN_NORMAL;
}

/* The least score of a piece: what an unknown character costs goes by it, and not by the scores
 * that files give to tokens that were added or are unused. */
static double least_score(const sp_vocab_spec *spec) {
    double least = 0;
    for (size_t i = 0; i < spec->n_tokens; i++) {
        least =
            is_piece(spec, i) && (double)spec->scores[i] < least ? (double)spec->scores[i] : least;
    }
    return least;
}

/* [[token, score], ...], without the unused tokens at the end. */
static spar_status scored_vocab_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                                     spar_error *err) {
    const double least = least_score(spec);
    json_t *vocab = json_array();
    size_t n = spec->n_tokens;
    while (n > 0 && spec->types && spec->types[n - 1] == SP_TOKEN_UNUSED) {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        const double score = (double)spec->scores[i];
        json_t *item = json_pack("[s%, f]", spec->tokens[i].data, (size_t)spec->tokens[i].n,
                                 score < least ? least : score);
        if (!item || json_array_append_new(vocab, item) != 0) {
            json_decref(vocab);
            return not_text(where, "token", i, err);
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
            return not_text(where, "merge", i, err);
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
        const int32_t type = spec->types ? spec->types[i] : SP_TOKEN_NORMAL;
        if (type != SP_TOKEN_NORMAL && type != SP_TOKEN_USER) {
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
        json_array_append_new(list,
                              json_pack("[s%, s%]", l->data, (size_t)l->n, r->data, (size_t)r->n));
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    free(merges);
    return status;
}

/* ---- the steps ---- */

static bool adds_bos(const sp_vocab_spec *spec) {
    if (spec->add_bos >= 0) {
        return spec->add_bos > 0;
    }
    switch (spec->kind) {
    case SP_VOCAB_BYTE_LEVEL:
        return sp_pre_find(spec->pre.data, spec->pre.n)->add_bos;
    case SP_VOCAB_UNIGRAM:
        return false;
    case SP_VOCAB_SENTENCEPIECE:
    case SP_VOCAB_WORD_PIECE:
        break;
    }
    return true;
}

static json_t *template_processor(const sp_vocab_spec *spec) {
    json_t *single = json_array();
    json_t *specials = json_object();
    int64_t ids[2] = {adds_bos(spec) ? spec->bos : -1, spec->add_eos ? spec->eos : -1};
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
                                                (size_t)t->n, "type_id", 0));
        json_object_setn_new(specials, t->data, t->n,
                             json_pack("{s:s%, s:[I], s:[s%]}", "id", t->data, (size_t)t->n, "ids",
                                       (json_int_t)ids[i], "tokens", t->data, (size_t)t->n));
    }
    json_t *pair = json_deep_copy(single);
    json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", specials);
}

static json_t *replace(const char *kind, const char *pattern, const char *content) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content",
                     content);
}

/* What SentencePiece does to a text before it looks for tokens, but for the marks. */
static json_t *sentencepiece_cleaning(const sp_vocab_spec *spec) {
    json_t *steps = json_array();
    if (spec->charsmap.data) {
        sp_str text = SP_STR_INIT;
        sp_base64_encode(spec->charsmap.data, spec->charsmap.n, &text);
        json_array_append_new(steps, json_pack("{s:s, s:s}", "type", "Precompiled",
                                               "precompiled_charsmap", sp_str_get(&text)));
        sp_str_release(&text);
    }
    if (spec->strip_spaces) {
        json_array_append_new(steps, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", 1,
                                               "strip_right", 1));
        json_array_append_new(steps, replace("Regex", " {2,}", " "));
    }
    return steps;
}

static json_t *sentencepiece_normalizer(const sp_vocab_spec *spec) {
    json_t *steps = sentencepiece_cleaning(spec);
    if (spec->add_space_prefix) {
        json_array_append_new(steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", mark));
    }
    json_array_append_new(steps, replace("String", " ", mark));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
}

static json_t *sentencepiece_decoder(const sp_vocab_spec *spec) {
    json_t *steps = json_pack("[o, {s:s}, {s:s}]", replace("String", mark, " "), "type",
                              "ByteFallback", "type", "Fuse");
    if (spec->add_space_prefix) {
        json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                               " ", "start", 1, "stop", 0));
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *unk_json(const sp_vocab_spec *spec) {
    if (spec->unk < 0 || (size_t)spec->unk >= spec->n_tokens) {
        return json_null();
    }
    return json_stringn(spec->tokens[spec->unk].data, spec->tokens[spec->unk].n);
}

/* ---- the kinds: what is in tokenizer.json besides the added tokens and the post-processor ---- */

typedef struct parts {
    json_t *normalizer, *pre_tokenizer, *decoder, *model; /* owned */
} parts;

static spar_status byte_level_parts(const sp_vocab_spec *spec, const char *where, parts *out,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *vocab = NULL;
    json_t *merges = NULL;
    const sp_pre *pre = sp_pre_find(spec->pre.data, spec->pre.n);
    if (!pre) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tokenizer.ggml.pre: %.*s is not a known pre-tokeniser", where,
                           (int)(spec->pre.n < 64 ? spec->pre.n : 64), spec->pre.data));
    }
    SPAR_TRY(vocab_json(spec, where, &vocab, err));
    SPAR_TRY(spec->scores ? score_merges(spec, vocab, &merges, err)
                          : merges_json(spec, where, &merges, err));
    *out = (parts){pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(),
                   pre_tokenizer_json(pre), byte_level(),
                   json_pack("{s:s, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                             "unk_token", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                             pre->ignore_merges, "vocab", vocab, "merges", merges)};
done:
    json_decref(vocab);
    json_decref(merges);
    return status;
}

static spar_status sentencepiece_parts(const sp_vocab_spec *spec, const char *where, parts *out,
                                       spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *vocab = NULL;
    json_t *merges = NULL;
    SPAR_TRY(vocab_json(spec, where, &vocab, err));
    SPAR_TRY(score_merges(spec, vocab, &merges, err));
    *out = (parts){sentencepiece_normalizer(spec), json_null(), sentencepiece_decoder(spec),
                   json_pack("{s:s, s:n, s:o, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                             "unk_token", unk_json(spec), "fuse_unk", 1, "byte_fallback", 1,
                             "ignore_merges", 0, "vocab", vocab, "merges", merges)};
done:
    json_decref(vocab);
    json_decref(merges);
    return status;
}

static bool has_byte_tokens(const sp_vocab_spec *spec) {
    for (size_t i = 0; spec->types && i < spec->n_tokens; i++) {
        if (spec->types[i] == SP_TOKEN_BYTE) {
            return true;
        }
    }
    return false;
}

static spar_status unigram_parts(const sp_vocab_spec *spec, const char *where, parts *out,
                                 spar_error *err) {
    json_t *vocab = NULL;
    spar_status status = scored_vocab_json(spec, where, &vocab, err);
    if (status == SPAR_OK) {
        json_t *marks =
            json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", mark,
                      "prepend_scheme", spec->add_space_prefix ? "always" : "never", "split", 0);
        bool bytes = has_byte_tokens(spec);
        json_t *decoder = bytes ? sentencepiece_decoder(spec) : json_incref(marks);
        json_t *unk = spec->unk < 0 ? json_null() : json_integer(spec->unk);
        *out = (parts){json_pack("{s:s, s:o}", "type", "Sequence", "normalizers",
                                 sentencepiece_cleaning(spec)),
                       marks, decoder,
                       json_pack("{s:s, s:o, s:b, s:o}", "type", "Unigram", "unk_id", unk,
                                 "byte_fallback", bytes, "vocab", vocab)};
    }
    return status;
}

/* The normalisation that readers of such files have: as BERT's, but spacing marks go too. */
json_t *sp_word_piece_normalizer(void) {
    return json_pack("{s:s, s:[{s:s, s:b, s:b, s:b, s:b}, {s:s}, {s:s}, {s:s}]}", "type",
                     "Sequence", "normalizers", "type", "BertNormalizer", "clean_text", 1,
                     "handle_chinese_chars", 1, "strip_accents", 0, "lowercase", 0, "type", "NFD",
                     "type", "StripAccents", "type", "Lowercase");
}

static spar_status word_piece_parts(const sp_vocab_spec *spec, const char *where, parts *out,
                                    spar_error *err) {
    json_t *vocab = NULL;
    spar_status status = vocab_json(spec, where, &vocab, err);
    if (status == SPAR_OK) {
        *out =
            (parts){sp_word_piece_normalizer(), json_pack("{s:s}", "type", "BertPreTokenizer"),
                    json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1),
                    json_pack("{s:s, s:o, s:s, s:i, s:o}", "type", "WordPiece", "unk_token",
                              unk_json(spec), "continuing_subword_prefix", "##",
                              "max_input_chars_per_word", 100, "vocab", vocab)};
    }
    return status;
}

spar_status sp_vocab_spec_json(const sp_vocab_spec *spec, const char *where, json_t **out,
                               spar_error *err) {
    static spar_status (*const make[])(const sp_vocab_spec *spec, const char *where, parts *out,
                                       spar_error *err) = {
        [SP_VOCAB_BYTE_LEVEL] = byte_level_parts,
        [SP_VOCAB_SENTENCEPIECE] = sentencepiece_parts,
        [SP_VOCAB_UNIGRAM] = unigram_parts,
        [SP_VOCAB_WORD_PIECE] = word_piece_parts};
    parts p = {0};
    spar_status status = make[spec->kind](spec, where, &p, err);
    if (status != SPAR_OK) {
        return status;
    }
    *out = json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added_json(spec), "normalizer",
                     p.normalizer, "pre_tokenizer", p.pre_tokenizer, "post_processor",
                     template_processor(spec), "decoder", p.decoder, "model", p.model);
    return *out ? SPAR_OK
                : spar_fail(err, SPAR_FORMAT, "%s: the vocabulary holds text that is not UTF-8",
                            where);
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
    SPAR_TRY(sp_vocab_spec_json(spec, where, &root, err));
    SPAR_TRY(sp_tokenizer_from_json(&t, root, where, err));
    for (int i = 0; i < SP_SPECIALS; i++) {
        if (ids[i] >= 0 && (size_t)ids[i] < spec->n_tokens) {
            SPAR_TRY(keep(t, spec->tokens[ids[i]], &t->special_text[i], err));
        }
    }
    if (spec->chat_template.data) {
        SPAR_TRY(keep(t, spec->chat_template, &t->chat_template, err));
    }
    if (spec->tool_template.data) {
        SPAR_TRY(keep(t, spec->tool_template, &t->tool_template, err));
    }
    *out = t;
    t = NULL;
done:
    spar_tokenizer_free(t);
    json_decref(root);
    return status;
}
