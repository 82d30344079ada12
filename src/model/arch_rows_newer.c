/* Rows of the table of architectures: families of 2024 and later that are Llama with changes. */
#include <stddef.h>

#include "model/arch_parts.h"
#include "model/params.h"

static const sp_rename hunyuan_names[] = {{SP_Q_NORM, "self_attn.query_layernorm.weight", NULL},
                                          {SP_K_NORM, "self_attn.key_layernorm.weight", NULL},
                                          {.name = NULL}};

static const sp_rename apertus_names[] = {{SP_ATTN_NORM, "attention_layernorm.weight", NULL},
                                          {SP_MLP_NORM, "feedforward_layernorm.weight", NULL},
                                          {.name = NULL}};

static const sp_rename nanochat_names[] = {
    {SP_UP, "mlp.fc1.weight", NULL}, {SP_DOWN, "mlp.fc2.weight", NULL}, {.name = NULL}};

static const sp_number_key nanochat_numbers[] = {
    {"final_logit_softcapping", NULL, offsetof(sp_config, logit_cap), false}, {.key = NULL}};

static const sp_rename exaone_names[] = {{SP_EMBED, "transformer.wte.weight", NULL},
                                         {SP_ATTN_NORM, "ln_1.weight", NULL},
                                         {SP_Q, "attn.attention.q_proj.weight", NULL},
                                         {SP_K, "attn.attention.k_proj.weight", NULL},
                                         {SP_V, "attn.attention.v_proj.weight", NULL},
                                         {SP_O, "attn.attention.out_proj.weight", NULL},
                                         {SP_Q_BIAS, "attn.attention.q_proj.bias", NULL},
                                         {SP_K_BIAS, "attn.attention.k_proj.bias", NULL},
                                         {SP_V_BIAS, "attn.attention.v_proj.bias", NULL},
                                         {SP_O_BIAS, "attn.attention.out_proj.bias", NULL},
                                         {SP_MLP_NORM, "ln_2.weight", NULL},
                                         {SP_GATE, "mlp.c_fc_0.weight", NULL},
                                         {SP_UP, "mlp.c_fc_1.weight", NULL},
                                         {SP_DOWN, "mlp.c_proj.weight", NULL},
                                         {SP_GATE_BIAS, "mlp.c_fc_0.bias", NULL},
                                         {SP_UP_BIAS, "mlp.c_fc_1.bias", NULL},
                                         {SP_DOWN_BIAS, "mlp.c_proj.bias", NULL},
                                         {SP_FINAL_NORM, "transformer.ln_f.weight", NULL},
                                         {.name = NULL}};

static const sp_key_alias exaone_keys[] = {{"num_layers", "num_hidden_layers"},
                                           {"layer_norm_epsilon", "rms_norm_eps"},
                                           {"activation_function", "hidden_act"},
                                           {NULL, NULL}};

static const sp_key_alias internlm3_keys[] = {
    {"qkv_bias", "attention_bias"}, {"bias", "mlp_bias"}, {NULL, NULL}};

static const sp_rename shared_experts_names[] = {
    {SP_SHARED_GATE, "mlp.shared_experts.gate_proj.weight", NULL},
    {SP_SHARED_UP, "mlp.shared_experts.up_proj.weight", NULL},
    {SP_SHARED_DOWN, "mlp.shared_experts.down_proj.weight", NULL},
    {.name = NULL}};

static const sp_rename ernie_moe_names[] = {
    {SP_CORRECTION, "mlp.moe_statics.e_score_correction_bias", NULL}, {.name = NULL}};

/* GGUF files call the feed-forward's norm what they call one after attention elsewhere. */
static const sp_rename glm4_moe_names[] = {
    {SP_MLP_NORM, "post_attention_layernorm.weight", "post_attention_norm.weight"}, {.name = NULL}};

static const sp_expert_stack ernie_moe_fused[] = {
    {SP_ROUTER, 1, "mlp.gate.weight"},
    {SP_CORRECTION, 1, "mlp.gate.moe_statics.e_score_correction_bias"},
    {SP_EXPERT_GATE, 2, "mlp.experts.gate_up_proj"},
    {SP_EXPERT_DOWN, 1, "mlp.experts.down_proj"},
    {.name = NULL}};

static const sp_mixture ernie_moe_mixture = {.count_key = "moe_num_experts",
                                             .width_key = "moe_intermediate_size",
                                             .gguf_width = "expert_feed_forward_length",
                                             .normalised = true,
                                             .corrected = true,
                                             .correction_row = true,
                                             .least_key = "moe_norm_min",
                                             .layers = SP_SPARSE_RANGE,
                                             .gguf_dense = true,
                                             .shared_key = "moe_num_shared_experts",
                                             .shared_optional = true,
                                             .shared_counts = true,
                                             .fused = ernie_moe_fused};

/* GLM-4.5 and dots.llm1 choose as DeepSeek-V3 does. */
static const sp_mixture sigmoid_mixture = {.count_key = "n_routed_experts",
                                           .width_key = "moe_intermediate_size",
                                           .gguf_width = "expert_feed_forward_length",
                                           .router = SP_ROUTER_SIGMOID,
                                           .corrected = true,
                                           .grouped = true,
                                           .layers = SP_SPARSE_AFTER,
                                           .unbalanced = true,
                                           .gguf_says = true,
                                           .gguf_dense = true,
                                           .shared_key = "n_shared_experts",
                                           .shared_counts = true};

static const sp_key_alias ernie_moe_keys[] = {{"moe_k", "num_experts_per_tok"}, {NULL, NULL}};

static const sp_number_key sigmoid_numbers[] = {
    {"routed_scaling_factor", "expert_weights_scale", offsetof(sp_config, routed_scale), false},
    {.key = NULL}};

#define SIGMOID_KEYS                                                                               \
    "n_routed_experts num_local_experts num_experts_per_tok moe_intermediate_size "                \
    "n_shared_experts n_group topk_group first_k_dense_replace norm_topk_prob "                    \
    "output_router_logits"

static const sp_rename lfm2_names[] = {
    {SP_ATTN_NORM, "operator_norm.weight", NULL},
    {SP_MLP_NORM, "ffn_norm.weight", NULL},
    {SP_Q_NORM, "self_attn.q_layernorm.weight", NULL},
    {SP_K_NORM, "self_attn.k_layernorm.weight", NULL},
    {SP_O, "self_attn.out_proj.weight", NULL},
    {SP_GATE, "feed_forward.w1.weight", NULL},
    {SP_UP, "feed_forward.w3.weight", NULL},
    {SP_DOWN, "feed_forward.w2.weight", NULL},
    {SP_FINAL_NORM, "model.embedding_norm.weight", "token_embd_norm.weight"},
    {.name = NULL}};

static const sp_key_alias lfm2_keys[] = {
    {"block_ff_dim", "intermediate_size"}, {"tie_embedding", "tie_word_embeddings"}, {NULL, NULL}};

static const sp_arch architectures[] = {
    {.model_type = "ministral",
     .class_name = "MinistralForCausalLM",
     .gguf_name = "llama",
     .gguf_long = true,
     .window = SP_WINDOW_LISTED,
     .defaults = "{\"num_key_value_heads\": 8, \"sliding_window\": 4096, \"bos_token_id\": 1, "
                 "\"eos_token_id\": 2, \"max_position_embeddings\": 131072}",
     .gguf_permuted = true},
    {.model_type = "ministral3",
     .class_name = "Ministral3ForCausalLM",
     .gguf_name = "mistral3",
     .outer_type = "mistral3",
     .outer_class = "Mistral3ForConditionalGeneration",
     .window = SP_WINDOW_ALL,
     .rope_grows = true,
     .defaults = "{\"num_key_value_heads\": 8, \"head_dim\": 128, \"rms_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 1, \"eos_token_id\": 2, \"pad_token_id\": 11, "
                 "\"max_position_embeddings\": 262144, "
                 "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1000000, "
                 "\"factor\": 16, \"original_max_position_embeddings\": 16384, "
                 "\"beta_fast\": 32, \"beta_slow\": 1, \"mscale_all_dim\": 1, \"mscale\": 1, "
                 "\"llama_4_scaling_beta\": 0.1}}",
     .gguf_permuted = true,
     .gguf_is_default = true},
    {.model_type = "hunyuan_v1_dense",
     .class_name = "HunYuanDenseV1ForCausalLM",
     .gguf_name = "hunyuan-dense",
     .gguf_fixed = "{\"attention_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_HEADS,
     .qk_turned = true,
     .rope_alpha = true,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                 "\"pad_token_id\": 0}",
     .renames = hunyuan_names,
     .own_keys = "eod_token_id attention_head_dim pad_id org_vocab_size add_classification_head "
                 "class_num pool_type dense_list cla_share_factor im_start_id im_end_id "
                 "im_newline_id text_start_id text_end_id mask_init_id",
     .fixed_keys = "{\"use_qk_norm\": true, \"use_rotary_pos_emb\": true, \"norm_type\": "
                   "\"rms\"}",
     .gguf_is_default = true},
    {.model_type = "apertus",
     .class_name = "ApertusForCausalLM",
     .gguf_name = "apertus",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .plain_mlp = true,
     .act = SP_XIELU,
     .qk_norm = SP_QK_HEADS,
     .defaults = "{\"rms_norm_eps\": 1e-5, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                 "\"pad_token_id\": 3, \"max_position_embeddings\": 65536, "
                 "\"rope_theta\": 12000000, \"rope_parameters\": {\"rope_type\": \"llama3\", "
                 "\"rope_theta\": 12000000, \"factor\": 8, \"low_freq_factor\": 1, "
                 "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
     .renames = apertus_names,
     .fixed_keys = "{\"qk_norm\": true, \"post_norm\": false}",
     .gguf_is_default = true},
    {.model_type = "nanochat",
     .class_name = "NanoChatForCausalLM",
     .bias = SP_BIAS_CONFIG,
     .norm = SP_RMS_NORM_BARE,
     .embed_norm = true,
     .plain_mlp = true,
     .act = SP_RELU2,
     .qk_norm = SP_QK_BARE,
     .qk_turned = true,
     .rope_back = true,
     .defaults = "{\"final_logit_softcapping\": 15, \"bos_token_id\": 0, \"eos_token_id\": 1, "
                 "\"pad_token_id\": 1}",
     .numbers = nanochat_numbers,
     .renames = nanochat_names},
    {.model_type = "iquestcoder",
     .class_name = "IQuestCoderForCausalLM",
     .also_class = "LlamaForCausalLM",
     .gguf_name = "llama",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .defaults = "{\"num_key_value_heads\": 8, \"head_dim\": 128, \"rms_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 1, \"eos_token_id\": 2, \"max_position_embeddings\": 131072}",
     .gguf_permuted = true},
    {.model_type = "cwm",
     .class_name = "CwmForCausalLM",
     .gguf_name = "llama",
     .gguf_long = true,
     .mlp_bias = SP_BIAS_CONFIG,
     .window = SP_WINDOW_FIRST,
     .pattern = 4,
     .defaults = "{\"num_key_value_heads\": 8, \"head_dim\": 128, \"rms_norm_eps\": 1e-5, "
                 "\"sliding_window\": 8192, \"bos_token_id\": 128000, "
                 "\"eos_token_id\": [128001, 128008, 128009], "
                 "\"max_position_embeddings\": 131072, \"rope_theta\": 1000000, "
                 "\"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 1000000, "
                 "\"factor\": 16, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                 "\"original_max_position_embeddings\": 8192}}",
     .gguf_permuted = true},
    {.model_type = "jais2",
     .class_name = "Jais2ForCausalLM",
     .gguf_name = "jais2",
     .gguf_fixed = "{\"attention_bias\": true, \"mlp_bias\": true}",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_eps",
     .plain_mlp = true,
     .act = SP_RELU2,
     .defaults = "{\"attention_bias\": true, \"mlp_bias\": true, \"layer_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 0, \"eos_token_id\": 150024, "
                 "\"max_position_embeddings\": 8192}",
     .gguf_is_default = true},
    {.model_type = "internlm3",
     .class_name = "InternLM3ForCausalLM",
     .also_class = "LlamaForCausalLM",
     .gguf_name = "llama",
     .gguf_long = true,
     .bias = SP_BIAS_CONFIG_QKV,
     .out_bias_key = "mlp_bias",
     .mlp_bias = SP_BIAS_CONFIG,
     .defaults = "{\"num_key_value_heads\": 2, \"head_dim\": 128, \"rms_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 1, \"eos_token_id\": 2, \"pad_token_id\": 2, "
                 "\"max_position_embeddings\": 32768}",
     .aliases = internlm3_keys,
     .gguf_permuted = true},
    {.model_type = "exaone",
     .class_name = "ExaoneForCausalLM",
     .also_class = "LlamaForCausalLM",
     .gguf_name = "exaone",
     .gguf_fixed = "{\"attention_bias\": false, \"mlp_bias\": false}",
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_CONFIG,
     .layers = "transformer.h",
     .defaults = "{\"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-5, \"rope_theta\": 500000, "
                 "\"bos_token_id\": 1, \"eos_token_id\": 361, \"pad_token_id\": 0, "
                 "\"max_position_embeddings\": 4096}",
     .renames = exaone_names,
     .aliases = exaone_keys,
     .own_keys = "embed_dropout",
     .gguf_is_default = true},
    {.model_type = "ernie4_5_moe",
     .class_name = "Ernie4_5_MoeForCausalLM",
     .gguf_name = "ernie4_5-moe",
     .mixture = &ernie_moe_mixture,
     .rope_adjacent = true,
     .defaults = "{\"tie_word_embeddings\": true, \"num_key_value_heads\": 4, "
                 "\"rms_norm_eps\": 1e-5, \"rope_theta\": 500000, \"bos_token_id\": 1, "
                 "\"eos_token_id\": 2, \"pad_token_id\": 0, \"max_position_embeddings\": 131072, "
                 "\"moe_num_experts\": 64, \"num_experts_per_tok\": 6, "
                 "\"moe_intermediate_size\": 1536, \"moe_num_shared_experts\": 2, "
                 "\"moe_layer_start_index\": 1, \"moe_norm_min\": 1e-12}",
     .renames = ernie_moe_names,
     .more_renames = shared_experts_names,
     .aliases = ernie_moe_keys,
     .own_keys = "moe_num_experts num_local_experts num_experts_per_tok moe_intermediate_size "
                 "moe_num_shared_experts moe_layer_start_index moe_layer_end_index "
                 "moe_layer_interval moe_norm_min output_router_logits router_aux_loss_coef "
                 "moe_capacity",
     .fixed_keys = "{\"use_bias\": false, \"use_rmsnorm\": true, \"moe_gate\": \"topk\", "
                   "\"moe_use_aux_free\": true}",
     .gguf_is_default = true},
    {.model_type = "glm4_moe",
     .class_name = "Glm4MoeForCausalLM",
     .gguf_name = "glm4moe",
     .bias = SP_BIAS_CONFIG_QKV,
     .qk_norm = SP_QK_HEADS,
     .qk_key = "use_qk_norm",
     .rope_partial = true,
     .mixture = &sigmoid_mixture,
     .defaults = "{\"partial_rotary_factor\": 0.5, \"num_key_value_heads\": 8, "
                 "\"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 131072, "
                 "\"n_routed_experts\": 128, \"num_experts_per_tok\": 8, "
                 "\"moe_intermediate_size\": 1408, \"n_shared_experts\": 1, "
                 "\"first_k_dense_replace\": 1, \"norm_topk_prob\": true, "
                 "\"routed_scaling_factor\": 1}",
     .numbers = sigmoid_numbers,
     .renames = glm4_moe_names,
     .more_renames = shared_experts_names,
     .own_keys = SIGMOID_KEYS " num_nextn_predict_layers num_mtp_layers",
     .written = "{\"num_nextn_predict_layers\": 0}",
     .gguf_is_default = true},
    {.model_type = "dots1",
     .class_name = "Dots1ForCausalLM",
     .gguf_name = "dots1",
     .gguf_fixed = "{\"attention_bias\": false}",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .qk_norm = SP_QK_HEADS,
     .window = SP_WINDOW_LATE,
     .mixture = &sigmoid_mixture,
     .defaults = "{\"sliding_window\": 4096, \"max_window_layers\": 62, "
                 "\"routed_scaling_factor\": 1, \"max_position_embeddings\": 2048}",
     .numbers = sigmoid_numbers,
     .renames = shared_experts_names,
     .own_keys = SIGMOID_KEYS,
     .fixed_keys = "{\"scoring_func\": \"noaux_tc\", \"moe_layer_freq\": 1}",
     .gguf_ungrouped = true,
     .gguf_is_default = true},
    {.model_type = "lfm2",
     .class_name = "Lfm2ForCausalLM",
     .gguf_name = "lfm2",
     .eps_key = "norm_eps",
     .conv_key = "conv_L_cache",
     .gguf_conv = "shortconv.l_cache",
     .ffn_shrinks = true,
     .qk_norm = SP_QK_HEADS,
     .defaults = "{\"num_key_value_heads\": 8, \"norm_eps\": 1e-5, \"rope_theta\": 1000000, "
                 "\"tie_word_embeddings\": true, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                 "\"pad_token_id\": 0, \"max_position_embeddings\": 128000}",
     .renames = lfm2_names,
     .aliases = lfm2_keys,
     .own_keys = "full_attn_idxs block_auto_adjust_ff_dim block_ffn_dim_multiplier "
                 "block_multiple_of block_dim block_norm_eps block_mlp_init_scale "
                 "block_out_init_scale block_use_xavier_init conv_dim conv_dim_out "
                 "conv_use_xavier_init num_heads",
     .fixed_keys = "{\"conv_bias\": false, \"hidden_act\": \"silu\", \"block_use_swiglu\": true, "
                   "\"use_pos_enc\": true}",
     .written = "{\"conv_bias\": false, \"block_auto_adjust_ff_dim\": false}",
     .gguf_is_default = true},
};

const sp_arch *sp_arch_newer_at(int i) {
    const int n = (int)(sizeof architectures / sizeof architectures[0]);
    return i < n ? &architectures[i] : sp_arch_early_at(i - n);
}
