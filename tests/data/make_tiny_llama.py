#!/usr/bin/env python3
"""Writes small llamas of random weights, a few hundred kilobytes, and what mlx-lm makes of them.

    pip install mlx-lm==0.32.0 mlx==0.32.2
    make_tiny_llama.py .

tiny-llama has what published ones have: grouped-query attention, llama3 rope scaling, 4 bit weights in groups
of 32 with an 8 bit embedding, tied output. tiny-llama-dense has what few have: 16 bit floats in two shards,
biases, an output of its own, yarn. expected.json holds, for prompts of many lengths, the greedy tokens, by
how much each won, and the first logits after the prompt, all in float32. The weights are seeded.
"""
import argparse
import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

NEW_TOKENS = 40
SHOWN_LOGITS = 16
EMBEDDING = "model.embed_tokens"

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 128,
    "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "vocab_size": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 64},
    "max_position_embeddings": 512, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    "quantization": {"group_size": 32, "bits": 4, "mode": "affine", EMBEDDING: {"group_size": 32, "bits": 8}},
}
DENSE = TINY | {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_key_value_heads": 1,
    "vocab_size": 300, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
}
del DENSE["quantization"]
# name -> config, prompt lengths, shards, seed
MODELS = {
    "tiny-llama": (TINY, [1, 2, 15, 16, 17, 33, 64, 150], 1, 7),
    "tiny-llama-dense": (DENSE, [3, 40, 200], 2, 3),
}


def quantization_of(config, module):
    quantization = config.get("quantization")
    return quantization and quantization.get(module, quantization)


def make_weights(config, seed):
    mx.random.seed(seed)
    stored = {}
    for name, p in tree_flatten(llama.Model(llama.ModelArgs.from_dict(config)).parameters()):
        module, _, leaf = name.rpartition(".")
        if p.ndim == 1:
            w = 0.1 * mx.random.normal(p.shape) + (1.0 if leaf == "weight" else 0.0)
            stored[name] = w.astype(mx.bfloat16)
            continue
        scale = 0.35 if module in (EMBEDDING, "lm_head") else 1.3 / p.shape[-1] ** 0.5
        w = (scale * mx.random.normal(p.shape)).astype(mx.bfloat16)
        how = quantization_of(config, module)
        if not how:
            stored[name] = w.astype(mx.float16)
            continue
        parts = mx.quantize(w, group_size=how["group_size"], bits=how["bits"])
        stored |= {f"{module}.{kind}": part for kind, part in zip(("weight", "scales", "biases"), parts)}
    return stored


def load_float32(config, stored):
    """mlx-lm's llama with every matrix unpacked."""
    weights = {}
    for name, w in stored.items():
        module, _, leaf = name.rpartition(".")
        if leaf in ("scales", "biases"):
            continue
        if f"{module}.scales" in stored:
            scales, biases = (stored[f"{module}.{k}"].astype(mx.float32) for k in ("scales", "biases"))
            how = quantization_of(config, module)
            w = mx.dequantize(w, scales, biases, group_size=how["group_size"], bits=how["bits"])
        weights[name] = w.astype(mx.float32)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.load_weights(list(weights.items()))
    return model


def generate(model, prompt):
    cache = make_prompt_cache(model)
    tokens, gaps, first_logits = [], [], None
    inputs = mx.array([prompt])
    for _ in range(NEW_TOKENS):
        logits = model(inputs, cache=cache)[0, -1]
        if first_logits is None:
            first_logits = [round(x, 4) for x in logits[:SHOWN_LOGITS].tolist()]
        top = sorted(mx.topk(logits, 2).tolist())
        tokens.append(mx.argmax(logits).item())
        gaps.append(round(top[1] - top[0], 4))
        inputs = mx.array([[tokens[-1]]])
    return {"prompt": prompt, "logits": first_logits, "tokens": tokens, "gaps": gaps}


def save(out, stored, shards):
    names = list(stored)
    for i in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: stored[name] for name in names[i::shards]}
        mx.save_safetensors(str(out / file), part, metadata={"format": "mlx"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    mx.set_default_device(mx.cpu)
    for name, (config, lengths, shards, seed) in MODELS.items():
        out = folder / name
        out.mkdir(parents=True, exist_ok=True)
        stored = make_weights(config, seed)
        save(out, stored, shards)
        (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        model = load_float32(config, stored)
        cases = []
        for n in lengths:
            prompt = mx.random.randint(3, config["vocab_size"], (n,), key=mx.random.key(n)).tolist()
            cases.append(generate(model, prompt))
            print(name, n, "tokens, smallest gap", min(cases[-1]["gaps"]), cases[-1]["tokens"][:12])
        lines = ",\n".join(json.dumps(case) for case in cases)
        (out / "expected.json").write_text(f'{{"mlx_lm": "0.32.0", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
