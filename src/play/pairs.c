#include "play/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void sp_groups_release(sp_groups *groups) {
    free(groups->items);
    free(groups->members);
    memset(groups, 0, sizeof *groups);
}

typedef struct pairing {
    sp_run *run;
    int64_t stage;
    const sp_arm *arm;
    const sp_problems *problems;
    const sp_samples *samples;
    const sp_judged *judged;
    sp_groups *out;
    bool store;
} pairing;

enum { REAL = -1 };

static const int32_t *ids_of(const pairing *p, size_t problem, int64_t sample, size_t *n) {
    if (sample == REAL) {
        *n = p->problems->items[problem].n_reference;
        return p->problems->items[problem].reference_ids;
    }
    *n = p->samples->items[sample].n;
    return p->samples->items[sample].ids;
}

static bool is_truncated(const pairing *p, int64_t sample) {
    return sample != REAL && p->samples->items[sample].truncated;
}

/* Why responses cannot be trained on; NULL: they can. */
static const char *fault_of(const pairing *p, size_t problem, const sp_member *members, size_t n) {
    const size_t prompt = p->problems->items[problem].n_prompt;
    for (size_t i = 0; i < n; i++) {
        size_t tokens;
        ids_of(p, problem, members[i].sample, &tokens);
        if (tokens == 0) {
            return "empty";
        }
        if ((int64_t)(prompt + tokens) > p->arm->max_tokens) {
            return "over length";
        }
    }
    return NULL;
}

static const char *fault_of_pair(const pairing *p, size_t problem, const sp_member *pair) {
    size_t n_w, n_l;
    const int32_t *w = ids_of(p, problem, pair[0].sample, &n_w);
    const int32_t *l = ids_of(p, problem, pair[1].sample, &n_l);
    if (n_w == n_l && memcmp(w, l, n_w * sizeof *w) == 0) {
        return "identical";
    }
    return fault_of(p, problem, pair, 2);
}

static spar_status store(const pairing *p, size_t problem, int64_t chosen, int64_t rejected,
                         bool kept, const char *reason, spar_error *err) {
    const sp_rundb_pair row = {.stage = p->stage,
                               .prompt = p->problems->items[problem].id,
                               .chosen = chosen == REAL ? 0 : p->samples->items[chosen].id,
                               .rejected = p->samples->items[rejected].id,
                               .kept = kept,
                               .reason = reason};
    return p->store ? sp_rundb_put_pair(p->run->db, &row, NULL, err) : SPAR_OK;
}

static spar_status keep(pairing *p, size_t problem, const sp_member *members, size_t n,
                        spar_error *err) {
    spar_status status = SPAR_OK;
    sp_groups *out = p->out;
    void *memory = out->items;
    SPAR_TRY(sp_mem_grow(&memory, &out->capacity, out->n + 1, sizeof *out->items, err));
    out->items = memory;
    memory = out->members;
    SPAR_TRY(sp_mem_grow(&memory, &out->member_capacity, out->n_members + n, sizeof *members, err));
    out->members = memory;
    memcpy(out->members + out->n_members, members, n * sizeof *members);
    out->items[out->n++] = (sp_group){problem, out->n_members, n};
    out->n_members += n;
done:
    return status;
}

/* A pair with the reason to drop it; NULL: none is known yet. */
static spar_status put_pair(pairing *p, size_t problem, const sp_member *pair, const char *drop,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    drop = drop ? drop : fault_of_pair(p, problem, pair);
    const char *reason = drop                              ? drop
                         : is_truncated(p, pair[1].sample) ? "kept, rejected is truncated"
                                                           : "kept";
    SPAR_TRY(store(p, problem, pair[0].sample, pair[1].sample, drop == NULL, reason, err));
    if (!drop) {
        SPAR_TRY(keep(p, problem, pair, 2, err));
    }
done:
    return status;
}

static sp_member member_of(const pairing *p, size_t sample) {
    return (sp_member){(int64_t)sample, p->judged->win[sample], p->judged->scores[sample]};
}

/* The samples of one problem: [begin, end). The real response beats each. */
static spar_status pair_real(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = begin; i < end; i++) {
        const double reward = p->judged->scores ? p->judged->scores[i] : 0;
        const sp_member pair[2] = {{REAL, 1, 1}, {(int64_t)i, 0, reward}};
        SPAR_TRY(put_pair(p, p->samples->items[i].problem, pair, NULL, err));
    }
done:
    return status;
}

/* The n-th right response against the n-th wrong one. A right one that was cut off is not chosen.
 */
static spar_status pair_verified(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_play_sample *s = p->samples->items;
    const size_t problem = s[begin].problem;
    size_t right = begin;
    size_t wrong = begin;
    int64_t made = 0;
    for (;;) {
        while (right < end && (!s[right].strict || s[right].truncated)) {
            right++;
        }
        while (wrong < end && s[wrong].strict) {
            wrong++;
        }
        if (right == end || wrong == end || made == p->arm->pairs_per_prompt) {
            break;
        }
        const sp_member pair[2] = {member_of(p, right++), member_of(p, wrong++)};
        SPAR_TRY(put_pair(p, problem, pair, NULL, err));
        made++;
    }
    if (made == 0) {
        const sp_member pair[2] = {member_of(p, begin), member_of(p, end - 1)};
        SPAR_TRY(
            put_pair(p, problem, pair, right == end ? "tie: none right" : "tie: none wrong", err));
    }
done:
    return status;
}

/* The best of [begin, end) by win rate that is not taken yet and not cut off (sign 1), or the worst
 * of all (sign -1); end where there is none. The first of equals. */
static size_t extreme(const pairing *p, size_t begin, size_t end, double sign, const bool *taken) {
    size_t found = end;
    for (size_t i = begin; i < end; i++) {
        const bool fit = !taken[i - begin] && (sign < 0 || !p->samples->items[i].truncated);
        if (fit && (found == end || sign * p->judged->win[i] > sign * p->judged->win[found])) {
            found = i;
        }
    }
    return found;
}

/* Why the n-th best and the n-th worst are no pair; NULL: they are. */
static const char *fault_of_judged(const pairing *p, size_t end, size_t best, size_t worst) {
    const double *win = p->judged->win;
    return best == end                                   ? "truncated"
           : worst == end || !(win[best] > win[worst])   ? "tie"
           : win[best] - win[worst] < p->arm->min_margin ? "margin too short"
                                                         : NULL;
}

/* The n-th best against the n-th worst by win rate, as long as they differ enough. */
static spar_status pair_judged(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t problem = p->samples->items[begin].problem;
    void *memory;
    bool *taken = NULL;
    const char *why = NULL;
    int64_t made = 0;
    SPAR_TRY(sp_mem_calloc(&memory, end - begin + 1, sizeof *taken, err));
    taken = memory;
    while (!why && made < p->arm->pairs_per_prompt) {
        const size_t best = extreme(p, begin, end, 1, taken);
        taken[best - begin] = true;
        const size_t worst = extreme(p, begin, end, -1, taken);
        why = fault_of_judged(p, end, best, worst);
        if (!why) {
            const sp_member pair[2] = {member_of(p, best), member_of(p, worst)};
            taken[worst - begin] = true;
            SPAR_TRY(put_pair(p, problem, pair, NULL, err));
            made++;
        }
    }
    if (made == 0) {
        const sp_member pair[2] = {member_of(p, begin), member_of(p, end - 1)};
        SPAR_TRY(put_pair(p, problem, pair, why, err));
    }
done:
    free(taken);
    return status;
}

static bool all_truncated(const pairing *p, size_t begin, size_t end) {
    bool all = true;
    for (size_t i = begin; i < end; i++) {
        all = all && p->samples->items[i].truncated;
    }
    return all;
}

/* The two that the scores of steps tell apart most, at the first step in which they differ: what
 * they share before it cancels in the margin. */
static spar_status pair_steps(pairing *p, size_t begin, size_t end, spar_error *err) {
    const size_t problem = p->samples->items[begin].problem;
    const sp_fork *fork = &p->judged->forks[begin / p->samples->k];
    if (!(fork->margin > 0) || fork->margin < p->arm->min_margin) {
        const sp_member pair[2] = {member_of(p, begin), member_of(p, end - 1)};
        return put_pair(p, problem, pair,
                        fork->margin > 0               ? "margin too short"
                        : all_truncated(p, begin, end) ? "truncated"
                                                       : "no step apart",
                        err);
    }
    const sp_member pair[2] = {member_of(p, begin + fork->better),
                               member_of(p, begin + fork->worse)};
    return put_pair(p, problem, pair, NULL, err);
}

/* By win rate, falling; equals as they were sampled. */
static int compare_members(const void *a, const void *b) {
    const sp_member *x = a, *y = b;
    if (x->win_rate != y->win_rate) {
        return x->win_rate > y->win_rate ? -1 : 1;
    }
    return x->sample < y->sample ? -1 : x->sample > y->sample;
}

/* All samples together. Where all are alike nothing can be learned from comparing them. */
static spar_status group_all(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = end - begin, problem = p->samples->items[begin].problem;
    sp_member *members = NULL;
    void *memory;
    char kept[32];
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *members, err));
    members = memory;
    for (size_t i = 0; i < n; i++) {
        members[i] = member_of(p, begin + i);
    }
    qsort(members, n, sizeof *members, compare_members);
    const char *drop =
        members[0].win_rate == members[n - 1].win_rate ? "tie" : fault_of(p, problem, members, n);
    snprintf(kept, sizeof kept, "kept, all %zu", n);
    SPAR_TRY(store(p, problem, members[0].sample, members[n - 1].sample, drop == NULL,
                   drop ? drop : kept, err));
    if (!drop) {
        SPAR_TRY(keep(p, problem, members, n, err));
    }
done:
    free(members);
    return status;
}

/* Each sample by itself: good where it is right, or by a judge where it wins more than it loses. */
static spar_status take_singles(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool by_judge = p->run->recipe.judge.train != NULL;
    for (size_t i = begin; i < end; i++) {
        sp_member member = member_of(p, i);
        const size_t problem = p->samples->items[i].problem;
        const double goodness = by_judge ? member.win_rate : member.reward;
        const char *drop = by_judge && goodness == 0.5 ? "tie" : fault_of(p, problem, &member, 1);
        member.reward = goodness > 0.5;
        const char *kept = member.reward > 0 ? "kept, good alone" : "kept, bad alone";
        SPAR_TRY(store(p, problem, REAL, (int64_t)i, drop == NULL, drop ? drop : kept, err));
        if (!drop) {
            SPAR_TRY(keep(p, problem, &member, 1, err));
        }
    }
done:
    return status;
}

/* SFT on the model's own answers: each that is right and complete. */
static spar_status take_right(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = begin; i < end; i++) {
        const sp_member member = member_of(p, i);
        const sp_play_sample *s = &p->samples->items[i];
        const char *drop = !s->strict     ? "wrong"
                           : s->truncated ? "truncated"
                                          : fault_of(p, s->problem, &member, 1);
        SPAR_TRY(store(p, s->problem, REAL, (int64_t)i, drop == NULL,
                       drop ? drop : "kept, right alone", err));
        if (!drop) {
            SPAR_TRY(keep(p, s->problem, &member, 1, err));
        }
    }
done:
    return status;
}

/* SFT on the real responses: the samples measure only. */
static spar_status take_real(pairing *p, size_t begin, size_t end, spar_error *err) {
    const size_t problem = p->samples->items[begin].problem;
    const sp_member member = {REAL, 1, 1};
    (void)end;
    return fault_of(p, problem, &member, 1) ? SPAR_OK : keep(p, problem, &member, 1, err);
}

typedef spar_status (*group_fn)(pairing *p, size_t begin, size_t end, spar_error *err);
static const group_fn group[] = {[SP_PAIR_REAL] = pair_real,     [SP_PAIR_VERIFIED] = pair_verified,
                                 [SP_PAIR_JUDGED] = pair_judged, [SP_PAIR_ALL] = group_all,
                                 [SP_PAIR_STEPS] = pair_steps,   [SP_PAIR_SINGLE] = take_singles};

static const group_fn supervised_group[] = {
    [SP_PAIR_REAL] = take_real, [SP_PAIR_VERIFIED] = take_right};

static spar_status group_samples(pairing *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_samples *s = p->samples;
    const bool supervised = p->arm->objective.kind == SP_OBJECTIVE_SFT;
    const group_fn make = (supervised ? supervised_group : group)[p->arm->pairing];
    for (size_t begin = 0; begin < s->n; begin += s->k) {
        SPAR_TRY(make(p, begin, begin + s->k, err));
    }
done:
    return status;
}

spar_status sp_groups_make(sp_run *run, int64_t stage, const sp_arm *arm,
                           const sp_problems *problems, const sp_samples *samples,
                           const sp_judged *judged, sp_groups *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    pairing p = {.run = run,
                 .stage = stage,
                 .arm = arm,
                 .problems = problems,
                 .samples = samples,
                 .judged = judged,
                 .out = out};
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_run_phase_done(run, stage, "pair", &done, err));
    p.store = !done;
    if (p.store) {
        SPAR_TRY(sp_rundb_begin(run->db, err));
    }
    SPAR_TRY(group_samples(&p, err));
    if (p.store) {
        SPAR_TRY(sp_rundb_put_phase(run->db, stage, "pair", 1, 1, err));
        SPAR_TRY(sp_rundb_commit(run->db, err));
    }
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
        sp_groups_release(out);
    }
    return status;
}
