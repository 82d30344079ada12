#include "play/stage_train.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "play/work.h"

enum { STREAM_ORDER = 4 };

spar_status sp_stage_trainer(sp_run *run, const sp_arm *arm, const char *optimizer,
                             sp_trainer **out, spar_error *err) {
    sp_trainer_options options = {.optimizer = optimizer,
                                  .beta1 = arm->adam_beta1,
                                  .beta2 = arm->adam_beta2,
                                  .eps = arm->adam_eps,
                                  .weight_decay = arm->weight_decay,
                                  .alpha = arm->rms_alpha,
                                  .max_grad_norm = arm->max_grad_norm,
                                  .max_tokens = arm->max_tokens,
                                  .seed = run->seed,
                                  .recompute = arm->recompute,
                                  .sequence_mean = arm->sequence_mean,
                                  .balance = arm->balance};
    return sp_trainer_create(out, run->model, &options, err);
}

static spar_status state_path(const sp_run *run, char **out, spar_error *err) {
    return sp_run_path(run, "state.safetensors", out, err);
}

spar_status sp_stage_drop_state(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    SPAR_TRY(state_path(run, &path, err));
    SPAR_TRY(sp_dir_remove(path, err));
done:
    free(path);
    return status;
}

static int64_t total_examples(const sp_curriculum *w) {
    return w->sequences > 0 ? w->sequences : (int64_t)w->n * w->epochs;
}

/* Sequences that are learned from: of KTO's two responses of an example, one is only scored. */
static int64_t total_sequences(const sp_curriculum *w) {
    int64_t replies = 0;
    if (w->sequences > 0 || w->objective->kind == SP_OBJECTIVE_LABELLED) {
        return total_examples(w);
    }
    for (size_t i = 0; i < w->n; i++) {
        replies += (int64_t)w->examples[i].n_replies;
    }
    return replies * w->epochs;
}

int64_t sp_stage_steps(const sp_arm *arm, const sp_curriculum *w) {
    return (total_examples(w) + arm->batch - 1) / arm->batch;
}

/* Example i of the stage: pass after pass, each in an order of its own. */
typedef struct order {
    uint64_t seed, stage;
    uint32_t *index; /* owned, [n] */
    size_t n;
    int64_t pass; /* that index holds; -1: none */
} order;

static const sp_example *nth(order *o, const sp_curriculum *w, int64_t i) {
    int64_t pass = i / (int64_t)w->n;
    if (pass != o->pass) {
        sp_rng_shuffle(o->seed, sp_rng_stream(STREAM_ORDER, o->stage, (uint64_t)pass, 0), o->index,
                       (uint32_t)o->n);
        o->pass = pass;
    }
    return &w->examples[o->index[i % (int64_t)w->n]];
}

static spar_status put(sp_run *run, int64_t stage, int64_t step, const char *name, double value,
                       spar_error *err) {
    sp_rundb_metric row = {.stage = stage, .step = step, .name = name, .value = value};
    return sp_rundb_put_metric(run->db, &row, err);
}

static spar_status store_step(sp_run *run, int64_t stage, int64_t step, const sp_step_stats *s,
                              bool pairs, spar_error *err) {
    const struct {
        const char *name;
        double value;
        bool there;
    } rows[] = {{"loss", s->loss, true},
                {"margin", s->margin, pairs},
                {"accuracy", s->accuracy, pairs},
                {"s_chosen", s->s_chosen, pairs},
                {"s_rejected", s->s_rejected, pairs},
                {"kl", s->kl, pairs},
                {"balance", s->balance, s->balance > 0},
                {"grad_norm", s->grad_norm, true},
                {"lr", s->lr, true},
                {"changed_f32", s->changed_f32, true},
                {"changed_bf16", s->changed_bf16, true},
                {"tokens", (double)s->tokens, true},
                {"response_tokens", (double)s->response_tokens, true}};
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].there) {
            SPAR_TRY(put(run, stage, step, rows[i].name, rows[i].value, err));
        }
    }
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}

static void report(const sp_run *run, int64_t step, int64_t steps, const sp_step_stats *s,
                   bool pairs, double rate) {
    char detail[160];
    if (pairs) {
        snprintf(detail, sizeof detail, "loss %.4f margin %+.4f accuracy %.2f |g| %.2f", s->loss,
                 s->margin, s->accuracy, s->grad_norm);
    } else {
        snprintf(detail, sizeof detail, "loss %.4f |g| %.2f", s->loss, s->grad_norm);
    }
    spar_progress progress = {.phase = "train",
                              .done = (double)step,
                              .total = (double)steps,
                              .unit = "steps",
                              .rate = rate,
                              .detail = detail};
    spar_sink_progress(&run->sink, &progress);
}

typedef struct session {
    sp_run *run;
    int64_t stage;
    const sp_arm *arm;
    sp_trainer *trainer;
    const sp_curriculum *w;
    sp_example *batch; /* owned, [arm->batch] */
    order order;
    char *state; /* owned path */
    int64_t steps;
    const sp_schedule *schedule;
    int64_t warmup, schedule_steps;
} session;

static spar_status run_step(session *s, int64_t step, sp_step_stats *stats, spar_error *err) {
    const sp_curriculum *w = s->w;
    int64_t begin = step * s->arm->batch;
    int64_t end = begin + s->arm->batch;
    int64_t total = total_examples(w);
    size_t n = 0;
    for (int64_t i = begin; i < end && i < total; i++) {
        s->batch[n++] = *nth(&s->order, w, i);
    }
    double lr =
        w->lr * sp_schedule_factor(s->schedule, w->first_step + step, s->warmup, s->schedule_steps);
    return sp_trainer_step(s->trainer, s->batch, n, w->objective, lr, stats, err);
}

/* Where to begin: at 0, or at the step that the saved state of this stage stands at. */
static spar_status resume_step(session *s, int64_t *step, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t saved_stage;
    *step = 0;
    SPAR_TRY(sp_trainer_state_place(s->state, &saved_stage, step, err));
    if (saved_stage != s->stage) {
        *step = 0;
    } else {
        SPAR_TRY(sp_trainer_restore(s->trainer, s->state, err));
        sp_run_log(s->run, "training goes on at step %lld of %lld", (long long)*step,
                   (long long)s->steps);
    }
done:
    return status;
}

static spar_status run_steps(session *s, int64_t from, spar_error *err) {
    spar_status status = SPAR_OK;
    const double begun = sp_now();
    double tokens = 0;
    const bool compares = s->w->objective->kind != SP_OBJECTIVE_SFT;
    for (int64_t step = from; step < s->steps; step++) {
        sp_step_stats stats;
        if (sp_run_stopped(s->run)) {
            SPAR_TRY(sp_trainer_save(s->trainer, s->state, s->stage, step, err));
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "training was stopped at step %lld of %lld",
                               (long long)step, (long long)s->steps));
        }
        SPAR_TRY(run_step(s, step, &stats, err));
        SPAR_TRY(store_step(s->run, s->stage, step + 1, &stats, compares, err));
        sp_work_tick(s->run);
        tokens += (double)stats.tokens;
        report(s->run, step + 1, s->steps, &stats, compares, tokens / (sp_now() - begun));
        int64_t every = s->run->recipe.checkpoint_steps;
        if (every > 0 && (step + 1) % every == 0 && step + 1 < s->steps) {
            SPAR_TRY(sp_trainer_save(s->trainer, s->state, s->stage, step + 1, err));
        }
    }
    if (s->w->keep_state && from < s->steps) {
        SPAR_TRY(sp_trainer_save(s->trainer, s->state, s->stage, s->steps, err));
    }
done:
    return status;
}

spar_status sp_stage_train(sp_run *run, int64_t stage, const sp_arm *arm, sp_trainer *trainer,
                           const sp_curriculum *w, int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    int64_t from;
    session s = {.run = run,
                 .stage = stage,
                 .arm = arm,
                 .trainer = trainer,
                 .w = w,
                 .order = {.seed = run->seed, .stage = (uint64_t)stage, .n = w->n, .pass = -1},
                 .steps = sp_stage_steps(arm, w)};
    s.schedule_steps = w->total_steps ? w->total_steps : s.steps;
    SPAR_TRY(sp_schedule_find(arm->schedule, &s.schedule, err));
    s.warmup = sp_schedule_warmup(0, arm->warmup_ratio, s.schedule_steps);
    SPAR_TRY(state_path(run, &s.state, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)arm->batch, sizeof *s.batch, err));
    s.batch = memory;
    SPAR_TRY(sp_mem_calloc(&memory, w->n, sizeof *s.order.index, err));
    s.order.index = memory;
    SPAR_TRY(resume_step(&s, &from, err));
    SPAR_TRY(run_steps(&s, from, err));
    *sequences = total_sequences(w);
done:
    free(s.batch);
    free(s.order.index);
    free(s.state);
    return status;
}
