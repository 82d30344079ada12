/* Rows of the table of architectures: GPT-2 and the families of its time, whose configurations and
 * tensors have names of their own. */
#include <stddef.h>

#include "model/arch_parts.h"
#include "model/params.h"

static const sp_fusion gpt2_fusions[] = {
    {"attn.c_attn.weight", "attn_qkv.weight", {SP_Q, SP_K, SP_V}, 3, 0, false},
    {"attn.c_attn.bias", "attn_qkv.bias", {SP_Q_BIAS, SP_K_BIAS, SP_V_BIAS}, 3, 0, false},
    {.name = NULL}};

static const sp_rename gpt2_names[] = {{SP_EMBED, "transformer.wte.weight", NULL},
                                       {SP_ATTN_NORM, "ln_1.weight", NULL},
                                       {SP_ATTN_NORM_BIAS, "ln_1.bias", NULL},
                                       {SP_O, "attn.c_proj.weight", NULL},
                                       {SP_O_BIAS, "attn.c_proj.bias", NULL},
                                       {SP_MLP_NORM, "ln_2.weight", NULL},
                                       {SP_MLP_NORM_BIAS, "ln_2.bias", NULL},
                                       {SP_UP, "mlp.c_fc.weight", NULL},
                                       {SP_UP_BIAS, "mlp.c_fc.bias", NULL},
                                       {SP_DOWN, "mlp.c_proj.weight", NULL},
                                       {SP_DOWN_BIAS, "mlp.c_proj.bias", NULL},
                                       {SP_FINAL_NORM, "transformer.ln_f.weight", NULL},
                                       {SP_FINAL_NORM_BIAS, "transformer.ln_f.bias", NULL},
                                       {.name = NULL}};

static const sp_key_alias gpt2_keys[] = {{"n_embd", "hidden_size"},
                                         {"n_inner", "intermediate_size"},
                                         {"n_layer", "num_hidden_layers"},
                                         {"n_head", "num_attention_heads"},
                                         {"n_positions", "max_position_embeddings"},
                                         {NULL, "num_key_value_heads"},
                                         {NULL, "head_dim"},
                                         {NULL, "rope_theta"},
                                         {NULL, "rope_scaling"},
                                         {NULL, NULL}};

static const sp_fusion bigcode_fusions[] = {
    {"attn.c_attn.weight", "attn_qkv.weight", {SP_Q, SP_K, SP_V}, 3, SP_BY_KEY_HEADS, false},
    {"attn.c_attn.bias",
     "attn_qkv.bias",
     {SP_Q_BIAS, SP_K_BIAS, SP_V_BIAS},
     3,
     SP_BY_KEY_HEADS,
     false},
    {.name = NULL}};

static const sp_rename gpt_neo_names[] = {{SP_Q, "attn.attention.q_proj.weight", NULL},
                                          {SP_K, "attn.attention.k_proj.weight", NULL},
                                          {SP_V, "attn.attention.v_proj.weight", NULL},
                                          {SP_O, "attn.attention.out_proj.weight", NULL},
                                          {SP_O_BIAS, "attn.attention.out_proj.bias", NULL},
                                          {.name = NULL}};

static const sp_key_alias gpt_neo_keys[] = {{"num_layers", "num_hidden_layers"},
                                            {"num_heads", "num_attention_heads"},
                                            {"window_size", "sliding_window"},
                                            {NULL, "num_key_value_heads"},
                                            {NULL, "head_dim"},
                                            {NULL, "rope_theta"},
                                            {NULL, "rope_scaling"},
                                            {NULL, NULL}};

static const sp_rename gptj_names[] = {{SP_Q, "attn.q_proj.weight", NULL},
                                       {SP_K, "attn.k_proj.weight", NULL},
                                       {SP_V, "attn.v_proj.weight", NULL},
                                       {SP_O, "attn.out_proj.weight", NULL},
                                       {SP_UP, "mlp.fc_in.weight", NULL},
                                       {SP_UP_BIAS, "mlp.fc_in.bias", NULL},
                                       {SP_DOWN, "mlp.fc_out.weight", NULL},
                                       {SP_DOWN_BIAS, "mlp.fc_out.bias", NULL},
                                       {.name = NULL}};

/* As four processors had it. */
static const sp_fusion codegen_fusions[] = {
    {"attn.qkv_proj.weight", NULL, {SP_Q, SP_K, SP_V}, 3, 4, true}, {.name = NULL}};

#define GPTJ_DEFAULTS                                                                              \
    "{\"bos_token_id\": 50256, \"eos_token_id\": 50256, \"layer_norm_epsilon\": 1e-5, "            \
    "\"rotary_dim\": 64}"

static const sp_rename opt_names[] = {
    {SP_EMBED, "model.decoder.embed_tokens.weight", NULL},
    {SP_POSITIONS, "model.decoder.embed_positions.weight", NULL},
    {SP_ATTN_NORM, "self_attn_layer_norm.weight", NULL},
    {SP_ATTN_NORM_BIAS, "self_attn_layer_norm.bias", NULL},
    {SP_O, "self_attn.out_proj.weight", NULL},
    {SP_O_BIAS, "self_attn.out_proj.bias", NULL},
    {SP_MLP_NORM, "final_layer_norm.weight", NULL},
    {SP_MLP_NORM_BIAS, "final_layer_norm.bias", NULL},
    {SP_UP, "fc1.weight", NULL},
    {SP_UP_BIAS, "fc1.bias", NULL},
    {SP_DOWN, "fc2.weight", NULL},
    {SP_DOWN_BIAS, "fc2.bias", NULL},
    {SP_FINAL_NORM, "model.decoder.final_layer_norm.weight", NULL},
    {SP_FINAL_NORM_BIAS, "model.decoder.final_layer_norm.bias", NULL},
    {.name = NULL}};

/* OPT's norms have an epsilon that no key says. */
static const sp_key_alias opt_keys[] = {{"ffn_dim", "intermediate_size"},
                                        {NULL, "rms_norm_eps"},
                                        {NULL, "num_key_value_heads"},
                                        {NULL, "head_dim"},
                                        {NULL, "rope_theta"},
                                        {NULL, "rope_scaling"},
                                        {NULL, NULL}};

static const sp_fusion neox_fusions[] = {{"attention.query_key_value.weight",
                                          "attn_qkv.weight",
                                          {SP_Q, SP_K, SP_V},
                                          3,
                                          SP_BY_KEY_HEADS,
                                          false},
                                         {"attention.query_key_value.bias",
                                          "attn_qkv.bias",
                                          {SP_Q_BIAS, SP_K_BIAS, SP_V_BIAS},
                                          3,
                                          SP_BY_KEY_HEADS,
                                          false},
                                         {.name = NULL}};

static const sp_rename neox_names[] = {{SP_EMBED, "gpt_neox.embed_in.weight", NULL},
                                       {SP_O, "attention.dense.weight", NULL},
                                       {SP_O_BIAS, "attention.dense.bias", NULL},
                                       {SP_UP, "mlp.dense_h_to_4h.weight", NULL},
                                       {SP_UP_BIAS, "mlp.dense_h_to_4h.bias", NULL},
                                       {SP_DOWN, "mlp.dense_4h_to_h.weight", NULL},
                                       {SP_DOWN_BIAS, "mlp.dense_4h_to_h.bias", NULL},
                                       {SP_FINAL_NORM, "gpt_neox.final_layer_norm.weight", NULL},
                                       {SP_FINAL_NORM_BIAS, "gpt_neox.final_layer_norm.bias", NULL},
                                       {SP_HEAD, "embed_out.weight", NULL},
                                       {.name = NULL}};

static const sp_key_alias neox_keys[] = {{"rotary_pct", "partial_rotary_factor"},
                                         {"rotary_emb_base", "rope_theta"},
                                         {NULL, "num_key_value_heads"},
                                         {NULL, "head_dim"},
                                         {NULL, NULL}};

static const sp_rename bloom_names[] = {{SP_EMBED, "transformer.word_embeddings.weight", NULL},
                                        {SP_O, "self_attention.dense.weight", NULL},
                                        {SP_O_BIAS, "self_attention.dense.bias", NULL},
                                        {SP_UP, "mlp.dense_h_to_4h.weight", NULL},
                                        {SP_UP_BIAS, "mlp.dense_h_to_4h.bias", NULL},
                                        {SP_DOWN, "mlp.dense_4h_to_h.weight", NULL},
                                        {SP_DOWN_BIAS, "mlp.dense_4h_to_h.bias", NULL},
                                        {SP_FINAL_NORM, "transformer.ln_f.weight", NULL},
                                        {SP_FINAL_NORM_BIAS, "transformer.ln_f.bias", NULL},
                                        {.name = NULL}};

static const sp_fusion bloom_fusions[] = {{"self_attention.query_key_value.weight",
                                           "attn_qkv.weight",
                                           {SP_Q, SP_K, SP_V},
                                           3,
                                           SP_BY_KEY_HEADS,
                                           false},
                                          {"self_attention.query_key_value.bias",
                                           "attn_qkv.bias",
                                           {SP_Q_BIAS, SP_K_BIAS, SP_V_BIAS},
                                           3,
                                           SP_BY_KEY_HEADS,
                                           false},
                                          {.name = NULL}};

static const sp_key_alias bloom_keys[] = {{"n_embed", "hidden_size"},
                                          {"n_layer", "num_hidden_layers"},
                                          {"n_head", "num_attention_heads"},
                                          {"seq_length", "max_position_embeddings"},
                                          {NULL, "intermediate_size"},
                                          {NULL, "num_key_value_heads"},
                                          {NULL, "head_dim"},
                                          {NULL, "hidden_act"},
                                          {NULL, "rope_theta"},
                                          {NULL, "rope_scaling"},
                                          {NULL, NULL}};

/* Falcon 40B's layers have two norms, which GGUF files name the other way round. */
static const sp_rename falcon_names[] = {{SP_ATTN_NORM, "ln_attn.weight", "attn_norm_2.weight"},
                                         {SP_ATTN_NORM_BIAS, "ln_attn.bias", "attn_norm_2.bias"},
                                         {SP_MLP_NORM, "ln_mlp.weight", "attn_norm.weight"},
                                         {SP_MLP_NORM_BIAS, "ln_mlp.bias", "attn_norm.bias"},
                                         {.name = NULL}};

static const sp_key_alias falcon_keys[] = {{"num_kv_heads", "num_key_value_heads"},
                                           {"parallel_attn", "use_parallel_residual"},
                                           {NULL, "head_dim"},
                                           {NULL, NULL}};

#define FALCON_DEFAULTS                                                                            \
    "{\"tie_word_embeddings\": true, \"bos_token_id\": 11, \"eos_token_id\": 11, "                 \
    "\"layer_norm_epsilon\": 1e-5, \"multi_query\": true, \"use_parallel_residual\": true}"

static const sp_rename mpt_names[] = {{SP_EMBED, "transformer.wte.weight", NULL},
                                      {SP_ATTN_NORM, "norm_1.weight", NULL},
                                      {SP_O, "attn.out_proj.weight", NULL},
                                      {SP_MLP_NORM, "norm_2.weight", NULL},
                                      {SP_UP, "ffn.up_proj.weight", NULL},
                                      {SP_DOWN, "ffn.down_proj.weight", NULL},
                                      {SP_FINAL_NORM, "transformer.norm_f.weight", NULL},
                                      {.name = NULL}};

static const sp_fusion mpt_fusions[] = {
    {"attn.Wqkv.weight", "attn_qkv.weight", {SP_Q, SP_K, SP_V}, 3, 0, false}, {.name = NULL}};

static const sp_number_key mpt_numbers[] = {
    {"attn_config.clip_qkv", "attention.clamp_kqv", offsetof(sp_config, qkv_bound), false},
    {"attn_config.softmax_scale", NULL, offsetof(sp_config, attention_scale), false},
    {.key = NULL}};

static const sp_key_alias mpt_keys[] = {{"d_model", "hidden_size"},
                                        {"n_layers", "num_hidden_layers"},
                                        {"n_heads", "num_attention_heads"},
                                        {"max_seq_len", "max_position_embeddings"},
                                        {NULL, "intermediate_size"},
                                        {NULL, "num_key_value_heads"},
                                        {NULL, "head_dim"},
                                        {NULL, "hidden_act"},
                                        {NULL, "rope_theta"},
                                        {NULL, "rope_scaling"},
                                        {NULL, NULL}};

/* Of a head for classes, which no language model has. */
#define SUMMARY_KEYS                                                                               \
    "summary_type summary_use_proj summary_activation summary_proj_to_labels "                     \
    "summary_first_dropout"

/* What its three layouts share. */
#define FALCON                                                                                     \
    .model_type = "falcon", .class_name = "FalconForCausalLM", .gguf_name = "falcon",              \
    .bias = SP_BIAS_CONFIG, .bias_key = "bias", .mlp_bias = SP_BIAS_CONFIG,                        \
    .mlp_bias_key = "bias", .norm = SP_LAYER_NORM, .eps_key = "layer_norm_epsilon",                \
    .plain_mlp = true, .ffn_key = "ffn_hidden_size", .ffn_times = 4, .act = SP_GELU,               \
    .act_key = "activation", .alibi = 8, .alibi_key = "alibi", .alibi_scaled = true,               \
    .pads_learn = true, .layers = "transformer.h", .defaults = FALCON_DEFAULTS,                    \
    .fusions = bloom_fusions, .aliases = falcon_keys

static const sp_arch architectures[] = {
    {.model_type = "gpt2",
     .class_name = "GPT2LMHeadModel",
     .gguf_name = "gpt2",
     .bias = SP_BIAS_ALWAYS,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .act_key = "activation_function",
     .learned_positions = true,
     .pads_learn = true,
     .transposed = true,
     .layers = "transformer.h",
     .defaults = "{\"tie_word_embeddings\": true, \"bos_token_id\": 50256, "
                 "\"eos_token_id\": 50256, \"max_position_embeddings\": 1024, "
                 "\"layer_norm_epsilon\": 1e-5}",
     .fusions = gpt2_fusions,
     .renames = gpt2_names,
     .aliases = gpt2_keys,
     .own_keys = "n_ctx reorder_and_upcast_attn predict_special_tokens " SUMMARY_KEYS,
     .score_keys = true,
     .gguf_is_default = true},
    {.model_type = "gpt_bigcode",
     .class_name = "GPTBigCodeForCausalLM",
     .gguf_name = "starcoder",
     .bias = SP_BIAS_ALWAYS,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .act_key = "activation_function",
     .learned_positions = true,
     .pads_learn = true,
     .layers = "transformer.h",
     .defaults = "{\"tie_word_embeddings\": true, \"bos_token_id\": 50256, "
                 "\"eos_token_id\": 50256, \"max_position_embeddings\": 1024, "
                 "\"layer_norm_epsilon\": 1e-5, \"multi_query\": true}",
     .fusions = bigcode_fusions,
     .renames = gpt2_names,
     .aliases = gpt2_keys,
     .query_key = "multi_query",
     .own_keys = "n_ctx attention_softmax_in_fp32 scale_attention_softmax_in_fp32 "
                 "inference_runner max_batch_size max_sequence_length pad_key_length "
                 "pre_allocate_kv_cache validate_runner_input " SUMMARY_KEYS,
     .fixed_keys = "{\"scale_attn_weights\": true}",
     .gguf_is_default = true},
    {.model_type = "gpt_neo",
     .class_name = "GPTNeoForCausalLM",
     .bias = SP_BIAS_OUT,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .act_key = "activation_function",
     .unscaled = true,
     .learned_positions = true,
     .pads_learn = true,
     .window = SP_WINDOW_LOCAL,
     .layers = "transformer.h",
     .defaults = "{\"tie_word_embeddings\": true, \"bos_token_id\": 50256, "
                 "\"eos_token_id\": 50256, \"layer_norm_epsilon\": 1e-5, "
                 "\"sliding_window\": 256, \"attention_types\": [[[\"global\", \"local\"], 12]]}",
     .renames = gpt_neo_names,
     .more_renames = gpt2_names,
     .aliases = gpt_neo_keys,
     .own_keys = "attention_types attention_layers embed_dropout resid_dropout " SUMMARY_KEYS},
    {.model_type = "gptj",
     .class_name = "GPTJForCausalLM",
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .head_bias = true,
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .act_key = "activation_function",
     .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true,
     .rope_adjacent = true,
     .rotary_key = "rotary_dim",
     .pads_learn = true,
     .layers = "transformer.h",
     .defaults = GPTJ_DEFAULTS,
     .renames = gptj_names,
     .more_renames = gpt2_names,
     .aliases = gpt2_keys,
     .own_keys = SUMMARY_KEYS,
     .fixed_keys =
         "{\"tie_word_embeddings\": false, \"scale_attn_weights\": true, \"rotary\": true}"},
    {.model_type = "codegen",
     .class_name = "CodeGenForCausalLM",
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .head_bias = true,
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .act_key = "activation_function",
     .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true,
     .rope_adjacent = true,
     .rotary_key = "rotary_dim",
     .pads_learn = true,
     .layers = "transformer.h",
     .defaults = GPTJ_DEFAULTS,
     .fusions = codegen_fusions,
     .renames = gptj_names,
     .more_renames = gpt2_names,
     .aliases = gpt2_keys,
     .own_keys = "n_ctx " SUMMARY_KEYS,
     .fixed_keys = "{\"tie_word_embeddings\": false, \"scale_attn_weights\": true}"},
    {.model_type = "opt",
     .class_name = "OPTForCausalLM",
     .bias = SP_BIAS_CONFIG,
     .bias_key = "enable_bias",
     .mlp_bias = SP_BIAS_CONFIG,
     .mlp_bias_key = "enable_bias",
     .norm = SP_LAYER_NORM,
     .plain_mlp = true,
     .act = SP_RELU,
     .act_key = "activation_function",
     .learned_positions = true,
     .position_offset = 2,
     .layers = "model.decoder.layers",
     .defaults = "{\"tie_word_embeddings\": true, \"enable_bias\": true, \"rms_norm_eps\": 1e-5, "
                 "\"pad_token_id\": 1, \"bos_token_id\": 2, \"eos_token_id\": 2}",
     .renames = opt_names,
     .aliases = opt_keys,
     .width_key = "word_embed_proj_dim",
     .own_keys = "activation_dropout layerdrop init_std prefix learned_embeddings",
     .fixed_keys = "{\"do_layer_norm_before\": true, \"_remove_final_layer_norm\": false, "
                   "\"layer_norm_elementwise_affine\": true}"},
    {.model_type = "bloom",
     .class_name = "BloomForCausalLM",
     .gguf_name = "bloom",
     .bias = SP_BIAS_ALWAYS,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_epsilon",
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU_TANH,
     .alibi = 8,
     .embed_norm = true,
     .pads_learn = true,
     .layers = "transformer.h",
     .defaults = "{\"tie_word_embeddings\": true, \"bos_token_id\": 1, \"eos_token_id\": 2, "
                 "\"layer_norm_epsilon\": 1e-5}",
     .fusions = bloom_fusions,
     .renames = bloom_names,
     .aliases = bloom_keys,
     .own_keys = "n_inner attention_softmax_in_fp32 bias_dropout_fusion masked_softmax_fusion "
                 "offset_alibi skip_bias_add skip_bias_add_qkv slow_but_exact",
     .gguf_is_default = true},
    {.model_type = "mpt",
     .class_name = "MptForCausalLM",
     .also_class = "MPTForCausalLM",
     .gguf_name = "mpt",
     .norm = SP_LAYER_NORM_PLAIN,
     .eps_key = "layer_norm_epsilon",
     .plain_mlp = true,
     .ffn_times = 4,
     .act = SP_GELU,
     .alibi = 8,
     .pads_learn = true,
     .layers = "transformer.blocks",
     .defaults = "{\"tie_word_embeddings\": true, \"layer_norm_epsilon\": 1e-5}",
     .numbers = mpt_numbers,
     .fusions = mpt_fusions,
     .renames = mpt_names,
     .aliases = mpt_keys,
     .lifted = "attn_config",
     .own_keys = "learned_pos_emb norm_type init_device embedding_fraction emb_pdrop verbose "
                 "init_config tokenizer_name attn_config.model_type attn_config.attn_impl "
                 "attn_config.attn_pdrop",
     .fixed_keys = "{\"expansion_ratio\": 4, \"no_bias\": true, \"attn_config.alibi\": true, "
                   "\"attn_config.alibi_bias_max\": 8, "
                   "\"attn_config.attn_type\": \"multihead_attention\"}",
     .gguf_is_default = true},
    {FALCON,
     .when = "{\"new_decoder_architecture\": [true], \"num_ln_in_parallel_attn\": [2, null]}",
     .parallel = SP_PARALLEL_ALWAYS, .renames = falcon_names, .more_renames = bloom_names,
     .own_keys = "new_decoder_architecture num_ln_in_parallel_attn multi_query",
     .fixed_keys = "{\"use_parallel_residual\": true}",
     .written = "{\"new_decoder_architecture\": true, \"num_ln_in_parallel_attn\": 2}",
     .gguf_fixed = "{\"bias\": false, \"alibi\": false}", .gguf_tensor = "blk.0.attn_norm_2.weight",
     .gguf_is_default = true},
    {FALCON, .when = "{\"new_decoder_architecture\": [true]}", .parallel = SP_PARALLEL_ALWAYS,
     .one_norm = true, .renames = bloom_names, .own_keys = "new_decoder_architecture multi_query",
     .fixed_keys = "{\"use_parallel_residual\": true, \"num_ln_in_parallel_attn\": 1}",
     .written = "{\"new_decoder_architecture\": true, \"num_ln_in_parallel_attn\": 1}",
     .gguf_fixed = "{\"bias\": false, \"alibi\": false}", .gguf_is_default = true},
    {FALCON, .parallel = SP_PARALLEL_CONFIG, .one_norm = true, .renames = bloom_names,
     .query_key = "multi_query", .own_keys = "num_ln_in_parallel_attn",
     .fixed_keys = "{\"new_decoder_architecture\": false}",
     .written = "{\"new_decoder_architecture\": false}",
     .gguf_fixed = "{\"bias\": false, \"alibi\": false, \"parallel_attn\": true}"},
    {.model_type = "gpt_neox",
     .class_name = "GPTNeoXForCausalLM",
     .gguf_name = "gptneox",
     .gguf_fixed = "{\"attention_bias\": true}",
     .gguf_head = true,
     .bias = SP_BIAS_CONFIG,
     .mlp_bias = SP_BIAS_ALWAYS,
     .norm = SP_LAYER_NORM,
     .eps_key = "layer_norm_eps",
     .plain_mlp = true,
     .act = SP_GELU,
     .parallel = SP_PARALLEL_CONFIG,
     .rope_partial = true,
     .pads_learn = true,
     .layers = "gpt_neox.layers",
     .defaults = "{\"attention_bias\": true, \"use_parallel_residual\": true, "
                 "\"partial_rotary_factor\": 0.25, \"layer_norm_eps\": 1e-5, "
                 "\"bos_token_id\": 0, \"eos_token_id\": 2}",
     .fusions = neox_fusions,
     .renames = neox_names,
     .aliases = neox_keys,
     .gguf_is_default = true},
};

const sp_arch *sp_arch_early_at(int i) {
    return i < (int)(sizeof architectures / sizeof architectures[0]) ? &architectures[i] : NULL;
}
