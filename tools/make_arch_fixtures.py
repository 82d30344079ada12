#!/usr/bin/env python3
"""Write tests/golden/arch: tiny random decoders, one a variant, with what transformers computes.

usage: make_arch_fixtures.py FOLDER [NAME...]     (made with torch 2.15, transformers 5.23 and 5.24)

Each folder holds config.json, model.safetensors, io.json (rows of ids, greedy continuations) and
expected.safetensors: logits.i [T,V], logp.i [T-1] of the next tokens, and grad.PARAMETER of the sum
of -log p over tokens 3, 4, ... of every row, all computed in double precision. Of mixtures of
experts also balance.i, the load-balancing loss of row i alone, and balance.grad.PARAMETER of that of
the last row; gradients are named as the folder's tensors are, one an expert. NAME-fused has the same
weights as transformers holds them, experts stacked.
"""
import json
import os
import random
import sys

import torch
import transformers as tf
from safetensors.torch import save_file

BASE = dict(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.25,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
GRANITE = dict(
    BASE,
    embedding_multiplier=12.0,
    attention_multiplier=0.3,
    residual_multiplier=0.22,
    logits_scaling=8.0,
)
LONG = dict(
    rope_type="longrope",
    rope_theta=1e4,
    short_factor=[1.0, 1.5],
    long_factor=[2.0, 6.0],
    original_max_position_embeddings=48,
)
PARTIAL = dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)
GPT2 = dict(vocab_size=48, n_embd=16, n_layer=2, n_head=4, n_positions=64, initializer_range=0.25,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)
NEOX = {key: value for key, value in BASE.items() if key != "num_key_value_heads"}
COHERE = dict(BASE, logit_scale=0.25, tie_word_embeddings=True)
# Small ones, of short rows: the folder is kept small.
TINY = dict(
    vocab_size=14,
    hidden_size=8,
    intermediate_size=10,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    initializer_range=0.35,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=5,
)
# Rows of mixtures are longer, so that every expert is chosen, and without the token for padding,
# whose embedding is 0: of equal experts it might be sent to any.
MIXTURE = dict(TINY, vocab_size=16, pad_token_id=0)
MIXTRAL = dict(MIXTURE, intermediate_size=5,
               rope_parameters=dict(rope_type="default", rope_theta=1e6))
QWEN3_MOE = dict(MIXTURE, moe_intermediate_size=5, head_dim=6)
QWEN2_MOE = dict(MIXTURE, moe_intermediate_size=5, shared_expert_intermediate_size=7)
GRANITE_SCALES = dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.6,
                      logits_scaling=1.5)
HYBRID = dict(
    TINY,
    shared_intermediate_size=9,
    num_local_experts=0,
    num_hidden_layers=1,
    layer_types=["full_attention"],
    mamba_n_heads=2,
    **GRANITE_SCALES,
)
EXAONE = {
    "model.embed_tokens.": "transformer.wte.",
    "model.layers.": "transformer.h.",
    "model.norm.": "transformer.ln_f.",
    ".o_proj.": ".out_proj.",
    ".self_attn.": ".attn.attention.",
    ".input_layernorm.": ".ln_1.",
    ".post_attention_layernorm.": ".ln_2.",
    ".gate_proj.": ".c_fc_0.",
    ".up_proj.": ".c_fc_1.",
    ".down_proj.": ".c_proj.",
}
GRANITE_MOE = {
    "experts.gate_up_proj": "input_linear.weight",
    "experts.down_proj": "output_linear.weight",
    "moe.router.": "moe.router.layer.",
}
YARN = dict(rope_type="yarn", rope_theta=5e5, factor=8.0, original_max_position_embeddings=8,
            beta_fast=4.0, beta_slow=1.0)
# The least: what a family stores takes more room in names than in numbers.
LEAST = dict(vocab_size=14, initializer_range=0.35, bos_token_id=1, eos_token_id=2, pad_token_id=5,
             max_position_embeddings=24)
LEAST_GPT = {key: value for key, value in LEAST.items() if key != "max_position_embeddings"}
LEAST_BLOOM = dict(LEAST_GPT, hidden_size=6)
FALCON = dict(LEAST, hidden_size=8, num_hidden_layers=1, ffn_hidden_size=6)
LEAST_GPT["n_positions"] = LEAST["max_position_embeddings"]
# name: family, settings, whether config.json is in the form of transformers 4
VARIANTS = {
    "granite": ("Granite", dict(GRANITE, attention_bias=True, mlp_bias=True), False),
    "phi3-long": ("Phi3", dict(BASE, rope_parameters=LONG, original_max_position_embeddings=48), True),
    "phi3-partial": (
        "Phi3",
        dict(TINY, num_attention_heads=1, num_hidden_layers=1, tie_word_embeddings=True,
             original_max_position_embeddings=48, rope_parameters=dict(LONG, partial_rotary_factor=0.5)),
        True,
    ),
    "gpt2-scores": ("GPT2", dict(LEAST, n_embd=4, n_layer=2, n_head=2, n_positions=24, n_inner=6,
                                 scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True), False),
    "llama-dynamic": (
        "Llama",
        dict(BASE, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=2.0)),
        False,
    ),
    "mixtral": ("Mixtral", dict(MIXTRAL, num_local_experts=4, sliding_window=9), False),
    "mixtral-one": ("Mixtral", dict(MIXTRAL, num_local_experts=3, num_experts_per_tok=1), True),
    "qwen3-moe": (
        "Qwen3Moe",
        dict(QWEN3_MOE, num_hidden_layers=3, num_experts=4, num_experts_per_tok=3,
             moe_intermediate_size=3, norm_topk_prob=True, mlp_only_layers=[1]),
        False,
    ),
    "qwen3-moe-plain": (
        "Qwen3Moe",
        dict(QWEN3_MOE, num_experts=5, num_experts_per_tok=2, decoder_sparse_step=2,
             use_sliding_window=True, sliding_window=7, attention_bias=True),
        True,
    ),
    "qwen3-moe-one": (
        "Qwen3Moe",
        dict(QWEN3_MOE, head_dim=10, num_experts=3, num_experts_per_tok=1),
        False,
    ),
    "qwen2-moe": (
        "Qwen2Moe",
        dict(QWEN2_MOE, num_hidden_layers=3, num_experts=4, num_experts_per_tok=3,
             norm_topk_prob=True, mlp_only_layers=[1]),
        False,
    ),
    "qwen2-moe-plain": (
        "Qwen2Moe", dict(QWEN2_MOE, num_experts=3, num_experts_per_tok=2, qkv_bias=False), True),
    "olmoe": ("Olmoe", dict(MIXTURE, intermediate_size=5, num_experts=3, num_experts_per_tok=2), True),
    "gpt-neo": ("GPTNeo", dict(LEAST, hidden_size=4, num_layers=2, num_heads=2, intermediate_size=6,
                               attention_types=[[["global", "local"], 1]], window_size=3), False),
    "opt": ("OPT", dict(LEAST, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, ffn_dim=6,
                        word_embed_proj_dim=4, init_std=0.35), False),
    "gpt-bigcode": ("GPTBigCode", dict(LEAST_GPT, n_embd=6, n_layer=2, n_head=3, n_inner=6), False),
    "gpt-bigcode-heads": (
        "GPTBigCode",
        dict(LEAST_GPT, n_embd=4, n_layer=1, n_head=2, multi_query=False, tie_word_embeddings=False),
        False,
    ),
    "gptj": ("GPTJ", dict(LEAST_GPT, n_embd=8, n_layer=1, n_head=2, n_inner=6, rotary_dim=2), True),
    "codegen": ("CodeGen", dict(LEAST_GPT, n_embd=8, n_layer=1, n_head=2, n_inner=6, rotary_dim=4), False),
    "bloom": ("Bloom", dict(LEAST_BLOOM, n_layer=1, n_head=3), False),
    "mpt": (
        "Mpt",
        dict(LEAST_BLOOM, d_model=6, n_layers=1, n_heads=3, max_seq_len=64,
             attn_config=dict(clip_qkv=0.8, softmax_scale=0.6)),
        False,
    ),
    "falcon": ("Falcon", dict(FALCON, num_attention_heads=2), False),
    "falcon-40b": (
        "Falcon",
        dict(FALCON, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True),
        True,
    ),
    "falcon-11b": (
        "Falcon",
        dict(FALCON, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True,
             num_ln_in_parallel_attn=1, tie_word_embeddings=False),
        False,
    ),
    "falcon-alibi": (
        "Falcon",
        dict(FALCON, num_attention_heads=2, alibi=True, bias=True, multi_query=False,
             parallel_attn=False),
        False,
    ),
    "gpt2-untied": ("GPT2", dict(GPT2, n_inner=24, activation_function="relu",
                                 tie_word_embeddings=False), True),
    "gpt2-small": ("GPT2", dict(GPT2, n_head=2), False),
    "gpt-neox-serial": (
        "GPTNeoX",
        dict(NEOX, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new",
             rope_parameters=PARTIAL),
        True,
    ),
    "gpt-neox-tied": (
        "GPTNeoX",
        dict(NEOX, tie_word_embeddings=True, num_attention_heads=2, rope_parameters=PARTIAL),
        False,
    ),
    "stablelm": ("StableLm", dict(BASE, use_qkv_bias=True, rope_parameters=PARTIAL), True),
    "stablelm-parallel": (
        "StableLm",
        dict(BASE, use_parallel_residual=True, num_key_value_heads=4, tie_word_embeddings=True,
             rope_parameters=PARTIAL),
        False,
    ),
    "stablelm-norms": (
        "StableLm",
        dict(BASE, qk_layernorm=True, use_parallel_residual=True, rope_parameters=PARTIAL,
             num_attention_heads=2, num_key_value_heads=1),
        True,
    ),
    "starcoder2": ("Starcoder2", dict(BASE, sliding_window=9), True),
    "starcoder2-plain": (
        "Starcoder2",
        dict(BASE, use_bias=False, num_key_value_heads=1, hidden_act="gelu",
             tie_word_embeddings=False),
        False,
    ),
    "cohere2": ("Cohere2", dict(COHERE, num_hidden_layers=4, head_dim=8, sliding_window=7), False),
    "cohere2-untied": (
        "Cohere2",
        dict(COHERE, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, head_dim=4,
             sliding_window=5, attention_bias=True, tie_word_embeddings=False),
        True,
    ),
    "cohere-norms": ("Cohere", dict(COHERE, use_qk_norm=True), False),
    "cohere": ("Cohere", dict(COHERE, attention_bias=True), True),
    "granite-tied": ("Granite", dict(GRANITE, tie_word_embeddings=True), True),
    "olmo3": (
        "Olmo3",
        dict(TINY, num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
             sliding_window=3,
             rope_parameters=dict(full_attention=YARN, sliding_attention=dict(
                 rope_type="default", rope_theta=1e4))),
        False,
    ),
    "seed-oss": (
        "SeedOss",
        dict(TINY, head_dim=6, attention_out_bias=True, mlp_bias=True, tie_word_embeddings=True),
        True,
    ),
    "glm4": ("Glm4", dict(TINY, head_dim=8), True),
    "glm": ("Glm", dict(TINY, head_dim=4, attention_bias=False, tie_word_embeddings=True), False),
    "ernie4-5": ("Ernie4_5", dict(TINY, head_dim=6, use_bias=True), False),
    "exaone4": ("Exaone4", dict(TINY, num_hidden_layers=4, intermediate_size=6, sliding_window=3,
                                tie_word_embeddings=True), True),
    "exaone4-global": ("Exaone4", dict(TINY, num_hidden_layers=1, sliding_window=None,
                                       layer_types=["full_attention"], tie_word_embeddings=True),
                       False),
    "helium": ("Helium", dict(TINY, head_dim=4, mlp_bias=True, tie_word_embeddings=True), True),
    "qwen2-moe-windows": (
        "Qwen2Moe",
        dict(TINY, num_hidden_layers=3, moe_intermediate_size=4, shared_expert_intermediate_size=4,
             num_experts=2, num_experts_per_tok=1, mlp_only_layers=[0, 2], use_sliding_window=True,
             sliding_window=3, max_window_layers=2, tie_word_embeddings=True),
        True,
    ),
    "arcee": ("Arcee", dict(TINY, attention_bias=True, mlp_bias=True), False),
    "nemotron": ("Nemotron", dict(TINY, head_dim=8, tie_word_embeddings=True), True),
    "olmo": ("Olmo", dict(TINY, clip_qkv=0.4, num_key_value_heads=2), True),
    "olmoe-clip": (
        "Olmoe",
        dict(TINY, num_hidden_layers=1, intermediate_size=4, num_experts=2, num_experts_per_tok=1,
             clip_qkv=0.6, num_key_value_heads=2, tie_word_embeddings=True),
        False,
    ),
    "phi": ("Phi", dict(TINY, hidden_size=12, num_key_value_heads=2, rope_parameters=dict(
        rope_type="default", rope_theta=1e4, partial_rotary_factor=0.4)), False),
    "granite-hybrid": ("GraniteMoeHybrid", dict(HYBRID, position_embedding_type="rope"), False),
    "granite-hybrid-nope": (
        "GraniteMoeHybrid",
        dict(HYBRID, tie_word_embeddings=True),
        True,
    ),
    "vaultgemma": ("VaultGemma", dict(TINY, head_dim=4, intermediate_size=6, query_pre_attn_scalar=6, sliding_window=3), True),
    "ministral": (
        "Ministral",
        dict(TINY, head_dim=4, intermediate_size=6, sliding_window=3,
             layer_types=["full_attention", "sliding_attention"], tie_word_embeddings=True),
        False,
    ),
    "cwm": ("Cwm", dict(TINY, head_dim=4, intermediate_size=6, sliding_window=3, tie_word_embeddings=True), False),
    "jais2": ("Jais2", dict(TINY, num_hidden_layers=1, tie_word_embeddings=True), False),
    "internlm3": ("InternLM3", dict(TINY, num_hidden_layers=1, head_dim=4, attention_bias=True, mlp_bias=True), True),
    "exaone": ("Exaone", dict(TINY, num_hidden_layers=1), False),
    "apertus": (
        "Apertus",
        dict(TINY, num_hidden_layers=2, intermediate_size=6, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="default", rope_theta=1e4)),
        False,
    ),
    "lfm2": ("Lfm2", dict(TINY, num_hidden_layers=3, intermediate_size=9, block_multiple_of=4,
                          layer_types=["conv", "full_attention", "conv"]), True),
    "nanochat": ("NanoChat", dict(TINY, num_hidden_layers=2, intermediate_size=6,
                                  tie_word_embeddings=True, final_logit_softcapping=3.0), False),
    "granite-moe": (
        "GraniteMoe",
        dict(MIXTURE, num_hidden_layers=1, intermediate_size=5, num_local_experts=4,
             num_experts_per_tok=2, **GRANITE_SCALES),
        True,
    ),
    "granite-moe-shared": (
        "GraniteMoeShared",
        dict(MIXTURE, num_hidden_layers=1, intermediate_size=5, shared_intermediate_size=3,
             num_local_experts=3, num_experts_per_tok=2, **GRANITE_SCALES),
        False,
    ),
    "granite-moe-hybrid": (
        "GraniteMoeHybrid",
        dict(HYBRID, vocab_size=16, pad_token_id=0, intermediate_size=5, num_local_experts=3,
             num_experts_per_tok=2, shared_intermediate_size=3),
        False,
    ),
    "ernie4-5-moe": (
        "Ernie4_5_Moe",
        dict(MIXTURE, moe_intermediate_size=3, moe_num_experts=4, moe_k=2, moe_num_shared_experts=2,
             moe_layer_start_index=1, num_hidden_layers=2),
        True,
    ),
    "ernie4-5-moe-least": (
        "Ernie4_5_Moe",
        dict(MIXTURE, moe_intermediate_size=3, moe_num_experts=3, moe_k=2, moe_num_shared_experts=0,
             moe_layer_start_index=0, moe_layer_end_index=1, moe_layer_interval=2, moe_norm_min=0.7,
             num_hidden_layers=2, tie_word_embeddings=False),
        False,
    ),
    "glm4-moe": (
        "Glm4Moe",
        dict(MIXTURE, moe_intermediate_size=3, head_dim=4, n_routed_experts=6, n_group=3, topk_group=2,
             num_experts_per_tok=2, n_shared_experts=1, routed_scaling_factor=2.5, use_qk_norm=True,
             attention_bias=True),
        False,
    ),
    "dots1": (
        "Dots1",
        dict(MIXTURE, moe_intermediate_size=3, n_routed_experts=4, num_experts_per_tok=2,
             n_shared_experts=2, routed_scaling_factor=0.4, sliding_window=7, max_window_layers=1),
        True,
    ),
    "hunyuan": (
        "HunYuanDenseV1",
        dict(TINY, head_dim=6, num_hidden_layers=1, attention_bias=True, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, alpha=50.0, factor=1.0)),
        True,
    ),
    "ministral3": (
        "Ministral3",
        dict(TINY, head_dim=6, num_hidden_layers=1, tie_word_embeddings=True, rope_parameters=dict(
            rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=4,
            beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=0.5,
            llama_4_scaling_beta=0.3)),
        False,
    ),
}
ROWS = {48: (5, 17, 40), 14: (4, 11), 16: (4, 11, 23)}  # lengths, by the vocabulary
FUSED = ("mixtral", "qwen3-moe", "granite-moe")  # written as transformers holds them too


def old_form(path):
    with open(path) as file:
        config = json.load(file)
    rope = config.pop("rope_parameters", {})
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if config["model_type"] == "cohere2":
        config["sliding_window_pattern"] = 4
        config.pop("layer_types")
    if config["model_type"] in ("exaone4", "qwen2_moe"):
        config.pop("layer_types", None)
    if "rope_theta" in rope:
        config["rotary_emb_base" if config["model_type"] == "gpt_neox" else "rope_theta"] = rope.pop(
            "rope_theta")
    if "partial_rotary_factor" in rope:
        key = "rotary_pct" if config["model_type"] == "gpt_neox" else "partial_rotary_factor"
        config[key] = rope.pop("partial_rotary_factor")
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = rope
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def by_expert(model, name, grad):
    """Gradients of a parameter by the names of the folder's tensors."""
    if model.config.model_type == "gpt_neox":
        name = name.replace("lm_head.", "embed_out.")
    if model.config.model_type == "exaone":
        for here, there in EXAONE.items():
            name = name.replace(here, there)
    if model.config.model_type.startswith("granitemoe"):
        for here, there in GRANITE_MOE.items():
            name = name.replace(here, there)
        return {name: grad}
    name = name.replace(".mlp.gate.moe_statics.", ".mlp.moe_statics.")
    if ".experts." not in name:
        if model.config.model_type == "mixtral":
            name = name.replace(".mlp.", ".block_sparse_moe.")
        return {name: grad}
    old = model.config.model_type == "mixtral"
    layer = name.split(".mlp.")[0]
    folder = layer + (".block_sparse_moe.experts" if old else ".mlp.experts")
    parts = (("w1", "w3") if old else ("gate_proj", "up_proj")) if "gate_up" in name else (
        ("w2",) if old else ("down_proj",))
    return {f"{folder}.{e}.{part}.weight": piece
            for e in range(len(grad)) for part, piece in zip(parts, grad[e].chunk(len(parts)))}


def correct(model):
    """Random corrections of the choice of experts, which are 0 in a new model."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if "e_score_correction" in name:
            value.normal_(0.0, 0.2)


def balance(model, rows, out):
    if not hasattr(model.config, "router_aux_loss_coef") or getattr(
            model.config, "num_local_experts", 1) == 0:
        return
    for i, row in enumerate(rows):
        model.zero_grad()
        loss = model(input_ids=torch.tensor([row]), use_cache=False, output_router_logits=True).aux_loss
        out[f"balance.{i}"] = loss.detach().reshape(1)
    loss.backward()
    for name, p in model.named_parameters():
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        out.update(("balance.grad." + n, g.clone()) for n, g in by_expert(model, name, grad).items())


def expected(model, rows):
    out, loss = {}, 0
    for i, row in enumerate(rows):
        ids = torch.tensor([row])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        logp = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        out[f"logits.{i}"], out[f"logp.{i}"] = logits.detach(), logp.detach()
        loss = loss - logp[2:].sum()
    loss.backward()
    for name, p in model.named_parameters():
        grad = torch.zeros_like(p) if p.grad is None else p.grad  # of what does not train
        out.update(("grad." + n, g.clone()) for n, g in by_expert(model, name, grad).items())
    if getattr(model.config, "model_type", "") == "mixtral" and model.config.num_experts_per_tok == 1:
        for name in out:  # one weight, divided by itself: what is not 0 is rounding
            if "block_sparse_moe.gate" in name:
                out[name].zero_()
    if getattr(model.config, "model_type", "") == "opt":
        for name in out:  # adds the same to all scores of a query: what is not 0 is rounding
            if name.startswith("grad.") and name.endswith("k_proj.bias"):
                out[name].zero_()
    for name, buffer in model.named_buffers():
        if ".act_fn." in name or "e_score_correction" in name:  # which do not train
            out["grad." + name] = torch.zeros_like(buffer)
    balance(model, rows, out)
    return {name: value.float().contiguous() for name, value in out.items()}


def make(folder, name, family, settings, old):
    torch.manual_seed(sum(map(ord, name)))
    config = getattr(tf, family + ("TextConfig" if family == "Gemma3" else "Config"))(**settings)
    config._attn_implementation = config._experts_implementation = "eager"
    if settings.get("alibi"):  # of Falcon's, which its eager code adds twice
        config._attn_implementation = "sdpa"
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    model = getattr(tf, family + head, tf.LlamaForCausalLM)(config).float().eval()
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            if p.ndim == 1 or "_norm" in tensor:
                p.add_(torch.randn_like(p) * 0.2)
        correct(model)
        for tensor, buffer in model.named_buffers():
            if ".act_fn." in tensor:  # xIELU's, whose eps is seldom met by itself
                buffer.fill_(0.4 if "beta" in tensor else -0.3)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder)
    if old:
        old_form(f"{folder}/config.json")
    if name in FUSED:
        model.save_pretrained(folder + "-fused", save_original_format=False)
        os.remove(folder + "-fused/generation_config.json")
    model = model.double()
    draw = random.Random(5)
    vocab = settings["vocab_size"]
    rows = [[draw.randrange(3, vocab) for _ in range(n)] for n in ROWS[vocab]]
    save_file(expected(model, rows), f"{folder}/expected.safetensors")
    greedy = {}
    for i, row in enumerate(rows):
        ids = torch.tensor([row])
        more = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12,
                              do_sample=False, eos_token_id=None, pad_token_id=0)
        greedy[str(i)] = more[0, len(row):].tolist()
    with open(f"{folder}/io.json", "w") as file:
        json.dump(dict(rows=rows, greedy=greedy), file)
    for extra in ("generation_config.json",):
        os.remove(f"{folder}/{extra}")


def main():
    for name, (family, settings, old) in VARIANTS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        make(f"{sys.argv[1]}/{name}", name, family, settings, old)


if __name__ == "__main__":
    main()
