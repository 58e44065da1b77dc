"""Weights by formula: the tensors of small models, the same bit for bit here and in tests/common/formula.rs, so
that no weights need to be committed.

A tensor is described by a dictionary: its name, dtype (as safetensors spells it), shape, and how its elements
come from a stream of 32-bit words, which is named by "seed" (the tensor's own name if there is none) and read
from word "start" (0) on, in row-major order:

    "float": [offset, amplitude]  offset + amplitude * u, with u the word's upper 24 bits as a number in [-1, 1)
    "words": mask                 the word and the mask
    "bytes": [low, span]          low + word % span
"""
import json
from pathlib import Path

import numpy as np


def stream(name: str, start: int, count: int) -> np.ndarray:
    """Words start, start + 1, ... of the stream of this name: its FNV-1a hash and the index, mixed by MurmurHash3's
    finalizer."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = np.arange(start, start + count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed)
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def elements(tensor: dict) -> np.ndarray:
    """A tensor's elements as its file stores them, flat."""
    count = int(np.prod(tensor["shape"]))
    words = stream(tensor.get("seed", tensor["name"]), tensor.get("start", 0), count)
    if "words" in tensor:
        return words & np.uint32(tensor["words"])
    if "bytes" in tensor:
        low, span = tensor["bytes"]
        return (low + words % span).astype(np.uint8)
    offset, amplitude = tensor["float"]
    u = (words >> 8).astype(np.float64) * 2.0**-23 - 1.0
    values = (offset + amplitude * u).astype(np.float32)
    if tensor["dtype"] == "F32":
        return values
    if tensor["dtype"] == "F16":
        return values.astype(np.float16)
    assert tensor["dtype"] == "BF16", tensor
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: list[dict]):
    header, parts, end = {"__metadata__": {"format": "mlx"}}, [], 0
    for tensor in tensors:
        part = elements(tensor).tobytes()
        offsets = [end, end + len(part)]
        header[tensor["name"]] = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": offsets}
        parts.append(part)
        end += len(part)
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(parts))


def write_model(folder: Path, config: dict, tensors: list[dict], shards: int = 1):
    """A model directory as published ones are."""
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    names = ["model.safetensors"] if shards == 1 else [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {}
    for i, name in enumerate(names):
        write_safetensors(folder / name, tensors[i::shards])
        weight_map |= {tensor["name"]: name for tensor in tensors[i::shards]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}) + "\n")
