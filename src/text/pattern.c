#include "text/pattern.h"

#include <string.h>

#include "text/pattern_syntax.h"

/* The reference compiles with ^ and $ matching at every line, and knows one newline. */
static pcre2_code *compile(const char *pattern, int *code, PCRE2_SIZE *offset) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        *code = PCRE2_ERROR_NOMEMORY;
        *offset = 0;
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *regex =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, code, offset, context);
    pcre2_compile_context_free(context);
    return regex;
}

spar_status sp_pattern_compile_regex(pcre2_code **out, const char *pattern, const char *where,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    int code;
    PCRE2_SIZE offset;
    SPAR_TRY(sp_pattern_translate(pattern, where, &text, err));
    *out = compile(sp_str_get(&text), &code, &offset);
    if (!*out) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof message);
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: pattern %.200s: %s", where, pattern,
                           (const char *)message));
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without JIT the interpreter serves */
done:
    sp_str_release(&text);
    return status;
}

spar_status sp_pattern_compile(sp_step *step, const char *pattern, const char *where,
                               spar_error *err) {
    spar_status status = sp_program_compile(&step->program, pattern, err);
    return status != SPAR_OK || step->program
               ? status
               : sp_pattern_compile_regex(&step->regex, pattern, where, err);
}

/* A pattern may try every character of a long run in vain before the alternative that takes it, so
 * the work allowed grows with the text. */
static uint32_t match_limit(size_t n) {
    const uint64_t limit = 10000000 + 64 * (uint64_t)n;
    return limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
}

spar_status sp_matcher_init(sp_matcher *m, const sp_step *step, const char *text, size_t n,
                            spar_error *err) {
    *m = (sp_matcher){.step = step, .text = text, .n = n, .last_end = SIZE_MAX};
    if (step->regex) {
        m->data = pcre2_match_data_create(1, NULL); /* groups are not asked for */
        m->context = pcre2_match_context_create(NULL);
        if (!m->data || !m->context) {
            sp_matcher_release(m);
            return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a pattern match");
        }
        pcre2_set_match_limit(m->context, match_limit(n));
    }
    return SPAR_OK;
}

void sp_matcher_release(sp_matcher *m) {
    pcre2_match_data_free(m->data);
    m->data = NULL;
    pcre2_match_context_free(m->context);
    m->context = NULL;
    pcre2_jit_stack_free(m->stack);
    m->stack = NULL;
}

/* A group that repeats takes stack for each turn, and what a match has at first is little. */
static spar_status widen_stack(sp_matcher *m, spar_error *err) {
    m->stack = pcre2_jit_stack_create(32 << 10, 64 << 20, NULL);
    if (!m->stack) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a pattern match");
    }
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return SPAR_OK;
}

static bool next_string(sp_matcher *m, size_t *begin, size_t *end) {
    size_t length = strlen(m->step->text);
    if (length == 0 || m->at >= m->n) {
        return false;
    }
    const char *at = memmem(m->text + m->at, m->n - m->at, m->step->text, length);
    if (!at) {
        return false;
    }
    *begin = (size_t)(at - m->text);
    *end = *begin + length;
    return true;
}

static void skip_character(sp_matcher *m) {
    m->at++;
    while (m->at < m->n && ((unsigned char)m->text[m->at] & 0xC0U) == 0x80U) {
        m->at++;
    }
}

spar_status sp_matcher_next(sp_matcher *m, size_t *begin, size_t *end, bool *found,
                            spar_error *err) {
    *found = false;
    if (m->step->program) {
        spar_status status =
            sp_program_find(m->step->program, m->text, m->n, m->at, begin, end, found, err);
        m->at = *found ? *end : m->n;
        return status;
    }
    if (!m->data) {
        *found = next_string(m, begin, end);
        m->at = *found ? *end : m->n;
        return SPAR_OK;
    }
    while (m->at <= m->n) {
        int rc = pcre2_match(m->step->regex, (PCRE2_SPTR)m->text, m->n, m->at, PCRE2_NO_UTF_CHECK,
                             m->data, m->context);
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
            spar_status status = widen_stack(m, err);
            if (status != SPAR_OK) {
                return status;
            }
            continue;
        }
        if (rc < 0) {
            return spar_fail(err, SPAR_LIMIT, "pattern %.200s: matching failed (PCRE2 error %d)",
                             m->step->text, rc);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
        if (span[0] == span[1] && span[1] == m->last_end) {
            skip_character(m);
            continue;
        }
        *begin = span[0];
        *end = span[1];
        m->at = m->last_end = span[1];
        *found = true;
        return SPAR_OK;
    }
    m->at = m->n + 1;
    return SPAR_OK;
}
