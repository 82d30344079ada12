/* Reading a verdict out of a reply, with its probability where the reply has log-probs. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "judge/verdict.h"

/* Where the verdict's own letters or digits begin in the reply's text; NULL: nowhere. */
static const char *find_label(const sp_judge_prompt *p, const char *text) {
    const char *found = NULL;
    if (!p->bracketed) {
        text += strspn(text, " \t\r\n\"'");
        return (*text == 'm' || *text == 'M') && !isalnum((unsigned char)text[1]) ? text : NULL;
    }
    for (const char *c = text; (c = strstr(c, "[[")); c += 2) {
        const bool fits = p->pairwise ? c[2] >= 'A' && c[2] < 'A' + p->n_verdicts && c[3] == ']'
                                      : isdigit((unsigned char)c[2]);
        found = fits ? c + 2 : found;
    }
    return found;
}

/* The verdict that a label is the beginning of; n_verdicts: none. */
static int verdict_of(const sp_judge_prompt *p, const char *label) {
    for (int v = 0; v < p->n_verdicts; v++) {
        char text[16];
        sp_judge_prompt_verdict(p, v, text, sizeof text);
        const char *own = text + (p->bracketed ? 2 : 0);
        const size_t n = strcspn(own, "]");
        if (strncmp(label, own, n) == 0 && !isalnum((unsigned char)label[n])) {
            return v;
        }
    }
    return p->n_verdicts;
}

static void add_share(double *logp, double share) {
    *logp = log(exp(*logp) + share);
}

/* The entry of the log-probs whose token covers byte `at` of the text, and where in it. */
static const json_t *token_at(const json_t *choice, size_t at, size_t *inside) {
    size_t i, begin = 0;
    json_t *entry;
    json_array_foreach(json_object_get(json_object_get(choice, "logprobs"), "content"), i, entry) {
        const size_t n = json_string_length(json_object_get(entry, "token"));
        if (at < begin + n) {
            *inside = at - begin;
            return entry;
        }
        begin += n;
    }
    return NULL;
}

/* The alternatives to a token that begin like it up to the label, by their own labels. */
static bool read_logprobs(const sp_judge_prompt *p, const json_t *entry, size_t inside,
                          double *logps) {
    const char *token = json_string_value(json_object_get(entry, "token"));
    bool any = false;
    size_t i;
    json_t *other;
    json_array_foreach(json_object_get(entry, "top_logprobs"), i, other) {
        const char *text = json_string_value(json_object_get(other, "token"));
        const json_t *logp = json_object_get(other, "logprob");
        if (!text || !json_is_number(logp) || strlen(text) <= inside ||
            strncmp(text, token, inside) != 0) {
            continue;
        }
        const int v = verdict_of(p, text + inside);
        if (v < p->n_verdicts) {
            add_share(&logps[v], exp(fmin(json_number_value(logp), 0)));
            any = true;
        }
    }
    return any;
}

/* A rating as written, 7 or 7.5, shared between its whole neighbours. */
static bool read_rating(const sp_judge_prompt *p, const char *label, double *logps) {
    const double value = strtod(label, NULL), below = floor(value);
    if (!(value >= 1 && value <= p->n_verdicts)) {
        return false;
    }
    logps[(int)below - 1] = log(1 - (value - below));
    if (value > below) {
        logps[(int)below] = log(value - below);
    }
    return true;
}

bool sp_judge_read_verdict(const sp_judge_prompt *p, const json_t *choice, double *logps) {
    const char *text =
        json_string_value(json_object_get(json_object_get(choice, "message"), "content"));
    const char *label = text ? find_label(p, text) : NULL;
    size_t inside = 0;
    for (int v = 0; v < p->n_verdicts; v++) {
        logps[v] = -INFINITY;
    }
    if (!label) {
        return false;
    }
    const json_t *entry = token_at(choice, (size_t)(label - text), &inside);
    if (entry && read_logprobs(p, entry, inside, logps)) {
        return true;
    }
    if (!p->pairwise) {
        return read_rating(p, label, logps);
    }
    logps[verdict_of(p, label)] = 0;
    return true;
}
