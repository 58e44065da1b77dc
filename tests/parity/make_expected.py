#!/usr/bin/env python3
"""Writes smollm2.json: what mlx-lm generates, greedily, in float32, for prompts of many kinds.

    pip install mlx-lm==0.32.0 mlx==0.32.2 tokenizers
    make_expected.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json

The GGUF's weights are unpacked to float32 (losslessly: 4 and 8 bit blocks are affine) and given to
mlx_lm.models.llama; the tokenizer is built from the file's metadata. For every prompt the result has its
text, its token ids, the 32 tokens with the largest logit in turn, and by how much each won: where two
logits are closer than rounding, another implementation may choose the other one.
"""
import argparse
import json
import sys

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NEW_TOKENS = 32

ESSAY = (
    "The history of the bicycle begins in the early nineteenth century, when Karl von Drais built a wooden "
    "machine with two wheels and no pedals. Riders sat astride it and pushed themselves along with their "
    "feet. It was heavy, it had no brakes, and on a bad road it shook its rider without mercy, yet it was "
    "faster than walking, and for one summer it was the fashion of several cities. Half a century passed "
    "before somebody in Paris fixed cranks and pedals to the front wheel. The velocipede, as it was called, "
    "earned the nickname of bone shaker, because its iron tyres ran over cobblestones. To go faster one "
    "needed a larger wheel, and so the front wheel grew until the rider sat above it, a metre and a half "
    "over the ground, and a stone or a dog in the road could throw him over the handlebars. The safety "
    "bicycle of 1885 ended all that: two wheels of equal size, a chain to the rear wheel, a frame in the "
    "shape of a diamond. Three years later a veterinary surgeon in Belfast fitted his son's tricycle with "
    "rubber tubes filled with air. Within ten years millions of people rode, roads were paved because they "
    "asked for it, and women found in the bicycle a freedom that no law had given them. Its makers learned "
    "to work to narrow tolerances, and some of them went on to build motor cars and aeroplanes. In the end"
)

PROMPTS = [
    ("chat", "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
             "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"),
    ("chat in turns", "<|im_start|>user\nName three colors.<|im_end|>\n<|im_start|>assistant\nRed, green and "
                      "blue.<|im_end|>\n<|im_start|>user\nAnd three animals?<|im_end|>\n<|im_start|>assistant\n"),
    ("plain", "The capital of Japan is"),
    ("one token", "The"),
    ("python", "def fibonacci(n):\n    if n < 2:\n        return n\n    return"),
    ("c", "#include <stdio.h>\n\nint main(void) {\n    for (int i = 0; i < 10; i++) {\n        printf("),
    ("digits", "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233,"),
    ("arithmetic", "12345 + 67890 ="),
    ("accents", "Où est la bibliothèque ? Elle se trouve à côté de l'école, près du café où nous avons déjà"),
    ("cjk", "日本の首都は東京です。中国的首都是北京。한국의 수도는"),
    ("emoji", "I love pizza 🍕 and dogs 🐶! My favourite emoji is 👩‍👩‍👧‍👦 because"),
    ("leading spaces", "    indented text with   several    spaces and\ttabs\n\n\n"),
    ("markup", "<html>\n  <head>\n    <title>Hello & welcome</title>\n  </head>\n  <body>\n    <h1>"),
    ("json", '{"name": "Alice", "age": 30, "tags": ["a", "b"], "address": {"city": "'),
    ("300 tokens", ESSAY),
]


def scalar(metadata, key):
    return metadata[key].item()


def checkpoint_name(name):
    blocks = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{blocks[parts[2]]}"
    return {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[parts[0]]


def load_model(tensors, metadata):
    """mlx-lm's llama with the file's weights in float32."""
    heads = scalar(metadata, "llama.attention.head_count")
    kv_heads = scalar(metadata, "llama.attention.head_count_kv")
    weights = {}
    for name, w in tensors.items():
        if not name.endswith(".weight"):
            continue
        base = name.removesuffix(".weight")
        if base + ".scales" in tensors:
            scales = tensors[base + ".scales"].astype(mx.float32)
            biases = tensors[base + ".biases"].astype(mx.float32)
            bits = w.shape[-1] * 32 // (scales.shape[-1] * 32)
            w = mx.dequantize(w, scales, biases, group_size=32, bits=bits)
        w = w.astype(mx.float32)
        for kind, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if base.endswith(kind):  # the file interleaves the halves that rope rotates
                w = w.reshape(count, -1, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)
        weights[checkpoint_name(name) + ".weight"] = w
    args = llama.ModelArgs(
        model_type="llama",
        hidden_size=scalar(metadata, "llama.embedding_length"),
        num_hidden_layers=scalar(metadata, "llama.block_count"),
        intermediate_size=scalar(metadata, "llama.feed_forward_length"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rms_norm_eps=scalar(metadata, "llama.attention.layer_norm_rms_epsilon"),
        vocab_size=weights["model.embed_tokens.weight"].shape[0],
        rope_theta=scalar(metadata, "llama.rope.freq_base"),
        max_position_embeddings=scalar(metadata, "llama.context_length"),
        tie_word_embeddings="lm_head.weight" not in weights,
    )
    model = llama.Model(args)
    model.load_weights(list(weights.items()))
    mx.eval([p for _, p in tree_flatten(model.parameters())])
    return model


def load_tokenizer(metadata):
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in metadata["tokenizer.ggml.merges"]]
    kinds = metadata["tokenizer.ggml.token_type"].tolist()
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    assert metadata["tokenizer.ggml.pre"] == "smollm"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, kinds) if kind == 3]
    tokenizer.add_special_tokens(special)
    return tokenizer


def generate(model, prompt):
    """The tokens with the largest logit in turn, and how far ahead of the second each was."""
    cache = make_prompt_cache(model)
    tokens, gaps = [], []
    inputs = mx.array([prompt])
    for _ in range(NEW_TOKENS):
        logits = model(inputs, cache=cache)[0, -1]
        second, first = mx.topk(logits, 2).tolist()
        first, second = max(first, second), min(first, second)
        tokens.append(mx.argmax(logits).item())
        gaps.append(round(first - second, 4))
        inputs = mx.array([[tokens[-1]]])
    return tokens, gaps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    gguf = parser.parse_args().gguf
    mx.set_default_device(mx.cpu)
    tensors, metadata = mx.load(gguf, return_metadata=True)
    tokenizer = load_tokenizer(metadata)
    model = load_model(tensors, metadata)
    cases = []
    for kind, text in PROMPTS:
        prompt = tokenizer.encode(text, add_special_tokens=False).ids
        tokens, gaps = generate(model, prompt)
        cases.append({"kind": kind, "text": text, "prompt": prompt, "tokens": tokens, "gaps": gaps})
        print(kind, len(prompt), "tokens, smallest gap", min(gaps), repr(tokenizer.decode(tokens)), file=sys.stderr)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    print(f'{{"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "mlx_lm": "0.32.0", "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
