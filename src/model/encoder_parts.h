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
    const float *positions[2]; /* [2 span, hidden]: the relative embeddings as keys, as queries */
    sp_encoder_norm attention_norm, output_norm;
} sp_encoder_layer;

/* Arrays of a forward pass, one block. T rows of a pack, N tokens of its longest row. */
typedef struct sp_encoder_space {
    char *block; /* owned */
    size_t bytes;
    float *x, *q, *k, *v;   /* [T, hidden] */
    void *a;                /* operand [T, hidden] */
    float *embedded;        /* [T, embedding]; unused where embedding is hidden */
    float *taps;            /* [T, hidden x taps]: what the convolution reads */
    void *operand;          /* of the widest product's input outside the layers */
    int64_t first, related; /* the rows of the relative embeddings that the pack's distances meet */
    int32_t *buckets;       /* [2 N - 1]: row, from the first on, by distance + N - 1 */
} sp_encoder_space;

struct sp_encoder {
    sp_encoder_config config;
    float *weights;          /* owned */
    float *relative_weights; /* owned: of all layers' positions */
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

/* Rows of a pack: their ids follow each other, row i begins at starts[i] and ends at starts[i + 1].
 */
typedef struct sp_encoder_pack {
    const sp_token_row *rows;
    const int64_t *starts; /* n + 1 of them */
    size_t n;
    int64_t tokens, longest;
} sp_encoder_pack;

/* y [T, out] = x [T, in] W^T + bias, x f32 in any compute type; its operand goes by space.operand.
 */
spar_status sp_encoder_apply(sp_encoder *e, const sp_encoder_linear *l, const float *x, int64_t T,
                             float *y, spar_error *err);

/* Fill all layers' positions from the relative embeddings, which are the same for every text. */
spar_status sp_encoder_project_positions(sp_encoder *e, spar_error *err);
/* space.a = attention of every row to itself, from space.q, k, v; with DeBERTa's terms. */
spar_status sp_encoder_attention(sp_encoder *e, const sp_encoder_layer *l,
                                 const sp_encoder_pack *pack, spar_error *err);

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
