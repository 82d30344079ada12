/* Pre-tokenizers. */
#include <string.h>

#include "base/jsonx.h"
#include "text/characters.h"
#include "text/pattern.h"
#include "text/step_types.h"
#include "text/unicode_tables.h"

/* GPT-2's word pattern (Radford et al. 2019), as the ByteLevel step uses it. */
static const char gpt2_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* A run of text that did or did not match. */
typedef struct run {
    size_t begin, end;
    bool match;
} run;

typedef struct splitter {
    const sp_span *word;
    sp_words *out;
    sp_behavior behavior;
    size_t begin;   /* of the piece being built */
    bool open;      /* a piece is being built */
    bool was_match; /* the run before */
} splitter;

static spar_status emit(splitter *s, size_t begin, size_t end, spar_error *err) {
    if (end <= begin) {
        return SPAR_OK;
    }
    return sp_words_add(s->out, s->word->begin + begin, end - begin,
                        sp_left_of(s->word->n_first, begin), err);
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

/* The commonest case of split_by, without its machinery: each match and what is between is a word.
 */
static spar_status isolate(const sp_program *program, const char *base, const sp_span *word,
                           sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *text = base + word->begin;
    size_t last = 0;
    for (;;) {
        size_t begin, end;
        bool found;
        SPAR_TRY(sp_program_find(program, text, word->n, last, &begin, &end, &found, err));
        if (!found) {
            break;
        }
        if (begin > last) {
            SPAR_TRY(sp_words_add(out, word->begin + last, begin - last,
                                  sp_left_of(word->n_first, last), err));
        }
        SPAR_TRY(sp_words_add(out, word->begin + begin, end - begin,
                              sp_left_of(word->n_first, begin), err));
        last = end;
    }
    if (last < word->n) {
        SPAR_TRY(sp_words_add(out, word->begin + last, word->n - last,
                              sp_left_of(word->n_first, last), err));
    }
done:
    return status;
}

static spar_status split_by(const sp_step *step, const char *base, const sp_span *word,
                            sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    splitter s = {.word = word, .out = out, .behavior = step->behavior};
    sp_matcher m = {0};
    size_t last = 0;
    size_t begin, end;
    size_t n = word->n;
    bool found;
    if (step->program && step->behavior == SP_ISOLATED) {
        return isolate(step->program, base, word, out, err);
    }
    SPAR_TRY(sp_matcher_init(&m, step, base + word->begin, n, err));
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
    return sp_pattern_compile(step, pattern, where, err);
}

static spar_status read_byte_level(sp_step *step, const json_t *value, sp_arena *arena,
                                   const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    (void)arena;
    SPAR_TRY(sp_json_get_bool_or(value, "add_prefix_space", true, &step->prefix_space, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "use_regex", true, &step->use_regex, where, err));
    SPAR_TRY(fixed_pattern(step, gpt2_words, SP_ISOLATED, where, err));
    step->rewrites = step->prefix_space;
    step->idle = !step->prefix_space && !step->use_regex;
done:
    return status;
}

/* What out->text has had from `to` on belongs to the first character of the word. */
static void note_prefix(const char *base, const sp_span *word, size_t to, sp_words *out) {
    unsigned c;
    if (out->text.len > to) {
        const size_t first = sp_utf8_decode(base + word->begin, word->n, &c);
        sp_edits_add(out->edits, word->begin, first, to, out->text.len - to + first);
    }
}

static spar_status split_byte_level(const sp_step *step, const char *base, const sp_span *word,
                                    sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_span span = *word;
    if (step->prefix_space) {
        span.begin = out->text.len;
        sp_str_puts(&out->text, base[word->begin] == ' ' ? "" : " ");
        span.n_first += span.n_first > 0 ? out->text.len - span.begin : 0;
        note_prefix(base, word, span.begin, out);
        sp_str_append(&out->text, base + word->begin, word->n);
        SPAR_TRY(sp_str_status(&out->text, err));
        span.n = out->text.len - span.begin;
        base = sp_str_get(&out->text);
    }
    SPAR_TRY(step->use_regex ? split_by(step, base, &span, out, err)
                             : sp_words_add(out, span.begin, span.n, span.n_first, err));
done:
    return status;
}

static spar_status read_alphabet(sp_step *step, const json_t *value, sp_arena *arena,
                                 const char *where, spar_error *err) {
    (void)value;
    (void)arena;
    (void)where;
    (void)err;
    step->rewrites = true;
    return SPAR_OK;
}

/* Each byte as its character of the alphabet: the second half of ByteLevel. */
static spar_status split_alphabet(const sp_step *step, const char *base, const sp_span *word,
                                  sp_words *out, spar_error *err) {
    const size_t begin = out->text.len;
    (void)step;
    sp_bytes_to_alphabet(base + word->begin, word->n_first, &out->text);
    const size_t n_first = out->text.len - begin;
    sp_bytes_to_alphabet(base + word->begin + word->n_first, word->n - word->n_first, &out->text);
    sp_alphabet_edits(base + word->begin, word->n, word->begin, begin, out->edits);
    return sp_words_add(out, begin, out->text.len - begin, n_first, err);
}

static const sp_step_type alphabet = {
    .name = "ByteLevel", .stage = SP_PRE_TOKENIZER, .read = read_alphabet, .split = split_alphabet};

bool sp_steps_leave_bytes(const sp_step *steps, size_t *n) {
    const bool last = *n > 0 && steps[*n - 1].type == &alphabet;
    *n -= last;
    return last;
}

bool sp_steps_know_first(const sp_step *steps, size_t n) {
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found = found || steps[i].prepend == SP_PREPEND_FIRST;
    }
    return found;
}

/* Numbers of Unicode 17, whose tables this step has: those of 16 and the digits that are new. */
#define NUMBER "\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}"

static spar_status read_digits(sp_step *step, const json_t *value, sp_arena *arena,
                               const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    bool individual;
    (void)arena;
    SPAR_TRY(sp_json_get_bool_or(value, "individual_digits", false, &individual, where, err));
    SPAR_TRY(fixed_pattern(step, individual ? "[" NUMBER "]" : "[" NUMBER "]+", SP_ISOLATED, where,
                           err));
done:
    return status;
}

/* Compile a pattern in which % stands for the members of the reference's class of punctuation,
 * which is of Unicode 8. */
static spar_status punctuation_pattern(sp_step *step, const char *pattern, const char *where,
                                       spar_error *err) {
    sp_str members = SP_STR_INIT;
    sp_str text = SP_STR_INIT;
    for (size_t i = 0; i < sp_unicode_old_punctuation_n; i += 2) {
        sp_str_printf(&members, "\\x{%X}-\\x{%X}", sp_unicode_old_punctuation[i],
                      sp_unicode_old_punctuation[i + 1]);
    }
    for (const char *at = pattern; *at;) {
        const size_t n = strcspn(at, "%");
        sp_str_append(&text, at, n);
        sp_str_puts(&text, at[n] ? sp_str_get(&members) : "");
        at += n + (at[n] != '\0');
    }
    spar_status status = sp_str_status(&text, err);
    if (status == SPAR_OK) {
        status = sp_pattern_compile(step, sp_str_get(&text), where, err);
    }
    sp_str_release(&members);
    sp_str_release(&text);
    return status;
}

static spar_status read_punctuation(sp_step *step, const json_t *value, sp_arena *arena,
                                    const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    (void)arena;
    step->behavior = SP_ISOLATED;
    SPAR_TRY(punctuation_pattern(step, "[%]", where, err));
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
    step->behavior = SP_REMOVED;
    return punctuation_pattern(step, "[%]|[^\\s%]+", where, err);
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
static spar_status split_fixed_length(const sp_step *step, const char *base, const sp_span *word,
                                      sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t last = word->begin + word->n;
    for (size_t begin = word->begin, end; begin < last; begin = end) {
        end = begin;
        for (long k = 0; k < step->start && end < last; k++) {
            unsigned c;
            end += sp_utf8_decode(base + end, last - end, &c);
        }
        SPAR_TRY(sp_words_add(out, begin, end - begin,
                              sp_left_of(word->n_first, begin - word->begin), err));
    }
done:
    return status;
}

/* A word ends where the script changes; characters of none go on with the word that they are in,
 * and at the beginning, where there is none yet, they are lost, as in the reference. */
static spar_status split_scripts(const sp_step *step, const char *base, const sp_span *word,
                                 sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t last = word->begin + word->n;
    size_t begin = last;
    unsigned before = 0;
    (void)step;
    for (size_t at = word->begin, used; at < last; at += used) {
        unsigned c;
        used = sp_utf8_decode(base + at, last - at, &c);
        const unsigned script = sp_char_script(c);
        if (script == 0 || script == before) {
            continue;
        }
        if (before) {
            SPAR_TRY(sp_words_add(out, begin, at - begin,
                                  sp_left_of(word->n_first, begin - word->begin), err));
        }
        begin = at;
        before = script;
    }
    SPAR_TRY(sp_words_add(out, begin, last - begin, sp_left_of(word->n_first, begin - word->begin),
                          err));
done:
    return status;
}

spar_status sp_step_metaspace(sp_step *step, const json_t *value, sp_arena *arena,
                              const char *where, spar_error *err) {
    static const struct {
        const char *name;
        int prepend;
    } schemes[] = {
        {"always", SP_PREPEND_ALWAYS}, {"first", SP_PREPEND_FIRST}, {"never", SP_PREPEND_NEVER}};
    spar_status status = SPAR_OK;
    const char *name;
    bool prefix;
    size_t i = 0;
    SPAR_TRY(sp_step_string(value, "replacement", "\xE2\x96\x81", arena, &step->text, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "add_prefix_space", true, &prefix, where, err));
    SPAR_TRY(sp_json_get_string_or(value, "prepend_scheme", prefix ? "always" : "never", &name,
                                   where, err));
    while (i < sizeof schemes / sizeof schemes[0] && strcmp(name, schemes[i].name) != 0) {
        i++;
    }
    if (i == sizeof schemes / sizeof schemes[0]) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: prepend_scheme: expected always, first or never, found %s", where,
                           name));
    }
    step->prepend = schemes[i].prepend;
done:
    return status;
}

static spar_status read_metaspace(sp_step *step, const json_t *value, sp_arena *arena,
                                  const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_step_metaspace(step, value, arena, where, err));
    SPAR_TRY(sp_json_get_bool_or(value, "split", true, &step->split, where, err));
    step->behavior = SP_MERGED_WITH_NEXT;
    step->rewrites = true;
done:
    return status;
}

static spar_status split_metaspace(const sp_step *step, const char *base, const sp_span *word,
                                   sp_words *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str *text = &out->text;
    sp_span span = {.begin = text->len, .n_first = word->n_first};
    const char *s = base + word->begin;
    size_t mark = strlen(step->text);
    bool wanted = step->prepend == SP_PREPEND_ALWAYS ||
                  (step->prepend == SP_PREPEND_FIRST && word->n_first > 0);
    bool there = s[0] == ' ' || (word->n >= mark && memcmp(s, step->text, mark) == 0);
    if (wanted && !there) {
        sp_str_append(text, step->text, mark);
        note_prefix(base, word, span.begin, out);
        span.n_first += word->n_first > 0 ? mark : 0;
    }
    for (size_t i = 0; i < word->n_first; i++) {
        span.n_first += s[i] == ' ' ? mark - 1 : 0;
    }
    for (size_t i = 0, next; i < word->n; i = next) {
        const char *space = memchr(s + i, ' ', word->n - i);
        next = space ? (size_t)(space - s) : word->n;
        sp_str_append(text, s + i, next - i);
        if (space) {
            sp_edits_add(out->edits, word->begin + next, 1, text->len, mark);
            sp_str_append(text, step->text, mark);
            next++;
        }
    }
    SPAR_TRY(sp_str_status(text, err));
    span.n = text->len - span.begin;
    SPAR_TRY(step->split ? split_by(step, sp_str_get(text), &span, out, err)
                         : sp_words_add(out, span.begin, span.n, span.n_first, err));
done:
    return status;
}

const sp_step_type sp_splitter_types[] = {
    {.name = "ByteLevel",
     .stage = SP_PRE_TOKENIZER,
     .read = read_byte_level,
     .split = split_byte_level,
     .then = &alphabet},
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
    {.name = "UnicodeScripts", .stage = SP_PRE_TOKENIZER, .split = split_scripts},
    {.name = "BertPreTokenizer", .stage = SP_PRE_TOKENIZER, .read = read_bert, .split = split_by},
    {.name = NULL}};
