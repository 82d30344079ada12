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
    if (strcmp(start.path, best->path) != 0) {
        SPAR_TRY(sp_run_drop_checkpoint(run, start.path, err));
    }
done:
    free(sequences);
    return status;
}

static spar_status run_all(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_best best;
    SPAR_TRY(sp_arm_run_base(run, &best, err));
    for (int i = 0; i < run->recipe.n_arms; i++) {
        SPAR_TRY(run_arm(run, i, &best, err));
    }
    SPAR_TRY(write_final(run, &best, err));
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
