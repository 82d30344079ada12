#include "train/trainer_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

/* Matrices decay, norm gains and biases do not. An adapter is all matrices: *out stays NULL, which
 * is the whole array. */
static spar_status make_segments(const spar_model *m, sp_optimizer_segment **out, int64_t *n,
                                 spar_error *err) {
    const sp_params *p = &m->params;
    if (m->lora) {
        return SPAR_OK;
    }
    void *memory;
    spar_status status = sp_mem_calloc(&memory, (size_t)p->n, sizeof **out, err);
    if (status != SPAR_OK) {
        return status;
    }
    *out = memory;
    *n = p->n;
    for (int i = 0; i < p->n; i++) {
        const sp_param *item = &p->items[i];
        (*out)[i] = (sp_optimizer_segment){
            .begin = item->offset, .end = item->offset + item->count, .decay = item->cols > 0};
    }
    return status;
}

static spar_status make_optimizer(sp_trainer *t, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_optimizer_segment *segments = NULL;
    int64_t n_segments = 0;
    const sp_optimizer_kind *kind;
    double params[SP_OPTIMIZER_MAX_PARAMS];
    const struct {
        const char *name;
        double value;
    } settings[] = {{"beta1", t->options.beta1},
                    {"beta2", t->options.beta2},
                    {"eps", t->options.eps},
                    {"weight_decay", t->options.weight_decay},
                    {"alpha", t->options.alpha}};
    SPAR_TRY(sp_optimizer_find(t->options.optimizer, &kind, err));
    sp_tunable_defaults(kind->params, params);
    for (int i = 0; kind->params[i].name; i++) {
        for (size_t j = 0; j < sizeof settings / sizeof settings[0]; j++) {
            if (strcmp(kind->params[i].name, settings[j].name) == 0) {
                SPAR_TRY(sp_tunable_set(kind->params, params, settings[j].name, settings[j].value,
                                        kind->name, err));
            }
        }
    }
    SPAR_TRY(make_segments(t->model, &segments, &n_segments, err));
    SPAR_TRY(sp_optimizer_create(&t->optimizer, kind, params, t->trainable.total, segments,
                                 n_segments, t->model->pool, err));
done:
    free(segments);
    return status;
}

spar_status sp_trainer_create(sp_trainer **out, spar_model *model,
                              const sp_trainer_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_trainer *t = NULL;
    SPAR_TRY(sp_model_check_trainable(model, err));
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *t, err));
    t = memory;
    t->model = model;
    t->options = *options;
    sp_batch_init(&t->batch);
    t->trainable = sp_model_trainable(model);
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)t->trainable.total, sizeof *t->grads, err));
    t->grads = memory;
    SPAR_TRY(make_optimizer(t, err));
    SPAR_TRY(sp_pass_create(&t->pass, model, options->recompute ? SP_PASS_RECOMPUTE : SP_PASS_TRAIN,
                            err));
    SPAR_TRY(sp_model_prepare(model, true, err));
    *out = t;
    t = NULL;
done:
    sp_trainer_free(t);
    return status;
}

void sp_trainer_free(sp_trainer *t) {
    if (t) {
        sp_optimizer_free(t->optimizer);
        sp_pass_free(t->pass);
        sp_batch_release(&t->batch);
        free(t->grads);
        free(t->logp);
        free(t->c);
        free(t->placed);
        free(t);
    }
}

/* Tokens that all prompts of the micro-batch open with; each keeps one of its own. */
static size_t shared_opening(const sp_example *e, size_t n, size_t limit) {
    size_t shared = e[0].n_prompt - 1 < limit ? e[0].n_prompt - 1 : limit;
    for (size_t i = 1; i < n; i++) {
        size_t j = 0;
        while (j < shared && j < e[i].n_prompt - 1 && e[i].prompt[j] == e[0].prompt[j]) {
            j++;
        }
        shared = j;
    }
    return shared;
}

static bool same_prompt(const sp_example *a, const sp_example *b) {
    return a->n_prompt == b->n_prompt &&
           memcmp(a->prompt, b->prompt, a->n_prompt * sizeof *a->prompt) == 0;
}

/* Rows that n examples cost when packed together. */
static size_t packed_rows(const sp_example *e, size_t n) {
    size_t shared = n > 1 ? shared_opening(e, n, SIZE_MAX) : 0;
    size_t rows = shared;
    for (size_t i = 0; i < n; i++) {
        rows += e[i].n_chosen + e[i].n_rejected;
        if (i == 0 || !same_prompt(&e[i], &e[i - 1])) {
            rows += e[i].n_prompt - shared;
        }
    }
    return rows;
}

/* Examples that the next micro-batch takes: as many as fit in max_tokens, at least one. */
static size_t next_micro_batch(const sp_trainer *t, const sp_example *e, size_t n) {
    size_t take = 1;
    while (take < n && packed_rows(e, take + 1) <= (size_t)t->options.max_tokens) {
        take++;
    }
    return take;
}

static spar_status add_response(sp_batch *b, int parent, const int32_t *ids, size_t n,
                                size_t *place, spar_error *err) {
    spar_status status = SPAR_OK;
    int segment;
    SPAR_TRY(sp_batch_add(b, parent, ids, n, &segment, err));
    SPAR_TRY(sp_batch_score(b, segment, 0, place, err));
done:
    return status;
}

static spar_status pack(sp_trainer *t, const sp_example *e, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_batch *b = &t->batch;
    int root = -1;
    int prompt = -1;
    void *memory = t->placed;
    SPAR_TRY(sp_mem_grow(&memory, &t->placed_capacity, n, sizeof *t->placed, err));
    t->placed = memory;
    sp_batch_clear(b);
    size_t shared = n > 1 ? shared_opening(e, n, SIZE_MAX) : 0;
    if (shared > 0) {
        SPAR_TRY(sp_batch_add(b, -1, e[0].prompt, shared, &root, err));
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !same_prompt(&e[i], &e[i - 1])) {
            SPAR_TRY(
                sp_batch_add(b, root, e[i].prompt + shared, e[i].n_prompt - shared, &prompt, err));
        }
        SPAR_TRY(add_response(b, prompt, e[i].chosen, e[i].n_chosen, &t->placed[i].chosen, err));
        if (e[i].rejected) {
            SPAR_TRY(add_response(b, prompt, e[i].rejected, e[i].n_rejected, &t->placed[i].rejected,
                                  err));
        }
    }
done:
    return status;
}

static spar_status forward(sp_trainer *t, const sp_example *e, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(pack(t, e, n, err));
    size_t capacity = t->scored_capacity;
    void *memory = t->logp;
    SPAR_TRY(sp_mem_grow(&memory, &capacity, t->batch.n_scored, sizeof *t->logp, err));
    t->logp = memory;
    memory = t->c;
    SPAR_TRY(sp_mem_grow(&memory, &t->scored_capacity, t->batch.n_scored, sizeof *t->c, err));
    t->c = memory;
    SPAR_TRY(sp_pass_forward(t->pass, &t->batch, NULL, err));
    SPAR_TRY(sp_pass_logp(t->pass, &t->batch, t->logp, err));
done:
    return status;
}

static double sum(const float *x, size_t n) {
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        total += (double)x[i];
    }
    return total;
}

static void fill(float *x, size_t n, double value) {
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)value;
    }
}

/* Totals over the whole step, known before its first micro-batch. */
typedef struct step_totals {
    size_t n, good;
    int64_t tokens, sequences;
} step_totals;

/* What a step lowers: a loss on pairs, KTO, or where both are absent the loss of SFT. */
typedef struct objective {
    const sp_loss *pairs;
    bool labelled;
    const double *params;
    double z;
} objective;

static spar_status sft_weights(sp_trainer *t, const sp_example *e, size_t n,
                               const step_totals *totals, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_sft_mean mean = t->options.sequence_mean ? SP_SFT_MEAN_SEQUENCES : SP_SFT_MEAN_TOKENS;
    for (size_t i = 0; i < n; i++) {
        double weight;
        int64_t length = (int64_t)e[i].n_chosen;
        SPAR_TRY(sp_sft_weights(mean, &length, 1, totals->tokens, totals->sequences, &weight, err));
        size_t at = t->placed[i].chosen;
        fill(t->c + at, e[i].n_chosen, -weight);
        stats->loss -= weight * sum(t->logp + at, e[i].n_chosen);
    }
done:
    return status;
}

/* One weight a token: the derivative of the batch's mean loss by that token's log-prob. */
static spar_status pair_weights(sp_trainer *t, const sp_example *e, size_t n, const sp_loss *loss,
                                const double *params, const step_totals *totals,
                                sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < n; i++) {
        sp_pair_grad grad;
        sp_loss_metrics metrics;
        size_t w = t->placed[i].chosen;
        size_t l = t->placed[i].rejected;
        sp_pair_logps pair = {.policy_w = sum(t->logp + w, e[i].n_chosen),
                              .policy_l = sum(t->logp + l, e[i].n_rejected),
                              .ref_w = e[i].ref_chosen,
                              .ref_l = e[i].ref_rejected,
                              .len_w = (int64_t)e[i].n_chosen,
                              .len_l = (int64_t)e[i].n_rejected};
        SPAR_TRY(sp_loss_batch(loss, &pair, 1, params, (int64_t)totals->n, &grad, &metrics, err));
        fill(t->c + w, e[i].n_chosen, grad.d_policy_w);
        fill(t->c + l, e[i].n_rejected, grad.d_policy_l);
        double share = 1.0 / (double)totals->n;
        stats->loss += share * metrics.loss;
        stats->margin += share * metrics.margin;
        stats->accuracy += share * metrics.accuracy;
        stats->s_chosen += share * metrics.s_w;
        stats->s_rejected += share * metrics.s_l;
        double s_l = metrics.s_l < 50 ? metrics.s_l : 50;
        stats->kl += share * (exp(s_l) - 1.0 - metrics.s_l);
    }
done:
    return status;
}

static double share_of(size_t n) {
    return n > 0 ? 1.0 / (double)n : 0.0;
}

static spar_status label_weights(sp_trainer *t, const sp_example *e, size_t n, const objective *o,
                                 const step_totals *totals, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    const double share = share_of(totals->n);
    for (size_t i = 0; i < n; i++) {
        double loss, d, margin;
        const size_t at = t->placed[i].chosen;
        const double s = sum(t->logp + at, e[i].n_chosen) - e[i].ref_chosen;
        SPAR_TRY(sp_kto_eval(s, e[i].good, o->z, o->params, &loss, &d, &margin, err));
        fill(t->c + at, e[i].n_chosen, share * d);
        stats->loss += share * loss;
        stats->margin += share * margin;
        stats->accuracy += margin > 0 ? share : 0.0;
        stats->s_chosen += e[i].good ? share_of(totals->good) * s : 0.0;
        stats->s_rejected += e[i].good ? 0.0 : share_of(totals->n - totals->good) * s;
    }
    stats->kl = o->z;
done:
    return status;
}

static spar_status weights(sp_trainer *t, const sp_example *e, size_t n, const objective *o,
                           const step_totals *totals, sp_step_stats *stats, spar_error *err) {
    if (o->labelled) {
        return label_weights(t, e, n, o, totals, stats, err);
    }
    return o->pairs ? pair_weights(t, e, n, o->pairs, o->params, totals, stats, err)
                    : sft_weights(t, e, n, totals, stats, err);
}

static spar_status check_examples(const sp_example *e, size_t n, bool pairs, step_totals *totals,
                                  spar_error *err) {
    *totals = (step_totals){.n = n};
    for (size_t i = 0; i < n; i++) {
        if (e[i].n_prompt == 0 || e[i].n_chosen == 0 ||
            (pairs && (!e[i].rejected || e[i].n_rejected == 0))) {
            return spar_fail(err, SPAR_INVALID,
                             "example %zu: expected a prompt and %s of at least one token", i,
                             pairs ? "two responses" : "a response");
        }
        totals->tokens += (int64_t)e[i].n_chosen;
        totals->sequences++;
        totals->good += e[i].good;
    }
    return n ? SPAR_OK : spar_fail(err, SPAR_INVALID, "a training step needs an example");
}

static spar_status update(sp_trainer *t, double lr, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_optimizer_stats counts = {0};
    spar_model *m = t->model;
    stats->lr = lr;
    stats->grad_norm = sp_grad_norm(t->grads, t->trainable.total, m->pool);
    if (!isfinite(stats->grad_norm)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "the gradient is not finite: the learning rate is too high or the "
                           "weights are damaged"));
    }
    sp_optimizer_step(t->optimizer, t->trainable.values, t->grads, lr,
                      sp_grad_clip(stats->grad_norm, t->options.max_grad_norm), m->pool, &counts);
    stats->changed_f32 = (double)counts.changed_f32 / (double)counts.n;
    stats->changed_bf16 = (double)counts.changed_bf16 / (double)counts.n;
    SPAR_TRY(sp_model_prepare_trainable(m, err));
done:
    return status;
}

static spar_status take_step(sp_trainer *t, const sp_example *examples, size_t n,
                             const objective *o, double lr, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    step_totals totals;
    memset(stats, 0, sizeof *stats);
    SPAR_TRY(check_examples(examples, n, o->pairs != NULL, &totals, err));
    memset(t->grads, 0, (size_t)t->trainable.total * sizeof *t->grads);
    for (size_t at = 0; at < n;) {
        const sp_example *e = examples + at;
        size_t take = next_micro_batch(t, e, n - at);
        sp_pass_dropout(t->pass, true,
                        sp_rng_stream(t->options.seed, (uint64_t)sp_optimizer_steps(t->optimizer),
                                      (uint64_t)at, 0));
        SPAR_TRY(forward(t, e, take, err));
        SPAR_TRY(weights(t, e, take, o, &totals, stats, err));
        SPAR_TRY(sp_pass_backward(t->pass, &t->batch, t->c, t->grads, err));
        stats->tokens += sp_batch_rows(&t->batch);
        stats->response_tokens += (int64_t)t->batch.n_scored;
        at += take;
    }
    SPAR_TRY(update(t, lr, stats, err));
done:
    return status;
}

spar_status sp_trainer_step(sp_trainer *t, const sp_example *examples, size_t n,
                            const sp_loss *loss, const double *params, double lr,
                            sp_step_stats *stats, spar_error *err) {
    const objective o = {.pairs = loss, .params = params};
    return take_step(t, examples, n, &o, lr, stats, err);
}

static void note_gap(const float *trainer, const float *sampler, size_t n, sp_logp_gap *gap) {
    for (size_t i = 0; sampler && i < n; i++) {
        double d = fabs((double)trainer[i] - (double)sampler[i]);
        gap->sum += d;
        gap->max = d > gap->max ? d : gap->max;
        gap->n++;
    }
}

spar_status sp_trainer_score(sp_trainer *t, const sp_example *examples, size_t n, double *chosen,
                             double *rejected, sp_logp_gap *gap, spar_error *err) {
    spar_status status = SPAR_OK;
    memset(gap, 0, sizeof *gap);
    sp_pass_dropout(t->pass, false, 0);
    for (size_t at = 0; at < n;) {
        const sp_example *e = examples + at;
        size_t take = next_micro_batch(t, e, n - at);
        SPAR_TRY(forward(t, e, take, err));
        for (size_t i = 0; i < take; i++) {
            const float *logp = t->logp + t->placed[i].chosen;
            chosen[at + i] = sum(logp, e[i].n_chosen);
            note_gap(logp, e[i].kept_chosen, e[i].n_chosen, gap);
            if (rejected && e[i].rejected) {
                logp = t->logp + t->placed[i].rejected;
                rejected[at + i] = sum(logp, e[i].n_rejected);
                note_gap(logp, e[i].kept_rejected, e[i].n_rejected, gap);
            }
        }
        at += take;
    }
done:
    return status;
}

spar_status sp_trainer_step_labelled(sp_trainer *t, const sp_example *examples, size_t n,
                                     const double *params, double lr, sp_step_stats *stats,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    objective o = {.labelled = true, .params = params};
    step_totals totals;
    sp_example *alone = NULL;
    double *s = NULL;
    sp_logp_gap gap;
    void *memory;
    SPAR_TRY(check_examples(examples, n, true, &totals, err));
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *alone, err));
    alone = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *s, err));
    s = memory;
    for (size_t i = 0; i < n; i++) {
        alone[i] = (sp_example){.prompt = examples[i].prompt,
                                .n_prompt = examples[i].n_prompt,
                                .chosen = examples[i].rejected,
                                .n_chosen = examples[i].n_rejected};
    }
    SPAR_TRY(sp_trainer_score(t, alone, n, s, NULL, &gap, err));
    for (size_t i = 0; i < n; i++) {
        s[i] -= examples[i].ref_rejected;
        alone[i] = examples[i];
        alone[i].rejected = NULL;
        alone[i].n_rejected = 0;
    }
    o.z = sp_kto_baseline(s, n);
    SPAR_TRY(take_step(t, alone, n, &o, lr, stats, err));
done:
    free(alone);
    free(s);
    return status;
}
