/* Saving and restoring a trainer in the middle of its work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "train/trainer_parts.h"

enum { MAX_TENSORS = 1 + SP_OPTIMIZER_MAX_STATE + 1 };

spar_status sp_trainer_save(sp_trainer *t, const char *path, int64_t stage, int64_t step,
                            spar_error *err) {
    sp_tensor_entry entries[MAX_TENSORS];
    size_t n = 0;
    int64_t total = t->trainable.total;
    int64_t place[3] = {stage, step, sp_optimizer_steps(t->optimizer)};
    entries[n++] = (sp_tensor_entry){.name = "weights",
                                     .dtype = SP_F32,
                                     .n_dims = 1,
                                     .dims = {total},
                                     .data = t->trainable.values,
                                     .n_bytes = (size_t)total * sizeof(float)};
    for (int i = 0; i < sp_optimizer_state_count(t->optimizer); i++) {
        entries[n++] = (sp_tensor_entry){.name = sp_optimizer_state_name(t->optimizer, i),
                                         .dtype = SP_F32,
                                         .n_dims = 1,
                                         .dims = {total},
                                         .data = sp_optimizer_state(t->optimizer, i),
                                         .n_bytes = (size_t)total * sizeof(float)};
    }
    entries[n++] = (sp_tensor_entry){.name = "place",
                                     .dtype = SP_I64,
                                     .n_dims = 1,
                                     .dims = {3},
                                     .data = place,
                                     .n_bytes = sizeof place};
    return sp_safetensors_write(path, entries, n, NULL, err);
}

static spar_status fetch(const sp_safetensors *file, const char *path, const char *name, void *to,
                         size_t bytes, spar_error *err) {
    const sp_tensor_entry *e = sp_safetensors_find(file, name);
    if (!e || e->n_bytes != bytes) {
        return spar_fail(err, SPAR_MISMATCH, "%s: tensor %s: expected %zu bytes, found %zu", path,
                         name, bytes, e ? e->n_bytes : 0);
    }
    memcpy(to, e->data, bytes);
    return SPAR_OK;
}

spar_status sp_trainer_state_place(const char *path, int64_t *stage, int64_t *step,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    int64_t place[3] = {-1, 0, 0};
    if (sp_file_exists(path)) {
        SPAR_TRY(sp_safetensors_open(&file, path, err));
        SPAR_TRY(fetch(file, path, "place", place, sizeof place, err));
    }
    *stage = place[0];
    *step = place[1];
done:
    sp_safetensors_free(file);
    return status;
}

spar_status sp_trainer_restore(sp_trainer *t, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    int64_t place[3];
    size_t bytes = (size_t)t->trainable.total * sizeof(float);
    SPAR_TRY(sp_safetensors_open(&file, path, err));
    SPAR_TRY(fetch(file, path, "weights", t->trainable.values, bytes, err));
    for (int i = 0; i < sp_optimizer_state_count(t->optimizer); i++) {
        SPAR_TRY(fetch(file, path, sp_optimizer_state_name(t->optimizer, i),
                       sp_optimizer_state(t->optimizer, i), bytes, err));
    }
    SPAR_TRY(fetch(file, path, "place", place, sizeof place, err));
    sp_optimizer_set_steps(t->optimizer, place[2]);
    SPAR_TRY(sp_model_prepare_trainable(t->model, err));
done:
    sp_safetensors_free(file);
    return status;
}
