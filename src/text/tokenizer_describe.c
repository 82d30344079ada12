#include "text/tokenizer_describe.h"

#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/pre_names.h"

static spar_status refuse(const char *field, const json_t *step, spar_error *err) {
    const char *type = json_string_value(json_object_get(step, "type"));
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "tokenizer: %s: GGUF files have no name for this one (%s)", field,
                     type ? type : sp_json_type_name(step));
}

static bool is_type(const json_t *step, const char *type) {
    const char *name = json_string_value(json_object_get(step, "type"));
    return name && strcmp(name, type) == 0;
}

/* The steps of a Sequence, or the one step itself. */
static size_t count_steps(const json_t *step, const char *list) {
    return is_type(step, "Sequence") ? json_array_size(json_object_get(step, list))
           : json_is_object(step)    ? 1
                                     : 0;
}

static const json_t *step_at(const json_t *step, const char *list, size_t i) {
    return is_type(step, "Sequence") ? json_array_get(json_object_get(step, list), i) : step;
}

/* ---- byte-level ---- */

enum { MAX_PATTERNS = 8 };

/* The pattern of one step; "" where it splits nothing, NULL where it cannot be said. */
static const char *pattern_of(const json_t *step) {
    const json_t *pattern = json_object_get(step, "pattern");
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    if (is_type(step, "ByteLevel")) {
        if (json_is_true(json_object_get(step, "add_prefix_space"))) {
            return NULL;
        }
        return json_is_false(json_object_get(step, "use_regex")) ? "" : sp_pre_gpt2_words();
    }
    if (is_type(step, "Digits") && json_is_true(json_object_get(step, "individual_digits"))) {
        return "\\p{N}";
    }
    if (is_type(step, "Split") && behavior && strcmp(behavior, "Isolated") == 0 &&
        !json_is_true(json_object_get(step, "invert"))) {
        return json_string_value(json_object_get(pattern, "Regex"));
    }
    return NULL;
}

static spar_status describe_pre(sp_vocab_spec *spec, const json_t *root, spar_error *err) {
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *model = json_object_get(root, "model");
    const bool nfc = is_type(normalizer, "NFC");
    const char *patterns[MAX_PATTERNS + 1];
    size_t n = 0;
    if (!nfc && count_steps(normalizer, "normalizers") > 0) {
        return refuse("normalizer", normalizer, err);
    }
    for (size_t i = 0; i < count_steps(pre, "pretokenizers"); i++) {
        const json_t *step = step_at(pre, "pretokenizers", i);
        const char *pattern = n < MAX_PATTERNS ? pattern_of(step) : NULL;
        if (!pattern) {
            return refuse("pre_tokenizer", step, err);
        }
        if (pattern[0]) {
            patterns[n++] = pattern;
        }
    }
    spec->pre.data = sp_pre_name(
        patterns, n, nfc, json_is_true(json_object_get(model, "ignore_merges")), &spec->pre.n);
    return spec->pre.data ? SPAR_OK : refuse("pre_tokenizer", pre, err);
}

static bool split_text(const json_t *merge, const char **left, const char **right) {
    *left = json_string_value(json_array_get(merge, 0));
    *right = json_string_value(json_array_get(merge, 1));
    return *left && *right;
}

/* Merges as "left right", in text, with an array of where they begin. */
static spar_status describe_merges(sp_vocab_description *d, const json_t *merges, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = json_array_size(merges);
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, n + 1, sizeof *d->offsets, err));
    d->offsets = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *d->spec.merges, err));
    d->spec.merges = memory;
    d->spec.n_merges = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *left, *right;
        d->offsets[i] = d->text.len;
        if (split_text(merge, &left, &right)) {
            sp_str_printf(&d->text, "%s %s", left, right);
        } else {
            sp_str_puts(&d->text, json_string_value(merge));
        }
    }
    d->offsets[n] = d->text.len;
    SPAR_TRY(sp_str_status(&d->text, err));
    for (size_t i = 0; i < n; i++) {
        d->spec.merges[i] =
            (sp_bytes){sp_str_get(&d->text) + d->offsets[i], d->offsets[i + 1] - d->offsets[i]};
    }
done:
    return status;
}

/* ---- SentencePiece ---- */

static bool replaces_spaces(const json_t *step) {
    const json_t *pattern = json_object_get(json_object_get(step, "pattern"), "String");
    const char *content = json_string_value(json_object_get(step, "content"));
    return is_type(step, "Replace") && json_is_string(pattern) &&
           strcmp(json_string_value(pattern), " ") == 0 && content &&
           strcmp(content, "\xE2\x96\x81") == 0;
}

/* Spaces become marks, with one in front of the text or not: by the normalizer, or by Metaspace. */
static spar_status describe_marks(sp_vocab_spec *spec, const json_t *root, spar_error *err) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
    if (is_type(pre, "Metaspace") && count_steps(normalizer, "normalizers") == 0) {
        spec->add_space_prefix = !scheme || strcmp(scheme, "never") != 0;
        return SPAR_OK;
    }
    for (size_t i = 0; i < count_steps(normalizer, "normalizers"); i++) {
        const json_t *step = step_at(normalizer, "normalizers", i);
        if (is_type(step, "Prepend")) {
            spec->add_space_prefix = true;
        } else if (!replaces_spaces(step)) {
            return refuse("normalizer", step, err);
        }
    }
    /* a split at spaces, of which there are none any more, does nothing (Gemma) */
    return json_is_object(pre) && !is_type(pre, "Split") ? refuse("pre_tokenizer", pre, err)
                                                         : SPAR_OK;
}

/* A score for each token: less for a later merge, so that merging by scores is merging by rank.
 * Tokens that no merge gives have 0. */
static spar_status describe_scores(sp_vocab_description *d, const spar_tokenizer *t,
                                   const json_t *merges, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str token = SP_STR_INIT;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, d->spec.n_tokens, sizeof *d->scores, err));
    d->scores = memory;
    d->spec.scores = d->scores;
    for (size_t i = json_array_size(merges); i-- > 0;) { /* the first rank is the last written */
        const json_t *merge = json_array_get(merges, i);
        const char *left, *right;
        sp_str_clear(&token);
        if (split_text(merge, &left, &right)) {
            sp_str_printf(&token, "%s%s", left, right);
        } else {
            const char *text = json_string_value(merge);
            const char *space = strchr(text, ' ');
            sp_str_append(&token, text, (size_t)(space - text));
            sp_str_puts(&token, space + 1);
        }
        SPAR_TRY(sp_str_status(&token, err));
        d->scores[spar_tokenizer_id(t, sp_str_get(&token))] = -1.0F - (float)i;
    }
done:
    sp_str_release(&token);
    return status;
}

/* ---- tokens ---- */

static bool is_byte_token(const char *text) {
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static int32_t type_of(const spar_tokenizer *t, int32_t id, const char *text, bool bytes) {
    if (!text) {
        return SP_TOKEN_UNUSED;
    }
    if (spar_tokenizer_is_special(t, id)) {
        return id == spar_tokenizer_unk(t) && bytes ? SP_TOKEN_UNKNOWN : SP_TOKEN_CONTROL;
    }
    for (size_t i = 0; i < t->n_added + t->n_added_normalized; i++) {
        const sp_added_token *a =
            i < t->n_added ? &t->added[i] : &t->added_normalized[i - t->n_added];
        if (a->id == id) {
            return SP_TOKEN_USER;
        }
    }
    return bytes && is_byte_token(text) ? SP_TOKEN_BYTE : SP_TOKEN_NORMAL;
}

enum { PAD_TEXT = 24 }; /* "[PAD4294967295]" */

static spar_status describe_tokens(sp_vocab_description *d, const spar_tokenizer *t, size_t n,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    if ((size_t)spar_tokenizer_vocab_size(t) > n) {
        SPAR_TRY(
            spar_fail(err, SPAR_MISMATCH,
                      "tokenizer: expected at most the %zu tokens that the model has, found %d", n,
                      spar_tokenizer_vocab_size(t)));
    }
    d->spec.n_tokens = n;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *d->spec.tokens, err));
    d->spec.tokens = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *d->types, err));
    d->types = memory;
    d->spec.types = d->types;
    SPAR_TRY(sp_mem_calloc(&memory, n, PAD_TEXT, err));
    d->unused = memory;
    for (size_t i = 0; i < n; i++) {
        const char *text = spar_tokenizer_token(t, (int32_t)i);
        char *unused = d->unused + i * PAD_TEXT;
        snprintf(unused, PAD_TEXT, "[PAD%u]", (unsigned)i);
        d->types[i] = type_of(t, (int32_t)i, text, d->spec.kind == SP_VOCAB_SENTENCEPIECE);
        text = text ? text : unused;
        d->spec.tokens[i] = (sp_bytes){text, strlen(text)};
    }
done:
    return status;
}

static void describe_specials(sp_vocab_spec *spec, const spar_tokenizer *t) {
    spec->bos = spar_tokenizer_bos(t);
    spec->eos = spar_tokenizer_eos(t);
    spec->pad = spar_tokenizer_pad(t);
    spec->unk = spar_tokenizer_unk(t);
    spec->add_bos = t->n_before > 0 && t->before[0] == spec->bos;
    spec->add_eos = t->n_after > 0 && t->after[0] == spec->eos;
    const char *text = spar_tokenizer_chat_template(t);
    spec->chat_template = (sp_bytes){text, text ? strlen(text) : 0};
}

spar_status sp_tokenizer_describe(sp_vocab_description *out, const spar_tokenizer *t, size_t n,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *model = json_object_get(t->source, "model");
    const json_t *merges = json_object_get(model, "merges");
    *out = (sp_vocab_description){.text = SP_STR_INIT};
    if (t->model_type != &sp_bpe_type) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "tokenizer: export: expected a BPE model, found %s",
                           t->model_type->name));
    }
    const bool bytes = json_is_true(json_object_get(model, "byte_fallback"));
    out->spec.kind = bytes ? SP_VOCAB_SENTENCEPIECE : SP_VOCAB_BYTE_LEVEL;
    SPAR_TRY(describe_tokens(out, t, n, err));
    if (bytes) {
        SPAR_TRY(describe_marks(&out->spec, t->source, err));
        SPAR_TRY(describe_scores(out, t, merges, err));
    } else {
        SPAR_TRY(describe_pre(&out->spec, t->source, err));
        SPAR_TRY(describe_merges(out, merges, err));
    }
    describe_specials(&out->spec, t);
done:
    if (status != SPAR_OK) {
        sp_vocab_description_release(out);
    }
    return status;
}

void sp_vocab_description_release(sp_vocab_description *d) {
    free(d->spec.tokens);
    free(d->spec.merges);
    free(d->types);
    free(d->scores);
    free(d->offsets);
    free(d->unused);
    sp_str_release(&d->text);
    *d = (sp_vocab_description){.text = SP_STR_INIT};
}
