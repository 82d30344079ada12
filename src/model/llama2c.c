#include "model/llama2c.h"

#include <string.h>

#include "base/jsonx.h"

enum { MAGIC = 0x616b3432, SIZES = 7, HEAD_V1 = 256 };

/* Where things are in a file of a version. */
typedef struct layout {
    int32_t sizes[SIZES]; /* dim, hidden_dim, layers, heads, kv_heads, vocab, context */
    bool tied;
    int version;
    size_t begin; /* of the weights */
} layout;

static int32_t read_i32(const uint8_t *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static spar_status read_layout(layout *l, const sp_map *file, const char *path, spar_error *err) {
    const bool magic = file->size >= HEAD_V1 && read_i32(file->data) == MAGIC;
    const size_t at = magic ? 8 : 0;
    *l = (layout){.begin = magic ? HEAD_V1 : 4 * SIZES};
    if (file->size < at + 4 * SIZES) {
        return spar_fail(err, SPAR_FORMAT, "%s: expected a model file, found %zu bytes", path,
                         file->size);
    }
    l->version = magic ? read_i32(file->data + 4) : 0;
    if (l->version > 1) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: version: expected a llama2.c checkpoint of f32 (0 or 1), found %d",
                         path, l->version);
    }
    for (int i = 0; i < SIZES; i++) {
        l->sizes[i] = read_i32(file->data + at + 4 * (size_t)i);
    }
    /* version 0 says by a vocabulary below zero that it has a head of its own */
    l->tied = magic ? file->data[at + 4 * SIZES] != 0 : l->sizes[5] > 0;
    l->sizes[5] = l->sizes[5] < 0 && l->sizes[5] > INT32_MIN ? -l->sizes[5] : l->sizes[5];
    return SPAR_OK;
}

/* The order of the weights; a role of the layers stands for those of all layers. */
static const sp_role order_v0[] = {SP_EMBED,    SP_ATTN_NORM, SP_Q,    SP_K,  SP_V,         SP_O,
                                   SP_MLP_NORM, SP_GATE,      SP_DOWN, SP_UP, SP_FINAL_NORM};
static const sp_role order_v1[] = {SP_ATTN_NORM, SP_MLP_NORM, SP_FINAL_NORM, SP_EMBED, SP_Q, SP_K,
                                   SP_V,         SP_O,        SP_GATE,       SP_DOWN,  SP_UP};
enum { ROLES = sizeof order_v0 / sizeof order_v0[0] };

/* Bytes that the weights take, from the configuration alone. */
static size_t weight_bytes(const sp_config *c, const layout *l) {
    const size_t H = (size_t)c->hidden, F = (size_t)c->ffn, V = (size_t)c->vocab;
    const size_t kv = (size_t)c->kv_heads * (size_t)c->head_dim;
    const size_t layer = 2 * H + 2 * H * H + 2 * kv * H + 3 * F * H;
    const size_t rotary = l->version == 0 ? (size_t)c->context * (size_t)c->head_dim : 0;
    return sizeof(float) * (V * H * (c->tied ? 1 : 2) + (size_t)c->layers * layer + H + rotary);
}

spar_status sp_llama2c_config(sp_config *out, const sp_map *file, const char *path,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    layout l;
    json_t *json = NULL;
    SPAR_TRY(read_layout(&l, file, path, err));
    json = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:f, s:i, s:i}", "model_type",
                     "llama", "hidden_size", l.sizes[0], "intermediate_size", l.sizes[1],
                     "num_hidden_layers", l.sizes[2], "num_attention_heads", l.sizes[3],
                     "num_key_value_heads", l.sizes[4], "vocab_size", l.sizes[5],
                     "max_position_embeddings", l.sizes[6], "tie_word_embeddings", l.tied,
                     "rms_norm_eps", 1e-5, "bos_token_id", 1, "eos_token_id", 2);
    SPAR_TRY(sp_config_from_json(out, json, path, err));
    const size_t expected = l.begin + weight_bytes(out, &l);
    if (file->size != expected) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected the %zu bytes of a llama2.c checkpoint of these sizes, "
                           "found %zu",
                           path, expected, file->size));
    }
done:
    json_decref(json);
    return status;
}

static const uint8_t *take(const sp_params *params, sp_role role, int layer, const uint8_t *at,
                           sp_source *sources) {
    const sp_param *p = sp_params_get(params, role, layer);
    sources[p - params->items] = (sp_source){.data = at,
                                             .dtype = SP_F32,
                                             .n_dims = p->cols ? 2 : 1,
                                             .dims = {p->rows, p->cols},
                                             .permuted = role == SP_Q || role == SP_K};
    return at + (size_t)p->count * sizeof(float);
}

void sp_llama2c_sources(const sp_params *params, const sp_config *c, const sp_map *file,
                        sp_source *sources) {
    layout l = {0};
    (void)read_layout(&l, file, "", NULL); /* it was read before */
    const sp_role *order = l.version == 0 ? order_v0 : order_v1;
    const uint8_t *at = file->data + l.begin;
    for (int i = 0; i < ROLES; i++) {
        const bool outside = order[i] == SP_EMBED || order[i] == SP_FINAL_NORM;
        for (int layer = 0; layer < (outside ? 1 : c->layers); layer++) {
            at = take(params, order[i], layer, at, sources);
        }
    }
    if (!c->tied) {
        at += l.version == 0 ? (size_t)c->context * (size_t)c->head_dim * sizeof(float) : 0;
        take(params, SP_HEAD, 0, at, sources);
    }
}
