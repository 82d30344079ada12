#include "text/pattern.h"

#include <string.h>

spar_status sp_pattern_compile(pcre2_code **out, const char *pattern, const char *where,
                               spar_error *err) {
    int code;
    PCRE2_SIZE offset;
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                         &offset, NULL);
    if (!*out) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof message);
        return spar_fail(err, SPAR_FORMAT, "%s: pattern %.200s: %s at offset %zu", where, pattern,
                         (const char *)message, offset);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without JIT the interpreter serves */
    return SPAR_OK;
}

spar_status sp_matcher_init(sp_matcher *m, const sp_step *step, const char *text, size_t n,
                            spar_error *err) {
    *m = (sp_matcher){.step = step, .text = text, .n = n};
    if (step->regex) {
        m->data = pcre2_match_data_create_from_pattern(step->regex, NULL);
        if (!m->data) {
            return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a pattern match");
        }
    }
    return SPAR_OK;
}

void sp_matcher_release(sp_matcher *m) {
    pcre2_match_data_free(m->data);
    m->data = NULL;
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

spar_status sp_matcher_next(sp_matcher *m, size_t *begin, size_t *end, bool *found,
                            spar_error *err) {
    *found = false;
    if (!m->data) {
        *found = next_string(m, begin, end);
        m->at = *found ? *end : m->n;
        return SPAR_OK;
    }
    while (m->at < m->n) {
        int rc = pcre2_match(m->step->regex, (PCRE2_SPTR)m->text, m->n, m->at, PCRE2_NO_UTF_CHECK,
                             m->data, NULL);
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc < 0) {
            return spar_fail(err, SPAR_LIMIT, "pattern %.200s: matching failed (PCRE2 error %d)",
                             m->step->text, rc);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
        if (span[1] > span[0]) {
            *begin = span[0];
            *end = span[1];
            m->at = span[1];
            *found = true;
            return SPAR_OK;
        }
        /* an empty match: go on a character further */
        m->at = span[1] + 1;
        while (m->at < m->n && ((unsigned char)m->text[m->at] & 0xC0U) == 0x80U) {
            m->at++;
        }
    }
    m->at = m->n;
    return SPAR_OK;
}
