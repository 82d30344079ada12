/* Writing a model as a GGUF file, or as a Hugging Face folder of another number type. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "io/gguf_write.h"
#include "model/arch_parts.h"
#include "model/checkpoint.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/save.h"
#include "text/tokenizer_describe.h"

/* ---- metadata ---- */

typedef struct writer {
    sp_gguf_out *out;
    const sp_config *config;
    char key[128];
} writer;

/* The key ARCH.suffix. */
static const char *key(writer *w, const char *suffix) {
    snprintf(w->key, sizeof w->key, "%s.%s", w->config->arch->gguf_name, suffix);
    return w->key;
}

/* What files of a mixture say besides its sizes. */
static void put_router(writer *w) {
    const sp_config *c = w->config;
    const sp_mixture *mixture = c->arch->mixture;
    if (mixture && mixture->gguf_dense) {
        sp_gguf_put_u32(w->out, key(w, "leading_dense_block_count"), (uint32_t)c->sparse_first);
        sp_gguf_put_u32(w->out, key(w, "interleave_moe_layer_step"), (uint32_t)c->sparse_step);
    }
    if (mixture && mixture->gguf_says) {
        sp_gguf_put_bool(w->out, key(w, "expert_weights_norm"), c->normalised);
        sp_gguf_put_u32(w->out, key(w, "expert_gating_func"),
                        mixture->router == SP_ROUTER_SIGMOID ? 2 : 1);
    }
}

static void put_sizes(writer *w) {
    const sp_config *c = w->config;
    const sp_mixture *mixture = c->arch->mixture;
    const struct {
        const char *suffix;
        int64_t value;
    } sizes[] = {
        {"context_length", c->rope == SP_ROPE_LONG ? c->rope_context : c->context},
        {"embedding_length", c->hidden},
        {"block_count", c->layers},
        {"feed_forward_length", c->ffn},
        {"expert_count", c->experts},
        {"expert_used_count", c->top_k},
        {"expert_feed_forward_length", c->expert_ffn},
        {"expert_shared_feed_forward_length", c->shared_ffn},
        {"expert_shared_count",
         mixture && mixture->shared_counts ? c->shared_ffn / c->expert_ffn : 0},
        {"expert_group_count", c->groups},
        {"expert_group_used_count", c->open_groups},
        {"attention.head_count", c->heads},
        {"attention.head_count_kv", c->arch->gguf_conv ? 0 : c->kv_heads},
        {"attention.key_length", c->head_dim},
        {"attention.value_length", c->head_dim},
        {"rope.dimension_count", c->arch->learned_positions || c->alibi > 0 ? 0 : c->rotary_dim},
        {"vocab_size", c->vocab}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value == 0) {
            continue; /* a dense model's experts; a rotation where nothing turns; a list */
        }
        sp_gguf_put_u32(w->out, key(w, sizes[i].suffix), (uint32_t)sizes[i].value);
    }
    put_router(w);
    if (c->arch->gguf_conv) {
        sp_conv_put_gguf(c, w->out);
    }
    if (c->sliding_window > 0) {
        sp_gguf_put_u32(w->out, key(w, "attention.sliding_window"), (uint32_t)c->sliding_window);
    }
    sp_gguf_put_f32(w->out, key(w, sp_arch_gguf_eps(c->arch)), c->norm_eps);
    if (c->alibi > 0) {
        sp_gguf_put_f32(w->out, key(w, "attention.max_alibi_bias"), (float)c->alibi);
    }
    sp_rope_put_gguf(c, w->out);
    if (c->arch->rope_key) { /* Granite's readers turn layers by it */
        sp_gguf_put_bool(w->out, key(w, "rope.scaling.finetuned"), !c->no_rope[0]);
    }
    if (c->arch->parallel == SP_PARALLEL_CONFIG) {
        sp_gguf_put_bool(w->out, key(w, "use_parallel_residual"), c->parallel);
    }
    for (const sp_number_key *k = c->arch->numbers; k && k->key; k++) {
        const double value = *sp_config_number((sp_config *)(uintptr_t)c, k);
        if (k->gguf_suffix && value > 0) {
            sp_gguf_put_f32(w->out, key(w, k->gguf_suffix), (float)value);
        }
    }
}

static void put_id(sp_gguf_out *out, const char *name, int64_t id) {
    if (id >= 0) {
        sp_gguf_put_u32(out, name, (uint32_t)id);
    }
}

static void put_texts(sp_gguf_out *out, const char *name, const sp_bytes *texts, size_t n) {
    sp_gguf_put_strings(out, name, n);
    for (size_t i = 0; i < n; i++) {
        sp_gguf_put_text(out, texts[i].data, texts[i].n);
    }
}

/* What a vocabulary of a kind has beside its tokens. */
static void put_kind(sp_gguf_out *out, const sp_vocab_spec *spec) {
    if (spec->scores) {
        sp_gguf_put_f32s(out, "tokenizer.ggml.scores", spec->scores, spec->n_tokens);
        sp_gguf_put_bool(out, "tokenizer.ggml.add_space_prefix", spec->add_space_prefix);
    }
    switch (spec->kind) {
    case SP_VOCAB_BYTE_LEVEL:
        put_texts(out, "tokenizer.ggml.merges", spec->merges, spec->n_merges);
        break;
    case SP_VOCAB_UNIGRAM:
        sp_gguf_put_bool(out, "tokenizer.ggml.remove_extra_whitespaces", spec->strip_spaces);
        if (spec->charsmap.data) {
            sp_gguf_put_bytes(out, "tokenizer.ggml.precompiled_charsmap", spec->charsmap.data,
                              spec->charsmap.n);
        }
        break;
    case SP_VOCAB_WORD_PIECE:
        put_id(out, "tokenizer.ggml.cls_token_id", spec->bos);
        put_id(out, "tokenizer.ggml.seperator_token_id", spec->eos); /* spelt so by all readers */
        sp_gguf_put_bool(out, "tokenizer.ggml.add_sep_token", spec->add_eos);
        break;
    case SP_VOCAB_SENTENCEPIECE:
        break;
    }
}

static void put_vocab(sp_gguf_out *out, const sp_vocab_spec *spec) {
    static const char *const names[] = {[SP_VOCAB_BYTE_LEVEL] = "gpt2",
                                        [SP_VOCAB_SENTENCEPIECE] = "llama",
                                        [SP_VOCAB_UNIGRAM] = "t5",
                                        [SP_VOCAB_WORD_PIECE] = "bert"};
    const char *name = names[spec->kind];
    const bool pre = spec->kind == SP_VOCAB_BYTE_LEVEL;
    sp_gguf_put_string(out, "tokenizer.ggml.model", name, strlen(name));
    sp_gguf_put_string(out, "tokenizer.ggml.pre", pre ? spec->pre.data : "default",
                       pre ? spec->pre.n : 7);
    put_texts(out, "tokenizer.ggml.tokens", spec->tokens, spec->n_tokens);
    sp_gguf_put_i32s(out, "tokenizer.ggml.token_type", spec->types, spec->n_tokens);
    put_kind(out, spec);
    put_id(out, "tokenizer.ggml.bos_token_id", spec->bos);
    put_id(out, "tokenizer.ggml.eos_token_id", spec->eos);
    put_id(out, "tokenizer.ggml.padding_token_id", spec->pad);
    put_id(out, "tokenizer.ggml.unknown_token_id", spec->unk);
    sp_gguf_put_bool(out, "tokenizer.ggml.add_bos_token", spec->add_bos > 0);
    sp_gguf_put_bool(out, "tokenizer.ggml.add_eos_token", spec->add_eos);
}

/* The last part of the path. Readers know by the name that Phi-3's tokens take the spaces after
 * them.
 */
static void put_name(sp_gguf_out *out, const spar_model *m) {
    const char *slash = strrchr(m->path, '/');
    const char *name = slash && slash[1] ? slash + 1 : m->path;
    if (strcmp(m->config.arch->model_type, "phi3") == 0) {
        name = "Phi-3";
    }
    sp_gguf_put_string(out, "general.name", name, strlen(name));
}

static const char *unsaid_of_experts(const sp_config *c) {
    const sp_mixture *mixture = c->arch->mixture;
    if (!mixture->gguf_says && c->normalised == mixture->gguf_plain) {
        return c->normalised ? "norm_topk_prob true" : "norm_topk_prob false";
    }
    for (int i = 0; i < c->layers; i++) {
        if (c->sparse[i] != (!mixture->gguf_dense || i >= c->sparse_first)) {
            return "a layer without experts";
        }
    }
    return mixture->least_key && c->weight_least > 1e-12 ? mixture->least_key : NULL;
}

/* The setting that a GGUF file of the family cannot say, since readers know it by the family; NULL
 * where there is none. */
static const char *unsaid(const sp_config *c, const json_t *defaults) {
    const bool windows = c->sliding_window > 0;
    if (sp_rope_unsaid(c)) {
        return sp_rope_unsaid(c);
    }
    if (c->unscaled != c->arch->unscaled || c->scale_by_layer) {
        return "scores of attention that are scaled otherwise";
    }
    if (c->act != c->arch->act) {
        return "a feed-forward's activation that is not the family's";
    }
    if (c->arch->gguf_wide_layers > 0 && c->query_scalar != sp_config_gguf_scalar(c)) {
        return "a query_pre_attn_scalar that is not the size of a head";
    }
    if (c->arch->gguf_norm_layers > 0 &&
        (c->qk_norm != SP_QK_PLAIN) != (c->layers >= c->arch->gguf_norm_layers)) {
        return "norms of queries and keys in so few layers, or none in so many";
    }
    if (c->arch->rope_key && c->no_rope[0] && !c->arch->gguf_unturned) {
        return "layers that do not rotate";
    }
    if (c->arch->gguf_conv && sp_conv_layers(c) % c->layers == 0) {
        return "layers that are all of one kind"; /* llama.cpp ends where it meets them */
    }
    if (c->arch->gguf_ungrouped && c->kv_heads != c->heads) {
        return "fewer key heads than query heads";
    }
    if (c->experts > 0 && unsaid_of_experts(c)) {
        return unsaid_of_experts(c);
    }
    if (windows && c->arch->window != SP_WINDOW_ALL && c->arch->window != SP_WINDOW_PATTERN) {
        return "a sliding window";
    }
    if (c->arch->gguf_window_layers > 0 && windows != (c->layers == c->arch->gguf_window_layers)) {
        return windows ? "windows in a model of so few layers" : "no windows in so many layers";
    }
    for (int i = 0; c->arch->window == SP_WINDOW_PATTERN && i < c->layers; i++) {
        if ((c->window[i] > 0) != (c->sliding_window > 0 && (i + 1) % c->arch->pattern != 0)) {
            return "a pattern of windows that is not the family's";
        }
    }
    for (const sp_number_key *k = c->arch->numbers; k && k->key; k++) {
        const bool none = *sp_config_number((sp_config *)(uintptr_t)c, k) == 0;
        const bool read = k->gguf_suffix || c->arch->gguf_wide_layers > 0;
        if (none ? json_object_get(defaults, k->key) != NULL : !read) {
            return k->key;
        }
    }
    return NULL;
}

/* UNSUPPORTED, naming the first key whose value is another than the family's readers take as given.
 */
static spar_status check_fixed(const spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_arch *arch = m->config.arch;
    json_t *fixed = NULL, *value, *config = NULL;
    const char *key;
    if (!arch->gguf_fixed) {
        goto done;
    }
    SPAR_TRY(sp_json_parse(&fixed, arch->gguf_fixed, strlen(arch->gguf_fixed), m->path, err));
    config = sp_config_to_json(&m->config);
    if (!config) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", m->path));
    }
    json_object_foreach(fixed, key, value) {
        const bool wanted = json_is_true(value);
        if (json_is_true(json_object_get(config, key)) != wanted) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: export: %s: expected %s, as readers of GGUF files of %s take "
                               "it to be, found %s",
                               m->path, key, wanted ? "true" : "false", arch->gguf_name,
                               wanted ? "false" : "true"));
        }
    }
done:
    json_decref(fixed);
    json_decref(config);
    return status;
}

static spar_status check_said(const spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *defaults = NULL;
    if (!m->config.arch->gguf_name) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: export: no reader of GGUF files knows models of type %s", m->path,
                           m->config.arch->model_type));
    }
    SPAR_TRY(check_fixed(m, err));
    SPAR_TRY(sp_arch_defaults(m->config.arch, &defaults, err));
    const char *what = unsaid(&m->config, defaults);
    if (what) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: export: %s cannot be written to GGUF files "
                           "of %s",
                           m->path, what, m->config.arch->gguf_name));
    }
done:
    json_decref(defaults);
    return status;
}

/* The one for tools under its own name, which a list of names tells of. */
static void put_templates(sp_gguf_out *out, const spar_template *t) {
    static const char name[] = "tool_use";
    const char *plain = t ? spar_template_source(t) : NULL;
    const char *tools = t ? spar_template_tools_source(t) : NULL;
    if (plain) {
        sp_gguf_put_string(out, "tokenizer.chat_template", plain, strlen(plain));
    }
    if (tools) {
        sp_gguf_put_strings(out, "tokenizer.chat_templates", 1);
        sp_gguf_put_text(out, name, strlen(name));
        sp_gguf_put_string(out, "tokenizer.chat_template.tool_use", tools, strlen(tools));
    }
}

static spar_status put_metadata(sp_gguf_out *out, const spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    writer w = {.out = out, .config = &m->config};
    SPAR_TRY(check_said(m, err));
    sp_vocab_description d;
    const char *arch = m->config.arch->gguf_name;
    sp_gguf_put_string(out, "general.architecture", arch, strlen(arch));
    put_name(out, m);
    sp_gguf_put_u32(out, "general.quantization_version", 2);
    put_sizes(&w);
    if (!m->tokenizer) {
        sp_gguf_put_string(out, "tokenizer.ggml.model", "none", 4);
        put_id(out, "tokenizer.ggml.bos_token_id", m->config.bos);
        put_id(out, "tokenizer.ggml.eos_token_id", m->config.n_eos ? m->config.eos[0] : -1);
        put_id(out, "tokenizer.ggml.padding_token_id", m->config.pad);
        goto done;
    }
    SPAR_TRY(sp_tokenizer_describe(&d, m->tokenizer, (size_t)m->config.vocab, err));
    put_vocab(out, &d.spec);
    sp_vocab_description_release(&d);
    put_templates(out, m->chat_template);
done:
    return status;
}

/* Parameters that are no tensors of the file: an array each, of an entry a layer. */
static void put_parameters(sp_gguf_out *out, const spar_model *m, const float *const *values) {
    float floats[SP_MAX_LAYERS];
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *first = &m->params.items[i];
        if (!sp_params_metadata(first->role) || first->layer > 0) {
            continue;
        }
        for (int layer = 0; layer < m->config.layers; layer++) {
            const sp_param *p = sp_params_get(&m->params, first->role, layer);
            floats[layer] = *values[p - m->params.items];
        }
        sp_gguf_put_f32s(out, first->gguf_name, floats, (size_t)m->config.layers);
    }
}

/* ---- tensors ---- */

/* What a matrix is stored as: its rows may be no whole blocks, and the head of a model in 4 bits is
 * kept in 8, for its errors are those of the logits. */
static sp_dtype type_for(const sp_param *p, sp_dtype wanted, bool head) {
    static const sp_dtype smaller[][2] = {
        {SP_Q4_K, SP_Q5_0}, {SP_Q5_0, SP_F16}, {SP_Q4_0, SP_F16}, {SP_Q8_0, SP_F16}};
    const bool f32 = p->cols == 0 || p->role == SP_ROUTER || p->role == SP_SHARED_WEIGHT ||
                     p->role == SP_POSITIONS;
    /* who is chosen must not round; readers want positions so */
    sp_dtype type = f32 ? SP_F32 : wanted == SP_Q4_K && head ? SP_Q8_0 : wanted;
    for (size_t i = 0; i < sizeof smaller / sizeof smaller[0]; i++) {
        if (type == smaller[i][0] && p->cols % sp_dtype_info_of(type)->block_elements != 0) {
            type = smaller[i][1];
        }
    }
    return type;
}

/* Rows of q and k from the checkpoint's order (2, half) of a head to pairs side by side. */
static void permute_rows(const float *from, float *to, int64_t rows, int64_t cols, int head_dim) {
    const int half = head_dim / 2;
    const int64_t width = cols ? cols : 1;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t head = r / head_dim, within = r % head_dim;
        const int64_t at = head * head_dim + within % half * 2 + within / half;
        memcpy(to + at * width, from + r * width, (size_t)width * sizeof *to);
    }
}

/* Values of the parameters as a GGUF file has them, q and k permuted where its family does so. */
static void order_rows(const spar_model *m, const float **values, float *floats) {
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        const bool moved =
            p->role == SP_Q || p->role == SP_K || p->role == SP_Q_BIAS || p->role == SP_K_BIAS;
        if (m->config.arch->gguf_permuted && moved) {
            permute_rows(values[i], floats, p->rows, p->cols, m->config.head_dim);
            values[i] = floats;
            floats += p->count;
        }
    }
}

static int64_t count_permuted(const spar_model *m) {
    int64_t n = 1;
    for (int i = 0; i < m->params.n; i++) {
        const sp_role role = m->params.items[i].role;
        n += role == SP_Q || role == SP_K || role == SP_Q_BIAS || role == SP_K_BIAS
                 ? m->params.items[i].count
                 : 0;
    }
    return n;
}

/* The tensors of parameters, after the n of rotary factors; returns how many there are. */
static size_t list_tensors(const spar_model *m, const sp_stored_values *stored, sp_dtype type,
                           sp_gguf_source *out, size_t n) {
    for (size_t i = 0; i < stored->n; i++) {
        const sp_stored *s = &stored->list[i];
        const sp_param *p = &m->params.items[s->first];
        const bool head = p->role == SP_HEAD || (p->role == SP_EMBED && m->config.tied);
        out[n] = (sp_gguf_source){.name = s->gguf_name,
                                  .dtype = type_for(p, type, head),
                                  .data = stored->entries[i].data};
        out[n].n_dims = sp_stored_dims(s, out[n].dims);
        n++;
        if (p->role == SP_EMBED && m->config.tied && m->config.arch->gguf_head) {
            out[n] = out[n - 1];
            out[n++].name = "output.weight";
        }
    }
    return n;
}

/* llama.cpp has windows in the families alone that mix layers with and without one. */
static void note_window(const spar_model *m) {
    const sp_config *c = &m->config;
    if (c->arch->window == SP_WINDOW_ALL && c->sliding_window > 0 &&
        c->sliding_window < c->context) {
        spar_sink_log(
            &m->sink, SPAR_LOG_WARN,
            "%s: llama.cpp reads GGUF files of %s without the window of %d tokens: longer "
            "texts give other values there",
            m->path, c->arch->gguf_name, c->sliding_window);
    }
}

static spar_status export_gguf(const spar_model *m, const char *path, sp_dtype type,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf_out out = SP_GGUF_OUT_INIT;
    sp_model_values v = {0};
    sp_stored_values stored = {0};
    float *permuted = NULL, *factors = NULL;
    sp_gguf_source *sources = NULL;
    size_t n = 0;
    void *memory;
    SPAR_TRY(put_metadata(&out, m, err));
    SPAR_TRY(sp_model_values_init(&v, m, err));
    put_parameters(&out, m, v.values);
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)count_permuted(m), sizeof *permuted, err));
    permuted = memory;
    order_rows(m, v.values, permuted);
    SPAR_TRY(sp_stored_values_init(&stored, &m->params, &m->config, SP_STORED_GGUF, v.values, false,
                                   err));
    SPAR_TRY(sp_mem_calloc(&memory, stored.n + 3, sizeof *sources, err));
    sources = memory;
    SPAR_TRY(sp_rope_tensors(&m->config, &factors, sources, &n, err));
    n = list_tensors(m, &stored, type, sources, n);
    SPAR_TRY(sp_gguf_write(path, &out, sources, n, err));
    note_window(m);
done:
    free(sources);
    free(factors);
    free(permuted);
    sp_stored_values_release(&stored);
    sp_model_values_release(&v);
    sp_gguf_out_release(&out);
    return status;
}

spar_status spar_model_export(spar_model *m, const char *path, const char *type_name,
                              spar_error *err) {
    static const struct {
        const char *name;
        sp_dtype type;
        bool folder; /* of safetensors too */
    } types[] = {{"f32", SP_F32, true},    {"f16", SP_F16, true},    {"bf16", SP_BF16, true},
                 {"q8_0", SP_Q8_0, false}, {"q4_0", SP_Q4_0, false}, {"q4_k", SP_Q4_K, false}};
    const size_t n = strlen(path);
    const bool gguf = n > 5 && strcmp(path + n - 5, ".gguf") == 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].name, type_name) == 0 && (gguf || types[i].folder)) {
            return gguf ? export_gguf(m, path, types[i].type, err)
                        : sp_model_save_as(m, path, types[i].type, err);
        }
    }
    return spar_fail(err, SPAR_INVALID, "type of a %s: expected %s, found %s",
                     gguf ? "GGUF file" : "folder",
                     gguf ? "f32, f16, bf16, q8_0, q4_0 or q4_k" : "f32, f16 or bf16", type_name);
}
