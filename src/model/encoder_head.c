/* What is read off an encoder's last hidden states: the states, or a classification head. */
#include <string.h>

#include "model/encoder_parts.h"

static spar_status copy_hidden(void *context, sp_encoder *e, const sp_encoder_pack *pack,
                               size_t first, spar_error *err) {
    (void)first, (void)err;
    memcpy(context, e->space.x, (size_t)(pack->tokens * e->config.hidden) * sizeof(float));
    return SPAR_OK;
}

spar_status sp_encoder_hidden(sp_encoder *e, const sp_token_row *row, float *out, spar_error *err) {
    return sp_encoder_run(e, row, 1, copy_hidden, out, err);
}

/* From the state of each row's first token: dense, activation, output. */
static spar_status classify(void *context, sp_encoder *e, const sp_encoder_pack *pack, size_t first,
                            spar_error *err) {
    const int64_t H = e->config.hidden, n = (int64_t)pack->n;
    const sp_encoder_space *s = &e->space;
    float *in = s->q, *dense = s->k, *out = context;
    spar_status status = SPAR_OK;
    for (int64_t i = 0; i < n; i++) {
        memcpy(in + i * H, s->x + pack->starts[i] * H, (size_t)H * sizeof *in);
    }
    SPAR_TRY(sp_encoder_apply(e, &e->head_dense, in, n, dense, err));
    e->backend->ops->activate(e->backend, e->config.head_act, dense, NULL, n, H, true, dense);
    SPAR_TRY(sp_encoder_apply(e, &e->head_out, dense, n, out + (int64_t)first * e->labels, err));
done:
    return status;
}

spar_status sp_encoder_scores(sp_encoder *e, const sp_token_row *rows, size_t n, float *out,
                              spar_error *err) {
    if (e->config.arch->pair) {
        return spar_fail(
            err, SPAR_INVALID,
            "expected a model that scores single texts, found one that compares pairs");
    }
    return sp_encoder_run(e, rows, n, classify, out, err);
}
