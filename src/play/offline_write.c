/* Rows of a data file as the ids that are trained on. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "play/offline.h"
#include "spar/jsonl.h"

static json_t *list_of_ids(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(ids[i]));
    }
    return list;
}

static json_t *list_of_mask(const uint8_t *mask, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(mask[i]));
    }
    return list;
}

static json_t *list_of_numbers(const double *values, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

static json_t *list_of_logps(const float *logps, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real((double)logps[i]));
    }
    return list;
}

static void put_single(const sp_offline_row *row, bool labelled, json_t *to) {
    const sp_offline_response *y = &row->responses[0];
    json_object_set_new(to, "completion_ids", list_of_ids(y->ids, y->n));
    if (y->mask) {
        json_object_set_new(to, "completion_mask", list_of_mask(y->mask, y->n));
    }
    if (labelled) {
        json_object_set_new(to, "label", json_boolean(y->score > 0.5));
    }
}

static void put_named(const sp_offline_row *row, json_t *to) {
    static const char *const ids[] = {"chosen_ids", "rejected_ids", "base_ids"};
    static const char *const scores[] = {"score_chosen", "score_rejected"};
    const bool scored = !isnan(row->responses[0].score) && !isnan(row->responses[1].score);
    for (size_t i = 0; i < row->n; i++) {
        const sp_offline_response *y = &row->responses[i];
        json_object_set_new(to, ids[i], list_of_ids(y->ids, y->n));
        if (i < 2 && scored) {
            json_object_set_new(to, scores[i], json_real(y->score));
        }
    }
}

/* P says more than the rates that come of it. */
static void put_matrix(const sp_offline_row *row, json_t *to) {
    json_t *matrix = json_array();
    for (size_t i = 0; i < row->n; i++) {
        json_array_append_new(matrix, list_of_numbers(row->p + i * row->n, row->n));
    }
    json_object_set_new(to, "p", matrix);
}

static void put_group(const sp_offline_row *row, bool wins, json_t *to) {
    json_t *ids = json_array(), *scores = json_array(), *logps = json_array();
    bool sampled = true;
    for (size_t i = 0; i < row->n; i++) {
        const sp_offline_response *y = &row->responses[i];
        json_array_append_new(ids, list_of_ids(y->ids, y->n));
        json_array_append_new(scores, json_real(y->score));
        sampled = sampled && y->logps;
        json_array_append_new(logps, sampled ? list_of_logps(y->logps, y->n) : json_null());
    }
    json_object_set_new(to, "responses_ids", ids);
    if (row->p) {
        put_matrix(row, to);
    } else {
        json_object_set(to, wins ? "win_rates" : "rewards", scores);
    }
    if (sampled) {
        json_object_set(to, "logprobs", logps);
    }
    json_decref(scores);
    json_decref(logps);
}

spar_status sp_offline_write(const sp_offline *data, const sp_objective *o, const char *path,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    spar_jsonl_writer *file = NULL;
    json_t *json = NULL;
    size_t fewest, most;
    sp_objective_responses(o, &fewest, &most);
    SPAR_TRY(spar_jsonl_create(&file, path, err));
    for (size_t i = 0; i < data->n; i++) {
        const sp_offline_row *row = &data->rows[i];
        json = json_pack("{s:o}", "prompt_ids", list_of_ids(row->prompt, row->n_prompt));
        if (most == 1) {
            put_single(row, o->kind == SP_OBJECTIVE_LABELLED, json);
        } else if (most == SIZE_MAX) {
            put_group(row, (sp_objective_reads(o) & SP_READS_WIN_RATE) != 0, json);
        } else {
            put_named(row, json);
        }
        SPAR_TRY(json ? spar_jsonl_put(file, json, err)
                      : spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory for a row", path));
        json_decref(json);
        json = NULL;
    }
    SPAR_TRY(spar_jsonl_commit(file, err));
done:
    json_decref(json);
    spar_jsonl_writer_free(file);
    return status;
}
