/* Gating candidates and keeping their checkpoints. */
#include "play/candidate.h"

#include <string.h>

#include "play/stage_train.h"

void sp_candidate_path(char *out, size_t n, int64_t stage, const char *arm, int64_t iteration) {
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

spar_status sp_candidate_save(sp_run *run, int64_t stage, const char *path, int64_t sequences,
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

spar_status sp_candidate_load(sp_run *run, const char *path, spar_error *err) {
    sp_best candidate = {.loaded = false};
    snprintf(candidate.path, sizeof candidate.path, "%s", path);
    return sp_run_load_best(run, &candidate, err);
}

spar_status sp_candidate_decide(sp_run *run, int64_t stage, const char *arm, const char *path,
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

spar_status sp_candidate_gate(sp_run *run, int64_t stage, const char *arm, const char *path,
                              int64_t sequences, sp_best *best, bool *kept, spar_error *err) {
    spar_status status = SPAR_OK;
    double gate, report;
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_GATE, &gate, err));
    SPAR_TRY(sp_run_evaluate(run, stage, SP_SET_REPORT, &report, err));
    SPAR_TRY(sp_run_put_value(run, stage, "sequences", (double)sequences, err));
    SPAR_TRY(sp_candidate_decide(run, stage, arm, path, gate, best, kept, err));
done:
    return status;
}

spar_status sp_candidate_recall(sp_run *run, int64_t stage, const char *path, sp_best *best,
                                bool *kept, spar_error *err) {
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

spar_status sp_candidate_supersede(sp_run *run, const sp_best *before, const sp_best *start,
                                   const sp_best *now, spar_error *err) {
    bool needed = strcmp(before->path, start->path) == 0 || strcmp(before->path, now->path) == 0;
    return needed ? SPAR_OK : sp_run_drop_checkpoint(run, before->path, err);
}
