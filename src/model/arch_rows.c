/* The table of architectures: a row a family, with what its files call things; it goes on in
 * arch_rows_newer.c and arch_rows_early.c. */
#include <stddef.h>

#include "model/arch_parts.h"
#include "model/params.h"

static const sp_fusion phi3_fusions[] = {
    {"self_attn.qkv_proj.weight", "attn_qkv.weight", {SP_Q, SP_K, SP_V}, 3, 0, false},
    {"mlp.gate_up_proj.weight", "ffn_up.weight", {SP_GATE, SP_UP}, 2, 0, false},
    {.name = NULL}};

#define PLACE(field) offsetof(sp_config, field)

static const sp_number_key gemma2_numbers[] = {
    {"attn_logit_softcapping", "attn_logit_softcapping", PLACE(attention_cap), false},
    {"final_logit_softcapping", "final_logit_softcapping", PLACE(logit_cap), false},
    {"query_pre_attn_scalar", NULL, PLACE(query_scalar), true},
    {.key = NULL}};

static const sp_number_key gemma3_numbers[] = {
    {"final_logit_softcapping", "final_logit_softcapping", PLACE(logit_cap), false},
    {"query_pre_attn_scalar", NULL, PLACE(query_scalar), true},
    {"rope_local_base_freq", "rope.freq_base_swa", PLACE(rope_local_theta), false},
    {.key = NULL}};

/* llama.cpp divides Granite's logits by what it calls their scale. */
static const sp_number_key granite_numbers[] = {
    {"embedding_multiplier", "embedding_scale", PLACE(embed_scale), false},
    {"residual_multiplier", "residual_scale", PLACE(residual_scale), false},
    {"attention_multiplier", "attention.scale", PLACE(attention_scale), false},
    {"logits_scaling", "logit_scale", PLACE(logit_divisor), false},
    {.key = NULL}};

static const sp_number_key olmo_numbers[] = {
    {"clip_qkv", "attention.clamp_kqv", PLACE(qkv_bound), false}, {.key = NULL}};

static const sp_number_key olmoe_numbers[] = {{"clip_qkv", NULL, PLACE(qkv_bound), false},
                                              {.key = NULL}};

/* OLMo's norms have an epsilon that no key says. */
static const sp_key_alias olmo_keys[] = {{NULL, "rms_norm_eps"}, {NULL, NULL}};

static const sp_rename phi_names[] = {{SP_O, "self_attn.dense.weight", NULL},
                                      {SP_O_BIAS, "self_attn.dense.bias", NULL},
                                      {SP_UP, "mlp.fc1.weight", NULL},
                                      {SP_UP_BIAS, "mlp.fc1.bias", NULL},
                                      {SP_DOWN, "mlp.fc2.weight", NULL},
                                      {SP_DOWN_BIAS, "mlp.fc2.bias", NULL},
                                      {SP_FINAL_NORM, "model.final_layernorm.weight", NULL},
                                      {SP_FINAL_NORM_BIAS, "model.final_layernorm.bias", NULL},
                                      {.name = NULL}};

/* With norms on both sides, what others call the feed-forward's norm is the one after attention. */
static const sp_rename both_norms[] = {
    {SP_MLP_NORM, "pre_feedforward_layernorm.weight", "ffn_norm.weight"}, {.name = NULL}};

static const sp_mixture mixtral_mixture = {.count_key = "num_local_experts",
                                           .width_key = "intermediate_size",
                                           .gguf_width = "feed_forward_length",
                                           .normalised = true};

static const sp_mixture qwen3_mixture = {.count_key = "num_experts",
                                         .width_key = "moe_intermediate_size",
                                         .gguf_width = "expert_feed_forward_length",
                                         .layers = SP_SPARSE_LISTED};

static const sp_mixture qwen2_mixture = {.count_key = "num_experts",
                                         .width_key = "moe_intermediate_size",
                                         .gguf_width = "expert_feed_forward_length",
                                         .layers = SP_SPARSE_LISTED,
                                         .gguf_plain = true,
                                         .shared_key = "shared_expert_intermediate_size",
                                         .shared_gated = true};

static const sp_mixture olmoe_mixture = {.count_key = "num_experts",
                                         .width_key = "intermediate_size",
                                         .gguf_width = "feed_forward_length",
                                         .gguf_plain = true,
                                         .balance = 0.01};

static const sp_rename mixtral_names[] = {
    {SP_ROUTER, "block_sparse_moe.gate.weight", "ffn_gate_inp.weight"},
    {SP_EXPERT_GATE, "block_sparse_moe.experts.*.w1.weight", "ffn_gate_exps.weight"},
    {SP_EXPERT_UP, "block_sparse_moe.experts.*.w3.weight", "ffn_up_exps.weight"},
    {SP_EXPERT_DOWN, "block_sparse_moe.experts.*.w2.weight", "ffn_down_exps.weight"},
    {.name = NULL}};

static const sp_number_key cohere_numbers[] = {
    {"logit_scale", "logit_scale", PLACE(logit_scale), false}, {.key = NULL}};

static const sp_rename stablelm_names[] = {
    {SP_Q_NORM, "self_attn.q_layernorm.norms.*.weight", NULL},
    {SP_K_NORM, "self_attn.k_layernorm.norms.*.weight", NULL},
    {.name = NULL}};

static const sp_rename starcoder2_names[] = {{SP_UP, "mlp.c_fc.weight", NULL},
                                             {SP_UP_BIAS, "mlp.c_fc.bias", NULL},
                                             {SP_DOWN, "mlp.c_proj.weight", NULL},
                                             {SP_DOWN_BIAS, "mlp.c_proj.bias", NULL},
                                             {.name = NULL}};

static const sp_fusion glm_fusions[] = {
    {"mlp.gate_up_proj.weight", "ffn_up.weight", {SP_GATE, SP_UP}, 2, 0, false}, {.name = NULL}};

static const sp_rename glm4_names[] = {
    {SP_ATTN_POST, "post_self_attn_layernorm.weight", "post_attention_norm.weight"},
    {SP_MLP_POST, "post_mlp_layernorm.weight", "post_ffw_norm.weight"},
    {.name = NULL}};

#define GLM_DEFAULTS                                                                               \
    "{\"head_dim\": 128, \"num_key_value_heads\": 2, \"attention_bias\": true, "                   \
    "\"partial_rotary_factor\": 0.5, \"rms_norm_eps\": 1.5625e-7, \"pad_token_id\": 151329, "      \
    "\"eos_token_id\": [151329, 151336, 151338], \"max_position_embeddings\": 131072}"

/* GGUF files call the feed-forward's norm what they call one after attention elsewhere. */
static const sp_rename seed_oss_names[] = {
    {SP_MLP_NORM, "post_attention_layernorm.weight", "post_attention_norm.weight"}, {.name = NULL}};

/* The feed-forward is what other models of the class have beside experts. */
static const sp_fusion granite_hybrid_fusions[] = {
    {"shared_mlp.input_linear.weight", NULL, {SP_GATE, SP_UP}, 2, 0, false}, {.name = NULL}};

static const sp_rename granite_hybrid_names[] = {{SP_DOWN, "shared_mlp.output_linear.weight", NULL},
                                                 {.name = NULL}};

static const sp_fusion granite_moe_fusions[] = {
    {"shared_mlp.input_linear.weight", NULL, {SP_SHARED_GATE, SP_SHARED_UP}, 2, 0, false},
    {.name = NULL}};

/* Of one expert's matrices no checkpoint has a name. */
static const sp_rename granite_moe_names[] = {
    {SP_ROUTER, "block_sparse_moe.router.layer.weight", NULL},
    {SP_EXPERT_GATE, "block_sparse_moe.experts.*.gate_proj.weight", NULL},
    {SP_EXPERT_UP, "block_sparse_moe.experts.*.up_proj.weight", NULL},
    {SP_EXPERT_DOWN, "block_sparse_moe.experts.*.down_proj.weight", NULL},
    {SP_SHARED_GATE, "shared_mlp.gate_proj.weight", NULL},
    {SP_SHARED_UP, "shared_mlp.up_proj.weight", NULL},
    {SP_SHARED_DOWN, "shared_mlp.output_linear.weight", NULL},
    {.name = NULL}};

static const sp_expert_stack granite_moe_folder[] = {
    {SP_EXPERT_GATE, 2, "block_sparse_moe.input_linear.weight"},
    {SP_EXPERT_DOWN, 1, "block_sparse_moe.output_linear.weight"},
    {.name = NULL}};

static const sp_expert_stack granite_moe_fused[] = {
    {SP_ROUTER, 1, "block_sparse_moe.router.weight"},
    {SP_EXPERT_GATE, 2, "block_sparse_moe.experts.gate_up_proj"},
    {SP_EXPERT_DOWN, 1, "block_sparse_moe.experts.down_proj"},
    {.name = NULL}};

/* A softmax over the chosen logits is one over all, divided by the sum of the chosen. */
static const sp_mixture granite_moe_mixture = {.count_key = "num_local_experts",
                                               .width_key = "intermediate_size",
                                               .gguf_width = "feed_forward_length",
                                               .normalised = true,
                                               .folder = granite_moe_folder,
                                               .fused = granite_moe_fused};

static const sp_mixture granite_shared_mixture = {.count_key = "num_local_experts",
                                                  .width_key = "intermediate_size",
                                                  .gguf_width = "feed_forward_length",
                                                  .normalised = true,
                                                  .shared_key = "shared_intermediate_size",
                                                  .shared_optional = true,
                                                  .folder = granite_moe_folder,
                                                  .fused = granite_moe_fused};

static const sp_mixture granite_hybrid_mixture = {.count_key = "num_local_experts",
                                                  .width_key = "intermediate_size",
                                                  .gguf_width = "feed_forward_length",
                                                  .normalised = true,
                                                  .shared_key = "shared_intermediate_size",
                                                  .folder = granite_moe_folder,
                                                  .fused = granite_moe_fused};

#define GRANITE_MOE_DEFAULTS                                                                       \
    "\"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"embedding_multiplier\": 1, "          \
    "\"residual_multiplier\": 1, \"attention_multiplier\": 1, \"logits_scaling\": 1, "             \
    "\"bos_token_id\": 1, \"eos_token_id\": 2"

#define GRANITE_MOE_KEYS                                                                           \
    "num_local_experts num_experts_per_tok output_router_logits router_aux_loss_coef"

#define MAMBA_KEYS                                                                                 \
    "layers_block_type mamba_n_heads mamba_n_groups mamba_d_state mamba_d_head mamba_d_conv "      \
    "mamba_expand mamba_chunk_size mamba_conv_bias mamba_proj_bias time_step_limit "               \
    "time_step_min time_step_max time_step_floor init_method"

static const sp_arch architectures[] = {
    {.model_type = "mistral",
     .class_name = "MistralForCausalLM",
     .gguf_name = "llama",
     .outer_type = "mistral3",
     .outer_class = "Mistral3ForConditionalGeneration",
     .gguf_long = true,
     .window = SP_WINDOW_ALL,
     .defaults = "{\"max_position_embeddings\": 131072}",
     .gguf_windowed = true,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "llama",
     .class_name = "LlamaForCausalLM",
     .gguf_name = "llama",
     .gguf_long = true,
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .gguf_name = "qwen2",
     .bias = SP_BIAS_QKV,
     .window = SP_WINDOW_FLAG,
     .defaults = "{\"max_position_embeddings\": 32768}",
     .gguf_is_default = true},
    {.model_type = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .gguf_name = "qwen3",
     .gguf_fixed = "{\"attention_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_HEADS,
     .window = SP_WINDOW_FLAG,
     .defaults = "{\"head_dim\": 128, \"max_position_embeddings\": 32768}",
     .gguf_is_default = true},
    {.model_type = "mixtral",
     .class_name = "MixtralForCausalLM",
     .gguf_name = "llama",
     .gguf_long = true,
     .window = SP_WINDOW_ALL,
     .mixture = &mixtral_mixture,
     .renames = mixtral_names,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"num_experts_per_tok\": 2, \"rope_theta\": 1000000, "
                 "\"max_position_embeddings\": 131072}",
     .own_keys = "num_local_experts num_experts_per_tok output_router_logits router_aux_loss_coef",
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "qwen3_moe",
     .class_name = "Qwen3MoeForCausalLM",
     .gguf_name = "qwen3moe",
     .gguf_fixed = "{\"attention_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_HEADS,
     .window = SP_WINDOW_SWITCH,
     .mixture = &qwen3_mixture,
     .defaults = "{\"num_experts_per_tok\": 8, \"sliding_window\": 4096, "
                 "\"max_position_embeddings\": 32768}",
     .own_keys = "num_experts num_local_experts num_experts_per_tok moe_intermediate_size "
                 "norm_topk_prob decoder_sparse_step mlp_only_layers output_router_logits "
                 "router_aux_loss_coef",
     .gguf_is_default = true},
    {.model_type = "qwen2_moe",
     .class_name = "Qwen2MoeForCausalLM",
     .gguf_name = "qwen2moe",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG_QKV,
     .bias_key = "qkv_bias",
     .window = SP_WINDOW_EVEN,
     .mixture = &qwen2_mixture,
     .defaults = "{\"qkv_bias\": true, \"sliding_window\": 4096, \"num_experts_per_tok\": 4, "
                 "\"num_experts\": 60, "
                 "\"moe_intermediate_size\": 1408, \"shared_expert_intermediate_size\": 5632, "
                 "\"max_position_embeddings\": 32768}",
     .own_keys = "num_experts num_local_experts num_experts_per_tok moe_intermediate_size "
                 "shared_expert_intermediate_size norm_topk_prob decoder_sparse_step "
                 "mlp_only_layers output_router_logits router_aux_loss_coef",
     .gguf_is_default = true},
    {.model_type = "olmoe",
     .class_name = "OlmoeForCausalLM",
     .gguf_name = "olmoe",
     .gguf_fixed = "{\"attention_bias\": false}",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_ROWS,
     .mixture = &olmoe_mixture,
     .defaults = "{\"num_experts_per_tok\": 8, \"num_experts\": 64, \"rms_norm_eps\": 1e-5, "
                 "\"pad_token_id\": 1, \"eos_token_id\": 50279, "
                 "\"max_position_embeddings\": 4096}",
     .numbers = olmoe_numbers,
     .own_keys = "num_experts num_local_experts num_experts_per_tok norm_topk_prob "
                 "output_router_logits router_aux_loss_coef",
     .gguf_ungrouped = true,
     .gguf_is_default = true},
    {.model_type = "phi3",
     .class_name = "Phi3ForCausalLM",
     .gguf_name = "phi3",
     .gguf_long = true,
     .window = SP_WINDOW_ALL,
     .rope_partial = true,
     .fusions = phi3_fusions,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 4096}",
     .fixed_keys = "{\"full_attn_mod\": 1, \"interpolate_factor\": 1}",
     .gguf_is_default = true},
    {.model_type = "smollm3",
     .class_name = "SmolLM3ForCausalLM",
     .gguf_name = "smollm3",
     .gguf_fixed = "{\"attention_bias\": false, \"mlp_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .window = SP_WINDOW_FLAG,
     .rope_by_layer = true,
     .defaults =
         "{\"tie_word_embeddings\": true, \"num_key_value_heads\": 4, \"rope_theta\": 2000000, "
         "\"max_position_embeddings\": 32768}",
     .own_keys = "no_rope_layers no_rope_layer_interval",
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "gemma",
     .class_name = "GemmaForCausalLM",
     .gguf_name = "gemma",
     .gguf_fixed = "{\"attention_bias\": false, \"tie_word_embeddings\": true}",
     .bias = SP_BIAS_CONFIG,
     .norm_shift = 1,
     .act = SP_GELU_TANH,
     .gelu_by_tanh = true,
     .embed_by_width = true,
     .defaults = "{\"tie_word_embeddings\": true, \"head_dim\": 256, \"bos_token_id\": 2, "
                 "\"eos_token_id\": 1, \"pad_token_id\": 0, \"max_position_embeddings\": 8192}",
     .own_keys = "hidden_activation",
     .gguf_is_default = true},
    {.model_type = "gemma2",
     .class_name = "Gemma2ForCausalLM",
     .gguf_name = "gemma2",
     .gguf_fixed = "{\"attention_bias\": false, \"tie_word_embeddings\": true}",
     .bias = SP_BIAS_CONFIG,
     .norm_shift = 1,
     .norms = SP_NORMS_BOTH,
     .window = SP_WINDOW_PATTERN,
     .pattern = 2,
     .act = SP_GELU_TANH,
     .act_key = "hidden_activation",
     .embed_by_width = true,
     .gguf_wide_layers = 46,
     .defaults = "{\"tie_word_embeddings\": true, \"head_dim\": 256, \"bos_token_id\": 2, "
                 "\"eos_token_id\": 1, \"pad_token_id\": 0, \"max_position_embeddings\": 8192, "
                 "\"sliding_window\": 4096, \"query_pre_attn_scalar\": 256, "
                 "\"attn_logit_softcapping\": 50, \"final_logit_softcapping\": 30}",
     .numbers = gemma2_numbers,
     .renames = both_norms,
     .gguf_is_default = true},
    {.model_type = "gemma3_text",
     .class_name = "Gemma3ForCausalLM",
     .gguf_name = "gemma3",
     .gguf_fixed = "{\"attention_bias\": false}",
     .outer_type = "gemma3",
     .outer_class = "Gemma3ForConditionalGeneration",
     .bias = SP_BIAS_CONFIG,
     .norm_shift = 1,
     .norms = SP_NORMS_BOTH,
     .qk_norm = SP_QK_HEADS,
     .window = SP_WINDOW_PATTERN,
     .pattern = 6,
     .act = SP_GELU_TANH,
     .act_key = "hidden_activation",
     .embed_by_width = true,
     .rope_local = true,
     .gguf_wide_layers = 62,
     .defaults = "{\"vocab_size\": 262208, \"hidden_size\": 2304, \"intermediate_size\": 9216, "
                 "\"num_hidden_layers\": 26, \"num_attention_heads\": 8, "
                 "\"num_key_value_heads\": 4, \"head_dim\": 256, \"tie_word_embeddings\": true, "
                 "\"bos_token_id\": 2, \"eos_token_id\": 1, \"pad_token_id\": 0, "
                 "\"max_position_embeddings\": 131072, \"sliding_window\": 4096, "
                 "\"query_pre_attn_scalar\": 256, \"rope_theta\": 1000000, "
                 "\"rope_local_base_freq\": 10000}",
     .numbers = gemma3_numbers,
     .renames = both_norms,
     .gguf_is_default = true},
    {.model_type = "olmo",
     .class_name = "OlmoForCausalLM",
     .gguf_name = "olmo",
     .gguf_fixed = "{\"attention_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .norm = SP_LAYER_NORM_BARE,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"pad_token_id\": 1, \"eos_token_id\": 50279}",
     .numbers = olmo_numbers,
     .aliases = olmo_keys,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "phi",
     .class_name = "PhiForCausalLM",
     .gguf_name = "phi2",
     .bias = SP_BIAS_ALWAYS,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_eps",
     .head_bias = true,
     .plain_mlp = true,
     .act = SP_GELU_TANH,
     .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true,
     .rope_partial = true,
     .defaults = "{\"partial_rotary_factor\": 0.5, \"layer_norm_eps\": 1e-5, \"bos_token_id\": 1, "
                 "\"eos_token_id\": 2}",
     .renames = phi_names,
     .fixed_keys = "{\"tie_word_embeddings\": false}",
     .gguf_is_default = true},
    {.model_type = "olmo3",
     .class_name = "Olmo3ForCausalLM",
     .gguf_name = "olmo2",
     .gguf_fixed = "{\"attention_bias\": false}",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .norms = SP_NORMS_AFTER,
     .qk_norm = SP_QK_ROWS,
     .window = SP_WINDOW_PATTERN,
     .pattern = 4,
     .rope_local = true,
     .defaults = "{\"pad_token_id\": 1, \"eos_token_id\": 50279, \"rms_norm_eps\": 1e-5, "
                 "\"rope_theta\": 500000, \"sliding_window\": 4096}",
     .gguf_windowed = true,
     .gguf_is_default = true},
    {.model_type = "olmo2",
     .class_name = "Olmo2ForCausalLM",
     .gguf_name = "olmo2",
     .gguf_fixed = "{\"attention_bias\": false}",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .norms = SP_NORMS_AFTER,
     .qk_norm = SP_QK_ROWS,
     .defaults = "{\"pad_token_id\": 1, \"eos_token_id\": 50279, \"rms_norm_eps\": 1e-5}",
     .gguf_is_default = true},
    {.model_type = "seed_oss",
     .class_name = "SeedOssForCausalLM",
     .gguf_name = "seed_oss",
     .gguf_fixed = "{\"attention_out_bias\": false, \"mlp_bias\": false}",
     .bias = SP_BIAS_CONFIG_QKV,
     .out_bias_key = "attention_out_bias",
     .mlp_bias = SP_BIAS_CONFIG,
     .defaults = "{\"attention_bias\": true, \"head_dim\": 128, \"num_key_value_heads\": 8, "
                 "\"bos_token_id\": 0, \"eos_token_id\": 2, \"pad_token_id\": 1, "
                 "\"max_position_embeddings\": 524288}",
     .renames = seed_oss_names,
     .own_keys = "residual_dropout",
     .gguf_is_default = true},
    {.model_type = "glm4",
     .class_name = "Glm4ForCausalLM",
     .gguf_name = "glm4",
     .bias = SP_BIAS_CONFIG_QKV,
     .norms = SP_NORMS_BOTH,
     .rope_partial = true,
     .rope_adjacent = true,
     .defaults = GLM_DEFAULTS,
     .fusions = glm_fusions,
     .renames = glm4_names,
     .gguf_is_default = true},
    {.model_type = "glm",
     .class_name = "GlmForCausalLM",
     .gguf_name = "chatglm",
     .bias = SP_BIAS_CONFIG_QKV,
     .rope_partial = true,
     .rope_adjacent = true,
     .defaults = GLM_DEFAULTS,
     .fusions = glm_fusions,
     .gguf_is_default = true},
    {.model_type = "ernie4_5",
     .class_name = "Ernie4_5ForCausalLM",
     .gguf_name = "ernie4_5",
     .gguf_fixed = "{\"use_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .bias_key = "use_bias",
     .mlp_bias = SP_BIAS_CONFIG,
     .mlp_bias_key = "use_bias",
     .rope_adjacent = true,
     .defaults = "{\"tie_word_embeddings\": true, \"head_dim\": 128, \"num_key_value_heads\": 2, "
                 "\"rms_norm_eps\": 1e-5, \"rope_theta\": 500000, \"bos_token_id\": 1, "
                 "\"eos_token_id\": 2, \"pad_token_id\": 0, \"max_position_embeddings\": 131072}",
     .gguf_is_default = true},
    {.model_type = "exaone4",
     .class_name = "Exaone4ForCausalLM",
     .gguf_name = "exaone4",
     .norms = SP_NORMS_AFTER,
     .qk_norm = SP_QK_HEADS,
     .window = SP_WINDOW_PATTERN,
     .pattern = 4,
     .rope_in_windows = true,
     .rope_windowless = true,
     .gguf_window_layers = 64,
     .defaults = "{\"sliding_window\": 4096, \"num_key_value_heads\": 32, \"rms_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 0, \"eos_token_id\": 2}",
     .gguf_is_default = true},
    {.model_type = "helium",
     .class_name = "HeliumForCausalLM",
     .bias = SP_BIAS_CONFIG_QKV,
     .mlp_bias = SP_BIAS_CONFIG,
     .rope_adjacent = true,
     .defaults = "{\"head_dim\": 128, \"num_key_value_heads\": 20, \"rms_norm_eps\": 1e-8, "
                 "\"rope_theta\": 100000, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                 "\"pad_token_id\": 3, \"max_position_embeddings\": 4096}"},
    {.model_type = "arcee",
     .class_name = "ArceeForCausalLM",
     .gguf_name = "arcee",
     .gguf_fixed = "{\"attention_bias\": false, \"mlp_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .plain_mlp = true,
     .act = SP_RELU2,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"bos_token_id\": 128000, \"eos_token_id\": 128001, "
                 "\"max_position_embeddings\": 4096}",
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "nemotron",
     .class_name = "NemotronForCausalLM",
     .gguf_name = "nemotron",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .norm = SP_LAYER_NORM,
     .norm_shift = 1,
     .eps_key = "norm_eps",
     .plain_mlp = true,
     .act = SP_RELU2,
     .rope_partial = true,
     .defaults = "{\"norm_eps\": 1e-5, \"partial_rotary_factor\": 0.5, \"bos_token_id\": 2, "
                 "\"eos_token_id\": 3, \"max_position_embeddings\": 4096}",
     .own_keys = "rope_percent", /* of an older form, which transformers does not read either */
     .gguf_is_default = true},
    {.model_type = "vaultgemma",
     .class_name = "VaultGemmaForCausalLM",
     .bias = SP_BIAS_CONFIG,
     .norm_shift = 1,
     .window = SP_WINDOW_PATTERN,
     .pattern = 2,
     .act = SP_GELU_TANH,
     .act_key = "hidden_activation",
     .embed_by_width = true,
     .defaults = "{\"tie_word_embeddings\": true, \"head_dim\": 256, \"num_key_value_heads\": 4, "
                 "\"bos_token_id\": 2, \"eos_token_id\": 1, \"pad_token_id\": 0, "
                 "\"max_position_embeddings\": 8192, \"sliding_window\": 4096, "
                 "\"query_pre_attn_scalar\": 256, \"attn_logit_softcapping\": 50, "
                 "\"final_logit_softcapping\": 30}",
     .numbers = gemma2_numbers,
     .renames = both_norms},
    {.model_type = "granitemoehybrid",
     .when = "{\"num_local_experts\": [0]}",
     .class_name = "GraniteMoeHybridForCausalLM",
     .gguf_name = "granite",
     .bias = SP_BIAS_CONFIG,
     .ffn_key = "shared_intermediate_size",
     .layer_name = "attention",
     .rope_key = "position_embedding_type",
     .defaults = "{\"shared_intermediate_size\": 1024, "
                 "\"embedding_multiplier\": 1, \"residual_multiplier\": 1, "
                 "\"attention_multiplier\": 1, \"logits_scaling\": 1, \"bos_token_id\": 1, "
                 "\"eos_token_id\": 2}",
     .numbers = granite_numbers,
     .fusions = granite_hybrid_fusions,
     .renames = granite_hybrid_names,
     .own_keys = MAMBA_KEYS " num_experts_per_tok output_router_logits router_aux_loss_coef",
     .fixed_keys = "{\"num_local_experts\": 0, \"normalization_function\": \"rmsnorm\"}",
     .written = "{\"num_local_experts\": 0, \"num_experts_per_tok\": 0, \"mamba_n_heads\": 1}",
     .gguf_unturned = true,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "granitemoehybrid",
     .class_name = "GraniteMoeHybridForCausalLM",
     .gguf_name = "granitemoe",
     .bias = SP_BIAS_CONFIG,
     .mixture = &granite_hybrid_mixture,
     .layer_name = "attention",
     .rope_key = "position_embedding_type",
     .defaults = "{\"shared_intermediate_size\": 1024, " GRANITE_MOE_DEFAULTS "}",
     .numbers = granite_numbers,
     .fusions = granite_moe_fusions,
     .renames = granite_moe_names,
     .own_keys = MAMBA_KEYS " shared_intermediate_size " GRANITE_MOE_KEYS,
     .fixed_keys = "{\"normalization_function\": \"rmsnorm\"}",
     .written = "{\"mamba_n_heads\": 1}",
     .gguf_permuted = true},
    {.model_type = "granitemoeshared",
     .class_name = "GraniteMoeSharedForCausalLM",
     .gguf_name = "granitemoe",
     .bias = SP_BIAS_CONFIG,
     .mixture = &granite_shared_mixture,
     .defaults = "{\"shared_intermediate_size\": 0, " GRANITE_MOE_DEFAULTS "}",
     .numbers = granite_numbers,
     .fusions = granite_moe_fusions,
     .renames = granite_moe_names,
     .own_keys = "shared_intermediate_size " GRANITE_MOE_KEYS,
     .gguf_tensor = "blk.0.ffn_gate_shexp.weight",
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "granitemoe",
     .class_name = "GraniteMoeForCausalLM",
     .gguf_name = "granitemoe",
     .bias = SP_BIAS_CONFIG,
     .mixture = &granite_moe_mixture,
     .defaults = "{" GRANITE_MOE_DEFAULTS "}",
     .numbers = granite_numbers,
     .renames = granite_moe_names,
     .own_keys = GRANITE_MOE_KEYS,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "granite",
     .class_name = "GraniteForCausalLM",
     .gguf_name = "granite",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .defaults = "{\"embedding_multiplier\": 1, \"residual_multiplier\": 1, "
                 "\"attention_multiplier\": 1, \"logits_scaling\": 1}",
     .numbers = granite_numbers,
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "stablelm",
     .class_name = "StableLmForCausalLM",
     .gguf_name = "stablelm",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG_QKV,
     .bias_key = "use_qkv_bias",
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_eps",
     .parallel = SP_PARALLEL_CONFIG,
     .one_norm = true,
     .qk_norm = SP_QK_OWN,
     .qk_key = "qk_layernorm",
     .rope_partial = true,
     .defaults = "{\"partial_rotary_factor\": 0.25, \"layer_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 0, \"eos_token_id\": 0, "
                 "\"max_position_embeddings\": 4096}",
     .renames = stablelm_names,
     .gguf_is_default = true},
    {.model_type = "starcoder2",
     .class_name = "Starcoder2ForCausalLM",
     .gguf_name = "starcoder2",
     .gguf_fixed = "{\"use_bias\": true}",
     .bias = SP_BIAS_CONFIG,
     .bias_key = "use_bias",
     .mlp_bias = SP_BIAS_CONFIG,
     .mlp_bias_key = "use_bias",
     .norm = SP_LAYER_NORM,
     .eps_key = "norm_epsilon",
     .plain_mlp = true,
     .window = SP_WINDOW_ALL,
     .act = SP_GELU_TANH,
     .defaults = "{\"use_bias\": true, \"tie_word_embeddings\": true, \"norm_epsilon\": 1e-5, "
                 "\"bos_token_id\": 50256, \"eos_token_id\": 50256, "
                 "\"num_key_value_heads\": 2, \"max_position_embeddings\": 4096}",
     .renames = starcoder2_names,
     .own_keys = "layer_norm_epsilon activation_function residual_dropout embedding_dropout",
     .fixed_keys = "{\"mlp_type\": \"default\", \"norm_type\": \"layer_norm\", "
                   "\"scale_attn_weights\": true, \"attention_softmax_in_fp32\": true, "
                   "\"scale_attention_softmax_in_fp32\": true}",
     .gguf_is_default = true},
    {.model_type = "cohere2",
     .class_name = "Cohere2ForCausalLM",
     .gguf_name = "cohere2",
     .gguf_fixed = "{\"attention_bias\": false, \"tie_word_embeddings\": true}",
     .bias = SP_BIAS_CONFIG,
     .norm = SP_LAYER_NORM_PLAIN,
     .eps_key = "layer_norm_eps",
     .window = SP_WINDOW_PATTERN,
     .pattern = 4,
     .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true,
     .rope_adjacent = true,
     .rope_in_windows = true,
     .defaults = "{\"tie_word_embeddings\": true, \"layer_norm_eps\": 1e-5, "
                 "\"logit_scale\": 0.0625, \"sliding_window\": 4096, \"bos_token_id\": 5, "
                 "\"eos_token_id\": 255001, \"pad_token_id\": 0, "
                 "\"max_position_embeddings\": 8192}",
     .numbers = cohere_numbers,
     .fixed_keys = "{\"order_of_interleaved_layers\": \"local_attn_first\", "
                   "\"position_embedding_type\": \"rope_gptj\", \"layer_switch\": 4, "
                   "\"use_embedding_sharing\": true, \"use_gated_activation\": true, "
                   "\"use_parallel_block\": true, \"use_parallel_embedding\": true}",
     .gguf_is_default = true},
    {.model_type = "cohere",
     .class_name = "CohereForCausalLM",
     .gguf_name = "command-r",
     .gguf_fixed = "{\"attention_bias\": false, \"tie_word_embeddings\": true}",
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_OWN,
     .qk_key = "use_qk_norm",
     .gguf_norm_layers = 64,
     .norm = SP_LAYER_NORM_PLAIN,
     .eps_key = "layer_norm_eps",
     .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true,
     .rope_adjacent = true,
     .defaults =
         "{\"rope_theta\": 500000, \"tie_word_embeddings\": true, \"layer_norm_eps\": 1e-5, "
         "\"logit_scale\": 0.0625, \"bos_token_id\": 5, "
         "\"eos_token_id\": 255001, \"pad_token_id\": 0, "
         "\"max_position_embeddings\": 8192}",
     .numbers = cohere_numbers,
     .gguf_is_default = true},
};

const sp_arch *sp_arch_at(int i) {
    const int n = (int)(sizeof architectures / sizeof architectures[0]);
    return i < 0 ? NULL : i < n ? &architectures[i] : sp_arch_newer_at(i - n);
}
