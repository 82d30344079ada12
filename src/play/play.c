/* The top of a run: base, arms with their controls, the kept model, the report. */
#include "spar/play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "play/arm.h"
#include "play/report.h"

static spar_status write_final(sp_run *run, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL, *adapter = NULL;
    SPAR_TRY(sp_run_path(run, "final", &path, err));
    if (sp_file_exists(path)) { /* renamed whole: it is complete */
        goto done;
    }
    SPAR_TRY(sp_run_load_best(run, best, err));
    if (run->recipe.lora.rank > 0) {
        SPAR_TRY(sp_run_path(run, "adapter", &adapter, err));
        SPAR_TRY(sp_dir_remove(adapter, err)); /* of a try that was interrupted behind it */
        SPAR_TRY(spar_model_save_adapter(run->model, adapter, err));
        sp_run_log(run, "its adapter is in %s", adapter);
    }
    SPAR_TRY(spar_model_save(run->model, path, err));
    sp_run_log(run, "the kept model is in %s", path);
done:
    free(path);
    free(adapter);
    return status;
}

static spar_status run_arm(sp_run *run, int index, sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_arm *arm = &run->recipe.arms[index];
    const sp_best start = *best;
    int64_t *sequences = NULL, played;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)arm->iterations, sizeof *sequences, err));
    sequences = memory;
    SPAR_TRY(sp_arm_run(run, arm, best, sequences, &played, err));
    const bool has_control = sp_arm_plays(arm) && arm->control != SP_CONTROL_NONE;
    if (has_control && run->controls) {
        SPAR_TRY(sp_arm_run_control(run, arm, &start, sequences, played, err));
        best->loaded = false;
    } else if (has_control) {
        run->next_ordinal += played; /* with or without: the arms are the same */
    }
done:
    free(sequences);
    return status;
}

/* The best so far, and where each arm ended. */
typedef struct tree {
    sp_best best, ends[SP_RECIPE_MAX_ARMS];
} tree;

/* Whether something behind arm `index` starts from a checkpoint. */
static bool is_needed(const sp_run *run, const tree *t, int index, const char *path) {
    bool needed = strcmp(path, t->best.path) == 0;
    for (int i = index + 1; i < run->recipe.n_arms; i++) {
        const int from = run->recipe.arms[i].from_arm;
        needed = needed || (from >= 0 && from <= index && strcmp(path, t->ends[from].path) == 0);
    }
    return needed;
}

static spar_status drop_unneeded(sp_run *run, const tree *t, int index, const char *path,
                                 spar_error *err) {
    return is_needed(run, t, index, path) ? SPAR_OK : sp_run_drop_checkpoint(run, path, err);
}

/* For the report, which knows no arms: which stage made the best model, now that an arm has ended,
 * and the last stage that there is. */
static spar_status put_best_stage(sp_run *run, const sp_best *best, spar_error *err) {
    char text[48];
    snprintf(text, sizeof text, "%lld %lld", (long long)best->stage, (long long)run->next_ordinal);
    return sp_rundb_put_meta(run->db, "best_stage", text, err);
}

/* An arm of the main line replaces the best; one that branches off must beat it on the gate set. */
static spar_status grow(sp_run *run, int index, tree *t, spar_error *err) {
    spar_status status = SPAR_OK;
    const int from = run->recipe.arms[index].from_arm;
    sp_best now = from >= 0 ? t->ends[from] : t->best;
    const sp_best start = now, before = t->best;
    now.loaded = now.loaded && from < 0;
    SPAR_TRY(run_arm(run, index, &now, err));
    t->ends[index] = now;
    t->ends[index].loaded = false;
    t->best.loaded = false;
    if (from < 0 || now.gate > t->best.gate) {
        t->best = now;
    }
    SPAR_TRY(put_best_stage(run, &t->best, err));
    SPAR_TRY(drop_unneeded(run, t, index, start.path, err));
    SPAR_TRY(drop_unneeded(run, t, index, before.path, err));
    SPAR_TRY(drop_unneeded(run, t, index, now.path, err));
done:
    return status;
}

static spar_status run_all(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    tree t = {0};
    SPAR_TRY(sp_arm_run_base(run, &t.best, err));
    for (int i = 0; i < run->recipe.n_arms; i++) {
        SPAR_TRY(grow(run, i, &t, err));
    }
    SPAR_TRY(write_final(run, &t.best, err));
    SPAR_TRY(sp_report_save(run->dir, err));
done:
    return status;
}

spar_status spar_play(const spar_play_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_run run;
    SPAR_TRY(sp_run_open(&run, options, err));
    SPAR_TRY(run_all(&run, err));
done:
    sp_run_close(&run);
    return status;
}
