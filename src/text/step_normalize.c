/* Normalizers. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/base64.h"
#include "base/jsonx.h"
#include "text/characters.h"
#include "text/charsmap.h"
#include "text/step_types.h"
#include "text/unicode_tables.h"

/* ---- Unicode normalisation forms, through utf8proc ---- */

/* Sets of the step's table: what a form may change where it stands or by what is before it, and
 * what the reference's tables, of Unicode 9, do not know, so that it stays and nothing passes it.
 */
enum { MAY_CHANGE = 1, UNKNOWN = 2 };

static spar_status read_form(sp_step *step, bool only_composes, const char *where,
                             spar_error *err) {
    sp_code_set sets[2] = {0};
    if (only_composes) {
        sp_code_set_add_property(&sets[0], "M", 1);
        sp_code_set_add_pairs(&sets[0], sp_unicode_not_composed, sp_unicode_not_composed_n);
    } else {
        sp_code_set_add(&sets[0], 0x80, SP_CODE_POINTS - 1);
    }
    sp_code_set_add_pairs(&sets[1], sp_unicode_decomposed_later, sp_unicode_decomposed_later_n);
    spar_status status = sp_code_table_create(&step->unsafe, sets, 2, err);
    sp_code_set_release(&sets[0]);
    sp_code_set_release(&sets[1]);
    return status == SPAR_OK ? status : spar_error_context(err, "%s", where);
}

static spar_status read_nfc(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                            spar_error *err) {
    (void)value;
    (void)arena;
    return read_form(step, true, where, err);
}

static spar_status read_decomposing(sp_step *step, const json_t *value, sp_arena *arena,
                                    const char *where, spar_error *err) {
    (void)value;
    (void)arena;
    return read_form(step, false, where, err);
}

/* Code points, growing. */
typedef struct points {
    utf8proc_int32_t *items; /* owned */
    size_t n, capacity;
} points;

static spar_status grow_points(points *p, size_t more, spar_error *err) {
    void *memory = p->items;
    spar_status status = sp_mem_grow(&memory, &p->capacity, p->n + more, sizeof *p->items, err);
    p->items = memory;
    return status;
}

/* Append the decompositions of all characters of text, not yet in order. */
static spar_status decompose(const char *text, size_t n, utf8proc_option_t options, points *out,
                             spar_error *err) {
    enum { LONGEST = 32 }; /* more than any decomposition has */
    spar_status status = SPAR_OK;
    for (size_t at = 0; at < n;) {
        unsigned c;
        at += sp_utf8_decode(text + at, n - at, &c);
        SPAR_TRY(grow_points(out, LONGEST, err));
        const utf8proc_ssize_t length = utf8proc_decompose_char(
            (utf8proc_int32_t)c, out->items + out->n, LONGEST, options, NULL);
        if (length < 0) {
            SPAR_TRY(
                spar_fail(err, SPAR_FORMAT, "Unicode normalisation: %s", utf8proc_errmsg(length)));
        }
        out->n += (size_t)length;
    }
done:
    return status;
}

static unsigned class_of(utf8proc_int32_t c) {
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Bring a run of marks into the order of their classes, equal ones as they are (Unicode 15, D109):
 * by counting, since swapping neighbours takes time with the square of a long run. */
static spar_status order_run(utf8proc_int32_t *run, size_t n, points *spare, spar_error *err) {
    size_t begins[257] = {0};
    bool ordered = true;
    spare->n = 0;
    for (size_t i = 1; i < n; i++) {
        ordered = ordered && class_of(run[i - 1]) <= class_of(run[i]);
    }
    if (ordered) {
        return SPAR_OK;
    }
    spar_status status = grow_points(spare, n, err);
    if (status != SPAR_OK) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        begins[class_of(run[i]) + 1]++;
    }
    for (size_t k = 1; k < 257; k++) {
        begins[k] += begins[k - 1];
    }
    for (size_t i = 0; i < n; i++) {
        spare->items[begins[class_of(run[i])]++] = run[i];
    }
    memcpy(run, spare->items, n * sizeof *run);
    return SPAR_OK;
}

static spar_status order_marks(points *p, points *spare, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t begin = 0, end; begin < p->n; begin = end) {
        end = begin;
        while (end < p->n && class_of(p->items[end]) != 0) {
            end++;
        }
        SPAR_TRY(order_run(p->items + begin, end - begin, spare, err));
        end += end == begin; /* a starter */
    }
done:
    return status;
}

/* Append the form of a stretch of text. marks and spare are scratch. */
static spar_status map_part(const char *text, size_t n, utf8proc_option_t options, points *marks,
                            points *spare, sp_str *out, spar_error *err) {
    spar_status status = SPAR_OK;
    marks->n = 0;
    SPAR_TRY(decompose(text, n, options, marks, err));
    SPAR_TRY(order_marks(marks, spare, err));
    if (options & UTF8PROC_COMPOSE) {
        const utf8proc_ssize_t length =
            utf8proc_normalize_utf32(marks->items, (utf8proc_ssize_t)marks->n, options);
        if (length < 0) {
            SPAR_TRY(
                spar_fail(err, SPAR_FORMAT, "Unicode normalisation: %s", utf8proc_errmsg(length)));
        }
        marks->n = (size_t)length;
    }
    for (size_t i = 0; i < marks->n; i++) {
        sp_str_put_utf8(out, (unsigned)marks->items[i]);
    }
done:
    return status;
}

/* The sets of the character at s. */
static uint64_t sets_at(const sp_step *step, const char *s, const char *end, size_t *used) {
    return sp_code_mask(step->unsafe,
                        sp_code_point((const unsigned char *)s, (const unsigned char *)end, used));
}

/* The next stretch of text [n] from `at` on that a form may change, with the character before it:
 * [*begin, *end), empty at n where there is none. Nothing before `at` takes part. */
static void next_stretch(const sp_step *step, const char *text, size_t n, size_t at, size_t *begin,
                         size_t *end) {
    const size_t from = at;
    size_t used = 0;
    for (; at < n; at += used) {
        if (!((unsigned char)text[at] & 0x80U)) {
            used = 1;
        } else if (sets_at(step, text + at, text + n, &used) == MAY_CHANGE) {
            break;
        }
    }
    *begin = *end = at;
    while (*end < n && sets_at(step, text + *end, text + n, &used) == MAY_CHANGE) {
        *end += used;
    }
    if (at < n && at > from) {
        do {
            at--;
        } while (at > from && ((unsigned char)text[at] & 0xC0U) == 0x80U);
        *begin = sets_at(step, text + at, text + n, &used) == 0 ? at : *begin;
    }
}

/* The end of the character at `at` with the marks behind it. */
static size_t cluster_end(const char *text, size_t n, size_t at) {
    unsigned c;
    at += sp_utf8_decode(text + at, n - at, &c);
    for (size_t used; at < n; at += used) {
        used = sp_utf8_decode(text + at, n - at, &c);
        if (class_of((utf8proc_int32_t)c) == 0) {
            break;
        }
    }
    return at;
}

/* The form [to, out->len) of the stretch [begin, end) of a text as edits: a character with its
 * marks each, as far as their forms one after the other are the form of the whole; what is behind
 * that is one edit. */
static spar_status note_forms(const char *text, size_t begin, size_t end, utf8proc_option_t options,
                              const sp_str *out, size_t to, sp_edits *edits, spar_error *err) {
    spar_status status = SPAR_OK;
    points marks = {0}, spare = {0};
    sp_str form = SP_STR_INIT;
    while (begin < end) {
        const size_t next = cluster_end(text, end, begin);
        sp_str_clear(&form);
        SPAR_TRY(map_part(text + begin, next - begin, options, &marks, &spare, &form, err));
        SPAR_TRY(sp_str_status(&form, err));
        if (form.len > out->len - to ||
            memcmp(sp_str_get(&form), sp_str_get(out) + to, form.len) != 0) {
            break;
        }
        if (form.len != next - begin || memcmp(sp_str_get(&form), text + begin, form.len) != 0) {
            sp_edits_add(edits, begin, next - begin, to, form.len);
        }
        begin = next;
        to += form.len;
    }
    if (begin < end) {
        sp_edits_add(edits, begin, end - begin, to, out->len - to);
    }
done:
    free(marks.items);
    free(spare.items);
    sp_str_release(&form);
    return status;
}

/* Most text needs no change, so it is looked through first and mapped in parts. */
static spar_status unicode_map(const sp_step *step, sp_str *text, utf8proc_option_t options,
                               sp_edits *edits, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str out = SP_STR_INIT;
    points marks = {0}, spare = {0};
    const char *s = sp_str_get(text);
    size_t done_to = 0;
    size_t begin, end;
    next_stretch(step, s, text->len, 0, &begin, &end);
    if (begin == text->len) {
        return SPAR_OK;
    }
    while (begin < text->len) {
        sp_str_append(&out, s + done_to, begin - done_to);
        const size_t to = out.len;
        SPAR_TRY(map_part(s + begin, end - begin, options, &marks, &spare, &out, err));
        if (edits) {
            SPAR_TRY(note_forms(s, begin, end, options, &out, to, edits, err));
        }
        done_to = end;
        next_stretch(step, s, text->len, end, &begin, &end);
    }
    sp_str_append(&out, s + done_to, text->len - done_to);
    SPAR_TRY(sp_str_status(&out, err));
    sp_str_release(text);
    *text = out;
    out = (sp_str)SP_STR_INIT;
done:
    sp_str_release(&out);
    free(marks.items);
    free(spare.items);
    return status;
}

static spar_status nfc(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    return unicode_map(step, text, UTF8PROC_STABLE | UTF8PROC_COMPOSE, sp_rewrites_pass(rewrites),
                       err);
}

static spar_status nfd(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    return unicode_map(step, text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, sp_rewrites_pass(rewrites),
                       err);
}

static spar_status nfkc(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    return unicode_map(step, text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                       sp_rewrites_pass(rewrites), err);
}

static spar_status nfkd(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    return unicode_map(step, text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
                       sp_rewrites_pass(rewrites), err);
}

/* ---- characters one by one ---- */

/* Each code point passes through put, which appends what becomes of it. */
static spar_status map_characters(sp_str *text, void (*put)(sp_str *out, unsigned c),
                                  sp_rewrites *rewrites, spar_error *err) {
    sp_str out = SP_STR_INIT;
    sp_edits *edits = sp_rewrites_pass(rewrites);
    const char *s = sp_str_get(text);
    for (size_t at = 0, used; at < text->len; at += used) {
        unsigned c;
        const size_t to = out.len;
        used = sp_utf8_decode(s + at, text->len - at, &c);
        put(&out, c);
        if (out.len - to != used) {
            sp_edits_add(edits, at, used, to, out.len - to);
        }
    }
    spar_status status = sp_str_status(&out, err);
    sp_str_release(text);
    *text = out;
    return status;
}

static void put_without_marks(sp_str *out, unsigned c) {
    if (!sp_char_is_mark(c)) {
        sp_str_put_utf8(out, c);
    }
}

/* U+0130 is the one character whose lower case is two. */
static void put_lowercase(sp_str *out, unsigned c) {
    sp_str_put_utf8(out, c == 0x130 ? 'i' : sp_char_lower(c));
    if (c == 0x130) {
        sp_str_put_utf8(out, 0x307);
    }
}

static spar_status lowercase(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                             spar_error *err) {
    (void)step;
    return map_characters(text, put_lowercase, rewrites, err);
}

static spar_status strip_accents(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                                 spar_error *err) {
    (void)step;
    return map_characters(text, put_without_marks, rewrites, err);
}

static spar_status byte_level(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                              spar_error *err) {
    sp_str out = SP_STR_INIT;
    (void)step;
    sp_bytes_to_alphabet(sp_str_get(text), text->len, &out);
    sp_alphabet_edits(sp_str_get(text), text->len, 0, 0, sp_rewrites_pass(rewrites));
    sp_str_release(text);
    *text = out;
    return sp_str_status(text, err);
}

static spar_status read_prepend(sp_step *step, const json_t *value, sp_arena *arena,
                                const char *where, spar_error *err) {
    return sp_step_string(value, "prepend", NULL, arena, &step->content, where, err);
}

static spar_status prepend(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                           spar_error *err) {
    sp_str out = SP_STR_INIT;
    if (text->len == 0) {
        return SPAR_OK;
    }
    const char *s = sp_str_get(text);
    unsigned c;
    const size_t first = sp_utf8_decode(s, text->len, &c); /* which what is prepended belongs to */
    sp_str_puts(&out, step->content);
    sp_edits_add(sp_rewrites_pass(rewrites), 0, first, 0, out.len + first);
    sp_str_append(&out, s, text->len);
    sp_str_release(text);
    *text = out;
    return sp_str_status(text, err);
}

static spar_status read_replace(sp_step *step, const json_t *value, sp_arena *arena,
                                const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_pattern(step, value, arena, where, err));
    SPAR_TRY(sp_step_string(value, "content", NULL, arena, &step->content, where, err));
done:
    return status;
}

static spar_status replace(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                           spar_error *err) {
    return sp_step_replace(step, text, sp_rewrites_pass(rewrites), err);
}

static spar_status read_strip(sp_step *step, const json_t *value, sp_arena *arena,
                              const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    (void)arena;
    SPAR_TRY(sp_json_get_bool_or(value, "strip_left", true, &step->left, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "strip_right", true, &step->right, where, err));
done:
    return status;
}

static spar_status strip(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                         spar_error *err) {
    const char *s = sp_str_get(text);
    size_t begin = 0;
    size_t end = text->len;
    unsigned c;
    while (step->left && begin < end) {
        size_t used = sp_utf8_decode(s + begin, end - begin, &c);
        if (!sp_char_is_space(c)) {
            break;
        }
        begin += used;
    }
    while (step->right && end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)s[last] & 0xC0U) == 0x80U) {
            last--;
        }
        sp_utf8_decode(s + last, end - last, &c);
        if (!sp_char_is_space(c)) {
            break;
        }
        end = last;
    }
    sp_str out = SP_STR_INIT;
    sp_edits_add(sp_rewrites_pass(rewrites), 0, begin, 0, 0);
    sp_str_append(&out, s + begin, end - begin);
    sp_str_release(text);
    *text = out;
    return sp_str_status(text, err);
}

/* ---- what SentencePiece does to text ---- */

static spar_status read_precompiled(sp_step *step, const json_t *value, sp_arena *arena,
                                    const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *text;
    sp_str bytes = SP_STR_INIT;
    SPAR_TRY(sp_json_get_string(value, "precompiled_charsmap", &text, where, err));
    if (!sp_base64_decode(text, strlen(text), &bytes)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: precompiled_charsmap: expected base64", where));
    }
    SPAR_TRY(sp_str_status(&bytes, err));
    SPAR_TRY(sp_charsmap_read(&step->charsmap, sp_str_get(&bytes), bytes.len, arena, where, err));
done:
    sp_str_release(&bytes);
    return status;
}

static spar_status precompiled(const sp_step *step, sp_str *text, sp_rewrites *rewrites,
                               spar_error *err) {
    sp_str out = SP_STR_INIT;
    spar_status status = sp_charsmap_apply(step->charsmap, sp_str_get(text), text->len, &out,
                                           sp_rewrites_pass(rewrites), err);
    sp_str_release(text);
    *text = out;
    return status;
}

/* Controls go; other white space, zero-width characters and the mark for spaces become spaces. */
static void put_nmt(sp_str *out, unsigned c) {
    static const unsigned dropped[][2] = {{0x01, 0x08}, {0x0B, 0x0B}, {0x0E, 0x1F},
                                          {0x7F, 0x7F}, {0x8F, 0x8F}, {0x9F, 0x9F}};
    static const unsigned spaces[][2] = {{0x09, 0x0D},     {0x1680, 0x1680}, {0x200B, 0x200F},
                                         {0x2028, 0x2029}, {0x2581, 0x2581}, {0xFEFF, 0xFEFF},
                                         {0xFFFD, 0xFFFD}};
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++) {
        if (c >= dropped[i][0] && c <= dropped[i][1]) {
            return;
        }
    }
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        c = c >= spaces[i][0] && c <= spaces[i][1] ? ' ' : c;
    }
    sp_str_put_utf8(out, c);
}

static spar_status nmt(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    (void)step;
    return map_characters(text, put_nmt, rewrites, err);
}

/* ---- BertNormalizer (Devlin et al. 2019, the basic tokenizer) ---- */

/* Controls, formats and private use go, but tab and line ends count as white space, of which each
 * character becomes a space. */
static void put_clean(sp_str *out, unsigned c) {
    if (c == '\t' || c == '\n' || c == '\r') {
        sp_str_putc(out, ' ');
        return;
    }
    if (c == 0xFFFD || sp_char_is_other(c)) {
        return;
    }
    sp_str_put_utf8(out, sp_char_is_space(c) ? ' ' : c);
}

/* The blocks that the reference takes for Chinese; its second last leaves out U+2B820..2B91F. */
static bool is_chinese(unsigned c) {
    static const unsigned blocks[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (c >= blocks[i][0] && c <= blocks[i][1]) {
            return true;
        }
    }
    return false;
}

static void put_chinese_apart(sp_str *out, unsigned c) {
    bool apart = is_chinese(c);
    if (apart) {
        sp_str_putc(out, ' ');
    }
    sp_str_put_utf8(out, c);
    if (apart) {
        sp_str_putc(out, ' ');
    }
}

static void put_without_nonspacing(sp_str *out, unsigned c) {
    if (!sp_char_is_nonspacing(c)) {
        sp_str_put_utf8(out, c);
    }
}

static spar_status read_bert(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_decomposing(step, value, arena, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "clean_text", true, &step->clean, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "handle_chinese_chars", true, &step->chinese, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "lowercase", true, &step->lower, where, err));
    step->accents = step->lower; /* null: as lowercase says */
    if (!json_is_null(json_object_get(value, "strip_accents"))) {
        SPAR_TRY(
            sp_json_get_bool_or(value, "strip_accents", step->lower, &step->accents, where, err));
    }
done:
    return status;
}

static spar_status bert(const sp_step *step, sp_str *text, sp_rewrites *rewrites, spar_error *err) {
    spar_status status = SPAR_OK;
    if (step->clean) {
        SPAR_TRY(map_characters(text, put_clean, rewrites, err));
    }
    if (step->chinese) {
        SPAR_TRY(map_characters(text, put_chinese_apart, rewrites, err));
    }
    if (step->accents) {
        SPAR_TRY(nfd(step, text, rewrites, err));
        SPAR_TRY(map_characters(text, put_without_nonspacing, rewrites, err));
    }
    if (step->lower) {
        SPAR_TRY(map_characters(text, put_lowercase, rewrites, err));
    }
done:
    return status;
}

const sp_step_type sp_normalizer_types[] = {
    {.name = "NFC", .stage = SP_NORMALIZER, .read = read_nfc, .normalize = nfc},
    {.name = "NFD", .stage = SP_NORMALIZER, .read = read_decomposing, .normalize = nfd},
    {.name = "NFKC", .stage = SP_NORMALIZER, .read = read_decomposing, .normalize = nfkc},
    {.name = "NFKD", .stage = SP_NORMALIZER, .read = read_decomposing, .normalize = nfkd},
    {.name = "Lowercase", .stage = SP_NORMALIZER, .normalize = lowercase},
    {.name = "StripAccents", .stage = SP_NORMALIZER, .normalize = strip_accents},
    {.name = "ByteLevel", .stage = SP_NORMALIZER, .normalize = byte_level},
    {.name = "Prepend", .stage = SP_NORMALIZER, .read = read_prepend, .normalize = prepend},
    {.name = "Replace", .stage = SP_NORMALIZER, .read = read_replace, .normalize = replace},
    {.name = "Strip", .stage = SP_NORMALIZER, .read = read_strip, .normalize = strip},
    {.name = "Precompiled",
     .stage = SP_NORMALIZER,
     .read = read_precompiled,
     .normalize = precompiled},
    {.name = "Nmt", .stage = SP_NORMALIZER, .normalize = nmt},
    {.name = "BertNormalizer", .stage = SP_NORMALIZER, .read = read_bert, .normalize = bert},
    {.name = NULL}};
