#include "play/lessons.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "train/game.h"

spar_status sp_lessons_init(sp_lessons *out, size_t examples, size_t replies, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_mem_calloc(&memory, examples, sizeof *out->examples, err));
    out->examples = memory;
    out->capacity = examples;
    SPAR_TRY(sp_mem_calloc(&memory, replies, sizeof *out->replies, err));
    out->replies = memory;
    out->reply_capacity = replies;
done:
    if (status != SPAR_OK) {
        sp_lessons_release(out);
    }
    return status;
}

void sp_lessons_release(sp_lessons *l) {
    free(l->examples);
    free(l->replies);
    free(l->tokens[0]);
    free(l->tokens[1]);
    memset(l, 0, sizeof *l);
}

void sp_lessons_add(sp_lessons *l, const int32_t *prompt, size_t n_prompt) {
    assert(l->n < l->capacity);
    l->examples[l->n++] =
        (sp_example){.prompt = prompt, .n_prompt = n_prompt, .replies = l->replies + l->n_replies};
}

void sp_lessons_reply(sp_lessons *l, const sp_reply *reply) {
    assert(l->n > 0 && l->n_replies < l->reply_capacity);
    l->replies[l->n_replies++] = *reply;
    l->examples[l->n - 1].n_replies++;
}

static bool same_prompt(const sp_example *a, const sp_example *b) {
    return a->n_prompt == b->n_prompt &&
           memcmp(a->prompt, b->prompt, a->n_prompt * sizeof *a->prompt) == 0;
}

/* Examples stand with a gap of one reply between them: each second one is free. */
static void spread(sp_lessons *l) {
    assert(l->n_replies == l->n && l->reply_capacity >= 2 * l->n);
    for (size_t i = l->n; i-- > 0;) {
        l->replies[2 * i] = l->replies[i];
        l->examples[i].replies = &l->replies[2 * i];
        l->examples[i].n_replies = 2;
    }
    l->n_replies = 2 * l->n;
}

spar_status sp_lessons_mismatch(sp_lessons *l, int64_t longest, spar_error *err) {
    size_t next = 0; /* the example last found; runs of one prompt share it */
    spread(l);
    for (size_t i = 0; i < l->n; i++) {
        sp_example *e = &l->examples[i];
        size_t step = next > i ? next - i : 1;
        while (step < l->n && same_prompt(e, &l->examples[(i + step) % l->n])) {
            step++;
        }
        if (step >= l->n) {
            return spar_fail(err, SPAR_INVALID,
                             "expected rows of two prompts at least, found one prompt");
        }
        next = i + step;
        const sp_reply *other = &l->examples[next % l->n].replies[0];
        const size_t room = (size_t)longest - e->n_prompt;
        e->replies[1] = (sp_reply){.ids = other->ids, .n = other->n < room ? other->n : room};
    }
    return SPAR_OK;
}

size_t sp_lessons_tokens(const sp_lessons *l) {
    size_t tokens = 0;
    for (size_t k = 0; k < l->n_replies; k++) {
        tokens += l->replies[k].n;
    }
    return tokens;
}

static void set_scores(sp_lessons *l, sp_lessons_model which, const double *sums,
                       const float *tokens) {
    for (size_t k = 0; k < l->n_replies; k++) {
        sp_reply *reply = &l->replies[k];
        *(which == SP_LESSONS_ANCHOR ? &reply->anchor : &reply->opponent) = sums[k];
        *(which == SP_LESSONS_ANCHOR ? &reply->anchor_tokens : &reply->opponent_tokens) = tokens;
        tokens = tokens ? tokens + reply->n : NULL;
    }
}

static void add_gap(sp_logp_gap *into, const sp_logp_gap *part) {
    into->sum += part->sum;
    into->max = part->max > into->max ? part->max : into->max;
    into->n += part->n;
}

spar_status sp_lessons_score(sp_lessons *l, sp_trainer *trainer, sp_lessons_model which,
                             const sp_objective *objective, sp_logp_gap *gap, sp_lessons_step step,
                             void *context, spar_error *err) {
    enum { BATCH = 64 };
    spar_status status = SPAR_OK;
    double *sums = NULL;
    float *tokens = NULL;
    void *memory;
    size_t reply = 0, token = 0;
    memset(gap, 0, sizeof *gap);
    SPAR_TRY(sp_mem_calloc(&memory, l->n_replies, sizeof *sums, err));
    sums = memory;
    if (objective->kind == SP_OBJECTIVE_TOKENS) {
        SPAR_TRY(sp_mem_calloc(&memory, sp_lessons_tokens(l), sizeof *tokens, err));
        free(l->tokens[which]);
        tokens = l->tokens[which] = memory;
    }
    for (size_t at = 0; at < l->n; at += BATCH) {
        sp_logp_gap part;
        const size_t n = l->n - at < BATCH ? l->n - at : BATCH;
        SPAR_TRY(sp_trainer_score(trainer, l->examples + at, n, sums + reply,
                                  tokens ? tokens + token : NULL, &part, err));
        add_gap(gap, &part);
        for (size_t i = at; i < at + n; i++) {
            for (size_t k = 0; k < l->examples[i].n_replies; k++) {
                token += l->examples[i].replies[k].n;
                reply++;
            }
        }
        if (step) {
            step(context, at + n, l->n);
        }
    }
    set_scores(l, which, sums, tokens);
done:
    free(sums);
    return status;
}

bool sp_lessons_all_kept(const sp_lessons *l) {
    bool kept = true;
    for (size_t k = 0; k < l->n_replies; k++) {
        kept = kept && l->replies[k].kept;
    }
    return kept;
}

void sp_lessons_give(sp_reply *reply, sp_lessons_model which, const float *tokens) {
    double sum = 0;
    for (size_t i = 0; i < reply->n; i++) {
        sum += (double)tokens[i];
    }
    *(which == SP_LESSONS_ANCHOR ? &reply->anchor : &reply->opponent) = sum;
    *(which == SP_LESSONS_ANCHOR ? &reply->anchor_tokens : &reply->opponent_tokens) = tokens;
}

void sp_lessons_take_kept(sp_lessons *l) {
    for (size_t k = 0; k < l->n_replies; k++) {
        if (l->replies[k].kept) {
            sp_lessons_give(&l->replies[k], SP_LESSONS_OPPONENT, l->replies[k].kept);
        }
    }
}

spar_status sp_lessons_against_mixture(sp_example *e, const double *p, const size_t *order,
                                       double m, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = e->n_replies;
    double *shares = NULL, top = -HUGE_VAL, total = 0;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, 2 * k, sizeof *shares, err));
    shares = memory;
    double *wins = shares + k;
    for (size_t j = 0; j < k; j++) {
        top = fmax(top, m * (e->replies[j].anchor - e->replies[j].opponent));
    }
    for (size_t j = 0; j < k; j++) {
        const double w = exp(m * (e->replies[j].anchor - e->replies[j].opponent) - top);
        shares[order ? order[j] : j] = w;
        total += w;
    }
    sp_game_wins(p, (int)k, shares, wins);
    for (size_t j = 0; j < k; j++) {
        e->replies[j].win_rate = wins[order ? order[j] : j] / total;
    }
done:
    free(shares);
    return status;
}

void sp_lessons_same_anchor(sp_lessons *l) {
    for (size_t k = 0; k < l->n_replies; k++) {
        l->replies[k].anchor = l->replies[k].opponent;
        l->replies[k].anchor_tokens = l->replies[k].opponent_tokens;
    }
}

size_t sp_lessons_largest(const sp_lessons *l, const sp_objective *objective) {
    const bool apart = sp_objective_separates(objective);
    size_t largest = 0;
    for (size_t i = 0; i < l->n; i++) {
        const sp_example *e = &l->examples[i];
        size_t rows = 0;
        for (size_t k = 0; k < e->n_replies; k++) {
            const size_t n = e->replies[k].n;
            rows = !apart ? rows + n : n > rows ? n : rows;
        }
        rows += e->n_prompt;
        largest = rows > largest ? rows : largest;
    }
    return largest;
}
