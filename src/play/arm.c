/* Arms: the base, supervised epochs, and controls; what plays is in iteration.c. */
#include "play/arm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/candidate.h"
#include "play/iteration.h"
#include "play/lessons.h"
#include "play/samples.h"
#include "play/stage_train.h"
#include "play/work.h"

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

static spar_status labelled_lessons(const sp_problems *problems, sp_lessons *out, spar_error *err) {
    const spar_status status = sp_lessons_init(out, problems->n, problems->n, err);
    for (size_t i = 0; status == SPAR_OK && i < problems->n; i++) {
        const sp_problem *p = &problems->items[i];
        sp_lessons_add(out, p->prompt_ids, p->n_prompt);
        sp_lessons_reply(out, &(sp_reply){.ids = p->reference_ids, .n = p->n_reference});
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
    sp_candidate_path(path, sizeof path, stage, e->arm->name, epoch + 1);
    if (done) {
        SPAR_TRY(sp_candidate_recall(run, stage, path, e->best, kept, err));
        e->before = stage;
        goto done;
    }
    sp_run_log(run, "%s: epoch %lld of at most %lld on %zu labelled problems", e->arm->name,
               (long long)epoch + 1, (long long)e->arm->iterations, e->w.n);
    SPAR_TRY(epoch_trainer(e, epoch, err));
    e->best->loaded = false;
    e->w.first_step = epoch * sp_stage_steps(e->arm, &e->w);
    SPAR_TRY(sp_work_begin(run, stage, "train", err));
    SPAR_TRY(sp_work_end(
        run, sp_stage_train(run, stage, e->arm, e->trainer, &e->w, &sequences, err), err));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_GATE, &gate, err));
    if (gate > e->best->gate + run->recipe.gate_margin) {
        SPAR_TRY(sp_run_save_checkpoint(run, stage, path, err));
    }
    sp_best before = *e->best;
    SPAR_TRY(sp_candidate_decide(run, stage, e->arm->name, path, gate, e->best, kept, err));
    SPAR_TRY(sp_candidate_supersede(run, &before, &e->start, e->best, err));
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
    sp_lessons lessons = {0};
    epochs e = {.run = run, .arm = arm, .best = best, .start = *best};
    SPAR_TRY(labelled_lessons(&run->sets[SP_SET_TRAIN], &lessons, err));
    e.w = (sp_curriculum){.examples = lessons.examples,
                          .n = lessons.n,
                          .objective = &arm->objective,
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
    sp_lessons_release(&lessons);
    return status;
}

spar_status sp_arm_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                       int64_t *played, spar_error *err) {
    *played = arm->iterations;
    return sp_arm_plays(arm) ? sp_iterations_run(run, arm, best, sequences, played, err)
                             : run_epochs(run, arm, best, err);
}

/* ---- controls ---- */

/* The model's own verified answers: every right, complete response, once. */
static spar_status verified_lessons(const sp_problems *problems, const sp_samples *samples,
                                    sp_lessons *out, spar_error *err) {
    const spar_status status = sp_lessons_init(out, samples->n, samples->n, err);
    for (size_t i = 0; status == SPAR_OK && i < samples->n; i++) {
        const sp_play_sample *s = &samples->items[i];
        const sp_problem *p = &problems->items[s->problem];
        if (s->strict && !s->truncated) {
            sp_lessons_add(out, p->prompt_ids, p->n_prompt);
            sp_lessons_reply(out, &(sp_reply){.ids = s->ids, .n = s->n});
        }
    }
    return status;
}

static spar_status train_control(sp_run *run, int64_t stage, const sp_arm *arm, int64_t iteration,
                                 int64_t sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_problems fresh = {0};
    const sp_problems *problems = &run->sets[SP_SET_TRAIN];
    sp_samples samples = {0};
    sp_lessons lessons = {0};
    sp_objective sft;
    sp_trainer *trainer = NULL;
    int64_t trained;
    SPAR_TRY(sp_objective_find(&sft, "sft", err));
    if (arm->fresh) {
        SPAR_TRY(sp_run_fresh_problems(run, stage, arm, iteration, &fresh, err));
        problems = &fresh;
    }
    if (arm->control == SP_CONTROL_VERIFIED) {
        SPAR_TRY(sp_samples_make(run, stage, problems, (int)arm->samples, NULL, &samples, err));
        SPAR_TRY(verified_lessons(problems, &samples, &lessons, err));
    } else {
        SPAR_TRY(labelled_lessons(problems, &lessons, err));
    }
    if (lessons.n > 0 && sequences > 0) {
        sp_curriculum w = {.examples = lessons.examples,
                           .n = lessons.n,
                           .objective = &sft,
                           .sequences = sequences,
                           .lr = arm->control_lr};
        SPAR_TRY(sp_stage_trainer(run, arm, arm->control_optimizer, &trainer, err));
        SPAR_TRY(sp_work_begin(run, stage, "train", err));
        SPAR_TRY(
            sp_work_end(run, sp_stage_train(run, stage, arm, trainer, &w, &trained, err), err));
    }
done:
    sp_trainer_free(trainer);
    sp_samples_release(&samples);
    sp_problems_release(&fresh);
    sp_lessons_release(&lessons);
    return status;
}

spar_status sp_arm_run_control(sp_run *run, const sp_arm *arm, const sp_best *start,
                               const int64_t *sequences, int64_t played, spar_error *err) {
    spar_status status = SPAR_OK;
    char name[128];
    sp_best best = *start;
    snprintf(name, sizeof name, "%s control", arm->name);
    best.loaded = false;
    for (int64_t i = 0; i < played; i++) {
        int64_t stage;
        bool done, trained, kept;
        char path[256];
        sp_best before = best;
        SPAR_TRY(sp_run_stage(run, name, "control", i + 1, &stage, &done, err));
        sp_candidate_path(path, sizeof path, stage, name, i + 1);
        if (done) {
            SPAR_TRY(sp_candidate_recall(run, stage, path, &best, &kept, err));
            SPAR_TRY(sp_candidate_supersede(run, &before, start, &best, err));
            continue;
        }
        SPAR_TRY(sp_run_phase_done(run, stage, "train", &trained, err));
        if (trained) {
            SPAR_TRY(sp_candidate_load(run, path, err));
        } else {
            SPAR_TRY(sp_run_load_best(run, &best, err));
            sp_run_log(run, "%s: SFT on %lld sequences", name, (long long)sequences[i]);
            SPAR_TRY(train_control(run, stage, arm, i, sequences[i], err));
            SPAR_TRY(sp_candidate_save(run, stage, path, sequences[i], err));
        }
        best.loaded = false;
        SPAR_TRY(sp_candidate_gate(run, stage, name, path, sequences[i], &best, &kept, err));
        SPAR_TRY(sp_candidate_supersede(run, &before, start, &best, err));
    }
    if (strcmp(best.path, start->path) != 0) {
        SPAR_TRY(sp_run_drop_checkpoint(run, best.path, err));
    }
done:
    return status;
}
