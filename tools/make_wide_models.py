#!/usr/bin/env python3
"""Write small random decoders, one a variant of a family that GGUF files have, as Hugging Face folders.

usage: make_wide_models.py FOLDER [NAME...]

Their rows are whole blocks of every type that `spar export` writes, so that tools/check_llama_cpp.py
holds the files of each type against llama.cpp. They have no tokenizer. Of blocks llama.cpp rounds the
inputs to 8 bits, by which a token between two experts tips over: for those types there is NAME-all,
where a token takes all experts. Needs torch and transformers.
"""

import sys

import torch
import transformers as tf

from make_arch_fixtures import correct

BASE = dict(
    vocab_size=320,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.09,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
GPT2 = dict(vocab_size=320, n_embd=256, n_layer=3, n_head=4, n_positions=256, initializer_range=0.09,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)
EARLY = {key: value for key, value in GPT2.items() if not key.startswith("n_")}
FALCON = dict(EARLY, hidden_size=256, num_hidden_layers=3, num_attention_heads=4)
NEOX = {key: value for key, value in BASE.items() if key != "num_key_value_heads"}
GRANITE = dict(BASE, embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4,
               logits_scaling=1.5)
GRANITE_MOE = dict(GRANITE, intermediate_size=256, num_local_experts=5, num_experts_per_tok=2)
HYBRID = dict(GRANITE, shared_intermediate_size=512, num_local_experts=0, mamba_n_heads=2,
              layer_types=["full_attention"] * 3)
HYBRID_MOE = dict(HYBRID, **{key: GRANITE_MOE[key] for key in (
    "intermediate_size", "num_local_experts", "num_experts_per_tok")})
GEMMA = dict(BASE, head_dim=64, query_pre_attn_scalar=64, sliding_window=40)
MIXTRAL = dict(BASE, num_local_experts=4, sliding_window=None)
QWEN3_MOE = dict(BASE, moe_intermediate_size=256, num_experts=8, num_experts_per_tok=3, head_dim=64,
                 norm_topk_prob=True)
QWEN2_MOE = dict(BASE, moe_intermediate_size=256, shared_expert_intermediate_size=512, num_experts=6,
                 num_experts_per_tok=3)
ERNIE_MOE = dict(BASE, moe_intermediate_size=256, moe_num_experts=6, moe_k=2, moe_num_shared_experts=2,
                 moe_layer_start_index=1)
SIGMOID_MOE = dict(BASE, moe_intermediate_size=256, n_routed_experts=6, num_experts_per_tok=2,
                   n_shared_experts=1, routed_scaling_factor=1.5, first_k_dense_replace=1)
OLMOE = dict(BASE, num_key_value_heads=4, intermediate_size=256, num_experts=6, num_experts_per_tok=2)
PARTIAL = dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64)
LONG = dict(rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=512,
            short_factor=[1 + 0.05 * i for i in range(32)], long_factor=[2 + 0.1 * i for i in range(32)])
OF_LAYERS = dict(full_attention=YARN, sliding_attention=dict(rope_type="default", rope_theta=1e4))
VARIANTS = {
    "bloom": ("Bloom", dict(EARLY, hidden_size=256, n_layer=3, n_head=4)),
    "bloom-six": ("Bloom", dict(EARLY, hidden_size=384, n_layer=2, n_head=6)),
    "mpt": ("Mpt", dict(EARLY, d_model=256, n_layers=3, n_heads=4, max_seq_len=256,
                        attn_config=dict(clip_qkv=0.8))),
    "falcon": ("Falcon", FALCON),
    "falcon-40b": ("Falcon", dict(FALCON, num_kv_heads=2, new_decoder_architecture=True)),
    "falcon-11b": ("Falcon", dict(FALCON, num_kv_heads=2, new_decoder_architecture=True,
                                  num_ln_in_parallel_attn=1, tie_word_embeddings=False)),
    "starcoder": ("GPTBigCode", GPT2),
    "starcoder-heads": ("GPTBigCode", dict(GPT2, multi_query=False, n_inner=512)),
    "llama": ("Llama", BASE),
    "llama3": ("Llama", dict(BASE, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama-yarn": ("Llama", dict(BASE, rope_parameters=dict(YARN, attention_factor=1.3))),
    "llama-bias": ("Llama", dict(BASE, attention_bias=True, mlp_bias=True)),
    "mistral": ("Mistral", dict(BASE, sliding_window=None)),
    "mixtral": ("Mixtral", MIXTRAL),
    "mixtral-all": ("Mixtral", dict(MIXTRAL, num_experts_per_tok=4)),
    "qwen2": ("Qwen2", BASE),
    "qwen2-yarn": ("Qwen2", dict(BASE, rope_parameters=YARN)),
    "qwen3": ("Qwen3", dict(BASE, head_dim=64)),
    "qwen3-moe": ("Qwen3Moe", QWEN3_MOE),
    "qwen3-moe-all": ("Qwen3Moe", dict(QWEN3_MOE, num_experts=3)),
    "qwen2-moe": ("Qwen2Moe", QWEN2_MOE),
    "qwen2-moe-all": ("Qwen2Moe", dict(QWEN2_MOE, num_experts=3)),
    "ernie4-5-moe": ("Ernie4_5_Moe", ERNIE_MOE),
    "ernie4-5-moe-all": ("Ernie4_5_Moe", dict(ERNIE_MOE, moe_num_experts=2)),
    "glm4-moe": ("Glm4Moe", dict(SIGMOID_MOE, head_dim=64, use_qk_norm=True, attention_bias=True)),
    "glm4-moe-plain": ("Glm4Moe", dict(SIGMOID_MOE, norm_topk_prob=False, first_k_dense_replace=0)),
    "glm4-moe-groups": ("Glm4Moe", dict(SIGMOID_MOE, n_routed_experts=9, n_group=3, topk_group=2)),
    "glm4-moe-all": ("Glm4Moe", dict(SIGMOID_MOE, n_routed_experts=2)),
    "dots1": ("Dots1", dict(SIGMOID_MOE, num_key_value_heads=4, norm_topk_prob=True)),
    "dots1-plain": ("Dots1", dict(SIGMOID_MOE, num_key_value_heads=4, n_shared_experts=2,
                                  first_k_dense_replace=0)),
    "olmoe": ("Olmoe", OLMOE),
    "olmoe-all": ("Olmoe", dict(OLMOE, num_experts=2)),
    "phi3": ("Phi3", dict(BASE, sliding_window=None)),
    "phi3-long": (
        "Phi3",
        dict(BASE, sliding_window=None, max_position_embeddings=2048, rope_parameters=LONG,
             original_max_position_embeddings=512)),
    "smollm3": ("SmolLM3", dict(BASE, num_hidden_layers=5)),
    "gemma": ("Gemma", dict(BASE, head_dim=64)),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3": ("Gemma3", dict(GEMMA, num_hidden_layers=7)),
    "olmo2": ("Olmo2", BASE),
    # readers want a head of its own, which is the embedding again
    "olmo2-tied": ("Olmo2", dict(BASE, tie_word_embeddings=True)),
    "granite": ("Granite", GRANITE),
    "granite-moe": ("GraniteMoe", GRANITE_MOE),
    "granite-moe-all": ("GraniteMoe", dict(GRANITE_MOE, num_local_experts=2)),
    "granite-moe-shared": ("GraniteMoeShared", dict(GRANITE_MOE, shared_intermediate_size=512)),
    "granite-moe-shared-all": (
        "GraniteMoeShared", dict(GRANITE_MOE, shared_intermediate_size=512, num_local_experts=2)),
    "granite-moe-hybrid": ("GraniteMoeHybrid", dict(HYBRID_MOE, position_embedding_type="rope")),
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", dict(GPT2, n_inner=512, tie_word_embeddings=False)),
    "gpt-neox": ("GPTNeoX", dict(NEOX, rope_parameters=PARTIAL)),
    "gpt-neox-serial": ("GPTNeoX", dict(NEOX, use_parallel_residual=False)),
    "stablelm": ("StableLm", dict(BASE, use_qkv_bias=True, rope_parameters=PARTIAL)),
    "stablelm-parallel": (
        "StableLm",
        dict(BASE, use_parallel_residual=True, rope_parameters=PARTIAL),
    ),
    "stablelm-norms": (
        "StableLm",
        dict(BASE, use_parallel_residual=True, qk_layernorm=True, rope_parameters=PARTIAL),
    ),
    "starcoder2": ("Starcoder2", dict(BASE, sliding_window=None)),
    "starcoder2-untied": ("Starcoder2", dict(BASE, tie_word_embeddings=False, sliding_window=None)),
    "cohere": ("Cohere", dict(BASE, logit_scale=0.5)),
    # llama.cpp looks for these norms in 64 layers or more
    "cohere-norms": (
        "Cohere",
        dict(BASE, intermediate_size=256, num_hidden_layers=64, use_qk_norm=True, logit_scale=0.5),
    ),
    "olmo3": ("Olmo3", dict(BASE, num_hidden_layers=5, sliding_window=40)),
    "olmo3-yarn": (
        "Olmo3",
        dict(BASE, num_hidden_layers=5, sliding_window=40, rope_parameters=OF_LAYERS)),
    "seed-oss": ("SeedOss", dict(BASE, head_dim=64)),
    "glm4": ("Glm4", dict(BASE, head_dim=64)),
    "glm": ("Glm", dict(BASE, head_dim=64)),
    "ernie4-5": ("Ernie4_5", dict(BASE, head_dim=64)),
    "exaone4": ("Exaone4", dict(BASE, sliding_window=None, layer_types=["full_attention"] * 3)),
    # llama.cpp knows windows in 64 layers alone
    "exaone4-windows": (
        "Exaone4",
        dict(BASE, hidden_size=128, intermediate_size=128, num_hidden_layers=64, sliding_window=40)),
    "arcee": ("Arcee", BASE),
    "nemotron": ("Nemotron", BASE),
    "nemotron-bias": ("Nemotron", dict(BASE, attention_bias=True, mlp_bias=True)),
    "olmo": ("Olmo", dict(BASE, clip_qkv=1.0)),
    "phi": ("Phi", BASE),
    "granite-hybrid": ("GraniteMoeHybrid", dict(HYBRID, position_embedding_type="rope")),
    "granite-hybrid-nope": ("GraniteMoeHybrid", HYBRID),
    "jais2": ("Jais2", BASE),
    "exaone": ("Exaone", BASE),
    "internlm3": ("InternLM3", dict(BASE, head_dim=64)),
    "apertus": ("Apertus", dict(BASE, rope_parameters=dict(rope_type="default", rope_theta=1e4))),
    "lfm2": ("Lfm2", dict(BASE, layer_types=["conv", "full_attention", "conv"])),
    "lfm2-attention-last": ("Lfm2", dict(BASE, num_key_value_heads=4, conv_L_cache=4, tie_word_embeddings=False,
                                         layer_types=["conv", "conv", "full_attention"])),
    "hunyuan": ("HunYuanDenseV1", dict(BASE, head_dim=64, rope_parameters=dict(
        rope_type="dynamic", rope_theta=1e4, alpha=50.0, factor=1.0))),
    "ministral3": ("Ministral3", dict(BASE, head_dim=64, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32,
        mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3))),
    "cohere2": ("Cohere2", dict(BASE, num_hidden_layers=5, sliding_window=40, logit_scale=0.5)),
}


def make(folder, name):
    family, settings = VARIANTS[name]
    torch.manual_seed(sum(map(ord, name)))
    config = getattr(tf, family + ("TextConfig" if family == "Gemma3" else "Config"))(**settings)
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    model = getattr(tf, family + head, tf.LlamaForCausalLM)(config)
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            if p.ndim == 1 or "_norm" in tensor:
                p.add_(torch.randn_like(p) * 0.2)
        correct(model)
    model.save_pretrained(f"{folder}/{name}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[2:] or VARIANTS:
        make(sys.argv[1], name)


if __name__ == "__main__":
    main()
