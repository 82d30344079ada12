/* spar_train: one method on a data file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/lora.h"
#include "play/offline.h"
#include "spar/jsonl.h"
#include "train/schedule.h"

/* Purposes of random streams of a training. */
enum { STREAM_SHUFFLE = 21, STREAM_ADAPTER = 22 };

typedef struct session {
    const spar_train_options *options;
    spar_model *model;
    sp_objective objective;
    sp_offline data;
    sp_trainer *trainer;
    const sp_schedule *schedule;
    int64_t steps, warmup, pass;
    uint32_t *order;   /* owned, [data.n]: of the pass */
    sp_example *batch; /* owned */
    spar_jsonl_writer *log;
} session;

/* Only the rows' ids are asked for otherwise. */
static bool trains(const session *s) {
    return s->options->out || s->options->log || !s->options->write_ids;
}

static bool reads_reference(const session *s) {
    return (sp_objective_reads(&s->objective) & (SP_READS_OPPONENT | SP_READS_ANCHOR)) != 0;
}

/* Whether --reference is the anchor: where the method has one, whose opponent is then the model as
 * loaded, as in a run's later iterations. Policy gradients never ask another about who sampled. */
static bool is_anchored(const session *s) {
    return s->objective.kind == SP_OBJECTIVE_TOKENS ||
           (sp_objective_reads(&s->objective) & SP_READS_ANCHOR) != 0;
}

static spar_status check_reference(const session *s, spar_error *err) {
    const unsigned reads = sp_objective_reads(&s->objective);
    const bool read = is_anchored(s) ? reads & SP_READS_ANCHOR : reads & SP_READS_OPPONENT;
    return read || !s->options->reference
               ? SPAR_OK
               : spar_fail(err, SPAR_INVALID, "%s: method %s reads no reference%s",
                           s->options->reference, s->objective.name,
                           is_anchored(s) ? " while its kl is 0" : "");
}

static spar_status find_method(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_train_options *o = s->options;
    SPAR_TRY(sp_objective_find(&s->objective, o->method, err));
    if (o->params) {
        SPAR_TRY(sp_objective_set_given(&s->objective, o->params, err));
    }
    SPAR_TRY(check_reference(s, err));
done:
    return status;
}

static spar_status check_out(const spar_train_options *o, spar_error *err) {
    if (o->out && sp_file_exists(o->out)) {
        return spar_fail(err, SPAR_INVALID, "%s: expected a folder to make, found one that exists",
                         o->out);
    }
    return SPAR_OK;
}

/* inference: one that does not train. */
static spar_status load_model(session *s, const char *path, bool inference, spar_model **out,
                              spar_error *err) {
    const spar_train_options *o = s->options;
    const spar_model_options options = {.dtype = o->dtype,
                                        .weights = o->weights,
                                        .threads = o->threads,
                                        .inference = inference,
                                        .template_path = o->template_path,
                                        .sink = o->sink};
    return spar_model_load(out, path, &options, err);
}

/* Log-probs of a response's tokens, [reply->n], under a model that does not train. */
static spar_status response_logps(spar_model *m, const sp_example *e, const sp_reply *reply,
                                  float *logps, spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    void *memory;
    const size_t n = reply->n;
    SPAR_TRY(sp_mem_calloc(&memory, e->n_prompt + n, sizeof *ids, err));
    ids = memory;
    memcpy(ids, e->prompt, e->n_prompt * sizeof *ids);
    memcpy(ids + e->n_prompt, reply->ids, n * sizeof *ids);
    spar_score_row row = {.ids = ids, .n = e->n_prompt + n, .first = e->n_prompt, .logps = logps};
    SPAR_TRY(spar_model_score(m, &row, 1, err));
done:
    free(ids);
    return status;
}

static void report_scoring(void *context, size_t done, size_t total) {
    const session *s = context;
    const spar_progress progress = {.phase = "score the reference",
                                    .done = (double)done,
                                    .total = (double)total,
                                    .unit = "rows",
                                    .detail = ""};
    spar_sink_progress(s->options->sink, &progress);
}

static spar_status load_reference(session *s, spar_model **out, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(load_model(s, s->options->reference, true, out, err));
    if (spar_model_vocab(*out) != spar_model_vocab(s->model)) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: expected a reference with a vocabulary of %lld, found %lld",
                           s->options->reference, (long long)spar_model_vocab(s->model),
                           (long long)spar_model_vocab(*out)));
    }
done:
    return status;
}

/* Another model as opponent or anchor: loaded, asked once about every response, and let go again.
 */
static spar_status score_other(session *s, sp_lessons_model which, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = NULL;
    sp_lessons *l = &s->data.lessons;
    void *memory;
    SPAR_TRY(load_reference(s, &m, err));
    SPAR_TRY(sp_mem_calloc(&memory, sp_lessons_tokens(l), sizeof(float), err));
    float *tokens = l->tokens[which] = memory;
    for (size_t i = 0; i < l->n; i++) {
        const sp_example *e = &l->examples[i];
        for (size_t k = 0; k < e->n_replies; k++) {
            SPAR_TRY(response_logps(m, e, &e->replies[k], tokens, err));
            sp_lessons_give(&e->replies[k], which, tokens);
            tokens += e->replies[k].n;
        }
        report_scoring(s, i + 1, l->n);
    }
done:
    spar_model_free(m);
    return status;
}

/* The model as loaded, scored by the pass that trains: the first step starts at a margin of 0. What
 * the rows give is taken in its place, and how far it is from the model's own is said. */
static spar_status score_start(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_logp_gap gap;
    SPAR_TRY(sp_lessons_score(&s->data.lessons, s->trainer, SP_LESSONS_OPPONENT, &s->objective,
                              &gap, report_scoring, s, err));
    sp_lessons_take_kept(&s->data.lessons);
    if (gap.n > 0) {
        spar_sink_log(s->options->sink, SPAR_LOG_INFO,
                      "the rows' log-probs and the model's own differ by %.2e on average, %.2e at "
                      "most, over %lld tokens",
                      gap.sum / (double)gap.n, gap.max, (long long)gap.n);
    }
done:
    return status;
}

static spar_status make_trainer(session *s, spar_error *err) {
    const spar_train_options *o = s->options;
    const sp_trainer_options options = {.optimizer = o->optimizer,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .alpha = 0.99,
                                        .weight_decay = o->weight_decay,
                                        .max_grad_norm = o->max_grad_norm,
                                        .max_tokens = o->max_tokens,
                                        .recompute = o->recompute,
                                        .balance = o->balance,
                                        .seed = o->seed};
    return sp_trainer_create(&s->trainer, s->model, &options, err);
}

/* The step's examples: pass after pass over the data, each in an order of its own. */
static size_t next_batch(session *s, int64_t step) {
    const spar_train_options *o = s->options;
    const int64_t n = (int64_t)s->data.n,
                  total = o->steps > 0 ? o->steps * o->batch : n * o->epochs;
    size_t taken = 0;
    for (int64_t i = step * o->batch; i < (step + 1) * o->batch && i < total; i++) {
        if (i / n != s->pass) {
            s->pass = i / n;
            for (uint32_t k = 0; k < (uint32_t)n; k++) {
                s->order[k] = k;
            }
            if (!o->keep_order) {
                sp_rng_shuffle(o->seed, sp_rng_stream(STREAM_SHUFFLE, (uint64_t)s->pass, 0, 0),
                               s->order, (uint32_t)n);
            }
        }
        s->batch[taken++] = s->data.lessons.examples[s->order[i % n]];
    }
    return taken;
}

/* A row of the log, null where the method has no such figure. Without a reference s_w and s_l are
 * log-probs in the place of log-ratios. */
static spar_status log_step(session *s, int64_t step, const sp_step_stats *t, double rate,
                            spar_error *err) {
    const bool compares = s->objective.kind != SP_OBJECTIVE_SFT;
    const struct {
        const char *name;
        double value;
        bool exists;
    } figures[] = {{"loss", t->loss, true},
                   {"grad_norm", t->grad_norm, true},
                   {"lr", t->lr, true},
                   {"margin", t->margin, compares},
                   {"accuracy", t->accuracy, compares},
                   {"s_w", t->s_chosen, true},
                   {"s_l", t->s_rejected, compares},
                   {"kl", t->kl, reads_reference(s)},
                   {"balance", t->balance, t->balance > 0},
                   {"changed_f32", t->changed_f32, true},
                   {"changed_bf16", t->changed_bf16, true},
                   {"tokens_per_s", rate, true}};
    spar_status status = SPAR_OK;
    json_t *row = NULL;
    if (!s->log) {
        return SPAR_OK;
    }
    row = json_pack("{s:I}", "step", (json_int_t)step);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        json_t *value = figures[i].exists ? json_real(figures[i].value) : json_null();
        if (json_object_set_new(row, figures[i].name, value) != 0) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row of the log"));
        }
    }
    SPAR_TRY(spar_jsonl_put(s->log, row, err));
done:
    json_decref(row);
    return status;
}

static void report(const session *s, int64_t step, const sp_step_stats *t, double rate) {
    char detail[160];
    if (s->objective.kind != SP_OBJECTIVE_SFT) {
        snprintf(detail, sizeof detail, "loss %.4f margin %+.4f accuracy %.2f |g| %.2f", t->loss,
                 t->margin, t->accuracy, t->grad_norm);
    } else {
        snprintf(detail, sizeof detail, "loss %.4f |g| %.2f", t->loss, t->grad_norm);
    }
    const spar_progress progress = {.phase = "train",
                                    .done = (double)step,
                                    .total = (double)s->steps,
                                    .unit = "steps",
                                    .rate = rate,
                                    .detail = detail};
    spar_sink_progress(s->options->sink, &progress);
}

static spar_status run_steps(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_train_options *o = s->options;
    for (int64_t step = 0; step < s->steps; step++) {
        sp_step_stats stats;
        if (o->stop && o->stop(o->stop_context)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "training was stopped at step %lld of %lld",
                               (long long)step, (long long)s->steps));
        }
        const double begun = sp_now();
        const size_t n = next_batch(s, step);
        const double lr = o->lr * sp_schedule_factor(s->schedule, step, s->warmup, s->steps);
        SPAR_TRY(sp_trainer_step(s->trainer, s->batch, n, &s->objective, lr, &stats, err));
        const double rate = (double)stats.tokens / (sp_now() - begun);
        SPAR_TRY(log_step(s, step + 1, &stats, rate, err));
        report(s, step + 1, &stats, rate);
    }
done:
    return status;
}

/* nash_md: of rows that say who beats whom, win rates against the mixture of opponent and anchor.
 */
static spar_status against_mixture(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_objective *o = &s->objective;
    if (o->kind != SP_OBJECTIVE_TOKENS || o->gradient->advantage != SP_ADVANTAGE_WIN_RATE) {
        return SPAR_OK;
    }
    for (size_t i = 0; i < s->data.n; i++) {
        if (s->data.rows[i].p) {
            SPAR_TRY(sp_lessons_against_mixture(&s->data.lessons.examples[i], s->data.rows[i].p,
                                                NULL, o->params[SP_PG_LAST], err));
        }
    }
done:
    return status;
}

/* Another reference is asked before the trainer takes its memory. */
static spar_status score_reference(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool anchored = is_anchored(s), other = s->options->reference != NULL;
    if (other) {
        SPAR_TRY(score_other(s, anchored ? SP_LESSONS_ANCHOR : SP_LESSONS_OPPONENT, err));
    }
    SPAR_TRY(make_trainer(s, err));
    if (reads_reference(s) && (anchored || !other)) {
        SPAR_TRY(score_start(s, err));
    }
    if (!other) {
        sp_lessons_same_anchor(&s->data.lessons);
    }
    SPAR_TRY(against_mixture(s, err));
done:
    return status;
}

/* An example is trained on whole. */
static void warn_of_size(const session *s) {
    const size_t largest = sp_lessons_largest(&s->data.lessons, &s->objective);
    if ((int64_t)largest > s->options->max_tokens) {
        spar_sink_log(s->options->sink, SPAR_LOG_WARN,
                      "a prompt with what is computed beside it takes %zu rows, more than "
                      "--max-tokens: %lld, and as much more memory",
                      largest, (long long)s->options->max_tokens);
    }
}

/* The method, the model and the rows. */
static spar_status read_all(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_train_options *o = s->options;
    SPAR_TRY(find_method(s, err));
    SPAR_TRY(check_out(o, err));
    SPAR_TRY(sp_schedule_find(o->schedule, &s->schedule, err));
    SPAR_TRY(load_model(s, o->model, !trains(s), &s->model, err));
    SPAR_TRY(sp_offline_load(&s->data, s->model, o, &s->objective, err));
    if (o->write_ids) {
        SPAR_TRY(sp_offline_write(&s->data, &s->objective, o->write_ids, err));
    }
done:
    return status;
}

static spar_status prepare(session *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_train_options *o = s->options;
    void *memory;
    warn_of_size(s);
    if (o->lora_rank > 0) {
        const sp_lora_settings lora = {.rank = o->lora_rank,
                                       .alpha = o->lora_alpha,
                                       .dora = o->lora_dora,
                                       .targets = o->lora_targets};
        SPAR_TRY(
            sp_lora_attach(s->model, &lora, sp_rng_stream(o->seed, STREAM_ADAPTER, 0, 0), err));
    }
    const int64_t total = (int64_t)s->data.n * o->epochs;
    s->steps = o->steps > 0 ? o->steps : (total + o->batch - 1) / o->batch;
    s->warmup = sp_schedule_warmup(0, o->warmup_ratio, s->steps);
    s->pass = -1;
    SPAR_TRY(sp_mem_calloc(&memory, s->data.n, sizeof *s->order, err));
    s->order = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)o->batch, sizeof *s->batch, err));
    s->batch = memory;
    if (o->log) {
        SPAR_TRY(spar_jsonl_create(&s->log, o->log, err));
    }
    SPAR_TRY(score_reference(s, err));
done:
    return status;
}

spar_status spar_train(const spar_train_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    session s = {.options = options};
    SPAR_TRY(read_all(&s, err));
    if (!trains(&s)) {
        goto done;
    }
    SPAR_TRY(prepare(&s, err));
    status = run_steps(&s, err);
    if (s.log && (status == SPAR_OK || status == SPAR_INTERRUPTED)) {
        const spar_status logged = spar_jsonl_commit(s.log, status == SPAR_OK ? err : NULL);
        status = status == SPAR_OK ? logged : status;
    }
    SPAR_TRY(status);
    if (options->out) {
        SPAR_TRY(options->lora_rank > 0 ? spar_model_save_adapter(s.model, options->out, err)
                                        : spar_model_save(s.model, options->out, err));
    }
done:
    spar_jsonl_writer_free(s.log);
    sp_trainer_free(s.trainer);
    sp_offline_release(&s.data);
    spar_model_free(s.model);
    free(s.order);
    free(s.batch);
    return status;
}
