/* Pre-tokenizers. */
#include <string.h>

#include "base/jsonx.h"
#include "text/characters.h"
#include "text/pattern.h"
#include "text/step_types.h"

/* GPT-2's word pattern (Radford et al. 2019), as the ByteLevel step uses it. */
static const char gpt2_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Punctuation of Unicode, and what ASCII has besides: the inside of a class. */
#define PUNCTUATION "\\p{P}!-/:-@\\[-`{-~"

/* A run of text that did or did not match. */
typedef struct run {
    size_t begin, end;
    bool match;
} run;

typedef struct splitter {
    const sp_piece *piece;
    sp_pieces *out;
    sp_behavior behavior;
    size_t begin;   /* of the piece being built */
    bool open;      /* a piece is being built */
    bool was_match; /* the run before */
} splitter;

static spar_status emit(splitter *s, size_t begin, size_t end, spar_error *err) {
    if (end <= begin) {
        return SPAR_OK;
    }
    return sp_pieces_add(s->out, sp_str_get(&s->piece->text) + begin, end - begin,
                         s->piece->first && begin == 0, err);
}

/* How runs become pieces: the behaviours of the reference's split. */
static spar_status take_run(splitter *s, run r, spar_error *err) {
    spar_status status = SPAR_OK;
    switch (s->behavior) {
    case SP_REMOVED:
        if (!r.match) {
            SPAR_TRY(emit(s, r.begin, r.end, err));
        }
        break;
    case SP_ISOLATED:
        SPAR_TRY(emit(s, r.begin, r.end, err));
        break;
    case SP_CONTIGUOUS:
        if (s->open && s->was_match != r.match) {
            SPAR_TRY(emit(s, s->begin, r.begin, err));
            s->begin = r.begin;
        }
        break;
    case SP_MERGED_WITH_PREVIOUS: /* a match joins the run before it, unless that was a match */
        if (s->open && (!r.match || s->was_match)) {
            SPAR_TRY(emit(s, s->begin, r.begin, err));
            s->begin = r.begin;
        }
        break;
    case SP_MERGED_WITH_NEXT: /* a match begins a piece that the next run, not a match, joins */
        if (s->open && (r.match || !s->was_match)) {
            SPAR_TRY(emit(s, s->begin, r.begin, err));
            s->begin = r.begin;
        }
        break;
    }
    if (!s->open) {
        s->begin = r.begin;
        s->open = true;
    }
    s->was_match = r.match;
done:
    return status;
}

static spar_status split_by(const sp_step *step, const sp_piece *piece, sp_pieces *out,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    splitter s = {.piece = piece, .out = out, .behavior = step->behavior};
    sp_matcher m = {0};
    size_t last = 0;
    size_t begin, end;
    size_t n = piece->text.len;
    bool found;
    SPAR_TRY(sp_matcher_init(&m, step, sp_str_get(&piece->text), n, err));
    for (;;) {
        SPAR_TRY(sp_matcher_next(&m, &begin, &end, &found, err));
        if (!found) {
            break;
        }
        if (begin > last) {
            SPAR_TRY(take_run(&s, (run){last, begin, step->invert}, err));
        }
        SPAR_TRY(take_run(&s, (run){begin, end, !step->invert}, err));
        last = end;
    }
    if (last < n) {
        SPAR_TRY(take_run(&s, (run){last, n, step->invert}, err));
    }
    if (s.open && step->behavior != SP_REMOVED && step->behavior != SP_ISOLATED) {
        SPAR_TRY(emit(&s, s.begin, n, err));
    }
done:
    sp_matcher_release(&m);
    return status;
}

static spar_status read_behavior(sp_step *step, const json_t *value, const char *where,
                                 spar_error *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name;
    spar_status status = sp_json_get_string(value, "behavior", &name, where, err);
    for (int i = 0; status == SPAR_OK && i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            step->behavior = (sp_behavior)i;
            return SPAR_OK;
        }
    }
    return status != SPAR_OK ? status
                             : spar_fail(err, SPAR_UNSUPPORTED,
                                         "%s: behavior: expected Removed, Isolated, "
                                         "MergedWithPrevious, MergedWithNext or "
                                         "Contiguous, found %s",
                                         where, name);
}

static spar_status read_split(sp_step *step, const json_t *value, sp_arena *arena,
                              const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_pattern(step, value, arena, where, err));
    SPAR_TRY(read_behavior(step, value, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "invert", false, &step->invert, where, err));
done:
    return status;
}

static spar_status fixed_pattern(sp_step *step, const char *pattern, sp_behavior behavior,
                                 const char *where, spar_error *err) {
    step->text = pattern;
    step->behavior = behavior;
    return sp_pattern_compile(&step->regex, pattern, where, err);
}

static spar_status read_byte_level(sp_step *step, const json_t *value, sp_arena *arena,
                                   const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    (void)arena;
    SPAR_TRY(sp_json_get_bool_or(value, "add_prefix_space", true, &step->prefix_space, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "use_regex", true, &step->use_regex, where, err));
    SPAR_TRY(fixed_pattern(step, gpt2_words, SP_ISOLATED, where, err));
done:
    return status;
}

static spar_status split_byte_level(const sp_step *step, const sp_piece *piece, sp_pieces *out,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    sp_piece prefixed = {SP_STR_INIT, piece->first};
    size_t begin = out->n;
    if (step->prefix_space && sp_str_get(&piece->text)[0] != ' ') {
        sp_str_putc(&prefixed.text, ' ');
    }
    sp_str_append(&prefixed.text, sp_str_get(&piece->text), piece->text.len);
    SPAR_TRY(sp_str_status(&prefixed.text, err));
    if (step->use_regex) {
        SPAR_TRY(split_by(step, &prefixed, out, err));
    } else {
        SPAR_TRY(
            sp_pieces_add(out, sp_str_get(&prefixed.text), prefixed.text.len, piece->first, err));
    }
    for (size_t i = begin; i < out->n; i++) {
        SPAR_TRY(sp_bytes_to_alphabet(&out->items[i].text, err));
    }
done:
    sp_str_release(&prefixed.text);
    return status;
}

static spar_status read_digits(sp_step *step, const json_t *value, sp_arena *arena,
                               const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    bool individual;
    (void)arena;
    SPAR_TRY(sp_json_get_bool_or(value, "individual_digits", false, &individual, where, err));
    SPAR_TRY(fixed_pattern(step, individual ? "\\p{N}" : "\\p{N}+", SP_ISOLATED, where, err));
done:
    return status;
}

static spar_status read_punctuation(sp_step *step, const json_t *value, sp_arena *arena,
                                    const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    (void)arena;
    SPAR_TRY(fixed_pattern(step, "[" PUNCTUATION "]", SP_ISOLATED, where, err));
    if (json_object_get(value, "behavior")) {
        SPAR_TRY(read_behavior(step, value, where, err));
    }
done:
    return status;
}

/* What is not matched is dropped: the pattern names the words. */
static spar_status read_whitespace(sp_step *step, const json_t *value, sp_arena *arena,
                                   const char *where, spar_error *err) {
    (void)value;
    (void)arena;
    step->invert = true;
    return fixed_pattern(step, "[" SP_WORD_CLASS "]+|[^\\s" SP_WORD_CLASS "]+", SP_REMOVED, where,
                         err);
}

static spar_status read_whitespace_split(sp_step *step, const json_t *value, sp_arena *arena,
                                         const char *where, spar_error *err) {
    (void)value;
    (void)arena;
    return fixed_pattern(step, "\\s", SP_REMOVED, where, err);
}

/* Words between white space, and each punctuation character by itself. */
static spar_status read_bert(sp_step *step, const json_t *value, sp_arena *arena, const char *where,
                             spar_error *err) {
    (void)value;
    (void)arena;
    step->invert = true;
    return fixed_pattern(step, "[" PUNCTUATION "]|[^\\s" PUNCTUATION "]+", SP_REMOVED, where, err);
}

/* One character stands between the words. */
static spar_status read_delimiter(sp_step *step, const json_t *value, sp_arena *arena,
                                  const char *where, spar_error *err) {
    step->behavior = SP_REMOVED;
    return sp_step_string(value, "delimiter", NULL, arena, &step->text, where, err);
}

static spar_status read_fixed_length(sp_step *step, const json_t *value, sp_arena *arena,
                                     const char *where, spar_error *err) {
    int64_t length;
    (void)arena;
    spar_status status = sp_json_get_int_or(value, "length", 1, 1 << 20, 5, &length, where, err);
    step->start = (long)length;
    return status;
}

/* Every `start` characters are a word. */
static spar_status split_fixed_length(const sp_step *step, const sp_piece *piece, sp_pieces *out,
                                      spar_error *err) {
    spar_status status = SPAR_OK;
    const char *s = sp_str_get(&piece->text);
    const size_t n = piece->text.len;
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = begin;
        for (long k = 0; k < step->start && end < n; k++) {
            unsigned c;
            end += sp_utf8_decode(s + end, n - end, &c);
        }
        SPAR_TRY(sp_pieces_add(out, s + begin, end - begin, piece->first && begin == 0, err));
    }
done:
    return status;
}

static spar_status read_metaspace(sp_step *step, const json_t *value, sp_arena *arena,
                                  const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *scheme;
    bool prefix;
    SPAR_TRY(sp_step_string(value, "replacement", "\xE2\x96\x81", arena, &step->text, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "add_prefix_space", true, &prefix, where, err));
    SPAR_TRY(sp_json_get_string_or(value, "prepend_scheme", prefix ? "always" : "never", &scheme,
                                   where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "split", true, &step->split, where, err));
    step->behavior = SP_MERGED_WITH_NEXT;
    if (strcmp(scheme, "always") == 0) {
        step->prepend = SP_PREPEND_ALWAYS;
    } else if (strcmp(scheme, "first") == 0) {
        step->prepend = SP_PREPEND_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        step->prepend = SP_PREPEND_NEVER;
    } else {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: prepend_scheme: expected always, first or never, found %s", where,
                           scheme));
    }
done:
    return status;
}

static spar_status split_metaspace(const sp_step *step, const sp_piece *piece, sp_pieces *out,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    sp_piece marked = {SP_STR_INIT, piece->first};
    const char *s = sp_str_get(&piece->text);
    size_t mark = strlen(step->text);
    bool wanted =
        step->prepend == SP_PREPEND_ALWAYS || (step->prepend == SP_PREPEND_FIRST && piece->first);
    bool there = s[0] == ' ' || (piece->text.len >= mark && memcmp(s, step->text, mark) == 0);
    if (wanted && !there) {
        sp_str_puts(&marked.text, step->text);
    }
    for (size_t i = 0; i < piece->text.len; i++) {
        if (s[i] == ' ') {
            sp_str_puts(&marked.text, step->text);
        } else {
            sp_str_putc(&marked.text, s[i]);
        }
    }
    SPAR_TRY(sp_str_status(&marked.text, err));
    if (step->split) {
        SPAR_TRY(split_by(step, &marked, out, err));
    } else {
        SPAR_TRY(sp_pieces_add(out, sp_str_get(&marked.text), marked.text.len, piece->first, err));
    }
done:
    sp_str_release(&marked.text);
    return status;
}

const sp_step_type sp_splitter_types[] = {
    {.name = "ByteLevel",
     .stage = SP_PRE_TOKENIZER,
     .read = read_byte_level,
     .split = split_byte_level},
    {.name = "Split", .stage = SP_PRE_TOKENIZER, .read = read_split, .split = split_by},
    {.name = "Digits", .stage = SP_PRE_TOKENIZER, .read = read_digits, .split = split_by},
    {.name = "Punctuation", .stage = SP_PRE_TOKENIZER, .read = read_punctuation, .split = split_by},
    {.name = "Whitespace", .stage = SP_PRE_TOKENIZER, .read = read_whitespace, .split = split_by},
    {.name = "WhitespaceSplit",
     .stage = SP_PRE_TOKENIZER,
     .read = read_whitespace_split,
     .split = split_by},
    {.name = "Metaspace",
     .stage = SP_PRE_TOKENIZER,
     .read = read_metaspace,
     .split = split_metaspace},
    {.name = "CharDelimiterSplit",
     .stage = SP_PRE_TOKENIZER,
     .read = read_delimiter,
     .split = split_by},
    {.name = "FixedLength",
     .stage = SP_PRE_TOKENIZER,
     .read = read_fixed_length,
     .split = split_fixed_length},
    {.name = "BertPreTokenizer", .stage = SP_PRE_TOKENIZER, .read = read_bert, .split = split_by},
    {.name = NULL}};
