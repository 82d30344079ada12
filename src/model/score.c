/* Scoring rows of tokens, and the gradient of their log-probs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "model/engine.h"

/* Rows of a packed scoring batch: enough to fill the matrix products, small enough for memory. */
enum { SCORE_ROWS = 2048 };

typedef struct scorer {
    spar_model *model;
    sp_pass *pass;
    sp_batch batch;
    float *grads; /* NULL unless gradients are wanted */
    float *logp, *c;
    size_t capacity;
} scorer;

spar_status spar_model_check_row(const spar_model *m, const spar_score_row *row, spar_error *err) {
    if (row->n == 0 || row->first == 0 || row->first > row->n) {
        return spar_fail(err, SPAR_INVALID,
                         "expected tokens with at least one before the first scored one, found %zu "
                         "tokens scored from %zu on",
                         row->n, row->first);
    }
    if ((int64_t)row->n > m->config.context) {
        return spar_fail(err, SPAR_LIMIT, "%zu tokens are more than the model's context of %lld",
                         row->n, (long long)m->config.context);
    }
    return sp_model_check_ids(m, row->ids, row->n, err);
}

static spar_status reserve(scorer *s, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = s->logp;
    size_t capacity = s->capacity;
    SPAR_TRY(sp_mem_grow(&memory, &capacity, n, sizeof *s->logp, err));
    s->logp = memory;
    memory = s->c;
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity, n, sizeof *s->c, err));
    s->c = memory;
done:
    return status;
}

static spar_status row_logits(scorer *s, spar_score_row *rows, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t *index = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, s->batch.n_tokens, sizeof *index, err));
    index = memory;
    for (size_t i = 0; i < s->batch.n_tokens; i++) {
        index[i] = (int64_t)i;
    }
    for (size_t i = 0; i < n; i++) {
        if (rows[i].logits) {
            SPAR_TRY(sp_pass_logits(s->pass, index + s->batch.segments[i].q_start,
                                    (int64_t)rows[i].n, rows[i].logits, err));
        }
    }
done:
    free(index);
    return status;
}

static spar_status score_batch(scorer *s, spar_score_row *rows, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_batch_clear(&s->batch);
    for (size_t i = 0; i < n; i++) {
        int segment;
        SPAR_TRY(sp_batch_add(&s->batch, -1, rows[i].ids, rows[i].n, &segment, err));
        SPAR_TRY(sp_batch_score(&s->batch, segment, rows[i].first, NULL, err));
    }
    SPAR_TRY(sp_pass_forward(s->pass, &s->batch, NULL, err));
    if (s->batch.n_scored > 0) {
        SPAR_TRY(reserve(s, s->batch.n_scored, err));
        SPAR_TRY(sp_pass_logp(s->pass, &s->batch, s->logp, err));
        size_t at = 0;
        for (size_t i = 0; i < n; i++) {
            size_t scored = rows[i].n - rows[i].first;
            memcpy(rows[i].logps, s->logp + at, scored * sizeof *s->logp);
            at += scored;
        }
        if (s->grads) {
            for (size_t i = 0; i < s->batch.n_scored; i++) {
                s->c[i] = -1.0F;
            }
            SPAR_TRY(sp_pass_backward(s->pass, &s->batch, s->c, s->grads, true, err));
        }
    }
    SPAR_TRY(row_logits(s, rows, n, err));
done:
    return status;
}

static spar_status score(spar_model *model, spar_score_row *rows, size_t n_rows, float *grads,
                         spar_error *err) {
    spar_status status = SPAR_OK;
    scorer s = {.model = model, .grads = grads};
    sp_batch_init(&s.batch);
    for (size_t i = 0; i < n_rows; i++) {
        status = spar_model_check_row(model, &rows[i], err);
        if (status != SPAR_OK) {
            spar_error_context(err, "row %zu", i);
            goto done;
        }
    }
    SPAR_TRY(sp_pass_create(&s.pass, model, grads ? SP_PASS_TRAIN : SP_PASS_INFER, err));
    for (size_t at = 0; at < n_rows;) {
        size_t take = 1;
        size_t tokens = rows[at].n;
        while (at + take < n_rows && tokens + rows[at + take].n <= SCORE_ROWS) {
            tokens += rows[at + take++].n;
        }
        SPAR_TRY(score_batch(&s, rows + at, take, err));
        at += take;
    }
done:
    sp_pass_free(s.pass);
    sp_batch_release(&s.batch);
    free(s.logp);
    free(s.c);
    return status;
}

spar_status spar_model_score(spar_model *model, spar_score_row *rows, size_t n_rows,
                             spar_error *err) {
    return score(model, rows, n_rows, NULL, err);
}

spar_status spar_model_score_grads(spar_model *model, spar_score_row *rows, size_t n_rows,
                                   const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    float *grads = NULL;
    sp_stored_values stored = {0};
    const float **values = NULL;
    void *memory;
    const sp_params *p = &model->params;
    if (model->lora) {
        SPAR_TRY(
            spar_fail(err, SPAR_UNSUPPORTED,
                      "gradients of all weights: expected a model without an adapter; merge it "
                      "first"));
    }
    SPAR_TRY(sp_model_check_trainable(model, err));
    SPAR_TRY(sp_model_prepare(model, true, err));
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)p->total, sizeof *grads, err));
    grads = memory;
    memset(grads, 0, (size_t)p->total * sizeof *grads);
    SPAR_TRY(score(model, rows, n_rows, grads, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)p->n, sizeof *values, err));
    values = memory;
    for (int i = 0; i < p->n; i++) {
        values[i] = grads + p->items[i].offset;
    }
    SPAR_TRY(
        sp_stored_values_init(&stored, p, &model->config, SP_STORED_FOLDER, values, false, err));
    SPAR_TRY(sp_safetensors_write(path, stored.entries, stored.n, NULL, err));
done:
    sp_stored_values_release(&stored);
    free(values);
    free(grads);
    return status;
}
