#include "text/tokenizer_describe.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/jsonx.h"
#include "text/charsmap.h"
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

/* Texts that stand one after the other in d->text; it grows no more. */
static spar_status settle_texts(sp_vocab_description *d, sp_bytes *texts, size_t n,
                                spar_error *err) {
    const spar_status status = sp_str_status(&d->text, err);
    d->offsets[n] = d->text.len;
    for (size_t i = 0; i < n && status == SPAR_OK; i++) {
        texts[i] =
            (sp_bytes){sp_str_get(&d->text) + d->offsets[i], d->offsets[i + 1] - d->offsets[i]};
    }
    return status;
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
    SPAR_TRY(settle_texts(d, d->spec.merges, n, err));
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

/* ---- Unigram ---- */

static const char mark[] = "\xE2\x96\x81"; /* U+2581, for a space */

static int32_t unigram_unk(const spar_tokenizer *t) {
    const json_t *id = json_object_get(json_object_get(t->source, "model"), "unk_id");
    return json_is_integer(id) ? (int32_t)json_integer_value(id) : -1;
}

/* What the steps before the model do to spaces. */
typedef struct spacing {
    bool left, right, runs; /* stripped; runs made one */
    bool words;             /* split at white space, of which nothing stays */
    bool split;             /* at the marks */
} spacing;

static spar_status read_charsmap(sp_vocab_description *d, const json_t *step, spar_error *err) {
    const json_t *map = json_object_get(step, "precompiled_charsmap");
    if (d->text.len > 0 ||
        !sp_base64_decode(json_string_value(map), json_string_length(map), &d->text)) {
        return refuse("normalizer", step, err);
    }
    const spar_status status = sp_str_status(&d->text, err);
    d->spec.charsmap = (sp_bytes){sp_str_get(&d->text), d->text.len};
    return status;
}

static bool joins_runs(const json_t *step) {
    const char *pattern =
        json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    const char *content = json_string_value(json_object_get(step, "content"));
    return is_type(step, "Replace") && pattern && content && strcmp(pattern, " {2,}") == 0 &&
           (strcmp(content, " ") == 0 || strcmp(content, mark) == 0);
}

static spar_status read_cleaning(sp_vocab_description *d, const json_t *normalizer, spacing *s,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < count_steps(normalizer, "normalizers"); i++) {
        const json_t *step = step_at(normalizer, "normalizers", i);
        if (is_type(step, "Precompiled") && i == 0) {
            SPAR_TRY(read_charsmap(d, step, err));
        } else if (is_type(step, "Strip")) {
            s->left = s->left || json_is_true(json_object_get(step, "strip_left"));
            s->right = s->right || json_is_true(json_object_get(step, "strip_right"));
        } else if (joins_runs(step)) {
            s->runs = true;
        } else {
            SPAR_TRY(refuse("normalizer", step, err));
        }
    }
done:
    return status;
}

/* Words, then marks in place of spaces: one Metaspace, which puts one in front of each text, or of
 * none. */
static spar_status read_metaspace(sp_vocab_spec *spec, const json_t *pre, spacing *s,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    bool seen = false;
    for (size_t i = 0; i < count_steps(pre, "pretokenizers"); i++) {
        const json_t *step = step_at(pre, "pretokenizers", i);
        const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
        const char *replacement = json_string_value(json_object_get(step, "replacement"));
        const bool marks = is_type(step, "Metaspace") && !seen && replacement &&
                           strcmp(replacement, mark) == 0 &&
                           (!scheme || strcmp(scheme, "first") != 0);
        if (is_type(step, "WhitespaceSplit") && !seen) {
            s->words = true;
        } else if (marks) {
            seen = true;
            s->split = !json_is_false(json_object_get(step, "split"));
            spec->add_space_prefix =
                scheme ? strcmp(scheme, "always") == 0
                       : !json_is_false(json_object_get(step, "add_prefix_space"));
        } else {
            SPAR_TRY(refuse("pre_tokenizer", step, err));
        }
    }
    if (!seen) {
        SPAR_TRY(refuse("pre_tokenizer", pre, err));
    }
done:
    return status;
}

/* Whether white space that is no space becomes spaces by the map, or goes: readers strip no
 * other. */
static spar_status maps_white_space(const sp_vocab_description *d, bool *all, spar_error *err) {
    static const char *const white[] = {"\t", "\n", "\r", "\f", "\xC2\xA0", "\xE3\x80\x80"};
    spar_status status = SPAR_OK;
    const sp_charsmap *map;
    sp_arena arena;
    sp_str text = SP_STR_INIT;
    sp_arena_init(&arena);
    *all = d->spec.charsmap.data != NULL;
    if (*all) {
        SPAR_TRY(sp_charsmap_read(&map, d->spec.charsmap.data, d->spec.charsmap.n, &arena,
                                  "tokenizer", err));
    }
    for (size_t i = 0; *all && i < sizeof white / sizeof *white; i++) {
        sp_str_clear(&text);
        SPAR_TRY(sp_charsmap_apply(map, white[i], strlen(white[i]), &text, NULL, err));
        *all = strspn(sp_str_get(&text), " ") == text.len;
    }
done:
    sp_str_release(&text);
    sp_arena_release(&arena);
    return status;
}

/* A piece with a mark behind its beginning would reach over the places where a text is split. */
static bool spans_words(const sp_vocab_description *d) {
    for (size_t i = 0; i < d->spec.n_tokens; i++) {
        const char *text = d->spec.tokens[i].data;
        if (d->types[i] == SP_TOKEN_NORMAL && text[0] && strstr(text + 1, mark)) {
            return true;
        }
    }
    return false;
}

/* Readers have one kind of cleaning: ends stripped and runs of spaces made one, each word with a
 * mark in front; or they leave all spaces. */
static spar_status describe_spacing(sp_vocab_description *d, const json_t *root, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    sp_vocab_spec *spec = &d->spec;
    spacing s = {0};
    bool mapped = true;
    SPAR_TRY(read_cleaning(d, normalizer, &s, err));
    SPAR_TRY(read_metaspace(spec, pre, &s, err));
    spec->strip_spaces = s.words || (s.right && s.runs);
    if (spec->strip_spaces) {
        SPAR_TRY(maps_white_space(d, &mapped, err));
    }
    if ((spec->strip_spaces && (!spec->add_space_prefix || !mapped)) ||
        (!spec->strip_spaces && (s.left || s.right || s.runs))) {
        SPAR_TRY(refuse(s.words ? "pre_tokenizer" : "normalizer", s.words ? pre : normalizer, err));
    }
    if ((s.split || s.words) && spans_words(d)) {
        SPAR_TRY(refuse("pre_tokenizer: split at marks that tokens hold", pre, err));
    }
done:
    return status;
}

/* As the converter has them: tokens that are no pieces score what no text is worth. */
static spar_status describe_unigram(sp_vocab_description *d, const spar_tokenizer *t,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *model = json_object_get(t->source, "model");
    const json_t *vocab = json_object_get(model, "vocab");
    void *memory;
    if (json_is_true(json_object_get(model, "byte_fallback"))) {
        SPAR_TRY(refuse("model: byte_fallback", model, err));
    }
    SPAR_TRY(describe_spacing(d, t->source, err));
    SPAR_TRY(sp_mem_calloc(&memory, d->spec.n_tokens, sizeof *d->scores, err));
    d->scores = memory;
    d->spec.scores = d->scores;
    for (size_t i = 0; i < d->spec.n_tokens; i++) {
        const json_t *score = json_array_get(json_array_get(vocab, i), 1);
        d->scores[i] = score                            ? (float)json_number_value(score)
                       : d->types[i] == SP_TOKEN_UNUSED ? -10000.0F
                                                        : -1000.0F;
    }
done:
    return status;
}

/* ---- WordPiece ---- */

static bool is_plain(const json_t *step, const char *member, bool value) {
    const json_t *given = json_object_get(step, member);
    return json_is_boolean(given) ? json_boolean_value(given) == value : value;
}

/* Readers take away case and accents, and split as BERT does. */
static spar_status check_bert(const spar_tokenizer *t, spar_error *err) {
    const json_t *normalizer = json_object_get(t->source, "normalizer");
    const json_t *pre = json_object_get(t->source, "pre_tokenizer");
    const json_t *model = json_object_get(t->source, "model");
    const char *prefix = json_string_value(json_object_get(model, "continuing_subword_prefix"));
    json_t *same = sp_word_piece_normalizer();
    const bool uncased =
        (is_type(normalizer, "BertNormalizer") && is_plain(normalizer, "clean_text", true) &&
         is_plain(normalizer, "handle_chinese_chars", true) &&
         is_plain(normalizer, "strip_accents", true) && is_plain(normalizer, "lowercase", true)) ||
        json_equal(normalizer, same);
    json_decref(same);
    if (!uncased) {
        return refuse("normalizer", normalizer, err);
    }
    if (!is_type(pre, "BertPreTokenizer")) {
        return refuse("pre_tokenizer", pre, err);
    }
    if (!prefix || strcmp(prefix, "##") != 0) {
        return refuse("model: continuing_subword_prefix", model, err);
    }
    return t->n_before == 1 && t->n_after == 1
               ? SPAR_OK
               : refuse("post_processor: one token before a text and one behind it",
                        json_object_get(t->source, "post_processor"), err);
}

/* Whether readers know a bare token as one within a word: names in brackets and marks they take
 * otherwise. */
static bool stays_within(const char *bare) {
    const size_t n = strlen(bare);
    const bool name = n > 1 && bare[0] == '[' && bare[n - 1] == ']';
    return !name && strncmp(bare, mark, strlen(mark)) != 0;
}

/* A token that begins a word has the mark before it, one within a word is bare. */
static spar_status describe_word_piece(sp_vocab_description *d, const spar_tokenizer *t,
                                       spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = d->spec.n_tokens;
    void *memory;
    SPAR_TRY(check_bert(t, err));
    SPAR_TRY(sp_mem_calloc(&memory, n + 1, sizeof *d->offsets, err));
    d->offsets = memory;
    for (size_t i = 0; i < n; i++) {
        const char *text = d->spec.tokens[i].data;
        const bool piece = d->types[i] == SP_TOKEN_NORMAL, within = strncmp(text, "##", 2) == 0;
        if (piece && within && !stays_within(text + 2)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "tokenizer: model: GGUF files have no way to write the token %.40s",
                               text));
        }
        d->offsets[i] = d->text.len;
        sp_str_puts(&d->text, piece && !within ? mark : "");
        sp_str_puts(&d->text, text + (piece && within ? 2 : 0));
    }
    SPAR_TRY(settle_texts(d, d->spec.tokens, n, err));
done:
    return status;
}

/* ---- tokens ---- */

static bool is_byte_token(const char *text) {
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static int32_t type_of(const spar_tokenizer *t, int32_t id, const char *text, sp_vocab_kind kind) {
    const bool bytes = kind == SP_VOCAB_SENTENCEPIECE;
    if (!text) {
        return SP_TOKEN_UNUSED;
    }
    if (kind == SP_VOCAB_UNIGRAM && id == unigram_unk(t)) {
        return SP_TOKEN_UNKNOWN;
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
        d->types[i] = type_of(t, (int32_t)i, text, d->spec.kind);
        text = text ? text : unused;
        d->spec.tokens[i] = (sp_bytes){text, strlen(text)};
    }
done:
    return status;
}

/* The one token that is added at an end of a text: that of the role, which may have none yet. */
static bool take_end(const int32_t *ids, size_t n, int64_t *role) {
    *role = n == 1 && *role < 0 ? ids[0] : *role;
    return n == 0 || (n == 1 && ids[0] == *role);
}

static spar_status describe_specials(sp_vocab_spec *spec, const spar_tokenizer *t,
                                     spar_error *err) {
    const json_t *model = json_object_get(t->source, "model");
    const bool words = spec->kind == SP_VOCAB_WORD_PIECE; /* its ends are CLS and SEP */
    spec->bos = words ? -1 : spar_tokenizer_bos(t);
    spec->eos = words ? -1 : spar_tokenizer_eos(t);
    spec->pad = spar_tokenizer_pad(t);
    spec->unk = spec->kind == SP_VOCAB_UNIGRAM ? unigram_unk(t) : spar_tokenizer_unk(t);
    if (words) {
        spec->unk = spar_tokenizer_id(t, json_string_value(json_object_get(model, "unk_token")));
    }
    if (!take_end(t->before, t->n_before, &spec->bos) ||
        !take_end(t->after, t->n_after, &spec->eos)) {
        return refuse("post_processor", json_object_get(t->source, "post_processor"), err);
    }
    spec->add_bos = t->n_before > 0;
    spec->add_eos = t->n_after > 0;
    const char *text = spar_tokenizer_chat_template(t);
    const char *tools = spar_tokenizer_tool_template(t);
    spec->chat_template = (sp_bytes){text, text ? strlen(text) : 0};
    spec->tool_template = (sp_bytes){tools, tools ? strlen(tools) : 0};
    return SPAR_OK;
}

spar_status sp_tokenizer_describe(sp_vocab_description *out, const spar_tokenizer *t, size_t n,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *model = json_object_get(t->source, "model");
    const json_t *merges = json_object_get(model, "merges");
    const bool bytes = json_is_true(json_object_get(model, "byte_fallback"));
    *out = (sp_vocab_description){.text = SP_STR_INIT};
    if (t->model_type == &sp_bpe_type) {
        out->spec.kind = bytes ? SP_VOCAB_SENTENCEPIECE : SP_VOCAB_BYTE_LEVEL;
    } else if (t->model_type == &sp_unigram_type) {
        out->spec.kind = SP_VOCAB_UNIGRAM;
    } else if (t->model_type == &sp_word_piece_type) {
        out->spec.kind = SP_VOCAB_WORD_PIECE;
    } else {
        SPAR_TRY(
            spar_fail(err, SPAR_UNSUPPORTED,
                      "tokenizer: export: expected a BPE, Unigram or WordPiece model, found %s",
                      t->model_type->name));
    }
    SPAR_TRY(describe_tokens(out, t, n, err));
    switch (out->spec.kind) {
    case SP_VOCAB_SENTENCEPIECE:
        SPAR_TRY(describe_marks(&out->spec, t->source, err));
        SPAR_TRY(describe_scores(out, t, merges, err));
        break;
    case SP_VOCAB_BYTE_LEVEL:
        SPAR_TRY(describe_pre(&out->spec, t->source, err));
        SPAR_TRY(describe_merges(out, merges, err));
        break;
    case SP_VOCAB_UNIGRAM:
        SPAR_TRY(describe_unigram(out, t, err));
        break;
    case SP_VOCAB_WORD_PIECE:
        SPAR_TRY(describe_word_piece(out, t, err));
        break;
    }
    SPAR_TRY(describe_specials(&out->spec, t, err));
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
