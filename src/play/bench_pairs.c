#include "play/bench_pairs.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/encoder.h"

enum { VOCAB = 4096, LAYERS = 24, SPECIAL = 7, LEAST = SPECIAL + 3 }; /* [CLS], 3 x prefix, [SEP] */

struct sp_bench_pairs {
    sp_encoder *encoder;      /* owned */
    int32_t *ids;             /* owned, [1 + candidates, length] */
    sp_token_row *candidates; /* owned */
    float *logits;            /* owned, [n, n] */
    sp_token_row source;
    size_t n;
};

/* The configuration of microsoft/deberta-v3-large, as PairRM has it. */
static json_t *large_config(int layers) {
    return json_pack(
        "{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:i, s:f, s:b, s:i, s:b, s:[s,s], s:i, "
        "s:s, s:b, s:i, s:i, s:i}",
        "model_type", "deberta-v2", "architectures", "DebertaV2PairRM", "vocab_size", VOCAB,
        "hidden_size", 1024, "num_hidden_layers", layers, "num_attention_heads", 16,
        "intermediate_size", 4096, "hidden_act", "gelu", "max_position_embeddings", 512,
        "type_vocab_size", 0, "layer_norm_eps", 1e-7, "relative_attention", 1,
        "max_relative_positions", -1, "position_biased_input", 0, "pos_att_type", "p2c", "c2p",
        "position_buckets", 256, "norm_rel_ebd", "layer_norm", "share_att_key", 1,
        "source_prefix_id", VOCAB - 3, "cand1_prefix_id", VOCAB - 2, "cand2_prefix_id", VOCAB - 1);
}

static spar_status make_texts(sp_bench_pairs *p, int64_t length, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    const size_t each = (size_t)(length - SPECIAL) / 3,
                 source = (size_t)length - SPECIAL - 2 * each;
    SPAR_TRY(sp_mem_calloc(&memory, source + p->n * each, sizeof *p->ids, err));
    p->ids = memory;
    SPAR_TRY(sp_mem_calloc(&memory, p->n, sizeof *p->candidates, err));
    p->candidates = memory;
    SPAR_TRY(sp_mem_calloc(&memory, p->n * p->n, sizeof *p->logits, err));
    p->logits = memory;
    for (size_t i = 0; i < source + p->n * each; i++) {
        p->ids[i] = (int32_t)sp_rng_below(1, 0, i, VOCAB - 16);
    }
    p->source = (sp_token_row){.ids = p->ids, .n = source};
    for (size_t i = 0; i < p->n; i++) {
        p->candidates[i] = (sp_token_row){.ids = p->ids + source + i * each, .n = each};
    }
done:
    return status;
}

spar_status sp_bench_pairs_open(sp_bench_pairs **out, const spar_model_options *options,
                                int64_t length, size_t candidates, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_bench_pairs *p = NULL;
    json_t *config = NULL;
    void *memory;
    if (length < LEAST || length > SP_PAIRRM_TOTAL || candidates < 2) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "pairrm: expected 2 candidates or more in pairs of %d to %d tokens, "
                           "found %zu and %lld",
                           LEAST, SP_PAIRRM_TOTAL, candidates, (long long)length));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *p, err));
    p = memory;
    p->n = candidates;
    SPAR_TRY(make_texts(p, length, err));
    config =
        large_config(options->layers > 0 && options->layers < LAYERS ? options->layers : LAYERS);
    SPAR_TRY(sp_encoder_random(&p->encoder, config, 1, options, err));
    *out = p;
    p = NULL;
done:
    json_decref(config);
    sp_bench_pairs_free(p);
    return status;
}

void sp_bench_pairs_free(sp_bench_pairs *p) {
    if (!p) {
        return;
    }
    sp_encoder_free(p->encoder);
    free(p->ids);
    free(p->candidates);
    free(p->logits);
    free(p);
}

spar_status sp_bench_pairs_run(sp_bench_pairs *p, spar_error *err) {
    return sp_pairrm_compare(p->encoder, &p->source, p->candidates, p->n, p->logits, err);
}

double sp_bench_pairs_count(const sp_bench_pairs *p) {
    return (double)(p->n * (p->n - 1));
}

int64_t sp_bench_pairs_parameters(const sp_bench_pairs *p) {
    return sp_encoder_matmul_parameters(p->encoder);
}
