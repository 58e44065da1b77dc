#!/usr/bin/env python3
"""Write tests/data/mock-model: the smallest model directory that passes every check.

Its weights are zero and its config.json carries a "mock" object: the build without MLX runs a
deterministic mock in its place. Needs nothing but Python: safetensors is a length, a JSON header and bytes.
"""
import json
import struct
from pathlib import Path

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 8, 2, 1, 4, 16, 258
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": INTERMEDIATE,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None, "max_position_embeddings": 8192,
    "vocab_size": VOCAB, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
    "torch_dtype": "float32", "bos_token_id": 257, "eos_token_id": 256, "mock": {},
}
LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": [VOCAB, HIDDEN],
    LAYER + "input_layernorm.weight": [HIDDEN],
    LAYER + "self_attn.q_proj.weight": [HEADS * HEAD_DIM, HIDDEN],
    LAYER + "self_attn.k_proj.weight": [KV_HEADS * HEAD_DIM, HIDDEN],
    LAYER + "self_attn.v_proj.weight": [KV_HEADS * HEAD_DIM, HIDDEN],
    LAYER + "self_attn.o_proj.weight": [HIDDEN, HEADS * HEAD_DIM],
    LAYER + "post_attention_layernorm.weight": [HIDDEN],
    LAYER + "mlp.gate_proj.weight": [INTERMEDIATE, HIDDEN],
    LAYER + "mlp.up_proj.weight": [INTERMEDIATE, HIDDEN],
    LAYER + "mlp.down_proj.weight": [HIDDEN, INTERMEDIATE],
    "model.norm.weight": [HIDDEN],
}


def main():
    out = Path(__file__).parent / "mock-model"
    out.mkdir(exist_ok=True)
    header, offset = {}, 0
    for name, shape in SHAPES.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    print(f"{out}: {offset} bytes of weights; the tokenizer is a copy of tests/data/byte-tokenizer")


if __name__ == "__main__":
    main()
