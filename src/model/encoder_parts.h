/* An encoder inside: its weights by place, the space of a forward pass, and the steps of one.
 *
 * All weights lie in one flat f32 array, placed by the walk of encoder_load.c, which first measures
 * (finding every tensor and checking its shape) and then fills. The workspace grows to the largest
 * pack of rows and is kept. An encoder is used by one thread at a time.
 */
#ifndef SP_MODEL_ENCODER_PARTS_H
#define SP_MODEL_ENCODER_PARTS_H

#include "backend/backend.h"
#include "model/encoder.h"
#include "model/encoder_config.h"

typedef struct sp_encoder_linear {
    sp_weight w;       /* w.data NULL: the model has none */
    const float *bias; /* NULL: none */
} sp_encoder_linear;

typedef struct sp_encoder_norm {
    const float *gain, *bias; /* [hidden] */
} sp_encoder_norm;

typedef struct sp_encoder_layer {
    sp_encoder_linear q, k, v, o, up, down;
    sp_encoder_linear pos_key, pos_query; /* of the relative embeddings, where not shared */
    sp_encoder_norm attention_norm, output_norm;
} sp_encoder_layer;

enum { SP_ENCODER_QUERIES = 256 }; /* query rows of a block of scores, at most */

/* Arrays of a forward pass, one block. T rows of a pack, S rows of the relative embeddings (those
 * that the pack's distances meet),
 * N tokens of its longest row, B query rows of a block of scores. */
typedef struct sp_encoder_space {
    char *block; /* owned */
    size_t bytes;
    float *x, *q, *k, *v, *a;         /* [T, hidden] */
    float *wide;                      /* [T, max(ffn, embedding)] */
    float *taps;                      /* [T, hidden x taps]: what the convolution reads */
    float *relative;                  /* [S, hidden], normalised once a pass */
    float *pos_key, *pos_query;       /* [S, hidden], of the layer at work */
    float *head_q, *head_k, *head_vt; /* [N, D], [N, D], [D, N]: one head of one row */
    float *head_out;                  /* [B, D] */
    float *head_pos;                  /* [S, D] */
    float *scores;                    /* [B, N] */
    float *c2p;                       /* [B, S] */
    float *p2c;                       /* [N, S] */
    void *operand;                    /* of the widest product's input; f32: unused */
    int32_t *buckets;                 /* [2 N - 1]: row of S by distance + N - 1 */
    int64_t related;                  /* S; 0: no relative positions */
} sp_encoder_space;

struct sp_encoder {
    sp_encoder_config config;
    float *weights; /* owned */
    sp_weight words;
    const float *positions, *types; /* [., embedding]; NULL: none */
    sp_encoder_linear embedding_projection;
    sp_encoder_norm embedding_norm, relative_norm;
    const float *relative;         /* [2 span, hidden]; NULL: none */
    sp_encoder_linear convolution; /* [hidden, hidden x taps]: by input, then tap */
    sp_encoder_norm convolution_norm;
    sp_encoder_layer *layers; /* owned */
    sp_encoder_linear head_dense, head_out;
    int64_t labels;
    sp_encoder_space space;
    sp_pool *pool;       /* owned */
    sp_backend *backend; /* owned */
};

/* Rows of a pack: their ids follow each other, row i begins at starts[i]. */
typedef struct sp_encoder_pack {
    const sp_token_row *rows;
    const int64_t *starts;
    size_t n;
    int64_t tokens, longest;
} sp_encoder_pack;

/* y [T, out] = x [T, in] W^T + bias, x f32 in any compute type. */
spar_status sp_encoder_apply(sp_encoder *e, const sp_encoder_linear *l, const float *x, int64_t T,
                             float *y, spar_error *err);
/* x [T, dim] = layer norm of (x + add) by row; add may be NULL. */
void sp_encoder_norm_rows(sp_encoder *e, const sp_encoder_norm *norm, float *x, const float *add,
                          int64_t T, int64_t dim);
void sp_encoder_activate(sp_encoder *e, sp_activation act, float *x, int64_t n);

/* space.a [T, hidden] = attention of every row to itself, from space.q, k, v; with
 * space.pos_key and pos_query, DeBERTa's terms. */
spar_status sp_encoder_attention(sp_encoder *e, const sp_encoder_pack *pack, spar_error *err);

/* Run the layers: space.x holds the last hidden states [pack->tokens, hidden]. The rows are checked
 * and the space reserved here. */
spar_status sp_encoder_forward(sp_encoder *e, const sp_encoder_pack *pack, spar_error *err);

/* A visitor of packs, for rows of any number: called with each pack after its forward pass;
 * `first` is the index of its first row. */
typedef spar_status (*sp_encoder_visit)(void *context, sp_encoder *e, const sp_encoder_pack *pack,
                                        size_t first, spar_error *err);
spar_status sp_encoder_run(sp_encoder *e, const sp_token_row *rows, size_t n,
                           sp_encoder_visit visit, void *context, spar_error *err);

#endif
