/* Reading step lists and running them. */
#include "text/steps.h"

#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/pattern.h"
#include "text/step_types.h"

void sp_words_release(sp_words *words) {
    sp_str_release(&words->text);
    free(words->items);
    memset(words, 0, sizeof *words);
}

spar_status sp_words_grow(sp_words *words, spar_error *err) {
    void *memory = words->items;
    spar_status status =
        sp_mem_grow(&memory, &words->capacity, words->n + 1, sizeof *words->items, err);
    words->items = memory;
    return status;
}

void sp_pieces_release(sp_pieces *pieces) {
    for (size_t i = 0; i < pieces->n; i++) {
        sp_str_release(&pieces->items[i].text);
    }
    free(pieces->items);
    memset(pieces, 0, sizeof *pieces);
}

spar_status sp_pieces_add(sp_pieces *pieces, const char *text, size_t n, spar_error *err) {
    void *memory = pieces->items;
    spar_status status =
        sp_mem_grow(&memory, &pieces->capacity, pieces->n + 1, sizeof *pieces->items, err);
    pieces->items = memory;
    if (status != SPAR_OK) {
        return status;
    }
    sp_piece *piece = &pieces->items[pieces->n++];
    *piece = (sp_piece){SP_STR_INIT};
    sp_str_append(&piece->text, text, n);
    return sp_str_status(&piece->text, err);
}

unsigned sp_byte_to_char(unsigned char byte) {
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173)) {
        return byte;
    }
    /* the others take U+0100, U+0101, ... in order */
    if (byte <= 32) {
        return 256U + byte;
    }
    return byte == 173 ? 256U + 67U : 256U + 33U + (unsigned)byte - 127U;
}

int sp_char_to_byte(unsigned c) {
    if (c < 256) {
        return sp_byte_to_char((unsigned char)c) == c ? (int)c : -1;
    }
    if (c <= 256 + 32) {
        return (int)(c - 256);
    }
    if (c < 256 + 67) {
        return (int)(c - 256 - 33 + 127);
    }
    return c == 256 + 67 ? 173 : -1;
}

/* All of the alphabet are below U+0800: a byte or two. */
void sp_bytes_to_alphabet(const char *bytes, size_t n, sp_str *out) {
    char block[256];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned c = sp_byte_to_char((unsigned char)bytes[i]);
        if (c < 0x80) {
            block[used++] = (char)c;
        } else {
            block[used++] = (char)(0xC0U | c >> 6);
            block[used++] = (char)(0x80U | (c & 0x3FU));
        }
        if (used >= sizeof block - 1 || i + 1 == n) {
            sp_str_append(out, block, used);
            used = 0;
        }
    }
}

void sp_alphabet_edits(const char *bytes, size_t n, size_t from, size_t to, sp_edits *edits) {
    for (size_t i = 0; i < n && edits; i++) {
        const size_t length = sp_byte_to_char((unsigned char)bytes[i]) < 0x80 ? 1 : 2;
        if (length > 1) {
            sp_edits_add(edits, from + i, 1, to, length);
        }
        to += length;
    }
}

/* ---- reading ---- */

spar_status sp_step_string(const json_t *value, const char *key, const char *fallback,
                           sp_arena *arena, const char **out, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *text;
    SPAR_TRY(sp_json_get_string_or(value, key, fallback, &text, where, err));
    if (!text) {
        SPAR_TRY(
            spar_fail(err, SPAR_FORMAT, "%s: %s: expected a string, found nothing", where, key));
    }
    *out = sp_arena_strndup(arena, text, strlen(text));
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where));
    }
done:
    return status;
}

spar_status sp_step_pattern(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *pattern = json_object_get(value, "pattern");
    bool regex = json_object_get(pattern, "Regex") != NULL;
    SPAR_TRY(
        sp_step_string(pattern, regex ? "Regex" : "String", NULL, arena, &step->text, where, err));
    if (regex || step->text[0] == '\0') { /* an empty string matches as the empty expression does */
        SPAR_TRY(sp_pattern_compile(step, step->text, where, err));
    }
done:
    return status;
}

static const sp_step_type *find_type(const sp_step_type *table, const char *name) {
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

static spar_status add_step(sp_step **steps, size_t *n, const sp_step_type *type,
                            const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    sp_step *grown = realloc(*steps, (*n + 1) * sizeof **steps);
    if (!grown) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where));
    }
    *steps = grown;
    sp_step *step = &grown[(*n)++];
    memset(step, 0, sizeof *step);
    step->type = type;
    if (type->read) {
        SPAR_TRY(type->read(step, value, arena, where, err));
    }
    if (type->then) {
        SPAR_TRY(add_step(steps, n, type->then, value, arena, where, err));
    }
done:
    return status;
}

enum { MAX_DEPTH = 16 };

static spar_status read_step(sp_step **steps, size_t *n, sp_stage stage, const json_t *value,
                             sp_arena *arena, const char *where, int depth, spar_error *err) {
    static const struct {
        const sp_step_type *types;
        const char *field, *list;
    } stages[] = {[SP_NORMALIZER] = {sp_normalizer_types, "normalizer", "normalizers"},
                  [SP_PRE_TOKENIZER] = {sp_splitter_types, "pre_tokenizer", "pretokenizers"},
                  [SP_DECODER] = {sp_decoder_types, "decoder", "decoders"}};
    spar_status status = SPAR_OK;
    const char *name;
    SPAR_TRY(sp_json_get_string(value, "type", &name, where, err));
    if (strcmp(name, "Sequence") == 0) {
        const json_t *list = json_object_get(value, stages[stage].list);
        if (!json_is_array(list) || depth == MAX_DEPTH) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s.%s: expected a list, found %s", where,
                               stages[stage].field, stages[stage].list, sp_json_type_name(list)));
        }
        for (size_t i = 0; i < json_array_size(list); i++) {
            SPAR_TRY(
                read_step(steps, n, stage, json_array_get(list, i), arena, where, depth + 1, err));
        }
        goto done;
    }
    const sp_step_type *type = find_type(stages[stage].types, name);
    if (!type) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: %s: type %s is not supported", where,
                           stages[stage].field, name));
    }
    SPAR_TRY(add_step(steps, n, type, value, arena, where, err));
done:
    return status;
}

spar_status sp_steps_read(sp_step **steps, size_t *n, sp_stage stage, const json_t *value,
                          sp_arena *arena, const char *where, spar_error *err) {
    *steps = NULL;
    *n = 0;
    if (!value || json_is_null(value)) {
        return SPAR_OK;
    }
    return read_step(steps, n, stage, value, arena, where, 0, err);
}

void sp_steps_free(sp_step *steps, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pcre2_code_free(steps[i].regex);
        sp_program_free(steps[i].program);
        sp_code_table_free(steps[i].unsafe);
    }
    free(steps);
}

/* ---- running ---- */

spar_status sp_steps_normalize(const sp_step *steps, size_t n, sp_str *text, sp_rewrites *rewrites,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(steps[i].type->normalize(&steps[i], text, rewrites, err));
    }
done:
    return status;
}

/* What is between the words before goes where a step rewrites. */
static spar_status split_once(const sp_step *step, const sp_words *words, sp_words *out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    size_t last = 0;
    out->n = 0;
    sp_str_clear(&out->text);
    for (size_t i = 0; i < words->n; i++) {
        const size_t begin = words->items[i].begin;
        if (words->items[i].n > 0) {
            if (begin > last) {
                sp_edits_add(out->edits, last, begin - last, out->text.len, 0);
            }
            last = begin + words->items[i].n;
            SPAR_TRY(step->type->split(step, words->base, &words->items[i], out, err));
        }
    }
    SPAR_TRY(sp_str_status(&out->text, err));
done:
    return status;
}

spar_status sp_steps_split(const sp_step *steps, size_t n, sp_words *words, sp_words *spare,
                           sp_rewrites *rewrites, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < n; i++) {
        if (steps[i].idle) {
            continue;
        }
        spare->edits = steps[i].rewrites ? sp_rewrites_pass(rewrites) : NULL;
        SPAR_TRY(split_once(&steps[i], words, spare, err));
        const sp_words before = *words;
        *words = *spare;
        *spare = before;
        if (steps[i].rewrites) {
            words->base = sp_str_get(&words->text);
        } else { /* the same text, with whoever owns it */
            spare->text = words->text;
            words->text = before.text;
            words->base = before.base;
        }
    }
done:
    return status;
}

spar_status sp_steps_decode(const sp_step *steps, size_t n, sp_pieces *tokens, sp_str *out,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(steps[i].type->decode(&steps[i], tokens, err));
    }
    for (size_t i = 0; i < tokens->n; i++) {
        sp_str_append(out, sp_str_get(&tokens->items[i].text), tokens->items[i].text.len);
    }
    SPAR_TRY(sp_str_status(out, err));
done:
    return status;
}

/* Where the last character of text [begin, end) begins. */
static size_t last_character(const char *text, size_t begin, size_t end) {
    size_t at = end > begin ? end - 1 : end;
    while (at > begin && ((unsigned char)text[at] & 0xC0U) == 0x80U) {
        at--;
    }
    return at;
}

spar_status sp_step_replace(const sp_step *step, sp_str *text, sp_edits *edits, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_matcher m = {0};
    sp_str out = SP_STR_INIT;
    size_t begin, end;
    size_t last = 0;
    bool found;
    const char *source = sp_str_get(text);
    if (text->len == 0) {
        return SPAR_OK; /* in which nothing matches, not even an empty pattern */
    }
    SPAR_TRY(sp_matcher_init(&m, step, source, text->len, err));
    for (;;) {
        SPAR_TRY(sp_matcher_next(&m, &begin, &end, &found, err));
        if (!found) {
            break;
        }
        sp_str_append(&out, source + last, begin - last);
        const size_t to = out.len;
        sp_str_puts(&out, step->content);
        /* as in the reference: the others are gone, and the last one is what becomes the content */
        const size_t kept = out.len > to ? last_character(source, begin, end) : end;
        sp_edits_add(edits, begin, kept - begin, to, 0);
        sp_edits_add(edits, kept, end - kept, to, out.len - to);
        last = end;
    }
    sp_str_append(&out, source + last, text->len - last);
    SPAR_TRY(sp_str_status(&out, err));
    sp_str_release(text);
    *text = out;
    out = (sp_str)SP_STR_INIT;
done:
    sp_str_release(&out);
    sp_matcher_release(&m);
    return status;
}

/* Length of the well-formed sequence at s, or 0; *bad is the length of the maximal ill-formed part
 * (Unicode 15, table 3-7 and section 3.9, substitution of maximal subparts). */
static size_t sequence_length(const unsigned char *s, size_t n, size_t *bad) {
    unsigned char lead = s[0];
    size_t length = lead < 0x80   ? 1
                    : lead < 0xC2 ? 0
                    : lead < 0xE0 ? 2
                    : lead < 0xF0 ? 3
                    : lead < 0xF5 ? 4
                                  : 0;
    *bad = 1;
    for (size_t i = 1; i < length; i++) {
        unsigned char low = 0x80;
        unsigned char high = 0xBF;
        if (i == 1) {
            low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : low;
            high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : high;
        }
        if (i >= n || s[i] < low || s[i] > high) {
            *bad = i;
            return 0;
        }
    }
    return length;
}

/* The end of the well-formed text from `at` on. */
static size_t valid_until(const char *text, size_t n, size_t at) {
    while (at < n) {
        uint64_t eight;
        size_t bad;
        if (n - at >= sizeof eight) {
            memcpy(&eight, text + at, sizeof eight);
            if (!(eight & 0x8080808080808080U)) {
                at += sizeof eight;
                continue;
            }
        }
        const size_t length = sequence_length((const unsigned char *)text + at, n - at, &bad);
        if (length == 0) {
            break;
        }
        at += length;
    }
    return at;
}

bool sp_utf8_is_valid(const char *text, size_t n) {
    return valid_until(text, n, 0) == n;
}

void sp_utf8_repair(const char *text, size_t n, sp_str *out) {
    for (size_t at = 0; at < n;) {
        const size_t end = valid_until(text, n, at);
        sp_str_append(out, text + at, end - at);
        at = end;
        if (at < n) {
            size_t bad;
            sequence_length((const unsigned char *)text + at, n - at, &bad);
            sp_str_put_utf8(out, 0xFFFD);
            at += bad;
        }
    }
}
