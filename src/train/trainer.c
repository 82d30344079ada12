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

/* A load-balancing loss is one of a mixture whose router makes probabilities that sum up to 1. */
static spar_status check_balance(const spar_model *m, const sp_trainer_options *options,
                                 spar_error *err) {
    const sp_mixture *mixture = m->config.arch->mixture;
    return mixture && mixture->unbalanced && options->balance > 0
               ? spar_fail(err, SPAR_UNSUPPORTED,
                           "balance: expected 0, as models of type %s have no load-balancing loss, "
                           "found %g",
                           m->config.arch->model_type, options->balance)
               : SPAR_OK;
}

spar_status sp_trainer_create(sp_trainer **out, spar_model *model,
                              const sp_trainer_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_trainer *t = NULL;
    SPAR_TRY(sp_model_check_trainable(model, err));
    SPAR_TRY(check_balance(model, options, err));
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
        free(t->places);
        free(t->asked.losses);
        free(t->asked.tokens);
        free(t->asked.d);
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

/* Which replies of an example take part: [from, from + most) of those that it has. */
typedef struct part {
    size_t from, most;
} part;

static const part all_replies = {0, SIZE_MAX}, first_reply = {0, 1}, second_reply = {1, 1};

static const sp_reply *part_of(const sp_example *e, part which, size_t *n) {
    const size_t left = e->n_replies > which.from ? e->n_replies - which.from : 0;
    *n = left < which.most ? left : which.most;
    return e->replies + which.from;
}

/* Rows that n examples cost when packed together. */
static size_t packed_rows(const sp_example *e, size_t n, part which) {
    size_t shared = n > 1 ? shared_opening(e, n, SIZE_MAX) : 0;
    size_t rows = shared;
    for (size_t i = 0; i < n; i++) {
        size_t replies;
        const sp_reply *reply = part_of(&e[i], which, &replies);
        for (size_t k = 0; k < replies; k++) {
            rows += reply[k].n;
        }
        if (i == 0 || !same_prompt(&e[i], &e[i - 1])) {
            rows += e[i].n_prompt - shared;
        }
    }
    return rows;
}

/* Examples that the next micro-batch takes: as many as fit in max_tokens, at least one. */
static size_t next_micro_batch(const sp_trainer *t, const sp_example *e, size_t n, part which) {
    size_t take = 1;
    while (take < n && packed_rows(e, take + 1, which) <= (size_t)t->options.max_tokens) {
        take++;
    }
    return take;
}

/* A micro-batch: n examples, or, where one alone is too large and its replies need not be together,
 * as many of them as fit. */
typedef struct micro_batch {
    const sp_example *e;
    size_t n;
    part which;
} micro_batch;

/* Cuts examples into micro-batches, one after the other. */
typedef struct cutter {
    const sp_example *e;
    size_t n;
    part which;      /* of every example */
    bool apart;      /* replies of an example may be computed apart */
    size_t at, from; /* the next example, and the first of its replies that is left */
} cutter;

/* Replies of one example from `from` on that fit in max_tokens with their prompt, at least one. */
static part fitting_replies(const sp_trainer *t, const sp_example *e, size_t from) {
    part out = {from, 1};
    while (from + out.most < e->n_replies &&
           packed_rows(e, 1, (part){from, out.most + 1}) <= (size_t)t->options.max_tokens) {
        out.most++;
    }
    return out;
}

static bool next_cut(const sp_trainer *t, cutter *c, micro_batch *out) {
    if (c->at == c->n) {
        return false;
    }
    const sp_example *e = c->e + c->at;
    *out = (micro_batch){e, c->from > 0 ? 1 : next_micro_batch(t, e, c->n - c->at, c->which),
                         c->which};
    if (out->n == 1 && c->apart) {
        out->which = fitting_replies(t, e, c->from);
        c->from += out->which.most;
        if (c->from < e->n_replies) {
            return true;
        }
    }
    c->from = 0;
    c->at += out->n;
    return true;
}

static spar_status add_reply(sp_trainer *t, int prompt, const sp_reply *reply, size_t at,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    int segment;
    void *memory = t->places;
    SPAR_TRY(sp_mem_grow(&memory, &t->places_capacity, at + 1, sizeof *t->places, err));
    t->places = memory;
    SPAR_TRY(sp_batch_add(&t->batch, prompt, reply->ids, reply->n, &segment, err));
    SPAR_TRY(sp_batch_score_some(&t->batch, segment, reply->mask, &t->places[at], err));
done:
    return status;
}

static spar_status pack(sp_trainer *t, const sp_example *e, size_t n, part which, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_batch *b = &t->batch;
    int root = -1;
    int prompt = -1;
    size_t packed = 0;
    sp_batch_clear(b);
    size_t shared = n > 1 ? shared_opening(e, n, SIZE_MAX) : 0;
    if (shared > 0) {
        SPAR_TRY(sp_batch_add(b, -1, e[0].prompt, shared, &root, err));
    }
    for (size_t i = 0; i < n; i++) {
        size_t replies;
        const sp_reply *reply = part_of(&e[i], which, &replies);
        if (i == 0 || !same_prompt(&e[i], &e[i - 1])) {
            SPAR_TRY(
                sp_batch_add(b, root, e[i].prompt + shared, e[i].n_prompt - shared, &prompt, err));
        }
        for (size_t k = 0; k < replies; k++) {
            SPAR_TRY(add_reply(t, prompt, &reply[k], packed++, err));
        }
    }
done:
    return status;
}

static spar_status forward(sp_trainer *t, const sp_example *e, size_t n, part which,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(pack(t, e, n, which, err));
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

/* The weight of the load-balancing loss: what is asked for, or what transformers would train with.
 */
static double balance_weight(const sp_trainer *t) {
    const sp_config *c = &t->model->config;
    return t->options.balance >= 0 ? t->options.balance : c->balances ? c->balance_weight : 0;
}

/* What is known of a step before its first micro-batch. */
typedef struct plan {
    const sp_objective *objective;
    part which;
    size_t n, good;            /* examples; those with a good response */
    int64_t tokens, responses; /* that take part */
    double z;                  /* KTO */
    double balance;            /* weight of the load-balancing loss, over the rows of the step */
} plan;

static double share_of(size_t n) {
    return n > 0 ? 1.0 / (double)n : 0.0;
}

/* Tokens of a reply that are scored. */
static size_t learned(const sp_reply *reply) {
    size_t n = reply->mask ? 0 : reply->n;
    for (size_t i = 0; reply->mask && i < reply->n; i++) {
        n += reply->mask[i] != 0;
    }
    return n;
}

static spar_status sft_weights(sp_trainer *t, const sp_example *e, const size_t *places, part which,
                               const plan *p, sp_step_stats *stats, spar_error *err) {
    (void)which;
    spar_status status = SPAR_OK;
    sp_sft_mean mean = t->options.sequence_mean ? SP_SFT_MEAN_SEQUENCES : SP_SFT_MEAN_TOKENS;
    double weight;
    const size_t n = learned(&e->replies[0]), at = places[0];
    int64_t length = (int64_t)n;
    SPAR_TRY(sp_sft_weights(mean, &length, 1, p->tokens, p->responses, &weight, err));
    fill(t->c + at, n, -weight);
    stats->loss -= weight * sum(t->logp + at, n);
    stats->s_chosen += share_of(p->n) * sum(t->logp + at, n);
done:
    return status;
}

static spar_status label_weights(sp_trainer *t, const sp_example *e, const size_t *places,
                                 part which, const plan *p, sp_step_stats *stats, spar_error *err) {
    (void)which;
    spar_status status = SPAR_OK;
    const sp_reply *reply = &e->replies[0];
    const double share = share_of(p->n);
    const bool good = reply->reward > 0.5;
    double loss, d, margin;
    const double s = sum(t->logp + places[0], reply->n) - reply->opponent;
    SPAR_TRY(sp_kto_eval(s, good, p->z, p->objective->params, &loss, &d, &margin, err));
    fill(t->c + places[0], reply->n, share * d);
    stats->loss += share * loss;
    stats->margin += share * margin;
    stats->accuracy += margin > 0 ? share : 0.0;
    stats->s_chosen += good ? share_of(p->good) * s : 0.0;
    stats->s_rejected += good ? 0.0 : share_of(p->n - p->good) * s;
    stats->kl = p->z;
done:
    return status;
}

/* Winner and loser of an example, apart: falling log-probs of winners are worth seeing. */
static void note_margin(sp_step_stats *stats, double share, double margin, double s_w, double s_l) {
    stats->margin += share * margin;
    stats->accuracy += margin > 0.0 ? share : 0.0;
    stats->s_chosen += share * s_w;
    stats->s_rejected += share * s_l;
    stats->kl += share * (exp(fmin(s_l, 50.0)) - 1.0 - s_l);
}

static spar_status reserve_asked(sp_trainer *t, size_t k, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = t->asked.losses;
    size_t *capacity = t->asked.capacity;
    SPAR_TRY(sp_mem_grow(&memory, &capacity[0], k, sizeof *t->asked.losses, err));
    t->asked.losses = memory;
    memory = t->asked.tokens;
    SPAR_TRY(sp_mem_grow(&memory, &capacity[1], k, sizeof *t->asked.tokens, err));
    t->asked.tokens = memory;
    memory = t->asked.d;
    SPAR_TRY(sp_mem_grow(&memory, &capacity[2], k, sizeof *t->asked.d, err));
    t->asked.d = memory;
done:
    return status;
}

static sp_loss_response response_of(const sp_trainer *t, const sp_reply *reply, size_t place) {
    return (sp_loss_response){.policy = sum(t->logp + place, reply->n),
                              .opponent = reply->opponent,
                              .anchor = reply->anchor,
                              .win_rate = reply->win_rate,
                              .reward = reply->reward,
                              .length = (int64_t)reply->n};
}

/* log-probs are plain sums: every token of a response has its response's derivative. Of replies
 * that are computed apart, the loss is the sum, and the margin that of the first and the last
 * alone. */
static spar_status loss_weights(sp_trainer *t, const sp_example *e, const size_t *places,
                                part which, const plan *p, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_loss *loss = p->objective->loss;
    const double *params = p->objective->params, share = share_of(p->n);
    const size_t k = e->n_replies;
    size_t n;
    sp_loss_value value;
    const sp_reply *reply = part_of(e, which, &n);
    SPAR_TRY(reserve_asked(t, k, err));
    sp_loss_response *y = t->asked.losses;
    for (size_t i = 0; i < n; i++) {
        y[i] = response_of(t, &reply[i], places[i]);
    }
    SPAR_TRY(sp_loss_eval(loss, y, n, params, t->asked.d, &value, err));
    for (size_t i = 0; i < n; i++) {
        fill(t->c + places[i], reply[i].n, share * t->asked.d[i]);
    }
    stats->loss += share * value.loss;
    sp_loss_response *ends = t->asked.ends;
    ends[0] = which.from == 0 ? y[0] : ends[0];
    if (which.from + n == k) {
        ends[1] = n == k ? y[sp_loss_loser(loss, k)] : y[n - 1];
        if (n < k) {
            SPAR_TRY(sp_loss_eval(loss, ends, 2, params, t->asked.d, &value, err));
        }
        note_margin(stats, share, value.margin, ends[0].policy - ends[0].opponent,
                    ends[1].policy - ends[1].opponent);
    }
done:
    return status;
}

/* Advantages are of all replies, the rest is each one's own. */
static spar_status token_weights(sp_trainer *t, const sp_example *e, const size_t *places,
                                 part which, const plan *p, sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = e->n_replies;
    const sp_pg_batch batch = {p->responses, p->tokens};
    double loss;
    size_t n;
    part_of(e, which, &n);
    SPAR_TRY(reserve_asked(t, k, err));
    sp_pg_response *y = t->asked.tokens;
    for (size_t i = 0; i < k; i++) {
        const sp_reply *reply = &e->replies[i];
        const bool here = i >= which.from && i < which.from + n;
        y[i] = (sp_pg_response){.policy = here ? t->logp + places[i - which.from] : NULL,
                                .opponent = reply->opponent_tokens,
                                .anchor = reply->anchor_tokens,
                                .weights = here ? t->c + places[i - which.from] : NULL,
                                .n = (int64_t)reply->n,
                                .reward = reply->reward,
                                .win_rate = reply->win_rate};
    }
    SPAR_TRY(sp_pg_eval(p->objective->gradient, y, k, which.from, n, p->objective->params, &batch,
                        &loss, err));
    stats->loss += loss;
    sp_loss_response *ends = t->asked.ends;
    ends[0] = which.from == 0 ? response_of(t, &e->replies[0], places[0]) : ends[0];
    if (which.from + n == k) {
        ends[1] = response_of(t, &e->replies[k - 1], places[n - 1]);
        const double s_w = ends[0].policy - ends[0].opponent;
        const double s_l = ends[1].policy - ends[1].opponent;
        note_margin(stats, share_of(p->n), s_w - s_l, s_w, s_l);
    }
done:
    return status;
}

/* One weight a token: the derivative of the batch's loss by that token's log-prob. */
static spar_status weights(sp_trainer *t, const micro_batch *m, const plan *p, sp_step_stats *stats,
                           spar_error *err) {
    typedef spar_status (*weigh_fn)(sp_trainer *, const sp_example *, const size_t *, part,
                                    const plan *, sp_step_stats *, spar_error *);
    static const weigh_fn weigh[] = {[SP_OBJECTIVE_SFT] = sft_weights,
                                     [SP_OBJECTIVE_LABELLED] = label_weights,
                                     [SP_OBJECTIVE_RESPONSES] = loss_weights,
                                     [SP_OBJECTIVE_TOKENS] = token_weights};
    spar_status status = SPAR_OK;
    const size_t *places = t->places;
    for (size_t i = 0; i < m->n; i++) {
        size_t replies;
        part_of(&m->e[i], m->which, &replies);
        SPAR_TRY(weigh[p->objective->kind](t, &m->e[i], places, m->which, p, stats, err));
        places += replies;
    }
done:
    return status;
}

static spar_status check_example(const sp_example *e, size_t i, size_t fewest, spar_error *err) {
    bool filled = e->n_prompt > 0 && e->n_replies >= fewest;
    for (size_t k = 0; k < e->n_replies; k++) {
        filled = filled && learned(&e->replies[k]) > 0;
    }
    return filled ? SPAR_OK
                  : spar_fail(err, SPAR_INVALID,
                              "example %zu: expected a prompt and at least %zu %s of at least one "
                              "token",
                              i, fewest, fewest == 1 ? "response" : "responses");
}

static spar_status make_plan(const sp_example *e, size_t n, const sp_objective *o, plan *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    size_t fewest, most;
    const bool alone = o->kind == SP_OBJECTIVE_SFT || o->kind == SP_OBJECTIVE_LABELLED;
    sp_objective_responses(o, &fewest, &most);
    *out = (plan){.objective = o, .which = alone ? first_reply : all_replies, .n = n};
    for (size_t i = 0; i < n; i++) {
        size_t replies;
        SPAR_TRY(check_example(&e[i], i, o->kind == SP_OBJECTIVE_LABELLED ? 2 : fewest, err));
        const sp_reply *reply = part_of(&e[i], out->which, &replies);
        for (size_t k = 0; k < replies; k++) {
            out->tokens += (int64_t)learned(&reply[k]);
        }
        out->responses += (int64_t)replies;
        out->good += e[i].replies[0].reward > 0.5;
    }
    if (n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "a training step needs an example"));
    }
done:
    return status;
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

static cutter cuts_of(const sp_example *e, const plan *p) {
    return (cutter){
        .e = e, .n = p->n, .which = p->which, .apart = sp_objective_separates(p->objective)};
}

/* Whether they are one micro-batch: then gradients need their memory in the backward alone. */
static bool is_one(const sp_trainer *t, cutter cuts) {
    micro_batch m;
    (void)next_cut(t, &cuts, &m);
    return !next_cut(t, &cuts, &m);
}

/* The step's load-balancing loss is the mean of those of its micro-batches by their rows, so that a
 * row weighs as much in each. */
static void plan_balance(const sp_trainer *t, const sp_example *e, plan *p) {
    const double weight = balance_weight(t);
    size_t rows = 0;
    cutter cuts = cuts_of(e, p);
    micro_batch m;
    while (weight > 0 && next_cut(t, &cuts, &m)) {
        rows += packed_rows(m.e, m.n, m.which);
    }
    p->balance = rows > 0 ? weight / (double)rows : 0;
}

/* After a micro-batch's forward: its share of that loss. */
static void note_balance(const sp_trainer *t, const plan *p, sp_step_stats *stats) {
    const double rows = (double)sp_batch_rows(&t->batch);
    if (p->balance > 0) {
        stats->balance += p->balance / balance_weight(t) * rows * sp_pass_balance_loss(t->pass);
    }
}

static spar_status take_step(sp_trainer *t, const sp_example *examples, const plan *p, double lr,
                             sp_step_stats *stats, spar_error *err) {
    spar_status status = SPAR_OK;
    memset(stats, 0, sizeof *stats);
    cutter cuts = cuts_of(examples, p);
    sp_pass_lend(t->pass, is_one(t, cuts) ? t->grads : NULL);
    micro_batch m;
    for (bool first = true; next_cut(t, &cuts, &m); first = false) {
        sp_pass_dropout(t->pass, true,
                        sp_rng_stream(t->options.seed, (uint64_t)sp_optimizer_steps(t->optimizer),
                                      (uint64_t)(m.e - examples), m.which.from));
        sp_pass_balance(t->pass, p->balance * (double)packed_rows(m.e, m.n, m.which));
        SPAR_TRY(forward(t, m.e, m.n, m.which, err));
        note_balance(t, p, stats);
        SPAR_TRY(weights(t, &m, p, stats, err));
        SPAR_TRY(sp_pass_backward(t->pass, &t->batch, t->c, t->grads, !first, err));
        stats->tokens += sp_batch_rows(&t->batch);
        stats->response_tokens += (int64_t)t->batch.n_scored;
    }
    SPAR_TRY(update(t, lr, stats, err));
done:
    return status;
}

static void note_gap(const float *trainer, const float *sampler, size_t n, sp_logp_gap *gap) {
    for (size_t i = 0; sampler && i < n; i++) {
        double d = fabs((double)trainer[i] - (double)sampler[i]);
        gap->sum += d;
        gap->max = d > gap->max ? d : gap->max;
        gap->n++;
    }
}

/* Where the log-probs of replies go, one after the other. */
typedef struct scores {
    double *sums;
    float *tokens;
    sp_logp_gap *gap;
} scores;

static void take_scores(const sp_trainer *t, const sp_example *e, size_t n, part which,
                        scores *out) {
    const size_t *place = t->places;
    for (size_t i = 0; i < n; i++) {
        size_t replies;
        const sp_reply *reply = part_of(&e[i], which, &replies);
        for (size_t k = 0; k < replies; k++) {
            const float *logp = t->logp + *place++;
            note_gap(logp, reply[k].kept, reply[k].n, out->gap);
            if (out->sums) {
                *out->sums++ = sum(logp, reply[k].n);
            }
            if (out->tokens) {
                memcpy(out->tokens, logp, reply[k].n * sizeof *logp);
                out->tokens += reply[k].n;
            }
        }
    }
}

static spar_status score(sp_trainer *t, const sp_example *examples, size_t n, part which,
                         scores out, spar_error *err) {
    spar_status status = SPAR_OK;
    memset(out.gap, 0, sizeof *out.gap);
    sp_pass_dropout(t->pass, false, 0);
    sp_pass_lend(t->pass, t->grads);
    cutter cuts = {.e = examples, .n = n, .which = which, .apart = which.most > 1};
    micro_batch m;
    while (next_cut(t, &cuts, &m)) {
        SPAR_TRY(forward(t, m.e, m.n, m.which, err));
        take_scores(t, m.e, m.n, m.which, &out);
    }
done:
    return status;
}

spar_status sp_trainer_score(sp_trainer *t, const sp_example *examples, size_t n, double *sums,
                             float *tokens, sp_logp_gap *gap, spar_error *err) {
    return score(t, examples, n, all_replies, (scores){sums, tokens, gap}, err);
}

/* KTO's z, from the responses to other prompts. */
static spar_status measure_z(sp_trainer *t, const sp_example *examples, plan *p, spar_error *err) {
    spar_status status = SPAR_OK;
    double *s = NULL;
    sp_logp_gap gap;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, p->n, sizeof *s, err));
    s = memory;
    SPAR_TRY(score(t, examples, p->n, second_reply, (scores){s, NULL, &gap}, err));
    for (size_t i = 0; i < p->n; i++) {
        s[i] -= examples[i].replies[1].opponent;
    }
    p->z = sp_kto_baseline(s, p->n);
done:
    free(s);
    return status;
}

spar_status sp_trainer_step(sp_trainer *t, const sp_example *examples, size_t n,
                            const sp_objective *objective, double lr, sp_step_stats *stats,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    plan p;
    SPAR_TRY(make_plan(examples, n, objective, &p, err));
    if (objective->kind == SP_OBJECTIVE_LABELLED) {
        SPAR_TRY(measure_z(t, examples, &p, err));
    }
    plan_balance(t, examples, &p);
    SPAR_TRY(take_step(t, examples, &p, lr, stats, err));
done:
    return status;
}
