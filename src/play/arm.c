/* Arms: the loop itself. A candidate is trained, saved, measured on the gate and report sets, and
 * kept when it beats the best on the gate set. */
#include "play/arm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/judged.h"
#include "play/pairs.h"
#include "play/stage_train.h"

/* ---- gating ---- */

/* Keep or drop the candidate that is in the model and at `path`. */
static spar_status decide(sp_run *run, int64_t stage, const char *arm, const char *path,
                          double gate, sp_best *best, bool *kept, spar_error *err) {
    spar_status status = SPAR_OK;
    char superseded[sizeof best->path];
    *kept = gate > best->gate + run->recipe.gate_margin;
    memcpy(superseded, best->path, sizeof superseded);
    SPAR_TRY(sp_rundb_begin(run->db, err));
    SPAR_TRY(sp_run_put_value(run, stage, "kept", *kept, err));
    SPAR_TRY(sp_run_put_value(run, stage, "gate", gate, err));
    SPAR_TRY(sp_run_put_value(run, stage, "parent", (double)best->stage, err));
    SPAR_TRY(sp_run_finish_stage(run, stage, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
    sp_run_log(run, "%s: gate %.4f, best so far %.4f: %s", arm, gate, best->gate,
               *kept ? "kept" : "thrown away");
    if (!*kept) {
        SPAR_TRY(sp_run_drop_checkpoint(run, path, err));
        best->loaded = false;
        goto done;
    }
    best->stage = stage;
    best->gate = gate;
    best->loaded = true;
    snprintf(best->path, sizeof best->path, "%s", path);
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}

/* A stage that was finished before: what it decided. */
static spar_status recall(sp_run *run, int64_t stage, const char *path, sp_best *best, bool *kept,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    double was_kept, gate;
    SPAR_TRY(sp_run_get_value(run, stage, "kept", 0, &was_kept, err));
    SPAR_TRY(sp_run_get_value(run, stage, "gate", 0, &gate, err));
    *kept = was_kept > 0.5;
    if (*kept) {
        best->stage = stage;
        best->gate = gate;
        best->loaded = false;
        snprintf(best->path, sizeof best->path, "%s", path);
    } else {
        SPAR_TRY(sp_run_drop_checkpoint(run, path, err)); /* may have been killed before this */
    }
done:
    return status;
}

static void checkpoint_name(char *out, size_t n, int64_t stage, const char *arm,
                            int64_t iteration) {
    char clean[64];
    size_t used = 0;
    for (const char *c = arm; *c && used + 1 < sizeof clean; c++) {
        bool plain =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        clean[used++] = plain ? *c : '-';
    }
    clean[used] = 0;
    snprintf(out, n, "checkpoints/%03lld-%s-%lld", (long long)stage, clean, (long long)iteration);
}

/* Superseded checkpoints go once nothing needs them: the arm's start is kept for its control. */
static spar_status drop_superseded(sp_run *run, const sp_best *before, const sp_best *start,
                                   const sp_best *now, spar_error *err) {
    bool needed = strcmp(before->path, start->path) == 0 || strcmp(before->path, now->path) == 0;
    return needed ? SPAR_OK : sp_run_drop_checkpoint(run, before->path, err);
}

/* ---- base ---- */

spar_status sp_arm_run_base(sp_run *run, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t stage;
    bool done;
    double report;
    memset(best, 0, sizeof *best);
    best->loaded = true; /* opening the run loaded it */
    SPAR_TRY(sp_run_stage(run, "base", "base", 0, &stage, &done, err));
    best->stage = stage;
    run->base_stage = stage;
    if (done) {
        SPAR_TRY(sp_run_get_value(run, stage, "gate", 0, &best->gate, err));
        goto done;
    }
    sp_run_log(run, "base: measuring %s (%s)", run->model_path, spar_model_backend(run->model));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_GATE, &best->gate, err));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_REPORT, &report, err));
    SPAR_TRY(sp_rundb_begin(run->db, err));
    SPAR_TRY(sp_run_put_value(run, stage, "gate", best->gate, err));
    SPAR_TRY(sp_run_put_value(run, stage, "kept", 1, err));
    SPAR_TRY(sp_run_finish_stage(run, stage, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
    sp_run_log(run, "base: gate %.4f", best->gate);
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}

/* ---- supervised epochs ---- */

static spar_status labelled_examples(const sp_problems *problems, sp_example **out,
                                     spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, problems->n, sizeof **out, err);
    if (status != SPAR_OK) {
        return status;
    }
    *out = memory;
    for (size_t i = 0; i < problems->n; i++) {
        const sp_problem *p = &problems->items[i];
        (*out)[i] = (sp_example){.prompt = p->prompt_ids,
                                 .chosen = p->reference_ids,
                                 .n_prompt = p->n_prompt,
                                 .n_chosen = p->n_reference};
    }
    return status;
}

typedef struct epochs {
    sp_run *run;
    const sp_arm *arm;
    sp_best *best;
    sp_best start;
    sp_trainer *trainer; /* NULL until the first epoch that is not finished */
    sp_curriculum w;
    int64_t before; /* stage of the epoch before, whose end the trainer stands at */
} epochs;

/* The trainer at the end of the epoch before: fresh for the first, else restored. */
static spar_status epoch_trainer(epochs *e, int64_t epoch, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    if (e->trainer) {
        goto done;
    }
    e->start.loaded = e->best->loaded && strcmp(e->best->path, e->start.path) == 0;
    SPAR_TRY(sp_run_load_best(e->run, &e->start, err));
    SPAR_TRY(sp_stage_trainer(e->run, e->arm, e->arm->optimizer, &e->trainer, err));
    if (epoch > 0) {
        int64_t stage, step;
        SPAR_TRY(sp_run_path(e->run, "state.safetensors", &path, err));
        SPAR_TRY(sp_trainer_state_place(path, &stage, &step, err));
        if (stage < e->before) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                               "%s: expected the trainer after epoch %lld, found an older one",
                               path, (long long)epoch));
        }
        SPAR_TRY(sp_trainer_restore(e->trainer, path, err));
    }
done:
    free(path);
    return status;
}

static spar_status run_epoch(epochs *e, int64_t epoch, bool *kept, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_run *run = e->run;
    int64_t stage, sequences;
    bool done;
    double gate;
    char path[256];
    SPAR_TRY(sp_run_stage(run, e->arm->name, "epoch", epoch + 1, &stage, &done, err));
    checkpoint_name(path, sizeof path, stage, e->arm->name, epoch + 1);
    if (done) {
        SPAR_TRY(recall(run, stage, path, e->best, kept, err));
        e->before = stage;
        goto done;
    }
    sp_run_log(run, "%s: epoch %lld of at most %lld on %zu labelled problems", e->arm->name,
               (long long)epoch + 1, (long long)e->arm->iterations, e->w.n);
    SPAR_TRY(epoch_trainer(e, epoch, err));
    e->best->loaded = false;
    e->w.first_step = epoch * sp_stage_steps(e->arm, &e->w);
    SPAR_TRY(sp_stage_train(run, stage, e->arm, e->trainer, &e->w, &sequences, err));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_GATE, &gate, err));
    if (gate > e->best->gate + run->recipe.gate_margin) {
        SPAR_TRY(sp_run_save_checkpoint(run, stage, path, err));
    }
    sp_best before = *e->best;
    SPAR_TRY(decide(run, stage, e->arm->name, path, gate, e->best, kept, err));
    SPAR_TRY(drop_superseded(run, &before, &e->start, e->best, err));
    e->before = stage;
done:
    return status;
}

/* The report set is measured once, on the epoch that is kept. */
static spar_status report_best(sp_run *run, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    double ignored;
    char phase[32];
    snprintf(phase, sizeof phase, "evaluate %s", sp_set_names[SP_SET_REPORT]);
    SPAR_TRY(sp_run_phase_done(run, best->stage, phase, &done, err));
    if (!done) {
        SPAR_TRY(sp_run_load_best(run, best, err));
    }
    SPAR_TRY(sp_run_evaluate(run, best->stage, SP_SET_REPORT, &ignored, err));
done:
    return status;
}

static spar_status run_epochs(sp_run *run, const sp_arm *arm, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_example *examples = NULL;
    epochs e = {.run = run, .arm = arm, .best = best, .start = *best};
    SPAR_TRY(labelled_examples(&run->sets[SP_SET_TRAIN], &examples, err));
    e.w = (sp_curriculum){.examples = examples,
                          .n = run->sets[SP_SET_TRAIN].n,
                          .epochs = 1,
                          .lr = arm->lr,
                          .keep_state = true};
    e.w.total_steps = arm->iterations * sp_stage_steps(arm, &e.w);
    bool kept = true;
    for (int64_t epoch = 0; epoch < arm->iterations && kept; epoch++) {
        SPAR_TRY(run_epoch(&e, epoch, &kept, err));
    }
    sp_trainer_free(e.trainer);
    e.trainer = NULL;
    SPAR_TRY(sp_stage_drop_state(run, err));
    SPAR_TRY(report_best(run, best, err));
done:
    sp_trainer_free(e.trainer);
    free(examples);
    return status;
}

/* ---- self-play iterations ---- */

/* An iteration's samples and pairs. */
typedef struct turn {
    sp_samples samples;
    sp_pairs pairs;
} turn;

static void release_turn(turn *t) {
    sp_samples_release(&t->samples);
    sp_pairs_release(&t->pairs);
}

static void add_pair(sp_example *out, const sp_problems *problems, const turn *t,
                     const sp_play_pair *pair) {
    const sp_problem *p = &problems->items[pair->problem];
    const sp_play_sample *rejected = &t->samples.items[pair->rejected];
    *out = (sp_example){.prompt = p->prompt_ids,
                        .n_prompt = p->n_prompt,
                        .chosen = p->reference_ids,
                        .n_chosen = p->n_reference,
                        .rejected = rejected->ids,
                        .n_rejected = rejected->n,
                        .kept_rejected = rejected->logps};
    if (pair->chosen >= 0) {
        const sp_play_sample *chosen = &t->samples.items[pair->chosen];
        out->chosen = chosen->ids;
        out->n_chosen = chosen->n;
        out->kept_chosen = chosen->logps;
    }
}

/* This iteration's pairs and, as SPIN has it from the second iteration on, a share of those of the
 * iteration before (taken at random). The log-probs kept with the older samples are another
 * opponent's: kept_rejected is cleared. */
static spar_status gather(sp_run *run, int64_t stage, const sp_arm *arm,
                          const sp_problems *problems, const turn *now, const turn *before,
                          sp_example **out, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    uint32_t *order = NULL;
    size_t old = arm->pairing == SP_PAIR_REAL && !arm->fresh
                     ? (size_t)(arm->mix_previous * (double)before->pairs.n)
                     : 0;
    SPAR_TRY(sp_mem_calloc(&memory, now->pairs.n + old, sizeof **out, err));
    *out = memory;
    SPAR_TRY(sp_mem_calloc(&memory, before->pairs.n, sizeof *order, err));
    order = memory;
    *n = 0;
    for (size_t i = 0; i < now->pairs.n; i++) {
        add_pair(&(*out)[(*n)++], problems, now, &now->pairs.items[i]);
    }
    sp_rng_shuffle(run->seed, sp_rng_stream((uint64_t)stage, 7, 0, 0), order,
                   (uint32_t)before->pairs.n);
    for (size_t i = 0; i < old; i++) {
        add_pair(&(*out)[*n], problems, before, &before->pairs.items[order[i]]);
        (*out)[(*n)++].kept_rejected = NULL;
    }
done:
    free(order);
    return status;
}

static double sum_logps(const float *x, size_t n) {
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        total += (double)x[i];
    }
    return total;
}

/* Reference log-probs of the examples: the trainer's own pass, or those kept from sampling where
 * both responses have them. How far the two differ is measured either way. */
static spar_status score_opponent(sp_run *run, int64_t stage, const sp_arm *arm, sp_trainer *t,
                                  sp_example *e, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_logp_gap gap;
    double *scores = NULL;
    void *memory;
    bool all_kept = true;
    for (size_t i = 0; i < n; i++) {
        all_kept = all_kept && e[i].kept_chosen && e[i].kept_rejected;
    }
    bool exact = arm->exact_reference || !all_kept;
    size_t scored = exact || n < 32 ? n : 32; /* enough to measure the difference */
    SPAR_TRY(sp_mem_calloc(&memory, 2 * n, sizeof *scores, err));
    scores = memory;
    SPAR_TRY(sp_trainer_score(t, e, scored, scores, scores + n, &gap, err));
    for (size_t i = 0; i < n; i++) {
        e[i].ref_chosen = exact ? scores[i] : sum_logps(e[i].kept_chosen, e[i].n_chosen);
        e[i].ref_rejected = exact ? scores[n + i] : sum_logps(e[i].kept_rejected, e[i].n_rejected);
    }
    double mean = gap.n ? gap.sum / (double)gap.n : 0;
    SPAR_TRY(sp_run_put_value(run, stage, "logp_gap_mean", mean, err));
    SPAR_TRY(sp_run_put_value(run, stage, "logp_gap_max", gap.max, err));
    sp_run_log(run,
               "log-probs of sampler and trainer differ by %.2e on average, %.2e at most, over "
               "%lld tokens; the opponent is scored by the %s",
               mean, gap.max, (long long)gap.n, exact ? "trainer's pass" : "sampler's log-probs");
done:
    free(scores);
    return status;
}

static spar_status train_pairs(sp_run *run, int64_t stage, const sp_arm *arm,
                               const sp_problems *problems, const turn *now, const turn *before,
                               int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_example *examples = NULL;
    sp_trainer *trainer = NULL;
    size_t n = 0;
    *sequences = 0;
    SPAR_TRY(gather(run, stage, arm, problems, now, before, &examples, &n, err));
    sp_run_log(run, "%s: %zu samples gave %zu pairs; training on %zu", arm->name, now->samples.n,
               now->pairs.n, n);
    if (n > 0) {
        sp_curriculum w = {.examples = examples,
                           .n = n,
                           .epochs = arm->epochs,
                           .loss = arm->loss,
                           .loss_params = arm->loss_params,
                           .lr = arm->lr};
        SPAR_TRY(sp_stage_trainer(run, arm, arm->optimizer, &trainer, err));
        SPAR_TRY(score_opponent(run, stage, arm, trainer, examples, n, err));
        SPAR_TRY(sp_stage_train(run, stage, arm, trainer, &w, sequences, err));
    }
done:
    sp_trainer_free(trainer);
    free(examples);
    return status;
}

/* Measure the trained candidate and gate it. */
static spar_status judge_candidate(sp_run *run, int64_t stage, const char *arm, const char *path,
                                   int64_t sequences, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    double gate, report;
    bool kept;
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_GATE, &gate, err));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_REPORT, &report, err));
    SPAR_TRY(sp_run_put_value(run, stage, "sequences", (double)sequences, err));
    SPAR_TRY(decide(run, stage, arm, path, gate, best, &kept, err));
done:
    return status;
}

/* The trained weights as a checkpoint: the phase "train". A stage killed later loads them back. */
static spar_status finish_training(sp_run *run, int64_t stage, const char *path, int64_t sequences,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_run_save_checkpoint(run, stage, path, err));
    SPAR_TRY(sp_rundb_begin(run->db, err));
    SPAR_TRY(sp_run_put_value(run, stage, "sequences", (double)sequences, err));
    SPAR_TRY(sp_rundb_put_phase(run->db, stage, "train", 1, 1, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
    SPAR_TRY(sp_stage_drop_state(run, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}

static spar_status load_candidate(sp_run *run, const char *path, spar_error *err) {
    sp_best candidate = {.loaded = false};
    snprintf(candidate.path, sizeof candidate.path, "%s", path);
    return sp_run_load_best(run, &candidate, err);
}

/* Sample, judge where the arm's pairs are judged, and pair: what a finished stage reads back. */
static spar_status make_turn(sp_run *run, int64_t stage, const sp_arm *arm,
                             const sp_problems *problems, turn *now, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_judged judged = {0};
    const bool judge = arm->pairing == SP_PAIR_JUDGED;
    SPAR_TRY(sp_samples_make(run, stage, problems, (int)arm->samples, &now->samples, err));
    if (judge) {
        SPAR_TRY(sp_judged_make(run, stage, problems, &now->samples, &judged, err));
    }
    SPAR_TRY(sp_pairs_make(run, stage, arm, problems, &now->samples, judge ? &judged : NULL,
                           &now->pairs, err));
done:
    sp_judged_release(&judged);
    return status;
}

static spar_status run_iteration(sp_run *run, const sp_arm *arm, int64_t iteration, sp_best *best,
                                 const sp_best *start, turn *now, const turn *before,
                                 int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t stage;
    bool done, trained, kept;
    double stored;
    char path[256];
    sp_problems fresh = {0};
    const sp_problems *problems = &run->sets[SP_SET_TRAIN];
    SPAR_TRY(sp_run_stage(run, arm->name, "iteration", iteration + 1, &stage, &done, err));
    checkpoint_name(path, sizeof path, stage, arm->name, iteration + 1);
    if (arm->fresh) {
        SPAR_TRY(sp_run_fresh_problems(run, stage, arm, iteration, &fresh, err));
        problems = &fresh;
    }
    SPAR_TRY(sp_run_phase_done(run, stage, "train", &trained, err));
    if (!trained) {
        SPAR_TRY(sp_run_load_best(run, best, err));
    }
    sp_best before_best = *best;
    SPAR_TRY(make_turn(run, stage, arm, problems, now, err));
    if (done) {
        SPAR_TRY(sp_run_get_value(run, stage, "sequences", 0, &stored, err));
        *sequences = (int64_t)stored;
        SPAR_TRY(recall(run, stage, path, best, &kept, err));
    } else {
        best->loaded = false;
        if (trained) {
            SPAR_TRY(sp_run_get_value(run, stage, "sequences", 0, &stored, err));
            *sequences = (int64_t)stored;
            SPAR_TRY(load_candidate(run, path, err));
        } else {
            SPAR_TRY(train_pairs(run, stage, arm, problems, now, before, sequences, err));
            SPAR_TRY(finish_training(run, stage, path, *sequences, err));
        }
        SPAR_TRY(judge_candidate(run, stage, arm->name, path, *sequences, best, err));
    }
    SPAR_TRY(drop_superseded(run, &before_best, start, best, err));
done:
    sp_problems_release(&fresh);
    return status;
}

static spar_status run_iterations(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_best start = *best;
    turn turns[2];
    memset(turns, 0, sizeof turns);
    for (int64_t i = 0; i < arm->iterations; i++) {
        turn *now = &turns[i % 2];
        release_turn(now);
        SPAR_TRY(
            run_iteration(run, arm, i, best, &start, now, &turns[(i + 1) % 2], &sequences[i], err));
    }
done:
    release_turn(&turns[0]);
    release_turn(&turns[1]);
    return status;
}

spar_status sp_arm_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                       spar_error *err) {
    return arm->loss ? run_iterations(run, arm, best, sequences, err)
                     : run_epochs(run, arm, best, err);
}

/* ---- controls ---- */

/* The model's own verified answers: every right, complete response, once. */
static spar_status verified_examples(const sp_problems *problems, const sp_samples *samples,
                                     sp_example **out, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, sizeof **out, err));
    *out = memory;
    *n = 0;
    for (size_t i = 0; i < samples->n; i++) {
        const sp_play_sample *s = &samples->items[i];
        const sp_problem *p = &problems->items[s->problem];
        if (s->strict && !s->truncated) {
            (*out)[(*n)++] = (sp_example){.prompt = p->prompt_ids,
                                          .n_prompt = p->n_prompt,
                                          .chosen = s->ids,
                                          .n_chosen = s->n};
        }
    }
done:
    return status;
}

static spar_status train_control(sp_run *run, int64_t stage, const sp_arm *arm, int64_t iteration,
                                 int64_t sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_problems fresh = {0};
    const sp_problems *problems = &run->sets[SP_SET_TRAIN];
    sp_samples samples = {0};
    sp_example *examples = NULL;
    sp_trainer *trainer = NULL;
    size_t n;
    int64_t trained;
    if (arm->fresh) {
        SPAR_TRY(sp_run_fresh_problems(run, stage, arm, iteration, &fresh, err));
        problems = &fresh;
    }
    n = problems->n;
    if (arm->control == SP_CONTROL_VERIFIED) {
        SPAR_TRY(sp_samples_make(run, stage, problems, (int)arm->samples, &samples, err));
        SPAR_TRY(verified_examples(problems, &samples, &examples, &n, err));
    } else {
        SPAR_TRY(labelled_examples(problems, &examples, err));
    }
    if (n > 0 && sequences > 0) {
        sp_curriculum w = {
            .examples = examples, .n = n, .sequences = sequences, .lr = arm->control_lr};
        SPAR_TRY(sp_stage_trainer(run, arm, arm->control_optimizer, &trainer, err));
        SPAR_TRY(sp_stage_train(run, stage, arm, trainer, &w, &trained, err));
    }
done:
    sp_trainer_free(trainer);
    sp_samples_release(&samples);
    sp_problems_release(&fresh);
    free(examples);
    return status;
}

spar_status sp_arm_run_control(sp_run *run, const sp_arm *arm, const sp_best *start,
                               const int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    char name[128];
    sp_best best = *start;
    snprintf(name, sizeof name, "%s control", arm->name);
    best.loaded = false;
    for (int64_t i = 0; i < arm->iterations; i++) {
        int64_t stage;
        bool done, trained, kept;
        char path[256];
        sp_best before = best;
        SPAR_TRY(sp_run_stage(run, name, "control", i + 1, &stage, &done, err));
        checkpoint_name(path, sizeof path, stage, name, i + 1);
        if (done) {
            SPAR_TRY(recall(run, stage, path, &best, &kept, err));
            SPAR_TRY(drop_superseded(run, &before, start, &best, err));
            continue;
        }
        SPAR_TRY(sp_run_phase_done(run, stage, "train", &trained, err));
        if (trained) {
            SPAR_TRY(load_candidate(run, path, err));
        } else {
            SPAR_TRY(sp_run_load_best(run, &best, err));
            sp_run_log(run, "%s: SFT on %lld sequences", name, (long long)sequences[i]);
            SPAR_TRY(train_control(run, stage, arm, i, sequences[i], err));
            SPAR_TRY(finish_training(run, stage, path, sequences[i], err));
        }
        best.loaded = false;
        SPAR_TRY(judge_candidate(run, stage, name, path, sequences[i], &best, err));
        SPAR_TRY(drop_superseded(run, &before, start, &best, err));
    }
    if (strcmp(best.path, start->path) != 0) {
        SPAR_TRY(sp_run_drop_checkpoint(run, best.path, err));
    }
done:
    return status;
}
