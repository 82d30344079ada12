#include "model/reward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/model_create.h"

enum {
    PACK_TOKENS = 2048, /* of a pass, as long as it holds more than one row */
    MAX_OUTPUTS = 1 << 16
};

/* A layer of the head; its values are owned. */
typedef struct head_layer {
    sp_weight w; /* data NULL: there is none */
    float *values, *bias;
} head_layer;

struct sp_reward {
    spar_model *model; /* owned */
    sp_pass *pass;     /* owned */
    sp_batch batch;
    head_layer first, last; /* first alone, or first, ReLU, last */
    head_layer prompt;      /* of a general preference model that has one */
    int64_t labels;
    bool embeds; /* the outputs are an embedding of pairs of coordinates */
};

static spar_status check_layer(const sp_tensor_entry *e, int64_t in, const char *dir,
                               spar_error *err) {
    const bool matrix = in > 0;
    if (!sp_dtype_info_of(e->dtype)->to_f32) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: tensor %s: expected a floating-point type, found %s", dir, e->name,
                         sp_dtype_info_of(e->dtype)->name);
    }
    if (e->n_dims != (matrix ? 2 : 1) || e->dims[0] < 1 || e->dims[0] > MAX_OUTPUTS ||
        (matrix && e->dims[1] != in)) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s: tensor %s: expected 1 to %d rows of %lld, found %lld of %lld in %d "
                         "dimensions",
                         dir, e->name, MAX_OUTPUTS, (long long)(matrix ? in : 1),
                         (long long)(e->n_dims > 0 ? e->dims[0] : 1),
                         (long long)(e->n_dims > 1 ? e->dims[1] : 1), e->n_dims);
    }
    return SPAR_OK;
}

static spar_status read_floats(const sp_tensor_entry *e, float **out, spar_error *err) {
    const size_t n = (size_t)(e->dims[0] * (e->n_dims == 2 ? e->dims[1] : 1));
    void *memory;
    const spar_status status = sp_mem_aligned(&memory, n, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        sp_dtype_info_of(e->dtype)->to_f32(e->data, *out, (int64_t)n);
    }
    return status;
}

static spar_status read_layer(head_layer *l, const sp_safetensors *file, const char *stem,
                              int64_t in, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char name[64];
    snprintf(name, sizeof name, "%s.weight", stem);
    const sp_tensor_entry *weight = sp_safetensors_find(file, name);
    if (!weight) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", dir, name));
    }
    SPAR_TRY(check_layer(weight, in, dir, err));
    SPAR_TRY(read_floats(weight, &l->values, err));
    l->w = (sp_weight){.data = l->values, .out = weight->dims[0], .in = in};
    snprintf(name, sizeof name, "%s.bias", stem);
    const sp_tensor_entry *bias = sp_safetensors_find(file, name);
    if (bias) {
        SPAR_TRY(check_layer(bias, 0, dir, err));
        if (bias->dims[0] != l->w.out) {
            SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                               "%s: tensor %s: expected %lld values, found %lld", dir, name,
                               (long long)l->w.out, (long long)bias->dims[0]));
        }
        SPAR_TRY(read_floats(bias, &l->bias, err));
    }
done:
    return status;
}

static spar_status load_prompt_head(sp_reward *r, const sp_safetensors *file, const char *dir,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = r->model->backend;
    if (!sp_safetensors_find(file, "prompt_head.weight")) {
        return SPAR_OK;
    }
    SPAR_TRY(read_layer(&r->prompt, file, "prompt_head", r->model->config.hidden, dir, err));
    if (!r->embeds || 2 * r->prompt.w.out != r->labels) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: tensor prompt_head.weight: expected a row for two of value_head's "
                           "%lld, found %lld",
                           dir, (long long)r->labels, (long long)r->prompt.w.out));
    }
    SPAR_TRY(be->ops->weight_prepare(be, &r->prompt.w, SP_PREPARE_FORWARD, err));
done:
    return status;
}

static spar_status load_head(sp_reward *r, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    sp_backend *be = r->model->backend;
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    const bool two = sp_safetensors_find(file, "score.0.weight") != NULL;
    const bool value = !two && sp_safetensors_find(file, "value_head.weight") != NULL;
    const char *stem = two ? "score.0" : value ? "value_head" : "score";
    SPAR_TRY(read_layer(&r->first, file, stem, r->model->config.hidden, dir, err));
    SPAR_TRY(be->ops->weight_prepare(be, &r->first.w, SP_PREPARE_FORWARD, err));
    r->labels = r->first.w.out;
    if (two) {
        SPAR_TRY(read_layer(&r->last, file, "score.2", r->first.w.out, dir, err));
        SPAR_TRY(be->ops->weight_prepare(be, &r->last.w, SP_PREPARE_FORWARD, err));
        r->labels = r->last.w.out;
    }
    r->embeds = value && r->labels % 2 == 0;
    SPAR_TRY(load_prompt_head(r, file, dir, err));
done:
    sp_safetensors_free(file);
    return status;
}

spar_status sp_reward_load(sp_reward **out, const char *dir, const spar_model_options *options,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    sp_reward *r = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *r, err));
    r = memory;
    sp_batch_init(&r->batch);
    SPAR_TRY(sp_model_load_scorer(&r->model, dir, options, err));
    SPAR_TRY(load_head(r, dir, err));
    SPAR_TRY(sp_pass_create(&r->pass, r->model, SP_PASS_INFER, err));
    *out = r;
    r = NULL;
done:
    sp_reward_free(r);
    return status;
}

static void release_layer(sp_reward *r, head_layer *l) {
    if (l->w.data) {
        r->model->backend->ops->weight_release(r->model->backend, &l->w);
    }
    free(l->values);
    free(l->bias);
}

void sp_reward_free(sp_reward *r) {
    if (!r) {
        return;
    }
    sp_pass_free(r->pass);
    release_layer(r, &r->first);
    release_layer(r, &r->last);
    release_layer(r, &r->prompt);
    sp_batch_release(&r->batch);
    spar_model_free(r->model);
    free(r);
}

spar_model *sp_reward_model(const sp_reward *r) {
    return r->model;
}

int64_t sp_reward_labels(const sp_reward *r) {
    return r->labels;
}

int64_t sp_reward_planes(const sp_reward *r) {
    return r->embeds ? r->labels / 2 : 0;
}

/* The second layer on x [n, M], made nonnegative first; operand [n, M] is its space. */
static spar_status apply_last(sp_reward *r, float *x, int64_t n, void *operand, float *out,
                              spar_error *err) {
    sp_backend *be = r->model->backend;
    const int64_t cells = n * r->last.w.in;
    for (int64_t i = 0; i < cells; i++) {
        x[i] = x[i] > 0 ? x[i] : 0;
    }
    be->ops->to_operand(be, x, cells, 1, operand);
    return be->ops->linear(be, &r->last.w, r->last.bias, operand, n, out, false, err);
}

/* The head on rows of the batch whose forward pass was made: out [n, labels]. */
static spar_status apply_head(sp_reward *r, const int64_t *rows, int64_t n, float *out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    void *middle = NULL, *operand = NULL;
    if (!r->last.w.data) {
        return sp_pass_project(r->pass, &r->first.w, r->first.bias, rows, n, out, err);
    }
    SPAR_TRY(sp_mem_aligned(&middle, (size_t)(n * r->first.w.out), sizeof(float), err));
    SPAR_TRY(sp_mem_aligned(&operand, (size_t)(n * r->first.w.out), sizeof(float), err));
    SPAR_TRY(sp_pass_project(r->pass, &r->first.w, r->first.bias, rows, n, middle, err));
    SPAR_TRY(apply_last(r, middle, n, operand, out, err));
done:
    free(middle);
    free(operand);
    return status;
}

static spar_status check_row(const sp_reward *r, const sp_token_row *row, spar_error *err) {
    if (row->n < 1 || (int64_t)row->n > r->model->config.context) {
        return spar_fail(err, row->n < 1 ? SPAR_INVALID : SPAR_LIMIT,
                         "expected a row of 1 to %lld tokens, found %zu",
                         (long long)r->model->config.context, row->n);
    }
    return sp_model_check_ids(r->model, row->ids, row->n, err);
}

/* The last token that is no padding; the first one where all are. */
static int64_t last_token(const sp_reward *r, const sp_token_row *row) {
    size_t n = row->n;
    while (n > 1 && row->ids[n - 1] == r->model->config.pad) {
        n--;
    }
    return (int64_t)n - 1;
}

/* Rows from rows[0] on, as many as make one pass: *taken of them, scored to out. */
static spar_status score_some(sp_reward *r, const sp_token_row *rows, size_t n, int64_t *at,
                              float *out, size_t *taken, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t tokens = 0, k = 0;
    sp_batch_clear(&r->batch);
    while (k < n && (k == 0 || tokens + rows[k].n <= PACK_TOKENS)) {
        at[k] = (int64_t)tokens + last_token(r, &rows[k]);
        SPAR_TRY(sp_batch_add(&r->batch, -1, rows[k].ids, rows[k].n, NULL, err));
        tokens += rows[k++].n;
    }
    SPAR_TRY(sp_pass_forward(r->pass, &r->batch, NULL, err));
    SPAR_TRY(apply_head(r, at, (int64_t)k, out, err));
    *taken = k;
done:
    return status;
}

spar_status sp_reward_scores(sp_reward *r, const sp_token_row *rows, size_t n, float *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *at = NULL;
    for (size_t i = 0; i < n; i++) {
        status = check_row(r, &rows[i], err);
        if (status != SPAR_OK) {
            spar_error_context(err, "row %zu", i);
            goto done;
        }
    }
    SPAR_TRY(sp_mem_calloc(&at, n, sizeof(int64_t), err));
    for (size_t first = 0, taken = 0; first < n; first += taken) {
        SPAR_TRY(score_some(r, rows + first, n - first, at, out + (int64_t)first * r->labels,
                            &taken, err));
    }
done:
    free(at);
    return status;
}

/* One row through the layers, to be read at n of its tokens. */
static spar_status run_row(sp_reward *r, const sp_token_row *row, const int64_t *tokens, size_t n,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(check_row(r, row, err));
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= (int64_t)row->n) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID, "scored token: expected 0 to %zu, found %lld",
                               row->n - 1, (long long)tokens[i]));
        }
    }
    sp_batch_clear(&r->batch);
    SPAR_TRY(sp_batch_add(&r->batch, -1, row->ids, row->n, NULL, err));
    SPAR_TRY(sp_pass_forward(r->pass, &r->batch, NULL, err));
done:
    return status;
}

spar_status sp_reward_scores_at(sp_reward *r, const sp_token_row *row, const int64_t *tokens,
                                size_t n, float *out, spar_error *err) {
    const spar_status status = run_row(r, row, tokens, n, err);
    return status == SPAR_OK ? apply_head(r, tokens, (int64_t)n, out, err) : status;
}

static void softmax(float *x, int64_t n) {
    float top = x[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++) {
        top = fmaxf(top, x[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)x[i] - (double)top);
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(exp((double)x[i] - (double)top) / sum);
    }
}

spar_status sp_reward_plane_weights(sp_reward *r, const sp_token_row *row, int64_t token,
                                    float *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t n = sp_reward_planes(r);
    for (int64_t i = 0; i < n; i++) {
        out[i] = 1;
    }
    if (r->prompt.w.data) {
        SPAR_TRY(run_row(r, row, &token, 1, err));
        SPAR_TRY(sp_pass_project(r->pass, &r->prompt.w, NULL, &token, 1, out, err));
        softmax(out, n);
    }
done:
    return status;
}
