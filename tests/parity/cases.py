"""Which small models reference.py makes. A case has

    config      the config.json
    unnamed     perhaps: modules that config.json's "quantization" leaves out
    dtype       of tensors that are not packed; BF16 if it does not say
    dtypes      perhaps: a tensor's name to its dtype, or None
    shards      files the weights are in; 1
    seed        perhaps: a word that makes other weights of the same model (to get rid of near ties)
    lengths     of the prompts
    formulas    perhaps: name and shape to how a tensor's elements are made (weights.py), or None for the usual way
    layout      perhaps: mlx-lm's tensors to those that a checkpoint has in their place (names, splits)
"""
import math

# Tokens of the prompts that 32 more are generated for: shorter than a block, a block and one, several.
LENGTHS = [40, 1, 17, 33, 90]

TINY = {
    "hidden_size": 128, "intermediate_size": 256, "vocab_size": 512, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "num_hidden_layers": 3, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "torch_dtype": "bfloat16",
}
LLAMA3_ROPE = {
    "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3",
}


def affine(bits, group_size=32, **modules):
    return {"group_size": group_size, "bits": bits, "mode": "affine"} | modules


LLAMA = TINY | {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "mlp_bias": False,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": True,
}
MISTRAL = TINY | {
    "model_type": "mistral", "architectures": ["MistralForCausalLM"], "rms_norm_eps": 1e-5, "rope_theta": 1e6,
    "sliding_window": None, "tie_word_embeddings": False,
}
QWEN2 = TINY | {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "sliding_window": 4096, "use_sliding_window": False, "tie_word_embeddings": True,
}
QWEN3 = TINY | {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "rms_norm_eps": 1e-6,
    "rope_theta": 1e6, "rope_scaling": None, "tie_word_embeddings": True,
}
del QWEN2["head_dim"]
QWEN3_MOE = QWEN3 | {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "tie_word_embeddings": False,
}
NEMOTRON_H = TINY | {
    "model_type": "nemotron_h", "architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "MEM*E",
    "num_hidden_layers": 5, "attention_bias": False, "mamba_num_heads": 8, "mamba_head_dim": 16,
    "mamba_proj_bias": False, "ssm_state_size": 16, "conv_kernel": 4, "n_groups": 2, "mlp_bias": False,
    "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True, "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 64, "moe_shared_expert_intermediate_size": 128, "n_routed_experts": 8,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
    "routed_scaling_factor": 2.5, "tie_word_embeddings": False,
}
# Everything the other one leaves out: a feed-forward layer, biases, limits, groups and a width of the experts' own.
NEMOTRON_H_OTHER = NEMOTRON_H | {
    "hybrid_override_pattern": "M-*EM", "mamba_proj_bias": True, "mlp_bias": True, "attention_bias": True,
    "use_conv_bias": False, "n_groups": 4, "time_step_limit": [0.3, 0.9], "moe_latent_size": 64, "n_group": 4,
    "topk_group": 2, "n_shared_experts": None,
}


def mamba_dtypes(name):
    """Published checkpoints keep these wide."""
    return "F32" if name.endswith(("A_log", "dt_bias", ".D", "e_score_correction_bias")) else None


def mamba_formulas(name, shape):
    """Decays of all speeds, and a convolution that passes something on."""
    if name.endswith("A_log"):
        return {"float": [0.0, 1.0]}
    if name.endswith(("dt_bias", ".D")):
        return {"float": [0.5, 0.5]}
    if name.endswith("conv1d.weight"):
        return {"float": [0.0, 0.8]}
    if name.endswith("e_score_correction_bias"):
        return {"float": [0.0, 0.3]}
    return None


def in_parts(tensors):
    """As Hugging Face has them: the convolution's axes the other way round, every expert a module of its own."""
    out = []
    for tensor in tensors:
        name, shape = tensor["name"], tensor["shape"]
        if name.endswith("conv1d.weight"):
            # The taps of a channel follow each other in either order.
            out.append(tensor | {"shape": [shape[0], shape[2], shape[1]]})
        elif ".switch_mlp." in name:
            module, leaf = name.split(".switch_mlp.")
            projection = {"fc1": "up_proj", "fc2": "down_proj"}[leaf.split(".")[0]]
            size = shape[1] * shape[2]
            for expert in range(shape[0]):
                out.append(tensor | {
                    "name": f"{module}.experts.{expert}.{projection}.{leaf.split('.')[1]}", "shape": shape[1:],
                    "seed": tensor.get("seed", name), "start": tensor.get("start", 0) + expert * size,
                })
        else:
            out.append(tensor)
    return out


NEMOTRON_TENSORS = {"dtypes": mamba_dtypes, "formulas": mamba_formulas}

# One layer, and just enough of it for every kind of group.
SMALL = LLAMA | {
    "hidden_size": 128, "intermediate_size": 128, "vocab_size": 128, "num_hidden_layers": 1, "rope_scaling": None,
    "tie_word_embeddings": False,
}
SMALL_MOE = QWEN3_MOE | {"vocab_size": 128, "num_hidden_layers": 1}


def small(config, **case):
    sizes = {key: SMALL[key] for key in ("intermediate_size", "vocab_size", "num_hidden_layers")}
    return {"config": config | sizes, "lengths": [20], **case}


def in_format(quantization, config=SMALL, **case):
    return {"config": config | {"quantization": quantization}, "lengths": [20], **case}


def listed(tensors):
    """Experts one by one, as Hugging Face's checkpoints have them, where mlx-lm's have them as one."""
    out = []
    for tensor in tensors:
        before, stack, after = tensor["name"].partition(".switch_mlp.")
        if not stack:
            out.append(tensor)
            continue
        experts, *shape = tensor["shape"]
        for n in range(experts):
            own = {"name": f"{before}.experts.{n}.{after}", "shape": shape, "start": n * math.prod(shape)}
            out.append(tensor | own | {"seed": tensor.get("seed", tensor["name"])})
    return out


UNNAMED = {
    "model.embed_tokens": affine(8, 64), "model.layers.0.self_attn.v_proj": affine(6, 64),
    "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
}
CASES = {
    "llama": {"config": LLAMA | {"quantization": affine(4)}},
    "mistral": {"config": MISTRAL | {"quantization": affine(4)}, "seed": "h"},
    "qwen2": {"config": QWEN2 | {"quantization": affine(4)}, "seed": "a"},
    "qwen3": {"config": QWEN3 | {"quantization": affine(8)}, "seed": "b"},
    # As converters leave it: experts in 4 bits, what chooses them in 8.
    "qwen3_moe": {"config": QWEN3_MOE | {"quantization": affine(4) | {
        f"model.layers.{layer}.mlp.gate": affine(8, 64) for layer in range(3)}}},
    # As Hugging Face has it, with what few have: a layer without experts, weights that are not normalised.
    "qwen3_moe_listed": {"config": QWEN3_MOE | {"mlp_only_layers": [1], "norm_topk_prob": False}, "shards": 2,
                         "seed": "leaf", "lengths": [40, 1, 33], "layout": listed},
    "nemotron_h": {"config": NEMOTRON_H | {"quantization": affine(6)}, "seed": "b", **NEMOTRON_TENSORS},
    "nemotron_h_other": {"config": NEMOTRON_H_OTHER, "seed": "c", "layout": in_parts, **NEMOTRON_TENSORS},
    # Without quantization, for the tests that put them into GGUF files.
    "dense-qwen2": small(QWEN2),
    "dense-qwen3": small(QWEN3),
    "format-2bit": in_format(affine(2, 64)),
    "format-3bit": in_format(affine(3, 64)),
    "format-4bit": in_format(affine(4, 128), shards=2),
    "format-5bit": in_format(affine(5, 64)),
    "format-6bit": in_format(affine(6, 64), seed="b"),
    "format-8bit": in_format(affine(8, 128)),
    # Modules that are fed the same input packed in different ways, with biases.
    "format-mixed": small(QWEN2 | {"tie_word_embeddings": False, "quantization": affine(4, 32) | {
        "model.embed_tokens": affine(8, 64), "lm_head": False, "model.layers.0.self_attn.v_proj": affine(6, 64),
        "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
        "model.layers.0.mlp.up_proj": False,
    }}, dtype="F16"),
    # The same where the configuration does not say so: the tensors do.
    "format-unnamed": small(LLAMA | {"quantization": affine(4, 32) | UNNAMED}, unnamed=list(UNNAMED)),
    "format-mxfp4": in_format({"group_size": 32, "bits": 4, "mode": "mxfp4"}, seed="a"),
    "format-mxfp8": in_format({"group_size": 32, "bits": 8, "mode": "mxfp8"}),
    "format-nvfp4": in_format({"group_size": 16, "bits": 4, "mode": "nvfp4"}),
    "format-experts-mixed": in_format(
        affine(4) | {
            "model.layers.0.mlp.switch_mlp.up_proj": affine(6, 64),
            "model.layers.0.mlp.switch_mlp.down_proj": affine(8, 64),
        }, SMALL_MOE),
    "format-experts-mxfp4": in_format({"group_size": 32, "bits": 4, "mode": "mxfp4"}, SMALL_MOE),
    "format-bf16": {"config": SMALL, "lengths": [20]},
    "format-f16": {"config": SMALL, "lengths": [20], "dtype": "F16"},
    "format-f32": {"config": SMALL, "lengths": [20], "dtype": "F32", "shards": 3},
}
