/* The families of encoders as rows of a table, and the sizes of one encoder. */
#ifndef SP_MODEL_ENCODER_CONFIG_H
#define SP_MODEL_ENCODER_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "spar/status.h"

/* A family with a head. Tensors of the encoder begin with prefix; head_dense and head_out are the
 * two layers of the head, without ".weight". */
typedef struct sp_encoder_arch {
    const char *model_type, *class_name; /* config.json "model_type", "architectures"[0] */
    const char *prefix;
    const char *query, *key, *value; /* below encoder.layer.N.attention.self. */
    const char *head_dense, *head_out;
    double norm_eps;          /* where the configuration has none */
    int types;                /* type_vocab_size where the configuration has none */
    bool disentangled;        /* DeBERTa: relative positions are configured */
    bool positions_after_pad; /* RoBERTa: positions begin behind pad_token_id */
    bool head_act_config;     /* the head's activation is pooler_hidden_act; else tanh */
    bool pair;                /* PairRM */
} sp_encoder_arch;

typedef struct sp_encoder_config {
    const sp_encoder_arch *arch;
    int64_t vocab, hidden, embedding, ffn, positions, types;
    int layers, heads;
    float norm_eps;
    sp_act act, head_act;
    int32_t pad;
    bool absolute;        /* position embeddings are added to the input */
    bool c2p, p2c;        /* terms of disentangled attention */
    int terms;            /* scores are divided by sqrt(head size x terms): 1 and each named term,
                           * also where there are no relative positions */
    bool shared;          /* positions go through the projections of the content */
    bool norm_relative;   /* a layer norm on the relative embeddings */
    int64_t span;         /* relative embeddings are [2 span, hidden]; 0: none */
    int64_t buckets;      /* of log-spaced distances; 0: distances as they are */
    int64_t max_distance; /* where the log buckets end */
    int64_t taps; /* DeBERTa-v2: kernel of the convolution beside the first layer; 0: none */
    sp_act conv_act;
    int32_t source, first, second, cls, sep; /* PairRM: special tokens */
} sp_encoder_config;

spar_status sp_encoder_config_read(sp_encoder_config *out, const json_t *config, const char *where,
                                   spar_error *err);
/* Row of the relative embeddings for a query `distance` tokens behind its key (negative: before),
 * 0 .. 2 span - 1. DeBERTa-v2: up to half the buckets distances count one by one, beyond in steps
 * of their logarithm. */
int32_t sp_encoder_bucket(const sp_encoder_config *config, int64_t distance);
/* Tokens of the longest row. */
int64_t sp_encoder_config_context(const sp_encoder_config *config);

#endif
