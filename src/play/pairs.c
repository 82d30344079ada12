#include "play/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/judged.h"

void sp_samples_release(sp_samples *samples) {
    for (size_t i = 0; i < samples->n; i++) {
        free(samples->items[i].ids);
        free(samples->items[i].logps);
        free(samples->items[i].text);
    }
    free(samples->items);
    memset(samples, 0, sizeof *samples);
}

void sp_pairs_release(sp_pairs *pairs) {
    free(pairs->items);
    memset(pairs, 0, sizeof *pairs);
}

/* ---- sampling ---- */

static bool ask_stop(void *context) {
    return sp_run_stopped(context);
}

static spar_status store_sample(sp_run *run, int64_t stage, const sp_problem *problem, int k,
                                const spar_response *r, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t id;
    sp_rundb_sample row = {.stage = stage,
                           .prompt = problem->id,
                           .index = k,
                           .tokens = r->ids,
                           .logprobs = r->logps,
                           .n_tokens = (int64_t)r->n,
                           .text = r->text ? r->text : "",
                           .finish = spar_finish_name(r->finish),
                           .mode = run->recipe.sampling.temperature > 0 ? "sampled" : "greedy"};
    SPAR_TRY(sp_rundb_put_sample(run->db, &row, &id, err));
    if (problem->task) {
        bool strict, lenient;
        spar_task_check(problem->task, row.text, strlen(row.text), &strict, &lenient);
        sp_rundb_score score = {.sample = id,
                                .name = "verifier",
                                .strict = strict,
                                .lenient = lenient,
                                .value = strict};
        SPAR_TRY(sp_rundb_put_score(run->db, &score, err));
    }
done:
    return status;
}

static spar_status sample_and_store(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    size_t total = problems->n * (size_t)k;
    spar_prompt *prompts = NULL;
    spar_response *responses = NULL;
    spar_sampling sampling = run->recipe.sampling;
    spar_generate_hooks hooks = {.stop = ask_stop, .context = run, .phase = "sample"};
    bool sampled = false;
    void *memory;
    sampling.seed = (int64_t)(sp_rng_stream(run->seed, (uint64_t)stage, 0, 0) >> 2);
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof *prompts, err));
    prompts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, total, sizeof *responses, err));
    responses = memory;
    for (size_t i = 0; i < problems->n; i++) {
        prompts[i] = (spar_prompt){.ids = problems->items[i].prompt_ids,
                                   .n = problems->items[i].n_prompt,
                                   .key = (uint64_t)problems->items[i].id};
    }
    SPAR_TRY(spar_generate(run->model, prompts, problems->n, k, &sampling, &hooks, responses, err));
    sampled = true;
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < total; i++) {
        SPAR_TRY(store_sample(run, stage, &problems->items[i / (size_t)k], (int)(i % (size_t)k),
                              &responses[i], err));
    }
    SPAR_TRY(sp_rundb_put_phase(run->db, stage, "sample", 1, 1, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    if (sampled) {
        spar_responses_free(responses, total);
    }
    free(responses);
    free(prompts);
    return status;
}

typedef struct read_context {
    const sp_problems *problems;
    sp_samples *samples;
    size_t capacity, problem, scored;
} read_context;

static spar_status read_sample(void *context, const sp_rundb_sample *row, spar_error *err) {
    spar_status status = SPAR_OK;
    read_context *c = context;
    void *memory = c->samples->items;
    size_t n = (size_t)row->n_tokens;
    SPAR_TRY(sp_mem_grow(&memory, &c->capacity, c->samples->n + 1, sizeof *c->samples->items, err));
    c->samples->items = memory;
    while (c->problem < c->problems->n && c->problems->items[c->problem].id != row->prompt) {
        c->problem++;
    }
    if (c->problem == c->problems->n || !row->logprobs) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "run.db: sample %lld: belongs to no problem of its "
                           "stage",
                           (long long)row->id));
    }
    sp_play_sample *s = &c->samples->items[c->samples->n];
    *s = (sp_play_sample){.id = row->id,
                          .problem = c->problem,
                          .n = n,
                          .truncated = strcmp(row->finish, "length") == 0};
    c->samples->n++;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *s->ids, err));
    s->ids = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *s->logps, err));
    s->logps = memory;
    SPAR_TRY(sp_mem_strdup(&s->text, row->text, strlen(row->text), err));
    if (n) {
        memcpy(s->ids, row->tokens, n * sizeof *s->ids);
        memcpy(s->logps, row->logprobs, n * sizeof *s->logps);
    }
done:
    return status;
}

static spar_status read_score(void *context, const sp_rundb_score *row, spar_error *err) {
    read_context *c = context;
    (void)err;
    while (c->scored < c->samples->n && c->samples->items[c->scored].id != row->sample) {
        c->scored++;
    }
    if (c->scored < c->samples->n) {
        c->samples->items[c->scored].strict = row->strict > 0.5;
        c->samples->items[c->scored].lenient = row->lenient > 0.5;
    }
    return SPAR_OK;
}

spar_status sp_samples_make(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                            sp_samples *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    read_context context = {.problems = problems, .samples = out};
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_run_phase_done(run, stage, "sample", &done, err));
    if (!done) {
        SPAR_TRY(sample_and_store(run, stage, problems, k, err));
    }
    /* read back also what was just made: one way for fresh and resumed runs */
    SPAR_TRY(sp_rundb_each_sample(run->db, stage, read_sample, &context, err));
    SPAR_TRY(sp_rundb_each_score(run->db, stage, read_score, &context, err));
done:
    if (status != SPAR_OK) {
        sp_samples_release(out);
    }
    return status;
}

/* ---- pairing ---- */

typedef struct pairing {
    sp_run *run;
    int64_t stage;
    const sp_arm *arm;
    const sp_problems *problems;
    const sp_samples *samples;
    const sp_judged *judged; /* NULL: none */
    sp_pairs *out;
    size_t capacity;
    bool store;
} pairing;

static const int32_t *chosen_ids(const pairing *p, const sp_play_pair *pair, size_t *n) {
    if (pair->chosen < 0) {
        *n = p->problems->items[pair->problem].n_reference;
        return p->problems->items[pair->problem].reference_ids;
    }
    *n = p->samples->items[pair->chosen].n;
    return p->samples->items[pair->chosen].ids;
}

/* NULL keeps the pair; else the reason to drop it. */
static const char *reason_to_drop(const pairing *p, const sp_play_pair *pair) {
    size_t n;
    const int32_t *ids = chosen_ids(p, pair, &n);
    const sp_play_sample *rejected = &p->samples->items[pair->rejected];
    size_t prompt = p->problems->items[pair->problem].n_prompt;
    size_t longest = n > rejected->n ? n : rejected->n;
    if (n == rejected->n && memcmp(ids, rejected->ids, n * sizeof *ids) == 0) {
        return "identical";
    }
    if ((int64_t)(prompt + longest) > p->arm->max_tokens) {
        return "over length";
    }
    return NULL;
}

static spar_status put_pair(pairing *p, sp_play_pair pair, const char *drop, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_play_sample *rejected = &p->samples->items[pair.rejected];
    if (!drop) {
        drop = reason_to_drop(p, &pair);
    }
    if (p->store) {
        sp_rundb_pair row = {.stage = p->stage,
                             .prompt = p->problems->items[pair.problem].id,
                             .chosen = pair.chosen < 0 ? 0 : p->samples->items[pair.chosen].id,
                             .rejected = rejected->id,
                             .kept = drop == NULL,
                             .reason = drop                  ? drop
                                       : rejected->truncated ? "kept, rejected is truncated"
                                                             : "kept"};
        SPAR_TRY(sp_rundb_put_pair(p->run->db, &row, NULL, err));
    }
    if (!drop) {
        void *memory = p->out->items;
        SPAR_TRY(sp_mem_grow(&memory, &p->capacity, p->out->n + 1, sizeof *p->out->items, err));
        p->out->items = memory;
        p->out->items[p->out->n++] = pair;
    }
done:
    return status;
}

/* The samples of one problem: [begin, end). */
static spar_status pair_real(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = begin; i < end; i++) {
        SPAR_TRY(put_pair(p, (sp_play_pair){p->samples->items[i].problem, -1, i}, NULL, err));
    }
done:
    return status;
}

/* The n-th right response against the n-th wrong one. A right one that was cut off is not chosen.
 */
static spar_status pair_verified(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_play_sample *s = p->samples->items;
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
        SPAR_TRY(put_pair(p, (sp_play_pair){s[begin].problem, (int64_t)right, wrong}, NULL, err));
        right++;
        wrong++;
        made++;
    }
    if (made == 0) {
        SPAR_TRY(put_pair(p, (sp_play_pair){s[begin].problem, (int64_t)begin, end - 1},
                          right == end ? "tie: none right" : "tie: none wrong", err));
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

/* The n-th best against the n-th worst by the judge's win rates, as long as they differ. */
static spar_status pair_judged(pairing *p, size_t begin, size_t end, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t problem = p->samples->items[begin].problem;
    void *memory;
    bool *taken = NULL;
    const char *why = "tie: equal win rates";
    int64_t made = 0;
    SPAR_TRY(sp_mem_calloc(&memory, end - begin, sizeof *taken, err));
    taken = memory;
    while (made < p->arm->pairs_per_prompt) {
        const size_t best = extreme(p, begin, end, 1, taken);
        if (best == end) {
            why = "none ends by itself";
            break;
        }
        taken[best - begin] = true;
        const size_t worst = extreme(p, begin, end, -1, taken);
        if (worst == end || !(p->judged->win[best] > p->judged->win[worst])) {
            break;
        }
        taken[worst - begin] = true;
        SPAR_TRY(put_pair(p, (sp_play_pair){problem, (int64_t)best, worst}, NULL, err));
        made++;
    }
    if (made == 0) {
        SPAR_TRY(put_pair(p, (sp_play_pair){problem, (int64_t)begin, end - 1}, why, err));
    }
done:
    free(taken);
    return status;
}

spar_status sp_pairs_make(sp_run *run, int64_t stage, const sp_arm *arm,
                          const sp_problems *problems, const sp_samples *samples,
                          const sp_judged *judged, sp_pairs *out, spar_error *err) {
    static spar_status (*const rules[])(pairing *, size_t, size_t,
                                        spar_error *) = {[SP_PAIR_REAL] = pair_real,
                                                         [SP_PAIR_VERIFIED] = pair_verified,
                                                         [SP_PAIR_JUDGED] = pair_judged};
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
    for (size_t begin = 0; begin < samples->n;) {
        size_t end = begin;
        while (end < samples->n && samples->items[end].problem == samples->items[begin].problem) {
            end++;
        }
        SPAR_TRY(rules[arm->pairing](&p, begin, end, err));
        begin = end;
    }
    if (p.store) {
        SPAR_TRY(sp_rundb_put_phase(run->db, stage, "pair", 1, 1, err));
        SPAR_TRY(sp_rundb_commit(run->db, err));
    }
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
        sp_pairs_release(out);
    }
    return status;
}
